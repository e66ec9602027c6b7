/*
 * text.c: a growing piece of text, and the writing of JSON into it.
 *
 * Owner: whoever owns the struct; no locking. Called by everything that writes a line or a tool's
 * output; calls only the C library.
 *
 * Invariants:
 *  1. size <= capacity; data is NULL exactly when capacity is 0.
 *  2. After `failed` was set nothing is appended: a line is whole or it is not written at all,
 *     so the caller tests `failed` once, at its end.
 *  3. What cli_text_string writes is valid UTF-8 and valid JSON whatever bytes went in.
 *
 * Appending costs the bytes appended (amortised: room doubles). Plain runs of a string are copied
 * with one memcpy; only quotes, controls and non-ASCII are looked at one by one.
 *
 * Rejected: a JSON tree and json_dumps for result lines. It would parse each tool's output once
 * more and allocate about 20 nodes per line.
 */
#include "text.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char letters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

enum {
    TEXT_ROOM_MIN = 256,
    TEXT_FORMAT_MAX = 1024,
    NUMBER_ROOM = 24
};

void cli_text_done(struct cli_text *text)
{
    free(text->data);
    *text = (struct cli_text){0};
}

void cli_text_clear(struct cli_text *text, size_t keep_max)
{
    if (text->capacity > keep_max || text->failed)
        cli_text_done(text);
    text->size = 0;
}

bool cli_text_reserve(struct cli_text *text, size_t size)
{
    if (text->failed)
        return false;
    if (size <= text->capacity - text->size)
        return true;
    size_t wanted = text->size + size;
    size_t capacity = text->capacity < TEXT_ROOM_MIN ? TEXT_ROOM_MIN : text->capacity;
    while (capacity < wanted && capacity <= SIZE_MAX / 2)
        capacity *= 2;
    char *data = wanted < size || capacity < wanted ? NULL : realloc(text->data, capacity);
    if (data == NULL) {
        text->failed = true;
        return false;
    }
    text->data = data;
    text->capacity = capacity;
    return true;
}

void cli_text_bytes(struct cli_text *text, const void *data, size_t size)
{
    if (size == 0 || !cli_text_reserve(text, size))
        return;
    memcpy(text->data + text->size, data, size);
    text->size += size;
}

void cli_text_add(struct cli_text *text, const char *string)
{
    cli_text_bytes(text, string, strlen(string));
}

void cli_text_format(struct cli_text *text, const char *format, ...)
{
    char piece[TEXT_FORMAT_MAX];
    va_list arguments;
    va_start(arguments, format);
    int size = vsnprintf(piece, sizeof(piece), format, arguments);
    va_end(arguments);
    if (size < 0)
        return;
    cli_text_bytes(text, piece, (size_t)size < sizeof(piece) ? (size_t)size : sizeof(piece) - 1);
}

void cli_text_u64(struct cli_text *text, uint64_t number)
{
    char digits[NUMBER_ROOM];
    size_t at = sizeof(digits);
    do {
        digits[--at] = (char)('0' + number % 10);
        number /= 10;
    } while (number != 0);
    cli_text_bytes(text, digits + at, sizeof(digits) - at);
}

void cli_text_i64(struct cli_text *text, int64_t number)
{
    if (number < 0)
        cli_text_bytes(text, "-", 1);
    cli_text_u64(text, number < 0 ? UINT64_C(0) - (uint64_t)number : (uint64_t)number);
}

void cli_text_field(struct cli_text *text, const char *name)
{
    if (text->size > 0 && text->data[text->size - 1] != '{')
        cli_text_bytes(text, ",", 1);
    cli_text_bytes(text, "\"", 1);
    cli_text_add(text, name);
    cli_text_bytes(text, "\":", 2);
}

void cli_text_field_u64(struct cli_text *text, const char *name, uint64_t number)
{
    cli_text_field(text, name);
    cli_text_u64(text, number);
}

void cli_text_field_bool(struct cli_text *text, const char *name, bool value)
{
    cli_text_field(text, name);
    cli_text_add(text, value ? "true" : "false");
}

void cli_text_field_string(struct cli_text *text, const char *name, const char *string)
{
    cli_text_field(text, name);
    (void)cli_text_string(text, string, strlen(string)); /* replaced bytes: display text only */
}

/* Whether byte `index` of a sequence that starts with `first` may be `byte`: the second byte's
 * range keeps out overlong forms, surrogates and what lies beyond U+10FFFF (Unicode 15, table
 * 3-7). */
static bool continues(unsigned char first, size_t index, unsigned char byte)
{
    unsigned char low = 0x80, high = 0xbf;
    if (index == 1) {
        if (first == 0xe0)
            low = 0xa0;
        else if (first == 0xed)
            high = 0x9f;
        else if (first == 0xf0)
            low = 0x90;
        else if (first == 0xf4)
            high = 0x8f;
    }
    return byte >= low && byte <= high;
}

/* Bytes a sequence that starts with `first` should have, 0 if none starts so. */
static size_t sequence_length(unsigned char first)
{
    if (first < 0x80)
        return 1;
    if (first >= 0xc2 && first <= 0xdf)
        return 2;
    if (first >= 0xe0 && first <= 0xef)
        return 3;
    if (first >= 0xf0 && first <= 0xf4)
        return 4;
    return 0;
}

size_t cli_utf8_length(const unsigned char *data, size_t size)
{
    size_t length = size == 0 ? 0 : sequence_length(data[0]);
    if (length > size)
        return 0;
    for (size_t index = 1; index < length; index++)
        if (!continues(data[0], index, data[index]))
            return 0;
    return length;
}

size_t cli_utf8_trim(const unsigned char *data, size_t size)
{
    for (size_t back = 1; back <= 3 && back <= size; back++) {
        unsigned char byte = data[size - back];
        if ((byte & 0xc0) == 0x80)
            continue;
        return sequence_length(byte) > back ? size - back : size;
    }
    return size;
}

static bool is_plain(unsigned char byte)
{
    return byte >= 0x20 && byte < 0x80 && byte != '"' && byte != '\\';
}

/* Appends one ASCII character that JSON wants escaped. */
static void add_escaped(struct cli_text *text, unsigned char byte)
{
    static const char hex[] = "0123456789abcdef";
    char escape[6] = {'\\', 'u', '0', '0', hex[byte >> 4], hex[byte & 15]};
    static const struct {
        char byte, letter;
    } shorts[] = {{'"', '"'},  {'\\', '\\'}, {'\n', 'n'}, {'\t', 't'},
                  {'\r', 'r'}, {'\b', 'b'},  {'\f', 'f'}};
    for (size_t index = 0; index < sizeof(shorts) / sizeof(shorts[0]); index++) {
        if (shorts[index].byte == (char)byte) {
            escape[1] = shorts[index].letter;
            cli_text_bytes(text, escape, 2);
            return;
        }
    }
    cli_text_bytes(text, escape, sizeof(escape));
}

size_t cli_text_string(struct cli_text *text, const void *data, size_t size)
{
    const unsigned char *bytes = data;
    size_t replaced = 0;
    size_t at = 0;
    cli_text_bytes(text, "\"", 1);
    while (at < size) {
        size_t run = at;
        while (run < size && is_plain(bytes[run]))
            run++;
        cli_text_bytes(text, bytes + at, run - at);
        at = run;
        if (at == size)
            break;
        size_t length = cli_utf8_length(bytes + at, size - at);
        if (length == 0) {
            cli_text_bytes(text, "\xef\xbf\xbd", 3);
            replaced++;
            at++;
        } else if (length == 1) {
            add_escaped(text, bytes[at]);
            at++;
        } else {
            cli_text_bytes(text, bytes + at, length);
            at += length;
        }
    }
    cli_text_bytes(text, "\"", 1);
    return replaced;
}

void cli_text_base64(struct cli_text *text, const void *data, size_t size)
{
    const unsigned char *bytes = data;
    if (!cli_text_reserve(text, size / 3 * 4 + 6))
        return;
    cli_text_bytes(text, "\"", 1);
    for (size_t at = 0; at < size; at += 3) {
        size_t left = size - at;
        uint32_t group = (uint32_t)bytes[at] << 16;
        group |= left > 1 ? (uint32_t)bytes[at + 1] << 8 : 0;
        group |= left > 2 ? (uint32_t)bytes[at + 2] : 0;
        char quad[4] = {letters[group >> 18], letters[group >> 12 & 63], '=', '='};
        if (left > 1)
            quad[2] = letters[group >> 6 & 63];
        if (left > 2)
            quad[3] = letters[group & 63];
        cli_text_bytes(text, quad, sizeof(quad));
    }
    cli_text_bytes(text, "\"", 1);
}

bool cli_base64_read(const char *string, size_t size, char *bytes, size_t *ret_size)
{
    size_t padding = 0, used = 0;
    if (size % 4 != 0)
        return false;
    while (padding < 2 && padding < size && string[size - 1 - padding] == '=')
        padding++;
    for (size_t at = 0; at < size; at += 4) {
        uint32_t group = 0;
        for (size_t index = 0; index < 4; index++) {
            const char *letter = NULL;
            if (at + index < size - padding)
                letter = memchr(letters, string[at + index], sizeof(letters) - 1);
            else
                letter = letters; /* padding counts as zero bits */
            if (letter == NULL)
                return false;
            group = group << 6 | (uint32_t)(letter - letters);
        }
        bytes[used++] = (char)(group >> 16 & 0xff);
        bytes[used++] = (char)(group >> 8 & 0xff);
        bytes[used++] = (char)(group & 0xff);
    }
    /* Bits that no byte takes must be zero: one text for one sequence of bytes. */
    for (size_t index = 0; index < padding; index++)
        if (bytes[--used] != 0)
            return false;
    *ret_size = used;
    return true;
}
