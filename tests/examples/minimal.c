/*
 * minimal.c: the least that a host does: open a manager, register a tool, launch a call in a turn,
 * take its outcome, close. Everything that can fail says so by a negative number.
 *
 *   cc minimal.c -o minimal $(pkg-config --cflags --libs toolring) && ./minimal
 *
 * Prints "hello, world". Exit status: 0 if that is what came back.
 */
#include <stdio.h>
#include <toolring.h>

/* A tool: runs on a worker thread, reads its input, sets its result, returns 0 for "completed". */
static int echo(tr_call *call, void *context)
{
    (void)context;
    return tr_result_copy(call, tr_call_input(call).data, tr_call_input(call).size);
}

int main(void)
{
    tr_manager *manager;
    tr_session_id session; /* one conversation */
    tr_turn_id turn;       /* one answer of the model, with the calls it asks for */
    tr_tool_id tool;
    tr_tool echoer = TR_TOOL_INIT("echo", echo);
    if (tr_manager_open(NULL, &manager) < 0 || tr_tool_register(manager, &echoer, &tool) < 0 ||
        tr_session_open(manager, NULL, &session) < 0 ||
        tr_turn_open(manager, session, NULL, &turn) < 0)
        return 1;
    tr_request request = TR_REQUEST_INIT(turn, tool);
    tr_launched launched;
    tr_batch *batch;
    request.input = (tr_bytes){"hello, world", 12};
    if (tr_launch(manager, &request, &launched) < 0 ||
        tr_turn_wait(manager, turn, NULL, TR_FOREVER, 1, &batch) != TR_WAIT_ITEMS)
        return 1;
    tr_bytes result = batch->items[0].result;
    int printed = printf("%.*s\n", (int)result.size, (const char *)result.data);
    tr_batch_release(batch);
    int error = tr_manager_close(manager, TR_SECOND);
    tr_manager_free(manager);
    return error == 0 && printed == 13 ? 0 : 1;
}
