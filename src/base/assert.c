/* Panic: how a failed assertion ends.
 *
 * Purpose: one line of text to the host's hook (or to standard error), then abort(). Owner: none.
 * Called by TR_ASSERT; calls the hook, write(2) and abort().
 *
 * Invariants
 *  1. Nothing here allocates or locks: the panic may come from anywhere.
 *  2. A second panic inside the hook does not call the hook again, so there is no recursion without
 *     end; its text goes to standard error.
 */
#include "base/assert.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/atomic.h"

enum {
    MESSAGE_BYTES = 512
};

/* The hook and its context, written by tr__panic_hook_set. A function pointer does not fit through
 * void * in C, hence the box. Two of them, so that a panic never reads one half-written: the new
 * one is filled before it is published. */
struct panic_hook {
    tr__panic_hook *call;
    void *context;
};

static struct panic_hook hooks[2];
static tr__atomic_ptr hook_current; /* one of `hooks`, or NULL; written by tr__panic_hook_set */
static _Thread_local bool panicking;

void tr__panic_hook_set(tr__panic_hook *hook, void *context)
{
    if (hook == NULL) {
        tr__store_release(&hook_current, NULL); /* unpublishes; panic's acquire sees no hook */
        return;
    }
    struct panic_hook *next = tr__load_relaxed(&hook_current) == &hooks[0] ? &hooks[1] : &hooks[0];
    next->call = hook;
    next->context = context;
    tr__store_release(&hook_current, next); /* publishes both fields to the acquire in panic */
}

void tr__panic(const char *file, int line, const char *text)
{
    char message[MESSAGE_BYTES];
    (void)snprintf(message, sizeof message, "%s:%d: assertion failed: %s", file, line, text);
    /* acquire: pairs with the release in tr__panic_hook_set */
    const struct panic_hook *hook = tr__load_acquire(&hook_current);
    if (hook != NULL && !panicking) {
        panicking = true;
        hook->call(message, hook->context);
    } else {
        char output[MESSAGE_BYTES + 16];
        int length = snprintf(output, sizeof output, "toolring: %s\n", message);
        /* Nothing is left to do when standard error is closed. */
        ssize_t written = length > 0 ? write(STDERR_FILENO, output, strlen(output)) : 0;
        (void)written;
    }
    abort();
}
