/* Roster: order, growth, sweeping, and what happens without memory. */
#include "domain/roster.h"

#include <toolring/error.h>

#include "base/memory.h"
#include "support/case.h"
#include "support/wait.h"

enum {
    MANY = 1000
};

/* Ids below `alive_from` are dead; counts how often it was asked. */
struct living {
    tr_task_id alive_from;
    unsigned modulus; /* 0: all from alive_from on; else only multiples of it */
    unsigned asked;
};

static bool keep(void *context, tr_task_id id)
{
    struct living *living = context;
    living->asked++;
    return id >= living->alive_from && (living->modulus == 0 || id % living->modulus == 0);
}

static void add(struct tr__roster *roster, struct living *living, tr_task_id id)
{
    CHECK_EQ_INT(tr__roster_reserve(roster, keep, living), 0);
    tr__roster_append(roster, id);
}

CASE(roster, keeps_the_order_of_launches)
{
    struct tr__roster roster;
    struct living living = {0, 0, 0};
    tr__roster_init(&roster);
    for (tr_task_id id = 1; id <= MANY; id++) {
        add(&roster, &living, id);
    }
    CHECK_EQ_INT(roster.count, MANY);
    for (uint32_t i = 0; i < MANY; i++) {
        CHECK_EQ_U64(roster.ids[i], i + 1);
    }
    tr__roster_done(&roster);
    CHECK_EQ_INT(roster.count, 0);
    CHECK_EQ_PTR(roster.ids, roster.few);
}

CASE(roster, a_few_need_no_memory)
{
    struct tr__roster roster;
    struct living living = {0, 0, 0};
    tr__roster_init(&roster);
    tr__memory_fail_after(1);
    for (tr_task_id id = 1; id <= TR__ROSTER_INLINE; id++) {
        add(&roster, &living, id);
    }
    CHECK_EQ_INT(tr__memory_fail_left(), 1);
    CHECK_EQ_INT(living.asked, 0); /* nobody is looked at before it is full */
    tr__roster_done(&roster);
}

CASE(roster, sweeping_keeps_the_living_in_order)
{
    struct tr__roster roster;
    struct living living = {0, 0, 0};
    tr__roster_init(&roster);
    for (tr_task_id id = 1; id <= 100; id++) {
        add(&roster, &living, id);
    }
    living.modulus = 7;
    tr__roster_sweep(&roster, keep, &living);
    CHECK_EQ_INT(roster.count, 14);
    for (uint32_t i = 0; i < roster.count; i++) {
        CHECK_EQ_U64(roster.ids[i], 7 * (i + 1));
    }
    living.alive_from = 1000;
    tr__roster_sweep(&roster, keep, &living);
    CHECK_EQ_INT(roster.count, 0);
    tr__roster_done(&roster);
}

/* A turn that launches for ever while few of its tasks live at a time. */
CASE(roster, does_not_grow_beyond_what_lives)
{
    struct tr__roster roster;
    struct living living = {0, 0, 0};
    tr__roster_init(&roster);
    for (tr_task_id id = 1; id <= 100 * MANY; id++) {
        living.alive_from = id > 10 ? id - 10 : 0;
        add(&roster, &living, id);
        CHECK(roster.capacity <= 4 * 11);
    }
    CHECK(living.asked <= 4 * 100 * MANY); /* at most two looks a launch, amortised, and slack */
    tr__roster_done(&roster);
}

/* Against a plain model: after every step the roster has the living ones, and maybe dead ones. */
CASE(roster, random_lives_agree_with_a_model)
{
    struct case_random random;
    struct tr__roster roster;
    struct living living = {0, 0, 0};
    case_random_init(&random, 0);
    tr__roster_init(&roster);
    tr_task_id next = 1;
    for (unsigned step = 0; step < MANY; step++) {
        for (uint64_t i = case_random_below(&random, 20); i > 0; i--) {
            add(&roster, &living, next);
            next++;
        }
        living.alive_from += case_random_below(&random, (next - living.alive_from) / 2 + 1);
        tr_task_id before = 0;
        tr_task_id first_alive = living.alive_from == 0 ? 1 : living.alive_from;
        tr_task_id missing = next - first_alive;
        for (uint32_t i = 0; i < roster.count; i++) {
            CHECK(roster.ids[i] > before && roster.ids[i] < next);
            before = roster.ids[i];
            missing -= before >= first_alive;
        }
        CHECK_EQ_U64(missing, 0);
    }
    tr__roster_done(&roster);
}

CASE(roster, without_memory_it_uses_what_a_sweep_frees)
{
    struct tr__roster roster;
    struct living living = {0, 0, 0};
    tr__roster_init(&roster);
    for (tr_task_id id = 1; id <= TR__ROSTER_INLINE; id++) {
        add(&roster, &living, id);
    }
    /* All alive: nothing to be had, nothing changed. */
    tr__memory_fail_after(1);
    CHECK_EQ_INT(tr__roster_reserve(&roster, keep, &living), TR_ENOMEM);
    CHECK_EQ_INT(roster.count, TR__ROSTER_INLINE);
    CHECK_EQ_INT(roster.capacity, TR__ROSTER_INLINE);
    CHECK_EQ_PTR(roster.ids, roster.few);
    /* One is dead: more than half lives, so it would grow; without memory one place will do. */
    living.alive_from = 2;
    tr__memory_fail_after(1);
    CHECK_EQ_INT(tr__roster_reserve(&roster, keep, &living), 0);
    CHECK_EQ_INT(tr__memory_fail_left(), 0);
    tr__roster_append(&roster, 5);
    CHECK_EQ_INT(roster.count, TR__ROSTER_INLINE);
    CHECK_EQ_U64(roster.ids[0], 2);
    CHECK_EQ_U64(roster.ids[3], 5);
    tr__roster_done(&roster);
}

static void append_without_room(void *context)
{
    struct tr__roster roster;
    (void)context;
    tr__roster_init(&roster);
    for (tr_task_id id = 1; id <= TR__ROSTER_INLINE + 1; id++) {
        tr__roster_append(&roster, id);
    }
}

CASE(roster, appending_without_a_reserve_is_asserted)
{
    CHECK(case_panics(append_without_room, NULL));
}
