/*
 * child.h: what toolring-perf and the peers are when a benchmark starts them as its child.
 *
 *     PROGRAM --write-bytes N     writes N bytes of the pattern, 64 KiB at a time
 *     PROGRAM --signal-clock      says "ready", waits for SIGTERM, says when it came, by
 *                                 CLOCK_MONOTONIC
 */
#ifndef PERF_CHILD_H
#define PERF_CHILD_H

#include <stdbool.h>
#include <stdint.h>

#define CHILD_BLOCK_BYTES 65536

/* The byte at an offset of the pattern: letters, so that no cut falls into a character. */
static inline unsigned char child_byte(uint64_t offset)
{
    uint64_t at = offset % CHILD_BLOCK_BYTES;
    return (unsigned char)('a' + (at * 7 + at / 251) % 26);
}

/* True when the arguments ask for a child, which has then done its work: `ret_status` is for main.
 * */
bool child_main(int argc, char **argv, int *ret_status);

/* The path of this program, for its children. */
const char *child_program(void);

#endif
