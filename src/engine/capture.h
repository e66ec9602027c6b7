/*
 * capture: one stream's bytes: its beginning and its end within a cap, the count of what is omitted
 * between, a file with all of it where that was asked for, and readers that follow by offset.
 *
 * Not thread-safe by itself: the owner (engine/live) has a mutex. One thread adds, the tool's.
 *
 * At the cap, by tr_overflow:
 *   DROP, KILL  the middle goes. KILL: tr__capture_is_over tells when there was more than the cap.
 *   PAUSE       nothing goes that no reader has passed: tr__capture_room returns 0 pieces. Then do
 *               not read the pipe (nor drain it by a time limit at the program's exit) until
 *               live->room is called. The result has the last bytes only. To give up on the readers
 *               (a stop, a timeout), tr__capture_unpause.
 *
 * Writing to the file is the adding thread's and wants no mutex: after tr__capture_added or _add,
 * outside the mutex, tr__capture_spill_write(capture, false). Who forgets it loses nothing: room,
 * add and end write what they must, but readers wait for the disk then.
 */
#ifndef TR__ENGINE_CAPTURE_H
#define TR__ENGINE_CAPTURE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include <toolring/process.h>
#include <toolring/stream.h>

/* Memory taken at the first byte (less if the cap is less): most commands print less. */
#define TR__CAPTURE_START_BYTES 4096u
/* What is kept when memory is refused from the first byte on. */
#define TR__CAPTURE_SPARE_BYTES 256u

struct tr__capture {
    unsigned char *data; /* `capacity` bytes; `spare`, or a block; NULL before the first byte */
    size_t capacity;     /* never more than capacity_max */
    size_t capacity_max; /* the cap, or what there was when memory was refused */
    size_t bytes_max;    /* the cap */
    size_t used;         /* bytes in `data` */
    size_t head;         /* wrapped: where the ring of the last bytes begins in `data` */
    size_t next;         /* wrapped: where the next byte goes, the oldest of the ring's */
    size_t lent;         /* bytes of the pieces given out by room; not for readers */
    uint64_t total;      /* bytes added */
    uint64_t taken;      /* the furthest reader's cursor */
    tr_overflow overflow;
    bool wrapped;         /* `data` is full: new bytes overwrite the ring's oldest */
    bool starved;         /* PAUSE: there was no room; a reader's to clear */
    bool ended;           /* nothing will be added */
    int spill_fd;         /* -1: none, or no more */
    char *spill_path;     /* owned until a result has it; NULL: none */
    uint64_t spill_max;   /* cap of the file */
    uint64_t spill_bytes; /* bytes in the file */
    unsigned char spare[TR__CAPTURE_SPARE_BYTES];
};

/* Caller's memory, which must not move. `bytes_max` from 1. Takes no memory yet. */
void tr__capture_init(struct tr__capture *capture, size_t bytes_max, tr_overflow overflow);
/* Also removes the file if no result has it. */
void tr__capture_done(struct tr__capture *capture);

/* Keeps all of the stream in a new file of this directory too, "<directory>/<name>" or, if there is
 * one, with a number behind. `name` has no slash. 0, TR_ENOMEM, or what open(2) says, negated. */
int tr__capture_spill(struct tr__capture *capture, const char *directory, const char *name,
                      uint64_t bytes_max);

/* Room to read into directly, 1 to 2 pieces of together at most `size` bytes (from 1), then
 * tr__capture_added(bytes really read, or 0). Returns how many pieces; 0: PAUSE and full. Takes
 * memory as needed; where it is refused the cap becomes what there is already. The mutex need not
 * be held between the two: readers see neither the room nor what it will overwrite. */
int tr__capture_room(struct tr__capture *capture, size_t size, struct iovec pieces[2]);
void tr__capture_added(struct tr__capture *capture, size_t size);
/* The same by copying. Returns how much: all of it but with PAUSE, what fits. */
size_t tr__capture_add(struct tr__capture *capture, const void *data, size_t size);

/* More than the cap was added (KILL). */
bool tr__capture_is_over(const struct tr__capture *capture);
/* PAUSE goes on as DROP. */
void tr__capture_unpause(struct tr__capture *capture);

/* Writes to the file what is not there yet, if it is worth a write or `all`. Full disk, error, cap:
 * the file ends there. May block; the adding thread, with or without the mutex. */
void tr__capture_spill_write(struct tr__capture *capture, bool all);

/* Nothing will be added: the file is closed, spare memory given back. */
void tr__capture_end(struct tr__capture *capture);

/* tr_task_output's work. Afterwards ask tr__capture_made_room. */
int tr__capture_read(struct tr__capture *capture, uint64_t cursor, void *buffer, size_t size,
                     tr_output_mark *ret_mark);
/* Once: the writer was refused room, and now half of it or more is free. */
bool tr__capture_made_room(struct tr__capture *capture);

/* A copy of what was kept, in order, cut at UTF-8 boundaries where bytes are missing; memory by
 * tr__memory_take; the file's path goes over to it. Readers may go on. 0, or TR_ENOMEM: everything
 * is filled in but counted as omitted. */
int tr__capture_result(struct tr__capture *capture, tr_process_output *ret_output);

#endif
