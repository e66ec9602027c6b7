/*
 * worker_thread.c: the threads behind the seats: their start, their loop, their end.
 *
 * Owner: the list of spares and the counts of threads: the lock; `called`: the monitor writes, its
 * spare reads. Called by engine.c (open, close) and worker.c; calls pthreads.
 *
 * Invariants
 *  1. While the cap allows there is one spare thread: a spare that is called to a seat first starts
 *     the next one. So the ring thread never creates a thread, it only wakes one.
 *  2. Threads that exist <= seats + substitutes_max. A displaced thread becomes a spare when its
 *     tool returns.
 *  3. All signals are blocked in these threads: they are the host's.
 *
 * Complexity: O(1); a thread costs its stack's touched pages and 256 bytes here.
 */
#include "engine/worker_thread.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include <toolring/error.h>

#include "base/assert.h"
#include "base/clock.h"
#include "base/memory.h"

static void sit(struct tr__worker *worker)
{
    struct tr__workers *workers = worker->workers;
    struct tr__seat *seat = &workers->seats[worker->seat];
    tr__store_seq_cst(&seat->mode, (uint32_t)TR__SEAT_BRIEF); /* it looks at the queues next */
    /* acquire: pairs with displace; if it is not me any more the seat is another's. */
    while (tr__load_acquire(&seat->occupant) == (void *)worker) {
        struct tr__mpsc_node *node = tr__worker_find(worker);
        if (node != NULL) {
            workers->config.run(workers->config.context, worker, node);
            continue;
        }
        /* acquire: pairs with close; the queues were filled before. Others' queues too: what waits
         * behind a stuck worker, or for a spare that left before it was called, is run here. */
        if (tr__load_acquire(&workers->stopping) != 0 && !tr__workers_have_work(workers)) {
            break;
        }
        tr__worker_sleep(worker);
    }
    tr__worker_rests(worker);
}

static void lock(struct tr__workers *workers)
{
    int error = pthread_mutex_lock(&workers->lock);
    TR_ASSERT(error == 0);
}

static void unlock(struct tr__workers *workers)
{
    int error = pthread_mutex_unlock(&workers->lock);
    TR_ASSERT(error == 0);
}

static int start_thread(struct tr__worker *worker);

/* Starts one more thread as a spare, if the cap allows. */
static void start_spare(struct tr__workers *workers)
{
    lock(workers);
    struct tr__worker *worker = NULL;
    if (workers->spares == NULL && workers->started < workers->workers_max &&
        tr__load_relaxed(&workers->stopping) == 0) {
        worker = &workers->workers[workers->started];
        if (start_thread(worker) == 0) {
            worker->next = workers->spares;
            workers->spares = worker;
        }
    }
    unlock(workers);
}

/* Sleeps until called to a seat. False: the end. */
static bool wait_for_seat(struct tr__worker *worker)
{
    struct tr__workers *workers = worker->workers;
    for (;;) {
        tr__parker_prepare(&worker->parker);
        /* seq_cst: pairs with displace and close, which write before they notify. */
        bool called = tr__load_seq_cst(&worker->called) != NULL;
        bool stopping = tr__load_seq_cst(&workers->stopping) != 0;
        if (called || stopping) {
            tr__parker_cancel(&worker->parker);
            tr__store_relaxed(&worker->called, (void *)NULL); /* its own now */
            return called;
        }
        (void)tr__parker_wait(&worker->parker, TR__FOREVER); /* 0 is the only way back */
    }
}

static void *worker_main(void *argument)
{
    struct tr__worker *worker = (struct tr__worker *)argument;
    struct tr__workers *workers = worker->workers;
    workers->config.enter(workers->config.context, worker);
    bool seated = worker->index < workers->config.seats;
    bool alive = true;
    while (alive) {
        if (!seated) {
            alive = wait_for_seat(worker);
            if (alive) {
                start_spare(workers);
            }
        }
        if (alive) {
            sit(worker);
            seated = false;
            alive = tr__load_acquire(&workers->stopping) == 0;
            if (alive) {
                /* What it did last is published as before any sleep (tr__workers_fence). */
                (void)tr__fetch_or_seq_cst(&workers->idle, UINT64_C(0));
                workers->config.dry(workers->config.context);
                tr__workers_give_spare(workers, worker);
            }
        }
    }
    workers->config.leave(workers->config.context, worker);
    lock(workers);
    worker->ended = true;
    workers->ended++;
    (void)pthread_cond_broadcast(&workers->changed); /* a default condition: cannot fail */
    unlock(workers);
    return NULL;
}

/* Under the lock (or before anybody else knows `workers`). */
static int start_thread(struct tr__worker *worker)
{
    sigset_t all;
    sigset_t before;
    (void)sigfillset(&all); /* these three cannot fail with valid arguments */
    (void)pthread_sigmask(SIG_SETMASK, &all, &before);
    int error = pthread_create(&worker->thread, NULL, worker_main, worker);
    (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (error != 0) {
        return TR_EAGAIN;
    }
    char name[16];
    (void)snprintf(name, sizeof(name), "tr-worker-%u", worker->index % 1000u);
    (void)pthread_setname_np(worker->thread, name); /* only a name */
    worker->started = true;
    worker->workers->started++;
    return 0;
}

struct tr__worker *tr__workers_take_spare(struct tr__workers *workers)
{
    lock(workers);
    struct tr__worker *spare = workers->spares;
    if (spare != NULL) {
        workers->spares = spare->next;
    }
    unlock(workers);
    return spare;
}

void tr__workers_give_spare(struct tr__workers *workers, struct tr__worker *spare)
{
    lock(workers);
    spare->next = workers->spares;
    workers->spares = spare;
    unlock(workers);
}

static void init_seats(struct tr__workers *workers)
{
    for (uint32_t i = 0; i < workers->workers_max; i++) {
        struct tr__worker *worker = &workers->workers[i];
        worker->workers = workers;
        worker->index = i;
        worker->seat = i;
        worker->random = i * UINT32_C(2654435761) + 1;
        tr__parker_init(&worker->parker);
    }
    for (uint32_t i = 0; i < workers->config.seats; i++) {
        struct tr__seat *seat = &workers->seats[i];
        tr__mpsc_init(&seat->high);
        tr__mpsc_init(&seat->low);
        tr__token_init(&seat->token);
        /* relaxed: thread creation publishes it. */
        tr__store_relaxed(&seat->occupant, (void *)&workers->workers[i]);
        tr__store_relaxed(&seat->mode, (uint32_t)TR__SEAT_BRIEF); /* it starts by looking */
    }
}

int tr__workers_open(struct tr__workers *workers, const struct tr__workers_config *config)
{
    TR_ASSERT(config->seats >= 1 && config->seats <= TR__WORKERS_MAX);
    memset((void *)workers, 0, sizeof(*workers));
    workers->config = *config;
    workers->workers_max = config->seats + config->substitutes_max;
    size_t seats_bytes = config->seats * sizeof(struct tr__seat);
    size_t workers_bytes = workers->workers_max * sizeof(struct tr__worker);
    workers->seats = (struct tr__seat *)tr__memory_take_aligned(TR_CACHE_LINE, seats_bytes);
    workers->workers = (struct tr__worker *)tr__memory_take_aligned(TR_CACHE_LINE, workers_bytes);
    if (workers->seats == NULL || workers->workers == NULL) {
        tr__memory_give(workers->seats);
        tr__memory_give(workers->workers);
        return TR_ENOMEM;
    }
    memset((void *)workers->seats, 0, seats_bytes);
    memset((void *)workers->workers, 0, workers_bytes);
    init_seats(workers);
    pthread_condattr_t monotonic;
    (void)pthread_condattr_init(&monotonic); /* none of these can fail on Linux */
    (void)pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    (void)pthread_cond_init(&workers->changed, &monotonic);
    (void)pthread_condattr_destroy(&monotonic);
    (void)pthread_mutex_init(&workers->lock, NULL);
    int error = 0;
    lock(workers);
    for (uint32_t i = 0; i < config->seats && error == 0; i++) {
        error = start_thread(&workers->workers[i]);
    }
    unlock(workers);
    if (error < 0) {
        (void)tr__workers_close(workers, TR__FOREVER);
        tr__workers_done(workers);
        return error;
    }
    start_spare(workers); /* none: seats stay with their first threads */
    return 0;
}

uint32_t tr__workers_close(struct tr__workers *workers, uint64_t deadline_ns)
{
    lock(workers);
    tr__store_seq_cst(&workers->stopping, 1u); /* pairs with the looks before sleeping */
    for (uint32_t i = 0; i < workers->started; i++) {
        (void)tr__parker_notify(&workers->workers[i].parker);
    }
    struct timespec until = {(time_t)(deadline_ns / 1000000000u),
                             (long)(deadline_ns % 1000000000u)};
    int error = 0;
    while (workers->ended < workers->started && error != ETIMEDOUT) {
        error = deadline_ns == TR__FOREVER
                    ? pthread_cond_wait(&workers->changed, &workers->lock)
                    : pthread_cond_timedwait(&workers->changed, &workers->lock, &until);
    }
    workers->left_behind = workers->started - workers->ended;
    uint32_t started = workers->started;
    unlock(workers);
    for (uint32_t i = 0; i < started; i++) {
        struct tr__worker *worker = &workers->workers[i];
        if (workers->left_behind == 0) {
            (void)pthread_join(worker->thread, NULL); /* it has left: cannot fail */
        } else {
            (void)pthread_detach(worker->thread); /* its memory is left with it */
        }
    }
    return workers->left_behind;
}

void tr__workers_done(struct tr__workers *workers)
{
    TR_ASSERT(workers->left_behind == 0);
    (void)pthread_mutex_destroy(&workers->lock); /* nobody uses them any more */
    (void)pthread_cond_destroy(&workers->changed);
    tr__memory_give(workers->seats);
    tr__memory_give(workers->workers);
}
