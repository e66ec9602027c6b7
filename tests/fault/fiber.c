/*
 * The kernel has no memory for another fiber stack, played by refusing the guards of new ones: the
 * calls that needed one end as `lost`, those that can have a used one run, the rest goes on.
 */
#include <errno.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/atomic.h"
#include "support/gated.h"
#include "support/refuse.h"

#define MADV_GUARD 102 /* MADV_GUARD_INSTALL, Linux 6.13 */

enum {
    TASKS = 40,
};

/* Whether the kernel has guards that are no mappings of their own: then stacks get such. */
static bool installs_guards(void)
{
    size_t bytes = (size_t)sysconf(_SC_PAGESIZE);
    void *page = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(page != MAP_FAILED);
    bool installs = madvise(page, bytes, MADV_GUARD) == 0;
    CHECK_EQ_INT(munmap(page, bytes), 0);
    return installs;
}

/* From here on no stack that was never used before gets its guard. */
static void refuse_stacks(void)
{
    static const struct refusal install = {SYS_madvise, 2, MADV_GUARD, false};
    static const struct refusal protect = {SYS_mprotect, 2, PROT_NONE, false};
    CHECK(refuse_calls(installs_guards() ? &install : &protect, 1, ENOMEM));
}

/* A call that found no stack: it never ran, and says why. */
static void check_lost(struct rig *rig, struct gate *gate, unsigned entered)
{
    tr_task_id task = rig_launch(rig, rig->awaiting, gate, TR_ROUTE_FOREGROUND);
    tr_batch *batch = rig_turn_take(rig, rig->turn);
    CHECK_EQ_INT(batch->items[0].code, TR_ENOMEM);
    CHECK_EQ_U64(batch->items[0].result.size, 0);
    rig_check_release(batch, task, TR_OUTCOME_LOST);
    CHECK_EQ_INT(gate_entered(gate), entered);
}

static void check_completed(struct rig *rig, tr_tool_id tool, struct gate *gate)
{
    tr_task_id task = rig_launch(rig, tool, gate, TR_ROUTE_FOREGROUND);
    rig_check_release(rig_turn_take(rig, rig->turn), task, TR_OUTCOME_COMPLETED);
}

static void check_without_stacks(unsigned used)
{
    struct rig rig;
    struct gate gate;
#if defined(TR__WITH_ASAN)
    if (!installs_guards()) {
        SKIP("the search for leaks protects a page as the stacks do");
    }
#endif
    tr_config config = rig_one_worker(); /* its cache is where the used stacks are */
    gate_init(&gate);
    rig_open(&rig, RIG_THREADED, &config);
    tr_reader *reader = NULL;
    tr_reader_options options = TR_READER_OPTIONS_INIT;
    options.types = UINT64_C(1) << TR_EVENT_LOST;
    CHECK_EQ_INT(tr_reader_open(rig.manager, &options, &reader), 0);
    for (unsigned at = 0; at < used; at++) {
        (void)rig_launch(&rig, rig.awaiting, &gate, TR_ROUTE_BACKGROUND);
    }
    gate_await_entered(&gate, used);
    refuse_stacks();
    for (unsigned at = 0; at < TASKS; at++) {
        check_lost(&rig, &gate, used);
    }
    check_completed(&rig, rig.nothing, NULL); /* what needs no stack runs */
    rig_turn_is_idle(&rig, rig.turn);
    CHECK_EQ_U64(rig_stats(&rig).lost, TASKS);
    CHECK_EQ_U64(rig_stats(&rig).fibers_used, used); /* their room was given back */
    tr_event events[TASKS + 1];
    CHECK_EQ_INT(tr_reader_read(reader, events, TASKS + 1, 0), TASKS);
    tr_reader_close(reader);
    gate_open(&gate);
    gate_await_left(&gate, used);
    rig_wait_idle(&rig);
    WAIT_UNTIL(rig_stats(&rig).fibers_used == 0, RIG_PATIENCE_SECONDS);
    for (unsigned at = 0; at < TASKS && used > 0; at++) { /* on a stack that was there before */
        check_completed(&rig, rig.awaiting, &gate);
    }
    CHECK_EQ_INT(rig_loop_flush(&rig, rig.session), used);
    rig_close(&rig);
    gate_done(&gate);
}

CASE_TIMEOUT(fault_fiber, no_stack_at_all, RIG_TIMEOUT_SECONDS)
{
    check_without_stacks(0);
}

CASE_TIMEOUT(fault_fiber, no_stack_but_the_used_ones, RIG_TIMEOUT_SECONDS)
{
    check_without_stacks(3);
}
