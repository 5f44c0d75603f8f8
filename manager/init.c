/* What POST /swarm/init and POST /swarm/join ask for (manager.h, reference/engine-api.yaml). Pure but for jansson's
 * tree.
 *
 * Whether an address exists on this machine is the node's business (agent/address); ranges and pools are checked
 * here, because they are stored and can never be changed. Defaults of the cluster's spec are filled in, so that
 * clients see what holds. */
#include <ctype.h>
#include <string.h>

#include "manager/api/spec.h"
#include "manager/api/validate.h"
#include "manager/manager.h"
#include "proto/base/jread.h"
#include "proto/base/mem.h"
#include "proto/base/message.h"
#include "proto/wire/token.h"

#define POOL_DEFAULT   "10.0.0.0/8"
#define SUBNET_DEFAULT 24
#define SUBNET_MOST    29
#define DATA_PORT      4789
#define DATA_PORT_LOW  1024
#define DATA_PORT_HIGH 49151
#define POOLS_MOST     64
#define REMOTES_MOST   16

struct pool { /* an IPv4 network */
    uint32_t address;
    unsigned length;
};

/* --- addresses ------------------------------------------------------------------------------------------- */

static bool take_number(const char **at, unsigned most, unsigned *ret)
{
    unsigned value = 0, digits = 0;

    for (; isdigit((unsigned char)**at) && digits < 4; (*at)++, digits++)
        value = value * 10 + (unsigned)(**at - '0');
    *ret = value;
    return digits > 0 && digits < 4 && value <= most;
}

/* "10.20.0.0/16"; bits behind the length are dropped. */
static bool parse_pool(const char *text, struct pool *ret)
{
    uint32_t address = 0;
    unsigned part;

    for (int i = 0; i < 4; i++) {
        if ((i && *text++ != '.') || !take_number(&text, 255, &part))
            return false;
        address = address << 8 | part;
    }
    if (*text++ != '/' || !take_number(&text, 32, &ret->length) || *text)
        return false;
    ret->address = ret->length ? address & UINT32_MAX << (32 - ret->length) : 0;
    return true;
}

static bool overlap(const struct pool *a, const struct pool *b)
{
    unsigned length = MIN(a->length, b->length);

    return length == 0 || (a->address ^ b->address) >> (32 - length) == 0;
}

static int take_pool(const char *text, const struct pool *others, size_t count, uint32_t subnet_size,
                     struct pool *ret, struct err *e)
{
    if (!parse_pool(text, ret))
        return err_set(e, ERR_INVALID, "invalid DefaultAddrPool: \"%.60s\" is no IPv4 network like 10.0.0.0/8",
                       text);
    if (ret->length > subnet_size)
        return err_set(e, ERR_INVALID, "invalid DefaultAddrPool: %s is smaller than one subnet (SubnetSize %u)",
                       text, subnet_size);
    for (size_t i = 0; i < count; i++)
        if (overlap(&others[i], ret))
            return err_set(e, ERR_INVALID, "invalid DefaultAddrPool: %s overlaps with another pool", text);
    return 0;
}

static int take_pools(const json_t *root, struct arena *a, Cluster *cluster, struct err *e)
{
    struct pool pools[POOLS_MOST];
    char **texts = NULL;
    size_t count = 0;
    int rc = jread_strings(root, NULL, "DefaultAddrPool", a, &texts, &count, e);

    if (rc < 0)
        return rc;
    if (count > POOLS_MOST)
        return err_set(e, ERR_INVALID, "invalid DefaultAddrPool: %zu pools are more than %d", count, POOLS_MOST);
    if (count == 0) {
        texts = arena_array(a, 1, sizeof(*texts));
        texts[count++] = arena_strdup(a, POOL_DEFAULT);
    }
    cluster->default_address_pools = arena_array(a, count, sizeof(char *));
    for (size_t i = 0; i < count; i++) {
        rc = take_pool(texts[i], pools, i, cluster->subnet_size, &pools[i], e);
        if (rc < 0)
            return rc;
        uint32_t n = pools[i].address;
        cluster->default_address_pools[cluster->n_default_address_pools++] =
            arena_printf(a, "%u.%u.%u.%u/%u", n >> 24, n >> 16 & 255, n >> 8 & 255, n & 255, pools[i].length);
    }
    return 0;
}

/* --- numbers ----------------------------------------------------------------------------------------------- */

static int take_numbers(const json_t *root, Cluster *cluster, struct err *e)
{
    uint64_t subnet = 0, port = 0;
    int rc = jread_uint(root, NULL, "SubnetSize", &subnet, e);

    if (rc == 0)
        rc = jread_uint(root, NULL, "DataPathPort", &port, e);
    if (rc < 0)
        return rc;
    if (subnet > SUBNET_MOST)
        return err_set(e, ERR_INVALID, "invalid SubnetSize: %llu must be at most %d", (unsigned long long)subnet,
                       SUBNET_MOST);
    if (port && (port < DATA_PORT_LOW || port > DATA_PORT_HIGH))
        return err_set(e, ERR_INVALID, "invalid DataPathPort: %llu must be 0 or between %d and %d",
                       (unsigned long long)port, DATA_PORT_LOW, DATA_PORT_HIGH);
    cluster->has_subnet_size = cluster->has_data_path_port = true;
    cluster->subnet_size = subnet ? (uint32_t)subnet : SUBNET_DEFAULT;
    cluster->data_path_port = port ? (uint32_t)port : DATA_PORT;
    return 0;
}

static int take_availability(const json_t *root, struct arena *a, NodeAvailability *ret, struct err *e)
{
    static const char *const names[] = {"active", "pause", "drain"}; /* as the enum is numbered */
    char *text = NULL;
    int rc = jread_string(root, NULL, "Availability", a, &text, e);

    *ret = NODE_AVAILABILITY__ACTIVE;
    if (rc < 0 || !text || !*text)
        return rc;
    for (size_t i = 0; i < ARRAY_SIZE(names); i++)
        if (strcmp(text, names[i]) == 0) {
            *ret = (NodeAvailability)i;
            return 0;
        }
    return err_set(e, ERR_INVALID,
                   "invalid Availability: expected \"active\", \"pause\" or \"drain\", got \"%.40s\"", text);
}

/* --- the spec ---------------------------------------------------------------------------------------------- */

static int take_spec(const json_t *root, struct arena *a, ClusterSpec **ret, struct err *e)
{
    char *certificate = NULL, *key = NULL;
    json_t *object = NULL;
    int rc = jread_object(root, NULL, "Spec", &object, e);

    if (rc < 0)
        return rc;
    if (object) {
        rc = spec_read_signing(object, a, &certificate, &key, e);
        if (rc == 0 && (certificate || key))
            rc =
                err_set(e, ERR_UNSUPPORTED,
                        "CAConfig.SigningCACert and SigningCAKey: a new swarm begins with a root of its own, which "
                        "an update replaces by yours");
        if (rc == 0)
            rc = spec_read_cluster(object, a, ret, e);
    } else {
        *ret = ARENA_NEW(a, ClusterSpec);
        cluster_spec__init(*ret);
    }
    if (rc == 0)
        rc = validate_cluster(*ret, e);
    if (rc < 0)
        return rc;
    ClusterSpec *spec = *ret;
    spec->name = arena_strdup(a, "default");
    if (spec->log_driver && !(spec->log_driver->name && *spec->log_driver->name))
        spec->log_driver = NULL;
    MESSAGE_DEFAULT(spec, task_history_limit, 5);
    MESSAGE_DEFAULT(spec, snapshot_interval, 10000);
    MESSAGE_DEFAULT(spec, keep_old_snapshots, 0);
    MESSAGE_DEFAULT(spec, log_entries_for_slow_followers, 500);
    MESSAGE_DEFAULT(spec, election_tick, 10);
    MESSAGE_DEFAULT(spec, heartbeat_tick, 1);
    MESSAGE_DEFAULT(spec, heartbeat_period_ns, 5000000000);
    MESSAGE_DEFAULT(spec, node_cert_expiry_ns, 7776000000000000);
    return 0;
}

static int take_text(const json_t *root, const char *key, struct arena *a, const char **ret, struct err *e)
{
    char *text = NULL;
    int rc = jread_string(root, NULL, key, a, &text, e);

    *ret = text ? text : "";
    return rc;
}

static int take_addresses(const json_t *root, struct arena *a, const char **ret_listen, const char **ret_advertise,
                          const char **ret_data_path, struct err *e)
{
    int rc = take_text(root, "ListenAddr", a, ret_listen, e);

    if (rc == 0)
        rc = take_text(root, "AdvertiseAddr", a, ret_advertise, e);
    return rc == 0 ? take_text(root, "DataPathAddr", a, ret_data_path, e) : rc;
}

int manager_init_parse(const char *body, size_t size, struct arena *a, struct manager_init *ret, struct err *e)
{
    struct manager_init init = {.cluster = ARENA_NEW(a, Cluster)};
    AUTO_JSON json_t *root = NULL;
    bool autolock = false;
    int rc = jread_parse(body, size, &root, e);

    cluster__init(init.cluster);
    if (rc == 0 && !json_is_object(root))
        rc = err_set(e, ERR_INVALID, "invalid request: expected an object");
    if (rc == 0)
        rc = take_addresses(root, a, &init.listen_address, &init.advertise_address, &init.data_path_address, e);
    if (rc == 0)
        rc = jread_bool(root, NULL, "ForceNewCluster", &init.force_new_cluster, e);
    if (rc == 0)
        rc = jread_bool(root, NULL, "AutoLockManagers", &autolock, e);
    if (rc == 0)
        rc = take_availability(root, a, &init.availability, e);
    if (rc == 0)
        rc = take_numbers(root, init.cluster, e);
    if (rc == 0)
        rc = take_pools(root, a, init.cluster, e);
    if (rc == 0)
        rc = take_spec(root, a, &init.cluster->spec, e);
    if (rc == 0 && autolock)
        init.cluster->spec->has_autolock_managers = init.cluster->spec->autolock_managers = true;
    if (rc == 0)
        *ret = init;
    return rc;
}

static int take_remotes(const json_t *root, struct arena *a, struct manager_join *ret, struct err *e)
{
    int rc = jread_strings(root, NULL, "RemoteAddrs", a, &ret->remotes, &ret->remote_count, e);

    if (rc < 0)
        return rc;
    if (ret->remote_count == 0)
        return err_set(e, ERR_INVALID, "at least 1 RemoteAddr is required to join");
    if (ret->remote_count > REMOTES_MOST)
        return err_set(e, ERR_INVALID, "invalid RemoteAddrs: %zu addresses are more than %d", ret->remote_count,
                       REMOTES_MOST);
    return 0;
}

static int take_token(const json_t *root, struct arena *a, const char **ret, struct err *e)
{
    char digest[TOKEN_DIGEST_TEXT + 1], secret[TOKEN_SECRET_TEXT + 1];
    int rc = take_text(root, "JoinToken", a, ret, e);

    if (rc == 0)
        rc = token_parse(*ret, digest, secret, e);
    mem_wipe(secret, sizeof(secret));
    return rc;
}

int manager_join_parse(const char *body, size_t size, struct arena *a, struct manager_join *ret, struct err *e)
{
    struct manager_join join = {0};
    AUTO_JSON json_t *root = NULL;
    int rc = jread_parse(body, size, &root, e);

    if (rc == 0 && !json_is_object(root))
        rc = err_set(e, ERR_INVALID, "invalid request: expected an object");
    if (rc == 0)
        rc = take_remotes(root, a, &join, e);
    if (rc == 0)
        rc = take_token(root, a, &join.token, e);
    if (rc == 0)
        rc = take_addresses(root, a, &join.listen_address, &join.advertise_address, &join.data_path_address, e);
    if (rc == 0)
        rc = take_availability(root, a, &join.availability, e);
    if (rc == 0)
        *ret = join;
    return rc;
}
