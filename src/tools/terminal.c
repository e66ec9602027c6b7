/*
 * terminal.c: making a pty.
 *
 * Purpose: the two ends of a terminal, for tr_spawn. Owner: the tool's thread, no state. Called by
 * spawn; calls the kernel.
 *
 * Invariants
 *  1. The slave is opened through the master where the kernel can (TIOCGPTPEER, 4.13), so that
 *     neither a mount namespace nor a renamed /dev/pts can give another terminal; else by name.
 *  2. Opening the slave does not make it our controlling terminal (O_NOCTTY).
 *  3. When it fails nothing is left open.
 *
 * Line discipline: the default, as a terminal emulator would leave it to the program: lines are
 * edited, echoed, and Control-C sends SIGINT.
 */
#include "tools/terminal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <unistd.h>

/* As of POSIX's TTY_NAME_MAX with room to spare. */
#define NAME_BYTES 64
/* What programs expect of a terminal that says nothing. */
#define ROWS_DEFAULT 24
#define COLUMNS_DEFAULT 80

static int open_slave(int master_fd)
{
    char name[NAME_BYTES];
    int flags = O_RDWR | O_NOCTTY | O_CLOEXEC;

#ifdef TIOCGPTPEER
    int peer = ioctl(master_fd, TIOCGPTPEER, flags);
    if (peer >= 0) {
        return peer;
    }
#endif
    int error = ptsname_r(master_fd, name, sizeof name);
    if (error != 0) {
        errno = error;
        return -1;
    }
    return open(name, flags);
}

/* Out of 0, 1 and 2, which are the program's. -1 with errno; the descriptor is closed then. */
static int lift(int fd)
{
    if (fd < 0 || fd > STDERR_FILENO) {
        return fd;
    }
    int lifted = fcntl(fd, F_DUPFD_CLOEXEC, STDERR_FILENO + 1);
    int error = errno;
    (void)close(fd); /* nothing was written */
    errno = error;
    return lifted;
}

int tr__terminal_open(uint16_t rows, uint16_t columns, int *ret_master_fd, int *ret_slave_fd)
{
    struct winsize size = {.ws_row = rows != 0 ? rows : ROWS_DEFAULT,
                           .ws_col = columns != 0 ? columns : COLUMNS_DEFAULT};
    int slave = -1;
    int master = lift(posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC | O_NONBLOCK));

    if (master >= 0 && grantpt(master) == 0 && unlockpt(master) == 0) {
        slave = lift(open_slave(master));
    }
    if (slave >= 0 && ioctl(slave, TIOCSWINSZ, &size) == 0) {
        *ret_master_fd = master;
        *ret_slave_fd = slave;
        return 0;
    }
    int error = -errno;
    if (slave >= 0) {
        (void)close(slave);
    }
    if (master >= 0) {
        (void)close(master);
    }
    return error;
}
