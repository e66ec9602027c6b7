/* The token of a turn's inbox: a slot outlives its turns, and so may a wait for one of them. */
#include <sched.h>

#include <pthread.h>

#include <toolring.h>

#include "host/manager.h"
#include "support/case.h"

enum {
    ROUNDS = 2000,
};

struct earlier {
    struct tr__token *token;
    bool over; /* atomic */
};

/* A wait for a turn that had the slot before takes the token, finds out, and gives it back. */
static void *wait_too_late(void *argument)
{
    struct earlier *earlier = argument;
    while (!__atomic_load_n(&earlier->over, __ATOMIC_ACQUIRE)) {
        if (tr__token_try_mark(earlier->token, 7) == 0) {
            (void)sched_yield();
            tr__token_give(earlier->token);
        }
        (void)sched_yield();
    }
    return NULL;
}

CASE(turn_token, a_wait_for_an_earlier_turn_is_no_other_waiter)
{
    tr_config config = TR_CONFIG_INIT;
    tr_manager *manager = NULL;
    tr_session_id session = 0;
    tr_turn_id id = 0;
    pthread_t thread;
    config.flags = TR_MANAGER_INLINE;
    CHECK_EQ_INT(tr_manager_open(&config, &manager), 0);
    CHECK_EQ_INT(tr_session_open(manager, NULL, &session), 0);
    CHECK_EQ_INT(tr_turn_open(manager, session, NULL, &id), 0);
    struct tr__slot *slot = tr__slots_find(&tr__manager_registry(manager)->turns, id);
    struct earlier earlier = {&((struct tr__turn *)(void *)slot)->updates.token, false};
    CHECK_EQ_INT(pthread_create(&thread, NULL, wait_too_late, &earlier), 0);
    for (unsigned round = 0; round < ROUNDS; round++) {
        tr_batch *batch = NULL;
        CHECK_EQ_INT(tr_turn_wait(manager, id, NULL, 0, 1, &batch), TR_WAIT_IDLE);
        (void)sched_yield();
    }
    __atomic_store_n(&earlier.over, true, __ATOMIC_RELEASE);
    CHECK_EQ_INT(pthread_join(thread, NULL), 0);
    CHECK_EQ_INT(tr_manager_close(manager, 0), 0);
    tr_manager_free(manager);
}
