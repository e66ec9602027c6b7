/*
 * declared.h: the process tools of a tools file.
 */
#ifndef CLI_DECLARED_H
#define CLI_DECLARED_H

#include <toolring/tool.h>

#include "order.h"
#include "process_spec.h"
#include "template.h"

struct cli_tools;

/** One entry of the file. */
struct cli_declared {
    char *name;                 /**< the tool's */
    struct cli_template *argv;  /**< program and arguments */
    size_t argv_count;          /**< at least 1 */
    struct cli_template input;  /**< standard input; empty: none */
    const char **fields;        /**< NULL-ended: names the templates use */
    struct cli_process process; /**< how it is run, but for arguments and input */
    tr_options options;         /**< route, delivery, continuation, timeout */
    tr_tool_id id;              /**< in the engine, once registered */
    struct cli_tools *tools;    /**< whose it is */
};

/** Reads one entry. `directory` is where relative paths begin, or NULL.
 *  Returns false with the fault; cli_declared_done is due either way. */
bool cli_declared_read(struct cli_declared *declared, json_t *entry, const char *directory,
                       struct cli_fault *ret_fault);

/** Frees an entry. */
void cli_declared_done(struct cli_declared *declared);

/** Function of the tool; `context` is its struct cli_declared. Awaits. */
int cli_declared_call(tr_call *call, void *context);

#endif
