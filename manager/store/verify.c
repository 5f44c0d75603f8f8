/* A store's file is checked before it is used: whole, and without LMDB (pages.h).
 *
 * The file is written without fsync and may be of another boot, cut, flipped, or from another key or cluster.
 * Opening asks one question: is this exactly the state of one applied index? Yes means that the pages are sound,
 * the head is ours, every record opens under the key at its place, the records' digest is the one that the state
 * tells, and the indexes hold exactly what the records say. Anything else is a reason to discard the file, which
 * costs nothing but time: snapshot and log make it anew.
 *
 * All of it is one sequential pass. Two sums that do not depend on order, one over the keys that the records ask
 * for and one over the keys that are there, compare the indexes without a look-up. The cost, about a microsecond
 * per record, is of the order of what the planners' indexes take to be built from the same records at the same
 * moment; so it is paid at every opening, and no record is ever trusted unseen. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "manager/store/disk.h"
#include "manager/store/pages.h"
#include "manager/store/row.h"
#include "proto/base/buf.h"
#include "proto/base/mem.h"
#include "proto/base/siphash.h"

struct verify {
    const struct disk_config *config;
    struct disk_found *found;
    enum kind kinds[KIND_MAX + 3]; /* of each table; 0 for the indexes */
    struct seal *seal;             /* NULL until the head was seen */
    bool has_state;
    uint64_t digest;
    uint64_t ids_wanted, ids_found, names_wanted, names_found; /* sums over index keys */
    struct buf scratch;
};

static uint64_t key_hash(const void *key, size_t size)
{
    return siphash(0, 0, key, size);
}

static int verify_head(struct verify *v, const struct pages_record *r, struct err *e)
{
    const struct disk_config *config = v->config;
    uint8_t check[SEAL_TAG];
    uint32_t schema;

    if (r->data_size != DISK_HEAD || memcmp(r->data, "shoalmdb", 8) != 0)
        return err_set(e, ERR_CORRUPT, "it is no store of ours");
    memcpy(&schema, r->data + 8, 4);
    if (schema != DISK_SCHEMA)
        return err_set(e, ERR_CORRUPT, "its schema is %u, ours %d", schema, DISK_SCHEMA);
    if (memcmp(r->data + 12, config->cluster, 16) != 0)
        return err_set(e, ERR_CORRUPT, "it belongs to another cluster");
    if (memcmp(r->data + 44, config->boot_id, DISK_BOOT_TEXT) != 0)
        return err_set(e, ERR_CORRUPT, "it is from another boot of this machine");
    memcpy(v->found->salt, r->data + 28, SEAL_SALT);
    v->seal = seal_new(config->key, v->found->salt, "store", config->cluster);
    disk_key_check(v->seal, check);
    if (memcmp(check, r->data + 84, SEAL_TAG) != 0)
        return err_set(e, ERR_CORRUPT, "it was written under another key");
    return 0;
}

static int verify_main(struct verify *v, const struct pages_record *r, struct err *e)
{
    MDB_val value = {r->data_size, (void *)r->data};

    if (r->key_size == 4 && memcmp(r->key, "head", 4) == 0)
        return verify_head(v, r, e);
    if (r->key_size == 5 && memcmp(r->key, "state", 5) == 0 && v->seal) { /* keys ascend: the head came before */
        v->has_state = disk_read_state(v->seal, &value, &v->found->state, &v->found->nonce_end);
        return v->has_state ? 0 : err_set(e, ERR_CORRUPT, "its state does not open");
    }
    return err_set(e, ERR_CORRUPT, "an unknown entry in its main table");
}

static int verify_record(struct verify *v, enum kind k, const struct pages_record *r, struct err *e)
{
    MDB_val value = {r->data_size, (void *)r->data};
    uint8_t id_key[DISK_ID_KEY], name_key[DISK_NAME_KEY];
    struct row record;
    size_t length;
    const char *name;
    uint64_t number;

    memcpy(&number, r->key, 8);
    buf_clear(&v->scratch);
    uint8_t *plain = (uint8_t *)buf_reserve(&v->scratch, r->data_size);
    if (!disk_unseal(v->seal, (unsigned)k, number, &value, plain) ||
        !row_read(plain, r->data_size - DISK_OVERHEAD, &record))
        return err_set(e, ERR_CORRUPT, "%s %llu does not open", kind_name(k), (unsigned long long)number);
    v->digest += row_hash(k, number, plain, r->data_size - DISK_OVERHEAD);
    v->found->high[k] = number;
    if (kind_has_id(k)) {
        const uint8_t *id = kind_id_of(k, record.message, record.message_size);

        if (!id)
            return err_set(e, ERR_CORRUPT, "%s %llu has no id", kind_name(k), (unsigned long long)number);
        disk_id_key(k, id, number, id_key);
        v->ids_wanted += key_hash(id_key, sizeof(id_key));
    }
    if (kind_name_of(k, record.message, record.message_size, &name, &length)) {
        disk_name_key(v->seal, k, name, length, number, name_key);
        v->names_wanted += key_hash(name_key, sizeof(name_key));
    }
    return 0;
}

static int verify_each(void *ctx, const struct pages_record *r, struct err *e)
{
    struct verify *v = ctx;

    if (r->table < 0)
        return verify_main(v, r, e);
    if (!v->has_state)
        return err_set(e, ERR_CORRUPT, "its head or state is missing");
    if (v->kinds[r->table])
        return verify_record(v, v->kinds[r->table], r, e);
    if (r->table == 0)
        v->ids_found += key_hash(r->key, r->key_size);
    else
        v->names_found += key_hash(r->key, r->key_size);
    return r->data_size ? err_set(e, ERR_CORRUPT, "an entry of an index has contents") : 0;
}

static int verify_sums(const struct verify *v, struct err *e)
{
    const struct state *s = &v->found->state;

    if (!v->has_state)
        return err_set(e, ERR_CORRUPT, "its head or state is missing");
    if (v->digest != s->digest)
        return err_set(e, ERR_CORRUPT, "its records' digest is %016llx, its state tells %016llx",
                       (unsigned long long)v->digest, (unsigned long long)s->digest);
    if (v->ids_wanted != v->ids_found)
        return err_set(e, ERR_CORRUPT, "its index of ids does not fit its records");
    if (v->names_wanted != v->names_found)
        return err_set(e, ERR_CORRUPT, "its index of names does not fit its records");
    for (int k = 0; k <= KIND_MAX; k++)
        if (kind_has_numbers((enum kind)k) && v->found->high[k] >= s->next[k])
            return err_set(e, ERR_CORRUPT, "%s %llu lies above its counter", kind_name((enum kind)k),
                           (unsigned long long)v->found->high[k]);
    return 0;
}

int disk_verify(const struct disk_config *config, const char *name, struct disk_found *ret, struct err *e)
{
    struct pages_table tables[KIND_MAX + 3] = {{"ids", 0}, {"names", 0}};
    struct disk_found found = {0};
    struct verify v = {.config = config, .found = &found};
    size_t count = 2;

    AUTO_CLOSE
    int fd = openat(config->dir_fd, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0 && errno == ENOENT)
        return err_set(e, ERR_NOT_FOUND, "there is no %s", name);
    if (fd < 0)
        return err_errno(e, "open %s", name);
    for (int k = 0; k <= KIND_MAX; k++)
        if (kind_message((enum kind)k)) {
            v.kinds[count] = (enum kind)k;
            tables[count++] = (struct pages_table){kind_name((enum kind)k), MDB_INTEGERKEY};
        }
    int rc = pages_check(fd, tables, count, verify_each, &v, e);
    if (rc == 0)
        rc = verify_sums(&v, e);
    seal_free(v.seal);
    if (v.scratch.data)
        mem_wipe(v.scratch.data, v.scratch.capacity);
    buf_fini(&v.scratch);
    if (rc == 0)
        *ret = found;
    return rc;
}
