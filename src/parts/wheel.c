/*
 * wheel.c: hierarchical timer wheel.
 *
 * Purpose: arm and disarm deadlines at constant cost, and tell the owner when to look again. The
 * kernel then sees one timeout, the owner's own wait, whatever the number of deadlines.
 * Owner: one thread (the ring thread). Called by engine/ring for operations, detach timers and task
 * timeouts. Calls nothing.
 *
 * Level l has 64 slots of 64^l ticks. An entry's tick (its deadline rounded up) goes to the level
 * of the highest group of six bits in which it differs from the wheel's tick, in the slot those six
 * bits name. So, with W the wheel's tick:
 *
 *  1. An entry on level l agrees with W above group l and is greater in group l: occupied slots of
 *     a level are all later than W's own slot there, and no level ever wraps round.
 *  2. Every entry of level l expires before every entry of level l + 1: the next thing to happen is
 *     the lowest bit of the lowest level that is not empty.
 *  3. Bit s of occupied[l] is set exactly if the list of slot s of level l is not empty.
 *  4. W may jump to any tick before the next occupied slot begins: 1 to 3 still hold, since nothing
 *     lies between. That is why a jump of days costs as much as one of a millisecond.
 *  5. An entry is on `due` exactly if its tick <= W, and W <= the latest now_ns in whole ticks. So
 *     nothing pops early.
 *  6. `due` is a queue. Opening a slot of level 0 appends it whole; opening a higher one moves each
 *     entry to a lower level, in order. So equal ticks pop in the order in which they were armed,
 *     and an entry armed for the past waits behind all that was due at the last pop.
 *
 * An empty list is known by its two neighbours being one link, which then is the list's own head:
 * the slot, and from it the bit to clear, follow from that address. Entries need not know where
 * they are.
 *
 * Complexity: arm, disarm O(1); next O(levels); pop O(1) plus at most 7 moves per entry over its
 * whole life. A slot of level l > 0 is emptied in one pop, so a pop can cost as much as that slot
 * holds entries: a million deadlines within one minute make that about 1100, half an hour away
 * about 150 000 (once in four minutes).
 *
 * Rejected: levels chosen by distance (slots then wrap, and the next event takes a rotation per
 * level); a clamp on far deadlines (eight levels hold the whole clock, so there is none to test); a
 * heap (O(log n), and an index to maintain in each entry); kernel timeouts (42 us per cancel at
 * 10 000 armed).
 */
#include "parts/wheel.h"

#include "base/assert.h"
#include "base/atomic.h"
#include "base/limits.h"

TR_STATIC(TR__WHEEL_TICK_NS >= TR__WHEEL_TICK_NS_MIN,
          "the engine's tick is one the wheel can count");
TR_STATIC(UINT64_MAX / TR__WHEEL_TICK_NS_MIN + 1 <
              (UINT64_C(1) << (TR__WHEEL_LEVELS * TR__WHEEL_SLOT_BITS)),
          "the levels hold every tick of the clock");
TR_STATIC(TR__WHEEL_SLOTS == 64, "a level's slots are the bits of one word");

static void advance(struct tr__wheel *wheel, uint64_t now_ns);
static void open_slot(struct tr__wheel *wheel, unsigned level);
static void place(struct tr__wheel *wheel, struct tr__wheel_link *link, uint64_t tick);
static void unlink_entry(struct tr__wheel *wheel, struct tr__wheel_link *link);
static unsigned lowest_level(const struct tr__wheel *wheel);
static uint64_t first_tick(const struct tr__wheel *wheel, unsigned level);
static uint64_t tick_of_deadline(const struct tr__wheel *wheel, uint64_t deadline_ns);
static uint64_t tick_start_ns(const struct tr__wheel *wheel, uint64_t tick);
static void list_init(struct tr__wheel_link *list);
static void list_append(struct tr__wheel_link *list, struct tr__wheel_link *link);
static void list_splice(struct tr__wheel_link *to, struct tr__wheel_link *from);

void tr__wheel_init(struct tr__wheel *wheel, uint64_t tick_ns, uint64_t now_ns)
{
    TR_ASSERT(tick_ns >= TR__WHEEL_TICK_NS_MIN);
    wheel->tick_ns = tick_ns;
    wheel->tick = now_ns / tick_ns;
    wheel->tick_end_ns = tick_start_ns(wheel, wheel->tick + 1);
    wheel->count = 0;
    list_init(&wheel->due);
    for (unsigned level = 0; level < TR__WHEEL_LEVELS; level++) {
        wheel->occupied[level] = 0;
    }
    for (unsigned index = 0; index < TR__WHEEL_LEVELS * TR__WHEEL_SLOTS; index++) {
        list_init(&wheel->slots[index]);
    }
}

void tr__wheel_entry_init(struct tr__wheel_entry *entry)
{
    entry->link.next = NULL;
    entry->link.prev = NULL;
    entry->deadline_ns = 0;
}

void tr__wheel_arm(struct tr__wheel *wheel, struct tr__wheel_entry *entry, uint64_t deadline_ns)
{
    TR_ASSERT(!tr__wheel_is_armed(entry));
    entry->deadline_ns = deadline_ns;
    wheel->count += 1;
    place(wheel, &entry->link, tick_of_deadline(wheel, deadline_ns));
}

void tr__wheel_disarm(struct tr__wheel *wheel, struct tr__wheel_entry *entry)
{
    if (!tr__wheel_is_armed(entry)) {
        return;
    }
    TR_ASSERT(wheel->count > 0);
    unlink_entry(wheel, &entry->link);
}

uint64_t tr__wheel_next(const struct tr__wheel *wheel)
{
    if (wheel->due.next != &wheel->due) {
        return tick_start_ns(wheel, wheel->tick);
    }
    unsigned level = lowest_level(wheel);
    if (level == TR__WHEEL_LEVELS) {
        return UINT64_MAX;
    }
    return tick_start_ns(wheel, first_tick(wheel, level));
}

uint64_t tr__wheel_first(const struct tr__wheel *wheel)
{
    struct tr__wheel_link *link = wheel->due.next;
    if (link == &wheel->due) {
        return tr__wheel_next(wheel);
    }
    return TR__CONTAINER_OF(link, struct tr__wheel_entry, link)->deadline_ns;
}

struct tr__wheel_entry *tr__wheel_pop(struct tr__wheel *wheel, uint64_t now_ns)
{
    if (now_ns >= wheel->tick_end_ns) {
        advance(wheel, now_ns);
    }
    struct tr__wheel_link *link = wheel->due.next;
    if (link == &wheel->due) {
        return NULL;
    }
    struct tr__wheel_entry *entry = TR__CONTAINER_OF(link, struct tr__wheel_entry, link);
    TR_ASSERT(wheel->count > 0);
    TR_ASSERT(tick_of_deadline(wheel, entry->deadline_ns) <= wheel->tick);
    unlink_entry(wheel, link);
    return entry;
}

static void list_init(struct tr__wheel_link *list)
{
    list->next = list;
    list->prev = list;
}

static void list_append(struct tr__wheel_link *list, struct tr__wheel_link *link)
{
    link->next = list;
    link->prev = list->prev;
    list->prev->next = link;
    list->prev = link;
}

/* Moves all of `from` to the end of `to`; `from` is not empty before and is empty after. */
static void list_splice(struct tr__wheel_link *to, struct tr__wheel_link *from)
{
    from->next->prev = to->prev;
    to->prev->next = from->next;
    from->prev->next = to;
    to->prev = from->prev;
    list_init(from);
}

/* The entry's tick: never before its deadline. */
static uint64_t tick_of_deadline(const struct tr__wheel *wheel, uint64_t deadline_ns)
{
    return deadline_ns / wheel->tick_ns + (deadline_ns % wheel->tick_ns != 0);
}

/* The start of a tick in nanoseconds; UINT64_MAX where the clock ends first. */
static uint64_t tick_start_ns(const struct tr__wheel *wheel, uint64_t tick)
{
    uint64_t start_ns;

    return __builtin_mul_overflow(tick, wheel->tick_ns, &start_ns) ? UINT64_MAX : start_ns;
}

/* Puts a link where its entry's tick belongs relative to the wheel's. */
static void place(struct tr__wheel *wheel, struct tr__wheel_link *link, uint64_t tick)
{
    if (tick <= wheel->tick) {
        list_append(&wheel->due, link);
        return;
    }
    unsigned top_bit = 63u - (unsigned)__builtin_clzll(tick ^ wheel->tick);
    unsigned level = top_bit / TR__WHEEL_SLOT_BITS;
    unsigned slot = (unsigned)(tick >> (level * TR__WHEEL_SLOT_BITS)) % TR__WHEEL_SLOTS;

    wheel->occupied[level] |= UINT64_C(1) << slot;
    list_append(&wheel->slots[level * TR__WHEEL_SLOTS + slot], link);
}

/* Takes a link off its list, and clears the slot's bit if that list is empty now. */
static void unlink_entry(struct tr__wheel *wheel, struct tr__wheel_link *link)
{
    struct tr__wheel_link *next = link->next;
    struct tr__wheel_link *prev = link->prev;

    next->prev = prev;
    prev->next = next;
    link->next = NULL;
    link->prev = NULL;
    wheel->count -= 1;
    if (next == prev && next != &wheel->due) {
        size_t index = (size_t)(next - wheel->slots);
        TR_ASSERT(index < TR__WHEEL_LEVELS * TR__WHEEL_SLOTS);
        wheel->occupied[index / TR__WHEEL_SLOTS] &= ~(UINT64_C(1) << (index % TR__WHEEL_SLOTS));
    }
}

/* The lowest level that holds anything, or TR__WHEEL_LEVELS. */
static unsigned lowest_level(const struct tr__wheel *wheel)
{
    unsigned level = 0;

    while (level < TR__WHEEL_LEVELS && wheel->occupied[level] == 0) {
        level += 1;
    }
    return level;
}

/* The tick at which the first occupied slot of a level, which is not empty, begins. */
static uint64_t first_tick(const struct tr__wheel *wheel, unsigned level)
{
    unsigned shift = level * TR__WHEEL_SLOT_BITS;
    uint64_t slot = (uint64_t)__builtin_ctzll(wheel->occupied[level]);
    uint64_t block = wheel->tick >> shift >> TR__WHEEL_SLOT_BITS;

    return (block << TR__WHEEL_SLOT_BITS | slot) << shift;
}

/* Empties the slot that begins at the wheel's tick, which has just got there. */
static void open_slot(struct tr__wheel *wheel, unsigned level)
{
    unsigned slot = (unsigned)__builtin_ctzll(wheel->occupied[level]);
    struct tr__wheel_link *list = &wheel->slots[level * TR__WHEEL_SLOTS + slot];

    wheel->occupied[level] &= wheel->occupied[level] - 1;
    if (level == 0) {
        list_splice(&wheel->due, list);
        return;
    }
    struct tr__wheel_link *link = list->next;
    list_init(list);
    while (link != list) {
        struct tr__wheel_link *next = link->next;
        struct tr__wheel_entry *entry = TR__CONTAINER_OF(link, struct tr__wheel_entry, link);
        place(wheel, link, tick_of_deadline(wheel, entry->deadline_ns));
        link = next;
    }
}

/* Invariants 1 and 3 for every slot: in debug builds, after each advance. */
static __attribute__((unused)) bool is_consistent(const struct tr__wheel *wheel)
{
    for (unsigned level = 0; level < TR__WHEEL_LEVELS; level++) {
        uint64_t own = wheel->tick >> (level * TR__WHEEL_SLOT_BITS) & (TR__WHEEL_SLOTS - 1);
        for (unsigned slot = 0; slot < TR__WHEEL_SLOTS; slot++) {
            const struct tr__wheel_link *list = &wheel->slots[level * TR__WHEEL_SLOTS + slot];
            bool occupied = (wheel->occupied[level] >> slot & 1) != 0;
            if (occupied != (list->next != list) || (occupied && slot <= own)) {
                return false;
            }
        }
    }
    return true;
}

/* Brings the wheel's tick up to now_ns and queues all that is due by then. */
static void advance(struct tr__wheel *wheel, uint64_t now_ns)
{
    uint64_t now_tick = now_ns / wheel->tick_ns;
    unsigned level;

    while ((level = lowest_level(wheel)) < TR__WHEEL_LEVELS) {
        uint64_t tick = first_tick(wheel, level);
        if (tick > now_tick) {
            break;
        }
        wheel->tick = tick;
        open_slot(wheel, level);
    }
    wheel->tick = now_tick;
    wheel->tick_end_ns = tick_start_ns(wheel, now_tick + 1);
    TR_DEEP(is_consistent(wheel));
}
