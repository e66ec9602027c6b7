/*
 * slice.c: see slice.h.
 *
 * Owner: any thread, about itself. Called by engine; calls sched_setattr(2).
 *
 * Invariant: policy and nice value stay as they are; a thread that is neither SCHED_OTHER nor
 * SCHED_BATCH (the host's own choice, inherited) is left alone, as is one on a kernel without
 * slices.
 *
 * Complexity: two system calls, once per thread.
 *
 * Rejected: a nice value below zero and real-time priorities (privileged); yielding by hand (helps
 * those who are not running already, not those who should).
 */
#include "base/slice.h"

#include <sched.h>
#include <stdint.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/assert.h"

/* struct sched_attr as of sched_setattr(2): its header clashes with the C library's. */
struct attributes {
    uint32_t size;
    uint32_t sched_policy;
    uint64_t sched_flags;
    int32_t sched_nice;
    uint32_t sched_priority;
    uint64_t sched_runtime; /* for SCHED_OTHER: the slice in ns; 0: the default */
    uint64_t sched_deadline;
    uint64_t sched_period;
};

TR_STATIC(sizeof(struct attributes) == 48, "its first published size");

/* The shortest the kernel grants. */
#define SLICE_NS UINT64_C(100000)

void tr__slice_shorten(void)
{
    struct attributes attributes;

    memset(&attributes, 0, sizeof attributes);
    if (syscall(SYS_sched_getattr, 0, &attributes, sizeof attributes, 0) != 0 ||
        (attributes.sched_policy != SCHED_OTHER && attributes.sched_policy != SCHED_BATCH)) {
        return;
    }
    attributes.size = sizeof attributes;
    attributes.sched_runtime = SLICE_NS;
    (void)syscall(SYS_sched_setattr, 0, &attributes, 0); /* best effort */
}
