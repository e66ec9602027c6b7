/*
 * builtin_files.c: the built-in tools read_file and write_file.
 *
 * Threads: a worker's; they block for the disk (the engine then starts a substitute). Calls the
 * kernel. Only regular files are read and written: a FIFO or a device could block for ever.
 *
 * read_file gives at most the call's output cap; "truncated" says that the file goes on at
 * "next_offset". The cut falls between UTF-8 characters. Bytes that are no UTF-8 are handled as in
 * command.c: U+FFFD in "content", exact in "content_base64".
 *
 * write_file without "append" writes a temporary file beside the target and renames it: a reader
 * sees the old content or the new, never a part; a failure leaves the old. Mode bits of an
 * existing file are kept, a symbolic link is followed. It is not forced to the disk.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "builtin.h"
#include "input.h"

enum {
    READ_CHUNK = 256 * 1024,
    CREATE_MODE = 0666,
    PERMISSION_BITS = 07777,
    LINKS_MAX = 40 /* the kernel's own bound */
};

static int fail_errno(tr_call *call, int number, const char *what, const char *path)
{
    char room[128];
    return cli_tool_fail(call, -number, "cannot %s %.300s: %s", what, path,
                         cli_errno_text(number, room));
}

/* ── read_file ──────────────────────────────────────────────────────────────────────────────── */

struct reading {
    const char *path;
    uint64_t offset;
    uint64_t limit;
};

/* Reads up to limit bytes from offset into text; *ret_more says whether the file goes on.
 * Returns 0 or an errno. */
static int read_range(int fd, const struct reading *reading, struct cli_text *text, bool *ret_more)
{
    char probe;
    while (text->size < reading->limit) {
        uint64_t left = reading->limit - text->size;
        size_t chunk = left < READ_CHUNK ? (size_t)left : READ_CHUNK;
        if (!cli_text_reserve(text, chunk))
            return ENOMEM;
        ssize_t got =
            pread(fd, text->data + text->size, chunk, (off_t)(reading->offset + text->size));
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return errno;
        if (got == 0)
            return 0;
        text->size += (size_t)got;
    }
    *ret_more = pread(fd, &probe, 1, (off_t)(reading->offset + text->size)) == 1;
    if (*ret_more)
        text->size = cli_utf8_trim((const unsigned char *)text->data, text->size);
    return 0;
}

static int give_content(tr_call *call, const struct reading *reading,
                        const struct cli_text *content, uint64_t file_size, bool more)
{
    struct cli_text text = {0};
    (void)cli_text_reserve(&text, content->size + 256); /* a hint; a failure shows at the end */
    cli_text_add(&text, "{\"content\":");
    size_t replaced = cli_text_string(&text, content->data, content->size);
    if (replaced > 0) {
        cli_text_field(&text, "content_base64");
        cli_text_base64(&text, content->data, content->size);
    }
    cli_text_field_u64(&text, "bytes", content->size);
    cli_text_field_u64(&text, "offset", reading->offset);
    cli_text_field_u64(&text, "size", file_size);
    cli_text_field_bool(&text, "truncated", more);
    if (more)
        cli_text_field_u64(&text, "next_offset", reading->offset + content->size);
    cli_text_add(&text, "}");
    return cli_tool_result(call, &text, 0);
}

static int read_file(tr_call *call, const char *directory, const struct reading *reading)
{
    struct stat information;
    struct cli_text content = {0};
    bool more = false;
    char *path = cli_path_join(directory, reading->path);
    if (path == NULL)
        return cli_tool_fail(call, TR_ENOMEM, "out of memory");
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    int number = fd < 0 ? errno : 0;
    free(path);
    if (fd < 0)
        return fail_errno(call, number, "open", reading->path);
    int status;
    if (fstat(fd, &information) < 0)
        status = fail_errno(call, errno, "examine", reading->path);
    else if (!S_ISREG(information.st_mode))
        status = cli_tool_fail(call, S_ISDIR(information.st_mode) ? -EISDIR : TR_EINVAL,
                               "%.300s is no regular file", reading->path);
    else if ((number = read_range(fd, reading, &content, &more)) != 0)
        status = fail_errno(call, number, "read", reading->path);
    else
        status = give_content(call, reading, &content, (uint64_t)information.st_size, more);
    cli_text_done(&content);
    (void)close(fd); /* read only: nothing can be lost */
    return status;
}

int cli_builtin_read_file(tr_call *call, void *context)
{
    static const char *const known[] = {"path", "offset", "limit", NULL};
    struct cli_fault fault;
    uint64_t cap = tr_call_output_bytes_max(call);
    struct reading reading = {NULL, 0, cap};
    json_t *input = cli_tool_input(call, known);
    if (input == NULL)
        return TR_EINVAL;
    int status;
    if (!cli_member_string(input, "path", SIZE_MAX, &reading.path, &fault) ||
        !cli_member_number(input, "offset", 0, INT64_MAX, &reading.offset, &fault) ||
        !cli_member_number(input, "limit", 1, INT64_MAX, &reading.limit, &fault)) {
        status = cli_tool_fail(call, TR_EINVAL, "%s", fault.message);
    } else if (reading.path == NULL) {
        status = cli_tool_fail(call, TR_EINVAL, "\"path\" is missing");
    } else {
        reading.limit = reading.limit < cap ? reading.limit : cap;
        status = read_file(call, context, &reading);
    }
    json_decref(input);
    return status;
}

/* ── write_file ─────────────────────────────────────────────────────────────────────────────── */

/* Writes all bytes. Returns 0 or an errno. */
static int write_all(int fd, const char *data, size_t size)
{
    while (size > 0) {
        ssize_t written = write(fd, data, size);
        if (written < 0 && errno == EINTR)
            continue;
        if (written < 0)
            return errno;
        data += written;
        size -= (size_t)written;
    }
    return 0;
}

/* Appends to a file, making it if need be. Returns 0 or an errno. */
static int append_file(const char *path, tr_bytes content)
{
    struct stat information;
    int fd =
        open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NONBLOCK | O_NOCTTY, CREATE_MODE);
    if (fd < 0)
        return errno == ENXIO ? EINVAL : errno; /* a FIFO that nobody reads, a socket */
    int number = fstat(fd, &information) < 0 ? errno : 0;
    if (number == 0 && !S_ISREG(information.st_mode))
        number = EINVAL;
    if (number == 0)
        number = write_all(fd, content.data, content.size);
    if (close(fd) < 0 && number == 0)
        number = errno;
    return number;
}

/* Writes a new file beside `path` and gives it that name. Returns 0 or an errno. */
static int replace_file(const char *path, tr_bytes content, uint64_t unique)
{
    struct stat former;
    bool exists = stat(path, &former) == 0;
    if (exists && !S_ISREG(former.st_mode))
        return S_ISDIR(former.st_mode) ? EISDIR : EINVAL;
    if (exists && faccessat(AT_FDCWD, path, W_OK, AT_EACCESS) < 0)
        return errno;
    char *beside = NULL;
    if (asprintf(&beside, "%s.%ld-%llx.tmp", path, (long)getpid(), (unsigned long long)unique) < 0)
        return ENOMEM;
    int fd = open(beside, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, CREATE_MODE);
    if (fd < 0) {
        int number = errno;
        free(beside);
        return number;
    }
    int number = write_all(fd, content.data, content.size);
    if (number == 0 && exists && fchmod(fd, former.st_mode & PERMISSION_BITS) < 0)
        number = errno;
    if (close(fd) < 0 && number == 0)
        number = errno;
    if (number == 0 && rename(beside, path) < 0)
        number = errno;
    if (number != 0)
        (void)unlink(beside); /* the failure before is the one to tell */
    free(beside);
    return number;
}

/* The path that a link at `path` leads to; NULL for want of memory. */
static char *behind_link(const char *path, const char *target)
{
    const char *slash = strrchr(path, '/');
    char *next = NULL;
    if (target[0] == '/' || slash == NULL)
        return strdup(target);
    return asprintf(&next, "%.*s/%s", (int)(slash - path), path, target) < 0 ? NULL : next;
}

/* Where a path leads, which need not exist: a link's target is replaced, not the link. Returns 0
 * with memory for the caller, or an errno. */
static int follow(const char *path, char **ret_place)
{
    char target[PATH_MAX];
    char *place = strdup(path);
    for (int links = 0; place != NULL && links < LINKS_MAX; links++) {
        ssize_t size = readlink(place, target, sizeof(target) - 1);
        if (size < 0) { /* no link, or nothing there */
            *ret_place = place;
            return 0;
        }
        target[size] = '\0';
        char *next = behind_link(place, target);
        free(place);
        place = next;
    }
    int number = place == NULL ? ENOMEM : ELOOP;
    free(place);
    return number;
}

static int write_file(tr_call *call, const char *directory, const char *named, tr_bytes content,
                      bool append)
{
    struct cli_text text = {0};
    char *path = cli_path_join(directory, named);
    if (path == NULL)
        return cli_tool_fail(call, TR_ENOMEM, "out of memory");
    char *place = NULL;
    int number = append ? 0 : follow(path, &place);
    if (append)
        number = append_file(path, content);
    else if (number == 0)
        number = replace_file(place, content, tr_call_task(call));
    free(place);
    free(path);
    if (number == EINVAL)
        return cli_tool_fail(call, TR_EINVAL, "%.300s is no regular file", named);
    if (number != 0)
        return fail_errno(call, number, "write", named);
    cli_text_add(&text, "{");
    cli_text_field_u64(&text, "bytes", content.size);
    cli_text_field_bool(&text, "appended", append);
    cli_text_add(&text, "}");
    return cli_tool_result(call, &text, 0);
}

int cli_builtin_write_file(tr_call *call, void *context)
{
    static const char *const known[] = {"path", "content", "append", NULL};
    struct cli_fault fault;
    const char *path;
    tr_bytes content;
    json_t *input = cli_tool_input(call, known);
    if (input == NULL)
        return TR_EINVAL;
    int status;
    const json_t *append = json_object_get(input, "append");
    if (!cli_member_string(input, "path", SIZE_MAX, &path, &fault) ||
        !cli_input_bytes(input, "content", &content, &fault))
        status = cli_tool_fail(call, TR_EINVAL, "%s", fault.message);
    else if (path == NULL || content.data == NULL)
        status =
            cli_tool_fail(call, TR_EINVAL, "\"%s\" is missing", path == NULL ? "path" : "content");
    else if (append != NULL && !json_is_boolean(append))
        status = cli_tool_fail(call, TR_EINVAL, "\"append\" must be true or false");
    else
        status = write_file(call, context, path, content, json_is_true(append));
    json_decref(input);
    return status;
}
