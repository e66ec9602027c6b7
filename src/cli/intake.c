/*
 * intake.c: carries out the lines of the input, one after the other.
 *
 * Thread: the reader (main). Calls lines, order, the book and the engine's launch and control.
 *
 * Back-pressure: a launch waits for room without limit, so a stream of any length runs in bounded
 * memory, and nothing is refused for want of room.
 *
 * A line that cannot be used is a fault: it is reported on standard error and as an error line,
 * with its number and the call id if it has one, and the next line goes on. What is wrong is
 * found before the engine is asked, so that the message names the member and not an error code.
 *
 * Invariants:
 *  1. A call line ends in exactly one of: accepted (its result line follows), fault, or dropped
 *     because the run is being ended.
 *  2. The book knows the call before the engine does (its user pointer), and forgets it only
 *     when the launch was refused.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lines.h"
#include "order.h"
#include "run.h"
#include "text.h"

enum {
    CALL_ID_ROOM = 32,
    REAL_DIGITS_LEAST = 15, /* what a double always has, … */
    REAL_DIGITS_MOST = 17   /* … and what always suffices to tell it from others */
};

/* Reports a line that cannot be used. */
static void report_fault(struct cli_run *run, uint64_t line, const char *call_id,
                         const struct cli_fault *fault)
{
    struct cli_text text = {0};
    cli_tally_fault(&run->tally);
    if (fault->column > 0)
        cli_output_say(&run->output, "line %" PRIu64 ", column %d: %s", line, fault->column,
                       fault->message);
    else
        cli_output_say(&run->output, "line %" PRIu64 ": %s", line, fault->message);
    cli_text_add(&text, "{\"type\":\"error\"");
    cli_text_field_u64(&text, "line", line);
    if (fault->column > 0)
        cli_text_field_u64(&text, "column", (uint64_t)fault->column);
    if (call_id != NULL)
        cli_text_field_string(&text, "call_id", call_id);
    cli_text_field_string(&text, "message", fault->message);
    cli_text_add(&text, "}\n");
    if (!text.failed)
        cli_output_write(&run->output, text.data, text.size);
    cli_text_done(&text);
}

/* Turns a refusal into words. Returns false, or true if the run is being ended: then it is no
 * fault. */
static bool refusal(int status, struct cli_fault *fault)
{
    if (status == TR_ECLOSED)
        return true;
    return cli_fault_set(fault, "call refused: %s (%s)", tr_error_message(status),
                         tr_error_name(status));
}

/* Writes an object as JSON text; "{}" for none. Returns NULL if memory is missing. */
static char *object_text(const json_t *object)
{
    return object == NULL ? strdup("{}") : json_dumps(object, JSON_COMPACT);
}

/* As object_text, for what is given back: numbers that are no integers have the fewest digits with
 * which all read back as the same, so 0.1 stays 0.1. */
static char *metadata_text(const json_t *object)
{
    for (size_t digits = REAL_DIGITS_LEAST; digits < REAL_DIGITS_MOST; digits++) {
        char *text = json_dumps(object, JSON_COMPACT | JSON_REAL_PRECISION(digits));
        json_t *back = text == NULL ? NULL : json_loads(text, JSON_ALLOW_NUL, NULL);
        bool same = json_equal(object, back) == 1;
        json_decref(back);
        if (same)
            return text;
        free(text);
    }
    return object_text(object);
}

static bool launch(struct cli_run *run, struct cli_call *call, tr_request *request,
                   struct cli_fault *fault)
{
    tr_launched launched;
    request->turn = call->turn->id;
    request->call_id = (tr_bytes){call->call_id, call->call_id_size};
    request->user = call;
    request->admit_timeout_ns = TR_FOREVER;
    int status = tr_launch(run->manager, request, &launched);
    if (status < 0) {
        cli_book_refused(&run->book, call);
        return refusal(status, fault);
    }
    cli_tally_accept(&run->tally);
    cli_book_launched(&run->book, call, launched.task, launched.kind);
    if (status == TR_READY)
        cli_results_deliver(run, launched.ready);
    return true;
}

/* Launches a call whose input and metadata are text. */
static bool enter_and_launch(struct cli_run *run, const struct cli_order *order,
                             const char *call_id, tr_request *request, struct cli_fault *fault)
{
    const char *session = order->session != NULL ? order->session : "default";
    const char *turn = order->turn != NULL ? order->turn : "default";
    bool in_front = order->options.route != TR_ROUTE_BACKGROUND;
    struct cli_call *call;
    int status = cli_book_enter(&run->book, session, turn, call_id, in_front, &call);
    if (status == TR_EEXIST)
        return cli_fault_set(fault, "call id \"%s\" is under way in session \"%s\"", call_id,
                             session);
    if (status < 0)
        return refusal(status, fault);
    call->abilities = cli_tools_abilities(&run->tools, request->tool, order->input);
    call->is_inline = order->options.route == TR_ROUTE_INLINE;
    return launch(run, call, request, fault);
}

static bool do_call(struct cli_run *run, const struct cli_order *order, uint64_t line,
                    struct cli_fault *fault)
{
    tr_request request = TR_REQUEST_INIT(0, 0);
    char own_id[CALL_ID_ROOM];
    if (tr_tool_find(run->manager, order->tool, &request.tool) < 0)
        return cli_fault_set(fault, "no tool is named \"%s\"", order->tool);
    (void)snprintf(own_id, sizeof(own_id), "line-%" PRIu64, line); /* the room suffices */
    char *input = object_text(order->input);
    char *metadata = order->metadata == NULL ? NULL : metadata_text(order->metadata);
    bool good = input != NULL && (metadata != NULL || order->metadata == NULL);
    if (!good) {
        (void)cli_fault_set(fault, "out of memory");
    } else if (metadata != NULL && strlen(metadata) > TR_METADATA_BYTES_MAX) {
        good = cli_fault_set(fault, "\"metadata\" is longer than %d bytes", TR_METADATA_BYTES_MAX);
    } else {
        request.input = (tr_bytes){input, strlen(input)};
        if (metadata != NULL)
            request.metadata = (tr_bytes){metadata, strlen(metadata)};
        request.options = order->options;
        good = enter_and_launch(run, order, order->call_id != NULL ? order->call_id : own_id,
                                &request, fault);
    }
    free(input);
    free(metadata);
    return good;
}

/* Cancels or detaches. A call that has ended is left alone: the line came too late, that is all. */
static bool do_task(struct cli_run *run, const struct cli_order *order, struct cli_fault *fault)
{
    struct cli_target target;
    switch (cli_book_find(&run->book, order->session, order->call_id, &target)) {
    case CLI_FOUND_NONE:
        return cli_fault_set(fault, "no call \"%s\" is known", order->call_id);
    case CLI_FOUND_ENDED:
        return true;
    case CLI_FOUND_LIVE:
        break;
    }
    /* TR_ENOENT and TR_EALREADY say that it has ended (or is background) by now. */
    if (order->op == CLI_OP_CANCEL)
        (void)tr_task_cancel(run->manager, target.task, "cancelled by the input");
    else
        (void)tr_task_detach(run->manager, target.task);
    return true;
}

static bool carry_out(struct cli_run *run, const struct cli_order *order, uint64_t line,
                      struct cli_fault *fault)
{
    const char *turn = order->turn != NULL ? order->turn : "default";
    switch (order->op) {
    case CLI_OP_CALL:
        return do_call(run, order, line, fault);
    case CLI_OP_WAIT:
        cli_book_wait_turn(&run->book, order->session, turn);
        return true;
    case CLI_OP_INTERRUPT:
        cli_book_interrupt(&run->book, order->session, turn);
        return true;
    case CLI_OP_CANCEL:
    case CLI_OP_DETACH:
        return do_task(run, order, fault);
    case CLI_OP_INPUT:
    case CLI_OP_SIGNAL:
    case CLI_OP_RESIZE:
    case CLI_OP_OUTPUT:
        return cli_steer(run, order, fault);
    case CLI_OP_PAUSE:
        cli_book_pause(&run->book, order->pause_ms);
        return true;
    case CLI_OP_IDLE:
        cli_book_wait_idle(&run->book);
        return true;
    }
    return true;
}

static bool is_blank(const char *line, size_t size)
{
    for (size_t index = 0; index < size; index++)
        if (strchr(" \t\r", line[index]) == NULL || line[index] == '\0')
            return false;
    return true;
}

static void take_line(struct cli_run *run, const char *line, size_t size, uint64_t number)
{
    struct cli_order order;
    struct cli_fault fault;
    if (is_blank(line, size))
        return;
    if (!cli_order_read(line, size, &order, &fault) || !carry_out(run, &order, number, &fault))
        report_fault(run, number, order.call_id, &fault);
    cli_order_done(&order);
}

void cli_intake(struct cli_run *run, int fd)
{
    struct cli_lines lines;
    struct cli_fault fault = {0};
    cli_lines_init(&lines, fd, run->control.quit_fd);
    bool more = true;
    while (more && !cli_book_is_stopped(&run->book)) {
        const char *line;
        size_t size;
        enum cli_line result = cli_lines_next(&lines, &line, &size);
        if (result == CLI_LINE_TEXT) {
            take_line(run, line, size, lines.number);
        } else if (result == CLI_LINE_OVERSIZE) {
            (void)cli_fault_set(&fault, "longer than %zu bytes; skipped", CLI_LINE_BYTES_MAX);
            report_fault(run, lines.number, NULL, &fault);
        } else {
            more = false;
            if (result == CLI_LINE_ERROR) {
                (void)cli_fault_set(&fault, "cannot read on: %s", strerror(errno));
                report_fault(run, lines.number + 1, NULL, &fault);
            }
        }
    }
    cli_lines_done(&lines);
    cli_steer_close_inputs(run);
}
