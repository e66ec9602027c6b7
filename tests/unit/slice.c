/* Slice: a thread asks for short turns and stays otherwise as it was. */
#include "base/slice.h"

#include <errno.h>
#include <sched.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "support/case.h"
#include "support/refuse.h"

enum {
    SLICE_NS = 100000, /* slice.c's */
};

/* struct sched_attr as of sched_setattr(2). */
struct attributes {
    uint32_t size;
    uint32_t policy;
    uint64_t flags;
    int32_t nice;
    uint32_t priority;
    uint64_t runtime;
    uint64_t deadline;
    uint64_t period;
};

static struct attributes attributes_now(void)
{
    struct attributes attributes;
    memset(&attributes, 0, sizeof attributes);
    CHECK_EQ_INT(syscall(SYS_sched_getattr, 0, &attributes, sizeof attributes, 0), 0);
    return attributes;
}

/* A thread of this policy asks for short turns. */
static void check_policy(int policy)
{
    const struct sched_param none = {0};
    CHECK_EQ_INT(sched_setscheduler(0, policy, &none), 0);
    struct attributes before = attributes_now();
    tr__slice_shorten();
    struct attributes after = attributes_now();
    CHECK_EQ_INT(before.policy, policy & ~SCHED_RESET_ON_FORK);
    CHECK_EQ_INT(after.policy, before.policy);
    CHECK_EQ_U64(after.flags, before.flags);
    CHECK_EQ_INT(after.nice, before.nice);
    CHECK_EQ_INT(after.priority, 0);
    /* A kernel with slices (6.12) tells the default one; one without says 0 and ignores it. */
    CHECK(before.runtime != SLICE_NS);
    CHECK_EQ_U64(after.runtime, before.runtime != 0 ? SLICE_NS : 0);
}

CASE(slice, turns_are_short_and_the_share_is_the_same)
{
    check_policy(SCHED_OTHER);
}

CASE(slice, batch_work_too)
{
    CHECK_EQ_INT(setpriority(PRIO_PROCESS, 0, 19), 0); /* a nice value that must survive */
    check_policy(SCHED_BATCH);
    CHECK_EQ_INT(attributes_now().nice, 19);
}

CASE(slice, flags_survive)
{
    check_policy(SCHED_OTHER | SCHED_RESET_ON_FORK);
    CHECK_EQ_U64(attributes_now().flags, 1);
}

/* The host's own choice of another policy is respected: nothing is set at all. */
CASE(slice, other_policies_are_left_alone)
{
    static const struct refusal refusal = {SYS_sched_setattr, REFUSE_ANY, 0, false};
    const struct sched_param none = {0};
    CHECK_EQ_INT(sched_setscheduler(0, SCHED_IDLE, &none), 0);
    if (!refuse_calls(&refusal, 1, REFUSE_DEADLY)) { /* setting anything would end the process */
        SKIP("seccomp filters are not available");
    }
    tr__slice_shorten();
    CHECK_EQ_INT(attributes_now().policy, SCHED_IDLE);
}

/* A sandbox that forbids it costs the short turns, nothing else. */
CASE(slice, a_refusal_is_borne)
{
    static const struct refusal refusals[] = {{SYS_sched_setattr, REFUSE_ANY, 0, false},
                                              {SYS_sched_getattr, REFUSE_ANY, 0, false}};
    struct attributes before = attributes_now();
    if (!refuse_calls(&refusals[0], 1, EPERM)) {
        SKIP("seccomp filters are not available");
    }
    tr__slice_shorten();
    CHECK_EQ_U64(attributes_now().runtime, before.runtime);
    CHECK(refuse_calls(&refusals[1], 1, EPERM));
    tr__slice_shorten();
}
