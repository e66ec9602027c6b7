/**
 * @file error.h
 * Error codes. Functions of toolring return an int: zero or more is success, a negative value one
 * of these codes.
 *
 * Where a Linux errno means the same, the code *is* that errno negated, so that the error of a
 * system call passes through unchanged (a tr_io_read of a closed descriptor ends with -EBADF
 * although the list below does not name it). Codes of toolring's own lie below -4096, out of the
 * kernel's reach. The list only grows: no code is ever renumbered, renamed or removed. So treat
 * every negative value as an error, known or not, and show tr_error_name() and tr_error_message().
 */
#ifndef TOOLRING_ERROR_H
#define TOOLRING_ERROR_H

#include <toolring/version.h>

TR_BEGIN_DECLS

/** Every named code as X(name, value, message); an X-macro for tables and bindings. @since 0.1 */
#define TR_ERROR_LIST(X)                                                                           \
    X(TR_EPERM, -1, "operation not permitted")                                                     \
    X(TR_ENOENT, -2, "no such tool, task, turn or session; or its id is stale")                    \
    X(TR_EIO, -5, "input/output error")                                                            \
    X(TR_E2BIG, -7, "larger than the configured bound")                                            \
    X(TR_EAGAIN, -11, "no room at the moment, try again later")                                    \
    X(TR_ENOMEM, -12, "out of memory")                                                             \
    X(TR_EACCES, -13, "access denied")                                                             \
    X(TR_EBUSY, -16, "in use")                                                                     \
    X(TR_EEXIST, -17, "exists already")                                                            \
    X(TR_EINVAL, -22, "invalid argument")                                                          \
    X(TR_ENFILE, -23, "too many open files in the system")                                         \
    X(TR_EMFILE, -24, "too many open files in this process")                                       \
    X(TR_EPIPE, -32, "the other end is closed")                                                    \
    X(TR_ENOSYS, -38, "not implemented by this kernel or build")                                   \
    X(TR_EOVERFLOW, -75, "value too large for its type")                                           \
    X(TR_ENOTSUP, -95, "not supported here")                                                       \
    X(TR_ETIMEDOUT, -110, "time is up")                                                            \
    X(TR_EALREADY, -114, "has ended already")                                                      \
    X(TR_ECANCELED, -125, "cancelled")                                                             \
    X(TR_ESTATE, -4097, "not allowed in the present state")                                        \
    X(TR_ELIMIT, -4098, "a configured limit is reached")                                           \
    X(TR_ECLOSED, -4099, "closed or closing")                                                      \
    X(TR_EDENIED, -4100, "permission denied by the host or the user")                              \
    X(TR_ETOOL, -4101, "the tool reported a failure")                                              \
    X(TR_ERING, -4102, "the kernel refused io_uring")

/** The codes of TR_ERROR_LIST as constants. @since 0.1 */
enum tr_error {
    TR_OK = 0,
#define TR_ERROR_ENUM(name, value, message) name = (value),
    TR_ERROR_LIST(TR_ERROR_ENUM)
#undef TR_ERROR_ENUM
};

/**
 * Name of a code, for logs.
 * @param code a value returned by any function of toolring
 * @return "TR_EINVAL" and so on for the codes above, "TR_OK" for 0, the C name ("EXDEV") for any
 *         other negated errno, "TR_UNKNOWN" for everything else; never NULL
 * @threads any; never blocks
 * @ownership static text, valid for ever
 * @since 0.1
 */
TR_EXPORT const char *tr_error_name(int code);

/**
 * One line of English saying what a code means, the same in every locale.
 * @param code a value returned by any function of toolring
 * @return the message, without full stop or newline; never NULL
 * @threads any; never blocks
 * @ownership static text, valid for ever
 * @since 0.1
 */
TR_EXPORT const char *tr_error_message(int code);

TR_END_DECLS

#endif
