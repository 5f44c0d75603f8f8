/* What a machine without a certificate can send to a manager's port: certificate requests and tokens. Law: what is
 * signed carries the identity that we chose, whatever the request said. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "manager/ca/ca.h"
#include "proto/base/arena.h"
#include "proto/base/mem.h"
#include "proto/join.pb-c.h"
#include "proto/wire/cert.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define NOW_MS  1790000000000LL
#define NODE    "0000000000000000000000abc"
#define CLUSTER "0000000000000000000000xyz"

static void must(bool holds)
{
    if (!holds)
        abort();
}

static void sign(const void *request, size_t size)
{
    static char *root_pem, *root_key;
    struct rpc_identity identity = {.role = RPC_ROLE_WORKER, .node_id = NODE, .cluster_id = CLUSTER};
    AUTO_FREE
    char *certificate = NULL;
    struct cert_facts facts;
    struct err e;

    if (!root_pem)
        must(ca_root_new(NOW_MS, &root_pem, &root_key, &e) == 0);
    if (ca_issue(root_pem, root_key, request, size, &identity, NOW_MS, 3600 * 1000, &certificate, &e) < 0)
        return;
    must(cert_facts(certificate, &facts, &e) == 0);
    must(facts.identity.role == RPC_ROLE_WORKER && strcmp(facts.identity.node_id, NODE) == 0 &&
         strcmp(facts.identity.cluster_id, CLUSTER) == 0);
}

static void take_token(const char *token)
{
    char digest[TOKEN_DIGEST_TEXT + 1], secret[CA_SECRET_TEXT + 1];

    if (token_parse(token, digest, secret, NULL) == 0)
        must(strlen(digest) == TOKEN_DIGEST_TEXT && strlen(secret) == CA_SECRET_TEXT);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    AUTO_ARENA struct arena a;

    arena_init(&a);
    sign(data, size);
    const IssueRequest *request = arena_unpack(&a, &issue_request__descriptor, data, size);
    if (request) {
        sign(request->csr_der.data, request->csr_der.len);
        if (request->token)
            take_token(request->token);
    }
    AUTO_FREE
    char *text = mem_strndup((const char *)data, size);
    take_token(text);
    return 0;
}
