/* What managers tell each other about a forwarded request, checked (forward.h). */
#include <string.h>

#include "manager/api/forward.h"
#include "proto/base/ident.h"

#define METHOD_MOST 16
#define TEXT_MOST   (64 * 1024) /* a head of HTTP has no more */
#define TYPE_MOST   128

static bool is_token(const char *text)
{
    size_t length = strspn(text, "ABCDEFGHIJKLMNOPQRSTUVWXYZ");

    return length > 0 && length <= METHOD_MOST && !text[length];
}

static bool is_short(const char *text)
{
    return !text || strnlen(text, TEXT_MOST + 1) <= TEXT_MOST;
}

int forward_read_request(const void *message, size_t size, struct arena *a, ForwardRequest **ret, struct err *e)
{
    ForwardRequest *r = arena_unpack(a, &forward_request__descriptor, message, size);

    if (!r)
        return err_set(e, ERR_INVALID, "%zu bytes are no forwarded request", size);
    if (!is_token(r->method))
        return err_set(e, ERR_INVALID, "invalid method \"%.32s\" of a forwarded request", r->method);
    if (r->path[0] != '/' || !is_short(r->path) || !is_short(r->query) || !is_short(r->registry_auth))
        return err_set(e, ERR_INVALID, "invalid path \"%.64s\" of a forwarded request, or a text that is too long",
                       r->path);
    if (r->api_minor > 999)
        return err_set(e, ERR_INVALID, "invalid API version 1.%u of a forwarded request", r->api_minor);
    if (r->body_size > FORWARD_BODY_MOST)
        return err_set(e, ERR_INVALID, "invalid body of a forwarded request: %u bytes, at most %d are taken",
                       r->body_size, FORWARD_BODY_MOST);
    if (r->has_id && r->id.len != IDENT_BYTES)
        return err_set(e, ERR_INVALID, "invalid id of a forwarded request: %zu bytes", r->id.len);
    *ret = r;
    return 0;
}

/* It becomes a header's value. */
static bool is_type(const char *text)
{
    size_t length = 0;

    while (text[length] >= ' ' && text[length] <= '~' && length <= TYPE_MOST)
        length++;
    return length > 0 && length <= TYPE_MOST && !text[length];
}

int forward_read_part(const void *message, size_t size, struct arena *a, ForwardPart **ret, struct err *e)
{
    ForwardPart *p = arena_unpack(a, &forward_part__descriptor, message, size);

    if (!p)
        return err_set(e, ERR_INVALID, "%zu bytes are no part of a forwarded answer", size);
    if (p->has_status && (p->status < 200 || p->status > 599))
        return err_set(e, ERR_INVALID, "invalid status %u of a forwarded answer", p->status);
    if (p->type && !is_type(p->type))
        return err_set(e, ERR_INVALID, "invalid content type \"%.64s\" of a forwarded answer", p->type);
    if (p->has_again && p->again != FORWARD_AGAIN__NOT_LED && p->again != FORWARD_AGAIN__UNDECIDED)
        return err_set(e, ERR_INVALID, "invalid end %d of a forwarded answer", (int)p->again);
    *ret = p;
    return 0;
}
