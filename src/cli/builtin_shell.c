/*
 * builtin_shell.c: the built-in tool `shell`: runs a command line or a program.
 *
 * Thread: the call's; awaits the command (command.c). Nothing is kept between calls.
 *
 * Input: "command" (for /bin/sh -c) or "argv" (list of strings), one of them; "cwd", "env" (object:
 * a string sets a variable, null removes one), "stdin", "timeout_ms".
 *
 * Invariant: everything the process specification points to lives until the command has ended:
 * in the parsed input, or in the lists of struct request.
 */
#include <stdlib.h>
#include <string.h>

#include "builtin.h"
#include "command.h"
#include "declared.h"
#include "input.h"

/* A request being read. */
struct request {
    tr_process_spec spec;
    const char **argv;  /* NULL-ended; strings of the input */
    char **environment; /* NULL-ended; each allocated */
    char *directory;    /* allocated */
};

static void request_done(struct request *request)
{
    cli_environment_done(request->environment);
    free(request->directory);
    free(request->argv);
}

static bool read_argv(const json_t *list, struct request *request, struct cli_fault *fault)
{
    size_t count = json_array_size(list);
    if (!json_is_array(list) || count == 0)
        return cli_fault_set(fault, "\"argv\" must be a list of at least one string");
    request->argv = calloc(count + 1, sizeof(*request->argv));
    if (request->argv == NULL)
        return cli_fault_set(fault, "out of memory");
    for (size_t index = 0; index < count; index++) {
        const json_t *word = json_array_get(list, index);
        const char *string = json_string_value(word);
        if (string == NULL || strlen(string) != json_string_length(word))
            return cli_fault_set(fault, "\"argv\" must hold strings without zero bytes");
        request->argv[index] = string;
    }
    request->spec.argv = request->argv;
    return true;
}

static bool read_request(json_t *input, const char *directory, struct request *request,
                         struct cli_fault *fault)
{
    const char *cwd;
    uint64_t timeout_ms = 0;
    json_t *list = json_object_get(input, "argv");
    if (!cli_member_string(input, "command", SIZE_MAX, &request->spec.shell, fault))
        return false;
    if ((list == NULL) == (request->spec.shell == NULL))
        return cli_fault_set(fault, "one of \"command\" and \"argv\" must be given");
    if (list != NULL && !read_argv(list, request, fault))
        return false;
    if (!cli_member_string(input, "cwd", SIZE_MAX, &cwd, fault) ||
        !cli_input_bytes(input, "stdin", &request->spec.input, fault) ||
        !cli_member_number(input, "timeout_ms", 1, CLI_MILLISECONDS_MAX, &timeout_ms, fault) ||
        !cli_environment_read(json_object_get(input, "env"), &request->environment, fault))
        return false;
    request->spec.environment = (const char *const *)request->environment;
    request->spec.timeout_ns = timeout_ms * TR_MILLISECOND;
    if (cwd != NULL) {
        request->directory = cli_path_join(directory, cwd);
        if (request->directory == NULL)
            return cli_fault_set(fault, "out of memory");
        request->spec.directory = request->directory;
    } else {
        request->spec.directory = directory;
    }
    return true;
}

int cli_builtin_shell(tr_call *call, void *context)
{
    static const char *const known[] = {"command", "argv",       "cwd", "env",
                                        "stdin",   "timeout_ms", NULL};
    const char *directory = context;
    struct request request = {.spec = TR_PROCESS_SPEC_INIT};
    struct cli_fault fault;
    json_t *input = cli_tool_input(call, known);
    if (input == NULL)
        return TR_EINVAL;
    int status;
    if (read_request(input, directory, &request, &fault))
        status = cli_command_run(call, &request.spec,
                                 request.argv != NULL ? request.argv[0] : "/bin/sh");
    else
        status = cli_tool_fail(call, TR_EINVAL, "%s", fault.message);
    request_done(&request);
    json_decref(input);
    return status;
}
