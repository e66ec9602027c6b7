/*
 * input.c: what the program's tools share: reading a call's input, reporting, paths.
 *
 * Threads: whichever runs a tool; no shared state. Called by the tools; calls toolring/tool.h and
 * jansson.
 *
 * Tools that await run on a stack of 64 KiB, and jansson parses nested values by recursion: up to
 * 2048 levels of some 250 bytes. So the nesting is counted first, and what is deeper than
 * INPUT_DEPTH_MAX is refused; no tool's input needs more than 2.
 *
 * Invariants:
 *  1. Every ending of a tool sets a result that is one JSON object.
 *  2. Unknown members are refused, as in the lines themselves.
 */
#include "input.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    INPUT_DEPTH_MAX = 32,
    RESULT_COPY_MAX = 1024
};

int cli_tool_fail(tr_call *call, int code, const char *format, ...)
{
    char message[512];
    struct cli_text text = {0};
    va_list arguments;
    va_start(arguments, format);
    (void)vsnprintf(message, sizeof(message), format, arguments); /* cut if long */
    va_end(arguments);
    cli_text_add(&text, "{");
    cli_text_field_string(&text, "error", message);
    cli_text_add(&text, "}");
    return cli_tool_result(call, &text, code);
}

static void free_result(void *context, void *data, size_t size)
{
    (void)context;
    (void)size;
    free(data);
}

int cli_tool_result(tr_call *call, struct cli_text *text, int code)
{
    int status;
    if (text->failed) {
        status = TR_ENOMEM;
    } else if (text->size <= RESULT_COPY_MAX) {
        status = tr_result_copy(call, text->data, text->size);
    } else {
        status = tr_result_give(call, text->data, text->size, free_result, NULL);
        if (status == 0)
            *text = (struct cli_text){0};
    }
    cli_text_done(text);
    if (status == TR_ELIMIT) {
        static const char message[] = "{\"error\":\"the output is larger than a result may be\"}";
        (void)tr_result_copy(call, message, sizeof(message) - 1); /* tried; the code says it too */
    }
    return status < 0 ? status : code;
}

/* Whether brackets outside strings nest no deeper than allowed. */
static bool is_shallow(const char *data, size_t size)
{
    size_t depth = 0;
    bool in_string = false;
    for (size_t at = 0; at < size; at++) {
        char byte = data[at];
        if (in_string) {
            if (byte == '\\')
                at++;
            in_string = byte != '"';
        } else if (byte == '"') {
            in_string = true;
        } else if (byte == '{' || byte == '[') {
            if (++depth > INPUT_DEPTH_MAX)
                return false;
        } else if ((byte == '}' || byte == ']') && depth > 0) {
            depth--;
        }
    }
    return true;
}

json_t *cli_tool_input(tr_call *call, const char *const *known)
{
    tr_bytes bytes = tr_call_input(call);
    json_error_t error;
    struct cli_fault fault;
    if (!is_shallow(bytes.data, bytes.size)) {
        (void)cli_tool_fail(call, TR_EINVAL, "the input is nested too deeply");
        return NULL;
    }
    json_t *input =
        json_loadb(bytes.data, bytes.size, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, &error);
    if (!json_is_object(input)) {
        json_decref(input);
        (void)cli_tool_fail(call, TR_EINVAL, "the input is no JSON object");
        return NULL;
    }
    if (known != NULL && !cli_members_check(input, known, &fault)) {
        json_decref(input);
        (void)cli_tool_fail(call, TR_EINVAL, "%s", fault.message);
        return NULL;
    }
    return input;
}

bool cli_input_bytes(const json_t *input, const char *name, tr_bytes *ret_bytes,
                     struct cli_fault *ret_fault)
{
    const json_t *value = json_object_get(input, name);
    *ret_bytes = (tr_bytes){NULL, 0};
    if (value == NULL)
        return true;
    if (!json_is_string(value))
        return cli_fault_set(ret_fault, "\"%s\" must be a string", name);
    *ret_bytes = (tr_bytes){json_string_value(value), json_string_length(value)};
    return true;
}

char *cli_path_join(const char *directory, const char *path)
{
    char *joined = NULL;
    if (directory == NULL || path[0] == '/')
        return strdup(path);
    return asprintf(&joined, "%s/%s", directory, path) < 0 ? NULL : joined;
}

const char *cli_errno_text(int number, char room[128])
{
    return strerror_r(number, room, 128);
}
