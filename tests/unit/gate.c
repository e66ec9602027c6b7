/* Gate: entering, waiting, opening; what one thread and a sleeper can tell. */
#include "parts/gate.h"

#include <pthread.h>

#include "base/clock.h"
#include "support/case.h"
#include "support/wait.h"

CASE(gate, opening_with_nobody_there_does_nothing)
{
    struct tr__gate gate;
    tr__gate_init(&gate);
    tr__gate_open(&gate);
    CHECK_EQ_INT(tr__load_relaxed(&gate.epoch), 0);
    CHECK_EQ_INT(tr__load_relaxed(&gate.waiters), 0);
}

CASE(gate, an_opening_between_look_and_wait_is_not_slept_through)
{
    struct tr__gate gate;
    tr__gate_init(&gate);
    uint32_t epoch = tr__gate_enter(&gate);
    CHECK_EQ_INT(tr__load_relaxed(&gate.waiters), 1);
    tr__gate_open(&gate);
    CHECK(tr__gate_wait(&gate, epoch, TR__FOREVER) != epoch);
    tr__gate_leave(&gate);
    CHECK_EQ_INT(tr__load_relaxed(&gate.waiters), 0);
}

CASE(gate, a_deadline_ends_the_waiting_and_not_before)
{
    struct tr__gate gate;
    tr__gate_init(&gate);
    uint32_t epoch = tr__gate_enter(&gate);
    CHECK_EQ_INT(tr__gate_wait(&gate, epoch, 0), epoch); /* past: a look */
    uint64_t deadline = tr__clock_after(tr__clock_now(), 2000000);
    while (tr__clock_now() < deadline) {
        CHECK_EQ_INT(tr__gate_wait(&gate, epoch, deadline), epoch);
    }
    tr__gate_leave(&gate);
}

static void leave_unentered(void *context)
{
    struct tr__gate gate;
    (void)context;
    tr__gate_init(&gate);
    tr__gate_leave(&gate);
}

CASE(gate, leaving_without_entering_is_asserted)
{
    CHECK(case_panics(leave_unentered, NULL));
}

enum {
    SLEEPERS = 5
};

struct door {
    struct tr__gate gate;
    tr__atomic_u32 open;
    tr__atomic_u32 through;
};

static void *sleep_main(void *context)
{
    struct door *door = context;
    uint32_t epoch = tr__gate_enter(&door->gate);
    while (tr__fetch_add_seq_cst(&door->open, 0u) == 0) {
        epoch = tr__gate_wait(&door->gate, epoch, TR__FOREVER);
    }
    tr__gate_leave(&door->gate);
    (void)tr__fetch_add_release(&door->through, 1u);
    return NULL;
}

CASE(gate, one_opening_wakes_everybody)
{
    static struct door door;
    pthread_t threads[SLEEPERS];
    tr__gate_init(&door.gate);
    for (unsigned i = 0; i < SLEEPERS; i++) {
        CHECK_EQ_INT(pthread_create(&threads[i], NULL, sleep_main, &door), 0);
    }
    WAIT_UNTIL(tr__load_acquire(&door.gate.waiters) == SLEEPERS, 20);
    /* A wake without the thing brought about: all look, nobody goes. */
    tr__gate_open(&door.gate);
    CHECK_EQ_INT(tr__load_acquire(&door.through), 0);
    (void)tr__fetch_add_seq_cst(&door.open, 1u);
    tr__gate_open(&door.gate);
    for (unsigned i = 0; i < SLEEPERS; i++) {
        CHECK_EQ_INT(pthread_join(threads[i], NULL), 0);
    }
    CHECK_EQ_INT(tr__load_relaxed(&door.through), SLEEPERS);
    CHECK_EQ_INT(tr__load_relaxed(&door.gate.waiters), 0);
}
