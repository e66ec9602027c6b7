/*
 * events.c: two readers of the event log. One reads as fast as it can and follows every task; while
 * it misses nothing, all it sees must be complete. The other is slow, misses much, and counts what
 * it missed.
 */
#include <poll.h>
#include <string.h>
#include <time.h>

#include "contract/contract.h"

static tr_reader *readers[2];

void events_open(void)
{
    for (unsigned i = 0; i < 2; i++) {
        int result = tr_reader_open(world->manager, NULL, &readers[i]);
        MUST(result == 0, "tr_reader_open: %s", tr_error_name(result));
    }
}

/* Where a reader is. */
struct place_in_log {
    uint64_t sequence; /* of the last event */
    uint64_t missed;   /* since then */
};

static void check_sequence(struct place_in_log *place, const tr_event *event, const char *who)
{
    if (event->type == TR_EVENT_GAP) {
        MUST(event->current > 0, "the %s reader: an empty gap", who);
        place->missed += event->current;
        return;
    }
    uint64_t expected = place->sequence + place->missed + 1;
    MUST(event->sequence == expected, "the %s reader: event %llu, %llu was due after a gap of %llu",
         who, (unsigned long long)event->sequence, (unsigned long long)expected,
         (unsigned long long)place->missed);
    place->sequence = event->sequence;
    place->missed = 0;
}

static void check_terminal(const tr_event *event, struct record *record)
{
    static const tr_outcome outcomes[] = {
        [TR_EVENT_COMPLETED] = TR_OUTCOME_COMPLETED, [TR_EVENT_FAILED] = TR_OUTCOME_FAILED,
        [TR_EVENT_CANCELLED] = TR_OUTCOME_CANCELLED, [TR_EVENT_TIMED_OUT] = TR_OUTCOME_TIMED_OUT,
        [TR_EVENT_DENIED] = TR_OUTCOME_DENIED,       [TR_EVENT_LOST] = TR_OUTCOME_LOST,
    };
    const tr_snapshot *snapshot = &event->snapshot;
    MUST(record->event_terminal++ == 0, "call %u: a second terminal event, %d", record->index,
         (int)event->type);
    record->event_outcome = (int)outcomes[event->type];
    MUST(snapshot->state == TR_STATE_ENDED && snapshot->outcome == outcomes[event->type],
         "call %u: event %d shows state %d, outcome %d", record->index, (int)event->type,
         (int)snapshot->state, (int)snapshot->outcome);
}

static void check_order(const tr_event *event, struct record *record)
{
    unsigned call = record->index;
    bool whole = !world->gapped;
    if (event->type == TR_EVENT_QUEUED) {
        MUST(record->event_queued++ == 0 && record->event_started == 0 &&
                 record->event_detached == 0 && record->event_terminal == 0,
             "call %u: QUEUED out of order", call);
        return;
    }
    MUST(!whole || record->event_queued == 1, "call %u: event %d before QUEUED", call,
         (int)event->type);
    if (event->type == TR_EVENT_CONTINUE_REQUESTED) {
        MUST((!whole || record->event_terminal == 1) && record->event_continue++ == 0,
             "call %u: CONTINUE_REQUESTED out of order", call);
        return;
    }
    MUST(record->event_terminal == 0, "call %u: event %d after its terminal one, %d", call,
         (int)event->type, record->event_outcome);
    switch (event->type) {
    case TR_EVENT_STARTED:
        MUST(record->event_started++ == 0, "call %u: STARTED twice", call);
        break;
    case TR_EVENT_DETACHED:
        MUST(record->event_detached++ == 0 && event->snapshot.detached, "call %u: DETACHED twice",
             call);
        break;
    case TR_EVENT_INPUT_REQUIRED:
        MUST(record->event_started == 0, "call %u: INPUT_REQUIRED after STARTED", call);
        break;
    case TR_EVENT_PROGRESS:
    case TR_EVENT_OUTPUT:
        MUST(!whole || record->event_started == 1, "call %u: PROGRESS before STARTED", call);
        break;
    default:
        check_terminal(event, record);
    }
}

static void check_event(const tr_event *event)
{
    const tr_snapshot *snapshot = &event->snapshot;
    struct record *record = record_of(snapshot->user);
    record_identify(record, snapshot->task);
    MUST(snapshot->turn == record->turn->id && snapshot->session == record->turn->session->id,
         "call %u: event %d of another turn", record->index, (int)event->type);
    MUST(snapshot->call_id_size == record->plan.call_id_bytes &&
             pattern_fits(pattern_seed(record, PATTERN_CALL_ID), snapshot->call_id,
                          snapshot->call_id_size) &&
             snapshot->metadata_size == record->plan.metadata_bytes &&
             pattern_fits(pattern_seed(record, PATTERN_METADATA), snapshot->metadata,
                          snapshot->metadata_size),
         "call %u: event %d with other bytes", record->index, (int)event->type);
    check_order(event, record);
}

void *reader_main(void *argument)
{
    static tr_event events[64];
    struct place_in_log place = {0, 0};
    (void)argument;
    for (;;) {
        at(30, "reading events");
        int count = tr_reader_read(readers[0], events, 64, 20 * TR_MILLISECOND);
        if (count == TR_ECLOSED) {
            break;
        }
        MUST(count >= 0, "tr_reader_read: %s", tr_error_name(count));
        for (int i = 0; i < count; i++) {
            check_sequence(&place, &events[i], "quick");
            if (events[i].type == TR_EVENT_GAP) {
                world->gapped = true;
            } else {
                check_event(&events[i]);
            }
        }
    }
    tr_reader_close(readers[0]);
    at(30, "has finished");
    return NULL;
}

void *slow_reader_main(void *argument)
{
    static tr_event events[8];
    struct place_in_log place = {0, 0};
    struct chance chance = chance_from(world->seed, 400);
    struct pollfd polls[2] = {{tr_reader_fd(readers[1]), POLLIN, 0}, {world->stop_fd, POLLIN, 0}};
    (void)argument;
    MUST(polls[0].fd >= 0, "tr_reader_fd: %s", tr_error_name(polls[0].fd));
    for (;;) {
        struct timespec pause = {0, (long)chance_below(&chance, 3000) * 1000};
        at(31, "reading events slowly");
        (void)poll(polls, 2, 50);
        int count = tr_reader_read(readers[1], events, 8, 0);
        if (count == TR_ECLOSED) {
            break;
        }
        MUST(count >= 0, "tr_reader_read: %s", tr_error_name(count));
        for (int i = 0; i < count; i++) {
            check_sequence(&place, &events[i], "slow");
            if (events[i].type != TR_EVENT_GAP) {
                record_identify(record_of(events[i].snapshot.user), events[i].snapshot.task);
            }
        }
        if (!world->stopping) {
            (void)nanosleep(&pause, NULL);
        }
    }
    tr_reader_close(readers[1]);
    at(31, "has finished");
    return NULL;
}

/* After both have left: the quick reader has seen everything, unless it has missed some. */
void check_events(void)
{
    for (uint32_t i = 0; i < world->indexes * GROUP_MAX && !world->gapped; i++) {
        const struct record *record = &world->records[i];
        if (record->launch != LAUNCH_ACCEPTED) {
            continue;
        }
        MUST(record->event_queued == 1 && record->event_terminal == 1,
             "call %u: %u QUEUED, %u terminal events", record->index, record->event_queued,
             record->event_terminal);
        if (record->resolutions == 0) {
            continue;
        }
        bool request =
            record->channel == TR_CHANNEL_LOOP && (record->flags & TR_ITEM_CONTINUE) != 0;
        bool started = (record->flags & TR_ITEM_NOT_STARTED) == 0;
        bool detached = (record->flags & TR_ITEM_WAS_DETACHED) != 0;
        MUST(record->event_outcome == record->outcome, "call %u: event of outcome %d, item of %d",
             record->index, record->event_outcome, record->outcome);
        MUST(record->event_continue == request, "call %u: %u CONTINUE_REQUESTED, %d expected",
             record->index, record->event_continue, request);
        MUST(record->event_started == started, "call %u: %u STARTED, %d expected", record->index,
             record->event_started, started);
        MUST(record->event_detached == detached, "call %u: %u DETACHED, %d expected", record->index,
             record->event_detached, detached);
    }
}
