/*
 * host.c: see host.h.
 */
#include "support/host.h"

#include <dirent.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <sys/eventfd.h>
#include <unistd.h>

/* ---- the gate ---- */

void gate_init(struct gate *gate)
{
    memset(gate, 0, sizeof *gate);
    CHECK_EQ_INT(pthread_mutex_init(&gate->lock, NULL), 0);
    CHECK_EQ_INT(pthread_cond_init(&gate->changed, NULL), 0);
    gate->fd = eventfd(0, EFD_CLOEXEC);
    CHECK(gate->fd >= 0);
}

void gate_done(struct gate *gate)
{
    /* That a function has returned may be known by a number only, which orders nothing; this
     * does. */
    CHECK_EQ_INT(pthread_mutex_lock(&gate->lock), 0);
    CHECK_EQ_INT(pthread_mutex_unlock(&gate->lock), 0);
    CHECK_EQ_INT(close(gate->fd), 0);
    CHECK_EQ_INT(pthread_cond_destroy(&gate->changed), 0);
    CHECK_EQ_INT(pthread_mutex_destroy(&gate->lock), 0);
}

void gate_open(struct gate *gate)
{
    CHECK_EQ_INT(pthread_mutex_lock(&gate->lock), 0);
    gate->open = true;
    CHECK_EQ_INT(eventfd_write(gate->fd, 1), 0);
    CHECK_EQ_INT(pthread_cond_broadcast(&gate->changed), 0);
    CHECK_EQ_INT(pthread_mutex_unlock(&gate->lock), 0);
}

unsigned gate_enter(struct gate *gate)
{
    CHECK_EQ_INT(pthread_mutex_lock(&gate->lock), 0);
    unsigned number = gate->entered++;
    CHECK_EQ_INT(pthread_cond_broadcast(&gate->changed), 0);
    CHECK_EQ_INT(pthread_mutex_unlock(&gate->lock), 0);
    return number;
}

void gate_pass(struct gate *gate)
{
    (void)gate_enter(gate);
    CHECK_EQ_INT(pthread_mutex_lock(&gate->lock), 0);
    while (!gate->open) {
        CHECK_EQ_INT(pthread_cond_wait(&gate->changed, &gate->lock), 0);
    }
    CHECK_EQ_INT(pthread_mutex_unlock(&gate->lock), 0);
}

static void gate_leave(struct gate *gate, int status)
{
    CHECK_EQ_INT(pthread_mutex_lock(&gate->lock), 0);
    gate->left++;
    gate->status = status;
    CHECK_EQ_INT(pthread_cond_broadcast(&gate->changed), 0);
    CHECK_EQ_INT(pthread_mutex_unlock(&gate->lock), 0);
}

/* Waits for one of the gate's counts. */
static void gate_await(struct gate *gate, const unsigned *number, unsigned count)
{
    struct timespec until;
    CHECK_EQ_INT(clock_gettime(CLOCK_REALTIME, &until), 0);
    until.tv_sec += RIG_PATIENCE_SECONDS;
    CHECK_EQ_INT(pthread_mutex_lock(&gate->lock), 0);
    int error = 0;
    while (*number < count && error == 0) {
        error = pthread_cond_timedwait(&gate->changed, &gate->lock, &until);
    }
    unsigned seen = *number;
    CHECK_EQ_INT(pthread_mutex_unlock(&gate->lock), 0);
    CHECK(seen >= count);
}

void gate_await_entered(struct gate *gate, unsigned count)
{
    gate_await(gate, &gate->entered, count);
}

void gate_await_left(struct gate *gate, unsigned count)
{
    gate_await(gate, &gate->left, count);
}

unsigned gate_entered(struct gate *gate)
{
    CHECK_EQ_INT(pthread_mutex_lock(&gate->lock), 0);
    unsigned entered = gate->entered;
    CHECK_EQ_INT(pthread_mutex_unlock(&gate->lock), 0);
    return entered;
}

/* ---- tools ---- */

static int run_echo(tr_call *call, void *context)
{
    (void)context;
    tr_bytes input = tr_call_input(call);
    return tr_result_copy(call, input.data, input.size);
}

static int run_nothing(tr_call *call, void *context)
{
    (void)call;
    (void)context;
    return 0;
}

static int run_fail(tr_call *call, void *context)
{
    int error = run_echo(call, context);
    return error < 0 ? error : TR_ETOOL;
}

static int run_gate(tr_call *call, void *context)
{
    struct gate *gate = tr_call_user(call);
    (void)context;
    gate_pass(gate);
    int error = tr_result_copy(call, "late", 4);
    gate_leave(gate, 0);
    return error;
}

static int run_awaiting(tr_call *call, void *context)
{
    struct gate *gate = tr_call_user(call);
    tr_io io;
    tr_io *done = NULL;
    (void)context;
    memset(&io, 0, sizeof io);
    (void)gate_enter(gate);
    CHECK_EQ_INT(tr_io_poll(call, &io, gate->fd, POLLIN), 0);
    int status = tr_io_wait(call, 0, &done);
    if (status < 0) {
        CHECK_EQ_INT(status, TR_ECANCELED);
        tr_io_cancel(call, &io);
        CHECK_EQ_INT(tr_io_wait(call, TR_IO_SHIELD, &done), 0);
    }
    CHECK_EQ_PTR(done, &io);
    const char *text = status == 0 ? "opened" : "partial";
    int error = tr_result_copy(call, text, strlen(text));
    gate_leave(gate, status);
    return error < 0 ? error : status;
}

static int run_deferred(tr_call *call, void *context)
{
    struct gate *gate = tr_call_user(call);
    (void)context;
    CHECK_EQ_INT(pthread_mutex_lock(&gate->lock), 0);
    CHECK(gate->entered < GATE_CALLS_MAX);
    gate->deferred[gate->entered++] = tr_call_defer(call);
    CHECK_EQ_INT(pthread_cond_broadcast(&gate->changed), 0);
    CHECK_EQ_INT(pthread_mutex_unlock(&gate->lock), 0);
    return TR_DEFERRED;
}

/* ---- the rig ---- */

/* Entries of a folder of /proc, without "." and "..". */
static unsigned entries_of(const char *folder)
{
    unsigned count = 0;
    DIR *stream = opendir(folder);
    CHECK(stream != NULL);
    while (readdir(stream) != NULL) {
        count += 1;
    }
    CHECK_EQ_INT(closedir(stream), 0);
    return count - 2;
}

#if defined(__SANITIZE_THREAD__)
#define HAS_HELPER_THREAD 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define HAS_HELPER_THREAD 1
#endif
#endif

#if defined(HAS_HELPER_THREAD)
static pid_t helped;

static void *return_at_once(void *argument)
{
    helped = gettid();
    return argument;
}
#endif

unsigned rig_threads(void)
{
#if defined(HAS_HELPER_THREAD)
    static bool started; /* the sanitizer starts a thread of its own beside a process's first */
    if (!started) {
        started = true;
        rig_join(rig_thread(return_at_once, NULL));
        while (tgkill(getpid(), helped, 0) == 0) {
            (void)sched_yield(); /* joined, and still listed until the kernel is done with it */
        }
    }
#endif
    return entries_of("/proc/self/task");
}

unsigned rig_descriptors(void)
{
    return entries_of("/proc/self/fd") - 1; /* the folder's own */
}

tr_tool_id rig_tool(struct rig *rig, const char *name, tr_tool_function function, void *context)
{
    tr_tool tool = TR_TOOL_INIT(name, function);
    tr_tool_id id = 0;
    tool.context = context;
    CHECK_EQ_INT(tr_tool_register(rig->manager, &tool, &id), 0);
    CHECK(id != 0);
    return id;
}

/* Opened and not shut. */
static _Atomic unsigned rigs_open;

void rig_open(struct rig *rig, enum rig_mode mode, const tr_config *config)
{
    tr_config own = TR_CONFIG_INIT;
    char message[256] = "";
    memset(rig, 0, sizeof *rig);
    rig->mode = mode;
    rig->threads = rig_threads();
    rig->descriptors = rig_descriptors();
    if (config != NULL) {
        own = *config;
    }
    own.flags |= mode == RIG_INLINE ? TR_MANAGER_INLINE : 0;
    own.message = message;
    own.message_size = sizeof message;
    int error = tr_manager_open(&own, &rig->manager);
    if (error < 0) {
        case_fail(__FILE__, __LINE__, "tr_manager_open: %s: %s", tr_error_name(error), message);
    }
    rig->echo = rig_tool(rig, "echo", run_echo, NULL);
    rig->nothing = rig_tool(rig, "nothing", run_nothing, NULL);
    rig->fail = rig_tool(rig, "fail", run_fail, NULL);
    rig->gate = rig_tool(rig, "gate", run_gate, NULL);
    rig->deferred = rig_tool(rig, "deferred", run_deferred, NULL);
    tr_tool tool = TR_TOOL_INIT("awaiting", run_awaiting);
    tool.flags = TR_TOOL_AWAITING;
    CHECK_EQ_INT(tr_tool_register(rig->manager, &tool, &rig->awaiting), 0);
    rig->session = rig_session(rig);
    rig->turn = rig_turn(rig, rig->session);
    rigs_open++;
}

void rig_shut(struct rig *rig, uint64_t drain_ns)
{
    CHECK_EQ_INT(tr_manager_close(rig->manager, drain_ns), 0);
    tr_stats stats = rig_stats(rig);
    CHECK_EQ_U64(stats.unfinished, 0);
    CHECK_EQ_U64(stats.abandoned, 0);
    CHECK_EQ_U64(stats.fibers_used, 0);
    CHECK_EQ_U64(stats.processes_used, 0);
    CHECK_EQ_U64(stats.accepted, stats.completed + stats.failed + stats.cancelled +
                                     stats.timed_out + stats.denied + stats.lost);
    if (--rigs_open == 0) { /* another that is open may have started substitutes meanwhile */
        WAIT_UNTIL(rig_threads() <= rig->threads, RIG_PATIENCE_SECONDS);
    }
}

void rig_free(struct rig *rig)
{
    tr_manager_free(rig->manager);
    rig->manager = NULL;
    CHECK_EQ_INT(rig_descriptors(), rig->descriptors);
}

void rig_close(struct rig *rig)
{
    rig_shut(rig, RIG_PATIENCE_NS);
    rig_free(rig);
}

tr_stats rig_stats(struct rig *rig)
{
    tr_stats stats;
    CHECK_EQ_INT(tr_manager_stats(rig->manager, &stats), 0);
    return stats;
}

void rig_wait_idle(struct rig *rig)
{
    CHECK_EQ_INT(tr_manager_wait_idle(rig->manager, RIG_PATIENCE_NS), 0);
}

tr_session_id rig_session(struct rig *rig)
{
    tr_session_id session = 0;
    CHECK_EQ_INT(tr_session_open(rig->manager, NULL, &session), 0);
    CHECK(session != 0);
    return session;
}

tr_turn_id rig_turn(struct rig *rig, tr_session_id session)
{
    tr_turn_id turn = 0;
    CHECK_EQ_INT(tr_turn_open(rig->manager, session, NULL, &turn), 0);
    CHECK(turn != 0);
    return turn;
}

tr_launched rig_launch_request(struct rig *rig, const tr_request *request)
{
    tr_launched launched;
    CHECK_EQ_INT(tr_launch(rig->manager, request, &launched), TR_PENDING);
    CHECK_EQ_INT(launched.status, TR_PENDING);
    CHECK(launched.task != 0 && launched.ready == NULL);
    return launched;
}

tr_task_id rig_launch(struct rig *rig, tr_tool_id tool, void *user, tr_route route)
{
    tr_request request = TR_REQUEST_INIT(rig->turn, tool);
    request.user = user;
    request.options.route = route;
    return rig_launch_request(rig, &request).task;
}

tr_task_id rig_launch_text(struct rig *rig, tr_tool_id tool, const char *input, tr_route route)
{
    tr_request request = TR_REQUEST_INIT(rig->turn, tool);
    request.input = rig_bytes(input);
    request.options.route = route;
    return rig_launch_request(rig, &request).task;
}

static tr_batch *one(int count, tr_batch *batch)
{
    CHECK_EQ_INT(count, 1);
    CHECK(batch != NULL);
    CHECK_EQ_U64(batch->count, 1);
    return batch;
}

tr_batch *rig_turn_take(struct rig *rig, tr_turn_id turn)
{
    tr_batch *batch = NULL;
    int result = tr_turn_wait(rig->manager, turn, NULL, RIG_PATIENCE_NS, 1, &batch);
    CHECK_EQ_INT(result, TR_WAIT_ITEMS);
    return one(1, batch);
}

tr_batch *rig_loop_take(struct rig *rig, tr_session_id session)
{
    tr_batch *batch = NULL;
    int count = tr_loop_take(rig->manager, session, RIG_PATIENCE_NS, 1, &batch);
    return one(count, batch);
}

tr_batch *rig_ready_take(struct rig *rig, tr_session_id session)
{
    tr_batch *batch = NULL;
    int count = tr_ready_take(rig->manager, session, RIG_PATIENCE_NS, 1, &batch);
    return one(count, batch);
}

tr_batch *rig_queue_take(tr_queue *queue)
{
    tr_batch *batch = NULL;
    int count = tr_queue_drain(queue, RIG_PATIENCE_NS, 1, &batch);
    return one(count, batch);
}

void rig_turn_is_idle(struct rig *rig, tr_turn_id turn)
{
    tr_batch *batch = NULL;
    CHECK_EQ_INT(tr_turn_wait(rig->manager, turn, NULL, 0, 1, &batch), TR_WAIT_IDLE);
    CHECK_EQ_PTR(batch, NULL);
}

void rig_loop_is_empty(struct rig *rig, tr_session_id session)
{
    tr_batch *batch = NULL;
    int result = tr_loop_take(rig->manager, session, 0, 1, &batch);
    CHECK(result == 0 || result == TR_ECLOSED); /* the latter: nor will be */
    CHECK_EQ_PTR(batch, NULL);
}

void rig_ready_is_empty(struct rig *rig, tr_session_id session)
{
    tr_batch *batch = NULL;
    int result = tr_ready_take(rig->manager, session, 0, 1, &batch);
    CHECK(result == 0 || result == TR_ECLOSED); /* the latter: nor will be */
    CHECK_EQ_PTR(batch, NULL);
}

unsigned rig_turn_flush(struct rig *rig, tr_turn_id turn)
{
    unsigned count = 0;
    for (;;) {
        tr_batch *batch = NULL;
        int result = tr_turn_wait(rig->manager, turn, NULL, RIG_PATIENCE_NS, 64, &batch);
        CHECK(result == TR_WAIT_ITEMS || result == TR_WAIT_IDLE);
        if (result == TR_WAIT_IDLE) {
            return count;
        }
        count += (unsigned)batch->count;
        tr_batch_release(batch);
    }
}

unsigned rig_loop_flush(struct rig *rig, tr_session_id session)
{
    unsigned count = 0;
    for (;;) {
        tr_batch *batch = NULL;
        int result = tr_loop_take(rig->manager, session, 0, 64, &batch);
        CHECK(result >= 0 || result == TR_ECLOSED || result == TR_ENOENT);
        if (result <= 0) {
            return count;
        }
        count += (unsigned)batch->count;
        tr_batch_release(batch);
    }
}

void rig_check(const tr_batch *batch, tr_task_id task, tr_outcome outcome)
{
    CHECK_EQ_U64(batch->count, 1);
    CHECK_EQ_INT(batch->items[0].type, TR_ITEM_RESOLUTION);
    CHECK_EQ_U64(batch->items[0].task, task);
    CHECK_EQ_INT(batch->items[0].outcome, outcome);
}

void rig_check_release(tr_batch *batch, tr_task_id task, tr_outcome outcome)
{
    rig_check(batch, task, outcome);
    tr_batch_release(batch);
}

tr_bytes rig_bytes(const char *text)
{
    tr_bytes bytes = {text, strlen(text)};
    return bytes;
}

bool rig_bytes_are(tr_bytes bytes, const char *text)
{
    size_t size = strlen(text);
    return bytes.size == size && (size == 0 || memcmp(bytes.data, text, size) == 0);
}

tr_snapshot rig_snapshot(struct rig *rig, tr_task_id task)
{
    tr_snapshot snapshot;
    memset(&snapshot, 0, sizeof snapshot);
    CHECK_EQ_INT(tr_task_snapshot(rig->manager, task, &snapshot), 0);
    CHECK_EQ_U64(snapshot.task, task);
    return snapshot;
}

void rig_await_state(struct rig *rig, tr_task_id task, tr_state state)
{
    WAIT_UNTIL(rig_snapshot(rig, task).state == state, RIG_PATIENCE_SECONDS);
}

/* ---- threads of a test ---- */

pthread_t rig_thread(void *(*function)(void *argument), void *argument)
{
    pthread_t thread;
    CHECK_EQ_INT(pthread_create(&thread, NULL, function, argument), 0);
    return thread;
}

void rig_join(pthread_t thread)
{
    CHECK_EQ_INT(pthread_join(thread, NULL), 0);
}
