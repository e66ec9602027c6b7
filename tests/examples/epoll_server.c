/*
 * epoll_server.c: 10 000 sessions on one thread: an event loop of the usual kind, with two
 * descriptors: a timer that stands for the network (every millisecond some clients say something),
 * and the drain queue to which every session is bound.
 *
 *   epoll_wait ─┬─ timer: clients speak ─▶ open a turn, launch its calls ─▶ toolring
 *               └─ tr_queue_fd: tr_queue_drain ◀── turns' results, background results
 *
 * What to copy:
 *  - the descriptor is level-triggered: take one batch per round, the next round comes if there is
 *    more, and nobody else in the loop starves;
 *  - an item knows its session's `session_user`, so nothing is looked up;
 *  - TR_ITEM_TURN_IDLE tells the end of a turn, once all its calls were launched;
 *  - a refused launch (TR_EAGAIN: this server allows 512 awaiting calls at once) is no error: the
 *    session stays in line and goes on when results have made room. The loop never blocks.
 *
 * Exit status: 0 if each of the 60 000 calls was answered once, rightly, and nothing was left.
 */
#define _GNU_SOURCE /* CLOCK_MONOTONIC, also with -std=c11 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include <toolring.h>

enum {
    SESSIONS = 10000,
    TURNS = 2,            /* per session */
    CALLS = 3,            /* per turn, one to each tool */
    ARRIVALS = 200,       /* sessions that begin in one tick of the timer */
    AWAITING_MAX = 512,   /* calls that wait for something, in the whole server */
    ITEMS_PER_ROUND = 256 /* results taken before the loop looks elsewhere */
};

/* In the order of launching. A call in front is last: so the turn's idle item comes after it. */
enum tool {
    LOOK_UP,
    REMEMBER,
    FETCH
};

struct session {
    tr_session_id id;
    tr_turn_id turn;      /* the open one */
    uint32_t turn_number; /* from 0 */
    uint32_t launched;    /* calls of that turn so far */
    uint32_t answered;    /* a bit per call of every turn */
    struct session *next; /* in the line */
};

struct server {
    tr_manager *manager;
    tr_queue *queue;
    tr_tool_id tools[CALLS];
    int epoll_fd;
    int timer_fd;
    struct session *sessions;
    struct session *first; /* the line: sessions whose turn has calls to launch */
    struct session *last;
    uint32_t arrived;
    uint32_t finished;
    uint64_t answers;
    uint64_t refusals;
};

static void require(bool condition, const char *what)
{
    if (!condition) {
        fprintf(stderr, "epoll_server: %s\n", what);
        exit(1);
    }
}

/* ---- the tools: each answers with its input, changed a bit ---- */

static uint64_t answer_of(enum tool tool, uint64_t question)
{
    return question * 4 + tool;
}

static int answer(tr_call *call, enum tool tool)
{
    uint64_t value;
    tr_bytes input = tr_call_input(call);
    if (input.size != sizeof value) {
        return TR_EINVAL;
    }
    memcpy(&value, input.data, sizeof value);
    value = answer_of(tool, value);
    return tr_result_copy(call, &value, sizeof value);
}

static int look_up(tr_call *call, void *context)
{
    (void)context;
    return answer(call, LOOK_UP);
}

static int remember(tr_call *call, void *context)
{
    (void)context;
    return answer(call, REMEMBER);
}

static int fetch(tr_call *call, void *context)
{
    (void)context;
    int error = tr_sleep(call, 2 * TR_MILLISECOND); /* another server thinks */
    return error < 0 ? error : answer(call, FETCH);
}

/* ---- sessions ---- */

static uint64_t question_of(const struct server *server, const struct session *session)
{
    return (uint64_t)(session - server->sessions) * TURNS + session->turn_number;
}

/* Launches what is left of a session's turn. False: there is no room for it all at the moment. */
static bool launch(struct server *server, struct session *session)
{
    uint64_t question = question_of(server, session);
    while (session->launched < CALLS) {
        uint32_t number = session->turn_number * CALLS + session->launched;
        tr_launched launched;
        tr_request request = TR_REQUEST_INIT(session->turn, server->tools[session->launched]);
        request.call_id = (tr_bytes){&number, sizeof number}; /* any bytes will do */
        request.input = (tr_bytes){&question, sizeof question};
        int status = tr_launch(server->manager, &request, &launched);
        if (status == TR_EAGAIN) {
            server->refusals++;
            return false;
        }
        require(status == TR_PENDING, tr_error_name(status));
        session->launched++;
    }
    return true;
}

/* First come, first served, until there is no room: so a round costs what it launches. */
static void launch_line(struct server *server)
{
    while (server->first != NULL && launch(server, server->first)) {
        server->first = server->first->next;
    }
}

static void begin_turn(struct server *server, struct session *session)
{
    require(tr_turn_open(server->manager, session->id, NULL, &session->turn) == 0, "no turn");
    session->launched = 0;
    session->next = NULL;
    if (server->first == NULL) {
        server->first = session;
    } else {
        server->last->next = session;
    }
    server->last = session;
}

static void end_turn(struct server *server, struct session *session)
{
    require(tr_turn_close(server->manager, session->turn, 0) == 0, "a turn did not close");
    session->turn = 0;
    session->turn_number++;
    if (session->turn_number < TURNS) {
        begin_turn(server, session); /* the model thinks in no time */
    }
}

/* ---- the two descriptors ---- */

static void on_timer(struct server *server)
{
    uint64_t ticks;
    if (read(server->timer_fd, &ticks, sizeof ticks) != (ssize_t)sizeof ticks) {
        require(errno == EAGAIN, "the timer is broken");
        return;
    }
    for (int i = 0; i < ARRIVALS && server->arrived < SESSIONS; i++) {
        struct session *session = &server->sessions[server->arrived++];
        tr_session_options options = TR_SESSION_OPTIONS_INIT;
        options.queue = server->queue; /* all of its items come there */
        options.user = session;
        require(tr_session_open(server->manager, &options, &session->id) == 0, "no session");
        begin_turn(server, session);
    }
}

static void on_item(struct server *server, const tr_item *item)
{
    struct session *session = item->session_user;
    uint32_t number = 0;
    uint64_t value = 0;
    require(item->type == TR_ITEM_RESOLUTION && item->session == session->id, "a strange item");
    require(item->outcome == TR_OUTCOME_COMPLETED, "a call failed");
    require(item->call_id.size == sizeof number && item->result.size == sizeof value, "wrong size");
    memcpy(&number, item->call_id.data, sizeof number);
    memcpy(&value, item->result.data, sizeof value);
    require(number < TURNS * CALLS && (session->answered & 1u << number) == 0, "answered twice");
    session->answered |= 1u << number;
    server->answers++;
    enum tool tool = (enum tool)(number % CALLS);
    uint64_t question = (uint64_t)(session - server->sessions) * TURNS + number / CALLS;
    require(value == answer_of(tool, question), "a wrong answer");
    require(item->channel == (tool == REMEMBER ? TR_CHANNEL_LOOP : TR_CHANNEL_TURN),
            "a wrong channel");
    if ((item->flags & TR_ITEM_TURN_IDLE) != 0 && session->launched == CALLS) {
        end_turn(server, session);
    }
    if (session->answered == (1u << TURNS * CALLS) - 1) {
        require(tr_session_close(server->manager, session->id, 0) == 0, "a session did not close");
        server->finished++;
    }
}

static void on_queue(struct server *server)
{
    tr_batch *batch;
    int count = tr_queue_drain(server->queue, 0, ITEMS_PER_ROUND, &batch);
    require(count >= 0, "the drain failed");
    for (int i = 0; i < count; i++) {
        on_item(server, &batch->items[i]);
    }
    tr_batch_release(batch); /* makes room: tasks, their results */
}

/* ---- the loop ---- */

static void watch(const struct server *server, int fd)
{
    struct epoll_event event = {.events = EPOLLIN, .data.fd = fd};
    require(fd >= 0 && epoll_ctl(server->epoll_fd, EPOLL_CTL_ADD, fd, &event) == 0, "no watch");
}

static void add_tool(struct server *server, enum tool number, const char *name,
                     tr_tool_function function)
{
    tr_tool tool = TR_TOOL_INIT(name, function);
    tool.flags = number == FETCH ? TR_TOOL_AWAITING : 0;
    tool.options.route = number == REMEMBER ? TR_ROUTE_BACKGROUND : TR_ROUTE_DEFAULT;
    require(tr_tool_register(server->manager, &tool, &server->tools[number]) == 0, "no tool");
}

static void server_open(struct server *server)
{
    tr_config config = TR_CONFIG_INIT;
    struct itimerspec tick = {{0, 1000000}, {0, 1000000}};
    memset(server, 0, sizeof *server);
    config.fibers_max = AWAITING_MAX;
    int error = tr_manager_open(&config, &server->manager);
    require(error == 0, tr_error_message(error));
    require(tr_queue_open(server->manager, &server->queue) == 0, "no queue");
    add_tool(server, LOOK_UP, "look_up", look_up);
    add_tool(server, REMEMBER, "remember", remember);
    add_tool(server, FETCH, "fetch", fetch);
    server->sessions = calloc(SESSIONS, sizeof *server->sessions);
    server->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    server->timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    require(server->sessions != NULL && server->epoll_fd >= 0 && server->timer_fd >= 0,
            "no memory or descriptor");
    require(timerfd_settime(server->timer_fd, 0, &tick, NULL) == 0, "no timer");
    watch(server, server->timer_fd);
    watch(server, tr_queue_fd(server->queue));
}

/* Nothing may be left, so everything closes at the first try. */
static void server_close(struct server *server)
{
    tr_stats stats;
    require(tr_manager_wait_idle(server->manager, TR_FOREVER) == 0, "not idle");
    require(tr_queue_close(server->queue) == 0, "something is in the queue or bound to it");
    require(tr_manager_stats(server->manager, &stats) == 0, "no stats");
    require(stats.accepted == stats.completed && stats.completed == server->answers, "lost calls");
    require(stats.tasks_used == 0 && stats.turns_used == 0 && stats.sessions_used == 0, "a leak");
    require(tr_manager_close(server->manager, 0) == 0, "the manager did not close");
    tr_manager_free(server->manager);
    close(server->timer_fd);
    close(server->epoll_fd);
    free(server->sessions);
}

int main(void)
{
    struct server server;
    uint64_t rounds = 0;
    server_open(&server);
    while (server.finished < SESSIONS) {
        struct epoll_event events[2];
        int count = epoll_wait(server.epoll_fd, events, 2, -1);
        require(count > 0 || errno == EINTR, "epoll is broken");
        for (int i = 0; i < count; i++) {
            if (events[i].data.fd == server.timer_fd) {
                on_timer(&server);
            } else {
                on_queue(&server);
            }
        }
        launch_line(&server); /* results taken have made room */
        rounds++;
    }
    require(server.answers == (uint64_t)SESSIONS * TURNS * CALLS, "answers are missing");
    printf("%d sessions, %llu answers in %llu rounds of the loop, %llu of them full\n", SESSIONS,
           (unsigned long long)server.answers, (unsigned long long)rounds,
           (unsigned long long)server.refusals);
    server_close(&server);
    return 0;
}
