/*
 * doctor.h: the command `toolring doctor`.
 */
#ifndef CLI_DOCTOR_H
#define CLI_DOCTOR_H

/** The command: takes its arguments, returns 0 if the engine can run here, 1 if not, 2 wrong
 *  usage. */
int cli_doctor(int argument_count, char **arguments);

#endif
