/* Task under contention: eight threads race every transition on the same tasks.
 *
 * Each life of a task is admitted once; then every thread does what its role in the library would
 * do with the actions it is given: who settles drops the result's hold, who detaches the item's,
 * who starts finishes or defers. Whoever is told to recycle ends the life and admits a bystander
 * into the slot, which none of the ids of the life before may change.
 */
#include "domain/task.h"

#include <pthread.h>

#include "support/case.h"
#include "support/wait.h"

enum {
    THREADS = 8,
    TASKS = 16,
    STEPS = 6, /* of each thread on each task */
#if defined(TR__WITH_TSAN)
    ROUNDS = 600,
#else
    ROUNDS = 4000,
#endif
};

/* What happened to one life. */
struct life {
    TR__CACHE_ALIGNED struct tr__task task;
    tr_task_id id;
    uint64_t admitted;     /* the word */
    uint64_t bystander;    /* the word of the next life */
    tr__atomic_u32 queued; /* 1: its node is in a worker's inbox; whoever clears it runs it */
    tr__atomic_u32 settled;
    tr__atomic_u32 detached;
    tr__atomic_u32 recycled;
    tr__atomic_u32 started;
    tr__atomic_u32 notified;
    uint32_t log;          /* what a section writes: exclusive, though plain */
    uint64_t settled_word; /* the winner of the end */
    uint64_t result;       /* plain: written by the winner, read by who recycles */
};

struct race {
    struct life lives[TASKS];
    pthread_barrier_t begin;
    pthread_barrier_t end;
};

static void recycle(struct life *life)
{
    CHECK_EQ_INT(tr__fetch_add_acq_rel(&life->recycled, 1u), 0);
    CHECK_EQ_INT(tr__load_relaxed(&life->settled), 1);
    CHECK_EQ_U64(life->result, life->id); /* the winner's write is seen by the last */
    uint64_t word = tr__task_word(&life->task);
    CHECK_EQ_INT(tr__word_state(word), TR__TASK_ENDED);
    CHECK_EQ_U64(word & TR__TASK_HOLDS, 0);
    /* What tr__slots_stale does, then another life. */
    tr__store_release(&life->task.slot.word, (TR__WORD_GENERATION(word) + 1) << TR__STATE_BITS);
    tr__task_admit(&life->task, TR__TASK_DEFERRED | TR__TASK_HOLD_RESULT);
    life->bystander = tr__task_word(&life->task);
}

static void drop(struct life *life, uint64_t hold)
{
    if (tr__task_drop(&life->task, hold)) {
        recycle(life);
    }
}

/* An event in the making; now and then its publisher is preempted in the middle of it. */
static void record(struct life *life)
{
    life->log++;
    if (life->log % 4 == 0) {
        (void)sched_yield();
    }
    life->log++;
}

/* The section in which a transition's event is published. */
static void publish(struct life *life, struct tr__step step)
{
    if ((step.word & TR__TASK_PUBLISHING) != 0) {
        record(life);
        tr__task_published(&life->task);
    }
}

/* The winner of the end. */
static void settle(struct life *life, struct tr__step step)
{
    CHECK_EQ_INT(tr__fetch_add_relaxed(&life->settled, 1u), 0);
    CHECK(tr__word_is_live(step.before));
    CHECK_EQ_INT(tr__word_state(step.word), TR__TASK_ENDED);
    CHECK(tr__word_outcome(step.word) != TR_OUTCOME_NONE);
    life->settled_word = step.word;
    life->result = life->id;
    publish(life, step);
    drop(life, TR__TASK_HOLD_RESULT); /* the host was quick */
}

static void run(struct life *life, struct case_random *random)
{
    struct tr__task *task = &life->task;
    struct tr__step step = tr__task_start(task, case_random_below(random, 2) != 0);
    if (step.action == TR__ACTION_LATE) {
        drop(life, TR__TASK_HOLD_RUN);
        return;
    }
    CHECK_EQ_INT(step.action, TR__ACTION_RUN);
    CHECK_EQ_INT(tr__fetch_add_relaxed(&life->started, 1u), 0);
    publish(life, step);
    for (uint64_t work = case_random_below(random, 200); work > 0; work--) {
        tr__cpu_relax();
    }
    bool wanted = case_random_below(random, 2) != 0;
    if (case_random_below(random, 4) == 0) {
        step = tr__task_defer(task, wanted);
    } else {
        step = tr__task_finish(task, TR_OUTCOME_COMPLETED, wanted);
    }
    if (step.action == TR__ACTION_LATE) {
        drop(life, TR__TASK_HOLD_RUN);
    } else if (step.action == TR__ACTION_SETTLE) {
        settle(life, step);
    } else {
        CHECK_EQ_INT(step.action, TR__ACTION_NONE);
    }
}

static void notify(struct life *life, struct tr__step step)
{
    CHECK_EQ_INT(tr__fetch_add_relaxed(&life->notified, 1u), 0);
    CHECK((step.word & TR__TASK_CANCEL) != 0 && (step.before & TR__TASK_CANCEL) == 0);
    if ((step.before & TR__TASK_HOLD_TIMER) == 0) {
        drop(life, TR__TASK_HOLD_TIMER); /* it was given, so the last steerer's hold is left */
    }
    drop(life, TR__TASK_HOLD_STEER);
}

/* Any thread may do this with any id. */
static struct tr__step meddle(struct tr__task *task, tr_task_id id, struct case_random *random)
{
    bool wanted = case_random_below(random, 2) != 0;
    switch (case_random_below(random, 12)) {
    case 0:
        return tr__task_cancel(task, id, false, wanted);
    case 1:
        return tr__task_cancel(task, id, true, wanted);
    case 2:
    case 3:
        return tr__task_detach(task, id, wanted);
    case 4:
        return tr__task_attach(task, id);
    case 5:
        return tr__task_set_delivery(task, id, wanted);
    case 6:
        return tr__task_set_continue(task, id, wanted);
    case 7:
        return tr__task_finish_late(task, id, TR_OUTCOME_FAILED, wanted);
    case 8:
        return tr__task_abandon(task, id, wanted);
    case 9:
        return tr__task_approve(task, id);
    case 10:
        return tr__task_deny(task, id, wanted);
    default:
        return tr__task_attach(task, id);
    }
}

static void obey(struct life *life, struct tr__step step, struct case_random *random)
{
    switch (step.action) {
    case TR__ACTION_SETTLE:
        settle(life, step);
        break;
    case TR__ACTION_DETACHED:
        CHECK_EQ_INT(tr__fetch_add_relaxed(&life->detached, 1u), 0);
        CHECK(!tr__word_is_background(step.before) && tr__word_is_background(step.word));
        publish(life, step);
        drop(life, TR__TASK_HOLD_DETACH);
        break;
    case TR__ACTION_NOTIFY:
        notify(life, step);
        break;
    case TR__ACTION_ENQUEUE:
        run(life, random);
        break;
    case TR__ACTION_ATTACHED:
        CHECK(tr__word_is_background(step.before) && !tr__word_is_background(step.word));
        break;
    default:
        CHECK(step.action == TR__ACTION_NONE || step.action == TR__ACTION_ENOENT ||
              step.action == TR__ACTION_EALREADY || step.action == TR__ACTION_ESTATE);
    }
}

static void meddle_once(struct life *life, struct case_random *random)
{
    struct tr__task *task = &life->task;
    uint64_t generation = TR__ID_GENERATION(life->id);
    uint64_t kind = case_random_below(random, 8);
    /* The life before, and one that is yet to come after the bystander's: nobody's. */
    uint64_t other = kind == 0 ? generation - 1 : kind == 1 ? generation + 2 : generation;
    struct tr__step step = meddle(task, TR__ID_MAKE(TR__TAG_TASK, other, task->slot.index), random);
    if (other != generation) {
        CHECK_EQ_INT(step.action, TR__ACTION_ENOENT);
        return;
    }
    if (step.action != TR__ACTION_ENOENT) {
        CHECK_EQ_U64(TR__WORD_GENERATION(step.before), generation);
    }
    obey(life, step, random);
    if (case_random_below(random, 8) == 0 && tr__task_publish(task, life->id)) {
        record(life); /* progress, say; the task cannot end meanwhile */
        tr__task_published(task);
    }
}

struct thread {
    struct race *race;
    unsigned number;
};

static void *race_main(void *context)
{
    const struct thread *thread = context;
    struct race *race = thread->race;
    struct case_random random;
    case_random_init(&random, thread->number);
    for (unsigned round = 0; round < ROUNDS; round++) {
        (void)pthread_barrier_wait(&race->begin);
        for (unsigned i = 0; i < TASKS * STEPS; i++) {
            struct life *life = &race->lives[case_random_below(&random, TASKS)];
            uint32_t queued = 1;
            if (case_random_below(&random, 3) == 0 && tr__cas_acq_rel(&life->queued, &queued, 0u)) {
                run(life, &random);
            } else {
                meddle_once(life, &random);
            }
        }
        (void)pthread_barrier_wait(&race->end);
    }
    return NULL;
}

static void admit(struct life *life, uint32_t index, uint64_t generation,
                  struct case_random *random)
{
    static const uint64_t starts[] = {TR__TASK_QUEUED, TR__TASK_QUEUED, TR__TASK_DEFERRED,
                                      TR__TASK_APPROVAL};
    uint64_t bits = starts[case_random_below(random, 4)] | TR__TASK_HOLD_RESULT;
    bool queued = (bits & TR__TASK_STATE_MASK) == TR__TASK_QUEUED;
    bits |= queued ? TR__TASK_HOLD_RUN : 0;
    bits |= case_random_below(random, 2) != 0 ? TR__TASK_BACKGROUND : 0;
    bits |= case_random_below(random, 2) != 0 ? TR__TASK_COOPERATIVE : 0;
    bits |= case_random_below(random, 2) != 0 ? TR__TASK_MANUAL : 0;
    life->task.slot.index = index;
    tr__store_relaxed(&life->task.slot.word, generation << TR__STATE_BITS);
    life->id = TR__ID_MAKE(TR__TAG_TASK, generation, index);
    life->result = 0;
    life->log = 0;
    tr__store_relaxed(&life->queued, queued ? 1u : 0u);
    tr__store_relaxed(&life->settled, 0u);
    tr__store_relaxed(&life->detached, 0u);
    tr__store_relaxed(&life->recycled, 0u);
    tr__store_relaxed(&life->started, 0u);
    tr__store_relaxed(&life->notified, 0u);
    tr__task_admit(&life->task, bits);
    life->admitted = tr__task_word(&life->task);
}

/* Ends what the threads have left unended, then looks at what became of it. */
static void check_life(struct life *life, struct case_random *random)
{
    struct tr__task *task = &life->task;
    if (tr__exchange_acq_rel(&life->queued, 0u) != 0) {
        run(life, random);
    }
    if (tr__load_relaxed(&life->settled) == 0) {
        obey(life, tr__task_cancel(task, life->id, false, false), random);
    }
    CHECK_EQ_INT(tr__load_relaxed(&life->settled), 1);
    CHECK_EQ_INT(tr__load_relaxed(&life->recycled), 1);
    CHECK(tr__load_relaxed(&life->detached) <= 1);
    CHECK_EQ_U64(tr__task_word(task), life->bystander); /* nobody touched the next life */
    CHECK_EQ_INT((life->settled_word & TR__TASK_WAS_DETACHED) != 0,
                 tr__load_relaxed(&life->detached) == 1);
    bool asked = (life->settled_word & TR__TASK_CANCEL) != 0;
    tr_outcome outcome = tr__word_outcome(life->settled_word);
    if (asked) {
        CHECK_EQ_INT(outcome, (life->settled_word & TR__TASK_TIMEOUT) != 0 ? TR_OUTCOME_TIMED_OUT
                                                                           : TR_OUTCOME_CANCELLED);
    } else {
        CHECK(outcome == TR_OUTCOME_COMPLETED || outcome == TR_OUTCOME_FAILED ||
              outcome == TR_OUTCOME_DENIED);
    }
}

CASE_TIMEOUT(task_concurrency, one_end_one_detach_one_recycler, 120)
{
    static struct race race;
    struct thread threads[THREADS];
    pthread_t handles[THREADS];
    struct case_random random;
    case_random_init(&random, 1000);
    CHECK_EQ_INT(pthread_barrier_init(&race.begin, NULL, THREADS + 1), 0);
    CHECK_EQ_INT(pthread_barrier_init(&race.end, NULL, THREADS + 1), 0);
    for (unsigned i = 0; i < THREADS; i++) {
        threads[i] = (struct thread){&race, i};
        CHECK_EQ_INT(pthread_create(&handles[i], NULL, race_main, &threads[i]), 0);
    }
    uint64_t ends[TR_OUTCOME_LOST + 1] = {0};
    for (unsigned round = 0; round < ROUNDS; round++) {
        for (unsigned i = 0; i < TASKS; i++) {
            admit(&race.lives[i], i + 1, 2 + 4 * (uint64_t)round, &random);
        }
        (void)pthread_barrier_wait(&race.begin);
        (void)pthread_barrier_wait(&race.end);
        for (unsigned i = 0; i < TASKS; i++) {
            check_life(&race.lives[i], &random);
            ends[tr__word_outcome(race.lives[i].settled_word)]++;
        }
    }
    for (unsigned i = 0; i < THREADS; i++) {
        CHECK_EQ_INT(pthread_join(handles[i], NULL), 0);
    }
    for (int i = TR_OUTCOME_COMPLETED; i <= TR_OUTCOME_DENIED; i++) {
        CHECK(ends[i] > 0); /* a race that always ends the same way tries nothing */
    }
}

struct held {
    struct life life;
    pthread_barrier_t begin;
    pthread_barrier_t end;
};

static const uint64_t holds[THREADS - 1] = {
    TR__TASK_HOLD_RUN,  TR__TASK_HOLD_TIMER, TR__TASK_HOLD_RESULT, TR__TASK_HOLD_DETACH,
    TR__TASK_HOLD_LOOK, TR__TASK_HOLD_STEER, TR__TASK_HOLD_ASK,
};

struct holder {
    struct held *held;
    uint64_t hold;
};

static void *drop_main(void *context)
{
    const struct holder *holder = context;
    struct held *held = holder->held;
    for (unsigned round = 0; round < ROUNDS; round++) {
        (void)pthread_barrier_wait(&held->begin);
        drop(&held->life, holder->hold);
        (void)pthread_barrier_wait(&held->end);
    }
    return NULL;
}

CASE_TIMEOUT(task_concurrency, the_last_of_seven_holders_recycles, 120)
{
    static struct held held;
    struct holder holders[THREADS - 1];
    pthread_t handles[THREADS - 1];
    struct life *life = &held.life;
    CHECK_EQ_INT(pthread_barrier_init(&held.begin, NULL, THREADS), 0);
    CHECK_EQ_INT(pthread_barrier_init(&held.end, NULL, THREADS), 0);
    for (unsigned i = 0; i < THREADS - 1; i++) {
        holders[i] = (struct holder){&held, holds[i]};
        CHECK_EQ_INT(pthread_create(&handles[i], NULL, drop_main, &holders[i]), 0);
    }
    for (unsigned round = 0; round < ROUNDS; round++) {
        life->task.slot.index = 9;
        life->id = TR__ID_MAKE(TR__TAG_TASK, 3, 9);
        life->result = life->id;
        tr__store_relaxed(&life->task.slot.word, UINT64_C(3) << TR__STATE_BITS);
        tr__store_relaxed(&life->settled, 1u);
        tr__store_relaxed(&life->recycled, 0u);
        tr__task_admit(&life->task, TR__TASK_ENDED | TR__TASK_HOLDS);
        (void)pthread_barrier_wait(&held.begin);
        (void)pthread_barrier_wait(&held.end);
        CHECK_EQ_INT(tr__load_relaxed(&life->recycled), 1);
        CHECK_EQ_U64(TR__WORD_GENERATION(tr__task_word(&life->task)), 4);
    }
    for (unsigned i = 0; i < THREADS - 1; i++) {
        CHECK_EQ_INT(pthread_join(handles[i], NULL), 0);
    }
}
