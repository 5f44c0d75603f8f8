/* For tests of several managers on one loop: each has a certificate, a port, links, and a replica when it wants
 * one, whose store is a sum over what was applied. */
#pragma once

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <uv.h>

#include "manager/raft/env.h"
#include "manager/raft/links.h"
#include "manager/raft/member.h"
#include "manager/raft/replica.h"
#include "proto/base/file.h"
#include "proto/base/log.h"
#include "proto/base/mem.h"
#include "proto/wire/methods.h"
#include "proto/wire/rpc.h"
#include "proto/wire/rpc_test_certs.h"

#define GROUP_CLUSTER     "0cluster0cluster0cluster0"
#define GROUP_PATIENCE_MS 60000 /* for machines that are busy */
#define GROUP_MAX         5
#define GROUP_PADDING     (1200 << 10) /* bytes of a snapshot that mean nothing */

struct group;

struct member {
    struct group *group;
    uint64_t id, epoch;
    unsigned feature_level;
    uint64_t segment_bytes;     /* 0: 256 KiB */
    const char *cluster, *role; /* of its certificate; NULL: as it should be */
    char node_id[IDENT_TEXT + 1];
    char dir[96], address[64];
    struct test_node node;
    struct tls *tls;
    struct rpc_server *server;
    struct links *links;
    struct replica_env *env;
    struct replica *replica;
    uint64_t applied, sum;
    enum replica_state state;
    unsigned restores, snapshots, messages, gone, removed, closed;
    uint64_t gone_id;
    int refuse; /* code for whoever wants to link to it; 0: none */
    struct err fatal;
};

struct group {
    uv_loop_t loop;
    uv_timer_t tick;
    struct test_ca ca;
    char dir[64];
    struct member members[GROUP_MAX + 1]; /* by id; 0 is not used */
    unsigned done, failed;
    int last_code;
};

static const uint8_t group_key[SEAL_KEY] = {1}, group_cluster[16] = {5};

static inline void group_on_tick(uv_timer_t *t)
{
    (void)t; /* its coming is enough */
}

static inline void group_open(struct group *g)
{
    memset(g, 0, sizeof(*g));
    assert_int_equal(uv_loop_init(&g->loop), 0);
    assert_int_equal(uv_timer_init(&g->loop, &g->tick), 0);
    assert_int_equal(uv_timer_start(&g->tick, group_on_tick, 2, 2), 0);
    test_ca_init(&g->ca);
    (void)snprintf(g->dir, sizeof(g->dir), "/tmp/shoal-group-XXXXXX");
    assert_non_null(mkdtemp(g->dir));
    for (uint64_t id = 1; id <= GROUP_MAX; id++) {
        struct member *m = &g->members[id];

        m->group = g;
        m->id = id;
        (void)snprintf(m->node_id, sizeof(m->node_id), "0manager0manager0manager%d", (int)id);
        (void)snprintf(m->dir, sizeof(m->dir), "%s/%d", g->dir, (int)id);
    }
}

/* For who looks at a failure. */
static inline void group_print(const struct group *g)
{
    for (uint64_t id = 1; id <= GROUP_MAX; id++) {
        const struct member *m = &g->members[id];
        struct links_stats s = {0};

        if (m->links)
            links_stats(m->links, &s);
        if (m->replica)
            print_message("%d: state %d term %d leader %d applied %d commit %d last %d restores %u fatal \"%s\" "
                          "links %u/%u sent %d received %d dropped %d dials %d refused %d/%d\n",
                          (int)id, (int)m->state, (int)replica_term(m->replica),
                          (int)replica_leader(m->replica, NULL), (int)m->applied,
                          (int)replica_commit_index(m->replica), (int)replica_last_index(m->replica), m->restores,
                          m->fatal.text, s.dialed, s.accepted, (int)s.sent, (int)s.received, (int)s.dropped,
                          (int)s.dials, (int)s.refused, (int)s.refusals);
    }
}

/* Turn the loop until the condition holds. */
#define group_until(g, condition)                                                  \
    do {                                                                           \
        uint64_t give_up_ = uv_now(&(g)->loop) + GROUP_PATIENCE_MS;                \
        while (!(condition)) {                                                     \
            uv_run(&(g)->loop, UV_RUN_ONCE);                                       \
            if (uv_now(&(g)->loop) > give_up_) {                                   \
                group_print(g);                                                    \
                fail_msg("line %d: waited in vain for: %s", __LINE__, #condition); \
            }                                                                      \
        }                                                                          \
    } while (0)

static inline void group_rest(struct group *g, unsigned ms)
{
    uint64_t end = uv_now(&g->loop) + ms;

    while (uv_now(&g->loop) < end)
        uv_run(&g->loop, UV_RUN_ONCE);
}

/* --- port and links ------------------------------------------------------------------------------- */

static inline void member_on_raft(void *ctx, struct rpc_stream *s, const struct rpc_identity *peer,
                                  const void *message, size_t size)
{
    links_on_open(((struct member *)ctx)->links, s, peer, message, size);
}

static const struct rpc_method member_methods[] = {
    {METHOD_RAFT, "raft", RPC_ROLE_MANAGER, METHOD_RAFT_BYTES_MAX, .streams_max = 1, .on_open = member_on_raft,
     .credit_bytes = METHOD_RAFT_CREDIT},
};

static inline int member_check(void *ctx, uint64_t id, const char *node_id, struct err *e)
{
    struct member *m = ctx;

    return m->refuse ? err_set(e, m->refuse, "manager %llu is not node %s", (unsigned long long)id, node_id) : 0;
}

static inline void member_listen(struct member *m)
{
    struct group *g = m->group;
    struct test_cert cert = {
        .cn = m->node_id, .ou = m->role ? m->role : "swarm-manager", .o = m->cluster ? m->cluster : GROUP_CLUSTER};
    struct err e;

    if (!m->tls) {
        test_issue(&g->ca, &cert, &m->node);
        assert_int_equal(tls_new(m->node.cert_pem, m->node.key_pem, g->ca.pem, &m->tls, &e), 0);
    }
    assert_int_equal(rpc_server_open(&g->loop, m->tls, member_methods, ARRAY_SIZE(member_methods), m, NULL, NULL,
                                     &m->server, &e),
                     0);
    if (rpc_server_listen(m->server, *m->address ? m->address : "127.0.0.1:0", &e) < 0)
        fail_msg("%s", e.text);
    (void)snprintf(m->address, sizeof(m->address), "127.0.0.1:%d", rpc_server_port(m->server));
    struct links_config config = {.loop = &g->loop,
                                  .clock = clock_real(),
                                  .entropy = entropy_real(),
                                  .tls = m->tls,
                                  .cluster_id = m->cluster ? m->cluster : GROUP_CLUSTER,
                                  .address = m->address,
                                  .id = m->id,
                                  .epoch = m->epoch,
                                  .feature_level = m->feature_level,
                                  .ctx = m,
                                  .check = member_check};
    m->links = links_new(&config);
}

static inline void member_on_closed(void *ctx)
{
    ((struct member *)ctx)->closed++;
}

static inline void member_close_server(struct member *m)
{
    m->closed = 0;
    rpc_server_close(m->server, member_on_closed, m);
    group_until(m->group, m->closed == 1);
    m->server = NULL;
}

static inline void member_close_links(struct member *m)
{
    m->closed = 0;
    links_close(m->links, member_on_closed, m);
    group_until(m->group, m->closed == 1);
    m->links = NULL;
}

/* As a manager does: port, replica, links. */
static inline void member_close(struct member *m)
{
    if (m->server)
        member_close_server(m);
    if (m->replica) {
        m->state = REPLICA_FOLLOWER;
        m->closed = 0;
        replica_close(m->replica, member_on_closed, m);
        group_until(m->group, m->closed == 1);
        replica_env_real_free(m->env);
        m->replica = NULL;
        m->env = NULL;
    }
    if (m->links)
        member_close_links(m);
}

static inline void group_close(struct group *g)
{
    for (uint64_t id = 1; id <= GROUP_MAX; id++) {
        struct member *m = &g->members[id];

        member_close(m);
        tls_unref(m->tls);
        test_node_fini(&m->node);
    }
    uv_close((uv_handle_t *)&g->tick, NULL);
    uv_run(&g->loop, UV_RUN_DEFAULT);
    assert_int_equal(uv_loop_close(&g->loop), 0); /* nothing was left open */
    test_ca_fini(&g->ca);
    (void)tree_remove(AT_FDCWD, g->dir, NULL); /* else /tmp keeps it */
}

/* --- replica -------------------------------------------------------------------------------------- */

static inline void member_on_state(void *ctx, enum replica_state state, uint64_t term)
{
    ((struct member *)ctx)->state = state;
}

static inline int member_on_apply(void *ctx, const struct replica_entry *entries, size_t count, struct err *e)
{
    struct member *m = ctx;

    for (size_t i = 0; i < count; i++) {
        assert_int_equal(entries[i].index, m->applied + 1);
        m->applied = entries[i].index;
        m->sum = m->sum * 31 + entries[i].index + entries[i].size;
        for (size_t k = 0; k < entries[i].size; k++)
            m->sum += ((const uint8_t *)entries[i].data)[k];
    }
    return 0;
}

struct member_source {
    size_t at;
    uint8_t bytes[GROUP_PADDING];
};

static inline long member_source_read(void *ctx, void *into, size_t size, struct err *e)
{
    struct member_source *s = ctx;

    size = MIN(size, sizeof(s->bytes) - s->at);
    memcpy(into, s->bytes + s->at, size);
    s->at += size;
    return (long)size;
}

static inline int member_on_snapshot(void *ctx, struct replica_snapshot_source *ret, struct err *e)
{
    struct member *m = ctx;
    struct member_source *s = mem_alloc(sizeof(*s));
    uint64_t numbers[] = {m->applied, m->sum};

    memcpy(s->bytes, numbers, sizeof(numbers));
    *ret = (struct replica_snapshot_source){.ctx = s, .read = member_source_read, .end = free, .index = m->applied};
    m->snapshots++;
    return 0;
}

static inline int member_on_restore(void *ctx, const void *data, size_t size, bool first, bool last, uint64_t index,
                                    struct err *e)
{
    struct member *m = ctx;
    uint64_t numbers[2];

    if (!first)
        return 0;
    assert_true(size >= sizeof(numbers));
    memcpy(numbers, data, sizeof(numbers));
    assert_int_equal(numbers[0], index);
    m->applied = numbers[0];
    m->sum = numbers[1];
    m->restores++;
    return 0;
}

static inline void member_on_fatal(void *ctx, const struct err *e)
{
    ((struct member *)ctx)->fatal = *e;
}

static inline uint64_t member_on_digest(void *ctx)
{
    return ((struct member *)ctx)->sum;
}

static inline void member_on_removed(void *ctx)
{
    ((struct member *)ctx)->removed++;
}

static inline struct replica_config member_config(struct member *m)
{
    return (struct replica_config){.dir = m->dir,
                                   .id = m->id,
                                   .address = m->address,
                                   .key = group_key,
                                   .cluster = group_cluster,
                                   .epoch = m->epoch,
                                   .applied = m->applied,
                                   .segment_bytes = m->segment_bytes ? m->segment_bytes : 256 << 10,
                                   .snapshot_bytes = 256 << 10,
                                   .env = m->env};
}

/* Open its port, links and replica; bootstrap: it founds the group. */
static inline void member_open(struct member *m, bool bootstrap)
{
    const struct replica_events events = {.ctx = m,
                                          .on_state = member_on_state,
                                          .on_apply = member_on_apply,
                                          .on_snapshot = member_on_snapshot,
                                          .on_restore = member_on_restore,
                                          .on_fatal = member_on_fatal,
                                          .on_digest = member_on_digest,
                                          .on_removed = member_on_removed};
    struct err e = {0};

    member_listen(m);
    m->env = replica_env_real(&m->group->loop, m->links);
    m->state = REPLICA_FOLLOWER;
    struct replica_config config = member_config(m);
    if ((bootstrap && replica_bootstrap(&config, &e) < 0) || replica_open(&config, &events, &m->replica, &e) < 0)
        fail_msg("%s", e.text);
}

static inline void group_on_done(void *ctx, const struct err *e)
{
    struct group *g = ctx;

    g->done++;
    g->failed += e->code != 0;
    g->last_code = e->code;
    if (e->code)
        print_message("answered: %s\n", e->text);
}

static inline void group_on_proposed(void *ctx, const struct err *e, uint64_t index)
{
    (void)index;
    group_on_done(ctx, e);
}

static inline struct member *group_leader(struct group *g)
{
    for (uint64_t id = 1; id <= GROUP_MAX; id++)
        if (g->members[id].replica && g->members[id].state == REPLICA_LEADER)
            return &g->members[id];
    return NULL;
}

/* Ask the leader for `count` entries of `size` bytes, and wait until they are committed. */
static inline void group_propose(struct group *g, unsigned count, size_t size)
{
    AUTO_FREE
    uint8_t *data = mem_alloc(size);
    struct err e;

    assert_int_equal(g->failed, 0);
    for (int tries = 0; count > 0; tries++) { /* on a busy machine a leader may lose its office meanwhile */
        unsigned sent = 0, before = g->done;

        assert_true(tries < 20);
        group_until(g, group_leader(g));
        while (sent < count && group_leader(g)) {
            memset(data, (int)sent, size);
            if (replica_propose(group_leader(g)->replica, data, size, group_on_proposed, g, &e) == 0)
                sent++;
            else
                uv_run(&g->loop, UV_RUN_ONCE);
        }
        group_until(g, g->done == before + sent);
        count -= sent - g->failed;
        g->failed = 0;
    }
}

/* Make an open member without a log a voter. */
static inline void group_join(struct group *g, struct member *m)
{
    struct replica *leader = group_leader(g)->replica;
    unsigned want = g->done + 1;
    struct err e;

    if (replica_member_add(leader, m->id, m->address, group_on_done, g, &e) < 0)
        fail_msg("%s", e.text);
    group_until(g, g->done == want);
    if (replica_member_promote(leader, m->id, group_on_done, g, &e) < 0)
        fail_msg("%s", e.text);
    group_until(g, g->done == want + 1);
    assert_int_equal(g->failed, 0);
}

/* Found a group of `count` and wait until all of them vote. */
static inline void group_found(struct group *g, uint64_t count)
{
    member_open(&g->members[1], true);
    group_until(g, group_leader(g));
    for (uint64_t id = 2; id <= count; id++) {
        member_open(&g->members[id], false);
        group_join(g, &g->members[id]);
    }
}

/* Every open replica has applied the same. */
static inline bool group_is_level(struct group *g)
{
    const struct member *leader = group_leader(g);

    for (uint64_t id = 1; leader && id <= GROUP_MAX; id++) {
        const struct member *m = &g->members[id];

        if (m->replica && (m->applied != leader->applied || m->applied != replica_last_index(leader->replica)))
            return false;
    }
    return leader != NULL;
}

static inline void group_assert_equal(struct group *g)
{
    group_until(g, group_is_level(g));
    for (uint64_t id = 1; id <= GROUP_MAX; id++)
        if (g->members[id].replica)
            assert_int_equal(g->members[id].sum, group_leader(g)->sum);
}
