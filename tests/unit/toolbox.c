/* Toolbox: registering, finding by index and by name, bounds, readers beside a writer. */
#include "domain/toolbox.h"

#include <toolring/error.h>

#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "base/memory.h"
#include "support/case.h"
#include "support/wait.h"

static int do_nothing(tr_call *call, void *context)
{
    (void)call;
    (void)context;
    return 0;
}

static int add(struct tr__toolbox *toolbox, const char *name, void *context, tr_tool_id *ret_id)
{
    tr_tool tool = TR_TOOL_INIT(name, do_nothing);
    tool.context = context;
    tool.flags = TR_TOOL_AWAITING;
    tool.options.run_timeout_ns = 77;
    return tr__toolbox_add(toolbox, &tool, &tool.options, ret_id);
}

CASE(toolbox, copies_what_it_is_given)
{
    struct tr__toolbox toolbox;
    char name[TR_TOOL_NAME_BYTES_MAX + 1] = "read_file";
    int context = 0;
    tr_tool_id id = 0;
    CHECK_EQ_INT(tr__toolbox_init(&toolbox, 10), 0);
    CHECK_EQ_INT(add(&toolbox, name, &context, &id), 0);
    CHECK_EQ_INT(id, 1);
    memset(name, 'x', sizeof name - 1);
    const struct tr__tool *tool = tr__toolbox_at(&toolbox, id);
    CHECK_EQ_STR(tool->name, "read_file");
    CHECK(tool->function == do_nothing);
    CHECK_EQ_PTR(tool->context, &context);
    CHECK_EQ_INT(tool->flags, TR_TOOL_AWAITING);
    CHECK_EQ_U64(tool->options.run_timeout_ns, 77);
    CHECK_EQ_INT(tool->id, 1);
    CHECK_EQ_PTR(tr__toolbox_find(&toolbox, "read_file"), tool);
    tr__toolbox_done(&toolbox);
}

CASE(toolbox, strangers_are_not_found)
{
    struct tr__toolbox toolbox;
    CHECK_EQ_INT(tr__toolbox_init(&toolbox, 3), 0);
    CHECK(tr__toolbox_at(&toolbox, 0) == NULL);
    CHECK(tr__toolbox_at(&toolbox, 1) == NULL);
    CHECK(tr__toolbox_find(&toolbox, "") == NULL);
    CHECK(tr__toolbox_find(&toolbox, "ls") == NULL);
    CHECK_EQ_INT(add(&toolbox, "ls", NULL, NULL),
                 0); /* who does not want the id need not have it */
    CHECK(tr__toolbox_at(&toolbox, 2) == NULL);
    CHECK(tr__toolbox_at(&toolbox, UINT32_MAX) == NULL);
    CHECK(tr__toolbox_find(&toolbox, "l") == NULL);
    CHECK(tr__toolbox_find(&toolbox, "lss") == NULL);
    CHECK(tr__toolbox_find(&toolbox, "LS") == NULL);
    tr__toolbox_done(&toolbox);
}

CASE(toolbox, a_name_is_registered_once)
{
    struct tr__toolbox toolbox;
    tr_tool_id id = 99;
    CHECK_EQ_INT(tr__toolbox_init(&toolbox, 3), 0);
    CHECK_EQ_INT(add(&toolbox, "ls", NULL, NULL), 0);
    CHECK_EQ_INT(add(&toolbox, "ls", NULL, &id), TR_EEXIST);
    CHECK_EQ_INT(id, 99);
    CHECK(tr__toolbox_at(&toolbox, 2) == NULL);
    tr__toolbox_done(&toolbox);
}

static void name_of(char *name, size_t size, unsigned number)
{
    (void)snprintf(name, size, "tool-%u", number);
}

static void fill_to(unsigned max)
{
    struct tr__toolbox toolbox;
    char name[32];
    tr_tool_id id = 0;
    CHECK_EQ_INT(tr__toolbox_init(&toolbox, max), 0);
    for (unsigned i = 1; i <= max; i++) {
        name_of(name, sizeof name, i);
        CHECK_EQ_INT(add(&toolbox, name, NULL, &id), 0);
        CHECK_EQ_INT(id, i);
    }
    CHECK_EQ_INT(add(&toolbox, "one more", NULL, &id), TR_ELIMIT);
    name_of(name, sizeof name, 1);
    CHECK_EQ_INT(add(&toolbox, name, NULL, &id), TR_EEXIST); /* rather than TR_ELIMIT */
    CHECK_EQ_INT(id, max);
    for (unsigned i = 1; i <= max; i++) {
        name_of(name, sizeof name, i);
        CHECK_EQ_INT(tr__toolbox_find(&toolbox, name)->id, i);
    }
    CHECK(tr__toolbox_find(&toolbox, "one more") == NULL);
    tr__toolbox_done(&toolbox);
}

CASE(toolbox, holds_exactly_as_many_as_it_was_made_for)
{
    static const unsigned sizes[] = {1, 2, 7, 8, 9, 16, 1000};
    for (unsigned i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        fill_to(sizes[i]);
    }
}

CASE(toolbox, the_longest_name_fits)
{
    struct tr__toolbox toolbox;
    char name[TR_TOOL_NAME_BYTES_MAX + 1];
    memset(name, 'n', sizeof name - 1);
    name[sizeof name - 1] = '\0';
    CHECK_EQ_INT(tr__toolbox_init(&toolbox, 1), 0);
    CHECK_EQ_INT(add(&toolbox, name, NULL, NULL), 0);
    CHECK_EQ_STR(tr__toolbox_find(&toolbox, name)->name, name);
    tr__toolbox_done(&toolbox);
}

CASE(toolbox, no_memory_is_reported_and_leaves_nothing)
{
    struct tr__toolbox toolbox;
    tr__memory_fail_after(1);
    CHECK_EQ_INT(tr__toolbox_init(&toolbox, 5), TR_ENOMEM);
    tr__toolbox_done(&toolbox);
    CHECK_EQ_INT(tr__toolbox_init(&toolbox, 5), 0);
    tr__toolbox_done(&toolbox);
    tr__toolbox_done(&toolbox);
}

enum {
    WRITERS = 3,
    TOOLS = 900
};

struct crowd {
    struct tr__toolbox toolbox;
    tr__atomic_u32 number; /* the next name */
    tr__atomic_u32 done;
};

static void *write_main(void *context)
{
    struct crowd *crowd = context;
    char name[32];
    for (;;) {
        /* Two writers in turn try the same name: one of them gets it. */
        uint32_t number = tr__fetch_add_relaxed(&crowd->number, 1u) / 2;
        if (number >= TOOLS) {
            break;
        }
        name_of(name, sizeof name, number);
        int error = add(&crowd->toolbox, name, crowd, NULL);
        CHECK(error == 0 || error == TR_EEXIST);
    }
    (void)tr__fetch_add_release(&crowd->done, 1u);
    return NULL;
}

/* What a reader finds is complete, whichever way it looks, and ids lead to names and back. */
CASE(toolbox, readers_see_complete_tools_while_others_register)
{
    static struct crowd crowd;
    pthread_t writers[WRITERS];
    char name[32];
    struct case_random random;
    case_random_init(&random, 0);
    CHECK_EQ_INT(tr__toolbox_init(&crowd.toolbox, TOOLS), 0);
    for (unsigned i = 0; i < WRITERS; i++) {
        CHECK_EQ_INT(pthread_create(&writers[i], NULL, write_main, &crowd), 0);
    }
    while (tr__load_acquire(&crowd.done) != WRITERS) {
        name_of(name, sizeof name, (unsigned)case_random_below(&random, TOOLS));
        const struct tr__tool *tool = tr__toolbox_find(&crowd.toolbox, name);
        if (tool != NULL) {
            CHECK_EQ_STR(tool->name, name);
            CHECK_EQ_PTR(tool->context, &crowd);
            CHECK_EQ_PTR(tr__toolbox_at(&crowd.toolbox, tool->id), tool);
        }
    }
    for (unsigned i = 0; i < WRITERS; i++) {
        CHECK_EQ_INT(pthread_join(writers[i], NULL), 0);
    }
    CHECK(tr__toolbox_at(&crowd.toolbox, TOOLS) != NULL); /* each name once, so as many as names */
    for (unsigned i = 0; i < TOOLS; i++) {
        name_of(name, sizeof name, i);
        CHECK(tr__toolbox_find(&crowd.toolbox, name) != NULL);
    }
    tr__toolbox_done(&crowd.toolbox);
}
