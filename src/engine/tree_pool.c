/*
 * tree_pool.c: the lists of trees, and what moves a tree from one to another.
 *
 * Owner: everybody, under the mutex. Called by tree; calls tree_leaf, tree_sweep.
 *
 *  1. A tree is in one list, or in the hand of one thread. Only trees with leaves are ever idle or
 *     dying.
 *  2. The mutex is not held during a system call that takes long: a tree is taken out of its list
 *     first.
 *  3. It is held around a lane's lock in one place, where a tree is kept and its session asked for.
 *     The end of a session looks for its trees after it was marked closed: so either the mark is
 *     seen here, or the tree is found there. That holds for trees that are put back as well.
 *  4. A tree that is still in use at the end was forgotten by its host: it is ended here, and gone.
 *
 * Complexity: O(1), but for looking at the oldest kept tree: O(kept).
 */
#include "engine/tree_parts.h"

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/memory.h"

static void lock(struct tr__trees *trees)
{
    (void)pthread_mutex_lock(&trees->mutex); /* a plain mutex of ours cannot fail */
}

static void unlock(struct tr__trees *trees)
{
    (void)pthread_mutex_unlock(&trees->mutex); /* likewise */
}

static void push(struct tr__tree **list, struct tr__tree *tree)
{
    tree->next = *list;
    *list = tree;
}

static struct tr__tree *pop(struct tr__tree **list)
{
    struct tr__tree *tree = *list;

    if (tree != NULL) {
        *list = tree->next;
    }
    return tree;
}

/* Under the mutex, which it is written under. */
static bool has_ended(const struct tr__trees *trees)
{
    return tr__load_relaxed(&trees->ended) != 0;
}

/* ---- numbers ---- */

tr_tree_mode tr__trees_mode(const struct tr__trees *trees)
{
    return trees->mode;
}

uint32_t tr__trees_kept(const struct tr__trees *trees)
{
    return tr__load_relaxed(&trees->kept_count); /* numbers to show */
}

uint64_t tr__trees_swept(const struct tr__trees *trees)
{
    return tr__load_relaxed(&trees->swept);
}

/* ---- in use ---- */

void tr__tree_use(struct tr__tree *tree)
{
    struct tr__trees *trees = tree->trees;

    lock(trees);
    tree->previous = NULL; /* this list knows both neighbours: trees leave it in any order */
    push(&trees->used, tree);
    if (tree->next != NULL) {
        tree->next->previous = tree;
    }
    tree->used = true;
    (void)tr__fetch_add_relaxed(&trees->used_count, 1u); /* a hint for others */
    trees->starting += 1;
    unlock(trees);
}

/* Out of the list of those in use. Under the mutex. */
static void unlink_used(struct tr__tree *tree)
{
    struct tr__trees *trees = tree->trees;

    if (tree->previous != NULL) {
        tree->previous->next = tree->next;
    } else {
        trees->used = tree->next;
    }
    if (tree->next != NULL) {
        tree->next->previous = tree->previous;
    }
    tree->used = false;
    (void)tr__fetch_sub_relaxed(&trees->used_count, 1u); /* a hint for others */
    trees->starting -= tree->leader == 0;
}

void tr__tree_unuse(struct tr__tree *tree)
{
    lock(tree->trees);
    unlink_used(tree);
    unlock(tree->trees);
}

struct tr__tree *tr__tree_take(struct tr__trees *trees, bool leaf)
{
    struct tr__tree *tree = NULL;

    if (leaf) {
        lock(trees);
        tree = pop(&trees->idle);
        trees->idle_count -= tree != NULL;
        unlock(trees);
    }
    if (tree != NULL) {
        return tree;
    }
    tree = tr__memory_take_zero(sizeof *tree);
    if (tree != NULL) {
        tree->trees = trees;
        tree->process_fd = tree->directory_fd = tree->events_fd = -1;
        tree->stat_fd = tree->peak_fd = -1;
    }
    return tree;
}

/* ---- ended ---- */

/* Of a hot leaf only what the program needed. */
static void close_fds(struct tr__tree *tree)
{
    tr__leaf_close_fds(tree, false);
    if (tree->kept && tree->process_fd >= 0) {
        (void)close(tree->process_fd); /* a pidfd: nothing is lost */
    }
    tree->process_fd = -1;
    tree->kept = false;
}

/* Forgets the program; the leaf stays, with what it has used so far. */
static void reset(struct tr__tree *tree)
{
    tree->leader = 0;
    tree->empty = false;
    tree->told = false;
    tree->measured = false;
    tree->fresh = false;
    tree->session = 0;
    tree->user_us = tree->user_us_end;
    tree->system_us = tree->system_us_end;
}

/* Into the pool, if it is wanted there. */
static bool rest(struct tr__tree *tree)
{
    struct tr__trees *trees = tree->trees;

    lock(trees);
    bool wanted = !has_ended(trees) && !tree->spent && trees->idle_count < TR__TREE_IDLE_MAX;
    if (wanted) {
        push(&trees->idle, tree);
        trees->idle_count += 1;
    }
    unlock(trees);
    return wanted;
}

void tr__tree_spend(struct tr__tree *tree)
{
    tree->spent = true;
}

void tr__tree_put(struct tr__tree *tree)
{
    struct tr__trees *trees = tree->trees;

    close_fds(tree);
    if (tree->leaf == 0) {
        tr__memory_give(tree);
        return;
    }
    bool empty = tree->empty || tr__leaf_count(tree) == 0;
    if (empty && !tree->measured) {
        tr__leaf_measure(tree);
    }
    if (empty) {
        reset(tree);
        tree->spent = tree->spent || tr__leaf_is_nested(tree);
        if (rest(tree)) {
            return;
        }
        tr__leaf_close_fds(tree, true);
        if (tr__leaf_remove(tree)) {
            tr__memory_give(tree);
            return;
        }
    }
    lock(trees);
    push(&trees->dying, tree);
    unlock(trees);
}

/* The pidfds were their spawners', and may be closed or others' by now. So the group is signalled
 * by its number, and only where that leads a session and is a child of ours, not collected yet. */
static void kill_lost(const struct tr__tree *tree)
{
    siginfo_t info;

    if (waitid(P_PID, (id_t)tree->leader, &info, WEXITED | WNOHANG | WNOWAIT) == 0 &&
        getsid(tree->leader) == tree->leader) {
        (void)kill(-tree->leader, SIGKILL); /* it may hold only the leader, who has ended */
    }
    if (tree->mark != 0) {
        (void)tr__tree_marked_kill(tree); /* a leaf dies with the manager's directory */
    }
}

void tr__trees_end_used(struct tr__trees *trees)
{
    lock(trees);
    while (trees->used != NULL) {
        struct tr__tree *tree = trees->used;
        unlink_used(tree);
        unlock(trees);
        if (tree->leader > 0 && tree->lifetime != TR_PROCESS_LIFETIME_DAEMON) {
            kill_lost(tree);
        }
        tr__tree_put(tree);
        lock(trees);
    }
    unlock(trees);
}

void tr__trees_look_at_dying(struct tr__trees *trees)
{
    for (unsigned looks = 0; looks < TR__TREE_LOOKS; looks++) {
        lock(trees);
        struct tr__tree *tree = pop(&trees->dying);
        unlock(trees);
        if (tree == NULL) {
            return;
        }
        tr__tree_put(tree);
    }
}

/* ---- kept ---- */

/* One more or less of those kept; daemons are only passing through. Under the mutex. */
static void count_kept(const struct tr__tree *tree, uint32_t change)
{
    if (tree->lifetime != TR_PROCESS_LIFETIME_DAEMON) {
        (void)tr__fetch_add_relaxed(&tree->trees->kept_count, change); /* a number to show */
    }
}

/* Under the mutex. */
static void keep(struct tr__tree *tree)
{
    push(&tree->trees->kept, tree);
    count_kept(tree, 1u);
}

/* Whether there is somebody who will end it. Under the mutex (invariant 3). */
static bool is_wanted(const struct tr__tree *tree)
{
    const struct tr__trees_config *config = &tree->trees->config;

    return !has_ended(tree->trees) &&
           (tree->lifetime != TR_PROCESS_LIFETIME_SESSION || config->is_session_open == NULL ||
            config->is_session_open(config->context, tree->session));
}

bool tr__tree_hold(struct tr__tree *tree, bool always)
{
    lock(tree->trees);
    bool held = always || is_wanted(tree);
    if (held) {
        unlink_used(tree);
        keep(tree);
    }
    unlock(tree->trees);
    return held;
}

/* The same for one that was kept before. */
static bool hold_on(struct tr__tree *tree)
{
    lock(tree->trees);
    bool held = is_wanted(tree);
    if (held) {
        keep(tree);
    }
    unlock(tree->trees);
    return held;
}

struct tr__tree *tr__tree_release(struct tr__trees *trees, const uint64_t *session)
{
    lock(trees);
    struct tr__tree **place = &trees->kept;
    while (*place != NULL && session != NULL &&
           ((*place)->lifetime != TR_PROCESS_LIFETIME_SESSION || (*place)->session != *session)) {
        place = &(*place)->next;
    }
    struct tr__tree *tree = pop(place);
    if (tree != NULL) {
        count_kept(tree, UINT32_MAX); /* one less */
    }
    unlock(trees);
    return tree;
}

/* The tree that was kept first, out of the list; not one whose leader is still to be collected,
 * which must be known as a leader until then. */
static struct tr__tree *oldest(struct tr__trees *trees)
{
    lock(trees);
    struct tr__tree **place = &trees->kept;
    while (*place != NULL && (*place)->next != NULL) {
        place = &(*place)->next;
    }
    struct tr__tree *tree = NULL;
    if (*place != NULL && tr__tree_is_collected(*place)) {
        tree = pop(place);
        count_kept(tree, UINT32_MAX); /* one less */
    }
    unlock(trees);
    return tree;
}

void tr__trees_look_at_kept(struct tr__trees *trees)
{
    for (unsigned looks = 0; looks < TR__TREE_LOOKS; looks++) {
        struct tr__tree *tree = oldest(trees);
        if (tree == NULL) {
            return;
        }
        if (tr__tree_count(tree) > 0 && hold_on(tree)) {
            continue; /* as the newest: another's turn next time */
        }
        tr__tree_close(tree);
    }
}

struct tr__tree *tr__trees_forget(struct tr__trees *trees)
{
    lock(trees);
    struct tr__tree *tree = pop(&trees->idle);
    if (tree == NULL) {
        tree = pop(&trees->dying);
    }
    unlock(trees);
    return tree;
}
