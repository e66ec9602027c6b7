/*
 * streams.c: a host's door to a task's program: its output, input, signals, terminal.
 *
 * Owner thread: any host thread. Called by hosts; calls engine/live.
 *
 * Invariants
 *  1. A reference is held while a live is used, so the task may end and be released meanwhile.
 *  2. Arguments are judged before the id, so that a bad call never depends on a race.
 *
 * Complexity: O(1) but for bytes copied; finding takes the lane's lock, the rest the live's mutex.
 */
#include <limits.h>
#include <signal.h>

#include <toolring.h>

#include "base/limits.h"
#include "engine/live.h"
#include "host/manager.h"

int tr_task_output(tr_manager *manager, tr_task_id task, tr_stream stream, uint64_t cursor,
                   void *buffer, size_t size, tr_output_mark *ret_mark)
{
    struct tr__live *live = NULL;

    if (manager == NULL || (stream != TR_STREAM_OUT && stream != TR_STREAM_ERROR) ||
        (buffer == NULL && size > 0) || ret_mark == NULL) {
        return TR_EINVAL;
    }
    int result = tr__live_find(&manager->engine, task, &live);
    if (result == 0) {
        result = tr__live_read(live, stream, cursor, buffer, size, ret_mark);
        tr__live_drop(live);
    }
    return result;
}

int tr_task_input(tr_manager *manager, tr_task_id task, const void *data, size_t size,
                  uint64_t timeout_ns)
{
    struct tr__live *live = NULL;

    if (manager == NULL || data == NULL || size == 0 || size > TR__INPUT_MAX) {
        return TR_EINVAL;
    }
    int result = tr__live_find(&manager->engine, task, &live);
    if (result == 0) {
        result = tr__live_write(live, data, size, timeout_ns);
        tr__live_drop(live);
    }
    return result;
}

int tr_task_input_close(tr_manager *manager, tr_task_id task)
{
    struct tr__live *live = NULL;

    int result = manager == NULL ? TR_EINVAL : tr__live_find(&manager->engine, task, &live);
    if (result == 0) {
        result = tr__live_input_close(live);
        tr__live_drop(live);
    }
    return result;
}

int tr_task_signal(tr_manager *manager, tr_task_id task, int signal_number)
{
    struct tr__live *live = NULL;

    if (manager == NULL || signal_number < 1 || signal_number > SIGRTMAX) {
        return TR_EINVAL;
    }
    int result = tr__live_find(&manager->engine, task, &live);
    if (result == 0) {
        result = tr__live_signal(live, signal_number);
        tr__live_drop(live);
    }
    return result;
}

int tr_task_resize(tr_manager *manager, tr_task_id task, uint16_t rows, uint16_t columns)
{
    struct tr__live *live = NULL;

    if (manager == NULL || rows == 0 || columns == 0) {
        return TR_EINVAL;
    }
    int result = tr__live_find(&manager->engine, task, &live);
    if (result == 0) {
        result = tr__live_resize(live, rows, columns);
        tr__live_drop(live);
    }
    return result;
}
