/*
 * roster.c: see roster.h for what a roster is and why it is no list.
 *
 * Called by domain/registry and host under the lane's lock; calls base/memory.
 *
 * Invariants
 *  1. ids == few exactly when capacity == TR__ROSTER_INLINE.
 *  2. count <= capacity; ids[0 … count) are in the order they were appended.
 *
 * Complexity: append O(1); reserve O(capacity) once per at least capacity/2 appends.
 */
#include "domain/roster.h"

#include <string.h>

#include <toolring/error.h>

#include "base/assert.h"
#include "base/memory.h"

void tr__roster_init(struct tr__roster *roster)
{
    roster->count = 0;
    roster->capacity = TR__ROSTER_INLINE;
    roster->ids = roster->few;
}

void tr__roster_done(struct tr__roster *roster)
{
    if (roster->ids != roster->few) {
        tr__memory_give(roster->ids);
    }
    tr__roster_init(roster);
}

void tr__roster_sweep(struct tr__roster *roster, tr__roster_keep keep, void *context)
{
    uint32_t kept = 0;
    for (uint32_t i = 0; i < roster->count; i++) {
        if (keep(context, roster->ids[i])) {
            roster->ids[kept++] = roster->ids[i];
        }
    }
    roster->count = kept;
}

int tr__roster_reserve(struct tr__roster *roster, tr__roster_keep keep, void *context)
{
    TR_ASSERT(roster->count <= roster->capacity);
    if (roster->count < roster->capacity) {
        return 0;
    }
    tr__roster_sweep(roster, keep, context);
    if (roster->count <= roster->capacity / 2) {
        return 0;
    }
    uint32_t capacity = roster->capacity * 2;
    tr_task_id *ids = (tr_task_id *)tr__memory_take((size_t)capacity * sizeof(*ids));
    if (ids == NULL) {
        return roster->count < roster->capacity ? 0 : TR_ENOMEM;
    }
    memcpy(ids, roster->ids, (size_t)roster->count * sizeof(*ids));
    if (roster->ids != roster->few) {
        tr__memory_give(roster->ids);
    }
    roster->ids = ids;
    roster->capacity = capacity;
    return 0;
}

void tr__roster_append(struct tr__roster *roster, tr_task_id id)
{
    TR_ASSERT(roster->count < roster->capacity);
    roster->ids[roster->count++] = id;
}
