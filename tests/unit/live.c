/*
 * Tests of engine/live and host/streams with a program made by hand: a pipe, a forked child for
 * signals, and bytes that the test adds. (Real ones: tests/e2e/streams.c.)
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/memory.h"
#include "engine/live.h"
#include "support/host.h"

/* What the call's user pointer is. */
struct program {
    struct rig *rig;
    tr_task_id task;
    struct tr__live *live;
    tr__atomic_u32 attached; /* the function has attached; the test may go on */
    tr__atomic_u32 leave;    /* the function may return */
    int input[2];
};

static int run_program(tr_call *call, void *context)
{
    struct program *program = tr_call_user(call);
    struct tr__live *live = tr__live_open();
    (void)context;
    CHECK(live != NULL);
    tr__capture_init(&live->streams[TR_STREAM_OUT], 1000, TR_OVERFLOW_DROP);
    tr__live_attach(call, live);
    program->live = live;
    tr__store_release(&program->attached, 1u); /* publishes `live` */
    WAIT_UNTIL(tr__load_acquire(&program->leave) == 1, RIG_PATIENCE_SECONDS);
    tr__live_end(live);
    tr__live_drop(live);
    return 0;
}

/* Launches the call and waits until it has attached. */
static void program_open(struct rig *rig, struct program *program)
{
    memset(program, 0, sizeof *program);
    program->rig = rig;
    tr_tool_id tool = rig_tool(rig, "program", run_program, NULL);
    program->task = rig_launch(rig, tool, program, TR_ROUTE_FOREGROUND);
    WAIT_UNTIL(tr__load_acquire(&program->attached) == 1, RIG_PATIENCE_SECONDS);
    CHECK_EQ_INT(pipe2(program->input, O_CLOEXEC), 0);
    CHECK(fcntl(program->input[1], F_SETFL, O_NONBLOCK) >= 0);
}

/* Lets it end; returns its resolution, unreleased. */
static tr_batch *program_end(struct program *program)
{
    tr__store_release(&program->leave, 1u); /* pairs with the function's look */
    tr_batch *batch = rig_turn_take(program->rig, program->rig->turn);
    rig_check(batch, program->task, TR_OUTCOME_COMPLETED);
    CHECK_EQ_INT(close(program->input[0]), 0);
    return batch;
}

static void add(struct program *program, const char *text)
{
    tr__live_lock(program->live);
    CHECK_EQ_U64(tr__capture_add(&program->live->streams[0], text, strlen(text)), strlen(text));
    tr__live_unlock(program->live);
}

static int input(struct program *program, const char *text, uint64_t timeout_ns)
{
    return tr_task_input(program->rig->manager, program->task, text, strlen(text), timeout_ns);
}

static int output(struct program *program, uint64_t cursor, char buffer[100], tr_output_mark *mark)
{
    return tr_task_output(program->rig->manager, program->task, TR_STREAM_OUT, cursor, buffer, 100,
                          mark);
}

THREADED(live, output_while_it_runs_and_after)
{
    struct program program;
    tr_output_mark mark;
    char buffer[100];
    program_open(rig, &program);
    CHECK_EQ_INT(output(&program, 0, buffer, &mark), 0);
    CHECK(!mark.end);
    add(&program, "abc");
    CHECK_EQ_INT(output(&program, 0, buffer, &mark), 3);
    CHECK(memcmp(buffer, "abc", 3) == 0);
    add(&program, "def");
    CHECK_EQ_INT(output(&program, 2, buffer, &mark), 4);
    CHECK(memcmp(buffer, "cdef", 4) == 0);
    CHECK_EQ_INT(output(&program, 7, buffer, &mark), TR_EINVAL);
    CHECK_EQ_INT(tr_task_output(rig->manager, program.task, TR_STREAM_ERROR, 0, NULL, 0, &mark), 0);
    CHECK(mark.end); /* it has none */
    tr_batch *batch = program_end(&program);
    CHECK_EQ_INT(output(&program, 4, buffer, &mark), 2);
    CHECK(mark.end);
    tr_batch_release(batch);
    CHECK_EQ_INT(output(&program, 4, buffer, &mark), TR_ENOENT);
    CHECK_EQ_INT(input(&program, "x", 0), TR_ENOENT);
    CHECK_EQ_INT(tr_task_input_close(rig->manager, program.task), TR_ENOENT);
    CHECK_EQ_INT(tr_task_signal(rig->manager, program.task, SIGTERM), TR_ENOENT);
    CHECK_EQ_INT(tr_task_resize(rig->manager, program.task, 1, 1), TR_ENOENT);
    CHECK_EQ_INT(close(program.input[1]), 0);
}

THREADED(live, bad_arguments_and_tasks_without_streams)
{
    struct gate gate;
    tr_output_mark mark;
    char byte = 0;
    gate_init(&gate);
    tr_manager *manager = rig->manager;
    tr_task_id task = rig_launch(rig, rig->gate, &gate, TR_ROUTE_FOREGROUND);
    CHECK_EQ_INT(tr_task_output(manager, task, TR_STREAM_OUT, 0, &byte, 1, &mark), TR_ESTATE);
    CHECK_EQ_INT(tr_task_input(manager, task, &byte, 1, 0), TR_ESTATE);
    CHECK_EQ_INT(tr_task_input_close(manager, task), TR_ESTATE);
    CHECK_EQ_INT(tr_task_signal(manager, task, SIGTERM), TR_ESTATE);
    CHECK_EQ_INT(tr_task_resize(manager, task, 1, 1), TR_ESTATE);
    CHECK_EQ_INT(tr_task_output(NULL, task, TR_STREAM_OUT, 0, &byte, 1, &mark), TR_EINVAL);
    CHECK_EQ_INT(tr_task_output(manager, task, (tr_stream)2, 0, &byte, 1, &mark), TR_EINVAL);
    CHECK_EQ_INT(tr_task_output(manager, task, TR_STREAM_OUT, 0, NULL, 1, &mark), TR_EINVAL);
    CHECK_EQ_INT(tr_task_output(manager, task, TR_STREAM_OUT, 0, &byte, 1, NULL), TR_EINVAL);
    CHECK_EQ_INT(tr_task_input(NULL, task, &byte, 1, 0), TR_EINVAL);
    CHECK_EQ_INT(tr_task_input(manager, task, NULL, 1, 0), TR_EINVAL);
    CHECK_EQ_INT(tr_task_input(manager, task, &byte, 0, 0), TR_EINVAL);
    CHECK_EQ_INT(tr_task_input(manager, task, &byte, (UINT64_C(1) << 30) + 1, 0), TR_EINVAL);
    CHECK_EQ_INT(tr_task_input_close(NULL, task), TR_EINVAL);
    CHECK_EQ_INT(tr_task_signal(NULL, task, SIGTERM), TR_EINVAL);
    CHECK_EQ_INT(tr_task_signal(manager, task, 0), TR_EINVAL);
    CHECK_EQ_INT(tr_task_signal(manager, task, SIGRTMAX + 1), TR_EINVAL);
    CHECK_EQ_INT(tr_task_resize(manager, task, 0, 1), TR_EINVAL);
    CHECK_EQ_INT(tr_task_resize(manager, task, 1, 0), TR_EINVAL);
    CHECK_EQ_INT(tr_task_output(manager, 0, TR_STREAM_OUT, 0, &byte, 1, &mark), TR_ENOENT);
    CHECK_EQ_INT(tr_task_output(manager, rig->turn, TR_STREAM_OUT, 0, &byte, 1, &mark), TR_ENOENT);
    gate_open(&gate);
    rig_check_release(rig_turn_take(rig, rig->turn), task, TR_OUTCOME_COMPLETED);
    gate_done(&gate);
}

THREADED(live, input_in_pieces_until_it_is_closed)
{
    struct program program;
    char buffer[100];
    program_open(rig, &program);
    CHECK_EQ_INT(input(&program, "x", TR_FOREVER), TR_ESTATE); /* not started */
    tr__live_start(program.live, getpid(), program.input[1], -1, false);
    CHECK_EQ_INT(input(&program, "abc", 0), 3);
    CHECK_EQ_INT(input(&program, "def", TR_FOREVER), 3);
    CHECK_EQ_INT(read(program.input[0], buffer, 100), 6);
    CHECK(memcmp(buffer, "abcdef", 6) == 0);
    CHECK_EQ_U64(program.live->bytes_in, 6);
    CHECK_EQ_INT(tr_task_input_close(rig->manager, program.task), 0);
    CHECK_EQ_INT(read(program.input[0], buffer, 100), 0);
    CHECK_EQ_INT(tr_task_input_close(rig->manager, program.task), TR_ESTATE);
    CHECK_EQ_INT(input(&program, "x", TR_FOREVER), TR_ESTATE);
    tr_batch_release(program_end(&program));
}

/* The default action of SIGPIPE would end this process. */
THREADED(live, a_closed_input_is_an_error_and_no_signal)
{
    struct program program;
    sigset_t set;
    program_open(rig, &program);
    tr__live_start(program.live, getpid(), program.input[1], -1, false);
    CHECK_EQ_INT(close(program.input[0]), 0);
    program.input[0] = dup(STDERR_FILENO);
    CHECK(signal(SIGPIPE, SIG_DFL) != SIG_ERR);
    CHECK_EQ_INT(input(&program, "x", 0), TR_EPIPE);
    CHECK_EQ_INT(sigpending(&set), 0);
    CHECK_EQ_INT(sigismember(&set, SIGPIPE), 0);
    /* One that the host has blocked and was sent stays. */
    CHECK_EQ_INT(sigemptyset(&set), 0);
    CHECK_EQ_INT(sigaddset(&set, SIGPIPE), 0);
    CHECK_EQ_INT(pthread_sigmask(SIG_BLOCK, &set, NULL), 0);
    CHECK_EQ_INT(raise(SIGPIPE), 0);
    CHECK_EQ_INT(input(&program, "x", TR_FOREVER), TR_EPIPE);
    CHECK_EQ_INT(sigpending(&set), 0);
    CHECK_EQ_INT(sigismember(&set, SIGPIPE), 1);
    tr_batch_release(program_end(&program));
}

/* Fills the pipe; returns how much went in. */
static size_t fill(struct program *program)
{
    static char block[65536];
    size_t filled = 0;
    int count = 0;
    while ((count = tr_task_input(program->rig->manager, program->task, block, sizeof block, 0)) >
           0) {
        filled += (size_t)count;
    }
    CHECK_EQ_INT(count, TR_EAGAIN);
    return filled;
}

struct writing {
    struct program *program;
    uint64_t timeout_ns;
    tr__atomic_u32 started;
    int result;
};

static void *write_one(void *argument)
{
    struct writing *writing = argument;
    tr__store_release(&writing->started, 1u); /* pairs with writing_start */
    writing->result = input(writing->program, "x", writing->timeout_ns);
    return NULL;
}

static pthread_t writing_start(struct writing *writing, struct program *program)
{
    memset(writing, 0, sizeof *writing);
    writing->program = program;
    writing->timeout_ns = TR_FOREVER;
    pthread_t thread = rig_thread(write_one, writing);
    WAIT_UNTIL(tr__load_acquire(&writing->started) == 1, RIG_PATIENCE_SECONDS);
    return thread;
}

/* Whether a thread waits for room: it has made the eventfd then. */
static bool waits_for_room(struct program *program)
{
    tr__live_lock(program->live);
    bool waits = program->live->over_fd >= 0;
    tr__live_unlock(program->live);
    return waits;
}

THREADED(live, input_waits_for_room)
{
    struct program program;
    struct writing writing;
    static char block[1 << 20];
    program_open(rig, &program);
    tr__live_start(program.live, getpid(), program.input[1], -1, false);
    size_t filled = fill(&program);
    CHECK_EQ_INT(input(&program, "x", TR_MILLISECOND), TR_ETIMEDOUT);
    pthread_t thread = writing_start(&writing, &program);
    WAIT_UNTIL(waits_for_room(&program), RIG_PATIENCE_SECONDS);
    size_t taken = 0;
    while (taken < filled) {
        ssize_t count = read(program.input[0], block, filled - taken);
        CHECK(count > 0);
        taken += (size_t)count;
    }
    rig_join(thread);
    CHECK_EQ_INT(writing.result, 1);
    CHECK_EQ_INT(read(program.input[0], block, 100), 1);
    tr_batch_release(program_end(&program));
}

THREADED(live, whoever_waits_for_room_learns_of_the_end)
{
    struct program program;
    struct writing writing;
    program_open(rig, &program);
    tr__live_start(program.live, getpid(), program.input[1], -1, false);
    (void)fill(&program);
    pthread_t thread = writing_start(&writing, &program);
    WAIT_UNTIL(waits_for_room(&program), RIG_PATIENCE_SECONDS);
    CHECK_EQ_INT(tr_task_input_close(rig->manager, program.task), 0);
    rig_join(thread); /* nobody reads the pipe: only the close can have woken it */
    CHECK_EQ_INT(writing.result, TR_ESTATE);
    tr_batch_release(program_end(&program));
}

THREADED(live, the_tools_own_input_comes_first)
{
    struct program program;
    struct writing writing;
    char buffer[100];
    program_open(rig, &program);
    tr__live_start(program.live, getpid(), program.input[1], -1, true);
    CHECK_EQ_INT(input(&program, "x", 0), TR_EAGAIN);
    CHECK_EQ_INT(input(&program, "x", TR_MILLISECOND), TR_ETIMEDOUT);
    pthread_t thread = writing_start(&writing, &program);
    CHECK_EQ_INT(write(program.input[1], "first", 5), 5);
    tr__live_input_written(program.live, true);
    rig_join(thread);
    CHECK_EQ_INT(writing.result, 1);
    CHECK_EQ_INT(read(program.input[0], buffer, 100), 6);
    CHECK(memcmp(buffer, "firstx", 6) == 0);
    CHECK_EQ_INT(tr_task_input_close(rig->manager, program.task), 0);
    tr_batch_release(program_end(&program));
}

THREADED(live, a_close_waits_for_the_tools_own_input)
{
    struct program program;
    struct writing writing;
    char buffer[100];
    program_open(rig, &program);
    tr__live_start(program.live, getpid(), program.input[1], -1, true);
    pthread_t thread = writing_start(&writing, &program);
    CHECK_EQ_INT(tr_task_input_close(rig->manager, program.task), 0);
    CHECK_EQ_INT(tr_task_input_close(rig->manager, program.task), TR_ESTATE);
    rig_join(thread);
    CHECK_EQ_INT(writing.result, TR_ESTATE);
    CHECK_EQ_INT(write(program.input[1], "first", 5), 5);
    tr__live_input_written(program.live, true);
    CHECK_EQ_INT(read(program.input[0], buffer, 100), 5);
    CHECK_EQ_INT(read(program.input[0], buffer, 100), 0);
    tr_batch_release(program_end(&program));
}

THREADED(live, without_open_input_it_is_closed_when_written)
{
    struct program program;
    char byte = 0;
    program_open(rig, &program);
    tr__live_start(program.live, getpid(), program.input[1], -1, true);
    tr__live_input_written(program.live, false);
    CHECK_EQ_INT(read(program.input[0], &byte, 1), 0);
    CHECK_EQ_INT(input(&program, "x", TR_FOREVER), TR_ESTATE);
    tr_batch_release(program_end(&program));
}

THREADED(live, signals_reach_the_group_until_it_is_reaped)
{
    struct program program;
    siginfo_t info;
    int status = 0;
    program_open(rig, &program);
    CHECK_EQ_INT(tr_task_signal(rig->manager, program.task, SIGTERM), TR_ESTATE);
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        (void)alarm(RIG_PATIENCE_SECONDS);
        for (;;) {
            (void)pause();
        }
    }
    CHECK_EQ_INT(setpgid(child, child), 0);
    tr__live_start(program.live, child, program.input[1], -1, false);
    CHECK_EQ_INT(tr_task_signal(rig->manager, program.task, SIGKILL), 0);
    CHECK_EQ_INT(waitid(P_PID, (id_t)child, &info, WEXITED | WNOWAIT), 0);
    CHECK(info.si_code == CLD_KILLED && info.si_status == SIGKILL);
    tr__live_stop(program.live);
    CHECK_EQ_INT(waitpid(child, &status, 0), child);
    CHECK_EQ_INT(tr_task_signal(rig->manager, program.task, SIGKILL), TR_ESTATE);
    tr_batch_release(program_end(&program));
}

/* A host that ignores SIGCHLD: the leader is collected by the kernel, and its number, another's. */
THREADED(live, signals_reach_no_stranger)
{
    struct program program;
    program_open(rig, &program);
    pid_t leader = fork();
    CHECK(leader >= 0);
    if (leader == 0) {
        _exit(0);
    }
    program.live->process_fd = (int)syscall(SYS_pidfd_open, leader, 0);
    CHECK(program.live->process_fd >= 0);
    int borrowed = program.live->process_fd;
    CHECK_EQ_INT(waitpid(leader, NULL, 0), leader);
    pid_t stranger = fork();
    CHECK(stranger >= 0);
    if (stranger == 0) {
        (void)alarm(RIG_PATIENCE_SECONDS);
        for (;;) {
            (void)pause();
        }
    }
    CHECK_EQ_INT(setpgid(stranger, stranger), 0);
    tr__live_start(program.live, stranger, program.input[1], -1, false);
    CHECK_EQ_INT(tr_task_signal(rig->manager, program.task, SIGKILL), TR_ESTATE);
    CHECK_EQ_INT(waitpid(stranger, NULL, WNOHANG), 0);
    CHECK_EQ_INT(kill(stranger, SIGTERM), 0);
    int status = 0;
    CHECK_EQ_INT(waitpid(stranger, &status, 0), stranger);
    CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGTERM); /* and not SIGKILL */
    CHECK_EQ_INT(close(borrowed), 0);
    tr_batch_release(program_end(&program));
}

static void count_room(struct tr__live *live)
{
    unsigned *count = live->owner;
    *count += 1;
}

THREADED(live, a_reader_that_makes_room_tells_the_tool)
{
    struct program program;
    tr_output_mark mark;
    char buffer[100];
    unsigned count = 0;
    program_open(rig, &program);
    struct tr__live *live = program.live;
    tr__live_lock(live);
    tr__capture_done(&live->streams[0]);
    tr__capture_init(&live->streams[0], 10, TR_OVERFLOW_PAUSE);
    live->room = count_room;
    live->owner = &count;
    CHECK_EQ_U64(tr__capture_add(&live->streams[0], "0123456789AB", 12), 10);
    tr__live_unlock(live);
    CHECK_EQ_INT(output(&program, 0, buffer, &mark), 10);
    CHECK_EQ_INT(count, 0);
    CHECK_EQ_INT(output(&program, 10, buffer, &mark), 0);
    CHECK_EQ_INT(count, 1);
    CHECK_EQ_INT(output(&program, 10, buffer, &mark), 0);
    CHECK_EQ_INT(count, 1);
    tr_batch_release(program_end(&program));
    CHECK_EQ_INT(close(program.input[1]), 0);
}

static int run_twice(tr_call *call, void *context)
{
    (void)context;
    for (unsigned i = 0; i < 2; i++) {
        struct tr__live *live = tr__live_open();
        CHECK(live != NULL);
        tr__capture_init(&live->streams[0], 10, TR_OVERFLOW_DROP);
        tr__live_attach(call, live);
        tr__live_lock(live);
        (void)tr__capture_add(&live->streams[0], i == 0 ? "first" : "second", 5u + i);
        tr__live_unlock(live);
        tr__live_end(live);
        tr__live_drop(live);
    }
    return 0;
}

/* And it outlives the manager with its batch: a leak would be found at the end. */
CASE(live, the_last_one_stays_until_the_batch_is_released)
{
    struct rig rig;
    struct program program;
    tr_output_mark mark;
    char buffer[100];
    rig_open(&rig, RIG_INLINE, NULL);
    tr_tool_id tool = rig_tool(&rig, "twice", run_twice, NULL);
    program.rig = &rig;
    program.task = rig_launch(&rig, tool, NULL, TR_ROUTE_BACKGROUND);
    tr_batch *batch = rig_loop_take(&rig, rig.session);
    CHECK_EQ_INT(output(&program, 0, buffer, &mark), 6);
    CHECK(memcmp(buffer, "second", 6) == 0 && mark.end);
    rig_close(&rig);
    tr_batch_release(batch);
}

CASE(live, without_memory_there_is_none)
{
    tr__memory_fail_after(1);
    CHECK(tr__live_open() == NULL);
    tr__live_drop(NULL);
}
