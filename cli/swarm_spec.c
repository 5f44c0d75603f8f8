/* The cluster's specification from the command line: what `shoal swarm init`, `update` and `ca` have in common. */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "cli/swarm.h"
#include "cli/tree.h"
#include "cli/value.h"
#include "proto/base/file.h"

#define PEM_MAX (1024 * 1024)

/* "protocol=cfssl,url=https://...[,cacert=file]": other keys are options of the signer. */
static int external_ca(const char *text, json_t **ret, struct err *e)
{
    AUTO_ARENA struct arena a;
    const char **fields;
    size_t count;
    bool protocol = false, url = false;
    json_t *ca = json_object();

    arena_init(&a);
    int rc = value_fields(&a, text, &fields, &count, e);
    for (size_t i = 0; rc == 0 && i < count; i++) {
        const char *key, *value = value_cut(&a, fields[i], '=', &key);
        AUTO_BUF struct buf pem = {0};

        if (!value) {
            rc = err_set(e, ERR_INVALID, "invalid field '%s' must be a key=value pair", fields[i]);
        } else if (strcasecmp(key, "protocol") == 0) {
            protocol = true;
            if (strcasecmp(value, "cfssl") != 0)
                rc = err_set(e, ERR_INVALID, "unrecognized external CA protocol %s", value);
            tree_put_text(ca, "Protocol", "cfssl");
        } else if (strcasecmp(key, "url") == 0) {
            url = true;
            tree_put_text(ca, "URL", value);
        } else if (strcasecmp(key, "cacert") == 0) {
            rc = file_read(AT_FDCWD, value, PEM_MAX, &pem, e);
            if (rc < 0)
                (void)err_wrap(e, "unable to read CA cert for external CA");
            else if (!strstr(buf_str(&pem), "-----BEGIN "))
                rc = err_set(e, ERR_INVALID, "CA cert for external CA must be in PEM format");
            tree_put_text(ca, "CACert", buf_str(&pem));
        } else {
            tree_put_text(tree_object(ca, "Options"), key, value);
        }
    }
    if (rc == 0 && !protocol)
        rc = err_set(e, ERR_INVALID, "the external-ca option needs a protocol= parameter");
    if (rc == 0 && !url)
        rc = err_set(e, ERR_INVALID, "the external-ca option needs a url= parameter");
    if (rc < 0)
        json_decref(ca);
    else
        *ret = ca;
    return rc;
}

static int check_external_ca(struct arena *a, const char **text, struct err *e)
{
    AUTO_JSON json_t *ca = NULL;

    return external_ca(*text, &ca, e);
}

static const struct option_type external_cas = {"external-ca", true, check_external_ca};

const struct option swarm_ca_options[] = {{.name = "cert-expiry",
                                           .type = &option_duration,
                                           .standard = "2160h0m0s",
                                           .help = "How long the certificates of nodes hold"},
                                          {.name = "external-ca",
                                           .type = &external_cas,
                                           .help = "Have certificates signed elsewhere: protocol=cfssl,url=..."},
                                          {0}};

const struct option swarm_spec_options[] = {
    {.name = "autolock", .type = &option_switch, .help = "Keep managers' keys locked until an unlock key is given"},
    {.name = "dispatcher-heartbeat",
     .type = &option_duration,
     .standard = "5s",
     .help = "How often nodes say that they live"},
    {.name = "max-snapshots", .type = &option_uint, .help = "Old snapshots to keep besides the newest"},
    {.name = "snapshot-interval",
     .type = &option_uint,
     .standard = "10000",
     .help = "Log entries between two snapshots"},
    {.name = "task-history-limit",
     .type = &option_int,
     .standard = "5",
     .help = "Ended tasks to keep for each slot"},
    {0}};

int swarm_spec_ca(json_t *spec, const struct args *args, const char *ca_cert, struct err *e)
{
    const char *text;

    if (args_has(args, "cert-expiry"))
        tree_put_int(tree_object(spec, "CAConfig"), "NodeCertExpiry", args_duration(args, "cert-expiry"));
    if (args_has(args, "external-ca"))
        tree_put(tree_object(spec, "CAConfig"), "ExternalCAs", json_array());
    for (size_t at = 0; (text = args_next(args, "external-ca", &at));) {
        json_t *ca = NULL;
        int rc = external_ca(text, &ca, e);

        if (rc < 0)
            return rc;
        if (*ca_cert && !*tree_text(ca, "CACert"))
            tree_put_text(ca, "CACert", ca_cert);
        tree_append(tree_array(spec, "CAConfig.ExternalCAs"), ca);
    }
    return 0;
}

int swarm_spec(json_t *spec, const struct args *args, const char *ca_cert, struct err *e)
{
    if (args_has(args, "task-history-limit"))
        tree_put_int(tree_object(spec, "Orchestration"), "TaskHistoryRetentionLimit",
                     args_int(args, "task-history-limit"));
    if (args_has(args, "dispatcher-heartbeat"))
        tree_put_int(tree_object(spec, "Dispatcher"), "HeartbeatPeriod",
                     args_duration(args, "dispatcher-heartbeat"));
    if (args_has(args, "max-snapshots"))
        tree_put_int(tree_object(spec, "Raft"), "KeepOldSnapshots", (int64_t)args_uint(args, "max-snapshots"));
    if (args_has(args, "snapshot-interval"))
        tree_put_int(tree_object(spec, "Raft"), "SnapshotInterval", (int64_t)args_uint(args, "snapshot-interval"));
    if (args_has(args, "autolock"))
        tree_put_bool(tree_object(spec, "EncryptionConfig"), "AutoLockManagers", args_switch(args, "autolock"));
    return swarm_spec_ca(spec, args, ca_cert, e);
}
