/*
 * book.c: the program's bookkeeping of calls, and the sleeping of the reader.
 *
 * Threads: the reader (main) enters, launches and waits; the writer settles; the control thread
 * interrupts and stops; the event thread asks for labels. All under `lock`, which is never held
 * across a launch (a launch may wait for room that only the writer can make).
 *
 * A call is freed only when both the reader has come back from the launch (`launching`) and the
 * writer has written its line (`resolved`): the line may be written before the launch returns.
 * It is then remembered as ended, so that a cancel that comes too late is told apart from a
 * wrong call id; the oldest of more than ENDED_KEPT is forgotten.
 *
 * Invariants:
 *  1. live_count = calls entered - calls refused - resolutions settled; a turn's likewise.
 *  2. A turn's front_count counts its calls with in_front; each leaves exactly once: by its
 *     resolution, by its detach, or when the launch said background.
 *  3. `changed` is signalled only when what the reader sleeps for has become true, or at the stop.
 *  4. At most one call per call id has is_latest, and exactly that one is in calls_latest.
 *
 * Everything is constant time per call but interrupt_all (the open turns) and cli_book_done.
 */
#include "book.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "places.h"

enum {
    ENDED_KEPT = 16384,
    MILLISECONDS = 1000,
    NANOSECONDS_PER_MILLISECOND = 1000000
};

int cli_book_init(struct cli_book *book, tr_manager *manager, tr_queue *queue)
{
    *book = (struct cli_book){.manager = manager, .queue = queue};
    pthread_condattr_t attributes;
    if (pthread_mutex_init(&book->lock, NULL) != 0)
        return TR_ENOMEM;
    if (pthread_condattr_init(&attributes) != 0)
        return TR_ENOMEM;
    int status = pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC) == 0 &&
                         pthread_cond_init(&book->changed, &attributes) == 0
                     ? 0
                     : TR_ENOMEM;
    (void)pthread_condattr_destroy(&attributes); /* cannot fail on an initialised one */
    cli_places_init(book);
    return status;
}

void cli_book_done(struct cli_book *book)
{
    for (size_t at = 0; at < book->calls.bucket_count; at++) {
        while (book->calls.buckets[at] != NULL) {
            struct cli_call *call =
                CLI_INDEX_OWNER(book->calls.buckets[at], struct cli_call, by_key);
            cli_index_remove(&book->calls, &call->by_key);
            free(call);
        }
    }
    cli_index_done(&book->calls);
    cli_index_done(&book->calls_latest);
    cli_places_done(book);
    (void)pthread_cond_destroy(&book->changed); /* nobody sleeps on it any more */
    (void)pthread_mutex_destroy(&book->lock);
}

static void lock(struct cli_book *book)
{
    (void)pthread_mutex_lock(&book->lock); /* a plain mutex, never locked twice */
}

static void unlock(struct cli_book *book)
{
    (void)pthread_mutex_unlock(&book->lock); /* as above */
}

void cli_book_sleep(struct cli_book *book, enum cli_wait wait, struct cli_turn *turn)
{
    book->waiting = wait;
    book->waiting_turn = turn;
    (void)pthread_cond_wait(&book->changed, &book->lock); /* spurious returns: callers look again */
    book->waiting = CLI_WAIT_NOTHING;
    book->waiting_turn = NULL;
}

/* Wakes the reader if what it sleeps for is true. */
static void wake(struct cli_book *book)
{
    bool due = book->stopped;
    if (book->waiting == CLI_WAIT_TURN)
        due = due || book->waiting_turn->front_count == 0;
    else if (book->waiting == CLI_WAIT_IDLE)
        due = due || book->live_count == 0;
    else if (book->waiting == CLI_WAIT_ROOM)
        due = due || book->turns_idle_count > 0;
    if (due && book->waiting != CLI_WAIT_NOTHING)
        (void)pthread_cond_signal(&book->changed); /* cannot fail */
}

static uint64_t call_hash(uint64_t seed, const struct cli_call *call)
{
    return cli_hash(seed, call->call_id, call->call_id_size);
}

static struct cli_call *call_of(struct cli_book *book, uint64_t serial, const char *call_id)
{
    uint64_t hash = cli_hash(serial, call_id, strlen(call_id));
    struct cli_index_entry *entry = cli_index_first(&book->calls, hash);
    for (; entry != NULL; entry = cli_index_next(entry)) {
        struct cli_call *call = CLI_INDEX_OWNER(entry, struct cli_call, by_key);
        if (call->session_serial == serial && strcmp(call->call_id, call_id) == 0)
            return call;
    }
    return NULL;
}

static struct cli_call *latest_call(struct cli_book *book, const char *call_id)
{
    uint64_t hash = cli_hash(0, call_id, strlen(call_id));
    struct cli_index_entry *entry = cli_index_first(&book->calls_latest, hash);
    for (; entry != NULL; entry = cli_index_next(entry)) {
        struct cli_call *call = CLI_INDEX_OWNER(entry, struct cli_call, by_name);
        if (strcmp(call->call_id, call_id) == 0)
            return call;
    }
    return NULL;
}

/* Takes a call out of the indices and frees it. */
static void forget(struct cli_book *book, struct cli_call *call)
{
    cli_index_remove(&book->calls, &call->by_key);
    if (call->is_latest)
        cli_index_remove(&book->calls_latest, &call->by_name);
    free(call);
}

/* Forgets a call of the list of ended ones. */
static void forget_ended(struct cli_book *book, struct cli_call *call)
{
    if (call->ended_before != NULL)
        call->ended_before->ended_after = call->ended_after;
    else
        book->ended_first = call->ended_after;
    if (call->ended_after != NULL)
        call->ended_after->ended_before = call->ended_before;
    else
        book->ended_last = call->ended_before;
    book->ended_count--;
    forget(book, call);
}

/* Both reader and writer are done with a call: remembers it as ended. */
static void remember_ended(struct cli_book *book, struct cli_call *call)
{
    call->turn = NULL;
    call->ended_before = book->ended_last;
    if (book->ended_last != NULL)
        book->ended_last->ended_after = call;
    else
        book->ended_first = call;
    book->ended_last = call;
    book->ended_count++;
    while (book->ended_count > ENDED_KEPT)
        forget_ended(book, book->ended_first);
}

static void leave_front(struct cli_call *call)
{
    if (call->in_front) {
        call->in_front = false;
        call->turn->front_count--;
    }
}

static void leave_turn(struct cli_book *book, struct cli_call *call)
{
    leave_front(call);
    cli_places_leave(book, call->turn);
    book->live_count--;
}

/* Makes a call of a turn and enters it into the indices. */
static int make_call(struct cli_book *book, struct cli_turn *turn, const char *call_id,
                     struct cli_call **ret_call)
{
    size_t size = strlen(call_id);
    struct cli_call *call = calloc(1, sizeof(*call) + size + 1);
    if (call == NULL)
        return TR_ENOMEM;
    memcpy(call->call_id, call_id, size + 1);
    call->call_id_size = (uint8_t)size;
    call->turn = turn;
    call->session_serial = turn->session->serial;
    call->launching = true;
    if (!cli_index_add(&book->calls, &call->by_key, call_hash(call->session_serial, call))) {
        free(call);
        return TR_ENOMEM;
    }
    struct cli_call *former = latest_call(book, call_id);
    if (former != NULL) {
        cli_index_remove(&book->calls_latest, &former->by_name);
        former->is_latest = false;
    }
    call->is_latest = cli_index_add(&book->calls_latest, &call->by_name, call_hash(0, call));
    *ret_call = call;
    return 0;
}

static int enter(struct cli_book *book, const char *session_label, const char *turn_label,
                 const char *call_id, struct cli_call **ret_call)
{
    if (book->stopped)
        return TR_ECLOSED;
    cli_places_trim(book);
    struct cli_session *session = cli_places_session(book, session_label);
    struct cli_call *former = session == NULL ? NULL : call_of(book, session->serial, call_id);
    if (former != NULL && former->turn != NULL)
        return TR_EEXIST;
    if (former != NULL)
        forget_ended(book, former);
    struct cli_turn *turn;
    int status = cli_places_use(book, session_label, turn_label, &turn);
    if (status < 0)
        return status;
    return make_call(book, turn, call_id, ret_call);
}

int cli_book_enter(struct cli_book *book, const char *session, const char *turn,
                   const char *call_id, bool in_front, struct cli_call **ret_call)
{
    lock(book);
    int status = enter(book, session, turn, call_id, ret_call);
    if (status == 0) {
        cli_places_arrive(book, (*ret_call)->turn);
        book->live_count++;
        (*ret_call)->in_front = in_front;
        (*ret_call)->turn->front_count += in_front ? 1 : 0;
    }
    unlock(book);
    return status;
}

void cli_book_launched(struct cli_book *book, struct cli_call *call, tr_task_id task, tr_kind kind)
{
    lock(book);
    call->task = task;
    call->launching = false;
    if (call->resolved)
        remember_ended(book, call);
    else if (kind == TR_KIND_BACKGROUND)
        leave_front(call);
    unlock(book);
}

void cli_book_refused(struct cli_book *book, struct cli_call *call)
{
    lock(book);
    leave_turn(book, call);
    forget(book, call);
    unlock(book);
}

void cli_book_settle(struct cli_book *book, const tr_item *items, size_t count)
{
    lock(book);
    for (size_t index = 0; index < count; index++) {
        struct cli_call *call = items[index].user;
        if (items[index].type == TR_ITEM_DETACHED) {
            leave_front(call);
        } else if (items[index].type == TR_ITEM_RESOLUTION) {
            leave_turn(book, call);
            call->resolved = true;
            if (!call->launching)
                remember_ended(book, call);
        }
    }
    wake(book);
    unlock(book);
}

void cli_book_wait_turn(struct cli_book *book, const char *session, const char *turn)
{
    lock(book);
    struct cli_turn *place = cli_places_turn(book, session, turn);
    while (place != NULL && place->front_count > 0 && !book->stopped)
        cli_book_sleep(book, CLI_WAIT_TURN, place);
    unlock(book);
}

void cli_book_wait_idle(struct cli_book *book)
{
    lock(book);
    while (book->live_count > 0 && !book->stopped)
        cli_book_sleep(book, CLI_WAIT_IDLE, NULL);
    unlock(book);
}

void cli_book_pause(struct cli_book *book, uint64_t milliseconds)
{
    struct timespec until;
    (void)clock_gettime(CLOCK_MONOTONIC, &until); /* a clock that exists */
    until.tv_sec += (time_t)(milliseconds / MILLISECONDS);
    until.tv_nsec += (long)(milliseconds % MILLISECONDS) * NANOSECONDS_PER_MILLISECOND;
    if (until.tv_nsec >= (long)TR_SECOND) {
        until.tv_nsec -= (long)TR_SECOND;
        until.tv_sec++;
    }
    lock(book);
    book->waiting = CLI_WAIT_STOP;
    while (!book->stopped)
        if (pthread_cond_timedwait(&book->changed, &book->lock, &until) != 0)
            break;
    book->waiting = CLI_WAIT_NOTHING;
    unlock(book);
}

void cli_book_interrupt(struct cli_book *book, const char *session, const char *turn)
{
    lock(book);
    struct cli_turn *place = cli_places_turn(book, session, turn);
    if (place != NULL && place->front_count > 0)
        (void)tr_turn_interrupt(book->manager, place->id, "interrupted"); /* open; count unused */
    unlock(book);
}

size_t cli_book_interrupt_all(struct cli_book *book, const char *reason)
{
    size_t count = 0;
    lock(book);
    for (size_t at = 0; at < book->turns.bucket_count; at++) {
        struct cli_index_entry *entry = book->turns.buckets[at];
        for (; entry != NULL; entry = entry->next) {
            struct cli_turn *turn = CLI_INDEX_OWNER(entry, struct cli_turn, by_key);
            if (turn->front_count == 0)
                continue;
            (void)tr_turn_interrupt(book->manager, turn->id, reason); /* as above */
            count++;
        }
    }
    unlock(book);
    return count;
}

/* The call that an order means. */
static struct cli_call *meant_call(struct cli_book *book, const char *session, const char *call_id)
{
    if (session == NULL)
        return latest_call(book, call_id);
    struct cli_session *place = cli_places_session(book, session);
    return place == NULL ? NULL : call_of(book, place->serial, call_id);
}

enum cli_found cli_book_find(struct cli_book *book, const char *session, const char *call_id,
                             struct cli_target *ret_target)
{
    enum cli_found found = CLI_FOUND_NONE;
    lock(book);
    const struct cli_call *call = meant_call(book, session, call_id);
    if (call != NULL) {
        found = call->turn == NULL ? CLI_FOUND_ENDED : CLI_FOUND_LIVE;
        *ret_target = (struct cli_target){call->task, call->abilities};
    }
    unlock(book);
    return found;
}

bool cli_book_labels(struct cli_book *book, tr_turn_id id, char session[TR_LABEL_BYTES_MAX + 1],
                     char label[TR_LABEL_BYTES_MAX + 1])
{
    lock(book);
    const struct cli_turn *turn = cli_places_turn_by_id(book, id);
    (void)snprintf(session, TR_LABEL_BYTES_MAX + 1, "%s", /* labels are bounded: nothing is cut */
                   turn == NULL ? "" : turn->session->label);
    (void)snprintf(label, TR_LABEL_BYTES_MAX + 1, "%s", turn == NULL ? "" : turn->label);
    unlock(book);
    return turn != NULL;
}

void cli_book_stop(struct cli_book *book)
{
    lock(book);
    book->stopped = true;
    wake(book);
    unlock(book);
}

bool cli_book_is_stopped(struct cli_book *book)
{
    lock(book);
    bool stopped = book->stopped;
    unlock(book);
    return stopped;
}
