/*
 * order.c: one line of input as an order: what to do, checked and ready to be carried out.
 *
 * Owner: the reader; no shared state. Called by intake.c, its member readers also by declared.c.
 * Calls jansson.
 *
 * Invariants:
 *  1. Nothing in a line is ignored: an unknown member, a member of the wrong type, a member that
 *     this op does not have are faults. A misspelt "timeout_ms" must not run without a timeout.
 *  2. Every string of an order is without zero bytes and within the engine's bound for it.
 *  3. A call's route is always said (foreground if the line says nothing and the tool neither).
 *
 * Cost: that of parsing the line.
 */
#include "order.h"

#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "text.h"

enum {
    OUTPUT_BYTES_LEAST = 4, /* a whole UTF-8 character */
    OUTPUT_BYTES_DEFAULT = 64 * 1024,
    OUTPUT_BYTES_MOST = 1024 * 1024,
    PROGRAM_WAIT_MS = 10000
};

#define BYTE_ORDER_MARK "\xef\xbb\xbf"

bool cli_fault_set(struct cli_fault *fault, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    (void)vsnprintf(fault->message, sizeof(fault->message), format, arguments); /* cut if long */
    va_end(arguments);
    return false;
}

bool cli_members_check(json_t *object, const char *const *known, struct cli_fault *ret_fault)
{
    const char *name;
    json_t *value;
    json_object_foreach(object, name, value)
    {
        size_t index = 0;
        while (known[index] != NULL && strcmp(known[index], name) != 0)
            index++;
        if (known[index] == NULL)
            return cli_fault_set(ret_fault, "unknown member \"%.64s\"", name);
    }
    return true;
}

bool cli_member_string(const json_t *object, const char *name, size_t size_max,
                       const char **ret_string, struct cli_fault *ret_fault)
{
    const json_t *value = json_object_get(object, name);
    *ret_string = NULL;
    if (value == NULL)
        return true;
    if (!json_is_string(value))
        return cli_fault_set(ret_fault, "\"%s\" must be a string", name);
    const char *string = json_string_value(value);
    if (json_string_length(value) != strlen(string))
        return cli_fault_set(ret_fault, "\"%s\" must not contain a zero byte", name);
    if (string[0] == '\0')
        return cli_fault_set(ret_fault, "\"%s\" must not be empty", name);
    if (strlen(string) > size_max)
        return cli_fault_set(ret_fault, "\"%s\" is longer than %zu bytes", name, size_max);
    *ret_string = string;
    return true;
}

bool cli_member_number(const json_t *object, const char *name, uint64_t least, uint64_t most,
                       uint64_t *ret_number, struct cli_fault *ret_fault)
{
    const json_t *value = json_object_get(object, name);
    if (value == NULL)
        return true;
    json_int_t number = json_is_integer(value) ? json_integer_value(value) : -1;
    if (number < 0 || (uint64_t)number < least || (uint64_t)number > most)
        return cli_fault_set(ret_fault, "\"%s\" must be a whole number from %llu to %llu", name,
                             (unsigned long long)least, (unsigned long long)most);
    *ret_number = (uint64_t)number;
    return true;
}

/* A word out of a list; `words` is NULL-ended. Returns its index, -1 if it is none of them. */
static int word_index(const char *word, const char *const *words)
{
    for (int index = 0; words[index] != NULL; index++)
        if (strcmp(words[index], word) == 0)
            return index;
    return -1;
}

bool cli_member_bool(const json_t *object, const char *name, bool *ret_value,
                     struct cli_fault *ret_fault)
{
    const json_t *value = json_object_get(object, name);
    if (value == NULL)
        return true;
    if (!json_is_boolean(value))
        return cli_fault_set(ret_fault, "\"%s\" must be true or false", name);
    *ret_value = json_is_true(value);
    return true;
}

bool cli_member_word(const json_t *object, const char *name, const char *const *words,
                     size_t *ret_index, struct cli_fault *ret_fault)
{
    char list[128] = "";
    const json_t *value = json_object_get(object, name);
    if (value == NULL)
        return true;
    int index = json_is_string(value) ? word_index(json_string_value(value), words) : -1;
    if (index >= 0) {
        *ret_index = (size_t)index;
        return true;
    }
    for (size_t word = 0; words[word] != NULL; word++) {
        const char *between = word == 0 ? "" : words[word + 1] != NULL ? ", " : " or ";
        size_t used = strlen(list);
        (void)snprintf(list + used, sizeof(list) - used, "%s\"%s\"", between, words[word]);
    }
    return cli_fault_set(ret_fault, "\"%s\" must be %s", name, list);
}

bool cli_member_base64(const json_t *object, const char *name, char **ret_bytes, size_t *ret_size,
                       struct cli_fault *ret_fault)
{
    const json_t *value = json_object_get(object, name);
    *ret_bytes = NULL;
    *ret_size = 0;
    if (value == NULL)
        return true;
    if (!json_is_string(value))
        return cli_fault_set(ret_fault, "\"%s\" must be a string of base64", name);
    size_t size = json_string_length(value);
    char *bytes = malloc(size / 4 * 3 + 1);
    if (bytes == NULL)
        return cli_fault_set(ret_fault, "out of memory");
    if (!cli_base64_read(json_string_value(value), size, bytes, ret_size)) {
        free(bytes);
        return cli_fault_set(ret_fault, "\"%s\" must be a string of base64, padded with =", name);
    }
    *ret_bytes = bytes;
    return true;
}

static bool read_route(const json_t *route, tr_options *options, struct cli_fault *ret_fault)
{
    static const char *const words[] = {"inline", "foreground", "background", NULL};
    static const tr_route routes[] = {TR_ROUTE_INLINE, TR_ROUTE_FOREGROUND, TR_ROUTE_BACKGROUND};
    if (route == NULL)
        return true;
    if (json_is_string(route)) {
        int index = word_index(json_string_value(route), words);
        if (index >= 0) {
            options->route = routes[index];
            return true;
        }
    } else if (json_is_object(route) && json_object_size(route) == 1 &&
               json_object_get(route, "detach_after_ms") != NULL) {
        uint64_t milliseconds = 0;
        if (!cli_member_number(route, "detach_after_ms", 1, CLI_MILLISECONDS_MAX, &milliseconds,
                               ret_fault))
            return false;
        options->route = TR_ROUTE_DETACH_AFTER;
        options->detach_after_ns = milliseconds * TR_MILLISECOND;
        return true;
    }
    return cli_fault_set(ret_fault, "\"route\" must be \"foreground\", \"background\", \"inline\" "
                                    "or {\"detach_after_ms\":NUMBER}");
}

bool cli_options_read(const json_t *object, tr_options *options, struct cli_fault *ret_fault)
{
    static const char *const deliveries[] = {"to_loop", "manual", NULL};
    static const char *const continues[] = {"notify", "request", NULL};
    uint64_t timeout_ms = 0;
    size_t delivery = SIZE_MAX, continuation = SIZE_MAX;
    if (!read_route(json_object_get(object, "route"), options, ret_fault) ||
        !cli_member_word(object, "delivery", deliveries, &delivery, ret_fault) ||
        !cli_member_word(object, "continue", continues, &continuation, ret_fault))
        return false;
    if (delivery != SIZE_MAX)
        options->delivery = delivery == 0 ? TR_DELIVERY_TO_LOOP : TR_DELIVERY_MANUAL;
    if (continuation != SIZE_MAX)
        options->continuation = continuation == 0 ? TR_CONTINUE_NOTIFY : TR_CONTINUE_REQUEST;
    if (!cli_member_number(object, "timeout_ms", 1, CLI_MILLISECONDS_MAX, &timeout_ms, ret_fault))
        return false;
    if (timeout_ms > 0)
        options->total_timeout_ns = timeout_ms * TR_MILLISECOND;
    return true;
}

static bool read_object(const json_t *root, const char *name, json_t **ret_object,
                        struct cli_fault *ret_fault)
{
    json_t *value = json_object_get(root, name);
    if (value != NULL && !json_is_object(value))
        return cli_fault_set(ret_fault, "\"%s\" must be an object", name);
    *ret_object = value;
    return true;
}

static bool read_call(struct cli_order *order, struct cli_fault *ret_fault)
{
    if (!cli_member_string(order->root, "tool", TR_TOOL_NAME_BYTES_MAX, &order->tool, ret_fault))
        return false;
    if (order->tool == NULL)
        return cli_fault_set(ret_fault, "\"tool\" is missing");
    return read_object(order->root, "input", &order->input, ret_fault) &&
           read_object(order->root, "metadata", &order->metadata, ret_fault) &&
           cli_options_read(order->root, &order->options, ret_fault);
}

static bool read_input(struct cli_order *order, struct cli_fault *ret_fault)
{
    const json_t *data = json_object_get(order->root, "data");
    size_t size;
    if (!cli_member_bool(order->root, "close", &order->close, ret_fault) ||
        !cli_member_base64(order->root, "data_base64", &order->decoded, &size, ret_fault))
        return false;
    if (data != NULL && !json_is_string(data))
        return cli_fault_set(ret_fault, "\"data\" must be a string");
    if (data != NULL && order->decoded != NULL)
        return cli_fault_set(ret_fault, "\"data\" and \"data_base64\" exclude each other");
    if (data == NULL && order->decoded == NULL && !order->close)
        return cli_fault_set(ret_fault, "\"data\", \"data_base64\" or \"close\" must be given");
    if (order->decoded != NULL)
        order->data = (tr_bytes){order->decoded, size};
    else if (data != NULL)
        order->data = (tr_bytes){json_string_value(data), json_string_length(data)};
    return true;
}

/* A signal by its number or its name, with "SIG" or without. */
static bool read_signal(struct cli_order *order, struct cli_fault *ret_fault)
{
    const json_t *value = json_object_get(order->root, "signal");
    if (value == NULL)
        return cli_fault_set(ret_fault, "\"signal\" is missing");
    if (json_is_integer(value)) {
        json_int_t number = json_integer_value(value);
        order->signal_number = number >= 1 && number <= SIGRTMAX ? (int)number : 0;
    } else if (json_is_string(value)) {
        const char *name = json_string_value(value);
        name += strncmp(name, "SIG", 3) == 0 ? 3 : 0;
        for (int number = 1; number < NSIG && order->signal_number == 0; number++) {
            const char *abbreviation = sigabbrev_np(number);
            if (abbreviation != NULL && strcmp(abbreviation, name) == 0)
                order->signal_number = number;
        }
    }
    return order->signal_number > 0 ||
           cli_fault_set(ret_fault, "\"signal\" must be a signal's name or its number, 1 to %d",
                         SIGRTMAX);
}

static bool read_resize(struct cli_order *order, struct cli_fault *ret_fault)
{
    uint64_t rows = 0, columns = 0;
    if (!cli_member_number(order->root, "rows", 1, UINT16_MAX, &rows, ret_fault) ||
        !cli_member_number(order->root, "columns", 1, UINT16_MAX, &columns, ret_fault))
        return false;
    if (rows == 0 || columns == 0)
        return cli_fault_set(ret_fault, "\"rows\" and \"columns\" must be given");
    order->rows = (uint16_t)rows;
    order->columns = (uint16_t)columns;
    return true;
}

static bool read_output(struct cli_order *order, struct cli_fault *ret_fault)
{
    static const char *const streams[] = {"stdout", "stderr", NULL};
    size_t stream = 0;
    order->bytes_max = OUTPUT_BYTES_DEFAULT;
    if (!cli_member_word(order->root, "stream", streams, &stream, ret_fault) ||
        !cli_member_number(order->root, "cursor", 0, INT64_MAX, &order->cursor, ret_fault) ||
        !cli_member_number(order->root, "bytes_max", OUTPUT_BYTES_LEAST, OUTPUT_BYTES_MOST,
                           &order->bytes_max, ret_fault))
        return false;
    order->stream = stream == 0 ? TR_STREAM_OUT : TR_STREAM_ERROR;
    return true;
}

/* The orders to a call. */
static bool read_for_call(struct cli_order *order, struct cli_fault *ret_fault)
{
    order->timeout_ms = PROGRAM_WAIT_MS;
    if (order->call_id == NULL)
        return cli_fault_set(ret_fault, "\"call_id\" is missing");
    if (!cli_member_number(order->root, "timeout_ms", 0, CLI_MILLISECONDS_MAX, &order->timeout_ms,
                           ret_fault))
        return false;
    if (order->op == CLI_OP_INPUT)
        return read_input(order, ret_fault);
    if (order->op == CLI_OP_SIGNAL)
        return read_signal(order, ret_fault);
    if (order->op == CLI_OP_RESIZE)
        return read_resize(order, ret_fault);
    return order->op != CLI_OP_OUTPUT || read_output(order, ret_fault);
}

/* The ops: their words, and the members each may have beside "op". */
static const char *const op_words[] = {"call", "wait",  "interrupt", "cancel", "detach", "pause",
                                       "idle", "input", "signal",    "resize", "output", NULL};
static const char *const call_members[] = {"op",       "session",    "turn",     "call_id",
                                           "tool",     "input",      "route",    "delivery",
                                           "continue", "timeout_ms", "metadata", NULL};
static const char *const turn_members[] = {"op", "session", "turn", NULL};
static const char *const task_members[] = {"op", "session", "call_id", NULL};
static const char *const pause_members[] = {"op", "ms", NULL};
static const char *const idle_members[] = {"op", NULL};
static const char *const input_members[] = {"op",          "session", "call_id",    "data",
                                            "data_base64", "close",   "timeout_ms", NULL};
static const char *const signal_members[] = {"op",     "session",    "call_id",
                                             "signal", "timeout_ms", NULL};
static const char *const resize_members[] = {"op",      "session",    "call_id", "rows",
                                             "columns", "timeout_ms", NULL};
static const char *const output_members[] = {"op",     "session",   "call_id", "stream",
                                             "cursor", "bytes_max", NULL};
static const char *const *const members_of[] = {
    call_members, turn_members,  turn_members,   task_members,   task_members,  pause_members,
    idle_members, input_members, signal_members, resize_members, output_members};

static bool read_op(struct cli_order *order, struct cli_fault *ret_fault)
{
    const char *word;
    if (!cli_member_string(order->root, "op", SIZE_MAX, &word, ret_fault))
        return false;
    if (word == NULL)
        word = op_words[CLI_OP_CALL];
    int index = word_index(word, op_words);
    if (index < 0)
        return cli_fault_set(ret_fault, "unknown op \"%.64s\"", word);
    order->op = (enum cli_op)index;
    return cli_members_check(order->root, members_of[index], ret_fault);
}

bool cli_order_read(const char *line, size_t size, struct cli_order *ret_order,
                    struct cli_fault *ret_fault)
{
    json_error_t error;
    *ret_order = (struct cli_order){.options = TR_OPTIONS_INIT};
    *ret_fault = (struct cli_fault){0};
    /* The parser takes the one for the end of the line, and cannot show the other. */
    const char *zero = memchr(line, '\0', size);
    if (zero != NULL) {
        ret_fault->column = zero - line < INT_MAX ? (int)(zero - line) + 1 : INT_MAX;
        return cli_fault_set(ret_fault, "not valid JSON: a zero byte");
    }
    if (size >= strlen(BYTE_ORDER_MARK) &&
        memcmp(line, BYTE_ORDER_MARK, strlen(BYTE_ORDER_MARK)) == 0) {
        ret_fault->column = 1;
        return cli_fault_set(ret_fault, "begins with a byte order mark; write UTF-8 without one");
    }
    ret_order->root =
        json_loadb(line, size, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL | JSON_DECODE_ANY, &error);
    if (ret_order->root == NULL) {
        ret_fault->column = error.column > 0 ? error.column : 1;
        return cli_fault_set(ret_fault, "not valid JSON: %s", error.text);
    }
    if (!json_is_object(ret_order->root)) {
        ret_fault->column = 1;
        return cli_fault_set(ret_fault, "a line must be a JSON object");
    }
    const json_t *root = ret_order->root;
    /* The call id first: a fault found later can then be told to whoever waits for the call. */
    if (!cli_member_string(root, "call_id", TR_CALL_ID_BYTES_MAX, &ret_order->call_id, ret_fault) ||
        !read_op(ret_order, ret_fault) ||
        !cli_member_string(root, "session", TR_LABEL_BYTES_MAX, &ret_order->session, ret_fault) ||
        !cli_member_string(root, "turn", TR_LABEL_BYTES_MAX, &ret_order->turn, ret_fault))
        return false;
    switch (ret_order->op) {
    case CLI_OP_CALL:
        return read_call(ret_order, ret_fault);
    case CLI_OP_CANCEL:
    case CLI_OP_DETACH:
    case CLI_OP_INPUT:
    case CLI_OP_SIGNAL:
    case CLI_OP_RESIZE:
    case CLI_OP_OUTPUT:
        return read_for_call(ret_order, ret_fault);
    case CLI_OP_PAUSE:
        if (json_object_get(root, "ms") == NULL)
            return cli_fault_set(ret_fault, "\"ms\" is missing");
        return cli_member_number(root, "ms", 0, CLI_MILLISECONDS_MAX, &ret_order->pause_ms,
                                 ret_fault);
    case CLI_OP_WAIT:
    case CLI_OP_INTERRUPT:
    case CLI_OP_IDLE:
        break;
    }
    return true;
}

void cli_order_done(struct cli_order *order)
{
    json_decref(order->root);
    free(order->decoded);
    *order = (struct cli_order){0};
}
