/* Pull, load and import: see image_jobs.h and reference/engine-surface.md sections 11 and 12.
 *
 * The answer is a stream of JSON lines that begins with the first progress. Before it an error is a plain error
 * with its status; after it the status is spoken, and errors travel as {"errorDetail":...} in the stream. A client
 * that leaves ends its pull. One that reads slowly misses some of the figures, never a line that says that
 * something is done. */
#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "engine/api/api.h"
#include "engine/api/image_jobs.h"
#include "engine/image/image.h"
#include "proto/base/mem.h"

#define CHANGES_MAX 256

struct job_call {
    struct api_call *call; /* held until on_done */
    struct image_job *job; /* NULL before it runs and once it has ended */
    bool streaming;        /* the head is out */
    bool blocked;          /* the client's queue is full */
    bool feeding;          /* takes the request's body */
};

static void on_left(struct api_call *c)
{
    struct job_call *l = c->state;

    if (l->job)
        image_job_cancel(l->job); /* on_done follows */
}

static void on_client_writable(struct http_exchange *x)
{
    struct api_call *c = http_data(x);
    struct job_call *l = c->state;

    if (c->on_left) /* else it has ended meanwhile */
        l->blocked = false;
}

static void put_line(struct job_call *l, const char *json, size_t length)
{
    struct http_exchange *x = l->call->x;

    if (!x)
        return;
    if (!l->streaming) {
        l->streaming = true;
        http_stream(x, 200, "application/json", on_client_writable);
    }
    (void)http_write(x, json, length);
    l->blocked = !http_write(x, "\r\n", 2);
}

/* A figure on the way, of which the next one makes up for it. */
static bool is_figure(const char *json, size_t length)
{
    return memmem(json, length, "\"current\":", 10) != NULL;
}

static void on_progress(void *ctx, const char *json, size_t length)
{
    struct job_call *l = ctx;

    if (l->blocked && is_figure(json, length))
        return;
    put_line(l, json, length);
}

static void put_error(struct job_call *l, const struct err *e)
{
    AUTO_BUF struct buf line = {0};
    struct jwrite j = JWRITE_TO(&line);

    jwrite_object(&j, NULL);
    jwrite_object(&j, "errorDetail");
    jwrite_string(&j, "message", e->text);
    jwrite_end(&j);
    jwrite_string(&j, "error", e->text);
    jwrite_end(&j);
    put_line(l, buf_bytes(&line), line.length);
}

static void on_done(void *ctx, const struct err *e, const char *image_id)
{
    struct job_call *l = ctx;
    struct api_call *c = l->call;

    l->job = NULL;
    c->on_left = NULL;
    if (c->x && e->code && !l->streaming) {
        api_error(c, e);
    } else if (c->x) {
        if (e->code)
            put_error(l, e);
        if (!l->streaming)
            http_stream(c->x, 200, "application/json", NULL);
        http_stream_end(c->x);
    }
    free(l);
    c->state = NULL;
    api_release(c);
}

static struct job_call *job_new(struct api_call *c, struct image_job_events *ret_events)
{
    struct job_call *l = mem_alloc(sizeof(*l));

    l->call = c;
    *ret_events = (struct image_job_events){.ctx = l, .on_progress = on_progress, .on_done = on_done};
    return l;
}

/* The job was begun, or refused: then that is the answer. */
static bool job_begun(struct job_call *l, int rc, const struct err *e)
{
    struct api_call *c = l->call;

    if (rc < 0) {
        free(l);
        api_error(c, e);
        return false;
    }
    api_hold(c);
    c->state = l;
    c->on_left = on_left;
    return true;
}

/* --- bodies -------------------------------------------------------------------------------------- */

static bool on_data(struct http_exchange *x, const char *data, size_t size)
{
    struct api_call *c = http_data(x);
    struct job_call *l = c->state;

    if (!l || !l->job) /* it has ended before its archive did, with an error that was answered */
        return true;
    return image_job_feed(l->job, data, size);
}

static void on_job_writable(void *ctx)
{
    struct job_call *l = ctx;

    if (l->call->x)
        http_body_resume(l->call->x);
}

void image_jobs_load(struct api_call *c)
{
    struct image_job_events events;
    struct job_call *l = job_new(c, &events);
    struct err e = {0};
    int rc = image_load(c->en->images, http_query_bool(c->x, "quiet"), &events, on_job_writable, &l->job, &e);

    if (job_begun(l, rc, &e))
        http_body_stream(c->x, on_data);
}

/* --- pull and import ------------------------------------------------------------------------------ */

static int hex_digit(char c)
{
    return isdigit((unsigned char)c) ? c - '0' : isxdigit((unsigned char)c) ? (c | 0x20) - 'a' + 10 : -1;
}

static char *decoded(struct arena *a, const char *text, size_t length)
{
    char *copy = arena_alloc(a, length + 1);
    size_t used = 0;

    for (size_t i = 0; i < length; i++) {
        if (text[i] == '%' && i + 2 < length && hex_digit(text[i + 1]) >= 0 && hex_digit(text[i + 2]) >= 0) {
            copy[used++] = (char)(hex_digit(text[i + 1]) * 16 + hex_digit(text[i + 2]));
            i += 2;
        } else {
            copy[used++] = text[i] == '+' ? ' ' : text[i];
        }
    }
    return copy;
}

/* All values of a parameter that may be repeated. */
static size_t query_all(struct api_call *c, const char *key, const char *ret[CHANGES_MAX])
{
    const char *at = http_query_string(c->x);
    size_t key_length = strlen(key), count = 0;

    while (*at && count < CHANGES_MAX) {
        size_t length = strcspn(at, "&");

        if (length > key_length && strncmp(at, key, key_length) == 0 && at[key_length] == '=')
            ret[count++] = decoded(api_arena(c), at + key_length + 1, length - key_length - 1);
        at += length;
        at += *at == '&';
    }
    return count;
}

static const char *query(struct api_call *c, const char *key) /* NULL when absent or empty */
{
    const char *value = http_query(c->x, key);

    return value && *value ? value : NULL;
}

static const char *joined_name(struct api_call *c, const char *name, const char *tag)
{
    if (!name || !tag)
        return name;
    return arena_printf(api_arena(c), strncmp(tag, "sha256:", 7) == 0 ? "%s@%s" : "%s:%s", name, tag);
}

static void import(struct api_call *c)
{
    const char *changes[CHANGES_MAX], *source = query(c, "fromSrc");
    struct image_job_events events;
    struct job_call *l;
    struct err e = {0};

    if (strcmp(source, "-") != 0) {
        api_absent(c, "importing an image from a URL");
        return;
    }
    size_t count = query_all(c, "changes", changes);
    l = job_new(c, &events);
    int rc = image_import(c->en->images, joined_name(c, query(c, "repo"), query(c, "tag")), query(c, "message"),
                          changes, count, query(c, "platform"), &events, on_job_writable, &l->job, &e);
    if (job_begun(l, rc, &e))
        http_body_stream(c->x, on_data);
}

/* Whether a name carries a tag or digest itself. */
static bool is_exact(const char *name)
{
    const char *slash = strrchr(name, '/');

    return strchr(name, '@') || strchr(slash ? slash : name, ':');
}

static void pull(struct api_call *c)
{
    const char *name = query(c, "fromImage"), *tag = query(c, "tag");
    struct image_job_events events;
    struct job_call *l;
    struct err e = {0};

    if (!tag && !is_exact(name)) {
        api_absent(c, "pulling all tags of an image: name one. It");
        return;
    }
    l = job_new(c, &events);
    job_begun(l,
              image_pull(c->en->images, joined_name(c, name, tag), query(c, "platform"),
                         http_header(c->x, "X-Registry-Auth"), &events, &l->job, &e),
              &e);
}

void image_jobs_create(struct api_call *c)
{
    struct err e;

    if (query(c, "fromImage")) {
        pull(c);
    } else if (query(c, "fromSrc")) {
        import(c);
    } else {
        err_set(&e, ERR_INVALID, "invalid request: fromImage or fromSrc is needed");
        api_error(c, &e);
    }
}

/* --- registries ---------------------------------------------------------------------------------- */

static void resolved(void *ctx, const struct err *e, const struct image_manifest_info *info)
{
    struct api_call *c = ctx;
    AUTO_BUF struct buf body = {0};
    struct jwrite j = JWRITE_TO(&body);

    if (e->code) {
        api_error(c, e);
        api_release(c);
        return;
    }
    jwrite_object(&j, NULL);
    jwrite_object(&j, "Descriptor");
    jwrite_string(&j, "mediaType", info->media_type);
    jwrite_string(&j, "digest", info->digest);
    jwrite_int(&j, "size", info->size);
    jwrite_end(&j);
    jwrite_array(&j, "Platforms");
    for (size_t i = 0; i < info->platform_count; i++) {
        jwrite_object(&j, NULL);
        jwrite_string(&j, "architecture", info->platforms[i]->architecture);
        jwrite_string(&j, "os", info->platforms[i]->os);
        jwrite_end(&j);
    }
    jwrite_end(&j);
    jwrite_end(&j);
    api_json(c, 200, &body);
    api_release(c);
}

void image_jobs_distribution(struct api_call *c)
{
    struct err e = {0};

    api_hold(c);
    if (image_resolve(c->en->images, c->name, http_header(c->x, "X-Registry-Auth"), resolved, c, &e) < 0) {
        api_error(c, &e);
        api_release(c);
    }
}
