/*
 * Tests of completion/arena by one thread: where memory comes from, what is counted, when a chunk
 * is used again, and every allocation failing once.
 */
#include <string.h>

#include "base/memory.h"
#include "completion/arena.h"
#include "support/case.h"

#define BYTES_MAX (UINT64_C(1) << 20)
#define PIECE 1000u
#define PIECES_PER_CHUNK (TR__ARENA_CHUNK_ROOM / 1008u)

static struct tr__arena arena;
static struct tr__arena_producer producer;
static struct tr__arena_ref refs[(TR__ARENA_POOL_MAX + 8u) * PIECES_PER_CHUNK];

static void prepare(bool shared)
{
    CHECK_EQ_INT(tr__arena_init(&arena, BYTES_MAX), 0);
    tr__arena_producer_init(&producer, shared);
}

static void finish(void)
{
    tr__arena_producer_done(&arena, &producer);
    CHECK_EQ_U64(tr__arena_bytes_used(&arena), 0);
    tr__arena_done(&arena);
}

static void take_some(struct tr__arena_ref *first, unsigned count)
{
    for (unsigned index = 0; index < count; index++) {
        CHECK_EQ_INT(tr__arena_take(&arena, &producer, PIECE, &first[index]), 0);
        memset(first[index].data, (int)index, PIECE);
    }
}

static void give_some(struct tr__arena_ref *first, unsigned count)
{
    for (unsigned index = 0; index < count; index++) {
        tr__arena_give(&arena, &first[index]);
    }
}

static void pieces_are_apart_and_aligned(void)
{
    unsigned count = 0;
    for (size_t size = 1; size <= TR__ARENA_BIG_BYTES; size += size < 70 ? 1 : 61) {
        CHECK_EQ_INT(tr__arena_take(&arena, &producer, size, &refs[count]), 0);
        CHECK_EQ_INT((uintptr_t)refs[count].data % TR__ARENA_ALIGN, 0);
        CHECK_EQ_INT(refs[count].size, size);
        CHECK_EQ_INT(refs[count].origin->kind, TR__ARENA_CHUNK);
        memset(refs[count].data, (int)(count & 255), size);
        count += 1;
    }
    for (unsigned index = 0; index < count; index++) {
        const unsigned char *data = refs[index].data;
        for (size_t at = 0; at < refs[index].size; at++) {
            CHECK_EQ_INT(data[at], index & 255);
        }
        tr__arena_give(&arena, &refs[index]);
        CHECK(refs[index].data == NULL && refs[index].origin == NULL && refs[index].size == 0);
    }
}

CASE(arena, pieces_are_apart_and_aligned)
{
    prepare(false);
    pieces_are_apart_and_aligned();
    finish();
}

CASE(arena, a_shared_producer_does_the_same)
{
    prepare(true);
    pieces_are_apart_and_aligned();
    finish();
}

CASE(arena, nothing_is_nothing)
{
    struct tr__arena_ref ref = {.data = &arena, .size = 7};
    prepare(false);
    CHECK_EQ_INT(tr__arena_take(&arena, &producer, 0, &ref), 0);
    CHECK(ref.data == NULL && ref.origin == NULL && ref.size == 0);
    ref.size = 7;
    CHECK_EQ_INT(tr__arena_block(&arena, 0, &ref), 0);
    CHECK(ref.data == NULL && ref.origin == NULL && ref.size == 0);
    tr__arena_shrink(&arena, &ref, 0);
    tr__arena_give(&arena, &ref);
    tr__arena_give(&arena, &ref);
    CHECK(producer.chunk == NULL); /* no chunk was needed for that */
    finish();
}

CASE(arena, big_ones_get_a_block_counted_exactly)
{
    struct tr__arena_ref ref;
    prepare(false);
    CHECK_EQ_INT(tr__arena_take(&arena, &producer, TR__ARENA_BIG_BYTES + 1, &ref), 0);
    CHECK_EQ_INT(ref.origin->kind, TR__ARENA_BLOCK);
    CHECK_EQ_INT((uintptr_t)ref.data % TR__ARENA_ALIGN, 0);
    CHECK_EQ_U64(tr__arena_bytes_used(&arena), TR__ARENA_BIG_BYTES + 1);
    memset(ref.data, 1, ref.size);
    tr__arena_give(&arena, &ref);
    CHECK_EQ_U64(tr__arena_bytes_used(&arena), 0);
    CHECK_EQ_INT(tr__arena_block(&arena, 10, &ref), 0);
    CHECK_EQ_INT(ref.origin->kind, TR__ARENA_BLOCK);
    CHECK_EQ_U64(tr__arena_bytes_used(&arena), 10);
    tr__arena_give(&arena, &ref);
    finish();
}

CASE(arena, a_chunk_is_counted_from_leaving_it_to_its_last_piece)
{
    prepare(false);
    take_some(refs, PIECES_PER_CHUNK);
    CHECK_EQ_U64(tr__arena_bytes_used(&arena), 0);
    take_some(refs + PIECES_PER_CHUNK, 1);
    CHECK_EQ_U64(tr__arena_bytes_used(&arena), TR__ARENA_CHUNK_BYTES);
    give_some(refs, PIECES_PER_CHUNK - 1);
    CHECK_EQ_U64(tr__arena_bytes_used(&arena), TR__ARENA_CHUNK_BYTES);
    give_some(refs + PIECES_PER_CHUNK - 1, 1);
    CHECK_EQ_U64(tr__arena_bytes_used(&arena), 0);
    CHECK_EQ_INT(arena.pool_count, 1);
    give_some(refs + PIECES_PER_CHUNK, 1);
    finish();
}

CASE(arena, a_chunk_found_free_is_used_again_on_the_spot)
{
    prepare(false);
    take_some(refs, PIECES_PER_CHUNK);
    struct tr__arena_chunk *chunk = producer.chunk;
    give_some(refs, PIECES_PER_CHUNK);
    take_some(refs, 1);
    CHECK_EQ_PTR(producer.chunk, chunk);
    CHECK_EQ_PTR(refs[0].data, chunk->data);
    CHECK_EQ_INT(arena.pool_count, 0);
    CHECK_EQ_U64(tr__arena_bytes_used(&arena), 0);
    give_some(refs, 1);
    finish();
}

CASE(arena, the_pool_serves_and_is_bounded)
{
    unsigned chunks = TR__ARENA_POOL_MAX + 8;
    prepare(false);
    take_some(refs, chunks * PIECES_PER_CHUNK);
    CHECK_EQ_U64(tr__arena_bytes_used(&arena), (uint64_t)(chunks - 1) * TR__ARENA_CHUNK_BYTES);
    give_some(refs, chunks * PIECES_PER_CHUNK);
    CHECK_EQ_INT(arena.pool_count, TR__ARENA_POOL_MAX);
    CHECK_EQ_U64(tr__arena_bytes_used(&arena), 0);
    take_some(refs, 3 * PIECES_PER_CHUNK);
    CHECK_EQ_INT(arena.pool_count, TR__ARENA_POOL_MAX - 2);
    give_some(refs, 3 * PIECES_PER_CHUNK);
    finish();
}

CASE(arena, pieces_outlive_their_producer)
{
    prepare(false);
    take_some(refs, 3);
    tr__arena_producer_done(&arena, &producer);
    CHECK_EQ_U64(tr__arena_bytes_used(&arena), TR__ARENA_CHUNK_BYTES);
    const unsigned char *data = refs[2].data;
    CHECK_EQ_INT(data[PIECE - 1], 2);
    give_some(refs, 3);
    CHECK_EQ_U64(tr__arena_bytes_used(&arena), 0);
    CHECK_EQ_INT(arena.pool_count, 1);
    tr__arena_producer_init(&producer, false);
    finish();
}

CASE(arena, room_ends_at_the_budget)
{
    struct tr__arena_ref ref;
    struct tr__arena_ref beyond;
    prepare(false);
    CHECK(tr__arena_has_room(&arena));
    CHECK_EQ_INT(tr__arena_block(&arena, BYTES_MAX - 1, &ref), 0);
    CHECK(tr__arena_has_room(&arena));
    CHECK_EQ_INT(tr__arena_block(&arena, 1, &beyond), 0);
    CHECK(!tr__arena_has_room(&arena));
    take_some(refs, 1); /* what was accepted is served all the same */
    tr__arena_give(&arena, &beyond);
    CHECK(tr__arena_has_room(&arena));
    give_some(refs, 1);
    tr__arena_give(&arena, &ref);
    finish();
}

CASE(arena, shrinking_gives_back_what_is_worth_it)
{
    struct tr__arena_ref ref;
    prepare(false);
    CHECK_EQ_INT(tr__arena_block(&arena, 100000, &ref), 0);
    memset(ref.data, 5, ref.size);
    tr__arena_shrink(&arena, &ref, 60000);
    CHECK_EQ_INT(ref.size, 60000);
    CHECK_EQ_U64(tr__arena_bytes_used(&arena), 100000);
    tr__arena_shrink(&arena, &ref, 100);
    CHECK_EQ_INT(ref.size, 100);
    CHECK_EQ_U64(tr__arena_bytes_used(&arena), 100);
    CHECK_EQ_INT(((unsigned char *)ref.data)[99], 5);
    tr__memory_fail_after(1);
    tr__arena_shrink(&arena, &ref, 10); /* no memory to move to: stays where it is */
    CHECK_EQ_INT(tr__memory_fail_left(), 0);
    CHECK_EQ_INT(ref.size, 10);
    CHECK_EQ_U64(tr__arena_bytes_used(&arena), 100);
    tr__arena_give(&arena, &ref);
    take_some(refs, 2);
    tr__arena_shrink(&arena, &refs[0], 13);
    CHECK_EQ_INT(refs[0].size, 13);
    tr__arena_shrink(&arena, &refs[1], 0);
    give_some(refs, 2);
    finish();
}

struct release_note {
    unsigned count;
    void *data;
    size_t size;
};

static void note_release(void *context, void *data, size_t size)
{
    struct release_note *note = context;
    note->count += 1;
    note->data = data;
    note->size = size;
}

CASE(arena, an_adopted_buffer_is_released_once)
{
    char bytes[50];
    struct release_note note = {0};
    struct tr__arena_ref ref;

    prepare(false);
    CHECK_EQ_INT(tr__arena_adopt(&arena, bytes, sizeof bytes, note_release, &note, &ref), 0);
    CHECK_EQ_PTR(ref.data, bytes);
    CHECK_EQ_U64(tr__arena_bytes_used(&arena), sizeof bytes);
    tr__arena_shrink(&arena, &ref, 20);
    CHECK_EQ_INT(note.count, 0);
    tr__arena_give(&arena, &ref);
    CHECK_EQ_INT(note.count, 1);
    CHECK_EQ_PTR(note.data, bytes);
    CHECK_EQ_INT(note.size, sizeof bytes); /* with the size it came with */
    tr__arena_give(&arena, &ref);
    CHECK_EQ_INT(note.count, 1);
    CHECK_EQ_INT(tr__arena_adopt(&arena, bytes, sizeof bytes, NULL, NULL, &ref), 0);
    CHECK_EQ_PTR(ref.data, bytes);
    CHECK_EQ_U64(tr__arena_bytes_used(&arena), 0);
    tr__arena_give(&arena, &ref);
    CHECK_EQ_INT(tr__arena_adopt(&arena, NULL, 0, note_release, &note, &ref), 0);
    tr__arena_give(&arena, &ref);
    CHECK_EQ_INT(note.count, 2); /* an empty buffer may have something to release, too */
    finish();
}

CASE(arena, no_memory_changes_nothing)
{
    char bytes[8];
    struct release_note note = {0};
    struct tr__arena_ref ref = {.data = bytes, .size = 3};

    for (unsigned shared = 0; shared < 2; shared++) {
        prepare(shared != 0);
        tr__memory_fail_after(1);
        CHECK_EQ_INT(tr__arena_take(&arena, &producer, 100, &ref), TR_ENOMEM);
        tr__memory_fail_after(1);
        CHECK_EQ_INT(tr__arena_take(&arena, &producer, 100000, &ref), TR_ENOMEM);
        tr__memory_fail_after(1);
        CHECK_EQ_INT(tr__arena_adopt(&arena, bytes, 8, note_release, &note, &ref), TR_ENOMEM);
        CHECK_EQ_INT(note.count, 0);
        CHECK_EQ_PTR(ref.data, bytes);
        CHECK_EQ_INT(ref.size, 3);
        CHECK_EQ_U64(tr__arena_bytes_used(&arena), 0);
        /* in the middle: the full chunk has been left, the next one fails, then comes */
        take_some(refs, PIECES_PER_CHUNK);
        tr__memory_fail_after(1);
        CHECK_EQ_INT(tr__arena_take(&arena, &producer, PIECE, &ref), TR_ENOMEM);
        take_some(refs + PIECES_PER_CHUNK, 1);
        give_some(refs, PIECES_PER_CHUNK + 1);
        finish();
    }
}

/* The memory of a call that was not accepted yet takes nobody's room. */
CASE(arena, a_block_apart_is_counted_later)
{
    struct tr__arena own;
    struct tr__arena_ref ref;
    CHECK_EQ_INT(tr__arena_init(&own, 1000), 0);
    CHECK_EQ_INT(tr__arena_block_apart(&own, 5000, &ref), 0);
    CHECK_EQ_U64(tr__arena_bytes_used(&own), 0);
    CHECK(tr__arena_has_room(&own));
    tr__arena_give(&own, &ref); /* never accepted */
    CHECK_EQ_U64(tr__arena_bytes_used(&own), 0);
    CHECK_EQ_INT(tr__arena_block_apart(&own, 5000, &ref), 0);
    tr__arena_count(&own, &ref);
    CHECK_EQ_U64(tr__arena_bytes_used(&own), 5000);
    CHECK(!tr__arena_has_room(&own));
    tr__arena_look(&own);
    tr__arena_give(&own, &ref);
    CHECK_EQ_U64(tr__arena_bytes_used(&own), 0);
    CHECK_EQ_INT(tr__arena_block_apart(&own, 0, &ref), 0);
    tr__arena_count(&own, &ref); /* nothing is nothing */
    CHECK_EQ_U64(tr__arena_bytes_used(&own), 0);
    tr__arena_done(&own);
}
