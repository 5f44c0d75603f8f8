/* Containers start and end as their plans say, and what cannot be started says why: with a real keeper. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <termios.h>
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

/* --- ends ------------------------------------------------------------------------------------------ */

static void exit_codes_come_back(void **state)
{
    assert_int_equal(rig_run(rig_case(&rig, "true", NULL)), 0);
    assert_int_equal(rig_run(rig_case(&rig, "/bin/false", NULL)), 1);
    assert_int_equal(rig_run(a_shell("exit 7")), 7);
    assert_int_equal(rig_run(a_shell("exit 255")), 255);
}

static void signals_end_as_shells_say(void **state)
{
    static const int signals[] = {SIGKILL, SIGTERM, SIGUSR1};

    for (size_t i = 0; i < ARRAY_SIZE(signals); i++) {
        struct rig_case *c = a_shell("trap 'exit 42' USR1; echo up; while :; do sleep 0.01; done");

        rig_launch(c);
        while (!strstr(rig_output(c, NULL), "up"))
            rig_turn(&rig, 5);
        assert_int_equal(keeper_signal(rig.keeper, c->id, signals[i], NULL), 0);
        if (signals[i] == SIGTERM) { /* the first process of its own namespace ignores what it has no handler for */
            rig_turn(&rig, 30);
            assert_false(c->ended);
            assert_int_equal(keeper_signal(rig.keeper, c->id, SIGKILL, NULL), 0);
        }
        rig_wait(c);
        assert_int_equal(c->exit.code, signals[i] == SIGUSR1 ? 42 : 128 + SIGKILL);
        assert_false(c->exit.unknown);
        assert_false(c->exit.oom_killed);
        assert_true(c->exit.ended_ns >= c->started_ns);
        assert_int_equal(keeper_signal(rig.keeper, c->id, SIGKILL, NULL), ERR_NOT_FOUND);
        rig_forget(c);
    }
    assert_int_equal(keeper_signal(rig.keeper, "nobody", SIGKILL, NULL), ERR_NOT_FOUND);
}

static void end_takes_everything_inside_with_it(void **state)
{
    struct rig_case *c =
        a_shell("(while :; do sleep 1; done) & (setsid sh -c 'while :; do sleep 1; done') & exit 3");

    assert_int_equal(rig_run(c), 3);
    AUTO_FREE
    char *path = mem_printf("%s/shoal-%s/%s/cgroup.procs", rig.layout.mounts[0].path, rig.instance, c->sandbox);
    AUTO_BUF struct buf text = {0};
    assert_true(file_read(AT_FDCWD, path, 4096, &text, NULL) < 0 || text.length == 0);
}

/* --- what cannot be started ------------------------------------------------------------------------ */

static void what_cannot_be_executed_says_why(void **state)
{
    static const struct {
        const char *program, *text;
        int code;
    } cases[] = {
        {"nosuch", "exec: \"nosuch\": executable file not found in $PATH", ERR_NOT_FOUND},
        {"/bin/nosuch", "exec: \"/bin/nosuch\": no such file or directory", ERR_NOT_FOUND},
        {"", "exec: \"\": executable file not found in $PATH", ERR_NOT_FOUND},
        {"/etc/plain", "exec: \"/etc/plain\": permission denied", ERR_DENIED},
        {"/etc", "exec: \"/etc\": permission denied", ERR_DENIED},
        {"/etc/plain/x", "exec: \"/etc/plain/x\": not a directory", ERR_NOT_FOUND},
    };

    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct rig_case *c = rig_case(&rig, cases[i].program, NULL);

        rig_launch(c);
        assert_int_equal(c->error.code, cases[i].code);
        assert_string_equal(c->error.text, cases[i].text);
    }
}

static void file_that_is_no_program_is_not_executable(void **state)
{
    struct rig_case *c = rig_case(&rig, "/data/odd", NULL);
    char *path = rig_path(&rig, "c/%s/upper/data", c->id);

    assert_int_equal(dir_make(path, 0755, NULL), 0);
    AUTO_CLOSE
    int fd = open(rig_path(&rig, "c/%s/upper/data/odd", c->id), O_WRONLY | O_CREAT | O_CLOEXEC, 0755);
    assert_int_equal(write_all(fd,
                               "\x7f"
                               "ELFnot",
                               7, NULL),
                     0);
    close(steal_fd(&fd));
    rig_launch(c);
    assert_int_equal(c->error.code, ERR_DENIED);
    assert_string_equal(c->error.text, "exec: \"/data/odd\": exec format error");
}

static void failed_step_names_itself_and_is_no_missing_program(void **state)
{
    struct rig_case *c = a_shell("true");

    c->record.user = (char *)"nobody-here";
    rig_launch(c);
    assert_string_equal(c->error.text, "unable to find user nobody-here: no matching entries in passwd file");

    c = a_shell("true");
    c->record.working_dir = (char *)"/etc/plain";
    rig_launch(c);
    assert_true(c->error.code != ERR_NOT_FOUND && c->error.code != ERR_DENIED && c->error.code != 0);

    c = a_shell("true");
    rig_bind(c, rig_path(&rig, "layer/etc"), "/etc/plain");
    rig_launch(c);
    assert_true(c->error.code != ERR_NOT_FOUND && c->error.code != ERR_DENIED && c->error.code != 0);
    assert_non_null(strstr(c->error.text, "mount /etc/plain"));
}

static void spoil_with_unknown_step(struct rig_case *c, LaunchPlan *plan)
{
    static uint8_t nothing[1];
    static ProtobufCMessageUnknownField field = {.tag = 99, .wire_type = PROTOBUF_C_WIRE_TYPE_LENGTH_PREFIXED};
    Step *s = plan->steps[plan->n_steps - 1];

    field.len = 1;
    field.data = nothing;
    s->exec = NULL;
    s->base.n_unknown_fields = 1;
    s->base.unknown_fields = &field;
}

static void unknown_step_refuses_the_whole_plan(void **state)
{
    struct rig_case *c = a_shell("true");
    struct rig_census before = rig_census(&rig), after;

    c->change = spoil_with_unknown_step;
    rig_launch(c);
    assert_int_equal(c->error.code, ERR_UNSUPPORTED);
    assert_non_null(strstr(c->error.text, "unknown step 99"));
    after = rig_census(&rig);
    assert_int_equal(after.boxes, before.boxes); /* nothing was begun */
    assert_true(after.groups <= before.groups);  /* those of earlier tests go a moment later */
}

static void container_is_launched_once(void **state)
{
    struct rig_case *c = a_shell("sleep 1000"), *twin;
    struct err e;
    LaunchPlan plan = LAUNCH_PLAN__INIT;

    rig_launch(c);
    plan.id = c->id;
    assert_int_equal(keeper_launch(rig.keeper, &plan, NULL, 0, NULL, NULL, NULL, &e), ERR_CONFLICT);
    twin = a_shell("true");
    memcpy(twin->id, c->id, sizeof(c->id));
    (void)keeper_signal(rig.keeper, c->id, SIGKILL, NULL);
    rig_wait(c);
    rig_forget(c);
    list_remove(&c->link); /* the twin answers to the id from here on */
    rig_launch(twin);      /* forgotten, the id is free */
    assert_int_equal(twin->error.code, 0);
    rig_wait(twin);
    rig_forget(twin);
    list_push(&rig.cases, &c->link);
}

/* --- what the program gets ------------------------------------------------------------------------- */

static void program_has_its_environment_directory_and_name(void **state)
{
    struct rig_case *c = a_shell("echo $HOME $A; pwd; hostname; echo $PATH");
    char *env[] = {(char *)"A=b c"};

    c->record.env = env;
    c->record.n_env = 1;
    c->record.working_dir = (char *)"/made/on/the/way";
    c->config.hostname = (char *)"web";
    assert_string_equal(output_of(c), "/root b c\n/made/on/the/way\nweb\n"
                                      "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\n");
}

static void user_is_looked_up_in_the_containers_files(void **state)
{
    static const struct {
        const char *user, *says;
    } cases[] = {
        {"", "uid=0(root) gid=0(root) groups=0(root) /root\n"},
        {"web", "uid=1000(web) gid=1000(web) groups=1000(web),2000(extra) /data\n"},
        {"1000", "uid=1000(web) gid=1000(web) groups=1000(web),2000(extra) /data\n"},
        {"web:0", "uid=1000(web) gid=0(root) groups=0(root) /data\n"},
        {"77:88", "uid=77 gid=88 groups=88 /\n"},
    };

    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct rig_case *c = a_shell("echo $(id) $HOME");

        c->record.user = (char *)cases[i].user;
        assert_string_equal(output_of(c), cases[i].says);
    }
}

static void user_may_open_its_own_output_again(void **state)
{
    struct rig_case *c = a_shell("echo one >/dev/stdout; echo two >/dev/stderr; echo three >/proc/self/fd/1");

    c->record.user = (char *)"web";
    (void)rig_run(c);
    assert_string_equal(rig_output(c, "stdout"), "one\nthree\n");
    assert_string_equal(rig_output(c, "stderr"), "two\n");
}

static void large_plan_passes_through_a_memfd(void **state)
{
    enum { VARIABLES = 100 };
    struct rig_case *c = a_shell("env | wc -c");
    char *env[VARIABLES];
    static char value[4000];

    memset(value, 'x', sizeof(value) - 1);
    for (int i = 0; i < VARIABLES; i++)
        env[i] = arena_printf(&rig.arena, "V%03d=%s", i, value);
    c->record.env = env;
    c->record.n_env = VARIABLES;
    const char *said = output_of(c);
    assert_true(strtol(said, NULL, 10) > VARIABLES * 3999);
}

static void standard_input_is_null_or_a_pipe(void **state)
{
    struct rig_case *c = a_shell("cat; echo end");

    assert_string_equal(output_of(c), "end\n");
    assert_int_equal(keeper_stdin(rig.keeper, c->id), -1);
    c = a_shell("read line; echo \"got $line\"; read more; echo \"then $more\"");
    c->config.open_stdin = true;
    rig_launch(c);
    int fd = keeper_stdin(rig.keeper, c->id);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, "hello\n", 6), 6);
    while (!strstr(rig_output(c, NULL), "got hello"))
        rig_turn(&rig, 5);
    assert_false(c->ended);
    assert_int_equal(write(fd, "bye\n", 4), 4);
    rig_wait(c);
    assert_string_equal(rig_output(c, NULL), "got hello\nthen bye\n");
    rig_forget(c);
}

/* --- terminals ------------------------------------------------------------------------------------- */

static void terminal_is_the_controlling_one(void **state)
{
    struct rig_case *c = a_shell(
        "tty; test -c /dev/console && echo console; echo hi >/dev/tty; stty size; ls -l /proc/self/fd | wc -l");

    c->config.tty = true;
    rig_launch(c);
    assert_int_equal(c->error.code, 0);
    assert_true(keeper_terminal(rig.keeper, c->id) >= 0);
    rig_wait(c);
    const char *said = rig_output(c, "stdout");
    assert_non_null(strstr(said, "/dev/pts/0\r\n"));
    assert_non_null(strstr(said, "console\r\n"));
    assert_non_null(strstr(said, "hi\r\n"));
    assert_string_equal(rig_output(c, "stderr"), "");
    rig_forget(c);
}

static void terminal_takes_input_size_and_interrupts(void **state)
{
    struct rig_case *c = a_shell("trap 'echo interrupted; exit 5' INT; read line; echo got $line; stty size; "
                                 "while :; do sleep 0.01; done");
    const struct winsize size = {.ws_row = 33, .ws_col = 99};

    c->config.tty = true;
    rig_launch(c);
    int fd = keeper_terminal(rig.keeper, c->id);
    assert_int_equal(ioctl(fd, TIOCSWINSZ, &size), 0);
    assert_int_equal(write(fd, "typed\n", 6), 6);
    while (!strstr(rig_output(c, NULL), "33 99"))
        rig_turn(&rig, 5);
    assert_int_equal(write(fd, "\x03", 1), 1);
    rig_wait(c);
    assert_non_null(strstr(rig_output(c, NULL), "got typed"));
    assert_non_null(strstr(rig_output(c, NULL), "interrupted"));
    assert_int_equal(c->exit.code, 5);
    rig_forget(c);
}

/* --- mounts ---------------------------------------------------------------------------------------- */

static void binds_show_the_host_and_may_be_read_only(void **state)
{
    struct rig_case *c = a_shell("cat /in/etc/plain; touch /in/x 2>&1; touch /deep/er/y && echo written; "
                                 "cat /one/file");

    rig_bind(c, rig_path(&rig, "layer"), "/in")->read_only = true;
    assert_int_equal(dir_make(rig_path(&rig, "shared"), 0755, NULL), 0);
    rig_bind(c, rig_path(&rig, "shared"), "/deep/er");
    rig_bind(c, rig_path(&rig, "layer/etc/plain"), "/one/file");
    assert_string_equal(output_of(c),
                        "not a program\ntouch: /in/x: Read-only file system\nwritten\nnot a program\n");
    assert_int_equal(access(rig_path(&rig, "shared/y"), F_OK), 0);
}

static void inner_mount_is_seen_through_the_outer_one(void **state)
{
    struct rig_case *c = a_shell("ls /a; ls /a/b");

    assert_int_equal(dir_make(rig_path(&rig, "outer/b"), 0755, NULL), 0);
    assert_int_equal(dir_make(rig_path(&rig, "inner/seen"), 0755, NULL), 0);
    rig_bind(c, rig_path(&rig, "inner"), "/a/b");
    rig_bind(c, rig_path(&rig, "outer"), "/a");
    assert_string_equal(output_of(c), "b\nseen\n");
}

static void read_only_root_keeps_its_writable_places(void **state)
{
    struct rig_case *c =
        a_shell("touch /x 2>/dev/null || echo root closed; touch /dev/shm/x && touch /run/x && "
                "echo places open; echo 1 2>/dev/null >/proc/sys/kernel/panic || echo proc closed");
    KeyValue run = KEY_VALUE__INIT;
    KeyValue *list[] = {&run};

    run.key = (char *)"/run";
    run.value = (char *)"size=1m,mode=0700";
    c->host.tmpfs = list;
    c->host.n_tmpfs = 1;
    c->host.read_only_root = true;
    assert_string_equal(output_of(c), "root closed\nplaces open\nproc closed\n");
}

static void root_is_changed_in_its_upper_directory_alone(void **state)
{
    struct rig_case *c = a_shell("echo new >/etc/plain; rm /data/from-image; touch /added");

    assert_int_equal(rig_run(c), 0);
    assert_int_equal(access(rig_path(&rig, "c/%s/upper/added", c->id), F_OK), 0);
    AUTO_BUF struct buf text = {0};
    assert_int_equal(file_read(AT_FDCWD, rig_path(&rig, "layer/etc/plain"), 100, &text, NULL), 0);
    assert_string_equal(buf_str(&text), "not a program\n");
    assert_int_equal(access(rig_path(&rig, "layer/data/from-image"), F_OK), 0);
}

/* --- volumes --------------------------------------------------------------------------------------- */

static void fill_image(const char *top)
{
    static const char script[] =
        "set -e; mkdir -p sub/dir; echo one >sub/one; ln sub/one sub/again; ln -s /etc/passwd sub/out; "
        "ln -s one sub/in; chown 1000:2000 sub/one; chmod 4751 sub/one; mkfifo sub/pipe; "
        "chmod 1777 sub/dir; chown 1000:1000 sub/dir; touch -d 2001-02-03 sub/dir; mknod sub/null c 1 3";
    AUTO_FREE
    char *command = mem_printf("cd %s && { %s; }", top, script);
    char *const argv[] = {(char *)"sh", (char *)"-c", command, NULL};
    pid_t pid = fork();
    int status;

    if (pid == 0) {
        execv("/bin/sh", argv);
        _exit(127);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
}

static void empty_volume_gets_the_images_files(void **state)
{
    struct rig_case *c = a_shell("ls /data");
    struct stat one, again, st;
    char link[64] = "";

    assert_int_equal(dir_make(rig_path(&rig, "c/%s/upper/data", c->id), 0755, NULL), 0);
    fill_image(rig_path(&rig, "c/%s/upper/data", c->id));
    assert_int_equal(chmod(rig_path(&rig, "c/%s/upper/data", c->id), 0711), 0);
    assert_int_equal(setxattr(rig_path(&rig, "c/%s/upper/data/sub/one", c->id), "user.note", "kept", 4, 0), 0);
    assert_int_equal(dir_make(rig_path(&rig, "volume"), 0700, NULL), 0);
    rig_volume(c, rig_path(&rig, "volume"), "/data", true);
    assert_string_equal(output_of(c), "from-image\nsub\n"); /* both layers' files */

    assert_int_equal(lstat(rig_path(&rig, "volume/sub/one"), &one), 0);
    assert_int_equal(lstat(rig_path(&rig, "volume/sub/again"), &again), 0);
    assert_int_equal(one.st_ino, again.st_ino);
    assert_int_equal(one.st_mode & 07777, 04751);
    assert_int_equal(one.st_uid, 1000);
    assert_int_equal(one.st_gid, 2000);
    assert_int_equal(getxattr(rig_path(&rig, "volume/sub/one"), "user.note", link, sizeof(link)), 4);
    assert_int_equal(readlink(rig_path(&rig, "volume/sub/out"), link, sizeof(link) - 1), 11);
    assert_memory_equal(link, "/etc/passwd", 11); /* the link, and not what it leads to */
    assert_int_equal(lstat(rig_path(&rig, "volume/sub/dir"), &st), 0);
    assert_int_equal(st.st_mode & 07777, 01777);
    assert_int_equal(st.st_mtim.tv_sec / 86400, 11356); /* 2001-02-03 */
    assert_int_equal(lstat(rig_path(&rig, "volume/sub/pipe"), &st), 0);
    assert_true(S_ISFIFO(st.st_mode));
    assert_int_equal(stat(rig_path(&rig, "volume"), &st), 0);
    assert_int_equal(st.st_mode & 07777, 0711); /* of the image's directory */
}

static void volume_with_something_in_it_is_left_alone(void **state)
{
    struct rig_case *c = a_shell("ls /data");

    assert_int_equal(dir_make(rig_path(&rig, "used/already"), 0755, NULL), 0);
    rig_volume(c, rig_path(&rig, "used"), "/data", true);
    assert_string_equal(output_of(c), "already\n");
}

/* --- resources ------------------------------------------------------------------------------------- */

static void memory_limit_kills_and_is_reported(void **state)
{
    struct rig_case *c =
        a_shell("cat /sys/fs/cgroup/memory/memory.limit_in_bytes /sys/fs/cgroup/memory.max 2>/dev/null; "
                "dd if=/dev/zero of=/dev/shm/x bs=1M count=63 2>/dev/null & wait; "
                "x=$(head -c 100000000 /dev/zero | tr '\\0' x); echo survived");

    c->host.memory_bytes = 32 << 20;
    c->host.memory_swap_bytes = 32 << 20;
    rig_launch(c);
    rig_wait(c);
    assert_non_null(strstr(rig_output(c, NULL), "33554432"));
    assert_null(strstr(rig_output(c, NULL), "survived"));
    assert_true(c->exit.oom_killed);
    assert_true(c->exit.code != 0);
    rig_forget(c);
}

static void limits_of_processor_and_processes_apply(void **state)
{
    struct rig_case *c = a_shell("for i in 1 2 3 4 5 6 7 8 9 10 11 12; do sleep 1 & done 2>&1; wait");
    AUTO_BUF struct buf text = {0};

    c->host.pids_limit = 5;
    c->host.nano_cpus = 500000000;
    rig_launch(c);
    const char *group = keeper_cgroup(rig.keeper, c->id, "cpu");
    assert_non_null(group);
    bool v2 = rig.kernel.cgroup_v2[BUNDLE_CPU];
    AUTO_FREE
    char *quota = mem_printf("%s/%s", group, v2 ? "cpu.max" : "cpu.cfs_quota_us");
    assert_int_equal(file_read(AT_FDCWD, quota, 100, &text, NULL), 0);
    assert_memory_equal(buf_str(&text), "50000", 5);
    rig_wait(c);
    assert_non_null(strstr(rig_output(c, NULL), "can't fork"));
    assert_null(keeper_cgroup(rig.keeper, c->id, "nosuch"));
    rig_forget(c);
    assert_null(keeper_cgroup(rig.keeper, c->id, "cpu"));
}

static void ulimits_and_shared_memory_are_as_asked(void **state)
{
    struct rig_case *c = a_shell("ulimit -n; ulimit -c; df -k /dev/shm | tail -1 | awk '{print $2}'");
    Ulimit nofile = ULIMIT__INIT, core = ULIMIT__INIT;
    Ulimit *list[] = {&nofile, &core};

    nofile.name = (char *)"nofile";
    nofile.soft = 77;
    nofile.hard = 88;
    core.name = (char *)"core";
    core.soft = core.hard = 0;
    c->host.ulimits = list;
    c->host.n_ulimits = 2;
    c->host.shm_size_bytes = 4 << 20;
    assert_string_equal(output_of(c), "77\n0\n4096\n");
}

static void limit_on_descriptors_is_the_one_found_and_not_the_keepers(void **state)
{
    struct rlimit mine;
    struct rig_case *c = a_shell("ulimit -Sn");

    assert_int_equal(getrlimit(RLIMIT_NOFILE, &mine), 0);
    assert_int_equal(strtoul(output_of(c), NULL, 10), mine.rlim_cur);
}

static void kernel_variables_are_set_inside(void **state)
{
    struct rig_case *c = a_shell("cat /proc/sys/net/core/somaxconn /proc/sys/kernel/shmmni "
                                 "/proc/sys/net/ipv4/ip_unprivileged_port_start");
    KeyValue net = KEY_VALUE__INIT, ipc = KEY_VALUE__INIT;
    KeyValue *list[] = {&net, &ipc};

    net.key = (char *)"net.core.somaxconn";
    net.value = (char *)"1234";
    ipc.key = (char *)"kernel.shmmni";
    ipc.value = (char *)"55";
    c->host.sysctls = list;
    c->host.n_sysctls = 2;
    assert_string_equal(output_of(c), "1234\n55\n0\n");
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(exit_codes_come_back, need_rig),
        cmocka_unit_test_setup(signals_end_as_shells_say, need_rig),
        cmocka_unit_test_setup(end_takes_everything_inside_with_it, need_rig),
        cmocka_unit_test_setup(what_cannot_be_executed_says_why, need_rig),
        cmocka_unit_test_setup(file_that_is_no_program_is_not_executable, need_rig),
        cmocka_unit_test_setup(failed_step_names_itself_and_is_no_missing_program, need_rig),
        cmocka_unit_test_setup(unknown_step_refuses_the_whole_plan, need_rig),
        cmocka_unit_test_setup(container_is_launched_once, need_rig),
        cmocka_unit_test_setup(program_has_its_environment_directory_and_name, need_rig),
        cmocka_unit_test_setup(user_is_looked_up_in_the_containers_files, need_rig),
        cmocka_unit_test_setup(user_may_open_its_own_output_again, need_rig),
        cmocka_unit_test_setup(large_plan_passes_through_a_memfd, need_rig),
        cmocka_unit_test_setup(standard_input_is_null_or_a_pipe, need_rig),
        cmocka_unit_test_setup(terminal_is_the_controlling_one, need_rig),
        cmocka_unit_test_setup(terminal_takes_input_size_and_interrupts, need_rig),
        cmocka_unit_test_setup(binds_show_the_host_and_may_be_read_only, need_rig),
        cmocka_unit_test_setup(inner_mount_is_seen_through_the_outer_one, need_rig),
        cmocka_unit_test_setup(read_only_root_keeps_its_writable_places, need_rig),
        cmocka_unit_test_setup(root_is_changed_in_its_upper_directory_alone, need_rig),
        cmocka_unit_test_setup(empty_volume_gets_the_images_files, need_rig),
        cmocka_unit_test_setup(volume_with_something_in_it_is_left_alone, need_rig),
        cmocka_unit_test_setup(memory_limit_kills_and_is_reported, need_rig),
        cmocka_unit_test_setup(limits_of_processor_and_processes_apply, need_rig),
        cmocka_unit_test_setup(ulimits_and_shared_memory_are_as_asked, need_rig),
        cmocka_unit_test_setup(limit_on_descriptors_is_the_one_found_and_not_the_keepers, need_rig),
        cmocka_unit_test_setup(kernel_variables_are_set_inside, need_rig),
    };

    (void)argc;
    missing = rig_missing(argv[0]);
    return cmocka_run_group_tests(tests, open_rig, close_rig);
}
