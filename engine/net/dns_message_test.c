/* DNS messages as bytes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <arpa/inet.h>

#include <cmocka.h>

#include "engine/net/dns_message.h"
#include "proto/base/mem.h"

/* "\x02hi" pieces are easier to read than arrays; the literal's own zero is not part of the message. */
#define BYTES(text) (const uint8_t *)(text), sizeof(text) - 1

#define HEAD(flags, questions, additional) "\x12\x34" flags questions "\0\0\0\0" additional
#define QUERY                              HEAD("\x01\0", "\0\x01", "\0\0")
#define QUERY_EDNS                         HEAD("\x01\0", "\0\x01", "\0\x01")
#define WEB_A                              "\3wEb\0\0\1\0\1"
#define WEB_AAAA                           "\3wEb\0\0\x1c\0\1"
#define OPT(size, version)                 "\0\0\x29" size "\0" version "\0\0\0\0"

static struct dns_question read_fine(const uint8_t *message, size_t size)
{
    struct dns_question q;

    assert_int_equal(dns_question_read(message, size, &q), DNS_NOERROR);
    return q;
}

static void add(struct dns_answer *a, const char *text)
{
    struct dns_address address = {.family = strchr(text, ':') ? AF_INET6 : AF_INET};

    assert_int_equal(inet_pton(address.family, text, address.bytes), 1);
    dns_answer_add(a, &address);
}

static void assert_message(const uint8_t *got, size_t got_size, const uint8_t *want, size_t size)
{
    assert_int_equal(got_size, size);
    assert_memory_equal(got, want, size);
}

/* --- questions ------------------------------------------------------------------------------------- */

static void questions_are_read_or_refused_with_the_right_code(void **state)
{
    static const struct {
        const char *what;
        const uint8_t *message;
        size_t size;
        int code;
        const char *name;
    } table[] = {
        {"a name", BYTES(QUERY WEB_A), DNS_NOERROR, "web"},
        {"two labels", BYTES(QUERY "\5tasks\3WEB\0\0\1\0\1"), DNS_NOERROR, "tasks.web"},
        {"the root", BYTES(QUERY "\0\0\2\0\1"), DNS_NOERROR, ""},
        {"a dot in a label is no text", BYTES(QUERY "\3a.b\0\0\1\0\1"), DNS_NOERROR, ""},
        {"a zero in a label is no text", BYTES(QUERY "\3a\0b\0\0\1\0\1"), DNS_NOERROR, ""},
        {"nothing", BYTES(""), DNS_IGNORE, ""},
        {"a short header", BYTES("\x12\x34\1\0\0\1\0\0\0\0\0"), DNS_IGNORE, ""},
        {"an answer", BYTES(HEAD("\x81\0", "\0\1", "\0\0") WEB_A), DNS_IGNORE, ""},
        {"another operation", BYTES(HEAD("\x29\0", "\0\1", "\0\0") WEB_A), DNS_NOTIMP, ""},
        {"no question", BYTES(HEAD("\1\0", "\0\0", "\0\0")), DNS_FORMERR, ""},
        {"two questions", BYTES(HEAD("\1\0", "\0\2", "\0\0") WEB_A WEB_A), DNS_FORMERR, ""},
        {"no type", BYTES(QUERY "\3web\0"), DNS_FORMERR, ""},
        {"half a class", BYTES(QUERY "\3web\0\0\1\0"), DNS_FORMERR, ""},
        {"no end of the name", BYTES(QUERY "\3web"), DNS_FORMERR, ""},
        {"a label that leaves the message", BYTES(QUERY "\x3fweb\0\0\1\0\1"), DNS_FORMERR, ""},
        {"a reserved kind of label", BYTES(QUERY "\x43web\0\0\1\0\1"), DNS_FORMERR, ""},
        {"a pointer to itself", BYTES(QUERY "\xc0\x0c\0\1\0\1"), DNS_FORMERR, ""},
        {"a pointer into the header", BYTES(QUERY "\3web\xc0\x02\0\1\0\1"), DNS_FORMERR, ""},
        {"another class", BYTES(QUERY "\3web\0\0\1\0\3"), DNS_REFUSED, ""},
        {"EDNS", BYTES(QUERY_EDNS WEB_A OPT("\4\xd0", "\0")), DNS_NOERROR, "web"},
        {"EDNS that is missing", BYTES(QUERY_EDNS WEB_A), DNS_FORMERR, ""},
        {"EDNS of another version", BYTES(QUERY_EDNS WEB_A OPT("\4\xd0", "\1")), DNS_BADVERS, ""},
        {"EDNS with a name", BYTES(QUERY_EDNS WEB_A "\1x\0\x29\4\xd0\0\0\0\0\0\0"), DNS_FORMERR, ""},
        {"EDNS cut off", BYTES(QUERY_EDNS WEB_A "\0\0\x29\4\xd0\0\0\0\0\0"), DNS_FORMERR, ""},
        {"EDNS twice", BYTES(HEAD("\1\0", "\0\1", "\0\2") WEB_A OPT("\4\xd0", "\0") OPT("\4\xd0", "\0")),
         DNS_FORMERR, ""},
        {"a record that leaves the message", BYTES(QUERY_EDNS WEB_A "\0\0\x29\4\xd0\0\0\0\0\0\1"), DNS_FORMERR, ""},
    };

    for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
        struct dns_question q;
        int code = dns_question_read(table[i].message, table[i].size, &q);

        if (code != table[i].code || strcmp(q.name, table[i].name) != 0)
            fail_msg("%s: code %d, name \"%s\"", table[i].what, code, q.name);
    }
}

static void names_have_at_most_255_bytes(void **state)
{
    uint8_t message[400] = QUERY;
    struct dns_question q;
    size_t at = 12;

    for (int i = 0; i < 3; i++, at += 64)
        memset(message + at, 63, 64); /* '?' is 63: a label of 63 question marks */
    for (unsigned last = 61; last <= 62; last++) {
        message[at] = (uint8_t)last;
        memset(message + at + 1, 'x', last);
        memcpy(message + at + 1 + last, "\0\0\1\0\1", 5);
        assert_int_equal(dns_question_read(message, at + 1 + last + 5, &q), last == 61 ? DNS_NOERROR : DNS_FORMERR);
        assert_int_equal(strlen(q.name), last == 61 ? 253 : 0);
    }
}

static void the_size_a_client_takes_is_bounded(void **state)
{
    assert_int_equal(read_fine(BYTES(QUERY WEB_A)).udp_size, 512);
    assert_int_equal(read_fine(BYTES(QUERY_EDNS WEB_A OPT("\0\1", "\0"))).udp_size, 512);
    assert_int_equal(read_fine(BYTES(QUERY_EDNS WEB_A OPT("\4\xd0", "\0"))).udp_size, 1232);
    assert_int_equal(read_fine(BYTES(QUERY_EDNS WEB_A OPT("\xff\xff", "\0"))).udp_size, 4096);
}

static void names_of_addresses_are_addresses(void **state)
{
    static const struct {
        const char *name, *address;
    } table[] = {
        {"3.0.18.172.in-addr.arpa", "172.18.0.3"},
        {"3.0.18.172.IN-ADDR.arpa", "172.18.0.3"},
        {"03.0.18.172.in-addr.arpa", NULL},
        {"256.0.18.172.in-addr.arpa", NULL},
        {"0.18.172.in-addr.arpa", NULL},
        {"1.3.0.18.172.in-addr.arpa", NULL},
        {"in-addr.arpa", NULL},
        {"3.0.18.172.in-addr.arpa.example", NULL},
        {"2.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.B.a.d.f.ip6.arpa", "fdab::2"},
        {"2.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.b.a.d.g.ip6.arpa", NULL},
        {"0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.b.a.d.ip6.arpa", NULL},
    };

    for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
        uint8_t message[400] = QUERY, want[16];
        size_t size = 12 + dns_name_parse(table[i].name, message + 12);

        memcpy(message + size, "\0\x0c\0\1", 4);
        struct dns_question q = read_fine(message, size + 4);
        int family = !table[i].address ? 0 : strchr(table[i].address, ':') ? AF_INET6 : AF_INET;
        if (q.address.family != family)
            fail_msg("%s: family %d", table[i].name, q.address.family);
        if (family) {
            assert_int_equal(inet_pton(family, table[i].address, want), 1);
            assert_memory_equal(q.address.bytes, want, family == AF_INET ? 4 : 16);
        }
        memcpy(message + size, "\0\1\0\1", 4); /* the same name, but its own address is asked for */
        assert_int_equal(read_fine(message, size + 4).address.family, 0);
    }
}

/* --- answers --------------------------------------------------------------------------------------- */

static void answers_are_these_bytes(void **state)
{
    struct dns_question q = read_fine(BYTES(QUERY WEB_A));
    struct dns_answer a = {0};
    uint8_t out[512];

    add(&a, "10.0.0.2");
    add(&a, "fd00::2");
    assert_message(out, dns_answer_write(&q, DNS_NOERROR, &a, out, sizeof(out)),
                   BYTES("\x12\x34\x81\x80\0\1\0\1\0\0\0\0" WEB_A "\xc0\x0c\0\1\0\1\0\0\x02\x58\0\4\x0a\0\0\2"));
    q = read_fine(BYTES(QUERY WEB_AAAA));
    assert_message(out, dns_answer_write(&q, DNS_NOERROR, &a, out, sizeof(out)),
                   BYTES("\x12\x34\x81\x80\0\1\0\1\0\0\0\0" WEB_AAAA "\xc0\x0c\0\x1c\0\1\0\0\x02\x58\0\x10"
                         "\xfd\0\0\0\0\0\0\0\0\0\0\0\0\0\0\2"));
    dns_answer_fini(&a);
}

static void a_name_without_the_type_asked_for_is_an_empty_answer(void **state)
{
    struct dns_question q = read_fine(BYTES(QUERY WEB_AAAA));
    struct dns_answer a = {0};
    uint8_t out[512];

    add(&a, "10.0.0.2");
    assert_message(out, dns_answer_write(&q, DNS_NOERROR, &a, out, sizeof(out)),
                   BYTES("\x12\x34\x81\x80\0\1\0\0\0\0\0\0" WEB_AAAA));
    q = read_fine(BYTES(QUERY "\3web\0\0\x0f\0\1")); /* MX */
    assert_message(out, dns_answer_write(&q, DNS_NOERROR, &a, out, sizeof(out)),
                   BYTES("\x12\x34\x81\x80\0\1\0\0\0\0\0\0\3web\0\0\x0f\0\1"));
    dns_answer_fini(&a);
}

static void the_name_of_an_address_is_answered(void **state)
{
    struct dns_question q = read_fine(BYTES(QUERY "\1"
                                                  "2\1"
                                                  "0\1"
                                                  "0\2"
                                                  "10\7in-addr\4arpa\0\0\x0c\0\1"));
    struct dns_answer a = {.name = "web.1.net"};
    uint8_t out[512];

    assert_message(out, dns_answer_write(&q, DNS_NOERROR, &a, out, sizeof(out)),
                   BYTES("\x12\x34\x81\x80\0\1\0\1\0\0\0\0\1"
                         "2\1"
                         "0\1"
                         "0\2"
                         "10\7in-addr\4arpa\0\0\x0c\0\1"
                         "\xc0\x0c\0\x0c\0\1\0\0\x02\x58\0\x0b\3web\1"
                         "1\3net\0"));
    (void)memset(a.name, 'x', 100); /* no label is that long: an answer without records */
    assert_message(out, dns_answer_write(&q, DNS_NOERROR, &a, out, sizeof(out)),
                   BYTES("\x12\x34\x81\x80\0\1\0\0\0\0\0\0\1"
                         "2\1"
                         "0\1"
                         "0\2"
                         "10\7in-addr\4arpa\0\0\x0c\0\1"));
}

static void errors_carry_what_was_read_of_the_question(void **state)
{
    static const struct {
        const uint8_t *message;
        size_t size;
        int code;
        const uint8_t *want;
        size_t want_size;
    } table[] = {
        {BYTES(QUERY WEB_A), DNS_NXDOMAIN, BYTES("\x12\x34\x81\x83\0\1\0\0\0\0\0\0" WEB_A)},
        {BYTES(QUERY WEB_A), DNS_SERVFAIL, BYTES("\x12\x34\x81\x82\0\1\0\0\0\0\0\0" WEB_A)},
        {BYTES(HEAD("\0\x10", "\0\1", "\0\0") WEB_A), DNS_REFUSED, BYTES("\x12\x34\x80\x95\0\1\0\0\0\0\0\0" WEB_A)},
        {BYTES(QUERY "\3we"), DNS_FORMERR, BYTES("\x12\x34\x81\x81\0\0\0\0\0\0\0\0")},
        {BYTES(HEAD("\x29\0", "\0\1", "\0\0") WEB_A), DNS_NOTIMP, BYTES("\x12\x34\xa9\x84\0\0\0\0\0\0\0\0")},
        {BYTES(QUERY_EDNS WEB_A OPT("\4\xd0", "\1")), DNS_BADVERS,
         BYTES("\x12\x34\x81\x80\0\1\0\0\0\0\0\1" WEB_A "\0\0\x29\x10\0\1\0\0\0\0\0")},
    };

    for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
        struct dns_question q;
        uint8_t out[512];

        (void)dns_question_read(table[i].message, table[i].size, &q);
        assert_message(out, dns_answer_write(&q, (enum dns_code)table[i].code, NULL, out, sizeof(out)),
                       table[i].want, table[i].want_size);
    }
}

static void what_does_not_fit_is_left_out_and_said(void **state)
{
    struct dns_question q = read_fine(BYTES(QUERY_EDNS WEB_A OPT("\0\0", "\0")));
    struct dns_answer a = {0};
    uint8_t *out = mem_alloc(DNS_MESSAGE_MAX);
    char text[32];

    for (int i = 0; i < DNS_ADDRESSES_MAX + 10; i++) {
        struct in_addr number = {.s_addr = htonl(0x0a000000u + (unsigned)i)};
        add(&a, inet_ntop(AF_INET, &number, text, sizeof(text)));
    }
    assert_int_equal(a.count, DNS_ADDRESSES_MAX);
    size_t size = dns_answer_write(&q, DNS_NOERROR, &a, out, q.udp_size);
    assert_int_equal(size, 12 + 9 + 30 * 16 + 11); /* exactly 512 */
    assert_int_equal(out[2], 0x83);
    assert_int_equal(out[7], 30);
    assert_int_equal(out[11], 1); /* EDNS is there all the same */
    size = dns_answer_write(&q, DNS_NOERROR, &a, out, DNS_MESSAGE_MAX);
    assert_in_range(size, DNS_MESSAGE_MAX - 16, DNS_MESSAGE_MAX);
    assert_int_equal(out[2], 0x83);
    a.count = 30;
    assert_int_equal(dns_answer_write(&q, DNS_NOERROR, &a, out, q.udp_size), 12 + 9 + 30 * 16 + 11);
    assert_int_equal(out[2], 0x81);
    free(out);
    dns_answer_fini(&a);
}

static void addresses_come_in_every_order(void **state)
{
    struct dns_answer a = {0};
    unsigned seen[6] = {0};

    add(&a, "10.0.0.1");
    add(&a, "10.0.0.2");
    add(&a, "10.0.0.3");
    for (uint64_t random = 0; random < 6000; random++) {
        dns_answer_shuffle(&a, random);
        unsigned first = a.addresses[0].bytes[3], second = a.addresses[1].bytes[3];
        assert_int_equal(first + second + a.addresses[2].bytes[3], 6);
        seen[2 * (first - 1) + (second > 6 - first - second)]++;
    }
    for (int i = 0; i < 6; i++)
        assert_in_range(seen[i], 800, 1200); /* the numbers are fixed: this is no matter of luck */
    dns_answer_fini(&a);
}

/* --- replies of other servers ---------------------------------------------------------------------- */

static void only_the_reply_to_the_question_fits(void **state)
{
    static const struct {
        const char *what;
        const uint8_t *message;
        size_t size;
        bool fits, truncated;
        int code;
    } table[] = {
        {"the answer", BYTES(HEAD("\x81\x80", "\0\1", "\0\0") WEB_A), true, false, 0},
        {"in another case", BYTES(HEAD("\x81\x80", "\0\1", "\0\0") "\3WEB\0\0\1\0\1"), true, false, 0},
        {"not there", BYTES(HEAD("\x81\x83", "\0\1", "\0\0") WEB_A), true, false, 3},
        {"truncated", BYTES(HEAD("\x83\x80", "\0\1", "\0\0") WEB_A), true, true, 0},
        {"an error without a question", BYTES(HEAD("\x81\x81", "\0\0", "\0\0")), true, false, 1},
        {"nothing without a question", BYTES(HEAD("\x81\x80", "\0\0", "\0\0")), false, false, 0},
        {"another id", BYTES("\x12\x35\x81\x80\0\1\0\0\0\0\0\0" WEB_A), false, false, 0},
        {"a question", BYTES(QUERY WEB_A), false, false, 0},
        {"another name", BYTES(HEAD("\x81\x80", "\0\1", "\0\0") "\3wec\0\0\1\0\1"), false, false, 0},
        {"a longer name", BYTES(HEAD("\x81\x80", "\0\1", "\0\0") "\3web\1x\0\0\1\0\1"), false, false, 0},
        {"another type", BYTES(HEAD("\x81\x80", "\0\1", "\0\0") WEB_AAAA), false, false, 0},
        {"cut in the question", BYTES(HEAD("\x81\x80", "\0\1", "\0\0") "\3web\0\0\1\0"), false, false, 0},
        {"a short one", BYTES("\x12\x34\x81\x80\0\1"), false, false, 0},
    };
    struct dns_question q = read_fine(BYTES(QUERY WEB_A));

    for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
        enum dns_code code = DNS_NOERROR;
        bool truncated = false;
        bool fits = dns_reply_fits(&q, 0x1234, table[i].message, table[i].size, &code, &truncated);

        if (fits != table[i].fits || (int)code != table[i].code || truncated != table[i].truncated)
            fail_msg("%s: fits %d code %d truncated %d", table[i].what, fits, code, truncated);
    }
}

static void a_reply_is_given_back_as_the_client_asked(void **state)
{
    uint8_t reply[] = "\x77\x77\x81\x83\0\1\0\1\0\2\0\3\3WEB\0\0\1\0\1 and records";
    struct dns_question q = read_fine(BYTES(QUERY WEB_A));

    dns_reply_restore(&q, reply);
    assert_memory_equal(reply, "\x12\x34\x81\x83\0\1\0\1\0\2\0\3" WEB_A " and records", sizeof(reply));
    assert_message(reply, dns_reply_cut(&q, reply), BYTES("\x12\x34\x83\x83\0\1\0\0\0\0\0\0" WEB_A));
}

/* --- names ----------------------------------------------------------------------------------------- */

static void pointers_lead_backwards_alone(void **state)
{
    /* 12: web   17: a.web   21: to a.web   23: to itself   25: forwards   27: b and to itself   31: cut */
    static const uint8_t message[] = QUERY "\3web\0\1a\xc0\x0c\xc0\x11\xc0\x17\xc0\x1b\1b\xc0\x1b\xc0";
    static const struct {
        size_t at, after;
        const char *text; /* NULL: none */
    } table[] = {
        {12, 17, "web"}, {17, 21, "a.web"}, {21, 23, "a.web"}, {23, 23, NULL},
        {25, 25, NULL},  {27, 27, NULL},    {31, 31, NULL},    {32, 32, NULL},
    };
    uint8_t wire[DNS_NAME_WIRE];
    char text[DNS_NAME_TEXT];

    assert_int_equal(sizeof(message) - 1, 32);
    for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
        size_t at = table[i].at;
        size_t used = dns_name_read(message, sizeof(message) - 1, &at, wire);

        assert_int_equal(used > 0, table[i].text != NULL);
        assert_int_equal(at, table[i].after);
        if (used) {
            assert_true(dns_name_format(wire, text));
            assert_string_equal(text, table[i].text);
        }
    }
}

static void names_are_written_as_they_are_read(void **state)
{
    static const struct {
        const char *text;
        size_t size; /* 0: no name */
    } table[] = {{"web", 5}, {"a.b", 5}, {"a.b.", 5}, {"", 1}, {".", 0}, {"a..b", 0}, {".a", 0}};
    uint8_t wire[DNS_NAME_WIRE];
    char long_text[400];

    for (size_t i = 0; i < ARRAY_SIZE(table); i++)
        assert_int_equal(dns_name_parse(table[i].text, wire), table[i].size);
    memset(long_text, 'x', sizeof(long_text));
    long_text[63] = '\0';
    assert_int_equal(dns_name_parse(long_text, wire), 65);
    long_text[63] = 'x';
    long_text[64] = '\0';
    assert_int_equal(dns_name_parse(long_text, wire), 0);
    long_text[64] = 'x';
    for (size_t i = 1; i < sizeof(long_text); i += 2)
        long_text[i] = '.';
    long_text[254] = '\0'; /* 127 labels of one byte: 255 bytes */
    assert_int_equal(dns_name_parse(long_text, wire), 255);
    long_text[254] = 'x';
    long_text[255] = '\0';
    assert_int_equal(dns_name_parse(long_text, wire), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(questions_are_read_or_refused_with_the_right_code),
        cmocka_unit_test(names_have_at_most_255_bytes),
        cmocka_unit_test(the_size_a_client_takes_is_bounded),
        cmocka_unit_test(names_of_addresses_are_addresses),
        cmocka_unit_test(answers_are_these_bytes),
        cmocka_unit_test(a_name_without_the_type_asked_for_is_an_empty_answer),
        cmocka_unit_test(the_name_of_an_address_is_answered),
        cmocka_unit_test(errors_carry_what_was_read_of_the_question),
        cmocka_unit_test(what_does_not_fit_is_left_out_and_said),
        cmocka_unit_test(addresses_come_in_every_order),
        cmocka_unit_test(only_the_reply_to_the_question_fits),
        cmocka_unit_test(a_reply_is_given_back_as_the_client_asked),
        cmocka_unit_test(pointers_lead_backwards_alone),
        cmocka_unit_test(names_are_written_as_they_are_read),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
