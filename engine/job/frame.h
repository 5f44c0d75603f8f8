/* Frames on a job's standard input and output (proto/job.proto), blocking. */
#pragma once

#include <stddef.h>

#include <protobuf-c/protobuf-c.h>

#include "proto/base/err.h"

#define FRAME_MAX ((size_t)8 << 20) /* bytes of one message */

/* Write one message; short writes and EINTR are seen to. Used by one thread. */
int frame_write(int fd, const ProtobufCMessage *message, struct err *e);

/* Read one; free it with protobuf_c_message_free_unpacked(message, NULL). ERR_CLOSED at the end of the stream. */
int frame_read(int fd, const ProtobufCMessageDescriptor *type, ProtobufCMessage **ret, struct err *e);
