/*
 * kept.c: see kept.h.
 *
 * Owner thread: launchers add, waiters take, the ring thread looks after what stays; a turn's list
 * and its lane's list of such turns belong to the holder of the lane's lock. Called by host and the
 * ring; calls workers, ring, registry.
 *
 * Invariants
 *  1. Kept calls are QUEUED with HOLD_RUN, as in a worker's queue: whoever takes one starts it or
 *     drops the hold. They hold their turn's slot, so a turn in a lane's list is never reused.
 *  2. No call is forgotten: while any list has one, `looking` is 1 and a look is coming. A launcher
 *     adds, then reads `looking`, both under the lane's lock; the keeper stores 0, then takes each
 *     lane's lock and looks. One sees the other.
 *  3. A call is given to the workers by the second look that finds it, so 1 to 2 KEEP_NS after its
 *     launch at the latest; sooner if its turn is waited for.
 *  4. Nothing is kept whose functions would, by what they took so far, keep the waiting thread for
 *     longer than KEPT_TURN_NS.
 *
 * Waste: a host that launches and does not wait pays KEEP_NS once. Then its lane keeps
 * nothing for SKIPS_MIN launches, and each further time without a wait in between for twice as
 * many, up to SKIPS_MAX.
 *
 * Complexity: O(1) a group of launches and a run of calls: one lock each. While anything was kept
 * lately the keeper looks every KEEP_NS at the lanes; it stops when QUIET_MAX looks found nothing,
 * and an idle manager has no timer. With more processors: a lane's lock is its launchers' own.
 *
 * Rejected: leaving the calls in the workers' queues for the waiter to steal: a worker that is
 * awake has them first, at the price of two cache misses each; a spinning worker as keeper: it
 * takes a processor from the host's own work.
 */
#include "engine/kept.h"

#include "base/assert.h"
#include "base/clock.h"
#include "engine/engine.h"

/* Between two looks of the keeper: some fifty times what waking a worker costs, and its look is
 * less than a hundredth of it. */
#define KEEP_NS UINT64_C(1000000)
/* What a wait may be kept by functions: as long as handing them over and back would take. */
#define KEPT_TURN_NS 50000u
/* What a tool is taken to need before it has run. */
#define UNKNOWN_NS 1000u
#define QUIET_MAX 16u
#define SKIPS_MIN 8u
#define SKIPS_MAX 4096u
/* Nodes posted to one worker at once. */
#define CHAIN_MAX 16u

static void look(struct tr__op *timer);

static void start_timer(struct tr__engine *engine)
{
    struct tr__op *timer = &engine->keeper.timer;
    timer->kind = TR__OP_TIMER;
    timer->done = look;
    timer->owner = engine;
    timer->deadline_ns = tr__clock_after(tr__clock_now(), KEEP_NS);
    tr__ring_start(&engine->ring, timer);
}

static uint32_t typical_of(struct tr__engine *engine, const struct tr__task *task)
{
    uint32_t typical = tr__load_relaxed(&engine->typical_ns[task->tool]); /* a hint; 0: unknown */
    return typical != 0 ? typical : UNKNOWN_NS;
}

/* Under the lane's lock. The first so many that a waiter shall run. */
static size_t wanted(struct tr__engine *engine, struct tr__lane *lane, struct tr__turn *turn,
                     struct tr__task **tasks, size_t count)
{
    /* relaxed: a hint; one that sleeps already would not look at the list. */
    if (tr__load_relaxed(&turn->updates.token.held) != 0) {
        return 0;
    }
    if (lane->kept_skips > 0) {
        lane->kept_skips -= (uint32_t)(count < lane->kept_skips ? count : lane->kept_skips);
        return 0;
    }
    size_t kept = 0;
    while (kept < count) {
        uint64_t sum = (uint64_t)turn->kept.typical_ns + typical_of(engine, tasks[kept]);
        if (sum > KEPT_TURN_NS) {
            break;
        }
        turn->kept.typical_ns = (uint32_t)sum;
        kept++;
    }
    return kept;
}

/* Under the lane's lock. */
static void enter_list(struct tr__lane *lane, struct tr__turn *turn)
{
    turn->kept.seen = false;
    turn->kept.next = lane->kept;
    turn->kept.link = &lane->kept;
    if (lane->kept != NULL) {
        lane->kept->kept.link = &turn->kept.next;
    }
    lane->kept = turn;
}

static void leave_list(struct tr__turn *turn)
{
    *turn->kept.link = turn->kept.next;
    if (turn->kept.next != NULL) {
        turn->kept.next->kept.link = turn->kept.link;
    }
}

size_t tr__kept_add(struct tr__engine *engine, struct tr__task **tasks, size_t count)
{
    struct tr__turn *turn = tasks[0]->turn; /* held by them */
    /* relaxed: fixed while the turn has tasks. */
    struct tr__lane *lane = &engine->completion->registry.lanes[tr__load_relaxed(&turn->lane)];
    tr__lane_lock(lane);
    size_t kept = wanted(engine, lane, turn, tasks, count);
    uint32_t before = tr__load_relaxed(&turn->kept.count); /* written under this lock */
    if (kept > 0 && before == 0) {
        enter_list(lane, turn);
    }
    for (size_t i = 0; i < kept; i++) {
        struct tr__mpsc_node *node = &tasks[i]->run;
        tr__mpsc_link(node, NULL);
        if (before == 0 && i == 0) {
            turn->kept.first = node;
        } else {
            tr__mpsc_link(turn->kept.last, node);
        }
        turn->kept.last = node;
    }
    tr__store_relaxed(&turn->kept.count, before + (uint32_t)kept); /* the lock publishes */
    lane->kept_lately = lane->kept_lately || kept > 0;
    /* seq_cst: whoever finds 0 is the one who starts the timer. */
    bool start = kept > 0 && tr__load_relaxed(&engine->keeper.looking) == 0 && /* invariant 2 */
                 tr__exchange_seq_cst(&engine->keeper.looking, 1u) == 0;
    tr__lane_unlock(lane);
    if (start) {
        start_timer(engine);
    }
    return kept;
}

/* Under the lane's lock. Takes up to `most` from a list that is not empty. */
static size_t take(struct tr__turn *turn, size_t most, struct tr__task **ret_tasks)
{
    uint32_t count = tr__load_relaxed(&turn->kept.count); /* written under this lock */
    size_t taken = 0;
    while (taken < count && taken < most) {
        struct tr__mpsc_node *node = turn->kept.first;
        ret_tasks[taken++] = TR__CONTAINER_OF(node, struct tr__task, run);
        turn->kept.first = (struct tr__mpsc_node *)tr__load_relaxed(&node->next); /* likewise */
    }
    tr__store_relaxed(&turn->kept.count, count - (uint32_t)taken);
    if (taken == count) {
        turn->kept.typical_ns = 0;
        leave_list(turn);
    }
    return taken;
}

static size_t take_locked(struct tr__engine *engine, tr_turn_id id, bool waited,
                          struct tr__task **ret_tasks)
{
    struct tr__lane *lane = NULL;
    struct tr__turn *turn = tr__registry_lock_turn(&engine->completion->registry, id, &lane);
    if (turn == NULL) {
        return 0;
    }
    size_t taken = 0;
    if (tr__turn_has_kept(turn)) {
        taken = take(turn, TR__KEPT_RUN, ret_tasks);
        lane->kept_helped = lane->kept_helped || waited;
    }
    tr__lane_unlock(lane);
    return taken;
}

size_t tr__kept_take(struct tr__engine *engine, tr_turn_id turn, struct tr__task **ret_tasks)
{
    return take_locked(engine, turn, true, ret_tasks);
}

void tr__kept_pass_on(struct tr__engine *engine, struct tr__task **tasks, size_t count)
{
    uint32_t random = (uint32_t)(uintptr_t)tasks[0]; /* any number will do */
    for (size_t start = 0; start < count; start += CHAIN_MAX) {
        size_t end = count - start < CHAIN_MAX ? count : start + CHAIN_MAX;
        for (size_t i = start; i + 1 < end; i++) {
            tr__mpsc_link(&tasks[i]->run, &tasks[i + 1]->run);
        }
        tr__workers_post_chain(&engine->workers, &tasks[start]->run, &tasks[end - 1]->run,
                               (uint32_t)(end - start),
                               tr__workers_choose(&engine->workers, &random), false);
    }
}

void tr__kept_flush(struct tr__engine *engine, tr_turn_id turn)
{
    struct tr__task *tasks[TR__KEPT_RUN];
    size_t count = 0;
    while ((count = take_locked(engine, turn, false, tasks)) > 0) {
        tr__kept_pass_on(engine, tasks, count);
    }
}

/* Under the lane's lock. Calls were kept for nobody; or for a thread that lost its processor, if
 * waits have come for others. */
static void skip_some(struct tr__lane *lane)
{
    uint32_t penalty = lane->kept_helped ? 0 : lane->kept_penalty * 2;
    penalty = penalty > SKIPS_MIN ? penalty : SKIPS_MIN;
    lane->kept_penalty = penalty < SKIPS_MAX ? penalty : SKIPS_MAX;
    lane->kept_skips = lane->kept_penalty;
    lane->kept_helped = false;
}

/* Ring thread. One lane: marks what is new, takes what was marked before, up to TR__KEPT_RUN of it;
 * `again` until none is left. Whether there was anything, or may have been, since the last look. */
static bool look_at_lane(struct tr__lane *lane, bool again, struct tr__task **ret_tasks,
                         size_t *ret_count)
{
    *ret_count = 0;
    tr__lane_lock(lane);
    bool lately = lane->kept_lately || lane->kept != NULL;
    lane->kept_lately = false;
    for (struct tr__turn *turn = lane->kept; turn != NULL; turn = turn->kept.next) {
        if (turn->kept.seen) {
            *ret_count = take(turn, TR__KEPT_RUN, ret_tasks);
            break;
        }
    }
    if (*ret_count > 0 && !again) {
        skip_some(lane);
    }
    if (*ret_count == 0) {
        for (struct tr__turn *turn = lane->kept; turn != NULL; turn = turn->kept.next) {
            turn->kept.seen = true;
        }
    }
    tr__lane_unlock(lane);
    return lately;
}

/* Ring thread. */
static bool look_at_all(struct tr__engine *engine)
{
    struct tr__task *tasks[TR__KEPT_RUN];
    bool lately = false;
    for (uint32_t i = 0; i < TR__LANES; i++) {
        struct tr__lane *lane = &engine->completion->registry.lanes[i];
        size_t count = 0;
        do {
            lately = look_at_lane(lane, count > 0, tasks, &count) || lately;
            if (count > 0) {
                tr__kept_pass_on(engine, tasks, count);
            }
        } while (count > 0);
    }
    return lately;
}

static void look(struct tr__op *timer)
{
    struct tr__engine *engine = (struct tr__engine *)timer->owner;
    struct tr__keeper *keeper = &engine->keeper;
    if (tr__load_relaxed(&engine->closing) != 0) { /* every task has ended long before */
        return;
    }
    keeper->quiet = look_at_all(engine) ? 0 : keeper->quiet + 1;
    if (keeper->quiet < QUIET_MAX) {
        start_timer(engine);
        return;
    }
    keeper->quiet = 0;
    tr__store_seq_cst(&keeper->looking, 0u); /* invariant 2: then look */
    if (look_at_all(engine) && tr__exchange_seq_cst(&keeper->looking, 1u) == 0) {
        start_timer(engine);
    }
}
