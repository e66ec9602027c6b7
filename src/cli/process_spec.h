/*
 * process_spec.h: how a program is to be run, read from JSON: the members that the input of the
 * tool `shell` and the entries of a tools file have in common.
 */
#ifndef CLI_PROCESS_SPEC_H
#define CLI_PROCESS_SPEC_H

#include <toolring/tool.h>

#include "order.h"

enum {
    CLI_PROCESS_LIMITS = 11 /**< resource limits that have a name here */
};

/** The members that cli_process_read reads, for lists of known members. */
#define CLI_PROCESS_MEMBERS                                                                        \
    "cwd", "env", "clear_env", "keep_input_open", "merge", "terminal", "grace_ms",                 \
        "output_bytes_max", "overflow", "spill", "lifetime", "umask", "nice", "limits",            \
        "memory_bytes_max", "cpu_percent_max", "processes_max"

/** A specification and what it points to. */
struct cli_process {
    tr_process_spec spec;  /**< argv, shell, input and timeout are left to the caller */
    char **environment;    /**< NULL-ended "NAME=value" or "NAME"; NULL: nothing added */
    char *directory;       /**< working directory; NULL: the host's */
    char *spill_directory; /**< where spill files go; NULL: none */
    tr_process_limit limits[CLI_PROCESS_LIMITS];
};

/** Reads the members. `directory` is where relative paths begin, or NULL. `process` must stay
 *  where it is: its specification points into it.
 *  Returns false with the fault; cli_process_done is due either way. */
bool cli_process_read(const json_t *object, const char *directory, struct cli_process *process,
                      struct cli_fault *ret_fault);

/** Frees what the specification points to. */
void cli_process_done(struct cli_process *process);

#endif
