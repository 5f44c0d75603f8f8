/* Names of images: what is accepted, what it means, what is refused and why. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "proto/base/entropy.h"
#include "proto/base/image_name.h"
#include "proto/base/mem.h"

#define HEX64  "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
#define DIGEST "sha256:" HEX64

static const struct {
    const char *ref, *domain, *path, *tag, *digest, *familiar;
} good[] = {
    {"web", "docker.io", "library/web", "latest", NULL, "web:latest"},
    {"web:1.2", "docker.io", "library/web", "1.2", NULL, "web:1.2"},
    {"library/web", "docker.io", "library/web", "latest", NULL, "web:latest"},
    {"docker.io/web", "docker.io", "library/web", "latest", NULL, "web:latest"},
    {"docker.io/library/web:2", "docker.io", "library/web", "2", NULL, "web:2"},
    {"index.docker.io/web", "docker.io", "library/web", "latest", NULL, "web:latest"},
    {"index.docker.io/team/web", "docker.io", "team/web", "latest", NULL, "team/web:latest"},
    {"team/web", "docker.io", "team/web", "latest", NULL, "team/web:latest"},
    {"team/group/web:x", "docker.io", "team/group/web", "x", NULL, "team/group/web:x"},
    {"library/team/web", "docker.io", "library/team/web", "latest", NULL, "library/team/web:latest"},
    {"localhost/web", "localhost", "web", "latest", NULL, "localhost/web:latest"},
    {"localhost:5000/web", "localhost:5000", "web", "latest", NULL, "localhost:5000/web:latest"},
    {"127.0.0.1:5000/web:1", "127.0.0.1:5000", "web", "1", NULL, "127.0.0.1:5000/web:1"},
    {"[::1]:5000/web", "[::1]:5000", "web", "latest", NULL, "[::1]:5000/web:latest"},
    {"[FE80::1]/a/b", "[FE80::1]", "a/b", "latest", NULL, "[FE80::1]/a/b:latest"},
    {"quay.io/team/web:v1", "quay.io", "team/web", "v1", NULL, "quay.io/team/web:v1"},
    {"Example.com/web", "Example.com", "web", "latest", NULL, "Example.com/web:latest"},
    {"HOST/web", "HOST", "web", "latest", NULL, "HOST/web:latest"},
    {"a-b.c-d.example:65535/x/y/z:t", "a-b.c-d.example:65535", "x/y/z", "t", NULL, "a-b.c-d.example:65535/x/y/z:t"},
    {"host:5000", "docker.io", "library/host", "5000", NULL, "host:5000"},
    {"web@" DIGEST, "docker.io", "library/web", NULL, DIGEST, "web@" DIGEST},
    {"web:1@" DIGEST, "docker.io", "library/web", "1", DIGEST, "web:1@" DIGEST},
    {"127.0.0.1:5000/web@" DIGEST, "127.0.0.1:5000", "web", NULL, DIGEST, "127.0.0.1:5000/web@" DIGEST},
    {"a.b_c__d-e--f---g", "docker.io", "library/a.b_c__d-e--f---g", "latest", NULL, "a.b_c__d-e--f---g:latest"},
    {"web:_Tag.-_", "docker.io", "library/web", "_Tag.-_", NULL, "web:_Tag.-_"},
    {"sha256:abc", "docker.io", "library/sha256", "abc", NULL, "sha256:abc"},
    {"docker.io/a.b/c", "docker.io", "a.b/c", "latest", NULL, "docker.io/a.b/c:latest"},
    {"docker.io/localhost/c", "docker.io", "localhost/c", "latest", NULL, "docker.io/localhost/c:latest"},
    {"1/2", "docker.io", "1/2", "latest", NULL, "1/2:latest"},
    {"0123456789abcdef", "docker.io", "library/0123456789abcdef", "latest", NULL, "0123456789abcdef:latest"},
};

static const struct {
    const char *ref, *why;
} refused[] = {
    {"", "it is empty"},
    {" ", "lower-case letters"},
    {"web ", "lower-case letters"},
    {"Web", "repository name (library/Web) must be lowercase"},
    {"team/Web", "repository name (team/Web) must be lowercase"},
    {"quay.io/Team/web", "repository name (Team/web) must be lowercase"},
    {"web:", "the tag"},
    {"web:-x", "the tag"},
    {"web:.x", "the tag"},
    {"web:a/b:c", "no registry's host"},
    {"web:a b", "the tag"},
    {"web:a:b", "the tag"},
    {"a//b", "lower-case letters"},
    {"/web", "lower-case letters"},
    {"web/", "lower-case letters"},
    {"./web", "no registry's host"},
    {"../web", "no registry's host"},
    {"..", "lower-case letters"},
    {"a/../b", "lower-case letters"},
    {"-web", "lower-case letters"},
    {"web-", "lower-case letters"},
    {"we..b", "lower-case letters"},
    {"we___b", "lower-case letters"},
    {"we._b", "lower-case letters"},
    {"we-.b", "lower-case letters"},
    {"we\tb", "lower-case letters"},
    {"we\nb", "lower-case letters"},
    {"w\xc3\xa9"
     "b",
     "lower-case letters"},
    {"web@", "no digest"},
    {"web@latest", "no digest"},
    {"web@sha256:", "64 lower-case"},
    {"web@sha256:abc", "64 lower-case"},
    {"web@sha256:" HEX64 "0", "64 lower-case"},
    {"web@sha256:0123456789ABCDEF0123456789abcdef0123456789abcdef0123456789abcdef", "64 lower-case"},
    {"web@" DIGEST "@" DIGEST, "64 lower-case"},
    {"web@" DIGEST ":tag", "64 lower-case"},
    {"web@md5:0123", "no digest"},
    {"@" DIGEST, "lower-case letters"},
    {"host:/web", "no registry's host"},
    {"host:5000x/web", "no registry's host"},
    {"-host.example/web", "no registry's host"},
    {"host-.example/web", "no registry's host"},
    {"host..example/web", "no registry's host"},
    {".example/web", "no registry's host"},
    {"user:pass@host.example/web", "no digest"},
    {"http://host.example/web", "no registry's host"},
    {"https://host/web", "no registry's host"},
    {"[::1/web", "no registry's host"},
    {"[]:5000/web", "no registry's host"},
    {"[1]/web:5", "lower-case letters"},
    {"[::g]:5000/web", "no registry's host"},
    {"host.example:5000/", "lower-case letters"},
    {"127.0.0.1:5000/web?x=1", "lower-case letters"},
    {"127.0.0.1:5000/web%2f", "lower-case letters"},
    {HEX64, "cannot specify 64-byte hexadecimal strings"},
};

static void references_are_normalised(void **state)
{
    for (size_t i = 0; i < ARRAY_SIZE(good); i++) {
        AUTO_ARENA
        struct arena a;
        struct image_name n;
        struct err e = {0};

        arena_init(&a);
        if (image_name_parse(good[i].ref, &a, &n, &e) < 0)
            fail_msg("%s: %s", good[i].ref, e.text);
        assert_string_equal(n.domain, good[i].domain);
        assert_string_equal(n.path, good[i].path);
        assert_string_equal(n.tag ? n.tag : "-", good[i].tag ? good[i].tag : "-");
        assert_string_equal(n.digest ? n.digest : "-", good[i].digest ? good[i].digest : "-");
        assert_string_equal(n.familiar, good[i].familiar);
        assert_int_equal(strncmp(n.full, n.repository, strlen(n.repository)), 0);
        assert_int_equal(image_name_repository(n.full), strlen(n.repository));
        const char *last = strrchr(good[i].ref, '/');
        assert_int_equal(n.tag_assumed, !n.digest && !strchr(last ? last : good[i].ref, ':'));
    }
}

static void bad_references_are_refused_with_the_reason(void **state)
{
    for (size_t i = 0; i < ARRAY_SIZE(refused); i++) {
        AUTO_ARENA
        struct arena a;
        struct image_name n = {.domain = "untouched"};
        struct err e = {0};

        arena_init(&a);
        if (image_name_parse(refused[i].ref, &a, &n, &e) != ERR_INVALID || !strstr(e.text, refused[i].why))
            fail_msg("\"%s\": code %d, \"%s\" without \"%s\"", refused[i].ref, e.code, e.text, refused[i].why);
        assert_string_equal(n.domain, "untouched");
    }
}

static void other_digest_algorithms_are_unsupported(void **state)
{
    AUTO_ARENA
    struct arena a;
    struct image_name n;
    struct err e = {0};

    arena_init(&a);
    assert_int_equal(image_name_parse("web@sha512:" HEX64 HEX64, &a, &n, &e), ERR_UNSUPPORTED);
    assert_non_null(strstr(e.text, "sha512"));
}

static void lengths_are_bounded(void **state)
{
    AUTO_ARENA
    struct arena a;
    struct image_name n;
    struct err e;
    char ref[600];

    arena_init(&a);
    /* docker.io/library/ is 18 bytes of the 255. */
    memset(ref, 'a', sizeof(ref));
    ref[237] = '\0';
    assert_int_equal(image_name_parse(ref, &a, &n, &e), 0);
    ref[237] = 'a';
    ref[238] = '\0';
    assert_int_equal(image_name_parse(ref, &a, &n, &e), ERR_INVALID);
    assert_non_null(strstr(e.text, "more than 255"));
    memset(ref, 'a', sizeof(ref));
    ref[3] = ':';
    ref[4 + 128] = '\0';
    assert_int_equal(image_name_parse(ref, &a, &n, &e), 0);
    ref[4 + 128] = 'a';
    ref[4 + 129] = '\0';
    assert_int_equal(image_name_parse(ref, &a, &n, &e), ERR_INVALID);
    memset(ref, 'a', sizeof(ref));
    ref[599] = '\0';
    assert_int_equal(image_name_parse(ref, &a, &n, &e), ERR_INVALID);
}

static void normal_form_is_its_own_normal_form(void **state)
{
    static const char letters[] = "ab0.:/@_-A[]";
    struct entropy_seeded random;
    unsigned accepted = 0;

    entropy_seeded_init(&random, 7);
    print_message("seed 7\n");
    for (int i = 0; i < 200000; i++) {
        AUTO_ARENA
        struct arena a;
        struct image_name n, again;
        char ref[24] = {0};
        size_t from = i % 2 ? (size_t)snprintf(ref, sizeof(ref), "docker.io/") : 0;
        size_t length = from + 1 + entropy_below(&random.base, 12);

        arena_init(&a);
        for (size_t k = from; k < length; k++)
            ref[k] = letters[entropy_below(&random.base, sizeof(letters) - 1)];
        if (image_name_parse(ref, &a, &n, NULL) < 0)
            continue;
        accepted++;
        assert_int_equal(image_name_parse(n.full, &a, &again, NULL), 0);
        assert_string_equal(n.full, again.full);
        assert_int_equal(image_name_parse(n.familiar, &a, &again, NULL), 0);
        assert_string_equal(n.full, again.full);
        assert_int_equal(image_name_repository(n.full), strlen(n.domain) + 1 + strlen(n.path));
    }
    assert_in_range(accepted, 1000, 200000);
}

static void whole_ids_are_no_names(void **state)
{
    assert_true(image_name_is_id(HEX64));
    assert_true(image_name_is_id(DIGEST));
    assert_false(image_name_is_id(HEX64 "0"));
    assert_false(image_name_is_id("0123"));
    assert_false(image_name_is_id("web"));
    assert_false(image_name_is_id("sha256:" DIGEST));
}

static void brief_names_show_what_was_given(void **state)
{
    static const struct {
        const char *ref, *brief;
    } rows[] = {
        {"web", "web"},
        {"docker.io/library/web", "web"},
        {"web:latest", "web:latest"},
        {"web@" DIGEST, "web"},
        {"team/web:1@" DIGEST, "team/web:1"},
        {"localhost:5000/web:1", "localhost:5000/web:1"},
        {"localhost:5000/web", "localhost:5000/web"},
    };

    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        AUTO_ARENA
        struct arena a;
        struct image_name n;

        arena_init(&a);
        assert_int_equal(image_name_parse(rows[i].ref, &a, &n, NULL), 0);
        assert_string_equal(image_name_brief(&n, &a), rows[i].brief);
    }
}

static void loopback_registries_are_told_apart(void **state)
{
    static const char *const yes[] = {"localhost",      "localhost:5000", "127.0.0.1",  "127.0.0.1:5000",
                                      "127.1.2.3:5000", "[::1]",          "[::1]:5000", "127.255.255.255"};
    static const char *const no[] = {"docker.io",       "localhost.example",   "localhost.example:5000",
                                     "127.0.0.1.evil",  "127.evil.example",    "127.0.0.evil:5000",
                                     "128.0.0.1",       "10.127.0.1",          "[::2]:5000",
                                     "notlocalhost:80", "127.0.0.1.1.1.1:80x", "1127.0.0.1"};

    for (size_t i = 0; i < ARRAY_SIZE(yes); i++)
        assert_true(image_domain_is_loopback(yes[i]));
    for (size_t i = 0; i < ARRAY_SIZE(no); i++)
        assert_false(image_domain_is_loopback(no[i]));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(references_are_normalised),
        cmocka_unit_test(bad_references_are_refused_with_the_reason),
        cmocka_unit_test(other_digest_algorithms_are_unsupported),
        cmocka_unit_test(lengths_are_bounded),
        cmocka_unit_test(normal_form_is_its_own_normal_form),
        cmocka_unit_test(whole_ids_are_no_names),
        cmocka_unit_test(brief_names_show_what_was_given),
        cmocka_unit_test(loopback_registries_are_told_apart),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
