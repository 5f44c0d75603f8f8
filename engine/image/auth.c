/* See auth.h. Both alphabets of base64 and missing padding are accepted, since clients differ. The form {"auth":
 * base64("user:password")} is the one of configuration files; some tools send it as it is. */
#include <string.h>

#include "engine/image/auth.h"
#include "proto/base/base64.h"
#include "proto/base/jread.h"
#include "proto/base/mem.h"

#define HEADER_MAX ((size_t)64 << 10)

/* Decode into the arena, zero-terminated; NULL when it is no base64 or holds a zero byte. */
static char *decode(const char *text, struct arena *a)
{
    size_t length = strlen(text), size;

    while (length && text[length - 1] == '=')
        length--;
    char *plain = arena_alloc(a, length + 4); /* decoded in place */
    for (size_t i = 0; i < length; i++)
        plain[i] = (char)(text[i] == '-' ? '+' : text[i] == '_' ? '/' : text[i]);
    while (length % 4)
        plain[length++] = '=';
    if (!base64_decode(plain, length, plain, &size) || memchr(plain, '\0', size))
        return NULL;
    plain[size] = '\0';
    return plain;
}

static int read_fields(const json_t *root, struct arena *a, struct registry_auth *ret, struct err *e)
{
    char *user = NULL, *password = NULL, *identity = NULL, *registry = NULL, *both = NULL;
    const struct {
        const char *key;
        char **value;
    } fields[] = {{"username", &user},
                  {"password", &password},
                  {"identitytoken", &identity},
                  {"registrytoken", &registry},
                  {"auth", &both}};

    for (size_t i = 0; i < ARRAY_SIZE(fields); i++) {
        if (jread_string(root, NULL, fields[i].key, a, fields[i].value, NULL) < 0)
            return err_set(e, ERR_INVALID, "invalid X-Registry-Auth: %s is no text", fields[i].key);
        if (*fields[i].value && !**fields[i].value)
            *fields[i].value = NULL;
    }
    if (both && !user) {
        user = decode(both, a);
        char *colon = user ? strchr(user, ':') : NULL;
        if (!colon)
            return err_set(e, ERR_INVALID, "invalid X-Registry-Auth: auth is not base64 of user:password");
        *colon = '\0';
        password = colon + 1;
    }
    *ret = (struct registry_auth){user, password, identity, registry};
    return 0;
}

int registry_auth_parse(const char *header, struct arena *a, struct registry_auth *ret, struct err *e)
{
    AUTO_JSON
    json_t *root = NULL;

    *ret = (struct registry_auth){0};
    if (!header || !*header)
        return 0;
    char *json = strlen(header) <= HEADER_MAX ? decode(header, a) : NULL;
    if (!json)
        return err_set(e, ERR_INVALID, "invalid X-Registry-Auth: it is not base64url of JSON");
    if (!*json || strcmp(json, "null") == 0)
        return 0;
    if (jread_parse(json, strlen(json), &root, NULL) < 0 || !json_is_object(root))
        return err_set(e, ERR_INVALID, "invalid X-Registry-Auth: it does not hold a JSON object");
    return read_fields(root, a, ret, e);
}
