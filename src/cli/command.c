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

#include "book.h"
#include "input.h"
#include "tools.h"

/* So much of a name or a path is said that the reason, which follows it, always is too. */
#define NAME "%.150s"

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

/* What there was besides what is shown. */
static void add_stream_figures(struct cli_text *text, const char *name,
                               const tr_process_output *output)
{
    char member[32];
    (void)snprintf(member, sizeof(member), "%s_total_bytes", name); /* it fits */
    cli_text_field_u64(text, member, output->total);
    if (output->spill_path == NULL)
        return;
    (void)snprintf(member, sizeof(member), "%s_spill_path", name); /* it fits */
    cli_text_field_string(text, member, output->spill_path);
    (void)snprintf(member, sizeof(member), "%s_spill_bytes", name); /* it fits */
    cli_text_field_u64(text, member, output->spill_bytes);
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
    if (result->overflowed)
        return TR_ELIMIT;
    return result->exit_code == 0 ? 0 : TR_ETOOL;
}

static const char *tree_word(tr_tree_mode tree)
{
    switch (tree) {
    case TR_TREE_CGROUP:
        return "cgroup";
    case TR_TREE_SWEEP:
        return "sweep";
    case TR_TREE_GROUP:
        return "group";
    }
    return "unknown";
}

static void add_tree(struct cli_text *text, const tr_process_result *result)
{
    cli_text_field_string(text, "tree", tree_word(result->tree));
    cli_text_field_u64(text, "swept", result->swept);
    cli_text_field_u64(text, "survivors", result->survivors);
    if (!result->tree_figures)
        return;
    cli_text_field_u64(text, "tree_user_us", result->tree_user_ns / 1000);
    cli_text_field_u64(text, "tree_system_us", result->tree_system_ns / 1000);
    if (result->tree_memory_peak_bytes > 0)
        cli_text_field_u64(text, "tree_memory_peak_bytes", result->tree_memory_peak_bytes);
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
    cli_text_field_bool(&text, "overflowed", result->overflowed);
    cli_text_field_bool(&text, "out_of_memory", result->out_of_memory);
    add_stream_figures(&text, "stdout", &result->out);
    add_stream_figures(&text, "stderr", &result->error);
    cli_text_field_u64(&text, "stdin_bytes", result->bytes_in);
    add_tree(&text, result);
    cli_text_field_u64(&text, "wall_us", result->wall_ns / 1000);
    cli_text_field_u64(&text, "user_us", result->user_ns / 1000);
    cli_text_field_u64(&text, "system_us", result->system_ns / 1000);
    cli_text_field_u64(&text, "max_rss_bytes", result->resident_bytes);
    cli_text_add(&text, "}");
    return cli_tool_result(call, &text, ending_code(result));
}

static bool is_directory(const char *path)
{
    struct stat information;
    return stat(path, &information) == 0 && S_ISDIR(information.st_mode);
}

/* Says why a command did not start. A directory that is not there gives the same code as a program
 * that is not. */
static int not_started(tr_call *call, const tr_process_spec *spec, const char *name, int status)
{
    char room[128];
    const char *why = status > -4096 ? cli_errno_text(-status, room) : tr_error_message(status);
    if (status == TR_ECANCELED)
        return cli_tool_fail(call, status, "stopped before " NAME " was started", name);
    if (spec->directory != NULL && !is_directory(spec->directory))
        return cli_tool_fail(call, status, "cannot start " NAME ": no directory \"" NAME "\"", name,
                             spec->directory);
    if (spec->spill_directory != NULL && !is_directory(spec->spill_directory))
        return cli_tool_fail(call, status,
                             "cannot start " NAME ": no directory \"" NAME "\" to spill to", name,
                             spec->spill_directory);
    if (status == TR_ENOSYS && spec->cpu_percent_max > 0)
        return cli_tool_fail(call, status,
                             "cannot start " NAME ": \"cpu_percent_max\" needs a cgroup with the "
                             "controller cpu, see `toolring doctor`",
                             name);
    if (spec->spill_directory != NULL)
        return cli_tool_fail(call, status,
                             "cannot start " NAME ", or make its files in \"" NAME "\": %s", name,
                             spec->spill_directory, why);
    return cli_tool_fail(call, status, "cannot start " NAME ": %s", name, why);
}

/* Whether the reader, which would have to read the orders to the program, waits for its end. */
static bool is_inline(const tr_call *call, const struct cli_tools *tools)
{
    const struct cli_call *known = tr_call_user(call); /* there as long as the call runs */
    return tools->is_inline || known->is_inline;
}

int cli_command_run(tr_call *call, struct cli_tools *tools, tr_process_spec *spec, const char *name)
{
    tr_process_result result;
    struct cli_input input;
    bool entered = false;
    if ((spec->flags & TR_PROCESS_OPEN_INPUT) != 0) {
        if (is_inline(call, tools))
            return cli_tool_fail(call, TR_EINVAL,
                                 "\"keep_input_open\" needs a call that is not inline: nobody "
                                 "could write");
        entered = cli_inputs_enter(&tools->inputs, &input, tr_call_task(call));
        if (!entered)
            spec->flags &= ~TR_PROCESS_OPEN_INPUT;
    }
    int status = tr_process(call, spec, &result);
    if (entered)
        cli_inputs_leave(&tools->inputs, &input);
    if (status < 0)
        return not_started(call, spec, name, status);
    status = finish(call, &result);
    tr_process_result_done(&result);
    return status;
}
