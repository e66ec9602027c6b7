/*
 * slice: asks the scheduler for short turns, for a thread that works in microseconds and whose
 * lateness others notice.
 */
#ifndef TR__BASE_SLICE_H
#define TR__BASE_SLICE_H

/*
 * The calling thread runs in slices of 0.1 ms: when it wakes it goes before threads that are in the
 * middle of a longer slice (3 ms by default), and gives way sooner. Same share of the processor,
 * no privilege. Kernels before 6.12 ignore it. Best effort: nothing depends on it but latency.
 */
void tr__slice_shorten(void);

#endif
