/* Images: names, records, unpacked layers, and the long operations that bring them (reference/engine-surface.md
 * sections 11 and 12).
 *
 * Blobs lie by digest below <dir>/blobs/sha256, layers unpacked once by diff-id below <dir>/layers, records below
 * <dir>/records. Everything is written aside, synced and renamed; at open, what has no record is removed and a
 * record without its directory means "unpack again". Fetching and unpacking happen in confined children
 * (shoal-job); the loop only watches them. All callbacks come on the loop. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include <uv.h>

#include "proto/base/arena.h"
#include "proto/base/buf.h"
#include "proto/base/err.h"
#include "proto/base/image_name.h"
#include "proto/base/jwrite.h"
#include "proto/container.pb-c.h"

struct images;

struct images_config {
    uv_loop_t *loop;
    const char *dir;   /* <data-dir>/images */
    const char *job;   /* path of shoal-job */
    unsigned parallel; /* layers fetched at once per pull; 0: 3 */
    /* Registries ("host" or "host:port") that may be spoken to without TLS or with certificates nobody knows,
     * besides those on this machine's loopback. NULL-terminated; may be NULL. */
    const char *const *insecure;
    const char *certificates;  /* directory of <host>/ca.crt, client.cert, client.key; NULL: /etc/docker/certs.d */
    uint64_t layer_bytes_max;  /* unpacked; 0: 64 GiB */
    uint64_t upload_bytes_max; /* of a load or import; 0: 64 GiB */
    /* Who uses an image: NULL, or text for the refusal of rm, e.g. "container 4f5c...". `running` tells the hard
     * conflict. */
    const char *(*in_use)(void *ctx, const char *image_id, bool *ret_running);
    void *ctx;
    /* Something happened to an image, for events: "pull", "load", "import", "tag", "untag", "delete". May be NULL.
     */
    void (*on_event)(void *ctx, const char *action, const char *id, const char *name);
};

int images_open(const struct images_config *config, struct images **ret, struct err *e);
void images_close(struct images *s, void (*closed)(void *ctx), void *ctx); /* running jobs are ended */

/* One image: borrowed, valid until the loop turns. */
struct image {
    const ImageRecord *record;
    const ImageConfig *config;
};

/* Find by name (normalised: "web" is docker.io/library/web:latest), name@digest, full or short id, in Docker's
 * order. ERR_NOT_FOUND says "No such image: web:latest"; several ids with a prefix are ERR_INVALID. */
int image_find(struct images *s, const char *ref, struct image *ret, struct err *e);
size_t images_count(const struct images *s);
/* All images, newest first; *at starts at 0. False at the end. */
bool images_next(struct images *s, size_t *at, struct image *ret);

/* Open the layers of an image as O_PATH directories, topmost first, into fds (room for count = number of its
 * diff_ids). */
int image_layers_open(struct images *s, const char *image_id, int *fds, unsigned count, struct err *e);

/* Keep an image's layers from being removed while a container made from it exists. An image that is removed by
 * force meanwhile is no longer found, but its layers can be opened by its id until the last release. */
void image_hold(struct images *s, const char *image_id);
void image_release(struct images *s, const char *image_id);
/* Once after images_open, when every container there was has been held: what was removed before and is not held any
 * more goes now. */
void images_holds_done(struct images *s);

/* The JSON of an image's config as it came, appended: for inspect and history. */
int image_config_json(struct images *s, const char *image_id, struct buf *into, struct err *e);
/* Bytes of one unpacked layer; -1 when it is unknown. For history and disk usage. */
int64_t image_layer_size(struct images *s, const char *diff_id);

/* --- operations: each answers once with `done`; cancel by image_job_cancel ----------------------- */

struct image_job; /* a running pull, load or import */

struct image_job_events {
    void *ctx;
    /* One line of Docker's progress stream: a JSON object without the newline. May be NULL. */
    void (*on_progress)(void *ctx, const char *json, size_t length);
    /* The end. image_id of what was brought (NULL on error or when several were loaded). */
    void (*on_done)(void *ctx, const struct err *e, const char *image_id);
};

/* Pull name (tag or digest). `auth` is the X-Registry-Auth header's value or NULL. `platform` "os/arch[/variant]"
 * or NULL. Pulls of one name that run already are joined. */
int image_pull(struct images *s, const char *ref, const char *platform, const char *auth,
               const struct image_job_events *events, struct image_job **ret, struct err *e);

/* Load an archive (docker save or OCI layout, plain, gzip or zstd), or import a flat tar as one layer named `ref`
 * (NULL: no name) with config `changes` ("CMD ...", "ENV ..."); data is fed with image_job_feed, ended with size 0.
 * Feed returns false: wait for on_writable. */
int image_load(struct images *s, bool quiet, const struct image_job_events *events, void (*on_writable)(void *ctx),
               struct image_job **ret, struct err *e);
int image_import(struct images *s, const char *ref, const char *message, const char *const *changes,
                 size_t change_count, const char *platform, const struct image_job_events *events,
                 void (*on_writable)(void *ctx), struct image_job **ret, struct err *e);
bool image_job_feed(struct image_job *job, const void *data, size_t size);
void image_job_cancel(struct image_job *job); /* on_done comes with ERR_CANCELED */

int image_tag(struct images *s, const char *source, const char *ref, struct err *e);

/* Docker's rules of removal; writes the reply list [{"Untagged":..},{"Deleted":..}] into `out`. */
int image_remove(struct images *s, const char *ref, bool force, bool prune_parents, struct buf *out, struct err *e);

/* Dangling images, or all unused ones; writes {"ImagesDeleted":[...],"SpaceReclaimed":n}. */
int image_prune(struct images *s, bool dangling_only, struct buf *out, struct err *e);

/* Ask a registry what a name stands for: digest and platforms (for service create and /distribution). */
struct image_manifest_info {
    const char *digest; /* "sha256:..." */
    const char *media_type;
    int64_t size;
    const Platform *const *platforms;
    size_t platform_count;
};
int image_resolve(struct images *s, const char *ref, const char *auth,
                  void (*done)(void *ctx, const struct err *e, const struct image_manifest_info *info), void *ctx,
                  struct err *e);
