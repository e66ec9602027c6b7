/*
 * The races of ending: cancel, detach, attach, interrupt, timeouts and tr_finish against each other
 * and against the end. Each task has one resolution, whoever wins.
 */
#include "support/host.h"

/* ---- races: each task has one resolution, whoever wins ---- */

enum {
    RACE_TASKS = 1500,
    RACE_STEERERS = 3,
};

struct race {
    struct rig *rig;
    struct gate *gate;
    tr_task_id tasks[RACE_TASKS]; /* atomic; 0 until launched */
    unsigned char seen[RACE_TASKS];
    unsigned seed;
};

static struct race race;

static void steer(struct race *self, tr_task_id task, unsigned what)
{
    tr_manager *manager = self->rig->manager;
    int error = what == 0   ? tr_task_cancel(manager, task, "race")
                : what == 1 ? tr_task_detach(manager, task)
                : what == 2 ? tr_task_attach(manager, task)
                : what == 3 ? tr_task_set_delivery(manager, task, TR_DELIVERY_MANUAL)
                : what == 4 ? tr_task_set_continue(manager, task, TR_CONTINUE_REQUEST)
                            : tr_turn_interrupt(manager, self->rig->turn, "race");
    CHECK(error >= 0 || error == TR_ENOENT || error == TR_EALREADY);
}

static void *steer_all(void *argument)
{
    struct race *self = argument;
    struct case_random random;
    case_random_init(&random, __atomic_fetch_add(&self->seed, 1, __ATOMIC_RELAXED));
    for (unsigned at = 0; at < RACE_TASKS; at++) {
        tr_task_id task = 0;
        while ((task = __atomic_load_n(&self->tasks[at], __ATOMIC_ACQUIRE)) == 0) {
            (void)sched_yield();
        }
        uint64_t draw = case_random_below(&random, 100);
        steer(self, task,
              draw < 30   ? 0
              : draw < 60 ? 1
              : draw < 75 ? 2
              : draw < 88 ? 3
              : draw < 98 ? 4
                          : 5);
        if (draw % 3 == 0) {
            tr_snapshot snapshot;
            int error = tr_task_snapshot(self->rig->manager, task, &snapshot);
            CHECK(error == 0 || error == TR_ENOENT);
        }
        if (draw % 7 == 0) {
            (void)tr_finish((tr_deferred){self->rig->manager, task}, 0, "raced", 5);
        }
    }
    return NULL;
}

/* Counts the resolutions of a batch. */
static unsigned mark(struct race *self, tr_batch *batch)
{
    unsigned count = 0;
    for (size_t at = 0; batch != NULL && at < batch->count; at++) {
        if (batch->items[at].type == TR_ITEM_RESOLUTION) {
            unsigned char *place = batch->items[at].user;
            CHECK(place >= self->seen && place < self->seen + RACE_TASKS);
            CHECK_EQ_INT(*place, 0);
            *place = 1;
            count++;
        }
    }
    tr_batch_release(batch);
    return count;
}

static int run_mixed(tr_call *call, void *context)
{
    static unsigned number;
    (void)context;
    unsigned kind = __atomic_fetch_add(&number, 1, __ATOMIC_RELAXED) % 3;
    if (kind == 0) {
        return tr_sleep(call, TR_MILLISECOND / 2);
    }
    return kind == 1 ? TR_DEFERRED : tr_result_copy(call, "mixed", 5);
}

static unsigned take_everything(struct race *self)
{
    struct rig *rig = self->rig;
    unsigned count = 0;
    tr_batch *batch = NULL;
    if (tr_turn_wait(rig->manager, rig->turn, NULL, 0, 64, &batch) == TR_WAIT_ITEMS) {
        count += mark(self, batch);
    }
    batch = NULL;
    CHECK(tr_loop_take(rig->manager, rig->session, 0, 64, &batch) >= 0);
    count += mark(self, batch);
    batch = NULL;
    CHECK(tr_ready_take(rig->manager, rig->session, 0, 64, &batch) >= 0);
    return count + mark(self, batch);
}

CASE_TIMEOUT(race, races_of_ending_with_everything, 120)
{
    struct rig rig;
    pthread_t threads[RACE_STEERERS];
    tr_config config = TR_CONFIG_INIT;
    config.tasks_max = 200; /* slots come back quickly: stale ids abound */
    rig_open(&rig, RIG_THREADED, &config);
    memset(&race, 0, sizeof race);
    race.rig = &rig;
    tr_tool tools[] = {TR_TOOL_INIT("mixed", run_mixed), TR_TOOL_INIT("mixed plain", run_mixed)};
    tr_tool_id ids[2];
    tools[0].flags = TR_TOOL_AWAITING;
    for (unsigned at = 0; at < 2; at++) {
        tools[at].options.total_timeout_ns = 20 * TR_MILLISECOND; /* nobody finishes some */
        CHECK_EQ_INT(tr_tool_register(rig.manager, &tools[at], &ids[at]), 0);
    }
    for (unsigned at = 0; at < RACE_STEERERS; at++) {
        threads[at] = rig_thread(steer_all, &race);
    }
    unsigned taken = 0;
    for (unsigned at = 0; at < RACE_TASKS; at++) {
        tr_request request = TR_REQUEST_INIT(rig.turn, ids[at % 2]);
        tr_launched launched;
        request.user = &race.seen[at];
        request.options.route = at % 3 == 0   ? TR_ROUTE_BACKGROUND
                                : at % 3 == 1 ? TR_ROUTE_FOREGROUND
                                              : TR_ROUTE_DETACH_AFTER;
        request.options.detach_after_ns = TR_MILLISECOND;
        while (tr_launch(rig.manager, &request, &launched) == TR_EAGAIN) {
            taken += take_everything(&race);
        }
        CHECK_EQ_INT(launched.status, TR_PENDING);
        __atomic_store_n(&race.tasks[at], launched.task, __ATOMIC_RELEASE);
    }
    WAIT_UNTIL((taken += take_everything(&race)) == RACE_TASKS, 60);
    for (unsigned at = 0; at < RACE_STEERERS; at++) {
        rig_join(threads[at]);
    }
    rig_wait_idle(&rig);
    CHECK_EQ_INT(take_everything(&race), 0);
    rig_turn_is_idle(&rig, rig.turn);
    WAIT_UNTIL(rig_stats(&rig).tasks_used == 0, RIG_PATIENCE_SECONDS);
    rig_close(&rig);
}
