/* An image store on a scratch directory and a loop of its own, driven step by step by a test. */
#pragma once

#include <stdbool.h>

#include <uv.h>

#include "engine/image/image.h"
#include "proto/base/buf.h"

struct world {
    uv_loop_t loop;
    struct images *images;
    char *dir;  /* of the store */
    char *user; /* in_use: text for every image, or NULL */
    bool user_runs;
    struct buf events; /* "action name\n" */
    uint64_t layer_bytes_max, upload_bytes_max;
    const char *const *insecure;
    const char *certificates;
};

/* What became of a pull, load or import. */
struct outcome {
    struct image_job *job;
    bool done;
    struct err error;
    char id[80];      /* of the image; "" when none was told */
    struct buf lines; /* of progress, each with a newline */
    struct world *world;
    const char *cancel_at; /* cancel when a line holds this text; NULL: never */
    struct buf upload;     /* what is still to be fed */
    size_t fed;
};

struct world *world_new(void);
void world_free(struct world *w); /* closes the store if it is open, removes the directory */

void world_open(struct world *w); /* fails the test when it cannot */
void world_close(struct world *w);

/* Run the loop until the flag is set; fails the test after a generous time. */
void world_wait(struct world *w, const bool *flag);
/* Run until nothing is left to do: what was removed is gone. */
void world_settle(struct world *w);

void world_load(struct world *w, const struct buf *archive, struct outcome *o);
void world_import(struct world *w, const struct buf *tar, const char *ref, const char *const *changes, size_t count,
                  struct outcome *o);
void world_pull(struct world *w, const char *ref, const char *platform, const char *auth, struct outcome *o);
/* As world_pull without waiting. */
void world_pull_start(struct world *w, const char *ref, const char *platform, const char *auth, struct outcome *o);
void world_load_start(struct world *w, const struct buf *archive, struct outcome *o);
void outcome_fini(struct outcome *o);

/* What the store holds on the disk: "blobs N layers N tmp N records N+N". Borrowed until the next call. */
const char *world_disk(struct world *w);

/* Processes named shoal-job that we have started: the pid of the first, or 0. */
int job_running(void);
int job_of(int parent);     /* as job_running, of another process */
bool process_runs(int pid); /* neither gone nor a zombie */

/* --- for most tests: a setup and teardown with an open store, and what they look at -------------- */

int world_setup(void **state);
int world_teardown(void **state);
void world_reopen(struct world *w); /* close, open, settle */

const ImageRecord *world_found(struct world *w, const char *ref); /* NULL when it is not found */
void assert_well(const struct outcome *o);
void assert_found(struct world *w, const char *ref, const char *id);
void assert_absent(struct world *w, const char *ref, int code, const char *text);
/* What the layers of an image hold, topmost first, as tree_describe tells it. */
void assert_layers(struct world *w, const char *id, unsigned count, const char *expected);

/* Two images of the layers "a" and "a", "b": made, and loaded as one:1 and as two:1 and reg.example:5000/two:2. */
struct made;
void make_two(struct made *one, struct made *two);
void load_two(struct world *w, struct made *one, struct made *two);
