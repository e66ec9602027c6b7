/* Atomics with the memory order in the name.
 *
 * Purpose: the one door to atomic operations. A reader sees the order where it is used, a reviewer
 * can list every seq_cst in the tree with one search, and the model checker slips under all of them
 * by replacing this mapping. Owner: none; plain definitions. Called by every floor; calls the
 * compiler alone.
 *
 * Three mappings of the same names: C11 <stdatomic.h>; std::atomic when a header is compiled as
 * C++; rl::atomic when TR_RELACY is defined (the includer has included <relacy/relacy.hpp> before).
 *
 * Invariants
 *  1. No operation without a named order exists, so none can be seq_cst by accident.
 *  2. Compare-and-swap (`cas`) takes the address of the expected value and overwrites it with the
 *     value seen when it fails. A failed one is a load: its order is relaxed after relaxed and
 *     release, acquire after acquire and acq_rel, seq_cst after seq_cst.
 *  3. There is no stand-alone fence: ThreadSanitizer does not understand them and no proof in this
 *     tree needs one.
 *  4. Zeroed memory is an atomic holding zero (C11 mapping, on which NORESERVE reservations rely).
 *
 * With TR_SHAKE (a test build) every operation of the C11 mapping may first rest.
 *
 * Macros and not functions, because one name serves all four widths; arguments are evaluated once.
 */
#ifndef TR__BASE_ATOMIC_H
#define TR__BASE_ATOMIC_H

#include <stddef.h>
#include <stdint.h>

/* 64 on x86-64 and on nearly every arm64; being wrong costs speed, never correctness. */
#define TR_CACHE_LINE 64
#define TR__CACHE_ALIGNED __attribute__((aligned(TR_CACHE_LINE)))

/* The struct of `type` whose `member` lies at `ptr`. Goes through void * so that alignment is not
 * complained about: the member did come from an aligned container. */
#define TR__CONTAINER_OF(ptr, type, member) ((type *)(void *)((char *)(ptr)-offsetof(type, member)))

#if defined(TR_RELACY)

typedef rl::atomic<uint8_t> tr__atomic_u8;
typedef rl::atomic<uint32_t> tr__atomic_u32;
typedef rl::atomic<uint64_t> tr__atomic_u64;
typedef rl::atomic<void *> tr__atomic_ptr;

#define TR__ORDER(name) rl::mo_##name
#define TR__ATOMIC_LOAD(p, order) ((p)->load(TR__ORDER(order), $))
#define TR__ATOMIC_STORE(p, v, order) ((p)->store((v), TR__ORDER(order), $))
#define TR__ATOMIC_EXCHANGE(p, v, order) ((p)->exchange((v), TR__ORDER(order), $))
#define TR__ATOMIC_CAS(p, e, d, order, failure)                                                    \
    ((p)->compare_exchange_strong(*(e), (d), TR__ORDER(order), $, TR__ORDER(failure), $))
#define TR__ATOMIC_CAS_WEAK(p, e, d, order, failure)                                               \
    ((p)->compare_exchange_weak(*(e), (d), TR__ORDER(order), $, TR__ORDER(failure), $))
#define TR__ATOMIC_FETCH(operation, p, v, order) ((p)->fetch_##operation((v), TR__ORDER(order), $))

#elif defined(__cplusplus)

#include <atomic>

typedef std::atomic<uint8_t> tr__atomic_u8;
typedef std::atomic<uint32_t> tr__atomic_u32;
typedef std::atomic<uint64_t> tr__atomic_u64;
typedef std::atomic<void *> tr__atomic_ptr;

#define TR__ORDER(name) std::memory_order_##name
#define TR__ATOMIC_LOAD(p, order) ((p)->load(TR__ORDER(order)))
#define TR__ATOMIC_STORE(p, v, order) ((p)->store((v), TR__ORDER(order)))
#define TR__ATOMIC_EXCHANGE(p, v, order) ((p)->exchange((v), TR__ORDER(order)))
#define TR__ATOMIC_CAS(p, e, d, order, failure)                                                    \
    ((p)->compare_exchange_strong(*(e), (d), TR__ORDER(order), TR__ORDER(failure)))
#define TR__ATOMIC_CAS_WEAK(p, e, d, order, failure)                                               \
    ((p)->compare_exchange_weak(*(e), (d), TR__ORDER(order), TR__ORDER(failure)))
#define TR__ATOMIC_FETCH(operation, p, v, order) ((p)->fetch_##operation((v), TR__ORDER(order)))

#else

#include <stdatomic.h>

typedef _Atomic uint8_t tr__atomic_u8;
typedef _Atomic uint32_t tr__atomic_u32;
typedef _Atomic uint64_t tr__atomic_u64;
typedef void *_Atomic tr__atomic_ptr;

#if defined(TR_SHAKE)
void tr__shake(void); /* rests, or not; leaves errno as it is */
#define TR__SHAKEN(operation) (tr__shake(), operation)
#else
#define TR__SHAKEN(operation) operation
#endif

#define TR__ORDER(name) memory_order_##name
#define TR__ATOMIC_LOAD(p, order) TR__SHAKEN(atomic_load_explicit((p), TR__ORDER(order)))
#define TR__ATOMIC_STORE(p, v, order) TR__SHAKEN(atomic_store_explicit((p), (v), TR__ORDER(order)))
#define TR__ATOMIC_EXCHANGE(p, v, order)                                                           \
    TR__SHAKEN(atomic_exchange_explicit((p), (v), TR__ORDER(order)))
#define TR__ATOMIC_CAS(p, e, d, order, failure)                                                    \
    TR__SHAKEN(atomic_compare_exchange_strong_explicit((p), (e), (d), TR__ORDER(order),            \
                                                       TR__ORDER(failure)))
#define TR__ATOMIC_CAS_WEAK(p, e, d, order, failure)                                               \
    TR__SHAKEN(atomic_compare_exchange_weak_explicit((p), (e), (d), TR__ORDER(order),              \
                                                     TR__ORDER(failure)))
#define TR__ATOMIC_FETCH(operation, p, v, order)                                                   \
    TR__SHAKEN(atomic_fetch_##operation##_explicit((p), (v), TR__ORDER(order)))

#endif

#define tr__load_relaxed(p) TR__ATOMIC_LOAD(p, relaxed)
#define tr__load_acquire(p) TR__ATOMIC_LOAD(p, acquire)
#define tr__load_seq_cst(p) TR__ATOMIC_LOAD(p, seq_cst)

#define tr__store_relaxed(p, v) TR__ATOMIC_STORE(p, v, relaxed)
#define tr__store_release(p, v) TR__ATOMIC_STORE(p, v, release)
#define tr__store_seq_cst(p, v) TR__ATOMIC_STORE(p, v, seq_cst)

#define tr__exchange_relaxed(p, v) TR__ATOMIC_EXCHANGE(p, v, relaxed)
#define tr__exchange_acquire(p, v) TR__ATOMIC_EXCHANGE(p, v, acquire)
#define tr__exchange_release(p, v) TR__ATOMIC_EXCHANGE(p, v, release)
#define tr__exchange_acq_rel(p, v) TR__ATOMIC_EXCHANGE(p, v, acq_rel)
#define tr__exchange_seq_cst(p, v) TR__ATOMIC_EXCHANGE(p, v, seq_cst)

/* Strong: fail only when the value differs. Order on failure: relaxed, acquire, relaxed, acquire,
 * seq_cst. */
#define tr__cas_relaxed(p, e, d) TR__ATOMIC_CAS(p, e, d, relaxed, relaxed)
#define tr__cas_acquire(p, e, d) TR__ATOMIC_CAS(p, e, d, acquire, acquire)
#define tr__cas_release(p, e, d) TR__ATOMIC_CAS(p, e, d, release, relaxed)
#define tr__cas_acq_rel(p, e, d) TR__ATOMIC_CAS(p, e, d, acq_rel, acquire)
#define tr__cas_seq_cst(p, e, d) TR__ATOMIC_CAS(p, e, d, seq_cst, seq_cst)

/* Weak: may also fail for nothing, hence in loops only. Order on failure: relaxed, acquire. */
#define tr__cas_weak_release(p, e, d) TR__ATOMIC_CAS_WEAK(p, e, d, release, relaxed)
#define tr__cas_weak_acq_rel(p, e, d) TR__ATOMIC_CAS_WEAK(p, e, d, acq_rel, acquire)

#define tr__fetch_add_relaxed(p, v) TR__ATOMIC_FETCH(add, p, v, relaxed)
#define tr__fetch_add_acquire(p, v) TR__ATOMIC_FETCH(add, p, v, acquire)
#define tr__fetch_add_release(p, v) TR__ATOMIC_FETCH(add, p, v, release)
#define tr__fetch_add_acq_rel(p, v) TR__ATOMIC_FETCH(add, p, v, acq_rel)
#define tr__fetch_add_seq_cst(p, v) TR__ATOMIC_FETCH(add, p, v, seq_cst)

#define tr__fetch_sub_relaxed(p, v) TR__ATOMIC_FETCH(sub, p, v, relaxed)
#define tr__fetch_sub_acquire(p, v) TR__ATOMIC_FETCH(sub, p, v, acquire)
#define tr__fetch_sub_release(p, v) TR__ATOMIC_FETCH(sub, p, v, release)
#define tr__fetch_sub_acq_rel(p, v) TR__ATOMIC_FETCH(sub, p, v, acq_rel)
#define tr__fetch_sub_seq_cst(p, v) TR__ATOMIC_FETCH(sub, p, v, seq_cst)

#define tr__fetch_or_relaxed(p, v) TR__ATOMIC_FETCH(or, p, v, relaxed)
#define tr__fetch_or_acquire(p, v) TR__ATOMIC_FETCH(or, p, v, acquire)
#define tr__fetch_or_release(p, v) TR__ATOMIC_FETCH(or, p, v, release)
#define tr__fetch_or_acq_rel(p, v) TR__ATOMIC_FETCH(or, p, v, acq_rel)
#define tr__fetch_or_seq_cst(p, v) TR__ATOMIC_FETCH(or, p, v, seq_cst)

#define tr__fetch_and_relaxed(p, v) TR__ATOMIC_FETCH(and, p, v, relaxed)
#define tr__fetch_and_acquire(p, v) TR__ATOMIC_FETCH(and, p, v, acquire)
#define tr__fetch_and_release(p, v) TR__ATOMIC_FETCH(and, p, v, release)
#define tr__fetch_and_acq_rel(p, v) TR__ATOMIC_FETCH(and, p, v, acq_rel)
#define tr__fetch_and_seq_cst(p, v) TR__ATOMIC_FETCH(and, p, v, seq_cst)

/* Says "this is a spin" to the core: frees the sibling hyper-thread and saves a mis-speculation on
 * leaving. On arm64 `yield` is nothing at all to most cores; `isb` takes about as long as x86's
 * pause, by which the spins of this tree are counted. */
static inline void tr__cpu_relax(void)
{
#if defined(TR_RELACY)
    rl::yield(1, $);
#elif defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ __volatile__("isb" ::: "memory");
#elif defined(__arm__)
    __asm__ __volatile__("yield" ::: "memory");
#else
    __asm__ __volatile__("" ::: "memory");
#endif
}

#if defined(__SANITIZE_THREAD__)
#define TR__WITH_TSAN 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define TR__WITH_TSAN 1
#endif
#endif

#if defined(__SANITIZE_ADDRESS__)
#define TR__WITH_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define TR__WITH_ASAN 1
#endif
#endif

/* Hand-overs through the kernel (an SQE submitted here, its CQE seen there) order memory, but
 * ThreadSanitizer cannot see them: say so with a release before the hand-over and an acquire of the
 * same address behind it. */
#if defined(TR__WITH_TSAN)
#ifdef __cplusplus
extern "C" {
#endif
void __tsan_acquire(void *address);
void __tsan_release(void *address);
#ifdef __cplusplus
}
#endif
#define tr__tsan_acquire(p) __tsan_acquire((void *)(p))
#define tr__tsan_release(p) __tsan_release((void *)(p))
#else
#define tr__tsan_acquire(p) ((void)(p))
#define tr__tsan_release(p) ((void)(p))
#endif

/* Bytes that are reserved but not to be touched for now (free stacks, buffers lent to the kernel).
 */
#if defined(TR__WITH_ASAN)
#ifdef __cplusplus
extern "C" {
#endif
void __asan_poison_memory_region(void const volatile *address, size_t size);
void __asan_unpoison_memory_region(void const volatile *address, size_t size);
#ifdef __cplusplus
}
#endif
#define tr__asan_poison(p, n) __asan_poison_memory_region((p), (n))
#define tr__asan_unpoison(p, n) __asan_unpoison_memory_region((p), (n))
#else
#define tr__asan_poison(p, n) ((void)(p), (void)(n))
#define tr__asan_unpoison(p, n) ((void)(p), (void)(n))
#endif

#endif
