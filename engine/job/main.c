/* shoal-job: short-lived helpers of shoald, one verb each. */
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
    {"profile", profile_main, "a seccomp profile into a program"},
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
