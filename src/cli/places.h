/*
 * places.h: sessions and turns by their labels; the part of the book that opens and closes them.
 * Every function is called with the book's lock held.
 */
#ifndef CLI_PLACES_H
#define CLI_PLACES_H

#include "book.h"

/** Prepares the lists. */
void cli_places_init(struct cli_book *book);

/** Frees every session and turn; the engine's are left to its close. */
void cli_places_done(struct cli_book *book);

/** Closes the turns and sessions that have been idle longest, down to what is kept. */
void cli_places_trim(struct cli_book *book);

/** Finds a session; NULL if there is none. */
struct cli_session *cli_places_session(struct cli_book *book, const char *label);

/** Finds a turn; `session` NULL: the one used last with this label. NULL if there is none. */
struct cli_turn *cli_places_turn(struct cli_book *book, const char *session, const char *label);

/** Finds a turn by its engine id; NULL if there is none. */
struct cli_turn *cli_places_turn_by_id(struct cli_book *book, tr_turn_id id);

/** Finds a turn or opens it and its session; may sleep for room. Returns 0 or a negative code. */
int cli_places_use(struct cli_book *book, const char *session, const char *label,
                   struct cli_turn **ret_turn);

/** Counts a call in; the turn is idle no more. */
void cli_places_arrive(struct cli_book *book, struct cli_turn *turn);

/** Counts a call out; the turn may have become idle. */
void cli_places_leave(struct cli_book *book, struct cli_turn *turn);

/** Sleeps until what `wait` names may be true or the book is stopped. By the reader. */
void cli_book_sleep(struct cli_book *book, enum cli_wait wait, struct cli_turn *turn);

#endif
