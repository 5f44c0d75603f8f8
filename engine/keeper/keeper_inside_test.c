/* What a container can see and do, looked at from inside: the sandbox as reference/engine-surface.md section 4 has
 * it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "proto/base/file.h"
#include "proto/base/mem.h"
#include "tests/bench/rig_testing.h"

static int open_rig(void **state)
{
    if (!missing)
        rig_open(&rig, 0, 0);
    return 0;
}

static void add_text(char ***list, size_t *count, const char *text)
{
    *list = arena_append(&rig.arena, *list, *count, sizeof(**list));
    (*list)[(*count)++] = (char *)text;
}

/* --- descriptors, processes, namespaces ------------------------------------------------------------ */

static void nothing_but_three_descriptors_survives(void **state)
{
    const char *said = output_of(rig_case(&rig, "/bin/inside", "fds", NULL));
    unsigned count = 0;

    for (const char *at = said; (at = strchr(at, '\n')); at++)
        count++;
    assert_int_equal(count, 3);
    assert_memory_equal(said, "0 /dev/null\n1 ", 14);
}

static void processes_of_the_host_are_not_seen(void **state)
{
    assert_string_equal(output_of(a_shell("echo $$ /proc/[0-9]*; cat /proc/self/oom_score_adj")), "1 /proc/1\n0\n");
}

static void host_namespaces(char ret[6][64])
{
    static const char *const names[] = {"mnt", "net", "pid", "ipc", "uts", "cgroup"};
    char path[64];

    for (size_t i = 0; i < 6; i++) {
        (void)snprintf(path, sizeof(path), "/proc/self/ns/%s", names[i]);
        ssize_t length = readlink(path, ret[i], 63);
        ret[i][length < 0 ? 0 : length] = '\0';
    }
}

static unsigned shared_namespaces(struct rig_case *c)
{
    const char *said = output_of(c);
    unsigned shared = 0;
    char host[6][64];

    host_namespaces(host);
    for (unsigned i = 0; i < 6; i++)
        shared |= strstr(said, host[i]) ? 1u << i : 0;
    return shared;
}

static void no_namespace_is_shared_with_the_host_unless_asked_for(void **state)
{
    struct rig_case *c = rig_case(&rig, "/bin/inside", "namespaces", NULL);

    assert_int_equal(shared_namespaces(c), 0);
    c = rig_case(&rig, "/bin/inside", "namespaces", NULL);
    c->host.network_mode = c->host.pid_mode = c->host.ipc_mode = c->host.uts_mode = c->host.cgroupns_mode =
        (char *)"host";
    assert_int_equal(shared_namespaces(c), 1 << 1 | 1 << 2 | 1 << 3 | 1 << 4 | 1 << 5);
}

static void network_of_none_is_a_loopback_that_works(void **state)
{
    assert_string_equal(output_of(a_shell("ls /sys/class/net; cat /sys/class/net/lo/operstate; "
                                          "(echo hello | nc -l -p 80) & "
                                          "until nc 127.0.0.1 80 </dev/null 2>/dev/null; do :; done; wait")),
                        "lo\nunknown\nhello\n");
}

/* --- mounts ---------------------------------------------------------------------------------------- */

static bool allowed_mount(const char *point)
{
    static const char *const known[] = {"/",           "/proc",    "/dev", "/dev/pts",
                                        "/dev/mqueue", "/dev/shm", "/sys", "/sys/fs/cgroup"};
    static const char *const below[] = {"/proc/", "/sys/fs/cgroup/", "/sys/devices/", "/sys/firmware"};

    for (size_t i = 0; i < ARRAY_SIZE(known); i++)
        if (strcmp(known[i], point) == 0)
            return true;
    for (size_t i = 0; i < ARRAY_SIZE(below); i++)
        if (strncmp(below[i], point, strlen(below[i])) == 0)
            return true;
    return false;
}

static void mount_table_holds_the_sandbox_and_nothing_of_the_host(void **state)
{
    struct rig_case *c = a_shell("cut -d ' ' -f 5,6 /proc/self/mountinfo");
    AUTO_FREE
    char *said = mem_strdup(output_of(c));
    char *rest = said, *line;
    unsigned count = 0;

    while ((line = strsep(&rest, "\n")) && *line) {
        char *options = strchr(line, ' ');

        *options++ = '\0';
        if (!allowed_mount(line))
            fail_msg("%s is mounted", line);
        if (strncmp(line, "/sys", 4) == 0 && strncmp(options, "ro", 2) != 0)
            fail_msg("%s is writable", line);
        count++;
    }
    assert_true(count > 10);
}

static void kernel_files_are_masked_or_read_only(void **state)
{
    static const char *const masked[] = {"/proc/kcore", "/proc/keys", "/proc/timer_list", "/proc/interrupts"};
    static const char *const read_only[] = {"/proc/sys/kernel/hostname", "/proc/sysrq-trigger",
                                            "/proc/irq/default_smp_affinity", "/sys/kernel/uevent_helper",
                                            "/sys/power/state"};

    for (size_t i = 0; i < ARRAY_SIZE(masked); i++) {
        AUTO_FREE
        char *script = mem_printf(
            "test -e %s && { stat -c %%t:%%T %s; wc -c <%s; chmod 777 %s 2>&1 | grep -o 'Read-only.*'; }",
            masked[i], masked[i], masked[i], masked[i]);
        if (access(masked[i], F_OK) == 0)
            assert_string_equal(output_of(a_shell(script)), "1:3\n0\nRead-only file system\n");
    }
    for (size_t i = 0; i < ARRAY_SIZE(read_only); i++)
        if (access(read_only[i], F_OK) == 0)
            assert_string_equal(output_of(rig_case(&rig, "/bin/inside", "write", read_only[i], NULL)),
                                "open: EROFS\n");
    assert_string_equal(
        output_of(a_shell("ls /sys/firmware | wc -l; touch /sys/firmware/x 2>/dev/null || echo closed")),
        "0\nclosed\n");
}

static void masks_are_gone_only_when_asked_for(void **state)
{
    struct rig_case *c = a_shell("test -s /proc/keys || cat /proc/keys >/dev/null && stat -c %F /proc/keys");

    c->host.masked_paths_set = c->host.read_only_paths_set = true;
    assert_string_equal(output_of(c), "regular empty file\n");
    c = a_shell("stat -c %t:%T /proc/uptime; stat -c %F /etc; ls /etc | wc -l");
    c->host.masked_paths_set = true;
    add_text(&c->host.masked_paths, &c->host.n_masked_paths, "/proc/uptime");
    add_text(&c->host.masked_paths, &c->host.n_masked_paths, "/etc");
    add_text(&c->host.masked_paths, &c->host.n_masked_paths, "/not/there");
    assert_string_equal(output_of(c), "1:3\ndirectory\n0\n");
}

static void groups_are_shown_as_if_there_were_no_others(void **state)
{
    assert_string_equal(
        output_of(a_shell("cut -d : -f 3 /proc/self/cgroup | sort -u | grep -v process_api | head -1; "
                          "find /sys/fs/cgroup -name cgroup.procs | head -1 | grep -c .; "
                          "find /sys/fs/cgroup -name '*rig*' | wc -l")),
        "/\n1\n0\n");
}

/* --- devices --------------------------------------------------------------------------------------- */

static void devices_are_the_few_that_are_harmless(void **state)
{
    assert_string_equal(
        output_of(a_shell("ls /dev | tr '\\n' ' '; readlink /dev/ptmx; echo x >/dev/null && "
                          "head -c 3 /dev/zero | od -An -tx1; head -c 1 /dev/urandom | wc -c; "
                          "echo 2>&1 >/dev/full | grep -o 'No space.*'")),
        "core fd full mqueue null ptmx pts random shm stderr stdin stdout tty urandom zero pts/ptmx\n"
        " 00 00 00\n1\nNo space left on device\n");
}

static void other_devices_may_be_made_but_not_opened(void **state)
{
    assert_string_equal(
        output_of(a_shell("mknod /disk b 254 0 && echo made; inside read /disk; mknod /mem c 1 1; "
                          "inside read /mem; mknod /fuse c 10 229 2>/dev/null; inside read /fuse | grep -c ok")),
        "made\nopen: EPERM\nopen: EPERM\n0\n");
}

static void device_is_allowed_when_asked_for_and_only_as_asked_for(void **state)
{
    struct rig_case *c = a_shell("mknod /tun c 10 200; inside read /tun | head -1; inside write /tun");

    if (access("/dev/net/tun", F_OK) < 0) {
        print_message("skip: no /dev/net/tun\n");
        skip();
    }
    add_text(&c->host.device_cgroup_rules, &c->host.n_device_cgroup_rules, "c 10:200 rm");
    assert_string_equal(output_of(c), "open: ok\nopen: EPERM\n");
}

/* --- privileges ------------------------------------------------------------------------------------ */

static const char status_script[] = "grep -E '^(Cap|NoNewPrivs|Seccomp:)' /proc/self/status | tr -d '\\t\\n'";

static void capabilities_are_the_default_ones(void **state)
{
    struct rig_case *c = a_shell(status_script);

    assert_string_equal(output_of(c), "CapInh:0000000000000000CapPrm:00000000a80425fbCapEff:00000000a80425fb"
                                      "CapBnd:00000000a80425fbCapAmb:0000000000000000NoNewPrivs:0Seccomp:2");
    c = a_shell(status_script);
    c->record.user = (char *)"web";
    add_text(&c->host.security_options, &c->host.n_security_options, "no-new-privileges");
    assert_string_equal(output_of(c), "CapInh:0000000000000000CapPrm:0000000000000000CapEff:0000000000000000"
                                      "CapBnd:00000000a80425fbCapAmb:0000000000000000NoNewPrivs:1Seccomp:2");
    c = a_shell(status_script);
    add_text(&c->host.capability_drop, &c->host.n_capability_drop, "ALL");
    add_text(&c->host.capability_add, &c->host.n_capability_add, "NET_ADMIN");
    add_text(&c->host.security_options, &c->host.n_security_options, "seccomp=unconfined");
    assert_string_equal(output_of(c), "CapInh:0000000000000000CapPrm:0000000000001000CapEff:0000000000001000"
                                      "CapBnd:0000000000001000CapAmb:0000000000000000NoNewPrivs:0Seccomp:0");
}

static void system_calls_are_refused_with_the_profiles_words(void **state)
{
    assert_string_equal(output_of(rig_case(&rig, "/bin/inside", "calls", NULL)),
                        "keyctl: EPERM\nunshare: EPERM\nmount: EPERM\nbpf: EPERM\nclone3: ENOSYS\n"
                        "open_by_handle_at: EPERM\ninit_module: EPERM\nnewer: ENOSYS\nreboot: EPERM\ngetpid: ok\n");
}

static void user_that_is_not_root_may_not_take_back_what_was_dropped(void **state)
{
    struct rig_case *c = a_shell("cat /etc/shadow 2>&1; chown 0 /tmp 2>/dev/null || echo no; /own/id -u");
    char *suid = rig_path(&rig, "c/%s/upper/own/id", c->id);
    AUTO_BUF struct buf busybox = {0};

    assert_int_equal(dir_make(rig_path(&rig, "c/%s/upper/own", c->id), 0755, NULL), 0);
    assert_int_equal(file_read(AT_FDCWD, "/bin/busybox", 64 << 20, &busybox, NULL), 0);
    AUTO_CLOSE
    int fd = open(suid, O_WRONLY | O_CREAT | O_CLOEXEC, 0755);
    assert_int_equal(write_all(fd, buf_bytes(&busybox), busybox.length, NULL), 0);
    assert_int_equal(fchmod(fd, 04755), 0);
    close(steal_fd(&fd));
    c->record.user = (char *)"web";
    add_text(&c->host.security_options, &c->host.n_security_options, "no-new-privileges");
    assert_string_equal(output_of(c), "cat: can't open '/etc/shadow': No such file or directory\nno\n1000\n");
}

static void privileged_container_may_nearly_everything(void **state)
{
    struct rig_case *c = a_shell(
        "mount -t tmpfs x /tmp && echo mounted; inside calls | grep keyctl; "
        "test -w /proc/sys/kernel/hostname && echo writable; mknod /mem c 1 11; inside read /mem | head -1");

    c->host.privileged = true;
    assert_string_equal(output_of(c), "mounted\nkeyctl: ok\nwritable\nopen: ok\n");
}

static void host_sees_no_mount_of_a_container(void **state)
{
    struct rig_case *c = a_shell("sleep 1000");

    rig_bind(c, rig_path(&rig, "layer"), "/in");
    rig_launch(c);
    assert_int_equal(rig_census(&rig).mounts, 0);
    (void)keeper_signal(rig.keeper, c->id, SIGKILL, NULL);
    rig_wait(c);
    rig_forget(c);
}

static void propagation_is_private_unless_asked_for(void **state)
{
    char *source = rig_path(&rig, "shared-mount");
    struct rig_case *c[2];

    assert_int_equal(dir_make(source, 0755, NULL), 0);
    assert_int_equal(mount("tmpfs", source, "tmpfs", 0, "size=64k"), 0);
    assert_int_equal(mount(NULL, source, NULL, MS_SHARED, NULL), 0);
    assert_int_equal(mkdir(rig_path(&rig, "shared-mount/sub"), 0755), 0);
    for (int i = 0; i < 2; i++) {
        c[i] = a_shell("while ! test -e /in/go; do sleep 0.02; done; ls /in/sub");
        rig_bind(c[i], source, "/in")->propagation = i ? (char *)"rslave" : NULL;
        rig_launch(c[i]);
    }
    char *sub = rig_path(&rig, "shared-mount/sub");
    assert_int_equal(mount("tmpfs", sub, "tmpfs", 0, "size=64k"), 0);
    AUTO_CLOSE
    int mark = open(rig_path(&rig, "shared-mount/sub/arrived"), O_CREAT | O_WRONLY | O_CLOEXEC, 0644);
    AUTO_CLOSE
    int go = open(rig_path(&rig, "shared-mount/go"), O_CREAT | O_WRONLY | O_CLOEXEC, 0644);
    assert_true(mark >= 0 && go >= 0);
    for (int i = 0; i < 2; i++) {
        rig_wait(c[i]);
        assert_string_equal(rig_output(c[i], NULL), i ? "arrived\n" : "");
        rig_forget(c[i]);
    }
    assert_int_equal(umount2(source, MNT_DETACH), 0);
}

#define TEST(f) cmocka_unit_test_setup(f, need_rig)

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        TEST(nothing_but_three_descriptors_survives),
        TEST(processes_of_the_host_are_not_seen),
        TEST(no_namespace_is_shared_with_the_host_unless_asked_for),
        TEST(network_of_none_is_a_loopback_that_works),
        TEST(mount_table_holds_the_sandbox_and_nothing_of_the_host),
        TEST(kernel_files_are_masked_or_read_only),
        TEST(masks_are_gone_only_when_asked_for),
        TEST(groups_are_shown_as_if_there_were_no_others),
        TEST(devices_are_the_few_that_are_harmless),
        TEST(other_devices_may_be_made_but_not_opened),
        TEST(device_is_allowed_when_asked_for_and_only_as_asked_for),
        TEST(capabilities_are_the_default_ones),
        TEST(system_calls_are_refused_with_the_profiles_words),
        TEST(user_that_is_not_root_may_not_take_back_what_was_dropped),
        TEST(privileged_container_may_nearly_everything),
        TEST(host_sees_no_mount_of_a_container),
        TEST(propagation_is_private_unless_asked_for),
    };

    (void)argc;
    missing = rig_missing(argv[0]);
    return cmocka_run_group_tests(tests, open_rig, close_rig);
}
