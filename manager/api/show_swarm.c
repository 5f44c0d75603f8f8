/* The swarm as JSON (show.h): GET /swarm, and what of it stands in /info. */
#include <string.h>

#include "manager/api/show.h"
#include "manager/api/spec.h"
#include "manager/ca/ca.h"
#include "manager/ca/rotation.h"
#include "proto/base/mem.h"

void show_cluster(struct jwrite *j, const struct packed *header, const Cluster *cluster)
{
    AUTO_ARENA struct arena a;
    struct show_authority authority;

    arena_init(&a);
    show_authority_read(cluster->root_ca, &a, &authority);
    show_head(j, &cluster->id, header);
    jmap_write(j, "Spec", &spec_cluster_map, (const ProtobufCMessage *)cluster->spec);
    show_tls_wanted(j, &authority);
    jwrite_bool(j, "RootRotationInProgress", ca_rotates(cluster->root_ca));
    jwrite_array(j, "DefaultAddrPool");
    for (size_t i = 0; i < cluster->n_default_address_pools; i++)
        jwrite_string(j, NULL, cluster->default_address_pools[i]);
    jwrite_end(j);
    jwrite_uint(j, "SubnetSize", cluster->subnet_size);
    jwrite_uint(j, "DataPathPort", cluster->data_path_port);
}

static void show_token(struct jwrite *j, const char *key, const char *root_pem, const char *secret)
{
    char token[CA_TOKEN_TEXT + 1] = "";

    if (secret)
        (void)ca_token(root_pem, secret, token, NULL); /* a root that cannot be read has no token */
    jwrite_string(j, key, token);
    mem_wipe(token, sizeof(token));
}

static void show_tokens(struct ask *k, struct jwrite *j, const RootCa *root)
{
    const char *root_pem =
        root && root->has_certificate_pem
            ? arena_strndup(&k->scratch, (const char *)root->certificate_pem.data, root->certificate_pem.len)
            : "";

    jwrite_object(j, "JoinTokens");
    show_token(j, "Worker", root_pem, root ? root->worker_secret : NULL);
    show_token(j, "Manager", root_pem, root ? root->manager_secret : NULL);
    jwrite_end(j);
}

void show_swarm(struct ask *k, struct buf *out)
{
    struct jwrite j = JWRITE_TO(out);
    struct packed p;

    for (size_t at = 0; pack_next(&k->page.bytes, &at, &p);) {
        Cluster *cluster = arena_unpack(&k->scratch, &cluster__descriptor, p.data, p.size);
        jwrite_object(&j, NULL);
        show_cluster(&j, &p, cluster);
        show_tokens(k, &j, cluster->root_ca);
        jwrite_end(&j);
    }
}
