/*
 * homes.c: sessions and turns come and go. See turn.h for what they are, registry.h for lanes.
 *
 * Owner: the holder of the lane's lock. Called by registry and host; calls parts and base.
 *
 * Invariants
 *  1. A turn's slot is freed when it is closed and none of its tasks is left; its session's `turns`
 *     counts it until then, so a session's slot is freed after its last turn's.
 *  2. A home that was never opened, or was freed, has `out` (`loop_out`) NULL: that is how the end
 *     of everything tells them apart.
 *  3. A queue's `bound` counts the homes whose slots deliver into it.
 *
 * Complexity: O(1), but closing a turn: O(its live background tasks).
 */
#include "domain/homes.h"

#include <string.h>

#include <toolring/error.h>

#include "base/assert.h"
#include "base/memory.h"
#include "domain/queue.h"

static struct tr__registry *registry_of(struct tr__lane *lane, uint8_t index)
{
    return TR__CONTAINER_OF(lane - index, struct tr__registry, lanes);
}

static void bind(struct tr_queue *queue)
{
    if (queue != NULL) {
        (void)tr__fetch_add_relaxed(&queue->bound, 1u); /* a count; tr_queue_close reads it */
    }
}

static void unbind(struct tr_queue *queue)
{
    if (queue != NULL) {
        (void)tr__fetch_sub_release(&queue->bound, 1u); /* pairs with tr_queue_close's acquire */
    }
}

void tr__session_done(struct tr__session *session)
{
    if (session->loop_out == NULL) {
        return;
    }
    tr__roster_done(&session->orphans);
    tr__memory_give(session->label);
    tr__inbox_done(&session->loop);
    tr__inbox_done(&session->ready);
    unbind(session->queue);
    session->label = NULL;
    session->loop_out = NULL;
}

void tr__turn_done(struct tr__turn *turn)
{
    if (turn->out == NULL) {
        return;
    }
    tr__roster_done(&turn->foreground);
    tr__roster_done(&turn->background);
    tr__memory_give(turn->label);
    tr__inbox_done(&turn->updates);
    unbind(turn->queue);
    turn->label = NULL;
    turn->out = NULL;
}

void tr__session_leave(struct tr__session *session, struct tr__lane *lane,
                       struct tr__registry *registry)
{
    TR_ASSERT(session->turns > 0);
    session->turns--;
    if (session->turns > 0) {
        return;
    }
    if (registry->clear != NULL) {
        registry->clear(registry->context, session);
    }
    tr__session_done(session);
    lane->sessions_used--;
    tr__slots_stale(&registry->sessions, &session->slot);
    tr__slots_give(&registry->sessions, &lane->sessions, &session->slot);
}

void tr__turn_leave(struct tr__turn *turn, struct tr__lane *lane)
{
    TR_ASSERT(turn->tasks > 0);
    turn->tasks--;
    if (turn->tasks > 0) {
        return;
    }
    struct tr__registry *registry = registry_of(lane, tr__load_relaxed(&turn->lane));
    struct tr__session *session = turn->session;
    *turn->link = turn->next;
    if (turn->next != NULL) {
        turn->next->link = turn->link;
    }
    tr__turn_done(turn);
    lane->turns_used--;
    tr__slots_give(&registry->turns, &lane->turns, &turn->slot); /* stale since its close */
    tr__session_leave(session, lane, registry);
}

static struct tr__slot *take_home(struct tr__registry *registry, struct tr__lane *lane,
                                  uint32_t kind)
{
    struct tr__slots *slots = kind == TR__TAG_TURN ? &registry->turns : &registry->sessions;
    struct tr__slots_cache *cache = kind == TR__TAG_TURN ? &lane->turns : &lane->sessions;
    struct tr__slot *slot = tr__slots_take_local(slots, cache);
    if (slot == NULL) {
        tr__registry_reclaim(registry, lane);
        (void)tr__slots_reclaim(slots, cache, NULL, NULL);
        slot = tr__slots_take_local(slots, cache);
    }
    return slot != NULL ? slot : tr__slots_take_fresh(slots, cache);
}

/* A copy of a label of any length up to the bound; NULL stays NULL. */
static int copy_label(const char *label, char **ret_label)
{
    *ret_label = NULL;
    if (label == NULL) {
        return 0;
    }
    size_t size = strnlen(label, TR_LABEL_BYTES_MAX + 1);
    if (size > TR_LABEL_BYTES_MAX) {
        return TR_EINVAL;
    }
    char *copy = (char *)tr__memory_take(size + 1);
    if (copy == NULL) {
        return TR_ENOMEM;
    }
    memcpy(copy, label, size + 1);
    *ret_label = copy;
    return 0;
}

static void open_word(struct tr__slot *slot)
{
    uint64_t word = tr__load_relaxed(&slot->word); /* ours, under the lock */
    /* release: pairs with tr__slots_find; the home is filled. */
    tr__store_release(&slot->word, word | TR__HOME_OPEN);
}

static void fill_session(struct tr__session *session, uint32_t lane, char *label,
                         const tr_session_options *options, uint64_t opened)
{
    struct tr_queue *queue = options == NULL ? NULL : options->queue;
    tr__store_relaxed(&session->lane, (uint8_t)lane);
    tr__store_relaxed(&session->closed, 0u);
    tr__store_relaxed(&session->discarded, 0u);
    session->turns = 1;
    session->takers = 0;
    session->first = NULL;
    session->orphans_lost = false;
    session->queue = queue;
    session->label = label;
    session->user = options == NULL ? NULL : options->user;
    session->opened = opened;
    tr__roster_init(&session->orphans);
    tr__inbox_init(&session->loop);
    tr__inbox_init(&session->ready);
    session->loop_out = queue == NULL ? &session->loop : &queue->inbox;
    session->ready_out = queue == NULL ? &session->ready : &queue->inbox;
    bind(queue);
}

int tr__registry_open_session(struct tr__registry *registry, const tr_session_options *options,
                              tr_session_id *ret_session)
{
    char *label = NULL;
    int error = copy_label(options == NULL ? NULL : options->label, &label);
    if (error < 0) {
        return error;
    }
    /* relaxed: only spreads sessions over lanes, and numbers them. */
    uint32_t opened = tr__fetch_add_relaxed(&registry->next_lane, 1u);
    struct tr__lane *lane = &registry->lanes[opened % TR__LANES];
    struct tr__slot *slot = NULL;
    do {
        tr__lane_lock(lane);
        if (tr__load_relaxed(&registry->closing) != 0) { /* written under this lock */
            error = TR_ECLOSED;
        } else {
            slot = take_home(registry, lane, TR__TAG_SESSION);
        }
        if (slot != NULL) {
            struct tr__session *session = (struct tr__session *)(void *)slot;
            fill_session(session, opened % TR__LANES, label, options, opened);
            session->id = tr__slots_id(&registry->sessions, slot);
            tr__store_relaxed(&session->life, session->id); /* a number: equal or not */
            lane->sessions_used++;
            open_word(slot);
            *ret_session = session->id;
        }
        tr__lane_unlock(lane);
    } while (slot == NULL && error == 0 && tr__registry_rebalance(registry, lane, TR__TAG_SESSION));
    if (slot == NULL) {
        tr__memory_give(label);
        return error < 0 ? error : TR_ELIMIT;
    }
    return 0;
}

static struct tr__session *find_session(struct tr__registry *registry, tr_session_id id)
{
    struct tr__slot *slot = tr__slots_find(&registry->sessions, id);
    bool open = slot != NULL && (tr__load_acquire(&slot->word) & TR__HOME_OPEN) != 0;
    return open ? (struct tr__session *)(void *)slot : NULL;
}

struct tr__session *tr__registry_lock_session(struct tr__registry *registry, tr_session_id id,
                                              struct tr__lane **ret_lane)
{
    struct tr__session *session = find_session(registry, id);
    if (session == NULL) {
        return NULL;
    }
    /* relaxed: a wrong lane (the slot was reused) is found out under its lock. */
    struct tr__lane *lane = &registry->lanes[tr__load_relaxed(&session->lane)];
    tr__lane_lock(lane);
    if (find_session(registry, id) == NULL) {
        tr__lane_unlock(lane);
        return NULL;
    }
    *ret_lane = lane;
    return session;
}

static struct tr__turn *find_turn(struct tr__registry *registry, tr_turn_id id)
{
    struct tr__slot *slot = tr__slots_find(&registry->turns, id);
    bool open = slot != NULL && (tr__load_acquire(&slot->word) & TR__HOME_OPEN) != 0;
    return open ? (struct tr__turn *)(void *)slot : NULL;
}

struct tr__turn *tr__registry_lock_turn(struct tr__registry *registry, tr_turn_id id,
                                        struct tr__lane **ret_lane)
{
    struct tr__turn *turn = find_turn(registry, id);
    if (turn == NULL) {
        return NULL;
    }
    /* relaxed: a wrong lane (the slot was reused) is found out under its lock. */
    struct tr__lane *lane = &registry->lanes[tr__load_relaxed(&turn->lane)];
    tr__lane_lock(lane);
    if (find_turn(registry, id) == NULL) {
        tr__lane_unlock(lane);
        return NULL;
    }
    *ret_lane = lane;
    return turn;
}

static void fill_turn(struct tr__turn *turn, struct tr__session *session, char *label,
                      const tr_turn_options *options)
{
    bool unbound = options != NULL && (options->flags & TR_TURN_UNBOUND) != 0;
    struct tr_queue *queue = options == NULL ? NULL : options->queue;
    queue = queue == NULL && !unbound ? session->queue : queue;
    tr__store_relaxed(&turn->lane, tr__load_relaxed(&session->lane));
    tr__store_relaxed(&turn->closed, 0u);
    tr__store_relaxed(&turn->launched, UINT64_C(0));
    tr__store_relaxed(&turn->settled, UINT64_C(0));
    tr__store_relaxed(&turn->kept.count, 0u);
    turn->kept.typical_ns = 0;
    turn->session = session;
    turn->bound = queue != NULL;
    turn->tasks = 1;
    turn->queue = queue;
    turn->label = label;
    tr__roster_init(&turn->foreground);
    tr__roster_init(&turn->background);
    tr__inbox_reuse(&turn->updates); /* a late tr_turn_wait of its last life may have the token */
    turn->out = queue == NULL ? &turn->updates : &queue->inbox;
    bind(queue);
    turn->next = session->first;
    turn->link = &session->first;
    if (session->first != NULL) {
        session->first->link = &turn->next;
    }
    session->first = turn;
    session->turns++;
}

/* One attempt under the session's lane. TR_EAGAIN: the lane, returned, has no slot. */
static int try_open_turn(struct tr__registry *registry, tr_session_id id, char *label,
                         const tr_turn_options *options, struct tr__lane **ret_lane,
                         tr_turn_id *ret_turn)
{
    struct tr__session *session = tr__registry_lock_session(registry, id, ret_lane);
    if (session == NULL) {
        return TR_ENOENT;
    }
    struct tr__lane *lane = *ret_lane;
    struct tr__slot *slot = NULL;
    int error = 0;
    if (tr__load_relaxed(&session->closed) != 0 || tr__load_relaxed(&registry->closing) != 0) {
        error = TR_ECLOSED; /* both are written under this lock */
    } else {
        slot = take_home(registry, lane, TR__TAG_TURN);
        error = slot == NULL ? TR_EAGAIN : 0;
    }
    if (slot != NULL) {
        struct tr__turn *turn = (struct tr__turn *)(void *)slot;
        fill_turn(turn, session, label, options);
        turn->id = tr__slots_id(&registry->turns, slot);
        tr__store_relaxed(&turn->life, turn->id); /* a number: equal or not */
        lane->turns_used++;
        open_word(slot);
        *ret_turn = turn->id;
    }
    tr__lane_unlock(lane);
    return error;
}

int tr__registry_open_turn(struct tr__registry *registry, tr_session_id session,
                           const tr_turn_options *options, tr_turn_id *ret_turn)
{
    char *label = NULL;
    int error = copy_label(options == NULL ? NULL : options->label, &label);
    if (error < 0) {
        return error;
    }
    struct tr__lane *lane = NULL;
    do {
        error = try_open_turn(registry, session, label, options, &lane, ret_turn);
    } while (error == TR_EAGAIN && tr__registry_rebalance(registry, lane, TR__TAG_TURN));
    if (error < 0) {
        tr__memory_give(label);
    }
    return error == TR_EAGAIN ? TR_ELIMIT : error;
}

/* Whose roster is being swept. */
struct sweep {
    struct tr__registry *registry;
    struct tr__turn *turn;
};

/* The word of a task that has not ended, or 0. */
static uint64_t live_word(struct tr__registry *registry, tr_task_id id)
{
    struct tr__task *task = tr__registry_task(registry, id);
    uint64_t word = task == NULL ? 0 : tr__task_word(task);
    bool same = TR__WORD_GENERATION(word) == TR__ID_GENERATION(id);
    return task != NULL && same && tr__word_is_live(word) ? word : 0;
}

static bool keep_live(void *context, tr_task_id id)
{
    return live_word((struct tr__registry *)context, id) != 0;
}

/* Attached tasks have been enrolled as foreground. */
static bool keep_background(void *context, tr_task_id id)
{
    const struct sweep *sweep = (const struct sweep *)context;
    uint64_t word = live_word(sweep->registry, id);
    return word != 0 && tr__word_is_background(word);
}

/* Detached tasks move to the other roster; without memory for that they stay where they are. */
static bool keep_foreground(void *context, tr_task_id id)
{
    struct sweep *sweep = (struct sweep *)context;
    uint64_t word = live_word(sweep->registry, id);
    if (word == 0 || !tr__word_is_background(word)) {
        return word != 0;
    }
    if (tr__roster_reserve(&sweep->turn->background, keep_background, sweep) < 0) {
        return true;
    }
    tr__roster_append(&sweep->turn->background, id);
    return false;
}

int tr__turn_enrol_reserve(struct tr__registry *registry, struct tr__turn *turn, bool background)
{
    struct sweep sweep = {registry, turn};
    return background ? tr__roster_reserve(&turn->background, keep_background, &sweep)
                      : tr__roster_reserve(&turn->foreground, keep_foreground, &sweep);
}

void tr__turn_enrol(struct tr__turn *turn, tr_task_id id, bool background)
{
    tr__roster_append(background ? &turn->background : &turn->foreground, id);
}

void tr__turn_sweep(struct tr__registry *registry, struct tr__turn *turn)
{
    struct sweep sweep = {registry, turn};
    tr__roster_sweep(&turn->foreground, keep_foreground, &sweep);
    tr__roster_sweep(&turn->background, keep_background, &sweep);
}

void tr__turn_sweep_foreground(struct tr__registry *registry, struct tr__turn *turn)
{
    struct sweep sweep = {registry, turn};
    tr__roster_sweep(&turn->foreground, keep_foreground, &sweep);
}

static void orphan(struct tr__registry *registry, struct tr__session *session,
                   const struct tr__roster *roster)
{
    for (uint32_t i = 0; i < roster->count; i++) {
        if (tr__roster_reserve(&session->orphans, keep_live, registry) < 0) {
            session->orphans_lost = true; /* no memory: its close looks at every task instead */
            return;
        }
        tr__roster_append(&session->orphans, roster->ids[i]);
    }
}

void tr__registry_close_turn(struct tr__registry *registry, struct tr__turn *turn)
{
    tr__turn_sweep(registry, turn);
    orphan(registry, turn->session, &turn->background);
    orphan(registry, turn->session, &turn->foreground); /* cleaning up, or not yet moved over */
    /* seq_cst: pairs with the load after a push in completion/settle: one of the two sides sees the
     * other, so nothing stays in the inbox of a closed turn. */
    tr__store_seq_cst(&turn->closed, 1u);
    tr__slots_stale(&registry->turns, &turn->slot);
}
