/* Names of images. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "cli/reference.h"
#include "proto/base/mem.h"

#define DIGEST "sha256:1111111111111111111111111111111111111111111111111111111111111111"
#define HEX64  "1111111111111111111111111111111111111111111111111111111111111111"

static void names_are_taken_apart(void **state)
{
    static const struct {
        const char *text, *domain, *path, *tag, *digest, *familiar;
    } table[] = {
        {"nginx", "docker.io", "library/nginx", "", "", "nginx"},
        {"nginx:1.25", "docker.io", "library/nginx", "1.25", "", "nginx:1.25"},
        {"team/app", "docker.io", "team/app", "", "", "team/app"},
        {"docker.io/nginx", "docker.io", "library/nginx", "", "", "nginx"},
        {"docker.io/library/nginx:x", "docker.io", "library/nginx", "x", "", "nginx:x"},
        {"index.docker.io/nginx", "docker.io", "library/nginx", "", "", "nginx"},
        {"localhost/app", "localhost", "app", "", "", "localhost/app"},
        {"localhost:5000/app:v1", "localhost:5000", "app", "v1", "", "localhost:5000/app:v1"},
        {"registry.example.com/a/b/c", "registry.example.com", "a/b/c", "", "", "registry.example.com/a/b/c"},
        {"[::1]:5000/app", "[::1]:5000", "app", "", "", "[::1]:5000/app"},
        {"Host/app", "Host", "app", "", "", "Host/app"},
        {"nginx@" DIGEST, "docker.io", "library/nginx", "", DIGEST, "nginx@" DIGEST},
        {"nginx:1@" DIGEST, "docker.io", "library/nginx", "1", DIGEST, "nginx:1@" DIGEST},
        {"a__b/c-d---e/f.g_h", "docker.io", "a__b/c-d---e/f.g_h", "", "", "a__b/c-d---e/f.g_h"},
        {"x:_a.B-1", "docker.io", "library/x", "_a.B-1", "", "x:_a.B-1"},
    };

    for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
        char text[REFERENCE_TEXT];
        struct reference r;
        struct err e = {0};

        if (reference_parse(table[i].text, &r, &e) < 0)
            fail_msg("%s: %s", table[i].text, e.text);
        assert_string_equal(r.domain, table[i].domain);
        assert_string_equal(r.path, table[i].path);
        assert_string_equal(r.tag, table[i].tag);
        assert_string_equal(r.digest, table[i].digest);
        reference_familiar(&r, text);
        assert_string_equal(text, table[i].familiar);
    }
}

static void what_is_no_name_is_refused(void **state)
{
    static const struct {
        const char *text, *error;
    } table[] = {
        {"", "invalid reference format"},
        {"Nginx", "invalid reference format: repository name (library/Nginx) must be lowercase"},
        {"a/B", "invalid reference format: repository name (a/B) must be lowercase"},
        {"nginx:", "invalid reference format"},
        {"nginx:a b", "invalid reference format"},
        {"nginx:-x", "invalid reference format"},
        {":tag", "invalid reference format"},
        {"/nginx", "invalid reference format"},
        {"nginx/", "invalid reference format"},
        {"a//b", "invalid reference format"},
        {"a..b", "invalid reference format"},
        {"a___b", "invalid reference format"},
        {"-a", "invalid reference format"},
        {"a-", "invalid reference format"},
        {"a b", "invalid reference format"},
        {"a@b", "invalid reference format"},
        {"nginx@sha256:1234", "invalid reference format"},
        {"nginx@" DIGEST "0", "invalid reference format"},
        {"a.b:/c", "invalid reference format"},
        {"a.b:x/c", "invalid reference format"},
        {"-a.b/c", "invalid reference format"},
        {"http://example.com/x", "invalid reference format"},
        {HEX64, "invalid repository name (" HEX64 "), cannot specify 64-byte hexadecimal strings"},
    };

    for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
        struct reference r;
        struct err e = {0};

        if (reference_parse(table[i].text, &r, &e) != ERR_INVALID)
            fail_msg("\"%s\" is a name", table[i].text);
        assert_string_equal(e.text, table[i].error);
    }
}

static void lengths_are_bounded(void **state)
{
    char text[600];
    struct reference r;
    struct err e;

    for (size_t length = 1; length < sizeof(text); length++) {
        memset(text, 'a', length);
        text[length] = '\0';
        int rc = reference_parse(text, &r, &e);
        size_t whole = strlen("docker.io") + strlen("library/") + length;

        if (length != 64) /* which is an id */
            assert_int_equal(rc, whole > 254 ? ERR_INVALID : 0);
    }
    memcpy(text, "a:", 2);
    memset(text + 2, 't', 200);
    text[2 + 128] = '\0';
    assert_int_equal(reference_parse(text, &r, &e), 0);
    text[2 + 128] = 't';
    text[2 + 129] = '\0';
    assert_int_equal(reference_parse(text, &r, &e), ERR_INVALID);
}

static void whole_ids_are_no_names(void **state)
{
    assert_true(reference_is_id(HEX64));
    assert_true(reference_is_id(DIGEST));
    assert_false(reference_is_id("1111"));
    assert_false(reference_is_id("nginx"));
    assert_false(reference_is_id("g111111111111111111111111111111111111111111111111111111111111111"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_are_taken_apart),
        cmocka_unit_test(what_is_no_name_is_refused),
        cmocka_unit_test(lengths_are_bounded),
        cmocka_unit_test(whole_ids_are_no_names),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
