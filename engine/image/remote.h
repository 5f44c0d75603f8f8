/* A repository of a registry, spoken to through a fetch job: internal to engine/image (pull.c, resolve.c). */
#pragma once

#include "engine/image/store.h"
#include "proto/job.pb-c.h"

struct remote; /* one fetch job */

struct remote_events {
    void *ctx;
    /* What a command has led to. `event` is borrowed. */
    void (*on_event)(void *ctx, const FetchEvent *event);
    /* The job has ended; the remote is freed. code 0: it was closed. */
    void (*on_end)(void *ctx, const struct err *e);
};

/* Start a job for the repository of `name`, with the credentials of an X-Registry-Auth header (NULL: none). Blobs
 * come into dir_fd (borrowed). With patience_s no answer is waited for longer than that, and a registry that cannot
 * be reached is not tried again; 0: as long as it takes. */
int remote_open(struct images *s, const struct image_name *name, const char *auth, unsigned patience_s, int dir_fd,
                const struct remote_events *events, struct remote **ret, struct err *e);
void remote_close(struct remote *r); /* no more events; on_end comes */

void remote_manifest(struct remote *r, uint32_t id, const char *reference);
/* Into memory when file is NULL: of at most MANIFEST_BYTES_MAX then. */
void remote_blob(struct remote *r, uint32_t id, const char *digest, uint64_t size, const char *file);

/* Put Docker's words around what a registry said about a manifest. */
void remote_explain(const struct image_name *name, struct err *e);
