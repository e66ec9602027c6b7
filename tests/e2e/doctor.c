/*
 * The program where a seccomp filter refuses system calls of io_uring: what `toolring doctor` says
 * is what `toolring run` then does. The program is the one that TOOLRING names, see scripts/test.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "support/case.h"
#include "support/refuse.h"

enum {
    OUTPUT_ROOM = 16384
};

/* Becomes the program, with this system call refused; its standard input is empty, its outputs go
 * to `fd`. */
static void become_program(long call, const char *command, const char *option, int fd)
{
    const struct refusal refusal = {call, REFUSE_ANY, 0, false};
    const char *program = getenv("TOOLRING");
    int nothing = open("/dev/null", O_RDONLY);
    if (nothing >= 0 && dup2(nothing, STDIN_FILENO) >= 0 && dup2(fd, STDOUT_FILENO) >= 0 &&
        dup2(fd, STDERR_FILENO) >= 0 && refuse_calls(&refusal, 1, EPERM)) {
        (void)execl(program, program, command, option, (char *)NULL);
    }
    _exit(100);
}

/* Runs the program so. Returns its exit status; `output` receives what it wrote. */
static int run_refused(long call, const char *command, const char *option, char output[OUTPUT_ROOM])
{
    int pipe_fds[2];
    size_t size = 0;
    ssize_t got;
    int status = 0;
    CHECK_EQ_INT(pipe(pipe_fds), 0);
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        become_program(call, command, option, pipe_fds[1]);
    }
    (void)close(pipe_fds[1]);
    while ((got = read(pipe_fds[0], output + size, OUTPUT_ROOM - 1 - size)) > 0) {
        size += (size_t)got;
    }
    output[size] = '\0';
    (void)close(pipe_fds[0]);
    CHECK_EQ_INT(waitpid(child, &status, 0), child);
    CHECK(WIFEXITED(status));
    return WEXITSTATUS(status);
}

static void check_says(const char *output, const char *text)
{
    if (strstr(output, text) == NULL) {
        case_fail(__FILE__, __LINE__, "no \"%s\" in: %s", text, output);
    }
}

CASE(doctor, says_that_io_uring_is_refused)
{
    char output[OUTPUT_ROOM];
    if (getenv("TOOLRING") == NULL) {
        SKIP("TOOLRING does not name the program");
    }
    CHECK_EQ_INT(run_refused(SYS_io_uring_setup, "doctor", NULL, output), 1);
    check_says(output, "fail  io_uring           refused: Operation not permitted\n");
    check_says(output, "fail  engine             does not start: TR_ERING\n");
    check_says(output, "The engine cannot run here");
    CHECK_EQ_INT(run_refused(SYS_io_uring_setup, "run", NULL, output), 3);
    check_says(output, "toolring: cannot start the engine: io_uring refused by kernel");
    CHECK_EQ_INT(run_refused(SYS_io_uring_setup, "run", "--inline", output), 0);
}

/* The ring can be made, but not used: no fact shows that. */
CASE(doctor, says_that_a_ring_which_was_made_does_not_work)
{
    char output[OUTPUT_ROOM];
    if (getenv("TOOLRING") == NULL) {
        SKIP("TOOLRING does not name the program");
    }
    CHECK_EQ_INT(run_refused(SYS_io_uring_enter, "doctor", NULL, output), 1);
    check_says(output, "fail  engine             does not start: TR_ERING\n");
    check_says(output, "io_uring_enter: Operation not permitted");
    check_says(output, "The engine cannot run here");
    CHECK_EQ_INT(run_refused(SYS_io_uring_enter, "run", NULL, output), 3);
    check_says(output, "toolring: cannot start the engine: io_uring_enter: ");
}
