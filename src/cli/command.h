/*
 * command.h: running a command for a call and making its result, for the shell tool and for the
 * tools of a tools file.
 */
#ifndef CLI_COMMAND_H
#define CLI_COMMAND_H

#include <toolring/process.h>

struct cli_tools;

/** Runs a command and sets the result. `name` is what it is called in messages. Input that shall be
 *  kept open is not when no order will come any more.
 *  Returns 0 if it exited with 0, TR_ETOOL if otherwise or by a signal, TR_ETIMEDOUT if the spec's
 *  timeout stopped it, TR_ELIMIT if its output did, TR_ECANCELED if the call was stopped; or why it
 *  could not start. */
int cli_command_run(tr_call *call, struct cli_tools *tools, tr_process_spec *spec,
                    const char *name);

#endif
