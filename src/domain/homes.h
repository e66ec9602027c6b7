/*
 * homes: opening, leaving and freeing sessions and turns. The public half is in registry.h.
 */
#ifndef TR__DOMAIN_HOMES_H
#define TR__DOMAIN_HOMES_H

#include "domain/registry.h"

/* Under the lane's lock: one task (or the opening) of the turn is gone; frees what is then
 * unused. */
void tr__turn_leave(struct tr__turn *turn, struct tr__lane *lane);

/* Under the lane's lock: one turn (the opening, a taker) of the session is gone; frees it if it was
 * the last. */
void tr__session_leave(struct tr__session *session, struct tr__lane *lane,
                       struct tr__registry *registry);

/* At the end of everything: frees what an open or closing turn (session) owns; the slot may be
 * unused. */
void tr__turn_done(struct tr__turn *turn);
void tr__session_done(struct tr__session *session);

#endif
