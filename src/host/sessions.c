/*
 * sessions.c: opening, closing, finding sessions and turns; interrupting turns.
 *
 * Owner thread: any host thread, under the lane's lock where it says so. Called by hosts and
 * manager.c; calls registry, cancel, settle.
 *
 * Invariants
 *  1. Tasks are cancelled before their home is marked closed: settling under the lane's lock is
 *     allowed only then (completion/settle.h).
 *  2. Marking comes before discarding what is in the inbox; whoever delivers later discards by
 *     itself.
 *  3. Launches that wait for room look again when their turn is gone: they look under the lane's
 *     lock, so one that looked before is counted as waiting when the gate is opened behind it.
 *  4. A waiter in tr_turn_wait holds the inbox's token: it is told to look again and leaves; only
 *     then is the inbox emptied and the slot given up.
 *
 * Complexity: interrupting costs what the turn's foreground roster holds (at most twice its live
 * tasks and four); closing what the turn's, or session's, live tasks cost. Finding by label looks
 * at every session.
 */
#include <string.h>

#include "base/assert.h"
#include "domain/homes.h"
#include "host/manager.h"

static const char session_reason[] = "the session was closed";

int tr_session_open(tr_manager *manager, const tr_session_options *options,
                    tr_session_id *ret_session)
{
    if (manager == NULL || ret_session == NULL ||
        (options != NULL && (!tr__size_is_known(options, options->size, sizeof(*options)) ||
                             (options->queue != NULL && options->queue->manager != manager)))) {
        return TR_EINVAL;
    }
    struct tr__registry *registry = tr__manager_registry(manager);
    int error = tr__registry_open_session(registry, options, ret_session);
    if (error == TR_ELIMIT) {
        tr__manager_flush(manager); /* timers of ended tasks hold closed homes */
        error = tr__registry_open_session(registry, options, ret_session);
    }
    return error;
}

int tr_turn_open(tr_manager *manager, tr_session_id session, const tr_turn_options *options,
                 tr_turn_id *ret_turn)
{
    if (manager == NULL || ret_turn == NULL ||
        (options != NULL && (!tr__size_is_known(options, options->size, sizeof(*options)) ||
                             (options->flags & ~TR_TURN_UNBOUND) != 0 || options->reserved != 0 ||
                             (options->queue != NULL &&
                              (options->queue->manager != manager || options->flags != 0))))) {
        return TR_EINVAL;
    }
    struct tr__registry *registry = tr__manager_registry(manager);
    int error = tr__registry_open_turn(registry, session, options, ret_turn);
    if (error == TR_ELIMIT) {
        tr__manager_flush(manager); /* as above */
        error = tr__registry_open_turn(registry, session, options, ret_turn);
    }
    return error;
}

static bool is_foreground(uint64_t word)
{
    return !tr__word_is_background(word);
}

/* Asks the task of an id to stop, if it is alive and `wanted` likes its word. Of what `wanted` may
 * ask, only the kind can change: the transition itself looks at it again. */
static bool cancel_if(tr_manager *manager, tr_task_id id, bool (*wanted)(uint64_t word),
                      const char *reason)
{
    struct tr__task *task = tr__registry_task(tr__manager_registry(manager), id);
    uint64_t word = task == NULL ? 0 : tr__task_word(task);
    if (task == NULL || TR__WORD_GENERATION(word) != TR__ID_GENERATION(id) ||
        !tr__word_is_live(word) || !wanted(word)) {
        return false;
    }
    if ((word & TR__TASK_CANCEL) != 0) {
        return false; /* asked before; an attached task may be in a roster twice */
    }
    int error = wanted == is_foreground
                    ? tr__cancel_foreground(&manager->engine, task, id, reason)
                    : tr__cancel_task(&manager->engine, task, id, false, TR_ECANCELED, reason);
    return error == 0;
}

static bool lives_a_turn(uint64_t word)
{
    return tr__word_lifetime(word) == TR_LIFETIME_TURN;
}

static bool lives_a_session(uint64_t word)
{
    return tr__word_lifetime(word) != TR_LIFETIME_MANAGER;
}

static bool is_any(uint64_t word)
{
    (void)word; /* whatever it is */
    return true;
}

static int cancel_roster(tr_manager *manager, const struct tr__roster *roster,
                         bool (*wanted)(uint64_t word), const char *reason)
{
    int asked = 0;
    for (uint32_t i = 0; i < roster->count; i++) {
        asked += cancel_if(manager, roster->ids[i], wanted, reason);
    }
    return asked;
}

int tr__turn_cancel_foreground(tr_manager *manager, struct tr__turn *turn, const char *reason)
{
    int asked = cancel_roster(manager, &turn->foreground, is_foreground, reason);
    tr__turn_sweep_foreground(tr__manager_registry(manager), turn);
    return asked;
}

int tr_turn_interrupt(tr_manager *manager, tr_turn_id id, const char *reason)
{
    if (manager == NULL) {
        return TR_EINVAL;
    }
    struct tr__lane *lane = NULL;
    struct tr__turn *turn = tr__registry_lock_turn(tr__manager_registry(manager), id, &lane);
    if (turn == NULL) {
        return TR_ENOENT;
    }
    int asked = tr__turn_cancel_foreground(manager, turn, reason);
    tr__lane_unlock(lane);
    tr__engine_look(&manager->engine); /* the tasks' hooks */
    return asked;
}

/* Under the lane's lock. */
static void close_turn(tr_manager *manager, struct tr__lane *lane, struct tr__turn *turn,
                       bool (*wanted)(uint64_t word), const char *reason)
{
    struct tr__completion *completion = manager->completion;
    tr__turn_sweep(&completion->registry, turn);
    (void)cancel_roster(manager, &turn->foreground, is_foreground, reason);
    (void)cancel_roster(manager, &turn->foreground, wanted, reason); /* detached, not yet moved */
    (void)cancel_roster(manager, &turn->background, wanted, reason);
    tr__registry_close_turn(&completion->registry, turn);
    if (!turn->bound) {
        tr__inbox_interrupt(&turn->updates); /* invariant 4 */
        tr__settle_discard(completion, tr__completion_shared(completion), &turn->updates);
    }
    tr__turn_leave(turn, lane);
    tr__room_open(&completion->registry.room); /* invariant 3 */
}

int tr_turn_close(tr_manager *manager, tr_turn_id id, uint32_t flags)
{
    if (manager == NULL || (flags & ~TR_CLOSE_DISCARD) != 0) {
        return TR_EINVAL;
    }
    struct tr__registry *registry = tr__manager_registry(manager);
    struct tr__lane *lane = NULL;
    struct tr__turn *turn = tr__registry_lock_turn(registry, id, &lane);
    if (turn == NULL) {
        return TR_ENOENT;
    }
    close_turn(manager, lane, turn, (flags & TR_CLOSE_DISCARD) != 0 ? is_any : lives_a_turn,
               "the turn was closed");
    tr__registry_reclaim(registry, lane);
    tr__lane_unlock(lane);
    tr__engine_look(&manager->engine); /* the tasks' hooks */
    return 0;
}

/* Orphans that no roster has: looks at every task. Under the lane's lock, which keeps `turn`
 * readable for tasks of this lane's sessions; others are told apart by their lane. */
static void cancel_lost_orphans(tr_manager *manager, struct tr__session *session,
                                struct tr__lane *lane, bool (*wanted)(uint64_t word))
{
    struct tr__registry *registry = tr__manager_registry(manager);
    uint8_t index = (uint8_t)(lane - registry->lanes);
    for (uint32_t i = 1; i <= tr__slots_reached(&registry->tasks); i++) {
        struct tr__task *task = (struct tr__task *)(void *)tr__slots_at(&registry->tasks, i);
        uint64_t word = tr__task_word(task);
        if (tr__word_is_live(word) && tr__load_relaxed(&task->lane) == index &&
            task->turn != NULL && task->turn->session == session) {
            (void)cancel_if(manager, tr__task_id(task, word), wanted, session_reason);
        }
    }
}

int tr_session_close(tr_manager *manager, tr_session_id id, uint32_t flags)
{
    if (manager == NULL || (flags & ~TR_CLOSE_DISCARD) != 0) {
        return TR_EINVAL;
    }
    struct tr__completion *completion = manager->completion;
    struct tr__registry *registry = &completion->registry;
    struct tr__lane *lane = NULL;
    struct tr__session *session = tr__registry_lock_session(registry, id, &lane);
    if (session == NULL) {
        return TR_ENOENT;
    }
    if (tr__load_relaxed(&session->closed) != 0) { /* written under this lock */
        tr__lane_unlock(lane);
        return TR_EALREADY;
    }
    bool discard = (flags & TR_CLOSE_DISCARD) != 0;
    bool (*wanted)(uint64_t word) = discard ? is_any : lives_a_session;
    struct tr__turn *next = NULL;
    for (struct tr__turn *turn = session->first; turn != NULL; turn = next) {
        next = turn->next;
        if (tr__load_relaxed(&turn->closed) == 0) { /* written under this lock */
            close_turn(manager, lane, turn, wanted, session_reason);
        }
    }
    (void)cancel_roster(manager, &session->orphans, wanted, session_reason);
    if (session->orphans_lost) {
        cancel_lost_orphans(manager, session, lane, wanted);
    }
    if (discard) {
        /* Pairs with the load after a push (settle.c), and with takers: they give the token up. */
        tr__store_seq_cst(&session->discarded, 1u);
    }
    tr__store_seq_cst(&session->closed, 1u); /* takers look what is left: drain.c, invariant 2 */
    tr__inbox_interrupt(&session->loop);
    tr__inbox_interrupt(&session->ready);
    if (discard) {
        if (session->queue == NULL) {
            struct tr__tally tally = tr__completion_shared(completion);
            tr__settle_discard(completion, tally, &session->loop);
            tr__settle_discard(completion, tally, &session->ready);
        }
    }
    tr__session_leave(session, lane, registry);
    tr__registry_reclaim(registry, lane);
    tr__lane_unlock(lane);
    tr__engine_look(&manager->engine);                /* the tasks' hooks */
    tr__trees_end_session(manager->engine.trees, id); /* what its programs have left behind */
    return 0;
}

int tr_session_find(tr_manager *manager, const char *label, tr_session_id *ret_session)
{
    if (manager == NULL || label == NULL || ret_session == NULL) {
        return TR_EINVAL;
    }
    struct tr__registry *registry = tr__manager_registry(manager);
    tr_session_id found = 0;
    uint64_t oldest = UINT64_MAX;
    for (uint32_t i = 1; i <= tr__slots_reached(&registry->sessions); i++) {
        struct tr__slot *slot = tr__slots_at(&registry->sessions, i);
        if ((tr__load_acquire(&slot->word) & TR__HOME_OPEN) == 0) {
            continue;
        }
        struct tr__lane *lane = NULL;
        struct tr__session *session = tr__registry_lock_session(
            registry,
            TR__ID_MAKE(TR__TAG_SESSION, TR__WORD_GENERATION(tr__load_acquire(&slot->word)), i),
            &lane);
        if (session == NULL) {
            continue;
        }
        if (tr__load_relaxed(&session->closed) == 0 && session->label != NULL &&
            session->opened < oldest && strcmp(session->label, label) == 0) {
            oldest = session->opened;
            found = session->id;
        }
        tr__lane_unlock(lane);
    }
    if (found == 0) {
        return TR_ENOENT;
    }
    *ret_session = found;
    return 0;
}
