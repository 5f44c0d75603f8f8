/* JSON bodies: whatever a client sends as a service or cluster spec is read or refused, and what was read can be
 * stored and shown. */
#include <stdint.h>
#include <stdlib.h>

#include "manager/api/spec.h"
#include "proto/base/jread.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void show(const struct jmap *map, struct arena *a, const ProtobufCMessage *message)
{
    AUTO_BUF struct buf out = {0};
    struct jwrite j = JWRITE_TO(&out);
    AUTO_JSON json_t *root = NULL;
    struct err e;

    jmap_write(&j, NULL, map, arena_message(a, message));
    if (jread_parse(buf_str(&out), out.length, &root, &e) < 0)
        abort(); /* what we write is JSON */
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    AUTO_JSON json_t *root = NULL;
    AUTO_ARENA struct arena arena;
    ServiceSpec *service;
    ClusterSpec *cluster;
    NodeSpec *node;
    struct err e;

    arena_init(&arena);
    if (jread_parse((const char *)data, size, &root, &e) < 0)
        return 0;
    if (spec_read_service(root, &arena, &service, &e) == 0)
        show(&spec_service_map, &arena, &service->base);
    if (spec_read_cluster(root, &arena, &cluster, &e) == 0)
        show(&spec_cluster_map, &arena, &cluster->base);
    if (spec_read_node(root, &arena, &node, &e) == 0)
        show(&spec_node_map, &arena, &node->base);
    return 0;
}
