/*
 * machine.c: tr_machine_examine: the probe's facts in public words.
 *
 * Owner thread: any. Called by hosts; calls base/probe.
 */
#include <sched.h>
#include <stdio.h>
#include <string.h>

#include <toolring/stats.h>

#include "base/probe.h"

int tr_machine_examine(tr_machine *ret_machine)
{
    if (ret_machine == NULL) {
        return TR_EINVAL;
    }
    struct tr__probe probe;
    tr__probe_run(&probe);
    tr_machine machine;
    memset(&machine, 0, sizeof(machine));
    machine.ring_error = probe.ring_error;
    if (probe.ring_error != 0) {
        (void)tr__probe_refusal(&probe, machine.ring_refusal, sizeof(machine.ring_refusal));
    }
    machine.ring_flags = probe.ring_flags_max;
    machine.ring_features = probe.ring_features;
    machine.io_uring_disabled = probe.io_uring_disabled;
    (void)snprintf(machine.kernel_release, sizeof(machine.kernel_release), "%.*s",
                   (int)sizeof(machine.kernel_release) - 1, probe.kernel_release);
    machine.kernel_major = probe.kernel_major;
    machine.kernel_minor = probe.kernel_minor;
    machine.seccomp = probe.seccomp;
    machine.process_fd = probe.pidfd;
    machine.guard_install = probe.guard_install;
    machine.spawn_into_cgroup = probe.clone_into_cgroup;
    (void)snprintf(machine.cgroup_path, sizeof(machine.cgroup_path), "%.*s",
                   (int)sizeof(machine.cgroup_path) - 1, probe.cgroup_path);
    machine.descriptors_soft = probe.nofile_soft;
    machine.descriptors_hard = probe.nofile_hard;
    machine.processes_max = probe.nproc;
    machine.process_ids_max = probe.pid_max;
    machine.mappings_max = probe.max_map_count;
    machine.pipe_pages_soft = probe.pipe_user_pages_soft;
    cpu_set_t processors;
    machine.processors = sched_getaffinity(0, sizeof(processors), &processors) == 0
                             ? (unsigned)CPU_COUNT(&processors)
                             : 1;
    machine.tree_mode = probe.cgroup_path[0] != '\0' ? TR_TREE_CGROUP : TR_TREE_GROUP;
    (void)snprintf(machine.cgroup_controllers, sizeof(machine.cgroup_controllers), "%s",
                   probe.cgroup_controllers);
    machine.memory_peak = probe.memory_peak;
    machine.spawn_by_clone = probe.clone;
    *ret_machine = machine;
    return 0;
}
