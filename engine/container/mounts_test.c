/* -v, --mount, --tmpfs, --volumes-from and the image's volumes become one list. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "engine/container/mounts.h"
#include "proto/base/buf.h"
#include "proto/base/mem.h"

static struct arena arena;
static ContainerConfig config;
static HostConfig host;
static char *binds[8], *volumes[8];
static Mount mount_one, *mounts[] = {&mount_one};
static struct mounts got;
static struct err e;

static int fresh(void **state)
{
    arena_init(&arena);
    container_config__init(&config);
    host_config__init(&host);
    mount__init(&mount_one);
    config.host = &host;
    host.binds = binds;
    host.mounts = mounts;
    config.volumes = volumes;
    mount_one.has_type = true;
    e.code = 0;
    return 0;
}

static int stale(void **state)
{
    arena_fini(&arena);
    return 0;
}

static void bind(const char *text)
{
    binds[host.n_binds++] = arena_strdup(&arena, text);
}

static int resolve(void)
{
    return mounts_resolve(&config, NULL, 0, &arena, &got, &e);
}

/* "type source|volume target ro mode" of a point. */
static const char *shown(const MountPoint *p)
{
    static const char *const types[] = {"bind", "volume", "tmpfs"};
    const char *source = p->source ? p->source : p->volume ? p->volume : "-";

    return arena_printf(&arena, "%s %s %s %s %s", types[p->type], source, p->target, p->read_only ? "ro" : "rw",
                        p->propagation ? p->propagation : "-");
}

static void bind_specifications_follow_the_table(void **state)
{
    static const struct {
        const char *text, *point; /* point NULL: refused */
    } table[] = {
        {"/a:/b", "bind /a /b rw rprivate"},
        {"/a/:/b/", "bind /a /b rw rprivate"},
        {"/a:/b:ro", "bind /a /b ro rprivate"},
        {"/a:/b:ro,Z", "bind /a /b ro rprivate"},
        {"/a:/b:rslave,rw", "bind /a /b rw rslave"},
        {"/a:/b:cached", "bind /a /b rw rprivate"},
        {"/:/host", "bind / /host rw rprivate"},
        {"data:/b", "volume data /b rw -"},
        {"data:/b:ro,nocopy", "volume data /b ro -"},
        {"/b", "volume - /b rw -"},
        {"/a:/b:bad", NULL},
        {"/a:/b:ro,rw", NULL},
        {"/a:/b:ro,", NULL},
        {"/a:/b:", NULL},
        {"/a:/b:ro:rw", NULL},
        {"/a:", NULL},
        {":/b", NULL},
        {"", NULL},
        {"/a:b", NULL},
        {"/a:/", NULL},
        {"/a:/x/..", NULL},
        {"./a:/b", NULL},
        {"d:/b", NULL},
        {"_data:/b", NULL},
        {"da ta:/b", NULL},
        {"data:/b:rshared", NULL},
        {"/a:/b:nocopy", NULL},
    };

    for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
        host.n_binds = 0;
        bind(table[i].text);
        int rc = resolve();
        if (!table[i].point) {
            if (rc != ERR_INVALID)
                fail_msg("\"%s\" was accepted", table[i].text);
            /* The message shows at least the part before the first colon. */
            assert_non_null(strstr(e.text, arena_strndup(&arena, table[i].text, strcspn(table[i].text, ":"))));
            continue;
        }
        if (rc < 0)
            fail_msg("\"%s\": %s", table[i].text, e.text);
        assert_string_equal(shown(got.points[0]), table[i].point);
    }
}

static void missing_source_is_made_only_for_binds_of_v(void **state)
{
    bind("/a:/b");
    mount_one.type = MOUNT_TYPE__BIND;
    mount_one.source = (char *)"/a";
    mount_one.target = (char *)"/c";
    host.n_mounts = 1;
    assert_int_equal(resolve(), 0);
    assert_true(got.points[0]->spec->create_mountpoint);
    assert_false(got.points[1]->spec->create_mountpoint);
}

static void selinux_options_are_warned_about(void **state)
{
    bind("/a:/b:z");
    assert_int_equal(resolve(), 0);
    assert_int_equal(got.warning_count, 1);
    assert_non_null(strstr(got.warnings[0], "/b"));
}

static void mounts_that_make_no_sense_are_refused_by_field(void **state)
{
    static const struct {
        MountType type;
        const char *source, *target;
        const char *set;  /* which option */
        const char *says; /* NULL: accepted */
    } table[] = {
        {MOUNT_TYPE__BIND, "/a", "/b", "", NULL},
        {MOUNT_TYPE__BIND, "", "/b", "", "Source"},
        {MOUNT_TYPE__BIND, "a", "/b", "", "absolute"},
        {MOUNT_TYPE__BIND, "/a", "", "", "Target"},
        {MOUNT_TYPE__BIND, "/a", "b", "", "absolute"},
        {MOUNT_TYPE__BIND, "/a", "/b", "copy", "VolumeOptions"},
        {MOUNT_TYPE__BIND, "/a", "/b", "size", "TmpfsOptions"},
        {MOUNT_TYPE__BIND, "/a", "/b", "propagation", "propagation"},
        {MOUNT_TYPE__BIND, "/a", "/b", "consistency", "Consistency"},
        {MOUNT_TYPE__VOLUME, "data", "/b", "copy", NULL},
        {MOUNT_TYPE__VOLUME, "", "/b", "", NULL},
        {MOUNT_TYPE__VOLUME, "/a", "/b", "", "volume name"},
        {MOUNT_TYPE__VOLUME, "data", "/b", "recursive", "BindOptions"},
        {MOUNT_TYPE__VOLUME, "data", "/b", "subpath", NULL},
        {MOUNT_TYPE__VOLUME, "data", "/b", "subpath out", "Subpath"},
        {MOUNT_TYPE__VOLUME, "data", "/b", "subpath absolute", "Subpath"},
        {MOUNT_TYPE__TMPFS, "", "/b", "size", NULL},
        {MOUNT_TYPE__TMPFS, "/a", "/b", "", "Source"},
        {MOUNT_TYPE__TMPFS, "", "/b", "mode", "Mode"},
        {MOUNT_TYPE__TMPFS, "", "/b", "copy", "VolumeOptions"},
    };

    host.n_mounts = 1;
    for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
        const char *set = table[i].set;

        mount__init(&mount_one);
        mount_one.has_type = true;
        mount_one.type = table[i].type;
        mount_one.source = (char *)table[i].source;
        mount_one.target = (char *)table[i].target;
        mount_one.no_copy = strcmp(set, "copy") == 0;
        mount_one.has_tmpfs_size_bytes = strcmp(set, "size") == 0;
        mount_one.has_tmpfs_mode = strcmp(set, "mode") == 0;
        mount_one.tmpfs_mode = 010000;
        mount_one.non_recursive = strcmp(set, "recursive") == 0;
        mount_one.propagation = strcmp(set, "propagation") == 0 ? (char *)"sideways" : NULL;
        mount_one.consistency = strcmp(set, "consistency") == 0 ? (char *)"maybe" : NULL;
        mount_one.volume_subpath = strcmp(set, "subpath") == 0            ? (char *)"a/..b/c"
                                   : strcmp(set, "subpath out") == 0      ? (char *)"a/../b"
                                   : strcmp(set, "subpath absolute") == 0 ? (char *)"/a"
                                                                          : NULL;
        int rc = resolve();
        if (!table[i].says) {
            if (rc < 0)
                fail_msg("row %zu: %s", i, e.text);
            continue;
        }
        assert_int_equal(rc, ERR_INVALID);
        if (!strstr(e.text, table[i].says))
            fail_msg("row %zu: \"%s\" does not say \"%s\"", i, e.text, table[i].says);
    }
}

static void one_target_has_one_mount(void **state)
{
    bind("/a:/x");
    bind("/b:/x/");
    assert_int_equal(resolve(), ERR_INVALID);
    assert_string_equal(e.text, "Duplicate mount point: /x");

    host.n_binds = 1;
    mount_one.type = MOUNT_TYPE__TMPFS;
    mount_one.target = (char *)"/x";
    host.n_mounts = 1;
    assert_int_equal(resolve(), ERR_INVALID);

    KeyValue tmpfs = KEY_VALUE__INIT, *all[] = {&tmpfs};
    tmpfs.key = (char *)"/x";
    host.n_mounts = 0;
    host.tmpfs = all;
    host.n_tmpfs = 1;
    assert_int_equal(resolve(), ERR_INVALID);
    tmpfs.key = (char *)"/y";
    tmpfs.value = (char *)"size=1m";
    assert_int_equal(resolve(), 0);
    assert_int_equal(got.count, 2);
    assert_string_equal(got.points[1]->mode, "size=1m");
    assert_null(got.points[1]->spec);
}

static void volumes_of_the_image_take_what_is_left(void **state)
{
    bind("/a:/data");
    volumes[config.n_volumes++] = (char *)"/data";
    volumes[config.n_volumes++] = (char *)"/cache/";
    assert_int_equal(resolve(), 0);
    assert_int_equal(got.count, 2);
    assert_string_equal(shown(got.points[0]), "volume - /cache rw -");
    assert_true(got.points[0]->anonymous);
    assert_string_equal(shown(got.points[1]), "bind /a /data rw rprivate");
}

static void parents_come_before_what_lies_below(void **state)
{
    bind("/1:/a/b/c");
    bind("/2:/a/b");
    bind("/3:/z");
    bind("/4:/a");
    assert_int_equal(resolve(), 0);
    assert_string_equal(got.points[0]->target, "/a");
    assert_string_equal(got.points[1]->target, "/z");
    assert_string_equal(got.points[2]->target, "/a/b");
    assert_string_equal(got.points[3]->target, "/a/b/c");
}

static void inherited_mounts_give_way_to_named_ones(void **state)
{
    ContainerRecord other = CONTAINER_RECORD__INIT;
    MountPoint data = MOUNT_POINT__INIT, logs = MOUNT_POINT__INIT, scratch = MOUNT_POINT__INIT;
    MountPoint *all[] = {&data, &logs, &scratch};
    struct mounts_from from = {.record = &other, .mode = "ro"};

    data.has_type = logs.has_type = scratch.has_type = true;
    data.type = MOUNT_TYPE__VOLUME;
    data.volume = (char *)"data";
    data.source = (char *)"/v/data/_data";
    data.target = (char *)"/data";
    logs.type = MOUNT_TYPE__BIND;
    logs.source = (char *)"/var/log";
    logs.target = (char *)"/logs";
    scratch.type = MOUNT_TYPE__TMPFS;
    scratch.target = (char *)"/scratch";
    other.mounts = all;
    other.n_mounts = 3;

    bind("/mine:/logs");
    assert_int_equal(mounts_resolve(&config, &from, 1, &arena, &got, &e), 0);
    assert_int_equal(got.count, 2);
    assert_string_equal(shown(got.points[0]), "volume /v/data/_data /data ro -");
    assert_string_equal(shown(got.points[1]), "bind /mine /logs rw rprivate");
    bind("/again:/logs");
    assert_int_equal(mounts_resolve(&config, &from, 1, &arena, &got, &e), ERR_INVALID);
}

static void volumes_from_names_container_and_mode(void **state)
{
    const char *container, *mode;

    assert_int_equal(mounts_from_parse("db:ro", &arena, &container, &mode, &e), 0);
    assert_string_equal(container, "db");
    assert_string_equal(mode, "ro");
    assert_int_equal(mounts_from_parse("db", &arena, &container, &mode, &e), 0);
    assert_null(mode);
    assert_int_equal(mounts_from_parse("", &arena, &container, &mode, &e), ERR_INVALID);
    assert_int_equal(mounts_from_parse(":ro", &arena, &container, &mode, &e), ERR_INVALID);
    assert_int_equal(mounts_from_parse("db:wrong", &arena, &container, &mode, &e), ERR_INVALID);
}

static void too_many_mounts_are_refused(void **state)
{
    char **many = arena_array(&arena, MOUNTS_MAX + 1, sizeof(*many));

    for (int i = 0; i <= MOUNTS_MAX; i++)
        many[i] = arena_printf(&arena, "/a:/m%d", i);
    host.binds = many;
    host.n_binds = MOUNTS_MAX;
    assert_int_equal(resolve(), 0);
    host.n_binds = MOUNTS_MAX + 1;
    assert_int_equal(resolve(), ERR_INVALID);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(bind_specifications_follow_the_table, fresh, stale),
        cmocka_unit_test_setup_teardown(missing_source_is_made_only_for_binds_of_v, fresh, stale),
        cmocka_unit_test_setup_teardown(selinux_options_are_warned_about, fresh, stale),
        cmocka_unit_test_setup_teardown(mounts_that_make_no_sense_are_refused_by_field, fresh, stale),
        cmocka_unit_test_setup_teardown(one_target_has_one_mount, fresh, stale),
        cmocka_unit_test_setup_teardown(volumes_of_the_image_take_what_is_left, fresh, stale),
        cmocka_unit_test_setup_teardown(parents_come_before_what_lies_below, fresh, stale),
        cmocka_unit_test_setup_teardown(inherited_mounts_give_way_to_named_ones, fresh, stale),
        cmocka_unit_test_setup_teardown(volumes_from_names_container_and_mode, fresh, stale),
        cmocka_unit_test_setup_teardown(too_many_mounts_are_refused, fresh, stale),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
