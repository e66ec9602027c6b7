/*
 * config.c: see config.h. One table row per field: where it is, its default, its range.
 *
 * Owner thread: the one that opens. Called by manager.c; calls nothing.
 */
#include "host/config.h"

#include <inttypes.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>

#include "base/limits.h"
#include "host/manager.h"

#define FLAGS_ALL (TR_MANAGER_INLINE | TR_MANAGER_SUBREAPER | TR_MANAGER_NO_CGROUP)

struct field {
    const char *name;
    size_t offset;
    size_t width; /* 4 or 8 bytes */
    uint64_t normal;
    uint64_t least;
    uint64_t most;
};

#define FIELD32(name, normal, least, most)                                                         \
    {                                                                                              \
#name, offsetof(tr_config, name), 4, normal, least, most                                   \
    }
#define FIELD64(name, normal, least, most)                                                         \
    {                                                                                              \
#name, offsetof(tr_config, name), 8, normal, least, most                                   \
    }

static const struct field fields[] = {
    FIELD32(workers, 0, 1, TR__WORKERS_MAX),
    FIELD32(substitutes_max, TR__SUBSTITUTES_DEFAULT, 1, TR__SUBSTITUTES_MAX),
    FIELD32(tasks_max, TR__TASKS_DEFAULT, 1, TR__TASKS_MAX),
    FIELD32(turns_max, TR__TURNS_DEFAULT, 1, TR__TURNS_MAX),
    FIELD32(sessions_max, TR__SESSIONS_DEFAULT, 1, TR__SESSIONS_MAX),
    FIELD32(tools_max, TR__TOOLS_DEFAULT, 1, TR__TOOLS_MAX),
    FIELD32(queues_max, TR__QUEUES_DEFAULT, 1, TR__QUEUES_MAX),
    FIELD32(readers_max, TR__READERS_DEFAULT, 1, TR__READERS_MAX),
    FIELD32(events_max, TR__EVENTS_DEFAULT, 1, TR__EVENTS_MAX),
    FIELD32(fibers_max, TR__FIBERS_DEFAULT, 1, TR__FIBERS_MAX),
    FIELD32(processes_max, TR__PROCESSES_DEFAULT, 1, TR__PROCESSES_MAX),
    FIELD32(fiber_stack_bytes, TR__FIBER_STACK_DEFAULT, TR__FIBER_STACK_MIN, TR__FIBER_STACK_MAX),
    FIELD32(ring_entries, TR__RING_CQ_ENTRIES, TR__RING_CQ_MIN, TR__RING_CQ_MAX),
    FIELD64(input_bytes_max, TR__INPUT_DEFAULT, 1, TR__INPUT_MAX),
    FIELD64(output_bytes_max, TR__OUTPUT_CAP_DEFAULT, 1, TR__OUTPUT_CAP_MAX),
    FIELD64(result_bytes_max, TR__RESULT_DEFAULT, 1, TR__RESULT_MAX),
    FIELD64(bytes_max, TR__BYTES_DEFAULT, 1, UINT64_MAX),
    FIELD64(slice_ns, TR__SLICE_DEFAULT_NS, TR__WHEEL_TICK_NS, UINT64_MAX),
    FIELD64(cancel_grace_ns, TR__CANCEL_GRACE_DEFAULT_NS, 1, UINT64_MAX),
    FIELD64(abandon_wait_ns, TR__ABANDON_WAIT_DEFAULT_NS, 1, UINT64_MAX),
};

static void say(const tr_config *config, const char *text)
{
    if (config->message != NULL && config->message_size > 0) {
        (void)snprintf(config->message, config->message_size, "%s", text); /* cut if it must be */
    }
}

void tr__config_hush(const tr_config *config)
{
    say(config, "");
}

void tr__config_explain(const tr_config *config, int error)
{
    if (config->message == NULL || config->message_size == 0 || config->message[0] != '\0') {
        return; /* nobody asks, or who met the error has told */
    }
    say(config, error == TR_ENOMEM   ? "out of memory, or of address space (RLIMIT_AS)"
                : error == TR_EAGAIN ? "no thread could be made (RLIMIT_NPROC, or the cgroup's "
                                       "pids.max)"
                                     : tr_error_message(error));
}

unsigned tr__config_processors(void)
{
    cpu_set_t set;
    return sched_getaffinity(0, sizeof(set), &set) == 0 ? (unsigned)CPU_COUNT(&set) : 1;
}

static uint64_t default_workers(void)
{
    unsigned count = tr__config_processors();
    uint64_t workers = count < TR__WORKERS_MIN ? TR__WORKERS_MIN : count;
    return workers > TR__WORKERS_MAX ? TR__WORKERS_MAX : workers;
}

static uint64_t get(const tr_config *config, const struct field *field)
{
    uint64_t wide = 0;
    uint32_t narrow = 0;
    const char *place = (const char *)config + field->offset;
    if (field->width == sizeof(narrow)) {
        memcpy(&narrow, place, sizeof(narrow));
        return narrow;
    }
    memcpy(&wide, place, sizeof(wide));
    return wide;
}

static void set(tr_config *config, const struct field *field, uint64_t value)
{
    uint32_t narrow = (uint32_t)value;
    char *place = (char *)config + field->offset;
    if (field->width == sizeof(narrow)) {
        memcpy(place, &narrow, sizeof(narrow));
    } else {
        memcpy(place, &value, sizeof(value));
    }
}

int tr__config_resolve(const tr_config *config, tr_config *ret_config)
{
    tr_config resolved = TR_CONFIG_INIT;
    if (config != NULL) {
        if (!tr__size_is_known(config, config->size, sizeof(*config))) {
            return TR_EINVAL;
        }
        resolved = *config;
    }
    if ((resolved.flags & ~FLAGS_ALL) != 0 || resolved.reserved != 0) {
        say(&resolved, "tr_config.flags: unknown flag, or a reserved field is not 0");
        return TR_EINVAL;
    }
    if ((resolved.flags & TR_MANAGER_NO_CGROUP) != 0 && resolved.cgroup_path != NULL) {
        say(&resolved, "tr_config.cgroup_path: excluded by TR_MANAGER_NO_CGROUP");
        return TR_EINVAL;
    }
    for (size_t i = 0; i < sizeof(fields) / sizeof(fields[0]); i++) {
        const struct field *field = &fields[i];
        uint64_t value = get(&resolved, field);
        if (value == 0) {
            value =
                field->offset == offsetof(tr_config, workers) ? default_workers() : field->normal;
            set(&resolved, field, value);
        }
        if (value < field->least || value > field->most) {
            char text[160];
            (void)snprintf(text, sizeof(text),
                           "tr_config.%s: %" PRIu64 " is not in %" PRIu64 " to %" PRIu64,
                           field->name, value, field->least, field->most);
            say(&resolved, text);
            return TR_EINVAL;
        }
    }
    if ((resolved.ring_entries & (resolved.ring_entries - 1)) != 0) {
        say(&resolved, "tr_config.ring_entries: not a power of two");
        return TR_EINVAL;
    }
    *ret_config = resolved;
    return 0;
}
