/* Who this node is: the identity file below <data-dir>/swarm (DESIGN.md section 6).
 *
 * Reading is quick and done at start. Writing is durable and may take as long as the disk does, so it runs in
 * libuv's pool. */
#pragma once

#include <uv.h>

#include "manager/manager.h"
#include "proto/base/err.h"
#include "proto/identity.pb-c.h"

/* Read and check: the key belongs to the certificate, the root signed it, the certificate names this node and
 * cluster. ERR_NOT_FOUND: this node is in no swarm. Free with identity__free_unpacked(identity, NULL).
 *
 * A manager's file may be locked (has_sealed): the identity has neither key_pem nor data_key then. */
int identity_read(const char *data_dir, Identity **ret, struct err *e);

/* Open a locked identity that was read; *ret is the whole one, with lock_key. ERR_UNAUTHORIZED: another key. */
int identity_unlock(const Identity *locked, const uint8_t key[MANAGER_LOCK_KEY], Identity **ret, struct err *e);

/* Wipe what is secret of it. */
void identity_wipe(Identity *identity);

/* Replace the file, durably; `done` comes on the loop. The identity is packed before this returns; a manager's that
 * has a lock_key is locked with it. */
int identity_write(uv_loop_t *loop, const char *data_dir, const Identity *identity,
                   void (*done)(void *ctx, const struct err *e), void *ctx, struct err *e);

/* Remove <data-dir>/swarm with everything in it, in libuv's pool; `done` comes on the loop. */
int identity_forget(uv_loop_t *loop, const char *data_dir, void (*done)(void *ctx, const struct err *e), void *ctx,
                    struct err *e);

/* Remove what a manager of this node left, <data-dir>/swarm/manager, likewise. */
int identity_clear_manager(uv_loop_t *loop, const char *data_dir, void (*done)(void *ctx, const struct err *e),
                           void *ctx, struct err *e);
