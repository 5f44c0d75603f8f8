/* Ways out that runtimes have had: each class is tried here, with hostile images, plans and neighbours. */
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
#include <signal.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <unistd.h>

#include "engine/keeper/packet.h"
#include "proto/base/file.h"
#include "proto/base/hash.h"
#include "proto/base/mem.h"
#include "tests/bench/rig_testing.h"

static int open_rig(void **state)
{
    if (!missing)
        rig_open(&rig, 0, 0);
    return 0;
}

static char *upper(struct rig_case *c, const char *path)
{
    return rig_path(&rig, "c/%s/upper/%s", c->id, path);
}

/* A file on the host that no container may ever show or change. */
static char *plant_marker(void)
{
    char *path = rig_path(&rig, "marker");
    AUTO_CLOSE
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);

    assert_int_equal(write_all(fd, "host secret\n", 12, NULL), 0);
    return path;
}

/* Launch and end, whatever comes of it; what it wrote. */
static const char *whatever(struct rig_case *c)
{
    rig_launch(c);
    if (c->error.code)
        return "";
    rig_wait(c);
    rig_forget(c);
    return rig_output(c, NULL);
}

/* --- the runtime's own program: CVE-2019-5736 ------------------------------------------------------- */

static void keepers_program_cannot_be_written_not_even_by_root(void **state)
{
    AUTO_FREE
    char *exe = mem_printf("/proc/%d/exe", rig_keeper_pid(&rig));
    char target[256] = "";
    uint8_t before[SHA256_BYTES], after[SHA256_BYTES];
    AUTO_BUF struct buf first = {0}, second = {0};

    assert_true(readlink(exe, target, sizeof(target) - 1) > 0);
    assert_non_null(strstr(target, "memfd:shoal-keeper"));
    assert_int_equal(file_read(AT_FDCWD, rig.keeper_program, 64 << 20, &first, NULL), 0);
    sha256(buf_bytes(&first), first.length, before);
    AUTO_CLOSE
    int fd = open(exe, O_WRONLY | O_CLOEXEC);
    assert_int_equal(fd, -1);
    assert_true(errno == ETXTBSY || errno == EPERM || errno == EACCES);
    /* Opened for reading it is sealed, whatever way one finds to write. */
    AUTO_CLOSE
    int sealed = open(exe, O_RDONLY | O_CLOEXEC);
    assert_true(fcntl(sealed, F_GET_SEALS) & F_SEAL_WRITE);
    assert_int_equal(file_read(AT_FDCWD, rig.keeper_program, 64 << 20, &second, NULL), 0);
    sha256(buf_bytes(&second), second.length, after);
    assert_memory_equal(before, after, SHA256_BYTES);
}

static void neighbour_that_sees_the_keeper_cannot_write_its_program(void **state)
{
    AUTO_FREE
    char *script = mem_printf("inside write /proc/%d/exe | head -1; inside write /proc/%d/mem | head -1",
                              rig_keeper_pid(&rig), rig_keeper_pid(&rig));
    struct rig_case *c = a_shell(script);

    c->host.pid_mode = (char *)"host";
    const char *said = whatever(c);
    assert_null(strstr(said, "ok"));
    assert_true(strlen(said) > 10);
}

static void image_whose_program_is_the_runtimes_runs_nothing_of_it(void **state)
{
    static const char *const ways[] = {"/proc/self/exe", "/proc/1/exe"};

    for (size_t i = 0; i < ARRAY_SIZE(ways); i++) {
        struct rig_case *c = rig_case(&rig, "/entry", NULL);

        assert_int_equal(symlink(ways[i], upper(c, "entry")), 0);
        rig_launch(c);
        /* The sealed copy needs a loader that the image does not have; had it one, it would only be a program. */
        if (c->error.code == 0) {
            rig_wait(c);
            assert_true(c->exit.code != 0);
            rig_forget(c);
        }
    }
    assert_true(rig_keeper_pid(&rig) > 0);
}

/* --- leaked descriptors: CVE-2024-21626 ------------------------------------------------------------- */

static void working_directory_through_a_descriptor_is_refused(void **state)
{
    char *marker = plant_marker();

    for (int fd = 0; fd < 40; fd++) {
        AUTO_FREE
        char *directory = mem_printf(fd % 2 ? "/proc/self/fd/%d" : "/proc/1/fd/%d/../..", fd);
        AUTO_FREE
        char *script = mem_printf("cat ../../../../../../..%s ./%s 2>/dev/null; exit 0", marker, marker);
        struct rig_case *c = a_shell(script);

        c->record.working_dir = directory;
        if (strstr(whatever(c), "host secret"))
            fail_msg("%s leads out", directory);
        assert_true(c->error.code != 0);
    }
}

static void program_through_a_descriptor_is_not_found(void **state)
{
    for (int fd = 3; fd < 30; fd++) {
        AUTO_FREE
        char *program = mem_printf("/proc/self/fd/%d", fd);
        struct rig_case *c = rig_case(&rig, program, NULL);

        rig_launch(c);
        assert_true(c->error.code != 0);
    }
}

static void links_of_an_image_do_not_lead_working_directory_or_mounts_out(void **state)
{
    char *marker = plant_marker();
    AUTO_FREE
    char *script =
        mem_printf("cat /out%s /out2%s ./%s /mnt/marker 2>/dev/null; ls /bin/busybox", marker, marker, marker + 1);
    struct rig_case *c = a_shell(script);

    assert_int_equal(symlink("/", upper(c, "out")), 0);
    assert_int_equal(symlink("../../../../../../../..", upper(c, "out2")), 0);
    assert_int_equal(symlink("../../../../../../../..", upper(c, "wd")), 0);
    assert_int_equal(symlink("../../../../../../../tmp", upper(c, "mnt")), 0);
    c->record.working_dir = (char *)"/wd";
    rig_bind(c, rig_path(&rig, "layer/etc/plain"), "/mnt/file");
    assert_string_equal(whatever(c), "/bin/busybox\n");
    assert_int_equal(access("/tmp/file", F_OK), -1); /* it was made in the root's /tmp, not in ours */
    assert_int_equal(access(upper(c, "tmp/file"), F_OK), 0);
}

/* --- what is mounted where: CVE-2019-19921, CVE-2021-30465, CVE-2025-31133, CVE-2025-52565 ------------- */

static void image_whose_proc_is_a_link_is_refused(void **state)
{
    static const char *const places[] = {"proc", "sys", "dev"};

    for (size_t i = 0; i < ARRAY_SIZE(places); i++) {
        for (int kind = 0; kind < 2; kind++) {
            struct rig_case *c = a_shell("true");

            /* The layer has a directory there: hide it, then put something else in its place. */
            if (kind == 0)
                assert_int_equal(symlink("/tmp", upper(c, places[i])), 0);
            else
                assert_int_equal(mknod(upper(c, places[i]), S_IFREG | 0644, 0), 0);
            rig_launch(c);
            assert_true(c->error.code != 0);
            assert_non_null(strstr(c->error.text, "in the image is not a directory"));
        }
    }
}

static void hostile_dev_of_an_image_is_never_used(void **state)
{
    struct rig_case *c =
        a_shell("stat -c '%F %t:%T' /dev/null /proc/keys; ls -l /dev/console | wc -l; echo gone >/dev/null; "
                "cat /dev/null; test -L /dev/console && echo link; cat /proc/keys 2>&1 | wc -c");

    assert_int_equal(mkdir(upper(c, "dev"), 0755), 0);
    assert_int_equal(symlink("/proc/sys/kernel/core_pattern", upper(c, "dev/null")), 0);
    assert_int_equal(symlink("/proc/sys/kernel/core_pattern", upper(c, "dev/console")), 0);
    assert_int_equal(mkdir(upper(c, "dev/pts"), 0755), 0);
    assert_int_equal(symlink("/proc/sysrq-trigger", upper(c, "dev/pts/0")), 0);
    assert_int_equal(symlink("/proc/sysrq-trigger", upper(c, "dev/ptmx")), 0);
    c->config.tty = true;
    const char *said = whatever(c);
    assert_int_equal(c->error.code, 0);
    assert_non_null(strstr(said, "character special file 1:3\r\ncharacter special file 1:3\r\n"));
    assert_null(strstr(said, "link"));
    assert_null(strstr(said, "gone"));
}

static void mount_cannot_be_led_into_proc(void **state)
{
    static const char *const links[] = {"/proc/sys", "/proc/self/root/proc", "proc/1", "/proc"};

    for (size_t i = 0; i < ARRAY_SIZE(links); i++) {
        struct rig_case *c = a_shell("true");

        assert_int_equal(symlink(links[i], upper(c, "place")), 0);
        rig_bind(c, rig_path(&rig, "layer/data"), "/place");
        rig_launch(c);
        assert_true(c->error.code != 0);
        assert_non_null(strstr(c->error.text, "mount /place"));
    }
}

static void covering_proc_files_that_are_known_is_possible(void **state)
{
    struct rig_case *c = a_shell("cat /proc/uptime");

    rig_bind(c, rig_path(&rig, "layer/etc/plain"), "/proc/uptime");
    assert_string_equal(whatever(c), "not a program\n");
}

static void neighbour_that_exchanges_directories_gains_nothing(void **state)
{
    char *marker = plant_marker();
    AUTO_FREE
    char *script = mem_printf("cat %s /*/marker /*/*/marker 2>/dev/null; ls /bin/busybox", marker);
    struct rig_case *hostile = rig_case(&rig, "/bin/inside", "swap", "/v", "100000000", NULL);

    assert_int_equal(dir_make(rig_path(&rig, "shared"), 0777, NULL), 0);
    assert_int_equal(dir_make(rig_path(&rig, "given"), 0777, NULL), 0);
    rig_bind(hostile, rig_path(&rig, "shared"), "/v");
    rig_launch(hostile);
    while (access(rig_path(&rig, "shared/t"), F_OK) < 0)
        rig_turn(&rig, 5);
    for (int round = 0; round < 40; round++) {
        struct rig_case *c = a_shell(script);

        rig_bind(c, rig_path(&rig, "shared"), "/v");
        rig_bind(c, rig_path(&rig, "given"), "/v/t");
        c->record.working_dir = round % 2 ? (char *)"/v/t/made" : NULL;
        const char *said = whatever(c); /* it may fail, it may succeed, it must not show the host */
        if (strstr(said, "host secret"))
            fail_msg("round %d leads out", round);
    }
    assert_int_equal(rig_census(&rig).mounts, 0);
    assert_false(hostile->ended);
    (void)keeper_signal(rig.keeper, hostile->id, SIGKILL, NULL);
    rig_wait(hostile);
    rig_forget(hostile);
}

/* CVE-2025-31133: what masks are made of was taken from the container's own /dev, which somebody exchanges. */
static void dev_that_is_exchanged_while_masks_are_made_is_not_what_they_are_made_of(void **state)
{
    struct rig_case *hostile =
        a_shell("while :; do ln -sf /proc/sys/kernel/core_pattern /v/null; ln -sf /proc/sysrq-trigger /v/null; "
                "ln -sf /etc /v/null; rm -f /v/null; mknod /v/null c 1 3; done");
    AUTO_BUF struct buf before = {0}, after = {0};

    assert_int_equal(file_read(AT_FDCWD, "/proc/sys/kernel/core_pattern", 4096, &before, NULL), 0);
    assert_int_equal(dir_make(rig_path(&rig, "dev"), 0777, NULL), 0);
    rig_bind(hostile, rig_path(&rig, "dev"), "/v");
    rig_launch(hostile);
    for (int round = 0; round < 40; round++) {
        struct rig_case *c = a_shell("stat -c %t:%T /proc/keys; inside write /proc/sys/kernel/core_pattern; "
                                     "inside write /proc/keys | tail -1");

        rig_bind(c, rig_path(&rig, "dev"), "/dev");
        c->config.tty = round % 4 == 0;
        const char *said = whatever(c);
        if (c->error.code == 0 && (strncmp(said, "1:3", 3) != 0 || !strstr(said, "open: EROFS")))
            fail_msg("round %d: %s", round, said);
    }
    assert_int_equal(file_read(AT_FDCWD, "/proc/sys/kernel/core_pattern", 4096, &after, NULL), 0);
    assert_string_equal(buf_str(&before), buf_str(&after));
    (void)keeper_signal(rig.keeper, hostile->id, SIGKILL, NULL);
    rig_wait(hostile);
    rig_forget(hostile);
}

/* --- neighbours that look at the runtime: CVE-2016-9962 ------------------------------------------------ */

static void wait_for_output(struct rig_case *c, const char *text)
{
    for (int i = 0; i < 4000 && !strstr(rig_output(c, NULL), text); i++)
        rig_turn(&rig, 5);
    assert_non_null(strstr(rig_output(c, NULL), text));
}

/* A container that sees the host's processes looks at keeper, logger and at children which have no more privileges
 * than it, but are not yet executed: those take long, as their PATH has very many directories. */
static void nothing_can_be_taken_from_a_process_that_becomes_a_container(void **state)
{
    AUTO_FREE
    char *keeper = mem_printf("%d", rig_keeper_pid(&rig));
    struct rig_case *hunter = rig_case(&rig, "/bin/inside", "hunt", keeper, NULL);
    AUTO_BUF struct buf path = {0};
    char *env[1];

    hunter->host.pid_mode = (char *)"host";
    rig_launch(hunter);
    assert_int_equal(hunter->error.code, 0);
    wait_for_output(hunter, "hunting");
    buf_append_str(&path, "PATH=");
    for (int i = 0; i < 20000; i++)
        buf_append_str(&path, "/a:");
    buf_append_str(&path, "/bin");
    env[0] = (char *)buf_str(&path);
    for (int round = 0; round < 4; round++) {
        struct rig_case *c = rig_case(&rig, "true", NULL);

        c->record.env = env;
        c->record.n_env = 1;
        c->host.pid_mode = round % 2 ? (char *)"host" : NULL;
        assert_int_equal(rig_run(c), 0);
    }
    AUTO_FREE
    char *end = mem_printf("/proc/%d/root/tmp/end", hunter->pid);
    AUTO_CLOSE
    int fd = open(end, O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
    assert_true(fd >= 0);
    rig_wait(hunter);
    rig_forget(hunter);
    assert_string_equal(rig_output(hunter, NULL), "hunting\nsaw some\n");
}

/* --- control groups: CVE-2022-0492 ---------------------------------------------------------------------- */

static void release_agent_of_a_control_group_cannot_be_named(void **state)
{
    static const char script[] =
        "for f in $(find /sys/fs/cgroup -name release_agent -o -name notify_on_release "
        "-o -name devices.allow); do inside write $f; done | sort | uniq; "
        "inside agent | grep named; mkdir /sys/fs/cgroup/memory/x 2>/dev/null && echo made";

    for (int confined = 1; confined >= 0; confined--) {
        struct rig_case *c = a_shell(script);
        char *unconfined[] = {(char *)"seccomp=unconfined"};

        if (!confined) {
            c->host.security_options = unconfined;
            c->host.n_security_options = 1;
        }
        const char *said = whatever(c);
        assert_true(*said == '\0' || strcmp(said, "open: EROFS\n") == 0);
    }
}

/* --- files that are read for it --------------------------------------------------------------------- */

static void users_files_of_an_image_are_read_with_care(void **state)
{
    static const struct {
        const char *what;
        const char *text;
    } cases[] = {{"pipe", "is not a plain file"},      {"device", "is not a plain file"}, {"huge", "larger than"},
                 {"directory", "is not a plain file"}, {"out", "no matching entries"},    {"socketless", NULL}};

    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct rig_case *c = a_shell("id -u");
        const char *what = cases[i].what;

        assert_int_equal(mkdir(upper(c, "etc"), 0755), 0);
        char *passwd = upper(c, "etc/passwd");
        if (strcmp(what, "pipe") == 0) {
            assert_int_equal(mkfifo(passwd, 0644), 0);
        } else if (strcmp(what, "device") == 0) {
            assert_int_equal(mknod(passwd, S_IFCHR | 0644, makedev(1, 5)), 0);
        } else if (strcmp(what, "huge") == 0) {
            AUTO_CLOSE
            int fd = open(passwd, O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
            assert_int_equal(ftruncate(fd, 1ll << 40), 0);
        } else if (strcmp(what, "directory") == 0) {
            assert_int_equal(mkdir(passwd, 0755), 0);
        } else if (strcmp(what, "out") == 0) { /* the host's own root would be found there */
            assert_int_equal(symlink("../../../../../../../../../etc/hostname", passwd), 0);
        }
        c->record.user = (char *)"web";
        rig_launch(c);
        if (cases[i].text) {
            assert_true(c->error.code != 0);
            if (!strstr(c->error.text, cases[i].text))
                fail_msg("%s: \"%s\"", what, c->error.text);
        } else {
            assert_int_equal(c->error.code, 0);
            rig_wait(c);
            rig_forget(c);
        }
    }
}

static void dangling_link_of_an_image_is_filled_inside(void **state)
{
    struct rig_case *c = a_shell("cat /etc/resolv.conf; readlink /etc/resolv.conf; ls /run/resolve");

    assert_int_equal(mkdir(upper(c, "etc"), 0755), 0);
    assert_int_equal(symlink("../run/resolve/stub.conf", upper(c, "etc/resolv.conf")), 0);
    rig_bind(c, rig_path(&rig, "layer/etc/plain"), "/etc/resolv.conf");
    assert_string_equal(whatever(c), "not a program\n../run/resolve/stub.conf\nstub.conf\n");
    c = a_shell("true");
    assert_int_equal(mkdir(upper(c, "etc"), 0755), 0);
    assert_int_equal(symlink("b", upper(c, "etc/a")), 0);
    assert_int_equal(symlink("a", upper(c, "etc/b")), 0);
    rig_bind(c, rig_path(&rig, "layer/etc/plain"), "/etc/a");
    rig_launch(c);
    assert_true(c->error.code != 0);
}

static void volume_is_filled_without_following_links(void **state)
{
    struct rig_case *c = a_shell("true");
    char *marker = plant_marker();
    struct stat st;

    assert_int_equal(dir_make(upper(c, "data/deep"), 0755, NULL), 0);
    assert_int_equal(symlink(marker, upper(c, "data/to-host")), 0);
    assert_int_equal(symlink("/", upper(c, "data/deep/root")), 0);
    assert_int_equal(dir_make(rig_path(&rig, "filled"), 0755, NULL), 0);
    rig_volume(c, rig_path(&rig, "filled"), "/data", true);
    (void)whatever(c);
    assert_int_equal(lstat(rig_path(&rig, "filled/to-host"), &st), 0);
    assert_true(S_ISLNK(st.st_mode));
    assert_int_equal(lstat(rig_path(&rig, "filled/deep/root"), &st), 0);
    assert_true(S_ISLNK(st.st_mode));
}

/* --- the keeper itself ------------------------------------------------------------------------------ */

static void keepers_socket_is_in_a_closed_directory(void **state)
{
    struct stat st;

    assert_int_equal(stat(rig_path(&rig, "keeper"), &st), 0);
    assert_int_equal(st.st_mode & 07777, 0700);
    assert_int_equal(stat(rig_path(&rig, "keeper/control"), &st), 0);
    assert_true(S_ISSOCK(st.st_mode));
    assert_int_equal(st.st_mode & 0777, 0600);
    struct rig_case *c = a_shell("grep -c '@' /proc/net/unix; grep -c shoal /proc/net/unix; ls /tmp | wc -l");
    assert_string_equal(whatever(c), "0\n0\n0\n");
}

static void sockets_are_not_reached_from_the_hosts_network_either(void **state)
{
    struct rig_case *c = rig_case(&rig, "/bin/inside", "reach", NULL);

    c->host.network_mode = (char *)"host";
    assert_string_equal(whatever(c), "tried some\n"); /* the names are seen, and lead nowhere */
}

static void anybody_else_is_refused_at_the_socket(void **state)
{
    AUTO_CLOSE
    int dir = open(rig_path(&rig, "keeper"), O_PATH | O_DIRECTORY | O_CLOEXEC);
    pid_t pid = fork();
    int status;

    if (pid == 0) { /* even with a descriptor of the directory: another user */
        char byte[PACKET_BYTES];
        unsigned count;
        int fd, fds[PACKET_FDS];

        if (fchmodat(dir, "control", 0666, 0) < 0 || setresuid(65534, 65534, 65534) < 0)
            _exit(9);
        if (packet_connect(dir, "control", &fd, NULL) < 0)
            _exit(0); /* not even that */
        (void)fcntl(fd, F_SETFL, 0);
        _exit(packet_receive(fd, byte, fds, &count, NULL) == 0 ? 0 : 1);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
    assert_int_equal(chmod(rig_path(&rig, "keeper/control"), 0600), 0);
    assert_int_equal(rig_run(rig_case(&rig, "true", NULL)), 0); /* and we are still served */
}

static void garbage_on_the_socket_costs_the_connection_and_nothing_else(void **state)
{
    struct rig_case *c = a_shell("sleep 1000");
    AUTO_CLOSE
    int dir = open(rig_path(&rig, "keeper"), O_PATH | O_DIRECTORY | O_CLOEXEC);
    int keeper = rig_keeper_pid(&rig);
    static char garbage[5000];

    rig_launch(c);
    memset(garbage, 0xee, sizeof(garbage));
    for (int i = 0; i < 10; i++) {
        AUTO_CLOSE
        int fd = -1;

        assert_int_equal(packet_connect(dir, "control", &fd, NULL), 0);
        (void)packet_send(fd, garbage, (size_t)(1 + i * 500), &fd, 1, NULL);
        rig_turn(&rig, 20); /* ours was the older connection: it is made again */
    }
    assert_int_equal(rig_keeper_pid(&rig), keeper);
    assert_false(c->ended);
    (void)keeper_signal(rig.keeper, c->id, SIGKILL, NULL);
    rig_wait(c);
    rig_forget(c);
    assert_int_equal(rig_run(rig_case(&rig, "true", NULL)), 0);
}

/* The code of the next event that answers; 0: the connection is over. */
static int next_answer(int fd)
{
    static char packet[PACKET_BYTES];
    AUTO_ARENA struct arena a;
    int fds[PACKET_FDS];
    unsigned count;

    arena_init(&a);
    int got = packet_receive(fd, packet, fds, &count, NULL);
    fds_close(fds, count);
    const KeeperEvent *event = got > 0 ? arena_unpack(&a, &keeper_event__descriptor, packet, (size_t)got) : NULL;
    return event && event->error ? event->error->code : 0;
}

static bool is_asleep(int pid)
{
    AUTO_FREE
    char *path = mem_printf("/proc/%d/stat", pid);
    AUTO_BUF struct buf text = {0};

    return file_read(AT_FDCWD, path, 4096, &text, NULL) == 0 && strstr(buf_str(&text), ") S ");
}

static void who_says_no_hello_is_told_so_and_gets_nothing_else(void **state)
{
    AUTO_CLOSE
    int dir = open(rig_path(&rig, "keeper"), O_PATH | O_DIRECTORY | O_CLOEXEC);
    struct rig_case *c = a_shell("sleep 1000");
    int keeper = rig_keeper_pid(&rig);

    rig_launch(c);
    for (int kind = 0; kind < 2; kind++) {
        KeeperRequest r = KEEPER_REQUEST__INIT;
        KeeperHello hello = KEEPER_HELLO__INIT;
        AUTO_CLOSE
        int fd = -1;

        assert_int_equal(packet_connect(dir, "control", &fd, NULL), 0);
        assert_int_equal(fcntl(fd, F_SETFL, 0), 0);
        r.serial = 1;
        hello.protocol = 4711;
        if (kind == 0)
            r.hello = &hello; /* of another age */
        else
            r.has_stop = r.stop = true;
        assert_int_equal(packet_send_message(fd, &r.base, &dir, 1, NULL), 0);
        assert_int_equal(packet_send_message(fd, &r.base, &dir, 1, NULL), 0);
        assert_int_equal(next_answer(fd), ERR_INVALID);
        assert_int_equal(next_answer(fd), ERR_INVALID);
    }
    for (int i = 0; i < 2000 && !is_asleep(keeper); i++) /* and not busy with a connection that is over */
        rig_turn(&rig, 5);
    assert_true(is_asleep(keeper));
    assert_false(c->ended);
    (void)keeper_signal(rig.keeper, c->id, SIGKILL, NULL);
    rig_wait(c);
    rig_forget(c);
}

#define TEST(f) cmocka_unit_test_setup(f, need_rig)

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        TEST(keepers_program_cannot_be_written_not_even_by_root),
        TEST(neighbour_that_sees_the_keeper_cannot_write_its_program),
        TEST(image_whose_program_is_the_runtimes_runs_nothing_of_it),
        TEST(working_directory_through_a_descriptor_is_refused),
        TEST(program_through_a_descriptor_is_not_found),
        TEST(links_of_an_image_do_not_lead_working_directory_or_mounts_out),
        TEST(image_whose_proc_is_a_link_is_refused),
        TEST(hostile_dev_of_an_image_is_never_used),
        TEST(mount_cannot_be_led_into_proc),
        TEST(covering_proc_files_that_are_known_is_possible),
        TEST(neighbour_that_exchanges_directories_gains_nothing),
        TEST(dev_that_is_exchanged_while_masks_are_made_is_not_what_they_are_made_of),
        TEST(nothing_can_be_taken_from_a_process_that_becomes_a_container),
        TEST(release_agent_of_a_control_group_cannot_be_named),
        TEST(users_files_of_an_image_are_read_with_care),
        TEST(dangling_link_of_an_image_is_filled_inside),
        TEST(volume_is_filled_without_following_links),
        TEST(keepers_socket_is_in_a_closed_directory),
        TEST(sockets_are_not_reached_from_the_hosts_network_either),
        TEST(anybody_else_is_refused_at_the_socket),
        TEST(garbage_on_the_socket_costs_the_connection_and_nothing_else),
        TEST(who_says_no_hello_is_told_so_and_gets_nothing_else),
    };

    (void)argc;
    missing = rig_missing(argv[0]);
    return cmocka_run_group_tests(tests, open_rig, close_rig);
}
