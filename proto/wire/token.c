/* See token.h. */
#include <stdint.h>
#include <string.h>

#include "proto/base/ident.h"
#include "proto/wire/cert.h"
#include "proto/wire/token.h"

int token_parse(const char *token, char ret_digest[TOKEN_DIGEST_TEXT + 1], char ret_secret[TOKEN_SECRET_TEXT + 1],
                struct err *e)
{
    size_t length = strnlen(token, TOKEN_TEXT + 1);

    if (strncmp(token, "SWMTKN-", 7) != 0)
        return err_set(e, ERR_INVALID, "invalid join token: it does not begin with SWMTKN-");
    if (strncmp(token, "SWMTKN-1-", 9) != 0)
        return err_set(e, ERR_INVALID, "invalid join token: version %.1s is not supported", token + 7);
    if (length != TOKEN_TEXT || token[9 + TOKEN_DIGEST_TEXT] != '-')
        return err_set(e, ERR_INVALID, "invalid join token: it should have %d characters", TOKEN_TEXT);
    for (size_t i = 9; i < length; i++)
        if (i != 9 + TOKEN_DIGEST_TEXT &&
            !((token[i] >= '0' && token[i] <= '9') || (token[i] >= 'a' && token[i] <= 'z')))
            return err_set(e, ERR_INVALID, "invalid join token: character %zu is not of 0-9a-z", i + 1);
    memcpy(ret_digest, token + 9, TOKEN_DIGEST_TEXT);
    ret_digest[TOKEN_DIGEST_TEXT] = '\0';
    memcpy(ret_secret, token + 9 + TOKEN_DIGEST_TEXT + 1, TOKEN_SECRET_TEXT);
    ret_secret[TOKEN_SECRET_TEXT] = '\0';
    return 0;
}

int token_digest(const char *root_pem, char ret[TOKEN_DIGEST_TEXT + 1], struct err *e)
{
    uint8_t digest[32];
    int rc = cert_digest(root_pem, digest, e);

    if (rc == 0)
        (void)base36_encode(digest, sizeof(digest), TOKEN_DIGEST_TEXT, ret); /* 2^256 has 50 digits */
    return rc;
}
