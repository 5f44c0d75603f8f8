/* What a container runs follows from what was asked and what its image says. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "engine/container/merge.h"
#include "proto/base/buf.h"
#include "proto/base/mem.h"

static struct arena arena;

static int open_arena(void **state)
{
    arena_init(&arena);
    return 0;
}

static int close_arena(void **state)
{
    arena_fini(&arena);
    return 0;
}

/* "a|b|c" to an array; "" is the empty one. */
static char **list(const char *text, size_t *ret_count)
{
    char **items = NULL;

    *ret_count = 0;
    while (text && *text) {
        size_t length = strcspn(text, "|");

        items = arena_append(&arena, items, *ret_count, sizeof(*items));
        items[(*ret_count)++] = arena_strndup(&arena, text, length);
        text += length + (text[length] == '|');
    }
    return items;
}

static const char *joined(char *const *items, size_t count)
{
    AUTO_BUF struct buf b = {0};

    for (size_t i = 0; i < count; i++)
        buf_printf(&b, "%s%s", i ? "|" : "", items[i]);
    return arena_strdup(&arena, buf_str(&b));
}

static KeyValue **labels(const char *text, size_t *ret_count)
{
    char **entries = list(text, ret_count);
    KeyValue **pairs = arena_array(&arena, *ret_count, sizeof(*pairs));

    for (size_t i = 0; i < *ret_count; i++) {
        pairs[i] = ARENA_NEW(&arena, KeyValue);
        key_value__init(pairs[i]);
        pairs[i]->key = entries[i];
        pairs[i]->value = strchr(entries[i], '=') + 1;
        pairs[i]->value[-1] = '\0';
    }
    return pairs;
}

static ContainerConfig *a_config(void)
{
    ContainerConfig *config = ARENA_NEW(&arena, ContainerConfig);

    container_config__init(config);
    return config;
}

static ImageConfig *an_image(void)
{
    ImageConfig *image = ARENA_NEW(&arena, ImageConfig);

    image_config__init(image);
    return image;
}

static void entry_point_and_command_follow_the_table(void **state)
{
    static const struct {
        const char *image_entry, *image_command, *entry, *command; /* entry NULL: not given */
        const char *argv;                                          /* NULL: refused */
    } table[] = {
        {"", "sh", NULL, "", "sh"},          {"", "sh", NULL, "ls|-l", "ls|-l"},
        {"init", "sh", NULL, "", "init|sh"}, {"init", "sh", NULL, "ls", "init|ls"},
        {"init", "sh", "mine", "", "mine"},  {"init", "sh", "mine", "ls", "mine|ls"},
        {"init", "sh", "", "", "sh"},        {"init", "sh", "", "ls", "ls"},
        {"init", "", NULL, "", "init"},      {"", "", NULL, "", NULL},
        {"init", "", "", "", NULL},
    };

    for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
        ContainerConfig *config = a_config();
        ImageConfig *image = an_image();
        struct merged m;
        struct err e = {0};

        image->entrypoint = list(table[i].image_entry, &image->n_entrypoint);
        image->command = list(table[i].image_command, &image->n_command);
        config->command = list(table[i].command, &config->n_command);
        config->entrypoint_set = table[i].entry != NULL;
        config->entrypoint = list(table[i].entry, &config->n_entrypoint);
        int rc = config_merge(config, image, "box", &arena, &m, &e);
        if (!table[i].argv) {
            assert_int_equal(rc, ERR_INVALID);
            continue;
        }
        assert_int_equal(rc, 0);
        assert_string_equal(joined(m.argv, m.argc), table[i].argv);
    }
}

static void entry_point_of_one_empty_string_means_none(void **state)
{
    ContainerConfig *config = a_config();
    ImageConfig *image = an_image();
    struct merged m;
    struct err e = {0};

    image->entrypoint = list("init", &image->n_entrypoint);
    image->command = list("sh", &image->n_command);
    config->entrypoint_set = true;
    config->entrypoint = (char *[]){(char *)""};
    config->n_entrypoint = 1;
    assert_int_equal(config_merge(config, image, "box", &arena, &m, &e), ERR_INVALID); /* drops the command too */
    config->command = list("ls", &config->n_command);
    assert_int_equal(config_merge(config, image, "box", &arena, &m, &e), 0);
    assert_string_equal(joined(m.argv, m.argc), "ls");
}

static void environment_follows_the_table(void **state)
{
#define PATH "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    static const struct {
        const char *image, *user;
        bool tty;
        const char *shown, *process;
    } table[] = {
        {"", "", false, "", PATH "|HOSTNAME=box"},
        {"", "", true, "", PATH "|HOSTNAME=box|TERM=xterm"},
        {"PATH=/bin|A=1", "", false, "PATH=/bin|A=1", "PATH=/bin|HOSTNAME=box|A=1"},
        {"PATH=/bin|A=1", "B=2|A=3", false, "B=2|A=3|PATH=/bin", "PATH=/bin|HOSTNAME=box|B=2|A=3"},
        {"A=1|AB=2", "A", false, "A|AB=2", PATH "|HOSTNAME=box|AB=2"},
        {"", "HOSTNAME|TERM=vt", true, "HOSTNAME|TERM=vt", PATH "|TERM=vt"},
        {"A=1", "A=", false, "A=", PATH "|HOSTNAME=box|A="},
        {"", "A=1|A=2", false, "A=1|A=2", PATH "|HOSTNAME=box|A=2"},
    };

    for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
        ContainerConfig *config = a_config();
        ImageConfig *image = an_image();
        struct merged m;

        image->env = list(table[i].image, &image->n_env);
        config->env = list(table[i].user, &config->n_env);
        config->command = list("sh", &config->n_command);
        config->tty = table[i].tty;
        assert_int_equal(config_merge(config, image, "box", &arena, &m, NULL), 0);
        assert_string_equal(joined(m.config->env, m.config->n_env), table[i].shown);
        assert_string_equal(joined(m.env, m.env_count), table[i].process);
    }
}

static void labels_ports_and_volumes_are_united(void **state)
{
    ContainerConfig *config = a_config();
    ImageConfig *image = an_image();
    struct merged m;

    config->command = list("sh", &config->n_command);
    config->labels = labels("b=user|d=user", &config->n_labels);
    image->labels = labels("a=image|b=image|c=image", &image->n_labels);
    config->exposed_ports = list("80/tcp", &config->n_exposed_ports);
    image->exposed_ports = list("53/udp|80/tcp", &image->n_exposed_ports);
    image->volumes = list("/data", &image->n_volumes);
    assert_int_equal(config_merge(config, image, "box", &arena, &m, NULL), 0);
    assert_int_equal(m.config->n_labels, 4);
    assert_string_equal(key_value_get(m.config->labels, 4, "a"), "image");
    assert_string_equal(key_value_get(m.config->labels, 4, "b"), "user");
    assert_string_equal(m.config->labels[3]->key, "d");
    assert_null(key_value_get(m.config->labels, 4, "e"));
    assert_string_equal(joined(m.config->exposed_ports, m.config->n_exposed_ports), "80/tcp|53/udp");
    assert_string_equal(joined(m.config->volumes, m.config->n_volumes), "/data");
    assert_int_equal(config->n_labels, 2); /* what was asked stays as it was */
}

static void single_values_come_from_the_image_when_absent(void **state)
{
    ContainerConfig *config = a_config();
    ImageConfig *image = an_image();
    struct merged m;

    config->command = list("sh", &config->n_command);
    config->user = (char *)"";
    config->working_dir = (char *)"/mine//./x/../y/";
    image->user = (char *)"www";
    image->working_dir = (char *)"/image";
    image->stop_signal = (char *)"SIGQUIT";
    assert_int_equal(config_merge(config, image, "box", &arena, &m, NULL), 0);
    assert_string_equal(m.config->user, "www");
    assert_string_equal(m.config->working_dir, "/mine/y");
    assert_string_equal(m.config->stop_signal, "SIGQUIT");
    assert_string_equal(m.config->hostname, "box");
}

static void working_directory_must_be_absolute(void **state)
{
    ContainerConfig *config = a_config();
    struct merged m;
    struct err e = {0};

    config->command = list("sh", &config->n_command);
    config->working_dir = (char *)"srv";
    assert_int_equal(config_merge(config, an_image(), "box", &arena, &m, &e), ERR_INVALID);
    assert_non_null(strstr(e.text, "WorkingDir"));
    assert_non_null(strstr(e.text, "\"srv\""));
    config->working_dir = (char *)"/..";
    assert_int_equal(config_merge(config, an_image(), "box", &arena, &m, &e), 0);
    assert_string_equal(m.config->working_dir, "/");
}

static void health_check_is_inherited_member_by_member(void **state)
{
    ContainerConfig *config = a_config();
    ImageConfig *image = an_image();
    HealthConfig own = HEALTH_CONFIG__INIT, theirs = HEALTH_CONFIG__INIT;
    struct merged m;

    config->command = list("sh", &config->n_command);
    theirs.test = list("CMD|true", &theirs.n_test);
    theirs.has_interval_ns = true;
    theirs.interval_ns = 5;
    theirs.has_retries = true;
    theirs.retries = 7;
    image->health = &theirs;
    assert_int_equal(config_merge(config, image, "box", &arena, &m, NULL), 0);
    assert_ptr_equal(m.config->health, &theirs);
    own.has_interval_ns = true;
    own.interval_ns = 9;
    config->health = &own;
    assert_int_equal(config_merge(config, image, "box", &arena, &m, NULL), 0);
    assert_int_equal(m.config->health->n_test, 2);
    assert_int_equal(m.config->health->interval_ns, 9);
    assert_int_equal(m.config->health->retries, 7);
    assert_int_equal(own.n_test, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(entry_point_and_command_follow_the_table),
        cmocka_unit_test(entry_point_of_one_empty_string_means_none),
        cmocka_unit_test(environment_follows_the_table),
        cmocka_unit_test(labels_ports_and_volumes_are_united),
        cmocka_unit_test(single_values_come_from_the_image_when_absent),
        cmocka_unit_test(working_directory_must_be_absolute),
        cmocka_unit_test(health_check_is_inherited_member_by_member),
    };

    return cmocka_run_group_tests(tests, open_arena, close_arena);
}
