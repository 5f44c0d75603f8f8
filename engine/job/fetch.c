/* `shoal-job fetch`: manifests and blobs of one repository of one registry.
 *
 * shoald decides what is wanted and sends commands; this job knows how a registry is spoken to: scheme,
 * credentials, redirects, attempts, resuming, digests. It keeps no state of its own and never looks into what it
 * fetches. Up to `parallel` requests run at once, in one curl multi handle and one loop; standard input is watched
 * in the same poll, and its end is the job's end.
 *
 *     command --> waiting --> active --> event with the bytes, or that the blob's file is complete
 *
 * The session's own requests (session.c) go before everything else; until it is ready nothing else starts.
 *
 * Confinement: the directory for blobs and, read-only, certificates and what name resolution needs; no capability;
 * no sockets but the internet's. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "engine/job/challenge.h"
#include "engine/job/confine.h"
#include "engine/job/frame.h"
#include "engine/job/request.h"
#include "engine/job/session.h"
#include "engine/job/verb.h"
#include "proto/base/mem.h"

#define FILE_BYTES_MAX ((uint64_t)1 << 40) /* a blob's size is bounded by its command */

static int64_t now_ms(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* --- answers ------------------------------------------------------------------------------------- */

static void send_error(uint32_t id, const struct err *why)
{
    JobError error = JOB_ERROR__INIT;
    FetchEvent event = FETCH_EVENT__INIT;

    error.code = why->code;
    error.text = (char *)why->text;
    event.id = id;
    event.error = &error;
    (void)frame_write(STDOUT_FILENO, &event.base, NULL); /* if shoald is gone, so is standard input */
}

static void send_blob(const struct request *r)
{
    FetchEvent event = FETCH_EVENT__INIT;

    event.id = r->command->id;
    event.has_done = event.done = true;
    if (!r->command->file) {
        event.has_body = true;
        event.body.data = (uint8_t *)buf_bytes(&r->body);
        event.body.len = r->body.length;
    }
    (void)frame_write(STDOUT_FILENO, &event.base, NULL);
}

static int send_manifest(struct request *r, struct err *e)
{
    const char *said = request_header(r, "Docker-Content-Digest"), *type = request_header(r, "Content-Type");
    FetchEvent event = FETCH_EVENT__INIT;
    uint8_t bytes[SHA256_BYTES];
    char digest[DIGEST_TEXT + 1], media_type[128] = "";

    sha256(buf_bytes(&r->body), r->body.length, bytes);
    digest_format(bytes, digest);
    if (digest_valid(r->command->manifest) && strcmp(digest, r->command->manifest) != 0)
        return err_set(e, ERR_CORRUPT, "the manifest that came has digest %s where %s was asked for", digest,
                       r->command->manifest);
    if (said && digest_valid(said) && strcmp(said, digest) != 0)
        return err_set(e, ERR_CORRUPT, "the manifest that came has digest %s where the registry says %s", digest,
                       said);
    if (type)
        snprintf(media_type, sizeof(media_type), "%.*s", (int)strcspn(type, "; \t"), type);
    event.id = r->command->id;
    event.has_done = event.done = event.has_body = true;
    event.body.data = (uint8_t *)buf_bytes(&r->body);
    event.body.len = r->body.length;
    event.digest = digest;
    event.media_type = media_type;
    return frame_write(STDOUT_FILENO, &event.base, e);
}

/* --- the queue ----------------------------------------------------------------------------------- */

static void drop(struct request *r)
{
    list_remove(&r->link);
    request_free(r);
}

/* Nothing can be fetched from this registry: every command has the same answer. */
static void fail_all(struct fetch *f, const struct err *why)
{
    struct request *r, *after;

    list_each_safe (r, after, &f->waiting, link) {
        if (r->command)
            send_error(r->command->id, why);
        drop(r);
    }
}

static void start(struct fetch *f, struct request *r)
{
    struct err e = {0};

    list_remove(&r->link);
    if (request_start(r, session_authorization(f->session), &e) < 0) {
        if (r->command)
            send_error(r->command->id, &e);
        request_free(r);
        return;
    }
    list_push(&f->active, &r->link);
    f->active_count++;
}

/* Start what may start now; returns for how long nothing more can. */
static int64_t start_ready(struct fetch *f, int64_t now)
{
    struct request *own = session_next(f->session), *r, *after;
    int64_t pause = 10000;

    if (own)
        list_push_front(&f->waiting, &own->link);
    list_each_safe (r, after, &f->waiting, link) {
        if (f->active_count >= f->request->parallel)
            break;
        if (r->begin_ms > now)
            pause = MIN(pause, r->begin_ms - now);
        else if (!r->command || session_ready(f->session))
            start(f, r);
    }
    return pause;
}

/* A request of a caller has come to an end of some kind. */
static void settle(struct fetch *f, struct request *r, enum request_end end, struct err *e)
{
    int rc = 0;

    if (end == REQUEST_REFUSED) {
        rc = session_on_refused(f->session, r, e);
        if (rc == 0) {
            end = REQUEST_AGAIN;
            request_rest(r);
        }
    }
    if (end == REQUEST_AGAIN) {
        list_push(&f->waiting, &r->link);
        return;
    }
    if (end == REQUEST_DONE && r->kind == REQUEST_MANIFEST)
        rc = send_manifest(r, e);
    else if (end == REQUEST_DONE)
        send_blob(r);
    if (end != REQUEST_DONE || rc < 0)
        send_error(r->command->id, e);
    request_free(r);
}

/* One of the session's own. */
static void settle_own(struct fetch *f, struct request *r, enum request_end end, struct err *e)
{
    struct err why = *e;
    int rc = 0;

    if (end == REQUEST_AGAIN && r->kind == REQUEST_PING && r->status == 0 && f->request->insecure &&
        strncmp(f->base, "https://", 8) == 0)
        end = REQUEST_HOPELESS; /* likely it speaks plain HTTP: no need to try TLS five times */
    if (end == REQUEST_AGAIN) {
        list_push_front(&f->waiting, &r->link);
        return;
    }
    if (end == REQUEST_DONE)
        rc = session_on_done(f->session, r, e);
    else if (end == REQUEST_REFUSED)
        rc = session_on_refused(f->session, r, e);
    else
        rc = session_on_failed(f->session, r, &why, e);
    request_free(r);
    if (rc < 0)
        fail_all(f, e);
}

static void collect(struct fetch *f)
{
    CURLMsg *message;
    int left;

    while ((message = curl_multi_info_read(f->multi, &left))) {
        struct request *r = NULL;
        struct err e = {0};

        if (message->msg != CURLMSG_DONE)
            continue;
        curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, (char **)&r);
        CURLcode result = message->data.result;
        list_remove(&r->link);
        f->active_count--;
        enum request_end end = request_finish(r, result, now_ms(), &e);
        if (r->command)
            settle(f, r, end, &e);
        else
            settle_own(f, r, end, &e);
    }
}

/* --- commands ------------------------------------------------------------------------------------ */

static int check_command(const FetchCommand *c, struct err *e)
{
    uint64_t limit = c->has_size_bytes ? c->size_bytes : c->bytes_max;

    if ((c->blob != NULL) == (c->manifest != NULL) || !(c->has_bytes_max || c->has_size_bytes))
        return err_set(e, ERR_INVALID, "a command must name a manifest or a blob, and a limit");
    if (c->blob && !digest_valid(c->blob))
        return err_set(e, ERR_INVALID, "\"%.80s\" is no digest", c->blob);
    if (!c->file && limit > FRAME_MAX / 2)
        return err_set(e, ERR_LIMIT, "%" PRIu64 " bytes are too many without a file", limit);
    return header_value_valid(c->blob ? c->blob : c->manifest) ? 0 : err_set(e, ERR_INVALID, "bad characters");
}

static int take_command(struct fetch *f, struct err *e)
{
    ProtobufCMessage *message = NULL;
    int rc = frame_read(STDIN_FILENO, &fetch_command__descriptor, &message, e);

    if (rc < 0)
        return rc;
    FetchCommand *c = (FetchCommand *)message;
    rc = check_command(c, e);
    if (rc < 0) {
        fetch_command__free_unpacked(c, NULL);
        return rc;
    }
    struct request *r = request_new(f, c->blob ? REQUEST_BLOB : REQUEST_MANIFEST, c, NULL);
    list_push(&f->waiting, &r->link);
    return 0;
}

static int loop(struct fetch *f, struct err *e)
{
    for (;;) {
        struct curl_waitfd input = {.fd = STDIN_FILENO, .events = CURL_WAIT_POLLIN};
        int64_t pause = start_ready(f, now_ms());
        int running;

        if (curl_multi_perform(f->multi, &running) != CURLM_OK)
            return err_set(e, ERR_INTERNAL, "requests cannot go on");
        collect(f);
        pause = MIN(pause, start_ready(f, now_ms()));
        if (curl_multi_poll(f->multi, &input, 1, (int)pause, NULL) != CURLM_OK)
            return err_set(e, ERR_INTERNAL, "cannot wait for answers");
        if (input.revents) {
            int rc = take_command(f, e);

            if (rc < 0)
                return rc == ERR_CLOSED ? 0 : rc;
        }
    }
}

static int prepare(struct fetch *f, struct err *e)
{
    const struct confine_limits limits = {
        .memory_bytes = JOB_MEMORY_BYTES,
        .file_bytes = FILE_BYTES_MAX,
        .descriptors = 128,
    };
    const FetchRequest *q = f->request;
    const char *const values[] = {q->host, q->repository, q->registry_token};

    for (size_t i = 0; i < ARRAY_SIZE(values); i++)
        if (values[i] && !header_value_valid(values[i]))
            return err_set(e, ERR_INVALID, "a request's field holds control characters");
    if (q->parallel == 0 || q->parallel > 16)
        return err_set(e, ERR_INVALID, "%u transfers at once are out of range", q->parallel);
    int rc = confine_limits(&limits, e);
    if (rc == 0)
        rc = confine_root_network(JOB_FD_FIRST, q->certificates, &f->root_fd, e);
    /* Before the filter: OpenSSL reads its configuration. */
    if (rc == 0 && curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK)
        rc = err_set(e, ERR_INTERNAL, "cannot set up the HTTP library");
    if (rc == 0)
        rc = confine_capabilities(0, e);
    if (rc == 0)
        rc = confine_system_calls(CONFINE_NETWORK, e);
    return rc;
}

int fetch_main(void)
{
    struct err e = {0};
    ProtobufCMessage *message = NULL;
    struct fetch f = {.root_fd = -1};
    int rc = frame_read(STDIN_FILENO, &fetch_request__descriptor, &message, &e);

    list_init(&f.waiting);
    list_init(&f.active);
    if (rc == 0) {
        f.request = (const FetchRequest *)message;
        rc = prepare(&f, &e);
    }
    if (rc == 0) {
        f.base = mem_printf("https://%s", f.request->host);
        f.session = session_new(&f);
        f.multi = curl_multi_init();
        rc = f.multi ? loop(&f, &e) : err_set(&e, ERR_INTERNAL, "cannot set up the HTTP library");
    }
    if (rc < 0)
        send_error(0, &e);
    _exit(rc < 0); /* no exit handlers: their system calls are not allowed, and the kernel frees faster */
}
