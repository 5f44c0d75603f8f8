/* Files: read within a limit, replaced in one step, removed without leaving the tree, and paths that cannot leave
 * their root whatever links say. */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "proto/base/file.h"
#include "proto/base/mem.h"

static char dir[64];
static int dir_fd;

static int make_dir(void **state)
{
    struct err e;

    (void)snprintf(dir, sizeof(dir), "/tmp/shoal-file-test.XXXXXX");
    assert_non_null(mkdtemp(dir));
    assert_int_equal(dir_open(dir, &dir_fd, &e), 0);
    return 0;
}

static int remove_dir(void **state)
{
    struct err e = {0};

    close(dir_fd);
    if (tree_remove(AT_FDCWD, dir, &e) < 0)
        fail_msg("%s", e.text);
    return access(dir, F_OK) == 0 ? -1 : 0;
}

static void put(const char *path, const char *text)
{
    int fd = openat(dir_fd, path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);

    assert_true(fd >= 0);
    assert_int_equal(write_all(fd, text, strlen(text), NULL), 0);
    close(fd);
}

static bool present(const char *path)
{
    return faccessat(dir_fd, path, F_OK, AT_SYMLINK_NOFOLLOW) == 0;
}

/* The contents, in a buffer of the caller's. */
static const char *get(struct buf *b, const char *path)
{
    buf_clear(b);
    assert_int_equal(file_read(dir_fd, path, 100, b, NULL), 0);
    return buf_str(b);
}

static void reading_stops_at_its_limit(void **state)
{
    AUTO_BUF struct buf b = {0};
    struct err e;

    put("f", "0123456789");
    assert_int_equal(file_read(dir_fd, "f", 10, &b, &e), 0);
    assert_string_equal(buf_str(&b), "0123456789");
    assert_int_equal(file_read(dir_fd, "f", 9, &b, &e), ERR_LIMIT);
    assert_string_equal(e.text, "f: larger than 9 bytes");
    assert_int_equal(file_read(dir_fd, "absent", 9, &b, &e), ERR_NOT_FOUND);
    assert_int_equal(file_read(AT_FDCWD, "/dev/zero", 100000, &b, &e), ERR_LIMIT); /* has no size */
    assert_int_equal(file_read(dir_fd, ".", 9, &b, &e), ERR_INVALID);
}

static void replaced_file_is_whole_and_has_its_mode(void **state)
{
    AUTO_BUF struct buf b = {0};
    struct stat st;
    struct err e;

    put(".f.tmp", "what a crash left, and longer than the new one");
    assert_int_equal(fchmodat(dir_fd, ".f.tmp", 0666, 0), 0);
    assert_int_equal(file_replace(dir_fd, "f", 0600, "one", 3, true, &e), 0);
    assert_string_equal(get(&b, "f"), "one");
    assert_int_equal(fstatat(dir_fd, "f", &st, 0), 0);
    assert_int_equal(st.st_mode & 07777, 0600);
    assert_int_equal(file_replace(dir_fd, "f", 0600, "", 0, false, &e), 0);
    assert_string_equal(get(&b, "f"), "");
    assert_false(present(".f.tmp"));

    /* A link at either name is replaced, not followed. */
    put("target", "mine");
    assert_int_equal(symlinkat("target", dir_fd, "link"), 0);
    assert_int_equal(symlinkat("target", dir_fd, ".link.tmp"), 0);
    assert_int_equal(file_replace(dir_fd, "link", 0600, "new", 3, true, &e), 0);
    assert_string_equal(get(&b, "target"), "mine");
    assert_string_equal(get(&b, "link"), "new");

    /* Failure leaves the old one and nothing beside it. */
    assert_int_equal(mkdirat(dir_fd, "d", 0755), 0);
    assert_true(file_replace(dir_fd, "d", 0600, "x", 1, false, &e) < 0);
    assert_false(present(".d.tmp"));
    assert_true(present("d"));
}

static void directories_are_made_with_their_parents(void **state)
{
    AUTO_FREE
    char *deep = mem_printf("%s/a/b//c/", dir);
    AUTO_FREE
    char *below_file = mem_printf("%s/file/x", dir);
    AUTO_FREE
    char *file = mem_printf("%s/file", dir);
    struct err e;
    int fd;

    assert_int_equal(dir_make(deep, 0755, &e), 0);
    assert_int_equal(dir_make(deep, 0755, &e), 0);
    assert_true(present("a/b/c"));
    put("file", "x");
    assert_true(dir_make(below_file, 0755, &e) < 0);
    assert_int_equal(dir_make(file, 0755, &e), ERR_INVALID);
    assert_int_equal(dir_make("", 0755, &e), ERR_INVALID);
    assert_int_equal(dir_make("/", 0755, &e), 0);
    assert_int_equal(dir_open(file, &fd, &e), ERR_INVALID);
    assert_int_equal(dir_open("/nonexistent", &fd, &e), ERR_NOT_FOUND);
}

/* --- removing ------------------------------------------------------------------------------------ */

static void tree_goes_and_what_links_lead_to_stays(void **state)
{
    struct err e;

    put("outside", "stays");
    assert_int_equal(mkdirat(dir_fd, "outdir", 0755), 0);
    put("outdir/inner", "stays");
    assert_int_equal(mkdirat(dir_fd, "t", 0755), 0);
    assert_int_equal(mkdirat(dir_fd, "t/a", 0700), 0);
    assert_int_equal(mkdirat(dir_fd, "t/a/..b", 0), 0); /* no permissions, strange name */
    put("t/a/file", "x");
    put("t/.hidden", "x");
    assert_int_equal(symlinkat("../outside", dir_fd, "t/link"), 0);
    assert_int_equal(symlinkat("../outdir", dir_fd, "t/dirlink"), 0);
    assert_int_equal(symlinkat("/", dir_fd, "t/root"), 0);
    assert_int_equal(symlinkat("loop", dir_fd, "t/loop"), 0);
    assert_int_equal(mkfifoat(dir_fd, "t/fifo", 0600), 0);
    if (tree_remove(dir_fd, "t", &e) < 0)
        fail_msg("%s", e.text);
    assert_false(present("t"));
    assert_true(present("outside"));
    assert_true(present("outdir/inner"));
    assert_int_equal(tree_remove(dir_fd, "t", &e), 0); /* absent is fine */
    assert_int_equal(tree_remove(dir_fd, "t/u", &e), 0);
    assert_int_equal(symlinkat("outdir", dir_fd, "l"), 0);
    assert_int_equal(tree_remove(dir_fd, "l", &e), 0); /* the link itself */
    assert_true(present("outdir/inner"));
    assert_int_equal(tree_remove(dir_fd, "outdir/inner", &e), 0);
    assert_true(present("outdir"));
    static const char *const no_entries[] = {"", ".", "..", "outdir/", "outdir/..", "outdir/."};
    for (size_t i = 0; i < ARRAY_SIZE(no_entries); i++)
        assert_int_equal(tree_remove(dir_fd, no_entries[i], &e), ERR_INVALID);
    assert_true(present("outside"));
}

/* A container may nest deeper than there are descriptors: 300 levels are several times what is held open. */
static void tree_of_any_depth_goes(void **state)
{
    struct err e;
    int at = dup(dir_fd);

    for (int branch = 0; branch < 2; branch++) {
        for (int level = 0; level < 300; level++) {
            const char *name = level ? "d" : branch ? "t2" : "t";

            (void)mkdirat(at, name, 0755);
            if (level % 50 == 7)
                (void)mkdirat(at, ".removing.0", 0755); /* as those that are moved are called */
            int next = openat(at, name, O_PATH | O_DIRECTORY | O_CLOEXEC);
            assert_true(next >= 0);
            close(at);
            at = next;
        }
        close(at);
        at = dup(dir_fd);
    }
    close(at);
    if (tree_remove(dir_fd, "t", &e) < 0)
        fail_msg("%s", e.text);
    assert_false(present("t"));
    assert_true(present("t2"));
}

static int in_own_mounts(void (*body)(void))
{
    pid_t pid = fork();
    int status;

    assert_true(pid >= 0);
    if (pid == 0) {
        if (unshare(CLONE_NEWNS) < 0 || mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
            _exit(77);
        body();
        _exit(0);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 255;
}

static void remove_with_mounts(void)
{
    struct err e = {0};
    char inner[100], from[100], top[100];

    (void)snprintf(inner, sizeof(inner), "%s/t/inner", dir);
    (void)snprintf(from, sizeof(from), "%s/precious", dir);
    (void)snprintf(top, sizeof(top), "%s/t", dir);
    if (dir_open(dir, &dir_fd, &e) < 0) /* the one we have belongs to the old mounts */
        _exit(4);
    if (mount(from, inner, NULL, MS_BIND, NULL) < 0) /* the same device: only the mount tells */
        _exit(77);
    if (tree_remove(dir_fd, "t", &e) != ERR_CONFLICT || !strstr(e.text, "mounted"))
        _exit(1);
    if (access(inner, F_OK) < 0 || umount2(inner, MNT_DETACH) < 0)
        _exit(2);
    if (mount(from, top, NULL, MS_BIND, NULL) < 0)
        _exit(77);
    if (tree_remove(dir_fd, "t", &e) != ERR_CONFLICT)
        _exit(3);
}

static void what_is_mounted_in_a_tree_is_not_emptied(void **state)
{
    struct err e;

    assert_int_equal(mkdirat(dir_fd, "t", 0755), 0);
    assert_int_equal(mkdirat(dir_fd, "t/inner", 0755), 0);
    assert_int_equal(mkdirat(dir_fd, "precious", 0755), 0);
    put("precious/data", "x");
    int rc = in_own_mounts(remove_with_mounts);
    if (rc == 77) {
        print_message("# skipped: may not mount\n");
        skip();
    }
    assert_int_equal(rc, 0);
    assert_true(present("precious/data"));
    assert_int_equal(tree_remove(dir_fd, "t", &e), 0);
}

/* --- inside a root ------------------------------------------------------------------------------- */

/* A root with every kind of link that leads out. */
static int make_root(void)
{
    static const struct {
        const char *to, *at;
    } links[] = {
        {"/", "root/slash"},       {"/secret", "root/absolute"},
        {"../secret", "root/up"},  {"../../../../../../secret", "root/far"},
        {"etc", "root/inner"},     {"/etc/passwd", "root/passwd"},
        {"chain2", "root/chain1"}, {"../secret", "root/chain2"},
        {"self", "root/self"},     {"/proc/self/root", "root/magic"},
        {"../..", "root/etc/out"}, {"/made/deep", "root/dangling"},
    };
    int fd;

    put("secret", "the host's");
    assert_int_equal(mkdirat(dir_fd, "root", 0755), 0);
    assert_int_equal(mkdirat(dir_fd, "root/etc", 0755), 0);
    put("root/etc/passwd", "the container's");
    for (size_t i = 0; i < ARRAY_SIZE(links); i++)
        assert_int_equal(symlinkat(links[i].to, dir_fd, links[i].at), 0);
    fd = openat(dir_fd, "root", O_PATH | O_DIRECTORY | O_CLOEXEC);
    assert_true(fd >= 0);
    return fd;
}

static void no_path_leaves_its_root(void **state)
{
    static const struct {
        const char *path;
        int code; /* 0: opens the container's passwd */
    } cases[] = {
        {"etc/passwd", 0},
        {"/etc/passwd", 0},
        {"../../etc/passwd", 0}, /* above the root is the root */
        {"slash/etc/passwd", 0},
        {"slash/../../etc/passwd", 0},
        {"inner/passwd", 0},
        {"passwd", 0}, /* an absolute link counts from the root */
        {"etc/out/etc/passwd", 0},
        {"secret", ERR_NOT_FOUND},
        {"../secret", ERR_NOT_FOUND},
        {"absolute", ERR_NOT_FOUND},
        {"up", ERR_NOT_FOUND},
        {"far", ERR_NOT_FOUND},
        {"chain1", ERR_NOT_FOUND},
        {"self", ERR_INVALID},
        {"magic/etc/passwd", ERR_NOT_FOUND},
        {"", ERR_NOT_FOUND},
    };
    AUTO_CLOSE
    int root = make_root();

    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        AUTO_CLOSE
        int fd = -1;
        char text[32] = "";
        struct err e;
        int rc = root_open(root, cases[i].path, O_RDONLY, 0, &fd, &e);

        if (rc != cases[i].code)
            fail_msg("\"%s\": %d", cases[i].path, rc);
        if (rc == 0) {
            assert_true(read(fd, text, sizeof(text) - 1) > 0);
            assert_string_equal(text, "the container's");
            assert_true(fcntl(fd, F_GETFD) & FD_CLOEXEC);
        }
    }
}

static void files_are_made_inside_the_root_only(void **state)
{
    AUTO_CLOSE
    int root = make_root();
    struct err e;
    int fd;

    assert_int_equal(root_open(root, "../new", O_WRONLY | O_CREAT, 0644, &fd, &e), 0);
    close(fd);
    assert_true(present("root/new"));
    assert_false(present("new"));
    assert_int_equal(root_open(root, "up", O_WRONLY | O_CREAT, 0644, &fd, &e),
                     0); /* "../secret" is "/secret" in there */
    close(fd);
    assert_true(present("root/secret"));
    AUTO_BUF struct buf b = {0};
    assert_string_equal(get(&b, "secret"), "the host's");
}

static void magic_links_are_not_followed(void **state)
{
    AUTO_CLOSE
    int proc = open("/proc", O_PATH | O_DIRECTORY | O_CLOEXEC);
    struct err e;
    int fd;

    assert_true(proc >= 0);
    assert_true(root_open(proc, "self/root/etc/passwd", O_RDONLY, 0, &fd, &e) < 0);
    assert_true(root_open(proc, "self/exe", O_RDONLY, 0, &fd, &e) < 0);
    assert_true(root_open(proc, "self/fd/0", O_RDONLY, 0, &fd, &e) < 0);
}

static void directories_are_made_inside_the_root_only(void **state)
{
    static const struct {
        const char *path, *made; /* below dir; NULL: refused */
    } cases[] = {
        {"a/b/c", "root/a/b/c"},
        {"/x//y/", "root/x/y"},
        {"../../up1/up2", "root/up1/up2"},
        {"slash/viaslash", "root/viaslash"},
        {"etc/out/viaout", "root/viaout"},
        {"inner/deep/er", "root/etc/deep/er"},
        {"a/../z", "root/z"},
        {"magic/m", NULL}, /* dangling in there */
        {"etc/passwd/x", NULL},
        {"self/x", NULL},
        {"dangling/x", NULL},
        {"", "root"},
        {"/", "root"},
    };
    AUTO_CLOSE
    int root = make_root();
    struct stat before, after;

    assert_int_equal(fstatat(dir_fd, ".", &before, 0), 0);
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        AUTO_CLOSE
        int fd = -1;
        struct stat made, want;
        struct err e;
        int rc = root_mkdirs(root, cases[i].path, &fd, &e);

        if ((rc == 0) != (cases[i].made != NULL))
            fail_msg("\"%s\": %d", cases[i].path, rc);
        if (rc < 0)
            continue;
        assert_int_equal(fstat(fd, &made), 0);
        assert_int_equal(fstatat(dir_fd, cases[i].made, &want, 0), 0);
        assert_true(made.st_ino == want.st_ino && made.st_dev == want.st_dev);
    }
    /* Nothing was made beside the root. */
    assert_int_equal(fstatat(dir_fd, ".", &after, 0), 0);
    assert_int_equal(before.st_nlink, after.st_nlink);
    assert_false(present("up1"));
}

static void writing_to_a_closed_pipe_or_full_device_fails(void **state)
{
    AUTO_CLOSE
    int full = open("/dev/full", O_WRONLY | O_CLOEXEC);
    struct err e;

    assert_int_equal(write_all(full, "x", 1, &e), ERR_UNAVAILABLE);
    assert_int_equal(write_all(full, "", 0, &e), 0);
    assert_int_equal(write_all(-1, "x", 1, &e), ERR_IO);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, make_dir, remove_dir)
        TEST(reading_stops_at_its_limit),
        TEST(replaced_file_is_whole_and_has_its_mode),
        TEST(directories_are_made_with_their_parents),
        TEST(tree_goes_and_what_links_lead_to_stays),
        TEST(tree_of_any_depth_goes),
        TEST(what_is_mounted_in_a_tree_is_not_emptied),
        TEST(no_path_leaves_its_root),
        TEST(files_are_made_inside_the_root_only),
        TEST(magic_links_are_not_followed),
        TEST(directories_are_made_inside_the_root_only),
        TEST(writing_to_a_closed_pipe_or_full_device_fails),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
