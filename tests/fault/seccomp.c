/*
 * A kernel that refuses io_uring, played by a seccomp filter: opening a manager says so, why, and
 * what helps; an inline manager works.
 */
#include <errno.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "support/host.h"
#include "support/refuse.h"

/* From here on io_uring_setup fails with this errno, in this process for good. */
static void refuse_io_uring(int error)
{
    static const struct refusal refusal = {SYS_io_uring_setup, REFUSE_ANY, 0, false};
    CHECK(refuse_calls(&refusal, 1, error));
    CHECK_EQ_INT(syscall(SYS_io_uring_setup, 1, NULL), -1);
    CHECK_EQ_INT(errno, error);
}

static void check_inline_manager(void)
{
    struct rig rig;
    rig_open(&rig, RIG_INLINE, NULL);
    tr_task_id task = rig_launch_text(&rig, rig.echo, "still works", TR_ROUTE_FOREGROUND);
    tr_batch *batch = rig_turn_take(&rig, rig.turn);
    CHECK(rig_bytes_are(batch->items[0].result, "still works"));
    rig_check_release(batch, task, TR_OUTCOME_COMPLETED);
    rig_close(&rig);
}

/* What happens in a process whose kernel refuses so. */
static void check_refusal(int error, const char *const *hints)
{
    char message[512] = "";
    tr_machine machine;
    tr_manager *manager = NULL;
    tr_config config = TR_CONFIG_INIT;
    unsigned threads = rig_threads();
    unsigned descriptors = rig_descriptors();
    config.message = message;
    config.message_size = sizeof message;
    refuse_io_uring(error);
    CHECK_EQ_INT(tr_manager_open(&config, &manager), TR_ERING);
    CHECK_EQ_PTR(manager, NULL);
    WAIT_UNTIL(rig_threads() <= threads, RIG_PATIENCE_SECONDS); /* nothing is left of it */
    CHECK_EQ_INT(rig_descriptors(), descriptors);
    for (unsigned at = 0; hints[at] != NULL; at++) {
        if (strstr(message, hints[at]) == NULL) {
            case_fail(__FILE__, __LINE__, "no \"%s\" in: %s", hints[at], message);
        }
    }
    message[0] = '\0';
    config.message_size = 16; /* cut, not overrun */
    CHECK_EQ_INT(tr_manager_open(&config, &manager), TR_ERING);
    CHECK(strlen(message) < 16);
    config.message = NULL;
    CHECK_EQ_INT(tr_manager_open(&config, &manager), TR_ERING);
    CHECK_EQ_INT(tr_manager_open(NULL, &manager), TR_ERING);
    CHECK_EQ_INT(tr_machine_examine(&machine), 0);
    CHECK_EQ_INT(machine.ring_error, -error);
    CHECK(machine.ring_refusal[0] != '\0' && machine.seccomp);
    check_inline_manager();
}

static void check_in_a_child(int error, const char *const *hints)
{
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        check_refusal(error, hints);
        exit(EXIT_SUCCESS); /* through exit: leak checkers report there */
    }
    int status = 0;
    CHECK_EQ_INT(waitpid(child, &status, 0), child);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == EXIT_SUCCESS);
}

CASE(seccomp, eperm)
{
    static const char *const hints[] = {"EPERM", "io_uring", "seccomp", NULL};
    check_in_a_child(EPERM, hints);
}

CASE(seccomp, enosys)
{
    static const char *const hints[] = {"ENOSYS", "io_uring", "kernel", NULL};
    check_in_a_child(ENOSYS, hints);
}

CASE(seccomp, eacces)
{
    static const char *const hints[] = {"EACCES", "io_uring", NULL};
    check_in_a_child(EACCES, hints);
}
