/*
 * arena.h: memory for results and inputs too large for a task's own slot.
 *
 * A piece of memory is described by a struct tr__arena_ref, which is its one owner; whoever holds
 * the ref gives it back, from any thread. Where it comes from:
 *
 *     take    small, short-lived   bump in the producer's chunk; no atomic operation
 *     take    over 4 KiB           a block of its own
 *     block   long-lived           a block of its own, whatever its size
 *     adopt   handed over          the caller's buffer and its release function
 *
 * Pinning: one piece keeps its whole chunk. So only what is delivered soon belongs into take; what
 * may live long (inputs, results of sessions nobody drains) belongs into block. The damage is
 * bounded all the same, since the budget counts whole chunks: pinned ones use it up, and launches
 * are refused before memory is.
 *
 * What bytes_used counts: every chunk its producer has left while a piece of it lives (all 64 KiB),
 * every block (its capacity), every adopted buffer with a release function. A producer's present
 * chunk is not counted (at most 64 KiB a producer), nor are the free chunks kept for reuse
 * (TR__ARENA_POOL_MAX of them). So it is 0 when every ref was given and every producer is done.
 */
#ifndef TR__COMPLETION_ARENA_H
#define TR__COMPLETION_ARENA_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <toolring/error.h>
#include <toolring/types.h>

#include "base/assert.h"
#include "base/atomic.h"
#include "base/limits.h"

/* Free chunks kept for reuse, 4 MiB: what a burst of 20 000 results of 200 bytes needs at once. */
#define TR__ARENA_POOL_MAX 64u
/* Every piece begins at a multiple of this: enough for any C type. */
#define TR__ARENA_ALIGN 16u

enum tr__arena_kind {
    TR__ARENA_CHUNK = 1,   /* a piece of a struct tr__arena_chunk */
    TR__ARENA_BLOCK = 2,   /* a struct tr__arena_block, the bytes behind it */
    TR__ARENA_ADOPTED = 3, /* a struct tr__arena_adopted, the bytes elsewhere */
};

/* First member of all three. */
struct tr__arena_origin {
    uint32_t kind;     /* enum tr__arena_kind; written once */
    uint32_t capacity; /* BLOCK, ADOPTED: bytes counted in bytes_used; the ref's holder writes it */
};

/* One piece of memory. All zero: none, and giving it is harmless. */
struct tr__arena_ref {
    void *data;                      /* first byte, a multiple of TR__ARENA_ALIGN unless adopted */
    struct tr__arena_origin *origin; /* what to give it back to; NULL: nothing to give back */
    uint32_t size;                   /* bytes in use */
};

struct tr__arena_chunk {
    struct tr__arena_origin origin;
    struct tr__arena_chunk *next; /* in the pool, under its lock */
    tr__atomic_u64 live; /* pieces not given + what the producer holds; anybody subtracts */
    _Alignas(TR_CACHE_LINE) unsigned char data[];
};

struct tr__arena {
    uint64_t bytes_max;                          /* written once */
    TR__CACHE_ALIGNED tr__atomic_u64 bytes_used; /* written by anybody, per chunk and per block */
    TR__CACHE_ALIGNED pthread_mutex_t lock;      /* guards the pool */
    struct tr__arena_chunk *pool;                /* free chunks */
    uint32_t pool_count;                         /* how many */
};

/* Where one thread (or, with a lock, many) takes small pieces from. */
struct tr__arena_producer {
    struct tr__arena_chunk *chunk; /* NULL before the first take; this and the rest: the owner's */
    uint32_t used;                 /* bytes of chunk->data handed out */
    uint32_t taken;                /* pieces of this chunk handed out */
    bool shared;                   /* takes go through `lock`; written once */
    pthread_mutex_t lock;
} TR__CACHE_ALIGNED;

/* The payload of one chunk. */
#define TR__ARENA_CHUNK_ROOM ((uint32_t)(TR__ARENA_CHUNK_BYTES - sizeof(struct tr__arena_chunk)))

/* Caller's memory. Returns 0. `bytes_max` bounds tr__arena_has_room and nothing else. */
int tr__arena_init(struct tr__arena *arena, uint64_t bytes_max);

/* Frees the pool. Every producer is done and every ref was given. */
void tr__arena_done(struct tr__arena *arena);

/* Any thread. Whether the budget allows one more call to be accepted: launches are refused at it,
 * what is accepted is never refused memory for its budget's sake. */
static inline bool tr__arena_has_room(const struct tr__arena *arena)
{
    /* relaxed: a bound to go by, not a promise; it may be passed by what runs already */
    return tr__load_relaxed(&arena->bytes_used) < arena->bytes_max;
}

/* Any thread. See the top for what is counted. */
static inline uint64_t tr__arena_bytes_used(const struct tr__arena *arena)
{
    return tr__load_relaxed(&arena->bytes_used); /* a number to show */
}

/* Caller's memory. Allocates nothing yet. `shared`: any thread may take from it, under a lock. */
void tr__arena_producer_init(struct tr__arena_producer *producer, bool shared);

/* The owner, at its end: leaves the chunk. What was taken from it stays valid. */
void tr__arena_producer_done(struct tr__arena *arena, struct tr__arena_producer *producer);

/* The slow ways of take: a new chunk, a block, a shared producer. */
int tr__arena_take_slow(struct tr__arena *arena, struct tr__arena_producer *producer, size_t size,
                        struct tr__arena_ref *ret);

/* The producer's owner (any thread if it is shared). `size` bytes, undefined contents. Returns 0 or
 * TR_ENOMEM. A size of 0 yields no memory and succeeds. */
static inline int tr__arena_take(struct tr__arena *arena, struct tr__arena_producer *producer,
                                 size_t size, struct tr__arena_ref *ret)
{
    size_t rounded = (size + TR__ARENA_ALIGN - 1) & ~(size_t)(TR__ARENA_ALIGN - 1);

    if (producer->shared || producer->chunk == NULL || size - 1 >= TR__ARENA_BIG_BYTES ||
        rounded > TR__ARENA_CHUNK_ROOM - producer->used) {
        return tr__arena_take_slow(arena, producer, size, ret);
    }
    struct tr__arena_chunk *chunk = producer->chunk;
    ret->data = chunk->data + producer->used;
    ret->origin = &chunk->origin;
    ret->size = (uint32_t)size;
    producer->used += (uint32_t)rounded;
    producer->taken += 1;
    tr__asan_unpoison(ret->data, size);
    return 0;
}

/* Any thread. A block of its own for `size` bytes. Returns 0 or TR_ENOMEM. */
int tr__arena_block(struct tr__arena *arena, size_t size, struct tr__arena_ref *ret);

/* The same, but it is counted only with tr__arena_count: the inputs of calls that were not accepted
 * yet would otherwise take each other's room. */
int tr__arena_block_apart(struct tr__arena *arena, size_t size, struct tr__arena_ref *ret);
void tr__arena_count(struct tr__arena *arena, const struct tr__arena_ref *ref);

/* A look at bytes_used by read-modify-write, for who waits for room (parts/gate). */
void tr__arena_look(struct tr__arena *arena);

/* Any thread. Describes the caller's buffer; `release` runs when the ref is given. With a NULL
 * `release` nothing is counted and nothing allocated. Returns 0, or TR_ENOMEM: the buffer stays the
 * caller's and `release` is not called. */
int tr__arena_adopt(struct tr__arena *arena, void *data, size_t size, tr_release_function release,
                    void *context, struct tr__arena_ref *ret);

/* The ref's holder: only the first `size` bytes (at most ref->size) are of use. A block much larger
 * than that moves to a smaller one: ref->data may change. Of a chunk nothing becomes free. */
void tr__arena_shrink(struct tr__arena *arena, struct tr__arena_ref *ref, size_t size);

/* Any thread, also when the producer is gone. Gives the piece back and empties the ref. */
void tr__arena_give(struct tr__arena *arena, struct tr__arena_ref *ref);

#endif
