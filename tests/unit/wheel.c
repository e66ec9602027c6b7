/*
 * Tests of parts/wheel: against a plain array of deadlines with random operations, and one by one
 * at every level's boundaries. Time is a variable here; nothing waits.
 */
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "parts/wheel.h"
#include "support/case.h"
#include "support/wait.h"

#define TICK_NS UINT64_C(1000000)
#define ENTRIES_MAX 2000u

static struct tr__wheel wheel;
static struct tr__wheel_entry entries[ENTRIES_MAX];

static struct case_random chance;

/* Evenly spread in order of magnitude: 0 to below 2^bits_max. */
static uint64_t random_magnitude(unsigned bits_max)
{
    unsigned bits = (unsigned)(case_random_below(&chance, bits_max + 1));
    return bits == 0 ? 0 : case_random_next(&chance) >> (64 - bits);
}

/* The first moment at which a deadline may pop: the deadline rounded up to a tick. */
static uint64_t due_ns(uint64_t deadline_ns)
{
    uint64_t tick = deadline_ns / TICK_NS + (deadline_ns % TICK_NS != 0);
    return tick > UINT64_MAX / TICK_NS ? UINT64_MAX : tick * TICK_NS;
}

static void prepare(uint64_t now_ns)
{
    tr__wheel_init(&wheel, TICK_NS, now_ns);
    for (unsigned index = 0; index < ENTRIES_MAX; index++) {
        tr__wheel_entry_init(&entries[index]);
    }
}

/* Arms one deadline and follows tr__wheel_next to it, as the owner does. */
static void follow_one(uint64_t now_ns, uint64_t deadline_ns)
{
    uint64_t expected_ns = due_ns(deadline_ns);
    unsigned looks = 0;

    tr__wheel_init(&wheel, TICK_NS, now_ns);
    tr__wheel_entry_init(&entries[0]);
    tr__wheel_arm(&wheel, &entries[0], deadline_ns);
    for (;;) {
        uint64_t next_ns = tr__wheel_next(&wheel);
        CHECK(next_ns <= expected_ns);
        if (next_ns > now_ns) {
            CHECK(tr__wheel_pop(&wheel, next_ns - 1) == NULL);
            CHECK(tr__wheel_next(&wheel) == next_ns);
            now_ns = next_ns;
        }
        struct tr__wheel_entry *popped = tr__wheel_pop(&wheel, now_ns);
        if (popped != NULL) {
            CHECK(popped == &entries[0]);
            break;
        }
        CHECK(tr__wheel_next(&wheel) > now_ns);
        looks += 1;
        CHECK(looks <= TR__WHEEL_LEVELS);
    }
    CHECK(now_ns >= deadline_ns);
    CHECK(now_ns == expected_ns || expected_ns <= now_ns / TICK_NS * TICK_NS);
    CHECK(tr__wheel_next(&wheel) == UINT64_MAX);
    CHECK_EQ_INT(tr__wheel_count(&wheel), 0);
}

/* After a drained pass: nothing due is left, and next() lies between now and the first deadline. */
static void check_drained(uint64_t now_ns, unsigned entry_count, size_t armed_count)
{
    uint64_t first_ns = UINT64_MAX;
    size_t armed = 0;

    for (unsigned index = 0; index < entry_count; index++) {
        if (tr__wheel_is_armed(&entries[index])) {
            uint64_t expected_ns = due_ns(entries[index].deadline_ns);
            CHECK(expected_ns > now_ns);
            first_ns = expected_ns < first_ns ? expected_ns : first_ns;
            armed += 1;
        }
    }
    CHECK(armed == armed_count);
    CHECK(tr__wheel_count(&wheel) == armed_count);
    CHECK(tr__wheel_next(&wheel) <= first_ns);
    CHECK(tr__wheel_next(&wheel) > now_ns);
}

/* Random arming, disarming and jumping; the array of entries itself is the reference. */
static void run_random(uint64_t stream, unsigned entry_count, unsigned rounds, unsigned reach_bits)
{
    case_random_init(&chance, stream);
    uint64_t now_ns = random_magnitude(60);
    size_t armed = 0;
    prepare(now_ns);

    for (unsigned round = 0; round < rounds; round++) {
        for (unsigned step = 0; step < 1 + entry_count / 4; step++) {
            struct tr__wheel_entry *entry = &entries[case_random_below(&chance, entry_count)];
            if (tr__wheel_is_armed(entry)) {
                tr__wheel_disarm(&wheel, entry);
                CHECK(!tr__wheel_is_armed(entry));
                armed -= 1;
            } else {
                uint64_t distance_ns = random_magnitude(reach_bits);
                bool past = case_random_below(&chance, 16) == 0 && distance_ns <= now_ns;
                uint64_t deadline_ns = past ? now_ns - distance_ns : now_ns + distance_ns;
                tr__wheel_arm(&wheel, entry, deadline_ns);
                CHECK(entry->deadline_ns == deadline_ns);
                armed += 1;
            }
        }
        if (case_random_below(&chance, 4) == 0) {
            now_ns = tr__wheel_next(&wheel) > now_ns && armed > 0 ? tr__wheel_next(&wheel) : now_ns;
        } else {
            now_ns += random_magnitude(reach_bits - 2);
        }
        struct tr__wheel_entry *popped;
        while ((popped = tr__wheel_pop(&wheel, now_ns)) != NULL) {
            CHECK(!tr__wheel_is_armed(popped));
            CHECK(due_ns(popped->deadline_ns) <= now_ns);
            armed -= 1;
        }
        check_drained(now_ns, entry_count, armed);
    }
}

CASE(wheel, empty)
{
    prepare(12345);
    CHECK(tr__wheel_next(&wheel) == UINT64_MAX);
    CHECK(tr__wheel_pop(&wheel, 12345) == NULL);
    CHECK(tr__wheel_pop(&wheel, UINT64_MAX) == NULL);
    CHECK(tr__wheel_pop(&wheel, 0) == NULL);
    CHECK(tr__wheel_next(&wheel) == UINT64_MAX);
    CHECK_EQ_INT(tr__wheel_count(&wheel), 0);
}

CASE(wheel, never_early_by_a_nanosecond)
{
    static const uint64_t offsets_ns[] = {0, 1, TICK_NS / 2, TICK_NS - 1};

    for (unsigned index = 0; index < sizeof(offsets_ns) / sizeof(offsets_ns[0]); index++) {
        prepare(0);
        uint64_t deadline_ns = 7 * TICK_NS + offsets_ns[index];
        uint64_t expected_ns = offsets_ns[index] == 0 ? 7 * TICK_NS : 8 * TICK_NS;
        tr__wheel_arm(&wheel, &entries[0], deadline_ns);
        CHECK(tr__wheel_next(&wheel) == expected_ns);
        CHECK(tr__wheel_pop(&wheel, expected_ns - 1) == NULL);
        CHECK(tr__wheel_pop(&wheel, expected_ns) == &entries[0]);
    }
}

CASE(wheel, boundaries_of_every_level)
{
    static const int64_t nudges[] = {-2, -1, 0, 1, 2};
    static const uint64_t parts_ns[] = {0, 1, TICK_NS - 1};
    uint64_t powers[TR__WHEEL_LEVELS + 1];

    for (unsigned level = 0; level <= TR__WHEEL_LEVELS; level++) {
        powers[level] = level == 0 ? 2 : UINT64_C(1) << (6 * level);
    }
    for (unsigned from = 0; from <= 7; from++) {
        for (unsigned to = 0; to <= 7; to++) {
            for (unsigned nudge = 0; nudge < 25; nudge++) {
                uint64_t start = powers[from] + (uint64_t)nudges[nudge % 5];
                uint64_t distance = powers[to] + (uint64_t)nudges[nudge / 5];
                if (start + distance >= UINT64_MAX / TICK_NS) {
                    continue;
                }
                for (unsigned part = 0; part < 3; part++) {
                    follow_one(start * TICK_NS, (start + distance) * TICK_NS + parts_ns[part]);
                    follow_one(start * TICK_NS + parts_ns[part], (start + distance) * TICK_NS);
                }
            }
        }
    }
}

CASE(wheel, past_and_present_pop_at_once)
{
    prepare(50 * TICK_NS + 3);
    tr__wheel_arm(&wheel, &entries[0], 0);
    tr__wheel_arm(&wheel, &entries[1], 50 * TICK_NS);
    tr__wheel_arm(&wheel, &entries[2], 50 * TICK_NS + 3);
    CHECK(tr__wheel_next(&wheel) <= 50 * TICK_NS + 3);
    CHECK(tr__wheel_pop(&wheel, 50 * TICK_NS + 3) == &entries[0]);
    CHECK(tr__wheel_pop(&wheel, 50 * TICK_NS + 3) == &entries[1]);
    CHECK(tr__wheel_pop(&wheel, 50 * TICK_NS + 3) == NULL);
    CHECK(tr__wheel_next(&wheel) == 51 * TICK_NS);
    CHECK(tr__wheel_pop(&wheel, 51 * TICK_NS) == &entries[2]);
}

CASE(wheel, first_is_the_deadline_of_what_is_due)
{
    prepare(1000 * TICK_NS);
    CHECK(tr__wheel_first(&wheel) == UINT64_MAX);
    tr__wheel_arm(&wheel, &entries[0], 1005 * TICK_NS - 7);
    CHECK(tr__wheel_first(&wheel) == 1005 * TICK_NS); /* not yet: when to look */
    tr__wheel_arm(&wheel, &entries[1], 900 * TICK_NS + 3);
    CHECK(tr__wheel_first(&wheel) == 900 * TICK_NS + 3);
    CHECK(tr__wheel_pop(&wheel, 2000 * TICK_NS) == &entries[1]);
    CHECK(tr__wheel_first(&wheel) == 1005 * TICK_NS - 7);
    CHECK(tr__wheel_pop(&wheel, 2000 * TICK_NS) == &entries[0]);
    CHECK(tr__wheel_first(&wheel) == UINT64_MAX);
}

CASE(wheel, end_of_the_clock)
{
    uint64_t last_tick_ns = UINT64_MAX / TICK_NS * TICK_NS;

    prepare(0);
    tr__wheel_arm(&wheel, &entries[0], UINT64_MAX);
    tr__wheel_arm(&wheel, &entries[1], last_tick_ns + 1);
    tr__wheel_arm(&wheel, &entries[2], last_tick_ns);
    CHECK(tr__wheel_pop(&wheel, last_tick_ns - 1) == NULL);
    CHECK(tr__wheel_next(&wheel) == last_tick_ns);
    CHECK(tr__wheel_pop(&wheel, last_tick_ns) == &entries[2]);
    CHECK(tr__wheel_pop(&wheel, UINT64_MAX) == NULL);
    CHECK(tr__wheel_next(&wheel) == UINT64_MAX);
    tr__wheel_disarm(&wheel, &entries[0]);
    tr__wheel_disarm(&wheel, &entries[1]);
    CHECK_EQ_INT(tr__wheel_count(&wheel), 0);
}

CASE(wheel, disarm_is_idempotent_and_final)
{
    prepare(0);
    tr__wheel_disarm(&wheel, &entries[0]);
    tr__wheel_arm(&wheel, &entries[0], 3 * TICK_NS);
    tr__wheel_arm(&wheel, &entries[1], 3 * TICK_NS);
    tr__wheel_disarm(&wheel, &entries[0]);
    tr__wheel_disarm(&wheel, &entries[0]);
    CHECK_EQ_INT(tr__wheel_count(&wheel), 1);
    CHECK(tr__wheel_pop(&wheel, 10 * TICK_NS) == &entries[1]);
    CHECK(!tr__wheel_is_armed(&entries[1]));
    tr__wheel_disarm(&wheel, &entries[1]);
    CHECK(tr__wheel_pop(&wheel, UINT64_MAX) == NULL);

    tr__wheel_arm(&wheel, &entries[1], UINT64_MAX - 1);
    tr__wheel_disarm(&wheel, &entries[1]);
    CHECK(tr__wheel_next(&wheel) == UINT64_MAX);
}

CASE(wheel, disarm_between_expiry_and_pop)
{
    prepare(0);
    for (unsigned index = 0; index < 10; index++) {
        tr__wheel_arm(&wheel, &entries[index], TICK_NS);
    }
    CHECK(tr__wheel_pop(&wheel, TICK_NS) == &entries[0]);
    for (unsigned index = 1; index < 10; index += 2) {
        tr__wheel_disarm(&wheel, &entries[index]);
    }
    for (unsigned index = 2; index < 10; index += 2) {
        CHECK(tr__wheel_pop(&wheel, TICK_NS) == &entries[index]);
    }
    CHECK(tr__wheel_pop(&wheel, TICK_NS) == NULL);
}

/* Entries due while their slot's number is in use again one round later must not clear its bit. */
static void check_stale_slot_number(void)
{
    prepare(0);
    tr__wheel_arm(&wheel, &entries[0], 5 * TICK_NS);
    tr__wheel_arm(&wheel, &entries[1], 5 * TICK_NS);
    CHECK(tr__wheel_pop(&wheel, 64 * TICK_NS) == &entries[0]);
    tr__wheel_arm(&wheel, &entries[2], (64 + 5) * TICK_NS);
    tr__wheel_disarm(&wheel, &entries[1]);
    CHECK(tr__wheel_next(&wheel) == (64 + 5) * TICK_NS);
    CHECK(tr__wheel_pop(&wheel, (64 + 5) * TICK_NS) == &entries[2]);
}

CASE(wheel, disarm_while_cascading)
{
    /* Three levels deep; the first pop cascades, then the handler disarms entries still above. */
    static const uint64_t deadlines[] = {4096, 4096, 4097, 4160, 4161, 8191, 8192};
    enum {
        COUNT = sizeof(deadlines) / sizeof(deadlines[0])
    };

    check_stale_slot_number();
    for (unsigned mask = 0; mask < 1u << COUNT; mask++) {
        prepare(0);
        for (unsigned index = 0; index < COUNT; index++) {
            tr__wheel_arm(&wheel, &entries[index], deadlines[index] * TICK_NS);
        }
        CHECK(tr__wheel_pop(&wheel, 4096 * TICK_NS) == &entries[0]);
        for (unsigned index = 0; index < COUNT; index++) {
            if ((mask >> index & 1) != 0) {
                tr__wheel_disarm(&wheel, &entries[index]);
            }
        }
        for (unsigned index = 1; index < COUNT; index++) {
            if ((mask >> index & 1) == 0) {
                CHECK(tr__wheel_pop(&wheel, deadlines[index] * TICK_NS) == &entries[index]);
            }
        }
        CHECK_EQ_INT(tr__wheel_count(&wheel), 0);
        CHECK(tr__wheel_next(&wheel) == UINT64_MAX);
    }
}

CASE(wheel, equal_ticks_pop_in_order_of_arming)
{
    /* Armed from ever nearer, hence on ever lower levels, for one and the same tick. */
    static const uint64_t starts[] = {0, 1, 262144, 266240, 270270, 270335, 270336, 270399};
    enum {
        COUNT = sizeof(starts) / sizeof(starts[0])
    };

    prepare(0);
    for (unsigned index = 0; index < COUNT; index++) {
        CHECK(tr__wheel_pop(&wheel, starts[index] * TICK_NS) == NULL);
        tr__wheel_arm(&wheel, &entries[index], 270400 * TICK_NS - index);
    }
    for (unsigned index = 0; index < COUNT; index++) {
        CHECK(tr__wheel_pop(&wheel, 270400 * TICK_NS) == &entries[index]);
    }
}

CASE(wheel, handler_arming_the_past_starves_nobody)
{
    prepare(0);
    for (unsigned index = 1; index <= 100; index++) {
        tr__wheel_arm(&wheel, &entries[index], index * TICK_NS);
    }
    tr__wheel_arm(&wheel, &entries[0], 0);
    /* Entry 0 is armed anew each time it pops; the 100 others still come in the next 101 pops. */
    unsigned others = 0;
    for (unsigned pops = 0; pops < 102; pops++) {
        struct tr__wheel_entry *popped = tr__wheel_pop(&wheel, 100 * TICK_NS);
        CHECK(popped != NULL);
        if (popped == &entries[0]) {
            tr__wheel_arm(&wheel, &entries[0], 0);
        } else {
            others += 1;
            CHECK(popped == &entries[others]);
        }
    }
    CHECK_EQ_INT(others, 100);
    CHECK_EQ_INT(tr__wheel_count(&wheel), 1);
}

CASE(wheel, clock_standing_or_going_back)
{
    prepare(1000 * TICK_NS);
    tr__wheel_arm(&wheel, &entries[0], 1001 * TICK_NS);
    tr__wheel_arm(&wheel, &entries[1], 1002 * TICK_NS);
    CHECK(tr__wheel_pop(&wheel, 1001 * TICK_NS) == &entries[0]);
    CHECK(tr__wheel_pop(&wheel, 1001 * TICK_NS) == NULL);
    CHECK(tr__wheel_pop(&wheel, 0) == NULL);
    CHECK(tr__wheel_next(&wheel) == 1002 * TICK_NS);
    CHECK(tr__wheel_pop(&wheel, 1002 * TICK_NS) == &entries[1]);
}

CASE(wheel, one_jump_over_everything)
{
    case_random_init(&chance, 7);
    prepare(0);
    for (unsigned index = 0; index < ENTRIES_MAX; index++) {
        tr__wheel_arm(&wheel, &entries[index], random_magnitude(63));
    }
    uint64_t last_ns = 0;
    for (unsigned index = 0; index < ENTRIES_MAX; index++) {
        struct tr__wheel_entry *popped = tr__wheel_pop(&wheel, UINT64_MAX);
        CHECK(popped != NULL);
        CHECK(due_ns(popped->deadline_ns) >= last_ns);
        last_ns = due_ns(popped->deadline_ns);
    }
    CHECK(tr__wheel_pop(&wheel, UINT64_MAX) == NULL);
    CHECK_EQ_INT(tr__wheel_count(&wheel), 0);
}

CASE(wheel, other_tick_lengths)
{
    static const uint64_t ticks_ns[] = {TR__WHEEL_TICK_NS_MIN, 1048576, 1000000007, UINT64_MAX};

    for (unsigned index = 0; index < sizeof(ticks_ns) / sizeof(ticks_ns[0]); index++) {
        uint64_t tick_ns = ticks_ns[index];
        tr__wheel_init(&wheel, tick_ns, 0);
        tr__wheel_entry_init(&entries[0]);
        tr__wheel_arm(&wheel, &entries[0], tick_ns - 1);
        CHECK(tr__wheel_next(&wheel) == tick_ns);
        CHECK(tr__wheel_pop(&wheel, tick_ns - 1) == NULL);
        CHECK(tr__wheel_pop(&wheel, tick_ns) == &entries[0]);
        tr__wheel_arm(&wheel, &entries[0], UINT64_MAX);
        tr__wheel_disarm(&wheel, &entries[0]);
        CHECK(tr__wheel_next(&wheel) == UINT64_MAX);
    }
}

/* Dies of `body`'s assertion: true. Standard error is closed so that logs stay readable. */
static bool aborts(void (*body)(void))
{
    pid_t child = fork();
    int status = 0;

    CHECK(child >= 0);
    if (child == 0) {
        struct rlimit no_core = {0, 0};
        (void)setrlimit(RLIMIT_CORE, &no_core);
        (void)close(STDERR_FILENO);
        body();
        _exit(0);
    }
    CHECK(waitpid(child, &status, 0) == child);
    return !(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

static void arm_twice(void)
{
    tr__wheel_arm(&wheel, &entries[0], TICK_NS);
    tr__wheel_arm(&wheel, &entries[0], TICK_NS);
}

static void init_with_short_tick(void)
{
    tr__wheel_init(&wheel, TR__WHEEL_TICK_NS_MIN - 1, 0);
}

CASE(wheel, misuse_is_caught)
{
    prepare(0);
    CHECK(aborts(arm_twice));
    CHECK(aborts(init_with_short_tick));
}

CASE(wheel, random_near)
{
    for (uint64_t stream = 1; stream <= 20; stream++) {
        run_random(stream, 40, 1000, 28);
    }
}

CASE(wheel, random_days)
{
    for (uint64_t stream = 100; stream < 120; stream++) {
        run_random(stream, 300, 500, 50);
    }
}

CASE(wheel, random_centuries)
{
    /* 500 rounds of at most 2^53 ns each: 142 years, and deadlines up to 2.3 years beyond. */
    for (uint64_t stream = 200; stream < 220; stream++) {
        run_random(stream, ENTRIES_MAX, 200, 55);
    }
}
