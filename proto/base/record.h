/* Records: one message per file, for what the engine must remember about an image, a layer, a container, a volume.
 *
 * A file holds magic, version, length, a checksum and the packed message. Writing replaces the file in one step, so
 * a crash of this program at any instruction leaves the old or the new record. A power cut does as well: the last
 * version that is known to lie on the disk is kept beside the new one (".NAME.old") until the new one has been
 * synced in the background, by libuv's pool and by one job at a time. A damaged record is set aside as
 * ".NAME.damaged" and reported, never taken for absent in silence. Files that begin with a dot are ours. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include <protobuf-c/protobuf-c.h>
#include <uv.h>

#include "proto/base/err.h"

#define RECORD_MAGIC    8   /* bytes of a format's magic */
#define RECORD_NAME_MAX 240 /* bytes of a record's name: it is a file name with room for ".NAME.damaged" */

struct record_format {
    const char *magic; /* RECORD_MAGIC bytes, e.g. "shoalimg" */
    uint32_t version;  /* what we write, and the newest we read */
    size_t size_max;   /* packed bytes accepted */
    const ProtobufCMessageDescriptor *type;
};

/* Write one record, replacing the one of that name. Not synced (see records_put). */
int record_write(int dir_fd, const char *name, const struct record_format *f, const ProtobufCMessage *message,
                 struct err *e);

/* Read one; give it back with protobuf_c_message_free_unpacked(message, NULL). ERR_NOT_FOUND, ERR_CORRUPT with what
 * is wrong, or ERR_UNSUPPORTED when a newer version wrote it. */
int record_read(int dir_fd, const char *name, const struct record_format *f, ProtobufCMessage **ret, struct err *e);

/* --- a directory of records, kept durable from the loop ------------------------------------------------------- */

struct records;

/* Open, making the directory (0700) when it is missing. */
int records_open(uv_loop_t *loop, const char *path, const struct record_format *f, struct records **ret,
                 struct err *e);

/* Let a change settle for this long before it is synced, so that what lives shortly costs no write to the disk. 0
 * at start. */
void records_set_delay(struct records *r, unsigned delay_ms);

/* Sync what is left, then free; `closed` comes from the loop. */
void records_close(struct records *r, void (*closed)(void *ctx), void *ctx);

struct records_scan {
    void *ctx;
    void (*on_record)(void *ctx, const char *name, ProtobufCMessage *message); /* the message is the callee's */
    /* One that cannot be used: damaged (and set aside), or written by a newer version (left alone). Also one of
     * which the previous version was taken. May be NULL. */
    void (*on_problem)(void *ctx, const char *name, const struct err *why);
};

/* Read all, in no particular order, after cleaning up what a crash left. Once, before the first put. */
int records_scan(struct records *r, const struct records_scan *scan, struct err *e);

/* Write one record now and sync it soon. On failure (full disk) the old one stands. */
int records_put(struct records *r, const char *name, const ProtobufCMessage *message, struct err *e);

/* Remove one; absent is fine. */
int records_remove(struct records *r, const char *name, struct err *e);
