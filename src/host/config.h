/*
 * config: checking a tr_config and filling in its defaults.
 */
#ifndef TR__HOST_CONFIG_H
#define TR__HOST_CONFIG_H

#include <toolring.h>

/* Copies `config` (NULL: all defaults) with every zero replaced by its default. 0, or TR_EINVAL
 * with the offending field in the config's `message`. */
int tr__config_resolve(const tr_config *config, tr_config *ret_config);

/* Makes the config's `message` empty; and fills it, if it still is, for an error of opening. */
void tr__config_hush(const tr_config *config);
void tr__config_explain(const tr_config *config, int error);

/* Processors this process may use. */
unsigned tr__config_processors(void);

#endif
