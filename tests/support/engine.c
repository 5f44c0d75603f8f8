/* See engine.h. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "engine/core.h"
#include "proto/base/entropy.h"
#include "proto/base/file.h"
#include "proto/base/mem.h"
#include "tests/support/engine.h"
#include "tests/support/job.h"
#include "tests/support/tarball.h"

#define BUSYBOX "/bin/busybox"

static _Noreturn void broken(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

static _Noreturn void broken(const char *fmt, ...)
{
    va_list args;

    va_start(args, fmt);
    fprintf(stderr, "engine rig: ");
    vfprintf(stderr, fmt, args);
    fprintf(stderr, "\n");
    va_end(args);
    abort();
}

const char *engine_rig_missing(void)
{
    if (geteuid() != 0)
        return "needs root";
    if (access(BUSYBOX, X_OK) < 0)
        return "needs busybox-static";
    return NULL;
}

/* --- waiting ----------------------------------------------------------------------------------------- */

static void on_late(uv_timer_t *timer)
{
    broken("nothing happened for %d s", ENGINE_RIG_SECONDS);
}

void engine_rig_until(struct engine_rig *r, const bool *flag)
{
    uv_timer_t deadline;

    uv_timer_init(&r->loop, &deadline);
    uv_timer_start(&deadline, on_late, ENGINE_RIG_SECONDS * 1000, 0);
    while (!*flag)
        uv_run(&r->loop, UV_RUN_ONCE);
    uv_close((uv_handle_t *)&deadline, NULL);
    uv_run(&r->loop, UV_RUN_NOWAIT);
}

static void set_flag(void *ctx)
{
    *(bool *)ctx = true;
}

static void on_ready(void *ctx)
{
    ((struct engine_rig *)ctx)->ready = true;
}

static void on_done(void *ctx, const struct err *e)
{
    struct engine_rig *r = ctx;

    r->error = *e;
    r->flag = true;
}

/* --- server and engine ------------------------------------------------------------------------------- */

/* What agent/front.c does, without clusters. */
static void on_request(void *ctx, struct http_exchange *x)
{
    struct engine_rig *r = ctx;
    const char *path = http_path(x);
    unsigned minor = 45;
    int used = 0;
    struct err e;

    http_set_header(x, "Api-Version", "1.45");
    http_set_header(x, "Ostype", "linux");
    if (sscanf(path, "/v1.%u%n", &minor, &used) == 1)
        path += used;
    if (engine_http(r->engine, x, path, minor))
        return;
    err_set(&e, ERR_NOT_FOUND, "page not found");
    http_reply_error(x, &e);
}

void engine_rig_start(struct engine_rig *r)
{
    AUTO_FREE
    char *programs = mem_strdup(built_program("shoal-keeper"));
    AUTO_FREE
    char *url = mem_printf("unix://%s/api.sock", r->dir);
    struct http_handler handler = {.ctx = r, .on_request = on_request, .server_header = "shoal"};
    struct err e = {0};

    *strrchr(programs, '/') = '\0';
    struct engine_config config = {
        .loop = &r->loop,
        .data_dir = r->data,
        .run_dir = r->run,
        .instance = r->instance,
        .cgroup_parent = "",
        .program_dir = programs,
        .warm_min = r->warm_min,
        .warm_max = r->warm_max,
        .ctx = r,
    };
    r->ready = false;
    if (engine_open(&config, on_ready, &r->engine, &e) < 0)
        broken("%s", e.text);
    engine_rig_until(r, &r->ready);
    if (http_server_open(&r->loop, NULL, &handler, &r->server, &e) < 0 ||
        http_server_listen(r->server, url, 0600, (gid_t)-1, &e) < 0)
        broken("%s", e.text);
}

void engine_rig_stop(struct engine_rig *r)
{
    bool closed = false;

    http_server_close(r->server, set_flag, &closed);
    engine_rig_until(r, &closed);
    closed = false;
    engine_close(r->engine, set_flag, &closed);
    engine_rig_until(r, &closed);
}

/* --- image ------------------------------------------------------------------------------------------- */

struct upload {
    struct engine_rig *rig;
    struct image_job *job;
    struct buf tar;
    bool done;
};

static void feed(void *ctx)
{
    struct upload *u = ctx;

    while (u->tar.length) {
        size_t size = MIN(u->tar.length, (size_t)65536);
        bool more = image_job_feed(u->job, buf_bytes(&u->tar), size);

        buf_consume(&u->tar, size);
        if (!more)
            return;
    }
    (void)image_job_feed(u->job, NULL, 0);
}

static void on_imported(void *ctx, const struct err *e, const char *id)
{
    struct upload *u = ctx;

    if (e->code)
        broken("import: %s", e->text);
    u->done = true;
}

static void make_image(struct engine_rig *r)
{
    static const char *const dirs[] = {"bin", "etc", "tmp", "root", "data", "proc", "sys", "dev"};
    static const char *const applets[] = {"sh",   "cat",  "echo",  "ls",     "sleep", "true",     "false", "id",
                                          "stat", "kill", "touch", "mount",  "ps",    "hostname", "env",   "head",
                                          "dd",   "yes",  "pwd",   "printf", "trap",  "df",       "mkdir"};
    static const char *const changes[] = {"CMD [\"sh\"]", "ENV IMAGE=box"};
    struct upload u = {.rig = r};
    AUTO_BUF
    struct buf busybox = {0};
    struct err e = {0};

    if (file_read(AT_FDCWD, BUSYBOX, 16 << 20, &busybox, &e) < 0)
        broken("%s", e.text);
    for (size_t i = 0; i < ARRAY_SIZE(dirs); i++)
        TAR(&u.tar, .name = dirs[i], .type = '5', .mode = strcmp(dirs[i], "tmp") == 0 ? 01777 : 0755);
    TAR(&u.tar, .name = "bin/busybox", .mode = 0755, .data = buf_bytes(&busybox), .size = busybox.length);
    for (size_t i = 0; i < ARRAY_SIZE(applets); i++) {
        AUTO_FREE
        char *path = mem_printf("bin/%s", applets[i]);

        TAR(&u.tar, .name = path, .type = '2', .link = "busybox");
    }
    TAR(&u.tar, .name = "etc/passwd", .data = "root:x:0:0:root:/root:/bin/sh\nweb:x:1000:1000::/data:/bin/sh\n");
    TAR(&u.tar, .name = "etc/group", .data = "root:x:0:\nweb:x:1000:\n");
    TAR(&u.tar, .name = "data/from-image", .data = "image\n", .uid = 1000, .gid = 1000);
    TAR(&u.tar, .name = "etc/text", .data = "no program\n", .mode = 0644);
    tar_close(&u.tar);
    struct image_job_events events = {.ctx = &u, .on_done = on_imported};
    if (image_import(r->engine->images, ENGINE_RIG_IMAGE, NULL, changes, ARRAY_SIZE(changes), NULL, &events, feed,
                     &u.job, &e) < 0)
        broken("import: %s", e.text);
    feed(&u);
    engine_rig_until(r, &u.done);
    buf_fini(&u.tar);
}

void engine_rig_open(struct engine_rig *r, unsigned warm_min, unsigned warm_max)
{
    *r = (struct engine_rig){.warm_min = warm_min, .warm_max = warm_max};
    r->dir = scratch_new("engine");
    r->data = mem_printf("%s/data", r->dir);
    r->run = mem_printf("%s/run", r->dir);
    (void)snprintf(r->instance, sizeof(r->instance), "t%llx",
                   (unsigned long long)(entropy_u64(entropy_real()) & 0xffffffff));
    if (uv_loop_init(&r->loop) < 0)
        broken("no loop");
    engine_rig_start(r);
    make_image(r);
}

void engine_rig_attach(struct engine_rig *r, const char *dir, const char *instance)
{
    *r = (struct engine_rig){.dir = mem_strdup(dir)};
    r->data = mem_printf("%s/data", r->dir);
    r->run = mem_printf("%s/run", r->dir);
    (void)snprintf(r->instance, sizeof(r->instance), "%s", instance);
    if (uv_loop_init(&r->loop) < 0)
        broken("no loop");
    engine_rig_start(r);
}

/* --- operations -------------------------------------------------------------------------------------- */

static int awaited(struct engine_rig *r, int rc)
{
    if (rc == 0)
        engine_rig_until(r, &r->flag);
    return r->error.code;
}

int engine_rig_start_container(struct engine_rig *r, const char *ref)
{
    r->flag = false;
    r->error = (struct err){0};
    return awaited(r, engine_start(r->engine, ref, on_done, r, &r->error));
}

int engine_rig_remove_container(struct engine_rig *r, const char *ref)
{
    r->flag = false;
    r->error = (struct err){0};
    return awaited(r, engine_remove(r->engine, ref, true, true, on_done, r, &r->error));
}

static void on_stopped(void *ctx, const struct err *e)
{
    if (e->code)
        broken("keeper_stop: %s", e->text);
    ((struct engine_rig *)ctx)->flag = true;
}

void engine_rig_close(struct engine_rig *r)
{
    const ContainerRecord *record;
    struct err e = {0};

    for (size_t at = 0; engine_next(r->engine, &at, &record); at = 0)
        if (engine_rig_remove_container(r, record->id) < 0)
            broken("remove %s: %s", record->id, r->error.text);
    r->flag = false;
    if (keeper_stop(r->engine->keeper, on_stopped, r, &e) < 0)
        broken("keeper_stop: %s", e.text);
    engine_rig_until(r, &r->flag);
    engine_rig_stop(r);
    uv_run(&r->loop, UV_RUN_DEFAULT);
    if (uv_loop_close(&r->loop) < 0)
        broken("something is left open on the loop");
    scratch_remove(r->dir);
    free(r->data);
    free(r->run);
}

/* --- census ------------------------------------------------------------------------------------------ */

static unsigned lines_with(const char *path, const char *text)
{
    AUTO_BUF
    struct buf b = {0};
    unsigned count = 0;

    if (file_read(AT_FDCWD, path, 16 << 20, &b, NULL) < 0)
        return 0;
    for (const char *at = buf_str(&b); (at = strstr(at, text)); at++)
        count++;
    return count;
}

unsigned engine_rig_entries(const char *path)
{
    DIR *dir = opendir(path);
    struct dirent *entry;
    unsigned count = 0;

    while (dir && (entry = readdir(dir)))
        count += entry->d_name[0] != '.';
    if (dir)
        closedir(dir);
    return count;
}

static unsigned directories_named(const char *path, const char *text)
{
    DIR *dir = opendir(path);
    struct dirent *entry;
    unsigned count = 0;

    while (dir && (entry = readdir(dir))) {
        AUTO_FREE
        char *below = mem_printf("%s/%s", path, entry->d_name);
        struct stat st;

        if (entry->d_name[0] == '.' || lstat(below, &st) < 0 || !S_ISDIR(st.st_mode))
            continue;
        if (strstr(entry->d_name, text)) {
            DIR *groups = opendir(below);
            struct dirent *group;

            while (groups && (group = readdir(groups)))
                count += group->d_type == DT_DIR && group->d_name[0] != '.';
            if (groups)
                closedir(groups);
        } else {
            count += directories_named(below, text);
        }
    }
    if (dir)
        closedir(dir);
    return count;
}

struct engine_rig_census engine_rig_census(struct engine_rig *r)
{
    AUTO_FREE
    char *containers = mem_printf("%s/containers", r->data);
    AUTO_FREE
    char *records = mem_printf("%s/containers/.records", r->data);
    AUTO_FREE
    char *trash = mem_printf("%s/containers/.trash", r->data);
    AUTO_FREE
    char *volumes = mem_printf("%s/volumes", r->data);
    AUTO_FREE
    char *boxes = mem_printf("%s/keeper", r->run);

    return (struct engine_rig_census){
        .mounts = lines_with("/proc/self/mountinfo", r->dir),
        .groups = directories_named("/sys/fs/cgroup", r->instance),
        .files = engine_rig_entries(containers) + engine_rig_entries(records) + engine_rig_entries(trash) +
                 engine_rig_entries(volumes),
        .children = engine_rig_entries(boxes),
        .fds = engine_rig_entries("/proc/self/fd"),
    };
}
