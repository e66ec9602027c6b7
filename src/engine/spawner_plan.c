/*
 * spawner_plan.c: what a child will execute: arguments, environment, and the paths to try.
 *
 * Purpose: everything that allocates or searches happens here, in the parent, before the child
 * exists; the child only walks finished lists.
 * Owner: the spawning thread. Called by spawner; calls base/memory.
 *
 *  1. One block of memory holds all lists and the texts made for them; the strings of the request
 *     and of the host's environment are borrowed until the child runs.
 *  2. Of the host's environment all stays that no entry of the request names; of the request's
 *     entries the last of each name counts. So no name comes twice from here.
 *  3. The program is looked up in the PATH that the child will have, as a shell would do it there;
 *     without one, in /bin and /usr/bin. A name with '/' is not looked up.
 *
 * The host's environment is read without a lock: a host that calls setenv while tools run has a
 * race of its own with every library.
 * Complexity: the product of both environments' lengths in string compares; tens by few.
 * Rejected: execvpe in the child (allocates), asking access(2) first (a system call per directory
 * where the failing execve costs the same, and a race).
 */
#include "engine/spawner_plan.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <toolring/error.h>
#include <unistd.h>

#include "base/assert.h"
#include "base/memory.h"

#define DEFAULT_PATH "/bin:/usr/bin"

static char shell_path[] = "/bin/sh";
static char shell_option[] = "-c";
static char shell_end_of_options[] = "--";

/* How much the block must hold. */
struct sizes {
    size_t arguments;
    size_t environment;
    size_t candidates;
    size_t text;
};

static size_t list_length(const char *const *list)
{
    size_t length = 0;

    while (list != NULL && list[length] != NULL) {
        length += 1;
    }
    return length;
}

/* Strings that exec takes as `char *` and does not write to. */
static char *borrow(const char *text)
{
    union {
        const char *constant;
        char *plain;
    } both = {.constant = text};

    return both.plain;
}

/* Whether two entries, "NAME" or "NAME=value", have the same name. */
static bool same_name(const char *left, const char *right)
{
    size_t length = strcspn(left, "=");

    return strcspn(right, "=") == length && strncmp(left, right, length) == 0;
}

static bool named_in(const char *const *list, const char *entry)
{
    for (size_t index = 0; list != NULL && list[index] != NULL; index++) {
        if (same_name(list[index], entry)) {
            return true;
        }
    }
    return false;
}

/* The tree's mark, "NAME=value", or NULL. */
static const char *mark_of(const struct tr__spawn *spawn)
{
    return spawn->tree != NULL ? tr__tree_mark(spawn->tree) : NULL;
}

static void merge_environment(char **merged, const struct tr__spawn *spawn, const char *mark)
{
    const char *const *changes = spawn->environment;
    size_t count = 0;

    for (char **host = environ; !spawn->clear_environment && host != NULL && *host != NULL;
         host++) {
        if (!named_in(changes, *host) && (mark == NULL || !same_name(mark, *host))) {
            merged[count++] = *host;
        }
    }
    for (size_t index = 0; changes != NULL && changes[index] != NULL; index++) {
        if (strchr(changes[index], '=') != NULL && !named_in(changes + index + 1, changes[index]) &&
            (mark == NULL || !same_name(mark, changes[index]))) {
            merged[count++] = borrow(changes[index]);
        }
    }
    if (mark != NULL) {
        merged[count++] = borrow(mark); /* the tree's until it is closed */
    }
    merged[count] = NULL;
}

/* The search path of the child, of which only the environment is known yet. */
static const char *path_of(const struct tr__spawn *spawn)
{
    const char *const *changes = spawn->environment;
    const char *path = NULL;

    if (!spawn->clear_environment && !named_in(changes, "PATH")) {
        path = getenv("PATH");
    }
    for (size_t index = 0; changes != NULL && changes[index] != NULL; index++) {
        if (same_name(changes[index], "PATH")) {
            const char *equals = strchr(changes[index], '=');
            path = equals == NULL ? NULL : equals + 1;
        }
    }
    return path != NULL ? path : DEFAULT_PATH;
}

static bool is_looked_up(const char *name)
{
    return name[0] != '\0' && strchr(name, '/') == NULL;
}

/* Writes a path per directory into text; candidates gets them. */
static void list_candidates(char **candidates, char *text, const char *name, const char *path)
{
    size_t name_size = strlen(name) + 1;
    size_t count = 0;
    const char *directory = path;

    for (;;) {
        size_t length = strcspn(directory, ":");
        candidates[count++] = text;
        if (length == 0) {
            *text++ = '.'; /* an empty element is the current directory */
        } else {
            memcpy(text, directory, length);
            text += length;
        }
        *text++ = '/';
        memcpy(text, name, name_size);
        text += name_size;
        if (directory[length] == '\0') {
            break;
        }
        directory += length + 1;
    }
    candidates[count] = NULL;
}

static void measure(struct sizes *sizes, const struct tr__spawn *spawn, const char *path)
{
    sizes->arguments = spawn->shell != NULL ? 4 : list_length(spawn->argv);
    sizes->environment = list_length(spawn->environment) + 1; /* the mark */
    for (char **host = environ; host != NULL && *host != NULL; host++) {
        sizes->environment += 1;
    }
    sizes->candidates = 1;
    sizes->text = 0;
    if (path != NULL) {
        for (const char *at = path; *at != '\0'; at++) {
            sizes->candidates += *at == ':';
        }
        /* Each: the directory or ".", '/', the name and its end. */
        sizes->text = strlen(path) + sizes->candidates * (strlen(spawn->argv[0]) + 3);
    }
}

static void fill_arguments(struct tr__spawn_plan *plan, const struct tr__spawn *spawn, size_t count)
{
    if (spawn->shell != NULL) {
        plan->arguments[0] = shell_path;
        plan->arguments[1] = shell_option;
        plan->arguments[2] = shell_end_of_options;
        plan->arguments[3] = borrow(spawn->shell);
    } else {
        for (size_t index = 0; index < count; index++) {
            plan->arguments[index] = borrow(spawn->argv[index]);
        }
    }
    plan->arguments[count] = NULL;
    plan->shell_arguments[0] = shell_path;
    plan->shell_arguments[1] = NULL; /* the candidate's place */
    for (size_t index = 1; index <= count; index++) {
        plan->shell_arguments[index + 1] = plan->arguments[index];
    }
}

int tr__spawn_plan_init(struct tr__spawn_plan *plan, const struct tr__spawn *spawn)
{
    struct sizes sizes;

    if ((spawn->argv == NULL) == (spawn->shell == NULL) ||
        (spawn->argv != NULL && spawn->argv[0] == NULL)) {
        return TR_EINVAL;
    }
    bool look_up = spawn->argv != NULL && is_looked_up(spawn->argv[0]);
    const char *path = look_up ? path_of(spawn) : NULL;
    measure(&sizes, spawn, path);

    /* Each list with its NULL; the second argument list with one more place. */
    size_t pointers = 2 * (sizes.arguments + 1) + 1 + sizes.environment + 1 + sizes.candidates + 1;
    char **block = tr__memory_take(pointers * sizeof *block + sizes.text);
    if (block == NULL) {
        return TR_ENOMEM;
    }
    *plan = (struct tr__spawn_plan){
        .memory = block,
        .directory = spawn->directory,
        .die_with_thread = spawn->die_with_thread,
        .set_file_mask = spawn->set_file_mask,
        .file_mask = spawn->file_mask,
        .nice = spawn->nice,
        .tree_limits = spawn->limits_left,
        .mark = spawn->tree != NULL ? tr__tree_mark_number(spawn->tree) : 0,
        .limits = spawn->limits,
        .limits_count = spawn->limits_count,
        .terminal_fd = spawn->terminal_fd,
        .directory_fd = spawn->tree != NULL ? tr__tree_directory(spawn->tree) : -1,
        .parent = getpid(),
        .join_fd = -1,
        .stage = TR__SPAWN_CLONE,
        .input_fd = -1,
        .output_fd = -1,
        .error_fd = -1,
    };
    plan->arguments = block;
    plan->shell_arguments = plan->arguments + sizes.arguments + 1;
    plan->environment = plan->shell_arguments + sizes.arguments + 2;
    plan->candidates = plan->environment + sizes.environment + 1;
    fill_arguments(plan, spawn, sizes.arguments);
    merge_environment(plan->environment, spawn, mark_of(spawn));
    if (look_up) {
        char *text = (char *)(plan->candidates + sizes.candidates + 1);
        list_candidates(plan->candidates, text, spawn->argv[0], path);
    } else {
        plan->candidates[0] = plan->arguments[0];
        plan->candidates[1] = NULL;
    }
    return 0;
}

void tr__spawn_plan_done(struct tr__spawn_plan *plan)
{
    tr__memory_give(plan->memory);
}
