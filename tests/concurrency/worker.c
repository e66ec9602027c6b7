/* Worker under contention: producers, thieves, and a monitor that displaces whoever it can.
 *
 * A node is posted again only after it ran, so "ran" must follow "posted" step by step; a node lost
 * or a wake-up missed is a hang, hence a time-out. The monitor plays the ring thread: it makes each
 * check at once, as if every slice were over, so seats change hands all the time.
 */
#include "engine/worker.h"

#include <pthread.h>
#include <semaphore.h>
#include <string.h>

#include "base/clock.h"
#include "support/case.h"
#include "support/wait.h"

enum {
    PRODUCERS = 8,
    JOBS = 24, /* of each producer */
#if defined(TR__WITH_TSAN)
    ROUNDS = 60,
    DUELS = 3000,
#else
    ROUNDS = 400,
    DUELS = 20000,
#endif
};

struct job {
    struct tr__mpsc_node node;
    TR__CACHE_ALIGNED tr__atomic_u32 ran;
    uint32_t posted; /* plain: the producer's, then the hook's */
    uint32_t seen;   /* plain: what the hook saw of it */
    bool lingers;    /* gives its processor away in the middle */
    bool brief;
};

struct yard {
    struct tr__workers workers;
    sem_t asked; /* a check is to be made */
    tr__atomic_u32 over;
    tr__atomic_u64 runs;
};

struct producer {
    struct yard *yard;
    unsigned number;
    struct job jobs[JOBS];
};

static void run(void *context, struct tr__worker *worker, struct tr__mpsc_node *node)
{
    struct yard *yard = context;
    struct job *job = TR__CONTAINER_OF(node, struct job, node);
    bool brief = job->brief;
    worker->rested = false;
    tr__store_relaxed(&worker->busy_since, tr__clock_now());
    if (!brief) {
        tr__worker_leaves(worker);
    }
    if (job->lingers) {
        (void)sched_yield();
    }
    job->seen = job->posted;
    (void)tr__fetch_add_relaxed(&yard->runs, UINT64_C(1));
    (void)tr__fetch_add_release(&job->ran, 1u); /* the producer's again */
    if (!brief) {
        tr__worker_returns(worker);
    }
    tr__store_relaxed(&worker->busy_since, UINT64_C(0));
}

static void watch(void *context, uint64_t when_ns)
{
    (void)when_ns;
    CHECK_EQ_INT(sem_post(&((struct yard *)context)->asked), 0);
}

static void dry(void *context)
{
    (void)context; /* nobody waits for quiet here */
}

static void come_and_go(void *context, struct tr__worker *worker)
{
    CHECK_EQ_PTR(worker->workers, &((struct yard *)context)->workers);
}

static void yard_open(struct yard *yard, uint32_t seats, uint32_t substitutes, bool spin)
{
    memset((void *)yard, 0, sizeof *yard);
    CHECK_EQ_INT(sem_init(&yard->asked, 0, 0), 0);
    struct tr__workers_config config = {
        .seats = seats,
        .substitutes_max = substitutes,
        .slice_ns = 1,
        .processors = spin ? 2 : 1,
        .spin = spin,
        .context = yard,
        .run = run,
        .watch = watch,
        .dry = dry,
        .enter = come_and_go,
        .leave = come_and_go,
    };
    CHECK_EQ_INT(tr__workers_open(&yard->workers, &config), 0);
}

static void *monitor_main(void *context)
{
    struct yard *yard = context;
    for (;;) {
        while (sem_wait(&yard->asked) != 0) {
        }
        if (tr__load_acquire(&yard->over) != 0) {
            return NULL;
        }
        tr__workers_check(&yard->workers, TR__FOREVER - 1);
        (void)sched_yield();
    }
}

static void end_monitor(struct yard *yard, pthread_t monitor)
{
    tr__store_release(&yard->over, 1u);
    CHECK_EQ_INT(sem_post(&yard->asked), 0);
    CHECK_EQ_INT(pthread_join(monitor, NULL), 0);
}

/* Posts all its jobs, singly and in chains, to seats chosen and unchosen. */
static void post_all(struct producer *producer, struct case_random *random)
{
    struct tr__workers *workers = &producer->yard->workers;
    uint32_t own = (uint32_t)case_random_next(random);
    for (unsigned i = 0; i < JOBS;) {
        unsigned length = 1 + (unsigned)case_random_below(random, 5);
        length = length < JOBS - i ? length : JOBS - i;
        for (unsigned j = i; j < i + length; j++) {
            producer->jobs[j].posted++;
            producer->jobs[j].lingers = case_random_below(random, 4) == 0;
            producer->jobs[j].brief = case_random_below(random, 2) == 0;
            if (j > i) {
                tr__mpsc_link(&producer->jobs[j - 1].node, &producer->jobs[j].node);
            }
        }
        uint32_t seat = case_random_below(random, 2) == 0
                            ? tr__workers_choose(workers, &own)
                            : (uint32_t)case_random_below(random, workers->config.seats);
        tr__workers_post_chain(workers, &producer->jobs[i].node,
                               &producer->jobs[i + length - 1].node, length, seat,
                               case_random_below(random, 2) == 0);
        i += length;
    }
}

static void *produce_main(void *context)
{
    struct producer *producer = context;
    struct case_random random;
    case_random_init(&random, producer->number);
    for (uint32_t round = 1; round <= ROUNDS; round++) {
        post_all(producer, &random);
        for (unsigned i = 0; i < JOBS; i++) {
            WAIT_UNTIL(tr__load_acquire(&producer->jobs[i].ran) >= round, 60);
            CHECK_EQ_INT(tr__load_relaxed(&producer->jobs[i].ran), round);
            CHECK_EQ_INT(producer->jobs[i].seen, round);
        }
    }
    return NULL;
}

static void crowd(uint32_t seats, uint32_t substitutes, bool spin)
{
    static struct yard yard;
    static struct producer producers[PRODUCERS];
    pthread_t threads[PRODUCERS];
    pthread_t monitor;
    yard_open(&yard, seats, substitutes, spin);
    CHECK_EQ_INT(pthread_create(&monitor, NULL, monitor_main, &yard), 0);
    memset((void *)producers, 0, sizeof producers);
    for (unsigned i = 0; i < PRODUCERS; i++) {
        producers[i].yard = &yard;
        producers[i].number = i;
        CHECK_EQ_INT(pthread_create(&threads[i], NULL, produce_main, &producers[i]), 0);
    }
    for (unsigned i = 0; i < PRODUCERS; i++) {
        CHECK_EQ_INT(pthread_join(threads[i], NULL), 0);
    }
    end_monitor(&yard, monitor);
    CHECK_EQ_U64(tr__load_relaxed(&yard.runs), (uint64_t)PRODUCERS * JOBS * ROUNDS);
    CHECK_EQ_INT(tr__workers_close(&yard.workers, TR__FOREVER), 0);
    CHECK_EQ_U64(tr__load_relaxed(&yard.runs), (uint64_t)PRODUCERS * JOBS * ROUNDS);
    CHECK_EQ_INT(tr__load_relaxed(&yard.workers.searching), 0);
    tr__workers_done(&yard.workers);
}

CASE_TIMEOUT(worker_concurrency, each_node_runs_once_on_two_seats, 120)
{
    crowd(2, 0, false);
}

CASE_TIMEOUT(worker_concurrency, each_node_runs_once_on_three_looking_seats, 120)
{
    crowd(3, 0, true);
}

CASE_TIMEOUT(worker_concurrency, each_node_runs_once_while_seats_change_hands, 120)
{
    crowd(4, 4, false);
}

CASE_TIMEOUT(worker_concurrency, each_node_runs_once_on_one_seat_with_spares, 120)
{
    crowd(1, 3, true);
}

/* One node at a time, so each must find its own wake, in whatever moment of falling asleep. */
static void ping(bool spin, bool brief)
{
    static struct yard yard;
    pthread_t monitor;
    struct job job;
    struct case_random random;
    case_random_init(&random, 0);
    memset((void *)&job, 0, sizeof job);
    yard_open(&yard, 3, 1, spin);
    CHECK_EQ_INT(pthread_create(&monitor, NULL, monitor_main, &yard), 0);
    for (uint32_t round = 1; round <= DUELS; round++) {
        job.posted = round;
        job.brief = brief;
        tr__workers_post(&yard.workers, &job.node, (uint32_t)case_random_below(&random, 3), false);
        while (tr__load_acquire(&job.ran) != round) {
            tr__cpu_relax();
            if (case_random_below(&random, 64) == 0) {
                (void)sched_yield();
            }
        }
        for (uint64_t left = case_random_below(&random, 2000); left > 0; left--) {
            __asm__ __volatile__("" ::: "memory");
        }
    }
    end_monitor(&yard, monitor);
    CHECK_EQ_INT(tr__workers_close(&yard.workers, TR__FOREVER), 0);
    tr__workers_done(&yard.workers);
}

CASE_TIMEOUT(worker_concurrency, a_lone_node_is_never_slept_through, 120)
{
    ping(false, false);
    ping(false, true);
}

CASE_TIMEOUT(worker_concurrency, a_lone_node_is_never_looked_past, 120)
{
    ping(true, false);
    ping(true, true);
}

/* Closing while the last nodes are on their way: none stays in a queue. */
CASE_TIMEOUT(worker_concurrency, closing_races_with_the_last_nodes_and_loses_none, 120)
{
    static struct yard yard;
    static struct producer producer;
    struct case_random random;
    case_random_init(&random, 0);
    for (unsigned round = 0; round < ROUNDS; round++) {
        yard_open(&yard, 1 + round % 4, round % 3, round % 2 != 0);
        memset((void *)&producer, 0, sizeof producer);
        producer.yard = &yard;
        post_all(&producer, &random);
        CHECK_EQ_INT(tr__workers_close(&yard.workers, TR__FOREVER), 0);
        for (unsigned i = 0; i < JOBS; i++) {
            CHECK_EQ_INT(tr__load_relaxed(&producer.jobs[i].ran), 1);
        }
        tr__workers_done(&yard.workers);
    }
}
