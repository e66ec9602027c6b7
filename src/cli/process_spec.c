/*
 * process_spec.c: how a program is to be run, read from JSON.
 *
 * Threads: the call's (shell) or main (a tools file); no shared state. Calls jansson and the member
 * readers of order.c.
 *
 * Invariants:
 *  1. Every bound that tr_process has is checked here, so that the message names the member.
 *  2. Inside an object ("terminal", "spill", "limits") nothing is ignored either; its faults begin
 *     with its name.
 *  3. The specification points into struct cli_process only: whoever copies one breaks it.
 */
#include "process_spec.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "input.h"

enum {
    NICE_MOST = 40,             /* tr_process_spec.nice, either way */
    PERCENT_MOST = 1000000,     /* 10 000 processors */
    PROCESSES_MOST = 4194304,   /* the kernel's own bound of process ids */
    TERMINAL_MOST = UINT16_MAX, /* rows and columns */
    MASK_DIGITS_MOST = 4,
    MASK_MOST = 0777
};

/* tr_process_spec.output_bytes_max, at most */
#define OUTPUT_BYTES_MAX (UINT64_C(1) << 30)

static const struct {
    const char *name;
    int resource;
} resources[] = {
    {"cpu_s", RLIMIT_CPU},         {"fsize", RLIMIT_FSIZE},
    {"data", RLIMIT_DATA},         {"stack", RLIMIT_STACK},
    {"core", RLIMIT_CORE},         {"as", RLIMIT_AS},
    {"nofile", RLIMIT_NOFILE},     {"nproc", RLIMIT_NPROC},
    {"memlock", RLIMIT_MEMLOCK},   {"sigpending", RLIMIT_SIGPENDING},
    {"msgqueue", RLIMIT_MSGQUEUE},
};

_Static_assert(sizeof(resources) / sizeof(resources[0]) == CLI_PROCESS_LIMITS, "count them");

/* Puts the name of the object where a fault is before its message. Returns false. */
static bool within(struct cli_fault *fault, const char *name)
{
    struct cli_fault inner = *fault;
    return cli_fault_set(fault, "\"%s\": %.400s", name, inner.message);
}

static bool read_flag(const json_t *object, const char *name, uint32_t flag, tr_process_spec *spec,
                      struct cli_fault *ret_fault)
{
    bool value = false;
    if (!cli_member_bool(object, name, &value, ret_fault))
        return false;
    spec->flags |= value ? flag : 0;
    return true;
}

static bool read_terminal(json_t *value, tr_process_spec *spec, struct cli_fault *ret_fault)
{
    static const char *const known[] = {"rows", "columns", NULL};
    uint64_t rows = 0, columns = 0;
    if (value == NULL || json_is_false(value))
        return true;
    spec->flags |= TR_PROCESS_TERMINAL;
    if (json_is_true(value))
        return true;
    if (!json_is_object(value))
        return cli_fault_set(ret_fault, "\"terminal\" must be true, false or "
                                        "{\"rows\":NUMBER,\"columns\":NUMBER}");
    if (!cli_members_check(value, known, ret_fault) ||
        !cli_member_number(value, "rows", 1, TERMINAL_MOST, &rows, ret_fault) ||
        !cli_member_number(value, "columns", 1, TERMINAL_MOST, &columns, ret_fault))
        return within(ret_fault, "terminal");
    spec->terminal_rows = (uint16_t)rows;
    spec->terminal_columns = (uint16_t)columns;
    return true;
}

static bool read_spill(json_t *value, const char *directory, struct cli_process *process,
                       struct cli_fault *ret_fault)
{
    static const char *const known[] = {"directory", "bytes_max", NULL};
    const char *named;
    if (value == NULL)
        return true;
    if (!json_is_object(value))
        return cli_fault_set(ret_fault, "\"spill\" must be "
                                        "{\"directory\":PATH,\"bytes_max\":NUMBER}");
    if (!cli_members_check(value, known, ret_fault) ||
        !cli_member_string(value, "directory", SIZE_MAX, &named, ret_fault) ||
        !cli_member_number(value, "bytes_max", 1, INT64_MAX, &process->spec.spill_bytes_max,
                           ret_fault))
        return within(ret_fault, "spill");
    if (named == NULL)
        return cli_fault_set(ret_fault, "\"spill\": \"directory\" is missing");
    process->spill_directory = cli_path_join(directory, named);
    process->spec.spill_directory = process->spill_directory;
    return process->spill_directory != NULL || cli_fault_set(ret_fault, "out of memory");
}

static bool read_mask(const json_t *object, tr_process_spec *spec, struct cli_fault *ret_fault)
{
    const char *digits;
    char *end;
    if (json_object_get(object, "umask") == NULL)
        return true;
    if (!cli_member_string(object, "umask", SIZE_MAX, &digits, ret_fault))
        return false;
    unsigned long mask = strtoul(digits, &end, 8);
    if (digits[strspn(digits, "01234567")] != '\0' || strlen(digits) > MASK_DIGITS_MOST ||
        mask > MASK_MOST)
        return cli_fault_set(ret_fault, "\"umask\" must be an octal number as a string, \"022\"");
    spec->file_mask = (uint32_t)mask;
    spec->flags |= TR_PROCESS_FILE_MASK;
    return true;
}

static bool read_nice(const json_t *value, tr_process_spec *spec, struct cli_fault *ret_fault)
{
    if (value == NULL)
        return true;
    json_int_t number = json_is_integer(value) ? json_integer_value(value) : INT64_MAX;
    if (number < -NICE_MOST || number > NICE_MOST)
        return cli_fault_set(ret_fault, "\"nice\" must be a whole number from %d to %d", -NICE_MOST,
                             NICE_MOST);
    spec->nice = (int32_t)number;
    return true;
}

static void environment_done(char **environment)
{
    for (size_t index = 0; environment != NULL && environment[index] != NULL; index++)
        free(environment[index]);
    free(environment);
}

/* An object of strings as "NAME=value", or "NAME" for null. */
static bool read_environment(json_t *object, struct cli_process *process,
                             struct cli_fault *ret_fault)
{
    const char *name;
    json_t *value;
    size_t count = 0;
    if (object == NULL)
        return true;
    if (!json_is_object(object))
        return cli_fault_set(ret_fault, "\"env\" must be an object");
    process->environment = calloc(json_object_size(object) + 1, sizeof(*process->environment));
    if (process->environment == NULL)
        return cli_fault_set(ret_fault, "out of memory");
    process->spec.environment = (const char *const *)process->environment;
    json_object_foreach(object, name, value)
    {
        const char *string = json_string_value(value);
        if (name[0] == '\0' || strchr(name, '=') != NULL)
            return cli_fault_set(ret_fault, "\"env\": \"%.64s\" is no name of a variable", name);
        if (string == NULL ? !json_is_null(value) : strlen(string) != json_string_length(value))
            return cli_fault_set(
                ret_fault, "\"env\": \"%.64s\" must be null or a string without zero bytes", name);
        char *entry = NULL;
        if (string == NULL)
            entry = strdup(name);
        else if (asprintf(&entry, "%s=%s", name, string) < 0)
            entry = NULL;
        if (entry == NULL)
            return cli_fault_set(ret_fault, "out of memory");
        process->environment[count++] = entry;
    }
    return true;
}

/* One side of a limit: a number from 0, or "unlimited". */
static bool read_bound(const json_t *value, uint64_t *ret_bound)
{
    if (json_is_string(value) && strcmp(json_string_value(value), "unlimited") == 0) {
        *ret_bound = TR_FOREVER;
        return true;
    }
    if (!json_is_integer(value) || json_integer_value(value) < 0)
        return false;
    *ret_bound = (uint64_t)json_integer_value(value);
    return true;
}

/* One limit: a bound for both sides, or an object with one for each. */
static bool read_limit(const char *name, json_t *value, tr_process_limit *limit,
                       struct cli_fault *ret_fault)
{
    static const char *const known[] = {"soft", "hard", NULL};
    bool good = false;
    if (json_is_object(value)) {
        if (!cli_members_check(value, known, ret_fault))
            return within(ret_fault, name);
        good = read_bound(json_object_get(value, "soft"), &limit->soft) &&
               read_bound(json_object_get(value, "hard"), &limit->hard) &&
               limit->soft <= limit->hard;
    } else {
        good = read_bound(value, &limit->soft);
        limit->hard = limit->soft;
    }
    return good || cli_fault_set(ret_fault,
                                 "\"%s\" must be a whole number from 0, \"unlimited\" or "
                                 "{\"soft\":BOUND,\"hard\":BOUND} with the soft one not higher",
                                 name);
}

static bool read_limits(json_t *object, struct cli_process *process, struct cli_fault *ret_fault)
{
    const char *name;
    json_t *value;
    if (object == NULL)
        return true;
    if (!json_is_object(object))
        return cli_fault_set(ret_fault, "\"limits\" must be an object");
    json_object_foreach(object, name, value)
    {
        size_t index = 0;
        while (index < CLI_PROCESS_LIMITS && strcmp(resources[index].name, name) != 0)
            index++;
        if (index == CLI_PROCESS_LIMITS)
            return cli_fault_set(ret_fault, "\"limits\": unknown member \"%.64s\"", name);
        tr_process_limit *limit = &process->limits[process->spec.limits_count++];
        limit->resource = resources[index].resource;
        if (!read_limit(name, value, limit, ret_fault))
            return within(ret_fault, "limits");
    }
    process->spec.limits = process->spec.limits_count > 0 ? process->limits : NULL;
    return true;
}

static bool read_output(const json_t *object, const char *directory, struct cli_process *process,
                        struct cli_fault *ret_fault)
{
    static const char *const words[] = {"drop", "pause", "kill", NULL};
    static const tr_overflow overflows[] = {TR_OVERFLOW_DROP, TR_OVERFLOW_PAUSE, TR_OVERFLOW_KILL};
    tr_process_spec *spec = &process->spec;
    size_t index = 0;
    if (!cli_member_word(object, "overflow", words, &index, ret_fault))
        return false;
    spec->overflow = overflows[index];
    return cli_member_number(object, "output_bytes_max", 1, OUTPUT_BYTES_MAX,
                             &spec->output_bytes_max, ret_fault) &&
           read_flag(object, "merge", TR_PROCESS_MERGE_ERROR, spec, ret_fault) &&
           read_terminal(json_object_get(object, "terminal"), spec, ret_fault) &&
           read_spill(json_object_get(object, "spill"), directory, process, ret_fault);
}

static bool read_bounds(const json_t *object, struct cli_process *process,
                        struct cli_fault *ret_fault)
{
    tr_process_spec *spec = &process->spec;
    uint64_t percent = 0, processes = 0;
    if (!read_limits(json_object_get(object, "limits"), process, ret_fault) ||
        !cli_member_number(object, "memory_bytes_max", 1, INT64_MAX, &spec->memory_bytes_max,
                           ret_fault) ||
        !cli_member_number(object, "cpu_percent_max", 1, PERCENT_MOST, &percent, ret_fault) ||
        !cli_member_number(object, "processes_max", 1, PROCESSES_MOST, &processes, ret_fault))
        return false;
    spec->cpu_percent_max = (uint32_t)percent;
    spec->processes_max = (uint32_t)processes;
    return true;
}

static bool read_place(const json_t *object, const char *directory, struct cli_process *process,
                       struct cli_fault *ret_fault)
{
    const char *cwd;
    if (!cli_member_string(object, "cwd", SIZE_MAX, &cwd, ret_fault) ||
        !read_environment(json_object_get(object, "env"), process, ret_fault) ||
        !read_flag(object, "clear_env", TR_PROCESS_CLEAR_ENVIRONMENT, &process->spec, ret_fault))
        return false;
    if (cwd == NULL && directory == NULL)
        return true;
    process->directory = cwd != NULL ? cli_path_join(directory, cwd) : strdup(directory);
    process->spec.directory = process->directory;
    return process->directory != NULL || cli_fault_set(ret_fault, "out of memory");
}

bool cli_process_read(const json_t *object, const char *directory, struct cli_process *process,
                      struct cli_fault *ret_fault)
{
    static const char *const words[] = {"task", "session", "manager", "daemon", NULL};
    static const tr_process_lifetime lifetimes[] = {
        TR_PROCESS_LIFETIME_TASK, TR_PROCESS_LIFETIME_SESSION, TR_PROCESS_LIFETIME_MANAGER,
        TR_PROCESS_LIFETIME_DAEMON};
    uint64_t grace_ms = 0;
    size_t index = 0;
    *process = (struct cli_process){.spec = TR_PROCESS_SPEC_INIT};
    if (!cli_member_word(object, "lifetime", words, &index, ret_fault) ||
        !cli_member_number(object, "grace_ms", 1, CLI_MILLISECONDS_MAX, &grace_ms, ret_fault))
        return false;
    process->spec.lifetime = lifetimes[index];
    process->spec.grace_ns = grace_ms * TR_MILLISECOND;
    return read_place(object, directory, process, ret_fault) &&
           read_flag(object, "keep_input_open", TR_PROCESS_OPEN_INPUT, &process->spec, ret_fault) &&
           read_output(object, directory, process, ret_fault) &&
           read_mask(object, &process->spec, ret_fault) &&
           read_nice(json_object_get(object, "nice"), &process->spec, ret_fault) &&
           read_bounds(object, process, ret_fault);
}

void cli_process_done(struct cli_process *process)
{
    environment_done(process->environment);
    free(process->directory);
    free(process->spill_directory);
    *process = (struct cli_process){0};
}
