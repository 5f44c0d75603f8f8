/* Devices are found as they were named. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <cmocka.h>

#include "engine/container/devices.h"
#include "engine/testing.h"

static struct arena arena;
static HostConfig host;
static DeviceMapping mapping, *mappings[] = {&mapping};
static struct bundle_device *found;
static size_t count;
static struct err e;

static int fresh(void **state)
{
    arena_init(&arena);
    host_config__init(&host);
    device_mapping__init(&mapping);
    host.devices = mappings;
    host.n_devices = 1;
    return 0;
}

static int stale(void **state)
{
    arena_fini(&arena);
    return 0;
}

static const struct bundle_device *device(const char *path)
{
    for (size_t i = 0; i < count; i++)
        if (strcmp(found[i].path, path) == 0)
            return &found[i];
    return NULL;
}

static void named_device_is_found_with_its_numbers(void **state)
{
    mapping.host_path = (char *)"/dev/null";
    assert_int_equal(devices_find(&host, &arena, &found, &count, &e), 0);
    assert_int_equal(count, 1);
    assert_string_equal(found[0].path, "/dev/null");
    assert_false(found[0].block);
    assert_int_equal(found[0].major, 1);
    assert_int_equal(found[0].minor, 3);
    assert_int_equal(found[0].mode, 0666);
    assert_string_equal(found[0].access, "rwm");
    mapping.container_path = (char *)"/dev/mine";
    mapping.permissions = (char *)"r";
    assert_int_equal(devices_find(&host, &arena, &found, &count, &e), 0);
    assert_string_equal(found[0].path, "/dev/mine");
    assert_string_equal(found[0].access, "r");
}

static void directory_means_all_below_it(void **state)
{
    int dir_fd;
    char *dir = testing_dir("devices", &dir_fd);

    assert_int_equal(mkdirat(dir_fd, "below", 0700), 0);
    if (mknodat(dir_fd, "one", S_IFCHR | 0600, makedev(1, 3)) < 0 ||
        mknodat(dir_fd, "below/two", S_IFBLK | 0600, makedev(7, 0)) < 0) {
        print_message("device nodes cannot be made here\n");
        close(dir_fd);
        testing_dir_remove(dir);
        skip();
    }
    assert_int_equal(symlinkat("/dev/zero", dir_fd, "link"), 0);
    mapping.host_path = dir;
    mapping.container_path = (char *)"/dev/x";
    assert_int_equal(devices_find(&host, &arena, &found, &count, &e), 0);
    assert_int_equal(count, 2);
    assert_non_null(device("/dev/x/one"));
    assert_true(device("/dev/x/below/two")->block);
    close(dir_fd);
    testing_dir_remove(dir);
}

static void privileged_gets_all_but_its_own(void **state)
{
    host.n_devices = 0;
    host.privileged = true;
    assert_int_equal(devices_find(&host, &arena, &found, &count, &e), 0);
    assert_non_null(device("/dev/null"));
    assert_null(device("/dev/console"));
    assert_null(device("/dev/ptmx")); /* a link into its own pts */
    assert_null(device("/dev/pts/0"));
}

static void what_is_no_device_is_refused_by_name(void **state)
{
    static const struct {
        const char *host, *container, *access, *says;
    } table[] = {
        {"/dev/no-such-device", NULL, NULL, "/dev/no-such-device"},
        {"/etc/passwd", NULL, NULL, "not a device node"},
        {"/etc/cron.d", NULL, NULL, "cron.d"},
        {"/dev/null", "relative", NULL, "\"relative\""},
        {"/dev/null", NULL, "rx", "rx"},
    };

    for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
        mapping.host_path = (char *)table[i].host;
        mapping.container_path = (char *)table[i].container;
        mapping.permissions = (char *)table[i].access;
        assert_true(devices_find(&host, &arena, &found, &count, &e) < 0);
        assert_non_null(strstr(e.text, table[i].says));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(named_device_is_found_with_its_numbers, fresh, stale),
        cmocka_unit_test_setup_teardown(directory_means_all_below_it, fresh, stale),
        cmocka_unit_test_setup_teardown(privileged_gets_all_but_its_own, fresh, stale),
        cmocka_unit_test_setup_teardown(what_is_no_device_is_refused_by_name, fresh, stale),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
