/*
 * fiber.c: pooled stackful coroutines over Boost.Context's two assembly symbols: the switching.
 *
 * Purpose: let an awaiting tool function wait in straight-line C without holding a worker.
 * Threads: a fiber belongs to whoever took it (fiber_pool.c), and to its resumer while it runs.
 * Called by engine/worker and tools/io; calls Boost.Context.
 *
 *  1. FREE -> take -> IDLE -> start -> READY -> resume -> RUNNING; then suspend -> READY, or the
 *     entry returns -> IDLE; IDLE -> give -> FREE (in a list of the pool or in a cache).
 *  2. A fiber's record is written only by its owner, or inside tr__fiber_resume on the resumer's
 *     thread: no atomics. READY is set after the context is saved, so a resumer that comes too
 *     early meets an assertion, not a torn stack.
 *  3. Nothing of the library lives on a stack after the entry returned: it is simply left.
 *
 * Floating point: on x86-64 a switch keeps MXCSR and the x87 control word; a fiber begins with
 * those of the thread that called tr__fiber_start. Elsewhere only callee-saved registers are kept.
 *
 * Cost (2-vCPU virtual machine): resume and suspend 13 to 16 ns, 20 to 30 ns over 10 000 fibers in
 * turn; take, start, run, give 19 ns. 4160 bytes and 128 of page table while waiting.
 *
 * Rejected: ucontext (two signal-mask calls a switch); a malloc a stack (no guard); stacks shifted
 * by cache lines (no difference seen).
 */
#include <errno.h>

#include "base/memory.h"
#include "parts/fiber_record.h"

#if defined(TR__WITH_ASAN)
#include <sanitizer/common_interface_defs.h>
#endif
#if defined(TR__WITH_TSAN)
#include <sanitizer/tsan_interface.h>
#endif

/* Boost.Context's ABI: jump returns, on the other side, where it came from and the word passed. */
typedef struct {
    tr__fcontext fctx;
    void *data;
} tr__transfer;
extern tr__transfer jump_fcontext(tr__fcontext to, void *data);
extern tr__fcontext make_fcontext(void *stack_top, size_t size, void (*function)(tr__transfer));

static void fiber_main(tr__transfer transfer);
static bool is_on_own_stack(const struct tr__fiber *fiber);
static int read_errno(void);
static void write_errno(int value);

void tr__fiber_start(struct tr__fiber *fiber, void (*entry)(void *argument), void *argument)
{
    size_t usable_bytes = fiber->pool->stack_bytes - fiber->pool->page_bytes;

    TR_ASSERT(fiber->state == TR__FIBER_IDLE);
    TR_ASSERT(entry != NULL);
    tr__asan_unpoison(fiber->stack, usable_bytes);
    fiber->entry = entry;
    fiber->argument = argument;
    fiber->context = make_fcontext(fiber->stack + usable_bytes, usable_bytes, fiber_main);
#if defined(TR__WITH_TSAN)
    fiber->tsan_self = __tsan_create_fiber(0);
#endif
    fiber->state = TR__FIBER_READY;
}

/* TSan: between the switch and the jump nothing may be called and no function may return. */
enum tr__fiber_status tr__fiber_resume(struct tr__fiber *fiber)
{
    TR_ASSERT(fiber->state == TR__FIBER_READY);
    fiber->state = TR__FIBER_RUNNING;
#if defined(TR__WITH_ASAN)
    void *fake_stack;
    __sanitizer_start_switch_fiber(&fake_stack, fiber->stack,
                                   fiber->pool->stack_bytes - fiber->pool->page_bytes);
#endif
#if defined(TR__WITH_TSAN)
    fiber->tsan_resumer = __tsan_get_current_fiber();
    __tsan_switch_to_fiber(fiber->tsan_self, 0);
#endif
    tr__transfer back = jump_fcontext(fiber->context, fiber);
#if defined(TR__WITH_ASAN)
    __sanitizer_finish_switch_fiber(fake_stack, NULL, NULL);
#endif
    fiber->context = back.fctx;
    /* A suspending fiber passes itself, one whose entry returned passes NULL. */
    if (back.data != NULL) {
        fiber->state = TR__FIBER_READY;
        return TR__FIBER_SUSPENDED;
    }
#if defined(TR__WITH_TSAN)
    __tsan_destroy_fiber(fiber->tsan_self);
    fiber->tsan_self = NULL;
#endif
    fiber->state = TR__FIBER_IDLE;
    return TR__FIBER_FINISHED;
}

void tr__fiber_suspend(struct tr__fiber *fiber)
{
    TR_ASSERT(fiber->state == TR__FIBER_RUNNING);
    TR_ASSERT(is_on_own_stack(fiber));
    int error = read_errno();
#if defined(TR__WITH_ASAN)
    __sanitizer_start_switch_fiber(&fiber->asan_fake_stack, fiber->asan_resumer_stack,
                                   fiber->asan_resumer_bytes);
#endif
#if defined(TR__WITH_TSAN)
    __tsan_switch_to_fiber(fiber->tsan_resumer, 0);
#endif
    tr__transfer back = jump_fcontext(fiber->resumer, fiber);
#if defined(TR__WITH_ASAN)
    __sanitizer_finish_switch_fiber(fiber->asan_fake_stack, &fiber->asan_resumer_stack,
                                    &fiber->asan_resumer_bytes);
#endif
    fiber->resumer = back.fctx;
    write_errno(error);
}

/* The bottom frame of every fiber; left for good by its last jump. */
static void fiber_main(tr__transfer transfer)
{
    struct tr__fiber *fiber = transfer.data;

#if defined(TR__WITH_ASAN)
    __sanitizer_finish_switch_fiber(NULL, &fiber->asan_resumer_stack, &fiber->asan_resumer_bytes);
#endif
    fiber->resumer = transfer.fctx;
    fiber->entry(fiber->argument);
#if defined(TR__WITH_ASAN)
    __sanitizer_start_switch_fiber(NULL, fiber->asan_resumer_stack, fiber->asan_resumer_bytes);
#endif
#if defined(TR__WITH_TSAN)
    __tsan_switch_to_fiber(fiber->tsan_resumer, 0);
#endif
    (void)jump_fcontext(fiber->resumer, NULL);
    tr__panic(__FILE__, __LINE__, "a finished fiber was resumed");
}

static bool is_on_own_stack(const struct tr__fiber *fiber)
{
    uintptr_t frame = (uintptr_t)__builtin_frame_address(0);
    uintptr_t stack = (uintptr_t)fiber->stack;

    return frame - stack < fiber->pool->stack_bytes - fiber->pool->page_bytes;
}

/*
 * The address of errno differs by thread, and the C library lets compilers remember it within a
 * function. A suspension may change the thread, so each access has a function of its own.
 */
static __attribute__((noinline)) int read_errno(void)
{
    return errno;
}

static __attribute__((noinline)) void write_errno(int value)
{
    errno = value;
}
