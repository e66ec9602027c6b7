/*
 * lines.c: reading a stream line by line, with bounded memory, until told to stop.
 *
 * Owner: the reader. Called by intake.c; calls the kernel.
 *
 * Invariants:
 *  1. start <= end <= capacity <= CLI_LINE_BYTES_MAX + LINES_ROOM_MIN.
 *  2. No byte is looked at twice for its newline: `searched` of them are known to have none.
 *  3. A line longer than the bound is given up at the bound and skipped to its newline without
 *     being kept; the next line is found as if nothing had been.
 *
 * The last line may lack its newline. The buffer starts at 64 KiB and doubles for long lines.
 *
 * Rejected: getline(3). It has no bound, and cannot be left when the program is told to stop.
 */
#include "lines.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
    LINES_ROOM_MIN = 64 * 1024
};

void cli_lines_init(struct cli_lines *lines, int fd, int stop_fd)
{
    *lines = (struct cli_lines){.fd = fd, .stop_fd = stop_fd};
}

void cli_lines_done(struct cli_lines *lines)
{
    free(lines->buffer);
    *lines = (struct cli_lines){.fd = -1, .stop_fd = -1};
}

/* Makes room behind the bytes: moves them to the front, then doubles the buffer. */
static bool make_room(struct cli_lines *lines)
{
    if (lines->start > 0) {
        memmove(lines->buffer, lines->buffer + lines->start, lines->end - lines->start);
        lines->end -= lines->start;
        lines->start = 0;
    }
    if (lines->end < lines->capacity)
        return true;
    size_t capacity = lines->capacity == 0 ? LINES_ROOM_MIN : lines->capacity * 2;
    if (capacity > CLI_LINE_BYTES_MAX + LINES_ROOM_MIN)
        capacity = CLI_LINE_BYTES_MAX + LINES_ROOM_MIN;
    char *buffer = realloc(lines->buffer, capacity);
    if (buffer == NULL)
        return false;
    lines->buffer = buffer;
    lines->capacity = capacity;
    return true;
}

/* Reads more bytes. Returns CLI_LINE_TEXT when there are some, or the end has come. */
static enum cli_line fill(struct cli_lines *lines)
{
    if (!make_room(lines)) {
        errno = ENOMEM;
        return CLI_LINE_ERROR;
    }
    for (;;) {
        struct pollfd polls[2] = {{.fd = lines->fd, .events = POLLIN},
                                  {.fd = lines->stop_fd, .events = POLLIN}};
        if (poll(polls, 2, -1) < 0 && errno != EINTR)
            return CLI_LINE_ERROR;
        if (polls[1].revents != 0)
            return CLI_LINE_STOPPED;
        if (polls[0].revents == 0)
            continue;
        ssize_t size = read(lines->fd, lines->buffer + lines->end, lines->capacity - lines->end);
        if (size < 0 && (errno == EINTR || errno == EAGAIN))
            continue;
        if (size < 0)
            return CLI_LINE_ERROR;
        lines->end += (size_t)size;
        lines->ended = size == 0;
        return CLI_LINE_TEXT;
    }
}

/* Gives out `size` bytes as a line, `used` of them with the newline. */
static enum cli_line give(struct cli_lines *lines, size_t size, size_t used, const char **ret_line,
                          size_t *ret_size)
{
    bool oversize = lines->skipping || size > CLI_LINE_BYTES_MAX;
    *ret_line = lines->buffer + lines->start;
    *ret_size = size;
    lines->start += used;
    lines->searched = 0;
    lines->skipping = false;
    lines->number++;
    return oversize ? CLI_LINE_OVERSIZE : CLI_LINE_TEXT;
}

enum cli_line cli_lines_next(struct cli_lines *lines, const char **ret_line, size_t *ret_size)
{
    for (;;) {
        size_t held = lines->end - lines->start;
        const char *newline = NULL;
        if (held > lines->searched)
            newline = memchr(lines->buffer + lines->start + lines->searched, '\n',
                             held - lines->searched);
        if (newline != NULL) {
            size_t size = (size_t)(newline - (lines->buffer + lines->start));
            return give(lines, size, size + 1, ret_line, ret_size);
        }
        lines->searched = held;
        if (held > CLI_LINE_BYTES_MAX || lines->skipping) {
            lines->skipping = true;
            lines->start = lines->end = lines->searched = 0;
        }
        if (lines->ended && (held > 0 || lines->skipping))
            return give(lines, lines->end - lines->start, lines->end - lines->start, ret_line,
                        ret_size);
        if (lines->ended)
            return CLI_LINE_END;
        enum cli_line result = fill(lines);
        if (result != CLI_LINE_TEXT)
            return result;
    }
}
