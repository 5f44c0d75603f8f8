/* Any JSON as the body of a create request: read or refused, and what was read can be stored and resolved. */
#include <stdint.h>
#include <stdlib.h>

#include "engine/api/container_read.h"
#include "engine/container/merge.h"
#include "engine/container/mounts.h"
#include "engine/container/netfiles.h"
#include "proto/base/jread.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    AUTO_JSON json_t *root = NULL;
    AUTO_ARENA struct arena arena;
    ImageConfig image = IMAGE_CONFIG__INIT;
    ContainerConfig *config;
    struct merged merged;
    struct mounts mounts;
    struct err e;

    arena_init(&arena);
    if (jread_parse((const char *)data, size, &root, &e) < 0 || !json_is_object(root))
        return 0;
    if (container_read(root, 45, &arena, &config, &e) < 0) {
        if (!*e.text)
            abort(); /* a refusal says why */
        return 0;
    }
    (void)arena_message(&arena, &config->base); /* aborts when it cannot be packed and unpacked */
    (void)netfiles_check(config->host, &e);
    if (config_merge(config, &image, "host", &arena, &merged, &e) == 0)
        (void)mounts_resolve(merged.config, NULL, 0, &arena, &mounts, &e);
    return 0;
}
