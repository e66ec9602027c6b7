/*
 * tree_file.c: reading and writing the kernel's text files.
 *
 * Owner: the calling thread. Called by tree's files; calls the kernel.
 *
 *  1. No descriptor stays open but a walk's until tr__tree_walk_done.
 *  2. No memory is allocated but the DIR of a walk through /proc.
 *  3. A walk shows ids that may be gone, or another's, by the time they are used: whoever uses one
 *     takes a pidfd first and looks again.
 *
 * /proc lists ids in ascending order, so what is born during a walk is usually still met.
 */
#include "engine/tree_parts.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/assert.h"

/* Numbers of fields in /proc/<pid>/stat, counted from the state, the first after the name. */
enum {
    FIELD_STATE = 0,
    FIELD_PARENT = 1,
    FIELD_GROUP = 2,
    FIELD_SESSION = 3,
    FIELD_START = 19,
};

static ssize_t read_some(int file, char *buffer, size_t size)
{
    ssize_t got;

    do {
        got = read(file, buffer, size);
    } while (got < 0 && errno == EINTR);
    return got;
}

int tr__tree_read(int directory_fd, const char *path, char *buffer, size_t size)
{
    buffer[0] = '\0';
    int file = openat(directory_fd, path, O_RDONLY | O_CLOEXEC);
    if (file < 0) {
        return -errno;
    }
    ssize_t got = read_some(file, buffer, size - 1); /* the kernel gives such files in one piece */
    int error = got < 0 ? -errno : 0;
    (void)close(file); /* only read from */
    if (error != 0) {
        return error;
    }
    buffer[got] = '\0';
    return (int)got;
}

int tr__tree_write(int directory_fd, const char *path, const char *text)
{
    int file = openat(directory_fd, path, O_WRONLY | O_CLOEXEC);
    if (file < 0) {
        return -errno;
    }
    ssize_t put;
    do {
        put = write(file, text, strlen(text));
    } while (put < 0 && errno == EINTR);
    int error = put < 0 ? -errno : 0;
    (void)close(file); /* the write has said all */
    return error;
}

uint64_t tr__tree_field(const char *text, const char *key, uint64_t otherwise)
{
    size_t length = strlen(key);

    for (const char *line = text; line != NULL && *line != '\0'; line = strchr(line, '\n')) {
        line += *line == '\n';
        if (strncmp(line, key, length) == 0 && line[length] == ' ') {
            return strtoull(line + length + 1, NULL, 10);
        }
    }
    return otherwise;
}

bool tr__tree_stat(pid_t pid, struct tr__tree_stat *ret_stat)
{
    char path[32];
    char text[1024];

    (void)snprintf(path, sizeof path, "/proc/%ld/stat", (long)pid); /* it fits */
    if (tr__tree_read(AT_FDCWD, path, text, sizeof text) <= 0) {
        return false;
    }
    char *at = strrchr(text, ')'); /* the name before it may contain anything */
    if (at == NULL || at[1] != ' ') {
        return false;
    }
    at += 2;
    for (int field = FIELD_STATE; field <= FIELD_START && *at != '\0'; field++) {
        if (field == FIELD_STATE) {
            ret_stat->state = *at;
        } else if (field == FIELD_PARENT) {
            ret_stat->parent = (pid_t)strtol(at, NULL, 10);
        } else if (field == FIELD_GROUP) {
            ret_stat->group = (pid_t)strtol(at, NULL, 10);
        } else if (field == FIELD_SESSION) {
            ret_stat->session = (pid_t)strtol(at, NULL, 10);
        } else if (field == FIELD_START) {
            ret_stat->start = strtoull(at, NULL, 10);
            return true;
        }
        at += strcspn(at, " ");
        at += *at == ' ';
    }
    return false;
}

bool tr__tree_walk_proc(struct tr__tree_walk *walk)
{
    walk->file = -1;
    walk->directory = opendir("/proc"); /* close-on-exec */
    return walk->directory != NULL;
}

bool tr__tree_walk_file(struct tr__tree_walk *walk, int directory_fd, const char *path)
{
    walk->directory = NULL;
    walk->begin = 0;
    walk->end = 0;
    walk->file = openat(directory_fd, path, O_RDONLY | O_CLOEXEC);
    return walk->file >= 0;
}

static pid_t next_in_proc(struct tr__tree_walk *walk)
{
    const struct dirent *entry;

    while ((entry = readdir(walk->directory)) != NULL) {
        if (entry->d_name[0] >= '1' && entry->d_name[0] <= '9') {
            return (pid_t)strtol(entry->d_name, NULL, 10);
        }
    }
    return 0;
}

static pid_t next_in_file(struct tr__tree_walk *walk)
{
    for (;;) {
        char *line = walk->buffer + walk->begin;
        size_t length = walk->end - walk->begin;
        char *newline = memchr(line, '\n', length);
        if (newline != NULL) {
            walk->begin += (size_t)(newline - line) + 1;
            return (pid_t)strtol(line, NULL, 10);
        }
        TR_ASSERT(length < sizeof walk->buffer); /* a line is a number */
        memmove(walk->buffer, line, length);
        walk->begin = 0;
        walk->end = length;
        ssize_t got = read_some(walk->file, walk->buffer + length, sizeof walk->buffer - length);
        if (got <= 0) {
            return 0;
        }
        walk->end += (size_t)got;
    }
}

pid_t tr__tree_walk_next(struct tr__tree_walk *walk)
{
    return walk->directory != NULL ? next_in_proc(walk) : next_in_file(walk);
}

void tr__tree_walk_done(struct tr__tree_walk *walk)
{
    if (walk->directory != NULL) {
        (void)closedir(walk->directory); /* only read from */
    } else {
        (void)close(walk->file); /* likewise */
    }
}
