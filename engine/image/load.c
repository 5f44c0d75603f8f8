/* Loading images from an upload, and importing a file system as an image (image.h).
 *
 *     SPOOL --> LAYERS --> SYNC --> END
 *
 * The upload goes through a pipe to a confined job that writes its members into a draft directory and tells their
 * names, sizes and digests (shoal-job spool). When it has come to its end, archive.c says what it means; the layers
 * that are not there yet are unpacked from the draft; when all of them are, and the small blobs are durable, all
 * images of the archive get their records and names. Until then none of them can be seen, and a failure leaves
 * none.
 *
 * An import has one layer, whose diff id is known once it is unpacked, and a config that is written here. */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "engine/image/archive.h"
#include "engine/image/config.h"
#include "engine/image/progress.h"
#include "engine/image/store.h"
#include "engine/later.h"
#include "proto/base/clock.h"
#include "proto/base/log.h"
#include "proto/base/mem.h"
#include "proto/base/sm.h"

#define MEMBERS_MAX 16384

enum load_state { LOAD_SPOOL, LOAD_LAYERS, LOAD_SYNC, LOAD_END };

static const struct sm_table states = {
    .machine = "load",
    .states = (const char *const[]){"spool", "layers", "sync", "end"},
    .moves = (const uint32_t[]){[LOAD_SPOOL] = SM_TO(LOAD_LAYERS) | SM_TO(LOAD_END),
                                [LOAD_LAYERS] = SM_TO(LOAD_SYNC) | SM_TO(LOAD_END),
                                [LOAD_SYNC] = SM_TO(LOAD_END),
                                [LOAD_END] = 0},
    .count = 4,
};

struct load_layer {
    struct layer_want want;
    struct load *load;
    const struct archive_member *member;
    char id[13];
    bool asked;
};

struct load {
    struct list link; /* in the store's list */
    struct images *store;
    struct arena arena;
    int state;
    struct image_job *job; /* the caller; NULL once told the end */
    bool quiet;
    struct child *spool;   /* NULL once it has ended */
    bool spool_done;       /* it told so */
    bool is_fed, is_empty; /* something came; the upload ended without */
    char *draft;           /* owned: directory for members below tmp */
    int draft_fd;
    struct archive archive;
    struct load_layer *layers;
    size_t layer_count, layers_left;
    bool wrote_blobs; /* configs and manifests are in the store, and named by us */
    size_t to_sync;   /* images whose blobs are not durable yet */
    unsigned syncing; /* pool jobs that refer to us */
    bool ending;      /* the loop will come back */
    struct err sync_error;
    /* Of an import. */
    bool import;
    const char *ref; /* full name, or NULL */
    const char *familiar;
    ImageConfig *config;
};

static void load_fail(struct load *l, const struct err *why);

/* --- the end ------------------------------------------------------------------------------------- */

static void load_free(struct load *l)
{
    struct images *s = l->store;

    if (l->spool || l->syncing || l->ending)
        return; /* the last of them comes back */
    list_remove(&l->link);
    archive_fini(&l->archive);
    if (l->draft)
        store_discard(s, s->tmp_fd, l->draft);
    mem_auto_close(&l->draft_fd);
    free(l->draft);
    arena_fini(&l->arena);
    free(l);
    store_idle(s);
}

static void name_blobs(struct load *l, void (*name)(struct images *s, const char *digest))
{
    for (size_t i = 0; i < l->archive.count; i++) {
        name(l->store, l->archive.images[i]->id);
        if (l->archive.images[i]->manifest_digest)
            name(l->store, l->archive.images[i]->manifest_digest);
    }
}

static void load_end(struct load *l, const struct err *e, const char *image_id)
{
    sm_move(&states, &l->state, LOAD_END);
    if (l->job)
        job_done(steal(&l->job), e, image_id);
    for (size_t i = 0; i < l->layer_count; i++)
        if (l->layers[i].asked)
            layer_release(&l->layers[i].want);
    if (l->wrote_blobs)
        name_blobs(l, blob_unref); /* what became of an image is named by it */
    if (l->spool)
        child_kill(l->spool);
    load_free(l);
}

/* Of nothing the job says that it is damaged; but that is the client's mistake. */
static void load_fail(struct load *l, const struct err *why)
{
    struct err e = *why;

    if (l->is_empty)
        err_set(&e, ERR_INVALID, "an archive is expected, and nothing came");
    if (l->state != LOAD_END)
        load_end(l, &e, NULL);
}

static void say(struct load *l, const struct buf *line)
{
    if (l->job)
        job_progress(l->job, line);
}

static void say_stream(struct load *l, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

static void say_stream(struct load *l, const char *fmt, ...)
{
    AUTO_BUF
    struct buf text = {0};
    AUTO_BUF
    struct buf line = {0};
    va_list args;

    va_start(args, fmt);
    buf_vprintf(&text, fmt, args);
    va_end(args);
    progress_stream(&line, buf_str(&text));
    say(l, &line);
}

/* --- images -------------------------------------------------------------------------------------- */

/* Who loses a tag is told, as the one who loads may not know. */
static void say_renaming(struct load *l, const char *tag, const char *id)
{
    struct image there;

    if (image_find(l->store, tag, &there, NULL) == 0 && strcmp(there.record->id, id) != 0)
        say_stream(l, "The image %s already exists, renaming the old one with ID %s to empty string\n",
                   image_name_familiar(tag), there.record->id);
}

static int commit_image(struct load *l, const struct archive_found *f, struct err *e)
{
    struct images *s = l->store;
    struct entry *entry = NULL;
    bool changed;
    const struct entry_new n = {
        .id = f->id,
        .config_json = buf_bytes(&f->config_json),
        .config_size = f->config_json.length,
        .manifest_digest = f->manifest_digest,
    };
    int rc = entry_add(s, &n, &entry, &changed, e);

    for (size_t i = 0; i < f->tag_count && rc == 0; i++) {
        say_renaming(l, f->tags[i], f->id);
        rc = entry_tag(entry, f->tags[i], e);
        if (rc == 0)
            say_stream(l, "Loaded image: %s\n", image_name_familiar(f->tags[i]));
    }
    if (rc == 0 && f->tag_count == 0)
        say_stream(l, "Loaded image ID: %s\n", f->id);
    if (rc == 0)
        event(s, "load", f->id, f->tag_count ? image_name_familiar(f->tags[0]) : f->id);
    return rc;
}

static int commit_import(struct load *l, const struct archive_found *f, struct err *e)
{
    struct entry *entry = NULL;
    bool changed;
    AUTO_BUF
    struct buf line = {0};
    const struct entry_new n = {
        .id = f->id,
        .config_json = buf_bytes(&f->config_json),
        .config_size = f->config_json.length,
        .tag = l->ref,
    };
    int rc = entry_add(l->store, &n, &entry, &changed, e);

    if (rc < 0)
        return rc;
    progress_message(&line, f->id, NULL);
    say(l, &line);
    event(l->store, "import", f->id, l->ref ? l->familiar : f->id);
    return 0;
}

static void load_commit(struct load *l)
{
    struct archive *ar = &l->archive;
    struct err e = {0};
    int rc = l->sync_error.code;

    if (rc < 0)
        e = l->sync_error;
    for (size_t i = 0; i < ar->count && rc == 0; i++)
        rc = l->import ? commit_import(l, ar->images[i], &e) : commit_image(l, ar->images[i], &e);
    if (rc < 0)
        load_fail(l, &e);
    else
        load_end(l, &e, ar->count == 1 ? ar->images[0]->id : NULL);
}

static void on_synced(void *ctx, const struct err *e)
{
    struct load *l = ctx;

    l->syncing--;
    if (e->code && !l->sync_error.code)
        l->sync_error = *e;
    if (l->state == LOAD_END)
        load_free(l);
    else if (--l->to_sync == 0)
        load_commit(l);
}

static int write_blobs(struct load *l, const struct archive_found *f, struct err *e)
{
    int rc = blob_write(l->store, f->id, buf_bytes(&f->config_json), f->config_json.length, e);

    if (rc == 0 && f->manifest_digest)
        rc = blob_write(l->store, f->manifest_digest, buf_bytes(&f->manifest_json), f->manifest_json.length, e);
    return rc;
}

static void load_sync(struct load *l)
{
    struct archive *ar = &l->archive;
    struct err e;

    sm_move(&states, &l->state, LOAD_SYNC);
    l->to_sync = ar->count;
    name_blobs(l, blob_ref);
    l->wrote_blobs = true;
    for (size_t i = 0; i < ar->count; i++)
        if (write_blobs(l, ar->images[i], &e) < 0) {
            load_fail(l, &e);
            return;
        }
    for (size_t i = 0; i < ar->count; i++) {
        const char *const digests[] = {ar->images[i]->id, ar->images[i]->manifest_digest};

        l->syncing++;
        blobs_sync(l->store, digests, ARRAY_SIZE(digests), on_synced, l);
    }
}

/* --- layers -------------------------------------------------------------------------------------- */

static void layer_is_there(struct load_layer *y)
{
    struct load *l = y->load;

    if (--l->layers_left == 0 && l->state == LOAD_LAYERS)
        load_sync(l);
}

static void offer(struct load_layer *y)
{
    struct load *l = y->load;
    char file[16];
    struct err e;

    snprintf(file, sizeof(file), "%u", y->member->file);
    int rc = l->import ? layer_import(l->store, &y->want, l->draft_fd, file, y->member->digest, y->member->size, &e)
                       : layer_offer(&y->want, l->draft_fd, file, y->member->digest, y->member->size, &e);
    if (rc < 0)
        load_fail(l, &e);
}

static void on_turn(struct layer_want *w)
{
    offer(container_of(w, struct load_layer, want));
}

static void on_progress(struct layer_want *w, uint64_t current, uint64_t total)
{
    struct load_layer *y = container_of(w, struct load_layer, want);
    AUTO_BUF
    struct buf line = {0};

    if (y->load->quiet || y->load->import)
        return;
    progress_step(&line, "Loading layer", MIN(current, total), total, y->id);
    say(y->load, &line);
}

static int finish_import(struct load *l, const struct layer_want *w, struct err *e);

static void on_layer_done(struct layer_want *w, const struct err *e)
{
    struct load_layer *y = container_of(w, struct load_layer, want);
    struct err why = *e;

    if (why.code == 0 && y->load->import)
        (void)finish_import(y->load, w, &why);
    if (why.code == 0) {
        on_progress(w, y->member->size, y->member->size);
        layer_is_there(y);
        return;
    }
    if (!y->load->import)
        err_wrap(&why, "layer %.200s", y->member->name);
    load_fail(y->load, &why);
}

static size_t count_layers(const struct archive *ar)
{
    size_t count = 0;

    for (size_t i = 0; i < ar->count; i++)
        count += ar->images[i]->layer_count;
    return count;
}

static void layer_init(struct load *l, struct load_layer *y, const struct archive_member *member)
{
    y->load = l;
    y->member = member;
    y->want = (struct layer_want){.on_turn = on_turn, .on_progress = on_progress, .on_done = on_layer_done};
}

static void load_layers(struct load *l)
{
    struct archive *ar = &l->archive;
    size_t next = 0;

    sm_move(&states, &l->state, LOAD_LAYERS);
    size_t all = count_layers(ar);
    l->layers = arena_array(&l->arena, all, sizeof(*l->layers));
    l->layers_left = all + 1; /* the last one of the loop does not end it before the loop does */
    for (size_t i = 0; i < ar->count; i++) {
        for (size_t k = 0; k < ar->images[i]->layer_count && l->state == LOAD_LAYERS; k++) {
            struct load_layer *y = &l->layers[next++];

            layer_init(l, y, ar->images[i]->layers[k].member);
            progress_id(ar->images[i]->layers[k].diff_id, y->id);
            l->layer_count = next;
            enum layer_answer answer = layer_want(l->store, &y->want, ar->images[i]->layers[k].diff_id);
            y->asked = true;
            if (answer == LAYER_READY)
                layer_is_there(y);
            else if (answer == LAYER_TURN)
                offer(y);
        }
    }
    if (l->state == LOAD_LAYERS && --l->layers_left == 0)
        load_sync(l);
}

/* --- import -------------------------------------------------------------------------------------- */

static void import_layer(struct load *l, const struct archive_member *upload)
{
    sm_move(&states, &l->state, LOAD_LAYERS);
    l->layers = ARENA_NEW(&l->arena, struct load_layer);
    l->layer_count = l->layers_left = 1;
    layer_init(l, l->layers, upload);
    l->layers->asked = true;
    offer(l->layers);
}

/* The layer is unpacked: now the config can be written, and the image be named by it. */
static int finish_import(struct load *l, const struct layer_want *w, struct err *e)
{
    struct archive_found *f = ARENA_NEW(&l->arena, struct archive_found);
    ImageConfig *c = l->config;
    uint8_t bytes[SHA256_BYTES];
    char *id = arena_alloc(&l->arena, DIGEST_TEXT + 1);

    c->diff_ids = ARENA_NEW(&l->arena, char *);
    c->diff_ids[0] = arena_strdup(&l->arena, w->layer->diff_id);
    c->n_diff_ids = 1;
    image_config_write(c, NULL, &f->config_json);
    sha256(buf_bytes(&f->config_json), f->config_json.length, bytes);
    digest_format(bytes, id);
    f->id = id;
    f->config = c;
    l->archive.images = arena_append(&l->arena, NULL, 0, sizeof(*l->archive.images));
    l->archive.images[0] = f;
    l->archive.count = 1;
    return e->code;
}

/* --- the upload ---------------------------------------------------------------------------------- */

static void spool_ended(struct load *l)
{
    struct err e = {0};

    if (l->import) {
        const struct archive_member *upload = map_get(&l->archive.members, "upload");

        if (upload)
            import_layer(l, upload);
        else
            load_fail(l, (err_set(&e, ERR_INTERNAL, "the spool job told no file"), &e));
        return;
    }
    if (archive_read(&l->archive, &e) < 0)
        load_fail(l, &e);
    else
        load_layers(l);
}

static void on_spool_frame(void *ctx, const void *data, size_t size)
{
    struct load *l = ctx;
    SpoolEvent *event = spool_event__unpack(NULL, size, data);
    struct err e = {0};

    if (!event)
        return; /* its end will be without `done` */
    if (event->error)
        err_set(&e, event->error->code < 0 ? event->error->code : ERR_INTERNAL, "%s", event->error->text);
    else if (event->member && l->archive.members.count < 2 * MEMBERS_MAX)
        (void)archive_add(&l->archive, event->member, &e);
    l->spool_done |= event->done;
    spool_event__free_unpacked(event, NULL);
    if (e.code)
        load_fail(l, &e);
}

static void on_spool_end(void *ctx, const struct err *e)
{
    struct load *l = ctx;
    struct err why = *e;

    l->spool = NULL;
    if (l->state == LOAD_END) {
        load_free(l);
        return;
    }
    if (!why.code && !l->spool_done)
        err_set(&why, ERR_INTERNAL, "the spool job ended early");
    if (why.code)
        load_fail(l, &why);
    else
        spool_ended(l);
}

static void on_spool_writable(void *ctx)
{
    struct load *l = ctx;

    if (l->job && l->job->on_writable)
        l->job->on_writable(l->job->events.ctx);
}

bool load_feed(struct load *l, const void *data, size_t size)
{
    l->is_fed |= size != 0;
    l->is_empty |= size == 0 && !l->is_fed;
    return l->spool && l->state == LOAD_SPOOL ? child_feed(l->spool, data, size) : true;
}

/* --- start --------------------------------------------------------------------------------------- */

static struct load *load_new(struct images *s)
{
    struct load *l = mem_alloc(sizeof(*l));

    l->store = s;
    l->draft_fd = -1;
    list_init(&l->link);
    arena_init(&l->arena);
    l->archive.arena = &l->arena;
    l->archive.host = s->host;
    store_busy(s);
    return l;
}

static int load_start(struct load *l, const struct image_job_events *events, void (*on_writable)(void *ctx),
                      struct image_job **ret, struct err *e)
{
    struct images *s = l->store;
    const struct child_events of_child = {
        .ctx = l, .on_frame = on_spool_frame, .on_end = on_spool_end, .on_writable = on_spool_writable};
    SpoolRequest request = SPOOL_REQUEST__INIT;

    if (s->closing)
        return err_set(e, ERR_UNAVAILABLE, "the image store is closing");
    int rc = store_draft(s, "load", &l->draft, &l->draft_fd, e);
    if (rc < 0)
        return rc;
    const struct child_config config = {.loop = s->config.loop,
                                        .program = s->config.job,
                                        .verb = "spool",
                                        .upload = true,
                                        .fds = &l->draft_fd,
                                        .fd_count = 1};
    l->archive.dir_fd = l->draft_fd;
    rc = child_start(&config, &of_child, &l->spool, e);
    if (rc < 0)
        return rc;
    request.has_flat = request.has_bytes_max = request.has_members_max = true;
    request.flat = l->import;
    request.bytes_max = s->config.upload_bytes_max;
    request.members_max = MEMBERS_MAX;
    child_send(l->spool, &request.base);
    list_push(&s->loads, &l->link);
    l->job = job_new(s, events);
    l->job->load = l;
    l->job->on_writable = on_writable;
    *ret = l->job;
    return 0;
}

int image_load(struct images *s, bool quiet, const struct image_job_events *events, void (*on_writable)(void *ctx),
               struct image_job **ret, struct err *e)
{
    struct load *l = load_new(s);

    l->quiet = quiet;
    int rc = load_start(l, events, on_writable, ret, e);
    if (rc < 0)
        load_free(l);
    return rc;
}

static int import_config(struct load *l, const char *message, const char *const *changes, size_t change_count,
                         const char *platform, struct err *e)
{
    ImageConfig *c = ARENA_NEW(&l->arena, ImageConfig);
    struct platform p = l->store->host;
    int rc = 0;

    if (platform && *platform)
        rc = platform_parse(arena_strdup(&l->arena, platform), &l->store->host, &l->arena, &p, e);
    if (rc == 0 && strcmp(p.os, "linux") != 0)
        rc = err_set(e, ERR_UNSUPPORTED, "image operating system \"%.64s\" cannot be used on this platform", p.os);
    if (rc < 0)
        return rc;
    image_config__init(c);
    c->os = arena_strdup(&l->arena, p.os);
    c->architecture = arena_strdup(&l->arena, p.architecture);
    c->variant = arena_strdup(&l->arena, p.variant);
    c->comment = arena_strdup(&l->arena, message && *message ? message : "Imported from -");
    c->created_ns = clock_wall_ms(clock_real()) * 1000000;
    l->config = c;
    return image_config_change(c, changes, change_count, &l->arena, e);
}

int image_import(struct images *s, const char *ref, const char *message, const char *const *changes,
                 size_t change_count, const char *platform, const struct image_job_events *events,
                 void (*on_writable)(void *ctx), struct image_job **ret, struct err *e)
{
    struct load *l = load_new(s);
    struct image_name name;
    int rc = 0;

    l->import = true;
    if (ref && *ref) {
        rc = image_name_parse(ref, &l->arena, &name, e);
        if (rc == 0 && name.digest)
            rc = err_set(e, ERR_INVALID, "cannot import digest reference");
        if (rc == 0) {
            l->ref = name.full;
            l->familiar = name.familiar;
        }
    }
    if (rc == 0)
        rc = import_config(l, message, changes, change_count, platform, e);
    if (rc == 0)
        rc = load_start(l, events, on_writable, ret, e);
    if (rc < 0)
        load_free(l);
    return rc;
}

static void cancel_now(void *ctx)
{
    struct load *l = ctx;
    struct err canceled;

    l->ending = false;
    err_set(&canceled, ERR_CANCELED, "canceled");
    if (l->state == LOAD_END)
        load_free(l);
    else
        load_fail(l, &canceled);
}

void load_cancel(struct load *l)
{
    struct err canceled;

    err_set(&canceled, ERR_CANCELED, "%s was canceled", l->import ? "import" : "load");
    if (l->job)
        job_done(steal(&l->job), &canceled, NULL);
    if (l->ending)
        return;
    /* A caller may cancel from its progress callback: the load itself ends from the loop. */
    l->ending = true;
    loop_later(l->store->config.loop, cancel_now, l);
}

void load_cancel_all(struct images *s)
{
    struct load *l, *after;
    struct err canceled;

    err_set(&canceled, ERR_CANCELED, "the engine is closing");
    list_each_safe (l, after, &s->loads, link)
        load_fail(l, &canceled);
}
