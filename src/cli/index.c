/*
 * index.c: a hash table of entries that live inside the things it finds.
 *
 * Owner: book.c, under its lock. Calls only the C library.
 *
 * Invariants:
 *  1. bucket_count is 0 or a power of two; an entry is in bucket hash & (bucket_count - 1).
 *  2. At most 2 entries per bucket on average, unless memory for more buckets was refused; then the
 *     table only gets slower.
 *
 * Adding, finding and removing cost one bucket: constant on average. Growing moves every entry once
 * per doubling. Nothing is allocated per entry.
 *
 * Rejected: tsearch(3). A red-black tree with a node allocated per call: 17 comparisons, each a
 * cache miss, per call with 100 000 calls under way.
 */
#include "index.h"

#include <stdlib.h>

enum {
    INDEX_BUCKETS_MIN = 64,
    INDEX_LOAD_MAX = 2
};

uint64_t cli_hash(uint64_t seed, const void *data, size_t size)
{
    const unsigned char *bytes = data;
    uint64_t hash = seed ^ UINT64_C(0xcbf29ce484222325);
    for (size_t at = 0; at < size; at++)
        hash = (hash ^ bytes[at]) * UINT64_C(0x100000001b3);
    /* FNV-1a leaves its low bits weak; buckets are chosen by exactly those. */
    hash ^= hash >> 32;
    hash *= UINT64_C(0x9e3779b97f4a7c15);
    return hash ^ hash >> 29;
}

static void link_entry(struct cli_index *index, struct cli_index_entry *entry)
{
    struct cli_index_entry **bucket = &index->buckets[entry->hash & (index->bucket_count - 1)];
    entry->next = *bucket;
    *bucket = entry;
}

static void grow(struct cli_index *index)
{
    struct cli_index larger = {0};
    larger.bucket_count = index->bucket_count == 0 ? INDEX_BUCKETS_MIN : index->bucket_count * 2;
    larger.buckets = calloc(larger.bucket_count, sizeof(struct cli_index_entry *));
    if (larger.buckets == NULL)
        return;
    larger.count = index->count;
    for (size_t at = 0; at < index->bucket_count; at++) {
        struct cli_index_entry *entry = index->buckets[at];
        while (entry != NULL) {
            struct cli_index_entry *next = entry->next;
            link_entry(&larger, entry);
            entry = next;
        }
    }
    free(index->buckets);
    *index = larger;
}

bool cli_index_add(struct cli_index *index, struct cli_index_entry *entry, uint64_t hash)
{
    if (index->count >= index->bucket_count * INDEX_LOAD_MAX)
        grow(index);
    if (index->bucket_count == 0)
        return false;
    entry->hash = hash;
    link_entry(index, entry);
    index->count++;
    return true;
}

void cli_index_remove(struct cli_index *index, struct cli_index_entry *entry)
{
    struct cli_index_entry **link = &index->buckets[entry->hash & (index->bucket_count - 1)];
    while (*link != entry)
        link = &(*link)->next;
    *link = entry->next;
    entry->next = NULL;
    index->count--;
}

static struct cli_index_entry *match(struct cli_index_entry *entry, uint64_t hash)
{
    while (entry != NULL && entry->hash != hash)
        entry = entry->next;
    return entry;
}

struct cli_index_entry *cli_index_first(const struct cli_index *index, uint64_t hash)
{
    if (index->bucket_count == 0)
        return NULL;
    return match(index->buckets[hash & (index->bucket_count - 1)], hash);
}

struct cli_index_entry *cli_index_next(const struct cli_index_entry *entry)
{
    return match(entry->next, entry->hash);
}

void cli_index_done(struct cli_index *index)
{
    free(index->buckets);
    *index = (struct cli_index){0};
}
