/*
 * Cancel hooks end to end: who calls them, when, how often; taking them back; awaiting a cancel.
 */
#include <semaphore.h>

#include "support/host.h"

/* Hears of a cancel, and counts. */
struct ear {
    sem_t entered; /* the function is about to wait or to return */
    sem_t heard;   /* the hook was called */
    _Atomic unsigned calls;
    _Atomic unsigned releases;
    _Atomic bool hook_done;
    pthread_t hook_thread;
    sem_t *hold; /* the hook waits for this, if set */
    sem_t held;
    int status;    /* of what the function tried */
    bool is_timed; /* a timeout of the call may be quicker than its function … */
    bool is_late;  /* … and was */
    tr_deferred deferred;
    tr_token *token;
    tr_task_id other;
    struct rig *rig;
};

static void ear_init(struct ear *ear, struct rig *rig)
{
    memset(ear, 0, sizeof *ear);
    ear->rig = rig;
    CHECK_EQ_INT(sem_init(&ear->entered, 0, 0), 0);
    CHECK_EQ_INT(sem_init(&ear->heard, 0, 0), 0);
    CHECK_EQ_INT(sem_init(&ear->held, 0, 0), 0);
}

static void await(sem_t *semaphore)
{
    while (sem_wait(semaphore) != 0) {
        /* a signal; the case's own time limit ends a hang */
    }
}

static void hear(void *context)
{
    struct ear *ear = context;
    ear->hook_thread = pthread_self();
    ear->calls++;
    if (ear->hold != NULL) {
        (void)sem_post(&ear->held);
        await(ear->hold);
    }
    ear->hook_done = true;
    (void)sem_post(&ear->heard);
}

static void release(void *context)
{
    ((struct ear *)context)->releases++;
}

/* The hook has been called and its context released: the ear may go. */
static void await_heard(struct ear *ear)
{
    await(&ear->heard);
    WAIT_UNTIL(ear->releases == 1, RIG_PATIENCE_SECONDS);
}

/* Registers a hook, leaves its handle, and is deferred. */
static int run_listen(tr_call *call, void *context)
{
    struct ear *ear = tr_call_user(call);
    (void)context;
    ear->deferred = tr_call_defer(call);
    int error = tr_call_on_cancel(call, hear, ear, release);
    if (error == TR_ECANCELED && ear->is_timed) { /* too slow: as if it had been called */
        ear->is_late = true;
        hear(ear);
        release(ear);
        error = 0;
    }
    CHECK_EQ_INT(error, 0);
    (void)sem_post(&ear->entered);
    return TR_DEFERRED;
}

/* Registers a hook and blocks its thread until the hook tells it to come back. */
static int run_block(tr_call *call, void *context)
{
    struct ear *ear = tr_call_user(call);
    (void)context;
    ear->deferred = tr_call_defer(call);
    CHECK_EQ_INT(tr_call_on_cancel(call, hear, ear, release), 0);
    (void)sem_post(&ear->entered);
    await(&ear->heard);
    CHECK_EQ_INT(tr_call_off_cancel(call, hear, ear), TR_EALREADY);
    return TR_ECANCELED;
}

/* A launch on a thread of its own: an inline manager's blocks. */
struct launch {
    struct rig *rig;
    tr_request request;
    tr_launched launched;
    pthread_t thread;
};

static void *launch_main(void *argument)
{
    struct launch *self = argument;
    self->launched = rig_launch_request(self->rig, &self->request);
    return NULL;
}

static void launch_begin(struct launch *self, struct rig *rig, tr_tool_id tool, struct ear *ear,
                         uint64_t timeout_ns)
{
    tr_request request = TR_REQUEST_INIT(rig->turn, tool);
    request.user = ear;
    request.options.run_timeout_ns = timeout_ns;
    ear->is_timed = timeout_ns != 0;
    request.options.lifetime = TR_LIFETIME_SESSION;
    self->rig = rig;
    self->request = request;
    self->thread = rig_thread(launch_main, self);
    await(&ear->entered);
}

enum end {
    END_CANCEL,
    END_INTERRUPT,
    END_TURN,
    END_SESSION,
    END_TIMEOUT,
    END_CLOSE,
    ENDS,
};

static void end_by(struct rig *rig, struct ear *ear, enum end end)
{
    switch (end) {
    case END_CANCEL:
        CHECK_EQ_INT(tr_task_cancel(rig->manager, ear->deferred.task, "enough"), 0);
        break;
    case END_INTERRUPT:
        CHECK_EQ_INT(tr_turn_interrupt(rig->manager, rig->turn, "enough"), 1);
        break;
    case END_TURN:
        CHECK_EQ_INT(tr_turn_close(rig->manager, rig->turn, 0), 0);
        break;
    case END_SESSION:
        CHECK_EQ_INT(tr_session_close(rig->manager, rig->session, 0), 0);
        break;
    case END_CLOSE:
        CHECK_EQ_INT(tr_manager_close(rig->manager, 0), 0);
        break;
    default:
        break; /* the time ends it */
    }
}

/* Every way to be asked to stop calls the hook of a deferred call once, and releases it after. */
static void check_ends(enum rig_mode mode, enum end end)
{
    struct rig rig;
    struct ear ear;
    struct launch launch;
    rig_open(&rig, mode, NULL);
    ear_init(&ear, &rig);
    tr_tool_id tool = rig_tool(&rig, "listen", run_listen, NULL);
    uint64_t timeout = end == END_TIMEOUT ? 2 * TR_MILLISECOND : 0;
    launch_begin(&launch, &rig, tool, &ear, timeout);
    end_by(&rig, &ear, end);
    await(&ear.heard);
    rig_join(launch.thread);
    int result = tr_finish(ear.deferred, 0, "late", 4);
    CHECK(result == TR_EALREADY || result == TR_ENOENT);
    if (end != END_CLOSE) {
        CHECK_EQ_INT(tr_manager_close(rig.manager, 0), 0);
    }
    CHECK_EQ_INT(ear.calls, 1);
    CHECK_EQ_INT(ear.releases, 1);
    CHECK_EQ_U64(rig_stats(&rig).cancelled + rig_stats(&rig).timed_out, 1);
    rig_free(&rig);
}

CASE_TIMEOUT(hooks, deferred_calls_hear_of_every_end, RIG_TIMEOUT_SECONDS)
{
    for (unsigned round = 0; round < 5; round++) {
        for (unsigned end = 0; end < ENDS; end++) {
            check_ends(RIG_THREADED, (enum end)end);
            check_ends(RIG_INLINE, (enum end)end);
        }
    }
}

BOTH(hooks, finishing_drops_them)
{
    struct ear ear;
    struct launch launch;
    tr_tool_id tool = rig_tool(rig, "listen", run_listen, NULL);
    ear_init(&ear, rig);
    launch_begin(&launch, rig, tool, &ear, 0);
    rig_await_state(rig, ear.deferred.task, TR_STATE_WAITING); /* its function has returned */
    CHECK_EQ_INT(ear.releases, 0);
    CHECK_EQ_INT(tr_finish(ear.deferred, 0, "done", 4), 0);
    CHECK_EQ_INT(ear.releases, 1); /* before tr_finish returned */
    rig_join(launch.thread);
    CHECK_EQ_INT(tr_task_cancel(rig->manager, ear.deferred.task, NULL), TR_EALREADY);
    tr_batch *batch = rig_turn_take(rig, rig->turn);
    rig_check(batch, ear.deferred.task, TR_OUTCOME_COMPLETED);
    CHECK_EQ_INT(batch->items[0].flags & TR_ITEM_ABANDONED, 0);
    tr_batch_release(batch);
    CHECK_EQ_INT(ear.calls, 0);
    CHECK_EQ_INT(ear.releases, 1);
}

BOTH(hooks, bring_a_blocked_function_back)
{
    struct ear ear;
    struct launch launch;
    tr_tool_id tool = rig_tool(rig, "block", run_block, NULL);
    for (unsigned end = END_CANCEL; end <= END_INTERRUPT; end++) {
        ear_init(&ear, rig);
        launch_begin(&launch, rig, tool, &ear, 0);
        end_by(rig, &ear, (enum end)end);
        rig_join(launch.thread);
        rig_check_release(rig_turn_take(rig, rig->turn), launch.launched.task,
                          TR_OUTCOME_CANCELLED);
        WAIT_UNTIL(rig_stats(rig).abandoned == 0, RIG_PATIENCE_SECONDS);
        CHECK_EQ_INT(ear.calls, 1);
        CHECK_EQ_INT(ear.releases, 1);
    }
}

/* A ring that times a call out, and whoever cancels, run no code of a tool's. */
THREADED(hooks, run_on_a_thread_of_their_own)
{
    struct ear ears[2];
    struct launch launch;
    tr_tool_id tool = rig_tool(rig, "listen", run_listen, NULL);
    for (unsigned at = 0; at < 2; at++) {
        ear_init(&ears[at], rig);
        launch_begin(&launch, rig, tool, &ears[at], at == 0 ? 0 : TR_MILLISECOND);
        end_by(rig, &ears[at], at == 0 ? END_CANCEL : END_TIMEOUT);
        await_heard(&ears[at]);
        CHECK(!pthread_equal(ears[at].hook_thread, pthread_self()));
        rig_join(launch.thread);
        tr_batch_release(rig_turn_take(rig, rig->turn));
    }
    CHECK(ears[1].is_late || pthread_equal(ears[0].hook_thread, ears[1].hook_thread));
}

/* What a hook may do: end its call (too late), cancel another, end a host's waiting; and no lock is
 * held, so that it may look as well. */
static void meddle(void *context)
{
    struct ear *ear = context;
    tr_snapshot snapshot;
    tr_cursor cursor = {0, 0};
    CHECK_EQ_INT(tr_finish(ear->deferred, 0, "x", 1), TR_EALREADY);
    CHECK_EQ_INT(tr_task_cancel(ear->rig->manager, ear->other, "too"), 0);
    tr_token_cancel(ear->token);
    CHECK(tr_task_list(ear->rig->manager, NULL, &cursor, &snapshot, 1) >= 0);
    ear->calls++;
    (void)sem_post(&ear->heard);
}

static int run_meddle(tr_call *call, void *context)
{
    struct ear *ear = tr_call_user(call);
    (void)context;
    ear->deferred = tr_call_defer(call);
    CHECK_EQ_INT(tr_call_on_cancel(call, meddle, ear, release), 0);
    (void)sem_post(&ear->entered);
    return TR_DEFERRED;
}

static void *wait_for_token(void *argument)
{
    struct ear *ear = argument;
    tr_batch *batch = NULL;
    tr_turn_id turn = rig_turn(ear->rig, ear->rig->session);
    tr_request request = TR_REQUEST_INIT(turn, ear->rig->deferred);
    tr_launched launched;
    struct gate gate;
    gate_init(&gate);
    request.user = &gate;
    if (ear->rig->mode == RIG_THREADED) { /* so that the turn is not idle */
        launched = rig_launch_request(ear->rig, &request);
        gate_await_entered(&gate, 1);
        CHECK_EQ_INT(tr_turn_wait(ear->rig->manager, turn, ear->token, TR_FOREVER, 1, &batch),
                     TR_ECANCELED);
        CHECK_EQ_INT(tr_finish(gate.deferred[0], 0, NULL, 0), 0);
        rig_check_release(rig_turn_take(ear->rig, turn), launched.task, TR_OUTCOME_COMPLETED);
    }
    gate_done(&gate);
    return NULL;
}

BOTH(hooks, may_call_the_library)
{
    struct ear ear;
    struct ear other;
    struct launch first;
    struct launch second;
    ear_init(&ear, rig);
    ear_init(&other, rig);
    CHECK_EQ_INT(tr_token_open(&ear.token), 0);
    pthread_t waiter = rig_thread(wait_for_token, &ear);
    launch_begin(&first, rig, rig_tool(rig, "listen", run_listen, NULL), &other, 0);
    rig_await_state(rig, other.deferred.task, TR_STATE_WAITING);
    CHECK_EQ_INT(tr_task_detach(rig->manager, other.deferred.task), 0); /* not interrupted */
    ear.other = other.deferred.task;
    launch_begin(&second, rig, rig_tool(rig, "meddle", run_meddle, NULL), &ear, 0);
    rig_await_state(rig, ear.deferred.task, TR_STATE_WAITING);
    CHECK_EQ_INT(tr_turn_interrupt(rig->manager, rig->turn, NULL), 1); /* under a lock of its own */
    await_heard(&ear);
    await_heard(&other); /* the hook's own cancel called the other's hook */
    rig_join(first.thread);
    rig_join(second.thread);
    rig_join(waiter);
    tr_token_close(ear.token);
    (void)rig_turn_flush(rig, rig->turn);
    (void)rig_loop_flush(rig, rig->session);
}

/* ---- taking back ---- */

static int run_take_back(tr_call *call, void *context)
{
    struct ear *ear = tr_call_user(call);
    (void)context;
    ear->deferred = tr_call_defer(call);
    CHECK_EQ_INT(tr_call_on_cancel(NULL, hear, ear, NULL), TR_EINVAL);
    CHECK_EQ_INT(tr_call_on_cancel(call, NULL, ear, NULL), TR_EINVAL);
    CHECK_EQ_INT(tr_call_off_cancel(NULL, hear, ear), TR_EINVAL);
    CHECK_EQ_INT(tr_call_off_cancel(call, hear, ear), TR_ENOENT);
    for (unsigned round = 0; round < 2; round++) {
        for (unsigned at = 0; at < TR_CANCEL_HOOKS_MAX; at++) {
            CHECK_EQ_INT(tr_call_on_cancel(call, hear, ear, release), 0);
        }
        CHECK_EQ_INT(tr_call_on_cancel(call, hear, ear, release), TR_ELIMIT);
        CHECK_EQ_INT(tr_call_off_cancel(call, hear, call), TR_ENOENT);
        CHECK_EQ_INT(tr_call_off_cancel(call, release, ear), TR_ENOENT);
        for (unsigned at = 0; at < TR_CANCEL_HOOKS_MAX; at++) {
            CHECK_EQ_INT(tr_call_off_cancel(call, hear, ear), 0);
        }
        CHECK_EQ_INT(tr_call_off_cancel(call, hear, ear), TR_ENOENT);
    }
    CHECK_EQ_INT(tr_call_output_bytes_max(call), 1u << 20); /* the manager's, as without hooks */
    (void)sem_post(&ear->entered);
    (void)tr_call_await_cancel(call, TR_FOREVER);
    CHECK_EQ_INT(tr_call_on_cancel(call, hear, ear, release), TR_ECANCELED);
    (void)sem_post(&ear->heard);
    return 0;
}

BOTH(hooks, taken_back_they_are_not_called)
{
    struct ear ear;
    struct launch launch;
    ear_init(&ear, rig);
    launch_begin(&launch, rig, rig_tool(rig, "take back", run_take_back, NULL), &ear, 0);
    end_by(rig, &ear, END_CANCEL);
    await(&ear.heard);
    rig_join(launch.thread);
    rig_check_release(rig_turn_take(rig, rig->turn), launch.launched.task, TR_OUTCOME_CANCELLED);
    CHECK_EQ_INT(ear.calls, 0);
    CHECK_EQ_INT(ear.releases, 0); /* the context was the tool's again */
}

/* Takes its hook back while that is running, or returns (status): what comes after knows that it is
 * not running any more. */
static int run_wait_off(tr_call *call, void *context)
{
    struct ear *ear = tr_call_user(call);
    (void)context;
    ear->deferred = tr_call_defer(call);
    CHECK_EQ_INT(tr_call_on_cancel(call, hear, ear, release), 0);
    (void)sem_post(&ear->entered);
    await(&ear->held);
    (void)sem_post(&ear->entered);
    if (ear->status == 0) {
        CHECK_EQ_INT(tr_call_off_cancel(call, hear, ear), TR_EALREADY);
        CHECK(ear->hook_done);
        CHECK_EQ_INT(ear->releases, 1);
    }
    return ear->status;
}

static void *cancel_main(void *argument)
{
    struct ear *ear = argument;
    end_by(ear->rig, ear, END_CANCEL);
    return NULL;
}

static void check_waits(struct rig *rig, int status)
{
    struct ear ear;
    struct launch launch;
    sem_t hold;
    ear_init(&ear, rig);
    CHECK_EQ_INT(sem_init(&hold, 0, 0), 0);
    ear.hold = &hold;
    ear.status = status;
    launch_begin(&launch, rig, rig_tool(rig, "waits", run_wait_off, NULL), &ear, 0);
    pthread_t thread = rig_thread(cancel_main, &ear);
    await(&ear.entered);
    CHECK(!ear.hook_done);
    (void)sem_post(&hold);
    rig_join(thread);
    rig_join(launch.thread);
    WAIT_UNTIL(rig_stats(rig).abandoned == 0, RIG_PATIENCE_SECONDS);
    CHECK(ear.hook_done);
    CHECK_EQ_INT(ear.calls, 1);
    rig_check_release(rig_turn_take(rig, rig->turn), launch.launched.task, TR_OUTCOME_CANCELLED);
}

BOTH(hooks, taking_back_waits_for_a_running_one)
{
    check_waits(rig, 0);
}

BOTH(hooks, returning_waits_for_a_running_one)
{
    check_waits(rig, TR_ETOOL);
}

static int run_forget(tr_call *call, void *context)
{
    struct ear *ear = tr_call_user(call);
    (void)context;
    CHECK_EQ_INT(tr_call_on_cancel(call, hear, ear, release), 0);
    CHECK_EQ_INT(tr_call_on_cancel(call, hear, ear, NULL), 0);
    return ear->status;
}

BOTH(hooks, forgotten_ones_are_dropped_at_the_return)
{
    tr_tool_id tool = rig_tool(rig, "forget", run_forget, NULL);
    for (unsigned at = 0; at < 50; at++) { /* the record is reused, with and without */
        struct ear ear;
        ear_init(&ear, rig);
        ear.status = at % 2 == 0 ? 0 : TR_ETOOL;
        tr_task_id task = rig_launch(rig, tool, &ear, TR_ROUTE_FOREGROUND);
        rig_check_release(rig_turn_take(rig, rig->turn), task,
                          at % 2 == 0 ? TR_OUTCOME_COMPLETED : TR_OUTCOME_FAILED);
        CHECK_EQ_INT(ear.calls, 0);
        CHECK_EQ_INT(ear.releases, 1);
        task = rig_launch(rig, rig->nothing, NULL, TR_ROUTE_FOREGROUND);
        rig_check_release(rig_turn_take(rig, rig->turn), task, TR_OUTCOME_COMPLETED);
    }
}

/* ---- awaiting a cancel ---- */

static int run_await(tr_call *call, void *context)
{
    struct ear *ear = tr_call_user(call);
    (void)context;
    ear->deferred = tr_call_defer(call);
    CHECK_EQ_INT(tr_call_await_cancel(NULL, 0), TR_EINVAL);
    CHECK_EQ_INT(tr_call_await_cancel(call, 0), TR_ETIMEDOUT);
    CHECK_EQ_INT(tr_call_await_cancel(call, TR_MILLISECOND), TR_ETIMEDOUT);
    (void)sem_post(&ear->entered);
    CHECK_EQ_INT(tr_call_await_cancel(call, ear->status == 0 ? TR_FOREVER : RIG_PATIENCE_NS), 0);
    CHECK(tr_call_is_cancelled(call));
    CHECK_EQ_INT(tr_call_await_cancel(call, 0), 0);
    CHECK_EQ_INT(tr_call_await_cancel(call, TR_FOREVER), 0);
    ear->calls++;
    return 0;
}

static void check_await(struct rig *rig, uint32_t flags)
{
    tr_tool tool = TR_TOOL_INIT(flags == 0 ? "await plain" : "await", run_await);
    tr_tool_id id = 0;
    tool.flags = flags;
    CHECK_EQ_INT(tr_tool_register(rig->manager, &tool, &id), 0);
    for (int bounded = 0; bounded < 2; bounded++) {
        struct ear ear;
        struct launch launch;
        ear_init(&ear, rig);
        ear.status = bounded;
        launch_begin(&launch, rig, id, &ear, 0);
        end_by(rig, &ear, END_CANCEL);
        rig_join(launch.thread);
        rig_check_release(rig_turn_take(rig, rig->turn), launch.launched.task,
                          TR_OUTCOME_CANCELLED);
        WAIT_UNTIL(ear.calls == 1, RIG_PATIENCE_SECONDS);
        WAIT_UNTIL(rig_stats(rig).abandoned == 0, RIG_PATIENCE_SECONDS);
    }
}

BOTH(hooks, a_cancel_can_be_awaited)
{
    check_await(rig, TR_TOOL_AWAITING);
    check_await(rig, 0);
}
