/*
 * inputs.h: the programs whose standard input is kept open, so that the end of the orders can end
 * their input too: nobody could write to them any more, and they would wait for ever.
 */
#ifndef CLI_INPUTS_H
#define CLI_INPUTS_H

#include <pthread.h>
#include <toolring.h>

/** One of them; in the memory of the function that runs the program. */
struct cli_input {
    struct cli_input *after, *before; /**< neighbours in the ring */
    tr_task_id task;                  /**< whose program it is */
    bool closed;                      /**< its input has been closed from here */
};

/** All of them. */
struct cli_inputs {
    pthread_mutex_t lock;  /**< guards everything */
    struct cli_input ring; /**< its head */
    bool over;             /**< no order will come any more */
};

/** Prepares the ring. */
void cli_inputs_init(struct cli_inputs *inputs);

/** Enters a program before it is started. Returns whether its input may be kept open: not any more
 *  when the orders are over; then it was not entered. */
bool cli_inputs_enter(struct cli_inputs *inputs, struct cli_input *input, tr_task_id task);

/** Takes a program out that has ended. */
void cli_inputs_leave(struct cli_inputs *inputs, struct cli_input *input);

/** Closes the input of a task's program after an order. Returns what tr_task_input_close does. */
int cli_inputs_close(struct cli_inputs *inputs, tr_manager *manager, tr_task_id task);

/** Whether an order has closed the input of a task's program, which still runs. */
bool cli_inputs_is_closed(struct cli_inputs *inputs, tr_task_id task);

/** The orders are over: closes every input. Returns how many cannot be closed yet, because their
 *  program is only being started, or is ending: call it again after a while. */
size_t cli_inputs_close_all(struct cli_inputs *inputs, tr_manager *manager);

#endif
