/*
 * vigil.c: see vigil.h.
 *
 * Owner: its lock. Called by deadline.c, run.c, call.c and host, of inline managers only; calls
 * deadline (what is due, and what to do), settle.
 *
 * Invariants
 *  1. A live task with HOLD_TIMER is on the wheel, or exactly one thread is busy with it: its
 *     launcher, before the arming; its canceller, likewise; or a looker. That thread puts it on the
 *     wheel, or drops HOLD_TIMER if the task has ended: decided under the lock, where the ender
 *     (who has changed the word before) looks whether it is on the wheel. So it is dropped once.
 *  2. What is due is done without the lock: it may settle, detach, and post hooks.
 *  3. A sleeper prepares its parker (a function's: has looked at what it awaits, engine/call), then
 *     enters the list and reads `next_ns` under the lock; `next_ns` changes under the lock, and who
 *     brings it forward tells all in the list. So a sleeper sees the new time, or is woken. Waiters
 *     of a gate have entered before they read it, and look again when it is opened.
 *
 * Complexity: arming, moving, disarming O(1) under the lock; a look with nothing due one load, and
 * one look at the clock if there is any time to come.
 */
#include "engine/vigil.h"

#include <toolring/error.h>

#include "base/assert.h"
#include "base/clock.h"
#include "base/memory.h"
#include "engine/engine.h"

static void lock(struct tr__vigil *vigil)
{
    int error = pthread_mutex_lock(&vigil->lock);
    TR_ASSERT(error == 0); /* a default mutex fails only if it is corrupt */
}

static void unlock(struct tr__vigil *vigil)
{
    int error = pthread_mutex_unlock(&vigil->lock);
    TR_ASSERT(error == 0);
}

struct tr__vigil *tr__vigil_make(void)
{
    struct tr__vigil *vigil =
        (struct tr__vigil *)tr__memory_take_aligned(TR_CACHE_LINE, sizeof(*vigil));
    if (vigil != NULL) {
        (void)pthread_mutex_init(&vigil->lock, NULL);   /* a default mutex: cannot fail on Linux */
        tr__store_relaxed(&vigil->next_ns, TR_FOREVER); /* nobody knows it yet */
        vigil->waits = NULL;
        tr__wheel_init(&vigil->wheel, TR__WHEEL_TICK_NS, tr__clock_now());
    }
    return vigil;
}

void tr__vigil_free(struct tr__vigil *vigil)
{
    if (vigil != NULL) {
        TR_ASSERT(vigil->waits == NULL);
        (void)pthread_mutex_destroy(&vigil->lock); /* nobody uses it any more */
        tr__memory_give(vigil);
    }
}

static struct tr__deadline *deadline_of(struct tr__wheel_entry *entry)
{
    return TR__CONTAINER_OF(TR__CONTAINER_OF(entry, struct tr__op, timer), struct tr__deadline, op);
}

/* Under the lock, after a change of the wheel. Tells the sleepers of an earlier moment. */
static void renew(struct tr__engine *engine)
{
    struct tr__vigil *vigil = engine->vigil;
    uint64_t before = tr__load_relaxed(&vigil->next_ns); /* written under this lock */
    uint64_t next = tr__wheel_next(&vigil->wheel);
    tr__store_seq_cst(&vigil->next_ns, next); /* invariant 3: before the gate's opener looks */
    if (next < before) {
        for (struct tr__vigil_wait *wait = vigil->waits; wait != NULL; wait = wait->next) {
            if (wait->parker != NULL) {
                (void)tr__parker_notify(wait->parker);
            } else {
                tr__call_notify(engine, wait->task);
            }
        }
        tr__gate_open(&engine->completion->idle);
    }
}

/* Under the lock. False: the task has ended, the caller is to drop HOLD_TIMER. */
static bool put(struct tr__engine *engine, struct tr__deadline *deadline)
{
    uint64_t word = tr__task_word(deadline->task);
    bool live = tr__word_is_live(word);
    if (live) {
        uint64_t next = tr__deadline_next(deadline, word, tr__clock_now());
        tr__wheel_arm(&engine->vigil->wheel, &deadline->op.timer, next);
    }
    renew(engine);
    return live;
}

/* Under the lock. False: somebody else is busy with it. */
static bool take_off(struct tr__vigil *vigil, struct tr__deadline *deadline)
{
    bool armed = tr__wheel_is_armed(&deadline->op.timer);
    if (armed) {
        tr__wheel_disarm(&vigil->wheel, &deadline->op.timer);
    }
    return armed;
}

static void drop(struct tr__engine *engine, struct tr__deadline *deadline)
{
    tr__settle_drop(engine->completion, deadline->task, TR__TASK_HOLD_TIMER);
}

void tr__vigil_arm(struct tr__engine *engine, struct tr__deadline *deadline)
{
    lock(engine->vigil);
    bool kept = put(engine, deadline);
    unlock(engine->vigil);
    if (!kept) {
        drop(engine, deadline);
    }
}

void tr__vigil_disarm(struct tr__engine *engine, struct tr__deadline *deadline)
{
    lock(engine->vigil);
    bool taken = take_off(engine->vigil, deadline);
    if (taken) {
        renew(engine);
    }
    unlock(engine->vigil);
    if (taken) {
        drop(engine, deadline);
    }
}

void tr__vigil_move(struct tr__engine *engine, struct tr__deadline *deadline)
{
    lock(engine->vigil);
    /* Else it is put back by who has it, and with the new times: the lock is taken for that. */
    bool lost = take_off(engine->vigil, deadline) && !put(engine, deadline);
    unlock(engine->vigil);
    if (lost) {
        drop(engine, deadline);
    }
}

/* It is off the wheel, and the caller's. */
static void look_at(struct tr__engine *engine, struct tr__deadline *deadline, uint64_t now)
{
    uint64_t word = tr__task_word(deadline->task);
    if (tr__word_is_live(word)) {
        tr__deadline_act(deadline, word, now);
    }
    tr__vigil_arm(engine, deadline);
}

void tr__vigil_look(struct tr__engine *engine)
{
    struct tr__vigil *vigil = engine->vigil;
    uint64_t next = tr__vigil_next(vigil);
    uint64_t now = next == TR_FOREVER ? 0 : tr__clock_now();
    while (next <= now) {
        lock(vigil);
        struct tr__wheel_entry *entry = tr__wheel_pop(&vigil->wheel, now);
        renew(engine);
        unlock(vigil);
        if (entry == NULL) {
            return;
        }
        look_at(engine, deadline_of(entry), now); /* put back for later than now */
        next = tr__vigil_next(vigil);
    }
}

void tr__vigil_judge(struct tr__engine *engine, struct tr__deadline *deadline)
{
    lock(engine->vigil);
    bool taken = take_off(engine->vigil, deadline);
    unlock(engine->vigil);
    if (taken) {
        look_at(engine, deadline, tr__clock_now());
    }
}

uint64_t tr__vigil_enter(struct tr__vigil *vigil, struct tr__vigil_wait *wait)
{
    lock(vigil);
    wait->next = vigil->waits;
    wait->link = &vigil->waits;
    if (wait->next != NULL) {
        wait->next->link = &wait->next;
    }
    vigil->waits = wait;
    uint64_t next = tr__vigil_next(vigil); /* invariant 3 */
    unlock(vigil);
    return next;
}

void tr__vigil_leave(struct tr__vigil *vigil, struct tr__vigil_wait *wait)
{
    lock(vigil);
    *wait->link = wait->next;
    if (wait->next != NULL) {
        wait->next->link = wait->link;
    }
    unlock(vigil);
}

void tr__vigil_sleep(struct tr__vigil *vigil, struct tr__parker *parker, uint64_t deadline_ns)
{
    struct tr__vigil_wait wait = {parker, NULL, NULL, NULL};
    uint64_t next = tr__vigil_enter(vigil, &wait);
    (void)tr__parker_wait(parker, next < deadline_ns ? next : deadline_ns); /* the caller looks */
    tr__vigil_leave(vigil, &wait);
}
