/*
 * process_spec.c: whether a tr_process_spec makes sense.
 *
 * Purpose: a bad spec is refused before anything was done for it; what is left to fail afterwards
 * is up to the system (a program that is not there, a limit that may not be raised). Owner: none,
 * no state. Called by spawn and process.
 *
 * Invariants
 *  1. Fields that this version does not know (a longer struct's tail) must be zero, and so must
 *     those that mean nothing without a flag that is not set: a later version may give them a
 *     meaning.
 *  2. Nothing here asks the system.
 */
#include <sys/resource.h>

#include "base/limits.h"
#include "tools/spawn.h"

#define FLAGS_ALL                                                                                  \
    (TR_PROCESS_CLEAR_ENVIRONMENT | TR_PROCESS_MERGE_ERROR | TR_PROCESS_TERMINAL |                 \
     TR_PROCESS_OPEN_INPUT | TR_PROCESS_FILE_MASK)
/* A spec of a later version may be longer, but not out of all proportion. */
#define SPEC_BYTES_MAX 4096u
#define LIMITS_MAX 16u
#define NICE_MAX 40
#define FILE_MASK_MAX 0777u

/* Whether every byte this version does not know is zero. */
static bool is_tail_clear(const tr_process_spec *spec)
{
    const unsigned char *bytes = (const unsigned char *)spec;

    for (size_t at = sizeof *spec; at < spec->size; at++) {
        if (bytes[at] != 0) {
            return false;
        }
    }
    return true;
}

static bool is_environment_valid(const char *const *environment)
{
    for (; environment != NULL && *environment != NULL; environment++) {
        if (**environment == '\0' || **environment == '=') {
            return false;
        }
    }
    return true;
}

static bool is_command_valid(const tr_process_spec *spec)
{
    if ((spec->argv == NULL) == (spec->shell == NULL)) {
        return false;
    }
    if (spec->argv != NULL && (spec->argv[0] == NULL || spec->argv[0][0] == '\0')) {
        return false;
    }
    return (spec->directory == NULL || spec->directory[0] != '\0') &&
           is_environment_valid(spec->environment);
}

static bool are_limits_valid(const tr_process_spec *spec)
{
    if (spec->limits_count > LIMITS_MAX || (spec->limits == NULL && spec->limits_count > 0)) {
        return false;
    }
    for (size_t at = 0; at < spec->limits_count; at++) {
        const tr_process_limit *limit = &spec->limits[at];
        if (limit->resource < 0 || limit->resource >= (int)RLIM_NLIMITS || limit->reserved != 0 ||
            limit->soft > limit->hard) {
            return false;
        }
    }
    return true;
}

static bool are_streams_valid(const tr_process_spec *spec)
{
    bool terminal = (spec->flags & TR_PROCESS_TERMINAL) != 0;

    if (!terminal && (spec->terminal_rows != 0 || spec->terminal_columns != 0)) {
        return false;
    }
    if (spec->spill_directory == NULL ? spec->spill_bytes_max != 0
                                      : spec->spill_directory[0] == '\0') {
        return false;
    }
    return (spec->input.data != NULL || spec->input.size == 0) &&
           spec->output_bytes_max <= TR__OUTPUT_CAP_MAX &&
           (unsigned)spec->overflow <= (unsigned)TR_OVERFLOW_KILL;
}

bool tr__process_is_valid(const tr_process_spec *spec)
{
    if (spec == NULL || spec->size < sizeof *spec || spec->size > SPEC_BYTES_MAX ||
        !is_tail_clear(spec) || (spec->flags & ~FLAGS_ALL) != 0 || spec->reserved != 0 ||
        spec->reserved_tail != 0) {
        return false;
    }
    uint32_t mask_max = (spec->flags & TR_PROCESS_FILE_MASK) != 0 ? FILE_MASK_MAX : 0;
    return is_command_valid(spec) && are_limits_valid(spec) && are_streams_valid(spec) &&
           (unsigned)spec->lifetime <= (unsigned)TR_PROCESS_LIFETIME_DAEMON &&
           spec->nice >= -NICE_MAX && spec->nice <= NICE_MAX && spec->file_mask <= mask_max;
}
