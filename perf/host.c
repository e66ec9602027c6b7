/*
 * host.c: see host.h.
 *
 * Owner thread: the benchmark's main thread; the tools run on workers. Called by the workloads;
 * calls the public interface only.
 */
#include "host.h"

#include <sched.h>
#include <stdatomic.h>
#include <string.h>

void host_open(struct host *host, tr_config *config, size_t sessions, bool drained)
{
    static char message[512];
    tr_config normal = TR_CONFIG_INIT;
    tr_session_options options = TR_SESSION_OPTIONS_INIT;
    REQUIRE(sessions >= 1 && sessions <= HOST_SESSIONS_MAX);
    memset(host, 0, sizeof *host);
    config = config != NULL ? config : &normal;
    config->message = message;
    config->message_size = sizeof message;
    int status = tr_manager_open(config, &host->manager);
    if (status != 0) {
        fail("the manager does not open: %s: %s", tr_error_name(status), message);
    }
    if (drained) {
        REQUIRE(tr_queue_open(host->manager, &host->queue) == 0);
        options.queue = host->queue;
    }
    host->sessions_count = sessions;
    for (size_t at = 0; at < sessions; at++) {
        REQUIRE(tr_session_open(host->manager, &options, &host->sessions[at]) == 0);
        REQUIRE(tr_turn_open(host->manager, host->sessions[at], NULL, &host->turns[at]) == 0);
    }
}

void host_close(struct host *host)
{
    tr_stats stats;
    REQUIRE(tr_manager_close(host->manager, 0) == 0);
    REQUIRE(tr_manager_stats(host->manager, &stats) == 0);
    REQUIRE(stats.unfinished == 0 && stats.abandoned == 0 && stats.processes_used == 0);
    tr_manager_free(host->manager);
    memset(host, 0, sizeof *host);
}

tr_tool_id host_tool(struct host *host, const char *name, tr_tool_function function, void *context,
                     uint32_t flags)
{
    tr_tool tool = TR_TOOL_INIT(name, function);
    tr_tool_id id = 0;
    tool.context = context;
    tool.flags = flags;
    REQUIRE(tr_tool_register(host->manager, &tool, &id) == 0);
    return id;
}

tr_task_id host_launch(struct host *host, const tr_request *request)
{
    tr_launched launched;
    int status = tr_launch(host->manager, request, &launched);
    if (status != TR_PENDING) {
        fail("a launch was refused: %s", tr_error_name(status));
    }
    return launched.task;
}

void host_launch_batch(struct host *host, const tr_request *requests, size_t count,
                       tr_launched *launched)
{
    int accepted = tr_launch_batch(host->manager, requests, count, launched);
    if (accepted != (int)count) {
        fail("of %zu launches %d were accepted", count, accepted);
    }
    REQUIRE(launched[count - 1].status == TR_PENDING);
}

int tool_mix(tr_call *call, void *context)
{
    uint64_t value;
    tr_bytes input = tr_call_input(call);
    (void)context;
    if (input.size != sizeof value) {
        return TR_EINVAL;
    }
    memcpy(&value, input.data, sizeof value);
    value = mix(value);
    return tr_result_copy(call, &value, sizeof value);
}

int tool_defer(tr_call *call, void *context)
{
    (void)call;
    atomic_fetch_add_explicit((atomic_size_t *)context, 1, memory_order_relaxed);
    return TR_DEFERRED;
}

void note_item(struct ledger *ledger, const tr_item *item)
{
    uint64_t result;
    if (item->type != TR_ITEM_RESOLUTION || item->outcome != TR_OUTCOME_COMPLETED ||
        item->result.size != sizeof result) {
        fail("call %zu: outcome %d, code %d", (size_t)item->user, (int)item->outcome, item->code);
    }
    memcpy(&result, item->result.data, sizeof result);
    ledger_note(ledger, (size_t)item->user, result);
}

void await_count(void *counter, size_t count)
{
    atomic_size_t *value = counter;
    while (atomic_load_explicit(value, memory_order_acquire) < count) {
        (void)sched_yield();
    }
}
