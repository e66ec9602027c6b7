/*
 * drive.c: the threads that carry operations out, and the operations that make something: launches,
 * with the sessions and turns they need; and closing those.
 *
 * Thread t takes the operations whose index is t modulo the number of threads, in order.
 */
#include <stdlib.h>
#include <string.h>

#include "contract/contract.h"

static struct model_session *session_open(struct place *place, struct chance *chance)
{
    uint32_t index = atomic_fetch_add(&world->sessions_count, 1);
    struct model_session *session = &world->sessions[index];
    tr_session_options options = TR_SESSION_OPTIONS_INIT;
    char label[32];
    (void)snprintf(label, sizeof label, "session-%u", index);
    session->queue = chance_once_in(chance, 3) ? world->queues[chance_below(chance, QUEUES)] : NULL;
    options.label = label;
    options.queue = session->queue;
    options.user = session;
    int result = tr_session_open(world->manager, &options, &session->id);
    if (result < 0) {
        MUST(result == TR_ECLOSED && world->closing, "tr_session_open: %s", tr_error_name(result));
        return NULL;
    }
    atomic_store(&session->opened, true);
    atomic_store(&place->session, session);
    return session;
}

static struct model_turn *turn_open(struct place *place, unsigned which,
                                    struct model_session *session, struct chance *chance)
{
    uint32_t index = atomic_fetch_add(&world->turns_count, 1);
    struct model_turn *turn = &world->turns[index];
    tr_turn_options options = TR_TURN_OPTIONS_INIT;
    bool own = chance_once_in(chance, 6);
    bool unbound = !own && chance_once_in(chance, 2);
    options.queue = own ? world->queues[chance_below(chance, QUEUES)] : NULL;
    options.flags = unbound ? TR_TURN_UNBOUND : 0;
    turn->session = session;
    turn->bound = own || (session->queue != NULL && !unbound);
    int result = tr_turn_open(world->manager, session->id, &options, &turn->id);
    if (result < 0) {
        bool may = ((result == TR_ECLOSED || result == TR_ENOENT) && session->closing) ||
                   (result == TR_ECLOSED && world->closing);
        MUST(may, "tr_turn_open: %s", tr_error_name(result));
        return NULL;
    }
    atomic_store(&turn->opened, true);
    atomic_store(&place->turns[which], turn);
    return turn;
}

/* The turn at a place that the seed names, opened if there is none; or NULL. */
static struct model_turn *turn_wanted(struct chance *chance)
{
    struct place *place = &world->places[chance_below(chance, SESSION_PLACES)];
    unsigned which = chance_below(chance, TURN_PLACES);
    struct model_turn *turn = place->turns[which];
    if (turn != NULL) {
        return turn;
    }
    (void)pthread_mutex_lock(&place->lock);
    struct model_session *session = place->session;
    if (session == NULL) {
        session = session_open(place, chance);
    }
    turn = place->turns[which];
    if (turn == NULL && session != NULL) {
        turn = turn_open(place, which, session, chance);
    }
    (void)pthread_mutex_unlock(&place->lock);
    return turn;
}

struct model_turn *turn_at(uint64_t seed)
{
    struct chance chance = chance_from(seed, 4);
    struct place *place = &world->places[chance_below(&chance, SESSION_PLACES)];
    return place->turns[chance_below(&chance, TURN_PLACES)];
}

void close_turn(struct model_turn *turn, uint32_t flags)
{
    atomic_store(&turn->closing, true);
    int result = tr_turn_close(world->manager, turn->id, flags);
    if (result < 0) {
        MUST(result == TR_ENOENT, "tr_turn_close: %s", tr_error_name(result));
    } else {
        atomic_store(&turn->closed_at, stamp());
    }
    for (unsigned i = 0; i < SESSION_PLACES; i++) {
        for (unsigned j = 0; j < TURN_PLACES; j++) {
            struct model_turn *seen = turn;
            (void)atomic_compare_exchange_strong(&world->places[i].turns[j], &seen, NULL);
        }
    }
}

void close_session(struct model_session *session, uint32_t flags)
{
    bool discard = (flags & TR_CLOSE_DISCARD) != 0;
    if (discard) {
        atomic_store(&session->discarding, true);
    }
    atomic_store(&session->closing, true);
    int result = tr_session_close(world->manager, session->id, flags);
    MUST(result == 0 || result == TR_EALREADY || result == TR_ENOENT, "tr_session_close: %s",
         tr_error_name(result));
    if (result == 0) {
        uint64_t now = stamp();
        atomic_store(&session->closed_at, now);
        atomic_store(&session->discarded_at, discard ? now : 0);
    }
    for (unsigned i = 0; i < SESSION_PLACES; i++) {
        struct model_session *seen = session;
        if (atomic_compare_exchange_strong(&world->places[i].session, &seen, NULL)) {
            for (unsigned j = 0; j < TURN_PLACES; j++) {
                struct model_turn *turn = world->places[i].turns[j];
                if (turn != NULL && turn->session == session) {
                    (void)atomic_compare_exchange_strong(&world->places[i].turns[j], &turn, NULL);
                }
            }
        }
    }
}

/* The bytes of a request, while it is launched. */
struct letters {
    unsigned char call_id[TR_CALL_ID_BYTES_MAX];
    unsigned char metadata[TR_METADATA_BYTES_MAX];
    unsigned char *input;
};

static void request_fill(struct record *record, struct model_turn *turn, struct letters *letters,
                         tr_request *request)
{
    const struct plan *plan = &record->plan;
    tr_request fresh = TR_REQUEST_INIT(turn->id, world->tools[plan_tool(plan)]);
    if ((record->seed & 16) != 0) {
        fresh.tool = 0;
        fresh.tool_name = plan_tool_name(plan);
    }
    letters->input = malloc(plan->input_bytes + 1);
    pattern_fill(pattern_seed(record, PATTERN_CALL_ID), letters->call_id, plan->call_id_bytes);
    pattern_fill(pattern_seed(record, PATTERN_METADATA), letters->metadata, plan->metadata_bytes);
    pattern_fill(pattern_seed(record, PATTERN_INPUT), letters->input, plan->input_bytes);
    fresh.call_id = (tr_bytes){letters->call_id, plan->call_id_bytes};
    fresh.metadata = (tr_bytes){letters->metadata, plan->metadata_bytes};
    fresh.input = (tr_bytes){letters->input, plan->input_bytes};
    if (plan->borrowed) {
        record->input = letters->input;
        fresh.input_release = release_input;
        fresh.input_context = record;
    }
    fresh.user = record;
    fresh.admit_timeout_ns = plan->admit_timeout_ns;
    fresh.options = plan->options;
    *request = fresh;
}

void launch_operation(const struct operation *operation)
{
    struct chance chance = chance_from(operation->seed, 5);
    uint32_t count = operation->kind == OP_BATCH ? 1 + chance_below(&chance, GROUP_MAX) : 1;
    struct letters letters[GROUP_MAX];
    tr_request requests[GROUP_MAX];
    tr_launched launched[GROUP_MAX];
    struct model_turn *turn = turn_wanted(&chance);
    for (uint32_t i = 0; i < count; i++) {
        struct record *record = record_at(operation->index, i);
        if (i > 0 && chance_once_in(&chance, 4)) {
            struct model_turn *other = turn_wanted(&chance);
            turn = other == NULL ? turn : other;
        }
        if (turn == NULL) {
            return;
        }
        record->seed = chance_next(&chance);
        plan_call(record->seed, &world->shape, &record->plan);
        record_prepare(record, turn);
        request_fill(record, turn, &letters[i], &requests[i]);
    }
    uint64_t from = stamp();
    if (operation->kind == OP_BATCH) {
        int accepted = tr_launch_batch(world->manager, requests, count, launched);
        MUST(accepted >= 0, "tr_launch_batch: %s", tr_error_name(accepted));
    } else {
        launched[0].status = 0;
        launched[0].task = 0;
        launched[0].ready = NULL;
        int status = tr_launch(world->manager, requests, launched);
        launched[0].status = status;
    }
    for (uint32_t i = 0; i < count; i++) {
        struct record *record = record_at(operation->index, i);
        memset(letters[i].call_id, 0xDD, sizeof letters[i].call_id); /* copied by now */
        if (!record->plan.borrowed) {
            memset(letters[i].input, 0xDD, record->plan.input_bytes);
            free(letters[i].input);
        }
        record_launched(record, &launched[i]);
        if (launched[i].status == TR_READY) {
            batch_taken(launched[i].ready, from);
            batch_released(launched[i].ready);
        }
    }
}

void *driver_main(void *argument)
{
    unsigned thread = (unsigned)(uintptr_t)argument;
    for (uint32_t i = 0; i < world->operations_count; i++) {
        const struct operation *operation = &world->operations[i];
        if (operation->index % world->threads != thread) {
            continue;
        }
        at(thread, operation_name(operation->kind));
        if (operation->kind == OP_LAUNCH || operation->kind == OP_BATCH) {
            launch_operation(operation);
        } else {
            steer_operation(operation);
        }
        if (atomic_fetch_add(&world->executed, 1) + 1 == world->close_at) {
            MUST(sem_post(&world->close_now) == 0, "sem_post");
        }
    }
    at(thread, "has finished");
    return NULL;
}
