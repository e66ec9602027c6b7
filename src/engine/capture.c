/*
 * capture.c: see capture.h.
 *
 * Purpose: a command may print gigabytes; a model reads the start and the end, a host may follow.
 * Owner: the tool's thread; readers under the live's mutex. Called by live, process; calls
 * base/memory, the file system.
 *
 *     as long as all fits    data: | everything so far      | free     |       0 … used … capacity
 *     wrapped                data: | first bytes | ring of the last ones |     0 … head … capacity
 *                                                     ↑ next: the oldest byte, overwritten next
 *
 * Invariants
 *  1. used <= capacity <= capacity_max <= bytes_max; memory grows by doubling, so it is at most
 *     twice what came. While it grows, the old and the new block exist side by side.
 *  2. Not wrapped: data[0 … used) is the stream. Wrapped: used = capacity, the head is the stream's
 *     first bytes, the ring its last ones, total - capacity bytes are missing between.
 *  3. Wrapping starts only when the block is full and cannot grow, by the cap or for want of
 *     memory. What lies from `head` on then is the ring, in order, so the change itself moves no
 *     byte. With PAUSE, `head` is 0.
 *  4. PAUSE: only bytes before `taken` are overwritten.
 *  5. The bytes not yet in the file, [spill_bytes, total), are the last ones and never overwritten:
 *     room writes them first if they could be.
 *  6. Neither a result nor a reader gets the first bytes of a character before the gap, nor its
 *     last ones behind it. Bytes that are not UTF-8 are kept, but for at most three at either side.
 *  7. Only the adding thread changes anything but `taken` and `starved`: it may read all the rest
 *     without the mutex.
 *
 * Complexity: room and added O(1), no copy; reading one copy of what is read; the result one copy
 * of what was kept. A file costs a write per 64 KiB.
 *
 * Rejected: two blocks (the result must be one run of bytes: joining them needs a third of the same
 * size); a list of chunks (likewise); a buffer for the file (what is here is one).
 */
#include "engine/capture.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include <toolring/error.h>

#include "base/assert.h"
#include "base/clock.h"
#include "base/memory.h"

/* A character of UTF-8 has at most this many bytes. */
#define CHARACTER_BYTES_MAX 4u
/* Less is not worth a write of its own. */
#define SPILL_BATCH_BYTES 65536u
/* Names tried for a file: the second one has a number that nobody has had before. */
#define SPILL_NAMES_MAX 16u

void tr__capture_init(struct tr__capture *capture, size_t bytes_max, tr_overflow overflow)
{
    TR_ASSERT(bytes_max > 0);
    memset(capture, 0, sizeof(*capture));
    capture->bytes_max = bytes_max;
    capture->capacity_max = bytes_max;
    capture->overflow = overflow;
    capture->spill_fd = -1;
}

static void close_spill(struct tr__capture *capture)
{
    if (capture->spill_fd >= 0) {
        (void)close(capture->spill_fd); /* what it could tell is in spill_bytes already */
        capture->spill_fd = -1;
    }
}

void tr__capture_done(struct tr__capture *capture)
{
    if (capture->data != capture->spare) {
        tr__memory_give(capture->data);
    }
    close_spill(capture);
    if (capture->spill_path != NULL) {
        (void)unlink(capture->spill_path); /* nobody was told of it */
        tr__memory_give(capture->spill_path);
    }
    tr__capture_init(capture, capture->bytes_max, capture->overflow);
}

/* A write beyond RLIMIT_FSIZE would raise SIGXFSZ: the file's cap stays within. */
static uint64_t within_file_limit(uint64_t bytes_max)
{
    struct rlimit limit;

    if (getrlimit(RLIMIT_FSIZE, &limit) < 0 || limit.rlim_cur == RLIM_INFINITY) {
        return bytes_max;
    }
    return limit.rlim_cur < bytes_max ? limit.rlim_cur : bytes_max;
}

int tr__capture_spill(struct tr__capture *capture, const char *directory, const char *name,
                      uint64_t bytes_max)
{
    size_t size = strlen(directory) + strlen(name) + sizeof("/-0123456789abcdef");
    char *path = (char *)tr__memory_take(size);

    TR_ASSERT(capture->spill_path == NULL && capture->total == 0);
    if (path == NULL) {
        return TR_ENOMEM;
    }
    (void)snprintf(path, size, "%s/%s", directory, name);
    int fd = -1;
    for (unsigned tried = 0; fd < 0 && tried < SPILL_NAMES_MAX; tried++) {
        fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
        if (fd < 0 && errno != EEXIST && errno != EINTR) {
            break;
        }
        if (fd < 0) {
            (void)snprintf(path, size, "%s/%s-%" PRIx64, directory, name, tr__clock_now());
        }
    }
    if (fd < 0) {
        int error = -errno;
        tr__memory_give(path);
        return error;
    }
    capture->spill_fd = fd;
    capture->spill_path = path;
    capture->spill_max = within_file_limit(bytes_max);
    return 0;
}

/* Bytes in the ring. */
static size_t ring_size(const struct tr__capture *capture)
{
    return capture->capacity - capture->head;
}

/* Bytes missing between head and ring, those included that lent room will overwrite. */
static uint64_t gap_size(const struct tr__capture *capture)
{
    return capture->wrapped ? capture->total - capture->used + capture->lent : 0;
}

/* Where the stream's byte `offset`, which is there, lies, and how many follow it in memory. */
static size_t run_at(const struct tr__capture *capture, uint64_t offset, const unsigned char **ret)
{
    size_t place = (size_t)offset;
    size_t end = capture->wrapped ? capture->head : capture->used;

    TR_ASSERT(offset <= capture->total);
    if (capture->wrapped && offset >= capture->head) {
        size_t ring = ring_size(capture);
        TR_ASSERT(ring > 0);
        size_t back = (size_t)(capture->total - offset);
        TR_ASSERT(back <= ring);
        place = capture->head + (capture->next - capture->head + ring - back) % ring;
        end = back < capture->capacity - place ? place + back : capture->capacity;
    }
    *ret = capture->data + place;
    return end - place;
}

/* Copies bytes that are all there. */
static void copy_out(const struct tr__capture *capture, uint64_t offset, unsigned char *to,
                     size_t size)
{
    while (size > 0) {
        const unsigned char *from = NULL;
        size_t run = run_at(capture, offset, &from);
        run = run < size ? run : size;
        memcpy(to, from, run);
        to += run;
        offset += run;
        size -= run;
    }
}

/* Bytes that are to go to the file. */
static uint64_t spill_pending(const struct tr__capture *capture)
{
    return capture->spill_fd < 0 ? 0 : capture->total - capture->spill_bytes;
}

void tr__capture_spill_write(struct tr__capture *capture, bool all)
{
    /* A quarter of the cap at most, so that room need not write (invariant 5). */
    size_t batch =
        capture->bytes_max / 4 < SPILL_BATCH_BYTES ? capture->bytes_max / 4 + 1 : SPILL_BATCH_BYTES;

    if (spill_pending(capture) < (all ? 1 : batch)) {
        return;
    }
    while (capture->spill_fd >= 0 && capture->spill_bytes < capture->total) {
        const unsigned char *from = NULL;
        size_t run = run_at(capture, capture->spill_bytes, &from);
        uint64_t left = capture->spill_max - capture->spill_bytes;
        ssize_t written = write(capture->spill_fd, from, run < left ? run : (size_t)left);
        if (written > 0) {
            capture->spill_bytes += (uint64_t)written;
        } else if (written == 0 || errno != EINTR) {
            close_spill(capture); /* its cap, or a full disk: the file ends here */
        }
    }
}

/* Takes twice as much, if cap and memory allow. */
static void grow(struct tr__capture *capture)
{
    size_t max = capture->capacity_max;
    size_t capacity = capture->capacity > max / 2 ? max : capture->capacity * 2;
    if (capture->capacity == max) {
        return;
    }
    if (capture->capacity == 0) {
        capacity = max < TR__CAPTURE_START_BYTES ? max : TR__CAPTURE_START_BYTES;
    }
    unsigned char *data = (unsigned char *)tr__memory_resize(capture->data, capacity);
    if (data != NULL) {
        capture->data = data;
        capture->capacity = capacity;
        return;
    }
    if (capture->data == NULL) {
        capture->data = capture->spare;
        capture->capacity = max < sizeof(capture->spare) ? max : sizeof(capture->spare);
    }
    capture->capacity_max = capture->capacity; /* a full house: go on with what there is */
}

/* How much of the ring may be overwritten, of `size` bytes wanted. */
static size_t ring_room(const struct tr__capture *capture, size_t size)
{
    size_t ring = ring_size(capture);

    if (capture->overflow == TR_OVERFLOW_PAUSE) {
        uint64_t oldest = capture->total - ring;
        uint64_t passed = capture->taken > oldest ? capture->taken - oldest : 0;
        return passed < size ? (size_t)passed : size;
    }
    /* Half of it, so that readers see the other half meanwhile. */
    size_t half = ring > 1 ? ring / 2 : 1;
    return half < size ? half : size;
}

int tr__capture_room(struct tr__capture *capture, size_t size, struct iovec pieces[2])
{
    TR_ASSERT(capture->lent == 0 && !capture->ended && size > 0);
    if (!capture->wrapped) {
        size_t fits = capture->capacity - capture->used;
        if (fits < size && fits <= capture->capacity / 4) {
            grow(capture); /* not to `size`: most reads bring less than they may */
            fits = capture->capacity - capture->used;
        }
        if (fits > 0) {
            capture->lent = fits < size ? fits : size;
            pieces[0] = (struct iovec){capture->data + capture->used, capture->lent};
            return 1;
        }
        capture->head = capture->overflow == TR_OVERFLOW_PAUSE ? 0 : capture->capacity / 2;
        capture->next = capture->head;
    }
    size = ring_room(capture, size);
    if (size == 0) {
        capture->starved = true;
        return 0;
    }
    if (spill_pending(capture) > ring_size(capture) - size) {
        tr__capture_spill_write(capture, true); /* invariant 5 */
    }
    capture->wrapped = true;
    capture->lent = size;
    size_t first = capture->capacity - capture->next;
    first = first < size ? first : size;
    pieces[0] = (struct iovec){capture->data + capture->next, first};
    pieces[1] = (struct iovec){capture->data + capture->head, size - first};
    return first < size ? 2 : 1;
}

void tr__capture_added(struct tr__capture *capture, size_t size)
{
    TR_ASSERT(size <= capture->lent);
    capture->lent = 0;
    capture->total += size;
    if (capture->wrapped) {
        size_t ring = ring_size(capture);
        TR_ASSERT(ring > 0);
        capture->next = capture->head + (capture->next - capture->head + size) % ring;
    } else {
        capture->used += size;
    }
}

/* Of `size` bytes to add, how many at the front would be overwritten by the rest and are nobody
 * else's: counts them in. */
static size_t pass_over(struct tr__capture *capture, size_t size)
{
    size_t ring = ring_size(capture);

    if (!capture->wrapped || capture->overflow == TR_OVERFLOW_PAUSE || size <= ring ||
        capture->spill_fd >= 0) {
        return 0;
    }
    size_t passed = size - ring;
    capture->next = capture->head + (capture->next - capture->head + passed) % ring;
    capture->total += passed;
    return passed;
}

size_t tr__capture_add(struct tr__capture *capture, const void *data, size_t size)
{
    const unsigned char *bytes = (const unsigned char *)data;
    size_t added = 0;

    while (added < size) {
        added += pass_over(capture, size - added);
        struct iovec pieces[2];
        int count = tr__capture_room(capture, size - added, pieces);
        if (count == 0) {
            break;
        }
        size_t lent = capture->lent;
        for (int i = 0; i < count; i++) {
            memcpy(pieces[i].iov_base, bytes + added, pieces[i].iov_len);
            added += pieces[i].iov_len;
        }
        tr__capture_added(capture, lent);
    }
    return added;
}

bool tr__capture_is_over(const struct tr__capture *capture)
{
    return capture->total > capture->bytes_max;
}

void tr__capture_unpause(struct tr__capture *capture)
{
    if (capture->overflow == TR_OVERFLOW_PAUSE) {
        capture->overflow = TR_OVERFLOW_DROP;
        capture->starved = false;
    }
}

void tr__capture_end(struct tr__capture *capture)
{
    TR_ASSERT(capture->lent == 0);
    tr__capture_spill_write(capture, true);
    close_spill(capture);
    capture->ended = true;
    if (capture->used < capture->capacity / 2 && capture->data != capture->spare) {
        size_t size = capture->used > 0 ? capture->used : 1;
        unsigned char *data = (unsigned char *)tr__memory_resize(capture->data, size);
        if (data != NULL) {
            capture->data = data;
            capture->capacity = size;
        }
    }
}

static bool is_continuation(unsigned char byte)
{
    return (byte & 0xC0u) == 0x80u;
}

/* Bytes of the character that a byte begins; 1 for one that begins none. */
static size_t character_size(unsigned char byte)
{
    if (byte >= 0xF0u && byte <= 0xF4u) {
        return 4;
    }
    if (byte >= 0xE0u && byte <= 0xEFu) {
        return 3;
    }
    return byte >= 0xC2u && byte <= 0xDFu ? 2 : 1;
}

/* Where the bytes before the gap end: without the beginning of a character. */
static size_t gap_begin(const struct tr__capture *capture)
{
    size_t size = capture->head;

    for (size_t back = 1; back < CHARACTER_BYTES_MAX && back <= size; back++) {
        unsigned char byte = capture->data[size - back];
        if (!is_continuation(byte)) {
            return character_size(byte) > back ? size - back : size;
        }
    }
    return size;
}

/* The offset at which the bytes behind the gap begin: without the rest of a character. */
static uint64_t gap_end(const struct tr__capture *capture)
{
    uint64_t offset = capture->head + gap_size(capture);
    unsigned cut = 0;

    while (cut < CHARACTER_BYTES_MAX - 1 && offset + cut < capture->total) {
        const unsigned char *byte = NULL;
        (void)run_at(capture, offset + cut, &byte);
        if (!is_continuation(*byte)) {
            break;
        }
        cut += 1;
    }
    return offset + cut;
}

int tr__capture_read(struct tr__capture *capture, uint64_t cursor, void *buffer, size_t size,
                     tr_output_mark *ret_mark)
{
    if (cursor > capture->total) {
        return TR_EINVAL;
    }
    uint64_t start = cursor;
    uint64_t end = capture->total;
    uint64_t gap = gap_size(capture);
    capture->taken = cursor > capture->taken ? cursor : capture->taken;
    if (gap > 0) {
        size_t before = gap_begin(capture);
        if (cursor < before) {
            end = before;
        } else if (cursor < capture->head + gap) {
            start = gap_end(capture);
        }
    }
    uint64_t left = end - start;
    size = size < INT_MAX ? size : INT_MAX;
    size = size < left ? size : (size_t)left;
    copy_out(capture, start, (unsigned char *)buffer, size);
    ret_mark->next = start + size;
    ret_mark->skipped = start - cursor;
    ret_mark->total = capture->total;
    ret_mark->end = capture->ended && ret_mark->next == capture->total;
    return (int)size;
}

bool tr__capture_made_room(struct tr__capture *capture)
{
    if (!capture->starved) {
        return false;
    }
    size_t free = capture->wrapped ? ring_room(capture, SIZE_MAX) : capture->capacity;
    if (!capture->wrapped) {
        free = capture->taken < free ? (size_t)capture->taken : free; /* it is full, head is 0 */
    }
    bool enough = free >= capture->capacity - capture->capacity / 2;
    capture->starved = !enough;
    return enough;
}

int tr__capture_result(struct tr__capture *capture, tr_process_output *ret_output)
{
    bool cut = gap_size(capture) > 0;
    size_t head = cut ? gap_begin(capture) : capture->used;
    uint64_t tail = cut ? gap_end(capture) : capture->total;
    size_t size = head + (size_t)(capture->total - tail);

    TR_ASSERT(capture->lent == 0);
    *ret_output = (tr_process_output){.total = capture->total,
                                      .spill_path = capture->spill_path,
                                      .spill_bytes = capture->spill_bytes};
    capture->spill_path = NULL;
    if (size > 0) {
        ret_output->data = (unsigned char *)tr__memory_take(size);
        if (ret_output->data == NULL) {
            ret_output->omitted = capture->total;
            return TR_ENOMEM;
        }
        copy_out(capture, 0, ret_output->data, head);
        copy_out(capture, tail, ret_output->data + head, size - head);
    }
    ret_output->size = size;
    ret_output->head = head;
    ret_output->omitted = capture->total - size;
    return 0;
}
