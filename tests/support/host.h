/* A rig: a manager with a session, a turn and a set of tools, for tests of the host interface.
 *
 * BOTH(suite, name) { … rig … } makes two cases of one body: on a manager with threads and on an
 * inline one. THREADED and INLINE make one. Each opens its rig, runs the body and closes the rig,
 * which looks afterwards whether a thread, a descriptor, an unfinished task or a byte is left.
 *
 * Only public headers are used. Nothing here sleeps: a gate is a door at which tool functions wait
 * (or a call stays deferred) until the test opens it, and which tells how many have come to it.
 */
#ifndef TR__TESTS_SUPPORT_HOST_H
#define TR__TESTS_SUPPORT_HOST_H

#include <pthread.h>
#include <stdbool.h>
#include <string.h>

#include <toolring.h>

#include "support/case.h"
#include "support/wait.h"

/* Long enough for a loaded machine under a sanitizer; nothing takes that long unless it hangs. */
#define RIG_PATIENCE_SECONDS 20
#define RIG_PATIENCE_NS (RIG_PATIENCE_SECONDS * TR_SECOND)

/* ---- the gate ---- */

enum {
    GATE_CALLS_MAX = 64, /* deferred calls one gate remembers */
};

/* The user pointer of calls to the tools that wait. Cleared memory is no gate: use gate_open. */
struct gate {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    int fd; /* an eventfd, readable when the gate is open */
    bool open;
    unsigned entered; /* functions that have come to it */
    unsigned left;    /* functions about to return */
    int status;       /* what the last awaiting function to leave was told: 0 or TR_ECANCELED */
    tr_deferred deferred[GATE_CALLS_MAX];
};

void gate_init(struct gate *gate);
/* Every function that came to it must have returned. */
void gate_done(struct gate *gate);
/* Lets all through, those to come as well. */
void gate_open(struct gate *gate);
/* Waits until `count` functions have come to it, or are about to return. */
void gate_await_entered(struct gate *gate, unsigned count);
void gate_await_left(struct gate *gate, unsigned count);
unsigned gate_entered(struct gate *gate);
/* What a function does that comes to it: says so (the number of those before it), and waits until
 * it is open. */
unsigned gate_enter(struct gate *gate);
void gate_pass(struct gate *gate);

/* ---- the rig ---- */

enum rig_mode {
    RIG_THREADED,
    RIG_INLINE,
};

struct rig {
    tr_manager *manager;
    tr_session_id session;
    tr_turn_id turn;
    enum rig_mode mode;
    unsigned threads;     /* of the process, before */
    unsigned descriptors; /* likewise */
    /* Tools. The user pointer of `gate`, `awaiting` and `deferred` is a struct gate. */
    tr_tool_id echo;     /* its result is its input */
    tr_tool_id nothing;  /* returns 0 */
    tr_tool_id fail;     /* its input as result, returns TR_ETOOL */
    tr_tool_id gate;     /* plain: blocks its thread at the gate; result "late" */
    tr_tool_id awaiting; /* awaits the gate; result "opened", or "partial" when asked to stop */
    tr_tool_id deferred; /* leaves its handle at the gate, returns TR_DEFERRED */
};

void rig_open(struct rig *rig, enum rig_mode mode, const tr_config *config);
/* Closes with patience and checks that everything was accounted for and nothing is left. */
void rig_close(struct rig *rig);
/* The two halves of it, for tests that look at what a closed manager still does. */
void rig_shut(struct rig *rig, uint64_t drain_ns);
void rig_free(struct rig *rig);

/* Registers a tool with default options. */
tr_tool_id rig_tool(struct rig *rig, const char *name, tr_tool_function function, void *context);

tr_stats rig_stats(struct rig *rig);
void rig_wait_idle(struct rig *rig);
tr_turn_id rig_turn(struct rig *rig, tr_session_id session);
tr_session_id rig_session(struct rig *rig);

/* Launches one call that must be accepted; it is PENDING. */
tr_launched rig_launch_request(struct rig *rig, const tr_request *request);
tr_task_id rig_launch(struct rig *rig, tr_tool_id tool, void *user, tr_route route);
tr_task_id rig_launch_text(struct rig *rig, tr_tool_id tool, const char *input, tr_route route);

/* The next item of a channel, which must come; the batch has this one. Release it. */
tr_batch *rig_turn_take(struct rig *rig, tr_turn_id turn);
tr_batch *rig_loop_take(struct rig *rig, tr_session_id session);
tr_batch *rig_ready_take(struct rig *rig, tr_session_id session);
tr_batch *rig_queue_take(tr_queue *queue);
/* Nothing is there now. */
void rig_turn_is_idle(struct rig *rig, tr_turn_id turn);
void rig_loop_is_empty(struct rig *rig, tr_session_id session);
void rig_ready_is_empty(struct rig *rig, tr_session_id session);
/* Takes all there is in a channel until the turn is idle or nothing is there; how many items. */
unsigned rig_turn_flush(struct rig *rig, tr_turn_id turn);
unsigned rig_loop_flush(struct rig *rig, tr_session_id session);

/* The item is a resolution of this task with this outcome. */
void rig_check(const tr_batch *batch, tr_task_id task, tr_outcome outcome);
void rig_check_release(tr_batch *batch, tr_task_id task, tr_outcome outcome);
bool rig_bytes_are(tr_bytes bytes, const char *text);
tr_bytes rig_bytes(const char *text);

tr_snapshot rig_snapshot(struct rig *rig, tr_task_id task);
/* Waits until the task shows this state. */
void rig_await_state(struct rig *rig, tr_task_id task, tr_state state);

/* What the process has now. */
unsigned rig_threads(void);
unsigned rig_descriptors(void);

/* ---- threads of a test ---- */

/* A thread that must start, and its end. */
pthread_t rig_thread(void *(*function)(void *argument), void *argument);
void rig_join(pthread_t thread);

/* ---- cases ---- */

#define RIG_CASE(suite_, case_, body_, mode_, seconds_)                                            \
    CASE_TIMEOUT(suite_, case_, seconds_)                                                          \
    {                                                                                              \
        struct rig rig;                                                                            \
        rig_open(&rig, mode_, NULL);                                                               \
        body_(&rig);                                                                               \
        rig_close(&rig);                                                                           \
    }

#define RIG_TIMEOUT_SECONDS 60

#define BOTH(suite_, name_)                                                                        \
    static void suite_##_##name_(struct rig *rig);                                                 \
    RIG_CASE(suite_, name_##_threaded, suite_##_##name_, RIG_THREADED, RIG_TIMEOUT_SECONDS)        \
    RIG_CASE(suite_, name_##_inline, suite_##_##name_, RIG_INLINE, RIG_TIMEOUT_SECONDS)            \
    static void suite_##_##name_(struct rig *rig)

#define THREADED(suite_, name_)                                                                    \
    static void suite_##_##name_(struct rig *rig);                                                 \
    RIG_CASE(suite_, name_, suite_##_##name_, RIG_THREADED, RIG_TIMEOUT_SECONDS)                   \
    static void suite_##_##name_(struct rig *rig)

#define INLINE(suite_, name_)                                                                      \
    static void suite_##_##name_(struct rig *rig);                                                 \
    RIG_CASE(suite_, name_, suite_##_##name_, RIG_INLINE, RIG_TIMEOUT_SECONDS)                     \
    static void suite_##_##name_(struct rig *rig)

#endif
