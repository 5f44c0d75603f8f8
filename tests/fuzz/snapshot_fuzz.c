/* Snapshots come from other managers. The first byte says how the rest is meant: as a whole stream, as what follows
 * a good head, or as edits (place, byte) of a good stream. It comes to the store in pieces of a size that the
 * second byte gives. Whatever is loaded must be what its head told, and pass when it is opened again. */
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "manager/store/stream.h"
#include "proto/base/buf.h"
#include "proto/base/file.h"
#include "proto/base/log.h"
#include "proto/base/mem.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define HEAD_BYTES (STREAM_MAGIC_BYTES + STREAM_HEADER + STREAM_HEAD_NUMBERS * 8)

static char dir[] = "/dev/shm/shoal-fuzz-XXXXXX";
static struct store *s;
static struct entropy_seeded entropy;
static struct buf good;

static void clean(void)
{
    char *name = strrchr(dir, '/');
    int fd;

    store_close(s);
    buf_fini(&good);
    *name = '\0';
    if (dir_open(dir, &fd, NULL) == 0) {
        (void)tree_remove(fd, name + 1, NULL); /* nothing else can be done about it */
        close(fd);
    }
}

static void open_store(void)
{
    static const uint8_t key[SEAL_KEY] = {1}, cluster[16] = {2};
    struct store_config config = {.dir = dir, .key = key, .cluster = cluster, .entropy = &entropy.base};

    if (store_open(&config, &s, NULL) < 0)
        abort();
}

static void put_objects(void)
{
    struct draft *d = draft_begin(s, 1000, NULL, NULL);
    struct buf set = {0};
    uint8_t id[16] = {1};

    for (int i = 0; i < 5; i++) {
        Service service = SERVICE__INIT;
        Task task = TASK__INIT;
        Status status = STATUS__INIT;

        id[15] = (uint8_t)i;
        service.id = task.id = (ProtobufCBinaryData){.len = sizeof(id), .data = id};
        service.name = (char *)"web";
        (void)draft_create(d, KIND_SERVICE, &service.base);
        draft_put(d, KIND_STATUS, draft_create(d, KIND_TASK, &task.base), &status.base);
    }
    draft_pack(d, &set);
    draft_end(d, true);
    struct store_entry entry = {.index = 7, .data = buf_bytes(&set), .size = set.length};
    if (store_apply(s, &entry, 1, NULL, NULL, NULL) < 0)
        abort();
    buf_fini(&set);
}

static void start(void)
{
    long got;

    log_set_level(LOG_LEVEL_ERROR + 1);
    entropy_seeded_init(&entropy, 1);
    if (!mkdtemp(dir))
        abort();
    atexit(clean);
    open_store();
    put_objects();
    struct store_snapshot *p = store_snapshot_begin(s);
    while ((got = store_snapshot_read(p, buf_reserve(&good, 4096), 4096, NULL)) > 0)
        buf_added(&good, (size_t)got);
    if (got < 0)
        abort();
    store_snapshot_end(p);
}

static void load(const struct buf *stream, size_t piece)
{
    struct store_load *l = store_load_begin(s);
    struct err e;
    int rc = 0;

    for (size_t at = 0; at < stream->length && rc == 0; at += piece)
        rc = store_load_add(l, buf_bytes(stream) + at, MIN(piece, stream->length - at), &e);
    if (rc == 0)
        rc = store_load_end(l, &e);
    else
        store_load_cancel(l);
    if (rc != 0 && rc != ERR_CORRUPT)
        abort(); /* no bytes are an I/O error */
    if (rc < 0)
        return;
    uint64_t index = store_applied(s), digest = store_digest(s);
    store_close(s);
    open_store();
    if (store_applied(s) != index || store_digest(s) != digest)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    AUTO_BUF
    struct buf stream = {0};

    if (!s)
        start();
    if (size < 2)
        return 0;
    if (data[0] % 3 == 2) {
        buf_append(&stream, buf_bytes(&good), good.length);
        for (size_t i = 2; i + 3 <= size; i += 3)
            buf_bytes(&stream)[(data[i] | data[i + 1] << 8) % stream.length] = (char)data[i + 2];
    } else {
        if (data[0] % 3 == 1)
            buf_append(&stream, buf_bytes(&good), HEAD_BYTES);
        buf_append(&stream, data + 2, size - 2);
    }
    load(&stream, 1 + data[1] % 200);
    return 0;
}
