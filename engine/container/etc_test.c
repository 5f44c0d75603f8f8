/* A container's files in /etc: made at its first start, kept until it is removed, made again after a reboot. */
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "engine/container/etc.h"
#include "engine/container/life_testing.h"
#include "proto/base/file.h"
#include "proto/base/siphash.h"

static const char *place(const char *id, const char *file)
{
    return arena_printf(&arena, "run/etc/%s/%s", id, file);
}

static const char *content(const char *id, const char *file)
{
    struct buf *text = arena_alloc(&arena, sizeof(*text));

    *text = (struct buf){0};
    if (file_read(dir_fd, place(id, file), 4096, text, &e) < 0)
        fail_msg("%s", e.text);
    const char *copy = arena_strdup(&arena, text->length ? buf_str(text) : "");
    buf_fini(text);
    return copy;
}

static void put(const char *path, const char *text)
{
    int fd = openat(dir_fd, path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);

    assert_true(fd >= 0);
    assert_int_equal(write_all(fd, text, strlen(text), &e), 0);
    close(fd);
}

static void end(const char *id)
{
    fake_exit(id, 0);
    assert_int_equal(life_of(id), LIFE_ENDED);
}

static void files_are_made_at_the_first_start(void **state)
{
    struct stat st;

    a_config();
    config.hostname = (char *)"alpha";
    host.extra_hosts = (char *[]){(char *)"db:10.1.2.3"};
    host.n_extra_hosts = 1;
    host.dns = (char *[]){(char *)"192.0.2.1"};
    host.n_dns = 1;
    const char *id = create("web");
    assert_false(there(place(id, "hosts")));
    start(id);
    assert_non_null(strstr(content(id, "hosts"), "10.1.2.3\tdb\n"));
    assert_string_equal(content(id, "hostname"), "alpha\n");
    assert_non_null(strstr(content(id, "resolv.conf"), "nameserver 192.0.2.1\n"));
    assert_int_equal(fstatat(dir_fd, place(id, "hosts"), &st, 0), 0);
    assert_int_equal(st.st_mode & 07777, 0644);
    assert_false(there(arena_printf(&arena, "run/etc/.%s", id)));
}

static void files_stay_through_starts_and_restarts_of_the_engine(void **state)
{
    a_config();
    const char *id = a_running();
    put(place(id, "hosts"), "its own\n");
    put(place(id, "resolv.conf"), "its own too\n");
    end(id);
    start(id);
    end(id);
    reopen();
    ready();
    start(id);
    assert_string_equal(content(id, "hosts"), "its own\n");
    assert_string_equal(content(id, "resolv.conf"), "its own too\n");
}

static void files_are_made_again_after_a_reboot(void **state)
{
    a_config();
    config.hostname = (char *)"alpha";
    const char *id = a_running();
    end(id);
    close_engine();
    assert_int_equal(tree_remove(dir_fd, "run", &e), 0);
    open_engine();
    ready();
    start(id);
    assert_string_equal(content(id, "hostname"), "alpha\n");
}

static void resolv_conf_follows_the_configuration_unless_the_container_wrote_it(void **state)
{
    struct container *c;

    a_config();
    const char *id = a_running();
    const char *ours = content(id, "resolv.conf");
    end(id);
    assert_int_equal(container_find(en, id, &c, &e), 0);
    /* What lies there is what we wrote, of an older generation. */
    put(place(id, "resolv.conf"), "");
    c->record->resolv_hash = siphash(0, 0, "", 0) | 1;
    c->resolv_seen = 0;
    start(id);
    assert_string_equal(content(id, "resolv.conf"), ours);
}

static void files_go_with_the_container(void **state)
{
    struct answer a = {0};

    a_config();
    const char *id = a_running();
    end(id);
    assert_int_equal(engine_remove(en, id, false, false, answered, &a, &e), 0);
    await(&a);
    assert_false(there(arena_printf(&arena, "run/etc/%s", id)));
}

static void files_of_nobody_go_at_the_next_start(void **state)
{
    static const char stranger[] = "abababababababababababababababababababababababababababababababab";

    a_config();
    const char *id = a_running();
    close_engine();
    const char *whole = arena_printf(&arena, "run/etc/%s", stranger),
               *half = arena_printf(&arena, "run/etc/.%s", id);
    assert_int_equal(mkdirat(dir_fd, whole, 0700), 0);
    put(place(stranger, "hosts"), "x");
    assert_int_equal(mkdirat(dir_fd, half, 0700), 0);
    open_engine();
    assert_false(there(whole));
    assert_false(there(half));
    assert_true(there(place(id, "hosts")));
}

static void files_that_cannot_be_made_fail_the_start_and_leave_nothing(void **state)
{
    struct answer a = {0};

    a_config();
    const char *id = create(NULL), *aside = arena_printf(&arena, "run/etc/.%s", id);
    put(aside, "in the way");
    assert_int_not_equal(engine_start(en, id, answered, &a, &e), 0);
    assert_non_null(strstr(e.text, "/etc/hosts"));
    assert_int_equal(unlinkat(dir_fd, aside, 0), 0);
    assert_int_equal(life_of(id), LIFE_CREATED);
    start(id);
    assert_true(there(place(id, "resolv.conf")));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(files_are_made_at_the_first_start),
        TEST(files_stay_through_starts_and_restarts_of_the_engine),
        TEST(files_are_made_again_after_a_reboot),
        TEST(resolv_conf_follows_the_configuration_unless_the_container_wrote_it),
        TEST(files_go_with_the_container),
        TEST(files_of_nobody_go_at_the_next_start),
        TEST(files_that_cannot_be_made_fail_the_start_and_leave_nothing),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
