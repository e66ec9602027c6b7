/*
 * spawner.c: the spawning threads, their queues, and the descriptors of a child.
 *
 * Owner: open and close belong to whoever embeds the spawner; post and reaped to any thread.
 * Called by tools through host; calls spawner_plan, spawner_clone, tree, parts/inbox.
 *
 *  1. A thread serves its own inbox in order. With several, a request goes to one that sleeps,
 *     else to the next in turn.
 *  2. The threads live as long as the spawner: children get SIGKILL when their spawning thread
 *     ends.
 *  3. `processes` counts those started and not reported reaped, never more than processes_max.
 *  4. A failed request leaves no descriptor, no process and no count behind; each step undoes only
 *     what it did itself.
 *  5. Every descriptor is 3 or higher, whatever the host has closed: the child's are put to 0, 1,
 *     2.
 *  6. `done` is the last touch of a request, also when it is refused.
 *
 * Cost: a request waits for those before it, some 0.3 to 0.5 ms each.
 * Rejected: spawning on workers (each would block so long), on the ring thread (all I/O would).
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

/* Plans, opens and starts; the tree is there already. */
static int spawn_in_tree(struct tr__spawn *spawn, void *stack)
{
    struct tr__spawn_plan plan;

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
    }
    close_child_ends(&plan);
    tr__spawn_plan_done(&plan);
    return error;
}

static int spawn_with(struct tr__spawn *spawn, void *stack)
{
    struct tr__tree *tree = NULL;
    int error = 0;

    if (spawn->trees != NULL) {
        spawn->failed_stage = TR__SPAWN_TREE;
        error = tr__tree_open(spawn->trees, &spawn->limits_left, spawn->lifetime, &tree);
    }
    if (error == 0) {
        spawn->tree = tree;
        error = spawn_in_tree(spawn, stack);
    }
    if (error == 0) {
        if (tree != NULL) {
            tr__tree_started(tree, spawn->pid, spawn->process_fd);
        }
        return 0;
    }
    spawn->tree = NULL;
    tr__tree_close(tree);
    spawn->pid = 0;
    close_one(&spawn->process_fd);
    close_one(&spawn->input_fd);
    close_one(&spawn->output_fd);
    close_one(&spawn->error_fd);
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

static void serve(struct tr__spawner_thread *thread, struct tr__spawn *spawn)
{
    struct tr__spawner *spawner = thread->spawner;

    clear_results(spawn);
    /* acquire: pairs with close; a late look only spawns one more, which its poster then handles */
    if (tr__load_acquire(&spawner->closing) != 0) {
        spawn->error = TR_ECANCELED;
    } else if (!take_place(spawner)) {
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

static void *run(void *argument)
{
    struct tr__spawner_thread *thread = argument;
    bool taken = tr__token_try_take(&thread->inbox.token);

    TR_ASSERT(taken);
    (void)pthread_setname_np(pthread_self(), "tr-spawn"); /* a name is a comfort */
    for (;;) {
        struct tr__mpsc_node *node = tr__inbox_pop(&thread->inbox);
        if (node == NULL) {
            (void)tr__inbox_wait(&thread->inbox, TR__FOREVER); /* it may come back for nothing */
            continue;
        }
        struct tr__message *message = TR__CONTAINER_OF(node, struct tr__message, node);
        if (message->kind == TR__MESSAGE_STOP) {
            break;
        }
        serve(thread, TR__CONTAINER_OF(message, struct tr__spawn, message));
    }
    tr__token_give(&thread->inbox.token);
    return NULL;
}

static int start_thread(struct tr__spawner *spawner, struct tr__spawner_thread *thread)
{
    sigset_t all;
    sigset_t before;

    thread->spawner = spawner;
    thread->stack = tr__memory_reserve(TR__SPAWN_STACK_BYTES);
    if (thread->stack == NULL) {
        return TR_ENOMEM;
    }
    tr__inbox_init(&thread->inbox);
    (void)sigfillset(&all);
    (void)pthread_sigmask(SIG_SETMASK, &all, &before); /* the thread inherits it */
    int error = pthread_create(&thread->thread, NULL, run, thread);
    (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (error != 0) {
        tr__inbox_done(&thread->inbox);
        tr__memory_unreserve(thread->stack, TR__SPAWN_STACK_BYTES);
        return TR_EAGAIN;
    }
    return 0;
}

int tr__spawner_open(struct tr__spawner *spawner, unsigned threads, unsigned processes_max)
{
    unsigned wanted = threads == 0 ? TR__SPAWNERS : threads;

    if (wanted > TR__SPAWNER_THREADS_MAX) {
        return TR_EINVAL;
    }
    spawner->threads_count = 0;
    spawner->processes_max = processes_max == 0 ? TR__PROCESSES_DEFAULT : processes_max;
    tr__store_relaxed(&spawner->processes, 0u); /* all of them: published by pthread_create */
    tr__store_relaxed(&spawner->spawned, UINT64_C(0));
    tr__store_relaxed(&spawner->closing, 0u);
    tr__store_relaxed(&spawner->turn, 0u);
    while (spawner->threads_count < wanted) {
        int error = start_thread(spawner, &spawner->threads[spawner->threads_count]);
        if (error != 0) {
            tr__spawner_close(spawner);
            return error;
        }
        spawner->threads_count += 1;
    }
    return 0;
}

void tr__spawner_post(struct tr__spawner *spawner, struct tr__spawn *spawn)
{
    uint32_t count = spawner->threads_count;
    uint32_t choice = 0;

    TR_ASSERT(spawn->done != NULL);
    if (count > 1) {
        choice = tr__fetch_add_relaxed(&spawner->turn, 1u) % count; /* any spread will do */
        for (uint32_t step = 0; step < count; step++) {
            struct tr__parker *parker = &spawner->threads[(choice + step) % count].inbox.parker;
            if (tr__load_relaxed(&parker->word) == TR__PARKER_PARKED) { /* a hint */
                choice = (choice + step) % count;
                break;
            }
        }
    }
    spawn->message.kind = TR__MESSAGE_START;
    spawn->die_with_thread = spawn->lifetime != TR_PROCESS_LIFETIME_DAEMON;
    tr__inbox_push(&spawner->threads[choice].inbox, &spawn->message.node);
}

void tr__spawner_reaped(struct tr__spawner *spawner)
{
    uint32_t before = tr__fetch_sub_relaxed(&spawner->processes, 1u); /* guards only itself */

    TR_ASSERT(before > 0);
}

void tr__spawner_close(struct tr__spawner *spawner)
{
    tr__store_release(&spawner->closing, 1u); /* pairs with serve */
    for (uint32_t index = 0; index < spawner->threads_count; index++) {
        struct tr__spawner_thread *thread = &spawner->threads[index];
        thread->stop.kind = TR__MESSAGE_STOP;
        tr__inbox_push(&thread->inbox, &thread->stop.node);
    }
    for (uint32_t index = 0; index < spawner->threads_count; index++) {
        struct tr__spawner_thread *thread = &spawner->threads[index];
        (void)pthread_join(thread->thread, NULL);
        tr__inbox_done(&thread->inbox);
        tr__memory_unreserve(thread->stack, TR__SPAWN_STACK_BYTES);
    }
    spawner->threads_count = 0;
}
