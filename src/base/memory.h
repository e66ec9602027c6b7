/* Memory: the allocator shim.
 *
 * Purpose: one door to mimalloc (or, with -DTR_LIBC_MALLOC, to libc, whose bookkeeping the
 * sanitizers understand), to large lazy reservations, and one place where a test can make the n-th
 * request fail. Owner: none; every function may be called by any thread. Called by every floor;
 * calls mimalloc, libc, mmap.
 *
 * Invariants
 *  1. Every take is paired with one tr__memory_give, every reserve with one tr__memory_unreserve of
 * the same size.
 *  2. NULL is the only failure; errno is not part of the contract. A failed resize leaves the old
 * block as it was.
 *  3. A reservation is zero, 64-byte (in fact page) aligned, and costs no memory until touched.
 *  4. With the failure hook off, its price is one relaxed load of a line that is never written.
 *
 * Rejected: malloc interposition (would change the host's allocator) and a pool per module
 * (mimalloc has them).
 */
#ifndef TR__BASE_MEMORY_H
#define TR__BASE_MEMORY_H

#include <stdbool.h>
#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

/* size bytes, undefined contents, aligned for any C type. A size of 0 yields a unique block like
 * size 1. */
void *tr__memory_take(size_t size);

/* The same, zeroed. */
void *tr__memory_take_zero(size_t size);

/* The same as tr__memory_take, aligned to `align`: a power of two, at least sizeof(void *). */
void *tr__memory_take_aligned(size_t align, size_t size);

/* Grows or shrinks; memory may be NULL. Not for blocks of tr__memory_take_aligned: the alignment
 * would be lost. */
void *tr__memory_resize(void *memory, size_t size);

/* Gives back what any of the functions above returned; NULL is allowed. */
void tr__memory_give(void *memory);

/* Reserves address space: zero pages, committed by touch. `bytes` > 0. */
void *tr__memory_reserve(size_t bytes);

/* Returns a reservation with the size it was made with; NULL is allowed. */
void tr__memory_unreserve(void *memory, size_t bytes);

/* Whether 8 bytes at an address (not NULL) can be read: tells a guard from a page that is none. */
bool tr__memory_is_readable(const void *address);

/* For tests: the n-th take, resize or reserve from now on, counted over all threads, returns NULL;
 * n = 1 (and 0) is the very next one. It fires once and is then off. n < 0 switches it off. */
void tr__memory_fail_after(long n);

/* For tests: how many requests are still to come up to and including the failing one; 0 when off or
 * already fired. */
long tr__memory_fail_left(void);

#ifdef __cplusplus
}
#endif

#endif
