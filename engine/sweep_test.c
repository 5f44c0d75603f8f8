/* What goes into the trash is gone, however deep, and nothing else is. */
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "engine/sweep.h"
#include "engine/testing.h"
#include "proto/base/file.h"
#include "proto/base/mem.h"

static char *dir;
static int dir_fd = -1;
static uv_loop_t loop;
static struct sweep *sweep;

static void open_trash(void)
{
    char *path = mem_printf("%s/.trash", dir);

    assert_int_equal(sweep_open(&loop, path, &sweep, NULL), 0);
    free(path);
}

static int fresh(void **state)
{
    dir = testing_dir("sweep", &dir_fd);
    assert_int_equal(uv_loop_init(&loop), 0);
    open_trash();
    return 0;
}

static int stale(void **state)
{
    bool closed = false;

    sweep_close(sweep, testing_set_true, &closed);
    testing_run_until(&loop, &closed);
    testing_loop_close(&loop);
    close(dir_fd);
    testing_dir_remove(dir);
    return 0;
}

static void run_until_idle(void)
{
    while (!sweep_idle(sweep))
        uv_run(&loop, UV_RUN_ONCE);
}

static int entries_in_trash(void)
{
    char *path = mem_printf("%s/.trash", dir);
    struct stat st;

    assert_int_equal(stat(path, &st), 0);
    free(path);
    return (int)st.st_nlink - 2; /* directories alone are counted */
}

static void make_file(int at, const char *name)
{
    int fd = openat(at, name, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);

    assert_true(fd >= 0);
    assert_int_equal(write(fd, "x", 1), 1);
    close(fd);
}

static void trees_and_special_files_go(void **state)
{
    assert_int_equal(mkdirat(dir_fd, "c", 0700), 0);
    assert_int_equal(mkdirat(dir_fd, "c/upper", 0000), 0);
    make_file(dir_fd, "c/upper/file");
    assert_int_equal(mkfifoat(dir_fd, "c/pipe", 0600), 0);
    assert_int_equal(symlinkat("/etc", dir_fd, "c/link"), 0);
    assert_int_equal(sweep_take(sweep, dir_fd, "c", NULL), 0);
    assert_int_equal(faccessat(dir_fd, "c", F_OK, 0), -1); /* at once */
    run_until_idle();
    assert_int_equal(entries_in_trash(), 0);
    assert_int_equal(access("/etc/passwd", F_OK), 0);
}

static void targets_of_links_stay(void **state)
{
    assert_int_equal(mkdirat(dir_fd, "keep", 0700), 0);
    make_file(dir_fd, "keep/file");
    assert_int_equal(mkdirat(dir_fd, "c", 0700), 0);
    assert_int_equal(symlinkat("../../keep", dir_fd, "c/link"), 0);
    assert_int_equal(symlinkat("../keep", dir_fd, "top"), 0);
    assert_int_equal(sweep_take(sweep, dir_fd, "c", NULL), 0);
    assert_int_equal(sweep_take(sweep, dir_fd, "top", NULL), 0);
    run_until_idle();
    assert_int_equal(faccessat(dir_fd, "keep/file", F_OK, 0), 0);
}

static void absent_is_fine(void **state)
{
    assert_int_equal(sweep_take(sweep, dir_fd, "nothing", NULL), 0);
    run_until_idle();
}

static void trees_deeper_than_any_path_go(void **state)
{
    int at = dup(dir_fd);

    assert_int_equal(mkdirat(at, "c", 0700), 0);
    for (int i = 0; i < 3000; i++) {
        int next = openat(at, i ? "deeper" : "c", O_PATH | O_DIRECTORY | O_CLOEXEC);

        assert_true(next >= 0);
        assert_int_equal(mkdirat(next, "deeper", 0700), 0);
        if (i % 100 == 0)
            make_file(next, "file");
        close(at);
        at = next;
    }
    close(at);
    assert_int_equal(sweep_take(sweep, dir_fd, "c", NULL), 0);
    run_until_idle();
    assert_int_equal(entries_in_trash(), 0);
}

static void many_files_go_in_slices(void **state)
{
    assert_int_equal(mkdirat(dir_fd, "c", 0700), 0);
    for (int i = 0; i < 3000; i++) {
        char name[32];

        (void)snprintf(name, sizeof(name), "c/%d", i);
        make_file(dir_fd, name);
    }
    assert_int_equal(sweep_take(sweep, dir_fd, "c", NULL), 0);
    run_until_idle();
    assert_int_equal(entries_in_trash(), 0);
}

static void immutable_files_go(void **state)
{
    int flags = FS_IMMUTABLE_FL, append = FS_APPEND_FL;

    assert_int_equal(mkdirat(dir_fd, "c", 0700), 0);
    assert_int_equal(mkdirat(dir_fd, "c/d", 0700), 0);
    make_file(dir_fd, "c/d/file");
    int file = openat(dir_fd, "c/d/file", O_RDONLY | O_CLOEXEC),
        below = openat(dir_fd, "c/d", O_RDONLY | O_CLOEXEC);
    if (ioctl(file, FS_IOC_SETFLAGS, &flags) < 0 || ioctl(below, FS_IOC_SETFLAGS, &append) < 0) {
        print_message("immutable files cannot be made here: %s\n", strerror(errno));
        close(file);
        close(below);
        skip();
    }
    close(file);
    close(below);
    assert_int_equal(sweep_take(sweep, dir_fd, "c", NULL), 0);
    run_until_idle();
    assert_int_equal(entries_in_trash(), 0);
}

static void next_start_goes_on(void **state)
{
    bool closed = false;

    run_until_idle();
    sweep_close(sweep, testing_set_true, &closed);
    testing_run_until(&loop, &closed);
    assert_int_equal(mkdirat(dir_fd, ".trash/left", 0700), 0);
    make_file(dir_fd, ".trash/left/file");
    open_trash();
    run_until_idle();
    assert_int_equal(entries_in_trash(), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(trees_and_special_files_go, fresh, stale),
        cmocka_unit_test_setup_teardown(targets_of_links_stay, fresh, stale),
        cmocka_unit_test_setup_teardown(absent_is_fine, fresh, stale),
        cmocka_unit_test_setup_teardown(trees_deeper_than_any_path_go, fresh, stale),
        cmocka_unit_test_setup_teardown(many_files_go_in_slices, fresh, stale),
        cmocka_unit_test_setup_teardown(immutable_files_go, fresh, stale),
        cmocka_unit_test_setup_teardown(next_start_goes_on, fresh, stale),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
