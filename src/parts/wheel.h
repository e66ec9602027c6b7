/*
 * wheel.h: hierarchical timer wheel with intrusive entries, for one owner thread.
 *
 * Eight levels of 64 slots count ticks of tick_ns. A deadline is rounded up to a whole tick, so an
 * entry is never popped before its deadline and at most one tick late when the owner looks in time.
 * Eight levels cover 2^48 ticks, which is the whole 64-bit nanosecond clock for every tick length
 * allowed (see TR__WHEEL_TICK_NS_MIN): no deadline is ever too far away.
 *
 * Threads: one owner; nothing here is atomic. Memory: entries belong to the caller and must stay
 * in place while armed; the wheel itself must stay in place after tr__wheel_init.
 */
#ifndef TR__PARTS_WHEEL_H
#define TR__PARTS_WHEEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define TR__WHEEL_LEVELS 8
#define TR__WHEEL_SLOT_BITS 6
#define TR__WHEEL_SLOTS (1 << TR__WHEEL_SLOT_BITS)

/* Shortest tick: UINT64_MAX / TR__WHEEL_TICK_NS_MIN + 1 must be below 2^48. */
#define TR__WHEEL_TICK_NS_MIN 100000u

/* A place on a circular list; `next` is NULL while an entry is not armed. */
struct tr__wheel_link {
    struct tr__wheel_link *next;
    struct tr__wheel_link *prev;
};

/* Embedded in whatever waits: 24 bytes. */
struct tr__wheel_entry {
    struct tr__wheel_link link; /* first member: an entry and its link share an address */
    uint64_t deadline_ns;       /* exact, as given to tr__wheel_arm; readable after the pop */
};

struct tr__wheel {
    uint64_t tick;        /* every entry whose tick is at or before this one is on `due` */
    uint64_t tick_end_ns; /* start of the following tick: before it there is nothing to advance */
    uint64_t tick_ns;
    size_t count;                        /* armed entries, those on `due` included */
    uint64_t occupied[TR__WHEEL_LEVELS]; /* bit s of word l: slot s of level l is not empty */
    struct tr__wheel_link due;           /* expired, in order of tick, then of arming */
    struct tr__wheel_link slots[TR__WHEEL_LEVELS * TR__WHEEL_SLOTS];
};

/* Makes an empty wheel whose clock stands at now_ns. tick_ns >= TR__WHEEL_TICK_NS_MIN. */
void tr__wheel_init(struct tr__wheel *wheel, uint64_t tick_ns, uint64_t now_ns);

/* Makes an unarmed entry. */
void tr__wheel_entry_init(struct tr__wheel_entry *entry);

/*
 * Arms an unarmed entry. A deadline at or before the wheel's clock is popped next, after all that
 * is already due. UINT64_MAX, and any deadline inside the clock's very last tick, never expires.
 */
void tr__wheel_arm(struct tr__wheel *wheel, struct tr__wheel_entry *entry, uint64_t deadline_ns);

/* Disarms an entry; does nothing to an unarmed one. Also allowed between expiry and pop. */
void tr__wheel_disarm(struct tr__wheel *wheel, struct tr__wheel_entry *entry);

/* True from tr__wheel_arm until tr__wheel_disarm or the pop. */
static inline bool tr__wheel_is_armed(const struct tr__wheel_entry *entry)
{
    return entry->link.next != NULL;
}

/*
 * The time in nanoseconds at which the owner must look again: the next expiry, or an earlier time
 * at which entries must move down a level. Never later than the earliest deadline rounded up to a
 * tick; at or before the present when something is due already; UINT64_MAX when the wheel is empty
 * or nothing in it can ever expire.
 */
uint64_t tr__wheel_next(const struct tr__wheel *wheel);

/* The same, but what is due already counts by its deadline: how late the owner is. */
uint64_t tr__wheel_first(const struct tr__wheel *wheel);

/*
 * Takes one entry due at now_ns off the wheel and returns it unarmed, or NULL when none is due.
 * All that is due at now_ns is queued before anything armed after this call, so an owner that arms
 * entries for the past from inside its handlers starves nobody; such an owner must bound its own
 * batch, since the wheel keeps answering. A now_ns behind an earlier one counts as the earlier one.
 * Cost: constant, plus at most one move per level over the whole life of each entry.
 */
struct tr__wheel_entry *tr__wheel_pop(struct tr__wheel *wheel, uint64_t now_ns);

/* Number of armed entries. */
static inline size_t tr__wheel_count(const struct tr__wheel *wheel)
{
    return wheel->count;
}

#endif
