/* Names of images (image_name.h).
 *
 * The grammar, as the clients have it:
 *
 *     reference := [domain "/"] path [":" tag] ["@" digest]
 *     domain    := host [":" digits]      host: labels of letters, digits and inner hyphens with dots between,
 *                                         or an IPv6 address in brackets
 *     path      := word ("/" word)*       word: lower-case letters and digits, between them a single "." or "_",
 *                                         "__", or any number of "-"
 *     tag       := [A-Za-z0-9_] [A-Za-z0-9_.-]{0,127}
 *     digest    := "sha256:" 64 hex digits
 *
 * The part before the first slash is a domain when it could not be a user's name: it holds a dot or a colon, an
 * upper case letter, or is "localhost". Everything else belongs to docker.io, whose single words live below
 * "library/". A colon after the last slash begins a tag, so "host:5000" alone is the image "host" with the tag
 * "5000". */
#include <string.h>

#include "proto/base/image_name.h"

#define DEFAULT_DOMAIN "docker.io"
#define LEGACY_DOMAIN  "index.docker.io"
#define OFFICIAL       "library/"
#define DEFAULT_TAG    "latest"

static bool is_lower_word(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');
}

static bool is_upper(char c)
{
    return c >= 'A' && c <= 'Z';
}

static bool is_word(char c)
{
    return is_lower_word(c) || is_upper(c);
}

static bool is_hex(char c)
{
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f');
}

static bool all_hex(const char *text, size_t length)
{
    for (size_t i = 0; i < length; i++)
        if (!is_hex(text[i]))
            return false;
    return true;
}

static bool has_upper(const char *text, size_t length)
{
    for (size_t i = 0; i < length; i++)
        if (is_upper(text[i]))
            return true;
    return false;
}

static int bad(const char *ref, const char *why, struct err *e)
{
    return err_set(e, ERR_INVALID, "invalid reference format: \"%.300s\": %s", ref, why);
}

/* One label of a host name. */
static bool label_valid(const char *text, size_t length)
{
    if (length == 0 || text[0] == '-' || text[length - 1] == '-')
        return false;
    for (size_t i = 0; i < length; i++)
        if (!is_word(text[i]) && text[i] != '-')
            return false;
    return true;
}

static bool host_valid(const char *text, size_t length)
{
    if (length > 2 && text[0] == '[' && text[length - 1] == ']') {
        bool colon = false;

        for (size_t i = 1; i + 1 < length; i++) {
            char lower = is_upper(text[i]) ? (char)(text[i] + 32) : text[i];

            if (!is_hex(lower) && lower != ':')
                return false;
            colon = colon || lower == ':';
        }
        return colon;
    }
    for (size_t at = 0;;) {
        const char *dot = memchr(text + at, '.', length - at);
        size_t end = dot ? (size_t)(dot - text) : length;

        if (!label_valid(text + at, end - at))
            return false;
        if (!dot)
            return true;
        at = end + 1;
    }
}

static bool domain_valid(const char *domain)
{
    const char *bracket = strrchr(domain, ']'), *colon = strrchr(bracket ? bracket : domain, ':');
    size_t length = colon ? (size_t)(colon - domain) : strlen(domain);

    if (colon && (strlen(colon + 1) == 0 || strspn(colon + 1, "0123456789") != strlen(colon + 1)))
        return false;
    return host_valid(domain, length);
}

/* Words joined by separators: never one at an end, never two different ones in a row. */
static bool path_word_valid(const char *text, size_t length)
{
    if (length == 0 || !is_lower_word(text[0]) || !is_lower_word(text[length - 1]))
        return false;
    for (size_t i = 0; i < length; i++) {
        size_t run = 1;

        if (is_lower_word(text[i]))
            continue;
        if (text[i] != '.' && text[i] != '_' && text[i] != '-')
            return false;
        while (i + run < length && text[i + run] == text[i])
            run++;
        if ((text[i] == '.' && run > 1) || (text[i] == '_' && run > 2) || !is_lower_word(text[i + run]))
            return false;
        i += run - 1;
    }
    return true;
}

static bool path_valid(const char *path)
{
    for (;;) {
        const char *slash = strchr(path, '/');

        if (!path_word_valid(path, slash ? (size_t)(slash - path) : strlen(path)))
            return false;
        if (!slash)
            return true;
        path = slash + 1;
    }
}

static bool tag_valid(const char *tag)
{
    size_t length = strlen(tag);

    if (length == 0 || length > IMAGE_TAG_MAX || (!is_word(tag[0]) && tag[0] != '_'))
        return false;
    for (size_t i = 0; i < length; i++)
        if (!is_word(tag[i]) && tag[i] != '_' && tag[i] != '.' && tag[i] != '-')
            return false;
    return true;
}

static int digest_check(const char *ref, const char *digest, struct err *e)
{
    static const char algorithm[] = "sha256:";

    if (strncmp(digest, algorithm, strlen(algorithm)) != 0) {
        if (strncmp(digest, "sha512:", 7) == 0 || strncmp(digest, "sha384:", 7) == 0)
            return err_set(e, ERR_UNSUPPORTED, "unsupported digest algorithm in reference \"%.300s\"", ref);
        return bad(ref, "what follows @ is no digest", e);
    }
    digest += strlen(algorithm);
    if (strlen(digest) != 64 || !all_hex(digest, 64))
        return bad(ref, "the digest must be sha256: and 64 lower-case hex digits", e);
    return 0;
}

/* Whether what stands before the first slash is a registry's host rather than the first word of a path. */
static bool looks_like_domain(const char *text, size_t length)
{
    return memchr(text, '.', length) || memchr(text, ':', length) || has_upper(text, length) ||
           (length == 9 && strncmp(text, "localhost", 9) == 0);
}

/* Split "[domain/]remainder" and give each half its normal form. */
static void split_domain(const char *name, struct arena *a, const char **ret_domain, const char **ret_path)
{
    const char *slash = strchr(name, '/'), *domain = DEFAULT_DOMAIN, *path = name;

    if (slash && looks_like_domain(name, (size_t)(slash - name))) {
        domain = arena_strndup(a, name, (size_t)(slash - name));
        path = slash + 1;
    }
    if (strcmp(domain, LEGACY_DOMAIN) == 0)
        domain = DEFAULT_DOMAIN;
    if (strcmp(domain, DEFAULT_DOMAIN) == 0 && !strchr(path, '/'))
        path = arena_printf(a, OFFICIAL "%s", path);
    *ret_domain = domain;
    *ret_path = path;
}

int image_name_parse(const char *ref, struct arena *a, struct image_name *ret, struct err *e)
{
    struct image_name n = {0};
    size_t length = strlen(ref);

    if (length == 0)
        return bad(ref, "it is empty", e);
    if (length > IMAGE_NAME_MAX + IMAGE_TAG_MAX + 80)
        return bad(ref, "it is too long", e);
    if (length == 64 && image_name_is_id(ref))
        return err_set(e, ERR_INVALID, "invalid repository name (%s), cannot specify 64-byte hexadecimal strings",
                       ref);
    char *name = arena_strdup(a, ref), *at = strchr(name, '@');
    if (at) {
        *at = '\0';
        n.digest = at + 1;
    }
    char *slash = strrchr(name, '/'), *colon = strchr(slash ? slash : name, ':');
    if (colon) {
        *colon = '\0';
        n.tag = colon + 1;
    }
    split_domain(name, a, &n.domain, &n.path);
    if (has_upper(n.path, strlen(n.path)))
        return err_set(e, ERR_INVALID, "invalid reference format: repository name (%.255s) must be lowercase",
                       n.path);
    if (!domain_valid(n.domain))
        return bad(ref, "the part before the first slash is no registry's host", e);
    if (!path_valid(n.path))
        return bad(ref, "the repository may hold lower-case letters, digits, and . _ - between them", e);
    if (strlen(n.domain) + 1 + strlen(n.path) > IMAGE_NAME_MAX)
        return bad(ref, "repository name must not be more than 255 characters", e);
    if (n.tag && !tag_valid(n.tag))
        return bad(ref, "the tag may hold 128 letters, digits, and _ . -, and begins with none of the last two", e);
    int rc = n.digest ? digest_check(ref, n.digest, e) : 0;
    if (rc < 0)
        return rc;
    n.tag_assumed = !n.tag && !n.digest;
    if (n.tag_assumed)
        n.tag = DEFAULT_TAG;
    n.repository = arena_printf(a, "%s/%s", n.domain, n.path);
    n.full = arena_printf(a, "%s%s%s%s%s", n.repository, n.tag ? ":" : "", n.tag ? n.tag : "", n.digest ? "@" : "",
                          n.digest ? n.digest : "");
    n.familiar = image_name_familiar(n.full);
    *ret = n;
    return 0;
}

bool image_name_is_id(const char *text)
{
    if (strncmp(text, "sha256:", 7) == 0)
        text += 7;
    return strlen(text) == 64 && all_hex(text, 64);
}

const char *image_name_familiar(const char *repository)
{
    static const char domain[] = DEFAULT_DOMAIN "/", official[] = OFFICIAL;
    const char *path = repository + strlen(domain), *name = path + strlen(official);

    if (strncmp(repository, domain, strlen(domain)) != 0)
        return repository;
    const char *slash = strchr(path, '/');
    if (slash && looks_like_domain(path, (size_t)(slash - path)))
        return repository; /* docker.io/a.b/c: without its domain it would be another image */
    if (strncmp(path, official, strlen(official)) != 0 || strchr(name, '/'))
        return path;
    return name;
}

const char *image_name_brief(const struct image_name *n, struct arena *a)
{
    const char *repository = image_name_familiar(n->repository);

    return n->tag && !n->tag_assumed ? arena_printf(a, "%s:%s", repository, n->tag) : repository;
}

size_t image_name_repository(const char *full)
{
    const char *at = strchr(full, '@'), *slash, *colon;
    size_t length = at ? (size_t)(at - full) : strlen(full);

    slash = memrchr(full, '/', length);
    size_t from = slash ? (size_t)(slash - full) : 0;
    colon = memchr(full + from, ':', length - from);
    return colon ? (size_t)(colon - full) : length;
}

bool image_domain_is_loopback(const char *domain)
{
    const char *colon = strrchr(domain, ':');
    size_t length = colon && !strchr(colon, ']') ? (size_t)(colon - domain) : strlen(domain);
    unsigned dots = 0;

    if ((length == 9 && strncmp(domain, "localhost", 9) == 0) || (length == 5 && strncmp(domain, "[::1]", 5) == 0))
        return true;
    /* Four numbers, else "127.evil.example" would do. */
    for (size_t i = 0; i < length; i++) {
        if (domain[i] == '.')
            dots++;
        else if (domain[i] < '0' || domain[i] > '9')
            return false;
    }
    return dots == 3 && strncmp(domain, "127.", 4) == 0;
}
