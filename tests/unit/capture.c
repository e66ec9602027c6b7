/*
 * Tests of engine/capture: what is kept of a stream, what is counted, where it is cut, what readers
 * see meanwhile, and what happens when memory is refused. (Its file: capture_file.c.)
 */
#include <string.h>

#include <toolring/error.h>

#include "base/memory.h"
#include "engine/capture.h"
#include "support/case.h"
#include "support/wait.h"

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

/* Adds stream[total …) as tr__capture_add or as readv(2) would. Returns how much went in. */
static size_t add_piece(struct tr__capture *capture, struct case_random *random, size_t size)
{
    const unsigned char *from = stream + capture->total;
    struct iovec pieces[2];

    if (case_random_below(random, 2) == 0) {
        return tr__capture_add(capture, from, size);
    }
    int count = tr__capture_room(capture, size, pieces);
    size_t read = case_random_below(random, 8) == 0 ? 0 : size; /* an end, an EAGAIN */
    size_t done = 0;
    for (int i = 0; i < count; i++) {
        size_t part = pieces[i].iov_len < read - done ? pieces[i].iov_len : read - done;
        memcpy(pieces[i].iov_base, from + done, part);
        done += part;
    }
    CHECK(done <= size);
    if (count > 0) {
        tr__capture_added(capture, done);
    }
    return done;
}

/* Adds stream[0 … size) in pieces of up to `piece_max` bytes. */
static void add_in_pieces(struct tr__capture *capture, struct case_random *random, size_t size,
                          size_t piece_max)
{
    while (capture->total < size) {
        size_t piece = 1 + (size_t)case_random_below(random, piece_max);
        size_t left = size - (size_t)capture->total;
        (void)add_piece(capture, random, piece < left ? piece : left);
        CHECK(capture->capacity <= capture->bytes_max);
        CHECK(capture->used <= capture->capacity);
    }
}

static void finish(struct tr__capture *capture, tr_process_output *kept)
{
    tr__capture_end(capture);
    CHECK_EQ_INT(tr__capture_result(capture, kept), 0);
    tr__capture_done(capture);
}

/* What was kept is a prefix and a suffix of the stream, within the cap, and nearly fills it. */
static void check_kept(const tr_process_output *kept, size_t size, size_t bytes_max)
{
    CHECK(kept->size <= bytes_max);
    CHECK_EQ_U64(kept->total, size);
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

CASE(capture, nothing_needs_no_memory)
{
    struct tr__capture capture;
    tr_process_output kept;
    tr__capture_init(&capture, 100, TR_OVERFLOW_DROP);
    CHECK_EQ_U64(tr__capture_add(&capture, NULL, 0), 0);
    CHECK(capture.data == NULL);
    finish(&capture, &kept);
    CHECK(kept.data == NULL);
    CHECK_EQ_U64(kept.size, 0);
    CHECK_EQ_U64(kept.head, 0);
    CHECK_EQ_U64(kept.omitted, 0);
    CHECK(kept.spill_path == NULL);
}

CASE(capture, what_fits_is_kept_whole)
{
    struct tr__capture capture;
    tr_process_output kept;
    tr__capture_init(&capture, 10, TR_OVERFLOW_DROP);
    (void)tr__capture_add(&capture, "01234", 5);
    (void)tr__capture_add(&capture, "56789", 5);
    CHECK(!tr__capture_is_over(&capture));
    finish(&capture, &kept);
    CHECK_EQ_U64(kept.size, 10);
    CHECK_EQ_U64(kept.head, 10);
    CHECK_EQ_U64(kept.omitted, 0);
    CHECK(memcmp(kept.data, "0123456789", 10) == 0);
    tr__memory_give(kept.data);
}

CASE(capture, one_byte_too_many_is_omitted)
{
    struct tr__capture capture;
    tr_process_output kept;
    tr__capture_init(&capture, 10, TR_OVERFLOW_KILL);
    (void)tr__capture_add(&capture, "0123456789", 10);
    (void)tr__capture_add(&capture, "X", 1);
    CHECK(tr__capture_is_over(&capture));
    finish(&capture, &kept);
    CHECK_EQ_U64(kept.size, 10);
    CHECK_EQ_U64(kept.head, 5);
    CHECK_EQ_U64(kept.omitted, 1);
    CHECK(memcmp(kept.data, "012346789X", 10) == 0);
    tr__memory_give(kept.data);
}

CASE(capture, room_that_is_not_used_changes_nothing)
{
    struct tr__capture capture;
    struct iovec pieces[2];
    tr_process_output kept;
    tr__capture_init(&capture, 10, TR_OVERFLOW_DROP);
    (void)tr__capture_add(&capture, "0123456789", 10);
    CHECK_EQ_INT(tr__capture_room(&capture, 100, pieces), 1); /* of the ring: an end comes */
    tr__capture_added(&capture, 0);
    finish(&capture, &kept);
    CHECK_EQ_U64(kept.head, 10);
    CHECK_EQ_U64(kept.omitted, 0);
    CHECK(memcmp(kept.data, "0123456789", 10) == 0);
    tr__memory_give(kept.data);
}

CASE(capture, the_smallest_caps_work)
{
    for (size_t bytes_max = 1; bytes_max <= 9; bytes_max++) {
        struct tr__capture capture;
        tr_process_output kept;
        tr__capture_init(&capture, bytes_max, TR_OVERFLOW_DROP);
        for (size_t at = 0; at < 26; at++) {
            stream[at] = (unsigned char)('a' + at);
            (void)tr__capture_add(&capture, stream + at, 1);
        }
        finish(&capture, &kept);
        CHECK_EQ_U64(kept.size, bytes_max);
        CHECK_EQ_U64(kept.head, bytes_max / 2);
        check_kept(&kept, 26, bytes_max);
        tr__memory_give(kept.data);
    }
}

CASE(capture, any_bytes_in_any_pieces)
{
    struct case_random random;
    case_random_init(&random, 1);
    for (unsigned round = 0; round < 3000; round++) {
        struct tr__capture capture;
        tr_process_output kept;
        size_t size = (size_t)case_random_below(&random, 12000);
        size_t bytes_max = 1 + (size_t)case_random_below(&random, round % 2 == 0 ? 64 : 10000);
        fill_with_bytes(&random, size);
        tr__capture_init(&capture, bytes_max, TR_OVERFLOW_DROP);
        add_in_pieces(&capture, &random, size, 1 + (size_t)case_random_below(&random, 3000));
        finish(&capture, &kept);
        check_kept(&kept, size, bytes_max);
        tr__memory_give(kept.data);
    }
}

CASE(capture, characters_are_never_cut)
{
    struct case_random random;
    case_random_init(&random, 2);
    for (unsigned round = 0; round < 3000; round++) {
        struct tr__capture capture;
        tr_process_output kept;
        size_t size = fill_with_characters(&random, 1 + (size_t)case_random_below(&random, 400));
        size_t bytes_max = 1 + (size_t)case_random_below(&random, 300);
        tr__capture_init(&capture, bytes_max, TR_OVERFLOW_DROP);
        add_in_pieces(&capture, &random, size, 7);
        finish(&capture, &kept);
        check_kept(&kept, size, bytes_max);
        CHECK(is_utf8(kept.data, kept.head));
        CHECK(kept.size == 0 || is_utf8(kept.data + kept.head, kept.size - kept.head));
        tr__memory_give(kept.data);
    }
}

CASE(capture, only_broken_characters_are_cut)
{
    struct tr__capture capture;
    tr_process_output kept;
    /* The head ends with a whole character, the tail starts with one. */
    tr__capture_init(&capture, 8, TR_OVERFLOW_DROP);
    (void)tr__capture_add(&capture, "ab\xC3\xA9---\xC3\xA9yz", 11);
    finish(&capture, &kept);
    CHECK_EQ_U64(kept.size, 8);
    CHECK(memcmp(kept.data, "ab\xC3\xA9\xC3\xA9yz", 8) == 0);
    tr__memory_give(kept.data);
    /* Both are in the middle of one; a stray continuation byte at the end of the head stays. */
    tr__capture_init(&capture, 8, TR_OVERFLOW_DROP);
    (void)tr__capture_add(&capture, "a\xA9\xA9\xC3\xA9---\xC3\xA9xyz", 13);
    finish(&capture, &kept);
    CHECK_EQ_U64(kept.head, 3);
    CHECK_EQ_U64(kept.size, 6);
    CHECK_EQ_U64(kept.omitted, 7);
    CHECK(memcmp(kept.data, "a\xA9\xA9xyz", 6) == 0);
    tr__memory_give(kept.data);
}

CASE(capture, memory_follows_what_comes)
{
    struct tr__capture capture;
    tr__capture_init(&capture, STREAM_BYTES, TR_OVERFLOW_DROP);
    memset(stream, 'x', STREAM_BYTES);
    (void)tr__capture_add(&capture, stream, 1);
    CHECK_EQ_U64(capture.capacity, TR__CAPTURE_START_BYTES);
    (void)tr__capture_add(&capture, stream, TR__CAPTURE_START_BYTES);
    CHECK_EQ_U64(capture.capacity, 2 * TR__CAPTURE_START_BYTES);
    (void)tr__capture_add(&capture, stream, STREAM_BYTES);
    (void)tr__capture_add(&capture, stream, STREAM_BYTES);
    CHECK_EQ_U64(capture.capacity, STREAM_BYTES);
    tr__capture_done(&capture);
    tr__capture_init(&capture, 100, TR_OVERFLOW_DROP);
    (void)tr__capture_add(&capture, stream, 1);
    CHECK_EQ_U64(capture.capacity, 100); /* not the usual start: more than the cap */
    tr__capture_done(&capture);
    tr__capture_init(&capture, STREAM_BYTES, TR_OVERFLOW_DROP);
    (void)tr__capture_add(&capture, stream, 10);
    tr__capture_end(&capture);
    CHECK_EQ_U64(capture.capacity, 10); /* nothing more comes */
    tr__capture_done(&capture);
}

CASE(capture, without_memory_a_little_is_kept)
{
    struct tr__capture capture;
    tr_process_output kept;
    memset(stream, 'x', 1000);
    tr__capture_init(&capture, 1000, TR_OVERFLOW_DROP);
    tr__memory_fail_after(1);
    (void)tr__capture_add(&capture, stream, 100);
    (void)tr__capture_add(&capture, stream, 900);
    CHECK_EQ_INT(tr__memory_fail_left(), 0);
    CHECK(!tr__capture_is_over(&capture)); /* the program did nothing wrong */
    finish(&capture, &kept);
    check_kept(&kept, 1000, TR__CAPTURE_SPARE_BYTES);
    tr__memory_give(kept.data);
}

CASE(capture, when_growing_fails_the_cap_becomes_what_there_is)
{
    struct tr__capture capture;
    tr_process_output kept;
    struct case_random random;
    case_random_init(&random, 3);
    fill_with_bytes(&random, STREAM_BYTES);
    tr__capture_init(&capture, STREAM_BYTES, TR_OVERFLOW_DROP);
    (void)tr__capture_add(&capture, stream, 3000);
    tr__memory_fail_after(1);
    (void)tr__capture_add(&capture, stream + 3000, 5000);
    (void)tr__capture_add(&capture, stream + 8000, STREAM_BYTES - 8000);
    CHECK_EQ_U64(capture.capacity, TR__CAPTURE_START_BYTES);
    finish(&capture, &kept);
    check_kept(&kept, STREAM_BYTES, TR__CAPTURE_START_BYTES);
    tr__memory_give(kept.data);
}

CASE(capture, a_result_without_memory_counts_everything)
{
    struct tr__capture capture;
    tr_process_output kept;
    tr_output_mark mark;
    char byte = 0;
    tr__capture_init(&capture, 1000, TR_OVERFLOW_DROP);
    (void)tr__capture_add(&capture, "abc", 3);
    tr__capture_end(&capture);
    tr__memory_fail_after(1);
    CHECK_EQ_INT(tr__capture_result(&capture, &kept), TR_ENOMEM);
    CHECK(kept.data == NULL);
    CHECK_EQ_U64(kept.size, 0);
    CHECK_EQ_U64(kept.head, 0);
    CHECK_EQ_U64(kept.omitted, 3);
    CHECK_EQ_U64(kept.total, 3);
    CHECK_EQ_INT(tr__capture_read(&capture, 1, &byte, 1, &mark), 1); /* readers still can */
    CHECK_EQ_INT(byte, 'b');
    tr__capture_done(&capture);
}
