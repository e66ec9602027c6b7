/* Model of the parker, with the queue between threads as what is waited for.
 *
 * The owner sleeps whenever the queue says it is empty. A wake-up that gets lost leaves it asleep
 * with everybody else gone: a deadlock, which Relacy reports. In the scenario `deadlines` the word
 * itself is watched: as many "notified" as claims, and the claimer's data arrives with them.
 *
 * The kernel's half is modelled on a blocked thread, not on a spinning one: the comparison reads
 * the newest value and enqueues in one step (the bucket lock), a wake takes one sleeper off, and a
 * sleep may end for nothing or by its deadline.
 */
#include "model/model.h"

#include "parts/mpsc.h"

static int futex_wait(tr__atomic_u32 *word, uint32_t expected, uint64_t deadline_ns);
static void futex_wake_one(tr__atomic_u32 *word);

#include "parts/parker.c"

static int futex_wait(tr__atomic_u32 *word, uint32_t expected, uint64_t deadline_ns)
{
    /* A comparison that fails reads the newest value; no thread comes between it and the wait. */
    uint32_t seen = UINT32_MAX;
    (void)word->compare_exchange_strong(seen, seen, rl::mo_relaxed, $, rl::mo_relaxed, $);
    if (seen != expected) {
        return -EAGAIN;
    }
    rl::context &context = rl::ctx();
    bool for_nothing = context.is_random_sched(); /* a search would try it without end */
    switch (word->wait(context, deadline_ns != TR__FOREVER, for_nothing, $)) {
    case rl::unpark_reason_timeout:
        return -ETIMEDOUT;
    case rl::unpark_reason_spurious:
        return -EINTR;
    default:
        return 0;
    }
}

static void futex_wake_one(tr__atomic_u32 *word)
{
    rl::context &context = rl::ctx();
    context.sched();
    (void)word->wake(context, 1, $);
}

namespace
{

/* An owner that takes everything, alone. */
template <int producers, int of_each>
struct sleeper : rl::test_suite<sleeper<producers, of_each>, producers + 1> {
    struct tr__mpsc queue;
    struct tr__parker parker;
    struct tr__mpsc_node nodes[producers][of_each];

    void before()
    {
        tr__mpsc_init(&queue);
        tr__parker_init(&parker);
    }

    void own()
    {
        for (int taken = 0; taken < producers * of_each;) {
            struct tr__mpsc_node *node;
            enum tr__mpsc_result result = tr__mpsc_pop(&queue, &node);
            if (result == TR__MPSC_ITEM) {
                taken++;
            } else if (result == TR__MPSC_BUSY) {
                tr__cpu_relax();
            } else {
                tr__parker_prepare(&parker);
                if (tr__mpsc_is_empty(&queue)) {
                    RL_ASSERT(tr__parker_wait(&parker, TR__FOREVER) == 0);
                } else {
                    tr__parker_cancel(&parker);
                }
            }
        }
    }

    void thread(unsigned index)
    {
        if (index == producers) {
            own();
            return;
        }
        for (struct tr__mpsc_node &node : nodes[index]) {
            tr__mpsc_push(&queue, &node);
            (void)tr__parker_notify(&parker);
        }
    }

    void after()
    {
        RL_ASSERT(tr__load_relaxed(&parker.word) == TR__PARKER_AWAKE);
        RL_ASSERT(tr__mpsc_is_empty(&queue));
    }
};

/* An owner beside a thief, who may leave an item it was BUSY about: no second notification comes
 * for it. Only when the last item is taken does the thief tell the owner that all is over. */
struct thieves : rl::test_suite<thieves, 4> {
    enum {
        OWNER,
        THIEF,
        FIRST, /* pushes two */
        SECOND,
        ITEMS = 3,
    };
    struct tr__mpsc queue;
    struct tr__token token;
    struct tr__parker parker;
    struct tr__mpsc_node nodes[ITEMS];
    tr__atomic_u32 over;
    int taken; /* ghost */

    void before()
    {
        tr__mpsc_init(&queue);
        tr__token_init(&token);
        tr__parker_init(&parker);
        tr__store_relaxed(&over, 0u);
        taken = 0;
    }

    /* Returns whether this took the last item. */
    bool plunder(int pops)
    {
        bool last = false;
        if (tr__token_try_take(&token)) {
            struct tr__mpsc_node *node;
            for (; pops > 0 && tr__mpsc_pop(&queue, &node) == TR__MPSC_ITEM; pops--) {
                last = ++taken == ITEMS;
            }
            tr__token_give(&token);
        }
        return last;
    }

    void own()
    {
        while (taken < ITEMS && !plunder(ITEMS)) {
            tr__parker_prepare(&parker);
            if (tr__mpsc_is_empty(&queue) && tr__load_seq_cst(&over) == 0) {
                RL_ASSERT(tr__parker_wait(&parker, TR__FOREVER) == 0);
            } else {
                tr__parker_cancel(&parker);
                tr__cpu_relax();
            }
        }
    }

    void steal()
    {
        for (int i = 0; i < 3; i++) {
            if (plunder(1)) {
                tr__store_seq_cst(&over, 1u);
                (void)tr__parker_notify(&parker);
            }
        }
    }

    void push(int from, int to)
    {
        for (int i = from; i < to; i++) {
            tr__mpsc_push(&queue, &nodes[i]);
            (void)tr__parker_notify(&parker);
        }
    }

    void thread(unsigned index)
    {
        switch (index) {
        case OWNER:
            own();
            break;
        case THIEF:
            steal();
            break;
        case FIRST:
            push(0, 2);
            break;
        default:
            push(2, ITEMS);
            break;
        }
    }
};

/* Time-outs race with notifications. The owner never cancels, so each claim comes out as one
 * "notified", with what the claimer wrote before. */
template <int producers> struct deadlines : rl::test_suite<deadlines<producers>, producers + 1> {
    struct tr__parker parker;
    rl::var<unsigned> letter[producers];
    int claims; /* ghost, like the rest */
    int notified;
    int claimer;

    void before()
    {
        tr__parker_init(&parker);
        claims = 0;
        notified = 0;
    }

    void thread(unsigned index)
    {
        if (index < producers) {
            letter[index]($) = 1;
            if (tr__parker_claim(&parker)) {
                claims++;
                claimer = (int)index;
                tr__parker_wake(&parker);
            }
            return;
        }
        for (int i = 0; i < 2; i++) {
            tr__parker_prepare(&parker);
            int result = tr__parker_wait(&parker, 0);
            RL_ASSERT(result == 0 || result == TR_ETIMEDOUT);
            if (result == 0) {
                notified++;
                RL_ASSERT(letter[claimer]($) == 1);
            }
        }
    }

    void after()
    {
        RL_ASSERT(notified == claims);
        RL_ASSERT(tr__load_relaxed(&parker.word) == TR__PARKER_AWAKE);
    }
};

using crowd = sleeper<2, 2>;
using couple = sleeper<1, 2>;

} // namespace

int main()
{
    model::search schedules = model::random(200000);
    model::holds<crowd>("two producers, an owner", schedules);
    model::holds<couple>("one producer, an owner", model::within(4));
    model::holds<thieves>("two producers, an owner, a thief", schedules);
    model::holds<deadlines<2>>("two producers, an owner with deadlines", schedules);
    model::holds<deadlines<1>>("one producer, an owner with deadlines", model::within(4));
    /* The four accesses of the proof in parker.c, one by one. */
    model::breaks<crowd>({"tr__parker_prepare", rl::mo_seq_cst, rl::mo_release}, schedules);
    model::breaks<crowd>({"tr__mpsc_is_empty", rl::mo_seq_cst, rl::mo_acquire}, schedules);
    model::breaks<crowd>({"tr__mpsc_push_chain", rl::mo_seq_cst, rl::mo_acq_rel}, schedules);
    model::breaks<crowd>({"tr__parker_claim", rl::mo_seq_cst, rl::mo_acquire}, schedules);
    model::breaks<crowd>({"tr__mpsc_push_chain", rl::mo_seq_cst, rl::mo_relaxed}, schedules);
    model::breaks<thieves>({"tr__parker_prepare", rl::mo_seq_cst, rl::mo_release}, schedules);
    model::breaks<thieves>({"tr__mpsc_push_chain", rl::mo_seq_cst, rl::mo_relaxed}, schedules);
    /* What the word hands over by itself. */
    model::breaks<deadlines<2>>({"tr__parker_claim", rl::mo_seq_cst, rl::mo_relaxed}, schedules);
    model::breaks<deadlines<2>>({"tr__parker_wait", rl::mo_acquire, rl::mo_relaxed}, schedules);
    model::breaks<deadlines<2>>({"tr__parker_wait", rl::mo_acq_rel, rl::mo_relaxed}, schedules);
    return model::finish();
}
