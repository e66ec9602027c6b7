/*
 * counts.c: see counts.h.
 *
 * Owner thread: the benchmark's main thread. Called by the workloads; calls the public interface,
 * the kernel's perf events and /proc.
 *
 * Invariants
 *  1. The event is inherited by threads, not by child processes: what a child does is not ours.
 *  2. What cannot be counted here is left out of the line, never shown as 0.
 */
#include "counts.h"

#include <dirent.h>
#include <linux/perf_event.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

static int event_fd = -1;

/* The number of the tracepoint that every system call passes, 0 if it cannot be had. */
static uint64_t tracepoint(void)
{
    static const char *const places[] = {
        "/sys/kernel/tracing/events/raw_syscalls/sys_enter/id",
        "/sys/kernel/debug/tracing/events/raw_syscalls/sys_enter/id",
    };
    unsigned long number = 0;
    for (size_t at = 0; at < sizeof places / sizeof places[0] && number == 0; at++) {
        FILE *file = fopen(places[at], "re");
        if (file != NULL) {
            number = fscanf(file, "%lu", &number) == 1 ? number : 0;
            (void)fclose(file); /* it was only read */
        }
    }
    return number;
}

void counts_open(const struct options *options)
{
    struct perf_event_attr event;
    if (!options->counts || event_fd >= 0) {
        return;
    }
    memset(&event, 0, sizeof event);
    event.size = sizeof event;
    event.type = PERF_TYPE_TRACEPOINT;
    event.config = tracepoint();
    event.inherit = 1;
    event.inherit_thread = 1; /* invariant 1 */
    if (event.config != 0) {
        event_fd = (int)syscall(SYS_perf_event_open, &event, 0, -1, -1, PERF_FLAG_FD_CLOEXEC);
    }
}

static uint64_t count_system_calls(void)
{
    uint64_t count = 0;
    if (event_fd < 0 || read(event_fd, &count, sizeof count) != (ssize_t)sizeof count) {
        return COUNTS_NONE;
    }
    return count;
}

static uint64_t switches_of(const char *task)
{
    char path[512];
    char text[256];
    unsigned long count = 0;
    (void)snprintf(path, sizeof path, "/proc/self/task/%s/status", task);
    FILE *file = fopen(path, "re");
    while (file != NULL && fgets(text, sizeof text, file) != NULL) {
        if (sscanf(text, "voluntary_ctxt_switches: %lu", &count) == 1) {
            break;
        }
    }
    if (file != NULL) {
        (void)fclose(file); /* it was only read */
    }
    return count;
}

static uint64_t count_switches(void)
{
    uint64_t count = 0;
    struct dirent *entry;
    DIR *tasks = opendir("/proc/self/task");
    REQUIRE(tasks != NULL);
    while ((entry = readdir(tasks)) != NULL) {
        count += entry->d_name[0] == '.' ? 0 : switches_of(entry->d_name);
    }
    (void)closedir(tasks); /* it was only read */
    return count;
}

static void look(struct host *host, struct counts *counts)
{
    tr_stats stats;
    REQUIRE(tr_manager_stats(host->manager, &stats) == 0);
    counts->ring_enters = stats.ring_enters;
    counts->ring_wakes = stats.ring_wakes;
    counts->wakes = stats.wakes;
    counts->parks = stats.parked;
    counts->switches = count_switches();
    counts->system_calls = count_system_calls();
}

void counts_begin(struct host *host, struct counts *counts)
{
    look(host, counts);
}

void counts_end(struct host *host, struct counts *counts)
{
    struct counts begin = *counts;
    counts->system_calls = count_system_calls(); /* before the looking itself makes some */
    uint64_t system_calls = counts->system_calls;
    look(host, counts);
    counts->ring_enters -= begin.ring_enters;
    counts->ring_wakes -= begin.ring_wakes;
    counts->wakes -= begin.wakes;
    counts->parks -= begin.parks;
    counts->switches -= begin.switches;
    counts->system_calls =
        system_calls == COUNTS_NONE ? COUNTS_NONE : system_calls - begin.system_calls;
}

void counts_report(const struct counts *counts, double calls)
{
    if (counts->system_calls != COUNTS_NONE) {
        report_count("system calls", (double)counts->system_calls / calls);
    }
    report_count("switches", (double)counts->switches / calls);
    report_count("ring enters", (double)counts->ring_enters / calls);
    report_count("ring wakes", (double)counts->ring_wakes / calls);
    report_count("worker wakes", (double)counts->wakes / calls);
    report_count("worker parks", (double)counts->parks / calls);
}
