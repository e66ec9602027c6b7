/*
 * Tests of engine/tree_remove: what becomes of the cgroups that programs make in their leaf.
 */
#include "tree_rig.h"

/* A program may make cgroups within its leaf, and live there. */
CASE(tree, leaf_with_cgroups_of_its_own)
{
    struct tree_rig rig;
    char inner[1024];

    tree_open(&rig, TR_TREE_CGROUP);
    (void)snprintf(inner, sizeof inner, "%s/%s/1/inner", rig.trees->parent, rig.trees->name);
    CHECK_EQ_INT(setenv("TR_INNER", inner, 1), 0);
    tree_run(&rig,
             "mkdir -p $TR_INNER/deeper; setsid sh -c 'echo $$ > $TR_INNER/deeper/cgroup.procs;"
             " printf r; exec sleep %s' &",
             TR_PROCESS_LIFETIME_TASK);
    tree_await_ready(&rig, 1);
    CHECK(tree_finish(&rig) >= 1);
    CHECK_EQ_INT(tree_find(rig.token), 0);
    CHECK(access(inner, F_OK) != 0 && errno == ENOENT); /* gone with its leaf */
    tree_close(&rig);
}

/* What a program leaves of a leaf: `count` cgroups, `depth` levels deep, of a long name each. */
static void check_cgroups_left(unsigned count, unsigned depth)
{
    struct tree_rig rig;
    char leaf[TR__PROBE_PATH_BYTES + TR__TREE_NAME_BYTES + 4];
    char line[512];
    unsigned rounds = 0;

    tree_open(&rig, TR_TREE_CGROUP);
    (void)snprintf(leaf, sizeof leaf, "%s/%s/1", rig.trees->parent, rig.trees->name);
    CHECK_EQ_INT(setenv("TR_LEAF", leaf, 1), 0);
    (void)snprintf(line, sizeof line,
                   "name=$(printf %%0200d 0); i=0; while [ $i -lt %u ]; do"
                   " cd $TR_LEAF && mkdir $i && cd $i || exit 1; i=$((i+1)); k=0;"
                   " while [ $k -lt %u ]; do mkdir $name && cd $name || exit 1; k=$((k+1)); done;"
                   " done; printf r",
                   count, depth);
    tree_run(&rig, line, TR_PROCESS_LIFETIME_TASK);
    tree_await_ready(&rig, 1);
    CHECK_EQ_INT(tree_finish(&rig), 0);
    while (access(leaf, F_OK) == 0) { /* each tree goes on with it */
        CHECK(rounds++ <= count * (depth + 1) / TR__TREE_REMOVALS_MAX);
        tree_run(&rig, "true", TR_PROCESS_LIFETIME_TASK);
        CHECK(rig.spawn.tree->leaf > 1); /* never in the leaf that has cgroups */
        CHECK_EQ_INT(tree_finish(&rig), 0);
    }
    CHECK(count * depth <= TR__TREE_REMOVALS_MAX || rounds > 0);
    tree_close(&rig);
}

CASE(tree, leaf_with_empty_cgroups_is_not_used_again)
{
    check_cgroups_left(1, 0);
}

CASE(tree, leaf_with_many_cgroups_goes_bit_by_bit)
{
    check_cgroups_left(100, 0);
}

CASE(tree, leaf_with_deep_cgroups_goes)
{
    check_cgroups_left(1, 12);
}

CASE(tree, close_removes_what_programs_have_made)
{
    struct tree_rig rig;
    char path[TR__PROBE_PATH_BYTES + TR__TREE_NAME_BYTES + 2];

    tree_open(&rig, TR_TREE_CGROUP);
    (void)snprintf(path, sizeof path, "%s/%s", rig.trees->parent, rig.trees->name);
    CHECK_EQ_INT(setenv("TR_LEAF", path, 1), 0);
    tree_run(&rig,
             "name=$(printf %0200d 0); cd $TR_LEAF/1; i=0; while [ $i -lt 14 ]; do"
             " mkdir a b $name; cd $name || exit; i=$((i+1)); done; printf r",
             TR_PROCESS_LIFETIME_TASK);
    tree_await_ready(&rig, 1);
    CHECK_EQ_INT(tree_finish(&rig), 0);
    tree_close(&rig);
    CHECK(access(path, F_OK) != 0 && errno == ENOENT);
}
