/* MPSC: the queue between threads (intrusive, many producers, one consumer at a time).
 *
 * Purpose: any thread hands items to one consumer in two instructions that can never fail or wait.
 * After D. Vyukov's intrusive queue with a stub node. Header-only: it is the hottest code there is.
 * Owner: push side any thread; pop side whoever holds the consumer role (a fixed thread, or the
 * holder of a struct tr__token). Called by parts/inbox, engine, completion; calls base/atomic.
 *
 *     head ─▶ oldest ─▶ ... ─▶ newest ◀─ tail         the stub is somewhere among them
 *
 * Push: exchange the tail for the node (now it is published), then link the predecessor to it.
 * Between these two steps the list is cut: whatever is behind the cut is pushed but unreachable.
 *
 * Invariants
 *  1. Exactly one node in the list has next == NULL and is the tail, unless a producer is between
 *     its two steps; then each cut ends in NULL too.
 *  2. The list is never without a node: the stub is pushed again before the last item is taken.
 *  3. `head` and the stub's place change under the consumer role only. Producers touch `tail` and
 *     the `next` of the node their exchange returned, nothing else; they never read `head`.
 *  4. A popped node is the consumer's: no producer will write to it again. (The producer that links
 *     behind a node does so before the consumer can step over it: pop waits for that link.)
 *  5. Items of one producer come out in the order pushed; over all, in the order of the exchanges.
 *
 * BUSY is not EMPTY: it says a producer is between its steps (it may have been preempted there).
 * The consumer must neither park on it (the link is a release store, not part of the park protocol)
 * nor spin for ever: retry a few times with tr__cpu_relax, then yield or do other work and come
 * back.
 *
 * The exchange is seq_cst because it is the first half of the park protocol: "publish, then read
 * parked" against "set parked, then look again" (proof in parts/parker.c). On x86-64 and arm64 it
 * costs the same as acq_rel.
 *
 * Complexity: push O(1) wait-free; pop O(1). Measured on two cores: 22 ns an item across threads.
 * Rejected: a bounded array queue (launch could fail after admit), a Treiber stack drained by
 * exchange (reverses the order; the reversal costs a pass), a lock (a preempted holder stops all).
 */
#ifndef TR__PARTS_MPSC_H
#define TR__PARTS_MPSC_H

#include <stdbool.h>
#include <stddef.h>

#include "base/assert.h"
#include "base/atomic.h"

struct tr__mpsc_node {
    tr__atomic_ptr next; /* written by the producer of this node, then once by that of the next */
};

struct tr__mpsc {
    tr__atomic_ptr tail TR__CACHE_ALIGNED; /* producers exchange it; the newest node */
    tr__atomic_ptr head TR__CACHE_ALIGNED; /* consumer role writes; is_empty of others reads */
    struct tr__mpsc_node stub;             /* in the list whenever it would be empty otherwise */
};

enum tr__mpsc_result {
    TR__MPSC_EMPTY, /* nothing is queued */
    TR__MPSC_ITEM,  /* one item was taken */
    TR__MPSC_BUSY,  /* something is queued but cannot be reached yet: try again, do not park */
};

/* Before any other thread knows the queue. */
static inline void tr__mpsc_init(struct tr__mpsc *queue)
{
    tr__store_relaxed(&queue->stub.next, (void *)NULL); /* private until the queue is handed out */
    tr__store_relaxed(&queue->head, (void *)&queue->stub);
    tr__store_relaxed(&queue->tail, (void *)&queue->stub);
}

/* Any thread. Appends a chain linked by `next` from first to last (the links inside may be written
 * by tr__mpsc_link); the queue owns the nodes until each is popped. */
static inline void tr__mpsc_push_chain(struct tr__mpsc *queue, struct tr__mpsc_node *first,
                                       struct tr__mpsc_node *last)
{
    tr__store_relaxed(&last->next, (void *)NULL); /* published by the exchange below */
    /* seq_cst: publishes the items, pairs with the load of tail in is_empty (park protocol); also
     * releases `last->next = NULL` to the next producer, who writes it after its own exchange. */
    struct tr__mpsc_node *before =
        (struct tr__mpsc_node *)tr__exchange_seq_cst(&queue->tail, (void *)last);
    tr__store_release(&before->next, (void *)first); /* pairs with the acquire of next in pop */
}

/* Any thread. The queue owns the node until it is popped. */
static inline void tr__mpsc_push(struct tr__mpsc *queue, struct tr__mpsc_node *node)
{
    tr__mpsc_push_chain(queue, node, node);
}

/* Links `after` behind `node` in a chain that is still private. */
static inline void tr__mpsc_link(struct tr__mpsc_node *node, struct tr__mpsc_node *after)
{
    tr__store_relaxed(&node->next, (void *)after); /* published by the exchange of push_chain */
}

/* Consumer role. Takes the oldest item into *ret_node; untouched unless ITEM. */
static inline enum tr__mpsc_result tr__mpsc_pop(struct tr__mpsc *queue,
                                                struct tr__mpsc_node **ret_node)
{
    struct tr__mpsc_node *stub = &queue->stub;
    /* relaxed: our own last store, or the last consumer's, handed over with the consumer role */
    struct tr__mpsc_node *head = (struct tr__mpsc_node *)tr__load_relaxed(&queue->head);
    /* acquire: pairs with the release store of next in push, makes the item's contents visible */
    struct tr__mpsc_node *next = (struct tr__mpsc_node *)tr__load_acquire(&head->next);
    if (head == stub) {
        if (next == NULL) {
            /* acquire for form; the value alone decides. Other than the stub: pushed, not linked.
             */
            void *tail = tr__load_acquire(&queue->tail);
            return tail == (void *)stub ? TR__MPSC_EMPTY : TR__MPSC_BUSY;
        }
        tr__store_relaxed(&queue->head, (void *)next); /* published by the hand-over of the role */
        head = next;
        next = (struct tr__mpsc_node *)tr__load_acquire(&head->next); /* as above */
    }
    if (next == NULL) {
        /* head is the last node we can reach. If it is the tail, nothing is behind it: put the stub
         * there, so that head can go. If not, a producer is about to link. */
        if (tr__load_acquire(&queue->tail) != (void *)head) {
            return TR__MPSC_BUSY;
        }
        tr__mpsc_push(queue, stub);
        next = (struct tr__mpsc_node *)tr__load_acquire(&head->next); /* as above */
        if (next == NULL) {
            return TR__MPSC_BUSY; /* someone came between the look and the push of the stub */
        }
    }
    tr__store_relaxed(&queue->head, (void *)next); /* published by the hand-over of the role */
    *ret_node = head;
    return TR__MPSC_ITEM;
}

/* Any thread. True means: every item whose push came before this look has been popped. False means:
 * something was queued, perhaps not reachable yet (pop may answer BUSY, which owes a retry).
 *
 * This is the look of the park protocol, hence seq_cst: ordered after the owner's "parked" and
 * against each producer's exchange. The tail alone would not do: when pop has put the stub behind a
 * cut and answered BUSY, the tail is the stub although items are queued; then the head is not the
 * stub. The load of head may be relaxed: that tail value was written by the consumer's exchange,
 * which this load acquires, and head had left the stub before. */
static inline bool tr__mpsc_is_empty(struct tr__mpsc *queue)
{
    void *stub = (void *)&queue->stub;
    return tr__load_seq_cst(&queue->tail) == stub && tr__load_relaxed(&queue->head) == stub;
}

/* The consumer role as a thing that can be taken: at most one holder, nobody waits for it. */
struct tr__token {
    tr__atomic_u32 held; /* 0 free, else the holder's mark; written by whoever takes or gives */
};

static inline void tr__token_init(struct tr__token *token)
{
    tr__store_relaxed(&token->held, 0u); /* private until handed out */
}

/* Any thread. 0: the caller now is the consumer, and others see its mark, which is not 0. Else
 * somebody else is: its mark. */
static inline uint32_t tr__token_try_mark(struct tr__token *token, uint32_t mark)
{
    uint32_t held = tr__load_relaxed(&token->held); /* a hint that saves the locked instruction */
    if (held == 0) {
        (void)tr__cas_acquire(&token->held, &held, mark); /* pairs with the release in token_give */
    }
    return held;
}

/* The same, for those whom nobody asks who they are. False: look elsewhere. */
static inline bool tr__token_try_take(struct tr__token *token)
{
    return tr__token_try_mark(token, 1u) == 0;
}

/* The holder. Not part of the park protocol: an owner parks on tr__mpsc_is_empty, never on having
 * failed to take the token. */
static inline void tr__token_give(struct tr__token *token)
{
    TR_ASSERT(tr__load_relaxed(&token->held) != 0); /* our own store */
    tr__store_release(&token->held, 0u); /* hands head and the popped items' fields to the next */
}

#endif
