/* A membership's identity: in memory, on the disk, and renewed (swarm.h, agent/renew.h).
 *
 * What is in memory is what counts while we run; it is written whenever it changes, one write at a time, so that an
 * older version can never overtake a newer one, and again after a while when the disk refuses. A crash between a
 * renewal and its write loses nothing: the certificate on the disk is valid as well, and is renewed once more.
 * Nothing may be written after the membership was forgotten: leaving waits for the write under way. */
#include <stdlib.h>
#include <string.h>

#include "agent/address.h"
#include "agent/identity.h"
#include "agent/swarm_internal.h"
#include "proto/base/log.h"
#include "proto/base/mem.h"
#include "proto/base/message.h"
#include "proto/wire/cert.h"

#define WRITE_AGAIN_MS 5000

/* --- writing --------------------------------------------------------------------------------------- */

static void on_again(uv_timer_t *timer)
{
    swarm_write_out(timer->data);
}

static void on_written(void *ctx, const struct err *e)
{
    struct swarm *s = ctx;

    s->is_writing = false;
    if (e->code) {
        log_warn("cannot write this node's identity; it is tried again", "error=\"%s\"", e->text);
        s->is_unwritten = true;
    }
    if (!swarm_callback_came(s))
        return;
    void (*then)(struct swarm * s) = s->after_write;
    s->after_write = NULL;
    if (then)
        then(s);
    else if (e->code)
        uv_timer_start(s->again, on_again, WRITE_AGAIN_MS, 0);
    else if (s->is_unwritten)
        swarm_write_out(s);
    else if ((then = s->when_durable)) {
        s->when_durable = NULL;
        then(s);
    }
}

static bool may_write(const struct swarm *s)
{
    return s->state == SWARM_ACTIVE || (s->state == SWARM_PENDING && s->identity && !s->is_entering);
}

void swarm_write_out(struct swarm *s)
{
    struct err e;

    if (!s->is_unwritten || s->is_writing || !may_write(s))
        return;
    s->is_unwritten = false;
    s->is_writing = true;
    s->pending++;
    if (identity_write(s->config.loop, s->config.data_dir, s->identity, on_written, s, &e) < 0)
        on_written(s, &e);
}

void swarm_remember(struct swarm *s)
{
    s->is_unwritten = true;
    swarm_write_out(s);
}

void swarm_when_written(struct swarm *s, void (*then)(struct swarm *s))
{
    if (s->is_writing)
        s->after_write = then;
    else
        then(s);
}

void swarm_when_durable(struct swarm *s, void (*then)(struct swarm *s))
{
    if (s->is_writing || s->is_unwritten)
        s->when_durable = then;
    else
        then(s);
}

/* --- what changes ---------------------------------------------------------------------------------- */

void swarm_replace_identity(struct swarm *s, const Identity *changed)
{
    Identity *copy = message_dup(changed);

    identity_wipe(s->identity);
    message_free(s->identity);
    s->identity = copy;
    swarm_remember(s);
}

static bool same_managers(const Identity *identity, char *const *managers, size_t count)
{
    if (identity->n_managers != count)
        return false;
    for (size_t i = 0; i < count; i++)
        if (strcmp(identity->managers[i], managers[i]) != 0)
            return false;
    return true;
}

void swarm_set_managers(struct swarm *s, char *const *managers, size_t count)
{
    if (!may_write(s) || same_managers(s->identity, managers, count))
        return;
    Identity changed = *s->identity;
    changed.managers = (char **)managers;
    changed.n_managers = count;
    swarm_replace_identity(s, &changed);
}

/* What to remember of the user's words: an interface's name or a foreign address; "" for an address of this machine
 * (or none), which may change. */
static char *how_asked(const char *text, struct arena *a)
{
    char address[ADDRESS_TEXT], name[ADDRESS_NAME], host[64];
    int port;

    if (address_remote(text, ADDRESS_MANAGER_PORT, "address", address, name, &port, NULL) < 0)
        return arena_strdup(a, "");
    address_host(address, host, sizeof(host));
    return arena_strdup(a, !*name && address_is_here(host) ? "" : text);
}

int swarm_read_addresses(Identity *identity, const char *listen, const char *advertise, const char *data_path,
                         bool is_joining, struct arena *a, struct err *e)
{
    char *listen_at = arena_alloc(a, ADDRESS_TEXT), *advertised = arena_alloc(a, ADDRESS_TEXT),
         *data_path_at = arena_alloc(a, ADDRESS_TEXT), host[64];
    int rc = address_listen(listen, ADDRESS_MANAGER_PORT, "ListenAddr", listen_at, e);

    if (rc < 0)
        return rc;
    address_host(listen_at, host, sizeof(host));
    bool is_open = is_joining && !*advertise && address_is_unspecified(host);
    if (!is_open)
        rc = address_advertise(advertise, listen_at, advertised, e);
    if (rc == 0 && *data_path)
        rc = address_listen(data_path, ADDRESS_MANAGER_PORT, "DataPathAddr", data_path_at, e);
    if (rc < 0)
        return rc;
    identity->listen_asked = how_asked(listen, a);
    identity->advertise_asked = how_asked(advertise, a);
    identity->listen_address = listen_at;
    identity->advertise_address = is_open ? NULL : advertised;
    identity->data_path_address = *data_path ? data_path_at : NULL;
    return 0;
}

static void replace_addresses(struct swarm *s, char *listen, char *advertise)
{
    Identity changed = *s->identity;

    log_info("this node's address has changed", "advertise=%s before=%s listen=%s", advertise,
             s->identity->advertise_address, listen);
    changed.listen_address = listen;
    changed.advertise_address = advertise;
    swarm_replace_identity(s, &changed);
}

/* What an address of this machine is now: it was asked for as an interface, or as an address that is here, or was
 * here (asked is "") and is looked for again. One that never was here is a gateway's, and stays. */
static int refresh_one(const char *asked, const char *before, char ret[ADDRESS_TEXT], struct err *e)
{
    char host[64], name[ADDRESS_NAME], now[64];
    int port;

    (void)snprintf(ret, ADDRESS_TEXT, "%s", before); /* it was made by address_make */
    address_host(before, host, sizeof(host));
    if (!asked || address_is_unspecified(host))
        return 0;
    if (*asked && address_remote(asked, address_port(before), "address", ret, name, &port, e) == 0 && *name)
        return address_listen(asked, address_port(before), "address", ret, e);
    if (*asked || address_is_here(host))
        return 0;
    int rc = address_instead(host, now, e);
    if (rc == 0)
        address_make(now, address_port(before), ret);
    return rc;
}

void swarm_refresh_addresses(struct swarm *s)
{
    const Identity *identity = s->identity;
    char listen[ADDRESS_TEXT], advertise[ADDRESS_TEXT];
    struct err e = {0};

    if (!identity->listen_address || !identity->advertise_address)
        return;
    int rc = refresh_one(identity->listen_asked, identity->listen_address, listen, &e);
    if (rc == 0)
        rc = refresh_one(identity->advertise_asked, identity->advertise_address, advertise, &e);
    if (rc < 0)
        log_warn("this node goes on with the address it had", "advertise=%s error=\"%s\"",
                 identity->advertise_address, e.text);
    else if (strcmp(advertise, identity->advertise_address) != 0 || strcmp(listen, identity->listen_address) != 0)
        replace_addresses(s, listen, advertise);
}

void swarm_set_epoch(struct swarm *s, uint64_t epoch)
{
    if (s->state != SWARM_ACTIVE || s->identity->epoch >= epoch)
        return;
    Identity changed = *s->identity;
    changed.has_epoch = true;
    changed.epoch = epoch;
    swarm_replace_identity(s, &changed);
}

/* --- renewal --------------------------------------------------------------------------------------- */

static struct manager *own_manager(void *ctx)
{
    struct swarm *s = ctx;

    return s->manager_ready ? s->manager : NULL;
}

/* The manager that we have a session with is the leader, or knows it; else any that we know, our own among them. */
const char *swarm_manager_to_ask(void *ctx, unsigned attempt)
{
    struct swarm *s = ctx;
    const char *leader = s->agent ? agent_manager(s->agent) : NULL;

    if (leader && attempt % 2 == 0)
        return leader;
    for (size_t i = 0; i < s->identity->n_managers; i++) {
        const char *manager = s->identity->managers[(attempt + i) % s->identity->n_managers];

        if (s->manager_ready || !swarm_is_own(s, manager))
            return manager;
    }
    return leader;
}

struct tls *swarm_tls(void *ctx)
{
    return ((struct swarm *)ctx)->tls;
}

/* Take a changed identity and what was made of it. */
static void use_identity(struct swarm *s, const Identity *changed, struct tls *tls)
{
    swarm_replace_identity(s, changed);
    tls_unref(s->tls);
    s->tls = tls;
    if (s->agent)
        agent_set_tls(s->agent, tls, s->identity);
    if (s->manager)
        manager_set_certificate(s->manager, s->identity->certificate_pem, s->identity->key_pem,
                                s->identity->root_pem);
}

static int on_renewed(void *ctx, const struct renewed *renewed, struct tls **ret_tls, struct err *e)
{
    struct swarm *s = ctx;
    Identity changed = *s->identity;
    NodeRole before = changed.role;
    struct cert_facts facts;
    uint8_t data_key[32];
    struct tls *tls = NULL;
    int rc = cert_facts(renewed->certificate_pem, &facts, e);

    if (rc == 0)
        rc = swarm_take_role(s, facts.identity.role == RPC_ROLE_MANAGER ? NODE_ROLE__MANAGER : NODE_ROLE__WORKER,
                             &changed, data_key, e);
    if (rc == 0)
        rc = tls_new(renewed->certificate_pem, renewed->key_pem, renewed->root_pem, &tls, e);
    if (rc < 0)
        return rc;
    changed.certificate_pem = (char *)renewed->certificate_pem;
    changed.key_pem = (char *)renewed->key_pem;
    changed.root_pem = (char *)renewed->root_pem;
    swarm_lock(&changed, renewed->lock_key, renewed->lock_version);
    use_identity(s, &changed, tls);
    mem_wipe(data_key, sizeof(data_key));
    *ret_tls = tls;
    swarm_role_taken(s, before);
    return 0;
}

void swarm_start_renewal(struct swarm *s)
{
    struct renew_config config = {.loop = s->config.loop,
                                  .clock = s->config.clock,
                                  .entropy = s->config.entropy,
                                  .certificate_pem = s->identity->certificate_pem,
                                  .tls = s->tls,
                                  .ctx = s,
                                  .own = own_manager,
                                  .address = swarm_manager_to_ask,
                                  .on_renewed = on_renewed};
    struct err e;

    if (s->renew)
        return;
    if (renew_open(&config, &s->renew, &e) < 0) {
        s->renew = NULL; /* the identity was checked when it was read: cannot happen, and is said if it does */
        log_error("this node's certificate will not be renewed", "error=\"%s\"", e.text);
    }
}

/* --- the cluster's roots --------------------------------------------------------------------------- */

/* Trust these roots and no others. Not when our own certificate does not lead to them: then another one is due,
 * which brings them. */
static void take_roots(struct swarm *s, const char *root_pem)
{
    Identity changed = *s->identity;
    struct tls *tls = NULL;
    struct err e;

    if (strcmp(root_pem, changed.root_pem) == 0)
        return;
    changed.root_pem = (char *)root_pem;
    int rc = cert_check(changed.certificate_pem, changed.key_pem, root_pem, &e);
    if (rc == 0)
        rc = tls_new(changed.certificate_pem, changed.key_pem, root_pem, &tls, &e);
    if (rc < 0) {
        log_warn("the cluster's roots are taken with the next certificate", "error=\"%s\"", e.text);
        return;
    }
    log_info("the cluster's roots have changed", "node=%s", changed.node_id);
    use_identity(s, &changed, tls);
    if (s->renew)
        renew_set_tls(s->renew, tls);
}

void swarm_on_authority(void *ctx, const Authority *authority)
{
    struct swarm *s = ctx;
    AUTO_FREE
    char *root_pem = mem_strndup((const char *)authority->root_pem.data, authority->root_pem.len);
    uint64_t issuer = 0;

    if (!may_write(s))
        return;
    take_roots(s, root_pem);
    if (!s->renew)
        return;
    int64_t within_ms = authority->within_ms;
    if (cert_issuer_digest(s->identity->certificate_pem, s->identity->root_pem, &issuer, NULL) < 0 ||
        issuer != authority->issuer)
        renew_soon(s->renew, (int64_t)entropy_below(s->config.entropy, (uint64_t)within_ms + 1));
    else
        renew_limit(s->renew, authority->lifetime_ms, within_ms);
}

void swarm_look(struct swarm *s)
{
    if (s->renew)
        renew_look(s->renew);
    swarm_write_out(s);
}
