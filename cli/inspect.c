/* See inspect.h. */
#include <stdio.h>
#include <string.h>

#include "cli/inspect.h"
#include "cli/template.h"
#include "cli/tree.h"
#include "proto/base/mem.h"

/* The API leaves empty members out, but a template may ask for them: docker answers from its types, we from their
 * names. Sorted by what they are empty of. */
char inspect_zero(const char *of, const char *member)
{
    static const struct {
        char zero;
        const char *names; /* with blanks around each */
    } zeros[] = {
        {'*',
         " Annotation Cluster ClusterVolume ContainerSpec ContainerStatus DNSConfig EndpointSpec Error GC "
         "GlobalJob "
         "Global GraphDriver Health Healthcheck HealthConfig Init JobStatus Limits LogDriver ManagerStatus "
         "MaxAttempts Placement PluginSpec PreviousSpec Privileges Replicated ReplicatedJob Replicas Reservations "
         "Resources RestartPolicy RollbackConfig ServiceStatus Server StopGracePeriod StopTimeout UpdateConfig "
         "UpdateStatus UsageData CompletedAt StartedAt Delay Window BindOptions VolumeOptions TmpfsOptions "
         "Descriptor Metadata "},
        {'"',
         " Addr Architecture Author Comment ContainerID Dir Domainname Err FailureAction Hostname Image Isolation "
         "MacAddress Message Mode Name NetworkID NodeID NodeAddr Order OS Os Parent Protocol PublishMode Runtime "
         "Scope ServiceID Source State StopSignal Target User Variant WorkingDir EngineVersion Variant "},
        {'0',
         " Attempts Disk ExitCode ForceUpdate JobIteration MaxReplicas Memory MemoryBytes NanoCPUs NanoCpus PID "
         "Parallelism Pids PublishedPort Retries SizeRootFs SizeRw Slot TargetPort Managers Nodes VirtualSize "
         "MaxFailureRatio Monitor Interval Timeout StartPeriod StartInterval "},
        {'f',
         " Attachable ConfigOnly ControlAvailable Experimental Ingress Internal Leader OpenStdin ReadOnly TTY Tty "
         "RootRotationInProgress AutoLockManagers "},
        {'[',
         " Aliases Args Binds CapAdd CapDrop CapabilityAdd CapabilityDrop Cmd Command Configs Constraints Drivers "
         "Dns Entrypoint Env ExecIDs Groups Hosts Layers Links Mounts Names Nameservers Networks "
         "NetworksAttachments "
         "OnBuild Plugins Platforms Ports Preferences RemoteManagers RepoDigests RepoTags Search Secrets "
         "SecurityOpt Shell Tags Test Ulimits VirtualIPs Warnings DefaultAddrPool ExternalCAs "},
        {'{', " Attributes DriverOpts ExposedPorts Labels LogOpts Options Sysctls Volumes PortBindings Tmpfs "
              "StorageOpt Annotations "},
    };
    static const char maps[] = " Annotations Attributes DriverOpts ExposedPorts Labels LogOpts Networks Options "
                               "PortBindings Ports StorageOpt Sysctls Tmpfs Volumes ";
    char padded[80];

    if (snprintf(padded, sizeof(padded), " %s ", of) < (int)sizeof(padded) && *of && strstr(maps, padded))
        return '-'; /* its members are the person's, not the API's */
    if (snprintf(padded, sizeof(padded), " %s ", member) >= (int)sizeof(padded))
        return 0;
    for (size_t i = 0; i < ARRAY_SIZE(zeros); i++)
        if (strstr(zeros[i].names, padded))
            return zeros[i].zero;
    return 0;
}

/* One object into `out`: its text for JSON, what the template makes of it otherwise. */
static int add(const struct template *t, const struct buf *raw, const json_t *object, struct buf *out,
               struct err *e)
{
    struct template_data data = {.json = object, .zero = inspect_zero};
    size_t before = out->length;

    if (!t) {
        if (out->length)
            buf_append_char(out, ',');
        buf_append(out, buf_bytes(raw), raw->length);
        return 0;
    }
    int rc = template_run(t, &data, out, e);
    if (rc < 0) {
        out->length = before; /* half an answer is none */
        return err_wrap(e, "template parsing error");
    }
    buf_append_char(out, '\n');
    return 0;
}

static void show(const struct template *t, bool one_line, struct buf *out)
{
    AUTO_BUF struct buf array = {0};
    AUTO_BUF struct buf text = {0};

    if (t) {
        if (!out->length)
            buf_append_char(out, '\n');
        cli_print(out);
        return;
    }
    buf_append_char(&array, '[');
    buf_append(&array, buf_bytes(out), out->length);
    buf_append_char(&array, ']');
    tree_indent(&text, buf_str(&array), array.length, one_line ? 0 : 4);
    buf_append_char(&text, '\n');
    cli_print(&text);
}

int inspect_run(struct cli *cli, const struct args *args, inspect_get get, void *context, struct err *e)
{
    const char *format = args_text(args, "format");
    bool one_line = strcmp(format, "json") == 0;
    struct template *t = NULL;
    AUTO_BUF struct buf out = {0};
    AUTO_BUF struct buf complaints = {0};

    if (*format && !one_line) {
        int rc = template_parse(format, &t, e);

        if (rc < 0)
            return cli_status(cli, 64, err_wrap(e, "template parsing error"));
    }
    for (size_t i = 0; i < args->words_count; i++) {
        AUTO_BUF struct buf raw = {0};
        AUTO_JSON json_t *object = NULL;
        struct err why = {0};
        int rc = get(cli, context, args->words[i], &raw, &object, &why);

        if (rc == 0)
            rc = add(t, &raw, object, &out, &why);
        if (rc < 0)
            buf_printf(&complaints, "%s\n", why.text);
    }
    show(t, one_line, &out);
    template_free(t);
    if (complaints.length) {
        (void)fflush(stdout);
        (void)fputs(buf_str(&complaints), stderr);
        cli->failed = true;
    }
    return 0;
}
