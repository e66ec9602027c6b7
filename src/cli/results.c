/*
 * results.c: result lines, written in the order of completion.
 *
 * Threads: the writer drains the queue that all sessions are bound to; the reader delivers the
 * batches of inline calls by itself. Calls the engine (drain, release), the output, the tally,
 * the book.
 *
 * Invariants:
 *  1. Each resolution becomes exactly one line, before its batch is released and before the book
 *     hears of it: when `wait` returns, the lines of its turn are written, and a call id is free
 *     again only when the line of its former call is out.
 *  2. A tool's output is copied as it is: it is one JSON object, which the tool guarantees.
 *  3. If memory for a line is missing the line is written without its output, and says so.
 *  4. The writer has memory before the first line is read: an allocator may serve each thread from
 *     a region of its own, and could refuse the first one that this thread asks for although the
 *     others still work. Calls would then be accepted whose lines nobody can write.
 *
 * Lines gather in a text up to LINES_BYTES_MAX and are then written in one call: at 10^6 small
 * calls that is some 200 lines per write, and a lone line is still written at once, since a batch
 * ends with a write.
 */
#include <poll.h>
#include <string.h>

#include "run.h"
#include "text.h"

enum {
    LINES_BYTES_MAX = 64 * 1024,
    LINES_KEPT_MAX = 1024 * 1024,
    BATCH_MAX = 256,
    MEMORY_PAUSE_MS = 20
};

static const char *channel_word(tr_channel channel)
{
    switch (channel) {
    case TR_CHANNEL_TURN:
        return "turn";
    case TR_CHANNEL_LOOP:
        return "loop";
    case TR_CHANNEL_READY:
        return "ready";
    case TR_CHANNEL_LAUNCH:
        return "launch";
    }
    return "unknown";
}

static void add_times(struct cli_text *text, const tr_item *item)
{
    bool started = item->started_ns != 0 && (item->flags & TR_ITEM_NOT_STARTED) == 0;
    uint64_t started_ns = started ? item->started_ns : item->ended_ns;
    cli_text_field_u64(text, "queued_us", (started_ns - item->accepted_ns) / 1000);
    cli_text_field_u64(text, "run_us", (item->ended_ns - started_ns) / 1000);
    cli_text_field_u64(text, "total_us", (item->ended_ns - item->accepted_ns) / 1000);
    if (!started)
        cli_text_field_bool(text, "not_started", true);
}

static void add_line(struct cli_text *text, const tr_item *item, bool with_output)
{
    const struct cli_call *call = item->user;
    char task[TR_TASK_TEXT_BYTES];
    cli_text_add(text, "{\"type\":\"result\",\"call_id\":");
    (void)cli_text_string(text, call->call_id, call->call_id_size); /* came as valid JSON */
    cli_text_field_string(text, "task", tr_task_text(item->task, task));
    cli_text_field_string(text, "turn", call->turn->label);
    cli_text_field_string(text, "session", call->turn->session->label);
    cli_text_field_string(text, "tool", item->tool_name);
    cli_text_field_string(text, "outcome", tr_outcome_name(item->outcome));
    if (item->reason != NULL && item->reason[0] != '\0')
        cli_text_field_string(text, "reason", item->reason);
    if (item->outcome != TR_OUTCOME_COMPLETED && item->code != 0)
        cli_text_field_string(text, "code", tr_error_name(item->code));
    cli_text_field_string(text, "kind",
                          item->kind == TR_KIND_FOREGROUND ? "foreground" : "background");
    cli_text_field_bool(text, "detached", (item->flags & TR_ITEM_WAS_DETACHED) != 0);
    cli_text_field_string(text, "channel", channel_word(item->channel));
    if ((item->flags & TR_ITEM_CONTINUE) != 0)
        cli_text_field_bool(text, "continue", true);
    if ((item->flags & TR_ITEM_ABANDONED) != 0)
        cli_text_field_bool(text, "abandoned", true);
    add_times(text, item);
    cli_text_field_bool(text, "is_error", item->outcome != TR_OUTCOME_COMPLETED);
    if (item->metadata.size > 0) {
        cli_text_field(text, "metadata");
        cli_text_bytes(text, item->metadata.data, item->metadata.size);
    }
    cli_text_field(text, "output");
    if (with_output && item->result.size > 0)
        cli_text_bytes(text, item->result.data, item->result.size);
    else
        cli_text_add(text, "null");
    if (!with_output)
        cli_text_field_bool(text, "output_lost", true);
    cli_text_add(text, "}\n");
}

static void flush(struct cli_run *run, struct cli_text *text)
{
    if (text->size > 0)
        cli_output_write(&run->output, text->data, text->size);
    cli_text_clear(text, LINES_KEPT_MAX);
}

/* Adds an item's line; when memory is short, the lines before it are written first. */
static void add_item(struct cli_run *run, struct cli_text *text, const tr_item *item)
{
    size_t before = text->size;
    add_line(text, item, true);
    if (!text->failed)
        return;
    text->size = before;
    flush(run, text);
    cli_text_done(text);
    add_line(text, item, true);
    if (!text->failed)
        return;
    cli_text_done(text);
    add_line(text, item, false);
    if (text->failed) {
        cli_text_done(text);
        cli_output_say(&run->output, "out of memory: the line of a call is lost");
    }
}

/* Delivers a batch by way of `text`, which is empty and is left empty. */
static void deliver(struct cli_run *run, struct cli_text *text, tr_batch *batch)
{
    for (size_t index = 0; index < batch->count; index++) {
        if (batch->items[index].type != TR_ITEM_RESOLUTION)
            continue;
        add_item(run, text, &batch->items[index]);
        if (text->size >= LINES_BYTES_MAX)
            flush(run, text);
    }
    flush(run, text);
    cli_tally_settle(&run->tally, batch->items, batch->count);
    cli_book_settle(&run->book, batch->items, batch->count);
    tr_batch_release(batch);
}

void cli_results_deliver(struct cli_run *run, tr_batch *batch)
{
    struct cli_text text = {0};
    deliver(run, &text, batch);
    cli_text_done(&text);
}

/* Nothing was taken for want of memory. What others release is not told to anybody, so this looks
 * again after a pause. Returns the number of items to ask for then. */
static size_t await_memory(struct cli_run *run, bool *said)
{
    if (!*said)
        cli_output_say(&run->output, "out of memory: results wait until there is some; SIGTERM "
                                     "twice gives them up");
    *said = true;
    (void)poll(NULL, 0, MEMORY_PAUSE_MS); /* only sleeps */
    return 1;
}

void *cli_results_thread(void *context)
{
    struct cli_run *run = context;
    struct cli_text text = {0};
    size_t items_max = BATCH_MAX;
    bool said = false;
    run->writer_able = cli_text_reserve(&text, 2 * (size_t)LINES_BYTES_MAX);
    (void)sem_post(&run->writer_ready); /* cannot overflow: posted once */
    for (;;) {
        tr_batch *batch = NULL;
        int count = tr_queue_drain(run->queue, TR_FOREVER, items_max, &batch);
        if (count == TR_ECLOSED)
            break;
        if (count == TR_ENOMEM) {
            items_max = await_memory(run, &said);
            continue;
        }
        if (count < 0) {
            cli_output_say(&run->output, "cannot take results: %s", tr_error_message(count));
            cli_control_stop(&run->control);
            break;
        }
        items_max = BATCH_MAX;
        if (batch != NULL)
            deliver(run, &text, batch);
    }
    cli_text_done(&text);
    return NULL;
}
