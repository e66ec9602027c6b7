/*
 * arguments.c: the command line of `toolring run`.
 *
 * Thread: main, before anything is opened. What is wrong is said here, in words that name the
 * option.
 */
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "run.h"
#include "usage.h"

enum {
    OPTION_TOOLS = 256,
    OPTION_CWD,
    OPTION_EVENTS,
    OPTION_WORKERS,
    OPTION_TASKS_MAX,
    OPTION_PROCESSES_MAX,
    OPTION_INLINE,
    OPTION_CGROUP,
    OPTION_SUBREAPER,
    WORKERS_MAX = 64,     /* tr_config.workers */
    TASKS_MAX = 16777214, /* tr_config.tasks_max */
    PROCESSES_MAX = 65535 /* tr_config.processes_max, less one for an inline call */
};

static const struct option options[] = {
    {"tools", required_argument, NULL, OPTION_TOOLS},
    {"cwd", required_argument, NULL, OPTION_CWD},
    {"events", no_argument, NULL, OPTION_EVENTS},
    {"quiet", no_argument, NULL, 'q'},
    {"workers", required_argument, NULL, OPTION_WORKERS},
    {"tasks-max", required_argument, NULL, OPTION_TASKS_MAX},
    {"processes-max", required_argument, NULL, OPTION_PROCESSES_MAX},
    {"inline", no_argument, NULL, OPTION_INLINE},
    {"cgroup", required_argument, NULL, OPTION_CGROUP},
    {"subreaper", no_argument, NULL, OPTION_SUBREAPER},
    {"help", no_argument, NULL, 'h'},
    {NULL, 0, NULL, 0},
};

/* Reads a number from 1 to `most`. Returns false after having said what is wrong. */
static bool read_number(const char *option, const char *text, uint32_t most, uint32_t *ret_number)
{
    char *end = NULL;
    errno = 0;
    unsigned long number = text[0] >= '0' && text[0] <= '9' ? strtoul(text, &end, 10) : 0;
    if (end == NULL || *end != '\0' || errno != 0 || number < 1 || number > most) {
        cli_say("%s takes a whole number from 1 to %u, not \"%s\"", option, most, text);
        return false;
    }
    *ret_number = (uint32_t)number;
    return true;
}

/* Takes one option. Returns false after something was said about it. */
static bool take_option(int option, struct cli_arguments *arguments)
{
    switch (option) {
    case OPTION_TOOLS:
        arguments->tools = optarg;
        return true;
    case OPTION_CWD:
        arguments->directory = optarg;
        return true;
    case OPTION_EVENTS:
        arguments->events = true;
        return true;
    case 'q':
        arguments->quiet = true;
        return true;
    case OPTION_WORKERS:
        return read_number("--workers", optarg, WORKERS_MAX, &arguments->workers);
    case OPTION_TASKS_MAX:
        return read_number("--tasks-max", optarg, TASKS_MAX, &arguments->tasks_max);
    case OPTION_PROCESSES_MAX:
        return read_number("--processes-max", optarg, PROCESSES_MAX, &arguments->processes_max);
    case OPTION_INLINE:
        arguments->no_threads = true;
        return true;
    case OPTION_CGROUP:
        arguments->group_only = strcmp(optarg, "none") == 0;
        arguments->cgroup = arguments->group_only ? NULL : optarg;
        return true;
    case OPTION_SUBREAPER:
        arguments->subreaper = true;
        return true;
    case 'h':
        arguments->help = true;
        return true;
    default: /* getopt has said what is wrong */
        return false;
    }
}

int cli_arguments_read(int argument_count, char **arguments, struct cli_arguments *ret_arguments)
{
    static char program[] = "toolring run"; /* for getopt's messages */
    *ret_arguments = (struct cli_arguments){0};
    arguments[0] = program;
    for (;;) {
        int option = getopt_long(argument_count, arguments, "qh", options, NULL);
        if (option < 0)
            break;
        if (!take_option(option, ret_arguments)) {
            cli_say("see `toolring run --help`");
            return CLI_EXIT_USAGE;
        }
    }
    if (ret_arguments->help) {
        return cli_show(cli_help_run) ? CLI_EXIT_OK : CLI_EXIT_INCOMPLETE;
    }
    if (argument_count - optind > 1) {
        cli_say("one file at most, not \"%s\" too; see `toolring run --help`",
                arguments[optind + 1]);
        return CLI_EXIT_USAGE;
    }
    if (argument_count > optind && strcmp(arguments[optind], "-") != 0)
        ret_arguments->file = arguments[optind];
    return CLI_EXIT_OK;
}
