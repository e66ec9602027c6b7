/* Homes: sessions and turns: how long they stay, labels, queues, rosters, and no memory. */
#include "domain/homes.h"

#include <toolring/error.h>

#include "base/memory.h"
#include "support/case.h"
#include "unit/by_hand.h"

static struct tr__registry registry;

CASE(homes, homes_stay_while_something_of_theirs_is_left)
{
    by_hand_open(&registry, 4, 1, 1);
    tr_session_id session = by_hand_session(&registry);
    tr_turn_id turn = by_hand_turn(&registry, session);
    struct by_hand one = by_hand_admit(&registry, turn, TR__TASK_BACKGROUND);
    CHECK_EQ_INT(by_hand_close_turn(&registry, turn), 0);
    CHECK_EQ_INT(by_hand_used(&registry).turns, 1); /* the task still points to it */
    tr_turn_id more = 0;
    CHECK_EQ_INT(tr__registry_open_turn(&registry, session, NULL, &more), TR_ELIMIT);
    CHECK_EQ_INT(by_hand_close_session(&registry, session), 0);
    CHECK_EQ_INT(tr__registry_open_turn(&registry, session, NULL, &more), TR_ECLOSED);
    CHECK_EQ_INT(by_hand_used(&registry).sessions, 1); /* its items can still be taken */
    CHECK(by_hand_session_at(&registry, session) != NULL);
    by_hand_end(&registry, one);
    CHECK_EQ_INT(by_hand_used(&registry).turns, 0);
    CHECK_EQ_INT(by_hand_used(&registry).sessions, 0);
    CHECK(by_hand_session_at(&registry, session) == NULL);
    CHECK_EQ_INT(tr__registry_open_turn(&registry, session, NULL, &more), TR_ENOENT);
    (void)by_hand_turn(&registry, by_hand_session(&registry));
    tr__registry_done(&registry);
}

CASE(homes, a_session_lists_its_open_turns_newest_first)
{
    by_hand_open(&registry, 4, 8, 2);
    tr_session_id id = by_hand_session(&registry);
    struct tr__session *session = by_hand_session_at(&registry, id);
    tr_turn_id turns[4];
    for (unsigned i = 0; i < 4; i++) {
        turns[i] = by_hand_turn(&registry, id);
    }
    CHECK_EQ_INT(by_hand_close_turn(&registry, turns[1]), 0); /* from the middle */
    CHECK_EQ_INT(by_hand_close_turn(&registry, turns[3]), 0); /* the first of the list */
    CHECK_EQ_U64(session->first->id, turns[2]);
    CHECK_EQ_U64(session->first->next->id, turns[0]);
    CHECK(session->first->next->next == NULL);
    CHECK_EQ_INT(by_hand_close_turn(&registry, turns[0]), 0); /* the last */
    CHECK(session->first->next == NULL);
    CHECK_EQ_INT(by_hand_close_turn(&registry, turns[2]), 0);
    CHECK(session->first == NULL);
    tr__registry_done(&registry);
}

CASE(homes, closing_stops_the_opening_of_homes)
{
    uint64_t id = 0;
    by_hand_open(&registry, 4, 4, 4);
    tr_session_id session = by_hand_session(&registry);
    tr__store_release(&registry.closing, 1u);
    CHECK_EQ_INT(tr__registry_open_session(&registry, NULL, &id), TR_ECLOSED);
    CHECK_EQ_INT(tr__registry_open_turn(&registry, session, NULL, &id), TR_ECLOSED);
    CHECK_EQ_INT(id, 0);
    tr__registry_done(&registry);
}

CASE(homes, labels_are_copied_and_bounded)
{
    char label[TR_LABEL_BYTES_MAX + 2];
    tr_session_options options = TR_SESSION_OPTIONS_INIT;
    tr_turn_options turn_options = TR_TURN_OPTIONS_INIT;
    uint64_t session = 0;
    uint64_t turn = 0;
    by_hand_open(&registry, 4, 4, 4);
    memset(label, 'a', sizeof label);
    label[sizeof label - 1] = '\0';
    options.label = label;
    turn_options.label = label;
    CHECK_EQ_INT(tr__registry_open_session(&registry, &options, &session), TR_EINVAL);
    CHECK_EQ_INT(tr__registry_open_turn(&registry, session, &turn_options, &turn), TR_EINVAL);
    CHECK_EQ_INT(by_hand_used(&registry).sessions, 0);
    label[TR_LABEL_BYTES_MAX] = '\0';
    CHECK_EQ_INT(tr__registry_open_session(&registry, &options, &session), 0);
    CHECK_EQ_INT(tr__registry_open_turn(&registry, session, &turn_options, &turn), 0);
    label[0] = 'b';
    CHECK_EQ_INT(strlen(by_hand_session_at(&registry, session)->label), TR_LABEL_BYTES_MAX);
    CHECK_EQ_INT(by_hand_session_at(&registry, session)->label[0], 'a');
    CHECK_EQ_INT(by_hand_turn_at(&registry, turn)->label[0], 'a');
    options.label = "";
    CHECK_EQ_INT(tr__registry_open_session(&registry, &options, &session), 0);
    CHECK_EQ_STR(by_hand_session_at(&registry, session)->label, "");
    session = by_hand_session(&registry);
    CHECK(by_hand_session_at(&registry, session)->label == NULL);
    tr__registry_done(&registry);
}

static void open_queue(struct tr_queue *queue)
{
    memset((void *)queue, 0, sizeof *queue);
    tr__inbox_init(&queue->inbox);
}

CASE(homes, a_queue_knows_how_many_homes_deliver_into_it)
{
    struct tr_queue one;
    struct tr_queue other;
    tr_session_options options = TR_SESSION_OPTIONS_INIT;
    tr_turn_options turn_options = TR_TURN_OPTIONS_INIT;
    uint64_t session = 0;
    uint64_t turns[3];
    open_queue(&one);
    open_queue(&other);
    by_hand_open(&registry, 4, 4, 4);
    options.queue = &one;
    CHECK_EQ_INT(tr__registry_open_session(&registry, &options, &session), 0);
    turns[0] = by_hand_turn(&registry, session); /* as its session */
    turn_options.queue = &other;
    CHECK_EQ_INT(tr__registry_open_turn(&registry, session, &turn_options, &turns[1]), 0);
    turn_options.queue = NULL;
    turn_options.flags = TR_TURN_UNBOUND;
    CHECK_EQ_INT(tr__registry_open_turn(&registry, session, &turn_options, &turns[2]), 0);
    CHECK_EQ_INT(tr__load_relaxed(&one.bound), 2);
    CHECK_EQ_INT(tr__load_relaxed(&other.bound), 1);
    CHECK_EQ_PTR(by_hand_session_at(&registry, session)->loop_out, &one.inbox);
    CHECK_EQ_PTR(by_hand_session_at(&registry, session)->ready_out, &one.inbox);
    CHECK_EQ_PTR(by_hand_turn_at(&registry, turns[0])->out, &one.inbox);
    CHECK(by_hand_turn_at(&registry, turns[0])->bound);
    CHECK_EQ_PTR(by_hand_turn_at(&registry, turns[1])->out, &other.inbox);
    struct tr__turn *unbound = by_hand_turn_at(&registry, turns[2]);
    CHECK_EQ_PTR(unbound->out, &unbound->updates);
    CHECK(!unbound->bound);
    /* A task holds its turn's place in the queue after the turn was closed. */
    struct by_hand task = by_hand_admit(&registry, turns[1], TR__TASK_BACKGROUND);
    CHECK_EQ_INT(by_hand_close_turn(&registry, turns[1]), 0);
    CHECK_EQ_INT(tr__load_relaxed(&other.bound), 1);
    by_hand_end(&registry, task);
    CHECK_EQ_INT(by_hand_used(&registry).turns, 2);
    CHECK_EQ_INT(tr__load_relaxed(&other.bound), 0);
    CHECK_EQ_INT(by_hand_close_turn(&registry, turns[0]), 0);
    CHECK_EQ_INT(tr__load_relaxed(&one.bound), 1);
    tr__registry_done(&registry); /* with the rest open: they give it up all the same */
    CHECK_EQ_INT(tr__load_relaxed(&one.bound), 0);
    tr__inbox_done(&one.inbox);
    tr__inbox_done(&other.inbox);
}

CASE(homes, rosters_follow_what_becomes_of_tasks)
{
    struct by_hand tasks[4];
    by_hand_open(&registry, 70, 2, 1);
    tr_session_id session = by_hand_session(&registry);
    tr_turn_id id = by_hand_turn(&registry, session);
    struct tr__turn *turn = by_hand_turn_at(&registry, id);
    for (unsigned i = 0; i < 4; i++) {
        tasks[i] = by_hand_admit(&registry, id, i == 3 ? TR__TASK_BACKGROUND : 0);
    }
    CHECK_EQ_INT(turn->foreground.count, 3);
    CHECK_EQ_INT(turn->background.count, 1);
    CHECK_EQ_U64(tr__load_relaxed(&turn->launched), 3);
    by_hand_end(&registry, tasks[0]);
    struct tr__step step = tr__task_detach(tasks[1].task, tasks[1].id, false);
    CHECK_EQ_INT(step.action, TR__ACTION_DETACHED);
    tr__turn_sweep_foreground(&registry, turn);
    CHECK_EQ_INT(turn->foreground.count, 1); /* ended gone, detached moved */
    CHECK_EQ_U64(turn->foreground.ids[0], tasks[2].id);
    CHECK_EQ_INT(turn->background.count, 2);
    CHECK_EQ_U64(turn->background.ids[1], tasks[1].id);
    /* Attached again: enrolled in front, and no longer wanted behind. */
    CHECK_EQ_INT(tr__task_attach(tasks[3].task, tasks[3].id).action, TR__ACTION_ATTACHED);
    CHECK_EQ_INT(tr__turn_enrol_reserve(&registry, turn, false), 0);
    tr__turn_enrol(turn, tasks[3].id, false);
    tr__turn_sweep(&registry, turn);
    CHECK_EQ_INT(turn->foreground.count, 2);
    CHECK_EQ_INT(turn->background.count, 1);
    /* Closing: what is alive in the background becomes an orphan, wherever it was listed. */
    step = tr__task_detach(tasks[2].task, tasks[2].id, false);
    CHECK_EQ_INT(step.action, TR__ACTION_DETACHED);
    CHECK_EQ_INT(tr__task_detach(tasks[3].task, tasks[3].id, false).action, TR__ACTION_DETACHED);
    CHECK_EQ_INT(by_hand_close_turn(&registry, id), 0);
    struct tr__session *home = by_hand_session_at(&registry, session);
    CHECK_EQ_INT(home->orphans.count, 3);
    CHECK(!home->orphans_lost);
    for (unsigned i = 1; i < 4; i++) {
        by_hand_end(&registry, tasks[i]);
    }
    CHECK_EQ_INT(by_hand_used(&registry).turns, 0);
    tr__registry_done(&registry);
}

/* A long turn of many short tasks, of which a third is detached: rosters stay small. */
CASE(homes, rosters_stay_as_small_as_what_lives)
{
    by_hand_open(&registry, 4, 2, 1);
    tr_turn_id id = by_hand_turn(&registry, by_hand_session(&registry));
    struct tr__turn *turn = by_hand_turn_at(&registry, id);
    for (unsigned i = 0; i < 10000; i++) {
        struct by_hand one = by_hand_admit(&registry, id, i % 2 == 0 ? TR__TASK_BACKGROUND : 0);
        if (i % 3 == 1) {
            (void)tr__task_detach(one.task, one.id, false);
        }
        by_hand_end(&registry, one);
    }
    CHECK(turn->foreground.capacity <= 8);
    CHECK(turn->background.capacity <= 8);
    CHECK_EQ_INT(by_hand_used(&registry).tasks, 0);
    tr__registry_done(&registry);
}

CASE(homes, orphans_without_memory_are_remembered_as_lost)
{
    struct by_hand tasks[8];
    by_hand_open(&registry, 70, 2, 1);
    tr_session_id session = by_hand_session(&registry);
    tr_turn_id id = by_hand_turn(&registry, session);
    for (unsigned i = 0; i < 8; i++) {
        tasks[i] = by_hand_admit(&registry, id, TR__TASK_BACKGROUND);
    }
    tr__memory_fail_after(1);
    CHECK_EQ_INT(by_hand_close_turn(&registry, id), 0);
    CHECK_EQ_INT(tr__memory_fail_left(), 0);
    CHECK(by_hand_session_at(&registry, session)->orphans_lost);
    CHECK_EQ_INT(by_hand_session_at(&registry, session)->orphans.count, TR__ROSTER_INLINE);
    for (unsigned i = 0; i < 8; i++) {
        by_hand_end(&registry, tasks[i]);
    }
    tr__registry_done(&registry);
}

CASE(homes, without_memory_for_its_roster_a_launch_changes_nothing)
{
    struct by_hand one = {NULL, 0};
    by_hand_open(&registry, 70, 2, 1);
    tr_turn_id id = by_hand_turn(&registry, by_hand_session(&registry));
    struct tr__turn *turn = by_hand_turn_at(&registry, id);
    for (unsigned i = 0; i < TR__ROSTER_INLINE; i++) {
        (void)by_hand_admit(&registry, id, 0);
    }
    tr__memory_fail_after(1);
    CHECK_EQ_INT(by_hand_launch(&registry, id, 0, &one), TR_ENOMEM);
    CHECK_EQ_INT(by_hand_used(&registry).tasks, TR__ROSTER_INLINE);
    CHECK_EQ_INT(turn->tasks, TR__ROSTER_INLINE + 1);
    CHECK_EQ_INT(turn->foreground.count, TR__ROSTER_INLINE);
    (void)by_hand_admit(&registry, id, 0); /* the next one is well again */
    CHECK_EQ_INT(turn->foreground.count, TR__ROSTER_INLINE + 1);
    tr__registry_done(&registry);
}

/* Without memory a detached task stays listed in front; nothing is forgotten. */
CASE(homes, a_sweep_without_memory_keeps_what_it_cannot_move)
{
    struct by_hand behind[TR__ROSTER_INLINE];
    by_hand_open(&registry, 70, 2, 1);
    tr_turn_id id = by_hand_turn(&registry, by_hand_session(&registry));
    struct tr__turn *turn = by_hand_turn_at(&registry, id);
    for (unsigned i = 0; i < TR__ROSTER_INLINE; i++) {
        behind[i] = by_hand_admit(&registry, id, TR__TASK_BACKGROUND);
    }
    struct by_hand one = by_hand_admit(&registry, id, 0);
    CHECK_EQ_INT(tr__task_detach(one.task, one.id, false).action, TR__ACTION_DETACHED);
    tr__memory_fail_after(1);
    tr__turn_sweep_foreground(&registry, turn);
    CHECK_EQ_INT(tr__memory_fail_left(), 0);
    CHECK_EQ_INT(turn->foreground.count, 1);
    CHECK_EQ_INT(turn->background.count, TR__ROSTER_INLINE);
    by_hand_end(&registry, behind[0]);
    tr__turn_sweep(&registry, turn);
    CHECK_EQ_INT(turn->foreground.count, 0);
    CHECK_EQ_INT(turn->background.count, TR__ROSTER_INLINE);
    tr__registry_done(&registry);
}
