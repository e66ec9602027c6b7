/*
 * spawner.c: the spawning threads, their queue, and the descriptors of a child.
 *
 * Owner: open and close belong to whoever embeds the spawner; post and reaped to any thread.
 * Called by tools through host; calls spawner_plan, spawner_clone, tree.
 *
 *  1. One queue, first come first served, by whichever thread is free. Who takes a request sees to
 *     it first that another thread rests, as long as there may be more of them: so a spawn that
 *     takes long holds up nobody, and hosts that run no programs have one thread.
 *  2. The threads live as long as the spawner: children get SIGKILL when their spawning thread
 *     ends.
 *  3. `processes` counts those started and not reported reaped, never more than processes_max.
 *  4. A failed request leaves no descriptor, no process and no count behind; each step undoes only
 *     what it did itself.
 *  5. Every descriptor is 3 or higher, whatever the host has closed: the child's are put to 0, 1,
 *     2.
 *  6. `done` is the last touch of a request, also when it is refused: after a close by its poster,
 *     who may be a function that was given up. So mutex and condition outlive the close.
 *  7. A spawn that fails after its program has run (there was no descriptor for its pidfd, say)
 *     kills its tree: what it has started is not left in a leaf that is used again. One whose leaf
 *     takes nobody in (somebody has removed it, or made it unfit) is tried in a new one, then
 *     without.
 *
 * Cost: a thread is blocked for some 0.3 to 0.5 ms a request, most of it waiting for a processor;
 * behind a program on a file system that does not answer (a dead NFS server) for as long as that:
 * exec cannot be taken back, and holds its thread. The other threads serve on.
 * Rejected: one thread (while it waits for a processor, it has no program started for the other
 * one: 64 at once took 9 % longer on two quiet processors, half as long again on busy ones; a third
 * gained nothing on quiet ones); a queue a thread (who has come first waits behind a slow spawn,
 * with a thread free beside it); spawning on workers (each would block so long), on the ring thread
 * (all I/O would).
 */
#include "engine/spawner.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/wait.h>
#include <toolring/error.h>
#include <unistd.h>

#include "base/assert.h"
#include "base/clock.h"
#include "base/limits.h"
#include "base/memory.h"
#include "engine/spawner_plan.h"

TR_STATIC(TR__SPAWNERS <= TR__SPAWNER_THREADS_MAX, "default within bound");

static void close_one(int *fd)
{
    if (*fd >= 0) {
        (void)close(*fd); /* whatever it answers, the descriptor is gone */
        *fd = -1;
    }
}

/* Moves a descriptor out of 0, 1 and 2. Returns 0 or -errno; the descriptor is closed then. */
static int lift(int *fd)
{
    if (*fd > STDERR_FILENO) {
        return 0;
    }
    int lifted = fcntl(*fd, F_DUPFD_CLOEXEC, STDERR_FILENO + 1);
    int error = lifted < 0 ? -errno : 0;
    close_one(fd);
    *fd = lifted;
    return error;
}

/* A pipe whose parent's end does not block. Returns 0 or -errno with both -1. */
static int open_pipe(int *ret_parent, int *ret_child, bool parent_reads)
{
    int ends[2];

    if (pipe2(ends, O_CLOEXEC) < 0) {
        return -errno;
    }
    int *parent = &ends[parent_reads ? 0 : 1];
    int error = lift(&ends[0]);
    if (error == 0) {
        error = lift(&ends[1]);
    }
    if (error == 0 && fcntl(*parent, F_SETFL, O_NONBLOCK) < 0) {
        error = -errno;
    }
    if (error != 0) {
        close_one(&ends[0]);
        close_one(&ends[1]);
        return error;
    }
    *ret_parent = *parent;
    *ret_child = ends[parent_reads ? 1 : 0];
    return 0;
}

static int open_pipes(struct tr__spawn *spawn, struct tr__spawn_plan *plan)
{
    if (plan->terminal_fd > 0) {
        plan->input_fd = plan->output_fd = plan->error_fd = plan->terminal_fd;
        return 0;
    }
    int error = open_pipe(&spawn->output_fd, &plan->output_fd, true);

    if (error == 0 && !spawn->merge_error) {
        error = open_pipe(&spawn->error_fd, &plan->error_fd, true);
    }
    if (error == 0 && spawn->want_input) {
        error = open_pipe(&spawn->input_fd, &plan->input_fd, false);
    }
    return error;
}

/* The child's ends: its own now. The terminal is its requester's. */
static void close_child_ends(struct tr__spawn_plan *plan)
{
    if (plan->terminal_fd > 0) {
        return;
    }
    close_one(&plan->input_fd);
    close_one(&plan->output_fd);
    close_one(&plan->error_fd);
}

/* Starts the planned child. Returns 0 or a negative errno with nothing left behind. */
static int start(struct tr__spawn *spawn, struct tr__spawn_plan *plan, void *stack)
{
    int child_error_fd = plan->error_fd;

    if (spawn->merge_error) {
        plan->error_fd = plan->output_fd;
    }
    int error = tr__spawn_child(plan, stack, &spawn->pid, &spawn->process_fd);
    plan->error_fd = child_error_fd;
    if (error != 0) {
        return error;
    }
    error = lift(&spawn->process_fd);
    if (error != 0) {
        (void)kill(-spawn->pid, SIGKILL); /* not reaped yet, so the group is its own */
        while (waitpid(spawn->pid, NULL, 0) < 0 && errno == EINTR) {
            /* a signal handler of the host's ran: wait on */
        }
    }
    return error;
}

/* What a failed attempt means for its tree. */
enum attempt {
    ATTEMPT_IS_OVER,      /* nothing has run */
    ATTEMPT_HAS_RUN,      /* a program has, and may have left others in the tree */
    ATTEMPT_NEEDS_A_LEAF, /* nothing has run, nothing can be born in this leaf */
};

static enum attempt judge(const struct tr__spawn *spawn, const struct tr__spawn_plan *plan,
                          int error)
{
    if (plan->executed) {
        return ATTEMPT_HAS_RUN;
    }
    bool is_want = error == TR_EMFILE || error == TR_ENFILE || error == TR_ENOMEM;
    return spawn->tree != NULL && plan->stage == TR__SPAWN_TREE && !is_want ? ATTEMPT_NEEDS_A_LEAF
                                                                            : ATTEMPT_IS_OVER;
}

/* Plans, opens and starts; the tree is there already. */
static int spawn_in_tree(struct tr__spawn *spawn, void *stack, enum attempt *ret_attempt)
{
    struct tr__spawn_plan plan;

    *ret_attempt = ATTEMPT_IS_OVER;
    spawn->failed_stage = TR__SPAWN_REQUEST;
    int error = tr__spawn_plan_init(&plan, spawn);
    if (error != 0) {
        return error;
    }
    spawn->failed_stage = TR__SPAWN_PIPES;
    error = open_pipes(spawn, &plan);
    if (error == 0) {
        error = start(spawn, &plan, stack);
        spawn->failed_stage = error == 0 ? TR__SPAWN_NOTHING : plan.stage;
        if (error != 0 && plan.failed_what != NULL) {
            (void)snprintf(spawn->failed_what, sizeof spawn->failed_what, "%s", plan.failed_what);
        }
        *ret_attempt = judge(spawn, &plan, error);
    }
    close_child_ends(&plan);
    tr__spawn_plan_done(&plan);
    return error;
}

/* Takes back what a failed attempt has opened. Invariant 7. */
static void undo(struct tr__spawn *spawn, enum attempt attempt)
{
    struct tr__tree *tree = spawn->tree;

    spawn->tree = NULL;
    if (tree != NULL && attempt == ATTEMPT_HAS_RUN) {
        tr__tree_kill(tree);
    } else if (tree != NULL && attempt == ATTEMPT_NEEDS_A_LEAF) {
        tr__tree_spend(tree);
    }
    tr__tree_close(tree);
    spawn->pid = 0;
    close_one(&spawn->process_fd);
    close_one(&spawn->input_fd);
    close_one(&spawn->output_fd);
    close_one(&spawn->error_fd);
}

static int spawn_with(struct tr__spawn *spawn, void *stack)
{
    enum attempt attempt;
    int error = 0;

    for (int place = TR__TREE_ANYWHERE; place <= TR__TREE_NO_LEAF; place++) {
        if (spawn->trees != NULL) {
            spawn->failed_stage = TR__SPAWN_TREE;
            spawn->limits_left = spawn->tree_limits;
            error = tr__tree_open(spawn->trees, &spawn->limits_left, spawn->lifetime,
                                  (enum tr__tree_place)place, &spawn->tree);
            if (error != 0) {
                return error;
            }
        }
        error = spawn_in_tree(spawn, stack, &attempt);
        if (error == 0) {
            if (spawn->tree != NULL) {
                tr__tree_started(spawn->tree, spawn->pid, spawn->process_fd);
            }
            return 0;
        }
        undo(spawn, attempt);
        if (attempt != ATTEMPT_NEEDS_A_LEAF) {
            return error;
        }
    }
    return error;
}

static void clear_results(struct tr__spawn *spawn)
{
    spawn->error = 0;
    spawn->pid = 0;
    spawn->process_fd = -1;
    spawn->input_fd = -1;
    spawn->output_fd = -1;
    spawn->error_fd = -1;
    spawn->tree = NULL;
    spawn->limits_left = spawn->tree_limits;
    spawn->failed_stage = TR__SPAWN_NOTHING;
    spawn->failed_what[0] = '\0';
}

int tr__spawn_now(struct tr__spawn *spawn)
{
    clear_results(spawn);
    void *stack = tr__memory_reserve(TR__SPAWN_STACK_BYTES);
    spawn->error = stack == NULL ? TR_ENOMEM : spawn_with(spawn, stack);
    tr__memory_unreserve(stack, TR__SPAWN_STACK_BYTES);
    return spawn->error;
}

/* Takes one of the processes_max places. */
static bool take_place(struct tr__spawner *spawner)
{
    /* relaxed: the count guards nothing but itself */
    if (tr__fetch_add_relaxed(&spawner->processes, 1u) < spawner->processes_max) {
        return true;
    }
    tr__fetch_sub_relaxed(&spawner->processes, 1u); /* as above */
    return false;
}

static void refuse(struct tr__spawn *spawn)
{
    clear_results(spawn);
    spawn->error = TR_ECANCELED;
    spawn->done(spawn);
}

static void serve(struct tr__spawner_thread *thread, struct tr__spawn *spawn)
{
    struct tr__spawner *spawner = thread->spawner;

    clear_results(spawn);
    if (!take_place(spawner)) {
        spawn->error = TR_ELIMIT;
    } else {
        spawn->error = spawn_with(spawn, thread->stack);
        if (spawn->error != 0) {
            tr__spawner_reaped(spawner);
        } else {
            (void)tr__fetch_add_relaxed(&spawner->spawned, UINT64_C(1)); /* a number to show */
        }
    }
    spawn->done(spawn);
}

static void lock(struct tr__spawner *spawner)
{
    int error = pthread_mutex_lock(&spawner->mutex);
    TR_ASSERT(error == 0); /* a default mutex fails only if it is corrupt */
}

static void unlock(struct tr__spawner *spawner)
{
    int error = pthread_mutex_unlock(&spawner->mutex);
    TR_ASSERT(error == 0);
}

/* Waits for the request that is next; NULL: the end. Under the mutex. */
static struct tr__spawn *take_request(struct tr__spawner *spawner)
{
    while (spawner->first == NULL && !spawner->closing) {
        spawner->threads_resting += 1;
        (void)pthread_cond_wait(&spawner->posted, &spawner->mutex); /* cannot fail */
        spawner->threads_resting -= 1;
    }
    struct tr__spawn *spawn = spawner->first;
    if (spawn != NULL) {
        spawner->first = spawn->next;
    }
    return spawn;
}

static int start_thread(struct tr__spawner *spawner);

static void *run(void *argument)
{
    struct tr__spawner_thread *thread = argument;
    struct tr__spawner *spawner = thread->spawner;
    struct tr__spawn *spawn;

    (void)pthread_setname_np(pthread_self(), "tr-spawn"); /* a name is a comfort */
    lock(spawner);
    while ((spawn = take_request(spawner)) != NULL) {
        bool closing = spawner->closing;
        if (spawner->threads_resting == 0 && !closing) {
            (void)start_thread(spawner); /* without it, the next one waits for us */
        }
        unlock(spawner);
        if (closing) {
            refuse(spawn);
        } else {
            serve(thread, spawn);
        }
        lock(spawner);
    }
    unlock(spawner);
    return NULL;
}

/* One more, if there may be. Under the mutex. */
static int start_thread(struct tr__spawner *spawner)
{
    sigset_t all;
    sigset_t before;

    if (spawner->threads_count == spawner->threads_max) {
        return 0;
    }
    struct tr__spawner_thread *thread = &spawner->threads[spawner->threads_count];
    (void)sigfillset(&all);
    (void)pthread_sigmask(SIG_SETMASK, &all, &before); /* the thread inherits it */
    int error = pthread_create(&thread->thread, NULL, run, thread);
    (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (error != 0) {
        return TR_EAGAIN;
    }
    spawner->threads_count += 1;
    return 0;
}

static void release_stacks(struct tr__spawner *spawner)
{
    for (uint32_t index = 0; index < spawner->threads_max; index++) {
        tr__memory_unreserve(spawner->threads[index].stack, TR__SPAWN_STACK_BYTES);
    }
}

int tr__spawner_open(struct tr__spawner *spawner, unsigned threads, unsigned processes_max)
{
    unsigned wanted = threads == 0 ? TR__SPAWNERS : threads;
    int error = 0;

    if (wanted > TR__SPAWNER_THREADS_MAX) {
        return TR_EINVAL;
    }
    *spawner = (struct tr__spawner){
        .threads_max = wanted,
        .processes_max = processes_max == 0 ? TR__PROCESSES_DEFAULT : processes_max,
    };
    (void)pthread_mutex_init(&spawner->mutex, NULL); /* defaults: neither can fail on Linux */
    (void)pthread_cond_init(&spawner->posted, NULL);
    for (uint32_t index = 0; index < wanted; index++) {
        spawner->threads[index].spawner = spawner;
        spawner->threads[index].stack = tr__memory_reserve(TR__SPAWN_STACK_BYTES);
        error = spawner->threads[index].stack == NULL ? TR_ENOMEM : error;
    }
    if (error == 0) {
        lock(spawner);
        error = start_thread(spawner);
        unlock(spawner);
    }
    if (error != 0) {
        release_stacks(spawner);
    }
    return error;
}

void tr__spawner_post(struct tr__spawner *spawner, struct tr__spawn *spawn)
{
    TR_ASSERT(spawn->done != NULL);
    spawn->die_with_thread = spawn->lifetime != TR_PROCESS_LIFETIME_DAEMON;
    spawn->next = NULL;
    lock(spawner);
    if (spawner->closing) {
        unlock(spawner);
        refuse(spawn);
        return;
    }
    if (spawner->first == NULL) {
        spawner->first = spawn;
    } else {
        spawner->last->next = spawn;
    }
    spawner->last = spawn;
    bool rests = spawner->threads_resting > 0;
    unlock(spawner);
    if (rests) {
        (void)pthread_cond_signal(&spawner->posted); /* cannot fail */
    }
}

void tr__spawner_reaped(struct tr__spawner *spawner)
{
    uint32_t before = tr__fetch_sub_relaxed(&spawner->processes, 1u); /* guards only itself */

    TR_ASSERT(before > 0);
}

void tr__spawner_close(struct tr__spawner *spawner)
{
    lock(spawner);
    spawner->closing = true; /* no thread is started from here on */
    (void)pthread_cond_broadcast(&spawner->posted);
    unlock(spawner);
    for (uint32_t index = 0; index < spawner->threads_count; index++) {
        (void)pthread_join(spawner->threads[index].thread, NULL);
    }
    release_stacks(spawner);
}
