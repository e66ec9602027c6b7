/* A crew: workers with a run hook of the test's own, and jobs that can be held up.
 *
 * The hook does what the engine's does around a tool: it says since when it is busy, and, unless
 * the job passes for brief, that it leaves its seat to others. `watch` only remembers that it was
 * called: the test plays the ring thread and calls tr__workers_check itself.
 */
#ifndef TR__TESTS_UNIT_CREW_H
#define TR__TESTS_UNIT_CREW_H

#include <semaphore.h>
#include <string.h>

#include "base/clock.h"
#include "engine/worker.h"
#include "support/case.h"
#include "support/wait.h"

enum crew_kind {
    CREW_QUICK,       /* counts and returns */
    CREW_STUCK,       /* announces itself as long, then waits for its release */
    CREW_STUCK_BRIEF, /* the same, but passes for brief */
};

enum {
    CREW_THREADS_MAX = 16,
};

struct crew;

struct crew_job {
    struct tr__mpsc_node node;
    struct crew *crew;
    enum crew_kind kind;
    uint32_t number;
    sem_t release; /* a stuck job waits here */
    tr__atomic_u32 begun;
    tr__atomic_u32 ran;    /* how often */
    tr__atomic_u32 place;  /* when, among all of the crew: from 1 */
    tr__atomic_u32 worker; /* index of the thread that ran it */
    uint64_t payload;      /* plain: written before posting, changed by the hook */
    uint64_t look_on_ns;   /* its worker's when it ran */
};

struct crew {
    struct tr__workers workers;
    tr__atomic_u32 places;
    tr__atomic_u32 watched; /* calls of watch */
    tr__atomic_u64 watch_ns;
    tr__atomic_u32 dried;
    tr__atomic_u32 entered;
    tr__atomic_u32 left;
};

static inline void crew_run(void *context, struct tr__worker *worker, struct tr__mpsc_node *node)
{
    struct crew *crew = context;
    struct crew_job *job = TR__CONTAINER_OF(node, struct crew_job, node);
    worker->rested = false;
    tr__store_relaxed(&worker->busy_since, tr__clock_now());
    if (job->kind == CREW_STUCK) {
        tr__worker_leaves(worker);
    }
    tr__store_relaxed(&job->worker, worker->index);
    tr__store_relaxed(&job->place, tr__fetch_add_relaxed(&crew->places, 1u) + 1);
    job->payload++;
    job->look_on_ns = worker->look_on_ns;
    tr__store_release(&job->begun, 1u);
    if (job->kind != CREW_QUICK) {
        while (sem_wait(&job->release) != 0) {
        }
    }
    enum crew_kind kind = job->kind;
    (void)tr__fetch_add_release(&job->ran, 1u); /* from here on the job is the poster's again */
    if (kind == CREW_STUCK) {
        tr__worker_returns(worker);
    }
    tr__store_relaxed(&worker->busy_since, UINT64_C(0));
}

static inline void crew_watch(void *context, uint64_t when_ns)
{
    struct crew *crew = context;
    tr__store_relaxed(&crew->watch_ns, when_ns);
    (void)tr__fetch_add_release(&crew->watched, 1u);
}

static inline void crew_dry(void *context)
{
    (void)tr__fetch_add_relaxed(&((struct crew *)context)->dried, 1u);
}

static inline void crew_enter(void *context, struct tr__worker *worker)
{
    struct crew *crew = context;
    CHECK_EQ_PTR(worker->workers, &crew->workers);
    (void)tr__fetch_add_relaxed(&crew->entered, 1u);
}

static inline void crew_leave(void *context, struct tr__worker *worker)
{
    (void)worker;
    (void)tr__fetch_add_release(&((struct crew *)context)->left, 1u);
}

static inline struct tr__workers_config crew_config(struct crew *crew, uint32_t seats,
                                                    uint32_t substitutes, bool spin)
{
    struct tr__workers_config config;
    memset(&config, 0, sizeof config);
    config.seats = seats;
    config.substitutes_max = substitutes;
    config.slice_ns = 1000000;
    config.spin = spin;
    config.context = crew;
    config.run = crew_run;
    config.watch = crew_watch;
    config.dry = crew_dry;
    config.enter = crew_enter;
    config.leave = crew_leave;
    return config;
}

static inline void crew_open(struct crew *crew, uint32_t seats, uint32_t substitutes, bool spin)
{
    memset((void *)crew, 0, sizeof *crew);
    struct tr__workers_config config = crew_config(crew, seats, substitutes, spin);
    CHECK_EQ_INT(tr__workers_open(&crew->workers, &config), 0);
}

static inline void crew_close(struct crew *crew)
{
    CHECK_EQ_INT(tr__workers_close(&crew->workers, TR__FOREVER), 0);
    CHECK_EQ_INT(tr__load_acquire(&crew->left), tr__load_relaxed(&crew->entered));
    tr__workers_done(&crew->workers);
}

static inline void crew_job_init(struct crew_job *job, struct crew *crew, enum crew_kind kind)
{
    memset((void *)job, 0, sizeof *job);
    job->crew = crew;
    job->kind = kind;
    CHECK_EQ_INT(sem_init(&job->release, 0, 0), 0);
}

static inline void crew_post(struct crew_job *job, uint32_t seat)
{
    tr__workers_post(&job->crew->workers, &job->node, seat, false);
}

static inline void crew_release(struct crew_job *job)
{
    CHECK_EQ_INT(sem_post(&job->release), 0);
}

static inline void crew_await_begun(struct crew_job *job)
{
    WAIT_UNTIL(tr__load_acquire(&job->begun) != 0, 20);
}

static inline void crew_await_ran(struct crew_job *job)
{
    WAIT_UNTIL(tr__load_acquire(&job->ran) != 0, 20);
}

/* All seats asleep or about to be. */
static inline void crew_await_idle(struct crew *crew)
{
    uint32_t seats = crew->workers.config.seats;
    uint64_t all = seats == 64 ? UINT64_MAX : (UINT64_C(1) << seats) - 1;
    WAIT_UNTIL(tr__load_seq_cst(&crew->workers.idle) == all, 20);
}

/* Plays the ring thread: makes the check that was asked for, if one was, as if it were due. */
static inline void crew_check(struct crew *crew)
{
    if (tr__load_acquire(&crew->watched) != 0) {
        uint64_t when = tr__load_relaxed(&crew->watch_ns);
        tr__store_relaxed(&crew->watched, 0u);
        tr__workers_check(&crew->workers, when);
    }
}

static inline void crew_await_begun_checked(struct crew_job *job)
{
    WAIT_UNTIL((crew_check(job->crew), tr__load_acquire(&job->begun) != 0), 20);
}

static inline void crew_await_ran_checked(struct crew_job *job)
{
    WAIT_UNTIL((crew_check(job->crew), tr__load_acquire(&job->ran) != 0), 20);
}

#endif
