/* shoal-job fetch, the real program, against registries that do what they should and what they should not. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "engine/job/request.h"
#include "proto/base/file.h"
#include "proto/base/hash.h"
#include "proto/base/mem.h"
#include "proto/job.pb-c.h"
#include "tests/support/job.h"
#include "tests/support/registry.h"

#define MANIFEST      "{\"schemaVersion\":2}"
#define MANIFEST_TYPE "Content-Type: application/vnd.oci.image.manifest.v1+json; charset=utf-8\r\n"
#define BLOB_SIZE     300000

static char blob[BLOB_SIZE], blob_digest[DIGEST_TEXT + 1], manifest_digest[DIGEST_TEXT + 1];

static void make_contents(void)
{
    uint8_t bytes[SHA256_BYTES];

    for (size_t i = 0; i < BLOB_SIZE; i++)
        blob[i] = (char)(i * 2654435761u >> 13);
    sha256(blob, BLOB_SIZE, bytes);
    digest_format(bytes, blob_digest);
    sha256(MANIFEST, strlen(MANIFEST), bytes);
    digest_format(bytes, manifest_digest);
}

/* --- the job's side ------------------------------------------------------------------------------ */

struct fetched {
    int status;
    struct err errors[4]; /* by id, from 1; [0] is of the job */
    bool done[4];
    char body[4][64];
    char media_type[128], digest[80];
    unsigned retries;
    char *path; /* the directory for blobs */
};

struct ask { /* what to send */
    const char *host;
    const char *user, *password, *identity_token, *registry_token;
    bool secure; /* plain HTTP is not allowed */
    unsigned patience_s;
    FetchCommand commands[3];
    unsigned count;
};

static FetchCommand a_manifest(const char *reference)
{
    FetchCommand c = FETCH_COMMAND__INIT;

    c.manifest = (char *)reference;
    c.has_bytes_max = true;
    c.bytes_max = 4 << 20;
    return c;
}

static FetchCommand a_blob(const char *digest, uint64_t size, const char *file)
{
    FetchCommand c = FETCH_COMMAND__INIT;

    c.blob = (char *)digest;
    c.file = (char *)file;
    c.has_size_bytes = true;
    c.size_bytes = size;
    return c;
}

static void take_event(struct fetched *f, const void *data, size_t size)
{
    FetchEvent *event = fetch_event__unpack(NULL, size, data);

    assert_non_null(event);
    assert_in_range(event->id, 0, 3);
    if (event->error)
        err_set(&f->errors[event->id], event->error->code, "%s", event->error->text);
    f->retries += event->has_retry_s;
    f->done[event->id] |= event->done;
    if (event->has_body)
        snprintf(f->body[event->id], sizeof(f->body[0]), "%.*s", (int)event->body.len, (char *)event->body.data);
    if (event->media_type)
        snprintf(f->media_type, sizeof(f->media_type), "%s", event->media_type);
    if (event->digest)
        snprintf(f->digest, sizeof(f->digest), "%s", event->digest);
    fetch_event__free_unpacked(event, NULL);
}

static void fetch(const struct ask *ask, struct fetched *f)
{
    FetchRequest request = FETCH_REQUEST__INIT;
    struct job j;
    void *frame;
    size_t size;
    unsigned left = ask->count;

    *f = (struct fetched){.path = scratch_new("fetch-test")};
    request.host = (char *)ask->host;
    request.repository = (char *)"team/web";
    request.user = (char *)ask->user;
    request.password = (char *)ask->password;
    request.identity_token = (char *)ask->identity_token;
    request.registry_token = (char *)ask->registry_token;
    request.has_insecure = request.has_parallel = request.has_patience_s = true;
    request.patience_s = ask->patience_s;
    request.insecure = !ask->secure;
    request.parallel = 3;
    int fd = open(f->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    job_start(&j, "fetch", &fd, 1);
    close(fd);
    job_send(&j, &request.base);
    for (unsigned i = 0; i < ask->count; i++) {
        FetchCommand c = ask->commands[i];

        c.id = i + 1;
        job_send(&j, &c.base);
    }
    while (left && (frame = job_receive(&j, &size))) {
        take_event(f, frame, size);
        free(frame);
        left = 0;
        for (unsigned i = 1; i <= ask->count; i++)
            left += !f->done[i] && !f->errors[i].code && !f->errors[0].code;
    }
    f->status = job_end(&j);
}

static void fetched_fini(struct fetched *f)
{
    scratch_remove(f->path);
}

static void assert_done(const struct fetched *f, unsigned id)
{
    if (!f->done[id] || f->errors[id].code)
        fail_msg("command %u: %s", id, f->errors[id].code ? f->errors[id].text : f->errors[0].text);
}

static void assert_failed(const struct fetched *f, unsigned id, int code, const char *text)
{
    if (f->done[id] || f->errors[id].code != code || !strstr(f->errors[id].text, text))
        fail_msg("command %u: code %d, \"%s\" without \"%s\"", id, f->errors[id].code, f->errors[id].text, text);
}

static void assert_blob_is_there(const struct fetched *f, const char *file)
{
    struct buf b = {0};
    char path[300];

    snprintf(path, sizeof(path), "%s/%s", f->path, file);
    assert_int_equal(file_read(AT_FDCWD, path, BLOB_SIZE, &b, NULL), 0);
    assert_int_equal(b.length, BLOB_SIZE);
    assert_memory_equal(buf_bytes(&b), blob, BLOB_SIZE);
    buf_fini(&b);
}

/* --- the registries ------------------------------------------------------------------------------ */

static bool is_blob(const struct exchange *x)
{
    return strncmp(x->path, "/v2/team/web/blobs/", 19) == 0;
}

/* Everything but blobs, as a good registry has it. False when it was a blob. */
static bool answer_usual(struct exchange *x)
{
    if (is_blob(x))
        return false;
    if (strcmp(x->path, "/v2/") == 0)
        answer_text(x, 200, "", "{}");
    else if (strncmp(x->path, "/v2/team/web/manifests/", 23) == 0 && !strstr(x->path, "absent"))
        answer_text(x, 200, MANIFEST_TYPE, MANIFEST);
    else
        answer_text(x, 404, "", "{\"errors\":[{\"code\":\"MANIFEST_UNKNOWN\",\"message\":\"manifest unknown\"}]}");
    return true;
}

static void honest(struct exchange *x, void *ctx)
{
    if (!answer_usual(x))
        answer_range(x, blob, BLOB_SIZE);
}

static void manifests_and_blobs_come_with_their_digests(void **state)
{
    struct registry r;
    struct fetched f;

    registry_start(&r, honest, NULL);
    fetch(&(struct ask){.host = r.host,
                        .commands = {a_manifest("latest"), a_blob(blob_digest, BLOB_SIZE, "layer"),
                                     a_blob(blob_digest, BLOB_SIZE, "again")},
                        .count = 3},
          &f);
    assert_done(&f, 1);
    assert_string_equal(f.body[1], MANIFEST);
    assert_string_equal(f.digest, manifest_digest);
    assert_string_equal(f.media_type, "application/vnd.oci.image.manifest.v1+json");
    assert_done(&f, 2);
    assert_done(&f, 3);
    assert_blob_is_there(&f, "layer");
    assert_blob_is_there(&f, "again");
    assert_int_equal(f.status, 0);
    assert_int_equal(registry_asked(&r, "GET /v2/ "), 1);
    assert_int_equal(registry_asked(&r, "auth= "), 4); /* nobody asked for credentials */
    fetched_fini(&f);
    registry_stop(&r);
}

static void absent_manifest_is_not_found_in_the_registrys_words(void **state)
{
    struct registry r;
    struct fetched f;

    registry_start(&r, honest, NULL);
    fetch(&(struct ask){.host = r.host, .commands = {a_manifest("absent")}, .count = 1}, &f);
    assert_failed(&f, 1, ERR_NOT_FOUND, "manifest unknown: manifest unknown");
    fetched_fini(&f);
    registry_stop(&r);
}

static void plain_http_is_only_spoken_where_it_is_allowed(void **state)
{
    struct registry r;
    struct fetched f;

    registry_start(&r, honest, NULL);
    fetch(&(struct ask){.host = r.host, .secure = true, .commands = {a_manifest("latest")}, .count = 1}, &f);
    assert_failed(&f, 1, ERR_UNAVAILABLE, "https://");
    assert_int_equal(registry_asked(&r, "GET"), 0);
    fetched_fini(&f);
    registry_stop(&r);
}

static void nobody_listening_is_told_after_some_attempts(void **state)
{
    struct fetched f;

    fetch(&(struct ask){.host = "127.0.0.1:1", .commands = {a_manifest("latest")}, .count = 1}, &f);
    assert_failed(&f, 1, ERR_UNAVAILABLE, "after 5 attempts: Get \"http://127.0.0.1:1/v2/\"");
    fetched_fini(&f);
}

static void who_waits_is_answered_after_one_attempt(void **state)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof(address);
    int silent = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0); /* takes connections and never answers */
    struct fetched f;
    char host[32];

    assert_int_equal(bind(silent, (struct sockaddr *)&address, length), 0);
    assert_int_equal(listen(silent, 16), 0);
    assert_int_equal(getsockname(silent, (struct sockaddr *)&address, &length), 0);
    snprintf(host, sizeof(host), "127.0.0.1:%u", ntohs(address.sin_port));
    fetch(&(struct ask){.host = host, .patience_s = 1, .commands = {a_manifest("latest")}, .count = 1}, &f);
    assert_failed(&f, 1, ERR_TIMEOUT, "timed out after");
    assert_null(strstr(f.errors[1].text, "attempts"));
    fetched_fini(&f);
    close(silent);
    fetch(&(struct ask){.host = "127.0.0.1:1", .patience_s = 1, .commands = {a_manifest("latest")}, .count = 1},
          &f);
    assert_failed(&f, 1, ERR_UNAVAILABLE, "Get \"http://127.0.0.1:1/v2/\"");
    assert_null(strstr(f.errors[1].text, "attempts"));
    fetched_fini(&f);
}

/* --- digests and sizes --------------------------------------------------------------------------- */

static void flipped(struct exchange *x, void *ctx)
{
    if (answer_usual(x))
        return;
    blob[BLOB_SIZE / 2] ^= 1; /* in this process only */
    answer(x, 200, "", blob, BLOB_SIZE);
}

static void blob_with_another_digest_is_refused(void **state)
{
    struct registry r;
    struct fetched f;

    registry_start(&r, flipped, NULL);
    fetch(&(struct ask){.host = r.host, .commands = {a_blob(blob_digest, BLOB_SIZE, "layer")}, .count = 1}, &f);
    assert_failed(&f, 1, ERR_CORRUPT, blob_digest);
    assert_int_equal(registry_asked(&r, "/blobs/"), 1); /* asking again would not make it better */
    fetched_fini(&f);
    registry_stop(&r);
}

static void blob_larger_or_smaller_than_announced_is_refused(void **state)
{
    struct registry r;
    struct fetched f;

    registry_start(&r, honest, NULL);
    fetch(&(struct ask){.host = r.host,
                        .commands = {a_blob(blob_digest, BLOB_SIZE - 1, "small"), a_blob(blob_digest, 0, "none")},
                        .count = 2},
          &f);
    assert_failed(&f, 1, ERR_CORRUPT, "more than the 299999 bytes its descriptor says");
    assert_failed(&f, 2, ERR_CORRUPT, "more than the 0 bytes");
    fetched_fini(&f);
    fetch(&(struct ask){.host = r.host, .commands = {a_blob(blob_digest, BLOB_SIZE + 1, "large")}, .count = 1}, &f);
    assert_failed(&f, 1, ERR_CORRUPT, "the blob ended after 300000 of 300001 bytes");
    fetched_fini(&f);
    registry_stop(&r);
}

static void wrong_manifests(struct exchange *x, void *ctx)
{
    if (strstr(x->path, "large"))
        answer(x, 200, "", blob, BLOB_SIZE);
    else if (strstr(x->path, "header"))
        answer_text(x, 200,
                    "Docker-Content-Digest: sha256:"
                    "0000000000000000000000000000000000000000000000000000000000000000\r\n",
                    MANIFEST);
    else
        (void)answer_usual(x);
}

static void manifest_that_is_not_what_was_asked_for_is_refused(void **state)
{
    static const char other[] = "sha256:1111111111111111111111111111111111111111111111111111111111111111";
    struct registry r;
    struct fetched f;
    FetchCommand large = a_manifest("large");

    large.bytes_max = 1000;
    registry_start(&r, wrong_manifests, NULL);
    fetch(&(struct ask){.host = r.host, .commands = {a_manifest(other), a_manifest("header"), large}, .count = 3},
          &f);
    assert_failed(&f, 1, ERR_CORRUPT, "sha256:1111");
    assert_failed(&f, 2, ERR_CORRUPT, "where the registry says sha256:0000");
    assert_failed(&f, 3, ERR_LIMIT, "more than the 1000 bytes");
    fetched_fini(&f);
    fetch(&(struct ask){.host = r.host, .commands = {a_manifest(manifest_digest)}, .count = 1}, &f);
    assert_done(&f, 1);
    fetched_fini(&f);
    registry_stop(&r);
}

/* --- broken connections -------------------------------------------------------------------------- */

static void cuts(struct exchange *x, void *ctx)
{
    if (answer_usual(x))
        return;
    /* 100,000 bytes of each answer arrive, so three connections bring it all. */
    char headers[100] = "";
    if (x->ranged)
        snprintf(headers, sizeof(headers), "Content-Range: bytes %llu-%d/%d\r\n", (unsigned long long)x->from,
                 BLOB_SIZE - 1, BLOB_SIZE);
    answer_cut(x, x->ranged ? 206 : 200, headers, blob + x->from, BLOB_SIZE - x->from,
               MIN((size_t)100000, BLOB_SIZE - x->from));
}

static void broken_transfer_goes_on_where_it_stopped(void **state)
{
    struct registry r;
    struct fetched f;

    registry_start(&r, cuts, NULL);
    fetch(&(struct ask){.host = r.host, .commands = {a_blob(blob_digest, BLOB_SIZE, "layer")}, .count = 1}, &f);
    assert_done(&f, 1);
    assert_blob_is_there(&f, "layer");
    assert_int_equal(registry_asked(&r, "range=100000"), 1);
    assert_int_equal(registry_asked(&r, "range=200000"), 1);
    assert_int_equal(f.retries, 2);
    fetched_fini(&f);
    registry_stop(&r);
}

static void never_ends(struct exchange *x, void *ctx)
{
    if (!answer_usual(x))
        answer_cut(x, 200, "", blob, BLOB_SIZE, 1000);
}

static void transfer_that_never_ends_is_given_up_after_five_attempts(void **state)
{
    struct registry r;
    struct fetched f;

    registry_start(&r, never_ends, NULL);
    fetch(&(struct ask){.host = r.host, .commands = {a_blob(blob_digest, BLOB_SIZE, "layer")}, .count = 1}, &f);
    assert_failed(&f, 1, ERR_UNAVAILABLE, "after 5 attempts");
    assert_int_equal(registry_asked(&r, "/blobs/"), 5);
    fetched_fini(&f);
    registry_stop(&r);
}

static void ignores_range(struct exchange *x, void *ctx)
{
    if (answer_usual(x))
        return;
    if (x->ranged)
        answer(x, 200, "", blob, BLOB_SIZE);
    else
        answer_cut(x, 200, "", blob, BLOB_SIZE, 5000);
}

static void wrong_range(struct exchange *x, void *ctx)
{
    if (answer_usual(x))
        return;
    if (x->ranged)
        answer(x, 206, "Content-Range: bytes 0-299999/300000\r\n", blob, BLOB_SIZE);
    else
        answer_cut(x, 200, "", blob, BLOB_SIZE, x->count < 2 ? 5000 : BLOB_SIZE);
}

static void other_bytes_in_the_rest(struct exchange *x, void *ctx)
{
    if (answer_usual(x))
        return;
    if (x->ranged) {
        char rest[BLOB_SIZE];

        memset(rest, 'x', sizeof(rest));
        answer(x, 206, "Content-Range: bytes 5000-299999/300000\r\n", rest, BLOB_SIZE - 5000);
    } else {
        answer_cut(x, 200, "", blob, BLOB_SIZE, x->count < 2 ? 5000 : BLOB_SIZE);
    }
}

static void no_rest(struct exchange *x, void *ctx)
{
    if (answer_usual(x))
        return;
    if (x->ranged)
        answer_text(x, 416, "", "");
    else
        answer_cut(x, 200, "", blob, BLOB_SIZE, x->count < 2 ? 5000 : BLOB_SIZE);
}

static void resuming_gone_wrong_begins_anew(void **state)
{
    void (*const registries[])(struct exchange * x, void *ctx) = {ignores_range, wrong_range,
                                                                  other_bytes_in_the_rest, no_rest};

    for (size_t i = 0; i < ARRAY_SIZE(registries); i++) {
        struct registry r;
        struct fetched f;

        registry_start(&r, registries[i], NULL);
        fetch(&(struct ask){.host = r.host, .commands = {a_blob(blob_digest, BLOB_SIZE, "layer")}, .count = 1}, &f);
        if (!f.done[1])
            fail_msg("registry %zu: %s\n%s", i, f.errors[1].text, registry_log(&r));
        assert_blob_is_there(&f, "layer");
        fetched_fini(&f);
        registry_stop(&r);
    }
}

static void troubled(struct exchange *x, void *ctx)
{
    static const int statuses[] = {500, 503, 429, 502};

    if (x->count < ARRAY_SIZE(statuses))
        answer_text(x, statuses[x->count], "Retry-After: 0\r\n", "try later");
    else if (!answer_usual(x))
        answer_range(x, blob, BLOB_SIZE);
}

static void busy_registry_is_asked_again(void **state)
{
    struct registry r;
    struct fetched f;

    registry_start(&r, troubled, NULL);
    fetch(&(struct ask){.host = r.host, .commands = {a_manifest("latest")}, .count = 1}, &f);
    assert_done(&f, 1);
    assert_int_equal(registry_asked(&r, "GET /v2/ "), 5);
    fetched_fini(&f);
    registry_stop(&r);
}

static void always_500(struct exchange *x, void *ctx)
{
    if (is_blob(x))
        answer_text(x, 500, "Retry-After: 0\r\n", "<html>no</html>");
    else
        (void)answer_usual(x);
}

static void broken_registry_is_given_up_with_its_status(void **state)
{
    struct registry r;
    struct fetched f;

    registry_start(&r, always_500, NULL);
    fetch(&(struct ask){.host = r.host, .commands = {a_blob(blob_digest, BLOB_SIZE, "layer")}, .count = 1}, &f);
    assert_failed(&f, 1, ERR_UNAVAILABLE, "status 500");
    assert_int_equal(registry_asked(&r, "/blobs/"), 5);
    fetched_fini(&f);
    registry_stop(&r);
}

/* --- credentials --------------------------------------------------------------------------------- */

#define BASIC_JOE "Basic am9lOnMzY3JldA==" /* joe:s3cret */

static void wants_basic(struct exchange *x, void *ctx)
{
    if (strcmp(x->authorization, BASIC_JOE) != 0)
        answer_text(x, 401, "WWW-Authenticate: Basic realm=\"here\"\r\n",
                    "{\"errors\":[{\"code\":\"UNAUTHORIZED\",\"message\":\"authentication required\"}]}");
    else if (!answer_usual(x))
        answer_range(x, blob, BLOB_SIZE);
}

static void basic_credentials_are_shown_once_asked_for(void **state)
{
    struct registry r;
    struct fetched f;

    registry_start(&r, wants_basic, NULL);
    fetch(&(struct ask){.host = r.host,
                        .user = "joe",
                        .password = "s3cret",
                        .commands = {a_manifest("latest"), a_blob(blob_digest, BLOB_SIZE, "layer")},
                        .count = 2},
          &f);
    assert_done(&f, 1);
    assert_done(&f, 2);
    assert_int_equal(registry_asked(&r, "GET /v2/ auth= "), 1);
    fetched_fini(&f);
    fetch(&(struct ask){.host = r.host, .commands = {a_manifest("latest")}, .count = 1}, &f);
    assert_failed(&f, 1, ERR_UNAUTHORIZED, "no basic auth credentials");
    fetched_fini(&f);
    fetch(
        &(struct ask){
            .host = r.host, .user = "joe", .password = "wrong", .commands = {a_manifest("latest")}, .count = 1},
        &f);
    assert_failed(&f, 1, ERR_UNAUTHORIZED, "unauthorized");
    fetched_fini(&f);
    registry_stop(&r);
}

/* A token server and a registry in one. *ctx: for how many requests a token is good. */
static void wants_token(struct exchange *x, void *ctx)
{
    static _Atomic unsigned issued, used;
    char challenge[300], good[64], token[100];

    if (strncmp(x->path, "/token", 6) == 0) {
        bool refresh = strcmp(x->method, "POST") == 0 && strstr(x->body, "refresh_token=idtok%2F1") &&
                       strstr(x->body, "grant_type=refresh_token") &&
                       strstr(x->body, "repository%3Ateam%2Fweb%3Apull");
        bool basic = strcmp(x->authorization, BASIC_JOE) == 0 &&
                     strstr(x->path, "service=the%20registry&scope=repository%3Ateam%2Fweb%3Apull&account=joe");

        used = 0;
        snprintf(token, sizeof(token), "{\"%s\":\"tok%u\",\"expires_in\":60}", refresh ? "access_token" : "token",
                 ++issued);
        answer_text(x, refresh || basic ? 200 : 401, "", refresh || basic ? token : "{}");
        return;
    }
    snprintf(challenge, sizeof(challenge),
             "WWW-Authenticate: Bearer realm=\"http://127.0.0.1:%d/token\",service=\"the registry\","
             "scope=\"repository:other:push\"\r\n",
             x->port);
    snprintf(good, sizeof(good), "Bearer tok%u", issued);
    if (strcmp(x->authorization, "Bearer given") != 0 &&
        (strcmp(x->authorization, good) != 0 || used++ >= *(unsigned *)ctx))
        answer_text(x, 401, challenge,
                    "{\"errors\":[{\"code\":\"UNAUTHORIZED\",\"message\":\"authentication required\"}]}");
    else if (!answer_usual(x))
        answer_range(x, blob, BLOB_SIZE);
}

static void tokens_are_fetched_used_and_renewed(void **state)
{
    static unsigned many = 100, one = 1;
    unsigned *const uses[] = {&many, &one};

    for (size_t i = 0; i < ARRAY_SIZE(uses); i++) {
        struct registry r;
        struct fetched f;

        registry_start(&r, wants_token, uses[i]);
        fetch(&(struct ask){.host = r.host,
                            .user = "joe",
                            .password = "s3cret",
                            .commands = {a_manifest("latest"), a_blob(blob_digest, BLOB_SIZE, "layer")},
                            .count = uses[i] == &one ? 1 : 2},
              &f);
        assert_done(&f, 1);
        if (uses[i] == &many) {
            assert_done(&f, 2);
            assert_int_equal(registry_asked(&r, "GET /token"), 1);
        }
        /* User and password are for the token server alone. */
        assert_int_equal(registry_asked(&r, "Basic"), registry_asked(&r, "/token"));
        fetched_fini(&f);
        registry_stop(&r);
    }
}

static void token_that_ran_out_is_renewed(void **state)
{
    static unsigned one = 1;
    struct registry r;
    struct fetched f;

    registry_start(&r, wants_token, &one);
    fetch(&(struct ask){.host = r.host,
                        .user = "joe",
                        .password = "s3cret",
                        .commands = {a_manifest("latest"), a_manifest("other")},
                        .count = 2},
          &f);
    assert_done(&f, 1);
    assert_done(&f, 2);
    assert_int_equal(registry_asked(&r, "GET /token"), 2);
    fetched_fini(&f);
    registry_stop(&r);
}

static void identity_tokens_are_exchanged_and_given_tokens_used_as_they_are(void **state)
{
    static unsigned many = 100;
    struct registry r;
    struct fetched f;

    registry_start(&r, wants_token, &many);
    fetch(
        &(struct ask){.host = r.host, .identity_token = "idtok/1", .commands = {a_manifest("latest")}, .count = 1},
        &f);
    assert_done(&f, 1);
    assert_int_equal(registry_asked(&r, "POST /token"), 1);
    fetched_fini(&f);
    fetch(&(struct ask){.host = r.host, .registry_token = "given", .commands = {a_manifest("latest")}, .count = 1},
          &f);
    assert_done(&f, 1);
    assert_int_equal(registry_asked(&r, "/token"), 1);
    fetched_fini(&f);
    fetch(&(struct ask){.host = r.host, .registry_token = "wrong", .commands = {a_manifest("latest")}, .count = 1},
          &f);
    assert_failed(&f, 1, ERR_UNAUTHORIZED, "unauthorized");
    fetched_fini(&f);
    registry_stop(&r);
}

static void refused_by_the_token_server_is_unauthorized(void **state)
{
    static unsigned many = 100;
    struct registry r;
    struct fetched f;

    registry_start(&r, wants_token, &many);
    fetch(
        &(struct ask){
            .host = r.host, .user = "joe", .password = "wrong", .commands = {a_manifest("latest")}, .count = 1},
        &f);
    assert_failed(&f, 1, ERR_UNAUTHORIZED, "unauthorized: incorrect username or password");
    fetched_fini(&f);
    registry_stop(&r);
}

static void never_satisfied(struct exchange *x, void *ctx)
{
    char challenge[200];

    snprintf(challenge, sizeof(challenge), "WWW-Authenticate: Bearer realm=\"http://127.0.0.1:%d/token\"\r\n",
             x->port);
    if (strncmp(x->path, "/token", 6) == 0)
        answer_text(x, 200, "", "{\"token\":\"useless\"}");
    else
        answer_text(x, 401, challenge,
                    "{\"errors\":[{\"code\":\"UNAUTHORIZED\",\"message\":\"authentication required\"}]}");
}

static void bad_token_servers(struct exchange *x, void *ctx)
{
    static const char *const answers[] = {
        "", "{}", "[1]", "{\"token\":\"\"}", "{\"token\":7}", "{\"token\":\"a\\r\\nX-Evil: 1\"}"};
    char challenge[200];

    snprintf(challenge, sizeof(challenge), "WWW-Authenticate: Bearer realm=\"http://127.0.0.1:%d/token\"\r\n",
             x->port);
    if (strncmp(x->path, "/token", 6) == 0)
        answer_text(x, 200, "", answers[*(unsigned *)ctx]);
    else
        answer_text(x, 401, challenge, "");
}

static void registries_that_are_never_satisfied_end(void **state)
{
    struct registry r;
    struct fetched f;

    registry_start(&r, never_satisfied, NULL);
    fetch(&(struct ask){.host = r.host, .commands = {a_manifest("latest")}, .count = 1}, &f);
    assert_failed(&f, 1, ERR_UNAUTHORIZED, "unauthorized: authentication required");
    assert_in_range(registry_asked(&r, "GET"), 3, 8);
    fetched_fini(&f);
    registry_stop(&r);
    for (unsigned i = 0; i < 6; i++) {
        registry_start(&r, bad_token_servers, &i);
        fetch(&(struct ask){.host = r.host, .commands = {a_manifest("latest")}, .count = 1}, &f);
        if (f.done[1] || !strstr(f.errors[1].text, "token from http://"))
            fail_msg("answer %u: \"%s\"", i, f.errors[1].text);
        assert_int_equal(registry_asked(&r, "Evil"), 0);
        fetched_fini(&f);
        registry_stop(&r);
    }
}

static void unclear(struct exchange *x, void *ctx)
{
    answer_text(x, 401, ctx, "");
}

static void challenges_that_cannot_be_met_are_told(void **state)
{
    static const struct {
        const char *header, *text;
        int code;
    } rows[] = {
        {"", "does not say which", ERR_UNAUTHORIZED},
        {"WWW-Authenticate: Negotiate\r\n", "does not say which", ERR_UNAUTHORIZED},
        {"WWW-Authenticate: Bearer service=x\r\n", "does not say which", ERR_UNAUTHORIZED},
        {"WWW-Authenticate: Bearer realm=\"ftp://127.0.0.1/token\"\r\n", "not safe", ERR_DENIED},
        {"WWW-Authenticate: Bearer realm=\"file:///etc/passwd\"\r\n", "not safe", ERR_DENIED},
        {"WWW-Authenticate: Bearer realm=\"/etc/passwd\"\r\n", "not safe", ERR_DENIED},
    };

    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        struct registry r;
        struct fetched f;

        registry_start(&r, unclear, (void *)rows[i].header);
        fetch(&(struct ask){.host = r.host,
                            .user = "joe",
                            .password = "s3cret",
                            .commands = {a_manifest("latest")},
                            .count = 1},
              &f);
        assert_failed(&f, 1, rows[i].code, rows[i].text);
        assert_int_equal(registry_asked(&r, "Basic"), 0);
        fetched_fini(&f);
        registry_stop(&r);
    }
}

/* --- redirects ----------------------------------------------------------------------------------- */

static void redirects_blobs(struct exchange *x, void *ctx)
{
    const struct registry *other = ctx;
    char to[400];

    if (strcmp(x->authorization, BASIC_JOE) != 0) {
        answer_text(x, 401, "WWW-Authenticate: Basic realm=\"here\"\r\n", "");
        return;
    }
    if (answer_usual(x))
        return;
    snprintf(to, sizeof(to), "Location: http://127.0.0.1:%d%s?signed=yes\r\n", other->port, x->path);
    answer_text(x, 307, to, "");
}

static void storage(struct exchange *x, void *ctx)
{
    if (x->ranged)
        answer_range(x, blob, BLOB_SIZE);
    else
        answer_cut(x, 200, "", blob, BLOB_SIZE, 1000); /* so that there is a second attempt */
}

static void credentials_do_not_follow_to_another_host(void **state)
{
    struct registry r, other;
    struct fetched f;

    registry_start(&other, storage, NULL);
    registry_start(&r, redirects_blobs, &other);
    fetch(&(struct ask){.host = r.host,
                        .user = "joe",
                        .password = "s3cret",
                        .commands = {a_blob(blob_digest, BLOB_SIZE, "layer")},
                        .count = 1},
          &f);
    assert_done(&f, 1);
    assert_blob_is_there(&f, "layer");
    assert_int_equal(registry_asked(&other, "signed=yes auth= range=no 0"), 1);
    assert_int_equal(registry_asked(&other, "signed=yes auth= range=1000"), 1);
    assert_int_equal(registry_asked(&other, "Basic"), 0);
    assert_int_equal(registry_asked(&r, "/blobs/"), 2); /* each attempt begins at the registry */
    fetched_fini(&f);
    registry_stop(&r);
    registry_stop(&other);
}

static void asks_for_credentials(struct exchange *x, void *ctx)
{
    answer_text(x, 401, "WWW-Authenticate: Basic realm=\"give them to me\"\r\n", "");
}

static void another_host_that_asks_for_credentials_gets_none(void **state)
{
    struct registry r, other;
    struct fetched f;

    registry_start(&other, asks_for_credentials, NULL);
    registry_start(&r, redirects_blobs, &other);
    fetch(&(struct ask){.host = r.host,
                        .user = "joe",
                        .password = "s3cret",
                        .commands = {a_blob(blob_digest, BLOB_SIZE, "layer")},
                        .count = 1},
          &f);
    assert_failed(&f, 1, ERR_UNAUTHORIZED, "status 401");
    assert_int_equal(registry_asked(&other, "Basic"), 0);
    assert_int_equal(registry_asked(&other, "GET"), 1);
    fetched_fini(&f);
    registry_stop(&r);
    registry_stop(&other);
}

static void redirects_to(struct exchange *x, void *ctx)
{
    char to[400];

    if (answer_usual(x))
        return;
    snprintf(to, sizeof(to), "Location: %s\r\n", (const char *)ctx);
    answer_text(x, 302, to, "moved");
}

static void redirects_that_are_not_followed(void **state)
{
    static const struct {
        const char *to, *text;
    } rows[] = {
        {"file:///etc/passwd", "not followed"},
        {"ftp://127.0.0.1/x", "not followed"},
        {"gopher://127.0.0.1:1/x", "not followed"},
        {"/v2/team/web/blobs/again", "more than 5 redirects"},
    };

    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        struct registry r;
        struct fetched f;

        registry_start(&r, redirects_to, (void *)rows[i].to);
        fetch(&(struct ask){.host = r.host, .commands = {a_blob(blob_digest, BLOB_SIZE, "layer")}, .count = 1}, &f);
        if (f.done[1] || !strstr(f.errors[1].text, rows[i].text))
            fail_msg("%s: \"%s\"", rows[i].to, f.errors[1].text);
        fetched_fini(&f);
        registry_stop(&r);
    }
}

static void safety_of_addresses_is_judged(void **state)
{
    FetchRequest plain = FETCH_REQUEST__INIT, secure = FETCH_REQUEST__INIT;

    plain.insecure = plain.has_insecure = true;
    const struct fetch may = {.request = &plain}, may_not = {.request = &secure};
    assert_true(url_may_follow(&may_not, "https://a/", "https://b/"));
    assert_false(url_may_follow(&may_not, "https://a/", "http://a/"));
    assert_false(url_may_follow(&may, "https://a/", "http://a/")); /* never down from HTTPS */
    assert_true(url_may_follow(&may, "http://a/", "http://b/"));
    assert_true(url_may_follow(&may, "http://a/", "https://b/"));
    assert_false(url_may_follow(&may, "http://a/", "file:///x"));
    assert_true(url_same_origin("https://a.example/x", "HTTPS://A.example:443/y"));
    assert_false(url_same_origin("https://a.example/", "http://a.example/"));
    assert_false(url_same_origin("https://a.example/", "https://a.example:444/"));
    assert_false(url_same_origin("https://a.example/", "https://b.example/"));
    assert_false(url_same_origin("https://a.example/", "https://a.example.evil/"));
    assert_false(url_same_origin("https://a.example/", "https://a.example@evil/"));
    assert_false(url_same_origin("https://a.example/", "nonsense"));
}

static void requests_and_commands_are_checked(void **state)
{
    struct fetched f;
    FetchCommand no_limit = FETCH_COMMAND__INIT, no_digest = a_blob("sha256:short", 1, "x"),
                 outside = a_blob(blob_digest, 1, "../../outside"), no_file = a_blob(blob_digest, 1ull << 40, NULL);
    struct registry r;

    no_limit.manifest = (char *)"latest";
    registry_start(&r, honest, NULL);
    fetch(&(struct ask){.host = r.host, .commands = {no_limit}, .count = 1}, &f);
    assert_failed(&f, 0, ERR_INVALID, "a limit");
    fetched_fini(&f);
    fetch(&(struct ask){.host = r.host, .commands = {no_digest}, .count = 1}, &f);
    assert_failed(&f, 0, ERR_INVALID, "is no digest");
    fetched_fini(&f);
    fetch(&(struct ask){.host = r.host, .commands = {no_file}, .count = 1}, &f);
    assert_failed(&f, 0, ERR_LIMIT, "too many without a file");
    fetched_fini(&f);
    fetch(&(struct ask){.host = r.host, .commands = {outside}, .count = 1}, &f);
    assert_int_equal(access("/tmp/outside", F_OK), -1);
    assert_false(f.done[1]);
    fetched_fini(&f);
    fetch(&(struct ask){.host = "evil\r\nHost: x", .commands = {a_manifest("latest")}, .count = 1}, &f);
    assert_failed(&f, 0, ERR_INVALID, "control characters");
    fetched_fini(&f);
    registry_stop(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(manifests_and_blobs_come_with_their_digests),
        cmocka_unit_test(absent_manifest_is_not_found_in_the_registrys_words),
        cmocka_unit_test(plain_http_is_only_spoken_where_it_is_allowed),
        cmocka_unit_test(nobody_listening_is_told_after_some_attempts),
        cmocka_unit_test(who_waits_is_answered_after_one_attempt),
        cmocka_unit_test(blob_with_another_digest_is_refused),
        cmocka_unit_test(blob_larger_or_smaller_than_announced_is_refused),
        cmocka_unit_test(manifest_that_is_not_what_was_asked_for_is_refused),
        cmocka_unit_test(broken_transfer_goes_on_where_it_stopped),
        cmocka_unit_test(transfer_that_never_ends_is_given_up_after_five_attempts),
        cmocka_unit_test(resuming_gone_wrong_begins_anew),
        cmocka_unit_test(busy_registry_is_asked_again),
        cmocka_unit_test(broken_registry_is_given_up_with_its_status),
        cmocka_unit_test(basic_credentials_are_shown_once_asked_for),
        cmocka_unit_test(tokens_are_fetched_used_and_renewed),
        cmocka_unit_test(token_that_ran_out_is_renewed),
        cmocka_unit_test(identity_tokens_are_exchanged_and_given_tokens_used_as_they_are),
        cmocka_unit_test(refused_by_the_token_server_is_unauthorized),
        cmocka_unit_test(registries_that_are_never_satisfied_end),
        cmocka_unit_test(challenges_that_cannot_be_met_are_told),
        cmocka_unit_test(credentials_do_not_follow_to_another_host),
        cmocka_unit_test(another_host_that_asks_for_credentials_gets_none),
        cmocka_unit_test(redirects_that_are_not_followed),
        cmocka_unit_test(safety_of_addresses_is_judged),
        cmocka_unit_test(requests_and_commands_are_checked),
    };

    if (getuid() != 0) {
        puts("skip fetch_test: needs root, to confine itself");
        return 0;
    }
    make_contents();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
