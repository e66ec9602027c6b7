/*
 * workloads.h: one function per family of workloads, called by main.c. What each does and measures
 * is told at the top of its file.
 */
#ifndef PERF_WORKLOADS_H
#define PERF_WORKLOADS_H

#include "host.h"
#include "measure.h"

void run_agents(const struct options *options);
void run_background(const struct options *options);
void run_cancel(const struct options *options);
void run_crowd(const struct options *options);
void run_detach(const struct options *options);
void run_events(const struct options *options);
void run_idle(const struct options *options);
void run_interrupt(const struct options *options);
void run_managers(const struct options *options);
void run_output(const struct options *options);
void run_ring(const struct options *options);
void run_shell(const struct options *options);
void run_shell_big(const struct options *options);
void run_sleepers(const struct options *options);
void run_sleepers_fibers(const struct options *options);
void run_timers(const struct options *options);
void run_turns(const struct options *options);

#endif
