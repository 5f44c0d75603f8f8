/* See quorum.h.
 *
 * A manager that looks for a leader hears from every other one that lives, several times in a second: they ask each
 * other for their votes. Who is silent for longer is down, cut off, or stopped. */
#include <stdio.h>
#include <string.h>

#include "manager/api/quorum.h"
#include "proto/base/buf.h"
#include "proto/base/mem.h"

#define SILENT_MS    3000
#define MEMBERS_MOST 64

static const char *name_of(const struct index *x, uint64_t raft_id)
{
    for (uint32_t i = 0; i < x->node_count; i++) {
        const struct index_node *n = x->node_at[i];

        if (n && n->exists && n->raft_id == raft_id)
            return n->hostname && *n->hostname ? n->hostname : n->id_text;
    }
    return "a manager";
}

static void put_member(struct buf *out, const struct index *x, const struct replica_member *m)
{
    buf_printf(out, "%s%s (%s, ", out->length ? ", " : "", name_of(x, m->id), m->address ? m->address : "");
    if (m->heard_ms < 0)
        buf_append_str(out, "not heard of since this manager started)");
    else
        buf_printf(out, "heard of %lld s ago)", (long long)m->heard_ms / 1000);
}

void quorum_missing(struct control *c, struct err *e)
{
    struct replica_member members[MEMBERS_MOST];
    size_t count = replica_members(control_replica(c), members, MEMBERS_MOST);
    uint64_t own = replica_id(control_replica(c));
    AUTO_BUF struct buf missing = {0};

    for (size_t i = 0; i < count; i++)
        if (members[i].voter && members[i].id != own &&
            (members[i].heard_ms < 0 || members[i].heard_ms > SILENT_MS))
            put_member(&missing, control_index(c), &members[i]);
    err_set(
        e, ERR_UNAVAILABLE,
        "rpc error: code = Unknown desc = The swarm does not have a leader. It's possible that too few managers "
        "are online. Make sure more than half of the managers are online.%s%s",
        missing.length ? " Missing: " : "", missing.length ? buf_str(&missing) : "");
}
