/*
 * batch.c: see batch.h. Also tr_batch_release.
 *
 * Owner thread: the consumer that holds the inbox's token; releasing, any thread.
 * Called by host; calls settle, parts/inbox.
 *
 * Invariants
 *  1. The memory for the batch is taken before the first item is popped: without memory nothing is
 *     taken.
 *  2. An item in a batch keeps its hold (RESULT or DETACH) until the batch is released: what its
 *     tr_item points to stays.
 *  3. Taking a foreground resolution or a DETACHED settles one foreground task of its turn, in the
 *     order of the inbox, by the one consumer: the item that makes both accounts equal carries
 *     TURN_IDLE.
 *  4. A batch has a reference to the completion: releasing is possible after the manager was freed.
 *
 * Complexity: O(items), one read-modify-write per task released (clearing its hold) plus one to
 * hand the slot back. No lock.
 */
#include "completion/batch.h"

#include <string.h>

#include "base/assert.h"
#include "base/memory.h"
#include "completion/settle.h"

struct batch {
    tr_batch open; /* what the host sees; first */
    struct tr__completion *completion;
    struct tr__item **held; /* behind the items */
    tr_item items[];
};

static struct batch *take_batch(struct tr__completion *completion, size_t items_max)
{
    size_t each = sizeof(tr_item) + sizeof(struct tr__item *);
    struct batch *batch = (struct batch *)tr__memory_take(sizeof(*batch) + items_max * each);
    if (batch == NULL) {
        return NULL;
    }
    batch->open.count = 0;
    batch->open.items = batch->items;
    batch->completion = completion;
    batch->held = (struct tr__item **)(void *)(batch->items + items_max);
    tr__completion_ref(completion);
    return batch;
}

static void give_batch(struct batch *batch)
{
    struct tr__completion *completion = batch->completion;
    tr__memory_give(batch);
    tr__completion_unref(completion);
}

static tr_bytes bytes_of(const void *data, size_t size)
{
    tr_bytes bytes = {size == 0 ? NULL : data, size};
    return bytes;
}

/* What resolutions and detaches have in common. */
static void fill_task(struct tr__completion *completion, struct tr__task *task, uint64_t word,
                      tr_item *item)
{
    struct tr__turn *turn = task->turn;
    item->kind = tr__word_is_background(word) ? TR_KIND_BACKGROUND : TR_KIND_FOREGROUND;
    item->task = tr__task_id(task, word);
    item->turn = turn->id;
    item->session = turn->session->id;
    item->tool = task->tool;
    item->tool_name = tr__toolbox_at(&completion->registry.toolbox, task->tool)->name;
    item->user = task->user;
    item->session_user = turn->session->user;
    item->call_id = bytes_of(task->in, task->call_id_size);
    item->metadata = bytes_of(task->in + task->call_id_size, task->metadata_size);
    item->accepted_ns = task->accepted_ns;
    /* relaxed: ASKED is fixed since the launch; the function may add another bit. */
    if ((tr__load_relaxed(&task->flags) & TR__TASK_FLAG_ASKED) != 0) {
        struct tr__cold *cold = tr__registry_cold(&completion->registry, task);
        item->approvals = tr__load_relaxed(&cold->approvals); /* a number to show */
    }
    /* relaxed: written before the push that brought the item here, or on its own. */
    item->started_ns = (word & TR__TASK_STARTED) != 0 ? tr__load_relaxed(&task->started_ns) : 0;
    item->flags |= (word & TR__TASK_WAS_DETACHED) != 0 ? TR_ITEM_WAS_DETACHED : 0;
    item->flags |= (word & TR__TASK_STARTED) == 0 ? TR_ITEM_NOT_STARTED : 0;
}

static void fill_resolution(struct tr__completion *completion, struct tr__task *task, tr_item *item)
{
    uint64_t word = tr__task_word(task);
    TR_ASSERT(tr__word_state(word) == TR__TASK_ENDED);
    fill_task(completion, task, word, item);
    item->outcome = tr__word_outcome(word);
    item->code = task->code;
    item->result = bytes_of(task->result, task->result_size);
    item->reason = task->reason == NULL ? "" : task->reason;
    item->ended_ns = tr__load_relaxed(&task->ended_ns); /* written before the push */
    bool request = item->channel == TR_CHANNEL_LOOP && (word & TR__TASK_REQUEST) != 0;
    item->flags |= request ? TR_ITEM_CONTINUE : 0;
    item->flags |= (word & TR__TASK_FOREIGN) != 0 ? TR_ITEM_ABANDONED : 0;
}

static void fill_approval(struct tr__completion *completion, const struct tr__approval *approval,
                          tr_item *item)
{
    const unsigned char *bytes = approval->bytes;
    item->kind = approval->kind;
    item->task = approval->task;
    item->turn = approval->turn;
    item->session = approval->session;
    item->tool = approval->tool;
    item->approvals = approval->approvals;
    item->tool_name = tr__toolbox_at(&completion->registry.toolbox, approval->tool)->name;
    item->user = approval->user;
    item->session_user = approval->session_user;
    item->call_id = bytes_of(bytes, approval->call_id_size);
    item->metadata = bytes_of(bytes + approval->call_id_size, approval->metadata_size);
    item->input =
        bytes_of(bytes + approval->call_id_size + approval->metadata_size, approval->input_size);
    item->reason = approval->reason;
    item->summary = approval->summary;
    item->accepted_ns = approval->accepted_ns;
    item->ended_ns = approval->asked_ns;
    item->flags = TR_ITEM_NOT_STARTED;
}

/* The turn of a turn item, NULL for others. */
static struct tr__turn *turn_of(struct tr__completion *completion, struct tr__item *held)
{
    if (held->channel != TR_CHANNEL_TURN || held->type == TR_ITEM_APPROVAL) {
        return NULL;
    }
    if (held->type == TR_ITEM_RESOLUTION) {
        return TR__CONTAINER_OF(held, struct tr__task, done)->turn;
    }
    struct tr__cold *cold = TR__CONTAINER_OF(held, struct tr__cold, detached);
    uint32_t index = (uint32_t)(cold - completion->registry.cold);
    struct tr__slot *slot = tr__slots_at(&completion->registry.tasks, index);
    return ((struct tr__task *)(void *)slot)->turn;
}

/* Whether the item's home is closed to deliveries: its queue outlived it. */
static bool is_discarded(struct tr__completion *completion, struct tr__item *held,
                         struct tr__turn *turn)
{
    if (turn != NULL) {
        return tr__load_acquire(&turn->closed) != 0; /* pairs with the store at its close */
    }
    if (held->type == TR_ITEM_RESOLUTION) {
        struct tr__task *task = TR__CONTAINER_OF(held, struct tr__task, done);
        TR_ASSERT(task->turn != NULL); /* set at launch, cleared when the slot is reclaimed */
        return tr__load_acquire(&task->turn->session->discarded) != 0; /* likewise */
    }
    struct tr__approval *approval = TR__CONTAINER_OF(held, struct tr__approval, item);
    struct tr__registry *registry = &completion->registry;
    struct tr__slot *session = tr__slots_find(&registry->sessions, approval->session);
    if (session == NULL ||
        tr__load_acquire(&((struct tr__session *)(void *)session)->discarded) != 0) {
        return true;
    }
    return held->channel == TR_CHANNEL_TURN &&
           tr__slots_find(&registry->turns, approval->turn) == NULL;
}

/* Gets rid of an item whose home is closed. But the request of a task that was detached and lives
 * on is still needed: it goes on to its session; or, from the turn's own inbox, which its closer
 * waits for with the lane's lock, it is handed out all the same: true. */
static bool dispose(struct tr__completion *completion, struct tr__inbox *inbox,
                    struct tr__item *held)
{
    if (held->type == TR_ITEM_APPROVAL && held->channel == TR_CHANNEL_TURN) {
        struct tr__approval *approval = TR__CONTAINER_OF(held, struct tr__approval, item);
        struct tr__slot *slot = tr__slots_at(&completion->registry.turns,
                                             TR__ID_INDEX(approval->turn)); /* type-stable */
        if (inbox == &((struct tr__turn *)(void *)slot)->updates) {
            if (tr__settle_is_pending(completion, approval)) {
                return true;
            }
        } else if (tr__settle_forward(completion, approval)) {
            return false;
        }
    }
    if (held->type == TR_ITEM_RESOLUTION) {
        tr__tally_add(tr__completion_shared(completion), TR__COUNT_DISCARDED, 1);
    }
    tr__settle_release(completion, held);
    return false;
}

static void fill(struct tr__completion *completion, struct tr__item *held, struct tr__turn *turn,
                 tr_item *item)
{
    memset(item, 0, sizeof(*item));
    item->type = (tr_item_type)held->type;
    item->channel = (tr_channel)held->channel;
    item->reason = "";
    item->summary = "";
    if (held->type == TR_ITEM_RESOLUTION) {
        fill_resolution(completion, TR__CONTAINER_OF(held, struct tr__task, done), item);
    } else if (held->type == TR_ITEM_APPROVAL) {
        fill_approval(completion, TR__CONTAINER_OF(held, struct tr__approval, item), item);
    } else {
        struct tr__cold *cold = TR__CONTAINER_OF(held, struct tr__cold, detached);
        uint32_t index = (uint32_t)(cold - completion->registry.cold);
        struct tr__slot *slot = tr__slots_at(&completion->registry.tasks, index);
        struct tr__task *task = (struct tr__task *)(void *)slot;
        fill_task(completion, task, tr__task_word(task), item);
        item->kind = TR_KIND_BACKGROUND;
        item->ended_ns = cold->detached_ns;
    }
    if (turn != NULL) {
        tr__turn_settle(turn);
        item->flags |= tr__turn_is_idle(turn) ? TR_ITEM_TURN_IDLE : 0;
    }
}

/* The next record comes from the cache of whoever ended it: its way begins while this one is being
 * described. Resolutions lie in line 1 of theirs; for other items this fetches in vain. */
static void fetch_ahead(const struct tr__mpsc_node *node)
{
    const char *next = (const char *)tr__load_relaxed(&node->next); /* followed by pop later */
    if (next != NULL) {
        __builtin_prefetch(next - TR_CACHE_LINE, 1);
        __builtin_prefetch(next);
        __builtin_prefetch(next + TR_CACHE_LINE);
    }
}

int tr__batch_take(struct tr__completion *completion, struct tr__inbox *inbox, size_t items_max,
                   tr_batch **ret_batch)
{
    TR_ASSERT(items_max >= 1 && items_max <= TR__BATCH_MAX);
    if (tr__mpsc_is_empty(&inbox->queue)) {
        *ret_batch = NULL;
        return 0;
    }
    struct batch *batch = take_batch(completion, items_max);
    if (batch == NULL) {
        return TR_ENOMEM;
    }
    struct tr__mpsc_node *node = NULL;
    while (batch->open.count < items_max && (node = tr__inbox_pop(inbox)) != NULL) {
        struct tr__item *held = TR__CONTAINER_OF(node, struct tr__item, node);
        struct tr__turn *turn = turn_of(completion, held);
        fetch_ahead(node);
        if (is_discarded(completion, held, turn) && !dispose(completion, inbox, held)) {
            continue;
        }
        fill(completion, held, turn, &batch->items[batch->open.count]);
        batch->held[batch->open.count++] = held;
    }
    if (batch->open.count == 0) {
        *ret_batch = NULL;
        give_batch(batch);
        return 0;
    }
    *ret_batch = &batch->open;
    return (int)batch->open.count;
}

tr_batch *tr__batch_reserve(struct tr__completion *completion)
{
    struct batch *batch = take_batch(completion, 1);
    return batch == NULL ? NULL : &batch->open;
}

void tr__batch_commit(tr_batch *open, struct tr__task *task)
{
    struct batch *batch = (struct batch *)(void *)open;
    task->done.channel = TR_CHANNEL_LAUNCH;
    fill(batch->completion, &task->done, NULL, &batch->items[0]);
    batch->held[0] = &task->done;
    batch->open.count = 1;
}

void tr__batch_unreserve(tr_batch *open)
{
    give_batch((struct batch *)(void *)open);
}

void tr_batch_release(tr_batch *open)
{
    if (open == NULL) {
        return;
    }
    struct batch *batch = (struct batch *)(void *)open;
    tr__settle_release_all(batch->completion, batch->held, batch->open.count);
    give_batch(batch);
}
