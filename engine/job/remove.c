/* `shoal-job remove`: directory trees that nobody needs any more.
 *
 * Removing a layer of many thousand files takes seconds, which shoald's loop does not have: it renames what must go
 * to "dead-..." inside one directory and starts this job there. The job removes every such entry it finds, as far
 * as it can, and ends; a crash leaves the rest for the next one. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/capability.h>
#include <unistd.h>

#include "engine/job/confine.h"
#include "engine/job/verb.h"
#include "proto/base/file.h"
#include "proto/base/log.h"
#include "proto/base/mem.h"

#define DEAD     "dead-"
#define TRIES    250 /* five seconds: a killed process takes its time on a busy machine */
#define PAUSE_MS 20

/* A helper that was killed may write its last file while the tree goes: then the tree is not empty at its end. */
static int remove_one(int root_fd, const char *name, struct err *e)
{
    int rc = tree_remove(root_fd, name, e);

    for (int tries = 0; rc == ERR_EXISTS && tries < TRIES; tries++) {
        (void)poll(NULL, 0, PAUSE_MS); /* only to wait */
        rc = tree_remove(root_fd, name, e);
    }
    return rc;
}

static int remove_dead(int root_fd, struct err *e)
{
    DIR *dir = fdopendir(root_fd);
    struct dirent *entry;
    int worst = 0;

    if (!dir)
        return err_errno(e, "list the directory");
    while ((entry = readdir(dir))) {
        if (strncmp(entry->d_name, DEAD, strlen(DEAD)) != 0)
            continue;
        int rc = remove_one(dirfd(dir), entry->d_name, e);
        if (rc < 0)
            worst = rc; /* the others still go */
    }
    closedir(dir);
    return worst;
}

int remove_main(void)
{
    const struct confine_limits limits = {
        .memory_bytes = JOB_MEMORY_BYTES, .file_bytes = 0, .descriptors = 1024, /* one for each level of a tree */
    };
    struct err e = {0};
    int root_fd = -1;
    int rc = confine_limits(&limits, &e);

    if (rc == 0)
        rc = confine_root(JOB_FD_FIRST, true, &root_fd, &e);
    if (rc == 0)
        rc = confine_capabilities(1ull << CAP_DAC_OVERRIDE | 1ull << CAP_FOWNER, &e);
    if (rc == 0)
        rc = confine_system_calls(CONFINE_REMOVE, &e);
    if (rc == 0)
        rc = remove_dead(root_fd, &e);
    if (rc < 0)
        log_error("removal left something behind", "error=\"%s\"", e.text);
    _exit(rc < 0); /* no exit handlers: their system calls are not allowed */
}
