/* By hand, one floor up: a completion without an engine, and tasks settled by direct calls. */
#ifndef TR__TESTS_UNIT_COMPLETION_BY_HAND_H
#define TR__TESTS_UNIT_COMPLETION_BY_HAND_H

#include "base/memory.h"
#include "completion/batch.h"
#include "completion/completion.h"
#include "completion/settle.h"
#include "unit/by_hand.h"

struct shop {
    struct tr__completion completion;
    unsigned destroyed;
};

static inline void shop_destroy(struct tr__completion *completion)
{
    struct shop *shop = TR__CONTAINER_OF(completion, struct shop, completion);
    tr__completion_done(completion);
    shop->destroyed++;
}

static inline int shop_no_tool(tr_call *call, void *context)
{
    (void)call;
    (void)context;
    return 0;
}

static inline void shop_open(struct shop *shop, uint32_t tasks_max)
{
    struct tr__completion_config config = {
        .registry = {tasks_max, 16, 8, 4},
        .seats = 2,
        .events_max = 256,
        .readers_max = 4,
        .bytes_max = 1u << 20,
    };
    memset((void *)shop, 0, sizeof *shop);
    CHECK_EQ_INT(tr__completion_init(&shop->completion, &config), 0);
    shop->completion.destroy = shop_destroy;
    tr_tool tool = TR_TOOL_INIT("hammer", shop_no_tool);
    CHECK_EQ_INT(tr__toolbox_add(&shop->completion.registry.toolbox, &tool, &tool.options, NULL),
                 0);
}

/* The last reference but those of batches; everything admitted has been given back. */
static inline void shop_close(struct shop *shop)
{
    struct by_hand_used used = by_hand_used(&shop->completion.registry);
    CHECK_EQ_INT(used.tasks, 0);
    CHECK_EQ_U64(tr__arena_bytes_used(&shop->completion.arena), 0);
    tr__completion_unref(&shop->completion);
    CHECK_EQ_INT(shop->destroyed, 1);
}

/* A worker's thread has run it: started, finished with `outcome`, settled with a result by copy. */
static inline void shop_finish(struct shop *shop, struct by_hand one, tr_outcome outcome,
                               const char *result, uint64_t now_ns)
{
    struct tr__tally tally = {&shop->completion.shards[0], false};
    bool publish = tr__events_wanted(&shop->completion.events);
    tr__store_relaxed(&one.task->started_ns, now_ns - 1);
    struct tr__step step = tr__task_start(one.task, false);
    CHECK_EQ_INT(step.action, TR__ACTION_RUN);
    step = tr__task_finish(one.task, outcome, publish);
    CHECK_EQ_INT(step.action, TR__ACTION_SETTLE);
    if (result != NULL) {
        struct tr__arena_ref ref;
        size_t size = strlen(result);
        CHECK_EQ_INT(tr__arena_block(&shop->completion.arena, size, &ref), 0);
        memcpy(ref.data, result, size);
        one.task->result = ref.data;
        one.task->result_origin = ref.origin;
        one.task->result_size = ref.size;
    }
    struct tr__ending ending = {now_ns, outcome == TR_OUTCOME_FAILED ? TR_ETOOL : 0, NULL};
    tr__settle(&shop->completion, tally, one.task, step, &ending);
}

/* A host thread has cancelled it before it ran. */
static inline void shop_cancel(struct shop *shop, struct by_hand one, const char *reason,
                               uint64_t now_ns)
{
    bool publish = tr__events_wanted(&shop->completion.events);
    struct tr__step step = tr__task_cancel(one.task, one.id, false, publish);
    CHECK_EQ_INT(step.action, TR__ACTION_SETTLE);
    struct tr__ending ending = {now_ns, TR_ECANCELED, reason};
    tr__settle(&shop->completion, tr__completion_shared(&shop->completion), one.task, step,
               &ending);
}

/* A worker finds the node of a task that ended before it started. */
static inline void shop_run_late(struct shop *shop, struct by_hand one)
{
    CHECK_EQ_INT(tr__task_start(one.task, false).action, TR__ACTION_LATE);
    tr__settle_drop(&shop->completion, one.task, TR__TASK_HOLD_RUN);
}

static inline void shop_detach(struct shop *shop, struct by_hand one, uint64_t now_ns)
{
    struct tr__step step =
        tr__task_detach(one.task, one.id, tr__events_wanted(&shop->completion.events));
    CHECK_EQ_INT(step.action, TR__ACTION_DETACHED);
    tr__settle_detached(&shop->completion, tr__completion_shared(&shop->completion), one.task, step,
                        now_ns);
}

/* What the channel has, up to `items_max`; NULL if nothing. */
static inline tr_batch *shop_take(struct shop *shop, struct tr__inbox *inbox, size_t items_max)
{
    tr_batch *batch = NULL;
    CHECK(tr__token_try_take(&inbox->token));
    int count = tr__batch_take(&shop->completion, inbox, items_max, &batch);
    tr__token_give(&inbox->token);
    CHECK_EQ_INT(count, batch == NULL ? 0 : (int)batch->count);
    return batch;
}

#endif
