/*
 * settle: what happens once a task's outcome is decided: record it, tell the event log, count it,
 * and push it on the one channel that its state word names.
 */
#ifndef TR__COMPLETION_SETTLE_H
#define TR__COMPLETION_SETTLE_H

#include "completion/completion.h"

/* Why a task ended, beyond its outcome. */
struct tr__ending {
    uint64_t now_ns;
    int code;           /* 0, or a negative code */
    const char *reason; /* zero-ended or NULL; copied */
};

/* An approval request: a copy of what the host needs, on its own, since a task may ask several
 * times and may end while a request is still with the host. */
struct tr__approval {
    struct tr__item item;
    struct tr__arena_ref block; /* it lies in it; its bytes are counted as held */
    tr_task_id task;
    tr_turn_id turn;
    tr_session_id session;
    tr_tool_id tool;
    tr_kind kind;
    uint32_t approvals;
    uint32_t call_id_size, metadata_size, input_size;
    uint64_t asked_ns;
    uint64_t accepted_ns;
    void *user;
    void *session_user;
    char reason[TR_REASON_BYTES_MAX];
    char summary[TR_REASON_BYTES_MAX];
    unsigned char bytes[]; /* call id, metadata, input */
};

/* Gives the memory of a request back, whether it has been counted or not. NULL: nothing. */
void tr__settle_drop_approval(struct tr__completion *completion, struct tr__approval *approval);

/* Whoever won the ending transition `step`: everything that follows. The result fields have been
 * written if this thread runs the function or the function does not run. Afterwards the task is the
 * host's, and maybe gone. Any deadline of the task was disarmed before. The lane's lock may be held
 * only if neither the task's turn nor its session is marked closed. */
void tr__settle(struct tr__completion *completion, struct tr__tally tally, struct tr__task *task,
                struct tr__step step, const struct tr__ending *ending);

/* Whoever won a detach: pushes the DETACHED item to the turn, with its event, and clears
 * PUBLISHING, which a host's detach always has: no resolution comes before the item. */
void tr__settle_detached(struct tr__completion *completion, struct tr__tally tally,
                         struct tr__task *task, struct tr__step step, uint64_t now_ns);

/* Whoever asked, with a hold on the task: pushes an approval request on the channel of the task's
 * kind and delivery, with its event. True: the block is the channel's. False: the task has ended,
 * nothing is asked any more. */
bool tr__settle_approval(struct tr__completion *completion, struct tr__approval *approval,
                         struct tr__task *task);

/* Gives one hold up; frees what the task owns and recycles the slot if it was the last. */
void tr__settle_drop(struct tr__completion *completion, struct tr__task *task, uint64_t hold);

/* At the end of everything: frees what ended tasks own whose last hold nobody gave up, because it
 * was handed to a thread that had stopped (a launch that met the manager's close). */
void tr__settle_bury(struct tr__completion *completion);

/* Host: an item is done with. */
void tr__settle_release(struct tr__completion *completion, struct tr__item *item);

/* Host: the same for a whole batch; slots of one lane go back together. */
void tr__settle_release_all(struct tr__completion *completion, struct tr__item **items,
                            size_t count);

/* Whether an approval request is still waited for, by a task that lives on in the background. */
bool tr__settle_is_pending(struct tr__completion *completion, const struct tr__approval *approval);

/* Without any lock, but with the token of a queue: a request of a turn that is gone. If it is still
 * pending it goes to the channel of its session, where the task's resolution will go; true then. */
bool tr__settle_forward(struct tr__completion *completion, struct tr__approval *approval);

/* Under the lane's lock, of a home marked closed: discards what is in an inbox of its own. Waits
 * out a consumer that is about to leave. Approval requests that are still pending are forwarded. */
void tr__settle_discard(struct tr__completion *completion, struct tr__tally tally,
                        struct tr__inbox *inbox);

#endif
