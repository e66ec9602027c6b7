/*
 * Each option can be given at launch, by the routing callback and as the
 * tool's default, and wins in this order. Route, delivery, continue policy and output cap are in
 * options.c; here are timeouts, lifetime and priority.
 */
#include "support/host.h"

/* ---- three levels ---- */

/* Values of one option: 0 is "not set". */
struct levels {
    uint64_t launch;
    uint64_t routed;
    uint64_t tool;
    uint64_t expected;
};

typedef void (*set_function)(tr_options *options, uint64_t value);

struct place {
    unsigned *next;
    unsigned number; /* in which order it ran */
};

struct levels_rig {
    struct rig rig;
    struct gate gate;
    tr_options routed;
    tr_task_id blocker;
};

static void route(void *context, const tr_request *request, tr_options *options)
{
    struct levels_rig *self = context;
    (void)request;
    *options = self->routed;
}

static int run_deferred(tr_call *call, void *context)
{
    (void)call;
    (void)context;
    return TR_DEFERRED;
}

static int run_number(tr_call *call, void *context)
{
    struct place *place = tr_call_user(call);
    (void)context;
    place->number = (*place->next)++; /* one worker: one after the other */
    return 0;
}

/* With `blocked` the only worker is kept busy until gate_open. */
static void levels_open(struct levels_rig *self, bool blocked)
{
    tr_config config = TR_CONFIG_INIT;
    tr_options none = TR_OPTIONS_INIT;
    self->routed = none;
    config.workers = blocked ? 1 : 0;
    config.substitutes_max = 1;
    config.slice_ns = blocked ? TR_FOREVER : 0;
    config.route = route;
    config.context = self;
    gate_init(&self->gate);
    rig_open(&self->rig, RIG_THREADED, &config);
    if (blocked) {
        self->blocker = rig_launch(&self->rig, self->rig.gate, &self->gate, TR_ROUTE_BACKGROUND);
        gate_await_entered(&self->gate, 1);
    }
}

static void levels_unblock(struct levels_rig *self)
{
    gate_open(&self->gate);
    rig_check_release(rig_loop_take(&self->rig, self->rig.session), self->blocker,
                      TR_OUTCOME_COMPLETED);
}

static void levels_close(struct levels_rig *self)
{
    rig_close(&self->rig);
    gate_done(&self->gate);
}

/* A request whose option has these values, on all three levels. */
static tr_request request_of(struct levels_rig *self, tr_tool_function function, set_function set,
                             const struct levels *levels)
{
    static unsigned number;
    static const char letters[] = "abcdefghijklmnopqrstuvwxyz";
    char name[4] = {'l', letters[number / 26 % 26], letters[number % 26], '\0'};
    tr_tool tool = TR_TOOL_INIT(name, function);
    tr_tool_id id = 0;
    tr_options none = TR_OPTIONS_INIT;
    number++;
    set(&tool.options, levels->tool);
    CHECK_EQ_INT(tr_tool_register(self->rig.manager, &tool, &id), 0);
    self->routed = none;
    set(&self->routed, levels->routed);
    tr_request request = TR_REQUEST_INIT(self->rig.turn, id);
    set(&request.options, levels->launch);
    return request;
}

/* ---- timeouts ---- */

static void set_queue(tr_options *options, uint64_t value)
{
    options->queue_timeout_ns = value;
}

static void set_run(tr_options *options, uint64_t value)
{
    options->run_timeout_ns = value;
}

static void set_idle(tr_options *options, uint64_t value)
{
    options->idle_timeout_ns = value;
}

static void set_total(tr_options *options, uint64_t value)
{
    options->total_timeout_ns = value;
}

#define SHORT (2 * TR_MILLISECOND)
#define LONG (3600 * TR_SECOND)

static const struct levels timeouts[] = {
    {0, 0, SHORT, SHORT},         {0, SHORT, 0, SHORT},         {SHORT, 0, 0, SHORT},
    {0, SHORT, LONG, SHORT},      {SHORT, LONG, 0, SHORT},      {SHORT, TR_FOREVER, LONG, SHORT},
    {0, 0, LONG, LONG},           {0, LONG, SHORT, LONG},       {LONG, SHORT, SHORT, LONG},
    {TR_FOREVER, 0, SHORT, LONG}, {0, TR_FOREVER, SHORT, LONG},
};

/* One whose short time decides is timed out; the others outlive one that is launched after them
 * with the same short time. */
static void check_timeouts(bool blocked, set_function set)
{
    enum {
        COUNT = sizeof timeouts / sizeof *timeouts
    };
    struct levels_rig self;
    struct rig *rig = &self.rig;
    tr_task_id tasks[COUNT];
    levels_open(&self, blocked);
    unsigned expected = 0;
    for (unsigned at = 0; at < COUNT; at++) {
        tr_request request = request_of(&self, run_deferred, set, &timeouts[at]);
        tasks[at] = rig_launch_request(rig, &request).task;
        expected += timeouts[at].expected == SHORT;
    }
    static const struct levels last = {SHORT, 0, 0, SHORT};
    tr_request request = request_of(&self, run_deferred, set, &last);
    tr_task_id canary = rig_launch_request(rig, &request).task;
    for (bool seen = false; expected > 0 || !seen;) {
        tr_batch *batch = rig_turn_take(rig, rig->turn);
        bool is_canary = batch->items[0].task == canary;
        CHECK_EQ_INT(batch->items[0].outcome, TR_OUTCOME_TIMED_OUT);
        bool started = (batch->items[0].flags & TR_ITEM_NOT_STARTED) == 0;
        CHECK(blocked ? !started : started || set == set_total); /* which counts from acceptance */
        for (unsigned at = 0; at < COUNT; at++) {
            CHECK(batch->items[0].task != tasks[at] || timeouts[at].expected == SHORT);
        }
        seen = seen || is_canary;
        expected -= !is_canary;
        tr_batch_release(batch);
    }
    if (blocked) {
        levels_unblock(&self);
    }
    for (unsigned at = 0; at < COUNT; at++) {
        if (timeouts[at].expected != SHORT) {
            WAIT_UNTIL(rig_snapshot(rig, tasks[at]).deferred, RIG_PATIENCE_SECONDS);
            CHECK_EQ_INT(tr_finish((tr_deferred){rig->manager, tasks[at]}, 0, NULL, 0), 0);
            rig_check_release(rig_turn_take(rig, rig->turn), tasks[at], TR_OUTCOME_COMPLETED);
        }
    }
    rig_turn_is_idle(rig, rig->turn);
    levels_close(&self);
}

CASE_TIMEOUT(contract_options, queue_timeout_of_every_level, RIG_TIMEOUT_SECONDS)
{
    check_timeouts(true, set_queue);
}

CASE_TIMEOUT(contract_options, run_timeout_of_every_level, RIG_TIMEOUT_SECONDS)
{
    check_timeouts(false, set_run);
}

CASE_TIMEOUT(contract_options, idle_timeout_of_every_level, RIG_TIMEOUT_SECONDS)
{
    check_timeouts(false, set_idle);
}

CASE_TIMEOUT(contract_options, total_timeout_of_every_level, RIG_TIMEOUT_SECONDS)
{
    check_timeouts(false, set_total);
}

/* ---- lifetime ---- */

static void set_lifetime(tr_options *options, uint64_t value)
{
    options->route = TR_ROUTE_BACKGROUND;
    options->lifetime = (tr_lifetime)value;
}

CASE_TIMEOUT(contract_options, lifetime_of_every_level, RIG_TIMEOUT_SECONDS)
{
    static const struct levels table[] = {
        {0, 0, 0, TR_LIFETIME_SESSION},
        {0, 0, TR_LIFETIME_TURN, TR_LIFETIME_TURN},
        {0, 0, TR_LIFETIME_MANAGER, TR_LIFETIME_MANAGER},
        {0, TR_LIFETIME_TURN, 0, TR_LIFETIME_TURN},
        {0, TR_LIFETIME_SESSION, TR_LIFETIME_TURN, TR_LIFETIME_SESSION},
        {0, TR_LIFETIME_MANAGER, TR_LIFETIME_TURN, TR_LIFETIME_MANAGER},
        {TR_LIFETIME_TURN, TR_LIFETIME_MANAGER, 0, TR_LIFETIME_TURN},
        {TR_LIFETIME_SESSION, TR_LIFETIME_TURN, TR_LIFETIME_MANAGER, TR_LIFETIME_SESSION},
        {TR_LIFETIME_MANAGER, TR_LIFETIME_TURN, TR_LIFETIME_TURN, TR_LIFETIME_MANAGER},
    };
    struct levels_rig self;
    struct rig *rig = &self.rig;
    levels_open(&self, false);
    for (size_t at = 0; at < sizeof table / sizeof *table; at++) {
        rig->session = rig_session(rig);
        rig->turn = rig_turn(rig, rig->session);
        tr_request request = request_of(&self, run_deferred, set_lifetime, &table[at]);
        tr_task_id task = rig_launch_request(rig, &request).task;
        WAIT_UNTIL(rig_snapshot(rig, task).deferred, RIG_PATIENCE_SECONDS);
        CHECK_EQ_INT(tr_turn_close(rig->manager, rig->turn, 0), 0);
        bool ended = rig_snapshot(rig, task).state == TR_STATE_ENDED;
        CHECK_EQ_INT(ended, table[at].expected == TR_LIFETIME_TURN);
        CHECK_EQ_INT(tr_session_close(rig->manager, rig->session, 0), 0);
        ended = rig_snapshot(rig, task).state == TR_STATE_ENDED;
        CHECK_EQ_INT(ended, table[at].expected != TR_LIFETIME_MANAGER);
        if (!ended) {
            CHECK_EQ_INT(tr_finish((tr_deferred){rig->manager, task}, 0, NULL, 0), 0);
        }
        rig_check_release(rig_loop_take(rig, rig->session), task,
                          ended ? TR_OUTCOME_CANCELLED : TR_OUTCOME_COMPLETED);
    }
    levels_close(&self);
}

/* ---- priority ---- */

static void set_priority(tr_options *options, uint64_t value)
{
    options->route = TR_ROUTE_BACKGROUND; /* low, if nothing is said */
    options->priority = (tr_priority)value;
}

/* A low one waits, then the one in question, then a high one. */
CASE_TIMEOUT(contract_options, priority_of_every_level, RIG_TIMEOUT_SECONDS)
{
    static const struct levels table[] = {
        {0, 0, 0, TR_PRIORITY_LOW},
        {0, 0, TR_PRIORITY_HIGH, TR_PRIORITY_HIGH},
        {0, TR_PRIORITY_HIGH, TR_PRIORITY_LOW, TR_PRIORITY_HIGH},
        {0, TR_PRIORITY_LOW, TR_PRIORITY_HIGH, TR_PRIORITY_LOW},
        {TR_PRIORITY_HIGH, TR_PRIORITY_LOW, TR_PRIORITY_LOW, TR_PRIORITY_HIGH},
        {TR_PRIORITY_LOW, TR_PRIORITY_HIGH, TR_PRIORITY_HIGH, TR_PRIORITY_LOW},
    };
    for (size_t at = 0; at < sizeof table / sizeof *table; at++) {
        const struct levels low = {TR_PRIORITY_LOW, 0, 0, 0};
        const struct levels high = {TR_PRIORITY_HIGH, 0, 0, 0};
        const struct levels *order[] = {&low, &table[at], &high};
        struct levels_rig self;
        unsigned next = 0;
        struct place places[3];
        levels_open(&self, true);
        for (unsigned each = 0; each < 3; each++) {
            places[each] = (struct place){&next, 0};
            tr_request request = request_of(&self, run_number, set_priority, order[each]);
            request.user = &places[each];
            (void)rig_launch_request(&self.rig, &request);
        }
        levels_unblock(&self);
        rig_wait_idle(&self.rig);
        CHECK_EQ_INT(rig_loop_flush(&self.rig, self.rig.session), 3);
        bool is_high = table[at].expected == TR_PRIORITY_HIGH;
        CHECK_EQ_INT(places[1].number, is_high ? 0 : 2);
        levels_close(&self);
    }
}

/* The guard against starving: high ones come without end, each launching the next, and a low one
 * runs all the same. */
struct relay {
    struct rig *rig;
    unsigned runs; /* of high ones; one worker: one after the other */
    unsigned low;  /* one more than that, when the low one ran; atomic; 0: not yet */
};

static int run_relay(tr_call *call, void *context)
{
    struct relay *relay = tr_call_user(call);
    (void)context;
    relay->runs++;
    if (__atomic_load_n(&relay->low, __ATOMIC_ACQUIRE) == 0) {
        tr_snapshot self;
        tr_launched launched;
        tr_call_snapshot(call, &self);
        for (unsigned at = 0; at < 2; at++) { /* never fewer than there were; refused if too many */
            tr_request request = TR_REQUEST_INIT(self.turn, self.tool);
            request.user = relay;
            request.options.route = TR_ROUTE_BACKGROUND;
            request.options.priority = TR_PRIORITY_HIGH;
            int status = tr_launch(relay->rig->manager, &request, &launched);
            CHECK(status == TR_PENDING || status == TR_EAGAIN);
        }
    }
    return 0;
}

static int run_low(tr_call *call, void *context)
{
    struct relay *relay = tr_call_user(call);
    (void)context;
    __atomic_store_n(&relay->low, relay->runs + 1, __ATOMIC_RELEASE);
    return 0;
}

CASE_TIMEOUT(contract_options, low_priority_does_not_starve, RIG_TIMEOUT_SECONDS)
{
    struct rig rig;
    struct gate gate;
    struct relay relay = {&rig, 0, 0};
    tr_config config = TR_CONFIG_INIT;
    config.workers = 1;
    config.substitutes_max = 1;
    config.slice_ns = TR_FOREVER;
    config.tasks_max = 1024;
    gate_init(&gate);
    rig_open(&rig, RIG_THREADED, &config);
    tr_tool_id tool = rig_tool(&rig, "relay", run_relay, NULL);
    tr_tool_id low = rig_tool(&rig, "low", run_low, NULL);
    (void)rig_launch(&rig, rig.gate, &gate, TR_ROUTE_BACKGROUND);
    gate_await_entered(&gate, 1);
    tr_request request = TR_REQUEST_INIT(rig.turn, tool);
    request.user = &relay;
    request.options.route = TR_ROUTE_BACKGROUND;
    request.options.priority = TR_PRIORITY_HIGH;
    for (unsigned at = 0; at < 32; at++) {
        (void)rig_launch_request(&rig, &request);
    }
    request.tool = low;
    request.options.priority = TR_PRIORITY_LOW;
    (void)rig_launch_request(&rig, &request);
    gate_open(&gate);
    while (__atomic_load_n(&relay.low, __ATOMIC_ACQUIRE) == 0) { /* makes room for more of them */
        tr_batch *batch = NULL;
        int count = tr_loop_take(rig.manager, rig.session, RIG_PATIENCE_NS, 64, &batch);
        CHECK(count > 0);
        tr_batch_release(batch);
    }
    CHECK(__atomic_load_n(&relay.low, __ATOMIC_ACQUIRE) < 64); /* not only when they had ended */
    rig_wait_idle(&rig);
    (void)rig_loop_flush(&rig, rig.session);
    rig_close(&rig);
    gate_done(&gate);
}

/* ---- metadata and user pointer ---- */

/* The tool's go with every call that brings none: into the function, the item, the snapshot of an
 * event, the callbacks; a call's own win. */
static void check_given(struct rig *rig, tr_tool_id tool, bool own, bool grouped)
{
    static int mine;
    tr_reader *reader = NULL;
    tr_reader_options wanted = TR_READER_OPTIONS_INIT;
    tr_event events[2];
    tr_launched launched[2];
    tr_request requests[2] = {TR_REQUEST_INIT(rig->turn, tool), TR_REQUEST_INIT(rig->turn, tool)};
    size_t count = grouped ? 2 : 1;
    wanted.types = 1u << TR_EVENT_QUEUED;
    CHECK_EQ_INT(tr_reader_open(rig->manager, &wanted, &reader), 0);
    for (size_t at = 0; own && at < count; at++) {
        requests[at].metadata = rig_bytes("the call's");
        requests[at].user = &mine;
    }
    CHECK_EQ_INT(tr_launch_batch(rig->manager, requests, count, launched), (int)count);
    const char *text = own ? "the call's" : "the tool's";
    for (size_t at = 0; at < count; at++) {
        tr_batch *batch = rig_turn_take(rig, rig->turn);
        const tr_item *item = batch->items;
        CHECK(rig_bytes_are(item->metadata, text));
        CHECK_EQ_PTR(item->user, own ? (void *)&mine : (void *)rig);
        CHECK(rig_bytes_are(item->result, text)); /* the function saw the same */
        tr_batch_release(batch);
        CHECK_EQ_INT(tr_reader_read(reader, events, 1, 0), 1);
        CHECK_EQ_U64(events[0].snapshot.metadata_size, strlen(text));
        CHECK_EQ_PTR(events[0].snapshot.user, own ? (void *)&mine : (void *)rig);
    }
    tr_reader_close(reader);
}

static int run_metadata(tr_call *call, void *context)
{
    tr_bytes metadata = tr_call_metadata(call);
    (void)context;
    CHECK(tr_call_user(call) != NULL);
    return tr_result_copy(call, metadata.data, metadata.size);
}

BOTH(contract_options, metadata_and_user_of_both_levels)
{
    char text[] = "the tool's";
    char large[TR_METADATA_BYTES_MAX + 1] = "";
    tr_tool tool = TR_TOOL_INIT("gives", run_metadata);
    tr_tool_id id = 0;
    tool.metadata = (tr_bytes){large, sizeof large};
    CHECK_EQ_INT(tr_tool_register(rig->manager, &tool, &id), TR_EINVAL);
    tool.metadata = (tr_bytes){NULL, 1};
    CHECK_EQ_INT(tr_tool_register(rig->manager, &tool, &id), TR_EINVAL);
    tool.metadata = rig_bytes(text);
    tool.user = rig;
    CHECK_EQ_INT(tr_tool_register(rig->manager, &tool, &id), 0);
    CHECK_EQ_INT(tr_tool_register(rig->manager, &tool, NULL), TR_EEXIST);
    memset(text, 'x', sizeof text - 1); /* it was copied */
    for (unsigned at = 0; at < 4; at++) {
        check_given(rig, id, at % 2 == 1, at / 2 == 1);
    }
}
