/* Worker: running, priorities, stealing, substitutes, sleeping, the wake chain, the end. */
#include "engine/worker.h"

#include <toolring/error.h>

#include "base/memory.h"
#include "unit/crew.h"

static struct crew crew;

enum {
    JOBS = 400,
    HIGHS_IN_A_ROW = 16, /* worker.c's HIGHS_MAX */
};

static struct crew_job jobs[JOBS];

static void init_jobs(enum crew_kind kind)
{
    for (uint32_t i = 0; i < JOBS; i++) {
        crew_job_init(&jobs[i], &crew, kind);
        jobs[i].number = i;
    }
}

static void await_all(uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        crew_await_ran(&jobs[i]);
        CHECK_EQ_INT(tr__load_relaxed(&jobs[i].ran), 1);
    }
}

CASE(worker, every_node_runs_once)
{
    struct case_random random;
    case_random_init(&random, 0);
    for (uint32_t seats = 1; seats <= 4; seats++) {
        crew_open(&crew, seats, seats - 1, seats % 2 == 0);
        init_jobs(CREW_QUICK);
        for (uint32_t i = 0; i < JOBS; i++) {
            uint32_t seat = (uint32_t)case_random_below(&random, seats);
            tr__workers_post(&crew.workers, &jobs[i].node, seat, case_random_below(&random, 2));
        }
        await_all(JOBS);
        crew_close(&crew);
        for (uint32_t i = 0; i < JOBS; i++) {
            CHECK_EQ_INT(tr__load_relaxed(&jobs[i].ran), 1);
        }
    }
}

CASE(worker, threads_enter_and_leave_once_each)
{
    crew_open(&crew, 3, 2, false);
    WAIT_UNTIL(tr__load_acquire(&crew.entered) == 4, 20); /* three seats and one spare */
    crew_close(&crew);
    CHECK_EQ_INT(tr__load_relaxed(&crew.left), 4);
    crew_open(&crew, 2, 0, false);
    crew_close(&crew);
    CHECK_EQ_INT(tr__load_relaxed(&crew.entered), 2); /* no substitutes: no spare */
}

CASE(worker, without_memory_it_does_not_open)
{
    for (long n = 1; n <= 2; n++) {
        memset((void *)&crew, 0, sizeof crew);
        struct tr__workers_config config = crew_config(&crew, 2, 1, false);
        tr__memory_fail_after(n);
        CHECK_EQ_INT(tr__workers_open(&crew.workers, &config), TR_ENOMEM);
        CHECK_EQ_INT(tr__memory_fail_left(), 0);
    }
    crew_open(&crew, 2, 1, false);
    crew_close(&crew);
}

/* Seat 0 of one, with a worker in a tool: what is posted now waits, in the order of the queues. */
static void hold_up(struct crew_job *stuck)
{
    crew_open(&crew, 1, 0, false);
    crew_job_init(stuck, &crew, CREW_STUCK);
    crew_post(stuck, 0);
    crew_await_begun(stuck);
}

CASE(worker, high_goes_before_low_but_not_for_ever)
{
    struct crew_job stuck;
    hold_up(&stuck);
    init_jobs(CREW_QUICK);
    for (uint32_t i = 0; i < JOBS; i++) {
        tr__workers_post(&crew.workers, &jobs[i].node, 0, i % 2 == 0);
    }
    crew_release(&stuck);
    await_all(JOBS);
    crew_close(&crew);
    uint32_t order[JOBS + 2] = {0};
    for (uint32_t i = 0; i < JOBS; i++) {
        order[tr__load_relaxed(&jobs[i].place)] = i;
    }
    uint32_t highs = 0;
    uint32_t last[2] = {0, 0};
    for (uint32_t place = 2; place < JOBS + 2; place++) {
        uint32_t number = order[place];
        bool low = number % 2 == 0;
        CHECK(last[low] == 0 || number > last[low]); /* in the order posted, each for itself */
        last[low] = number;
        bool highs_left = last[0] != JOBS - 1;
        if (low && highs_left) {
            CHECK_EQ_INT(highs, HIGHS_IN_A_ROW);
        }
        highs = low ? 0 : highs + 1;
        CHECK(low || highs <= HIGHS_IN_A_ROW);
    }
}

CASE(worker, a_chain_keeps_its_order)
{
    struct crew_job stuck;
    hold_up(&stuck);
    init_jobs(CREW_QUICK);
    for (uint32_t i = 0; i + 1 < JOBS; i++) {
        tr__mpsc_link(&jobs[i].node, &jobs[i + 1].node);
    }
    tr__workers_post_chain(&crew.workers, &jobs[0].node, &jobs[JOBS - 1].node, JOBS, 0, false);
    crew_release(&stuck);
    await_all(JOBS);
    for (uint32_t i = 0; i < JOBS; i++) {
        CHECK_EQ_INT(tr__load_relaxed(&jobs[i].place), i + 2);
    }
    crew_close(&crew);
}

CASE(worker, work_behind_a_long_tool_is_taken_by_an_idle_neighbour)
{
    struct crew_job stuck;
    crew_open(&crew, 2, 0, false);
    crew_await_idle(&crew);
    crew_job_init(&stuck, &crew, CREW_STUCK);
    crew_post(&stuck, 0);
    crew_await_begun(&stuck);
    uint32_t seat = tr__load_relaxed(&stuck.worker);
    init_jobs(CREW_QUICK);
    for (uint32_t i = 0; i < 50; i++) {
        WAIT_UNTIL(tr__load_seq_cst(&crew.workers.idle) == UINT64_C(1) << (1 - seat), 20);
        crew_post(&jobs[i], seat);
        crew_await_ran(&jobs[i]);
        CHECK_EQ_INT(tr__load_relaxed(&jobs[i].worker), 1 - seat);
    }
    CHECK_EQ_INT(tr__workers_count(&crew.workers, TR__WORKERS_STOLEN), 50);
    crew_release(&stuck);
    crew_close(&crew);
}

/* It said brief and was wrong: nobody is woken for what waits behind it, but a check is coming. */
CASE(worker, work_behind_a_tool_that_passed_for_brief_is_found_by_the_monitor)
{
    struct crew_job stuck;
    crew_open(&crew, 2, 0, false);
    crew_await_idle(&crew);
    crew_job_init(&stuck, &crew, CREW_STUCK_BRIEF);
    crew_job_init(&jobs[0], &crew, CREW_QUICK);
    crew_post(&stuck, 0);
    crew_await_begun(&stuck);
    crew_post(&jobs[0], tr__load_relaxed(&stuck.worker));
    crew_await_ran_checked(&jobs[0]);
    CHECK(tr__load_relaxed(&jobs[0].worker) != tr__load_relaxed(&stuck.worker));
    crew_release(&stuck);
    crew_close(&crew);
}

/* A worker that lost its seat in the middle of tr__worker_returns still calls it brief, though its
 * successor has gone to sleep meanwhile. */
CASE(worker, a_sleeper_who_was_called_brief_is_woken_by_the_monitor)
{
    crew_open(&crew, 2, 0, false);
    init_jobs(CREW_QUICK);
    for (uint32_t i = 0; i < 20; i++) {
        crew_await_idle(&crew);
        tr__store_seq_cst(&crew.workers.seats[i % 2].mode, (uint32_t)TR__SEAT_BRIEF);
        crew_post(&jobs[i], i % 2);
        crew_await_ran_checked(&jobs[i]);
    }
    crew_close(&crew);
}

/* Both seats stuck, one after another; then work comes. */
static void hold_up_all(struct crew_job *stuck, uint32_t count, enum crew_kind kind)
{
    for (uint32_t i = 0; i < count; i++) {
        crew_job_init(&stuck[i], &crew, kind);
        crew_post(&stuck[i], i % crew.workers.config.seats);
        crew_await_begun_checked(&stuck[i]);
    }
}

CASE(worker, substitutes_take_the_seats_of_stuck_workers)
{
    struct crew_job stuck[2];
    for (int kind = CREW_STUCK; kind <= CREW_STUCK_BRIEF; kind++) {
        crew_open(&crew, 2, 2, false);
        hold_up_all(stuck, 2, (enum crew_kind)kind);
        /* Two may have come to the same seat, one behind the other: then a substitute has helped
         * already, and a first worker is free. */
        uint64_t early = tr__workers_count(&crew.workers, TR__WORKERS_SUBSTITUTES);
        init_jobs(CREW_QUICK);
        for (uint32_t i = 0; i < 20; i++) {
            crew_post(&jobs[i], i % 2);
            crew_await_ran_checked(&jobs[i]);
            CHECK(early > 0 || tr__load_relaxed(&jobs[i].worker) >= 2); /* a substitute's index */
        }
        uint64_t substitutes = tr__workers_count(&crew.workers, TR__WORKERS_SUBSTITUTES);
        CHECK(substitutes >= 1 && substitutes <= 2);
        crew_release(&stuck[0]);
        crew_release(&stuck[1]);
        crew_close(&crew);
        CHECK(tr__load_relaxed(&crew.entered) <= 4);
    }
}

/* All threads there may be are stuck: work waits, the check says when to look again, and whoever
 * comes back first does it. */
CASE(worker, beyond_the_cap_work_waits)
{
    struct crew_job stuck[4];
    crew_open(&crew, 2, 2, false);
    hold_up_all(stuck, 4, CREW_STUCK);
    CHECK_EQ_INT(tr__workers_count(&crew.workers, TR__WORKERS_SUBSTITUTES), 2);
    CHECK_EQ_INT(tr__load_relaxed(&crew.entered), 4);
    crew_job_init(&jobs[0], &crew, CREW_QUICK);
    crew_post(&jobs[0], 0);
    for (int i = 0; i < 10; i++) {
        WAIT_UNTIL(tr__load_acquire(&crew.watched) != 0, 20); /* while work waits, ever again */
        crew_check(&crew);
    }
    CHECK_EQ_INT(tr__load_acquire(&jobs[0].ran), 0);
    CHECK_EQ_INT(tr__workers_count(&crew.workers, TR__WORKERS_SUBSTITUTES), 2);
    for (int i = 3; i >= 0; i--) {
        crew_release(&stuck[i]);
    }
    crew_await_ran(&jobs[0]);
    crew_close(&crew);
}

CASE(worker, a_displaced_worker_becomes_a_spare_again)
{
    struct crew_job stuck[2];
    crew_open(&crew, 1, 1, false);
    for (uint32_t round = 1; round <= 50; round++) {
        hold_up_all(stuck, 2, CREW_STUCK); /* the second one only with the spare */
        CHECK_EQ_INT(tr__workers_count(&crew.workers, TR__WORKERS_SUBSTITUTES), round);
        crew_release(&stuck[0]);
        crew_await_ran(&stuck[0]);
        crew_release(&stuck[1]);
        crew_await_ran(&stuck[1]);
        crew_await_idle(&crew);
        WAIT_UNTIL(({
                       (void)pthread_mutex_lock(&crew.workers.lock);
                       bool spare = crew.workers.spares != NULL;
                       (void)pthread_mutex_unlock(&crew.workers.lock);
                       spare;
                   }),
                   20);
        tr__store_relaxed(&crew.watched, 0u);
        tr__workers_check(&crew.workers, tr__clock_now()); /* nothing waits: the watch is over */
        CHECK_EQ_INT(tr__load_relaxed(&crew.watched), 0);
    }
    crew_close(&crew);
    CHECK_EQ_INT(tr__load_relaxed(&crew.entered), 2);
}

/* One wake, two nodes, and the first keeps its worker: nobody is left to wake for the second, so a
 * check must come. */
CASE(worker, a_burst_whose_first_node_sticks_is_watched)
{
    static const enum crew_kind kinds[] = {CREW_STUCK, CREW_STUCK_BRIEF};
    for (unsigned k = 0; k < 2; k++) {
        struct crew_job first;
        struct crew_job second;
        struct crew_job quick;
        crew_open(&crew, 2, 2, false);
        crew_await_idle(&crew);
        crew_job_init(&first, &crew, CREW_STUCK);
        crew_job_init(&second, &crew, kinds[k]);
        crew_job_init(&quick, &crew, CREW_QUICK);
        crew_post(&first, 0);
        crew_await_begun(&first);
        uint32_t seat = tr__load_relaxed(&first.worker);
        WAIT_UNTIL(tr__load_seq_cst(&crew.workers.idle) == UINT64_C(1) << (1 - seat), 20);
        tr__store_relaxed(&crew.watched, 0u);
        tr__workers_check(&crew.workers, tr__clock_now()); /* nothing waits: the watch is over */
        CHECK_EQ_INT(tr__load_relaxed(&crew.watched), 0);
        tr__mpsc_link(&second.node, &quick.node);
        tr__workers_post_chain(&crew.workers, &second.node, &quick.node, 2, seat, false);
        crew_await_begun(&second);
        crew_await_ran_checked(&quick);
        crew_release(&first);
        crew_release(&second);
        crew_close(&crew);
    }
}

/* No check is made here: each woken worker sees to it that the next one is woken. */
CASE(worker, one_wake_stands_for_a_burst)
{
    struct crew_job long_ones[4];
    crew_open(&crew, 4, 0, false);
    for (unsigned round = 0; round < 200; round++) {
        crew_await_idle(&crew);
        for (unsigned i = 0; i < 4; i++) {
            crew_job_init(&long_ones[i], &crew, CREW_STUCK);
        }
        for (unsigned i = 0; i < 3; i++) {
            tr__mpsc_link(&long_ones[i].node, &long_ones[i + 1].node);
        }
        tr__workers_post_chain(&crew.workers, &long_ones[0].node, &long_ones[3].node, 4, round % 4,
                               round % 3 == 0);
        for (unsigned i = 0; i < 4; i++) {
            crew_await_begun(&long_ones[i]);
        }
        for (unsigned i = 0; i < 4; i++) {
            crew_release(&long_ones[i]);
        }
        for (unsigned i = 0; i < 4; i++) {
            crew_await_ran(&long_ones[i]);
        }
    }
    crew_close(&crew);
}

static uint64_t restlessness(void)
{
    return tr__workers_count(&crew.workers, TR__WORKERS_PARKED) +
           tr__workers_count(&crew.workers, TR__WORKERS_WAKES) +
           tr__workers_count(&crew.workers, TR__WORKERS_STOLEN) + tr__load_relaxed(&crew.dried) +
           tr__load_relaxed(&crew.watched);
}

static void yield(unsigned times)
{
    for (unsigned i = 0; i < times; i++) {
        (void)sched_yield();
    }
}

CASE(worker, whoever_has_nothing_to_do_sleeps_and_stays_asleep)
{
    for (unsigned spin = 0; spin < 2; spin++) {
        crew_open(&crew, 4, 2, spin != 0);
        init_jobs(CREW_QUICK);
        for (uint32_t i = 0; i < JOBS; i++) {
            crew_post(&jobs[i], i % 4);
        }
        await_all(JOBS);
        crew_await_idle(&crew);
        CHECK(tr__load_relaxed(&crew.dried) > 0);
        tr__workers_fence(&crew.workers); /* whoever asks whether all is quiet wakes nobody */
        uint64_t before = 0;
        WAIT_UNTIL(({
                       before =
                           restlessness(); /* the last one may be between its bit and its bed */
                       yield(200);
                       restlessness() == before;
                   }),
                   20);
        yield(5000);
        CHECK_EQ_U64(restlessness(), before);
        CHECK_EQ_INT(tr__load_relaxed(&crew.workers.searching), 0);
        crew_close(&crew);
    }
}

CASE(worker, a_seat_is_chosen_that_is_there)
{
    uint32_t random = 1;
    struct crew_job stuck[3];
    crew_open(&crew, 3, 0, false);
    crew_await_idle(&crew);
    CHECK(tr__workers_choose(&crew.workers, &random) < 3);
    hold_up_all(stuck, 3, CREW_STUCK);
    init_jobs(CREW_QUICK);
    for (uint32_t i = 0; i < 30; i++) { /* seat 0 has a long queue: the others are shorter */
        crew_post(&jobs[i], 0);
    }
    uint32_t chosen[3] = {0, 0, 0};
    for (uint32_t i = 0; i < 3000; i++) {
        uint32_t seat = tr__workers_choose(&crew.workers, &random);
        CHECK(seat < 3);
        chosen[seat]++;
    }
    CHECK(chosen[0] < chosen[1] && chosen[0] < chosen[2]);
    for (unsigned i = 0; i < 3; i++) {
        crew_release(&stuck[i]);
    }
    await_all(30);
    crew_close(&crew);
}

CASE(worker, closing_runs_what_is_queued)
{
    for (uint32_t seats = 1; seats <= 4; seats++) {
        crew_open(&crew, seats, 1, seats % 2 == 0);
        init_jobs(CREW_QUICK);
        for (uint32_t i = 0; i < JOBS; i++) {
            tr__workers_post(&crew.workers, &jobs[i].node, i % seats, i % 3 == 0);
        }
        crew_close(&crew);
        for (uint32_t i = 0; i < JOBS; i++) {
            CHECK_EQ_INT(tr__load_acquire(&jobs[i].ran), 1);
        }
    }
}

static void close_with_stuck(enum crew_kind kind)
{
    static struct crew_job stuck[2];
    crew_open(&crew, 3, 0, false);
    hold_up_all(stuck, 2, kind);
    init_jobs(CREW_QUICK);
    for (uint32_t i = 0; i < JOBS; i++) {
        crew_post(&jobs[i], i % 3);
    }
    uint64_t deadline = tr__clock_after(tr__clock_now(), 100000000);
    CHECK(tr__workers_close(&crew.workers, deadline) >= 2);
    await_all(JOBS); /* also where the third one was slower than the deadline */
    crew_release(&stuck[0]);
    crew_release(&stuck[1]);
    WAIT_UNTIL(tr__load_acquire(&crew.left) == 3, 20);
    /* They have left the hook, maybe not yet the lock: the memory stays theirs. */
}

/* What waits behind a stuck worker is run by those who leave, before they leave. */
CASE(worker, closing_leaves_the_stuck_behind_and_counts_them)
{
    close_with_stuck(CREW_STUCK);
}

CASE(worker, closing_leaves_behind_who_passed_for_brief_too)
{
    close_with_stuck(CREW_STUCK_BRIEF);
}
