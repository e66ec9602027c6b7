/*
 * workloads.h: one function per family of workloads, called by main.c. Names and meanings are told at the
 * top of each file.
 */
#ifndef PERF_WORKLOADS_H
#define PERF_WORKLOADS_H

#include "host.h"
#include "measure.h"

void run_background(const struct options *options);
void run_turns(const struct options *options);
void run_shell(const struct options *options);
void run_shell_big(const struct options *options);

#endif
