/*
 * run.c: the command `toolring run`: opens everything in order, lets it run, closes it in reverse.
 *
 * Thread: main, which is the reader while the run lasts. Calls every other part of the command.
 *
 * Order: signals are blocked first (every later thread inherits that), then the manager, the queue,
 * the threads. At the end of the input the reader waits until no call is left, then asks the
 * control thread to close the manager; that ends the writer and the event thread, each after its
 * last line.
 *
 * Invariants:
 *  1. The manager is freed only when no thread of ours is left that could use it.
 *  2. If its close had to leave a C function behind, it is not freed at all: the process ends
 *     anyway.
 *  3. What could not be opened is said in words, with exit status 3; wrong usage is 2.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "run.h"

enum {
    MESSAGE_ROOM = 1024,
    TOOLS_ROOM = 16,
    PROCESSES_DEFAULT = 1024,
    DESCRIPTORS_MOST = 7,  /* of a process: pidfd, three pipes, two files, one to spawn it */
    DESCRIPTORS_LEAST = 3, /* of one without input and files: pidfd, two pipes */
    DESCRIPTORS_OWN = 256, /* the engine's, the program's, files of plain tools */
};

/* The engine's own bound: what a call asks to be kept (output_bytes_max) shall reach its line. */
#define RESULT_BYTES_MAX (UINT64_C(1) << 30)

/* How many commands may run at once: what was asked for, as far as descriptors reach, counting the
 * least for each; else the default, counting the most. Raises the soft limit for that, no further:
 * children inherit it. */
static uint32_t processes_max(uint32_t asked)
{
    struct rlimit limit;
    uint32_t wanted = asked != 0 ? asked : PROCESSES_DEFAULT;
    rlim_t each = asked != 0 ? DESCRIPTORS_LEAST : DESCRIPTORS_MOST;
    rlim_t raised = (rlim_t)wanted * DESCRIPTORS_MOST + DESCRIPTORS_OWN;
    rlim_t needed = (rlim_t)wanted * each + DESCRIPTORS_OWN;
    if (getrlimit(RLIMIT_NOFILE, &limit) < 0 || limit.rlim_cur >= raised)
        return wanted;
    rlim_t former = limit.rlim_cur;
    limit.rlim_cur = limit.rlim_max < raised ? limit.rlim_max : raised;
    if (setrlimit(RLIMIT_NOFILE, &limit) < 0)
        limit.rlim_cur = former;
    if (limit.rlim_cur >= needed)
        return wanted;
    return limit.rlim_cur < DESCRIPTORS_OWN + each
               ? 1
               : (uint32_t)((limit.rlim_cur - DESCRIPTORS_OWN) / each);
}

const char *cli_engine_failure(int status, const char *message)
{
    if (message[0] != '\0')
        return message;
    if (status == TR_EAGAIN)
        return "no thread could be made; processes (ulimit -u) or memory (ulimit -v) are scarce";
    return tr_error_message(status);
}

static int open_manager(struct cli_run *run)
{
    char message[MESSAGE_ROOM] = "";
    tr_config config = TR_CONFIG_INIT;
    config.flags = (run->arguments.no_threads ? TR_MANAGER_INLINE : 0) |
                   (run->arguments.group_only ? TR_MANAGER_NO_CGROUP : 0) |
                   (run->arguments.subreaper ? TR_MANAGER_SUBREAPER : 0);
    config.cgroup_path = run->arguments.cgroup;
    run->tools.is_inline = run->arguments.no_threads;
    config.workers = run->arguments.workers;
    config.tasks_max = run->arguments.tasks_max;
    /* A call that awaits waits for a stack before it is accepted; a child refused for want of room
     * would fail it. So there are never more stacks than children allowed, less an inline one. */
    config.fibers_max = processes_max(run->arguments.processes_max);
    config.processes_max = config.fibers_max + 1;
    config.result_bytes_max = RESULT_BYTES_MAX;
    config.tools_max = (uint32_t)cli_tools_count(&run->tools) + TOOLS_ROOM;
    config.message = message;
    config.message_size = sizeof(message);
    int status = tr_manager_open(&config, &run->manager);
    if (status < 0) {
        cli_say("cannot start the engine: %s (%s)", cli_engine_failure(status, message),
                tr_error_name(status));
        cli_say("`toolring doctor` examines this machine");
    }
    return status;
}

/* Opens what hangs on the manager. Returns 0, or an exit status after having said what is wrong. */
static int open_parts(struct cli_run *run)
{
    const char *name = "";
    int status = cli_tools_register(&run->tools, run->manager, &name);
    if (status < 0) {
        cli_say("cannot register tool \"%s\": %s", name,
                status == TR_EEXIST ? "there is one of that name" : tr_error_message(status));
        return CLI_EXIT_USAGE;
    }
    status = tr_queue_open(run->manager, &run->queue);
    if (status == 0)
        status = cli_book_init(&run->book, run->manager, run->queue);
    if (status == 0 && run->arguments.events)
        status = tr_reader_open(run->manager, NULL, &run->event_reader);
    if (status == 0)
        return 0;
    cli_say("cannot start the engine: %s", tr_error_message(status));
    return CLI_EXIT_ENGINE;
}

static int start_writer(struct cli_run *run)
{
    (void)sem_init(&run->writer_ready, 0, 0); /* cannot fail with these arguments */
    int status = -pthread_create(&run->writer, NULL, cli_results_thread, run);
    if (status < 0)
        return status;
    while (sem_wait(&run->writer_ready) < 0)
        continue; /* EINTR */
    return run->writer_able ? 0 : -ENOMEM;
}

/* Starts the threads. If one cannot be started the process must end: the others are running. */
static int start_threads(struct cli_run *run)
{
    int status = start_writer(run);
    if (status == 0 && run->event_reader != NULL)
        status = -pthread_create(&run->events, NULL, cli_events_thread, run);
    if (status == 0)
        status = cli_control_start(run);
    if (status == 0)
        return 0;
    cli_say("cannot start a thread: %s", strerror(-status));
    cli_say("`toolring doctor` examines this machine");
    return CLI_EXIT_ENGINE;
}

static void finish(struct cli_run *run)
{
    cli_book_wait_idle(&run->book);
    cli_control_stop(&run->control);
    (void)pthread_join(run->writer, NULL); /* threads that were started, each joined once */
    if (run->event_reader != NULL)
        (void)pthread_join(run->events, NULL); /* as above */
    cli_control_join(&run->control);
}

static int exit_status(struct cli_run *run)
{
    int status = cli_tally_exit_status(&run->tally);
    if (cli_output_error(&run->output) != 0)
        return CLI_EXIT_INCOMPLETE;
    if (status == CLI_EXIT_OK && run->control.by_signal)
        return CLI_EXIT_INCOMPLETE;
    return status;
}

/* Everything from the open manager on. Returns the exit status. */
static int run_engine(struct cli_run *run, int fd)
{
    int status = open_parts(run);
    if (status != 0) {
        (void)tr_manager_close(run->manager, 0); /* nothing was launched */
        tr_manager_free(run->manager);
        return status;
    }
    cli_tally_init(&run->tally);
    cli_output_init(&run->output, run->arguments.quiet, fd, run->control.stop_fd);
    status = start_threads(run);
    if (status != 0)
        _exit(status);
    cli_intake(run, fd);
    finish(run);
    if (!run->arguments.quiet)
        cli_tally_summary(&run->tally);
    status = exit_status(run);
    if (run->control.close_status == TR_EBUSY) {
        cli_say("a tool has not returned; its thread was left behind");
        _exit(status == CLI_EXIT_OK ? CLI_EXIT_INCOMPLETE : status);
    }
    (void)sem_destroy(&run->writer_ready); /* nobody waits for it any more */
    cli_book_done(&run->book);
    tr_reader_close(run->event_reader);
    tr_manager_free(run->manager);
    cli_output_done(&run->output);
    return status;
}

int cli_run(int argument_count, char **arguments)
{
    struct cli_run *run = calloc(1, sizeof(*run));
    if (run == NULL) {
        cli_say("out of memory");
        return CLI_EXIT_ENGINE;
    }
    int fd = STDIN_FILENO;
    cli_inputs_init(&run->tools.inputs);
    int status = cli_arguments_read(argument_count, arguments, &run->arguments);
    bool over = status != 0 || run->arguments.help;
    if (!over && run->arguments.file != NULL) {
        fd = open(run->arguments.file, O_RDONLY | O_CLOEXEC);
        if (fd < 0) {
            cli_say("cannot open %s: %s", run->arguments.file, strerror(errno));
            status = CLI_EXIT_USAGE;
        }
    }
    if (!over && status == 0)
        status = cli_tools_load(&run->tools, run->arguments.tools, run->arguments.directory);
    if (!over && status == 0) {
        status = cli_control_open(&run->control);
        if (status < 0) {
            cli_say("cannot prepare for signals: %s", strerror(-status));
            status = CLI_EXIT_ENGINE;
        } else {
            status = open_manager(run) < 0 ? CLI_EXIT_ENGINE : run_engine(run, fd);
            cli_control_close(&run->control);
        }
    }
    if (fd > STDERR_FILENO)
        (void)close(fd); /* read only: nothing can be lost */
    cli_tools_done(&run->tools);
    free(run);
    return status;
}
