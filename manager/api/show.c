/* See show.h. Here: what several nouns share. Members and their order are Docker's. */
#include <string.h>

#include "manager/api/show.h"
#include "manager/api/spec.h"
#include "manager/ca/rotation.h"
#include "proto/base/base64.h"
#include "proto/base/ident.h"
#include "proto/base/mem.h"
#include "proto/wire/cert.h"

static const struct {
    TaskState state;
    const char *name;
} states[] = {
    {TASK_STATE__NEW, "new"},           {TASK_STATE__PENDING, "pending"},     {TASK_STATE__ASSIGNED, "assigned"},
    {TASK_STATE__ACCEPTED, "accepted"}, {TASK_STATE__PREPARING, "preparing"}, {TASK_STATE__READY, "ready"},
    {TASK_STATE__STARTING, "starting"}, {TASK_STATE__RUNNING, "running"},     {TASK_STATE__COMPLETE, "complete"},
    {TASK_STATE__SHUTDOWN, "shutdown"}, {TASK_STATE__FAILED, "failed"},       {TASK_STATE__REJECTED, "rejected"},
    {TASK_STATE__REMOVE, "remove"},     {TASK_STATE__ORPHANED, "orphaned"}};

const char *show_task_state(TaskState state)
{
    for (size_t i = 0; i < ARRAY_SIZE(states); i++)
        if (states[i].state == state)
            return states[i].name;
    return "unknown";
}

bool show_task_state_parse(const char *name, TaskState *ret)
{
    for (size_t i = 0; i < ARRAY_SIZE(states); i++)
        if (strcmp(states[i].name, name) == 0) {
            *ret = states[i].state;
            return true;
        }
    return false;
}

void show_head(struct jwrite *j, const ProtobufCBinaryData *id, const struct packed *p)
{
    char text[IDENT_TEXT + 1] = "";

    if (id->len == IDENT_BYTES)
        ident_format(id->data, text);
    jwrite_string(j, "ID", text);
    jwrite_object(j, "Version");
    jwrite_uint(j, "Index", p->version);
    jwrite_end(j);
    jwrite_time_ns(j, "CreatedAt", p->created_ms * 1000000);
    jwrite_time_ns(j, "UpdatedAt", p->updated_ms * 1000000);
}

/* --- networks ------------------------------------------------------------------------------------------ */

void show_swarm_network(struct jwrite *j, const char *key, const struct packed *p, const Network *network)
{
    const NetworkSpec *spec = network->spec;

    jwrite_object(j, key);
    show_head(j, &network->id, p);
    jwrite_object(j, "Spec");
    jwrite_string(j, "Name", spec ? spec->name : "");
    jwrite_object(j, "Labels");
    for (size_t i = 0; spec && i < spec->n_labels; i++)
        jwrite_string(j, spec->labels[i]->key, spec->labels[i]->value);
    jwrite_end(j);
    jwrite_object(j, "DriverConfiguration");
    jwrite_string(j, "Name", spec ? spec->driver : "");
    jwrite_end(j);
    jwrite_string(j, "Scope", "swarm");
    jwrite_end(j);
    jwrite_object(j, "DriverState");
    jwrite_string(j, "Name", spec ? spec->driver : "");
    jwrite_end(j);
    jwrite_object(j, "IPAMOptions");
    jwrite_object(j, "Driver");
    jwrite_end(j);
    jwrite_end(j);
    jwrite_end(j);
}

/* As GET /networks/{id} has it. */
void show_network(struct ask *k, struct buf *out)
{
    static const char *const flags[] = {"EnableIPv6", "Internal", "Attachable", "Ingress", "ConfigOnly"};
    struct jwrite j = JWRITE_TO(out);
    struct packed p;
    size_t at = 0;
    char id[IDENT_TEXT + 1];

    if (!pack_next(&k->page.bytes, &at, &p))
        return;
    const Network *network = arena_unpack(&k->scratch, &network__descriptor, p.data, p.size);
    const NetworkSpec *spec = network->spec;
    ident_format(network->id.data, id);
    jwrite_object(&j, NULL);
    jwrite_string(&j, "Name", spec->name);
    jwrite_string(&j, "Id", id);
    jwrite_time_ns(&j, "Created", p.created_ms * 1000000);
    jwrite_string(&j, "Scope", "swarm");
    jwrite_string(&j, "Driver", spec->driver);
    for (size_t i = 0; i < ARRAY_SIZE(flags); i++)
        jwrite_bool(&j, flags[i], false);
    jwrite_object(&j, "IPAM");
    jwrite_string(&j, "Driver", "default");
    jwrite_object(&j, "Options");
    jwrite_end(&j);
    jwrite_array(&j, "Config");
    jwrite_end(&j);
    jwrite_end(&j);
    jwrite_object(&j, "ConfigFrom");
    jwrite_string(&j, "Network", "");
    jwrite_end(&j);
    jwrite_object(&j, "Containers");
    jwrite_end(&j);
    jwrite_object(&j, "Options");
    jwrite_end(&j);
    jwrite_object(&j, "Labels");
    for (size_t i = 0; i < spec->n_labels; i++)
        jwrite_string(&j, spec->labels[i]->key, spec->labels[i]->value);
    jwrite_end(&j);
    jwrite_end(&j);
}

/* --- the authority --------------------------------------------------------------------------------------- */

static const char *base64_of(const struct buf *bytes, struct arena *a)
{
    AUTO_BUF struct buf text = {0};

    base64_encode(&text, buf_bytes(bytes), bytes->length);
    return arena_strdup(a, buf_str(&text));
}

static void read_issuer(const char *pem, struct arena *a, struct show_issuer *ret)
{
    AUTO_BUF struct buf subject = {0};
    AUTO_BUF struct buf key = {0};

    *ret = (struct show_issuer){.subject = "", .key = ""};
    if (cert_issuer(pem, &subject, &key, NULL) < 0 || cert_key_digest(pem, &ret->digest, NULL) < 0)
        return; /* one that cannot be read: there is nothing to be said of it */
    ret->subject = base64_of(&subject, a);
    ret->key = base64_of(&key, a);
}

void show_authority_read(const RootCa *root, struct arena *a, struct show_authority *ret)
{
    *ret = (struct show_authority){0};
    if (!root || !root->has_certificate_pem)
        return;
    ret->trust[0] = arena_strndup(a, (const char *)root->certificate_pem.data, root->certificate_pem.len);
    read_issuer(ret->trust[0], a, &ret->issuers[0]);
    ret->count = 1;
    if (ca_rotates(root)) {
        ret->trust[1] = ca_trust(root, a);
        read_issuer(ca_issuer(root, a), a, &ret->issuers[1]);
        ret->count = 2;
    }
    for (size_t i = 0; i < ret->count; i++)
        ret->trust_digest[i] = cert_trust_digest(ret->trust[i]);
}

static void show_tls(struct jwrite *j, const char *trust, const struct show_issuer *issuer)
{
    jwrite_object(j, "TLSInfo");
    jwrite_string(j, "TrustRoot", trust);
    jwrite_string(j, "CertIssuerSubject", issuer->subject);
    jwrite_string(j, "CertIssuerPublicKey", issuer->key);
    jwrite_end(j);
}

void show_tls_wanted(struct jwrite *j, const struct show_authority *authority)
{
    if (authority->count)
        show_tls(j, authority->trust[0], &authority->issuers[authority->count - 1]);
}

void show_tls_of(struct jwrite *j, const struct show_authority *authority, const NodeDescription *node)
{
    struct show_issuer issuer = {.subject = "", .key = ""};
    const char *trust = "";

    for (size_t i = 0; i < authority->count; i++) {
        if (node->has_certificate_issuer && node->certificate_issuer == authority->issuers[i].digest)
            issuer = authority->issuers[i];
        if (node->has_trust && node->trust == authority->trust_digest[i])
            trust = authority->trust[i];
    }
    if (*trust || *issuer.key)
        show_tls(j, trust, &issuer);
}
