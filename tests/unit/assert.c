/* Assertions: they end the process, the hook hears of it first, and nothing is evaluated twice. */
#include "base/assert.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "support/case.h"

static void fail(void *context)
{
    (void)context;
    TR_ASSERT(1 + 1 == 3);
}

static void write_message(const char *message, void *context)
{
    (void)!write(*(const int *)context, message, strlen(message));
}

static void panic_again(const char *message, void *context)
{
    write_message(message, context);
    TR_ASSERT(message == NULL);
}

struct hooked {
    tr__panic_hook *hook;
    int pipe[2];
};

static void fail_hooked(void *context)
{
    struct hooked *hooked = context;
    tr__panic_hook_set(hooked->hook, &hooked->pipe[1]);
    fail(NULL);
}

static void fail_unhooked(void *context)
{
    struct hooked *hooked = context;
    tr__panic_hook_set(hooked->hook, &hooked->pipe[1]);
    tr__panic_hook_set(NULL, NULL);
    fail(NULL);
}

/* What the hook of a panicking child wrote. */
static void message_of(struct hooked *hooked, void (*body)(void *), char *ret_text, size_t size)
{
    CHECK_EQ_INT(pipe(hooked->pipe), 0);
    CHECK(case_panics(body, hooked));
    CHECK_EQ_INT(close(hooked->pipe[1]), 0);
    ssize_t length = read(hooked->pipe[0], ret_text, size - 1);
    CHECK(length >= 0);
    ret_text[length] = '\0';
    CHECK_EQ_INT(close(hooked->pipe[0]), 0);
}

CASE(assert, true_passes_and_is_evaluated_once)
{
    int evaluated = 0;
    TR_ASSERT(++evaluated == 1);
    CHECK_EQ_INT(evaluated, 1);
}

CASE(assert, false_aborts)
{
    CHECK(case_panics(fail, NULL));
}

CASE(assert, deep_checks_only_in_debug)
{
    int evaluated = 0;
    TR_DEEP(++evaluated == 1);
#if defined(TR_DEBUG)
    CHECK_EQ_INT(evaluated, 1);
#else
    CHECK_EQ_INT(evaluated, 0);
#endif
}

CASE(assert, the_hook_hears_file_line_and_text)
{
    struct hooked hooked = {.hook = write_message};
    char text[512];
    message_of(&hooked, fail_hooked, text, sizeof text);
    CHECK(strstr(text, "assert.c:") != NULL);
    CHECK(strstr(text, ": assertion failed: 1 + 1 == 3") != NULL);
}

CASE(assert, a_removed_hook_hears_nothing)
{
    struct hooked hooked = {.hook = write_message};
    char text[512];
    message_of(&hooked, fail_unhooked, text, sizeof text);
    CHECK_EQ_STR(text, "");
}

CASE(assert, a_panic_in_the_hook_does_not_call_it_again)
{
    struct hooked hooked = {.hook = panic_again};
    char text[512];
    message_of(&hooked, fail_hooked, text, sizeof text);
    const char *first = strstr(text, "assertion failed");
    CHECK(first != NULL);
    CHECK(strstr(first + 1, "assertion failed") == NULL);
}
