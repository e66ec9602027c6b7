/* Room: who is counted, who is told, and what the descriptor says. */
#include "domain/room.h"

#include <poll.h>
#include <sys/eventfd.h>

#include "support/case.h"

static bool is_readable(int fd)
{
    struct pollfd one = {.fd = fd, .events = POLLIN, .revents = 0};
    return poll(&one, 1, 0) == 1;
}

static uint64_t interested(struct tr__room *room)
{
    return tr__load_relaxed(&room->gate.waiters);
}

CASE(room, nobody_is_interested)
{
    struct tr__room room;
    tr__room_init(&room);
    tr__room_open(&room);
    tr__room_arm(&room); /* no descriptor: nothing to arm */
    CHECK_EQ_U64(interested(&room), 0);
    CHECK(!tr__room_is_watched(&room));
    CHECK_EQ_INT(tr__load_relaxed(&room.gate.epoch), 0);
    tr__room_done(&room);
}

CASE(room, descriptor_follows_its_arming)
{
    struct tr__room room;
    tr__room_init(&room);
    int fd = tr__room_fd(&room);
    CHECK(fd >= 0);
    CHECK_EQ_INT(tr__room_fd(&room), fd);
    tr__room_open(&room);
    CHECK(!is_readable(fd)); /* not armed */
    tr__room_arm(&room);
    tr__room_arm(&room); /* counted once */
    CHECK_EQ_U64(interested(&room), TR__GATE_OTHER);
    CHECK(!is_readable(fd));
    tr__room_open(&room);
    CHECK(is_readable(fd));
    CHECK_EQ_U64(interested(&room), 0); /* told once */
    tr__room_arm(&room);
    CHECK(!is_readable(fd)); /* arming clears */
    tr__room_fire(&room);
    CHECK(is_readable(fd));
    CHECK_EQ_U64(interested(&room), 0);
    tr__room_arm(&room);
    tr__room_shut(&room);
    CHECK_EQ_U64(interested(&room), 0);
    tr__room_open(&room); /* what comes back later tells nobody */
    tr__room_done(&room);
}

CASE(room, threads_are_told_beside_the_descriptor)
{
    struct tr__room room;
    tr__room_init(&room);
    int fd = tr__room_fd(&room);
    tr__room_arm(&room);
    uint32_t epoch = tr__gate_enter(&room.gate);
    CHECK_EQ_U64(interested(&room), TR__GATE_OTHER + 1);
    tr__room_open(&room);
    CHECK(is_readable(fd));
    CHECK(tr__gate_wait(&room.gate, epoch, UINT64_MAX) != epoch);
    CHECK_EQ_U64(interested(&room), 1);
    tr__gate_leave(&room.gate);
    tr__room_done(&room);
}

CASE(room, watches_hear_of_their_session)
{
    struct tr__room room;
    struct tr__parker parkers[2];
    char sessions[2]; /* compared, never followed */
    struct tr__watch watches[2];
    tr__room_init(&room);
    for (unsigned at = 0; at < 2; at++) {
        tr__parker_init(&parkers[at]);
        watches[at] = (struct tr__watch){
            &parkers[at], (const struct tr__session *)(const void *)&sessions[at], NULL, NULL};
        tr__room_watch(&room, &watches[at]);
        tr__parker_prepare(&parkers[at]);
    }
    CHECK(tr__room_is_watched(&room));
    tr__room_tell_watches(&room, watches[1].session);
    CHECK_EQ_INT(tr__load_relaxed(&parkers[0].word), TR__PARKER_PARKED);
    CHECK_EQ_INT(tr__load_relaxed(&parkers[1].word), TR__PARKER_NOTIFIED);
    tr__room_tell_watches(&room, NULL); /* anybody's */
    CHECK_EQ_INT(tr__load_relaxed(&parkers[0].word), TR__PARKER_NOTIFIED);
    tr__room_unwatch(&room, &watches[1]); /* in any order */
    tr__room_unwatch(&room, &watches[0]);
    CHECK_EQ_U64(interested(&room), 0);
    tr__room_done(&room);
}
