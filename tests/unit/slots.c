/* Slots: ids, reuse, the stack of a cache, exhaustion, retirement. */
#include "parts/slots.h"

#include <toolring/error.h>

#include "base/memory.h"
#include "support/case.h"

enum {
    TAG = 5
};

struct record {
    struct tr__slot slot;
    uint64_t payload[6];
};

struct fixture {
    struct tr__slots slots;
    struct tr__slots_cache cache;
};

static void open_fixture(struct fixture *fixture, uint32_t max)
{
    CHECK_EQ_INT(tr__slots_init(&fixture->slots, sizeof(struct record), max, TAG), 0);
    tr__slots_cache_init(&fixture->cache);
}

/* The order in which the users of this module try. */
static struct tr__slot *take(struct tr__slots *slots, struct tr__slots_cache *cache)
{
    struct tr__slot *slot = tr__slots_take_local(slots, cache);
    if (slot == NULL && tr__slots_reclaim(slots, cache, NULL, NULL) > 0) {
        slot = tr__slots_take_local(slots, cache);
    }
    return slot != NULL ? slot : tr__slots_take_fresh(slots, cache);
}

static void release(struct fixture *fixture, struct tr__slot *slot)
{
    tr__slots_stale(&fixture->slots, slot);
    tr__slots_give(&fixture->slots, &fixture->cache, slot);
}

static void count_each(struct tr__slot *slot, void *context)
{
    CHECK(slot->index != 0);
    ++*(unsigned *)context;
}

CASE(slots, impossible_arguments_are_refused)
{
    struct tr__slots slots;
    CHECK_EQ_INT(tr__slots_init(&slots, 8, 10, TAG), TR_EINVAL);
    CHECK_EQ_INT(tr__slots_init(&slots, 24, 10, TAG), TR_EINVAL);
    CHECK_EQ_INT(tr__slots_init(&slots, 64, 0, TAG), TR_EINVAL);
    CHECK_EQ_INT(tr__slots_init(&slots, 64, TR__INDEX_MAX + 1, TAG), TR_EINVAL);
    CHECK_EQ_INT(tr__slots_init(&slots, 64, 10, 16), TR_EINVAL);
    CHECK_EQ_INT(tr__slots_init(&slots, SIZE_MAX - 15, 10, TAG), TR_EINVAL);
    tr__memory_fail_after(1);
    CHECK_EQ_INT(tr__slots_init(&slots, 64, 10, TAG), TR_ENOMEM);
}

CASE(slots, done_takes_nothing_and_twice)
{
    struct fixture fixture;
    open_fixture(&fixture, 10);
    tr__slots_done(NULL);
    tr__slots_done(&fixture.slots);
    tr__slots_done(&fixture.slots);
}

CASE(slots, the_first_id_is_generation_one_index_one)
{
    struct fixture fixture;
    open_fixture(&fixture, 10);
    CHECK(tr__slots_take_local(&fixture.slots, &fixture.cache) == NULL);
    CHECK_EQ_INT(tr__slots_reached(&fixture.slots), 0);
    struct tr__slot *slot = tr__slots_take_fresh(&fixture.slots, &fixture.cache);
    uint64_t id = tr__slots_id(&fixture.slots, slot);
    CHECK_EQ_U64(id, UINT64_C(0x5000000001000001));
    CHECK_EQ_U64(TR__ID_TAG(id), TAG);
    CHECK_EQ_U64(TR__ID_GENERATION(id), 1);
    CHECK_EQ_U64(TR__ID_INDEX(id), 1);
    CHECK_EQ_U64(TR__ID_MAKE(TAG, 1, 1), id);
    CHECK_EQ_PTR(tr__slots_find(&fixture.slots, id), slot);
    CHECK_EQ_PTR(tr__slots_at(&fixture.slots, 1), slot);
    CHECK_EQ_U64((uintptr_t)slot % 64, 0);
    tr__slots_done(&fixture.slots);
}

CASE(slots, exactly_max_slots_exist)
{
    const uint32_t sizes[] = {1, 2, 63, 64, 65, 127, 128, 129, 1000};
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        struct fixture fixture;
        bool seen[1001] = {false};
        open_fixture(&fixture, sizes[i]);
        for (uint32_t taken = 0; taken < sizes[i]; taken++) {
            struct tr__slot *slot = take(&fixture.slots, &fixture.cache);
            CHECK(slot != NULL);
            CHECK(slot->index >= 1 && slot->index <= sizes[i] && !seen[slot->index]);
            seen[slot->index] = true;
        }
        for (int again = 0; again < 100; again++) {
            CHECK(take(&fixture.slots, &fixture.cache) == NULL);
        }
        CHECK_EQ_INT(tr__slots_reached(&fixture.slots), sizes[i]);
        tr__slots_done(&fixture.slots);
    }
}

CASE(slots, two_caches_share_one_storage)
{
    struct fixture fixture;
    struct tr__slots_cache other;
    open_fixture(&fixture, 100);
    tr__slots_cache_init(&other);
    bool seen[101] = {false};
    unsigned count = 0;
    for (int step = 0; step < 200; step++) {
        struct tr__slot *slot = take(&fixture.slots, step % 2 == 0 ? &fixture.cache : &other);
        if (slot != NULL) {
            CHECK(!seen[slot->index]);
            seen[slot->index] = true;
            count++;
        }
    }
    CHECK_EQ_INT(count, 100);
    tr__slots_done(&fixture.slots);
}

CASE(slots, a_stale_id_finds_nothing)
{
    struct fixture fixture;
    open_fixture(&fixture, 10);
    struct tr__slot *slot = take(&fixture.slots, &fixture.cache);
    uint64_t previous = 0;
    for (uint64_t generation = 1; generation <= 100; generation++) {
        uint64_t id = tr__slots_id(&fixture.slots, slot);
        CHECK_EQ_U64(TR__ID_GENERATION(id), generation);
        CHECK_EQ_PTR(tr__slots_find(&fixture.slots, id), slot);
        CHECK(previous == 0 || tr__slots_find(&fixture.slots, previous) == NULL);
        (void)tr__fetch_or_relaxed(&slot->word, UINT64_C(0xabcdef0)); /* state does not matter */
        CHECK_EQ_PTR(tr__slots_find(&fixture.slots, id), slot);
        tr__slots_stale(&fixture.slots, slot);
        CHECK(tr__slots_find(&fixture.slots, id) == NULL);
        CHECK_EQ_U64(tr__load_relaxed(&slot->word), (generation + 1) << TR__STATE_BITS);
        tr__slots_give(&fixture.slots, &fixture.cache, slot);
        CHECK_EQ_INT(tr__slots_reclaim(&fixture.slots, &fixture.cache, NULL, NULL), 1);
        CHECK_EQ_PTR(tr__slots_take_local(&fixture.slots, &fixture.cache), slot);
        previous = id;
    }
    tr__slots_done(&fixture.slots);
}

CASE(slots, forged_ids_find_nothing)
{
    struct fixture fixture;
    open_fixture(&fixture, 10);
    struct tr__slot *slot = take(&fixture.slots, &fixture.cache);
    struct tr__slots *slots = &fixture.slots;
    CHECK_EQ_PTR(tr__slots_find(slots, TR__ID_MAKE(TAG, 1, 1)), slot);
    CHECK(tr__slots_find(slots, 0) == NULL);
    CHECK(tr__slots_find(slots, UINT64_MAX) == NULL);
    CHECK(tr__slots_find(slots, TR__ID_MAKE(TAG + 1, 1, 1)) == NULL);
    CHECK(tr__slots_find(slots, TR__ID_MAKE(TAG, 2, 1)) == NULL);
    CHECK(tr__slots_find(slots, TR__ID_MAKE(TAG, 0, 2)) == NULL);
    CHECK(tr__slots_find(slots, TR__ID_MAKE(TAG, 1, 0)) == NULL);
    CHECK(tr__slots_find(slots, TR__ID_MAKE(TAG, 1, 2)) == NULL); /* claimed, never used */
    CHECK(tr__slots_find(slots, TR__ID_MAKE(TAG, 1, 10)) == NULL);
    CHECK(tr__slots_find(slots, TR__ID_MAKE(TAG, 1, 11)) == NULL); /* beyond the storage */
    CHECK(tr__slots_find(slots, TR__ID_MAKE(TAG, TR__GENERATION_SPENT, 1)) == NULL);
    tr__slots_done(slots);
}

CASE(slots, contents_survive_and_the_warmest_slot_comes_first)
{
    struct fixture fixture;
    open_fixture(&fixture, 10);
    struct tr__slot *taken[3];
    for (int i = 0; i < 3; i++) {
        taken[i] = take(&fixture.slots, &fixture.cache);
        struct record *record = TR__CONTAINER_OF(taken[i], struct record, slot);
        CHECK_EQ_U64(record->payload[5], 0); /* zero in its first life */
        record->payload[5] = (uint64_t)i + 100;
    }
    for (int i = 0; i < 3; i++) {
        release(&fixture, taken[i]);
    }
    CHECK_EQ_INT(tr__slots_reclaim(&fixture.slots, &fixture.cache, NULL, NULL), 3);
    CHECK_EQ_INT(fixture.cache.count, 3);
    for (int i = 2; i >= 0; i--) {
        struct tr__slot *slot = tr__slots_take_local(&fixture.slots, &fixture.cache);
        CHECK_EQ_PTR(slot, taken[i]);
        struct record *record = TR__CONTAINER_OF(slot, struct record, slot);
        CHECK_EQ_U64(record->payload[5], (uint64_t)i + 100);
    }
    CHECK_EQ_INT(fixture.cache.count, 0);
    tr__slots_done(&fixture.slots);
}

CASE(slots, reclaim_calls_each_and_keeps_what_was_local)
{
    struct fixture fixture;
    open_fixture(&fixture, 100);
    struct tr__slot *taken[6];
    unsigned called = 0;
    for (int i = 0; i < 6; i++) {
        taken[i] = take(&fixture.slots, &fixture.cache);
    }
    CHECK_EQ_INT(tr__slots_reclaim(&fixture.slots, &fixture.cache, count_each, &called), 0);
    for (int i = 0; i < 6; i++) {
        release(&fixture, taken[i]);
        if (i == 3) {
            CHECK_EQ_INT(tr__slots_reclaim(&fixture.slots, &fixture.cache, count_each, &called), 4);
        }
    }
    CHECK_EQ_INT(tr__slots_reclaim(&fixture.slots, &fixture.cache, count_each, &called), 2);
    CHECK_EQ_INT(called, 6);
    CHECK_EQ_INT(fixture.cache.count, 6);
    bool seen[101] = {false};
    for (int i = 0; i < 6; i++) {
        struct tr__slot *slot = tr__slots_take_local(&fixture.slots, &fixture.cache);
        CHECK(slot != NULL && slot->index <= 6 && !seen[slot->index]);
        seen[slot->index] = true;
    }
    CHECK_EQ_INT(tr__slots_take_local(&fixture.slots, &fixture.cache)->index, 7); /* fresh again */
    tr__slots_done(&fixture.slots);
}

CASE(slots, a_chain_is_given_in_one_step)
{
    struct fixture fixture;
    open_fixture(&fixture, 10);
    struct tr__slot *taken[4];
    for (int i = 0; i < 4; i++) {
        taken[i] = take(&fixture.slots, &fixture.cache);
    }
    release(&fixture, taken[3]);
    for (int i = 0; i < 3; i++) {
        tr__slots_stale(&fixture.slots, taken[i]);
        tr__store_relaxed(&taken[i]->link, i < 2 ? taken[i + 1]->index : 0u);
    }
    tr__slots_give_chain(&fixture.slots, &fixture.cache, taken[0], taken[2], 3);
    CHECK_EQ_INT(tr__slots_reclaim(&fixture.slots, &fixture.cache, NULL, NULL), 4);
    for (int i = 0; i < 4; i++) {
        CHECK_EQ_PTR(tr__slots_take_local(&fixture.slots, &fixture.cache), taken[i]);
    }
    tr__slots_done(&fixture.slots);
}

CASE(slots, a_spent_slot_is_retired)
{
    struct fixture fixture;
    open_fixture(&fixture, 3);
    struct tr__slot *taken[3];
    for (int i = 0; i < 3; i++) {
        taken[i] = take(&fixture.slots, &fixture.cache);
    }
    /* The middle one is in its last life. */
    tr__store_release(&taken[1]->word, (TR__GENERATION_SPENT - 1) << TR__STATE_BITS);
    uint64_t last_id = tr__slots_id(&fixture.slots, taken[1]);
    CHECK_EQ_PTR(tr__slots_find(&fixture.slots, last_id), taken[1]);
    for (int i = 0; i < 3; i++) {
        release(&fixture, taken[i]);
    }
    CHECK(tr__slots_find(&fixture.slots, last_id) == NULL);
    CHECK(tr__slots_find(&fixture.slots, TR__ID_MAKE(TAG, TR__GENERATION_SPENT, 2)) == NULL);
    unsigned called = 0;
    CHECK_EQ_INT(tr__slots_reclaim(&fixture.slots, &fixture.cache, count_each, &called), 2);
    CHECK_EQ_INT(called, 3);
    CHECK_EQ_PTR(take(&fixture.slots, &fixture.cache), taken[2]);
    CHECK_EQ_PTR(take(&fixture.slots, &fixture.cache), taken[0]);
    CHECK(take(&fixture.slots, &fixture.cache) == NULL);
    tr__slots_done(&fixture.slots);
}

CASE(slots, spent_slots_alone_leave_nothing)
{
    struct fixture fixture;
    open_fixture(&fixture, 1);
    struct tr__slot *slot = take(&fixture.slots, &fixture.cache);
    tr__store_release(&slot->word, (TR__GENERATION_SPENT - 1) << TR__STATE_BITS);
    release(&fixture, slot);
    CHECK_EQ_INT(tr__slots_reclaim(&fixture.slots, &fixture.cache, NULL, NULL), 0);
    CHECK(take(&fixture.slots, &fixture.cache) == NULL);
    tr__slots_done(&fixture.slots);
}

/* The stack: what was put last comes first, before the list, and it tells what comes next. */
CASE(slots, a_stack_of_used_slots_tells_what_comes_next)
{
    enum {
        ROOM = 3,
        TAKEN = 5
    };
    struct fixture fixture;
    struct tr__slot *taken[TAKEN];
    uint32_t stack[ROOM + 1] = {0, 0, 0, 77};
    open_fixture(&fixture, 100);
    struct tr__slots *slots = &fixture.slots;
    struct tr__slots_cache *cache = &fixture.cache;
    for (int i = 0; i < TAKEN; i++) {
        taken[i] = take(slots, cache);
        tr__slots_stale(slots, taken[i]);
    }
    CHECK(!tr__slots_put(cache, taken[0])); /* without a stack there is no room */
    CHECK(tr__slots_ahead(slots, cache, 0) == NULL);
    tr__slots_cache_stack(cache, stack, ROOM);
    CHECK(tr__slots_ahead(slots, cache, 0) == NULL);
    for (int i = 0; i < ROOM; i++) {
        CHECK(tr__slots_put(cache, taken[i]));
        CHECK_EQ_PTR(tr__slots_ahead(slots, cache, 0), taken[i]);
        CHECK_EQ_PTR(tr__slots_ahead(slots, cache, (uint32_t)i), taken[0]);
        CHECK(tr__slots_ahead(slots, cache, (uint32_t)i + 1) == NULL);
    }
    CHECK(!tr__slots_put(cache, taken[3])); /* full: this one goes the other way */
    CHECK_EQ_INT(stack[ROOM], 77);
    tr__slots_give(slots, cache, taken[3]);
    tr__slots_give(slots, cache, taken[4]);
    CHECK_EQ_INT(tr__slots_reclaim(slots, cache, NULL, NULL), 2);
    CHECK_EQ_INT(cache->count, 2); /* the list, beside the stack */
    CHECK_EQ_INT(cache->stacked, ROOM);
    for (int i = 0; i < TAKEN; i++) { /* the stack from its top, then the list from its head */
        int expected = i < ROOM ? ROOM - 1 - i : TAKEN - 1 - (i - ROOM);
        void *ahead = tr__slots_ahead(slots, cache, 0);
        struct tr__slot *slot = tr__slots_take_local(slots, cache);
        CHECK_EQ_PTR(slot, taken[expected]);
        CHECK_EQ_PTR(ahead, i < ROOM ? slot : NULL);
        CHECK_EQ_U64(TR__ID_GENERATION(tr__slots_id(slots, slot)), 2);
    }
    CHECK_EQ_INT(tr__slots_take_local(slots, cache)->index, TAKEN + 1); /* fresh again */
    tr__slots_done(slots);
}

CASE(slots, a_slot_is_good_until_its_last_life_is_over)
{
    struct fixture fixture;
    open_fixture(&fixture, 1);
    struct tr__slot *slot = take(&fixture.slots, &fixture.cache);
    tr__slots_stale(&fixture.slots, slot);
    CHECK(tr__slot_is_good(slot));
    tr__store_release(&slot->word, (TR__GENERATION_SPENT - 2) << TR__STATE_BITS);
    tr__slots_stale(&fixture.slots, slot);
    CHECK(tr__slot_is_good(slot)); /* one life is left */
    tr__slots_stale(&fixture.slots, slot);
    CHECK(!tr__slot_is_good(slot));
    tr__slots_done(&fixture.slots);
}

static void stack_without_memory(void *context)
{
    struct fixture *fixture = context;
    tr__slots_cache_stack(&fixture->cache, NULL, 4);
}

static void stack_in_use(void *context)
{
    struct fixture *fixture = context;
    uint32_t stack[2];
    tr__slots_cache_stack(&fixture->cache, stack, 2);
    struct tr__slot *slot = take(&fixture->slots, &fixture->cache);
    tr__slots_stale(&fixture->slots, slot);
    if (tr__slots_put(&fixture->cache, slot)) {
        tr__slots_cache_stack(&fixture->cache, stack, 2); /* what is in it would be forgotten */
    }
}

static void stale_spent(void *context)
{
    struct fixture *fixture = context;
    struct tr__slot *slot = take(&fixture->slots, &fixture->cache);
    tr__store_release(&slot->word, TR__GENERATION_SPENT << TR__STATE_BITS);
    tr__slots_stale(&fixture->slots, slot);
}

static void look_beyond(void *context)
{
    struct fixture *fixture = context;
    (void)tr__slots_at(&fixture->slots, 11);
}

CASE(slots, misuse_is_a_bug)
{
    struct fixture fixture;
    open_fixture(&fixture, 10);
    CHECK(case_panics(stale_spent, &fixture));
    CHECK(case_panics(look_beyond, &fixture));
    CHECK(case_panics(stack_without_memory, &fixture));
    CHECK(case_panics(stack_in_use, &fixture));
    tr__slots_done(&fixture.slots);
}

CASE(slots, the_largest_storage_costs_nothing_until_used)
{
    struct fixture fixture;
    open_fixture(&fixture, TR__TASKS_MAX);
    struct tr__slot *slot = take(&fixture.slots, &fixture.cache);
    CHECK(slot != NULL);
    CHECK_EQ_U64(tr__load_relaxed(&tr__slots_at(&fixture.slots, TR__TASKS_MAX)->word), 0);
    tr__slots_done(&fixture.slots);
}
