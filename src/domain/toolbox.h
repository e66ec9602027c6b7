/*
 * toolbox: the registered tools, by index and by name.
 *
 * Tools are only ever added, so looking one up by its index takes one acquire load and no lock.
 * Names are found through an open-addressed table under the same rule: entries appear, never move
 * or go (the table is sized for tools_max at the start).
 */
#ifndef TR__DOMAIN_TOOLBOX_H
#define TR__DOMAIN_TOOLBOX_H

#include <pthread.h>
#include <stdint.h>

#include <toolring/types.h>

#include "base/atomic.h"

struct tr__tool {
    tr_tool_function function;
    void *context;
    tr_options options;  /* as registered */
    tr_options resolved; /* of a launch that sets nothing, without a routing callback */
    uint32_t flags;
    tr_tool_id id;
    uint32_t metadata_size; /* of `block`: the metadata of calls that bring none */
    bool gives;             /* it has metadata or a user pointer for such calls */
    void *block;
    void *user;
    char name[TR_TOOL_NAME_BYTES_MAX + 1];
};

struct tr__toolbox {
    struct tr__tool *tools; /* index 1 … count; one block with the table */
    tr__atomic_u32 *table;  /* hash → index; 0 is empty */
    uint32_t table_mask;
    uint32_t max;
    tr__atomic_u32 count; /* tools visible; written under the lock, released */
    pthread_mutex_t lock; /* registering */
};

int tr__toolbox_init(struct tr__toolbox *toolbox, uint32_t tools_max);
void tr__toolbox_done(struct tr__toolbox *toolbox);

/* The tool has been checked. Copies it, and what its options come to. 0, TR_EEXIST, TR_ELIMIT or
 * TR_ENOMEM. */
int tr__toolbox_add(struct tr__toolbox *toolbox, const tr_tool *tool, const tr_options *resolved,
                    tr_tool_id *ret_tool);

/* The tool of an index from outside, or NULL. */
const struct tr__tool *tr__toolbox_at(const struct tr__toolbox *toolbox, tr_tool_id tool);

/* The tool of a name, or NULL. */
const struct tr__tool *tr__toolbox_find(const struct tr__toolbox *toolbox, const char *name);

#endif
