/* The image store from inside: directories, records, blobs, layers, and what is being removed. Internal to
 * engine/image; the door is image.h.
 *
 *     <dir>/blobs/sha256/<hex>   configs, manifests and layer blobs, by digest, as they came
 *     <dir>/layers/<hex>         one unpacked layer, by diff id
 *     <dir>/records/images/      ImageRecord by id
 *     <dir>/records/layers/      LayerRecord by diff id
 *     <dir>/tmp/                 drafts, and "dead-..." for what is being removed
 *
 * A blob exists as long as an image or a layer names it, a layer as long as an image or a running operation uses
 * it. Counts are kept in memory and made anew at open. */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/utsname.h>

#include <uv.h>

#include "engine/child.h"
#include "engine/image/image.h"
#include "engine/image/manifest.h"
#include "proto/base/hash.h"
#include "proto/base/list.h"
#include "proto/base/map.h"
#include "proto/base/record.h"

#define HEX_OF(digest) ((digest) + 7) /* what follows "sha256:" */

struct layer_want;

struct layer { /* one diff id */
    char *diff_id;
    LayerRecord *record;     /* NULL until it was unpacked once */
    bool ready;              /* its directory is there */
    unsigned users;          /* images and wants */
    struct list wants;       /* of struct layer_want, the one whose turn it is first */
    struct layer_want *turn; /* who brings the blob, or NULL */
    struct unpack *unpack;   /* while it is being made, also when nobody waits for that any more */
};

struct entry { /* one image */
    struct images *store;
    ImageRecord *record;   /* owned */
    struct arena arena;    /* of the config */
    ImageConfig *config;   /* in it */
    struct layer **layers; /* as many as diff ids, lowest first; each counts us as a user */
    unsigned holds;        /* containers */
};

struct images {
    struct images_config config; /* its texts are owned copies */
    struct utsname machine;
    struct platform host;
    int blobs_fd, layers_fd, tmp_fd;
    struct records *image_records, *layer_records;
    struct map images;     /* id -> struct entry, hidden ones too */
    struct map names;      /* "docker.io/library/web:1", "...@sha256:..." -> struct entry */
    struct map layers;     /* diff id -> struct layer */
    struct map blobs;      /* digest -> struct blob_count */
    struct entry **sorted; /* the visible ones, newest first */
    size_t sorted_count;
    bool sorted_valid;
    struct list pulls;     /* of struct pull */
    struct list loads;     /* of struct load */
    struct list resolves;  /* of struct resolve */
    struct list unpacks;   /* of struct unpack: running first, then waiting */
    unsigned unpacking;    /* running */
    bool unpack_poked;     /* the queue will be looked at */
    struct child *remover; /* empties tmp of what is dead */
    bool dead_left;        /* more to remove since it began */
    bool holds_done;       /* images_holds_done was called */
    unsigned busy;         /* operations under way; the store closes when there are none */
    uint64_t next_draft;   /* names drafts */
    bool closing;
    void (*closed)(void *ctx);
    void *closed_ctx;
};

/* --- store.c ------------------------------------------------------------------------------------- */

/* An operation begins or ends: closing waits for all of them. */
void store_busy(struct images *s);
void store_idle(struct images *s);

/* A new empty directory below tmp: its name (free it) and descriptor. */
int store_draft(struct images *s, const char *what, char **ret_name, int *ret_fd, struct err *e);

/* Remove a file or tree, soon and in the background: renamed into tmp now. Absent is fine. */
void store_discard(struct images *s, int dir_fd, const char *name);

/* Blobs: whether one is there; write a small one (not synced); read one, checked against its digest; open one. */
bool blob_there(struct images *s, const char *digest);
int blob_write(struct images *s, const char *digest, const void *data, size_t size, struct err *e);
int blob_read(struct images *s, const char *digest, struct buf *into, struct err *e);
/* Move a file of a draft to its place by digest. */
int blob_adopt(struct images *s, int dir_fd, const char *file, const char *digest, struct err *e);
void blob_ref(struct images *s, const char *digest);
void blob_unref(struct images *s, const char *digest); /* the last one discards it */

/* Make the blobs named durable; `done` comes from the loop. Digests are copied. */
void blobs_sync(struct images *s, const char *const *digests, size_t count,
                void (*done)(void *ctx, const struct err *e), void *ctx);

void event(struct images *s, const char *action, const char *id, const char *name);

/* --- entry.c: images in memory and their records ------------------------------------------------- */

struct entry *entry_get(struct images *s, const char *id); /* hidden ones too */
struct entry *entry_find(struct images *s, const char *ref, struct err *e);

struct entry_new { /* an image that was brought; all borrowed */
    const char *id;
    const char *config_json; /* its bytes lie in the store as the blob `id` */
    size_t config_size;
    const char *manifest_digest; /* or NULL */
    const char *tag;             /* full name, or NULL */
    const char *digest_name;     /* "docker.io/library/web@sha256:...", or NULL */
    const char *parent;          /* or NULL */
};

/* Make the image, or add the names to the one there is. All its layers must be ready and its blobs durable.
 * *ret_changed: the tag led elsewhere before. */
int entry_add(struct images *s, const struct entry_new *n, struct entry **ret, bool *ret_changed, struct err *e);
/* As images_open finds one: takes the record. */
int entry_load(struct images *s, ImageRecord *record, struct err *e);

/* Point a tag to the image, away from another. */
int entry_tag(struct entry *entry, const char *full, struct err *e);
/* Drop a name (tag or digest name); the record is written. */
int entry_untag(struct entry *entry, const char *full, struct err *e);
/* Remove the image: its names, its record, its blobs and the layers nobody else uses. While a container holds it,
 * it is only hidden. Diff ids of removed layers are told to `removed` (may be NULL). */
int entry_remove(struct entry *entry, void (*removed)(void *ctx, const char *diff_id), void *ctx, struct err *e);
void entry_drop(struct entry *entry); /* from memory only: at close */

size_t entry_children(struct images *s, const char *id);

/* --- layer.c: layers and how they are made ------------------------------------------------------- */

enum layer_answer { LAYER_READY, LAYER_TURN, LAYER_WAIT };

struct layer_want { /* embedded by who needs a layer */
    struct list link;
    struct layer *layer; /* NULL: not asked yet, or released */
    struct images *store;
    struct unpack *unpack; /* of what it offered */
    /* Another one gave up: bring the blob, with layer_offer or layer_give_up. */
    void (*on_turn)(struct layer_want *w);
    /* It is being unpacked: bytes of the blob read, of how many. */
    void (*on_progress)(struct layer_want *w, uint64_t current, uint64_t total);
    /* It is ready (code 0), or what was offered could not be unpacked. */
    void (*on_done)(struct layer_want *w, const struct err *e);
};

/* Ask for a layer and keep it until layer_release. Only one of those who wait is asked for the blob at a time. */
enum layer_answer layer_want(struct images *s, struct layer_want *w, const char *diff_id);
/* Here is the blob: unpack it. The file stays where it is (also dir_fd is the caller's, and open until on_done);
 * once unpacked it is linked into the store as a blob. On failure the turn is still the caller's. */
int layer_offer(struct layer_want *w, int dir_fd, const char *file, const char *digest, uint64_t size,
                struct err *e);
/* No longer interested, in any state; no more callbacks. */
void layer_release(struct layer_want *w);

/* Unpack a blob whose diff id is not known (import): as layer_want and layer_offer; w->layer is set at a good end.
 */
int layer_import(struct images *s, struct layer_want *w, int dir_fd, const char *file, const char *digest,
                 uint64_t size, struct err *e);

struct layer *layer_get(struct images *s, const char *diff_id);       /* NULL when unknown */
struct layer *layer_use(struct images *s, const char *diff_id);       /* counts a user; made when unknown */
void layer_unuse(struct images *s, struct layer *layer);              /* the last one removes it */
int layer_load(struct images *s, LayerRecord *record, struct err *e); /* at open; takes the record */
void layer_sweep(
    struct images *s); /* at open, when all images are known: drop the unused, unpack the missing again */
void layer_free(struct images *s, struct layer *layer);
void unpack_cancel_all(struct images *s);

/* --- operations ---------------------------------------------------------------------------------- */

struct image_job {
    struct list link; /* of a pull's callers */
    struct images *store;
    struct image_job_events events;
    void (*on_writable)(void *ctx);
    struct pull *pull; /* one of the two */
    struct load *load;
    bool greeted; /* it has heard what a pull said before it joined */
    bool ended;   /* on_done is on its way */
};

struct image_job *job_new(struct images *s, const struct image_job_events *events);
void job_progress(struct image_job *job, const struct buf *line);
/* Tell the end from the loop, later, and free the handle. */
void job_done(struct image_job *job, const struct err *e, const char *image_id);

void pull_cancel(struct pull *pull, struct image_job *job);
void pull_cancel_all(struct images *s);
void load_cancel(struct load *load);
void load_cancel_all(struct images *s);
bool load_feed(struct load *load, const void *data, size_t size);
void resolve_cancel_all(struct images *s);
