/*
 * shake.c: schedules that do not come by themselves.
 *
 * Purpose: in a build with TR_SHAKE every atomic operation is preceded by tr__shake, which now and
 * then lets the thread sleep or yield there. What can come between two operations then does come,
 * in seconds of the randomised contract test instead of in years. Owner: each thread, its own
 * countdown. Called by base/atomic.h; calls nanosleep, sched_yield.
 *
 * A thread counts its atomic operations down from a drawn number and rests when it comes to 0: most
 * often it yields, now and then it sleeps, rarely so long that everybody else gets past it. How
 * often is drawn by each thread anew after every rest, over two orders of magnitude: a short
 * window is hit by those who rest often, a long way is finished by those who do not.
 *
 * Invariants
 *  1. Not inlined: a fiber asks on the thread it runs on now, not on one it has left.
 *  2. No atomic operation of this tree is used here.
 *
 * Complexity: one thread-local decrement, or a rest.
 *
 * Rejected: a seeded schedule that can be replayed (threads race with the kernel as well: io_uring,
 * futexes, processes; it would need a machine of its own).
 */
#include <errno.h>
#include <sched.h>
#include <stdint.h>
#include <time.h>
#include <unistd.h>

#include "base/atomic.h"

struct shaker {
    uint64_t state; /* of the numbers; 0: not begun */
    uint32_t left;  /* operations until the next rest */
};

static _Thread_local struct shaker shaker;

static uint32_t draw(uint32_t bound)
{
    shaker.state ^= shaker.state << 13; /* xorshift */
    shaker.state ^= shaker.state >> 7;
    shaker.state ^= shaker.state << 17;
    return (uint32_t)(shaker.state >> 32) % bound;
}

static void begin(void)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_MONOTONIC, &now); /* cannot fail on Linux */
    shaker.state = (uint64_t)now.tv_nsec * UINT64_C(0x9e3779b97f4a7c15) + (uint64_t)gettid();
    shaker.state |= 1;
}

static void rest(void)
{
    static const long most_ns[] = {0, 0, 0, 20000, 20000, 100000, 400000, 2000000};
    long most = most_ns[draw(sizeof most_ns / sizeof most_ns[0])];
    if (most == 0) {
        (void)sched_yield();
        return;
    }
    struct timespec duration = {0, (long)draw((uint32_t)most)};
    (void)nanosleep(&duration, NULL); /* a signal may end it early */
}

__attribute__((noinline)) void tr__shake(void)
{
    if (shaker.left > 0) {
        shaker.left--;
        return;
    }
    int saved = errno;
    if (shaker.state == 0) {
        begin();
    } else {
        rest();
    }
    shaker.left = draw(4u << draw(8)); /* up to 4 … 512 */
    errno = saved;
}
