/*
 * agent_loop.c: the loop of an agent: the model asks for calls, the host launches them as a turn,
 * takes one outcome for each, and hands all of them back to the model.
 *
 * The model here is a script of four turns, which shows what a loop meets:
 *  1. two calls that run side by side;
 *  2. dangerous calls. The permission callback is a policy without a human: it refuses one outright
 *     and asks about two. The questions come to the loop as items; the user allows one of them.
 *  3. a build that takes too long to wait for: after 10 ms it is detached, the turn goes on without
 *     it, and its outcome comes later, through the session's loop updates, asking for another turn;
 *  4. the user presses stop: another thread interrupts the turn. Its calls end, and so each of them
 *     still has an answer for the model.
 *
 * What to copy: the `user` pointer of a request comes back in every item about it, so nothing is
 * looked up; and a loop that takes items until TR_WAIT_IDLE has seen everything there is to a turn.
 *
 * Exit status: 0 if each call got exactly one answer, and the expected one.
 */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <toolring.h>

enum {
    CALLS_PER_TURN_MAX = 3,
    TURNS = 4
};

/* A call that the model asks for, and what became of it. */
struct call {
    const char *id;
    const char *tool;
    const char *input;
    tr_outcome expected;
    int answers; /* must become 1 */
    tr_outcome outcome;
    bool detached;
};

static struct call script[TURNS][CALLS_PER_TURN_MAX] = {
    {{.id = "c1", .tool = "search", .input = "main", .expected = TR_OUTCOME_COMPLETED},
     {.id = "c2", .tool = "search", .input = "test", .expected = TR_OUTCOME_COMPLETED}},
    {{.id = "c3", .tool = "delete", .input = "cache", .expected = TR_OUTCOME_COMPLETED},
     {.id = "c4", .tool = "delete", .input = "notes", .expected = TR_OUTCOME_DENIED},
     {.id = "c5", .tool = "delete", .input = "/", .expected = TR_OUTCOME_DENIED}},
    {{.id = "c6", .tool = "build", .input = "all", .expected = TR_OUTCOME_COMPLETED},
     {.id = "c7", .tool = "search", .input = "docs", .expected = TR_OUTCOME_COMPLETED}},
    {{.id = "c8", .tool = "wait", .input = "an hour", .expected = TR_OUTCOME_CANCELLED},
     {.id = "c9", .tool = "wait", .input = "a day", .expected = TR_OUTCOME_CANCELLED}},
};

struct agent {
    tr_manager *manager;
    tr_session_id session;
    int farm[2]; /* a pipe: the host writes to it when the build farm is done */
    unsigned questions;
    unsigned failures;
};

static const char *const outcome_names[] = {"none",      "completed", "failed", "cancelled",
                                            "timed out", "denied",    "lost"};

static void require(bool condition, const char *what)
{
    if (!condition) {
        fprintf(stderr, "agent_loop: %s\n", what);
        exit(1);
    }
}

/* ---- the tools ---- */

/* search and delete, both of the plain kind: compute, set the result, return. */
static int run_plain(tr_call *call, void *verb)
{
    tr_bytes input = tr_call_input(call);
    char text[64];
    int size = snprintf(text, sizeof text, "%s %.*s", (const char *)verb, (int)input.size,
                        (const char *)input.data);
    return tr_result_copy(call, text, (size_t)size);
}

/* Of the awaiting kind: looks blocking, but while it waits its worker does other things. */
static int run_build(tr_call *call, void *context)
{
    const struct agent *agent = context;
    char byte;
    tr_io io = {0};
    tr_io *done;
    int error = tr_io_read(call, &io, agent->farm[0], &byte, 1);
    if (error < 0) {
        return error;
    }
    error = tr_io_wait(call, 0, &done);
    if (error < 0) { /* asked to stop: `io` and `byte` are still the engine's, so get them back */
        tr_io_cancel(call, &io);
        (void)tr_io_wait(call, TR_IO_SHIELD, &done); /* of one request under way it cannot fail */
        return error;
    }
    return io.result < 0 ? (int)io.result : tr_result_copy(call, "built", 5);
}

static int run_wait(tr_call *call, void *context)
{
    (void)context;
    return tr_sleep(call, 3600 * TR_SECOND); /* TR_ECANCELED when it is interrupted */
}

static void add_tool(struct agent *agent, const char *name, tr_tool_function function,
                     void *context, uint32_t flags)
{
    tr_tool tool = TR_TOOL_INIT(name, function);
    tool.context = context;
    tool.flags = flags;
    if (function == run_build) { /* defaults of a tool; a launch may say otherwise */
        tool.options.route = TR_ROUTE_DETACH_AFTER;
        tool.options.detach_after_ns = 10 * TR_MILLISECOND;
        tool.options.continuation = TR_CONTINUE_REQUEST;
    }
    require(tr_tool_register(agent->manager, &tool, NULL) == 0, "a tool was refused");
}

/* ---- permission ---- */

/* The policy. It runs inside tr_launch, so it decides at once or says ASK; then it is called again
 * when the user has approved, with `approvals` counted up. */
static tr_permit permit(void *context, const tr_request *request, unsigned approvals,
                        tr_permit_answer *answer)
{
    (void)context;
    const struct call *call = request->user;
    if (strcmp(call->tool, "delete") != 0 || approvals > 0) {
        return TR_PERMIT_ALLOW;
    }
    if (call->input[0] == '/') {
        snprintf(answer->reason, sizeof answer->reason, "outside of the project");
        return TR_PERMIT_DENY;
    }
    snprintf(answer->reason, sizeof answer->reason, "deletes files");
    snprintf(answer->summary, sizeof answer->summary, "delete %s", call->input);
    answer->expire_ns = 300 * TR_SECOND; /* nobody answers: denied */
    return TR_PERMIT_ASK;
}

/* The user: cache may go, everything else stays. */
static void ask_user(struct agent *agent, const tr_item *item)
{
    bool yes = item->input.size == 5 && memcmp(item->input.data, "cache", 5) == 0;
    printf("  ? %s (%s): %s\n", item->summary, item->reason, yes ? "yes" : "no");
    agent->questions++;
    int error = yes ? tr_task_approve(agent->manager, item->task)
                    : tr_task_deny(agent->manager, item->task, "the user said no");
    require(error == 0, "an answer was refused");
}

/* ---- the loop ---- */

static void take(struct agent *agent, const tr_item *item)
{
    struct call *call = item->user;
    switch (item->type) {
    case TR_ITEM_APPROVAL:
        ask_user(agent, item);
        break;
    case TR_ITEM_DETACHED:
        printf("  %s %s goes on in the background\n", call->id, call->tool);
        call->detached = true;
        break;
    case TR_ITEM_RESOLUTION: /* a real loop would append this to the model's messages */
        printf("  %s %s %s: %s %.*s%s\n", call->id, call->tool, call->input,
               outcome_names[item->outcome], (int)item->result.size,
               item->result.size > 0 ? (const char *)item->result.data : "", item->reason);
        call->answers++;
        call->outcome = item->outcome;
        break;
    }
}

/* The calls of one turn are launched together; each is accepted or refused on its own. */
static void launch(struct agent *agent, tr_turn_id turn, struct call calls[CALLS_PER_TURN_MAX])
{
    tr_request requests[CALLS_PER_TURN_MAX];
    tr_launched launched[CALLS_PER_TURN_MAX];
    size_t count = 0;
    for (; count < CALLS_PER_TURN_MAX && calls[count].id != NULL; count++) {
        struct call *call = &calls[count];
        tr_request request = TR_REQUEST_INIT(turn, 0);
        request.tool_name = call->tool;
        request.call_id = (tr_bytes){call->id, strlen(call->id)};
        request.input = (tr_bytes){call->input, strlen(call->input)};
        request.user = call;
        requests[count] = request;
    }
    require(tr_launch_batch(agent->manager, requests, count, launched) == (int)count,
            "a call was refused");
}

struct stop_button {
    tr_manager *manager;
    tr_turn_id turn;
};

static void *press_stop(void *argument)
{
    const struct stop_button *button = argument;
    require(tr_turn_interrupt(button->manager, button->turn, "the user pressed stop") == 2,
            "two calls were to be stopped");
    return NULL;
}

static void run_turn(struct agent *agent, struct call calls[CALLS_PER_TURN_MAX], bool stop)
{
    pthread_t user;
    tr_turn_id turn;
    tr_batch *batch;
    int result;
    require(tr_turn_open(agent->manager, agent->session, NULL, &turn) == 0, "no turn");
    launch(agent, turn, calls);
    struct stop_button button = {agent->manager, turn};
    if (stop) {
        require(pthread_create(&user, NULL, press_stop, &button) == 0, "no thread");
    }
    while ((result = tr_turn_wait(agent->manager, turn, NULL, TR_FOREVER, 64, &batch)) ==
           TR_WAIT_ITEMS) {
        for (size_t i = 0; i < batch->count; i++) {
            take(agent, &batch->items[i]);
        }
        tr_batch_release(batch);
    }
    require(result == TR_WAIT_IDLE, tr_error_message(result));
    if (stop) {
        pthread_join(user, NULL);
    }
    require(tr_turn_close(agent->manager, turn, 0) == 0, "the turn did not close");
}

/* Between turns: what has ended in the background meanwhile. */
static void take_loop_updates(struct agent *agent)
{
    tr_batch *batch;
    int count = tr_loop_take(agent->manager, agent->session, TR_FOREVER, 64, &batch);
    require(count == 1, "one loop update was to come");
    require((batch->items[0].flags & TR_ITEM_CONTINUE) != 0, "it was to ask for another turn");
    require((batch->items[0].flags & TR_ITEM_WAS_DETACHED) != 0, "it was in front once");
    take(agent, &batch->items[0]);
    tr_batch_release(batch);
}

static void check(struct agent *agent)
{
    for (size_t turn = 0; turn < TURNS; turn++) {
        for (size_t i = 0; i < CALLS_PER_TURN_MAX && script[turn][i].id != NULL; i++) {
            const struct call *call = &script[turn][i];
            if (call->answers != 1 || call->outcome != call->expected ||
                call->detached != (strcmp(call->tool, "build") == 0)) {
                fprintf(stderr, "agent_loop: %s: %d answers, %s\n", call->id, call->answers,
                        outcome_names[call->outcome]);
                agent->failures++;
            }
        }
    }
    require(agent->questions == 2, "two questions were to be asked");
}

int main(void)
{
    struct agent agent = {.questions = 0};
    tr_config config = TR_CONFIG_INIT;
    char message[512] = "";
    config.permit = permit;
    config.message = message;
    config.message_size = sizeof message;
    require(tr_manager_open(&config, &agent.manager) == 0, message);
    require(pipe(agent.farm) == 0, "no pipe");
    add_tool(&agent, "search", run_plain, "found", 0);
    add_tool(&agent, "delete", run_plain, "deleted", 0);
    add_tool(&agent, "build", run_build, &agent, TR_TOOL_AWAITING);
    add_tool(&agent, "wait", run_wait, NULL, TR_TOOL_AWAITING);
    require(tr_session_open(agent.manager, NULL, &agent.session) == 0, "no session");
    for (size_t turn = 0; turn < TURNS; turn++) {
        printf("turn %zu\n", turn + 1);
        run_turn(&agent, script[turn], turn == TURNS - 1);
        if (turn == 2) {
            require(write(agent.farm[1], "!", 1) == 1, "the farm did not answer");
            take_loop_updates(&agent);
        }
    }
    check(&agent);
    require(tr_session_close(agent.manager, agent.session, 0) == 0, "the session did not close");
    require(tr_manager_close(agent.manager, TR_SECOND) == 0, "the manager did not close");
    tr_manager_free(agent.manager);
    close(agent.farm[0]);
    close(agent.farm[1]);
    return agent.failures == 0 ? 0 : 1;
}
