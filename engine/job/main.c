/* shoal-job: short-lived helpers of shoald, one verb each, confined before they read anything from outside.
 *
 * shoald links neither the libraries that speak to registries nor those that read archives; it starts `shoal-job
 * VERB` with pipes for requests and events (proto/job.proto) and with the descriptors the verb works on. Verbs take
 * no arguments: what they may do is decided by which descriptors they get. */
#include <stdio.h>
#include <string.h>

#include "engine/job/verb.h"
#include "proto/base/entropy.h"
#include "proto/base/log.h"
#include "proto/base/map.h"
#include "proto/base/mem.h"

static const struct {
    const char *verb;
    int (*run)(void);
    const char *what;
} verbs[] = {
    {"fetch", fetch_main, "manifests and blobs from a registry"},
    {"profile", profile_main, "a seccomp profile into a program"},
    {"remove", remove_main, "directory trees that nobody needs any more"},
    {"spool", spool_main, "an uploaded archive into files"},
    {"unpack", unpack_main, "a layer into a directory"},
};

int main(int argc, char **argv)
{
    map_seed(entropy_u64(entropy_real()));
    log_set_prefix("job");
    for (size_t i = 0; argc == 2 && i < ARRAY_SIZE(verbs); i++)
        if (strcmp(argv[1], verbs[i].verb) == 0)
            return verbs[i].run();
    fprintf(stderr, "shoal-job is started by shoald, never by hand. Its verbs:\n");
    for (size_t i = 0; i < ARRAY_SIZE(verbs); i++)
        fprintf(stderr, "  %-8s %s\n", verbs[i].verb, verbs[i].what);
    return 2;
}
