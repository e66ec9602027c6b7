/*
 * call.c: what a tool function asks about its call, and how it sets its result.
 *
 * Purpose: the accessors and result functions of toolring/tool.h. Owner: the tool's thread, but
 * tr_finish: any. Called by tools; calls engine/call, completion/describe, completion/arena.
 *
 * Invariants
 *  1. call->result is what was set last, whole: a function that fails leaves it as it was.
 *  2. Result and reservation never share memory. Only one of them can lie in the task's slot; if
 *     one is there already the other is taken from the arena, by asking for more than a slot
 *     holds.
 *  3. Bytes in the slot have origin NULL: giving them back does nothing, so they may be taken again
 *     for the result that replaces them. A copy may come from the very result it replaces.
 *  4. Input, call id and metadata do not change while the function runs.
 *
 * Complexity: O(1) but for the copies. A result of up to 96 bytes (less what the input uses there)
 * needs no memory.
 */
#include <string.h>

#include <toolring/tool.h>

#include "base/assert.h"
#include "completion/describe.h"
#include "engine/call.h"
#include "engine/engine.h"

/* What is asked of no call at all. */
static const tr_bytes nothing = {NULL, 0};

tr_bytes tr_call_input(const tr_call *call)
{
    if (call == NULL) {
        return nothing;
    }
    const struct tr__task *task = call->task;
    return (tr_bytes){task->input, task->input_size};
}

tr_bytes tr_call_call_id(const tr_call *call)
{
    if (call == NULL) {
        return nothing;
    }
    const struct tr__task *task = call->task;
    return (tr_bytes){task->in, task->call_id_size};
}

tr_bytes tr_call_metadata(const tr_call *call)
{
    if (call == NULL || call->task->metadata_size == 0) {
        return nothing;
    }
    const struct tr__task *task = call->task;
    return (tr_bytes){task->in + task->call_id_size, task->metadata_size};
}

void tr_call_snapshot(const tr_call *call, tr_snapshot *ret_snapshot)
{
    if (ret_snapshot == NULL) {
        return;
    }
    memset(ret_snapshot, 0, sizeof *ret_snapshot); /* of the byte arrays only a part is filled */
    if (call != NULL) {
        tr__describe(call->engine->completion, call->task, tr__task_word(call->task), ret_snapshot);
    }
}

tr_task_id tr_call_task(const tr_call *call)
{
    return call == NULL ? 0 : call->id;
}

void *tr_call_user(const tr_call *call)
{
    return call == NULL ? NULL : call->task->user;
}

size_t tr_call_output_bytes_max(const tr_call *call)
{
    uint64_t bytes = call == NULL ? 0 : tr__call_output_bytes_max(call);
    return bytes > 0 ? (size_t)bytes : 1;
}

bool tr_call_is_cancelled(const tr_call *call)
{
    return call != NULL && tr__call_is_cancelled(call);
}

int tr_call_on_cancel(tr_call *call, tr_cancel_function function, void *context,
                      tr_cancel_function release)
{
    if (call == NULL || function == NULL) {
        return TR_EINVAL;
    }
    return tr__call_hook(call, function, context, release);
}

int tr_call_off_cancel(tr_call *call, tr_cancel_function function, void *context)
{
    if (call == NULL || function == NULL) {
        return TR_EINVAL;
    }
    return tr__call_unhook(call, function, context);
}

void tr_call_progress(tr_call *call, uint64_t current, uint64_t total)
{
    if (call != NULL) {
        tr__call_active(call, TR_EVENT_PROGRESS, current, total);
    }
}

void tr_call_output(tr_call *call, uint64_t bytes)
{
    if (call != NULL) {
        tr__call_active(call, TR_EVENT_OUTPUT, bytes, 0);
    }
}

uint64_t tr_call_cancel_grace(const tr_call *call)
{
    return call == NULL ? 0 : tr__call_cancel_grace_ns(call);
}

static struct tr__arena *arena_of(tr_call *call)
{
    return &call->engine->completion->arena;
}

static bool is_in_slot(const tr_call *call, const struct tr__arena_ref *ref)
{
    const unsigned char *data = ref->data;
    const unsigned char *slot = call->task->bytes;
    return ref->origin == NULL && data >= slot && data < slot + TR__TASK_BYTES;
}

/* Memory that is not in the slot while `other` is. */
static int take_beside(tr_call *call, const struct tr__arena_ref *other, size_t size,
                       struct tr__arena_ref *ret)
{
    bool taken = is_in_slot(call, other);
    size_t wanted = taken && size > 0 && size <= TR__TASK_BYTES ? TR__TASK_BYTES + 1 : size;
    int error = tr__call_take(call, wanted, ret);
    if (error == 0 && wanted != size) {
        ret->size = (uint32_t)size;
    }
    return error;
}

static void replace(tr_call *call, struct tr__arena_ref *place, struct tr__arena_ref ref)
{
    struct tr__arena_ref old = *place;
    *place = ref;
    tr__arena_give(arena_of(call), &old);
}

int tr_result_copy(tr_call *call, const void *data, size_t size)
{
    struct tr__arena_ref ref;

    if (call == NULL || (data == NULL && size > 0)) {
        return TR_EINVAL;
    }
    if (size > tr__call_result_bytes_max(call)) {
        return TR_ELIMIT;
    }
    int error = take_beside(call, &call->reserved, size, &ref);
    if (error < 0) {
        return error;
    }
    if (size > 0) {
        memmove(ref.data, data, size); /* it may be the result it replaces */
    }
    replace(call, &call->result, ref);
    return 0;
}

int tr_result_reserve(tr_call *call, size_t size, void **ret_data)
{
    struct tr__arena_ref ref;

    if (call == NULL || ret_data == NULL || size == 0) {
        return TR_EINVAL;
    }
    if (size > tr__call_result_bytes_max(call)) {
        return TR_ELIMIT;
    }
    int error = take_beside(call, &call->result, size, &ref);
    if (error < 0) {
        return error;
    }
    replace(call, &call->reserved, ref);
    *ret_data = ref.data;
    return 0;
}

int tr_result_commit(tr_call *call, size_t size)
{
    if (call == NULL) {
        return TR_EINVAL;
    }
    if (call->reserved.size == 0) {
        return TR_ESTATE;
    }
    if (size > call->reserved.size) {
        return TR_EINVAL;
    }
    struct tr__arena_ref ref = call->reserved;
    call->reserved = (struct tr__arena_ref){0};
    if (size < ref.size) {
        tr__arena_shrink(arena_of(call), &ref, size);
    }
    replace(call, &call->result, ref);
    return 0;
}

int tr_result_give(tr_call *call, void *data, size_t size, tr_release_function release,
                   void *context)
{
    struct tr__arena_ref ref;

    if (call == NULL || (data == NULL && size > 0)) {
        return TR_EINVAL;
    }
    if (size > tr__call_result_bytes_max(call)) {
        return TR_ELIMIT;
    }
    int error = tr__arena_adopt(arena_of(call), data, size, release, context, &ref);
    if (error < 0) {
        return error;
    }
    replace(call, &call->result, ref);
    return 0;
}

tr_deferred tr_call_defer(const tr_call *call)
{
    return call == NULL ? (tr_deferred){NULL, 0} : (tr_deferred){tr__call_manager(call), call->id};
}

int tr_finish(tr_deferred deferred, int status, const void *data, size_t size)
{
    if (deferred.manager == NULL || status > 0 || (data == NULL && size > 0)) {
        return TR_EINVAL;
    }
    return tr__call_finish_late(deferred.manager, deferred.task, status, data, size);
}
