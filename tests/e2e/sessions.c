/*
 * Ten thousand sessions on one thread: an event loop over a few drain queues, each session an agent
 * that launches its next calls when its turn has become idle.
 */
#include <stdlib.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "support/host.h"

enum {
    QUEUES = 4,
    STEPS = 3, /* of each session: two foreground calls and a background one each */
#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
    SESSIONS = 2000,
#else
    SESSIONS = 10000,
#endif
};

struct agent {
    tr_session_id session;
    tr_turn_id turn;
    unsigned step;   /* steps begun */
    unsigned front;  /* foreground resolutions taken */
    unsigned behind; /* background ones */
    unsigned idle;   /* items that said: idle */
};

struct loop {
    struct rig *rig;
    struct agent *agents;
    tr_queue *queues[QUEUES];
    int epoll;
    unsigned finished;
};

static void begin_step(struct loop *self, struct agent *agent)
{
    tr_request requests[3];
    tr_launched launched[3];
    for (unsigned at = 0; at < 3; at++) {
        requests[at] = (tr_request)TR_REQUEST_INIT(agent->turn, self->rig->nothing);
        requests[at].user = agent;
        requests[at].options.route = at == 2 ? TR_ROUTE_BACKGROUND : TR_ROUTE_FOREGROUND;
    }
    agent->step += 1;
    CHECK_EQ_INT(tr_launch_batch(self->rig->manager, requests, 3, launched), 3);
}

static void take(struct loop *self, const tr_item *item)
{
    struct agent *agent = item->user;
    CHECK_EQ_INT(item->type, TR_ITEM_RESOLUTION);
    CHECK_EQ_INT(item->outcome, TR_OUTCOME_COMPLETED);
    CHECK_EQ_U64(item->session, agent->session);
    CHECK_EQ_PTR(item->session_user, agent);
    agent->front += item->kind == TR_KIND_FOREGROUND;
    agent->behind += item->kind == TR_KIND_BACKGROUND;
    if ((item->flags & TR_ITEM_TURN_IDLE) != 0) {
        agent->idle += 1;
        /* Two calls launched together may settle one by one: idle between them is no idleness of
         * the step. */
        if (agent->front == 2 * agent->step && agent->step < STEPS) {
            begin_step(self, agent);
        }
    }
    self->finished += agent->front == 2 * STEPS && agent->behind == STEPS;
}

static void open_all(struct loop *self)
{
    self->epoll = epoll_create1(EPOLL_CLOEXEC);
    CHECK(self->epoll >= 0);
    for (unsigned at = 0; at < QUEUES; at++) {
        struct epoll_event event = {.events = EPOLLIN, .data.u32 = at};
        CHECK_EQ_INT(tr_queue_open(self->rig->manager, &self->queues[at]), 0);
        CHECK_EQ_INT(epoll_ctl(self->epoll, EPOLL_CTL_ADD, tr_queue_fd(self->queues[at]), &event),
                     0);
    }
    for (unsigned at = 0; at < SESSIONS; at++) {
        struct agent *agent = &self->agents[at];
        tr_session_options options = TR_SESSION_OPTIONS_INIT;
        options.queue = self->queues[at % QUEUES];
        options.user = agent;
        CHECK_EQ_INT(tr_session_open(self->rig->manager, &options, &agent->session), 0);
        CHECK_EQ_INT(tr_turn_open(self->rig->manager, agent->session, NULL, &agent->turn), 0);
    }
}

static void turn_the_loop(struct loop *self)
{
    struct epoll_event events[QUEUES];
    int count = epoll_wait(self->epoll, events, QUEUES, RIG_PATIENCE_SECONDS * 1000);
    CHECK(count > 0);
    for (int at = 0; at < count; at++) {
        tr_queue *queue = self->queues[events[at].data.u32];
        tr_batch *batch = NULL;
        int items = 0;
        while ((items = tr_queue_drain(queue, 0, 256, &batch)) > 0) {
            for (int item = 0; item < items; item++) {
                take(self, &batch->items[item]);
            }
            tr_batch_release(batch);
        }
        CHECK_EQ_INT(items, 0);
    }
}

static void check_loop(enum rig_mode mode)
{
    struct rig rig;
    tr_config config = TR_CONFIG_INIT;
    config.sessions_max = SESSIONS + 1; /* the rig has one */
    config.turns_max = SESSIONS + 1;
    config.tasks_max = 3 * SESSIONS * STEPS;
    rig_open(&rig, mode, &config);
    struct loop self = {.rig = &rig, .agents = calloc(SESSIONS, sizeof(struct agent))};
    CHECK(self.agents != NULL);
    open_all(&self);
    for (unsigned at = 0; at < SESSIONS; at++) {
        begin_step(&self, &self.agents[at]);
    }
    while (self.finished < SESSIONS) {
        turn_the_loop(&self);
    }
    for (unsigned at = 0; at < SESSIONS; at++) {
        struct agent *agent = &self.agents[at];
        CHECK(agent->idle >= STEPS);
        CHECK_EQ_INT(tr_session_close(rig.manager, agent->session, 0), 0);
    }
    CHECK_EQ_U64(rig_stats(&rig).completed, 3 * STEPS * (uint64_t)SESSIONS);
    CHECK_EQ_U64(rig_stats(&rig).sessions_used, 1);
    CHECK_EQ_U64(rig_stats(&rig).turns_used, 1);
    for (unsigned at = 0; at < QUEUES; at++) {
        CHECK_EQ_INT(tr_queue_close(self.queues[at]), 0);
    }
    CHECK_EQ_INT(close(self.epoll), 0);
    rig_close(&rig);
    free(self.agents);
}

CASE_TIMEOUT(sessions, ten_thousand_on_one_thread, 120)
{
    check_loop(RIG_THREADED);
}

CASE_TIMEOUT(sessions, ten_thousand_on_one_thread_inline, 120)
{
    check_loop(RIG_INLINE);
}
