/*
 * events.h: the event log, a bounded broadcast from many publishers to many readers.
 *
 * The public side is toolring/events.h: tr_reader_read, tr_reader_fd and tr_reader_close are
 * implemented in completion/reader.c; tr_reader_open is the host floor's and calls tr__reader_open.
 * How publishers and readers meet is told in events.c, how readers read and sleep in reader.c.
 *
 * For a publisher:  if (tr__events_wanted(events)) { fill a tr_event; tr__events_publish(...); }
 */
#ifndef TR__COMPLETION_EVENTS_H
#define TR__COMPLETION_EVENTS_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <toolring/events.h>

#include "base/assert.h"
#include "base/atomic.h"
#include "base/limits.h"
#include "parts/mpsc.h"
#include "parts/parker.h"

/* As many readers as the public configuration allows. */
#define TR__EVENTS_READERS_MAX 1024u
#define TR__EVENTS_SLEEPER_WORDS (TR__EVENTS_READERS_MAX / 64u)

/* Words of an event in the log. The first cache line is all that a filter needs. */
enum tr__events_word {
    TR__EVENTS_STAMP = 0, /* 2n: event n is complete; 2n - 1: it is being written */
    TR__EVENTS_SESSION,
    TR__EVENTS_TURN,
    TR__EVENTS_PACKED, /* tool, type, and the small fields of the snapshot */
    TR__EVENTS_TASK,
    TR__EVENTS_TIME,
    TR__EVENTS_CURRENT,
    TR__EVENTS_TOTAL,
    TR__EVENTS_ACCEPTED,
    TR__EVENTS_STARTED,
    TR__EVENTS_ENDED,
    TR__EVENTS_TOOL_NAME,
    TR__EVENTS_USER,
    TR__EVENTS_SIZES,   /* of call id and metadata */
    TR__EVENTS_PAYLOAD, /* call id, then metadata, each from a word's start */
    TR__EVENTS_SLOT_WORDS = 24,
};

/* Payload that fits into the slot itself: a call id of 40 bytes with as much metadata. */
#define TR__EVENTS_PAYLOAD_WORDS (TR__EVENTS_SLOT_WORDS - TR__EVENTS_PAYLOAD)
/* The rest of the largest payload, in a table apart whose pages stay untouched until needed. */
#define TR__EVENTS_TAIL_WORDS                                                                      \
    ((TR_CALL_ID_BYTES_MAX + TR_METADATA_BYTES_MAX) / 8 - TR__EVENTS_PAYLOAD_WORDS)

struct tr__events_slot {
    tr__atomic_u64 word[TR__EVENTS_SLOT_WORDS];
} TR__CACHE_ALIGNED;

struct tr__events_tail {
    tr__atomic_u64 word[TR__EVENTS_TAIL_WORDS];
};

/* A reader's place in the table: never moves, never goes while the log lives, so that a publisher
 * may look at one that has just been closed. */
struct tr_reader {
    struct tr__events *events; /* written once */
    uint32_t index;            /* its own, and its bit of `sleepers`; written once */
    bool open;                 /* under the log's lock */
    tr__atomic_u64 session;    /* filter, 0 all; written when it is opened */
    tr__atomic_u64 turn;       /* filter, 0 all */
    tr__atomic_u64 types;      /* filter, bits; all ones: all */
    tr__atomic_u64 cursor;     /* last sequence taken or skipped; the reading thread writes */
    struct tr__parker parker TR__CACHE_ALIGNED; /* the reading thread sleeps here */
    tr__atomic_u32 eager;      /* wants any event, see reader.c; the reading thread writes */
    tr__atomic_u32 armed;      /* 1: the eventfd must be written; reader sets, a waker clears */
    tr__atomic_u32 descriptor; /* the eventfd + 1, 0 none; the reading thread writes */
    tr__atomic_u32 waking;     /* publishers that may touch the eventfd at this moment */
    struct tr__token token;    /* one thread reads at a time */
} TR__CACHE_ALIGNED;

struct tr__events {
    /* Read-mostly: changes when readers open and close. */
    tr__atomic_u32 wanted;         /* open readers; written under `lock` */
    tr__atomic_u32 closed;         /* 1 after tr__events_close */
    tr__atomic_ptr slots;          /* capacity slots, NULL before the first reader; written once */
    struct tr__events_tail *tails; /* one per slot; this and `readers` before `slots` */
    struct tr_reader *readers;     /* readers_max places */
    uint64_t capacity;             /* a power of two */
    uint32_t readers_max;
    uint32_t sleeper_words; /* words of `sleepers` in use */
    pthread_mutex_t lock;   /* opening and closing of readers */

    /* Every publisher writes it. */
    TR__CACHE_ALIGNED tr__atomic_u64 last; /* highest sequence claimed */

    /* Written around sleeping only. Bit per reader: set by it, cleared by who will wake it. */
    TR__CACHE_ALIGNED tr__atomic_u64 sleepers[TR__EVENTS_SLEEPER_WORDS];
};

TR_STATIC(sizeof(struct tr__events_slot) == 3 * TR_CACHE_LINE, "a slot is three cache lines");
TR_STATIC((TR__EVENTS_TOTAL + 1) * 8 <= TR_CACHE_LINE, "a filter needs the first line only");

/* Caller's memory. `events_max`, 1 to TR__EVENTS_MAX, is rounded up to a power of two;
 * `readers_max` is 1 to TR__EVENTS_READERS_MAX. Returns 0 or TR_EINVAL. */
int tr__events_init(struct tr__events *events, uint32_t events_max, uint32_t readers_max);

/* Frees the log and every reader still open. No thread may be using either. */
void tr__events_done(struct tr__events *events);

/* Ends the log: readers get TR_ECLOSED when they have taken everything, sleeping ones are woken.
 * Publishing is over before this is called; opening a reader fails from here on. */
void tr__events_close(struct tr__events *events);

/* Any thread. Whether anybody reads: if not, an event need not even be put together. */
static inline bool tr__events_wanted(const struct tr__events *events)
{
    /* relaxed: an opening that happened before is seen by coherence, a racing one may be missed */
    return tr__load_relaxed(&events->wanted) != 0;
}

/* Any thread. Events recorded so far, for statistics. */
static inline uint64_t tr__events_recorded(const struct tr__events *events)
{
    return tr__load_relaxed(&events->last); /* a number to show */
}

/* Any thread. Records an event; its `sequence` is ignored, a number is assigned. Of call id and
 * metadata only the used parts are read. Lock-free but for one case, see events.c. */
void tr__events_publish(struct tr__events *events, const tr_event *event);

/* Any thread. Opens a reader that sees what is published from now on. Returns 0, TR_EINVAL,
 * TR_ELIMIT, TR_ENOMEM or TR_ECLOSED. */
int tr__reader_open(struct tr__events *events, const tr_reader_options *options,
                    tr_reader **ret_reader);

/* events.c, for reader.c and the publishers: wakes a reader whose bit is set in `sleepers`. */
void tr__events_wake(struct tr__events *events, struct tr_reader *reader);

static inline struct tr__events_slot *
tr__events_slot_at(struct tr__events *events, struct tr__events_slot *slots, uint64_t sequence)
{
    return &slots[sequence & (events->capacity - 1)];
}

#endif
