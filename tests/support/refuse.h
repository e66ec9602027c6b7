/* Refusing: a kernel that answers some system calls with an error, played by a seccomp filter.
 */
#ifndef TR__TESTS_SUPPORT_REFUSE_H
#define TR__TESTS_SUPPORT_REFUSE_H

#include <stdbool.h>
#include <stdint.h>

#define REFUSE_ANY (-1)
#define REFUSE_DEADLY (-1)

/* Calls of this number: all, those with this value as an argument, or with any of its bits. */
struct refusal {
    long call;      /* SYS_… */
    int argument;   /* 0 to 5, or REFUSE_ANY: whatever the arguments are */
    uint32_t value; /* of the argument's low half */
    bool bits;      /* any of these bits */
};

/* From here on these calls fail with this errno, in every thread of this process and its children,
 * for good; 0: they do nothing and say that they did; REFUSE_DEADLY: they end the process. False:
 * this kernel has no filters. */
bool refuse_calls(const struct refusal *refusals, unsigned count, int error);

#endif
