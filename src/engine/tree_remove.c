/*
 * tree_remove.c: removing a cgroup with all that programs have made below it.
 *
 * Owner: the calling thread. Called by tree_leaf and tree_root; calls the kernel.
 *
 *  1. Deepest first, without recursion and without paths: it knows the directory it is in and how
 *     deep that is, and goes back by "..". So neither depth nor names have a bound.
 *  2. The number of attempts has one, which the caller names: who may write to its leaf may have
 *     made thousands of cgroups. What is left when it is reached is the next call's.
 *  3. Nobody is killed here: a cgroup that somebody is in stays, and so do those above it.
 *
 * Cost: some 50 us for each that goes, in the kernel; without any below, one system call.
 */
#include "engine/tree_parts.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <unistd.h>

/* What a look at one directory has found. */
enum found {
    FOUND_NOTHING, /* there is no directory in it */
    FOUND_EMPTY,   /* there was, and there is none left */
    FOUND_BUSY,    /* one cannot go as it is */
    FOUND_TOO_MANY,
};

static bool remove_one(int directory_fd, const char *name)
{
    return unlinkat(directory_fd, name, AT_REMOVEDIR) == 0 || errno == ENOENT;
}

/* Another directory, by its way from the present one, which is closed. NULL: it cannot be read. */
static DIR *go(DIR *here, int directory_fd, const char *name)
{
    int fd = openat(directory_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    DIR *there = fd < 0 ? NULL : fdopendir(fd);

    if (there == NULL && fd >= 0) {
        (void)close(fd); /* only read from, as below */
    }
    if (here != NULL) {
        (void)closedir(here);
    }
    return there;
}

/* Removes the directories in one, as far as they are empty. */
static enum found clear(DIR *here, uint32_t *attempts_left, char *busy, size_t size)
{
    enum found found = FOUND_NOTHING;
    const struct dirent *entry;

    while ((entry = readdir(here)) != NULL) {
        if (entry->d_type != DT_DIR || entry->d_name[0] == '.') {
            continue; /* no cgroup's name begins so but these two */
        }
        if (*attempts_left == 0) {
            return FOUND_TOO_MANY;
        }
        *attempts_left -= 1;
        if (!remove_one(dirfd(here), entry->d_name)) {
            (void)snprintf(busy, size, "%s", entry->d_name); /* it fits: no name is longer */
            found = FOUND_BUSY;
        } else if (found == FOUND_NOTHING) {
            found = FOUND_EMPTY;
        }
    }
    return found;
}

bool tr__tree_remove(int directory_fd, const char *name, uint32_t attempts_max)
{
    char busy[NAME_MAX + 1];
    uint32_t attempts_left = attempts_max;
    uint32_t depth = 0;

    if (remove_one(directory_fd, name)) {
        return true;
    }
    DIR *here = go(NULL, directory_fd, name);
    while (here != NULL) {
        enum found found = clear(here, &attempts_left, busy, sizeof busy);
        if (found == FOUND_BUSY) {
            here = go(here, dirfd(here), busy);
            depth += 1;
        } else if (found == FOUND_EMPTY && depth > 0) {
            here = go(here, dirfd(here), "..");
            depth -= 1;
        } else {
            break; /* all is gone below it; or somebody is in it; or they are too many */
        }
    }
    if (here != NULL) {
        (void)closedir(here); /* only read from */
    }
    return remove_one(directory_fd, name);
}
