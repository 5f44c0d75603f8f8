/* See container_show.h. The members stand in the order of the API's description. Maps that clients range over are
 * never null; lists are [] when empty, but those few that mean something else when they are (MaskedPaths). */
#include <stdio.h>
#include <string.h>

#include "engine/api/container_show.h"
#include "engine/api/duration.h"
#include "engine/container/etc.h"
#include "engine/container/plug.h"
#include "proto/base/hash.h"
#include "proto/base/mem.h"

static const char *const protocols[] = {"tcp", "udp", "sctp"};

void show_texts(struct jwrite *j, const char *key, char *const *texts, size_t count)
{
    jwrite_array(j, key);
    for (size_t i = 0; i < count; i++)
        jwrite_string(j, NULL, texts[i]);
    jwrite_end(j);
}

void show_pairs(struct jwrite *j, const char *key, KeyValue *const *pairs, size_t count)
{
    jwrite_object(j, key);
    for (size_t i = 0; i < count; i++)
        jwrite_string(j, pairs[i]->key, pairs[i]->value);
    jwrite_end(j);
}

void show_texts_or_null(struct jwrite *j, const char *key, char *const *texts, size_t count)
{
    if (count)
        show_texts(j, key, texts, count);
    else
        jwrite_null(j, key);
}

void network_id(const struct engine *en, const char *name, char ret[HEX_ID_TEXT + 1])
{
    AUTO_FREE
    char *text = mem_printf("shoal network %s of engine %s", name, en->id);
    uint8_t digest[SHA256_BYTES];

    sha256(text, strlen(text), digest);
    hex_encode(digest, sizeof(digest), ret);
}

/* --- state --------------------------------------------------------------------------------------- */

void container_status_text(const struct container *c, int64_t now_ns, char *ret, size_t size)
{
    const ContainerState *state = c->record->state;
    char since[DURATION_TEXT];

    switch (c->life) {
    case LIFE_RUNNING:
        duration_words(now_ns - state->started_ns, since);
        (void)snprintf(ret, size, "Up %s%s", since, state->paused ? " (Paused)" : "");
        return;
    case LIFE_REMOVING:
        (void)snprintf(ret, size, "Removal In Progress");
        return;
    case LIFE_WAITING:
        duration_words(now_ns - state->finished_ns, since);
        (void)snprintf(ret, size, "Restarting (%d) %s ago", (int)state->exit_code, since);
        return;
    default:
        if (c->is_dead) {
            (void)snprintf(ret, size, "Dead");
        } else if (!state->finished_ns) {
            (void)snprintf(ret, size, "Created");
        } else {
            duration_words(now_ns - state->finished_ns, since);
            (void)snprintf(ret, size, "Exited (%d) %s ago", (int)state->exit_code, since);
        }
    }
}

static void show_state(const struct container *c, struct jwrite *j)
{
    const ContainerState *state = c->record->state;

    jwrite_object(j, "State");
    jwrite_string(j, "Status", container_status_word(c));
    jwrite_bool(j, "Running", container_is_running(c));
    jwrite_bool(j, "Paused", state->paused);
    jwrite_bool(j, "Restarting", c->life == LIFE_WAITING);
    jwrite_bool(j, "OOMKilled", state->oom_killed);
    jwrite_bool(j, "Dead", c->is_dead);
    jwrite_int(j, "Pid", state->pid);
    jwrite_int(j, "ExitCode", state->exit_code);
    jwrite_string(j, "Error", state->error);
    jwrite_time_ns(j, "StartedAt", state->started_ns);
    jwrite_time_ns(j, "FinishedAt", state->finished_ns);
    jwrite_end(j);
}

/* --- mounts and networks -------------------------------------------------------------------------- */

static void show_mounts(const ContainerRecord *record, struct jwrite *j)
{
    static const char *const types[] = {"bind", "volume", "tmpfs"};

    jwrite_array(j, "Mounts");
    for (size_t i = 0; i < record->n_mounts; i++) {
        const MountPoint *p = record->mounts[i];

        if (p->type == MOUNT_TYPE__TMPFS && !p->spec)
            continue; /* of --tmpfs: shown in HostConfig.Tmpfs alone */
        jwrite_object(j, NULL);
        jwrite_string(j, "Type", types[p->type]);
        if (p->type == MOUNT_TYPE__VOLUME)
            jwrite_string(j, "Name", p->volume);
        jwrite_string(j, "Source", p->source);
        jwrite_string(j, "Destination", p->target);
        if (p->type == MOUNT_TYPE__VOLUME)
            jwrite_string(j, "Driver", "local");
        jwrite_string(j, "Mode", p->mode);
        jwrite_bool(j, "RW", !p->read_only);
        jwrite_string(j, "Propagation", p->type == MOUNT_TYPE__BIND ? p->propagation : "");
        jwrite_end(j);
    }
    jwrite_end(j);
}

void show_mac(const NetworkEndpoint *ep, struct jwrite *j)
{
    const uint8_t *m = ep && ep->mac.len == 6 ? ep->mac.data : NULL;

    if (m)
        jwrite_printf(j, "MacAddress", "%02x:%02x:%02x:%02x:%02x:%02x", m[0], m[1], m[2], m[3], m[4], m[5]);
    else
        jwrite_string(j, "MacAddress", "");
}

void show_ipv4(const NetworkEndpoint *ep, const char *key, bool with_length, struct jwrite *j)
{
    char text[IPAM_TEXT];

    if (!ep || !ep->has_ipv4) {
        jwrite_string(j, key, "");
        return;
    }
    ipam_address_format(ep->ipv4, text);
    if (with_length)
        jwrite_printf(j, key, "%s/%u", text, ep->ipv4_length);
    else
        jwrite_string(j, key, text);
}

static void show_gateway(const NetworkEndpoint *ep, struct jwrite *j)
{
    char text[IPAM_TEXT] = "";

    if (ep && ep->gateway)
        ipam_address_format(ep->gateway, text);
    jwrite_string(j, "Gateway", text);
}

static void show_endpoint_config(const EndpointConfig *config, struct jwrite *j)
{
    if (config && config->ipv4_address && *config->ipv4_address) {
        jwrite_object(j, "IPAMConfig");
        jwrite_string(j, "IPv4Address", config->ipv4_address);
        jwrite_end(j);
    } else {
        jwrite_null(j, "IPAMConfig");
    }
    show_texts_or_null(j, "Links", config ? config->links : NULL, config ? config->n_links : 0);
    show_texts_or_null(j, "Aliases", config ? config->aliases : NULL, config ? config->n_aliases : 0);
    if (config && config->n_options)
        show_pairs(j, "DriverOpts", config->options, config->n_options);
    else
        jwrite_null(j, "DriverOpts");
    jwrite_int(j, "GwPriority", config ? config->gateway_priority : 0);
}

static void show_endpoint(const char *name, const char *id, const EndpointConfig *config, const NetworkEndpoint *ep,
                          struct jwrite *j)
{
    jwrite_object(j, name);
    show_endpoint_config(config, j);
    show_mac(ep, j);
    jwrite_string(j, "NetworkID", id);
    jwrite_string(j, "EndpointID", ep ? ep->id : "");
    show_gateway(ep, j);
    show_ipv4(ep, "IPAddress", false, j);
    jwrite_int(j, "IPPrefixLen", ep ? ep->ipv4_length : 0);
    jwrite_string(j, "IPv6Gateway", "");
    jwrite_string(j, "GlobalIPv6Address", "");
    jwrite_int(j, "GlobalIPv6PrefixLen", 0);
    jwrite_null(j, "DNSNames");
    jwrite_end(j);
}

static void show_networks(const struct container *c, struct jwrite *j)
{
    const char *mode = c->record->config->host->network_mode;
    struct plug_wish wish;
    struct network *n;
    char id[HEX_ID_TEXT + 1];
    size_t count = 0;

    jwrite_object(j, "Networks");
    for (; c->en->networks && plug_wish(c->record->config, count, &wish); count++) {
        if (network_find(c->en->networks, wish.network, &n, NULL) == 0)
            show_endpoint(n->record->name, n->record->id, wish.config, plug_endpoint(c->record, n->record->id), j);
        else
            show_endpoint(wish.network, "", wish.config, NULL, j); /* removed since */
    }
    if (count == 0) {
        network_id(c->en, mode, id);
        show_endpoint(mode, id, NULL, NULL, j);
    }
    jwrite_end(j);
}

static void show_network_settings(const struct container *c, struct jwrite *j)
{
    static const char *const empty[] = {"Bridge", "SandboxID", "SandboxKey", "LinkLocalIPv6Address"};
    char bridge[HEX_ID_TEXT + 1];

    network_id(c->en, "bridge", bridge);
    const NetworkEndpoint *ep = plug_endpoint(c->record, bridge);

    jwrite_object(j, "NetworkSettings");
    for (size_t i = 0; i < ARRAY_SIZE(empty); i++)
        jwrite_string(j, empty[i], "");
    jwrite_int(j, "LinkLocalIPv6PrefixLen", 0);
    jwrite_bool(j, "HairpinMode", false);
    jwrite_object(j, "Ports");
    for (size_t i = 0; container_is_running(c) && i < c->record->config->n_exposed_ports; i++)
        jwrite_null(j, c->record->config->exposed_ports[i]); /* exposed, not published */
    jwrite_end(j);
    jwrite_null(j, "SecondaryIPAddresses");
    jwrite_null(j, "SecondaryIPv6Addresses");
    /* The default bridge's endpoint once more, as older clients expect it. */
    jwrite_string(j, "EndpointID", ep ? ep->id : "");
    show_gateway(ep, j);
    jwrite_string(j, "GlobalIPv6Address", "");
    jwrite_int(j, "GlobalIPv6PrefixLen", 0);
    show_ipv4(ep, "IPAddress", false, j);
    jwrite_int(j, "IPPrefixLen", ep ? ep->ipv4_length : 0);
    jwrite_string(j, "IPv6Gateway", "");
    show_mac(ep, j);
    show_networks(c, j);
    jwrite_end(j);
}

/* --- configuration ------------------------------------------------------------------------------- */

static void show_keys(struct jwrite *j, const char *key, char *const *keys, size_t count)
{
    jwrite_object(j, key);
    for (size_t i = 0; i < count; i++) {
        jwrite_object(j, keys[i]);
        jwrite_end(j);
    }
    jwrite_end(j);
}

void show_health(const HealthConfig *health, struct jwrite *j)
{
    jwrite_object(j, "Healthcheck");
    show_texts(j, "Test", health->test, health->n_test);
    jwrite_int(j, "Interval", health->interval_ns);
    jwrite_int(j, "Timeout", health->timeout_ns);
    jwrite_int(j, "StartPeriod", health->start_period_ns);
    jwrite_int(j, "StartInterval", health->start_interval_ns);
    jwrite_int(j, "Retries", health->retries);
    jwrite_end(j);
}

static void show_config(const ContainerConfig *config, struct jwrite *j)
{
    jwrite_object(j, "Config");
    jwrite_string(j, "Hostname", config->hostname);
    jwrite_string(j, "Domainname", config->domainname);
    jwrite_string(j, "User", config->user);
    jwrite_bool(j, "AttachStdin", config->attach_stdin);
    jwrite_bool(j, "AttachStdout", config->attach_stdout);
    jwrite_bool(j, "AttachStderr", config->attach_stderr);
    if (config->n_exposed_ports)
        show_keys(j, "ExposedPorts", config->exposed_ports, config->n_exposed_ports);
    jwrite_bool(j, "Tty", config->tty);
    jwrite_bool(j, "OpenStdin", config->open_stdin);
    jwrite_bool(j, "StdinOnce", config->stdin_once);
    show_texts(j, "Env", config->env, config->n_env);
    show_texts_or_null(j, "Cmd", config->command, config->n_command);
    if (config->health)
        show_health(config->health, j);
    jwrite_string(j, "Image", config->image);
    if (config->n_volumes)
        show_keys(j, "Volumes", config->volumes, config->n_volumes);
    else
        jwrite_null(j, "Volumes");
    jwrite_string(j, "WorkingDir", config->working_dir);
    show_texts_or_null(j, "Entrypoint", config->entrypoint, config->n_entrypoint);
    if (config->network_disabled)
        jwrite_bool(j, "NetworkDisabled", true);
    jwrite_null(j, "OnBuild");
    show_pairs(j, "Labels", config->labels, config->n_labels);
    if (config->stop_signal && *config->stop_signal)
        jwrite_string(j, "StopSignal", config->stop_signal);
    if (config->has_stop_timeout_s)
        jwrite_int(j, "StopTimeout", config->stop_timeout_s);
    if (config->n_shell)
        show_texts(j, "Shell", config->shell, config->n_shell);
    jwrite_end(j);
}

static void show_mount_specs(const HostConfig *host, struct jwrite *j)
{
    static const char *const types[] = {"bind", "volume", "tmpfs"};

    if (!host->n_mounts)
        return; /* as Docker: absent when nothing was asked for */
    jwrite_array(j, "Mounts");
    for (size_t i = 0; i < host->n_mounts; i++) {
        const Mount *m = host->mounts[i];

        jwrite_object(j, NULL);
        jwrite_string(j, "Type", types[m->type]);
        if (m->source && *m->source)
            jwrite_string(j, "Source", m->source);
        jwrite_string(j, "Target", m->target);
        if (m->read_only)
            jwrite_bool(j, "ReadOnly", true);
        if (m->consistency && *m->consistency)
            jwrite_string(j, "Consistency", m->consistency);
        if (m->type == MOUNT_TYPE__BIND) {
            jwrite_object(j, "BindOptions");
            if (m->propagation && *m->propagation)
                jwrite_string(j, "Propagation", m->propagation);
            jwrite_bool(j, "NonRecursive", m->non_recursive);
            jwrite_bool(j, "CreateMountpoint", m->create_mountpoint);
            jwrite_bool(j, "ReadOnlyNonRecursive", m->read_only_non_recursive);
            jwrite_bool(j, "ReadOnlyForceRecursive", m->read_only_force_recursive);
            jwrite_end(j);
        } else if (m->type == MOUNT_TYPE__VOLUME) {
            jwrite_object(j, "VolumeOptions");
            jwrite_bool(j, "NoCopy", m->no_copy);
            show_pairs(j, "Labels", m->volume_labels, m->n_volume_labels);
            if (m->volume_subpath && *m->volume_subpath)
                jwrite_string(j, "Subpath", m->volume_subpath);
            jwrite_end(j);
        } else {
            jwrite_object(j, "TmpfsOptions");
            if (m->has_tmpfs_size_bytes)
                jwrite_uint(j, "SizeBytes", m->tmpfs_size_bytes);
            if (m->has_tmpfs_mode)
                jwrite_uint(j, "Mode", m->tmpfs_mode);
            jwrite_end(j);
        }
        jwrite_end(j);
    }
    jwrite_end(j);
}

static void show_port_bindings(const HostConfig *host, struct jwrite *j)
{
    jwrite_object(j, "PortBindings");
    for (size_t i = 0; i < host->n_port_bindings;) {
        const PortBinding *first = host->port_bindings[i];
        char key[24];

        (void)snprintf(key, sizeof(key), "%u/%s", first->port, protocols[first->protocol]);
        jwrite_array(j, key);
        for (; i < host->n_port_bindings && host->port_bindings[i]->port == first->port &&
               host->port_bindings[i]->protocol == first->protocol;
             i++) {
            jwrite_object(j, NULL);
            jwrite_string(j, "HostIp", host->port_bindings[i]->host_address);
            jwrite_string(j, "HostPort", host->port_bindings[i]->host_port);
            jwrite_end(j);
        }
        jwrite_end(j);
    }
    jwrite_end(j);
}

static void show_basics(const HostConfig *host, struct jwrite *j)
{
    show_texts_or_null(j, "Binds", host->binds, host->n_binds);
    jwrite_string(j, "ContainerIDFile", host->container_id_file);
    jwrite_object(j, "LogConfig");
    jwrite_string(j, "Type", host->log_driver);
    show_pairs(j, "Config", host->log_options, host->n_log_options);
    jwrite_end(j);
    jwrite_string(j, "NetworkMode", host->network_mode);
    show_port_bindings(host, j);
    jwrite_object(j, "RestartPolicy");
    jwrite_string(j, "Name",
                  host->restart && host->restart->name && *host->restart->name ? host->restart->name : "no");
    jwrite_uint(j, "MaximumRetryCount", host->restart ? host->restart->maximum_retries : 0);
    jwrite_end(j);
    jwrite_bool(j, "AutoRemove", host->auto_remove);
    jwrite_string(j, "VolumeDriver", host->volume_driver);
    show_texts_or_null(j, "VolumesFrom", host->volumes_from, host->n_volumes_from);
    show_mount_specs(host, j);
    jwrite_array(j, "ConsoleSize");
    jwrite_uint(j, NULL, host->console_height);
    jwrite_uint(j, NULL, host->console_width);
    jwrite_end(j);
    if (host->n_annotations)
        show_pairs(j, "Annotations", host->annotations, host->n_annotations);
}

static void show_isolation(const HostConfig *host, struct jwrite *j)
{
    show_texts_or_null(j, "CapAdd", host->capability_add, host->n_capability_add);
    show_texts_or_null(j, "CapDrop", host->capability_drop, host->n_capability_drop);
    jwrite_string(j, "CgroupnsMode", host->cgroupns_mode);
    show_texts(j, "Dns", host->dns, host->n_dns);
    show_texts(j, "DnsOptions", host->dns_options, host->n_dns_options);
    show_texts(j, "DnsSearch", host->dns_search, host->n_dns_search);
    show_texts_or_null(j, "ExtraHosts", host->extra_hosts, host->n_extra_hosts);
    show_texts_or_null(j, "GroupAdd", host->group_add, host->n_group_add);
    jwrite_string(j, "IpcMode", host->ipc_mode);
    jwrite_string(j, "Cgroup", "");
    show_texts_or_null(j, "Links", host->links, host->n_links);
    jwrite_int(j, "OomScoreAdj", host->oom_score_adj);
    jwrite_string(j, "PidMode", host->pid_mode);
    jwrite_bool(j, "Privileged", host->privileged);
    jwrite_bool(j, "PublishAllPorts", host->publish_all_ports);
    jwrite_bool(j, "ReadonlyRootfs", host->read_only_root);
    show_texts_or_null(j, "SecurityOpt", host->security_options, host->n_security_options);
    if (host->n_tmpfs)
        show_pairs(j, "Tmpfs", host->tmpfs, host->n_tmpfs);
    jwrite_string(j, "UTSMode", host->uts_mode);
    jwrite_string(j, "UsernsMode", host->userns_mode);
    jwrite_int(j, "ShmSize", host->shm_size_bytes);
    if (host->n_sysctls)
        show_pairs(j, "Sysctls", host->sysctls, host->n_sysctls);
    jwrite_string(j, "Runtime", host->runtime);
    jwrite_string(j, "Isolation", "");
    if (host->masked_paths_set)
        show_texts(j, "MaskedPaths", host->masked_paths, host->n_masked_paths);
    if (host->read_only_paths_set)
        show_texts(j, "ReadonlyPaths", host->read_only_paths, host->n_read_only_paths);
}

static void show_devices(const HostConfig *host, struct jwrite *j)
{
    static const char *const nothing[] = {"BlkioWeightDevice",   "BlkioDeviceReadBps",   "BlkioDeviceWriteBps",
                                          "BlkioDeviceReadIOps", "BlkioDeviceWriteIOps", "DeviceRequests"};

    for (size_t i = 0; i < ARRAY_SIZE(nothing); i++)
        show_texts(j, nothing[i], NULL, 0);
    jwrite_array(j, "Devices");
    for (size_t i = 0; i < host->n_devices; i++) {
        jwrite_object(j, NULL);
        jwrite_string(j, "PathOnHost", host->devices[i]->host_path);
        jwrite_string(j, "PathInContainer", host->devices[i]->container_path);
        jwrite_string(j, "CgroupPermissions", host->devices[i]->permissions);
        jwrite_end(j);
    }
    jwrite_end(j);
    show_texts_or_null(j, "DeviceCgroupRules", host->device_cgroup_rules, host->n_device_cgroup_rules);
    jwrite_array(j, "Ulimits");
    for (size_t i = 0; i < host->n_ulimits; i++) {
        jwrite_object(j, NULL);
        jwrite_string(j, "Name", host->ulimits[i]->name);
        jwrite_int(j, "Hard", host->ulimits[i]->hard);
        jwrite_int(j, "Soft", host->ulimits[i]->soft);
        jwrite_end(j);
    }
    jwrite_end(j);
}

static void show_resources(const HostConfig *host, struct jwrite *j)
{
    jwrite_int(j, "CpuShares", host->cpu_shares);
    jwrite_int(j, "Memory", host->memory_bytes);
    jwrite_int(j, "NanoCpus", host->nano_cpus);
    jwrite_string(j, "CgroupParent", host->cgroup_parent);
    jwrite_uint(j, "BlkioWeight", host->blkio_weight);
    jwrite_int(j, "CpuPeriod", host->cpu_period_us);
    jwrite_int(j, "CpuQuota", host->cpu_quota_us);
    jwrite_int(j, "CpuRealtimePeriod", 0);
    jwrite_int(j, "CpuRealtimeRuntime", 0);
    jwrite_string(j, "CpusetCpus", host->cpuset_cpus);
    jwrite_string(j, "CpusetMems", host->cpuset_mems);
    show_devices(host, j);
    jwrite_int(j, "MemoryReservation", host->memory_reservation_bytes);
    jwrite_int(j, "MemorySwap", host->memory_swap_bytes);
    if (host->has_memory_swappiness)
        jwrite_int(j, "MemorySwappiness", host->memory_swappiness);
    else
        jwrite_null(j, "MemorySwappiness");
    if (host->has_oom_kill_disable)
        jwrite_bool(j, "OomKillDisable", host->oom_kill_disable);
    else
        jwrite_null(j, "OomKillDisable");
    if (host->has_init)
        jwrite_bool(j, "Init", host->init);
    if (host->has_pids_limit)
        jwrite_int(j, "PidsLimit", host->pids_limit);
    else
        jwrite_null(j, "PidsLimit");
    jwrite_int(j, "CpuCount", 0);
    jwrite_int(j, "CpuPercent", 0);
    jwrite_int(j, "IOMaximumIOps", 0);
    jwrite_int(j, "IOMaximumBandwidth", 0);
}

/* --- the two shapes ------------------------------------------------------------------------------- */

static void show_sizes_of(const struct show_sizes *sizes, struct jwrite *j)
{
    if (!sizes || sizes->layer < 0)
        return;
    jwrite_int(j, "SizeRw", sizes->layer);
    jwrite_int(j, "SizeRootFs", sizes->root);
}

static void show_driver_data(const struct container *c, struct jwrite *j)
{
    AUTO_FREE
    char *upper = container_path(c, "upper");
    AUTO_FREE
    char *work = container_path(c, "work");

    jwrite_object(j, "GraphDriver");
    jwrite_string(j, "Name", "overlay2");
    jwrite_object(j, "Data");
    jwrite_string(j, "UpperDir", upper);
    jwrite_string(j, "WorkDir", work);
    jwrite_end(j);
    jwrite_end(j);
}

void container_show_inspect(const struct container *c, const struct show_sizes *sizes, struct jwrite *j)
{
    const ContainerRecord *record = c->record;
    AUTO_FREE
    char *resolv = etc_path(c, "resolv.conf");
    AUTO_FREE
    char *hostname = etc_path(c, "hostname");
    AUTO_FREE
    char *hosts = etc_path(c, "hosts");
    AUTO_FREE
    char *log_name = mem_printf("%s-json.log", record->id);
    AUTO_FREE
    char *log = container_path(c, log_name);

    jwrite_object(j, NULL);
    jwrite_string(j, "Id", record->id);
    jwrite_time_ns(j, "Created", record->created_ns);
    jwrite_string(j, "Path", record->argv[0]);
    show_texts(j, "Args", record->argv + 1, record->n_argv - 1);
    show_state(c, j);
    jwrite_string(j, "Image", record->image_id);
    jwrite_string(j, "ResolvConfPath", resolv);
    jwrite_string(j, "HostnamePath", hostname);
    jwrite_string(j, "HostsPath", hosts);
    jwrite_string(j, "LogPath", strcmp(record->config->host->log_driver, "none") == 0 ? "" : log);
    jwrite_printf(j, "Name", "/%s", record->name);
    jwrite_uint(j, "RestartCount", record->state->restart_count);
    jwrite_string(j, "Driver", "overlay2");
    jwrite_string(j, "Platform", "linux");
    jwrite_string(j, "MountLabel", "");
    jwrite_string(j, "ProcessLabel", "");
    jwrite_string(j, "AppArmorProfile", "");
    jwrite_null(j, "ExecIDs");
    jwrite_object(j, "HostConfig");
    show_basics(record->config->host, j);
    show_isolation(record->config->host, j);
    show_resources(record->config->host, j);
    jwrite_end(j);
    show_driver_data(c, j);
    show_sizes_of(sizes, j);
    show_mounts(record, j);
    show_config(record->config, j);
    show_network_settings(c, j);
    jwrite_end(j);
}

/* The command as one line; arguments with spaces in quotes. */
static void show_command(const ContainerRecord *record, struct jwrite *j)
{
    AUTO_BUF struct buf line = {0};

    for (size_t i = 0; i < record->n_argv; i++) {
        const char *quote = i && strchr(record->argv[i], ' ') ? "'" : "";

        buf_printf(&line, "%s%s%s%s", i ? " " : "", quote, record->argv[i], quote);
    }
    jwrite_string(j, "Command", buf_str(&line));
}

static void show_exposed(const struct container *c, struct jwrite *j)
{
    const ContainerConfig *config = c->record->config;

    jwrite_array(j, "Ports");
    for (size_t i = 0; container_is_running(c) && i < config->n_exposed_ports; i++) {
        const char *slash = strchr(config->exposed_ports[i], '/');

        jwrite_object(j, NULL);
        jwrite_int(j, "PrivatePort", strtol(config->exposed_ports[i], NULL, 10));
        jwrite_string(j, "Type", slash ? slash + 1 : "tcp");
        jwrite_end(j);
    }
    jwrite_end(j);
}

void container_show_summary(const struct container *c, const struct show_sizes *sizes, struct jwrite *j)
{
    const ContainerRecord *record = c->record;
    struct image image;
    bool same = image_find(c->en->images, record->config->image, &image, NULL) == 0 &&
                strcmp(image.record->id, record->image_id) == 0;
    char status[80];

    container_status_text(c, engine_now_ns(), status, sizeof(status));
    jwrite_object(j, NULL);
    jwrite_string(j, "Id", record->id);
    jwrite_array(j, "Names");
    jwrite_printf(j, NULL, "/%s", record->name);
    jwrite_end(j);
    /* A name that means another image by now would mislead. */
    jwrite_string(j, "Image", same ? record->config->image : record->image_id);
    jwrite_string(j, "ImageID", record->image_id);
    show_command(record, j);
    jwrite_int(j, "Created", record->created_ns / 1000000000);
    show_exposed(c, j);
    show_sizes_of(sizes, j);
    show_pairs(j, "Labels", record->config->labels, record->config->n_labels);
    jwrite_string(j, "State", container_status_word(c));
    jwrite_string(j, "Status", status);
    jwrite_object(j, "HostConfig");
    jwrite_string(j, "NetworkMode", record->config->host->network_mode);
    jwrite_end(j);
    jwrite_object(j, "NetworkSettings");
    show_networks(c, j);
    jwrite_end(j);
    show_mounts(record, j);
    jwrite_end(j);
}
