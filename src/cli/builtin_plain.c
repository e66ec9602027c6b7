/*
 * builtin_plain.c: the built-in tools that touch nothing: echo and sleep.
 *
 * Threads: a worker's. echo computes and returns; sleep awaits and frees its worker meanwhile.
 */
#include "builtin.h"
#include "input.h"

int cli_builtin_echo(tr_call *call, void *context)
{
    static const char *const known[] = {"text", NULL};
    struct cli_fault fault;
    struct cli_text text = {0};
    tr_bytes bytes;
    (void)context;
    json_t *input = cli_tool_input(call, known);
    if (input == NULL)
        return TR_EINVAL;
    int status;
    if (!cli_input_bytes(input, "text", &bytes, &fault)) {
        status = cli_tool_fail(call, TR_EINVAL, "%s", fault.message);
    } else if (bytes.data == NULL) {
        status = cli_tool_fail(call, TR_EINVAL, "\"text\" is missing");
    } else {
        cli_text_add(&text, "{\"text\":");
        (void)cli_text_string(&text, bytes.data, bytes.size); /* valid UTF-8: it came as JSON */
        cli_text_add(&text, "}");
        status = cli_tool_result(call, &text, 0);
    }
    json_decref(input);
    return status;
}

int cli_builtin_sleep(tr_call *call, void *context)
{
    static const char *const known[] = {"ms", NULL};
    struct cli_fault fault;
    struct cli_text text = {0};
    uint64_t milliseconds = UINT64_MAX;
    (void)context;
    json_t *input = cli_tool_input(call, known);
    if (input == NULL)
        return TR_EINVAL;
    bool good = cli_member_number(input, "ms", 0, CLI_MILLISECONDS_MAX, &milliseconds, &fault);
    json_decref(input);
    if (!good)
        return cli_tool_fail(call, TR_EINVAL, "%s", fault.message);
    if (milliseconds == UINT64_MAX)
        return cli_tool_fail(call, TR_EINVAL, "\"ms\" is missing");
    int status = tr_sleep(call, milliseconds * TR_MILLISECOND);
    if (status < 0)
        return cli_tool_fail(call, status, "woken before %llu ms had passed",
                             (unsigned long long)milliseconds);
    cli_text_add(&text, "{");
    cli_text_field_u64(&text, "slept_ms", milliseconds);
    cli_text_add(&text, "}");
    return cli_tool_result(call, &text, 0);
}
