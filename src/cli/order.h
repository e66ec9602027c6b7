/*
 * order.h: one line of input as an order: what to do, checked and ready to be carried out.
 */
#ifndef CLI_ORDER_H
#define CLI_ORDER_H

#include <jansson.h>
#include <toolring/stream.h>
#include <toolring/types.h>

/** What a line asks for. */
enum cli_op {
    CLI_OP_CALL,
    CLI_OP_WAIT,
    CLI_OP_INTERRUPT,
    CLI_OP_CANCEL,
    CLI_OP_DETACH,
    CLI_OP_PAUSE,
    CLI_OP_IDLE,
    CLI_OP_INPUT,
    CLI_OP_SIGNAL,
    CLI_OP_RESIZE,
    CLI_OP_OUTPUT,
};

/** Why something written by the user cannot be used. */
struct cli_fault {
    int line;          /**< in the JSON text, from 1; 0: no particular line */
    int column;        /**< in that line, from 1; 0: no particular column */
    char message[512]; /**< one sentence, no full stop */
};

/** A line as an order. Strings point into `root`. */
struct cli_order {
    json_t *root;        /**< the parsed line */
    enum cli_op op;      /**< what to do */
    const char *session; /**< label, NULL if none was given */
    const char *turn;    /**< label, NULL if none was given */
    const char *call_id; /**< NULL if none was given */
    const char *tool;    /**< CALL: its name */
    json_t *input;       /**< CALL: an object, NULL if none was given */
    json_t *metadata;    /**< CALL: an object, NULL if none was given */
    tr_options options;  /**< CALL: route, delivery, continuation, total timeout */
    uint64_t pause_ms;   /**< PAUSE */
    uint64_t timeout_ms; /**< INPUT, SIGNAL, RESIZE: how long to wait for the program */
    tr_bytes data;       /**< INPUT: what to write, may be empty */
    char *decoded;       /**< INPUT: `data`, if it came as base64; to be freed */
    bool close;          /**< INPUT: nothing will follow */
    int signal_number;   /**< SIGNAL */
    uint16_t rows;       /**< RESIZE */
    uint16_t columns;    /**< RESIZE */
    tr_stream stream;    /**< OUTPUT: which one */
    uint64_t cursor;     /**< OUTPUT: offset of the first byte wanted */
    uint64_t bytes_max;  /**< OUTPUT: most bytes wanted */
};

/** Reads a line. Returns true, or false with the fault; either way cli_order_done is due. */
bool cli_order_read(const char *line, size_t size, struct cli_order *ret_order,
                    struct cli_fault *ret_fault);

/** Frees what the order points to. */
void cli_order_done(struct cli_order *order);

/** Reads the members route, delivery, continue and timeout_ms of an object into options. Also used
 *  for the entries of a tools file. Returns false with the fault. */
bool cli_options_read(const json_t *object, tr_options *options, struct cli_fault *ret_fault);

/** Sets a fault's message, in the way of printf; returns false. */
bool cli_fault_set(struct cli_fault *fault, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/** Refuses members of an object that are not in the NULL-ended list. Returns false with the
 *  fault. */
bool cli_members_check(json_t *object, const char *const *known, struct cli_fault *ret_fault);

/** Reads an optional member that is a string without zero bytes, of 1 to `size_max` bytes.
 *  Returns false with the fault; *ret_string is NULL if there is no such member. */
bool cli_member_string(const json_t *object, const char *name, size_t size_max,
                       const char **ret_string, struct cli_fault *ret_fault);

/** Reads an optional member that is a whole number from `least` to `most`.
 *  Returns false with the fault; *ret_number is untouched if there is no such member. */
bool cli_member_number(const json_t *object, const char *name, uint64_t least, uint64_t most,
                       uint64_t *ret_number, struct cli_fault *ret_fault);

/** Reads an optional member that is true or false. Returns false with the fault; *ret_value is
 *  untouched if there is no such member. */
bool cli_member_bool(const json_t *object, const char *name, bool *ret_value,
                     struct cli_fault *ret_fault);

/** Reads an optional member that is one of the NULL-ended `words`. Returns false with the fault;
 *  *ret_index is untouched if there is no such member. */
bool cli_member_word(const json_t *object, const char *name, const char *const *words,
                     size_t *ret_index, struct cli_fault *ret_fault);

/** Reads an optional member that is bytes as base64. Returns false with the fault; *ret_bytes is
 *  NULL if there is no such member, else memory to be freed. */
bool cli_member_base64(const json_t *object, const char *name, char **ret_bytes, size_t *ret_size,
                       struct cli_fault *ret_fault);

/** Longest duration a user may write, in milliseconds: 2^40, about 35 years. */
#define CLI_MILLISECONDS_MAX (UINT64_C(1) << 40)

#endif
