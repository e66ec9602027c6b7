/*
 * posix_spawn.c: peer "posix_spawn": the bare loop: spawn with pipes, poll, read, wait.
 *
 * What a command costs with nothing around it. Fair because: as many commands in flight as toolring
 * has (all k of a turn); /dev/null on standard input, a pipe on each output, both read to their
 * end; one thread, one poll over all pipes; the word of every command is compared. It does less: no
 * process group, no timeout, no cancel, no cap.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "child.h"
#include "measure.h"

#define CALLS_MAX 1024
#define WORD_BYTES 32
#define BALLAST_BYTES ((size_t)2 << 30)
#define OUTPUT_BYTES ((uint64_t)1 << 30)

extern char **environ;

struct command {
    pid_t pid;
    size_t index;
    size_t size;
    char text[WORD_BYTES + 2];
};

/* Spawns with fresh pipes; ret_fds: this side of standard output and of standard error. */
static pid_t spawn(char *const argv[], int ret_fds[2])
{
    posix_spawn_file_actions_t actions;
    int out[2];
    int error[2];
    pid_t pid;
    REQUIRE(pipe2(out, O_CLOEXEC) == 0 && pipe2(error, O_CLOEXEC) == 0);
    REQUIRE(posix_spawn_file_actions_init(&actions) == 0);
    REQUIRE(posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0) == 0);
    REQUIRE(posix_spawn_file_actions_adddup2(&actions, out[1], 1) == 0);
    REQUIRE(posix_spawn_file_actions_adddup2(&actions, error[1], 2) == 0);
    int status = posix_spawn(&pid, argv[0], &actions, NULL, argv, environ);
    if (status != 0) {
        fail("posix_spawn: %s", strerror(status));
    }
    REQUIRE(posix_spawn_file_actions_destroy(&actions) == 0);
    REQUIRE(close(out[1]) == 0 && close(error[1]) == 0);
    ret_fds[0] = out[0];
    ret_fds[1] = error[0];
    return pid;
}

static void word_of(uint64_t seed, size_t index, char word[WORD_BYTES])
{
    (void)snprintf(word, WORD_BYTES, "w%zu-%08x", index, (unsigned)mix(seed ^ index));
}

static void collect(const struct command *command, uint64_t seed)
{
    char word[WORD_BYTES];
    int status;
    word_of(seed, command->index, word);
    REQUIRE(waitpid(command->pid, &status, 0) == command->pid && status == 0);
    REQUIRE(command->size == strlen(word) + 1 && memcmp(command->text, word, strlen(word)) == 0);
}

/* Reads what poll says is there; returns how many pipes came to their end. */
static size_t read_some(struct command *commands, struct pollfd *pipes, size_t count)
{
    size_t ended = 0;
    for (size_t at = 0; at < count; at++) {
        struct command *command = &commands[at / 2];
        char nothing[64];
        if (pipes[at].fd < 0 || pipes[at].revents == 0) {
            continue;
        }
        bool is_output = at % 2 == 0;
        ssize_t size = is_output ? read(pipes[at].fd, command->text + command->size,
                                        sizeof command->text - command->size)
                                 : read(pipes[at].fd, nothing, sizeof nothing);
        REQUIRE(size >= 0 && (is_output || size == 0));
        command->size += (size_t)size;
        if (size == 0) {
            REQUIRE(close(pipes[at].fd) == 0);
            pipes[at].fd = -1;
            ended += 1;
        }
    }
    return ended;
}

static uint64_t turn(uint64_t seed, size_t first, size_t calls)
{
    static struct command commands[CALLS_MAX];
    static struct pollfd pipes[2 * CALLS_MAX];
    uint64_t begin = now_ns();
    for (size_t at = 0; at < calls; at++) {
        char word[WORD_BYTES];
        char program[] = "/bin/echo";
        char *argv[] = {program, word, NULL};
        int fds[2];
        commands[at] = (struct command){.index = first + at};
        word_of(seed, first + at, word);
        commands[at].pid = spawn(argv, fds);
        pipes[2 * at] = (struct pollfd){fds[0], POLLIN, 0};
        pipes[2 * at + 1] = (struct pollfd){fds[1], POLLIN, 0};
    }
    for (size_t open = 2 * calls; open > 0;) {
        REQUIRE(poll(pipes, 2 * calls, -1) > 0);
        open -= read_some(commands, pipes, 2 * calls);
    }
    for (size_t at = 0; at < calls; at++) {
        collect(&commands[at], seed);
    }
    return now_ns() - begin;
}

static void measure(const struct options *options, size_t ballast)
{
    struct samples samples;
    size_t turns = vary(options, (options->quick ? 1200 : 4000) / (options->size + 1) + 16);
    samples_open(&samples, turns);
    (void)turn(options->seed, turns * options->size, options->size); /* warm-up */
    uint64_t spent = cpu_ns();
    uint64_t begin = now_ns();
    for (size_t at = 0; at < turns; at++) {
        samples_add(&samples, turn(options->seed, at * options->size, options->size));
    }
    uint64_t took = now_ns() - begin;
    spent = cpu_ns() - spent;
    double commands = (double)(turns * options->size);
    report_begin(options, "µs/command", (double)took / 1e3 / commands);
    report_latency("turn µs", &samples, 1e3);
    report_also("own cpu µs/command", (double)spent / 1e3 / commands);
    report_parameter("calls", options->size);
    report_parameter("turns", turns);
    report_parameter("ballast", ballast);
    report_end();
    samples_close(&samples);
}

static void run_shell(const struct options *options)
{
    measure(options, 0);
}

static void run_shell_big(const struct options *options)
{
    void *ballast = ballast_open(BALLAST_BYTES);
    measure(options, BALLAST_BYTES);
    ballast_close(ballast, BALLAST_BYTES);
}

/* 1 GiB through the pipe, every byte looked at, none kept. */
static uint64_t capture(void)
{
    static unsigned char buffer[CHILD_BLOCK_BYTES];
    static unsigned char expected[2 * CHILD_BLOCK_BYTES];
    char option[] = "--write-bytes";
    char count[32];
    char *argv[] = {strdup(child_program()), option, count, NULL};
    int fds[2];
    int status;
    uint64_t total = 0;
    ssize_t size;
    (void)snprintf(count, sizeof count, "%llu", (unsigned long long)OUTPUT_BYTES);
    for (size_t at = 0; at < sizeof expected; at++) {
        expected[at] = child_byte(at);
    }
    uint64_t begin = now_ns();
    pid_t pid = spawn(argv, fds);
    while ((size = read(fds[0], buffer, sizeof buffer)) > 0) {
        REQUIRE(memcmp(buffer, expected + total % CHILD_BLOCK_BYTES, (size_t)size) == 0);
        total += (uint64_t)size;
    }
    REQUIRE(size == 0 && total == OUTPUT_BYTES && read(fds[1], buffer, 1) == 0);
    REQUIRE(waitpid(pid, &status, 0) == pid && status == 0);
    uint64_t took = now_ns() - begin;
    REQUIRE(close(fds[0]) == 0 && close(fds[1]) == 0);
    free(argv[0]);
    return took;
}

static void run_output(const struct options *options)
{
    struct samples samples;
    size_t repeats = options->quick ? 1 : 3;
    samples_open(&samples, repeats);
    uint64_t resident = resident_bytes();
    resident_peak_reset();
    for (size_t at = 0; at < repeats; at++) {
        samples_add(&samples, capture());
    }
    uint64_t peak = resident_peak_bytes();
    report_begin(options, "MiB/s",
                 (double)OUTPUT_BYTES / 1048576.0 * 1e9 / (double)samples_at(&samples, 0.5));
    report_also("resident MiB", (double)(peak - resident) / 1048576.0);
    report_parameter("bytes", OUTPUT_BYTES);
    report_parameter("repeats", repeats);
    report_end();
    samples_close(&samples);
}

static const struct family families[] = {
    {"shell-*", CALLS_MAX, run_shell},
    {"shell-*-2gib", CALLS_MAX, run_shell_big},
    {"output", 0, run_output},
};

int main(int argc, char **argv)
{
    int status;
    if (child_main(argc, argv, &status)) {
        return status;
    }
    return measure_main(argc, argv, "posix_spawn", "glibc", families,
                        sizeof families / sizeof families[0]);
}
