/*
 * tr_process end to end: what is refused before anything was done, and what the child is made like.
 */
#include <errno.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "e2e/process_host.h"

static const char *const argv_true[] = {"true", NULL};

/* A spec that is good but for what `spoil` does to it. */
struct spoiler {
    const char *what;
    void (*spoil)(tr_process_spec *spec);
};

#define SPOIL(name_, statement_)                                                                   \
    static void spoil_##name_(tr_process_spec *spec)                                               \
    {                                                                                              \
        static const char *const nothing[] = {NULL};                                               \
        static const char *const unnamed[] = {"", NULL};                                           \
        static const char *const valueless[] = {"=x", NULL};                                       \
        static const tr_process_limit limits[3] = {                                                \
            {RLIMIT_CORE, 0, 2, 1}, {RLIMIT_CORE, 1, 0, 0}, {RLIM_NLIMITS, 0, 0, 0}};              \
        (void)nothing, (void)unnamed, (void)valueless, (void)limits;                               \
        statement_;                                                                                \
    }

SPOIL(both, spec->shell = "true")
SPOIL(neither, spec->argv = NULL)
SPOIL(empty_argv, spec->argv = nothing)
SPOIL(unnamed, spec->argv = unnamed)
SPOIL(flag, spec->flags = 1u << 31)
SPOIL(reserved, spec->reserved = 1)
SPOIL(tail, spec->reserved_tail = 1)
SPOIL(size, spec->size -= 1)
SPOIL(input, spec->input.size = 1)
SPOIL(environment, spec->environment = valueless)
SPOIL(directory, spec->directory = "")
SPOIL(cap, spec->output_bytes_max = (UINT64_C(1) << 30) + 1)
SPOIL(lifetime, spec->lifetime = (tr_process_lifetime)4)
SPOIL(overflow, spec->overflow = (tr_overflow)3)
SPOIL(spill, spec->spill_directory = "")
SPOIL(spill_cap, spec->spill_bytes_max = 1)
SPOIL(mask, spec->file_mask = 022)
SPOIL(nice_low, spec->nice = -41)
SPOIL(nice_high, spec->nice = 41)
SPOIL(limits_null, spec->limits_count = 1)
SPOIL(limits_many, (spec->limits = limits, spec->limits_count = 17))
SPOIL(limit_order, (spec->limits = &limits[0], spec->limits_count = 1))
SPOIL(limit_reserved, (spec->limits = &limits[1], spec->limits_count = 1))
SPOIL(limit_unknown, (spec->limits = &limits[2], spec->limits_count = 1))
SPOIL(rows, spec->terminal_rows = 1)
SPOIL(columns, spec->terminal_columns = 1)

static const struct spoiler spoilers[] = {
    {"argv and shell", spoil_both},
    {"neither of them", spoil_neither},
    {"no program", spoil_empty_argv},
    {"a program without a name", spoil_unnamed},
    {"unknown flag", spoil_flag},
    {"reserved", spoil_reserved},
    {"reserved_tail", spoil_tail},
    {"too short", spoil_size},
    {"input from nowhere", spoil_input},
    {"a variable without a name", spoil_environment},
    {"no directory", spoil_directory},
    {"cap beyond the bound", spoil_cap},
    {"unknown lifetime", spoil_lifetime},
    {"unknown overflow", spoil_overflow},
    {"no spill directory", spoil_spill},
    {"cap of no file", spoil_spill_cap},
    {"mask without its flag", spoil_mask},
    {"nice too low", spoil_nice_low},
    {"nice too high", spoil_nice_high},
    {"limits from nowhere", spoil_limits_null},
    {"too many limits", spoil_limits_many},
    {"soft above hard", spoil_limit_order},
    {"limit's reserved", spoil_limit_reserved},
    {"unknown limit", spoil_limit_unknown},
    {"rows without a terminal", spoil_rows},
    {"columns without a terminal", spoil_columns},
};

static int try_bad_specs(tr_call *call, struct job *job)
{
    const tr_process_spec good = {.size = sizeof good, .argv = argv_true};
    struct {
        tr_process_spec spec;
        uint64_t tail;
    } longer = {good, 0};
    tr_child child;
    job->result.exit_code = 1234;
    for (size_t at = 0; at < sizeof spoilers / sizeof *spoilers; at++) {
        tr_process_spec bad = good;
        spoilers[at].spoil(&bad);
        int status = tr_process(call, &bad, &job->result);
        if (status != TR_EINVAL || tr_spawn(call, &bad, &child) != TR_EINVAL) {
            case_fail(__FILE__, __LINE__, "%s: %d", spoilers[at].what, status);
        }
    }
    CHECK_EQ_INT(tr_process(NULL, &good, &job->result), TR_EINVAL);
    CHECK_EQ_INT(tr_process(call, NULL, &job->result), TR_EINVAL);
    CHECK_EQ_INT(tr_process(call, &good, NULL), TR_EINVAL);
    CHECK_EQ_INT(job->result.exit_code, 1234); /* untouched */
    longer.spec.size = sizeof longer;
    CHECK_EQ_INT(tr_process(call, &longer.spec, &job->result), 0);
    tr_process_result_done(&job->result);
    longer.tail = 1;
    CHECK_EQ_INT(tr_process(call, &longer.spec, &job->result), TR_EINVAL);
    tr_process_result_done(NULL);
    return 0;
}

CASES(bad_specs)
{
    struct job job = {.function = try_bad_specs};
    CHECK_EQ_INT(host_run(host, &job), TR_OUTCOME_COMPLETED);
}

/* tr_spawn's children have no session to live with. */
static int try_bad_lifetimes(tr_call *call, struct job *job)
{
    tr_process_spec spec = {.size = sizeof spec, .argv = argv_true};
    tr_child child;
    (void)job;
    spec.lifetime = TR_PROCESS_LIFETIME_SESSION;
    CHECK_EQ_INT(tr_spawn(call, &spec, &child), TR_EINVAL);
    spec.lifetime = TR_PROCESS_LIFETIME_MANAGER;
    CHECK_EQ_INT(tr_spawn(call, &spec, &child), TR_EINVAL);
    return 0;
}

CASES(bad_lifetimes)
{
    struct job job = {.function = try_bad_lifetimes};
    CHECK_EQ_INT(host_run(host, &job), TR_OUTCOME_COMPLETED);
}

CASES(no_spill_directory)
{
    tr_process_spec spec = TR_PROCESS_SPEC_INIT;
    struct job job = {.spec = &spec};
    spec.shell = "echo never";
    spec.spill_directory = "/no such directory";
    CHECK_EQ_INT(host_run(host, &job), TR_OUTCOME_FAILED);
    CHECK_EQ_INT(job.status, -ENOENT);
    CHECK(job.result.out.data == NULL);
}

CASES(made_as_asked)
{
    static const tr_process_limit limits[] = {{RLIMIT_CORE, 0, 0, 0}, {RLIMIT_NOFILE, 0, 77, 88}};
    tr_process_spec spec = TR_PROCESS_SPEC_INIT;
    struct job job;
    spec.shell = "umask; ulimit -Sn; ulimit -Hn; ulimit -Sc; nice";
    spec.flags = TR_PROCESS_FILE_MASK;
    spec.file_mask = 027;
    spec.nice = 3;
    spec.limits = limits;
    spec.limits_count = 2;
    int nice_value = getpriority(PRIO_PROCESS, 0) + spec.nice; /* the tests may be niced */
    char expected[32];
    (void)snprintf(expected, sizeof expected, "0027\n77\n88\n0\n%d\n",
                   nice_value < 19 ? nice_value : 19);
    host_run_spec(host, &spec, &job);
    check_output(&job.result.out, expected);
    tr_process_result_done(&job.result);
    spec.shell = "umask";
    spec.file_mask = 0;
    host_run_spec(host, &spec, &job);
    check_output(&job.result.out, "0000\n");
    tr_process_result_done(&job.result);
}
