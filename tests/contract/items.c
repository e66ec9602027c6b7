/*
 * items.c: what an item must be: checked when it is taken, and its bytes again when it is released.
 */
#include <stdlib.h>
#include <string.h>

#include "contract/contract.h"

static uint64_t pattern_word(uint64_t seed, size_t at_word)
{
    uint64_t word = (seed + at_word) * UINT64_C(0x9e3779b97f4a7c15);
    return word ^ word >> 29;
}

void pattern_fill(uint64_t seed, void *data, size_t size)
{
    unsigned char *bytes = data;
    for (size_t i = 0; i < size; i += 8) {
        uint64_t word = pattern_word(seed, i / 8);
        memcpy(bytes + i, &word, size - i < 8 ? size - i : 8);
    }
}

bool pattern_fits(uint64_t seed, const void *data, size_t size)
{
    const unsigned char *bytes = data;
    for (size_t i = 0; i < size; i += 8) {
        uint64_t word = pattern_word(seed, i / 8);
        if (memcmp(bytes + i, &word, size - i < 8 ? size - i : 8) != 0) {
            return false;
        }
    }
    return true;
}

uint64_t pattern_seed(const struct record *record, unsigned what)
{
    return chance_mix(record->seed + what);
}

static void check_pattern(const struct record *record, unsigned what, tr_bytes bytes, uint32_t size,
                          const char *name)
{
    MUST(bytes.size == size, "call %u: its %s has %zu bytes, not %u", record->index, name,
         bytes.size, size);
    MUST(pattern_fits(pattern_seed(record, what), bytes.data, bytes.size),
         "call %u: its %s was changed", record->index, name);
}

static uint32_t expected_size(const struct record *record)
{
    if (record->plan.way == WAY_NONE && record->plan.action != ACT_DEFER &&
        record->plan.action != ACT_DEFER_EARLY) {
        return 0;
    }
    return record->plan.result_bytes;
}

void check_bytes(const tr_item *item)
{
    struct record *record = record_of(item->user);
    const struct plan *plan = &record->plan;
    check_pattern(record, PATTERN_CALL_ID, item->call_id, plan->call_id_bytes, "call id");
    check_pattern(record, PATTERN_METADATA, item->metadata, plan->metadata_bytes, "metadata");
    if (item->type == TR_ITEM_APPROVAL) {
        check_pattern(record, PATTERN_INPUT, item->input, plan->input_bytes, "input");
    } else if (item->type == TR_ITEM_RESOLUTION) {
        bool whole = item->outcome == TR_OUTCOME_COMPLETED || item->outcome == TR_OUTCOME_FAILED;
        if (whole || item->result.size > 0) {
            check_pattern(record, PATTERN_RESULT, item->result, expected_size(record), "result");
        }
    }
}

static void check_home(const tr_item *item, struct record *record, uint64_t from)
{
    struct model_turn *turn = record->turn;
    struct model_session *session = turn->session;
    MUST(item->turn == turn->id && item->session == session->id && item->session_user == session,
         "call %u: an item with another turn or session", record->index);
    MUST(item->tool == world->tools[plan_tool(&record->plan)] && item->tool_name != NULL &&
             strcmp(item->tool_name, plan_tool_name(&record->plan)) == 0,
         "call %u: an item with another tool", record->index);
    uint64_t closed = session->discarded_at;
    if (item->channel == TR_CHANNEL_TURN) {
        closed = turn->closed_at != 0 ? turn->closed_at : session->closed_at;
    }
    MUST(item->channel == TR_CHANNEL_LAUNCH || closed == 0 || closed > from,
         "call %u: item type %d on channel %d after its home was closed", record->index,
         (int)item->type, (int)item->channel);
}

static bool has_timeout(const struct plan *plan)
{
    const tr_options *options = &plan->options;
    return options->queue_timeout_ns != 0 || options->run_timeout_ns != 0 ||
           options->idle_timeout_ns != 0 || options->total_timeout_ns != 0;
}

static void check_outcome(const tr_item *item, struct record *record)
{
    const struct plan *plan = &record->plan;
    int code = 0;
    bool may = false;
    switch (item->outcome) {
    case TR_OUTCOME_COMPLETED:
        may = plan->status == 0;
        break;
    case TR_OUTCOME_FAILED:
        may = plan->status != 0;
        code = plan->status;
        break;
    case TR_OUTCOME_CANCELLED:
        may = record_may_stop(record);
        code = TR_ECANCELED;
        break;
    case TR_OUTCOME_TIMED_OUT:
        may = has_timeout(plan);
        code = TR_ETIMEDOUT;
        break;
    case TR_OUTCOME_DENIED:
        may = plan->denied || record->may_deny || (plan->approvals > 0 && plan->expire_ns != 0);
        code = TR_EDENIED;
        break;
    default:
        break;
    }
    MUST(may && item->code == code, "call %u (%s): outcome %d with %s cannot be", record->index,
         action_name(plan->action), (int)item->outcome, tr_error_name(item->code));
    bool ran = item->outcome == TR_OUTCOME_COMPLETED || item->outcome == TR_OUTCOME_FAILED;
    MUST(record->runs <= 1 && (!ran || record->runs == 1), "call %u: outcome %d, ran %u times",
         record->index, (int)item->outcome, record->runs);
    bool started = (item->flags & TR_ITEM_NOT_STARTED) == 0;
    MUST(started == (item->started_ns != 0), "call %u: started %d at %llu", record->index, started,
         (unsigned long long)item->started_ns);
    MUST(!started || item->outcome != TR_OUTCOME_DENIED, "call %u: denied and started",
         record->index);
    MUST(item->accepted_ns <= item->ended_ns, "call %u: ended before it was accepted",
         record->index);
    MUST(!started || (item->started_ns >= item->accepted_ns && item->started_ns <= item->ended_ns),
         "call %u: accepted %llu, started %lld, ended %lld", record->index,
         (unsigned long long)item->accepted_ns, (long long)(item->started_ns - item->accepted_ns),
         (long long)(item->ended_ns - item->accepted_ns));
}

static void check_resolution(const tr_item *item, struct record *record)
{
    bool background = item->kind == TR_KIND_BACKGROUND;
    bool manual = item->channel == TR_CHANNEL_READY;
    bool request = (item->flags & TR_ITEM_CONTINUE) != 0;
    atomic_store(&record->outcome, (int)item->outcome); /* before it counts as shown */
    MUST(atomic_fetch_add(&record->resolutions, 1) == 0, "call %u: a second resolution",
         record->index);
    hook_resolved(record, item->outcome);
    atomic_store(&record->channel, (int)item->channel);
    atomic_store(&record->flags, item->flags);
    atomic_fetch_add(&world->outcomes[item->outcome & 7], 1);
    MUST(background == (item->channel == TR_CHANNEL_LOOP || manual),
         "call %u: resolved as kind %d on channel %d", record->index, (int)item->kind,
         (int)item->channel);
    MUST(change_allows(record, CHANGE_KIND, (int)item->kind),
         "call %u: resolved as kind %d, which it was not", record->index, (int)item->kind);
    if (background) {
        MUST(change_allows(record, CHANGE_DELIVERY,
                           manual ? TR_DELIVERY_MANUAL : TR_DELIVERY_TO_LOOP),
             "call %u: resolved on channel %d against its delivery", record->index,
             (int)item->channel);
    }
    if (item->channel == TR_CHANNEL_LOOP) {
        MUST(change_allows(record, CHANGE_CONTINUE,
                           request ? TR_CONTINUE_REQUEST : TR_CONTINUE_NOTIFY),
             "call %u: continue flag %d against its policy", record->index, request);
    } else {
        MUST(!request, "call %u: a continue flag on channel %d", record->index, (int)item->channel);
    }
    check_outcome(item, record);
}

static void check_request(const tr_item *item, struct record *record)
{
    uint32_t shown = atomic_fetch_add(&record->requests, 1) + 1;
    MUST(shown <= record->asked && item->approvals < record->plan.approvals,
         "call %u: approval request %u after %u approvals", record->index, shown, item->approvals);
    MUST((item->kind == TR_KIND_BACKGROUND) == (item->channel != TR_CHANNEL_TURN),
         "call %u: approval request of kind %d on channel %d", record->index, (int)item->kind,
         (int)item->channel);
    MUST(strcmp(item->reason, "ask") == 0 && atoi(item->summary) == (int)record->index,
         "call %u: approval request \"%s\", \"%s\"", record->index, item->reason, item->summary);
}

void check_item(const tr_item *item, uint64_t from)
{
    struct record *record = record_of(item->user);
    record_identify(record, item->task);
    check_home(item, record, from);
    check_bytes(item);
    bool detached = item->type == TR_ITEM_DETACHED || (item->flags & TR_ITEM_WAS_DETACHED) != 0;
    MUST(!detached || record_may_be_detached(record), "call %u: detached by nobody", record->index);
    bool settles = item->channel == TR_CHANNEL_TURN && item->type != TR_ITEM_APPROVAL;
    bool idle = (item->flags & TR_ITEM_TURN_IDLE) != 0;
    MUST(settles || !idle, "call %u: an idle flag on channel %d", record->index,
         (int)item->channel);
    switch (item->type) {
    case TR_ITEM_RESOLUTION:
        check_resolution(item, record);
        break;
    case TR_ITEM_DETACHED:
        MUST(atomic_fetch_add(&record->detaches, 1) == 0, "call %u: detached twice", record->index);
        MUST(item->channel == TR_CHANNEL_TURN && item->kind == TR_KIND_BACKGROUND,
             "call %u: detached on channel %d", record->index, (int)item->channel);
        atomic_fetch_add(&world->detached, 1);
        break;
    case TR_ITEM_APPROVAL:
        check_request(item, record);
        break;
    default:
        violation("call %u: an item of type %d", record->index, (int)item->type);
    }
    if (settles) {
        atomic_fetch_sub(&record->turn->foreground, 1);
        atomic_store(&record->turn->last_idle, idle);
        atomic_store(&record->turn->settled, true);
    }
}

/* Where it is counted while its batch is not released: a task in its slot, a request as bytes. */
static _Atomic uint32_t *held_of(const tr_item *item)
{
    return item->type == TR_ITEM_APPROVAL ? &world->requests_held : &record_of(item->user)->held;
}

void batch_taken(tr_batch *batch, uint64_t from)
{
    for (size_t i = 0; i < batch->count; i++) {
        atomic_fetch_add(held_of(&batch->items[i]), 1);
        check_item(&batch->items[i], from);
    }
    atomic_fetch_add(&world->progress, 1);
}

void batch_released(tr_batch *batch)
{
    for (size_t i = 0; i < batch->count; i++) {
        check_bytes(&batch->items[i]);
        atomic_fetch_sub(held_of(&batch->items[i]), 1);
    }
    tr_batch_release(batch);
}
