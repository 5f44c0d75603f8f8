/* Tasks as JSON (show.h). A task names its spec, and a task template may be much larger than the task: a page holds
 * each spec once, before the first task of it, and its JSON is made once. Before a task come its status, the ids of
 * what it names, and, once in a page, its networks. */
#include <string.h>

#include "manager/api/listing.h"
#include "manager/api/show.h"
#include "manager/api/spec.h"
#include "proto/base/ident.h"
#include "proto/base/mem.h"

struct template
{ /* of one spec version in this page */
    uint64_t service, version;
    const char *json;
    const TaskSpec *task;
};

struct network_seen {
    struct packed header;
    const Network *network;
};

struct parts {
    struct template *templates; /* in the ask's arena */
    size_t template_count;
    struct network_seen *networks;
    size_t network_count;
    const Status *status;
    struct pack_task names;
};

static void take_spec(struct ask *k, struct parts *parts, const struct packed *p)
{
    const Spec *spec = arena_unpack(&k->scratch, &spec__descriptor, p->data, p->size);
    AUTO_BUF struct buf text = {0};
    struct jwrite j = JWRITE_TO(&text);
    const TaskSpec *task = spec->spec ? spec->spec->task : NULL;

    jmap_write(&j, NULL, &spec_task_map, (const ProtobufCMessage *)task);
    parts->templates =
        arena_append(&k->scratch, parts->templates, parts->template_count, sizeof(*parts->templates));
    parts->templates[parts->template_count++] = (struct template){.service = spec->service,
                                                                  .version = spec->version,
                                                                  .json = arena_strdup(&k->scratch, buf_str(&text)),
                                                                  .task = task};
}

static void take_network(struct ask *k, struct parts *parts, const struct packed *p)
{
    parts->networks = arena_append(&k->scratch, parts->networks, parts->network_count, sizeof(*parts->networks));
    parts->networks[parts->network_count++] = (struct network_seen){
        .header = *p, .network = arena_unpack(&k->scratch, &network__descriptor, p->data, p->size)};
}

static const struct template *find_template(const struct parts *parts, const Task *task)
{
    for (size_t i = parts->template_count; i-- > 0;)
        if (parts->templates[i].service == task->service && parts->templates[i].version == task->spec_version)
            return &parts->templates[i];
    return NULL;
}

static void show_status(struct jwrite *j, const Status *status)
{
    const ContainerStatus *container = status ? status->container : NULL;

    jwrite_object(j, "Status");
    jwrite_time_ns(j, "Timestamp", status ? status->timestamp_ns : 0);
    jwrite_string(j, "State", show_task_state(status ? status->state : TASK_STATE__NEW));
    jwrite_string(j, "Message", status ? status->message : "");
    if (status && status->err && *status->err)
        jwrite_string(j, "Err", status->err);
    if (container) {
        jwrite_object(j, "ContainerStatus");
        jwrite_string(j, "ContainerID", container->container_id);
        jwrite_int(j, "PID", container->pid);
        jwrite_int(j, "ExitCode", container->exit_code);
        jwrite_end(j);
    }
    jwrite_object(j, "PortStatus");
    jwrite_end(j);
    jwrite_end(j);
}

static bool is_network(const struct network_seen *seen, const char *target)
{
    char id[IDENT_TEXT + 1];

    ident_format(seen->network->id.data, id);
    return target && strcmp(id, target) == 0;
}

static void show_networks(struct jwrite *j, const struct parts *parts, const TaskSpec *task)
{
    if (!task || !task->n_networks)
        return;
    jwrite_array(j, "NetworksAttachments");
    for (size_t i = 0; i < task->n_networks; i++)
        for (size_t n = 0; n < parts->network_count; n++) {
            if (!is_network(&parts->networks[n], task->networks[i]->target))
                continue;
            jwrite_object(j, NULL);
            show_swarm_network(j, "Network", &parts->networks[n].header, parts->networks[n].network);
            jwrite_array(j, "Addresses");
            jwrite_end(j);
            jwrite_end(j);
        }
    jwrite_end(j);
}

static void show(struct ask *k, struct jwrite *j, const struct packed *p, const struct parts *parts)
{
    const Task *task = arena_unpack(&k->scratch, &task__descriptor, p->data, p->size);
    const struct template *template = find_template(parts, task);
    char id[IDENT_TEXT + 1];

    jwrite_object(j, NULL);
    show_head(j, &task->id, p);
    jwrite_object(j, "Labels");
    jwrite_end(j);
    jwrite_raw(j, "Spec", template ? template->json : "{}");
    if (parts->names.has_service) {
        ident_format(parts->names.service_id, id);
        jwrite_string(j, "ServiceID", id);
    }
    if (task->slot)
        jwrite_uint(j, "Slot", task->slot);
    if (parts->names.has_node) {
        ident_format(parts->names.node_id, id);
        jwrite_string(j, "NodeID", id);
    }
    show_status(j, parts->status);
    jwrite_string(j, "DesiredState", show_task_state(task->desired_state));
    show_networks(j, parts, template ? template->task : NULL);
    jwrite_end(j);
}

/* A task has two records; what it shows as its own version and time is the newer one's. */
static void take_status(struct ask *k, struct parts *parts, const struct packed *p, struct packed *ret_header)
{
    parts->status = arena_unpack(&k->scratch, &status__descriptor, p->data, p->size);
    *ret_header = *p;
}

static void show_page(struct ask *k, struct buf *out, bool in_list)
{
    struct parts parts = {0};
    struct packed p, status = {0};

    for (size_t at = 0; pack_next(&k->page.bytes, &at, &p);) {
        struct jwrite j = JWRITE_TO(out);

        if (p.kind == KIND_SPEC) {
            take_spec(k, &parts, &p);
        } else if (p.kind == KIND_NETWORK) {
            take_network(k, &parts, &p);
        } else if (p.kind == KIND_STATUS) {
            take_status(k, &parts, &p, &status);
        } else if (p.kind == PACK_TASK) {
            memcpy(&parts.names, p.data, sizeof(parts.names));
        } else {
            if (in_list)
                listing_element(k, out);
            p.version = MAX(p.version, status.version);
            p.updated_ms = MAX(p.updated_ms, status.updated_ms);
            show(k, &j, &p, &parts);
            parts.status = NULL;
            status = (struct packed){0};
        }
    }
}

void show_task(struct ask *k, struct buf *out)
{
    show_page(k, out, false);
}

void show_tasks(struct ask *k, struct buf *out)
{
    listing_open(k, out);
    show_page(k, out, true);
    listing_close(k, out);
}
