/* See etc.h.
 *
 * A directory is made aside as ".<id>" and renamed when its three files are whole, so one that is there is complete
 * whatever was killed in between; the rest of a crash goes at the next start. The files are written by the
 * container as it likes (they are mounted writable), so one that is there is kept from one start to the next: only
 * resolv.conf is brought up to date, when the machine's has changed and the container has not touched its own,
 * which the hash in its record tells. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "engine/container/container.h"
#include "engine/container/etc.h"
#include "engine/container/netfiles.h"
#include "engine/container/plug.h"
#include "proto/base/file.h"
#include "proto/base/ident.h"
#include "proto/base/log.h"
#include "proto/base/mem.h"
#include "proto/base/siphash.h"

#define HOST_FILE_MAX (256 * 1024)

static const char *const files[] = {"hosts", "hostname", "resolv.conf"};

static int write_file(int dir_fd, const char *name, const struct buf *content, struct err *e)
{
    AUTO_CLOSE
    int fd = openat(dir_fd, name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0644);

    if (fd < 0)
        return err_errno(e, "make %s", name);
    if (fchmod(fd, 0644) < 0) /* whatever the umask is */
        return err_errno(e, "mode of %s", name);
    return content->length ? write_all(fd, buf_bytes(content), content->length, e) : 0;
}

static uint64_t hash_of(const struct buf *content)
{
    return siphash(0, 0, content->length ? buf_bytes(content) : "", content->length) | 1;
}

/* --- resolv.conf --------------------------------------------------------------------------------- */

/* Read the machine's again if it changed. */
static void refresh_machine_resolv(struct containers *s)
{
    struct stat st = {0};
    uint64_t stamp;

    (void)stat("/etc/resolv.conf", &st); /* all zeroes: there is none */
    stamp = (uint64_t)st.st_mtim.tv_sec * 1000000007u + (uint64_t)st.st_mtim.tv_nsec * 31u + st.st_ino * 7u +
            (uint64_t)st.st_size;
    if (s->resolv_generation && stamp == s->resolv_stamp)
        return;
    buf_clear(&s->resolv);
    if (file_read(AT_FDCWD, "/etc/resolv.conf", HOST_FILE_MAX, &s->resolv, NULL) < 0)
        buf_clear(&s->resolv); /* a machine without name servers */
    s->resolv_stamp = stamp;
    s->resolv_generation++;
}

static bool has_host_network(const ContainerRecord *record)
{
    return strcmp(record->config->host->network_mode, "host") == 0;
}

static void make_resolv(struct containers *s, const ContainerRecord *record, struct buf *out)
{
    netfiles_resolv(record->config->host, s->resolv.length ? buf_str(&s->resolv) : "", !has_host_network(record),
                    out);
}

static void refresh_resolv(struct container *c, int dir_fd)
{
    struct containers *s = c->en->containers;
    AUTO_BUF struct buf now = {0}, wanted = {0};

    if (c->resolv_seen == s->resolv_generation)
        return;
    if (file_read(dir_fd, "resolv.conf", HOST_FILE_MAX, &now, NULL) < 0 || hash_of(&now) != c->record->resolv_hash)
        return; /* what the container wrote itself stays */
    make_resolv(s, c->record, &wanted);
    if (write_file(dir_fd, "resolv.conf", &wanted, NULL) < 0)
        return; /* the old one serves */
    c->resolv_seen = s->resolv_generation;
    c->record->resolv_hash = hash_of(&wanted); /* saved when it runs */
}

/* --- hosts --------------------------------------------------------------------------------------- */

static void make_hosts(struct container *c, struct buf *out)
{
    AUTO_BUF struct buf machine = {0};
    bool is_host = has_host_network(c->record);

    if (is_host && file_read(AT_FDCWD, "/etc/hosts", HOST_FILE_MAX, &machine, NULL) < 0)
        buf_clear(&machine); /* a machine without hosts file: the container's is empty too */
    netfiles_hosts(c->record->config->host, is_host ? buf_str(&machine) : NULL, out);
    plug_hosts(c, out);
}

/* A container that has networks may have another address in each run, so the file is made anew for each. */
static int refresh_hosts(struct container *c, int dir_fd, struct err *e)
{
    AUTO_BUF struct buf hosts = {0};

    if (!c->record->n_endpoints)
        return 0;
    make_hosts(c, &hosts);
    return write_file(dir_fd, "hosts", &hosts, e);
}

/* --- all three ----------------------------------------------------------------------------------- */

static int make_files(struct container *c, int dir_fd, struct err *e)
{
    const ContainerConfig *config = c->record->config;
    AUTO_BUF struct buf hosts = {0}, hostname = {0}, resolv = {0};

    make_hosts(c, &hosts);
    buf_printf(&hostname, "%s\n", config->hostname);
    make_resolv(c->en->containers, c->record, &resolv);
    int rc = write_file(dir_fd, "hosts", &hosts, e);
    if (rc == 0)
        rc = write_file(dir_fd, "hostname", &hostname, e);
    if (rc == 0)
        rc = write_file(dir_fd, "resolv.conf", &resolv, e);
    if (rc < 0)
        return rc;
    c->record->has_resolv_hash = true;
    c->record->resolv_hash = hash_of(&resolv); /* saved when it runs */
    c->resolv_seen = c->en->containers->resolv_generation;
    return 0;
}

/* What is not there is no matter. */
static void remove_dir(int etc_fd, const char *name)
{
    int dir_fd = openat(etc_fd, name, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

    if (dir_fd < 0)
        return;
    for (size_t i = 0; i < ARRAY_SIZE(files); i++)
        (void)unlinkat(dir_fd, files[i], 0);
    close(dir_fd);
    if (unlinkat(etc_fd, name, AT_REMOVEDIR) < 0)
        log_warn("a container's files in /etc stay for now", "container=%s error=\"%s\"", name, strerror(errno));
}

static int open_dir(int etc_fd, const char *name, int *ret_fd)
{
    *ret_fd = openat(etc_fd, name, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    return *ret_fd;
}

static int make_dir(struct container *c, int *ret_fd, struct err *e)
{
    int etc_fd = c->en->containers->etc_fd;
    char aside[HEX_ID_TEXT + 2];
    AUTO_CLOSE
    int dir_fd = -1;

    (void)snprintf(aside, sizeof(aside), ".%s", c->record->id);
    if (mkdirat(etc_fd, aside, 0700) < 0 && errno != EEXIST)
        return err_errno(e, "make the directory of /etc/hosts");
    if (open_dir(etc_fd, aside, &dir_fd) < 0)
        return err_errno(e, "open the directory of /etc/hosts");
    int rc = make_files(c, dir_fd, e);
    if (rc == 0 && renameat(etc_fd, aside, etc_fd, c->record->id) < 0)
        rc = err_errno(e, "rename the directory of /etc/hosts");
    if (rc < 0) {
        remove_dir(etc_fd, aside);
        return rc;
    }
    *ret_fd = steal_fd(&dir_fd);
    return 0;
}

int etc_ready(struct container *c, int *ret_fd, struct err *e)
{
    struct containers *s = c->en->containers;

    refresh_machine_resolv(s);
    if (open_dir(s->etc_fd, c->record->id, ret_fd) < 0)
        return errno == ENOENT ? make_dir(c, ret_fd, e) : err_errno(e, "open the directory of /etc/hosts");
    refresh_resolv(c, *ret_fd);
    return refresh_hosts(c, *ret_fd, e);
}

void etc_remove(struct container *c)
{
    remove_dir(c->en->containers->etc_fd, c->record->id);
}

char *etc_path(const struct container *c, const char *file)
{
    return mem_printf("%s/etc/%s/%s", c->en->config.run_dir, c->record->id, file);
}

int etc_open(struct containers *s, struct err *e)
{
    AUTO_FREE
    char *path = mem_printf("%s/etc", s->en->config.run_dir);
    struct dirent *entry;
    int rc = dir_make(path, 0700, e);

    if (rc == 0)
        rc = dir_open(path, &s->etc_fd, e);
    if (rc < 0)
        return rc;
    DIR *dir = opendir(path);
    if (!dir)
        return err_errno(e, "list %s", path);
    while ((entry = readdir(dir)))
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0 &&
            !map_get(&s->by_id, entry->d_name) && !map_get(&s->unusable, entry->d_name))
            remove_dir(s->etc_fd, entry->d_name);
    closedir(dir);
    return 0;
}
