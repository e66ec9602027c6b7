/*
 * prepare.c: see prepare.h.
 *
 * Owner thread: the launching one. Called by launch.c; calls the host's callbacks, options,
 * approval, arena.
 *
 * Invariants
 *  1. Preparing changes nothing that the host can see, and undoing it leaves nothing behind.
 *  2. The callbacks run without any lock of the library's.
 *
 * Complexity: O(1) but for copying; memory is taken only for what does not fit into the slot.
 */
#include "host/prepare.h"

#include <string.h>

#include "base/memory.h"
#include "completion/batch.h"
#include "host/options.h"

bool tr__prepared_awaits(const tr_manager *manager, const struct tr__prepared *call)
{
    return manager->threaded && call->options->route != TR_ROUTE_INLINE &&
           (call->tool->flags & TR_TOOL_AWAITING) != 0;
}

static int check(tr_manager *manager, const tr_request *request)
{
    if (!tr__size_is_known(request, request->size, sizeof(*request)) || request->reserved != 0 ||
        !tr__options_are_valid(&request->options) ||
        (request->call_id.data == NULL && request->call_id.size > 0) ||
        (request->metadata.data == NULL && request->metadata.size > 0) ||
        (request->input.data == NULL && request->input.size > 0)) {
        return TR_EINVAL;
    }
    if (request->call_id.size > TR_CALL_ID_BYTES_MAX ||
        request->metadata.size > TR_METADATA_BYTES_MAX ||
        request->input.size > manager->input_bytes_max) {
        return TR_E2BIG;
    }
    return 0;
}

static const struct tr__tool *find_tool(tr_manager *manager, const tr_request *request)
{
    struct tr__toolbox *toolbox = &tr__manager_registry(manager)->toolbox;
    if (request->tool != 0 || request->tool_name == NULL) {
        return tr__toolbox_at(toolbox, request->tool);
    }
    return tr__toolbox_find(toolbox, request->tool_name);
}

/* The request as callbacks see it: the tool by its id and by its name, however it was given. */
static void show_request(const struct tr__prepared *call, tr_request *ret_request)
{
    *ret_request = *call->request;
    ret_request->tool = call->tool->id;
    ret_request->tool_name = call->tool->name;
}

/* Asks for permission and takes the memory that the answer needs. */
static int permit(tr_manager *manager, struct tr__prepared *call)
{
    tr_permit_answer answer;
    tr_request shown;
    show_request(call, &shown);
    tr_permit verdict = tr__approval_ask(manager, &shown, 0, &answer);
    if (verdict == TR_PERMIT_DENY) {
        size_t size = strlen(answer.reason) + 1;
        call->denied = (char *)tr__memory_take(size);
        if (call->denied == NULL) {
            return TR_ENOMEM;
        }
        memcpy(call->denied, answer.reason, size);
        call->deny = true;
    } else if (verdict == TR_PERMIT_ASK) {
        call->approval = tr__approval_make(manager, call->request, &answer, 0);
        call->expire_ns = answer.expire_ns;
        if (call->approval == NULL) {
            return TR_ENOMEM;
        }
    }
    return 0;
}

static void choose_route(tr_manager *manager, struct tr__prepared *call)
{
    if (manager->route == NULL && tr__options_are_default(&call->request->options) &&
        (call->approval == NULL || call->tool->resolved.route != TR_ROUTE_INLINE)) {
        call->options = &call->tool->resolved;
        return;
    }
    call->options = &call->own;
    tr_options routed = TR_OPTIONS_INIT;
    if (manager->route != NULL) {
        tr_request shown;
        show_request(call, &shown);
        manager->route(manager->context, &shown, &routed);
        if (!tr__options_are_valid(&routed)) {
            tr_options none = TR_OPTIONS_INIT;
            routed = none; /* a callback's nonsense decides nothing */
        }
    }
    tr__options_resolve(&call->request->options, manager->route == NULL ? NULL : &routed,
                        &call->tool->options, &call->own);
    if (call->own.route == TR_ROUTE_INLINE && call->approval != NULL) {
        call->own.route = TR_ROUTE_FOREGROUND; /* it cannot run now: its request is awaited */
    }
}

static uint64_t bits_of(tr_manager *manager, const struct tr__prepared *call)
{
    const tr_options *options = call->options;
    bool here = options->route == TR_ROUTE_INLINE;
    bool waits = call->approval != NULL || call->deny;
    bool cooperative = here || !manager->threaded || (call->tool->flags & TR_TOOL_AWAITING) != 0;
    uint64_t bits = waits ? (uint64_t)TR__TASK_APPROVAL | TR__TASK_HOLD_ASK
                          : (uint64_t)TR__TASK_QUEUED | TR__TASK_HOLD_RUN;
    bits |= TR__TASK_HOLD_RESULT;
    bits |= (uint64_t)options->lifetime << TR__TASK_LIFETIME_SHIFT;
    bits |= here ? TR__TASK_INLINE : 0;
    bits |= cooperative ? TR__TASK_COOPERATIVE : 0;
    bits |= options->route == TR_ROUTE_BACKGROUND ? TR__TASK_BACKGROUND : 0;
    bits |= options->delivery == TR_DELIVERY_MANUAL ? TR__TASK_MANUAL : 0;
    bits |= options->continuation == TR_CONTINUE_REQUEST ? TR__TASK_REQUEST : 0;
    bits |= options->priority == TR_PRIORITY_LOW ? TR__TASK_LOW : 0;
    bits |= options->output_bytes_max != 0 ? TR__TASK_COLD : 0;
    return bits;
}

/* Whether tool, route and options of `like` are this call's as well: no callback has a say, and all
 * that was asked for is the same. Saves a group of alike calls their decisions but for one. */
static bool is_like(const tr_manager *manager, const tr_request *request,
                    const struct tr__prepared *like)
{
    return like != NULL && like->error == 0 && manager->permit == NULL && manager->route == NULL &&
           request->tool != 0 && request->tool == like->request->tool &&
           memcmp(&request->options, &like->request->options, sizeof(request->options)) == 0;
}

/* What admission will say about the turn, as far as it is known now: nobody is asked about a call
 * that cannot be. */
static int check_home(tr_manager *manager, const tr_request *request)
{
    struct tr__registry *registry = tr__manager_registry(manager);
    struct tr__slot *slot = tr__slots_find(&registry->turns, request->turn);
    if (slot == NULL || (tr__load_acquire(&slot->word) & TR__HOME_OPEN) == 0) {
        return TR_ENOENT;
    }
    return tr__load_acquire(&registry->closing) != 0 ? TR_ECLOSED : 0;
}

/* The tool is known: adds what it gives to calls that bring none of their own. */
static void fill_in(struct tr__prepared *call)
{
    const struct tr__tool *tool = call->tool;
    if (!tool->gives) {
        return;
    }
    call->filled = *call->request;
    call->request = &call->filled;
    if (call->filled.user == NULL) {
        call->filled.user = tool->user;
    }
    if (call->filled.metadata.size == 0) {
        call->filled.metadata.data = tool->block;
        call->filled.metadata.size = tool->metadata_size;
    }
}

static int decide(tr_manager *manager, struct tr__prepared *call)
{
    call->tool = find_tool(manager, call->request);
    if (call->tool == NULL) {
        return TR_ENOENT;
    }
    fill_in(call);
    int error = 0;
    if (manager->permit != NULL || manager->route != NULL) {
        error = check_home(manager, call->request);
    }
    if (error == 0 && manager->permit != NULL) {
        error = permit(manager, call);
    }
    if (error == 0) {
        choose_route(manager, call);
        call->bits = bits_of(manager, call);
    }
    return error;
}

static int take_memory(tr_manager *manager, struct tr__prepared *call)
{
    const tr_request *request = call->request;
    struct tr__arena *arena = &manager->completion->arena;
    size_t names = request->call_id.size + request->metadata.size;
    size_t copied = request->input_release != NULL ? 0 : request->input.size;
    size_t total = copied == 0 ? names : tr__prepare_align(names) + copied;
    if (total > TR__TASK_BYTES && tr__arena_block_apart(arena, total, &call->in) < 0) {
        return TR_ENOMEM;
    }
    if (call->options->route == TR_ROUTE_INLINE) {
        call->ready = tr__batch_reserve(manager->completion);
        return call->ready == NULL ? TR_ENOMEM : 0;
    }
    return 0;
}

void tr__unprepare(tr_manager *manager, struct tr__prepared *call)
{
    tr__arena_give(&manager->completion->arena, &call->in);
    tr__memory_give(call->denied);
    tr__settle_drop_approval(manager->completion, call->approval);
    if (call->ready != NULL) {
        tr__batch_unreserve(call->ready);
    }
}

int tr__prepare(tr_manager *manager, const tr_request *request, const struct tr__prepared *like,
                struct tr__prepared *call)
{
    memset(&call->in, 0, sizeof(call->in));
    call->request = request;
    call->approval = NULL;
    call->expire_ns = 0;
    call->denied = NULL;
    call->deny = false;
    call->ready = NULL;
    call->keep = false;
    call->task = NULL;
    call->error = 0;
    int error = check(manager, request);
    if (error < 0) {
        return error;
    }
    if (is_like(manager, request, like)) {
        call->tool = like->tool;
        fill_in(call);
        call->options = like->options; /* in the group, as long as this one */
        call->bits = like->bits;
    } else {
        error = decide(manager, call);
    }
    return error < 0 ? error : take_memory(manager, call);
}
