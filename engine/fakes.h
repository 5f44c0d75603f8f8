/* A keeper, a store of images and a bundle that do what a test says, for the unit tests of what stands on them.
 * Include in one file of a test, after cmocka: it defines their functions in place of the real ones. */
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "engine/container/container.h"
#include "engine/image/image.h"
#include "engine/keeper/keeper.h"
#include "engine/testing.h"
#include "proto/base/mem.h"

/* --- the keeper ------------------------------------------------------------------------------------------------
 */

#define FAKE_MAX 64

struct fake_launch {
    char id[HEX_ID_TEXT + 1];
    unsigned fd_count;
    void (*done)(void *ctx, const struct err *e, int pid, const char *sandbox, int64_t started_ns);
    void *ctx;
    bool answered;
};

struct fake_signal {
    char id[HEX_ID_TEXT + 1];
    int number;
};

static struct {
    struct keeper_events events;
    struct fake_launch launches[FAKE_MAX];
    unsigned launch_count;
    struct fake_signal signals[FAKE_MAX];
    unsigned signal_count;
    char forgotten[FAKE_MAX][HEX_ID_TEXT + 1];
    unsigned forgotten_count;
    bool deaf; /* signals find no process */
    unsigned stops;
    char *cgroup;
} fake_keeper;

struct keeper {
    uv_idle_t idle;
    void (*closed)(void *ctx);
    void *ctx;
};

int keeper_open(const struct keeper_config *config, const struct keeper_events *events, struct keeper **ret,
                struct err *e)
{
    struct keeper *k = mem_alloc(sizeof(*k));

    fake_keeper.events = *events;
    uv_idle_init(config->loop, &k->idle);
    *ret = k;
    return 0;
}

static void fake_keeper_closed(uv_handle_t *handle)
{
    struct keeper *k = container_of((uv_idle_t *)handle, struct keeper, idle);

    k->closed(k->ctx);
    free(k);
}

void keeper_close(struct keeper *k, void (*closed)(void *ctx), void *ctx)
{
    struct err canceled = {ERR_CANCELED, "the keeper's client is closing"};

    for (unsigned i = 0; i < fake_keeper.launch_count; i++)
        if (!fake_keeper.launches[i].answered)
            fake_keeper.launches[i].done(fake_keeper.launches[i].ctx, &canceled, 0, NULL, 0);
    fake_keeper.launch_count = 0;
    k->closed = closed;
    k->ctx = ctx;
    uv_close((uv_handle_t *)&k->idle, fake_keeper_closed);
}

void keeper_warm(struct keeper *k, const Recipe *recipe)
{
}

void keeper_go(struct keeper *k, const char *id)
{
}

void keeper_give_up(struct keeper *k, const char *id, const struct err *e)
{
}

int keeper_network(struct keeper *k, const char *id)
{
    return -1;
}

int keeper_launch(struct keeper *k, const LaunchPlan *plan, const int *fds, unsigned fd_count,
                  void (*prepared)(void *ctx, int netns_fd),
                  void (*done)(void *ctx, const struct err *e, int pid, const char *sandbox, int64_t started_ns),
                  void *ctx, struct err *e)
{
    struct fake_launch *l = &fake_keeper.launches[fake_keeper.launch_count++];

    assert_true(fake_keeper.launch_count < FAKE_MAX);
    *l = (struct fake_launch){.fd_count = fd_count, .done = done, .ctx = ctx};
    memcpy(l->id, plan->id, HEX_ID_TEXT);
    return 0;
}

int keeper_signal(struct keeper *k, const char *id, int number, struct err *e)
{
    struct fake_signal *s = &fake_keeper.signals[fake_keeper.signal_count];

    if (fake_keeper.deaf)
        return err_set(e, ERR_NOT_FOUND, "no such process");
    fake_keeper.signal_count++;
    assert_true(fake_keeper.signal_count < FAKE_MAX);
    memcpy(s->id, id, HEX_ID_TEXT);
    s->number = number;
    return 0;
}

void keeper_forget(struct keeper *k, const char *id)
{
    assert_true(fake_keeper.forgotten_count < FAKE_MAX);
    memcpy(fake_keeper.forgotten[fake_keeper.forgotten_count++], id, HEX_ID_TEXT);
}

bool keeper_is_other_program(struct keeper *k)
{
    return false;
}

int keeper_upgrade(struct keeper *k, const char *program, void (*done)(void *ctx, const struct err *e), void *ctx,
                   struct err *e)
{
    return err_set(e, ERR_UNSUPPORTED, "not by this fake");
}

int keeper_stop(struct keeper *k, void (*stopped)(void *ctx, const struct err *e), void *ctx, struct err *e)
{
    fake_keeper.stops++;
    return 0;
}

int keeper_terminal(struct keeper *k, const char *id)
{
    return -1;
}

int keeper_stdin(struct keeper *k, const char *id)
{
    return -1;
}

void keeper_close_stdin(struct keeper *k, const char *id)
{
}

void keeper_hold(struct keeper *k, int fd)
{
}

const char *keeper_cgroup(struct keeper *k, const char *id, const char *controller)
{
    return fake_keeper.cgroup;
}

static inline bool fake_was_forgotten(const char *id)
{
    for (unsigned i = 0; i < fake_keeper.forgotten_count; i++)
        if (strcmp(fake_keeper.forgotten[i], id) == 0)
            return true;
    return false;
}

/* The newest launch succeeds. */
static inline void fake_launched(int64_t started_ns)
{
    struct fake_launch *l = &fake_keeper.launches[fake_keeper.launch_count - 1];
    struct err fine = {0};

    assert_true(fake_keeper.launch_count > 0 && !l->answered);
    l->answered = true;
    l->done(l->ctx, &fine, 4242, "sandbox", started_ns);
}

static inline void fake_launch_failed(int code, const char *text)
{
    struct fake_launch *l = &fake_keeper.launches[fake_keeper.launch_count - 1];
    struct err e;

    assert_true(fake_keeper.launch_count > 0 && !l->answered);
    l->answered = true;
    err_set(&e, code, "%s", text);
    l->done(l->ctx, &e, 0, NULL, 0);
}

static inline void fake_exit(const char *id, int code)
{
    struct keeper_exit exit = {.code = code, .ended_ns = engine_now_ns()};

    fake_keeper.events.on_exit(fake_keeper.events.ctx, id, &exit);
}

static inline int fake_last_signal(void)
{
    return fake_keeper.signal_count ? fake_keeper.signals[fake_keeper.signal_count - 1].number : 0;
}

/* --- images ----------------------------------------------------------------------------------------------------
 */

#define FAKE_IMAGE_ID "sha256:1111111111111111111111111111111111111111111111111111111111111111"

struct images {
    uv_idle_t idle;
    void (*closed)(void *ctx);
    void *ctx;
};

static ImageRecord fake_image_record;
static ImageConfig fake_image_config;
static int fake_image_holds;

int images_open(const struct images_config *config, struct images **ret, struct err *e)
{
    static char *command[] = {(char *)"sh"}, *tags[] = {(char *)"docker.io/library/web:1"};
    static char *diffs[] = {(char *)"sha256:2222222222222222222222222222222222222222222222222222222222222222"};
    struct images *s = mem_alloc(sizeof(*s));

    image_record__init(&fake_image_record);
    image_config__init(&fake_image_config);
    fake_image_record.id = (char *)FAKE_IMAGE_ID;
    fake_image_record.tags = tags;
    fake_image_record.n_tags = 1;
    fake_image_record.size_bytes = 1000;
    fake_image_config.command = command;
    fake_image_config.n_command = 1;
    fake_image_config.os = (char *)"linux";
    fake_image_config.architecture = (char *)"amd64";
    fake_image_config.diff_ids = diffs;
    fake_image_config.n_diff_ids = 1;
    fake_image_holds = 0;
    uv_idle_init(config->loop, &s->idle);
    *ret = s;
    return 0;
}

static void fake_images_closed(uv_handle_t *handle)
{
    struct images *s = container_of((uv_idle_t *)handle, struct images, idle);

    s->closed(s->ctx);
    free(s);
}

void images_close(struct images *s, void (*closed)(void *ctx), void *ctx)
{
    s->closed = closed;
    s->ctx = ctx;
    uv_close((uv_handle_t *)&s->idle, fake_images_closed);
}

int image_find(struct images *s, const char *ref, struct image *ret, struct err *e)
{
    if (strcmp(ref, "web:1") != 0 && strcmp(ref, FAKE_IMAGE_ID) != 0)
        return err_set(e, ERR_NOT_FOUND, "No such image: %s", ref);
    *ret = (struct image){&fake_image_record, &fake_image_config};
    return 0;
}

size_t images_count(const struct images *s)
{
    return 1;
}

bool images_next(struct images *s, size_t *at, struct image *ret)
{
    *ret = (struct image){&fake_image_record, &fake_image_config};
    return (*at)++ == 0;
}

int image_layers_open(struct images *s, const char *image_id, int *fds, unsigned count, struct err *e)
{
    for (unsigned i = 0; i < count; i++)
        assert_int_equal(dir_open("/", &fds[i], NULL), 0);
    return 0;
}

void image_hold(struct images *s, const char *image_id)
{
    fake_image_holds++;
}

void image_release(struct images *s, const char *image_id)
{
    fake_image_holds--;
}

void images_holds_done(struct images *s)
{
}

int image_config_json(struct images *s, const char *image_id, struct buf *into, struct err *e)
{
    buf_append_str(into, "{\"history\":[{\"created\":\"2026-01-01T00:00:00Z\",\"created_by\":\"ADD file\"},"
                         "{\"created_by\":\"CMD sh\",\"empty_layer\":true}]}");
    return 0;
}

int64_t image_layer_size(struct images *s, const char *diff_id)
{
    return 1000;
}

#define FAKE_REFUSED return err_set(e, ERR_UNSUPPORTED, "the fake does not do that")

int image_pull(struct images *s, const char *ref, const char *platform, const char *auth,
               const struct image_job_events *events, struct image_job **ret, struct err *e)
{
    FAKE_REFUSED;
}

int image_load(struct images *s, bool quiet, const struct image_job_events *events, void (*on_writable)(void *ctx),
               struct image_job **ret, struct err *e)
{
    FAKE_REFUSED;
}

int image_import(struct images *s, const char *ref, const char *message, const char *const *changes,
                 size_t change_count, const char *platform, const struct image_job_events *events,
                 void (*on_writable)(void *ctx), struct image_job **ret, struct err *e)
{
    FAKE_REFUSED;
}

bool image_job_feed(struct image_job *job, const void *data, size_t size)
{
    return true;
}

void image_job_cancel(struct image_job *job)
{
}

int image_tag(struct images *s, const char *source, const char *ref, struct err *e)
{
    FAKE_REFUSED;
}

int image_remove(struct images *s, const char *ref, bool force, bool prune_parents, struct buf *out, struct err *e)
{
    FAKE_REFUSED;
}

int image_prune(struct images *s, bool dangling_only, struct buf *out, struct err *e)
{
    FAKE_REFUSED;
}

int image_resolve(struct images *s, const char *ref, const char *auth,
                  void (*done)(void *ctx, const struct err *e, const struct image_manifest_info *info), void *ctx,
                  struct err *e)
{
    FAKE_REFUSED;
}

/* --- seccomp -------------------------------------------------------------------------------------------------- */

struct seccomp {
    uv_idle_t idle;
    void (*closed)(void *ctx);
    void *ctx;
};

int seccomp_open(uv_loop_t *loop, const char *job, const char *directory, struct seccomp **ret, struct err *e)
{
    struct seccomp *s = mem_alloc(sizeof(*s));

    uv_idle_init(loop, &s->idle);
    *ret = s;
    return 0;
}

static void fake_seccomp_closed(uv_handle_t *handle)
{
    struct seccomp *s = container_of((uv_idle_t *)handle, struct seccomp, idle);

    s->closed(s->ctx);
    free(s);
}

void seccomp_close(struct seccomp *s, void (*closed)(void *ctx), void *ctx)
{
    s->closed = closed;
    s->ctx = ctx;
    uv_close((uv_handle_t *)&s->idle, fake_seccomp_closed);
}

int seccomp_program(struct seccomp *s, const char *profile, uint64_t capabilities, int *ret_fd,
                    void (*done)(void *ctx, const struct err *e, int fd), void *ctx, struct err *e)
{
    *ret_fd = STDIN_FILENO;
    return 0;
}

void seccomp_cancel(struct seccomp *s, void *ctx)
{
}

/* --- bundle ----------------------------------------------------------------------------------------------------
 */

static struct bundle_in fake_bundle_in; /* of the newest plan; what it points to is gone */
static bool fake_copy_up;               /* whether it fills a volume */

int bundle_make(const struct bundle_in *in, struct arena *a, LaunchPlan **ret_plan, struct err *e)
{
    LaunchPlan *plan = ARENA_NEW(a, LaunchPlan);

    launch_plan__init(plan);
    plan->version = 1;
    plan->id = arena_strdup(a, in->id);
    fake_bundle_in = *in;
    fake_copy_up = false;
    for (size_t i = 0; i < in->record->n_mounts; i++)
        fake_copy_up |= in->mount_copy_up[i];
    *ret_plan = plan;
    return 0;
}

Recipe *bundle_default_recipe(const struct bundle_kernel *kernel, struct arena *a)
{
    Recipe *recipe = ARENA_NEW(a, Recipe);

    recipe__init(recipe);
    return recipe;
}

int bundle_check(const ContainerConfig *config, const struct bundle_kernel *kernel, struct arena *a,
                 char ***ret_warnings, struct err *e)
{
    *ret_warnings = NULL;
    return 0;
}

int bundle_seccomp(const HostConfig *host, bool *ret_none, const char **ret_profile, struct err *e)
{
    *ret_none = false;
    *ret_profile = NULL;
    return 0;
}

int bundle_capabilities(const HostConfig *host, uint64_t known, uint64_t *ret_mask, struct err *e)
{
    *ret_mask = 0;
    return 0;
}
