/*
 * declared.c: the process tools of a tools file: one entry, and its calls.
 *
 * Threads: entries are read by main before the engine is open and do not change; calls run on any
 * number of stacks at once, each with arguments of its own. Calls command.c and template.c.
 *
 * Invariants:
 *  1. A placeholder fills one argument and is never split or read by a shell.
 *  2. An input member that no placeholder uses is refused, as with the built-in tools; one that is
 *     missing too.
 */
#include "declared.h"

#include <stdlib.h>
#include <string.h>

#include "command.h"
#include "input.h"
#include "tools.h"

enum {
    ARGUMENTS_MAX = 4096
};

static bool read_name(struct cli_declared *declared, const json_t *entry,
                      struct cli_fault *ret_fault)
{
    static const char allowed[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.-";
    const char *name;
    if (!cli_member_string(entry, "name", TR_TOOL_NAME_BYTES_MAX, &name, ret_fault))
        return false;
    if (name == NULL)
        return cli_fault_set(ret_fault, "\"name\" is missing");
    if (name[strspn(name, allowed)] != '\0')
        return cli_fault_set(ret_fault, "\"name\" may hold letters, digits and _.- only");
    declared->name = strdup(name);
    return declared->name != NULL || cli_fault_set(ret_fault, "out of memory");
}

static bool read_argv(struct cli_declared *declared, const json_t *list,
                      struct cli_fault *ret_fault)
{
    size_t count = json_array_size(list);
    if (!json_is_array(list) || count == 0 || count > ARGUMENTS_MAX)
        return cli_fault_set(ret_fault, "\"argv\" must be a list of 1 to %d strings",
                             ARGUMENTS_MAX);
    declared->argv = calloc(count, sizeof(*declared->argv));
    if (declared->argv == NULL)
        return cli_fault_set(ret_fault, "out of memory");
    for (size_t index = 0; index < count; index++) {
        const json_t *word = json_array_get(list, index);
        const char *string = json_string_value(word);
        if (string == NULL || strlen(string) != json_string_length(word))
            return cli_fault_set(ret_fault, "\"argv\" must hold strings without zero bytes");
        declared->argv_count++;
        if (!cli_template_parse(&declared->argv[index], string, ret_fault))
            return false;
    }
    return declared->argv[0].count > 0 ||
           cli_fault_set(ret_fault, "\"argv\": the program's name is empty");
}

/* Gathers the names that the templates use. */
static bool gather_fields(struct cli_declared *declared, struct cli_fault *ret_fault)
{
    size_t room = declared->input.count + 1;
    for (size_t index = 0; index < declared->argv_count; index++)
        room += declared->argv[index].count;
    declared->fields = calloc(room, sizeof(*declared->fields));
    if (declared->fields == NULL)
        return cli_fault_set(ret_fault, "out of memory");
    size_t count = 0;
    for (size_t index = 0; index <= declared->argv_count; index++) {
        const struct cli_template *template =
            index < declared->argv_count ? &declared->argv[index] : &declared->input;
        for (size_t piece = 0; piece < template->count; piece++)
            if (template->pieces[piece].is_field)
                declared->fields[count++] = template->pieces[piece].text;
    }
    return true;
}

bool cli_declared_read(struct cli_declared *declared, json_t *entry, const char *directory,
                       struct cli_fault *ret_fault)
{
    static const char *const known[] = {"name",       "argv",     "stdin",    "route",
                                        "timeout_ms", "delivery", "continue", CLI_PROCESS_MEMBERS,
                                        NULL};
    const char *input;
    *declared = (struct cli_declared){.options = TR_OPTIONS_INIT};
    if (!json_is_object(entry))
        return cli_fault_set(ret_fault, "must be an object");
    if (!read_name(declared, entry, ret_fault) || !cli_members_check(entry, known, ret_fault) ||
        !read_argv(declared, json_object_get(entry, "argv"), ret_fault) ||
        !cli_options_read(entry, &declared->options, ret_fault) ||
        !cli_process_read(entry, directory, &declared->process, ret_fault) ||
        !cli_member_string(entry, "stdin", SIZE_MAX, &input, ret_fault))
        return false;
    if ((declared->process.spec.flags & TR_PROCESS_OPEN_INPUT) != 0 &&
        declared->options.route == TR_ROUTE_INLINE)
        return cli_fault_set(ret_fault, "\"keep_input_open\" needs another \"route\" than "
                                        "\"inline\": nobody could write");
    if (input != NULL && !cli_template_parse(&declared->input, input, ret_fault))
        return false;
    return gather_fields(declared, ret_fault);
}

void cli_declared_done(struct cli_declared *declared)
{
    for (size_t index = 0; index < declared->argv_count; index++)
        cli_template_done(&declared->argv[index]);
    free(declared->argv);
    cli_template_done(&declared->input);
    free(declared->fields);
    cli_process_done(&declared->process);
    free(declared->name);
    *declared = (struct cli_declared){0};
}

/* Fills all templates: the arguments one after the other, each zero-ended, then standard input.
 * offsets[i] is where argument i begins, offsets[argv_count] where standard input does. */
static bool fill(const struct cli_declared *declared, const json_t *input, struct cli_text *text,
                 size_t *offsets, struct cli_fault *fault)
{
    for (size_t index = 0; index < declared->argv_count; index++) {
        offsets[index] = text->size;
        if (!cli_template_fill(&declared->argv[index], input, text, fault))
            return false;
        if (text->size > offsets[index] &&
            memchr(text->data + offsets[index], '\0', text->size - offsets[index]) != NULL)
            return cli_fault_set(fault, "an argument must not contain a zero byte");
        cli_text_bytes(text, "", 1);
    }
    if (text->data != NULL && text->data[0] == '\0')
        return cli_fault_set(fault, "the program's name is empty");
    offsets[declared->argv_count] = text->size;
    if (!cli_template_fill(&declared->input, input, text, fault))
        return false;
    return !text->failed || cli_fault_set(fault, "out of memory");
}

static int run(tr_call *call, const struct cli_declared *declared, const struct cli_text *text,
               const size_t *offsets)
{
    tr_process_spec spec = declared->process.spec;
    const char **argv = calloc(declared->argv_count + 1, sizeof(*argv));
    if (argv == NULL)
        return cli_tool_fail(call, TR_ENOMEM, "out of memory");
    for (size_t index = 0; index < declared->argv_count; index++)
        argv[index] = text->data + offsets[index];
    size_t input_at = offsets[declared->argv_count];
    spec.argv = argv;
    spec.input = (tr_bytes){text->data + input_at, text->size - input_at};
    int status = cli_command_run(call, declared->tools, &spec, argv[0]);
    free(argv);
    return status;
}

int cli_declared_call(tr_call *call, void *context)
{
    const struct cli_declared *declared = context;
    struct cli_fault fault = {0};
    struct cli_text text = {0};
    json_t *input = cli_tool_input(call, declared->fields);
    if (input == NULL)
        return TR_EINVAL;
    int status;
    size_t *offsets = calloc(declared->argv_count + 1, sizeof(*offsets));
    if (offsets == NULL)
        status = cli_tool_fail(call, TR_ENOMEM, "out of memory");
    else if (!fill(declared, input, &text, offsets, &fault))
        status = cli_tool_fail(call, TR_EINVAL, "%s", fault.message);
    else
        status = run(call, declared, &text, offsets);
    free(offsets);
    cli_text_done(&text);
    json_decref(input);
    return status;
}
