/* Directories are measured, whatever is in them. */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "engine/measure.h"
#include "engine/testing.h"

static uv_loop_t loop;
static char *dir;
static int dir_fd = -1;

struct answer {
    bool here;
    int64_t bytes;
};

static int fresh(void **state)
{
    dir = testing_dir("measure", &dir_fd);
    return uv_loop_init(&loop);
}

static int stale(void **state)
{
    testing_loop_close(&loop);
    close(dir_fd);
    testing_dir_remove(dir);
    return 0;
}

static void answered(void *ctx, int64_t bytes)
{
    struct answer *a = ctx;

    a->here = true;
    a->bytes = bytes;
}

static int64_t measured(void)
{
    struct answer a = {0};

    (void)measure_start(&loop, dir_fd, answered, &a);
    testing_run_until(&loop, &a.here);
    return a.bytes;
}

static void make_file(const char *name, off_t size)
{
    int fd = openat(dir_fd, name, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);

    assert_true(fd >= 0);
    assert_int_equal(ftruncate(fd, size), 0);
    close(fd);
}

static void files_count_once_and_links_are_not_followed(void **state)
{
    assert_int_equal(measured(), 0);
    make_file("a", 1000);
    assert_int_equal(mkdirat(dir_fd, "d", 0700), 0);
    make_file("d/b", 50);
    assert_int_equal(linkat(dir_fd, "a", dir_fd, "d/again", 0), 0);
    assert_int_equal(symlinkat("/", dir_fd, "d/root"), 0);
    assert_int_equal(measured(), 1000 + 50 + 1);
}

static void many_files_are_counted_in_slices(void **state)
{
    for (int i = 0; i < 3000; i++) {
        char name[16];

        (void)snprintf(name, sizeof(name), "%d", i);
        make_file(name, 10);
    }
    assert_int_equal(measured(), 30000);
}

static void canceled_measure_says_nothing(void **state)
{
    struct answer a = {0};

    make_file("a", 1000);
    measure_cancel(measure_start(&loop, dir_fd, answered, &a));
    uv_run(&loop, UV_RUN_DEFAULT);
    assert_false(a.here);
}

static void what_is_no_directory_gives_no_size(void **state)
{
    struct answer a = {0};
    int fd;

    make_file("a", 10);
    fd = openat(dir_fd, "a", O_PATH | O_CLOEXEC);
    (void)measure_start(&loop, fd, answered, &a);
    testing_run_until(&loop, &a.here);
    assert_int_equal(a.bytes, -1);
    close(fd);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(files_count_once_and_links_are_not_followed, fresh, stale),
        cmocka_unit_test_setup_teardown(many_files_are_counted_in_slices, fresh, stale),
        cmocka_unit_test_setup_teardown(canceled_measure_says_nothing, fresh, stale),
        cmocka_unit_test_setup_teardown(what_is_no_directory_gives_no_size, fresh, stale),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
