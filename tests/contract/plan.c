/*
 * plan.c: what a seed means: the operations, the calls' plans, the manager's configuration.
 *
 * Pure functions: a plan depends on its seed alone, so that an operation keeps its meaning when
 * others are shrunk away. Durations are short and bounded: everything ends by itself.
 */
#include <string.h>

#include "contract/contract.h"

static const struct {
    const char *name;
    uint32_t weight;
} kinds[OP_KINDS] = {
    [OP_LAUNCH] = {"launch", 40},
    [OP_BATCH] = {"batch", 8},
    [OP_CANCEL] = {"cancel", 10},
    [OP_DETACH] = {"detach", 5},
    [OP_ATTACH] = {"attach", 5},
    [OP_SET_DELIVERY] = {"set_delivery", 4},
    [OP_SET_CONTINUE] = {"set_continue", 3},
    [OP_INTERRUPT] = {"interrupt", 3},
    [OP_APPROVE] = {"approve", 2},
    [OP_DENY] = {"deny", 2},
    [OP_TURN_CLOSE] = {"turn_close", 2},
    [OP_SESSION_CLOSE] = {"session_close", 1},
    [OP_SNAPSHOT] = {"snapshot", 3},
    [OP_LIST] = {"list", 1},
    [OP_WAKE] = {"wake", 1},
    [OP_TOKEN] = {"token", 2},
    [OP_STATS] = {"stats", 1},
    [OP_WAIT_IDLE] = {"wait_idle", 1},
    [OP_PAUSE] = {"pause", 3},
};

static const char *const actions[ACTIONS] = {
    "return",      "sleep", "sleep_shield", "pipe",    "block",        "spin",
    "spin_polite", "defer", "defer_early",  "process", "await_cancel",
};

const char *operation_name(enum operation_kind kind)
{
    return kinds[kind].name;
}

const char *action_name(enum action action)
{
    return actions[action];
}

void plan_operations(uint64_t seed, struct operation *operations, uint32_t count)
{
    struct chance chance = chance_from(seed, 1);
    uint32_t total = 0;
    for (unsigned kind = 0; kind < OP_KINDS; kind++) {
        total += kinds[kind].weight;
    }
    for (uint32_t i = 0; i < count; i++) {
        uint32_t drawn = chance_below(&chance, total);
        unsigned kind = 0;
        while (drawn >= kinds[kind].weight) {
            drawn -= kinds[kind++].weight;
        }
        operations[i].kind = (enum operation_kind)kind;
        operations[i].index = i;
        operations[i].seed = chance_next(&chance);
    }
}

static uint32_t plan_size(struct chance *chance)
{
    uint32_t drawn = chance_below(chance, 10);
    return drawn < 2   ? 0
           : drawn < 6 ? chance_below(chance, 97)
           : drawn < 9 ? chance_below(chance, 4096)
                       : chance_below(chance, 102401);
}

static uint32_t plan_delay(struct chance *chance)
{
    uint32_t drawn = chance_below(chance, 20);
    return drawn < 8    ? 0
           : drawn < 16 ? chance_below(chance, 1000)
           : drawn < 19 ? chance_below(chance, 5000)
                        : chance_below(chance, 20000);
}

static uint64_t plan_time(struct chance *chance, uint32_t times)
{
    return chance_once_in(chance, times)
               ? (1 + (uint64_t)chance_below(chance, 10000)) * (TR_MILLISECOND / 1000)
               : 0;
}

static void plan_options(struct chance *chance, tr_options *options)
{
    static const tr_route routes[] = {
        TR_ROUTE_DEFAULT,    TR_ROUTE_INLINE,     TR_ROUTE_FOREGROUND,   TR_ROUTE_FOREGROUND,
        TR_ROUTE_FOREGROUND, TR_ROUTE_BACKGROUND, TR_ROUTE_BACKGROUND,   TR_ROUTE_BACKGROUND,
        TR_ROUTE_DEFAULT,    TR_ROUTE_FOREGROUND, TR_ROUTE_DETACH_AFTER, TR_ROUTE_DETACH_AFTER,
    };
    options->route = routes[chance_below(chance, sizeof routes / sizeof routes[0])];
    options->delivery = (tr_delivery)chance_below(chance, 3);
    options->continuation = (tr_continue)chance_below(chance, 3);
    options->lifetime = (tr_lifetime)chance_below(chance, 4);
    options->priority = (tr_priority)chance_below(chance, 3);
    options->detach_after_ns = options->route == TR_ROUTE_DETACH_AFTER
                                   ? (1 + chance_below(chance, 8000)) * UINT64_C(1000)
                                   : 0;
    options->queue_timeout_ns = plan_time(chance, 20);
    options->run_timeout_ns = plan_time(chance, 20);
    options->idle_timeout_ns = plan_time(chance, 20);
    options->total_timeout_ns = plan_time(chance, 20);
    options->output_bytes_max = chance_once_in(chance, 8) ? 1000 : 0;
}

void plan_call(uint64_t seed, const struct shape *shape, struct plan *ret_plan)
{
    static const enum action usual[] = {
        ACT_RETURN,       ACT_RETURN, ACT_RETURN,       ACT_SLEEP, ACT_SLEEP,
        ACT_SLEEP_SHIELD, ACT_PIPE,   ACT_BLOCK,        ACT_SPIN,  ACT_SPIN_POLITE,
        ACT_DEFER_EARLY,  ACT_DEFER,  ACT_AWAIT_CANCEL,
    };
    struct chance chance = chance_from(seed, 2);
    struct plan *plan = ret_plan;
    tr_options empty = TR_OPTIONS_INIT;
    memset(plan, 0, sizeof *plan);
    plan->options = empty;
    plan->action = usual[chance_below(&chance, sizeof usual / sizeof usual[0])];
    if (chance_once_in(&chance, 100) && shape->processes) {
        plan->action = ACT_PROCESS;
    }
    plan->way = (enum result_way)chance_below(&chance, WAYS);
    plan->awaiting = chance_below(&chance, 2) != 0;
    plan->borrowed = chance_once_in(&chance, 3);
    plan->status = chance_once_in(&chance, 5) ? TR_ETOOL : 0;
    plan->delay_us = plan_delay(&chance);
    plan->result_bytes = plan_size(&chance);
    plan->input_bytes = plan_size(&chance);
    plan->call_id_bytes = chance_below(&chance, TR_CALL_ID_BYTES_MAX + 1);
    plan->metadata_bytes =
        chance_once_in(&chance, 4) ? chance_below(&chance, TR_METADATA_BYTES_MAX + 1) : 0;
    if (chance_once_in(&chance, 8)) {
        plan->approvals = chance_below(&chance, 4);
        plan->denied = chance_once_in(&chance, 3);
        plan->expire_ns = plan_time(&chance, 4);
    }
    plan->admit_timeout_ns = plan_time(&chance, 4);
    plan_options(&chance, &plan->options);
    plan->routed =
        chance_once_in(&chance, 2) ? (tr_route)chance_below(&chance, 4) : TR_ROUTE_DEFAULT;
    bool is_brief =
        plan->action == ACT_RETURN || plan->action == ACT_DEFER || plan->action == ACT_DEFER_EARLY;
    plan->brief = is_brief && !plan->awaiting && !chance_once_in(&chance, 3);
}

void plan_shape(uint64_t seed, uint32_t operations, bool is_inline, struct shape *ret_shape)
{
    static const uint32_t tasks[] = {24, 200, 65536};
    static const uint32_t fibers[] = {4, 64, 16384};
    static const uint32_t events[] = {64, 8192, 1048576};
    static const uint64_t drains[] = {0, TR_MILLISECOND, 20 * TR_MILLISECOND, TR_FOREVER};
    struct chance chance = chance_from(seed, 3);
    struct shape *shape = ret_shape;
    tr_config config = TR_CONFIG_INIT;
    memset(shape, 0, sizeof *shape);
    config.flags = is_inline ? TR_MANAGER_INLINE : 0;
    config.workers = 1 + chance_below(&chance, 4);
    config.substitutes_max = chance_once_in(&chance, 3) ? 1 : 16;
    config.tasks_max = tasks[chance_below(&chance, 3)];
    config.fibers_max = fibers[chance_below(&chance, 3)];
    config.events_max = events[chance_below(&chance, 3)];
    config.bytes_max = chance_once_in(&chance, 4) ? UINT64_C(1) << 20 : UINT64_C(1) << 30;
    config.slice_ns = chance_once_in(&chance, 2) ? TR_MILLISECOND : 10 * TR_MILLISECOND;
    config.cancel_grace_ns = TR_MILLISECOND;
    shape->patient = chance_below(&chance, 3) != 0;
    config.abandon_wait_ns = shape->patient ? 60 * TR_SECOND : TR_MILLISECOND;
    shape->config = config;
    shape->finishers = 1 + chance_below(&chance, 2);
    shape->waiters = 1 + chance_below(&chance, 3);
    shape->takers = 1 + chance_below(&chance, 2);
    shape->close_early = shape->patient && chance_once_in(&chance, 2);
    shape->close_at = operations == 0 ? 0 : chance_below(&chance, operations + operations / 4);
    shape->drain_ns = drains[chance_below(&chance, 4)];
    shape->keep = chance_once_in(&chance, 3);
    shape->processes = chance_once_in(&chance, 3);
}
