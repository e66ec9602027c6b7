/*
 * token: cancel tokens of hosts: one thread ends the waiting of others.
 */
#ifndef TR__HOST_TOKEN_H
#define TR__HOST_TOKEN_H

#include <pthread.h>

#include <toolring/drain.h>

#include "base/atomic.h"
#include "parts/parker.h"

/* One wait that a token can end; on the waiter's stack. */
struct tr__token_wait {
    struct tr__parker *parker;
    struct tr__token_wait *next;
    struct tr__token_wait **link;
};

/* The waiter, before it looks and sleeps. A NULL token is none. */
void tr__token_enter(tr_token *token, struct tr__token_wait *wait, struct tr__parker *parker);
void tr__token_leave(tr_token *token, struct tr__token_wait *wait);
bool tr__token_is_cancelled(tr_token *token);

#endif
