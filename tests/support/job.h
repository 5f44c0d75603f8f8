/* Run the real shoal-job of this build from a test, as shoald would. */
#pragma once

#include <stddef.h>

#include <protobuf-c/protobuf-c.h>

/* The path of a program of this build ("shoal-job"), found from the test's own. */
const char *built_program(const char *name);

/* A running `shoal-job VERB`, with these descriptors as 3 and up. */
struct job {
    int pid;
    int in, out; /* its standard input and output */
};
void job_start(struct job *j, const char *verb, const int *fds, unsigned count);
void job_send(struct job *j, const ProtobufCMessage *message);
/* The next frame it answers, in memory to be freed; NULL at its end. */
void *job_receive(struct job *j, size_t *ret_size);
/* Close its input, read what is left, and wait: its exit status, or 128 + the signal. */
int job_end(struct job *j);

/* Start `shoal-job VERB` with these descriptors as 3 and up, send the request (NULL: none), hand each frame it
 * answers to on_frame, and return how it ended: its exit status, or 128 + the signal. The descriptors stay the
 * caller's. */
int job_run(const char *verb, const ProtobufCMessage *request, const int *fds, unsigned count,
            void (*on_frame)(void *ctx, const void *data, size_t size), void *ctx);

/* What a directory holds, one sorted line for each entry: "path kind mode uid:gid detail", where detail is the
 * size, the link's words, or the device numbers, followed by extended attributes as name=value and, with `times`,
 * mtime=seconds. Free it. */
char *tree_describe(const char *path, int times);

/* A new empty directory below /tmp; free() the name. And its end. */
char *scratch_new(const char *name);
void scratch_remove(char *path);
