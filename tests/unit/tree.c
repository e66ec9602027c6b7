/*
 * Tests of engine/tree: nobody escapes what each way promises, what is kept and for how long, what
 * a leaf remembers, what dead hosts leave behind.
 */
#include "tree_rig.h"

#include <sys/resource.h>
#include <sys/stat.h>

#include "base/clock.h"

/* ---- nobody escapes ---- */

CASE(tree, nobody_escapes_a_leaf)
{
    tree_check_escapes(TR_TREE_CGROUP);
}

CASE(tree, nobody_escapes_the_sweep)
{
    tree_check_escapes(TR_TREE_SWEEP);
}

CASE(tree, group_finds_its_members)
{
    tree_check_escapes(TR_TREE_GROUP);
}

/* A tree that forks as fast as it can is killed while it does. */
static void check_forking(tr_tree_mode mode)
{
    struct tree_rig rig;

    tree_open(&rig, mode);
    tree_run(&rig, TREE_FORKING, TR_PROCESS_LIFETIME_TASK);
    tree_await_ready(&rig, 2);
    CHECK(tree_find(rig.token) > 0);
    tr__tree_kill(rig.spawn.tree);
    (void)tree_finish(&rig);
    CHECK_EQ_INT(tree_find(rig.token), 0);
    tree_close(&rig);
}

CASE(tree, forking_tree_dies_in_a_leaf)
{
    check_forking(TR_TREE_CGROUP);
}

CASE(tree, forking_tree_dies_in_the_sweep)
{
    check_forking(TR_TREE_SWEEP);
}

/* SIGKILL to nothing but the leader. */
static void check_killed_leader(tr_tree_mode mode)
{
    struct tree_rig rig;

    tree_open(&rig, mode);
    tree_run(&rig, "setsid sh -c 'printf r; exec sleep %s' & sleep 60", TR_PROCESS_LIFETIME_TASK);
    tree_await_ready(&rig, 1);
    CHECK_EQ_INT(kill(rig.spawn.pid, SIGKILL), 0);
    CHECK(tree_finish(&rig) >= 1);
    CHECK_EQ_INT(tree_find(rig.token), 0);
    tree_close(&rig);
}

CASE(tree, leaf_survives_its_leader)
{
    check_killed_leader(TR_TREE_CGROUP);
}

CASE(tree, sweep_survives_its_leader)
{
    check_killed_leader(TR_TREE_SWEEP);
}

CASE(tree, signal_reaches_every_member_of_a_leaf)
{
    struct tree_rig rig;

    tree_open(&rig, TR_TREE_CGROUP);
    tree_run(&rig,
             "trap 'exit 7' TERM; setsid sh -c 'trap \"exit 0\" TERM; printf r; "
             "while :; do sleep 0.01; done # %s' & printf r; while :; do sleep 0.01; done",
             TR_PROCESS_LIFETIME_TASK);
    tree_await_ready(&rig, 2);
    CHECK_EQ_INT(tr__tree_signal(rig.spawn.tree, SIGTERM), 0);
    tree_await_exit(&rig);
    while (tr__tree_count(rig.spawn.tree) > 0) { /* they end by themselves */
        struct pollfd empty = {.fd = tr__tree_empty_fd(rig.spawn.tree), .events = POLLPRI};
        CHECK(empty.fd >= 0);
        (void)poll(&empty, 1, 10);
    }
    CHECK_EQ_INT(tree_finish(&rig), 0);
    CHECK_EQ_U64(tr__trees_swept(rig.trees), 0);
    tree_close(&rig);
}

/* ---- the pool ---- */

static unsigned leaves_in(const struct tree_rig *rig)
{
    char path[TR__PROBE_PATH_BYTES + TR__TREE_NAME_BYTES + 2];
    struct stat stat_of;

    (void)snprintf(path, sizeof path, "%s/%s", rig->trees->parent, rig->trees->name);
    CHECK_EQ_INT(stat(path, &stat_of), 0);
    return (unsigned)stat_of.st_nlink - 2;
}

static unsigned descriptors(void)
{
    unsigned count = 0;

    for (int fd = 0; fd < 1024; fd++) {
        count += fcntl(fd, F_GETFD) >= 0;
    }
    return count;
}

static uint64_t used_by(struct tree_rig *rig, const char *line)
{
    struct tr__tree_usage usage;

    tree_run(rig, line, TR_PROCESS_LIFETIME_TASK);
    tree_await_exit(rig);
    CHECK_EQ_INT(tree_sweep(rig), 0);
    tr__tree_usage(rig->spawn.tree, &usage);
    tr__tree_close(rig->spawn.tree);
    tree_close_fds(rig);
    CHECK(usage.there && !usage.out_of_memory);
    return usage.user_ns + usage.system_ns;
}

CASE(tree, leaf_is_used_again_and_counts_anew)
{
    struct tree_rig rig;

    tree_open(&rig, TR_TREE_CGROUP);
    uint64_t busy_ns = used_by(&rig, "i=0; while [ $i -lt 100000 ]; do i=$((i+1)); done");
    uint64_t idle_ns = used_by(&rig, "true");
    CHECK(busy_ns > 0 && idle_ns < busy_ns);
    unsigned before = descriptors();
    for (unsigned round = 0; round < 5; round++) {
        (void)used_by(&rig, "true");
    }
    CHECK_EQ_INT(descriptors(), before); /* none stays but those it had */
    CHECK_EQ_INT(leaves_in(&rig), 1);
    tree_close(&rig);
}

/* Two of them, one a session of its own: a search with one descriptor to spare takes two rounds. */
static void kill_without_descriptors(tr_tree_mode mode)
{
    struct tree_rig rig;
    struct rlimit all;

    tree_open(&rig, mode);
    tree_run(&rig,
             "token=%s; for each in 1 2; do setsid sh -c \"printf r; exec sleep $token\" & done; "
             "wait",
             TR_PROCESS_LIFETIME_TASK);
    tree_await_ready(&rig, 2);
    CHECK_EQ_INT(getrlimit(RLIMIT_NOFILE, &all), 0);
    struct rlimit few = {64, all.rlim_max};
    CHECK_EQ_INT(setrlimit(RLIMIT_NOFILE, &few), 0);
    while (dup(0) >= 0) {
        /* until there is none */
    }
    CHECK_EQ_INT(errno, EMFILE);
    tr__tree_kill(rig.spawn.tree);
    CHECK_EQ_INT(setrlimit(RLIMIT_NOFILE, &all), 0);
    while (tree_find(rig.token) > 0) {
        (void)poll(NULL, 0, 1);
    }
    CHECK_EQ_INT(tree_finish(&rig), 0);
    tree_close(&rig);
}

CASE(tree, leaf_is_killed_without_a_descriptor_to_spare)
{
    kill_without_descriptors(TR_TREE_CGROUP);
}

CASE(tree, sweep_kills_without_a_descriptor_to_spare)
{
    kill_without_descriptors(TR_TREE_SWEEP);
}

/* A process that the old freezer holds dies when it is let go, and not before; another beside it at
 * once. */
struct freezer {
    char folder[64];
    char state[96];
};

static void freeze_one(struct tree_rig *rig, struct freezer *freezer)
{
    char line[512];

    (void)snprintf(freezer->folder, sizeof freezer->folder,
                   "/sys/fs/cgroup/freezer/toolring-test-%d", (int)getpid());
    if (mkdir(freezer->folder, 0755) != 0) {
        SKIP("no freezer of cgroup v1 here, or not for us");
    }
    (void)snprintf(freezer->state, sizeof freezer->state, "%s/freezer.state", freezer->folder);
    (void)snprintf(line, sizeof line,
                   "token=%%s; setsid sh -c \"echo \\$\\$ >%s/cgroup.procs; printf r; "
                   "exec sleep $token\" & setsid sh -c \"printf r; exec sleep $token\" &",
                   freezer->folder);
    tree_open(rig, TR_TREE_SWEEP);
    tree_run(rig, line, TR_PROCESS_LIFETIME_TASK);
    tree_await_ready(rig, 2);
    tree_await_exit(rig);
    CHECK_EQ_INT(tr__tree_write(AT_FDCWD, freezer->state, "FROZEN"), 0);
}

static void thaw_one(struct tree_rig *rig, const struct freezer *freezer)
{
    CHECK_EQ_INT(tr__tree_write(AT_FDCWD, freezer->state, "THAWED"), 0);
    while (tree_find(rig->token) > 0 || (rmdir(freezer->folder) != 0 && errno == EBUSY)) {
        (void)poll(NULL, 0, 1);
    }
    (void)tree_finish(rig);
}

CASE(tree, sweep_waits_once_for_who_cannot_die)
{
    struct tree_rig rig;
    struct freezer freezer;

    freeze_one(&rig, &freezer);
    uint64_t before = tr__clock_now();
    tr__tree_kill(rig.spawn.tree);
    CHECK(tr__clock_now() - before < 20 * TR__NS_PER_SECOND); /* it took 51 s */
    thaw_one(&rig, &freezer);
    tree_close(&rig);
}

CASE(tree, sweep_counts_once_who_cannot_die)
{
    struct tree_rig rig;
    struct freezer freezer;

    freeze_one(&rig, &freezer);
    CHECK_EQ_INT(tr__tree_sweep(rig.spawn.tree), 2); /* one is met a second time */
    CHECK_EQ_U64(tr__trees_swept(rig.trees), 2);
    CHECK_EQ_INT(tr__tree_sweep(rig.spawn.tree), 1);
    CHECK_EQ_U64(tr__trees_swept(rig.trees), 2);
    thaw_one(&rig, &freezer);
    CHECK_EQ_U64(tr__trees_swept(rig.trees), 2);
    tree_close(&rig);
}

CASE(tree, close_removes_the_directory)
{
    struct tree_rig rig;
    char path[TR__PROBE_PATH_BYTES + TR__TREE_NAME_BYTES + 2];

    tree_open(&rig, TR_TREE_CGROUP);
    (void)snprintf(path, sizeof path, "%s/%s", rig.trees->parent, rig.trees->name);
    CHECK_EQ_INT(access(path, F_OK), 0);
    (void)used_by(&rig, "true");
    tree_close(&rig);
    CHECK(access(path, F_OK) != 0 && errno == ENOENT);
}

/* ---- what is kept ---- */

/* Keeps what a program leaves behind. */
static void keep_one(struct tree_rig *rig, uint64_t session, tr_process_lifetime lifetime)
{
    tree_token(rig);
    tree_run(rig, "setsid sh -c 'printf r; exec sleep %s' &", lifetime);
    tree_await_ready(rig, 1);
    tree_await_exit(rig);
    CHECK_EQ_INT(tr__tree_count(rig->spawn.tree), 1);
    tr__tree_keep(rig->spawn.tree, session, lifetime);
    tree_collect(rig);
    tree_close_fds(rig);
}

/* Somebody who lives shows no arguments at the moment of an exec. */
static void await_one(const char *token)
{
    while (tree_find(token) != 1) {
        (void)poll(NULL, 0, 1);
    }
}

/* Whoever was killed is gone in its own time. */
static void await_none(const char *token)
{
    while (tree_find(token) > 0) {
        (void)poll(NULL, 0, 1);
    }
}

static void check_kept(tr_tree_mode mode)
{
    struct tree_rig rig;
    char tokens[4][sizeof rig.token];

    tree_open(&rig, mode);
    keep_one(&rig, 1, TR_PROCESS_LIFETIME_SESSION);
    memcpy(tokens[0], rig.token, sizeof rig.token);
    keep_one(&rig, 2, TR_PROCESS_LIFETIME_SESSION);
    memcpy(tokens[1], rig.token, sizeof rig.token);
    keep_one(&rig, 1, TR_PROCESS_LIFETIME_MANAGER);
    memcpy(tokens[2], rig.token, sizeof rig.token);
    keep_one(&rig, 1, TR_PROCESS_LIFETIME_DAEMON);
    memcpy(tokens[3], rig.token, sizeof rig.token);
    CHECK_EQ_INT(tr__trees_kept(rig.trees), 3);
    tr__trees_end_session(rig.trees, 1);
    await_none(tokens[0]);
    await_one(tokens[1]);
    await_one(tokens[2]);
    CHECK_EQ_INT(tr__trees_kept(rig.trees), 2);
    tr__trees_close(rig.trees);
    CHECK_EQ_INT(tree_find(tokens[1]), 0); /* at once: close has waited */
    CHECK_EQ_INT(tree_find(tokens[2]), 0);
    CHECK_EQ_INT(tr__trees_kept(rig.trees), 0);
    tr__trees_free(rig.trees);
    await_one(tokens[3]); /* a daemon stays */
    (void)snprintf(rig.line, sizeof rig.line,
                   "for p in /proc/[0-9]*; do tr '\\0' ' ' < $p/cmdline 2>/dev/null |"
                   " grep -qx 'sleep %s ' && kill ${p#/proc/}; done; true",
                   tokens[3]);
    struct tr__spawn cleaner = {.shell = rig.line};
    CHECK_EQ_INT(tr__spawn_now(&cleaner), 0);
    CHECK_EQ_INT(waitpid(cleaner.pid, NULL, 0), cleaner.pid);
    await_none(tokens[3]);
}

CASE(tree, leaves_are_kept_as_long_as_asked)
{
    check_kept(TR_TREE_CGROUP);
}

CASE(tree, marked_are_kept_as_long_as_asked)
{
    check_kept(TR_TREE_SWEEP);
}

CASE(tree, kept_of_a_group_are_found_by_their_mark)
{
    check_kept(TR_TREE_GROUP);
}

static bool no_session(void *context, uint64_t session)
{
    (void)session;
    *(unsigned *)context += 1;
    return false;
}

CASE(tree, nobody_is_kept_for_a_closed_session)
{
    unsigned asked = 0;
    struct tr__trees_config config = {
        .trees_max = 4, .context = &asked, .is_session_open = no_session};
    struct tree_rig rig;

    memset(&rig, 0, sizeof rig);
    CHECK_EQ_INT(tr__trees_open(&rig.trees, &config), 0);
    keep_one(&rig, 1, TR_PROCESS_LIFETIME_SESSION);
    CHECK_EQ_INT(asked, 1);
    await_none(rig.token);
    keep_one(&rig, 0, TR_PROCESS_LIFETIME_MANAGER); /* nobody is asked */
    CHECK_EQ_INT(asked, 1);
    await_one(rig.token);
    tree_close(&rig);
    CHECK_EQ_INT(tree_find(rig.token), 0);
}

CASE(tree, kept_trees_are_bounded_and_forgotten_when_over)
{
    struct tree_rig rig;
    struct tr__trees_config config = {.trees_max = 2};

    memset(&rig, 0, sizeof rig);
    CHECK_EQ_INT(tr__trees_open(&rig.trees, &config), 0);
    keep_one(&rig, 1, TR_PROCESS_LIFETIME_SESSION);
    keep_one(&rig, 1, TR_PROCESS_LIFETIME_SESSION);
    struct tr__spawn refused = {
        .shell = "true", .trees = rig.trees, .lifetime = TR_PROCESS_LIFETIME_MANAGER};
    CHECK_EQ_INT(tr__spawn_now(&refused), TR_ELIMIT);
    CHECK_EQ_INT(refused.failed_stage, TR__SPAWN_TREE);
    CHECK_EQ_PTR(refused.tree, NULL);
    tree_run(&rig, "true", TR_PROCESS_LIFETIME_TASK); /* needs no place */
    CHECK_EQ_INT(tree_finish(&rig), 0);
    tr__trees_end_session(rig.trees, 1);
    for (unsigned round = 0; round < 20; round++) { /* nothing is left by these */
        tree_run(&rig, "true", TR_PROCESS_LIFETIME_SESSION);
        tree_await_exit(&rig);
        tr__tree_keep(rig.spawn.tree, 2, TR_PROCESS_LIFETIME_SESSION);
        tree_collect(&rig);
        tree_close_fds(&rig);
    }
    tree_close(&rig);
}

/* ---- a host that dies ---- */

/* A process that leaves somebody behind, says so and waits. Returns its id; its end of a pipe. */
static pid_t start_host(struct tree_rig *rig, int *ret_fd, tr_tree_mode mode)
{
    int ends[2];
    char byte;

    tree_token(rig);
    CHECK_EQ_INT(pipe(ends), 0);
    pid_t host = fork();
    CHECK(host >= 0);
    if (host == 0) {
        struct tree_rig own;
        struct tr__trees_config config = {.trees_max = 4, .no_cgroup = mode != TR_TREE_CGROUP};
        memset(&own, 0, sizeof own);
        bool good = tr__trees_open(&own.trees, &config) == 0;
        good = good && tr__trees_mode(own.trees) == mode;
        memcpy(own.token, rig->token, sizeof own.token);
        if (good) {
            tree_run(&own, "setsid sh -c 'printf r; exec sleep %s' &", TR_PROCESS_LIFETIME_MANAGER);
            tree_await_ready(&own, 1);
            tree_await_exit(&own);
            tr__tree_keep(own.spawn.tree, 0, TR_PROCESS_LIFETIME_MANAGER);
            tree_collect(&own);
        }
        (void)!write(ends[1], good ? "y" : "n", 1);
        for (;;) {
            (void)pause();
        }
    }
    CHECK_EQ_INT(close(ends[1]), 0);
    CHECK_EQ_INT(read(ends[0], &byte, 1), 1);
    CHECK_EQ_INT(byte, 'y');
    *ret_fd = ends[0];
    return host;
}

CASE(tree, remains_of_a_dead_host_go_and_of_a_living_one_stay)
{
    struct tree_rig rig;
    struct tree_rig other;
    char living[sizeof rig.token];
    int fds[2];

    tree_open(&rig, TR_TREE_CGROUP); /* or skip */
    tree_close(&rig);
    pid_t alive = start_host(&rig, &fds[0], TR_TREE_CGROUP);
    memcpy(living, rig.token, sizeof living);
    pid_t dead = start_host(&rig, &fds[1], TR_TREE_CGROUP);
    CHECK_EQ_INT(kill(dead, SIGKILL), 0);
    CHECK_EQ_INT(waitpid(dead, NULL, 0), dead);
    await_one(rig.token); /* it was not the leader */
    tree_open(&other, TR_TREE_CGROUP);
    CHECK_EQ_INT(tree_find(rig.token), 0);
    await_one(living);
    tree_close(&other);
    CHECK_EQ_INT(kill(alive, SIGKILL), 0);
    CHECK_EQ_INT(waitpid(alive, NULL, 0), alive);
    tree_open(&other, TR_TREE_CGROUP);
    CHECK_EQ_INT(tree_find(living), 0);
    tree_close(&other);
    CHECK_EQ_INT(close(fds[0]), 0);
    CHECK_EQ_INT(close(fds[1]), 0);
}

/* ---- limits ---- */

CASE(tree, limits_fall_back_to_each_process)
{
    struct tree_rig rig;
    char text[512] = "";

    tree_open(&rig, TR_TREE_GROUP);
    rig.spawn = (struct tr__spawn){
        .shell =
            "grep -E 'address space|processes' /proc/self/limits | tr -s ' ' | cut -d' ' -f3-5",
        .trees = rig.trees,
        .tree_limits = {.memory_bytes_max = 268435456, .processes_max = 7777}};
    CHECK_EQ_INT(tr__spawn_now(&rig.spawn), 0);
    tree_await_exit(&rig);
    CHECK(read(rig.spawn.output_fd, text, sizeof text - 1) > 0);
    CHECK_EQ_STR(text, "7777 7777 processes\nspace 268435456 268435456\n");
    CHECK_EQ_INT(close(rig.spawn.error_fd), 0);
    CHECK_EQ_INT(tree_finish(&rig), 0);
    struct tr__spawn cpu = {
        .shell = "true", .trees = rig.trees, .tree_limits = {.cpu_percent_max = 50}};
    CHECK_EQ_INT(tr__spawn_now(&cpu), TR_ENOSYS);
    CHECK_EQ_INT(cpu.failed_stage, TR__SPAWN_TREE);
    tree_close(&rig);
}
