/*
 * descriptor: closing one once, and what older headers do not know about those of processes.
 */
#ifndef TR__BASE_DESCRIPTOR_H
#define TR__BASE_DESCRIPTOR_H

#include <sys/wait.h>
#include <unistd.h>

#ifndef P_PIDFD
#define P_PIDFD 3 /* glibc before 2.36 */
#endif
#ifndef PIDFD_SIGNAL_PROCESS_GROUP
#define PIDFD_SIGNAL_PROCESS_GROUP (1U << 2) /* Linux 6.9 */
#endif

/* Closes what is open, and says in *fd that it is not any more. For descriptors through which
 * nothing was written that an error could tell of: whatever close answers, it is gone. */
static inline void tr__descriptor_close(int *fd)
{
    if (*fd >= 0) {
        (void)close(*fd);
        *fd = -1;
    }
}

#endif
