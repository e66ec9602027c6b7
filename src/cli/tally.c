/*
 * tally.c: counting what became of the calls, for the status line, the summary and the exit status.
 *
 * Threads: writer and reader count, the control thread shows the status; `lock` guards all of it
 * and is held for no longer than counting takes. Calls the engine's stats for the status line.
 *
 * Run times go into a histogram whose buckets are a sixteenth of a power of two wide: a
 * percentile is at most 6.25 % too high, and a million calls take as much memory as one.
 *
 * Cost: constant per call.
 */
#include "tally.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum {
    SUB_BUCKETS_LOG2 = 4,
    SUB_BUCKETS = 1 << SUB_BUCKETS_LOG2,
    DURATION_TEXT = 32
};

uint64_t cli_now_ns(void)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_MONOTONIC, &now); /* a clock that exists */
    return (uint64_t)now.tv_sec * TR_SECOND + (uint64_t)now.tv_nsec;
}

bool cli_colours(int fd)
{
    const char *no = getenv("NO_COLOR");
    const char *kind = getenv("TERM");
    return isatty(fd) == 1 && (no == NULL || no[0] == '\0') && kind != NULL &&
           strcmp(kind, "dumb") != 0;
}

static void lock(struct cli_tally *tally)
{
    (void)pthread_mutex_lock(&tally->lock); /* a plain mutex, never locked twice */
}

static void unlock(struct cli_tally *tally)
{
    (void)pthread_mutex_unlock(&tally->lock); /* as above */
}

void cli_tally_init(struct cli_tally *tally)
{
    *tally = (struct cli_tally){.began_ns = cli_now_ns()};
    tally->shown_ns = tally->began_ns;
    (void)pthread_mutex_init(&tally->lock, NULL); /* cannot fail without attributes */
}

void cli_tally_accept(struct cli_tally *tally)
{
    lock(tally);
    tally->accepted++;
    unlock(tally);
}

void cli_tally_fault(struct cli_tally *tally)
{
    lock(tally);
    tally->faults++;
    unlock(tally);
}

/* Values below SUB_BUCKETS have a bucket each; above, 16 buckets per power of two. */
static size_t bucket_of(uint64_t value)
{
    if (value < SUB_BUCKETS)
        return (size_t)value;
    unsigned power = 63U - (unsigned)__builtin_clzll(value);
    unsigned shift = power - SUB_BUCKETS_LOG2;
    return (size_t)(shift + 1) * SUB_BUCKETS + (size_t)(value >> shift) - SUB_BUCKETS;
}

/* Largest value of a bucket. */
static uint64_t bucket_top(size_t bucket)
{
    if (bucket < SUB_BUCKETS)
        return bucket;
    unsigned shift = (unsigned)(bucket / SUB_BUCKETS) - 1;
    return ((uint64_t)(bucket % SUB_BUCKETS + SUB_BUCKETS + 1) << shift) - 1;
}

static void copy_cut(char *target, size_t room, const void *data, size_t size)
{
    size_t kept = size < room - 1 ? size : room - 1;
    if (kept > 0)
        memcpy(target, data, kept);
    target[kept] = '\0';
}

static void count_run(struct cli_tally *tally, const tr_item *item)
{
    uint64_t run_ns = item->ended_ns - item->started_ns;
    tally->runs[bucket_of(run_ns)]++;
    size_t place = CLI_SLOWEST;
    while (place > 0 && run_ns > tally->slowest[place - 1].run_ns)
        place--;
    if (place == CLI_SLOWEST)
        return;
    struct cli_slow *slow = &tally->slowest[place];
    memmove(slow + 1, slow, (CLI_SLOWEST - 1 - place) * sizeof(*slow));
    slow->run_ns = run_ns;
    copy_cut(slow->call_id, sizeof(slow->call_id), item->call_id.data, item->call_id.size);
    cli_mask_controls(slow->call_id);
    copy_cut(slow->tool, sizeof(slow->tool), item->tool_name, strlen(item->tool_name));
}

void cli_tally_settle(struct cli_tally *tally, const tr_item *items, size_t count)
{
    lock(tally);
    for (size_t index = 0; index < count; index++) {
        const tr_item *item = &items[index];
        if (item->type != TR_ITEM_RESOLUTION)
            continue;
        tally->ended[(unsigned)item->outcome < CLI_OUTCOMES ? item->outcome : TR_OUTCOME_NONE]++;
        tally->detached += (item->flags & TR_ITEM_WAS_DETACHED) != 0;
        if (item->started_ns == 0 || (item->flags & TR_ITEM_NOT_STARTED) != 0)
            tally->not_started++;
        else
            count_run(tally, item);
    }
    unlock(tally);
}

static uint64_t ended_all(const struct cli_tally *tally)
{
    uint64_t sum = 0;
    for (size_t outcome = 0; outcome < CLI_OUTCOMES; outcome++)
        sum += tally->ended[outcome];
    return sum;
}

void cli_tally_status(struct cli_tally *tally, tr_manager *manager, const struct cli_output *output)
{
    char text[256];
    tr_stats stats;
    if (tr_manager_stats(manager, &stats) < 0)
        return;
    lock(tally);
    uint64_t now = cli_now_ns();
    uint64_t ended = ended_all(tally);
    if (now - tally->shown_ns >= TR_SECOND / 2) {
        tally->rate = (ended - tally->shown_ended) * TR_SECOND / (now - tally->shown_ns);
        tally->shown_ns = now;
        tally->shown_ended = ended;
    }
    uint64_t seen = stats.started + tally->not_started;
    uint64_t queued = stats.accepted > seen ? stats.accepted - seen : 0;
    uint64_t running = stats.unfinished > queued ? stats.unfinished - queued : 0;
    (void)snprintf(text, sizeof(text),
                   "%" PRIu64 " running, %" PRIu64 " queued, %" PRIu64 " done, %" PRIu64
                   " not completed, %" PRIu64 " calls/s",
                   running, queued, ended, ended - tally->ended[TR_OUTCOME_COMPLETED],
                   tally->rate); /* the room suffices for six numbers */
    unlock(tally);
    cli_output_status(output, text);
}

/* Writes a duration as people read it: three digits and a unit. */
static const char *duration_text(uint64_t duration_ns, char text[DURATION_TEXT])
{
    static const char *const units[] = {"ns", "us", "ms", "s"};
    double value = (double)duration_ns;
    size_t unit = 0;
    while (value >= 999.5 && unit < 3) {
        value /= 1000;
        unit++;
    }
    int digits = unit == 0 || value >= 99.95 ? 0 : value >= 9.995 ? 1 : 2;
    (void)snprintf(text, DURATION_TEXT, "%.*f %s", digits, value, units[unit]); /* it fits */
    return text;
}

/* The run time that a part (of 1000) of the started calls did not exceed. */
static uint64_t run_percentile(const struct cli_tally *tally, uint64_t started, uint64_t per_mille)
{
    uint64_t rank = (started * per_mille + 999) / 1000;
    uint64_t seen = 0;
    for (size_t bucket = 0; bucket < CLI_RUN_BUCKETS; bucket++) {
        seen += tally->runs[bucket];
        if (seen >= rank) {
            uint64_t top = bucket_top(bucket);
            return top < tally->slowest[0].run_ns ? top : tally->slowest[0].run_ns;
        }
    }
    return tally->slowest[0].run_ns;
}

static void print_outcomes(const struct cli_tally *tally, bool colours)
{
    for (int outcome = TR_OUTCOME_COMPLETED; outcome <= TR_OUTCOME_LOST; outcome++) {
        if (tally->ended[outcome] == 0)
            continue;
        const char *colour = outcome == TR_OUTCOME_COMPLETED ? "\033[32m" : "\033[31m";
        fprintf(stderr, "  %s%-9s %8" PRIu64 "%s\n", colours ? colour : "",
                tr_outcome_name((tr_outcome)outcome), tally->ended[outcome],
                colours ? "\033[0m" : "");
    }
    if (tally->detached > 0)
        fprintf(stderr, "  %-9s %8" PRIu64 "  (went on in the background)\n", "detached",
                tally->detached);
    if (tally->faults > 0)
        fprintf(stderr, "  %s%-9s %8" PRIu64 "%s  (input lines not used)\n",
                colours ? "\033[31m" : "", "bad lines", tally->faults, colours ? "\033[0m" : "");
}

void cli_tally_summary(struct cli_tally *tally)
{
    char first[DURATION_TEXT], second[DURATION_TEXT], third[DURATION_TEXT];
    lock(tally);
    uint64_t wall_ns = cli_now_ns() - tally->began_ns;
    uint64_t ended = ended_all(tally);
    uint64_t started = ended - tally->not_started;
    double per_second = wall_ns == 0 ? 0 : (double)ended * (double)TR_SECOND / (double)wall_ns;
    fprintf(stderr, "toolring: %" PRIu64 " call%s in %s, %.*f calls/s\n", ended,
            ended == 1 ? "" : "s", duration_text(wall_ns, first), per_second < 100 ? 1 : 0,
            per_second);
    print_outcomes(tally, cli_colours(STDERR_FILENO));
    if (started > 0) {
        fprintf(stderr, "  run time  p50 %s, p99 %s, longest %s\n",
                duration_text(run_percentile(tally, started, 500), first),
                duration_text(run_percentile(tally, started, 990), second),
                duration_text(tally->slowest[0].run_ns, third));
        fprintf(stderr, "  slowest   ");
        for (size_t index = 0; index < CLI_SLOWEST && tally->slowest[index].run_ns > 0; index++)
            fprintf(stderr, "%s%s (%s) %s", index == 0 ? "" : ", ", tally->slowest[index].call_id,
                    tally->slowest[index].tool, duration_text(tally->slowest[index].run_ns, first));
        fprintf(stderr, "\n");
    }
    unlock(tally);
}

int cli_tally_exit_status(struct cli_tally *tally)
{
    lock(tally);
    int status = 0;
    if (tally->faults > 0)
        status = 2;
    else if (ended_all(tally) != tally->ended[TR_OUTCOME_COMPLETED])
        status = 1;
    unlock(tally);
    return status;
}
