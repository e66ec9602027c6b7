/*
 * output.h: the program's two streams: result lines on standard output, words for people on
 * standard error.
 */
#ifndef CLI_OUTPUT_H
#define CLI_OUTPUT_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>

/** The streams. */
struct cli_output {
    pthread_mutex_t lock; /**< guards writing to standard output, `broken` and `error` */
    bool broken;          /**< nobody reads standard output any more; nothing is written */
    int error;            /**< errno of the write that failed */
    int stop_fd;          /**< eventfd: told when the output breaks */
    bool status_live;     /**< a status line is shown at the bottom of the terminal */
    bool status_shares;   /**< … of the same terminal that shows the results */
    bool quiet;           /**< no status line, no summary, no notices */
};

/** Prepares the streams. There is no status line while somebody types the orders (`input_fd` is a
 *  terminal). `stop_fd` is an eventfd that gets 1 added when the output breaks. */
void cli_output_init(struct cli_output *output, bool quiet, int input_fd, int stop_fd);

/** Releases what cli_output_init made. */
void cli_output_done(struct cli_output *output);

/** Writes whole lines to standard output; blocks as long as its reader does. Lines of several
 *  threads never mix. Does nothing once the output is broken. */
void cli_output_write(struct cli_output *output, const char *lines, size_t size);

/** Returns the errno that broke standard output, 0 if it is whole. */
int cli_output_error(struct cli_output *output);

/** Says something on standard error: "toolring: ", the message, a newline, in one write. Never
 *  waits for standard output. */
void cli_output_say(const struct cli_output *output, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/** Replaces the status line; an empty text clears it. */
void cli_output_status(const struct cli_output *output, const char *text);

/** As cli_output_say; for a command that has no streams open. */
void cli_say(const char *format, ...) __attribute__((format(printf, 1, 2)));

/** Writes a text to standard output. Returns false after having said that it could not. */
bool cli_show(const char *text);

/** Replaces control characters, which could forge a line or move things on a terminal, by "?". */
void cli_mask_controls(char *text);

#endif
