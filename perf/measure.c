/*
 * measure.c: see measure.h.
 *
 * Owner thread: the benchmark's main thread. Called by every workload and every peer in C; calls
 * libc.
 *
 * Invariants
 *  1. The line goes out in one piece at report_end, when everything was verified.
 *  2. `also`, `counts` and `parameters` hold numbers only, so that awk can read them.
 */
#include "measure.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define LINE_BYTES_MAX 8192

static struct {
    char also[LINE_BYTES_MAX];
    char parameters[LINE_BYTES_MAX];
    char counts[LINE_BYTES_MAX];
    char head[LINE_BYTES_MAX];
    size_t also_size;
    size_t parameters_size;
    size_t counts_size;
} line;

static const char *contender_name;
static const char *contender_version;

void fail(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    (void)fprintf(stderr, "%s: ", contender_name != NULL ? contender_name : "perf");
    (void)vfprintf(stderr, format, arguments);
    (void)fputc('\n', stderr);
    va_end(arguments);
    exit(1);
}

/* ---- the program ---- */

/* "turns-64" is of the family "turns-*", "shell-8-2gib" of "shell-*-2gib". */
static bool is_of_family(const struct family *family, const char *workload, uint64_t *ret_size)
{
    const char *star = strchr(family->name, '*');
    *ret_size = 0;
    if (star == NULL) {
        return strcmp(family->name, workload) == 0;
    }
    size_t before = (size_t)(star - family->name);
    if (strncmp(family->name, workload, before) != 0) {
        return false;
    }
    char *end = NULL;
    const char *digits = workload + before;
    if (*digits < '1' || *digits > '9') {
        return false;
    }
    *ret_size = strtoull(digits, &end, 10);
    return strcmp(end, star + 1) == 0;
}

static const struct family *find_family(const struct family *families, size_t count,
                                        const char *workload, uint64_t *ret_size)
{
    for (size_t at = 0; at < count; at++) {
        if (is_of_family(&families[at], workload, ret_size)) {
            return &families[at];
        }
    }
    return NULL;
}

static void usage(const struct family *families, size_t count)
{
    (void)fprintf(stderr, "usage: %s WORKLOAD [--seed N] [--quick]\nworkloads:", contender_name);
    for (size_t at = 0; at < count; at++) {
        (void)fprintf(stderr, " %s", families[at].name);
    }
    (void)fputc('\n', stderr);
}

int measure_main(int argc, char **argv, const char *contender, const char *version,
                 const struct family *families, size_t count)
{
    struct options options = {.seed = 1};
    const struct family *family;
    contender_name = contender;
    contender_version = version;
    if (argc == 3 && strcmp(argv[1], "--offers") == 0) {
        return find_family(families, count, argv[2], &options.size) != NULL ? 0 : 1;
    }
    for (int at = 1; at < argc; at++) {
        if (strcmp(argv[at], "--quick") == 0) {
            options.quick = true;
        } else if (strcmp(argv[at], "--counts") == 0) {
            options.counts = true;
        } else if (strcmp(argv[at], "--seed") == 0 && at + 1 < argc) {
            at += 1;
            options.seed = strtoull(argv[at], NULL, 10);
        } else if (argv[at][0] != '-' && options.workload == NULL) {
            options.workload = argv[at];
        } else {
            usage(families, count);
            return 2;
        }
    }
    if (options.workload == NULL ||
        (family = find_family(families, count, options.workload, &options.size)) == NULL ||
        (family->size_max != 0 && options.size > family->size_max)) {
        usage(families, count);
        return 2;
    }
    family->run(&options);
    return 0;
}

/* ---- memory, processor ---- */

/* Not /proc/self/statm: its counts lag by some 64 pages for each processor. */
uint64_t resident_bytes(void)
{
    char text[256];
    uint64_t kib = 0;
    FILE *file = fopen("/proc/self/smaps_rollup", "re");
    if (file == NULL) {
        fail("cannot read /proc/self/smaps_rollup");
    }
    while (fgets(text, sizeof text, file) != NULL) {
        if (sscanf(text, "Rss: %" SCNu64, &kib) == 1) {
            break;
        }
    }
    (void)fclose(file);
    if (kib == 0) {
        fail("/proc/self/smaps_rollup tells no Rss");
    }
    return kib * 1024;
}

uint64_t resident_peak_bytes(void)
{
    char text[256];
    uint64_t kib = 0;
    FILE *file = fopen("/proc/self/status", "re");
    if (file == NULL) {
        fail("cannot read /proc/self/status");
    }
    while (fgets(text, sizeof text, file) != NULL) {
        if (sscanf(text, "VmHWM: %" SCNu64, &kib) == 1) {
            break;
        }
    }
    (void)fclose(file);
    return kib * 1024;
}

void resident_peak_reset(void)
{
    FILE *file = fopen("/proc/self/clear_refs", "we");
    if (file == NULL) {
        fail("cannot write /proc/self/clear_refs");
    }
    (void)fputs("5", file);
    if (fclose(file) != 0) {
        fail("cannot reset the peak of resident memory");
    }
}

void *ballast_open(size_t size)
{
    void *ballast = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    REQUIRE(ballast != MAP_FAILED);
    /* Huge pages would leave little to copy and hide what a fork costs. */
    (void)madvise(ballast, size, MADV_NOHUGEPAGE); /* refused where there are none: all the same */
    memset(ballast, 1, size);
    return ballast;
}

void ballast_close(void *ballast, size_t size)
{
    REQUIRE(munmap(ballast, size) == 0);
}

uint64_t cpu_ns(void)
{
    struct timespec spent;
    REQUIRE(clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &spent) == 0);
    return (uint64_t)spent.tv_sec * UINT64_C(1000000000) + (uint64_t)spent.tv_nsec;
}

/* ---- the seed ---- */

uint64_t random_between(struct random *random, uint64_t low, uint64_t high)
{
    return low + random_next(random) % (high - low + 1);
}

uint64_t vary(const struct options *options, uint64_t base)
{
    struct random random = {options->seed ^ base};
    uint64_t span = base / 16;
    return random_between(&random, base - span, base + span);
}

/* ---- results ---- */

void ledger_open(struct ledger *ledger, uint64_t seed, size_t count)
{
    ledger->seed = mix(seed);
    ledger->count = count;
    ledger->marks = malloc(count > 0 ? count : 1);
    REQUIRE(ledger->marks != NULL);
    ledger_reset(ledger);
}

void ledger_reset(struct ledger *ledger)
{
    ledger->seen = 0;
    memset(ledger->marks, 0, ledger->count); /* touches every page: no growth is seen later */
}

void ledger_close(struct ledger *ledger)
{
    if (ledger->seen != ledger->count) {
        fail("%zu results of %zu came", ledger->seen, ledger->count);
    }
    free(ledger->marks);
    ledger->marks = NULL;
}

/* ---- samples ---- */

void samples_open(struct samples *samples, size_t room)
{
    samples->values = malloc((room > 0 ? room : 1) * sizeof *samples->values);
    REQUIRE(samples->values != NULL);
    memset(samples->values, 0, room * sizeof *samples->values);
    samples->count = 0;
    samples->room = room;
    samples->sorted = false;
}

void samples_add(struct samples *samples, uint64_t value)
{
    REQUIRE(samples->count < samples->room);
    samples->values[samples->count] = value;
    samples->count += 1;
    samples->sorted = false;
}

static int compare(const void *left, const void *right)
{
    uint64_t a = *(const uint64_t *)left;
    uint64_t b = *(const uint64_t *)right;
    return a < b ? -1 : a > b;
}

uint64_t samples_at(struct samples *samples, double part)
{
    REQUIRE(samples->count > 0);
    if (!samples->sorted) {
        qsort(samples->values, samples->count, sizeof *samples->values, compare);
        samples->sorted = true;
    }
    size_t at = (size_t)(part * (double)(samples->count - 1) + 0.5);
    return samples->values[at];
}

void samples_close(struct samples *samples)
{
    free(samples->values);
    samples->values = NULL;
}

/* ---- the line ---- */

static void append(char *text, size_t *size, const char *name, double value, int digits)
{
    int written = snprintf(text + *size, LINE_BYTES_MAX - *size, "%s\"%s\":%.*g",
                           *size > 0 ? "," : "", name, digits, value);
    REQUIRE(written > 0 && (size_t)written < LINE_BYTES_MAX - *size);
    *size += (size_t)written;
}

void report_begin(const struct options *options, const char *unit, double value)
{
    int written = snprintf(line.head, sizeof line.head,
                           "{\"workload\":\"%s\",\"contender\":\"%s\",\"version\":\"%s\","
                           "\"seed\":%" PRIu64 ",\"quick\":%s,\"unit\":\"%s\",\"value\":%.6g",
                           options->workload, contender_name, contender_version, options->seed,
                           options->quick ? "true" : "false", unit, value);
    REQUIRE(written > 0 && (size_t)written < sizeof line.head);
    line.also_size = 0;
    line.parameters_size = 0;
    line.counts_size = 0;
    line.also[0] = '\0';
    line.parameters[0] = '\0';
    line.counts[0] = '\0';
}

void report_also(const char *name, double value)
{
    append(line.also, &line.also_size, name, value, 6);
}

void report_latency(const char *name, struct samples *samples, double divisor)
{
    static const struct {
        const char *suffix;
        double part;
    } parts[] = {{"p50", 0.5}, {"p99", 0.99}, {"p99.9", 0.999}};
    for (size_t at = 0; at < sizeof parts / sizeof parts[0]; at++) {
        char full[96];
        int written = snprintf(full, sizeof full, "%s %s", name, parts[at].suffix);
        REQUIRE(written > 0 && (size_t)written < sizeof full);
        report_also(full, (double)samples_at(samples, parts[at].part) / divisor);
    }
}

void report_count(const char *name, double value)
{
    append(line.counts, &line.counts_size, name, value, 4);
}

void report_parameter(const char *name, uint64_t value)
{
    append(line.parameters, &line.parameters_size, name, (double)value, 15);
}

void report_end(void)
{
    (void)printf("%s,\"also\":{%s},\"counts\":{%s},\"parameters\":{%s},\"verified\":true}\n",
                 line.head, line.also, line.counts, line.parameters);
    if (fflush(stdout) != 0) {
        fail("cannot write the result");
    }
}
