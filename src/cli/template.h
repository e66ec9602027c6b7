/*
 * template.h: text with {placeholders} that are filled from a call's input.
 */
#ifndef CLI_TEMPLATE_H
#define CLI_TEMPLATE_H

#include <jansson.h>

#include "order.h"
#include "text.h"

/** A run of text, or a placeholder. */
struct cli_piece {
    bool is_field; /**< `text` is a member's name */
    char *text;    /**< zero-ended */
};

/** A template, parsed. All zero is an empty one. */
struct cli_template {
    struct cli_piece *pieces;
    size_t count;
};

/** Parses a template: {name} is a placeholder, {{ and }} are braces. Returns false with the fault;
 *  cli_template_done is due either way. */
bool cli_template_parse(struct cli_template *template, const char *text,
                        struct cli_fault *ret_fault);

/** Appends the text with its placeholders filled from the members of `input`: strings, numbers and
 *  booleans. Returns false with the fault. */
bool cli_template_fill(const struct cli_template *template, const json_t *input,
                       struct cli_text *text, struct cli_fault *ret_fault);

/** Frees a template. */
void cli_template_done(struct cli_template *template);

#endif
