#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "engine/container/base.h"
#include "proto/base/file.h"
#include "proto/base/mem.h"

static char dir[64];
static int dir_fd;

static mode_t mode_of(int base, const char *path)
{
    struct stat st;

    return fstatat(base, path, &st, AT_SYMLINK_NOFOLLOW) < 0 ? 0 : st.st_mode;
}

static void assert_whole(int base)
{
    static const char *const dirs[] = {"dev", "proc", "sys", "etc"};
    static const char *const files[] = {"etc/hosts", "etc/hostname", "etc/resolv.conf"};

    for (size_t i = 0; i < ARRAY_SIZE(dirs); i++)
        assert_int_equal(mode_of(base, dirs[i]), S_IFDIR | 0755);
    for (size_t i = 0; i < ARRAY_SIZE(files); i++)
        assert_int_equal(mode_of(base, files[i]), S_IFREG | 0644);
    assert_int_equal(mode_of(base, ".dockerenv"), S_IFREG | 0755);
}

static void layer_is_made_whole(void **state)
{
    struct err e;
    int base;

    assert_int_equal(base_layer_open(dir_fd, "base", &base, &e), 0);
    assert_whole(base);
    close(base);
}

static void what_a_crash_left_out_is_made_up_for(void **state)
{
    struct err e;
    int base;

    assert_int_equal(base_layer_open(dir_fd, "base", &base, &e), 0);
    assert_int_equal(unlinkat(base, "etc/hosts", 0), 0);
    assert_int_equal(unlinkat(base, "sys", AT_REMOVEDIR), 0);
    close(base);
    assert_int_equal(base_layer_open(dir_fd, "base", &base, &e), 0);
    assert_whole(base);
    close(base);
}

static void link_in_its_place_is_not_followed(void **state)
{
    struct err e;
    int base;

    assert_int_equal(symlinkat("/tmp", dir_fd, "elsewhere"), 0);
    assert_int_not_equal(base_layer_open(dir_fd, "elsewhere", &base, &e), 0);
}

static int begin(void **state)
{
    umask(022);
    (void)snprintf(dir, sizeof(dir), "/tmp/shoal-base-XXXXXX");
    return !mkdtemp(dir) || dir_open(dir, &dir_fd, NULL) < 0;
}

static int end(void **state)
{
    close(dir_fd);
    return tree_remove(AT_FDCWD, dir, NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(layer_is_made_whole, begin, end),
        cmocka_unit_test_setup_teardown(what_a_crash_left_out_is_made_up_for, begin, end),
        cmocka_unit_test_setup_teardown(link_in_its_place_is_not_followed, begin, end),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
