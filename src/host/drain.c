/*
 * drain.c: the way out: turns' updates, sessions' loop updates and ready items, drain queues.
 *
 * Owner thread: any host thread; the inbox's token makes one the consumer. Called by hosts; calls
 * batch, parts/inbox, token.
 *
 * Invariants
 *  1. Whoever sleeps on an inbox holds its token, so it is alone, and the home cannot be given up
 *     under it: a turn's closer waits for the token, a session is pinned (counted in `turns`) by
 *     its taker.
 *  2. Before sleeping the waiter looks again at everything it waits for: the queue, idleness, its
 *     token, closing. Each of these is made true (seq_cst) before the waiter's parker is notified.
 *  3. A wait gives the token back on every way out. A taker of a closed session stays while
 *     anything may come, but never of a discarded one, whose discarders wait for the token.
 *
 * Complexity: a wait that finds something: no lock (turns, queues) or two short ones (sessions),
 * one CAS for the token. Nobody is woken by another's inbox.
 */
#include "host/drain.h"

#include "base/backoff.h"
#include "base/clock.h"
#include "base/memory.h"
#include "completion/batch.h"
#include "domain/homes.h"
#include "host/help.h"
#include "host/token.h"

static bool size_is_bad(size_t items_max)
{
    return items_max == 0 || items_max > TR__BATCH_MAX;
}

/* Token holder. Takes what is there and re-arms the eventfd when that was all. */
static int take(tr_manager *manager, struct tr__inbox *inbox, size_t items_max,
                tr_batch **ret_batch)
{
    int count = tr__batch_take(manager->completion, inbox, items_max, ret_batch);
    if (count >= 0 && (size_t)count < items_max) {
        tr__inbox_rearm(inbox);
    }
    return count;
}

/* Looks at an inbox before sleeping on it, each about 20 ns: a sleep costs its waker 6 us and the
 * sleeper more, and brief tools are back sooner than that. */
#define LOOKS_BEFORE_SLEEP 300u

/* What a waiter waits for beside items. */
struct wait {
    struct tr__turn *turn; /* idleness and closing of a turn; or NULL */
    tr__atomic_u32 *over;  /* not 0: nothing more is waited for */
    tr_token *token;
    uint64_t deadline_ns;
    unsigned looks; /* before sleeping; 0 on a single processor */
};

/* Whether it is time to leave: for good, or to do what is due in an inline manager (which may not
 * be done by a token holder), after which the wait goes on. */
static bool is_up(const tr_manager *manager, const struct wait *wait)
{
    uint64_t until = wait->deadline_ns;
    if (!manager->threaded) {
        uint64_t next = tr__vigil_next(manager->engine.vigil);
        until = next < until ? next : until;
    }
    return until != TR_FOREVER && tr__clock_now() >= until;
}

/* Token holder, parker prepared. */
static void sleep_now(tr_manager *manager, struct tr__parker *parker, const struct wait *wait)
{
    if (manager->threaded) {
        (void)tr__parker_wait(parker, wait->deadline_ns); /* the caller looks at the clock */
    } else {
        tr__vigil_sleep(manager->engine.vigil, parker, wait->deadline_ns);
    }
}

/* Inline managers: does what is due, before a wait of the host's begins or goes on. False: its time
 * is up. Brings what is left of its time. */
static bool go_on(tr_manager *manager, uint64_t deadline_ns, uint64_t *ret_timeout_ns)
{
    tr__engine_look(&manager->engine);
    *ret_timeout_ns = tr__clock_left(tr__clock_now(), deadline_ns);
    return *ret_timeout_ns != 0;
}

static unsigned looks_of(const tr_manager *manager)
{
    return manager->engine.config.spin ? LOOKS_BEFORE_SLEEP : 0;
}

static void look_on(struct tr__inbox *inbox, const struct wait *wait)
{
    for (unsigned i = 0; i < wait->looks; i++) {
        if (!tr__mpsc_is_empty(&inbox->queue)) {
            return;
        }
        tr__cpu_relax();
    }
}

/* Token holder. Sleeps unless something waited for is there already. */
static void sleep_on(tr_manager *manager, struct tr__inbox *inbox, const struct wait *wait)
{
    look_on(inbox, wait);
    tr__parker_prepare(&inbox->parker); /* then look again: invariant 2 */
    if (!tr__mpsc_is_empty(&inbox->queue) || tr__load_seq_cst(wait->over) != 0 ||
        (wait->turn != NULL && tr__turn_is_idle(wait->turn)) ||
        tr__token_is_cancelled(wait->token)) {
        tr__parker_cancel(&inbox->parker);
        return;
    }
    sleep_now(manager, &inbox->parker, wait);
}

/* Of those who take from a session; not that of tr__token_try_take. */
#define TAKER_MARK 2u

/* What wait_turn says beside the public results: calls were kept for this thread meanwhile. */
#define WAIT_HELP 100

/* Token holder. TR_WAIT_ITEMS, TR_WAIT_IDLE, WAIT_HELP, or an error. */
static int wait_turn(tr_manager *manager, struct tr__turn *turn, const struct wait *wait,
                     size_t items_max, tr_batch **ret_batch)
{
    for (;;) {
        int count = take(manager, &turn->updates, items_max, ret_batch);
        if (count != 0) {
            return count < 0 ? count : TR_WAIT_ITEMS;
        }
        if (tr__load_acquire(&turn->closed) != 0) { /* pairs with its close */
            return TR_ENOENT;
        }
        if (tr__turn_is_idle(turn)) {
            if (tr__mpsc_is_empty(&turn->updates.queue)) {
                return TR_WAIT_IDLE;
            }
            continue; /* an approval request came meanwhile */
        }
        if (tr__token_is_cancelled(wait->token)) {
            return TR_ECANCELED;
        }
        if (is_up(manager, wait)) {
            return TR_ETIMEDOUT;
        }
        if (tr__turn_has_kept(turn)) {
            return WAIT_HELP;
        }
        sleep_on(manager, &turn->updates, wait);
    }
}

/* Takes the token of the turn that has the slot. TR_EBUSY: another thread waits for this turn.
 * Whoever else has it gives it back at once: a closer, or a wait for a turn that had the slot
 * before and is just finding out. */
static int take_turn(struct tr__registry *registry, struct tr__slot *slot, tr_turn_id id)
{
    struct tr__token *token = &((struct tr__turn *)(void *)slot)->updates.token;
    uint32_t mark = (uint32_t)TR__ID_GENERATION(id) | 1u << 31; /* this life's, and no closer's */
    unsigned spins = 0;
    uint32_t holder = tr__token_try_mark(token, mark);
    while (holder != 0) {
        if (holder == mark) {
            return TR_EBUSY;
        }
        if (tr__slots_find(&registry->turns, id) != slot) {
            return TR_ENOENT;
        }
        tr__backoff(&spins);
        holder = tr__token_try_mark(token, mark);
    }
    return 0;
}

static int wait_once(tr_manager *manager, tr_turn_id id, tr_token *token, uint64_t deadline_ns,
                     size_t items_max, tr_batch **ret_batch)
{
    struct tr__registry *registry = tr__manager_registry(manager);
    struct tr__slot *slot = tr__slots_find(&registry->turns, id);
    if (slot == NULL || (tr__load_acquire(&slot->word) & TR__HOME_OPEN) == 0) {
        return TR_ENOENT;
    }
    struct tr__turn *turn = (struct tr__turn *)(void *)slot;
    int result = take_turn(registry, slot, id);
    if (result < 0) {
        return result;
    }
    result = TR_ENOENT;
    tr_batch *batch = NULL;
    /* With the token it is this turn or none: a closer waits for the token before the slot is
     * reused. */
    if (tr__slots_find(&registry->turns, id) == slot) {
        result = TR_ESTATE;
        if (!turn->bound) {
            struct wait wait = {turn, &turn->closed, token, deadline_ns, looks_of(manager)};
            struct tr__token_wait entry;
            tr__token_enter(token, &entry, &turn->updates.parker);
            result = wait_turn(manager, turn, &wait, items_max, &batch);
            tr__token_leave(token, &entry);
        }
    }
    tr__token_give(&turn->updates.token);
    if (result >= 0) {
        *ret_batch = batch;
    }
    return result;
}

int tr_turn_wait(tr_manager *manager, tr_turn_id id, tr_token *token, uint64_t timeout_ns,
                 size_t items_max, tr_batch **ret_batch)
{
    if (manager == NULL || ret_batch == NULL || size_is_bad(items_max)) {
        return TR_EINVAL;
    }
    uint64_t deadline = tr__deadline_after(timeout_ns);
    if (manager->threaded) {
        int result = tr__help_wanted(manager, id)
                         ? WAIT_HELP
                         : wait_once(manager, id, token, deadline, items_max, ret_batch);
        while (result == WAIT_HELP) {
            tr__help(manager, id, token, deadline, timeout_ns == 0);
            result = wait_once(manager, id, token, deadline, items_max, ret_batch);
        }
        return result;
    }
    for (;;) {
        bool more = go_on(manager, deadline, &timeout_ns);
        int result = wait_once(manager, id, token, deadline, items_max, ret_batch);
        if (result != TR_ETIMEDOUT || !more) {
            return result;
        }
    }
}

/* Whether nothing can come to a session any more: it is closed, and no task of it is left; or all
 * is discarded, or the manager is closed. Any taker, with the session pinned. */
static bool is_over(tr_manager *manager, struct tr__session *session)
{
    if (tr__load_seq_cst(&manager->closed) != 0) { /* before the last take: then nothing comes */
        return true;
    }
    if (tr__load_seq_cst(&session->closed) == 0) { /* invariant 2 */
        return false;
    }
    struct tr__registry *registry = tr__manager_registry(manager);
    /* relaxed: fixed while the session is pinned. */
    struct tr__lane *lane = &registry->lanes[tr__load_relaxed(&session->lane)];
    unsigned spins = 0;
    while (pthread_mutex_trylock(&lane->lock) != 0) {
        if (tr__load_seq_cst(&session->discarded) != 0) {
            return true; /* its discarder has the lock and waits for the token (invariant 3) */
        }
        tr__backoff(&spins);
    }
    /* A look by read-modify-write at what was recycled: the watch's half of parts/gate. */
    (void)tr__fetch_or_seq_cst(&lane->tasks.returned, 0u);
    tr__registry_reclaim(registry, lane);
    bool over = tr__load_relaxed(&session->discarded) != 0 || session->turns == session->takers;
    tr__lane_unlock(lane);
    return over;
}

/* Token holder, with the session pinned. Sleeps unless there is something to look at. */
static void sleep_in_session(tr_manager *manager, struct tr__session *session,
                             struct tr__inbox *inbox, const struct wait *wait)
{
    struct tr__room *room = &tr__manager_registry(manager)->room;
    /* acquire: whoever closes it later interrupts the sleep, and it is watched from then on. */
    bool closed = tr__load_acquire(&session->closed) != 0;
    struct tr__watch watch = {&inbox->parker, session, NULL, NULL};
    if (closed) {
        tr__room_watch(room, &watch); /* tasks may end elsewhere: their going tells */
        tr__manager_nudge(manager);   /* timers of ended tasks hold them */
    } else {
        look_on(inbox, wait);
    }
    tr__parker_prepare(&inbox->parker); /* then look again: invariant 2 */
    if (!tr__mpsc_is_empty(&inbox->queue) || is_over(manager, session) ||
        (tr__load_seq_cst(&session->closed) != 0) != closed) {
        tr__parker_cancel(&inbox->parker);
    } else {
        sleep_now(manager, &inbox->parker, wait);
    }
    if (closed) {
        tr__room_unwatch(room, &watch);
    }
}

/* Token holder, with the session pinned. How many items, or an error. */
static int wait_session(tr_manager *manager, struct tr__session *session, struct tr__inbox *inbox,
                        uint64_t timeout_ns, size_t items_max, tr_batch **ret_batch)
{
    struct wait wait = {NULL, &session->closed, NULL, tr__deadline_after(timeout_ns),
                        looks_of(manager)};
    for (;;) {
        int count = take(manager, inbox, items_max, ret_batch);
        if (count != 0) {
            return count;
        }
        if (is_over(manager, session)) {
            count = take(manager, inbox, items_max, ret_batch); /* what came just before that */
            return count == 0 ? TR_ECLOSED : count;
        }
        if (is_up(manager, &wait)) {
            return 0;
        }
        sleep_in_session(manager, session, inbox, &wait);
    }
}

/* Takes the token of a pinned session's channel. False: another thread takes from it. A discarder,
 * whose mark is another, gives it back at once. */
static bool take_channel(struct tr__token *token)
{
    uint32_t holder = 0;
    unsigned spins = 0;
    while ((holder = tr__token_try_mark(token, TAKER_MARK)) != 0) {
        if (holder == TAKER_MARK) {
            return false;
        }
        tr__backoff(&spins);
    }
    return true;
}

static int take_once(tr_manager *manager, tr_session_id id, bool ready, uint64_t timeout_ns,
                     size_t items_max, tr_batch **ret_batch)
{
    struct tr__registry *registry = tr__manager_registry(manager);
    struct tr__lane *lane = NULL;
    struct tr__session *session = tr__registry_lock_session(registry, id, &lane);
    if (session == NULL) {
        return TR_ENOENT;
    }
    session->turns++; /* pinned: invariant 1 */
    session->takers++;
    bool bound = session->queue != NULL;
    tr__lane_unlock(lane);
    struct tr__inbox *inbox = ready ? &session->ready : &session->loop;
    tr_batch *batch = NULL;
    int count = bound ? TR_ESTATE : TR_EBUSY;
    if (!bound && take_channel(&inbox->token)) {
        count = wait_session(manager, session, inbox, timeout_ns, items_max, &batch);
        tr__token_give(&inbox->token);
    }
    tr__lane_lock(lane);
    session->takers--;
    tr__session_leave(session, lane, registry);
    tr__lane_unlock(lane);
    if (count >= 0) {
        *ret_batch = batch;
    }
    return count;
}

static int take_session(tr_manager *manager, tr_session_id id, bool ready, uint64_t timeout_ns,
                        size_t items_max, tr_batch **ret_batch)
{
    if (manager == NULL || ret_batch == NULL || size_is_bad(items_max)) {
        return TR_EINVAL;
    }
    if (manager->threaded) {
        return take_once(manager, id, ready, timeout_ns, items_max, ret_batch);
    }
    uint64_t deadline = tr__deadline_after(timeout_ns);
    for (;;) {
        bool more = go_on(manager, deadline, &timeout_ns);
        int count = take_once(manager, id, ready, timeout_ns, items_max, ret_batch);
        if (count != 0 || !more) {
            return count;
        }
    }
}

int tr_loop_take(tr_manager *manager, tr_session_id session, uint64_t timeout_ns, size_t items_max,
                 tr_batch **ret_batch)
{
    return take_session(manager, session, false, timeout_ns, items_max, ret_batch);
}

int tr_ready_take(tr_manager *manager, tr_session_id session, uint64_t timeout_ns, size_t items_max,
                  tr_batch **ret_batch)
{
    return take_session(manager, session, true, timeout_ns, items_max, ret_batch);
}

/* Token holder. How many items, or an error. */
static int wait_queue(tr_queue *queue, uint64_t timeout_ns, size_t items_max, tr_batch **ret_batch)
{
    tr_manager *manager = queue->manager;
    struct wait wait = {NULL, &manager->closed, NULL, tr__deadline_after(timeout_ns),
                        looks_of(manager)};
    for (;;) {
        uint32_t closed = tr__load_acquire(&manager->closed); /* first: then nothing more comes */
        int count = take(manager, &queue->inbox, items_max, ret_batch);
        if (count != 0) {
            return count;
        }
        if (closed != 0) {
            return TR_ECLOSED;
        }
        if (is_up(manager, &wait)) {
            return 0;
        }
        sleep_on(manager, &queue->inbox, &wait);
    }
}

static int drain_once(tr_queue *queue, uint64_t timeout_ns, size_t items_max, tr_batch **ret_batch)
{
    if (!tr__token_try_take(&queue->inbox.token)) {
        return TR_EBUSY;
    }
    tr_batch *batch = NULL;
    int count = wait_queue(queue, timeout_ns, items_max, &batch);
    tr__token_give(&queue->inbox.token);
    if (count >= 0) {
        *ret_batch = batch;
    }
    return count;
}

int tr_queue_drain(tr_queue *queue, uint64_t timeout_ns, size_t items_max, tr_batch **ret_batch)
{
    if (queue == NULL || ret_batch == NULL || size_is_bad(items_max)) {
        return TR_EINVAL;
    }
    if (queue->manager->threaded) {
        return drain_once(queue, timeout_ns, items_max, ret_batch);
    }
    uint64_t deadline = tr__deadline_after(timeout_ns);
    for (;;) {
        bool more = go_on(queue->manager, deadline, &timeout_ns);
        int count = drain_once(queue, timeout_ns, items_max, ret_batch);
        if (count != 0 || !more) {
            return count;
        }
    }
}

void tr__drain_discard(tr_manager *manager, struct tr__inbox *inbox)
{
    struct tr__completion *completion = manager->completion;
    tr__settle_discard(completion, tr__completion_shared(completion), inbox);
}

void tr__drain_discard_homes(tr_manager *manager)
{
    struct tr__registry *registry = tr__manager_registry(manager);
    for (uint32_t i = 1; i <= tr__slots_reached(&registry->turns); i++) {
        struct tr__turn *turn = (struct tr__turn *)(void *)tr__slots_at(&registry->turns, i);
        if (turn->out != NULL) {
            tr__drain_discard(manager, &turn->updates);
            turn->queue = NULL; /* gone before the home */
        }
    }
    for (uint32_t i = 1; i <= tr__slots_reached(&registry->sessions); i++) {
        struct tr__session *session =
            (struct tr__session *)(void *)tr__slots_at(&registry->sessions, i);
        if (session->loop_out != NULL) {
            tr__drain_discard(manager, &session->loop);
            tr__drain_discard(manager, &session->ready);
            session->queue = NULL;
        }
    }
}
