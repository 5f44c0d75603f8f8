/* Requests to a registry (request.h), by libcurl.
 *
 *     waiting --request_start--> active --curl--> request_finish --> done | again | refused | hopeless
 *
 * Redirects are followed by us, not by curl, because what may be shown where is our rule: the Authorization header
 * goes to the registry's own scheme, host and port and nowhere else; nothing goes from HTTPS to HTTP.
 *
 * A blob is written as it comes and hashed as it is written. When a connection breaks, the next attempt asks for
 * the rest (Range); a server that answers with the whole or with another part makes it start again from nothing.
 * Bytes beyond the announced size end the transfer at once. A digest that does not match is an error, but for one
 * that was put together from several attempts: that one is fetched once more in one piece.
 *
 * Worth another attempt: no connection, a broken or stalled one, status 408, 429 and 5xx. The pause doubles from
 * 0.2 s, with a jitter of a half; a registry's Retry-After is honoured up to 30 s. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "engine/job/challenge.h"
#include "engine/job/frame.h"
#include "engine/job/request.h"
#include "proto/base/entropy.h"
#include "proto/base/file.h"
#include "proto/base/jread.h"
#include "proto/base/mem.h"

#define REDIRECTS_MAX   5
#define ERROR_BODY_MAX  ((size_t)64 << 10)
#define PAUSE_FIRST_MS  200
#define RETRY_AFTER_MAX 30
#define PROGRESS_MS     100
#define CONNECT_S       15
#define STALL_S         60 /* without a byte */
#define SMALL_ANSWER_S  60 /* for everything but blobs */
#define HURRY_ATTEMPTS  2  /* where somebody waits who can do without */

static const char accept_manifests[] = "Accept: application/vnd.oci.image.index.v1+json, "
                                       "application/vnd.docker.distribution.manifest.list.v2+json, "
                                       "application/vnd.oci.image.manifest.v1+json, "
                                       "application/vnd.docker.distribution.manifest.v2+json";

/* --- addresses ----------------------------------------------------------------------------------- */

static char *url_part(CURLU *u, CURLUPart part)
{
    char *text = NULL;

    return curl_url_get(u, part, &text, CURLU_DEFAULT_PORT) == CURLUE_OK ? text : NULL;
}

bool url_same_origin(const char *a, const char *b)
{
    static const CURLUPart parts[] = {CURLUPART_SCHEME, CURLUPART_HOST, CURLUPART_PORT};
    CURLU *ua = curl_url(), *ub = curl_url();
    bool same = ua && ub && curl_url_set(ua, CURLUPART_URL, a, 0) == CURLUE_OK &&
                curl_url_set(ub, CURLUPART_URL, b, 0) == CURLUE_OK;

    for (size_t i = 0; i < ARRAY_SIZE(parts) && same; i++) {
        char *pa = url_part(ua, parts[i]), *pb = url_part(ub, parts[i]);

        same = pa && pb && strcasecmp(pa, pb) == 0;
        curl_free(pa);
        curl_free(pb);
    }
    curl_url_cleanup(ua);
    curl_url_cleanup(ub);
    return same;
}

static bool is_https(const char *url)
{
    return strncasecmp(url, "https://", 8) == 0;
}

bool url_may_follow(const struct fetch *f, const char *from, const char *to)
{
    if (is_https(to))
        return true;
    return f->request->insecure && !is_https(from) && strncasecmp(to, "http://", 7) == 0;
}

/* --- what comes ---------------------------------------------------------------------------------- */

static int64_t now_ms(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static void tell_progress(struct request *r)
{
    FetchEvent event = FETCH_EVENT__INIT;
    int64_t now = now_ms();

    if (now - r->told_ms < PROGRESS_MS)
        return;
    r->told_ms = now;
    event.id = r->command->id;
    event.has_current = true;
    event.current = r->received;
    (void)frame_write(STDOUT_FILENO, &event.base, NULL); /* if shoald is gone, so is standard input */
}

const char *request_header(struct request *r, const char *name)
{
    struct curl_header *h;

    return curl_easy_header(r->easy, name, 0, CURLH_HEADER, -1, &h) == CURLHE_OK ? h->value : NULL;
}

static int blob_begin_anew(struct request *r, struct err *e)
{
    hash_free(r->hash);
    r->hash = hash_new();
    r->received = 0;
    r->resumed = false;
    if (r->fd >= 0 && (ftruncate(r->fd, 0) < 0 || lseek(r->fd, 0, SEEK_SET) < 0))
        return err_errno(e, "begin the blob anew");
    return 0;
}

/* The first bytes of a blob's answer: do they follow those we have? */
static int blob_answer(struct request *r, struct err *e)
{
    const char *range = r->status == 206 ? request_header(r, "Content-Range") : NULL;
    uint64_t from = 0;

    if (range && sscanf(range, "bytes %" SCNu64 "-", &from) == 1 && from == r->received)
        return 0;
    if (r->status == 206 && r->received)
        return err_set(e, ERR_CORRUPT, "the registry sent another part of the blob than was asked for");
    return r->received ? blob_begin_anew(r, e) : 0;
}

static uint64_t blob_limit(const struct request *r)
{
    return r->command->has_size_bytes ? r->command->size_bytes : r->command->bytes_max;
}

static int blob_write(struct request *r, const char *data, size_t size, struct err *e)
{
    if (size > blob_limit(r) - r->received)
        return err_set(e, r->command->has_size_bytes ? ERR_CORRUPT : ERR_LIMIT,
                       "the blob has more than the %" PRIu64 " bytes %s", blob_limit(r),
                       r->command->has_size_bytes ? "its descriptor says" : "allowed");
    int rc = r->fd >= 0 ? write_all(r->fd, data, size, e) : 0;
    if (rc < 0)
        return rc;
    if (r->fd < 0)
        buf_append(&r->body, data, size);
    hash_add(r->hash, data, size);
    r->received += size;
    tell_progress(r);
    return 0;
}

static size_t on_data(char *data, size_t one, size_t size, void *ctx)
{
    struct request *r = ctx;
    bool first = r->status == 0;
    int rc = 0;

    if (first)
        curl_easy_getinfo(r->easy, CURLINFO_RESPONSE_CODE, &r->status);
    if (r->kind == REQUEST_BLOB && (r->status == 200 || r->status == 206)) {
        if (first)
            rc = blob_answer(r, &r->refused);
        if (rc == 0)
            rc = blob_write(r, data, size, &r->refused);
        return rc < 0 ? CURL_WRITEFUNC_ERROR : size;
    }
    size_t limit = r->status >= 200 && r->status < 300 ? r->body_max : ERROR_BODY_MAX;
    if (size > limit - r->body.length) {
        if (r->status >= 300)
            return CURL_WRITEFUNC_ERROR; /* a long error page: what came will do */
        err_set(&r->refused, ERR_LIMIT, "the answer has more than the %zu bytes allowed", limit);
        return CURL_WRITEFUNC_ERROR;
    }
    buf_append(&r->body, data, size);
    return size;
}

/* --- life ---------------------------------------------------------------------------------------- */

struct request *request_new(struct fetch *f, enum request_kind kind, FetchCommand *command, char *url)
{
    struct request *r = mem_alloc(sizeof(*r));

    list_init(&r->link);
    r->fetch = f;
    r->kind = kind;
    r->command = command;
    r->url = url;
    r->authorize = true;
    r->fd = -1;
    r->body_max = command && command->has_bytes_max ? MIN(command->bytes_max, FRAME_MAX / 2) : (size_t)1 << 20;
    return r;
}

void request_rest(struct request *r)
{
    if (r->easy) {
        curl_multi_remove_handle(r->fetch->multi, r->easy);
        curl_easy_cleanup(r->easy);
        r->easy = NULL;
    }
    curl_slist_free_all(r->headers);
    r->headers = NULL;
}

void request_free(struct request *r)
{
    request_rest(r);
    if (r->command)
        fetch_command__free_unpacked(r->command, NULL);
    if (r->fd >= 0)
        close(r->fd);
    hash_free(r->hash);
    buf_fini(&r->body);
    free(r->url);
    free(r);
}

static void add_header(struct request *r, const char *line)
{
    struct curl_slist *more = curl_slist_append(r->headers, line);

    if (!more)
        abort(); /* out of memory */
    r->headers = more;
}

/* The registry's own certificates, as administrators lay them: <directory>/<host>/ca.crt, client.cert, client.key.
 */
static void use_certificates(struct request *r)
{
    const FetchRequest *q = r->fetch->request;
    static const struct {
        const char *file;
        CURLoption option;
    } files[] = {{"ca.crt", CURLOPT_CAINFO}, {"client.cert", CURLOPT_SSLCERT}, {"client.key", CURLOPT_SSLKEY}};

    if (!q->certificates)
        return;
    for (size_t i = 0; i < ARRAY_SIZE(files); i++) {
        AUTO_FREE
        char *path = mem_printf("%s/%s/%s", q->certificates, q->host, files[i].file);

        if (access(path, R_OK) == 0)
            curl_easy_setopt(r->easy, files[i].option, path);
    }
}

static void set_url(struct request *r)
{
    const FetchRequest *q = r->fetch->request;

    if (!r->url)
        r->url = mem_printf("%s/v2/%s/%s/%s", r->fetch->base, q->repository,
                            r->kind == REQUEST_BLOB ? "blobs" : "manifests",
                            r->kind == REQUEST_BLOB ? r->command->blob : r->command->manifest);
}

static long patience(const struct request *r, long usual_s)
{
    uint32_t wanted = r->fetch->request->patience_s;

    return wanted ? MIN((long)wanted, usual_s) : usual_s;
}

static void set_options(struct request *r)
{
    CURL *c = r->easy;

    curl_easy_setopt(c, CURLOPT_PRIVATE, r);
    curl_easy_setopt(c, CURLOPT_URL, r->url);
    curl_easy_setopt(c, CURLOPT_PROTOCOLS_STR, r->fetch->request->insecure ? "http,https" : "https");
    curl_easy_setopt(c, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
    curl_easy_setopt(c, CURLOPT_USERAGENT, "shoal/" SHOAL_VERSION);
    curl_easy_setopt(c, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(c, CURLOPT_ERRORBUFFER, r->error);
    curl_easy_setopt(c, CURLOPT_WRITEFUNCTION, on_data);
    curl_easy_setopt(c, CURLOPT_WRITEDATA, r);
    curl_easy_setopt(c, CURLOPT_BUFFERSIZE, 256L << 10);
    curl_easy_setopt(c, CURLOPT_CONNECTTIMEOUT, patience(r, CONNECT_S));
    curl_easy_setopt(c, CURLOPT_QUICK_EXIT, 1L); /* never wait for a name server that was given up */
    curl_easy_setopt(c, CURLOPT_LOW_SPEED_LIMIT, 1L);
    curl_easy_setopt(c, CURLOPT_LOW_SPEED_TIME, (long)STALL_S);
    if (r->kind != REQUEST_BLOB)
        curl_easy_setopt(c, CURLOPT_TIMEOUT, patience(r, SMALL_ANSWER_S));
    if (r->post)
        curl_easy_setopt(c, CURLOPT_POSTFIELDS, r->post);
    if (r->authorize) {
        use_certificates(r);
        if (r->fetch->request->insecure) {
            curl_easy_setopt(c, CURLOPT_SSL_VERIFYPEER, 0L);
            curl_easy_setopt(c, CURLOPT_SSL_VERIFYHOST, 0L);
        }
    }
}

static int blob_open(struct request *r, struct err *e)
{
    r->hash = hash_new();
    if (!r->command->file)
        return 0;
    return root_open(r->fetch->root_fd, r->command->file, O_WRONLY | O_CREAT | O_EXCL, 0600, &r->fd, e);
}

int request_start(struct request *r, const char *authorization, struct err *e)
{
    int rc = r->kind == REQUEST_BLOB && !r->hash ? blob_open(r, e) : 0;

    if (rc < 0)
        return rc;
    r->easy = curl_easy_init();
    if (!r->easy)
        return err_set(e, ERR_INTERNAL, "cannot set up a request");
    r->error[0] = '\0';
    r->status = 0;
    r->refused.code = 0;
    if (!(r->kind == REQUEST_BLOB && r->fd < 0 && r->received))
        buf_clear(&r->body);
    set_url(r);
    set_options(r);
    if (r->kind == REQUEST_MANIFEST)
        add_header(r, accept_manifests);
    if (authorization && r->authorize) {
        AUTO_FREE
        char *line = mem_printf("Authorization: %s", authorization);

        add_header(r, line);
    }
    if (r->kind == REQUEST_BLOB && r->received) {
        char range[32];

        snprintf(range, sizeof(range), "%" PRIu64 "-", r->received);
        curl_easy_setopt(r->easy, CURLOPT_RANGE, range);
        r->resumed = true;
    }
    if (r->headers)
        curl_easy_setopt(r->easy, CURLOPT_HTTPHEADER, r->headers);
    if (curl_multi_add_handle(r->fetch->multi, r->easy) != CURLM_OK) {
        request_rest(r);
        return err_set(e, ERR_INTERNAL, "cannot start a request");
    }
    return 0;
}

/* --- what next ----------------------------------------------------------------------------------- */

/* The next attempt of a command begins at the registry itself: what a redirect led to may have been good once. */
static void go_home(struct request *r)
{
    if (!r->command)
        return;
    free(steal(&r->url));
    r->redirects = 0;
    r->authorize = true;
}

static enum request_end try_again(struct request *r, int64_t now, int64_t pause_ms, struct err *e)
{
    FetchEvent event = FETCH_EVENT__INIT;
    unsigned attempts_max = r->fetch->request->patience_s ? HURRY_ATTEMPTS : REQUEST_ATTEMPTS;

    if (++r->attempts >= attempts_max) {
        err_wrap(e, "after %u attempts", attempts_max);
        return REQUEST_HOPELESS;
    }
    if (pause_ms < 0) {
        pause_ms = (int64_t)PAUSE_FIRST_MS << (r->attempts - 1);
        pause_ms += (int64_t)entropy_below(entropy_real(), (uint64_t)pause_ms / 2);
    }
    r->begin_ms = now + pause_ms;
    go_home(r);
    if (r->command && r->kind == REQUEST_BLOB) {
        event.id = r->command->id;
        event.has_retry_s = true;
        event.retry_s = (uint32_t)((pause_ms + 999) / 1000);
        (void)frame_write(STDOUT_FILENO, &event.base, NULL);
    }
    return REQUEST_AGAIN;
}

static enum request_end follow(struct request *r, struct err *e)
{
    char *to = NULL;

    curl_easy_getinfo(r->easy, CURLINFO_REDIRECT_URL, &to);
    if (!to) {
        err_set(e, ERR_UNAVAILABLE, "%.300s answers with a redirect to nowhere", r->url);
        return REQUEST_HOPELESS;
    }
    if (++r->redirects > REDIRECTS_MAX) {
        err_set(e, ERR_UNAVAILABLE, "more than %d redirects", REDIRECTS_MAX);
        return REQUEST_HOPELESS;
    }
    if (r->kind == REQUEST_TOKEN || !url_may_follow(r->fetch, r->url, to)) {
        err_set(e, ERR_DENIED, "%.300s redirects to %.300s, which is not followed", r->url, to);
        return REQUEST_HOPELESS;
    }
    r->authorize = url_same_origin(to, r->fetch->base);
    free(r->url);
    r->url = mem_strdup(to);
    return REQUEST_AGAIN;
}

static enum request_end blob_check(struct request *r, int64_t now, struct err *e)
{
    uint8_t bytes[SHA256_BYTES];
    char digest[DIGEST_TEXT + 1];

    if (r->received == 0 && r->status == 200 && blob_limit(r) > 0 && r->command->has_size_bytes) {
        err_set(e, ERR_CORRUPT, "the registry sent an empty blob");
        return try_again(r, now, -1, e);
    }
    if (r->command->has_size_bytes && r->received < r->command->size_bytes) {
        err_set(e, ERR_CORRUPT, "the blob ended after %" PRIu64 " of %" PRIu64 " bytes", r->received,
                r->command->size_bytes);
        return try_again(r, now, -1, e);
    }
    hash_end(r->hash, bytes);
    digest_format(bytes, digest);
    if (strcmp(digest, r->command->blob) == 0)
        return REQUEST_DONE;
    err_set(e, ERR_CORRUPT, "the blob that came has digest %s where %s was asked for", digest, r->command->blob);
    bool pieces = r->resumed && !r->restarted;
    if (!pieces || blob_begin_anew(r, e) < 0)
        return REQUEST_HOPELESS;
    r->restarted = true;
    return try_again(r, now, -1, e);
}

static int64_t retry_after_ms(struct request *r)
{
    const char *value = request_header(r, "Retry-After");
    unsigned seconds;

    if (!value || sscanf(value, "%u", &seconds) != 1)
        return -1;
    return (int64_t)MIN(seconds, (unsigned)RETRY_AFTER_MAX) * 1000;
}

/* What HTTP's status means here. */
static enum request_end judge(struct request *r, int64_t now, struct err *e)
{
    AUTO_ARENA
    struct arena a;

    arena_init(&a);
    if (r->status >= 200 && r->status < 300)
        return r->kind == REQUEST_BLOB ? blob_check(r, now, e) : REQUEST_DONE;
    if (r->status >= 301 && r->status <= 308 && r->status != 304 && r->status != 305 && r->status != 306)
        return follow(r, e);
    if (r->status == 416 && r->kind == REQUEST_BLOB && r->received) {
        err_set(e, ERR_CORRUPT, "the registry does not have the rest of the blob");
        return blob_begin_anew(r, e) < 0 ? REQUEST_HOPELESS : try_again(r, now, -1, e);
    }
    int code = r->status == 404   ? ERR_NOT_FOUND
               : r->status == 401 ? ERR_UNAUTHORIZED
               : r->status == 403 ? ERR_DENIED
                                  : ERR_UNAVAILABLE;
    err_set(e, code, "%s", request_complaint(r, &a));
    if (r->status == 401 && r->authorize)
        return REQUEST_REFUSED;
    if (r->status == 408 || r->status == 429 || r->status >= 500)
        return try_again(r, now, retry_after_ms(r), e);
    return REQUEST_HOPELESS;
}

/* A failure that the next attempt would only repeat. */
static bool is_hopeless(const struct request *r, CURLcode result)
{
    switch (result) {
    case CURLE_PEER_FAILED_VERIFICATION:
    case CURLE_UNSUPPORTED_PROTOCOL:
    case CURLE_URL_MALFORMAT:
    case CURLE_SSL_CERTPROBLEM:
        return true;
    case CURLE_COULDNT_RESOLVE_HOST:
    case CURLE_COULDNT_CONNECT:
        return r->fetch->request->patience_s > 0;
    case CURLE_OPERATION_TIMEDOUT: /* long enough was waited for a registry's first answer */
        return r->fetch->request->patience_s > 0 || r->kind == REQUEST_PING;
    default:
        return false;
    }
}

enum request_end request_finish(struct request *r, CURLcode result, int64_t now, struct err *e)
{
    enum request_end end;

    curl_easy_getinfo(r->easy, CURLINFO_RESPONSE_CODE, &r->status);
    if (r->refused.code) {
        if (e)
            *e = r->refused;
        bool other_part = r->status == 206 && r->refused.code == ERR_CORRUPT && r->resumed && !r->restarted;
        end = REQUEST_HOPELESS;
        if (other_part && blob_begin_anew(r, NULL) == 0) {
            r->restarted = true;
            end = try_again(r, now, -1, e);
        }
    } else if (result == CURLE_OK || (r->status >= 300 && result == CURLE_WRITE_ERROR)) {
        end = judge(r, now, e);
    } else {
        err_set(e, result == CURLE_OPERATION_TIMEDOUT ? ERR_TIMEOUT : ERR_UNAVAILABLE, "Get \"%.300s\": %s", r->url,
                r->error[0] ? r->error : curl_easy_strerror(result));
        end = is_hopeless(r, result) ? REQUEST_HOPELESS : try_again(r, now, -1, e);
    }
    if (end == REQUEST_AGAIN)
        request_rest(r); /* at any other end its headers are still asked for */
    return end;
}

const char *request_complaint(const struct request *r, struct arena *a)
{
    AUTO_JSON
    json_t *root = NULL;
    json_t *errors = NULL;
    char *code = NULL, *message = NULL;

    if (r->body.length && jread_parse(buf_bytes(&r->body), r->body.length, &root, NULL) == 0 &&
        json_is_object(root) && jread_array(root, NULL, "errors", &errors, NULL) == 0 && errors) {
        const json_t *first = json_array_get(errors, 0);

        (void)jread_string(first, NULL, "code", a, &code, NULL);
        (void)jread_string(first, NULL, "message", a, &message, NULL);
    }
    if (!code)
        return arena_printf(a, "%.300s answers with status %ld", r->url, r->status);
    for (char *at = code; *at; at++)
        *at = *at == '_' ? ' ' : *at >= 'A' && *at <= 'Z' ? (char)(*at + 32) : *at;
    return arena_printf(a, "%.100s: %.400s", code, message ? message : "");
}
