/* The swarm's root certificate: `shoal swarm ca` prints it, or has the cluster change to another and shows how far
 * the nodes are.
 *
 * A rotation is a change of the cluster's specification: either a counter is raised and the managers make a new
 * root, or the person gives one. Every 200 ms the cluster and its nodes are asked for; it is over when every node
 * has a certificate of the new issuer and trusts the new root alone. Ctrl-C ends the wait, not the rotation. */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "cli/progress.h"
#include "cli/swarm.h"
#include "cli/tree.h"
#include "proto/base/file.h"
#include "proto/base/hash.h"
#include "proto/base/mem.h"

#define PEM_MAX   (1024 * 1024)
#define POLL_MS   200
#define DIGEST_ID "desired root digest"
#define CERTS_ID  "  rotated TLS certificates"
#define ROOTS_ID  "  rotated CA certificates"

/* The value of these options is the file's text. */
static int check_pem(struct arena *a, const char **text, struct err *e)
{
    AUTO_BUF struct buf pem = {0};
    int rc = file_read(AT_FDCWD, *text, PEM_MAX, &pem, e);

    if (rc < 0)
        return rc;
    if (!strstr(buf_str(&pem), "-----BEGIN "))
        return err_set(e, ERR_INVALID, "file contents must be in PEM format");
    *text = arena_strdup(a, buf_str(&pem));
    return 0;
}

static const struct option_type pem_file = {"pem-file", false, check_pem};

static const struct option ca_options[] = {
    {.name = "ca-cert", .type = &pem_file, .help = "The file of the root certificate to change to"},
    {.name = "ca-key", .type = &pem_file, .help = "The file of that certificate's key"},
    {.name = "detach", .letter = 'd', .type = &option_switch, .help = "Do not wait until every node has changed"},
    {.name = "quiet", .letter = 'q', .type = &option_switch, .help = "Wait without showing progress"},
    {.name = "rotate", .type = &option_switch, .help = "Change to another root; without it, it is printed"},
    {0}};

static int print_root(const json_t *swarm, struct err *e)
{
    const char *root = tree_text(swarm, "TLSInfo.TrustRoot");
    size_t length = strlen(root);

    if (!length)
        return err_set(e, ERR_NOT_FOUND, "No CA information available");
    while (length && strchr(" \t\r\n", root[length - 1]))
        length--;
    printf("%.*s\n", (int)length, root);
    return 0;
}

/* --- progress ---------------------------------------------------------------------------------------------------
 */

/* Of what the nodes say of their certificates, how much is as the cluster wants it. */
struct rotated {
    int64_t nodes, certs, roots;
};

static bool same(const json_t *a, const json_t *b, const char *member)
{
    return strcmp(tree_text(a, member), tree_text(b, member)) == 0;
}

static struct rotated count_rotated(const json_t *wanted, const json_t *nodes)
{
    struct rotated n = {.nodes = (int64_t)json_array_size(nodes)};
    json_t *node;
    size_t i;

    json_array_foreach(nodes, i, node)
    {
        const json_t *tls = tree_get(node, "Description.TLSInfo");

        n.certs += same(tls, wanted, "CertIssuerPublicKey") && same(tls, wanted, "CertIssuerSubject");
        n.roots += same(tls, wanted, "TrustRoot");
    }
    return n;
}

static void show_bars(struct progress *p, struct rotated n)
{
    const struct progress_bar certs = {.current = n.certs, .total = n.nodes, .units = "nodes"},
                              roots = {.current = n.roots, .total = n.nodes, .units = "nodes"};

    progress_update(p, CERTS_ID, "", &certs);
    progress_update(p, ROOTS_ID, " ", &roots); /* so that the bars stand below each other */
}

static void show_digest(struct progress *p, const char *root)
{
    uint8_t digest[SHA256_BYTES];
    char text[DIGEST_TEXT + 1];

    sha256(root, strlen(root), digest);
    digest_format(digest, text);
    progress_update(p, DIGEST_ID, text, NULL);
}

/* True when the rotation is over. `p` NULL: nothing is shown. */
static bool show_rotation(struct progress *p, const json_t *swarm, const json_t *nodes)
{
    const json_t *wanted = tree_get(swarm, "TLSInfo");
    struct rotated n = count_rotated(wanted, nodes);

    if (n.certs < n.nodes || tree_bool(swarm, "RootRotationInProgress"))
        n.roots = 0; /* they come after the certificates; until then any that match are not final */
    if (p) {
        show_digest(p, tree_text(wanted, "TrustRoot"));
        show_bars(p, n);
    }
    return n.certs == n.nodes && n.roots == n.nodes && !tree_bool(swarm, "RootRotationInProgress");
}

/* 1 when the rotation is over; *ret_swarm is then the cluster as it is. */
static int look(struct cli *cli, struct progress *p, json_t **ret_swarm, struct err *e)
{
    AUTO_BUF struct buf path = {0};
    AUTO_JSON json_t *swarm = NULL;
    AUTO_JSON json_t *nodes = NULL;
    int rc = swarm_get(cli, &swarm, e);

    path_add(&path, "/nodes");
    if (rc == 0)
        rc = cli_get(cli, &path, &nodes, e);
    if (rc < 0 || !show_rotation(p, swarm, nodes))
        return rc;
    *ret_swarm = json_incref(swarm);
    return 1;
}

static void say_interrupted(struct cli *cli, struct progress *p)
{
    AUTO_FREE
    char *advice = mem_printf("Use `%s swarm ca` and `%s node ls` to check progress.", cli->program, cli->program);

    progress_say(p, "", "Operation continuing in background.");
    progress_say(p, "", advice);
}

static int wait_for_nodes(struct cli *cli, bool quiet, struct err *e)
{
    static const struct timespec pause = {.tv_nsec = POLL_MS * 1000000L};
    AUTO_JSON json_t *swarm = NULL;
    struct progress progress;
    int rc = 0;

    cli_catch_interrupt(cli);
    progress_init(&progress, stdout, cli->out_is_terminal);
    if (!quiet) {
        progress_update(&progress, DIGEST_ID, "", NULL);
        show_bars(&progress, (struct rotated){0});
    }
    while (rc == 0 && !cli->stop) {
        rc = look(cli, quiet ? NULL : &progress, &swarm, e);
        if (rc == 0 && !cli->stop)
            (void)nanosleep(&pause, NULL); /* a signal ends it early, as it should */
    }
    if (cli->stop && rc != 1) {
        if (!quiet)
            say_interrupted(cli, &progress);
        rc = 0;
    }
    cli_release_interrupt(cli);
    progress_fini(&progress);
    return rc == 1 && !quiet ? print_root(swarm, e) : rc < 0 ? rc : 0;
}

/* --- the command ------------------------------------------------------------------------------------------------
 */

static int check_options(const struct args *args, struct err *e)
{
    static const char *const rotating[] = {"ca-cert", "ca-key", "cert-expiry", "external-ca"};

    for (size_t i = 0; i < ARRAY_SIZE(rotating); i++)
        if (!args_switch(args, "rotate") && args_has(args, rotating[i]))
            return err_set(e, ERR_INVALID, "`--%s` flag requires the `--rotate` flag to update the CA",
                           rotating[i]);
    if (args_has(args, "external-ca") && !args_has(args, "ca-cert"))
        return err_set(
            e, ERR_INVALID,
            "rotating to an external CA requires the `--ca-cert` flag to specify the external CA's cert - "
            "to add an external CA with the current root CA certificate, use the `update` command instead");
    if (args_has(args, "ca-cert") && !args_has(args, "external-ca") && !args_has(args, "ca-key"))
        return err_set(
            e, ERR_INVALID,
            "the --ca-cert flag requires that a --ca-key flag and/or --external-ca flag be provided as well");
    return 0;
}

static int change_root(json_t *swarm, const struct args *args, struct err *e)
{
    const char *cert = args_text(args, "ca-cert"), *key = args_text(args, "ca-key");
    json_t *spec = tree_object(swarm, "Spec");
    int rc = swarm_spec_ca(spec, args, cert, e);

    if (rc < 0)
        return rc;
    json_t *ca = tree_object(spec, "CAConfig");
    if (*cert)
        tree_put_text(ca, "SigningCACert", cert);
    if (*key)
        tree_put_text(ca, "SigningCAKey", key);
    if (!*cert && !*key) /* the managers make one, as often as this number grows */
        tree_put_int(ca, "ForceRotate", tree_int(ca, "ForceRotate") + 1);
    return 0;
}

static int run_ca(struct cli *cli, const struct args *args, struct err *e)
{
    AUTO_JSON json_t *swarm = NULL;
    int rc = swarm_get(cli, &swarm, e);

    if (rc == 0)
        rc = check_options(args, e);
    if (rc < 0)
        return rc;
    if (!args_switch(args, "rotate"))
        return print_root(swarm, e);
    rc = change_root(swarm, args, e);
    if (rc == 0)
        rc = swarm_send(cli, swarm, ROTATE_NOTHING, e);
    if (rc < 0 || args_switch(args, "detach"))
        return rc;
    return wait_for_nodes(cli, args_switch(args, "quiet"), e);
}

const struct command swarm_ca = {.name = "ca",
                                 .usage = "[OPTIONS]",
                                 .summary = "Show or change the swarm's root certificate",
                                 .options = {ca_options, swarm_ca_options},
                                 .run = run_ca};
