/* Volumes keep what was stored in them until a user removes them. */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "engine/testing.h"
#include "engine/volume/volume.h"

static char *dir, *path;
static int dir_fd = -1;
static uv_loop_t loop;
static struct volumes *volumes;
static char events[256];
static struct err e;

static int64_t now_ns(void)
{
    static int64_t now = 1000;

    return now++;
}

static void on_event(void *ctx, const char *action, const struct volume *v)
{
    size_t used = strlen(events);

    (void)snprintf(events + used, sizeof(events) - used, "%s %s;", action, v->record->name);
}

static void open_volumes(void)
{
    struct volumes_config config = {.loop = &loop, .dir = path, .now_ns = now_ns, .on_event = on_event};

    if (volumes_open(&config, &volumes, &e) < 0)
        fail_msg("%s", e.text);
}

static void close_volumes(void)
{
    bool closed = false;

    volumes_close(volumes, testing_set_true, &closed);
    testing_run_until(&loop, &closed);
}

static int fresh(void **state)
{
    dir = testing_dir("volume", &dir_fd);
    path = mem_printf("%s/volumes", dir);
    events[0] = '\0';
    e = (struct err){0};
    assert_int_equal(uv_loop_init(&loop), 0);
    open_volumes();
    return 0;
}

static int stale(void **state)
{
    close_volumes();
    testing_loop_close(&loop);
    close(dir_fd);
    free(path);
    testing_dir_remove(dir);
    return 0;
}

static struct volume *create(const char *name)
{
    struct volume_new asked = {.name = name};
    struct volume *v = NULL;

    if (volume_create(volumes, &asked, &v, &e) < 0)
        fail_msg("%s", e.text);
    return v;
}

static void store_file(const struct volume *v)
{
    char *file = mem_printf("%s/file", v->path);
    int fd = open(file, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);

    assert_true(fd >= 0);
    close(fd);
    free(file);
}

static bool there(const char *name)
{
    char *full = mem_printf("%s/%s", path, name);
    bool is = access(full, F_OK) == 0;

    free(full);
    return is;
}

static void volume_is_there_after_a_restart(void **state)
{
    KeyValue label = KEY_VALUE__INIT, *labels[] = {&label};
    struct volume_new asked = {.name = "data", .driver = "local", .labels = labels, .label_count = 1};
    struct volume *v = NULL;

    label.key = (char *)"tier";
    label.value = (char *)"gold";
    assert_int_equal(volume_create(volumes, &asked, &v, &e), 0);
    store_file(v);
    close_volumes();
    open_volumes();
    assert_int_equal(volume_get(volumes, "data", &v, &e), 0);
    assert_string_equal(v->record->labels[0]->value, "gold");
    assert_true(there("data/_data/file"));
    assert_string_equal(events, "create data;");
}

static void create_is_idempotent(void **state)
{
    struct volume *v = create("data");

    store_file(v);
    assert_ptr_equal(create("data"), v);
    assert_true(there("data/_data/file"));
    assert_string_equal(events, "create data;");
}

static void listing_is_in_the_order_of_creation(void **state)
{
    create("bb");
    create("aa");
    close_volumes();
    open_volumes();
    struct volume *first = volumes_next(volumes, NULL), *second = volumes_next(volumes, first);
    assert_string_equal(first->record->name, "bb");
    assert_string_equal(second->record->name, "aa");
    assert_null(volumes_next(volumes, second));
}

static void what_cannot_be_done_is_refused_by_name(void **state)
{
    static const struct {
        const char *name, *driver, *option;
        int code;
        const char *says;
    } table[] = {
        {"x", "", NULL, ERR_INVALID, "\"x\""},
        {"../x", "", NULL, ERR_INVALID, "../x"},
        {".hidden", "", NULL, ERR_INVALID, ".hidden"},
        {"a/b", "", NULL, ERR_INVALID, "a/b"},
        {"", "", NULL, ERR_INVALID, "create"},
        {"data", "nfs", NULL, ERR_NOT_FOUND, "plugin nfs"},
        {"data", "local", "device", ERR_UNSUPPORTED, "option \"device\""},
        {"data", NULL, "colour", ERR_INVALID, "invalid option: \"colour\""},
    };

    for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
        KeyValue option = KEY_VALUE__INIT, *options[] = {&option};
        struct volume_new asked = {.name = table[i].name,
                                   .driver = table[i].driver,
                                   .options = options,
                                   .option_count = table[i].option != NULL};
        struct volume *v = NULL;

        option.key = (char *)table[i].option;
        assert_int_equal(volume_create(volumes, &asked, &v, &e), table[i].code);
        assert_non_null(strstr(e.text, table[i].says));
    }
    assert_null(volumes_next(volumes, NULL));
    assert_string_equal(events, "");
}

static void volume_in_use_stays(void **state)
{
    struct volume *v = create("data");
    struct volume_use one, two;

    store_file(v);
    volume_use_init(&one);
    volume_use_init(&two);
    volume_use(v, &one, "c1");
    volume_use(v, &two, "c2");
    assert_int_equal(volume_remove(volumes, v, &e), ERR_CONFLICT);
    assert_string_equal(e.text, "remove data: volume is in use - [c1, c2]");
    volume_unuse(&one);
    volume_unuse(&one);
    assert_int_equal(volume_remove(volumes, v, &e), ERR_CONFLICT);
    assert_true(there("data/_data/file"));
    volume_unuse(&two);
    assert_int_equal(volume_remove(volumes, v, &e), 0);
    assert_false(there("data"));
    assert_null(volume_find(volumes, "data"));
    assert_string_equal(events, "create data;destroy data;");
    close_volumes();
    open_volumes();
    assert_null(volume_find(volumes, "data"));
}

static void crash_in_create_leaves_nothing(void **state)
{
    close_volumes();
    assert_int_equal(mkdirat(dir_fd, "volumes/half", 0700), 0);
    assert_int_equal(mkdirat(dir_fd, "volumes/empty", 0700), 0);
    assert_int_equal(mkdirat(dir_fd, "volumes/empty/_data", 0700), 0);
    open_volumes();
    assert_null(volumes_next(volumes, NULL));
    assert_false(there("half"));
    assert_false(there("empty"));
}

static void crash_in_remove_is_finished(void **state)
{
    create("data");
    close_volumes();
    assert_int_equal(renameat(dir_fd, "volumes/data", dir_fd, "volumes/.trash/1"), 0);
    open_volumes();
    assert_null(volume_find(volumes, "data"));
    assert_false(there(".records/data"));
}

static void files_without_a_record_are_a_volume_again(void **state)
{
    store_file(create("data"));
    close_volumes();
    assert_int_equal(unlinkat(dir_fd, "volumes/.records/data", 0), 0);
    open_volumes();
    assert_non_null(volume_find(volumes, "data"));
    assert_true(there("data/_data/file"));
    assert_true(there(".records/data"));
}

static void damaged_record_leaves_the_files_alone(void **state)
{
    struct volume_new asked = {.name = "data"};
    struct volume *v;

    store_file(create("data"));
    close_volumes();
    assert_int_equal(file_replace(dir_fd, "damage", 0600, "??", 2, false, NULL), 0);
    assert_int_equal(renameat(dir_fd, "damage", dir_fd, "volumes/.records/data"), 0);
    open_volumes();
    assert_null(volume_find(volumes, "data"));
    assert_int_equal(volume_create(volumes, &asked, &v, &e), ERR_CORRUPT);
    assert_true(there("data/_data/file"));
}

static void path_inside_cannot_lead_out(void **state)
{
    struct volume *v = create("data");
    char *link = mem_printf("%s/out", v->path);
    int fd = -1;
    struct stat inside, root;

    assert_int_equal(symlink("/", link), 0);
    assert_int_equal(volume_open(volumes, v, "out", &fd, &e), 0);
    assert_int_equal(fstat(fd, &inside), 0);
    close(fd);
    assert_int_equal(stat(v->path, &root), 0);
    assert_int_equal(inside.st_ino, root.st_ino);
    assert_int_equal(volume_open(volumes, v, "out/etc", &fd, &e), ERR_NOT_FOUND);
    assert_int_equal(volume_open(volumes, v, NULL, &fd, &e), 0);
    assert_false(volume_is_empty(fd));
    assert_int_equal(unlink(link), 0);
    assert_true(volume_is_empty(fd));
    close(fd);
    free(link);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(volume_is_there_after_a_restart, fresh, stale),
        cmocka_unit_test_setup_teardown(create_is_idempotent, fresh, stale),
        cmocka_unit_test_setup_teardown(listing_is_in_the_order_of_creation, fresh, stale),
        cmocka_unit_test_setup_teardown(what_cannot_be_done_is_refused_by_name, fresh, stale),
        cmocka_unit_test_setup_teardown(volume_in_use_stays, fresh, stale),
        cmocka_unit_test_setup_teardown(crash_in_create_leaves_nothing, fresh, stale),
        cmocka_unit_test_setup_teardown(crash_in_remove_is_finished, fresh, stale),
        cmocka_unit_test_setup_teardown(files_without_a_record_are_a_volume_again, fresh, stale),
        cmocka_unit_test_setup_teardown(damaged_record_leaves_the_files_alone, fresh, stale),
        cmocka_unit_test_setup_teardown(path_inside_cannot_lead_out, fresh, stale),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
