/* Probe: facts that must agree with each other, refusals played by seccomp, nothing left behind. */
#include "base/probe.h"

#include <dirent.h>
#include <errno.h>
#include <linux/io_uring.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "support/case.h"
#include "support/refuse.h"

/* From here on `number` returns -error, or 0 for an error of 0: nothing was done. */
static void refuse(long number, int error)
{
    const struct refusal refusal = {number, REFUSE_ANY, 0, false};
    if (!refuse_calls(&refusal, 1, error)) {
        SKIP("seccomp filters are not available");
    }
}

/* No directory can be made. Newer architectures have mkdirat alone. */
static void refuse_mkdir(int error)
{
    refuse(SYS_mkdirat, error);
#if defined(SYS_mkdir)
    refuse(SYS_mkdir, error);
#endif
}

/* Those whose name ends so; others may come and go at any time. */
static unsigned entries_of(const char *path, const char *end)
{
    DIR *directory = opendir(path);
    CHECK(directory != NULL);
    unsigned count = 0;
    for (const struct dirent *entry; (entry = readdir(directory)) != NULL;) {
        size_t size = strlen(entry->d_name);
        size_t wanted = strlen(end);
        count += size >= wanted && strcmp(entry->d_name + size - wanted, end) == 0;
    }
    (void)closedir(directory);
    return count;
}

/* The message for a made-up situation. */
static const char *refusal(int error, int disabled, bool seccomp)
{
    static char buffer[TR__PROBE_MESSAGE_BYTES];
    struct tr__probe probe;
    memset(&probe, 0, sizeof probe);
    probe.ring_error = error;
    probe.io_uring_disabled = disabled;
    probe.seccomp = seccomp;
    (void)snprintf(probe.kernel_release, sizeof probe.kernel_release, "%064d", 0); /* the longest */
    CHECK_EQ_PTR(tr__probe_refusal(&probe, buffer, sizeof buffer), buffer);
    CHECK(strlen(buffer) < sizeof buffer - 1); /* not cut */
    return buffer;
}

CASE(probe, facts_agree)
{
    struct tr__probe probe;
    memset(&probe, 0xff, sizeof probe); /* every field must be written */
    tr__probe_run(&probe);
    CHECK(probe.kernel_major >= 4 && probe.kernel_major < 100);
    CHECK_EQ_INT(strtoul(probe.kernel_release, NULL, 10), probe.kernel_major);
    CHECK(probe.nofile_soft > 0 && probe.nofile_soft <= probe.nofile_hard);
    CHECK(probe.nproc > 0);
    CHECK(probe.pid_max > 1);
    CHECK(probe.max_map_count > 1000);
    CHECK(probe.io_uring_disabled >= -1 && probe.io_uring_disabled <= 2);
    if (probe.ring_error == 0) {
        CHECK(tr__probe_opcode(&probe, IORING_OP_NOP));
        CHECK(tr__probe_opcode(&probe, IORING_OP_READ));
        CHECK((probe.ring_features & IORING_FEAT_NODROP) != 0);
        CHECK((probe.ring_flags_max & IORING_SETUP_COOP_TASKRUN) != 0);
    } else {
        CHECK(probe.ring_error < 0);
        CHECK_EQ_INT(probe.ring_flags_max, 0);
        CHECK(!tr__probe_opcode(&probe, IORING_OP_NOP));
    }
    CHECK(!tr__probe_opcode(&probe, 255));
    CHECK(!tr__probe_opcode(&probe, 256));
    CHECK(!tr__probe_opcode(&probe, 100000));
    if (probe.kernel_major >= 6) {
        CHECK(probe.pidfd || probe.seccomp);
    }
    CHECK(probe.cgroup_path[0] == '\0' || probe.cgroup_path[0] == '/');
}

CASE(probe, nothing_is_left_behind)
{
    struct tr__probe probe;
    tr__probe_run(&probe);
    unsigned descriptors = entries_of("/proc/self/fd", "");
    char own[32];
    (void)snprintf(own, sizeof own, "-%d", (int)gettid());
    for (int i = 0; i < 20; i++) {
        tr__probe_run(&probe);
    }
    CHECK_EQ_INT(entries_of("/proc/self/fd", ""), descriptors);
    CHECK_EQ_INT(probe.cgroup_path[0] != '\0' ? entries_of(probe.cgroup_path, own) : 0, 0);
    CHECK_EQ_INT(waitpid(-1, NULL, WNOHANG | __WALL), -1);
    CHECK_EQ_INT(errno, ECHILD);
}

CASE(probe, a_container_profile_is_recognised)
{
    char buffer[TR__PROBE_MESSAGE_BYTES];
    struct tr__probe probe;
    refuse(SYS_io_uring_setup, EPERM);
    tr__probe_run(&probe);
    CHECK_EQ_INT(probe.ring_error, -EPERM);
    CHECK(probe.seccomp);
    CHECK(!tr__probe_opcode(&probe, IORING_OP_NOP));
    if (probe.io_uring_disabled <= 0) {
        CHECK(strstr(tr__probe_refusal(&probe, buffer, sizeof buffer), "seccomp") != NULL);
    }
}

CASE(probe, a_kernel_without_io_uring_is_recognised)
{
    char buffer[TR__PROBE_MESSAGE_BYTES];
    struct tr__probe probe;
    refuse(SYS_io_uring_setup, ENOSYS);
    tr__probe_run(&probe);
    CHECK_EQ_INT(probe.ring_error, -ENOSYS);
    CHECK(strstr(tr__probe_refusal(&probe, buffer, sizeof buffer), "ENOSYS") != NULL);
}

CASE(probe, missing_calls_read_as_not_available)
{
    struct tr__probe probe;
    refuse(SYS_clone3, ENOSYS);
    refuse(SYS_pidfd_open, EPERM);
    refuse(SYS_madvise, EINVAL);
    refuse(SYS_io_uring_register, EINVAL);
    tr__probe_run(&probe);
    CHECK(!probe.clone_into_cgroup);
    CHECK(!probe.pidfd);
    CHECK(!probe.guard_install);
    CHECK(!tr__probe_opcode(&probe, IORING_OP_NOP));
}

CASE(probe, a_guard_that_is_none_does_not_count)
{
    struct tr__probe probe;
    refuse(SYS_madvise, 0);
    tr__probe_run(&probe);
    CHECK(!probe.guard_install);
}

CASE(probe, a_filter_that_fakes_success_does_not_end_us)
{
    struct tr__probe probe;
    refuse(SYS_clone3, 0);
    tr__probe_run(&probe);
    CHECK(!probe.clone_into_cgroup);
}

CASE(probe, a_forbidden_cgroup_reads_as_none)
{
    struct tr__probe probe;
    refuse_mkdir(EACCES);
    tr__probe_run(&probe);
    CHECK_EQ_STR(probe.cgroup_path, "");
}

CASE(probe, refusals_name_cause_and_remedy)
{
    CHECK(strstr(refusal(-EPERM, 2, true), "io_uring_disabled=0") != NULL);
    CHECK(strstr(refusal(-EPERM, 2, true), "is 2") != NULL);
    CHECK(strstr(refusal(-EPERM, 1, false), "io_uring_group") != NULL);
    CHECK(strstr(refusal(-EPERM, 0, true), "Docker 25") != NULL);
    CHECK(strstr(refusal(-EPERM, -1, true), "containerd 2") != NULL);
    CHECK(strstr(refusal(-EPERM, 0, false), "security module") != NULL);
    CHECK(strstr(refusal(-ENOSYS, -1, false), "CONFIG_IO_URING") != NULL);
    CHECK(strstr(refusal(-ENOSYS, -1, true), "seccomp") != NULL);
    CHECK(strstr(refusal(-EACCES, 0, false), "SELinux") != NULL);
    CHECK(strstr(refusal(-ENOMEM, 0, false), "RLIMIT_MEMLOCK") != NULL);
    CHECK(strstr(refusal(-EMFILE, 0, false), "RLIMIT_NOFILE") != NULL);
    CHECK(strstr(refusal(-EINVAL, 0, false), "5.19") != NULL);
    CHECK(strstr(refusal(-EXDEV, 0, false), "EXDEV") != NULL);
    CHECK(strstr(refusal(-4000, 0, false), "unknown") != NULL);
    const int errors[] = {-EPERM, -ENOSYS, -EACCES, -ENOMEM, -EMFILE, -EINVAL};
    for (size_t i = 0; i < sizeof errors / sizeof errors[0]; i++) {
        CHECK(strstr(refusal(errors[i], 0, false), "remedy: ") != NULL);
    }
    CHECK(strstr(refusal(0, 0, false), "is available") != NULL);
}

CASE(probe, a_short_buffer_is_filled_not_overrun)
{
    struct tr__probe probe;
    memset(&probe, 0, sizeof probe);
    probe.ring_error = -EPERM;
    char buffer[32];
    memset(buffer, 'x', sizeof buffer);
    (void)tr__probe_refusal(&probe, buffer, 16);
    CHECK_EQ_INT(strlen(buffer), 15);
    CHECK_EQ_INT(buffer[16], 'x');
    (void)tr__probe_refusal(&probe, buffer, 1);
    CHECK_EQ_STR(buffer, "");
}
