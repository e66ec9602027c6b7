/*
 * index.h: a hash table of entries that live inside the things it finds.
 */
#ifndef CLI_INDEX_H
#define CLI_INDEX_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/** Embedded in each thing, once per index it is in. */
struct cli_index_entry {
    struct cli_index_entry *next; /**< next in its bucket */
    uint64_t hash;                /**< of its key */
};

/** The table. All zero is an empty one. */
struct cli_index {
    struct cli_index_entry **buckets; /**< bucket_count heads */
    size_t bucket_count;              /**< 0 or a power of two */
    size_t count;                     /**< entries */
};

/** The thing around an entry. */
#define CLI_INDEX_OWNER(entry, type, member)                                                       \
    ((type *)(void *)((char *)(entry)-offsetof(type, member)))

/** Hash of bytes, continued from `seed`. */
uint64_t cli_hash(uint64_t seed, const void *data, size_t size);

/** Adds an entry. Returns false only when memory for the very first buckets is missing. */
bool cli_index_add(struct cli_index *index, struct cli_index_entry *entry, uint64_t hash);

/** Removes an entry that is in the index. */
void cli_index_remove(struct cli_index *index, struct cli_index_entry *entry);

/** First entry with this hash, or NULL. The caller compares the keys. */
struct cli_index_entry *cli_index_first(const struct cli_index *index, uint64_t hash);

/** Next entry with the same hash, or NULL. */
struct cli_index_entry *cli_index_next(const struct cli_index_entry *entry);

/** Frees the buckets, not the entries. */
void cli_index_done(struct cli_index *index);

#endif
