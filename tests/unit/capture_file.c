/*
 * Tests of engine/capture's file: it has the whole stream, up to its cap, the disk's, the process's
 * limit; it is nobody else's; it goes when nobody was told of it.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <toolring/error.h>

#include "base/memory.h"
#include "engine/capture.h"
#include "support/case.h"
#include "support/wait.h"

#define STREAM_BYTES ((size_t)300000)

static unsigned char stream[STREAM_BYTES];
static unsigned char file[STREAM_BYTES + 1];
static char directory[] = "/tmp/toolring-capture-XXXXXX";

static void fill(unsigned number)
{
    struct case_random random;

    case_random_init(&random, number);
    for (size_t at = 0; at < STREAM_BYTES; at++) {
        stream[at] = (unsigned char)case_random_next(&random);
    }
    CHECK(mkdtemp(directory) != NULL);
}

/* Removes the directory, which must be empty by now. */
static void clean(void)
{
    CHECK_EQ_INT(rmdir(directory), 0);
}

/* Reads a file, removes it, returns its size. */
static size_t take_file(char *path)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    CHECK(fd >= 0);
    size_t size = 0;
    ssize_t count = 0;
    while ((count = read(fd, file + size, sizeof(file) - size)) > 0) {
        size += (size_t)count;
    }
    (void)close(fd);
    CHECK_EQ_INT(unlink(path), 0);
    tr__memory_give(path);
    return size;
}

static void finish(struct tr__capture *capture, tr_process_output *kept)
{
    tr__capture_end(capture);
    CHECK_EQ_INT(capture->spill_fd, -1);
    CHECK_EQ_INT(tr__capture_result(capture, kept), 0);
    tr__capture_done(capture);
    tr__memory_give(kept->data);
}

/* Through caps of any size, in pieces of any size, by either way, with and without help. */
CASE(capture_file, has_the_whole_stream)
{
    struct case_random random;
    case_random_init(&random, 1);
    fill(0);
    for (unsigned round = 0; round < 60; round++) {
        struct tr__capture capture;
        tr_process_output kept;
        size_t bytes_max = 1 + (size_t)case_random_below(&random, round % 3 == 0 ? 50 : 200000);
        size_t piece_max = 1 + (size_t)case_random_below(&random, round % 2 == 0 ? 700 : 90000);
        size_t size = round % 3 == 0 ? 20000 : (size_t)case_random_below(&random, STREAM_BYTES);
        tr__capture_init(&capture, bytes_max, TR_OVERFLOW_DROP);
        CHECK_EQ_INT(tr__capture_spill(&capture, directory, "task-1-out", UINT64_MAX), 0);
        while (capture.total < size) {
            size_t piece = 1 + (size_t)case_random_below(&random, piece_max);
            size_t left = size - (size_t)capture.total;
            piece = piece < left ? piece : left;
            (void)tr__capture_add(&capture, stream + capture.total, piece);
            if (round % 4 != 0) {
                tr__capture_spill_write(&capture, false);
            }
        }
        finish(&capture, &kept);
        CHECK_EQ_U64(kept.total, size);
        CHECK_EQ_U64(kept.spill_bytes, size);
        CHECK_EQ_U64(take_file(kept.spill_path), size);
        CHECK(memcmp(file, stream, size) == 0);
    }
    clean();
}

CASE(capture_file, small_pieces_are_written_together)
{
    struct tr__capture capture;
    tr_process_output kept;
    fill(1);
    tr__capture_init(&capture, 1 << 20, TR_OVERFLOW_DROP);
    CHECK_EQ_INT(tr__capture_spill(&capture, directory, "out", UINT64_MAX), 0);
    (void)tr__capture_add(&capture, stream, 65535);
    tr__capture_spill_write(&capture, false);
    CHECK_EQ_U64(capture.spill_bytes, 0);
    (void)tr__capture_add(&capture, stream + 65535, 1);
    tr__capture_spill_write(&capture, false);
    CHECK_EQ_U64(capture.spill_bytes, 65536);
    finish(&capture, &kept);
    CHECK_EQ_U64(take_file(kept.spill_path), 65536);
    clean();
}

CASE(capture_file, ends_at_its_cap)
{
    struct tr__capture capture;
    tr_process_output kept;
    fill(2);
    tr__capture_init(&capture, 1000, TR_OVERFLOW_DROP);
    CHECK_EQ_INT(tr__capture_spill(&capture, directory, "out", 70000), 0);
    CHECK_EQ_U64(tr__capture_add(&capture, stream, STREAM_BYTES), STREAM_BYTES);
    finish(&capture, &kept);
    CHECK_EQ_U64(kept.total, STREAM_BYTES);
    CHECK_EQ_U64(kept.spill_bytes, 70000);
    CHECK_EQ_U64(take_file(kept.spill_path), 70000);
    CHECK(memcmp(file, stream, 70000) == 0);
    clean();
}

CASE(capture_file, ends_when_the_disk_is_full)
{
    struct tr__capture capture;
    tr_process_output kept;
    fill(3);
    tr__capture_init(&capture, 1000, TR_OVERFLOW_DROP);
    CHECK_EQ_INT(tr__capture_spill(&capture, directory, "out", UINT64_MAX), 0);
    CHECK_EQ_U64(tr__capture_add(&capture, stream, 100), 100);
    tr__capture_spill_write(&capture, true);
    int full = open("/dev/full", O_WRONLY | O_CLOEXEC);
    CHECK(full >= 0 && dup2(full, capture.spill_fd) >= 0);
    (void)close(full);
    CHECK_EQ_U64(tr__capture_add(&capture, stream + 100, 9900), 9900);
    CHECK_EQ_INT(capture.spill_fd, -1);
    finish(&capture, &kept);
    CHECK_EQ_U64(kept.total, 10000);
    CHECK_EQ_U64(kept.spill_bytes, 100);
    CHECK_EQ_U64(take_file(kept.spill_path), 100);
    clean();
}

/* Without that, SIGXFSZ would end this process. */
CASE(capture_file, stays_within_the_limit_of_the_process)
{
    struct rlimit limit = {5000, 5000};
    struct tr__capture capture;
    tr_process_output kept;
    struct rlimit before;
    fill(4);
    CHECK_EQ_INT(getrlimit(RLIMIT_FSIZE, &before), 0);
    limit.rlim_max = before.rlim_max;
    CHECK_EQ_INT(setrlimit(RLIMIT_FSIZE, &limit), 0);
    tr__capture_init(&capture, 1000, TR_OVERFLOW_DROP);
    CHECK_EQ_INT(tr__capture_spill(&capture, directory, "out", UINT64_MAX), 0);
    CHECK_EQ_U64(tr__capture_add(&capture, stream, STREAM_BYTES), STREAM_BYTES);
    finish(&capture, &kept);
    CHECK_EQ_INT(setrlimit(RLIMIT_FSIZE, &before), 0);
    CHECK_EQ_U64(kept.spill_bytes, 5000);
    CHECK_EQ_U64(take_file(kept.spill_path), 5000);
    clean();
}

CASE(capture_file, is_new_and_for_its_owner_alone)
{
    struct tr__capture captures[3];
    tr_process_output kept[3];
    struct stat status;
    fill(5);
    for (unsigned i = 0; i < 3; i++) {
        tr__capture_init(&captures[i], 1000, TR_OVERFLOW_DROP);
        CHECK_EQ_INT(tr__capture_spill(&captures[i], directory, "task-1-out", UINT64_MAX), 0);
        (void)tr__capture_add(&captures[i], &"abc"[i], 1);
    }
    for (unsigned i = 0; i < 3; i++) {
        finish(&captures[i], &kept[i]);
        CHECK_EQ_INT(stat(kept[i].spill_path, &status), 0);
        CHECK_EQ_INT(status.st_mode & 07777, 0600);
        CHECK_EQ_U64(take_file(kept[i].spill_path), 1);
        CHECK_EQ_INT(file[0], "abc"[i]);
    }
    clean();
}

CASE(capture_file, follows_no_link)
{
    struct tr__capture capture;
    char link[64];
    char aim[64];
    fill(6);
    (void)snprintf(link, sizeof(link), "%s/out", directory);
    (void)snprintf(aim, sizeof(aim), "%s/aim", directory);
    CHECK_EQ_INT(symlink(aim, link), 0);
    tr__capture_init(&capture, 1000, TR_OVERFLOW_DROP);
    CHECK_EQ_INT(tr__capture_spill(&capture, directory, "out", UINT64_MAX), 0);
    CHECK(access(aim, F_OK) < 0 && errno == ENOENT);
    tr__capture_done(&capture);
    CHECK_EQ_INT(unlink(link), 0);
    clean();
}

CASE(capture_file, goes_when_no_result_has_it)
{
    struct tr__capture capture;
    fill(7);
    tr__capture_init(&capture, 1000, TR_OVERFLOW_DROP);
    CHECK_EQ_INT(tr__capture_spill(&capture, directory, "out", UINT64_MAX), 0);
    (void)tr__capture_add(&capture, "abc", 3);
    tr__capture_done(&capture);
    clean();
}

CASE(capture_file, says_why_not)
{
    struct tr__capture capture;
    tr__capture_init(&capture, 1000, TR_OVERFLOW_DROP);
    CHECK_EQ_INT(tr__capture_spill(&capture, "/nonexistent", "out", UINT64_MAX), -ENOENT);
    CHECK_EQ_INT(tr__capture_spill(&capture, "/dev/null", "out", UINT64_MAX), -ENOTDIR);
    tr__memory_fail_after(1);
    CHECK_EQ_INT(tr__capture_spill(&capture, "/tmp", "out", UINT64_MAX), TR_ENOMEM);
    CHECK(capture.spill_path == NULL);
    CHECK_EQ_INT(capture.spill_fd, -1);
    tr__capture_done(&capture);
}
