/*
 * measure.h: what every benchmark needs, toolring's own and the peers': clock, seed, samples, the
 * checked count of results, and the one JSON line a run prints.
 *
 * Nothing here knows toolring, so the peers in perf/peers use it too: the same work is generated
 * and checked by the same code.
 *
 * A run prints its line only after it has verified its results: no line, no figure.
 */
#ifndef PERF_MEASURE_H
#define PERF_MEASURE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <time.h>

/* ---- what was asked for ---- */

struct options {
    const char *workload; /* its name in full, as "turns-64" */
    uint64_t size;        /* the number in the name, 0 if it has none */
    uint64_t seed;
    bool quick;  /* fewer repetitions; the same work otherwise */
    bool counts; /* system calls are counted: times are not to be used */
};

/* One family of workloads. A '*' in its name stands for the size: "turns-*", "shell-*-2gib". */
struct family {
    const char *name;
    uint64_t size_max; /* 0: any */
    void (*run)(const struct options *options);
};

/* The whole main of a benchmark program: reads the arguments, finds the family, runs it.
 *
 *     PROGRAM WORKLOAD [--seed N] [--quick] [--counts]
 *                                                runs it, prints one JSON line
 *     PROGRAM --offers WORKLOAD                  exit status 0 if it has that workload
 */
int measure_main(int argc, char **argv, const char *contender, const char *version,
                 const struct family *families, size_t count);

/* ---- clock, memory, processor ---- */

static inline uint64_t now_ns(void)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_MONOTONIC,
                        &now); /* cannot fail: the clock exists, the pointer is good */
    return (uint64_t)now.tv_sec * UINT64_C(1000000000) + (uint64_t)now.tv_nsec;
}

uint64_t resident_bytes(void);      /* now */
uint64_t resident_peak_bytes(void); /* at its highest, since resident_peak_reset */
void resident_peak_reset(void);
/* Memory that is there only to be there, every page touched, in pages of 4 KiB. */
void *ballast_open(size_t size);
void ballast_close(void *ballast, size_t size);
uint64_t cpu_ns(void); /* spent by every thread of this process, kernel included */

/* Ends the process with a message: a benchmark that went wrong has no figure. */
__attribute__((cold, noreturn, format(printf, 1, 2))) void fail(const char *format, ...);

#define REQUIRE(condition)                                                                         \
    ((condition) ? (void)0 : fail("%s:%d: not true: %s", __FILE__, __LINE__, #condition))

/* ---- the seed ---- */

struct random {
    uint64_t state;
};

/* One-to-one scrambling of 64 bits (SplitMix64): the "work" of a no-op call is to return it. */
static inline uint64_t mix(uint64_t value)
{
    value += UINT64_C(0x9e3779b97f4a7c15);
    value = (value ^ (value >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    value = (value ^ (value >> 27)) * UINT64_C(0x94d049bb133111eb);
    return value ^ (value >> 31);
}

static inline uint64_t random_next(struct random *random)
{
    random->state += UINT64_C(0x9e3779b97f4a7c15);
    return mix(random->state);
}

/* From low to high, both included. */
uint64_t random_between(struct random *random, uint64_t low, uint64_t high);

/* `base` give or take 1/16, by the seed: so no count in the engine can be tuned to ours. */
uint64_t vary(const struct options *options, uint64_t base);

/* ---- results: each exactly once, each right ---- */

struct ledger {
    uint64_t seed;
    size_t count; /* results expected */
    size_t seen;  /* results that came */
    uint8_t *marks;
};

void ledger_open(struct ledger *ledger, uint64_t seed, size_t count);
void ledger_reset(struct ledger *ledger);
void ledger_close(struct ledger *ledger); /* fails unless every result came */

/* The input of call `index`; its result must be the mix of that. */
static inline uint64_t ledger_input(const struct ledger *ledger, size_t index)
{
    return ledger->seed ^ (uint64_t)index;
}

static inline void ledger_note(struct ledger *ledger, size_t index, uint64_t result)
{
    if (index >= ledger->count || ledger->marks[index] != 0 ||
        result != mix(ledger_input(ledger, index))) {
        fail("call %zu: lost, doubled or wrong", index);
    }
    ledger->marks[index] = 1;
    ledger->seen += 1;
}

/* ---- samples ---- */

struct samples {
    uint64_t *values;
    size_t count;
    size_t room;
    bool sorted;
};

void samples_open(struct samples *samples, size_t room);
void samples_add(struct samples *samples, uint64_t value); /* beyond the room: fails */
uint64_t samples_at(struct samples *samples, double part); /* 0.5: the median; sorts */
void samples_close(struct samples *samples);

/* ---- the line ---- */

/* Begins the line with the figure that counts, adds others and parameters, ends it. In this order.
 * */
void report_begin(const struct options *options, const char *unit, double value);
void report_also(const char *name, double value);
/* Median, 99 and 99.9 per cent of the samples, divided by `divisor`, as NAME_p50 and so on. */
void report_latency(const char *name, struct samples *samples, double divisor);
/* How often something happened, per call. */
void report_count(const char *name, double value);
void report_parameter(const char *name, uint64_t value);
void report_end(void);

#endif
