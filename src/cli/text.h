/*
 * text.h: a growing piece of text, and the writing of JSON into it.
 *
 * Results embed bytes that are JSON already (a tool's output), which a tree of JSON values cannot
 * hold without parsing them again; so lines are written front to back, and parsed with jansson
 * only.
 */
#ifndef CLI_TEXT_H
#define CLI_TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/** Grows as needed. After a failed allocation `failed` stays set and appending does nothing. */
struct cli_text {
    char *data;      /**< the bytes; not zero-ended */
    size_t size;     /**< bytes used */
    size_t capacity; /**< bytes there is room for */
    bool failed;     /**< memory ran out */
};

/** Frees the bytes; the text is empty again. */
void cli_text_done(struct cli_text *text);

/** Empties the text; keeps its room unless that is more than `keep_max` bytes. */
void cli_text_clear(struct cli_text *text, size_t keep_max);

/** Makes room for `size` more bytes. Returns whether there is. */
bool cli_text_reserve(struct cli_text *text, size_t size);

/** Appends bytes. */
void cli_text_bytes(struct cli_text *text, const void *data, size_t size);

/** Appends a zero-ended string as it is. */
void cli_text_add(struct cli_text *text, const char *string);

/** Appends formatted text; the result is cut at 1023 bytes. */
void cli_text_format(struct cli_text *text, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/** Appends a decimal number. */
void cli_text_u64(struct cli_text *text, uint64_t number);

/** Appends a decimal number with its sign. */
void cli_text_i64(struct cli_text *text, int64_t number);

/** Begins a member of a JSON object: the comma, if one is due, and `"name":`. */
void cli_text_field(struct cli_text *text, const char *name);

/** Member with a number. */
void cli_text_field_u64(struct cli_text *text, const char *name, uint64_t number);

/** Member with true or false. */
void cli_text_field_bool(struct cli_text *text, const char *name, bool value);

/** Member with a zero-ended string. */
void cli_text_field_string(struct cli_text *text, const char *name, const char *string);

/** Appends bytes as a JSON string. Each byte that is no valid UTF-8 becomes U+FFFD.
 *  Returns how many did. */
size_t cli_text_string(struct cli_text *text, const void *data, size_t size);

/** Appends bytes as a JSON string of base64. */
void cli_text_base64(struct cli_text *text, const void *data, size_t size);

/** Reads base64 (RFC 4648, section 4: padded, nothing else between) into `bytes`, which has room
 *  for three bytes per four characters. Returns whether it is any. */
bool cli_base64_read(const char *string, size_t size, char *bytes, size_t *ret_size);

/** Length of the valid UTF-8 sequence at the start of `data`, 0 if it is none. */
size_t cli_utf8_length(const unsigned char *data, size_t size);

/** Largest size up to `size` that does not cut a UTF-8 sequence at its end. */
size_t cli_utf8_trim(const unsigned char *data, size_t size);

#endif
