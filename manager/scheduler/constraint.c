/* See constraint.h.
 *
 * A constraint is KEY OP VALUE with OP "==" or "!=" and blanks around the parts ignored. Keys are compared without
 * regard to case but for the label's own name; values are whole strings without regard to case, neither globs nor
 * expressions, although the characters of such are allowed (people write them and see the task pend). A missing
 * label is the empty string. An address may be given as a network in CIDR form. Texts come from clients: whatever
 * they hold, parsing ends with a constraint or an error that quotes them. */
#include <arpa/inet.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "manager/index.h"
#include "manager/scheduler/constraint.h"
#include "proto/base/ident.h"

#define BLANKS " \t"

static const struct {
    const char *name;
    enum constraint_key key;
} names[] = {
    {"node.id", CONSTRAINT_NODE_ID},          {"node.hostname", CONSTRAINT_NODE_HOSTNAME},
    {"node.role", CONSTRAINT_NODE_ROLE},      {"node.ip", CONSTRAINT_NODE_IP},
    {"node.platform.os", CONSTRAINT_NODE_OS}, {"node.platform.arch", CONSTRAINT_NODE_ARCH},
};

static const struct {
    const char *prefix;
    enum constraint_key key;
} label_prefixes[] = {
    {"node.labels.", CONSTRAINT_NODE_LABEL},
    {"engine.labels.", CONSTRAINT_ENGINE_LABEL},
};

static inline char lower(char c)
{
    return c >= 'A' && c <= 'Z' ? (char)(c + 'a' - 'A') : c;
}

static bool same(const char *a, const char *b)
{
    for (; lower(*a) == lower(*b); a++, b++)
        if (!*a)
            return true;
    return false;
}

static bool begins(const char *text, const char *prefix)
{
    for (; *prefix; text++, prefix++)
        if (lower(*text) != *prefix)
            return false;
    return true;
}

static bool key_char(char c, bool first)
{
    c = lower(c);
    return (c >= 'a' && c <= 'z') || c == '_' || (!first && (strchr("-.", c) || (c >= '0' && c <= '9')) && c);
}

static bool value_char(char c)
{
    c = lower(c);
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || (c && strchr(":-_ .*()?+[]\\^$|/", c));
}

/* ^[a-z_][a-z0-9\-_.]+$ without regard to case. */
static bool key_valid(const char *key)
{
    if (!key_char(key[0], true) || !key[1])
        return false;
    for (const char *c = key + 1; *c; c++)
        if (!key_char(*c, false))
            return false;
    return true;
}

static bool value_valid(const char *value)
{
    if (!*value)
        return false;
    for (const char *c = value; *c; c++)
        if (!value_char(*c))
            return false;
    return true;
}

bool constraint_descriptor(const char *text, enum constraint_key *ret_key, const char **ret_label)
{
    for (size_t i = 0; i < ARRAY_SIZE(names); i++)
        if (same(text, names[i].name)) {
            *ret_key = names[i].key;
            *ret_label = "";
            return true;
        }
    for (size_t i = 0; i < ARRAY_SIZE(label_prefixes); i++) {
        size_t length = strlen(label_prefixes[i].prefix);

        if (begins(text, label_prefixes[i].prefix) && text[length]) {
            *ret_key = label_prefixes[i].key;
            *ret_label = text + length;
            return true;
        }
    }
    return false;
}

size_t constraint_bytes(const char *text)
{
    return strlen(text) + 1;
}

/* The part from `from` to `to` without blanks around it, ended by a zero, at *memory, which moves on. */
static const char *take_part(const char *from, const char *to, char **memory)
{
    while (from < to && strchr(BLANKS, *from))
        from++;
    while (to > from && strchr(BLANKS, to[-1]))
        to--;
    char *part = *memory;
    memcpy(part, from, (size_t)(to - from));
    part[to - from] = '\0';
    *memory = part + (to - from) + 1;
    return part;
}

int constraint_parse(const char *text, char *memory, struct constraint *ret, struct err *e)
{
    const char *equal = strstr(text, "=="), *unequal = strstr(text, "!=");
    struct constraint c = {.equal = equal && (!unequal || equal < unequal)};
    const char *op = c.equal ? equal : unequal;

    if (!op)
        return err_set(e, ERR_INVALID, "constraint expected one operator from ==, != in '%s'", text);
    const char *key = take_part(text, op, &memory);
    c.value = take_part(op + 2, text + strlen(text), &memory);
    if (!key_valid(key))
        return err_set(e, ERR_INVALID, "key '%s' is invalid in constraint '%s'", key, text);
    if (!value_valid(c.value))
        return err_set(e, ERR_INVALID, "value '%s' is invalid in constraint '%s'", c.value, text);
    c.label = "";
    if (!constraint_descriptor(key, &c.key, &c.label))
        c.key = CONSTRAINT_UNKNOWN;
    *ret = c;
    return 0;
}

int constraint_check(const char *text, struct err *e)
{
    AUTO_FREE
    char *memory = mem_alloc(constraint_bytes(text));
    struct constraint ignored;

    return constraint_parse(text, memory, &ignored, e);
}

/* --- evaluation ---------------------------------------------------------------------------------------- */

static const char *label_value(const struct index_label *labels, uint32_t count, const char *name)
{
    for (uint32_t i = 0; i < count; i++)
        if (strcmp(labels[i].key, name) == 0)
            return labels[i].value;
    return "";
}

const char *constraint_value(enum constraint_key key, const char *label, const struct index_node *node)
{
    switch (key) {
    case CONSTRAINT_NODE_HOSTNAME:
        return node->hostname;
    case CONSTRAINT_NODE_ROLE:
        return node->role == NODE_ROLE__MANAGER ? "manager" : "worker";
    case CONSTRAINT_NODE_IP:
        return node->address;
    case CONSTRAINT_NODE_OS:
        return node->os;
    case CONSTRAINT_NODE_ARCH:
        return node->architecture;
    case CONSTRAINT_NODE_LABEL:
        return label_value(node->labels, node->label_count, label);
    case CONSTRAINT_ENGINE_LABEL:
        return label_value(node->engine_labels, node->engine_label_count, label);
    case CONSTRAINT_NODE_ID:
        return node->id_text;
    case CONSTRAINT_UNKNOWN:
        break;
    }
    return "";
}

static bool parse_address(const char *text, uint8_t ret[16], size_t *ret_size)
{
    *ret_size = strchr(text, ':') ? 16 : 4;
    return inet_pton(*ret_size == 16 ? AF_INET6 : AF_INET, text, ret) == 1;
}

/* "10.1.0.0/16" to address and prefix length. */
static bool parse_network(const char *text, uint8_t ret[16], size_t *ret_size, unsigned long *ret_bits)
{
    const char *slash = strchr(text, '/');
    char address[INET6_ADDRSTRLEN], *end;

    if (!slash || (size_t)(slash - text) >= sizeof(address) || slash[1] < '0' || slash[1] > '9')
        return false;
    memcpy(address, text, (size_t)(slash - text));
    address[slash - text] = '\0';
    *ret_bits = strtoul(slash + 1, &end, 10);
    return !*end && parse_address(address, ret, ret_size) && *ret_bits <= *ret_size * 8;
}

static bool address_matches(const char *wanted, const char *node_address)
{
    uint8_t own[16], other[16];
    size_t own_size, size;
    unsigned long bits;

    if (!parse_address(node_address, own, &own_size))
        return false;
    if (parse_address(wanted, other, &size))
        return size == own_size && memcmp(own, other, size) == 0;
    if (!parse_network(wanted, other, &size, &bits) || size != own_size)
        return false;
    if (memcmp(own, other, bits / 8) != 0)
        return false;
    uint8_t mask = (uint8_t)(0xff00 >> bits % 8);
    return bits % 8 == 0 || ((own[bits / 8] ^ other[bits / 8]) & mask) == 0;
}

bool constraint_holds(const struct constraint *c, const struct index_node *node)
{
    bool equal;

    if (c->key == CONSTRAINT_UNKNOWN)
        return false;
    if (c->key == CONSTRAINT_NODE_IP)
        equal = address_matches(c->value, node->address);
    else
        equal = same(constraint_value(c->key, c->label, node), c->value);
    return equal == c->equal;
}

bool constraints_hold(const struct constraint *all, size_t count, const struct index_node *node)
{
    for (size_t i = 0; i < count; i++)
        if (!constraint_holds(&all[i], node))
            return false;
    return true;
}
