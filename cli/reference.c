/* See reference.h.
 *
 *     reference = [domain "/"] path [":" tag] ["@" digest]
 *
 * The part before the first slash is a domain when it holds a dot or a colon, is "localhost", or has an upper-case
 * letter; else docker.io is meant, and a path of one part is one of its official images. */
#include <ctype.h>
#include <stdio.h>
#include <string.h>

#include "cli/reference.h"
#include "proto/base/mem.h"

static bool lower_or_digit(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');
}

/* Parts of lower-case letters and digits with one of . _ __ or dashes between them, joined by slashes. */
static bool valid_path(const char *path)
{
    for (const char *c = path; *c;) {
        if (!lower_or_digit(*c))
            return false;
        while (lower_or_digit(*c))
            c++;
        size_t separator = *c == '-' ? strspn(c, "-") : *c == '_' ? strspn(c, "_") : *c == '.' || *c == '/';
        if (*c && (separator == 0 || (*c == '_' && separator > 2) || !c[separator]))
            return false;
        c += separator;
    }
    return *path;
}

static bool valid_domain(const char *domain)
{
    const char *end = strchr(domain, ':');
    size_t length = end ? (size_t)(end - domain) : strlen(domain);

    if (*domain == '[') { /* an IPv6 address */
        const char *close = strchr(domain, ']');

        return close && (!close[1] || (close[1] == ':' && strspn(close + 2, "0123456789") == strlen(close + 2))) &&
               strspn(domain + 1, "0123456789abcdefABCDEF:") == (size_t)(close - domain) - 1;
    }
    if (length == 0 || (end && (!end[1] || strspn(end + 1, "0123456789") != strlen(end + 1))))
        return false;
    for (size_t i = 0; i < length; i++) {
        bool edge = i == 0 || i + 1 == length || domain[i - 1] == '.' || domain[i + 1] == '.';

        if (!isalnum((unsigned char)domain[i]) && (edge || (domain[i] != '-' && domain[i] != '.')))
            return false;
    }
    return true;
}

static bool valid_tag(const char *tag)
{
    if (!isalnum((unsigned char)*tag) && *tag != '_')
        return false;
    for (const char *c = tag; *c; c++)
        if (!isalnum((unsigned char)*c) && !strchr("_.-", *c))
            return false;
    return strlen(tag) <= 128;
}

static bool valid_digest(const char *digest)
{
    const char *colon = strchr(digest, ':');

    return colon && colon > digest && strlen(colon + 1) >= 32 &&
           strspn(colon + 1, "0123456789abcdefABCDEF") == strlen(colon + 1) &&
           (strncmp(digest, "sha256:", 7) != 0 || strlen(colon + 1) == 64);
}

static bool copy(char *to, size_t size, const char *from, size_t length)
{
    if (length >= size)
        return false;
    memcpy(to, from, length);
    to[length] = '\0';
    return true;
}

bool reference_is_id(const char *text)
{
    if (strncmp(text, "sha256:", 7) == 0)
        text += 7;
    return strlen(text) == 64 && strspn(text, "0123456789abcdef") == 64;
}

int reference_parse(const char *text, struct reference *ret, struct err *e)
{
    struct reference r = {.domain = "docker.io"};
    const char *digest = strchr(text, '@'), *slash, *rest = text;
    size_t length = digest ? (size_t)(digest - text) : strlen(text);
    bool good = !digest || copy(r.digest, sizeof(r.digest), digest + 1, strlen(digest + 1));

    if (reference_is_id(text) && length == 64)
        return err_set(e, ERR_INVALID, "invalid repository name (%s), cannot specify 64-byte hexadecimal strings",
                       text);
    slash = memchr(text, '/', length);
    if (slash) {
        size_t first = (size_t)(slash - text);
        bool is_domain = memchr(text, '.', first) || memchr(text, ':', first) ||
                         (first == 9 && strncmp(text, "localhost", 9) == 0);

        for (size_t i = 0; i < first; i++)
            is_domain = is_domain || isupper((unsigned char)text[i]);
        if (is_domain) {
            good = good && copy(r.domain, sizeof(r.domain), text, first);
            rest = slash + 1;
            length -= first + 1;
            if (strcmp(r.domain, "index.docker.io") == 0)
                (void)snprintf(r.domain, sizeof(r.domain), "docker.io");
        }
    }
    const char *tag = memrchr(rest, ':', length);
    bool official = strcmp(r.domain, "docker.io") == 0 && !memchr(rest, '/', length);
    if (tag)
        good = good && copy(r.tag, sizeof(r.tag), tag + 1, length - (size_t)(tag - rest) - 1) && valid_tag(r.tag);
    size_t prefix = official ? 8 : 0, path = tag ? (size_t)(tag - rest) : length;
    if (official)
        (void)snprintf(r.path, sizeof(r.path), "library/");
    good = good && copy(r.path + prefix, sizeof(r.path) - prefix, rest, path);
    for (size_t i = prefix; good && r.path[i]; i++)
        if (isupper((unsigned char)r.path[i]))
            return err_set(e, ERR_INVALID, "invalid reference format: repository name (%s) must be lowercase",
                           r.path);
    if (!good || !valid_domain(r.domain) || !valid_path(r.path + prefix) || (digest && !valid_digest(r.digest)) ||
        strlen(r.domain) + strlen(r.path) > 254)
        return err_set(e, ERR_INVALID, "invalid reference format");
    *ret = r;
    return 0;
}

void reference_full_name(const struct reference *r, char ret[REFERENCE_TEXT])
{
    (void)snprintf(ret, REFERENCE_TEXT, "%s/%s", r->domain, r->path);
}

void reference_name(const struct reference *r, char ret[REFERENCE_TEXT])
{
    if (strcmp(r->domain, "docker.io") != 0)
        reference_full_name(r, ret);
    else
        (void)snprintf(ret, REFERENCE_TEXT, "%s", strncmp(r->path, "library/", 8) == 0 ? r->path + 8 : r->path);
}

void reference_familiar(const struct reference *r, char ret[REFERENCE_TEXT])
{
    char name[REFERENCE_TEXT];

    reference_name(r, name);
    (void)snprintf(ret, REFERENCE_TEXT, "%.520s%s%s%s%s", name, *r->tag ? ":" : "", r->tag, *r->digest ? "@" : "",
                   r->digest);
}
