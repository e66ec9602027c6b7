/* More rigs: with a gate, with one blocked worker; and tools that come to a gate.
 */
#ifndef TR__TESTS_SUPPORT_GATED_H
#define TR__TESTS_SUPPORT_GATED_H

#include "support/host.h"

/* ---- a rig and a gate ---- */

struct gated {
    struct rig rig;
    struct gate gate;
};

void gated_open(struct gated *self, enum rig_mode mode, const tr_config *config);
void gated_close(struct gated *self);

/* ---- one worker ---- */

/* What makes one worker that no substitute relieves. */
tr_config rig_one_worker(void);

/* It is blocked at the gate, by a background task: whatever is launched stays queued. */
struct blocked {
    struct rig rig;
    struct gate gate;
    tr_task_id blocker; /* 0: it was released */
};

/* With this configuration, made by rig_one_worker; NULL: that alone. */
void blocked_open(struct blocked *self, const tr_config *config);
/* Opens the gate and takes the blocker's resolution: what was queued runs. */
void blocked_release(struct blocked *self);
/* Releases it if that has not been done, and closes the rig. */
void blocked_close(struct blocked *self);

/* ---- tools; the user pointer is a struct gate ---- */

/* Comes to the gate, then looks until it is asked to stop; returns 0. */
int run_until_cancelled(tr_call *call, void *context);
/* Comes to the gate and waits until it is open, whatever it is asked; result "too late". */
int run_deaf(tr_call *call, void *context);

/* ---- launching and taking ---- */

/* Launches one call and returns the status, whatever it is. */
int rig_try(struct rig *rig, tr_turn_id turn, tr_tool_id tool, void *user,
            uint64_t admit_timeout_ns);

/* Takes some of what is there now in a turn and in both channels of a session, and adds the
 * resolutions among it to *resolved. Whether anything was there. */
bool rig_sweep(struct rig *rig, tr_turn_id turn, tr_session_id session, unsigned *resolved);

#endif
