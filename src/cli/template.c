/*
 * template.c: text with {placeholders} that are filled from a call's input.
 *
 * Threads: parsed by main before the engine is open, filled by any number of calls at once; a
 * parsed template does not change. Calls jansson.
 *
 * Grammar: "{" NAME "}" with NAME of letters, digits and _, not starting with a digit; "{{" is
 * "{" and "}}" is "}"; a single brace is an error, so that a slip is found when the file is read.
 *
 * A filled template is one string, never split again: a value with blanks or quotes stays inside
 * its argument. Zero bytes are passed on; who makes arguments of the text refuses them.
 *
 * Cost: one pass over the text.
 */
#include "template.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    REAL_DIGITS_LEAST = 15,
    REAL_DIGITS_MOST = 17
};

static bool is_name_byte(char byte, bool first)
{
    bool letter = (byte >= 'a' && byte <= 'z') || (byte >= 'A' && byte <= 'Z') || byte == '_';
    return letter || (!first && byte >= '0' && byte <= '9');
}

/* Adds a piece of `size` bytes. */
static bool add_piece(struct cli_template *template, bool is_field, const char *text, size_t size)
{
    struct cli_piece *pieces =
        realloc(template->pieces, (template->count + 1) * sizeof(*template->pieces));
    if (pieces == NULL)
        return false;
    template->pieces = pieces;
    pieces[template->count].is_field = is_field;
    pieces[template->count].text = strndup(text, size);
    return pieces[template->count].text != NULL && ++template->count > 0;
}

/* Length of the name that a "{" at text[0] opens and a "}" closes, 0 if there is none. */
static size_t name_length(const char *text)
{
    size_t length = 0;
    while (is_name_byte(text[1 + length], length == 0))
        length++;
    return text[1 + length] == '}' ? length : 0;
}

bool cli_template_parse(struct cli_template *template, const char *text,
                        struct cli_fault *ret_fault)
{
    size_t at = 0;
    *template = (struct cli_template){0};
    while (text[at] != '\0') {
        bool good;
        size_t run = strcspn(text + at, "{}");
        if (run > 0) {
            good = add_piece(template, false, text + at, run);
            at += run;
        } else if (text[at] == text[at + 1]) {
            good = add_piece(template, false, text + at, 1);
            at += 2;
        } else {
            size_t length = text[at] == '{' ? name_length(text + at) : 0;
            if (length == 0)
                return cli_fault_set(ret_fault,
                                     "\"%.64s\": a placeholder is {name}; {{ and }} are braces",
                                     text + at);
            good = add_piece(template, true, text + at + 1, length);
            at += length + 2;
        }
        if (!good)
            return cli_fault_set(ret_fault, "out of memory");
    }
    return true;
}

/* Appends a number with the fewest digits that read back as the same. */
static void add_real(struct cli_text *text, double number)
{
    char digits[64] = "";
    for (int precision = REAL_DIGITS_LEAST; precision <= REAL_DIGITS_MOST; precision++) {
        (void)snprintf(digits, sizeof(digits), "%.*g", precision, number); /* it fits */
        if (strtod(digits, NULL) >= number && strtod(digits, NULL) <= number)
            break;
    }
    cli_text_add(text, digits);
}

static bool add_value(struct cli_text *text, const char *name, const json_t *value,
                      struct cli_fault *ret_fault)
{
    switch (value == NULL ? JSON_NULL : json_typeof(value)) {
    case JSON_STRING:
        cli_text_bytes(text, json_string_value(value), json_string_length(value));
        return true;
    case JSON_INTEGER:
        cli_text_i64(text, json_integer_value(value));
        return true;
    case JSON_REAL:
        add_real(text, json_real_value(value));
        return true;
    case JSON_TRUE:
    case JSON_FALSE:
        cli_text_add(text, json_is_true(value) ? "true" : "false");
        return true;
    default:
        if (value == NULL)
            return cli_fault_set(ret_fault, "\"%.64s\" is missing", name);
        return cli_fault_set(ret_fault, "\"%.64s\" must be a string, a number, true or false",
                             name);
    }
}

bool cli_template_fill(const struct cli_template *template, const json_t *input,
                       struct cli_text *text, struct cli_fault *ret_fault)
{
    for (size_t index = 0; index < template->count; index++) {
        const struct cli_piece *piece = &template->pieces[index];
        if (!piece->is_field)
            cli_text_add(text, piece->text);
        else if (!add_value(text, piece->text, json_object_get(input, piece->text), ret_fault))
            return false;
    }
    return true;
}

void cli_template_done(struct cli_template *template)
{
    for (size_t index = 0; index < template->count; index++)
        free(template->pieces[index].text);
    free(template->pieces);
    *template = (struct cli_template){0};
}
