/* What a create request may ask for: every field that the API documents (engine-api.yaml, v1.45) is taken with its
 * default, and another value of it either reaches the kernel, which is looked at from inside the container or in
 * its control groups, or is refused with its name and that value. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "engine/container/container.h"
#include "tests/support/rigged.h"

enum where { TOP, HOST };

static const struct field {
    enum where where;
    const char *name;
    const char *usual;   /* Docker's default, as its client sends it */
    const char *other;   /* and another value */
    int status;          /* of a create with the other value */
    const char *refusal; /* what its message says; NULL: it is taken */
} fields[] = {
    /* ContainerConfig */
    {TOP, "Hostname", "\"\"", "\"box\"", 201, NULL},
    {TOP, "Hostname", "null", "\"not a name\"", 400, "Hostname: \"not a name\""},
    {TOP, "Domainname", "\"\"", "\"example\"", 201, NULL},
    {TOP, "User", "\"\"", "\"web\"", 201, NULL},
    {TOP, "AttachStdin", "false", "true", 201, NULL},
    {TOP, "AttachStdout", "false", "true", 201, NULL},
    {TOP, "AttachStderr", "false", "true", 201, NULL},
    {TOP, "ExposedPorts", "{}", "{\"80/tcp\":{}}", 201, NULL},
    {TOP, "Tty", "false", "true", 201, NULL},
    {TOP, "OpenStdin", "false", "true", 201, NULL},
    {TOP, "StdinOnce", "false", "true", 201, NULL},
    {TOP, "Env", "[]", "[\"A=1\"]", 201, NULL},
    {TOP, "Cmd", "null", "[\"true\"]", 201, NULL},
    {TOP, "Healthcheck", "null", "{\"Test\":[\"NONE\"]}", 201, NULL},
    {TOP, "Healthcheck", "{}", "{\"Test\":[\"CMD\",\"probe\"]}", 501, "Healthcheck (CMD probe)"},
    {TOP, "ArgsEscaped", "false", "true", 400, "ArgsEscaped (true)"},
    {TOP, "Volumes", "{}", "{\"/v\":{}}", 201, NULL},
    {TOP, "WorkingDir", "\"\"", "\"/srv\"", 201, NULL},
    {TOP, "WorkingDir", "null", "\"srv\"", 400, "\"srv\""},
    {TOP, "Entrypoint", "null", "[\"true\"]", 201, NULL},
    {TOP, "NetworkDisabled", "false", "true", 201, NULL},
    {TOP, "MacAddress", "\"\"", "\"02:42:ac:11:00:02\"", 501, "MacAddress (\"02:42:ac:11:00:02\")"},
    {TOP, "OnBuild", "null", "[\"RUN x\"]", 501, "OnBuild ([\"RUN x\"])"},
    {TOP, "Labels", "{}", "{\"a\":\"b\"}", 201, NULL},
    {TOP, "StopSignal", "\"\"", "\"SIGUSR1\"", 201, NULL},
    {TOP, "StopSignal", "null", "\"SIGNONE\"", 400, "SIGNONE"},
    {TOP, "StopTimeout", "null", "3", 201, NULL},
    {TOP, "Shell", "null", "[\"/bin/sh\",\"-c\"]", 201, NULL},
    /* HostConfig */
    {HOST, "Binds", "null", "[\"data:/data\"]", 201, NULL},
    {HOST, "Binds", "[]", "[\"nowhere\"]", 400, "'nowhere'"},
    {HOST, "ContainerIDFile", "\"\"", "\"/tmp/cid\"", 201, NULL},
    {HOST, "LogConfig", "{\"Type\":\"\",\"Config\":{}}", "{\"Type\":\"none\"}", 201, NULL},
    {HOST, "LogConfig", "{\"Type\":\"json-file\",\"Config\":{\"compress\":\"false\",\"mode\":\"blocking\"}}",
     "{\"Type\":\"json-file\",\"Config\":{\"max-size\":\"1m\",\"max-file\":\"2\"}}", 201, NULL},
    {HOST, "LogConfig", "null", "{\"Type\":\"syslog\"}", 501, "\"syslog\""},
    {HOST, "LogConfig", "{}", "{\"Type\":\"mine\"}", 400, "'mine'"},
    {HOST, "LogConfig", "{}", "{\"Config\":{\"compress\":\"true\"}}", 501, "compress=true"},
    {HOST, "LogConfig", "{}", "{\"Config\":{\"mode\":\"non-blocking\"}}", 501, "mode=non-blocking"},
    {HOST, "LogConfig", "{}", "{\"Config\":{\"tag\":\"x\"}}", 501, "tag=x"},
    {HOST, "LogConfig", "{}", "{\"Config\":{\"labels\":\"x\"}}", 501, "labels=x"},
    {HOST, "LogConfig", "{}", "{\"Config\":{\"env\":\"x\"}}", 501, "env=x"},
    {HOST, "LogConfig", "{}", "{\"Config\":{\"max-buffer-size\":\"1m\"}}", 501, "max-buffer-size=1m"},
    {HOST, "LogConfig", "{}", "{\"Config\":{\"wrong\":\"x\"}}", 400, "'wrong'"},
    {HOST, "NetworkMode", "\"default\"", "\"host\"", 201, NULL},
    {HOST, "NetworkMode", "\"\"", "\"bridge\"", 501, "\"bridge\""},
    {HOST, "NetworkMode", "null", "\"container:x\"", 501, "\"container:x\""},
    {HOST, "PortBindings", "{}", "{\"80/tcp\":[{\"HostPort\":\"8080\"}]}", 501, "port 80 at \":8080\""},
    {HOST, "RestartPolicy", "{\"Name\":\"no\",\"MaximumRetryCount\":0}", "{\"Name\":\"always\"}", 201, NULL},
    {HOST, "RestartPolicy", "null", "{\"Name\":\"sometimes\"}", 400, "'sometimes'"},
    {HOST, "AutoRemove", "false", "true", 201, NULL},
    {HOST, "VolumeDriver", "\"\"", "\"local\"", 201, NULL},
    {HOST, "VolumeDriver", "null", "\"nfs\"", 404, "nfs"},
    {HOST, "VolumesFrom", "null", "[\"seed\"]", 201, NULL},
    {HOST, "VolumesFrom", "[]", "[\"nobody\"]", 404, "nobody"},
    {HOST, "Mounts", "null", "[{\"Type\":\"tmpfs\",\"Target\":\"/t\"}]", 201, NULL},
    {HOST, "Mounts", "[]", "[{\"Type\":\"cluster\",\"Target\":\"/t\"}]", 501, "\"cluster\""},
    {HOST, "ConsoleSize", "[0,0]", "[25,80]", 201, NULL},
    {HOST, "Annotations", "null", "{\"a\":\"b\"}", 201, NULL},
    {HOST, "CapAdd", "null", "[\"NET_ADMIN\"]", 201, NULL},
    {HOST, "CapAdd", "[]", "[\"FLY\"]", 400, "\"FLY\""},
    {HOST, "CapDrop", "null", "[\"ALL\"]", 201, NULL},
    {HOST, "CgroupnsMode", "\"\"", "\"host\"", 201, NULL},
    {HOST, "CgroupnsMode", "\"private\"", "\"mine\"", 400, "mine"},
    {HOST, "Dns", "null", "[\"9.9.9.9\"]", 201, NULL},
    {HOST, "Dns", "[]", "[\"dns\"]", 400, "\"dns\""},
    {HOST, "DnsOptions", "[]", "[\"ndots:2\"]", 201, NULL},
    {HOST, "DnsSearch", "[]", "[\"example\"]", 201, NULL},
    {HOST, "ExtraHosts", "null", "[\"db:10.0.0.2\"]", 201, NULL},
    {HOST, "ExtraHosts", "[]", "[\"x:host-gateway\"]", 501, "host-gateway"},
    {HOST, "GroupAdd", "null", "[\"audio\"]", 201, NULL},
    {HOST, "IpcMode", "\"\"", "\"none\"", 201, NULL},
    {HOST, "IpcMode", "\"private\"", "\"container:x\"", 501, "\"container:x\""},
    {HOST, "Cgroup", "\"\"", "\"mine\"", 501, "Cgroup (\"mine\")"},
    {HOST, "Links", "null", "[\"db:db\"]", 501, "\"db:db\""},
    {HOST, "OomScoreAdj", "0", "500", 201, NULL},
    {HOST, "OomScoreAdj", "null", "5000", 400, "5000"},
    {HOST, "PidMode", "\"\"", "\"host\"", 201, NULL},
    {HOST, "PidMode", "null", "\"container:x\"", 501, "\"container:x\""},
    {HOST, "Privileged", "false", "true", 201, NULL},
    {HOST, "PublishAllPorts", "false", "true", 501, "PublishAllPorts: true"},
    {HOST, "ReadonlyRootfs", "false", "true", 201, NULL},
    {HOST, "SecurityOpt", "null", "[\"no-new-privileges\"]", 201, NULL},
    {HOST, "SecurityOpt", "[]", "[\"apparmor=mine\"]", 501, "\"apparmor=mine\""},
    {HOST, "SecurityOpt", "[\"apparmor=unconfined\"]", "[\"label=type:mine\"]", 501, "\"label=type:mine\""},
    {HOST, "SecurityOpt", "[\"label=disable\"]", "[\"writable-cgroups=true\"]", 400, "writable-cgroups=true"},
    {HOST, "StorageOpt", "null", "{\"size\":\"1G\"}", 501, "StorageOpt ({\"size\":\"1G\"})"},
    {HOST, "Tmpfs", "null", "{\"/run\":\"size=1m\"}", 201, NULL},
    {HOST, "Tmpfs", "{}", "{\"/run\":\"colour=red\"}", 400, "colour=red"},
    {HOST, "UTSMode", "\"\"", "\"host\"", 201, NULL},
    {HOST, "UTSMode", "null", "\"mine\"", 400, "mine"},
    {HOST, "UTSMode", "null", "\"host\"},\"Hostname\":\"box\",\"X\":{\"a\":0", 400, "hostname and the UTS mode"},
    {HOST, "UsernsMode", "\"\"", "\"host\"", 201, NULL},
    {HOST, "UsernsMode", "null", "\"mine\"", 400, "mine"},
    {HOST, "ShmSize", "0", "1048576", 201, NULL},
    {HOST, "Sysctls", "null", "{\"net.ipv4.ip_forward\":\"1\"}", 201, NULL},
    {HOST, "Sysctls", "{}", "{\"vm.swappiness\":\"1\"}", 400, "vm.swappiness"},
    {HOST, "Runtime", "\"\"", "\"runc\"", 400, "runc"},
    {HOST, "Isolation", "\"\"", "\"default\"", 201, NULL},
    {HOST, "Isolation", "null", "\"hyperv\"", 400, "hyperv"},
    {HOST, "MaskedPaths", "null", "[]", 201, NULL},
    {HOST, "ReadonlyPaths", "null", "[\"/proc/sys\"]", 201, NULL},
    /* Resources */
    {HOST, "CpuShares", "0", "512", 201, NULL},
    {HOST, "Memory", "0", "16777216", 201, NULL},
    {HOST, "Memory", "null", "4096", 400, "HostConfig.Memory: 4096"},
    {HOST, "CgroupParent", "\"\"", "\"mine\"", 201, NULL},
    {HOST, "CgroupParent", "null", "\"/mine/jobs\"", 201, NULL},
    {HOST, "CgroupParent", "\"/\"", "\"../mine\"", 400, "HostConfig.CgroupParent \"../mine\""},
    {HOST, "CgroupParent", "\"\"", "\"/mine/..\"", 400, "HostConfig.CgroupParent \"/mine/..\""},
    {HOST, "BlkioWeight", "0", "300", 201, NULL},
    {HOST, "BlkioWeightDevice", "[]", "[{\"Path\":\"/dev/x\",\"Weight\":5}]", 501,
     "BlkioWeightDevice ([{\"Path\":\"/dev/x\",\"Weight\":5}])"},
    {HOST, "BlkioDeviceReadBps", "[]", "[{\"Path\":\"/dev/x\",\"Rate\":5}]", 501, "BlkioDeviceReadBps ("},
    {HOST, "BlkioDeviceWriteBps", "null", "[{\"Path\":\"/dev/x\",\"Rate\":5}]", 501, "BlkioDeviceWriteBps ("},
    {HOST, "BlkioDeviceReadIOps", "[]", "[{\"Path\":\"/dev/x\",\"Rate\":5}]", 501, "BlkioDeviceReadIOps ("},
    {HOST, "BlkioDeviceWriteIOps", "[]", "[{\"Path\":\"/dev/x\",\"Rate\":5}]", 501, "BlkioDeviceWriteIOps ("},
    {HOST, "CpuPeriod", "0", "50000", 201, NULL},
    {HOST, "CpuPeriod", "null", "5", 400, "HostConfig.CpuPeriod: 5"},
    {HOST, "CpuQuota", "0", "20000", 201, NULL},
    {HOST, "CpuRealtimePeriod", "0", "1000", 501, "CpuRealtimePeriod (1000)"},
    {HOST, "CpuRealtimeRuntime", "0", "1000", 501, "CpuRealtimeRuntime (1000)"},
    {HOST, "CpusetCpus", "\"\"", "\"0\"", 201, NULL},
    {HOST, "CpusetCpus", "null", "\"900\"", 400, "900"},
    {HOST, "CpusetMems", "\"\"", "\"0\"", 201, NULL},
    {HOST, "Devices", "[]", "[{\"PathOnHost\":\"/dev/null\",\"PathInContainer\":\"/dev/x\"}]", 201, NULL},
    {HOST, "DeviceCgroupRules", "null", "[\"c 13:* rwm\"]", 201, NULL},
    {HOST, "DeviceCgroupRules", "[]", "[\"everything\"]", 400, "everything"},
    {HOST, "DeviceRequests", "null", "[{\"Driver\":\"nvidia\"}]", 501,
     "DeviceRequests ([{\"Driver\":\"nvidia\"}])"},
    {HOST, "KernelMemory", "0", "1000", 501, "KernelMemory (1000)"},
    {HOST, "KernelMemoryTCP", "0", "1000", 501, "KernelMemoryTCP (1000)"},
    {HOST, "MemoryReservation", "0", "16777216", 201, NULL},
    {HOST, "MemorySwap", "0", "-1", 201, NULL},
    {HOST, "MemorySwappiness", "-1", "60", 201, NULL},
    {HOST, "NanoCpus", "0", "500000000", 201, NULL},
    {HOST, "NanoCpus", "null", "5", 400, "HostConfig.NanoCpus: 5"},
    {HOST, "OomKillDisable", "false", "true", 201, NULL},
    {HOST, "Init", "null", "true", 501, "HostConfig.Init (true)"},
    {HOST, "PidsLimit", "0", "100", 201, NULL},
    {HOST, "Ulimits", "null", "[{\"Name\":\"nofile\",\"Soft\":10,\"Hard\":20}]", 201, NULL},
    {HOST, "Ulimits", "[]", "[{\"Name\":\"files\",\"Soft\":10,\"Hard\":20}]", 400, "files"},
    {HOST, "CpuCount", "0", "2", 400, "CpuCount (2)"},
    {HOST, "CpuPercent", "0", "3", 400, "CpuPercent (3)"},
    {HOST, "IOMaximumIOps", "0", "4", 400, "IOMaximumIOps (4)"},
    {HOST, "IOMaximumBandwidth", "0", "5", 400, "IOMaximumBandwidth (5)"},
};

static void create_with(const struct field *f, const char *value, int status, const char *refusal)
{
    const char *network = strcmp(f->name, "NetworkMode") == 0 ? "" : "\"NetworkMode\":\"none\",";
    const char *member = arena_printf(&arena, "\"%s\":%s", f->name, value);
    const char *body =
        arena_printf(&arena, "{\"Image\":\"box:1\",%s%s\"HostConfig\":{%s%s}}", f->where == TOP ? member : "",
                     f->where == TOP ? "," : "", network, f->where == HOST ? member : "\"Privileged\":false");
    const char *message;
    json_t *answer;
    int got = ask("POST", "/containers/create", body, &answer);

    message = json_string_value(json_object_get(answer, "message"));
    if (got != status || (refusal && (!message || !strstr(message, refusal))))
        fail_msg("%s: %d %s", body, got, message ? message : "");
    json_decref(answer);
}

static void every_documented_field_is_taken_or_refused_by_name_and_value(void **state)
{
    need_machine();
    create("seed", "", "");
    for (size_t i = 0; i < ARRAY_SIZE(fields); i++) {
        if (fields[i].usual[0] == '"' && strstr(fields[i].usual, "default") && fields[i].where == TOP)
            continue;
        create_with(&fields[i], fields[i].usual, 201, NULL);
        create_with(&fields[i], fields[i].other, fields[i].status, fields[i].refusal);
    }
}

/* --- what the kernel was told ------------------------------------------------------------------------------------
 */

static void limits_of_a_process_reach_it(void **state)
{
    need_machine();
    says(run("ulimit -n; ulimit -Hn", "", "\"Ulimits\":[{\"Name\":\"nofile\",\"Soft\":77,\"Hard\":88}]", 0),
         "77\n88\n");
    says(run("cat /proc/self/oom_score_adj", "", "\"OomScoreAdj\":345", 0), "345\n");
    says(run("id -G", "", "\"GroupAdd\":[\"4242\"]", 0), "4242");
    says(run("cat /proc/self/status", "\"User\":\"web\"", "", 0), "CapEff:\t0000000000000000\n");
    says(run("cat /proc/self/status", "", "\"SecurityOpt\":[\"no-new-privileges\"]", 0), "NoNewPrivs:\t1\n");
    says(run("cat /proc/self/status", "", "", 0), "CapEff:\t00000000a80425fb\n");
    says(run("cat /proc/self/status", "", "\"CapAdd\":[\"NET_ADMIN\"],\"CapDrop\":[\"CHOWN\"]", 0),
         "CapEff:\t00000000a80435fa\n");
}

static void namespaces_are_its_own_or_the_hosts(void **state)
{
    static const struct {
        const char *name, *host; /* of the namespace; the setting that shares it */
    } kinds[] = {
        {"pid", "\"PidMode\":\"host\""},
        {"uts", "\"UTSMode\":\"host\""},
        {"ipc", "\"IpcMode\":\"host\""},
        {"cgroup", "\"CgroupnsMode\":\"host\""},
    };
    char ours[128];

    need_machine();
    for (size_t i = 0; i < ARRAY_SIZE(kinds); i++) {
        char *path = arena_printf(&arena, "/proc/self/ns/%s", kinds[i].name);
        ssize_t length = readlink(path, ours, sizeof(ours) - 1);

        assert_true(length > 0);
        ours[length] = '\0';
        const char *script = arena_printf(&arena, "readlink %s", path);
        if (strstr(run(script, "", "", 0), ours))
            fail_msg("%s: it has ours", kinds[i].name);
        says(run(script, "", kinds[i].host, 0), ours);
    }
    says(run("cat /proc/net/dev | wc -l", "", "", 0), "3\n"); /* two lines of head, and lo */
}

static void file_systems_are_as_asked(void **state)
{
    need_machine();
    says(run("df -k /dev/shm", "", "\"ShmSize\":2097152", 0), "2048 ");
    says(run("stat -c %a /scratch; grep /scratch /proc/mounts", "",
             "\"Mounts\":[{\"Type\":\"tmpfs\",\"Target\":\"/scratch\",\"TmpfsOptions\":{\"SizeBytes\":1048576,"
             "\"Mode\":448}}]",
             0),
         "700\n");
    says(run("grep ' /scratch ' /proc/mounts", "", "\"Tmpfs\":{\"/scratch\":\"size=1m,exec\"}", 0), "size=1024k");
    says(run("cat /proc/sys/net/ipv4/ip_forward", "", "\"Sysctls\":{\"net.ipv4.ip_forward\":\"1\"}", 0), "1\n");
    says(run("wc -c </proc/keys; ls /sys/firmware; (echo x >/proc/sys/kernel/domainname) 2>/dev/null || echo "
             "refused",
             "", "", 0),
         "0\nrefused\n");
    says(run("echo x >/proc/sys/kernel/domainname && cat /proc/sys/kernel/domainname", "", "\"ReadonlyPaths\":[]",
             0),
         "x\n");
    says(run("touch /x 2>/dev/null || echo refused; touch /dev/shm/x && echo taken", "", "\"ReadonlyRootfs\":true",
             0),
         "refused\ntaken\n");
    says(run("touch /tmp/x && ls -d /dev/kmsg && echo all", "", "\"Privileged\":true", 0), "all\n");
}

static void devices_are_refused_but_those_given(void **state)
{
    need_machine();
    says(run("mknod /d c 1 11 && cat /d 2>/dev/null || echo refused", "", "", 0), "refused\n");
    says(run("head -c 3 /dev/mine | wc -c", "",
             "\"Devices\":[{\"PathOnHost\":\"/dev/zero\",\"PathInContainer\":\"/dev/mine\","
             "\"CgroupPermissions\":\"r\"}]",
             0),
         "3\n");
    says(run("mknod /d c 1 5 && head -c 2 /d | wc -c", "", "\"DeviceCgroupRules\":[\"c 1:* rwm\"]", 0), "2\n");
}

/* What a file of its control group says, on either version. */
static const char *group_says(const char *name, const char *controller, const char *v1, const char *v2)
{
    const char *id = inspected(name, "Id");
    const char *group = keeper_cgroup(rig.engine->keeper, id, controller);
    AUTO_BUF struct buf text = {0};

    if (!group)
        return NULL;
    const char *path = arena_printf(&arena, "%s/%s", group, v1);
    if (access(path, F_OK) < 0)
        path = arena_printf(&arena, "%s/%s", group, v2);
    if (file_read(AT_FDCWD, path, 4096, &text, NULL) < 0)
        return NULL;
    return arena_strdup(&arena, buf_str(&text));
}

static void limits_reach_its_control_groups(void **state)
{
    static const struct {
        const char *controller, *v1, *v1_says, *v2, *v2_says;
    } files[] = {
        {"memory", "memory.limit_in_bytes", "33554432\n", "memory.max", "33554432\n"},
        {"memory", "memory.soft_limit_in_bytes", "16777216\n", "memory.low", "16777216\n"},
        {"cpu", "cpu.shares", "512\n", "cpu.weight", "20\n"},
        {"cpu", "cpu.cfs_quota_us", "50000\n", "cpu.max", "50000 100000\n"},
        {"cpuset", "cpuset.cpus", "0\n", "cpuset.cpus", "0\n"},
        {"pids", "pids.max", "50\n", "pids.max", "50\n"},
    };
    unsigned seen = 0;

    need_machine();
    create("c1", "\"Cmd\":[\"sleep\",\"1000\"]",
           "\"Memory\":33554432,\"MemoryReservation\":16777216,\"CpuShares\":512,\"NanoCpus\":500000000,"
           "\"CpusetCpus\":\"0\",\"PidsLimit\":50");
    start("c1");
    for (size_t i = 0; i < ARRAY_SIZE(files); i++) {
        const char *text = group_says("c1", files[i].controller, files[i].v1, files[i].v2);

        if (!text)
            continue; /* this machine has no such controller: create has warned */
        if (strcmp(text, files[i].v1_says) != 0 && strcmp(text, files[i].v2_says) != 0)
            fail_msg("%s: %s", files[i].v1, text);
        seen++;
    }
    wants(204, "DELETE", "/containers/c1?force=1", NULL);
    if (!seen) {
        print_message("no controllers on this machine\n");
        skip();
    }
}

static void lack_of_memory_and_of_processes_is_felt(void **state)
{
    need_machine();
    if (!rig.engine->kernel.cgroup_there[BUNDLE_MEMORY] || !rig.engine->kernel.cgroup_there[BUNDLE_PIDS]) {
        print_message("needs the memory and pids controllers\n");
        skip();
    }
    create("eats", "\"Cmd\":[\"sh\",\"-c\",\"x=aaaaaaaaaaaaaaaa; while :; do x=$x$x; done\"]",
           "\"Memory\":16777216,\"MemorySwap\":16777216");
    start("eats");
    assert_int_equal(wait_exit("eats"), 137);
    assert_string_equal(inspected("eats", "State.OOMKilled"), "true");
    says(run("for i in 1 2 3 4 5 6 7 8; do sleep 5 & done; echo never", "", "\"PidsLimit\":4", 2), "fork");
}

static void terminal_has_its_size(void **state)
{
    need_machine();
    create("c1", "\"Tty\":true,\"Cmd\":[\"sh\",\"-c\",\"tty; sleep 0.3; stty size\"]", "\"ConsoleSize\":[31,97]");
    start("c1");
    assert_int_equal(wait_exit("c1"), 0);
    assert_string_equal(inspected("c1", "Config.Tty"), "true");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(every_documented_field_is_taken_or_refused_by_name_and_value),
        TEST(limits_of_a_process_reach_it),
        TEST(namespaces_are_its_own_or_the_hosts),
        TEST(file_systems_are_as_asked),
        TEST(devices_are_refused_but_those_given),
        TEST(limits_reach_its_control_groups),
        TEST(lack_of_memory_and_of_processes_is_felt),
        TEST(terminal_has_its_size),
    };

    missing = engine_rig_missing();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
