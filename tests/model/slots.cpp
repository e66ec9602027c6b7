/* Model of the slots with generations.
 *
 * Two users with a lane each take a slot, use it, end its life and give it to either lane; a third
 * thread looks ids up. What must hold: no slot has two users, no id comes twice, an ended id is not
 * found by who knows of the end, an id that is found brings along what the life before it left, a
 * compare-and-swap on the word succeeds in the id's own life only, and no slot gets lost.
 */
#include "model/model.h"

#include "base/limits.h"

/* Chunks of one slot, so that the lanes race for those never used. */
#undef TR__SLOTS_CHUNK
#define TR__SLOTS_CHUNK 1u

#include "parts/slots.c"

namespace
{

enum {
    TAG = 3,
    SLOTS = 2,
    LANES = 2,
    USERS = 2,
    LIVES = 8, /* more than all users together can end */
};

struct alignas(16) record {
    struct tr__slot slot;
    rl::var<unsigned> data;          /* the user's; plain */
    rl::var<unsigned> legacy[LIVES]; /* written once each, at the end of a life */
    uint64_t life;                   /* ghost: the last life that has ended */
    unsigned user;                   /* ghost: its number, 0 nobody */
};

alignas(16) unsigned char room[(SLOTS + 1) * sizeof(record)];

record *record_at(unsigned index)
{
    return (record *)(void *)(room + index * sizeof(record));
}

} // namespace

/* The storage; zero, as a reservation is. Slot 0 is never touched. */
void *tr__memory_reserve(size_t bytes)
{
    RL_ASSERT(bytes == sizeof(room));
    for (unsigned i = 1; i <= SLOTS; i++) {
        record *it = ::new (room + i * sizeof(record)) record;
        tr__store_relaxed(&it->slot.word, 0u);
        tr__store_relaxed(&it->slot.link, 0u);
        it->data($) = 0;
        it->life = 0;
        it->user = 0;
    }
    return room;
}

void tr__memory_unreserve(void *memory, size_t bytes)
{
    RL_ASSERT(memory == room && bytes == sizeof(room));
    for (unsigned i = 1; i <= SLOTS; i++) {
        record_at(i)->~record();
    }
}

namespace
{

/* Users take and give `rounds` times each, the finder looks `looks` times. */
template <int rounds, int looks> struct lives : rl::test_suite<lives<rounds, looks>, USERS + 1> {
    struct tr__slots slots;
    struct {
        rl::mutex lock;
        struct tr__slots_cache cache;
    } lanes[LANES];
    tr__atomic_u64 issued[USERS]; /* relaxed on purpose: the slot's word does the handing over */
    tr__atomic_u64 ended[USERS];

    void before()
    {
        RL_ASSERT(tr__slots_init(&slots, sizeof(record), SLOTS, TAG) == 0);
        for (auto &lane : lanes) {
            tr__slots_cache_init(&lane.cache);
        }
        for (int i = 0; i < USERS; i++) {
            tr__store_relaxed(&issued[i], 0u);
            tr__store_relaxed(&ended[i], 0u);
        }
    }

    record *take(unsigned which)
    {
        auto &lane = lanes[which];
        lane.lock.lock($);
        struct tr__slot *slot = tr__slots_take_local(&slots, &lane.cache);
        if (slot == NULL && tr__slots_reclaim(&slots, &lane.cache, NULL, NULL) > 0) {
            slot = tr__slots_take_local(&slots, &lane.cache);
        }
        if (slot == NULL) {
            slot = tr__slots_take_fresh(&slots, &lane.cache);
        }
        lane.lock.unlock($);
        return (record *)(void *)slot;
    }

    void use(unsigned index)
    {
        record *it = take(index);
        if (it == NULL) {
            return; /* the other lane has them all */
        }
        RL_ASSERT(it->user == 0);
        it->user = index + 1;
        uint64_t life = it->life + 1;
        RL_ASSERT(tr__load_relaxed(&it->slot.word) == life << TR__STATE_BITS);
        it->data($) = index;
        uint64_t id = tr__slots_id(&slots, &it->slot);
        RL_ASSERT(id == TR__ID_MAKE(TAG, life, it->slot.index));
        RL_ASSERT(tr__slots_find(&slots, id) == &it->slot);
        tr__store_relaxed(&issued[index], id);
        RL_ASSERT(it->user == index + 1 && it->data($) == index);
        it->legacy[life]($) = index;
        tr__slots_stale(&slots, &it->slot);
        it->user = 0;
        it->life = life;
        RL_ASSERT(tr__slots_find(&slots, id) == NULL);
        tr__store_release(&ended[index], id);
        tr__slots_give(&slots, &lanes[rl::rand(LANES)].cache, &it->slot);
    }

    void look_for_ended()
    {
        uint64_t id = tr__load_acquire(&ended[rl::rand(USERS)]);
        if (id != 0) {
            RL_ASSERT(tr__slots_find(&slots, id) == NULL);
        }
    }

    void look_for_issued()
    {
        uint64_t id = tr__load_relaxed(&issued[rl::rand(USERS)]);
        struct tr__slot *slot = id != 0 ? tr__slots_find(&slots, id) : NULL;
        if (slot == NULL) {
            return;
        }
        record *it = record_at(TR__ID_INDEX(id));
        RL_ASSERT(slot == &it->slot && slot->index == TR__ID_INDEX(id));
        uint64_t life = TR__ID_GENERATION(id);
        if (life > 1) {
            RL_ASSERT(it->legacy[life - 1]($) < USERS);
        }
        uint64_t word = life << TR__STATE_BITS;
        if (tr__cas_acq_rel(&slot->word, &word, word | 1u)) {
            RL_ASSERT(it->user != 0 && it->life + 1 == life);
        }
    }

    void thread(unsigned index)
    {
        if (index < USERS) {
            for (int i = 0; i < rounds; i++) {
                use(index);
            }
        } else {
            for (int i = 0; i < looks; i++) {
                rl::rand(2) == 0 ? look_for_ended() : look_for_issued();
            }
        }
    }

    /* Alone again: all are there, each once. */
    void after()
    {
        int count = 0;
        for (unsigned which = 0; which < LANES; which++) {
            for (record *it = take(which); it != NULL; it = take(which)) {
                RL_ASSERT(it->user == 0);
                it->user = 1;
                count++;
            }
        }
        RL_ASSERT(count == SLOTS);
        tr__slots_done(&slots);
    }
};

using crowd = lives<3, 12>;
using few = lives<1, 1>;

} // namespace

int main()
{
    model::search schedules = model::random(100000);
    model::holds<crowd>("three lives each, twelve looks", schedules);
    model::holds<few>("one life each, one look", model::within(2));
    model::breaks<crowd>({"tr__slots_give_chain", rl::mo_acq_rel, rl::mo_acquire}, schedules);
    model::breaks<crowd>({"tr__slots_reclaim", rl::mo_acquire, rl::mo_relaxed}, schedules);
    model::breaks<crowd>({"tr__slots_stale", rl::mo_release, rl::mo_relaxed}, schedules);
    model::breaks<crowd>({"tr__slots_find", rl::mo_acquire, rl::mo_relaxed}, schedules);
    return model::finish();
}
