/*
 * tools.h: the tools a run has: the built-in ones and those of a tools file.
 */
#ifndef CLI_TOOLS_H
#define CLI_TOOLS_H

#include <toolring.h>

#include "order.h"

struct cli_declared;

/** The tools of a run. */
struct cli_tools {
    char *directory; /**< where relative paths begin, absolute; NULL: the current one */
    struct cli_declared *declared; /**< tools of the tools file */
    size_t declared_count;         /**< how many */
};

/** Reads a tools file, if `path` is not NULL, and finds the directory, if that is not NULL.
 *  Returns 0, or CLI_EXIT_USAGE after having said what is wrong. */
int cli_tools_load(struct cli_tools *tools, const char *path, const char *directory);

/** Registers the built-in and the declared tools. Returns 0 or a negative code; *ret_name is then
 *  the tool that could not be registered. */
int cli_tools_register(struct cli_tools *tools, tr_manager *manager, const char **ret_name);

/** Frees the tools, after the manager's close. */
void cli_tools_done(struct cli_tools *tools);

/** How many tools there are. */
size_t cli_tools_count(const struct cli_tools *tools);

#endif
