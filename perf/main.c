/*
 * main.c: toolring-perf, one program for all workloads of toolring itself.
 *
 *     toolring-perf WORKLOAD [--seed N] [--quick]     prints one JSON line (see measure.h)
 *
 * Called by perf/run, which pairs it with the peers; and by itself, as a child (see child.h).
 */
#include "child.h"
#include "workloads.h"

static const struct family families[] = {
    {"background-*", 16000000, run_background},
    {"turns-*", 16384, run_turns},
    {"detach-*", 1000000, run_detach},
    {"timers-*", 10000000, run_timers},
    {"sleepers-*", 16000000, run_sleepers},
    {"sleepers-fibers-*", 1000000, run_sleepers_fibers},
    {"cancel", 0, run_cancel},
    {"interrupt-*", 100000000, run_interrupt},
    {"crowd", 0, run_crowd},
    {"events", 0, run_events},
    {"idle", 0, run_idle},
    {"shell-*", 1024, run_shell},
    {"shell-*-2gib", 1024, run_shell_big},
    {"output", 0, run_output},
    {"agents-*", 60000, run_agents},
    {"managers-*", 16, run_managers},
    {"ring", 0, run_ring},
};

int main(int argc, char **argv)
{
    int status;
    if (child_main(argc, argv, &status)) {
        return status;
    }
    return measure_main(argc, argv, "toolring", tr_version(), families,
                        sizeof families / sizeof families[0]);
}
