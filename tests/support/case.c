/* Cases: checks for both modes, and the plain runner.
 *
 * Purpose: see case.h. Owner: the case's first thread; checks may come from any thread.
 *
 * Invariants
 *  1. case_fail never returns. On the case's own thread it ends the case in the runner's way; on
 *     another thread it ends the process, since unwinding a stranger's stack is not possible.
 *  2. The plain runner runs each case in a fork with its own process group and alarm, and kills the
 *     group afterwards: nothing a case starts outlives it.
 *  3. A forked case leaves through exit(), so that the sanitizers' reports set its exit status.
 */
#include "case.h"

#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "wait.h"

static pid_t case_process;
static pthread_t case_thread;
static uint64_t seed_value;
static pthread_once_t seed_once = PTHREAD_ONCE_INIT;

void case_begin(void)
{
    case_process = getpid();
    case_thread = pthread_self();
}

/* How a case ends on its own thread; the two runners differ. */
__attribute__((noreturn)) static void end_failed(const char *message);

void case_fail(const char *file, int line, const char *format, ...)
{
    char message[1024];
    int length = snprintf(message, sizeof message, "%s:%d: ", file, line);
    if (length > 0 && (size_t)length < sizeof message) {
        va_list arguments;
        va_start(arguments, format);
        (void)vsnprintf(message + length, sizeof message - (size_t)length, format, arguments);
        va_end(arguments);
    }
    (void)fprintf(stderr, "%s\n", message);
    (void)fflush(stderr);
    if (getpid() != case_process) {
        _exit(EXIT_FAILURE); /* a child of the case: its parent sees the status */
    }
    if (!pthread_equal(pthread_self(), case_thread)) {
        abort();
    }
    end_failed(message);
}

void case_equal_int(const char *file, int line, const char *text, intmax_t left, intmax_t right)
{
    if (left != right) {
        case_fail(file, line, "%s: %" PRIdMAX " is not %" PRIdMAX, text, left, right);
    }
}

void case_equal_u64(const char *file, int line, const char *text, uint64_t left, uint64_t right)
{
    if (left != right) {
        case_fail(file, line, "%s: %" PRIu64 " (0x%" PRIx64 ") is not %" PRIu64 " (0x%" PRIx64 ")",
                  text, left, left, right, right);
    }
}

void case_equal_text(const char *file, int line, const char *text, const char *left,
                     const char *right)
{
    bool equal = left == right || (left != NULL && right != NULL && strcmp(left, right) == 0);
    if (!equal) {
        case_fail(file, line, "%s: \"%s\" is not \"%s\"", text, left != NULL ? left : "(null)",
                  right != NULL ? right : "(null)");
    }
}

void case_equal_pointer(const char *file, int line, const char *text, const void *left,
                        const void *right)
{
    if (left != right) {
        case_fail(file, line, "%s: %p is not %p", text, left, right);
    }
}

bool case_panics(void (*body)(void *context), void *context)
{
    (void)fflush(NULL);
    pid_t child = fork();
    if (child == 0) {
        struct rlimit no_core = {0, 0};
        (void)setrlimit(RLIMIT_CORE, &no_core);
        (void)close(STDERR_FILENO);
        body(context);
        _exit(EXIT_SUCCESS);
    }
    int status = 0;
    if (child < 0 || waitpid(child, &status, 0) != child) {
        case_fail(__FILE__, __LINE__, "no child to try a panic in");
    }
    return WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT;
}

double case_seconds(void)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static void choose_seed(void)
{
    const char *wanted = getenv("TR_TEST_SEED");
    if (wanted != NULL && wanted[0] != '\0') {
        seed_value = strtoull(wanted, NULL, 0);
    } else if (getrandom(&seed_value, sizeof seed_value, 0) != (ssize_t)sizeof seed_value) {
        seed_value = (uint64_t)time(NULL);
    }
    (void)fprintf(stderr, "TR_TEST_SEED=%" PRIu64 "\n", seed_value);
}

uint64_t case_random_seed(void)
{
    (void)pthread_once(&seed_once, choose_seed);
    return seed_value;
}

#if !defined(TR_TEST_PLAIN)

static void end_failed(const char *message)
{
    cr_assert_fail("%s", message);
    abort(); /* cr_assert_fail has left already */
}

void case_skip(const char *reason)
{
    cr_skip_test("%s", reason);
    abort(); /* cr_skip_test has left already */
}

#else

enum {
    SKIP_REASON_BYTES = 256
};

static struct case_entry *case_first;
static struct case_entry **case_last = &case_first;
static char *skip_reason; /* shared with the forked case; "" unless it was skipped */

void case_register(struct case_entry *entry)
{
    *case_last = entry;
    case_last = &entry->next;
}

static void end_failed(const char *message)
{
    (void)message; /* printed already */
    exit(EXIT_FAILURE);
}

void case_skip(const char *reason)
{
    (void)snprintf(skip_reason, SKIP_REASON_BYTES, "%s", reason);
    exit(EXIT_SUCCESS);
}

static bool matches(const struct case_entry *entry, const char *filter)
{
    char full[256];
    (void)snprintf(full, sizeof full, "%s.%s", entry->suite, entry->name);
    if (strstr(full, filter) != NULL) {
        return true;
    }
    (void)snprintf(full, sizeof full, "%s/%s", entry->suite, entry->name); /* Criterion's form */
    return strstr(full, filter) != NULL;
}

/* Runs one case in a fork; returns its wait status. */
static int run_forked(const struct case_entry *entry)
{
    skip_reason[0] = '\0';
    (void)fflush(NULL);
    pid_t child = fork();
    if (child < 0) {
        perror("fork");
        exit(EXIT_FAILURE);
    }
    if (child == 0) {
        (void)setpgid(0, 0);
        (void)alarm(entry->timeout_seconds);
        case_begin();
        entry->run();
        exit(EXIT_SUCCESS);
    }
    (void)setpgid(child, child); /* both set it, so that it is set whoever comes first */
    int status = 0;
    if (waitpid(child, &status, 0) != child) {
        perror("waitpid");
        exit(EXIT_FAILURE);
    }
    (void)kill(-child, SIGKILL); /* descendants that are left; none is the usual answer */
    return status;
}

/* Returns 1 pass, 0 fail, -1 skip. */
static int run_case(const struct case_entry *entry)
{
    int status = run_forked(entry);
    if (WIFEXITED(status) && WEXITSTATUS(status) == 0) {
        if (skip_reason[0] != '\0') {
            printf("[SKIP] %s.%s: %s\n", entry->suite, entry->name, skip_reason);
            return -1;
        }
        printf("[PASS] %s.%s\n", entry->suite, entry->name);
        return 1;
    }
    if (WIFSIGNALED(status) && WTERMSIG(status) == SIGALRM) {
        printf("[FAIL] %s.%s: no end within %u s\n", entry->suite, entry->name,
               entry->timeout_seconds);
    } else if (WIFSIGNALED(status)) {
        printf("[FAIL] %s.%s: signal %d\n", entry->suite, entry->name, WTERMSIG(status));
    } else {
        printf("[FAIL] %s.%s: exit status %d\n", entry->suite, entry->name, WEXITSTATUS(status));
    }
    return 0;
}

int main(int argc, char **argv)
{
    const char *filter = "";
    bool list = false;
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--filter") == 0 && i + 1 < argc) {
            filter = argv[++i];
        } else if (strncmp(argv[i], "--filter=", 9) == 0) {
            filter = argv[i] + 9;
        } else if (strcmp(argv[i], "--list") == 0) {
            list = true;
        } else {
            (void)fprintf(stderr, "usage: %s [--list] [--filter SUBSTRING]\n", argv[0]);
            return 2;
        }
    }
    skip_reason =
        mmap(NULL, SKIP_REASON_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (skip_reason == MAP_FAILED) {
        perror("mmap");
        return 2;
    }
    unsigned passed = 0;
    unsigned failed = 0;
    unsigned skipped = 0;
    for (const struct case_entry *entry = case_first; entry != NULL; entry = entry->next) {
        if (!matches(entry, filter)) {
            continue;
        }
        if (list) {
            printf("%s.%s\n", entry->suite, entry->name);
            continue;
        }
        int result = run_case(entry);
        passed += result > 0;
        failed += result == 0;
        skipped += result < 0;
    }
    if (!list) {
        printf("%u passed, %u failed, %u skipped\n", passed, failed, skipped);
    }
    return failed != 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}

#endif
