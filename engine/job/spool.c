/* `shoal-job spool`: what a client uploads (docker load, docker import), as files that shoald can name.
 *
 * An archive of images is a tar, plain or compressed as a whole, whose manifest may come last. So every member is
 * written to a file named by its number, hashed on the way, and told to shoald with its name, size and digest; what
 * the archive means is decided there, from the manifest. Links between members (old archives store a layer once and
 * link to it) are told, not made. With `flat` nothing is looked at: the upload becomes the file "0".
 *
 * The job has no capability; its root directory is the one for the files. */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "engine/job/confine.h"
#include "engine/job/frame.h"
#include "engine/job/layer.h"
#include "engine/job/source.h"
#include "engine/job/verb.h"
#include "proto/base/file.h"
#include "proto/base/mem.h"
#include "proto/job.pb-c.h"

#define DEPTH_MAX 16 /* directories in an archive of images */

struct spool {
    const SpoolRequest *request;
    int upload_fd, root_fd;
    int file_fd;       /* the member being written, or -1 */
    struct hash *hash; /* of its bytes */
    uint64_t at;       /* bytes of it that were written or are holes */
    uint32_t next;     /* number of the next file */
    SpoolMember member;
    char name[LAYER_PATH_MAX + 1];
};

static void send_error(const struct err *why)
{
    JobError error = JOB_ERROR__INIT;
    SpoolEvent event = SPOOL_EVENT__INIT;

    error.code = why->code;
    error.text = (char *)why->text;
    event.error = &error;
    (void)frame_write(STDOUT_FILENO, &event.base, NULL); /* if shoald is gone nobody asks */
}

static int send_member(const SpoolMember *member, struct err *e)
{
    SpoolEvent event = SPOOL_EVENT__INIT;

    event.member = (SpoolMember *)member;
    return frame_write(STDOUT_FILENO, &event.base, e);
}

static int member_begin(struct spool *s, const char *path, uint64_t size, struct err *e)
{
    char file[16];

    if (s->next >= s->request->members_max)
        return err_set(e, ERR_LIMIT, "the archive has more than the %u files allowed", s->request->members_max);
    spool_member__init(&s->member);
    snprintf(s->name, sizeof(s->name), "%s", path);
    s->member.name = s->name;
    s->member.has_file = s->member.has_size_bytes = true;
    s->member.file = s->next++;
    s->member.size_bytes = size;
    snprintf(file, sizeof(file), "%u", s->member.file);
    s->hash = hash_new();
    s->at = 0;
    return root_open(s->root_fd, file, O_WRONLY | O_CREAT | O_EXCL, 0600, &s->file_fd, e);
}

static int member_write(struct spool *s, const void *data, size_t size, struct err *e)
{
    hash_add(s->hash, data, size);
    s->at += size;
    return write_all(s->file_fd, data, size, e);
}

static int member_end(struct spool *s, struct err *e)
{
    uint8_t bytes[SHA256_BYTES];
    char digest[DIGEST_TEXT + 1];

    hash_end(s->hash, bytes);
    hash_free(steal(&s->hash));
    digest_format(bytes, digest);
    s->member.digest = digest;
    s->member.size_bytes = s->at;
    if (close(steal_fd(&s->file_fd)) < 0)
        return err_errno(e, "close a file");
    return send_member(&s->member, e);
}

/* --- an archive --------------------------------------------------------------------------------------------------
 */

/* Where a link leads, as a member's name. False when it leads out of the archive. */
static bool resolve_link(const char *path, const char *link, char into[LAYER_PATH_MAX + 1])
{
    char joined[2 * LAYER_PATH_MAX + 2];
    const char *slash = strrchr(path, '/');
    size_t length = 0;

    snprintf(joined, sizeof(joined), "%.*s/%s", slash && *link != '/' ? (int)(slash - path) : 0, path, link);
    for (const char *at = joined; *at;) {
        size_t name = strcspn(at, "/");

        if (name == 2 && at[0] == '.' && at[1] == '.') {
            if (length == 0)
                return false;
            while (length && into[length - 1] != '/')
                length--;
            length -= length > 0;
        } else if (name && !(name == 1 && at[0] == '.')) {
            if (length + 1 + name > LAYER_PATH_MAX)
                return false;
            if (length)
                into[length++] = '/';
            memcpy(into + length, at, name);
            length += name;
        }
        at += name + (at[name] == '/');
    }
    into[length] = '\0';
    return length > 0;
}

static int archive_on_entry(void *ctx, const struct layer_entry *entry, struct err *e)
{
    struct spool *s = ctx;
    char target[LAYER_PATH_MAX + 1];
    SpoolMember member = SPOOL_MEMBER__INIT;

    if (entry->kind == LAYER_FILE)
        return member_begin(s, entry->path, entry->size, e);
    if (entry->kind == LAYER_DIRECTORY)
        return 0;
    if (entry->kind != LAYER_SYMLINK && entry->kind != LAYER_HARDLINK)
        return err_set(e, ERR_INVALID, "an archive of images holds files, directories and links only");
    if (entry->kind == LAYER_HARDLINK)
        snprintf(target, sizeof(target), "%s", entry->link);
    else if (!resolve_link(entry->path, entry->link, target))
        return err_set(e, ERR_INVALID, "the link leads out of the archive");
    member.name = (char *)entry->path;
    member.link = target;
    return send_member(&member, e);
}

/* Holes of a sparse member are written out: what counts is its digest. */
static int fill_hole(struct spool *s, uint64_t end, struct err *e)
{
    static const char zeros[64 << 10];
    int rc = 0;

    while (rc == 0 && s->at < end)
        rc = member_write(s, zeros, MIN(sizeof(zeros), end - s->at), e);
    return rc;
}

static int archive_on_data(void *ctx, uint64_t offset, const void *data, size_t size, struct err *e)
{
    struct spool *s = ctx;
    int rc = fill_hole(s, offset, e);

    if (rc < 0)
        return rc;
    if (s->at != offset)
        return err_set(e, ERR_CORRUPT, "its parts overlap");
    return member_write(s, data, size, e);
}

static int archive_on_end(void *ctx, struct err *e)
{
    struct spool *s = ctx;
    int rc = fill_hole(s, s->member.size_bytes, e);

    return rc < 0 ? rc : member_end(s, e);
}

static int spool_archive(struct spool *s, struct err *e)
{
    const struct layer_limits limits = {
        .bytes_max = s->request->bytes_max,
        .files_max = 16 + (uint64_t)s->request->members_max * 2, /* directories and links count too */
        .depth_max = DEPTH_MAX,
    };
    const struct layer_sink sink = {
        .ctx = s, .entry = archive_on_entry, .data = archive_on_data, .end = archive_on_end};
    char digest[DIGEST_TEXT + 1], diff_id[DIGEST_TEXT + 1];
    struct layer_totals totals;
    struct source *source = NULL;
    int rc =
        source_open(source_from_fd, &s->upload_fd, s->request->bytes_max + limits.files_max * 2048, &source, e);

    if (rc < 0)
        return rc;
    rc = layer_read(source, &limits, &sink, &totals, e);
    if (rc == 0)
        rc = source_finish(source, digest, diff_id, e); /* so that the client may finish its upload */
    source_close(source);
    return rc;
}

/* --- one file ------------------------------------------------------------------------------------ */

static int spool_flat(struct spool *s, struct err *e)
{
    static char chunk[64 << 10];
    int rc = member_begin(s, "upload", 0, e);

    while (rc == 0) {
        ssize_t got = source_from_fd(&s->upload_fd, chunk, sizeof(chunk));

        if (got < 0)
            return err_errno(e, "read the upload");
        if (got == 0)
            return member_end(s, e);
        if ((uint64_t)got > s->request->bytes_max - s->at)
            return err_set(e, ERR_LIMIT, "the upload has more than the %llu bytes allowed",
                           (unsigned long long)s->request->bytes_max);
        rc = member_write(s, chunk, (size_t)got, e);
    }
    return rc;
}

static int run(struct spool *s, struct err *e)
{
    const struct confine_limits limits = {
        .memory_bytes = JOB_MEMORY_BYTES,
        .file_bytes = s->request->bytes_max,
        .descriptors = 64,
    };
    SpoolEvent event = SPOOL_EVENT__INIT;

    if (!s->request->has_bytes_max || !s->request->has_members_max)
        return err_set(e, ERR_INVALID, "the request names no limits");
    int rc = confine_limits(&limits, e);
    if (rc == 0)
        rc = confine_root(JOB_FD_SECOND, true, &s->root_fd, e);
    if (rc == 0)
        rc = confine_capabilities(0, e);
    if (rc == 0)
        rc = confine_system_calls(CONFINE_FILES, e);
    if (rc == 0)
        rc = s->request->flat ? spool_flat(s, e) : spool_archive(s, e);
    hash_free(s->hash);
    if (rc < 0)
        return rc;
    event.has_done = true;
    event.done = true;
    return frame_write(STDOUT_FILENO, &event.base, e);
}

int spool_main(void)
{
    struct err e = {0};
    ProtobufCMessage *message = NULL;
    struct spool s = {.upload_fd = JOB_FD_FIRST, .root_fd = -1, .file_fd = -1};
    int rc = frame_read(STDIN_FILENO, &spool_request__descriptor, &message, &e);

    if (rc == 0) {
        s.request = (const SpoolRequest *)message;
        rc = run(&s, &e);
    }
    if (rc < 0)
        send_error(&e);
    _exit(rc < 0); /* no exit handlers: their system calls are not allowed */
}
