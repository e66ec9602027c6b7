/*
 * events.c: the event log's publishing side: claim, write, complete, wake.
 *
 * Purpose: see events.h. Owner: none; publishers are any threads. Called by engine and host; calls
 * parts/parker, base/memory, write(2). The reading side is reader.c.
 *
 * Event n lies in slot n mod capacity. The slot's stamp only grows:
 *
 *     2(n - capacity)  ── claimer of n: 2n - 1 ──▶ writing ── 2n ──▶ complete ──▶ ...
 *
 * Invariants
 *  1. One fetch_add gives each event its number, so an event published after another (in the sense
 *     of happens-before) has the greater one, and there are no holes.
 *  2. Only the claimer of n writes the slot from stamp 2(n - capacity) to 2n.
 *  3. A copy is whole if the stamp was 2n before and after. Each data word is stored with release
 *     after the odd stamp and loaded with acquire before the second look: a reader that got one
 *     word of a later event has acquired that event's odd stamp, and its second look must see it
 *     or something later. No fence, no torn event, nothing for ThreadSanitizer to complain about.
 *  4. Park protocol: a publisher completes the stamp (seq_cst), then loads `sleepers` (seq_cst); a
 *     reader sets its bit (seq_cst), then looks at the stamp (seq_cst). One sees the other.
 *  5. Whoever clears a reader's bit owes it a wake. A publisher that finds the bit clear owes none:
 *     the reader will look again after that wake, or has yet to look before it sleeps.
 *  6. A publisher touches a reader's eventfd only between raising and lowering `waking`, after
 *     taking `armed`. Closing a reader takes the bit and `armed` itself, then waits for waking to
 *     be 0: no descriptor is written to after it was closed and its number given to a stranger.
 *
 * When publishing waits: the claimer of n finds the writer of n - capacity unfinished. That one has
 * been off its processor while the others published a whole log (8192 events by default, half a
 * millisecond of doing nothing else), so this is a preempted thread on an overloaded machine, and
 * yielding is what lets it finish. Nothing is waited for otherwise: a publisher preempted between
 * claim and completion holds up the readers at its number, never another publisher.
 *
 * Complexity: publish one fetch_add, 3 cache lines, one seq_cst store; independent of the number of
 * readers, but for a look at each *sleeping* one (its filter says whether to wake it). Shared
 * lines: `last`, and the slot's own. Rejected: a log per reader (cost grows with readers), a lock
 * (a preempted publisher stops all), waking filtered readers for every event (6 us each).
 */
#include "completion/events.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "base/backoff.h"
#include "base/memory.h"
#include "completion/events_pack.h"

static void slot_claim(struct tr__events_slot *slot, uint64_t sequence, uint64_t capacity);
static void slot_fill(struct tr__events_slot *slot, struct tr__events_tail *tail,
                      const tr_event *event);
static void wake_sleepers(struct tr__events *events, const tr_event *event, uint64_t sequence);
static bool is_for(struct tr_reader *reader, const tr_event *event, uint64_t sequence,
                   uint64_t capacity);

int tr__events_init(struct tr__events *events, uint32_t events_max, uint32_t readers_max)
{
    if (events_max == 0 || events_max > TR__EVENTS_MAX || readers_max == 0 ||
        readers_max > TR__EVENTS_READERS_MAX) {
        return TR_EINVAL;
    }
    uint64_t capacity = 1;
    while (capacity < events_max) {
        capacity *= 2;
    }
    /* relaxed throughout: private until handed out */
    tr__store_relaxed(&events->wanted, 0u);
    tr__store_relaxed(&events->closed, 0u);
    tr__store_relaxed(&events->slots, (void *)NULL);
    tr__store_relaxed(&events->last, UINT64_C(0));
    for (unsigned word = 0; word < TR__EVENTS_SLEEPER_WORDS; word++) {
        tr__store_relaxed(&events->sleepers[word], UINT64_C(0));
    }
    events->tails = NULL;
    events->readers = NULL;
    events->capacity = capacity;
    events->readers_max = readers_max;
    events->sleeper_words = (readers_max + 63) / 64;
    return -pthread_mutex_init(&events->lock, NULL);
}

void tr__events_done(struct tr__events *events)
{
    struct tr__events_slot *slots = tr__load_relaxed(&events->slots); /* no other thread is left */
    if (slots != NULL) {
        for (uint32_t index = 0; index < events->readers_max; index++) {
            if (events->readers[index].open) {
                tr_reader_close(&events->readers[index]);
            }
        }
        tr__memory_unreserve(slots, events->capacity * sizeof *slots);
        tr__memory_unreserve(events->tails, events->capacity * sizeof *events->tails);
        tr__memory_give(events->readers);
        tr__store_relaxed(&events->slots, (void *)NULL);
    }
    (void)pthread_mutex_destroy(&events->lock); /* fails only while it is held */
}

void tr__events_close(struct tr__events *events)
{
    (void)pthread_mutex_lock(&events->lock); /* cannot fail: a plain mutex, not held by us */
    /* seq_cst: the publication of a park protocol; pairs with the look in reader.c */
    tr__store_seq_cst(&events->closed, 1u);
    if (tr__load_relaxed(&events->slots) != NULL) { /* written under the lock */
        for (uint32_t index = 0; index < events->readers_max; index++) {
            tr__events_wake(events, &events->readers[index]);
        }
    }
    (void)pthread_mutex_unlock(&events->lock); /* cannot fail: held by us */
}

void tr__events_publish(struct tr__events *events, const tr_event *event)
{
    /* acquire: pairs with the release in tr__reader_open; makes tails, readers, slots visible */
    struct tr__events_slot *slots = tr__load_acquire(&events->slots);
    TR_ASSERT(event->type > TR_EVENT_NONE && event->type < TR_EVENT_GAP);
    TR_ASSERT(event->snapshot.call_id_size <= TR_CALL_ID_BYTES_MAX);
    TR_ASSERT(event->snapshot.metadata_size <= TR_METADATA_BYTES_MAX);
    if (slots == NULL) {
        return; /* the first reader is just being opened: this event is from before */
    }
    /* seq_cst: ordered against the reader's look at `last` (reader.c, "eager") */
    uint64_t sequence = tr__fetch_add_seq_cst(&events->last, UINT64_C(1)) + 1;
    struct tr__events_slot *slot = tr__events_slot_at(events, slots, sequence);
    slot_claim(slot, sequence, events->capacity);
    slot_fill(slot, &events->tails[sequence & (events->capacity - 1)], event);
    /* seq_cst: invariant 4; also releases the event to readers that find it without sleeping */
    tr__store_seq_cst(&slot->word[TR__EVENTS_STAMP], 2 * sequence);
    wake_sleepers(events, event, sequence);
}

void tr__events_wake(struct tr__events *events, struct tr_reader *reader)
{
    const uint64_t one = 1;
    uint64_t bit = UINT64_C(1) << (reader->index % 64);
    tr__atomic_u64 *word = &events->sleepers[reader->index / 64];

    /* seq_cst: raised before bit and `armed` are taken; pairs with the wait in tr_reader_close */
    (void)tr__fetch_add_seq_cst(&reader->waking, 1u);
    /* seq_cst: decides which publisher pays, within the park protocol (invariants 4 and 5) */
    if ((tr__fetch_and_seq_cst(word, ~bit) & bit) != 0) {
        (void)tr__parker_notify(&reader->parker); /* it may sleep, poll the descriptor, or both */
        /* seq_cst: as the bit; acquires the descriptor, which was stored before `armed` */
        if (tr__exchange_seq_cst(&reader->armed, 0u) != 0) {
            int fd = (int)(tr__load_relaxed(&reader->descriptor) - 1);
            ssize_t written;
            do {
                written = write(fd, &one, sizeof one);
            } while (written < 0 && errno == EINTR);
            TR_ASSERT(written == (ssize_t)sizeof one || errno == EAGAIN); /* EAGAIN: counter full */
        }
    }
    (void)tr__fetch_sub_release(&reader->waking, 1u); /* our last touch; pairs as above */
}

/* Makes the slot ours: waits for the event one lap before, then marks it as being written. */
static void slot_claim(struct tr__events_slot *slot, uint64_t sequence, uint64_t capacity)
{
    uint64_t before = sequence > capacity ? 2 * (sequence - capacity) : 0;
    unsigned spins = 0;
    /* acquire: pairs with the stamp's store at completion; its writer's stores come before ours */
    while (tr__load_acquire(&slot->word[TR__EVENTS_STAMP]) != before) {
        tr__backoff(&spins);
    }
    /* release: who sees it sees `last` a lap ahead (reader.c, lapped); every data word stored after
     * it carries it along by release (invariant 3) */
    tr__store_release(&slot->word[TR__EVENTS_STAMP], 2 * sequence - 1);
}

/* Bytes as words, the last one filled up with zeroes. Returns the next free word's number. */
static unsigned bytes_fill(struct tr__events_slot *slot, struct tr__events_tail *tail, unsigned at,
                           const unsigned char *bytes, size_t size)
{
    for (size_t done = 0; done < size; done += 8) {
        uint64_t value = 0;
        if (size - done >= 8) {
            memcpy(&value, bytes + done, 8);
        } else {
            memcpy(&value, bytes + done, size - done);
        }
        tr__store_release(tr__events_payload(slot, tail, at), value); /* invariant 3 */
        at += 1;
    }
    return at;
}

/* Stores all words but the stamp; release, all of them: invariant 3. */
static void slot_fill(struct tr__events_slot *slot, struct tr__events_tail *tail,
                      const tr_event *event)
{
    const tr_snapshot *snapshot = &event->snapshot;
    tr__atomic_u64 *word = slot->word;

    tr__store_release(&word[TR__EVENTS_SESSION], snapshot->session);
    tr__store_release(&word[TR__EVENTS_TURN], snapshot->turn);
    tr__store_release(&word[TR__EVENTS_PACKED], tr__events_pack(event));
    tr__store_release(&word[TR__EVENTS_TASK], snapshot->task);
    tr__store_release(&word[TR__EVENTS_TIME], event->time_ns);
    tr__store_release(&word[TR__EVENTS_CURRENT], event->current);
    tr__store_release(&word[TR__EVENTS_TOTAL], event->total);
    tr__store_release(&word[TR__EVENTS_ACCEPTED], snapshot->accepted_ns);
    tr__store_release(&word[TR__EVENTS_STARTED], snapshot->started_ns);
    tr__store_release(&word[TR__EVENTS_ENDED], snapshot->ended_ns);
    tr__store_release(&word[TR__EVENTS_TOOL_NAME], (uint64_t)(uintptr_t)snapshot->tool_name);
    tr__store_release(&word[TR__EVENTS_USER], (uint64_t)(uintptr_t)snapshot->user);
    tr__store_release(&word[TR__EVENTS_SIZES],
                      (uint64_t)snapshot->call_id_size | (uint64_t)snapshot->metadata_size << 16);
    unsigned at = bytes_fill(slot, tail, 0, snapshot->call_id, snapshot->call_id_size);
    (void)bytes_fill(slot, tail, at, snapshot->metadata, snapshot->metadata_size);
}

/* Wakes the sleeping readers that want this event. */
static void wake_sleepers(struct tr__events *events, const tr_event *event, uint64_t sequence)
{
    for (uint32_t word = 0; word < events->sleeper_words; word++) {
        /* seq_cst: invariant 4, after the stamp's store */
        uint64_t sleepers = tr__load_seq_cst(&events->sleepers[word]);
        while (__builtin_expect(sleepers != 0, 0)) {
            unsigned bit = (unsigned)__builtin_ctzll(sleepers);
            struct tr_reader *reader = &events->readers[word * 64 + bit];
            sleepers &= sleepers - 1;
            if (is_for(reader, event, sequence, events->capacity)) {
                tr__events_wake(events, reader);
            }
        }
    }
}

/* Whether to wake this reader: for what it asked for, when it asked for anything, and when it has
 * slept over half a log of what it did not ask for, so that a quiet filter causes no gap. */
static bool is_for(struct tr_reader *reader, const tr_event *event, uint64_t sequence,
                   uint64_t capacity)
{
    /* relaxed: only grows, also when the place gets a new reader; past this event is past it */
    uint64_t cursor = tr__load_relaxed(&reader->cursor);
    if (cursor >= sequence) {
        return false; /* it took the event before it went to sleep */
    }
    /* relaxed: written before the reader's bit was set, which we have acquired; if the reader has
     * changed hands since, the new one sets its bit anew and looks again (invariant 4) */
    uint64_t types = tr__load_relaxed(&reader->types);
    uint64_t session = tr__load_relaxed(&reader->session);
    uint64_t turn = tr__load_relaxed(&reader->turn);
    bool matches = (types >> event->type & 1) != 0 &&
                   (session == 0 || session == event->snapshot.session) &&
                   (turn == 0 || turn == event->snapshot.turn);
    /* seq_cst: after the stamp's store in the order of all; see "eager" in reader.c */
    if (matches || tr__load_seq_cst(&reader->eager) != 0) {
        return true;
    }
    return sequence - cursor >= (capacity + 1) / 2;
}
