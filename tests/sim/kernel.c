/*
 * The simulated kernel. See kernel.h.
 *
 * It also checks its user: a place only when there is room, never more requests and completions
 * than the completion queue holds, no two requests with the same user_data, nothing in flight at
 * close.
 */
#include "kernel.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <toolring/error.h>

#include "base/clock.h"

/* Nobody lives to see it: the ring's own wait for a timer set for ever ends even later. */
#define NEVER_NS (UINT64_MAX / 2)

static uint64_t below(struct sim *sim, uint64_t bound)
{
    return case_random_below(&sim->random, bound);
}

bool sim_chance(struct sim *sim, unsigned percent)
{
    return below(sim, 100) < percent;
}

void sim_note(struct sim *sim, uint64_t what)
{
    sim->trace = (sim->trace ^ what) * UINT64_C(0x100000001b3);
}

void sim_init(struct sim *sim, const struct sim_options *options, uint64_t stream)
{
    memset(sim, 0, sizeof *sim);
    sim->options = *options;
    case_random_init(&sim->random, stream);
    sim->now_ns = TR__NS_PER_SECOND + below(sim, TR__NS_PER_SECOND);
}

/* Every call takes some time, and others act meanwhile. */
static void pass_time(struct sim *sim)
{
    sim->now_ns += below(sim, 500);
    sim->step(sim->context);
}

static int sim_open(unsigned entries, void *context, void **ret_state, char *message,
                    size_t message_size)
{
    struct sim *sim = context;

    (void)message;
    (void)message_size;
    CHECK(entries <= SIM_REQUESTS_MAX);
    sim->entries = entries;
    sim->open = true;
    *ret_state = sim;
    return 0;
}

static void sim_close(void *state)
{
    struct sim *sim = state;

    CHECK(sim->open);
    CHECK_EQ_INT(sim->placed_count, 0);
    CHECK_EQ_INT(sim->flight_count, 0);
    sim->open = false;
}

static unsigned sim_room(void *state)
{
    struct sim *sim = state;

    return sim->options.submissions - sim->placed_count;
}

static bool has_descriptor(const struct tr__kernel_request *request)
{
    return request->code != TR__KERNEL_CANCEL && request->code != TR__KERNEL_DOORBELL;
}

static void sim_place(void *state, const struct tr__kernel_request *request)
{
    struct sim *sim = state;

    CHECK(!sim->dead);
    CHECK(sim_room(sim) > 0);
    for (unsigned index = 0; index < sim->flight_count; index++) {
        CHECK(sim->flight[index].request.user_data != request->user_data);
    }
    sim->placed[sim->placed_count++] = *request;
    if (has_descriptor(request)) {
        CHECK(request->fd >= 0 && request->fd < (int)SIM_REQUESTS_MAX);
        sim->last_user_data[request->fd] = request->user_data;
    }
    sim_note(sim, request->user_data);
    pass_time(sim);
}

static void complete(struct sim *sim, uint64_t user_data, int64_t result)
{
    CHECK(sim->completion_count < SIM_REQUESTS_MAX);
    sim->completions[sim->completion_count++] =
        (struct tr__kernel_completion){.user_data = user_data, .result = result};
}

/* Moves one request from the flight to the completions. */
static void land(struct sim *sim, unsigned index)
{
    struct sim_request *request = &sim->flight[index];

    if (has_descriptor(&request->request)) {
        sim->last_result[request->request.fd] = request->result;
    }
    complete(sim, request->request.user_data, request->result);
    *request = sim->flight[--sim->flight_count];
}

static int64_t choose_result(struct sim *sim, const struct tr__kernel_request *request)
{
    static const int errors[] = {EIO, ENOMEM, EPIPE, ECONNRESET, ECANCELED};

    if (sim_chance(sim, sim->options.retry)) {
        return request->code != TR__KERNEL_POLL && sim_chance(sim, 70) ? -EAGAIN : -EINTR;
    }
    if (sim_chance(sim, sim->options.failure)) {
        return -errors[below(sim, sizeof errors / sizeof *errors)];
    }
    if (request->code == TR__KERNEL_POLL) {
        return (int64_t)request->events;
    }
    return (int64_t)below(sim, (uint64_t)request->size + 1);
}

static uint64_t choose_due(struct sim *sim)
{
    if (sim_chance(sim, sim->options.never)) {
        return TR__FOREVER;
    }
    return sim_chance(sim, 50) ? sim->now_ns : sim->now_ns + below(sim, 20 * TR__NS_PER_MS);
}

static struct sim_request *find(struct sim *sim, uint64_t user_data)
{
    for (unsigned index = 0; index < sim->flight_count; index++) {
        if (sim->flight[index].request.user_data == user_data) {
            return &sim->flight[index];
        }
    }
    return NULL;
}

/* What a cancel answers, and what it does to its target. */
static int64_t carry_out(struct sim *sim, uint64_t target)
{
    struct sim_request *request = find(sim, target);
    uint64_t soon_ns = sim->now_ns + (sim_chance(sim, 50) ? 0 : below(sim, TR__NS_PER_MS));

    if (sim_chance(sim, sim->options.cancel_trouble)) {
        switch (below(sim, request == NULL ? 1 : 3)) {
        case 0:
            return sim_chance(sim, 50) ? -ENOMEM : -EAGAIN; /* nothing was done */
        case 1:
            request->due_ns = soon_ns; /* already on its way, with its own result */
            return -ENOENT;
        default:
            request->due_ns = soon_ns;
            request->result = sim_chance(sim, 50) ? -EINTR : -ECANCELED;
            return -EALREADY;
        }
    }
    if (request == NULL) {
        return -ENOENT;
    }
    request->due_ns = soon_ns;
    request->result = -ECANCELED;
    return 0;
}

static void submit_one(struct sim *sim, const struct tr__kernel_request *request)
{
    CHECK(sim->flight_count + sim->completion_count < sim->entries);
    CHECK(find(sim, request->user_data) == NULL);
    struct sim_request entry = {.request = *request, .due_ns = sim->now_ns, .result = 0};
    switch (request->code) {
    case TR__KERNEL_CANCEL:
        entry.result = carry_out(sim, request->target);
        entry.due_ns = sim_chance(sim, 70) ? sim->now_ns : sim->now_ns + below(sim, 100000);
        break;
    case TR__KERNEL_DOORBELL:
        entry.result = 8;
        entry.due_ns = TR__FOREVER;
        if (sim_chance(sim, sim->options.failure)) {
            entry.result = -ENOMEM; /* an unwelcome answer to the doorbell itself */
            entry.due_ns = sim->now_ns;
        }
        break;
    default:
        entry.result = choose_result(sim, request);
        entry.due_ns = choose_due(sim);
        break;
    }
    sim->flight[sim->flight_count++] = entry;
}

/* Takes what is placed, or some of it. Returns whether all was taken. */
static bool submit(struct sim *sim)
{
    unsigned count = sim->placed_count;

    if (count > 0 && sim_chance(sim, sim->options.short_submit)) {
        count = (unsigned)below(sim, count);
    }
    for (unsigned index = 0; index < count; index++) {
        submit_one(sim, &sim->placed[index]);
    }
    memmove(sim->placed, sim->placed + count, (sim->placed_count - count) * sizeof *sim->placed);
    sim->placed_count -= count;
    return sim->placed_count == 0;
}

/* Lets requests that are due complete, in any order, perhaps not all of them yet. */
static void deliver(struct sim *sim)
{
    unsigned start = sim->flight_count == 0 ? 0 : (unsigned)below(sim, sim->flight_count);

    for (unsigned step = 0; step < sim->flight_count; step++) {
        unsigned index = (start + step) % sim->flight_count;
        struct sim_request *request = &sim->flight[index];
        if (request->request.code == TR__KERNEL_DOORBELL && sim->belled) {
            request->due_ns = sim->now_ns;
            sim->belled = false;
        }
        if (request->due_ns <= sim->now_ns && sim_chance(sim, 80)) {
            land(sim, index);
        }
    }
    if (sim_chance(sim, sim->options.stranger) && sim->completion_count < SIM_REQUESTS_MAX) {
        /* One that was taken before comes again, or something never heard of. */
        uint64_t user_data = sim->taken[below(sim, SIM_TAKEN)];
        complete(sim, sim_chance(sim, 80) ? user_data : case_random_next(&sim->random), 1);
        sim->strangers += 1;
    }
}

static uint64_t next_due(const struct sim *sim)
{
    uint64_t next_ns = TR__FOREVER;

    for (unsigned index = 0; index < sim->flight_count; index++) {
        const struct sim_request *request = &sim->flight[index];
        uint64_t due_ns = request->due_ns;
        if (request->request.code == TR__KERNEL_DOORBELL && sim->belled) {
            due_ns = sim->now_ns;
        }
        next_ns = due_ns < next_ns ? due_ns : next_ns;
    }
    return next_ns;
}

static int sleep_until(struct sim *sim, uint64_t end_ns)
{
    for (;;) {
        deliver(sim);
        if (sim->completion_count > 0) {
            return 0;
        }
        if (sim_chance(sim, sim->options.early_return)) {
            return sim_chance(sim, 50) ? 0 : -EINTR;
        }
        sim->step(sim->context); /* others act while it sleeps */
        uint64_t next_ns = next_due(sim);
        if (next_ns > NEVER_NS && end_ns > NEVER_NS) {
            if (!sim->idle(sim->context)) {
                case_fail(__FILE__, __LINE__, "the ring sleeps for ever with ops under way");
            }
            continue;
        }
        if (end_ns <= next_ns) {
            sim->now_ns = end_ns > sim->now_ns ? end_ns : sim->now_ns;
            sim->now_ns += below(sim, 50000); /* a timer is a little late */
            return -ETIME;
        }
        sim->now_ns = next_ns > sim->now_ns ? next_ns : sim->now_ns;
    }
}

/* Without a ring there is only the bell. */
static int sleep_dead(struct sim *sim, uint64_t end_ns)
{
    while (!sim->belled && sim->now_ns < end_ns && !sim_chance(sim, sim->options.early_return)) {
        sim->step(sim->context);
        if (sim->belled) {
            break;
        }
        if (end_ns <= NEVER_NS) {
            sim->now_ns = end_ns;
        } else if (!sim->idle(sim->context)) {
            case_fail(__FILE__, __LINE__, "the ring sleeps for ever with ops under way");
        }
    }
    sim->belled = false;
    return 0;
}

static int sim_enter(void *state, bool wait, uint64_t timeout_ns)
{
    static const int errors[] = {EINTR, EAGAIN, EBUSY};
    static const int fatal[] = {EBADF, EEXIST, EBADR, ENXIO};
    struct sim *sim = state;

    pass_time(sim);
    sim_note(sim, sim->now_ns);
    if (sim->dead) {
        if (wait) {
            sim->before_sleep(sim->context);
        }
        return wait ? sleep_dead(sim, tr__clock_after(sim->now_ns, timeout_ns)) : 0;
    }
    if (below(sim, 1000) < sim->options.breaks) {
        deliver(sim);
        return -fatal[below(sim, 4)];
    }
    if (sim_chance(sim, sim->options.enter_error)) {
        deliver(sim);
        return -errors[below(sim, 3)];
    }
    if (!submit(sim) || !wait) {
        deliver(sim);
        return 0;
    }
    sim->before_sleep(sim->context);
    return sleep_until(sim, tr__clock_after(sim->now_ns, timeout_ns));
}

static int sim_repair(void *state, bool again)
{
    struct sim *sim = state;

    CHECK(!sim->dead);
    CHECK_EQ_INT(sim->completion_count, 0);
    sim->repairs += 1;
    sim->placed_count = 0;
    sim->flight_count = 0;
    pass_time(sim);
    sim->dead = !again || sim_chance(sim, sim->options.repair_error);
    return sim->dead ? TR_ERING : 0;
}

static unsigned sim_take(void *state, struct tr__kernel_completion *completions, unsigned max)
{
    struct sim *sim = state;
    unsigned count = sim->completion_count < max ? sim->completion_count : max;

    memcpy(completions, sim->completions, count * sizeof *completions);
    memmove(sim->completions, sim->completions + count,
            (sim->completion_count - count) * sizeof *completions);
    sim->completion_count -= count;
    for (unsigned index = 0; index < count; index++) {
        sim_note(sim, completions[index].user_data ^ (uint64_t)completions[index].result);
        sim->taken[sim->taken_count++ % SIM_TAKEN] = completions[index].user_data;
    }
    pass_time(sim);
    return count;
}

static void sim_bell(void *state)
{
    struct sim *sim = state;

    CHECK(sim->open);
    sim->belled = true;
}

static int64_t sim_attempt(void *state, const struct tr__op *op)
{
    struct sim *sim = state;
    int64_t result = sim_chance(sim, 80) ? -EAGAIN : 1;

    CHECK(op->kind != TR__OP_WRITE);
    CHECK(find(sim, sim->last_user_data[op->fd]) == NULL);
    if (result >= 0) {
        sim->last_result[op->fd] = result;
    }
    return result;
}

static uint64_t sim_now(void *state)
{
    struct sim *sim = state;

    pass_time(sim);
    return sim->now_ns;
}

bool sim_knows(const struct sim *sim, int fd)
{
    uint64_t user_data = sim->last_user_data[fd];

    if (user_data == 0) {
        return false; /* never placed, as yet */
    }
    for (unsigned index = 0; index < sim->placed_count; index++) {
        const struct tr__kernel_request *request = &sim->placed[index];
        if (request->user_data == user_data || request->target == user_data) {
            return true;
        }
    }
    for (unsigned index = 0; index < sim->flight_count; index++) {
        const struct tr__kernel_request *request = &sim->flight[index].request;
        if (request->user_data == user_data || request->target == user_data) {
            return true;
        }
    }
    return false;
}

const struct tr__kernel sim_kernel = {
    .open = sim_open,
    .close = sim_close,
    .room = sim_room,
    .place = sim_place,
    .enter = sim_enter,
    .repair = sim_repair,
    .take = sim_take,
    .bell = sim_bell,
    .attempt = sim_attempt,
    .now = sim_now,
};
