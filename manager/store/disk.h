/* One LMDB file of the store: its tables, its sealing, its size (DESIGN.md section 5).
 *
 * Private to manager/store. The store holds one; a snapshot that is being read holds a reference as well, so that a
 * file that was replaced meanwhile lives until it has been read. Functions that take a transaction return LMDB's
 * codes, because MDB_MAP_FULL means "grow and try again"; the others return ours. All on one thread, but for
 * disk_reader. */
#pragma once

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include <lmdb.h>

#include "manager/store/kind.h"
#include "manager/store/seal.h"
#include "manager/store/store.h"
#include "proto/base/entropy.h"
#include "proto/base/list.h"

#define DISK_SCHEMA    1 /* of what is inside the tables; a file of another one is discarded */
#define DISK_FILE      "store.mdb"
#define DISK_LOAD      "store.load" /* where a snapshot is loaded, until it replaces the file */
#define DISK_LOCK      "-lock"      /* what LMDB appends for its table of readers */
#define DISK_BOOT_TEXT 40           /* bytes of a boot id, zero-padded */
#define DISK_HEAD      100          /* bytes of the head record */
#define DISK_OVERHEAD  24           /* bytes a sealed value is longer than its contents: nonce, tag */
#define DISK_NUMBER    8            /* bytes of a number at the end of an index key */
#define DISK_ID_KEY    (1 + KIND_ID_BYTES + DISK_NUMBER)
#define DISK_NAME_KEY  (16 + DISK_NUMBER)

/* What changes with every entry, beside the records; the same on every manager at the same index. */
struct state {
    uint64_t applied;            /* index of the last entry */
    uint64_t planned;            /* index of the last change set that was not discarded: what a draft builds on */
    int64_t cluster_ms;          /* of that change set */
    uint32_t feature_level;      /* highest that a change set needed */
    uint64_t digest;             /* sum of row_hash over all records */
    uint64_t next[KIND_MAX + 1]; /* number of the next object, per kind */
};

struct disk_config {
    const char *dir; /* borrowed by the disk */
    int dir_fd;
    uint8_t key[SEAL_KEY], cluster[16];
    char boot_id[DISK_BOOT_TEXT];
    uint64_t map_bytes;
    uint64_t reserve_bytes;
    struct entropy *entropy;
};

/* A file as disk_verify found it, for disk_open. */
struct disk_found {
    uint8_t salt[SEAL_SALT];
    struct state state;
    uint64_t nonce_end;
    uint64_t high[KIND_MAX + 1];
};

struct disk {
    int references;
    MDB_env *env;
    MDB_dbi main, ids, names, kinds[KIND_MAX + 1];
    uint8_t key[SEAL_KEY], salt[SEAL_SALT], cluster[16]; /* to make a seal for another thread */
    struct seal *seal;                                   /* of the loop's thread */
    uint64_t nonce;                                      /* next to use */
    uint64_t nonce_end;                                  /* reserved up to here, by a committed transaction */
    uint64_t high[KIND_MAX + 1];                         /* no record lies above this number */
    uint64_t map_bytes;
    uint64_t room_end;   /* the file system has given blocks up to here */
    struct list readers; /* disk_reader.link */
};

/* A new, empty file under `name`, replacing what is there. */
int disk_create(const struct disk_config *config, const char *name, struct disk **ret, struct err *e);
/* Open a file that disk_verify passed. */
int disk_open(const struct disk_config *config, const char *name, const struct disk_found *found, struct disk **ret,
              struct err *e);
/* Check a file whole, without LMDB: its pages, head, every record, indexes, digest. A code says why it cannot be
 * used; ERR_NOT_FOUND: there is none. */
int disk_verify(const struct disk_config *config, const char *name, struct disk_found *ret, struct err *e);
/* Put the file `from` (open) in the place of DISK_FILE. */
int disk_rename(const struct disk_config *config, const char *from, struct err *e);
void disk_remove(const struct disk_config *config, const char *name); /* file and lock; absent is fine */
void disk_unref(struct disk *d);                                      /* NULL is fine */

/* Text for an LMDB code; returns ERR_IO. */
int disk_error(struct err *e, int mdb, const char *doing);

/* Make sure that `need` values can be sealed; may commit a transaction of its own, so none may be open. */
int disk_reserve(struct disk *d, const struct state *state, uint64_t need, struct err *e);
/* Let the map grow to at least `bytes`, by doubling. No transaction may be open; readers lose theirs if it grows.
 */
int disk_grow(struct disk *d, uint64_t bytes, struct err *e);
uint64_t disk_used_bytes(const struct disk *d);
/* Have blocks for at least half of `reserve` bytes behind what is used. ERR_UNAVAILABLE: the disk is full. */
int disk_room(struct disk *d, uint64_t reserve, struct err *e);

/* Values. The place (table and number) is bound to the contents. */
void disk_seal(struct disk *d, unsigned table, uint64_t number, const void *data, size_t size, uint8_t *out);
bool disk_unseal(struct seal *seal, unsigned table, uint64_t number, const MDB_val *value, uint8_t *out);
int disk_write_state(struct disk *d, MDB_txn *txn, const struct state *state);

/* Index keys; for the first `size` bytes, without the number, use the size less DISK_NUMBER. */
void disk_id_key(enum kind k, const uint8_t id[KIND_ID_BYTES], uint64_t number, uint8_t ret[DISK_ID_KEY]);
void disk_name_key(struct seal *seal, enum kind k, const char *name, size_t length, uint64_t number,
                   uint8_t ret[DISK_NAME_KEY]);
uint64_t disk_key_number(const MDB_val *key); /* the number at the end of an index key */

/* Head and state as they lie on disk; shared with disk_verify. */
void disk_key_check(struct seal *seal, uint8_t ret[SEAL_TAG]);
bool disk_read_state(struct seal *seal, const MDB_val *value, struct state *ret, uint64_t *ret_nonce_end);

/* A stable state read from one other thread. begin and end on the loop; `lock` is held while reading, `txn` is NULL
 * once the file had to grow under it. */
struct disk_reader {
    struct list link;
    struct disk *disk; /* a reference */
    struct seal *seal; /* the reading thread's own */
    pthread_mutex_t lock;
    MDB_txn *txn;
};
int disk_reader_begin(struct disk *d, struct disk_reader *r, struct err *e);
void disk_reader_end(struct disk_reader *r);
