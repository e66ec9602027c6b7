/*
 * task.c: the transitions of the state word. See task.h for the diagram and the table.
 *
 * Purpose: one function per transition; each observes the word, decides, and either installs the
 * new word with one compare-and-swap or changes nothing. No function here has any other effect.
 * Owner thread: any; the table in task.h says which thread may call which.
 * Called by completion, engine, host; calls nothing but base.
 *
 * Invariants
 *  1. ENDED is final: no transition leaves it; only tr__slots_stale, by who clears the last hold.
 *  2. The outcome bits change exactly once, together with the state becoming ENDED.
 *  3. Kind and delivery never change after ENDED: the channel is what the ending CAS saw.
 *  4. A transition for a given id checks the generation in the same word it swaps, so a slot reused
 *     in between fails the swap: no stale id ever acts.
 *  5. WAS_DETACHED is set at most once per task: one DETACHED item, one event.
 *
 * Orders: every successful swap is acq_rel: it publishes what its thread wrote about the task
 * before and sees what the previous transition's thread wrote. Failed swaps re-read with acquire.
 * No seq_cst is needed: all decisions are about this one word.
 *
 * Complexity: O(1); one compare-and-swap uncontended. Two per no-op task (start, finish).
 *
 * Rejected: a WAITING state for functions that sleep in an op. It cost two swaps per await and
 * decided nothing: cancel treats awaiting functions alike whether they sleep or run. Also rejected:
 * a mutex per task (25 ns uncontended against 5.5 ns for the swap, and a preempted holder stalls
 * the ring thread).
 */
#include "domain/task.h"

#include "base/assert.h"
#include "base/backoff.h"

static bool generation_fits(uint64_t word, tr_task_id id)
{
    return TR__WORD_GENERATION(word) == TR__ID_GENERATION(id);
}

static uint64_t with_state(uint64_t word, enum tr__task_state state)
{
    return (word & ~TR__TASK_STATE_MASK) | (uint64_t)state;
}

/* The word of a task that ends as `outcome`, or as what it was asked to stop for. */
static uint64_t ended(uint64_t word, enum tr_outcome outcome)
{
    if ((word & TR__TASK_CANCEL) != 0) {
        outcome = (word & TR__TASK_TIMEOUT) != 0 ? TR_OUTCOME_TIMED_OUT : TR_OUTCOME_CANCELLED;
    }
    word &= ~TR__TASK_OUTCOME_MASK;
    return with_state(word, TR__TASK_ENDED) | (uint64_t)outcome << TR__TASK_OUTCOME_SHIFT;
}

static struct tr__step step_of(enum tr__action action, uint64_t before, uint64_t word)
{
    struct tr__step step = {action, before, word};
    return step;
}

static struct tr__step refuse(enum tr__action action, uint64_t word)
{
    return step_of(action, word, word);
}

/* Whether nobody can do anything with it any more: the id is stale, or the task has ended. */
static bool is_over(uint64_t seen, tr_task_id id, struct tr__step *ret_refusal)
{
    bool stale = !generation_fits(seen, id) || tr__word_state(seen) == TR__TASK_FREE;
    bool over = stale || tr__word_state(seen) == TR__TASK_ENDED;
    if (over) {
        *ret_refusal = refuse(stale ? TR__ACTION_ENOENT : TR__ACTION_EALREADY, seen);
    }
    return over;
}

/* Installs `next` for `*seen`. False: somebody was quicker, `*seen` is the word now. */
static bool swap(struct tr__task *task, uint64_t *seen, uint64_t next)
{
    /* acq_rel: publishes this thread's writes to the task, pairs with the next transition's
     * read. */
    return tr__cas_acq_rel(&task->slot.word, seen, next);
}

/* The word, once no event of an earlier transition is being published. Whoever publishes nothing
 * waits too: PUBLISHING in its word would otherwise be another's, and be given back twice. */
static uint64_t observe(struct tr__task *task, uint64_t seen, unsigned *spins)
{
    while ((seen & TR__TASK_PUBLISHING) != 0) {
        tr__backoff(spins);
        seen = tr__task_word(task);
    }
    return seen;
}

static uint64_t publishing(uint64_t word, bool publish)
{
    return publish ? word | TR__TASK_PUBLISHING : word;
}

void tr__task_admit(struct tr__task *task, uint64_t bits)
{
    uint64_t word = tr__load_relaxed(&task->slot.word); /* the slot is ours: nobody else writes */
    TR_ASSERT(tr__word_state(word) == TR__TASK_FREE);
    TR_ASSERT((bits >> TR__STATE_BITS) == 0 && tr__word_state(bits) != TR__TASK_FREE);
    /* release: publishes the filled record; pairs with the acquire of whoever finds the task. */
    tr__store_release(&task->slot.word, word | bits);
}

struct tr__step tr__task_approve(struct tr__task *task, tr_task_id id)
{
    uint64_t seen = tr__task_word(task);
    struct tr__step over;
    for (;;) {
        if (is_over(seen, id, &over)) {
            return over;
        }
        if (tr__word_state(seen) != TR__TASK_APPROVAL) {
            return refuse(TR__ACTION_ESTATE, seen);
        }
        uint64_t next = with_state(seen, TR__TASK_QUEUED) | TR__TASK_HOLD_RUN;
        if (swap(task, &seen, next)) {
            return step_of(TR__ACTION_ENQUEUE, seen, next);
        }
    }
}

struct tr__step tr__task_deny(struct tr__task *task, tr_task_id id, bool publish)
{
    unsigned spins = 0;
    uint64_t seen = tr__task_word(task);
    struct tr__step over;
    for (;;) {
        seen = observe(task, seen, &spins);
        if (is_over(seen, id, &over)) {
            return over;
        }
        if (tr__word_state(seen) != TR__TASK_APPROVAL) {
            return refuse(TR__ACTION_ESTATE, seen);
        }
        publish = publish || (seen & TR__TASK_INLINE) != 0; /* see task.h */
        uint64_t next = publishing(ended(seen, TR_OUTCOME_DENIED), publish);
        if (swap(task, &seen, next)) {
            return step_of(TR__ACTION_SETTLE, seen, next);
        }
    }
}

struct tr__step tr__task_start(struct tr__task *task, bool publish)
{
    unsigned spins = 0;
    uint64_t seen = tr__task_word(task);
    TR_ASSERT((seen & TR__TASK_HOLD_RUN) != 0);
    for (;;) {
        seen = observe(task, seen, &spins);
        if (tr__word_state(seen) == TR__TASK_ENDED) {
            return refuse(TR__ACTION_LATE, seen);
        }
        TR_ASSERT(tr__word_state(seen) == TR__TASK_QUEUED);
        uint64_t next = publishing(with_state(seen, TR__TASK_RUNNING) | TR__TASK_STARTED, publish);
        if (swap(task, &seen, next)) {
            return step_of(TR__ACTION_RUN, seen, next);
        }
    }
}

struct tr__step tr__task_finish(struct tr__task *task, enum tr_outcome outcome, bool publish)
{
    TR_ASSERT(outcome != TR_OUTCOME_NONE);
    unsigned spins = 0;
    uint64_t seen = tr__task_word(task);
    TR_ASSERT((seen & TR__TASK_HOLD_RUN) != 0);
    for (;;) {
        seen = observe(task, seen, &spins);
        if (tr__word_state(seen) == TR__TASK_ENDED) {
            return refuse(TR__ACTION_LATE, seen);
        }
        TR_ASSERT(tr__word_state(seen) == TR__TASK_RUNNING);
        uint64_t next = publishing(ended(seen, outcome) & ~TR__TASK_HOLD_RUN, publish);
        if (swap(task, &seen, next)) {
            return step_of(TR__ACTION_SETTLE, seen, next);
        }
    }
}

static struct tr__step defer(struct tr__task *task, uint64_t given_up, bool publish)
{
    unsigned spins = 0;
    uint64_t seen = tr__task_word(task);
    TR_ASSERT((seen & TR__TASK_HOLD_RUN) != 0);
    for (;;) {
        if (tr__word_state(seen) == TR__TASK_ENDED) {
            return refuse(TR__ACTION_LATE, seen);
        }
        TR_ASSERT(tr__word_state(seen) == TR__TASK_RUNNING);
        bool stop = (seen & TR__TASK_CANCEL) != 0;
        if (stop) {
            seen = observe(task, seen, &spins);
            if (tr__word_state(seen) == TR__TASK_ENDED) {
                continue;
            }
        }
        uint64_t next = stop ? publishing(ended(seen, TR_OUTCOME_CANCELLED), publish)
                             : with_state(seen, TR__TASK_DEFERRED);
        next &= ~(stop ? TR__TASK_HOLD_RUN : given_up);
        if (swap(task, &seen, next)) {
            return step_of(stop ? TR__ACTION_SETTLE : TR__ACTION_NONE, seen, next);
        }
    }
}

struct tr__step tr__task_defer(struct tr__task *task, bool publish)
{
    return defer(task, TR__TASK_HOLD_RUN, publish);
}

struct tr__step tr__task_defer_here(struct tr__task *task, bool publish)
{
    return defer(task, 0, publish);
}

struct tr__step tr__task_finish_late(struct tr__task *task, tr_task_id id, enum tr_outcome outcome,
                                     bool publish)
{
    TR_ASSERT(outcome == TR_OUTCOME_COMPLETED || outcome == TR_OUTCOME_FAILED ||
              outcome == TR_OUTCOME_LOST);
    unsigned spins = 0;
    uint64_t seen = tr__task_word(task);
    struct tr__step over;
    for (;;) {
        seen = observe(task, seen, &spins);
        if (is_over(seen, id, &over)) {
            return over;
        }
        if (tr__word_state(seen) != TR__TASK_RUNNING && tr__word_state(seen) != TR__TASK_DEFERRED) {
            return refuse(TR__ACTION_ESTATE, seen);
        }
        publish = publish || (seen & TR__TASK_INLINE) != 0; /* see task.h */
        uint64_t next = publishing(ended(seen, outcome), publish);
        next |= tr__word_state(seen) == TR__TASK_RUNNING ? TR__TASK_FOREIGN : 0;
        if (swap(task, &seen, next)) {
            return step_of(TR__ACTION_SETTLE, seen, next);
        }
    }
}

/* `spared`: a bit of the word; a task that has it is not asked. */
static struct tr__step cancel(struct tr__task *task, tr_task_id id, bool timeout, bool publish,
                              uint64_t spared)
{
    unsigned spins = 0;
    uint64_t seen = tr__task_word(task);
    struct tr__step over;
    uint64_t asked = TR__TASK_CANCEL | (timeout ? TR__TASK_TIMEOUT : 0);
    for (;;) {
        if (is_over(seen, id, &over)) {
            return over;
        }
        if ((seen & spared) != 0) {
            return refuse(TR__ACTION_ESTATE, seen);
        }
        if (tr__word_state(seen) == TR__TASK_RUNNING && (seen & TR__TASK_COOPERATIVE) != 0) {
            if ((seen & TR__TASK_CANCEL) != 0) {
                return refuse(TR__ACTION_NONE, seen);
            }
            uint64_t next = seen | asked | TR__TASK_HOLD_STEER | TR__TASK_HOLD_TIMER;
            if (swap(task, &seen, next)) {
                return step_of(TR__ACTION_NOTIFY, seen, next);
            }
            continue;
        }
        if ((seen & TR__TASK_PUBLISHING) != 0) {
            seen = observe(task, seen, &spins);
            continue; /* it may have started, or ended, meanwhile */
        }
        publish = publish || (seen & TR__TASK_INLINE) != 0; /* see task.h */
        uint64_t next = publishing(ended(seen | asked, TR_OUTCOME_CANCELLED), publish);
        next |= tr__word_state(seen) == TR__TASK_RUNNING ? TR__TASK_FOREIGN : 0;
        next |= (seen & TR__TASK_COLD) != 0 ? TR__TASK_HOLD_STEER : 0;
        if (swap(task, &seen, next)) {
            return step_of(TR__ACTION_SETTLE, seen, next);
        }
    }
}

struct tr__step tr__task_cancel(struct tr__task *task, tr_task_id id, bool timeout, bool publish)
{
    return cancel(task, id, timeout, publish, 0);
}

struct tr__step tr__task_interrupt(struct tr__task *task, tr_task_id id, bool publish)
{
    return cancel(task, id, false, publish, TR__TASK_BACKGROUND);
}

struct tr__step tr__task_time_out_queued(struct tr__task *task, tr_task_id id, bool publish)
{
    return cancel(task, id, true, publish, TR__TASK_STARTED);
}

struct tr__step tr__task_abandon(struct tr__task *task, tr_task_id id, bool publish)
{
    unsigned spins = 0;
    uint64_t seen = tr__task_word(task);
    struct tr__step over;
    for (;;) {
        seen = observe(task, seen, &spins);
        if (is_over(seen, id, &over)) {
            return over;
        }
        if (tr__word_state(seen) != TR__TASK_RUNNING || (seen & TR__TASK_CANCEL) == 0 ||
            (seen & TR__TASK_INLINE) != 0) {
            return refuse(TR__ACTION_ESTATE, seen);
        }
        uint64_t next = publishing(ended(seen, TR_OUTCOME_CANCELLED) | TR__TASK_FOREIGN, publish);
        if (swap(task, &seen, next)) {
            return step_of(TR__ACTION_SETTLE, seen, next);
        }
    }
}

struct tr__step tr__task_detach(struct tr__task *task, tr_task_id id, bool publish)
{
    unsigned spins = 0;
    uint64_t seen = tr__task_word(task);
    for (;;) {
        seen = observe(task, seen, &spins);
        if (!generation_fits(seen, id) || tr__word_state(seen) == TR__TASK_FREE) {
            return refuse(TR__ACTION_ENOENT, seen);
        }
        uint64_t fixed = TR__TASK_BACKGROUND | TR__TASK_WAS_DETACHED | TR__TASK_INLINE;
        if (tr__word_state(seen) == TR__TASK_ENDED || (seen & fixed) != 0) {
            return refuse(TR__ACTION_EALREADY, seen);
        }
        uint64_t next = seen | TR__TASK_BACKGROUND | TR__TASK_WAS_DETACHED | TR__TASK_HOLD_DETACH;
        next = publishing(next, publish);
        if (swap(task, &seen, next)) {
            return step_of(TR__ACTION_DETACHED, seen, next);
        }
    }
}

/* Changes bits of an unended task; EALREADY when `seen & mask` is `value` already and `once` is
 * set. */
static struct tr__step change(struct tr__task *task, tr_task_id id, uint64_t mask, uint64_t value,
                              bool once, enum tr__action action)
{
    uint64_t seen = tr__task_word(task);
    for (;;) {
        if (!generation_fits(seen, id) || tr__word_state(seen) == TR__TASK_FREE) {
            return refuse(TR__ACTION_ENOENT, seen);
        }
        if (tr__word_state(seen) == TR__TASK_ENDED || (once && (seen & mask) == value)) {
            return refuse(TR__ACTION_EALREADY, seen);
        }
        uint64_t next = (seen & ~mask) | value;
        if (swap(task, &seen, next)) {
            return step_of(action, seen, next);
        }
    }
}

struct tr__step tr__task_attach(struct tr__task *task, tr_task_id id)
{
    return change(task, id, TR__TASK_BACKGROUND, 0, true, TR__ACTION_ATTACHED);
}

struct tr__step tr__task_set_delivery(struct tr__task *task, tr_task_id id, bool manual)
{
    return change(task, id, TR__TASK_MANUAL, manual ? TR__TASK_MANUAL : 0, false, TR__ACTION_NONE);
}

struct tr__step tr__task_set_continue(struct tr__task *task, tr_task_id id, bool request)
{
    return change(task, id, TR__TASK_REQUEST, request ? TR__TASK_REQUEST : 0, false,
                  TR__ACTION_NONE);
}

uint64_t tr__task_use_cold(struct tr__task *task)
{
    TR_ASSERT((tr__load_relaxed(&task->slot.word) & TR__TASK_HOLD_RUN) != 0);
    /* acq_rel: publishes what was put there to whoever stops or ends the task from now on. */
    return tr__fetch_or_acq_rel(&task->slot.word, TR__TASK_COLD);
}

bool tr__task_publish(struct tr__task *task, tr_task_id id)
{
    unsigned spins = 0;
    uint64_t seen = tr__task_word(task);
    for (;;) {
        seen = observe(task, seen, &spins);
        if (!generation_fits(seen, id) || !tr__word_is_live(seen)) {
            return false;
        }
        if (swap(task, &seen, seen | TR__TASK_PUBLISHING)) {
            return true;
        }
    }
}

void tr__task_published(struct tr__task *task)
{
    /* release: the event is in the log before the next transition's; pairs with swap's acquire. */
    uint64_t before = tr__fetch_and_release(&task->slot.word, ~TR__TASK_PUBLISHING);
    TR_ASSERT((before & TR__TASK_PUBLISHING) != 0);
}

bool tr__task_ask(struct tr__task *task, tr_task_id id)
{
    unsigned spins = 0;
    uint64_t seen = tr__task_word(task);
    for (;;) {
        if (!generation_fits(seen, id) || tr__word_state(seen) != TR__TASK_APPROVAL) {
            return false;
        }
        if ((seen & TR__TASK_HOLD_ASK) != 0) {
            tr__backoff(&spins);
            seen = tr__task_word(task);
        } else if (swap(task, &seen, seen | TR__TASK_HOLD_ASK)) {
            return true;
        }
    }
}

bool tr__task_look(struct tr__task *task, tr_task_id id)
{
    uint64_t seen = tr__task_word(task);
    for (;;) {
        if (!generation_fits(seen, id) || tr__word_state(seen) == TR__TASK_FREE ||
            (tr__word_state(seen) == TR__TASK_ENDED && (seen & TR__TASK_HOLDS) == 0)) {
            return false;
        }
        TR_ASSERT((seen & TR__TASK_HOLD_LOOK) == 0);
        if (swap(task, &seen, seen | TR__TASK_HOLD_LOOK)) {
            return true;
        }
    }
}

bool tr__task_unwatch(struct tr__task *task, uint64_t seen)
{
    TR_ASSERT((seen & TR__TASK_HOLD_TIMER) != 0);
    return tr__word_is_live(seen) && (seen & TR__TASK_CANCEL) == 0 &&
           swap(task, &seen, seen & ~TR__TASK_HOLD_TIMER);
}

bool tr__task_drop(struct tr__task *task, uint64_t hold)
{
    uint64_t seen = tr__task_word(task);
    TR_ASSERT((seen & hold) == hold && (hold & ~TR__TASK_HOLDS) == 0);
    /* acq_rel: publishes this holder's last touch; the last one sees those of all others. */
    seen = tr__fetch_and_acq_rel(&task->slot.word, ~hold) & ~hold;
    return tr__word_state(seen) == TR__TASK_ENDED && (seen & TR__TASK_HOLDS) == 0;
}
