/*
 * fiber_record.h: a fiber's record, for the two files that share it: fiber.c, which switches, and
 * fiber_pool.c, which keeps the free ones.
 */
#ifndef TR__PARTS_FIBER_RECORD_H
#define TR__PARTS_FIBER_RECORD_H

#include <stdint.h>

#include "base/assert.h"
#include "base/atomic.h"
#include "parts/fiber.h"

/* Boost.Context's: where a context goes on. */
typedef void *tr__fcontext;

enum tr__fiber_state {
    TR__FIBER_FREE,
    TR__FIBER_IDLE,
    TR__FIBER_READY,
    TR__FIBER_RUNNING,
};

struct tr__fiber {
    _Alignas(TR_CACHE_LINE) tr__fcontext context; /* where to go on; meaningful while READY */
    tr__fcontext resumer;                         /* whom to return to; meaningful while RUNNING */
    union {
        struct {
            void (*entry)(void *argument);
            void *argument;
        };
        struct { /* while FREE: on a list of the pool, or (next alone) of a cache */
            struct tr__fiber *next;
            struct tr__fiber *previous;
        };
    };
    struct tr__fiber_pool *pool;
    char *stack; /* lowest usable byte, just above the guard */
    enum tr__fiber_state state;
    uint32_t rested_at; /* the pool's age when it came to the warm list; 0: not there. Its mutex */
#if defined(TR__WITH_ASAN)
    void *asan_fake_stack; /* the suspended fiber's */
    const void *asan_resumer_stack;
    size_t asan_resumer_bytes;
#endif
#if defined(TR__WITH_TSAN)
    void *tsan_self;
    void *tsan_resumer;
#endif
};

#if !defined(TR__WITH_ASAN) && !defined(TR__WITH_TSAN)
TR_STATIC(sizeof(struct tr__fiber) == TR_CACHE_LINE, "a record is one cache line");
#endif

#endif
