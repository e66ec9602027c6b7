/*
 * kept: calls of brief tools (TR_TOOL_BRIEF), kept for the thread that waits for their turn.
 *
 * Handing a call to a worker and its end back costs two trips between processors, and a sleep each
 * if the call comes alone; a brief function costs less than that. A host that launches the calls of
 * a turn and waits for it has its thread free just then: such calls stay in a list of the turn, and
 * the wait runs them (host/help.c). Whatever is not run in time goes to the workers after all.
 */
#ifndef TR__ENGINE_KEPT_H
#define TR__ENGINE_KEPT_H

#include "domain/registry.h"
#include "engine/op.h"

struct tr__engine;

/* Calls that a waiting thread takes from the list at once. */
#define TR__KEPT_RUN 8u

/* The keeper: the engine's clock for lists nobody waits for. */
struct tr__keeper {
    struct tr__op timer;
    tr__atomic_u32 looking; /* 1: the timer is under way, or about to be */
    uint32_t quiet;         /* looks in a row that found nothing; ring thread */
};

/* The launcher, with HOLD_RUN of `count` admitted calls of one turn, all brief, foreground, without
 * a timer. Keeps the first so many, and returns how many: they are somebody else's then. The others
 * are the caller's to enqueue. */
size_t tr__kept_add(struct tr__engine *engine, struct tr__task **tasks, size_t count);

/* A thread that is about to wait for the turn, without any lock: takes up to TR__KEPT_RUN calls,
 * oldest first, with their HOLD_RUN. */
size_t tr__kept_take(struct tr__engine *engine, tr_turn_id turn, struct tr__task **ret_tasks);

/* Whether the turn has kept calls. Any thread that knows the turn's slot not to be reused; a
 * hint. */
static inline bool tr__turn_has_kept(const struct tr__turn *turn)
{
    return tr__load_relaxed(&turn->kept.count) != 0;
}

/* Any thread. Gives calls that were taken, or all that a turn has, to the workers. */
void tr__kept_pass_on(struct tr__engine *engine, struct tr__task **tasks, size_t count);
void tr__kept_flush(struct tr__engine *engine, tr_turn_id turn);

#endif
