/* A token server for tests: gives one prepared token to whoever shows the right user and password.
 *
 * usage: token_server TOKEN-FILE AUTHORIZATION LOG
 *
 * Binds a free port of the loopback, prints it, and answers GET /token?...: 200 and {"token": ...} when the header
 * Authorization is the given one ("Basic dXNlcjpwYXNz"), else 401. Each request's first line goes to LOG. The token
 * itself is made and signed by images.sh. */
#include <arpa/inet.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

static char token[16384];

static void die(const char *what)
{
    perror(what);
    exit(1);
}

static void read_token(const char *path)
{
    FILE *file = fopen(path, "re");

    if (!file || !fgets(token, sizeof(token), file))
        die(path);
    token[strcspn(token, "\n")] = '\0';
    fclose(file);
}

static void answer(int fd, int status, const char *body)
{
    char head[256];
    int length = snprintf(head, sizeof(head),
                          "HTTP/1.1 %d x\r\nContent-Type: application/json\r\nContent-Length: %zu\r\n"
                          "Connection: close\r\n\r\n",
                          status, strlen(body));

    if (write(fd, head, (size_t)length) < 0 || write(fd, body, strlen(body)) < 0)
        perror("write");
}

static void serve(int fd, const char *wanted, FILE *log)
{
    static char request[16384], body[sizeof(token) + 64];
    size_t length = 0;
    ssize_t got;

    do {
        got = read(fd, request + length, sizeof(request) - 1 - length);
        if (got <= 0)
            return;
        length += (size_t)got;
        request[length] = '\0';
    } while (!strstr(request, "\r\n\r\n"));
    fprintf(log, "%.*s\n", (int)strcspn(request, "\r\n"), request);
    fflush(log);
    const char *shown = strcasestr(request, "\r\nAuthorization: ");
    if (shown && strncmp(shown + 17, wanted, strlen(wanted)) == 0 && shown[17 + strlen(wanted)] == '\r') {
        snprintf(body, sizeof(body), "{\"token\":\"%s\"}", token);
        answer(fd, 200, body);
    } else {
        answer(fd, 401, "{\"details\":\"incorrect username or password\"}");
    }
}

int main(int argc, char **argv)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof(address);
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    if (argc != 4) {
        fprintf(stderr, "usage: token_server TOKEN-FILE AUTHORIZATION LOG\n");
        return 2;
    }
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    signal(SIGPIPE, SIG_IGN);
    read_token(argv[1]);
    FILE *log = fopen(argv[3], "ae");
    if (!log)
        die(argv[3]);
    if (listener < 0 || bind(listener, (struct sockaddr *)&address, size) < 0 || listen(listener, 16) < 0 ||
        getsockname(listener, (struct sockaddr *)&address, &size) < 0)
        die("listen");
    printf("%d\n", ntohs(address.sin_port));
    fflush(stdout);
    for (;;) {
        int fd = accept(listener, NULL, NULL);

        if (fd < 0)
            die("accept");
        serve(fd, argv[2], log);
        close(fd);
    }
}
