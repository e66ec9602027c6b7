/*
 * input.h: what the program's tools share: reading a call's input, reporting, paths.
 * Written on toolring/tool.h alone, as are the tools.
 */
#ifndef CLI_INPUT_H
#define CLI_INPUT_H

#include <jansson.h>
#include <toolring/tool.h>

#include "order.h"
#include "text.h"

/** Ends a call as failed: sets the result {"error":MESSAGE}. Returns `code`, to be returned. */
int cli_tool_fail(tr_call *call, int code, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/** Sets a finished text as the call's result and frees or hands over its bytes.
 *  Returns `code`, or what went wrong with the result. */
int cli_tool_result(tr_call *call, struct cli_text *text, int code);

/** Reads a call's input: an object with no other members than the NULL-ended `known` (any, if
 *  that is NULL). Returns NULL after having set the result; the call then ends with TR_EINVAL. */
json_t *cli_tool_input(tr_call *call, const char *const *known);

/** Reads a member that is any string, zero bytes allowed. Returns false with the fault;
 *  `ret_bytes->data` is NULL if there is no such member. */
bool cli_input_bytes(const json_t *input, const char *name, tr_bytes *ret_bytes,
                     struct cli_fault *ret_fault);

/** A path as seen from `directory` (absolute, or NULL for the current one). Returns memory to be
 *  freed, or NULL if there is none. */
char *cli_path_join(const char *directory, const char *path);

/** What an errno (not negated) means, in words; thread-safe. */
const char *cli_errno_text(int number, char room[128]);

#endif
