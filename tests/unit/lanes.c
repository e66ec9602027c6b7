/* Lanes: a lane borrows used slots before it touches fresh ones; groups of tasks are recycled under
 * the lane's lock if it is free, past it if not. */
#include "domain/registry.h"

#include <pthread.h>

#include "support/case.h"
#include "support/wait.h"
#include "unit/by_hand.h"

static struct tr__registry registry;

enum {
    LEND_MIN = TR__SLOTS_CHUNK / 16, /* registry.c's */
    TASKS_MAX = 10 * TR__SLOTS_CHUNK,
};

/* A lane, and a turn in it. */
struct side {
    tr_turn_id turn;
    struct tr__lane *lane;
};

static struct side open_side(void)
{
    struct side side = {by_hand_turn(&registry, by_hand_session(&registry)), NULL};
    side.lane = by_hand_lane(&registry, &by_hand_turn_at(&registry, side.turn)->lane);
    return side;
}

static void launch(const struct side *side, struct by_hand *tasks, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        tasks[i] = by_hand_admit(&registry, side->turn, 0);
    }
}

static void finish(const struct by_hand *tasks, struct tr__task **ret_tasks, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        ret_tasks[i] = by_hand_finish(tasks[i]);
    }
}

static void end(const struct by_hand *tasks, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        by_hand_end(&registry, tasks[i]);
    }
}

static void launch_and_end(const struct side *side, unsigned count)
{
    struct by_hand tasks[TASKS_MAX];
    launch(side, tasks, count);
    end(tasks, count);
}

static uint32_t reached(void)
{
    return tr__slots_reached(&registry.tasks);
}

/* Slots that have changed lanes, of any kind. */
static uint64_t moves(void)
{
    return tr__load_relaxed(&registry.moves);
}

/* ---- borrowing ---- */

/* Two lanes; the first has used up a chunk of slots, and `spared` of them are free again: returned
 * to it, not yet reclaimed by it. The others are in use. */
struct pair {
    struct side lender;
    struct side borrower;
    struct by_hand used[TR__SLOTS_CHUNK];
    unsigned spared;
    uint64_t moves;
};

static void open_pair(struct pair *pair, unsigned spared)
{
    by_hand_open(&registry, TASKS_MAX, 8, 8);
    pair->lender = open_side();
    pair->borrower = open_side();
    CHECK(pair->lender.lane != pair->borrower.lane);
    launch(&pair->lender, pair->used, TR__SLOTS_CHUNK);
    end(pair->used, spared);
    pair->spared = spared;
    pair->moves = moves();
    CHECK_EQ_INT(reached(), TR__SLOTS_CHUNK);
}

/* Every slot can be had by either lane: none was lost on the way. */
static void close_pair(struct pair *pair)
{
    end(pair->used + pair->spared, TR__SLOTS_CHUNK - pair->spared);
    launch_and_end(&pair->borrower, TASKS_MAX);
    launch_and_end(&pair->lender, TASKS_MAX);
    CHECK_EQ_INT(by_hand_used(&registry).tasks, 0);
    tr__registry_done(&registry);
}

CASE(lanes, used_slots_of_a_neighbour_come_before_fresh_ones)
{
    struct pair pair;
    open_pair(&pair, LEND_MIN);
    struct by_hand one = by_hand_admit(&registry, pair.borrower.turn, 0);
    CHECK_EQ_U64(TR__ID_GENERATION(one.id), 2);
    CHECK_EQ_INT(reached(), TR__SLOTS_CHUNK); /* no page that was never used before */
    CHECK_EQ_U64(moves() - pair.moves, 1);
    CHECK_EQ_INT(pair.lender.lane->tasks_used, TR__SLOTS_CHUNK - LEND_MIN);
    CHECK_EQ_INT(pair.borrower.lane->tasks_used, 1);
    CHECK_EQ_INT(pair.borrower.lane->tasks.count, LEND_MIN / 2); /* and more for the next takes */
    CHECK_EQ_INT(pair.lender.lane->tasks.count, LEND_MIN / 2 - 1);
    by_hand_end(&registry, one);
    close_pair(&pair);
}

CASE(lanes, who_has_few_used_slots_lends_none)
{
    struct pair pair;
    open_pair(&pair, LEND_MIN - 1);
    struct by_hand one = by_hand_admit(&registry, pair.borrower.turn, 0);
    CHECK_EQ_U64(TR__ID_GENERATION(one.id), 1);
    CHECK_EQ_INT(reached(), 2 * TR__SLOTS_CHUNK);
    CHECK_EQ_U64(moves() - pair.moves, 0);
    by_hand_end(&registry, one);
    close_pair(&pair);
}

CASE(lanes, a_busy_lender_is_not_waited_for)
{
    struct pair pair;
    open_pair(&pair, TR__SLOTS_CHUNK);
    tr__lane_lock(pair.lender.lane);
    struct by_hand one = by_hand_admit(&registry, pair.borrower.turn, 0);
    tr__lane_unlock(pair.lender.lane);
    CHECK_EQ_U64(TR__ID_GENERATION(one.id), 1);
    CHECK_EQ_INT(reached(), 2 * TR__SLOTS_CHUNK);
    by_hand_end(&registry, one);
    close_pair(&pair);
}

/* A lane asks its neighbours when a chunk of its own is used up, not at each take. */
CASE(lanes, borrowing_comes_once_in_a_chunk)
{
    static struct by_hand tasks[TR__SLOTS_CHUNK + 1];
    struct pair pair;
    open_pair(&pair, 0);
    launch(&pair.borrower, tasks, 1); /* nobody lends: a chunk of its own */
    end(pair.used, TR__SLOTS_CHUNK);
    pair.spared = TR__SLOTS_CHUNK;
    launch(&pair.borrower, tasks + 1, TR__SLOTS_CHUNK);
    for (unsigned i = 0; i <= TR__SLOTS_CHUNK; i++) {
        CHECK_EQ_U64(TR__ID_GENERATION(tasks[i].id), i < TR__SLOTS_CHUNK ? 1 : 2);
    }
    CHECK_EQ_U64(moves() - pair.moves, 1);
    end(tasks, TR__SLOTS_CHUNK + 1);
    close_pair(&pair);
}

/* ---- recycling a group ---- */

enum {
    GROUP = 5,
};

/* What a group of ended tasks of one turn leaves behind. */
struct group {
    struct side side;
    struct by_hand tasks[GROUP];
    struct tr__task *ended[GROUP];
};

static void open_group(struct group *group)
{
    by_hand_open(&registry, GROUP, 4, 4);
    group->side = open_side();
    launch(&group->side, group->tasks, GROUP);
    finish(group->tasks, group->ended, GROUP);
    CHECK_EQ_INT(group->side.lane->tasks_used, GROUP);
    CHECK_EQ_INT(by_hand_turn_at(&registry, group->side.turn)->tasks,
                 1 + GROUP); /* 1: it is open */
}

/* All slots can be had again, each once, under ids of their own. */
static void close_group(struct group *group, unsigned slots)
{
    struct by_hand again[GROUP];
    struct by_hand more = {NULL, 0};
    for (unsigned i = 0; i < GROUP; i++) {
        CHECK(tr__registry_task(&registry, group->tasks[i].id) == NULL);
    }
    launch(&group->side, again, slots);
    CHECK_EQ_INT(by_hand_launch(&registry, group->side.turn, 0, &more), TR_EAGAIN);
    CHECK_EQ_INT(by_hand_used(&registry).tasks, slots);
    for (unsigned i = 0; i < slots; i++) {
        CHECK(i == 0 || again[i].id != again[i - 1].id);
        by_hand_end(&registry, again[i]);
    }
    CHECK_EQ_INT(by_hand_used(&registry).tasks, 0);
    CHECK_EQ_INT(by_hand_close_turn(&registry, group->side.turn), 0);
    CHECK_EQ_INT(by_hand_used(&registry).turns, 0); /* no task of it is still counted */
    tr__registry_done(&registry);
}

CASE(lanes, a_group_is_accounted_for_at_once)
{
    struct group group;
    open_group(&group);
    struct tr__lane *lane = group.side.lane;
    tr__registry_recycle_many(&registry, group.ended, GROUP);
    CHECK_EQ_INT(lane->tasks_used, 0);
    CHECK_EQ_INT(lane->tasks.stacked, GROUP);
    CHECK_EQ_INT(tr__load_relaxed(&lane->tasks.returned), 0);
    CHECK_EQ_INT(by_hand_turn_at(&registry, group.side.turn)->tasks, 1);
    close_group(&group, GROUP);
}

CASE(lanes, a_group_passes_by_a_lane_in_use)
{
    struct group group;
    open_group(&group);
    struct tr__lane *lane = group.side.lane;
    tr__lane_lock(lane);
    tr__registry_recycle_many(&registry, group.ended, GROUP); /* does not wait */
    CHECK_EQ_INT(lane->tasks_used, GROUP);                    /* whose lock it is counts */
    CHECK_EQ_INT(lane->tasks.stacked, 0);
    CHECK(tr__load_relaxed(&lane->tasks.returned) != 0);
    tr__registry_reclaim(&registry, lane);
    CHECK_EQ_INT(lane->tasks_used, 0);
    CHECK_EQ_INT(lane->tasks.count, GROUP);
    tr__lane_unlock(lane);
    close_group(&group, GROUP);
}

/* What the stack has no room for is accounted for as well, and not once more when reclaimed. */
CASE(lanes, a_group_beyond_the_stack_is_accounted_for_once)
{
    struct group group;
    open_group(&group);
    struct tr__lane *lane = group.side.lane;
    lane->tasks.stack_max = 2;
    tr__registry_recycle_many(&registry, group.ended, GROUP);
    CHECK_EQ_INT(lane->tasks_used, 0);
    CHECK_EQ_INT(lane->tasks.stacked, 2);
    tr__lane_lock(lane);
    tr__registry_reclaim(&registry, lane);
    CHECK_EQ_INT(lane->tasks.count, GROUP - 2);
    tr__lane_unlock(lane);
    close_group(&group, GROUP);
}

CASE(lanes, a_group_leaves_spent_slots_out)
{
    struct group group;
    open_group(&group);
    struct tr__lane *lane = group.side.lane;
    /* One of them is in its last life. */
    tr__store_release(&group.ended[2]->slot.word, (TR__GENERATION_SPENT - 1) << TR__STATE_BITS);
    tr__registry_recycle_many(&registry, group.ended, GROUP);
    CHECK_EQ_INT(lane->tasks.stacked, GROUP - 1);
    CHECK_EQ_INT(lane->tasks_used, 1); /* it is accounted for where it is retired */
    CHECK_EQ_INT(by_hand_used(&registry).tasks, 0);
    close_group(&group, GROUP - 1);
}

/* Groups are recycled by a thread of their own while others launch into the same few lanes, with
 * stacks that are full most of the time. */
enum {
    HOSTS = 4,
    LANES = 2, /* hosts meet in them */
    ROOM = HOSTS * GROUP - 3,
#if defined(TR__WITH_TSAN)
    ROUNDS = 1000,
#else
    ROUNDS = 10000,
#endif
};

struct host {
    struct side side;
    unsigned launched;
};

static void *host_main(void *context)
{
    struct host *host = context;
    for (unsigned round = 0; round < ROUNDS; round++) {
        struct by_hand tasks[GROUP];
        struct tr__task *ended[GROUP];
        unsigned count = 0;
        while (count < 1 + round % GROUP) {
            int error = by_hand_launch(&registry, host->side.turn, 0, &tasks[count]);
            CHECK(error == 0 || error == TR_EAGAIN);
            if (error != 0) {
                break;
            }
            count++;
        }
        if (count > 0) {
            finish(tasks, ended, count);
            tr__registry_recycle_many(&registry, ended, count);
        }
        host->launched += count;
    }
    return NULL;
}

CASE_TIMEOUT(lanes, groups_come_back_while_others_launch, 120)
{
    pthread_t threads[HOSTS];
    struct host hosts[HOSTS];
    struct side sides[TR__LANES];
    by_hand_open(&registry, ROOM, TR__LANES, TR__LANES);
    for (unsigned i = 0; i < TR__LANES; i++) {
        sides[i] = open_side();
        sides[i].lane->tasks.stack_max = 2;
    }
    for (unsigned i = 0; i < HOSTS; i++) {
        hosts[i] = (struct host){sides[i % LANES], 0};
        CHECK_EQ_INT(pthread_create(&threads[i], NULL, host_main, &hosts[i]), 0);
    }
    for (unsigned i = 0; i < HOSTS; i++) {
        CHECK_EQ_INT(pthread_join(threads[i], NULL), 0);
        CHECK(hosts[i].launched > 0);
    }
    CHECK_EQ_INT(by_hand_used(&registry).tasks, 0);
    launch_and_end(&sides[TR__LANES - 1], ROOM); /* no slot was lost */
    CHECK_EQ_INT(by_hand_used(&registry).tasks, 0);
    tr__registry_done(&registry);
}
