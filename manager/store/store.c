/* See store.h. Opening and closing, and what happens when the file cannot be trusted.
 *
 * The files of this folder, from the bottom up:
 *
 *   kind row change        pure: what a message, a record and a change set are
 *   seal disk              one LMDB file with its tables, nonces, size
 *   pages verify           whether a file may be used at all
 *   store apply            its life; change sets put into it, all of a turn in one transaction
 *   view draft             reading it; planning the next change set on top of it
 *   feed                   the last change sets, in memory
 *   snapshot load          the whole state as a stream, and back
 *
 * What always holds: the records, indexes and counters in the file are those of one applied index, which stands in
 * the same transaction. There is no partial state and no repair. Whenever that is in doubt (a file that does not
 * verify, a commit that failed, a record that does not open) the file is discarded, the store is empty at index 0,
 * and its owner applies snapshot and log again.
 *
 * One process at a time: the directory is locked, because two writers would use the same nonces. */
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include "manager/store/inside.h"
#include "proto/base/file.h"
#include "proto/base/log.h"
#include "proto/base/mem.h"
#include "proto/base/siphash.h"

#define FEED_BYTES    (64u << 20)
#define RESERVE_BYTES (8u << 20) /* several times what the largest change set makes of pages */

const struct state state_empty = {.next = {[0 ... KIND_MAX] = 1}};

/* --- open and close -------------------------------------------------------------------------------------- */

static int read_boot_id(const char *given, char ret[DISK_BOOT_TEXT], struct err *e)
{
    AUTO_BUF
    struct buf text = {0};

    if (!given) {
        int rc = file_read(AT_FDCWD, "/proc/sys/kernel/random/boot_id", DISK_BOOT_TEXT, &text, e);

        if (rc < 0)
            return rc;
        given = buf_str(&text);
    }
    size_t length = strcspn(given, "\n");
    if (!length || length > DISK_BOOT_TEXT)
        return err_set(e, ERR_INVALID, "store: boot id of %zu characters", length);
    memcpy(ret, given, length);
    return 0;
}

static int lock_directory(struct store *s, struct err *e)
{
    int rc = dir_open(s->config.dir, &s->config.dir_fd, e);

    if (rc < 0)
        return err_wrap(e, "store");
    if (flock(s->config.dir_fd, LOCK_EX | LOCK_NB) < 0)
        return errno == EWOULDBLOCK
                   ? err_set(e, ERR_CONFLICT, "store: %s is in use by another process", s->config.dir)
                   : err_errno(e, "store: lock %s", s->config.dir);
    return 0;
}

static int open_file(struct store *s, struct err *e)
{
    struct disk_found found;
    struct err why = {0};

    disk_remove(&s->config, DISK_LOAD); /* of a load that did not end */
    int rc = disk_verify(&s->config, DISK_FILE, &found, &why);
    if (rc == 0)
        rc = disk_open(&s->config, DISK_FILE, &found, &s->disk, &why);
    if (rc == 0) {
        s->state = found.state;
        return 0;
    }
    if (rc != ERR_NOT_FOUND)
        log_warn("store file is discarded and will be rebuilt", "dir=%s reason=\"%s\"", s->config.dir, why.text);
    s->state = state_empty;
    return disk_create(&s->config, DISK_FILE, &s->disk, e);
}

int store_open(const struct store_config *config, struct store **ret, struct err *e)
{
    struct store *s = mem_alloc(sizeof(*s));

    s->config = (struct disk_config){
        .dir = mem_strdup(config->dir),
        .dir_fd = -1,
        .map_bytes = config->map_bytes,
        .reserve_bytes = config->reserve_bytes ? config->reserve_bytes : RESERVE_BYTES,
        .entropy = config->entropy,
    };
    memcpy(s->config.key, config->key, SEAL_KEY);
    memcpy(s->config.cluster, config->cluster, sizeof(s->config.cluster));
    list_init(&s->views);
    feed_init(&s->feed, config->feed_bytes ? config->feed_bytes : FEED_BYTES, 0);
    int rc = read_boot_id(config->boot_id, s->config.boot_id, e);
    if (rc == 0)
        rc = lock_directory(s, e);
    if (rc == 0)
        rc = open_file(s, e);
    if (rc < 0) {
        store_close(s);
        return rc;
    }
    feed_reset(&s->feed, s->state.applied);
    *ret = s;
    return 0;
}

void store_close(struct store *s)
{
    if (!s)
        return;
    assert(s->views_open == 0);
    if (s->draft)
        draft_forget(s->draft);
    if (s->load)
        store_load_cancel(s->load);
    views_free(s);
    feed_reset(&s->feed, 0);
    disk_unref(s->disk);
    if (s->config.dir_fd >= 0)
        close(s->config.dir_fd); /* and with it goes the lock */
    free((char *)s->config.dir);
    mem_wipe(s, sizeof(*s));
    free(s);
}

/* --- doubt ----------------------------------------------------------------------------------------------- */

void store_suspect(struct store *s, const char *what)
{
    if (s->failure.code)
        return;
    err_set(&s->failure, ERR_CORRUPT, "store: %s", what);
    log_error("store file is damaged and will be discarded", "dir=%s reason=\"%s\"", s->config.dir, what);
}

int store_failed(const struct store *s, struct err *e)
{
    if (s->failure.code && e)
        *e = s->failure;
    return s->failure.code;
}

void store_replace(struct store *s, struct disk *disk, const struct state *state)
{
    assert(s->views_open == 0);
    if (s->draft)
        draft_forget(s->draft);
    views_free(s);
    disk_unref(s->disk);
    s->disk = disk;
    s->state = *state;
    s->failure = (struct err){0};
    feed_reset(&s->feed, state->applied);
    if (s->draft)
        draft_moved(s->draft);
}

void store_throw_away(struct store *s, const struct err *why)
{
    struct disk *fresh = NULL;
    struct err failure = {0};

    log_error("store file is discarded and must be rebuilt", "dir=%s applied=%llu reason=\"%s\"", s->config.dir,
              (unsigned long long)s->state.applied, why->text);
    store_replace(s, NULL, &state_empty); /* closes the file first, which gives its space back */
    if (disk_create(&s->config, DISK_FILE, &fresh, &failure) < 0)
        s->failure = failure;
    s->disk = fresh;
}

/* --- what it says of itself ------------------------------------------------------------------------------ */

uint64_t store_applied(const struct store *s)
{
    return s->state.applied;
}

int64_t store_cluster_ms(const struct store *s)
{
    return s->state.cluster_ms;
}

uint64_t store_digest(const struct store *s)
{
    /* The counters belong to the state as much as the records: a manager that would number differently differs. */
    uint64_t numbers[] = {s->state.planned, (uint64_t)s->state.cluster_ms, s->state.feature_level};

    return s->state.digest + siphash(0, 0, s->state.next, sizeof(s->state.next)) +
           siphash(0, 1, numbers, sizeof(numbers));
}

uint64_t store_count(const struct store *s, enum kind k)
{
    MDB_stat stat;
    MDB_txn *txn;
    uint64_t count = 0;

    if (!s->disk || !kind_message(k) || mdb_txn_begin(s->disk->env, NULL, MDB_RDONLY, &txn))
        return 0;
    if (mdb_stat(txn, s->disk->kinds[k], &stat) == 0)
        count = stat.ms_entries;
    mdb_txn_abort(txn);
    return count;
}

int store_room(struct store *s, struct err *e)
{
    /* Without a file the next apply tries to make one, and says why it cannot. */
    return s->disk ? disk_room(s->disk, s->config.reserve_bytes, e) : 0;
}

uint64_t store_discarded(const struct store *s)
{
    return s->discarded;
}

bool store_was_discarded(const struct store *s, uint64_t index)
{
    for (uint64_t i = 0; i < MIN(s->discarded, (uint64_t)DISCARDS_KEPT); i++)
        if (s->discards[i] == index)
            return true;
    return false;
}

void store_stats(const struct store *s, struct store_stats *ret)
{
    *ret = (struct store_stats){.feed_bytes = s->feed.bytes};
    if (s->disk) {
        ret->file_bytes = disk_used_bytes(s->disk);
        ret->map_bytes = s->disk->map_bytes;
    }
}
