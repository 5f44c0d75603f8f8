/* Groups are made, limited and removed on this machine's mounts, and on a made-up version 2 tree. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/bpf.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <unistd.h>

#include "engine/keeper/group.h"
#include "proto/base/file.h"
#include "proto/base/mem.h"

static void need_root(void)
{
    if (geteuid() != 0) {
        print_message("skip: needs root\n");
        skip();
    }
}

static void write_file(const char *path, const char *text)
{
    AUTO_CLOSE
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);

    assert_true(fd >= 0);
    assert_int_equal(write_all(fd, text, strlen(text), NULL), 0);
}

static void expect_file(const char *path, const char *text)
{
    AUTO_BUF struct buf got = {0};

    assert_int_equal(file_read(AT_FDCWD, path, 4096, &got, NULL), 0);
    assert_string_equal(buf_str(&got), text);
}

/* --- a made-up unified tree ------------------------------------------------------------------------- */

struct fake {
    char dir[64];
    struct cgroup_layout layout;
};

static char *fake_path(const struct fake *f, const char *fmt, ...)
{
    static char path[4][512];
    static unsigned turn;
    char *at = path[turn++ % 4];
    va_list args;
    int used = snprintf(at, sizeof(path[0]), "%s/", f->dir);

    va_start(args, fmt);
    (void)vsnprintf(at + used, sizeof(path[0]) - (size_t)used, fmt, args);
    va_end(args);
    return at;
}

static int make_fake(void **state)
{
    struct fake *f = mem_alloc(sizeof(*f));

    (void)snprintf(f->dir, sizeof(f->dir), "/tmp/shoal-group-XXXXXX");
    assert_non_null(mkdtemp(f->dir));
    f->layout.count = 1;
    f->layout.mounts[0] =
        (struct cgroup_mount){.path = f->dir, .v2 = true, .controllers = (1 << BUNDLE_CONTROLLERS) - 1};
    *state = f;
    return 0;
}

static int remove_fake(void **state)
{
    struct fake *f = *state;
    AUTO_CLOSE
    int above = -1;

    assert_int_equal(dir_open("/tmp", &above, NULL), 0);
    assert_int_equal(tree_remove(above, f->dir + strlen("/tmp/"), NULL), 0);
    free(f);
    return 0;
}

static void unified_tree_hands_its_controllers_down_and_takes_values(void **state)
{
    struct fake *f = *state;
    struct group_dirs dirs;
    struct err e;

    /* The kernel makes the files; here somebody has to. Pipes show everything that is written to them. */
    assert_int_equal(mkdir(fake_path(f, "shoal-x"), 0755), 0);
    int controls[2];
    for (int i = 0; i < 2; i++) {
        const char *path = fake_path(f, i ? "shoal-x/cgroup.subtree_control" : "cgroup.subtree_control");

        assert_int_equal(mkfifo(path, 0600), 0);
        controls[i] = open(path, O_RDWR | O_NONBLOCK | O_CLOEXEC);
    }
    assert_int_equal(group_base(&f->layout, "/shoal-x", &e), 0);
    for (int i = 0; i < 2; i++) {
        char written[64] = "";

        assert_true(read(controls[i], written, sizeof(written) - 1) > 0);
        assert_string_equal(written, "+cpu+cpuset+memory+pids+io");
        close(controls[i]);
    }
    assert_int_equal(group_make(&f->layout, "/shoal-x/a", &dirs, &e), 0);
    static const char *const files[] = {"cgroup.procs", "memory.max", "cpu.max", "pids.max", "io.bfq.weight"};
    for (size_t i = 0; i < ARRAY_SIZE(files); i++)
        write_file(fake_path(f, "shoal-x/a/%s", files[i]), "");
    assert_int_equal(group_join(&f->layout, &dirs, &e), 0);
    expect_file(fake_path(f, "shoal-x/a/cgroup.procs"), "0");
    assert_int_equal(group_set(&f->layout, &dirs, "memory", "memory.max", "67108864", &e), 0);
    assert_int_equal(group_set(&f->layout, &dirs, "cpu", "cpu.max", "50000 100000", &e), 0);
    assert_int_equal(group_set(&f->layout, &dirs, "blkio", "io.bfq.weight", "100", &e), 0);
    assert_int_equal(group_set(&f->layout, &dirs, "io", "io.bfq.weight", "200", &e), 0);
    expect_file(fake_path(f, "shoal-x/a/memory.max"), "67108864");
    expect_file(fake_path(f, "shoal-x/a/cpu.max"), "50000 100000");
    expect_file(fake_path(f, "shoal-x/a/io.bfq.weight"), "200");
    assert_int_equal(group_set(&f->layout, &dirs, "memory", "memory.swap.max", "0", &e), ERR_UNSUPPORTED);
    assert_string_equal(e.text, "this kernel has no memory.swap.max");
    assert_int_equal(group_set(&f->layout, &dirs, "nosuch", "x", "0", &e), ERR_UNSUPPORTED);
    assert_int_equal(group_set(&f->layout, &dirs, "memory", "../memory.max", "0", &e), ERR_INVALID);
    group_close(&dirs);
    assert_int_equal(group_make(&f->layout, "/shoal-x/a", &dirs, &e), ERR_EXISTS);
}

static void kills_for_lack_of_memory_are_read_from_events(void **state)
{
    static const struct {
        const char *text;
        bool killed;
    } cases[] = {{"low 0\nhigh 0\nmax 12\noom 3\noom_kill 1\noom_group_kill 0\n", true},
                 {"low 0\nhigh 0\nmax 12\noom 3\noom_kill 0\noom_group_kill 0\n", false},
                 {"", false},
                 {"oom_kill\n", false}};
    struct fake *f = *state;

    assert_int_equal(mkdir(fake_path(f, "g"), 0755), 0);
    assert_false(group_oom_killed(&f->layout, "/g"));
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        write_file(fake_path(f, "g/memory.events"), cases[i].text);
        assert_int_equal(group_oom_killed(&f->layout, "/g"), cases[i].killed);
    }
}

static void controller_that_is_not_handed_down_is_named(void **state)
{
    struct fake *f = *state;
    struct err e;

    assert_true(group_base(&f->layout, "/shoal-x", &e) < 0); /* no file to write to */
    assert_non_null(strstr(e.text, "hand down cpu in cgroup"));
}

/* --- this machine ----------------------------------------------------------------------------------- */

static char base[64];

static void read_machine(struct cgroup_layout *l)
{
    struct err e;

    need_root();
    if (cgroup_layout_read(l, &e) < 0) {
        print_message("skip: %s\n", e.text);
        skip();
    }
    (void)snprintf(base, sizeof(base), "/shoal-test-%d", getpid());
    if (group_base(l, base, &e) < 0) {
        print_message("skip: %s\n", e.text);
        cgroup_layout_fini(l);
        skip();
    }
}

static void stragglers_are_killed_and_groups_below_removed(void **state)
{
    struct cgroup_layout l;
    struct group_dirs dirs;
    struct err e;
    int ready[2], status;
    char byte;

    read_machine(&l);
    AUTO_FREE
    char *group = mem_printf("%s/a", base);
    assert_int_equal(group_make(&l, group, &dirs, &e), 0);
    assert_int_equal(pipe(ready), 0);
    pid_t pid = fork();
    if (pid == 0) {
        byte = group_join(&l, &dirs, &e) == 0;
        if (write(ready[1], &byte, 1) == 1)
            (void)pause();
        _exit(0);
    }
    assert_int_equal(read(ready[0], &byte, 1), 1);
    assert_int_equal(byte, 1);
    AUTO_FREE
    char *below = mem_printf("%s%s/sub", l.mounts[l.of[BUNDLE_CPU]].path, group);
    assert_int_equal(mkdir(below, 0755), 0);
    int rc = group_remove(&l, group, &e);
    assert_true(rc == 0 || rc == ERR_CONFLICT); /* killed just now: it may still be dying */
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
    for (int i = 0; i < 1000 && group_remove(&l, group, &e) < 0; i++)
        ;
    assert_int_equal(group_remove(&l, group, &e), 0); /* absent is fine */
    AUTO_FREE
    char *gone = mem_printf("%s%s", l.mounts[l.of[BUNDLE_CPU]].path, group);
    assert_int_equal(access(gone, F_OK), -1);
    group_close(&dirs);
    close(ready[0]);
    close(ready[1]);
    group_base_remove(&l, base);
    cgroup_layout_fini(&l);
}

static DeviceRule *a_rule(bool allow, const char *type, int major, int minor, const char *access)
{
    DeviceRule *r = mem_alloc(sizeof(*r));

    device_rule__init(r);
    r->allow = allow;
    r->type = (char *)type;
    r->has_major = major >= 0;
    r->major = (uint32_t)major;
    r->has_minor = minor >= 0;
    r->minor = (uint32_t)minor;
    r->access = (char *)access;
    return r;
}

/* What a child in the group may open: bit 0 /dev/null for reading, 1 for writing, 2 /dev/zero, 3 mknod. */
static int what_may_be_opened(const struct cgroup_layout *l, const struct group_dirs *dirs, const char *dir)
{
    int status;
    pid_t pid = fork();

    if (pid == 0) {
        AUTO_FREE
        char *node = mem_printf("%s/node", dir);
        int may = 0;

        if (group_join(l, dirs, NULL) < 0)
            _exit(64);
        may |= open("/dev/null", O_RDONLY) >= 0 ? 1 : 0;
        may |= open("/dev/null", O_WRONLY) >= 0 ? 2 : 0;
        may |= open("/dev/zero", O_RDONLY) >= 0 ? 4 : 0;
        may |= mknod(node, S_IFCHR | 0600, makedev(1, 7)) == 0 ? 8 : 0;
        (void)unlink(node);
        _exit(may);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    return WEXITSTATUS(status);
}

struct device_case {
    DeviceRule *rules[4];
    int expected;
};

static void check_devices(const struct cgroup_layout *l, const char *base_path)
{
    const struct device_case cases[] = {
        {{NULL}, 0},
        {{a_rule(true, "c", 1, 3, "r")}, 1},
        {{a_rule(true, "c", 1, 3, "rw")}, 3},
        {{a_rule(true, "c", 1, -1, "rw")}, 7},
        {{a_rule(true, "b", 1, 3, "rw")}, 0},
        {{a_rule(true, "c", -1, -1, "m")}, 8},
        {{a_rule(true, "c", 1, 5, "r"), a_rule(true, "c", 1, 7, "m")}, 12},
        {{a_rule(true, NULL, 1, 3, "w")}, 2},
        {{a_rule(true, "c", 1, 3, "r"), a_rule(false, "c", 1, 3, "r")}, 0},
        {{a_rule(true, "c", 1, 3, "r"), a_rule(false, "c", 1, 3, "r"), a_rule(true, "c", 1, 3, "r")}, 1},
    };
    char dir[] = "/tmp/shoal-devices-XXXXXX";
    struct group_dirs dirs;
    struct err e;

    assert_non_null(mkdtemp(dir));
    AUTO_FREE
    char *group = mem_printf("%s/devices", base_path);
    assert_int_equal(group_make(l, group, &dirs, &e), 0);
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        StepDevices s = STEP_DEVICES__INIT;

        s.rules = (DeviceRule **)cases[i].rules;
        while (s.n_rules < 4 && s.rules[s.n_rules])
            s.n_rules++;
        if (group_devices(l, &dirs, &s, &e) < 0) /* each list replaces the one before */
            fail_msg("case %zu: %s", i, e.text);
        if (what_may_be_opened(l, &dirs, dir) != cases[i].expected)
            fail_msg("case %zu: %d instead of %d", i, what_may_be_opened(l, &dirs, dir), cases[i].expected);
        for (size_t k = 0; k < s.n_rules; k++)
            free(s.rules[k]);
    }
    group_close(&dirs);
    for (int i = 0; i < 1000 && group_remove(l, group, &e) < 0; i++)
        ;
    assert_int_equal(rmdir(dir), 0);
}

static void devices_are_as_the_list_says_on_this_machine(void **state)
{
    struct cgroup_layout l;

    read_machine(&l);
    if (l.of[BUNDLE_DEVICES] < 0) {
        print_message("skip: no device controller\n");
        skip();
    }
    check_devices(&l, base);
    group_base_remove(&l, base);
    cgroup_layout_fini(&l);
}

/* The program of version 2 works on any unified tree, whatever controllers are on it. */
static void devices_are_as_the_list_says_by_a_program_too(void **state)
{
    static const char *const places[] = {"/sys/fs/cgroup/unified", "/sys/fs/cgroup"};
    struct cgroup_layout l = {.count = 1};
    struct err e;

    need_root();
    for (size_t i = 0; i < ARRAY_SIZE(places) && !l.mounts[0].path; i++) {
        AUTO_FREE
        char *file = mem_printf("%s/cgroup.controllers", places[i]);

        if (access(file, F_OK) == 0)
            l.mounts[0] =
                (struct cgroup_mount){.path = (char *)places[i], .v2 = true, .controllers = 1 << BUNDLE_DEVICES};
    }
    if (!l.mounts[0].path) {
        print_message("skip: no unified tree\n");
        skip();
    }
    memset(l.of, -1, sizeof(l.of));
    l.of[BUNDLE_DEVICES] = 0;
    (void)snprintf(base, sizeof(base), "/shoal-test-%d", getpid());
    assert_int_equal(group_base(&l, base, &e), 0);
    check_devices(&l, base);
    group_base_remove(&l, base);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(unified_tree_hands_its_controllers_down_and_takes_values, make_fake,
                                        remove_fake),
        cmocka_unit_test_setup_teardown(kills_for_lack_of_memory_are_read_from_events, make_fake, remove_fake),
        cmocka_unit_test_setup_teardown(controller_that_is_not_handed_down_is_named, make_fake, remove_fake),
        cmocka_unit_test(stragglers_are_killed_and_groups_below_removed),
        cmocka_unit_test(devices_are_as_the_list_says_on_this_machine),
        cmocka_unit_test(devices_are_as_the_list_says_by_a_program_too),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
