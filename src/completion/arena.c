/*
 * arena.c: chunks, blocks and adopted buffers.
 *
 * Purpose: see arena.h. Owner: a producer belongs to its thread (or to its lock); the pool to the
 * arena's lock; everything else is any thread's. Called by engine and host; calls base/memory.
 *
 * A chunk counts in two places, so that taking needs no atomic operation: at the start the producer
 * puts a large number, the hold, into `live` and counts the pieces it hands out in a word of its
 * own. Givers subtract from `live` one by one. Leaving the chunk, the producer subtracts what it
 * has not handed out:
 *
 *     live = hold - given                    while the producer has it
 *     live = taken - given                   after it has left: 0 means nobody needs it
 *
 * Invariants
 *  1. live > 0 while the producer has the chunk: taken < hold, whatever is given.
 *  2. Exactly one subtraction makes it 0, the producer's or a giver's; that thread recycles it. It
 *     is acq_rel: every giver's last use of its piece happens before the chunk is used again.
 *  3. A chunk is counted in bytes_used exactly from before its producer leaves it until it is
 *     recycled. Before, because a giver may recycle and discount it the moment it was left.
 *  4. Unused bytes of a chunk (free, not handed out, given back, shrunk off) are poisoned for the
 *     address sanitizer.
 *
 * Left and found free at once is the common case with a consumer that keeps up: the chunk then is
 * used again where it is, warm in the cache, without lock and pool.
 *
 * Complexity: take 2 ns warm, give one atomic subtraction (5 ns uncontended); a new chunk one lock
 * per 64 KiB. Rejected: a count per take (a locked instruction on a line that givers write too);
 * returning memory per piece to the producer (a queue and a size class table, for pieces that all
 * die young); a lock-free pool (one lock per some hundred pieces is not worth its proof).
 */
#include "completion/arena.h"

#include "base/memory.h"

/* More than a chunk has pieces, so that `live` cannot reach 0 before the producer leaves. */
#define HOLD (UINT64_C(1) << 32)
/* A block shrunk below half its capacity moves: a smaller saving is not worth the copy. */
#define SHRINK_DIVISOR 2u

struct tr__arena_block {
    struct tr__arena_origin origin;
    uint64_t reserved; /* keeps `data` at a multiple of TR__ARENA_ALIGN */
    unsigned char data[];
};

struct tr__arena_adopted {
    struct tr__arena_origin origin;
    tr_release_function release;
    void *context;
};

TR_STATIC(TR__ARENA_CHUNK_BYTES / TR__ARENA_ALIGN < HOLD, "a chunk has fewer pieces than the hold");
TR_STATIC(sizeof(struct tr__arena_block) % TR__ARENA_ALIGN == 0, "a block's bytes are aligned");
TR_STATIC(TR__ARENA_ALIGN >= _Alignof(max_align_t), "a piece may hold any C type");
TR_STATIC(TR__ARENA_BIG_BYTES <= TR__ARENA_CHUNK_BYTES / 2, "a new chunk has room for any piece");

static int chunk_replace(struct tr__arena *arena, struct tr__arena_producer *producer);
static void chunk_leave(struct tr__arena *arena, struct tr__arena_producer *producer);
static struct tr__arena_chunk *chunk_new(struct tr__arena *arena);
static void chunk_recycle(struct tr__arena *arena, struct tr__arena_chunk *chunk);
static void chunk_free(struct tr__arena_chunk *chunk);
static void count_up(struct tr__arena *arena, uint64_t bytes);
static void count_down(struct tr__arena *arena, uint64_t bytes);

int tr__arena_init(struct tr__arena *arena, uint64_t bytes_max)
{
    arena->bytes_max = bytes_max;
    tr__store_relaxed(&arena->bytes_used, UINT64_C(0)); /* private until handed out */
    arena->pool = NULL;
    arena->pool_count = 0;
    return -pthread_mutex_init(&arena->lock, NULL);
}

void tr__arena_done(struct tr__arena *arena)
{
    TR_ASSERT(tr__load_relaxed(&arena->bytes_used) == 0); /* every ref was given */
    while (arena->pool != NULL) {
        struct tr__arena_chunk *chunk = arena->pool;
        arena->pool = chunk->next;
        chunk_free(chunk);
    }
    arena->pool_count = 0;
    (void)pthread_mutex_destroy(&arena->lock); /* fails only while it is held */
}

void tr__arena_producer_init(struct tr__arena_producer *producer, bool shared)
{
    producer->chunk = NULL;
    producer->used = 0;
    producer->taken = 0;
    producer->shared = shared;
    (void)pthread_mutex_init(&producer->lock, NULL); /* default attributes: cannot fail on Linux */
}

void tr__arena_producer_done(struct tr__arena *arena, struct tr__arena_producer *producer)
{
    if (producer->chunk != NULL) {
        struct tr__arena_chunk *chunk = producer->chunk;
        chunk_leave(arena, producer);
        if (producer->chunk != NULL) {
            producer->chunk = NULL; /* nobody else needs it: it came back to us */
            chunk_recycle(arena, chunk);
        }
    }
    (void)pthread_mutex_destroy(&producer->lock); /* fails only while it is held */
}

int tr__arena_take_slow(struct tr__arena *arena, struct tr__arena_producer *producer, size_t size,
                        struct tr__arena_ref *ret)
{
    if (size == 0) {
        *ret = (struct tr__arena_ref){0};
        return 0;
    }
    if (size > TR__ARENA_BIG_BYTES) {
        return tr__arena_block(arena, size, ret);
    }
    if (producer->shared) {
        (void)pthread_mutex_lock(&producer->lock); /* cannot fail: a plain mutex, not held by us */
    }
    uint32_t rounded = ((uint32_t)size + TR__ARENA_ALIGN - 1) & ~(TR__ARENA_ALIGN - 1u);
    int error = 0;
    if (producer->chunk == NULL || rounded > TR__ARENA_CHUNK_ROOM - producer->used) {
        error = chunk_replace(arena, producer);
    }
    if (error == 0) {
        ret->data = producer->chunk->data + producer->used;
        ret->origin = &producer->chunk->origin;
        ret->size = (uint32_t)size;
        producer->used += rounded;
        producer->taken += 1;
        tr__asan_unpoison(ret->data, size);
    }
    if (producer->shared) {
        (void)pthread_mutex_unlock(&producer->lock); /* cannot fail: held by us */
    }
    return error;
}

int tr__arena_block(struct tr__arena *arena, size_t size, struct tr__arena_ref *ret)
{
    int error = tr__arena_block_apart(arena, size, ret);
    if (error == 0) {
        tr__arena_count(arena, ret);
    }
    return error;
}

int tr__arena_block_apart(struct tr__arena *arena, size_t size, struct tr__arena_ref *ret)
{
    (void)arena; /* it is the arena's from its counting on */
    TR_ASSERT(size <= UINT32_MAX / 2);
    if (size == 0) {
        *ret = (struct tr__arena_ref){0};
        return 0;
    }
    struct tr__arena_block *block = tr__memory_take(sizeof *block + size);
    if (block == NULL) {
        return TR_ENOMEM;
    }
    block->origin.kind = TR__ARENA_BLOCK;
    block->origin.capacity = 0;
    ret->data = block->data;
    ret->origin = &block->origin;
    ret->size = (uint32_t)size;
    return 0;
}

void tr__arena_count(struct tr__arena *arena, const struct tr__arena_ref *ref)
{
    if (ref->origin != NULL) {
        TR_ASSERT(ref->origin->kind == TR__ARENA_BLOCK && ref->origin->capacity == 0);
        ref->origin->capacity = ref->size;
        count_up(arena, ref->size);
    }
}

void tr__arena_look(struct tr__arena *arena)
{
    (void)tr__fetch_add_acq_rel(&arena->bytes_used, UINT64_C(0)); /* pairs with count_down */
}

int tr__arena_adopt(struct tr__arena *arena, void *data, size_t size, tr_release_function release,
                    void *context, struct tr__arena_ref *ret)
{
    TR_ASSERT(size <= UINT32_MAX / 2);
    struct tr__arena_adopted *adopted = NULL;
    if (release != NULL) {
        adopted = tr__memory_take(sizeof *adopted);
        if (adopted == NULL) {
            return TR_ENOMEM;
        }
        adopted->origin.kind = TR__ARENA_ADOPTED;
        adopted->origin.capacity = (uint32_t)size;
        adopted->release = release;
        adopted->context = context;
        count_up(arena, size);
    }
    ret->data = data;
    ret->origin = adopted != NULL ? &adopted->origin : NULL;
    ret->size = (uint32_t)size;
    return 0;
}

void tr__arena_shrink(struct tr__arena *arena, struct tr__arena_ref *ref, size_t size)
{
    struct tr__arena_origin *origin = ref->origin;
    TR_ASSERT(size <= ref->size);

    if (origin != NULL && origin->kind == TR__ARENA_CHUNK) {
        unsigned char *data = ref->data;
        size_t kept = (size + 7) & ~(size_t)7; /* the sanitizer's shadow counts in eights */
        if (kept < ref->size) {
            tr__asan_poison(data + kept, ref->size - kept);
        }
    } else if (origin != NULL && origin->kind == TR__ARENA_BLOCK &&
               size < origin->capacity / SHRINK_DIVISOR) {
        struct tr__arena_block *block = tr__memory_resize(origin, sizeof *block + size);
        if (block != NULL) { /* else it stays as large as it is, and is counted so */
            uint32_t before = block->origin.capacity;
            block->origin.capacity = (uint32_t)size;
            ref->data = block->data;
            ref->origin = &block->origin;
            count_down(arena, before - size);
        }
    }
    ref->size = (uint32_t)size;
}

void tr__arena_give(struct tr__arena *arena, struct tr__arena_ref *ref)
{
    struct tr__arena_origin *origin = ref->origin;
    void *data = ref->data;
    uint32_t size = ref->size;

    *ref = (struct tr__arena_ref){0};
    if (origin == NULL) {
        return;
    }
    if (origin->kind == TR__ARENA_CHUNK) {
        struct tr__arena_chunk *chunk = TR__CONTAINER_OF(origin, struct tr__arena_chunk, origin);
        tr__asan_poison(data, (size + TR__ARENA_ALIGN - 1) & ~(TR__ARENA_ALIGN - 1u));
        /* acq_rel: our use of the piece happens before the chunk's next life (invariant 2) */
        uint64_t before = tr__fetch_sub_acq_rel(&chunk->live, UINT64_C(1));
        TR_ASSERT(before > 0);
        if (before == 1) {
            count_down(arena, TR__ARENA_CHUNK_BYTES);
            chunk_recycle(arena, chunk);
        }
    } else if (origin->kind == TR__ARENA_BLOCK) {
        count_down(arena, origin->capacity);
        tr__memory_give(origin);
    } else {
        TR_ASSERT(origin->kind == TR__ARENA_ADOPTED);
        struct tr__arena_adopted *adopted =
            TR__CONTAINER_OF(origin, struct tr__arena_adopted, origin);
        uint32_t capacity = origin->capacity;
        tr_release_function release = adopted->release;
        void *context = adopted->context;
        tr__memory_give(adopted);
        release(context, data, capacity); /* with the size it was handed over with */
        count_down(arena, capacity);
    }
}

/* Leaves the present chunk, if any, and brings an empty one: the same, if nobody needs it. */
static int chunk_replace(struct tr__arena *arena, struct tr__arena_producer *producer)
{
    if (producer->chunk != NULL) {
        chunk_leave(arena, producer);
    }
    if (producer->chunk == NULL) {
        producer->chunk = chunk_new(arena);
        if (producer->chunk == NULL) {
            return TR_ENOMEM;
        }
    }
    /* relaxed: givers learn of the chunk through the refs handed to them */
    tr__store_relaxed(&producer->chunk->live, HOLD);
    return 0;
}

/* Gives up the hold. The producer keeps the chunk, empty, if that made it free, else none. */
static void chunk_leave(struct tr__arena *arena, struct tr__arena_producer *producer)
{
    struct tr__arena_chunk *chunk = producer->chunk;
    uint64_t rest = HOLD - producer->taken;

    producer->used = 0;
    producer->taken = 0;
    count_up(arena, TR__ARENA_CHUNK_BYTES); /* before it is left: invariant 3 */
    /* acq_rel: as in tr__arena_give; to have the chunk again we must see all givers' last uses */
    uint64_t before = tr__fetch_sub_acq_rel(&chunk->live, rest);
    TR_ASSERT(before >= rest);
    if (before == rest) {
        count_down(arena, TR__ARENA_CHUNK_BYTES);
    } else {
        producer->chunk = NULL;
    }
}

/* A chunk from the pool, else from memory. Its bytes are poisoned. */
static struct tr__arena_chunk *chunk_new(struct tr__arena *arena)
{
    (void)pthread_mutex_lock(&arena->lock); /* cannot fail: a plain mutex, not held by us */
    struct tr__arena_chunk *chunk = arena->pool;
    if (chunk != NULL) {
        arena->pool = chunk->next;
        arena->pool_count -= 1;
    }
    (void)pthread_mutex_unlock(&arena->lock); /* cannot fail: held by us */
    if (chunk == NULL) {
        chunk = tr__memory_take_aligned(TR_CACHE_LINE, TR__ARENA_CHUNK_BYTES);
        if (chunk != NULL) {
            chunk->origin.kind = TR__ARENA_CHUNK;
            chunk->origin.capacity = 0;
            tr__asan_poison(chunk->data, TR__ARENA_CHUNK_ROOM);
        }
    }
    return chunk;
}

/* Nobody needs the chunk: to the pool, or back to memory if that is full. */
static void chunk_recycle(struct tr__arena *arena, struct tr__arena_chunk *chunk)
{
    (void)pthread_mutex_lock(&arena->lock); /* cannot fail: a plain mutex, not held by us */
    bool kept = arena->pool_count < TR__ARENA_POOL_MAX;
    if (kept) {
        chunk->next = arena->pool;
        arena->pool = chunk;
        arena->pool_count += 1;
    }
    (void)pthread_mutex_unlock(&arena->lock); /* cannot fail: held by us */
    if (!kept) {
        chunk_free(chunk);
    }
}

static void chunk_free(struct tr__arena_chunk *chunk)
{
    tr__asan_unpoison(chunk->data, TR__ARENA_CHUNK_ROOM); /* the allocator writes there */
    tr__memory_give(chunk);
}

/* relaxed: a balance that publishes nothing. */
static void count_up(struct tr__arena *arena, uint64_t bytes)
{
    (void)tr__fetch_add_relaxed(&arena->bytes_used, bytes);
}

static void count_down(struct tr__arena *arena, uint64_t bytes)
{
    /* acq_rel: the act of parts/gate, for launches that wait for room. */
    uint64_t before = tr__fetch_sub_acq_rel(&arena->bytes_used, bytes);
    TR_ASSERT(before >= bytes);
}
