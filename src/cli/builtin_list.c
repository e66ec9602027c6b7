/*
 * builtin_list.c: the built-in tool list_dir.
 *
 * Thread: a worker's; blocks for the disk. Calls the kernel.
 *
 * Entries come sorted by the bytes of their names, "." and ".." left out, links not followed. Names
 * that are no UTF-8 are handled as output is (command.c). ENTRIES_MAX bounds memory, the call's
 * output cap bounds the listing; "count" is then still the number of all entries that were read,
 * and "truncated" says that some are not listed.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "builtin.h"
#include "input.h"

enum {
    ENTRIES_MAX = 1000000,
    ENTRIES_FIRST = 64
};

struct listing {
    char **names;
    size_t count;
    size_t room;
};

static void listing_done(struct listing *listing)
{
    for (size_t index = 0; index < listing->count; index++)
        free(listing->names[index]);
    free(listing->names);
}

static bool listing_add(struct listing *listing, const char *name)
{
    if (listing->count == listing->room) {
        size_t room = listing->room == 0 ? ENTRIES_FIRST : listing->room * 2;
        char **names = realloc(listing->names, room * sizeof(*names));
        if (names == NULL)
            return false;
        listing->names = names;
        listing->room = room;
    }
    listing->names[listing->count] = strdup(name);
    return listing->names[listing->count] != NULL && ++listing->count > 0;
}

static int compare_names(const void *left, const void *right)
{
    return strcmp(*(char *const *)left, *(char *const *)right);
}

static const char *type_word(mode_t mode)
{
    switch (mode & S_IFMT) {
    case S_IFREG:
        return "file";
    case S_IFDIR:
        return "directory";
    case S_IFLNK:
        return "link";
    case S_IFIFO:
        return "fifo";
    case S_IFSOCK:
        return "socket";
    case S_IFCHR:
    case S_IFBLK:
        return "device";
    default:
        return "unknown";
    }
}

static void add_entry(struct cli_text *text, int directory_fd, const char *name)
{
    struct stat information;
    bool known = fstatat(directory_fd, name, &information, AT_SYMLINK_NOFOLLOW) == 0;
    cli_text_add(text, "{\"name\":");
    if (cli_text_string(text, name, strlen(name)) > 0) {
        cli_text_field(text, "name_base64");
        cli_text_base64(text, name, strlen(name));
    }
    cli_text_field_string(text, "type", known ? type_word(information.st_mode) : "unknown");
    if (known)
        cli_text_field_u64(text, "size", (uint64_t)information.st_size);
    cli_text_add(text, "}");
}

/* Reads all names. Returns 0 or an errno; *ret_more says whether there are still others. */
static int read_names(DIR *stream, struct listing *listing, bool *ret_more)
{
    for (;;) {
        errno = 0;
        const struct dirent *entry = readdir(stream);
        if (entry == NULL)
            return errno;
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
            continue;
        *ret_more = listing->count == ENTRIES_MAX;
        if (*ret_more)
            return 0;
        if (!listing_add(listing, entry->d_name))
            return ENOMEM;
    }
}

static int give_listing(tr_call *call, int directory_fd, const struct listing *listing, bool more)
{
    struct cli_text text = {0};
    size_t cap = tr_call_output_bytes_max(call);
    cli_text_add(&text, "{\"entries\":[");
    for (size_t index = 0; index < listing->count; index++) {
        size_t before = text.size;
        if (index > 0)
            cli_text_add(&text, ",");
        add_entry(&text, directory_fd, listing->names[index]);
        if (text.size > cap && index > 0) {
            text.size = before;
            more = true;
            break;
        }
    }
    cli_text_add(&text, "]");
    cli_text_field_u64(&text, "count", listing->count);
    cli_text_field_bool(&text, "truncated", more);
    cli_text_add(&text, "}");
    return cli_tool_result(call, &text, 0);
}

static int fail_errno(tr_call *call, int number, const char *path)
{
    char room[128];
    return cli_tool_fail(call, -number, "cannot list %.300s: %s", path,
                         cli_errno_text(number, room));
}

static int list_directory(tr_call *call, const char *directory, const char *named)
{
    struct listing listing = {0};
    bool more = false;
    char *path = cli_path_join(directory, named);
    if (path == NULL)
        return cli_tool_fail(call, TR_ENOMEM, "out of memory");
    DIR *stream = opendir(path);
    int number = stream == NULL ? errno : 0;
    free(path);
    if (stream == NULL)
        return fail_errno(call, number, named);
    number = read_names(stream, &listing, &more);
    int status;
    if (number != 0) {
        status = fail_errno(call, number, named);
    } else {
        if (listing.count > 0)
            qsort(listing.names, listing.count, sizeof(*listing.names), compare_names);
        status = give_listing(call, dirfd(stream), &listing, more);
    }
    (void)closedir(stream); /* read only: nothing can be lost */
    listing_done(&listing);
    return status;
}

int cli_builtin_list_dir(tr_call *call, void *context)
{
    static const char *const known[] = {"path", NULL};
    struct cli_fault fault;
    const char *path;
    json_t *input = cli_tool_input(call, known);
    if (input == NULL)
        return TR_EINVAL;
    int status;
    if (!cli_member_string(input, "path", SIZE_MAX, &path, &fault))
        status = cli_tool_fail(call, TR_EINVAL, "%s", fault.message);
    else if (path == NULL)
        status = cli_tool_fail(call, TR_EINVAL, "\"path\" is missing");
    else
        status = list_directory(call, context, path);
    json_decref(input);
    return status;
}
