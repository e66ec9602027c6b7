/* Worker: who is woken and who need not be: looking on before sleeping, for how long, and that
 * whoever is on its way counts as awake. */
#include "engine/worker.h"

#include "unit/crew.h"

static struct crew crew;

enum {
    LOOK_ON_NS = 50000, /* worker.c's */
    LOOK_ON_MIN_NS = 1000,
    ROUNDS = 20,
    JOBS = 200,           /* more than worker.c's BACKLOG_MAX */
    LONG_NS = 2000000000, /* times a thousand: longer than any case may take */
};

/* What the sleeping worker of seat 0 will look on for next time: it reads it after it was woken. */
static void set_look_on(uint64_t ns)
{
    crew_await_idle(&crew);
    crew.workers.workers[0].look_on_ns = ns;
}

/* Posts a job to the sleeping worker of seat 0 and waits until it sleeps again. */
static void run_one(struct crew_job *job)
{
    crew_await_idle(&crew);
    crew_job_init(job, &crew, CREW_QUICK);
    crew_post(job, 0);
    crew_await_ran(job);
    crew_await_idle(&crew);
}

/* Two workers have gone to sleep as often as they were woken and once more: they do not look at the
 * queues any more, as one may that is only about to sleep. */
static void await_asleep(uint64_t woken)
{
    WAIT_UNTIL(tr__workers_count(&crew.workers, TR__WORKERS_PARKED) == 2 + woken, 20);
    crew_await_idle(&crew); /* what they wrote before is seen */
}

/* Every look in vain is half as long as the one before, down to the least. */
CASE(worker_wakes, who_looks_on_in_vain_looks_on_less)
{
    struct crew_job job;
    uint64_t expected = LOOK_ON_NS / 2; /* there was one look at the start */
    crew_open(&crew, 1, 0, true);
    for (unsigned round = 0; round < 12; round++) {
        run_one(&job);
        CHECK_EQ_U64(job.look_on_ns, expected);
        expected = expected / 2 > LOOK_ON_MIN_NS ? expected / 2 : LOOK_ON_MIN_NS;
        CHECK_EQ_U64(crew.workers.workers[0].look_on_ns, expected);
    }
    CHECK_EQ_U64(expected, LOOK_ON_MIN_NS);
    crew_close(&crew);
}

/* Where looking on does not help, nobody does. */
CASE(worker_wakes, nobody_looks_on_where_it_does_not_help)
{
    struct crew_job job;
    crew_open(&crew, 1, 0, false);
    run_one(&job);
    CHECK_EQ_U64(crew.workers.workers[0].look_on_ns, 0);
    crew_close(&crew);
}

/* Every look that was worth it makes the next one twice as long, up to the most. The worker sees
 * the job, again and again, but cannot take it: another has the token. */
CASE(worker_wakes, who_looked_on_with_success_looks_on_longer)
{
    struct crew_job job;
    struct tr__token *token = NULL;
    crew_open(&crew, 1, 0, true);
    token = &crew.workers.seats[0].token;
    WAIT_UNTIL(({
                   set_look_on(LOOK_ON_MIN_NS);
                   CHECK(tr__token_try_take(token)); /* it sleeps: nobody has it */
                   crew_job_init(&job, &crew, CREW_QUICK);
                   crew_post(&job, 0);
                   for (unsigned i = 0; i < 50; i++) {
                       (void)sched_yield(); /* it may look now, or not: then once more */
                   }
                   tr__token_give(token);
                   crew_await_ran(&job);
                   uint64_t grown = job.look_on_ns / LOOK_ON_MIN_NS;
                   CHECK(grown == LOOK_ON_NS / LOOK_ON_MIN_NS || (grown & (grown - 1)) == 0);
                   CHECK(job.look_on_ns >= LOOK_ON_MIN_NS && job.look_on_ns <= LOOK_ON_NS);
                   job.look_on_ns == LOOK_ON_NS;
               }),
               20);
    crew_close(&crew);
}

/* Nobody is woken for work that somebody looks on for, however much it is; and a look ends when the
 * crew is closed. */
CASE(worker_wakes, who_looks_on_needs_no_wake)
{
    static struct crew_job jobs[JOBS];
    struct crew_job first;
    crew_open(&crew, 2, 0, true);
    crew.workers.config.processors = 8; /* so that much work is worth a wake */
    for (unsigned round = 0; round < ROUNDS; round++) {
        await_asleep(round);
        for (unsigned i = 0; i < 2; i++) {
            crew.workers.workers[i].look_on_ns = LONG_NS * UINT64_C(1000);
        }
        crew_job_init(&first, &crew, CREW_QUICK);
        crew_post(&first, round % 2);
        crew_await_ran(&first);
        WAIT_UNTIL(tr__load_seq_cst(&crew.workers.searching) == 1, 20);
        uint32_t seat = tr__load_relaxed(&first.worker);
        struct tr__token *token = &crew.workers.seats[seat].token;
        WAIT_UNTIL(tr__token_try_take(token), 20); /* so that it goes on looking meanwhile */
        uint64_t wakes = tr__workers_count(&crew.workers, TR__WORKERS_WAKES);
        for (unsigned i = 0; i < JOBS; i++) {
            crew_job_init(&jobs[i], &crew, CREW_QUICK);
            if (i > 0) {
                tr__mpsc_link(&jobs[i - 1].node, &jobs[i].node);
            }
        }
        tr__workers_post_chain(&crew.workers, &jobs[0].node, &jobs[JOBS - 1].node, JOBS, seat,
                               false);
        CHECK_EQ_U64(tr__workers_count(&crew.workers, TR__WORKERS_WAKES), wakes);
        tr__token_give(token);
        crew_await_ran(&jobs[JOBS - 1]);
        CHECK_EQ_INT(tr__load_relaxed(&jobs[0].worker), seat);
    }
    await_asleep(ROUNDS);
    crew.workers.workers[0].look_on_ns = LONG_NS * UINT64_C(1000);
    crew_job_init(&first, &crew, CREW_QUICK);
    crew_post(&first, 0);
    crew_await_ran(&first);
    crew_close(&crew);
}

/* A seat whose occupant was woken is no sleeper's any more, though it has not come to its queue
 * yet: what follows at once wakes nobody else. (The first job passes for brief and stays, so that
 * the occupant is not asleep again by then.) */
CASE(worker_wakes, who_is_on_its_way_counts_as_awake)
{
    struct crew_job first;
    struct crew_job second;
    crew_open(&crew, 2, 0, false);
    for (unsigned round = 0; round < 300; round++) {
        uint32_t seat = round % 2;
        await_asleep(round);
        crew_job_init(&first, &crew, CREW_STUCK_BRIEF);
        crew_job_init(&second, &crew, CREW_QUICK);
        uint64_t wakes = tr__workers_count(&crew.workers, TR__WORKERS_WAKES);
        crew_post(&first, seat);
        crew_post(&second, seat);
        crew_await_begun(&first);
        CHECK_EQ_INT(tr__load_seq_cst(&crew.workers.idle), UINT64_C(1) << (1 - seat));
        crew_release(&first);
        crew_await_ran(&second);
        CHECK_EQ_INT(tr__load_relaxed(&first.worker), seat);
        CHECK_EQ_INT(tr__load_relaxed(&second.worker), seat);
        CHECK_EQ_U64(tr__workers_count(&crew.workers, TR__WORKERS_WAKES) - wakes, 1);
        crew_check(&crew); /* whoever relied on that has asked for a check */
    }
    crew_close(&crew);
}
