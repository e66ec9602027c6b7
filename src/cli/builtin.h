/*
 * builtin.h: the functions of the built-in tools. The context of shell is the struct cli_tools, of
 * the others the directory where relative paths begin (a string), or NULL for the current one.
 */
#ifndef CLI_BUILTIN_H
#define CLI_BUILTIN_H

#include <toolring/tool.h>

int cli_builtin_echo(tr_call *call, void *context);       /**< {text} */
int cli_builtin_sleep(tr_call *call, void *context);      /**< {ms}; awaits */
int cli_builtin_shell(tr_call *call, void *context);      /**< {command | argv, …}; awaits */
int cli_builtin_read_file(tr_call *call, void *context);  /**< {path, offset, limit} */
int cli_builtin_write_file(tr_call *call, void *context); /**< {path, content, append} */
int cli_builtin_list_dir(tr_call *call, void *context);   /**< {path} */

#endif
