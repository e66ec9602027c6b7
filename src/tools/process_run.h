/*
 * process_run.h: one program while tr_process runs it. For process's own files.
 */
#ifndef TR__TOOLS_PROCESS_RUN_H
#define TR__TOOLS_PROCESS_RUN_H

#include <stdbool.h>
#include <stdint.h>

#include <toolring/process.h>

#include "engine/live.h"
#include "tools/io.h"

enum tr__run_request {
    TR__RUN_OUT = TR_STREAM_OUT, /* readiness of its output */
    TR__RUN_ERROR = TR_STREAM_ERROR,
    TR__RUN_INPUT, /* room in its input */
    TR__RUN_EXIT,  /* of the leader */
    TR__RUN_CLOCK, /* a time that no other request under way looks after */
    TR__RUN_ROOM,  /* TR_OVERFLOW_PAUSE: a reader has made room; finished by the live's hook */
    TR__RUN_GONE,  /* its tree */
    TR__RUN_REQUESTS,
};

enum tr__run_phase {
    TR__RUN_RUNNING,
    TR__RUN_STOPPING, /* SIGTERM was sent */
    TR__RUN_KILLED,   /* SIGKILL was sent */
};

struct tr__run_stream {
    struct tr__capture *capture; /* in the live */
    int fd;                      /* the child's to close */
    bool open;                   /* its end was not seen */
    bool ready;                  /* there may be bytes to read */
    bool ending;                 /* it was seen hung up: read on to the end */
    bool starved;                /* TR_OVERFLOW_PAUSE: waits for a reader */
    bool widened;                /* its pipe was to be enlarged */
    bool wide;                   /* it was */
    uint64_t bytes;              /* read */
};

struct tr__run {
    tr_call *call;
    const tr_process_spec *spec;
    struct tr__live *live;
    struct tr__tree *tree; /* child.owner, as long as it is ours */
    tr_child child;
    enum tr__run_phase phase;
    bool exited;
    bool drained;     /* the time for trailing output is over */
    bool exit_looked; /* it has closed its streams, and its exit was looked for a little */
    bool room_wanted; /* RUN_ROOM is for the hook to finish; under the live's mutex */
    bool input_ready;
    bool timed_out;
    bool cancelled;
    bool overflowed;
    int input_fd;      /* where `input` is written to; -1: it was written, or there was none */
    size_t input_used; /* bytes written of it */

    /* Times; TR_FOREVER: none. */
    uint64_t now_ns; /* last looked at */
    uint64_t spawned_ns;
    uint64_t exited_ns;
    uint64_t turn_ns;    /* since when it keeps its worker */
    uint64_t timeout_ns; /* when it is to be stopped */
    uint64_t grace_ns;   /* when it is to be killed */
    uint64_t drain_ns;   /* when trailing output is not waited for any longer */
    uint64_t tell_ns;    /* when output that was held back is to be told of */

    uint64_t turn_bytes;        /* read since turn_ns */
    uint64_t turn_bytes_before; /* in the turn before */
    uint64_t bytes;             /* of both streams */
    uint64_t bytes_told;        /* by the last OUTPUT event */
    uint64_t told_ns;           /* when that was */
    unsigned char *scratch;

    uint32_t under_way; /* bit per request */
    uint32_t clock;     /* the request that comes back at clock_ns at the latest */
    uint64_t clock_ns;
    struct tr__run_stream streams[TR__LIVE_STREAMS];
    tr_io requests[TR__RUN_REQUESTS];
};

/* ---- process.c ---- */

/* Waits for requests under way, at least one, and notes what they bring. 0 or TR_ECANCELED. */
int tr__run_await(struct tr__run *run, uint32_t flags);
/* The leader has exited. */
void tr__run_exited(struct tr__run *run);

static inline bool tr__run_is_under_way(const struct tr__run *run, enum tr__run_request which)
{
    return (run->under_way & 1u << which) != 0;
}

/* ---- process_stream.c ---- */

/* Reads what is there, but not more than a share; writes input. */
void tr__run_move(struct tr__run *run);
/* Whether a stream is not at its end; waits for a reader; has more to be read at once. */
bool tr__run_is_open(const struct tr__run *run);
bool tr__run_is_starved(const struct tr__run *run);
bool tr__run_is_ready(const struct tr__run *run);
/* Looks at streams and exit itself, blocking the thread for at most this. True: something came. */
bool tr__run_look(struct tr__run *run, uint64_t duration_ns);
/* In a flood that has been read up: lets a wide pipe fill for a moment. Blocks the thread. */
void tr__run_nap(struct tr__run *run);
/* Begins TR__RUN_ROOM. */
void tr__run_want_room(struct tr__run *run);
/* Goes on as with TR_OVERFLOW_DROP: readers are not waited for any more. */
void tr__run_unpause(struct tr__run *run);
/* Publishes how much there is, now and then. `last`: in any case. */
void tr__run_tell(struct tr__run *run, bool last);
/* What is left of RUN_ROOM is finished, if no hook does. */
void tr__run_stop_room(struct tr__run *run);

/* ---- process_end.c ---- */

/* SIGTERM, and SIGKILL after the grace. */
void tr__run_stop(struct tr__run *run);
void tr__run_kill(struct tr__run *run);
/* Brings the requests back, ends or leaves the tree, collects the leader, fills in the result. */
void tr__run_end(struct tr__run *run, tr_process_result *ret_result);

#endif
