/* shoal-job unpack, the real program on real directories: what honest layers become. Hostile ones: hostile_test.c.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>

#include "proto/base/err.h"
#include "proto/base/mem.h"
#include "tests/support/job.h"
#include "tests/support/tarball.h"
#include "tests/support/unpack.h"

static int setup(void **state)
{
    *state = scratch_new("unpack-test");
    return 0;
}

static int teardown(void **state)
{
    scratch_remove(*state);
    return 0;
}

static void assert_tree(const char *path, int times, const char *expected)
{
    AUTO_FREE
    char *found = tree_describe(path, times);

    if (strcmp(found, expected) != 0)
        fail_msg("expected:\n%sfound:\n%s", expected, found);
}

static void unpack_well(const struct buf *blob, const char *path, struct unpacked *u)
{
    unpack_run(blob, path, NULL, u);
    if (u->status != 0 || u->error.code)
        fail_msg("status %d: %s", u->status, u->error.text);
}

static void layer_becomes_what_its_entries_say(void **state)
{
    static const char capability[] =
        "\x01\x00\x00\x02\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00";
    const char *path = *state;
    struct buf tar = {0}, records = {0};
    struct unpacked u;

    TAR(&tar, .name = "./", .type = '5', .mode = 0711, .mtime = 1000);
    TAR(&tar, .name = "etc/", .type = '5', .mtime = 1001);
    TAR(&tar, .name = "etc/passwd", .data = "root:x:0:0::/:/bin/sh\n", .mtime = 1002);
    TAR(&tar, .name = "etc/shadow", .data = "", .mode = 0640, .gid = 42);
    TAR(&tar, .name = "bin/", .type = '5', .uid = 7, .gid = 8, .mode = 01777, .mtime = 1003);
    TAR(&tar, .name = "bin/su", .data = "su", .mode = 04755, .mtime = 1004);
    TAR(&tar, .name = "bin/wall", .data = "wall", .mode = 02755, .gid = 5);
    TAR(&tar, .name = "bin/sh", .type = '2', .link = "/usr/bin/../bin/dash", .mode = 0777, .mtime = 1005);
    TAR(&tar, .name = "bin/su2", .type = '1', .link = "bin/su");
    TAR(&tar, .name = "dev/null", .type = '3', .mode = 0666, .major = 1, .minor = 3);
    TAR(&tar, .name = "dev/sda", .type = '4', .mode = 0660, .gid = 6, .major = 8, .minor = 0);
    TAR(&tar, .name = "run/pipe", .type = '6', .mode = 0622);
    TAR(&tar, .name = "home/big", .data = "x", .uid = 4000000000u, .gid = 3000000);
    /* length, blank, key, =, 20 bytes that are no text, newline */
    buf_printf(&records,
               "%zu SCHILY.xattr.security.capability=", 2 + 1 + strlen("SCHILY.xattr.security.capability") + 22);
    buf_append(&records, capability, 20);
    buf_append_char(&records, '\n');
    tar_pax_raw(&tar, 'x', buf_bytes(&records), records.length);
    TAR(&tar, .name = "bin/ping", .data = "ping", .mode = 0755);
    tar_pax(&tar, "SCHILY.xattr.user.note", "kept", "SCHILY.xattr.trusted.overlay.redirect", "/etc",
            "SCHILY.xattr.security.ima", "no", "SCHILY.xattr.system.posix_acl_access", "no", "mtime", "2000.25",
            NULL);
    TAR(&tar, .name = "etc/note", .data = "n");
    tar_pax(&tar, "SCHILY.xattr.user.dir", "d", NULL);
    TAR(&tar, .name = "etc/", .type = '5', .mtime = 1001); /* again: twice the same directory is fine */
    tar_close(&tar);
    unpack_well(&tar, path, &u);
    assert_tree(
        path, 0,
        ". dir 0711 0:0\n"
        "bin dir 1777 7:8\n"
        "bin/ping file 0755 0:0 4 security.capability=\\x01\\x00\\x00\\x02\\x00\\x04\\x00\\x00\\x00\\x00\\x00\\x00"
        "\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00\n"
        "bin/sh link 0777 0:0 -> /usr/bin/../bin/dash\n"
        "bin/su file 4755 0:0 2\n"
        "bin/su2 file 4755 0:0 2\n"
        "bin/wall file 2755 0:5 4\n"
        "dev dir 0755 0:0\n"
        "dev/null char 0666 0:0 1,3\n"
        "dev/sda block 0660 0:6 8,0\n"
        "etc dir 0755 0:0 user.dir=d\n"
        "etc/note file 0644 0:0 1 user.note=kept\n"
        "etc/passwd file 0644 0:0 22\n"
        "etc/shadow file 0640 0:42 0\n"
        "home dir 0755 0:0\n"
        "home/big file 0644 4000000000:3000000 1\n"
        "run dir 0755 0:0\n"
        "run/pipe fifo 0622 0:0\n");
    assert_int_equal(u.size_bytes, 22 + 2 + 4 + 1 + 4 + 1);
    assert_int_equal(u.files, 16);
    assert_false(u.opaque_root);
    buf_fini(&tar);
    buf_fini(&records);
}

static void times_are_kept_also_of_directories(void **state)
{
    const char *path = *state;
    struct buf tar = {0};
    struct unpacked u;

    TAR(&tar, .name = "d/", .type = '5', .mtime = 1001);
    TAR(&tar, .name = "d/e/", .type = '5', .mtime = 1002);
    tar_pax(&tar, "mtime", "1003.5", NULL);
    TAR(&tar, .name = "d/e/f", .data = "x");
    TAR(&tar, .name = "d/l", .type = '2', .link = "nowhere", .mtime = 1004);
    tar_pax(&tar, "mtime", "-86400", NULL);
    TAR(&tar, .name = "d/old", .data = "x");
    TAR(&tar, .name = "./", .type = '5', .mtime = 1005);
    tar_close(&tar);
    unpack_well(&tar, path, &u);
    assert_tree(path, 1,
                ". dir 0755 0:0 mtime=1005\n"
                "d dir 0755 0:0 mtime=1001\n"
                "d/e dir 0755 0:0 mtime=1002\n"
                "d/e/f file 0644 0:0 1 mtime=1003\n"
                "d/l link 0777 0:0 -> nowhere mtime=1004\n"
                "d/old file 0644 0:0 1 mtime=-86400\n");
    buf_fini(&tar);
}

static void whiteouts_become_what_overlayfs_reads(void **state)
{
    const char *path = *state;
    struct buf tar = {0};
    struct unpacked u;

    TAR(&tar, .name = "etc/.wh.gone", .data = "");
    TAR(&tar, .name = "var/lib/.wh..wh..opq", .data = "");
    TAR(&tar, .name = "var/lib/new", .data = "n");
    TAR(&tar, .name = "both/", .type = '5');
    TAR(&tar, .name = "both/x", .data = "x");
    TAR(&tar, .name = ".wh.both", .data = ""); /* hides what is below, not what this layer brings */
    TAR(&tar, .name = ".wh.later", .data = "");
    TAR(&tar, .name = "later/", .type = '5'); /* the same the other way round */
    TAR(&tar, .name = ".wh.implied", .data = "");
    TAR(&tar, .name = "implied/deep/x", .data = "x");
    TAR(&tar, .name = ".wh.file", .data = "");
    TAR(&tar, .name = "file", .data = "f");
    TAR(&tar, .name = "first", .data = "f");
    TAR(&tar, .name = ".wh.first", .data = "");
    TAR(&tar, .name = ".wh..wh.plnk/", .type = '5'); /* book-keeping of an old file system */
    TAR(&tar, .name = ".wh..wh.aufs", .data = "");
    TAR(&tar, .name = ".whatever", .data = "w");
    tar_close(&tar);
    unpack_well(&tar, path, &u);
    assert_tree(path, 0,
                ". dir 0755 0:0\n"
                ".whatever file 0644 0:0 1\n"
                "both dir 0755 0:0 trusted.overlay.opaque=y\n"
                "both/x file 0644 0:0 1\n"
                "etc dir 0755 0:0\n"
                "etc/gone char 0000 0:0 0,0\n"
                "file file 0644 0:0 1\n"
                "first file 0644 0:0 1\n"
                "implied dir 0755 0:0 trusted.overlay.opaque=y\n"
                "implied/deep dir 0755 0:0\n"
                "implied/deep/x file 0644 0:0 1\n"
                "later dir 0755 0:0 trusted.overlay.opaque=y\n"
                "var dir 0755 0:0\n"
                "var/lib dir 0755 0:0 trusted.overlay.opaque=y\n"
                "var/lib/new file 0644 0:0 1\n");
    buf_fini(&tar);
}

static void whiteouts_hide_the_layer_below_in_a_real_overlay(void **state)
{
    char *base = *state, options[1024], merged[512], lower[512], upper[512];
    struct buf bottom = {0}, top = {0};
    struct unpacked u;

    snprintf(merged, sizeof(merged), "%s/merged", base);
    snprintf(lower, sizeof(lower), "%s/lower", base);
    snprintf(upper, sizeof(upper), "%s/upper", base);
    mkdir(merged, 0755);
    mkdir(lower, 0755);
    mkdir(upper, 0755);
    TAR(&bottom, .name = "a", .data = "a");
    TAR(&bottom, .name = "d/x", .data = "x");
    TAR(&bottom, .name = "o/x", .data = "x");
    tar_close(&bottom);
    TAR(&top, .name = ".wh.a", .data = "");
    TAR(&top, .name = "d/y", .data = "y");
    TAR(&top, .name = "o/.wh..wh..opq", .data = "");
    TAR(&top, .name = "o/y", .data = "y");
    tar_close(&top);
    unpack_well(&bottom, lower, &u);
    unpack_well(&top, upper, &u);
    snprintf(options, sizeof(options), "lowerdir=%s:%s", upper, lower);
    if (mount("overlay", merged, "overlay", MS_RDONLY, options) < 0)
        print_message("no overlayfs here: not looked at through one\n");
    else {
        AUTO_FREE
        char *found = tree_describe(merged, 0);

        umount2(merged, MNT_DETACH);
        assert_string_equal(found, ". dir 0755 0:0\n"
                                   "d dir 0755 0:0\n"
                                   "d/x file 0644 0:0 1\n"
                                   "d/y file 0644 0:0 1\n"
                                   "o dir 0755 0:0\n"
                                   "o/y file 0644 0:0 1\n");
    }
    buf_fini(&bottom);
    buf_fini(&top);
}

static void opaque_root_is_told(void **state)
{
    const char *path = *state;
    struct buf tar = {0};
    struct unpacked u;

    TAR(&tar, .name = ".wh..wh..opq", .data = "");
    tar_close(&tar);
    unpack_well(&tar, path, &u);
    assert_true(u.opaque_root);
    buf_fini(&tar);
}

static void later_entries_replace_earlier_ones(void **state)
{
    const char *path = *state;
    struct buf tar = {0};
    struct unpacked u;

    TAR(&tar, .name = "a", .data = "old", .mode = 0600);
    TAR(&tar, .name = "a", .data = "newer");
    TAR(&tar, .name = "l", .type = '2', .link = "d");
    TAR(&tar, .name = "l/", .type = '5'); /* a directory over a link: the link goes */
    TAR(&tar, .name = "l/x", .data = "x");
    TAR(&tar, .name = "e/", .type = '5');
    TAR(&tar, .name = "e", .type = '2', .link = "a"); /* a link over an empty directory */
    TAR(&tar, .name = "h", .data = "h");
    TAR(&tar, .name = "h", .type = '1', .link = "a");
    TAR(&tar, .name = "f", .type = '6');
    TAR(&tar, .name = "f", .data = "f");
    tar_close(&tar);
    unpack_well(&tar, path, &u);
    assert_tree(path, 0,
                ". dir 0755 0:0\n"
                "a file 0644 0:0 5\n"
                "e link 0777 0:0 -> a\n"
                "f file 0644 0:0 1\n"
                "h file 0644 0:0 5\n"
                "l dir 0755 0:0\n"
                "l/x file 0644 0:0 1\n");
    buf_fini(&tar);
}

static void links_inside_the_layer_are_followed_on_the_way(void **state)
{
    const char *path = *state;
    struct buf tar = {0};
    struct unpacked u;

    TAR(&tar, .name = "usr/bin/", .type = '5');
    TAR(&tar, .name = "bin", .type = '2', .link = "usr/bin");
    TAR(&tar, .name = "bin/tool", .data = "t");
    TAR(&tar, .name = "bin/.wh.gone", .data = "");
    TAR(&tar, .name = "tool", .type = '1', .link = "bin/tool");
    tar_close(&tar);
    unpack_well(&tar, path, &u);
    assert_tree(path, 0,
                ". dir 0755 0:0\n"
                "bin link 0777 0:0 -> usr/bin\n"
                "tool file 0644 0:0 1\n"
                "usr dir 0755 0:0\n"
                "usr/bin dir 0755 0:0\n"
                "usr/bin/gone char 0000 0:0 0,0\n"
                "usr/bin/tool file 0644 0:0 1\n");
    buf_fini(&tar);
}

static void names_are_kept_byte_by_byte(void **state)
{
    /* Long, composed and decomposed, Latin-1, and what a shell would trip over; by ustar, pax and GNU headers. */
    static const char *const names[] = {"caf\xc3\xa9", "cafe\xcc\x81", "caf\xe9", "a b\tc\nd",
                                        "-rf",         "\xff\xfe",     "*"};
    const char *path = *state;
    char name[300], file[700];
    struct buf tar = {0};
    struct unpacked u;
    struct stat st;

    for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
        snprintf(name, sizeof(name), "ustar/%s", names[i]);
        TAR(&tar, .name = name, .data = "x");
        snprintf(name, sizeof(name), "pax/%s", names[i]);
        tar_pax(&tar, "path", name, NULL);
        TAR(&tar, .name = "short", .data = "x");
        snprintf(name, sizeof(name), "gnu/%s", names[i]);
        tar_gnu_long(&tar, 'L', name);
        TAR(&tar, .name = "short", .data = "x", .magic = "ustar  ");
        snprintf(name, sizeof(name), "link/%s", names[i]);
        tar_pax(&tar, "path", name, "linkpath", names[i], NULL);
        TAR(&tar, .name = "short", .type = '2', .link = "short");
    }
    memset(name, 'n', 255);
    memcpy(name, "pax/", 4);
    name[4 + 250] = '\0';
    tar_pax(&tar, "path", name, NULL);
    TAR(&tar, .name = "short", .data = "x");
    tar_close(&tar);
    unpack_well(&tar, path, &u);
    snprintf(file, sizeof(file), "%s/%s", path, name);
    assert_int_equal(lstat(file, &st), 0);
    for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
        static const char *const kinds[] = {"ustar", "pax", "gnu", "link"};

        for (size_t k = 0; k < ARRAY_SIZE(kinds); k++) {
            char link[100] = {0};

            snprintf(file, sizeof(file), "%s/%s/%s", path, kinds[k], names[i]);
            if (lstat(file, &st) < 0)
                fail_msg("%s name %zu is not there", kinds[k], i);
            if (S_ISLNK(st.st_mode)) {
                assert_in_range(readlink(file, link, sizeof(link) - 1), 1, sizeof(link) - 1);
                assert_string_equal(link, names[i]);
            }
        }
    }
    buf_fini(&tar);
}

static void leading_slashes_and_dots_mean_the_layers_root(void **state)
{
    const char *path = *state;
    struct buf tar = {0};
    struct unpacked u;

    TAR(&tar, .name = "/app/web", .data = "w");
    TAR(&tar, .name = "././/app//./x", .data = "x");
    TAR(&tar, .name = "y", .type = '1', .link = "/app/x");
    tar_close(&tar);
    unpack_well(&tar, path, &u);
    assert_tree(path, 0,
                ". dir 0755 0:0\n"
                "app dir 0755 0:0\n"
                "app/web file 0644 0:0 1\n"
                "app/x file 0644 0:0 1\n"
                "y file 0644 0:0 1\n");
    buf_fini(&tar);
}

static void every_compression_is_recognised_and_both_digests_are_told(void **state)
{
    static const char *const filters[] = {"gzip", "zstd", "bzip2", "xz"};
    char *path = *state, digest[72], diff_id[72];
    struct buf tar = {0};

    TAR(&tar, .name = "a", .data = "a");
    tar_close(&tar);
    tar_digest(&tar, diff_id);
    for (size_t i = 0; i < ARRAY_SIZE(filters); i++) {
        struct buf blob = {0};
        struct unpacked u;
        char below[300];

        tar_compress(&tar, filters[i], &blob);
        tar_digest(&blob, digest);
        snprintf(below, sizeof(below), "%s/%s", path, filters[i]);
        mkdir(below, 0755);
        struct unpack_how how = {.digest = digest, .diff_id = diff_id};
        unpack_run(&blob, below, &how, &u);
        assert_string_equal(u.error.text, "");
        assert_string_equal(u.digest, digest);
        assert_string_equal(u.diff_id, diff_id);
        assert_tree(below, 0, ". dir 0755 0:0\na file 0644 0:0 1\n");
        buf_fini(&blob);
    }
    buf_fini(&tar);
}

static void members_of_a_gzip_and_frames_of_a_zstd_follow_each_other(void **state)
{
    static const char *const filters[] = {"gzip", "zstd"};
    char *path = *state, diff_id[72];
    struct buf tar = {0};

    TAR(&tar, .name = "a", .data = "a");
    TAR(&tar, .name = "b", .data = "b");
    tar_close(&tar);
    tar_digest(&tar, diff_id);
    for (size_t i = 0; i < ARRAY_SIZE(filters); i++) {
        struct buf blob = {0}, first = {0}, second = {0};
        struct unpack_how how = {.diff_id = diff_id};
        struct unpacked u;
        char below[300];

        buf_append(&first, buf_bytes(&tar), 700);
        buf_append(&second, buf_bytes(&tar) + 700, tar.length - 700);
        tar_compress(&first, filters[i], &blob);
        tar_compress(&second, filters[i], &blob);
        snprintf(below, sizeof(below), "%s/%s", path, filters[i]);
        mkdir(below, 0755);
        unpack_run(&blob, below, &how, &u);
        assert_string_equal(u.error.text, "");
        buf_fini(&blob);
        buf_fini(&first);
        buf_fini(&second);
    }
    buf_fini(&tar);
}

static void sparse_files_keep_their_holes(void **state)
{
    /* GNU.sparse 1.0: the map stands before the data. */
    char *path = *state, file[300], map[512] = "1\n1048576\n5\n";
    struct buf tar = {0}, data = {0};
    struct unpacked u;
    struct stat st;

    buf_append(&data, map, sizeof(map));
    buf_append_str(&data, "hello");
    tar_pax(&tar, "GNU.sparse.major", "1", "GNU.sparse.minor", "0", "GNU.sparse.name", "sparse",
            "GNU.sparse.realsize", "4194304", NULL);
    TAR(&tar, .name = "GNUSparseFile.0/sparse", .data = buf_bytes(&data), .size = data.length);
    tar_close(&tar);
    unpack_well(&tar, path, &u);
    snprintf(file, sizeof(file), "%s/sparse", path);
    assert_int_equal(stat(file, &st), 0);
    assert_int_equal(st.st_size, 4194304);
    assert_in_range(st.st_blocks * 512, 0, 65536);
    int fd = open(file, O_RDONLY | O_CLOEXEC);
    char read_back[6] = {0};
    assert_int_equal(pread(fd, read_back, 5, 1048576), 5);
    assert_string_equal(read_back, "hello");
    close(fd);
    assert_int_equal(u.size_bytes, 4194304);
    buf_fini(&tar);
    buf_fini(&data);
}

static void empty_layer_is_a_layer(void **state)
{
    const char *path = *state;
    struct buf tar = {0};
    struct unpacked u;

    tar_close(&tar);
    unpack_well(&tar, path, &u);
    assert_string_equal(u.diff_id, "sha256:5f70bf18a086007016e948b04aed3b82103a36bea41755b6cddfaf10ace3c6ef");
    assert_int_equal(u.files, 0);
    buf_fini(&tar);
}

static void files_at_the_limits_pass(void **state)
{
    const char *path = *state;
    struct buf tar = {0};
    struct unpacked u;
    struct unpack_how how = {.bytes_max = 8, .files_max = 3, .depth_max = 2};

    TAR(&tar, .name = "a/b", .data = "12345");
    TAR(&tar, .name = "c", .data = "678");
    TAR(&tar, .name = "d/", .type = '5');
    tar_close(&tar);
    unpack_run(&tar, path, &how, &u);
    assert_string_equal(u.error.text, "");
    assert_int_equal(u.size_bytes, 8);
    buf_fini(&tar);
}

static int need_root(void **state)
{
    if (getuid() != 0) {
        print_message("skip: needs root, to confine itself and to make devices\n");
        return -1;
    }
    return 0;
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(layer_becomes_what_its_entries_say),
        TEST(times_are_kept_also_of_directories),
        TEST(whiteouts_become_what_overlayfs_reads),
        TEST(whiteouts_hide_the_layer_below_in_a_real_overlay),
        TEST(opaque_root_is_told),
        TEST(later_entries_replace_earlier_ones),
        TEST(links_inside_the_layer_are_followed_on_the_way),
        TEST(names_are_kept_byte_by_byte),
        TEST(leading_slashes_and_dots_mean_the_layers_root),
        TEST(every_compression_is_recognised_and_both_digests_are_told),
        TEST(members_of_a_gzip_and_frames_of_a_zstd_follow_each_other),
        TEST(sparse_files_keep_their_holes),
        TEST(empty_layer_is_a_layer),
        TEST(files_at_the_limits_pass),
    };

    if (need_root(NULL) < 0)
        return 0;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
