/* See convert.h. */
#include <string.h>
#include <sys/param.h>

#include "agent/convert.h"
#include "proto/base/ident.h"

#define STOP_GRACE_DEFAULT_NS 10000000000

static KeyValue *label(struct arena *a, const char *key, const char *value)
{
    KeyValue *kv = ARENA_NEW(a, KeyValue);

    key_value__init(kv);
    kv->key = (char *)key;
    kv->value = (char *)value;
    return kv;
}

/* The service's own labels never replace the ones by which we find the container again. */
static void labels(const AssignedTask *task, const AssignedSpec *spec, const char *node_id, struct arena *a,
                   ContainerConfig *config)
{
    const ContainerSpec *from = spec->spec->task->container;
    char *service_id = arena_alloc(a, IDENT_TEXT + 1), *task_id = arena_alloc(a, IDENT_TEXT + 1);

    ident_format(task->service_id.data, service_id);
    ident_format(task->id.data, task_id);
    config->labels = arena_array(a, from->n_labels + 6, sizeof(*config->labels));
    for (size_t i = 0; i < from->n_labels; i++)
        if (strncmp(from->labels[i]->key, "com.docker.swarm.", 17) != 0)
            config->labels[config->n_labels++] = from->labels[i];
    config->labels[config->n_labels++] = label(a, CONVERT_LABEL_NODE, node_id);
    config->labels[config->n_labels++] = label(a, CONVERT_LABEL_SERVICE, service_id);
    config->labels[config->n_labels++] = label(a, "com.docker.swarm.service.name", spec->spec->name);
    config->labels[config->n_labels++] = label(a, "com.docker.swarm.task", "");
    config->labels[config->n_labels++] = label(a, CONVERT_LABEL_TASK, task_id);
    config->labels[config->n_labels++] = label(a, "com.docker.swarm.task.name", task->name);
}

/* "address name alias..." to the engine's "name:address", one per name. */
static int hosts(const ContainerSpec *from, struct arena *a, HostConfig *host, struct err *e)
{
    for (size_t i = 0; i < from->n_hosts; i++) {
        char *line = arena_strdup(a, from->hosts[i]), *rest = line;
        const char *address = strsep(&rest, " \t"), *name;

        if (!*address || !rest)
            return err_set(e, ERR_INVALID, "invalid Hosts entry \"%s\": expected \"address name\"", from->hosts[i]);
        while ((name = strsep(&rest, " \t"))) {
            if (!*name)
                continue;
            host->extra_hosts = arena_append(a, host->extra_hosts, host->n_extra_hosts, sizeof(char *));
            host->extra_hosts[host->n_extra_hosts++] = arena_printf(a, "%s:%s", name, address);
        }
    }
    return 0;
}

static void privileges(const ContainerSpec *from, struct arena *a, HostConfig *host)
{
    const Privileges *asked = from->privileges;
    size_t count = 0;

    if (!asked)
        return;
    host->security_options = arena_array(a, 3, sizeof(char *));
    if (asked->has_no_new_privileges)
        host->security_options[count++] =
            (char *)(asked->no_new_privileges ? "no-new-privileges=true" : "no-new-privileges=false");
    if (asked->seccomp_mode && strcmp(asked->seccomp_mode, "unconfined") == 0)
        host->security_options[count++] = (char *)"seccomp=unconfined";
    else if (asked->has_seccomp_profile)
        host->security_options[count++] = arena_printf(a, "seccomp=%.*s", (int)asked->seccomp_profile.len,
                                                       (const char *)asked->seccomp_profile.data);
    host->n_security_options = count;
}

static void limits(const Resources *asked, HostConfig *host)
{
    if (!asked)
        return;
    host->has_nano_cpus = asked->has_nano_cpus;
    host->nano_cpus = asked->nano_cpus;
    host->has_memory_bytes = asked->has_memory_bytes;
    host->memory_bytes = asked->memory_bytes;
    host->has_pids_limit = asked->has_pids;
    host->pids_limit = asked->pids;
}

static int host_config(const AssignedTask *task, const TaskSpec *task_spec, struct arena *a, HostConfig *host,
                       struct err *e)
{
    const ContainerSpec *from = task_spec->container;
    int rc = hosts(from, a, host, e);

    if (rc < 0)
        return rc;
    privileges(from, a, host);
    limits(task_spec->limits, host);
    host->n_mounts = from->n_mounts;
    host->mounts = from->mounts;
    host->network_mode = (char *)(task->network ? task->network : "none");
    host->n_capability_add = from->n_capability_add;
    host->capability_add = from->capability_add;
    host->n_capability_drop = from->n_capability_drop;
    host->capability_drop = from->capability_drop;
    host->has_read_only_root = from->has_read_only;
    host->read_only_root = from->read_only;
    host->n_ulimits = from->n_ulimits;
    host->ulimits = from->ulimits;
    host->n_group_add = from->n_groups;
    host->group_add = from->groups;
    host->n_sysctls = from->n_sysctls;
    host->sysctls = from->sysctls;
    host->has_init = from->has_init;
    host->init = from->init;
    host->has_oom_score_adj = from->has_oom_score_adj;
    host->oom_score_adj = from->oom_score_adj;
    if (from->dns) {
        host->n_dns = from->dns->n_nameservers;
        host->dns = from->dns->nameservers;
        host->n_dns_search = from->dns->n_search;
        host->dns_search = from->dns->search;
        host->n_dns_options = from->dns->n_options;
        host->dns_options = from->dns->options;
    }
    const LogDriver *driver = task->log_driver ? task->log_driver : task_spec->log_driver;
    if (driver) {
        host->log_driver = driver->name;
        host->n_log_options = driver->n_options;
        host->log_options = driver->options;
    }
    return 0;
}

int convert_task(const AssignedTask *task, const AssignedSpec *spec, const char *node_id, struct arena *a,
                 ContainerConfig **ret, struct err *e)
{
    const TaskSpec *task_spec = spec->spec->task;
    const ContainerSpec *from = task_spec ? task_spec->container : NULL;
    ContainerConfig *config = ARENA_NEW(a, ContainerConfig);
    HostConfig *host = ARENA_NEW(a, HostConfig);

    if (!from || !from->image)
        return err_set(e, ERR_INVALID, "service %s: TaskTemplate.ContainerSpec.Image is missing", spec->spec->name);
    container_config__init(config);
    host_config__init(host);
    config->host = host;
    config->image = from->image;
    config->n_entrypoint = from->n_command;
    config->entrypoint = from->command;
    config->has_entrypoint_set = config->entrypoint_set = from->n_command > 0;
    config->n_command = from->n_args;
    config->command = from->args;
    config->has_command_set = config->command_set = from->n_args > 0;
    config->n_env = from->n_env;
    config->env = from->env;
    config->hostname = from->hostname;
    config->user = from->user;
    config->working_dir = from->dir;
    config->has_tty = from->has_tty;
    config->tty = from->tty;
    config->has_open_stdin = from->has_open_stdin;
    config->open_stdin = from->open_stdin;
    config->stop_signal = from->stop_signal;
    config->health = from->health;
    int64_t grace_ns = from->has_stop_grace_period_ns ? from->stop_grace_period_ns : STOP_GRACE_DEFAULT_NS;
    config->has_stop_timeout_s = true;
    config->stop_timeout_s = (int32_t)MIN((grace_ns + 999999999) / 1000000000, INT32_MAX);
    labels(task, spec, node_id, a, config);
    int rc = host_config(task, task_spec, a, host, e);
    if (rc < 0)
        return rc;
    *ret = config;
    return 0;
}
