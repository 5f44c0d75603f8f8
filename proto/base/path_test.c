/* Paths are made clean without looking at any disk. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "proto/base/mem.h"
#include "proto/base/path.h"

static void paths_become_clean(void **state)
{
    static const struct {
        const char *path, *clean;
        unsigned depth;
    } table[] = {
        {"", "/", 0},
        {"/", "/", 0},
        {"//", "/", 0},
        {"a", "/a", 1},
        {"/a/", "/a", 1},
        {"/a//b", "/a/b", 2},
        {"/./a/.", "/a", 1},
        {"/a/../b", "/b", 1},
        {"/../..", "/", 0},
        {"/a/b/../../..", "/", 0},
        {"/a/..b", "/a/..b", 2},
        {"/a/.../b", "/a/.../b", 3},
        {"/abc/../d/e/", "/d/e", 2},
    };
    struct arena a;

    arena_init(&a);
    for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
        char *clean = path_clean(&a, table[i].path);

        assert_string_equal(clean, table[i].clean);
        assert_int_equal(path_depth(clean), table[i].depth);
        assert_string_equal(path_clean(&a, clean), clean);
    }
    arena_fini(&a);
}

static void inside_counts_whole_components(void **state)
{
    assert_true(path_inside("/a/b", "/a"));
    assert_true(path_inside("/a", "/a"));
    assert_true(path_inside("/a", "/"));
    assert_false(path_inside("/ab", "/a"));
    assert_false(path_inside("/a", "/a/b"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(paths_become_clean),
        cmocka_unit_test(inside_counts_whole_components),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
