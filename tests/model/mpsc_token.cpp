/* Model of the queue between threads with its consumer role as a token.
 *
 * Two producers (one of chains, one of single items) and two consumers that pass the role between
 * them. What must hold: each item comes out once, whole, in its producer's order; a popped node is
 * written by its popper alone; is_empty answers true only when what was pushed before has been
 * taken. Relacy reports a race where an order does not hand over the items or the role.
 */
#include "model/model.h"

#include "parts/mpsc.h"

namespace
{

enum {
    PRODUCERS = 2,
    OF_EACH = 2,
    AGAIN = PRODUCERS, /* the producer number of an item that a consumer pushes once more */
    FULL = 1,          /* the payload of an item on its way */
    EMPTIED = 2,
};

struct item {
    struct tr__mpsc_node node; /* first, so that the item lies where its node does */
    rl::var<unsigned> payload;
    unsigned producer;
    unsigned sequence;
    bool taken; /* ghost: set together with the step of the head over it */
    bool once_more;
};

/* Consumers try `tries` times for the role and pop up to `pops` items under it. */
template <int producers, int consumers, int tries, int pops>
struct handover
    : rl::test_suite<handover<producers, consumers, tries, pops>, producers + consumers> {
    struct tr__mpsc queue;
    struct tr__token token;
    item items[PRODUCERS][OF_EACH];
    rl::var<unsigned> expected[PRODUCERS + 1]; /* plain: the role alone protects it */
    item decoy;                                /* what the `next` of a node not queued leads to */

    void before()
    {
        tr__mpsc_init(&queue);
        tr__token_init(&token);
        for (unsigned i = 0; i < PRODUCERS; i++) {
            for (unsigned j = 0; j < OF_EACH; j++) {
                items[i][j].producer = i;
                items[i][j].sequence = j;
                items[i][j].taken = i + producers < PRODUCERS; /* of nobody */
                tr__store_relaxed(&items[i][j].node.next, (void *)&decoy.node);
                items[i][j].once_more = i == 0 && j == 0;
            }
        }
        tr__store_relaxed(&decoy.node.next, (void *)NULL);
        decoy.taken = true;
        for (rl::var<unsigned> &next : expected) {
            next($) = 0;
        }
    }

    void produce_chain()
    {
        item *mine = items[0];
        for (int i = 0; i < OF_EACH; i++) {
            mine[i].payload($) = FULL;
        }
        tr__mpsc_link(&mine[0].node, &mine[1].node);
        tr__mpsc_push_chain(&queue, &mine[0].node, &mine[1].node);
    }

    void produce_single()
    {
        for (item &mine : items[PRODUCERS - 1]) {
            mine.payload($) = FULL;
            tr__mpsc_push(&queue, &mine.node);
            if (tr__mpsc_is_empty(&queue)) {
                RL_ASSERT(mine.taken);
            }
        }
    }

    enum tr__mpsc_result consume()
    {
        struct tr__mpsc_node *node = NULL;
        enum tr__mpsc_result result = tr__mpsc_pop(&queue, &node);
        if (result != TR__MPSC_ITEM) {
            RL_ASSERT(node == NULL);
            return result;
        }
        item *it = (item *)(void *)node;
        RL_ASSERT(!it->taken);
        it->taken = true;
        RL_ASSERT(it->payload($) == FULL);
        it->payload($) = EMPTIED;
        RL_ASSERT(expected[it->producer]($) == it->sequence);
        expected[it->producer]($) = it->sequence + 1;
        tr__store_relaxed(&node->next, (void *)&decoy.node);
        if (it->once_more) {
            it->once_more = false;
            it->taken = false;
            it->producer = AGAIN;
            it->sequence = 0;
            it->payload($) = FULL;
            tr__mpsc_push(&queue, node);
        }
        return result;
    }

    void thread(unsigned index)
    {
        if (index < producers) {
            producers == 1 || index == 1 ? produce_single() : produce_chain();
            return;
        }
        for (int i = 0; i < tries; i++) {
            if (!tr__token_try_take(&token)) {
                continue;
            }
            enum tr__mpsc_result result = TR__MPSC_ITEM;
            for (int j = 0; j < pops && result == TR__MPSC_ITEM; j++) {
                result = consume();
            }
            tr__token_give(&token);
        }
    }

    /* Alone again: what is left comes out without a BUSY, and then nothing. */
    void after()
    {
        enum tr__mpsc_result result;
        do {
            result = consume();
            RL_ASSERT(result != TR__MPSC_BUSY);
        } while (result == TR__MPSC_ITEM);
        RL_ASSERT(tr__mpsc_is_empty(&queue));
        for (unsigned i = 0; i < PRODUCERS; i++) {
            for (item &each : items[i]) {
                RL_ASSERT(each.taken);
                RL_ASSERT(tr__load_relaxed(&each.node.next) == (void *)&decoy.node);
            }
        }
    }
};

/* A home is closed while items come (completion/settle, invariant 3): the closer marks it, then
 * empties its queue; who pushes looks at the mark, and empties it too. Nothing stays. */
struct closed_home : rl::test_suite<closed_home, 2> {
    struct tr__mpsc queue;
    struct tr__token token;
    tr__atomic_u32 closed;
    struct tr__mpsc_node node;

    void before()
    {
        tr__mpsc_init(&queue);
        tr__token_init(&token);
        tr__store_relaxed(&closed, 0u);
    }

    void discard()
    {
        while (!tr__token_try_take(&token)) {
            tr__cpu_relax();
        }
        while (!tr__mpsc_is_empty(&queue)) {
            struct tr__mpsc_node *popped = NULL;
            while (tr__mpsc_pop(&queue, &popped) == TR__MPSC_BUSY) {
                tr__cpu_relax();
            }
            RL_ASSERT(popped == &node);
        }
        tr__token_give(&token);
    }

    void thread(unsigned index)
    {
        if (index == 0) {
            tr__mpsc_push(&queue, &node);
            if (tr__load_seq_cst(&closed) != 0) {
                discard();
            }
        } else {
            tr__store_seq_cst(&closed, 1u);
            discard();
        }
    }

    void after()
    {
        RL_ASSERT(tr__mpsc_is_empty(&queue));
    }
};

using crowd = handover<2, 2, 3, 2>;
using couple = handover<1, 2, 1, 2>;

} // namespace

int main()
{
    model::search schedules = model::random(200000);
    model::holds<crowd>("two producers, two consumers", schedules);
    model::holds<couple>("one producer, two consumers", model::within(3));
    model::holds<closed_home>("a home is closed", schedules);
    model::breaks<closed_home>({"tr__mpsc_is_empty", rl::mo_seq_cst, rl::mo_acquire}, schedules);
    model::breaks<crowd>({"tr__mpsc_push_chain", rl::mo_seq_cst, rl::mo_relaxed}, schedules);
    model::breaks<crowd>({"tr__mpsc_push_chain", rl::mo_release, rl::mo_relaxed}, schedules);
    model::breaks<crowd>({"tr__mpsc_pop", rl::mo_acquire, rl::mo_relaxed}, schedules);
    model::breaks<crowd>({"tr__mpsc_is_empty", rl::mo_seq_cst, rl::mo_relaxed}, schedules);
    model::breaks<crowd>({"tr__token_try_mark", rl::mo_acquire, rl::mo_relaxed}, schedules);
    model::breaks<crowd>({"tr__token_give", rl::mo_release, rl::mo_relaxed}, schedules);
    return model::finish();
}
