/*
 * drain: the way out; what the manager needs of it at its end.
 */
#ifndef TR__HOST_DRAIN_H
#define TR__HOST_DRAIN_H

#include "host/manager.h"

/* At the end of everything: releases what nobody took. Nobody else may be using the inbox. */
void tr__drain_discard(tr_manager *manager, struct tr__inbox *inbox);

/* The same for every session and turn, and unbinds them from queues that are about to go. */
void tr__drain_discard_homes(tr_manager *manager);

#endif
