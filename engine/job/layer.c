/* Layers as entries (layer.h), by libarchive's tar reader: ustar, pax, GNU long names and sparse files.
 *
 * The C locale is kept on purpose: in a UTF-8 locale libarchive would turn decomposed names into composed ones, and
 * a file would have another name than its author gave it. In the C locale bytes pass as they are; a pax name that
 * is not ASCII comes with a warning about its conversion, which is the one kind of warning that is let pass.
 *
 * Leading slashes are dropped, as every other reader of layers does: there are builders that write "/app/web". A
 * ".." anywhere is refused instead of being resolved: nothing honest writes one.
 *
 * Whiteouts are names (image format): ".wh.NAME" hides NAME, ".wh..wh..opq" makes its directory opaque, and other
 * ".wh..wh." names are the book-keeping of an old file system, skipped. */
#include <archive.h>
#include <archive_entry.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "engine/job/layer.h"
#include "proto/base/mem.h"

#define WHITEOUT      ".wh."
#define WHITEOUT_META ".wh..wh."
#define OPAQUE        ".wh..wh..opq"
#define XATTRS_MAX    64

struct reader {
    struct source *source;
    const struct layer_limits *limits;
    const struct layer_sink *sink;
    struct layer_totals totals;
    struct err source_error; /* why the source failed inside libarchive's callback */
    unsigned devices;
    char path[LAYER_PATH_MAX + 1], link[LAYER_PATH_MAX + 1];
    struct layer_xattr xattrs[XATTRS_MAX];
};

const char *layer_show(const char *raw, char into[LAYER_SHOWN])
{
    size_t at = 0;

    into[at++] = '"';
    for (; *raw && at < LAYER_SHOWN - 10; raw++) {
        unsigned char c = (unsigned char)*raw;

        if (c < 0x20 || c == 0x7f || c == '"' || c == '\\')
            at += (size_t)snprintf(into + at, 5, "\\x%02x", c);
        else
            into[at++] = (char)c;
    }
    snprintf(into + at, 5, "%s\"", *raw ? "..." : "");
    return into;
}

int layer_path(const char *raw, unsigned depth_max, char *into, struct err *e)
{
    size_t length = 0;
    unsigned depth = 0;

    while (*raw) {
        size_t name = strcspn(raw, "/");

        if (name == 0 || (name == 1 && raw[0] == '.')) {
            raw += name + (raw[name] == '/');
            continue;
        }
        if (name == 2 && raw[0] == '.' && raw[1] == '.')
            return err_set(e, ERR_INVALID, "the path leads upwards (\"..\")");
        if (name > LAYER_NAME_MAX)
            return err_set(e, ERR_INVALID, "a name in the path has %zu bytes, more than %d", name, LAYER_NAME_MAX);
        if (++depth > depth_max)
            return err_set(e, ERR_LIMIT, "the path is more than %u directories deep", depth_max);
        if (length + 1 + name > LAYER_PATH_MAX)
            return err_set(e, ERR_INVALID, "the path has more than %d bytes", LAYER_PATH_MAX);
        if (length)
            into[length++] = '/';
        memcpy(into + length, raw, name);
        length += name;
        raw += name;
    }
    into[length] = '\0';
    return 0;
}

/* --- reading -----------------------------------------------------------------------------------------------------
 */

static la_ssize_t on_read(struct archive *a, void *ctx, const void **ret)
{
    struct reader *r = ctx;
    size_t size = 0;

    if (source_read(r->source, ret, &size, &r->source_error) < 0) {
        archive_set_error(a, -1, "%s", r->source_error.text);
        return ARCHIVE_FATAL;
    }
    return (la_ssize_t)size;
}

/* The one warning that means no harm: the name was taken byte by byte (see above). */
static bool is_conversion_warning(const char *text)
{
    return text && strstr(text, "can't be converted from");
}

static int archive_failed(struct reader *r, struct archive *a, struct err *e)
{
    const char *why = archive_error_string(a);

    if (r->source_error.code) {
        if (e)
            *e = r->source_error;
        return r->source_error.code;
    }
    return err_set(e, ERR_CORRUPT, "the archive is damaged: %s", why ? why : "unknown reason");
}

static enum layer_kind kind_of(struct archive_entry *entry, bool *ret_known)
{
    *ret_known = true;
    if (archive_entry_hardlink(entry))
        return LAYER_HARDLINK;
    switch (archive_entry_filetype(entry)) {
    case AE_IFREG:
        return LAYER_FILE;
    case AE_IFDIR:
        return LAYER_DIRECTORY;
    case AE_IFLNK:
        return LAYER_SYMLINK;
    case AE_IFCHR:
        return LAYER_CHARACTER;
    case AE_IFBLK:
        return LAYER_BLOCK;
    case AE_IFIFO:
        return LAYER_FIFO;
    default:
        *ret_known = false;
        return LAYER_FILE;
    }
}

/* Take what the name of the last component asks for; true when the entry is to be skipped. */
static int take_whiteout(struct reader *r, struct layer_entry *entry, bool *ret_skip, struct err *e)
{
    char *slash = strrchr(r->path, '/'), *name = slash ? slash + 1 : r->path;

    *ret_skip = false;
    for (const char *at = r->path; at < name; at = strchr(at, '/') + 1)
        if (strncmp(at, WHITEOUT, strlen(WHITEOUT)) == 0)
            return err_set(e, ERR_INVALID, "it lies below a whiteout");
    if (strncmp(name, WHITEOUT, strlen(WHITEOUT)) != 0)
        return 0;
    if (strcmp(name, OPAQUE) == 0) {
        entry->kind = LAYER_OPAQUE;
        *(slash ? slash : r->path) = '\0';
        r->totals.opaque_root |= !*r->path;
        return 0;
    }
    if (strncmp(name, WHITEOUT_META, strlen(WHITEOUT_META)) == 0) {
        *ret_skip = true;
        return 0;
    }
    const char *hidden = name + strlen(WHITEOUT);
    if (!*hidden || strcmp(hidden, ".") == 0 || strcmp(hidden, "..") == 0)
        return err_set(e, ERR_INVALID, "it is a whiteout of nothing");
    entry->kind = LAYER_WHITEOUT;
    memmove(name, hidden, strlen(hidden) + 1);
    return 0;
}

static int take_link(struct reader *r, struct archive_entry *from, struct layer_entry *entry, struct err *e)
{
    const char *link = entry->kind == LAYER_HARDLINK ? archive_entry_hardlink(from) : archive_entry_symlink(from);

    if (!link || !*link)
        return err_set(e, ERR_INVALID, "it is a link to nothing");
    if (entry->kind == LAYER_SYMLINK) {
        if (strlen(link) > LAYER_PATH_MAX)
            return err_set(e, ERR_INVALID, "the link has more than %d bytes", LAYER_PATH_MAX);
        snprintf(r->link, sizeof(r->link), "%s", link);
    } else {
        int rc = layer_path(link, r->limits->depth_max, r->link, e);

        if (rc < 0)
            return err_wrap(e, "its hard link's target");
        if (!*r->link)
            return err_set(e, ERR_INVALID, "it is a hard link to the layer's own directory");
        if (strcmp(r->link, r->path) == 0)
            return err_set(e, ERR_INVALID, "it is a hard link to itself");
    }
    entry->link = r->link;
    return 0;
}

static int take_numbers(struct reader *r, struct archive_entry *from, struct layer_entry *entry, struct err *e)
{
    int64_t uid = archive_entry_uid(from), gid = archive_entry_gid(from), size = archive_entry_size(from);

    if (uid < 0 || uid >= UINT32_MAX || gid < 0 || gid >= UINT32_MAX)
        return err_set(e, ERR_INVALID, "its owner %lld:%lld is out of range", (long long)uid, (long long)gid);
    entry->uid = (uid_t)uid;
    entry->gid = (gid_t)gid;
    entry->mode = archive_entry_mode(from) & 07777;
    entry->mtime_s = archive_entry_mtime(from);
    entry->mtime_ns = archive_entry_mtime_nsec(from);
    if (entry->mtime_ns < 0 || entry->mtime_ns > 999999999)
        entry->mtime_ns = 0;
    if (entry->kind == LAYER_FILE) {
        if (size < 0)
            return err_set(e, ERR_INVALID, "its size is negative");
        if ((uint64_t)size > r->limits->bytes_max - r->totals.size_bytes)
            return err_set(e, ERR_LIMIT, "the layer's files have more than the %llu bytes allowed",
                           (unsigned long long)r->limits->bytes_max);
        entry->size = (uint64_t)size;
        r->totals.size_bytes += entry->size;
    } else if (entry->kind == LAYER_CHARACTER || entry->kind == LAYER_BLOCK) {
        dev_t major = archive_entry_rdevmajor(from), minor = archive_entry_rdevminor(from);

        if (major > 0xfff || minor > 0xfffff)
            return err_set(e, ERR_INVALID, "its device number %llu:%llu is out of range", (unsigned long long)major,
                           (unsigned long long)minor);
        if (++r->devices > LAYER_DEVICES_MAX)
            return err_set(e, ERR_LIMIT, "the layer has more than %d devices", LAYER_DEVICES_MAX);
        entry->device_major = (unsigned)major;
        entry->device_minor = (unsigned)minor;
    }
    return 0;
}

/* Those that mean something in a container. "trusted." would let a layer speak to the overlay file system, and
 * "system." and other "security." ones are the host's. */
static int take_xattrs(struct reader *r, struct archive_entry *from, struct layer_entry *entry, struct err *e)
{
    const char *name;
    const void *value;
    size_t size;

    archive_entry_xattr_reset(from);
    while (archive_entry_xattr_next(from, &name, &value, &size) == ARCHIVE_OK) {
        if (strcmp(name, "security.capability") != 0 && strncmp(name, "user.", 5) != 0)
            continue;
        if (strlen(name) > 255 || size > LAYER_XATTR_MAX)
            return err_set(e, ERR_LIMIT, "an extended attribute has more than %d bytes", LAYER_XATTR_MAX);
        if (entry->xattr_count == XATTRS_MAX)
            return err_set(e, ERR_LIMIT, "it has more than %d extended attributes", XATTRS_MAX);
        r->xattrs[entry->xattr_count++] = (struct layer_xattr){name, value, size};
    }
    entry->xattrs = r->xattrs;
    return 0;
}

static int take_entry(struct reader *r, struct archive_entry *from, const char *raw, struct layer_entry *entry,
                      bool *ret_skip, struct err *e)
{
    bool known;

    *entry = (struct layer_entry){.kind = kind_of(from, &known), .path = r->path};
    *ret_skip = false;
    if (!known)
        return err_set(e, ERR_UNSUPPORTED, "its kind is unknown (mode %o)", archive_entry_mode(from));
    if (++r->totals.files > r->limits->files_max)
        return err_set(e, ERR_LIMIT, "the layer has more than the %llu entries allowed",
                       (unsigned long long)r->limits->files_max);
    int rc = layer_path(raw, r->limits->depth_max, r->path, e);
    if (rc == 0)
        rc = take_whiteout(r, entry, ret_skip, e);
    if (rc < 0 || *ret_skip || entry->kind == LAYER_WHITEOUT || entry->kind == LAYER_OPAQUE)
        return rc;
    if (!*r->path && entry->kind != LAYER_DIRECTORY)
        return err_set(e, ERR_INVALID, "only a directory can be the layer's own directory");
    if (entry->kind == LAYER_SYMLINK || entry->kind == LAYER_HARDLINK)
        rc = take_link(r, from, entry, e);
    if (rc == 0)
        rc = take_numbers(r, from, entry, e);
    if (rc == 0)
        rc = take_xattrs(r, from, entry, e);
    return rc;
}

static int read_data(struct reader *r, struct archive *a, const struct layer_entry *entry, struct err *e)
{
    const void *data;
    size_t size;
    la_int64_t offset;

    for (;;) {
        int result = archive_read_data_block(a, &data, &size, &offset);

        if (result == ARCHIVE_EOF)
            return r->sink->end(r->sink->ctx, e);
        if (result != ARCHIVE_OK)
            return archive_failed(r, a, e);
        if (size == 0)
            continue;
        /* The map of a sparse file is the author's word. */
        if (offset < 0 || (uint64_t)offset > entry->size || size > entry->size - (uint64_t)offset)
            return err_set(e, ERR_CORRUPT, "its data lies outside of its size");
        int rc = r->sink->data(r->sink->ctx, (uint64_t)offset, data, size, e);
        if (rc < 0)
            return rc;
        if (r->sink->progress)
            r->sink->progress(r->sink->progress_ctx);
    }
}

static int read_one(struct reader *r, struct archive *a, struct archive_entry *from, struct err *e)
{
    struct layer_entry entry;
    const char *raw = archive_entry_pathname(from);
    char shown[LAYER_SHOWN];
    bool skip;

    if (!raw)
        return err_set(e, ERR_CORRUPT, "an entry has no name");
    int rc = take_entry(r, from, raw, &entry, &skip, e);
    if (rc == 0 && !skip) {
        rc = r->sink->entry(r->sink->ctx, &entry, e);
        if (rc == 0 && entry.kind == LAYER_FILE)
            rc = read_data(r, a, &entry, e);
    }
    return rc < 0 && !r->source_error.code ? err_wrap(e, "entry %s", layer_show(raw, shown)) : rc;
}

static int read_all(struct reader *r, struct archive *a, struct err *e)
{
    struct archive_entry *from;

    if (archive_read_support_format_tar(a) != ARCHIVE_OK ||
        archive_read_append_filter(a, ARCHIVE_FILTER_NONE) != ARCHIVE_OK)
        return err_set(e, ERR_INTERNAL, "cannot set up reading");
    if (archive_read_open(a, r, NULL, on_read, NULL) != ARCHIVE_OK)
        return archive_failed(r, a, e);
    for (;;) {
        int result = archive_read_next_header(a, &from);

        if (result == ARCHIVE_EOF)
            return 0;
        if (result != ARCHIVE_OK && !(result == ARCHIVE_WARN && is_conversion_warning(archive_error_string(a))))
            return archive_failed(r, a, e);
        int rc = read_one(r, a, from, e);
        if (rc < 0)
            return rc;
        if (r->sink->progress)
            r->sink->progress(r->sink->progress_ctx);
    }
}

int layer_read(struct source *source, const struct layer_limits *limits, const struct layer_sink *sink,
               struct layer_totals *ret, struct err *e)
{
    struct reader *r = mem_alloc(sizeof(*r));
    struct archive *a = archive_read_new();

    r->source = source;
    r->limits = limits;
    r->sink = sink;
    int rc = a ? read_all(r, a, e) : err_set(e, ERR_INTERNAL, "cannot set up reading");
    if (a)
        archive_read_free(a);
    if (rc == 0)
        *ret = r->totals;
    free(r);
    return rc;
}
