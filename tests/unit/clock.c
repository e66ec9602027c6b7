/* Clock: order, saturation, conversion. */
#include "base/clock.h"

#include "support/case.h"

static void convert_forever(void *context)
{
    (void)context;
    (void)tr__clock_timespec(TR__FOREVER);
}

CASE(clock, never_runs_backwards)
{
    uint64_t before = tr__clock_now();
    CHECK(before > 0);
    for (int i = 0; i < 10000; i++) {
        uint64_t now = tr__clock_now();
        CHECK(now >= before);
        before = now;
    }
}

CASE(clock, is_the_monotonic_clock)
{
    struct timespec monotonic;
    uint64_t before = tr__clock_now();
    CHECK_EQ_INT(clock_gettime(CLOCK_MONOTONIC, &monotonic), 0);
    uint64_t between = (uint64_t)monotonic.tv_sec * TR__NS_PER_SECOND + (uint64_t)monotonic.tv_nsec;
    CHECK(before <= between && between <= tr__clock_now());
}

CASE(clock, after_saturates)
{
    CHECK_EQ_U64(tr__clock_after(5, 7), 12);
    CHECK_EQ_U64(tr__clock_after(5, 0), 5);
    CHECK_EQ_U64(tr__clock_after(5, TR__FOREVER), TR__FOREVER);
    CHECK_EQ_U64(tr__clock_after(TR__FOREVER, 1), TR__FOREVER);
    CHECK_EQ_U64(tr__clock_after(1, TR__FOREVER - 1), TR__FOREVER);
    CHECK_EQ_U64(tr__clock_after(2, TR__FOREVER - 1), TR__FOREVER);
    CHECK_EQ_U64(tr__clock_after(1, TR__FOREVER - 2), TR__FOREVER - 1);
}

CASE(clock, left_stops_at_zero)
{
    CHECK_EQ_U64(tr__clock_left(10, 15), 5);
    CHECK_EQ_U64(tr__clock_left(10, 10), 0);
    CHECK_EQ_U64(tr__clock_left(10, 9), 0);
    CHECK_EQ_U64(tr__clock_left(10, 0), 0);
    CHECK_EQ_U64(tr__clock_left(10, TR__FOREVER), TR__FOREVER);
    CHECK_EQ_U64(tr__clock_left(0, TR__FOREVER - 1), TR__FOREVER - 1);
}

CASE(clock, timespec_keeps_every_nanosecond)
{
    const uint64_t points[] = {0, 1, 999999999, 1000000000, 1000000001, TR__FOREVER - 1};
    for (size_t i = 0; i < sizeof points / sizeof points[0]; i++) {
        struct timespec converted = tr__clock_timespec(points[i]);
        CHECK(converted.tv_nsec >= 0 && converted.tv_nsec < 1000000000);
        CHECK_EQ_U64((uint64_t)converted.tv_sec * TR__NS_PER_SECOND + (uint64_t)converted.tv_nsec,
                     points[i]);
    }
    CHECK(case_panics(convert_forever, NULL));
}
