/*
 * Tests of completion/arena with several threads: pieces are taken by some threads and given back
 * by others; none overlaps another that lives, and everything comes back.
 */
#include <pthread.h>
#include <string.h>

#include "completion/arena.h"
#include "parts/stack.h"
#include "support/case.h"
#include "support/wait.h"

#define TAKERS 2u
#define GIVERS 2u

#if defined(TR__WITH_TSAN)
#define PIECES 10000u
#else
#define PIECES 200000u
#endif

/* Begins each piece; the rest is filled with `mark`. */
struct parcel {
    struct tr__stack_node node;
    struct tr__arena_ref ref;
    unsigned char mark;
};

static struct tr__arena arena;
static struct tr__arena_producer shared_producer;
static struct tr__stack stack;
static tr__atomic_u64 given;
static bool is_shared;

static void *take_pieces(void *argument)
{
    struct tr__arena_producer own;
    struct tr__arena_producer *producer = is_shared ? &shared_producer : &own;
    struct case_random chance;

    case_random_init(&chance, (uint64_t)(uintptr_t)argument);
    tr__arena_producer_init(&own, false);
    for (unsigned piece = 0; piece < PIECES; piece++) {
        struct tr__arena_ref ref;
        uint64_t largest = case_random_below(&chance, 200) == 0 ? 9000 : 600;
        size_t size = sizeof(struct parcel) + case_random_below(&chance, largest);
        CHECK_EQ_INT(tr__arena_take(&arena, producer, size, &ref), 0);
        struct parcel *parcel = ref.data;
        unsigned char mark = (unsigned char)case_random_next(&chance);
        memset(parcel, mark, size);
        parcel->ref = ref;
        parcel->mark = mark;
        (void)tr__stack_push(&stack, &parcel->node);
    }
    tr__arena_producer_done(&arena, &own); /* with pieces still on their way */
    return NULL;
}

static void *give_pieces(void *argument)
{
    (void)argument;
    while (tr__load_relaxed(&given) < (uint64_t)TAKERS * PIECES) {
        struct tr__stack_node *node = tr__stack_take_all(&stack);
        if (node == NULL) {
            (void)sched_yield();
        }
        while (node != NULL) {
            struct parcel *parcel = TR__CONTAINER_OF(node, struct parcel, node);
            struct tr__arena_ref ref = parcel->ref;
            const unsigned char *bytes = ref.data;
            for (size_t at = sizeof *parcel; at < ref.size; at++) {
                CHECK_EQ_INT(bytes[at], parcel->mark);
            }
            node = node->next;
            tr__arena_give(&arena, &ref);
            (void)tr__fetch_add_relaxed(&given, UINT64_C(1));
        }
    }
    return NULL;
}

static void run(bool shared)
{
    pthread_t threads[TAKERS + GIVERS];

    is_shared = shared;
    CHECK_EQ_INT(tr__arena_init(&arena, UINT64_MAX), 0);
    tr__arena_producer_init(&shared_producer, true);
    tr__stack_init(&stack);
    tr__store_relaxed(&given, UINT64_C(0));
    for (unsigned thread = 0; thread < TAKERS + GIVERS; thread++) {
        CHECK_EQ_INT(pthread_create(&threads[thread], NULL,
                                    thread < TAKERS ? take_pieces : give_pieces,
                                    (void *)(uintptr_t)thread),
                     0);
    }
    for (unsigned thread = 0; thread < TAKERS + GIVERS; thread++) {
        CHECK_EQ_INT(pthread_join(threads[thread], NULL), 0);
    }
    tr__arena_producer_done(&arena, &shared_producer);
    CHECK_EQ_U64(tr__arena_bytes_used(&arena), 0);
    tr__arena_done(&arena);
}

CASE(arena_threads, pieces_given_by_others_all_come_back)
{
    run(false);
}

CASE(arena_threads, a_shared_producer_serves_several)
{
    run(true);
}

#define ROUNDS 2000u

static struct tr__arena_ref handed[64];
static tr__atomic_u32 handed_count;

static void *give_handed(void *argument)
{
    (void)argument;
    for (unsigned round = 0; round < ROUNDS; round++) {
        WAIT_UNTIL(tr__load_acquire(&handed_count) != 0, 20);
        unsigned count = tr__exchange_acquire(&handed_count, 0u);
        for (unsigned index = 0; index < count; index++) {
            tr__arena_give(&arena, &handed[index]);
        }
        (void)tr__fetch_add_release(&given, UINT64_C(1));
    }
    return NULL;
}

/* The last give and the producer's leaving race for the chunk: exactly one must recycle it. */
CASE(arena_threads, last_give_against_leaving)
{
    pthread_t thread;
    CHECK_EQ_INT(tr__arena_init(&arena, UINT64_MAX), 0);
    tr__store_relaxed(&given, UINT64_C(0));
    CHECK_EQ_INT(pthread_create(&thread, NULL, give_handed, NULL), 0);
    for (unsigned round = 0; round < ROUNDS; round++) {
        struct tr__arena_producer producer;
        tr__arena_producer_init(&producer, false);
        unsigned count = 1 + round % 64;
        for (unsigned index = 0; index < count; index++) {
            CHECK_EQ_INT(tr__arena_take(&arena, &producer, 100, &handed[index]), 0);
        }
        tr__store_release(&handed_count, count);
        tr__arena_producer_done(&arena, &producer);
        WAIT_UNTIL(tr__load_acquire(&given) == round + 1, 20);
        CHECK_EQ_U64(tr__arena_bytes_used(&arena), 0);
        CHECK_EQ_INT(arena.pool_count, 1);
    }
    CHECK_EQ_INT(pthread_join(thread, NULL), 0);
    tr__arena_done(&arena);
}
