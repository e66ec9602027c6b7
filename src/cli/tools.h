/*
 * tools.h: the tools a run has: the built-in ones and those of a tools file.
 */
#ifndef CLI_TOOLS_H
#define CLI_TOOLS_H

#include <toolring.h>

#include "inputs.h"
#include "order.h"

struct cli_declared;

/** What a call may be told while it runs, as bits. */
enum {
    CLI_CAN_RUN = 1,    /**< it runs a program: signals, reading its output */
    CLI_CAN_INPUT = 2,  /**< its program's input is kept open */
    CLI_CAN_RESIZE = 4, /**< its program has a terminal */
};

/** The tools of a run. */
struct cli_tools {
    char *directory; /**< where relative paths begin, absolute; NULL: the current one */
    struct cli_declared *declared; /**< tools of the tools file */
    size_t declared_count;         /**< how many */
    tr_tool_id shell;              /**< the built-in tool's id, once registered */
    bool is_inline;                /**< the manager runs every call inline */
    struct cli_inputs inputs;      /**< programs whose input is kept open */
};

/** Reads a tools file, if `path` is not NULL, and finds the directory, if that is not NULL.
 *  Returns 0, or CLI_EXIT_USAGE after having said what is wrong. */
int cli_tools_load(struct cli_tools *tools, const char *path, const char *directory);

/** Registers the built-in and the declared tools. Returns 0 or a negative code; *ret_name is then
 *  the tool that could not be registered. */
int cli_tools_register(struct cli_tools *tools, tr_manager *manager, const char **ret_name);

/** What a call of a tool can be told, as CLI_CAN_… bits; `input` is the call's, or NULL. */
unsigned cli_tools_abilities(const struct cli_tools *tools, tr_tool_id tool, const json_t *input);

/** Frees the tools, after the manager's close. */
void cli_tools_done(struct cli_tools *tools);

/** How many tools there are. */
size_t cli_tools_count(const struct cli_tools *tools);

#endif
