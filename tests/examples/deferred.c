/*
 * deferred.c: a tool whose work is done by somebody else: a binding's interpreter, an event loop of
 * Node, a transfer of curl. The tool's function hands the work over and returns TR_DEFERRED, so it
 * keeps no worker; later any thread ends the call with tr_finish. Four threads stand for others.
 *
 *   launch ─▶ worker: run_hash ─▶ pool queue ─▶ pool thread: computes, tr_finish ─▶ tr_turn_wait
 *
 * What to copy:
 *  - the input is copied into the job: a call can end at any time (cancel, timeout), and its input
 *    with it. The handle tr_deferred is a plain value and stays safe: tr_finish of a call that has
 *    ended answers TR_EALREADY or TR_ENOENT and does nothing;
 *  - a callback that may never come needs a timeout: the `lost` tool has one;
 *  - in closing: the manager first (it ends what is still deferred), then the others, who may still
 *    call tr_finish, then tr_manager_free.
 *
 * Exit status: 0 if each call has ended once, as it should.
 */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <toolring.h>

enum {
    CALLS = 2000,
    THREADS = 4,
    INPUT_BYTES_MAX = 64
};

static void require(bool condition, const char *what)
{
    if (!condition) {
        fprintf(stderr, "deferred: %s\n", what);
        exit(1);
    }
}

/* ---- the others: a queue of jobs, and threads that take them ---- */

struct job {
    struct job *next;
    tr_deferred call;
    size_t size;
    char input[INPUT_BYTES_MAX];
};

struct pool {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    struct job *jobs; /* the last come is the first served */
    bool stopping;
    pthread_t threads[THREADS];
};

static unsigned long hash_of(const char *text, size_t size)
{
    unsigned long hash = 5381;
    for (size_t i = 0; i < size; i++) {
        hash = (hash * 33 + (unsigned char)text[i]) & 0xffffffff;
    }
    return hash;
}

/* A callback's end: status and bytes. Any negative status makes the call "failed". */
static void do_job(const struct job *job)
{
    char text[32];
    int size = snprintf(text, sizeof text, "%lx", hash_of(job->input, job->size));
    bool bad = job->input[job->size - 1] == '7';
    int error = bad ? tr_finish(job->call, TR_ETOOL, "no sevens", 9)
                    : tr_finish(job->call, 0, text, (size_t)size);
    require(error == 0, tr_error_name(error)); /* nobody cancels these */
}

static void *pool_thread(void *argument)
{
    struct pool *pool = argument;
    pthread_mutex_lock(&pool->lock);
    while (pool->jobs != NULL || !pool->stopping) {
        struct job *job = pool->jobs;
        if (job == NULL) {
            pthread_cond_wait(&pool->changed, &pool->lock);
            continue;
        }
        pool->jobs = job->next;
        pthread_mutex_unlock(&pool->lock);
        do_job(job);
        free(job);
        pthread_mutex_lock(&pool->lock);
    }
    pthread_mutex_unlock(&pool->lock);
    return NULL;
}

static void pool_start(struct pool *pool)
{
    pthread_mutex_init(&pool->lock, NULL);
    pthread_cond_init(&pool->changed, NULL);
    pool->jobs = NULL;
    pool->stopping = false;
    for (int i = 0; i < THREADS; i++) {
        require(pthread_create(&pool->threads[i], NULL, pool_thread, pool) == 0, "no thread");
    }
}

static void pool_stop(struct pool *pool)
{
    pthread_mutex_lock(&pool->lock);
    pool->stopping = true;
    pthread_cond_broadcast(&pool->changed);
    pthread_mutex_unlock(&pool->lock);
    for (int i = 0; i < THREADS; i++) {
        pthread_join(pool->threads[i], NULL);
    }
    pthread_cond_destroy(&pool->changed);
    pthread_mutex_destroy(&pool->lock);
}

/* ---- the tools ---- */

/* Hands the call over. tr_finish may come even before this returns. */
static int run_hash(tr_call *call, void *context)
{
    struct pool *pool = context;
    tr_bytes input = tr_call_input(call);
    if (input.size == 0 || input.size > INPUT_BYTES_MAX) {
        return TR_EINVAL; /* not everything must be deferred: this ends it at once */
    }
    struct job *job = malloc(sizeof *job);
    if (job == NULL) {
        return TR_ENOMEM;
    }
    job->call = tr_call_defer(call);
    job->size = input.size;
    memcpy(job->input, input.data, input.size);
    pthread_mutex_lock(&pool->lock);
    job->next = pool->jobs;
    pool->jobs = job;
    pthread_cond_signal(&pool->changed);
    pthread_mutex_unlock(&pool->lock);
    return TR_DEFERRED;
}

/* Where the `lost` tool leaves its handle, as in a library that forgets to call back. */
struct callback {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool registered;
    tr_deferred call;
};

static int run_lost(tr_call *call, void *context)
{
    struct callback *callback = context;
    pthread_mutex_lock(&callback->lock);
    callback->call = tr_call_defer(call);
    callback->registered = true;
    pthread_cond_signal(&callback->changed);
    pthread_mutex_unlock(&callback->lock);
    return TR_DEFERRED;
}

/* ---- the host ---- */

struct host {
    tr_manager *manager;
    tr_session_id session;
    tr_turn_id turn;
    tr_tool_id hash;
    tr_tool_id lost;
    struct pool pool;
    struct callback callback;
};

static void host_open(struct host *host)
{
    tr_tool hash = TR_TOOL_INIT("hash", run_hash);
    tr_tool lost = TR_TOOL_INIT("lost", run_lost);
    hash.context = &host->pool;
    lost.context = &host->callback;
    lost.options.run_timeout_ns = 20 * TR_MILLISECOND; /* from its start until tr_finish */
    int error = tr_manager_open(NULL, &host->manager);
    require(error == 0, tr_error_message(error));
    require(tr_tool_register(host->manager, &hash, &host->hash) == 0, "no tool");
    require(tr_tool_register(host->manager, &lost, &host->lost) == 0, "no tool");
    require(tr_session_open(host->manager, NULL, &host->session) == 0, "no session");
    require(tr_turn_open(host->manager, host->session, NULL, &host->turn) == 0, "no turn");
}

static tr_task_id launch(struct host *host, tr_tool_id tool, const char *input,
                         uint64_t run_timeout_ns)
{
    tr_launched launched;
    tr_request request = TR_REQUEST_INIT(host->turn, tool);
    request.call_id = (tr_bytes){input, strlen(input)};
    request.input = request.call_id;
    request.options.run_timeout_ns = run_timeout_ns; /* 0: as the tool says */
    require(tr_launch(host->manager, &request, &launched) == TR_PENDING, "a call was refused");
    return launched.task;
}

/* The call id is the input here, so an answer can be checked by itself. */
static bool is_right(const tr_item *item)
{
    const char *input = item->call_id.data;
    char expected[32];
    if (input[item->call_id.size - 1] == '7') {
        return item->outcome == TR_OUTCOME_FAILED && item->code == TR_ETOOL;
    }
    int size = snprintf(expected, sizeof expected, "%lx", hash_of(input, item->call_id.size));
    return item->outcome == TR_OUTCOME_COMPLETED && item->result.size == (size_t)size &&
           memcmp(item->result.data, expected, (size_t)size) == 0;
}

static void run_pool(struct host *host)
{
    unsigned failed = 0;
    unsigned answers = 0;
    tr_batch *batch;
    for (unsigned i = 0; i < CALLS; i++) {
        char input[INPUT_BYTES_MAX];
        snprintf(input, sizeof input, "document %u", i);
        (void)launch(host, host->hash, input, 0); /* its task id is of no use here */
    }
    while (tr_turn_wait(host->manager, host->turn, NULL, TR_FOREVER, 256, &batch) ==
           TR_WAIT_ITEMS) {
        for (size_t i = 0; i < batch->count; i++, answers++) {
            require(is_right(&batch->items[i]), "a wrong answer");
            failed += batch->items[i].outcome == TR_OUTCOME_FAILED;
        }
        tr_batch_release(batch);
    }
    require(answers == CALLS && failed == CALLS / 10, "answers are missing");
    printf("%u calls finished by %d other threads, %u of them as failed\n", answers, THREADS,
           failed);
}

static void cancel_lost(struct host *host, tr_task_id task)
{
    struct callback *callback = &host->callback;
    pthread_mutex_lock(&callback->lock);
    while (!callback->registered) {
        pthread_cond_wait(&callback->changed, &callback->lock);
    }
    pthread_mutex_unlock(&callback->lock);
    require(tr_task_cancel(host->manager, task, "changed my mind") == 0, "no cancelling");
}

/* The callback comes all the same, too late, and is told so. */
static void call_back(struct callback *callback)
{
    pthread_mutex_lock(&callback->lock);
    if (callback->registered) {
        int error = tr_finish(callback->call, 0, "late", 4);
        require(error == TR_EALREADY || error == TR_ENOENT, "a call has ended twice");
    }
    pthread_mutex_unlock(&callback->lock);
}

/* A call whose callback does not come: ended by its timeout or, if it has none, by the host. */
static void run_lost_call(struct host *host, bool cancel)
{
    tr_batch *batch;
    pthread_mutex_lock(&host->callback.lock);
    host->callback.registered = false;
    pthread_mutex_unlock(&host->callback.lock);
    tr_task_id task = launch(host, host->lost, "anything", cancel ? TR_FOREVER : 0);
    if (cancel) {
        cancel_lost(host, task);
    }
    require(tr_turn_wait(host->manager, host->turn, NULL, TR_FOREVER, 1, &batch) == TR_WAIT_ITEMS,
            "no answer");
    require(batch->items[0].outcome == (cancel ? TR_OUTCOME_CANCELLED : TR_OUTCOME_TIMED_OUT),
            "a wrong outcome");
    printf("a call without a callback: %s\n", cancel ? "cancelled" : "timed out");
    call_back(&host->callback); /* TR_EALREADY: its slot waits for the batch's release */
    tr_batch_release(batch);
    call_back(&host->callback); /* TR_ENOENT: its id is gone */
}

int main(void)
{
    struct host host;
    memset(&host, 0, sizeof host);
    pthread_mutex_init(&host.callback.lock, NULL);
    pthread_cond_init(&host.callback.changed, NULL);
    pool_start(&host.pool);
    host_open(&host);
    run_pool(&host);
    run_lost_call(&host, false);
    run_lost_call(&host, true);
    require(tr_manager_close(host.manager, TR_SECOND) == 0, "the manager did not close");
    pool_stop(&host.pool);
    tr_manager_free(host.manager);
    pthread_cond_destroy(&host.callback.changed);
    pthread_mutex_destroy(&host.callback.lock);
    return 0;
}
