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
    identity->listen_asked = arena_strdup(a, listen);
    identity->advertise_asked = arena_strdup(a, advertise);
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

void swarm_refresh_addresses(struct swarm *s)
{
    const Identity *identity = s->identity;
    char listen[ADDRESS_TEXT], advertise[ADDRESS_TEXT], host[64];
    struct err e = {0};

    if (!identity->listen_asked || !identity->advertise_asked || !identity->advertise_address)
        return;
    address_host(identity->advertise_address, host, sizeof(host));
    if (!*identity->advertise_asked && address_is_here(host))
        return;
    int rc = address_listen(identity->listen_asked, ADDRESS_MANAGER_PORT, "ListenAddr", listen, &e);
    if (rc == 0)
        rc = address_advertise(identity->advertise_asked, listen, advertise, &e);
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

static int on_renewed(void *ctx, const char *certificate_pem, const char *key_pem, const char *root_pem,
                      struct tls **ret_tls, struct err *e)
{
    struct swarm *s = ctx;
    Identity changed = *s->identity;
    NodeRole before = changed.role;
    struct cert_facts facts;
    uint8_t data_key[32];
    struct tls *tls = NULL;
    int rc = cert_facts(certificate_pem, &facts, e);

    if (rc == 0)
        rc = swarm_take_role(s, facts.identity.role == RPC_ROLE_MANAGER ? NODE_ROLE__MANAGER : NODE_ROLE__WORKER,
                             &changed, data_key, e);
    if (rc == 0)
        rc = tls_new(certificate_pem, key_pem, root_pem, &tls, e);
    if (rc < 0)
        return rc;
    changed.certificate_pem = (char *)certificate_pem;
    changed.key_pem = (char *)key_pem;
    changed.root_pem = (char *)root_pem;
    swarm_replace_identity(s, &changed);
    mem_wipe(data_key, sizeof(data_key));
    tls_unref(s->tls);
    s->tls = tls;
    if (s->agent)
        agent_set_tls(s->agent, tls);
    if (s->manager)
        manager_set_certificate(s->manager, certificate_pem, key_pem, root_pem);
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

void swarm_look(struct swarm *s)
{
    if (s->renew)
        renew_look(s->renew);
    swarm_write_out(s);
}
