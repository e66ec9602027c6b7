/*
 * model.c: what is known of every call, turn and session, and what an item must be to fit.
 *
 * Invariants
 *  1. A record is never freed or reused during a run: `user` pointers are checked by their range.
 *  2. A turn's `foreground` goes up after a launch or attach has returned and down when its waiter
 *     has the item, so at the waiter's entry it is never more than the manager's own count.
 *  3. A flag that allows something (closing, may_stop) is set before the operation, one that
 *     forbids something (closed_at, stopped) after it.
 */
#include <stdlib.h>
#include <string.h>

#include "contract/contract.h"

struct world *world;

uint64_t stamp(void)
{
    return atomic_fetch_add(&world->stamp, 1) + 1;
}

void model_open(struct world *w)
{
    w->homes_max = w->indexes + 64;
    w->close_at = w->shape.close_at < w->operations_count ? w->shape.close_at : w->operations_count;
    (void)sem_init(&w->close_now, 0, 0); /* with these arguments it cannot fail */
    w->records = calloc((size_t)w->indexes * GROUP_MAX + 1, sizeof *w->records);
    w->sessions = calloc(w->homes_max, sizeof *w->sessions);
    w->turns = calloc(w->homes_max, sizeof *w->turns);
    w->ids_size = 64;
    while (w->ids_size < w->indexes * GROUP_MAX * 2) {
        w->ids_size *= 2;
    }
    w->ids = calloc(w->ids_size, sizeof *w->ids);
    if (w->records == NULL || w->sessions == NULL || w->turns == NULL || w->ids == NULL) {
        abort();
    }
    for (uint32_t i = 0; i < w->indexes * GROUP_MAX; i++) {
        w->records[i].index = i;
        (void)pthread_mutex_init(&w->records[i].lock, NULL);
    }
    for (uint32_t i = 0; i < w->homes_max; i++) {
        (void)pthread_mutex_init(&w->turns[i].waiter, NULL);
        w->turns[i].index = i;
        w->sessions[i].index = i;
    }
    for (unsigned i = 0; i < SESSION_PLACES; i++) {
        (void)pthread_mutex_init(&w->places[i].lock, NULL);
    }
    for (unsigned i = 0; i < THREADS_MAX; i++) {
        (void)pthread_mutex_init(&w->token_lock[i], NULL);
    }
    (void)pthread_mutex_init(&w->kept_lock, NULL);
}

void model_done(struct world *w)
{
    for (uint32_t i = 0; i < w->indexes * GROUP_MAX; i++) {
        free(w->records[i].input);
    }
    (void)sem_destroy(&w->close_now);
    free(w->records);
    free(w->sessions);
    free(w->turns);
    free(w->ids);
}

struct record *record_of(void *user)
{
    struct record *record = user;
    MUST(record >= world->records && record < world->records + world->indexes * GROUP_MAX &&
             record == &world->records[record->index],
         "a user pointer that was never given: %p", user);
    MUST(record->launch != LAUNCH_NONE, "call %u was never launched", record->index);
    return record;
}

struct record *record_at(uint32_t operation, uint32_t call)
{
    return &world->records[operation * GROUP_MAX + call];
}

static struct change *change_add(struct record *record, enum change_kind what, int value)
{
    if (record->changes_count == CHANGES_MAX) {
        return NULL;
    }
    struct change *change = &record->changes[record->changes_count++];
    change->what = what;
    change->value = value;
    change->result = 1;
    change->from = stamp();
    change->to = 0;
    return change;
}

static tr_route effective_route(const struct plan *plan)
{
    tr_route route = plan->options.route;
    route = route == TR_ROUTE_DEFAULT ? plan->routed : route;
    route = route == TR_ROUTE_DEFAULT && plan->awaiting ? TR_ROUTE_BACKGROUND : route;
    return route == TR_ROUTE_DEFAULT ? TR_ROUTE_FOREGROUND : route;
}

void record_prepare(struct record *record, struct model_turn *turn)
{
    const struct plan *plan = &record->plan;
    tr_route route = effective_route(plan);
    tr_delivery delivery = plan->options.delivery;
    tr_continue continuation = plan->options.continuation;
    if (delivery == TR_DELIVERY_DEFAULT) {
        delivery = plan->awaiting ? TR_DELIVERY_MANUAL : TR_DELIVERY_TO_LOOP;
    }
    if (continuation == TR_CONTINUE_DEFAULT) {
        continuation = plan->awaiting ? TR_CONTINUE_REQUEST : TR_CONTINUE_NOTIFY;
    }
    record->turn = turn;
    change_end(record,
               change_add(record, CHANGE_KIND,
                          route == TR_ROUTE_BACKGROUND ? TR_KIND_BACKGROUND : TR_KIND_FOREGROUND),
               0);
    change_end(record, change_add(record, CHANGE_DELIVERY, (int)delivery), 0);
    change_end(record, change_add(record, CHANGE_CONTINUE, (int)continuation), 0);
    atomic_store(&record->launch, LAUNCH_TRIED);
}

struct change *change_begin(struct record *record, enum change_kind what, int value)
{
    (void)pthread_mutex_lock(&record->lock);
    struct change *change = change_add(record, what, value);
    (void)pthread_mutex_unlock(&record->lock);
    return change;
}

void change_end(struct record *record, struct change *change, int result)
{
    (void)pthread_mutex_lock(&record->lock);
    change->result = result;
    change->to = stamp();
    (void)pthread_mutex_unlock(&record->lock);
}

/* Whether another change that took effect began after this one had ended. */
static bool is_superseded(const struct record *record, const struct change *change)
{
    for (uint32_t i = 0; i < record->changes_count; i++) {
        const struct change *other = &record->changes[i];
        if (other->what == change->what && other->result == 0 && change->result == 0 &&
            other->from > change->to) {
            return true;
        }
    }
    return false;
}

bool change_allows(struct record *record, enum change_kind what, int value)
{
    bool allowed = what == CHANGE_KIND && effective_route(&record->plan) == TR_ROUTE_DETACH_AFTER;
    (void)pthread_mutex_lock(&record->lock);
    for (uint32_t i = 0; i < record->changes_count && !allowed; i++) {
        const struct change *change = &record->changes[i];
        allowed = change->what == what && change->value == value && change->result >= 0 &&
                  !is_superseded(record, change);
    }
    (void)pthread_mutex_unlock(&record->lock);
    return allowed;
}

bool record_may_be_detached(struct record *record)
{
    bool may = effective_route(&record->plan) == TR_ROUTE_DETACH_AFTER;
    (void)pthread_mutex_lock(&record->lock);
    for (uint32_t i = 1; i < record->changes_count && !may; i++) {
        const struct change *change = &record->changes[i];
        may = change->what == CHANGE_KIND && change->value == TR_KIND_BACKGROUND &&
              change->result >= 0;
    }
    (void)pthread_mutex_unlock(&record->lock);
    return may;
}

void record_identify(struct record *record, uint64_t id)
{
    uint64_t known = 0;
    MUST(id != 0, "call %u has id 0", record->index);
    if (!atomic_compare_exchange_strong(&record->id, &known, id)) {
        MUST(known == id, "call %u has two ids, %#llx and %#llx", record->index,
             (unsigned long long)known, (unsigned long long)id);
        return;
    }
    uint32_t at_index = (uint32_t)chance_mix(id) & (world->ids_size - 1);
    for (;;) {
        uint64_t seen = 0;
        struct place_of_id *place = &world->ids[at_index];
        if (atomic_compare_exchange_strong(&place->id, &seen, id)) {
            atomic_store(&place->record, record->index + 1);
            return;
        }
        MUST(seen != id, "calls %u and %u have the same id %#llx", record->index,
             atomic_load(&place->record) - 1, (unsigned long long)id);
        at_index = (at_index + 1) & (world->ids_size - 1);
    }
}

bool record_may_stop(struct record *record)
{
    struct model_turn *turn = record->turn;
    return record->may_stop || turn->interrupted || turn->closing || turn->session->closing ||
           world->closing;
}

bool record_is_discardable(struct record *record)
{
    struct model_turn *turn = record->turn;
    if (turn->session->discarding) {
        return true;
    }
    return (turn->closing || turn->session->closing) &&
           change_allows(record, CHANGE_KIND, TR_KIND_FOREGROUND);
}

static void record_refused(struct record *record, int error)
{
    struct model_turn *turn = record->turn;
    atomic_store(&record->launch, LAUNCH_REFUSED);
    bool may = error == TR_EAGAIN ||
               (error == TR_ENOENT && (turn->closing || turn->session->closing)) ||
               (error == TR_ECLOSED && (turn->session->closing || world->closing));
    MUST(may, "launch of call %u: %s", record->index, tr_error_name(error));
    MUST(record->resolutions == 0 && record->runs == 0 && record->id == 0,
         "call %u was refused with %s and yet ran", record->index, tr_error_name(error));
}

void record_launched(struct record *record, const tr_launched *launched)
{
    if (launched->status < 0) {
        record_refused(record, launched->status);
        return;
    }
    tr_route route = effective_route(&record->plan);
    bool asks = record->plan.approvals > 0;
    bool here = route == TR_ROUTE_INLINE && !asks;
    atomic_store(&record->launch, LAUNCH_ACCEPTED);
    atomic_fetch_add(&world->accepted, 1);
    record_identify(record, launched->task);
    MUST(launched->status == (here ? TR_READY : TR_PENDING),
         "launch of call %u by route %d: status %d", record->index, (int)route, launched->status);
    MUST((launched->ready != NULL) == here, "launch of call %u: ready %p", record->index,
         (void *)launched->ready);
    bool background = route == TR_ROUTE_BACKGROUND;
    MUST((launched->kind == TR_KIND_BACKGROUND) == background, "launch of call %u: kind %d",
         record->index, (int)launched->kind);
    if (!here && !background) {
        atomic_fetch_add(&record->turn->foreground, 1);
    }
}

void check_found(struct record *record, const char *operation, int result, bool shown_before)
{
    if (result == TR_ENOENT) {
        MUST(shown_before || record->resolutions > 0 || record_is_discardable(record),
             "%s of call %u: TR_ENOENT, though its resolution was never shown", operation,
             record->index);
    }
}
