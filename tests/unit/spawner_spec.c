/*
 * Tests of engine/spawner: what a request can say of the child beyond its program: file mask, nice,
 * limits, terminal, tree; what is told of a failure; and the ways into a leaf.
 */
#include "tree_rig.h"

#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pty.h>
#include <sched.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include "child.h"

static void run(struct tr__spawn *spawn)
{
    CHECK_EQ_INT(tr__spawn_now(spawn), 0);
    CHECK_EQ_INT(spawn->failed_stage, TR__SPAWN_NOTHING);
    CHECK_EQ_INT(child_finish(spawn), 0);
}

CASE(spawner_spec, file_mask)
{
    struct tr__spawn as_host = {.shell = "umask"};
    struct tr__spawn own = {.shell = "umask", .set_file_mask = true, .file_mask = 0137};
    struct tr__spawn none = {.shell = "umask", .set_file_mask = true};

    (void)umask(022);
    run(&as_host);
    CHECK_EQ_STR(child_output, "0022\n");
    run(&own);
    CHECK_EQ_STR(child_output, "0137\n");
    run(&none);
    CHECK_EQ_STR(child_output, "0000\n");
    CHECK_EQ_INT(umask(022), 022); /* the host's stays */
}

CASE(spawner_spec, nice)
{
    const char *const argv[] = {"nice", NULL};
    struct tr__spawn more = {.argv = argv, .nice = 3};
    struct tr__spawn most = {.argv = argv, .nice = 40};

    CHECK_EQ_INT(setpriority(PRIO_PROCESS, 0, 2), 0);
    run(&more);
    CHECK_EQ_STR(child_output, "5\n");
    run(&most);
    CHECK_EQ_STR(child_output, "19\n");
    CHECK_EQ_INT(getpriority(PRIO_PROCESS, 0), 2);
}

CASE(spawner_spec, limits_of_a_process)
{
    const tr_process_limit limits[] = {
        {.resource = RLIMIT_CORE, .soft = 0, .hard = 0},
        {.resource = RLIMIT_NOFILE, .soft = 33, .hard = 44},
        {.resource = RLIMIT_CPU, .soft = 100, .hard = TR_FOREVER},
    };
    struct tr__spawn spawn = {.shell = "grep -E 'cpu time|open files|core' /proc/self/limits |"
                                       " tr -s ' ' | cut -d' ' -f2-5",
                              .limits = limits,
                              .limits_count = 3};

    run(&spawn);
    CHECK_EQ_STR(child_output, "cpu time 100 unlimited\ncore file size 0\nopen files 33 44\n");

    const tr_process_limit wrong[] = {{.resource = 9999, .soft = 1, .hard = 1}};
    spawn.limits = wrong;
    spawn.limits_count = 1;
    CHECK_EQ_INT(tr__spawn_now(&spawn), TR_EINVAL);
    CHECK_EQ_INT(spawn.failed_stage, TR__SPAWN_LIMITS);
}

CASE(spawner_spec, terminal)
{
    struct winsize size = {.ws_row = 7, .ws_col = 77};
    char text[256] = "";
    size_t used = 0;
    int master;
    int slave;

    CHECK_EQ_INT(openpty(&master, &slave, NULL, NULL, &size), 0);
    struct tr__spawn spawn = {
        .shell = "stty size; test -t 0 && test -t 1 && test -t 2 && echo yes; echo x >/dev/tty",
        .terminal_fd = slave};
    CHECK_EQ_INT(tr__spawn_now(&spawn), 0);
    CHECK_EQ_INT(spawn.output_fd, -1);
    CHECK_EQ_INT(spawn.error_fd, -1);
    CHECK(fcntl(slave, F_GETFD) >= 0); /* the requester's */
    CHECK_EQ_INT(close(slave), 0);
    for (;;) {
        ssize_t got = read(master, text + used, sizeof text - 1 - used);
        if (got <= 0) {
            break; /* EIO: nobody has it any more */
        }
        used += (size_t)got;
    }
    CHECK_EQ_STR(text, "7 77\r\nyes\r\nx\r\n");
    CHECK_EQ_INT(child_reap(&spawn), 0);
    CHECK_EQ_INT(close(master), 0);
}

CASE(spawner_spec, failures_say_what_they_were_about)
{
    const char *const missing[] = {"/no/such/program", NULL};
    const char *const unknown[] = {"no-such-program-anywhere", NULL};
    const char *const folder[] = {"/usr", NULL};
    struct tr__spawn spawn = {.argv = missing};

    CHECK_EQ_INT(tr__spawn_now(&spawn), -ENOENT);
    CHECK_EQ_INT(spawn.failed_stage, TR__SPAWN_EXECUTE);
    CHECK_EQ_STR(spawn.failed_what, "/no/such/program");
    spawn = (struct tr__spawn){.argv = unknown};
    CHECK_EQ_INT(tr__spawn_now(&spawn), -ENOENT);
    CHECK_EQ_STR(spawn.failed_what, "no-such-program-anywhere");
    spawn = (struct tr__spawn){.argv = folder};
    CHECK_EQ_INT(tr__spawn_now(&spawn), -EACCES);
    CHECK_EQ_STR(spawn.failed_what, "/usr");
    spawn = (struct tr__spawn){.shell = "true", .directory = "/no/such/folder"};
    CHECK_EQ_INT(tr__spawn_now(&spawn), -ENOENT);
    CHECK_EQ_INT(spawn.failed_stage, TR__SPAWN_DIRECTORY);
    CHECK_EQ_STR(spawn.failed_what, "/no/such/folder");
    spawn = (struct tr__spawn){.shell = "true"};
    run(&spawn);
    CHECK_EQ_STR(spawn.failed_what, "");
}

/* ---- into a leaf ---- */

/* From here on, `call` with one of the bits in its first argument set (0: always) gets an error. */
static void refuse(long call, uint32_t bits, int error)
{
    struct sock_filter program[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)call, 0, (uint8_t)(bits == 0 ? 1 : 3)),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[0])),
        BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, bits, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | (uint32_t)error),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_filter always[] = {
        program[0],
        program[1],
        program[4],
        program[5],
    };
    struct sock_fprog filter = {sizeof program / sizeof *program, program};

    if (bits == 0) {
        filter = (struct sock_fprog){sizeof always / sizeof *always, always};
    }
    CHECK_EQ_INT(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
    CHECK_EQ_INT(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter), 0);
}

/* The child, and what it starts, is in its leaf. */
static void check_in_leaf(struct tree_rig *rig, struct tr__spawn *spawn)
{
    char wanted[128];

    (void)snprintf(wanted, sizeof wanted, "/%s/", rig->trees->name);
    spawn->shell = "grep ^0:: /proc/self/cgroup";
    spawn->trees = rig->trees;
    CHECK_EQ_INT(tr__spawn_now(spawn), 0);
    rig->spawn = *spawn;
    (void)child_read_all(spawn->output_fd, child_output, sizeof child_output);
    (void)child_read_all(spawn->error_fd, child_error_output, sizeof child_error_output);
    CHECK(strstr(child_output, wanted) != NULL);
    tree_await_exit(rig);
    CHECK_EQ_INT(tree_sweep(rig), 0);
    tr__tree_close(rig->spawn.tree);
    CHECK_EQ_INT(close(rig->spawn.process_fd), 0);
}

CASE(spawner_spec, clone3_gives_birth_in_the_leaf)
{
    struct tr__spawn spawn = {.set_file_mask = true}; /* which posix_spawn cannot */
    struct tree_rig rig;

    tree_open(&rig, TR_TREE_CGROUP);
    refuse(SYS_clone, CLONE_PIDFD, EPERM); /* so that nothing else can do it */
    check_in_leaf(&rig, &spawn);
    check_in_leaf(&rig, &spawn);
    const char *const missing[] = {"/no/such/program", NULL};
    struct tr__spawn failing = {.argv = missing, .trees = rig.trees};
    CHECK_EQ_INT(tr__spawn_now(&failing), -ENOENT);
    CHECK_EQ_PTR(failing.tree, NULL);
    CHECK_EQ_INT(waitpid(-1, NULL, WNOHANG), -1);
    check_in_leaf(&rig, &spawn);
    tree_close(&rig);
}

CASE(spawner_spec, clone_goes_to_the_leaf_by_itself)
{
    struct tr__spawn spawn = {.set_file_mask = true};
    struct tree_rig rig;

    tree_open(&rig, TR_TREE_CGROUP);
    refuse(SYS_clone3, 0, ENOSYS);
    check_in_leaf(&rig, &spawn);
    check_in_leaf(&rig, &spawn);
    CHECK(tr__spawner_dies_with_host());
    tree_close(&rig);
}

CASE(spawner_spec, posix_spawn_is_put_into_the_leaf)
{
    struct tree_rig rig;

    tree_open(&rig, TR_TREE_CGROUP);
    refuse(SYS_clone3, 0, ENOSYS);
    refuse(SYS_clone, CLONE_PIDFD, EPERM);
    struct tr__spawn masked = {.shell = "true", .set_file_mask = true, .trees = rig.trees};
    CHECK_EQ_INT(tr__spawn_now(&masked), TR_ENOTSUP);
    CHECK(!tr__spawner_dies_with_host());
    /* It is put there a moment after it has begun. */
    tree_run(&rig,
             "until grep -q /toolring- /proc/self/cgroup; do :; done;"
             " setsid sh -c 'printf r; exec sleep %s' &",
             TR_PROCESS_LIFETIME_TASK);
    tree_await_ready(&rig, 1);
    CHECK_EQ_INT(tree_finish(&rig), 1);
    CHECK_EQ_INT(tree_find(rig.token), 0);
    tree_close(&rig);
}

/* ---- nothing is left behind ---- */

CASE(spawner_spec, want_of_descriptors_leaves_nothing_behind)
{
    struct tree_rig rig;
    struct rlimit all;
    unsigned refused = 0;
    int highest = 0;

    tree_open(&rig, TR_TREE_CGROUP);
    tree_run(&rig, "true", TR_PROCESS_LIFETIME_TASK);
    (void)tree_finish(&rig);          /* its leaf is hot now: it keeps what it needs */
    for (int fd = 0; fd < 64; fd++) { /* fills the gaps: the limit is on the number */
        highest = dup(0);
        CHECK(highest >= 0);
    }
    unsigned before = (unsigned)highest + 1;
    CHECK_EQ_INT(getrlimit(RLIMIT_NOFILE, &all), 0);
    for (unsigned extra = 0; extra <= 8; extra++) {
        struct rlimit few = {before + extra, all.rlim_max};
        struct tr__spawn spawn = {.shell = "true", .trees = rig.trees, .merge_error = true};
        CHECK_EQ_INT(setrlimit(RLIMIT_NOFILE, &few), 0);
        int error = tr__spawn_now(&spawn);
        CHECK_EQ_INT(setrlimit(RLIMIT_NOFILE, &all), 0);
        if (error == 0) {
            rig.spawn = spawn;
            (void)tree_finish(&rig);
        } else {
            CHECK_EQ_INT(error, TR_EMFILE);
            refused += 1;
        }
        int next = dup(0);
        CHECK_EQ_INT(next, (int)before);
        CHECK_EQ_INT(close(next), 0);
    }
    CHECK_EQ_INT(refused, 3); /* a pipe and the pidfd */
    tree_close(&rig);
}
