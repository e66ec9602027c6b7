/*
 * control.c: steering single tasks by their id; their text form.
 *
 * Owner thread: any host thread. Called by hosts; calls cancel, settle, domain/task.
 *
 * Invariants
 *  1. An id from outside is looked up and then checked again in the very word that a transition
 *     swaps: a stale id acts on nothing.
 *  2. Attaching marks its turn's `launched` before the transition and counts the task, or takes the
 *     mark back, after it: the turn's consumer waits meanwhile, so it sees no turn that is idle but
 *     for an attached task, and none that is not but for a failed attempt.
 *
 * Complexity: O(1) each; attaching takes the lane's lock.
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "host/manager.h"

static struct tr__task *find(tr_manager *manager, tr_task_id id)
{
    return tr__registry_task(tr__manager_registry(manager), id);
}

int tr_task_cancel(tr_manager *manager, tr_task_id id, const char *reason)
{
    if (manager == NULL) {
        return TR_EINVAL;
    }
    struct tr__task *task = find(manager, id);
    if (task == NULL) {
        return TR_ENOENT;
    }
    int error = tr__cancel_task(&manager->engine, task, id, false, TR_ECANCELED, reason);
    tr__engine_look(&manager->engine); /* its hooks */
    return error;
}

int tr_task_detach(tr_manager *manager, tr_task_id id)
{
    if (manager == NULL) {
        return TR_EINVAL;
    }
    struct tr__task *task = find(manager, id);
    if (task == NULL) {
        return TR_ENOENT;
    }
    struct tr__step step = tr__task_detach(task, id, true);
    if (step.action == TR__ACTION_DETACHED) {
        tr__engine_detached(&manager->engine, task, step);
    }
    return tr__step_error(step);
}

/* Under the lane's lock. */
static int attach(tr_manager *manager, struct tr__task *task, tr_task_id id)
{
    struct tr__registry *registry = tr__manager_registry(manager);
    struct tr__turn *turn = task->turn;
    if (!tr__task_look(task, id)) {
        return TR_ENOENT;
    }
    int error = TR_ECLOSED;
    if (tr__load_relaxed(&turn->closed) == 0) { /* written under this lock */
        error = tr__turn_enrol_reserve(registry, turn, false);
    }
    if (error == 0) {
        uint64_t launched = tr__load_relaxed(&turn->launched); /* written under this lock only */
        /* relaxed: published by the transition, to whoever settles what follows from it. */
        tr__store_relaxed(&turn->launched, launched | TR__TURN_ATTACHING); /* invariant 2 */
        struct tr__step step = tr__task_attach(task, id);
        error = tr__step_error(step);
        tr__store_release(&turn->launched, launched + (error == 0)); /* pairs with its look */
        if (error == 0) {
            tr__turn_enrol(turn, id, false);
        }
    }
    tr__settle_drop(manager->completion, task, TR__TASK_HOLD_LOOK);
    return error;
}

int tr_task_attach(tr_manager *manager, tr_task_id id)
{
    if (manager == NULL) {
        return TR_EINVAL;
    }
    struct tr__registry *registry = tr__manager_registry(manager);
    struct tr__task *task = find(manager, id);
    if (task == NULL) {
        return TR_ENOENT;
    }
    /* relaxed: a wrong lane (the slot was reused) shows in the id under its lock. */
    struct tr__lane *lane = &registry->lanes[tr__load_relaxed(&task->lane)];
    tr__lane_lock(lane);
    int error = find(manager, id) == NULL ? TR_ENOENT : attach(manager, task, id);
    tr__lane_unlock(lane);
    return error;
}

int tr_task_set_delivery(tr_manager *manager, tr_task_id id, tr_delivery delivery)
{
    if (manager == NULL || (delivery != TR_DELIVERY_TO_LOOP && delivery != TR_DELIVERY_MANUAL)) {
        return TR_EINVAL;
    }
    struct tr__task *task = find(manager, id);
    if (task == NULL) {
        return TR_ENOENT;
    }
    return tr__step_error(tr__task_set_delivery(task, id, delivery == TR_DELIVERY_MANUAL));
}

int tr_task_set_continue(tr_manager *manager, tr_task_id id, tr_continue continuation)
{
    if (manager == NULL ||
        (continuation != TR_CONTINUE_NOTIFY && continuation != TR_CONTINUE_REQUEST)) {
        return TR_EINVAL;
    }
    struct tr__task *task = find(manager, id);
    if (task == NULL) {
        return TR_ENOENT;
    }
    return tr__step_error(tr__task_set_continue(task, id, continuation == TR_CONTINUE_REQUEST));
}

/* The number in a task's text form: the id without its tag. Tasks of fresh slots have small
 * numbers. */
#define NUMBER_BITS (TR__GENERATION_BITS + TR__INDEX_BITS)

char *tr_task_text(tr_task_id task, char text[TR_TASK_TEXT_BYTES])
{
    if (text == NULL) {
        return NULL;
    }
    uint64_t number = task & ((UINT64_C(1) << NUMBER_BITS) - 1);
    number -=
        UINT64_C(1) << TR__INDEX_BITS; /* generations begin at 1: the first tasks are task-1 … */
    (void)snprintf(text, TR_TASK_TEXT_BYTES, "task-%" PRIu64,
                   number & ((UINT64_C(1) << NUMBER_BITS) - 1));
    return text;
}

int tr_task_parse(const char *text, tr_task_id *ret_task)
{
    static const char prefix[] = "task-";
    if (text == NULL || ret_task == NULL || strncmp(text, prefix, sizeof(prefix) - 1) != 0) {
        return TR_EINVAL;
    }
    uint64_t number = 0;
    const char *digits = text + sizeof(prefix) - 1;
    if (*digits < '1' || *digits > '9') {
        return TR_EINVAL;
    }
    for (const char *digit = digits; *digit != '\0'; digit++) {
        if (*digit < '0' || *digit > '9' || number >= (UINT64_C(1) << NUMBER_BITS) / 10) {
            return TR_EINVAL;
        }
        number = number * 10 + (uint64_t)(*digit - '0');
    }
    number += UINT64_C(1) << TR__INDEX_BITS;
    if (number >= UINT64_C(1) << NUMBER_BITS || TR__ID_INDEX(number) == 0) {
        return TR_EINVAL;
    }
    *ret_task = (uint64_t)TR__TAG_TASK << NUMBER_BITS | number;
    return 0;
}
