/* By hand: what the host and the engine do with tasks, turns and sessions, without either of them.
 *
 * For tests of the floors below: tasks are admitted and ended by direct calls, one step at a time.
 * What is here follows host/admit.c and host/sessions.c in the little that the domain needs.
 */
#ifndef TR__TESTS_UNIT_BY_HAND_H
#define TR__TESTS_UNIT_BY_HAND_H

#include <string.h>

#include "domain/homes.h"
#include "domain/queue.h"
#include "domain/registry.h"
#include "support/case.h"

/* An admitted task, and the id it was admitted under. */
struct by_hand {
    struct tr__task *task;
    tr_task_id id;
};

static inline void by_hand_open(struct tr__registry *registry, uint32_t tasks_max,
                                uint32_t turns_max, uint32_t sessions_max)
{
    struct tr__registry_config config = {tasks_max, turns_max, sessions_max, 8};
    CHECK_EQ_INT(tr__registry_init(registry, &config), 0);
}

static inline tr_session_id by_hand_session(struct tr__registry *registry)
{
    tr_session_id session = 0;
    CHECK_EQ_INT(tr__registry_open_session(registry, NULL, &session), 0);
    return session;
}

static inline tr_turn_id by_hand_turn(struct tr__registry *registry, tr_session_id session)
{
    tr_turn_id turn = 0;
    CHECK_EQ_INT(tr__registry_open_turn(registry, session, NULL, &turn), 0);
    return turn;
}

/* The record of an open turn or session; nobody else is at it. */
static inline struct tr__turn *by_hand_turn_at(struct tr__registry *registry, tr_turn_id id)
{
    return (struct tr__turn *)(void *)tr__slots_find(&registry->turns, id);
}

static inline struct tr__session *by_hand_session_at(struct tr__registry *registry,
                                                     tr_session_id id)
{
    return (struct tr__session *)(void *)tr__slots_find(&registry->sessions, id);
}

static inline struct tr__lane *by_hand_lane(struct tr__registry *registry,
                                            const tr__atomic_u8 *lane)
{
    return &registry->lanes[tr__load_relaxed(lane)];
}

/* One attempt in the turn's lane. 0, TR_ENOENT, TR_EAGAIN or TR_ENOMEM. */
static inline int by_hand_try(struct tr__registry *registry, tr_turn_id id, uint64_t bits,
                              struct tr__lane **ret_lane, struct by_hand *ret)
{
    struct tr__turn *turn = tr__registry_lock_turn(registry, id, ret_lane);
    if (turn == NULL) {
        return TR_ENOENT;
    }
    bool background = (bits & TR__TASK_BACKGROUND) != 0;
    int error = tr__turn_enrol_reserve(registry, turn, background);
    struct tr__task *task = error < 0 ? NULL : tr__registry_take_task(registry, *ret_lane);
    if (task != NULL) {
        unsigned char *record = (unsigned char *)task + sizeof(task->slot);
        memset((void *)record, 0, sizeof(*task) - sizeof(task->slot));
        tr__store_relaxed(&task->lane, tr__load_relaxed(&turn->lane));
        task->tool = 1;
        task->turn = turn;
        task->in = task->bytes;
        task->input = task->bytes;
        task->accepted_ns = ++(*ret_lane)->accepted_ns;
        turn->tasks++;
        ret->task = task;
        ret->id = tr__slots_id(&registry->tasks, &task->slot);
        tr__task_admit(task, bits);
        tr__turn_enrol(turn, ret->id, background);
        if (!background && (bits & TR__TASK_INLINE) == 0) {
            tr__store_release(&turn->launched, tr__load_relaxed(&turn->launched) + 1);
        }
        tr__store_release(&(*ret_lane)->accepted, tr__load_relaxed(&(*ret_lane)->accepted) + 1);
    }
    tr__lane_unlock(*ret_lane);
    return error < 0 ? error : task == NULL ? TR_EAGAIN : 0;
}

/* A queued task of an open turn; other lanes are asked when its own has no slot. */
static inline int by_hand_launch(struct tr__registry *registry, tr_turn_id turn, uint64_t bits,
                                 struct by_hand *ret)
{
    struct tr__lane *lane = NULL;
    bits |= TR__TASK_HOLD_RESULT | ((bits & TR__TASK_STATE_MASK) == 0 ? TR__TASK_QUEUED : 0);
    int error = by_hand_try(registry, turn, bits, &lane, ret);
    if (error == TR_EAGAIN && tr__registry_rebalance(registry, lane, TR__TAG_TASK)) {
        error = by_hand_try(registry, turn, bits, &lane, ret);
    }
    return error;
}

static inline struct by_hand by_hand_admit(struct tr__registry *registry, tr_turn_id turn,
                                           uint64_t bits)
{
    struct by_hand one = {NULL, 0};
    CHECK_EQ_INT(by_hand_launch(registry, turn, bits, &one), 0);
    TR_ASSERT(one.task != NULL); /* the compiler does not know that CHECK does not return */
    return one;
}

/* Ends a task as cancelled, as if its result had been taken: its slot is to be recycled. */
static inline struct tr__task *by_hand_finish(struct by_hand one)
{
    struct tr__step step = tr__task_cancel(one.task, one.id, false, false);
    CHECK_EQ_INT(step.action, TR__ACTION_SETTLE);
    CHECK(tr__task_drop(one.task, step.word & TR__TASK_HOLDS));
    return one.task;
}

/* The same, and gives its slot back. */
static inline void by_hand_end(struct tr__registry *registry, struct by_hand one)
{
    tr__registry_recycle(registry, by_hand_finish(one));
}

static inline int by_hand_close_turn(struct tr__registry *registry, tr_turn_id id)
{
    struct tr__lane *lane = NULL;
    struct tr__turn *turn = tr__registry_lock_turn(registry, id, &lane);
    if (turn == NULL) {
        return TR_ENOENT;
    }
    tr__registry_close_turn(registry, turn);
    tr__turn_leave(turn, lane);
    tr__registry_reclaim(registry, lane);
    tr__lane_unlock(lane);
    return 0;
}

/* Its turns are closed already. */
static inline int by_hand_close_session(struct tr__registry *registry, tr_session_id id)
{
    struct tr__lane *lane = NULL;
    struct tr__session *session = tr__registry_lock_session(registry, id, &lane);
    if (session == NULL) {
        return TR_ENOENT;
    }
    tr__store_release(&session->closed, 1u);
    tr__session_leave(session, lane, registry);
    tr__registry_reclaim(registry, lane);
    tr__lane_unlock(lane);
    return 0;
}

/* Brings every lane's accounts up to date, then adds them up. */
struct by_hand_used {
    uint32_t tasks, turns, sessions;
};

static inline struct by_hand_used by_hand_used(struct tr__registry *registry)
{
    struct by_hand_used used = {0, 0, 0};
    for (uint32_t i = 0; i < TR__LANES; i++) {
        struct tr__lane *lane = &registry->lanes[i];
        tr__lane_lock(lane);
        tr__registry_reclaim(registry, lane);
        used.tasks += lane->tasks_used;
        used.turns += lane->turns_used;
        used.sessions += lane->sessions_used;
        tr__lane_unlock(lane);
    }
    return used;
}

#endif
