/*
 * builtin_shell.c: the built-in tool `shell`: runs a command line or a program.
 *
 * Thread: the call's; awaits the command (command.c). Nothing is kept between calls.
 *
 * Input: "command" (for /bin/sh -c) or "argv" (list of strings), one of them; "stdin" or
 * "stdin_base64"; "timeout_ms"; and everything that process_spec.h reads.
 *
 * Invariant: everything the process specification points to lives until the command has ended:
 * in the parsed input, or in struct request.
 */
#include <stdlib.h>
#include <string.h>

#include "builtin.h"
#include "command.h"
#include "input.h"
#include "process_spec.h"
#include "tools.h"

/* A request being read. */
struct request {
    struct cli_process process;
    const char **argv; /* NULL-ended; strings of the input */
    char *input;       /* standard input that came as base64 */
};

static void request_done(struct request *request)
{
    cli_process_done(&request->process);
    free(request->argv);
    free(request->input);
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
    request->process.spec.argv = request->argv;
    return request->argv[0][0] != '\0' ||
           cli_fault_set(fault, "\"argv\": the program's name is empty");
}

static bool read_stdin(const json_t *input, struct request *request, struct cli_fault *fault)
{
    size_t size;
    tr_process_spec *spec = &request->process.spec;
    if (!cli_input_bytes(input, "stdin", &spec->input, fault) ||
        !cli_member_base64(input, "stdin_base64", &request->input, &size, fault))
        return false;
    if (request->input == NULL)
        return true;
    if (spec->input.data != NULL)
        return cli_fault_set(fault, "\"stdin\" and \"stdin_base64\" exclude each other");
    spec->input = (tr_bytes){request->input, size};
    return true;
}

static bool read_request(json_t *input, const char *directory, struct request *request,
                         struct cli_fault *fault)
{
    uint64_t timeout_ms = 0;
    json_t *list = json_object_get(input, "argv");
    tr_process_spec *spec = &request->process.spec;
    if (!cli_process_read(input, directory, &request->process, fault) ||
        !cli_member_string(input, "command", SIZE_MAX, &spec->shell, fault))
        return false;
    if ((list == NULL) == (spec->shell == NULL))
        return cli_fault_set(fault, "one of \"command\" and \"argv\" must be given, and one only");
    if (list != NULL && !read_argv(list, request, fault))
        return false;
    if (!read_stdin(input, request, fault) ||
        !cli_member_number(input, "timeout_ms", 1, CLI_MILLISECONDS_MAX, &timeout_ms, fault))
        return false;
    spec->timeout_ns = timeout_ms * TR_MILLISECOND;
    return true;
}

int cli_builtin_shell(tr_call *call, void *context)
{
    static const char *const known[] = {
        "command", "argv", "stdin", "stdin_base64", "timeout_ms", CLI_PROCESS_MEMBERS, NULL};
    struct cli_tools *tools = context;
    struct request request = {0};
    struct cli_fault fault;
    json_t *input = cli_tool_input(call, known);
    if (input == NULL)
        return TR_EINVAL;
    int status;
    if (read_request(input, tools->directory, &request, &fault))
        status = cli_command_run(call, tools, &request.process.spec,
                                 request.argv != NULL ? request.argv[0] : "/bin/sh");
    else
        status = cli_tool_fail(call, TR_EINVAL, "%s", fault.message);
    request_done(&request);
    json_decref(input);
    return status;
}
