/*
 * Tests of tools/output: what is kept of a stream, what is counted, where it is cut, and what
 * happens when memory is refused.
 */
#include <string.h>

#include "base/memory.h"
#include "support/case.h"
#include "support/wait.h"
#include "tools/output.h"

#define STREAM_BYTES ((size_t)1 << 16)

static unsigned char stream[STREAM_BYTES];

/* Whether every character of data is whole. */
static bool is_utf8(const unsigned char *data, size_t size)
{
    size_t at = 0;

    while (at < size) {
        unsigned char byte = data[at];
        size_t length = byte < 0x80 ? 1 : byte < 0xE0 ? 2 : byte < 0xF0 ? 3 : 4;
        if ((byte & 0xC0u) == 0x80u || at + length > size) {
            return false;
        }
        for (size_t next = 1; next < length; next++) {
            if ((data[at + next] & 0xC0u) != 0x80u) {
                return false;
            }
        }
        at += length;
    }
    return true;
}

/* Fills `stream` with characters of one to four bytes; returns how many bytes. */
static size_t fill_with_characters(struct case_random *random, size_t size)
{
    static const char *const characters[] = {"a", "\n", "\u00e9", "\u20ac", "\U0001F600"};
    size_t used = 0;

    for (;;) {
        const char *character = characters[case_random_below(random, 5)];
        size_t length = strlen(character);
        if (used + length > size) {
            return used;
        }
        memcpy(stream + used, character, length);
        used += length;
    }
}

static void fill_with_bytes(struct case_random *random, size_t size)
{
    for (size_t at = 0; at < size; at++) {
        stream[at] = (unsigned char)case_random_next(random);
    }
}

/* Adds stream[0 … size) in pieces of up to `piece_max` bytes. */
static void add_in_pieces(struct tr__output *output, struct case_random *random, size_t size,
                          size_t piece_max)
{
    size_t at = 0;

    while (at < size) {
        size_t piece = 1 + (size_t)case_random_below(random, piece_max);
        if (piece > size - at) {
            piece = size - at;
        }
        tr__output_add(output, stream + at, piece);
        at += piece;
        CHECK(output->capacity <= output->bytes_max);
        CHECK(output->used <= output->capacity);
        CHECK_EQ_U64(output->total, at);
    }
}

/* What was kept is a prefix and a suffix of the stream, within the cap, and nearly fills it. */
static void check_kept(const tr_process_output *kept, size_t size, size_t bytes_max)
{
    CHECK(kept->size <= bytes_max);
    CHECK_EQ_U64(kept->omitted + kept->size, size);
    CHECK(kept->head <= kept->size);
    CHECK(kept->head == 0 || memcmp(kept->data, stream, kept->head) == 0);
    size_t tail = kept->size - kept->head;
    CHECK(tail == 0 || memcmp(kept->data + kept->head, stream + size - tail, tail) == 0);
    if (size <= bytes_max) {
        CHECK_EQ_U64(kept->omitted, 0);
        CHECK_EQ_U64(kept->head, kept->size);
    } else {
        CHECK(kept->omitted > 0);
        CHECK(kept->size + 6 >= bytes_max);
    }
}

CASE(output, nothing_needs_no_memory)
{
    struct tr__output output;
    tr_process_output kept;
    tr__output_init(&output, 100);
    tr__output_add(&output, NULL, 0);
    CHECK(output.data == NULL);
    tr__output_finish(&output, &kept);
    CHECK(kept.data == NULL);
    CHECK_EQ_U64(kept.size, 0);
    CHECK_EQ_U64(kept.head, 0);
    CHECK_EQ_U64(kept.omitted, 0);
    tr__output_done(&output);
}

CASE(output, what_fits_is_kept_whole)
{
    struct tr__output output;
    tr_process_output kept;
    tr__output_init(&output, 10);
    tr__output_add(&output, "01234", 5);
    tr__output_add(&output, "56789", 5);
    tr__output_finish(&output, &kept);
    CHECK_EQ_U64(kept.size, 10);
    CHECK_EQ_U64(kept.head, 10);
    CHECK_EQ_U64(kept.omitted, 0);
    CHECK(memcmp(kept.data, "0123456789", 10) == 0);
    tr__memory_give(kept.data);
}

CASE(output, one_byte_too_many_is_omitted)
{
    struct tr__output output;
    tr_process_output kept;
    tr__output_init(&output, 10);
    tr__output_add(&output, "0123456789", 10);
    tr__output_add(&output, "X", 1);
    tr__output_finish(&output, &kept);
    CHECK_EQ_U64(kept.size, 10);
    CHECK_EQ_U64(kept.head, 5);
    CHECK_EQ_U64(kept.omitted, 1);
    CHECK(memcmp(kept.data, "012346789X", 10) == 0);
    tr__memory_give(kept.data);
}

CASE(output, the_smallest_caps_work)
{
    for (size_t bytes_max = 1; bytes_max <= 9; bytes_max++) {
        struct tr__output output;
        tr_process_output kept;
        tr__output_init(&output, bytes_max);
        for (size_t at = 0; at < 26; at++) {
            stream[at] = (unsigned char)('a' + at);
            tr__output_add(&output, stream + at, 1);
        }
        tr__output_finish(&output, &kept);
        CHECK_EQ_U64(kept.size, bytes_max);
        CHECK_EQ_U64(kept.head, bytes_max / 2);
        check_kept(&kept, 26, bytes_max);
        tr__memory_give(kept.data);
    }
}

CASE(output, a_piece_larger_than_everything)
{
    struct tr__output output;
    tr_process_output kept;
    struct case_random random;
    case_random_init(&random, 0);
    fill_with_bytes(&random, STREAM_BYTES);
    tr__output_init(&output, 1000);
    tr__output_add(&output, stream, STREAM_BYTES);
    CHECK_EQ_U64(output.capacity, 1000);
    tr__output_finish(&output, &kept);
    check_kept(&kept, STREAM_BYTES, 1000);
    tr__memory_give(kept.data);
}

CASE(output, any_bytes_in_any_pieces)
{
    struct case_random random;
    case_random_init(&random, 1);
    for (unsigned round = 0; round < 3000; round++) {
        struct tr__output output;
        tr_process_output kept;
        size_t size = (size_t)case_random_below(&random, 12000);
        size_t bytes_max = 1 + (size_t)case_random_below(&random, round % 2 == 0 ? 64 : 10000);
        fill_with_bytes(&random, size);
        tr__output_init(&output, bytes_max);
        add_in_pieces(&output, &random, size, 1 + (size_t)case_random_below(&random, 3000));
        tr__output_finish(&output, &kept);
        check_kept(&kept, size, bytes_max);
        tr__memory_give(kept.data);
    }
}

CASE(output, characters_are_never_cut)
{
    struct case_random random;
    case_random_init(&random, 2);
    for (unsigned round = 0; round < 3000; round++) {
        struct tr__output output;
        tr_process_output kept;
        size_t size = fill_with_characters(&random, 1 + (size_t)case_random_below(&random, 400));
        size_t bytes_max = 1 + (size_t)case_random_below(&random, 300);
        tr__output_init(&output, bytes_max);
        add_in_pieces(&output, &random, size, 7);
        tr__output_finish(&output, &kept);
        check_kept(&kept, size, bytes_max);
        CHECK(is_utf8(kept.data, kept.head));
        CHECK(kept.size == 0 || is_utf8(kept.data + kept.head, kept.size - kept.head));
        tr__memory_give(kept.data);
    }
}

CASE(output, only_broken_characters_are_cut)
{
    struct tr__output output;
    tr_process_output kept;
    /* The head ends with a whole character, the tail starts with one. */
    tr__output_init(&output, 8);
    tr__output_add(&output, "ab\xC3\xA9---\xC3\xA9yz", 11);
    tr__output_finish(&output, &kept);
    CHECK_EQ_U64(kept.size, 8);
    CHECK(memcmp(kept.data, "ab\xC3\xA9\xC3\xA9yz", 8) == 0);
    tr__memory_give(kept.data);
    /* Both are in the middle of one; a stray continuation byte at the end of the head stays. */
    tr__output_init(&output, 8);
    tr__output_add(&output, "a\xA9\xA9\xC3\xA9---\xC3\xA9xyz", 13);
    tr__output_finish(&output, &kept);
    CHECK_EQ_U64(kept.head, 3);
    CHECK_EQ_U64(kept.size, 6);
    CHECK_EQ_U64(kept.omitted, 7);
    CHECK(memcmp(kept.data, "a\xA9\xA9xyz", 6) == 0);
    tr__memory_give(kept.data);
}

CASE(output, memory_follows_what_comes)
{
    struct tr__output output;
    tr__output_init(&output, STREAM_BYTES);
    memset(stream, 'x', STREAM_BYTES);
    tr__output_add(&output, stream, 1);
    CHECK_EQ_U64(output.capacity, TR__OUTPUT_START_BYTES);
    tr__output_add(&output, stream, TR__OUTPUT_START_BYTES);
    CHECK_EQ_U64(output.capacity, 2 * TR__OUTPUT_START_BYTES);
    tr__output_add(&output, stream, STREAM_BYTES);
    tr__output_add(&output, stream, STREAM_BYTES);
    CHECK_EQ_U64(output.capacity, STREAM_BYTES);
    tr__output_done(&output);
    tr__output_init(&output, 100);
    tr__output_add(&output, stream, 1);
    CHECK_EQ_U64(output.capacity, 100); /* not the usual start: more than the cap */
    tr__output_done(&output);
}

CASE(output, without_memory_everything_is_counted)
{
    struct tr__output output;
    tr_process_output kept;
    tr__output_init(&output, 1000);
    tr__memory_fail_after(1);
    tr__output_add(&output, "abc", 3);
    tr__output_add(&output, "def", 3);
    tr__output_finish(&output, &kept);
    CHECK_EQ_U64(kept.size, 0);
    CHECK_EQ_U64(kept.head, 0);
    CHECK_EQ_U64(kept.omitted, 6);
    tr__memory_give(kept.data);
}

CASE(output, when_growing_fails_the_cap_becomes_what_there_is)
{
    struct tr__output output;
    tr_process_output kept;
    struct case_random random;
    case_random_init(&random, 3);
    fill_with_bytes(&random, STREAM_BYTES);
    tr__output_init(&output, STREAM_BYTES);
    tr__output_add(&output, stream, 3000);
    tr__memory_fail_after(1);
    tr__output_add(&output, stream + 3000, 5000);
    tr__output_add(&output, stream + 8000, STREAM_BYTES - 8000);
    CHECK_EQ_U64(output.capacity, TR__OUTPUT_START_BYTES);
    tr__output_finish(&output, &kept);
    check_kept(&kept, STREAM_BYTES, TR__OUTPUT_START_BYTES);
    tr__memory_give(kept.data);
}
