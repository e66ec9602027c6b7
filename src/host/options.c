/*
 * options.c: see options.h; and the checks of caller's structures that the host floor shares.
 *
 * Owner thread: any. Called by launch, manager, sessions; calls nothing.
 *
 * Complexity: a launch that sets nothing costs one pass over twelve fields.
 */
#include "host/options.h"

#include <string.h>

#include "base/clock.h"

bool tr__size_is_known(const void *structure, size_t size, size_t known)
{
    const unsigned char *bytes = (const unsigned char *)structure;
    if (size < known || size > known + 4096) {
        return false;
    }
    for (size_t i = known; i < size; i++) {
        if (bytes[i] != 0) {
            return false;
        }
    }
    return true;
}

bool tr__options_are_valid(const tr_options *options)
{
    return tr__size_is_known(options, options->size, sizeof(*options)) && options->reserved == 0 &&
           (unsigned)options->route <= TR_ROUTE_DETACH_AFTER &&
           (unsigned)options->delivery <= TR_DELIVERY_MANUAL &&
           (unsigned)options->continuation <= TR_CONTINUE_REQUEST &&
           (unsigned)options->lifetime <= TR_LIFETIME_MANAGER &&
           (unsigned)options->priority <= TR_PRIORITY_LOW &&
           (options->route != TR_ROUTE_DETACH_AFTER || options->detach_after_ns != 0) &&
           options->output_bytes_max <= TR__OUTPUT_CAP_MAX;
}

uint64_t tr__deadline_after(uint64_t timeout_ns)
{
    return timeout_ns == TR_FOREVER ? TR_FOREVER : tr__clock_after(tr__clock_now(), timeout_ns);
}

/* Fills what `into` leaves open. */
static void fall_back(tr_options *into, const tr_options *from)
{
    if (into->route == TR_ROUTE_DEFAULT && from->route != TR_ROUTE_DEFAULT) {
        into->route = from->route;
        into->detach_after_ns =
            into->detach_after_ns == 0 ? from->detach_after_ns : into->detach_after_ns;
    }
    into->delivery = into->delivery == 0 ? from->delivery : into->delivery;
    into->continuation = into->continuation == 0 ? from->continuation : into->continuation;
    into->lifetime = into->lifetime == 0 ? from->lifetime : into->lifetime;
    into->priority = into->priority == 0 ? from->priority : into->priority;
    into->queue_timeout_ns =
        into->queue_timeout_ns == 0 ? from->queue_timeout_ns : into->queue_timeout_ns;
    into->run_timeout_ns = into->run_timeout_ns == 0 ? from->run_timeout_ns : into->run_timeout_ns;
    into->idle_timeout_ns =
        into->idle_timeout_ns == 0 ? from->idle_timeout_ns : into->idle_timeout_ns;
    into->total_timeout_ns =
        into->total_timeout_ns == 0 ? from->total_timeout_ns : into->total_timeout_ns;
    into->output_bytes_max =
        into->output_bytes_max == 0 ? from->output_bytes_max : into->output_bytes_max;
}

static const tr_options built_in = {
    sizeof(tr_options),
    TR_ROUTE_FOREGROUND,
    TR_DELIVERY_TO_LOOP,
    TR_CONTINUE_NOTIFY,
    TR_LIFETIME_SESSION,
    TR_PRIORITY_DEFAULT,
    0,
    0,
    TR_FOREVER,
    TR_FOREVER,
    TR_FOREVER,
    TR_FOREVER,
    0, /* the manager's */
};

void tr__options_resolve(const tr_options *launch, const tr_options *routed, const tr_options *tool,
                         tr_options *ret_options)
{
    *ret_options = *launch;
    if (routed != NULL) {
        fall_back(ret_options, routed);
    }
    fall_back(ret_options, tool);
    fall_back(ret_options, &built_in);
    if (ret_options->priority == TR_PRIORITY_DEFAULT) {
        ret_options->priority =
            ret_options->route == TR_ROUTE_BACKGROUND ? TR_PRIORITY_LOW : TR_PRIORITY_HIGH;
    }
}

bool tr__options_are_default(const tr_options *options)
{
    return ((unsigned)options->route | (unsigned)options->delivery |
            (unsigned)options->continuation | (unsigned)options->lifetime |
            (unsigned)options->priority) == 0 &&
           (options->detach_after_ns | options->queue_timeout_ns | options->run_timeout_ns |
            options->idle_timeout_ns | options->total_timeout_ns | options->output_bytes_max) == 0;
}
