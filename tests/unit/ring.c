/*
 * Tests of engine/ring over the real kernel: its thread, ops in numbers, waking, its end. Opening
 * is in tests/unit/ring_open.c, what the kernel answers to each op in tests/unit/ops.c, what
 * happens in which order in tests/sim/ring.c.
 */
#include "engine/ring.h"
#include "support/case.h"
#include "support/wait.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <semaphore.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <toolring/error.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/probe.h"
#include "engine/ring_kernel.h"

static struct tr__ring ring;
static sem_t done_semaphore;
static tr__atomic_u32 done_count;

static void note_done(struct tr__op *op)
{
    (void)op;
    tr__fetch_add_release(&done_count, 1u);
    CHECK_EQ_INT(sem_post(&done_semaphore), 0);
}

static void await_done(unsigned count)
{
    for (unsigned index = 0; index < count; index++) {
        while (sem_wait(&done_semaphore) != 0) {
            CHECK_EQ_INT(errno, EINTR);
        }
    }
}

static void open_sized(unsigned entries)
{
    char message[TR__PROBE_MESSAGE_BYTES];
    struct tr__ring_config config = {
        .entries = entries, .message = message, .message_size = sizeof message};

    CHECK_EQ_INT(sem_init(&done_semaphore, 0, 0), 0);
    int error = tr__ring_open(&ring, &config);
    if (error == TR_ERING) {
        SKIP("io_uring is refused here");
    }
    CHECK_EQ_INT(error, 0);
    CHECK_EQ_STR(message, "");
}

static void close_ring(void)
{
    CHECK_EQ_INT(tr__ring_close(&ring, TR__FOREVER), 0);
}

static struct tr__op timer_op(uint64_t deadline_ns)
{
    return (struct tr__op){.kind = TR__OP_TIMER, .deadline_ns = deadline_ns, .done = note_done};
}

static struct tr__op read_op(int fd, void *buffer, uint32_t size)
{
    return (struct tr__op){
        .kind = TR__OP_READ, .fd = fd, .buffer = buffer, .size = size, .done = note_done};
}

/* Returns when everything started before is with the kernel: a timer that is due is fired in the
 * round after the one that took it. */
static void await_round(void)
{
    struct tr__op op = timer_op(1);

    tr__ring_start(&ring, &op);
    await_done(1);
}

static uint64_t sleeping_until(void)
{
    return tr__load_seq_cst(&ring.sleeping_until);
}

/* One line of a thread's status, e.g. "SigBlk:". */
static void thread_status(const char *thread, const char *key, char *ret_value, size_t size)
{
    char path[300];
    char line[256];

    (void)snprintf(path, sizeof path, "/proc/self/task/%s/status", thread);
    FILE *file = fopen(path, "re");
    CHECK(file != NULL);
    ret_value[0] = '\0';
    while (fgets(line, sizeof line, file) != NULL) {
        if (strncmp(line, key, strlen(key)) == 0) {
            (void)snprintf(ret_value, size, "%s", line + strlen(key) + 1);
            ret_value[strcspn(ret_value, "\n")] = '\0';
        }
    }
    CHECK_EQ_INT(fclose(file), 0);
}

CASE(ring, thread_has_a_name_and_no_signals)
{
    char value[256];
    unsigned found = 0;

    open_sized(64);
    struct tr__op op = timer_op(1);
    tr__ring_start(&ring, &op); /* behind it, the thread has its name */
    await_done(1);
    DIR *tasks = opendir("/proc/self/task");
    CHECK(tasks != NULL);
    for (struct dirent *task = readdir(tasks); task != NULL; task = readdir(tasks)) {
        if (task->d_name[0] == '.') {
            continue;
        }
        thread_status(task->d_name, "Name:", value, sizeof value);
        if (strcmp(value, "tr-ring") == 0) {
            found += 1;
            thread_status(task->d_name, "SigBlk:", value, sizeof value);
            unsigned long long blocked = strtoull(value, NULL, 16);
            for (int number = 1; number < 32; number++) {
                if (number != SIGKILL && number != SIGSTOP) {
                    CHECK((blocked >> (number - 1) & 1) != 0);
                }
            }
        }
    }
    CHECK_EQ_INT(closedir(tasks), 0);
    CHECK_EQ_INT(found, 1);
    close_ring();
}

/* ---- ops ---- */

CASE(ring, timers_are_never_early)
{
    enum {
        COUNT = 200
    };
    static struct tr__op ops[COUNT];
    static struct case_random random;

    case_random_init(&random, 1);
    open_sized(0);
    uint64_t now_ns = tr__clock_now();
    for (unsigned index = 0; index < COUNT; index++) {
        ops[index] = timer_op(now_ns + case_random_below(&random, 50 * TR__NS_PER_MS));
        tr__ring_start(&ring, &ops[index]);
    }
    for (unsigned count = 1; count <= COUNT; count++) {
        await_done(1);
        uint64_t ended_ns = tr__clock_now();
        unsigned due = 0;
        for (unsigned index = 0; index < COUNT; index++) {
            due += ops[index].deadline_ns <= ended_ns;
        }
        CHECK(due >= count);
    }
    struct tr__ring_stats stats;
    tr__ring_stats_read(&ring, &stats);
    CHECK_EQ_U64(stats.timers_fired, COUNT);
    CHECK_EQ_U64(stats.operations, COUNT);
    CHECK_EQ_U64(stats.stale, 0);
    close_ring();
}

CASE(ring, more_ops_than_entries_wait_in_line)
{
    enum {
        COUNT = 1000
    };
    static struct tr__op ops[COUNT];
    static char bytes[COUNT];
    int ends[2];

    open_sized(64);
    CHECK_EQ_INT(pipe2(ends, O_CLOEXEC), 0);
    for (unsigned index = 0; index < COUNT; index++) {
        ops[index] = read_op(ends[0], &bytes[index], 1);
        tr__ring_start(&ring, &ops[index]);
    }
    /* One in the middle of the line gives up, one is cancelled, and time is kept for them. */
    struct tr__op late = read_op(ends[0], bytes, 1);
    late.deadline_ns = tr__clock_now() + 5 * TR__NS_PER_MS;
    tr__ring_start(&ring, &late);
    await_done(1);
    CHECK_EQ_INT(late.result, TR_ETIMEDOUT);
    tr__ring_cancel(&ring, &ops[500], true);
    await_done(1);
    CHECK_EQ_INT(ops[500].result, TR_ECANCELED);

    for (unsigned index = 0; index < COUNT - 1; index++) {
        CHECK_EQ_INT(write(ends[1], "x", 1), 1);
        await_done(1);
    }
    unsigned bytes_read = 0;
    for (unsigned index = 0; index < COUNT; index++) {
        bytes_read += bytes[index] == 'x';
        CHECK(index == 500 || ops[index].result == 1);
    }
    CHECK_EQ_INT(bytes_read, COUNT - 1);
    close_ring();
}

CASE(ring, close_cancels_everything)
{
    enum {
        COUNT = 900
    };
    static struct tr__op ops[COUNT];
    static char bytes[COUNT];
    int ends[2];

    open_sized(64);
    CHECK_EQ_INT(pipe2(ends, O_CLOEXEC), 0);
    for (unsigned index = 0; index < COUNT; index++) {
        switch (index % 4) {
        case 0:
            ops[index] =
                timer_op(index % 8 == 0 ? TR__FOREVER : tr__clock_now() + 1000 * TR__NS_PER_SECOND);
            break;
        case 1:
            ops[index] = read_op(ends[0], &bytes[index], 1);
            break;
        case 2:
            ops[index] = read_op(ends[0], &bytes[index], 1);
            ops[index].deadline_ns = tr__clock_now() + 1000 * TR__NS_PER_SECOND;
            break;
        default:
            ops[index] = read_op(ends[0], NULL, 0);
            ops[index].kind = TR__OP_POLL;
            ops[index].events = POLLIN;
            break;
        }
        tr__ring_start(&ring, &ops[index]);
    }
    close_ring();
    CHECK_EQ_U64(tr__load_acquire(&done_count), COUNT);
    for (unsigned index = 0; index < COUNT; index++) {
        CHECK_EQ_INT(ops[index].result, TR_ECANCELED);
    }
}

/* Starts its op again from the hook, also while the ring ends. */
static unsigned restarts;

static void restart(struct tr__op *op)
{
    CHECK(tr__ring_is_self(&ring));
    restarts += 1;
    if (op->result == 0) {
        op->deadline_ns = 1;
        tr__ring_start(&ring, op);
    } else {
        note_done(op);
    }
}

CASE(ring, hooks_may_start_ops)
{
    open_sized(64);
    struct tr__op op = timer_op(1);
    struct tr__op pause = timer_op(tr__clock_now() + 5 * TR__NS_PER_MS);
    op.done = restart;
    tr__ring_start(&ring, &op);
    tr__ring_start(&ring, &pause); /* the restless one does not starve others */
    await_done(1);
    CHECK_EQ_INT(pause.result, 0);
    close_ring();
    CHECK_EQ_INT(op.result, TR_ECANCELED);
    CHECK(restarts > 2);
    CHECK_EQ_U64(tr__load_acquire(&done_count), 2);
}

/* ---- waking ---- */

CASE(ring, later_timers_let_it_sleep)
{
    enum {
        COUNT = TR__RING_QUIET_MAX
    };
    static struct tr__op quiet[COUNT];
    uint64_t now_ns = tr__clock_now();
    uint64_t hour_ns = 3600 * TR__NS_PER_SECOND;
    struct tr__ring_stats before;
    struct tr__ring_stats after;

    open_sized(0);
    WAIT_UNTIL(sleeping_until() == UINT64_MAX, 10);
    struct tr__op first = timer_op(now_ns + hour_ns);
    tr__ring_start(&ring, &first); /* earlier than for ever: wakes it */
    WAIT_UNTIL(sleeping_until() != 0 && sleeping_until() != UINT64_MAX, 10);
    uint64_t until_ns = sleeping_until();
    CHECK(until_ns <= first.deadline_ns + TR__WHEEL_TICK_NS);

    tr__ring_stats_read(&ring, &before);
    for (unsigned index = 0; index < COUNT - 1; index++) {
        quiet[index] = timer_op(until_ns + index);
        tr__ring_start(&ring, &quiet[index]);
        CHECK_EQ_U64(sleeping_until(), until_ns);
    }
    tr__ring_stats_read(&ring, &after);
    CHECK_EQ_U64(after.enters, before.enters);
    quiet[COUNT - 1] = timer_op(until_ns + COUNT);
    tr__ring_start(&ring, &quiet[COUNT - 1]); /* one too many to be left lying */
    WAIT_UNTIL((tr__ring_stats_read(&ring, &after), after.wakes) == before.wakes + 1, 10);
    WAIT_UNTIL(sleeping_until() == until_ns, 10);

    struct tr__op early = timer_op(tr__clock_now());
    tr__ring_start(&ring, &early);
    await_done(1);
    CHECK_EQ_INT(early.result, 0);
    close_ring();
    CHECK_EQ_U64(tr__load_acquire(&done_count), COUNT + 2);
}

CASE(ring, a_cancel_may_overtake_its_start)
{
    char byte;
    int ends[2];
    CHECK_EQ_INT(pipe2(ends, O_CLOEXEC), 0);
    struct tr__op ops[] = {
        timer_op(tr__clock_now() + 3600 * TR__NS_PER_SECOND),
        timer_op(1), /* due, too */
        read_op(ends[0], &byte, 1),
    };

    open_sized(0);
    for (unsigned index = 0; index < sizeof ops / sizeof ops[0]; index++) {
        tr__ring_prepare(&ops[index]);
        tr__ring_cancel(&ring, &ops[index], true);
        WAIT_UNTIL(tr__ring_is_resting(&ring), 10); /* the cancel has been taken */
        CHECK_EQ_U64(tr__load_acquire(&done_count), index);
        tr__ring_submit(&ring, &ops[index]);
        if (index == 0) {
            tr__ring_nudge(&ring); /* its deadline alone wakes nobody for it */
        }
        await_done(1);
        CHECK_EQ_INT(ops[index].result, TR_ECANCELED);
    }
    close_ring();
    CHECK_EQ_INT(close(ends[0]), 0);
    CHECK_EQ_INT(close(ends[1]), 0);
}

CASE(ring, others_see_that_it_is_late)
{
    uint64_t hour_ns = 3600 * TR__NS_PER_SECOND;

    open_sized(0);
    WAIT_UNTIL(tr__ring_is_resting(&ring), 10);
    CHECK(!tr__ring_is_overdue(&ring, UINT64_MAX)); /* nothing is due, ever */
    struct tr__op op = timer_op(tr__clock_now() + hour_ns);
    tr__ring_start(&ring, &op);
    WAIT_UNTIL(tr__ring_is_resting(&ring), 10);
    CHECK(!tr__ring_is_overdue(&ring, tr__clock_now()));
    CHECK(tr__ring_is_overdue(&ring, op.deadline_ns + TR__NS_PER_MS));
    tr__ring_cancel(&ring, &op, true);
    await_done(1);
    WAIT_UNTIL(!tr__ring_is_overdue(&ring, UINT64_MAX), 10);
    close_ring();
}

CASE(ring, quiet_cancels_wait_for_the_next_wake)
{
    struct tr__op ops[2];

    open_sized(0);
    for (unsigned index = 0; index < 2; index++) {
        ops[index] = timer_op(tr__clock_now() + 3600 * TR__NS_PER_SECOND);
        tr__ring_start(&ring, &ops[index]);
    }
    WAIT_UNTIL(sleeping_until() != 0 && sleeping_until() != UINT64_MAX, 10);
    tr__ring_cancel(&ring, &ops[0], false);
    CHECK(sleeping_until() != 0);
    CHECK_EQ_U64(tr__load_acquire(&done_count), 0);
    tr__ring_cancel(&ring, &ops[1], true);
    await_done(2);
    CHECK_EQ_INT(ops[0].result, TR_ECANCELED);
    CHECK_EQ_INT(ops[1].result, TR_ECANCELED);
    close_ring();
}

CASE(ring, sleeps_while_ops_wait)
{
    struct tr__ring_stats before;
    struct tr__ring_stats after;
    char byte;
    int ends[2];

    open_sized(0);
    CHECK_EQ_INT(pipe2(ends, O_CLOEXEC), 0);
    struct tr__op op = read_op(ends[0], &byte, 1);
    tr__ring_start(&ring, &op);
    await_round();
    WAIT_UNTIL(sleeping_until() == UINT64_MAX, 10);
    tr__ring_stats_read(&ring, &before);
    uint64_t end_ns = tr__clock_now() + 30 * TR__NS_PER_MS;
    WAIT_UNTIL(tr__clock_now() > end_ns, 10);
    tr__ring_stats_read(&ring, &after);
    CHECK_EQ_U64(after.enters, before.enters);
    CHECK_EQ_INT(write(ends[1], "x", 1), 1);
    await_done(1);
    CHECK_EQ_INT(op.result, 1);
    close_ring();
}

/* ---- an end that does not come ---- */

static unsigned take_nothing(void *state, struct tr__kernel_completion *completions, unsigned max)
{
    (void)state;
    (void)completions;
    (void)max;
    return 0;
}

/* Its completions lie there for good, so it must not be asked to wait for them. */
static int enter_briefly(void *state, bool wait, uint64_t timeout_ns)
{
    (void)wait;
    (void)timeout_ns;
    (void)sched_yield();
    return tr__kernel_uring.enter(state, false, 0);
}

CASE(ring, close_gives_up_at_its_deadline)
{
    static struct tr__kernel kernel;
    static struct tr__op op;
    static char byte;
    struct tr__ring_config config = {.entries = 64, .kernel = &kernel};
    int ends[2];

    kernel = tr__kernel_uring;
    kernel.take = take_nothing;
    kernel.enter = enter_briefly;
    CHECK_EQ_INT(sem_init(&done_semaphore, 0, 0), 0);
    int error = tr__ring_open(&ring, &config);
    if (error == TR_ERING) {
        SKIP("io_uring is refused here");
    }
    CHECK_EQ_INT(error, 0);
    CHECK_EQ_INT(pipe2(ends, O_CLOEXEC), 0);
    op = read_op(ends[0], &byte, 1);
    tr__ring_start(&ring, &op);
    await_round();
    uint64_t deadline_ns = tr__clock_now() + 20 * TR__NS_PER_MS;
    CHECK_EQ_INT(tr__ring_close(&ring, deadline_ns), TR_ETIMEDOUT);
    CHECK(tr__clock_now() >= deadline_ns);
    CHECK_EQ_U64(tr__load_acquire(&done_count), 1); /* the timer's; the read is not done */
}
