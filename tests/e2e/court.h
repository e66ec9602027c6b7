/*
 * court: a rig whose permission callback decides by a call's input, for the cases of permission and
 * approval.
 */
#ifndef TR__TESTS_E2E_COURT_H
#define TR__TESTS_E2E_COURT_H

#include "support/host.h"

enum {
    EXPIRE_MS = 3,
};

/* What the callback does: decided by the input's text. "allow", "deny", "ask<n>" needs n approvals,
 * "expire" asks and is denied after a moment, "then-deny" asks and denies when approved, "odd"
 * answers nonsense. It checks that the request is the same each time. */
struct judge {
    unsigned asked;         /* atomic */
    unsigned approvals_max; /* highest number it was asked with; atomic */
    const char *metadata;
};

struct court {
    struct rig rig;
    struct judge judge;
    struct gate gate;
    char metadata[300];
};

void court_open(struct court *self, enum rig_mode mode);
void court_close(struct court *self);

/* A call with this input, a call id and metadata; its user pointer is the court's gate. */
tr_request court_request(struct court *self, tr_tool_id tool, const char *text);
tr_task_id court_launch(struct court *self, tr_tool_id tool, const char *text, tr_route route);

/* Checks that the batch is the task's approval request, and releases it. */
void court_check(tr_batch *batch, tr_task_id task, unsigned approvals, const char *text);

#define COURT_CASE(suite_, case_, body_, mode_)                                                    \
    CASE_TIMEOUT(suite_, case_, RIG_TIMEOUT_SECONDS)                                               \
    {                                                                                              \
        static struct court court;                                                                 \
        court_open(&court, mode_);                                                                 \
        body_(&court);                                                                             \
        court_close(&court);                                                                       \
    }

/* As BOTH and THREADED of support/host.h. */
#define COURT(suite_, name_)                                                                       \
    static void name_(struct court *self);                                                         \
    COURT_CASE(suite_, name_##_threaded, name_, RIG_THREADED)                                      \
    COURT_CASE(suite_, name_##_inline, name_, RIG_INLINE)                                          \
    static void name_(struct court *self)

#define COURT_THREADED(suite_, name_)                                                              \
    static void name_(struct court *self);                                                         \
    COURT_CASE(suite_, name_, name_, RIG_THREADED)                                                 \
    static void name_(struct court *self)

#endif
