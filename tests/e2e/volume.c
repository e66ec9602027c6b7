/*
 * A million no-op background calls through a bounded manager: none lost, none twice, and as much
 * memory in use afterwards as before. Not timed.
 */
#include <stdio.h>
#include <stdlib.h>
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
    LAUNCHERS = 2,
#if defined(SANITIZED)
    CALLS = 60000, /* a sanitizer makes each some twenty times dearer, and has memory of its own */
#else
    CALLS = 1000000,
#endif
    EACH = CALLS / LAUNCHERS,
    GROUP = 50,
};

static unsigned char seen[CALLS];

struct volume {
    struct rig *rig;
    unsigned first;
};

static void *launch_half(void *argument)
{
    const struct volume *self = argument;
    struct rig *rig = self->rig;
    for (unsigned at = 0; at < EACH; at += GROUP) {
        tr_request requests[GROUP];
        tr_launched launched[GROUP];
        for (unsigned each = 0; each < GROUP; each++) {
            tr_request request = TR_REQUEST_INIT(rig->turn, rig->nothing);
            request.user = &seen[self->first + at + each];
            request.options.route = TR_ROUTE_BACKGROUND;
            request.admit_timeout_ns = RIG_PATIENCE_NS;
            requests[each] = request;
        }
        CHECK_EQ_INT(tr_launch_batch(rig->manager, requests, GROUP, launched), GROUP);
    }
    return NULL;
}

/* Launches, runs and drains them all. */
static void run_all(struct rig *rig)
{
    struct volume halves[LAUNCHERS];
    pthread_t threads[LAUNCHERS];
    memset(seen, 0, sizeof seen);
    for (unsigned at = 0; at < LAUNCHERS; at++) {
        halves[at].rig = rig;
        halves[at].first = at * EACH;
        threads[at] = rig_thread(launch_half, &halves[at]);
    }
    for (unsigned taken = 0; taken < CALLS;) {
        tr_batch *batch = NULL;
        int count = tr_loop_take(rig->manager, rig->session, RIG_PATIENCE_NS, 256, &batch);
        CHECK(count > 0);
        for (int at = 0; at < count; at++) {
            unsigned char *mark = batch->items[at].user;
            CHECK_EQ_INT(batch->items[at].outcome, TR_OUTCOME_COMPLETED);
            CHECK_EQ_INT(*mark, 0);
            *mark = 1;
        }
        taken += (unsigned)count;
        tr_batch_release(batch);
    }
    for (unsigned at = 0; at < LAUNCHERS; at++) {
        rig_join(threads[at]);
    }
    rig_loop_is_empty(rig, rig->session);
    rig_wait_idle(rig);
    for (unsigned at = 0; at < CALLS; at++) {
        CHECK_EQ_INT(seen[at], 1);
    }
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

static void check_volume(enum rig_mode mode)
{
    struct rig rig;
    tr_config config = TR_CONFIG_INIT;
    config.tasks_max = 4096;
    rig_open(&rig, mode, &config);
    run_all(&rig); /* the warm-up is of the same size */
    uint64_t before = resident_pages();
    run_all(&rig);
    uint64_t after = resident_pages();
    CHECK_EQ_U64(rig_stats(&rig).completed, 2 * CALLS);
    CHECK_EQ_U64(rig_stats(&rig).tasks_used, 0);
    CHECK_EQ_U64(rig_stats(&rig).bytes_used, 0);
#if !defined(SANITIZED)
    /* 2 %, and some pages that an allocator may or may not have given back: a quarter of a byte per
     * call would be more. */
    if (after > before + before / 50 + 64) {
        case_fail(__FILE__, __LINE__, "resident pages: %" PRIu64 " before, %" PRIu64 " after",
                  before, after);
    }
#else
    (void)before; /* a sanitizer keeps what was freed */
    (void)after;
#endif
    rig_close(&rig);
}

CASE_TIMEOUT(volume, a_million_calls_threaded, 300)
{
    check_volume(RIG_THREADED);
}

CASE_TIMEOUT(volume, a_million_calls_inline, 300)
{
    check_volume(RIG_INLINE);
}
