/* WWW-Authenticate (challenge.h; RFC 9110, section 11.6.1):
 *
 *     header    := challenge ("," challenge)*
 *     challenge := scheme (" " parameter ("," parameter)*)?
 *     parameter := key "=" (token | quoted string)
 *
 * The comma between parameters and the one between challenges look alike; a word without "=" after it begins a
 * challenge. Basic's realm is of no interest, Bearer's is where tokens come from. */
#include <string.h>
#include <strings.h>

#include "engine/job/challenge.h"

static const char *skip(const char *at, const char *these)
{
    return at + strspn(at, these);
}

/* A quoted string's contents, or a token; *at moves behind it. */
static char *read_value(const char **at, struct arena *a)
{
    size_t length;

    if (**at != '"') {
        length = strcspn(*at, ", \t");
        char *token = arena_strndup(a, *at, length);
        *at += length;
        return token;
    }
    char *value = arena_alloc(a, strlen(*at));
    length = 0;
    for ((*at)++; **at && **at != '"'; (*at)++) {
        if (**at == '\\' && (*at)[1])
            (*at)++;
        value[length++] = **at;
    }
    if (**at)
        (*at)++;
    return value;
}

static enum challenge_scheme scheme_of(const char *word, size_t length)
{
    if (length == 6 && strncasecmp(word, "bearer", 6) == 0)
        return CHALLENGE_BEARER;
    if (length == 5 && strncasecmp(word, "basic", 5) == 0)
        return CHALLENGE_BASIC;
    return CHALLENGE_NONE;
}

void challenge_read(const char *header, struct arena *a, struct challenge *c)
{
    struct challenge current = {0};
    const char *at = skip(header, " \t,");

    while (*at) {
        size_t word = strcspn(at, " \t,=");
        const char *after = skip(at + word, " \t");

        if (*after != '=') {
            if (current.scheme > c->scheme)
                *c = current;
            current = (struct challenge){.scheme = scheme_of(at, word)};
            at = skip(at + word, " \t,");
            continue;
        }
        const char *key = at;
        at = skip(after + 1, " \t");
        char *value = read_value(&at, a);
        if (word == 5 && strncasecmp(key, "realm", 5) == 0)
            current.realm = value;
        else if (word == 7 && strncasecmp(key, "service", 7) == 0)
            current.service = value;
        else if (word == 5 && strncasecmp(key, "scope", 5) == 0)
            current.scope = value;
        at = skip(at, " \t,");
    }
    if (current.scheme > c->scheme)
        *c = current;
}

int header_value_valid(const char *text)
{
    for (; *text; text++)
        if ((unsigned char)*text < 0x20 || *text == 0x7f)
            return 0;
    return 1;
}
