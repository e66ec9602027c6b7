/* MPSC: order, emptiness, and the moments between a producer's two steps, played by hand. */
#include "parts/mpsc.h"

#include "support/case.h"

struct item {
    int value;
    struct tr__mpsc_node node;
};

static int pop_value(struct tr__mpsc *queue)
{
    struct tr__mpsc_node *node = NULL;
    CHECK_EQ_INT(tr__mpsc_pop(queue, &node), TR__MPSC_ITEM);
    return TR__CONTAINER_OF(node, struct item, node)->value;
}

static enum tr__mpsc_result pop_nothing(struct tr__mpsc *queue)
{
    struct tr__mpsc_node marker;
    struct tr__mpsc_node *node = &marker;
    enum tr__mpsc_result result = tr__mpsc_pop(queue, &node);
    CHECK(result != TR__MPSC_ITEM);
    CHECK_EQ_PTR(node, &marker); /* untouched unless ITEM */
    return result;
}

/* First step of a push: published, not linked. Returns the node the second step links to. */
static struct tr__mpsc_node *push_first_half(struct tr__mpsc *queue, struct item *item)
{
    tr__store_relaxed(&item->node.next, NULL);
    return tr__exchange_seq_cst(&queue->tail, &item->node);
}

static void push_second_half(struct tr__mpsc_node *before, struct item *item)
{
    tr__store_release(&before->next, &item->node);
}

CASE(mpsc, starts_empty)
{
    struct tr__mpsc queue;
    tr__mpsc_init(&queue);
    CHECK(tr__mpsc_is_empty(&queue));
    CHECK_EQ_INT(pop_nothing(&queue), TR__MPSC_EMPTY);
    CHECK_EQ_INT(pop_nothing(&queue), TR__MPSC_EMPTY);
}

CASE(mpsc, keeps_the_order)
{
    enum {
        ITEMS = 100
    };
    struct tr__mpsc queue;
    struct item items[ITEMS];
    tr__mpsc_init(&queue);
    for (int round = 0; round < 3; round++) {
        for (int i = 0; i < ITEMS; i++) {
            items[i].value = i;
            tr__mpsc_push(&queue, &items[i].node);
            CHECK(!tr__mpsc_is_empty(&queue));
        }
        for (int i = 0; i < ITEMS; i++) {
            CHECK(!tr__mpsc_is_empty(&queue));
            CHECK_EQ_INT(pop_value(&queue), i);
        }
        CHECK(tr__mpsc_is_empty(&queue));
        CHECK_EQ_INT(pop_nothing(&queue), TR__MPSC_EMPTY);
    }
}

CASE(mpsc, one_item_goes_through_again_and_again)
{
    struct tr__mpsc queue;
    struct item item;
    tr__mpsc_init(&queue);
    for (int i = 0; i < 1000; i++) {
        item.value = i;
        tr__mpsc_push(&queue, &item.node);
        CHECK_EQ_INT(pop_value(&queue), i);
        CHECK(tr__mpsc_is_empty(&queue));
    }
}

CASE(mpsc, a_length_that_varies_passes_the_stub_everywhere)
{
    enum {
        ITEMS = 7
    };
    struct tr__mpsc queue;
    struct item items[ITEMS];
    tr__mpsc_init(&queue);
    int pushed = 0;
    int popped = 0;
    for (int step = 0; step < 2000; step++) {
        bool push = pushed - popped == 0 || (pushed - popped < ITEMS && step * 7 % 5 < 3);
        if (push) {
            items[pushed % ITEMS].value = pushed;
            tr__mpsc_push(&queue, &items[pushed % ITEMS].node);
            pushed++;
        } else {
            CHECK_EQ_INT(pop_value(&queue), popped);
            popped++;
        }
        CHECK(tr__mpsc_is_empty(&queue) == (pushed == popped));
    }
}

CASE(mpsc, a_chain_arrives_whole_and_in_order)
{
    enum {
        ITEMS = 5
    };
    struct tr__mpsc queue;
    struct item items[ITEMS];
    struct item before = {.value = -1};
    tr__mpsc_init(&queue);
    tr__mpsc_push(&queue, &before.node);
    for (int i = 0; i < ITEMS; i++) {
        items[i].value = i;
        if (i > 0) {
            tr__mpsc_link(&items[i - 1].node, &items[i].node);
        }
    }
    tr__mpsc_push_chain(&queue, &items[0].node, &items[ITEMS - 1].node);
    CHECK_EQ_INT(pop_value(&queue), -1);
    for (int i = 0; i < ITEMS; i++) {
        CHECK_EQ_INT(pop_value(&queue), i);
    }
    CHECK_EQ_INT(pop_nothing(&queue), TR__MPSC_EMPTY);
}

CASE(mpsc, a_cut_behind_the_stub_is_busy_not_empty)
{
    struct tr__mpsc queue;
    struct item item = {.value = 1};
    tr__mpsc_init(&queue);
    struct tr__mpsc_node *before = push_first_half(&queue, &item);
    CHECK_EQ_INT(pop_nothing(&queue), TR__MPSC_BUSY);
    CHECK(!tr__mpsc_is_empty(&queue));
    push_second_half(before, &item);
    CHECK_EQ_INT(pop_value(&queue), 1);
    CHECK(tr__mpsc_is_empty(&queue));
}

CASE(mpsc, a_cut_behind_an_item_holds_that_item_back)
{
    struct tr__mpsc queue;
    struct item first = {.value = 1};
    struct item second = {.value = 2};
    struct item third = {.value = 3};
    tr__mpsc_init(&queue);
    tr__mpsc_push(&queue, &first.node);
    struct tr__mpsc_node *before = push_first_half(&queue, &second);
    tr__mpsc_push(&queue, &third.node); /* behind the cut: pushed, unreachable */
    CHECK_EQ_INT(pop_nothing(&queue), TR__MPSC_BUSY);
    CHECK_EQ_INT(pop_nothing(&queue), TR__MPSC_BUSY);
    push_second_half(before, &second);
    CHECK_EQ_INT(pop_value(&queue), 1);
    CHECK_EQ_INT(pop_value(&queue), 2);
    CHECK_EQ_INT(pop_value(&queue), 3);
    CHECK_EQ_INT(pop_nothing(&queue), TR__MPSC_EMPTY);
}

/* pop has looked (head is the tail), a producer does its first step, pop pushes the stub behind it:
 * now the tail is the stub, and two items are queued. */
CASE(mpsc, a_stub_behind_a_cut_does_not_look_empty)
{
    struct tr__mpsc queue;
    struct item first = {.value = 1};
    struct item second = {.value = 2};
    struct item third = {.value = 3};
    tr__mpsc_init(&queue);
    tr__mpsc_push(&queue, &first.node);
    tr__mpsc_push(&queue, &second.node);
    CHECK_EQ_INT(pop_value(&queue), 1); /* the stub has left the list */
    struct tr__mpsc_node *before = push_first_half(&queue, &third);
    tr__mpsc_push(&queue, &queue.stub);
    CHECK_EQ_PTR(tr__load_relaxed(&queue.tail), &queue.stub);
    CHECK(!tr__mpsc_is_empty(&queue));
    CHECK_EQ_INT(pop_nothing(&queue), TR__MPSC_BUSY);
    push_second_half(before, &third);
    CHECK_EQ_INT(pop_value(&queue), 2);
    CHECK_EQ_INT(pop_value(&queue), 3);
    CHECK(tr__mpsc_is_empty(&queue));
    CHECK_EQ_INT(pop_nothing(&queue), TR__MPSC_EMPTY);
}

static void give_unheld(void *context)
{
    tr__token_give(context);
}

CASE(mpsc, the_token_has_one_holder)
{
    struct tr__token token;
    tr__token_init(&token);
    CHECK(tr__token_try_take(&token));
    CHECK(!tr__token_try_take(&token));
    tr__token_give(&token);
    CHECK_EQ_INT(tr__token_try_mark(&token, 7), 0);
    CHECK_EQ_INT(tr__token_try_mark(&token, 8), 7);
    CHECK(!tr__token_try_take(&token));
    tr__token_give(&token);
    CHECK(case_panics(give_unheld, &token));
}

CASE(mpsc, producers_and_consumer_share_no_line)
{
    CHECK_EQ_U64(offsetof(struct tr__mpsc, tail) / TR_CACHE_LINE, 0);
    CHECK_EQ_U64(offsetof(struct tr__mpsc, head) / TR_CACHE_LINE, 1);
    CHECK_EQ_U64(sizeof(struct tr__mpsc), 2 * TR_CACHE_LINE);
}
