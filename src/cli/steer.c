/*
 * steer.c: orders to a program while it runs: input, signal, resize, output.
 *
 * Thread: the reader (main). Calls the book (which call, which abilities), the engine
 * (toolring/stream.h) and, for output lines, the output.
 *
 * An order may come before its call's program is there: the call is queued, or its program is
 * being started. The order then waits, as does the reader, up to its timeout. An order that
 * comes too late (the program has ended, or has closed its input) is left alone like a late
 * cancel: whether it does is a matter of chance, and must not decide on the exit status.
 *
 * A program that does not read its input because it waits for its output to be read cannot block
 * the reader for good: its output is taken by the engine meanwhile; where it is not ("overflow":
 * "pause"), the timeout ends the wait.
 *
 * Invariants:
 *  1. What cannot be told to a call at all (no program, no open input, no terminal) is known from
 *     the call, before anything is tried: such a fault never depends on time.
 *  2. Each output order that is no fault writes exactly one output line.
 *  3. A wait ends at the end of the run.
 *
 * A wait for a program to start looks again after 1, 2, 4 … 16 ms: only an order that came too
 * early pays for that.
 */
#include <stdio.h>
#include <stdlib.h>

#include "run.h"
#include "text.h"

enum {
    LOOK_AGAIN_MS_MOST = 16,
    INPUT_SLICE_MS = 100, /* so long a wait for a pipe may overlook the end of the run */
    CLOSE_AGAIN_MS = 5
};

/* Waiting for a program. */
struct patience {
    uint64_t until_ns;
    uint64_t pause_ms;
};

static struct patience patience_of(const struct cli_order *order)
{
    return (struct patience){cli_now_ns() + order->timeout_ms * TR_MILLISECOND, 1};
}

/* Whether a task ended or is gone. */
static bool is_over(struct cli_run *run, tr_task_id task)
{
    tr_snapshot snapshot;
    return tr_task_snapshot(run->manager, task, &snapshot) < 0 || snapshot.state == TR_STATE_ENDED;
}

/* After TR_ESTATE, which a program answers that has not started, or that is ending; both pass.
 * Returns true when it may be tried again; false when it came too late (`ret_late`), or the time is
 * over. */
static bool look_again(struct cli_run *run, tr_task_id task, struct patience *patience,
                       bool *ret_late)
{
    *ret_late = is_over(run, task) || cli_book_is_stopped(&run->book);
    if (*ret_late || cli_now_ns() >= patience->until_ns)
        return false;
    cli_book_pause(&run->book, patience->pause_ms);
    if (patience->pause_ms < LOOK_AGAIN_MS_MOST)
        patience->pause_ms *= 2;
    return true;
}

static bool not_in_time(const struct cli_order *order, struct cli_fault *fault)
{
    return cli_fault_set(fault, "the program of call \"%s\" has not started within %llu ms",
                         order->call_id, (unsigned long long)order->timeout_ms);
}

static bool refused(const struct cli_order *order, int status, struct cli_fault *fault)
{
    return cli_fault_set(fault, "call \"%s\": %s (%s)", order->call_id, tr_error_message(status),
                         tr_error_name(status));
}

/* Writes a part of the input. Returns how many bytes, 0 for none yet, or a negative code. */
static int write_some(struct cli_run *run, tr_task_id task, const char *data, size_t size,
                      uint64_t until_ns)
{
    uint64_t now_ns = cli_now_ns();
    uint64_t wait_ns = until_ns > now_ns ? until_ns - now_ns : 0;
    if (wait_ns > INPUT_SLICE_MS * TR_MILLISECOND)
        wait_ns = INPUT_SLICE_MS * TR_MILLISECOND;
    int status = tr_task_input(run->manager, task, data, size, wait_ns);
    return status == TR_EAGAIN || status == TR_ETIMEDOUT ? 0 : status;
}

static bool write_input(struct cli_run *run, const struct cli_order *order, tr_task_id task,
                        struct cli_fault *fault)
{
    struct patience patience = patience_of(order);
    const char *data = order->data.data;
    size_t used = 0;
    bool late = false;
    while (used < order->data.size) {
        int status = write_some(run, task, data + used, order->data.size - used, patience.until_ns);
        if (status > 0) {
            used += (size_t)status;
            continue;
        }
        if (status == TR_ENOENT || status == TR_EPIPE || cli_book_is_stopped(&run->book))
            return true;
        if (status == TR_ESTATE) {
            if (look_again(run, task, &patience, &late))
                continue;
            return late || not_in_time(order, fault);
        }
        if (status < 0)
            return refused(order, status, fault);
        if (cli_now_ns() >= patience.until_ns)
            return cli_fault_set(fault, "call \"%s\" has taken %zu of %zu bytes within %llu ms",
                                 order->call_id, used, order->data.size,
                                 (unsigned long long)order->timeout_ms);
    }
    return true;
}

/* Closes the input; its earlier part, given at launch, may still be under way. */
static bool close_input(struct cli_run *run, const struct cli_order *order, tr_task_id task,
                        struct cli_fault *fault)
{
    struct patience patience = patience_of(order);
    bool late = false;
    int status;
    do
        status = cli_inputs_close(&run->tools.inputs, run->manager, task);
    while (status == TR_ESTATE && look_again(run, task, &patience, &late));
    if (status == 0 || status == TR_ENOENT || status == TR_EPIPE || late)
        return true;
    return status == TR_ESTATE ? not_in_time(order, fault) : refused(order, status, fault);
}

static bool do_input(struct cli_run *run, const struct cli_order *order,
                     const struct cli_target *target, struct cli_fault *fault)
{
    if ((target->abilities & CLI_CAN_INPUT) == 0)
        return cli_fault_set(fault, "call \"%s\" has no \"keep_input_open\"", order->call_id);
    if (cli_inputs_is_closed(&run->tools.inputs, target->task))
        return cli_fault_set(fault, "the input of call \"%s\" was closed", order->call_id);
    return write_input(run, order, target->task, fault) &&
           (!order->close || close_input(run, order, target->task, fault));
}

/* A signal or a new size of the terminal. */
static bool do_signal_or_resize(struct cli_run *run, const struct cli_order *order, tr_task_id task,
                                struct cli_fault *fault)
{
    struct patience patience = patience_of(order);
    bool late = false;
    int status;
    do
        status = order->op == CLI_OP_SIGNAL
                     ? tr_task_signal(run->manager, task, order->signal_number)
                     : tr_task_resize(run->manager, task, order->rows, order->columns);
    while (status == TR_ESTATE && look_again(run, task, &patience, &late));
    if (status == 0 || status == TR_ENOENT || late)
        return true;
    return status == TR_ESTATE ? not_in_time(order, fault) : refused(order, status, fault);
}

/* Begins an output line. */
static void begin_line(struct cli_text *text, const struct cli_order *order, tr_task_id task)
{
    char room[TR_TASK_TEXT_BYTES];
    cli_text_add(text, "{\"type\":\"output\"");
    cli_text_field_string(text, "call_id", order->call_id);
    cli_text_field_string(text, "task", tr_task_text(task, room));
    cli_text_field_string(text, "stream", order->stream == TR_STREAM_OUT ? "stdout" : "stderr");
    cli_text_field_u64(text, "cursor", order->cursor);
}

static bool write_line(struct cli_run *run, struct cli_text *text, struct cli_fault *fault)
{
    cli_text_add(text, "}\n");
    bool good = !text->failed;
    if (good)
        cli_output_write(&run->output, text->data, text->size);
    cli_text_done(text);
    return good || cli_fault_set(fault, "out of memory");
}

/* The line of a call whose result line is written: that has the output. */
static bool line_of_ended(struct cli_run *run, const struct cli_order *order, tr_task_id task,
                          struct cli_fault *fault)
{
    struct cli_text text = {0};
    begin_line(&text, order, task);
    cli_text_field_bool(&text, "ended", true);
    return write_line(run, &text, fault);
}

/* The line of what was read. A character that is cut at the end, and will be whole when it is
 * read from its first byte, is left for the next order. */
static bool line_of_bytes(struct cli_run *run, const struct cli_order *order, tr_task_id task,
                          const unsigned char *bytes, size_t size, const tr_output_mark *mark,
                          struct cli_fault *fault)
{
    struct cli_text text = {0};
    size_t shown = mark->end ? size : cli_utf8_trim(bytes, size);
    begin_line(&text, order, task);
    cli_text_field_u64(&text, "next", mark->next - (size - shown));
    cli_text_field_u64(&text, "skipped_bytes", mark->skipped);
    cli_text_field_u64(&text, "total_bytes", mark->total);
    cli_text_field_bool(&text, "end", mark->end);
    cli_text_field(&text, "data");
    if (cli_text_string(&text, bytes, shown) > 0) {
        cli_text_field(&text, "data_base64");
        cli_text_base64(&text, bytes, shown);
    }
    return write_line(run, &text, fault);
}

static bool do_output(struct cli_run *run, const struct cli_order *order, tr_task_id task,
                      struct cli_fault *fault)
{
    tr_output_mark mark = {.next = order->cursor};
    size_t room = (size_t)order->bytes_max;
    unsigned char *bytes = malloc(room);
    if (bytes == NULL)
        return cli_fault_set(fault, "out of memory");
    bool good;
    int status =
        tr_task_output(run->manager, task, order->stream, order->cursor, bytes, room, &mark);
    if (status == TR_ESTATE && order->cursor == 0)
        status = 0; /* it has not started: nothing yet */
    if (status == TR_ENOENT)
        good = line_of_ended(run, order, task, fault);
    else if (status == TR_EINVAL || status == TR_ESTATE)
        good = cli_fault_set(fault, "\"cursor\" %llu is beyond what call \"%s\" has written",
                             (unsigned long long)order->cursor, order->call_id);
    else if (status < 0)
        good = refused(order, status, fault);
    else
        good = line_of_bytes(run, order, task, bytes, (size_t)status, &mark, fault);
    free(bytes);
    return good;
}

bool cli_steer(struct cli_run *run, const struct cli_order *order, struct cli_fault *fault)
{
    struct cli_target target;
    enum cli_found found = cli_book_find(&run->book, order->session, order->call_id, &target);
    if (found == CLI_FOUND_NONE)
        return cli_fault_set(fault, "no call \"%s\" is known", order->call_id);
    if ((target.abilities & CLI_CAN_RUN) == 0)
        return cli_fault_set(fault, "call \"%s\" runs no program", order->call_id);
    if (order->op == CLI_OP_RESIZE && (target.abilities & CLI_CAN_RESIZE) == 0)
        return cli_fault_set(fault, "call \"%s\" has no \"terminal\"", order->call_id);
    if (found == CLI_FOUND_ENDED)
        return order->op != CLI_OP_OUTPUT || line_of_ended(run, order, target.task, fault);
    if (order->op == CLI_OP_INPUT)
        return do_input(run, order, &target, fault);
    if (order->op == CLI_OP_OUTPUT)
        return do_output(run, order, target.task, fault);
    return do_signal_or_resize(run, order, target.task, fault);
}

void cli_steer_close_inputs(struct cli_run *run)
{
    while (cli_inputs_close_all(&run->tools.inputs, run->manager) > 0 &&
           !cli_book_is_stopped(&run->book))
        cli_book_pause(&run->book, CLOSE_AGAIN_MS);
}
