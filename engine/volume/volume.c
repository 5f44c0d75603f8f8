/* See volume.h.
 *
 * Making: directory, then record. Removing: directory into the trash, then record. So a crash leaves either an
 * empty directory without a record (removed at the next start) or a record without a directory (likewise). A
 * directory with files but without a record was neither: somebody lost the record, and gets the volume back. A
 * record that cannot be read leaves its directory alone until somebody looks at it. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "engine/sweep.h"
#include "engine/volume/volume.h"
#include "proto/base/file.h"
#include "proto/base/ident.h"
#include "proto/base/log.h"
#include "proto/base/map.h"
#include "proto/base/mem.h"
#include "proto/base/message.h"
#include "proto/base/record.h"

#define LABELS_MAX 1024

static const struct record_format format = {
    .magic = "shoalvol",
    .version = 1,
    .size_max = 1024 * 1024,
    .type = &volume_record__descriptor,
};

struct volumes {
    struct volumes_config config;
    char *dir; /* owned */
    int fd;    /* of it */
    struct records *records;
    struct sweep *sweep;
    struct map by_name;
    struct list all;     /* of struct volume, oldest first */
    struct map unusable; /* names whose record could not be read; keys and values owned, the same */
    void (*closed)(void *ctx);
    void *closed_ctx;
};

static struct volume *add(struct volumes *s, VolumeRecord *record)
{
    struct volume *v = mem_alloc(sizeof(*v));
    struct list *after = s->all.prev;

    v->record = record;
    v->path = mem_printf("%s/%s/_data", s->dir, record->name);
    list_init(&v->uses);
    while (after != &s->all && list_entry(after, struct volume, link)->record->created_ns > record->created_ns)
        after = after->prev;
    list_insert(after, &v->link);
    map_put(&s->by_name, v->record->name, v);
    return v;
}

static void drop(struct volumes *s, struct volume *v)
{
    map_remove(&s->by_name, v->record->name);
    list_remove(&v->link);
    message_free(v->record);
    free(v->path);
    free(v);
}

/* --- opening ------------------------------------------------------------------------------------- */

static void open_on_record(void *ctx, const char *name, ProtobufCMessage *message)
{
    struct volumes *s = ctx;
    VolumeRecord *record = (VolumeRecord *)message;
    struct stat st;

    if (strcmp(record->name, name) != 0) {
        log_error("a volume's record carries another name", "volume=%s record=%s", record->name, name);
        message_free(record);
        char *copy = mem_strdup(name);
        map_put(&s->unusable, copy, copy);
        return;
    }
    if (fstatat(s->fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0 || !S_ISDIR(st.st_mode)) {
        log_info("a volume without a directory is forgotten", "volume=%s", name);
        (void)records_remove(s->records, name, NULL); /* tried again at the next start */
        message_free(record);
        return;
    }
    (void)add(s, record);
}

static void open_on_problem(void *ctx, const char *name, const struct err *why)
{
    struct volumes *s = ctx;

    log_error("a volume's record", "volume=%s error=\"%s\"", name, why->text);
    if (!map_get(&s->unusable, name)) {
        char *copy = mem_strdup(name);

        map_put(&s->unusable, copy, copy);
    }
}

bool volume_is_empty(int fd)
{
    int again = openat(fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *dir = again >= 0 ? fdopendir(again) : NULL;
    struct dirent *entry;
    bool empty = true;

    if (!dir) {
        if (again >= 0)
            close(again);
        return false; /* nothing is done to what cannot be looked at */
    }
    while (empty && (entry = readdir(dir)))
        empty = strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0;
    closedir(dir);
    return empty;
}

/* A directory without a record: the rest of a crash, or somebody's files. */
static void open_stray(struct volumes *s, const char *name)
{
    AUTO_FREE
    char *data = mem_printf("%s/_data", name);
    AUTO_CLOSE
    int fd = openat(s->fd, data, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    VolumeRecord record = VOLUME_RECORD__INIT;
    struct stat st;
    struct err e = {0};

    if (!name_valid_container(name))
        return; /* none of ours */
    if (fd < 0 ? errno == ENOENT : volume_is_empty(fd)) {
        if (sweep_take(s->sweep, s->fd, name, &e) < 0)
            log_warn("an unfinished volume", "volume=%s error=\"%s\"", name, e.text);
        return;
    }
    if (fd < 0 || fstat(fd, &st) < 0)
        return;
    record.format = 1;
    record.name = (char *)name;
    record.created_ns = (int64_t)st.st_ctim.tv_sec * 1000000000 + st.st_ctim.tv_nsec;
    if (records_put(s->records, name, &record.base, &e) < 0) {
        log_error("a volume without a record", "volume=%s error=\"%s\"", name, e.text);
        return;
    }
    log_warn("a volume without a record has files and is taken back", "volume=%s", name);
    (void)add(s, message_dup(&record));
}

static int open_directories(struct volumes *s, struct err *e)
{
    int again = openat(s->fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *dir = again >= 0 ? fdopendir(again) : NULL;
    struct dirent *entry;

    if (!dir) {
        int rc = err_errno(e, "list %s", s->dir);

        if (again >= 0)
            close(again);
        return rc;
    }
    while ((entry = readdir(dir)))
        if (entry->d_name[0] != '.' && !map_get(&s->by_name, entry->d_name) &&
            !map_get(&s->unusable, entry->d_name))
            open_stray(s, entry->d_name);
    closedir(dir);
    return 0;
}

int volumes_open(const struct volumes_config *config, struct volumes **ret, struct err *e)
{
    struct volumes *s = mem_alloc(sizeof(*s));
    AUTO_FREE
    char *records = mem_printf("%s/.records", config->dir);
    AUTO_FREE
    char *trash = mem_printf("%s/.trash", config->dir);
    struct records_scan scan = {.ctx = s, .on_record = open_on_record, .on_problem = open_on_problem};

    s->config = *config;
    s->dir = mem_strdup(config->dir);
    s->fd = -1;
    list_init(&s->all);
    int rc = dir_make(config->dir, 0700, e);
    if (rc == 0)
        rc = dir_open(config->dir, &s->fd, e);
    if (rc == 0)
        rc = sweep_open(config->loop, trash, &s->sweep, e);
    if (rc == 0)
        rc = records_open(config->loop, records, &format, &s->records, e);
    if (rc == 0) {
        records_set_delay(s->records, config->settle_ms);
        rc = records_scan(s->records, &scan, e);
    }
    if (rc == 0)
        rc = open_directories(s, e);
    if (rc < 0) {
        volumes_close(s, NULL, NULL);
        return err_wrap(e, "volumes");
    }
    *ret = s;
    return 0;
}

static void close_free(void *ctx)
{
    struct volumes *s = ctx;
    void *name;
    size_t at = 0;

    while (!list_empty(&s->all))
        drop(s, list_first(&s->all, struct volume, link));
    while ((name = map_next(&s->unusable, &at)))
        free(name);
    map_fini(&s->unusable);
    map_fini(&s->by_name);
    if (s->fd >= 0)
        close(s->fd);
    free(s->dir);
    if (s->closed)
        s->closed(s->closed_ctx);
    free(s);
}

static void close_sweep(void *ctx)
{
    struct volumes *s = ctx;

    if (s->sweep)
        sweep_close(s->sweep, close_free, s);
    else
        close_free(s);
}

void volumes_close(struct volumes *s, void (*closed)(void *ctx), void *ctx)
{
    s->closed = closed;
    s->closed_ctx = ctx;
    if (s->records)
        records_close(s->records, close_sweep, s);
    else
        close_sweep(s);
}

/* --- finding and making --------------------------------------------------------------------------- */

struct volume *volume_find(struct volumes *s, const char *name)
{
    return map_get(&s->by_name, name);
}

int volume_get(struct volumes *s, const char *name, struct volume **ret, struct err *e)
{
    struct volume *v = volume_find(s, name);

    if (!v)
        return err_set(e, ERR_NOT_FOUND, "get %.255s: no such volume", name);
    *ret = v;
    return 0;
}

struct volume *volumes_next(struct volumes *s, const struct volume *after)
{
    const struct list *next = after ? after->link.next : s->all.next;

    return next == &s->all ? NULL : list_entry(next, struct volume, link);
}

/* What mount(8) or a quota would be needed for is known and not done yet; the rest is a mistake. */
static int check_option(const struct volume_new *asked, const char *option, struct err *e)
{
    static const char *const known[] = {"type", "o", "device", "size"};

    for (size_t i = 0; i < ARRAY_SIZE(known); i++)
        if (strcmp(option, known[i]) == 0)
            return err_set(e, ERR_UNSUPPORTED,
                           "create %.255s: option \"%s\" of the local volume driver is not implemented in shoal %s",
                           asked->name, option, SHOAL_VERSION);
    return err_set(e, ERR_INVALID, "create %.255s: invalid option: \"%.120s\"", asked->name, option);
}

int volume_check(const struct volume_new *asked, struct err *e)
{
    const char *name = asked->name;

    if (!name_valid_container(name) || strlen(name) > RECORD_NAME_MAX)
        return err_set(e, ERR_INVALID,
                       "create %.255s: \"%.255s\" includes invalid characters for a local volume name, only "
                       "\"[a-zA-Z0-9][a-zA-Z0-9_.-]\" are allowed, 2 to %d of them",
                       name, name, RECORD_NAME_MAX);
    if (asked->driver && *asked->driver && strcmp(asked->driver, "local") != 0)
        return err_set(e, ERR_NOT_FOUND, "create %s: error looking up volume plugin %.120s: plugin not found", name,
                       asked->driver);
    if (asked->label_count > LABELS_MAX)
        return err_set(e, ERR_INVALID, "create %s: more than %d labels", name, LABELS_MAX);
    for (size_t i = 0; i < asked->option_count; i++) {
        int rc = check_option(asked, asked->options[i]->key, e);

        if (rc < 0)
            return rc;
    }
    return 0;
}

static int make_directory(struct volumes *s, const char *name, struct err *e)
{
    AUTO_FREE
    char *data = mem_printf("%s/_data", name);

    if (mkdirat(s->fd, name, 0700) < 0 && errno != EEXIST)
        return err_errno(e, "make directory %s/%s", s->dir, name);
    if (mkdirat(s->fd, data, 0755) < 0 && errno != EEXIST)
        return err_errno(e, "make directory %s/%s", s->dir, data);
    if (fchmodat(s->fd, data, 0755, 0) < 0) /* whatever the umask is */
        return err_errno(e, "mode of %s/%s", s->dir, data);
    return 0;
}

int volume_create(struct volumes *s, const struct volume_new *asked, struct volume **ret, struct err *e)
{
    VolumeRecord record = VOLUME_RECORD__INIT;
    int rc = volume_check(asked, e);

    if (rc < 0)
        return rc;
    *ret = volume_find(s, asked->name);
    if (*ret)
        return 0;
    if (map_get(&s->unusable, asked->name))
        return err_set(e, ERR_CORRUPT, "create %s: the record of the volume of that name cannot be read",
                       asked->name);
    record.format = 1;
    record.name = (char *)asked->name;
    record.created_ns = s->config.now_ns();
    record.labels = (KeyValue **)asked->labels;
    record.n_labels = asked->label_count;
    record.has_anonymous = record.anonymous = asked->anonymous;
    rc = make_directory(s, asked->name, e);
    if (rc == 0)
        rc = records_put(s->records, asked->name, &record.base, e);
    if (rc < 0) {
        (void)sweep_take(s->sweep, s->fd, asked->name, NULL); /* else the next start removes it */
        return err_wrap(e, "create volume %s", asked->name);
    }
    *ret = add(s, message_dup(&record));
    if (s->config.on_event)
        s->config.on_event(s->config.ctx, "create", *ret);
    return 0;
}

/* --- use and removal ------------------------------------------------------------------------------ */

void volume_use_init(struct volume_use *u)
{
    list_init(&u->link);
    u->volume = NULL;
}

void volume_use(struct volume *v, struct volume_use *u, const char *container)
{
    u->volume = v;
    u->container = container;
    list_push(&v->uses, &u->link);
}

void volume_unuse(struct volume_use *u)
{
    list_remove(&u->link);
    u->volume = NULL;
}

static int in_use(const struct volume *v, struct err *e)
{
    AUTO_BUF struct buf ids = {0};
    const struct volume_use *u;
    const char *before = "";

    list_each (u, &v->uses, link) {
        if (strcmp(u->container, before) == 0)
            continue; /* mounted twice by one container */
        if (ids.length > 700) {
            buf_append_str(&ids, ", ...");
            break;
        }
        buf_printf(&ids, "%s%s", ids.length ? ", " : "", u->container);
        before = u->container;
    }
    return err_set(e, ERR_CONFLICT, "remove %s: volume is in use - [%s]", v->record->name, buf_str(&ids));
}

int volume_remove(struct volumes *s, struct volume *v, struct err *e)
{
    int rc;

    if (!list_empty(&v->uses))
        return in_use(v, e);
    rc = sweep_take(s->sweep, s->fd, v->record->name, e);
    if (rc == 0)
        rc = records_remove(s->records, v->record->name, e);
    if (rc < 0)
        return err_wrap(e, "remove volume %s", v->record->name);
    if (s->config.on_event)
        s->config.on_event(s->config.ctx, "destroy", v);
    drop(s, v);
    return 0;
}

int volume_open(struct volumes *s, const struct volume *v, const char *subpath, int *ret_fd, struct err *e)
{
    AUTO_FREE
    char *data = mem_printf("%s/_data", v->record->name);
    AUTO_CLOSE
    int fd = openat(s->fd, data, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

    if (fd < 0)
        return err_errno(e, "open volume %s", v->record->name);
    if (!subpath || !*subpath) {
        *ret_fd = steal_fd(&fd);
        return 0;
    }
    if (root_open(fd, subpath, O_PATH, 0, ret_fd, e) < 0)
        return err_wrap(e, "volume %s", v->record->name);
    return 0;
}

int volumes_fd(const struct volumes *s)
{
    return s->fd;
}
