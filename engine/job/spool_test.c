/* shoal-job spool and shoal-job remove, the real program. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "proto/base/file.h"
#include "proto/base/mem.h"
#include "proto/job.pb-c.h"
#include "tests/support/job.h"
#include "tests/support/tarball.h"

struct spooled {
    int status;
    bool done;
    struct err error;
    struct buf members; /* one line each: "name file size digest" or "name -> link" */
    char *path;
};

static void on_frame(void *ctx, const void *data, size_t size)
{
    struct spooled *s = ctx;
    SpoolEvent *event = spool_event__unpack(NULL, size, data);

    assert_non_null(event);
    if (event->error)
        err_set(&s->error, event->error->code, "%s", event->error->text);
    s->done |= event->done;
    if (event->member && event->member->link)
        buf_printf(&s->members, "%s -> %s\n", event->member->name, event->member->link);
    else if (event->member)
        buf_printf(&s->members, "%s %u %llu %s\n", event->member->name, event->member->file,
                   (unsigned long long)event->member->size_bytes, event->member->digest);
    spool_event__free_unpacked(event, NULL);
}

static void spool(const struct buf *upload, bool flat, uint64_t bytes_max, unsigned members_max, struct spooled *s)
{
    SpoolRequest request = SPOOL_REQUEST__INIT;

    *s = (struct spooled){.path = scratch_new("spool-test")};
    int fds[2] = {memfd_create("upload", MFD_CLOEXEC), open(s->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC)};
    assert_int_equal(write_all(fds[0], buf_bytes(upload), upload->length, NULL), 0);
    lseek(fds[0], 0, SEEK_SET);
    request.has_flat = request.has_bytes_max = request.has_members_max = true;
    request.flat = flat;
    request.bytes_max = bytes_max;
    request.members_max = members_max;
    s->status = job_run("spool", &request.base, fds, 2, on_frame, s);
    close(fds[0]);
    close(fds[1]);
}

static void spooled_fini(struct spooled *s)
{
    buf_fini(&s->members);
    scratch_remove(s->path);
}

static void an_archive(struct buf *tar)
{
    TAR(tar, .name = "./", .type = '5');
    TAR(tar, .name = "abc/layer.tar", .data = "hello");
    TAR(tar, .name = "def/layer.tar", .type = '2', .link = "../abc/layer.tar");
    TAR(tar, .name = "ghi", .type = '1', .link = "./abc/layer.tar");
    TAR(tar, .name = "jkl/x", .type = '2', .link = "/abc/./layer.tar");
    TAR(tar, .name = "manifest.json", .data = "[]");
    tar_close(tar);
}

#define AN_ARCHIVE                                                                                \
    "abc/layer.tar 0 5 sha256:2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824\n" \
    "def/layer.tar -> abc/layer.tar\n"                                                            \
    "ghi -> abc/layer.tar\n"                                                                      \
    "jkl/x -> abc/layer.tar\n"                                                                    \
    "manifest.json 1 2 sha256:4f53cda18c2baa0c0354bb5f9a3ecbe5ed12ab4d8e11ba873c2f11161202b945\n"

static void members_become_numbered_files_and_links_are_told(void **state)
{
    static const char *const filters[] = {NULL, "gzip", "zstd", "xz", "bzip2"};
    struct buf tar = {0};

    an_archive(&tar);
    for (size_t i = 0; i < ARRAY_SIZE(filters); i++) {
        struct buf packed = {0};
        struct spooled s;

        if (filters[i])
            tar_compress(&tar, filters[i], &packed);
        else
            buf_append(&packed, buf_bytes(&tar), tar.length);
        spool(&packed, false, 1 << 20, 10, &s);
        assert_string_equal(s.error.text, "");
        assert_int_equal(s.status, 0);
        assert_true(s.done);
        assert_string_equal(buf_str(&s.members), AN_ARCHIVE);
        AUTO_FREE
        char *tree = tree_describe(s.path, 0);
        assert_string_equal(tree, ". dir 0700 0:0\n0 file 0600 0:0 5\n1 file 0600 0:0 2\n");
        spooled_fini(&s);
        buf_fini(&packed);
    }
    buf_fini(&tar);
}

static void flat_upload_becomes_one_file_as_it_came(void **state)
{
    struct buf tar = {0};
    struct spooled s;
    char digest[72], line[200];

    an_archive(&tar);
    tar_digest(&tar, digest);
    spool(&tar, true, tar.length, 1, &s);
    snprintf(line, sizeof(line), "upload 0 %zu %s\n", tar.length, digest);
    assert_string_equal(buf_str(&s.members), line);
    assert_true(s.done);
    spooled_fini(&s);
    spool(&tar, true, tar.length - 1, 1, &s);
    assert_int_equal(s.error.code, ERR_LIMIT);
    assert_false(s.done);
    spooled_fini(&s);
    buf_fini(&tar);
}

static void bad_archives_are_refused(void **state)
{
    static const struct {
        struct tar_member member;
        const char *why;
    } rows[] = {
        {{.name = "../x", .data = "x"}, "leads upwards"},
        {{.name = "x", .type = '2', .link = "../../etc/passwd"}, "the link leads out of the archive"},
        {{.name = "a/b", .type = '2', .link = "../.."}, "the link leads out of the archive"},
        {{.name = "x", .type = '3', .major = 1, .minor = 3}, "files, directories and links only"},
        {{.name = "x", .type = '6'}, "files, directories and links only"},
        {{.name = ".wh.x", .data = "x"}, "files, directories and links only"},
        {{.name = "x", .data = "x", .size_said = 1 << 21}, "more than the 1048576 bytes"},
        {{.name = "x", .data = "x", .checksum_off = 1}, "damaged"},
        {{.name = "a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a", .data = "x"}, "directories deep"},
    };

    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        struct buf tar = {0};
        struct spooled s;

        TAR(&tar, .name = "first", .data = "x");
        tar_member(&tar, rows[i].member);
        tar_close(&tar);
        spool(&tar, false, 1 << 20, 10, &s);
        if (s.status != 1 || s.done || !strstr(s.error.text, rows[i].why))
            fail_msg("row %zu: status %d, \"%s\" without \"%s\"", i, s.status, s.error.text, rows[i].why);
        spooled_fini(&s);
        buf_fini(&tar);
    }
}

static void archive_that_is_cut_or_has_too_many_files_is_refused(void **state)
{
    struct buf tar = {0}, cut = {0};
    struct spooled s;

    an_archive(&tar);
    spool(&tar, false, 1 << 20, 1, &s);
    assert_non_null(strstr(s.error.text, "more than the 1 files"));
    spooled_fini(&s);
    buf_append(&cut, buf_bytes(&tar), 512 + 512 + 100);
    spool(&cut, false, 1 << 20, 10, &s);
    assert_non_null(strstr(s.error.text, "damaged"));
    spooled_fini(&s);
    buf_fini(&cut);
    spool(&cut, false, 1 << 20, 10, &s);
    assert_int_equal(s.status, 1);
    spooled_fini(&s);
    buf_fini(&tar);
    buf_fini(&cut);
}

static void remove_takes_what_is_dead_and_nothing_else(void **state)
{
    char *path = scratch_new("spool-test"), file[300];
    static const char *const directories[] = {"dead-1", "dead-1/a", "dead-1/a/b", "alive", "alive/dead-2"};

    for (size_t i = 0; i < ARRAY_SIZE(directories); i++) {
        snprintf(file, sizeof(file), "%s/%s", path, directories[i]);
        assert_int_equal(mkdir(file, 0), 0); /* no permission at all */
    }
    snprintf(file, sizeof(file), "%s/dead-1/a/link", path);
    assert_int_equal(symlink("/tmp", file), 0);
    snprintf(file, sizeof(file), "%s/dead-3", path);
    assert_int_equal(symlink("alive", file), 0);
    snprintf(file, sizeof(file), "%s/dead-file", path);
    close(open(file, O_WRONLY | O_CREAT | O_CLOEXEC, 0));
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    assert_int_equal(job_run("remove", NULL, &fd, 1, NULL, NULL), 0);
    close(fd);
    AUTO_FREE
    char *tree = tree_describe(path, 0);
    assert_string_equal(tree, ". dir 0700 0:0\nalive dir 0000 0:0\nalive/dead-2 dir 0000 0:0\n");
    scratch_remove(path);
}

/* Deeper than the remover holds descriptors, and than any path is long. */
static void remove_takes_trees_of_any_depth(void **state)
{
    char *path = scratch_new("spool-test");
    int top = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC), at = dup(top);
    unsigned depth = 5000;

    for (unsigned i = 0; i < depth; i++) {
        const char *name = i == 0 ? "dead-deep" : "d";

        assert_int_equal(mkdirat(at, name, 0700), 0);
        int next = openat(at, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        assert_true(next >= 0);
        close(openat(next, ".removing.0", O_WRONLY | O_CREAT | O_CLOEXEC, 0)); /* a name the remover uses itself */
        close(at);
        at = next;
    }
    close(at);
    assert_int_equal(job_run("remove", NULL, &top, 1, NULL, NULL), 0);
    close(top);
    AUTO_FREE
    char *tree = tree_describe(path, 0);
    assert_string_equal(tree, ". dir 0700 0:0\n");
    scratch_remove(path);
}

static void unknown_verbs_and_requests_are_refused(void **state)
{
    UnpackRequest request = UNPACK_REQUEST__INIT; /* no limits */
    struct spooled s = {0};
    int fds[2] = {memfd_create("x", MFD_CLOEXEC), open("/tmp", O_RDONLY | O_DIRECTORY | O_CLOEXEC)};

    assert_int_equal(job_run("no-such-verb", NULL, fds, 2, NULL, NULL), 2);
    assert_int_equal(job_run("spool", &request.base, fds, 2, on_frame, &s), 1);
    assert_non_null(strstr(s.error.text, "names no limits"));
    close(fds[0]);
    close(fds[1]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(members_become_numbered_files_and_links_are_told),
        cmocka_unit_test(flat_upload_becomes_one_file_as_it_came),
        cmocka_unit_test(bad_archives_are_refused),
        cmocka_unit_test(archive_that_is_cut_or_has_too_many_files_is_refused),
        cmocka_unit_test(remove_takes_what_is_dead_and_nothing_else),
        cmocka_unit_test(remove_takes_trees_of_any_depth),
        cmocka_unit_test(unknown_verbs_and_requests_are_refused),
    };

    if (getuid() != 0) {
        puts("skip spool_test: needs root, to confine itself");
        return 0;
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
