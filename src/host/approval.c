/*
 * approval.c: see approval.h; tr_task_approve and tr_task_deny.
 *
 * Owner thread: launching and approving host threads; the host's callback runs on them. Called by
 * launch.c and hosts; calls domain/task, settle, deadline, run.
 *
 * Invariants
 *  1. A request in a channel is a copy: it owes nothing to the task, which may end meanwhile.
 *  2. An approval is counted before the callback is asked again, so a call that needs n approvals
 *     is asked with 0, 1 … n - 1 and then allowed.
 *  3. The task stays APPROVAL until it is allowed: cancel, interrupt and expiry end it there.
 *
 * Complexity: O(bytes of the call) per request. Humans are slower.
 */
#include "host/approval.h"

#include <limits.h>
#include <string.h>

#include "base/assert.h"
#include "base/clock.h"

/* No task has been approved so often. */
#define ANY_REQUEST UINT_MAX

tr_permit tr__approval_ask(tr_manager *manager, const tr_request *request, unsigned approvals,
                           tr_permit_answer *answer)
{
    answer->reason[0] = '\0';
    answer->summary[0] = '\0';
    answer->expire_ns = 0;
    tr_permit permit = manager->permit(manager->context, request, approvals, answer);
    answer->reason[sizeof(answer->reason) - 1] = '\0';
    answer->summary[sizeof(answer->summary) - 1] = '\0';
    return permit == TR_PERMIT_ALLOW || permit == TR_PERMIT_ASK ? permit : TR_PERMIT_DENY;
}

struct tr__approval *tr__approval_make(tr_manager *manager, const tr_request *request,
                                       const tr_permit_answer *answer, unsigned approvals)
{
    size_t bytes = request->call_id.size + request->metadata.size + request->input.size;
    struct tr__approval *approval = NULL;
    struct tr__arena_ref block;
    if (tr__arena_block_apart(&manager->completion->arena, sizeof(*approval) + bytes, &block) < 0) {
        return NULL;
    }
    approval = (struct tr__approval *)block.data;
    memset(approval, 0, sizeof(*approval));
    approval->block = block;
    approval->approvals = approvals;
    approval->call_id_size = (uint32_t)request->call_id.size;
    approval->metadata_size = (uint32_t)request->metadata.size;
    approval->input_size = (uint32_t)request->input.size;
    memcpy(approval->reason, answer->reason, sizeof(approval->reason));
    memcpy(approval->summary, answer->summary, sizeof(approval->summary));
    unsigned char *into = approval->bytes;
    if (request->call_id.size > 0) {
        memcpy(into, request->call_id.data, request->call_id.size);
    }
    into += request->call_id.size;
    if (request->metadata.size > 0) {
        memcpy(into, request->metadata.data, request->metadata.size);
    }
    into += request->metadata.size;
    if (request->input.size > 0) {
        memcpy(into, request->input.data, request->input.size);
    }
    return approval;
}

void tr__approval_push(tr_manager *manager, struct tr__task *task, struct tr__approval *approval,
                       uint64_t expire_ns)
{
    struct tr__engine *engine = &manager->engine;
    uint64_t word = tr__task_word(task);
    uint64_t now = tr__clock_now();
    struct tr__turn *turn = task->turn;
    approval->task = tr__task_id(task, word);
    approval->turn = turn->id;
    approval->session = turn->session->id;
    approval->tool = task->tool;
    approval->asked_ns = now;
    approval->accepted_ns = task->accepted_ns;
    approval->user = task->user;
    approval->session_user = turn->session->user;
    bool expires = expire_ns != 0 || approval->approvals > 0;
    if (!tr__settle_approval(manager->completion, approval, task)) {
        tr__settle_drop_approval(manager->completion, approval);
        return;
    }
    if (expires) { /* after the push: the denial comes behind it. Also ends an earlier expiry */
        tr__deadline_expire(engine, task,
                            expire_ns != 0 ? tr__clock_after(now, expire_ns) : TR_FOREVER);
    }
}

/* The request as the host launched it, from the task's record. */
static void rebuild(tr_manager *manager, struct tr__task *task, tr_request *request)
{
    tr_request empty = TR_REQUEST_INIT(0, 0);
    *request = empty;
    request->turn = task->turn->id;
    request->tool = task->tool;
    request->tool_name = tr__toolbox_at(&tr__manager_registry(manager)->toolbox, task->tool)->name;
    request->call_id.data = task->in;
    request->call_id.size = task->call_id_size;
    request->metadata.data = task->in + task->call_id_size;
    request->metadata.size = task->metadata_size;
    request->input.data = task->input;
    request->input.size = task->input_size;
    request->user = task->user;
}

static void deny(tr_manager *manager, struct tr__task *task, struct tr__step step,
                 const char *reason)
{
    struct tr__engine *engine = &manager->engine;
    tr__engine_settle(engine, tr__engine_tally(engine, NULL), task, step, tr__clock_now(),
                      TR_EDENIED, reason);
}

static int run_approved(tr_manager *manager, struct tr__task *task, tr_task_id id)
{
    tr__deadline_queue(&manager->engine, task, tr__clock_now()); /* HOLD_ASK is the caller's */
    struct tr__step step = tr__task_approve(task, id);
    if (step.action != TR__ACTION_ENQUEUE) {
        return tr__step_error(step);
    }
    tr__deadline_queued(&manager->engine, task); /* HOLD_ASK and, not yet queued, HOLD_RUN */
    if (manager->threaded) {
        uint32_t random = (uint32_t)id;
        tr__engine_enqueue(&manager->engine, task, step.word,
                           tr__workers_choose(&manager->engine.workers, &random));
    } else {
        tr__engine_run_here(&manager->engine, task);
    }
    return 0;
}

/* With HOLD_ASK: counts the approval, asks again, and does as told. `request_at`: the approvals
 * before the request that is meant; ANY_REQUEST: the one that waits. */
static int approve(tr_manager *manager, struct tr__task *task, tr_task_id id, unsigned request_at)
{
    struct tr__cold *cold = tr__registry_cold(tr__manager_registry(manager), task);
    unsigned given = tr__load_acquire(&cold->approvals); /* HOLD_ASK: nobody else counts now */
    if (request_at != ANY_REQUEST && request_at != given) {
        return request_at < given ? TR_EALREADY : TR_EINVAL;
    }
    /* acq_rel: two approvers count one after the other. */
    unsigned approvals = tr__fetch_add_acq_rel(&cold->approvals, 1u) + 1;
    tr_permit_answer answer;
    tr_request request;
    rebuild(manager, task, &request);
    tr_permit permit = tr__approval_ask(manager, &request, approvals, &answer);
    if (permit == TR_PERMIT_ALLOW) {
        return run_approved(manager, task, id);
    }
    if (permit == TR_PERMIT_DENY) {
        struct tr__step step = tr__task_deny(task, id, tr__engine_wanted(&manager->engine));
        if (step.action != TR__ACTION_SETTLE) {
            return tr__step_error(step);
        }
        deny(manager, task, step, answer.reason);
        return 0;
    }
    struct tr__approval *approval = tr__approval_make(manager, &request, &answer, approvals);
    if (approval == NULL) {
        (void)tr__fetch_sub_acq_rel(&cold->approvals, 1u);
        return TR_ENOMEM;
    }
    tr__arena_count(&manager->completion->arena, &approval->block);
    tr__approval_push(manager, task, approval, answer.expire_ns);
    return 0;
}

/* Why a task that waits for nobody, or is just being approved, cannot be approved. */
static int refuse(tr_manager *manager, struct tr__task *task, tr_task_id id, uint64_t before,
                  unsigned request_at)
{
    struct tr__cold *cold = tr__registry_cold(tr__manager_registry(manager), task);
    /* acquire, all three: the look at the id comes last and tells whether the others were its. */
    bool asked = (tr__load_acquire(&task->flags) & TR__TASK_FLAG_ASKED) != 0;
    unsigned given = asked ? tr__load_acquire(&cold->approvals) : 0;
    if (TR__WORD_GENERATION(tr__task_word(task)) != TR__ID_GENERATION(id)) {
        return TR_ENOENT;
    }
    if (tr__word_state(before) == TR__TASK_APPROVAL || request_at == ANY_REQUEST) {
        return TR_ESTATE; /* while it is being approved, that may still fail */
    }
    return request_at < given ? TR_EALREADY : TR_ESTATE;
}

static int approve_one(tr_manager *manager, tr_task_id id, unsigned request_at)
{
    if (manager == NULL) {
        return TR_EINVAL;
    }
    tr__engine_look(&manager->engine); /* it may have expired */
    struct tr__task *task = tr__registry_task(tr__manager_registry(manager), id);
    if (task == NULL) {
        return TR_ENOENT;
    }
    uint64_t before = tr__task_word(task);
    if (TR__WORD_GENERATION(before) != TR__ID_GENERATION(id) ||
        tr__word_state(before) == TR__TASK_FREE) {
        return TR_ENOENT;
    }
    if (tr__word_state(before) == TR__TASK_ENDED) {
        return TR_EALREADY;
    }
    if (tr__word_state(before) != TR__TASK_APPROVAL || !tr__task_ask(task, id)) {
        return refuse(manager, task, id, before, request_at);
    }
    int error = approve(manager, task, id, request_at);
    tr__settle_drop(manager->completion, task, TR__TASK_HOLD_ASK);
    tr__engine_look(&manager->engine); /* it may have run here */
    return error;
}

int tr_task_approve(tr_manager *manager, tr_task_id id)
{
    return approve_one(manager, id, ANY_REQUEST);
}

int tr_task_approve_request(tr_manager *manager, tr_task_id id, unsigned approvals)
{
    return approvals == ANY_REQUEST ? TR_EINVAL : approve_one(manager, id, approvals);
}

int tr_task_deny(tr_manager *manager, tr_task_id id, const char *reason)
{
    if (manager == NULL) {
        return TR_EINVAL;
    }
    tr__engine_look(&manager->engine); /* it may have expired */
    struct tr__task *task = tr__registry_task(tr__manager_registry(manager), id);
    if (task == NULL) {
        return TR_ENOENT;
    }
    struct tr__step step = tr__task_deny(task, id, tr__engine_wanted(&manager->engine));
    if (step.action != TR__ACTION_SETTLE) {
        return tr__step_error(step);
    }
    deny(manager, task, step, reason);
    return 0;
}
