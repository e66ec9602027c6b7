/*
 * Tests of parts/inbox with several threads: a consumer that sleeps whenever it can, in wait or in
 * epoll, gets everything from producers that come and go. A lost wake-up ends in the time limit.
 */
#include <pthread.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "base/clock.h"
#include "parts/inbox.h"
#include "support/case.h"
#include "support/wait.h"

#define PRODUCERS 3u

#if defined(TR__WITH_TSAN)
#define ITEMS 3000u
#else
#define ITEMS 40000u
#endif

struct item {
    struct tr__mpsc_node node;
    unsigned producer;
    unsigned number;
};

static struct tr__inbox inbox;
static struct item items[PRODUCERS][ITEMS];
static tr__atomic_u32 consumed; /* by the consumer, for producers that wait for it */

/* Half of the time waits until the consumer has everything, so that it sleeps again and again. */
static void *produce(void *argument)
{
    unsigned producer = (unsigned)(uintptr_t)argument;
    struct case_random chance;

    case_random_init(&chance, producer);
    for (unsigned number = 0; number < ITEMS; number++) {
        struct item *item = &items[producer][number];
        item->producer = producer;
        item->number = number;
        tr__inbox_push(&inbox, &item->node);
        if (case_random_below(&chance, 64) == 0) {
            uint64_t spins = case_random_below(&chance, 2000);
            for (uint64_t spin = 0; spin < spins; spin++) {
                tr__cpu_relax();
            }
        }
    }
    return NULL;
}

/* Checks and counts what is there; returns how many. */
static unsigned drain(unsigned next[PRODUCERS])
{
    struct tr__mpsc_node *node;
    unsigned count = 0;
    while ((node = tr__inbox_pop(&inbox)) != NULL) {
        struct item *item = TR__CONTAINER_OF(node, struct item, node);
        CHECK_EQ_INT(item->number, next[item->producer]);
        next[item->producer] += 1;
        count += 1;
    }
    return count;
}

static void start(pthread_t threads[PRODUCERS])
{
    for (unsigned producer = 0; producer < PRODUCERS; producer++) {
        CHECK_EQ_INT(pthread_create(&threads[producer], NULL, produce, (void *)(uintptr_t)producer),
                     0);
    }
}

static void finish(pthread_t threads[PRODUCERS])
{
    for (unsigned producer = 0; producer < PRODUCERS; producer++) {
        CHECK_EQ_INT(pthread_join(threads[producer], NULL), 0);
    }
    tr__token_give(&inbox.token);
    tr__inbox_done(&inbox);
}

CASE(inbox_threads, a_waiting_consumer_gets_everything_in_order)
{
    pthread_t threads[PRODUCERS];
    unsigned next[PRODUCERS] = {0};
    unsigned total = 0;

    tr__inbox_init(&inbox);
    CHECK(tr__token_try_take(&inbox.token));
    start(threads);
    while (total < PRODUCERS * ITEMS) {
        CHECK_EQ_INT(tr__inbox_wait(&inbox, TR__FOREVER), 0);
        total += drain(next);
    }
    finish(threads);
}

CASE(inbox_threads, a_polling_consumer_gets_everything_in_order)
{
    pthread_t threads[PRODUCERS];
    unsigned next[PRODUCERS] = {0};
    unsigned total = 0;

    tr__inbox_init(&inbox);
    CHECK(tr__token_try_take(&inbox.token));
    int poller = epoll_create1(EPOLL_CLOEXEC);
    struct epoll_event event = {.events = EPOLLIN};
    CHECK_EQ_INT(epoll_ctl(poller, EPOLL_CTL_ADD, tr__inbox_fd(&inbox), &event), 0);
    start(threads);
    while (total < PRODUCERS * ITEMS) {
        CHECK_EQ_INT(epoll_wait(poller, &event, 1, -1), 1);
        total += drain(next);
        tr__inbox_rearm(&inbox);
    }
    finish(threads);
    CHECK_EQ_INT(close(poller), 0);
}

#define TURNS 2000u

static void *answer(void *argument)
{
    struct item *item = argument;
    for (unsigned turn = 0; turn < TURNS; turn++) {
        tr__inbox_push(&inbox, &item->node);
        WAIT_UNTIL(tr__load_acquire(&consumed) == turn + 1, 20);
    }
    return NULL;
}

/* One item at a time: every push races with the consumer's falling asleep. */
CASE(inbox_threads, no_push_at_the_moment_of_falling_asleep_is_missed)
{
    pthread_t thread;
    tr__inbox_init(&inbox);
    CHECK(tr__token_try_take(&inbox.token));
    tr__store_relaxed(&consumed, 0u);
    CHECK_EQ_INT(pthread_create(&thread, NULL, answer, &items[0][0]), 0);
    for (unsigned turn = 0; turn < TURNS; turn++) {
        struct tr__mpsc_node *node;
        while ((node = tr__inbox_pop(&inbox)) == NULL) {
            CHECK_EQ_INT(tr__inbox_wait(&inbox, TR__FOREVER), 0);
        }
        CHECK_EQ_PTR(node, &items[0][0].node);
        tr__store_release(&consumed, turn + 1);
    }
    CHECK_EQ_INT(pthread_join(thread, NULL), 0);
    tr__inbox_done(&inbox);
}
