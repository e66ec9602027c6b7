/* Task: every state, every transition, against a table written from the documentation in task.h.
 *
 * The table is a second opinion: what task.h and the public headers say must happen, cell by cell,
 * in terms of what changes in the word. Every cell is tried with every combination of the bits that
 * must not matter, with the right and with a stale id, with and without an event to publish.
 */
#include "domain/task.h"

#include <pthread.h>

#include "support/case.h"
#include "support/wait.h"
#include "unit/task_words.h"

enum event {
    APPROVE,
    DENY,
    START,
    FINISH_COMPLETED,
    FINISH_FAILED,
    DEFER,
    LATE_COMPLETED,
    LATE_FAILED,
    LATE_LOST,
    CANCEL,
    TIMEOUT,
    TIMEOUT_QUEUED,
    ABANDON,
    DETACH,
    ATTACH,
    SET_MANUAL,
    SET_TO_LOOP,
    SET_REQUEST,
    SET_NOTIFY,
    EVENTS,
};

/* One cell: the action, and how the word changes; what is not named stays. */
struct cell {
    enum tr__action action;
    bool never;       /* ruled out: only the runner asks, and it asserts */
    uint64_t goes_to; /* a state, or STAYS */
    tr_outcome outcome;
    uint64_t set;
    uint64_t clear;
};

#define STAYS UINT64_MAX
#define STEP(action, goes_to, outcome, set, clear)                                                 \
    {                                                                                              \
        TR__ACTION_##action, false, goes_to, TR_OUTCOME_##outcome, set, clear                      \
    }
#define BITS(action, set, clear) STEP(action, STAYS, NONE, set, clear)
#define END(outcome, set, clear) STEP(SETTLE, TR__TASK_ENDED, outcome, set, clear)
#define NO(action) BITS(action, 0, 0)
#define NEVER                                                                                      \
    {                                                                                              \
        TR__ACTION_NONE, true, STAYS, TR_OUTCOME_NONE, 0, 0                                        \
    }

#define HELD TR__TASK_HOLD_RUN
#define FOREIGN TR__TASK_FOREIGN
#define ASKED TR__TASK_CANCEL
#define ASKED_LATE (TR__TASK_CANCEL | TR__TASK_TIMEOUT)
#define STEER (TR__TASK_HOLD_STEER | TR__TASK_HOLD_TIMER)
#define STEP_ASIDE (TR__TASK_BACKGROUND | TR__TASK_WAS_DETACHED | TR__TASK_HOLD_DETACH)

/* A row for what may happen to any unended task alike. */
#define ANY(cell)                                                                                  \
    {                                                                                              \
        NO(ENOENT), cell, cell, cell, cell, cell, cell, cell, NO(EALREADY)                         \
    }

/* Columns: FREE, QUEUED, PLAIN, COOP, CANCELLED, TIMED_OUT, DEFERRED, APPROVAL, ENDED. */
/* clang-format off */
static const struct cell table[EVENTS][FROMS] = {
    [APPROVE] = {
        NO(ENOENT), NO(ESTATE), NO(ESTATE), NO(ESTATE), NO(ESTATE), NO(ESTATE), NO(ESTATE),
        STEP(ENQUEUE, TR__TASK_QUEUED, NONE, HELD, 0), NO(EALREADY)},
    [DENY] = {
        NO(ENOENT), NO(ESTATE), NO(ESTATE), NO(ESTATE), NO(ESTATE), NO(ESTATE), NO(ESTATE),
        END(DENIED, 0, 0), NO(EALREADY)},
    [START] = {
        NEVER, STEP(RUN, TR__TASK_RUNNING, NONE, TR__TASK_STARTED, 0), NEVER, NEVER, NEVER, NEVER,
        NEVER, NEVER, NO(LATE)},
    [FINISH_COMPLETED] = {
        NEVER, NEVER, END(COMPLETED, 0, HELD), END(COMPLETED, 0, HELD), END(CANCELLED, 0, HELD),
        END(TIMED_OUT, 0, HELD), NEVER, NEVER, NO(LATE)},
    [FINISH_FAILED] = {
        NEVER, NEVER, END(FAILED, 0, HELD), END(FAILED, 0, HELD), END(CANCELLED, 0, HELD),
        END(TIMED_OUT, 0, HELD), NEVER, NEVER, NO(LATE)},
    [DEFER] = {
        NEVER, NEVER, STEP(NONE, TR__TASK_DEFERRED, NONE, 0, HELD),
        STEP(NONE, TR__TASK_DEFERRED, NONE, 0, HELD), END(CANCELLED, 0, HELD),
        END(TIMED_OUT, 0, HELD), NEVER, NEVER, NO(LATE)},
    [LATE_COMPLETED] = {
        NO(ENOENT), NO(ESTATE), END(COMPLETED, FOREIGN, 0), END(COMPLETED, FOREIGN, 0),
        END(CANCELLED, FOREIGN, 0), END(TIMED_OUT, FOREIGN, 0), END(COMPLETED, 0, 0), NO(ESTATE),
        NO(EALREADY)},
    [LATE_FAILED] = {
        NO(ENOENT), NO(ESTATE), END(FAILED, FOREIGN, 0), END(FAILED, FOREIGN, 0),
        END(CANCELLED, FOREIGN, 0), END(TIMED_OUT, FOREIGN, 0), END(FAILED, 0, 0), NO(ESTATE),
        NO(EALREADY)},
    [LATE_LOST] = {
        NO(ENOENT), NO(ESTATE), END(LOST, FOREIGN, 0), END(LOST, FOREIGN, 0),
        END(CANCELLED, FOREIGN, 0), END(TIMED_OUT, FOREIGN, 0), END(LOST, 0, 0), NO(ESTATE),
        NO(EALREADY)},
    [CANCEL] = {
        NO(ENOENT), END(CANCELLED, ASKED, 0), END(CANCELLED, ASKED | FOREIGN, 0),
        BITS(NOTIFY, ASKED | STEER, 0), NO(NONE), NO(NONE), END(CANCELLED, ASKED, 0),
        END(CANCELLED, ASKED, 0), NO(EALREADY)},
    [TIMEOUT] = {
        NO(ENOENT), END(TIMED_OUT, ASKED_LATE, 0), END(TIMED_OUT, ASKED_LATE | FOREIGN, 0),
        BITS(NOTIFY, ASKED_LATE | STEER, 0), NO(NONE), NO(NONE), END(TIMED_OUT, ASKED_LATE, 0),
        END(TIMED_OUT, ASKED_LATE, 0), NO(EALREADY)},
    [TIMEOUT_QUEUED] = {
        NO(ENOENT), END(TIMED_OUT, ASKED_LATE, 0), NO(ESTATE), NO(ESTATE), NO(ESTATE), NO(ESTATE),
        NO(ESTATE), END(TIMED_OUT, ASKED_LATE, 0), NO(EALREADY)},
    [ABANDON] = {
        NO(ENOENT), NO(ESTATE), NO(ESTATE), NO(ESTATE), END(CANCELLED, FOREIGN, 0),
        END(TIMED_OUT, FOREIGN, 0), NO(ESTATE), NO(ESTATE), NO(EALREADY)},
    [DETACH] = ANY(BITS(DETACHED, STEP_ASIDE, 0)),
    [ATTACH] = ANY(BITS(ATTACHED, 0, TR__TASK_BACKGROUND)),
    [SET_MANUAL] = ANY(BITS(NONE, TR__TASK_MANUAL, 0)),
    [SET_TO_LOOP] = ANY(BITS(NONE, 0, TR__TASK_MANUAL)),
    [SET_REQUEST] = ANY(BITS(NONE, TR__TASK_REQUEST, 0)),
    [SET_NOTIFY] = ANY(BITS(NONE, 0, TR__TASK_REQUEST)),
};
/* clang-format on */

/* Bits that are tried in every combination. None of them decides anything but what `expected` and
 * `publishes_unasked` say about the first three. */
static const uint64_t varied[] = {
    TR__TASK_BACKGROUND,
    TR__TASK_WAS_DETACHED,
    TR__TASK_INLINE,
    TR__TASK_MANUAL,
    TR__TASK_REQUEST,
    TR__TASK_LOW,
    TR__TASK_COLD,
    (uint64_t)TR_LIFETIME_TURN << TR__TASK_LIFETIME_SHIFT,
    (uint64_t)TR_LIFETIME_SESSION << TR__TASK_LIFETIME_SHIFT,
    TR__TASK_HOLD_TIMER | TR__TASK_HOLD_ASK,
    TR__TASK_HOLD_DETACH | TR__TASK_HOLD_LOOK,
};

enum {
    VARIED = sizeof varied / sizeof varied[0],
};

static uint64_t vary(unsigned combination)
{
    uint64_t bits = 0;
    for (unsigned i = 0; i < VARIED; i++) {
        bits |= (combination >> i & 1u) != 0 ? varied[i] : 0;
    }
    return bits;
}

/* What the table says, and what the documentation adds about kind and place. */
static struct cell expected(enum event event, enum from from, uint64_t word)
{
    const struct cell already = NO(EALREADY);
    const struct cell not_so = NO(ESTATE);
    const uint64_t settled = TR__TASK_BACKGROUND | TR__TASK_WAS_DETACHED | TR__TASK_INLINE;
    bool live = from != FREE && from != ENDED;
    if (event == DETACH && live && (word & settled) != 0) {
        return already; /* background already, or once before; inline has no turn to wait for it */
    }
    if (event == ATTACH && live && (word & TR__TASK_BACKGROUND) == 0) {
        return already;
    }
    if (event == ABANDON && live && (word & TR__TASK_INLINE) != 0) {
        return not_so; /* its launcher is the thread that runs it: there is nobody to tell */
    }
    struct cell cell = table[event][from];
    bool ends = cell.action == TR__ACTION_SETTLE && event >= CANCEL && event <= TIMEOUT_QUEUED;
    cell.set |= ends && (word & TR__TASK_COLD) != 0 ? TR__TASK_HOLD_STEER : 0; /* hooks to call */
    return cell;
}

/* Who ends an inline call on another thread publishes in any case: its launcher waits for it. */
static bool publishes_unasked(const struct cell *cell, enum event event, uint64_t word)
{
    bool by_another = event == DENY || (event >= LATE_COMPLETED && event <= TIMEOUT_QUEUED);
    return by_another && cell->action == TR__ACTION_SETTLE && (word & TR__TASK_INLINE) != 0;
}

static bool publishes(const struct cell *cell, enum event event)
{
    return cell->action == TR__ACTION_SETTLE || cell->action == TR__ACTION_DETACHED ||
           (event == START && cell->action == TR__ACTION_RUN);
}

static uint64_t changed(const struct cell *cell, uint64_t word)
{
    if (cell->goes_to != STAYS) {
        word = (word & ~TR__TASK_STATE_MASK) | cell->goes_to;
    }
    word |= (uint64_t)cell->outcome << TR__TASK_OUTCOME_SHIFT;
    return (word | cell->set) & ~cell->clear;
}

static struct tr__step do_event(struct tr__task *task, enum event event, tr_task_id id,
                                bool publish)
{
    switch (event) {
    case APPROVE:
        return tr__task_approve(task, id);
    case DENY:
        return tr__task_deny(task, id, publish);
    case START:
        return tr__task_start(task, publish);
    case FINISH_COMPLETED:
        return tr__task_finish(task, TR_OUTCOME_COMPLETED, publish);
    case FINISH_FAILED:
        return tr__task_finish(task, TR_OUTCOME_FAILED, publish);
    case DEFER:
        return tr__task_defer(task, publish);
    case LATE_COMPLETED:
        return tr__task_finish_late(task, id, TR_OUTCOME_COMPLETED, publish);
    case LATE_FAILED:
        return tr__task_finish_late(task, id, TR_OUTCOME_FAILED, publish);
    case LATE_LOST:
        return tr__task_finish_late(task, id, TR_OUTCOME_LOST, publish);
    case CANCEL:
    case TIMEOUT:
        return tr__task_cancel(task, id, event == TIMEOUT, publish);
    case TIMEOUT_QUEUED:
        return tr__task_time_out_queued(task, id, publish);
    case ABANDON:
        return tr__task_abandon(task, id, publish);
    case DETACH:
        return tr__task_detach(task, id, publish);
    case ATTACH:
        return tr__task_attach(task, id);
    case SET_MANUAL:
    case SET_TO_LOOP:
        return tr__task_set_delivery(task, id, event == SET_MANUAL);
    default:
        return tr__task_set_continue(task, id, event == SET_REQUEST);
    }
}

static bool is_by_runner(enum event event)
{
    return event == START || event == FINISH_COMPLETED || event == FINISH_FAILED || event == DEFER;
}

static void check_cell(struct tr__task *task, enum event event, enum from from, uint64_t bits,
                       bool publish)
{
    uint64_t before = (uint64_t)GENERATION << TR__STATE_BITS | bits;
    struct cell cell = expected(event, from, bits);
    if (cell.never) {
        return;
    }
    uint64_t after = changed(&cell, before);
    bool published = (publish && publishes(&cell, event)) || publishes_unasked(&cell, event, bits);
    after |= published ? TR__TASK_PUBLISHING : 0;
    set_word(task, GENERATION, bits);
    struct tr__step step = do_event(task, event, id_of(GENERATION), publish);
    uint64_t word = tr__task_word(task);
    if (step.action != cell.action || word != after || step.word != after ||
        step.before != before) {
        case_fail(__FILE__, __LINE__,
                  "event %d from %d, word %" PRIx64 ", publish %d: action %d not %d, now %" PRIx64
                  " not %" PRIx64 ", told %" PRIx64 " -> %" PRIx64,
                  (int)event, (int)from, before, (int)publish, (int)step.action, (int)cell.action,
                  word, after, step.before, step.word);
    }
}

CASE_TIMEOUT(task, every_transition_does_what_the_documentation_says, 60)
{
    struct tr__task task = {0};
    for (int event = 0; event < EVENTS; event++) {
        for (int from = 0; from < FROMS; from++) {
            for (unsigned i = 0; i < 1u << VARIED; i++) {
                uint64_t bits = from == FREE ? 0 : base_of((enum from)from) | vary(i);
                int outcomes = from == ENDED ? TR_OUTCOME_LOST : 0;
                for (int outcome = from == ENDED; outcome <= outcomes; outcome++) {
                    uint64_t word = bits | (uint64_t)outcome << TR__TASK_OUTCOME_SHIFT;
                    check_cell(&task, (enum event)event, (enum from)from, word, false);
                    check_cell(&task, (enum event)event, (enum from)from, word, true);
                }
            }
        }
    }
}

/* A refusal and a change of mere bits have no event: they neither wait nor end another's turn. */
CASE(task, what_has_no_event_does_not_wait_for_one)
{
    static const enum event patient[] = {DENY,          START,          FINISH_COMPLETED,
                                         FINISH_FAILED, LATE_COMPLETED, LATE_FAILED,
                                         LATE_LOST,     ABANDON,        DETACH};
    struct tr__task task = {0};
    for (int event = 0; event < EVENTS; event++) {
        bool may_wait = false;
        for (unsigned i = 0; i < sizeof patient / sizeof patient[0]; i++) {
            may_wait = may_wait || patient[i] == (enum event)event;
        }
        for (int from = QUEUED; from < ENDED && !may_wait; from++) {
            if (!publishes(&table[event][from], (enum event)event)) {
                check_cell(&task, (enum event)event, (enum from)from,
                           base_of((enum from)from) | TR__TASK_PUBLISHING, false);
            }
        }
    }
}

struct waiter {
    struct tr__task task;
    enum event event;
    bool publish;
    tr__atomic_u32 running;
    struct tr__step step;
};

static void *wait_main(void *context)
{
    struct waiter *waiter = context;
    tr__store_release(&waiter->running, 1u);
    waiter->step = do_event(&waiter->task, waiter->event, id_of(GENERATION), waiter->publish);
    return NULL;
}

/* Whatever is observed comes after the publication: PUBLISHING in a step is the caller's own. The
 * bit is still there when it is given back, else tr__task_published asserts. */
CASE(task, an_event_waits_for_the_event_before)
{
    for (int event = 0; event < EVENTS; event++) {
        for (int i = 0; i < 2 * ENDED; i++) {
            enum from from = (enum from)(i / 2);
            if (from == FREE || !publishes(&table[event][from], (enum event)event)) {
                continue;
            }
            struct waiter waiter = {.event = (enum event)event, .publish = i % 2 != 0};
            uint64_t bits = base_of(from);
            set_word(&waiter.task, GENERATION, bits | TR__TASK_PUBLISHING);
            pthread_t thread;
            CHECK_EQ_INT(pthread_create(&thread, NULL, wait_main, &waiter), 0);
            WAIT_UNTIL(tr__load_acquire(&waiter.running) != 0, 20);
            for (unsigned turns = 0; turns < 100; turns++) {
                (void)sched_yield();
            }
            tr__task_published(&waiter.task);
            CHECK_EQ_INT(pthread_join(thread, NULL), 0);
            struct cell cell = expected((enum event)event, from, bits);
            uint64_t before = (uint64_t)GENERATION << TR__STATE_BITS | bits;
            CHECK_EQ_INT(waiter.step.action, cell.action);
            CHECK_EQ_U64(waiter.step.before, before);
            CHECK_EQ_U64(waiter.step.word,
                         changed(&cell, before) | (waiter.publish ? TR__TASK_PUBLISHING : 0));
        }
    }
}

CASE(task, a_stale_id_changes_nothing)
{
    static const uint64_t stale[] = {GENERATION - 1, GENERATION + 1, 1, TR__GENERATION_SPENT - 1};
    struct tr__task task = {0};
    for (int event = 0; event < EVENTS; event++) {
        for (int from = 0; from < FROMS && !is_by_runner((enum event)event); from++) {
            for (unsigned i = 0; i < 8 * sizeof stale / sizeof stale[0]; i++) {
                uint64_t bits = base_of((enum from)from) | vary(i % 8);
                set_word(&task, GENERATION, bits);
                uint64_t before = tr__task_word(&task);
                struct tr__step step =
                    do_event(&task, (enum event)event, id_of(stale[i / 8]), i % 2 != 0);
                CHECK_EQ_INT(step.action, TR__ACTION_ENOENT);
                CHECK_EQ_U64(tr__task_word(&task), before);
                CHECK_EQ_U64(step.word, before);
            }
        }
    }
}

struct attempt {
    enum event event;
    enum from from;
};

static void attempt(void *context)
{
    const struct attempt *attempt = context;
    struct tr__task task = {0};
    set_word(&task, GENERATION, base_of(attempt->from));
    (void)do_event(&task, attempt->event, id_of(GENERATION), false);
}

CASE(task, what_only_a_runner_may_do_is_asserted)
{
    for (int event = 0; event < EVENTS; event++) {
        for (int from = 0; from < FROMS; from++) {
            if (table[event][from].never) {
                struct attempt one = {(enum event)event, (enum from)from};
                CHECK(case_panics(attempt, &one));
            }
        }
    }
}

/* From every state, one ending of every kind, then everything else on top of it. */
CASE(task, an_end_is_final_and_its_outcome_changes_once)
{
    const uint64_t fixed = TR__TASK_STATE_MASK | TR__TASK_OUTCOME_MASK | TR__TASK_BACKGROUND |
                           TR__TASK_MANUAL | TR__TASK_REQUEST | TR__TASK_WAS_DETACHED;
    struct tr__task task = {0};
    unsigned ends = 0;
    for (int from = QUEUED; from < ENDED; from++) {
        for (int event = 0; event < EVENTS; event++) {
            if (table[event][from].action != TR__ACTION_SETTLE) {
                continue;
            }
            set_word(&task, GENERATION, base_of((enum from)from));
            struct tr__step end = do_event(&task, (enum event)event, id_of(GENERATION), false);
            CHECK_EQ_INT(end.action, TR__ACTION_SETTLE);
            CHECK_EQ_INT(tr__word_outcome(end.before), TR_OUTCOME_NONE);
            CHECK(tr__word_outcome(end.word) != TR_OUTCOME_NONE);
            ends++;
            for (int again = 0; again < EVENTS; again++) {
                if (is_by_runner((enum event)again) && (end.word & HELD) == 0) {
                    continue; /* its hold is gone, so nobody may ask */
                }
                struct tr__step step = do_event(&task, (enum event)again, id_of(GENERATION), true);
                CHECK(step.action == TR__ACTION_EALREADY || step.action == TR__ACTION_LATE);
                CHECK_EQ_U64(tr__task_word(&task) & fixed, end.word & fixed);
                CHECK_EQ_U64(tr__task_word(&task), end.word);
            }
        }
    }
    /* QUEUED 3, PLAIN 7, COOP 5, asked ones 7 each, DEFERRED 5, APPROVAL 4. */
    CHECK_EQ_INT(ends, 3 + 7 + 5 + 7 + 7 + 5 + 4);
}
