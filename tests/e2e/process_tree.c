/*
 * Process trees from end to end: whatever a program has left behind, and however it ends, nobody is
 * left when its outcome is there; what is kept on purpose goes with its session or manager.
 *
 * Where a case needs a cgroup subtree and the machine has none, it is skipped; the sweep and the
 * group run everywhere.
 */
#include "e2e/process_host.h"

#include <signal.h>

#include "support/wait.h"
#include "unit/tree_rig.h"

/* Five that are beyond the reach of a mere leader; each says 'r' when it is. */
#define ESCAPES 5u
#define LEAVE                                                                                      \
    "setsid sh -c 'printf r; exec sleep %s' & "                                                    \
    "setsid sh -c '(printf r; exec sleep %s) & exit' & "                                           \
    "nohup 2>/dev/null sh -c 'printf r; exec sleep %s' & "                                         \
    "sh -c 'trap \"\" TERM HUP INT; printf r; exec sleep %s' & "                                   \
    "sh -c 'printf r; kill -STOP $$; exec sleep %s' & "

enum ending {
    ENDING_EXIT,
    ENDING_CANCEL,
    ENDING_TIMEOUT,
    ENDING_INTERRUPT,
    ENDING_SESSION,
    ENDING_MANAGER,
    ENDING_LEADER, /* SIGKILL to nothing but the leader */
    ENDINGS,
};

static uint32_t flags_of(tr_tree_mode mode)
{
    return mode == TR_TREE_CGROUP  ? 0
           : mode == TR_TREE_SWEEP ? TR_MANAGER_NO_CGROUP | TR_MANAGER_SUBREAPER
                                   : TR_MANAGER_NO_CGROUP;
}

static void open_in(struct host *host, tr_tree_mode mode)
{
    tr_config config = TR_CONFIG_INIT;
    tr_stats stats;

    config.flags = flags_of(mode);
    host_open_with(host, PLACE_FIBER, &config);
    CHECK_EQ_INT(tr_manager_stats(host->manager, &stats), 0);
    if (stats.tree_mode != mode) {
        host_close(host);
        SKIP("this machine has no writable cgroup v2 subtree");
    }
}

/* The line with a new token in every place. */
static void make_line(struct tree_rig *rig, const char *format)
{
    char *to = rig->line;

    tree_token(rig);
    for (const char *from = format; *from != '\0'; from++) {
        CHECK(to + sizeof rig->token < rig->line + sizeof rig->line);
        if (from[0] == '%' && from[1] == 's') {
            to = stpcpy(to, rig->token);
            from += 1;
        } else {
            *to++ = *from;
        }
    }
    *to = '\0';
}

/* Brings a running job to its end in one of the ways; true if the manager is closed now. */
static bool end_job(struct host *host, struct job *job, enum ending ending)
{
    switch (ending) {
    case ENDING_CANCEL:
        CHECK_EQ_INT(tr_task_cancel(host->manager, host_task(job), "enough"), 0);
        break;
    case ENDING_INTERRUPT:
        CHECK_EQ_INT(tr_turn_interrupt(host->manager, host->turn, NULL), 1);
        break;
    case ENDING_SESSION:
        CHECK_EQ_INT(tr_session_close(host->manager, host->session, 0), 0);
        break;
    case ENDING_MANAGER:
        CHECK_EQ_INT(tr_manager_close(host->manager, 0), 0);
        return true;
    default: /* by itself, by its timeout, by its own leader */
        break;
    }
    return false;
}

static void check_ending(tr_tree_mode mode, enum ending ending)
{
    tr_process_spec spec = TR_PROCESS_SPEC_INIT;
    struct job job = {.spec = &spec};
    struct tree_rig rig;
    struct host host;
    char format[1024];

    open_in(&host, mode);
    bool alone = ending == ENDING_EXIT || ending == ENDING_LEADER || ending == ENDING_TIMEOUT;
    (void)snprintf(format, sizeof format, "%s%s", LEAVE,
                   ending == ENDING_EXIT     ? "true"
                   : ending == ENDING_LEADER ? "kill -KILL $$"
                                             : "exec sleep %s");
    make_line(&rig, format);
    spec.shell = rig.line;
    spec.grace_ns = TR_MILLISECOND;
    spec.timeout_ns = ending == ENDING_TIMEOUT ? 300 * TR_MILLISECOND : 0;
    host_launch(&host, &job);
    if (!alone) {
        host_await_output(&host, &job, TR_STREAM_OUT, ESCAPES);
    }
    bool closed = end_job(&host, &job, ending);
    WAIT_UNTIL(tr__load_acquire(&job.ended) != 0, PATIENCE_SECONDS); /* pairs with run_job */
    unsigned left = tree_find(rig.token);
    if (left != 0) {
        case_fail(__FILE__, __LINE__, "ending %d: %u left", (int)ending, left);
    }
    CHECK_EQ_INT(job.status, 0);
    CHECK_EQ_INT(job.result.tree, mode);
    tr_process_result_done(&job.result);
    if (closed) {
        tr_manager_free(host.manager);
        CHECK_EQ_INT(descriptors_open(), host.descriptors);
        CHECK_EQ_INT(waitpid(-1, NULL, WNOHANG), -1);
        return;
    }
    host_close(&host);
}

static void check_endings(tr_tree_mode mode)
{
    for (unsigned ending = 0; ending < ENDINGS; ending++) {
        check_ending(mode, (enum ending)ending);
    }
}

CASE_TIMEOUT(process_tree, nobody_survives_in_a_leaf, 120)
{
    check_endings(TR_TREE_CGROUP);
}

CASE_TIMEOUT(process_tree, nobody_survives_the_sweep, 120)
{
    check_endings(TR_TREE_SWEEP);
}

/* A tree that keeps forking is cancelled while it does. */
static void check_forking(tr_tree_mode mode)
{
    tr_process_spec spec = TR_PROCESS_SPEC_INIT;
    struct job job = {.spec = &spec};
    struct tree_rig rig;
    struct host host;
    tr_outcome outcome;

    open_in(&host, mode);
    make_line(&rig, TREE_FORKING);
    spec.shell = rig.line;
    spec.grace_ns = TR_MILLISECOND;
    host_launch(&host, &job);
    host_await_output(&host, &job, TR_STREAM_OUT, 1);
    CHECK_EQ_INT(tr_task_cancel(host.manager, host_task(&job), NULL), 0);
    (void)host_wait(&host, &outcome);
    CHECK_EQ_INT(outcome, TR_OUTCOME_CANCELLED);
    WAIT_UNTIL(tr__load_acquire(&job.ended) != 0, PATIENCE_SECONDS); /* pairs with run_job */
    CHECK_EQ_INT(tree_find(rig.token), 0);
    CHECK(job.result.cancelled);
    tr_process_result_done(&job.result);
    host_close(&host);
}

CASE(process_tree, forking_tree_is_cancelled_in_a_leaf)
{
    check_forking(TR_TREE_CGROUP);
}

CASE(process_tree, forking_tree_is_cancelled_in_the_sweep)
{
    check_forking(TR_TREE_SWEEP);
}

/* ---- what is kept ---- */

static void leave_one(struct host *host, struct tree_rig *rig, tr_process_lifetime lifetime,
                      tr_tree_mode mode)
{
    tr_process_spec spec = TR_PROCESS_SPEC_INIT;
    struct job job = {.spec = &spec};

    make_line(rig, "setsid sh -c 'printf r; exec sleep %s' >/dev/null 2>&1 & "
                   "until grep -qs %s /proc/$!/cmdline; do :; done; "
                   "until [ \"$(tr '\\0' ' ' </proc/$!/cmdline)\" = 'sleep %s ' ]; do :; done");
    spec.shell = rig->line;
    spec.lifetime = lifetime;
    CHECK_EQ_INT(host_run(host, &job), TR_OUTCOME_COMPLETED);
    CHECK_EQ_INT(job.status, 0);
    CHECK_EQ_INT(job.result.exit_code, 0);
    CHECK_EQ_INT(job.result.tree, mode);
    CHECK_EQ_INT(job.result.survivors, 1);
    CHECK_EQ_INT(job.result.swept, 0);
    CHECK(!job.result.held_open);
    tr_process_result_done(&job.result);
    WAIT_UNTIL(tree_find(rig->token) == 1, PATIENCE_SECONDS);
}

static uint32_t kept_by(struct host *host)
{
    tr_stats stats;

    CHECK_EQ_INT(tr_manager_stats(host->manager, &stats), 0);
    return stats.trees_kept;
}

static void check_lifetimes(tr_tree_mode mode)
{
    struct tree_rig session;
    struct tree_rig manager;
    struct host host;

    open_in(&host, mode);
    leave_one(&host, &session, TR_PROCESS_LIFETIME_SESSION, mode);
    leave_one(&host, &manager, TR_PROCESS_LIFETIME_MANAGER, mode);
    CHECK_EQ_INT(kept_by(&host), 2);
    CHECK_EQ_INT(tr_session_close(host.manager, host.session, 0), 0);
    CHECK_EQ_INT(kept_by(&host), 1);
    WAIT_UNTIL(tree_find(session.token) == 0, PATIENCE_SECONDS);
    WAIT_UNTIL(tree_find(manager.token) == 1, PATIENCE_SECONDS);
    CHECK_EQ_INT(tr_manager_close(host.manager, TR_FOREVER), 0);
    CHECK_EQ_INT(tree_find(manager.token), 0); /* at once */
    CHECK_EQ_INT(kept_by(&host), 0);
    tr_manager_free(host.manager);
    CHECK_EQ_INT(descriptors_open(), host.descriptors);
    CHECK_EQ_INT(waitpid(-1, NULL, WNOHANG), -1);
}

CASE(process_tree, lifetimes_in_a_leaf)
{
    check_lifetimes(TR_TREE_CGROUP);
}

CASE(process_tree, lifetimes_under_the_sweep)
{
    check_lifetimes(TR_TREE_SWEEP);
}

CASE(process_tree, lifetimes_of_a_group)
{
    check_lifetimes(TR_TREE_GROUP);
}

/* Where there is no leaf, who is meant to live on carries a mark; if its program is stopped, it is
 * found by that, and told of. */
CASE(process_tree, who_was_meant_to_live_on_is_swept_from_the_stopped)
{
    tr_process_spec spec = TR_PROCESS_SPEC_INIT;
    struct job job = {.spec = &spec};
    struct tree_rig rig;
    struct host host;
    tr_outcome outcome;

    open_in(&host, TR_TREE_GROUP);
    make_line(&rig, "setsid sh -c 'printf r; exec sleep %s >/dev/null 2>&1' & wait");
    spec.shell = rig.line;
    spec.lifetime = TR_PROCESS_LIFETIME_SESSION;
    host_launch(&host, &job);
    host_await_output(&host, &job, TR_STREAM_OUT, 1);
    CHECK_EQ_INT(tr_task_cancel(host.manager, host_task(&job), NULL), 0);
    (void)host_wait(&host, &outcome);
    WAIT_UNTIL(tr__load_acquire(&job.ended) != 0, PATIENCE_SECONDS); /* pairs with run_job */
    CHECK_EQ_INT(job.result.tree, TR_TREE_GROUP);
    CHECK_EQ_U64(job.result.swept, 1);
    CHECK_EQ_U64(job.result.survivors, 0);
    CHECK_EQ_INT(tree_find(rig.token), 0);
    tr_process_result_done(&job.result);
    host_close(&host);
}

/* Spawns a program, and forgets it once it has left somebody behind. */
static int spawn_and_forget(tr_call *call, struct job *job)
{
    tr_io ready;
    tr_io *done;
    tr_child child;

    CHECK_EQ_INT(tr_spawn(call, job->spec, &child), 0);
    CHECK_EQ_INT(tr_io_poll(call, &ready, child.output_fd, POLLIN), 0);
    CHECK_EQ_INT(tr_io_wait(call, 0, &done), 0);
    CHECK_EQ_INT(close(child.process_fd), 0);
    CHECK_EQ_INT(close(child.output_fd), 0);
    CHECK_EQ_INT(close(child.error_fd), 0);
    return 0;
}

static void check_forgotten(tr_tree_mode mode, const char *line)
{
    tr_process_spec spec = TR_PROCESS_SPEC_INIT;
    struct job job = {.function = spawn_and_forget, .spec = &spec};
    struct tree_rig rig;
    struct host host;

    open_in(&host, mode);
    make_line(&rig, line);
    spec.shell = rig.line;
    CHECK_EQ_INT(host_run(&host, &job), TR_OUTCOME_COMPLETED);
    CHECK(tree_find(rig.token) > 0);
    CHECK_EQ_INT(tr_manager_close(host.manager, TR_FOREVER), 0);
    tr_manager_free(host.manager);
    CHECK_EQ_INT(descriptors_open(), host.descriptors);
    WAIT_UNTIL(tree_find(rig.token) == 0, PATIENCE_SECONDS);
    (void)waitpid(-1, NULL, 0); /* unless we are a reaper, its zombie is ours */
}

CASE(process_tree, what_nobody_reaps_ends_with_the_manager)
{
    check_forgotten(TR_TREE_GROUP, "nohup 2>/dev/null sh -c 'printf r; exec sleep %s' & sleep %s");
    check_forgotten(TR_TREE_SWEEP, "setsid sh -c 'printf r; exec sleep %s' & sleep %s");
    check_forgotten(TR_TREE_CGROUP, "setsid sh -c 'printf r; exec sleep %s' & sleep %s");
}

CASE(process_tree, figures_of_the_whole_tree)
{
    tr_process_spec spec = TR_PROCESS_SPEC_INIT;
    struct job job = {.spec = &spec};
    struct host host;

    open_in(&host, TR_TREE_CGROUP);
    /* The work is done by a grandchild that nobody waits for. */
    spec.shell = "(setsid sh -c 'i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done;"
                 " echo done' &) | cat";
    CHECK_EQ_INT(host_run(&host, &job), TR_OUTCOME_COMPLETED);
    check_output(&job.result.out, "done\n");
    CHECK(job.result.tree_figures && !job.result.out_of_memory);
    CHECK(job.result.tree_user_ns + job.result.tree_system_ns >
          job.result.user_ns + job.result.system_ns);
    tr_process_result_done(&job.result);
    host_close(&host);
}

CASE(process_tree, configured_subtree_must_be_one)
{
    char message[256] = "";
    tr_config config = TR_CONFIG_INIT;
    tr_manager *manager;

    config.message = message;
    config.message_size = sizeof message;
    config.cgroup_path = "/tmp";
    CHECK_EQ_INT(tr_manager_open(&config, &manager), TR_EINVAL);
    CHECK(strstr(message, "cgroup_path") != NULL && strstr(message, "/tmp") != NULL);
    config.flags = TR_MANAGER_NO_CGROUP;
    CHECK_EQ_INT(tr_manager_open(&config, &manager), TR_EINVAL);
    config.flags = UINT32_C(1) << 31;
    config.cgroup_path = NULL;
    CHECK_EQ_INT(tr_manager_open(&config, &manager), TR_EINVAL);
}
