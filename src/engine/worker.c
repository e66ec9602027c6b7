/*
 * worker.c: taking, stealing, sleeping. The threads' coming and going is in worker_thread.c.
 *
 * Owner: a seat's queues: the holder of its token; everything of a worker: its thread.
 * Called by run.c and host through engine.h; calls parts.
 *
 * Invariants
 *  1. Work is not lost: a producer pushes (seq_cst), then looks at `idle` (seq_cst). A worker sets its
 *     bit in `idle` (seq_cst), then looks at every queue (seq_cst), then sleeps. One sees the other.
 *  2. Who clears a bit of `idle` that was set owes that seat's occupant a notification, or is it.
 *  3. Only the token's holder pops, and it retries BUSY, so a queue that looks empty is empty but for a
 *     node that a token holder is about to return.
 *  4. Seats change hands only while their occupant is in a tool (busy_since != 0); a displaced worker
 *     notices at its next look at `occupant` and touches the seat no more. If it was between looking and
 *     taking, it takes one node more: the token keeps that harmless.
 *
 * Complexity per node without sleeping: producer one exchange and one load; worker one CAS (token), one
 * store. Shared lines: the queue's tail (its producers), `idle` (read-mostly when all are busy). With more
 * cores, stealing spreads bursts; at most half of the seats search at a time.
 *
 * Rejected: taking several nodes at a time into a private list saves the token's CAS (5 ns) but hides
 * them behind a long tool, which is what the token exists to prevent.
 */
#include "engine/worker.h"

#include "base/assert.h"
#include "base/backoff.h"
#include "base/clock.h"
#include "engine/worker_thread.h"

/* A low node is taken after so many high ones in a row: low work gets at least 1/17 of a seat. */
#define HIGHS_MAX 16u
/* Looks at the own queue before sleeping, about two microseconds: bursts arrive closer than that. */
#define SPINS_BEFORE_SLEEP 40u
/* Tries for one's own token before looking elsewhere: a thief holds it for some 20 ns. */
#define TOKEN_TRIES 32u

static bool has_work(struct tr__seat *seat)
{
    return !tr__mpsc_is_empty(&seat->high) || !tr__mpsc_is_empty(&seat->low);
}

static bool any_work(struct tr__workers *workers)
{
    for (uint32_t i = 0; i < workers->config.seats; i++) {
        if (has_work(&workers->seats[i])) {
            return true;
        }
    }
    return false;
}

/* Token holder. */
static struct tr__mpsc_node *pop(struct tr__mpsc *queue)
{
    struct tr__mpsc_node *node = NULL;
    unsigned spins = 0;
    enum tr__mpsc_result result = TR__MPSC_BUSY;
    while ((result = tr__mpsc_pop(queue, &node)) == TR__MPSC_BUSY) {
        tr__backoff(&spins);
    }
    return result == TR__MPSC_ITEM ? node : NULL;
}

/* Token holder. High before low, but not for ever. */
static struct tr__mpsc_node *take(struct tr__seat *seat)
{
    struct tr__mpsc_node *node = NULL;
    if (seat->highs >= HIGHS_MAX) {
        node = pop(&seat->low);
        seat->highs = 0;
    }
    if (node == NULL) {
        node = pop(&seat->high);
        if (node != NULL) {
            seat->highs += tr__mpsc_is_empty(&seat->low) ? 0 : 1;
        } else {
            node = pop(&seat->low);
        }
    }
    if (node != NULL) {
        /* relaxed: an estimate of the length; one writer at a time. */
        tr__store_relaxed(&seat->taken, tr__load_relaxed(&seat->taken) + 1);
    }
    return node;
}

static struct tr__mpsc_node *take_own(struct tr__seat *seat)
{
    for (unsigned i = 0; i < TOKEN_TRIES; i++) {
        if (tr__token_try_take(&seat->token)) {
            struct tr__mpsc_node *node = take(seat);
            tr__token_give(&seat->token);
            return node;
        }
        tr__cpu_relax();
    }
    return NULL;
}

static void count(struct tr__workers *workers, enum tr__workers_count which)
{
    (void)tr__fetch_add_relaxed(&workers->counts[which], UINT64_C(1)); /* a number to show */
}

/* Wakes the occupant of a seat whose bit the caller has cleared. */
static void wake_seat(struct tr__workers *workers, uint32_t seat)
{
    /* acquire: pairs with the release that seated it. */
    struct tr__worker *worker =
        (struct tr__worker *)tr__load_acquire(&workers->seats[seat].occupant);
    if (tr__parker_notify(&worker->parker)) {
        count(workers, TR__WORKERS_WAKES);
    }
}

/* Wakes somebody if anybody sleeps, `seat`'s occupant rather than another. */
static void wake_one(struct tr__workers *workers, uint64_t idle, uint32_t seat)
{
    while (idle != 0) {
        uint64_t bit = UINT64_C(1) << seat;
        if ((idle & bit) == 0) {
            seat = (uint32_t)__builtin_ctzll(idle);
            bit = UINT64_C(1) << seat;
        }
        /* seq_cst: claims the wake; pairs with the worker's setting of the bit (invariant 2). */
        idle = tr__fetch_and_seq_cst(&workers->idle, ~bit);
        if ((idle & bit) != 0) {
            wake_seat(workers, seat);
            return;
        }
    }
}

static struct tr__mpsc_node *steal(struct tr__worker *worker)
{
    struct tr__workers *workers = worker->workers;
    uint32_t seats = workers->config.seats;
    worker->random = worker->random * UINT32_C(1664525) + UINT32_C(1013904223);
    uint32_t start = (worker->random >> 16) % seats;
    for (uint32_t i = 0; i < seats; i++) {
        struct tr__seat *seat = &workers->seats[(start + i) % seats];
        if (!has_work(seat) || !tr__token_try_take(&seat->token)) {
            continue;
        }
        struct tr__mpsc_node *node = take(seat);
        tr__token_give(&seat->token);
        if (node != NULL) {
            count(workers, TR__WORKERS_STOLEN);
            return node;
        }
    }
    return NULL;
}

static bool start_searching(struct tr__worker *worker)
{
    struct tr__workers *workers = worker->workers;
    /* relaxed: a bound on wasted looking, not on correctness (invariant 1 does not need searchers). */
    if (!worker->searching &&
        tr__load_relaxed(&workers->searching) * 2 < workers->config.seats) {
        (void)tr__fetch_add_relaxed(&workers->searching, 1u);
        worker->searching = true;
    }
    return worker->searching;
}

static void stop_searching(struct tr__worker *worker)
{
    if (worker->searching) {
        (void)tr__fetch_sub_relaxed(&worker->workers->searching, 1u); /* likewise */
        worker->searching = false;
    }
}

struct tr__mpsc_node *tr__worker_find(struct tr__worker *worker)
{
    struct tr__workers *workers = worker->workers;
    struct tr__mpsc_node *node = take_own(&workers->seats[worker->seat]);
    if (node == NULL && start_searching(worker)) {
        node = steal(worker);
    }
    if (node == NULL) {
        return NULL;
    }
    stop_searching(worker);
    if (worker->woken) {
        /* One wake may stand for a burst: who finds work passes it on. */
        worker->woken = false;
        uint64_t idle = tr__load_seq_cst(&workers->idle);
        if (idle != 0 && any_work(workers)) {
            wake_one(workers, idle, worker->seat);
        }
    }
    return node;
}

void tr__worker_sleep(struct tr__worker *worker)
{
    struct tr__workers *workers = worker->workers;
    struct tr__seat *seat = &workers->seats[worker->seat];
    uint64_t bit = UINT64_C(1) << worker->seat;
    worker->rested = true;
    for (unsigned i = 0; i < SPINS_BEFORE_SLEEP; i++) {
        if (has_work(seat)) {
            return;
        }
        tr__cpu_relax();
    }
    stop_searching(worker);
    tr__parker_prepare(&worker->parker);
    (void)tr__fetch_or_seq_cst(&workers->idle, bit); /* invariant 1: then look at every queue */
    workers->config.dry(workers->config.context);
    worker->woken = true;
    /* acquire and seq_cst loads: displaced and stopped workers are notified after these are set. */
    if (any_work(workers) || tr__load_seq_cst(&seat->occupant) != (void *)worker ||
        tr__load_seq_cst(&workers->stopping) != 0) {
        tr__parker_cancel(&worker->parker);
    } else {
        count(workers, TR__WORKERS_PARKED);
        (void)tr__parker_wait(&worker->parker, TR__FOREVER); /* 0 is the only way back */
    }
    (void)tr__fetch_and_seq_cst(&workers->idle, ~bit); /* claimed by a producer, or by itself */
    if (tr__load_seq_cst(&seat->occupant) != (void *)worker) {
        wake_seat(workers, worker->seat); /* displaced: the bit may have been the new occupant's */
    }
}

/* The second half of posting, after the push. */
static void announce(struct tr__workers *workers, uint32_t seat)
{
    uint64_t idle = tr__load_seq_cst(&workers->idle); /* invariant 1 */
    if (idle != 0) {
        wake_one(workers, idle, seat);
        return;
    }
    /* Everybody is busy: somebody must look later whether one of them is stuck. seq_cst: pairs with the
     * store in tr__workers_check. */
    if (tr__load_seq_cst(&workers->watching) == 0 &&
        tr__exchange_seq_cst(&workers->watching, 1u) == 0) {
        workers->config.watch(workers->config.context,
                              tr__clock_after(tr__clock_now(), workers->config.slice_ns));
    }
}

void tr__workers_post_chain(struct tr__workers *workers, struct tr__mpsc_node *first,
                            struct tr__mpsc_node *last, uint32_t nodes, uint32_t seat, bool low)
{
    TR_ASSERT(seat < workers->config.seats);
    struct tr__seat *target = &workers->seats[seat];
    /* relaxed: an estimate. */
    tr__store_relaxed(&target->assigned, tr__load_relaxed(&target->assigned) + nodes);
    tr__mpsc_push_chain(low ? &target->low : &target->high, first, last);
    announce(workers, seat);
}

void tr__workers_post(struct tr__workers *workers, struct tr__mpsc_node *node, uint32_t seat,
                      bool low)
{
    tr__workers_post_chain(workers, node, node, 1, seat, low);
}

static uint32_t depth(struct tr__seat *seat)
{
    /* relaxed: an estimate; may be off by what is under way, also below zero. */
    uint32_t nodes = tr__load_relaxed(&seat->assigned) - tr__load_relaxed(&seat->taken);
    return nodes > UINT32_MAX / 2 ? 0 : nodes;
}

uint32_t tr__workers_choose(struct tr__workers *workers, uint32_t *random)
{
    uint64_t idle = tr__load_relaxed(&workers->idle); /* a hint; announce looks again */
    if (idle != 0) {
        return (uint32_t)__builtin_ctzll(idle);
    }
    *random = *random * UINT32_C(1664525) + UINT32_C(1013904223);
    uint32_t one = (*random >> 8) % workers->config.seats;
    uint32_t other = (*random >> 20) % workers->config.seats;
    return depth(&workers->seats[other]) < depth(&workers->seats[one]) ? other : one;
}

/* Gives the seat of a worker that is stuck in a tool to a spare, if there is one. */
static void displace(struct tr__workers *workers, struct tr__seat *seat, void *stuck)
{
    struct tr__worker *spare = tr__workers_take_spare(workers);
    if (spare == NULL) {
        return;
    }
    spare->seat = (uint32_t)(seat - workers->seats);
    /* seq_cst: pairs with the look in tr__worker_sleep; the stuck worker may just be coming back. */
    if (!tr__cas_seq_cst(&seat->occupant, &stuck, (void *)spare)) {
        tr__workers_give_spare(workers, spare);
        return;
    }
    count(workers, TR__WORKERS_SUBSTITUTES);
    tr__store_seq_cst(&spare->called, (void *)seat); /* publishes spare->seat; pairs with its look */
    (void)tr__parker_notify(&spare->parker);
    (void)tr__parker_notify(&((struct tr__worker *)stuck)->parker);
}

void tr__workers_check(struct tr__workers *workers, uint64_t now_ns)
{
    bool waiting = any_work(workers) && tr__load_seq_cst(&workers->idle) == 0;
    uint64_t next = tr__clock_after(now_ns, workers->config.slice_ns);
    for (uint32_t i = 0; waiting && i < workers->config.seats; i++) {
        struct tr__seat *seat = &workers->seats[i];
        void *occupant = tr__load_acquire(&seat->occupant); /* pairs with displace, here only */
        /* relaxed: a time; if it is stale the worker has moved on, and loses its seat for nothing. */
        uint64_t since = tr__load_relaxed(&((struct tr__worker *)occupant)->busy_since);
        uint64_t due = since == 0 ? TR__FOREVER : tr__clock_after(since, workers->config.slice_ns);
        if (due <= now_ns) {
            displace(workers, seat, occupant);
        } else if (due < next) {
            next = due;
        }
    }
    if (waiting) {
        workers->config.watch(workers->config.context, next);
        return;
    }
    /* seq_cst: a producer that still saw 1 pushed before this look at the queues. */
    tr__store_seq_cst(&workers->watching, 0u);
    if (any_work(workers) && tr__load_seq_cst(&workers->idle) == 0 &&
        tr__exchange_seq_cst(&workers->watching, 1u) == 0) {
        workers->config.watch(workers->config.context, next);
    }
}

void tr__workers_fence(struct tr__workers *workers)
{
    /* A read-modify-write of the word every worker writes before it sleeps: see parts/gate.h. */
    (void)tr__fetch_or_seq_cst(&workers->idle, UINT64_C(0));
}

uint64_t tr__workers_count(struct tr__workers *workers, enum tr__workers_count which)
{
    return tr__load_relaxed(&workers->counts[which]); /* a number to show */
}
