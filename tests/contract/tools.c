/*
 * tools.c: three tools, one plain, one awaiting and one brief, that do what the plan of their call
 * says.
 *
 * Everything here ends by itself within milliseconds. While a function runs its input must be
 * intact, also when its task was ended behind its back.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "contract/contract.h"

static pthread_mutex_t bell_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t bell = PTHREAD_COND_INITIALIZER;

void tools_wake(void)
{
    (void)pthread_mutex_lock(&bell_lock);
    (void)pthread_cond_broadcast(&bell);
    (void)pthread_mutex_unlock(&bell_lock);
}

tr_permit permit_call(void *context, const tr_request *request, unsigned approvals,
                      tr_permit_answer *answer)
{
    struct record *record = record_of(request->user);
    const struct plan *plan = &record->plan;
    (void)context;
    unsigned asked = atomic_fetch_add(&record->asked, 1);
    MUST(asked == approvals, "call %u: asked for the %u. time with %u approvals", record->index,
         asked + 1, approvals);
    MUST(request->input.size == plan->input_bytes &&
             pattern_fits(pattern_seed(record, PATTERN_INPUT), request->input.data,
                          request->input.size),
         "call %u: permission asked with another input", record->index);
    if (approvals < plan->approvals) {
        (void)strcpy(answer->reason, "ask");
        (void)snprintf(answer->summary, sizeof answer->summary, "%u", record->index);
        answer->expire_ns = plan->expire_ns;
        return TR_PERMIT_ASK;
    }
    return plan->denied ? TR_PERMIT_DENY : TR_PERMIT_ALLOW;
}

void route_call(void *context, const tr_request *request, tr_options *options)
{
    (void)context;
    options->route = record_of(request->user)->plan.routed;
}

void release_input(void *context, void *data, size_t size)
{
    struct record *record = context;
    MUST(data == record->input && size == record->plan.input_bytes,
         "call %u: released another input", record->index);
    memset(record->input, 0xDD, size); /* whoever still reads it will see that */
    MUST(atomic_fetch_add(&record->inputs_released, 1) == 0, "call %u: input released twice",
         record->index);
}

static void release_result(void *context, void *data, size_t size)
{
    struct record *record = context;
    memset(data, 0xDD, size);
    free(data);
    atomic_fetch_add(&record->results_released, 1);
}

static void give_result(struct record *record, tr_call *call)
{
    size_t size = record->plan.result_bytes;
    unsigned char *data = malloc(size + 1);
    pattern_fill(pattern_seed(record, PATTERN_RESULT), data, size);
    MUST(tr_result_give(call, data, size, release_result, record) == 0, "tr_result_give");
    atomic_fetch_add(&record->results_given, 1);
}

static void set_result(struct record *record, tr_call *call)
{
    static _Thread_local unsigned char buffer[102400];
    size_t size = record->plan.result_bytes;
    void *room = NULL;
    switch (record->plan.way) {
    case WAY_COPY_TWICE:
        pattern_fill(~record->seed, buffer, size);
        MUST(tr_result_copy(call, buffer, size / 2) == 0, "tr_result_copy");
        /* fall through */
    case WAY_COPY:
        pattern_fill(pattern_seed(record, PATTERN_RESULT), buffer, size);
        MUST(tr_result_copy(call, buffer, size) == 0, "tr_result_copy");
        break;
    case WAY_RESERVE:
        MUST(tr_result_reserve(call, size + 1 + size / 3, &room) == 0, "tr_result_reserve");
        pattern_fill(pattern_seed(record, PATTERN_RESULT), room, size);
        MUST(tr_result_commit(call, size) == 0, "tr_result_commit");
        break;
    case WAY_GIVE:
        give_result(record, call);
        break;
    default:
        break;
    }
}

static void check_input(struct record *record, tr_call *call)
{
    tr_bytes input = tr_call_input(call);
    tr_bytes call_id = tr_call_call_id(call);
    MUST(input.size == record->plan.input_bytes &&
             pattern_fits(pattern_seed(record, PATTERN_INPUT), input.data, input.size),
         "call %u: its function sees another input", record->index);
    MUST(call_id.size == record->plan.call_id_bytes &&
             pattern_fits(pattern_seed(record, PATTERN_CALL_ID), call_id.data, call_id.size),
         "call %u: its function sees another call id", record->index);
}

static uint64_t delay_ns(const struct record *record)
{
    return record->plan.delay_us * UINT64_C(1000);
}

static int act_sleep(struct record *record, tr_call *call)
{
    uint64_t from = now_ns();
    int result = tr_sleep(call, delay_ns(record));
    MUST(result == 0 || (result == TR_ECANCELED && tr_call_is_cancelled(call)),
         "call %u: tr_sleep: %s", record->index, tr_error_name(result));
    MUST(result != 0 || now_ns() - from >= delay_ns(record), "call %u: tr_sleep was early",
         record->index);
    return result;
}

static int act_sleep_shield(struct record *record, tr_call *call)
{
    tr_io timer;
    tr_io *done = NULL;
    memset(&timer, 0, sizeof timer);
    MUST(tr_io_timer(call, &timer, delay_ns(record)) == 0, "tr_io_timer");
    MUST(tr_io_wait(call, TR_IO_SHIELD, &done) == 0 && done == &timer && timer.result == 0,
         "call %u: a shielded wait ended with %lld", record->index, (long long)timer.result);
    return 0;
}

static int act_pipe(struct record *record, tr_call *call)
{
    int ends[2];
    char byte = 0;
    tr_io timer;
    tr_io reader;
    tr_io *done = NULL;
    int result = 0;
    memset(&timer, 0, sizeof timer);
    memset(&reader, 0, sizeof reader);
    MUST(pipe2(ends, O_CLOEXEC) == 0, "pipe2: %s", strerror(errno));
    MUST(tr_io_read(call, &reader, ends[0], &byte, 1) == 0, "tr_io_read");
    MUST(tr_io_timer(call, &timer, delay_ns(record)) == 0, "tr_io_timer");
    for (unsigned left = 2; left > 0;) {
        int error = tr_io_wait(call, result == 0 ? 0 : TR_IO_SHIELD, &done);
        if (error == TR_ECANCELED && result == 0) {
            result = error;
            tr_io_cancel(call, &timer);
            tr_io_cancel(call, &reader);
            continue;
        }
        MUST(error == 0, "call %u: tr_io_wait: %s", record->index, tr_error_name(error));
        left--;
        if (done == &timer && result == 0) {
            MUST(write(ends[1], "x", 1) == 1, "write: %s", strerror(errno));
        }
    }
    MUST(result != 0 || (reader.result == 1 && byte == 'x'), "call %u: read %lld", record->index,
         (long long)reader.result);
    (void)close(ends[0]);
    (void)close(ends[1]);
    return result;
}

static int act_await_cancel(struct record *record, tr_call *call)
{
    uint64_t from = now_ns();
    int result = tr_call_await_cancel(call, delay_ns(record));
    MUST(result == TR_ETIMEDOUT || (result == 0 && tr_call_is_cancelled(call)),
         "call %u: tr_call_await_cancel: %s", record->index, tr_error_name(result));
    MUST(result == 0 || now_ns() - from >= delay_ns(record), "call %u: it awaited too short",
         record->index);
    return result == 0 ? TR_ECANCELED : 0;
}

static int act_block(struct record *record)
{
    struct timespec until;
    (void)clock_gettime(CLOCK_REALTIME, &until);
    until.tv_nsec += (long)delay_ns(record);
    until.tv_sec += until.tv_nsec / 1000000000;
    until.tv_nsec %= 1000000000;
    (void)pthread_mutex_lock(&bell_lock);
    (void)pthread_cond_timedwait(&bell, &bell_lock, &until);
    (void)pthread_mutex_unlock(&bell_lock);
    return 0;
}

static int act_spin(struct record *record, tr_call *call, bool polite)
{
    uint64_t until = now_ns() + delay_ns(record);
    uint64_t turns = 0;
    while (now_ns() < until) {
        if (polite && tr_call_is_cancelled(call)) {
            return TR_ECANCELED;
        }
        if (polite && turns++ % 4096 == 0) {
            tr_call_progress(call, turns, 0);
        }
    }
    return 0;
}

static int act_process(struct record *record, tr_call *call)
{
    static const char *const echo[] = {"/bin/echo", "x", NULL};
    static const char *const sleeps[] = {"/bin/sleep", "0.01", NULL};
    tr_process_spec spec = TR_PROCESS_SPEC_INIT;
    tr_process_result result;
    bool says = (record->seed & 1) != 0;
    spec.argv = says ? echo : sleeps;
    int error = tr_process(call, &spec, &result);
    MUST(error == 0 || error == TR_ECANCELED, "call %u: tr_process: %s", record->index,
         tr_error_name(error));
    if (error == 0) {
        bool whole = !result.cancelled && result.exit_code == 0;
        MUST(result.cancelled || (whole && result.out.size == (says ? 2u : 0u)),
             "call %u: process exit %d, %zu bytes", record->index, result.exit_code,
             result.out.size);
        error = result.cancelled ? TR_ECANCELED : 0;
        tr_process_result_done(&result);
    }
    return error;
}

static void defer(struct record *record, tr_call *call);

static int act(struct record *record, tr_call *call)
{
    switch (record->plan.action) {
    case ACT_SLEEP:
        return act_sleep(record, call);
    case ACT_SLEEP_SHIELD:
        return act_sleep_shield(record, call);
    case ACT_PIPE:
        return act_pipe(record, call);
    case ACT_BLOCK:
        return act_block(record);
    case ACT_SPIN:
        return act_spin(record, call, false);
    case ACT_SPIN_POLITE:
        return act_spin(record, call, true);
    case ACT_PROCESS:
        return act_process(record, call);
    case ACT_AWAIT_CANCEL:
        return act_await_cancel(record, call);
    case ACT_DEFER:
        defer(record, call);
        return TR_DEFERRED;
    case ACT_DEFER_EARLY:
        defer(record, call);
        return act_block(record) == 0 ? TR_DEFERRED : 0;
    default:
        return 0;
    }
}

static int run_plan(tr_call *call, void *context)
{
    struct record *record = record_of(tr_call_user(call));
    (void)context;
    MUST(atomic_fetch_add(&record->runs, 1) == 0, "call %u: started twice", record->index);
    record_identify(record, tr_call_task(call));
    check_input(record, call);
    hook_register(record, call);
    bool deferred = record->plan.action == ACT_DEFER || record->plan.action == ACT_DEFER_EARLY;
    bool early = !deferred && (record->seed & 2) != 0;
    if (early) {
        set_result(record, call);
    }
    if ((record->seed & 12) == 12) {
        tr_call_progress(call, 1, 2);
    }
    int result = act(record, call);
    if (result == TR_DEFERRED) {
        atomic_store(&record->deferred, true);
        return result; /* it may have ended: nothing of the call is ours any more */
    }
    check_input(record, call);
    if (!early && result == 0) {
        set_result(record, call);
    }
    hook_take_back(record, call);
    atomic_fetch_add(&world->progress, 1);
    return result < 0 ? result : record->plan.status;
}

void tools_register(void)
{
    tr_tool plain = TR_TOOL_INIT("plain", run_plan);
    tr_tool awaiting = TR_TOOL_INIT("awaiting", run_plan);
    awaiting.flags = TR_TOOL_AWAITING;
    awaiting.options.route = TR_ROUTE_BACKGROUND;
    awaiting.options.delivery = TR_DELIVERY_MANUAL;
    awaiting.options.continuation = TR_CONTINUE_REQUEST;
    MUST(tr_tool_register(world->manager, &plain, &world->tools[0]) == 0, "tr_tool_register");
    MUST(tr_tool_register(world->manager, &awaiting, &world->tools[1]) == 0, "tr_tool_register");
    tr_tool brief = TR_TOOL_INIT("brief", run_plan);
    brief.flags = TR_TOOL_BRIEF;
    MUST(tr_tool_register(world->manager, &brief, &world->tools[2]) == 0, "tr_tool_register");
}

/* ── Deferred calls: finished by threads of the host, each at its time ───────────────────────── */

struct debt {
    tr_deferred deferred;
    struct record *record;
    uint64_t due_ns;
    bool paid;
};

static struct {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    struct debt *debts;
    uint32_t count, first, room;
} office = {PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, NULL, 0, 0, 0};

void finishers_open(void)
{
    office.room = world->indexes * GROUP_MAX + 1;
    office.debts = calloc(office.room, sizeof *office.debts);
}

void finishers_done(void)
{
    free(office.debts);
}

static void defer(struct record *record, tr_call *call)
{
    struct debt debt = {tr_call_defer(call), record, now_ns() + delay_ns(record), false};
    if (record->plan.action == ACT_DEFER_EARLY) {
        debt.due_ns = now_ns();
    }
    (void)pthread_mutex_lock(&office.lock);
    office.debts[office.count++] = debt;
    (void)pthread_cond_signal(&office.changed);
    (void)pthread_mutex_unlock(&office.lock);
}

static void pay(const struct debt *debt)
{
    static _Thread_local unsigned char buffer[102400];
    struct record *record = debt->record;
    size_t size = record->plan.result_bytes;
    pattern_fill(pattern_seed(record, PATTERN_RESULT), buffer, size);
    int result = tr_finish(debt->deferred, record->plan.status, buffer, size);
    if (result == 0) {
        atomic_store(&record->finished, true);
    } else {
        MUST(result == TR_EALREADY || result == TR_ENOENT, "call %u: tr_finish: %s", record->index,
             tr_error_name(result));
        bool may = record_may_stop(record) || record->plan.options.run_timeout_ns != 0 ||
                   record->plan.options.total_timeout_ns != 0 ||
                   record->plan.options.idle_timeout_ns != 0;
        MUST(may, "call %u: tr_finish: %s, though nobody stopped it", record->index,
             tr_error_name(result));
    }
    atomic_fetch_add(&world->progress, 1);
}

/* The debt that is due, or NULL; then `ret_next` says when the next one will be. */
static struct debt *find_due(uint64_t *ret_next)
{
    uint64_t now = now_ns();
    *ret_next = now + TR_SECOND;
    while (office.first < office.count && office.debts[office.first].paid) {
        office.first++;
    }
    for (uint32_t i = office.first; i < office.count; i++) {
        struct debt *debt = &office.debts[i];
        if (!debt->paid && debt->due_ns <= now) {
            return debt;
        }
        *ret_next = !debt->paid && debt->due_ns < *ret_next ? debt->due_ns : *ret_next;
    }
    return NULL;
}

void *finisher_main(void *argument)
{
    (void)argument;
    (void)pthread_mutex_lock(&office.lock);
    while (!world->stopping) {
        uint64_t next = 0;
        struct debt *debt = find_due(&next);
        if (debt != NULL) {
            struct debt copy = *debt;
            debt->paid = true;
            (void)pthread_mutex_unlock(&office.lock);
            pay(&copy);
            (void)pthread_mutex_lock(&office.lock);
            continue;
        }
        uint64_t wait = next - now_ns();
        wait = wait > 20 * TR_MILLISECOND ? 20 * TR_MILLISECOND : wait; /* to see `stopping` */
        struct timespec until;
        (void)clock_gettime(CLOCK_REALTIME, &until);
        until.tv_nsec += (long)wait;
        until.tv_sec += until.tv_nsec / 1000000000;
        until.tv_nsec %= 1000000000;
        (void)pthread_cond_timedwait(&office.changed, &office.lock, &until);
    }
    (void)pthread_mutex_unlock(&office.lock);
    return NULL;
}
