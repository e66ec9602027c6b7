/* Cases: one way to write a test, two ways to run it.
 *
 *     CASE(mpsc, keeps_order) {
 *         CHECK_EQ_INT(count, 3);
 *     }
 *
 * Normally a case is a Criterion Test with a timeout. Criterion does not run under ThreadSanitizer,
 * so with -DTR_TEST_PLAIN the same source links with the runner in case.c: it forks once per case,
 * prints [PASS], [FAIL] or [SKIP] and ends with the counts. Link tests/support/case.c in both
 * modes; several test files may share one executable.
 *
 * A failed check prints file, line and values and ends the case. It may be used on any thread and
 * in a child process of the case; SKIP only on the thread the case was started on.
 */
#ifndef TR__TESTS_SUPPORT_CASE_H
#define TR__TESTS_SUPPORT_CASE_H

#include <inttypes.h>
#include <stdbool.h>
#include <stdint.h>

#define CASE_TIMEOUT_DEFAULT 30

/* Called at the start of each case by the macros below. */
void case_begin(void);

/* Reports and ends the case as failed: from another thread by ending the process. */
__attribute__((cold, noreturn, format(printf, 3, 4))) void case_fail(const char *file, int line,
                                                                     const char *format, ...);

/* Ends the case as skipped. */
__attribute__((cold, noreturn)) void case_skip(const char *reason);

/* The checks' slow ways: they compare, and report both values when the comparison fails. */
void case_equal_int(const char *file, int line, const char *text, intmax_t left, intmax_t right);
void case_equal_u64(const char *file, int line, const char *text, uint64_t left, uint64_t right);
void case_equal_text(const char *file, int line, const char *text, const char *left,
                     const char *right);
void case_equal_pointer(const char *file, int line, const char *text, const void *left,
                        const void *right);

/* Forks a child that runs `body(context)`; true when an assertion ended it (SIGABRT). Its standard
 * error is discarded and no core is written. */
bool case_panics(void (*body)(void *context), void *context);

#define CASE(suite, name) CASE_TIMEOUT(suite, name, CASE_TIMEOUT_DEFAULT)

#if defined(TR_TEST_PLAIN)

struct case_entry {
    const char *suite;
    const char *name;
    unsigned timeout_seconds;
    void (*run)(void);
    struct case_entry *next;
};

void case_register(struct case_entry *entry);

#define CASE_TIMEOUT(suite_, name_, seconds)                                                       \
    static void case_body_##suite_##_##name_(void);                                                \
    static struct case_entry case_entry_##suite_##_##name_ = {                                     \
        .suite = #suite_,                                                                          \
        .name = #name_,                                                                            \
        .timeout_seconds = (unsigned)(seconds),                                                    \
        .run = case_body_##suite_##_##name_,                                                       \
    };                                                                                             \
    __attribute__((constructor)) static void case_add_##suite_##_##name_(void)                     \
    {                                                                                              \
        case_register(&case_entry_##suite_##_##name_);                                             \
    }                                                                                              \
    static void case_body_##suite_##_##name_(void)

#else

#include <criterion/criterion.h>

#define CASE_TIMEOUT(suite_, name_, seconds)                                                       \
    static void case_body_##suite_##_##name_(void);                                                \
    Test(suite_, name_, .timeout = (seconds))                                                      \
    {                                                                                              \
        case_begin();                                                                              \
        case_body_##suite_##_##name_();                                                            \
    }                                                                                              \
    static void case_body_##suite_##_##name_(void)

#endif

#define SKIP(reason) case_skip(reason)

#define CHECK(cond) ((cond) ? (void)0 : case_fail(__FILE__, __LINE__, "CHECK(%s)", #cond))
#define CHECK_EQ_INT(left, right)                                                                  \
    case_equal_int(__FILE__, __LINE__, "CHECK_EQ_INT(" #left ", " #right ")", (intmax_t)(left),    \
                   (intmax_t)(right))
#define CHECK_EQ_U64(left, right)                                                                  \
    case_equal_u64(__FILE__, __LINE__, "CHECK_EQ_U64(" #left ", " #right ")", (uint64_t)(left),    \
                   (uint64_t)(right))
#define CHECK_EQ_STR(left, right)                                                                  \
    case_equal_text(__FILE__, __LINE__, "CHECK_EQ_STR(" #left ", " #right ")", (left), (right))
#define CHECK_EQ_PTR(left, right)                                                                  \
    case_equal_pointer(__FILE__, __LINE__, "CHECK_EQ_PTR(" #left ", " #right ")", (left), (right))

#endif
