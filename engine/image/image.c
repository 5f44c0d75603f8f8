/* The door of the image store (image.h): finding, listing, opening layers, holding, tagging. What takes time is in
 * pull.c, load.c and resolve.c, what removes in remove.c. */
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "engine/image/store.h"
#include "engine/later.h"
#include "proto/base/log.h"
#include "proto/base/mem.h"

/* --- finding and listing ------------------------------------------------------------------------- */

static void show(const struct entry *entry, struct image *ret)
{
    ret->record = entry->record;
    ret->config = entry->config;
}

int image_find(struct images *s, const char *ref, struct image *ret, struct err *e)
{
    struct err why = {0};
    struct entry *entry = entry_find(s, ref, &why);

    if (!entry) {
        if (e)
            *e = why;
        return why.code;
    }
    show(entry, ret);
    return 0;
}

static int newest_first(const void *a, const void *b)
{
    const struct entry *x = *(struct entry *const *)a, *y = *(struct entry *const *)b;

    if (x->config->created_ns != y->config->created_ns)
        return x->config->created_ns < y->config->created_ns ? 1 : -1;
    return strcmp(x->record->id, y->record->id);
}

static void sort(struct images *s)
{
    struct entry *entry;
    size_t at = 0;

    if (s->sorted_valid)
        return;
    s->sorted = mem_grow(s->sorted, s->images.count, sizeof(struct entry *));
    s->sorted_count = 0;
    while ((entry = map_next(&s->images, &at)))
        if (!entry->record->hidden)
            s->sorted[s->sorted_count++] = entry;
    qsort(s->sorted, s->sorted_count, sizeof(struct entry *), newest_first);
    s->sorted_valid = true;
}

size_t images_count(const struct images *s)
{
    sort((struct images *)s); /* a cache, filled when it is asked for */
    return s->sorted_count;
}

bool images_next(struct images *s, size_t *at, struct image *ret)
{
    sort(s);
    if (*at >= s->sorted_count)
        return false;
    show(s->sorted[(*at)++], ret);
    return true;
}

int image_config_json(struct images *s, const char *image_id, struct buf *into, struct err *e)
{
    if (!entry_get(s, image_id))
        return err_set(e, ERR_NOT_FOUND, "No such image: %.100s", image_id);
    return blob_read(s, image_id, into, e);
}

int64_t image_layer_size(struct images *s, const char *diff_id)
{
    const struct layer *layer = layer_get(s, diff_id);

    return layer && layer->record ? layer->record->size_bytes : -1;
}

/* --- for containers ------------------------------------------------------------------------------ */

int image_layers_open(struct images *s, const char *image_id, int *fds, unsigned count, struct err *e)
{
    const struct entry *entry = entry_get(s, image_id);
    int opened[MANIFEST_LAYERS_MAX];

    if (!entry)
        return err_set(e, ERR_NOT_FOUND, "No such image: %.100s", image_id);
    if (count != entry->config->n_diff_ids)
        return err_set(e, ERR_INVALID, "image %.19s has %zu layers, not %u", image_id, entry->config->n_diff_ids,
                       count);
    for (unsigned i = 0; i < count; i++) {
        const struct layer *layer = entry->layers[count - 1 - i];

        opened[i] = -1;
        if (!layer->ready)
            err_set(e, ERR_UNAVAILABLE, "layer %s of image %.19s is %s", layer->diff_id, image_id,
                    layer->unpack ? "being unpacked again" : "missing: pull the image again");
        else
            opened[i] = openat(s->layers_fd, HEX_OF(layer->diff_id), O_PATH | O_DIRECTORY | O_CLOEXEC);
        if (opened[i] >= 0)
            continue;
        int rc = layer->ready ? err_errno(e, "open layer %s", layer->diff_id) : ERR_UNAVAILABLE;
        while (i-- > 0)
            close(opened[i]);
        return rc;
    }
    memcpy(fds, opened, count * sizeof(*fds));
    return 0;
}

void image_hold(struct images *s, const char *image_id)
{
    struct entry *entry = entry_get(s, image_id);

    if (entry)
        entry->holds++;
    else
        log_warn("image store: an image that is not here is held", "image=%s", image_id);
}

static void purge(struct entry *entry)
{
    struct err e;

    if (entry->record->hidden && !entry->holds && entry_remove(entry, NULL, NULL, &e) < 0)
        log_error("image store: removed image stays", "error=\"%s\"", e.text);
}

void image_release(struct images *s, const char *image_id)
{
    struct entry *entry = entry_get(s, image_id);

    if (!entry || entry->holds == 0)
        return;
    entry->holds--;
    if (s->holds_done)
        purge(entry);
}

void images_holds_done(struct images *s)
{
    struct entry **all = mem_array(s->images.count, sizeof(struct entry *)), *entry;
    size_t at = 0, count = 0;

    s->holds_done = true;
    while ((entry = map_next(&s->images, &at)))
        all[count++] = entry;
    for (size_t i = 0; i < count; i++)
        purge(all[i]);
    free(all);
}

/* --- tags ---------------------------------------------------------------------------------------- */

int image_tag(struct images *s, const char *source, const char *ref, struct err *e)
{
    AUTO_ARENA
    struct arena a;
    struct image_name name;
    struct err why = {0};
    struct entry *entry = entry_find(s, source, &why);

    arena_init(&a);
    if (!entry) {
        if (e)
            *e = why;
        return why.code;
    }
    int rc = image_name_parse(ref, &a, &name, e);
    if (rc < 0)
        return rc;
    if (name.digest)
        return err_set(e, ERR_INVALID, "refusing to create a tag with a digest reference");
    if (strcmp(name.domain, "docker.io") == 0 && strcmp(name.path, "library/sha256") == 0)
        return err_set(e, ERR_INVALID, "refusing to create an ambiguous tag using digest algorithm as name");
    rc = entry_tag(entry, name.full, e);
    if (rc == 0)
        event(s, "tag", entry->record->id, name.familiar);
    return rc;
}

/* --- running operations -------------------------------------------------------------------------- */

struct job_end {
    struct image_job *job;
    struct err error;
    char *image_id;
};

static void job_end_now(void *ctx)
{
    struct job_end *end = ctx;
    struct image_job_events events = end->job->events;
    struct images *s = end->job->store;

    free(end->job);
    events.on_done(events.ctx, &end->error, end->image_id);
    free(end->image_id);
    free(end);
    store_idle(s);
}

struct image_job *job_new(struct images *s, const struct image_job_events *events)
{
    struct image_job *job = mem_alloc(sizeof(*job));

    list_init(&job->link);
    job->store = s;
    job->events = *events;
    return job;
}

void job_progress(struct image_job *job, const struct buf *line)
{
    if (job->events.on_progress && !job->ended)
        job->events.on_progress(job->events.ctx, buf_bytes(line), line->length);
}

void job_done(struct image_job *job, const struct err *e, const char *image_id)
{
    struct job_end *end = mem_alloc(sizeof(*end));

    list_remove(&job->link);
    job->ended = true;
    job->pull = NULL;
    job->load = NULL;
    end->job = job;
    end->error = *e;
    end->image_id = image_id ? mem_strdup(image_id) : NULL;
    store_busy(job->store);
    loop_later(job->store->config.loop, job_end_now, end);
}

bool image_job_feed(struct image_job *job, const void *data, size_t size)
{
    return job->load ? load_feed(job->load, data, size) : true; /* ended: the bytes are of no use any more */
}

void image_job_cancel(struct image_job *job)
{
    if (job->pull)
        pull_cancel(job->pull, job);
    else if (job->load)
        load_cancel(job->load);
    /* Else its end is on the way. */
}
