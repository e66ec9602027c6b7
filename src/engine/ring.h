/*
 * ring.h: the submission thread. Any thread starts and cancels ops (op.h); one thread, "tr-ring",
 * performs them through the kernel, keeps all timers, and runs each op's `done` hook.
 *
 * A struct tr__ring is embedded in whatever owns it and must not move while open. Its fields are
 * for the ring's own files.
 */
#ifndef TR__ENGINE_RING_H
#define TR__ENGINE_RING_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/atomic.h"
#include "base/limits.h"
#include "engine/op.h"
#include "parts/mpsc.h"
#include "parts/wheel.h"

/* Messages, expiries and completions handled in one round of the loop, of each kind. */
#define TR__RING_BATCH TR__RING_INBOX_BATCH
/* Messages that did not wake a sleeping ring, until one does: bounds what an idle ring leaves
 * lying, and spreads the 6 us of a wake over so many. */
#define TR__RING_QUIET_MAX 256u
/* Sizes of the completion queue: below, cancels and ops crowd each other; above, it is refused. */
#define TR__RING_ENTRIES_MIN 64u
#define TR__RING_ENTRIES_MAX 32768u

struct tr__kernel;
struct tr__ring_entry;

struct tr__ring_config {
    unsigned entries;                /* completion queue; a power of two; 0: the default */
    const struct tr__kernel *kernel; /* NULL: io_uring */
    void *kernel_context;            /* handed to its `open` */
    char *message;                   /* receives why it failed, in words; may be NULL */
    size_t message_size;             /* bytes */
};

/* Counters since open; the ring thread writes, any thread reads. */
struct tr__ring_stats {
    uint64_t enters;       /* calls of the kernel's enter */
    uint64_t operations;   /* ops done, of every kind */
    uint64_t requests;     /* requests given to the kernel, cancels and the doorbell not counted */
    uint64_t wakes;        /* times the doorbell was answered */
    uint64_t timers_fired; /* TIMER ops that reached their deadline */
    uint64_t stale;        /* completions that belonged to nobody */
};

enum tr__ring_counter {
    TR__RING_ENTERS,
    TR__RING_OPERATIONS,
    TR__RING_REQUESTS,
    TR__RING_WAKES,
    TR__RING_TIMERS_FIRED,
    TR__RING_STALE,
    TR__RING_COUNTERS,
};

/* First-in first-out list of table indices. */
struct tr__ring_queue {
    uint32_t first;
    uint32_t last;
    uint32_t count;
};

struct tr__ring {
    /* Written by every thread. */
    struct tr__mpsc inbox;
    TR__CACHE_ALIGNED tr__atomic_u64 sleeping_until; /* 0 awake; else when it wakes by itself */
    TR__CACHE_ALIGNED tr__atomic_u32 quiet;          /* messages that found it asleep and let it */

    TR__CACHE_ALIGNED tr__atomic_u64 due_ns; /* the first timer's, as of the last round */

    /* Constant while open. */
    TR__CACHE_ALIGNED const struct tr__kernel *kernel;
    void *kernel_state;
    struct tr__ring_entry *entries; /* 1 to entries_max; 0 means none */
    uint32_t entries_max;           /* ops the kernel may hold at once */
    uint32_t cancels_max;           /* cancels it may hold beside them */
    unsigned queue_size;            /* completion queue */
    unsigned room_max;              /* the kernel's room when nothing is placed */
    pthread_t thread;

    /* The ring thread's own. */
    TR__CACHE_ALIGNED uint32_t entries_free; /* list of free entries; 0 none */
    uint32_t entries_fresh;                  /* lowest index never used */
    uint32_t entries_used;                   /* ops that have an entry */
    uint32_t in_kernel;                      /* their requests, placed and not completed */
    uint32_t cancels_in_kernel;              /* likewise cancels */
    uint64_t doorbell_generation;            /* of the last doorbell placed */
    uint64_t done_owed;                      /* finished ops whose cancel message is on its way */
    bool doorbell_placed;                    /* and not completed */
    bool stopping;                           /* every op is being cancelled */
    bool dead;                               /* broken for good: timers only, other ops fail */
    unsigned breaks;                         /* enters in a row that found the ring broken */
    struct tr__ring_queue submit_queue;      /* entries whose request is to be placed */
    struct tr__ring_queue cancel_queue;      /* entries whose cancel is to be placed */
    struct tr__op *waiting_first;            /* ops waiting for an entry, oldest first */
    struct tr__op *waiting_last;
    struct tr__wheel wheel;
    tr__atomic_u64 counters[TR__RING_COUNTERS]; /* written by the ring thread only */

    /* Start-up and end: guarded by the mutex. */
    TR__CACHE_ALIGNED pthread_mutex_t mutex;
    pthread_cond_t changed;
    int phase;                            /* enum in ring.c */
    int open_error;                       /* of the kernel's open */
    const struct tr__ring_config *config; /* during open only */
    struct tr__message stop;
};

/*
 * Starts the ring thread and waits until it has its ring. Returns 0; TR_EINVAL for sizes out of
 * range; TR_ENOMEM; TR_EAGAIN when no thread could be made; TR_EMFILE, TR_ENFILE; TR_ERING when
 * the kernel refuses, with the words in `message`. Nothing is left behind on failure.
 */
int tr__ring_open(struct tr__ring *ring, const struct tr__ring_config *config);

/*
 * Any thread, done hooks included; never fails or blocks. The caller has filled kind, fd, buffer,
 * size, events, deadline_ns, done and owner; from here the op belongs to the ring until `done`.
 */
void tr__ring_start(struct tr__ring *ring, struct tr__op *op);

/*
 * The halves of tr__ring_start. Whoever finds the op after tr__ring_prepare may cancel it, before
 * its start comes as well: it then is done when that has come. What the starter fills in between
 * must be nothing that a canceller reads: deadline_ns, owner.
 */
void tr__ring_prepare(struct tr__op *op);
void tr__ring_submit(struct tr__ring *ring, struct tr__op *op);

/*
 * Any thread that knows the op to be alive, and prepared; at most once per start. The op will be
 * done soon, with TR_ECANCELED or with a result that came first (for READ and POLL also one that
 * was there to be had at the end).
 *
 * Not `urgent`: a sleeping ring is let sleep, unless TR__RING_QUIET_MAX such messages have
 * gathered. For deadlines of tasks that have ended: the price is that up to so many ops stay with
 * the ring until it next wakes for another reason, at the latest for its earliest deadline.
 */
void tr__ring_cancel(struct tr__ring *ring, struct tr__op *op, bool urgent);

/* Any thread: wakes a sleeping ring, so that it takes what it was let sleep over. For somebody who
 * needs what those ops hold. */
void tr__ring_nudge(struct tr__ring *ring);

/* Any thread. True: the ring sleeps and has done all that it was told before this look. */
bool tr__ring_is_resting(struct tr__ring *ring);

/* Any thread. True: the ring's thread is late with a timer, so it waits for a processor or has more
 * to do than it can. `now_ns`: the time, perhaps a while ago. */
bool tr__ring_is_overdue(struct tr__ring *ring, uint64_t now_ns);

/* Whether the caller is this ring's thread: inside a done hook. */
bool tr__ring_is_self(const struct tr__ring *ring);

/*
 * Ends the ring, from another thread, after everybody has stopped starting and cancelling. Every
 * op under way is done with TR_ECANCELED (or with what came first); ops that done hooks start now
 * are done with TR_ECANCELED at once. Returns 0 when all ops are done and the thread has been
 * joined, or TR_ETIMEDOUT when the kernel has not given everything back by deadline_ns: then the
 * ring's memory and that of the ops must never be freed; the thread goes on trying.
 */
int tr__ring_close(struct tr__ring *ring, uint64_t deadline_ns);

/* Any thread. The values are each exact, but not of one moment. */
void tr__ring_stats_read(struct tr__ring *ring, struct tr__ring_stats *ret_stats);

#endif
