/*
 * Shutdown under full load: calls of every kind from several threads, process trees among them,
 * closed with and without time to drain. Afterwards every accepted call has its outcome, and no
 * thread, descriptor or child is left.
 */
#include <errno.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include <toolring/process.h>

#include "support/gated.h"

enum {
    LAUNCHERS = 3,
    TOOLS = 6,
};

struct load {
    struct rig rig;
    tr_tool_id tools[TOOLS];
    unsigned started; /* programs that said so; atomic */
};

struct launcher {
    struct load *load;
    tr_turn_id turn;
    tr_session_id session;
    unsigned accepted;
    unsigned resolved;
};

static int run_shell(tr_call *call, void *context)
{
    struct load *load = context;
    /* A tree: the shell, a child, and one that ignores TERM. */
    static const char script[] = "sleep 300 & (trap '' TERM; exec sleep 300) & wait";
    tr_process_spec spec = TR_PROCESS_SPEC_INIT;
    tr_process_result result;
    spec.shell = script;
    __atomic_fetch_add(&load->started, 1, __ATOMIC_RELAXED);
    int status = tr_process(call, &spec, &result);
    if (status == 0) {
        tr_process_result_done(&result);
    }
    return status;
}

static int run_sleep(tr_call *call, void *context)
{
    (void)context;
    return tr_sleep(call, 300 * TR_SECOND);
}

static int run_short(tr_call *call, void *context)
{
    (void)context;
    return tr_sleep(call, TR_MILLISECOND);
}

static int run_plain(tr_call *call, void *context)
{
    char bytes[500] = "";
    (void)context;
    return tr_result_copy(call, bytes, sizeof bytes);
}

static int run_deferred(tr_call *call, void *context)
{
    (void)call;
    (void)context;
    return TR_DEFERRED; /* nobody will finish it */
}

static int run_patient(tr_call *call, void *context)
{
    (void)context;
    while (!tr_call_is_cancelled(call)) {
        (void)sched_yield(); /* looks, as a good C function does */
    }
    return TR_ECANCELED;
}

static tr_permit permit(void *context, const tr_request *request, unsigned approvals,
                        tr_permit_answer *answer)
{
    (void)context;
    (void)approvals;
    (void)answer;
    return request->metadata.size > 0 ? TR_PERMIT_ASK : TR_PERMIT_ALLOW;
}

static void *launch_until_closed(void *argument)
{
    struct launcher *self = argument;
    struct load *load = self->load;
    unsigned programs = 0;
    for (unsigned at = 0;; at++) {
        unsigned which = at % 50 == 7 && programs < 8 ? 0 : 1 + at % (TOOLS - 1);
        which = which == 5 && at % 100 != 5 ? 2 : which; /* few that keep a worker */
        tr_request request = TR_REQUEST_INIT(self->turn, load->tools[which]);
        tr_launched launched;
        programs += which == 0;
        request.options.route = (tr_route)(2 + at % 3);
        request.options.detach_after_ns = TR_MILLISECOND;
        request.options.delivery = (tr_delivery)(at % 3);
        request.options.lifetime = (tr_lifetime)(at % 4);
        request.options.total_timeout_ns = at % 7 == 0 ? 200 * TR_SECOND : 0;
        request.metadata = rig_bytes(at % 13 == 0 ? "ask" : "");
        request.admit_timeout_ns = at % 3 == 0 ? TR_MILLISECOND : 0;
        int status = tr_launch(load->rig.manager, &request, &launched);
        self->accepted += status >= 0;
        if (status == TR_ECLOSED) {
            return NULL;
        }
        CHECK(status == TR_PENDING || status == TR_EAGAIN);
        (void)rig_sweep(&load->rig, self->turn, self->session, &self->resolved);
    }
}

static void open_load(struct load *load)
{
    static const tr_tool_function functions[TOOLS] = {run_shell, run_sleep,    run_short,
                                                      run_plain, run_deferred, run_patient};
    static const char *const names[TOOLS] = {"shell", "sleep", "short", "plain", "later", "loop"};
    tr_config config = TR_CONFIG_INIT;
    memset((void *)load, 0, sizeof *load);
    config.tasks_max = 500;
    config.permit = permit;
    config.cancel_grace_ns = 50 * TR_MILLISECOND;
    rig_open(&load->rig, RIG_THREADED, &config);
    for (unsigned at = 0; at < TOOLS; at++) {
        tr_tool tool = TR_TOOL_INIT(names[at], functions[at]);
        tool.flags = at < 3 ? TR_TOOL_AWAITING : 0;
        tool.context = load;
        CHECK_EQ_INT(tr_tool_register(load->rig.manager, &tool, &load->tools[at]), 0);
    }
}

/* No child of this process, dead or alive: those of killed trees whose parents died became ours. */
static void check_no_children(void)
{
    siginfo_t info = {0};
    CHECK_EQ_INT(waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT), -1);
    CHECK_EQ_INT(errno, ECHILD);
}

static void check_shutdown(uint64_t drain_ns)
{
    static struct load load;
    struct launcher launchers[LAUNCHERS];
    pthread_t threads[LAUNCHERS];
    open_load(&load);
    for (unsigned at = 0; at < LAUNCHERS; at++) {
        tr_session_id session = rig_session(&load.rig);
        launchers[at] = (struct launcher){&load, rig_turn(&load.rig, session), session, 0, 0};
        threads[at] = rig_thread(launch_until_closed, &launchers[at]);
    }
    WAIT_UNTIL(__atomic_load_n(&load.started, __ATOMIC_RELAXED) >= 6 &&
                   rig_stats(&load.rig).processes_used >= 6 && rig_stats(&load.rig).refused > 10,
               RIG_PATIENCE_SECONDS);
    rig_shut(&load.rig, drain_ns); /* looks at the threads, and at the stats */
    check_no_children();
    for (unsigned at = 0; at < LAUNCHERS; at++) {
        rig_join(threads[at]);
        while (rig_sweep(&load.rig, launchers[at].turn, launchers[at].session,
                         &launchers[at].resolved)) { /* what was not taken can be taken */
        }
        CHECK_EQ_INT(launchers[at].resolved, launchers[at].accepted);
    }
    CHECK_EQ_INT(rig_descriptors(), load.rig.descriptors);
    rig_free(&load.rig); /* looks at the descriptors */
}

CASE_TIMEOUT(shutdown, under_full_load_without_drain, 120)
{
    for (unsigned round = 0; round < 3; round++) {
        check_shutdown(0);
    }
}

CASE_TIMEOUT(shutdown, under_full_load_with_drain, 120)
{
    for (unsigned round = 0; round < 2; round++) {
        check_shutdown(50 * TR_MILLISECOND);
    }
}
