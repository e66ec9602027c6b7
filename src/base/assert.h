/* Assertions.
 *
 * Purpose: TR_ASSERT states what must hold and stays on in release; TR_DEEP walks whole structures
 * in debug builds; TR_STATIC proves relations between constants. None is for outside input and none
 * has side effects. Owner: none. Called by every floor; a failed one ends the process through
 * tr__panic.
 *
 * Invariants
 *  1. tr__panic does not return: the hook may log, then abort() leaves a core at the failed line.
 *  2. The hook runs at most once per thread: a panic inside it aborts at once.
 *
 * Cost: one predicted branch per assertion; the cold call is moved out of line.
 */
#ifndef TR__BASE_ASSERT_H
#define TR__BASE_ASSERT_H

#ifdef __cplusplus
extern "C" {
#endif

/* Called with one line of text, "file:line: assertion failed: text", in the panicking thread. */
typedef void tr__panic_hook(const char *message, void *context);

__attribute__((cold, noreturn)) void tr__panic(const char *file, int line, const char *text);

/* Any thread, before threads start by custom; NULL removes it (the message then goes to standard
 * error). */
void tr__panic_hook_set(tr__panic_hook *hook, void *context);

#ifdef __cplusplus
}
#endif

#if defined(TR_RELACY)
#define TR_ASSERT(cond) RL_ASSERT(cond)
#else
#define TR_ASSERT(cond)                                                                            \
    (__builtin_expect(!(cond), 0) ? tr__panic(__FILE__, __LINE__, #cond) : (void)0)
#endif

#if defined(TR_DEBUG)
#define TR_DEEP(cond) TR_ASSERT(cond)
#else
#define TR_DEEP(cond) ((void)sizeof((cond) ? 1 : 0))
#endif

#ifdef __cplusplus
#define TR_STATIC(cond, message) static_assert(cond, message)
#else
#define TR_STATIC(cond, message) _Static_assert(cond, message)
#endif

#endif
