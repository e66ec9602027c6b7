/*
 * What the tests of the spawner do with a child: take its output and its end.
 */
#ifndef TR__TESTS_UNIT_CHILD_H
#define TR__TESTS_UNIT_CHILD_H

#include <poll.h>
#include <sys/wait.h>
#include <unistd.h>

#include "engine/spawner.h"
#include "support/case.h"

/* What child_finish took. */
static char child_output[65536];
static char child_error_output[65536];

/* Reads a non-blocking pipe to its end and closes it. */
static inline size_t child_read_all(int fd, char *buffer, size_t size)
{
    size_t used = 0;

    buffer[0] = '\0';
    while (fd >= 0) {
        struct pollfd one = {.fd = fd, .events = POLLIN, .revents = 0};
        CHECK(poll(&one, 1, -1) == 1);
        ssize_t count = read(fd, buffer + used, size - 1 - used);
        if (count == 0) {
            CHECK(close(fd) == 0);
            break;
        }
        CHECK(count > 0);
        used += (size_t)count;
        buffer[used] = '\0';
    }
    return used;
}

/* Waits for the end of a child; returns its wait status. */
static inline int child_reap(struct tr__spawn *spawn)
{
    struct pollfd one = {.fd = spawn->process_fd, .events = POLLIN, .revents = 0};
    int status = -1;

    CHECK_EQ_INT(poll(&one, 1, -1), 1);
    CHECK_EQ_INT(waitpid(spawn->pid, &status, 0), spawn->pid);
    CHECK_EQ_INT(close(spawn->process_fd), 0);
    return status;
}

/* Takes all output of a spawned child and its end. Returns its exit code. */
static inline int child_finish(struct tr__spawn *spawn)
{
    CHECK_EQ_INT(spawn->error, 0);
    (void)child_read_all(spawn->output_fd, child_output, sizeof child_output);
    (void)child_read_all(spawn->error_fd, child_error_output, sizeof child_error_output);
    int status = child_reap(spawn);
    CHECK(WIFEXITED(status));
    return WEXITSTATUS(status);
}

#endif
