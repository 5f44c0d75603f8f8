/* Users and groups come out as Docker would read them, whatever an image has put into its files. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "engine/keeper/user.h"
#include "proto/base/buf.h"
#include "proto/base/entropy.h"
#include "proto/base/mem.h"

static const char passwd[] = "root:x:0:0:root:/root:/bin/sh\n"
                             "# a comment\n"
                             "\n"
                             "broken line\n"
                             "half:x:12\n"
                             "minus:x:-5:5::/home/minus:\n"
                             "huge:x:4294967296:5::/:\n"
                             "web:x:33:34:www:/var/www:/bin/false\n"
                             "7:x:1007:1008::/home/seven:/bin/sh\n"
                             "relative:x:40:40::home:/bin/sh\n"
                             "last:x:50:51::/last";
static const char group[] = "root:x:0:\n"
                            "web:x:34:\n"
                            "adm:x:4:web,root\n"
                            "audio:x:29:other,web\n"
                            "webby:x:30:webby\n"
                            "adm2:x:4:web\n"
                            "bad:x:zz:web\n"
                            "tty:x:5:";

static struct user resolve(const char *spec)
{
    struct user u;

    assert_int_equal(user_resolve(spec, NULL, 0, passwd, sizeof(passwd) - 1, group, sizeof(group) - 1, &u, NULL),
                     0);
    return u;
}

static void users_resolve_as_docker_does(void **state)
{
    static const struct {
        const char *spec;
        unsigned uid, gid;
        const char *home;
        unsigned groups;
    } cases[] = {
        {"", 0, 0, "/root", 2},
        {"root", 0, 0, "/root", 2},
        {"0", 0, 0, "/root", 2},
        {"web", 33, 34, "/var/www", 3},
        {"33", 33, 34, "/var/www", 3},
        {"web:tty", 33, 5, "/var/www", 1},
        {"web:99", 33, 99, "/var/www", 1},
        {"1234", 1234, 0, "/", 1},
        {"1234:5", 1234, 5, "/", 1},
        {"7", 1007, 1008, "/home/seven", 1},
        {"relative", 40, 40, "/", 1},
        {"last", 50, 51, "/last", 1},
        {"web:", 33, 34, "/var/www", 3},
        {":tty", 0, 5, "/root", 1},
        {"2147483647", 2147483647, 0, "/", 1},
    };

    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct user u = resolve(cases[i].spec);

        assert_int_equal(u.uid, cases[i].uid);
        assert_int_equal(u.gid, cases[i].gid);
        assert_string_equal(u.home, cases[i].home);
        assert_int_equal(u.group_count, cases[i].groups);
        assert_int_equal(u.groups[0], cases[i].gid);
    }
}

static void each_group_counts_once(void **state)
{
    struct user u = resolve("web");

    assert_int_equal(u.groups[1], 4);
    assert_int_equal(u.groups[2], 29);
}

static void unknown_names_and_impossible_numbers_are_refused(void **state)
{
    static const struct {
        const char *spec, *text;
    } cases[] = {
        {"nobody", "unable to find user nobody: no matching entries in passwd file"},
        {"web:nogroup", "unable to find group nogroup: no matching entries in group file"},
        {"minus", "unable to find user minus: no matching entries in passwd file"},
        {"huge", "unable to find user huge: no matching entries in passwd file"},
        {"half", "unable to find user half: no matching entries in passwd file"},
        {"-1", "unable to find user -1: no matching entries in passwd file"},
        {"2147483648", "unable to find user 2147483648: no matching entries in passwd file"},
        {"0:4294967295", "unable to find group 4294967295: no matching entries in group file"},
    };

    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct user u;
        struct err e;

        assert_int_equal(
            user_resolve(cases[i].spec, NULL, 0, passwd, sizeof(passwd) - 1, group, sizeof(group) - 1, &u, &e),
            ERR_INVALID);
        assert_string_equal(e.text, cases[i].text);
    }
}

static void further_groups_are_added(void **state)
{
    char adm[] = "adm", number[] = "77", unknown[] = "none";
    char *const more[] = {adm, number};
    char *const bad[] = {unknown};
    struct user u;
    struct err e;

    assert_int_equal(
        user_resolve("web:tty", more, 2, passwd, sizeof(passwd) - 1, group, sizeof(group) - 1, &u, NULL), 0);
    assert_int_equal(u.group_count, 3);
    assert_int_equal(u.groups[1], 4);
    assert_int_equal(u.groups[2], 77);
    assert_int_equal(user_resolve("web", bad, 1, passwd, sizeof(passwd) - 1, group, sizeof(group) - 1, &u, &e),
                     ERR_INVALID);
    assert_string_equal(e.text, "unable to find group none: no matching entries in group file");
}

static void image_without_files_has_root_and_numbers(void **state)
{
    struct user u;

    assert_int_equal(user_resolve("", NULL, 0, "", 0, "", 0, &u, NULL), 0);
    assert_int_equal(u.uid, 0);
    assert_string_equal(u.home, "/");
    assert_int_equal(user_resolve("5:6", NULL, 0, "", 0, "", 0, &u, NULL), 0);
    assert_int_equal(u.gid, 6);
    assert_int_equal(user_resolve("root", NULL, 0, "", 0, "", 0, &u, NULL), ERR_INVALID);
}

static void member_of_too_many_groups_is_refused(void **state)
{
    AUTO_BUF struct buf text = {0};
    struct user u;

    for (int i = 0; i < USER_GROUPS_MAX + 1; i++)
        buf_printf(&text, "g%d:x:%d:web\n", i, 100 + i);
    assert_int_equal(
        user_resolve("web", NULL, 0, passwd, sizeof(passwd) - 1, buf_bytes(&text), text.length, &u, NULL),
        ERR_LIMIT);
}

static void random_files_harm_nobody(void **state)
{
    static const char alphabet[] = "web:x0123456789,\n\n::/\0-";
    struct entropy_seeded random;
    uint64_t seed = (uint64_t)time(NULL);

    print_message("seed %llu\n", (unsigned long long)seed);
    entropy_seeded_init(&random, seed);
    for (int round = 0; round < 3000; round++) {
        size_t size = entropy_below(&random.base, 200);
        AUTO_FREE
        char *text = mem_alloc(size + 1);
        struct user u;

        for (size_t i = 0; i < size; i++)
            text[i] = alphabet[entropy_below(&random.base, sizeof(alphabet) - 1)];
        if (user_resolve("web:x", NULL, 0, text, size, text, size, &u, NULL) == 0)
            assert_true(u.uid <= 2147483647 && u.gid <= 2147483647 && u.home[0] == '/');
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(users_resolve_as_docker_does),
        cmocka_unit_test(each_group_counts_once),
        cmocka_unit_test(unknown_names_and_impossible_numbers_are_refused),
        cmocka_unit_test(further_groups_are_added),
        cmocka_unit_test(image_without_files_has_root_and_numbers),
        cmocka_unit_test(member_of_too_many_groups_is_refused),
        cmocka_unit_test(random_files_harm_nobody),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
