/* Founding a cluster (manager.h): ids, the authority, the first manager's certificate, the data key. */
#include <stdlib.h>
#include <string.h>

#include "manager/ca/ca.h"
#include "manager/manager.h"
#include "proto/base/entropy.h"
#include "proto/base/ident.h"
#include "proto/base/mem.h"
#include "proto/wire/cert.h"

static void wipe_text(char *text)
{
    if (text)
        mem_wipe(text, strlen(text));
    free(text);
}

void manager_founding_free(struct manager_founding *f)
{
    free(f->root_pem);
    free(f->certificate_pem);
    wipe_text(f->root_key_pem);
    wipe_text(f->key_pem);
    mem_wipe(f, sizeof(*f));
}

int manager_found(int64_t wall_ms, int64_t certificate_lifetime_ms, struct manager_founding *ret, struct err *e)
{
    struct entropy *entropy = entropy_real();
    struct manager_founding f = {0};
    struct rpc_identity identity = {.role = RPC_ROLE_MANAGER};
    AUTO_BUF struct buf request = {0};
    int rc;

    ident_new(entropy, f.cluster_id);
    ident_new(entropy, f.node_id);
    entropy_fill(entropy, f.data_key, sizeof(f.data_key));
    entropy_fill(entropy, f.unlock_key, sizeof(f.unlock_key));
    ca_secret_new(entropy, f.worker_secret);
    ca_secret_new(entropy, f.manager_secret);
    memcpy(identity.node_id, f.node_id, sizeof(identity.node_id));
    memcpy(identity.cluster_id, f.cluster_id, sizeof(identity.cluster_id));
    rc = ca_root_new(wall_ms, &f.root_pem, &f.root_key_pem, e);
    if (rc == 0)
        rc = cert_key_new(&f.key_pem, e);
    if (rc == 0)
        rc = cert_request_new(f.key_pem, &request, e);
    if (rc == 0)
        rc = ca_issue(f.root_pem, f.root_key_pem, buf_bytes(&request), request.length, &identity, wall_ms,
                      certificate_lifetime_ms, &f.certificate_pem, e);
    if (rc < 0) {
        manager_founding_free(&f);
        return rc;
    }
    *ret = f;
    return 0;
}
