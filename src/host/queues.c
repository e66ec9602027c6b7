/*
 * queues.c: opening and closing drain queues; their descriptors. Draining is in drain.c.
 *
 * Owner thread: any host thread, under the manager's lock where the lists are concerned. Called by
 * hosts; calls parts/inbox, registry.
 *
 * Invariants
 *  1. Whoever pushed the last item of a queue may still be looking whether to wake somebody when
 *     the queue is closed: so its memory is kept, to be opened again, until the manager is freed.
 *  2. A queue is in use while the slot of a session or turn delivers into it. Slots of closed ones
 *     go with their last task, and that with its timer: what the ring thread still has of it is
 *     waited for, so a queue that can be closed is closed at the first attempt.
 *
 * Complexity: closing takes each lane's lock once, and twice if timers were in the way.
 */
#include "base/memory.h"
#include "host/manager.h"

/* Under the manager's lock: a queue that was closed, or a new one. */
static tr_queue *take_queue(tr_manager *manager)
{
    tr_queue *queue = manager->spare;
    if (queue != NULL) {
        manager->spare = queue->next; /* as tr__inbox_done has left it */
        return queue;
    }
    queue = (tr_queue *)tr__memory_take_aligned(TR_CACHE_LINE, sizeof(*queue));
    if (queue != NULL) {
        tr__inbox_init(&queue->inbox);
        tr__store_relaxed(&queue->bound, 0u); /* nobody knows it yet */
        queue->manager = manager;
    }
    return queue;
}

int tr_queue_open(tr_manager *manager, tr_queue **ret_queue)
{
    if (manager == NULL || ret_queue == NULL) {
        return TR_EINVAL;
    }
    int error = 0;
    tr_queue *queue = NULL;
    (void)pthread_mutex_lock(&manager->lock); /* a plain mutex of ours cannot fail */
    if (tr__load_acquire(&manager->closing) != 0) {
        error = TR_ECLOSED;
    } else if (manager->queues_count == manager->queues_max) {
        error = TR_ELIMIT;
    } else {
        queue = take_queue(manager);
        error = queue == NULL ? TR_ENOMEM : 0;
    }
    if (error == 0) {
        queue->next = manager->queues;
        queue->link = &manager->queues;
        if (queue->next != NULL) {
            queue->next->link = &queue->next;
        }
        manager->queues = queue;
        manager->queues_count++;
    }
    (void)pthread_mutex_unlock(&manager->lock);
    if (error == 0) {
        *ret_queue = queue;
    }
    return error;
}

int tr_queue_fd(tr_queue *queue)
{
    if (queue == NULL) {
        return TR_EINVAL;
    }
    if (!tr__token_try_take(&queue->inbox.token)) {
        return TR_EBUSY;
    }
    int fd = tr__inbox_fd(&queue->inbox);
    tr__token_give(&queue->inbox.token);
    return fd;
}

/* Whether anybody may still deliver into a queue, or has. */
static bool is_in_use(tr_queue *queue)
{
    struct tr__registry *registry = tr__manager_registry(queue->manager);
    for (uint32_t i = 0; i < TR__LANES; i++) { /* homes that are free but not accounted for */
        tr__lane_lock(&registry->lanes[i]);
        tr__registry_reclaim(registry, &registry->lanes[i]);
        tr__lane_unlock(&registry->lanes[i]);
    }
    /* acquire: pairs with the unbinding; then nobody delivers any more. */
    return tr__load_acquire(&queue->bound) != 0 || !tr__mpsc_is_empty(&queue->inbox.queue);
}

int tr_queue_close(tr_queue *queue)
{
    if (queue == NULL) {
        return 0;
    }
    tr_manager *manager = queue->manager;
    if (is_in_use(queue)) {
        tr__manager_flush(manager); /* timers of ended tasks hold homes */
        if (is_in_use(queue)) {
            return TR_EBUSY;
        }
    }
    (void)pthread_mutex_lock(&manager->lock); /* a plain mutex of ours cannot fail */
    *queue->link = queue->next;
    if (queue->next != NULL) {
        queue->next->link = queue->link;
    }
    manager->queues_count--;
    tr__inbox_done(&queue->inbox);
    queue->next = manager->spare; /* invariant 1 */
    manager->spare = queue;
    (void)pthread_mutex_unlock(&manager->lock);
    return 0;
}
