/* Constraints and spread preferences come from clients. Whatever the text, parsing ends with an error or with parts
 * that lie in the memory it was given, and both are evaluated against a node. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "manager/index.h"
#include "proto/base/mem.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void inside(const char *part, const char *memory, size_t bytes)
{
    if (*part && (part < memory || part + strlen(part) >= memory + bytes))
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct index_label labels[] = {{"zone", "a"}, {"x", ""}};
    static const struct index_node node = {.exists = true,
                                           .name = "",
                                           .hostname = "n1",
                                           .address = "10.1.2.3",
                                           .os = "linux",
                                           .architecture = "x86_64",
                                           .labels = labels,
                                           .label_count = 2,
                                           .engine_labels = labels,
                                           .engine_label_count = 2};
    AUTO_FREE
    char *text = mem_strndup((const char *)data, size);
    size_t bytes = constraint_bytes(text);
    AUTO_FREE
    char *memory = malloc(bytes);
    enum constraint_key key;
    struct constraint c;
    const char *label;
    struct err e = {0};

    if (constraint_parse(text, memory, &c, &e) == 0) {
        struct constraint other = c;

        inside(c.label, memory, bytes);
        inside(c.value, memory, bytes);
        other.equal = !c.equal;
        /* Exactly one of == and != holds, but for keys that never do. */
        if (constraint_holds(&c, &node) == constraint_holds(&other, &node) && c.key != CONSTRAINT_UNKNOWN)
            abort();
    } else if (e.code != ERR_INVALID || !*e.text) {
        abort();
    }
    if (constraint_descriptor(text, &key, &label))
        (void)constraint_value(key, label, &node);
    return 0;
}
