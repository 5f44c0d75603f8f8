/* Who may do what at the manager port: the table of calls and identities, cell by cell, and tokens that are not
 * quite right (DESIGN.md section 6). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "manager/ca/ca.h"
#include "proto/base/clock.h"
#include "proto/base/entropy.h"
#include "proto/base/ident.h"
#include "proto/base/mem.h"
#include "proto/dispatch.pb-c.h"
#include "proto/join.pb-c.h"
#include "proto/wire/cert.h"
#include "proto/wire/methods.h"
#include "tests/support/caller.h"
#include "tests/support/puppet.h"

#define TOKENS 10000

static struct cluster c;
static struct buf request; /* of a certificate: DER */

static int setup(void **state)
{
    AUTO_FREE
    char *key_pem = NULL;
    struct err e;

    cluster_found(&c, "/tmp", NULL);
    if (cert_key_new(&key_pem, &e) < 0 || cert_request_new(key_pem, &request, &e) < 0)
        fail_msg("%s", e.text);
    return 0;
}

static int teardown(void **state)
{
    buf_fini(&request);
    cluster_end(&c);
    return 0;
}

/* --- messages -------------------------------------------------------------------------------------------- */

struct message {
    const void *bytes;
    size_t size;
};

static struct message pack(struct arena *a, const ProtobufCMessage *message)
{
    size_t size = protobuf_c_message_get_packed_size(message);
    uint8_t *bytes = arena_alloc(a, size + 1); /* it may be empty */

    protobuf_c_message_pack(message, bytes);
    return (struct message){bytes, size};
}

static struct message request_for_certificate(struct arena *a, const char *token)
{
    IssueRequest message = ISSUE_REQUEST__INIT;

    message.csr_der = (ProtobufCBinaryData){request.length, (uint8_t *)buf_bytes(&request)};
    message.token = (char *)token;
    return pack(a, &message.base);
}

static const char *token_of(struct arena *a, const char *secret)
{
    char token[CA_TOKEN_TEXT + 1];

    assert_int_equal(ca_token(c.founding.root_pem, secret, token, NULL), 0);
    return arena_strdup(a, token);
}

static struct message first_of_session(struct arena *a)
{
    AgentMessage message = AGENT_MESSAGE__INIT;
    SessionOpen open = SESSION_OPEN__INIT;
    NodeDescription description = NODE_DESCRIPTION__INIT;

    description.hostname = (char *)"somebody";
    open.description = &description;
    message.open = &open;
    return pack(a, &message.base);
}

static struct message first_of_logs(struct arena *a)
{
    LogStart start = LOG_START__INIT;

    start.subscription = 1;
    return pack(a, &start.base);
}

static struct message announcement(struct arena *a)
{
    MemberRequest message = MEMBER_REQUEST__INIT;

    message.address = (char *)"127.0.0.1:2377"; /* where the founder is */
    message.has_raft_id = true;
    message.raft_id = MANAGER_RAFT_ID_FIRST;
    return pack(a, &message.base);
}

/* --- tokens ---------------------------------------------------------------------------------------------- */

/* A token that differs from a good one by one step somebody could take who guesses. */
static const char *spoil_token(struct arena *a, struct entropy *entropy, const char *good)
{
    static const char digits[] = "0123456789abcdefghijklmnopqrstuvwxyz";
    char *token = arena_strdup(a, good);
    size_t length = strlen(token), at = (size_t)entropy_below(entropy, length);
    char secret[CA_SECRET_TEXT + 1];

    switch (entropy_below(entropy, 6)) {
    case 0: /* another character somewhere */
        token[at] = token[at] == 'q' ? 'r' : 'q';
        return token;
    case 1: /* another digit in the secret */
        at = length - 1 - (size_t)entropy_below(entropy, CA_SECRET_TEXT);
        token[at] = digits[(strchr(digits, token[at]) - digits + 1) % 36];
        return token;
    case 2: /* cut short */
        token[at] = '\0';
        return token;
    case 3: /* another secret */
        ca_secret_new(entropy, secret);
        return token_of(a, secret);
    case 4: /* something behind it */
        return arena_printf(a, "%s%c", token, digits[entropy_below(entropy, 36)]);
    default: /* any bytes that a text can have */
        for (size_t i = 0; i < length; i++)
            token[i] = (char)(1 + entropy_below(entropy, 127));
        return token;
    }
}

static void ten_thousand_bad_tokens_let_nobody_in(void **state)
{
    AUTO_ARENA struct arena outer;
    AUTO_ARENA struct arena a;
    struct entropy_seeded seeded;
    struct entropy *entropy = &seeded.base;
    struct tls *nobody;
    struct caller k;
    struct err e;

    entropy_seeded_init(&seeded, 20260731);
    arena_init(&outer);
    arena_init(&a);
    const char *good[] = {token_of(&outer, c.founding.worker_secret), token_of(&outer, c.founding.manager_secret)};
    if (tls_new(NULL, NULL, c.founding.root_pem, &nobody, &e) < 0 || caller_open(&k, &c, nobody) < 0)
        fail_msg("%s", e.text);
    for (unsigned i = 0; i < TOKENS; i++) {
        const char *token = spoil_token(&a, entropy, good[i % 2]);
        struct message m = request_for_certificate(&a, token);

        if (caller_call(&k, &c, METHOD_ISSUE, m.bytes, m.size) != ERR_INVALID)
            fail_msg("token %u \"%s\": %d %s", i, token, k.e.code, k.e.text);
        assert_null(strstr(k.e.text, c.founding.worker_secret)); /* a refusal teaches nothing */
        assert_null(strstr(k.e.text, c.founding.manager_secret));
        assert_int_equal(k.reply.length, 0);
        arena_reset(&a);
    }
    assert_string_equal(json_at(&c, cluster_expect(&c, 200, "GET", "/nodes", NULL), "#"), "1");
    struct message m = request_for_certificate(&a, good[0]); /* the same connection with the right one */
    assert_int_equal(caller_call(&k, &c, METHOD_ISSUE, m.bytes, m.size), 0);
    caller_close(&k, &c);
    tls_unref(nobody);
}

/* --- the table ------------------------------------------------------------------------------------------- */

enum who {
    NOBODY,        /* no certificate */
    WORKER,        /* a worker's, and a worker's row */
    PROMOTED,      /* a worker's, and a row that is to be a manager: until it renews */
    DEMOTED,       /* a manager's, and a worker's row */
    MANAGER,       /* a manager's, and a manager's row */
    REMOVED,       /* good ones, whose rows are gone */
    OTHER_CLUSTER, /* of another cluster with the same root */
    OTHER_ROOT,    /* the same names, signed by a root of their own */
    PEOPLE
};

static const char *const names[] = {"nobody",  "worker",  "promoted",      "demoted",
                                    "manager", "removed", "other cluster", "other root"};

/* What is to happen: y: it is carried out, or refused for what it says; d: denied; o: denied, because nobody asked
 * for that of this node; i: refused as senseless for who asks; u: not known to anybody; x: no connection at all. */
static const struct call {
    const char *name;
    uint16_t method;
    const char *expected; /* by enum who */
} calls[] = {
    {"root", METHOD_ROOT, "yyyyyxxx"},        {"join", METHOD_ISSUE, "yiiiixxx"},
    {"renew", METHOD_ISSUE, "dyyyyxxx"},      {"session", METHOD_SESSION, "dyyyyxxx"},
    {"logs", METHOD_LOGS, "dooooxxx"},        {"member", METHOD_MEMBER, "ddddyxxx"},
    {"raft", METHOD_RAFT, "ddddyxxx"},        {"forward", METHOD_FORWARD, "ddddyxxx"},
    {"no such call", UINT16_MAX, "uuuuuxxx"},
};

static struct message message_of(struct arena *a, const struct call *call)
{
    if (strcmp(call->name, "join") == 0)
        return request_for_certificate(a, token_of(a, c.founding.worker_secret));
    switch (call->method) {
    case METHOD_ISSUE:
        return request_for_certificate(a, NULL);
    case METHOD_SESSION:
        return first_of_session(a);
    case METHOD_LOGS:
        return first_of_logs(a);
    case METHOD_MEMBER:
        return announcement(a);
    default:
        return (struct message){"", 0};
    }
}

static char outcome(const struct caller *k)
{
    if (!k->opened)
        return 'x';
    switch (k->e.code) {
    case ERR_DENIED:
        return strstr(k->e.text, "nobody asked this node") ? 'o' : 'd';
    case ERR_UNSUPPORTED:
        return 'u';
    default:
        return 'y';
    }
}

static bool is_as_expected(const struct caller *k, char expected)
{
    if (expected == 'i')
        return k->opened && k->e.code == ERR_INVALID;
    return outcome(k) == expected;
}

/* The role that a node's row wishes. */
static void wish(const char *node_id, const char *role)
{
    AUTO_ARENA struct arena a;

    arena_init(&a);
    const char *node = cluster_expect(&c, 200, "GET", arena_printf(&a, "/nodes/%s", node_id), NULL);
    const char *version = arena_strdup(&a, json_at(&c, node, "Version.Index"));
    cluster_expect(&c, 200, "POST", arena_printf(&a, "/nodes/%s/update?version=%s", node_id, version),
                   arena_printf(&a, "{\"Role\":\"%s\",\"Availability\":\"active\"}", role));
}

static struct tls *tls_of_another_root(void)
{
    struct manager_founding other;
    struct tls *tls;
    struct err e;

    if (manager_found(clock_wall_ms(clock_real()), 3600000, &other, &e) < 0 ||
        tls_new(other.certificate_pem, other.key_pem, c.founding.root_pem, &tls, &e) < 0)
        fail_msg("%s", e.text);
    manager_founding_free(&other);
    return tls;
}

static void everybody_may_do_what_the_table_says(void **state)
{
    char stranger[IDENT_TEXT + 1];
    struct puppet worker, promoted;
    struct tls *people[PEOPLE];
    AUTO_ARENA struct arena a;
    struct err e;

    arena_init(&a);
    puppet_join(&worker, &c, "second");
    puppet_join(&promoted, &c, "third");
    wish(promoted.node_id, "manager");
    ident_new(entropy_real(), stranger);
    if (tls_new(NULL, NULL, c.founding.root_pem, &people[NOBODY], &e) < 0)
        fail_msg("%s", e.text);
    people[WORKER] = tls_ref(worker.tls);
    people[PROMOTED] = tls_ref(promoted.tls);
    people[DEMOTED] = caller_certificate(&c, worker.node_id, RPC_ROLE_MANAGER, c.founding.cluster_id);
    people[MANAGER] = caller_certificate(&c, c.founding.node_id, RPC_ROLE_MANAGER, c.founding.cluster_id);
    people[REMOVED] = caller_certificate(&c, stranger, RPC_ROLE_MANAGER, c.founding.cluster_id);
    people[OTHER_CLUSTER] = caller_certificate(&c, c.founding.node_id, RPC_ROLE_MANAGER, stranger);
    people[OTHER_ROOT] = tls_of_another_root();
    for (size_t i = 0; i < ARRAY_SIZE(calls); i++)
        for (int who = 0; who < PEOPLE; who++) {
            struct message m = message_of(&a, &calls[i]);
            struct caller k;

            if (caller_open(&k, &c, people[who]) == 0)
                (void)caller_call(&k, &c, calls[i].method, m.bytes, m.size); /* judged below */
            if (!is_as_expected(&k, calls[i].expected[who]))
                fail_msg("%s calls %s: expected %c, got %c (%d %s)", names[who], calls[i].name,
                         calls[i].expected[who], outcome(&k), k.e.code, k.e.text);
            caller_close(&k, &c);
        }
    for (int who = 0; who < PEOPLE; who++)
        tls_unref(people[who]);
    puppet_end(&worker);
    puppet_end(&promoted);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(everybody_may_do_what_the_table_says),
        TEST(ten_thousand_bad_tokens_let_nobody_in),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
