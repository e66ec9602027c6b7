/*
 * lines.h: reading a stream line by line, with bounded memory, until told to stop.
 */
#ifndef CLI_LINES_H
#define CLI_LINES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/** Bytes of one line, at most, without its newline. */
#define CLI_LINE_BYTES_MAX ((size_t)16 * 1024 * 1024)

/** What came next. */
enum cli_line {
    CLI_LINE_TEXT,     /**< a line */
    CLI_LINE_OVERSIZE, /**< a line that is too long; it was skipped */
    CLI_LINE_END,      /**< the end of the stream */
    CLI_LINE_STOPPED,  /**< the stop descriptor became readable */
    CLI_LINE_ERROR,    /**< reading failed: errno says why */
};

/** A stream being read. */
struct cli_lines {
    int fd;          /**< read from */
    int stop_fd;     /**< readable: stop */
    char *buffer;    /**< bytes read */
    size_t capacity; /**< room in buffer */
    size_t start;    /**< first byte not yet given out */
    size_t end;      /**< one behind the last byte read */
    size_t searched; /**< bytes from start on without a newline */
    uint64_t number; /**< of the line given out last, from 1 */
    bool skipping;   /**< inside a line that is too long */
    bool ended;      /**< the stream has ended */
};

/** Begins to read. */
void cli_lines_init(struct cli_lines *lines, int fd, int stop_fd);

/** Takes the next line; with CLI_LINE_TEXT its bytes are valid until the next call. */
enum cli_line cli_lines_next(struct cli_lines *lines, const char **ret_line, size_t *ret_size);

/** Frees the buffer; does not close the descriptors. */
void cli_lines_done(struct cli_lines *lines);

#endif
