/*
 * help: a thread that is about to wait for a turn runs the turn's brief calls itself.
 */
#ifndef TR__HOST_HELP_H
#define TR__HOST_HELP_H

#include "host/manager.h"
#include "host/token.h"

/* Whether there is anything to help with: a hint. */
static inline bool tr__help_wanted(tr_manager *manager, tr_turn_id id)
{
    struct tr__slot *slot = tr__slots_find(&tr__manager_registry(manager)->turns, id);
    return slot != NULL && tr__turn_has_kept((const struct tr__turn *)(const void *)slot);
}

/* Any host thread, without any lock or consumer token. Runs what is kept for the turn's waiter
 * (engine/kept), until the deadline has passed or the token is cancelled: then, and if there is no
 * time at all (`now_only`), the rest goes to the workers. */
void tr__help(tr_manager *manager, tr_turn_id turn, tr_token *token, uint64_t deadline_ns,
              bool now_only);

#endif
