/* Registry: lanes, bounds, ids that are never used twice, and every way to run out of memory. */
#include "domain/registry.h"

#include <toolring/error.h>

#include <pthread.h>
#include <stdlib.h>

#include "base/memory.h"
#include "support/case.h"
#include "support/wait.h"
#include "unit/by_hand.h"

static struct tr__registry registry;

static const uint32_t bounds[] = {1, 2, 3, 65};

enum {
    BOUNDS = sizeof bounds / sizeof bounds[0],
    IDS_MAX = 20000,
};

/* Every id ever seen, to find out whether one came twice. */
static uint64_t ids[IDS_MAX];
static size_t ids_count;

static void remember(uint64_t id)
{
    CHECK(ids_count < IDS_MAX);
    ids[ids_count++] = id;
}

static int compare_ids(const void *left, const void *right)
{
    uint64_t one = *(const uint64_t *)left;
    uint64_t other = *(const uint64_t *)right;
    return one < other ? -1 : one > other;
}

static void check_ids_are_distinct(void)
{
    qsort(ids, ids_count, sizeof ids[0], compare_ids);
    for (size_t i = 0; i < ids_count; i++) {
        CHECK(ids[i] != 0);
        CHECK(i == 0 || ids[i] != ids[i - 1]);
    }
    ids_count = 0;
}

CASE(registry, sessions_are_dealt_to_the_lanes_in_turn)
{
    tr_session_id sessions[TR__LANES];
    by_hand_open(&registry, 100, 100, 2 * TR__LANES);
    uint32_t seen = 0;
    for (uint32_t i = 0; i < TR__LANES; i++) {
        sessions[i] = by_hand_session(&registry);
        CHECK_EQ_INT(TR__ID_TAG(sessions[i]), TR__TAG_SESSION);
        seen |= 1u << tr__load_relaxed(&by_hand_session_at(&registry, sessions[i])->lane);
    }
    CHECK_EQ_INT(seen, (1u << TR__LANES) - 1);
    for (uint32_t i = 0; i < TR__LANES; i++) { /* what belongs to a session stays in its lane */
        uint8_t lane = tr__load_relaxed(&by_hand_session_at(&registry, sessions[i])->lane);
        tr_turn_id turn = by_hand_turn(&registry, sessions[i]);
        CHECK_EQ_INT(TR__ID_TAG(turn), TR__TAG_TURN);
        CHECK_EQ_INT(tr__load_relaxed(&by_hand_turn_at(&registry, turn)->lane), lane);
        struct by_hand one = by_hand_admit(&registry, turn, 0);
        CHECK_EQ_INT(TR__ID_TAG(one.id), TR__TAG_TASK);
        CHECK_EQ_INT(tr__load_relaxed(&one.task->lane), lane);
        CHECK_EQ_INT(registry.lanes[lane].tasks_used, 1);
        CHECK_EQ_PTR(tr__registry_task(&registry, one.id), one.task);
    }
    tr__registry_done(&registry);
}

/* As many tasks as there may be, whichever lanes they are launched in. */
CASE(registry, as_many_tasks_as_the_bound_and_no_more)
{
    for (unsigned b = 0; b < BOUNDS; b++) {
        tr_turn_id turns[TR__LANES];
        struct by_hand tasks[65];
        by_hand_open(&registry, bounds[b], 100, 100);
        for (uint32_t i = 0; i < TR__LANES; i++) {
            turns[i] = by_hand_turn(&registry, by_hand_session(&registry));
        }
        for (uint32_t i = 0; i < bounds[b]; i++) {
            tasks[i] = by_hand_admit(&registry, turns[i % TR__LANES], 0);
        }
        struct by_hand more = {NULL, 0};
        for (uint32_t i = 0; i < TR__LANES; i++) {
            CHECK_EQ_INT(by_hand_launch(&registry, turns[i], 0, &more), TR_EAGAIN);
        }
        CHECK_EQ_INT(by_hand_used(&registry).tasks, bounds[b]);
        for (uint32_t i = 0; i < bounds[b]; i++) { /* one goes, another lane gets its place */
            by_hand_end(&registry, tasks[i]);
            tasks[i] = by_hand_admit(&registry, turns[(i + 5) % TR__LANES], 0);
            CHECK_EQ_INT(by_hand_launch(&registry, turns[i % TR__LANES], 0, &more), TR_EAGAIN);
        }
        for (uint32_t i = 0; i < bounds[b]; i++) {
            by_hand_end(&registry, tasks[i]);
        }
        CHECK_EQ_INT(by_hand_used(&registry).tasks, 0);
        tr__registry_done(&registry);
    }
}

CASE(registry, task_ids_are_never_used_twice_while_slots_move_between_lanes)
{
    struct case_random random;
    case_random_init(&random, 0);
    for (unsigned b = 0; b < BOUNDS; b++) {
        tr_turn_id turns[TR__LANES];
        struct by_hand live[65];
        uint32_t count = 0;
        by_hand_open(&registry, bounds[b], 100, 100);
        for (uint32_t i = 0; i < TR__LANES; i++) {
            turns[i] = by_hand_turn(&registry, by_hand_session(&registry));
        }
        for (unsigned step = 0; step < 6000; step++) {
            uint64_t which = case_random_below(&random, count + 1);
            if (which < count && case_random_below(&random, 2) == 0) {
                by_hand_end(&registry, live[which]);
                CHECK(tr__registry_task(&registry, live[which].id) == NULL);
                live[which] = live[--count];
            } else {
                int error = by_hand_launch(&registry, turns[case_random_below(&random, TR__LANES)],
                                           0, &live[count < bounds[b] ? count : 0]);
                CHECK_EQ_INT(error, count < bounds[b] ? 0 : TR_EAGAIN);
                if (error == 0) {
                    remember(live[count].id);
                    count++;
                }
            }
        }
        CHECK_EQ_INT(by_hand_used(&registry).tasks, count);
        check_ids_are_distinct();
        tr__registry_done(&registry);
    }
}

CASE(registry, turns_and_sessions_have_bounds_and_fresh_ids_too)
{
    for (unsigned b = 0; b < BOUNDS; b++) {
        tr_session_id sessions[65];
        tr_turn_id turns[65];
        tr_session_id one_more = 7;
        by_hand_open(&registry, 4, bounds[b], bounds[b]);
        for (unsigned round = 0; round < 40; round++) {
            for (uint32_t i = 0; i < bounds[b]; i++) {
                remember(sessions[i] = by_hand_session(&registry));
                remember(turns[i] = by_hand_turn(&registry, sessions[i]));
            }
            CHECK_EQ_INT(tr__registry_open_session(&registry, NULL, &one_more), TR_ELIMIT);
            CHECK_EQ_INT(
                tr__registry_open_turn(&registry, sessions[round % bounds[b]], NULL, &one_more),
                TR_ELIMIT);
            CHECK_EQ_INT(one_more, 7);
            CHECK_EQ_INT(by_hand_used(&registry).turns, bounds[b]);
            CHECK_EQ_INT(by_hand_used(&registry).sessions, bounds[b]);
            for (uint32_t i = 0; i < bounds[b]; i++) {
                CHECK_EQ_INT(by_hand_close_turn(&registry, turns[i]), 0);
                CHECK_EQ_INT(by_hand_close_turn(&registry, turns[i]), TR_ENOENT);
                CHECK_EQ_INT(by_hand_close_session(&registry, sessions[i]), 0);
                CHECK_EQ_INT(by_hand_close_session(&registry, sessions[i]), TR_ENOENT);
            }
            CHECK_EQ_INT(by_hand_used(&registry).turns, 0);
            CHECK_EQ_INT(by_hand_used(&registry).sessions, 0);
        }
        check_ids_are_distinct();
        tr__registry_done(&registry);
    }
}

/* One session takes every turn there is, then another lane's session gets them. */
CASE(registry, turn_slots_follow_the_demand_from_lane_to_lane)
{
    tr_turn_id turns[65];
    tr_turn_id more = 0;
    by_hand_open(&registry, 4, 65, 4);
    tr_session_id one = by_hand_session(&registry);
    tr_session_id other = by_hand_session(&registry);
    for (unsigned round = 0; round < 4; round++) {
        tr_session_id session = round % 2 == 0 ? one : other;
        for (uint32_t i = 0; i < 65; i++) {
            turns[i] = by_hand_turn(&registry, session);
        }
        CHECK_EQ_INT(tr__registry_open_turn(&registry, one, NULL, &more), TR_ELIMIT);
        CHECK_EQ_INT(tr__registry_open_turn(&registry, other, NULL, &more), TR_ELIMIT);
        for (uint32_t i = 0; i < 65; i++) {
            CHECK_EQ_INT(by_hand_close_turn(&registry, turns[(i * 7) % 65]), 0);
        }
    }
    tr__registry_done(&registry);
}

CASE(registry, a_take_can_be_undone)
{
    struct tr__lane *lane = NULL;
    by_hand_open(&registry, 1, 1, 1);
    tr_turn_id turn = by_hand_turn(&registry, by_hand_session(&registry));
    CHECK(tr__registry_lock_turn(&registry, turn, &lane) != NULL);
    struct tr__task *task = tr__registry_take_task(&registry, lane);
    CHECK(task != NULL);
    CHECK(tr__registry_take_task(&registry, lane) == NULL);
    CHECK_EQ_INT(lane->tasks_used, 1);
    tr_task_id id = tr__slots_id(&registry.tasks, &task->slot);
    tr__registry_untake_task(&registry, lane, task);
    CHECK_EQ_INT(lane->tasks_used, 0);
    tr__lane_unlock(lane);
    struct by_hand one = by_hand_admit(&registry, turn, 0);
    CHECK(one.id != id);
    CHECK_EQ_INT(by_hand_used(&registry).tasks, 1);
    by_hand_end(&registry, one);
    tr__registry_done(&registry);
}

CASE(registry, only_the_right_ids_lock_anything)
{
    struct tr__lane *lane = NULL;
    by_hand_open(&registry, 4, 4, 4);
    tr_session_id session = by_hand_session(&registry);
    tr_turn_id turn = by_hand_turn(&registry, session);
    uint64_t generation = UINT64_C(1) << TR__INDEX_BITS;
    const uint64_t wrong[] = {
        0,
        session,
        turn + 1,
        turn + generation,
        turn - generation,
        turn & ~UINT64_C(0xff),
        UINT64_MAX,
        TR__ID_MAKE(TR__TAG_TURN, 1, 4),
        TR__ID_MAKE(TR__TAG_TURN, 1, 5),
    };
    for (unsigned i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        CHECK(tr__registry_lock_turn(&registry, wrong[i], &lane) == NULL);
    }
    CHECK(tr__registry_lock_session(&registry, turn, &lane) == NULL);
    CHECK(tr__registry_lock_session(&registry, session + 1, &lane) == NULL);
    CHECK(lane == NULL);
    /* A free slot by the id it will have next: forged, so it opens nothing. */
    CHECK_EQ_INT(by_hand_close_turn(&registry, turn), 0);
    CHECK(tr__registry_lock_turn(&registry, turn + generation, &lane) == NULL);
    CHECK(tr__registry_lock_turn(&registry, turn, &lane) == NULL);
    tr_turn_id again = by_hand_turn(&registry, session);
    CHECK(tr__registry_lock_turn(&registry, again, &lane) != NULL);
    tr__lane_unlock(lane);
    tr__registry_done(&registry);
}

CASE(registry, every_allocation_of_opening_may_fail)
{
    struct tr__registry_config config = {4, 4, 4, 8};
    tr_session_options options = TR_SESSION_OPTIONS_INIT;
    tr_turn_options turn_options = TR_TURN_OPTIONS_INIT;
    options.label = "session";
    turn_options.label = "turn";
    long failures = 0;
    for (long n = 1;; n++) {
        uint64_t session = 0;
        uint64_t turn = 0;
        tr__memory_fail_after(n);
        int error = tr__registry_init(&registry, &config);
        if (error == 0) {
            error = tr__registry_open_session(&registry, &options, &session);
            error = error < 0 ? error
                              : tr__registry_open_turn(&registry, session, &turn_options, &turn);
            CHECK_EQ_INT(by_hand_used(&registry).sessions, session != 0);
            CHECK_EQ_INT(by_hand_used(&registry).turns, turn != 0);
            tr__registry_done(&registry);
        }
        if (tr__memory_fail_left() > 0) {
            CHECK_EQ_INT(error, 0);
            break;
        }
        CHECK_EQ_INT(error, TR_ENOMEM);
        failures++;
    }
    tr__memory_fail_after(-1);
    CHECK_EQ_INT(failures, 8); /* toolbox, tasks, turns, sessions, cold, stacks, two labels */
}

enum {
    HOSTS = 6,
#if defined(TR__WITH_TSAN)
    TOURS = 400,
#else
    TOURS = 3000,
#endif
};

struct host {
    unsigned number;
    unsigned launched;
};

/* Opens a session and turns, launches, ends, closes; refusals are part of life with tiny bounds. */
static void tour(struct host *host, struct case_random *random)
{
    tr_session_id session = 0;
    tr_turn_id turns[3] = {0, 0, 0};
    struct by_hand tasks[6];
    unsigned count = 0;
    int error = tr__registry_open_session(&registry, NULL, &session);
    CHECK(error == 0 || error == TR_ELIMIT);
    for (unsigned i = 0; i < 3 && error == 0; i++) {
        int refused = tr__registry_open_turn(&registry, session, NULL, &turns[i]);
        CHECK(refused == 0 || refused == TR_ELIMIT);
        for (unsigned j = 0; j < 2 && refused == 0; j++) {
            uint64_t bits = case_random_below(random, 2) != 0 ? TR__TASK_BACKGROUND : 0;
            int full = by_hand_launch(&registry, turns[i], bits, &tasks[count]);
            CHECK(full == 0 || full == TR_EAGAIN);
            count += full == 0;
        }
    }
    host->launched += count;
    bool early = case_random_below(random, 2) != 0;
    for (unsigned i = 0; i < count && early; i++) {
        by_hand_end(&registry, tasks[i]);
    }
    for (unsigned i = 0; i < 3; i++) {
        CHECK_EQ_INT(turns[i] == 0 ? 0 : by_hand_close_turn(&registry, turns[i]), 0);
    }
    CHECK_EQ_INT(session == 0 ? 0 : by_hand_close_session(&registry, session), 0);
    for (unsigned i = 0; i < count && !early; i++) {
        by_hand_end(&registry, tasks[i]); /* after its homes were closed */
    }
}

static void *tour_main(void *context)
{
    struct host *host = context;
    struct case_random random;
    case_random_init(&random, host->number);
    for (unsigned i = 0; i < TOURS; i++) {
        tour(host, &random);
    }
    return NULL;
}

CASE_TIMEOUT(registry, many_hosts_share_few_slots_and_leave_none_behind, 120)
{
    pthread_t threads[HOSTS];
    struct host hosts[HOSTS];
    by_hand_open(&registry, 5, 7, 4);
    unsigned launched = 0;
    for (unsigned i = 0; i < HOSTS; i++) {
        hosts[i] = (struct host){i, 0};
        CHECK_EQ_INT(pthread_create(&threads[i], NULL, tour_main, &hosts[i]), 0);
    }
    for (unsigned i = 0; i < HOSTS; i++) {
        CHECK_EQ_INT(pthread_join(threads[i], NULL), 0);
        launched += hosts[i].launched;
    }
    CHECK(launched > 0);
    struct by_hand_used used = by_hand_used(&registry);
    CHECK_EQ_INT(used.tasks, 0);
    CHECK_EQ_INT(used.turns, 0);
    CHECK_EQ_INT(used.sessions, 0);
    /* Every slot can be had again: none was lost on the way between lanes. */
    tr_session_id sessions[4];
    for (unsigned i = 0; i < 4; i++) {
        sessions[i] = by_hand_session(&registry);
    }
    tr_turn_id turn = 0;
    for (unsigned i = 0; i < 7; i++) {
        turn = by_hand_turn(&registry, sessions[i % 4]);
    }
    for (unsigned i = 0; i < 5; i++) {
        (void)by_hand_admit(&registry, turn, 0);
    }
    tr__registry_done(&registry);
}
