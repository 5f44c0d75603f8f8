/* The client's reader of HTTP responses: whatever arrives, and however it is cut into pieces, it says the same,
 * takes no byte twice, and hands out no byte that is not the body's. */
#include <assert.h>
#include <stdint.h>
#include <string.h>

#include "cli/response.h"
#include "proto/base/buf.h"
#include "proto/base/mem.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct reading {
    struct response response;
    struct buf body;
    int rc;
    size_t used;
};

static void read_in_pieces(struct reading *g, const char *data, size_t size, size_t step, bool to_head)
{
    struct err e = {0};

    response_begin(&g->response, to_head);
    while (g->rc == 0 && g->used < size && g->response.state != RESPONSE_DONE) {
        size_t piece = MIN(step, size - g->used), taken = 0, part_size = 0;
        const char *part = NULL;

        g->rc = response_take(&g->response, data + g->used, piece, &taken, &part, &part_size, &e);
        if (g->rc < 0) {
            assert(*e.text);
            return;
        }
        assert(taken > 0 && taken <= piece && part_size <= taken);
        assert(part_size == 0 || (part >= data + g->used && part + part_size <= data + g->used + taken));
        buf_append(&g->body, part, part_size);
        g->used += taken;
    }
    if (g->response.state != RESPONSE_DONE)
        g->rc = response_closed(&g->response, &e);
    if (g->rc == 0) {
        assert(g->response.state == RESPONSE_DONE);
        assert(g->response.status >= 200 && g->response.status <= 999);
        assert(!to_head || g->body.length == 0);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct reading whole = {0}, pieces = {0};

    if (size < 2)
        return 0;
    bool to_head = data[0] & 1;
    size_t step = 1 + data[1] % 64;
    const char *text = (const char *)data + 2;
    read_in_pieces(&whole, text, size - 2, size, to_head);
    read_in_pieces(&pieces, text, size - 2, step, to_head);
    assert((whole.rc == 0) == (pieces.rc == 0));
    if (whole.rc == 0) {
        assert(whole.used == pieces.used);
        assert(whole.response.status == pieces.response.status);
        assert(whole.body.length == pieces.body.length);
        assert(whole.body.length == 0 ||
               memcmp(buf_bytes(&whole.body), buf_bytes(&pieces.body), whole.body.length) == 0);
    }
    buf_fini(&whole.body);
    buf_fini(&pieces.body);
    return 0;
}
