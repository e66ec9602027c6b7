/*
 * G5, flat: what an operation costs depends on what it touches, not on what runs beside
 * it or has run before. Costs are this thread's own processor time, and the margin is wide: a cost
 * that grew with the crowd would be hundreds of times higher.
 */
#include <time.h>

#include "support/host.h"

enum {
    CROWD = 20000,
    REPEATS = 400,
    MARGIN = 20,
};

static int run_deferred(tr_call *call, void *context)
{
    (void)call;
    (void)context;
    return TR_DEFERRED;
}

static double cpu_seconds(void)
{
    struct timespec now;
    CHECK_EQ_INT(clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now), 0);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

struct flat {
    struct rig rig;
    tr_tool_id deferred;
    tr_session_id session;
    tr_turn_id turn;
    tr_task_id task;
};

typedef void (*operation)(struct flat *self);

static void interrupt_empty(struct flat *self)
{
    CHECK_EQ_INT(tr_turn_interrupt(self->rig.manager, self->rig.turn, NULL), 0);
}

static void list(struct flat *self, uint32_t states, bool of_turn)
{
    tr_snapshot snapshots[2];
    tr_cursor cursor = {0, 0};
    tr_filter filter = TR_FILTER_INIT;
    filter.session = self->session;
    filter.turn = of_turn ? self->turn : 0;
    filter.states = states;
    CHECK_EQ_INT(tr_task_list(self->rig.manager, &filter, &cursor, snapshots, 2), 1);
    CHECK_EQ_U64(snapshots[0].task, self->task);
}

static void list_turn(struct flat *self)
{
    list(self, 0, true);
}

static void list_session(struct flat *self)
{
    list(self, 0, false);
}

static void look_and_set(struct flat *self)
{
    tr_snapshot snapshot;
    CHECK_EQ_INT(tr_task_snapshot(self->rig.manager, self->task, &snapshot), 0);
    CHECK_EQ_INT(tr_task_set_delivery(self->rig.manager, self->task, TR_DELIVERY_MANUAL), 0);
    CHECK_EQ_INT(tr_task_attach(self->rig.manager, self->task), TR_EALREADY);
}

static void open_and_close(struct flat *self)
{
    tr_session_id session = rig_session(&self->rig);
    (void)rig_turn(&self->rig, session);
    CHECK_EQ_INT(tr_session_close(self->rig.manager, session, 0), 0);
}

static void launch_and_cancel(struct flat *self)
{
    tr_request request = TR_REQUEST_INIT(self->rig.turn, self->deferred);
    tr_launched launched;
    tr_batch *batch = NULL;
    CHECK_EQ_INT(tr_launch(self->rig.manager, &request, &launched), TR_PENDING);
    CHECK_EQ_INT(tr_task_cancel(self->rig.manager, launched.task, NULL), 0);
    CHECK_EQ_INT(tr_turn_wait(self->rig.manager, self->rig.turn, NULL, RIG_PATIENCE_NS, 1, &batch),
                 TR_WAIT_ITEMS);
    tr_batch_release(batch);
}

static const operation operations[] = {
    interrupt_empty, list_turn, list_session, look_and_set, open_and_close, launch_and_cancel,
};

#define OPERATIONS (sizeof operations / sizeof *operations)

static void measure(struct flat *self, double seconds[OPERATIONS])
{
    for (size_t at = 0; at < OPERATIONS; at++) {
        operations[at](self); /* warm */
        double before = cpu_seconds();
        for (unsigned round = 0; round < REPEATS; round++) {
            operations[at](self);
        }
        seconds[at] = cpu_seconds() - before;
    }
}

/* Tasks that wait, in many turns of many sessions. */
static void crowd_comes(struct flat *self)
{
    tr_session_id session = 0;
    tr_turn_id turn = 0;
    for (unsigned at = 0; at < CROWD; at++) {
        if (at % 20 == 0) {
            session = rig_session(&self->rig);
        }
        if (at % 10 == 0) {
            turn = rig_turn(&self->rig, session);
        }
        tr_request request = TR_REQUEST_INIT(turn, self->deferred);
        request.options.route = at % 2 == 0 ? TR_ROUTE_BACKGROUND : TR_ROUTE_FOREGROUND;
        tr_launched launched;
        CHECK_EQ_INT(tr_launch(self->rig.manager, &request, &launched), TR_PENDING);
    }
    WAIT_UNTIL(rig_stats(&self->rig).started >= CROWD, RIG_PATIENCE_SECONDS);
}

CASE_TIMEOUT(contract_flat, costs_do_not_grow_with_the_crowd, 120)
{
    struct flat self;
    double alone[OPERATIONS];
    double beside[OPERATIONS];
    struct rig *rig = &self.rig;
    rig_open(rig, RIG_THREADED, NULL);
    self.deferred = rig_tool(rig, "later", run_deferred, NULL);
    self.session = rig_session(rig);
    self.turn = rig_turn(rig, self.session);
    tr_request request = TR_REQUEST_INIT(self.turn, self.deferred);
    self.task = rig_launch_request(rig, &request).task;
    measure(&self, alone);
    crowd_comes(&self);
    measure(&self, beside);
    for (size_t at = 0; at < OPERATIONS; at++) {
        /* and a millisecond for what the machine does in between */
        if (beside[at] > MARGIN * alone[at] + 1e-3) {
            case_fail(__FILE__, __LINE__, "operation %zu: %g s alone, %g s beside %d", at,
                      alone[at], beside[at], CROWD);
        }
    }
    rig_shut(rig, 0);
    rig_free(rig);
}
