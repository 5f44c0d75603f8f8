/* Image configs: read, written, changed. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "engine/image/auth.h"
#include "engine/image/config.h"
#include "engine/image/progress.h"
#include "proto/base/mem.h"

#define A "sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"

static const char full[] =
    "{\"architecture\":\"amd64\",\"variant\":\"v2\",\"author\":\"joe\",\"comment\":\"hi\",\"config\":{\"User\":\"1:"
    "2\","
    "\"ExposedPorts\":{\"80/tcp\":{},\"443/tcp\":{}},\"Env\":[\"A=b\",\"C=d\"],\"Entrypoint\":[\"/"
    "e\"],\"Cmd\":[\"x\",\"y\"],"
    "\"Healthcheck\":{\"Test\":[\"CMD\",\"t\"],\"Interval\":1000000000,\"Retries\":3},\"Volumes\":{\"/v\":{},\"/"
    "a\":{}},"
    "\"WorkingDir\":\"/w\",\"Labels\":{\"z\":\"1\",\"a\":\"2\"},\"StopSignal\":\"SIGINT\",\"Shell\":[\"/bin/"
    "bash\",\"-c\"],"
    "\"OnBuild\":[\"RUN x\"]},\"created\":\"2024-01-02T03:04:05.000000006Z\",\"history\":[{\"created_by\":\"x\"}],"
    "\"os\":\"linux\",\"rootfs\":{\"type\":\"layers\",\"diff_ids\":[\"" A "\"]}}";

static void config_is_read(void **state)
{
    AUTO_ARENA
    struct arena a;
    ImageConfig *c;
    struct err e = {0};

    arena_init(&a);
    if (image_config_parse(full, strlen(full), &a, &c, &e) < 0)
        fail_msg("%s", e.text);
    assert_string_equal(c->architecture, "amd64");
    assert_string_equal(c->variant, "v2");
    assert_string_equal(c->author, "joe");
    assert_string_equal(c->comment, "hi");
    assert_string_equal(c->user, "1:2");
    assert_int_equal(c->n_exposed_ports, 2);
    assert_string_equal(c->exposed_ports[0], "443/tcp"); /* sorted */
    assert_int_equal(c->n_env, 2);
    assert_string_equal(c->env[1], "C=d"); /* in order */
    assert_string_equal(c->entrypoint[0], "/e");
    assert_string_equal(c->command[1], "y");
    assert_string_equal(c->health->test[1], "t");
    assert_int_equal(c->health->interval_ns, 1000000000);
    assert_int_equal(c->health->retries, 3);
    assert_false(c->health->has_timeout_ns);
    assert_string_equal(c->volumes[0], "/a");
    assert_string_equal(c->working_dir, "/w");
    assert_string_equal(c->labels[0]->key, "a");
    assert_string_equal(c->labels[1]->value, "1");
    assert_string_equal(c->stop_signal, "SIGINT");
    assert_string_equal(c->shell[0], "/bin/bash");
    assert_string_equal(c->on_build[0], "RUN x");
    assert_int_equal(c->created_ns, 1704164645000000006);
    assert_int_equal(c->n_diff_ids, 1);
}

static void small_and_old_configs_are_read(void **state)
{
    static const char *const rows[] = {
        "{}",
        "{\"config\":null,\"rootfs\":null,\"created\":null}",
        "{\"config\":{\"Cmd\":\"sh\",\"Entrypoint\":null,\"Labels\":null,\"Volumes\":null,\"ExposedPorts\":null}}",
        "{\"os\":\"\",\"created\":\"\",\"container_config\":{\"x\":1},\"docker_version\":\"1.0\"}",
    };

    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        AUTO_ARENA
        struct arena a;
        ImageConfig *c;
        struct err e = {0};

        arena_init(&a);
        if (image_config_parse(rows[i], strlen(rows[i]), &a, &c, &e) < 0)
            fail_msg("%s: %s", rows[i], e.text);
        if (i == 2)
            assert_string_equal(c->command[0], "sh");
    }
}

static void bad_configs_are_refused_with_the_field(void **state)
{
    static const struct {
        const char *json, *why;
        int code;
    } rows[] = {
        {"", "invalid JSON", ERR_INVALID},
        {"[]", "no JSON object", ERR_INVALID},
        {"{\"os\":\"windows\"}", "operating system \"windows\" cannot be used", ERR_UNSUPPORTED},
        {"{\"os\":7}", "os", ERR_INVALID},
        {"{\"config\":[]}", "config", ERR_INVALID},
        {"{\"config\":{\"Env\":\"x\"}}", "config.Env", ERR_INVALID},
        {"{\"config\":{\"Env\":[1]}}", "config.Env", ERR_INVALID},
        {"{\"config\":{\"Cmd\":[[]]}}", "config.Cmd", ERR_INVALID},
        {"{\"config\":{\"Cmd\":7}}", "config.Cmd", ERR_INVALID},
        {"{\"config\":{\"Labels\":{\"a\":1}}}", "config.Labels: \"a\"", ERR_INVALID},
        {"{\"config\":{\"Volumes\":[\"/v\"]}}", "config.Volumes", ERR_INVALID},
        {"{\"config\":{\"User\":\"a\\u0000b\"}}", "config.User", ERR_INVALID},
        {"{\"config\":{\"Healthcheck\":{\"Interval\":\"1s\"}}}", "config.Healthcheck.Interval", ERR_INVALID},
        {"{\"config\":{\"Healthcheck\":{\"Retries\":-1}}}", "config.Healthcheck.Retries", ERR_INVALID},
        {"{\"created\":\"yesterday\"}", "created \"yesterday\"", ERR_INVALID},
        {"{\"rootfs\":{\"type\":\"ostree\"}}", "rootfs.type \"ostree\"", ERR_UNSUPPORTED},
        {"{\"rootfs\":{\"diff_ids\":[\"x\"]}}", "rootfs.diff_ids[0] \"x\"", ERR_INVALID},
        {"{\"rootfs\":{\"diff_ids\":[\"" A "\",\"../..\"]}}", "rootfs.diff_ids[1] \"../..\"", ERR_INVALID},
        {"{\"rootfs\":{\"diff_ids\":{}}}", "rootfs.diff_ids", ERR_INVALID},
    };

    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        AUTO_ARENA
        struct arena a;
        ImageConfig *c;
        struct err e = {0};

        arena_init(&a);
        int rc = image_config_parse(rows[i].json, strlen(rows[i].json), &a, &c, &e);
        if (rc != rows[i].code || !strstr(e.text, rows[i].why))
            fail_msg("%s: code %d, \"%s\" without \"%s\"", rows[i].json, rc, e.text, rows[i].why);
    }
}

static void written_config_reads_back_as_itself(void **state)
{
    AUTO_ARENA
    struct arena a;
    ImageConfig *c, *again;
    struct buf one = {0}, two = {0};

    arena_init(&a);
    assert_int_equal(image_config_parse(full, strlen(full), &a, &c, NULL), 0);
    image_config_write(c, "import", &one);
    assert_int_equal(image_config_parse(buf_bytes(&one), one.length, &a, &again, NULL), 0);
    image_config_write(again, "import", &two);
    assert_string_equal(buf_str(&one), buf_str(&two));
    assert_non_null(strstr(buf_str(&one), "\"created_by\":\"import\""));
    assert_int_equal(protobuf_c_message_get_packed_size(&c->base),
                     protobuf_c_message_get_packed_size(&again->base));
    buf_fini(&one);
    buf_fini(&two);
}

/* --- changes ------------------------------------------------------------------------------------- */

static void changes_are_applied(void **state)
{
    static const char *const changes[] = {
        "CMD echo hi",
        "cmd [\"a\", \"b c\"]",
        "ENTRYPOINT /run me",
        "ENV A=1 B=\"two words\" C=\\\"q",
        "ENV A 3 and more",
        "ENV D='single \\n'",
        "EXPOSE 80 90-92/udp 443/tcp",
        "EXPOSE 80",
        "LABEL b=2 a=\"1 1\"",
        "LABEL b=3",
        "VOLUME /z /y",
        "VOLUME [\"/x y\"]",
        "USER joe:users",
        "WORKDIR /a",
        "WORKDIR b/c",
        "STOPSIGNAL SIGUSR1",
        "ONBUILD RUN x",
        "HEALTHCHECK --interval=1m30s --timeout=500ms --retries=4 CMD [\"t\",\"u\"]",
        "  workdir   d  ",
    };
    static const char expected[] =
        "{\"architecture\":\"\",\"config\":{\"User\":\"joe:users\",\"ExposedPorts\":{\"443/tcp\":{},\"80/tcp\":{},"
        "\"90/udp\":{},\"91/udp\":{},\"92/udp\":{}},\"Env\":[\"A=3 and more\",\"B=two words\",\"C=\\\"q\","
        "\"D=single \\\\n\"],\"Entrypoint\":[\"/bin/sh\",\"-c\",\"/run me\"],\"Cmd\":[\"a\",\"b "
        "c\"],\"Healthcheck\":{"
        "\"Test\":[\"CMD\",\"t\",\"u\"],\"Interval\":90000000000,\"Timeout\":500000000,\"Retries\":4},\"Volumes\":{"
        "\"/x y\":{},\"/y\":{},\"/z\":{}},\"WorkingDir\":\"/a/b/c/d\",\"OnBuild\":[\"RUN "
        "x\"],\"Labels\":{\"a\":\"1 1\","
        "\"b\":\"3\"},\"StopSignal\":\"SIGUSR1\"},\"created\":\"0001-01-01T00:00:00Z\",\"history\":[{\"created\":"
        "\"0001-01-01T00:00:00Z\"}],\"os\":\"\",\"rootfs\":{\"type\":\"layers\",\"diff_ids\":[]}}";
    AUTO_ARENA
    struct arena a;
    ImageConfig c = IMAGE_CONFIG__INIT;
    struct buf json = {0};
    struct err e = {0};

    arena_init(&a);
    if (image_config_change(&c, changes, ARRAY_SIZE(changes), &a, &e) < 0)
        fail_msg("%s", e.text);
    image_config_write(&c, NULL, &json);
    assert_string_equal(buf_str(&json), expected);
    buf_fini(&json);
}

static void changes_add_to_what_was_read(void **state)
{
    static const char *const changes[] = {"ENV E=f",   "EXPOSE 1",      "VOLUME /b",
                                          "LABEL m=n", "ONBUILD RUN y", "ENV A=new"};
    AUTO_ARENA
    struct arena a;
    ImageConfig *c;

    arena_init(&a);
    assert_int_equal(image_config_parse(full, strlen(full), &a, &c, NULL), 0);
    assert_int_equal(image_config_change(c, changes, ARRAY_SIZE(changes), &a, NULL), 0);
    assert_int_equal(c->n_env, 3);
    assert_string_equal(c->env[0], "A=new");
    assert_int_equal(c->n_exposed_ports, 3);
    assert_int_equal(c->n_volumes, 3);
    assert_string_equal(c->volumes[1], "/b");
    assert_int_equal(c->n_labels, 3);
    assert_string_equal(c->labels[1]->key, "m");
}

static void bad_changes_are_refused(void **state)
{
    static const struct {
        const char *change, *why;
    } rows[] = {
        {"", "is not a valid change command"},
        {"RUN x", "RUN is not a valid change command"},
        {"FROM scratch", "FROM is not a valid"},
        {"CMDx", "CMDx is not a valid"},
        {"ENV", "needs a name and a value"},
        {"ENV A", "needs a name and a value"},
        {"ENV =x", "name=value"},
        {"ENV A=1 B", "name=value"},
        {"ENV A=\"x", "quote is not closed"},
        {"LABEL x", "needs a name and a value"},
        {"EXPOSE", "needs ports"},
        {"EXPOSE 0", "a port is"},
        {"EXPOSE 65536", "a port is"},
        {"EXPOSE 5-3", "a port is"},
        {"EXPOSE x", "a port is"},
        {"EXPOSE -1", "a port is"},
        {"EXPOSE 80/icmp", "a port is"},
        {"EXPOSE 80/tcp/udp", "a port is"},
        {"EXPOSE 1-65535", "too many ports"},
        {"USER", "one word"},
        {"USER a b", "one word"},
        {"WORKDIR", "needs a path"},
        {"VOLUME", "needs paths"},
        {"VOLUME [\"\"]", "a path is empty"},
        {"STOPSIGNAL", "one word"},
        {"ONBUILD", "needs an instruction"},
        {"HEALTHCHECK", "needs CMD"},
        {"HEALTHCHECK --interval=soon CMD x", "an option"},
        {"HEALTHCHECK --nonsense=1 CMD x", "an option"},
    };

    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        AUTO_ARENA
        struct arena a;
        ImageConfig c = IMAGE_CONFIG__INIT;
        struct err e = {0};

        arena_init(&a);
        if (image_config_change(&c, &rows[i].change, 1, &a, &e) != ERR_INVALID || !strstr(e.text, rows[i].why))
            fail_msg("\"%s\": \"%s\" without \"%s\"", rows[i].change, e.text, rows[i].why);
    }
}

/* --- progress ------------------------------------------------------------------------------------ */

static void progress_is_written_as_clients_know_it(void **state)
{
    struct buf b = {0};
    static const struct {
        uint64_t bytes;
        const char *shown;
    } sizes[] = {{0, "0B"},           {999, "999B"},          {1000, "1kB"},
                 {1536, "1.536kB"},   {2097152, "2.097MB"},   {123456789, "123.5MB"},
                 {5000000000, "5GB"}, {UINT64_MAX, "18.45EB"}};

    for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
        char shown[16];

        progress_size(sizes[i].bytes, shown);
        assert_string_equal(shown, sizes[i].shown);
    }
    progress_message(&b, "Pulling from library/web", "latest");
    assert_string_equal(buf_str(&b), "{\"status\":\"Pulling from library/web\",\"id\":\"latest\"}");
    buf_clear(&b);
    progress_message(&b, "Digest: " A, NULL);
    assert_string_equal(buf_str(&b), "{\"status\":\"Digest: " A "\"}");
    buf_clear(&b);
    progress_step(&b, "Pulling fs layer", 0, 0, "aaaaaaaaaaaa");
    assert_string_equal(buf_str(&b),
                        "{\"status\":\"Pulling fs layer\",\"progressDetail\":{},\"id\":\"aaaaaaaaaaaa\"}");
    buf_clear(&b);
    progress_step(&b, "Downloading", 500000, 2000000, "aaaaaaaaaaaa");
    assert_string_equal(buf_str(&b),
                        "{\"status\":\"Downloading\",\"progressDetail\":{\"current\":500000,\"total\":2000000},"
                        "\"progress\":\"[============\\u003e                                      ]    500kB/2MB\","
                        "\"id\":\"aaaaaaaaaaaa\"}");
    buf_clear(&b);
    progress_step(&b, "Extracting", 7, 7, "aaaaaaaaaaaa");
    assert_non_null(strstr(buf_str(&b), "[==================================================\\u003e]       7B/7B"));
    buf_clear(&b);
    progress_step(&b, "Downloading", 7, 0, "aaaaaaaaaaaa");
    assert_non_null(strstr(buf_str(&b), "\"progressDetail\":{\"current\":7},\"progress\":\"      7B\""));
    buf_clear(&b);
    progress_stream(&b, "Loaded image: web:1\n");
    assert_string_equal(buf_str(&b), "{\"stream\":\"Loaded image: web:1\\n\"}");
    buf_fini(&b);
}

/* --- credentials --------------------------------------------------------------------------------- */

static void credentials_are_decoded(void **state)
{
    static const struct {
        const char *header, *user, *password, *identity, *registry;
    } rows[] = {
        {NULL, "-", "-", "-", "-"},
        {"", "-", "-", "-", "-"},
        {"e30=", "-", "-", "-", "-"}, /* {} */
        {"e30", "-", "-", "-", "-"},
        {"bnVsbA==", "-", "-", "-", "-"}, /* null */
        /* {"username":"joe","password":"s3c>?ret","serveraddress":"x"} */
        {"eyJ1c2VybmFtZSI6ImpvZSIsInBhc3N3b3JkIjoiczNjPj9yZXQiLCJzZXJ2ZXJhZGRyZXNzIjoieCJ9", "joe", "s3c>?ret", "-",
         "-"},
        /* {"identitytoken":"id"} */
        {"eyJpZGVudGl0eXRva2VuIjoiaWQifQ==", "-", "-", "id", "-"},
        /* {"registrytoken":"reg","username":""} */
        {"eyJyZWdpc3RyeXRva2VuIjoicmVnIiwidXNlcm5hbWUiOiIifQ==", "-", "-", "-", "reg"},
        /* {"auth":"am9lOmE6Yg=="}, that is joe:a:b */
        {"eyJhdXRoIjoiYW05bE9tRTZZZz09In0=", "joe", "a:b", "-", "-"},
    };

    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        AUTO_ARENA
        struct arena a;
        struct registry_auth auth;
        struct err e = {0};

        arena_init(&a);
        if (registry_auth_parse(rows[i].header, &a, &auth, &e) < 0)
            fail_msg("row %zu: %s", i, e.text);
        assert_string_equal(auth.user ? auth.user : "-", rows[i].user);
        assert_string_equal(auth.password ? auth.password : "-", rows[i].password);
        assert_string_equal(auth.identity_token ? auth.identity_token : "-", rows[i].identity);
        assert_string_equal(auth.registry_token ? auth.registry_token : "-", rows[i].registry);
    }
}

static void bad_credentials_are_refused_without_being_shown(void **state)
{
    static const char *const rows[] = {
        "?",  /* no base64 */
        "e3", /* cut: "{" */
        "e",
        "e30=\r\n",
        "c2VjcmV0",                     /* secret: no JSON */
        "WyJzZWNyZXQiXQ==",             /* ["secret"] */
        "eyJ1c2VybmFtZSI6N30=",         /* {"username":7} */
        "eyJhdXRoIjoic2VjcmV0In0=",     /* {"auth":"secret"} */
        "eyJhdXRoIjoiYzJWamNtVjAifQ==", /* {"auth":base64 of secret, without a colon} */
        "eyJ1c2VyAG5hbWUiOiJ4In0=",     /* a zero byte */
    };

    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        AUTO_ARENA
        struct arena a;
        struct registry_auth auth;
        struct err e = {0};

        arena_init(&a);
        if (registry_auth_parse(rows[i], &a, &auth, &e) != ERR_INVALID || !strstr(e.text, "X-Registry-Auth") ||
            strstr(e.text, "secret"))
            fail_msg("row %zu: \"%s\"", i, e.text);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(config_is_read),
        cmocka_unit_test(small_and_old_configs_are_read),
        cmocka_unit_test(bad_configs_are_refused_with_the_field),
        cmocka_unit_test(written_config_reads_back_as_itself),
        cmocka_unit_test(changes_are_applied),
        cmocka_unit_test(changes_add_to_what_was_read),
        cmocka_unit_test(bad_changes_are_refused),
        cmocka_unit_test(progress_is_written_as_clients_know_it),
        cmocka_unit_test(credentials_are_decoded),
        cmocka_unit_test(bad_credentials_are_refused_without_being_shown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
