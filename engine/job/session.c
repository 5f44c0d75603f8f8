/* Credentials (session.h).
 *
 *     ASK --200--> READY                                     no credentials wanted
 *      |  --401 Basic--> READY                               user and password, if there are any
 *      |  --401 Bearer--> TOKEN --200--> READY               a token from the realm that the challenge names
 *      |  --no TLS there, registry may be insecure--> ASK    once more by plain HTTP
 *     READY --401 to a request--> TOKEN (or ASK's way)       tokens run out
 *
 * The realm is the registry's word: user and password go there, so it must be HTTPS, or the plain HTTP of a
 * registry that may use it. An identity token is exchanged by POST (OAuth2 refresh), user and password by GET with
 * Basic. The scope asked for is always to pull this one repository, whatever the challenge asks for. */
#include <string.h>

#include "engine/job/challenge.h"
#include "engine/job/session.h"
#include "proto/base/jread.h"
#include "proto/base/mem.h"

enum session_state { SESSION_ASK, SESSION_TOKEN, SESSION_READY };

struct session {
    struct fetch *fetch;
    enum session_state state;
    bool under_way;          /* the state's request was handed out */
    struct arena arena;      /* of the challenge */
    struct challenge wanted; /* what the registry asked for last */
    char *authorization;     /* owned header value, or NULL */
    char *post;              /* owned body of the token request */
};

struct session *session_new(struct fetch *f)
{
    struct session *s = mem_alloc(sizeof(*s));

    s->fetch = f;
    arena_init(&s->arena);
    return s;
}

void session_free(struct session *s)
{
    if (!s)
        return;
    if (s->authorization)
        mem_wipe(s->authorization, strlen(s->authorization));
    free(s->authorization);
    free(s->post);
    arena_fini(&s->arena);
    free(s);
}

bool session_ready(const struct session *s)
{
    return s->state == SESSION_READY;
}

const char *session_authorization(const struct session *s)
{
    return s->authorization;
}

static void authorize(struct session *s, char *value)
{
    free(s->authorization);
    s->authorization = value;
    s->state = SESSION_READY;
}

/* "Basic ..." of user and password, or NULL without them. */
static char *basic_value(const FetchRequest *q)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

    if (!q->user || !q->password)
        return NULL;
    AUTO_FREE
    char *plain = mem_printf("%s:%s", q->user, q->password);
    size_t length = strlen(plain), at = 0;
    char *value = mem_alloc(strlen("Basic ") + (length + 2) / 3 * 4 + 1);
    char *out = stpcpy(value, "Basic ");
    for (; at < length; at += 3) {
        uint32_t bits = (uint32_t)(uint8_t)plain[at] << 16;

        bits |= at + 1 < length ? (uint32_t)(uint8_t)plain[at + 1] << 8 : 0;
        bits |= at + 2 < length ? (uint8_t)plain[at + 2] : 0;
        *out++ = digits[bits >> 18];
        *out++ = digits[bits >> 12 & 63];
        *out++ = at + 1 < length ? digits[bits >> 6 & 63] : '=';
        *out++ = at + 2 < length ? digits[bits & 63] : '=';
    }
    mem_wipe(plain, length);
    return value;
}

/* --- asking -------------------------------------------------------------------------------------- */

static char *escaped(const char *text)
{
    char *curl = curl_easy_escape(NULL, text, 0);

    if (!curl)
        abort(); /* out of memory */
    char *copy = mem_strdup(curl);
    curl_free(curl);
    return copy;
}

static struct request *ask_token(struct session *s)
{
    const FetchRequest *q = s->fetch->request;
    AUTO_FREE
    char *service = escaped(s->wanted.service ? s->wanted.service : "");
    AUTO_FREE
    char *repository = escaped(q->repository);
    struct request *r;

    if (q->identity_token) {
        AUTO_FREE
        char *token = escaped(q->identity_token);

        free(s->post);
        s->post = mem_printf("grant_type=refresh_token&service=%s&scope=repository%%3A%s%%3Apull&client_id=shoal"
                             "&refresh_token=%s",
                             service, repository, token);
        r = request_new(s->fetch, REQUEST_TOKEN, NULL, mem_strdup(s->wanted.realm));
        r->post = s->post;
        return r;
    }
    AUTO_FREE
    char *account = q->user ? escaped(q->user) : NULL;
    char *url = mem_printf("%s%sservice=%s&scope=repository%%3A%s%%3Apull%s%s", s->wanted.realm,
                           strchr(s->wanted.realm, '?') ? "&" : "?", service, repository,
                           account ? "&account=" : "", account ? account : "");
    return request_new(s->fetch, REQUEST_TOKEN, NULL, url);
}

struct request *session_next(struct session *s)
{
    if (s->state == SESSION_READY || s->under_way)
        return NULL;
    s->under_way = true;
    if (s->state == SESSION_TOKEN) {
        /* What goes to the realm is user and password, not the token that was refused. */
        free(s->authorization);
        s->authorization = basic_value(s->fetch->request);
        return ask_token(s);
    }
    return request_new(s->fetch, REQUEST_PING, NULL, mem_printf("%s/v2/", s->fetch->base));
}

/* --- answers ------------------------------------------------------------------------------------- */

static int no_credentials(const struct session *s, struct err *e)
{
    if (s->fetch->request->user)
        return err_set(e, ERR_UNAUTHORIZED, "unauthorized: the registry refuses the user name or the password");
    return err_set(e, ERR_UNAUTHORIZED, "no basic auth credentials");
}

/* The registry wants credentials: which, and where are they had? */
static int take_challenge(struct session *s, struct request *r, struct err *e)
{
    const FetchRequest *q = s->fetch->request;
    struct curl_header *h;

    arena_reset(&s->arena);
    s->wanted = (struct challenge){0};
    for (size_t i = 0; i < 8 && curl_easy_header(r->easy, "WWW-Authenticate", i, CURLH_HEADER, -1, &h) == CURLHE_OK;
         i++)
        challenge_read(h->value, &s->arena, &s->wanted);
    if (q->registry_token) {
        if (s->authorization)
            return err_set(e, ERR_UNAUTHORIZED, "unauthorized: the registry refuses the token");
        authorize(s, mem_printf("Bearer %s", q->registry_token));
        return 0;
    }
    if (s->wanted.scheme == CHALLENGE_BASIC) {
        char *value = s->authorization ? NULL : basic_value(q);

        if (!value)
            return no_credentials(s, e);
        authorize(s, value);
        return 0;
    }
    if (s->wanted.scheme != CHALLENGE_BEARER || !s->wanted.realm || !*s->wanted.realm)
        return err_set(e, ERR_UNAUTHORIZED, "the registry wants credentials and does not say which");
    if (!url_may_follow(s->fetch, r->url, s->wanted.realm))
        return err_set(e, ERR_DENIED, "the registry sends its users for tokens to %.300s, which is not safe",
                       s->wanted.realm);
    s->state = SESSION_TOKEN;
    return 0;
}

static int take_token(struct session *s, struct request *r, struct err *e)
{
    AUTO_JSON
    json_t *root = NULL;
    AUTO_ARENA
    struct arena a;
    char *token = NULL;

    arena_init(&a);
    int rc = jread_parse(buf_bytes(&r->body), r->body.length, &root, e);
    if (rc == 0)
        rc = jread_string(root, NULL, "token", &a, &token, e);
    if (rc == 0 && (!token || !*token))
        rc = jread_string(root, NULL, "access_token", &a, &token, e);
    if (rc == 0 && (!token || !*token || !header_value_valid(token)))
        rc = err_set(e, ERR_UNAUTHORIZED, "the token server sent no token");
    if (rc < 0)
        return err_wrap(e, "token from %.300s", s->wanted.realm);
    authorize(s, mem_printf("Bearer %s", token));
    mem_wipe(token, strlen(token));
    return 0;
}

int session_on_done(struct session *s, struct request *r, struct err *e)
{
    s->under_way = false;
    if (r->kind == REQUEST_TOKEN)
        return take_token(s, r, e);
    s->state = SESSION_READY;
    return 0;
}

int session_on_failed(struct session *s, struct request *r, const struct err *why, struct err *e)
{
    s->under_way = false;
    if (r->kind == REQUEST_PING && r->status == 0 && s->fetch->request->insecure &&
        strncmp(s->fetch->base, "https://", 8) == 0) {
        free(s->fetch->base);
        s->fetch->base = mem_printf("http://%s", s->fetch->request->host);
        return 0;
    }
    if (e)
        *e = *why;
    return why->code;
}

int session_on_refused(struct session *s, struct request *r, struct err *e)
{
    if (r->kind == REQUEST_TOKEN) {
        s->under_way = false;
        return err_set(e, ERR_UNAUTHORIZED, "unauthorized: incorrect username or password");
    }
    if (r->kind == REQUEST_PING) {
        s->under_way = false;
        return take_challenge(s, r, e);
    }
    if (r->refusals++ > 0)
        return e->code; /* a fresh token did not help: the registry's own words are in e */
    if (s->state == SESSION_TOKEN)
        return 0; /* another request's refusal is being seen to */
    struct err own = *e;
    int rc = take_challenge(s, r, e);
    if (rc < 0 && s->authorization)
        *e = own; /* once a session was open, the registry's words say more than ours */
    return rc;
}
