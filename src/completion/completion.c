/*
 * completion.c: setting up, counting, letting go. See completion.h.
 *
 * Owner: any thread. Called by engine and host; calls arena, events, registry.
 *
 * Invariants
 *  1. accepted >= settled, whoever looks: `settled` is summed before `accepted`. An outcome is
 *     counted before its item is pushed (so a drained item is in the numbers), SETTLED after it and
 *     the last event (so a manager seen idle has everything in its channels and its log).
 *  2. A worker's shard is written by the one thread that has the seat (hand-overs of the seat order
 *     the writes); the shared shard by atomic additions only.
 *
 * Complexity: a count is one plain store on a line of the worker's own; a look sums over all
 * shards.
 */
#include "completion/completion.h"

#include <string.h>

#include <toolring/error.h>

#include "base/assert.h"
#include "base/memory.h"
#include "completion/settle.h"

/* A session without tasks may still have requests in the one channel when the resolution came by
 * the other: its task's delivery was changed meanwhile. */
static void clear(void *context, struct tr__session *session)
{
    struct tr__completion *completion = (struct tr__completion *)context;
    struct tr__tally tally = tr__completion_shared(completion);
    if (!tr__mpsc_is_empty(&session->loop.queue)) {
        tr__settle_discard(completion, tally, &session->loop);
    }
    if (!tr__mpsc_is_empty(&session->ready.queue)) {
        tr__settle_discard(completion, tally, &session->ready);
    }
}

int tr__completion_init(struct tr__completion *completion,
                        const struct tr__completion_config *config)
{
    int error = tr__registry_init(&completion->registry, &config->registry);
    if (error < 0) {
        return error;
    }
    completion->registry.clear = clear;
    completion->registry.context = completion;
    error = tr__arena_init(&completion->arena, config->bytes_max);
    if (error < 0) {
        goto free_registry;
    }
    error = tr__events_init(&completion->events, config->events_max, config->readers_max);
    if (error < 0) {
        goto free_arena;
    }
    completion->shard_count = config->seats + 1;
    size_t bytes = completion->shard_count * sizeof(*completion->shards);
    completion->shards = (struct tr__counters *)tr__memory_take_aligned(TR_CACHE_LINE, bytes);
    if (completion->shards == NULL) {
        error = TR_ENOMEM;
        goto free_events;
    }
    memset((void *)completion->shards, 0, bytes);
    tr__gate_init(&completion->idle);
    tr__arena_producer_init(&completion->producer, true);
    tr__store_relaxed(&completion->references, 1u); /* nobody else knows it yet */
    return 0;
free_events:
    tr__events_done(&completion->events);
free_arena:
    tr__arena_done(&completion->arena);
free_registry:
    tr__registry_done(&completion->registry);
    return error;
}

void tr__completion_done(struct tr__completion *completion)
{
    tr__settle_bury(completion);
    tr__arena_producer_done(&completion->arena, &completion->producer);
    tr__memory_give(completion->shards);
    tr__events_done(&completion->events);
    tr__arena_done(&completion->arena);
    tr__registry_done(&completion->registry);
}

void tr__completion_ref(struct tr__completion *completion)
{
    /* relaxed: the caller has a reference already, so it cannot go meanwhile. */
    (void)tr__fetch_add_relaxed(&completion->references, 1u);
}

void tr__completion_unref(struct tr__completion *completion)
{
    /* acq_rel: the last one sees what all others did before they let go. */
    if (tr__fetch_sub_acq_rel(&completion->references, 1u) == 1) {
        completion->destroy(completion);
    }
}

void tr__completion_add(struct tr__completion *completion, struct tr__counters *counts)
{
    struct tr__tally tally = tr__completion_shared(completion);
    for (unsigned which = 0; which < TR__COUNT_KINDS; which++) {
        uint64_t amount = tr__counters_get(counts, which);
        if (amount != 0) {
            tr__tally_add(tally, (enum tr__count)which, (int64_t)amount);
        }
    }
    tr__gate_open(&completion->idle);
}

uint64_t tr__completion_count(struct tr__completion *completion, enum tr__count which)
{
    return tr__counters_sum(completion->shards, completion->shard_count, which);
}

uint64_t tr__completion_accepted(struct tr__completion *completion)
{
    uint64_t sum = 0;
    for (uint32_t i = 0; i < TR__LANES; i++) {
        /* acquire: pairs with the launcher's release; not before the ended counts read earlier. */
        sum += tr__load_acquire(&completion->registry.lanes[i].accepted);
    }
    return sum;
}

uint64_t tr__completion_unfinished(struct tr__completion *completion)
{
    uint64_t ended = 0;
    for (uint32_t i = 0; i < completion->shard_count; i++) {
        /* seq_cst read-modify-write: the waiter's look of parts/gate. */
        ended += tr__fetch_add_seq_cst(&completion->shards[i].cell[TR__COUNT_SETTLED], UINT64_C(0));
    }
    uint64_t accepted = tr__completion_accepted(completion);
    TR_ASSERT(accepted >= ended);
    return accepted - ended;
}
