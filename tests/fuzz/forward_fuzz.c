/* What managers send each other with a forwarded request. Laws: what is accepted can be used as a request or as the
 * head of an answer: texts are bounded, the path is one, the type fits into a header, the id has its size. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "manager/api/forward.h"
#include "proto/base/mem.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool holds)
{
    if (!holds)
        abort();
}

static void request(const uint8_t *data, size_t size, struct arena *a)
{
    ForwardRequest *r;
    struct err e;

    if (forward_read_request(data, size, a, &r, &e) < 0) {
        must(e.code == ERR_INVALID && *e.text);
        return;
    }
    struct ask_source source = {.method = r->method,
                                .path = r->path,
                                .query = r->query ? r->query : "",
                                .registry_auth = r->registry_auth,
                                .api_minor = r->api_minor};
    struct ask *k = ask_new();
    must(r->path[0] == '/' && r->body_size <= FORWARD_BODY_MOST && (!r->has_id || r->id.len == 16));
    must((unsigned)ask_class_of(r->method, r->path) < ASK_CLASSES);
    (void)ask_prepare(k, &source, &e); /* refused or not: it comes back */
    ask_free(k);
}

static void part(const uint8_t *data, size_t size, struct arena *a)
{
    ForwardPart *p;
    struct err e;

    if (forward_read_part(data, size, a, &p, &e) < 0) {
        must(e.code == ERR_INVALID && *e.text);
        return;
    }
    must(!p->has_status || (p->status >= 200 && p->status < 600));
    for (const char *c = p->type; c && *c; c++)
        must(*c >= ' ' && *c <= '~');
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    AUTO_ARENA struct arena a;

    arena_init(&a);
    request(data, size, &a);
    part(data, size, &a);
    return 0;
}
