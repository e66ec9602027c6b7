/*
 * Tests of parts/stack: order, what push says, and no node lost or doubled with several threads.
 */
#include <pthread.h>

#include "parts/stack.h"
#include "support/case.h"

#define THREADS 4u
#define NODES 20000u

struct item {
    struct tr__stack_node node;
    unsigned number;
};

static struct tr__stack stack;
static struct item items[THREADS][NODES];
static tr__atomic_u32 pushers_left;

static unsigned number_of(struct tr__stack_node *node)
{
    return TR__CONTAINER_OF(node, struct item, node)->number;
}

CASE(stack, takes_all_newest_first)
{
    tr__stack_init(&stack);
    CHECK(tr__stack_is_empty(&stack));
    CHECK(tr__stack_take_all(&stack) == NULL);
    for (unsigned number = 0; number < 3; number++) {
        items[0][number].number = number;
        CHECK_EQ_INT(tr__stack_push(&stack, &items[0][number].node), number == 0);
    }
    CHECK(!tr__stack_is_empty(&stack));
    struct tr__stack_node *node = tr__stack_take_all(&stack);
    for (unsigned number = 3; number-- > 0; node = node->next) {
        CHECK_EQ_INT(number_of(node), number);
    }
    CHECK(node == NULL);
    CHECK(tr__stack_is_empty(&stack));
}

CASE(stack, reverse_gives_the_order_of_pushing)
{
    tr__stack_init(&stack);
    CHECK(tr__stack_reverse(NULL) == NULL);
    for (unsigned number = 0; number < 5; number++) {
        items[0][number].number = number;
        CHECK_EQ_INT(tr__stack_push_seq_cst(&stack, &items[0][number].node), number == 0);
    }
    struct tr__stack_node *node = tr__stack_reverse(tr__stack_take_all(&stack));
    for (unsigned number = 0; number < 5; number++, node = node->next) {
        CHECK_EQ_INT(number_of(node), number);
    }
    CHECK(node == NULL);
    CHECK(tr__stack_push(&stack, &items[0][0].node)); /* a taken stack is empty again */
}

static void *push_all(void *argument)
{
    struct item *mine = argument;
    for (unsigned number = 0; number < NODES; number++) {
        mine[number].number = number;
        if (number % 2 == 0) {
            (void)tr__stack_push(&stack, &mine[number].node);
        } else {
            (void)tr__stack_push_seq_cst(&stack, &mine[number].node);
        }
    }
    (void)tr__fetch_sub_release(&pushers_left, 1u);
    return NULL;
}

CASE(stack, threads_lose_and_double_nothing_and_keep_each_ones_order)
{
    pthread_t threads[THREADS];
    unsigned next[THREADS] = {0};
    unsigned seen = 0;

    tr__stack_init(&stack);
    tr__store_relaxed(&pushers_left, THREADS);
    for (unsigned thread = 0; thread < THREADS; thread++) {
        CHECK_EQ_INT(pthread_create(&threads[thread], NULL, push_all, items[thread]), 0);
    }
    for (bool last = false; !last;) {
        last = tr__load_acquire(&pushers_left) == 0;
        struct tr__stack_node *node = tr__stack_reverse(tr__stack_take_all(&stack));
        for (; node != NULL; node = node->next) {
            struct item *item = TR__CONTAINER_OF(node, struct item, node);
            unsigned thread = (unsigned)((size_t)(item - items[0]) / NODES);
            CHECK_EQ_INT(item->number, next[thread]);
            next[thread] += 1;
            seen += 1;
        }
    }
    CHECK_EQ_INT(seen, THREADS * NODES);
    for (unsigned thread = 0; thread < THREADS; thread++) {
        CHECK_EQ_INT(pthread_join(threads[thread], NULL), 0);
    }
}
