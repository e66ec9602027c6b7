/*
 * output.c: head and tail of a stream within a cap.
 *
 * Purpose: a command may print gigabytes; a model reads the start and the end. Owner: one thread,
 * the tool's. Called by process; calls base/memory.
 *
 *     as long as all fits    data: | everything so far      | free     |       0 … used … capacity
 *     afterwards             data: | first bytes | ring of the last ones |     0 … head … capacity
 *                                                     ↑ next: the oldest byte, overwritten next
 *
 * Invariants
 *  1. used <= capacity <= bytes_max; memory grows by doubling, so it is at most twice what came.
 *     While it grows, the old and the new block exist side by side.
 *  2. total - used bytes have been overwritten; until that is more than 0, data[0 … used) is
 *     exactly the stream.
 *  3. Wrapping starts only when the block is full and cannot grow, by the cap or for want of
 *     memory. What lies from `head` on then is the ring, in order, so the change itself moves no
 *     byte.
 *  4. finish never leaves the first bytes of a character in the head, nor its last ones in the
 *     tail. Bytes that are not UTF-8 are kept, but for at most three at either side of the gap.
 *
 * Complexity: adding costs one copy of what is kept (all but the last bytes of a piece larger
 * than the ring are skipped); finish one turning of the ring in place.
 *
 * Rejected: two blocks (the result must be one run of bytes: joining them needs a third of the same
 * size); a list of chunks (likewise).
 */
#include "tools/output.h"

#include <stdbool.h>
#include <string.h>

#include "base/assert.h"
#include "base/memory.h"

/* A character of UTF-8 has at most this many bytes. */
#define CHARACTER_BYTES_MAX 4u

void tr__output_init(struct tr__output *output, size_t bytes_max)
{
    TR_ASSERT(bytes_max > 0);
    *output = (struct tr__output){.bytes_max = bytes_max};
}

/* Room for `size` bytes in all, if cap and memory allow; else as much as there is. */
static void grow(struct tr__output *output, size_t size)
{
    if (size <= output->capacity || output->capacity == output->bytes_max) {
        return;
    }
    size_t capacity = output->capacity == 0 ? TR__OUTPUT_START_BYTES : output->capacity;
    while (capacity < size && capacity < output->bytes_max) {
        capacity = capacity > output->bytes_max / 2 ? output->bytes_max : capacity * 2;
    }
    if (capacity > output->bytes_max) {
        capacity = output->bytes_max;
    }
    unsigned char *data = tr__memory_resize(output->data, capacity);
    if (data == NULL) {
        output->bytes_max = output->capacity; /* a full house: go on with what we have */
        return;
    }
    output->data = data;
    output->capacity = capacity;
}

/* Overwrites the oldest bytes of the ring. */
static void add_wrapping(struct tr__output *output, const unsigned char *data, size_t size)
{
    size_t ring = output->capacity - output->head;

    if (ring == 0) {
        return;
    }
    if (size > ring) {
        /* What would be overwritten by the rest of this piece need not be written. */
        size_t skipped = size - ring;
        output->next = output->head + (output->next - output->head + skipped) % ring;
        data += skipped;
        size = ring;
    }
    size_t first = output->capacity - output->next;
    if (first > size) {
        first = size;
    }
    memcpy(output->data + output->next, data, first);
    memcpy(output->data + output->head, data + first, size - first);
    output->next = output->head + (output->next - output->head + size) % ring;
}

void tr__output_add(struct tr__output *output, const void *data, size_t size)
{
    const unsigned char *bytes = data;

    if (size == 0) {
        return;
    }
    if (output->total == output->used) {
        size_t wanted = size > SIZE_MAX - output->used ? SIZE_MAX : output->used + size;
        grow(output, wanted);
        size_t fits = output->capacity - output->used;
        if (fits > size) {
            fits = size;
        }
        if (fits > 0) {
            memcpy(output->data + output->used, bytes, fits);
        }
        output->used += fits;
        output->total += fits;
        bytes += fits;
        size -= fits;
        output->head = output->capacity / 2;
        output->next = output->head;
    }
    if (size > 0) {
        TR_ASSERT(output->used == output->capacity);
        add_wrapping(output, bytes, size);
        output->total += size;
    }
}

static void reverse(unsigned char *data, size_t size)
{
    for (size_t low = 0, high = size; low + 1 < high; low++) {
        high -= 1;
        unsigned char byte = data[low];
        data[low] = data[high];
        data[high] = byte;
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

/* How much of data[0 … size) is left without the beginning of a character at its end. */
static size_t cut_end(const unsigned char *data, size_t size)
{
    for (size_t back = 1; back < CHARACTER_BYTES_MAX && back <= size; back++) {
        unsigned char byte = data[size - back];
        if (!is_continuation(byte)) {
            return character_size(byte) > back ? size - back : size;
        }
    }
    return size;
}

/* How many bytes at the start of data[0 … size) are the rest of a character. */
static size_t cut_start(const unsigned char *data, size_t size)
{
    size_t count = 0;

    while (count < CHARACTER_BYTES_MAX - 1 && count < size && is_continuation(data[count])) {
        count += 1;
    }
    return count;
}

void tr__output_finish(struct tr__output *output, tr_process_output *ret_output)
{
    size_t head = output->used;
    size_t size = output->used;

    TR_ASSERT(output->used <= output->capacity && output->used <= output->total);
    if (output->total > output->used && output->used > 0) {
        unsigned char *ring = output->data + output->head;
        size_t ring_size = output->capacity - output->head;
        /* Three turns make one rotation in place. */
        reverse(ring, output->next - output->head);
        reverse(output->data + output->next, output->capacity - output->next);
        reverse(ring, ring_size);
        head = cut_end(output->data, output->head);
        size_t cut = cut_start(ring, ring_size);
        memmove(output->data + head, ring + cut, ring_size - cut);
        size = head + ring_size - cut;
    }
    ret_output->data = output->data;
    ret_output->size = size;
    ret_output->head = head;
    ret_output->omitted = output->total - size;
    *output = (struct tr__output){.bytes_max = output->bytes_max};
}

void tr__output_done(struct tr__output *output)
{
    tr__memory_give(output->data);
    *output = (struct tr__output){.bytes_max = output->bytes_max};
}
