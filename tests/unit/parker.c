/* Parker: the word's transitions, deadlines, and wakes that are not meant for us. */
#include "parts/parker.h"

#include <toolring/error.h>

#include <pthread.h>
#include <signal.h>

#include "base/clock.h"
#include "support/case.h"
#include "support/wait.h"

static uint32_t word_of(struct tr__parker *parker)
{
    return tr__load_relaxed(&parker->word);
}

static void wait_unprepared(void *context)
{
    (void)tr__parker_wait(context, 0);
}

CASE(parker, nobody_pays_for_an_owner_awake)
{
    struct tr__parker parker;
    tr__parker_init(&parker);
    CHECK(!tr__parker_notify(&parker));
    CHECK(!tr__parker_claim(&parker));
    CHECK_EQ_INT(word_of(&parker), TR__PARKER_AWAKE);
}

CASE(parker, cancel_undoes_prepare)
{
    struct tr__parker parker;
    tr__parker_init(&parker);
    tr__parker_prepare(&parker);
    CHECK_EQ_INT(word_of(&parker), TR__PARKER_PARKED);
    tr__parker_cancel(&parker);
    CHECK_EQ_INT(word_of(&parker), TR__PARKER_AWAKE);
    CHECK(!tr__parker_notify(&parker));
}

CASE(parker, cancel_swallows_a_notification)
{
    struct tr__parker parker;
    tr__parker_init(&parker);
    tr__parker_prepare(&parker);
    CHECK(tr__parker_notify(&parker));
    tr__parker_cancel(&parker);
    tr__parker_prepare(&parker);
    CHECK_EQ_INT(tr__parker_wait(&parker, tr__clock_now()), TR_ETIMEDOUT);
}

CASE(parker, the_first_notifier_pays_the_others_do_not)
{
    struct tr__parker parker;
    tr__parker_init(&parker);
    tr__parker_prepare(&parker);
    CHECK(tr__parker_claim(&parker));
    CHECK_EQ_INT(word_of(&parker), TR__PARKER_NOTIFIED);
    CHECK(!tr__parker_claim(&parker));
    CHECK(!tr__parker_notify(&parker));
    tr__parker_wake(&parker);
    CHECK_EQ_INT(tr__parker_wait(&parker, TR__FOREVER), 0);
    CHECK_EQ_INT(word_of(&parker), TR__PARKER_AWAKE);
}

CASE(parker, a_notification_before_the_wait_is_kept)
{
    struct tr__parker parker;
    tr__parker_init(&parker);
    tr__parker_prepare(&parker);
    CHECK(tr__parker_notify(&parker));
    CHECK_EQ_INT(tr__parker_wait(&parker, 0), 0); /* even with the deadline long gone */
    CHECK_EQ_INT(word_of(&parker), TR__PARKER_AWAKE);
}

CASE(parker, time_out_is_never_early)
{
    struct tr__parker parker;
    tr__parker_init(&parker);
    for (uint64_t duration = 0; duration <= 4 * TR__NS_PER_MS; duration += TR__NS_PER_MS) {
        uint64_t deadline = tr__clock_after(tr__clock_now(), duration);
        tr__parker_prepare(&parker);
        CHECK_EQ_INT(tr__parker_wait(&parker, deadline), TR_ETIMEDOUT);
        CHECK(tr__clock_now() >= deadline);
        CHECK_EQ_INT(word_of(&parker), TR__PARKER_AWAKE);
    }
}

CASE(parker, waiting_without_prepare_is_a_bug)
{
    struct tr__parker parker;
    tr__parker_init(&parker);
    CHECK(case_panics(wait_unprepared, &parker));
}

struct disturber {
    struct tr__parker parker;
    pthread_t owner;
    tr__atomic_u32 stop;
};

static void on_signal(int number)
{
    (void)number;
}

/* Wakes that belong to nobody, and signals. */
static void *disturb(void *context)
{
    struct disturber *disturber = context;
    while (tr__load_acquire(&disturber->stop) == 0) {
        tr__parker_wake(&disturber->parker);
        (void)pthread_kill(disturber->owner, SIGUSR1);
        (void)sched_yield();
    }
    return NULL;
}

CASE(parker, spurious_wakes_and_signals_do_not_end_the_wait)
{
    struct disturber disturber;
    struct sigaction action = {.sa_handler = on_signal};
    CHECK_EQ_INT(sigaction(SIGUSR1, &action, NULL), 0);
    tr__parker_init(&disturber.parker);
    tr__store_relaxed(&disturber.stop, 0u);
    disturber.owner = pthread_self();
    pthread_t thread;
    CHECK_EQ_INT(pthread_create(&thread, NULL, disturb, &disturber), 0);
    uint64_t deadline = tr__clock_after(tr__clock_now(), 30 * TR__NS_PER_MS);
    tr__parker_prepare(&disturber.parker);
    CHECK_EQ_INT(tr__parker_wait(&disturber.parker, deadline), TR_ETIMEDOUT);
    CHECK(tr__clock_now() >= deadline);
    tr__store_release(&disturber.stop, 1u);
    CHECK_EQ_INT(pthread_join(thread, NULL), 0);
}
