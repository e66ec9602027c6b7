/*
 * run.h: the parts of `toolring run` and what they share.
 *
 *   reader (main)  lines ─ order ─ intake ─▶ tr_launch
 *   writer         tr_queue_drain ─▶ result lines ─▶ book.settle (wakes the reader's waits)
 *   control        signals, the end, the status line; the only one that closes the manager
 *   events         tr_reader_read ─▶ event lines, with --events
 */
#ifndef CLI_RUN_H
#define CLI_RUN_H

#include <pthread.h>
#include <semaphore.h>
#include <toolring.h>

#include "book.h"
#include "order.h"
#include "output.h"
#include "tally.h"
#include "tools.h"

/** Exit statuses. */
enum {
    CLI_EXIT_OK = 0,         /**< every call completed */
    CLI_EXIT_INCOMPLETE = 1, /**< some call did not */
    CLI_EXIT_USAGE = 2,      /**< bad usage, or input lines that could not be used */
    CLI_EXIT_ENGINE = 3,     /**< the engine could not start */
};

/** What the command line said. */
struct cli_arguments {
    const char *file;       /**< input; NULL: standard input */
    const char *tools;      /**< tools file; NULL: none */
    const char *directory;  /**< where relative paths begin; NULL: the current directory */
    bool events;            /**< write event lines */
    bool quiet;             /**< no status line, no summary */
    bool no_threads;        /**< inline manager */
    const char *cgroup;     /**< where the trees of programs go; NULL: where the engine finds */
    bool group_only;        /**< no cgroup */
    bool subreaper;         /**< where there is no cgroup, search for what programs left behind */
    bool help;              /**< show the help and nothing else */
    uint32_t workers;       /**< 0: the engine's default */
    uint32_t tasks_max;     /**< 0: the engine's default */
    uint32_t processes_max; /**< commands and sleeps at once; 0: the default */
};

/** Signals and the end. */
struct cli_control {
    pthread_t thread;
    int signal_fd;    /**< SIGINT, SIGTERM, SIGQUIT, SIGHUP */
    int stop_fd;      /**< eventfd: end the run */
    int quit_fd;      /**< eventfd: the reader shall read no more */
    int done_fd;      /**< eventfd: everything is written, the thread shall end */
    unsigned signals; /**< SIGINTs obeyed so far */
    bool closed;      /**< the manager is closed */
    bool by_signal;   /**< a signal ended the run */
    int close_status; /**< what tr_manager_close said */
};

/** A run. */
struct cli_run {
    struct cli_arguments arguments;
    tr_manager *manager;
    tr_queue *queue;
    tr_reader *event_reader; /**< NULL without --events */
    struct cli_tools tools;
    struct cli_book book;
    struct cli_output output;
    struct cli_tally tally;
    struct cli_control control;
    pthread_t writer, events;
    sem_t writer_ready; /**< posted by the writer, once */
    bool writer_able;   /**< it has memory; written before that post */
};

/** The command: takes its arguments, returns the exit status. */
int cli_run(int argument_count, char **arguments);

/** Why the engine did not start: what it said itself, or what the code means then. */
const char *cli_engine_failure(int status, const char *message);

/** Reads the command's arguments. Returns 0, or the exit status after having said what is wrong. */
int cli_arguments_read(int argument_count, char **arguments, struct cli_arguments *ret_arguments);

/** Opens descriptors and blocks the signals, before any thread is there. 0 or a negative errno. */
int cli_control_open(struct cli_control *control);

/** Starts the control thread. Returns 0 or a negative errno. */
int cli_control_start(struct cli_run *run);

/** Asks for the end of the run: intake stops, the manager is closed. Any thread. */
void cli_control_stop(struct cli_control *control);

/** Ends the control thread and waits for it. */
void cli_control_join(struct cli_control *control);

/** Closes the descriptors. */
void cli_control_close(struct cli_control *control);

/** Reads orders from `fd` and carries them out, to the end of the stream or of the run. */
void cli_intake(struct cli_run *run, int fd);

/** Carries out an order to a program: input, signal, resize, output. Returns false with the fault.
 *  May sleep until the program is there or takes its input, up to the order's timeout. */
bool cli_steer(struct cli_run *run, const struct cli_order *order, struct cli_fault *fault);

/** No order will come any more: closes the inputs that are kept open. Sleeps until each of them is
 *  closed or the run is stopped. */
void cli_steer_close_inputs(struct cli_run *run);

/** Thread of the writer: `run` is a struct cli_run. Ends when the manager is closed and empty. */
void *cli_results_thread(void *run);

/** Writes the lines of a batch, settles its items and releases it. */
void cli_results_deliver(struct cli_run *run, tr_batch *batch);

/** Thread of the events: as cli_results_thread. */
void *cli_events_thread(void *run);

#endif
