/*
 * Options end to end: the launch wins over the routing callback, that over the tool's defaults,
 * those over the built-in ones. What became of them is looked at from inside the call and in its
 * item.
 */
#include "support/gated.h"

/* What the callback answers, and how often it was asked. Written before the launch. */
struct plan {
    tr_options routed;
    unsigned asked;
    tr_tool_id tool;  /* seen in the request */
    tr_snapshot seen; /* by the function */
    size_t output_bytes_max;
};

static void route(void *context, const tr_request *request, tr_options *options)
{
    struct plan *plan = context;
    plan->asked++;
    plan->tool = request->tool;
    CHECK_EQ_INT(options->route, TR_ROUTE_DEFAULT);
    CHECK_EQ_U64(options->size, sizeof *options);
    *options = plan->routed;
}

static int run_look(tr_call *call, void *context)
{
    struct plan *plan = context;
    tr_call_snapshot(call, &plan->seen);
    plan->output_bytes_max = tr_call_output_bytes_max(call);
    return 0;
}

struct options_rig {
    struct rig rig;
    struct plan plan;
    bool routes;
};

static void open_rig(struct options_rig *self, enum rig_mode mode, bool routes)
{
    tr_config config = TR_CONFIG_INIT;
    tr_options none = TR_OPTIONS_INIT;
    memset(&self->plan, 0, sizeof self->plan);
    self->plan.routed = none;
    self->routes = routes;
    config.route = routes ? route : NULL;
    config.context = &self->plan;
    rig_open(&self->rig, mode, &config);
}

static tr_tool_id add_tool(struct options_rig *self, const tr_options *options)
{
    static unsigned number;
    char name[16] = "look-";
    name[5] = (char)('a' + number / 26 % 26);
    name[6] = (char)('a' + number++ % 26);
    tr_tool tool = TR_TOOL_INIT(name, run_look);
    tr_tool_id id = 0;
    tool.context = &self->plan;
    tool.options = *options;
    CHECK_EQ_INT(tr_tool_register(self->rig.manager, &tool, &id), 0);
    return id;
}

/* Runs one call; returns its item's copy (bytes are not looked at). */
static tr_item run(struct options_rig *self, tr_tool_id tool, const tr_options *options)
{
    struct rig *rig = &self->rig;
    tr_request request = TR_REQUEST_INIT(rig->turn, tool);
    tr_launched launched;
    request.options = *options;
    unsigned asked = self->plan.asked;
    int status = tr_launch(rig->manager, &request, &launched);
    CHECK(status == TR_PENDING || status == TR_READY);
    CHECK_EQ_INT(self->plan.asked - asked, self->routes ? 1 : 0);
    tr_batch *batch = launched.ready;
    if (batch == NULL) {
        rig_wait_idle(rig);
        if (tr_turn_wait(rig->manager, rig->turn, NULL, 0, 1, &batch) != TR_WAIT_ITEMS) {
            CHECK_EQ_INT(launched.kind, TR_KIND_BACKGROUND);
            if (tr_loop_take(rig->manager, rig->session, 0, 1, &batch) != 1) {
                CHECK_EQ_INT(tr_ready_take(rig->manager, rig->session, 0, 1, &batch), 1);
            }
        } else {
            CHECK_EQ_INT(launched.kind, TR_KIND_FOREGROUND);
        }
    }
    rig_check(batch, launched.task, TR_OUTCOME_COMPLETED);
    tr_item item = batch->items[0];
    tr_batch_release(batch);
    return item;
}

/* One value of one field on three levels: 0 is "not set". */
struct levels {
    unsigned launch;
    unsigned routed;
    unsigned tool;
    unsigned expected;
};

typedef void (*set_function)(tr_options *options, unsigned value);

static void set_route(tr_options *options, unsigned value)
{
    options->route = (tr_route)value;
    options->detach_after_ns = value == TR_ROUTE_DETACH_AFTER ? TR_FOREVER : 0;
}

static void set_delivery(tr_options *options, unsigned value)
{
    options->delivery = (tr_delivery)value;
}

static void set_continue(tr_options *options, unsigned value)
{
    options->continuation = (tr_continue)value;
}

static void set_output(tr_options *options, unsigned value)
{
    options->output_bytes_max = value;
}

static tr_item run_levels(struct options_rig *self, set_function set, const struct levels *levels,
                          tr_route route_of_launch)
{
    tr_options options = TR_OPTIONS_INIT;
    tr_options none = TR_OPTIONS_INIT;
    self->plan.routed = none;
    set(&self->plan.routed, levels->routed);
    set(&options, levels->tool);
    tr_tool_id tool = add_tool(self, &options);
    options = none;
    options.route = route_of_launch;
    set(&options, levels->launch);
    tr_item item = run(self, tool, &options);
    CHECK_EQ_INT(self->plan.tool, tool);
    return item;
}

static void check_routes(enum rig_mode mode)
{
    static const struct levels table[] = {
        {0, 0, 0, TR_ROUTE_FOREGROUND},
        {0, 0, TR_ROUTE_BACKGROUND, TR_ROUTE_BACKGROUND},
        {0, 0, TR_ROUTE_INLINE, TR_ROUTE_INLINE},
        {0, 0, TR_ROUTE_DETACH_AFTER, TR_ROUTE_DETACH_AFTER},
        {0, TR_ROUTE_BACKGROUND, 0, TR_ROUTE_BACKGROUND},
        {0, TR_ROUTE_INLINE, TR_ROUTE_BACKGROUND, TR_ROUTE_INLINE},
        {0, TR_ROUTE_DETACH_AFTER, TR_ROUTE_BACKGROUND, TR_ROUTE_DETACH_AFTER},
        {TR_ROUTE_BACKGROUND, TR_ROUTE_INLINE, TR_ROUTE_FOREGROUND, TR_ROUTE_BACKGROUND},
        {TR_ROUTE_FOREGROUND, TR_ROUTE_BACKGROUND, TR_ROUTE_INLINE, TR_ROUTE_FOREGROUND},
        {TR_ROUTE_INLINE, TR_ROUTE_BACKGROUND, TR_ROUTE_DETACH_AFTER, TR_ROUTE_INLINE},
        {TR_ROUTE_DETACH_AFTER, TR_ROUTE_INLINE, 0, TR_ROUTE_DETACH_AFTER},
        {TR_ROUTE_FOREGROUND, 0, TR_ROUTE_DETACH_AFTER, TR_ROUTE_FOREGROUND},
    };
    struct options_rig self;
    open_rig(&self, mode, true);
    for (size_t at = 0; at < sizeof table / sizeof *table; at++) {
        tr_item item = run_levels(&self, set_route, &table[at], TR_ROUTE_DEFAULT);
        tr_channel channel = table[at].expected == TR_ROUTE_INLINE       ? TR_CHANNEL_LAUNCH
                             : table[at].expected == TR_ROUTE_BACKGROUND ? TR_CHANNEL_LOOP
                                                                         : TR_CHANNEL_TURN;
        CHECK_EQ_INT(item.channel, channel);
    }
    rig_close(&self.rig);
}

CASE_TIMEOUT(options, route_of_every_level_threaded, RIG_TIMEOUT_SECONDS)
{
    check_routes(RIG_THREADED);
}

CASE_TIMEOUT(options, route_of_every_level_inline, RIG_TIMEOUT_SECONDS)
{
    check_routes(RIG_INLINE);
}

static void check_background(enum rig_mode mode)
{
    static const struct levels table[] = {
        {0, 0, 0, 1}, {0, 0, 2, 2}, {0, 2, 0, 2}, {0, 1, 2, 1},
        {2, 0, 0, 2}, {2, 1, 1, 2}, {1, 2, 2, 1}, {0, 2, 1, 2},
    };
    struct options_rig self;
    open_rig(&self, mode, true);
    for (size_t at = 0; at < sizeof table / sizeof *table; at++) {
        tr_item item = run_levels(&self, set_delivery, &table[at], TR_ROUTE_BACKGROUND);
        bool manual = table[at].expected == TR_DELIVERY_MANUAL;
        CHECK_EQ_INT(item.channel, manual ? TR_CHANNEL_READY : TR_CHANNEL_LOOP);
        CHECK_EQ_INT(self.plan.seen.delivery, table[at].expected);
        item = run_levels(&self, set_continue, &table[at], TR_ROUTE_BACKGROUND);
        bool request = table[at].expected == TR_CONTINUE_REQUEST;
        CHECK_EQ_U64(item.flags & TR_ITEM_CONTINUE, request ? TR_ITEM_CONTINUE : 0);
        CHECK_EQ_INT(self.plan.seen.continuation, table[at].expected);
    }
    rig_close(&self.rig);
}

CASE_TIMEOUT(options, delivery_of_every_level_threaded, RIG_TIMEOUT_SECONDS)
{
    check_background(RIG_THREADED);
}

CASE_TIMEOUT(options, delivery_of_every_level_inline, RIG_TIMEOUT_SECONDS)
{
    check_background(RIG_INLINE);
}

static void check_output(enum rig_mode mode)
{
    static const struct levels table[] = {
        {0, 0, 0, 1 << 20}, {0, 0, 100, 100},         {0, 7, 100, 7},
        {1, 7, 100, 1},     {1 << 30, 0, 0, 1 << 30},
    };
    struct options_rig self;
    open_rig(&self, mode, true);
    for (size_t at = 0; at < sizeof table / sizeof *table; at++) {
        (void)run_levels(&self, set_output, &table[at], TR_ROUTE_BACKGROUND);
        CHECK_EQ_U64(self.plan.output_bytes_max, table[at].expected);
    }
    rig_close(&self.rig);
}

CASE_TIMEOUT(options, output_cap_of_every_level_threaded, RIG_TIMEOUT_SECONDS)
{
    check_output(RIG_THREADED);
}

CASE_TIMEOUT(options, output_cap_of_every_level_inline, RIG_TIMEOUT_SECONDS)
{
    check_output(RIG_INLINE);
}

CASE_TIMEOUT(options, nonsense_from_the_callback_decides_nothing, RIG_TIMEOUT_SECONDS)
{
    struct options_rig self;
    tr_options none = TR_OPTIONS_INIT;
    open_rig(&self, RIG_THREADED, true);
    tr_tool_id tool = add_tool(&self, &none);
    self.plan.routed.route = (tr_route)77;
    CHECK_EQ_INT(run(&self, tool, &none).channel, TR_CHANNEL_TURN);
    self.plan.routed = none;
    self.plan.routed.route = TR_ROUTE_DETACH_AFTER; /* after no time at all */
    CHECK_EQ_INT(run(&self, tool, &none).channel, TR_CHANNEL_TURN);
    self.plan.routed = none;
    self.plan.routed.route = TR_ROUTE_BACKGROUND;
    self.plan.routed.size = 3;
    CHECK_EQ_INT(run(&self, tool, &none).channel, TR_CHANNEL_TURN);
    rig_close(&self.rig);
}

CASE_TIMEOUT(options, without_a_callback_the_tool_decides, RIG_TIMEOUT_SECONDS)
{
    struct options_rig self;
    tr_options none = TR_OPTIONS_INIT;
    tr_options tools = TR_OPTIONS_INIT;
    tools.route = TR_ROUTE_BACKGROUND;
    tools.delivery = TR_DELIVERY_MANUAL;
    tools.continuation = TR_CONTINUE_REQUEST;
    open_rig(&self, RIG_THREADED, false);
    tr_tool_id tool = add_tool(&self, &tools);
    tr_item item = run(&self, tool, &none);
    CHECK_EQ_INT(item.channel, TR_CHANNEL_READY);
    CHECK_EQ_U64(item.flags & TR_ITEM_CONTINUE, 0); /* no loop update */
    tr_options wins = TR_OPTIONS_INIT;
    wins.delivery = TR_DELIVERY_TO_LOOP;
    item = run(&self, tool, &wins);
    CHECK_EQ_INT(item.channel, TR_CHANNEL_LOOP);
    CHECK_EQ_U64(item.flags & TR_ITEM_CONTINUE, TR_ITEM_CONTINUE);
    rig_close(&self.rig);
}

/* ---- registering and finding tools ---- */

static int run_nothing(tr_call *call, void *context)
{
    (void)call;
    (void)context;
    return 0;
}

BOTH(options, tools_register_and_are_found)
{
    char longest[TR_TOOL_NAME_BYTES_MAX + 2];
    memset(longest, 'n', sizeof longest);
    longest[TR_TOOL_NAME_BYTES_MAX + 1] = '\0';
    tr_tool_id id = 0;
    tr_tool_id found = 0;
    tr_tool good = TR_TOOL_INIT("good", run_nothing);
    tr_tool bad[] = {
        TR_TOOL_INIT(NULL, run_nothing),    TR_TOOL_INIT("", run_nothing),
        TR_TOOL_INIT(longest, run_nothing), TR_TOOL_INIT("no function", NULL),
        TR_TOOL_INIT("flags", run_nothing), TR_TOOL_INIT("reserved", run_nothing),
        TR_TOOL_INIT("size", run_nothing),  TR_TOOL_INIT("route", run_nothing),
    };
    bad[4].flags = UINT32_C(1) << 31;
    bad[5].reserved = 1;
    bad[6].size = 8;
    bad[7].options.route = TR_ROUTE_DETACH_AFTER; /* after when? */
    for (size_t at = 0; at < sizeof bad / sizeof *bad; at++) {
        CHECK_EQ_INT(tr_tool_register(rig->manager, &bad[at], &id), TR_EINVAL);
        CHECK_EQ_INT(id, 0);
    }
    CHECK_EQ_INT(tr_tool_register(rig->manager, NULL, &id), TR_EINVAL);
    CHECK_EQ_INT(tr_tool_register(NULL, &good, &id), TR_EINVAL);
    CHECK_EQ_INT(tr_tool_register(rig->manager, &good, NULL), 0);
    CHECK_EQ_INT(tr_tool_register(rig->manager, &good, &id), TR_EEXIST);
    CHECK_EQ_INT(id, 0);
    longest[TR_TOOL_NAME_BYTES_MAX] = '\0';
    tr_tool named = TR_TOOL_INIT(longest, run_nothing);
    CHECK_EQ_INT(tr_tool_register(rig->manager, &named, &id), 0);
    CHECK_EQ_INT(tr_tool_find(rig->manager, longest, &found), 0);
    CHECK_EQ_INT(found, id);
    CHECK_EQ_INT(tr_tool_find(rig->manager, "goo", &found), TR_ENOENT);
    CHECK_EQ_INT(tr_tool_find(rig->manager, "", &found), TR_ENOENT);
    CHECK_EQ_INT(tr_tool_find(rig->manager, NULL, &found), TR_EINVAL);
    CHECK_EQ_INT(tr_tool_find(rig->manager, "good", NULL), TR_EINVAL);
    CHECK_EQ_INT(tr_tool_find(NULL, "good", &found), TR_EINVAL);
    CHECK_EQ_INT(found, id);
}

/* ---- priority ---- */

static int run_number(tr_call *call, void *context)
{
    unsigned *next = context;
    unsigned *place = tr_call_user(call);
    *place = (*next)++; /* one worker: one after the other */
    return 0;
}

/* With one worker, and it is busy: what waits is taken high before low, each in its order. */
CASE_TIMEOUT(options, high_priority_goes_first, RIG_TIMEOUT_SECONDS)
{
    enum {
        EACH = 10
    };
    static const struct {
        tr_route route;
        tr_priority priority;
        bool high;
    } table[] = {
        {TR_ROUTE_BACKGROUND, TR_PRIORITY_DEFAULT, false}, /* by kind at launch */
        {TR_ROUTE_FOREGROUND, TR_PRIORITY_LOW, false},
        {TR_ROUTE_FOREGROUND, TR_PRIORITY_DEFAULT, true},
        {TR_ROUTE_BACKGROUND, TR_PRIORITY_HIGH, true},
    };
    struct blocked self;
    struct rig *rig = &self.rig;
    unsigned next = 0;
    unsigned places[4][EACH];
    blocked_open(&self, NULL);
    tr_tool_id tool = rig_tool(rig, "number", run_number, &next);
    for (unsigned kind = 0; kind < 4; kind++) {
        for (unsigned at = 0; at < EACH; at++) {
            tr_request request = TR_REQUEST_INIT(rig->turn, tool);
            request.user = &places[kind][at];
            request.options.route = table[kind].route;
            request.options.priority = table[kind].priority;
            (void)rig_launch_request(rig, &request);
        }
    }
    blocked_release(&self);
    rig_wait_idle(rig);
    CHECK_EQ_INT(rig_turn_flush(rig, rig->turn), 2 * EACH);
    CHECK_EQ_INT(rig_loop_flush(rig, rig->session), 2 * EACH);
    unsigned high_sum = 0;
    unsigned low_sum = 0;
    for (unsigned kind = 0; kind < 4; kind++) {
        for (unsigned at = 0; at < EACH; at++) {
            CHECK(at == 0 || places[kind][at] > places[kind][at - 1]); /* in their order */
            *(table[kind].high ? &high_sum : &low_sum) += places[kind][at];
        }
    }
    /* All high ones first but for one low in every 17 at most: the guard against starving. */
    CHECK(high_sum <= 2 * EACH * (2 * EACH - 1) / 2 + 2 * (2 * EACH));
    CHECK_EQ_INT(high_sum + low_sum, 4 * EACH * (4 * EACH - 1) / 2);
    blocked_close(&self);
}
