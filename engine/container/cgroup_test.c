/* Controllers are found wherever a machine has put them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "engine/container/cgroup.h"
#include "proto/base/mem.h"

static void give_controllers(void *ctx, const char *path, struct buf *ret)
{
    buf_append_str(ret, ctx);
}

static struct cgroup_layout parse(const char *mountinfo, const char *v2_controllers)
{
    struct cgroup_layout l;
    AUTO_FREE
    char *copy = mem_strdup(mountinfo);

    assert_int_equal(cgroup_layout_parse(copy, give_controllers, (void *)v2_controllers, &l, NULL), 0);
    return l;
}

#define V1_LINES                                                                  \
    "22 27 0:21 / /proc rw,relatime - proc proc rw\n"                             \
    "31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw,mode=755\n"                  \
    "32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n" \
    "35 31 0:32 / /sys/fs/cgroup/memory rw shared:3 - cgroup cgroup rw,memory\n"  \
    "36 31 0:32 / /other\\040place rw - cgroup cgroup rw,memory\n"                \
    "40 31 0:37 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,name=systemd\n"    \
    "41 31 0:38 / /sys/fs/cgroup/net_cls rw - cgroup cgroup rw,net_cls\n"
#define V2_LINE "41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw\n"

static void controllers_of_version_1_are_found_with_their_mounts(void **state)
{
    struct cgroup_layout l = parse(V1_LINES, "");

    assert_int_equal(l.count, 2);
    assert_string_equal(l.mounts[l.of[BUNDLE_CPU]].path, "/sys/fs/cgroup/cpu,cpuacct");
    assert_int_equal(l.of[BUNDLE_CPU], l.of[BUNDLE_CPUACCT]);
    assert_string_equal(l.mounts[l.of[BUNDLE_MEMORY]].path, "/sys/fs/cgroup/memory");
    assert_int_equal(l.of[BUNDLE_PIDS], -1);
    assert_int_equal(l.of[BUNDLE_FREEZER], -1);
    AUTO_FREE
    char *path = cgroup_path(&l, BUNDLE_MEMORY, "/shoal-x/a");
    assert_string_equal(path, "/sys/fs/cgroup/memory/shoal-x/a");
    assert_null(cgroup_path(&l, BUNDLE_PIDS, "/shoal-x/a"));
    cgroup_layout_fini(&l);
}

static void unified_tree_carries_what_it_lists_and_what_it_always_has(void **state)
{
    struct cgroup_layout l = parse(V2_LINE, "cpuset cpu io memory hugetlb pids rdma\n");

    for (int c = 0; c < BUNDLE_CONTROLLERS; c++)
        assert_int_equal(l.of[c], 0);
    assert_true(l.mounts[0].v2);
    cgroup_layout_fini(&l);
}

static void hybrid_machine_takes_each_controller_from_where_it_is(void **state)
{
    struct cgroup_layout l = parse(V1_LINES V2_LINE, "pids io\n");

    assert_int_equal(l.count, 3);
    assert_false(l.mounts[l.of[BUNDLE_MEMORY]].v2);
    assert_false(l.mounts[l.of[BUNDLE_CPUACCT]].v2);
    assert_true(l.mounts[l.of[BUNDLE_PIDS]].v2);
    assert_true(l.mounts[l.of[BUNDLE_BLKIO]].v2);
    assert_true(l.mounts[l.of[BUNDLE_FREEZER]].v2);
    assert_int_equal(l.of[BUNDLE_CPUSET], -1);
    cgroup_layout_fini(&l);
}

static void unified_tree_without_a_controller_of_ours_is_left_alone(void **state)
{
    struct cgroup_layout l = parse("1 1 0:1 / /c/d rw - cgroup c rw,devices\n"
                                   "1 1 0:1 / /c/f rw - cgroup c rw,freezer\n"
                                   "1 1 0:1 / /c/a rw - cgroup c rw,cpuacct\n" V2_LINE,
                                   "hugetlb\n");

    assert_int_equal(l.count, 4);
    assert_int_equal(l.mounts[3].controllers, 0);
    cgroup_layout_fini(&l);
}

static void blanks_in_a_path_are_understood(void **state)
{
    struct cgroup_layout l = parse("36 31 0:32 / /other\\040place rw - cgroup cgroup rw,memory\n", "");

    assert_string_equal(l.mounts[0].path, "/other place");
    cgroup_layout_fini(&l);
}

static void machine_without_cgroups_and_garbage_are_refused(void **state)
{
    static const char *const cases[] = {"",
                                        "\n\n",
                                        "22 27 0:21 / /proc rw,relatime - proc proc rw\n",
                                        " - cgroup",
                                        "1 - cgroup cgroup rw,memory",
                                        "1 2 3 4 - cgroup",
                                        "- - - - - - "};

    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        AUTO_FREE
        char *copy = mem_strdup(cases[i]);
        struct cgroup_layout l;
        struct err e;

        assert_int_equal(cgroup_layout_parse(copy, give_controllers, (void *)"", &l, &e), ERR_UNSUPPORTED);
    }
}

static void this_machine_is_described(void **state)
{
    struct cgroup_layout l;
    struct bundle_kernel kernel;
    struct err e;

    if (cgroup_layout_read(&l, &e) < 0) {
        print_message("skip: %s\n", e.text);
        skip();
    }
    assert_int_equal(cgroup_kernel(&l, &kernel, &e), 0);
    assert_true(kernel.processors > 0);
    for (int c = 0; c < BUNDLE_CONTROLLERS; c++)
        assert_int_equal(kernel.cgroup_there[c], l.of[c] >= 0);
    cgroup_layout_fini(&l);
}

static void only_paths_that_stay_below_are_tame(void **state)
{
    static const char *const tame[] = {"", "jobs", "jobs/night.slice", "a/b/c"};
    static const char *const wild[] = {"/jobs", "jobs/", "a//b", "..", "a/../b", ".hidden", "a/.", "/"};

    for (size_t i = 0; i < sizeof(tame) / sizeof(tame[0]); i++)
        assert_true(cgroup_path_is_tame(tame[i]));
    for (size_t i = 0; i < sizeof(wild) / sizeof(wild[0]); i++)
        assert_false(cgroup_path_is_tame(wild[i]));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(controllers_of_version_1_are_found_with_their_mounts),
        cmocka_unit_test(unified_tree_carries_what_it_lists_and_what_it_always_has),
        cmocka_unit_test(hybrid_machine_takes_each_controller_from_where_it_is),
        cmocka_unit_test(unified_tree_without_a_controller_of_ours_is_left_alone),
        cmocka_unit_test(blanks_in_a_path_are_understood),
        cmocka_unit_test(machine_without_cgroups_and_garbage_are_refused),
        cmocka_unit_test(this_machine_is_described),
        cmocka_unit_test(only_paths_that_stay_below_are_tame),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
