/* What a new cluster begins with (control.h): its own object, the first node, and the networks that every node has,
 * so that services can name them. */
#include "manager/control.h"

static void network(struct plan *p, const char *name, const char *driver)
{
    Network n = NETWORK__INIT;
    NetworkSpec spec = NETWORK_SPEC__INIT;
    KeyValue label = KEY_VALUE__INIT, *labels[] = {&label};

    label.key = (char *)"com.docker.swarm.predefined";
    label.value = (char *)"true";
    spec.name = (char *)name;
    spec.driver = (char *)driver;
    spec.scope = (char *)"swarm";
    spec.labels = labels;
    spec.n_labels = 1;
    n.id = plan_ident(p);
    n.spec = &spec;
    plan_create(p, KIND_NETWORK, &n);
}

static void first_node(struct plan *p, const struct control_founding *f)
{
    Node node = NODE__INIT;
    NodeSpec spec = NODE_SPEC__INIT;
    NodeManager manager = NODE_MANAGER__INIT;

    spec.has_role = spec.has_availability = true;
    spec.role = NODE_ROLE__MANAGER;
    spec.availability = f->availability;
    manager.has_raft_id = true;
    manager.raft_id = f->raft_id;
    manager.address = (char *)f->manager_address;
    node.id = (ProtobufCBinaryData){.len = IDENT_BYTES, .data = (uint8_t *)f->node_id};
    node.spec = &spec;
    node.description = (NodeDescription *)f->node;
    node.has_state = true;
    node.state = NODE_STATE__UNKNOWN; /* until its agent comes */
    node.manager = &manager;
    plan_create(p, KIND_NODE, &node);
}

void control_found(struct plan *p, const struct control_founding *f)
{
    Cluster cluster = *f->cluster;

    cluster.has_next_raft_id = true;
    cluster.next_raft_id = f->raft_id + 1;
    cluster.has_feature_level = true;
    cluster.feature_level = STORE_FEATURE_LEVEL;
    plan_create(p, KIND_CLUSTER, &cluster);
    first_node(p, f);
    network(p, "host", "host");
    network(p, "none", "null");
}
