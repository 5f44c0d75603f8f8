/* See cgroup.h.
 *
 * Controllers are looked for one by one, because all three shapes are common: everything on version 1, everything
 * on the unified tree, and the hybrid in which the unified tree is there and carries some, often none. What version
 * 2 offers without naming it as a controller (freezing, device programs, processor accounting) counts as being on
 * the unified tree only when version 1 does not have it. A mount that carries none of our controllers is left
 * alone: making groups there would cost a start time and bring nothing. */
#include <fcntl.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "engine/container/cgroup.h"
#include "proto/base/file.h"
#include "proto/base/mem.h"

#define MOUNTINFO_BYTES (4u << 20)

static const char *const names[BUNDLE_CONTROLLERS] = {
    [BUNDLE_CPU] = "cpu",   [BUNDLE_CPUACCT] = "cpuacct", [BUNDLE_CPUSET] = "cpuset",   [BUNDLE_MEMORY] = "memory",
    [BUNDLE_PIDS] = "pids", [BUNDLE_DEVICES] = "devices", [BUNDLE_FREEZER] = "freezer", [BUNDLE_BLKIO] = "blkio",
};

/* On the unified tree without being listed in cgroup.controllers. */
#define ALWAYS_V2 (1u << BUNDLE_CPUACCT | 1u << BUNDLE_FREEZER | 1u << BUNDLE_DEVICES)

const char *cgroup_name(enum bundle_controller controller)
{
    return names[controller];
}

int cgroup_controller(const char *name)
{
    for (int i = 0; i < BUNDLE_CONTROLLERS; i++)
        if (strcmp(names[i], name) == 0)
            return i;
    return strcmp(name, "io") == 0 ? BUNDLE_BLKIO : -1;
}

/* The kernel writes blanks in paths as \040. */
static void unescape(char *text)
{
    char *to = text;

    for (const char *from = text; *from;) {
        if (from[0] == '\\' && from[1] >= '0' && from[1] <= '3' && from[2] && from[3]) {
            *to++ = (char)((from[1] - '0') << 6 | (from[2] - '0') << 3 | (from[3] - '0'));
            from += 4;
        } else {
            *to++ = *from++;
        }
    }
    *to = '\0';
}

/* Controllers in a list separated by any of `separators`. */
static uint16_t controllers_in(char *list, const char *separators)
{
    uint16_t found = 0;
    char *rest = list, *word;

    while ((word = strsep(&rest, separators))) {
        int controller = *word ? cgroup_controller(word) : -1;

        if (controller >= 0)
            found |= (uint16_t)(1u << controller);
    }
    return found;
}

/* One line of mountinfo: "31 23 0:28 / /sys/fs/cgroup rw shared:9 - cgroup cgroup rw,memory". */
static void parse_line(char *line, void (*controllers)(void *ctx, const char *path, struct buf *ret), void *ctx,
                       struct cgroup_layout *l)
{
    char *tail = strstr(line, " - ");
    char *path = line;

    if (!tail || l->count == CGROUP_MOUNTS)
        return;
    *tail = '\0';
    tail += 3;
    for (int field = 0; field < 4 && path; field++) {
        path = strchr(path, ' ');
        path = path ? path + 1 : NULL;
    }
    const char *type = strsep(&tail, " ");
    if (!path || !tail || (strcmp(type, "cgroup") != 0 && strcmp(type, "cgroup2") != 0))
        return;
    path[strcspn(path, " ")] = '\0';
    unescape(path);

    struct cgroup_mount *m = &l->mounts[l->count];
    m->v2 = strcmp(type, "cgroup2") == 0;
    if (m->v2) {
        AUTO_BUF struct buf text = {0};

        controllers(ctx, path, &text);
        buf_append_char(&text, '\0');
        m->controllers = controllers_in(buf_bytes(&text), " \n");
    } else {
        (void)strsep(&tail, " "); /* the source */
        m->controllers = tail ? controllers_in(tail, ",\n") : 0;
        if (m->controllers == 0)
            return; /* named, or of controllers that we do not use */
    }
    for (unsigned i = 0; i < l->count; i++) /* mounted a second time elsewhere: the first will do */
        if (m->v2 ? l->mounts[i].v2 : (l->mounts[i].controllers & m->controllers) != 0)
            return;
    m->path = mem_strdup(path);
    l->count++;
}

static void settle(struct cgroup_layout *l)
{
    uint16_t taken = 0;

    memset(l->of, -1, sizeof(l->of));
    for (unsigned i = 0; i < l->count; i++)
        if (!l->mounts[i].v2)
            taken |= l->mounts[i].controllers;
    for (unsigned i = 0; i < l->count; i++) {
        struct cgroup_mount *m = &l->mounts[i];

        if (m->v2)
            m->controllers = (uint16_t)((m->controllers | ALWAYS_V2) & ~taken);
        for (int c = 0; c < BUNDLE_CONTROLLERS; c++)
            if (m->controllers & 1u << c)
                l->of[c] = (int8_t)i;
    }
}

int cgroup_layout_parse(char *mountinfo, void (*controllers)(void *ctx, const char *path, struct buf *ret),
                        void *ctx, struct cgroup_layout *ret, struct err *e)
{
    char *rest = mountinfo, *line;

    *ret = (struct cgroup_layout){0};
    while ((line = strsep(&rest, "\n")))
        parse_line(line, controllers, ctx, ret);
    settle(ret);
    if (ret->count == 0)
        return err_set(e, ERR_UNSUPPORTED, "no cgroup controllers are mounted on this machine");
    return 0;
}

static void read_controllers(void *ctx, const char *path, struct buf *ret)
{
    AUTO_FREE
    char *file = mem_printf("%s/cgroup.controllers", path);

    (void)file_read(AT_FDCWD, file, 4096, ret, NULL); /* unreadable: then it offers none to us */
}

int cgroup_layout_read(struct cgroup_layout *ret, struct err *e)
{
    AUTO_BUF struct buf text = {0};
    int rc = file_read(AT_FDCWD, "/proc/self/mountinfo", MOUNTINFO_BYTES, &text, e);

    if (rc < 0)
        return rc;
    buf_append_char(&text, '\0');
    return cgroup_layout_parse(buf_bytes(&text), read_controllers, NULL, ret, e);
}

void cgroup_layout_fini(struct cgroup_layout *l)
{
    for (unsigned i = 0; i < l->count; i++)
        free(l->mounts[i].path);
    l->count = 0;
}

/* The capabilities this process could hand on: what the kernel knows and our bounding set still has. */
static uint64_t capabilities_known(void)
{
    uint64_t known = 0;

    for (unsigned long i = 0; i < 64; i++)
        if (prctl(PR_CAPBSET_READ, i, 0, 0, 0) == 1)
            known |= 1ull << i;
    return known;
}

int cgroup_kernel(const struct cgroup_layout *l, struct bundle_kernel *ret, struct err *e)
{
    AUTO_BUF struct buf text = {0};
    int rc = file_read(AT_FDCWD, "/proc/filesystems", 65536, &text, e);
    long processors = sysconf(_SC_NPROCESSORS_ONLN);

    if (rc < 0)
        return rc;
    *ret = (struct bundle_kernel){
        .processors = processors > 0 ? (unsigned)processors : 1,
        .capabilities = capabilities_known(),
        .mqueue = strstr(buf_str(&text), "\tmqueue\n") != NULL,
    };
    for (int c = 0; c < BUNDLE_CONTROLLERS; c++) {
        ret->cgroup_there[c] = l->of[c] >= 0;
        ret->cgroup_v2[c] = l->of[c] >= 0 && l->mounts[l->of[c]].v2;
        ret->cgroup_mount[c] = l->of[c] >= 0 ? (uint8_t)l->of[c] : UINT8_MAX;
    }
    return 0;
}

char *cgroup_path(const struct cgroup_layout *l, enum bundle_controller controller, const char *group)
{
    int at = l->of[controller];

    return at < 0 ? NULL : mem_printf("%s%s", l->mounts[at].path, group);
}

bool cgroup_path_is_tame(const char *path)
{
    if (*path == '/' || strlen(path) > 255)
        return false;
    for (const char *at = path; *at;) {
        size_t length = strcspn(at, "/");

        if (length == 0 || at[0] == '.')
            return false;
        at += length;
        if (*at == '/' && !*++at)
            return false;
    }
    return true;
}
