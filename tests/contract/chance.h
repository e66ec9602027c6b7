/*
 * chance: numbers from seeds. The same seed gives the same numbers, on every machine.
 */
#ifndef TR__TESTS_CONTRACT_CHANCE_H
#define TR__TESTS_CONTRACT_CHANCE_H

#include <stdbool.h>
#include <stdint.h>

struct chance {
    uint64_t state;
};

static inline uint64_t chance_mix(uint64_t value)
{
    value += UINT64_C(0x9e3779b97f4a7c15);
    value = (value ^ value >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    value = (value ^ value >> 27) * UINT64_C(0x94d049bb133111eb);
    return value ^ value >> 31;
}

static inline struct chance chance_from(uint64_t seed, uint64_t stream)
{
    struct chance chance = {chance_mix(seed ^ chance_mix(stream))};
    return chance;
}

static inline uint64_t chance_next(struct chance *chance)
{
    chance->state += UINT64_C(0x9e3779b97f4a7c15);
    return chance_mix(chance->state);
}

/* 0 to bound - 1. */
static inline uint32_t chance_below(struct chance *chance, uint32_t bound)
{
    return (uint32_t)(chance_next(chance) >> 32) % bound;
}

/* True once in `times`. */
static inline bool chance_once_in(struct chance *chance, uint32_t times)
{
    return chance_below(chance, times) == 0;
}

#endif
