/*
 * list.c: looking at tasks: snapshots and listings.
 *
 * Owner thread: any host thread. Called by hosts; calls registry, describe.
 *
 * Invariants
 *  1. A record is read under its lane's lock (nobody refills it) and with HOLD_LOOK (nobody frees
 *     what it points to).
 *  2. A listing is in the order of launches: by accepted time, then id. The cursor is the last one
 *     shown, so tasks that come and go between two calls neither repeat nor shift the rest.
 *
 * Complexity: a snapshot O(1). A listing costs the rosters it looks at: a turn's, a session's, or
 * all; the smallest keys are selected, then described one by one. With ended tasks asked for, or
 * if there was no memory to enrol an orphan: a look at every slot that was ever in use at once.
 */
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "completion/describe.h"
#include "host/manager.h"

/* Under the lane's lock. */
static int describe(tr_manager *manager, struct tr__task *task, tr_task_id id,
                    tr_snapshot *ret_snapshot)
{
    if (!tr__task_look(task, id)) {
        return TR_ENOENT;
    }
    tr__describe(manager->completion, task, tr__task_word(task), ret_snapshot);
    tr__settle_drop(manager->completion, task, TR__TASK_HOLD_LOOK);
    return 0;
}

int tr_task_snapshot(tr_manager *manager, tr_task_id id, tr_snapshot *ret_snapshot)
{
    if (manager == NULL || ret_snapshot == NULL) {
        return TR_EINVAL;
    }
    tr__engine_look(&manager->engine);
    struct tr__registry *registry = tr__manager_registry(manager);
    struct tr__task *task = tr__registry_task(registry, id);
    if (task == NULL) {
        return TR_ENOENT;
    }
    /* relaxed: a wrong lane (the slot was reused) shows in the id under its lock. */
    struct tr__lane *lane = &registry->lanes[tr__load_relaxed(&task->lane)];
    tr__lane_lock(lane);
    int error = tr__registry_task(registry, id) == NULL ? TR_ENOENT
                                                        : describe(manager, task, id, ret_snapshot);
    tr__lane_unlock(lane);
    return error;
}

struct key {
    uint64_t accepted_ns;
    tr_task_id id;
};

struct listing {
    tr_manager *manager;
    const tr_filter *filter;
    struct key after;
    struct key *keys;
    size_t count;
    size_t room;
    int error;
};

static int compare(const void *one, const void *other)
{
    const struct key *a = (const struct key *)one;
    const struct key *b = (const struct key *)other;
    if (a->accepted_ns != b->accepted_ns) {
        return a->accepted_ns < b->accepted_ns ? -1 : 1;
    }
    return a->id < b->id ? -1 : a->id > b->id;
}

static void add(struct listing *listing, struct key key)
{
    if (listing->count == listing->room) {
        size_t room = listing->room == 0 ? 64 : listing->room * 2;
        struct key *keys =
            (struct key *)tr__memory_resize(listing->keys, room * sizeof(*listing->keys));
        if (keys == NULL) {
            listing->error = TR_ENOMEM;
            return;
        }
        listing->keys = keys;
        listing->room = room;
    }
    listing->keys[listing->count++] = key;
}

/* Adds one task if it is alive and wanted. Under its lane's lock. */
static void add_task(struct listing *listing, struct tr__task *task, tr_task_id id)
{
    uint64_t word = task == NULL ? 0 : tr__task_word(task);
    if (task == NULL || TR__WORD_GENERATION(word) != TR__ID_GENERATION(id) ||
        !tr__word_is_live(word)) {
        return;
    }
    uint32_t kinds = listing->filter->kinds;
    uint32_t kind = tr__word_is_background(word) ? TR_KIND_BACKGROUND : TR_KIND_FOREGROUND;
    struct key key = {task->accepted_ns, id}; /* fixed at launch, under this lock */
    if ((kinds == 0 || (kinds & (1u << kind)) != 0) && compare(&key, &listing->after) > 0) {
        add(listing, key);
    }
}

/* Under the lane's lock. */
static void add_roster(struct listing *listing, const struct tr__roster *roster)
{
    struct tr__registry *registry = tr__manager_registry(listing->manager);
    for (uint32_t i = 0; i < roster->count && listing->error == 0; i++) {
        add_task(listing, tr__registry_task(registry, roster->ids[i]), roster->ids[i]);
    }
}

/* Under the lane's lock. */
static void add_turn(struct listing *listing, const struct tr__turn *turn)
{
    add_roster(listing, &turn->foreground);
    add_roster(listing, &turn->background);
}

/* Under the lane's lock, which keeps `turn` readable for tasks of this lane; others are told apart
 * by their lane. Some orphans are in no roster, so all tasks are looked at; those that are in one
 * come twice: show tells. */
static void add_lost_orphans(struct listing *listing, const struct tr__session *session)
{
    struct tr__registry *registry = tr__manager_registry(listing->manager);
    uint8_t lane = tr__load_relaxed(&session->lane); /* fixed while it is open */
    for (uint32_t i = 1; i <= tr__slots_reached(&registry->tasks) && listing->error == 0; i++) {
        struct tr__task *task = (struct tr__task *)(void *)tr__slots_at(&registry->tasks, i);
        uint64_t word = tr__task_word(task);
        if (tr__word_is_live(word) && tr__load_relaxed(&task->lane) == lane && task->turn != NULL &&
            task->turn->session == session) {
            add_task(listing, task, tr__task_id(task, word));
        }
    }
}

static void add_session(struct listing *listing, tr_session_id id)
{
    struct tr__lane *lane = NULL;
    struct tr__session *session =
        tr__registry_lock_session(tr__manager_registry(listing->manager), id, &lane);
    if (session == NULL) {
        return;
    }
    for (struct tr__turn *turn = session->first; turn != NULL; turn = turn->next) {
        if (tr__load_relaxed(&turn->closed) == 0) { /* closed ones' tasks are orphans */
            add_turn(listing, turn);
        }
    }
    add_roster(listing, &session->orphans);
    if (session->orphans_lost) {
        add_lost_orphans(listing, session);
    }
    tr__lane_unlock(lane);
}

static void gather(struct listing *listing)
{
    struct tr__registry *registry = tr__manager_registry(listing->manager);
    if (listing->filter->turn != 0) {
        struct tr__lane *lane = NULL;
        struct tr__turn *turn = tr__registry_lock_turn(registry, listing->filter->turn, &lane);
        if (turn != NULL) {
            if (listing->filter->session == 0 || turn->session->id == listing->filter->session) {
                add_turn(listing, turn);
            }
            tr__lane_unlock(lane);
        }
        return;
    }
    if (listing->filter->session != 0) {
        add_session(listing, listing->filter->session);
        return;
    }
    for (uint32_t i = 1; i <= tr__slots_reached(&registry->sessions) && listing->error == 0; i++) {
        struct tr__slot *slot = tr__slots_at(&registry->sessions, i);
        uint64_t word = tr__load_acquire(&slot->word); /* pairs with its opening */
        if ((word & TR__HOME_OPEN) != 0) {
            add_session(listing, TR__ID_MAKE(TR__TAG_SESSION, TR__WORD_GENERATION(word), i));
        }
    }
}

static bool is_wanted(uint32_t bits, unsigned value)
{
    return bits == 0 || (bits & (1u << value)) != 0;
}

/* Tasks that have ended are in no roster. One that ended since it was gathered comes twice: show
 * tells. */
static void gather_ended(struct listing *listing)
{
    struct tr__registry *registry = tr__manager_registry(listing->manager);
    const tr_filter *filter = listing->filter;
    for (uint32_t i = 1; i <= tr__slots_reached(&registry->tasks) && listing->error == 0; i++) {
        struct tr__task *task = (struct tr__task *)(void *)tr__slots_at(&registry->tasks, i);
        uint64_t word = tr__task_word(task);
        tr_snapshot seen;
        if (tr__word_state(word) != TR__TASK_ENDED ||
            tr_task_snapshot(listing->manager, tr__task_id(task, word), &seen) < 0) {
            continue;
        }
        struct key key = {seen.accepted_ns, seen.task};
        if ((filter->session == 0 || filter->session == seen.session) &&
            (filter->turn == 0 || filter->turn == seen.turn) &&
            is_wanted(filter->kinds, seen.kind) && compare(&key, &listing->after) > 0) {
            add(listing, key);
        }
    }
}

/* Describes the gathered tasks in order, as many as fit and are still wanted. */
static int show(struct listing *listing, tr_cursor *cursor, tr_snapshot *snapshots,
                size_t snapshots_max)
{
    size_t shown = 0;
    tr_task_id last = 0;
    for (size_t i = 0; i < listing->count && shown < snapshots_max; i++) {
        tr_task_id id = listing->keys[i].id;
        uint32_t states = listing->filter->states;
        bool repeated = id == last; /* attached and detached: in both rosters for a while */
        last = id;
        if (repeated || tr_task_snapshot(listing->manager, id, &snapshots[shown]) < 0 ||
            (states == 0 && snapshots[shown].state == TR_STATE_ENDED) ||
            !is_wanted(states, snapshots[shown].state)) {
            continue; /* gone, ended or changed since it was gathered */
        }
        cursor->accepted_ns = listing->keys[i].accepted_ns;
        cursor->task = id;
        shown++;
    }
    return (int)shown;
}

int tr_task_list(tr_manager *manager, const tr_filter *filter, tr_cursor *cursor,
                 tr_snapshot *snapshots, size_t snapshots_max)
{
    static const tr_filter everything = TR_FILTER_INIT;
    filter = filter == NULL ? &everything : filter;
    if (manager == NULL || !tr__size_is_known(filter, filter->size, sizeof(*filter)) ||
        cursor == NULL || snapshots == NULL || snapshots_max == 0 || snapshots_max > INT32_MAX) {
        return TR_EINVAL;
    }
    struct listing listing = {manager, filter, {cursor->accepted_ns, cursor->task}, NULL, 0, 0, 0};
    tr__engine_look(&manager->engine);
    gather(&listing);
    if ((filter->states & (1u << TR_STATE_ENDED)) != 0) {
        gather_ended(&listing);
    }
    int result = listing.error;
    if (result == 0) {
        if (listing.count > 0) {
            qsort(listing.keys, listing.count, sizeof(*listing.keys), compare);
        }
        result = show(&listing, cursor, snapshots, snapshots_max);
    }
    tr__memory_give(listing.keys);
    return result;
}
