/*
 * Tests of engine/spawner: its threads, its bounds, its end, and what happens to children when the
 * host dies.
 */
#include "engine/spawner.h"
#include "support/case.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <semaphore.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <toolring/error.h>

#include "base/memory.h"
#include "child.h"

static tr__atomic_u32 done_count;
static sem_t done_semaphore;

static void note_done(struct tr__spawn *spawn)
{
    (void)spawn;
    tr__fetch_add_release(&done_count, 1u);
    (void)sem_post(&done_semaphore);
}

static void await_one(void)
{
    while (sem_wait(&done_semaphore) != 0) {
        CHECK_EQ_INT(errno, EINTR);
    }
}

static void check_threads(unsigned threads)
{
    enum {
        COUNT = 40
    };
    static struct tr__spawner spawner;
    static struct tr__spawn spawns[COUNT];

    CHECK_EQ_INT(sem_init(&done_semaphore, 0, 0), 0);
    CHECK_EQ_INT(tr__spawner_open(&spawner, threads, COUNT), 0);
    for (unsigned index = 0; index < COUNT; index++) {
        spawns[index] = (struct tr__spawn){.shell = "echo $PPID; exit 9", .done = note_done};
        tr__spawner_post(&spawner, &spawns[index]);
    }
    for (unsigned index = 0; index < COUNT; index++) {
        await_one();
    }
    for (unsigned index = 0; index < COUNT; index++) {
        CHECK_EQ_INT(child_finish(&spawns[index]), 9);
        CHECK_EQ_INT(atoi(child_output), getpid());
        tr__spawner_reaped(&spawner);
    }
    CHECK_EQ_U64(tr__load_relaxed(&spawner.processes), 0);
    tr__spawner_close(&spawner);
}

CASE(spawner_threads, one_thread_serves)
{
    check_threads(1);
}

CASE(spawner_threads, as_many_threads_as_usual_serve)
{
    check_threads(0);
}

CASE(spawner_threads, four_threads_serve)
{
    check_threads(4);
}

CASE(spawner_threads, too_many_threads_are_refused)
{
    static struct tr__spawner spawner;

    CHECK_EQ_INT(tr__spawner_open(&spawner, TR__SPAWNER_THREADS_MAX + 1, 0), TR_EINVAL);
}

CASE(spawner_threads, open_survives_failing_allocations)
{
    static struct tr__spawner spawner;

    for (long nth = 1; nth <= 4; nth++) {
        tr__memory_fail_after(nth);
        CHECK_EQ_INT(tr__spawner_open(&spawner, 4, 0), TR_ENOMEM);
    }
    tr__memory_fail_after(-1);
    CHECK_EQ_INT(tr__spawner_open(&spawner, 4, 0), 0);
    tr__spawner_close(&spawner);
}

CASE(spawner_threads, processes_are_limited)
{
    static struct tr__spawner spawner;
    static struct tr__spawn spawns[3];

    CHECK_EQ_INT(sem_init(&done_semaphore, 0, 0), 0);
    CHECK_EQ_INT(tr__spawner_open(&spawner, 1, 2), 0);
    for (unsigned index = 0; index < 3; index++) {
        spawns[index] = (struct tr__spawn){.shell = "cat", .want_input = true, .done = note_done};
        tr__spawner_post(&spawner, &spawns[index]);
        await_one();
    }
    CHECK_EQ_INT(spawns[0].error, 0);
    CHECK_EQ_INT(spawns[1].error, 0);
    CHECK_EQ_INT(spawns[2].error, TR_ELIMIT);

    CHECK_EQ_INT(close(spawns[0].input_fd), 0);
    CHECK_EQ_INT(child_finish(&spawns[0]), 0);
    tr__spawner_reaped(&spawner);
    /* A request that fails does not keep the place. */
    const char *const missing[] = {"/no/such/program", NULL};
    for (unsigned round = 0; round < 3; round++) {
        spawns[0] = (struct tr__spawn){.argv = missing, .done = note_done};
        tr__spawner_post(&spawner, &spawns[0]);
        await_one();
        CHECK_EQ_INT(spawns[0].error, -ENOENT);
    }
    spawns[0] = (struct tr__spawn){.shell = "true", .done = note_done};
    tr__spawner_post(&spawner, &spawns[0]);
    await_one();
    CHECK_EQ_INT(child_finish(&spawns[0]), 0);
    tr__spawner_reaped(&spawner);

    CHECK_EQ_INT(close(spawns[1].input_fd), 0);
    CHECK_EQ_INT(child_finish(&spawns[1]), 0);
    tr__spawner_reaped(&spawner);
    tr__spawner_close(&spawner);
}

CASE(spawner_threads, close_answers_what_is_queued)
{
    enum {
        COUNT = 50
    };
    static struct tr__spawner spawner;
    static struct tr__spawn spawns[COUNT];

    CHECK_EQ_INT(sem_init(&done_semaphore, 0, 0), 0);
    CHECK_EQ_INT(tr__spawner_open(&spawner, 2, COUNT), 0);
    for (unsigned index = 0; index < COUNT; index++) {
        spawns[index] = (struct tr__spawn){.shell = "true", .done = note_done};
        tr__spawner_post(&spawner, &spawns[index]);
    }
    tr__spawner_close(&spawner);
    CHECK_EQ_U64(tr__load_acquire(&done_count), COUNT);
    unsigned cancelled = 0;
    for (unsigned index = 0; index < COUNT; index++) {
        if (spawns[index].error == TR_ECANCELED) {
            CHECK_EQ_INT(spawns[index].process_fd, -1);
            cancelled += 1;
        } else {
            CHECK_EQ_INT(spawns[index].error, 0);
            (void)child_read_all(spawns[index].output_fd, child_output, sizeof child_output);
            (void)child_read_all(spawns[index].error_fd, child_output, sizeof child_output);
            (void)child_reap(&spawns[index]); /* ended by itself, or with its spawning thread */
        }
    }
    CHECK(cancelled > 0);
}

/* ---- one queue ---- */

static const char *const nothing[] = {"/bin/true", NULL};
static struct tr__spawn *order[8];
static sem_t second_done;

static void note_order(struct tr__spawn *spawn)
{
    order[tr__fetch_add_release(&done_count, 1u)] = spawn;
    (void)sem_post(&done_semaphore);
}

CASE(spawner_threads, first_come_first_served)
{
    static struct tr__spawner spawner;
    static struct tr__spawn spawns[8];

    CHECK_EQ_INT(sem_init(&done_semaphore, 0, 0), 0);
    CHECK_EQ_INT(tr__spawner_open(&spawner, 1, 0), 0);
    for (unsigned index = 0; index < 8; index++) {
        spawns[index] = (struct tr__spawn){.argv = nothing, .done = note_order};
        tr__spawner_post(&spawner, &spawns[index]);
    }
    for (unsigned index = 0; index < 8; index++) {
        await_one();
    }
    for (unsigned index = 0; index < 8; index++) {
        CHECK(order[index] == &spawns[index]);
        CHECK_EQ_INT(child_finish(&spawns[index]), 0);
        tr__spawner_reaped(&spawner);
    }
    CHECK_EQ_INT(spawner.threads_count, 1);
    tr__spawner_close(&spawner);
}

/* As a program does on a file system that does not answer: holds its thread until another request
 * was served. */
static void hold_thread(struct tr__spawn *spawn)
{
    while (sem_wait(&second_done) != 0) {
        CHECK_EQ_INT(errno, EINTR);
    }
    note_done(spawn);
}

static void let_thread_go(struct tr__spawn *spawn)
{
    (void)sem_post(&second_done);
    note_done(spawn);
}

CASE(spawner_threads, a_long_spawn_holds_up_no_other)
{
    static struct tr__spawner spawner;
    static struct tr__spawn spawns[2];

    CHECK_EQ_INT(sem_init(&done_semaphore, 0, 0), 0);
    CHECK_EQ_INT(sem_init(&second_done, 0, 0), 0);
    CHECK_EQ_INT(tr__spawner_open(&spawner, 0, 0), 0);
    CHECK_EQ_INT(spawner.threads_count, 1);
    spawns[0] = (struct tr__spawn){.argv = nothing, .done = hold_thread};
    spawns[1] = (struct tr__spawn){.argv = nothing, .done = let_thread_go};
    tr__spawner_post(&spawner, &spawns[0]);
    tr__spawner_post(&spawner, &spawns[1]);
    await_one();
    await_one();
    CHECK_EQ_INT(child_finish(&spawns[0]), 0);
    CHECK_EQ_INT(child_finish(&spawns[1]), 0);
    tr__spawner_reaped(&spawner);
    tr__spawner_reaped(&spawner);
    tr__spawner_close(&spawner);
}

CASE(spawner_threads, what_is_posted_after_a_close_is_refused)
{
    static struct tr__spawner spawner;
    static struct tr__spawn spawn = {.argv = nothing, .done = note_done};

    CHECK_EQ_INT(sem_init(&done_semaphore, 0, 0), 0);
    CHECK_EQ_INT(tr__spawner_open(&spawner, 0, 0), 0);
    tr__spawner_close(&spawner);
    tr__spawner_post(&spawner, &spawn);
    CHECK_EQ_U64(tr__load_acquire(&done_count), 1);
    CHECK_EQ_INT(spawn.error, TR_ECANCELED);
    CHECK_EQ_INT(spawn.process_fd, -1);
}

/* ---- dying with the host ---- */

CASE(spawner_threads, children_die_with_the_host)
{
    int tell[2];

    CHECK_EQ_INT(pipe2(tell, O_CLOEXEC), 0);
    pid_t host = fork();
    CHECK(host >= 0);
    if (host == 0) {
        static struct tr__spawner spawner;
        static struct tr__spawn spawn = {.shell = "exec sleep 1000", .done = note_done};
        CHECK_EQ_INT(sem_init(&done_semaphore, 0, 0), 0);
        CHECK_EQ_INT(tr__spawner_open(&spawner, 1, 0), 0);
        tr__spawner_post(&spawner, &spawn);
        await_one();
        CHECK_EQ_INT(spawn.error, 0);
        CHECK_EQ_INT(write(tell[1], &spawn.pid, sizeof spawn.pid), sizeof spawn.pid);
        (void)pause(); /* until killed */
        _exit(1);
    }
    pid_t child;
    CHECK_EQ_INT(read(tell[0], &child, sizeof child), sizeof child);
    struct pollfd one = {.fd = (int)syscall(SYS_pidfd_open, child, 0), .events = POLLIN};
    CHECK(one.fd >= 0);
    CHECK_EQ_INT(poll(&one, 1, 0), 0);
    CHECK_EQ_INT(kill(host, SIGKILL), 0);
    CHECK_EQ_INT(poll(&one, 1, -1), 1);
    CHECK_EQ_INT(waitpid(host, NULL, 0), host);
}
