/* The types of options: what a value must look like, with docker's words when it does not. See option.h. */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/attach.h"
#include "cli/option.h"
#include "proto/base/mem.h"

static int check_switch(struct arena *a, const char **text, struct err *e)
{
    bool value;

    return value_bool(*text, &value, e);
}

static int check_int(struct arena *a, const char **text, struct err *e)
{
    int64_t value;

    return value_int(*text, 0, 64, &value, e);
}

static int check_uint(struct arena *a, const char **text, struct err *e)
{
    uint64_t value;

    return value_uint(*text, 0, 64, &value, e);
}

static int check_uint16(struct arena *a, const char **text, struct err *e)
{
    uint64_t value;

    return value_uint(*text, 0, 16, &value, e);
}

static int check_uint32(struct arena *a, const char **text, struct err *e)
{
    uint64_t value;

    return value_uint(*text, 0, 32, &value, e);
}

static int check_float(struct arena *a, const char **text, struct err *e)
{
    double value;

    return value_real(*text, &value, e);
}

static int check_duration(struct arena *a, const char **text, struct err *e)
{
    int64_t value;

    return value_duration(*text, &value, e);
}

static int check_duration_positive(struct arena *a, const char **text, struct err *e)
{
    int64_t value;
    int rc = value_duration(*text, &value, e);

    if (rc == 0 && value < 0)
        return err_set(e, ERR_INVALID, "duration cannot be negative");
    return rc;
}

static int check_bytes(struct arena *a, const char **text, struct err *e)
{
    int64_t value;

    return value_bytes(*text, &value, e);
}

static int check_bytes_or_all(struct arena *a, const char **text, struct err *e)
{
    return strcmp(*text, "-1") == 0 ? 0 : check_bytes(a, text, e);
}

static int check_decimal(struct arena *a, const char **text, struct err *e)
{
    int64_t value;

    return value_cpus(*text, &value, e);
}

static int check_filter(struct arena *a, const char **text, struct err *e)
{
    if (**text && !strchr(*text, '='))
        return err_set(e, ERR_INVALID, "bad format of filter (expected name=value)");
    return 0;
}

static int check_command(struct arena *a, const char **text, struct err *e)
{
    const char **words;
    size_t count;

    return value_words(a, *text, &words, &count, e);
}

static int check_label(struct arena *a, const char **text, struct err *e)
{
    return value_label(*text, e);
}

static int check_env(struct arena *a, const char **text, struct err *e)
{
    char *value;
    int rc = value_env(a, *text, environ, &value, e);

    if (rc == 0)
        *text = value;
    return rc;
}

static int check_host(struct arena *a, const char **text, struct err *e)
{
    char *value;
    int rc = value_host(a, *text, &value, e);

    if (rc == 0)
        *text = value;
    return rc;
}

static int check_address(struct arena *a, const char **text, struct err *e)
{
    char value[64];
    int rc = value_address(*text, value, e);

    if (rc == 0)
        *text = arena_strdup(a, value);
    return rc;
}

static int check_domain(struct arena *a, const char **text, struct err *e)
{
    char *value;
    int rc = value_domain(a, *text, &value, e);

    if (rc == 0)
        *text = value;
    return rc;
}

static int check_mount(struct arena *a, const char **text, struct err *e)
{
    struct attach_mount value;

    return attach_mount(a, *text, "", &value, e);
}

static int check_port(struct arena *a, const char **text, struct err *e)
{
    struct attach_port *value;
    size_t count;

    return attach_ports(a, *text, &value, &count, e);
}

static int check_network(struct arena *a, const char **text, struct err *e)
{
    struct attach_network value;

    return attach_network(a, *text, &value, e);
}

static int check_ulimit(struct arena *a, const char **text, struct err *e)
{
    struct value_ulimit value;

    return value_ulimit(*text, &value, e);
}

static int check_preference(struct arena *a, const char **text, struct err *e)
{
    const char *strategy;

    if (!value_cut(a, *text, '=', &strategy) || !*strategy)
        return err_set(e, ERR_INVALID, "placement preference must be of the format \"<strategy>=<arg>\"");
    if (strcmp(strategy, "spread") != 0)
        return err_set(e, ERR_INVALID, "unsupported placement preference %s (only spread is supported)", strategy);
    return 0;
}

static int check_generic(struct arena *a, const char **text, struct err *e)
{
    return value_generic(*text, e);
}

static int check_credential(struct arena *a, const char **text, struct err *e)
{
    static const char *const prefixes[] = {"config://", "file://", "registry://"};

    for (size_t i = 0; i < ARRAY_SIZE(prefixes); i++)
        if (strncmp(*text, prefixes[i], strlen(prefixes[i])) == 0)
            return 0;
    return **text ? err_set(e, ERR_INVALID,
                            "invalid credential spec: value must be prefixed with \"config://\", \"file://\", or "
                            "\"registry://\"")
                  : 0;
}

static int check_link(struct arena *a, const char **text, struct err *e)
{
    const char *colon = strchr(*text, ':');

    if (!**text)
        return err_set(e, ERR_INVALID, "empty string specified for links");
    if (colon && strchr(colon + 1, ':'))
        return err_set(e, ERR_INVALID, "bad format for links: %s", *text);
    return 0;
}

static int check_stream(struct arena *a, const char **text, struct err *e)
{
    static const char *const names[] = {"stdin", "stdout", "stderr"};

    for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
        if (strcasecmp(*text, names[i]) == 0) {
            *text = names[i];
            return 0;
        }
    }
    return err_set(e, ERR_INVALID, "valid streams are STDIN, STDOUT and STDERR");
}

static int check_sysctl(struct arena *a, const char **text, struct err *e)
{
    static const char *const allowed[] = {
        "kernel.msgmax=", "kernel.msgmnb=", "kernel.msgmni=",          "kernel.sem=", "kernel.shmall=",
        "kernel.shmmax=", "kernel.shmmni=", "kernel.shm_rmid_forced=", "net.",        "fs.mqueue."};

    for (size_t i = 0; strchr(*text, '=') && i < ARRAY_SIZE(allowed); i++)
        if (strncmp(*text, allowed[i], strlen(allowed[i])) == 0)
            return 0;
    return err_set(e, ERR_INVALID, "sysctl '%s' is not allowed", *text);
}

/* "address", "address:port", ":port", "interface": the port of the standard is added when there is none. */
static int check_node_address(struct arena *a, const char **text, struct err *e)
{
    const char *colon = strrchr(*text, ':'), *bracket = strrchr(*text, ']');
    uint64_t port;
    struct err ignored;

    if (strstr(*text, "://") || !**text)
        return err_set(e, ERR_INVALID, "invalid proto, expected tcp: %s", *text);
    if (!colon || (bracket && bracket > colon) || (!bracket && strchr(*text, ':') != colon)) {
        bool plain6 = !bracket && colon;

        *text = arena_printf(a, "%s%s%s:2377", plain6 ? "[" : "", *text, plain6 ? "]" : "");
        return 0;
    }
    if (colon[1] && value_uint(colon + 1, 10, 16, &port, &ignored) < 0)
        return err_set(e, ERR_INVALID, "invalid bind address format: %s", *text);
    *text = arena_printf(a, "%s%.*s:%s", colon == *text ? "0.0.0.0" : "", (int)(colon - *text), *text,
                         colon[1] ? colon + 1 : "2377");
    return 0;
}

/* Networks with their prefix, comma-separated. */
static int check_subnets(struct arena *a, const char **text, struct err *e)
{
    const char *rest = *text, *one, *address;
    char canonical[64];
    uint64_t prefix;
    struct err ignored;

    while (rest) {
        rest = value_cut(a, rest, ',', &one);
        const char *bits = value_cut(a, one, '/', &address);
        if (!bits || value_address(address, canonical, &ignored) < 0 ||
            value_uint(bits, 10, 8, &prefix, &ignored) < 0 || prefix > (strchr(address, ':') ? 128 : 32))
            return err_set(e, ERR_INVALID, "invalid string being converted to CIDR: %s", one);
    }
    return 0;
}

const struct option_type option_switch = {"", false, check_switch};
const struct option_type option_string = {"string", false, NULL};
const struct option_type option_list = {"list", true, NULL};
const struct option_type option_strings = {"strings", true, NULL};
const struct option_type option_map = {"map", true, NULL};
const struct option_type option_int = {"int", false, check_int};
const struct option_type option_uint = {"uint", false, check_uint};
const struct option_type option_uint16 = {"uint16", false, check_uint16};
const struct option_type option_uint32 = {"uint32", false, check_uint32};
const struct option_type option_float = {"float", false, check_float};
const struct option_type option_duration = {"duration", false, check_duration};
const struct option_type option_duration_positive = {"duration", false, check_duration_positive};
const struct option_type option_bytes = {"bytes", false, check_bytes};
const struct option_type option_bytes_or_all = {"bytes", false, check_bytes_or_all};
const struct option_type option_decimal = {"decimal", false, check_decimal};
const struct option_type option_filter = {"filter", true, check_filter};
const struct option_type option_command = {"command", false, check_command};
const struct option_type option_labels = {"list", true, check_label};
const struct option_type option_env = {"list", true, check_env};
const struct option_type option_hosts = {"list", true, check_host};
const struct option_type option_addresses = {"list", true, check_address};
const struct option_type option_domains = {"list", true, check_domain};
const struct option_type option_mount = {"mount", true, check_mount};
const struct option_type option_port = {"port", true, check_port};
const struct option_type option_network = {"network", true, check_network};
const struct option_type option_ulimit = {"ulimit", true, check_ulimit};
const struct option_type option_preference = {"pref", true, check_preference};
const struct option_type option_generic = {"list", true, check_generic};
const struct option_type option_credential = {"credential-spec", false, check_credential};
const struct option_type option_links = {"list", true, check_link};
const struct option_type option_streams = {"list", true, check_stream};
const struct option_type option_sysctls = {"map", true, check_sysctl};
const struct option_type option_node_address = {"node-addr", false, check_node_address};
const struct option_type option_subnets = {"ipNetSlice", true, check_subnets};
