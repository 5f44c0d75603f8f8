/* The command line: what is read, and that whatever makes no sense is refused by the name of its option and value.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "agent/options.h"
#include "proto/base/mem.h"

/* Read words separated by '|'. */
static int read_line(const char *line, struct options *ret, struct err *e)
{
    static char words[8192];
    char *argv[64] = {(char *)"shoald"}, *at = words;
    int argc = 1;

    assert_true(strlen(line) < sizeof(words));
    memcpy(words, line, strlen(line) + 1);
    while (*line && at) {
        argv[argc++] = at;
        at = strchr(at, '|');
        if (at)
            *at++ = '\0';
    }
    return options_read(argc, argv, ret, e);
}

static void without_options_everything_has_a_default(void **state)
{
    struct options o;

    assert_int_equal(read_line("", &o, NULL), 0);
    assert_int_equal(o.what, OPTIONS_RUN);
    assert_string_equal(o.data_dir, "/var/lib/shoal");
    assert_string_equal(o.run_dir, "/run/shoal");
    assert_string_equal(o.cgroup_parent, "");
    assert_null(o.group);
    assert_int_equal(o.host_count, 0);
    assert_int_equal(o.warm_min, 2);
    assert_int_equal(o.warm_max, 16);
    assert_int_equal(o.election_ms, 0);
    assert_int_equal(o.heartbeat_ms, 0);
    assert_int_equal(o.log_level, LOG_LEVEL_INFO);
}

static void every_option_is_taken_in_each_of_its_forms(void **state)
{
    struct options o;

    assert_int_equal(read_line("--data-dir|/d|--run-dir=/r|-H|unix:///a|--host=tcp://127.0.0.1:2375|-Hunix:///b|"
                               "--host|fd://|-G|adm|--log-level|debug|--cgroup-parent|/x|--warm=3:4|"
                               "--raft-election-ms|900|--raft-heartbeat-ms=100",
                               &o, NULL),
                     0);
    assert_string_equal(o.data_dir, "/d");
    assert_string_equal(o.run_dir, "/r");
    assert_int_equal(o.host_count, 4);
    assert_string_equal(o.hosts[0], "unix:///a");
    assert_string_equal(o.hosts[1], "tcp://127.0.0.1:2375");
    assert_string_equal(o.hosts[2], "unix:///b");
    assert_string_equal(o.hosts[3], "fd://");
    assert_string_equal(o.group, "adm");
    assert_int_equal(o.log_level, LOG_LEVEL_DEBUG);
    assert_string_equal(o.cgroup_parent, "/x");
    assert_int_equal(o.warm_min, 3);
    assert_int_equal(o.warm_max, 4);
    assert_int_equal(o.election_ms, 900);
    assert_int_equal(o.heartbeat_ms, 100);
}

static void warm_sandboxes_may_be_given_by_their_least_number(void **state)
{
    static const struct {
        const char *line;
        unsigned least, most;
    } cases[] = {{"--warm=0", 0, 0}, {"--warm=1", 1, 16}, {"--warm=40", 40, 40}, {"--warm=0:8", 0, 8}};

    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct options o;

        assert_int_equal(read_line(cases[i].line, &o, NULL), 0);
        assert_int_equal(o.warm_min, cases[i].least);
        assert_int_equal(o.warm_max, cases[i].most);
    }
}

static void help_and_version_win_over_what_else_is_there(void **state)
{
    struct options o;

    assert_int_equal(read_line("--version|--data-dir|/same|--run-dir|/same", &o, NULL), 0);
    assert_int_equal(o.what, OPTIONS_VERSION);
    assert_int_equal(read_line("--version|--help", &o, NULL), 0);
    assert_int_equal(o.what, OPTIONS_HELP);
    assert_int_equal(read_line("--help|--version", &o, NULL), 0);
    assert_int_equal(o.what, OPTIONS_HELP);
}

static void help_names_every_option(void **state)
{
    static const char *const names[] = {
        "--data-dir", "--run-dir",          "-H, --host",          "-G, --group", "--log-level", "--cgroup-parent",
        "--warm",     "--raft-election-ms", "--raft-heartbeat-ms", "--version",   "--help"};

    for (size_t i = 0; i < ARRAY_SIZE(names); i++)
        assert_non_null(strstr(options_usage, names[i]));
}

static void nonsense_is_refused_by_name_and_value(void **state)
{
    static const struct {
        const char *line, *first, *second; /* texts that the error must hold */
    } cases[] = {
        {"--bogus", "unknown option", "--bogus"},
        {"stray|--bogus=1", "unknown option", "--bogus=1"},
        {"-x", "unknown option", "-x"},
        {"-xH", "unknown option", "-x"},
        {"--help=me", "--help takes no value", "--help=me"},
        {"--data-dir", "--data-dir needs a value", ""},
        {"--host", "--host needs a value", ""},
        {"-H", "-H needs a value", ""},
        {"stray", "unexpected argument", "\"stray\""},
        {"--warm=1|stray|--warm=2", "unexpected argument", "\"stray\""},
        {"--data-dir=", "--data-dir \"\"", "a directory"},
        {"--run-dir=", "--run-dir \"\"", "a directory"},
        {"--group=", "--group \"\"", "group"},
        {"--log-level=loud", "--log-level \"loud\"", "debug, info, warn or error"},
        {"--log-level=", "--log-level \"\"", "debug"},
        {"--cgroup-parent=../x", "--cgroup-parent \"../x\"", "without \"..\""},
        {"--cgroup-parent=/a/..", "--cgroup-parent \"/a/..\"", "without \"..\""},
        {"--warm=x", "--warm \"x\"", "0 to 256"},
        {"--warm=", "--warm \"\"", "0 to 256"},
        {"--warm=257", "--warm \"257\"", "0 to 256"},
        {"--warm=-1", "--warm \"-1\"", "0 to 256"},
        {"--warm= 1", "--warm \" 1\"", "0 to 256"},
        {"--warm=4:3", "--warm \"4:3\"", "4 to 256"},
        {"--warm=4:", "--warm \"4:\"", "4 to 256"},
        {"--warm=4:5:6", "--warm \"4:5:6\"", "4 to 256"},
        {"--warm=99999999999999999999", "--warm \"99999999999999999999\"", "0 to 256"},
        {"--raft-election-ms=49", "--raft-election-ms \"49\"", "50 to 60000"},
        {"--raft-election-ms=5e3", "--raft-election-ms \"5e3\"", "50 to 60000"},
        {"--raft-election-ms=500:600", "--raft-election-ms \"500:600\"", "50 to 60000"},
        {"--raft-heartbeat-ms=4", "--raft-heartbeat-ms \"4\"", "5 to 10000"},
        {"--raft-heartbeat-ms=200", "--raft-heartbeat-ms 200", "--raft-election-ms 500"},
        {"--raft-election-ms=100", "--raft-heartbeat-ms 50", "--raft-election-ms 100"},
        {"--data-dir=/x|--run-dir=/x", "--run-dir", "both /x"},
        {"--host=", "--host \"\"", "unix:///path"},
        {"--host=/run/x.sock", "--host \"/run/x.sock\"", "unix:///path"},
        {"--host=unix://x.sock", "--host \"unix://x.sock\"", "absolute path"},
        {"--host=http://127.0.0.1:1", "--host \"http://127.0.0.1:1\"", "unix:///path"},
        {"--host=fd://3", "--host \"fd://3\"", "fd://"},
        {"--host=tcp://", "--host \"tcp://\"", "numeric address"},
        {"--host=tcp://127.0.0.1", "--host \"tcp://127.0.0.1\"", "numeric address"},
        {"--host=tcp://localhost:2375", "--host \"tcp://localhost:2375\"", "numeric address"},
        {"--host=tcp://127.0.0.1:70000", "--host \"tcp://127.0.0.1:70000\"", "numeric address"},
        {"--host=unix:///a|--host=unix:///a", "--host \"unix:///a\"", "twice"},
    };

    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct options o = {.data_dir = "untouched"};
        struct err e = {0};

        if (read_line(cases[i].line, &o, &e) != ERR_INVALID || !strstr(e.text, cases[i].first) ||
            !strstr(e.text, cases[i].second))
            fail_msg("%s: %s", cases[i].line, e.text);
        assert_string_equal(o.data_dir, "untouched");
    }
}

static void api_without_tls_is_for_this_machine_alone(void **state)
{
    static const char *const local[] = {"127.0.0.1:2375", "127.9.8.7:0", "[::1]:2375", "[::ffff:127.0.0.1]:1"};
    static const char *const reachable[] = {"0.0.0.0:2375",     "10.0.0.1:2375",       "[::]:2375",
                                            "[fd00::1]:2375",   "[::ffff:10.0.0.1]:1", "128.0.0.1:1",
                                            "126.255.255.255:1"};

    for (size_t i = 0; i < ARRAY_SIZE(local); i++) {
        AUTO_FREE
        char *line = mem_printf("--host=tcp://%s", local[i]);
        struct options o;

        assert_int_equal(read_line(line, &o, NULL), 0);
    }
    for (size_t i = 0; i < ARRAY_SIZE(reachable); i++) {
        AUTO_FREE
        char *line = mem_printf("--host=tcp://%s", reachable[i]);
        struct options o;
        struct err e;

        assert_int_equal(read_line(line, &o, &e), ERR_INVALID);
        assert_non_null(strstr(e.text, reachable[i]));
        assert_non_null(strstr(e.text, "TLS"));
    }
}

static void socket_paths_fit_into_an_address(void **state)
{
    char line[200] = "--host=unix:///";
    struct options o;

    memset(line + strlen(line), 'p', 106); /* "/" and these: 107 bytes and a zero */
    assert_int_equal(read_line(line, &o, NULL), 0);
    line[strlen(line)] = 'p';
    assert_int_equal(read_line(line, &o, NULL), ERR_INVALID);
}

static void hosts_are_bounded(void **state)
{
    char line[1024] = "";
    struct options o;
    struct err e;

    for (int i = 0; i < OPTIONS_HOSTS_MAX; i++)
        (void)snprintf(line + strlen(line), sizeof(line) - strlen(line), "%s-Hunix:///s%d", i ? "|" : "", i);
    assert_int_equal(read_line(line, &o, NULL), 0);
    (void)snprintf(line + strlen(line), sizeof(line) - strlen(line), "|-Hunix:///more");
    assert_int_equal(read_line(line, &o, &e), ERR_INVALID);
    assert_non_null(strstr(e.text, "unix:///more"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(without_options_everything_has_a_default),
        cmocka_unit_test(every_option_is_taken_in_each_of_its_forms),
        cmocka_unit_test(warm_sandboxes_may_be_given_by_their_least_number),
        cmocka_unit_test(help_and_version_win_over_what_else_is_there),
        cmocka_unit_test(help_names_every_option),
        cmocka_unit_test(nonsense_is_refused_by_name_and_value),
        cmocka_unit_test(api_without_tls_is_for_this_machine_alone),
        cmocka_unit_test(socket_paths_fit_into_an_address),
        cmocka_unit_test(hosts_are_bounded),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
