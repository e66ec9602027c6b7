/*
 * The configuration end to end: every field at its bounds and beyond them.
 */
#include <stddef.h>

#include "support/host.h"

/* ---- the configuration ---- */

struct field {
    const char *name;
    size_t offset;
    size_t width;
    uint64_t least; /* below it, but not 0: refused */
    uint64_t most;  /* above it: refused */
};

#define FIELD(name_, least_, most_)                                                                \
    {                                                                                              \
#name_, offsetof(tr_config, name_), sizeof(((tr_config *)0)->name_), least_, most_         \
    }

static const struct field fields[] = {
    FIELD(workers, 1, 64),
    FIELD(substitutes_max, 1, 256),
    FIELD(tasks_max, 1, 16777214),
    FIELD(turns_max, 1, 16777214),
    FIELD(sessions_max, 1, 16777214),
    FIELD(tools_max, 1, 65535),
    FIELD(queues_max, 1, 4096),
    FIELD(readers_max, 1, 1024),
    FIELD(events_max, 1, 1048576),
    FIELD(fibers_max, 1, 1048576),
    FIELD(processes_max, 1, 65536),
    FIELD(fiber_stack_bytes, 16384, 8u << 20),
    FIELD(ring_entries, 64, 32768),
    FIELD(input_bytes_max, 1, UINT64_C(1) << 30),
    FIELD(output_bytes_max, 1, UINT64_C(1) << 30),
    FIELD(result_bytes_max, 1, UINT64_C(1) << 30),
};

static void set_field(tr_config *config, const struct field *field, uint64_t value)
{
    uint32_t narrow = (uint32_t)value;
    char *place = (char *)config + field->offset;
    if (field->width == sizeof narrow) {
        memcpy(place, &narrow, sizeof narrow);
    } else {
        memcpy(place, &value, sizeof value);
    }
}

static void check_refused(tr_config *config, const char *name)
{
    char message[256] = "";
    tr_manager *manager = NULL;
    config->message = message;
    config->message_size = sizeof message;
    CHECK_EQ_INT(tr_manager_open(config, &manager), TR_EINVAL);
    CHECK_EQ_PTR(manager, NULL);
    CHECK(strstr(message, name) != NULL);
}

CASE(config, configuration_out_of_range)
{
    for (size_t at = 0; at < sizeof fields / sizeof *fields; at++) {
        tr_config config = TR_CONFIG_INIT;
        config.flags = TR_MANAGER_INLINE;
        set_field(&config, &fields[at], fields[at].most + 1);
        check_refused(&config, fields[at].name);
        if (fields[at].least > 1) {
            set_field(&config, &fields[at], fields[at].least - 1);
            check_refused(&config, fields[at].name);
        }
    }
}

static void open_and_free(const tr_config *config)
{
    tr_manager *manager = NULL;
    CHECK_EQ_INT(tr_manager_open(config, &manager), 0);
    CHECK(manager != NULL);
    CHECK_EQ_INT(tr_manager_close(manager, 0), 0);
    tr_manager_free(manager);
}

CASE_TIMEOUT(config, configuration_at_its_least, RIG_TIMEOUT_SECONDS)
{
    for (size_t at = 0; at < sizeof fields / sizeof *fields; at++) {
        tr_config config = TR_CONFIG_INIT;
        set_field(&config, &fields[at], fields[at].least);
        open_and_free(&config);
        config.flags = TR_MANAGER_INLINE;
        open_and_free(&config);
    }
}

CASE(config, configuration_that_is_nonsense)
{
    tr_manager *manager = NULL;
    tr_config good = TR_CONFIG_INIT;
    CHECK_EQ_INT(tr_manager_open(&good, NULL), TR_EINVAL);
    CHECK_EQ_INT(tr_manager_open(NULL, NULL), TR_EINVAL);
    tr_config config = TR_CONFIG_INIT;
    config.flags = 8;
    check_refused(&config, "flag");
    tr_config reserved = TR_CONFIG_INIT;
    reserved.reserved = 1;
    check_refused(&reserved, "reserved");
    tr_config odd = TR_CONFIG_INIT;
    odd.ring_entries = 100;
    check_refused(&odd, "ring_entries");
    tr_config small = TR_CONFIG_INIT;
    small.size = 4;
    CHECK_EQ_INT(tr_manager_open(&small, &manager), TR_EINVAL);
    CHECK_EQ_PTR(manager, NULL);
    struct {
        tr_config config;
        unsigned char more[8];
    } newer;
    memset(&newer, 0, sizeof newer);
    tr_config none = TR_CONFIG_INIT;
    newer.config = none;
    newer.config.size = sizeof newer;
    newer.config.flags = TR_MANAGER_INLINE;
    open_and_free(&newer.config);
    newer.more[7] = 1;
    CHECK_EQ_INT(tr_manager_open(&newer.config, &manager), TR_EINVAL);
    CHECK_EQ_PTR(manager, NULL);
}

CASE(config, configuration_by_default)
{
    tr_manager *manager = NULL;
    CHECK_EQ_INT(tr_manager_open(NULL, &manager), 0);
    tr_stats stats;
    CHECK_EQ_INT(tr_manager_stats(manager, &stats), 0);
    CHECK_EQ_U64(stats.tasks_max, 65536);
    CHECK_EQ_U64(stats.bytes_max, UINT64_C(1) << 30);
    CHECK(stats.workers >= 2);
    CHECK_EQ_INT(tr_manager_stats(NULL, &stats), TR_EINVAL);
    CHECK_EQ_INT(tr_manager_stats(manager, NULL), TR_EINVAL);
    CHECK_EQ_INT(tr_manager_close(manager, 0), 0);
    tr_manager_free(manager);
    tr_manager_free(NULL);
}
