/*
 * Races of a host's streams with the life of their tasks: threads read, write, signal and close
 * whatever task there is now, while tasks attach, add, end, are drained and released, detached, and
 * their slots are used again. What is right is little: no answer but the documented ones, bytes
 * that are the task's own, and nothing for the sanitizers.
 */
#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

#include "engine/live.h"
#include "support/host.h"

#define TASKS 400u
#define METERS 3u
#define BYTES 3000u

static tr__atomic_u64 current;  /* the task to meddle with; written by functions */
static tr__atomic_u32 finished; /* the last task was released */
static tr__atomic_u64 bytes_read;

/* What its bytes are: so that a reader sees when they are another's. */
static unsigned char mark_of(tr_task_id task, uint64_t offset)
{
    return (unsigned char)((task >> 24) * 31 + task * 7 + offset);
}

/* A program: adds while others read, with an input that another thread drains. */
static int run_program(tr_call *call, void *context)
{
    tr_task_id task = tr_call_task(call);
    int pipes[2];
    (void)context;
    struct tr__live *live = tr__live_open();
    CHECK(live != NULL);
    CHECK_EQ_INT(pipe2(pipes, O_CLOEXEC | O_NONBLOCK), 0);
    tr__capture_init(&live->streams[0], 500, TR_OVERFLOW_DROP);
    tr__live_attach(call, live);
    tr__live_start(live, getpid(), pipes[1], -1, true);
    tr__store_release(&current, task);
    for (uint64_t added = 0; added < BYTES;) {
        struct iovec pieces[2];
        char buffer[64];
        tr__live_lock(live);
        int count = tr__capture_room(&live->streams[0], 64, pieces);
        tr__live_unlock(live);
        for (int i = 0; i < count; i++) { /* as the kernel would: without the mutex */
            unsigned char *room = pieces[i].iov_base;
            for (size_t at = 0; at < pieces[i].iov_len; at++) {
                room[at] = mark_of(task, added++);
            }
        }
        tr__live_lock(live);
        tr__capture_added(&live->streams[0], added - live->streams[0].total);
        tr__live_unlock(live);
        if (added > BYTES / 2) {
            tr__live_input_written(live, true);
        }
        (void)!read(pipes[0], buffer, sizeof buffer); /* there may be nothing */
    }
    tr__live_end(live);
    CHECK_EQ_INT(close(pipes[0]), 0);
    tr__live_drop(live);
    return 0;
}

static void *meddle(void *argument)
{
    struct rig *rig = argument;
    struct case_random random;
    case_random_init(&random, (uint64_t)(uintptr_t)&random);
    while (tr__load_acquire(&finished) == 0) { /* pairs with the test's store */
        tr_task_id task = tr__load_acquire(&current);
        unsigned char buffer[200];
        tr_output_mark mark = {0, 0, 0, false};
        int result = 0;
        switch (case_random_below(&random, 8)) {
        case 0:
            result = tr_task_input(rig->manager, task, "abc", 3, 0);
            CHECK(result > 0 || result == TR_ENOENT || result == TR_ESTATE || result == TR_EAGAIN ||
                  result == TR_EPIPE);
            break;
        case 1:
            result = tr_task_input(rig->manager, task, buffer, 200, TR_MILLISECOND / 10);
            CHECK(result > 0 || result == TR_ENOENT || result == TR_ESTATE ||
                  result == TR_ETIMEDOUT || result == TR_EPIPE);
            break;
        case 2:
            result = tr_task_input_close(rig->manager, task);
            CHECK(result == 0 || result == TR_ENOENT || result == TR_ESTATE);
            break;
        case 3:
            result = tr_task_signal(rig->manager, task, SIGURG); /* which does nothing */
            CHECK(result == 0 || result == TR_ENOENT || result == TR_ESTATE);
            break;
        case 4:
            result = tr_task_detach(rig->manager, task);
            CHECK(result == 0 || result == TR_ENOENT || result == TR_EALREADY);
            break;
        default:
            do {
                result = tr_task_output(rig->manager, task, TR_STREAM_OUT, mark.next, buffer,
                                        sizeof buffer, &mark);
                CHECK(result >= 0 || result == TR_ENOENT || result == TR_ESTATE);
                for (int i = 0; i < result; i++) {
                    uint64_t offset = mark.next - (uint64_t)result + (uint64_t)i;
                    CHECK_EQ_INT(buffer[i], mark_of(task, offset));
                }
                (void)tr__fetch_add_relaxed(&bytes_read, result > 0 ? (uint64_t)result : 0);
            } while (result > 0);
        }
    }
    return NULL;
}

CASE_TIMEOUT(live, meddling_from_all_sides, 120)
{
    struct rig rig;
    pthread_t meters[METERS];
    CHECK(signal(SIGPIPE, SIG_DFL) != SIG_ERR);
    CHECK(setpgid(0, 0) == 0 || getpgid(0) == getpid()); /* SIGURG goes to this process alone */
    rig_open(&rig, RIG_THREADED, NULL);
    tr_tool_id tool = rig_tool(&rig, "program", run_program, NULL);
    for (unsigned i = 0; i < METERS; i++) {
        meters[i] = rig_thread(meddle, &rig);
    }
    double until = case_seconds() + RIG_PATIENCE_SECONDS;
    for (unsigned i = 0; i < TASKS || tr__load_relaxed(&bytes_read) == 0; i++) {
        CHECK(case_seconds() < until || i < TASKS);
        (void)rig_launch(&rig, tool, NULL, TR_ROUTE_FOREGROUND);
        (void)rig_turn_flush(&rig, rig.turn);
        if (i % 16 == 0) {
            rig_wait_idle(&rig);
            (void)rig_loop_flush(&rig, rig.session);
        }
    }
    tr__store_release(&finished, 1u);
    for (unsigned i = 0; i < METERS; i++) {
        rig_join(meters[i]);
    }
    rig_wait_idle(&rig);
    (void)rig_turn_flush(&rig, rig.turn);
    (void)rig_loop_flush(&rig, rig.session);
    rig_close(&rig);
}
