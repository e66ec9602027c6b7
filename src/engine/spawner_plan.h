/*
 * spawner_plan.h: all that a child needs to become its program, prepared before it exists. For the
 * spawner's own files.
 */
#ifndef TR__ENGINE_SPAWNER_PLAN_H
#define TR__ENGINE_SPAWNER_PLAN_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "engine/spawner.h"

/* Stack of a child until it executes its program: a few frames of system calls. */
#define TR__SPAWN_STACK_BYTES 32768u

/* Attempts at a program that somebody still holds open for writing, and the first pause, doubled
 * each time: together 31 ms. */
#define TR__SPAWN_BUSY_ATTEMPTS 6u
#define TR__SPAWN_BUSY_NS 1000000u

struct tr__spawn_plan {
    char **candidates; /* paths to try, in order; NULL-ended */
    char **arguments;
    char **shell_arguments; /* "sh", a candidate's place, then arguments[1] and on: for ENOEXEC */
    char **environment;
    const char *directory; /* may be NULL */
    int input_fd;          /* the child's ends; -1: /dev/null */
    int output_fd;
    int error_fd;
    int terminal_fd;  /* all three of them, and the controlling terminal; 0 or less: none */
    int directory_fd; /* the cgroup leaf to be born in; -1 */
    int join_fd;      /* its cgroup.procs, where the child has to go there by itself; -1 */
    bool die_with_thread;
    bool set_file_mask;
    mode_t file_mask;
    int nice;
    struct tr__tree_limits tree_limits; /* those that no leaf enforces */
    uint64_t mark;                      /* for RLIMIT_LOCKS; 0: none */
    const tr_process_limit *limits;
    size_t limits_count;
    pid_t parent;
    void *memory;  /* what the lists are made of */
    bool executed; /* its program ran, also if the spawn failed: it may have started others */

    /* Written by the child, which shares memory, read when it has gone. */
    volatile bool begun; /* it has run at all */
    volatile int error;  /* 0 or errno */
    volatile enum tr__spawn_stage stage;
    const char *volatile failed_what; /* the path it is about; NULL: none */
};

/* ---- spawner_plan.c ---- */

/* Fills in all but the descriptors. Returns 0, TR_EINVAL or TR_ENOMEM. */
int tr__spawn_plan_init(struct tr__spawn_plan *plan, const struct tr__spawn *spawn);

void tr__spawn_plan_done(struct tr__spawn_plan *plan);

/* ---- spawner_child.c ---- */

/* A `struct tr__spawn_plan`: becomes its program, or leaves why not in it and exits. In the child,
 * on memory that is the parent's too. */
int tr__spawn_become(void *plan);

/* Whether an exec that failed so leaves hope for the next candidate. */
bool tr__spawn_goes_on(int error);

/* ---- spawner_clone.c ---- */

/*
 * Starts the child; `stack` has TR__SPAWN_STACK_BYTES. Blocks until it executes its program.
 * Returns 0 with pid and pidfd, or a negative errno with nothing left behind.
 */
int tr__spawn_child(struct tr__spawn_plan *plan, void *stack, pid_t *ret_pid, int *ret_process_fd);

#endif
