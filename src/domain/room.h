/*
 * room: who wants to hear that something was given back: slots, fibers, bytes.
 *
 * Three kinds hear of it: launches that wait (a gate), a host that was refused and has asked for a
 * descriptor (armed by the refusal, readable once there may be room), and takers of closed sessions
 * that wait until nothing of theirs is left (watches). All of them are counted in one word, so that
 * giving back costs one load while nobody is interested: threads of the gate in its low half, the
 * others in its high half.
 */
#ifndef TR__DOMAIN_ROOM_H
#define TR__DOMAIN_ROOM_H

#include <pthread.h>
#include <stdint.h>

#include "base/atomic.h"
#include "parts/gate.h"
#include "parts/parker.h"

struct tr__session;

/* A taker that wants to look again when a task of its session is recycled; on its stack. */
struct tr__watch {
    struct tr__parker *parker;
    const struct tr__session *session;
    struct tr__watch *next;
    struct tr__watch **link;
};

struct tr__room {
    struct tr__gate gate;
    pthread_mutex_t lock; /* guards what follows; taken with a lane's lock held, never before one */
    struct tr__watch *watches;
    int fd;     /* the descriptor, -1 if nobody asked for one */
    bool armed; /* counted in the gate's word: to be made readable */
};

void tr__room_init(struct tr__room *room);
void tr__room_done(struct tr__room *room);

/* The descriptor, made at the first call; or -errno. */
int tr__room_fd(struct tr__room *room);
/* A launch is about to be refused: the next giving back makes the descriptor, if there is one,
 * readable. The caller looks for room once more afterwards. */
void tr__room_arm(struct tr__room *room);
/* Makes the descriptor readable for good measure: closing. */
void tr__room_fire(struct tr__room *room);
/* Closes the descriptor; what is given back later tells nobody through it. */
void tr__room_shut(struct tr__room *room);

/* A taker, before it looks and sleeps on its parker; and when it has done so. */
void tr__room_watch(struct tr__room *room, struct tr__watch *watch);
void tr__room_unwatch(struct tr__room *room, struct tr__watch *watch);

/* The slow halves of the two below. */
void tr__room_tell(struct tr__room *room, uint64_t interested);
void tr__room_tell_watches(struct tr__room *room, const struct tr__session *session);

/* Something was given back, by a read-modify-write that acquires and releases (parts/gate). */
static inline void tr__room_open(struct tr__room *room)
{
    /* seq_cst: as tr__gate_open. */
    uint64_t interested = tr__load_seq_cst(&room->gate.waiters);
    if (interested != 0) {
        tr__room_tell(room, interested);
    }
}

/* Whether anybody but threads of the gate is interested. */
static inline bool tr__room_is_watched(const struct tr__room *room)
{
    return tr__load_seq_cst(&room->gate.waiters) >= TR__GATE_OTHER; /* as tr__gate_open */
}

#endif
