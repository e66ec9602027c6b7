/*
 * options: what a launch asks for, put together from launch, routing callback, tool and built-in
 * defaults.
 */
#ifndef TR__HOST_OPTIONS_H
#define TR__HOST_OPTIONS_H

#include "host/manager.h"

/* Every field of `ret_options` gets a value: the first that is set in `launch`, `routed`, `tool`,
 * or the built-in one. `routed` may be NULL. */
void tr__options_resolve(const tr_options *launch, const tr_options *routed, const tr_options *tool,
                         tr_options *ret_options);

/* Whether a launch leaves every option open. */
bool tr__options_are_default(const tr_options *options);

#endif
