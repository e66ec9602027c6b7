/*
 * admit.c: see admit.h: the point of no return, under the lane's lock.
 *
 * Owner thread: the launching one. Called by launch.c; calls registry, deadline, workers (to choose
 * a seat).
 *
 * Invariants
 *  1. What can fail comes before the slot is taken; after that a task is complete and published.
 *  2. Launch times of a lane strictly grow: they are the order of listings.
 *  3. A call is counted once in `awaiting` if it will run on a fiber, from here to its function's
 *     return.
 *
 * Complexity: one lock for all calls of a group; under it plain stores to the lane, the turn and
 * the slot.
 */
#include "host/admit.h"

#include <string.h>

#include "base/clock.h"

/* Launches in a row that go to one seat before the shorter of two is looked for again. */
#define TARGET_RUN 16u

/* Copies call id, metadata and input to where they live. */
static void fill_bytes(struct tr__task *task, const struct tr__prepared *call)
{
    const tr_request *request = call->request;
    size_t names = request->call_id.size + request->metadata.size;
    bool block = call->in.data != NULL;
    unsigned char *in = block ? (unsigned char *)call->in.data : task->bytes;
    task->in = in;
    task->in_origin = call->in.origin;
    unsigned flags = block ? TR__TASK_FLAG_IN_BLOCK : 0;
    flags |= call->approval != NULL ? TR__TASK_FLAG_ASKED : 0;
    flags |= request->input_release != NULL ? TR__TASK_FLAG_INPUT_BORROWED : 0;
    tr__store_relaxed(&task->flags, (uint8_t)flags); /* published by tr__task_admit */
    task->call_id_size = (uint8_t)request->call_id.size;
    task->metadata_size = (uint16_t)request->metadata.size;
    task->input_size = (uint32_t)request->input.size;
    if (request->call_id.size > 0) {
        memcpy(in, request->call_id.data, request->call_id.size);
    }
    if (request->metadata.size > 0) {
        memcpy(in + request->call_id.size, request->metadata.data, request->metadata.size);
    }
    if (request->input_release != NULL) {
        /* The host's bytes: handed back as they came. */
        memcpy(&task->input, &request->input.data, sizeof(task->input));
    } else {
        task->input = in + tr__prepare_align(names);
        if (request->input.size > 0) {
            memcpy(task->input, request->input.data, request->input.size);
        }
    }
}

static void fill_task(tr_manager *manager, struct tr__turn *turn, struct tr__prepared *call)
{
    struct tr__task *task = call->task;
    tr__store_relaxed(&task->wake, (uint8_t)TR__WAKE_AWAKE); /* all published by tr__task_admit */
    tr__store_relaxed(&task->seat, (uint8_t)call->seat);
    tr__store_relaxed(&task->lane, tr__load_relaxed(&turn->lane));
    tr__store_relaxed(&task->started_ns, UINT64_C(0));
    tr__store_relaxed(&task->ended_ns, UINT64_C(0)); /* a look may come before it is settled */
    task->tool = (uint16_t)call->tool->id;
    task->frame = NULL;
    task->turn = turn;
    task->result = NULL;
    task->result_origin = NULL;
    task->result_size = 0;
    task->code = 0;
    task->reason = NULL;
    task->user = call->request->user;
    fill_bytes(task, call);
    tr__arena_count(&manager->completion->arena, &call->in);
    if (call->approval != NULL) {
        tr__arena_count(&manager->completion->arena, &call->approval->block);
    }
    bool cooperative = (call->bits & TR__TASK_COOPERATIVE) != 0;
    bool asks = call->approval != NULL;
    if (tr__deadline_init(&manager->engine, task, call->options, cooperative || asks) || asks) {
        call->bits |= TR__TASK_HOLD_TIMER; /* of an approval always: a later request may expire */
    }
    if (cooperative || (call->bits & (TR__TASK_COLD | TR__TASK_HOLD_TIMER)) != 0 ||
        call->request->input_release != NULL || call->approval != NULL) {
        struct tr__cold *cold = tr__registry_cold(tr__manager_registry(manager), task);
        cold->output_bytes_max = call->options->output_bytes_max;
        cold->input_release = call->request->input_release;
        cold->input_context = call->request->input_context;
        tr__store_relaxed(&cold->active_ns, UINT64_C(0));
        tr__store_relaxed(&cold->approvals, 0u);
        tr__store_relaxed(&cold->stop_reason, (void *)NULL);
    }
}

/* The look of those who wait for a fiber, by read-modify-write as parts/gate asks for. */
static bool has_fiber(tr_manager *manager, const struct tr__prepared *call)
{
    return !tr__prepared_awaits(manager, call) ||
           tr__fetch_add_acq_rel(&manager->engine.awaiting, 0u) < manager->fibers_max;
}

/* Counts a call that will run on a fiber. False: as many are counted as there may be. */
static bool reserve_fiber(tr_manager *manager, const struct tr__prepared *call)
{
    if (!tr__prepared_awaits(manager, call)) {
        return true;
    }
    uint32_t before = tr__load_relaxed(&manager->engine.awaiting); /* a guess; the CAS decides */
    while (before < manager->fibers_max) {
        if (tr__cas_acq_rel(&manager->engine.awaiting, &before, before + 1u)) {
            return true;
        }
    }
    return false;
}

/* Under the lane's lock. */
static int admit_one(tr_manager *manager, struct tr__lane *lane, struct tr__turn *turn,
                     struct tr__prepared *call, uint64_t now)
{
    struct tr__registry *registry = tr__manager_registry(manager);
    if (tr__load_relaxed(&registry->closing) != 0 ||
        tr__load_relaxed(&turn->session->closed) != 0) { /* written under this lock, or before */
        return TR_ECLOSED;
    }
    bool background = (call->bits & TR__TASK_BACKGROUND) != 0;
    int error = tr__turn_enrol_reserve(registry, turn, background);
    if (error < 0) {
        return error;
    }
    if (!has_fiber(manager, call)) {
        return TR_EAGAIN;
    }
    call->task = tr__registry_take_task(registry, lane);
    if (call->task == NULL) {
        call->no_slot = true;
        return TR_EAGAIN;
    }
    if (!reserve_fiber(manager, call)) { /* last: it never has to be taken back */
        tr__registry_untake_task(registry, lane, call->task);
        call->task = NULL;
        /* Whoever found no slot meanwhile looks again; and so does this one, once: has_fiber. */
        tr__room_open(&registry->room);
        return TR_EAGAIN;
    }
    if (manager->threaded && lane->target_left == 0) {
        lane->target = tr__workers_choose(&manager->engine.workers, &lane->random);
        lane->target_left = TARGET_RUN;
    }
    lane->target_left -= lane->target_left > 0;
    call->seat = lane->target;
    lane->accepted_ns = now > lane->accepted_ns ? now : lane->accepted_ns + 1;
    call->task->accepted_ns = lane->accepted_ns;
    turn->tasks++;
    fill_task(manager, turn, call);
    call->bits |= tr__engine_wanted(&manager->engine) ? TR__TASK_PUBLISHING : 0;
    /* Counted before it can be found: whoever guesses its id may end it at once. */
    if (!background && (call->bits & TR__TASK_INLINE) == 0) {
        /* release: pairs with tr__turn_is_idle; relaxed load: written under this lock only. */
        tr__store_release(&turn->launched, tr__load_relaxed(&turn->launched) + 1);
    }
    /* release: pairs with tr__completion_accepted; likewise. */
    tr__store_release(&lane->accepted, tr__load_relaxed(&lane->accepted) + 1);
    tr__task_admit(call->task, call->bits);
    tr__turn_enrol(turn, tr__slots_id(&registry->tasks, &call->task->slot), background);
    return 0;
}

struct tr__lane *tr__admit(tr_manager *manager, struct tr__prepared *calls, size_t count)
{
    struct tr__registry *registry = tr__manager_registry(manager);
    struct tr__lane *lane = NULL;
    bool full = false; /* in order: what comes behind a call without room has none either */
    struct tr__turn *turn = tr__registry_lock_turn(registry, calls[0].request->turn, &lane);
    uint64_t now = turn == NULL ? 0 : tr__clock_now();
    for (size_t i = 0; i < count; i++) {
        if (calls[i].error == 0) {
            full = full || !tr__arena_has_room(&manager->completion->arena);
            calls[i].error = turn == NULL ? TR_ENOENT
                             : full       ? TR_EAGAIN
                                          : admit_one(manager, lane, turn, &calls[i], now);
            full = full || calls[i].error == TR_EAGAIN;
        }
    }
    if (turn != NULL) {
        tr__lane_unlock(lane);
    }
    return lane;
}

/* One attempt with the slots of all lanes: until it succeeds, fails for another reason, or no lane
 * has a free slot. */
static void attempt(tr_manager *manager, struct tr__prepared *call, struct tr__lane *lane)
{
    struct tr__registry *registry = tr__manager_registry(manager);
    do {
        tr__arena_look(&manager->completion->arena);
        call->error = 0;
        call->no_slot = false;
        (void)tr__admit(manager, call, 1); /* the same lane, or the turn is gone */
    } while (call->error == TR_EAGAIN && call->no_slot &&
             tr__registry_rebalance(registry, lane, TR__TAG_TASK));
}

void tr__admit_again(tr_manager *manager, struct tr__prepared *call, struct tr__lane *lane)
{
    struct tr__registry *registry = tr__manager_registry(manager);
    uint64_t deadline = tr__deadline_after(call->request->admit_timeout_ns);
    struct tr__room *room = &registry->room;
    uint32_t epoch = tr__gate_enter(&room->gate);
    tr__room_arm(room); /* before the last look */
    attempt(manager, call, lane);
    if (call->error == TR_EAGAIN) {
        tr__manager_flush(manager); /* timers of ended tasks hold their slots */
        attempt(manager, call, lane);
    }
    while (call->error == TR_EAGAIN && call->request->admit_timeout_ns != 0 &&
           (deadline == TR_FOREVER || tr__clock_now() < deadline) &&
           tr__load_acquire(&registry->closing) == 0) {
        epoch = tr__gate_wait(&room->gate, epoch, deadline);
        attempt(manager, call, lane);
    }
    tr__gate_leave(&room->gate);
    if (call->error == TR_EAGAIN && tr__load_acquire(&registry->closing) != 0) {
        call->error = TR_ECLOSED;
    }
    if (call->error == TR_EAGAIN) {
        (void)tr__fetch_add_relaxed(&lane->refused, UINT64_C(1)); /* a number to show */
    } else {
        tr__room_fire(room); /* there may be more room, and arming has hidden it */
    }
}
