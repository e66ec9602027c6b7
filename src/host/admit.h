/*
 * admit: reserving what finishing needs and publishing the task.
 */
#ifndef TR__HOST_ADMIT_H
#define TR__HOST_ADMIT_H

#include "host/prepare.h"

/* Admits prepared calls of one turn, without those that have an `error`; fills in each one's
 * `error` and `task`. Returns the turn's lane, NULL if the turn is gone. */
struct tr__lane *tr__admit(tr_manager *manager, struct tr__prepared *calls, size_t count);

/* For a call that found no room: looks at other lanes, then waits as long as its request says. */
void tr__admit_again(tr_manager *manager, struct tr__prepared *call, struct tr__lane *lane);

#endif
