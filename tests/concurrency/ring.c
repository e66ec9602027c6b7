/*
 * The ring under several threads: ops are started, cancelled at the moment they end, and
 * reused, by threads that each know only their own; every start is done exactly once.
 */
#include "engine/ring.h"
#include "support/case.h"
#include "support/wait.h"

#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <toolring/error.h>
#include <unistd.h>

#include "base/clock.h"

enum {
    THREADS = 3,
    SLOTS = 24
};

struct slot {
    struct tr__op op;
    tr__atomic_u32 dones; /* ring thread writes */
    uint32_t starts;      /* its owner's */
    bool cancelled;
    unsigned owner_index;
    int ends[2];
    char byte;
};

struct player {
    struct case_random random;
    struct slot slots[SLOTS];
    unsigned index;
    unsigned rounds;
};

static struct tr__ring ring;
static struct player players[THREADS];

static void open_ring(unsigned entries)
{
    struct tr__ring_config config = {.entries = entries};
    int error = tr__ring_open(&ring, &config);

    if (error == TR_ERING) {
        SKIP("io_uring is refused here");
    }
    CHECK_EQ_INT(error, 0);
}

static void note_done(struct tr__op *op)
{
    struct slot *slot = TR__CONTAINER_OF(op, struct slot, op);

    /* release: pairs with is_done, after which the owner uses the op again */
    tr__fetch_add_release(&slot->dones, 1u);
}

static bool is_done(struct slot *slot)
{
    uint32_t dones = tr__load_acquire(&slot->dones); /* pairs with note_done */

    CHECK(dones == slot->starts || dones + 1 == slot->starts);
    return dones == slot->starts;
}

static void check_result(struct slot *slot)
{
    int64_t result = slot->op.result;

    switch (slot->op.kind) {
    case TR__OP_TIMER:
        CHECK(result == 0 || (result == TR_ECANCELED && slot->cancelled));
        break;
    case TR__OP_READ:
        CHECK(result == 1 || result == TR_ETIMEDOUT || (result == TR_ECANCELED && slot->cancelled));
        break;
    default:
        CHECK(result == POLLIN || result == TR_ETIMEDOUT ||
              (result == TR_ECANCELED && slot->cancelled));
        break;
    }
}

static void start_one(struct player *player, struct slot *slot)
{
    static const uint16_t kinds[] = {TR__OP_TIMER, TR__OP_READ, TR__OP_POLL};
    struct tr__op *op = &slot->op;
    uint64_t now_ns = tr__clock_now();

    op->kind = kinds[case_random_below(&player->random, 3)];
    op->fd = slot->ends[0];
    op->buffer = &slot->byte;
    op->size = 1;
    op->events = POLLIN;
    op->done = note_done;
    op->deadline_ns = now_ns + case_random_below(&player->random, 3 * TR__NS_PER_MS);
    slot->starts += 1;
    slot->cancelled = case_random_below(&player->random, 8) == 0;
    if (slot->cancelled) { /* before it is on its way */
        tr__ring_prepare(op);
        tr__ring_cancel(&ring, op, case_random_below(&player->random, 2) == 0);
        tr__ring_submit(&ring, op);
        return;
    }
    tr__ring_start(&ring, op);
}

/* Cancels it, feeds it, or leaves it to its deadline. */
static void stir(struct player *player, struct slot *slot)
{
    switch (case_random_below(&player->random, 4)) {
    case 0:
        if (!slot->cancelled) {
            slot->cancelled = true;
            tr__ring_cancel(&ring, &slot->op, case_random_below(&player->random, 2) == 0);
        }
        break;
    case 1:
        CHECK_EQ_INT(write(slot->ends[1], "x", 1), 1);
        break;
    default:
        break;
    }
}

static void empty(struct slot *slot)
{
    char bytes[64];

    while (read(slot->ends[0], bytes, sizeof bytes) > 0) {
    }
}

static void *play(void *argument)
{
    struct player *player = argument;

    case_random_init(&player->random, player->index);
    for (unsigned index = 0; index < SLOTS; index++) {
        CHECK_EQ_INT(pipe2(player->slots[index].ends, O_CLOEXEC | O_NONBLOCK), 0);
    }
    for (unsigned round = 0; round < player->rounds; round++) {
        struct slot *slot = &player->slots[case_random_below(&player->random, SLOTS)];
        if (!is_done(slot)) {
            stir(player, slot);
            continue;
        }
        if (slot->starts > 0) {
            check_result(slot);
            empty(slot);
        }
        start_one(player, slot);
    }
    for (unsigned index = 0; index < SLOTS; index++) {
        WAIT_UNTIL(is_done(&player->slots[index]), 20); /* each has a deadline */
    }
    return NULL;
}

static void play_all(unsigned entries, unsigned rounds)
{
    pthread_t threads[THREADS];

    open_ring(entries);
    for (unsigned index = 0; index < THREADS; index++) {
        players[index].index = index;
        players[index].rounds = rounds;
        CHECK_EQ_INT(pthread_create(&threads[index], NULL, play, &players[index]), 0);
    }
    uint64_t starts = 0;
    for (unsigned index = 0; index < THREADS; index++) {
        CHECK_EQ_INT(pthread_join(threads[index], NULL), 0);
        for (unsigned slot = 0; slot < SLOTS; slot++) {
            starts += players[index].slots[slot].starts;
        }
    }
    struct tr__ring_stats stats;
    CHECK_EQ_INT(tr__ring_close(&ring, TR__FOREVER), 0);
    tr__ring_stats_read(&ring, &stats);
    CHECK_EQ_U64(stats.operations, starts);
    CHECK_EQ_U64(stats.stale, 0);
}

CASE(ring_threads, every_start_is_done_once)
{
    play_all(0, 30000);
}

CASE(ring_threads, every_start_is_done_once_in_a_small_ring)
{
    play_all(TR__RING_ENTRIES_MIN, 30000);
}

/* One op at a time: each start finds the ring asleep or just falling asleep. A lost wake hangs. */
static void *ping(void *argument)
{
    struct slot *slot = argument;
    struct case_random random;

    case_random_init(&random, slot->owner_index);
    slot->op.done = note_done;
    slot->op.kind = TR__OP_TIMER;
    for (unsigned round = 0; round < 3000; round++) {
        slot->op.deadline_ns = 1;
        slot->starts += 1;
        tr__ring_start(&ring, &slot->op);
        WAIT_UNTIL(is_done(slot), 20);
        CHECK_EQ_INT(slot->op.result, 0);
        for (uint64_t spins = case_random_below(&random, 2000); spins > 0; spins--) {
            tr__cpu_relax(); /* lets the ring get to any point on its way to sleep */
        }
    }
    return NULL;
}

CASE(ring_threads, no_wake_is_lost)
{
    static struct slot slots[THREADS];
    pthread_t threads[THREADS];

    open_ring(0);
    for (unsigned index = 0; index < THREADS; index++) {
        slots[index].owner_index = index;
        CHECK_EQ_INT(pthread_create(&threads[index], NULL, ping, &slots[index]), 0);
    }
    for (unsigned index = 0; index < THREADS; index++) {
        CHECK_EQ_INT(pthread_join(threads[index], NULL), 0);
    }
    CHECK_EQ_INT(tr__ring_close(&ring, TR__FOREVER), 0);
}

/* Close meets ops of every kind at every stage. */
CASE(ring_threads, close_at_any_moment)
{
    static struct slot slots[SLOTS];
    struct player player;

    for (unsigned round = 0; round < 200; round++) {
        case_random_init(&player.random, round);
        open_ring(TR__RING_ENTRIES_MIN);
        for (unsigned index = 0; index < SLOTS; index++) {
            CHECK_EQ_INT(pipe2(slots[index].ends, O_CLOEXEC | O_NONBLOCK), 0);
            start_one(&player, &slots[index]);
            slots[index].cancelled = true; /* by close */
        }
        CHECK_EQ_INT(tr__ring_close(&ring, TR__FOREVER), 0);
        for (unsigned index = 0; index < SLOTS; index++) {
            CHECK(is_done(&slots[index]));
            check_result(&slots[index]);
            CHECK_EQ_INT(close(slots[index].ends[0]), 0);
            CHECK_EQ_INT(close(slots[index].ends[1]), 0);
        }
    }
}
