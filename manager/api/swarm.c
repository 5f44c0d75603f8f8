/* The swarm itself: inspect, update with rotation of join tokens, the unlock key; and networks as far as services
 * know them (reference/swarm-surface.md sections 4 to 6). What only one node does (init, join, leave, unlock) is
 * the agent's. */
#include <string.h>

#include "manager/api/asks.h"
#include "manager/api/authority.h"
#include "manager/api/nouns.h"
#include "manager/api/resolve.h"
#include "manager/api/show.h"
#include "manager/api/spec.h"
#include "manager/api/validate.h"
#include "manager/ca/ca.h"
#include "manager/ca/rotation.h"
#include "manager/manager.h"
#include "proto/base/jread.h"
#include "proto/base/mem.h"
#include "proto/base/message.h"

struct swarm_args {
    ClusterSpec *spec;
    uint64_t version;
    char *certificate, *key; /* a root of the user's own; NULL: none */
    bool rotate_worker, rotate_manager, rotate_unlock_key;
};

static int no_swarm(struct err *e)
{
    return err_set(e, ERR_UNAVAILABLE, "the swarm is being founded; try again in a moment");
}

/* --- inspect ----------------------------------------------------------------------------------------------- */

static void inspect(struct ask *k)
{
    struct view *v = view_begin(control_store(asks_config(k->asks)->control));
    bool found = authority_pack_cluster(&k->page.bytes, v, true);
    struct err e;

    view_end(v);
    if (!found) {
        no_swarm(&e);
        ask_fail(k, &e);
        return;
    }
    k->page.render = show_swarm;
    ask_reply(k, 200);
}

static void begin_inspect(struct ask *k)
{
    ask_read(k, inspect);
}

static void unlock_key(struct ask *k)
{
    struct view *v = view_begin(control_store(asks_config(k->asks)->control));
    uint8_t key[MANAGER_LOCK_KEY];
    char text[MANAGER_LOCK_TEXT + 1] = ""; /* autolock is off: there is none */

    if (authority_lock_key(v, key))
        manager_lock_format(key, text);
    view_end(v);
    buf_printf(&k->page.bytes, "{\"UnlockKey\":\"%s\"}\n", text); /* base64 needs no escaping */
    mem_wipe(key, sizeof(key));
    mem_wipe(text, sizeof(text));
    ask_reply(k, 200);
}

static void begin_unlock_key(struct ask *k)
{
    ask_read(k, unlock_key);
}

/* --- update ------------------------------------------------------------------------------------------------ */

static int prepare_update(struct ask *k, struct err *e)
{
    struct swarm_args *args = k->args = ARENA_NEW(&k->arena, struct swarm_args);
    AUTO_JSON json_t *root = NULL;
    int rc = ask_query_version(k, "swarm", &args->version, e);

    if (rc == 0)
        rc = jread_parse(k->body, k->body_size, &root, e);
    if (rc == 0 && !json_is_object(root))
        rc = err_set(e, ERR_INVALID, "invalid swarm spec: expected an object");
    if (rc == 0)
        rc = spec_read_cluster(root, &k->arena, &args->spec, e);
    if (rc == 0)
        rc = spec_read_signing(root, &k->arena, &args->certificate, &args->key, e);
    if (rc < 0)
        return rc;
    args->rotate_unlock_key = ask_query_bool(k, "rotateManagerUnlockKey");
    args->rotate_worker = ask_query_bool(k, "rotateWorkerToken");
    args->rotate_manager = ask_query_bool(k, "rotateManagerToken");
    return validate_cluster(args->spec, e) < 0 ? ask_rpc_error(e) : 0;
}

/* Name and labels are always meant; of the rest what is absent stays as it is. */
static ClusterSpec merged(const ClusterSpec *present, const ClusterSpec *wanted)
{
    ClusterSpec spec = *present;

    spec.n_labels = wanted->n_labels;
    spec.labels = wanted->labels;
    MESSAGE_TAKE(&spec, wanted, task_history_limit);
    MESSAGE_TAKE(&spec, wanted, snapshot_interval);
    MESSAGE_TAKE(&spec, wanted, keep_old_snapshots);
    MESSAGE_TAKE(&spec, wanted, log_entries_for_slow_followers);
    MESSAGE_TAKE(&spec, wanted, election_tick);
    MESSAGE_TAKE(&spec, wanted, heartbeat_tick);
    MESSAGE_TAKE(&spec, wanted, heartbeat_period_ns);
    MESSAGE_TAKE(&spec, wanted, node_cert_expiry_ns);
    MESSAGE_TAKE(&spec, wanted, autolock_managers);
    MESSAGE_TAKE(&spec, wanted, force_rotate);
    if (wanted->log_driver) /* one without a name takes the default away */
        spec.log_driver = wanted->log_driver->name && *wanted->log_driver->name ? wanted->log_driver : NULL;
    return spec;
}

/* ForceRotate that has grown asks for another root, a certificate of the user's for that one. */
static int update_root(struct ask *k, RootCa *root, const ClusterSpec *present, struct err *e)
{
    const struct swarm_args *args = k->args;
    uint64_t wanted = args->spec->has_force_rotate ? args->spec->force_rotate : present->force_rotate;

    if (wanted < present->force_rotate)
        return err_set(e, ERR_INVALID, "CAConfig.ForceRotate: %llu is less than what it was, %llu",
                       (unsigned long long)wanted, (unsigned long long)present->force_rotate);
    if (wanted == present->force_rotate && !args->certificate && !args->key)
        return 0;
    root->has_last_forced_rotation = true;
    root->last_forced_rotation = wanted;
    return ca_rotation_begin(root, args->certificate, args->key, clock_wall_ms(asks_config(k->asks)->clock),
                             &k->arena, e);
}

/* There is a key exactly while autolock is on. `fresh` becomes the new one where one is due. */
static int update_unlock_key(Cluster *cluster, bool rotate, uint8_t fresh[MANAGER_LOCK_KEY], struct err *e)
{
    if (!cluster->spec->autolock_managers) {
        cluster->has_unlock_key = false;
        return rotate ? err_set(e, ERR_PRECONDITION,
                                "rotateManagerUnlockKey: autolock is off, there is no key to rotate")
                      : 0;
    }
    if (!cluster->has_unlock_key || rotate)
        cluster->unlock_key = (ProtobufCBinaryData){MANAGER_LOCK_KEY, fresh};
    cluster->has_unlock_key = true;
    return 0;
}

static int execute_update(struct ask *k, struct control_write *w, struct draft *d, struct plan *p, struct err *e)
{
    static const ClusterSpec nothing = CLUSTER_SPEC__INIT;
    const struct swarm_args *args = k->args;
    char worker[CA_SECRET_TEXT + 1], manager[CA_SECRET_TEXT + 1];
    uint8_t fresh[MANAGER_LOCK_KEY];
    struct object object;

    if (!p->index->cluster || draft_get(d, KIND_CLUSTER, p->index->cluster, &object) < 0)
        return no_swarm(e);
    if (object.version != args->version) {
        err_set(e, ERR_SEQUENCE, "update out of sequence");
        return ask_rpc_error(e);
    }
    Cluster cluster = *(const Cluster *)object.message;
    const ClusterSpec *present = cluster.spec ? cluster.spec : &nothing;
    ClusterSpec spec = merged(present, args->spec);
    RootCa root = cluster.root_ca ? *cluster.root_ca : (RootCa)ROOT_CA__INIT;
    ca_secret_new(asks_config(k->asks)->entropy, worker);
    ca_secret_new(asks_config(k->asks)->entropy, manager);
    if (args->rotate_worker)
        root.worker_secret = worker;
    if (args->rotate_manager)
        root.manager_secret = manager;
    cluster.spec = &spec;
    cluster.root_ca = &root;
    entropy_fill(asks_config(k->asks)->entropy, fresh, sizeof(fresh));
    int rc = update_unlock_key(&cluster, args->rotate_unlock_key, fresh, e);
    if (rc == 0)
        rc = update_root(k, &root, present, e);
    if (rc == 0)
        plan_put(p, KIND_CLUSTER, object.number, &cluster);
    mem_wipe(fresh, sizeof(fresh));
    if (rc < 0)
        return ask_rpc_error(e);
    w->http_status = 200;
    return 0;
}

static void begin_update(struct ask *k)
{
    ask_write(k, execute_update);
}

const struct ask_route swarm_routes[] = {
    {"GET", "/swarm", ASK_READ, .begin = begin_inspect},
    {"POST", "/swarm/update", ASK_WRITE, .prepare = prepare_update, .begin = begin_update},
    {"GET", "/swarm/unlockkey", ASK_READ, .begin = begin_unlock_key},
    {0},
};

/* --- networks ---------------------------------------------------------------------------------------------- */

/* The engine serves networks; asked for one of the swarm's it sends the client here, so that a service can name it.
 */
static void inspect_network(struct ask *k)
{
    struct view *v = view_begin(control_store(asks_config(k->asks)->control));
    uint64_t number;
    struct err e;
    int rc = resolve(v, KIND_NETWORK, k->id, &number, &e);

    if (rc == 0)
        pack_from(&k->page.bytes, v, KIND_NETWORK, number);
    view_end(v);
    if (rc < 0) {
        ask_fail(k, &e);
        return;
    }
    k->page.render = show_network;
    ask_reply(k, 200);
}

static void begin_inspect_network(struct ask *k)
{
    ask_read(k, inspect_network);
}

const struct ask_route network_routes[] = {
    {"GET", "/networks/{id}", ASK_READ, .by_invitation = true, .begin = begin_inspect_network},
    {0},
};
