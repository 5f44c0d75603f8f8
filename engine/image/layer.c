/* Layers: unpacked once by diff id, however many images and operations want them (store.h).
 *
 * Whoever needs a layer embeds a layer_want. If the layer is not there, the first of those who want it has the
 * turn: it brings the blob and offers it; the others wait. A turn ends by success (all are told), by a blob that
 * cannot be unpacked (the one who brought it is told: the others may have a better one), or by its owner leaving;
 * then the next one has the turn.
 *
 *     wanted --turn--> blob offered --> queue --> unpacking (shoal-job) --> renamed into place, record --> ready
 *        ^                                              |
 *        +------------- next one's turn <---------------+ failed, or its owner left
 *
 * The draft directory is renamed into place only after the helper verified both digests and synced the file system,
 * and the record is written after that: a record means a complete and durable layer. A layer with a record whose
 * directory is gone is unpacked again at open, from its blob. */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "engine/image/store.h"
#include "engine/later.h"
#include "proto/base/file.h"
#include "proto/base/log.h"
#include "proto/base/mem.h"
#include "proto/job.pb-c.h"

#define UNPACKS_MAX 2       /* at once */
#define FILES_MAX   2000000 /* entries of a layer */
#define DEPTH_MAX   256     /* directories within directories */

struct unpack {
    struct list link; /* in the store's list */
    struct images *store;
    struct layer *layer;      /* NULL: not known before (import) */
    struct layer_want *owner; /* who offered the blob; NULL: left */
    struct child *child;      /* NULL: waiting */
    int source_fd;            /* owned: directory of the blob's file */
    char *file;               /* owned */
    char *digest;             /* owned */
    uint64_t size;
    int blob_fd;
    char *draft; /* owned: name below tmp */
    int draft_fd;
    LayerRecord *record; /* what the helper told */
    struct err error;
};

static void unpack_poke(struct images *s);

/* --- counting ------------------------------------------------------------------------------------ */

struct layer *layer_get(struct images *s, const char *diff_id)
{
    return map_get(&s->layers, diff_id);
}

struct layer *layer_use(struct images *s, const char *diff_id)
{
    struct layer *layer = layer_get(s, diff_id);

    if (!layer) {
        layer = mem_alloc(sizeof(*layer));
        layer->diff_id = mem_strdup(diff_id);
        list_init(&layer->wants);
        map_put(&s->layers, layer->diff_id, layer);
    }
    layer->users++;
    return layer;
}

void layer_free(struct images *s, struct layer *layer)
{
    if (layer->record)
        layer_record__free_unpacked(layer->record, NULL);
    free(layer->diff_id);
    free(layer);
}

static void layer_remove(struct images *s, struct layer *layer)
{
    struct err e;

    if (layer->record) {
        /* The record first: a directory without one is removed at the next open. */
        if (records_remove(s->layer_records, HEX_OF(layer->diff_id), &e) < 0)
            log_error("image store: layer record stays", "layer=%s error=\"%s\"", layer->diff_id, e.text);
        store_discard(s, s->layers_fd, HEX_OF(layer->diff_id));
        for (size_t i = 0; i < layer->record->n_blobs; i++)
            blob_unref(s, layer->record->blobs[i]);
    }
    map_remove(&s->layers, layer->diff_id);
    layer_free(s, layer);
}

void layer_unuse(struct images *s, struct layer *layer)
{
    if (--layer->users == 0 && !layer->unpack && !s->closing)
        layer_remove(s, layer);
}

/* --- wanting ------------------------------------------------------------------------------------- */

/* Give the turn to the first who waits, if nobody has it. */
static void pass_turn(struct layer *layer)
{
    struct layer_want *w = list_first(&layer->wants, struct layer_want, link);

    if (layer->ready || layer->turn || layer->unpack || !w)
        return;
    layer->turn = w;
    w->on_turn(w);
}

enum layer_answer layer_want(struct images *s, struct layer_want *w, const char *diff_id)
{
    struct layer *layer = layer_use(s, diff_id);

    w->store = s;
    w->layer = layer;
    w->unpack = NULL;
    list_init(&w->link);
    if (layer->ready)
        return LAYER_READY;
    list_push(&layer->wants, &w->link);
    if (layer->turn || layer->unpack)
        return LAYER_WAIT;
    layer->turn = w;
    return LAYER_TURN;
}

void layer_release(struct layer_want *w)
{
    struct layer *layer = w->layer;
    struct unpack *unpack = w->unpack;

    if (unpack) {
        w->unpack = NULL;
        unpack->owner = NULL;
        err_set(&unpack->error, ERR_CANCELED, "canceled");
        if (unpack->child)
            child_kill(unpack->child);
    }
    if (!layer)
        return;
    list_remove(&w->link);
    w->layer = NULL;
    if (layer->turn == w) {
        layer->turn = NULL;
        pass_turn(layer);
    }
    layer_unuse(w->store, layer);
    if (unpack)
        unpack_poke(w->store); /* one that waited goes away */
}

/* Everyone who waits learns that it is there. They may let go of it, and of each other, meanwhile. */
static void tell_ready(struct layer *layer)
{
    struct list waiting;
    struct list *link;
    const struct err none = {0};

    list_init(&waiting);
    list_splice(&waiting, &layer->wants);
    layer->turn = NULL;
    while ((link = list_pop(&waiting))) {
        struct layer_want *w = list_entry(link, struct layer_want, link);

        if (w->unpack) {
            w->unpack->owner = NULL;
            w->unpack = NULL;
        }
        w->on_done(w, &none);
    }
}

/* --- a finished draft ---------------------------------------------------------------------------- */

static bool record_names_blob(const LayerRecord *record, const char *digest)
{
    for (size_t i = 0; i < record->n_blobs; i++)
        if (strcmp(record->blobs[i], digest) == 0)
            return true;
    return false;
}

/* Put the draft and the blob into their places and remember them. */
static int adopt(struct unpack *u, struct layer *layer, struct err *e)
{
    struct images *s = u->store;
    const char *hex = HEX_OF(layer->diff_id);
    bool new_blob = !layer->record || !record_names_blob(layer->record, u->digest);

    int rc = blob_adopt(s, u->source_fd, u->file, u->digest, e);
    if (rc < 0)
        return rc;
    store_discard(s, s->layers_fd, hex); /* what a record without a directory's contents may have left */
    if (renameat(s->tmp_fd, u->draft, s->layers_fd, hex) < 0)
        return err_errno(e, "put layer %.19s in its place", layer->diff_id);
    rc = records_put(s->layer_records, hex, &u->record->base, e);
    if (rc < 0) {
        store_discard(s, s->layers_fd, hex);
        return rc;
    }
    if (layer->record)
        layer_record__free_unpacked(layer->record, NULL);
    layer->record = steal(&u->record);
    layer->ready = true;
    if (new_blob)
        blob_ref(s, u->digest);
    return 0;
}

/* --- unpacking ----------------------------------------------------------------------------------- */

static void unpack_next(void *ctx);

/* Look at the queue from the loop: what ends there calls back, which must not come from inside a caller's call. */
static void unpack_poke(struct images *s)
{
    if (s->unpack_poked)
        return;
    s->unpack_poked = true;
    store_busy(s);
    loop_later(s->config.loop, unpack_next, s);
}

static void unpack_free(struct unpack *u)
{
    list_remove(&u->link);
    mem_auto_close(&u->source_fd);
    mem_auto_close(&u->blob_fd);
    mem_auto_close(&u->draft_fd);
    if (u->draft)
        store_discard(u->store, u->store->tmp_fd, u->draft);
    if (u->record)
        layer_record__free_unpacked(u->record, NULL);
    free(u->draft);
    free(u->file);
    free(u->digest);
    free(u);
}

/* The helper has ended: with a layer in the draft, or with an error. For an import this is where the layer becomes
 * known. It may be ready already, by another operation: then the draft is not needed. */
static void unpack_judge(struct unpack *u)
{
    struct layer *layer = u->layer;

    if (u->error.code)
        return;
    if (!u->record) {
        err_set(&u->error, ERR_INTERNAL, "the helper told no result");
        return;
    }
    if (!layer && u->owner)
        layer = u->owner->layer = layer_use(u->store, u->record->diff_id);
    if (layer && !layer->ready)
        (void)adopt(u, layer, &u->error); /* the error is told below */
}

static void unpack_finish(struct unpack *u)
{
    struct images *s = u->store;
    struct layer_want *owner = u->owner;
    bool import = !u->layer;

    unpack_judge(u);
    struct layer *layer = u->layer ? u->layer : owner ? owner->layer : NULL;
    const struct err e = u->error;
    if (owner)
        owner->unpack = NULL;
    if (u->layer)
        u->layer->unpack = NULL;
    unpack_free(u);
    if (layer)
        layer->users++; /* callbacks may let go of it */
    bool ready = layer && layer->ready;
    if (ready) {
        tell_ready(layer);
    } else if (layer && owner) {
        list_remove(&owner->link);
        layer->turn = NULL;
    }
    if (owner && (import || !ready))
        owner->on_done(owner, &e); /* an import waits in no list */
    if (layer) {
        pass_turn(layer);
        layer_unuse(s, layer);
    }
    unpack_poke(s);
    store_idle(s);
}

static void on_frame(void *ctx, const void *data, size_t size)
{
    struct unpack *u = ctx;
    UnpackEvent *event = unpack_event__unpack(NULL, size, data);

    if (!event) {
        child_kill(u->child);
        return;
    }
    if (event->error)
        err_set(&u->error, event->error->code < 0 ? event->error->code : ERR_INTERNAL, "%s", event->error->text);
    if (event->has_current) {
        struct layer_want *w, *after;

        if (u->layer)
            list_each_safe (w, after, &u->layer->wants, link)
                w->on_progress(w, event->current, u->size);
        else if (u->owner)
            u->owner->on_progress(u->owner, event->current, u->size);
    }
    const UnpackResult *r = event->result;
    if (r && !u->record && digest_valid(r->diff_id) && strcmp(r->digest, u->digest) == 0 &&
        (!u->layer || strcmp(r->diff_id, u->layer->diff_id) == 0)) {
        LayerRecord *record = mem_alloc(sizeof(*record));

        layer_record__init(record);
        record->format = 1;
        record->diff_id = mem_strdup(r->diff_id);
        record->directory = mem_strdup(HEX_OF(r->diff_id));
        record->has_size_bytes = record->has_opaque_root = true;
        record->size_bytes = (int64_t)r->size_bytes;
        record->opaque_root = r->opaque_root;
        record->n_blobs = 1;
        record->blobs = mem_array(1, sizeof(*record->blobs));
        record->blobs[0] = mem_strdup(r->digest);
        u->record = record;
    }
    unpack_event__free_unpacked(event, NULL);
}

static void on_end(void *ctx, const struct err *e)
{
    struct unpack *u = ctx;

    u->child = NULL;
    u->store->unpacking--;
    if (e->code && !u->error.code)
        u->error = *e;
    unpack_finish(u);
}

static void unpack_start(struct unpack *u)
{
    struct images *s = u->store;
    const int fds[] = {u->blob_fd, u->draft_fd};
    const struct child_config config = {
        .loop = s->config.loop, .program = s->config.job, .verb = "unpack", .fds = fds, .fd_count = 2};
    const struct child_events events = {.ctx = u, .on_frame = on_frame, .on_end = on_end};
    UnpackRequest request = UNPACK_REQUEST__INIT;

    if (child_start(&config, &events, &u->child, &u->error) < 0)
        return;
    s->unpacking++;
    request.digest = u->digest;
    request.diff_id = u->layer ? u->layer->diff_id : NULL;
    request.has_bytes_max = request.has_files_max = request.has_depth_max = request.has_complete = true;
    request.bytes_max = s->config.layer_bytes_max;
    request.files_max = FILES_MAX;
    request.depth_max = DEPTH_MAX;
    request.complete = !u->layer;
    child_send(u->child, &request.base);
    mem_auto_close(&u->blob_fd);
    mem_auto_close(&u->draft_fd);
    u->blob_fd = u->draft_fd = -1;
}

/* Start what waits; end what waits and is not wanted any more, or could not be started. */
static void unpack_next(void *ctx)
{
    struct images *s = ctx;
    struct unpack *u, *ended;

    s->unpack_poked = false;
    do {
        ended = NULL;
        list_each (u, &s->unpacks, link) {
            if (!u->child && u->error.code == 0 && s->unpacking < UNPACKS_MAX)
                unpack_start(u);
            if (!u->child && u->error.code) {
                ended = u;
                break;
            }
        }
        if (ended)
            unpack_finish(ended);
    } while (ended);
    store_idle(s);
}

static int unpack_new(struct layer_want *w, int dir_fd, const char *file, const char *digest, uint64_t size,
                      struct err *e)
{
    struct images *s = w->store;
    struct unpack *u = mem_alloc(sizeof(*u));

    list_init(&u->link);
    u->store = s;
    u->layer = w->layer;
    u->source_fd = u->draft_fd = -1;
    u->blob_fd = openat(dir_fd, file, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
    if (u->blob_fd < 0) {
        err_errno(e, "open blob %.19s", digest);
        goto failed;
    }
    u->source_fd = fcntl(dir_fd, F_DUPFD_CLOEXEC, 0);
    if (u->source_fd < 0) {
        err_errno(e, "duplicate a directory");
        goto failed;
    }
    if (store_draft(s, "layer", &u->draft, &u->draft_fd, e) < 0)
        goto failed;
    u->owner = w;
    u->file = mem_strdup(file);
    u->digest = mem_strdup(digest);
    u->size = size;
    w->unpack = u;
    if (w->layer)
        w->layer->unpack = u;
    list_push(&s->unpacks, &u->link);
    store_busy(s);
    unpack_poke(s);
    return 0;
failed:
    unpack_free(u);
    return e ? e->code : ERR_IO;
}

int layer_offer(struct layer_want *w, int dir_fd, const char *file, const char *digest, uint64_t size,
                struct err *e)
{
    return unpack_new(w, dir_fd, file, digest, size, e);
}

int layer_import(struct images *s, struct layer_want *w, int dir_fd, const char *file, const char *digest,
                 uint64_t size, struct err *e)
{
    w->store = s;
    w->layer = NULL;
    list_init(&w->link);
    return unpack_new(w, dir_fd, file, digest, size, e);
}

void unpack_cancel_all(struct images *s)
{
    struct unpack *u;

    list_each (u, &s->unpacks, link) {
        err_set(&u->error, ERR_CANCELED, "canceled");
        if (u->child)
            child_kill(u->child);
    }
    unpack_poke(s);
}

/* --- at open ------------------------------------------------------------------------------------- */

struct repair { /* a layer unpacked again */
    struct layer_want want;
    char diff_id[DIGEST_TEXT + 1];
};

static void repair_on_progress(struct layer_want *w, uint64_t current, uint64_t total)
{
}

static void repair_on_done(struct layer_want *w, const struct err *e)
{
    struct repair *r = container_of(w, struct repair, want);

    if (e->code && e->code != ERR_CANCELED)
        log_error("image store: layer could not be unpacked again", "layer=%s error=\"%s\"", r->diff_id, e->text);
    layer_release(w);
    free(r);
}

/* The directory is gone, the blob is there. */
static void repair(struct images *s, struct layer *layer)
{
    struct repair *r = mem_alloc(sizeof(*r));
    struct err e;
    struct stat st;

    r->want.on_turn = NULL; /* it has the turn from the beginning: nobody was here before */
    r->want.on_progress = repair_on_progress;
    r->want.on_done = repair_on_done;
    snprintf(r->diff_id, sizeof(r->diff_id), "%s", layer->diff_id);
    enum layer_answer answer = layer_want(s, &r->want, layer->diff_id);
    const char *digest = NULL;
    for (size_t i = 0; i < layer->record->n_blobs && !digest; i++)
        if (blob_there(s, layer->record->blobs[i]))
            digest = layer->record->blobs[i];
    if (answer == LAYER_TURN && digest && fstatat(s->blobs_fd, HEX_OF(digest), &st, 0) == 0 &&
        layer_offer(&r->want, s->blobs_fd, HEX_OF(digest), digest, (uint64_t)st.st_size, &e) == 0) {
        log_warn("image store: layer is unpacked again", "layer=%s", layer->diff_id);
        return;
    }
    log_error("image store: layer is missing", "layer=%s", layer->diff_id);
    layer_release(&r->want);
    free(r);
}

int layer_load(struct images *s, LayerRecord *record, struct err *e)
{
    struct stat st;

    if (!digest_valid(record->diff_id) || strcmp(record->directory, HEX_OF(record->diff_id)) != 0 ||
        layer_get(s, record->diff_id)) {
        err_set(e, ERR_CORRUPT, "the record contradicts itself");
        layer_record__free_unpacked(record, NULL);
        return ERR_CORRUPT;
    }
    struct layer *layer = layer_use(s, record->diff_id);
    layer->users = 0; /* images will use it */
    layer->record = record;
    layer->ready = fstatat(s->layers_fd, record->directory, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISDIR(st.st_mode);
    for (size_t i = 0; i < record->n_blobs; i++)
        blob_ref(s, record->blobs[i]);
    return 0;
}

void layer_sweep(struct images *s)
{
    struct layer **all = mem_array(s->layers.count, sizeof(struct layer *)), *layer;
    size_t at = 0, count = 0;

    while ((layer = map_next(&s->layers, &at)))
        all[count++] = layer;
    for (size_t i = 0; i < count; i++) {
        if (all[i]->users == 0)
            layer_remove(s, all[i]);
        else if (!all[i]->ready)
            repair(s, all[i]);
    }
    free(all);
}
