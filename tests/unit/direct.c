/*
 * Tests of engine/direct: what is its own. What it answers to each op is in tests/unit/ops.c.
 */
#include "engine/direct.h"
#include "support/case.h"
#include "support/wait.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <sys/resource.h>
#include <toolring/error.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/memory.h"

static struct tr__direct direct_a;

static struct tr__op make_timer(uint64_t deadline_ns, void (*done)(struct tr__op *op))
{
    return (struct tr__op){.kind = TR__OP_TIMER, .deadline_ns = deadline_ns, .done = done};
}

CASE(direct, waits_until_the_deadline)
{
    uint64_t deadline_ns = tr__clock_now() + 5 * TR__NS_PER_MS;

    CHECK_EQ_INT(tr__direct_init(&direct_a), 0);
    CHECK_EQ_INT(tr__direct_wait(&direct_a, 0), TR_ETIMEDOUT);
    CHECK_EQ_INT(tr__direct_wait(&direct_a, deadline_ns), TR_ETIMEDOUT);
    CHECK(tr__clock_now() >= deadline_ns);
    tr__direct_done(&direct_a);
}

CASE(direct, wake_before_the_wait_counts)
{
    CHECK_EQ_INT(tr__direct_init(&direct_a), 0);
    tr__direct_wake(&direct_a);
    tr__direct_wake(&direct_a);
    CHECK_EQ_INT(tr__direct_wait(&direct_a, TR__FOREVER), 0);
    CHECK_EQ_INT(tr__direct_wait(&direct_a, 0), TR_ETIMEDOUT);
    tr__direct_done(&direct_a);
}

CASE(direct, gives_its_descriptor)
{
    CHECK_EQ_INT(tr__direct_init(&direct_a), 0);
    int fd = tr__direct_fd(&direct_a);
    CHECK(fd >= 0);
    CHECK_EQ_INT(tr__direct_fd(&direct_a), fd);
    CHECK((fcntl(fd, F_GETFD) & FD_CLOEXEC) != 0);
    tr__direct_done(&direct_a);
    CHECK(fcntl(fd, F_GETFD) < 0);
}

/* Two threads take turns: each wake must end one wait. */
static tr__atomic_u32 ball;

static void *return_balls(void *argument)
{
    uint32_t rounds = *(uint32_t *)argument;

    for (uint32_t round = 1; round <= rounds; round++) {
        WAIT_UNTIL(tr__load_acquire(&ball) == 2 * round - 1, 20);
        tr__store_release(&ball, 2 * round);
        tr__direct_wake(&direct_a);
    }
    return NULL;
}

static void play_ball(uint32_t rounds)
{
    pthread_t thread;

    CHECK_EQ_INT(pthread_create(&thread, NULL, return_balls, &rounds), 0);
    for (uint32_t round = 1; round <= rounds; round++) {
        tr__store_release(&ball, 2 * round - 1);
        while (tr__load_acquire(&ball) != 2 * round) {
            CHECK_EQ_INT(tr__direct_wait(&direct_a, tr__clock_now() + 20 * TR__NS_PER_SECOND), 0);
        }
    }
    CHECK_EQ_INT(pthread_join(thread, NULL), 0);
}

CASE(direct, other_threads_wake_it)
{
    CHECK_EQ_INT(tr__direct_init(&direct_a), 0);
    play_ball(5000);
    tr__direct_done(&direct_a);
}

CASE(direct, is_woken_without_a_descriptor)
{
    struct rlimit all;
    struct rlimit none;

    CHECK_EQ_INT(tr__direct_init(&direct_a), 0);
    CHECK_EQ_INT(getrlimit(RLIMIT_NOFILE, &all), 0);
    none = (struct rlimit){64, all.rlim_max};
    CHECK_EQ_INT(setrlimit(RLIMIT_NOFILE, &none), 0);
    while (dup(0) >= 0) {
        /* until none is left */
    }
    CHECK_EQ_INT(tr__direct_fd(&direct_a), -EMFILE);
    play_ball(10);
    tr__direct_done(&direct_a);
    CHECK_EQ_INT(setrlimit(RLIMIT_NOFILE, &all), 0);
}

static unsigned order[64];
static unsigned order_count;

static void note_order(struct tr__op *op)
{
    CHECK(order_count < 64);
    order[order_count++] = (unsigned)(uintptr_t)op->owner;
}

CASE(direct, many_ops_at_once)
{
    enum {
        COUNT = 40
    };
    static struct tr__op ops[COUNT];
    static char bytes[COUNT];
    int pipes[COUNT][2];

    CHECK_EQ_INT(tr__direct_init(&direct_a), 0);
    for (unsigned index = 0; index < COUNT; index++) {
        CHECK_EQ_INT(pipe(pipes[index]), 0);
        ops[index] = (struct tr__op){.kind = TR__OP_READ,
                                     .fd = pipes[index][0],
                                     .buffer = &bytes[index],
                                     .size = 1,
                                     .owner = (void *)(uintptr_t)index,
                                     .done = note_order};
        tr__direct_start(&direct_a, &ops[index]);
    }
    CHECK_EQ_INT(tr__direct_wait(&direct_a, 0), TR_ETIMEDOUT);
    for (unsigned index = COUNT; index > 0; index--) {
        CHECK_EQ_INT(write(pipes[index - 1][1], "x", 1), 1);
        CHECK_EQ_INT(tr__direct_wait(&direct_a, TR__FOREVER), 0);
        CHECK_EQ_INT(order_count, COUNT - index + 1);
        CHECK_EQ_INT(order[order_count - 1], index - 1);
        CHECK_EQ_INT(ops[index - 1].result, 1);
    }
    tr__direct_done(&direct_a);
}

CASE(direct, op_without_memory_is_done_with_an_error)
{
    enum {
        COUNT = TR__DIRECT_POLLS + 1
    };
    static struct tr__op ops[COUNT];

    CHECK_EQ_INT(tr__direct_init(&direct_a), 0);
    for (unsigned index = 0; index < COUNT; index++) {
        ops[index] = make_timer(TR__FOREVER, note_order);
        tr__memory_fail_after(1);
        tr__direct_start(&direct_a, &ops[index]);
        tr__memory_fail_after(-1);
    }
    CHECK_EQ_INT(tr__direct_wait(&direct_a, TR__FOREVER), 0);
    CHECK_EQ_INT(order_count, 1);
    CHECK_EQ_INT(ops[COUNT - 1].result, TR_ENOMEM);
    for (unsigned index = 0; index + 1 < COUNT; index++) {
        tr__direct_cancel(&direct_a, &ops[index]);
    }
    CHECK_EQ_INT(tr__direct_wait(&direct_a, TR__FOREVER), 0);
    CHECK_EQ_INT(order_count, COUNT);
    tr__direct_done(&direct_a);
}

/* A done hook that cancels its neighbours and starts itself again. */
static struct tr__op chain[3];
static unsigned restarts;

static void restart(struct tr__op *op)
{
    restarts += 1;
    if (restarts == 1) {
        tr__direct_cancel(&direct_a, &chain[0]);
        tr__direct_cancel(&direct_a, &chain[2]);
    }
    if (restarts < 100) {
        tr__direct_start(&direct_a, op);
    }
}

CASE(direct, done_hooks_start_and_cancel)
{
    CHECK_EQ_INT(tr__direct_init(&direct_a), 0);
    chain[0] = make_timer(TR__FOREVER, note_order);
    chain[1] = make_timer(1, restart);
    chain[2] = make_timer(TR__FOREVER, note_order);
    for (unsigned index = 0; index < 3; index++) {
        tr__direct_start(&direct_a, &chain[index]);
    }
    /* One pass runs the restarting one once, not for ever. */
    CHECK_EQ_INT(tr__direct_wait(&direct_a, TR__FOREVER), 0);
    CHECK_EQ_INT(restarts, 1);
    while (restarts < 100) {
        CHECK_EQ_INT(tr__direct_wait(&direct_a, TR__FOREVER), 0);
    }
    CHECK_EQ_INT(order_count, 2);
    CHECK_EQ_INT(chain[0].result, TR_ECANCELED);
    CHECK_EQ_INT(chain[2].result, TR_ECANCELED);
    tr__direct_done(&direct_a);
}

CASE(direct, broken_pipe_raises_no_signal)
{
    int ends[2];
    sigset_t pending;
    struct tr__op op = {.kind = TR__OP_WRITE, .done = note_order, .size = 1};
    char byte = 'x';

    CHECK_EQ_INT(tr__direct_init(&direct_a), 0);
    CHECK_EQ_INT(pipe(ends), 0);
    CHECK_EQ_INT(close(ends[0]), 0);
    op.fd = ends[1];
    op.buffer = &byte;
    tr__direct_start(&direct_a, &op);
    CHECK_EQ_INT(tr__direct_wait(&direct_a, TR__FOREVER), 0);
    CHECK_EQ_INT(op.result, -EPIPE);
    CHECK_EQ_INT(sigpending(&pending), 0);
    CHECK_EQ_INT(sigismember(&pending, SIGPIPE), 0);

    /* One that the host had pending stays pending. */
    sigset_t pipe_signal;
    (void)sigemptyset(&pipe_signal);
    (void)sigaddset(&pipe_signal, SIGPIPE);
    CHECK_EQ_INT(pthread_sigmask(SIG_BLOCK, &pipe_signal, NULL), 0);
    CHECK_EQ_INT(raise(SIGPIPE), 0);
    tr__direct_start(&direct_a, &op);
    CHECK_EQ_INT(tr__direct_wait(&direct_a, TR__FOREVER), 0);
    CHECK_EQ_INT(sigpending(&pending), 0);
    CHECK_EQ_INT(sigismember(&pending, SIGPIPE), 1);
    CHECK(signal(SIGPIPE, SIG_IGN) != SIG_ERR);
    tr__direct_done(&direct_a);
}
