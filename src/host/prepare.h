/*
 * prepare: a call on its way in: everything about a launch that needs no lock.
 */
#ifndef TR__HOST_PREPARE_H
#define TR__HOST_PREPARE_H

#include "host/approval.h"
#include "host/manager.h"

/* Calls prepared and admitted together. */
#define TR__LAUNCH_GROUP 32u

struct tr__prepared {
    const tr_request *request; /* the host's, or `filled` */
    const struct tr__tool *tool;
    const tr_options *options; /* the tool's resolved ones, or `own` */
    tr_options own;
    tr_request filled;       /* with what the tool gives to calls that bring none */
    uint64_t bits;           /* of the state word */
    struct tr__arena_ref in; /* a block for call id, metadata, input; or none */
    struct tr__approval *approval;
    uint64_t expire_ns;
    char *denied; /* the reason, a copy; set when denied */
    bool deny;
    tr_batch *ready;       /* inline: reserved */
    struct tr__task *task; /* once admitted */
    uint32_t seat;
    bool keep;    /* for the thread that waits, if engine/kept agrees */
    bool no_slot; /* the error is TR_EAGAIN for want of a task slot */
    int error;
};

static inline size_t tr__prepare_align(size_t size)
{
    return (size + 7u) & ~(size_t)7u;
}

/* Validates, asks permission, routes, takes memory. 0 or the error; in either case tr__unprepare
 * undoes it. `like`: the call before in the same group, or NULL: what is decided for it holds for
 * this one too, if nothing that decides differs. */
int tr__prepare(tr_manager *manager, const tr_request *request, const struct tr__prepared *like,
                struct tr__prepared *call);

/* Gives back what tr__prepare took, when the call is not admitted. */
void tr__unprepare(tr_manager *manager, struct tr__prepared *call);

/* Whether the call will run on a fiber. */
bool tr__prepared_awaits(const tr_manager *manager, const struct tr__prepared *call);

#endif
