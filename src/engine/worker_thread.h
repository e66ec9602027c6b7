/*
 * worker_thread: what worker.c and worker_thread.c need of each other.
 */
#ifndef TR__ENGINE_WORKER_THREAD_H
#define TR__ENGINE_WORKER_THREAD_H

#include "engine/worker.h"

/* worker.c, the worker itself: the next node, its own first, then others'; NULL: none to be had
 * now. */
struct tr__mpsc_node *tr__worker_find(struct tr__worker *worker);

/* worker.c, any thread: whether a node waits in any queue. */
bool tr__workers_have_work(struct tr__workers *workers);

/* worker.c, the worker itself: sleeps until there may be work, a new seat, or the end. */
void tr__worker_sleep(struct tr__worker *worker);

/* worker.c, the worker itself, before it leaves its seat: nobody relies on its searching any
 * more. */
void tr__worker_rests(struct tr__worker *worker);

/* worker_thread.c: a sleeping thread for a seat, or NULL. */
struct tr__worker *tr__workers_take_spare(struct tr__workers *workers);
void tr__workers_give_spare(struct tr__workers *workers, struct tr__worker *spare);

#endif
