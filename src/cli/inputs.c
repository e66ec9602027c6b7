/*
 * inputs.c: the programs whose standard input is kept open.
 *
 * Threads: a call's function enters and leaves (command.c); the reader closes when it has read the
 * last order. Calls the engine under the lock: closing an input never blocks.
 *
 * Invariants:
 *  1. An entry is in the ring exactly while its program may run; its memory is the function's own.
 *  2. Once `over` is set nothing is entered: a call that was queued until then starts its program
 *     with an input that ends after what the call gave.
 *
 * Finding one looks at all of them: they are few, and only orders to them ask.
 *
 * Rejected: a word of the engine that a program has started, to be waited for. Only this and an
 * order that comes too early want it, and both can look again.
 */
#include "inputs.h"

void cli_inputs_init(struct cli_inputs *inputs)
{
    *inputs = (struct cli_inputs){0};
    inputs->ring.after = inputs->ring.before = &inputs->ring;
    (void)pthread_mutex_init(&inputs->lock, NULL); /* a plain one: cannot fail */
}

static void lock(struct cli_inputs *inputs)
{
    (void)pthread_mutex_lock(&inputs->lock); /* a plain mutex, never locked twice */
}

static void unlock(struct cli_inputs *inputs)
{
    (void)pthread_mutex_unlock(&inputs->lock); /* as above */
}

bool cli_inputs_enter(struct cli_inputs *inputs, struct cli_input *input, tr_task_id task)
{
    lock(inputs);
    bool entered = !inputs->over;
    if (entered) {
        *input = (struct cli_input){&inputs->ring, inputs->ring.before, task, false};
        input->before->after = input;
        inputs->ring.before = input;
    }
    unlock(inputs);
    return entered;
}

void cli_inputs_leave(struct cli_inputs *inputs, struct cli_input *input)
{
    lock(inputs);
    input->before->after = input->after;
    input->after->before = input->before;
    unlock(inputs);
}

/* The entry of a task; NULL if there is none. */
static struct cli_input *entry_of(struct cli_inputs *inputs, tr_task_id task)
{
    struct cli_input *input = inputs->ring.after;
    while (input != &inputs->ring && input->task != task)
        input = input->after;
    return input != &inputs->ring ? input : NULL;
}

int cli_inputs_close(struct cli_inputs *inputs, tr_manager *manager, tr_task_id task)
{
    lock(inputs);
    int status = tr_task_input_close(manager, task);
    struct cli_input *input = entry_of(inputs, task);
    if (status == 0 && input != NULL)
        input->closed = true;
    unlock(inputs);
    return status;
}

bool cli_inputs_is_closed(struct cli_inputs *inputs, tr_task_id task)
{
    lock(inputs);
    const struct cli_input *input = entry_of(inputs, task);
    bool closed = input != NULL && input->closed;
    unlock(inputs);
    return closed;
}

size_t cli_inputs_close_all(struct cli_inputs *inputs, tr_manager *manager)
{
    size_t left = 0;
    lock(inputs);
    inputs->over = true;
    for (struct cli_input *input = inputs->ring.after; input != &inputs->ring;
         input = input->after) {
        if (!input->closed)
            input->closed = tr_task_input_close(manager, input->task) == 0;
        left += input->closed ? 0 : 1;
    }
    unlock(inputs);
    return left;
}
