/*
 * Tests of engine/capture's readers: against the whole stream as a model, while bytes are added in
 * any way, with every policy at the cap.
 */
#include <string.h>

#include <toolring/error.h>

#include "base/memory.h"
#include "engine/capture.h"
#include "support/case.h"
#include "support/wait.h"

#define STREAM_BYTES ((size_t)1 << 14)
#define READERS 3u

static unsigned char stream[STREAM_BYTES];

struct reader {
    uint64_t cursor;
    uint64_t seen;
    uint64_t skipped;
};

struct model {
    struct tr__capture capture;
    struct case_random random;
    size_t size; /* of the stream */
    struct reader readers[READERS];
};

/* A reader reads some; what it gets must be the stream's. */
static void read_some(struct model *model, struct reader *reader, size_t size)
{
    static unsigned char buffer[STREAM_BYTES];
    struct tr__capture *capture = &model->capture;
    tr_output_mark mark;

    bool furthest = reader->cursor >= capture->taken;
    int count = tr__capture_read(capture, reader->cursor, buffer, size, &mark);
    CHECK(count >= 0 && (size_t)count <= size);
    CHECK(capture->overflow != TR_OVERFLOW_PAUSE || !furthest || mark.skipped == 0);
    CHECK_EQ_U64(mark.total, capture->total);
    CHECK_EQ_U64(mark.next, reader->cursor + mark.skipped + (uint64_t)count);
    CHECK(mark.next <= capture->total);
    CHECK(memcmp(buffer, stream + mark.next - (size_t)count, (size_t)count) == 0);
    CHECK(mark.end == (capture->ended && mark.next == capture->total));
    CHECK(mark.skipped == 0 || capture->total > capture->bytes_max ||
          capture->total + capture->lent > capture->bytes_max);
    if (count == 0 && size > 0 && capture->lent == 0) {
        CHECK_EQ_U64(mark.next, capture->total);
    }
    reader->cursor = mark.next;
    reader->seen += (uint64_t)count;
    reader->skipped += mark.skipped;
}

/* Adds some; half of the time with a reader between the room and its use. */
static void add_some(struct model *model, size_t piece_max)
{
    struct tr__capture *capture = &model->capture;
    struct case_random *random = &model->random;
    const unsigned char *from = stream + capture->total;
    size_t size = 1 + (size_t)case_random_below(random, piece_max);
    size_t left = model->size - (size_t)capture->total;
    struct iovec pieces[2];

    size = size < left ? size : left;
    if (size == 0) {
        return;
    }
    if (case_random_below(random, 3) == 0) {
        CHECK(tr__capture_add(capture, from, size) <= size);
        return;
    }
    int count = tr__capture_room(capture, size, pieces);
    size_t read = 0;
    for (int i = 0; i < count; i++) {
        size_t part = (size_t)case_random_below(random, pieces[i].iov_len + 1);
        if (i == 1 && read < pieces[0].iov_len) {
            break;
        }
        memcpy(pieces[i].iov_base, from + read, part);
        read += part;
    }
    if (case_random_below(random, 2) == 0) {
        read_some(model, &model->readers[case_random_below(random, READERS)], 1000);
    }
    if (count > 0) {
        tr__capture_added(capture, read);
    }
}

static void drive(struct model *model, tr_overflow overflow, size_t bytes_max, size_t piece_max)
{
    memset(model->readers, 0, sizeof(model->readers));
    tr__capture_init(&model->capture, bytes_max, overflow);
    while (model->capture.total < model->size) {
        add_some(model, piece_max);
        uint64_t chance = case_random_below(&model->random, 2 * READERS);
        if (chance < READERS) {
            size_t size = (size_t)case_random_below(&model->random, 2 * piece_max);
            read_some(model, &model->readers[chance], size);
        }
    }
    tr__capture_end(&model->capture);
    for (unsigned i = 0; i < READERS; i++) {
        struct reader *reader = &model->readers[i];
        for (unsigned rounds = 0; rounds < 4 && reader->cursor < model->size; rounds++) {
            read_some(model, reader, STREAM_BYTES);
        }
        CHECK_EQ_U64(reader->cursor, model->size);
        CHECK_EQ_U64(reader->seen + reader->skipped, model->size);
    }
}

CASE(capture_read, every_byte_is_the_streams_or_counted)
{
    static struct model model;
    case_random_init(&model.random, 1);
    for (unsigned round = 0; round < 2000; round++) {
        model.size = (size_t)case_random_below(&model.random, STREAM_BYTES);
        for (size_t at = 0; at < model.size; at++) {
            stream[at] = (unsigned char)case_random_next(&model.random);
        }
        size_t bytes_max = 1 + (size_t)case_random_below(&model.random, round % 2 ? 60 : 9000);
        size_t piece_max = 1 + (size_t)case_random_below(&model.random, 2000);
        drive(&model, TR_OVERFLOW_DROP, bytes_max, piece_max);
        tr__capture_done(&model.capture);
    }
}

CASE(capture_read, paused_the_furthest_reader_misses_nothing)
{
    static struct model model;
    case_random_init(&model.random, 2);
    for (unsigned round = 0; round < 500; round++) {
        model.size = (size_t)case_random_below(&model.random, STREAM_BYTES / 4);
        for (size_t at = 0; at < model.size; at++) {
            stream[at] = (unsigned char)case_random_next(&model.random);
        }
        size_t bytes_max = 1 + (size_t)case_random_below(&model.random, round % 2 ? 60 : 3000);
        size_t piece_max = 1 + (size_t)case_random_below(&model.random, 500);
        drive(&model, TR_OVERFLOW_PAUSE, bytes_max, piece_max);
        tr_process_output kept;
        CHECK_EQ_INT(tr__capture_result(&model.capture, &kept), 0);
        CHECK_EQ_U64(kept.omitted + kept.size, model.size);
        size_t tail = kept.size - kept.head;
        CHECK(tail == 0 || memcmp(kept.data + kept.head, stream + model.size - tail, tail) == 0);
        tr__memory_give(kept.data);
        tr__capture_done(&model.capture);
    }
}

CASE(capture_read, paused_nothing_is_overwritten_unread)
{
    static unsigned char taken[STREAM_BYTES];
    struct tr__capture capture;
    struct case_random random;
    tr_output_mark mark = {0, 0, 0, false};
    size_t added = 0;
    case_random_init(&random, 3);
    for (size_t at = 0; at < STREAM_BYTES; at++) {
        stream[at] = (unsigned char)case_random_next(&random);
    }
    tr__capture_init(&capture, 1000, TR_OVERFLOW_PAUSE);
    while (mark.next < STREAM_BYTES) {
        size_t size = 1 + (size_t)case_random_below(&random, 3000);
        size = size < STREAM_BYTES - added ? size : STREAM_BYTES - added;
        added += tr__capture_add(&capture, stream + added, size);
        CHECK(added - mark.next <= 1000);
        size = 1 + (size_t)case_random_below(&random, 900);
        int count = tr__capture_read(&capture, mark.next, taken + mark.next,
                                     size < STREAM_BYTES - mark.next ? size : 0, &mark);
        CHECK(count >= 0);
        CHECK_EQ_U64(mark.skipped, 0);
        if (size >= STREAM_BYTES - mark.next) {
            count = tr__capture_read(&capture, mark.next, taken + mark.next,
                                     STREAM_BYTES - mark.next, &mark);
            CHECK(count >= 0);
            CHECK_EQ_U64(mark.skipped, 0);
        }
    }
    CHECK(memcmp(taken, stream, STREAM_BYTES) == 0);
    tr__capture_done(&capture);
}

CASE(capture_read, room_is_told_of_once_and_when_it_is_worth_it)
{
    struct tr__capture capture;
    struct iovec pieces[2];
    tr_output_mark mark;
    char buffer[10];
    tr__capture_init(&capture, 10, TR_OVERFLOW_PAUSE);
    CHECK_EQ_U64(tr__capture_add(&capture, "0123456789AB", 12), 10);
    CHECK_EQ_INT(tr__capture_room(&capture, 5, pieces), 0);
    CHECK(!tr__capture_made_room(&capture));
    CHECK_EQ_INT(tr__capture_read(&capture, 0, buffer, 4, &mark), 4);
    CHECK(!tr__capture_made_room(&capture)); /* read, but it may yet be asked for again */
    CHECK_EQ_INT(tr__capture_read(&capture, 4, buffer, 6, &mark), 6);
    CHECK(!tr__capture_made_room(&capture)); /* four bytes: not worth a wake */
    CHECK_EQ_INT(tr__capture_read(&capture, 10, buffer, 6, &mark), 0);
    CHECK(tr__capture_made_room(&capture));
    CHECK(!tr__capture_made_room(&capture)); /* told already */
    CHECK_EQ_U64(tr__capture_add(&capture, "ABCDEF", 6), 6);
    CHECK_EQ_INT(tr__capture_read(&capture, 4, buffer, 10, &mark), 10); /* while it is there */
    CHECK(memcmp(buffer, "6789ABCDEF", 10) == 0);
    CHECK_EQ_U64(mark.skipped, 2);
    tr__capture_done(&capture);
}

CASE(capture_read, unpaused_it_drops)
{
    struct tr__capture capture;
    tr_process_output kept;
    tr__capture_init(&capture, 10, TR_OVERFLOW_PAUSE);
    CHECK_EQ_U64(tr__capture_add(&capture, "0123456789AB", 12), 10);
    tr__capture_unpause(&capture);
    CHECK_EQ_U64(tr__capture_add(&capture, "ABCDEFGHIJKLM", 13), 13);
    CHECK(!tr__capture_made_room(&capture));
    tr__capture_end(&capture);
    CHECK_EQ_INT(tr__capture_result(&capture, &kept), 0);
    CHECK_EQ_U64(kept.size, 10);
    CHECK_EQ_U64(kept.head, 5);
    CHECK_EQ_U64(kept.omitted, 13);
    CHECK(memcmp(kept.data, "01234IJKLM", 10) == 0);
    tr__memory_give(kept.data);
    tr__capture_done(&capture);
}

CASE(capture_read, the_gap_is_skipped_between_characters)
{
    struct tr__capture capture;
    tr_output_mark mark;
    char buffer[32];
    tr__capture_init(&capture, 8, TR_OVERFLOW_DROP);
    /* Kept: "a é|" of four and "\xA9xyz": the head loses half a character, so does the tail. */
    (void)tr__capture_add(&capture, "abc\xC3\xA9---\xC3\xA9xyz", 13);
    CHECK_EQ_INT(tr__capture_read(&capture, 0, buffer, sizeof(buffer), &mark), 3);
    CHECK(memcmp(buffer, "abc", 3) == 0);
    CHECK_EQ_U64(mark.next, 3);
    CHECK_EQ_U64(mark.skipped, 0);
    CHECK_EQ_INT(tr__capture_read(&capture, 3, NULL, 0, &mark), 0); /* only tell */
    CHECK_EQ_U64(mark.next, 10);
    CHECK_EQ_U64(mark.skipped, 7);
    CHECK_EQ_INT(tr__capture_read(&capture, 3, buffer, sizeof(buffer), &mark), 3);
    CHECK(memcmp(buffer, "xyz", 3) == 0);
    CHECK_EQ_U64(mark.skipped, 7);
    CHECK_EQ_U64(mark.next, 13);
    CHECK(!mark.end);
    CHECK_EQ_INT(tr__capture_read(&capture, 9, buffer, sizeof(buffer), &mark), 4); /* as asked */
    CHECK_EQ_INT(tr__capture_read(&capture, 14, buffer, sizeof(buffer), &mark), TR_EINVAL);
    tr__capture_end(&capture);
    CHECK_EQ_INT(tr__capture_read(&capture, 13, buffer, sizeof(buffer), &mark), 0);
    CHECK(mark.end);
    tr__capture_done(&capture);
}
