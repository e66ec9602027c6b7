/*
 * usage.h: the help texts.
 */
#ifndef CLI_USAGE_H
#define CLI_USAGE_H

extern const char cli_help_program[]; /**< toolring --help */
extern const char cli_help_run[];     /**< toolring run --help */
extern const char cli_help_doctor[];  /**< toolring doctor --help */

#endif
