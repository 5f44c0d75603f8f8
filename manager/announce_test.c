/* Joining as a manager, and managers that announce themselves, at a cluster of one. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "manager/ca/ca.h"
#include "manager/manager.h"
#include "proto/base/clock.h"
#include "proto/base/entropy.h"
#include "proto/base/ident.h"
#include "proto/base/mem.h"
#include "proto/join.pb-c.h"
#include "proto/wire/cert.h"
#include "proto/wire/methods.h"
#include "tests/support/caller.h"

#define ELSEWHERE "127.0.0.1:9" /* where no manager listens */

static struct cluster c;
static struct tls *nobody;

static int setup(void **state)
{
    struct err e;

    cluster_found(&c, "/tmp", NULL);
    if (tls_new(NULL, NULL, c.founding.root_pem, &nobody, &e) < 0)
        fail_msg("%s", e.text);
    return 0;
}

static int teardown(void **state)
{
    tls_unref(nobody);
    cluster_end(&c);
    return 0;
}

/* --- calls ----------------------------------------------------------------------------------------------- */

static struct err why; /* of the last call that failed */

/* One call on a connection of its own. Returns the code; the reply lives as long as the cluster. */
static int call(struct tls *tls, uint16_t method, const ProtobufCMessage *message,
                const ProtobufCMessageDescriptor *descriptor, void *ret)
{
    size_t size = protobuf_c_message_get_packed_size(message);
    uint8_t *packed = arena_alloc(&c.arena, size + 1);
    struct caller k = {0};
    int rc = caller_open(&k, &c, tls);

    protobuf_c_message_pack(message, packed);
    if (rc == 0)
        rc = caller_call(&k, &c, method, packed, size);
    why = k.e;
    if (rc == 0) {
        *(void **)ret = arena_unpack(&c.arena, descriptor, buf_bytes(&k.reply), k.reply.length);
        assert_non_null(*(void **)ret);
    }
    caller_close(&k, &c);
    return rc;
}

static const char *token_of(const char *secret)
{
    char token[CA_TOKEN_TEXT + 1];

    assert_int_equal(ca_token(c.founding.root_pem, secret, token, NULL), 0);
    return arena_strdup(&c.arena, token);
}

/* Join with this token (NULL: renew), with what `request` says besides. *ret_tls is the new certificate. */
static int issue(struct tls *tls, const char *token, IssueRequest *request, const IssueReply **ret,
                 struct tls **ret_tls)
{
    AUTO_FREE
    char *key_pem = NULL;
    AUTO_BUF struct buf csr = {0};
    struct err e;

    if (cert_key_new(&key_pem, &e) < 0 || cert_request_new(key_pem, &csr, &e) < 0)
        fail_msg("%s", e.text);
    request->csr_der = (ProtobufCBinaryData){csr.length, (uint8_t *)buf_bytes(&csr)};
    request->token = (char *)token;
    int rc = call(tls, METHOD_ISSUE, &request->base, &issue_reply__descriptor, ret);
    if (rc == 0 &&
        tls_new(arena_strndup(&c.arena, (char *)(*ret)->certificate_pem.data, (*ret)->certificate_pem.len), key_pem,
                c.founding.root_pem, ret_tls, &e) < 0)
        fail_msg("%s", e.text);
    return rc;
}

struct joined {
    struct tls *tls;
    char id[IDENT_TEXT + 1];
};

static struct joined join(const char *secret)
{
    IssueRequest request = ISSUE_REQUEST__INIT;
    const IssueReply *reply;
    struct joined j;

    if (issue(nobody, token_of(secret), &request, &reply, &j.tls) < 0)
        fail_msg("%s", why.text);
    ident_format(reply->node_id.data, j.id);
    return j;
}

static int announce(struct tls *tls, const char *address, uint64_t raft_id, const MemberReply **ret)
{
    MemberRequest request = MEMBER_REQUEST__INIT;

    request.address = (char *)address;
    request.has_raft_id = raft_id != 0;
    request.raft_id = raft_id;
    return call(tls, METHOD_MEMBER, &request.base, &member_reply__descriptor, ret);
}

static int leave(struct tls *tls, const MemberReply **ret)
{
    MemberRequest request = MEMBER_REQUEST__INIT;

    request.address = (char *)"";
    request.has_leave = request.leave = true;
    return call(tls, METHOD_MEMBER, &request.base, &member_reply__descriptor, ret);
}

static const char *node(const char *id, const char *way)
{
    return json_at(&c, cluster_expect(&c, 200, "GET", arena_printf(&c.arena, "/nodes/%s", id), NULL), way);
}

static void wish(const char *id, const char *role)
{
    cluster_expect(&c, 200, "POST",
                   arena_printf(&c.arena, "/nodes/%s/update?version=%s", id, node(id, "Version.Index")),
                   arena_printf(&c.arena, "{\"Role\":\"%s\",\"Availability\":\"active\"}", role));
}

/* --- joining --------------------------------------------------------------------------------------------- */

static void managers_token_gives_a_managers_certificate_and_row(void **state)
{
    IssueRequest request = ISSUE_REQUEST__INIT;
    const IssueReply *reply;
    struct cert_facts facts;
    char id[IDENT_TEXT + 1];
    struct tls *tls;
    struct err e;

    request.has_wall_ms = true;
    request.wall_ms = clock_wall_ms(clock_real());
    assert_int_equal(issue(nobody, token_of(c.founding.manager_secret), &request, &reply, &tls), 0);
    assert_int_equal(reply->role, NODE_ROLE__MANAGER);
    assert_null(reply->redirect);
    assert_int_equal(reply->n_managers, 1);
    assert_string_equal(reply->managers[0], "127.0.0.1:2377");
    ident_format(reply->node_id.data, id);
    const char *pem = arena_strndup(&c.arena, (char *)reply->certificate_pem.data, reply->certificate_pem.len);
    assert_int_equal(cert_facts(pem, &facts, &e), 0);
    assert_int_equal(facts.identity.role, RPC_ROLE_MANAGER);
    assert_string_equal(facts.identity.node_id, id);
    assert_string_equal(node(id, "Spec.Role"), "manager");
    assert_null(node(id, "ManagerStatus")); /* not before it announces itself */
    tls_unref(tls);
}

static void set_autolock(bool on)
{
    const char *version = json_at(&c, cluster_expect(&c, 200, "GET", "/swarm", NULL), "Version.Index");

    cluster_expect(
        &c, 200, "POST", arena_printf(&c.arena, "/swarm/update?version=%s", version),
        arena_printf(&c.arena, "{\"EncryptionConfig\":{\"AutoLockManagers\":%s}}", on ? "true" : "false"));
}

/* The reply holds the key that a manager is told by its store, and no other one. */
static void assert_unlock_key_in(const IssueReply *reply)
{
    char text[MANAGER_LOCK_TEXT + 1];

    assert_true(reply->has_lock_key && reply->has_lock_version);
    assert_int_equal(reply->lock_key.len, MANAGER_LOCK_KEY);
    manager_lock_format(reply->lock_key.data, text);
    assert_string_equal(text, json_at(&c, cluster_expect(&c, 200, "GET", "/swarm/unlockkey", NULL), "UnlockKey"));
    assert_int_equal(
        reply->lock_version,
        strtoull(json_at(&c, cluster_expect(&c, 200, "GET", "/swarm", NULL), "Version.Index"), NULL, 10));
}

static void unlock_key_goes_to_managers_alone_and_while_autolock_is_on(void **state)
{
    IssueRequest request = ISSUE_REQUEST__INIT;
    struct joined worker = join(c.founding.worker_secret);
    const IssueReply *reply;
    struct tls *tls;

    assert_int_equal(issue(nobody, token_of(c.founding.manager_secret), &request, &reply, &tls), 0);
    assert_false(reply->has_lock_key || reply->has_lock_version);
    tls_unref(tls);
    set_autolock(true);
    assert_int_equal(issue(nobody, token_of(c.founding.manager_secret), &request, &reply, &tls), 0);
    assert_unlock_key_in(reply);
    tls_unref(tls);
    assert_int_equal(issue(nobody, token_of(c.founding.worker_secret), &request, &reply, &tls), 0);
    assert_false(reply->has_lock_key || reply->has_lock_version);
    tls_unref(tls);
    assert_int_equal(issue(worker.tls, NULL, &request, &reply, &tls), 0);
    assert_false(reply->has_lock_key || reply->has_lock_version);
    tls_unref(tls);
    wish(worker.id, "manager");
    assert_int_equal(issue(worker.tls, NULL, &request, &reply, &tls), 0);
    assert_unlock_key_in(reply);
    tls_unref(tls);
    set_autolock(false);
    assert_int_equal(issue(worker.tls, NULL, &request, &reply, &tls), 0);
    assert_false(reply->has_lock_key || reply->has_lock_version);
    tls_unref(tls);
    tls_unref(worker.tls);
}

static void clock_that_is_far_off_is_told_both_times(void **state)
{
    static const int64_t off_ms[] = {-11 * 60000, 11 * 60000, INT64_C(400) * 86400000};
    IssueRequest request = ISSUE_REQUEST__INIT;
    const IssueReply *reply;
    struct tls *tls;

    request.has_wall_ms = true;
    for (size_t i = 0; i < ARRAY_SIZE(off_ms); i++) {
        request.wall_ms = clock_wall_ms(clock_real()) + off_ms[i];
        assert_int_equal(issue(nobody, token_of(c.founding.worker_secret), &request, &reply, &tls),
                         ERR_PRECONDITION);
        assert_non_null(strstr(why.text, "the clocks differ too much: it is 20"));
        assert_non_null(strstr(why.text, "at the manager and 20"));
    }
    request.wall_ms = INT64_MIN;
    assert_int_equal(issue(nobody, token_of(c.founding.worker_secret), &request, &reply, &tls), ERR_PRECONDITION);
    request.wall_ms = clock_wall_ms(clock_real()) - 9 * 60000;
    assert_int_equal(issue(nobody, token_of(c.founding.worker_secret), &request, &reply, &tls), 0);
    tls_unref(tls);
}

static void too_old_a_version_is_told_both_levels(void **state)
{
    IssueRequest request = ISSUE_REQUEST__INIT;
    MemberRequest member = MEMBER_REQUEST__INIT;
    struct joined j = join(c.founding.manager_secret);
    const MemberReply *answer;
    const IssueReply *reply;
    struct tls *tls;

    request.has_feature_level = member.has_feature_level = true;
    assert_int_equal(issue(nobody, token_of(c.founding.worker_secret), &request, &reply, &tls), ERR_PRECONDITION);
    assert_non_null(strstr(why.text, "feature level 1 and this node offers 0"));
    member.address = (char *)ELSEWHERE;
    assert_int_equal(call(j.tls, METHOD_MEMBER, &member.base, &member_reply__descriptor, &answer),
                     ERR_PRECONDITION);
    assert_non_null(strstr(why.text, "feature level"));
    tls_unref(j.tls);
}

static void node_of_the_cluster_does_not_join_twice(void **state)
{
    struct joined j = join(c.founding.worker_secret);
    IssueRequest request = ISSUE_REQUEST__INIT;
    const IssueReply *reply;
    struct tls *tls;

    assert_int_equal(issue(j.tls, token_of(c.founding.manager_secret), &request, &reply, &tls), ERR_INVALID);
    assert_non_null(strstr(why.text, "already part of a swarm"));
    tls_unref(j.tls);
}

/* --- announcing ------------------------------------------------------------------------------------------ */

static void number_is_given_once_and_kept(void **state)
{
    struct joined j = join(c.founding.manager_secret);
    const MemberReply *first, *again;

    assert_int_equal(announce(j.tls, ELSEWHERE, 0, &first), 0);
    assert_int_equal(first->raft_id, 2);
    assert_int_equal(first->epoch, 0);
    assert_int_equal(first->n_managers, 2);
    cluster_until(&c, node(j.id, "ManagerStatus.Addr")); /* it is a standby now */
    assert_string_equal(node(j.id, "ManagerStatus.Addr"), ELSEWHERE);
    assert_int_equal(announce(j.tls, ELSEWHERE, 2, &again), 0);
    assert_int_equal(again->raft_id, 2);
    assert_int_equal(announce(j.tls, ELSEWHERE, 3, &again), ERR_PRECONDITION);
    assert_non_null(strstr(why.text, "was removed"));
    assert_int_equal(announce(j.tls, ELSEWHERE, 1, &again), ERR_PRECONDITION);
    tls_unref(j.tls);
}

/* Its number was in the group, so without its log it is another member. */
static void manager_without_its_log_gets_another_number(void **state)
{
    struct joined j = join(c.founding.manager_secret);
    const MemberReply *reply;

    assert_int_equal(announce(j.tls, ELSEWHERE, 0, &reply), 0);
    assert_int_equal(reply->raft_id, 2);
    cluster_until(&c, node(j.id, "ManagerStatus.Addr"));
    assert_int_equal(announce(j.tls, ELSEWHERE, 0, &reply), 0);
    assert_int_equal(reply->raft_id, 3);
    assert_int_equal(announce(j.tls, ELSEWHERE, 2, &reply), ERR_PRECONDITION);
    assert_int_equal(announce(j.tls, ELSEWHERE, 3, &reply), 0);
    assert_int_equal(reply->raft_id, 3);
    tls_unref(j.tls);
}

static void joiner_that_cannot_be_reached_costs_the_others_nothing(void **state)
{
    struct joined a = join(c.founding.manager_secret), b = join(c.founding.manager_secret);
    const MemberReply *reply;

    assert_int_equal(announce(a.tls, ELSEWHERE, 0, &reply), 0);
    assert_int_equal(announce(b.tls, "127.0.0.1:10", 0, &reply), 0);
    assert_int_equal(reply->raft_id, 3);
    cluster_until(&c, node(b.id, "ManagerStatus.Addr") && node(a.id, "ManagerStatus.Addr"));
    cluster_rest(&c, 200);
    tls_unref(join(c.founding.worker_secret).tls); /* a write of a group of one */
    wish(a.id, "worker");
    wish(b.id, "worker");
    cluster_until(&c, !node(b.id, "ManagerStatus.Addr") && !node(a.id, "ManagerStatus.Addr"));
    tls_unref(a.tls);
    tls_unref(b.tls);
}

static void malformed_announcements_are_refused(void **state)
{
    static const char *const addresses[] = {
        "",
        "x",
        "127.0.0.1",
        "127.0.0.1:0",
        ":2377",
        "127.0.0.1:99999",
        "example.org:2377",
        "127.0.0.1:2377127.0.0.1:2377127.0.0.1:2377127.0.0.1:2377127.0.0.1:2377"};
    struct joined j = join(c.founding.manager_secret);
    const MemberReply *reply;
    struct caller k = {0};

    for (size_t i = 0; i < ARRAY_SIZE(addresses); i++)
        if (announce(j.tls, addresses[i], 0, &reply) != ERR_INVALID)
            fail_msg("%s", addresses[i]);
    assert_int_equal(caller_open(&k, &c, j.tls), 0);
    assert_int_equal(caller_call(&k, &c, METHOD_MEMBER, "\xff\xff", 2), ERR_INVALID);
    caller_close(&k, &c);
    tls_unref(j.tls);
}

/* --- roles ------------------------------------------------------------------------------------------------- */

static void worker_announces_nothing_even_with_a_managers_certificate(void **state)
{
    struct joined worker = join(c.founding.worker_secret), manager = join(c.founding.manager_secret);
    const MemberReply *reply;

    assert_int_equal(announce(nobody, ELSEWHERE, 0, &reply), ERR_DENIED);
    assert_int_equal(announce(worker.tls, ELSEWHERE, 0, &reply), ERR_DENIED);
    wish(manager.id, "worker");
    assert_int_equal(announce(manager.tls, ELSEWHERE, 0, &reply), ERR_DENIED);
    tls_unref(worker.tls);
    tls_unref(manager.tls);
}

static void renewal_gives_the_role_that_the_row_wishes(void **state)
{
    struct joined j = join(c.founding.worker_secret);
    IssueRequest request = ISSUE_REQUEST__INIT;
    struct tls *promoted, *demoted;
    const MemberReply *member;
    const IssueReply *reply;

    wish(j.id, "manager");
    assert_int_equal(issue(j.tls, NULL, &request, &reply, &promoted), 0);
    assert_int_equal(reply->role, NODE_ROLE__MANAGER);
    assert_int_equal(announce(promoted, ELSEWHERE, 0, &member), 0);
    assert_int_equal(member->raft_id, 2);
    cluster_until(&c, node(j.id, "ManagerStatus.Addr"));
    wish(j.id, "worker");
    cluster_until(&c, !node(j.id, "ManagerStatus.Addr"));
    /* With the manager's certificate, which counts as a worker's now. */
    assert_int_equal(issue(promoted, NULL, &request, &reply, &demoted), 0);
    assert_int_equal(reply->role, NODE_ROLE__WORKER);
    tls_unref(demoted);
    /* Again: another number, since that one left. */
    wish(j.id, "manager");
    assert_int_equal(announce(promoted, ELSEWHERE, 2, &member), ERR_PRECONDITION);
    assert_int_equal(announce(promoted, ELSEWHERE, 0, &member), 0);
    assert_int_equal(member->raft_id, 3);
    tls_unref(promoted);
    tls_unref(j.tls);
}

static void connections_stay_when_a_role_changes_and_may_do_what_it_allows(void **state)
{
    struct joined worker = join(c.founding.worker_secret), manager = join(c.founding.manager_secret);
    struct caller of_worker = {0}, of_manager = {0};
    MemberRequest request = MEMBER_REQUEST__INIT;
    uint8_t packed[64];

    request.address = (char *)ELSEWHERE;
    size_t size = member_request__pack(&request, packed);

    assert_int_equal(caller_open(&of_worker, &c, worker.tls), 0);
    assert_int_equal(caller_open(&of_manager, &c, manager.tls), 0);
    wish(worker.id, "manager");
    wish(manager.id, "worker");
    assert_int_equal(caller_call(&of_manager, &c, METHOD_MEMBER, packed, size), ERR_DENIED);
    assert_non_null(strstr(of_manager.e.text, "has no manager's certificate")); /* it counts as a worker's */
    assert_int_equal(caller_call(&of_worker, &c, METHOD_MEMBER, packed, size), ERR_DENIED); /* it does not grow */
    wish(manager.id, "manager");
    assert_int_equal(caller_call(&of_manager, &c, METHOD_MEMBER, packed, size), 0);
    assert_true(of_manager.opened && of_manager.conn && of_worker.conn);
    caller_close(&of_worker, &c);
    caller_close(&of_manager, &c);
    tls_unref(worker.tls);
    tls_unref(manager.tls);
}

/* --- leaving ----------------------------------------------------------------------------------------------- */

static void manager_leaves_the_group_but_not_as_the_last(void **state)
{
    struct tls *first = caller_certificate(&c, c.founding.node_id, RPC_ROLE_MANAGER, c.founding.cluster_id);
    struct joined j = join(c.founding.manager_secret);
    const MemberReply *reply;

    assert_int_equal(leave(first, &reply), ERR_PRECONDITION);
    assert_string_equal(why.text, "attempting to demote the last manager of the swarm");
    assert_int_equal(announce(j.tls, ELSEWHERE, 0, &reply), 0);
    cluster_until(&c, node(j.id, "ManagerStatus.Addr"));
    assert_int_equal(leave(first, &reply), ERR_PRECONDITION); /* the other has no vote */
    assert_int_equal(leave(j.tls, &reply), 0);
    assert_string_equal(node(j.id, "Spec.Role"), "worker");
    cluster_until(&c, !node(j.id, "ManagerStatus.Addr"));
    assert_int_equal(leave(j.tls, &reply), 0); /* it may ask again */
    tls_unref(first);
    tls_unref(j.tls);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(managers_token_gives_a_managers_certificate_and_row),
        TEST(unlock_key_goes_to_managers_alone_and_while_autolock_is_on),
        TEST(clock_that_is_far_off_is_told_both_times),
        TEST(too_old_a_version_is_told_both_levels),
        TEST(node_of_the_cluster_does_not_join_twice),
        TEST(number_is_given_once_and_kept),
        TEST(manager_without_its_log_gets_another_number),
        TEST(joiner_that_cannot_be_reached_costs_the_others_nothing),
        TEST(malformed_announcements_are_refused),
        TEST(worker_announces_nothing_even_with_a_managers_certificate),
        TEST(renewal_gives_the_role_that_the_row_wishes),
        TEST(connections_stay_when_a_role_changes_and_may_do_what_it_allows),
        TEST(manager_leaves_the_group_but_not_as_the_last),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
