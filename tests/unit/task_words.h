/* Words of tasks in every state, for the tests of domain/task. */
#ifndef TR__TESTS_UNIT_TASK_WORDS_H
#define TR__TESTS_UNIT_TASK_WORDS_H

#include "domain/task.h"

#include "support/case.h"

/* What a word can be, as far as the documentation tells cases apart. */
enum from {
    FREE,
    QUEUED,
    PLAIN,     /* RUNNING, nobody trusts it to stop */
    COOP,      /* RUNNING, cooperative */
    CANCELLED, /* ... and asked to stop */
    TIMED_OUT, /* ... by a timeout */
    DEFERRED,
    APPROVAL,
    ENDED,
    FROMS,
};

/* The word that a task in `from` has, without what may vary. */
static inline uint64_t base_of(enum from from)
{
    const uint64_t running =
        TR__TASK_RUNNING | TR__TASK_HOLD_RUN | TR__TASK_STARTED | TR__TASK_HOLD_RESULT;
    switch (from) {
    case FREE:
        return TR__TASK_FREE;
    case QUEUED:
        return TR__TASK_QUEUED | TR__TASK_HOLD_RUN | TR__TASK_HOLD_RESULT;
    case PLAIN:
        return running;
    case COOP:
        return running | TR__TASK_COOPERATIVE;
    case CANCELLED:
        return running | TR__TASK_COOPERATIVE | TR__TASK_CANCEL | TR__TASK_HOLD_TIMER;
    case TIMED_OUT:
        return running | TR__TASK_COOPERATIVE | TR__TASK_CANCEL | TR__TASK_TIMEOUT |
               TR__TASK_HOLD_TIMER;
    case DEFERRED:
        return TR__TASK_DEFERRED | TR__TASK_STARTED | TR__TASK_HOLD_RESULT;
    case APPROVAL:
        return TR__TASK_APPROVAL | TR__TASK_HOLD_RESULT;
    default:
        return TR__TASK_ENDED | TR__TASK_HOLD_RUN | TR__TASK_HOLD_RESULT;
    }
}

/* The one task of a test: its place, and which life it is in. */
enum {
    INDEX = 77,
    GENERATION = 5,
};

static inline void set_word(struct tr__task *task, uint64_t generation, uint64_t bits)
{
    task->slot.index = INDEX;
    tr__store_relaxed(&task->slot.word, generation << TR__STATE_BITS | bits);
}

static inline tr_task_id id_of(uint64_t generation)
{
    return TR__ID_MAKE(TR__TAG_TASK, generation, INDEX);
}

#endif
