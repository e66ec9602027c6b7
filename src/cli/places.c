/*
 * places.c: sessions and turns by their labels; the part of the book that opens and closes them.
 *
 * Owner: the book's lock, held in every function. Opening, closing and sleeping is the reader's
 * alone; the writer only counts calls out. Calls the engine to open and close turns and sessions.
 *
 * A stream names turns but never says that one is over. So turns stay open while they have
 * calls, and a while longer: the TURNS_IDLE_KEPT that became idle last are kept, older ones are
 * closed and forgotten, and opened anew should their label come back. That bounds memory for any
 * stream.
 *
 * Invariants:
 *  1. A turn is in turns_idle exactly when live_count is 0; closing it then discards nothing.
 *  2. A session is in sessions_idle exactly when turn_count is 0.
 *  3. At most one turn per label has is_latest, and exactly that one is in turns_latest.
 *  4. A turn is kept until TURNS_IDLE_KEPT others have become idle after it. Each of those gave at
 *     least 3 events, so that the event log (8192) has forgotten the turn before the book does, and
 *     an event never lacks its labels.
 *
 * Everything is constant time but trimming, which costs what it closes.
 */
#include "places.h"

#include <stdlib.h>
#include <string.h>

enum {
    TURNS_OPEN_MAX =
        60000, /* below the engine's turns_max of 65 536: closed ones may linger there */
    SESSIONS_OPEN_MAX = 60000, /* as above, for sessions_max */
    TURNS_IDLE_KEPT = 4096,
    SESSIONS_IDLE_KEPT = 1024,
};

static uint64_t label_hash(uint64_t seed, const char *label)
{
    return cli_hash(seed, label, strlen(label));
}

void cli_places_init(struct cli_book *book)
{
    book->sessions_idle.idle_before = book->sessions_idle.idle_after = &book->sessions_idle;
    book->turns_idle.idle_before = book->turns_idle.idle_after = &book->turns_idle;
}

static void session_rest(struct cli_book *book, struct cli_session *session)
{
    struct cli_session *head = &book->sessions_idle;
    session->idle_before = head->idle_before;
    session->idle_after = head;
    head->idle_before->idle_after = session;
    head->idle_before = session;
    book->sessions_idle_count++;
}

static void session_wake(struct cli_book *book, struct cli_session *session)
{
    session->idle_before->idle_after = session->idle_after;
    session->idle_after->idle_before = session->idle_before;
    book->sessions_idle_count--;
}

static void turn_rest(struct cli_book *book, struct cli_turn *turn)
{
    struct cli_turn *head = &book->turns_idle;
    turn->idle_before = head->idle_before;
    turn->idle_after = head;
    head->idle_before->idle_after = turn;
    head->idle_before = turn;
    book->turns_idle_count++;
}

static void turn_wake(struct cli_book *book, struct cli_turn *turn)
{
    turn->idle_before->idle_after = turn->idle_after;
    turn->idle_after->idle_before = turn->idle_before;
    book->turns_idle_count--;
}

/* Takes a turn without calls out of everything. */
static void turn_forget(struct cli_book *book, struct cli_turn *turn)
{
    turn_wake(book, turn);
    cli_index_remove(&book->turns, &turn->by_key);
    cli_index_remove(&book->turns_by_id, &turn->by_id);
    if (turn->is_latest)
        cli_index_remove(&book->turns_latest, &turn->by_name);
    if (--turn->session->turn_count == 0)
        session_rest(book, turn->session);
    free(turn);
}

static void session_forget(struct cli_book *book, struct cli_session *session)
{
    session_wake(book, session);
    cli_index_remove(&book->sessions, &session->by_label);
    free(session);
}

static void close_oldest_turn(struct cli_book *book)
{
    struct cli_turn *turn = book->turns_idle.idle_after;
    (void)tr_turn_close(book->manager, turn->id, 0); /* it is ours and open; nothing is in it */
    turn_forget(book, turn);
}

static void close_oldest_session(struct cli_book *book)
{
    struct cli_session *session = book->sessions_idle.idle_after;
    (void)tr_session_close(book->manager, session->id, 0); /* as above */
    session_forget(book, session);
}

void cli_places_trim(struct cli_book *book)
{
    while (book->turns_idle_count > TURNS_IDLE_KEPT)
        close_oldest_turn(book);
    while (book->sessions_idle_count > SESSIONS_IDLE_KEPT)
        close_oldest_session(book);
}

void cli_places_done(struct cli_book *book)
{
    for (size_t at = 0; at < book->turns.bucket_count; at++) {
        while (book->turns.buckets[at] != NULL) {
            struct cli_turn *turn =
                CLI_INDEX_OWNER(book->turns.buckets[at], struct cli_turn, by_key);
            cli_index_remove(&book->turns, &turn->by_key);
            free(turn);
        }
    }
    for (size_t at = 0; at < book->sessions.bucket_count; at++) {
        while (book->sessions.buckets[at] != NULL) {
            struct cli_session *session =
                CLI_INDEX_OWNER(book->sessions.buckets[at], struct cli_session, by_label);
            cli_index_remove(&book->sessions, &session->by_label);
            free(session);
        }
    }
    cli_index_done(&book->turns);
    cli_index_done(&book->turns_latest);
    cli_index_done(&book->turns_by_id);
    cli_index_done(&book->sessions);
}

struct cli_session *cli_places_session(struct cli_book *book, const char *label)
{
    struct cli_index_entry *entry = cli_index_first(&book->sessions, label_hash(0, label));
    for (; entry != NULL; entry = cli_index_next(entry)) {
        struct cli_session *session = CLI_INDEX_OWNER(entry, struct cli_session, by_label);
        if (strcmp(session->label, label) == 0)
            return session;
    }
    return NULL;
}

/* The turn used last with a label, in whichever session. */
static struct cli_turn *latest_turn(struct cli_book *book, const char *label)
{
    struct cli_index_entry *entry = cli_index_first(&book->turns_latest, label_hash(0, label));
    for (; entry != NULL; entry = cli_index_next(entry)) {
        struct cli_turn *turn = CLI_INDEX_OWNER(entry, struct cli_turn, by_name);
        if (strcmp(turn->label, label) == 0)
            return turn;
    }
    return NULL;
}

static struct cli_turn *turn_of(struct cli_book *book, const struct cli_session *session,
                                const char *label)
{
    uint64_t hash = label_hash(session->serial, label);
    struct cli_index_entry *entry = cli_index_first(&book->turns, hash);
    for (; entry != NULL; entry = cli_index_next(entry)) {
        struct cli_turn *turn = CLI_INDEX_OWNER(entry, struct cli_turn, by_key);
        if (turn->session == session && strcmp(turn->label, label) == 0)
            return turn;
    }
    return NULL;
}

struct cli_turn *cli_places_turn(struct cli_book *book, const char *session, const char *label)
{
    if (session == NULL)
        return latest_turn(book, label);
    struct cli_session *place = cli_places_session(book, session);
    return place == NULL ? NULL : turn_of(book, place, label);
}

struct cli_turn *cli_places_turn_by_id(struct cli_book *book, tr_turn_id id)
{
    struct cli_index_entry *entry =
        cli_index_first(&book->turns_by_id, cli_hash(0, &id, sizeof(id)));
    for (; entry != NULL; entry = cli_index_next(entry)) {
        struct cli_turn *turn = CLI_INDEX_OWNER(entry, struct cli_turn, by_id);
        if (turn->id == id)
            return turn;
    }
    return NULL;
}

static int open_session(struct cli_book *book, const char *label, struct cli_session **ret_session)
{
    while (book->sessions.count >= SESSIONS_OPEN_MAX) {
        if (book->stopped)
            return TR_ECLOSED;
        if (book->sessions_idle_count > 0)
            close_oldest_session(book);
        else if (book->turns_idle_count > 0)
            close_oldest_turn(book);
        else
            cli_book_sleep(book, CLI_WAIT_ROOM, NULL);
    }
    struct cli_session *session = calloc(1, sizeof(*session));
    if (session == NULL)
        return TR_ENOMEM;
    memcpy(session->label, label, strlen(label) + 1);
    tr_session_options options = TR_SESSION_OPTIONS_INIT;
    options.label = label;
    options.queue = book->queue;
    options.user = session;
    int status = tr_session_open(book->manager, &options, &session->id);
    if (status == 0 && !cli_index_add(&book->sessions, &session->by_label, label_hash(0, label))) {
        (void)tr_session_close(book->manager, session->id, 0); /* opened just now */
        status = TR_ENOMEM;
    }
    if (status < 0) {
        free(session);
        return status;
    }
    session->serial = ++book->serial;
    session_rest(book, session);
    *ret_session = session;
    return 0;
}

/* Enters an opened turn into every index. */
static int index_turn(struct cli_book *book, struct cli_turn *turn)
{
    uint64_t key = label_hash(turn->session->serial, turn->label);
    if (!cli_index_add(&book->turns, &turn->by_key, key))
        return TR_ENOMEM;
    if (!cli_index_add(&book->turns_by_id, &turn->by_id,
                       cli_hash(0, &turn->id, sizeof(turn->id)))) {
        cli_index_remove(&book->turns, &turn->by_key);
        return TR_ENOMEM;
    }
    return 0;
}

static int open_turn(struct cli_book *book, struct cli_session *session, const char *label,
                     struct cli_turn **ret_turn)
{
    while (book->turns.count >= TURNS_OPEN_MAX) {
        if (book->stopped)
            return TR_ECLOSED;
        if (book->turns_idle_count > 0)
            close_oldest_turn(book);
        else
            cli_book_sleep(book, CLI_WAIT_ROOM, NULL);
    }
    struct cli_turn *turn = calloc(1, sizeof(*turn));
    if (turn == NULL)
        return TR_ENOMEM;
    memcpy(turn->label, label, strlen(label) + 1);
    turn->session = session;
    tr_turn_options options = TR_TURN_OPTIONS_INIT;
    options.label = label;
    int status = tr_turn_open(book->manager, session->id, &options, &turn->id);
    if (status == 0) {
        status = index_turn(book, turn);
        if (status < 0)
            (void)tr_turn_close(book->manager, turn->id, 0); /* opened just now */
    }
    if (status < 0) {
        free(turn);
        return status;
    }
    if (session->turn_count++ == 0)
        session_wake(book, session);
    turn_rest(book, turn);
    *ret_turn = turn;
    return 0;
}

int cli_places_use(struct cli_book *book, const char *session_label, const char *label,
                   struct cli_turn **ret_turn)
{
    struct cli_session *session = cli_places_session(book, session_label);
    if (session == NULL) {
        int status = open_session(book, session_label, &session);
        if (status < 0)
            return status;
    }
    struct cli_turn *turn = turn_of(book, session, label);
    if (turn == NULL) {
        int status = open_turn(book, session, label, &turn);
        if (status < 0)
            return status;
    }
    if (!turn->is_latest) {
        struct cli_turn *former = latest_turn(book, label);
        if (former != NULL) {
            cli_index_remove(&book->turns_latest, &former->by_name);
            former->is_latest = false;
        }
        turn->is_latest = cli_index_add(&book->turns_latest, &turn->by_name, label_hash(0, label));
    }
    *ret_turn = turn;
    return 0;
}

void cli_places_arrive(struct cli_book *book, struct cli_turn *turn)
{
    if (turn->live_count++ == 0)
        turn_wake(book, turn);
}

void cli_places_leave(struct cli_book *book, struct cli_turn *turn)
{
    if (--turn->live_count == 0)
        turn_rest(book, turn);
}
