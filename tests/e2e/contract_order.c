/*
 * G1, one outcome: a resolution is terminal. Nothing of a task comes after it, through whatever
 * channel: a host may forget all about the task when it has taken it.
 */
#include "support/host.h"

enum {
    ROUNDS = 20000,
};

struct course {
    struct rig rig;
    tr_queue *queue;
    tr_tool_id deferred;
    tr_task_id task; /* atomic; 0: none yet */
    bool over;       /* atomic */
    pthread_barrier_t barrier;
};

static int run_deferred(tr_call *call, void *context)
{
    (void)call;
    (void)context;
    return TR_DEFERRED;
}

static tr_permit ask(void *context, const tr_request *request, unsigned approvals,
                     tr_permit_answer *answer)
{
    (void)context;
    (void)approvals;
    (void)answer;
    return request->input.size > 0 ? TR_PERMIT_ASK : TR_PERMIT_ALLOW;
}

/* A session whose channels all go to one queue. */
static void course_open(struct course *self)
{
    tr_config config = TR_CONFIG_INIT;
    tr_session_options options = TR_SESSION_OPTIONS_INIT;
    memset(self, 0, sizeof *self);
    config.permit = ask;
    rig_open(&self->rig, RIG_THREADED, &config);
    CHECK_EQ_INT(tr_queue_open(self->rig.manager, &self->queue), 0);
    options.queue = self->queue;
    CHECK_EQ_INT(tr_session_open(self->rig.manager, &options, &self->rig.session), 0);
    self->rig.turn = rig_turn(&self->rig, self->rig.session);
    self->deferred = rig_tool(&self->rig, "later", run_deferred, NULL);
    CHECK_EQ_INT(pthread_barrier_init(&self->barrier, NULL, 2), 0);
}

static void course_close(struct course *self, pthread_t thread)
{
    __atomic_store_n(&self->over, true, __ATOMIC_RELEASE);
    (void)pthread_barrier_wait(&self->barrier);
    rig_join(thread);
    CHECK_EQ_INT(pthread_barrier_destroy(&self->barrier), 0);
    rig_close(&self->rig);
}

/* Takes items of the task until its resolution has come, which must be the last of `count`. */
static void expect_last(struct course *self, tr_task_id task, unsigned count)
{
    unsigned seen = 0;
    for (bool resolved = false; !resolved;) {
        tr_batch *batch = rig_queue_take(self->queue);
        CHECK_EQ_U64(batch->items[0].task, task);
        resolved = batch->items[0].type == TR_ITEM_RESOLUTION;
        seen++;
        tr_batch_release(batch);
    }
    CHECK_EQ_INT(seen, count);
}

static void *finish_each(void *argument)
{
    struct course *self = argument;
    for (;;) {
        (void)pthread_barrier_wait(&self->barrier);
        if (__atomic_load_n(&self->over, __ATOMIC_ACQUIRE)) {
            return NULL;
        }
        (void)tr_finish((tr_deferred){self->rig.manager, self->task}, 0, NULL, 0);
        (void)pthread_barrier_wait(&self->barrier);
    }
}

CASE_TIMEOUT(contract_order, a_detach_comes_before_the_resolution, 120)
{
    static struct course self;
    course_open(&self);
    pthread_t thread = rig_thread(finish_each, &self);
    for (unsigned round = 0; round < ROUNDS; round++) {
        self.task = rig_launch(&self.rig, self.deferred, NULL, TR_ROUTE_FOREGROUND);
        WAIT_UNTIL(rig_snapshot(&self.rig, self.task).deferred, RIG_PATIENCE_SECONDS);
        (void)pthread_barrier_wait(&self.barrier);
        int error = tr_task_detach(self.rig.manager, self.task);
        (void)pthread_barrier_wait(&self.barrier);
        CHECK(error == 0 || error == TR_EALREADY);
        expect_last(&self, self.task, error == 0 ? 2 : 1);
    }
    course_close(&self, thread);
}

static void *interrupt_always(void *argument)
{
    struct course *self = argument;
    while (!__atomic_load_n(&self->over, __ATOMIC_ACQUIRE)) {
        CHECK(tr_turn_interrupt(self->rig.manager, self->rig.turn, NULL) >= 0);
    }
    (void)pthread_barrier_wait(&self->barrier);
    return NULL;
}

/* An interrupt may come before the request was made: then there is none. */
CASE_TIMEOUT(contract_order, a_request_comes_before_the_resolution, 120)
{
    static struct course self;
    course_open(&self);
    pthread_t thread = rig_thread(interrupt_always, &self);
    for (unsigned round = 0; round < ROUNDS; round++) {
        tr_request request = TR_REQUEST_INIT(self.rig.turn, self.deferred);
        request.input = rig_bytes("ask");
        tr_task_id task = rig_launch_request(&self.rig, &request).task;
        unsigned seen = 0;
        for (bool resolved = false; !resolved;) {
            tr_batch *batch = rig_queue_take(self.queue);
            CHECK_EQ_U64(batch->items[0].task, task); /* of one before: it came too late */
            resolved = batch->items[0].type == TR_ITEM_RESOLUTION;
            seen++;
            tr_batch_release(batch);
        }
        CHECK(seen <= 2);
    }
    course_close(&self, thread);
}
