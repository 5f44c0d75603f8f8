/* Snapshots for members that lag so far that the log does not reach back to them.
 *
 * Offer. When the core asks for it the leader offers its newest snapshot: what it stands for, how many chunks, the
 * digest. Pull. The member asks for chunk after chunk and seals them into a file of its own; a chunk that does not
 * come is asked for again, a stream that broke off goes on where it was when the same snapshot is offered again, by
 * whichever leader. Install. Once the file is whole and its digest right, the next offer of a leader that is still
 * leading is given to the core. If the core wants it:
 *
 *     publish   the file gets its name, durably            a crash before: nothing happened
 *     reset     the log begins anew behind it              a crash before: opening drops a log that ends below
 *     load      its chunks go to the store, then the core is told      a crash before: opening restores the store
 *
 * Meanwhile the core takes no entries and no part in elections.
 *
 * Serving a chunk is a job on the bulk lane; a served file stays open, so it may be removed meanwhile. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "manager/raft/driver.h"
#include "manager/raft/fault.h"
#include "proto/base/log.h"
#include "proto/base/mem.h"

#define SERVES_MAX    4
#define SERVE_IDLE_MS 30000
#define TRIES_MAX     20

/* --- the leader's side ---------------------------------------------------------------------------- */

void install_offer(struct replica *r, uint64_t to, uint64_t term)
{
    struct message m = {.type = RAFT_INSTALL_SNAPSHOT, .to = to};
    struct raft_install_snapshot *s = &m.raft.install_snapshot;
    struct raft_buffer conf = {.base = r->last.configuration, .len = r->last.configuration_size};

    if (!r->last.index || FAULT(OFFER_LOST))
        return;
    s->term = term;
    s->last_index = r->last.index;
    s->last_term = r->last.term;
    s->conf_index = r->last.configuration_index;
    if (raft_configuration_decode(&conf, &s->conf) != 0)
        abort(); /* out of memory: it was checked when it was read */
    m.offer.chunks = r->last.chunks;
    m.offer.bytes = r->last.bytes;
    m.offer.chunk_bytes = r->last.chunk_bytes;
    memcpy(m.offer.digest, r->last.digest, SHA256_BYTES);
    send_message(r, ENV_CHANNEL_CONTROL, &m);
    raft_configuration_close(&s->conf);
}

static void serve_free(struct serve *s)
{
    list_remove(&s->link);
    snapshot_close(s->file);
    buf_fini(&s->chunk);
    free(s);
}

static void serve_work(struct env_job *job)
{
    struct serve *s = container_of(job, struct serve, job);
    int rc = 0;

    s->e.code = 0;
    buf_clear(&s->chunk);
    if (!s->file)
        rc = snapshot_open(&s->replica->snapshots, s->index, &s->file, &s->e);
    if (rc == 0 && s->number < snapshot_get_info(s->file)->chunks)
        (void)snapshot_chunk(s->file, s->number, &s->chunk, &s->e); /* the error is looked at on the loop */
}

static void send_chunk(struct replica *r, uint64_t to, uint64_t index, uint64_t number, const struct buf *data)
{
    struct message m = {.type = MESSAGE_CHUNK, .to = to};

    m.chunk.index = index;
    m.chunk.number = number;
    if (data) {
        m.chunk.data = (uint8_t *)buf_bytes(data);
        m.chunk.size = (uint32_t)data->length;
        sha256(m.chunk.data, m.chunk.size, m.chunk.digest);
    }
    send_message(r, ENV_CHANNEL_BULK, &m);
}

static void serve_done(struct env_job *job)
{
    struct serve *s = container_of(job, struct serve, job);
    struct replica *r = s->replica;

    s->busy = false;
    if (r->closing || r->failed) {
        serve_free(s);
        return;
    }
    if (s->e.code == ERR_CORRUPT && s->index == r->last.index)
        r->log_from = UINT64_MAX / 2; /* the store still has it all: take another one soon */
    if (s->e.code)
        log_warn("a snapshot could not be served", "member=%llu error=\"%s\"", (unsigned long long)r->id,
                 s->e.text);
    if (s->e.code || s->chunk.length == 0)
        send_chunk(r, s->to, 0, s->number, NULL);
    else
        send_chunk(r, s->to, s->index, s->number, &s->chunk);
    if (s->e.code)
        serve_free(s);
}

/* The served snapshot of that index; opened for the newest one; NULL: not to be had. When too many are open the one
 * that was asked for longest ago goes; whoever still pulls it is offered a newer one. */
static struct serve *serve_of(struct replica *r, uint64_t index)
{
    struct serve *s, *idle = NULL;
    unsigned count = 0;

    list_each (s, &r->serves, link) {
        if (s->index == index)
            return s;
        count++;
        if (!s->busy && (!idle || s->used_ms < idle->used_ms))
            idle = s;
    }
    if (index != r->last.index || (count >= SERVES_MAX && !idle))
        return NULL;
    if (count >= SERVES_MAX)
        serve_free(idle);
    s = mem_alloc(sizeof(*s));
    s->replica = r;
    s->index = index;
    list_push(&r->serves, &s->link);
    return s;
}

/* Nobody asks any more. */
static void serve_expire(struct replica *r)
{
    struct serve *s, *after;

    list_each_safe (s, after, &r->serves, link)
        if (!s->busy && driver_now(r) > s->used_ms + SERVE_IDLE_MS)
            serve_free(s);
}

void install_receive_pull(struct replica *r, const struct message *m)
{
    struct serve *s = serve_of(r, m->chunk.index);

    if (!s) {
        send_chunk(r, m->from, 0, m->chunk.number, NULL);
        return;
    }
    s->used_ms = driver_now(r);
    if (s->busy)
        return; /* it asks again */
    s->busy = true;
    s->to = m->from;
    s->number = m->chunk.number;
    s->job = (struct env_job){.work = serve_work, .done = serve_done};
    r->env->post(r->env, ENV_LANE_BULK, &s->job);
}

/* --- pulling -------------------------------------------------------------------------------------- */

bool install_active(const struct replica *r)
{
    return r->install.state >= INSTALL_PUBLISH;
}

static void post(struct replica *r, void (*work)(struct env_job *job), void (*done)(struct env_job *job))
{
    assert(!r->install.busy);
    r->install.busy = true;
    r->install.e.code = 0;
    r->install.job = (struct env_job){.work = work, .done = done};
    r->env->post(r->env, ENV_LANE_BULK, &r->install.job);
}

/* Forget everything; the job must not run. */
static void clear(struct install *i)
{
    assert(!i->busy);
    snapshot_info_fini(&i->wanted);
    snapshot_info_fini(&i->pulled);
    snapshot_out_free(i->out);
    snapshot_close(i->file);
    buf_fini(&i->chunk);
    *i = (struct install){.state = INSTALL_IDLE};
}

static void ask(struct replica *r)
{
    struct install *i = &r->install;
    struct message m = {.type = MESSAGE_PULL, .to = i->from};

    m.chunk.index = i->wanted.index;
    m.chunk.number = i->next;
    memcpy(m.chunk.digest, i->wanted.digest, SHA256_BYTES);
    i->asked_ms = driver_now(r);
    i->tries++;
    send_message(r, ENV_CHANNEL_CONTROL, &m);
}

static void pull_work(struct env_job *job)
{
    struct install *i = container_of(job, struct install, job);
    struct replica *r = container_of(i, struct replica, install);
    int rc = 0;

    if (!i->out)
        rc = snapshot_out_open(&r->snapshots, SNAPSHOT_PULLED, &i->wanted, &i->out, &i->e);
    if (rc == 0 && i->chunk.length)
        rc = snapshot_out_add(i->out, buf_bytes(&i->chunk), i->chunk.length, &i->e);
    if (rc == 0 && i->next == i->wanted.chunks) {
        rc = snapshot_out_end(i->out, &i->pulled, &i->e);
        if (rc == 0 &&
            (i->pulled.bytes != i->wanted.bytes || memcmp(i->pulled.digest, i->wanted.digest, SHA256_BYTES) != 0))
            err_set(&i->e, ERR_CORRUPT, "the digest does not fit the contents");
    }
}

static void pull_done(struct env_job *job)
{
    struct install *i = container_of(job, struct install, job);
    struct replica *r = container_of(i, struct replica, install);

    i->busy = false;
    if (r->closing || r->failed)
        return;
    if (i->e.code) {
        log_warn("a leader's snapshot could not be stored", "member=%llu index=%llu error=\"%s\"",
                 (unsigned long long)r->id, (unsigned long long)i->wanted.index, i->e.text);
        clear(i);
    } else if (i->next == i->wanted.chunks) {
        snapshot_out_free(i->out);
        i->out = NULL;
        i->state = INSTALL_COMPLETE;
    } else {
        i->tries = 0;
        ask(r);
    }
    driver_wake(r);
}

void install_receive_chunk(struct replica *r, const struct message *m)
{
    struct install *i = &r->install;
    uint8_t digest[SHA256_BYTES];
    bool last = m->chunk.number + 1 == i->wanted.chunks;

    if (i->state != INSTALL_PULLING || i->busy || m->chunk.number != i->next || m->from != i->from)
        return;
    if (m->chunk.index != i->wanted.index) {
        clear(i); /* the leader has it no more; it will offer a newer one */
        return;
    }
    sha256(m->chunk.data, m->chunk.size, digest);
    if (memcmp(digest, m->chunk.digest, SHA256_BYTES) != 0 || m->chunk.size == 0 ||
        (last ? m->chunk.size > i->wanted.chunk_bytes : m->chunk.size != i->wanted.chunk_bytes)) {
        r->stats.refused++;
        return; /* asked for again */
    }
    buf_clear(&i->chunk);
    buf_append(&i->chunk, m->chunk.data, m->chunk.size);
    i->next++;
    post(r, pull_work, pull_done);
}

static bool same(const struct snapshot_info *a, const struct message *m)
{
    return a->index == m->raft.install_snapshot.last_index && a->term == m->raft.install_snapshot.last_term &&
           memcmp(a->digest, m->offer.digest, SHA256_BYTES) == 0;
}

static void pull_begin(struct replica *r, const struct message *m)
{
    struct install *i = &r->install;
    const struct raft_install_snapshot *s = &m->raft.install_snapshot;
    struct raft_buffer conf;

    clear(i);
    if (raft_configuration_encode(&s->conf, &conf) != 0)
        abort(); /* out of memory */
    i->wanted = (struct snapshot_info){
        .index = s->last_index,
        .term = s->last_term,
        .configuration_index = s->conf_index,
        .configuration = mem_dup(conf.base, conf.len),
        .configuration_size = (uint32_t)conf.len,
        .chunk_bytes = m->offer.chunk_bytes,
        .chunks = m->offer.chunks,
        .bytes = m->offer.bytes,
    };
    memcpy(i->wanted.digest, m->offer.digest, SHA256_BYTES);
    raft_free(conf.base);
    i->state = INSTALL_PULLING;
    i->from = m->from;
    if (i->wanted.chunks)
        ask(r);
    else
        post(r, pull_work, pull_done);
}

void install_receive_offer(struct replica *r, struct message *m)
{
    struct install *i = &r->install;
    struct raft_install_snapshot *s = &m->raft.install_snapshot;
    bool have = r->last.index >= s->last_index || driver_term_of(r, s->last_index) == s->last_term;

    /* A stale one, or one of what we have: the core answers. */
    if (s->term < raft_current_term(&r->guard.core) || (have && !install_active(r))) {
        guard_receive(&r->guard, &m->raft);
        return;
    }
    if (install_active(r))
        return;
    if (i->state == INSTALL_COMPLETE && same(&i->wanted, m))
        guard_receive(&r->guard, &m->raft); /* the core calls install_begin if it wants it */
    else if (i->state != INSTALL_IDLE && same(&i->wanted, m))
        i->from = m->from;
    else if (!i->busy)
        pull_begin(r, m);
}

/* --- installing ----------------------------------------------------------------------------------- */

static void publish_work(struct env_job *job)
{
    struct install *i = container_of(job, struct install, job);
    struct replica *r = container_of(i, struct replica, install);

    (void)snapshot_publish(&r->snapshots, SNAPSHOT_PULLED, i->wanted.index, &i->e); /* looked at on the loop */
}

static void publish_done(struct env_job *job)
{
    struct install *i = container_of(job, struct install, job);
    struct replica *r = container_of(i, struct replica, install);

    i->busy = false;
    if (r->closing || r->failed)
        return;
    if (i->e.code) {
        driver_fail(r, &i->e); /* the core has forgotten its log already */
        return;
    }
    snapshot_info_fini(&r->last);
    r->last = i->pulled;
    i->pulled = (struct snapshot_info){0};
    i->state = INSTALL_RESET;
    writer_reset(&r->writer, r->last.index, r->last.term);
}

void install_begin(struct replica *r, const struct raft_snapshot_metadata *metadata)
{
    struct install *i = &r->install;

    assert(i->state == INSTALL_COMPLETE && metadata->index == i->wanted.index);
    take_cancel(r);
    i->metadata = *metadata;
    i->state = INSTALL_PUBLISH;
    tail_reset(&r->tail, metadata->index, metadata->term);
    r->written = 0;
    post(r, publish_work, publish_done);
}

static void load_work(struct env_job *job)
{
    struct install *i = container_of(job, struct install, job);
    struct replica *r = container_of(i, struct replica, install);
    int rc = 0;

    if (!i->file)
        rc = snapshot_open(&r->snapshots, r->last.index, &i->file, &i->e);
    buf_clear(&i->chunk);
    if (rc == 0 && i->next < r->last.chunks)
        (void)snapshot_chunk(i->file, i->next, &i->chunk, &i->e); /* looked at on the loop */
}

static void loaded(struct replica *r)
{
    struct install *i = &r->install;
    struct raft_snapshot_metadata metadata = i->metadata;

    r->applied = r->written = r->last.index;
    digest_forget(r);
    r->commit = MAX(r->commit, r->applied);
    r->log_from = 0;
    r->stats.installs++;
    clear(i);
    take_remove_old(r, disklog_active(r->log)); /* the one that begins behind the snapshot */
    guard_installed(&r->guard, &metadata);
    log_info("raft snapshot of the leader installed", "member=%llu index=%llu", (unsigned long long)r->id,
             (unsigned long long)r->applied);
    driver_wake(r);
}

static void load_done(struct env_job *job)
{
    struct install *i = container_of(job, struct install, job);
    struct replica *r = container_of(i, struct replica, install);
    struct err e = {0};
    bool first = i->next == 0;

    i->busy = false;
    if (r->closing || r->failed)
        return;
    if (i->e.code) {
        driver_fail(r, &i->e);
        return;
    }
    i->next += r->last.chunks > 0;
    bool last = i->next == r->last.chunks;
    if (FAULT(RESTORE_PARTIAL) && last && !first)
        buf_clear(&i->chunk);
    if (r->events.on_restore(r->events.ctx, buf_bytes(&i->chunk), i->chunk.length, first, last, r->last.index, &e) <
        0) {
        driver_fail(r, &e);
        return;
    }
    i->loaded = last;
    if (!last)
        post(r, load_work, load_done);
    driver_wake(r);
}

void install_reset_done(struct replica *r)
{
    struct install *i = &r->install;

    if (r->closing || r->failed)
        return;
    assert(i->state == INSTALL_RESET);
    i->state = INSTALL_LOAD;
    i->next = 0;
    post(r, load_work, load_done);
}

void install_advance(struct replica *r)
{
    struct install *i = &r->install;

    serve_expire(r);
    if (i->state == INSTALL_LOAD && i->loaded) {
        loaded(r);
    } else if (i->state == INSTALL_PULLING && !i->busy && driver_now(r) >= install_due(r)) {
        if (i->tries >= TRIES_MAX)
            clear(i);
        else
            ask(r);
    }
}

int64_t install_due(const struct replica *r)
{
    const struct install *i = &r->install;

    return i->state == INSTALL_PULLING && !i->busy ? i->asked_ms + r->election_ms : DRIVER_NEVER;
}

void install_fini(struct replica *r)
{
    while (!list_empty(&r->serves))
        serve_free(list_first(&r->serves, struct serve, link));
    if (install_active(r)) /* the core did not get it back yet */
        raft_configuration_close(&r->install.metadata.configuration);
    r->install.busy = false;
    clear(&r->install);
}
