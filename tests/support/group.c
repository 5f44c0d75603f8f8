/* See group.h. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <fcntl.h>
#include <unistd.h>

#include "manager/ca/ca.h"
#include "proto/base/clock.h"
#include "proto/base/entropy.h"
#include "proto/base/file.h"
#include "proto/base/ident.h"
#include "proto/base/mem.h"
#include "proto/join.pb-c.h"
#include "proto/wire/cert.h"
#include "proto/wire/methods.h"
#include "tests/support/caller.h"
#include "tests/support/group.h"

#define FAIL(...) cluster_fail(__FILE__, __LINE__, __VA_ARGS__)

static const char *const hostnames[GROUP_MOST] = {"first", "second", "third",  "fourth",
                                                  "fifth", "sixth",  "seventh"};

void group_turn(struct group *g)
{
    for (unsigned i = 0; i < g->count; i++)
        uv_run(&g->at[i].loop, i == 0 ? UV_RUN_ONCE : UV_RUN_NOWAIT);
}

void group_rest(struct group *g, unsigned ms)
{
    uint64_t end = uv_hrtime() + ms * UINT64_C(1000000);

    while (uv_hrtime() < end)
        group_turn(g);
}

/* Of this process and place alone. */
static void address_of(unsigned place, char ret[64])
{
    unsigned host = ((unsigned)getpid() & 0xfffff) << 4 | (place + 1);

    (void)snprintf(ret, 64, "127.%u.%u.%u:2377", host >> 16 & 255, host >> 8 & 255, host & 255); /* fits */
}

void group_found(struct group *g, const char *base)
{
    char address[64];

    memset(g, 0, sizeof(*g));
    g->base = base;
    address_of(0, address);
    cluster_found_at(&g->at[0], base, NULL, address);
    g->open[0] = true;
    g->count = 1;
}

void group_end(struct group *g)
{
    for (unsigned i = g->count; i-- > 0;)
        cluster_end(&g->at[i]);
}

/* --- calls to the managers' ports -------------------------------------------------------------------------- */

static struct cluster *one_that_is_open(struct group *g)
{
    for (unsigned i = 0; i < g->count; i++)
        if (g->open[i] && g->at[i].ready)
            return &g->at[i];
    FAIL("no manager is ready");
}

static struct cluster *one_at(struct group *g, const char *address)
{
    for (unsigned i = 0; i < g->count; i++)
        if (g->open[i] && strcmp(g->at[i].advertise, address) == 0)
            return &g->at[i];
    return one_that_is_open(g); /* it was sent to one that is gone */
}

/* At whoever leads in the end. The answer lives as long as the group. */
static int call(struct group *g, struct tls *tls, uint16_t method, const ProtobufCMessage *message,
                const ProtobufCMessageDescriptor *descriptor, const char *(*redirect)(const void *),
                const void **ret)
{
    size_t size = protobuf_c_message_get_packed_size(message);
    uint8_t *packed = arena_alloc(&g->at[0].arena, size + 1);
    uint64_t give_up = uv_hrtime() / 1000000 + CLUSTER_PATIENCE_MS;
    struct cluster *to = one_that_is_open(g);
    int rc;

    protobuf_c_message_pack(message, packed);
    for (;;) {
        struct caller k = {0};

        rc = caller_open(&k, to, tls);
        if (rc == 0)
            rc = caller_call(&k, to, method, packed, size);
        g->why = k.e;
        if (rc == 0)
            *ret = arena_unpack(&g->at[0].arena, descriptor, buf_bytes(&k.reply), k.reply.length);
        caller_close(&k, to);
        /* Unauthorized: the connection was closed because its node's role changed just now. */
        bool again =
            rc == ERR_UNAVAILABLE || rc == ERR_CLOSED || rc == ERR_UNAUTHORIZED || (rc == 0 && redirect(*ret));
        if (!again || uv_hrtime() / 1000000 > give_up)
            return rc;
        if (rc == 0)
            to = one_at(g, redirect(*ret));
        else
            group_rest(g, 20);
    }
}

static const char *redirect_of_issue(const void *reply)
{
    return ((const IssueReply *)reply)->redirect;
}

static const char *redirect_of_member(const void *reply)
{
    return ((const MemberReply *)reply)->redirect;
}

/* --- joining -------------------------------------------------------------------------------------------------- */

static void get_certificate(struct group *g, struct manager_founding *own)
{
    const struct manager_founding *first = &g->at[0].founding;
    char token[CA_TOKEN_TEXT + 1];
    AUTO_BUF struct buf csr = {0};
    IssueRequest request = ISSUE_REQUEST__INIT;
    const IssueReply *reply;
    struct tls *nobody;
    const void *answer;
    struct err e;

    if (ca_token(first->root_pem, first->manager_secret, token, &e) < 0 || cert_key_new(&own->key_pem, &e) < 0 ||
        cert_request_new(own->key_pem, &csr, &e) < 0 || tls_new(NULL, NULL, first->root_pem, &nobody, &e) < 0)
        FAIL("%s", e.text);
    request.csr_der = (ProtobufCBinaryData){csr.length, (uint8_t *)buf_bytes(&csr)};
    request.token = token;
    if (call(g, nobody, METHOD_ISSUE, &request.base, &issue_reply__descriptor, redirect_of_issue, &answer) < 0)
        FAIL("%s", g->why.text);
    tls_unref(nobody);
    reply = answer;
    own->certificate_pem = mem_strndup((char *)reply->certificate_pem.data, reply->certificate_pem.len);
    own->root_pem = mem_strdup(first->root_pem);
    own->root_key_pem = mem_strdup(first->root_key_pem);
    ident_format(reply->node_id.data, own->node_id);
    memcpy(own->cluster_id, first->cluster_id, sizeof(own->cluster_id));
    memcpy(own->worker_secret, first->worker_secret, sizeof(own->worker_secret));
    memcpy(own->manager_secret, first->manager_secret, sizeof(own->manager_secret));
    entropy_fill(entropy_real(), own->data_key, sizeof(own->data_key));
}

unsigned group_join_closed(struct group *g)
{
    struct manager_founding founding = {.cluster_id = ""};
    struct cluster *c = &g->at[g->count];
    char dir[sizeof(c->dir)];

    if (g->count == GROUP_MOST)
        FAIL("a group has at most %d managers", GROUP_MOST);
    get_certificate(g, &founding);
    (void)snprintf(dir, sizeof(dir), "%s/manager-XXXXXX", g->base); /* bases are short */
    assert_non_null(mkdtemp(dir));
    cluster_resume(c, dir, &founding);
    c->hostname = hostnames[g->count];
    address_of(g->count, c->listen);
    memcpy(c->advertise, c->listen, sizeof(c->advertise));
    return g->count++;
}

static int member(struct group *g, unsigned i, MemberRequest *request, const MemberReply **ret)
{
    struct cluster *c = &g->at[i];
    const void *answer = NULL;
    struct tls *tls;
    struct err e;

    if (tls_new(c->founding.certificate_pem, c->founding.key_pem, c->founding.root_pem, &tls, &e) < 0)
        FAIL("%s", e.text);
    request->address = c->advertise;
    int rc = call(g, tls, METHOD_MEMBER, &request->base, &member_reply__descriptor, redirect_of_member, &answer);
    tls_unref(tls);
    *ret = answer;
    return rc;
}

int group_announce(struct group *g, unsigned i, bool fresh)
{
    MemberRequest request = MEMBER_REQUEST__INIT;
    struct cluster *c = &g->at[i];
    const MemberReply *reply;

    request.has_raft_id = !fresh;
    request.raft_id = c->raft_id ? c->raft_id : MANAGER_RAFT_ID_FIRST;
    int rc = member(g, i, &request, &reply);
    if (rc == 0) {
        c->raft_id = reply->raft_id;
        c->epoch = reply->epoch;
    }
    return rc;
}

int group_leave(struct group *g, unsigned i)
{
    MemberRequest request = MEMBER_REQUEST__INIT;
    const MemberReply *reply;

    request.has_leave = request.leave = true;
    return member(g, i, &request, &reply);
}

unsigned group_join(struct group *g)
{
    unsigned i = group_join_closed(g);

    if (group_announce(g, i, true) < 0)
        FAIL("%s", g->why.text);
    group_start(g, i);
    return i;
}

/* --- coming and going -------------------------------------------------------------------------------------------
 */

void group_stop(struct group *g, unsigned i)
{
    cluster_stop(&g->at[i]);
    g->open[i] = false;
}

void group_start(struct group *g, unsigned i)
{
    struct err e;

    if (cluster_open(&g->at[i], NULL, &e) < 0)
        FAIL("%s", e.text);
    g->open[i] = true;
}

void group_lose_disk(struct group *g, unsigned i)
{
    struct err e;

    if (tree_remove(AT_FDCWD, g->at[i].dir, &e) < 0)
        FAIL("%s", e.text);
    assert_int_equal(dir_make(g->at[i].dir, 0700, &e), 0);
}

/* --- questions
 * ---------------------------------------------------------------------------------------------------- */

const char *group_expect(struct group *g, unsigned i, int status, const char *method, const char *path,
                         const char *body)
{
    struct cluster *c = &g->at[i];
    struct answer a;

    cluster_ask(c, &a, method, path, body);
    group_until(g, a.done);
    const char *text = arena_strndup(&c->arena, a.body.length ? buf_bytes(&a.body) : "", a.body.length);
    answer_fini(&a);
    if (a.status != status)
        FAIL("%s %s: %d instead of %d: %s", method, path, a.status, status, text);
    return text;
}

/* Whom a list of nodes calls the leader. */
static unsigned leader_in(struct group *g, struct cluster *c, const char *body)
{
    for (unsigned k = 0, count = (unsigned)atol(json_at(c, body, "#")); k < count; k++) {
        const char *leads = json_at(c, body, arena_printf(&c->arena, "%u.ManagerStatus.Leader", k));
        const char *id = json_at(c, body, arena_printf(&c->arena, "%u.ID", k));

        for (unsigned of = 0; leads && of < g->count; of++)
            if (g->open[of] && strcmp(g->at[of].founding.node_id, id) == 0)
                return of;
    }
    return GROUP_MOST;
}

/* All at once: one that knows no leader takes its time to say so. */
unsigned group_leader(struct group *g)
{
    struct answer answers[GROUP_MOST] = {0};
    bool asked[GROUP_MOST] = {false};
    unsigned leader = GROUP_MOST, waiting = 0;

    for (unsigned i = 0; i < g->count; i++) {
        asked[i] = g->open[i] && g->at[i].ready && !g->at[i].stops;
        waiting += asked[i];
        if (asked[i])
            cluster_ask(&g->at[i], &answers[i], "GET", "/nodes", NULL);
    }
    while (waiting && leader == GROUP_MOST) {
        group_turn(g);
        for (unsigned i = 0; i < g->count && leader == GROUP_MOST; i++) {
            if (!asked[i] || !answers[i].done)
                continue;
            asked[i] = false;
            waiting--;
            if (answers[i].status == 200)
                leader =
                    leader_in(g, &g->at[i],
                              arena_strndup(&g->at[i].arena, buf_bytes(&answers[i].body), answers[i].body.length));
        }
    }
    for (unsigned i = 0; i < g->count; i++) {
        if (answers[i].request)
            manager_drop(answers[i].request);
        answer_fini(&answers[i]);
    }
    return leader;
}

struct cluster *group_lead(struct group *g)
{
    unsigned leader = GROUP_MOST;

    group_until(g, (leader = group_leader(g)) < GROUP_MOST);
    return &g->at[leader];
}

const char *group_node(struct group *g, unsigned i, const char *way)
{
    unsigned leader = group_leader(g);
    struct cluster *c = leader < GROUP_MOST ? &g->at[leader] : NULL;
    const char *body;

    if (!c ||
        cluster_call(c, "GET", arena_printf(&c->arena, "/nodes/%s", g->at[i].founding.node_id), NULL, &body) != 200)
        return NULL;
    return json_at(c, body, way);
}

int group_wish(struct group *g, unsigned i, const char *role, const char **ret_body)
{
    for (;;) {
        struct cluster *c = group_lead(g);
        const char *version = group_node(g, i, "Version.Index"), *body;

        if (!version)
            continue;
        int status = cluster_call(
            c, "POST", arena_printf(&c->arena, "/nodes/%s/update?version=%s", g->at[i].founding.node_id, version),
            arena_printf(&c->arena, "{\"Role\":\"%s\",\"Availability\":\"active\"}", role), &body);
        if (ret_body)
            *ret_body = body;
        if (status != 503 && !strstr(body, "out of sequence"))
            return status;
        group_rest(g, 10);
    }
}

bool group_is_level(struct group *g, unsigned managers)
{
    unsigned leader = group_leader(g), voters = 0;
    struct cluster *c = leader < GROUP_MOST ? &g->at[leader] : NULL;
    const char *body;

    if (!c || cluster_call(c, "GET", "/nodes?filters=%7B%22role%22%3A%5B%22manager%22%5D%7D", NULL, &body) != 200)
        return false;
    for (unsigned k = 0, count = (unsigned)atol(json_at(c, body, "#")); k < count; k++) {
        const char *reach = json_at(c, body, arena_printf(&c->arena, "%u.ManagerStatus.Reachability", k));

        voters += reach && strcmp(reach, "reachable") == 0;
    }
    return voters == managers;
}
