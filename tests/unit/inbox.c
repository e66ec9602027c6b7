/*
 * Tests of parts/inbox by one thread: order, waiting that need not sleep, and the eventfd's states.
 */
#include <toolring/error.h>

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/clock.h"
#include "parts/inbox.h"
#include "support/case.h"
#include "support/wait.h"

static struct tr__inbox inbox;
static struct tr__mpsc_node nodes[8];

static void prepare(void)
{
    tr__inbox_init(&inbox);
    CHECK(tr__token_try_take(&inbox.token));
}

static bool is_readable(int fd)
{
    struct pollfd look = {.fd = fd, .events = POLLIN};
    return poll(&look, 1, 0) == 1;
}

CASE(inbox, pops_in_the_order_of_pushing)
{
    prepare();
    CHECK(tr__inbox_pop(&inbox) == NULL);
    for (unsigned index = 0; index < 8; index++) {
        tr__inbox_push(&inbox, &nodes[index]);
    }
    for (unsigned index = 0; index < 8; index++) {
        CHECK_EQ_PTR(tr__inbox_pop(&inbox), &nodes[index]);
    }
    CHECK(tr__inbox_pop(&inbox) == NULL);
    tr__inbox_done(&inbox);
}

CASE(inbox, wait_returns_at_once_when_something_is_there)
{
    prepare();
    tr__inbox_push(&inbox, &nodes[0]);
    CHECK_EQ_INT(tr__inbox_wait(&inbox, TR__FOREVER), 0);
    CHECK_EQ_PTR(tr__inbox_pop(&inbox), &nodes[0]);
    tr__inbox_done(&inbox);
}

CASE(inbox, wait_ends_at_its_deadline_and_not_before)
{
    prepare();
    uint64_t deadline_ns = tr__clock_now() + 2 * TR__NS_PER_MS;
    CHECK_EQ_INT(tr__inbox_wait(&inbox, deadline_ns), TR_ETIMEDOUT);
    CHECK(tr__clock_now() >= deadline_ns);
    CHECK_EQ_INT(tr__inbox_wait(&inbox, 0), TR_ETIMEDOUT);
    tr__inbox_done(&inbox);
}

static void *interrupt_once_parked(void *argument)
{
    (void)argument;
    WAIT_UNTIL(tr__load_seq_cst(&inbox.parker.word) == TR__PARKER_PARKED, 20);
    tr__inbox_interrupt(&inbox);
    return NULL;
}

CASE(inbox, interrupt_ends_a_wait_with_nothing_to_take)
{
    pthread_t thread;
    prepare();
    tr__inbox_interrupt(&inbox); /* nobody waits: nothing happens, nothing is remembered */
    CHECK_EQ_INT(tr__inbox_wait(&inbox, tr__clock_now() + TR__NS_PER_MS), TR_ETIMEDOUT);
    CHECK_EQ_INT(pthread_create(&thread, NULL, interrupt_once_parked, NULL), 0);
    CHECK_EQ_INT(tr__inbox_wait(&inbox, TR__FOREVER), 0);
    CHECK(tr__inbox_pop(&inbox) == NULL);
    CHECK_EQ_INT(pthread_join(thread, NULL), 0);
    tr__inbox_done(&inbox);
}

CASE(inbox, descriptor_is_readable_from_push_to_rearm)
{
    prepare();
    int fd = tr__inbox_fd(&inbox);
    CHECK(fd >= 0);
    CHECK_EQ_INT(tr__inbox_fd(&inbox), fd);
    CHECK_EQ_INT(fcntl(fd, F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
    CHECK_EQ_INT(fcntl(fd, F_GETFL) & O_NONBLOCK, O_NONBLOCK);
    CHECK(!is_readable(fd));
    for (unsigned round = 0; round < 3; round++) {
        tr__inbox_push(&inbox, &nodes[0]);
        CHECK(is_readable(fd));
        tr__inbox_push(&inbox, &nodes[1]);
        CHECK(tr__inbox_pop(&inbox) != NULL);
        CHECK(is_readable(fd)); /* one is left, and it was not cleared */
        CHECK(tr__inbox_pop(&inbox) != NULL);
        tr__inbox_rearm(&inbox);
        CHECK(!is_readable(fd));
    }
    tr__inbox_done(&inbox);
    CHECK_EQ_INT(fcntl(fd, F_GETFD), -1);
}

CASE(inbox, descriptor_tells_of_what_came_before_it)
{
    prepare();
    tr__inbox_push(&inbox, &nodes[0]);
    int fd = tr__inbox_fd(&inbox);
    CHECK(is_readable(fd));
    tr__inbox_rearm(&inbox); /* too early: the queue is not empty */
    CHECK(is_readable(fd));
    CHECK(tr__inbox_pop(&inbox) != NULL);
    tr__inbox_rearm(&inbox);
    CHECK(!is_readable(fd));
    tr__inbox_done(&inbox);
}

CASE(inbox, a_late_write_is_cleared_by_the_next_rearm)
{
    const uint64_t one = 1;
    prepare();
    int fd = tr__inbox_fd(&inbox);
    /* A producer that was off its processor between taking `armed` and writing. */
    CHECK_EQ_INT(write(fd, &one, sizeof one), sizeof one);
    CHECK(is_readable(fd));
    tr__inbox_rearm(&inbox);
    CHECK(!is_readable(fd));
    tr__inbox_push(&inbox, &nodes[0]);
    CHECK(is_readable(fd));
    tr__inbox_done(&inbox);
}

CASE(inbox, rearm_without_a_descriptor_does_nothing)
{
    prepare();
    tr__inbox_rearm(&inbox);
    CHECK_EQ_INT(tr__load_relaxed(&inbox.armed), 0);
    tr__inbox_done(&inbox);
}

CASE(inbox, no_descriptor_to_be_had_is_an_error)
{
    struct rlimit limit;
    prepare();
    CHECK_EQ_INT(getrlimit(RLIMIT_NOFILE, &limit), 0);
    rlim_t before = limit.rlim_cur;
    limit.rlim_cur = 0;
    CHECK_EQ_INT(setrlimit(RLIMIT_NOFILE, &limit), 0);
    CHECK_EQ_INT(tr__inbox_fd(&inbox), -EMFILE);
    limit.rlim_cur = before;
    CHECK_EQ_INT(setrlimit(RLIMIT_NOFILE, &limit), 0);
    CHECK(tr__inbox_fd(&inbox) >= 0); /* the failure has left nothing behind */
    tr__inbox_done(&inbox);
}
