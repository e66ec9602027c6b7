/*
 * refuse.c: see refuse.h.
 */
#include "support/refuse.h"

#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "support/case.h"

enum {
    REFUSALS_MAX = 8,
    PER_REFUSAL = 5, /* instructions */
};

/* The low half of a 64-bit argument. */
static uint32_t offset_of(int argument)
{
    size_t half = __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__ ? 0 : 4;
    return (uint32_t)(offsetof(struct seccomp_data, args) + (size_t)argument * 8 + half);
}

bool refuse_calls(const struct refusal *refusals, unsigned count, int error)
{
    struct sock_filter filter[PER_REFUSAL * REFUSALS_MAX + 1];
    uint32_t answer =
        error == REFUSE_DEADLY ? SECCOMP_RET_KILL_PROCESS : SECCOMP_RET_ERRNO | (uint32_t)error;
    unsigned length = 0;
    CHECK(count <= REFUSALS_MAX);
    for (unsigned at = 0; at < count; at++) {
        bool any = refusals[at].argument == REFUSE_ANY;
        const struct sock_filter steps[PER_REFUSAL] = {
            BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
            BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)refusals[at].call, any ? 2 : 0, 3),
            BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offset_of(any ? 0 : refusals[at].argument)),
            BPF_JUMP(BPF_JMP | (refusals[at].bits ? BPF_JSET : BPF_JEQ) | BPF_K, refusals[at].value,
                     0, 1),
            BPF_STMT(BPF_RET | BPF_K, answer),
        };
        for (unsigned step = 0; step < PER_REFUSAL; step++) {
            filter[length++] = steps[step];
        }
    }
    const struct sock_filter allow = BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
    filter[length++] = allow;
    struct sock_fprog program = {(unsigned short)length, filter};
    CHECK_EQ_INT(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
    return syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC, &program) == 0;
}
