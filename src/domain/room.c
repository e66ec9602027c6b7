/*
 * room.c: see room.h.
 *
 * Owner: any thread; the lock for all but the gate. Called by domain, completion, engine and host;
 * calls parts/gate, parts/parker, eventfd(2).
 *
 * Invariants
 *  1. The high half of the gate's word is the number of watches, plus one while armed. It is raised
 *     before its owner looks for room, so by the gate's argument either the look sees what was
 *     given back or the giver sees the interest.
 *  2. The descriptor is written to and closed under the lock only, and only if it was armed: a
 *     batch released after the manager's end finds nothing armed.
 *  3. Arming clears the descriptor first: the other way round it could eat the write of a giver
 *     that came in between.
 *  4. A session that is watched stays: its watcher has it pinned. One that is recycled while
 *     others are watched may be anybody's by now: it is compared, never followed.
 *
 * Complexity: O(1) while nobody is interested; else a lock, and a look at each watch.
 */
#include "domain/room.h"

#include <errno.h>
#include <stddef.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/assert.h"

static void lock(struct tr__room *room)
{
    (void)pthread_mutex_lock(&room->lock); /* a plain mutex of ours cannot fail */
}

static void unlock(struct tr__room *room)
{
    (void)pthread_mutex_unlock(&room->lock);
}

void tr__room_init(struct tr__room *room)
{
    tr__gate_init(&room->gate);
    (void)pthread_mutex_init(&room->lock, NULL); /* a default mutex: cannot fail on Linux */
    room->watches = NULL;
    room->fd = -1;
    room->armed = false;
}

void tr__room_done(struct tr__room *room)
{
    tr__room_shut(room);
    TR_ASSERT(room->watches == NULL);
    (void)pthread_mutex_destroy(&room->lock); /* nobody uses it any more */
}

int tr__room_fd(struct tr__room *room)
{
    lock(room);
    if (room->fd < 0) {
        room->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    }
    int fd = room->fd < 0 ? -errno : room->fd;
    unlock(room);
    return fd;
}

/* Under the lock. */
static void disarm(struct tr__room *room)
{
    room->armed = false;
    (void)tr__fetch_sub_acq_rel(&room->gate.waiters, TR__GATE_OTHER); /* only a count */
}

/* Under the lock. */
static void write_one(struct tr__room *room)
{
    if (room->fd >= 0) {
        (void)eventfd_write(room->fd, 1); /* EAGAIN: it is readable, as it should be */
    }
}

void tr__room_arm(struct tr__room *room)
{
    lock(room);
    if (room->fd >= 0) {
        eventfd_t count;
        (void)eventfd_read(room->fd, &count); /* invariant 3; EAGAIN: nothing to clear */
        if (!room->armed) {
            room->armed = true;
            /* seq_cst: invariant 1, as tr__gate_enter. */
            (void)tr__fetch_add_seq_cst(&room->gate.waiters, TR__GATE_OTHER);
        }
    }
    unlock(room);
}

void tr__room_fire(struct tr__room *room)
{
    lock(room);
    if (room->armed) {
        disarm(room);
    }
    write_one(room);
    unlock(room);
}

void tr__room_shut(struct tr__room *room)
{
    lock(room);
    if (room->armed) {
        disarm(room);
    }
    if (room->fd >= 0) {
        (void)close(room->fd); /* an eventfd has nothing to flush: no error to act on */
        room->fd = -1;
    }
    unlock(room);
}

void tr__room_watch(struct tr__room *room, struct tr__watch *watch)
{
    lock(room);
    watch->next = room->watches;
    watch->link = &room->watches;
    if (watch->next != NULL) {
        watch->next->link = &watch->next;
    }
    room->watches = watch;
    /* seq_cst: invariant 1, as tr__gate_enter. */
    (void)tr__fetch_add_seq_cst(&room->gate.waiters, TR__GATE_OTHER);
    unlock(room);
}

void tr__room_unwatch(struct tr__room *room, struct tr__watch *watch)
{
    lock(room);
    *watch->link = watch->next;
    if (watch->next != NULL) {
        watch->next->link = watch->link;
    }
    (void)tr__fetch_sub_acq_rel(&room->gate.waiters, TR__GATE_OTHER); /* only a count */
    unlock(room);
}

void tr__room_tell(struct tr__room *room, uint64_t interested)
{
    if ((uint32_t)interested != 0) {
        tr__gate_wake(&room->gate);
    }
    if (interested < TR__GATE_OTHER) {
        return;
    }
    lock(room);
    if (room->armed) {
        disarm(room);
        write_one(room);
    }
    unlock(room);
}

void tr__room_tell_watches(struct tr__room *room, const struct tr__session *session)
{
    lock(room);
    for (struct tr__watch *watch = room->watches; watch != NULL; watch = watch->next) {
        if (session == NULL || watch->session == session) {
            (void)tr__parker_notify(watch->parker); /* whether it slept is of no interest here */
        }
    }
    unlock(room);
}
