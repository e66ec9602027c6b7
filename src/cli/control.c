/*
 * control.c: signals, the end of the run, and the status line, on a thread of its own.
 *
 * Threads: the control thread; cli_control_stop from any. Calls the book (interrupt, stop), the
 * engine (close) and the tally (status line).
 *
 * SIGINT, SIGTERM, SIGQUIT and SIGHUP are blocked in every thread and read from a signalfd, so that
 * they are obeyed in ordinary code. The first SIGINT interrupts all turns with foreground work; the
 * second, another of them or a broken output ends the run (SIGQUIT too: to die of a key would leave
 * behind what the programs have started): intake stops and the manager is closed without drain
 * time, which cancels and kills what runs. Every accepted call still gets its line. A further
 * signal, when the manager is closed but the lines cannot be written because nobody reads them,
 * gives up.
 *
 * Invariants:
 *  1. Only this thread calls tr_manager_close, once; at the ordinary end too.
 *  2. It never takes the output's lock, so it answers although the output is stuck.
 *  3. It wakes up by itself only while a status line is shown (10 times a second at most).
 */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "run.h"

enum {
    STATUS_INTERVAL_MS = 100
};

static void close_fd(int *fd)
{
    if (*fd >= 0)
        (void)close(*fd); /* an eventfd or signalfd: nothing is lost */
    *fd = -1;
}

static void post(int fd)
{
    uint64_t one = 1;
    (void)!write(fd, &one, sizeof(one)); /* an eventfd takes it, or is set already */
}

int cli_control_open(struct cli_control *control)
{
    *control = (struct cli_control){.signal_fd = -1, .stop_fd = -1, .quit_fd = -1, .done_fd = -1};
    struct sigaction ignore = {.sa_handler = SIG_IGN};
    struct sigaction former;
    sigset_t signals;
    (void)sigemptyset(&signals); /* these cannot fail with signals that exist */
    (void)sigaddset(&signals, SIGINT);
    (void)sigaddset(&signals, SIGTERM);
    (void)sigaddset(&signals, SIGQUIT);
    /* Under nohup a hangup is ignored and stays so. */
    if (sigaction(SIGHUP, NULL, &former) == 0 && former.sa_handler != SIG_IGN)
        (void)sigaddset(&signals, SIGHUP);
    /* What cannot be written, to a closed pipe or to a file at its bound, is told by write. */
    if (sigaction(SIGPIPE, &ignore, NULL) < 0 || sigaction(SIGXFSZ, &ignore, NULL) < 0 ||
        sigprocmask(SIG_BLOCK, &signals, NULL) < 0)
        return -errno;
    control->signal_fd = signalfd(-1, &signals, SFD_CLOEXEC | SFD_NONBLOCK);
    control->stop_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    control->quit_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    control->done_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (control->signal_fd < 0 || control->stop_fd < 0 || control->quit_fd < 0 ||
        control->done_fd < 0) {
        int status = -errno;
        cli_control_close(control);
        return status;
    }
    return 0;
}

void cli_control_close(struct cli_control *control)
{
    close_fd(&control->signal_fd);
    close_fd(&control->stop_fd);
    close_fd(&control->quit_fd);
    close_fd(&control->done_fd);
}

void cli_control_stop(struct cli_control *control)
{
    post(control->stop_fd);
}

void cli_control_join(struct cli_control *control)
{
    post(control->done_fd);
    (void)pthread_join(control->thread, NULL); /* a thread that was started, joined once */
}

/* Ends the run. Blocks until the manager is closed: a grace or two. Signals that came meanwhile
 * asked for what is done; only a later one gives up. */
static void end_run(struct cli_run *run)
{
    struct signalfd_siginfo information;
    if (run->control.closed)
        return;
    run->control.closed = true;
    cli_book_stop(&run->book);
    post(run->control.quit_fd);
    run->control.close_status = tr_manager_close(run->manager, 0);
    while (read(run->control.signal_fd, &information, sizeof(information)) > 0)
        continue;
}

static void obey_interrupt(struct cli_run *run)
{
    if (run->control.signals++ > 0) {
        if (!run->output.quiet)
            cli_output_say(&run->output, "interrupted again: cancelling everything");
        run->control.by_signal = true;
        end_run(run);
        return;
    }
    size_t turns = cli_book_interrupt_all(&run->book, "interrupted by SIGINT");
    if (!run->output.quiet)
        cli_output_say(&run->output, "interrupted %zu turn%s with foreground work; once more ends",
                       turns, turns == 1 ? "" : "s");
}

static void obey_signals(struct cli_run *run)
{
    struct signalfd_siginfo information;
    while (read(run->control.signal_fd, &information, sizeof(information)) ==
           (ssize_t)sizeof(information)) {
        if (run->control.closed) {
            cli_output_say(&run->output, "gave up writing the remaining results");
            _exit(CLI_EXIT_INCOMPLETE);
        }
        if (information.ssi_signo == SIGINT) {
            obey_interrupt(run);
            continue;
        }
        if (!run->output.quiet)
            cli_output_say(&run->output, "SIG%s: cancelling everything",
                           sigabbrev_np((int)information.ssi_signo));
        run->control.by_signal = true;
        end_run(run);
    }
}

/* Whether an eventfd was posted; takes what was posted. */
static bool taken(int fd)
{
    uint64_t count;
    return read(fd, &count, sizeof(count)) == (ssize_t)sizeof(count);
}

static void *control_thread(void *context)
{
    struct cli_run *run = context;
    const struct cli_control *control = &run->control;
    int interval_ms = run->output.status_live ? STATUS_INTERVAL_MS : -1;
    for (;;) {
        struct pollfd polls[] = {{.fd = control->signal_fd, .events = POLLIN},
                                 {.fd = control->stop_fd, .events = POLLIN},
                                 {.fd = control->done_fd, .events = POLLIN}};
        (void)poll(polls, 3, interval_ms); /* valid descriptors; EINTR: look at all of them */
        if (taken(control->done_fd))
            break;
        obey_signals(run);
        if (taken(control->stop_fd))
            end_run(run);
        if (run->output.status_live && !control->closed)
            cli_tally_status(&run->tally, run->manager, &run->output);
    }
    cli_output_status(&run->output, "");
    return NULL;
}

int cli_control_start(struct cli_run *run)
{
    return -pthread_create(&run->control.thread, NULL, control_thread, run);
}
