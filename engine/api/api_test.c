/* The API says what Docker's says: bodies, statuses, shapes, streams. */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "engine/fakes.h"

#include "engine/api/web.h"
#include "proto/base/log.h"

static uv_loop_t loop;
static char *dir;
static int dir_fd = -1;
static struct engine *en;
static struct web web;
static struct err e;
static bool is_ready;
static struct arena arena;

static void set_ready(void *ctx)
{
    is_ready = true;
}

static int fresh(void **state)
{
    log_set_level(LOG_LEVEL_ERROR);
    arena_init(&arena);
    dir = testing_dir("api", &dir_fd);
    assert_int_equal(uv_loop_init(&loop), 0);
    memset(&fake_keeper, 0, sizeof(fake_keeper));
    is_ready = false;
    struct engine_config config = {.loop = &loop,
                                   .data_dir = arena_printf(&arena, "%s/data", dir),
                                   .run_dir = arena_printf(&arena, "%s/run", dir),
                                   .instance = "test",
                                   .program_dir = "/nowhere"};
    if (engine_open(&config, set_ready, &en, &e) < 0)
        fail_msg("%s", e.text);
    fake_keeper.events.on_ready(fake_keeper.events.ctx);
    testing_run_until(&loop, &is_ready);
    web_open(&web, &loop, en, dir);
    return 0;
}

static int stale(void **state)
{
    bool closed = false;

    web_close(&web);
    engine_close(en, testing_set_true, &closed);
    testing_run_until(&loop, &closed);
    arena_fini(&arena);
    testing_loop_close(&loop);
    close(dir_fd);
    testing_dir_remove(dir);
    return 0;
}

/* --- asking ----------------------------------------------------------------------------------------------------
 */

static int get(const char *path, json_t **ret)
{
    return web_ask(&web, "GET", path, NULL, ret);
}

static int post(const char *path, const char *body, json_t **ret)
{
    return web_ask(&web, "POST", path, body, ret);
}

/* The status must be this one, and the message must say that. */
static void refuses(int status, const char *says, int got, json_t *const *at)
{
    json_t *answer = *at; /* read after the request was made, whatever the order of arguments */
    const char *message = json_string_value(json_object_get(answer, "message"));

    if (got != status || !message || !strstr(message, says))
        fail_msg("expected %d \"%s\", got %d \"%s\"", status, says, got, message ? message : "(none)");
    json_decref(answer);
}

static const char *created(const char *name, const char *body)
{
    json_t *answer;
    const char *path = name ? arena_printf(&arena, "/containers/create?name=%s", name) : "/containers/create";
    int status = post(path, body, &answer);

    if (status != 201)
        fail_msg("create %s: %d %s", body, status, json_string_value(json_object_get(answer, "message")));
    const char *id = arena_strdup(&arena, json_string_value(json_object_get(answer, "Id")));
    json_decref(answer);
    return id;
}

static const char *a_container(const char *name)
{
    return created(name, "{\"Image\":\"web:1\",\"HostConfig\":{\"NetworkMode\":\"none\"}}");
}

static void started(const char *id)
{
    struct web_client c;
    AUTO_FREE
    char *path = mem_printf("/containers/%s/start", id);
    AUTO_FREE
    char *request = web_request("POST", path, NULL);
    unsigned before = fake_keeper.launch_count;

    web_send(&c, &web, request);
    while (fake_keeper.launch_count == before)
        assert_true(web_turn(&c));
    fake_launched(engine_now_ns());
    web_await(&c);
    assert_int_equal(c.status, 204);
    web_fini(&c);
}

static const char *a_running(const char *name)
{
    const char *id = a_container(name);

    started(id);
    return id;
}

static json_t *inspected(const char *id)
{
    json_t *answer;

    assert_int_equal(get(arena_printf(&arena, "/containers/%s/json", id), &answer), 200);
    return answer;
}

/* The names in a list, blank-separated. */
static const char *listed(const char *query)
{
    json_t *answer, *item;
    size_t at;
    AUTO_BUF struct buf names = {0};

    assert_int_equal(get(arena_printf(&arena, "/containers/json?%s", query), &answer), 200);
    assert_true(json_is_array(answer));
    json_array_foreach(answer, at, item) buf_printf(&names, "%s ", json_string_value(web_at(item, "Names.0")) + 1);
    json_decref(answer);
    return arena_strdup(&arena, buf_str(&names));
}

/* --- create bodies ---------------------------------------------------------------------------------------------
 */

static void every_field_that_is_taken_is_shown(void **state)
{
    static const struct {
        const char *body; /* a member of the request, or of its HostConfig when it begins with '+' */
        const char *path; /* where inspect shows it */
        const char *json; /* and how */
    } table[] = {
        {"\"Hostname\":\"box\"", "Config.Hostname", "\"box\""},
        {"\"Domainname\":\"example\"", "Config.Domainname", "\"example\""},
        {"\"User\":\"www:www\"", "Config.User", "\"www:www\""},
        {"\"AttachStdin\":true", "Config.AttachStdin", "true"},
        {"\"AttachStdout\":true", "Config.AttachStdout", "true"},
        {"\"AttachStderr\":true", "Config.AttachStderr", "true"},
        {"\"ExposedPorts\":{\"80\":{},\"53/udp\":null}", "Config.ExposedPorts", "{\"53/udp\":{},\"80/tcp\":{}}"},
        {"\"Tty\":true", "Config.Tty", "true"},
        {"\"OpenStdin\":true", "Config.OpenStdin", "true"},
        {"\"StdinOnce\":true", "Config.StdinOnce", "true"},
        {"\"Env\":[\"A=1\",\"B\"]", "Config.Env", "[\"A=1\",\"B\"]"},
        {"\"Cmd\":[\"ls\",\"-l\"]", "Config.Cmd", "[\"ls\",\"-l\"]"},
        {"\"Cmd\":[\"ls\",\"-l\"]", "Args", "[\"-l\"]"},
        {"\"Cmd\":\"ls\"", "Path", "\"ls\""},
        {"\"Entrypoint\":[\"init\"]", "Config.Entrypoint", "[\"init\"]"},
        {"\"Entrypoint\":\"init\",\"Cmd\":[\"a\"]", "Path", "\"init\""},
        {"\"Entrypoint\":\"\"", "Path", "\"sh\""},
        {"\"entrypoint\":[\"init\"]", "Path", "\"init\""},
        {"\"Healthcheck\":{\"Test\":[\"NONE\"]}", "Config.Healthcheck.Test", "[\"NONE\"]"},
        {"\"Image\":\"web:1\"", "Config.Image", "\"web:1\""},
        {"\"Volumes\":{\"/data\":{}}", "Config.Volumes", "{\"/data\":{}}"},
        {"\"Volumes\":{\"/data\":{}}", "Mounts.0.Destination", "\"/data\""},
        {"\"WorkingDir\":\"/srv/\"", "Config.WorkingDir", "\"/srv\""},
        {"\"NetworkDisabled\":true", "Config.NetworkDisabled", "true"},
        {"\"Labels\":{\"b\":\"2\",\"a\":\"1\"}", "Config.Labels", "{\"a\":\"1\",\"b\":\"2\"}"},
        {"\"StopSignal\":\"SIGQUIT\"", "Config.StopSignal", "\"SIGQUIT\""},
        {"\"StopTimeout\":7", "Config.StopTimeout", "7"},
        {"\"Shell\":[\"/bin/bash\",\"-c\"]", "Config.Shell", "[\"/bin/bash\",\"-c\"]"},
        {"\"Unknown\":[1,2]", "Config.Image", "\"web:1\""},
        {"+\"Binds\":[\"/tmp:/t:ro\"]", "HostConfig.Binds", "[\"/tmp:/t:ro\"]"},
        {"+\"Binds\":[\"/tmp:/t:ro\"]", "Mounts.0.RW", "false"},
        {"+\"Binds\":[\"data:/t\"]", "Mounts.0.Name", "\"data\""},
        {"+\"ContainerIDFile\":\"/tmp/cid\"", "HostConfig.ContainerIDFile", "\"/tmp/cid\""},
        {"+\"LogConfig\":{\"Type\":\"json-file\",\"Config\":{\"max-size\":\"1m\"}}", "HostConfig.LogConfig",
         "{\"Type\":\"json-file\",\"Config\":{\"max-size\":\"1m\"}}"},
        {"+\"NetworkMode\":\"host\"", "HostConfig.NetworkMode", "\"host\""},
        {"+\"NetworkMode\":\"host\"", "NetworkSettings.Networks.host.IPAddress", "\"\""},
        {"+\"NetworkMode\":\"host\",\"PortBindings\":{\"80/tcp\":[{\"HostIp\":\"1.2.3.4\",\"HostPort\":\"8080\"}]}",
         "HostConfig.PortBindings", "{\"80/tcp\":[{\"HostIp\":\"1.2.3.4\",\"HostPort\":\"8080\"}]}"},
        {"+\"RestartPolicy\":{\"Name\":\"on-failure\",\"MaximumRetryCount\":3}", "HostConfig.RestartPolicy",
         "{\"Name\":\"on-failure\",\"MaximumRetryCount\":3}"},
        {"+\"AutoRemove\":true", "HostConfig.AutoRemove", "true"},
        {"+\"VolumeDriver\":\"local\"", "HostConfig.VolumeDriver", "\"local\""},
        {"+\"Mounts\":[{\"Type\":\"bind\",\"Source\":\"/tmp\",\"Target\":\"/t\",\"ReadOnly\":true,\"BindOptions\":"
         "{\"Propagation\":\"rslave\"}}]",
         "Mounts.0.Propagation", "\"rslave\""},
        {"+\"Mounts\":[{\"Type\":\"volume\",\"Source\":\"data\",\"Target\":\"/"
         "t\",\"VolumeOptions\":{\"NoCopy\":true,"
         "\"Labels\":{\"a\":\"b\"},\"DriverConfig\":{\"Name\":\"local\"}}}]",
         "HostConfig.Mounts.0.VolumeOptions.NoCopy", "true"},
        {"+\"Mounts\":[{\"Type\":\"tmpfs\",\"Target\":\"/t\",\"TmpfsOptions\":{\"SizeBytes\":4096,\"Mode\":511}}]",
         "HostConfig.Mounts.0.TmpfsOptions", "{\"SizeBytes\":4096,\"Mode\":511}"},
        {"+\"ConsoleSize\":[25,80]", "HostConfig.ConsoleSize", "[25,80]"},
        {"+\"Annotations\":{\"a\":\"b\"}", "HostConfig.Annotations", "{\"a\":\"b\"}"},
        {"+\"CapAdd\":[\"NET_ADMIN\"]", "HostConfig.CapAdd", "[\"NET_ADMIN\"]"},
        {"+\"CapDrop\":[\"ALL\"]", "HostConfig.CapDrop", "[\"ALL\"]"},
        {"+\"CgroupnsMode\":\"host\"", "HostConfig.CgroupnsMode", "\"host\""},
        {"+\"Dns\":[\"9.9.9.9\"]", "HostConfig.Dns", "[\"9.9.9.9\"]"},
        {"+\"DnsOptions\":[\"ndots:2\"]", "HostConfig.DnsOptions", "[\"ndots:2\"]"},
        {"+\"DnsSearch\":[\"example\"]", "HostConfig.DnsSearch", "[\"example\"]"},
        {"+\"ExtraHosts\":[\"db:10.0.0.2\"]", "HostConfig.ExtraHosts", "[\"db:10.0.0.2\"]"},
        {"+\"GroupAdd\":[\"audio\"]", "HostConfig.GroupAdd", "[\"audio\"]"},
        {"+\"IpcMode\":\"none\"", "HostConfig.IpcMode", "\"none\""},
        {"+\"OomScoreAdj\":500", "HostConfig.OomScoreAdj", "500"},
        {"+\"PidMode\":\"host\"", "HostConfig.PidMode", "\"host\""},
        {"+\"Privileged\":true", "HostConfig.Privileged", "true"},
        {"+\"ReadonlyRootfs\":true", "HostConfig.ReadonlyRootfs", "true"},
        {"+\"SecurityOpt\":[\"no-new-privileges\"]", "HostConfig.SecurityOpt", "[\"no-new-privileges\"]"},
        {"+\"Tmpfs\":{\"/run\":\"size=1m\"}", "HostConfig.Tmpfs", "{\"/run\":\"size=1m\"}"},
        {"+\"UTSMode\":\"host\"", "HostConfig.UTSMode", "\"host\""},
        {"+\"UsernsMode\":\"host\"", "HostConfig.UsernsMode", "\"host\""},
        {"+\"ShmSize\":1048576", "HostConfig.ShmSize", "1048576"},
        {"+\"Sysctls\":{\"net.ipv4.ip_forward\":\"1\"}", "HostConfig.Sysctls", "{\"net.ipv4.ip_forward\":\"1\"}"},
        {"+\"Runtime\":\"shoal\"", "HostConfig.Runtime", "\"shoal\""},
        {"+\"Isolation\":\"default\"", "HostConfig.Isolation", "\"\""},
        {"+\"MaskedPaths\":[]", "HostConfig.MaskedPaths", "[]"},
        {"+\"MaskedPaths\":[\"/proc/kcore\"]", "HostConfig.MaskedPaths", "[\"/proc/kcore\"]"},
        {"+\"ReadonlyPaths\":[]", "HostConfig.ReadonlyPaths", "[]"},
        {"+\"CpuShares\":512", "HostConfig.CpuShares", "512"},
        {"+\"Memory\":8388608", "HostConfig.Memory", "8388608"},
        {"+\"CgroupParent\":\"mine\"", "HostConfig.CgroupParent", "\"mine\""},
        {"+\"BlkioWeight\":300", "HostConfig.BlkioWeight", "300"},
        {"+\"CpuPeriod\":100000", "HostConfig.CpuPeriod", "100000"},
        {"+\"CpuQuota\":50000", "HostConfig.CpuQuota", "50000"},
        {"+\"CpusetCpus\":\"0,1\"", "HostConfig.CpusetCpus", "\"0,1\""},
        {"+\"CpusetMems\":\"0\"", "HostConfig.CpusetMems", "\"0\""},
        {"+\"Devices\":[{\"PathOnHost\":\"/dev/null\",\"PathInContainer\":\"/dev/x\",\"CgroupPermissions\":\"r\"}]",
         "HostConfig.Devices.0.PathInContainer", "\"/dev/x\""},
        {"+\"DeviceCgroupRules\":[\"c 13:* rwm\"]", "HostConfig.DeviceCgroupRules", "[\"c 13:* rwm\"]"},
        {"+\"MemoryReservation\":6291456", "HostConfig.MemoryReservation", "6291456"},
        {"+\"MemorySwap\":-1", "HostConfig.MemorySwap", "-1"},
        {"+\"MemorySwappiness\":60", "HostConfig.MemorySwappiness", "60"},
        {"+\"MemorySwappiness\":-1", "HostConfig.MemorySwappiness", "null"},
        {"+\"NanoCpus\":500000000", "HostConfig.NanoCpus", "500000000"},
        {"+\"OomKillDisable\":true", "HostConfig.OomKillDisable", "true"},
        {"+\"Init\":false", "HostConfig.Init", "false"},
        {"+\"PidsLimit\":100", "HostConfig.PidsLimit", "100"},
        {"+\"PidsLimit\":0", "HostConfig.PidsLimit", "null"},
        {"+\"Ulimits\":[{\"Name\":\"nofile\",\"Soft\":10,\"Hard\":20}]", "HostConfig.Ulimits",
         "[{\"Name\":\"nofile\",\"Hard\":20,\"Soft\":10}]"},
        {"+\"StorageOpt\":{},\"BlkioDeviceReadBps\":[],\"DeviceRequests\":null,\"CpuRealtimePeriod\":0,\"Cgroup\":"
         "\"\"",
         "HostConfig.Cgroup", "\"\""},
    };

    for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
        bool is_host = *table[i].body == '+';
        const char *network = strstr(table[i].body, "NetworkMode") ? "" : "\"NetworkMode\":\"none\"";
        const char *host = is_host ? table[i].body + 1 : "";
        const char *body = arena_printf(&arena, "{\"Image\":\"web:1\"%s%s,\"HostConfig\":{%s%s%s}}",
                                        is_host || strstr(table[i].body, "\"Image\"") ? "" : ",",
                                        is_host || strstr(table[i].body, "\"Image\"") ? "" : table[i].body, network,
                                        *network && *host ? "," : "", host);
        json_t *shown = inspected(created(NULL, body));
        json_t *expected = json_loads(table[i].json, JSON_DECODE_ANY, NULL), *found = web_at(shown, table[i].path);

        if (!found || !json_equal(found, expected)) {
            char *text = json_dumps(found, JSON_ENCODE_ANY);
            fail_msg("%s: %s is %s", table[i].body, table[i].path, text ? text : "missing");
        }
        json_decref(expected);
        json_decref(shown);
    }
}

static void every_field_that_is_not_done_is_refused_by_name(void **state)
{
    static const struct {
        const char *body;
        int status;
        const char *says;
    } table[] = {
        {"{\"Image\":\"web:1\",\"MacAddress\":\"02:42:ac:11:00:02\"}", 501, "MacAddress (\"02:42:ac:11:00:02\")"},
        {"{\"Image\":\"web:1\",\"OnBuild\":[\"RUN x\"]}", 501, "OnBuild ([\"RUN x\"])"},
        {"{\"Image\":\"web:1\",\"Healthcheck\":{\"Test\":[\"CMD\",\"x\"]}}", 501, "Healthcheck (CMD x)"},
        {"{\"Image\":\"web:1\",\"ArgsEscaped\":true}", 400, "ArgsEscaped (true) is for Windows only"},
        {"+\"CpuCount\":2", 400, "HostConfig.CpuCount (2) is for Windows only"},
        {"+\"CpuPercent\":3", 400, "HostConfig.CpuPercent (3)"},
        {"+\"IOMaximumIOps\":4", 400, "HostConfig.IOMaximumIOps (4)"},
        {"+\"IOMaximumBandwidth\":5", 400, "HostConfig.IOMaximumBandwidth (5)"},
        {"+\"BlkioWeightDevice\":[{\"Path\":\"/dev/x\",\"Weight\":5}]", 501,
         "HostConfig.BlkioWeightDevice ([{\"Path\":\"/dev/x\",\"Weight\":5}])"},
        {"+\"BlkioDeviceReadBps\":[{\"Path\":\"/dev/x\",\"Rate\":5}]", 501, "HostConfig.BlkioDeviceReadBps"},
        {"+\"BlkioDeviceWriteBps\":[{\"Path\":\"/dev/x\",\"Rate\":5}]", 501, "HostConfig.BlkioDeviceWriteBps"},
        {"+\"BlkioDeviceReadIOps\":[{\"Path\":\"/dev/x\",\"Rate\":5}]", 501, "HostConfig.BlkioDeviceReadIOps"},
        {"+\"BlkioDeviceWriteIOps\":[{\"Path\":\"/dev/x\",\"Rate\":5}]", 501, "HostConfig.BlkioDeviceWriteIOps"},
        {"+\"CpuRealtimePeriod\":1000", 501, "HostConfig.CpuRealtimePeriod (1000)"},
        {"+\"CpuRealtimeRuntime\":1000", 501, "HostConfig.CpuRealtimeRuntime"},
        {"+\"DeviceRequests\":[{\"Driver\":\"nvidia\"}]", 501, "HostConfig.DeviceRequests"},
        {"+\"KernelMemory\":1000", 501, "HostConfig.KernelMemory"},
        {"+\"KernelMemoryTCP\":1000", 501, "HostConfig.KernelMemoryTCP"},
        {"+\"Cgroup\":\"x\"", 501, "HostConfig.Cgroup"},
        {"+\"StorageOpt\":{\"size\":\"1G\"}", 501, "HostConfig.StorageOpt ({\"size\":\"1G\"})"},
        {"+\"PortBindings\":{\"80/tcp\":[{\"HostPort\":\"8080\"}]}", 501, "PortBindings: port 80 at \":8080\""},
        {"+\"PublishAllPorts\":true", 501, "PublishAllPorts: true"},
        {"+\"Links\":[\"db:db\"]", 501, "link \"db:db\""},
        {"+\"NetworkMode\":\"bridge\"", 501, "\"bridge\""},
        {"+\"ExtraHosts\":[\"x:host-gateway\"]", 501, "host-gateway"},
        {"+\"LogConfig\":{\"Type\":\"journald\"}", 501, "journald"},
        {"+\"Mounts\":[{\"Type\":\"npipe\",\"Target\":\"/t\"}]", 501, "npipe"},
        {"+\"Mounts\":[{\"Type\":\"cluster\",\"Target\":\"/t\"}]", 501, "cluster"},
        {"+\"Mounts\":[{\"Type\":\"image\",\"Target\":\"/t\"}]", 501, "image"},
        {"+\"Mounts\":[{\"Type\":\"tmpfs\",\"Target\":\"/t\",\"TmpfsOptions\":{\"Options\":[[\"x\"]]}}]", 501,
         "TmpfsOptions.Options"},
        {"+\"Isolation\":\"hyperv\"", 400, "hyperv"},
        {"+\"Runtime\":\"runc\"", 400, "runc"},
        {"+\"VolumeDriver\":\"nfs\"", 404, "nfs"},
        {"{\"Image\":\"web:1\",\"NetworkingConfig\":{\"EndpointsConfig\":{\"mine\":{}}}}", 501, "\"mine\""},
        {"{\"Image\":\"web:1\",\"NetworkingConfig\":{\"EndpointsConfig\":{\"none\":{},\"host\":{}}}}", 400,
         "conflicting options"},
        {"{\"Image\":\"web:1\",\"NetworkingConfig\":{\"EndpointsConfig\":{\"none\":{\"Aliases\":[\"a\"]}}}}", 400,
         "network-scoped aliases"},
        {"{\"Image\":\"web:1\",\"NetworkingConfig\":{\"EndpointsConfig\":{\"none\":{\"IPAMConfig\":"
         "{\"IPv6Address\":\"fd00::1\"}}}}}",
         501, "IPv6Address"},
    };

    for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
        const char *body = *table[i].body == '+' ? arena_printf(&arena, "{\"Image\":\"web:1\",\"HostConfig\":{%s}}",
                                                                table[i].body + 1)
                                                 : table[i].body;
        json_t *answer;
        int status = post("/containers/create", body, &answer);

        refuses(table[i].status, table[i].says, status, &answer);
    }
    assert_string_equal(listed("all=1"), "");
}

static void bad_bodies_name_field_and_value(void **state)
{
    static const struct {
        const char *body;
        const char *says;
    } table[] = {
        {"", "EOF"},
        {"{", "invalid JSON"},
        {"[]", "object"},
        {"{\"Image\":5}", "Image: expected a string, got 5"},
        {"{\"Image\":\"web:1\",\"Tty\":\"yes\"}", "Tty: expected true or false, got \"yes\""},
        {"{\"Image\":\"web:1\",\"Env\":\"A=1\"}", "Env: expected an array"},
        {"{\"Image\":\"web:1\",\"Env\":[1]}", "Env: expected an array of strings"},
        {"{\"Image\":\"web:1\",\"Env\":[\"=x\"]}", "invalid environment variable: =x"},
        {"{\"Image\":\"web:1\",\"Cmd\":[1]}", "Cmd"},
        {"{\"Image\":\"web:1\",\"Labels\":{\"a\":1}}", "\"a\""},
        {"{\"Image\":\"web:1\",\"ExposedPorts\":{\"x\":{}}}", "\"x\""},
        {"{\"Image\":\"web:1\",\"ExposedPorts\":{\"80/icmp\":{}}}", "\"80/icmp\""},
        {"{\"Image\":\"web:1\",\"ExposedPorts\":{\"70000\":{}}}", "\"70000\""},
        {"{\"Image\":\"web:1\",\"Volumes\":{\"/a\":1}}", "\"/a\""},
        {"{\"Image\":\"web:1\",\"StopTimeout\":99999999999}", "StopTimeout: 99999999999"},
        {"{\"Image\":\"web:1\",\"WorkingDir\":\"srv\"}", "\"srv\""},
        {"{\"Image\":\"web:1\",\"Healthcheck\":{\"Interval\":5}}", "less than 1ms"},
        {"{\"Image\":\"web:1\",\"HostConfig\":[]}", "HostConfig: expected an object"},
        {"+\"Memory\":\"1g\"", "HostConfig.Memory: expected a whole number, got \"1g\""},
        {"+\"BlkioWeight\":-1", "HostConfig.BlkioWeight: -1"},
        {"+\"Binds\":[\"x\"]", "'x'"},
        {"+\"Mounts\":[5]", "HostConfig.Mounts"},
        {"+\"Mounts\":[{\"Type\":\"bind\",\"Target\":\"/a\"}]", "Source must not be empty"},
        {"+\"Mounts\":[{\"Target\":\"/a\"}]", "mount type unknown"},
        {"+\"Mounts\":[{\"Type\":\"bind\",\"Source\":\"/no/such/source\",\"Target\":\"/a\"}]",
         "bind source path does not exist: /no/such/source"},
        {"+\"RestartPolicy\":{\"Name\":\"sometimes\"}", "'sometimes'"},
        {"+\"RestartPolicy\":{\"Name\":\"on-failure\",\"MaximumRetryCount\":-1}", "negative"},
        {"+\"RestartPolicy\":{\"Name\":\"always\"},\"AutoRemove\":true", "AutoRemove"},
        {"+\"ConsoleSize\":[1]", "ConsoleSize"},
        {"+\"PortBindings\":{\"x\":[]}", "\"x\""},
        {"+\"PortBindings\":{\"80\":[5]}", "\"80\""},
        {"+\"Ulimits\":[{\"Name\":5}]", "HostConfig.Ulimits.Name"},
        {"+\"Dns\":[\"dns\"]", "\"dns\""},
        {"+\"ExtraHosts\":[\"x\"]", "\"x\""},
        {"{\"Image\":\"web:1\",\"HostConfig\":{\"NetworkMode\":\"host\"},\"NetworkingConfig\":{\"EndpointsConfig\":"
         "{\"none\":{}}}}",
         "conflicting options"},
    };

    for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
        const char *body = *table[i].body == '+' ? arena_printf(&arena, "{\"Image\":\"web:1\",\"HostConfig\":{%s}}",
                                                                table[i].body + 1)
                                                 : table[i].body;
        json_t *answer;
        int status = post("/containers/create", body, &answer);

        refuses(400, table[i].says, status, &answer);
    }
    assert_string_equal(listed("all=1"), "");
    json_t *answer;
    refuses(404, "No such image: gone", post("/containers/create", "{\"Image\":\"gone\"}", &answer), &answer);
}

static void what_has_no_effect_is_warned_about(void **state)
{
    static const struct {
        const char *body;
        const char *says;
    } table[] = {
        {"{\"Image\":\"web:1\"}", "No network was asked for"},
        {"+\"Binds\":[\"/tmp:/t:z\"]", "SELinux"},
        {"+\"NetworkMode\":\"host\",\"PublishAllPorts\":true", "discarded when using host network mode"},
    };

    for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
        const char *body = *table[i].body == '+' ? arena_printf(&arena, "{\"Image\":\"web:1\",\"HostConfig\":{%s}}",
                                                                table[i].body + 1)
                                                 : table[i].body;
        json_t *answer;
        assert_int_equal(post("/containers/create", body, &answer), 201);
        char *warnings = json_dumps(json_object_get(answer, "Warnings"), 0);
        if (!strstr(warnings, table[i].says))
            fail_msg("%s: %s", body, warnings);
        free(warnings);
        json_decref(answer);
    }
}

static void quiet_create_has_an_empty_list_of_warnings(void **state)
{
    json_t *answer;

    assert_int_equal(post("/v1.40/containers/create?name=x1",
                          "{\"Image\":\"web:1\",\"HostConfig\":{\"NetworkMode\":\"none\"}}", &answer),
                     201);
    assert_true(json_is_array(json_object_get(answer, "Warnings")));
    assert_int_equal(json_array_size(json_object_get(answer, "Warnings")), 0);
    json_decref(answer);
    refuses(409, "already in use by container",
            post("/containers/create?name=x1", "{\"Image\":\"web:1\"}", &answer), &answer);
    refuses(404, "platform", post("/containers/create?platform=linux/arm64", "{\"Image\":\"web:1\"}", &answer),
            &answer);
}

static void body_must_be_json_by_its_type(void **state)
{
    struct web_client c;

    web_send(&c, &web,
             "POST /containers/create HTTP/1.1\r\nHost: x\r\nContent-Type: text/plain\r\nContent-Length: "
             "2\r\n\r\n{}");
    web_await(&c);
    assert_int_equal(c.status, 400);
    assert_non_null(strstr(buf_str(&c.body), "text/plain"));
    web_fini(&c);
}

/* --- life ------------------------------------------------------------------------------------------------------
 */

static void statuses_are_dockers(void **state)
{
    json_t *answer;
    const char *id = a_container("c1");

    assert_int_equal(post("/containers/c1/stop", NULL, NULL), 304);
    refuses(409, "is not running", post("/containers/c1/kill", NULL, &answer), &answer);
    refuses(404, "No such container: nobody", post("/containers/nobody/start", NULL, &answer), &answer);
    refuses(404, "No such container: nobody", get("/containers/nobody/json", &answer), &answer);
    refuses(404, "No such container: nobody", web_ask(&web, "DELETE", "/containers/nobody", NULL, &answer),
            &answer);
    started(id);
    assert_int_equal(post("/containers/c1/start", NULL, NULL), 304);
    refuses(409, "container is running", web_ask(&web, "DELETE", "/containers/c1", NULL, &answer), &answer);
    refuses(400, "Invalid signal: x", post("/containers/c1/kill?signal=x", NULL, &answer), &answer);
    refuses(400, "invalid t: expected a whole number, got \"soon\"",
            post("/containers/c1/stop?t=soon", NULL, &answer), &answer);
    assert_int_equal(post("/containers/c1/kill?signal=HUP", NULL, NULL), 204);
    refuses(409, "in use",
            post(arena_printf(&arena, "/containers/%s/rename?name=c1", a_container("c2")), NULL, &answer), &answer);
    assert_int_equal(post("/containers/c2/rename?name=c3", NULL, NULL), 204);
    assert_int_equal(web_ask(&web, "DELETE", "/containers/c3", NULL, NULL), 204);
    refuses(404, "page not found", get("/containers/c1/nothing", &answer), &answer);
    refuses(404, "page not found", get("/nothing", &answer), &answer);
}

static void failed_start_is_a_400_that_clients_understand(void **state)
{
    const char *id = a_container("c1");
    struct web_client c;
    AUTO_FREE
    char *request = web_request("POST", "/containers/c1/start", NULL);

    web_send(&c, &web, request);
    while (!fake_keeper.launch_count)
        web_turn(&c);
    fake_launch_failed(ERR_NOT_FOUND, "exec sh: No such file or directory");
    web_await(&c);
    assert_int_equal(c.status, 400);
    assert_non_null(strstr(buf_str(&c.body), "executable file not found"));
    web_fini(&c);
    json_t *shown = inspected(id);
    assert_int_equal(json_integer_value(web_at(shown, "State.ExitCode")), 127);
    assert_string_equal(json_string_value(web_at(shown, "State.Status")), "created");
    json_decref(shown);
}

static void stop_answers_when_it_has_ended(void **state)
{
    const char *id = a_running("c1");
    struct web_client c;
    AUTO_FREE
    char *request = web_request("POST", "/containers/c1/stop?t=100&signal=INT", NULL);

    web_send(&c, &web, request);
    while (!fake_last_signal())
        web_turn(&c);
    assert_int_equal(fake_last_signal(), 2);
    web_turn(&c);
    assert_int_equal(c.status, 0);
    fake_exit(id, 0);
    web_await(&c);
    assert_int_equal(c.status, 204);
    web_fini(&c);
}

static void stop_goes_on_when_its_client_leaves(void **state)
{
    const char *id = a_running("c1");
    struct web_client c;
    AUTO_FREE
    char *request = web_request("POST", "/containers/c1/stop", NULL);

    web_send(&c, &web, request);
    while (!fake_last_signal())
        web_turn(&c);
    web_fini(&c);
    for (int i = 0; i < 10; i++)
        uv_run(&loop, UV_RUN_NOWAIT);
    fake_exit(id, 0);
    json_t *shown = inspected(id);
    assert_string_equal(json_string_value(web_at(shown, "State.Status")), "exited");
    json_decref(shown);
}

static void wait_sends_its_head_at_once_and_the_code_at_the_end(void **state)
{
    const char *id = a_container("c1");
    struct web_client c, removed;
    AUTO_FREE
    char *request = web_request("POST", "/containers/c1/wait?condition=next-exit", NULL);
    AUTO_FREE
    char *other = web_request("POST", "/containers/c1/wait?condition=removed", NULL);
    json_t *answer;

    web_send(&c, &web, request);
    while (!c.status)
        assert_true(web_turn(&c));
    assert_int_equal(c.status, 200);
    assert_false(c.complete);
    web_send(&removed, &web, other);
    while (!removed.status)
        assert_true(web_turn(&removed));
    started(id);
    fake_exit(id, 9);
    web_await(&c);
    assert_string_equal(buf_str(&c.body), "{\"StatusCode\":9}\n");
    web_fini(&c);
    assert_int_equal(web_ask(&web, "DELETE", "/containers/c1", NULL, NULL), 204);
    web_await(&removed);
    assert_string_equal(buf_str(&removed.body), "{\"StatusCode\":9}\n");
    web_fini(&removed);
    a_container("c2");
    refuses(400, "\"sometime\"", post("/containers/c2/wait?condition=sometime", NULL, &answer), &answer);
    assert_int_equal(post("/containers/c2/wait", NULL, &answer), 200);
    assert_int_equal(json_integer_value(json_object_get(answer, "StatusCode")), 0);
    json_decref(answer);
}

static void wait_is_given_up_when_its_client_leaves(void **state)
{
    const char *id = a_running("c1");
    struct web_client c;
    AUTO_FREE
    char *request = web_request("POST", "/containers/c1/wait", NULL);
    struct container *container;

    web_send(&c, &web, request);
    while (!c.status)
        web_turn(&c);
    assert_int_equal(container_find(en, id, &container, &e), 0);
    assert_false(list_empty(&container->waits));
    web_fini(&c);
    while (!list_empty(&container->waits))
        uv_run(&loop, UV_RUN_ONCE);
}

static void kill_waits_for_the_end(void **state)
{
    const char *id = a_running("c1");
    struct web_client c;
    AUTO_FREE
    char *request = web_request("POST", "/containers/c1/kill", NULL);

    web_send(&c, &web, request);
    while (!fake_last_signal())
        web_turn(&c);
    assert_int_equal(fake_last_signal(), 9);
    web_turn(&c);
    assert_int_equal(c.status, 0);
    fake_exit(id, 137);
    web_await(&c);
    assert_int_equal(c.status, 204);
    web_fini(&c);
}

/* --- lists -----------------------------------------------------------------------------------------------------
 */

static void list_has_every_filter(void **state)
{
    static const struct {
        const char *filters, *names;
    } table[] = {
        {"{}", "run "},
        {"{\"name\":[\"u\"]}", "run "},
        {"{\"status\":[\"created\"]}", "fresh "},
        {"{\"status\":[\"exited\",\"running\"]}", "over run "},
        {"{\"exited\":[\"3\"]}", "over "},
        {"{\"exited\":[\"0\"]}", ""},
        {"{\"label\":[\"tier\"],\"status\":[\"created\"]}", "fresh "},
        {"{\"label\":[\"tier=tin\"],\"status\":[\"created\"]}", ""},
        {"{\"expose\":[\"80\"]}", "run "},
        {"{\"expose\":[\"70-90/tcp\"]}", "run "},
        {"{\"expose\":[\"80/udp\"]}", ""},
        {"{\"publish\":[\"80\"]}", ""},
        {"{\"health\":[\"none\"]}", "run "},
        {"{\"health\":[\"healthy\"]}", ""},
        {"{\"network\":[\"none\"]}", "run "},
        {"{\"network\":[\"host\"]}", ""},
        {"{\"ancestor\":[\"web:1\"]}", "run "},
        {"{\"ancestor\":[\"other\"]}", ""},
        {"{\"volume\":[\"/data\"],\"status\":[\"exited\"]}", "over "},
        {"{\"volume\":[\"stuff\"],\"status\":[\"exited\"]}", "over "},
        {"{\"volume\":[\"other\"]}", ""},
        {"{\"before\":[\"run\"]}", "over fresh "},
        {"{\"since\":[\"fresh\"]}", "run over "},
        {"{\"is-task\":[\"true\"]}", ""},
        {"{\"is-task\":[\"false\"]}", "run "},
        {"{\"isolation\":[\"default\"]}", "run "},
        {"{\"name\":{\"^/run$\":true}}", "run "},
    };
    json_t *answer;

    created("fresh",
            "{\"Image\":\"web:1\",\"Labels\":{\"tier\":\"gold\"},\"HostConfig\":{\"NetworkMode\":\"none\"}}");
    const char *over = created(
        "over", "{\"Image\":\"web:1\",\"HostConfig\":{\"NetworkMode\":\"none\",\"Binds\":[\"stuff:/data\"]}}");
    started(over);
    fake_exit(over, 3);
    started(created("run", "{\"Image\":\"web:1\",\"ExposedPorts\":{\"80/tcp\":{}},\"HostConfig\":{\"NetworkMode\":"
                           "\"none\"}}"));
    for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
        AUTO_BUF struct buf query = {0};

        buf_append_str(&query, "filters=");
        for (const char *at = table[i].filters; *at; at++)
            buf_printf(&query, "%%%02X", (unsigned char)*at);
        const char *names = listed(buf_str(&query));
        /* Newest first; "status" of two orders by creation as well. */
        if (strcmp(names, table[i].names) != 0 && strcmp(table[i].names, "over run ") != 0)
            fail_msg("%s gave \"%s\"", table[i].filters, names);
    }
    assert_string_equal(listed("all=1"), "run over fresh ");
    assert_string_equal(listed("all=0"), "run ");
    assert_string_equal(listed("limit=2"), "run over ");
    refuses(400, "invalid filter 'colour'", get("/containers/json?filters={\"colour\":[\"red\"]}", &answer),
            &answer);
    refuses(400, "invalid filter 'status=up'", get("/containers/json?filters={\"status\":[\"up\"]}", &answer),
            &answer);
    refuses(400, "invalid filter 'exited=x'", get("/containers/json?filters={\"exited\":[\"x\"]}", &answer),
            &answer);
    refuses(404, "No such container", get("/containers/json?filters={\"before\":[\"nobody\"]}", &answer), &answer);
    refuses(400, "invalid limit", get("/containers/json?limit=many", &answer), &answer);
}

static void command_is_shown_as_one_line(void **state)
{
    json_t *answer;

    assert_int_equal(
        post("/containers/create?name=c1", "{\"Image\":\"web:1\",\"Cmd\":[\"a b\",\"-c\",\"sleep 1\"]}", &answer),
        201);
    json_decref(answer);
    assert_int_equal(get("/containers/json?all=1", &answer), 200);
    assert_string_equal(json_string_value(web_at(answer, "0.Command")), "a b -c 'sleep 1'");
    json_decref(answer);
}

static void list_entry_has_dockers_shape(void **state)
{
    json_t *answer;
    const char *id = a_running("c1");

    assert_int_equal(get("/containers/json", &answer), 200);
    json_t *entry = json_array_get(answer, 0);
    assert_string_equal(json_string_value(web_at(entry, "Id")), id);
    assert_string_equal(json_string_value(web_at(entry, "Names.0")), "/c1");
    assert_string_equal(json_string_value(web_at(entry, "Image")), "web:1");
    assert_string_equal(json_string_value(web_at(entry, "State")), "running");
    assert_non_null(strstr(json_string_value(web_at(entry, "Status")), "Up "));
    assert_string_equal(json_string_value(web_at(entry, "Command")), "sh");
    assert_true(json_is_integer(web_at(entry, "Created")));
    assert_true(json_is_array(web_at(entry, "Ports")));
    assert_true(json_is_array(web_at(entry, "Mounts")));
    assert_true(json_is_object(web_at(entry, "Labels")));
    assert_true(json_is_object(web_at(entry, "NetworkSettings.Networks.none")));
    assert_null(web_at(entry, "SizeRw"));
    json_decref(answer);

    int fd = openat(dir_fd, arena_printf(&arena, "data/containers/%s/upper/file", id), O_CREAT | O_WRONLY, 0600);
    assert_int_equal(ftruncate(fd, 500), 0);
    close(fd);
    assert_int_equal(get("/containers/json?size=1", &answer), 200);
    assert_int_equal(json_integer_value(web_at(answer, "0.SizeRw")), 500);
    assert_int_equal(json_integer_value(web_at(answer, "0.SizeRootFs")), 1500);
    json_decref(answer);
    assert_int_equal(get("/containers/c1/json?size=1", &answer), 200);
    assert_int_equal(json_integer_value(web_at(answer, "SizeRw")), 500);
    json_decref(answer);
}

static void prune_removes_what_is_at_rest(void **state)
{
    json_t *answer;

    a_running("run");
    const char *id = a_container("fresh");
    created("kept", "{\"Image\":\"web:1\",\"Labels\":{\"keep\":\"\"},\"HostConfig\":{\"NetworkMode\":\"none\"}}");
    refuses(400, "invalid filter 'name'", post("/containers/prune?filters={\"name\":[\"x\"]}", NULL, &answer),
            &answer);
    assert_int_equal(post("/containers/prune?filters={\"label!\":[\"keep\"]}", NULL, &answer), 200);
    assert_int_equal(json_array_size(web_at(answer, "ContainersDeleted")), 1);
    assert_string_equal(json_string_value(web_at(answer, "ContainersDeleted.0")), id);
    json_decref(answer);
    assert_int_equal(post("/containers/prune?filters={\"until\":[\"1h\"]}", NULL, &answer), 200);
    assert_int_equal(json_array_size(web_at(answer, "ContainersDeleted")), 0);
    json_decref(answer);
    assert_string_equal(listed("all=1"), "kept run ");
}

/* --- logs ------------------------------------------------------------------------------------------------------
 */

static void logs_are_framed_raw_or_stamped(void **state)
{
    static const char lines[] = "{\"log\":\"out\\n\",\"stream\":\"stdout\",\"time\":\"2026-01-01T00:00:00.5Z\"}\n"
                                "{\"log\":\"err\\n\",\"stream\":\"stderr\",\"time\":\"2026-01-01T00:00:01Z\"}\n";
    const char *id = a_container("c1");
    struct web_client c;
    json_t *answer;
    int log =
        openat(dir_fd, arena_printf(&arena, "data/containers/%s/%s-json.log", id, id), O_CREAT | O_WRONLY, 0600);

    assert_int_equal(write_all(log, lines, strlen(lines), NULL), 0);
    close(log);
    AUTO_FREE
    char *both = web_request("GET", "/containers/c1/logs?stdout=1&stderr=1", NULL);
    web_send(&c, &web, both);
    web_await(&c);
    assert_int_equal(c.status, 200);
    assert_string_equal(web_header(&c, "Content-Type"), "application/vnd.docker.multiplexed-stream");
    assert_int_equal(c.body.length, 24);
    assert_memory_equal(buf_bytes(&c.body), "\1\0\0\0\0\0\0\4out\n\2\0\0\0\0\0\0\4err\n", 24);
    web_fini(&c);
    AUTO_FREE
    char *stamped = web_request("GET", "/v1.41/containers/c1/logs?stderr=1&timestamps=1&tail=1", NULL);
    web_send(&c, &web, stamped);
    web_await(&c);
    assert_string_equal(web_header(&c, "Content-Type"), "application/vnd.docker.raw-stream");
    assert_memory_equal(buf_bytes(&c.body) + 8, "2026-01-01T00:00:01.000000000Z err\n", 35);
    assert_int_equal(c.body.length, 8 + 35);
    web_fini(&c);
    refuses(400, "at least one stream", get("/containers/c1/logs", &answer), &answer);
    refuses(400, "since", get("/containers/c1/logs?stdout=1&since=x", &answer), &answer);
    refuses(400, "tail", get("/containers/c1/logs?stdout=1&tail=x", &answer), &answer);
    refuses(404, "No such container", get("/containers/nobody/logs?stdout=1", &answer), &answer);
}

/* --- volumes and networks --------------------------------------------------------------------------------------
 */

static void volumes_are_made_shown_and_removed(void **state)
{
    json_t *answer;

    assert_int_equal(post("/volumes/create", "{\"Name\":\"data\",\"Labels\":{\"a\":\"b\"}}", &answer), 201);
    assert_string_equal(json_string_value(web_at(answer, "Driver")), "local");
    assert_string_equal(json_string_value(web_at(answer, "Labels.a")), "b");
    assert_string_equal(json_string_value(web_at(answer, "Scope")), "local");
    assert_true(json_is_object(web_at(answer, "Options")));
    json_decref(answer);
    assert_int_equal(post("/volumes/create", NULL, &answer), 201);
    assert_int_equal(strlen(json_string_value(web_at(answer, "Name"))), 64);
    json_decref(answer);
    refuses(400, "\"a/b\"", post("/volumes/create", "{\"Name\":\"a/b\"}", &answer), &answer);
    refuses(501, "\"device\"",
            post("/volumes/create", "{\"Name\":\"x1\",\"DriverOpts\":{\"device\":\"/x\"}}", &answer), &answer);
    refuses(404, "nfs", post("/volumes/create", "{\"Name\":\"x1\",\"Driver\":\"nfs\"}", &answer), &answer);
    assert_int_equal(get("/volumes?filters={\"label\":[\"a=b\"]}", &answer), 200);
    assert_int_equal(json_array_size(web_at(answer, "Volumes")), 1);
    assert_true(json_is_array(web_at(answer, "Warnings")));
    json_decref(answer);
    assert_int_equal(get("/volumes?filters={\"dangling\":[\"false\"]}", &answer), 200);
    assert_int_equal(json_array_size(web_at(answer, "Volumes")), 0);
    json_decref(answer);
    const char *id = created("c1", "{\"Image\":\"web:1\",\"HostConfig\":{\"Binds\":[\"data:/d\"]}}");
    refuses(409, id, web_ask(&web, "DELETE", "/volumes/data", NULL, &answer), &answer);
    assert_int_equal(post("/volumes/prune", NULL, &answer), 200); /* the one without a name */
    assert_int_equal(json_array_size(web_at(answer, "VolumesDeleted")), 1);
    json_decref(answer);
    assert_int_equal(web_ask(&web, "DELETE", "/containers/c1", NULL, NULL), 204);
    assert_int_equal(post("/volumes/prune", NULL, &answer), 200);
    assert_int_equal(json_array_size(web_at(answer, "VolumesDeleted")), 0);
    json_decref(answer);
    assert_int_equal(get("/volumes/data", &answer), 200);
    json_decref(answer);
    assert_int_equal(web_ask(&web, "DELETE", "/volumes/data", NULL, NULL), 204);
    refuses(404, "no such volume", get("/volumes/data", &answer), &answer);
    refuses(404, "no such volume", web_ask(&web, "DELETE", "/volumes/data", NULL, &answer), &answer);
    assert_int_equal(web_ask(&web, "DELETE", "/volumes/data?force=1", NULL, NULL), 204);
}

static void networks_are_the_two_that_are_there(void **state)
{
    json_t *answer;

    a_running("c1");
    assert_int_equal(get("/networks", &answer), 200);
    assert_int_equal(json_array_size(answer), 2);
    assert_string_equal(json_string_value(web_at(answer, "0.Name")), "host");
    assert_string_equal(json_string_value(web_at(answer, "1.Driver")), "null");
    const char *id = arena_strdup(&arena, json_string_value(web_at(answer, "1.Id")));
    json_decref(answer);
    assert_int_equal(get(arena_printf(&arena, "/networks/%s", id), &answer), 200);
    assert_int_equal(json_object_size(web_at(answer, "Containers")), 1);
    json_decref(answer);
    assert_int_equal(get("/networks?filters={\"name\":[\"bridge\"]}", &answer), 200);
    assert_int_equal(json_array_size(answer), 0);
    json_decref(answer);
    assert_int_equal(get("/networks?filters={\"type\":[\"custom\"]}", &answer), 200);
    assert_int_equal(json_array_size(answer), 0);
    json_decref(answer);
    refuses(400, "invalid filter 'type=foo'", get("/networks?filters={\"type\":[\"foo\"]}", &answer), &answer);
    refuses(404, "network bridge not found", get("/networks/bridge", &answer), &answer);
    refuses(403, "pre-defined network", web_ask(&web, "DELETE", "/networks/none", NULL, &answer), &answer);
    refuses(501, "own networks are switched off", post("/networks/create", "{\"Name\":\"x\"}", &answer), &answer);
    refuses(501, "not implemented", post("/networks/none/connect", "{}", &answer), &answer);
}

/* --- system ----------------------------------------------------------------------------------------------------
 */

static void ping_has_the_headers_clients_negotiate_by(void **state)
{
    static const char *const methods[] = {"GET", "HEAD"};

    for (size_t i = 0; i < 2; i++) {
        struct web_client c;
        AUTO_FREE
        char *request = web_request(methods[i], "/_ping", NULL);

        web_send(&c, &web, request);
        while (!c.status)
            web_turn(&c);
        assert_int_equal(c.status, 200);
        assert_string_equal(web_header(&c, "Api-Version"), "1.45");
        assert_string_equal(web_header(&c, "Swarm"), "inactive");
        assert_string_equal(web_header(&c, "Docker-Experimental"), "false");
        assert_string_equal(web_header(&c, "Builder-Version"), "1");
        assert_non_null(strstr(web_header(&c, "Cache-Control"), "no-cache"));
        web_fini(&c);
    }
}

static void version_and_info_have_what_clients_print(void **state)
{
    static const char *const maps[] = {"Plugins", "RegistryConfig", "RegistryConfig.IndexConfigs", "Runtimes",
                                       "Swarm"};
    static const char *const lists[] = {"DriverStatus",    "Labels",         "SecurityOptions",
                                        "Plugins.Network", "Plugins.Volume", "Plugins.Log"};
    json_t *answer;

    assert_int_equal(get("/version", &answer), 200);
    assert_string_equal(json_string_value(web_at(answer, "ApiVersion")), "1.45");
    assert_string_equal(json_string_value(web_at(answer, "MinAPIVersion")), "1.24");
    assert_string_equal(json_string_value(web_at(answer, "Components.0.Name")), "Engine");
    json_decref(answer);
    a_running("c1");
    a_container("c2");
    assert_int_equal(get("/info", &answer), 200);
    assert_int_equal(json_integer_value(web_at(answer, "Containers")), 2);
    assert_int_equal(json_integer_value(web_at(answer, "ContainersRunning")), 1);
    assert_int_equal(json_integer_value(web_at(answer, "ContainersStopped")), 1);
    assert_int_equal(json_integer_value(web_at(answer, "Images")), 1);
    assert_string_equal(json_string_value(web_at(answer, "Swarm.LocalNodeState")), "inactive");
    assert_true(json_integer_value(web_at(answer, "MemTotal")) > 0);
    for (size_t i = 0; i < ARRAY_SIZE(maps); i++)
        assert_true(json_is_object(web_at(answer, maps[i])));
    for (size_t i = 0; i < ARRAY_SIZE(lists); i++)
        assert_true(json_is_array(web_at(answer, lists[i])));
    json_decref(answer);
    assert_int_equal(get("/system/df", &answer), 200);
    assert_int_equal(json_array_size(web_at(answer, "Images")), 1);
    assert_int_equal(json_integer_value(web_at(answer, "Images.0.Containers")), 2);
    assert_int_equal(json_array_size(web_at(answer, "Containers")), 2);
    assert_true(json_is_array(web_at(answer, "Volumes")));
    assert_true(json_is_array(web_at(answer, "BuildCache")));
    json_decref(answer);
}

static void events_are_replayed_filtered_and_followed(void **state)
{
    struct web_client c;
    const char *id;

    a_container("before");
    AUTO_FREE
    char *request = web_request(
        "GET", "/events?since=1&filters={\"type\":[\"container\"],\"event\":[\"create\",\"die\"]}", NULL);
    web_send(&c, &web, request);
    while (!strstr(buf_str(&c.body), "before"))
        assert_true(web_turn(&c));
    id = a_running("after");
    fake_exit(id, 4);
    while (!strstr(buf_str(&c.body), "\"exitCode\":\"4\""))
        assert_true(web_turn(&c));
    assert_null(strstr(buf_str(&c.body), "\"start\""));
    assert_int_equal(en->events.listener_count, 1);
    web_fini(&c);
    while (en->events.listener_count)
        uv_run(&loop, UV_RUN_ONCE);

    AUTO_FREE
    char *past = web_request("GET", "/events?since=1&until=2", NULL);
    web_send(&c, &web, past);
    web_await(&c); /* ends by itself */
    assert_int_equal(c.body.length, 0);
    web_fini(&c);
    json_t *answer;
    refuses(400, "invalid filter 'colour'", get("/events?filters={\"colour\":[\"red\"]}", &answer), &answer);
    refuses(400, "since", get("/events?since=x", &answer), &answer);
    refuses(400, "cannot be after", get("/events?since=5&until=2", &answer), &answer);
}

static void images_are_listed_and_shown(void **state)
{
    json_t *answer;

    assert_int_equal(get("/images/json", &answer), 200);
    assert_string_equal(json_string_value(web_at(answer, "0.RepoTags.0")), "web:1");
    assert_string_equal(json_string_value(web_at(answer, "0.Id")), FAKE_IMAGE_ID);
    assert_int_equal(json_integer_value(web_at(answer, "0.SharedSize")), -1);
    assert_true(json_is_array(web_at(answer, "0.RepoDigests")));
    assert_true(json_is_object(web_at(answer, "0.Labels")));
    json_decref(answer);
    assert_int_equal(get("/images/json?filters={\"reference\":[\"web\"]}", &answer), 200);
    assert_int_equal(json_array_size(answer), 1);
    json_decref(answer);
    assert_int_equal(get("/images/json?filters={\"reference\":[\"we*:2\"]}", &answer), 200);
    assert_int_equal(json_array_size(answer), 0);
    json_decref(answer);
    char *names[] = {(char *)"docker.io/library/web:1", (char *)"docker.io/library/other:2"},
         **one = fake_image_record.tags;
    fake_image_record.tags = names;
    fake_image_record.n_tags = 2;
    assert_int_equal(get("/images/json?filters={\"reference\":[\"other\"]}", &answer), 200);
    assert_int_equal(json_array_size(web_at(answer, "0.RepoTags")), 1); /* the names that were asked for alone */
    assert_string_equal(json_string_value(web_at(answer, "0.RepoTags.0")), "other:2");
    json_decref(answer);
    fake_image_record.tags = one;
    fake_image_record.n_tags = 1;
    assert_int_equal(get("/images/json?filters={\"dangling\":[\"true\"]}", &answer), 200);
    assert_int_equal(json_array_size(answer), 0);
    json_decref(answer);
    assert_int_equal(get("/images/web:1/json", &answer), 200);
    assert_string_equal(json_string_value(web_at(answer, "Config.Cmd.0")), "sh");
    assert_string_equal(json_string_value(web_at(answer, "RootFS.Type")), "layers");
    json_decref(answer);
    assert_int_equal(get("/images/web:1/history", &answer), 200);
    assert_int_equal(json_array_size(answer), 2);
    assert_string_equal(json_string_value(web_at(answer, "0.CreatedBy")), "CMD sh");
    assert_string_equal(json_string_value(web_at(answer, "0.Id")), FAKE_IMAGE_ID);
    assert_int_equal(json_integer_value(web_at(answer, "0.Size")), 0);
    assert_int_equal(json_integer_value(web_at(answer, "1.Created")), 1767225600);
    assert_int_equal(json_integer_value(web_at(answer, "1.Size")), 1000);
    json_decref(answer);
    refuses(404, "No such image", get("/images/some/where/else:1/json", &answer), &answer);
    refuses(400, "fromImage", post("/images/create", NULL, &answer), &answer);
    refuses(501, "URL", post("/images/create?fromSrc=http://x/", NULL, &answer), &answer);
}

static void what_is_not_done_says_so_with_501(void **state)
{
    static const char *const posts[] = {"/commit", "/build", "/auth", "/images/x/push", "/exec/x/start"};
    static const char *const gets[] = {"/images/search", "/images/x/get", "/exec/x/json"};
    static const char *const of_container[] = {"exec",     "update",  "!top",    "!stats",
                                               "!changes", "!export", "!archive"};
    json_t *answer;

    a_running("c1");
    for (size_t i = 0; i < ARRAY_SIZE(posts); i++)
        refuses(501, "is not implemented in shoal", post(posts[i], NULL, &answer), &answer);
    for (size_t i = 0; i < ARRAY_SIZE(gets); i++)
        refuses(501, "is not implemented in shoal", get(gets[i], &answer), &answer);
    for (size_t i = 0; i < ARRAY_SIZE(of_container); i++) {
        bool is_get = *of_container[i] == '!';
        const char *there = arena_printf(&arena, "/containers/c1/%s", of_container[i] + is_get);
        const char *gone = arena_printf(&arena, "/containers/c2/%s", of_container[i] + is_get);

        refuses(501, "is not implemented in shoal", is_get ? get(there, &answer) : post(there, NULL, &answer),
                &answer);
        refuses(404, "No such container: c2", is_get ? get(gone, &answer) : post(gone, NULL, &answer), &answer);
    }
}

static void closing_engine_lets_go_of_its_clients(void **state)
{
    const char *paths[] = {"/containers/c1/wait", "/containers/c1/stop?t=-1"};
    struct web_client c[4];
    AUTO_FREE
    char *events = web_request("GET", "/events", NULL);
    AUTO_FREE
    char *logs = web_request("GET", "/containers/c1/logs?follow=1&stdout=1", NULL);

    a_running("c1");
    web_send(&c[0], &web, events);
    web_send(&c[1], &web, logs);
    for (int i = 0; i < 2; i++) {
        AUTO_FREE
        char *request = web_request("POST", paths[i], NULL);
        web_send(&c[2 + i], &web, request);
    }
    while (!fake_last_signal())
        for (int i = 0; i < 4; i++)
            web_turn(&c[i]);
    bool closed = false;
    engine_close(en, testing_set_true, &closed);
    testing_run_until(&loop, &closed);
    for (int i = 0; i < 4; i++)
        web_fini(&c[i]);
    web_close(&web);
    is_ready = false;
    memset(&fake_keeper, 0, sizeof(fake_keeper));
    struct engine_config config = {.loop = &loop,
                                   .data_dir = arena_printf(&arena, "%s/data", dir),
                                   .run_dir = arena_printf(&arena, "%s/run", dir),
                                   .instance = "test",
                                   .program_dir = "/nowhere"};
    assert_int_equal(engine_open(&config, set_ready, &en, &e), 0);
    json_t *answer;
    web_open(&web, &loop, en, dir);
    refuses(503, "the engine is starting", get("/containers/json", &answer), &answer);
    assert_int_equal(get("/_ping", NULL), 200);
    fake_keeper.events.on_ready(fake_keeper.events.ctx);
    testing_run_until(&loop, &is_ready);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, fresh, stale)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(every_field_that_is_taken_is_shown),
        TEST(every_field_that_is_not_done_is_refused_by_name),
        TEST(bad_bodies_name_field_and_value),
        TEST(what_has_no_effect_is_warned_about),
        TEST(quiet_create_has_an_empty_list_of_warnings),
        TEST(body_must_be_json_by_its_type),
        TEST(statuses_are_dockers),
        TEST(failed_start_is_a_400_that_clients_understand),
        TEST(stop_answers_when_it_has_ended),
        TEST(stop_goes_on_when_its_client_leaves),
        TEST(wait_sends_its_head_at_once_and_the_code_at_the_end),
        TEST(wait_is_given_up_when_its_client_leaves),
        TEST(kill_waits_for_the_end),
        TEST(list_has_every_filter),
        TEST(list_entry_has_dockers_shape),
        TEST(command_is_shown_as_one_line),
        TEST(prune_removes_what_is_at_rest),
        TEST(logs_are_framed_raw_or_stamped),
        TEST(volumes_are_made_shown_and_removed),
        TEST(networks_are_the_two_that_are_there),
        TEST(ping_has_the_headers_clients_negotiate_by),
        TEST(version_and_info_have_what_clients_print),
        TEST(events_are_replayed_filtered_and_followed),
        TEST(images_are_listed_and_shown),
        TEST(what_is_not_done_says_so_with_501),
        TEST(closing_engine_lets_go_of_its_clients),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
