/*
 * threads.c: peer "threads": a pool of POSIX threads, one mutex and one condition variable per
 * queue.
 *
 * What one writes without any library. Fair because: as many workers as processors; a batch goes in
 * under one lock with one wake, results come back as a whole list under one lock; workers take up
 * to 64 calls at a time and return them together; a call is one small block from malloc, which is
 * mimalloc here as in toolring's process. Same payload, window, batches and check as toolring's. It
 * does much less: no tracking by id, no cancel, no deadline, no events.
 */
#include <pthread.h>
#include <stdlib.h>
#include <unistd.h>

#include "measure.h"

#define WINDOW 16384u
#define BATCH_MIN 192u
#define BATCH_MAX 320u
#define TAKE_MAX 64
#define WORKERS_MAX 64

struct job {
    struct job *next;
    size_t index;
    uint64_t input;
    uint64_t result;
};

struct queue {
    pthread_mutex_t lock;
    pthread_cond_t filled;
    struct job *first;
    struct job **last;
    bool closed;
};

static struct queue ready = {PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, NULL, NULL,
                             false};
static struct queue done = {PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, NULL, NULL, false};
static pthread_t workers[WORKERS_MAX];
static size_t workers_count;

static void put(struct queue *queue, struct job *first, struct job **last, bool many)
{
    (void)pthread_mutex_lock(&queue->lock);
    *queue->last = first;
    queue->last = last;
    (void)pthread_mutex_unlock(&queue->lock);
    (void)(many ? pthread_cond_broadcast(&queue->filled) : pthread_cond_signal(&queue->filled));
}

/* Up to `count` jobs; waits for the first unless told not to. NULL: closed, or nothing there. */
static struct job *take(struct queue *queue, size_t count, bool wait)
{
    (void)pthread_mutex_lock(&queue->lock);
    while (wait && queue->first == NULL && !queue->closed) {
        (void)pthread_cond_wait(&queue->filled, &queue->lock);
    }
    struct job *first = queue->first;
    struct job **link = &queue->first;
    while (*link != NULL && count > 0) {
        link = &(*link)->next;
        count -= 1;
    }
    queue->first = *link;
    if (queue->first == NULL) {
        queue->last = &queue->first;
    }
    *link = NULL;
    (void)pthread_mutex_unlock(&queue->lock);
    return first;
}

static void *work(void *context)
{
    struct job *first;
    (void)context;
    while ((first = take(&ready, TAKE_MAX, true)) != NULL) {
        struct job **last = &first;
        while (*last != NULL) {
            (*last)->result = mix((*last)->input);
            last = &(*last)->next;
        }
        put(&done, first, last, false);
    }
    return NULL;
}

static void open_pool(void)
{
    long processors = sysconf(_SC_NPROCESSORS_ONLN);
    workers_count = processors < 1             ? 1
                    : processors > WORKERS_MAX ? WORKERS_MAX
                                               : (size_t)processors;
    ready.last = &ready.first;
    done.last = &done.first;
    for (size_t at = 0; at < workers_count; at++) {
        REQUIRE(pthread_create(&workers[at], NULL, work, NULL) == 0);
    }
}

static void close_pool(void)
{
    (void)pthread_mutex_lock(&ready.lock);
    ready.closed = true;
    (void)pthread_mutex_unlock(&ready.lock);
    (void)pthread_cond_broadcast(&ready.filled);
    for (size_t at = 0; at < workers_count; at++) {
        REQUIRE(pthread_join(workers[at], NULL) == 0);
    }
}

static void launch(struct ledger *ledger, size_t first, size_t count)
{
    struct job *head = NULL;
    struct job **last = &head;
    for (size_t at = 0; at < count; at++) {
        struct job *job = malloc(sizeof *job);
        REQUIRE(job != NULL);
        *job = (struct job){NULL, first + at, ledger_input(ledger, first + at), 0};
        *last = job;
        last = &job->next;
    }
    put(&ready, head, last, count > 1);
}

static size_t drain(struct ledger *ledger, bool wait)
{
    size_t count = 0;
    struct job *job = take(&done, SIZE_MAX, wait);
    while (job != NULL) {
        struct job *next = job->next;
        ledger_note(ledger, job->index, job->result);
        free(job);
        job = next;
        count += 1;
    }
    return count;
}

static uint64_t pass(struct ledger *ledger, struct random *random)
{
    size_t count = ledger->count;
    size_t launched = 0;
    size_t drained = 0;
    ledger_reset(ledger);
    uint64_t begin = now_ns();
    while (drained < count) {
        size_t wanted = random_between(random, BATCH_MIN, BATCH_MAX);
        wanted = wanted < count - launched ? wanted : count - launched;
        if (wanted > 0 && wanted <= WINDOW - (launched - drained)) {
            launch(ledger, launched, wanted);
            launched += wanted;
            drained += drain(ledger, false);
        } else {
            drained += drain(ledger, true);
        }
    }
    return now_ns() - begin;
}

static void run_background(const struct options *options)
{
    struct ledger ledger;
    struct samples samples;
    struct random random = {options->seed};
    size_t work_count = options->quick ? 1000000 : 4000000;
    size_t passes = options->size < work_count ? work_count / options->size : 1;
    passes = passes > 100 ? 100 : passes;
    samples_open(&samples, passes);
    ledger_open(&ledger, options->seed, options->size);
    open_pool();
    (void)pass(&ledger, &random); /* warm-up */
    uint64_t resident = resident_bytes();
    uint64_t spent = cpu_ns();
    for (size_t at = 0; at < passes; at++) {
        samples_add(&samples, pass(&ledger, &random));
    }
    spent = cpu_ns() - spent;
    uint64_t grown = resident_bytes();
    grown = grown > resident ? grown - resident : 0;
    double total = (double)options->size * (double)passes;
    close_pool();
    ledger_close(&ledger);
    report_begin(options, "ns/task", (double)samples_at(&samples, 0.5) / (double)options->size);
    report_also("growth B/task", (double)grown / total);
    report_also("cpu ns/task", (double)spent / total);
    report_parameter("calls", options->size);
    report_parameter("passes", passes);
    report_parameter("window", WINDOW);
    report_end();
    samples_close(&samples);
}

static void run_turns(const struct options *options)
{
    struct ledger ledger;
    struct samples samples;
    size_t work_count = options->quick ? 200000 : 800000;
    size_t turns = vary(options, work_count / (options->size + 8) + 8);
    size_t warm = turns / 10 + 1;
    uint64_t begin = 0;
    samples_open(&samples, turns);
    ledger_open(&ledger, options->seed, (turns + warm) * options->size);
    open_pool();
    for (size_t turn = 0; turn < turns + warm; turn++) {
        uint64_t start = now_ns();
        begin = turn == warm ? start : begin;
        launch(&ledger, turn * options->size, options->size);
        for (size_t seen = 0; seen < options->size;) {
            seen += drain(&ledger, true);
        }
        if (turn >= warm) {
            samples_add(&samples, now_ns() - start);
        }
    }
    uint64_t took = now_ns() - begin;
    close_pool();
    ledger_close(&ledger);
    report_begin(options, "ns/task", (double)took / (double)(turns * options->size));
    report_latency("turn µs", &samples, 1e3);
    report_parameter("calls", options->size);
    report_parameter("turns", turns);
    report_end();
    samples_close(&samples);
}

static const struct family families[] = {
    {"background-*", 100000000, run_background},
    {"turns-*", 65536, run_turns},
};

int main(int argc, char **argv)
{
    return measure_main(argc, argv, "threads", "glibc", families,
                        sizeof families / sizeof families[0]);
}
