/*
 * tally.h: counting what became of the calls, for the status line, the summary and the exit status.
 */
#ifndef CLI_TALLY_H
#define CLI_TALLY_H

#include <pthread.h>
#include <toolring.h>

#include "output.h"

enum {
    CLI_OUTCOMES = TR_OUTCOME_LOST + 1, /**< outcomes, "none" included */
    CLI_SLOWEST = 3,                    /**< calls named in the summary */
    CLI_RUN_BUCKETS = 64 * 16,          /**< of the histogram of run times */
};

/** One of the slowest calls. */
struct cli_slow {
    uint64_t run_ns;
    char call_id[TR_CALL_ID_BYTES_MAX + 1];
    char tool[TR_TOOL_NAME_BYTES_MAX + 1];
};

/** The counts. */
struct cli_tally {
    pthread_mutex_t lock;                 /**< guards everything */
    uint64_t began_ns;                    /**< when the program began to take calls */
    uint64_t accepted;                    /**< calls accepted */
    uint64_t ended[CLI_OUTCOMES];         /**< calls ended, by outcome */
    uint64_t not_started;                 /**< of those: never started */
    uint64_t detached;                    /**< calls that became background */
    uint64_t faults;                      /**< input lines that could not be used */
    uint64_t runs[CLI_RUN_BUCKETS];       /**< histogram of run times of the started ones */
    struct cli_slow slowest[CLI_SLOWEST]; /**< slowest first */
    uint64_t shown_ns;                    /**< when the status line was shown last … */
    uint64_t shown_ended;                 /**< … and how many had ended then */
    uint64_t rate;                        /**< calls ended per second lately */
};

/** Prepares the counts; time begins to count. */
void cli_tally_init(struct cli_tally *tally);

/** Counts a call in. */
void cli_tally_accept(struct cli_tally *tally);

/** Counts an input line that could not be used. */
void cli_tally_fault(struct cli_tally *tally);

/** Counts items whose lines are written. */
void cli_tally_settle(struct cli_tally *tally, const tr_item *items, size_t count);

/** Shows the status line. */
void cli_tally_status(struct cli_tally *tally, tr_manager *manager,
                      const struct cli_output *output);

/** Shows the summary on standard error. */
void cli_tally_summary(struct cli_tally *tally);

/** The exit status that follows from the counts: 0, 1 or 2. */
int cli_tally_exit_status(struct cli_tally *tally);

/** Now, in nanoseconds of CLOCK_MONOTONIC. */
uint64_t cli_now_ns(void);

/** Whether colours suit standard error (or `fd`): a terminal, and NO_COLOR is not set. */
bool cli_colours(int fd);

#endif
