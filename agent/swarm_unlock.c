/* Autolock, the node's side (swarm.h, reference/swarm-surface.md section 6).
 *
 * The manager tells the unlock key, or that there is none (to a node that becomes one the leader tells it with the
 * certificate, swarm_lock), and the identity in memory carries it: whatever writes
 * the identity locks it with that key (agent/identity). So turning autolock on, changing the key and turning it off
 * are one thing here: what the key is now differs from what the identity has, and the file is written again.
 *
 * A locked node has an identity without keys. Its agent runs the tasks that the ledger remembers and dials nobody;
 * unlocking gives it the whole identity, and it resumes as at any start. The key has 256 random bits, so guessing
 * is no danger; all the same a wrong one is answered only after a second, and one at a time. */
#include <string.h>

#include "agent/identity.h"
#include "agent/swarm_internal.h"
#include "proto/base/jread.h"
#include "proto/base/log.h"
#include "proto/base/mem.h"
#include "proto/base/message.h"

#define REFUSAL_MS 1000

/* --- what the key is ------------------------------------------------------------------------------- */

static bool has_key(const Identity *identity, const uint8_t *key)
{
    if (!key || !identity->has_lock_key)
        return !key && !identity->has_lock_key;
    return memcmp(identity->lock_key.data, key, MANAGER_LOCK_KEY) == 0;
}

void swarm_lock(Identity *identity, const uint8_t *key, uint64_t version)
{
    if (!key || identity->role != NODE_ROLE__MANAGER || version < identity->lock_version)
        return;
    identity->has_lock_key = identity->has_lock_version = true;
    identity->lock_key = (ProtobufCBinaryData){MANAGER_LOCK_KEY, (uint8_t *)key};
    identity->lock_version = version;
}

void swarm_set_lock_key(void *ctx, const uint8_t *key, uint64_t version)
{
    struct swarm *s = ctx;

    /* A manager that reads its log again tells old keys on the way to the present one. */
    if (!s->identity || !swarm_is_manager(s) || version < s->identity->lock_version || has_key(s->identity, key))
        return;
    Identity changed = *s->identity;
    changed.has_lock_key = key != NULL;
    changed.lock_key = (ProtobufCBinaryData){key ? MANAGER_LOCK_KEY : 0, (uint8_t *)key};
    changed.has_lock_version = true;
    changed.lock_version = version;
    log_info(key ? "this manager's keys are locked on the disk from now on"
                 : "this manager's keys are not locked on the disk any more",
             "version=%llu", (unsigned long long)version);
    swarm_replace_identity(s, &changed);
}

/* --- a wrong key ----------------------------------------------------------------------------------- */

static void on_timer_closed(uv_handle_t *timer)
{
    free(timer);
}

void swarm_stop_refusing(struct swarm *s)
{
    struct err e;

    if (s->refusal)
        uv_close((uv_handle_t *)steal(&s->refusal), on_timer_closed);
    if (!s->refused)
        return;
    err_set(&e, ERR_UNAUTHORIZED, "swarm could not be unlocked: invalid key provided");
    http_reply_error(steal(&s->refused), &e);
}

static void on_refusal(uv_timer_t *timer)
{
    swarm_stop_refusing(timer->data);
}

static void on_refused_gone(struct http_exchange *x)
{
    struct swarm *s = http_data(x);

    if (s->refused == x)
        s->refused = NULL; /* the timer goes on: hanging up makes nothing quicker */
}

static void refuse_later(struct swarm *s, struct http_exchange *x)
{
    s->refused = x;
    http_on_close(x, on_refused_gone);
    s->refusal = mem_alloc(sizeof(*s->refusal));
    uv_timer_init(s->config.loop, s->refusal);
    s->refusal->data = s;
    uv_timer_start(s->refusal, on_refusal, REFUSAL_MS, 0);
}

/* --- unlocking ------------------------------------------------------------------------------------- */

static int check_locked(struct swarm *s, struct err *e)
{
    if (s->state == SWARM_LOCKED)
        return s->refusal ? err_set(e, ERR_UNAVAILABLE, "another key is being refused; try again in a moment") : 0;
    if (swarm_is_manager(s) && s->state != SWARM_FAILED)
        return err_set(e, ERR_CONFLICT, "swarm is not locked");
    (void)swarm_manager(s, e); /* for the words: there is none */
    return e->code;
}

static int read_key(const char *body, size_t length, uint8_t ret[MANAGER_LOCK_KEY], struct err *e)
{
    AUTO_ARENA struct arena a;
    AUTO_JSON json_t *root = NULL;
    char *text = NULL;

    arena_init(&a);
    int rc = jread_parse(body, length, &root, e);
    if (rc == 0 && !json_is_object(root))
        rc = err_set(e, ERR_INVALID, "invalid request: expected an object");
    if (rc == 0)
        rc = jread_string(root, NULL, "UnlockKey", &a, &text, e);
    if (rc == 0)
        rc = manager_lock_parse(text ? text : "", ret, e);
    if (text)
        mem_wipe(text, strlen(text));
    return rc;
}

static int unlock(struct swarm *s, const char *body, size_t length, struct err *e)
{
    uint8_t key[MANAGER_LOCK_KEY];
    Identity *whole = NULL;
    int rc = check_locked(s, e);

    if (rc == 0)
        rc = read_key(body, length, key, e);
    if (rc == 0)
        rc = identity_unlock(s->identity, key, &whole, e);
    mem_wipe(key, sizeof(key));
    if (rc < 0)
        return rc;
    log_info("unlocked", "cluster=%s node=%s", whole->cluster_id, whole->node_id);
    message_free(s->identity); /* it had no secrets */
    s->identity = whole;
    swarm_resume(s);
    if (s->agent && s->tls)
        agent_set_tls(s->agent, s->tls, s->identity);
    swarm_connect_agent(s);
    return 0;
}

static void on_unlock_body(struct http_exchange *x, const char *body, size_t length)
{
    struct swarm *s = http_data(x);
    struct err e;
    int rc = unlock(s, body, length, &e);

    if (rc == 0)
        http_reply_empty(x, 200);
    else if (rc == ERR_UNAUTHORIZED)
        refuse_later(s, x);
    else
        http_reply_error(x, &e);
}

void swarm_http_unlock(struct swarm *s, struct http_exchange *x)
{
    struct err e;

    if (check_locked(s, &e) < 0) {
        http_reply_error(x, &e);
        return;
    }
    http_set_data(x, s);
    http_collect(x, on_unlock_body);
}
