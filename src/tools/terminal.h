/*
 * terminal.h: a terminal (pty) for a program.
 */
#ifndef TR__TOOLS_TERMINAL_H
#define TR__TOOLS_TERMINAL_H

#include <stdint.h>

/*
 * Makes one of this size, with the modes a fresh terminal has. The master is ours, does not block;
 * the slave is the program's, to be closed after the spawn. Both are close-on-exec and 3 or higher.
 * 0, or a negated errno.
 */
int tr__terminal_open(uint16_t rows, uint16_t columns, int *ret_master_fd, int *ret_slave_fd);

#endif
