/*
 * Tests of completion/events and reader with several threads: many publishers, several readers at
 * different speeds. Every reader accounts for every number exactly once, as an event or in a gap;
 * no event is torn; each publisher's events come in its order; no sleeping reader is forgotten.
 */
#include <poll.h>
#include <pthread.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "base/clock.h"
#include "completion/events.h"
#include "support/case.h"
#include "support/wait.h"

#define PUBLISHERS 3u

#if defined(TR__WITH_TSAN)
#define EVENTS_EACH 4000u
#else
#define EVENTS_EACH 60000u
#endif

#define EVENTS_ALL ((uint64_t)PUBLISHERS * EVENTS_EACH)

enum pace {
    FAST,
    SLOW,
    POLLING,
    BIT_BY_BIT,
    PACES
};

static struct tr__events events;
static tr__atomic_u32 publishers_left;
static tr__atomic_u32 read_so_far; /* by the reader that publishers wait for */

struct reading {
    tr_reader *reader;
    enum pace pace;
    uint64_t account; /* last number seen or counted as missed */
    uint64_t seen;
    uint64_t missed;
    uint64_t last[PUBLISHERS]; /* each one's own count, to check its order */
};

/* Everything in the event follows from publisher and number: a mixture of two does not fit. */
static void make(tr_event *event, unsigned publisher, uint64_t number)
{
    tr_snapshot *snapshot = &event->snapshot;
    uint64_t mixed = (number * PUBLISHERS + publisher) * UINT64_C(0x9e3779b97f4a7c15);

    event->type = (tr_event_type)(1 + mixed % (TR_EVENT_GAP - 1));
    event->time_ns = mixed;
    event->current = number;
    event->total = mixed ^ 1;
    snapshot->task = mixed ^ 2;
    snapshot->turn = publisher + 1;
    snapshot->session = number % 16 + 1;
    snapshot->tool = (tr_tool_id)mixed;
    snapshot->accepted_ns = mixed ^ 3;
    snapshot->started_ns = mixed ^ 4;
    snapshot->ended_ns = mixed ^ 5;
    snapshot->call_id_size = (uint16_t)(mixed >> 8 & 127);
    snapshot->metadata_size = (uint16_t)((mixed >> 16 & 7) == 0 ? 512 : mixed >> 24 & 31);
    memset(snapshot->call_id, (int)(mixed >> 32 & 255), snapshot->call_id_size);
    memset(snapshot->metadata, (int)(mixed >> 40 & 255), snapshot->metadata_size);
}

static void check_whole(const tr_event *event)
{
    static _Thread_local tr_event expected;
    const tr_snapshot *have = &event->snapshot;
    const tr_snapshot *want = &expected.snapshot;

    CHECK(have->turn >= 1 && have->turn <= PUBLISHERS);
    make(&expected, (unsigned)have->turn - 1, event->current);
    CHECK_EQ_INT(event->type, expected.type);
    CHECK_EQ_U64(event->time_ns, expected.time_ns);
    CHECK_EQ_U64(event->total, expected.total);
    CHECK_EQ_U64(have->task, want->task);
    CHECK_EQ_U64(have->session, want->session);
    CHECK_EQ_U64(have->tool, want->tool);
    CHECK_EQ_U64(have->accepted_ns, want->accepted_ns);
    CHECK_EQ_U64(have->started_ns, want->started_ns);
    CHECK_EQ_U64(have->ended_ns, want->ended_ns);
    CHECK_EQ_INT(have->call_id_size, want->call_id_size);
    CHECK_EQ_INT(have->metadata_size, want->metadata_size);
    CHECK_EQ_INT(memcmp(have->call_id, want->call_id, want->call_id_size), 0);
    CHECK_EQ_INT(memcmp(have->metadata, want->metadata, want->metadata_size), 0);
}

static void *publish_all(void *argument)
{
    static _Thread_local tr_event event;
    unsigned publisher = (unsigned)(uintptr_t)argument;
    for (uint64_t number = 1; number <= EVENTS_EACH; number++) {
        make(&event, publisher, number);
        tr__events_publish(&events, &event);
    }
    (void)tr__fetch_sub_release(&publishers_left, 1u);
    return NULL;
}

static void account_for(struct reading *reading, const tr_event *taken, int count)
{
    for (int index = 0; index < count; index++) {
        const tr_event *event = &taken[index];
        if (event->type == TR_EVENT_GAP) {
            CHECK(event->current > 0);
            CHECK_EQ_U64(event->sequence, reading->account + event->current);
            reading->missed += event->current;
        } else {
            CHECK_EQ_U64(event->sequence, reading->account + 1);
            check_whole(event);
            uint64_t *last = &reading->last[event->snapshot.turn - 1];
            CHECK(event->current > *last);
            *last = event->current;
            reading->seen += 1;
        }
        reading->account = event->sequence;
    }
}

static void *read_all(void *argument)
{
    static _Thread_local tr_event taken[256];
    struct reading *reading = argument;
    size_t room = reading->pace == BIT_BY_BIT ? 1 : 256;
    uint64_t timeout_ns = reading->pace == POLLING ? 0 : TR_FOREVER;
    struct epoll_event ready = {.events = EPOLLIN};
    int poller = -1;

    if (reading->pace == POLLING) {
        poller = epoll_create1(EPOLL_CLOEXEC);
        CHECK_EQ_INT(epoll_ctl(poller, EPOLL_CTL_ADD, tr_reader_fd(reading->reader), &ready), 0);
    }
    for (;;) {
        if (poller >= 0) {
            CHECK_EQ_INT(epoll_wait(poller, &ready, 1, -1), 1);
        }
        int count = tr_reader_read(reading->reader, taken, room, timeout_ns);
        if (count == TR_ECLOSED) {
            break;
        }
        CHECK(count > 0 || poller >= 0);
        account_for(reading, taken, count);
        for (unsigned spin = 0; reading->pace == SLOW && spin < 100; spin++) {
            (void)sched_yield();
        }
    }
    if (poller >= 0) {
        CHECK_EQ_INT(close(poller), 0);
    }
    return NULL;
}

static void start_publishers(pthread_t threads[PUBLISHERS])
{
    tr__store_relaxed(&publishers_left, PUBLISHERS);
    for (unsigned index = 0; index < PUBLISHERS; index++) {
        CHECK_EQ_INT(pthread_create(&threads[index], NULL, publish_all, (void *)(uintptr_t)index),
                     0);
    }
}

static void join(pthread_t *threads, unsigned count)
{
    for (unsigned index = 0; index < count; index++) {
        CHECK_EQ_INT(pthread_join(threads[index], NULL), 0);
    }
}

static void many_to_many(uint32_t events_max)
{
    pthread_t publishers[PUBLISHERS];
    pthread_t readers[PACES];
    static struct reading readings[PACES];

    CHECK_EQ_INT(tr__events_init(&events, events_max, PACES), 0);
    for (unsigned index = 0; index < PACES; index++) {
        readings[index] = (struct reading){.pace = (enum pace)index};
        CHECK_EQ_INT(tr__reader_open(&events, NULL, &readings[index].reader), 0);
        CHECK_EQ_INT(pthread_create(&readers[index], NULL, read_all, &readings[index]), 0);
    }
    start_publishers(publishers);
    join(publishers, PUBLISHERS);
    tr__events_close(&events);
    join(readers, PACES);
    CHECK_EQ_U64(tr__events_recorded(&events), EVENTS_ALL);
    for (unsigned index = 0; index < PACES; index++) {
        CHECK_EQ_U64(readings[index].account, EVENTS_ALL);
        CHECK_EQ_U64(readings[index].seen + readings[index].missed, EVENTS_ALL);
        tr_reader_close(readings[index].reader);
    }
    tr__events_done(&events);
}

CASE_TIMEOUT(events_threads, every_number_is_seen_or_missed_once, 60)
{
    many_to_many(1024);
}

/* Laps and half-written slots all the time. */
CASE_TIMEOUT(events_threads, a_log_smaller_than_the_crowd_stays_whole, 60)
{
    many_to_many(4);
}

/* A log that holds everything: nobody may miss anything. */
CASE_TIMEOUT(events_threads, a_log_that_is_large_enough_has_no_gap, 60)
{
    pthread_t publishers[PUBLISHERS];
    pthread_t thread;
    static struct reading reading;

    CHECK_EQ_INT(tr__events_init(&events, 262144, 1), 0);
    reading = (struct reading){.pace = FAST};
    CHECK_EQ_INT(tr__reader_open(&events, NULL, &reading.reader), 0);
    CHECK_EQ_INT(pthread_create(&thread, NULL, read_all, &reading), 0);
    start_publishers(publishers);
    join(publishers, PUBLISHERS);
    tr__events_close(&events);
    join(&thread, 1);
    CHECK_EQ_U64(reading.seen, EVENTS_ALL);
    CHECK_EQ_U64(reading.missed, 0);
    tr__events_done(&events);
}

/* ---- a sleeping reader is woken by what it asked for, whatever else goes on ---- */

#define ANSWERS 500u

static void *answer_filtered(void *argument)
{
    static _Thread_local tr_event taken[8];
    tr_reader *reader = argument;
    for (unsigned seen = 0; seen < ANSWERS;) {
        int count = tr_reader_read(reader, taken, 8, TR_FOREVER);
        CHECK(count > 0);
        for (int index = 0; index < count; index++) {
            if (taken[index].type == TR_EVENT_CONTINUE_REQUESTED) {
                seen += 1;
                CHECK_EQ_U64(taken[index].current, seen);
            }
        }
        tr__store_release(&read_so_far, seen);
    }
    return NULL;
}

static void *publish_noise(void *argument)
{
    static _Thread_local tr_event event;
    (void)argument;
    event.type = TR_EVENT_PROGRESS;
    while (tr__load_acquire(&read_so_far) < ANSWERS) {
        tr__events_publish(&events, &event);
        (void)sched_yield();
    }
    return NULL;
}

/* Each wanted event is published only when the one before was read, among unwanted ones of others:
 * if a wake were lost to an unwanted one in front, this would stand still. */
CASE_TIMEOUT(events_threads, a_filtered_sleeper_gets_what_it_asked_for, 60)
{
    static tr_event event;
    tr_reader_options options = TR_READER_OPTIONS_INIT;
    tr_reader *reader = NULL;
    pthread_t threads[3];

    options.types = UINT64_C(1) << TR_EVENT_CONTINUE_REQUESTED;
    CHECK_EQ_INT(tr__events_init(&events, 1 << 20, 4), 0); /* no gap can hide a loss */
    CHECK_EQ_INT(tr__reader_open(&events, &options, &reader), 0);
    tr__store_relaxed(&read_so_far, 0u);
    CHECK_EQ_INT(pthread_create(&threads[0], NULL, answer_filtered, reader), 0);
    CHECK_EQ_INT(pthread_create(&threads[1], NULL, publish_noise, NULL), 0);
    CHECK_EQ_INT(pthread_create(&threads[2], NULL, publish_noise, NULL), 0);
    event.type = TR_EVENT_CONTINUE_REQUESTED;
    for (unsigned number = 1; number <= ANSWERS; number++) {
        event.current = number;
        tr__events_publish(&events, &event);
        WAIT_UNTIL(tr__load_acquire(&read_so_far) >= number, 20);
    }
    join(threads, 3);
    tr_reader_close(reader);
    tr__events_done(&events);
}

/* ---- a publisher between claim and completion ---- */

static void *publish_one(void *argument)
{
    tr__events_publish(&events, argument);
    return NULL;
}

static bool is_readable(int fd)
{
    struct pollfd look = {.fd = fd, .events = POLLIN};
    return poll(&look, 1, 0) == 1;
}

/* The publisher of 9 is held up in the place of 1, which looks half-written. The reader wants 10,
 * which is complete: it must wait for 9, and be woken by 9 although it does not want that. */
CASE(events_threads, an_unwanted_event_in_front_of_a_wanted_one_wakes)
{
    static tr_event unwanted = {.type = TR_EVENT_PROGRESS};
    static tr_event wanted = {.type = TR_EVENT_QUEUED};
    static tr_event taken[4];
    tr_reader_options options = TR_READER_OPTIONS_INIT;
    tr_reader *reader = NULL;
    pthread_t thread;

    options.types = UINT64_C(1) << TR_EVENT_QUEUED;
    CHECK_EQ_INT(tr__events_init(&events, 8, 1), 0);
    CHECK_EQ_INT(tr__reader_open(&events, &options, &reader), 0);
    for (unsigned count = 0; count < 8; count++) {
        tr__events_publish(&events, &unwanted);
    }
    int fd = tr_reader_fd(reader);
    CHECK_EQ_INT(tr_reader_read(reader, taken, 4, 0), 0);
    struct tr__events_slot *slots = tr__load_relaxed(&events.slots);
    tr__store_release(&slots[1].word[TR__EVENTS_STAMP], UINT64_C(1));
    CHECK_EQ_INT(pthread_create(&thread, NULL, publish_one, &unwanted), 0);
    WAIT_UNTIL(tr__events_recorded(&events) == 9, 20);
    tr__events_publish(&events, &wanted);
    CHECK(is_readable(fd));
    for (unsigned look = 0; look < 100; look++) {
        CHECK_EQ_INT(tr_reader_read(reader, taken, 4, 0), 0);
        CHECK(!is_readable(fd));
        (void)sched_yield();
    }
    tr__store_release(&slots[1].word[TR__EVENTS_STAMP], UINT64_C(2));
    WAIT_UNTIL(is_readable(fd), 20);
    CHECK_EQ_INT(tr_reader_read(reader, taken, 4, 0), 1);
    CHECK_EQ_U64(taken[0].sequence, 10);
    join(&thread, 1);
    tr_reader_close(reader);
    tr__events_done(&events);
}

/* ---- opening and closing beside publishing ---- */

static void *come_and_go(void *argument)
{
    static _Thread_local tr_event taken[16];
    struct case_random chance;
    case_random_init(&chance, (uint64_t)(uintptr_t)argument);
    while (tr__load_acquire(&publishers_left) != 0) {
        tr_reader_options options = TR_READER_OPTIONS_INIT;
        tr_reader *reader = NULL;
        options.session = case_random_below(&chance, 3);
        CHECK_EQ_INT(tr__reader_open(&events, &options, &reader), 0);
        if (case_random_below(&chance, 2) == 0) {
            CHECK(tr_reader_fd(reader) >= 0);
        }
        uint64_t last = 0;
        for (uint64_t reads = case_random_below(&chance, 4); reads > 0; reads--) {
            int count = tr_reader_read(reader, taken, 16, case_random_below(&chance, 50000));
            CHECK(count >= 0);
            for (int index = 0; index < count; index++) {
                CHECK(taken[index].sequence > last);
                last = taken[index].sequence;
                if (taken[index].type != TR_EVENT_GAP) {
                    check_whole(&taken[index]);
                    CHECK(options.session == 0 || taken[index].snapshot.session == options.session);
                }
            }
        }
        tr_reader_close(reader);
    }
    return NULL;
}

CASE_TIMEOUT(events_threads, readers_come_and_go_while_others_publish, 60)
{
    pthread_t publishers[PUBLISHERS];
    pthread_t readers[2];

    CHECK_EQ_INT(tr__events_init(&events, 256, 2), 0);
    tr__store_relaxed(&publishers_left, PUBLISHERS);
    for (unsigned index = 0; index < 2; index++) {
        CHECK_EQ_INT(pthread_create(&readers[index], NULL, come_and_go, (void *)(uintptr_t)index),
                     0);
    }
    start_publishers(publishers);
    join(publishers, PUBLISHERS);
    join(readers, 2);
    CHECK(!tr__events_wanted(&events));
    tr__events_done(&events);
}
