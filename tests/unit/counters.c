/* Counters: cells, shards, sums. */
#include "parts/counters.h"

#include "support/case.h"

enum {
    SHARDS = 3
};

CASE(counters, cells_count_by_themselves)
{
    static struct tr__counters shard;
    for (unsigned which = 0; which < TR__COUNTERS_PER_SHARD; which++) {
        tr__counters_add(&shard, which, which);
        tr__counters_add(&shard, which, 1);
    }
    for (unsigned which = 0; which < TR__COUNTERS_PER_SHARD; which++) {
        CHECK_EQ_U64(tr__counters_get(&shard, which), which + 1);
    }
}

CASE(counters, a_sum_goes_over_all_shards)
{
    static struct tr__counters shards[SHARDS];
    tr__counters_add(&shards[0], 4, 10);
    tr__counters_add(&shards[2], 4, 5);
    tr__counters_add(&shards[1], 5, 1000);
    CHECK_EQ_U64(tr__counters_sum(shards, SHARDS, 4), 15);
    CHECK_EQ_U64(tr__counters_sum(shards, 1, 4), 10);
    CHECK_EQ_U64(tr__counters_sum(shards, 0, 4), 0);
}

CASE(counters, up_here_and_down_there_sums_up)
{
    static struct tr__counters shards[SHARDS];
    tr__counters_add(&shards[0], 0, 3);
    tr__counters_subtract(&shards[1], 0, 2);
    CHECK_EQ_U64(tr__counters_sum(shards, SHARDS, 0), 1);
}

CASE(counters, raise_keeps_the_highest)
{
    static struct tr__counters shard;
    tr__counters_raise(&shard, 1, 7);
    tr__counters_raise(&shard, 1, 3);
    CHECK_EQ_U64(tr__counters_get(&shard, 1), 7);
    tr__counters_raise(&shard, 1, 8);
    CHECK_EQ_U64(tr__counters_get(&shard, 1), 8);
}

CASE(counters, shards_share_no_line)
{
    static struct tr__counters shards[SHARDS];
    CHECK_EQ_U64((uintptr_t)&shards[1] % TR_CACHE_LINE, 0);
    CHECK_EQ_U64(sizeof(struct tr__counters) % TR_CACHE_LINE, 0);
}
