/* Messages from JSON and back by table: what is read is written again, and what does not fit is refused by its way
 * and value. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "proto/base/jmap.h"
#include "proto/base/jread.h"
#include "proto/base/mem.h"
#include "proto/spec.pb-c.h"

static const struct jmap_name roles[] = {{"worker", NODE_ROLE__WORKER}, {"manager", NODE_ROLE__MANAGER}, {0}};
static const struct jmap_field node_fields[] = {
    {"Name", "name", .always = true}, {"Labels", "labels", .always = true}, {"Role", "role", .names = roles}, {0}};
static const struct jmap node_map = {&node_spec__descriptor, node_fields};

static const struct jmap_field container_fields[] = {{"Image", "image"},
                                                     {"Args", "args"},
                                                     {"TTY", "tty"},
                                                     {"Grace", "stop_grace_period_ns"},
                                                     {"Auth", "registry_auth", .secret = true},
                                                     {"Isolation", .refuse = "it is not offered here"},
                                                     {0}};
static const struct jmap container_map = {&container_spec__descriptor, container_fields};
static const struct jmap_field task_fields[] = {{"Container", "container", .sub = &container_map}, {0}};
static const struct jmap task_map = {&task_spec__descriptor, task_fields};

static int read_text(const char *text, const struct jmap *map, struct arena *a, ProtobufCMessage **ret,
                     struct err *e)
{
    json_t *root = NULL;

    if (jread_parse(text, strlen(text), &root, e) < 0)
        return e->code;
    int rc = jmap_read(root, map, "", a, ret, e);
    json_decref(root);
    return rc;
}

static void what_is_read_is_written_again(void **state)
{
    static const struct {
        const struct jmap *map;
        const char *in, *out; /* out NULL: the same */
    } cases[] = {
        {&node_map, "{\"Name\":\"n1\",\"Labels\":{\"a\":\"1\",\"b\":\"\"},\"Role\":\"manager\"}", NULL},
        {&node_map, "{}", "{\"Name\":\"\",\"Labels\":{}}"},
        {&node_map, "{\"Name\":null,\"Unknown\":[1,2]}", "{\"Name\":\"\",\"Labels\":{}}"},
        {&task_map,
         "{\"Container\":{\"Image\":\"web:1\",\"Args\":[\"a\",\"\",\"b\"],\"TTY\":true,\"Grace\":9000000000}}",
         NULL},
        {&task_map, "{\"Container\":{\"Image\":\"web:1\",\"Auth\":\"secret\"}}",
         "{\"Container\":{\"Image\":\"web:1\"}}"},
        {&task_map, "{}", NULL},
    };

    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        AUTO_BUF struct buf out = {0};
        struct jwrite j = JWRITE_TO(&out);
        AUTO_ARENA struct arena a;
        ProtobufCMessage *message = NULL;
        struct err e = {0};

        arena_init(&a);
        if (read_text(cases[i].in, cases[i].map, &a, &message, &e) < 0)
            fail_msg("%s: %s", cases[i].in, e.text);
        jmap_write(&j, NULL, cases[i].map, message);
        assert_string_equal(buf_str(&out), cases[i].out ? cases[i].out : cases[i].in);
    }
}

static void secrets_are_read(void **state)
{
    AUTO_ARENA struct arena a;
    ProtobufCMessage *message = NULL;

    arena_init(&a);
    assert_int_equal(read_text("{\"Image\":\"web:1\",\"Auth\":\"secret\"}", &container_map, &a, &message, NULL), 0);
    assert_string_equal(((ContainerSpec *)message)->registry_auth, "secret");
}

static void absent_members_stay_absent(void **state)
{
    AUTO_ARENA struct arena a;
    ProtobufCMessage *message = NULL;

    arena_init(&a);
    assert_int_equal(read_text("{\"Image\":\"web:1\"}", &container_map, &a, &message, NULL), 0);
    const ContainerSpec *spec = (const ContainerSpec *)message;
    assert_false(spec->has_tty || spec->has_stop_grace_period_ns);
    assert_null(spec->registry_auth);
    assert_int_equal(spec->n_args, 0);
}

static void what_does_not_fit_is_refused_by_way_and_value(void **state)
{
    static const struct {
        const struct jmap *map;
        const char *in, *first, *second;
        int code;
    } cases[] = {
        {&node_map, "{\"Name\":5}", "Name", "5", ERR_INVALID},
        {&node_map, "{\"Labels\":[]}", "Labels", "", ERR_INVALID},
        {&node_map, "{\"Labels\":{\"a\":1}}", "Labels", "1", ERR_INVALID},
        {&node_map, "{\"Role\":\"king\"}", "Role", "king", ERR_INVALID},
        {&task_map, "{\"Container\":\"x\"}", "Container", "x", ERR_INVALID},
        {&task_map, "{\"Container\":{\"Args\":\"x\"}}", "Container.Args", "x", ERR_INVALID},
        {&task_map, "{\"Container\":{\"Args\":[1]}}", "Container.Args", "1", ERR_INVALID},
        {&task_map, "{\"Container\":{\"TTY\":\"yes\"}}", "Container.TTY", "yes", ERR_INVALID},
        {&task_map, "{\"Container\":{\"Grace\":1.5}}", "Container.Grace", "1.5", ERR_INVALID},
        {&task_map, "{\"Container\":{\"Isolation\":\"hyperv\"}}", "Container.Isolation", "not offered",
         ERR_UNSUPPORTED},
    };

    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        AUTO_ARENA struct arena a;
        ProtobufCMessage *message = NULL;
        struct err e = {0};

        arena_init(&a);
        int rc = read_text(cases[i].in, cases[i].map, &a, &message, &e);
        if (rc != cases[i].code || !strstr(e.text, cases[i].first) || !strstr(e.text, cases[i].second))
            fail_msg("%s: %d %s", cases[i].in, rc, e.text);
        assert_null(message);
    }
}

static void empty_refused_members_are_let_pass(void **state)
{
    static const char *const texts[] = {"{\"Isolation\":\"\"}", "{\"Isolation\":null}"};

    for (size_t i = 0; i < ARRAY_SIZE(texts); i++) {
        AUTO_ARENA struct arena a;
        ProtobufCMessage *message = NULL;

        arena_init(&a);
        assert_int_equal(read_text(texts[i], &container_map, &a, &message, NULL), 0);
    }
}

static void nothing_is_an_empty_object(void **state)
{
    AUTO_BUF struct buf out = {0};
    struct jwrite j = JWRITE_TO(&out);

    jmap_write(&j, NULL, &container_map, NULL);
    assert_string_equal(buf_str(&out), "{}");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_read_is_written_again),
        cmocka_unit_test(secrets_are_read),
        cmocka_unit_test(absent_members_stay_absent),
        cmocka_unit_test(what_does_not_fit_is_refused_by_way_and_value),
        cmocka_unit_test(empty_refused_members_are_let_pass),
        cmocka_unit_test(nothing_is_an_empty_object),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
