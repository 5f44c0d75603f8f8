/* Pulls from a real registry (Debian's docker-registry), with images that skopeo pushed: formats and compressions,
 * manifest lists, passwords, tokens, TLS; and archives that skopeo wrote. tests/integration/images.sh makes and
 * serves them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "proto/base/file.h"
#include "proto/base/mem.h"
#include "tests/support/images.h"
#include "tests/support/job.h"
#include "tests/support/store.h"

#define AUTH_JOE                                                                                     \
    "eyJ1c2VybmFtZSI6ImpvZSIsInBhc3N3b3JkIjoiczNjcmV0In0=" /* {"username":"joe","password":"s3cret"} \
                                                            */
#define AUTH_WRONG "eyJ1c2VybmFtZSI6ImpvZSIsInBhc3N3b3JkIjoid3JvbmcifQ==" /* joe and another password */

static char *work;       /* everything of this program */
static char script[500]; /* images.sh */
static char ids[2][80];  /* of web:1 (busybox) and web:2 (layers) */

/* Run a line of shell that has images.sh's functions; what it prints, cut at the newline. */
static int shell(char *into, size_t size, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

static int shell(char *into, size_t size, const char *fmt, ...)
{
    char line[2000], output[4096] = "";
    va_list args;
    int fds[2], status;
    size_t length = 0;
    ssize_t got;

    va_start(args, fmt);
    vsnprintf(line, sizeof(line), fmt, args);
    va_end(args);
    assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
    pid_t pid = fork();
    if (pid == 0) {
        dup2(fds[1], 1);
        execl("/bin/bash", "bash", "-c", line, script, NULL);
        _exit(127);
    }
    close(fds[1]);
    while (length < sizeof(output) - 1 && (got = read(fds[0], output + length, sizeof(output) - 1 - length)) > 0)
        length += (size_t)got;
    close(fds[0]);
    waitpid(pid, &status, 0);
    output[length] = '\0';
    output[strcspn(output, "\n")] = '\0';
    if (into)
        snprintf(into, size, "%s", output);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

#define SHELL(...) assert_int_equal(shell(NULL, 0, ". $0; " __VA_ARGS__), 0)

struct served { /* a registry of images.sh */
    pid_t pid;
    char host[64];
    char dir[300];
};

static void serve(struct served *s, const char *kind)
{
    int fds[2];
    ssize_t got;

    snprintf(s->dir, sizeof(s->dir), "%s/registry-%s", work, kind);
    assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
    s->pid = fork();
    if (s->pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        dup2(fds[1], 1);
        execl("/bin/bash", "bash", script, "registry_serve", s->dir, kind, NULL);
        _exit(127);
    }
    close(fds[1]);
    got = read(fds[0], s->host, sizeof(s->host) - 1);
    close(fds[0]);
    assert_in_range(got, 10, sizeof(s->host) - 1);
    s->host[got] = '\0';
    s->host[strcspn(s->host, "\n")] = '\0';
}

static void unserve(struct served *s)
{
    kill(s->pid, SIGTERM);
    waitpid(s->pid, NULL, 0);
}

static void push(const struct served *s, const char *name, const char *destination, const char *format)
{
    SHELL("registry_push %s/layout %s %s/%s %s", work, name, s->host, destination, format);
}

static const char *in(const struct served *s, const char *name)
{
    static char ref[200];

    snprintf(ref, sizeof(ref), "%s/%s", s->host, name);
    return ref;
}

static void pull_well(struct world *w, const char *ref, const char *auth, const char *id)
{
    struct outcome o;

    world_pull(w, ref, NULL, auth, &o);
    if (o.error.code)
        fail_msg("%s: %s", ref, o.error.text);
    if (id)
        assert_string_equal(o.id, id);
    assert_found(w, ref, o.id);
    outcome_fini(&o);
}

static void pull_fails(struct world *w, const char *ref, const char *auth, int code, const char *text)
{
    struct outcome o;

    world_pull(w, ref, NULL, auth, &o);
    if (o.error.code != code || !strstr(o.error.text, text))
        fail_msg("%s: code %d \"%s\" without \"%s\"", ref, o.error.code, o.error.text, text);
    outcome_fini(&o);
}

/* --- what was pulled ----------------------------------------------------------------------------- */

static void assert_line(const char *tree, const char *line)
{
    const char *found = strstr(tree, line);

    if (!found || (found != tree && found[-1] != '\n'))
        fail_msg("%s is not in\n%s", line, tree);
}

/* web:2 as image_layers makes it. */
static void assert_layered(struct world *w)
{
    int fds[3];
    struct err e;
    char *trees[3], path[64];

    if (image_layers_open(w->images, ids[1], fds, 3, &e) < 0)
        fail_msg("%s", e.text);
    for (int i = 0; i < 3; i++) {
        snprintf(path, sizeof(path), "/proc/self/fd/%d/.", fds[i]);
        trees[i] = tree_describe(path, 0);
        close(fds[i]);
    }
    assert_line(trees[0], "last file 0644 0:0 6\n");
    assert_line(trees[0], "owned/link char 0000 0:0 0,0\n");
    assert_line(trees[1], "data/gone char 0000 0:0 0,0\n");
    assert_line(trees[1], "opaque dir 0755 0:0 trusted.overlay.opaque=y\n");
    assert_line(trees[1], "opaque/seen file 0644 0:0 4\n");
    assert_line(trees[1], "owned dir 0755 1000:1001\n");
    assert_line(trees[1], "owned/file file 4755 1000:1001 4 user.note=kept\n");
    assert_line(trees[1], "owned/link file 4755 1000:1001 4 user.note=kept\n");
    assert_non_null(strstr(trees[1], " security.capability=\\x01\\x00\\x00\\x02\\x00"));
    assert_line(trees[2], "data/gone file 0644 0:0 4\n");
    assert_line(trees[2], "bin/sh link 0777 0:0 -> busybox\n");
    assert_line(trees[2], "tmp dir 1777 0:0\n");
    for (int i = 0; i < 3; i++)
        free(trees[i]);
}

static void images_of_every_form_are_pulled(void **state)
{
    struct world *w = *state;
    struct served s;
    struct image image;
    char digest[80];

    serve(&s, "open");
    push(&s, "web:1", "web:1", "oci");
    push(&s, "web:1", "web:schema2", "v2s2");
    push(&s, "web:2", "web:2", "oci");
    SHELL("registry_push_index http://%s/v2/web list docker amd64=schema2 s390x=schema2", s.host);
    SHELL("registry_push_index http://%s/v2/web index oci s390x=1 amd64=2", s.host);
    pull_well(w, in(&s, "web:1"), NULL, ids[0]);
    pull_well(w, in(&s, "web:1"), NULL, ids[0]);
    pull_well(w, in(&s, "web:2"), NULL, ids[1]);
    assert_layered(w);
    assert_int_equal(image_find(w->images, in(&s, "web:2"), &image, NULL), 0);
    assert_string_equal(image.config->entrypoint[0], "/bin/sh");
    assert_string_equal(image.config->working_dir, "/data");
    /* skopeo writes a new config for the other format: another image of the same layer. */
    pull_well(w, in(&s, "web:schema2"), NULL, NULL);
    pull_well(w, in(&s, "web:list"), NULL, world_found(w, in(&s, "web:schema2"))->id);
    pull_well(w, in(&s, "web:index"), NULL, ids[1]);
    shell(digest, sizeof(digest),
          "curl -sI -H 'Accept: application/vnd.oci.image.index.v1+json' "
          "http://%s/v2/web/manifests/index | tr -d '\\r' | sed -n 's/^Docker-Content-Digest: //p'",
          s.host);
    char by_digest[200];
    snprintf(by_digest, sizeof(by_digest), "%s/web@%s", s.host, digest);
    assert_found(w, by_digest, ids[1]);
    pull_well(w, by_digest, NULL, ids[1]);
    pull_fails(w, in(&s, "web:absent"), NULL, ERR_NOT_FOUND, "manifest unknown: manifest unknown");
    pull_fails(w, in(&s, "nothing:1"), NULL, ERR_NOT_FOUND, "not found");
    unserve(&s);
}

static void password_is_asked_for(void **state)
{
    struct world *w = *state;
    struct served s;

    serve(&s, "basic");
    push(&s, "web:1", "web:1", "oci");
    pull_fails(w, in(&s, "web:1"), NULL, ERR_UNAUTHORIZED,
               "repository does not exist or may require 'docker login'");
    pull_fails(w, in(&s, "web:1"), AUTH_WRONG, ERR_UNAUTHORIZED, "docker login");
    pull_well(w, in(&s, "web:1"), AUTH_JOE, ids[0]);
    unserve(&s);
}

static void token_is_fetched(void **state)
{
    struct world *w = *state;
    struct served s;
    char line[300];

    serve(&s, "token");
    push(&s, "web:1", "web:1", "oci");
    pull_fails(w, in(&s, "web:1"), NULL, ERR_UNAUTHORIZED, "docker login");
    pull_fails(w, in(&s, "web:1"), AUTH_WRONG, ERR_UNAUTHORIZED, "docker login");
    pull_well(w, in(&s, "web:1"), AUTH_JOE, ids[0]);
    shell(line, sizeof(line), "tail -n 1 %s/token.log", s.dir);
    assert_string_equal(line,
                        "GET /token?service=test-registry&scope=repository%3Aweb%3Apull&account=joe HTTP/1.1");
    pull_fails(w, in(&s, "other:1"), AUTH_JOE, ERR_UNAUTHORIZED, "docker login"); /* the token is for "web" */
    unserve(&s);
}

/* A name for 127.0.0.1 that nothing takes for this machine: then certificates count. */
static bool name_the_loopback(void)
{
    char hosts[300];
    int fd = -1;

    snprintf(hosts, sizeof(hosts), "%s/hosts", work);
    if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
        (fd = open(hosts, O_WRONLY | O_CREAT | O_CLOEXEC, 0644)) < 0)
        return false;
    bool good = write_all(fd, "127.0.0.1 localhost registry.test\n", 34, NULL) == 0 &&
                mount(hosts, "/etc/hosts", NULL, MS_BIND, NULL) == 0;
    close(fd);
    return good;
}

static void certificates_count(void **state)
{
    struct world *w = *state;
    struct served tls, open;
    char name[100], plain[100], certificates[300], directory[400];

    world_close(w); /* its directories belong to the mount namespace that is left */
    bool named = name_the_loopback();
    world_open(w);
    if (!named) {
        print_message("no mount namespace here: certificates are not tested\n");
        return;
    }
    serve(&tls, "tls");
    serve(&open, "open");
    SHELL("registry_push %s/layout web:1 %s/web:1 oci", work, tls.host);
    snprintf(name, sizeof(name), "registry.test:%s", strchr(tls.host, ':') + 1);
    snprintf(plain, sizeof(plain), "registry.test:%s", strchr(open.host, ':') + 1);
    char ref[200], plain_ref[200];
    snprintf(ref, sizeof(ref), "%s/web:1", name);
    snprintf(plain_ref, sizeof(plain_ref), "%s/absent:1", plain);
    /* Signed by nobody we know; and plain HTTP is not tried for a registry elsewhere. */
    pull_fails(w, ref, NULL, ERR_UNAVAILABLE, "certificate");
    pull_fails(w, plain_ref, NULL, ERR_UNAVAILABLE, "https://");
    world_close(w);
    /* The administrator says whose signature counts there. */
    snprintf(certificates, sizeof(certificates), "%s/certs.d", work);
    snprintf(directory, sizeof(directory), "%s/%s", certificates, name);
    assert_int_equal(dir_make(directory, 0755, NULL), 0);
    SHELL("cp %s/cert.pem %s/ca.crt", tls.dir, directory);
    w->certificates = certificates;
    world_open(w);
    pull_well(w, ref, NULL, ids[0]);
    world_close(w);
    /* Or that this registry may go without. */
    w->certificates = "/nonexistent";
    w->insecure = (const char *const[]){name, plain, NULL};
    world_open(w);
    pull_well(w, ref, NULL, ids[0]);
    pull_fails(w, plain_ref, NULL, ERR_NOT_FOUND, "absent"); /* it is spoken to, and has no such image */
    w->insecure = NULL;
    unserve(&tls);
    unserve(&open);
}

static void archives_of_skopeo_are_loaded(void **state)
{
    struct world *w = *state;
    static const struct {
        const char *file;
        unsigned images;
    } rows[] = {{"docker.tar", 1}, {"oci.tar", 3}, {"oci.tar.zst", 3}};

    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        struct buf archive = {0}, removed = {0};
        struct outcome o;
        char path[300];

        snprintf(path, sizeof(path), "%s/%s", work, rows[i].file);
        if (i == 0)
            SHELL("docker_archive %s/layout web:3 %s web:2", work, path);
        else if (i == 1)
            SHELL("oci_archive %s/layout %s", work, path);
        else
            SHELL("oci_archive %s/layout %s.x && zstd -q %s.x -o %s", work, path, path, path);
        assert_int_equal(file_read(AT_FDCWD, path, 64 << 20, &archive, NULL), 0);
        world_load(w, &archive, &o);
        assert_well(&o);
        assert_int_equal(images_count(w->images), rows[i].images);
        if (i > 0) {
            assert_found(w, "web:2", ids[1]);
            assert_found(w, "web:1", ids[0]);
            assert_layered(w);
        }
        assert_non_null(world_found(w, "web:2"));
        assert_int_equal(image_prune(w->images, false, &removed, NULL), 0);
        assert_int_equal(images_count(w->images), 0);
        buf_fini(&archive);
        buf_fini(&removed);
        outcome_fini(&o);
    }
}

/* --- start --------------------------------------------------------------------------------------- */

static int make_images(void)
{
    char missing[300];

    if (shell(missing, sizeof(missing), ". $0; images_need | tr '\\n' ' '") != 0 || *missing) {
        printf("skip registry_test: not installed: %s\n", missing);
        return -1;
    }
    work = scratch_new("registry-test");
    SHELL("image_busybox %s/layout web:1 && image_layers %s/layout web:2 && "
          "image_layers %s/layout web:3 gzip",
          work, work, work);
    assert_int_equal(shell(ids[0], sizeof(ids[0]), ". $0; oci_id %s/layout web:1", work), 0);
    assert_int_equal(shell(ids[1], sizeof(ids[1]), ". $0; oci_id %s/layout web:2", work), 0);
    return 0;
}

static int remove_images(void **state)
{
    scratch_remove(work);
    return 0;
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, world_setup, world_teardown)
    const struct CMUnitTest tests[] = {
        TEST(images_of_every_form_are_pulled), TEST(password_is_asked_for), TEST(token_is_fetched),
        TEST(archives_of_skopeo_are_loaded),   TEST(certificates_count),
    };
    char tools[500];

    /* <root>/build/<mode>/shoal-job */
    snprintf(script, sizeof(script), "%s", built_program("shoal-job"));
    *strstr(script, "/build/") = '\0';
    snprintf(script + strlen(script), sizeof(script) - strlen(script), "/tests/integration/images.sh");
    snprintf(tools, sizeof(tools), "%s", built_program("tests/integration/tools"));
    setenv("IMAGES_TOOLS", tools, 1);
    if (getuid() != 0) {
        puts("skip registry_test: needs root, for the helpers to confine themselves");
        return 0;
    }
    if (make_images() < 0)
        return 0;
    return cmocka_run_group_tests(tests, NULL, remove_images);
}
