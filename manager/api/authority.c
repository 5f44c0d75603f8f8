/* See authority.h. */
#include <string.h>

#include "manager/api/authority.h"
#include "manager/api/pack.h"
#include "manager/api/show.h"
#include "proto/base/mem.h"

int authority_cluster(struct view *v, struct arena *a, struct object *ret)
{
    uint64_t number = view_next(v, KIND_CLUSTER, 0);

    return number ? view_get(v, KIND_CLUSTER, number, a, ret) : ERR_NOT_FOUND;
}

static void pack_authority(struct buf *page, const RootCa *root, struct arena *a)
{
    AUTO_BUF struct buf note = {0};

    if (!root || !root->has_certificate_pem)
        return;
    show_authority_make(arena_strndup(a, (const char *)root->certificate_pem.data, root->certificate_pem.len),
                        &note);
    pack_note(page, PACK_AUTHORITY, buf_bytes(&note), note.length);
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
    pack_authority(page, cluster->root_ca, &a);
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
        root.has_certificate_pem = cluster.root_ca->has_certificate_pem;
        root.certificate_pem = cluster.root_ca->certificate_pem;
        root.has_next_certificate_pem = cluster.root_ca->has_next_certificate_pem;
        root.next_certificate_pem = cluster.root_ca->next_certificate_pem;
        root.worker_secret = tokens ? cluster.root_ca->worker_secret : NULL;
        root.manager_secret = tokens ? cluster.root_ca->manager_secret : NULL;
        cluster.root_ca = &root;
    }
    pack_authority(page, cluster.root_ca, &a);
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
