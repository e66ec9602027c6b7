/*
 * Tests of engine/ring: being opened and closed, and all the ways it can be refused.
 */
#include "engine/ring.h"
#include "support/case.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <toolring/error.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/memory.h"
#include "base/probe.h"
#include "support/refuse.h"

static struct tr__ring ring;

static void open_sized(unsigned entries)
{
    char message[TR__PROBE_MESSAGE_BYTES];
    struct tr__ring_config config = {
        .entries = entries, .message = message, .message_size = sizeof message};

    int error = tr__ring_open(&ring, &config);
    if (error == TR_ERING) {
        SKIP("io_uring is refused here");
    }
    CHECK_EQ_INT(error, 0);
    CHECK_EQ_STR(message, "");
}

static void close_ring(void)
{
    CHECK_EQ_INT(tr__ring_close(&ring, TR__FOREVER), 0);
}

static unsigned open_descriptors(void)
{
    unsigned count = 0;

    for (int fd = 0; fd < 1024; fd++) {
        count += fcntl(fd, F_GETFD) >= 0;
    }
    return count;
}

CASE(ring_open, opens_and_closes)
{
    static const unsigned sizes[] = {0, 64, 100, 4096, 32768};

    for (size_t index = 0; index < sizeof sizes / sizeof *sizes; index++) {
        unsigned before = open_descriptors();
        open_sized(sizes[index]);
        CHECK(ring.queue_size >= sizes[index]);
        CHECK(ring.entries_max + ring.cancels_max + 1 <= ring.queue_size);
        CHECK(!tr__ring_is_self(&ring));
        close_ring();
        CHECK_EQ_INT(open_descriptors(), before);
    }
}

CASE(ring_open, refuses_sizes_out_of_range)
{
    char message[64];
    struct tr__ring_config config = {.message = message, .message_size = sizeof message};

    config.entries = TR__RING_ENTRIES_MIN - 1;
    CHECK_EQ_INT(tr__ring_open(&ring, &config), TR_EINVAL);
    CHECK(message[0] != '\0');
    config.entries = TR__RING_ENTRIES_MAX + 1;
    CHECK_EQ_INT(tr__ring_open(&ring, &config), TR_EINVAL);
}

CASE(ring_open, open_survives_failing_allocations)
{
    struct tr__ring_config config = {.entries = 64};
    unsigned before = open_descriptors();
    unsigned refused = 0;

    for (long nth = 1; nth <= 4; nth++) {
        tr__memory_fail_after(nth);
        int error = tr__ring_open(&ring, &config);
        tr__memory_fail_after(-1);
        if (error == 0) {
            close_ring();
        } else {
            CHECK_EQ_INT(error, TR_ENOMEM);
            refused += 1;
        }
        CHECK_EQ_INT(open_descriptors(), before);
    }
    CHECK_EQ_INT(refused, 2); /* the table and the kernel's side */
}

CASE(ring_open, open_reports_missing_descriptors)
{
    char message[TR__PROBE_MESSAGE_BYTES];
    struct tr__ring_config config = {.message = message, .message_size = sizeof message};
    struct rlimit all;
    struct rlimit few;
    int highest = 0;

    while ((unsigned)highest + 1 != open_descriptors()) {
        highest = dup(0); /* fills the gaps: the limit is on the number, not on the count */
        CHECK(highest >= 0);
    }
    CHECK_EQ_INT(getrlimit(RLIMIT_NOFILE, &all), 0);
    for (unsigned extra = 0; extra < 2; extra++) {
        few = (struct rlimit){(rlim_t)highest + 1 + extra, all.rlim_max};
        CHECK_EQ_INT(setrlimit(RLIMIT_NOFILE, &few), 0);
        int error = tr__ring_open(&ring, &config);
        CHECK_EQ_INT(setrlimit(RLIMIT_NOFILE, &all), 0);
        CHECK_EQ_INT(error, TR_EMFILE);
        CHECK(strstr(message, "open files") != NULL);
        CHECK_EQ_INT(open_descriptors(), highest + 1);
    }
}

static void check_refused(long call, int error)
{
    char message[TR__PROBE_MESSAGE_BYTES] = "";
    struct tr__ring_config config = {.message = message, .message_size = sizeof message};
    const struct refusal refusal = {call, REFUSE_ANY, 0, false};
    unsigned before = open_descriptors();

    CHECK(refuse_calls(&refusal, 1, error));
    CHECK_EQ_INT(tr__ring_open(&ring, &config), TR_ERING);
    CHECK(strlen(message) > 20);
    config.message = NULL; /* nobody wants the words */
    CHECK_EQ_INT(tr__ring_open(&ring, &config), TR_ERING);
    CHECK_EQ_INT(open_descriptors(), before);
}

CASE(ring_open, says_why_a_filter_refuses)
{
    check_refused(SYS_io_uring_setup, EPERM);
}

CASE(ring_open, says_why_a_kernel_refuses)
{
    check_refused(SYS_io_uring_setup, ENOSYS);
}

/* It can be made, and not be used. */
CASE(ring_open, says_that_a_filter_refuses_its_use)
{
    check_refused(SYS_io_uring_enter, EPERM);
}
