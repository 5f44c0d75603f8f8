/* Pulling an image (image.h).
 *
 *     MANIFEST --index--> MANIFEST of our platform --> CONFIG --> LAYERS --> SYNC --> END
 *
 * One fetch job speaks to the registry for the whole pull. What it brings is judged here: the index leads to one
 * manifest, the manifest to a config and layers, the config to the layers' diff ids. Layers that are there already
 * are left alone; the others are wanted (layer.c), fetched when it is this pull's turn, and unpacked. When all are
 * ready and the small blobs are durable, the image gets its record and its names: nothing of it could be seen
 * before.
 *
 * Callers who pull the same name for the same platform with the same credentials join the pull that runs; they see
 * its latest lines again. It ends when the last of them has canceled.
 *
 * Failure at any point: the job is killed, the layers are let go, the draft directory is removed, the callers are
 * told. Layers that were finished by then stay only if an image uses them. */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "engine/image/config.h"
#include "engine/image/progress.h"
#include "engine/image/remote.h"
#include "engine/later.h"
#include "proto/base/log.h"
#include "proto/base/mem.h"
#include "proto/base/sm.h"

#define INDEX_DEPTH_MAX 3 /* indexes within indexes */

/* Numbers of commands to the fetch job; layers follow the last. */
enum { COMMAND_MANIFEST = 1, COMMAND_CONFIG, COMMAND_LAYERS };

enum pull_state { PULL_MANIFEST, PULL_CONFIG, PULL_LAYERS, PULL_SYNC, PULL_END };

static const struct sm_table states = {
    .machine = "pull",
    .states = (const char *const[]){"manifest", "config", "layers", "sync", "end"},
    .moves = (const uint32_t[]){[PULL_MANIFEST] = SM_TO(PULL_CONFIG) | SM_TO(PULL_END),
                                [PULL_CONFIG] = SM_TO(PULL_LAYERS) | SM_TO(PULL_END),
                                [PULL_LAYERS] = SM_TO(PULL_SYNC) | SM_TO(PULL_END),
                                [PULL_SYNC] = SM_TO(PULL_END),
                                [PULL_END] = 0},
    .count = 5,
};

struct pull_layer {
    struct layer_want want;
    struct pull *pull;
    const struct descriptor *descriptor;
    char id[13]; /* as shown */
    bool asked;  /* it is wanted */
    bool ready;
    struct buf line; /* the latest, for those who join */
};

struct pull {
    struct list link; /* in the store's list */
    struct images *store;
    struct arena arena;
    int state;
    char *key;        /* in the arena: what makes two pulls the same */
    struct list jobs; /* callers: struct image_job */
    struct image_name name;
    struct platform want;
    bool platform_given;
    struct remote *remote; /* NULL once it has ended */
    char *draft;           /* owned: directory for blobs below tmp */
    int draft_fd;
    unsigned depth;              /* indexes passed */
    const char *index_digest;    /* what the name led to; the manifest's own when there is no index */
    const char *manifest_digest; /* of the image */
    struct buf index_json, manifest_json, config_json;
    struct manifest manifest;
    ImageConfig *config;
    struct pull_layer *layers;
    size_t layer_count, layers_left;
    bool wrote_blobs;   /* config, manifest and index are in the store, and named by us */
    bool syncing;       /* a pool job refers to us */
    bool canceling;     /* the loop will come back to see whether anybody is left */
    struct buf heading; /* the first line */
};

static void pull_fail(struct pull *p, const struct err *why);

/* --- lines --------------------------------------------------------------------------------------- */

/* What a caller who joined has missed. */
static void greet(struct pull *p, struct image_job *job)
{
    job->greeted = true;
    if (p->heading.length)
        job_progress(job, &p->heading);
    for (size_t i = 0; i < p->layer_count; i++)
        if (p->layers[i].line.length)
            job_progress(job, &p->layers[i].line);
}

/* `kept`: the line is one of those that greet tells. */
static void say(struct pull *p, const struct buf *line, bool kept)
{
    struct image_job *job, *after;

    list_each_safe (job, after, &p->jobs, link) {
        bool old = job->greeted;

        if (!old)
            greet(p, job);
        if (old || !kept)
            job_progress(job, line);
    }
}

static void say_layer(struct pull_layer *l, const char *status, uint64_t current, uint64_t total)
{
    buf_clear(&l->line);
    progress_step(&l->line, status, current, total, l->id);
    say(l->pull, &l->line, true);
}

static void say_status(struct pull *p, const char *id, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

static void say_status(struct pull *p, const char *id, const char *fmt, ...)
{
    AUTO_BUF
    struct buf text = {0};
    AUTO_BUF
    struct buf line = {0};
    va_list args;

    va_start(args, fmt);
    buf_vprintf(&text, fmt, args);
    va_end(args);
    progress_message(&line, buf_str(&text), id);
    say(p, &line, false);
}

/* --- the end ------------------------------------------------------------------------------------- */

static void pull_free(struct pull *p)
{
    struct images *s = p->store;

    if (p->remote || p->syncing || p->canceling)
        return; /* the last of them comes back */
    list_remove(&p->link);
    if (p->draft)
        store_discard(s, s->tmp_fd, p->draft);
    mem_auto_close(&p->draft_fd);
    free(p->draft);
    for (size_t i = 0; i < p->layer_count; i++)
        buf_fini(&p->layers[i].line);
    buf_fini(&p->index_json);
    buf_fini(&p->manifest_json);
    buf_fini(&p->config_json);
    buf_fini(&p->heading);
    arena_fini(&p->arena);
    free(p);
    store_idle(s);
}

/* The small blobs: at most three, the last NULL without an index. */
static void small_blobs(const struct pull *p, const char *ret[3])
{
    ret[0] = p->manifest.config.digest;
    ret[1] = p->manifest_digest;
    ret[2] = p->index_json.length ? p->index_digest : NULL;
}

static void pull_end(struct pull *p, const struct err *e, const char *image_id)
{
    const char *blobs[3];

    struct image_job *job, *after;

    sm_move(&states, &p->state, PULL_END);
    list_each_safe (job, after, &p->jobs, link)
        job_done(job, e, image_id);
    for (size_t i = 0; i < p->layer_count; i++)
        if (p->layers[i].asked)
            layer_release(&p->layers[i].want);
    small_blobs(p, blobs);
    for (size_t i = 0; p->wrote_blobs && i < ARRAY_SIZE(blobs); i++)
        if (blobs[i])
            blob_unref(p->store, blobs[i]); /* what became of an image is named by it */
    if (p->remote)
        remote_close(p->remote);
    pull_free(p);
}

static void pull_fail(struct pull *p, const struct err *why)
{
    if (p->state != PULL_END)
        pull_end(p, why, NULL);
}

/* --- the image ----------------------------------------------------------------------------------- */

static int pull_commit(struct pull *p, struct err *e)
{
    struct images *s = p->store;
    struct arena *a = &p->arena;
    struct entry *entry = NULL;
    bool changed = false;
    const char *digest_name = arena_printf(a, "%s/%s@%s", p->name.domain, p->name.path, p->index_digest);
    const struct entry_new n = {
        .id = p->manifest.config.digest,
        .config_json = buf_bytes(&p->config_json),
        .config_size = p->config_json.length,
        .manifest_digest = p->manifest_digest,
        .tag = p->name.digest ? NULL : p->name.full,
        .digest_name = digest_name,
    };
    int rc = entry_add(s, &n, &entry, &changed, e);

    if (rc < 0)
        return rc;
    say_status(p, NULL, "Digest: %s", p->index_digest);
    say_status(p, NULL, "Status: %s for %s", changed ? "Downloaded newer image" : "Image is up to date",
               p->name.familiar);
    event(s, "pull", entry->record->id, p->name.familiar);
    const struct err none = {0};
    pull_end(p, &none, entry->record->id);
    return 0;
}

static void on_synced(void *ctx, const struct err *e)
{
    struct pull *p = ctx;
    struct err why = *e;

    p->syncing = false;
    if (p->state == PULL_END)
        pull_free(p);
    else if (why.code || pull_commit(p, &why) < 0)
        pull_fail(p, &why);
}

static void pull_sync(struct pull *p)
{
    const char *blobs[3];

    small_blobs(p, blobs);
    sm_move(&states, &p->state, PULL_SYNC);
    p->syncing = true;
    blobs_sync(p->store, blobs, ARRAY_SIZE(blobs), on_synced, p);
}

/* --- layers -------------------------------------------------------------------------------------- */

static void layer_ready(struct pull_layer *l, const char *status)
{
    struct pull *p = l->pull;

    l->ready = true;
    say_layer(l, status, 0, 0);
    if (--p->layers_left == 0 && p->state == PULL_LAYERS)
        pull_sync(p);
}

static uint32_t command_of(const struct pull_layer *l)
{
    return COMMAND_LAYERS + (uint32_t)(l - l->pull->layers);
}

/* Our turn to bring a layer's blob: it may be in the store already, as one of a layer that lost its directory. */
static void on_turn(struct layer_want *w)
{
    struct pull_layer *l = container_of(w, struct pull_layer, want);
    struct pull *p = l->pull;
    const struct descriptor *d = l->descriptor;
    char file[16];

    if (blob_there(p->store, d->digest) &&
        layer_offer(w, p->store->blobs_fd, HEX_OF(d->digest), d->digest, (uint64_t)d->size, NULL) == 0)
        return;
    snprintf(file, sizeof(file), "%u", command_of(l));
    remote_blob(p->remote, command_of(l), d->digest, (uint64_t)d->size, file);
}

static void on_layer_progress(struct layer_want *w, uint64_t current, uint64_t total)
{
    struct pull_layer *l = container_of(w, struct pull_layer, want);

    say_layer(l, "Extracting", MIN(current, total), total);
}

static void on_layer_done(struct layer_want *w, const struct err *e)
{
    struct pull_layer *l = container_of(w, struct pull_layer, want);
    struct err why = *e;

    if (why.code == 0) {
        layer_ready(l, "Pull complete");
        return;
    }
    err_wrap(&why, "failed to register layer %.19s", l->descriptor->digest);
    pull_fail(l->pull, &why);
}

static void layer_fetched(struct pull_layer *l)
{
    struct pull *p = l->pull;
    char file[16];
    struct err e;

    if (l->ready)
        return; /* another operation was faster */
    say_layer(l, "Verifying Checksum", 0, 0);
    say_layer(l, "Download complete", 0, 0);
    snprintf(file, sizeof(file), "%u", command_of(l));
    if (layer_offer(&l->want, p->draft_fd, file, l->descriptor->digest, (uint64_t)l->descriptor->size, &e) < 0)
        pull_fail(p, &e);
}

static void pull_layers(struct pull *p)
{
    unsigned fetching = 0;

    sm_move(&states, &p->state, PULL_LAYERS);
    p->layer_count = p->layers_left = p->config->n_diff_ids;
    p->layers = arena_array(&p->arena, p->layer_count, sizeof(*p->layers));
    for (size_t i = 0; i < p->layer_count; i++) {
        struct pull_layer *l = &p->layers[i];

        l->pull = p;
        l->descriptor = &p->manifest.entries[i];
        progress_id(l->descriptor->digest, l->id);
        l->want =
            (struct layer_want){.on_turn = on_turn, .on_progress = on_layer_progress, .on_done = on_layer_done};
    }
    p->layers_left++; /* so that the last one does not end it before the loop does */
    for (size_t i = 0; i < p->layer_count; i++) {
        struct pull_layer *l = &p->layers[i];
        enum layer_answer answer = layer_want(p->store, &l->want, p->config->diff_ids[i]);

        l->asked = true;
        if (answer == LAYER_READY) {
            layer_ready(l, "Already exists");
            continue;
        }
        say_layer(l, "Pulling fs layer", 0, 0);
        if (answer == LAYER_WAIT || ++fetching > p->store->config.parallel)
            say_layer(l, "Waiting", 0, 0);
        if (answer == LAYER_TURN)
            on_turn(&l->want);
    }
    if (--p->layers_left == 0)
        pull_sync(p);
}

/* --- config -------------------------------------------------------------------------------------- */

static int check_config(struct pull *p, struct err *e)
{
    const ImageConfig *c = p->config;
    struct platform has = {c->os ? c->os : "", c->architecture ? c->architecture : "",
                           c->variant ? c->variant : ""};

    if (c->n_diff_ids != p->manifest.count)
        return err_set(e, ERR_INVALID, "the manifest has %zu layers where the image's config has %zu",
                       p->manifest.count, c->n_diff_ids);
    if (p->platform_given && *has.os && *has.architecture) {
        AUTO_FREE
        char *text = mem_printf("%s/%s%s%s", has.os, has.architecture, *has.variant ? "/" : "", has.variant);

        if (platform_parse(text, &p->store->host, &p->arena, &has, e) < 0 || !platform_match(&p->want, &has))
            return err_set(
                e, ERR_NOT_FOUND,
                "image with reference %s was found but does not match the specified platform: wanted %s, "
                "actual: %s",
                p->name.familiar, platform_format(&p->want, &p->arena), platform_format(&has, &p->arena));
    }
    return 0;
}

static int take_config(struct pull *p, struct err *e)
{
    struct images *s = p->store;
    const struct buf *const bytes[] = {&p->config_json, &p->manifest_json, &p->index_json};
    const char *blobs[3];
    int rc = image_config_parse(buf_bytes(&p->config_json), p->config_json.length, &p->arena, &p->config, e);

    if (rc == 0)
        rc = check_config(p, e);
    if (rc < 0)
        return rc;
    small_blobs(p, blobs);
    for (size_t i = 0; i < ARRAY_SIZE(blobs); i++)
        if (blobs[i])
            blob_ref(s, blobs[i]);
    p->wrote_blobs = true;
    for (size_t i = 0; i < ARRAY_SIZE(blobs) && rc == 0; i++)
        if (blobs[i])
            rc = blob_write(s, blobs[i], buf_bytes(bytes[i]), bytes[i]->length, e);
    if (rc == 0)
        pull_layers(p);
    return rc;
}

/* --- manifest ------------------------------------------------------------------------------------ */

static int follow_index(struct pull *p, const struct manifest *index, struct err *e)
{
    const struct descriptor *d = manifest_choose(index, &p->want);

    if (!d)
        return err_set(e, ERR_NOT_FOUND, "no matching manifest for %s in the manifest list entries",
                       platform_format(&p->want, &p->arena));
    if (++p->depth > INDEX_DEPTH_MAX)
        return err_set(e, ERR_INVALID, "more than %d indexes lead to each other", INDEX_DEPTH_MAX);
    remote_manifest(p->remote, COMMAND_MANIFEST, d->digest);
    return 0;
}

static int take_manifest(struct pull *p, const FetchEvent *event, struct err *e)
{
    struct manifest m;
    const char *json = (const char *)event->body.data;
    int rc = manifest_parse(json, event->body.len, event->media_type, &p->arena, &m, e);

    if (rc < 0)
        return rc;
    const char *digest = arena_strdup(&p->arena, event->digest);
    if (!p->index_digest)
        p->index_digest = digest;
    if (m.kind == MANIFEST_INDEX) {
        if (p->depth == 0)
            buf_append(&p->index_json, json, event->body.len);
        return follow_index(p, &m, e);
    }
    for (size_t i = 0; i < m.count; i++)
        if ((uint64_t)m.entries[i].size > p->store->config.layer_bytes_max)
            return err_set(e, ERR_LIMIT, "layers[%zu].size %lld is more than the %llu bytes allowed", i,
                           (long long)m.entries[i].size, (unsigned long long)p->store->config.layer_bytes_max);
    p->manifest = m;
    p->manifest_digest = digest;
    buf_append(&p->manifest_json, json, event->body.len);
    progress_message(&p->heading, arena_printf(&p->arena, "Pulling from %s", p->name.path),
                     p->name.tag && !p->name.digest ? p->name.tag : p->name.digest);
    say(p, &p->heading, true);
    sm_move(&states, &p->state, PULL_CONFIG);
    if (blob_there(p->store, m.config.digest) && blob_read(p->store, m.config.digest, &p->config_json, NULL) == 0)
        return take_config(p, e);
    buf_clear(&p->config_json);
    remote_blob(p->remote, COMMAND_CONFIG, m.config.digest, (uint64_t)m.config.size, NULL);
    return 0;
}

/* --- events -------------------------------------------------------------------------------------- */

static void layer_event(struct pull_layer *l, const FetchEvent *event)
{
    char text[64];

    if (event->has_retry_s) {
        snprintf(text, sizeof(text), "Retrying in %u second%s", event->retry_s, event->retry_s == 1 ? "" : "s");
        say_layer(l, text, 0, 0);
    } else if (event->done) {
        layer_fetched(l);
    } else if (event->has_current && !l->ready) {
        say_layer(l, "Downloading", event->current, (uint64_t)l->descriptor->size);
    }
}

static void on_event(void *ctx, const FetchEvent *event)
{
    struct pull *p = ctx;
    struct err e = {0};
    int rc = 0;

    if (event->error) {
        err_set(&e, event->error->code < 0 ? event->error->code : ERR_INTERNAL, "%s", event->error->text);
        if (p->state == PULL_MANIFEST)
            remote_explain(&p->name, &e);
        else if (event->id >= COMMAND_LAYERS && event->id - COMMAND_LAYERS < p->layer_count)
            err_wrap(&e, "layer %s", p->layers[event->id - COMMAND_LAYERS].id);
        pull_fail(p, &e);
        return;
    }
    if (event->id == COMMAND_MANIFEST && event->done && p->state == PULL_MANIFEST && event->digest) {
        rc = take_manifest(p, event, &e);
    } else if (event->id == COMMAND_CONFIG && event->done && p->state == PULL_CONFIG) {
        buf_append(&p->config_json, event->body.data, event->body.len);
        rc = take_config(p, &e);
    } else if (event->id >= COMMAND_LAYERS && event->id - COMMAND_LAYERS < p->layer_count) {
        layer_event(&p->layers[event->id - COMMAND_LAYERS], event);
    }
    if (rc < 0)
        pull_fail(p, &e);
}

static void on_remote_end(void *ctx, const struct err *e)
{
    struct pull *p = ctx;
    struct err why = *e;

    p->remote = NULL;
    if (p->state == PULL_END) {
        pull_free(p);
        return;
    }
    if (!why.code)
        err_set(&why, ERR_INTERNAL, "the fetch job ended early");
    pull_fail(p, &why);
}

/* --- start --------------------------------------------------------------------------------------- */

static struct pull *find_running(struct images *s, const char *key)
{
    struct pull *p;

    list_each (p, &s->pulls, link)
        if (p->state != PULL_END && strcmp(p->key, key) == 0)
            return p;
    return NULL;
}

static int pull_new(struct images *s, const char *ref, const char *platform, const char *auth, struct pull **ret,
                    struct err *e)
{
    struct pull *p = mem_alloc(sizeof(*p));
    const struct remote_events events = {.ctx = p, .on_event = on_event, .on_end = on_remote_end};

    p->store = s;
    p->draft_fd = -1;
    p->want = s->host;
    p->platform_given = platform && *platform;
    list_init(&p->link);
    list_init(&p->jobs);
    arena_init(&p->arena);
    int rc = image_name_parse(ref, &p->arena, &p->name, e);
    if (rc == 0 && p->platform_given)
        rc = platform_parse(arena_strdup(&p->arena, platform), &s->host, &p->arena, &p->want, e);
    if (rc < 0)
        goto failed;
    p->key =
        arena_printf(&p->arena, "%s\n%s\n%s", p->name.full, platform_format(&p->want, &p->arena), auth ? auth : "");
    *ret = find_running(s, p->key);
    if (*ret)
        goto failed; /* not needed: another is joined */
    rc = store_draft(s, "pull", &p->draft, &p->draft_fd, e);
    if (rc == 0)
        rc = remote_open(s, &p->name, auth, 0, p->draft_fd, &events, &p->remote, e);
    if (rc < 0)
        goto failed;
    store_busy(s);
    list_push(&s->pulls, &p->link);
    remote_manifest(p->remote, COMMAND_MANIFEST, p->name.digest ? p->name.digest : p->name.tag);
    *ret = p;
    return 0;
failed:
    store_busy(s); /* which freeing undoes */
    pull_free(p);
    return rc;
}

int image_pull(struct images *s, const char *ref, const char *platform, const char *auth,
               const struct image_job_events *events, struct image_job **ret, struct err *e)
{
    struct pull *p = NULL;

    if (s->closing)
        return err_set(e, ERR_UNAVAILABLE, "the image store is closing");
    int rc = pull_new(s, ref, platform, auth, &p, e);
    if (rc < 0)
        return rc;
    struct image_job *job = job_new(s, events);
    job->pull = p;
    list_push(&p->jobs, &job->link);
    *ret = job;
    return 0;
}

static void cancel_now(void *ctx)
{
    struct pull *p = ctx;
    struct err canceled;

    p->canceling = false;
    err_set(&canceled, ERR_CANCELED, "pull of %s was canceled", p->name.familiar);
    if (p->state == PULL_END)
        pull_free(p);
    else if (list_empty(&p->jobs)) /* else somebody has joined meanwhile */
        pull_fail(p, &canceled);
}

void pull_cancel(struct pull *p, struct image_job *job)
{
    struct err canceled;

    err_set(&canceled, ERR_CANCELED, "pull of %s was canceled", p->name.familiar);
    job_done(job, &canceled, NULL);
    if (!list_empty(&p->jobs) || p->canceling)
        return;
    /* A caller may cancel from its progress callback: the pull itself ends from the loop. */
    p->canceling = true;
    loop_later(p->store->config.loop, cancel_now, p);
}

void pull_cancel_all(struct images *s)
{
    struct pull *p, *after;
    struct err canceled;

    err_set(&canceled, ERR_CANCELED, "the engine is closing");
    list_each_safe (p, after, &s->pulls, link)
        pull_fail(p, &canceled);
}
