/* Image references: whatever is accepted has a normal form that is its own normal form. */
#include <assert.h>
#include <stdint.h>
#include <string.h>

#include "proto/base/image_name.h"
#include "proto/base/mem.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    AUTO_FREE
    char *ref = mem_strndup((const char *)data, size);
    AUTO_ARENA
    struct arena a;
    struct image_name n, again;
    struct err e = {0};

    arena_init(&a);
    (void)image_domain_is_loopback(ref);
    if (image_name_parse(ref, &a, &n, &e) < 0) {
        assert(e.code < 0 && e.text[0]);
        return 0;
    }
    assert(n.tag || n.digest);
    assert(image_name_parse(n.full, &a, &again, NULL) == 0 && strcmp(n.full, again.full) == 0);
    assert(image_name_parse(n.familiar, &a, &again, NULL) == 0 && strcmp(n.full, again.full) == 0);
    assert(image_name_repository(n.full) == strlen(n.domain) + 1 + strlen(n.path));
    return 0;
}
