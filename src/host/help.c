/*
 * help.c: see help.h.
 *
 * Owner thread: any host thread, in tr_turn_wait. Called by drain.c; calls engine (kept, run) and
 * the tools' functions.
 *
 * Invariants
 *  1. No lock and no consumer token is held while a function runs: it may use the library like any
 *     other, close its own turn included.
 *  2. What the calls add up to is counted apart and added to the shared counts before any result of
 *     theirs can be taken by this thread.
 *
 * Complexity per call: as on a worker (engine/run), without another processor's cache lines; one
 * lock for TR__KEPT_RUN of them. A wait is late by at most one function's run, which is brief by
 * its tool's word: and what such functions take is learned, so one that lies is soon not kept.
 */
#include "host/help.h"

#include <string.h>

#include "base/clock.h"

/* How long one wait helps before the workers get the rest. */
#define HELP_NS UINT64_C(200000)

/* Runs calls until `until_ns`. How many are left. */
static size_t run(struct tr__engine *engine, struct tr__task **tasks, size_t count, tr_token *token,
                  uint64_t until_ns, uint64_t *now_ns)
{
    struct tr__counters counts;
    memset((void *)&counts, 0, sizeof(counts));
    size_t done = 0;
    while (done < count && *now_ns < until_ns && !tr__token_is_cancelled(token)) {
        *now_ns = tr__engine_run_kept(engine, &counts, tasks[done], *now_ns);
        done++;
    }
    tr__completion_add(engine->completion, &counts);
    return count - done;
}

void tr__help(tr_manager *manager, tr_turn_id turn, tr_token *token, uint64_t deadline_ns,
              bool now_only)
{
    struct tr__engine *engine = &manager->engine;
    if (now_only) {
        tr__kept_flush(engine, turn);
        return;
    }
    struct tr__task *tasks[TR__KEPT_RUN];
    uint64_t now = tr__clock_now();
    uint64_t until = tr__clock_after(now, HELP_NS);
    until = deadline_ns < until ? deadline_ns : until;
    size_t count = TR__KEPT_RUN;
    while (count == TR__KEPT_RUN) { /* fewer: that was all */
        count = tr__kept_take(engine, turn, tasks);
        size_t left = run(engine, tasks, count, token, until, &now);
        if (left > 0) {
            tr__kept_pass_on(engine, tasks + count - left, left);
            tr__kept_flush(engine, turn);
            return;
        }
    }
}
