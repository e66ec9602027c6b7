/*
 * main.c: the program `toolring`: picks the command.
 *
 * Thread: main. Calls run.c and doctor.c; nothing of the engine is touched before a command is
 * chosen. Exit statuses: run.h.
 */
#include <fcntl.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>
#include <toolring.h>
#include <unistd.h>

#include "doctor.h"
#include "output.h"
#include "run.h"
#include "usage.h"

/* Writes a text to standard output. Returns the exit status. */
static int show(const char *text)
{
    return cli_show(text) ? CLI_EXIT_OK : CLI_EXIT_INCOMPLETE;
}

/* A program may be started with its standard streams closed; the next descriptors opened would then
 * take their places and be read and written as such. Each is filled with one that refuses exactly
 * what the stream is for. Returns false if that cannot be done. */
static bool fill_streams(void)
{
    for (int stream = STDIN_FILENO; stream <= STDERR_FILENO; stream++) {
        int flags = stream == STDIN_FILENO ? O_WRONLY : O_RDONLY;
        if (fcntl(stream, F_GETFD) < 0 && open("/dev/null", flags) != stream)
            return false;
    }
    return true;
}

int main(int argument_count, char **arguments)
{
    const char *command = argument_count > 1 ? arguments[1] : "";
    if (!fill_streams())
        return CLI_EXIT_ENGINE;
    json_object_seed(0); /* here, once: else the first of many threads would have to */
    if (strcmp(command, "run") == 0)
        return cli_run(argument_count - 1, arguments + 1);
    if (strcmp(command, "doctor") == 0)
        return cli_doctor(argument_count - 1, arguments + 1);
    if (strcmp(command, "--help") == 0 || strcmp(command, "-h") == 0 ||
        strcmp(command, "help") == 0)
        return show(cli_help_program);
    if (strcmp(command, "--version") == 0 || strcmp(command, "-V") == 0) {
        char line[64];
        (void)snprintf(line, sizeof(line), "toolring %s\n", tr_version()); /* it fits */
        return show(line);
    }
    if (command[0] == '\0')
        (void)fputs(cli_help_program, stderr); /* the exit status says what is wrong */
    else
        cli_say("unknown command \"%s\"; see `toolring --help`", command);
    return CLI_EXIT_USAGE;
}
