/*
 * reader.c: the event log's reading side: cursors, filters, gaps, sleeping, the eventfd.
 *
 * Purpose: see events.h and toolring/events.h. Owner: a reader's cursor, parker and eventfd belong
 * to the thread that is in tr_reader_read or tr_reader_fd (the token's holder); opening and closing
 * to the log's lock. Called by hosts, and by host/ for opening; calls parts/parker, eventfd(2).
 * Invariants 1 to 6 are in events.c.
 *
 * At number n = cursor + 1 a reader finds the stamp below 2n: not there yet, stop (so n + 1 never
 * comes before n); 2n: copy, and look again; above: lapped. Lapped, it reports one gap and goes on
 * an eighth of the log behind the oldest event: right at the oldest it would be lapped again.
 *
 *  7. cursor only grows; every number is delivered, hidden by the filter, or counted in a gap. A
 *     gap counts all that was missed, also what the filter would have hidden: nobody can know.
 *  8. Before it sleeps or arms its eventfd, a reader announces itself (`sleepers`) and looks again.
 *  9. `armed` != 0 implies the reader's bit is set, or a publisher is about to take `armed`.
 *     `armed` == 0 implies the eventfd is readable or about to be written (or there is none).
 *
 * Eager. A publisher wakes a sleeper for matching events only. Now n is claimed but incomplete,
 * n + 1 matches and is complete: woken for n + 1, the reader cannot pass n and sleeps again; if n
 * then does not match, its publisher would not wake it, and n + 1 would stay undelivered. So a
 * reader that goes to sleep before a claimed number says that any event will do. In the order of
 * all seq_cst operations: set bit, then load `last`.
 *   last == cursor: every later claim comes after the bit, so a matching event wakes the reader.
 *   last > cursor:  store eager, then look at stamp n. Not complete: its publisher's store of the
 *                   stamp, and then its load of eager, come after: it wakes the reader.
 *
 * Complexity: read O(events passed), a hidden one costs a cache line; opening O(readers_max).
 * Rejected: copying under a lock; a count of readers per slot (publishers would wait for readers).
 */
#include "completion/events.h"

#include <errno.h>
#include <limits.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/backoff.h"
#include "base/clock.h"
#include "base/memory.h"
#include "completion/events_pack.h"

/* A lapped reader goes on this part of the log behind the oldest event. */
#define GAP_MARGIN_DIVISOR 8u
/* A tr_reader_options larger than this is no such structure. */
#define OPTIONS_SIZE_MAX 4096u
#define TYPES_KNOWN (((UINT64_C(1) << TR_EVENT_GAP) << 1) - 2)

static int options_check(const tr_reader_options *options);
static int log_allocate(struct tr__events *events);
static void reader_reset(struct tr_reader *reader, const tr_reader_options *options);
static size_t take(struct tr_reader *reader, tr_event *events, size_t events_max);
static bool is_hidden(struct tr_reader *reader, struct tr__events_slot *slot);
static void copy_out(struct tr__events_slot *slot, struct tr__events_tail *tail,
                     tr_event *ret_event);
static uint64_t lapped(struct tr__events *events, uint64_t cursor, tr_event *gap, bool extend);
static bool is_over(struct tr_reader *reader);
static bool announce(struct tr_reader *reader);
static void retract(struct tr_reader *reader);
static void descriptor_rearm(struct tr_reader *reader);

int tr__reader_open(struct tr__events *events, const tr_reader_options *options,
                    tr_reader **ret_reader)
{
    const tr_reader_options everything = TR_READER_OPTIONS_INIT;
    struct tr_reader *reader = NULL;
    int error = 0;

    if (ret_reader == NULL || (options != NULL && options_check(options) != 0)) {
        return TR_EINVAL;
    }
    (void)pthread_mutex_lock(&events->lock);      /* cannot fail: a plain mutex, not held by us */
    if (tr__load_relaxed(&events->closed) != 0) { /* written under the lock */
        error = TR_ECLOSED;
    } else {
        error = log_allocate(events);
    }
    for (uint32_t index = 0; error == 0 && reader == NULL; index++) {
        if (index == events->readers_max) {
            error = TR_ELIMIT;
        } else if (!events->readers[index].open) {
            reader = &events->readers[index];
        }
    }
    if (error == 0) {
        /* relaxed: only the lock's holder writes it; who must see it has been told of the reader */
        (void)tr__fetch_add_relaxed(&events->wanted, 1u);
        reader_reset(reader, options != NULL ? options : &everything);
        *ret_reader = reader;
    }
    (void)pthread_mutex_unlock(&events->lock); /* cannot fail: held by us */
    return error;
}

void tr_reader_close(tr_reader *reader)
{
    if (reader == NULL) {
        return;
    }
    struct tr__events *events = reader->events;
    uint64_t bit = UINT64_C(1) << (reader->index % 64);
    unsigned spins = 0;

    (void)pthread_mutex_lock(&events->lock); /* cannot fail: a plain mutex, not held by us */
    TR_ASSERT(reader->open);
    (void)tr__fetch_sub_relaxed(&events->wanted, 1u); /* as in tr__reader_open */
    /* seq_cst: taken before the look at `waking`; a publisher raises that before it takes them */
    (void)tr__fetch_and_seq_cst(&events->sleepers[reader->index / 64], ~bit);
    (void)tr__exchange_seq_cst(&reader->armed, 0u);
    while (tr__load_seq_cst(&reader->waking) != 0) {
        tr__backoff(&spins); /* a publisher is in the middle of write(2): invariant 6 */
    }
    uint32_t descriptor = tr__load_relaxed(&reader->descriptor); /* ours alone now */
    if (descriptor != 0) {
        (void)close((int)(descriptor - 1)); /* an eventfd has nothing to flush */
        tr__store_relaxed(&reader->descriptor, 0u);
    }
    reader->open = false;
    (void)pthread_mutex_unlock(&events->lock); /* cannot fail: held by us */
}

int tr_reader_read(tr_reader *reader, tr_event *events, size_t events_max, uint64_t timeout_ns)
{
    if (reader == NULL || events == NULL || events_max == 0) {
        return TR_EINVAL;
    }
    if (!tr__token_try_take(&reader->token)) {
        return TR_EBUSY; /* misuse, but no reason to hand the same event to two threads */
    }
    size_t room = events_max < INT_MAX ? events_max : INT_MAX;
    bool bounded = timeout_ns != 0 && timeout_ns != TR_FOREVER;
    uint64_t deadline_ns = bounded ? tr__clock_after(tr__clock_now(), timeout_ns) : timeout_ns;
    bool in_time = timeout_ns != 0;
    int result = 0;

    for (;;) {
        size_t count = take(reader, events, room);
        if (count > 0) {
            result = (int)count;
            break;
        }
        if (is_over(reader)) {
            result = TR_ECLOSED;
            break;
        }
        if (!in_time) {
            break;
        }
        tr__parker_prepare(&reader->parker);
        if (announce(reader)) {
            tr__parker_cancel(&reader->parker);
        } else {
            in_time = tr__parker_wait(&reader->parker, deadline_ns) == 0;
        }
        retract(reader);
    }
    /* Fewer than there was room for: everything was taken. Closed: stays readable. */
    if (result >= 0 && (size_t)result < room) {
        descriptor_rearm(reader);
    }
    tr__token_give(&reader->token);
    return result;
}

int tr_reader_fd(tr_reader *reader)
{
    if (reader == NULL) {
        return TR_EINVAL;
    }
    if (!tr__token_try_take(&reader->token)) {
        return TR_EBUSY;
    }
    uint32_t descriptor = tr__load_relaxed(&reader->descriptor); /* the token holders' */
    int fd = (int)descriptor - 1;
    if (descriptor == 0) {
        fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        if (fd < 0) {
            fd = -errno;
        } else {
            /* relaxed: read by whoever has taken `armed`, which is set after this */
            tr__store_relaxed(&reader->descriptor, (uint32_t)fd + 1);
            descriptor_rearm(reader);
        }
    }
    tr__token_give(&reader->token);
    return fd;
}

static int options_check(const tr_reader_options *options)
{
    if (options->size < sizeof *options || options->size > OPTIONS_SIZE_MAX) {
        return TR_EINVAL;
    }
    const unsigned char *bytes = (const unsigned char *)options;
    for (size_t at = sizeof *options; at < options->size; at++) {
        if (bytes[at] != 0) {
            return TR_EINVAL; /* asks for something this library does not know */
        }
    }
    return (options->types & ~TYPES_KNOWN) != 0 ? TR_EINVAL : 0;
}

/* Under the lock: makes the log when the first reader comes. */
static int log_allocate(struct tr__events *events)
{
    if (tr__load_relaxed(&events->slots) != NULL) { /* written under the lock */
        return 0;
    }
    size_t readers_size = events->readers_max * sizeof *events->readers;
    struct tr_reader *readers = tr__memory_take_aligned(TR_CACHE_LINE, readers_size);
    struct tr__events_slot *slots = tr__memory_reserve(events->capacity * sizeof *slots);
    struct tr__events_tail *tails = tr__memory_reserve(events->capacity * sizeof *tails);
    if (readers == NULL || slots == NULL || tails == NULL) {
        tr__memory_give(readers);
        tr__memory_unreserve(slots, events->capacity * sizeof *slots);
        tr__memory_unreserve(tails, events->capacity * sizeof *tails);
        return TR_ENOMEM;
    }
    memset(readers, 0, readers_size);
    for (uint32_t index = 0; index < events->readers_max; index++) {
        readers[index].events = events;
        readers[index].index = index;
        tr__parker_init(&readers[index].parker);
        tr__token_init(&readers[index].token);
    }
    events->readers = readers;
    events->tails = tails;
    tr__store_release(&events->slots, (void *)slots); /* pairs with the acquire in publish */
    return 0;
}

/* Under the lock: a fresh reader in an old place. */
static void reader_reset(struct tr_reader *reader, const tr_reader_options *options)
{
    /* relaxed: a publisher needs these only once the reader's bit is set, by a later seq_cst */
    tr__store_relaxed(&reader->session, options->session);
    tr__store_relaxed(&reader->turn, options->turn);
    tr__store_relaxed(&reader->types, options->types != 0 ? options->types : UINT64_MAX);
    tr__store_relaxed(&reader->eager, 0u);
    /* acquire for form: events before this number are history, later ones are this reader's */
    tr__store_relaxed(&reader->cursor, tr__load_acquire(&reader->events->last));
    reader->open = true;
}

/* Takes what is there, up to events_max and up to what was claimed when it began (so it ends).
 * Fewer than events_max: nothing is left that could be taken now. */
static size_t take(struct tr_reader *reader, tr_event *events, size_t events_max)
{
    struct tr__events *log = reader->events;
    struct tr__events_slot *slots =
        tr__load_relaxed(&log->slots);                   /* written before we were opened */
    uint64_t cursor = tr__load_relaxed(&reader->cursor); /* our own, or handed over */
    uint64_t end = tr__load_acquire(&log->last);         /* a bound; the stamps decide */
    size_t count = 0;

    while (cursor < end && count < events_max) {
        uint64_t next = cursor + 1;
        struct tr__events_slot *slot = tr__events_slot_at(log, slots, next);
        /* acquire: pairs with the completing store; the words below are that event's or later */
        uint64_t stamp = tr__load_acquire(&slot->word[TR__EVENTS_STAMP]);
        if (stamp < 2 * next) {
            break; /* its publisher is still writing */
        }
        bool hidden = true;
        if (stamp == 2 * next) {
            hidden = is_hidden(reader, slot);
            if (!hidden) {
                copy_out(slot, &log->tails[next & (log->capacity - 1)], &events[count]);
            }
            /* The acquire loads before it keep it behind them (invariant 3). acquire: pairs with
             * the claimer's store, so that `last` as loaded below is no older than the stamp. */
            stamp = tr__load_acquire(&slot->word[TR__EVENTS_STAMP]);
        }
        if (stamp != 2 * next) {
            bool extend = count > 0 && events[count - 1].type == TR_EVENT_GAP &&
                          events[count - 1].sequence == cursor;
            count += extend ? 0 : 1;
            cursor = lapped(log, cursor, &events[count - 1], extend);
            end = tr__load_acquire(&log->last); /* as above */
            continue;
        }
        if (!hidden) {
            events[count].sequence = next;
            count += 1;
        }
        cursor = next;
    }
    /* relaxed: for our next turn (handed over with the token), and as a hint for publishers */
    tr__store_relaxed(&reader->cursor, cursor);
    return count;
}

/* Whether the filter hides the event in a slot, as far as can be told: the caller validates. */
static bool is_hidden(struct tr_reader *reader, struct tr__events_slot *slot)
{
    /* relaxed: the reader's own, written when it was opened; acquire: invariant 3 */
    uint64_t types = tr__load_relaxed(&reader->types);
    uint64_t session = tr__load_relaxed(&reader->session);
    uint64_t turn = tr__load_relaxed(&reader->turn);
    tr_event_type type = tr__events_packed_type(tr__load_acquire(&slot->word[TR__EVENTS_PACKED]));

    return (types >> type & 1) == 0 ||
           (session != 0 && session != tr__load_acquire(&slot->word[TR__EVENTS_SESSION])) ||
           (turn != 0 && turn != tr__load_acquire(&slot->word[TR__EVENTS_TURN]));
}

/* The other way round of bytes_fill. Returns the number of the word behind. */
static unsigned bytes_copy(struct tr__events_slot *slot, struct tr__events_tail *tail, unsigned at,
                           unsigned char *bytes, size_t size)
{
    for (size_t done = 0; done < size; done += 8) {
        uint64_t value = tr__load_acquire(tr__events_payload(slot, tail, at)); /* invariant 3 */
        memcpy(bytes + done, &value, size - done < 8 ? size - done : 8);
        at += 1;
    }
    return at;
}

/* Copies everything but the sequence. The copy may be a mixture until the caller has validated it,
 * but each word is one that was stored: the sizes are in bounds whatever they belong to. */
static void copy_out(struct tr__events_slot *slot, struct tr__events_tail *tail,
                     tr_event *ret_event)
{
    tr_snapshot *snapshot = &ret_event->snapshot;
    tr__atomic_u64 *word = slot->word;

    /* acquire, all of them: invariant 3 */
    tr__events_unpack(tr__load_acquire(&word[TR__EVENTS_PACKED]), ret_event);
    snapshot->session = tr__load_acquire(&word[TR__EVENTS_SESSION]);
    snapshot->turn = tr__load_acquire(&word[TR__EVENTS_TURN]);
    snapshot->task = tr__load_acquire(&word[TR__EVENTS_TASK]);
    ret_event->time_ns = tr__load_acquire(&word[TR__EVENTS_TIME]);
    ret_event->current = tr__load_acquire(&word[TR__EVENTS_CURRENT]);
    ret_event->total = tr__load_acquire(&word[TR__EVENTS_TOTAL]);
    snapshot->accepted_ns = tr__load_acquire(&word[TR__EVENTS_ACCEPTED]);
    snapshot->started_ns = tr__load_acquire(&word[TR__EVENTS_STARTED]);
    snapshot->ended_ns = tr__load_acquire(&word[TR__EVENTS_ENDED]);
    snapshot->tool_name = (const char *)(uintptr_t)tr__load_acquire(&word[TR__EVENTS_TOOL_NAME]);
    snapshot->user = (void *)(uintptr_t)tr__load_acquire(&word[TR__EVENTS_USER]);
    uint64_t sizes = tr__load_acquire(&word[TR__EVENTS_SIZES]);
    snapshot->call_id_size = (uint16_t)sizes;
    snapshot->metadata_size = (uint16_t)(sizes >> 16);
    unsigned at = bytes_copy(slot, tail, 0, snapshot->call_id, snapshot->call_id_size);
    (void)bytes_copy(slot, tail, at, snapshot->metadata, snapshot->metadata_size);
}

/* The reader at `cursor` was overtaken. Writes or extends the gap; returns the new cursor. */
static uint64_t lapped(struct tr__events *events, uint64_t cursor, tr_event *gap, bool extend)
{
    /* acquire for form: the stamp that told us was released after a claim a lap ahead, and we have
     * acquired it, so `last` is at least cursor + 1 + capacity */
    uint64_t last = tr__load_acquire(&events->last);
    uint64_t margin = events->capacity / GAP_MARGIN_DIVISOR;
    uint64_t resume = last - events->capacity + margin; /* the last one given up */
    TR_ASSERT(last > cursor + events->capacity && resume > cursor);

    uint64_t missed = extend ? gap->current : 0;
    memset(gap, 0, sizeof *gap);
    gap->type = TR_EVENT_GAP;
    gap->sequence = resume;
    gap->current = missed + (resume - cursor);
    return resume;
}

/* Closed, and everything that was ever claimed is taken. */
static bool is_over(struct tr_reader *reader)
{
    struct tr__events *events = reader->events;
    /* acquire: what was published before the closing is counted in `last` as loaded next */
    return tr__load_acquire(&events->closed) != 0 &&
           tr__load_acquire(&events->last) == tr__load_relaxed(&reader->cursor);
}

/* Whether the stamp behind the cursor says there is something; seq_cst: the look of invariant 4. */
static bool is_ready(struct tr_reader *reader)
{
    struct tr__events *events = reader->events;
    struct tr__events_slot *slots = tr__load_relaxed(&events->slots); /* written before we opened */
    uint64_t next = tr__load_relaxed(&reader->cursor) + 1;            /* our own */
    struct tr__events_slot *slot = tr__events_slot_at(events, slots, next);
    return tr__load_seq_cst(&slot->word[TR__EVENTS_STAMP]) >= 2 * next;
}

/* Asks publishers for a wake, then looks: true if there is something to look at already. Every
 * seq_cst here belongs to invariant 4 and to "Eager" at the top. */
static bool announce(struct tr_reader *reader)
{
    struct tr__events *events = reader->events;
    uint64_t bit = UINT64_C(1) << (reader->index % 64);

    tr__store_seq_cst(&reader->eager, 0u);
    (void)tr__fetch_or_seq_cst(&events->sleepers[reader->index / 64], bit);
    if (tr__load_seq_cst(&events->last) == tr__load_relaxed(&reader->cursor)) { /* our own */
        return tr__load_seq_cst(&events->closed) != 0;
    }
    tr__store_seq_cst(&reader->eager, 1u);
    return is_ready(reader);
}

/* Awake again: publishers need not look at us, unless the eventfd waits for them. */
static void retract(struct tr_reader *reader)
{
    tr__atomic_u64 *word = &reader->events->sleepers[reader->index / 64];
    uint64_t bit = UINT64_C(1) << (reader->index % 64);
    /* relaxed: only we set either; who clears them first has woken us, which is no loss now */
    if (tr__load_relaxed(&reader->armed) == 0 && (tr__load_relaxed(word) & bit) != 0) {
        (void)tr__fetch_and_relaxed(word, ~bit);
    }
}

/* Everything was taken: clears the eventfd, arms it, and looks again (in this order: parts/inbox.c
 * tells why). No-op without an eventfd. */
static void descriptor_rearm(struct tr_reader *reader)
{
    uint32_t descriptor = tr__load_relaxed(&reader->descriptor); /* the token holders' */
    uint64_t count;
    ssize_t taken;

    if (descriptor == 0) {
        return;
    }
    do {
        taken = read((int)(descriptor - 1), &count, sizeof count);
    } while (taken < 0 && errno == EINTR);
    TR_ASSERT(taken == (ssize_t)sizeof count || errno == EAGAIN); /* EAGAIN: nothing to clear */
    /* seq_cst: before the bit, hence before the look; releases the descriptor to the waker */
    tr__store_seq_cst(&reader->armed, 1u);
    if (announce(reader)) {
        tr__events_wake(reader->events, reader); /* makes it readable, unless a publisher does */
    }
}
