/*
 * registry.c: lanes and task slots. Sessions and turns are in homes.c.
 *
 * Owner: plain fields of a lane, its sessions and turns: the holder of its lock. Called by
 * completion, engine and host; calls parts and base.
 *
 * Invariants
 *  1. A task's lane never changes while it is in use; its turn's slot outlives it.
 *  2. tasks_used of all lanes together <= tasks_max: slots are the reservation that admission
 *     makes.
 *  3. Lock order: never two lanes at once, but by trying the second.
 *  4. A released task is on its lane's `returned` stack until that lane reclaims; until then it
 *     still counts in its turn's `tasks`.
 *  5. A free slot is in some lane at every moment that lane's lock is free: it moves to another
 *     under the lock of the one it leaves, and `moves` is counted there. So whoever has looked into
 *     every lane in vain, and finds `moves` as it was, has missed none: one that left a lane behind
 *     its back was in the other lane before it looked there.
 *
 * Complexity: taking and recycling O(1) amortised; rebalance O(lanes), only when a lane has run
 * dry. Shared per call: the lane's lock line (launchers of that lane only). With more cores,
 * launchers meet only if their sessions share one of the TR__LANES lanes.
 *
 * Rejected: per-thread slot caches. Host threads come and go, so caches would need destructors that
 * race with closing, and the roster would still need a lock.
 */
#include "domain/registry.h"

#include <string.h>

#include <toolring/error.h>

#include "base/assert.h"
#include "base/memory.h"
#include "domain/homes.h"

/* Slots moved to another lane at a time. */
#define MOVE_MAX TR__SLOTS_CHUNK
/* A lane with so many used slots at hand lends some rather than that fresh ones are touched: so
 * memory follows what all lanes together had at most, not what each of them had. */
#define LEND_MIN (MOVE_MAX / 16)

/* Of each lane's slots, those at hand that are known without being touched: 64 KiB of address space
 * a lane, committed as deep as it is used. */
#define LANE_STACK 16384u
#define STACKS_BYTES (TR__LANES * (size_t)LANE_STACK * sizeof(uint32_t))
/* How many takes ahead a record is fetched: by then it is there, and not yet gone again. */
#define TAKES_AHEAD 4u

static int init_slots(struct tr__registry *registry, const struct tr__registry_config *config)
{
    int error =
        tr__slots_init(&registry->tasks, sizeof(struct tr__task), config->tasks_max, TR__TAG_TASK);
    if (error < 0) {
        return error;
    }
    error =
        tr__slots_init(&registry->turns, sizeof(struct tr__turn), config->turns_max, TR__TAG_TURN);
    if (error < 0) {
        goto free_tasks;
    }
    error = tr__slots_init(&registry->sessions, sizeof(struct tr__session), config->sessions_max,
                           TR__TAG_SESSION);
    if (error < 0) {
        goto free_turns;
    }
    registry->cold_bytes = ((size_t)config->tasks_max + 1) * sizeof(struct tr__cold);
    registry->cold = (struct tr__cold *)tr__memory_reserve(registry->cold_bytes);
    registry->stacks = (uint32_t *)tr__memory_reserve(STACKS_BYTES);
    if (registry->cold != NULL && registry->stacks != NULL) {
        return 0;
    }
    error = TR_ENOMEM;
    tr__memory_unreserve(registry->stacks, STACKS_BYTES);
    tr__memory_unreserve(registry->cold, registry->cold_bytes);
    tr__slots_done(&registry->sessions);
free_turns:
    tr__slots_done(&registry->turns);
free_tasks:
    tr__slots_done(&registry->tasks);
    return error;
}

int tr__registry_init(struct tr__registry *registry, const struct tr__registry_config *config)
{
    memset((void *)registry, 0, sizeof(*registry));
    int error = tr__toolbox_init(&registry->toolbox, config->tools_max);
    if (error < 0) {
        return error;
    }
    error = init_slots(registry, config);
    if (error < 0) {
        tr__toolbox_done(&registry->toolbox);
        return error;
    }
    tr__room_init(&registry->room);
    for (uint32_t i = 0; i < TR__LANES; i++) {
        struct tr__lane *lane = &registry->lanes[i];
        (void)pthread_mutex_init(&lane->lock, NULL); /* a default mutex: cannot fail on Linux */
        tr__slots_cache_init(&lane->tasks);
        tr__slots_cache_stack(&lane->tasks, registry->stacks + (size_t)i * LANE_STACK, LANE_STACK);
        tr__slots_cache_init(&lane->turns);
        tr__slots_cache_init(&lane->sessions);
        lane->random = i * UINT32_C(2654435761) + 1;
    }
    return 0;
}

static void done_homes(struct tr__registry *registry)
{
    for (uint32_t i = 1; i <= tr__slots_reached(&registry->turns); i++) {
        tr__turn_done((struct tr__turn *)(void *)tr__slots_at(&registry->turns, i));
    }
    for (uint32_t i = 1; i <= tr__slots_reached(&registry->sessions); i++) {
        tr__session_done((struct tr__session *)(void *)tr__slots_at(&registry->sessions, i));
    }
}

void tr__registry_done(struct tr__registry *registry)
{
    done_homes(registry);
    tr__room_done(&registry->room);
    for (uint32_t i = 0; i < TR__LANES; i++) {
        (void)pthread_mutex_destroy(&registry->lanes[i].lock); /* nobody holds it */
    }
    tr__memory_unreserve(registry->stacks, STACKS_BYTES);
    tr__memory_unreserve(registry->cold, registry->cold_bytes);
    tr__slots_done(&registry->sessions);
    tr__slots_done(&registry->turns);
    tr__slots_done(&registry->tasks);
    tr__toolbox_done(&registry->toolbox);
}

void tr__lane_lock(struct tr__lane *lane)
{
    int error = pthread_mutex_lock(&lane->lock);
    TR_ASSERT(error == 0); /* a default mutex fails only if it is corrupt */
}

void tr__lane_unlock(struct tr__lane *lane)
{
    int error = pthread_mutex_unlock(&lane->lock);
    TR_ASSERT(error == 0);
}

static void account(struct tr__slot *slot, void *context)
{
    struct tr__lane *lane = (struct tr__lane *)context;
    struct tr__task *task = (struct tr__task *)(void *)slot;
    if (task->turn == NULL) {
        return; /* brought here by a rebalance: accounted for where it was */
    }
    struct tr__turn *turn = task->turn;
    task->turn = NULL;
    TR_ASSERT(lane->tasks_used > 0);
    lane->tasks_used--;
    tr__turn_leave(turn, lane);
}

void tr__registry_reclaim(struct tr__registry *registry, struct tr__lane *lane)
{
    (void)tr__slots_reclaim(&registry->tasks, &lane->tasks, account, lane);
}

void tr__registry_untake_task(struct tr__registry *registry, struct tr__lane *lane,
                              struct tr__task *task)
{
    TR_ASSERT(lane->tasks_used > 0);
    lane->tasks_used--;
    task->turn = NULL;
    tr__slots_stale(&registry->tasks, &task->slot);
    tr__slots_give(&registry->tasks, &lane->tasks, &task->slot);
}

static struct tr__slots *slots_of(struct tr__registry *registry, uint32_t kind)
{
    return kind == TR__TAG_TASK   ? &registry->tasks
           : kind == TR__TAG_TURN ? &registry->turns
                                  : &registry->sessions;
}

static struct tr__slots_cache *cache_of(struct tr__lane *lane, uint32_t kind)
{
    return kind == TR__TAG_TASK   ? &lane->tasks
           : kind == TR__TAG_TURN ? &lane->turns
                                  : &lane->sessions;
}

/* Slots that `cache` can hand out without asking anybody. */
static uint32_t at_hand(const struct tr__slots_cache *cache)
{
    return cache->count + cache->stacked + (cache->fresh_end - cache->fresh_next);
}

/* Under the lock of the lane `from` is in: moves half of the `spare` slots to `to`, which needs no
 * lock for being given slots. Used ones go before fresh ones. */
static unsigned move(struct tr__slots *slots, struct tr__slots_cache *from,
                     struct tr__slots_cache *to, unsigned spare)
{
    unsigned want = spare / 2 + 1;
    unsigned moved = 0;
    struct tr__slot *first = NULL;
    struct tr__slot *last = NULL;
    struct tr__slot *slot = NULL;
    want = want < MOVE_MAX ? want : MOVE_MAX;
    while (moved < want && (slot = tr__slots_take_local(slots, from)) != NULL) {
        tr__store_relaxed(&slot->link, first == NULL ? 0u : first->index); /* ours alone */
        first = slot;
        last = last == NULL ? slot : last;
        moved++;
    }
    if (moved > 0) {
        tr__slots_give_chain(slots, to, first, last, moved);
    }
    return moved;
}

/* Under the lane's lock: a used slot from a lane that has plenty, and more for the next takes. */
static struct tr__slot *borrow(struct tr__registry *registry, struct tr__lane *lane)
{
    uint32_t self = (uint32_t)(lane - registry->lanes);
    for (uint32_t i = 1; i < TR__LANES; i++) {
        struct tr__lane *from = &registry->lanes[(self + i) % TR__LANES];
        unsigned moved = 0;
        if (pthread_mutex_trylock(&from->lock) != 0) {
            continue; /* in use just now: not worth waiting for */
        }
        tr__registry_reclaim(registry, from); /* what was released to it counts too */
        unsigned used = from->tasks.count + from->tasks.stacked; /* at hand before fresh ones */
        if (used >= LEND_MIN) {
            moved = move(&registry->tasks, &from->tasks, &lane->tasks, used);
            /* release: invariant 5, as share. */
            (void)tr__fetch_add_release(&registry->moves, UINT64_C(1));
        }
        tr__lane_unlock(from);
        if (moved > 0) {
            tr__registry_reclaim(registry, lane);
            return tr__slots_take_local(&registry->tasks, &lane->tasks);
        }
    }
    return NULL;
}

struct tr__task *tr__registry_take_task(struct tr__registry *registry, struct tr__lane *lane)
{
    char *ahead = (char *)tr__slots_ahead(&registry->tasks, &lane->tasks, TAKES_AHEAD);
    if (ahead != NULL) { /* what a launch writes of a record */
        __builtin_prefetch(ahead, 1);
        __builtin_prefetch(ahead + TR_CACHE_LINE, 1);
        __builtin_prefetch(ahead + 2 * TR_CACHE_LINE, 1);
    }
    struct tr__slot *slot = tr__slots_take_local(&registry->tasks, &lane->tasks);
    if (slot == NULL) {
        tr__registry_reclaim(registry, lane);
        slot = tr__slots_take_local(&registry->tasks, &lane->tasks);
    }
    if (slot == NULL) {
        slot = borrow(registry, lane); /* once in a chunk of fresh ones */
    }
    if (slot == NULL) {
        slot = tr__slots_take_fresh(&registry->tasks, &lane->tasks);
    }
    if (slot != NULL) {
        lane->tasks_used++;
    }
    return (struct tr__task *)(void *)slot;
}

/* Brings what can be spared of `from` to `to`. How many `to` has of it. */
static unsigned share(struct tr__registry *registry, struct tr__lane *from, struct tr__lane *to,
                      uint32_t kind)
{
    struct tr__slots *slots = slots_of(registry, kind);
    unsigned count = 0;
    tr__lane_lock(from);
    /* Sees every slot returned before, also against a launcher that waits for room: a look by
     * read-modify-write, as parts/gate asks for. */
    (void)tr__fetch_or_seq_cst(&from->tasks.returned, 0u);
    tr__registry_reclaim(registry, from);
    if (kind != TR__TAG_TASK) {
        (void)tr__slots_reclaim(slots, cache_of(from, kind), NULL, NULL);
    }
    if (from == to) {
        count = at_hand(cache_of(from, kind));
    } else {
        struct tr__slots_cache *cache = cache_of(from, kind);
        count = move(slots, cache, cache_of(to, kind), at_hand(cache));
    }
    if (from != to && count > 0) {
        /* release: whoever finds this lane emptied, under its lock, sees that slots have moved. */
        (void)tr__fetch_add_release(&registry->moves, UINT64_C(1));
    }
    tr__lane_unlock(from);
    return count;
}

bool tr__registry_rebalance(struct tr__registry *registry, struct tr__lane *lane, uint32_t kind)
{
    uint32_t self = (uint32_t)(lane - registry->lanes);
    uint64_t before = tr__load_acquire(&registry->moves); /* invariant 5 */
    for (uint32_t i = 0; i < TR__LANES; i++) {
        struct tr__lane *from = &registry->lanes[(self + i) % TR__LANES];
        if (share(registry, from, lane, kind) > 0) {
            return true;
        }
    }
    return tr__load_acquire(&registry->moves) != before;
}

void tr__registry_recycle(struct tr__registry *registry, struct tr__task *task)
{
    struct tr__lane *lane = &registry->lanes[tr__load_relaxed(&task->lane)]; /* ours */
    /* A hint, while the task still has a turn: whose watchers need to know. */
    const struct tr__session *session =
        tr__room_is_watched(&registry->room) ? task->turn->session : NULL;
    tr__slots_stale(&registry->tasks, &task->slot);
    tr__slots_give(&registry->tasks, &lane->tasks, &task->slot);
    tr__room_open(&registry->room);
    if (tr__room_is_watched(&registry->room)) {
        tr__room_tell_watches(&registry->room, session);
    }
}

void tr__registry_recycle_many(struct tr__registry *registry, struct tr__task **tasks,
                               unsigned count)
{
    TR_ASSERT(count > 0);
    struct tr__lane *lane = &registry->lanes[tr__load_relaxed(&tasks[0]->lane)]; /* ours */
    struct tr__slot *first = NULL;
    struct tr__slot *last = NULL;
    unsigned chained = 0;
    bool locked = pthread_mutex_trylock(&lane->lock) == 0;
    for (unsigned i = 0; i < count; i++) {
        struct tr__slot *slot = &tasks[i]->slot;
        tr__slots_stale(&registry->tasks, slot);
        if (locked && tr__slot_is_good(slot)) {
            account(slot, lane);
            if (tr__slots_put(&lane->tasks, slot)) {
                continue;
            }
        }
        tr__store_relaxed(&slot->link,
                          first == NULL ? 0u : first->index); /* published by the give */
        last = last == NULL ? slot : last;
        first = slot;
        chained++;
    }
    if (locked) {
        tr__lane_unlock(lane);
    }
    if (chained > 0) {
        tr__slots_give_chain(&registry->tasks, &lane->tasks, first, last, chained);
    }
    /* acq_rel look of a launcher without room: its reclaim comes after ours, or it sees us */
    tr__room_open(&registry->room);
    if (tr__room_is_watched(&registry->room)) {
        tr__room_tell_watches(&registry->room, NULL); /* of several sessions, perhaps */
    }
}
