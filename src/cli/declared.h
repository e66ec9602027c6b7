/*
 * declared.h: the process tools of a tools file.
 */
#ifndef CLI_DECLARED_H
#define CLI_DECLARED_H

#include <toolring/tool.h>

#include "order.h"
#include "template.h"

/** One entry of the file. */
struct cli_declared {
    char *name;                /**< the tool's */
    struct cli_template *argv; /**< program and arguments */
    size_t argv_count;         /**< at least 1 */
    struct cli_template input; /**< standard input; empty: none */
    const char **fields;       /**< NULL-ended: names the templates use */
    char **environment;        /**< NULL-ended "NAME=value"; NULL: nothing added */
    char *directory;           /**< working directory; NULL: the host's */
    tr_options options;        /**< route, delivery, continuation, timeout, output cap */
};

/** Reads one entry. `directory` is where relative paths begin, or NULL.
 *  Returns false with the fault; cli_declared_done is due either way. */
bool cli_declared_read(struct cli_declared *declared, json_t *entry, const char *directory,
                       struct cli_fault *ret_fault);

/** Frees an entry. */
void cli_declared_done(struct cli_declared *declared);

/** Function of the tool; `context` is its struct cli_declared. Awaits. */
int cli_declared_call(tr_call *call, void *context);

/** Reads an object of strings as "NAME=value", or "NAME" for null; NULL object: nothing. Returns
 *  false with the fault; cli_environment_done is due either way. */
bool cli_environment_read(json_t *object, char ***ret_environment, struct cli_fault *ret_fault);

/** Frees what cli_environment_read made; may be NULL. */
void cli_environment_done(char **environment);

#endif
