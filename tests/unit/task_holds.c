/* Task: what is no transition: holds, admission, publications, asking, looking. */
#include "unit/task_words.h"

static const uint64_t holds[] = {
    TR__TASK_HOLD_RUN,  TR__TASK_HOLD_TIMER, TR__TASK_HOLD_RESULT, TR__TASK_HOLD_DETACH,
    TR__TASK_HOLD_LOOK, TR__TASK_HOLD_STEER, TR__TASK_HOLD_ASK,
};

enum {
    HOLDS = sizeof holds / sizeof holds[0],
};

CASE(task, every_hold_is_a_hold)
{
    uint64_t all = 0;
    for (unsigned i = 0; i < HOLDS; i++) {
        CHECK((all & holds[i]) == 0);
        all |= holds[i];
    }
    CHECK_EQ_U64(all, TR__TASK_HOLDS);
}

/* Drops the holds of `set`, beginning with number `first`, and counts who is told to recycle. */
static void drop_all(struct tr__task *task, unsigned set, unsigned first, bool backwards)
{
    unsigned left = (unsigned)__builtin_popcount(set);
    for (unsigned i = 0; i < HOLDS; i++) {
        unsigned which = (first + (backwards ? HOLDS - i : i)) % HOLDS;
        if ((set >> which & 1u) != 0) {
            left--;
            CHECK_EQ_INT(tr__task_drop(task, holds[which]), left == 0);
        }
    }
    CHECK_EQ_U64(tr__task_word(task) & TR__TASK_HOLDS, 0);
}

static uint64_t holds_of(unsigned set)
{
    uint64_t bits = 0;
    for (unsigned i = 0; i < HOLDS; i++) {
        bits |= (set >> i & 1u) != 0 ? holds[i] : 0;
    }
    return bits;
}

CASE(task, whoever_drops_the_last_hold_of_an_ended_task_recycles_it)
{
    struct tr__task task = {0};
    for (unsigned set = 1; set < 1u << HOLDS; set++) {
        for (unsigned first = 0; first < 2 * HOLDS; first++) {
            set_word(&task, GENERATION,
                     TR__TASK_ENDED | UINT64_C(3) << TR__TASK_OUTCOME_SHIFT | holds_of(set));
            drop_all(&task, set, first % HOLDS, first >= HOLDS);
        }
        /* All at once, as one holder of several may. */
        set_word(&task, GENERATION, TR__TASK_ENDED | holds_of(set));
        CHECK(tr__task_drop(&task, holds_of(set)));
    }
}

CASE(task, an_unended_task_is_recycled_by_nobody)
{
    static const enum from unended[] = {QUEUED, PLAIN, COOP, DEFERRED, APPROVAL};
    struct tr__task task = {0};
    for (unsigned i = 0; i < sizeof unended / sizeof unended[0]; i++) {
        for (unsigned which = 0; which < HOLDS; which++) {
            uint64_t base = base_of(unended[i]) & ~TR__TASK_HOLDS;
            set_word(&task, GENERATION, base | holds[which]);
            CHECK(!tr__task_drop(&task, holds[which]));
            CHECK_EQ_U64(tr__task_word(&task), (uint64_t)GENERATION << TR__STATE_BITS | base);
        }
    }
}

static void drop_what_nobody_has(void *context)
{
    struct tr__task task = {0};
    (void)context;
    set_word(&task, GENERATION, TR__TASK_ENDED | TR__TASK_HOLD_RESULT);
    (void)tr__task_drop(&task, TR__TASK_HOLD_TIMER);
}

static void drop_what_is_no_hold(void *context)
{
    struct tr__task task = {0};
    (void)context;
    set_word(&task, GENERATION, TR__TASK_ENDED | TR__TASK_HOLD_RESULT | TR__TASK_MANUAL);
    (void)tr__task_drop(&task, TR__TASK_MANUAL);
}

CASE(task, dropping_what_one_does_not_hold_is_asserted)
{
    CHECK(case_panics(drop_what_nobody_has, NULL));
    CHECK(case_panics(drop_what_is_no_hold, NULL));
}

CASE(task, admitting_publishes_the_bits_over_the_generation)
{
    struct tr__task task = {0};
    for (int from = QUEUED; from < FROMS; from++) {
        set_word(&task, GENERATION, 0);
        tr__task_admit(&task, base_of((enum from)from) | TR__TASK_LOW);
        CHECK_EQ_U64(tr__task_word(&task), (uint64_t)GENERATION << TR__STATE_BITS |
                                               base_of((enum from)from) | TR__TASK_LOW);
        CHECK_EQ_U64(tr__task_id(&task, tr__task_word(&task)), id_of(GENERATION));
    }
}

static void admit_twice(void *context)
{
    struct tr__task task = {0};
    (void)context;
    set_word(&task, GENERATION, base_of(QUEUED));
    tr__task_admit(&task, base_of(QUEUED));
}

static void admit_as_free(void *context)
{
    struct tr__task task = {0};
    (void)context;
    set_word(&task, GENERATION, 0);
    tr__task_admit(&task, TR__TASK_HOLD_RESULT);
}

CASE(task, admitting_needs_a_free_slot_and_a_state)
{
    CHECK(case_panics(admit_twice, NULL));
    CHECK(case_panics(admit_as_free, NULL));
}

CASE(task, an_event_that_is_no_transition_needs_a_live_task)
{
    struct tr__task task = {0};
    for (int from = 0; from < FROMS; from++) {
        bool live = from != FREE && from != ENDED;
        set_word(&task, GENERATION, base_of((enum from)from));
        uint64_t before = tr__task_word(&task);
        CHECK(!tr__task_publish(&task, id_of(GENERATION - 1)));
        CHECK_EQ_U64(tr__task_word(&task), before);
        CHECK_EQ_INT(tr__task_publish(&task, id_of(GENERATION)), live);
        if (live) {
            CHECK_EQ_U64(tr__task_word(&task), before | TR__TASK_PUBLISHING);
            tr__task_published(&task);
        }
        CHECK_EQ_U64(tr__task_word(&task), before);
    }
}

static void published_without_publishing(void *context)
{
    struct tr__task task = {0};
    (void)context;
    set_word(&task, GENERATION, base_of(QUEUED));
    tr__task_published(&task);
}

CASE(task, ending_a_publication_that_never_began_is_asserted)
{
    CHECK(case_panics(published_without_publishing, NULL));
}

CASE(task, asking_needs_approval_pending)
{
    struct tr__task task = {0};
    for (int from = 0; from < FROMS; from++) {
        set_word(&task, GENERATION, base_of((enum from)from));
        uint64_t before = tr__task_word(&task);
        CHECK(!tr__task_ask(&task, id_of(GENERATION + 1)));
        CHECK_EQ_INT(tr__task_ask(&task, id_of(GENERATION)), from == APPROVAL);
        CHECK_EQ_U64(tr__task_word(&task), before | (from == APPROVAL ? TR__TASK_HOLD_ASK : 0));
    }
}

CASE(task, looking_needs_something_that_is_still_held)
{
    struct tr__task task = {0};
    for (int from = 0; from < FROMS; from++) {
        set_word(&task, GENERATION, base_of((enum from)from));
        uint64_t before = tr__task_word(&task);
        CHECK(!tr__task_look(&task, id_of(GENERATION + 1)));
        CHECK_EQ_INT(tr__task_look(&task, id_of(GENERATION)), from != FREE);
        CHECK_EQ_U64(tr__task_word(&task), before | (from != FREE ? TR__TASK_HOLD_LOOK : 0));
    }
    /* Ended with no hold left: somebody is about to recycle it. */
    set_word(&task, GENERATION, TR__TASK_ENDED);
    CHECK(!tr__task_look(&task, id_of(GENERATION)));
    CHECK_EQ_U64(tr__task_word(&task), (uint64_t)GENERATION << TR__STATE_BITS | TR__TASK_ENDED);
}

CASE(task, a_timer_is_given_up_only_while_nobody_relies_on_it)
{
    struct tr__task task = {0};
    for (int from = 0; from < FROMS; from++) {
        uint64_t base = base_of((enum from)from);
        bool may = tr__word_is_live(base) && (base & TR__TASK_CANCEL) == 0;
        set_word(&task, GENERATION, base | TR__TASK_HOLD_TIMER);
        uint64_t before = tr__task_word(&task);
        CHECK(!tr__task_unwatch(&task, before ^ TR__TASK_BACKGROUND)); /* it has changed since */
        CHECK_EQ_U64(tr__task_word(&task), before);
        CHECK_EQ_INT(tr__task_unwatch(&task, before), may);
        CHECK_EQ_U64(tr__task_word(&task), may ? before & ~TR__TASK_HOLD_TIMER : before);
        set_word(&task, GENERATION, base | TR__TASK_HOLD_TIMER | TR__TASK_CANCEL);
        before = tr__task_word(&task);
        CHECK(!tr__task_unwatch(&task, before));
        CHECK_EQ_U64(tr__task_word(&task), before);
    }
}

CASE(task, bits_of_the_word_do_not_overlap)
{
    static const uint64_t fields[] = {
        TR__TASK_STATE_MASK,   TR__TASK_BACKGROUND, TR__TASK_MANUAL,      TR__TASK_REQUEST,
        TR__TASK_OUTCOME_MASK, TR__TASK_CANCEL,     TR__TASK_TIMEOUT,     TR__TASK_WAS_DETACHED,
        TR__TASK_FOREIGN,      TR__TASK_HOLD_RUN,   TR__TASK_HOLD_TIMER,  TR__TASK_HOLD_RESULT,
        TR__TASK_HOLD_DETACH,  TR__TASK_HOLD_LOOK,  TR__TASK_HOLD_STEER,  TR__TASK_STARTED,
        TR__TASK_PUBLISHING,   TR__TASK_INLINE,     TR__TASK_COOPERATIVE, TR__TASK_LIFETIME_MASK,
        TR__TASK_LOW,          TR__TASK_COLD,       TR__TASK_HOLD_ASK,
    };
    uint64_t all = 0;
    for (unsigned i = 0; i < sizeof fields / sizeof fields[0]; i++) {
        CHECK_EQ_U64(all & fields[i], 0);
        all |= fields[i];
    }
    CHECK_EQ_U64(all >> TR__STATE_BITS, 0); /* the generation is above them */
}

CASE(task, bytes_used_counts_what_lies_in_the_record)
{
    static unsigned char elsewhere[64];
    struct tr__task task = {0};
    task.in = task.bytes;
    task.call_id_size = 5;
    task.metadata_size = 7;
    CHECK_EQ_INT(tr__task_bytes_used(&task), 12);
    task.input = task.bytes + 16;
    task.input_size = 10;
    CHECK_EQ_INT(tr__task_bytes_used(&task), 26);
    task.input = elsewhere;
    CHECK_EQ_INT(tr__task_bytes_used(&task), 12);
    task.in = elsewhere;
    CHECK_EQ_INT(tr__task_bytes_used(&task), 0);
    task.input = task.bytes;
    task.input_size = TR__TASK_BYTES;
    CHECK_EQ_INT(tr__task_bytes_used(&task), TR__TASK_BYTES);
}
