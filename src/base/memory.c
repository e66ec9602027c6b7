/* Memory: mimalloc, libc or mmap behind one door. See memory.h for the contract.
 *
 * Owner: none; any thread. The only shared state is the failure hook's countdown.
 *
 * Invariants
 *  1. Every way to obtain memory asks `refused` first, so that a test that fails the n-th request
 *     for n = 1, 2, 3 ... visits every allocation of a path.
 *  2. The countdown reaches 0 by exactly one request: that one is refused, and the hook is off.
 *
 * Reservations use MAP_NORESERVE, so that address space for 16 million tasks does not count against
 * the commit limit. Where transparent huge pages are set to "always" the first touch may commit
 * 2 MiB at once: a bounded price for far fewer TLB misses, and the administrator's choice.
 */
#include "base/memory.h"

#include <errno.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/assert.h"
#include "base/atomic.h"

#if !defined(TR_LIBC_MALLOC)
#include <mimalloc.h>
#endif

static tr__atomic_u64 fail_countdown; /* 0: off; written by tests and, while on, by every request */

/* The slow half, kept away from the hot path: counts this request, says whether it is the one. */
__attribute__((cold, noinline)) static bool refused_counting(uint64_t left)
{
    while (left != 0) {
        /* acq_rel for form: the count itself is all there is to agree on */
        if (tr__cas_acq_rel(&fail_countdown, &left, left - 1)) {
            return left == 1;
        }
    }
    return false;
}

static inline bool refused(void)
{
    uint64_t left = tr__load_relaxed(&fail_countdown); /* publishes nothing: a test's switch */
    return __builtin_expect(left != 0, 0) && refused_counting(left);
}

void tr__memory_fail_after(long n)
{
    uint64_t countdown = n < 0 ? 0 : n == 0 ? 1 : (uint64_t)n;
    tr__store_relaxed(&fail_countdown, countdown); /* a test sets it before what it tests */
}

long tr__memory_fail_left(void)
{
    return (long)tr__load_relaxed(&fail_countdown); /* a test reads it after what it tested */
}

void *tr__memory_take(size_t size)
{
    if (refused()) {
        return NULL;
    }
#if defined(TR_LIBC_MALLOC)
    return malloc(size != 0 ? size : 1);
#else
    return mi_malloc(size);
#endif
}

void *tr__memory_take_zero(size_t size)
{
    if (refused()) {
        return NULL;
    }
#if defined(TR_LIBC_MALLOC)
    return calloc(1, size != 0 ? size : 1);
#else
    return mi_zalloc(size);
#endif
}

void *tr__memory_take_aligned(size_t align, size_t size)
{
    TR_ASSERT(align >= sizeof(void *) && (align & (align - 1)) == 0);
    if (refused()) {
        return NULL;
    }
#if defined(TR_LIBC_MALLOC)
    void *memory = NULL;
    return posix_memalign(&memory, align, size != 0 ? size : 1) == 0 ? memory : NULL;
#else
    return mi_malloc_aligned(size, align);
#endif
}

void *tr__memory_resize(void *memory, size_t size)
{
    if (refused()) {
        return NULL;
    }
#if defined(TR_LIBC_MALLOC)
    return realloc(memory, size != 0 ? size : 1); /* a size of 0 would free in libc */
#else
    return mi_realloc(memory, size);
#endif
}

void tr__memory_give(void *memory)
{
#if defined(TR_LIBC_MALLOC)
    free(memory);
#else
    mi_free(memory);
#endif
}

void *tr__memory_reserve(size_t bytes)
{
    TR_ASSERT(bytes > 0);
    if (refused()) {
        return NULL;
    }
    void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED) {
        return NULL;
    }
    TR_ASSERT((uintptr_t)memory % TR_CACHE_LINE == 0);
    return memory;
}

bool tr__memory_is_readable(const void *address)
{
    int before = errno;
    /* There is no such way to change a signal mask, so nothing is; but the kernel reads first. */
    (void)syscall(SYS_rt_sigprocmask, -1, address, NULL, _NSIG / 8);
    bool readable = errno != EFAULT;
    errno = before;
    return readable;
}

void tr__memory_unreserve(void *memory, size_t bytes)
{
    if (memory == NULL) {
        return;
    }
    TR_ASSERT(bytes > 0);
    int error = munmap(memory, bytes);
    TR_ASSERT(error == 0); /* only a wrong address or a split of a mapping at its limit fails */
}
