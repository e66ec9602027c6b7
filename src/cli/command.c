/*
 * command.c: running a command for a call and making its result.
 *
 * Thread: the call's, which awaits the command. Calls tr_process.
 *
 * Output that is valid UTF-8 becomes a JSON string and is exact. Any other byte becomes U+FFFD
 * there, and a member "stdout_base64" (or stderr) holds the exact bytes besides: nothing is
 * lost, and whoever only shows the text need not decode it. When the cap cut something out of
 * the middle, "stdout_omitted_bytes" says how much and "stdout_omitted_at" at which byte of what
 * is there.
 *
 * A command killed by the call's timeout or a cancel keeps the output it had: the result is set in
 * every case, the engine decides the outcome.
 */
#include "command.h"

#include <stdio.h>
#include <sys/stat.h>

#include "input.h"

static void add_stream(struct cli_text *text, const char *name, const tr_process_output *output)
{
    char member[32];
    cli_text_field(text, name);
    size_t replaced = cli_text_string(text, output->data, output->size);
    if (replaced > 0) {
        (void)snprintf(member, sizeof(member), "%s_base64", name); /* it fits */
        cli_text_field(text, member);
        cli_text_base64(text, output->data, output->size);
    }
    if (output->omitted > 0) {
        (void)snprintf(member, sizeof(member), "%s_omitted_bytes", name); /* it fits */
        cli_text_field_u64(text, member, output->omitted);
        (void)snprintf(member, sizeof(member), "%s_omitted_at", name); /* it fits */
        cli_text_field_u64(text, member, output->head);
    }
}

static void add_number_or_null(struct cli_text *text, const char *name, bool present, int number)
{
    cli_text_field(text, name);
    if (present)
        cli_text_i64(text, number);
    else
        cli_text_add(text, "null");
}

static int ending_code(const tr_process_result *result)
{
    if (result->cancelled)
        return TR_ECANCELED;
    if (result->timed_out)
        return TR_ETIMEDOUT;
    return result->exit_code == 0 ? 0 : TR_ETOOL;
}

static int finish(tr_call *call, const tr_process_result *result)
{
    struct cli_text text = {0};
    cli_text_add(&text, "{");
    add_stream(&text, "stdout", &result->out);
    add_stream(&text, "stderr", &result->error);
    add_number_or_null(&text, "exit_code", result->exit_code >= 0, result->exit_code);
    add_number_or_null(&text, "signal", result->signal > 0, result->signal);
    cli_text_field_bool(&text, "truncated", result->out.omitted + result->error.omitted > 0);
    cli_text_field_bool(&text, "held_open", result->held_open);
    cli_text_field_bool(&text, "timed_out", result->timed_out);
    cli_text_field_u64(&text, "wall_us", result->wall_ns / 1000);
    cli_text_field_u64(&text, "user_us", result->user_ns / 1000);
    cli_text_field_u64(&text, "system_us", result->system_ns / 1000);
    cli_text_field_u64(&text, "max_rss_bytes", result->resident_bytes);
    cli_text_add(&text, "}");
    return cli_tool_result(call, &text, ending_code(result));
}

/* Says why a command did not start. A working directory that is not there gives the same code as a
 * program that is not. */
static int not_started(tr_call *call, const tr_process_spec *spec, const char *name, int status)
{
    char room[128];
    struct stat information;
    if (status == TR_ECANCELED)
        return cli_tool_fail(call, status, "stopped before %s was started", name);
    if (spec->directory != NULL &&
        (stat(spec->directory, &information) < 0 || !S_ISDIR(information.st_mode)))
        return cli_tool_fail(call, status, "cannot start %s: no directory \"%s\"", name,
                             spec->directory);
    return cli_tool_fail(call, status, "cannot start %s: %s", name,
                         status > -4096 ? cli_errno_text(-status, room) : tr_error_message(status));
}

int cli_command_run(tr_call *call, const tr_process_spec *spec, const char *name)
{
    tr_process_result result;
    int status = tr_process(call, spec, &result);
    if (status < 0)
        return not_started(call, spec, name, status);
    status = finish(call, &result);
    tr_process_result_done(&result);
    return status;
}
