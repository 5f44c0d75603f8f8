/* See store.h. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>
#include <dirent.h>
#include <unistd.h>

#include "proto/base/mem.h"
#include "tests/support/images.h"
#include "tests/support/job.h"
#include "tests/support/store.h"

#define PATIENCE_MS 120000

static const char *in_use(void *ctx, const char *image_id, bool *ret_running)
{
    struct world *w = ctx;

    *ret_running = w->user_runs;
    return w->user;
}

static void on_event(void *ctx, const char *action, const char *id, const char *name)
{
    struct world *w = ctx;

    buf_printf(&w->events, "%s %s\n", action, strcmp(id, name) == 0 ? "ID" : name);
}

struct world *world_new(void)
{
    struct world *w = mem_alloc(sizeof(*w));

    w->dir = scratch_new("image-test");
    assert_int_equal(uv_loop_init(&w->loop), 0);
    return w;
}

void world_open(struct world *w)
{
    struct err e = {0};
    const struct images_config config = {
        .loop = &w->loop,
        .dir = w->dir,
        .job = built_program("shoal-job"),
        .in_use = in_use,
        .on_event = on_event,
        .ctx = w,
        .layer_bytes_max = w->layer_bytes_max,
        .upload_bytes_max = w->upload_bytes_max,
        .insecure = w->insecure,
        .certificates = w->certificates,
    };

    if (images_open(&config, &w->images, &e) < 0)
        fail_msg("%s", e.text);
}

static void on_closed(void *ctx)
{
    *(bool *)ctx = true;
}

void world_close(struct world *w)
{
    bool closed = false;

    if (!w->images)
        return;
    images_close(w->images, on_closed, &closed);
    assert_false(closed);
    world_wait(w, &closed);
    w->images = NULL;
}

void world_free(struct world *w)
{
    world_close(w);
    uv_run(&w->loop, UV_RUN_DEFAULT);
    assert_int_equal(uv_loop_close(&w->loop), 0);
    assert_int_equal(job_running(), 0);
    buf_fini(&w->events);
    scratch_remove(w->dir);
    free(w);
}

static void on_patience(uv_timer_t *timer)
{
    *(bool *)timer->data = true;
}

void world_wait(struct world *w, const bool *flag)
{
    uv_timer_t timer;
    bool late = false;

    uv_timer_init(&w->loop, &timer);
    timer.data = &late;
    uv_timer_start(&timer, on_patience, PATIENCE_MS, 0);
    while (!*flag && !late)
        uv_run(&w->loop, UV_RUN_ONCE);
    uv_close((uv_handle_t *)&timer, NULL);
    uv_run(&w->loop, UV_RUN_NOWAIT);
    if (late)
        fail_msg("it takes more than %d seconds", PATIENCE_MS / 1000);
}

void world_settle(struct world *w)
{
    uv_run(&w->loop, UV_RUN_DEFAULT);
}

/* --- for most tests ------------------------------------------------------------------------------ */

int world_setup(void **state)
{
    struct world *w = world_new();

    world_open(w);
    images_holds_done(w->images);
    *state = w;
    return 0;
}

int world_teardown(void **state)
{
    world_free(*state);
    return 0;
}

void world_reopen(struct world *w)
{
    world_close(w);
    world_open(w);
    images_holds_done(w->images);
    world_settle(w);
}

void assert_well(const struct outcome *o)
{
    if (o->error.code || !o->done)
        fail_msg("%s", o->error.text);
}

const ImageRecord *world_found(struct world *w, const char *ref)
{
    struct image image = {0};

    return image_find(w->images, ref, &image, NULL) == 0 ? image.record : NULL;
}

void assert_found(struct world *w, const char *ref, const char *id)
{
    const ImageRecord *r = world_found(w, ref);

    if (!r)
        fail_msg("%s is not found", ref);
    assert_string_equal(r->id, id);
}

void assert_absent(struct world *w, const char *ref, int code, const char *text)
{
    struct image image;
    struct err e = {0};

    if (image_find(w->images, ref, &image, &e) != code || !strstr(e.text, text))
        fail_msg("%s: code %d, \"%s\"", ref, e.code, e.text);
}

/* What the layers of an image hold, topmost first, one line each. */
void assert_layers(struct world *w, const char *id, unsigned count, const char *expected)
{
    int fds[MADE_LAYERS];
    struct buf text = {0};
    struct err e = {0};

    if (image_layers_open(w->images, id, fds, count, &e) < 0)
        fail_msg("%s", e.text);
    for (unsigned i = 0; i < count; i++) {
        char path[64];

        snprintf(path, sizeof(path), "/proc/self/fd/%d/.", fds[i]);
        AUTO_FREE
        char *tree = tree_describe(path, 0);
        buf_printf(&text, "%s", tree);
        close(fds[i]);
    }
    assert_string_equal(buf_str(&text), expected);
    buf_fini(&text);
}

/* Two images: "a" and "a", "b". */
void make_two(struct made *one, struct made *two)
{
    *one = *two = (struct made){0};
    made_layer(one, "a", "aa", NULL);
    made_finish(one, NULL, NULL);
    made_layer(two, "a", "aa", NULL);
    made_layer(two, "b", "bbb", NULL);
    made_finish(two, NULL, NULL);
}

void load_two(struct world *w, struct made *one, struct made *two)
{
    const struct made *const both[] = {one, two};
    const char *const tags[] = {"[\"one:1\"]", "[\"two:1\",\"reg.example:5000/two:2\"]"};
    struct buf tar = {0};
    struct outcome o;

    make_two(one, two);
    archive_docker(&tar, both, tags, 2);
    world_load(w, &tar, &o);
    assert_well(&o);
    buf_fini(&tar);
    outcome_fini(&o);
}

/* --- operations ---------------------------------------------------------------------------------- */

static void on_progress(void *ctx, const char *json, size_t length)
{
    struct outcome *o = ctx;

    buf_append(&o->lines, json, length);
    buf_append_char(&o->lines, '\n');
    if (o->cancel_at && o->job && strstr(buf_str(&o->lines), o->cancel_at)) {
        o->cancel_at = NULL;
        image_job_cancel(o->job);
    }
}

static void on_done(void *ctx, const struct err *e, const char *image_id)
{
    struct outcome *o = ctx;

    assert_false(o->done);
    o->done = true;
    o->job = NULL;
    o->error = *e;
    snprintf(o->id, sizeof(o->id), "%s", image_id ? image_id : "");
}

static void feed(void *ctx)
{
    struct outcome *o = ctx;

    while (o->job && o->fed < o->upload.length) {
        size_t size = MIN((size_t)100000, o->upload.length - o->fed);
        bool more = image_job_feed(o->job, buf_bytes(&o->upload) + o->fed, size);

        o->fed += size;
        if (!more)
            return;
    }
    if (o->job)
        image_job_feed(o->job, NULL, 0);
}

static struct image_job_events begin(struct world *w, struct outcome *o)
{
    memset(o, 0, sizeof(*o));
    o->world = w;
    return (struct image_job_events){.ctx = o, .on_progress = on_progress, .on_done = on_done};
}

static void started(struct outcome *o, int rc)
{
    if (rc < 0) {
        o->done = true;
        o->error.code = rc;
    }
}

void world_load_start(struct world *w, const struct buf *archive, struct outcome *o)
{
    struct image_job_events events = begin(w, o);

    started(o, image_load(w->images, false, &events, feed, &o->job, &o->error));
    buf_append(&o->upload, buf_bytes(archive), archive->length);
    feed(o);
}

void world_load(struct world *w, const struct buf *archive, struct outcome *o)
{
    world_load_start(w, archive, o);
    world_wait(w, &o->done);
}

void world_import(struct world *w, const struct buf *tar, const char *ref, const char *const *changes, size_t count,
                  struct outcome *o)
{
    struct image_job_events events = begin(w, o);

    started(o, image_import(w->images, ref, NULL, changes, count, NULL, &events, feed, &o->job, &o->error));
    buf_append(&o->upload, buf_bytes(tar), tar->length);
    feed(o);
    world_wait(w, &o->done);
}

void world_pull_start(struct world *w, const char *ref, const char *platform, const char *auth, struct outcome *o)
{
    struct image_job_events events = begin(w, o);

    started(o, image_pull(w->images, ref, platform, auth, &events, &o->job, &o->error));
}

void world_pull(struct world *w, const char *ref, const char *platform, const char *auth, struct outcome *o)
{
    world_pull_start(w, ref, platform, auth, o);
    world_wait(w, &o->done);
}

void outcome_fini(struct outcome *o)
{
    buf_fini(&o->lines);
    buf_fini(&o->upload);
}

/* --- looking ------------------------------------------------------------------------------------- */

static unsigned count_entries(const char *dir, const char *below)
{
    AUTO_FREE
    char *path = mem_printf("%s/%s", dir, below);
    DIR *d = opendir(path);
    struct dirent *entry;
    unsigned count = 0;

    while (d && (entry = readdir(d)))
        count += strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0;
    if (d)
        closedir(d);
    return count;
}

const char *world_disk(struct world *w)
{
    static char text[128];

    snprintf(text, sizeof(text), "blobs %u layers %u tmp %u records %u+%u", count_entries(w->dir, "blobs/sha256"),
             count_entries(w->dir, "layers"), count_entries(w->dir, "tmp"), count_entries(w->dir, "records/images"),
             count_entries(w->dir, "records/layers"));
    return text;
}

int job_of(int parent)
{
    char path[64], name[64];
    int pid, found = 0;

    snprintf(path, sizeof(path), "/proc/%d/task/%d/children", parent, parent);
    FILE *children = fopen(path, "re");
    while (children && !found && fscanf(children, "%d", &pid) == 1) {
        snprintf(path, sizeof(path), "/proc/%d/comm", pid);
        FILE *comm = fopen(path, "re");
        if (comm && fgets(name, sizeof(name), comm) && strcmp(name, "shoal-job\n") == 0)
            found = pid;
        if (comm)
            fclose(comm);
    }
    if (children)
        fclose(children);
    return found;
}

int job_running(void)
{
    return job_of(getpid());
}

bool process_runs(int pid)
{
    char path[64], state = 'X';

    snprintf(path, sizeof(path), "/proc/%d/stat", pid);
    FILE *stat = fopen(path, "re");
    if (!stat)
        return false;
    bool read = fscanf(stat, "%*d %*s %c", &state) == 1;
    fclose(stat);
    return read && state != 'Z' && state != 'X';
}
