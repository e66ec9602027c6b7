/*
 * Cancel hooks in a race: functions register, take back, wait, return or defer, while others cancel
 * them and finish them. Whatever happens a hook is called at most once, its context is released
 * exactly once or is its owner's again, and nothing is called after the end that rules it out.
 */
#include <stdlib.h>
#include <time.h>

#include "support/host.h"

enum {
    CALLS = 1500,
    CANCELLERS = 2,
};

enum habit {
    RETURN,    /* with the hook registered */
    TAKE_BACK, /* before returning */
    AWAIT,     /* the cancel, for a moment */
    DEFER,     /* somebody finishes it later */
    HABITS,
};

/* What a hook is registered with: lives until the end of the case, so that late calls are seen. */
struct story {
    _Atomic uint64_t task;
    _Atomic int calls, releases;
    _Atomic bool closed; /* from now on neither may happen */
    _Atomic bool registered, taken_back, cancelled, finished;
    tr_deferred deferred;
    _Atomic bool is_deferred;
    enum habit habit;
};

static struct story stories[CALLS];
static _Atomic unsigned begun;
static _Atomic bool over;

static void hook(void *context)
{
    struct story *story = context;
    CHECK(!story->closed);
    CHECK_EQ_INT(story->calls++, 0);
}

static void release(void *context)
{
    struct story *story = context;
    CHECK(!story->closed);
    CHECK_EQ_INT(story->releases++, 0);
}

static int run_story(tr_call *call, void *context)
{
    struct story *story = tr_call_user(call);
    (void)context;
    story->task = tr_call_task(call);
    int error = tr_call_on_cancel(call, hook, story, release);
    CHECK(error == 0 || (error == TR_ECANCELED && tr_call_is_cancelled(call)));
    story->registered = error == 0;
    if (error < 0) {
        story->closed = true; /* nothing is registered: nothing is called */
    }
    if (story->habit == AWAIT) {
        (void)tr_call_await_cancel(call, 200 * UINT64_C(1000));
    }
    if (error == 0 && story->habit == TAKE_BACK) {
        error = tr_call_off_cancel(call, hook, story);
        CHECK(error == 0 || error == TR_EALREADY);
        CHECK_EQ_INT(story->calls, error == 0 ? 0 : 1);
        CHECK_EQ_INT(story->releases, error == 0 ? 0 : 1);
        story->taken_back = error == 0;
        story->closed = true;
    }
    if (story->habit == DEFER) {
        story->deferred = tr_call_defer(call);
        story->is_deferred = true;
        return TR_DEFERRED;
    }
    return 0;
}

static void *cancel_main(void *argument)
{
    struct rig *rig = argument;
    struct case_random random;
    case_random_init(&random, (uint64_t)(uintptr_t)pthread_self());
    while (!over) {
        unsigned count = begun;
        unsigned back = (unsigned)case_random_below(&random, 8);
        if (count <= back) {
            continue;
        }
        struct story *story = &stories[count - 1 - back];
        if (story->task != 0 && tr_task_cancel(rig->manager, story->task, NULL) == 0) {
            story->cancelled = true;
        }
    }
    return NULL;
}

static void *finish_main(void *argument)
{
    (void)argument;
    for (unsigned at = 0; at < CALLS; at++) {
        struct story *story = &stories[at];
        if (story->habit != DEFER) {
            continue;
        }
        WAIT_UNTIL(story->is_deferred || over, RIG_PATIENCE_SECONDS);
        if (story->is_deferred && tr_finish(story->deferred, 0, NULL, 0) == 0) {
            story->finished = true;
        }
    }
    return NULL;
}

static void check_stories(unsigned *called, unsigned *dropped)
{
    for (unsigned at = 0; at < CALLS; at++) {
        const struct story *story = &stories[at];
        CHECK(story->calls == 0 || story->cancelled);
        CHECK_EQ_INT(story->releases, story->registered && !story->taken_back);
        if (story->habit == DEFER && story->registered && !story->finished) {
            CHECK_EQ_INT(story->calls, 1); /* its owner is told, exactly once */
        }
        *called += story->calls == 1;
        *dropped += story->calls == 0;
    }
}

/* Adds how many hooks were called, and how many were not. */
static void race_once(enum rig_mode mode, unsigned *called, unsigned *dropped)
{
    struct rig rig;
    pthread_t cancellers[CANCELLERS];
    tr_tool_id tools[2];
    tr_tool tool = TR_TOOL_INIT("awaiting story", run_story);
    rig_open(&rig, mode, NULL);
    tools[0] = rig_tool(&rig, "story", run_story, NULL);
    tool.flags = TR_TOOL_AWAITING;
    CHECK_EQ_INT(tr_tool_register(rig.manager, &tool, &tools[1]), 0);
    struct case_random random;
    case_random_init(&random, 77);
    memset((void *)stories, 0, sizeof stories);
    begun = 0;
    over = false;
    for (unsigned at = 0; at < CALLS; at++) {
        stories[at].habit = (enum habit)case_random_below(&random, HABITS);
    }
    pthread_t finisher = rig_thread(finish_main, NULL);
    for (unsigned at = 0; at < CANCELLERS; at++) {
        cancellers[at] = rig_thread(cancel_main, &rig);
    }
    for (unsigned at = 0; at < CALLS; at++) {
        tr_request request = TR_REQUEST_INIT(rig.turn, tools[at % 2]);
        request.user = &stories[at];
        begun = at + 1;
        (void)rig_launch_request(&rig, &request);
        if (at % 16 == 0) {
            (void)rig_turn_flush(&rig, rig.turn);
        }
    }
    rig_wait_idle(&rig);
    over = true;
    rig_join(finisher);
    for (unsigned at = 0; at < CANCELLERS; at++) {
        rig_join(cancellers[at]);
    }
    (void)rig_turn_flush(&rig, rig.turn);
    rig_close(&rig); /* every hook has returned */
    check_stories(called, dropped);
}

/* Until both have happened: a scheduler may have all cancels come late in one race. */
static void check_race(enum rig_mode mode)
{
    unsigned called = 0;
    unsigned dropped = 0;
    double deadline = case_seconds() + RIG_PATIENCE_SECONDS;
    do {
        race_once(mode, &called, &dropped);
    } while ((called == 0 || dropped == 0) && case_seconds() < deadline);
    CHECK(called > 0 && dropped > 0);
}

CASE_TIMEOUT(hooks, race_threaded, 120)
{
    check_race(RIG_THREADED);
}

CASE_TIMEOUT(hooks, race_inline, 120)
{
    check_race(RIG_INLINE);
}
