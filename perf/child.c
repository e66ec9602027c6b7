/*
 * child.c: see child.h. Owner thread: the child's only one. Called by each program's main; calls
 * libc.
 */
#include "child.h"

#include <limits.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "measure.h"

static int write_bytes(uint64_t count)
{
    static unsigned char block[CHILD_BLOCK_BYTES];
    for (size_t at = 0; at < sizeof block; at++) {
        block[at] = child_byte(at);
    }
    for (uint64_t done = 0; done < count;) {
        size_t begin = (size_t)(done % sizeof block);
        size_t wanted = sizeof block - begin;
        wanted = wanted < count - done ? wanted : (size_t)(count - done);
        ssize_t written = write(STDOUT_FILENO, block + begin, wanted);
        if (written <= 0) {
            return 1;
        }
        done += (uint64_t)written;
    }
    return 0;
}

static int signal_clock(void)
{
    sigset_t set;
    int number = 0;
    (void)sigemptyset(&set);
    (void)sigaddset(&set, SIGTERM);
    (void)sigprocmask(SIG_BLOCK, &set, NULL);
    (void)printf("ready\n");
    (void)fflush(stdout);
    (void)sigwait(&set, &number);
    (void)printf("%llu\n", (unsigned long long)now_ns());
    return fflush(stdout);
}

bool child_main(int argc, char **argv, int *ret_status)
{
    if (argc == 3 && strcmp(argv[1], "--write-bytes") == 0) {
        *ret_status = write_bytes(strtoull(argv[2], NULL, 10));
        return true;
    }
    if (argc == 2 && strcmp(argv[1], "--signal-clock") == 0) {
        *ret_status = signal_clock();
        return true;
    }
    return false;
}

const char *child_program(void)
{
    static char path[PATH_MAX];
    ssize_t size = readlink("/proc/self/exe", path, sizeof path - 1);
    REQUIRE(size > 0);
    path[size] = '\0';
    return path;
}
