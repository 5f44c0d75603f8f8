/* See client.h.
 *
 * A call owns a connection from client_start to call_end. Bytes to send wait in `out`, bytes received in `in`;
 * `wait` is the one place that blocks: it polls the socket both ways, and the body's descriptor when there is room
 * to send more of it, so that a node which answers before it has read everything is heard. When a reused connection
 * turns out to be closed before anything came back, the request goes out once more on a new one.
 *
 * Strings for people that name the product say "daemon", as docker's do, because scripts match them. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "cli/client.h"
#include "cli/response.h"
#include "cli/tree.h"
#include "cli/value.h"
#include "proto/base/mem.h"

#define CONNECT_TIMEOUT_MS 30000
#define ERROR_BODY_MAX     (1024 * 1024)
#define PIECE              (64 * 1024)

struct client {
    char *host;       /* as given */
    char *address;    /* path of the socket, or host name */
    char *port;       /* NULL for a unix socket */
    int idle_fd;      /* a connection for the next call; -1 */
    char version[16]; /* "1.45"; empty until known */
    const volatile sig_atomic_t *stop;
};

struct call {
    struct client *client;
    int fd;
    bool reused; /* the connection served an earlier call */
    struct buf out, in;
    struct buf sent; /* a copy of a request that may be sent again: one that changes nothing */
    int body_fd;     /* -1: none, or sent */
    bool passes;     /* body_fd goes out as it is, after the answer's head */
    bool half_close; /* when `out` is sent */
    struct response response;
};

/* --- hosts ------------------------------------------------------------------------------------------------------
 */

static int parse_tcp(struct client *c, const char *address, struct err *e)
{
    const char *slash = strchr(address, '/');
    AUTO_FREE
    char *copy = mem_strndup(address, slash ? (size_t)(slash - address) : strlen(address));
    char *colon = strrchr(copy, ':'), *bracket = strrchr(copy, ']');
    uint64_t port = 2375;

    if (slash && slash[1])
        return err_set(e, ERR_UNSUPPORTED, "invalid bind address format: %s (paths are not supported)", c->host);
    if (colon && (!bracket || bracket < colon)) {
        *colon = '\0';
        if (colon[1] && value_uint(colon + 1, 10, 16, &port, NULL) < 0)
            return err_set(e, ERR_INVALID, "invalid bind address format: %s", c->host);
    }
    size_t length = strlen(copy);
    bool bracketed = length > 2 && copy[0] == '[' && copy[length - 1] == ']';
    if (length == 0)
        c->address = mem_strdup("127.0.0.1");
    else
        c->address = bracketed ? mem_strndup(copy + 1, length - 2) : mem_strdup(copy);
    c->port = mem_printf("%u", (unsigned)port);
    return 0;
}

static int parse_host(struct client *c, struct err *e)
{
    const char *scheme = strstr(c->host, "://");

    if (scheme && strncmp(c->host, "unix://", 7) == 0) {
        c->address = mem_strdup(scheme[3] ? scheme + 3 : "/var/run/shoal.sock");
        return 0;
    }
    if (!scheme || strncmp(c->host, "tcp://", 6) == 0)
        return parse_tcp(c, scheme ? scheme + 3 : c->host, e);
    return err_set(e, ERR_UNSUPPORTED, "invalid bind address format: %s (use unix://PATH or tcp://HOST:PORT)",
                   c->host);
}

/* "1.45" as 1045; 0 when it is no version. */
static int version_number(const char *text)
{
    char *end;
    long major = strtol(text, &end, 10);

    if (*end != '.' || major < 0 || major > 99)
        return 0;
    long minor = strtol(end + 1, &end, 10);
    return *end || minor < 0 || minor > 999 ? 0 : (int)(major * 1000 + minor);
}

int client_open(const char *host, const volatile sig_atomic_t *stop, struct client **ret, struct err *e)
{
    struct client *c = mem_alloc(sizeof(*c));
    const char *version = getenv("SHOAL_API_VERSION");
    int rc = 0;

    c->host = mem_strdup(host);
    c->idle_fd = -1;
    c->stop = stop;
    if (!version || !*version)
        version = getenv("DOCKER_API_VERSION");
    if (version && *version) { /* told: do not ask */
        (void)snprintf(c->version, sizeof(c->version), "%s", version + (*version == 'v'));
        if (!version_number(c->version))
            rc = err_set(e, ERR_INVALID, "invalid API version in the environment: %.100s", version);
    }
    if (rc == 0)
        rc = parse_host(c, e);
    if (rc < 0) {
        client_close(c);
        return rc;
    }
    *ret = c;
    return 0;
}

void client_close(struct client *c)
{
    if (!c)
        return;
    if (c->idle_fd >= 0)
        close(c->idle_fd);
    free(c->host);
    free(c->address);
    free(c->port);
    free(c);
}

const char *client_host(const struct client *c)
{
    return c->host;
}

/* --- connections ------------------------------------------------------------------------------------------------
 */

static int cannot_connect(const struct client *c, int number, struct err *e)
{
    if (number == EACCES || number == EPERM)
        return err_set(e, ERR_DENIED, "permission denied while trying to connect to the shoal daemon socket at %s",
                       c->host);
    return err_set(e, ERR_CLOSED, "Cannot connect to the shoal daemon at %s. Is shoald running?", c->host);
}

static int connect_unix(const struct client *c, struct err *e)
{
    struct sockaddr_un name = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    if (fd < 0)
        return err_errno(e, "open a socket");
    if (strlen(c->address) >= sizeof(name.sun_path)) {
        close(fd);
        return err_set(e, ERR_INVALID, "invalid bind address format: %s: the path is too long", c->host);
    }
    (void)snprintf(name.sun_path, sizeof(name.sun_path), "%s", c->address);
    if (connect(fd, (struct sockaddr *)&name, sizeof(name)) < 0) {
        int number = errno;

        close(fd);
        return cannot_connect(c, number, e);
    }
    return fd;
}

/* Connect within the time allowed; the error number, or 0. */
static int connect_within(int fd, const struct addrinfo *to)
{
    struct pollfd poller = {.fd = fd, .events = POLLOUT};
    int number = 0;
    socklen_t size = sizeof(number);

    if (connect(fd, to->ai_addr, to->ai_addrlen) == 0)
        return 0;
    if (errno != EINPROGRESS)
        return errno;
    if (poll(&poller, 1, CONNECT_TIMEOUT_MS) <= 0)
        return ETIMEDOUT;
    return getsockopt(fd, SOL_SOCKET, SO_ERROR, &number, &size) < 0 ? errno : number;
}

static int connect_tcp(const struct client *c, struct err *e)
{
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *list = NULL;
    int number = 0, found = getaddrinfo(c->address, c->port, &hints, &list);

    if (found != 0)
        return err_set(e, ERR_NOT_FOUND, "error during connect: look up %s: %s", c->address, gai_strerror(found));
    for (struct addrinfo *to = list; to; to = to->ai_next) {
        int fd = socket(to->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0), one = 1;

        if (fd < 0)
            continue;
        number = connect_within(fd, to);
        if (number == 0 && fcntl(fd, F_SETFL, 0) == 0) {
            (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one)); /* only a matter of speed */
            freeaddrinfo(list);
            return fd;
        }
        close(fd);
    }
    freeaddrinfo(list);
    return cannot_connect(c, number, e);
}

/* A connection on which bytes or its end wait is of no use any more. */
static void drop_stale(struct client *c)
{
    struct pollfd poller = {.fd = c->idle_fd, .events = POLLIN};

    if (c->idle_fd >= 0 && poll(&poller, 1, 0) != 0)
        close(steal_fd(&c->idle_fd));
}

static int connect_call(struct call *call, struct err *e)
{
    struct client *c = call->client;

    drop_stale(c);
    call->reused = c->idle_fd >= 0;
    call->fd = call->reused ? steal_fd(&c->idle_fd) : c->port ? connect_tcp(c, e) : connect_unix(c, e);
    return call->fd < 0 ? call->fd : 0;
}

/* --- sending and receiving --------------------------------------------------------------------------------------
 */

/* One piece of the streamed body as a chunk (or as it is), or the end of it. */
static int read_body(struct call *call, struct err *e)
{
    char *piece = mem_alloc(PIECE);
    ssize_t got = read(call->body_fd, piece, PIECE);
    int rc = 0;

    if (got < 0 && errno != EINTR && errno != EAGAIN)
        rc = err_errno(e, "read the file to send");
    if (got > 0 && call->passes) {
        buf_append(&call->out, piece, (size_t)got);
    } else if (got == 0 && call->passes) {
        call->half_close = true;
        call->body_fd = -1;
    } else if (got > 0) {
        buf_printf(&call->out, "%zx\r\n", (size_t)got);
        buf_append(&call->out, piece, (size_t)got);
        buf_append_str(&call->out, "\r\n");
    } else if (got == 0) {
        buf_append_str(&call->out, "0\r\n\r\n");
        call->body_fd = -1;
    }
    free(piece);
    return rc;
}

/* A node that refuses may stop reading before everything is sent: what it answered still counts. */
static void send_some(struct call *call)
{
    ssize_t sent = send(call->fd, buf_bytes(&call->out), call->out.length, MSG_NOSIGNAL | MSG_DONTWAIT);

    if (sent >= 0) {
        buf_consume(&call->out, (size_t)sent);
    } else if (errno != EAGAIN && errno != EINTR) {
        buf_clear(&call->out);
        call->body_fd = -1;
    }
}

/* Send what waits until bytes come in. The number of bytes, 0 when the connection closed, or a code. */
static ssize_t wait_bytes(struct call *call, struct err *e)
{
    for (;;) {
        bool more = call->out.length == 0 && call->body_fd >= 0;
        struct pollfd pollers[] = {{.fd = call->fd, .events = (short)(POLLIN | (call->out.length ? POLLOUT : 0))},
                                   {.fd = more ? call->body_fd : -1, .events = POLLIN}};

        if (call->client->stop && *call->client->stop)
            return err_set(e, ERR_CANCELED, "interrupted");
        if (call->half_close && call->out.length == 0) {
            call->half_close = false;
            (void)shutdown(call->fd, SHUT_WR); /* fails when the other side is gone: reading tells */
        }
        if (poll(pollers, ARRAY_SIZE(pollers), -1) < 0) {
            if (errno == EINTR)
                continue;
            return err_errno(e, "wait for the daemon");
        }
        if (pollers[0].revents & POLLOUT)
            send_some(call);
        if (pollers[1].revents) {
            int rc = read_body(call, e);

            if (rc < 0)
                return rc;
        }
        if (pollers[0].revents & (POLLIN | POLLHUP | POLLERR)) {
            ssize_t got = recv(call->fd, buf_reserve(&call->in, PIECE), PIECE, 0);

            if (got < 0 && errno == EINTR)
                continue;
            if (got < 0) /* a reset after the last byte is a close */
                return 0;
            buf_added(&call->in, (size_t)got);
            return got;
        }
    }
}

/* Take bytes of the answer in until its state is past `state` or a piece of body was found. */
static int advance(struct call *call, size_t size, const char **ret_body, size_t *ret_body_size, struct err *e)
{
    size_t used;
    int rc = response_take(&call->response, buf_bytes(&call->in), MIN(size, call->in.length), &used, ret_body,
                           ret_body_size, e);

    if (rc == 0)
        buf_consume(&call->in, used);
    return rc;
}

static int resend(struct call *call, struct err *e)
{
    close(steal_fd(&call->fd));
    int rc = connect_call(call, e);
    if (rc < 0)
        return rc;
    buf_clear(&call->out);
    buf_append(&call->out, buf_bytes(&call->sent), call->sent.length);
    return 0;
}

static int read_head(struct call *call, struct err *e)
{
    const char *body;
    size_t body_size;

    while (!response_has_head(&call->response)) {
        if (call->in.length == 0) {
            ssize_t got = wait_bytes(call, e);

            if (got < 0)
                return (int)got;
            if (got == 0 && call->reused && call->response.head_bytes == 0 && call->sent.length) {
                int rc = resend(call, e);
                if (rc < 0)
                    return rc;
                continue;
            }
            if (got == 0)
                return response_closed(&call->response, e);
        }
        int rc = advance(call, call->in.length, &body, &body_size, e);
        if (rc < 0)
            return rc;
    }
    return 0;
}

void call_pass(struct call *call, int fd)
{
    call->passes = true;
    call->body_fd = fd;
}

ssize_t call_read(struct call *call, void *data, size_t size, struct err *e)
{
    while (call->response.state != RESPONSE_DONE) {
        const char *body;
        size_t body_size = 0;

        if (call->in.length == 0) {
            ssize_t got = wait_bytes(call, e);

            if (got < 0)
                return got;
            if (got == 0) {
                int rc = response_closed(&call->response, e);
                if (rc < 0)
                    return rc;
                continue;
            }
        }
        int rc = advance(call, size, &body, &body_size, e);
        if (rc < 0)
            return rc;
        if (body_size) {
            memcpy(data, body, body_size);
            return (ssize_t)body_size;
        }
    }
    return 0;
}

static int read_at_most(struct call *call, size_t limit, struct buf *into, struct err *e)
{
    for (;;) {
        ssize_t got = call_read(call, buf_reserve(into, PIECE), PIECE, e);

        if (got <= 0)
            return (int)got;
        buf_added(into, (size_t)got);
        if (into->length > limit)
            return err_set(e, ERR_LIMIT, "the daemon's answer is larger than %zu bytes", limit);
    }
}

int call_read_all(struct call *call, struct buf *into, struct err *e)
{
    return read_at_most(call, CLIENT_ANSWER_MAX, into, e);
}

/* --- answers ----------------------------------------------------------------------------------------------------
 */

static int code_of(int status)
{
    static const struct {
        int status, code;
    } codes[] = {{400, ERR_INVALID},     {401, ERR_UNAUTHORIZED}, {403, ERR_DENIED},
                 {404, ERR_NOT_FOUND},   {409, ERR_CONFLICT},     {413, ERR_LIMIT},
                 {501, ERR_UNSUPPORTED}, {503, ERR_UNAVAILABLE},  {304, ERR_NOT_MODIFIED}};

    for (size_t i = 0; i < ARRAY_SIZE(codes); i++)
        if (codes[i].status == status)
            return codes[i].code;
    return status < 500 ? ERR_INVALID : ERR_INTERNAL;
}

static int refused(struct call *call, struct err *e)
{
    const struct response *r = &call->response;
    AUTO_BUF struct buf body = {0};
    AUTO_JSON json_t *root = NULL;
    int code = code_of(r->status), rc = read_at_most(call, ERROR_BODY_MAX, &body, e);
    const char *message = NULL;

    if (rc < 0)
        return rc;
    if (strncmp(r->content_type, "application/json", 16) == 0) {
        if (jread_parse(buf_str(&body), body.length, &root, NULL) < 0)
            return err_set(e, code, "Error response from daemon: Error reading JSON: %.200s", buf_str(&body));
        message = tree_text(root, "message");
        if (!*message)
            return err_set(e, code,
                           "Error response from daemon: API returned a %d (%s) but provided no error-message",
                           r->status, r->reason);
    } else if (body.length) {
        message = buf_str(&body);
    }
    if (!message)
        return err_set(e, code,
                       "request returned %d %s for API route and version %s, check if the server supports the "
                       "requested API version",
                       r->status, r->reason, call->client->version);
    size_t length = strlen(message), start = strspn(message, " \t\r\n");
    while (length > start && strchr(" \t\r\n", message[length - 1]))
        length--;
    return err_set(e, code, "Error response from daemon: %.*s", (int)MIN(length - start, (size_t)4096),
                   message + start);
}

int call_answer(struct call *call, struct err *e)
{
    int rc = read_head(call, e);

    if (rc < 0)
        return rc;
    if (call->response.status >= 400)
        return refused(call, e);
    if (call->response.status >= 300 && call->response.status != 304)
        return err_set(e, ERR_CORRUPT, "unexpected redirect in response");
    return 0;
}

int call_status(const struct call *call)
{
    return call->response.status;
}

const char *call_content_type(const struct call *call)
{
    return call->response.content_type;
}

void call_end(struct call *call)
{
    if (!call)
        return;
    bool clean = call->response.state == RESPONSE_DONE && call->response.keep_alive && call->in.length == 0 &&
                 call->out.length == 0 && call->body_fd < 0;
    if (call->fd >= 0 && clean && call->client->idle_fd < 0)
        call->client->idle_fd = steal_fd(&call->fd);
    if (call->fd >= 0)
        close(call->fd);
    buf_fini(&call->out);
    buf_fini(&call->in);
    buf_fini(&call->sent);
    free(call);
}

/* --- requests ---------------------------------------------------------------------------------------------------
 */

static void write_request(struct call *call, const struct client_request *r, const char *version)
{
    struct buf *out = &call->out;
    const struct client *c = call->client;

    buf_printf(out, "%s %s%s%s HTTP/1.1\r\n", r->method, *version ? "/v" : "", version, r->path);
    if (c->port)
        buf_printf(out, strchr(c->address, ':') ? "Host: [%s]:%s\r\n" : "Host: %s:%s\r\n", c->address, c->port);
    else
        buf_append_str(out, "Host: localhost\r\n");
    buf_append_str(out, "User-Agent: Shoal-Client/" SHOAL_VERSION " (linux)\r\n");
    if (r->registry_auth)
        buf_printf(out, "X-Registry-Auth: %s\r\n", r->registry_auth);
    if (r->body_size || r->streams)
        buf_printf(out, "Content-Type: %s\r\n", r->content_type ? r->content_type : "application/json");
    if (r->streams)
        buf_append_str(out, "Transfer-Encoding: chunked\r\n");
    else if (r->body_size || strcmp(r->method, "POST") == 0 || strcmp(r->method, "PUT") == 0)
        buf_printf(out, "Content-Length: %zu\r\n", r->body_size);
    buf_append_str(out, "\r\n");
    buf_append(out, r->body, r->body_size);
    if (r->streams)
        call->body_fd = r->body_fd;
    if (strcmp(r->method, "GET") == 0 || strcmp(r->method, "HEAD") == 0)
        buf_append(&call->sent, buf_bytes(out), out->length);
}

static int start(struct client *c, const struct client_request *request, const char *version, struct call **ret,
                 struct err *e)
{
    struct call *call = mem_alloc(sizeof(*call));

    call->client = c;
    call->fd = call->body_fd = -1;
    response_begin(&call->response, strcmp(request->method, "HEAD") == 0);
    write_request(call, request, version);
    int rc = connect_call(call, e);
    if (rc < 0) {
        call_end(call);
        return rc;
    }
    send_some(call); /* the rest goes out while the answer is waited for */
    *ret = call;
    return 0;
}

static int negotiate(struct client *c, struct err *e)
{
    static const struct client_request ping = {.method = "HEAD", .path = "/_ping"};
    struct call *call = NULL;
    int rc;

    if (*c->version)
        return 0;
    rc = start(c, &ping, "", &call, e);
    if (rc == 0)
        rc = read_head(call, e);
    if (rc == 0) {
        const char *theirs = version_number(call->response.api_version) ? call->response.api_version : "1.24";
        bool older = version_number(theirs) < version_number(CLIENT_API_VERSION);

        (void)snprintf(c->version, sizeof(c->version), "%s", older ? theirs : CLIENT_API_VERSION);
    }
    call_end(call);
    return rc;
}

int client_version(struct client *c, const char **ret, struct err *e)
{
    int rc = negotiate(c, e);

    if (rc == 0)
        *ret = c->version;
    return rc;
}

bool client_speaks(struct client *c, int minor)
{
    return negotiate(c, NULL) == 0 && version_number(c->version) >= 1000 + minor;
}

int client_start(struct client *c, const struct client_request *request, struct call **ret, struct err *e)
{
    int rc = negotiate(c, e);

    return rc < 0 ? rc : start(c, request, c->version, ret, e);
}

int client_do(struct client *c, const struct client_request *request, struct buf *into, struct err *e)
{
    struct call *call = NULL;
    AUTO_BUF struct buf ignored = {0};
    int rc = client_start(c, request, &call, e);

    if (rc == 0)
        rc = call_answer(call, e);
    if (rc == 0)
        rc = call_read_all(call, into ? into : &ignored, e);
    call_end(call);
    return rc;
}

/* --- paths ------------------------------------------------------------------------------------------------------
 */

static void escape(struct buf *out, const char *text, const char *kept)
{
    for (; *text; text++) {
        bool plain = (*text >= 'a' && *text <= 'z') || (*text >= 'A' && *text <= 'Z') ||
                     (*text >= '0' && *text <= '9') || strchr(kept, *text);

        if (plain)
            buf_append_char(out, *text);
        else
            buf_printf(out, "%%%02X", (unsigned char)*text);
    }
}

void path_add(struct buf *path, const char *fmt, ...)
{
    va_list args;

    va_start(args, fmt);
    for (; *fmt; fmt++) {
        if (fmt[0] == '%' && fmt[1] == 's') {
            escape(path, va_arg(args, const char *), "-_.~$&+,/:;=@");
            fmt++;
        } else {
            buf_append_char(path, *fmt);
        }
    }
    va_end(args);
}

void path_query(struct buf *path, const char *name, const char *value)
{
    buf_append_char(path, strchr(buf_str(path), '?') ? '&' : '?');
    escape(path, name, "-_.~");
    buf_append_char(path, '=');
    escape(path, value, "-_.~");
}
