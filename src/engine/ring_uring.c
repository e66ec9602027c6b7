/*
 * ring_uring.c: the kernel table over io_uring; the only engine file that knows liburing.
 *
 * Owner: the ring thread; uring_bell: any thread. Called through the table by ring_loop; calls
 * liburing for set-up and registration, and io_uring_enter2.
 *
 *  1. The submission queue is written here, not through io_uring_get_sqe and io_uring_submit:
 *     these cannot pass the flags of a wait, so submitting and sleeping would be two system calls.
 *     Slot i of the queue always names submission i (`array` is the identity), `tail` is ours,
 *     `head` the kernel's.
 *  2. Nothing is lost by a short submission: what lies between head and tail is submitted by the
 *     next enter. The kernel does not sleep after a short one.
 *  3. GETEVENTS on every enter: under DEFER_TASKRUN no completion appears without.
 *  4. The eventfd is blocking, so that its READ waits in the kernel; it is read by nobody else.
 *     The ring's memory is kept out of forked children (dontfork).
 *  5. Timeouts are relative: absolute ones ignored time namespaces for years.
 *
 *  6. A ring is tried out before it is relied on: what is refused later is lost.
 *
 * The flags ladder drops what older kernels refuse: DEFER_TASKRUN (6.1), SINGLE_ISSUER (6.0); the
 * rest is 5.19, the oldest kernel supported.
 * Cost: an enter is 0.3 us, an op in a batch 0.1 us; alone 0.4 us and a wake.
 * Rejected: SQPOLL (15.9 us alone on two processors), MSG_RING and multishot reads for the
 * doorbell (lost wakes), NO_SQARRAY (liburing 2.3 corrupts the ring).
 */
#include "engine/ring_kernel.h"

#include <errno.h>
#include <liburing.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <toolring/error.h>
#include <unistd.h>

#include "base/assert.h"
#include "base/clock.h"
#include "base/limits.h"
#include "base/memory.h"
#include "base/probe.h"

#ifndef IORING_FEAT_NO_IOWAIT
#define IORING_FEAT_NO_IOWAIT (1U << 17) /* Linux 6.15 */
#endif
#ifndef IORING_ENTER_NO_IOWAIT
#define IORING_ENTER_NO_IOWAIT (1U << 7) /* a wait does not count as waiting for a disk */
#endif

/* Kernel threads for what cannot be done without blocking: odd devices only, so a few of each. */
#define KERNEL_WORKERS 4u
/* How long the kernel may take to let go of a broken ring's requests. */
#define GIVE_UP_SECONDS 1
/* A kernel short of memory is asked again after this. */
#define RETRY_NS TR__NS_PER_MS

struct uring {
    struct io_uring ring;
    unsigned tail;      /* submissions placed since open */
    unsigned wait_flag; /* IORING_ENTER_NO_IOWAIT or 0 */
    unsigned ring_flag; /* IORING_ENTER_REGISTERED_RING or 0 */
    unsigned entries;   /* of the completion queue, as wanted */
    bool dead;          /* there is no ring */
    int enter_fd;       /* what enter is called with */
    int event_fd;
    uint64_t event_value; /* where the doorbell reads to */
};

static const unsigned flag_ladder[] = {
    IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN,
    IORING_SETUP_SINGLE_ISSUER,
    0,
};

static int say(char *message, size_t size, int error, const char *what)
{
    if (message != NULL && size > 0) {
        (void)snprintf(message, size, "%s: %s", what, strerrordesc_np(-error));
    }
    return error;
}

/* Maps a refused set-up to a code and its words. */
static int refuse(int error, char *message, size_t size)
{
    if (error == -ENOMEM) { /* rings count as locked memory */
        return say(message, size, error, "io_uring_setup (see RLIMIT_MEMLOCK)");
    }
    if (error == -EMFILE || error == -ENFILE) {
        return say(message, size, error, "io_uring_setup");
    }
    struct tr__probe probe;
    tr__probe_run(&probe);
    if (probe.ring_error != 0 && message != NULL && size > 0) {
        (void)tr__probe_refusal(&probe, message, size);
    } else {
        (void)say(message, size, error, "io_uring_setup");
    }
    return TR_ERING;
}

static int set_up(struct uring *uring, unsigned entries)
{
    unsigned submissions = entries < TR__RING_SQ_ENTRIES ? entries : TR__RING_SQ_ENTRIES;
    int error = -EINVAL;

    for (size_t rung = 0; error == -EINVAL && rung < sizeof flag_ladder / sizeof *flag_ladder;
         rung++) {
        struct io_uring_params params = {
            .flags = IORING_SETUP_CQSIZE | IORING_SETUP_CLAMP | IORING_SETUP_SUBMIT_ALL |
                     IORING_SETUP_COOP_TASKRUN | IORING_SETUP_TASKRUN_FLAG | flag_ladder[rung],
            .cq_entries = entries,
        };
        error = io_uring_queue_init_params(submissions, &uring->ring, &params);
    }
    if (error != 0) {
        return error;
    }
    if ((uring->ring.features & IORING_FEAT_EXT_ARG) == 0 ||
        uring->ring.cq.ring_entries < entries) {
        io_uring_queue_exit(&uring->ring);
        return -ENOSYS;
    }
    return 0;
}

/* Niceties: the ring works without each of them, so their failures are ignored. */
static void tune(struct uring *uring)
{
    unsigned workers[2] = {KERNEL_WORKERS, KERNEL_WORKERS};

    (void)io_uring_ring_dontfork(&uring->ring);
    (void)io_uring_register_iowq_max_workers(&uring->ring, workers);
    uring->enter_fd = uring->ring.ring_fd;
    if (io_uring_register_ring_fd(&uring->ring) == 1) {
        uring->enter_fd = uring->ring.enter_ring_fd;
        uring->ring_flag = IORING_ENTER_REGISTERED_RING;
    }
    if ((uring->ring.features & IORING_FEAT_NO_IOWAIT) != 0) {
        uring->wait_flag = IORING_ENTER_NO_IOWAIT;
    }
}

/* A new ring: what set_up leaves to be done. */
static void prepare(struct uring *uring)
{
    for (unsigned index = 0; index < uring->ring.sq.ring_entries; index++) {
        uring->ring.sq.array[index] = index; /* invariant 1 */
    }
    uring->tail = *uring->ring.sq.ktail;
    tune(uring);
}

/* Placed and not yet taken by the kernel. */
static unsigned placed(const struct uring *uring)
{
    return uring->tail - io_uring_smp_load_acquire(uring->ring.sq.khead);
}

/* One system call: submit, and wait for `wait` completions at most timeout_ns. */
static int enter_once(struct uring *uring, unsigned submit, unsigned wait, uint64_t timeout_ns)
{
    unsigned flags = IORING_ENTER_GETEVENTS | uring->ring_flag;
    struct __kernel_timespec timeout = {
        .tv_sec = (int64_t)(timeout_ns / TR__NS_PER_SECOND),
        .tv_nsec = (int64_t)(timeout_ns % TR__NS_PER_SECOND),
    };
    struct io_uring_getevents_arg argument = {
        .sigmask_sz = _NSIG / 8,
        .ts = (uint64_t)(uintptr_t)&timeout,
    };
    int count;

    if (wait != 0) {
        flags |= uring->wait_flag;
    }
    if (wait != 0 && timeout_ns != TR__FOREVER) {
        count =
            io_uring_enter2((unsigned)uring->enter_fd, submit, wait, flags | IORING_ENTER_EXT_ARG,
                            (sigset_t *)(void *)&argument, sizeof argument);
    } else {
        count = io_uring_enter2((unsigned)uring->enter_fd, submit, wait, flags, NULL, _NSIG / 8);
    }
    return count < 0 ? count : 0;
}

/* One round trip: filters exist that let a ring be made and refuse its use. */
static int try_out(struct uring *uring)
{
    struct io_uring_sqe *entry = &uring->ring.sq.sqes[uring->tail & uring->ring.sq.ring_mask];
    int error = -EINTR;

    memset(entry, 0, sizeof *entry);
    io_uring_prep_nop(entry);
    uring->tail += 1;
    io_uring_smp_store_release(uring->ring.sq.ktail, uring->tail);
    while (error == -EINTR) {
        error = enter_once(uring, placed(uring), 1, TR__FOREVER);
    }
    if (error == 0) {
        io_uring_cq_advance(&uring->ring, 1); /* it has come: nothing else was asked for */
    }
    return error;
}

static int refuse_use(struct uring *uring, int error, char *message, size_t size)
{
    if (message != NULL && size > 0) {
        (void)snprintf(message, size,
                       "io_uring_enter: %s; remedy: a seccomp profile that allows it as it allows "
                       "io_uring_setup",
                       strerrordesc_np(-error));
    }
    io_uring_queue_exit(&uring->ring);
    return TR_ERING;
}

static int uring_open(unsigned entries, void *context, void **ret_state, char *message,
                      size_t message_size)
{
    (void)context;
    struct uring *uring = tr__memory_take_zero(sizeof *uring);
    if (uring == NULL) {
        return say(message, message_size, TR_ENOMEM, "the ring");
    }
    uring->event_fd = eventfd(0, EFD_CLOEXEC);
    if (uring->event_fd < 0) {
        int error = say(message, message_size, -errno, "eventfd");
        tr__memory_give(uring);
        return error;
    }
    uring->entries = entries;
    int error = set_up(uring, entries);
    if (error != 0) {
        error = refuse(error, message, message_size);
    } else {
        prepare(uring);
        error = try_out(uring);
        error = error == 0 ? 0 : refuse_use(uring, error, message, message_size);
    }
    if (error != 0) {
        (void)close(uring->event_fd);
        tr__memory_give(uring);
        return error;
    }
    *ret_state = uring;
    return 0;
}

static int uring_repair(void *state, bool again)
{
    struct uring *uring = state;

    if (!uring->dead) {
        /* Waits until the kernel has left the buffers; 6.0 and later, before that the end of the
         * ring sees to it soon after. */
        struct io_uring_sync_cancel_reg all = {
            .flags = IORING_ASYNC_CANCEL_ALL | IORING_ASYNC_CANCEL_ANY,
            .fd = -1,
            .timeout = {.tv_sec = GIVE_UP_SECONDS, .tv_nsec = 0},
        };
        (void)io_uring_register_sync_cancel(&uring->ring, &all); /* no better means if it fails */
        io_uring_queue_exit(&uring->ring);
        uring->dead = true;
    }
    uring->wait_flag = 0;
    uring->ring_flag = 0;
    if (!again || set_up(uring, uring->entries) != 0) {
        return TR_ERING;
    }
    uring->dead = false;
    prepare(uring);
    return 0;
}

static void uring_close(void *state)
{
    struct uring *uring = state;

    if (!uring->dead) {
        io_uring_queue_exit(&uring->ring);
    }
    (void)close(uring->event_fd);
    tr__memory_give(uring);
}

static unsigned uring_room(void *state)
{
    const struct uring *uring = state;

    return uring->ring.sq.ring_entries - placed(uring);
}

static void uring_place(void *state, const struct tr__kernel_request *request)
{
    struct uring *uring = state;
    struct io_uring_sqe *entry = &uring->ring.sq.sqes[uring->tail & uring->ring.sq.ring_mask];

    TR_ASSERT(uring_room(state) > 0);
    memset(entry, 0, sizeof *entry);
    switch (request->code) {
    case TR__KERNEL_READ:
        io_uring_prep_read(entry, request->fd, request->buffer, request->size, (uint64_t)-1);
        break;
    case TR__KERNEL_WRITE:
        io_uring_prep_write(entry, request->fd, request->buffer, request->size, (uint64_t)-1);
        break;
    case TR__KERNEL_POLL:
        io_uring_prep_poll_add(entry, request->fd, request->events);
        break;
    case TR__KERNEL_CANCEL:
        io_uring_prep_cancel64(entry, request->target, 0);
        break;
    default:
        TR_ASSERT(request->code == TR__KERNEL_DOORBELL);
        io_uring_prep_read(entry, uring->event_fd, &uring->event_value, sizeof uring->event_value,
                           (uint64_t)-1);
        break;
    }
    entry->user_data = request->user_data;
    uring->tail += 1;
}

/* Sleeps without a ring. */
static void sleep_dead(struct uring *uring, uint64_t timeout_ns)
{
    struct pollfd bell = {.fd = uring->event_fd, .events = POLLIN, .revents = 0};
    bool forever = timeout_ns == TR__FOREVER;
    struct timespec timeout = tr__clock_timespec(forever ? 0 : timeout_ns);
    eventfd_t count;

    if (ppoll(&bell, 1, forever ? NULL : &timeout, NULL) > 0) {
        (void)eventfd_read(uring->event_fd, &count); /* readable, and nobody else reads it */
    }
}

static int uring_enter(void *state, bool wait, uint64_t timeout_ns)
{
    struct uring *uring = state;

    if (uring->dead) {
        if (wait) {
            sleep_dead(uring, timeout_ns);
        }
        return 0;
    }
    io_uring_smp_store_release(uring->ring.sq.ktail, uring->tail);
    int error = enter_once(uring, placed(uring), wait ? 1 : 0, timeout_ns);
    if ((error == -EAGAIN || error == -EBUSY) && wait) {
        uint64_t retry_ns = timeout_ns < RETRY_NS ? timeout_ns : RETRY_NS;
        error = enter_once(uring, 0, 1, retry_ns); /* the kernel is short of something: breathe */
    }
    return error;
}

static unsigned uring_take(void *state, struct tr__kernel_completion *completions, unsigned max)
{
    struct uring *uring = state;
    struct io_uring_cqe *entry;
    unsigned head;
    unsigned count = 0;

    if (uring->dead) {
        return 0;
    }
    io_uring_for_each_cqe(&uring->ring, head, entry)
    {
        if (count == max) {
            break;
        }
        completions[count].user_data = entry->user_data;
        completions[count].result = entry->res;
        count += 1;
    }
    io_uring_cq_advance(&uring->ring, count);
    return count;
}

static void uring_bell(void *state)
{
    struct uring *uring = state;
    uint64_t one = 1;

    ssize_t count = write(uring->event_fd, &one, sizeof one);
    TR_ASSERT(count == (ssize_t)sizeof one);
}

static int64_t uring_attempt(void *state, const struct tr__op *op)
{
    (void)state;
    return tr__op_attempt(op, false);
}

static uint64_t uring_now(void *state)
{
    (void)state;
    return tr__clock_now();
}

const struct tr__kernel tr__kernel_uring = {
    .open = uring_open,
    .close = uring_close,
    .room = uring_room,
    .place = uring_place,
    .enter = uring_enter,
    .repair = uring_repair,
    .take = uring_take,
    .bell = uring_bell,
    .attempt = uring_attempt,
    .now = uring_now,
};
