/*
 * Tests of engine/spawner in the calling thread (tr__spawn_now): real programs, every way to fail;
 * again with clone refused, so that posix_spawn does it. Its threads: tests/unit/spawner_threads.c.
 */
#include "engine/spawner.h"
#include "support/case.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <toolring/error.h>

#include "base/memory.h"
#include "child.h"

static int run_shell(const char *line)
{
    struct tr__spawn spawn = {.shell = line};

    CHECK_EQ_INT(tr__spawn_now(&spawn), 0);
    return child_finish(&spawn);
}

static int run_program(const char *const *argv)
{
    struct tr__spawn spawn = {.argv = argv};

    CHECK_EQ_INT(tr__spawn_now(&spawn), 0);
    return child_finish(&spawn);
}

static int fail_program(const char *program)
{
    const char *const argv[] = {program, NULL};
    struct tr__spawn spawn = {.argv = argv};
    int error = tr__spawn_now(&spawn);

    CHECK_EQ_INT(spawn.error, error);
    CHECK_EQ_INT(spawn.pid, 0);
    CHECK_EQ_INT(spawn.process_fd, -1);
    CHECK_EQ_INT(spawn.input_fd, -1);
    CHECK_EQ_INT(spawn.output_fd, -1);
    CHECK_EQ_INT(spawn.error_fd, -1);
    return error;
}

static unsigned open_descriptors(void)
{
    unsigned count = 0;

    for (int fd = 0; fd < 1024; fd++) {
        count += fcntl(fd, F_GETFD) >= 0;
    }
    return count;
}

/* A folder for one case; whoever fails leaves it. */
static const char *make_folder(void)
{
    static char folder[] = "/tmp/toolring-spawner-XXXXXX";

    CHECK(mkdtemp(folder) != NULL);
    return folder;
}

static void write_file(const char *folder, const char *name, const char *text, mode_t mode)
{
    char path[256];

    (void)snprintf(path, sizeof path, "%s/%s", folder, name);
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    CHECK(fd >= 0);
    CHECK(write(fd, text, strlen(text)) == (ssize_t)strlen(text));
    CHECK_EQ_INT(fchmod(fd, mode), 0);
    CHECK_EQ_INT(close(fd), 0);
}

static void remove_folder(const char *folder)
{
    char line[256];

    (void)snprintf(line, sizeof line, "rm -rf '%s'", folder);
    CHECK_EQ_INT(run_shell(line), 0);
}

static void check_descriptors(const struct tr__spawn *spawn)
{
    const int all[] = {spawn->process_fd, spawn->input_fd, spawn->output_fd, spawn->error_fd};

    for (size_t index = 0; index < sizeof all / sizeof *all; index++) {
        if (all[index] < 0) {
            continue;
        }
        CHECK(all[index] > 2);
        CHECK((fcntl(all[index], F_GETFD) & FD_CLOEXEC) != 0);
        if (index > 0) {
            CHECK((fcntl(all[index], F_GETFL) & O_NONBLOCK) != 0);
        }
    }
}

/* What must hold however the child is started. */
static void check_basics(void)
{
    const char *const echo[] = {"echo", "one", "two words", "", NULL};
    CHECK_EQ_INT(run_program(echo), 0);
    CHECK_EQ_STR(child_output, "one two words \n");
    CHECK_EQ_STR(child_error_output, "");

    CHECK_EQ_INT(run_shell("echo out; echo err >&2; exit 3"), 3);
    CHECK_EQ_STR(child_output, "out\n");
    CHECK_EQ_STR(child_error_output, "err\n");

    const char *const absolute[] = {"/bin/sh", "-c", "exit 7", NULL};
    CHECK_EQ_INT(run_program(absolute), 7);

    struct tr__spawn merged = {.shell = "echo a; echo b >&2; echo c", .merge_error = true};
    CHECK_EQ_INT(tr__spawn_now(&merged), 0);
    CHECK_EQ_INT(merged.error_fd, -1);
    CHECK_EQ_INT(child_finish(&merged), 0);
    CHECK_EQ_STR(child_output, "a\nb\nc\n");

    struct tr__spawn with_input = {.shell = "cat", .want_input = true};
    CHECK_EQ_INT(tr__spawn_now(&with_input), 0);
    check_descriptors(&with_input);
    CHECK_EQ_INT(getsid(with_input.pid), with_input.pid);
    CHECK_EQ_INT(getpgid(with_input.pid), with_input.pid);
    CHECK_EQ_INT(write(with_input.input_fd, "hello", 5), 5);
    CHECK_EQ_INT(close(with_input.input_fd), 0);
    CHECK_EQ_INT(child_finish(&with_input), 0);
    CHECK_EQ_STR(child_output, "hello");

    CHECK_EQ_INT(run_shell("cat; readlink /proc/self/fd/0"), 0); /* no input: at its end at once */
    CHECK_EQ_STR(child_output, "/dev/null\n");

    struct tr__spawn elsewhere = {.shell = "pwd", .directory = "/usr"};
    CHECK_EQ_INT(tr__spawn_now(&elsewhere), 0);
    CHECK_EQ_INT(child_finish(&elsewhere), 0);
    CHECK_EQ_STR(child_output, "/usr\n");
}

static void check_failures(void)
{
    const char *folder = make_folder();
    char path[256];
    unsigned before = open_descriptors();

    CHECK_EQ_INT(fail_program("no-such-program-anywhere"), -ENOENT);
    CHECK_EQ_INT(fail_program("/no/such/program"), -ENOENT);
    CHECK_EQ_INT(fail_program(""), -ENOENT);
    CHECK_EQ_INT(fail_program("/usr"), -EACCES);
    write_file(folder, "plain", "text", 0600);
    (void)snprintf(path, sizeof path, "%s/plain", folder);
    CHECK_EQ_INT(fail_program(path), -EACCES);
    write_file(folder, "lost", "#!/no/such/interpreter\n", 0700);
    (void)snprintf(path, sizeof path, "%s/lost", folder);
    CHECK_EQ_INT(fail_program(path), -ENOENT);

    const char *const echo[] = {"echo", NULL};
    struct tr__spawn nowhere = {.argv = echo, .directory = "/no/such/folder"};
    CHECK_EQ_INT(tr__spawn_now(&nowhere), -ENOENT);

    char *big = malloc(1 << 20);
    CHECK(big != NULL);
    memset(big, 'x', (1 << 20) - 1);
    big[(1 << 20) - 1] = '\0';
    const char *const too_big[] = {"echo", big, NULL};
    struct tr__spawn huge = {.argv = too_big};
    CHECK_EQ_INT(tr__spawn_now(&huge), TR_E2BIG);
    free(big);

    CHECK_EQ_INT(open_descriptors(), before);
    CHECK_EQ_INT(waitpid(-1, NULL, WNOHANG), -1); /* and no child is left */
    CHECK_EQ_INT(errno, ECHILD);
    remove_folder(folder);
}

static void check_scripts(void)
{
    const char *folder = make_folder();
    char path[256];
    char variable[600];
    const char *const change[] = {variable, NULL};

    /* No "#!": the shell runs it, as execvp would have it. */
    write_file(folder, "tr-test-script", "echo script $1\n", 0700);
    (void)snprintf(path, sizeof path, "%s/tr-test-script", folder);
    const char *const direct[] = {path, "one", NULL};
    CHECK_EQ_INT(run_program(direct), 0);
    CHECK_EQ_STR(child_output, "script one\n");

    /* Found in the child's own PATH, past a folder that has a forbidden one. */
    char forbidden[256];
    (void)snprintf(forbidden, sizeof forbidden, "%s/sub", folder);
    CHECK_EQ_INT(mkdir(forbidden, 0700), 0);
    write_file(forbidden, "tr-test-script", "echo wrong\n", 0600);
    (void)snprintf(variable, sizeof variable, "PATH=/nowhere:%s:%s:/usr/bin:/bin", forbidden,
                   folder);
    const char *const named[] = {"tr-test-script", "two", NULL};
    struct tr__spawn spawn = {.argv = named, .environment = change};
    CHECK_EQ_INT(tr__spawn_now(&spawn), 0);
    CHECK_EQ_INT(child_finish(&spawn), 0);
    CHECK_EQ_STR(child_output, "script two\n");

    /* Only the forbidden one there: that says more than "not found". */
    (void)snprintf(variable, sizeof variable, "PATH=%s:/nowhere", forbidden);
    CHECK_EQ_INT(tr__spawn_now(&spawn), -EACCES);
    remove_folder(folder);
}

CASE(spawner, runs_programs)
{
    check_basics();
}

CASE(spawner, reports_failures)
{
    check_failures();
}

CASE(spawner, runs_scripts)
{
    check_scripts();
}

CASE(spawner, refuses_bad_requests)
{
    const char *const none[] = {NULL};
    const char *const echo[] = {"echo", NULL};
    struct tr__spawn neither = {.shell = NULL};
    struct tr__spawn both = {.shell = "true", .argv = echo};
    struct tr__spawn empty = {.argv = none};

    CHECK_EQ_INT(tr__spawn_now(&neither), TR_EINVAL);
    CHECK_EQ_INT(tr__spawn_now(&both), TR_EINVAL);
    CHECK_EQ_INT(tr__spawn_now(&empty), TR_EINVAL);
}

CASE(spawner, shell_line_may_begin_with_a_dash)
{
    CHECK_EQ_INT(run_shell("-no-such-command"), 127);
}

CASE(spawner, environment)
{
    const char *const changes[] = {"TR_A=1", "TR_B=two words", "TR_HOME", "TR_A=3", "TR_E=", NULL};
    struct tr__spawn spawn = {.shell = "echo $TR_A,$TR_B,$TR_HOME,${TR_E-unset},$TR_KEPT",
                              .environment = changes};

    CHECK_EQ_INT(setenv("TR_HOME", "here", 1), 0);
    CHECK_EQ_INT(setenv("TR_KEPT", "kept", 1), 0);
    CHECK_EQ_INT(setenv("TR_B", "old", 1), 0);
    CHECK_EQ_INT(tr__spawn_now(&spawn), 0);
    CHECK_EQ_INT(child_finish(&spawn), 0);
    CHECK_EQ_STR(child_output, "3,two words,,,kept\n");

    const char *const list[] = {"env", NULL};
    const char *const only[] = {"ONLY=this", "NOTHING", NULL};
    struct tr__spawn clear = {.argv = list, .environment = only, .clear_environment = true};
    CHECK_EQ_INT(tr__spawn_now(&clear), 0);
    CHECK_EQ_INT(child_finish(&clear), 0);
    CHECK_EQ_STR(child_output, "ONLY=this\n");
}

static void ignore_signal(int number)
{
    (void)number;
}

CASE(spawner, child_has_default_signals)
{
    sigset_t some;

    CHECK(signal(SIGPIPE, SIG_IGN) != SIG_ERR);
    CHECK(signal(SIGINT, SIG_IGN) != SIG_ERR);
    CHECK(signal(SIGUSR1, ignore_signal) != SIG_ERR);
    (void)sigemptyset(&some);
    (void)sigaddset(&some, SIGTERM);
    (void)sigaddset(&some, SIGHUP);
    CHECK_EQ_INT(pthread_sigmask(SIG_BLOCK, &some, NULL), 0);
    const char *const argv[] = {"grep", "-E", "^Sig(Blk|Ign)", "/proc/self/status", NULL};
    CHECK_EQ_INT(run_program(argv), 0);
    CHECK_EQ_STR(child_output, "SigBlk:\t0000000000000000\nSigIgn:\t0000000000000000\n");

    /* The host's own are as before. */
    sigset_t now;
    struct sigaction action;
    CHECK_EQ_INT(pthread_sigmask(SIG_SETMASK, NULL, &now), 0);
    CHECK(sigismember(&now, SIGTERM) == 1 && sigismember(&now, SIGUSR2) == 0);
    CHECK_EQ_INT(sigaction(SIGUSR1, NULL, &action), 0);
    CHECK(action.sa_handler == ignore_signal);
    CHECK_EQ_INT(sigaction(SIGPIPE, NULL, &action), 0);
    CHECK(action.sa_handler == SIG_IGN);
}

CASE(spawner, child_inherits_no_other_descriptor)
{
    int fd = dup2(0, 77); /* without close-on-exec */

    CHECK_EQ_INT(fd, 77);
    CHECK_EQ_INT(run_shell("for fd in 3 4 5 6 7 8 9 10 20 77; do"
                           " [ -e /proc/$$/fd/$fd ] && echo $fd; done; true"),
                 0);
    CHECK_EQ_STR(child_output, "");
    CHECK_EQ_INT(close(77), 0);
}

CASE(spawner, works_without_standard_descriptors)
{
    pid_t host = fork();

    CHECK(host >= 0);
    if (host == 0) {
        (void)close(0);
        (void)close(1);
        (void)close(2);
        unsigned before = open_descriptors();
        struct tr__spawn spawn = {.shell = "cat; echo x; echo y >&2", .want_input = true};
        bool good = tr__spawn_now(&spawn) == 0 && spawn.process_fd > 2 && spawn.input_fd > 2 &&
                    spawn.output_fd > 2 && spawn.error_fd > 2 && fcntl(0, F_GETFD) < 0;
        good = good && write(spawn.input_fd, "in\n", 3) == 3 && close(spawn.input_fd) == 0;
        good = good && child_finish(&spawn) == 0 && strcmp(child_output, "in\nx\n") == 0 &&
               strcmp(child_error_output, "y\n") == 0 && open_descriptors() == before;
        _exit(good ? 0 : 1);
    }
    int status;
    CHECK_EQ_INT(waitpid(host, &status, 0), host);
    CHECK_EQ_INT(status, 0);
}

CASE(spawner, busy_program_is_reported_or_awaited)
{
    const char *folder = make_folder();
    char path[256];

    write_file(folder, "busy", "#!/bin/sh\nexit 5\n", 0700);
    (void)snprintf(path, sizeof path, "%s/busy", folder);
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    CHECK(fd >= 0);
    CHECK_EQ_INT(fail_program(path), -ETXTBSY);
    CHECK_EQ_INT(close(fd), 0);
    const char *const argv[] = {path, NULL};
    CHECK_EQ_INT(run_program(argv), 5);
    remove_folder(folder);
}

/* ---- nothing is left behind ---- */

CASE(spawner, leaks_no_descriptor_when_they_run_out)
{
    struct rlimit all;
    struct rlimit few;
    unsigned refused = 0;
    int highest = 0;

    while ((unsigned)highest + 1 != open_descriptors()) {
        highest = dup(0); /* fills the gaps: the limit is on the number, not on the count */
        CHECK(highest >= 0);
    }
    unsigned before = open_descriptors();
    CHECK_EQ_INT(getrlimit(RLIMIT_NOFILE, &all), 0);
    for (unsigned extra = 0; extra <= 12; extra++) {
        struct tr__spawn spawn = {.shell = "cat", .want_input = true};
        few = (struct rlimit){before + extra, all.rlim_max};
        CHECK_EQ_INT(setrlimit(RLIMIT_NOFILE, &few), 0);
        int error = tr__spawn_now(&spawn);
        CHECK_EQ_INT(setrlimit(RLIMIT_NOFILE, &all), 0);
        if (error == 0) {
            CHECK_EQ_INT(close(spawn.input_fd), 0);
            CHECK_EQ_INT(child_finish(&spawn), 0);
        } else {
            CHECK_EQ_INT(error, TR_EMFILE);
            refused += 1;
        }
        CHECK_EQ_INT(open_descriptors(), before);
    }
    CHECK_EQ_INT(refused, 7); /* three pipes and the pidfd */
    CHECK_EQ_INT(waitpid(-1, NULL, WNOHANG), -1);
}

CASE(spawner, survives_failing_allocations)
{
    unsigned before = open_descriptors();
    unsigned refused = 0;

    for (long nth = 1; nth <= 4; nth++) {
        struct tr__spawn spawn = {.shell = "true"};
        tr__memory_fail_after(nth);
        int error = tr__spawn_now(&spawn);
        tr__memory_fail_after(-1);
        if (error == 0) {
            CHECK_EQ_INT(child_finish(&spawn), 0);
        } else {
            CHECK_EQ_INT(error, TR_ENOMEM);
            refused += 1;
        }
        CHECK_EQ_INT(open_descriptors(), before);
    }
    CHECK_EQ_INT(refused, 2); /* the stack and the plan */
}

static void *spawn_and_end(void *argument)
{
    struct tr__spawn *spawn = argument;

    CHECK_EQ_INT(tr__spawn_now(spawn), 0);
    return NULL;
}

CASE(spawner, child_of_spawn_now_outlives_the_thread)
{
    struct tr__spawn spawn = {.shell = "cat", .want_input = true};
    pthread_t thread;

    CHECK_EQ_INT(pthread_create(&thread, NULL, spawn_and_end, &spawn), 0);
    CHECK_EQ_INT(pthread_join(thread, NULL), 0);
    CHECK_EQ_INT(write(spawn.input_fd, "alive", 5), 5);
    CHECK_EQ_INT(close(spawn.input_fd), 0);
    CHECK_EQ_INT(child_finish(&spawn), 0);
    CHECK_EQ_STR(child_output, "alive");
}

/* ---- posix_spawn ---- */

/* From here on, this process may not clone with CLONE_PIDFD. libc's posix_spawn does without. */
static void refuse_clone(int error)
{
    struct sock_filter program[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_clone, 0, 3),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[0])),
        BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, CLONE_PIDFD, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | (uint32_t)error),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog filter = {sizeof program / sizeof *program, program};

    CHECK_EQ_INT(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
    CHECK_EQ_INT(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter), 0);
}

CASE(spawner, posix_spawn_takes_over)
{
    refuse_clone(EPERM);
    check_basics();
    check_scripts();
}

CASE(spawner, posix_spawn_reports_failures)
{
    refuse_clone(ENOSYS);
    check_failures();
}
