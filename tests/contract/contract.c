/*
 * contract.c: options, one process per run, and shrinking.
 *
 * A run is made in a child process, so that a violation, a crash and a hang are all the same to the
 * parent: a run that failed. Its operation list is then shrunk (delta debugging): chunks are left
 * out, and what still fails within a few tries stays left out. Threads race, so a shorter list may
 * fail only now and then; what is printed failed at least once.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "contract/contract.h"

#define OPERATIONS_MAX 100000u
#define TRIES 4u
#define SHOWN_MAX 40u

static const char usage[] =
    "usage: toolring-contract [OPTION ...]\n"
    "  --seed N        first seed [drawn]; the next runs take N+1, N+2 ...\n"
    "  --operations N  operations of a run [1500]\n"
    "  --seconds N     goes on with further seeds for so long [one run]\n"
    "  --runs N        or for so many runs\n"
    "  --threads N     threads that carry operations out [3]\n"
    "  --inline        an inline manager\n"
    "  --shrink N      seconds spent on shrinking [60]; 0: not at all\n"
    "  --only LIST     only these operations: 3,17,40\n"
    "  --hang N        seconds without progress that are a hang [20]\n"
    "  --quiet         says nothing of runs that were well\n";

struct settings {
    struct run_options run;
    unsigned seconds, runs, shrink_seconds;
    char *only;
    bool seed_given;
};

static double seconds_now(void)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

/* A run in a child: 0 when it was well, else its exit status or 128 + the signal. */
static int run_child(const struct run_options *options, const struct operation *operations,
                     uint32_t count, bool silent)
{
    (void)fflush(stdout);
    (void)fflush(stderr);
    pid_t child = fork();
    if (child < 0) {
        perror("fork");
        exit(2);
    }
    if (child == 0) {
        if (silent) {
            FILE *sink = freopen("/dev/null", "w", stderr);
            sink = sink == NULL ? NULL : freopen("/dev/null", "w", stdout);
            (void)sink;
        }
        run_once(options, operations, count);
        exit(0); /* and not _exit: leaks are looked for in leaving */
    }
    int status = 0;
    while (waitpid(child, &status, 0) < 0 && errno == EINTR) {
    }
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

static bool still_fails(const struct run_options *options, const struct operation *operations,
                        uint32_t count)
{
    for (unsigned i = 0; i < TRIES; i++) {
        if (run_child(options, operations, count, true) != 0) {
            return true;
        }
    }
    return false;
}

/* Leaves out what is not needed for failing; returns how many operations are left. */
static uint32_t shrink(const struct settings *settings, struct operation *operations,
                       uint32_t count)
{
    struct run_options options = settings->run;
    double until = seconds_now() + settings->shrink_seconds;
    struct operation *candidate = malloc((count + 1) * sizeof *candidate);
    options.quiet = true;
    options.hang_seconds = options.hang_seconds > 5 ? 5 : options.hang_seconds;
    uint32_t chunk = (count + 1) / 2;
    while (chunk > 0 && count > 1) {
        bool shorter = false;
        for (uint32_t start = 0; start < count && seconds_now() < until;) {
            uint32_t end = start + chunk < count ? start + chunk : count;
            uint32_t left = count - (end - start);
            memcpy(candidate, operations, start * sizeof *candidate);
            memcpy(candidate + start, operations + end, (count - end) * sizeof *candidate);
            if (still_fails(&options, candidate, left)) {
                memcpy(operations, candidate, left * sizeof *candidate);
                count = left;
                shorter = true;
            } else {
                start = end;
            }
        }
        if (seconds_now() >= until) {
            break;
        }
        if (!shorter || chunk == 1) {
            chunk = chunk == 1 && shorter ? 1 : chunk / 2;
        }
    }
    free(candidate);
    return count;
}

static void show(const struct settings *settings, const struct operation *operations,
                 uint32_t count)
{
    (void)fprintf(stderr, "shrunk to %u operations:\n", count);
    for (uint32_t i = 0; i < count && i < SHOWN_MAX; i++) { /* the replay names all */
        (void)fprintf(stderr, "  %5u thread %u %s\n", operations[i].index,
                      operations[i].index % settings->run.threads,
                      operation_name(operations[i].kind));
    }
    (void)fprintf(stderr,
                  "replay: toolring-contract --seed %" PRIu64 " --operations %u --threads %u%s "
                  "--shrink 0 --runs 1 --only ",
                  settings->run.seed, settings->run.operations, settings->run.threads,
                  settings->run.is_inline ? " --inline" : "");
    for (uint32_t i = 0; i < count; i++) {
        (void)fprintf(stderr, "%s%u", i == 0 ? "" : ",", operations[i].index);
    }
    (void)fputc('\n', stderr);
}

/* Keeps the operations of a list "3,17,40". */
static uint32_t keep_only(char *list, struct operation *operations, uint32_t count)
{
    uint32_t kept = 0;
    for (char *word = strtok(list, ","); word != NULL; word = strtok(NULL, ",")) {
        uint32_t index = (uint32_t)strtoul(word, NULL, 10);
        if (index < count && index >= kept) {
            operations[kept++] = operations[index];
        }
    }
    return kept;
}

static int run_seed(struct settings *settings)
{
    static struct operation operations[OPERATIONS_MAX];
    uint32_t count = settings->run.operations;
    plan_operations(settings->run.seed, operations, count);
    if (settings->only != NULL) {
        char *list = strdup(settings->only);
        count = keep_only(list, operations, count);
        free(list);
    }
    int status = run_child(&settings->run, operations, count, false);
    if (status == 0) {
        return 0;
    }
    (void)fprintf(stderr,
                  "seed %" PRIu64 "%s failed (%s %d); replay: --seed %" PRIu64
                  " --operations %u --threads %u%s\n",
                  settings->run.seed, settings->run.is_inline ? " inline" : "",
                  status >= 128 ? "signal" : "status", status >= 128 ? status - 128 : status,
                  settings->run.seed, settings->run.operations, settings->run.threads,
                  settings->run.is_inline ? " --inline" : "");
    if (settings->shrink_seconds > 0 && count > 1) {
        count = shrink(settings, operations, count);
        show(settings, operations, count);
    }
    return 1;
}

static bool number(const char *text, uint64_t most, uint64_t *ret_number)
{
    char *end = NULL;
    if (text == NULL || *text < '0' || *text > '9') {
        return false;
    }
    errno = 0;
    *ret_number = strtoull(text, &end, 10);
    return errno == 0 && *end == '\0' && *ret_number <= most;
}

static bool parse_number(struct settings *settings, const char *name, const char *text)
{
    uint64_t value = 0;
    if (strcmp(name, "--seed") == 0 && number(text, UINT64_MAX, &value)) {
        settings->run.seed = value;
        settings->seed_given = true;
    } else if (strcmp(name, "--operations") == 0 && number(text, OPERATIONS_MAX, &value)) {
        settings->run.operations = (uint32_t)value;
    } else if (strcmp(name, "--seconds") == 0 && number(text, 1000000, &value)) {
        settings->seconds = (unsigned)value;
    } else if (strcmp(name, "--runs") == 0 && number(text, 100000000, &value)) {
        settings->runs = (unsigned)value;
    } else if (strcmp(name, "--threads") == 0 && number(text, THREADS_MAX, &value) && value > 0) {
        settings->run.threads = (uint32_t)value;
    } else if (strcmp(name, "--shrink") == 0 && number(text, 1000000, &value)) {
        settings->shrink_seconds = (unsigned)value;
    } else if (strcmp(name, "--hang") == 0 && number(text, 100000, &value) && value > 0) {
        settings->run.hang_seconds = (unsigned)value;
    } else {
        return false;
    }
    return true;
}

static bool parse(struct settings *settings, int count, char **words)
{
    for (int i = 1; i < count; i++) {
        if (strcmp(words[i], "--inline") == 0) {
            settings->run.is_inline = true;
        } else if (strcmp(words[i], "--quiet") == 0) {
            settings->run.quiet = true;
        } else if (strcmp(words[i], "--only") == 0 && i + 1 < count) {
            settings->only = words[++i];
        } else if (i + 1 < count && parse_number(settings, words[i], words[i + 1])) {
            i++;
        } else {
            return false;
        }
    }
    return true;
}

int main(int count, char **words)
{
    struct settings settings = {.run = {.operations = 1500, .threads = 3, .hang_seconds = 20},
                                .shrink_seconds = 60};
    if (!parse(&settings, count, words)) {
        (void)fputs(usage, stderr);
        return 2;
    }
    double begin = seconds_now();
    if (!settings.seed_given) {
        settings.run.seed = (uint64_t)time(NULL) * 1000 + (uint64_t)getpid() % 1000;
    }
    uint64_t first = settings.run.seed;
    unsigned runs = 0;
    bool more = true;
    int status = 0;
    while (status == 0 && more) {
        status = run_seed(&settings);
        settings.run.seed++;
        runs++;
        more = runs < settings.runs || seconds_now() - begin < settings.seconds;
    }
    (void)printf("%u runs from seed %" PRIu64 "%s in %.1f s: %s\n", runs, first,
                 settings.run.is_inline ? " inline" : "", seconds_now() - begin,
                 status == 0 ? "no violation" : "FAILED");
    return status;
}
