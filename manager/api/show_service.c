/* Services as JSON (show.h). Before a service come its present spec, the previous one, and, when the status was
 * asked for, the count of its tasks. */
#include <string.h>

#include "manager/api/listing.h"
#include "manager/api/service.h"
#include "manager/api/show.h"
#include "manager/api/spec.h"
#include "proto/base/mem.h"

struct parts { /* what came before the service */
    const Spec *specs[2];
    size_t spec_count;
    bool has_counts;
    struct pack_service counts;
};

static const char *update_state(UpdateState state)
{
    static const char *const names[] = {
        "", "updating", "paused", "completed", "rollback_started", "rollback_paused", "rollback_completed"};

    return (size_t)state < ARRAY_SIZE(names) ? names[state] : "";
}

static const ServiceSpec *spec_of(const struct parts *parts, uint64_t version)
{
    for (size_t i = 0; i < parts->spec_count; i++)
        if (parts->specs[i]->version == version)
            return parts->specs[i]->spec;
    return NULL;
}

static void show_endpoint(struct jwrite *j, const Service *service, const ServiceSpec *spec)
{
    const EndpointSpec *wanted = service->endpoint && service->endpoint->spec ? service->endpoint->spec
                                 : spec                                       ? spec->endpoint
                                                                              : NULL;

    jwrite_object(j, "Endpoint");
    jmap_write(j, "Spec", &spec_endpoint_map, (const ProtobufCMessage *)wanted);
    if (service->endpoint && service->endpoint->n_ports) {
        jwrite_array(j, "Ports");
        for (size_t i = 0; i < service->endpoint->n_ports; i++)
            jmap_write(j, NULL, &spec_port_map, &service->endpoint->ports[i]->base);
        jwrite_end(j);
    }
    jwrite_end(j);
}

static void show_update(struct jwrite *j, const UpdateStatus *status)
{
    if (!status || !status->state)
        return;
    jwrite_object(j, "UpdateStatus");
    jwrite_string(j, "State", update_state(status->state));
    if (status->started_ms)
        jwrite_time_ns(j, "StartedAt", status->started_ms * 1000000);
    if (status->completed_ms)
        jwrite_time_ns(j, "CompletedAt", status->completed_ms * 1000000);
    jwrite_string(j, "Message", status->message);
    jwrite_end(j);
}

static void show(struct ask *k, struct jwrite *j, const struct packed *p, const struct parts *parts)
{
    const struct service_args *args = k->args;
    const Service *service = arena_unpack(&k->scratch, &service__descriptor, p->data, p->size);
    const ServiceSpec *spec = spec_of(parts, service->spec_version);
    const ServiceSpec *previous = spec_of(parts, service->previous_spec_version);

    if (args->insert_defaults && spec)
        spec_insert_defaults((ServiceSpec *)spec, &k->scratch);
    jwrite_object(j, NULL);
    show_head(j, &service->id, p);
    jmap_write(j, "Spec", &spec_service_map, (const ProtobufCMessage *)spec);
    if (previous)
        jmap_write(j, "PreviousSpec", &spec_service_map, &previous->base);
    show_endpoint(j, service, spec);
    show_update(j, service->update_status);
    if (parts->has_counts) {
        jwrite_object(j, "ServiceStatus");
        jwrite_uint(j, "RunningTasks", parts->counts.running);
        jwrite_uint(j, "DesiredTasks", parts->counts.desired);
        jwrite_uint(j, "CompletedTasks", 0);
        jwrite_end(j);
    }
    jwrite_end(j);
}

static void show_page(struct ask *k, struct buf *out, bool in_list)
{
    struct parts parts = {0};
    struct packed p;

    for (size_t at = 0; pack_next(&k->page.bytes, &at, &p);) {
        struct jwrite j = JWRITE_TO(out);

        if (p.kind == KIND_SPEC) {
            parts.specs[parts.spec_count++] = arena_unpack(&k->scratch, &spec__descriptor, p.data, p.size);
        } else if (p.kind == PACK_SERVICE) {
            parts.has_counts = true;
            memcpy(&parts.counts, p.data, sizeof(parts.counts));
        } else {
            if (in_list)
                listing_element(k, out);
            show(k, &j, &p, &parts);
            parts = (struct parts){0};
        }
    }
}

void show_service(struct ask *k, struct buf *out)
{
    show_page(k, out, false);
}

void show_services(struct ask *k, struct buf *out)
{
    listing_open(k, out);
    show_page(k, out, true);
    listing_close(k, out);
}
