/* See snapshot.h.
 *
 *     0         header: magic, version, crc, cluster, salt, index, term, configuration's index and size, chunk
 * size, tag 512       configuration, sealed
 *     ...       chunks, sealed; all of the same size but the last
 *     end - 64  chunks, bytes, digest, sealed
 *
 * Everything is sealed under one subkey; the nonces' upper half tells the parts apart. The associated data of a
 * chunk is the header and its number, so that chunks of other snapshots or places do not open. The size of the file
 * follows from the header and the end, and must be exactly that. */
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "manager/raft/bytes.h"
#include "manager/raft/message.h"
#include "manager/raft/snapshot.h"
#include "proto/base/mem.h"

static const char magic[8] = "shoalSNP";

#define SNAPSHOT_VERSION  1
#define HEADER            512
#define CONFIGURATION_MAX (64 << 10)
#define SYNC_BYTES        (8 << 20) /* so that the sync at the end is short */

enum {
    AT_VERSION = 8,
    AT_CRC = 12,
    AT_CLUSTER = 16,
    AT_SALT = 32,
    AT_INDEX = 48,
    AT_TERM = 56,
    AT_CONF_INDEX = 64
};
enum { AT_CONF_SIZE = 72, AT_CHUNK = 76, AT_REST = 80, AT_TAG = HEADER - SEAL_TAG };
enum { E_CHUNKS = 0, E_BYTES = 8, E_DIGEST = 16, E_CLEAR = 16 + SHA256_BYTES, END = E_CLEAR + SEAL_TAG };
enum { NONCE_CHUNK = 0, NONCE_HEADER = 1, NONCE_CONFIGURATION = 2, NONCE_END = 3 };

struct snapshot {
    struct snapshots *in; /* borrowed */
    char *path;
    struct env_file *file; /* owned */
    struct seal *seal;     /* owned */
    uint8_t header[HEADER];
    struct snapshot_info info;
};

struct snapshot_out {
    struct snapshots *in; /* borrowed */
    char *path;
    struct env_file *file; /* owned; NULL once finished */
    struct seal *seal;     /* owned */
    struct hash *hash;     /* of the contents so far, owned */
    uint8_t header[HEADER];
    struct snapshot_info info;
    uint64_t at;       /* end of what is written */
    uint64_t unsynced; /* bytes */
};

void snapshot_info_copy(struct snapshot_info *to, const struct snapshot_info *from)
{
    *to = *from;
    to->configuration = from->configuration ? mem_dup(from->configuration, from->configuration_size) : NULL;
}

void snapshot_info_fini(struct snapshot_info *info)
{
    free(info->configuration);
    *info = (struct snapshot_info){0};
}

void snapshots_init(struct snapshots *s, struct replica_env *env, const char *dir, const uint8_t *key,
                    const uint8_t cluster[16], uint32_t chunk_bytes)
{
    assert(chunk_bytes && chunk_bytes <= SNAPSHOT_CHUNK_MAX);
    *s = (struct snapshots){.env = env, .dir = mem_printf("%s/snapshots", dir), .chunk_bytes = chunk_bytes};
    memcpy(s->key, key, SEAL_KEY);
    memcpy(s->cluster, cluster, sizeof(s->cluster));
}

void snapshots_fini(struct snapshots *s)
{
    free(s->dir);
    mem_wipe(s->key, sizeof(s->key));
    s->dir = NULL;
}

static char *path_of(const struct snapshots *s, uint64_t index)
{
    return mem_printf("%s/%016llx", s->dir, (unsigned long long)index);
}

/* --- which there are ------------------------------------------------------------------------------ */

struct listing {
    uint64_t *indexes; /* owned */
    size_t count;
};

static void listing_each(void *ctx, const char *name)
{
    struct listing *list = ctx;
    unsigned long long index;
    int end = 0;

    if (sscanf(name, "%16llx%n", &index, &end) != 1 || end != 16 || name[16] ||
        strspn(name, "0123456789abcdef") != 16)
        return;
    list->indexes = mem_grow(list->indexes, list->count + 1, sizeof(*list->indexes));
    list->indexes[list->count++] = index;
}

int snapshots_find(struct snapshots *s, uint64_t *ret_index, struct err *e)
{
    static const char *const aside[] = {SNAPSHOT_TAKEN, SNAPSHOT_PULLED};
    struct listing list = {0};
    uint64_t newest = 0;
    int rc = 0;

    for (size_t i = 0; rc == 0 && i < ARRAY_SIZE(aside); i++) {
        AUTO_FREE
        char *path = mem_printf("%s/%s", s->dir, aside[i]);

        rc = s->env->file_remove(s->env, path, e);
    }
    if (rc == 0)
        rc = s->env->dir_list(s->env, s->dir, listing_each, &list, e);
    for (size_t i = 0; i < list.count; i++)
        newest = MAX(newest, list.indexes[i]);
    free(list.indexes);
    if (rc == 0) /* a name given by a process that was killed may not be durable yet, and will be built upon */
        rc = s->env->dir_sync(s->env, s->dir, e);
    if (rc == 0)
        *ret_index = newest;
    return rc;
}

int snapshots_remove_before(struct snapshots *s, uint64_t index, struct err *e)
{
    struct listing list = {0};
    int rc = s->env->dir_list(s->env, s->dir, listing_each, &list, e);

    for (size_t i = 0; rc == 0 && i < list.count; i++) {
        if (list.indexes[i] >= index)
            continue;
        AUTO_FREE
        char *path = path_of(s, list.indexes[i]);
        rc = s->env->file_remove(s->env, path, e);
    }
    free(list.indexes);
    return rc;
}

/* --- parts ---------------------------------------------------------------------------------------- */

static struct seal *seal_of(const struct snapshots *s, const uint8_t *header)
{
    return seal_new(s->key, header + AT_SALT, "snapshot", s->cluster);
}

static uint64_t chunks_begin(const struct snapshot_info *info)
{
    return HEADER + info->configuration_size + SEAL_TAG;
}

static uint64_t chunk_at(const struct snapshot_info *info, uint64_t number)
{
    return chunks_begin(info) + number * ((uint64_t)info->chunk_bytes + SEAL_TAG);
}

static size_t chunk_size(const struct snapshot_info *info, uint64_t number)
{
    return number + 1 < info->chunks ? info->chunk_bytes : (size_t)(info->bytes - number * info->chunk_bytes);
}

static uint64_t file_bytes(const struct snapshot_info *info)
{
    return chunks_begin(info) + info->bytes + info->chunks * SEAL_TAG + END;
}

/* The associated data of everything but the header: the header, and which part it is. */
struct place {
    uint8_t bytes[HEADER + 8];
};

static struct place place_of(const uint8_t header[HEADER], uint64_t number)
{
    struct place p;

    memcpy(p.bytes, header, HEADER);
    put_u64(p.bytes + HEADER, number);
    return p;
}

static void header_put(struct snapshot_out *o)
{
    uint8_t *into = o->header;

    memcpy(into, magic, sizeof(magic));
    put_u32(into + AT_VERSION, SNAPSHOT_VERSION);
    memcpy(into + AT_CLUSTER, o->in->cluster, 16);
    entropy_fill(o->in->env->entropy, into + AT_SALT, SEAL_SALT);
    put_u64(into + AT_INDEX, o->info.index);
    put_u64(into + AT_TERM, o->info.term);
    put_u64(into + AT_CONF_INDEX, o->info.configuration_index);
    put_u32(into + AT_CONF_SIZE, o->info.configuration_size);
    put_u32(into + AT_CHUNK, o->info.chunk_bytes);
    put_u32(into + AT_CRC, crc32c(0, into + AT_CLUSTER, AT_TAG - AT_CLUSTER));
    o->seal = seal_of(o->in, into);
    seal_close(o->seal, NONCE_HEADER, 0, into, AT_TAG, NULL, 0, into + AT_TAG);
}

static int header_get(struct snapshot *p, struct err *e)
{
    const uint8_t *h = p->header;
    uint8_t nothing[1];

    if (memcmp(h, magic, sizeof(magic)) != 0)
        return err_set(e, ERR_CORRUPT, "damaged at byte 0: not a snapshot");
    if (get_u32(h + AT_VERSION) != SNAPSHOT_VERSION)
        return err_set(e, ERR_CORRUPT, "version %u of snapshots is not known, only %d",
                       (unsigned)get_u32(h + AT_VERSION), SNAPSHOT_VERSION);
    if (get_u32(h + AT_CRC) != crc32c(0, h + AT_CLUSTER, AT_TAG - AT_CLUSTER))
        return err_set(e, ERR_CORRUPT, "damaged at byte 0: the header's checksum does not fit");
    if (memcmp(h + AT_CLUSTER, p->in->cluster, 16) != 0)
        return err_set(e, ERR_CORRUPT, "belongs to another cluster");
    p->seal = seal_of(p->in, h);
    if (!seal_open(p->seal, NONCE_HEADER, 0, h, AT_TAG, h + AT_TAG, SEAL_TAG, nothing))
        return err_set(e, ERR_CORRUPT, "is sealed under another key");
    p->info.index = get_u64(h + AT_INDEX);
    p->info.term = get_u64(h + AT_TERM);
    p->info.configuration_index = get_u64(h + AT_CONF_INDEX);
    p->info.configuration_size = get_u32(h + AT_CONF_SIZE);
    p->info.chunk_bytes = get_u32(h + AT_CHUNK);
    if (!p->info.index || !p->info.term || !p->info.chunk_bytes || p->info.chunk_bytes > SNAPSHOT_CHUNK_MAX ||
        p->info.configuration_size > CONFIGURATION_MAX)
        return err_set(e, ERR_CORRUPT, "the header makes no sense");
    return 0;
}

/* Read exactly this many bytes. */
static int read_at(struct snapshot *p, uint64_t offset, void *into, size_t size, struct err *e)
{
    long got = p->in->env->file_read(p->file, offset, into, size, e);

    if (got < 0)
        return (int)got;
    return (size_t)got == size ? 0 : err_set(e, ERR_CORRUPT, "ends at byte %llu", (unsigned long long)offset + got);
}

static int read_configuration(struct snapshot *p, struct err *e)
{
    uint32_t size = p->info.configuration_size;
    AUTO_FREE
    uint8_t *sealed = mem_alloc(size + SEAL_TAG);
    struct place place = place_of(p->header, 0);
    int rc = read_at(p, HEADER, sealed, size + SEAL_TAG, e);

    if (rc < 0)
        return rc;
    p->info.configuration = mem_alloc(size + 1);
    if (!seal_open(p->seal, NONCE_CONFIGURATION, 0, &place, sizeof(place), sealed, size + SEAL_TAG,
                   p->info.configuration))
        return err_set(e, ERR_CORRUPT, "damaged at byte %d: the configuration is not as it was written", HEADER);
    return message_check_configuration(p->info.configuration, size, e) < 0 ? ERR_CORRUPT : 0;
}

static int read_end(struct snapshot *p, struct err *e)
{
    struct place place = place_of(p->header, 0);
    uint8_t sealed[END], clear[E_CLEAR];
    uint64_t size;
    int rc = p->in->env->file_size(p->file, &size, e);

    if (rc == 0 && size < chunks_begin(&p->info) + END)
        rc = err_set(e, ERR_CORRUPT, "ends at byte %llu", (unsigned long long)size);
    if (rc == 0)
        rc = read_at(p, size - END, sealed, END, e);
    if (rc < 0)
        return rc;
    if (!seal_open(p->seal, NONCE_END, 0, &place, sizeof(place), sealed, END, clear))
        return err_set(e, ERR_CORRUPT, "damaged at byte %llu: the end is not as it was written",
                       (unsigned long long)size - END);
    p->info.chunks = get_u64(clear + E_CHUNKS);
    p->info.bytes = get_u64(clear + E_BYTES);
    memcpy(p->info.digest, clear + E_DIGEST, SHA256_BYTES);
    if (p->info.chunks != (p->info.bytes + p->info.chunk_bytes - 1) / p->info.chunk_bytes ||
        file_bytes(&p->info) != size)
        return err_set(e, ERR_CORRUPT, "has %llu bytes, not %llu", (unsigned long long)size,
                       (unsigned long long)file_bytes(&p->info));
    return 0;
}

/* --- reading -------------------------------------------------------------------------------------- */

int snapshot_open(struct snapshots *s, uint64_t index, struct snapshot **ret, struct err *e)
{
    struct snapshot *p = mem_alloc(sizeof(*p));
    int rc;

    p->in = s;
    p->path = path_of(s, index);
    rc = s->env->file_open(s->env, p->path, ENV_OPEN_READ, &p->file, e);
    if (rc == 0)
        rc = read_at(p, 0, p->header, HEADER, e);
    if (rc == 0)
        rc = header_get(p, e);
    if (rc == 0 && p->info.index != index)
        rc = err_set(e, ERR_CORRUPT, "is the snapshot of entry %llu", (unsigned long long)p->info.index);
    if (rc == 0)
        rc = read_configuration(p, e);
    if (rc == 0)
        rc = read_end(p, e);
    if (rc < 0) {
        err_wrap(e, "snapshot %s", p->path);
        snapshot_close(p);
        return rc;
    }
    *ret = p;
    return 0;
}

const struct snapshot_info *snapshot_get_info(const struct snapshot *p)
{
    return &p->info;
}

int snapshot_chunk(struct snapshot *p, uint64_t number, struct buf *into, struct err *e)
{
    struct place place = place_of(p->header, number);
    size_t size = chunk_size(&p->info, number);
    AUTO_FREE
    uint8_t *sealed = mem_alloc(size + SEAL_TAG);
    int rc;

    assert(number < p->info.chunks);
    rc = read_at(p, chunk_at(&p->info, number), sealed, size + SEAL_TAG, e);
    if (rc < 0)
        return err_wrap(e, "snapshot %s", p->path);
    if (!seal_open(p->seal, NONCE_CHUNK, number, &place, sizeof(place), sealed, size + SEAL_TAG,
                   (uint8_t *)buf_reserve(into, size + 1)))
        return err_set(e, ERR_CORRUPT, "snapshot %s: damaged at byte %llu: chunk %llu is not as it was written",
                       p->path, (unsigned long long)chunk_at(&p->info, number), (unsigned long long)number);
    buf_added(into, size);
    return 0;
}

int snapshot_verify(struct snapshot *p, struct err *e)
{
    struct hash *hash = hash_new();
    uint8_t digest[SHA256_BYTES];
    AUTO_BUF struct buf data = {0};
    int rc = 0;

    for (uint64_t i = 0; rc == 0 && i < p->info.chunks; i++) {
        buf_clear(&data);
        rc = snapshot_chunk(p, i, &data, e);
        if (rc == 0)
            hash_add(hash, buf_bytes(&data), data.length);
    }
    hash_end(hash, digest);
    hash_free(hash);
    if (rc == 0 && memcmp(digest, p->info.digest, SHA256_BYTES) != 0)
        rc = err_set(e, ERR_CORRUPT, "snapshot %s: the digest does not fit the contents", p->path);
    return rc;
}

void snapshot_close(struct snapshot *p)
{
    if (!p)
        return;
    if (p->file)
        p->in->env->file_close(p->file);
    seal_free(p->seal);
    snapshot_info_fini(&p->info);
    free(p->path);
    free(p);
}

/* --- writing -------------------------------------------------------------------------------------- */

static int write_part(struct snapshot_out *o, const void *data, size_t size, struct err *e)
{
    int rc = o->in->env->file_write(o->file, o->at, data, size, e);

    o->at += size;
    o->unsynced += size;
    if (rc == 0 && o->unsynced >= SYNC_BYTES) {
        o->unsynced = 0;
        rc = o->in->env->file_sync(o->file, e);
    }
    return rc < 0 ? err_wrap(e, "snapshot %s", o->path) : 0;
}

static int write_sealed(struct snapshot_out *o, uint32_t nonce_high, uint64_t number, const void *data, size_t size,
                        struct err *e)
{
    struct place place = place_of(o->header, number);
    AUTO_FREE
    uint8_t *sealed = mem_alloc(size + SEAL_TAG);

    seal_close(o->seal, nonce_high, number, &place, sizeof(place), data, size, sealed);
    return write_part(o, sealed, size + SEAL_TAG, e);
}

int snapshot_out_open(struct snapshots *s, const char *name, const struct snapshot_info *info,
                      struct snapshot_out **ret, struct err *e)
{
    struct snapshot_out *o = mem_alloc(sizeof(*o));
    int rc;

    o->in = s;
    o->path = mem_printf("%s/%s", s->dir, name);
    snapshot_info_copy(&o->info, info);
    o->info.chunks = o->info.bytes = 0;
    o->hash = hash_new();
    header_put(o);
    rc = s->env->file_open(s->env, o->path, ENV_OPEN_CREATE, &o->file, e);
    if (rc == 0)
        rc = write_part(o, o->header, HEADER, e);
    if (rc == 0)
        rc = write_sealed(o, NONCE_CONFIGURATION, 0, o->info.configuration, o->info.configuration_size, e);
    if (rc < 0) {
        snapshot_out_free(o);
        return rc;
    }
    *ret = o;
    return 0;
}

int snapshot_out_add(struct snapshot_out *o, const void *data, size_t size, struct err *e)
{
    assert(size > 0 && size <= o->info.chunk_bytes && o->info.bytes == o->info.chunks * o->info.chunk_bytes);
    hash_add(o->hash, data, size);
    o->info.bytes += size;
    return write_sealed(o, NONCE_CHUNK, o->info.chunks++, data, size, e);
}

int snapshot_out_end(struct snapshot_out *o, struct snapshot_info *ret_info, struct err *e)
{
    uint8_t clear[E_CLEAR];
    int rc;

    hash_end(o->hash, o->info.digest);
    put_u64(clear + E_CHUNKS, o->info.chunks);
    put_u64(clear + E_BYTES, o->info.bytes);
    memcpy(clear + E_DIGEST, o->info.digest, SHA256_BYTES);
    rc = write_sealed(o, NONCE_END, 0, clear, sizeof(clear), e);
    if (rc == 0)
        rc = o->in->env->file_sync(o->file, e);
    if (rc == 0)
        snapshot_info_copy(ret_info, &o->info);
    return rc;
}

void snapshot_out_free(struct snapshot_out *o)
{
    if (!o)
        return;
    if (o->file)
        o->in->env->file_close(o->file);
    seal_free(o->seal);
    hash_free(o->hash);
    snapshot_info_fini(&o->info);
    free(o->path);
    free(o);
}

int snapshot_publish(struct snapshots *s, const char *name, uint64_t index, struct err *e)
{
    AUTO_FREE
    char *from = mem_printf("%s/%s", s->dir, name);
    AUTO_FREE
    char *to = path_of(s, index);
    int rc = s->env->file_rename(s->env, from, to, e);

    return rc < 0 ? rc : s->env->dir_sync(s->env, s->dir, e);
}
