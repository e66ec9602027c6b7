/*
 * worker.c: taking, stealing, sleeping. The threads' coming and going is in worker_thread.c.
 *
 * Owner: a seat's queues: the holder of its token; everything of a worker: its thread.
 * Called by run.c and host through engine.h; calls parts.
 *
 * Invariants
 *  1. Work is not lost: a producer pushes (seq_cst), then looks at `searching`, the seat's `mode`
 *     and `idle` (seq_cst). A worker stops searching, sets its mode to AWAY and its bit in `idle`
 *     (seq_cst), then looks at every queue (seq_cst), then sleeps. One sees the other: a producer
 *     wakes nobody only if somebody is searching, or the seat's occupant is awake, or on its way
 *     from sleep, and will look again.
 *  2. Who clears a bit of `idle` that was set owes that seat's occupant a notification, or is it.
 *  3. Only the token's holder pops, and it retries BUSY, so a queue that looks empty is empty but
 *     for a node that a token holder is about to return.
 *  4. Seats change hands only while their occupant is in a tool (busy_since != 0); a displaced
 *     worker notices at its next look at `occupant` and touches the seat no more. If it was between
 *     looking and taking, it takes one node more: the token keeps that harmless.
 *
 *  5. Work behind an occupant that said BRIEF and was wrong is found by the monitor within a slice:
 *     whoever relies on BRIEF sees to it that a check is coming.
 *
 * A wake costs the waker some 6 us, as much as a hundred no-op tools: so producers leave brief work
 * to an occupant that is awake, one worker at a time looks on for a while before it sleeps, and it
 * is woken only for work nobody is looking for.
 *
 * Complexity per node without sleeping: producer one exchange and one load; worker one CAS (token),
 * one store. Shared lines: the queue's tail (its producers), `idle` (read-mostly when all are
 * busy). With more cores, stealing spreads bursts; at most half of the seats search at a time.
 *
 * Rejected: taking several nodes at a time into a private list saves the token's CAS (5 ns) but
 * hides them behind a long tool, which is what the token exists to prevent.
 */
#include "engine/worker.h"

#include "base/assert.h"
#include "base/backoff.h"
#include "base/clock.h"
#include "engine/worker_thread.h"

/* A low node is taken after so many high ones in a row: low work gets at least 1/17 of a seat. */
#define HIGHS_MAX 16u
/* How long the one searching worker looks on before it sleeps, at most: several times what a wake
 * costs both sides. Each time in vain it is half of that, down to the least, and twice as long each
 * time it was worth it: who waits for programs to end had better leave them the processor. */
#define LOOK_ON_NS UINT64_C(50000)
#define LOOK_ON_MIN_NS UINT64_C(1000)
/* Looks between two looks at the clock and at the other seats' queues. */
#define LOOKS_PER_ROUND 32u
/* Nodes that may wait for a brief occupant before another worker is woken: at 0.1 us each, a wake's
 * cost. */
#define BACKLOG_MAX 128u
/* Tries for one's own token before looking elsewhere: a thief holds it for some 20 ns. */
#define TOKEN_TRIES 32u

static bool has_work(struct tr__seat *seat)
{
    return !tr__mpsc_is_empty(&seat->high) || !tr__mpsc_is_empty(&seat->low);
}

bool tr__workers_have_work(struct tr__workers *workers)
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
    /* seq_cst: invariant 1; it will look, so others need not be woken while it is on its way. Awake
     * by itself it may be in a long tool already: what it says then stays. */
    uint32_t away = TR__SEAT_AWAY;
    (void)tr__cas_seq_cst(&workers->seats[seat].mode, &away, (uint32_t)TR__SEAT_BRIEF);
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
    /* relaxed: a bound on wasted looking, not on correctness. */
    if (!worker->searching && tr__load_relaxed(&workers->searching) * 2 < workers->config.seats) {
        (void)tr__fetch_add_seq_cst(&workers->searching, 1u); /* invariant 1 */
        worker->searching = true;
    }
    return worker->searching;
}

static void stop_searching(struct tr__worker *worker)
{
    if (worker->searching) {
        (void)tr__fetch_sub_seq_cst(&worker->workers->searching, 1u); /* invariant 1 */
        worker->searching = false;
    }
}

static uint32_t depth(struct tr__seat *seat)
{
    /* relaxed: an estimate; may be off by what is under way, also below zero. */
    uint32_t nodes = tr__load_relaxed(&seat->assigned) - tr__load_relaxed(&seat->taken);
    return nodes > UINT32_MAX / 2 ? 0 : nodes;
}

static void ensure_watch(struct tr__workers *workers);

/* Has found work after searching: if there is more than it can do at once, the next one is
 * woken. */
static void pass_on(struct tr__worker *worker)
{
    struct tr__workers *workers = worker->workers;
    uint64_t idle = tr__load_seq_cst(&workers->idle); /* invariant 1, as a producer */
    if (idle != 0 && tr__load_seq_cst(&workers->searching) == 0) {
        for (uint32_t i = 0; i < workers->config.seats; i++) {
            struct tr__seat *seat = &workers->seats[i];
            bool mine = i == worker->seat;
            if (has_work(seat) && (!mine || depth(seat) > BACKLOG_MAX) &&
                tr__load_relaxed(&seat->mode) != TR__SEAT_BRIEF) {
                wake_one(workers, idle, i);
                return;
            }
        }
    }
    /* What is left waits for somebody who is awake; producers that saw this one searching have not
     * seen to a check (invariant 5). */
    if (tr__workers_have_work(workers)) {
        ensure_watch(workers);
    }
}

struct tr__mpsc_node *tr__worker_find(struct tr__worker *worker)
{
    struct tr__workers *workers = worker->workers;
    struct tr__mpsc_node *node = take_own(&workers->seats[worker->seat]);
    if (node == NULL && start_searching(worker)) {
        node = steal(worker);
    }
    if (node != NULL && worker->searching) {
        stop_searching(worker);
        pass_on(worker);
    }
    return node;
}

void tr__worker_rests(struct tr__worker *worker)
{
    if (worker->searching) {
        stop_searching(worker);
        pass_on(worker);
    }
}

/* The searching worker looks on until then. True: there is work somewhere. */
static bool look_until(struct tr__worker *worker, uint64_t until)
{
    struct tr__workers *workers = worker->workers;
    struct tr__seat *seat = &workers->seats[worker->seat];
    do {
        for (unsigned i = 0; i < LOOKS_PER_ROUND; i++) {
            if (has_work(seat)) {
                return true;
            }
            tr__cpu_relax();
        }
        if (tr__workers_have_work(workers)) {
            return true;
        }
    } while (tr__clock_now() < until && tr__load_relaxed(&workers->stopping) == 0);
    return false;
}

static bool look_on(struct tr__worker *worker)
{
    uint64_t most = worker->look_on_ns != 0 ? worker->look_on_ns : LOOK_ON_NS;
    bool found = look_until(worker, tr__clock_now() + most);
    most = found ? most * 2 : most / 2;
    most = most < LOOK_ON_NS ? most : LOOK_ON_NS;
    worker->look_on_ns = most > LOOK_ON_MIN_NS ? most : LOOK_ON_MIN_NS;
    return found;
}

void tr__worker_sleep(struct tr__worker *worker)
{
    struct tr__workers *workers = worker->workers;
    struct tr__seat *seat = &workers->seats[worker->seat];
    uint64_t bit = UINT64_C(1) << worker->seat;
    worker->rested = true;
    if (workers->config.spin && start_searching(worker) && look_on(worker)) {
        return; /* still searching: producers rely on it until it has found the work */
    }
    stop_searching(worker);
    tr__parker_prepare(&worker->parker);
    tr__store_seq_cst(&seat->mode, (uint32_t)TR__SEAT_AWAY); /* invariant 1 */
    (void)tr__fetch_or_seq_cst(&workers->idle, bit);         /* then look at every queue */
    workers->config.dry(workers->config.context);
    /* acquire and seq_cst loads: displaced and stopped workers are notified after these are set. */
    if (tr__workers_have_work(workers) || tr__load_seq_cst(&seat->occupant) != (void *)worker ||
        tr__load_seq_cst(&workers->stopping) != 0) {
        tr__parker_cancel(&worker->parker);
    } else {
        count(workers, TR__WORKERS_PARKED);
        (void)tr__parker_wait(&worker->parker, TR__FOREVER); /* 0 is the only way back */
    }
    (void)tr__fetch_and_seq_cst(&workers->idle, ~bit); /* claimed by a producer, or by itself */
    if (tr__load_seq_cst(&seat->occupant) != (void *)worker) {
        wake_seat(workers, worker->seat); /* displaced: the bit may have been the new occupant's */
        return;
    }
    tr__store_seq_cst(&seat->mode, (uint32_t)TR__SEAT_BRIEF); /* it looks at the queues next */
    (void)start_searching(worker); /* so that it passes on what it was woken for */
}

void tr__worker_leaves(struct tr__worker *worker)
{
    struct tr__workers *workers = worker->workers;
    struct tr__seat *seat = &workers->seats[worker->seat];
    tr__store_seq_cst(&seat->mode, (uint32_t)TR__SEAT_LONG); /* invariant 1: then look */
    uint64_t idle = tr__load_seq_cst(&workers->idle);
    if (idle != 0 && has_work(seat) && tr__load_seq_cst(&workers->searching) == 0) {
        wake_one(workers, idle, worker->seat);
    }
}

void tr__worker_returns(struct tr__worker *worker)
{
    struct tr__seat *seat = &worker->workers->seats[worker->seat];
    if (tr__load_acquire(&seat->occupant) == (void *)worker) {
        /* A displacement in between leaves the new occupant called brief, even if it has gone to
         * sleep: the monitor repairs that. */
        tr__store_seq_cst(&seat->mode, (uint32_t)TR__SEAT_BRIEF);
    }
}

/* Sees to it that somebody looks later whether a worker is stuck with work behind it. */
static void ensure_watch(struct tr__workers *workers)
{
    /* seq_cst: pairs with the store in tr__workers_check. */
    if (tr__load_seq_cst(&workers->watching) == 0 &&
        tr__exchange_seq_cst(&workers->watching, 1u) == 0) {
        workers->config.watch(workers->config.context,
                              tr__clock_after(tr__clock_now(), workers->config.slice_ns));
    }
}

/* Whether brief work is best left to those who are awake: they and the thread that brings it keep
 * every processor busy already, or what waits is less than a wake costs. */
static bool leave_to_awake(struct tr__workers *workers, uint64_t idle, struct tr__seat *seat)
{
    uint32_t awake = workers->config.seats - (uint32_t)__builtin_popcountll(idle);
    return awake + 1 >= workers->config.processors || depth(seat) <= BACKLOG_MAX;
}

/* Somebody awake is cheaper than somebody asleep, if it is back at its queue at once. */
static uint32_t awake_instead(struct tr__workers *workers, uint64_t idle, uint32_t sleeper)
{
    uint32_t seats = workers->config.seats;
    uint64_t all = seats == 64 ? UINT64_MAX : (UINT64_C(1) << seats) - 1;
    uint64_t awake = all & ~idle;
    if (awake != 0) {
        uint32_t seat = (uint32_t)__builtin_ctzll(awake);
        /* relaxed: a hint */
        if (tr__load_relaxed(&workers->seats[seat].mode) == TR__SEAT_BRIEF &&
            leave_to_awake(workers, idle, &workers->seats[seat])) {
            return seat;
        }
    }
    return sleeper;
}

/* The second half of posting, after the push: invariant 1. */
static void announce(struct tr__workers *workers, uint32_t index)
{
    struct tr__seat *seat = &workers->seats[index];
    uint64_t idle = tr__load_seq_cst(&workers->idle);
    if (idle == 0) {
        ensure_watch(workers);
        return;
    }
    if (tr__load_seq_cst(&workers->searching) != 0) {
        return;
    }
    if (tr__load_seq_cst(&seat->mode) == TR__SEAT_BRIEF && leave_to_awake(workers, idle, seat)) {
        ensure_watch(workers);
        return;
    }
    wake_one(workers, idle, index);
}

void tr__workers_post_chain(struct tr__workers *workers, struct tr__mpsc_node *first,
                            struct tr__mpsc_node *last, uint32_t nodes, uint32_t seat, bool low)
{
    TR_ASSERT(seat < workers->config.seats);
    uint64_t idle = tr__load_relaxed(&workers->idle); /* a hint: announce looks again */
    if ((idle >> seat & 1u) != 0) {
        seat = awake_instead(workers, idle, seat); /* chosen a while ago */
    }
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

uint32_t tr__workers_choose(struct tr__workers *workers, uint32_t *random)
{
    uint32_t seats = workers->config.seats;
    uint64_t idle = tr__load_relaxed(&workers->idle); /* hints, all of it; announce looks again */
    if (idle != 0) {
        return awake_instead(workers, idle, (uint32_t)__builtin_ctzll(idle));
    }
    *random = *random * UINT32_C(1664525) + UINT32_C(1013904223);
    uint32_t one = (*random >> 8) % seats;
    uint32_t other = (*random >> 20) % seats;
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
    /* seq_cst: pairs with the look in tr__worker_sleep; the stuck worker may just be coming
     * back. */
    if (!tr__cas_seq_cst(&seat->occupant, &stuck, (void *)spare)) {
        tr__workers_give_spare(workers, spare);
        return;
    }
    count(workers, TR__WORKERS_SUBSTITUTES);
    tr__store_seq_cst(&spare->called,
                      (void *)seat); /* publishes spare->seat; pairs with its look */
    (void)tr__parker_notify(&spare->parker);
    (void)tr__parker_notify(&((struct tr__worker *)stuck)->parker);
}

/* A seat with work behind an occupant that has been in one tool for a slice: wakes a sleeper for
 * it, or gives the seat away. Returns when to look again, at the latest. */
static uint64_t check_seat(struct tr__workers *workers, uint32_t index, uint64_t now_ns)
{
    struct tr__seat *seat = &workers->seats[index];
    void *occupant = tr__load_acquire(&seat->occupant); /* pairs with displace, here only */
    /* relaxed: a time; if it is stale the worker has moved on, and is helped for nothing. */
    uint64_t since = tr__load_relaxed(&((struct tr__worker *)occupant)->busy_since);
    uint64_t idle = tr__load_seq_cst(&workers->idle);
    if (since == 0) {
        /* It looks at its queue next, unless it sleeps and the one before has called it brief. */
        if ((idle >> index & 1u) != 0) {
            wake_one(workers, idle, index);
        }
        return TR__FOREVER;
    }
    uint64_t due = tr__clock_after(since, workers->config.slice_ns);
    if (due > now_ns) {
        return due;
    }
    if (idle != 0) {
        wake_one(workers, idle, index);
    } else {
        displace(workers, seat, occupant);
    }
    return TR__FOREVER;
}

void tr__workers_check(struct tr__workers *workers, uint64_t now_ns)
{
    uint64_t next = tr__clock_after(now_ns, workers->config.slice_ns);
    bool waiting = tr__workers_have_work(workers);
    for (uint32_t i = 0; waiting && i < workers->config.seats; i++) {
        uint64_t look = has_work(&workers->seats[i]) ? check_seat(workers, i, now_ns) : TR__FOREVER;
        next = look < next ? look : next;
    }
    if (waiting) {
        workers->config.watch(workers->config.context, next);
        return;
    }
    /* seq_cst: a producer that still saw 1 pushed before this look at the queues. */
    tr__store_seq_cst(&workers->watching, 0u);
    if (tr__workers_have_work(workers) && tr__exchange_seq_cst(&workers->watching, 1u) == 0) {
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
