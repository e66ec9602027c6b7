/*
 * hooks.c: the cancel hooks that half of the functions register, and what must hold of them: called
 * at most once, only for a call that somebody or a timeout has asked to stop, not after it was
 * taken back nor after the call has ended otherwise; a deferred call that ends by being stopped
 * calls it exactly once; its context is released exactly once, unless it was taken back.
 */
#include "contract/contract.h"

static bool may_be_called(struct record *record)
{
    const tr_options *options = &record->plan.options;
    return record_may_stop(record) || options->run_timeout_ns != 0 ||
           options->idle_timeout_ns != 0 || options->total_timeout_ns != 0;
}

static void hook(void *context)
{
    struct record *record = context;
    MUST(!record->hook_gone, "call %u: its hook is called, though it cannot be", record->index);
    MUST(atomic_fetch_add(&record->hook_calls, 1) == 0, "call %u: its hook is called twice",
         record->index);
    MUST(may_be_called(record), "call %u: its hook is called, though nobody stopped it",
         record->index);
    if ((record->seed & 1024) != 0) {
        (void)tr_task_set_delivery(world->manager, 0, TR_DELIVERY_MANUAL); /* no lock is held */
        (void)tr_task_cancel(world->manager, record->id, "again");
    }
    atomic_fetch_add(&world->progress, 1);
}

static void release(void *context)
{
    struct record *record = context;
    MUST(!record->hook_gone, "call %u: its hook is released late", record->index);
    MUST(atomic_fetch_add(&record->hook_releases, 1) == 0, "call %u: its hook is released twice",
         record->index);
}

void hook_register(struct record *record, tr_call *call)
{
    if ((record->seed & 256) == 0) {
        return;
    }
    int result = tr_call_on_cancel(call, hook, record, release);
    MUST(result == 0 || (result == TR_ECANCELED && tr_call_is_cancelled(call)),
         "call %u: tr_call_on_cancel: %s", record->index, tr_error_name(result));
    atomic_store(&record->hooked, result == 0);
}

void hook_take_back(struct record *record, tr_call *call)
{
    if ((record->seed & 512) == 0) {
        return; /* the library drops it */
    }
    int result = tr_call_off_cancel(call, hook, record);
    if (!record->hooked) {
        MUST(result == TR_ENOENT, "call %u: tr_call_off_cancel: %s", record->index,
             tr_error_name(result));
        return;
    }
    MUST(result == (record->hook_calls == 0 ? 0 : TR_EALREADY),
         "call %u: tr_call_off_cancel: %s, called %u times", record->index, tr_error_name(result),
         record->hook_calls);
    atomic_store(&record->hook_taken_back, result == 0);
    atomic_store(&record->hook_gone, true);
}

void hook_resolved(struct record *record, tr_outcome outcome)
{
    if (outcome == TR_OUTCOME_COMPLETED || outcome == TR_OUTCOME_FAILED) {
        atomic_store(&record->hook_gone, true); /* it has returned, or tr_finish ended it */
    }
}

void hook_check(const struct record *record)
{
    uint32_t wanted = record->hooked && !record->hook_taken_back;
    MUST(record->hook_releases == wanted, "call %u: its hook was released %u times, not %u",
         record->index, record->hook_releases, wanted);
    MUST(record->hooked || record->hook_calls == 0, "call %u: a hook that was not registered",
         record->index);
    if (record->hooked && record->deferred && !record->finished) {
        MUST(record->hook_calls == 1, "call %u: deferred and stopped, its hook was called %u times",
             record->index, record->hook_calls);
    }
}
