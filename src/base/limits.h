/* Limits: every bound of the library, with its reason and its proof.
 *
 * Purpose: no queue, loop, table or text has a bound that is not named here. Owner: none;
 * constants. Naming: _MAX is hard (a larger request is refused), _MIN likewise, _DEFAULT is what
 * zero in a configuration means. Unit last: bytes, nanoseconds, else a count.
 *
 * The relations that other floors build on are proved at the end; a change that breaks one does not
 * compile.
 */
#ifndef TR__BASE_LIMITS_H
#define TR__BASE_LIMITS_H

#include <stdint.h>

#include "base/assert.h"
#include "base/atomic.h"

/* ---- ids: tag | generation | index, from the top bit down ---- */

/* 16 million things of a kind at once: ten times the largest workload, and 3 bytes of an id. */
#define TR__INDEX_BITS 24
/* A slot reused every 150 ns takes 2.8 hours to spend its generations; spent slots are retired. */
#define TR__GENERATION_BITS 36
/* 16 kinds of id: a turn's id handed in as a task's is recognised instead of hitting a stranger. */
#define TR__TAG_BITS 4
/* State bits below the generation in a slot's word: all that 64 bits leave over. */
#define TR__STATE_BITS (64 - TR__GENERATION_BITS)

/* Index 0 is "none" and the all-ones index stays free as a mark, hence two less than the bits hold.
 */
#define TR__INDEX_MAX ((1u << TR__INDEX_BITS) - 2u)
/* The highest generation marks a spent slot; live ones run from 1 to one below it. */
#define TR__GENERATION_SPENT ((UINT64_C(1) << TR__GENERATION_BITS) - 1u)

/* ---- how many ---- */

/* As many as an index can name. */
#define TR__TASKS_MAX TR__INDEX_MAX
/* 1024 turns of 64 calls; 16 MiB of records if all are live, nothing while they are not. */
#define TR__TASKS_DEFAULT 65536u
/* A turn holds at least one task to matter, so as many as tasks. */
#define TR__TURNS_MAX TR__INDEX_MAX
#define TR__TURNS_DEFAULT 65536u
/* Six times the 10 000 sessions of the largest workload; an idle one costs one slot. */
#define TR__SESSIONS_MAX TR__INDEX_MAX
#define TR__SESSIONS_DEFAULT 65536u

/* ---- tools and queues ---- */

/* Agents offer a model dozens of tools, large hosts some hundreds. */
#define TR__TOOLS_DEFAULT 1024u
/* The tool's index takes 16 bits of a task's record. */
#define TR__TOOLS_MAX 65535u
/* One per consuming thread, and threads are few. */
#define TR__QUEUES_DEFAULT 64u
#define TR__QUEUES_MAX 4096u

/* ---- bytes of the host's (texts: toolring/types.h) ---- */

/* A model's longest answer is under 1 MiB; files pasted into a call make up the rest. */
#define TR__INPUT_DEFAULT (UINT64_C(16) << 20)
/* Keeps every size within 32 bits with room to spare. */
#define TR__INPUT_MAX (UINT64_C(1) << 30)
/* About 250 000 tokens: more than a model can read from one call. */
#define TR__OUTPUT_CAP_DEFAULT (UINT64_C(1) << 20)
/* A cap is per task and reserved against the budget, so it is bounded like the input. */
#define TR__OUTPUT_CAP_MAX (UINT64_C(1) << 30)

/* ---- threads ---- */

/* The idle workers are one 64-bit bitmap; more threads than this belong into a second manager. */
#define TR__WORKERS_MAX 64u
/* The default is the number of CPUs, but never one alone: a blocking tool would stall everything.
 */
#define TR__WORKERS_MIN 2u
/* Threads added for workers stuck in a tool. 16 blocked tools at once is already unusual ... */
#define TR__SUBSTITUTES_DEFAULT 16u
/* ... and 256 stacks are the most one wants to pay for a host that blocks on principle. */
#define TR__SUBSTITUTES_MAX 256u
/* Launching threads spread over this many free lists, so that two rarely meet on a lock. */
#define TR__LANES 16u
/* At least, but started as they are needed: a spawn blocks its thread while the kernel starts the
 * program, and one thread leaves a processor idle meanwhile. */
#define TR__SPAWNERS 2u

/* ---- storage ---- */

/* One shared fetch_add per 64 first uses of a slot: its cost disappears. */
#define TR__SLOTS_CHUNK 64u
/* A chunk lives until its last result is drained: small enough to waste little, 680 results of 96
 * B. */
#define TR__ARENA_CHUNK_BYTES 65536u
/* From here a result gets a block of its own, so that no chunk loses more than 1/16 at its end. */
#define TR__ARENA_BIG_BYTES 4096u
/* Resolutions in one drained batch: the fixed cost is spread thin, one batch stays readable. */
#define TR__BATCH_MAX 1024u
/* Calls of one tr_launch_batch: more than any bound on tasks that fits into memory with comfort. */
#define TR__BATCH_LAUNCH_MAX 1048576u

/* ---- events ---- */

/* A reader may fall 1000 tasks of 8 events behind before it sees a gap; 1 MiB at 128 B an event. */
#define TR__EVENTS_DEFAULT 8192u
/* One million events is 128 MiB: who falls further behind should resynchronise by a listing. */
#define TR__EVENTS_MAX 1048576u
/* Readers' cursors are scanned when one of them must be woken: a bound keeps the scan short. */
#define TR__READERS_DEFAULT 64u
/* Each costs two cache lines and a look per event while it sleeps; nobody reads with more. */
#define TR__READERS_MAX 1024u

/* ---- ring and timers ---- */

/* Four inbox batches: the submission queue never fills within one round of the loop. */
#define TR__RING_SQ_ENTRIES 1024u
/* Operations in flight and their cancels together stay below this, so completions never overflow.
 */
#define TR__RING_CQ_ENTRIES 8192u
/* Below 64, ops and their cancels crowd each other; above 32 768 the kernel clamps. */
#define TR__RING_CQ_MIN 64u
#define TR__RING_CQ_MAX 32768u
/* Messages taken per round, so that a flood of them never keeps completions and timers waiting. */
#define TR__RING_INBOX_BATCH 256u
/* Deadlines of tools are human-scale; a finer tick wakes the ring more often for nothing. */
#define TR__WHEEL_TICK_NS (UINT64_C(1) * 1000000u)

/* ---- fibers ---- */

/* Enough for printf and a DNS lookup; only the pages touched cost memory (about 4 KiB each). */
#define TR__FIBER_STACK_DEFAULT 65536u
/* Below this a signal frame with AVX-512 state plus one printf does not fit. */
#define TR__FIBER_STACK_MIN 16384u
/* Half of vm.max_map_count / 2, the number that still works where guards split the mappings. */
#define TR__FIBERS_DEFAULT 16384u

/* One address space holds 64 GiB of the smallest stacks; the kernel's page tables set the price. */
#define TR__FIBERS_MAX 1048576u
#define TR__FIBER_STACK_MAX (8u << 20)

/* A free stack keeps its pages for one to two of these: a burst a second never faults them in. */
#define TR__FIBER_REST_NS UINT64_C(1000000000)

/* ---- times ---- */

/* How long close waits for a C function that does not look, and an interrupt for one that cleans
 * up. */
#define TR__ABANDON_WAIT_DEFAULT_NS (UINT64_C(2) * 1000000000u)

/* A tool that keeps its worker longer than this gets a substitute beside it. */
#define TR__SLICE_DEFAULT_NS (UINT64_C(10) * 1000000u)
/* Time between SIGTERM and SIGKILL: a compiler cleans up in milliseconds, a database in a second.
 */
#define TR__CANCEL_GRACE_DEFAULT_NS (UINT64_C(2) * 1000000000u)

/* ---- processes ---- */

/* Three descriptors each: with the host's own they fit into a raised RLIMIT_NOFILE of 4096. */
#define TR__PROCESSES_DEFAULT 1024u

/* As many as a machine's default kernel.pid_max (32 768) holds, twice. */
#define TR__PROCESSES_MAX 65536u

/* ---- memory ---- */

/* One result: a captured stream of the largest cap with room for its encoding. */
#define TR__RESULT_DEFAULT (UINT64_C(64) << 20)
#define TR__RESULT_MAX (UINT64_C(1) << 30)
/* Inputs and results held: beyond, launches are refused. */
#define TR__BYTES_DEFAULT (UINT64_C(1) << 30)

/* ---- proofs ---- */

#define TR__IS_POWER_OF_TWO(n) ((n) != 0 && ((n) & ((n)-1u)) == 0)

TR_STATIC(TR__TAG_BITS + TR__GENERATION_BITS + TR__INDEX_BITS == 64, "an id is 64 bits");
TR_STATIC(TR__STATE_BITS == 28, "a task's word leaves 28 bits of state");
TR_STATIC(TR__TASKS_MAX == (1u << 24) - 2u, "index 0 and all-ones are reserved");
TR_STATIC(TR__TASKS_DEFAULT <= TR__TASKS_MAX, "default within bound");
TR_STATIC(TR__TURNS_DEFAULT <= TR__TURNS_MAX, "default within bound");
TR_STATIC(TR__SESSIONS_DEFAULT <= TR__SESSIONS_MAX, "default within bound");
TR_STATIC(TR__INPUT_DEFAULT <= TR__INPUT_MAX, "default within bound");
TR_STATIC(TR__OUTPUT_CAP_DEFAULT <= TR__OUTPUT_CAP_MAX, "default within bound");
TR_STATIC(TR__INPUT_MAX <= UINT32_MAX / 2 && TR__OUTPUT_CAP_MAX <= UINT32_MAX / 2,
          "sizes and the sum of any two fit into 32 bits");
TR_STATIC(TR__WORKERS_MAX <= 64, "the idle workers are one 64-bit word");
TR_STATIC(TR__WORKERS_MIN <= TR__WORKERS_MAX, "bounds in order");
TR_STATIC(TR__SUBSTITUTES_DEFAULT <= TR__SUBSTITUTES_MAX, "default within bound");
TR_STATIC(TR__IS_POWER_OF_TWO(TR__LANES), "a lane is chosen by masking");
TR_STATIC(TR__INDEX_MAX + (TR__WORKERS_MAX + TR__SUBSTITUTES_MAX + 4096u) * TR__SLOTS_CHUNK <
              UINT32_MAX,
          "claims past the end by every thread at once do not wrap the count of fresh slots");
TR_STATIC(TR__ARENA_BIG_BYTES * 16u <= TR__ARENA_CHUNK_BYTES, "a chunk wastes at most 1/16");
TR_STATIC(TR__IS_POWER_OF_TWO(TR__ARENA_CHUNK_BYTES), "chunks are found by masking an address");
TR_STATIC(TR__IS_POWER_OF_TWO(TR__EVENTS_DEFAULT) && TR__IS_POWER_OF_TWO(TR__EVENTS_MAX) &&
              TR__EVENTS_DEFAULT <= TR__EVENTS_MAX,
          "the event log is indexed by masking");
TR_STATIC(TR__IS_POWER_OF_TWO(TR__RING_SQ_ENTRIES) && TR__IS_POWER_OF_TWO(TR__RING_CQ_ENTRIES),
          "the kernel rounds ring sizes to powers of two");
TR_STATIC(TR__RING_CQ_ENTRIES >= 2u * TR__RING_SQ_ENTRIES, "an operation and its cancel both fit");
TR_STATIC(TR__RING_INBOX_BATCH * 2u <= TR__RING_SQ_ENTRIES, "a batch with cancels fits the ring");
TR_STATIC(TR__FIBER_STACK_MIN <= TR__FIBER_STACK_DEFAULT, "bounds in order");
TR_STATIC(TR__FIBER_STACK_MIN % 4096u == 0, "stacks are whole pages");
TR_STATIC(TR__SLICE_DEFAULT_NS >= TR__WHEEL_TICK_NS, "a slice is measurable by the wheel");

#endif
