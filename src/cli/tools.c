/*
 * tools.c: the tools a run has: reads the tools file, registers built-in and declared tools.
 *
 * Thread: main, before the first call. What a tool function gets as its context lives here until
 * after the manager's close.
 *
 * echo and the file tools are plain functions: they neither await nor need a stack of their own.
 */
#include "tools.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "builtin.h"
#include "declared.h"
#include "output.h"
#include "run.h"

enum {
    DECLARED_MAX = 10000
};

static const struct {
    const char *name;
    tr_tool_function function;
    uint32_t flags;
} builtins[] = {
    {"shell", cli_builtin_shell, TR_TOOL_AWAITING}, {"read_file", cli_builtin_read_file, 0},
    {"write_file", cli_builtin_write_file, 0},      {"list_dir", cli_builtin_list_dir, 0},
    {"sleep", cli_builtin_sleep, TR_TOOL_AWAITING}, {"echo", cli_builtin_echo, 0},
};

enum {
    SHELL = 0,
    BUILTINS = sizeof(builtins) / sizeof(builtins[0])
};

static bool find_directory(struct cli_tools *tools, const char *directory)
{
    struct stat information;
    tools->directory = realpath(directory, NULL);
    if (tools->directory == NULL || stat(tools->directory, &information) < 0) {
        cli_say("cannot use directory %s: %s", directory, strerror(errno));
        return false;
    }
    if (!S_ISDIR(information.st_mode)) {
        cli_say("cannot use directory %s: %s", directory, strerror(ENOTDIR));
        return false;
    }
    return true;
}

/* Reads entry `index`. Returns false after having said what is wrong. */
static bool read_entry(struct cli_tools *tools, const char *path, json_t *list, size_t index)
{
    struct cli_fault fault = {0};
    struct cli_declared *declared = &tools->declared[index];
    tools->declared_count++;
    if (!cli_declared_read(declared, json_array_get(list, index), tools->directory, &fault)) {
        if (declared->name != NULL)
            cli_say("%s: tool %zu (\"%s\"): %s", path, index + 1, declared->name, fault.message);
        else
            cli_say("%s: tool %zu: %s", path, index + 1, fault.message);
        return false;
    }
    declared->tools = tools;
    for (size_t other = 0; other < BUILTINS + index; other++) {
        const char *name =
            other < BUILTINS ? builtins[other].name : tools->declared[other - BUILTINS].name;
        if (strcmp(name, declared->name) != 0)
            continue;
        cli_say("%s: tool %zu (\"%s\"): there is a tool of that name already", path, index + 1,
                name);
        return false;
    }
    return true;
}

/* The JSON of a file; NULL after having said what is wrong. */
static json_t *load_json(const char *path)
{
    json_error_t error;
    FILE *file = fopen(path, "re");
    if (file == NULL) {
        cli_say("cannot read the tools: cannot open %s: %s", path, strerror(errno));
        return NULL;
    }
    errno = 0;
    json_t *list = json_loadf(file, JSON_REJECT_DUPLICATES, &error);
    int number = ferror(file) != 0 ? errno : 0;
    (void)fclose(file); /* read only: nothing can be lost */
    if (number != 0)
        cli_say("cannot read the tools: %s: %s", path, strerror(number));
    else if (list == NULL)
        cli_say("%s: line %d, column %d: not valid JSON: %s", path, error.line, error.column,
                error.text);
    if (number != 0 && list != NULL) {
        json_decref(list);
        list = NULL;
    }
    return list;
}

static bool read_file(struct cli_tools *tools, const char *path)
{
    json_t *list = load_json(path);
    if (list == NULL)
        return false;
    bool good = json_is_array(list) && json_array_size(list) <= DECLARED_MAX;
    if (!good)
        cli_say("%s: must be a list of at most %d tools", path, DECLARED_MAX);
    size_t count = good ? json_array_size(list) : 0;
    if (count > 0) {
        tools->declared = calloc(count, sizeof(*tools->declared));
        good = tools->declared != NULL;
        if (!good)
            cli_say("out of memory");
    }
    for (size_t index = 0; good && index < count; index++)
        good = read_entry(tools, path, list, index);
    json_decref(list);
    return good;
}

int cli_tools_load(struct cli_tools *tools, const char *path, const char *directory)
{
    if (directory != NULL && !find_directory(tools, directory))
        return CLI_EXIT_USAGE;
    if (path != NULL && !read_file(tools, path))
        return CLI_EXIT_USAGE;
    return 0;
}

size_t cli_tools_count(const struct cli_tools *tools)
{
    return BUILTINS + tools->declared_count;
}

int cli_tools_register(struct cli_tools *tools, tr_manager *manager, const char **ret_name)
{
    for (size_t index = 0; index < cli_tools_count(tools); index++) {
        tr_tool tool = TR_TOOL_INIT(NULL, NULL);
        if (index < BUILTINS) {
            tool.name = builtins[index].name;
            tool.function = builtins[index].function;
            tool.flags = builtins[index].flags;
            tool.context = index == SHELL ? (void *)tools : tools->directory;
        } else {
            struct cli_declared *declared = &tools->declared[index - BUILTINS];
            tool.name = declared->name;
            tool.function = cli_declared_call;
            tool.flags = TR_TOOL_AWAITING;
            tool.context = declared;
            tool.options = declared->options;
        }
        tr_tool_id id;
        int status = tr_tool_register(manager, &tool, &id);
        if (status < 0) {
            *ret_name = tool.name;
            return status;
        }
        if (index == SHELL)
            tools->shell = id;
        else if (index >= BUILTINS)
            tools->declared[index - BUILTINS].id = id;
    }
    return 0;
}

/* The declared tool of an id, or NULL. They are registered one after the other, and so are their
 * ids. */
static const struct cli_declared *declared_of(const struct cli_tools *tools, tr_tool_id tool)
{
    if (tools->declared_count == 0 || tool < tools->declared[0].id)
        return NULL;
    size_t index = tool - tools->declared[0].id;
    return index < tools->declared_count && tools->declared[index].id == tool
               ? &tools->declared[index]
               : NULL;
}

unsigned cli_tools_abilities(const struct cli_tools *tools, tr_tool_id tool, const json_t *input)
{
    uint32_t flags = 0;
    if (tool == tools->shell) {
        const json_t *terminal = json_object_get(input, "terminal");
        flags |=
            json_is_true(json_object_get(input, "keep_input_open")) ? TR_PROCESS_OPEN_INPUT : 0;
        flags |= json_is_true(terminal) || json_is_object(terminal) ? TR_PROCESS_TERMINAL : 0;
    } else {
        const struct cli_declared *declared = declared_of(tools, tool);
        if (declared == NULL)
            return 0;
        flags = declared->process.spec.flags;
    }
    return CLI_CAN_RUN | ((flags & TR_PROCESS_OPEN_INPUT) != 0 ? CLI_CAN_INPUT : 0) |
           ((flags & TR_PROCESS_TERMINAL) != 0 ? CLI_CAN_RESIZE : 0);
}

void cli_tools_done(struct cli_tools *tools)
{
    for (size_t index = 0; index < tools->declared_count; index++)
        cli_declared_done(&tools->declared[index]);
    free(tools->declared);
    free(tools->directory);
    *tools = (struct cli_tools){0};
}
