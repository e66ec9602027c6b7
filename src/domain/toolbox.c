/*
 * toolbox.c: see toolbox.h.
 *
 * Owner: any thread reads; registering threads take the lock. Called by host; calls base.
 *
 * Invariants
 *  1. tools[1 … count] are complete and never change: `count` is released after the entry is
 *     filled.
 *  2. A table entry is released after `count` covers it, so a name found leads to a complete tool.
 *  3. The table has at least twice as many places as tools, so a probe ends at an empty place.
 *
 * Complexity: by index one load; by name expected O(1) probes of FNV-1a. The launching path uses
 * the index; hosts that launch by name pay one hash of the name.
 */
#include "domain/toolbox.h"

#include <string.h>

#include <toolring/error.h>

#include "base/assert.h"
#include "base/memory.h"

static uint32_t hash_of(const char *name)
{
    uint32_t hash = UINT32_C(2166136261); /* FNV-1a, 32 bit */
    for (const char *byte = name; *byte != '\0'; byte++) {
        hash = (hash ^ (unsigned char)*byte) * UINT32_C(16777619);
    }
    return hash;
}

int tr__toolbox_init(struct tr__toolbox *toolbox, uint32_t tools_max)
{
    TR_ASSERT(tools_max >= 1);
    memset(toolbox, 0, sizeof(*toolbox));
    uint32_t places = 16;
    while (places < tools_max * 2) {
        places *= 2;
    }
    size_t tools_bytes = ((size_t)tools_max + 1) * sizeof(*toolbox->tools);
    char *block = (char *)tr__memory_take_zero(tools_bytes + places * sizeof(*toolbox->table));
    if (block == NULL) {
        return TR_ENOMEM;
    }
    toolbox->tools = (struct tr__tool *)(void *)block;
    toolbox->table = (tr__atomic_u32 *)(void *)(block + tools_bytes);
    toolbox->table_mask = places - 1;
    toolbox->max = tools_max;
    if (pthread_mutex_init(&toolbox->lock, NULL) != 0) {
        tr__memory_give(toolbox->tools);
        toolbox->tools = NULL;
        return TR_ENOMEM;
    }
    return 0;
}

void tr__toolbox_done(struct tr__toolbox *toolbox)
{
    if (toolbox->tools == NULL) {
        return;
    }
    (void)pthread_mutex_destroy(&toolbox->lock); /* nobody holds it any more */
    for (uint32_t i = 1; i <= tr__load_relaxed(&toolbox->count); i++) { /* nobody adds any more */
        tr__memory_give(toolbox->tools[i].block);
    }
    tr__memory_give(toolbox->tools);
    toolbox->tools = NULL;
    toolbox->table = NULL;
}

/* The place of `name`, or the empty place where it belongs. */
static uint32_t place_of(const struct tr__toolbox *toolbox, const char *name, uint32_t *ret_index)
{
    uint32_t place = hash_of(name) & toolbox->table_mask;
    for (;;) {
        /* acquire: pairs with the release in tr__toolbox_add; the entry's tool is complete. */
        uint32_t index = tr__load_acquire(&toolbox->table[place]);
        if (index == 0 || strcmp(toolbox->tools[index].name, name) == 0) {
            *ret_index = index;
            return place;
        }
        place = (place + 1) & toolbox->table_mask;
    }
}

int tr__toolbox_add(struct tr__toolbox *toolbox, const tr_tool *tool, const tr_options *resolved,
                    tr_tool_id *ret_tool)
{
    int error = 0;
    size_t size = tool->metadata.size;
    void *block = size == 0 ? NULL : tr__memory_take(size);
    if (size > 0) {
        if (block == NULL) {
            return TR_ENOMEM;
        }
        memcpy(block, tool->metadata.data, size);
    }
    (void)pthread_mutex_lock(&toolbox->lock); /* a plain mutex of ours cannot fail */
    uint32_t index = 0;
    uint32_t place = place_of(toolbox, tool->name, &index);
    uint32_t count = tr__load_relaxed(&toolbox->count); /* written under this lock only */
    if (index != 0) {
        error = TR_EEXIST;
    } else if (count == toolbox->max) {
        error = TR_ELIMIT;
    } else {
        struct tr__tool *entry = &toolbox->tools[count + 1];
        entry->function = tool->function;
        entry->context = tool->context;
        entry->options = tool->options;
        entry->resolved = *resolved;
        entry->flags = tool->flags;
        entry->id = count + 1;
        entry->gives = size > 0 || tool->user != NULL;
        entry->block = block;
        entry->metadata_size = (uint32_t)size;
        entry->user = tool->user;
        memcpy(entry->name, tool->name, strlen(tool->name) + 1);
        tr__store_release(&toolbox->count, count + 1);        /* pairs with tr__toolbox_at */
        tr__store_release(&toolbox->table[place], count + 1); /* pairs with place_of */
        if (ret_tool != NULL) {
            *ret_tool = count + 1;
        }
    }
    (void)pthread_mutex_unlock(&toolbox->lock);
    if (error < 0) {
        tr__memory_give(block);
    }
    return error;
}

const struct tr__tool *tr__toolbox_at(const struct tr__toolbox *toolbox, tr_tool_id tool)
{
    /* acquire: pairs with the release in tr__toolbox_add. */
    if (tool == 0 || tool > tr__load_acquire(&toolbox->count)) {
        return NULL;
    }
    return &toolbox->tools[tool];
}

const struct tr__tool *tr__toolbox_find(const struct tr__toolbox *toolbox, const char *name)
{
    uint32_t index = 0;
    (void)place_of(toolbox, name, &index);
    return index == 0 ? NULL : &toolbox->tools[index];
}
