/* Change sets come from other managers and from the log. The first byte says how the rest is meant: as a whole
 * change set, or as what follows a head that fits the store, so that the fuzzer gets past it. What is applied must
 * leave a file that passes when it is opened again. */
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "manager/store/change.h"
#include "manager/store/inside.h"
#include "proto/base/file.h"
#include "proto/base/log.h"
#include "proto/base/mem.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define ENTRIES 200 /* then the file is opened again, and at last made anew */

static char dir[] = "/dev/shm/shoal-fuzz-XXXXXX";
static struct store *s;
static struct entropy_seeded entropy;
static uint64_t entries;

static void clean(void)
{
    char *name = strrchr(dir, '/');
    int fd;

    store_close(s);
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

static void start(void)
{
    log_set_level(LOG_LEVEL_ERROR + 1);
    entropy_seeded_init(&entropy, 1);
    if (!mkdtemp(dir))
        abort();
    atexit(clean);
    open_store();
}

static void changed(void *ctx, uint64_t index, const struct object *before, const struct object *after)
{
    const struct object *o = after ? after : before;

    if (!o || !o->message || o->message->descriptor != kind_message(o->kind))
        abort();
}

static void apply(const void *data, size_t size)
{
    struct store_entry entry = {.index = store_applied(s) + 1, .data = data, .size = size};
    struct err e;
    int rc = store_apply(s, &entry, 1, changed, NULL, &e);

    if (rc != 0 && rc != ERR_CORRUPT)
        abort(); /* no bytes are an I/O error */
    if (rc == 0 && ++entries % ENTRIES == 0) {
        uint64_t index = store_applied(s), digest = store_digest(s);

        store_close(s);
        open_store();
        if (store_applied(s) != index || store_digest(s) != digest)
            abort();
        if (entries % (ENTRIES * 20) == 0)
            store_throw_away(s, &(struct err){0}); /* begin anew, small */
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    AUTO_BUF
    struct buf set = {0};

    if (!s)
        start();
    if (size == 0)
        return 0;
    if (data[0] % 2)
        change_set_begin(&set, s->state.planned, s->state.cluster_ms + 1);
    buf_append(&set, data + 1, size - 1);
    if (set.length)
        apply(buf_bytes(&set), set.length);
    return 0;
}
