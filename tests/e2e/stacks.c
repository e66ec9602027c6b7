/*
 * Stacks of awaiting calls: kept for the next burst, given back to the system in quiet times.
 */
#include <stdatomic.h>
#include <stdio.h>
#include <unistd.h>

#include "support/host.h"

#if defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define SANITIZED 1
#endif
#endif
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED 1
#endif

enum {
    CALLS = 1000,
    DEPTH = 32768, /* bytes of stack each of them uses */
};

static atomic_uint seated;

/* Uses its stack, then waits to be asked to stop. */
static int sit_deep(tr_call *call, void *context)
{
    volatile char block[DEPTH];
    (void)context;
    for (size_t at = 0; at < sizeof block; at += 2048) { /* half of the smallest page */
        block[at] = 1;
    }
    (void)atomic_fetch_add(&seated, 1);
    return tr_call_await_cancel(call, TR_FOREVER);
}

static uint64_t resident_pages(void)
{
    unsigned long total = 0;
    unsigned long resident = 0;
    FILE *file = fopen("/proc/self/statm", "re");
    CHECK(file != NULL);
    CHECK_EQ_INT(fscanf(file, "%lu %lu", &total, &resident), 2);
    CHECK_EQ_INT(fclose(file), 0);
    return resident;
}

/* All of them at once. Returns the resident pages meanwhile. */
static uint64_t burst(struct rig *rig, tr_tool_id tool)
{
    tr_turn_id turn = rig_turn(rig, rig->session);
    tr_request request = TR_REQUEST_INIT(turn, tool);
    atomic_store(&seated, 0);
    for (unsigned call = 0; call < CALLS; call++) {
        (void)rig_launch_request(rig, &request);
    }
    WAIT_UNTIL(atomic_load(&seated) == CALLS, RIG_PATIENCE_SECONDS);
    uint64_t pages = resident_pages();
    CHECK_EQ_INT(tr_turn_interrupt(rig->manager, turn, NULL), CALLS);
    CHECK_EQ_INT(rig_turn_flush(rig, turn), CALLS);
    rig_wait_idle(rig);
    return pages;
}

CASE_TIMEOUT(stacks, are_given_back_in_quiet_times, 120)
{
    struct rig rig;
    tr_config config = TR_CONFIG_INIT;
    config.fibers_max = CALLS;
    rig_open(&rig, RIG_THREADED, &config);
    tr_tool seat = TR_TOOL_INIT("sit", sit_deep);
    tr_tool_id tool = 0;
    seat.flags = TR_TOOL_AWAITING;
    CHECK_EQ_INT(tr_tool_register(rig.manager, &seat, &tool), 0);
    uint64_t deep = CALLS * (uint64_t)DEPTH / (uint64_t)sysconf(_SC_PAGESIZE);
    for (unsigned round = 0; round < 2; round++) { /* the second one uses emptied stacks again */
        uint64_t pages = burst(&rig, tool);
        CHECK(pages > deep);
#if !defined(SANITIZED) /* a sanitizer's own memory comes and goes */
        /* All but those at the workers' hands. */
        WAIT_UNTIL(resident_pages() < pages - deep * 3 / 4, RIG_PATIENCE_SECONDS);
#endif
    }
    rig_close(&rig);
}
