/* DNS messages: what is read as a question can be answered, within the limit, and the answer is a reply to it; what
 * a server sends is judged without harm. */
#include <assert.h>
#include <stdint.h>
#include <string.h>

#include "engine/net/dns_message.h"
#include "proto/base/mem.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Every byte as the beginning of a name. */
static void read_names(const uint8_t *data, size_t size)
{
    uint8_t wire[DNS_NAME_WIRE], again[DNS_NAME_WIRE];
    char text[DNS_NAME_TEXT];

    for (size_t start = 0; start < size && start < 600; start++) {
        size_t at = start, used = dns_name_read(data, size, &at, wire);

        if (!used)
            continue;
        assert(used <= DNS_NAME_WIRE && at > start && at <= size && at == dns_name_skip(data, size, start));
        if (!dns_name_format(wire, text))
            continue;
        assert(strlen(text) < DNS_NAME_TEXT && dns_name_parse(text, again) == used && dns_name_equal(wire, again));
    }
}

static void answer(const struct dns_question *q, enum dns_code code, const uint8_t *data, size_t size)
{
    struct dns_answer a = {0};
    uint8_t *out = mem_alloc(q->udp_size);
    enum dns_code reply_code;
    bool truncated;

    for (size_t i = 0; i < 40; i++) {
        struct dns_address address = {.family = i % 3 ? AF_INET : AF_INET6};

        memcpy(address.bytes, data, MIN(size, sizeof(address.bytes)));
        dns_answer_add(&a, &address);
    }
    memcpy(a.name, data, strnlen((const char *)data, MIN(size, DNS_NAME_TEXT - 1u)));
    dns_answer_shuffle(&a, size);
    size_t written = dns_answer_write(q, code, &a, out, q->udp_size);
    assert(written <= q->udp_size);
    if (q->section_size && code != DNS_NOTIMP)
        assert(dns_reply_fits(q, q->id, out, written, &reply_code, &truncated) && (reply_code == (code & 0xf)));
    free(out);
    dns_answer_fini(&a);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const uint8_t known[] = "\x12\x34\1\0\0\1\0\0\0\0\0\0\3web\0\0\1\0\1";
    struct dns_question q;
    enum dns_code code;
    bool truncated;
    int read = dns_question_read(data, size, &q);

    if (read != DNS_IGNORE) {
        assert(q.udp_size >= DNS_UDP_LEAST && q.udp_size <= DNS_UDP_MOST);
        answer(&q, (enum dns_code)read, data, size);
    }
    read_names(data, size);
    assert(dns_question_read(known, sizeof(known) - 1, &q) == DNS_NOERROR);
    (void)dns_reply_fits(&q, 0x1234, data, size, &code, &truncated);
    return 0;
}
