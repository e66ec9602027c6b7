/*
 * One table of scenarios, each performed by the ring and by the direct executor: they answer the
 * same, whatever the descriptor is and whatever happens to it.
 */
#include "engine/op.h"
#include "support/case.h"
#include "support/refuse.h"
#include "support/wait.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <semaphore.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <toolring/error.h>
#include <unistd.h>

#include "base/clock.h"
#include "engine/direct.h"
#include "engine/ring.h"

#define SOON_NS (20 * TR__NS_PER_MS)

enum channel {
    PIPE,
    PIPE_NONBLOCK,
    SOCKET,
    SOCKET_NONBLOCK,
    EVENT
};

/* What is done to the channel before the op starts, and while it is under way. */
enum act {
    NOTHING,
    PUT,        /* bytes for the reader */
    FILL,       /* until a writer would have to wait */
    DRAIN,      /* all of it */
    CLOSE_PEER, /* the end the op does not use */
    CLOSE_OWN,  /* the op's end: before only */
    CANCEL,     /* the op */
};

enum end {
    READ_END,
    WRITE_END
};

enum deadline {
    NEVER,
    PAST,
    SOON
};

struct scenario {
    const char *name;
    enum channel channel;
    enum tr__op_kind kind;
    enum end end;      /* which the op uses */
    uint32_t argument; /* size or events */
    enum act before;
    enum deadline deadline;
    enum act during;
    int64_t result;
};

static const struct scenario scenarios[] = {
    {"timer, past", PIPE, TR__OP_TIMER, READ_END, 0, NOTHING, PAST, NOTHING, 0},
    {"timer, soon", PIPE, TR__OP_TIMER, READ_END, 0, NOTHING, SOON, NOTHING, 0},
    {"timer, cancelled", PIPE, TR__OP_TIMER, READ_END, 0, NOTHING, NEVER, CANCEL, TR_ECANCELED},

    {"read what is there", PIPE, TR__OP_READ, READ_END, 8, PUT, NEVER, NOTHING, 5},
    {"read part of it", PIPE, TR__OP_READ, READ_END, 3, PUT, NEVER, NOTHING, 3},
    {"read nothing", PIPE, TR__OP_READ, READ_END, 0, PUT, NEVER, NOTHING, 0},
    {"read what comes", PIPE, TR__OP_READ, READ_END, 8, NOTHING, NEVER, PUT, 5},
    {"read what comes, nonblock", PIPE_NONBLOCK, TR__OP_READ, READ_END, 8, NOTHING, NEVER, PUT, 5},
    {"read what is there, nonblock", PIPE_NONBLOCK, TR__OP_READ, READ_END, 8, PUT, NEVER, NOTHING,
     5},
    {"read a socket", SOCKET, TR__OP_READ, READ_END, 8, NOTHING, NEVER, PUT, 5},
    {"read a socket, nonblock", SOCKET_NONBLOCK, TR__OP_READ, READ_END, 8, NOTHING, NEVER, PUT, 5},
    {"read an eventfd", EVENT, TR__OP_READ, READ_END, 8, NOTHING, NEVER, PUT, 8},
    {"read at the end", PIPE, TR__OP_READ, READ_END, 8, CLOSE_PEER, NEVER, NOTHING, 0},
    {"read until the end", PIPE, TR__OP_READ, READ_END, 8, NOTHING, NEVER, CLOSE_PEER, 0},
    {"read until the end, nonblock", PIPE_NONBLOCK, TR__OP_READ, READ_END, 8, NOTHING, NEVER,
     CLOSE_PEER, 0},
    {"read a socket's end", SOCKET, TR__OP_READ, READ_END, 8, NOTHING, NEVER, CLOSE_PEER, 0},
    {"read the wrong end", PIPE, TR__OP_READ, WRITE_END, 8, NOTHING, NEVER, NOTHING, -EBADF},
    {"read a closed one", PIPE, TR__OP_READ, READ_END, 8, CLOSE_OWN, NEVER, NOTHING, -EBADF},
    {"read, deadline", PIPE, TR__OP_READ, READ_END, 8, NOTHING, SOON, NOTHING, TR_ETIMEDOUT},
    {"read, deadline, nonblock", PIPE_NONBLOCK, TR__OP_READ, READ_END, 8, NOTHING, SOON, NOTHING,
     TR_ETIMEDOUT},
    {"read, deadline past", PIPE, TR__OP_READ, READ_END, 8, NOTHING, PAST, NOTHING, TR_ETIMEDOUT},
    {"read, deadline past, there", PIPE, TR__OP_READ, READ_END, 8, PUT, PAST, NOTHING, 5},
    {"read, past, there, nonblock", PIPE_NONBLOCK, TR__OP_READ, READ_END, 8, PUT, PAST, NOTHING, 5},
    {"read, cancelled", PIPE, TR__OP_READ, READ_END, 8, NOTHING, NEVER, CANCEL, TR_ECANCELED},
    {"read, cancelled, nonblock", PIPE_NONBLOCK, TR__OP_READ, READ_END, 8, NOTHING, NEVER, CANCEL,
     TR_ECANCELED},

    {"write", PIPE, TR__OP_WRITE, WRITE_END, 5, NOTHING, NEVER, NOTHING, 5},
    {"write, nonblock", PIPE_NONBLOCK, TR__OP_WRITE, WRITE_END, 5, NOTHING, NEVER, NOTHING, 5},
    {"write when there is room", PIPE, TR__OP_WRITE, WRITE_END, 5, FILL, NEVER, DRAIN, 5},
    {"write when there is room, nonblock", PIPE_NONBLOCK, TR__OP_WRITE, WRITE_END, 5, FILL, NEVER,
     DRAIN, 5},
    {"write a socket", SOCKET, TR__OP_WRITE, WRITE_END, 5, FILL, NEVER, DRAIN, 5},
    {"write a socket, nonblock", SOCKET_NONBLOCK, TR__OP_WRITE, WRITE_END, 5, FILL, NEVER, DRAIN,
     5},
    {"write, nobody reads", PIPE, TR__OP_WRITE, WRITE_END, 5, CLOSE_PEER, NEVER, NOTHING, -EPIPE},
    {"write, nobody reads any more", PIPE, TR__OP_WRITE, WRITE_END, 5, FILL, NEVER, CLOSE_PEER,
     -EPIPE},
    {"write, nobody reads, socket", SOCKET, TR__OP_WRITE, WRITE_END, 5, CLOSE_PEER, NEVER, NOTHING,
     -EPIPE},
    {"write the wrong end", PIPE, TR__OP_WRITE, READ_END, 5, NOTHING, NEVER, NOTHING, -EBADF},
    {"write a closed one", PIPE, TR__OP_WRITE, WRITE_END, 5, CLOSE_OWN, NEVER, NOTHING, -EBADF},
    {"write, deadline", PIPE, TR__OP_WRITE, WRITE_END, 5, FILL, SOON, NOTHING, TR_ETIMEDOUT},
    {"write, deadline past, room", PIPE, TR__OP_WRITE, WRITE_END, 5, NOTHING, PAST, NOTHING, 5},
    {"write, cancelled", PIPE, TR__OP_WRITE, WRITE_END, 5, FILL, NEVER, CANCEL, TR_ECANCELED},
    {"write, cancelled, nonblock", PIPE_NONBLOCK, TR__OP_WRITE, WRITE_END, 5, FILL, NEVER, CANCEL,
     TR_ECANCELED},

    {"poll, ready", PIPE, TR__OP_POLL, READ_END, POLLIN, PUT, NEVER, NOTHING, POLLIN},
    {"poll, ready later", PIPE, TR__OP_POLL, READ_END, POLLIN, NOTHING, NEVER, PUT, POLLIN},
    {"poll, writable", PIPE, TR__OP_POLL, WRITE_END, POLLOUT, NOTHING, NEVER, NOTHING, POLLOUT},
    {"poll, hung up", PIPE, TR__OP_POLL, READ_END, POLLIN, NOTHING, NEVER, CLOSE_PEER, POLLHUP},
    {"poll, nobody reads", PIPE, TR__OP_POLL, WRITE_END, POLLOUT, FILL, NEVER, CLOSE_PEER, POLLERR},
    {"poll a closed one", PIPE, TR__OP_POLL, READ_END, POLLIN, CLOSE_OWN, NEVER, NOTHING, -EBADF},
    {"poll, deadline", PIPE, TR__OP_POLL, READ_END, POLLIN, NOTHING, SOON, NOTHING, TR_ETIMEDOUT},
    {"poll, deadline past", PIPE, TR__OP_POLL, READ_END, POLLIN, NOTHING, PAST, NOTHING,
     TR_ETIMEDOUT},
    {"poll, past, ready", PIPE, TR__OP_POLL, READ_END, POLLIN, PUT, PAST, NOTHING, POLLIN},
    {"poll, cancelled", PIPE, TR__OP_POLL, READ_END, POLLIN, NOTHING, NEVER, CANCEL, TR_ECANCELED},
};

struct executor {
    const char *name;
    struct tr__ring *ring; /* NULL: direct */
    struct tr__direct *direct;
};

static sem_t ring_done;
static unsigned done_calls;

static void note_ring(struct tr__op *op)
{
    (void)op;
    (void)sem_post(&ring_done);
}

static void note_direct(struct tr__op *op)
{
    (void)op;
    done_calls += 1;
}

static void start(const struct executor *executor, struct tr__op *op)
{
    if (executor->ring != NULL) {
        op->done = note_ring;
        tr__ring_start(executor->ring, op);
    } else {
        op->done = note_direct;
        done_calls = 0;
        tr__direct_start(executor->direct, op);
    }
}

/* Returns the result, or -EAGAIN when the op is not done by the deadline. */
static int64_t await(const struct executor *executor, struct tr__op *op, uint64_t deadline_ns)
{
    if (executor->ring != NULL) {
        if (deadline_ns == TR__FOREVER) {
            CHECK_EQ_INT(sem_wait(&ring_done), 0);
            return op->result;
        }
        struct timespec deadline = tr__clock_timespec(deadline_ns);
        if (sem_clockwait(&ring_done, CLOCK_MONOTONIC, &deadline) != 0) {
            CHECK_EQ_INT(errno, ETIMEDOUT);
            return -EAGAIN;
        }
        return op->result;
    }
    while (done_calls == 0) {
        int error = tr__direct_wait(executor->direct, deadline_ns);
        if (error != 0) {
            CHECK_EQ_INT(error, TR_ETIMEDOUT);
            return -EAGAIN;
        }
    }
    CHECK_EQ_INT(done_calls, 1);
    return op->result;
}

static void make_channel(enum channel channel, int ends[2])
{
    int kind = channel == SOCKET_NONBLOCK ? SOCK_STREAM | SOCK_NONBLOCK : SOCK_STREAM;

    switch (channel) {
    case PIPE:
    case PIPE_NONBLOCK:
        CHECK_EQ_INT(pipe2(ends, channel == PIPE ? 0 : O_NONBLOCK), 0);
        return;
    case EVENT:
        ends[0] = eventfd(0, 0);
        ends[1] = dup(ends[0]);
        CHECK(ends[0] >= 0 && ends[1] >= 0);
        return;
    default:
        CHECK_EQ_INT(socketpair(AF_UNIX, kind, 0, ends), 0);
        return;
    }
}

static void switch_nonblock(int fd, bool on)
{
    int flags = fcntl(fd, F_GETFL);

    CHECK_EQ_INT(fcntl(fd, F_SETFL, on ? flags | O_NONBLOCK : flags & ~O_NONBLOCK), 0);
}

static void perform(const struct executor *executor, enum act act, const struct scenario *scenario,
                    int ends[2], struct tr__op *op)
{
    static char bytes[4096];
    bool blocking = scenario->channel != PIPE_NONBLOCK && scenario->channel != SOCKET_NONBLOCK;
    int own = scenario->end == READ_END ? 0 : 1;

    switch (act) {
    case NOTHING:
        return;
    case PUT:
        if (scenario->channel == EVENT) {
            const uint64_t one = 1;
            CHECK_EQ_INT(write(ends[1], &one, sizeof one), sizeof one);
        } else {
            CHECK_EQ_INT(write(ends[1], "hello", 5), 5);
        }
        return;
    case FILL:
        switch_nonblock(ends[1], true);
        while (write(ends[1], bytes, sizeof bytes) > 0) {
        }
        while (write(ends[1], bytes, 1) > 0) {
        }
        switch_nonblock(ends[1], !blocking);
        return;
    case DRAIN:
        switch_nonblock(ends[0], true);
        while (read(ends[0], bytes, sizeof bytes) > 0) {
        }
        return;
    case CLOSE_PEER:
        CHECK_EQ_INT(close(ends[1 - own]), 0);
        ends[1 - own] = -1;
        return;
    case CLOSE_OWN:
        CHECK_EQ_INT(close(ends[own]), 0);
        ends[own] = -1;
        return;
    case CANCEL:
        if (executor->ring != NULL) {
            tr__ring_cancel(executor->ring, op, true);
        } else {
            tr__direct_cancel(executor->direct, op);
        }
        return;
    }
}

static void play(const struct executor *executor, const struct scenario *scenario)
{
    char buffer[16] = "";
    int ends[2];
    uint64_t start_ns = tr__clock_now();

    make_channel(scenario->channel, ends);
    struct tr__op op = {
        .kind = (uint16_t)scenario->kind,
        .fd = ends[scenario->end == READ_END ? 0 : 1],
        .buffer = buffer,
        .size = scenario->argument,
        .events = scenario->argument,
        .deadline_ns = scenario->deadline == PAST       ? 1
                       : scenario->deadline == SOON     ? start_ns + SOON_NS
                       : scenario->kind == TR__OP_TIMER ? TR__FOREVER
                                                        : 0,
    };
    perform(executor, scenario->before, scenario, ends, &op);
    start(executor, &op);
    if (scenario->during != NOTHING) {
        /* It has to be under way for real, and not to be done by itself. */
        CHECK_EQ_INT(await(executor, &op, tr__clock_now() + 2 * TR__NS_PER_MS), -EAGAIN);
        perform(executor, scenario->during, scenario, ends, &op);
    }
    int64_t result = await(executor, &op, TR__FOREVER);
    if (result != scenario->result) {
        case_fail(__FILE__, __LINE__, "%s: \"%s\": %" PRId64 " is not %" PRId64, executor->name,
                  scenario->name, result, scenario->result);
    }
    if (scenario->deadline == SOON) {
        CHECK(tr__clock_now() >= op.deadline_ns);
    }
    if (scenario->kind == TR__OP_READ && result > 0 && scenario->channel != EVENT) {
        CHECK(memcmp(buffer, "hello", (size_t)result) == 0);
    }
    for (unsigned index = 0; index < 2; index++) {
        if (ends[index] >= 0) {
            CHECK_EQ_INT(close(ends[index]), 0);
        }
    }
}

static void play_all(const struct executor *executor)
{
    for (size_t index = 0; index < sizeof scenarios / sizeof *scenarios; index++) {
        play(executor, &scenarios[index]);
    }
}

CASE(ops, direct_plays_the_scenarios)
{
    struct tr__direct direct;
    struct executor executor = {"direct", NULL, &direct};

    CHECK_EQ_INT(tr__direct_init(&direct), 0);
    play_all(&executor);
    tr__direct_done(&direct);
}

/* What emulators do not know, and what kernels before 6.4 have for no pipe. */
CASE(ops, direct_plays_them_without_nowait)
{
    static const struct refusal refusals[] = {{SYS_preadv2, REFUSE_ANY, 0, false},
                                              {SYS_pwritev2, REFUSE_ANY, 0, false}};
    struct tr__direct direct;
    struct executor executor = {"direct without RWF_NOWAIT", NULL, &direct};

    if (!refuse_calls(refusals, 2, ENOSYS)) {
        SKIP("seccomp filters are not available");
    }
    CHECK_EQ_INT(tr__direct_init(&direct), 0);
    play_all(&executor);
    tr__direct_done(&direct);
}

CASE(ops, ring_plays_them_the_same)
{
    static struct tr__ring ring;
    struct tr__ring_config config = {.entries = 0};
    struct executor executor = {"ring", &ring, NULL};

    int error = tr__ring_open(&ring, &config);
    if (error == TR_ERING) {
        SKIP("io_uring is refused here");
    }
    CHECK_EQ_INT(error, 0);
    CHECK_EQ_INT(sem_init(&ring_done, 0, 0), 0);
    play_all(&executor);
    CHECK_EQ_INT(tr__ring_close(&ring, TR__FOREVER), 0);
}
