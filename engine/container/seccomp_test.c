/* Programs are compiled once, found again, and never taken from a damaged file. */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>
#include <dirent.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <sys/stat.h>
#include <unistd.h>

#include "engine/container/seccomp.h"
#include "proto/base/file.h"
#include "proto/base/mem.h"

#define CAPS 0xa80425fbull

static char job[4096]; /* shoal-job beside this test's build directory, or empty */

struct rig {
    uv_loop_t loop;
    struct seccomp *s;
    char dir[64];
    int calls, fd_size;
    struct err error;
    bool closed;
};

static void rig_open(struct rig *r, const char *program)
{
    struct err e = {0};

    if (seccomp_open(&r->loop, program, r->dir, &r->s, &e) < 0)
        fail_msg("%s", e.text);
}

static void on_closed(void *ctx)
{
    ((struct rig *)ctx)->closed = true;
}

static void rig_close(struct rig *r)
{
    r->closed = false;
    seccomp_close(r->s, on_closed, r);
    assert_false(r->closed);
    uv_run(&r->loop, UV_RUN_DEFAULT);
    assert_true(r->closed);
}

static int begin(void **state)
{
    struct rig *r = mem_alloc(sizeof(*r));

    (void)snprintf(r->dir, sizeof(r->dir), "/tmp/shoal-seccomp-XXXXXX");
    assert_non_null(mkdtemp(r->dir));
    assert_int_equal(uv_loop_init(&r->loop), 0);
    *state = r;
    return 0;
}

static int end(void **state)
{
    struct rig *r = *state;
    AUTO_CLOSE
    int above = -1;

    assert_int_equal(uv_loop_close(&r->loop), 0);
    assert_int_equal(dir_open("/tmp", &above, NULL), 0);
    assert_int_equal(tree_remove(above, r->dir + strlen("/tmp/"), NULL), 0);
    free(r);
    return 0;
}

static void on_done(void *ctx, const struct err *e, int fd)
{
    struct rig *r = ctx;
    struct stat st;

    r->calls++;
    r->error = *e;
    r->fd_size = e->code == 0 && fstat(fd, &st) == 0 ? (int)st.st_size : -1;
}

static int want(struct rig *r, const char *profile, uint64_t caps, int *ret_fd)
{
    struct err e;

    return seccomp_program(r->s, profile, caps, ret_fd, on_done, r, &e);
}

static void need_job(void)
{
    if (!*job) {
        print_message("skip: shoal-job is not built\n");
        skip();
    }
}

static void program_is_compiled_once_and_then_at_hand(void **state)
{
    struct rig *r = *state;
    int fd = -1;

    need_job();
    rig_open(r, job);
    assert_int_equal(want(r, NULL, CAPS, &fd), ERR_AGAIN);
    assert_int_equal(want(r, NULL, CAPS, &fd), ERR_AGAIN); /* joins the first */
    assert_int_equal(r->calls, 0);
    uv_run(&r->loop, UV_RUN_DEFAULT);
    assert_int_equal(r->calls, 2);
    assert_int_equal(r->error.code, 0);
    assert_true(r->fd_size > 100 * (int)sizeof(struct sock_filter));
    assert_int_equal(want(r, NULL, CAPS, &fd), 0);
    assert_true(fcntl(fd, F_GET_SEALS) & F_SEAL_WRITE);
    assert_int_equal(want(r, NULL, CAPS | 1 << 21, &fd), ERR_AGAIN); /* other capabilities, another program */
    uv_run(&r->loop, UV_RUN_DEFAULT);
    assert_int_equal(r->calls, 3);
    rig_close(r);
}

static void restarted_node_finds_it_on_disk(void **state)
{
    struct rig *r = *state;
    int fd = -1;

    need_job();
    rig_open(r, job);
    assert_int_equal(want(r, NULL, CAPS, &fd), ERR_AGAIN);
    uv_run(&r->loop, UV_RUN_DEFAULT);
    rig_close(r);
    rig_open(r, "/nowhere/shoal-job");
    assert_int_equal(want(r, NULL, CAPS, &fd), 0);
    rig_close(r);
}

static void first_file(struct rig *r, char ret[600])
{
    DIR *d = opendir(r->dir);
    const struct dirent *entry;

    *ret = '\0';
    while ((entry = readdir(d)))
        if (entry->d_name[0] != '.')
            (void)snprintf(ret, 600, "%s/%s", r->dir, entry->d_name);
    closedir(d);
}

static void damaged_file_is_compiled_again(void **state)
{
    struct rig *r = *state;
    static const off_t places[] = {0, 8, 12, 44, 60};
    char path[600];
    int fd = -1;

    need_job();
    for (size_t i = 0; i < ARRAY_SIZE(places); i++) {
        unsigned char byte;

        rig_open(r, job);
        if (want(r, NULL, CAPS, &fd) == ERR_AGAIN)
            uv_run(&r->loop, UV_RUN_DEFAULT);
        rig_close(r);
        first_file(r, path);
        int file = open(path, O_RDWR | O_CLOEXEC);
        assert_int_equal(pread(file, &byte, 1, places[i]), 1);
        byte ^= 1;
        assert_int_equal(pwrite(file, &byte, 1, places[i]), 1);
        close(file);
        rig_open(r, job);
        assert_int_equal(want(r, NULL, CAPS, &fd), ERR_AGAIN);
        uv_run(&r->loop, UV_RUN_DEFAULT);
        assert_int_equal(r->error.code, 0);
        rig_close(r);
    }
}

static void bad_profile_names_its_part(void **state)
{
    struct rig *r = *state;
    int fd = -1;

    need_job();
    rig_open(r, job);
    for (int i = 1; i <= 2; i++) { /* an error is not remembered */
        assert_int_equal(want(r, "{\"defaultAction\":\"SCMP_ACT_MAYBE\"}", CAPS, &fd), ERR_AGAIN);
        uv_run(&r->loop, UV_RUN_DEFAULT);
        assert_int_equal(r->calls, i);
        assert_int_equal(r->error.code, ERR_INVALID);
        assert_non_null(strstr(r->error.text, "SCMP_ACT_MAYBE"));
    }
    rig_close(r);
}

static void missing_or_silent_job_is_an_error_and_not_a_wait(void **state)
{
    static const char *const programs[] = {"/nowhere/shoal-job", "/bin/true", "/bin/cat"};
    struct rig *r = *state;
    int fd = -1;

    for (size_t i = 0; i < ARRAY_SIZE(programs); i++) {
        rig_open(r, programs[i]);
        assert_int_equal(want(r, NULL, CAPS, &fd), ERR_AGAIN);
        assert_int_equal(r->calls, (int)i);
        uv_run(&r->loop, UV_RUN_DEFAULT);
        assert_int_equal(r->calls, (int)i + 1);
        assert_true(r->error.code < 0);
        rig_close(r);
    }
}

static void closing_cancels_and_cancelling_is_silent(void **state)
{
    struct rig *r = *state;
    int fd = -1;

    need_job();
    rig_open(r, job);
    assert_int_equal(want(r, NULL, CAPS, &fd), ERR_AGAIN);
    rig_close(r);
    assert_int_equal(r->calls, 1);
    assert_int_equal(r->error.code, ERR_CANCELED);
    rig_open(r, job);
    assert_int_equal(want(r, NULL, CAPS, &fd), ERR_AGAIN);
    seccomp_cancel(r->s, r);
    uv_run(&r->loop, UV_RUN_DEFAULT);
    assert_int_equal(r->calls, 1);
    rig_close(r);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, begin, end)

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        TEST(program_is_compiled_once_and_then_at_hand),
        TEST(restarted_node_finds_it_on_disk),
        TEST(damaged_file_is_compiled_again),
        TEST(bad_profile_names_its_part),
        TEST(missing_or_silent_job_is_an_error_and_not_a_wait),
        TEST(closing_cancels_and_cancelling_is_silent),
    };
    const char *slash = strstr(argv[0], "engine/container/");

    (void)argc;
    (void)signal(SIGPIPE, SIG_IGN); /* as in shoald: a job may end without having read */
    if (slash)
        (void)snprintf(job, sizeof(job), "%.*sshoal-job", (int)(slash - argv[0]), argv[0]);
    if (access(job, X_OK) < 0)
        *job = '\0';
    return cmocka_run_group_tests(tests, NULL, NULL);
}
