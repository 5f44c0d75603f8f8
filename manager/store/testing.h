/* For the tests, the fuzz targets and the benchmark of the store: a store in a directory of its own, builders of
 * objects, and the little Raft that a test needs: entries get the next index and are applied. */
#pragma once

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "manager/store/inside.h"
#include "proto/base/entropy.h"
#include "proto/base/file.h"
#include "proto/base/ident.h"
#include "proto/base/log.h"
#include "proto/base/mem.h"

#define TESTING static inline __attribute__((unused))

static const uint8_t rig_key[SEAL_KEY] = "the data key of this test's node", rig_cluster[16] = "a test's cluster";

struct rig {
    char dir[64];
    struct store *s;
    uint64_t index; /* of the last entry */
    struct entropy_seeded entropy;
    uint64_t map_bytes;
    uint64_t reserve_bytes;
    size_t feed_bytes;
    store_changed *changed; /* given to drafts and applies */
    void *ctx;
};

TESTING int rig_try_open(struct rig *r, const uint8_t *key, const uint8_t *cluster, const char *boot, struct err *e)
{
    struct store_config config = {.dir = r->dir,
                                  .key = key,
                                  .cluster = cluster,
                                  .boot_id = boot,
                                  .map_bytes = r->map_bytes,
                                  .reserve_bytes = r->reserve_bytes,
                                  .feed_bytes = r->feed_bytes,
                                  .entropy = &r->entropy.base};
    int rc = store_open(&config, &r->s, e);

    if (rc == 0)
        r->index = store_applied(r->s);
    return rc;
}

TESTING void rig_open(struct rig *r)
{
    struct err e = {0};
    int rc = rig_try_open(r, rig_key, rig_cluster, "this-boot", &e);

    if (rc < 0)
        fail_msg("open: %s", e.text);
}

TESTING void rig_close(struct rig *r)
{
    store_close(r->s);
    r->s = NULL;
}

/* A directory on a tmpfs, so that no disk is worn. */
TESTING void rig_init(struct rig *r)
{
    *r = (struct rig){0};
    log_set_level(LOG_LEVEL_ERROR + 1); /* damage made on purpose needs no lines */
    entropy_seeded_init(&r->entropy, 1);
    (void)snprintf(r->dir, sizeof(r->dir), "/dev/shm/shoal-store-XXXXXX");
    if (access("/dev/shm", W_OK) < 0)
        (void)snprintf(r->dir, sizeof(r->dir), "/tmp/shoal-store-XXXXXX");
    assert_non_null(mkdtemp(r->dir));
}

TESTING void rig_start(struct rig *r)
{
    rig_init(r);
    rig_open(r);
}

TESTING void rig_stop(struct rig *r)
{
    char *name = strrchr(r->dir, '/');
    int fd;

    store_close(r->s);
    *name = '\0';
    assert_int_equal(dir_open(r->dir, &fd, NULL), 0);
    assert_int_equal(tree_remove(fd, name + 1, NULL), 0);
    close(fd);
}

TESTING int rig_apply(struct rig *r, const void *data, size_t size, struct err *e)
{
    struct store_entry entry = {.index = r->index + 1, .data = data, .size = size};
    int rc = store_apply(r->s, &entry, 1, r->changed, r->ctx, e);

    if (rc == 0)
        r->index++;
    return rc;
}

TESTING struct draft *rig_draft(struct rig *r)
{
    return draft_begin(r->s, (int64_t)(1700000000000 + r->index * 1000), r->changed, r->ctx);
}

/* Pack, propose, apply. */
TESTING void rig_commit(struct rig *r, struct draft *d)
{
    AUTO_BUF
    struct buf set = {0};
    struct err e = {0};

    draft_pack(d, &set);
    draft_end(d, true);
    if (rig_apply(r, buf_bytes(&set), set.length, &e) < 0)
        fail_msg("apply: %s", e.text);
}

/* --- objects --------------------------------------------------------------------------------------------- */

/* An id that is `n` in its first bytes, so that prefixes differ. */
TESTING uint8_t *id_of(uint64_t n)
{
    static uint8_t ids[16][16];
    static int at;
    uint8_t *id = ids[at++ % 16];

    memset(id, 0, 16);
    for (int i = 0; i < 8; i++)
        id[i] = (uint8_t)((n * 0x9e3779b97f4a7c15u) >> (56 - 8 * i));
    id[15] = (uint8_t)n;
    return id;
}

#define ID(n)                       \
    (ProtobufCBinaryData)           \
    {                               \
        .len = 16, .data = id_of(n) \
    }

TESTING uint64_t put_service(struct draft *d, uint64_t id, const char *name)
{
    Service m = SERVICE__INIT;

    m.id = ID(id);
    m.name = (char *)name;
    m.spec_version = 1;
    return draft_create(d, KIND_SERVICE, &m.base);
}

TESTING uint64_t put_node(struct draft *d, uint64_t id, const char *hostname)
{
    NodeDescription description = NODE_DESCRIPTION__INIT;
    Node m = NODE__INIT;

    description.hostname = (char *)hostname;
    m.id = ID(id);
    m.description = &description;
    return draft_create(d, KIND_NODE, &m.base);
}

TESTING uint64_t put_network(struct draft *d, uint64_t id, const char *name)
{
    NetworkSpec spec = NETWORK_SPEC__INIT;
    Network m = NETWORK__INIT;

    spec.name = (char *)name;
    m.id = ID(id);
    m.spec = &spec;
    return draft_create(d, KIND_NETWORK, &m.base);
}

TESTING Task a_task(uint64_t id, uint64_t service, uint64_t slot)
{
    Task m = TASK__INIT;

    m.id = ID(id);
    m.service = service;
    m.spec_version = 1;
    m.has_slot = true;
    m.slot = slot;
    m.desired_state = TASK_STATE__RUNNING;
    return m;
}

TESTING uint64_t put_task(struct draft *d, uint64_t id, uint64_t service, uint64_t slot)
{
    Task m = a_task(id, service, slot);

    return draft_create(d, KIND_TASK, &m.base);
}

TESTING void put_status(struct draft *d, uint64_t task, TaskState state, const char *text)
{
    Status m = STATUS__INIT;

    m.state = state;
    m.message = (char *)text;
    draft_put(d, KIND_STATUS, task, &m.base);
}

/* --- reading --------------------------------------------------------------------------------------------- */

/* Everything a store shows, as text of one line per record, to compare two. */
TESTING void dump(struct store *s, struct buf *out)
{
    struct view *v = view_begin(s);

    for (int k = 0; k <= KIND_MAX; k++)
        for (uint64_t n = 0; (n = view_next(v, (enum kind)k, n));) {
            const void *data;
            size_t size;
            struct object o;
            int rc = view_get_packed(v, (enum kind)k, n, &data, &size, &o);

            assert_int_equal(rc, 0);
            buf_printf(out, "%s %llu version %llu created %lld updated %lld:", kind_name((enum kind)k),
                       (unsigned long long)n, (unsigned long long)o.version, (long long)o.created_ms,
                       (long long)o.updated_ms);
            hex_encode(data, size, buf_reserve(out, 2 * size + 1));
            buf_added(out, 2 * size);
            buf_append_char(out, '\n');
        }
    view_end(v);
    for (int k = 0; k <= KIND_MAX; k++)
        buf_printf(out, "next %d %llu\n", k, (unsigned long long)s->state.next[k]);
    buf_printf(out, "applied %llu ms %lld digest %016llx\n", (unsigned long long)store_applied(s),
               (long long)store_cluster_ms(s), (unsigned long long)store_digest(s));
}

TESTING void assert_same_store(struct store *a, struct store *b)
{
    AUTO_BUF
    struct buf x = {0}, y = {0};

    dump(a, &x);
    dump(b, &y);
    assert_string_equal(buf_str(&x), buf_str(&y));
    buf_fini(&y);
}

/* --- a log to apply -------------------------------------------------------------------------------------- */

/* Change sets that a log would hold, and the digest after each. */
struct history {
    struct buf *sets;
    uint64_t *digests; /* [i] after i entries */
    size_t count;
};

TESTING void put_some(struct draft *d, uint64_t i)
{
    char name[32];
    uint64_t last = 0;

    for (uint64_t k = 0; k < 5; k++) {
        last = put_task(d, i * 10 + k, 1, k);
        put_status(d, last, TASK_STATE__NEW, "created");
    }
    if (last > 50) {
        put_status(d, last - 40, TASK_STATE__RUNNING, "started, and with a longer text than before");
        draft_delete(d, KIND_TASK, last - 50);
    }
    (void)snprintf(name, sizeof(name), "svc-%llu", (unsigned long long)i);
    (void)put_service(d, i, name);
    (void)put_node(d, i, "host");
    if (i % 16 == 3) {
        static uint8_t body[6000]; /* overflow pages */
        Request m = REQUEST__INIT;

        m.id = ID(i);
        m.has_body = true;
        m.body = (ProtobufCBinaryData){.len = sizeof(body), .data = body};
        (void)draft_create(d, KIND_REQUEST, &m.base);
    }
}

TESTING void history_make(struct history *h, size_t count)
{
    struct rig r;

    *h = (struct history){mem_array(count, sizeof(*h->sets)), mem_array(count + 1, sizeof(*h->digests)), count};
    rig_start(&r);
    h->digests[0] = store_digest(r.s);
    for (size_t i = 0; i < count; i++) {
        struct draft *d = rig_draft(&r);

        put_some(d, i);
        draft_pack(d, &h->sets[i]);
        draft_end(d, true);
        assert_int_equal(rig_apply(&r, buf_bytes(&h->sets[i]), h->sets[i].length, NULL), 0);
        h->digests[i + 1] = store_digest(r.s);
    }
    rig_stop(&r);
}

TESTING void history_fini(struct history *h)
{
    for (size_t i = 0; i < h->count; i++)
        buf_fini(&h->sets[i]);
    free(h->sets);
    free(h->digests);
}

TESTING int apply_up_to(struct rig *r, const struct history *h, size_t index, struct err *e)
{
    int rc = 0;

    while (rc == 0 && r->index < index)
        rc = rig_apply(r, buf_bytes(&h->sets[r->index]), h->sets[r->index].length, e);
    return rc;
}

/* The store is the state of its applied index, in every respect, and can go on to the end. */
TESTING void assert_sound(struct rig *r, const struct history *h)
{
    AUTO_BUF
    struct buf text = {0};
    struct err e = {0};

    assert_true(r->index <= h->count);
    assert_true(store_digest(r->s) == h->digests[r->index]);
    dump(r->s, &text); /* reads everything */
    assert_int_equal(store_failed(r->s, &e), 0);
}

TESTING void path_of(const struct rig *r, const char *name, char ret[128])
{
    (void)snprintf(ret, 128, "%s/%s", r->dir, name);
}
