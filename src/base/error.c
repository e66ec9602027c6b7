/* Error: names and messages of the public codes.
 *
 * Purpose: turns a code into text without locale, lock or allocation. Owner: none; any thread.
 * Called by hosts and by cli; calls libc for the errnos the list does not name.
 *
 * Invariants
 *  1. A code between -4095 and -1 is a Linux errno negated; TR_ERROR_LIST only adds a name and a
 *     better message to some. The proofs below hold on every architecture with the generic errno
 *     numbers; alpha, mips, parisc and sparc differ and do not compile here, rather than lie.
 *  2. Every code of the list has one name and one message: the switches would not compile with a
 *     value twice.
 *
 * Complexity: a compiled switch, O(1).
 */
#include <toolring/error.h>

#include <errno.h>
#include <limits.h>
#include <string.h>

#include "base/assert.h"

TR_STATIC(TR_EPERM == -EPERM && TR_ENOENT == -ENOENT && TR_EIO == -EIO && TR_E2BIG == -E2BIG,
          "same meaning, same number");
TR_STATIC(TR_EAGAIN == -EAGAIN && TR_ENOMEM == -ENOMEM && TR_EACCES == -EACCES,
          "same meaning, same number");
TR_STATIC(TR_EBUSY == -EBUSY && TR_EEXIST == -EEXIST && TR_EINVAL == -EINVAL,
          "same meaning, same number");
TR_STATIC(TR_ENFILE == -ENFILE && TR_EMFILE == -EMFILE && TR_EPIPE == -EPIPE,
          "same meaning, same number");
TR_STATIC(TR_ENOSYS == -ENOSYS && TR_EOVERFLOW == -EOVERFLOW && TR_ENOTSUP == -ENOTSUP,
          "same meaning, same number");
TR_STATIC(TR_ETIMEDOUT == -ETIMEDOUT && TR_EALREADY == -EALREADY && TR_ECANCELED == -ECANCELED,
          "same meaning, same number");

/* The kernel returns errors as -4095 to -1, so nothing of its own can collide with ours. */
enum {
    ERRNO_MAX = 4095
};

#define TR__IS_APART(name, value, message) &&((value) >= -ERRNO_MAX || (value) < -ERRNO_MAX - 1)
TR_STATIC(1 TR_ERROR_LIST(TR__IS_APART), "own codes lie below the kernel's");

static int is_errno(int code)
{
    return code < 0 && code >= -ERRNO_MAX;
}

const char *tr_error_name(int code)
{
    switch (code) {
    case TR_OK:
        return "TR_OK";
#define TR__NAME_CASE(name, value, message)                                                        \
    case name:                                                                                     \
        return #name;
        TR_ERROR_LIST(TR__NAME_CASE)
#undef TR__NAME_CASE
    default:
        break;
    }
    const char *name = is_errno(code) ? strerrorname_np(-code) : NULL;
    return name != NULL ? name : "TR_UNKNOWN";
}

const char *tr_error_message(int code)
{
    switch (code) {
    case TR_OK:
        return "success";
#define TR__MESSAGE_CASE(name, value, message)                                                     \
    case name:                                                                                     \
        return message;
        TR_ERROR_LIST(TR__MESSAGE_CASE)
#undef TR__MESSAGE_CASE
    default:
        break;
    }
    const char *message = is_errno(code) ? strerrordesc_np(-code) : NULL;
    return message != NULL ? message : "unknown error";
}
