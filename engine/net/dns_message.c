/* See dns_message.h (RFC 1035, 2308, 3596, 6891).
 *
 *     +0 id  +2 flags  +4 questions  +6 answers  +8 authorities  +10 additional     then these sections
 *
 * A question is read strictly as far as we act on it: header, one question without pointers, and the additional
 * section as far as the OPT record that says what the client takes. What is in a record otherwise is nobody's
 * business here: questions that are not ours are forwarded as the bytes that came, answers come back as the bytes
 * that the server sent, checked for being the answer to that question.
 *
 * What resolvers expect (musl, glibc): NXDOMAIN and NOERROR are believed at once, with other codes musl waits for
 * a better answer until its time is over. So a name that exists without the type asked for is NOERROR without
 * records (AAAA of a name that has only A), and names that do not exist are NXDOMAIN. */
#include <stdlib.h>
#include <string.h>

#include "engine/net/dns_message.h"
#include "proto/base/mem.h"

#define HEADER 12
#define LABEL  63

#define FLAG_RESPONSE  0x8000u
#define FLAG_OPCODE    0x7800u
#define FLAG_TRUNCATED 0x0200u
#define FLAG_RECURSE   0x0100u /* desired */
#define FLAG_RECURSES  0x0080u /* available */
#define FLAG_UNCHECKED 0x0010u
#define FLAG_CODE      0x000fu

#define CLASS_IN    1
#define RECORD      10 /* type, class, TTL, length: behind each name */
#define OPT_SIZE    11 /* our own OPT record */
#define TO_QUESTION (0xc000u + HEADER)

static uint16_t get16(const uint8_t *at)
{
    return (uint16_t)(at[0] << 8 | at[1]);
}

static uint8_t *put16(uint8_t *at, unsigned value)
{
    at[0] = (uint8_t)(value >> 8);
    at[1] = (uint8_t)value;
    return at + 2;
}

static uint8_t lower(uint8_t c)
{
    return c >= 'A' && c <= 'Z' ? (uint8_t)(c + ('a' - 'A')) : c;
}

/* --- names ----------------------------------------------------------------------------------------- */

size_t dns_name_read(const uint8_t *message, size_t size, size_t *at, uint8_t *wire)
{
    size_t here = *at, limit = *at, after = 0, used = 0;

    while (here < size) {
        uint8_t length = message[here];

        if (length >= 0xc0) {
            if (here + 2 > size)
                return 0;
            size_t to = get16(message + here) & 0x3fff;
            if (!after)
                after = here + 2;
            if (to >= limit || to < HEADER)
                return 0;
            here = limit = to;
            continue;
        }
        if (length > LABEL || here + 1 + length > size || used + 1 + length > DNS_NAME_WIRE)
            return 0;
        memcpy(wire + used, message + here, 1 + (size_t)length);
        used += 1 + (size_t)length;
        here += 1 + (size_t)length;
        if (length == 0) {
            *at = after ? after : here;
            return used;
        }
    }
    return 0;
}

size_t dns_name_skip(const uint8_t *message, size_t size, size_t at)
{
    while (at < size) {
        uint8_t length = message[at];

        if (length >= 0xc0)
            return at + 2 <= size ? at + 2 : 0;
        if (length > LABEL)
            return 0;
        at += 1 + (size_t)length;
        if (length == 0)
            return at <= size ? at : 0;
    }
    return 0;
}

bool dns_name_format(const uint8_t *wire, char *ret)
{
    char *out = ret;

    *ret = '\0';
    for (; *wire; wire += 1 + *wire) {
        if (out > ret)
            *out++ = '.';
        for (unsigned i = 1; i <= *wire; i++) {
            uint8_t c = wire[i];

            if (c <= ' ' || c > '~' || c == '.' || c == '\\') {
                *ret = '\0';
                return false;
            }
            *out++ = (char)lower(c);
        }
    }
    *out = '\0';
    return true;
}

size_t dns_name_parse(const char *text, uint8_t *wire)
{
    size_t used = 0;

    while (*text) {
        size_t length = strcspn(text, ".");

        if (length == 0 || length > LABEL || used + length + 2 > DNS_NAME_WIRE)
            return 0;
        wire[used++] = (uint8_t)length;
        memcpy(wire + used, text, length);
        used += length;
        text += length;
        if (*text == '.')
            text++;
    }
    wire[used++] = 0;
    return used;
}

bool dns_name_equal(const uint8_t *a, const uint8_t *b)
{
    for (;;) {
        uint8_t length = *a;

        if (length != *b)
            return false;
        if (length == 0)
            return true;
        for (unsigned i = 1; i <= length; i++)
            if (lower(a[i]) != lower(b[i]))
                return false;
        a += 1 + length;
        b += 1 + length;
    }
}

/* --- addresses in names ---------------------------------------------------------------------------- */

static bool ends_with(const char *text, const char *end, size_t *ret_length)
{
    size_t length = strlen(text), end_length = strlen(end);

    *ret_length = length - end_length;
    return length > end_length && strcmp(text + length - end_length, end) == 0;
}

/* "3.0.0.10": the bytes backwards, as numbers without leading zeros. */
static bool reverse4(const char *text, size_t length, uint8_t *ret)
{
    const char *end = text + length;

    for (int i = 3; i >= 0; i--) {
        unsigned value = 0, digits = 0;

        for (; text < end && *text >= '0' && *text <= '9' && digits < 3; text++, digits++)
            value = value * 10 + (unsigned)(*text - '0');
        if (digits == 0 || value > 255 || (digits > 1 && text[-(int)digits] == '0'))
            return false;
        ret[i] = (uint8_t)value;
        if (i > 0 && (text == end || *text++ != '.'))
            return false;
    }
    return text == end;
}

static int digit(char c)
{
    return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* 32 hex digits backwards, a dot between each two. */
static bool reverse6(const char *text, size_t length, uint8_t *ret)
{
    if (length != 63)
        return false;
    memset(ret, 0, 16);
    for (unsigned i = 0; i < 32; i++) {
        int value = digit(text[2 * (size_t)i]);

        if (value < 0 || (i < 31 && text[2 * (size_t)i + 1] != '.'))
            return false;
        ret[15 - i / 2] |= (uint8_t)(i % 2 ? value << 4 : value);
    }
    return true;
}

static void read_reverse(const char *name, struct dns_address *ret)
{
    size_t length;

    if (ends_with(name, ".in-addr.arpa", &length) && reverse4(name, length, ret->bytes))
        ret->family = AF_INET;
    else if (ends_with(name, ".ip6.arpa", &length) && reverse6(name, length, ret->bytes))
        ret->family = AF_INET6;
}

/* --- questions ------------------------------------------------------------------------------------- */

/* The record at *at, which is moved behind it. Returns its type, or -1 when there is none. */
static int next_record(const uint8_t *m, size_t size, size_t *at, const uint8_t **ret_fixed)
{
    size_t fixed = dns_name_skip(m, size, *at);

    if (!fixed || fixed + RECORD > size)
        return -1;
    size_t after = fixed + RECORD + get16(m + fixed + 8);
    if (after > size)
        return -1;
    *ret_fixed = m + fixed;
    *at = after;
    return get16(m + fixed);
}

static int read_options(const uint8_t *m, size_t size, size_t at, struct dns_question *q)
{
    unsigned count = get16(m + 6) + get16(m + 8) + get16(m + 10);
    int code = DNS_NOERROR;

    for (unsigned i = 0; i < count; i++) {
        const uint8_t *fixed;
        int type = next_record(m, size, &at, &fixed);

        if (type < 0)
            return DNS_FORMERR;
        if (type != DNS_OPT)
            continue;
        if (q->edns || fixed[-1] != 0) /* a second one, or one with a name */
            return DNS_FORMERR;
        q->edns = true;
        q->udp_size = MAX(DNS_UDP_LEAST, MIN(get16(fixed + 2), DNS_UDP_MOST));
        if (fixed[5] != 0) /* its version */
            code = DNS_BADVERS;
    }
    return code;
}

int dns_question_read(const uint8_t *m, size_t size, struct dns_question *q)
{
    size_t at = HEADER;
    uint8_t wire[DNS_NAME_WIRE];

    memset(q, 0, sizeof(*q));
    q->udp_size = DNS_UDP_LEAST;
    if (size < HEADER || get16(m + 2) & FLAG_RESPONSE)
        return DNS_IGNORE;
    q->id = get16(m);
    q->flags = get16(m + 2);
    if (q->flags & FLAG_OPCODE)
        return DNS_NOTIMP;
    if (get16(m + 4) != 1)
        return DNS_FORMERR;
    size_t name_size = dns_name_read(m, size, &at, wire);
    if (!name_size || at != HEADER + name_size || at + 4 > size)
        return DNS_FORMERR;
    q->type = get16(m + at);
    q->class = get16(m + at + 2);
    q->section_size = name_size + 4;
    memcpy(q->section, m + HEADER, q->section_size);
    int code = read_options(m, size, at + 4, q);
    if (code != DNS_NOERROR)
        return code;
    if (q->class != CLASS_IN)
        return DNS_REFUSED;
    if (dns_name_format(wire, q->name) && q->type == DNS_PTR)
        read_reverse(q->name, &q->address);
    return DNS_NOERROR;
}

/* --- answers --------------------------------------------------------------------------------------- */

void dns_answer_add(struct dns_answer *a, const struct dns_address *address)
{
    if (a->count == DNS_ADDRESSES_MAX)
        return;
    if (a->count == a->capacity) {
        a->capacity = a->capacity ? 2 * a->capacity : 16;
        a->addresses = mem_grow(a->addresses, a->capacity, sizeof(*a->addresses));
    }
    a->addresses[a->count++] = *address;
}

void dns_answer_clear(struct dns_answer *a)
{
    a->count = 0;
    a->name[0] = '\0';
}

void dns_answer_fini(struct dns_answer *a)
{
    free(a->addresses);
    *a = (struct dns_answer){0};
}

/* SplitMix64: enough to share out load, and nothing here must be secret. */
static uint64_t mix(uint64_t *state)
{
    uint64_t z = *state += 0x9e3779b97f4a7c15u;

    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

void dns_answer_shuffle(struct dns_answer *a, uint64_t random)
{
    for (size_t i = a->count; i > 1; i--) {
        size_t other = mix(&random) % i;
        struct dns_address kept = a->addresses[i - 1];

        a->addresses[i - 1] = a->addresses[other];
        a->addresses[other] = kept;
    }
}

/* A record about the question's name. False when it does not fit. */
static bool put_record(uint8_t **at, const uint8_t *end, unsigned type, const uint8_t *data, size_t size)
{
    uint8_t *p = *at;

    if ((size_t)(end - p) < 2 + RECORD + size)
        return false;
    p = put16(p, TO_QUESTION);
    p = put16(p, type);
    p = put16(p, CLASS_IN);
    p = put16(p, 0);
    p = put16(p, DNS_TTL_S);
    p = put16(p, (unsigned)size);
    memcpy(p, data, size);
    *at = p + size;
    return true;
}

static bool asks_for(const struct dns_question *q, unsigned type)
{
    return q->type == type || q->type == DNS_ANY;
}

/* False when not everything fits. */
static bool put_records(uint8_t **at, const uint8_t *end, const struct dns_question *q, const struct dns_answer *a,
                        unsigned *count)
{
    uint8_t wire[DNS_NAME_WIRE];

    for (size_t i = 0; i < a->count; i++) {
        bool is4 = a->addresses[i].family == AF_INET;

        if (!asks_for(q, is4 ? DNS_A : DNS_AAAA))
            continue;
        if (!put_record(at, end, is4 ? DNS_A : DNS_AAAA, a->addresses[i].bytes, is4 ? 4 : 16))
            return false;
        (*count)++;
    }
    if (!a->name[0] || !asks_for(q, DNS_PTR))
        return true;
    size_t size = dns_name_parse(a->name, wire);
    if (!size) /* a container may have a name that is none in DNS */
        return true;
    if (!put_record(at, end, DNS_PTR, wire, size))
        return false;
    (*count)++;
    return true;
}

static uint8_t *put_opt(uint8_t *p, enum dns_code code)
{
    *p++ = 0; /* the root's name */
    p = put16(p, DNS_OPT);
    p = put16(p, DNS_UDP_MOST);
    p = put16(p, (unsigned)code >> 4 << 8); /* the code's upper bits; version 0 */
    p = put16(p, 0);
    return put16(p, 0);
}

size_t dns_answer_write(const struct dns_question *q, enum dns_code code, const struct dns_answer *a, uint8_t *out,
                        size_t limit)
{
    unsigned flags = FLAG_RESPONSE | FLAG_RECURSES | (q->flags & (FLAG_OPCODE | FLAG_RECURSE | FLAG_UNCHECKED)) |
                     ((unsigned)code & FLAG_CODE);
    const uint8_t *end = out + limit - (q->edns ? OPT_SIZE : 0);
    uint8_t *p = out + HEADER;
    unsigned count = 0;

    if (q->section_size)
        memcpy(p, q->section, q->section_size);
    p += q->section_size;
    if (a && code == DNS_NOERROR && !put_records(&p, end, q, a, &count))
        flags |= FLAG_TRUNCATED;
    if (q->edns)
        p = put_opt(p, code);
    put16(out, q->id);
    put16(out + 2, flags);
    put16(out + 4, q->section_size ? 1 : 0);
    put16(out + 6, count);
    put16(out + 8, 0);
    put16(out + 10, q->edns ? 1 : 0);
    return (size_t)(p - out);
}

bool dns_reply_fits(const struct dns_question *q, uint16_t id, const uint8_t *m, size_t size,
                    enum dns_code *ret_code, bool *ret_truncated)
{
    size_t at = HEADER;
    uint8_t wire[DNS_NAME_WIRE];

    if (size < HEADER || get16(m) != id)
        return false;
    unsigned flags = get16(m + 2), code = flags & FLAG_CODE, questions = get16(m + 4);
    if (!(flags & FLAG_RESPONSE) || flags & FLAG_OPCODE)
        return false;
    if (questions != 1 && (questions != 0 || code == DNS_NOERROR || code == DNS_NXDOMAIN))
        return false;
    if (questions == 1) {
        size_t name_size = dns_name_read(m, size, &at, wire);

        if (!name_size || at != HEADER + name_size || at + 4 > size || name_size + 4 != q->section_size ||
            !dns_name_equal(wire, q->section) || memcmp(m + at, q->section + name_size, 4) != 0)
            return false;
    }
    *ret_code = (enum dns_code)code;
    *ret_truncated = (flags & FLAG_TRUNCATED) != 0;
    return true;
}

void dns_reply_restore(const struct dns_question *q, uint8_t *m)
{
    dns_message_set_id(m, q->id);
    if (get16(m + 4) == 1)
        memcpy(m + HEADER, q->section, q->section_size);
}

size_t dns_reply_cut(const struct dns_question *q, uint8_t *m)
{
    unsigned questions = get16(m + 4);

    put16(m + 2, get16(m + 2) | FLAG_TRUNCATED);
    memset(m + 6, 0, HEADER - 6);
    return HEADER + (questions == 1 ? q->section_size : 0);
}
