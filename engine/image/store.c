/* The image store: directories, blobs, and what is on its way out (store.h).
 *
 * Opening makes the truth out of what a crash may have left: everything in tmp is a draft nobody will finish and
 * goes; records are read, images that lack their config or a layer are reported and dropped; layers no image names
 * and blobs nobody names go; a layer whose directory is missing is unpacked again from its blob.
 *
 * Nothing is removed in place. What must go is renamed into tmp as "dead-...", which takes no time and cannot be
 * seen half done, and a confined helper (shoal-job remove) takes it from there, off the loop.
 *
 * Blobs are counted by who names them. They lie as they came, compressed or not: to save or send an image with the
 * digests it had, and to unpack a layer again without the registry, costs the space once more that the compressed
 * layers take. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "engine/image/store.h"
#include "engine/later.h"
#include "proto/base/file.h"
#include "proto/base/ident.h"
#include "proto/base/log.h"
#include "proto/base/mem.h"

#define RECORD_BYTES_MAX ((size_t)4 << 20)
#define BYTES_MAX        ((uint64_t)64 << 30)
#define SYNC_MAX         4 /* blobs synced in one pool job */

static const struct record_format image_format = {
    .magic = "shoalimg",
    .version = 1,
    .size_max = RECORD_BYTES_MAX,
    .type = &image_record__descriptor,
};

static const struct record_format layer_format = {
    .magic = "shoallay",
    .version = 1,
    .size_max = RECORD_BYTES_MAX,
    .type = &layer_record__descriptor,
};

struct blob_count {
    char digest[DIGEST_TEXT + 1];
    unsigned names; /* images and layers that name it */
};

void event(struct images *s, const char *action, const char *id, const char *name)
{
    if (s->config.on_event)
        s->config.on_event(s->config.ctx, action, id, name);
}

/* --- what is on its way out ---------------------------------------------------------------------- */

static void remover_start(struct images *s);

static void remover_on_frame(void *ctx, const void *data, size_t size)
{
}

static void remover_on_end(void *ctx, const struct err *e)
{
    struct images *s = ctx;

    s->remover = NULL;
    if (e->code && e->code != ERR_CANCELED)
        log_warn("image store: removal failed", "error=\"%s\"", e->text);
    if (s->dead_left && !s->closing)
        remover_start(s);
    store_idle(s);
}

static void remover_start(struct images *s)
{
    const struct child_config config = {
        .loop = s->config.loop, .program = s->config.job, .verb = "remove", .fds = &s->tmp_fd, .fd_count = 1};
    const struct child_events events = {.ctx = s, .on_frame = remover_on_frame, .on_end = remover_on_end};
    struct err e;

    s->dead_left = false;
    if (child_start(&config, &events, &s->remover, &e) < 0) {
        log_error("image store: removal could not be started", "error=\"%s\"", e.text);
        return; /* what is dead stays until the next one, or the next open */
    }
    store_busy(s);
}

static void kill_name(struct images *s, int dir_fd, const char *name)
{
    char dead[64];

    snprintf(dead, sizeof(dead), "dead-%d-%llu", getpid(), (unsigned long long)s->next_draft++);
    if (renameat(dir_fd, name, s->tmp_fd, dead) < 0) {
        if (errno != ENOENT)
            log_error("image store: cannot remove", "name=%s error=\"%s\"", name, strerror(errno));
        return;
    }
    s->dead_left = true;
}

void store_discard(struct images *s, int dir_fd, const char *name)
{
    kill_name(s, dir_fd, name);
    if (s->dead_left && !s->remover && !s->closing)
        remover_start(s);
}

int store_draft(struct images *s, const char *what, char **ret_name, int *ret_fd, struct err *e)
{
    char *name = mem_printf("%s-%d-%llu", what, getpid(), (unsigned long long)s->next_draft++);

    if (mkdirat(s->tmp_fd, name, 0700) < 0) {
        err_errno(e, "make a directory for %s", what);
        goto failed;
    }
    int fd = openat(s->tmp_fd, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) {
        err_errno(e, "open the directory for %s", what);
        goto failed;
    }
    *ret_name = name;
    *ret_fd = fd;
    return 0;
failed:
    free(name);
    return e ? e->code : ERR_IO;
}

/* --- blobs --------------------------------------------------------------------------------------- */

bool blob_there(struct images *s, const char *digest)
{
    struct stat st;

    return fstatat(s->blobs_fd, HEX_OF(digest), &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISREG(st.st_mode);
}

int blob_write(struct images *s, const char *digest, const void *data, size_t size, struct err *e)
{
    int rc = blob_there(s, digest) ? 0 : file_replace(s->blobs_fd, HEX_OF(digest), 0600, data, size, false, e);

    return rc < 0 ? err_wrap(e, "store blob %.19s", digest) : 0;
}

int blob_read(struct images *s, const char *digest, struct buf *into, struct err *e)
{
    uint8_t bytes[SHA256_BYTES];
    char found[DIGEST_TEXT + 1];
    size_t before = into->length;
    int rc = file_read(s->blobs_fd, HEX_OF(digest), MANIFEST_BYTES_MAX, into, e);

    if (rc < 0)
        return err_wrap(e, "blob %.19s", digest);
    sha256(buf_bytes(into) + before, into->length - before, bytes);
    digest_format(bytes, found);
    if (strcmp(found, digest) != 0)
        return err_set(e, ERR_CORRUPT, "blob %.19s is damaged: its contents have digest %.19s", digest, found);
    return 0;
}

int blob_adopt(struct images *s, int dir_fd, const char *file, const char *digest, struct err *e)
{
    if (linkat(dir_fd, file, s->blobs_fd, HEX_OF(digest), 0) < 0 && errno != EEXIST)
        return err_errno(e, "store blob %.19s", digest);
    return 0;
}

void blob_ref(struct images *s, const char *digest)
{
    struct blob_count *b = map_get(&s->blobs, digest);

    if (!b) {
        b = mem_alloc(sizeof(*b));
        snprintf(b->digest, sizeof(b->digest), "%s", digest);
        map_put(&s->blobs, b->digest, b);
    }
    b->names++;
}

void blob_unref(struct images *s, const char *digest)
{
    struct blob_count *b = map_get(&s->blobs, digest);

    if (!b || --b->names > 0)
        return;
    map_remove(&s->blobs, b->digest);
    store_discard(s, s->blobs_fd, HEX_OF(b->digest));
    free(b);
}

/* --- making blobs durable ------------------------------------------------------------------------ */

struct blob_sync {
    uv_work_t work;
    struct images *store;
    char names[SYNC_MAX][SHA256_HEX + 1];
    size_t count;
    int error;
    void (*done)(void *ctx, const struct err *e);
    void *ctx;
};

static void sync_work(uv_work_t *work) /* in the pool */
{
    struct blob_sync *b = container_of(work, struct blob_sync, work);

    for (size_t i = 0; i < b->count && !b->error; i++) {
        AUTO_CLOSE
        int fd = openat(b->store->blobs_fd, b->names[i], O_RDONLY | O_CLOEXEC);

        if (fd < 0 || fsync(fd) < 0)
            b->error = errno;
    }
    if (!b->error && fsync(b->store->blobs_fd) < 0)
        b->error = errno;
}

static void sync_done(uv_work_t *work, int status)
{
    struct blob_sync *b = container_of(work, struct blob_sync, work);
    struct images *s = b->store;
    struct err e = {0};

    if (b->error)
        err_number(&e, b->error, "sync blobs");
    b->done(b->ctx, &e);
    free(b);
    store_idle(s);
}

void blobs_sync(struct images *s, const char *const *digests, size_t count,
                void (*done)(void *ctx, const struct err *e), void *ctx)
{
    struct blob_sync *b = mem_alloc(sizeof(*b));

    b->store = s;
    b->done = done;
    b->ctx = ctx;
    for (size_t i = 0; i < count && b->count < SYNC_MAX; i++)
        if (digests[i])
            snprintf(b->names[b->count++], sizeof(b->names[0]), "%s", HEX_OF(digests[i]));
    store_busy(s);
    if (uv_queue_work(s->config.loop, &b->work, sync_work, sync_done) < 0)
        abort(); /* only for a missing callback */
}

/* --- open ---------------------------------------------------------------------------------------- */

static void scan_problem(void *ctx, const char *name, const struct err *why)
{
    log_error("image store: damaged record", "record=%s error=\"%s\"", name, why->text);
}

static void scan_layer(void *ctx, const char *name, ProtobufCMessage *message)
{
    struct err e = {0};

    if (layer_load(ctx, (LayerRecord *)message, &e) < 0)
        log_error("image store: layer dropped", "layer=%s error=\"%s\"", name, e.text);
}

static void scan_image(void *ctx, const char *name, ProtobufCMessage *message)
{
    struct err e = {0};

    if (entry_load(ctx, (ImageRecord *)message, &e) < 0)
        log_error("image store: image dropped", "image=%s error=\"%s\"", name, e.text);
}

/* Send to death what `wanted` does not want. */
static int sweep_directory(struct images *s, int fd, bool (*wanted)(struct images *s, const char *name),
                           struct err *e)
{
    int again = openat(fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *dir = again >= 0 ? fdopendir(again) : NULL;
    struct dirent *entry;

    if (!dir) {
        if (again >= 0)
            close(again);
        return err_errno(e, "list a directory of the image store");
    }
    while ((entry = readdir(dir)))
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0 && !wanted(s, entry->d_name))
            kill_name(s, fd, entry->d_name);
    closedir(dir);
    return 0;
}

static bool want_dead(struct images *s, const char *name)
{
    s->dead_left |= strncmp(name, "dead-", 5) == 0;
    return strncmp(name, "dead-", 5) == 0;
}

static bool want_blob(struct images *s, const char *name)
{
    char digest[DIGEST_TEXT + 1];

    if (!hex_valid(name, SHA256_HEX))
        return false;
    snprintf(digest, sizeof(digest), "sha256:%s", name);
    return map_get(&s->blobs, digest);
}

static bool want_layer(struct images *s, const char *name)
{
    char diff_id[DIGEST_TEXT + 1];

    if (!hex_valid(name, SHA256_HEX))
        return false;
    snprintf(diff_id, sizeof(diff_id), "sha256:%s", name);
    struct layer *layer = layer_get(s, diff_id);
    return layer && layer->ready;
}

static int open_directory(const char *dir, const char *below, int *ret, struct err *e)
{
    AUTO_FREE
    char *path = mem_printf("%s/%s", dir, below);
    int rc = dir_make(path, 0700, e);

    return rc < 0 ? rc : dir_open(path, ret, e);
}

static int open_all(struct images *s, struct err *e)
{
    const char *dir = s->config.dir;
    AUTO_FREE
    char *images = mem_printf("%s/records/images", dir);
    AUTO_FREE
    char *layers = mem_printf("%s/records/layers", dir);
    const struct records_scan of_layers = {.ctx = s, .on_record = scan_layer, .on_problem = scan_problem};
    const struct records_scan of_images = {.ctx = s, .on_record = scan_image, .on_problem = scan_problem};
    int rc = open_directory(dir, "blobs/sha256", &s->blobs_fd, e);

    if (rc == 0)
        rc = open_directory(dir, "layers", &s->layers_fd, e);
    if (rc == 0)
        rc = open_directory(dir, "tmp", &s->tmp_fd, e);
    if (rc == 0)
        rc = records_open(s->config.loop, images, &image_format, &s->image_records, e);
    if (rc == 0)
        rc = records_open(s->config.loop, layers, &layer_format, &s->layer_records, e);
    if (rc == 0)
        rc = sweep_directory(s, s->tmp_fd, want_dead, e);
    if (rc == 0)
        rc = records_scan(s->layer_records, &of_layers, e);
    if (rc == 0)
        rc = records_scan(s->image_records, &of_images, e);
    if (rc < 0)
        return rc;
    layer_sweep(s);
    rc = sweep_directory(s, s->blobs_fd, want_blob, e);
    if (rc == 0)
        rc = sweep_directory(s, s->layers_fd, want_layer, e);
    if (rc == 0 && s->dead_left && !s->remover)
        remover_start(s);
    return rc;
}

static char **copy_list(const char *const *list)
{
    size_t count = 0;

    while (list && list[count])
        count++;
    char **copy = mem_array(count + 1, sizeof(*copy));
    for (size_t i = 0; i < count; i++)
        copy[i] = mem_strdup(list[i]);
    return copy;
}

static void store_free(struct images *s)
{
    size_t at = 0;
    struct entry *entry;
    struct layer *layer;
    struct blob_count *b;

    while ((entry = map_next(&s->images, &at)))
        entry_drop(entry);
    at = 0;
    while ((layer = map_next(&s->layers, &at)))
        layer_free(s, layer);
    at = 0;
    while ((b = map_next(&s->blobs, &at)))
        free(b);
    map_fini(&s->images);
    map_fini(&s->names);
    map_fini(&s->layers);
    map_fini(&s->blobs);
    mem_auto_close(&s->blobs_fd);
    mem_auto_close(&s->layers_fd);
    mem_auto_close(&s->tmp_fd);
    for (char **at_text = (char **)s->config.insecure; at_text && *at_text; at_text++)
        free(*at_text);
    free((void *)s->config.insecure);
    free((char *)s->config.dir);
    free((char *)s->config.job);
    free((char *)s->config.certificates);
    free(s->sorted);
    free(s);
}

int images_open(const struct images_config *config, struct images **ret, struct err *e)
{
    struct images *s = mem_alloc(sizeof(*s));

    s->config = *config;
    s->config.dir = mem_strdup(config->dir);
    s->config.job = mem_strdup(config->job);
    s->config.insecure = (const char *const *)copy_list(config->insecure);
    s->config.certificates = mem_strdup(config->certificates ? config->certificates : "/etc/docker/certs.d");
    s->config.parallel = config->parallel ? MIN(config->parallel, 16u) : 3;
    s->config.layer_bytes_max = config->layer_bytes_max ? config->layer_bytes_max : BYTES_MAX;
    s->config.upload_bytes_max = config->upload_bytes_max ? config->upload_bytes_max : BYTES_MAX;
    (void)uname(&s->machine); /* cannot fail */
    s->host = platform_of_machine(s->machine.machine);
    s->blobs_fd = s->layers_fd = s->tmp_fd = -1;
    list_init(&s->pulls);
    list_init(&s->loads);
    list_init(&s->resolves);
    list_init(&s->unpacks);
    int rc = open_all(s, e);
    if (rc < 0) {
        /* Records that were opened are given back by their own close, which needs the loop. */
        err_wrap(e, "image store %s", config->dir);
        images_close(s, NULL, NULL);
        return rc;
    }
    *ret = s;
    return 0;
}

/* --- close --------------------------------------------------------------------------------------- */

static void close_records(void *ctx)
{
    struct images *s = ctx;

    if (s->image_records) {
        records_close(steal(&s->image_records), close_records, s);
        return;
    }
    if (s->layer_records) {
        records_close(steal(&s->layer_records), close_records, s);
        return;
    }
    void (*closed)(void *ctx) = s->closed;
    void *closed_ctx = s->closed_ctx;
    store_free(s);
    if (closed)
        closed(closed_ctx);
}

void store_busy(struct images *s)
{
    s->busy++;
}

void store_idle(struct images *s)
{
    if (--s->busy == 0 && s->closing)
        loop_later(s->config.loop, close_records, s);
}

void images_close(struct images *s, void (*closed)(void *ctx), void *ctx)
{
    s->closing = true;
    s->closed = closed;
    s->closed_ctx = ctx;
    store_busy(s);
    pull_cancel_all(s);
    load_cancel_all(s);
    resolve_cancel_all(s);
    unpack_cancel_all(s);
    if (s->remover)
        child_kill(s->remover);
    store_idle(s);
}
