/*
 * Tests of completion/events and reader by one thread: what goes in comes out, numbers, filters,
 * gaps, the eventfd's states, closing, limits, and every allocation failing once.
 */
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/memory.h"
#include "completion/events.h"
#include "support/case.h"

#define EVENTS_MAX 64u
#define MARGIN (EVENTS_MAX / 8)

static struct tr__events events;
static tr_event taken[2 * EVENTS_MAX];

static void prepare(void)
{
    CHECK_EQ_INT(tr__events_init(&events, EVENTS_MAX, 8), 0);
}

static tr_reader *open_reader(tr_session_id session, tr_turn_id turn, uint64_t types)
{
    tr_reader_options options = TR_READER_OPTIONS_INIT;
    tr_reader *reader = NULL;
    options.session = session;
    options.turn = turn;
    options.types = types;
    CHECK_EQ_INT(tr__reader_open(&events, &options, &reader), 0);
    return reader;
}

static void publish(tr_event_type type, tr_session_id session, tr_turn_id turn)
{
    static tr_event event;
    event.type = type;
    event.snapshot.session = session;
    event.snapshot.turn = turn;
    tr__events_publish(&events, &event);
}

static void publish_some(unsigned count)
{
    for (unsigned index = 0; index < count; index++) {
        publish(TR_EVENT_PROGRESS, 1, 1);
    }
}

static int read_now(tr_reader *reader)
{
    return tr_reader_read(reader, taken, 2 * EVENTS_MAX, 0);
}

static bool is_readable(int fd)
{
    struct pollfd look = {.fd = fd, .events = POLLIN};
    return poll(&look, 1, 0) == 1;
}

CASE(events, bounds_are_checked)
{
    CHECK_EQ_INT(tr__events_init(&events, 0, 1), TR_EINVAL);
    CHECK_EQ_INT(tr__events_init(&events, TR__EVENTS_MAX + 1, 1), TR_EINVAL);
    CHECK_EQ_INT(tr__events_init(&events, 1, 0), TR_EINVAL);
    CHECK_EQ_INT(tr__events_init(&events, 1, TR__EVENTS_READERS_MAX + 1), TR_EINVAL);
    CHECK_EQ_INT(tr__events_init(&events, 1000, 1), 0);
    CHECK_EQ_U64(events.capacity, 1024);
    tr__events_done(&events);
}

CASE(events, without_a_reader_nothing_is_recorded)
{
    prepare();
    CHECK(!tr__events_wanted(&events));
    publish_some(3);
    CHECK_EQ_U64(tr__events_recorded(&events), 0);
    CHECK(tr__load_relaxed(&events.slots) == NULL);
    tr_reader *reader = open_reader(0, 0, 0);
    CHECK(tr__events_wanted(&events));
    publish_some(1);
    CHECK_EQ_INT(read_now(reader), 1);
    CHECK_EQ_U64(taken[0].sequence, 1);
    tr_reader_close(reader);
    CHECK(!tr__events_wanted(&events));
    tr_reader_close(NULL);
    tr__events_done(&events);
}

static void fill(tr_event *event, uint16_t call_id_size, uint16_t metadata_size)
{
    memset(event, 0, sizeof *event);
    event->time_ns = 101;
    event->type = TR_EVENT_LOST;
    event->current = UINT64_MAX;
    event->total = 103;
    event->snapshot.task = UINT64_C(0x1234567890abcdef);
    event->snapshot.turn = 105;
    event->snapshot.session = 106;
    event->snapshot.tool = UINT32_MAX;
    event->snapshot.state = TR_STATE_ENDED;
    event->snapshot.kind = TR_KIND_BACKGROUND;
    event->snapshot.outcome = TR_OUTCOME_LOST;
    event->snapshot.delivery = TR_DELIVERY_MANUAL;
    event->snapshot.continuation = TR_CONTINUE_REQUEST;
    event->snapshot.accepted_ns = 107;
    event->snapshot.started_ns = 108;
    event->snapshot.ended_ns = 109;
    event->snapshot.tool_name = "shell";
    event->snapshot.user = event;
    event->snapshot.call_id_size = call_id_size;
    event->snapshot.metadata_size = metadata_size;
    for (unsigned at = 0; at < call_id_size; at++) {
        event->snapshot.call_id[at] = (unsigned char)(at + 1);
    }
    for (unsigned at = 0; at < metadata_size; at++) {
        event->snapshot.metadata[at] = (unsigned char)(at * 7 + 3);
    }
}

static void check_same(const tr_event *left, const tr_event *right)
{
    const tr_snapshot *a = &left->snapshot;
    const tr_snapshot *b = &right->snapshot;
    CHECK_EQ_U64(left->time_ns, right->time_ns);
    CHECK_EQ_INT(left->type, right->type);
    CHECK_EQ_U64(left->current, right->current);
    CHECK_EQ_U64(left->total, right->total);
    CHECK_EQ_U64(a->task, b->task);
    CHECK_EQ_U64(a->turn, b->turn);
    CHECK_EQ_U64(a->session, b->session);
    CHECK_EQ_U64(a->tool, b->tool);
    CHECK_EQ_INT(a->state, b->state);
    CHECK_EQ_INT(a->kind, b->kind);
    CHECK_EQ_INT(a->outcome, b->outcome);
    CHECK_EQ_INT(a->delivery, b->delivery);
    CHECK_EQ_INT(a->continuation, b->continuation);
    CHECK_EQ_INT(a->cancel_requested, b->cancel_requested);
    CHECK_EQ_INT(a->detached, b->detached);
    CHECK_EQ_INT(a->approval_pending, b->approval_pending);
    CHECK_EQ_INT(a->deferred, b->deferred);
    CHECK_EQ_U64(a->accepted_ns, b->accepted_ns);
    CHECK_EQ_U64(a->started_ns, b->started_ns);
    CHECK_EQ_U64(a->ended_ns, b->ended_ns);
    CHECK_EQ_PTR(a->tool_name, b->tool_name);
    CHECK_EQ_PTR(a->user, b->user);
    CHECK_EQ_INT(a->call_id_size, b->call_id_size);
    CHECK_EQ_INT(a->metadata_size, b->metadata_size);
    CHECK_EQ_INT(memcmp(a->call_id, b->call_id, a->call_id_size), 0);
    CHECK_EQ_INT(memcmp(a->metadata, b->metadata, a->metadata_size), 0);
}

CASE(events, everything_comes_out_as_it_went_in)
{
    static const uint16_t call_id_sizes[] = {0, 1, 7, 8, 9, 79, 80, 81, 127, 128};
    static const uint16_t metadata_sizes[] = {0, 1, 8, 15, 80, 81, 511, 512};
    static tr_event in;
    tr_event *out = taken;

    prepare();
    tr_reader *reader = open_reader(0, 0, 0);
    for (unsigned i = 0; i < sizeof call_id_sizes / sizeof call_id_sizes[0]; i++) {
        for (unsigned j = 0; j < sizeof metadata_sizes / sizeof metadata_sizes[0]; j++) {
            fill(&in, call_id_sizes[i], metadata_sizes[j]);
            tr__events_publish(&events, &in);
            memset(out, 0xee, sizeof *out);
            CHECK_EQ_INT(read_now(reader), 1);
            check_same(out, &in);
            if (in.snapshot.metadata_size < TR_METADATA_BYTES_MAX) { /* no byte behind the used */
                CHECK_EQ_INT(out->snapshot.metadata[in.snapshot.metadata_size], 0xee);
            }
        }
    }
    tr__events_done(&events); /* with the reader open */
}

CASE(events, each_flag_stands_alone)
{
    static tr_event in;
    prepare();
    tr_reader *reader = open_reader(0, 0, 0);
    for (unsigned flag = 0; flag < 4; flag++) {
        fill(&in, 0, 0);
        in.snapshot.cancel_requested = flag == 0;
        in.snapshot.detached = flag == 1;
        in.snapshot.approval_pending = flag == 2;
        in.snapshot.deferred = flag == 3;
        tr__events_publish(&events, &in);
        CHECK_EQ_INT(read_now(reader), 1);
        check_same(&taken[0], &in);
    }
    tr_reader_close(reader);
    tr__events_done(&events);
}

CASE(events, every_reader_sees_the_same_numbers_from_its_opening_on)
{
    prepare();
    tr_reader *first = open_reader(0, 0, 0);
    publish_some(2);
    tr_reader *second = open_reader(0, 0, 0);
    CHECK_EQ_INT(read_now(second), 0);
    publish_some(3);
    CHECK_EQ_INT(read_now(first), 5);
    CHECK_EQ_U64(taken[0].sequence, 1);
    CHECK_EQ_U64(taken[4].sequence, 5);
    CHECK_EQ_INT(tr_reader_read(second, taken, 2, 0), 2);
    CHECK_EQ_U64(taken[0].sequence, 3);
    CHECK_EQ_U64(taken[1].sequence, 4);
    CHECK_EQ_INT(read_now(second), 1);
    CHECK_EQ_U64(taken[0].sequence, 5);
    CHECK_EQ_INT(read_now(second), 0);
    /* No reader for a while: what happens then has no number. */
    tr_reader_close(first);
    tr_reader_close(second);
    first = open_reader(0, 0, 0);
    publish_some(1);
    CHECK_EQ_INT(read_now(first), 1);
    CHECK_EQ_U64(taken[0].sequence, 6);
    tr_reader_close(first);
    tr__events_done(&events);
}

CASE(events, filters_show_what_was_asked_for)
{
    prepare();
    tr_reader *by_session = open_reader(7, 0, 0);
    tr_reader *by_turn = open_reader(0, 20, 0);
    tr_reader *by_type =
        open_reader(0, 0, UINT64_C(1) << TR_EVENT_FAILED | UINT64_C(1) << TR_EVENT_QUEUED);
    tr_reader *by_all = open_reader(7, 20, UINT64_C(1) << TR_EVENT_FAILED);

    publish(TR_EVENT_QUEUED, 7, 10);    /* 1 */
    publish(TR_EVENT_STARTED, 7, 20);   /* 2 */
    publish(TR_EVENT_FAILED, 8, 20);    /* 3 */
    publish(TR_EVENT_FAILED, 7, 20);    /* 4 */
    publish(TR_EVENT_COMPLETED, 9, 30); /* 5 */

    CHECK_EQ_INT(read_now(by_session), 3);
    CHECK_EQ_U64(taken[0].sequence, 1);
    CHECK_EQ_U64(taken[1].sequence, 2);
    CHECK_EQ_U64(taken[2].sequence, 4);
    CHECK_EQ_INT(read_now(by_turn), 3);
    CHECK_EQ_U64(taken[0].sequence, 2);
    CHECK_EQ_U64(taken[1].sequence, 3);
    CHECK_EQ_INT(read_now(by_type), 3);
    CHECK_EQ_U64(taken[1].sequence, 3);
    CHECK_EQ_INT(taken[1].type, TR_EVENT_FAILED);
    CHECK_EQ_INT(read_now(by_all), 1);
    CHECK_EQ_U64(taken[0].sequence, 4);
    CHECK_EQ_INT(read_now(by_all), 0);
    tr__events_done(&events);
}

CASE(events, one_exactly_a_log_behind_misses_nothing)
{
    prepare();
    tr_reader *reader = open_reader(0, 0, 0);
    publish_some(EVENTS_MAX);
    CHECK_EQ_INT(read_now(reader), EVENTS_MAX);
    CHECK_EQ_U64(taken[0].sequence, 1);
    tr__events_done(&events);
}

CASE(events, one_further_behind_gets_one_gap_that_adds_up)
{
    prepare();
    tr_reader *reader = open_reader(0, 0, 0);
    tr_reader *filtered = open_reader(5, 0, UINT64_C(1) << TR_EVENT_QUEUED);
    publish_some(3);
    CHECK_EQ_INT(read_now(reader), 3);
    publish_some(3 * EVENTS_MAX);
    CHECK_EQ_INT(read_now(reader), 1 + EVENTS_MAX - MARGIN);
    CHECK_EQ_INT(taken[0].type, TR_EVENT_GAP);
    CHECK_EQ_U64(taken[0].current, 2 * EVENTS_MAX + MARGIN);
    CHECK_EQ_U64(taken[0].sequence, 3 + taken[0].current); /* the last one missed */
    CHECK_EQ_U64(taken[0].snapshot.task, 0);
    CHECK_EQ_U64(taken[1].sequence, taken[0].sequence + 1);
    CHECK_EQ_INT(taken[1].type, TR_EVENT_PROGRESS);
    CHECK_EQ_U64(taken[EVENTS_MAX - MARGIN].sequence, 3 + 3 * EVENTS_MAX);
    CHECK_EQ_INT(read_now(reader), 0);
    CHECK_EQ_INT(read_now(filtered), 1); /* the gap comes through any filter */
    CHECK_EQ_INT(taken[0].type, TR_EVENT_GAP);
    CHECK_EQ_U64(taken[0].current, 3 + 2 * EVENTS_MAX + MARGIN);
    CHECK_EQ_INT(read_now(filtered), 0);
    tr__events_done(&events);
}

CASE(events, a_gap_alone_fills_the_smallest_room)
{
    prepare();
    tr_reader *reader = open_reader(0, 0, 0);
    publish_some(EVENTS_MAX + 1);
    CHECK_EQ_INT(tr_reader_read(reader, taken, 1, 0), 1);
    CHECK_EQ_INT(taken[0].type, TR_EVENT_GAP);
    CHECK_EQ_U64(taken[0].current, 1 + MARGIN);
    CHECK_EQ_INT(tr_reader_read(reader, taken, 1, 0), 1);
    CHECK_EQ_U64(taken[0].sequence, 2 + MARGIN);
    tr__events_done(&events);
}

CASE(events, a_log_of_one_event_works)
{
    CHECK_EQ_INT(tr__events_init(&events, 1, 1), 0);
    tr_reader *reader = open_reader(0, 0, 0);
    publish_some(1);
    CHECK_EQ_INT(read_now(reader), 1);
    publish_some(3);
    CHECK_EQ_INT(read_now(reader), 2);
    CHECK_EQ_U64(taken[0].current, 2);
    CHECK_EQ_U64(taken[1].sequence, 4);
    tr__events_done(&events);
}

CASE(events, descriptor_follows_what_is_there)
{
    prepare();
    tr_reader *reader = open_reader(0, 0, 0);
    publish_some(1);
    int fd = tr_reader_fd(reader);
    CHECK(fd >= 0);
    CHECK_EQ_INT(tr_reader_fd(reader), fd);
    CHECK_EQ_INT(fcntl(fd, F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
    CHECK(is_readable(fd)); /* something was there before it */
    for (unsigned round = 0; round < 3; round++) {
        CHECK_EQ_INT(read_now(reader), round == 0 ? 1 : 2);
        CHECK(!is_readable(fd));
        publish_some(1);
        CHECK(is_readable(fd));
        publish_some(1);
    }
    CHECK_EQ_INT(tr_reader_read(reader, taken, 1, 0), 1);
    CHECK(is_readable(fd)); /* one is left */
    CHECK_EQ_INT(read_now(reader), 1);
    CHECK(!is_readable(fd));
    tr_reader_close(reader);
    CHECK_EQ_INT(fcntl(fd, F_GETFD), -1);
    tr__events_done(&events);
}

CASE(events, descriptor_of_a_filtered_reader_stays_quiet_for_half_a_log)
{
    prepare();
    tr_reader *reader = open_reader(2, 0, 0);
    int fd = tr_reader_fd(reader);
    CHECK(!is_readable(fd));
    publish_some(EVENTS_MAX / 2 - 1);
    CHECK(!is_readable(fd));
    publish(TR_EVENT_QUEUED, 2, 2);
    CHECK(is_readable(fd));
    CHECK_EQ_INT(read_now(reader), 1);
    CHECK(!is_readable(fd));
    publish_some(EVENTS_MAX / 2 - 1);
    CHECK(!is_readable(fd));
    publish_some(1); /* now it had better move on, or it will be lapped */
    CHECK(is_readable(fd));
    CHECK_EQ_INT(read_now(reader), 0);
    CHECK(!is_readable(fd));
    tr__events_done(&events);
}

CASE(events, timeouts_are_kept)
{
    prepare();
    tr_reader *reader = open_reader(0, 0, 0);
    CHECK_EQ_INT(tr_reader_read(reader, taken, 1, 0), 0);
    uint64_t before_ns = tr__clock_now();
    CHECK_EQ_INT(tr_reader_read(reader, taken, 1, 2 * TR_MILLISECOND), 0);
    CHECK(tr__clock_now() - before_ns >= 2 * TR_MILLISECOND);
    CHECK_EQ_U64(tr__load_relaxed(&events.sleepers[0]), 0); /* awake: no publisher looks at it */
    publish_some(1);
    CHECK_EQ_INT(tr_reader_read(reader, taken, 1, TR_FOREVER), 1);
    tr__events_done(&events);
}

CASE(events, closing_ends_reading_when_all_is_taken)
{
    tr_reader *late = NULL;
    prepare();
    tr_reader *reader = open_reader(0, 0, 0);
    tr_reader *polling = open_reader(0, 0, 0);
    int fd = tr_reader_fd(polling);
    publish_some(2);
    CHECK_EQ_INT(tr_reader_read(polling, taken, 3, 0), 2);
    CHECK(!is_readable(fd));
    tr__events_close(&events);
    CHECK(is_readable(fd));
    CHECK_EQ_INT(tr_reader_read(reader, taken, 1, TR_FOREVER), 1);
    CHECK_EQ_INT(tr_reader_read(reader, taken, 1, TR_FOREVER), 1);
    CHECK_EQ_INT(tr_reader_read(reader, taken, 1, TR_FOREVER), TR_ECLOSED);
    CHECK_EQ_INT(tr_reader_read(reader, taken, 1, 0), TR_ECLOSED);
    CHECK_EQ_INT(read_now(polling), TR_ECLOSED);
    CHECK(is_readable(fd));
    CHECK(is_readable(tr_reader_fd(reader))); /* made after the closing */
    CHECK_EQ_INT(tr__reader_open(&events, NULL, &late), TR_ECLOSED);
    CHECK(late == NULL);
    tr__events_close(&events);
    tr_reader_close(reader);
    tr__events_done(&events);
}

CASE(events, bad_arguments_are_refused)
{
    struct {
        tr_reader_options known;
        uint64_t unknown;
    } longer = {.known = TR_READER_OPTIONS_INIT};
    tr_reader_options options = TR_READER_OPTIONS_INIT;
    tr_reader *reader = NULL;

    prepare();
    CHECK_EQ_INT(tr__reader_open(&events, NULL, NULL), TR_EINVAL);
    options.size = sizeof options - 1;
    CHECK_EQ_INT(tr__reader_open(&events, &options, &reader), TR_EINVAL);
    options.size = SIZE_MAX;
    CHECK_EQ_INT(tr__reader_open(&events, &options, &reader), TR_EINVAL);
    options.size = sizeof options;
    options.types = 1; /* TR_EVENT_NONE is none */
    CHECK_EQ_INT(tr__reader_open(&events, &options, &reader), TR_EINVAL);
    options.types = UINT64_C(1) << (TR_EVENT_GAP + 1);
    CHECK_EQ_INT(tr__reader_open(&events, &options, &reader), TR_EINVAL);
    longer.known.size = sizeof longer;
    longer.unknown = 1;
    CHECK_EQ_INT(tr__reader_open(&events, &longer.known, &reader), TR_EINVAL);
    CHECK(reader == NULL && !tr__events_wanted(&events));
    longer.unknown = 0;
    CHECK_EQ_INT(tr__reader_open(&events, &longer.known, &reader), 0);
    CHECK_EQ_INT(tr_reader_read(NULL, taken, 1, 0), TR_EINVAL);
    CHECK_EQ_INT(tr_reader_read(reader, NULL, 1, 0), TR_EINVAL);
    CHECK_EQ_INT(tr_reader_read(reader, taken, 0, 0), TR_EINVAL);
    CHECK_EQ_INT(tr_reader_fd(NULL), TR_EINVAL);
    tr__events_done(&events);
}

CASE(events, two_threads_in_one_reader_are_told_so)
{
    prepare();
    tr_reader *reader = open_reader(0, 0, 0);
    CHECK(tr__token_try_take(&reader->token)); /* as the other thread would */
    CHECK_EQ_INT(tr_reader_read(reader, taken, 1, 0), TR_EBUSY);
    CHECK_EQ_INT(tr_reader_fd(reader), TR_EBUSY);
    tr__token_give(&reader->token);
    CHECK_EQ_INT(tr_reader_read(reader, taken, 1, 0), 0);
    tr__events_done(&events);
}

CASE(events, readers_are_limited_and_their_places_reused)
{
    tr_reader *readers[130];
    tr_reader *beyond = NULL;

    CHECK_EQ_INT(tr__events_init(&events, EVENTS_MAX, 130), 0);
    for (unsigned index = 0; index < 130; index++) {
        CHECK_EQ_INT(tr__reader_open(&events, NULL, &readers[index]), 0);
        CHECK(tr_reader_fd(readers[index]) >= 0);
    }
    CHECK_EQ_INT(tr__reader_open(&events, NULL, &beyond), TR_ELIMIT);
    publish_some(1); /* all of them are armed, in three words */
    for (unsigned index = 0; index < 130; index++) {
        CHECK(is_readable(tr_reader_fd(readers[index])));
    }
    tr_reader_close(readers[100]);
    CHECK_EQ_INT(tr__reader_open(&events, NULL, &beyond), 0);
    CHECK_EQ_PTR(beyond, readers[100]);
    CHECK_EQ_INT(read_now(beyond), 0); /* the one before it is forgotten */
    CHECK_EQ_INT(read_now(readers[129]), 1);
    tr__events_done(&events);
}

CASE(events, no_memory_opens_no_reader)
{
    tr_reader *reader = NULL;
    prepare();
    for (long nth = 1; nth <= 3; nth++) {
        tr__memory_fail_after(nth);
        CHECK_EQ_INT(tr__reader_open(&events, NULL, &reader), TR_ENOMEM);
        CHECK_EQ_INT(tr__memory_fail_left(), 0);
        CHECK(reader == NULL && !tr__events_wanted(&events));
    }
    tr__memory_fail_after(4);
    CHECK_EQ_INT(tr__reader_open(&events, NULL, &reader), 0);
    CHECK_EQ_INT(tr__memory_fail_left(), 1); /* three are all it needs */
    tr__memory_fail_after(-1);
    publish_some(1);
    CHECK_EQ_INT(read_now(reader), 1);
    tr__events_done(&events);
}
