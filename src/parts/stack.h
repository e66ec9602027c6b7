/*
 * stack.h: a LIFO that any thread pushes to and one taker empties at once.
 *
 * Purpose: hand things over where order does not matter or is restored by the taker: free slots,
 * chunks, cancel messages. Smaller and cheaper than parts/mpsc: one word, no stub, no state between
 * two steps, so there is no BUSY. Owner: any thread pushes, any thread takes all (the chain is then
 * its own). Called by completion, engine, host; calls base/atomic.
 *
 * Invariants
 *  1. `head` is NULL or the newest node; `next` leads to the next older one, NULL ends the chain.
 *  2. A node's `next` is written by its pusher before the CAS that publishes it, by nobody after.
 *  3. There is no pop of a single node, hence no ABA: a node can come back only after the whole
 *     chain was taken, and then head has been NULL in between or the CAS compares a true value.
 *  4. An exchange takes all: every push before it in the order of head is in the chain, none after.
 *
 * The taker's acquire sees all nodes and not just the newest: each push is a read-modify-write, so
 * it continues the release sequence of the pushes before it.
 *
 * Complexity: push O(1), lock-free; take_all O(1), wait-free; reverse O(n), on private memory.
 */
#ifndef TR__PARTS_STACK_H
#define TR__PARTS_STACK_H

#include <stdbool.h>
#include <stddef.h>

#include "base/atomic.h"

struct tr__stack_node {
    struct tr__stack_node *next; /* the next older one; see invariant 2 */
};

struct tr__stack {
    tr__atomic_ptr head; /* the newest node; any pusher and the taker write it */
};

/* Before any other thread knows the stack. */
static inline void tr__stack_init(struct tr__stack *stack)
{
    tr__store_relaxed(&stack->head, (void *)NULL); /* private until handed out */
}

/* Any thread. Returns whether the stack was empty: then it is this pusher who wakes the taker. */
static inline bool tr__stack_push(struct tr__stack *stack, struct tr__stack_node *node)
{
    void *head = tr__load_relaxed(&stack->head); /* a guess; the CAS decides */
    do {
        node->next = (struct tr__stack_node *)head;
        /* release: publishes the node; pairs with the exchange in take_all */
    } while (!tr__cas_weak_release(&stack->head, &head, (void *)node));
    return head == NULL;
}

/* The same as the first half of a park protocol: the caller next looks whether the taker sleeps. */
static inline bool tr__stack_push_seq_cst(struct tr__stack *stack, struct tr__stack_node *node)
{
    void *head = tr__load_relaxed(&stack->head); /* a guess; the CAS decides */
    do {
        node->next = (struct tr__stack_node *)head;
        /* seq_cst: comes before the pusher's look at "parked" in the order of all seq_cst
         * operations; pairs with the look in tr__stack_is_empty (proof in parts/parker.c) */
    } while (!tr__cas_seq_cst(&stack->head, &head, (void *)node));
    return head == NULL;
}

/* Takes everything, newest first; NULL when there is nothing. */
static inline struct tr__stack_node *tr__stack_take_all(struct tr__stack *stack)
{
    /* acquire: makes the nodes' contents visible; pairs with the CAS of every push in the chain */
    return (struct tr__stack_node *)tr__exchange_acquire(&stack->head, (void *)NULL);
}

/* Any thread. The look of a park protocol, hence seq_cst; as a hint it is as good as any load. */
static inline bool tr__stack_is_empty(struct tr__stack *stack)
{
    return tr__load_seq_cst(&stack->head) == NULL;
}

/* Turns a taken chain round: oldest first. */
static inline struct tr__stack_node *tr__stack_reverse(struct tr__stack_node *chain)
{
    struct tr__stack_node *reversed = NULL;
    while (chain != NULL) {
        struct tr__stack_node *next = chain->next;
        chain->next = reversed;
        reversed = chain;
        chain = next;
    }
    return reversed;
}

#endif
