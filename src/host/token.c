/*
 * token.c: see token.h.
 *
 * Owner thread: any. Called by drain.c and hosts; calls parts/parker.
 *
 * Invariants
 *  1. The canceller sets the flag (seq_cst), then notifies every wait in the list; a waiter enters
 *     the list, prepares to sleep (seq_cst), then looks at the flag. One sees the other.
 *  2. A wait is in the list from enter to leave; both and the notifying hold the lock, so a parker
 *     in the list is alive.
 *
 * Complexity: cancelling is linear in the waits under way.
 */
#include "host/token.h"

#include <toolring/error.h>

#include "base/assert.h"
#include "base/memory.h"

struct tr_token {
    pthread_mutex_t lock;
    tr__atomic_u32 cancelled;
    struct tr__token_wait *waits;
};

int tr_token_open(tr_token **ret_token)
{
    if (ret_token == NULL) {
        return TR_EINVAL;
    }
    tr_token *token = (tr_token *)tr__memory_take_zero(sizeof(*token));
    if (token == NULL) {
        return TR_ENOMEM;
    }
    (void)pthread_mutex_init(&token->lock, NULL); /* a default mutex: cannot fail on Linux */
    *ret_token = token;
    return 0;
}

void tr_token_close(tr_token *token)
{
    if (token == NULL) {
        return;
    }
    TR_ASSERT(token->waits == NULL);
    (void)pthread_mutex_destroy(&token->lock); /* nobody uses it any more */
    tr__memory_give(token);
}

void tr_token_cancel(tr_token *token)
{
    if (token == NULL) {
        return;
    }
    tr__store_seq_cst(&token->cancelled, 1u); /* invariant 1 */
    (void)pthread_mutex_lock(&token->lock);   /* a plain mutex of ours cannot fail */
    for (struct tr__token_wait *wait = token->waits; wait != NULL; wait = wait->next) {
        (void)tr__parker_notify(wait->parker);
    }
    (void)pthread_mutex_unlock(&token->lock);
}

void tr__token_enter(tr_token *token, struct tr__token_wait *wait, struct tr__parker *parker)
{
    if (token == NULL) {
        return;
    }
    wait->parker = parker;
    (void)pthread_mutex_lock(&token->lock);
    wait->next = token->waits;
    wait->link = &token->waits;
    if (wait->next != NULL) {
        wait->next->link = &wait->next;
    }
    token->waits = wait;
    (void)pthread_mutex_unlock(&token->lock);
}

void tr__token_leave(tr_token *token, struct tr__token_wait *wait)
{
    if (token == NULL) {
        return;
    }
    (void)pthread_mutex_lock(&token->lock);
    *wait->link = wait->next;
    if (wait->next != NULL) {
        wait->next->link = wait->link;
    }
    (void)pthread_mutex_unlock(&token->lock);
}

bool tr__token_is_cancelled(tr_token *token)
{
    return token != NULL && tr__load_seq_cst(&token->cancelled) != 0; /* invariant 1 */
}
