/*
 * events.c: event lines, for --events.
 *
 * Threads: one thread, reading the engine's event log with a reader of its own. Calls the book
 * for the labels of turns, and the output.
 *
 * Events inform. A result never waits for them, and when this thread falls behind (because
 * nobody reads the output, say) it gets a gap, which is shown as such.
 *
 * Invariants:
 *  1. Labels are looked up right after the events were taken, before anything can block: see
 *     places.c for why the turn is still known then.
 *  2. Lines are written whole, as results are, between results.
 */
#include <stdlib.h>

#include "run.h"
#include "text.h"

enum {
    EVENTS_MAX = 64,
    TEXT_KEPT_MAX = 256 * 1024
};

static void add_task(struct cli_run *run, struct cli_text *text, const tr_snapshot *snapshot)
{
    char task[TR_TASK_TEXT_BYTES];
    char session[TR_LABEL_BYTES_MAX + 1], turn[TR_LABEL_BYTES_MAX + 1];
    cli_text_field(text, "call_id");
    (void)cli_text_string(text, snapshot->call_id, snapshot->call_id_size); /* came as JSON */
    cli_text_field_string(text, "task", tr_task_text(snapshot->task, task));
    if (cli_book_labels(&run->book, snapshot->turn, session, turn)) {
        cli_text_field_string(text, "turn", turn);
        cli_text_field_string(text, "session", session);
    }
    cli_text_field_string(text, "tool", snapshot->tool_name);
    cli_text_field_string(text, "kind",
                          snapshot->kind == TR_KIND_FOREGROUND ? "foreground" : "background");
    cli_text_field_string(text, "state", tr_state_name(snapshot->state));
    if (snapshot->metadata_size > 0) {
        cli_text_field(text, "metadata");
        cli_text_bytes(text, snapshot->metadata, snapshot->metadata_size);
    }
}

static void add_line(struct cli_run *run, struct cli_text *text, const tr_event *event)
{
    cli_text_add(text, "{\"type\":\"event\",\"event\":\"");
    cli_text_add(text, tr_event_name(event->type));
    cli_text_add(text, "\"");
    cli_text_field_u64(text, "sequence", event->sequence);
    if (event->type == TR_EVENT_GAP) {
        cli_text_field_u64(text, "missed", event->current);
        cli_text_add(text, "}\n");
        return;
    }
    uint64_t began_ns = run->tally.began_ns; /* written once, before this thread was started */
    cli_text_field_u64(text, "time_us",
                       event->time_ns > began_ns ? (event->time_ns - began_ns) / 1000 : 0);
    add_task(run, text, &event->snapshot);
    if (event->type == TR_EVENT_PROGRESS || event->type == TR_EVENT_OUTPUT)
        cli_text_field_u64(text, "current", event->current);
    if (event->type == TR_EVENT_PROGRESS && event->total > 0)
        cli_text_field_u64(text, "total", event->total);
    cli_text_add(text, "}\n");
}

void *cli_events_thread(void *context)
{
    struct cli_run *run = context;
    struct cli_text text = {0};
    tr_event *events = calloc(EVENTS_MAX, sizeof(*events));
    while (events != NULL) {
        int count = tr_reader_read(run->event_reader, events, EVENTS_MAX, TR_FOREVER);
        if (count < 0)
            break;
        for (int index = 0; index < count; index++)
            add_line(run, &text, &events[index]);
        if (text.failed)
            cli_output_say(&run->output, "out of memory: some events are not shown");
        else if (text.size > 0)
            cli_output_write(&run->output, text.data, text.size);
        cli_text_clear(&text, TEXT_KEPT_MAX);
    }
    if (events == NULL)
        cli_output_say(&run->output, "out of memory: events are not shown");
    free(events);
    cli_text_done(&text);
    return NULL;
}
