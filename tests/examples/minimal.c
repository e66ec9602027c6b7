/*
 * minimal.c: the least that a host does: open a manager, register a tool, launch a call in a turn,
 * take its outcome, close. Everything that can fail says so by a negative number.
 *
 *   cc minimal.c -o minimal $(pkg-config --cflags --libs toolring) && ./minimal
 *
 * Prints "HELLO, WORLD". Exit status: 0 if that is what came back.
 */
#include <ctype.h>
#include <stdio.h>
#include <string.h>

#include <toolring.h>

/* A tool: runs on a worker thread, reads its input, sets its result, returns 0 for "completed". */
static int shout(tr_call *call, void *context)
{
    (void)context;
    tr_bytes input = tr_call_input(call);
    void *room;
    int error = tr_result_reserve(call, input.size, &room);
    for (size_t i = 0; error == 0 && i < input.size; i++) {
        ((char *)room)[i] = (char)toupper(((const unsigned char *)input.data)[i]);
    }
    return error < 0 ? error : tr_result_commit(call, input.size);
}

int main(void)
{
    tr_manager *manager;
    tr_session_id session; /* one conversation */
    tr_turn_id turn;       /* one answer of the model, with the calls it asks for */
    tr_tool_id tool;
    tr_tool shouter = TR_TOOL_INIT("shout", shout);
    int error = tr_manager_open(NULL, &manager);
    if (error < 0) {
        fprintf(stderr, "no manager: %s\n", tr_error_message(error));
        return 1;
    }
    if (tr_tool_register(manager, &shouter, &tool) < 0 ||
        tr_session_open(manager, NULL, &session) < 0 ||
        tr_turn_open(manager, session, NULL, &turn) < 0) {
        return 1;
    }
    tr_request request = TR_REQUEST_INIT(turn, tool);
    request.input = (tr_bytes){"hello, world", 12};
    tr_launched launched;
    if (tr_launch(manager, &request, &launched) < 0) {
        return 1;
    }
    bool right = false;
    tr_batch *batch;
    while (tr_turn_wait(manager, turn, NULL, TR_FOREVER, 64, &batch) == TR_WAIT_ITEMS) {
        const tr_item *item = &batch->items[0];
        printf("%.*s\n", (int)item->result.size, (const char *)item->result.data);
        right = item->outcome == TR_OUTCOME_COMPLETED && item->result.size == 12 &&
                memcmp(item->result.data, "HELLO, WORLD", 12) == 0;
        tr_batch_release(batch);
    }
    error = tr_manager_close(manager, TR_SECOND);
    tr_manager_free(manager);
    return right && error == 0 ? 0 : 1;
}
