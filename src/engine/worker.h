/*
 * worker: seats with queues, and the threads that sit on them. Knows nodes, not tasks: what a node
 * means is told by the `run` hook.
 *
 * A *seat* has two inboxes (high and low priority) with one consumer token. A *worker* is a thread;
 * the one that occupies a seat takes from its queues. A worker that is longer in one tool than a
 * slice, while work waits, loses its seat to a spare thread and joins the spares when it comes
 * back.
 */
#ifndef TR__ENGINE_WORKER_H
#define TR__ENGINE_WORKER_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/atomic.h"
#include "base/limits.h"
#include "parts/fiber.h"
#include "parts/mpsc.h"
#include "parts/parker.h"

struct tr__workers;

/* What an occupant says of itself, so that producers need not wake others for nothing. */
enum tr__seat_mode {
    TR__SEAT_AWAY = 0, /* sleeps or is about to: wake somebody */
    TR__SEAT_BRIEF =
        1, /* awake, in tools that take microseconds: it will be back at the queue at once */
    TR__SEAT_LONG = 2, /* in a tool that takes its time: somebody else should take what comes */
};

struct tr__seat {
    struct tr__mpsc high;
    struct tr__mpsc low;
    TR__CACHE_ALIGNED tr__atomic_u32 assigned; /* nodes given to this seat, roughly; launchers */
    TR__CACHE_ALIGNED struct tr__token token;  /* whoever takes from the queues */
    uint32_t highs;                            /* in a row while `low` waited; token holder */
    tr__atomic_u32 taken;                      /* nodes taken from it; token holder */
    TR__CACHE_ALIGNED tr__atomic_ptr occupant; /* struct tr__worker; the monitor, at open */
    tr__atomic_u32 mode;                       /* enum tr__seat_mode; the occupant */
};

struct tr__worker {
    TR__CACHE_ALIGNED struct tr__workers *workers;
    uint32_t index; /* among all threads, for counts */
    uint32_t seat;  /* where it sits now; its own */
    uint32_t random;
    bool searching;      /* counted in workers->searching */
    bool rested;         /* it has looked in vain since the last node; run clears it */
    bool started;        /* it has a thread; under the lock */
    bool ended;          /* it has left; under the lock */
    uint64_t look_on_ns; /* how long it looks on before it sleeps; 0: as long as any. Its own */
    void *context;       /* the engine's own per-thread things */
    struct tr__fiber_cache fibers;
    struct tr__parker parker;
    tr__atomic_u64 busy_since; /* ns; 0: between tools. Its own; read by the monitor */
    tr__atomic_ptr called;     /* spare: the seat it is called to, else NULL */
    struct tr__worker *next;   /* in the list of spares, under the lock */
    pthread_t thread;
};

struct tr__workers_config {
    uint32_t seats;
    uint32_t substitutes_max;
    uint64_t slice_ns;
    uint32_t processors; /* that this process may use */
    bool spin; /* there is more than one processor: looking on for a while beats sleeping */
    void *context;
    /* A worker runs a node. It may sleep in a tool for as long as it likes. */
    void (*run)(void *context, struct tr__worker *worker, struct tr__mpsc_node *node);
    /* Work waits behind busy seats: see to it that tr__workers_check is called at `when_ns`. */
    void (*watch)(void *context, uint64_t when_ns);
    /* A worker found nothing and is about to sleep: all it did before is published. */
    void (*dry)(void *context);
    /* Called by each thread when it starts and before it ends. */
    void (*enter)(void *context, struct tr__worker *worker);
    void (*leave)(void *context, struct tr__worker *worker);
};

enum tr__workers_count {
    TR__WORKERS_STOLEN,
    TR__WORKERS_PARKED,
    TR__WORKERS_WAKES,
    TR__WORKERS_SUBSTITUTES,
    TR__WORKERS_COUNTS,
};

struct tr__workers {
    TR__CACHE_ALIGNED tr__atomic_u64 idle; /* bit per seat whose occupant sleeps or is about to */
    TR__CACHE_ALIGNED tr__atomic_u32 searching;
    TR__CACHE_ALIGNED tr__atomic_u32 watching; /* a check is due to come */
    tr__atomic_u32 stopping;
    TR__CACHE_ALIGNED struct tr__workers_config config;
    struct tr__seat *seats;
    struct tr__worker *workers; /* seats + substitutes_max of them */
    uint32_t workers_max;
    pthread_mutex_t lock; /* spares, started, blocked */
    pthread_cond_t changed;
    struct tr__worker *spares;
    uint32_t started;                          /* threads that exist or are being made */
    uint32_t ended;                            /* threads that have left */
    uint32_t left_behind;                      /* threads that close did not wait for */
    tr__atomic_u64 counts[TR__WORKERS_COUNTS]; /* rare things: atomic additions */
};

int tr__workers_open(struct tr__workers *workers, const struct tr__workers_config *config);

/* Any thread. Gives a node to a seat and wakes somebody for it if anybody sleeps. Never fails or
 * blocks. */
void tr__workers_post(struct tr__workers *workers, struct tr__mpsc_node *node, uint32_t seat,
                      bool low);
/* The same for a chain linked from first to last. */
void tr__workers_post_chain(struct tr__workers *workers, struct tr__mpsc_node *first,
                            struct tr__mpsc_node *last, uint32_t count, uint32_t seat, bool low);

/* The worker itself, before a tool that may take its time: others take over what waits and what
 * comes. */
void tr__worker_leaves(struct tr__worker *worker);
/* ... and after it. */
void tr__worker_returns(struct tr__worker *worker);

/* Any thread. A good seat for the next nodes: an idle one, else the shorter queue of two. `random`
 * is the caller's state. */
uint32_t tr__workers_choose(struct tr__workers *workers, uint32_t *random);

/* The ring thread, when asked for by `watch`: gives the seats of stuck workers to spares. */
void tr__workers_check(struct tr__workers *workers, uint64_t now_ns);

/* A host thread that wants to know whether all is quiet: its look at the counts comes after every
 * worker's that has gone to sleep (parts/gate). */
void tr__workers_fence(struct tr__workers *workers);

/* Stops when the queues are empty and joins. Threads still in a tool at `deadline_ns` are left
 * behind (detached): returns how many. Then nothing of `workers` may be freed. */
uint32_t tr__workers_close(struct tr__workers *workers, uint64_t deadline_ns);

void tr__workers_done(struct tr__workers *workers);

uint64_t tr__workers_count(struct tr__workers *workers, enum tr__workers_count which);

#endif
