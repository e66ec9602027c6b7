/*
 * toolring/stream.h: a running task's streams: its output while it runs and after, its standard
 * input, its signals, its terminal. Included by toolring.h.
 */
#ifndef TOOLRING_STREAM_H
#define TOOLRING_STREAM_H

#include <toolring/error.h>
#include <toolring/types.h>

TR_BEGIN_DECLS

/** A stream of a task. @since 0.1 */
typedef enum tr_stream {
    TR_STREAM_OUT = 0,   /**< standard output; merged streams and terminals are this one */
    TR_STREAM_ERROR = 1, /**< standard error */
} tr_stream;

/** Where a reading of a stream has come to. @since 0.1 */
typedef struct tr_output_mark {
    uint64_t next;    /**< offset in the stream to go on at */
    uint64_t skipped; /**< bytes between the asked offset and the first byte read: not kept */
    uint64_t total;   /**< bytes the stream has brought so far */
    bool end;         /**< the stream is complete and `next` is its end */
} tr_output_mark;

/**
 * Reads a task's captured output, while it runs and after, until its resolution is released. Bytes
 * that were dropped at the cap are skipped and counted, between UTF-8 characters; one reading never
 * brings bytes of both sides of such a gap. A stream that the task does not have (standard error
 * when merged) is empty. A function that runs several programs has the streams of the last one.
 *
 * Readers do not disturb each other. With TR_OVERFLOW_PAUSE the bytes before the furthest `cursor`
 * asked for make room for new ones, once they are half of the cap: ask on until `end`.
 * @param manager the manager
 * @param task the task
 * @param stream which stream
 * @param cursor offset of the first byte wanted, 0 at first, then `ret_mark->next`
 * @param buffer receives bytes; NULL if `size` is 0
 * @param size room in `buffer`, of which up to INT_MAX is used; 0: only tell
 * @param ret_mark receives where the reading has come to
 * @return bytes read, 0 if there are none yet or no more
 * @errors TR_EINVAL bad arguments or a cursor beyond the stream; TR_ENOENT no such task, or its
 *         resolution was released; TR_ESTATE the task has no captured streams (yet)
 * @threads any; never blocks for long: it copies under the capture's lock
 * @ownership a copy
 * @since 0.1
 */
TR_EXPORT int tr_task_output(tr_manager *manager, tr_task_id task, tr_stream stream,
                             uint64_t cursor, void *buffer, size_t size, tr_output_mark *ret_mark);

/**
 * Writes to the standard input (or terminal) of a task's program.
 * @param manager the manager
 * @param task the task
 * @param data the bytes
 * @param size bytes, 1 to 1 GiB
 * @param timeout_ns how long to wait until the program takes any, to TR_FOREVER; 0: not at all
 * @return bytes taken, at least 1; the rest is to be written again
 * @errors TR_EINVAL bad arguments; TR_ENOENT no such task; TR_ESTATE its program has no open input
 *         (not yet started, ended, or without TR_PROCESS_OPEN_INPUT); TR_EAGAIN `timeout_ns` is 0
 *         and the pipe is full, or `input` is still being written; TR_ETIMEDOUT the time is over;
 *         TR_EPIPE the program has closed its input (without a SIGPIPE for the caller); TR_EMFILE,
 *         TR_ENFILE no descriptor to wait with
 * @threads any; blocks up to `timeout_ns`, no longer than there is an open input
 * @ownership `data` is borrowed during the call
 * @since 0.1
 */
TR_EXPORT int tr_task_input(tr_manager *manager, tr_task_id task, const void *data, size_t size,
                            uint64_t timeout_ns);

/**
 * Closes the standard input of a task's program: it reads the end after what was written, the
 * spec's `input` included if that is under way. On a terminal this writes the end-of-file
 * character, which ends the input at the beginning of a line, and more may follow.
 * @param manager the manager
 * @param task the task
 * @return 0
 * @errors TR_EINVAL a NULL manager; TR_ENOENT no such task; TR_ESTATE its program has no open
 *         input; of a terminal alone: TR_EAGAIN it takes no more at the moment, TR_EPIPE nobody has
 *         it open
 * @threads any; never blocks
 * @since 0.1
 */
TR_EXPORT int tr_task_input_close(tr_manager *manager, tr_task_id task);

/**
 * Sends a signal to the process group of a task's program, as its terminal would: descendants in
 * groups of their own do not get it. To end the program with all its tree, cancel the task.
 * @param manager the manager
 * @param task the task
 * @param signal_number the signal, 1 to SIGRTMAX
 * @return 0
 * @errors TR_EINVAL no such signal; TR_ENOENT no such task; TR_ESTATE no program runs in it;
 *         TR_EPERM it has become another user's
 * @threads any; never blocks
 * @since 0.1
 */
TR_EXPORT int tr_task_signal(tr_manager *manager, tr_task_id task, int signal_number);

/**
 * Sets the size of the terminal of a task's program, which gets SIGWINCH.
 * @param manager the manager
 * @param task the task
 * @param rows lines, 1 to 65 535
 * @param columns characters in a line, 1 to 65 535
 * @return 0
 * @errors TR_EINVAL a zero; TR_ENOENT no such task; TR_ESTATE no program with a terminal runs in it
 * @threads any; never blocks
 * @since 0.1
 */
TR_EXPORT int tr_task_resize(tr_manager *manager, tr_task_id task, uint16_t rows, uint16_t columns);

TR_END_DECLS

#endif
