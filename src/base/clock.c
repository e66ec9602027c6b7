/* Clock: conversion for system calls. See clock.h. Owner: none; any thread. */
#include "base/clock.h"

#include "base/assert.h"

struct timespec tr__clock_timespec(uint64_t ns)
{
    TR_ASSERT(ns != TR__FOREVER);
    /* At most 18 446 744 073 s: fits a 64-bit time_t. */
    struct timespec result = {
        .tv_sec = (time_t)(ns / TR__NS_PER_SECOND),
        .tv_nsec = (long)(ns % TR__NS_PER_SECOND),
    };
    return result;
}

TR_STATIC(sizeof(time_t) == 8, "a point in time in nanoseconds fits a timespec");
