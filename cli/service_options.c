/* The options of `shoal service create` and `update`: what both have, then what each has. What they become is in
 * service_spec.c and service_update.c. --secret, --config and --credential-spec come with secrets and configs. */
#include "cli/service.h"

#define PACE(prefix, what)                                                                                 \
    {.name = prefix "-delay",                                                                              \
     .type = &option_duration,                                                                             \
     .help = "Pause after each " what " task (0s when not set)"},                                          \
        {.name = prefix "-max-failure-ratio",                                                              \
         .type = &option_float,                                                                            \
         .help = "Part of the tasks that may fail, 0 to 1 (0 when not set)"},                              \
        {.name = prefix "-monitor",                                                                        \
         .type = &option_duration,                                                                         \
         .help = "How long a new task is watched for failure (5s when not set)"},                          \
        {.name = prefix "-order",                                                                          \
         .type = &option_string,                                                                           \
         .help = "Which task goes first: stop-first ends the old one before (when not set), start-first"}, \
    {                                                                                                      \
        .name = prefix "-parallelism", .type = &option_uint,                                               \
        .help = "Tasks " what " at once, 0: all (1 when not set)"                                          \
    }

const struct option service_common_options[] = {
    {.name = "cap-add", .type = &option_list, .help = "Add a Linux capability"},
    {.name = "cap-drop", .type = &option_list, .help = "Drop a Linux capability"},
    {.name = "detach",
     .letter = 'd',
     .type = &option_switch,
     .help = "Do not wait until the service has converged"},
    {.name = "entrypoint", .type = &option_command, .help = "Replace the image's ENTRYPOINT"},
    {.name = "health-cmd", .type = &option_string, .help = "Command that tells whether a task is healthy"},
    {.name = "health-interval", .type = &option_duration_positive, .help = "Time between two checks"},
    {.name = "health-retries", .type = &option_int, .help = "Failures in a row that make a task unhealthy"},
    {.name = "health-start-interval",
     .type = &option_duration_positive,
     .help = "Time between two checks while a task still starts"},
    {.name = "health-start-period",
     .type = &option_duration_positive,
     .help = "Time for starting, in which failures do not count"},
    {.name = "health-timeout", .type = &option_duration_positive, .help = "Longest time that one check may take"},
    {.name = "hostname", .type = &option_string, .help = "Host name of the containers"},
    {.name = "init",
     .type = &option_switch,
     .help = "Run a small init as process 1: it reaps and passes signals on"},
    {.name = "isolation", .type = &option_string, .help = "How containers are isolated"},
    {.name = "limit-cpu", .type = &option_decimal, .help = "Limit each task to this many CPUs"},
    {.name = "limit-memory", .type = &option_bytes, .help = "Limit the memory of each task"},
    {.name = "limit-pids", .type = &option_int, .help = "Limit the processes of each task; 0: no limit"},
    {.name = "log-driver", .type = &option_string, .help = "Where the tasks' output goes"},
    {.name = "log-opt", .type = &option_env, .help = "Set an option of the log driver: key=value"},
    {.name = "max-concurrent",
     .type = &option_uint,
     .help = "Tasks of a job that run at once (as many as --replicas when not set)"},
    {.name = "no-healthcheck", .type = &option_switch, .help = "Ignore the image's HEALTHCHECK"},
    {.name = "no-resolve-image", .type = &option_switch, .help = "Do not ask the registry for the image's digest"},
    {.name = "oom-score-adj",
     .type = &option_int,
     .help = "How readily a task is killed when memory is short: -1000 to 1000"},
    {.name = "quiet", .letter = 'q', .type = &option_switch, .help = "No progress"},
    {.name = "read-only", .type = &option_switch, .help = "Mount the root file system of containers read-only"},
    {.name = "replicas", .type = &option_uint, .help = "Number of tasks"},
    {.name = "replicas-max-per-node", .type = &option_uint, .help = "Tasks that one node may have; 0: any number"},
    {.name = "reserve-cpu", .type = &option_decimal, .help = "Reserve this many CPUs for each task"},
    {.name = "reserve-memory", .type = &option_bytes, .help = "Reserve memory for each task"},
    {.name = "restart-condition",
     .type = &option_string,
     .help = "When an ended task is replaced: none, on-failure, any (when not set)"},
    {.name = "restart-delay",
     .type = &option_duration,
     .help = "Pause before the replacement starts (5s when not set)"},
    {.name = "restart-max-attempts", .type = &option_uint, .help = "Replacements of one task; 0: any number"},
    {.name = "restart-window", .type = &option_duration, .help = "Count only replacements within this time"},
    {.name = "rollback-failure-action",
     .type = &option_string,
     .help = "When too many tasks fail: pause (when not set), continue"},
    PACE("rollback", "rolled back"),
    {.name = "stop-grace-period",
     .type = &option_duration,
     .help = "Time between the stop signal and the kill (10s when not set)"},
    {.name = "stop-signal", .type = &option_string, .help = "The signal that stops a task"},
    {.name = "tty", .letter = 't', .type = &option_switch, .help = "Give containers a terminal"},
    {.name = "update-failure-action",
     .type = &option_string,
     .help = "When too many tasks fail: pause (when not set), continue, rollback"},
    PACE("update", "updated"),
    {.name = "user", .letter = 'u', .type = &option_string, .help = "Run as this user: name or id[:group or id]"},
    {.name = "with-registry-auth",
     .type = &option_switch,
     .help = "Give nodes this client's login for the registry"},
    {.name = "workdir", .letter = 'w', .type = &option_string, .help = "Working directory of the containers"},
    {0}};

const struct option service_create_options[] = {
    {.name = "constraint", .type = &option_list, .help = "Only nodes that fit: node.labels.zone==a"},
    {.name = "container-label", .type = &option_labels, .help = "Set a label of the containers: key=value"},
    {.name = "dns", .type = &option_addresses, .help = "Ask this name server"},
    {.name = "dns-option", .type = &option_list, .help = "Set an option of resolv.conf"},
    {.name = "dns-search", .type = &option_domains, .help = "Search names in this domain"},
    {.name = "endpoint-mode",
     .type = &option_string,
     .standard = "vip",
     .help = "How its name resolves: vip (one address for all) or dnsrr (one for each task)"},
    {.name = "env",
     .letter = 'e',
     .type = &option_env,
     .help = "Set a variable: NAME=value, or NAME to pass it on"},
    {.name = "env-file", .type = &option_list, .help = "Set the variables in this file"},
    {.name = "generic-resource", .type = &option_generic, .help = "Reserve what nodes declare: KIND=N"},
    {.name = "group", .type = &option_list, .help = "Put the user into another group"},
    {.name = "host", .type = &option_hosts, .help = "Add a name to /etc/hosts: name:address"},
    {.name = "label", .letter = 'l', .type = &option_labels, .help = "Set a label of the service: key=value"},
    {.name = "mode",
     .type = &option_string,
     .standard = "replicated",
     .help = "How tasks are counted: replicated, global (one on every node), replicated-job, global-job"},
    {.name = "mount",
     .type = &option_mount,
     .help = "Mount a volume, directory or tmpfs: type=,source=,target=,..."},
    {.name = "name", .type = &option_string, .help = "The service's name"},
    {.name = "network", .type = &option_network, .help = "Connect it to a network"},
    {.name = "placement-pref", .type = &option_preference, .help = "Spread tasks: spread=node.labels.zone"},
    {.name = "publish",
     .letter = 'p',
     .type = &option_port,
     .help = "Publish a port: published:target[/protocol], or published=,target=,mode="},
    {.name = "sysctl", .type = &option_list, .help = "Set a kernel parameter: name=value"},
    {.name = "ulimit", .type = &option_ulimit, .help = "Set a resource limit: name=soft[:hard]"},
    {0}};

#define BOTH(option, add_type, what)                                       \
    {.name = option "-add", .type = add_type, .help = "Set or add " what}, \
    {                                                                      \
        .name = option "-rm", .type = &option_list, .help = "Remove " what \
    }

const struct option service_update_options[] = {
    {.name = "args", .type = &option_command, .help = "Replace the arguments of the command"},
    BOTH("constraint", &option_list, "a constraint: node.labels.zone==a"),
    BOTH("container-label", &option_labels, "a label of the containers"),
    BOTH("dns", &option_addresses, "a name server"),
    BOTH("dns-option", &option_list, "an option of resolv.conf"),
    BOTH("dns-search", &option_domains, "a search domain"),
    {.name = "endpoint-mode", .type = &option_string, .help = "How its name resolves: vip or dnsrr"},
    BOTH("env", &option_env, "a variable"),
    {.name = "force", .type = &option_switch, .help = "Replace every task although nothing changes"},
    BOTH("generic-resource", &option_generic, "a reservation of what nodes declare"),
    BOTH("group", &option_list, "a group of the user"),
    BOTH("host", &option_hosts, "a name of /etc/hosts"),
    {.name = "image", .type = &option_string, .help = "Another image"},
    BOTH("label", &option_labels, "a label of the service"),
    BOTH("mount", &option_mount, "a mount (removed by its target)"),
    BOTH("network", &option_network, "a network"),
    {.name = "placement-pref-add", .type = &option_preference, .help = "Add a placement preference"},
    {.name = "placement-pref-rm", .type = &option_preference, .help = "Remove a placement preference"},
    {.name = "publish-add", .type = &option_port, .help = "Add a published port"},
    {.name = "publish-rm", .type = &option_port, .help = "Remove a published port, by its target"},
    {.name = "rollback", .type = &option_switch, .help = "Go back to the specification before this one"},
    BOTH("sysctl", &option_list, "a kernel parameter"),
    BOTH("ulimit", &option_ulimit, "a resource limit"),
    {0}};
