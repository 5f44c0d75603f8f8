/* See meta.h. One copy is a sector, which a disk writes whole or not at all:
 *
 *     magic, crc, version, salt, cluster, sealed {count, id, term, vote, mark, flags}
 *
 * Each write has a salt and thus a subkey of its own, since a counter could not be trusted after a crash. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "manager/raft/bytes.h"
#include "manager/raft/meta.h"
#include "proto/base/hash.h"
#include "proto/base/mem.h"

static const char magic[8] = "shoalTRM";

#define META_VERSION 1
#define COPY_BYTES   512
#define COPY_STRIDE  4096 /* the copies lie in different blocks of any disk */
#define FILE_BYTES   (COPY_STRIDE + COPY_BYTES)

enum { AT_CRC = 8, AT_VERSION = 12, AT_SALT = 16, AT_CLUSTER = 32, AT_SEALED = 48 };
enum { S_COUNT = 0, S_ID = 8, S_TERM = 16, S_VOTE = 24, S_SEGMENT = 32, S_OFFSET = 40, S_FLAGS = 48 };
enum { S_BYTES = 52, USED_BYTES = AT_SEALED + S_BYTES + SEAL_TAG };
enum { FLAG_CLEAN = 1 };

static void encode(const struct meta *m, uint64_t count, const struct meta_state *state, uint8_t into[COPY_BYTES])
{
    uint8_t clear[S_BYTES];

    memset(into, 0, COPY_BYTES);
    memcpy(into, magic, sizeof(magic));
    put_u32(into + AT_VERSION, META_VERSION);
    entropy_fill(m->env->entropy, into + AT_SALT, SEAL_SALT);
    memcpy(into + AT_CLUSTER, m->cluster, 16);
    put_u64(clear + S_COUNT, count);
    put_u64(clear + S_ID, m->id);
    put_u64(clear + S_TERM, state->term);
    put_u64(clear + S_VOTE, state->vote);
    put_u64(clear + S_SEGMENT, state->mark_segment);
    put_u64(clear + S_OFFSET, state->mark_offset);
    put_u32(clear + S_FLAGS, state->clean ? FLAG_CLEAN : 0);

    struct seal *s = seal_new(m->key, into + AT_SALT, "term", m->cluster);
    seal_close(s, 0, 0, into + AT_SALT, AT_SEALED - AT_SALT, clear, sizeof(clear), into + AT_SEALED);
    seal_free(s);
    put_u32(into + AT_CRC, crc32c(0, into + AT_VERSION, USED_BYTES - AT_VERSION));
}

/* 0, ERR_CORRUPT (not whole), or ERR_DENIED with the reason: whole, but not ours. */
static int decode(const struct meta *m, const uint8_t *copy, uint64_t *ret_count, struct meta_state *ret,
                  struct err *e)
{
    uint8_t clear[S_BYTES];

    if (memcmp(copy, magic, sizeof(magic)) != 0 ||
        get_u32(copy + AT_CRC) != crc32c(0, copy + AT_VERSION, USED_BYTES - AT_VERSION))
        return err_set(e, ERR_CORRUPT, "damaged");
    if (get_u32(copy + AT_VERSION) != META_VERSION)
        return err_set(e, ERR_DENIED, "version %u is not known, only %d", (unsigned)get_u32(copy + AT_VERSION),
                       META_VERSION);
    if (memcmp(copy + AT_CLUSTER, m->cluster, 16) != 0)
        return err_set(e, ERR_DENIED, "belongs to another cluster");
    struct seal *s = seal_new(m->key, copy + AT_SALT, "term", m->cluster);
    bool opened =
        seal_open(s, 0, 0, copy + AT_SALT, AT_SEALED - AT_SALT, copy + AT_SEALED, S_BYTES + SEAL_TAG, clear);
    seal_free(s);
    if (!opened)
        return err_set(e, ERR_DENIED, "is sealed under another key");
    if (get_u64(clear + S_ID) != m->id)
        return err_set(e, ERR_DENIED, "belongs to member %llu, not %llu", (unsigned long long)get_u64(clear + S_ID),
                       (unsigned long long)m->id);
    *ret_count = get_u64(clear + S_COUNT);
    *ret = (struct meta_state){
        .term = get_u64(clear + S_TERM),
        .vote = get_u64(clear + S_VOTE),
        .mark_segment = get_u64(clear + S_SEGMENT),
        .mark_offset = get_u64(clear + S_OFFSET),
        .clean = get_u32(clear + S_FLAGS) & FLAG_CLEAN,
    };
    return 0;
}

int meta_create(struct replica_env *env, const char *path, const uint8_t *key, const uint8_t cluster[16],
                uint64_t id, const struct meta_state *state, struct err *e)
{
    struct meta m = {.env = env, .key = key, .id = id};
    AUTO_FREE
    char *aside = mem_printf("%s.tmp", path);
    uint8_t bytes[FILE_BYTES] = {0};
    struct env_file *file;

    memcpy(m.cluster, cluster, 16);
    encode(&m, 1, state, bytes);
    encode(&m, 1, state, bytes + COPY_STRIDE);
    int rc = env->file_open(env, aside, ENV_OPEN_CREATE, &file, e);
    if (rc < 0)
        return rc;
    rc = env->file_write(file, 0, bytes, sizeof(bytes), e);
    if (rc == 0)
        rc = env->file_sync(file, e);
    env->file_close(file);
    return rc < 0 ? rc : env->file_rename(env, aside, path, e);
}

/* Choose the copy to believe; *ret_sound says whether both are whole and equal. */
static int choose(struct meta *m, const uint8_t *bytes, bool *ret_sound, struct err *e)
{
    struct meta_state state[2];
    uint64_t count[2] = {0, 0};
    int rc[2];

    for (int i = 0; i < 2; i++) {
        rc[i] = decode(m, bytes + (size_t)i * COPY_STRIDE, &count[i], &state[i], e);
        if (rc[i] == ERR_DENIED) {
            if (e)
                e->code = ERR_CORRUPT;
            return ERR_CORRUPT;
        }
    }
    if (rc[0] < 0 && rc[1] < 0)
        return err_set(e, ERR_CORRUPT, "damaged at bytes 0 and %d: both copies", COPY_STRIDE);
    int best = rc[1] == 0 && (rc[0] < 0 || count[1] > count[0]);
    m->count = count[best];
    m->state = state[best];
    *ret_sound = rc[0] == 0 && rc[1] == 0 && count[0] == count[1];
    return 0;
}

int meta_open(struct meta *m, struct replica_env *env, const char *path, const uint8_t *key,
              const uint8_t cluster[16], uint64_t id, struct err *e)
{
    uint8_t bytes[FILE_BYTES] = {0};
    bool sound = false;

    *m = (struct meta){.env = env, .key = key, .id = id};
    memcpy(m->cluster, cluster, 16);
    int rc = env->file_open(env, path, ENV_OPEN_SYNCED, &m->file, e);
    if (rc < 0)
        return rc;
    long got = env->file_read(m->file, 0, bytes, sizeof(bytes), e);
    rc = got < 0 ? (int)got : choose(m, bytes, &sound, e);
    if (rc == 0 && !sound) {
        struct meta_state state = m->state;

        rc = meta_write(m, &state, e);
    }
    if (rc < 0) {
        err_wrap(e, "%s", path);
        meta_close(m);
    }
    return rc;
}

int meta_write(struct meta *m, const struct meta_state *state, struct err *e)
{
    uint8_t copy[COPY_BYTES];

    m->count++;
    for (uint64_t i = 0; i < 2; i++) {
        encode(m, m->count, state, copy);
        int rc = m->env->file_write(m->file, i * COPY_STRIDE, copy, sizeof(copy), e);
        if (rc < 0)
            return rc;
    }
    m->state = *state;
    return 0;
}

void meta_close(struct meta *m)
{
    if (m->file)
        m->env->file_close(m->file);
    m->file = NULL;
}
