/* See disk.h.
 *
 * The environment has one table per kind (number to sealed record; numbers grow, so new records are appended and
 * pages fill up), `ids` and `names` (index key to nothing), and in LMDB's main table, beside the tables' own
 * entries, two records:
 *
 *   head   in clear: magic, schema, cluster, salt, boot id, a tag that only the right key makes
 *   state  sealed: applied index, cluster time, digest, counters; written by every transaction
 *
 * Index keys end with the number, so that a key is never taken twice: two objects of one name are two keys, and the
 * index is a function of the records.
 *
 * Nonces. A value carries the 64-bit counter it was sealed with. A counter must never serve twice under one subkey,
 * not even for bytes that a killed process had written to pages no transaction ever reached. So counters are
 * reserved: a transaction only uses what an earlier one reserved, and whoever opens the file starts above all that
 * was reserved. Damage could still bring back an older state (LMDB keeps the one before in its other meta page),
 * with an older reservation; therefore opening also skips a random distance. A file whose counter nears its end is
 * discarded, as any file that is in doubt, and the next one has another salt.
 *
 * A commit that finds the disk full cannot be taken back, only rebuilt. So blocks are reserved ahead (disk_room),
 * and the leader plans nothing without them; what is under way then has room.
 *
 * LMDB zeroes the memory of its pages before it uses them. MDB_NOMEMINIT would save that, but write whatever the
 * heap held, keys and secrets, into the unused parts of the file.
 *
 * LMDB opens its data file without O_CLOEXEC; it is set here right afterwards. A child that another thread starts
 * in between would inherit it, so every launcher of ours closes what it does not know. */
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "manager/store/disk.h"
#include "proto/base/file.h"
#include "proto/base/mem.h"

#define ENV_FLAGS     (MDB_NOSUBDIR | MDB_NOSYNC | MDB_NOTLS)
#define LOCK_BYTES    8192 /* exactly LMDB's table for its default of 126 readers */
#define TABLES_MAX    (KIND_MAX + 3)
#define MAP_FIRST     (64ull << 20)
#define MAP_LEAST     (128ull << 10) /* holds an empty file */
#define NONCE_RANGE   (1ull << 20)   /* counters reserved at a time */
#define NONCE_SPARE   16             /* kept for states that reserve the next ones */
#define NONCE_SKIP    (1ull << 48)   /* a random distance below this is skipped when a file is opened */
#define NONCE_LIMIT   (1ull << 63)
#define TABLE_STATE   0 /* no kind has this number */
#define STATE_NUMBERS (6 + KIND_MAX + 1)

static const char head_magic[8] = "shoalmdb", head_key[] = "head", state_key[] = "state",
                  check_place[] = "key check";

int disk_error(struct err *e, int mdb, const char *doing)
{
    return err_set(e, ERR_IO, "store: %s: %s", doing, mdb_strerror(mdb));
}

/* --- head ------------------------------------------------------------------------------------------------ */

void disk_key_check(struct seal *seal, uint8_t ret[SEAL_TAG])
{
    /* The one nonce with this high half: records have 0 there. */
    seal_close(seal, UINT32_MAX, 0, check_place, sizeof(check_place), NULL, 0, ret);
}

static void write_head(const struct disk_config *config, struct disk *d, uint8_t ret[DISK_HEAD])
{
    uint32_t schema = DISK_SCHEMA;

    memcpy(ret, head_magic, 8);
    memcpy(ret + 8, &schema, 4);
    memcpy(ret + 12, config->cluster, 16);
    memcpy(ret + 28, d->salt, SEAL_SALT);
    memcpy(ret + 44, config->boot_id, DISK_BOOT_TEXT);
    disk_key_check(d->seal, ret + 84);
}

/* --- values ---------------------------------------------------------------------------------------------- */

static void place(unsigned table, uint64_t number, uint8_t ret[9])
{
    ret[0] = (uint8_t)table;
    memcpy(ret + 1, &number, 8);
}

void disk_seal(struct disk *d, unsigned table, uint64_t number, const void *data, size_t size, uint8_t *out)
{
    uint8_t ad[9];

    if (d->nonce >= d->nonce_end)
        abort(); /* a nonce that might have been used: disk_reserve was not called */
    uint64_t nonce = d->nonce++;
    place(table, number, ad);
    memcpy(out, &nonce, 8);
    seal_close(d->seal, 0, nonce, ad, sizeof(ad), data, size, out + 8);
}

bool disk_unseal(struct seal *seal, unsigned table, uint64_t number, const MDB_val *value, uint8_t *out)
{
    uint64_t nonce;
    uint8_t ad[9];

    if (value->mv_size < DISK_OVERHEAD)
        return false;
    place(table, number, ad);
    memcpy(&nonce, value->mv_data, 8);
    return seal_open(seal, 0, nonce, ad, sizeof(ad), (const uint8_t *)value->mv_data + 8, value->mv_size - 8, out);
}

int disk_write_state(struct disk *d, MDB_txn *txn, const struct state *state)
{
    uint64_t numbers[STATE_NUMBERS] = {state->applied,       state->planned, (uint64_t)state->cluster_ms,
                                       state->feature_level, state->digest,  d->nonce_end};
    MDB_val key = {sizeof(state_key) - 1, (void *)state_key}, value = {sizeof(numbers) + DISK_OVERHEAD, NULL};

    memcpy(numbers + 6, state->next, sizeof(state->next));
    int rc = mdb_put(txn, d->main, &key, &value, MDB_RESERVE);
    if (rc == MDB_SUCCESS)
        disk_seal(d, TABLE_STATE, 0, numbers, sizeof(numbers), value.mv_data);
    return rc;
}

bool disk_read_state(struct seal *seal, const MDB_val *value, struct state *ret, uint64_t *ret_nonce_end)
{
    uint64_t numbers[STATE_NUMBERS];

    if (value->mv_size != sizeof(numbers) + DISK_OVERHEAD ||
        !disk_unseal(seal, TABLE_STATE, 0, value, (uint8_t *)numbers))
        return false;
    *ret = (struct state){
        .applied = numbers[0],
        .planned = numbers[1],
        .cluster_ms = (int64_t)numbers[2],
        .feature_level = (uint32_t)numbers[3],
        .digest = numbers[4],
    };
    memcpy(ret->next, numbers + 6, sizeof(ret->next));
    *ret_nonce_end = numbers[5];
    return true;
}

/* --- index keys ------------------------------------------------------------------------------------------ */

static void put_number(uint8_t at[DISK_NUMBER], uint64_t number)
{
    for (int i = 0; i < DISK_NUMBER; i++) /* big-endian: equal ids or names lie in order of creation */
        at[i] = (uint8_t)(number >> (56 - 8 * i));
}

uint64_t disk_key_number(const MDB_val *key)
{
    const uint8_t *at = (const uint8_t *)key->mv_data + key->mv_size - DISK_NUMBER;
    uint64_t number = 0;

    for (int i = 0; i < DISK_NUMBER; i++)
        number = number << 8 | at[i];
    return number;
}

void disk_id_key(enum kind k, const uint8_t id[KIND_ID_BYTES], uint64_t number, uint8_t ret[DISK_ID_KEY])
{
    ret[0] = (uint8_t)k;
    memcpy(ret + 1, id, KIND_ID_BYTES);
    put_number(ret + 1 + KIND_ID_BYTES, number);
}

void disk_name_key(struct seal *seal, enum kind k, const char *name, size_t length, uint64_t number,
                   uint8_t ret[DISK_NAME_KEY])
{
    char lowered[256], *text = length < sizeof(lowered) ? lowered : mem_alloc(length + 1);

    text[0] = (char)k;
    for (size_t i = 0; i < length; i++)
        text[1 + i] = kind_lower(name[i]);
    seal_index(seal, text, 1 + length, ret);
    put_number(ret + 16, number);
    if (text != lowered)
        free(text);
}

/* --- size ------------------------------------------------------------------------------------------------ */

uint64_t disk_used_bytes(const struct disk *d)
{
    MDB_envinfo info;
    MDB_stat stat;

    (void)mdb_env_info(d->env, &info); /* cannot fail on an open environment */
    (void)mdb_env_stat(d->env, &stat);
    return ((uint64_t)info.me_last_pgno + 1) * stat.ms_psize;
}

/* Where blocks cannot be reserved (some file systems do not know how) the commit has to find out.
 *
 * From the beginning: pages that a transaction took and gave back were never written and are holes. The size stays
 * as it is, so that nothing takes the reserve for contents. */
int disk_room(struct disk *d, uint64_t reserve, struct err *e)
{
    uint64_t used = disk_used_bytes(d), end = used + reserve;
    int fd;

    if (used + reserve / 2 <= d->room_end)
        return 0;
    (void)mdb_env_get_fd(d->env, &fd); /* cannot fail on an open environment */
    if (fallocate(fd, FALLOC_FL_KEEP_SIZE, 0, (off_t)end) < 0 && (errno == ENOSPC || errno == EDQUOT))
        return err_errno(e, "store: reserve %llu bytes", (unsigned long long)end);
    d->room_end = end;
    return 0;
}

int disk_grow(struct disk *d, uint64_t bytes, struct err *e)
{
    uint64_t size = d->map_bytes;
    struct disk_reader *r;

    while (size < bytes)
        size *= 2;
    if (size == d->map_bytes)
        return 0;
    list_each (r, &d->readers, link) {
        pthread_mutex_lock(&r->lock);
        if (r->txn)
            mdb_txn_abort(r->txn);
        r->txn = NULL;
        pthread_mutex_unlock(&r->lock);
    }
    int rc = mdb_env_set_mapsize(d->env, size);
    if (rc)
        return disk_error(e, rc, "grow the map");
    d->map_bytes = size;
    return 0;
}

int disk_reserve(struct disk *d, const struct state *state, uint64_t need, struct err *e)
{
    uint64_t before = d->nonce_end;
    int rc;

    assert(need <= NONCE_RANGE / 2);
    while (d->nonce + need + NONCE_SPARE > d->nonce_end) {
        MDB_txn *txn;

        rc = mdb_txn_begin(d->env, NULL, 0, &txn);
        if (rc)
            return disk_error(e, rc, "begin");
        d->nonce_end = d->nonce + NONCE_RANGE; /* the state itself takes one of the spare ones */
        rc = disk_write_state(d, txn, state);
        if (rc)
            mdb_txn_abort(txn);
        else
            rc = mdb_txn_commit(txn);
        if (rc == 0)
            return 0;
        d->nonce_end = before;
        if (rc != MDB_MAP_FULL)
            return disk_error(e, rc, "reserve nonces");
        rc = disk_grow(d, d->map_bytes * 2, e);
        if (rc < 0)
            return rc;
    }
    return 0;
}

/* --- life ------------------------------------------------------------------------------------------------ */

void disk_remove(const struct disk_config *config, const char *name)
{
    AUTO_FREE
    char *lock = mem_printf("%s" DISK_LOCK, name);

    (void)unlinkat(config->dir_fd, name, 0); /* absent is fine; anything else shows when it is made anew */
    (void)unlinkat(config->dir_fd, lock, 0);
}

int disk_rename(const struct disk_config *config, const char *from, struct err *e)
{
    AUTO_FREE
    char *lock = mem_printf("%s" DISK_LOCK, from);

    /* A file without its lock, or with a strange one, is fine: LMDB makes it anew for its first user. */
    if (renameat(config->dir_fd, lock, config->dir_fd, DISK_FILE DISK_LOCK) < 0 ||
        renameat(config->dir_fd, from, config->dir_fd, DISK_FILE) < 0)
        return err_errno(e, "store: rename %s to " DISK_FILE, from);
    return 0;
}

/* LMDB makes its table of readers with holes and writes it through a mapping: on a full disk that would be a
 * SIGBUS. So it gets a file whose blocks are there. */
static int make_lock(const struct disk_config *config, const char *name, struct err *e)
{
    static const char zeros[LOCK_BYTES];
    AUTO_FREE
    char *lock = mem_printf("%s" DISK_LOCK, name);

    (void)unlinkat(config->dir_fd, lock, 0); /* of a process that is gone: the directory's lock is ours */
    AUTO_CLOSE
    int fd = openat(config->dir_fd, lock, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd < 0)
        return err_errno(e, "store: create %s", lock);
    int rc = write_all(fd, zeros, sizeof(zeros), e);
    return rc < 0 ? err_wrap(e, "store: %s", lock) : 0;
}

static int open_env(const struct disk_config *config, const char *name, struct disk *d, struct err *e)
{
    AUTO_FREE
    char *path = mem_printf("%s/%s", config->dir, name);
    int fd, rc = make_lock(config, name, e);

    if (rc < 0)
        return rc;
    d->map_bytes = config->map_bytes ? MAX(config->map_bytes & ~(MAP_LEAST - 1), MAP_LEAST) : MAP_FIRST;
    if ((rc = mdb_env_create(&d->env)) || (rc = mdb_env_set_maxdbs(d->env, TABLES_MAX)) ||
        (rc = mdb_env_set_mapsize(d->env, d->map_bytes)) || (rc = mdb_env_open(d->env, path, ENV_FLAGS, 0600)))
        return disk_error(e, rc, "open the file");
    (void)mdb_env_get_fd(d->env, &fd); /* cannot fail on an open environment */
    if (fcntl(fd, F_SETFD, FD_CLOEXEC) < 0)
        return err_errno(e, "store: mark " DISK_FILE " close-on-exec");
    MDB_envinfo info;
    (void)mdb_env_info(d->env, &info);
    d->map_bytes = info.me_mapsize; /* LMDB raises it for a file that is larger */
    return 0;
}

static int open_tables(struct disk *d, MDB_txn *txn, unsigned flags)
{
    int rc;

    if ((rc = mdb_dbi_open(txn, NULL, 0, &d->main)) || (rc = mdb_dbi_open(txn, "ids", flags, &d->ids)) ||
        (rc = mdb_dbi_open(txn, "names", flags, &d->names)))
        return rc;
    for (int k = 0; k <= KIND_MAX; k++) {
        if (!kind_message((enum kind)k))
            continue;
        rc = mdb_dbi_open(txn, kind_name((enum kind)k), flags | MDB_INTEGERKEY, &d->kinds[k]);
        if (rc)
            return rc;
    }
    return 0;
}

static struct disk *disk_new(const struct disk_config *config, const uint8_t salt[SEAL_SALT])
{
    struct disk *d = mem_alloc(sizeof(*d));

    d->references = 1;
    list_init(&d->readers);
    memcpy(d->key, config->key, SEAL_KEY);
    memcpy(d->salt, salt, SEAL_SALT);
    memcpy(d->cluster, config->cluster, 16);
    d->seal = seal_new(d->key, d->salt, "store", d->cluster);
    return d;
}

static int create_tables(const struct disk_config *config, struct disk *d, struct err *e)
{
    static const struct state nothing = {.next = {[0 ... KIND_MAX] = 1}};
    MDB_val key = {sizeof(head_key) - 1, (void *)head_key}, value = {DISK_HEAD, NULL};
    MDB_txn *txn;
    int rc = mdb_txn_begin(d->env, NULL, 0, &txn);

    if (rc)
        return disk_error(e, rc, "begin");
    d->nonce_end = NONCE_RANGE; /* a salt that nobody has used */
    if ((rc = open_tables(d, txn, MDB_CREATE)) || (rc = mdb_put(txn, d->main, &key, &value, MDB_RESERVE)))
        goto failed;
    write_head(config, d, value.mv_data);
    rc = disk_write_state(d, txn, &nothing);
    if (rc)
        goto failed;
    rc = mdb_txn_commit(txn);
    return rc ? disk_error(e, rc, "commit a new file") : 0;
failed:
    mdb_txn_abort(txn);
    return disk_error(e, rc, "make a new file");
}

static int drop(struct disk *d, int rc)
{
    disk_unref(d);
    return rc;
}

int disk_create(const struct disk_config *config, const char *name, struct disk **ret, struct err *e)
{
    uint8_t salt[SEAL_SALT];

    disk_remove(config, name);
    entropy_fill(config->entropy, salt, sizeof(salt));
    struct disk *d = disk_new(config, salt);
    int rc = open_env(config, name, d, e);
    if (rc == 0)
        rc = create_tables(config, d, e);
    if (rc < 0) {
        disk_remove(config, name);
        return drop(d, rc);
    }
    *ret = d;
    return 0;
}

int disk_open(const struct disk_config *config, const char *name, const struct disk_found *found, struct disk **ret,
              struct err *e)
{
    MDB_txn *txn;

    if (found->nonce_end > NONCE_LIMIT)
        return err_set(e, ERR_IO, "store: the file's nonces are used up");
    struct disk *d = disk_new(config, found->salt);
    int rc = open_env(config, name, d, e);
    if (rc < 0)
        return drop(d, rc);
    d->nonce = d->nonce_end = found->nonce_end + entropy_below(config->entropy, NONCE_SKIP);
    memcpy(d->high, found->high, sizeof(d->high));
    rc = mdb_txn_begin(d->env, NULL, MDB_RDONLY, &txn);
    if (rc)
        return drop(d, disk_error(e, rc, "begin"));
    rc = open_tables(d, txn, 0);
    if (rc) {
        mdb_txn_abort(txn);
        return drop(d, disk_error(e, rc, "open the tables"));
    }
    rc = mdb_txn_commit(txn); /* keeps the tables' handles */
    if (rc)
        return drop(d, disk_error(e, rc, "open the tables"));
    *ret = d;
    return 0;
}

void disk_unref(struct disk *d)
{
    if (!d || --d->references > 0)
        return;
    if (d->env)
        mdb_env_close(d->env);
    seal_free(d->seal);
    mem_wipe(d, sizeof(*d));
    free(d);
}

/* --- readers --------------------------------------------------------------------------------------------- */

int disk_reader_begin(struct disk *d, struct disk_reader *r, struct err *e)
{
    int rc = mdb_txn_begin(d->env, NULL, MDB_RDONLY, &r->txn);

    if (rc)
        return disk_error(e, rc, "begin to read");
    r->disk = d;
    d->references++;
    r->seal = seal_new(d->key, d->salt, "store", d->cluster);
    pthread_mutex_init(&r->lock, NULL);
    list_push(&d->readers, &r->link);
    return 0;
}

void disk_reader_end(struct disk_reader *r)
{
    list_remove(&r->link);
    if (r->txn)
        mdb_txn_abort(r->txn);
    pthread_mutex_destroy(&r->lock);
    seal_free(r->seal);
    disk_unref(r->disk);
}
