/*
 * steer.c: the operations on what runs: cancel, detach, attach, policies, approvals, interrupt,
 * close, looking. Each tells the model before and after, so that overlapping ones may have won in
 * any order.
 */
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "contract/contract.h"

/* A call launched not long before this operation, or NULL. */
static struct record *record_wanted(const struct operation *operation, struct chance *chance)
{
    uint32_t back = 1 + chance_below(chance, chance_once_in(chance, 4) ? 200 : 20);
    if (back > operation->index) {
        return NULL;
    }
    struct record *record =
        record_at(operation->index - back, chance_below(chance, chance_once_in(chance, 2) ? 1 : 4));
    return record->id != 0 ? record : NULL;
}

static void do_cancel(struct record *record)
{
    bool shown = record->resolutions > 0;
    tr_snapshot snapshot;
    atomic_store(&record->may_stop, true);
    int result = tr_task_cancel(world->manager, record->id, "a cancel");
    check_found(record, "cancel", result, shown);
    if (result == 0) {
        atomic_store(&record->stopped, true);
    } else if (result == TR_EALREADY) {
        int found = tr_task_snapshot(world->manager, record->id, &snapshot);
        MUST(found == TR_ENOENT || snapshot.state == TR_STATE_ENDED,
             "call %u: cancel said it has ended, a snapshot says state %d", record->index,
             (int)snapshot.state);
    } else {
        MUST(result == TR_ENOENT, "tr_task_cancel: %s", tr_error_name(result));
    }
}

static void do_change(struct record *record, enum change_kind what, int value)
{
    bool shown = record->resolutions > 0;
    struct change *change = change_begin(record, what, value);
    if (change == NULL) {
        return; /* enough was done to this one */
    }
    int result = 0;
    const char *name = "set_continue";
    if (what == CHANGE_DELIVERY) {
        name = "set_delivery";
        result = tr_task_set_delivery(world->manager, record->id, (tr_delivery)value);
    } else if (what == CHANGE_CONTINUE) {
        result = tr_task_set_continue(world->manager, record->id, (tr_continue)value);
    } else if (value == TR_KIND_BACKGROUND) {
        name = "detach";
        result = tr_task_detach(world->manager, record->id);
    } else {
        name = "attach";
        result = tr_task_attach(world->manager, record->id);
        if (result == 0) {
            atomic_fetch_add(&record->turn->foreground, 1);
        }
        MUST(result != TR_ECLOSED || record->turn->closing || record->turn->session->closing,
             "attach of call %u: TR_ECLOSED", record->index);
    }
    change_end(record, change, result);
    check_found(record, name, result, shown);
    MUST(result == 0 || result == TR_ENOENT || result == TR_EALREADY ||
             (result == TR_ECLOSED && what == CHANGE_KIND),
         "%s of call %u: %s", name, record->index, tr_error_name(result));
}

static void do_approve(struct record *record)
{
    bool shown = record->resolutions > 0;
    int result = tr_task_approve(world->manager, record->id);
    check_found(record, "approve", result, shown);
    if (result == 0) {
        atomic_fetch_add(&record->approved, 1);
    }
    MUST(result == 0 || result == TR_ENOENT || result == TR_EALREADY || result == TR_ESTATE,
         "tr_task_approve: %s", tr_error_name(result));
}

static void do_deny(struct record *record)
{
    bool shown = record->resolutions > 0;
    atomic_store(&record->may_deny, true);
    int result = tr_task_deny(world->manager, record->id, "no");
    check_found(record, "deny", result, shown);
    MUST(result == 0 || result == TR_ENOENT || result == TR_EALREADY || result == TR_ESTATE,
         "tr_task_deny: %s", tr_error_name(result));
}

void answer_request(struct record *record, struct chance *chance)
{
    uint32_t drawn = chance_below(chance, 10);
    if (drawn < 7) {
        do_approve(record);
    } else if (drawn < 8) {
        do_deny(record);
    } /* else: left for others, or for its expiry */
}

static void do_snapshot(struct record *record)
{
    tr_snapshot snapshot;
    bool shown = record->resolutions > 0;
    char text[TR_TASK_TEXT_BYTES];
    tr_task_id parsed = 0;
    int result = tr_task_snapshot(world->manager, record->id, &snapshot);
    check_found(record, "snapshot", result, shown);
    MUST(tr_task_parse(tr_task_text(record->id, text), &parsed) == 0 && parsed == record->id,
         "call %u: its text form is %s", record->index, text);
    if (result == TR_ENOENT) {
        return;
    }
    MUST(result == 0, "tr_task_snapshot: %s", tr_error_name(result));
    MUST(snapshot.user == record && snapshot.task == record->id &&
             snapshot.turn == record->turn->id && snapshot.session == record->turn->session->id,
         "call %u: a snapshot of something else", record->index);
    MUST(snapshot.call_id_size == record->plan.call_id_bytes &&
             pattern_fits(pattern_seed(record, PATTERN_CALL_ID), snapshot.call_id,
                          snapshot.call_id_size) &&
             snapshot.metadata_size == record->plan.metadata_bytes &&
             pattern_fits(pattern_seed(record, PATTERN_METADATA), snapshot.metadata,
                          snapshot.metadata_size),
         "call %u: a snapshot with other bytes", record->index);
    MUST((snapshot.state == TR_STATE_ENDED) == (snapshot.outcome != TR_OUTCOME_NONE),
         "call %u: state %d with outcome %d", record->index, (int)snapshot.state,
         (int)snapshot.outcome);
    MUST(!shown || snapshot.outcome == (tr_outcome)record->outcome,
         "call %u: outcome %d after it was resolved as %d", record->index, (int)snapshot.outcome,
         (int)record->outcome);
}

static void do_list(struct chance *chance)
{
    tr_filter filter = TR_FILTER_INIT;
    tr_cursor cursor = {0, 0};
    tr_snapshot snapshots[16];
    struct model_turn *turn = turn_at(chance_next(chance));
    if (turn != NULL && chance_once_in(chance, 2)) {
        filter.session = turn->session->id;
        filter.turn = chance_once_in(chance, 2) ? turn->id : 0;
    }
    filter.states = chance_below(chance, 16) & ~1u;
    filter.kinds = chance_below(chance, 4);
    tr_cursor last = cursor;
    for (;;) {
        int count = tr_task_list(world->manager, &filter, &cursor, snapshots, 16);
        MUST(count >= 0, "tr_task_list: %s", tr_error_name(count));
        for (int i = 0; i < count; i++) {
            const tr_snapshot *shown = &snapshots[i];
            struct record *record = record_of(shown->user);
            record_identify(record, shown->task);
            MUST(shown->accepted_ns > last.accepted_ns ||
                     (shown->accepted_ns == last.accepted_ns && shown->task > last.task),
                 "a listing out of order at call %u", record->index);
            MUST(shown->state != TR_STATE_ENDED &&
                     (filter.states == 0 || (filter.states & 1u << shown->state) != 0) &&
                     (filter.turn == 0 || filter.turn == shown->turn) &&
                     (filter.session == 0 || filter.session == shown->session),
                 "a listing shows call %u against its filter", record->index);
            last.accepted_ns = shown->accepted_ns;
            last.task = shown->task;
        }
        if (count < 16) {
            return;
        }
    }
}

static void do_interrupt(struct model_turn *turn)
{
    atomic_store(&turn->interrupted, true);
    int result = tr_turn_interrupt(world->manager, turn->id, "an interrupt");
    MUST(result >= 0 || (result == TR_ENOENT && (turn->closing || turn->session->closing)),
         "tr_turn_interrupt: %s", tr_error_name(result));
}

static void do_token(struct chance *chance)
{
    unsigned waiter = chance_below(chance, world->shape.waiters);
    (void)pthread_mutex_lock(&world->token_lock[waiter]);
    if (world->tokens[waiter] != NULL) {
        atomic_fetch_add(&world->tokens_cancelled[waiter], 1);
        tr_token_cancel(world->tokens[waiter]);
    }
    (void)pthread_mutex_unlock(&world->token_lock[waiter]);
}

static void do_stats(void)
{
    tr_stats stats;
    MUST(tr_manager_stats(world->manager, &stats) == 0, "tr_manager_stats");
    MUST(stats.unfinished <= stats.accepted &&
             stats.completed + stats.failed + stats.cancelled + stats.timed_out + stats.denied <=
                 stats.accepted,
         "stats: %llu accepted, %llu unfinished, %llu used", (unsigned long long)stats.accepted,
         (unsigned long long)stats.unfinished, (unsigned long long)stats.tasks_used);
    MUST(stats.abandoned < 1000000 && stats.fibers_used < 1000000,
         "stats: %llu abandoned, %llu fibers", (unsigned long long)stats.abandoned,
         (unsigned long long)stats.fibers_used);
}

static void do_pause(struct chance *chance)
{
    struct timespec duration = {0, (long)chance_below(chance, 3000) * 1000};
    (void)nanosleep(&duration, NULL);
}

/* Operations on one call. */
static void steer_record(const struct operation *operation, struct chance *chance)
{
    struct record *record = record_wanted(operation, chance);
    if (record == NULL) {
        return;
    }
    switch (operation->kind) {
    case OP_CANCEL:
        do_cancel(record);
        break;
    case OP_DETACH:
        do_change(record, CHANGE_KIND, TR_KIND_BACKGROUND);
        break;
    case OP_ATTACH:
        do_change(record, CHANGE_KIND, TR_KIND_FOREGROUND);
        break;
    case OP_SET_DELIVERY:
        do_change(record, CHANGE_DELIVERY, 1 + (int)chance_below(chance, 2));
        break;
    case OP_SET_CONTINUE:
        do_change(record, CHANGE_CONTINUE, 1 + (int)chance_below(chance, 2));
        break;
    case OP_APPROVE:
        do_approve(record);
        break;
    case OP_DENY:
        do_deny(record);
        break;
    default:
        do_snapshot(record);
    }
}

void steer_operation(const struct operation *operation)
{
    struct chance chance = chance_from(operation->seed, 6);
    struct model_turn *turn = turn_at(operation->seed);
    uint32_t flags = chance_once_in(&chance, 2) ? TR_CLOSE_DISCARD : 0;
    switch (operation->kind) {
    case OP_INTERRUPT:
        if (turn != NULL) {
            do_interrupt(turn);
        }
        break;
    case OP_TURN_CLOSE:
        if (turn != NULL) {
            close_turn(turn, flags);
        }
        break;
    case OP_SESSION_CLOSE:
        if (turn != NULL) {
            close_session(turn->session, flags);
        }
        break;
    case OP_LIST:
        do_list(&chance);
        break;
    case OP_WAKE:
        tools_wake();
        break;
    case OP_TOKEN:
        do_token(&chance);
        break;
    case OP_STATS:
        do_stats();
        break;
    case OP_WAIT_IDLE:
        (void)tr_manager_wait_idle(world->manager, chance_below(&chance, 2000) * UINT64_C(1000));
        break;
    case OP_PAUSE:
        do_pause(&chance);
        break;
    default:
        steer_record(operation, &chance);
    }
}

/* Approves, now and then, whatever waits for it: else a drain without end would have none. */
void *sweeper_main(void *argument)
{
    tr_filter filter = TR_FILTER_INIT;
    tr_snapshot snapshots[32];
    struct timespec pause = {0, 5000000};
    (void)argument;
    filter.states = 1u << TR_STATE_WAITING;
    while (!world->stopping) {
        tr_cursor cursor = {0, 0};
        int count = tr_task_list(world->manager, &filter, &cursor, snapshots, 32);
        MUST(count >= 0, "tr_task_list: %s", tr_error_name(count));
        for (int i = 0; i < count; i++) {
            if (snapshots[i].approval_pending) {
                struct record *record = record_of(snapshots[i].user);
                record_identify(record, snapshots[i].task);
                do_approve(record);
            }
        }
        (void)nanosleep(&pause, NULL);
    }
    return NULL;
}
