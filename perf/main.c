/*
 * main.c: toolring-perf, one program for all workloads of toolring itself.
 *
 *     toolring-perf WORKLOAD [--seed N] [--quick]     prints one JSON line (see measure.h)
 *
 * Called by perf/run, which pairs it with the peers.
 */
#include "workloads.h"

static const struct family families[] = {
    {"background-*", 16000000, run_background},
    {"turns-*", 16384, run_turns},
    {"shell-*", 1024, run_shell},
    {"shell-*-2gib", 1024, run_shell_big},
};

int main(int argc, char **argv)
{
    return measure_main(argc, argv, "toolring", tr_version(), families,
                        sizeof families / sizeof families[0]);
}
