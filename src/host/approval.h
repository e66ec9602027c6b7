/*
 * approval: asking the permission callback, and the requests that come of it.
 */
#ifndef TR__HOST_APPROVAL_H
#define TR__HOST_APPROVAL_H

#include "completion/settle.h"
#include "host/manager.h"

/* Asks; an answer out of range is a denial. */
tr_permit tr__approval_ask(tr_manager *manager, const tr_request *request, unsigned approvals,
                           tr_permit_answer *answer);

/* A request to be pushed, with copies of everything but what only the admitted task has; not yet
 * counted as held bytes. NULL: no memory. */
struct tr__approval *tr__approval_make(tr_manager *manager, const tr_request *request,
                                       const tr_permit_answer *answer, unsigned approvals);

/* The task is known now: completes the request, publishes INPUT_REQUIRED and pushes it. The caller
 * has a hold; the request is the channel's afterwards. */
void tr__approval_push(tr_manager *manager, struct tr__task *task, struct tr__approval *approval,
                       uint64_t expire_ns);

#endif
