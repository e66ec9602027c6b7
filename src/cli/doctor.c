/*
 * doctor.c: the command `toolring doctor`: what this machine offers the engine, and what to do
 * about what is missing.
 *
 * Thread: main. Calls tr_machine_examine for the facts, and runs a program through a manager for
 * the truth: a machine on which that works can run the engine, whatever the facts look like; and
 * a filter that refuses a system call which the facts do not try is found out.
 *
 * Each finding has a name, a verdict, a value in words and, unless it is ok, a remedy. Only
 * findings without which the engine cannot run are "fail".
 */
#include "doctor.h"

#include <getopt.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <toolring.h>
#include <unistd.h>

#include "output.h"
#include "run.h"
#include "text.h"
#include "usage.h"

enum {
    FINDINGS_MAX = 20,
    VALUE_ROOM = 640,
    REMEDY_ROOM = 640,
    DESCRIPTORS_WISHED = 4096, /* 1024 children at 3 each, and some */
    PROCESSES_WISHED = 1024,
    MAPPINGS_PER_FIBER = 2, /* where guard pages split mappings */
    FIBERS_DEFAULT = 16384, /* tr_config.fibers_max */
    PIPE_PAGES_WISHED = 16384,
    RING_MAJOR_LEAST = 5,
    RING_MINOR_LEAST = 19,
    PROGRAM_SECONDS_MAX = 10,
};

enum verdict {
    VERDICT_OK,
    VERDICT_WARN,
    VERDICT_FAIL
};

struct finding {
    const char *name;
    enum verdict verdict;
    char value[VALUE_ROOM];
    char remedy[REMEDY_ROOM];
};

struct report {
    struct finding findings[FINDINGS_MAX];
    size_t count;
};

static const char *const verdict_words[] = {"ok", "warn", "fail"};

/* Adds a finding; `format` makes its value, the remedy is kept only if it is not ok. */
static void add(struct report *report, const char *name, enum verdict verdict, const char *remedy,
                const char *format, ...) __attribute__((format(printf, 5, 6)));

static void add(struct report *report, const char *name, enum verdict verdict, const char *remedy,
                const char *format, ...)
{
    if (report->count == FINDINGS_MAX)
        return;
    struct finding *finding = &report->findings[report->count++];
    va_list arguments;
    va_start(arguments, format);
    finding->name = name;
    finding->verdict = verdict;
    (void)vsnprintf(finding->value, sizeof(finding->value), format, arguments); /* cut if long */
    va_end(arguments);
    (void)snprintf(finding->remedy, sizeof(finding->remedy), "%s",
                   verdict == VERDICT_OK ? "" : remedy); /* cut if long */
}

/* A limit in words: TR_FOREVER is none. */
static const char *limit_text(uint64_t limit, char text[32])
{
    if (limit == TR_FOREVER)
        return "no limit";
    (void)snprintf(text, 32, "%" PRIu64, limit); /* it fits */
    return text;
}

static void examine_ring(struct report *report, const tr_machine *machine)
{
    bool old =
        machine->kernel_major < RING_MAJOR_LEAST ||
        (machine->kernel_major == RING_MAJOR_LEAST && machine->kernel_minor < RING_MINOR_LEAST);
    add(report, "kernel", old ? VERDICT_WARN : VERDICT_OK,
        "Linux 5.19 or later is wanted; `toolring run --inline` works on any", "Linux %s",
        machine->kernel_release);
    if (machine->ring_error == 0)
        add(report, "io_uring", VERDICT_OK, "", "works (flags 0x%x, features 0x%x)",
            machine->ring_flags, machine->ring_features);
    else
        add(report, "io_uring", VERDICT_FAIL,
            machine->ring_refusal[0] != '\0' ? machine->ring_refusal
                                             : "`toolring run --inline` works without io_uring",
            "refused: %s", strerror(-machine->ring_error));
    if (machine->io_uring_disabled > 0)
        add(report, "io_uring_disabled", machine->ring_error == 0 ? VERDICT_WARN : VERDICT_FAIL,
            "sysctl kernel.io_uring_disabled=0", "kernel.io_uring_disabled is %d",
            machine->io_uring_disabled);
    add(report, "seccomp", machine->seccomp && machine->ring_error != 0 ? VERDICT_WARN : VERDICT_OK,
        "allow io_uring_setup, io_uring_enter and io_uring_register in the container's seccomp "
        "profile",
        "%s", machine->seccomp ? "a filter is in force" : "no filter");
}

/* Runs a program that goes on for a while: one that ends at once need not be waited for, and would
 * not show whether that can be done. */
static int run_nothing(tr_call *call, void *context)
{
    tr_process_spec spec = TR_PROCESS_SPEC_INIT;
    tr_process_result result;
    (void)context;
    spec.shell = "sleep 0.05; exit 0";
    int status = tr_process(call, &spec, &result);
    if (status < 0)
        return status;
    status = result.exit_code == 0 ? 0 : TR_ETOOL;
    tr_process_result_done(&result);
    return status;
}

/* Runs a program and waits for its end. Returns 0 with what became of it, or a negative code. */
static int try_program(tr_manager *manager, tr_outcome *ret_outcome, int *ret_code)
{
    tr_tool tool = TR_TOOL_INIT("nothing", run_nothing);
    tr_session_id session = 0;
    tr_turn_id turn = 0;
    tr_tool_id id = 0;
    tr_launched launched;
    tr_batch *batch;
    tool.flags = TR_TOOL_AWAITING;
    int status = tr_tool_register(manager, &tool, &id);
    if (status == 0)
        status = tr_session_open(manager, NULL, &session);
    if (status == 0)
        status = tr_turn_open(manager, session, NULL, &turn);
    if (status < 0)
        return status;
    tr_request request = TR_REQUEST_INIT(turn, id);
    request.options.total_timeout_ns = PROGRAM_SECONDS_MAX * TR_SECOND;
    status = tr_launch(manager, &request, &launched);
    if (status < 0)
        return status;
    status = tr_turn_wait(manager, turn, NULL, TR_FOREVER, 1, &batch);
    if (status != TR_WAIT_ITEMS)
        return status < 0 ? status : TR_ESTATE;
    *ret_outcome = batch->items[0].outcome;
    *ret_code = batch->items[0].code;
    tr_batch_release(batch);
    return 0;
}

/* `status` is that of try_program. */
static void report_engine(struct report *report, int status, tr_outcome outcome, int code)
{
    char room[128];
    const char *why =
        code > -4096 && code < 0 ? strerror_r(-code, room, sizeof(room)) : tr_error_message(code);
    if (status < 0)
        add(report, "engine", VERDICT_FAIL, tr_error_message(status), "takes no call: %s",
            tr_error_name(status));
    else if (outcome == TR_OUTCOME_COMPLETED)
        add(report, "engine", VERDICT_OK, "", "starts, runs a program and stops");
    else if (outcome == TR_OUTCOME_FAILED)
        add(report, "engine", VERDICT_WARN, "no call of `shell` with a command will run",
            "starts and stops; /bin/sh does not run: %s", why);
    else
        add(report, "engine", VERDICT_FAIL,
            "a system call is refused that is needed later: let a seccomp profile allow "
            "io_uring_enter too; `toolring run --inline` works without io_uring",
            "starts, but loses a program that it runs (%s)", tr_outcome_name(outcome));
}

static void examine_engine(struct report *report)
{
    char message[512] = "";
    tr_config config = TR_CONFIG_INIT;
    tr_manager *manager = NULL;
    config.message = message;
    config.message_size = sizeof(message);
    int status = tr_manager_open(&config, &manager);
    if (status < 0) {
        add(report, "engine", VERDICT_FAIL, cli_engine_failure(status, message),
            "does not start: %s", tr_error_name(status));
        return;
    }
    tr_outcome outcome = TR_OUTCOME_NONE;
    int code = 0;
    status = try_program(manager, &outcome, &code);
    report_engine(report, status, outcome, code);
    if (tr_manager_close(manager, TR_SECOND) == 0)
        tr_manager_free(manager); /* else a thread was left behind; the process ends anyway */
}

/* Limits of whole trees, which each process's own are a poor replacement for. */
static void examine_tree_limits(struct report *report, const tr_machine *machine)
{
    const char *controllers = machine->cgroup_controllers;
    bool all = strstr(controllers, "memory") != NULL && strstr(controllers, "cpu") != NULL &&
               strstr(controllers, "pids") != NULL;
    add(report, "tree_limits", all ? VERDICT_OK : VERDICT_WARN,
        "memory and process limits are those of each process instead, a processor limit is "
        "refused; have the subtree give memory, cpu and pids on (cgroup.subtree_control)",
        "controllers for programs: %s%s", controllers[0] != '\0' ? controllers : "none",
        machine->memory_peak ? "; peak memory of a tree is told" : "");
}

static void examine_processes(struct report *report, const tr_machine *machine)
{
    add(report, "pidfd", machine->process_fd ? VERDICT_OK : VERDICT_FAIL,
        "Linux 5.4 or later with pidfd_open is needed to see children end", "%s",
        machine->process_fd ? "works" : "missing");
    bool cgroup = machine->tree_mode == TR_TREE_CGROUP;
    add(report, "tree_kill", cgroup ? VERDICT_OK : VERDICT_WARN,
        "a child that calls setsid escapes its process group; a cgroup (see below) or "
        "`toolring run --subreaper` finds it",
        "%s",
        cgroup ? "by cgroup: nothing that a program starts escapes its end"
               : "by process group: SIGTERM, a grace, SIGKILL");
    if (cgroup)
        add(report, "cgroup", VERDICT_OK, "", "a writable cgroup v2 subtree at %s%s",
            machine->cgroup_path,
            machine->spawn_into_cgroup ? ", and clone3 can spawn into it" : "");
    else
        add(report, "cgroup", VERDICT_WARN,
            "start under `systemd-run --user --scope -p Delegate=yes`, or delegate a subtree and "
            "name it (--cgroup)",
            "no writable cgroup v2 subtree");
    examine_tree_limits(report, machine);
    add(report, "clone", machine->spawn_by_clone ? VERDICT_OK : VERDICT_WARN,
        "allow clone with CLONE_PIDFD in the seccomp profile: programs outlive a host that is "
        "killed otherwise",
        "%s", machine->spawn_by_clone ? "programs die with the host" : "refused: posix_spawn");
}

/* What an ordinary user may not; everything else works without. */
static void examine_privileges(struct report *report)
{
    bool root = geteuid() == 0;
    add(report, "privileges", VERDICT_OK, "", "%s",
        root ? "root"
             : "an ordinary user: a nice value below the host's takes CAP_SYS_NICE, a hard limit "
               "above it CAP_SYS_RESOURCE; a cgroup takes a delegated subtree");
}

static void examine_limits(struct report *report, const tr_machine *machine)
{
    char soft[32], hard[32];
    add(report, "descriptors",
        machine->descriptors_soft >= DESCRIPTORS_WISHED ? VERDICT_OK : VERDICT_WARN,
        "`ulimit -n 4096` or more: each child takes 3", "%s open files, can be raised to %s",
        limit_text(machine->descriptors_soft, soft), limit_text(machine->descriptors_hard, hard));
    add(report, "processes", machine->processes_max >= PROCESSES_WISHED ? VERDICT_OK : VERDICT_WARN,
        "raise `ulimit -u`: threads and children count", "at most: %s (process ids to %s)",
        limit_text(machine->processes_max, soft), limit_text(machine->process_ids_max, hard));
    bool fibers_fit =
        machine->guard_install || machine->mappings_max >= MAPPINGS_PER_FIBER * FIBERS_DEFAULT;
    add(report, "stacks", fibers_fit ? VERDICT_OK : VERDICT_WARN,
        "raise sysctl vm.max_map_count: each awaiting call's stack takes 2 mappings here",
        "guard pages %s, %s mappings", machine->guard_install ? "are cheap" : "split mappings",
        limit_text(machine->mappings_max, soft));
    bool pipes_fit = machine->pipe_pages_soft == 0 || machine->pipe_pages_soft >= PIPE_PAGES_WISHED;
    add(report, "pipes", pipes_fit ? VERDICT_OK : VERDICT_WARN,
        "raise sysctl fs.pipe-user-pages-soft: beyond it pipes of an unprivileged user shrink",
        "%s pages for a user's pipes", limit_text(machine->pipe_pages_soft, soft));
    add(report, "processors", VERDICT_OK, "", "%u", machine->processors);
}

static bool can_run(const struct report *report)
{
    for (size_t index = 0; index < report->count; index++)
        if (report->findings[index].verdict == VERDICT_FAIL)
            return false;
    return true;
}

static void print_table(const struct report *report)
{
    static const char *const colours[] = {"\033[32m", "\033[33m", "\033[31m"};
    bool coloured = cli_colours(STDOUT_FILENO);
    for (size_t index = 0; index < report->count; index++) {
        const struct finding *finding = &report->findings[index];
        printf("%s%-4s%s  %-17s  %s\n", coloured ? colours[finding->verdict] : "",
               verdict_words[finding->verdict], coloured ? "\033[0m" : "", finding->name,
               finding->value);
        if (finding->remedy[0] != '\0')
            printf("      %-17s  %s\n", "", finding->remedy);
    }
    printf("\n%s\n", can_run(report) ? "The engine can run here."
                                     : "The engine cannot run here; see what failed above.");
}

static void print_json(const struct report *report, const tr_machine *machine)
{
    struct cli_text text = {0};
    cli_text_add(&text, "{\"type\":\"doctor\"");
    cli_text_field_bool(&text, "ok", can_run(report));
    cli_text_field_string(&text, "version", tr_version());
    cli_text_field_string(&text, "tree_kill",
                          machine->tree_mode == TR_TREE_CGROUP ? "cgroup" : "process_group");
    cli_text_field(&text, "cgroup");
    if (machine->cgroup_path[0] != '\0')
        (void)cli_text_string(&text, machine->cgroup_path,
                              strlen(machine->cgroup_path)); /* as is */
    else
        cli_text_add(&text, "null");
    cli_text_field(&text, "findings");
    for (size_t index = 0; index < report->count; index++) {
        const struct finding *finding = &report->findings[index];
        cli_text_add(&text, index == 0 ? "[{" : ",{");
        cli_text_field_string(&text, "name", finding->name);
        cli_text_field_string(&text, "status", verdict_words[finding->verdict]);
        cli_text_field_string(&text, "value", finding->value);
        cli_text_field_string(&text, "remedy", finding->remedy);
        cli_text_add(&text, "}");
    }
    cli_text_add(&text, "]}\n");
    if (!text.failed)
        (void)fwrite(text.data, 1, text.size, stdout); /* checked by the caller's fflush */
    cli_text_done(&text);
}

int cli_doctor(int argument_count, char **arguments)
{
    static char program[] = "toolring doctor"; /* for getopt's messages */
    static const struct option options[] = {
        {"json", no_argument, NULL, 'j'}, {"help", no_argument, NULL, 'h'}, {NULL, 0, NULL, 0}};
    bool json = false, help = false, wrong = false;
    int option;
    arguments[0] = program;
    while ((option = getopt_long(argument_count, arguments, "h", options, NULL)) >= 0) {
        json = json || option == 'j';
        help = help || option == 'h';
        wrong = wrong || option == '?';
    }
    if (wrong || optind < argument_count) {
        cli_say("see `toolring doctor --help`");
        return CLI_EXIT_USAGE;
    }
    if (help)
        return cli_show(cli_help_doctor) ? CLI_EXIT_OK : CLI_EXIT_INCOMPLETE;
    tr_machine machine;
    static struct report report; /* 20 KiB, filled once */
    int status = tr_machine_examine(&machine);
    if (status < 0) {
        cli_say("cannot examine this machine: %s", tr_error_message(status));
        return CLI_EXIT_INCOMPLETE;
    }
    examine_ring(&report, &machine);
    examine_processes(&report, &machine);
    examine_privileges(&report);
    examine_limits(&report, &machine);
    examine_engine(&report);
    if (json)
        print_json(&report, &machine);
    else
        print_table(&report);
    if (fflush(stdout) != 0) {
        cli_say("cannot write to standard output");
        return CLI_EXIT_INCOMPLETE;
    }
    return can_run(&report) ? CLI_EXIT_OK : CLI_EXIT_INCOMPLETE;
}
