/* See authority.h. */
#include <string.h>

#include "manager/api/authority.h"
#include "manager/api/pack.h"
#include "proto/base/mem.h"

int authority_cluster(struct view *v, struct arena *a, struct object *ret)
{
    uint64_t number = view_next(v, KIND_CLUSTER, 0);

    return number ? view_get(v, KIND_CLUSTER, number, a, ret) : ERR_NOT_FOUND;
}

/* What may be seen of it. */
static RootCa public_part(const RootCa *root)
{
    RootCa shown = ROOT_CA__INIT;

    shown.has_certificate_pem = root->has_certificate_pem;
    shown.certificate_pem = root->certificate_pem;
    shown.has_next_certificate_pem = root->has_next_certificate_pem;
    shown.next_certificate_pem = root->next_certificate_pem;
    return shown;
}

void authority_forget(const Cluster *cluster)
{
    RootCa *root = cluster->root_ca;

    if (root && root->has_key_pem)
        mem_wipe(root->key_pem.data, root->key_pem.len);
    if (root && root->has_next_key_pem)
        mem_wipe(root->next_key_pem.data, root->next_key_pem.len);
    if (cluster->has_unlock_key)
        mem_wipe(cluster->unlock_key.data, cluster->unlock_key.len);
}

void authority_pack(struct buf *page, struct view *v)
{
    AUTO_ARENA struct arena a;
    struct object object;

    arena_init(&a);
    if (authority_cluster(v, &a, &object) < 0)
        return;
    const Cluster *cluster = (const Cluster *)object.message;
    if (cluster->root_ca) {
        RootCa shown = public_part(cluster->root_ca);
        size_t size = root_ca__get_packed_size(&shown);
        uint8_t *packed = arena_alloc(&a, size);

        root_ca__pack(&shown, packed);
        pack_note(page, PACK_AUTHORITY, packed, size);
    }
    authority_forget(cluster);
}

bool authority_pack_cluster(struct buf *page, struct view *v, bool tokens)
{
    AUTO_ARENA struct arena a;
    struct object object;

    arena_init(&a);
    if (authority_cluster(v, &a, &object) < 0)
        return false;
    Cluster cluster = *(const Cluster *)object.message;
    RootCa root = ROOT_CA__INIT;
    authority_forget(&cluster);
    cluster.has_unlock_key = false;
    if (cluster.root_ca) {
        root = public_part(cluster.root_ca);
        root.worker_secret = tokens ? cluster.root_ca->worker_secret : NULL;
        root.manager_secret = tokens ? cluster.root_ca->manager_secret : NULL;
        cluster.root_ca = &root;
    }
    size_t size = cluster__get_packed_size(&cluster);
    uint8_t *packed = arena_alloc(&a, size);
    cluster__pack(&cluster, packed);
    pack_object(page, &object, packed, size);
    return true;
}

bool authority_lock_key(struct view *v, uint8_t ret[32])
{
    AUTO_ARENA struct arena a;
    struct object object;

    arena_init(&a);
    memset(ret, 0, 32);
    if (authority_cluster(v, &a, &object) < 0)
        return false;
    const Cluster *cluster = (const Cluster *)object.message;
    bool found = cluster->has_unlock_key && cluster->unlock_key.len == 32;
    if (found)
        memcpy(ret, cluster->unlock_key.data, 32);
    authority_forget(cluster);
    return found;
}
