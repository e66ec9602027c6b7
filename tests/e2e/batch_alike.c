/*
 * Batches of alike and unlike calls: what is decided for one call does not leak into the next. Each
 * call of a batch fares as it does when it is launched alone.
 */
#include "support/host.h"

enum {
    CALLS = 300,
    TOOLS = 4,
    KINDS = 9,
};

/* How a call fared: all that its options, its tool and the tool's gifts decide. */
struct fare {
    int status;
    tr_kind kind;
    tr_channel channel;
    tr_outcome outcome;
    uint32_t flags;
    tr_tool_id tool;
    void *user;
    char metadata;
    uint64_t cap; /* what the function saw */
};

struct mixed {
    tr_tool_id tools[TOOLS];
    uint32_t numbers[CALLS]; /* the calls' ids */
    tr_request requests[CALLS];
    struct fare fares[CALLS];
};

static const char *const names[TOOLS] = {"cap", "giving cap", "awaited cap", "cap here"};

static int run_cap(tr_call *call, void *context)
{
    uint64_t cap = tr_call_output_bytes_max(call);
    (void)context;
    return tr_result_copy(call, &cap, sizeof cap);
}

static void add_tools(struct rig *rig, struct mixed *self)
{
    for (unsigned at = 0; at < TOOLS; at++) {
        tr_tool tool = TR_TOOL_INIT(names[at], run_cap);
        if (at == 1) {
            tool.user = &self->tools[1];
            tool.metadata = rig_bytes("given");
            tool.options.route = TR_ROUTE_BACKGROUND;
            tool.options.output_bytes_max = 1111;
        }
        tool.flags = at == 2 ? TR_TOOL_AWAITING : 0;
        tool.options.route = at == 3 ? TR_ROUTE_INLINE : tool.options.route;
        CHECK_EQ_INT(tr_tool_register(rig->manager, &tool, &self->tools[at]), 0);
    }
}

static void set_kind(tr_request *request, unsigned tool, unsigned kind)
{
    static char own; /* what the host gives itself */
    request->options.route = kind == 1   ? TR_ROUTE_BACKGROUND
                             : kind == 2 ? TR_ROUTE_FOREGROUND
                                         : TR_ROUTE_DEFAULT;
    if (kind == 3) {
        request->options.route = TR_ROUTE_BACKGROUND;
        request->options.delivery = TR_DELIVERY_MANUAL;
    } else if (kind == 4) {
        request->options.route = TR_ROUTE_BACKGROUND;
        request->options.continuation = TR_CONTINUE_REQUEST;
    } else if (kind == 5) {
        request->options.output_bytes_max = 5555;
    } else if (kind == 6) {
        request->user = &own;
        request->metadata = rig_bytes("own");
    } else if (kind == 7) {
        request->tool = 999; /* no such tool: nobody is to be like that */
    } else if (kind == 8) {
        request->tool = 0;
        request->tool_name = names[tool];
    }
}

/* Runs of alike calls, of random length, and single ones. */
static void choose(struct mixed *self, tr_turn_id turn, struct case_random *random)
{
    unsigned tool = 0;
    unsigned kind = 0;
    for (unsigned at = 0; at < CALLS; at++) {
        uint64_t what = case_random_below(random, 8);
        tool = what == 0 ? (unsigned)case_random_below(random, TOOLS) : tool;
        kind = what == 1 ? (unsigned)case_random_below(random, KINDS) : kind;
        tr_request request = TR_REQUEST_INIT(turn, self->tools[tool]);
        set_kind(&request, tool, kind);
        self->numbers[at] = at;
        request.call_id.data = &self->numbers[at];
        request.call_id.size = sizeof self->numbers[at];
        self->requests[at] = request;
    }
}

static void note(struct mixed *self, tr_batch *batch)
{
    for (size_t at = 0; batch != NULL && at < batch->count; at++) {
        const tr_item *item = &batch->items[at];
        uint32_t number = 0;
        CHECK_EQ_U64(item->call_id.size, sizeof number);
        memcpy(&number, item->call_id.data, sizeof number);
        struct fare *fare = &self->fares[number];
        CHECK_EQ_INT(fare->outcome, TR_OUTCOME_NONE); /* once each */
        fare->kind = item->kind;
        fare->channel = item->channel;
        fare->outcome = item->outcome;
        fare->flags = item->flags & TR_ITEM_CONTINUE;
        fare->tool = item->tool;
        fare->user = item->user;
        fare->metadata = item->metadata.size == 0 ? '-' : *(const char *)item->metadata.data;
        CHECK_EQ_U64(item->result.size, sizeof fare->cap);
        memcpy(&fare->cap, item->result.data, sizeof fare->cap);
    }
    tr_batch_release(batch);
}

/* Launches all in batches of `group`, and notes how each fared. */
static void launch(struct rig *rig, struct mixed *self, unsigned group)
{
    tr_launched launched[CALLS];
    memset(self->fares, 0, sizeof self->fares);
    for (unsigned at = 0; at < CALLS; at += group) {
        unsigned count = CALLS - at < group ? CALLS - at : group;
        (void)tr_launch_batch(rig->manager, self->requests + at, count, launched + at);
    }
    rig_wait_idle(rig);
    for (unsigned at = 0; at < CALLS; at++) {
        self->fares[at].status = launched[at].status;
        note(self, launched[at].ready);
    }
    for (;;) {
        tr_batch *batches[3] = {NULL, NULL, NULL};
        (void)tr_turn_wait(rig->manager, rig->turn, NULL, 0, 64, &batches[0]);
        (void)tr_loop_take(rig->manager, rig->session, 0, 64, &batches[1]);
        (void)tr_ready_take(rig->manager, rig->session, 0, 64, &batches[2]);
        if (batches[0] == NULL && batches[1] == NULL && batches[2] == NULL) {
            return;
        }
        for (unsigned at = 0; at < 3; at++) {
            note(self, batches[at]);
        }
    }
}

static void compare(const struct fare *alone, const struct fare *together)
{
    CHECK_EQ_INT(together->status, alone->status);
    CHECK_EQ_INT(together->kind, alone->kind);
    CHECK_EQ_INT(together->channel, alone->channel);
    CHECK_EQ_INT(together->outcome, alone->outcome);
    CHECK_EQ_U64(together->flags, alone->flags);
    CHECK_EQ_U64(together->tool, alone->tool);
    CHECK_EQ_PTR(together->user, alone->user);
    CHECK_EQ_INT(together->metadata, alone->metadata);
    CHECK_EQ_U64(together->cap, alone->cap);
}

BOTH(batch_alike, each_fares_as_it_does_alone)
{
    static struct mixed self;
    static struct fare alone[CALLS];
    struct case_random random;
    case_random_init(&random, 0);
    add_tools(rig, &self);
    for (unsigned round = 0; round < 30; round++) {
        choose(&self, rig->turn, &random);
        launch(rig, &self, 1);
        memcpy(alone, self.fares, sizeof alone);
        unsigned channels = 0;
        for (unsigned at = 0; at < CALLS; at++) {
            channels |= 1u << alone[at].channel;
        }
        CHECK((channels & (channels - 1)) != 0); /* there is something to leak */
        launch(rig, &self, CALLS);
        for (unsigned at = 0; at < CALLS; at++) {
            compare(&alone[at], &self.fares[at]);
        }
    }
}
