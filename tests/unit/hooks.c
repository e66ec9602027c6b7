/*
 * Tests of completion/hooks: the record of one call's hooks by itself.
 */
#include "completion/hooks.h"

#include <toolring/error.h>

#include "base/memory.h"
#include "support/case.h"

static char heard[32];
static unsigned heard_count;

static void note(char letter)
{
    CHECK(heard_count < sizeof heard - 1);
    heard[heard_count++] = letter;
    heard[heard_count] = '\0';
}

static void call_one(void *context)
{
    note(*(const char *)context);
}

static void release_one(void *context)
{
    note((char)(*(const char *)context - 'a' + 'A'));
}

static struct tr__hooks *make(void)
{
    static struct tr__task task;
    struct tr__hooks *hooks = tr__hooks_make(&task);
    CHECK(hooks != NULL && hooks->task == &task);
    heard_count = 0;
    heard[0] = '\0';
    return hooks;
}

CASE(hooks, fired_are_called_in_order_and_once)
{
    struct tr__hooks *hooks = make();
    CHECK_EQ_INT(tr__hooks_add(hooks, call_one, "a", release_one), 0);
    CHECK_EQ_INT(tr__hooks_add(hooks, call_one, "b", NULL), 0);
    CHECK_EQ_INT(tr__hooks_add(hooks, call_one, "c", release_one), 0);
    CHECK(tr__hooks_fire(hooks));
    CHECK_EQ_INT(tr__hooks_add(hooks, call_one, "d", release_one), TR_ECANCELED);
    CHECK_EQ_STR(heard, "");
    tr__hooks_call(hooks);
    CHECK_EQ_STR(heard, "aAbcC");
    CHECK(!tr__hooks_fire(hooks));
    tr__hooks_close(hooks, true);
    CHECK_EQ_STR(heard, "aAbcC");
    CHECK_EQ_INT(tr__hooks_remove(hooks, call_one, "a"), TR_EALREADY);
    tr__hooks_free(hooks);
}

CASE(hooks, closed_are_dropped)
{
    struct tr__hooks *hooks = make();
    CHECK_EQ_INT(tr__hooks_add(hooks, call_one, "a", release_one), 0);
    CHECK_EQ_INT(tr__hooks_add(hooks, call_one, "b", NULL), 0);
    tr__hooks_close(hooks, true);
    CHECK_EQ_STR(heard, "A");
    CHECK(!tr__hooks_fire(hooks));
    CHECK_EQ_INT(tr__hooks_add(hooks, call_one, "c", release_one), TR_ECANCELED);
    CHECK_EQ_INT(tr__hooks_remove(hooks, call_one, "a"), TR_ENOENT);
    tr__hooks_close(hooks, false);
    CHECK_EQ_STR(heard, "A");
    tr__hooks_free(hooks);
}

/* Between the cancel and the call the end of the call may come. */
CASE(hooks, fired_and_closed_before_the_call)
{
    struct tr__hooks *hooks = make();
    CHECK_EQ_INT(tr__hooks_add(hooks, call_one, "a", release_one), 0);
    CHECK(tr__hooks_fire(hooks));
    tr__hooks_close(hooks, false);
    CHECK_EQ_STR(heard, "A");
    tr__hooks_call(hooks);
    CHECK_EQ_STR(heard, "A");
    tr__hooks_free(hooks);
}

CASE(hooks, taken_back_leave_room)
{
    static const char *const names[] = {"a", "b", "c", "d", "e", "f", "g", "h"};
    struct tr__hooks *hooks = make();
    for (unsigned at = 0; at < TR_CANCEL_HOOKS_MAX; at++) {
        CHECK_EQ_INT(tr__hooks_add(hooks, call_one, (char *)(uintptr_t)names[at], NULL), 0);
    }
    CHECK_EQ_INT(tr__hooks_add(hooks, call_one, "x", NULL), TR_ELIMIT);
    CHECK_EQ_INT(tr__hooks_remove(hooks, call_one, (char *)(uintptr_t)names[3]), 0);
    CHECK_EQ_INT(tr__hooks_remove(hooks, call_one, (char *)(uintptr_t)names[3]), TR_ENOENT);
    CHECK_EQ_INT(tr__hooks_add(hooks, call_one, "x", NULL), 0);
    CHECK(tr__hooks_fire(hooks));
    tr__hooks_call(hooks);
    CHECK_EQ_STR(heard, "abcxefgh");
    tr__hooks_free(hooks);
    tr__hooks_free(NULL);
}

static struct tr__hooks *current;

static void take_itself_back(void *context)
{
    CHECK_EQ_INT(tr__hooks_remove(current, take_itself_back, context), TR_EALREADY);
    tr__hooks_close(current, true); /* waits for others, not for itself; drops those behind it */
    note('t');
}

CASE(hooks, one_may_end_its_call)
{
    current = make();
    CHECK_EQ_INT(tr__hooks_add(current, take_itself_back, "z", release_one), 0);
    CHECK_EQ_INT(tr__hooks_add(current, call_one, "b", release_one), 0);
    CHECK(tr__hooks_fire(current));
    tr__hooks_call(current);
    CHECK_EQ_STR(heard, "BtZ");
    tr__hooks_free(current);
}

CASE(hooks, without_memory_there_are_none)
{
    static struct tr__task task;
    struct tr__hooks *hooks = make();
    CHECK(!tr__hooks_fire(hooks)); /* nothing to call */
    tr__hooks_free(hooks);
    tr__memory_fail_after(1);
    CHECK(tr__hooks_make(&task) == NULL);
}
