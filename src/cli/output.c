/*
 * output.c: the program's two streams: result lines on standard output, words for people on
 * standard error.
 *
 * Threads: the writer and the reader write results, the event thread events, the control thread
 * the status line; everybody may say something. Calls the kernel only.
 *
 * Invariants:
 *  1. A line is handed to one write call, together with others or alone; a second call continues it
 *     only when the kernel took a part. `lock` is held until it is out, so lines never mix.
 *  2. Once a write has failed nothing more is written to standard output, and stop_fd was told.
 *  3. Saying something never takes `lock`: the control thread must be
 *     able to speak and to obey signals while nobody reads the results.
 *
 * A pipe that was made non-blocking by its other owner is waited for with poll.
 */
#include "output.h"

#include <errno.h>
#include <poll.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
    SAY_BYTES_MAX = 2048
};

#define STATUS_CLEAR "\r\033[K"

static bool terminal_moves(void)
{
    const char *kind = getenv("TERM");
    return kind != NULL && strcmp(kind, "dumb") != 0;
}

void cli_output_init(struct cli_output *output, bool quiet, int input_fd, int stop_fd)
{
    *output = (struct cli_output){.stop_fd = stop_fd, .quiet = quiet};
    (void)pthread_mutex_init(&output->lock, NULL); /* cannot fail without attributes */
    output->status_live =
        !quiet && isatty(STDERR_FILENO) == 1 && isatty(input_fd) != 1 && terminal_moves();
    output->status_shares = output->status_live && isatty(STDOUT_FILENO) == 1;
}

void cli_output_done(struct cli_output *output)
{
    (void)pthread_mutex_destroy(&output->lock); /* nobody holds it any more */
}

/* Writes everything. Returns 0 or the errno. */
static int write_all(int fd, const char *data, size_t size)
{
    while (size > 0) {
        ssize_t written = write(fd, data, size);
        if (written >= 0) {
            data += written;
            size -= (size_t)written;
        } else if (errno == EAGAIN) {
            struct pollfd room = {.fd = fd, .events = POLLOUT};
            (void)poll(&room, 1, -1); /* the next write tells what is wrong, if something is */
        } else if (errno != EINTR) {
            return errno;
        }
    }
    return 0;
}

void cli_output_write(struct cli_output *output, const char *lines, size_t size)
{
    (void)pthread_mutex_lock(&output->lock); /* a plain mutex, never locked twice */
    if (!output->broken) {
        if (output->status_shares)
            (void)write_all(STDERR_FILENO, STATUS_CLEAR, sizeof(STATUS_CLEAR) - 1); /* decoration */
        output->error = write_all(STDOUT_FILENO, lines, size);
        output->broken = output->error != 0;
        if (output->broken) {
            cli_output_say(output, "cannot write results: %s; stopping", strerror(output->error));
            uint64_t one = 1;
            (void)!write(output->stop_fd, &one, sizeof(one)); /* an eventfd takes it or is set */
        }
    }
    (void)pthread_mutex_unlock(&output->lock); /* as above */
}

int cli_output_error(struct cli_output *output)
{
    (void)pthread_mutex_lock(&output->lock); /* as above */
    int error = output->error;
    (void)pthread_mutex_unlock(&output->lock); /* as above */
    return error;
}

void cli_mask_controls(char *text)
{
    unsigned char *bytes = (unsigned char *)text;
    for (; *bytes != '\0'; bytes++) {
        if (*bytes < 0x20 || *bytes == 0x7f) {
            *bytes = '?';
        } else if (bytes[0] == 0xc2 && bytes[1] >= 0x80 && bytes[1] <= 0x9f) {
            *bytes++ = '?'; /* U+0080 to U+009F: a terminal may take them for escapes too */
            *bytes = '?';
        }
    }
}

/* Writes prefix, message and newline to standard error, in one call. What is said may quote the
 * input: whatever that holds, it stays one line and moves nothing on a terminal. */
static void say(const char *prefix, const char *format, va_list arguments)
{
    char line[SAY_BYTES_MAX];
    size_t size = (size_t)snprintf(line, sizeof(line), "%s", prefix); /* far shorter */
    int added = vsnprintf(line + size, sizeof(line) - size - 1, format, arguments);
    cli_mask_controls(line + size);
    size += added < 0 ? 0 : (size_t)added;
    if (size > sizeof(line) - 2)
        size = sizeof(line) - 2;
    line[size++] = '\n';
    (void)write_all(STDERR_FILENO, line, size); /* there is nobody else to tell */
}

bool cli_show(const char *text)
{
    bool shown = fputs(text, stdout) >= 0 && fflush(stdout) == 0;
    if (!shown)
        cli_say("cannot write to standard output");
    return shown;
}

void cli_output_say(const struct cli_output *output, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    say(output->status_live ? STATUS_CLEAR "toolring: " : "toolring: ", format, arguments);
    va_end(arguments);
}

void cli_say(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    say("toolring: ", format, arguments);
    va_end(arguments);
}

void cli_output_status(const struct cli_output *output, const char *text)
{
    char line[SAY_BYTES_MAX];
    if (!output->status_live)
        return;
    int size = snprintf(line, sizeof(line), STATUS_CLEAR "%s", text);
    if (size > 0 && (size_t)size < sizeof(line))
        (void)write_all(STDERR_FILENO, line, (size_t)size); /* decoration */
}
