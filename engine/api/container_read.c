/* See container_read.h. Tables say which member of the JSON becomes which member of the message, and which ones are
 * refused; functions read what is more than one value. The host's half is in container_read_host.c. */
#include <ctype.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "engine/api/container_read.h"
#include "engine/api/container_read_part.h"
#include "proto/base/jread.h"
#include "proto/base/mem.h"

static const struct field config_fields[] = {
    F_TEXT(ContainerConfig, "Image", image),
    F_TEXT(ContainerConfig, "Hostname", hostname),
    F_TEXT(ContainerConfig, "Domainname", domainname),
    F_TEXT(ContainerConfig, "User", user),
    F_TEXT(ContainerConfig, "WorkingDir", working_dir),
    F_TEXT(ContainerConfig, "StopSignal", stop_signal),
    F_HAS(ContainerConfig, "StopTimeout", INT32, stop_timeout_s),
    F_HAS(ContainerConfig, "AttachStdin", FLAG, attach_stdin),
    F_HAS(ContainerConfig, "AttachStdout", FLAG, attach_stdout),
    F_HAS(ContainerConfig, "AttachStderr", FLAG, attach_stderr),
    F_HAS(ContainerConfig, "Tty", FLAG, tty),
    F_HAS(ContainerConfig, "OpenStdin", FLAG, open_stdin),
    F_HAS(ContainerConfig, "StdinOnce", FLAG, stdin_once),
    F_HAS(ContainerConfig, "NetworkDisabled", FLAG, network_disabled),
    F_COUNT(ContainerConfig, "Env", TEXTS, env),
    F_COUNT(ContainerConfig, "Shell", TEXTS, shell),
    F_COUNT(ContainerConfig, "Labels", MAP, labels),
    F_COUNT(ContainerConfig, "ExposedPorts", KEYS, exposed_ports),
    F_COUNT(ContainerConfig, "Volumes", KEYS, volumes),
    {0},
};

/* A command: a list, or a text that is a list of one. *ret_set: something was given, maybe an empty list. */
static int read_command(struct reading *r, const json_t *object, const char *key, char ***ret, size_t *ret_count,
                        protobuf_c_boolean *ret_set, struct err *e)
{
    const json_t *value = jread_get(object, key);

    if (!json_is_string(value)) {
        *ret_set = value != NULL;
        return jread_strings(object, NULL, key, r->a, ret, ret_count, e);
    }
    if (!json_string_length(value))
        return 0; /* "" is as absent */
    *ret_set = true;
    *ret_count = 1;
    *ret = arena_array(r->a, 1, sizeof(**ret));
    return jread_string(object, NULL, key, r->a, *ret, e);
}
/* --- ports --------------------------------------------------------------------------------------- */

bool container_read_port(const char *text, uint32_t *ret_port, PortProtocol *ret_protocol)
{
    static const char *const names[] = {"tcp", "udp", "sctp"};
    char *end;
    unsigned long port = isdigit((unsigned char)*text) ? strtoul(text, &end, 10) : 0;

    if (port < 1 || port > 65535)
        return false;
    *ret_port = (uint32_t)port;
    *ret_protocol = PORT_PROTOCOL__TCP;
    if (!*end)
        return true;
    for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
        if (*end == '/' && strcasecmp(end + 1, names[i]) == 0) {
            *ret_protocol = (PortProtocol)i;
            return true;
        }
    }
    return false;
}
static int check_exposed(struct reading *r, ContainerConfig *config, struct err *e)
{
    static const char *const names[] = {"tcp", "udp", "sctp"};

    for (size_t i = 0; i < config->n_exposed_ports; i++) {
        PortProtocol protocol;
        uint32_t port;

        if (!container_read_port(config->exposed_ports[i], &port, &protocol))
            return err_set(e, ERR_INVALID, "invalid ExposedPorts: invalid port specification: \"%.120s\"",
                           config->exposed_ports[i]);
        config->exposed_ports[i] = arena_printf(r->a, "%u/%s", port, names[protocol]);
    }
    return 0;
}
/* --- networks ------------------------------------------------------------------------------------ */

static int read_endpoint(struct reading *r, const json_t *given, const char *path, EndpointConfig *ep,
                         struct err *e)
{
    static const struct field fields[] = {
        F_COUNT(EndpointConfig, "Links", TEXTS, links),
        F_COUNT(EndpointConfig, "Aliases", TEXTS, aliases),
        F_TEXT(EndpointConfig, "MacAddress", mac_address),
        F_COUNT(EndpointConfig, "DriverOpts", MAP, options),
        F_HAS(EndpointConfig, "GwPriority", INT32, gateway_priority),
        {0},
    };
    static const struct field ipam_fields[] = {F_TEXT(EndpointConfig, "IPv4Address", ipv4_address), {0}};
    static const char *const absent[] = {"IPv6Address", "LinkLocalIPs", NULL};
    json_t *ipam = NULL;
    int rc = read_fields(r, given, path, fields, ep, e);

    if (rc == 0)
        rc = jread_object(given, path, "IPAMConfig", &ipam, e);
    AUTO_FREE
    char *below = mem_printf("%s.IPAMConfig", path);
    if (rc == 0)
        rc = read_refuse(ipam, below, absent, ERR_UNSUPPORTED, READ_NOT_IMPLEMENTED, e);
    if (rc == 0)
        rc = read_fields(r, ipam, below, ipam_fields, ep, e);
    if (rc == 0 && ep->n_links)
        rc = err_set(e, ERR_UNSUPPORTED, "%s.Links (%.120s) " READ_NOT_IMPLEMENTED, path, ep->links[0]);
    return rc;
}

/* Clients repeat the network mode here; the first of several is the mode where none was given. */
static int read_networking(struct reading *r, const json_t *body, ContainerConfig *config, struct err *e)
{
    HostConfig *host = config->host;
    json_t *networking = NULL, *endpoints = NULL, *endpoint;
    const char *name;
    int rc = jread_object(body, NULL, "NetworkingConfig", &networking, e);

    if (rc == 0)
        rc = jread_object(networking, "NetworkingConfig", "EndpointsConfig", &endpoints, e);
    if (rc < 0 || read_too_many(endpoints, "NetworkingConfig", "EndpointsConfig", e) < 0)
        return rc < 0 ? rc : ERR_INVALID;
    config->endpoints = arena_array(r->a, json_object_size(endpoints), sizeof(*config->endpoints));
    json_object_foreach(endpoints, name, endpoint)
    {
        AUTO_FREE
        char *path = mem_printf("NetworkingConfig.EndpointsConfig.%.64s", name);
        EndpointConfig *ep = ARENA_NEW(r->a, EndpointConfig);

        if (!json_is_object(endpoint) && !json_is_null(endpoint))
            return err_set(e, ERR_INVALID, "invalid %s: an object is expected", path);
        endpoint_config__init(ep);
        ep->network = arena_strdup(r->a, strcmp(name, "default") == 0 ? "bridge" : name);
        rc = read_endpoint(r, endpoint, path, ep, e);
        if (rc < 0)
            return rc;
        if (!host->network_mode || !*host->network_mode ||
            (strcmp(host->network_mode, "default") == 0 && strcmp(name, "default") != 0))
            host->network_mode = arena_strdup(r->a, name);
        config->endpoints[config->n_endpoints++] = ep;
    }
    return 0;
}

/* --- the whole ----------------------------------------------------------------------------------- */

static int read_health(struct reading *r, const json_t *body, ContainerConfig *config, struct err *e)
{
    static const struct field fields[] = {
        F_COUNT(HealthConfig, "Test", TEXTS, test),
        F_HAS(HealthConfig, "Interval", INT64, interval_ns),
        F_HAS(HealthConfig, "Timeout", INT64, timeout_ns),
        F_HAS(HealthConfig, "StartPeriod", INT64, start_period_ns),
        F_HAS(HealthConfig, "StartInterval", INT64, start_interval_ns),
        F_HAS(HealthConfig, "Retries", UINT32, retries),
        {0},
    };
    json_t *given = NULL;
    int rc = jread_object(body, NULL, "Healthcheck", &given, e);

    if (rc < 0 || !given)
        return rc;
    HealthConfig *health = ARENA_NEW(r->a, HealthConfig);
    health_config__init(health);
    config->health = health;
    rc = read_fields(r, given, "Healthcheck", fields, health, e);
    if (rc < 0)
        return rc;
    const struct {
        const char *name;
        int64_t value;
    } times[] = {{"Interval", health->interval_ns},
                 {"Timeout", health->timeout_ns},
                 {"StartPeriod", health->start_period_ns},
                 {"StartInterval", health->start_interval_ns}};
    for (size_t i = 0; i < ARRAY_SIZE(times); i++)
        if (times[i].value != 0 && times[i].value < 1000000)
            return err_set(e, ERR_INVALID, "%s in Healthcheck cannot be less than 1ms (%lld ns)", times[i].name,
                           (long long)times[i].value);
    if (health->n_test && strcmp(health->test[0], "NONE") != 0)
        return err_set(e, ERR_UNSUPPORTED, "Healthcheck (%.120s %.120s) " READ_NOT_IMPLEMENTED, health->test[0],
                       health->n_test > 1 ? health->test[1] : "");
    return 0;
}

static int check_env(const ContainerConfig *config, struct err *e)
{
    for (size_t i = 0; i < config->n_env; i++)
        if (!*config->env[i] || *config->env[i] == '=')
            return err_set(e, ERR_INVALID, "invalid environment variable: %.120s", config->env[i]);
    return 0;
}

static int read_config(struct reading *r, const json_t *body, ContainerConfig *config, struct err *e)
{
    static const char *const absent[] = {"MacAddress", "OnBuild", NULL}, *const windows[] = {"ArgsEscaped", NULL};
    int rc = read_refuse(body, NULL, absent, ERR_UNSUPPORTED, READ_NOT_IMPLEMENTED, e);

    if (rc == 0)
        rc = read_refuse(body, NULL, windows, ERR_INVALID, "is for Windows only", e);
    if (rc == 0)
        rc = read_fields(r, body, NULL, config_fields, config, e);
    if (rc == 0)
        rc = read_command(r, body, "Entrypoint", &config->entrypoint, &config->n_entrypoint,
                          &config->entrypoint_set, e);
    if (rc == 0)
        rc = read_command(r, body, "Cmd", &config->command, &config->n_command, &config->command_set, e);
    config->has_entrypoint_set = config->has_command_set = true;
    if (rc == 0)
        rc = check_env(config, e);
    if (rc == 0)
        rc = check_exposed(r, config, e);
    return rc == 0 ? read_health(r, body, config, e) : rc;
}

int container_read(const json_t *body, unsigned minor, struct arena *a, ContainerConfig **ret, struct err *e)
{
    struct reading r = {.a = a, .minor = minor};
    ContainerConfig *config = ARENA_NEW(a, ContainerConfig);
    json_t *host = NULL;
    int rc;

    container_config__init(config);
    config->host = ARENA_NEW(a, HostConfig);
    host_config__init(config->host);
    rc = read_config(&r, body, config, e);
    if (rc == 0)
        rc = jread_object(body, NULL, "HostConfig", &host, e);
    if (rc == 0)
        rc = container_read_host(&r, host, config->host, e);
    if (rc == 0)
        rc = read_networking(&r, body, config, e);
    if (rc < 0)
        return rc;
    *ret = config;
    return 0;
}
