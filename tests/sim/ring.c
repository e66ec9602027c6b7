/*
 * The ring's loop over the simulated kernel: thousands of seeded runs, each with hundreds of ops
 * that are started, cancelled, timed out and restarted at every moment the loop can be interrupted.
 *
 * Checked of every op: it is done exactly once; with a result the kernel gave, or a reason there
 * was; never early; a timer never more than two ticks late; and when it is done, nothing of it is
 * left in the kernel. Checked of the ring: it never sleeps with an urgent message in its inbox, and
 * ends drained.
 */
#include "kernel.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <toolring/error.h>

#include "base/clock.h"
#include "base/limits.h"
#include "engine/ring.h"
#include "engine/ring_loop.h"

enum {
    ITEMS = 150,
    BUFFER_BYTES = 8,
};

/* Seeded runs per case. ThreadSanitizer is slow, and there is one thread only. */
#if defined(TR__WITH_TSAN)
#define RUNS 100u
#else
#define RUNS 1000u
#endif

#define LATENESS_NS (2 * TR__WHEEL_TICK_NS)

struct world;

struct item {
    struct tr__op op;
    struct world *world;
    bool started;
    bool cancelled;
    uint64_t started_ns;
    char buffer[BUFFER_BYTES];
};

struct world {
    struct sim sim;
    struct tr__ring ring;
    struct item items[ITEMS];
    unsigned activity;    /* percent of steps in which something happens */
    unsigned starts_left; /* from outside */
    uint64_t starts;      /* all */
    uint64_t dones;
    uint64_t lost; /* of them: went down with a broken ring */
    bool acting;   /* the world's own calls reach the kernel too (the bell) */
    bool stopped;  /* the stop message is posted */
};

static struct world world;

static uint64_t below(struct world *w, uint64_t bound)
{
    return case_random_below(&w->sim.random, bound);
}

/* After a message that cannot wait, the ring must be awake or about to be. */
static void check_awake(const struct world *w)
{
    CHECK(tr__load_seq_cst(&w->ring.sleeping_until) == 0);
}

static void done(struct tr__op *op);

static void start(struct world *w, struct item *item)
{
    static const uint16_t kinds[] = {TR__OP_TIMER, TR__OP_READ, TR__OP_WRITE, TR__OP_POLL};
    struct tr__op *op = &item->op;
    uint64_t sleeping_until = tr__load_seq_cst(&w->ring.sleeping_until);

    CHECK(!item->started);
    item->started = true;
    item->cancelled = false;
    item->started_ns = w->sim.now_ns;
    w->sim.last_result[op->fd] = INT64_MIN;
    op->kind = kinds[below(w, 4)];
    op->size = BUFFER_BYTES;
    op->events = POLLIN;
    op->done = done;
    op->deadline_ns = 0;
    if (op->kind == TR__OP_TIMER || below(w, 3) == 0) {
        /* From the past to a second ahead, evenly in magnitude; now and then for ever. */
        uint64_t span_ns = UINT64_C(1) << below(w, 31);
        op->deadline_ns = below(w, 20) == 0   ? TR__FOREVER
                          : below(w, 10) == 0 ? 1
                                              : w->sim.now_ns + below(w, span_ns);
    }
    w->starts += 1;
    sim_note(&w->sim, (uint64_t)op->fd << 8 | op->kind);
    tr__ring_start(&w->ring, op);
    if (op->kind != TR__OP_TIMER || op->deadline_ns < sleeping_until) {
        check_awake(w);
    }
}

static void cancel(struct world *w, struct item *item, bool urgent)
{
    item->cancelled = true;
    sim_note(&w->sim, (uint64_t)item->op.fd << 8 | 0x80);
    tr__ring_cancel(&w->ring, &item->op, urgent);
    if (urgent) {
        /* Unless it was done already, and only its hook is still to be called. */
        CHECK(tr__load_seq_cst(&w->ring.sleeping_until) == 0 ||
              (tr__load_relaxed(&item->op.flags) & TR__OP_FINISHED) != 0);
    }
}

static void check_result(struct world *w, const struct item *item)
{
    const struct tr__op *op = &item->op;
    uint64_t now_ns = w->sim.now_ns;
    bool was_due = op->deadline_ns != 0 && now_ns >= op->deadline_ns;

    if (op->kind == TR__OP_TIMER && op->result == 0) {
        uint64_t since_ns = op->deadline_ns > item->started_ns ? op->deadline_ns : item->started_ns;
        CHECK(was_due);
        CHECK(now_ns - since_ns <= LATENESS_NS);
        return;
    }
    if (op->kind != TR__OP_TIMER && op->result == w->sim.last_result[op->fd]) {
        CHECK(op->result != -EAGAIN && op->result != -EINTR);
        return;
    }
    if (op->result == TR_ERING) {
        CHECK(op->kind != TR__OP_TIMER && w->sim.repairs > 0);
        w->lost += 1;
    } else if (op->result == TR_ECANCELED) {
        CHECK(item->cancelled || w->stopped);
    } else {
        CHECK_EQ_INT(op->result, TR_ETIMEDOUT);
        CHECK(op->kind != TR__OP_TIMER && was_due);
    }
}

static void done(struct tr__op *op)
{
    struct item *item = TR__CONTAINER_OF(op, struct item, op);
    struct world *w = item->world;

    CHECK(item->started);
    CHECK(!sim_knows(&w->sim, op->fd));
    check_result(w, item);
    item->started = false;
    w->dones += 1;
    sim_note(&w->sim, (uint64_t)op->result);
    memset(item->buffer, 0, BUFFER_BYTES);
    if (below(w, 8) == 0) {
        start(w, item); /* a hook may start its op again, also while the ring ends */
    }
}

/* What other threads do, at any moment. */
static void step(void *context)
{
    struct world *w = context;

    if (w->acting || w->stopped || !sim_chance(&w->sim, w->activity)) {
        return;
    }
    w->acting = true;
    struct item *item = &w->items[below(w, ITEMS)];
    if (!item->started && w->starts_left > 0) {
        w->starts_left -= 1;
        start(w, item);
    } else if (item->started && !item->cancelled) {
        cancel(w, item, sim_chance(&w->sim, 50));
    }
    w->acting = false;
}

static void stop(struct world *w)
{
    w->stopped = true;
    w->ring.stop.kind = TR__MESSAGE_STOP;
    tr__ring_push(&w->ring, &w->ring.stop, 0);
    check_awake(w);
}

/* Nothing will happen by itself any more: start what is left, then end with ops under way. */
static bool idle(void *context)
{
    struct world *w = context;

    if (w->stopped) {
        return false;
    }
    for (unsigned index = 0; index < ITEMS && w->starts_left > 0; index++) {
        if (!w->items[index].started) {
            w->starts_left -= 1;
            start(w, &w->items[index]);
            return true;
        }
    }
    for (unsigned index = 0; index < ITEMS && w->starts_left > 0; index++) {
        if (!w->items[index].cancelled) {
            cancel(w, &w->items[index], true);
            return true;
        }
    }
    stop(w);
    return true;
}

static void before_sleep(void *context)
{
    struct world *w = context;

    /* Woken between its last look and this moment: then the bell must be on its way. */
    CHECK(tr__load_seq_cst(&w->ring.sleeping_until) != 0 || w->sim.belled);
    /* Nor with anything that it could place. */
    CHECK_EQ_INT(w->ring.submit_queue.count, 0);
    CHECK(w->ring.cancel_queue.count == 0 || w->ring.cancels_in_kernel == w->ring.cancels_max);
    CHECK(w->ring.waiting_first == NULL || w->ring.entries_used == w->ring.entries_max);
}

/* One run; returns its trace. */
static uint64_t run(const struct sim_options *options, unsigned entries, unsigned activity,
                    unsigned starts, uint64_t stream)
{
    struct world *w = &world;
    struct tr__ring_config config = {
        .entries = entries, .kernel = &sim_kernel, .kernel_context = &w->sim};
    struct tr__ring_stats stats;

    memset(w, 0, sizeof *w);
    sim_init(&w->sim, options, stream);
    w->sim.context = w;
    w->sim.step = step;
    w->sim.idle = idle;
    w->sim.before_sleep = before_sleep;
    w->activity = activity;
    w->stopped = true; /* no acts before the ring is open */
    for (unsigned index = 0; index < ITEMS; index++) {
        w->items[index].world = w;
        w->items[index].op.fd = (int)index;
        w->items[index].op.buffer = w->items[index].buffer;
    }
    CHECK_EQ_INT(tr__ring_init(&w->ring, &config), 0);
    CHECK_EQ_INT(tr__ring_attach(&w->ring, &config), 0);
    w->stopped = false;
    w->starts_left = starts;
    uint64_t rounds = 0;
    while (tr__ring_round(&w->ring)) {
        rounds += 1;
        CHECK(rounds < 1000000);
    }
    CHECK(w->stopped);
    for (unsigned index = 0; index < ITEMS; index++) {
        CHECK(!w->items[index].started);
    }
    CHECK_EQ_U64(w->dones, w->starts);
    tr__ring_stats_read(&w->ring, &stats);
    CHECK_EQ_U64(stats.operations, w->starts);
    CHECK_EQ_U64(stats.stale, w->sim.strangers - w->sim.completion_count);
    tr__ring_detach(&w->ring);
    tr__ring_done(&w->ring);
    sim_note(&w->sim, rounds);
    return w->sim.trace;
}

static const struct sim_options calm = {.submissions = 64, .never = 10};

static const struct sim_options rough = {
    .submissions = 32,
    .short_submit = 20,
    .enter_error = 10,
    .early_return = 10,
    .never = 20,
    .retry = 20,
    .failure = 10,
    .cancel_trouble = 30,
    .stranger = 5,
};

/* The ring breaks, some twenty times a run, and is made again. */
static const struct sim_options brittle = {
    .submissions = 32,
    .short_submit = 20,
    .enter_error = 5,
    .breaks = 30,
    .early_return = 10,
    .never = 40,
    .retry = 20,
    .failure = 10,
    .cancel_trouble = 30,
    .stranger = 5,
};

/* ... or cannot be made again, or breaks at once each time. */
static const struct sim_options doomed = {
    .submissions = 32,
    .breaks = 20,
    .repair_error = 30,
    .early_return = 5,
    .never = 50,
    .cancel_trouble = 20,
};
static const struct sim_options stillborn = {.submissions = 32, .breaks = 700, .never = 50};

/* Hardly anything completes by itself, and the queues are as small as can be. */
static const struct sim_options crowded = {
    .submissions = 2,
    .short_submit = 30,
    .enter_error = 20,
    .early_return = 5,
    .never = 80,
    .retry = 10,
    .failure = 5,
    .cancel_trouble = 50,
    .stranger = 10,
};

static void run_many(const struct sim_options *options, unsigned activity)
{
    for (uint64_t stream = 0; stream < RUNS; stream++) {
        (void)run(options, TR__RING_ENTRIES_MIN, activity, 600, stream);
    }
}

CASE(sim_ring, calm_kernel)
{
    run_many(&calm, 20);
}

CASE(sim_ring, rough_kernel)
{
    run_many(&rough, 20);
}

CASE(sim_ring, rough_kernel_in_a_storm)
{
    run_many(&rough, 90);
}

CASE(sim_ring, crowded_kernel)
{
    run_many(&crowded, 30);
}

/* Every op ends, timers in time, and nothing of it is left in the kernel: `run` looks. */
static void break_many(const struct sim_options *options, bool dies)
{
    uint64_t lost = 0;
    uint64_t repairs = 0;
    unsigned dead = 0;

    for (uint64_t stream = 0; stream < RUNS / 2; stream++) {
        (void)run(options, TR__RING_ENTRIES_MIN, 20, 600, stream);
        lost += world.lost;
        repairs += world.sim.repairs;
        dead += world.sim.dead;
    }
    CHECK(lost > RUNS && repairs > RUNS / 2);
    CHECK(dies ? dead > RUNS / 4 : dead < RUNS / 10);
}

CASE(sim_ring, ring_that_breaks)
{
    break_many(&brittle, false);
}

CASE(sim_ring, ring_that_cannot_be_made_again)
{
    break_many(&doomed, true);
}

CASE(sim_ring, ring_that_breaks_at_once_each_time)
{
    break_many(&stillborn, true);
}

CASE(sim_ring, same_seed_same_run)
{
    uint64_t first = run(&rough, 128, 40, 500, 7);

    CHECK_EQ_U64(run(&rough, 128, 40, 500, 7), first);
    CHECK(run(&rough, 128, 40, 500, 8) != first);
}
