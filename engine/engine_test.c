/* The engine with its real keeper, store and jobs: real containers, by the API's socket. */
#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "engine/container/container.h"
#include "engine/sweep.h"
#include "tests/support/images.h"
#include "tests/support/rigged.h"

/* Until what was removed is gone from disk and kernel, or it does not get better any more. */
static struct engine_rig_census settled(void)
{
    struct engine_rig_census now = engine_rig_census(&rig), then = {0};

    while (memcmp(&now, &then, sizeof(now)) != 0 || !sweep_idle(rig.engine->containers->sweep)) {
        then = now;
        pass_ms(500);
        now = engine_rig_census(&rig);
    }
    return now;
}

/* --- tests -----------------------------------------------------------------------------------------------------
 */

static void container_runs_logs_and_ends_with_its_code(void **state)
{
    need_machine();
    create("c1", "\"Cmd\":[\"sh\",\"-c\",\"echo out; echo err >&2; exit 7\"]", "");
    start("c1");
    assert_int_equal(wait_exit("c1"), 7);
    says(output("c1"), "out\n");
    says(output("c1"), "err\n");
    assert_string_equal(inspected("c1", "State.Status"), "exited");
    assert_string_equal(inspected("c1", "State.ExitCode"), "7");
    start("c1"); /* once more, with the same files */
    assert_int_equal(wait_exit("c1"), 7);
    wants(204, "DELETE", "/containers/c1", NULL);
}

static void configuration_reaches_the_program(void **state)
{
    need_machine();
    says(run("env", "\"Env\":[\"A=1\"]", "", 0), "\nA=1\n");
    says(run("env", "", "", 0), "IMAGE=box\n");
    says(run("hostname", "\"Hostname\":\"fancy\"", "", 0), "fancy\n");
    says(run("cat /etc/hostname", "\"Hostname\":\"fancy\"", "", 0), "fancy\n");
    says(run("cat /etc/hosts", "", "\"ExtraHosts\":[\"db:10.1.2.3\"]", 0), "10.1.2.3\tdb\n");
    says(run("cat /etc/resolv.conf", "", "\"Dns\":[\"9.9.9.9\"]", 0), "nameserver 9.9.9.9\n");
    says(run("pwd", "\"WorkingDir\":\"/made/for/it\"", "", 0), "/made/for/it\n");
    says(run("id -u", "\"User\":\"web\"", "", 0), "1000\n");
    says(run("echo x >/etc/x || echo read-only", "", "\"ReadonlyRootfs\":true", 0), "read-only\n");
    says(run("grep CapEff /proc/self/status || cat /proc/self/status", "", "\"CapDrop\":[\"ALL\"]", 0),
         "CapEff:\t0000000000000000\n");
    says(run("cat /proc/self/status", "", "", 0), "Seccomp:\t2\n");
    says(run("cat /proc/self/status", "", "\"SecurityOpt\":[\"seccomp=unconfined\"]", 0), "Seccomp:\t0\n");
    says(run("ls /dev/mine", "", "\"Devices\":[{\"PathOnHost\":\"/dev/null\",\"PathInContainer\":\"/dev/mine\"}]",
             0),
         "/dev/mine\n");
}

static void mounts_are_there_and_in_order(void **state)
{
    char *source;

    need_machine();
    source = arena_printf(&arena, "%s/source", rig.dir);
    assert_int_equal(mkdir(source, 0755), 0);
    assert_int_equal(mkdir(arena_printf(&arena, "%s/below", source), 0755), 0);
    /* A volume is filled from the image, with owners; a second container sees what the first one did. */
    says(run("cat /data/from-image; stat -c %u /data/from-image; echo mine >/data/mine", "",
             "\"Binds\":[\"stuff:/data\"]", 0),
         "image\n1000\n");
    says(run("cat /data/mine", "", "\"Binds\":[\"stuff:/data:ro\"]", 0), "mine\n");
    says(run("touch /data/x || echo refused", "", "\"Binds\":[\"stuff:/data:ro\"]", 0), "refused\n");
    says(run("ls /data; echo end", "",
             "\"Mounts\":[{\"Type\":\"volume\",\"Source\":\"bare\",\"Target\":\"/data\",\"VolumeOptions\":"
             "{\"NoCopy\":true}}]",
             0),
         "end\n");
    /* A tmpfs inside a bind. */
    says(run("touch /a/below/in-memory; touch /a/on-disk; cat /proc/mounts", "",
             arena_printf(&arena, "\"Tmpfs\":{\"/a/below\":\"size=1m\"},\"Binds\":[\"%s:/a\"]", source), 0),
         "/a/below tmpfs ");
    assert_int_equal(access(arena_printf(&arena, "%s/on-disk", source), F_OK), 0);
    assert_int_equal(access(arena_printf(&arena, "%s/below/in-memory", source), F_OK), -1);
    assert_int_equal(engine_rig_census(&rig).mounts, 0);
}

static void programs_that_cannot_be_run_are_told_apart(void **state)
{
    json_t *answer;

    need_machine();
    create("gone", "\"Cmd\":[\"/no/such/program\"]", "");
    assert_int_equal(ask("POST", "/containers/gone/start", NULL, &answer), 400);
    says(json_string_value(json_object_get(answer, "message")), "executable file not found");
    json_decref(answer);
    assert_string_equal(inspected("gone", "State.ExitCode"), "127");
    create("text", "\"Cmd\":[\"/etc/text\"]", "");
    assert_int_equal(ask("POST", "/containers/text/start", NULL, &answer), 400);
    says(json_string_value(json_object_get(answer, "message")), "permission denied");
    json_decref(answer);
    assert_string_equal(inspected("text", "State.ExitCode"), "126");
    create("user", "\"User\":\"nobody-here\"", "");
    assert_int_not_equal(ask("POST", "/containers/user/start", NULL, &answer), 204);
    says(json_string_value(json_object_get(answer, "message")), "nobody-here");
    json_decref(answer);
}

static void stop_and_kill_end_containers(void **state)
{
    need_machine();
    create("polite", "\"Cmd\":[\"sh\",\"-c\",\"trap 'exit 5' TERM; echo ready; while :; do sleep 0.1; done\"]", "");
    start("polite");
    while (!strstr(output("polite"), "ready"))
        uv_run(&rig.loop, UV_RUN_NOWAIT);
    wants(204, "POST", "/containers/polite/stop?t=30", NULL);
    assert_string_equal(inspected("polite", "State.ExitCode"), "5");
    wants(304, "POST", "/containers/polite/stop", NULL);
    create("deaf", "\"Cmd\":[\"sh\",\"-c\",\"trap '' TERM; sleep 1000\"]", "");
    start("deaf");
    wants(204, "POST", "/containers/deaf/stop?t=0", NULL);
    assert_string_equal(inspected("deaf", "State.ExitCode"), "137");
    start("deaf");
    wants(409, "DELETE", "/containers/deaf", NULL);
    wants(204, "POST", "/containers/deaf/kill", NULL);
    assert_int_equal(wait_exit("deaf"), 137);
    start("deaf");
    wants(204, "POST", "/containers/deaf/restart?t=0", NULL);
    assert_string_equal(inspected("deaf", "State.Status"), "running");
    wants(204, "DELETE", "/containers/deaf?force=1", NULL);
}

static void pause_freezes_the_program(void **state)
{
    need_machine();
    create("c1", "\"Cmd\":[\"sh\",\"-c\",\"while :; do echo x; sleep 0.05; done\"]", "");
    start("c1");
    while (!strstr(output("c1"), "x"))
        uv_run(&rig.loop, UV_RUN_NOWAIT);
    wants(204, "POST", "/containers/c1/pause", NULL);
    assert_string_equal(inspected("c1", "State.Status"), "paused");
    pass_ms(200); /* what was written before reaches the log */
    const char *before = output("c1");
    pass_ms(300);
    assert_string_equal(output("c1"), before);
    wants(204, "POST", "/containers/c1/unpause", NULL);
    assert_string_equal(inspected("c1", "State.Status"), "running");
    while (strlen(output("c1")) == strlen(before))
        uv_run(&rig.loop, UV_RUN_NOWAIT);
    wants(204, "POST", "/containers/c1/pause", NULL);
    wants(204, "POST", "/containers/c1/stop?t=0", NULL);
    assert_string_equal(inspected("c1", "State.Status"), "exited");
}

static void logs_are_followed_to_the_end(void **state)
{
    struct web_client c;
    AUTO_FREE
    char *request = NULL;
    size_t total = 0;

    need_machine();
    create("c1", "\"Cmd\":[\"sh\",\"-c\",\"yes abcdefg | head -n 100000\"]", "");
    start("c1");
    request = web_request("GET", "/containers/c1/logs?stdout=1&follow=1", NULL);
    web_send(&c, &web, request);
    web_await(&c);
    for (; c.body.length >= 8; total++) {
        const unsigned char *head = (const unsigned char *)buf_bytes(&c.body);
        size_t size = (size_t)head[4] << 24 | (size_t)head[5] << 16 | (size_t)head[6] << 8 | head[7];

        buf_consume(&c.body, 8 + size);
    }
    assert_int_equal(total, 100000);
    web_fini(&c);
}

static void policy_brings_it_back(void **state)
{
    need_machine();
    create("c1", "\"Cmd\":[\"sh\",\"-c\",\"exit 3\"]",
           "\"RestartPolicy\":{\"Name\":\"on-failure\",\"MaximumRetryCount\":2}");
    start("c1");
    assert_int_equal(wait_exit("c1"), 3);
    assert_string_equal(inspected("c1", "RestartCount"), "2");
}

static void auto_remove_leaves_nothing(void **state)
{
    json_t *answer;

    need_machine();
    create("c1", "\"Cmd\":[\"true\"],\"Volumes\":{\"/v\":{}}", "\"AutoRemove\":true");
    AUTO_FREE
    char *request = web_request("POST", "/containers/c1/wait?condition=removed", NULL);
    struct web_client c;
    web_send(&c, &web, request);
    while (!c.status)
        web_turn(&c);
    start("c1");
    web_await(&c);
    assert_string_equal(buf_str(&c.body), "{\"StatusCode\":0}\n");
    web_fini(&c);
    assert_int_equal(ask("GET", "/volumes", NULL, &answer), 200);
    assert_int_equal(json_array_size(web_at(answer, "Volumes")), 0);
    json_decref(answer);
}

static void restart(void)
{
    engine_rig_stop(&rig);
    engine_rig_start(&rig);
    web.engine = rig.engine;
    web.server = rig.server;
}

static void containers_outlive_the_engine(void **state)
{
    need_machine();
    create("on", "\"Cmd\":[\"sh\",\"-c\",\"while :; do echo tick; sleep 0.1; done\"]", "");
    create("ends", "\"Cmd\":[\"sh\",\"-c\",\"sleep 0.3; exit 9\"]", "");
    start("on");
    start("ends");
    const char *pid = inspected("on", "State.Pid");
    engine_rig_stop(&rig);
    (void)poll(NULL, 0, 600); /* the time in which the second one ends */
    engine_rig_start(&rig);
    web.engine = rig.engine;
    web.server = rig.server;
    assert_string_equal(inspected("on", "State.Status"), "running");
    assert_string_equal(inspected("on", "State.Pid"), pid);
    assert_string_equal(inspected("ends", "State.Status"), "exited");
    assert_string_equal(inspected("ends", "State.ExitCode"), "9");
    assert_string_equal(inspected("ends", "State.Error"), "");
    restart();
    assert_string_equal(inspected("ends", "State.ExitCode"), "9");
    wants(204, "POST", "/containers/on/stop?t=0", NULL);
}

static void cycles_leave_the_machine_as_it_was(void **state)
{
    struct engine_rig_census before = {0}, after;

    need_machine();
    for (int round = 0; round < 40; round++) {
        if (round == 10) /* whatever is made once has been made */
            before = settled();
        create("c1", "\"Cmd\":[\"true\"],\"Volumes\":{\"/v\":{}}", "");
        start("c1");
        assert_int_equal(wait_exit("c1"), 0);
        wants(204, "DELETE", "/containers/c1?v=1", NULL);
    }
    after = settled();
    assert_int_equal(after.mounts, before.mounts);
    assert_int_equal(after.groups, before.groups);
    assert_int_equal(after.files, before.files);
    assert_int_equal(after.children, before.children);
    assert_int_equal(after.fds, before.fds);
}

/* --- the stock client ------------------------------------------------------------------------------------------
 */

/* An archive as docker save makes it, in the rig's directory. */
static const char *an_archive(void)
{
    static const char *const tags[] = {"[\"loaded:1\"]"};
    struct made made = {0};
    const struct made *all[] = {&made};
    AUTO_BUF struct buf tar = {0};
    char *path = arena_printf(&arena, "%s/archive.tar", rig.dir);
    int fd = open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);

    made_layer(&made, "file", "content", NULL);
    made_finish(&made, NULL, "");
    archive_docker(&tar, all, tags, 1);
    assert_int_equal(write_all(fd, buf_bytes(&tar), tar.length, NULL), 0);
    close(fd);
    made_fini(&made);
    return path;
}

static void stock_client_brings_images(void **state)
{
    need_machine();
    if (!has_client())
        skip();
    says(client("tar -C / -c bin/busybox | docker import -c 'CMD [\"/bin/busybox\",\"true\"]' - imported:1", 0),
         "sha256:");
    says(client("docker create --name i1 --network none imported:1; docker start i1; docker wait i1", 0), "\n0\n");
    says(client(arena_printf(&arena, "docker load -i %s", an_archive()), 0), "Loaded image: loaded:1");
    says(client("docker images --format '{{.Repository}}:{{.Tag}}'", 0), "loaded:1");
    says(client("docker rmi imported:1", 1), "conflict");
    says(client("echo rubbish | docker load", 1), "");
    says(client("docker pull 127.0.0.1:1/nothing:1", 1), "");
    says(client("docker rm i1; docker rmi imported:1 loaded:1", 0), "Deleted:");
    says(client("docker image prune -af", 0), "Total reclaimed space");
}

static void stock_client_works(void **state)
{
    need_machine();
    if (!has_client())
        skip();
    says(client("docker version", 0), "API version:      1.45");
    says(client("docker info", 0), "Storage Driver: overlay2");
    says(client("docker images", 0), "box");
    says(client("docker create --name c1 --network none -e A=1 -v stuff:/data box:1 "
                "sh -c 'echo $A; echo err >&2; sleep 0.2; exit 4'",
                0),
         "");
    says(client("docker start c1", 0), "c1");
    says(client("docker wait c1", 0), "4");
    says(client("docker logs c1", 0), "1\n");
    says(client("docker logs --tail 1 -t c1", 0), "Z ");
    says(client("docker ps -a", 0), "Exited (4)");
    says(client("docker ps -a --filter exited=4 --format '{{.Names}} {{.Image}} {{.State}}'", 0),
         "c1 box:1 exited");
    says(client("docker ps -as", 0), "virtual");
    says(client("docker inspect -f '{{.State.ExitCode}} {{.HostConfig.NetworkMode}} {{.Name}}' c1", 0),
         "4 none /c1");
    says(client("docker volume ls", 0), "stuff");
    says(client("docker volume rm stuff", 1), "volume is in use");
    says(client("docker rename c1 c2; docker rm c2", 0), "c2");
    says(client("docker volume inspect -f '{{.Driver}}' stuff; docker volume rm stuff", 0), "local");
    says(client("docker create box:1 true", 0), "bridge networks come later");
    says(client("docker create --network none --name loop box:1 sleep 1000", 0), "");
    says(client("docker start loop; docker pause loop; docker ps; docker unpause loop", 0), "(Paused)");
    says(client("docker stop -t 0 loop; docker restart -t 0 loop; docker kill loop; docker rm -f loop", 0), "loop");
    says(client("docker network ls", 0), "none");
    says(client("docker network create mine", 1), "not implemented");
    says(client("docker history box:1", 0), "IMAGE");
    says(client("docker tag box:1 box:2; docker rmi box:2", 0), "Untagged: box:2");
    says(client("docker events --since 1h --until $(date +%s.%N) --filter event=create --format '{{.Type}} "
                "{{.Action}}'",
                0),
         "container create");
    says(client("docker container prune -f", 0), "Total reclaimed space");
    says(client("docker inspect nothing-has-this-name", 1), "No such object: nothing-has-this-name");
    says(client("docker system prune -f", 0), "Total reclaimed space");
    says(client("docker system df", 0), "Images");
    says(client("docker exec loop true", 1), "");
    says(client("docker create --name bad --network none box:1 /nothing; docker start bad", 1),
         "executable file not found");
    says(client("docker rm bad; docker start nobody", 1), "No such container: nobody");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(container_runs_logs_and_ends_with_its_code),
        TEST(configuration_reaches_the_program),
        TEST(mounts_are_there_and_in_order),
        TEST(programs_that_cannot_be_run_are_told_apart),
        TEST(stop_and_kill_end_containers),
        TEST(pause_freezes_the_program),
        TEST(logs_are_followed_to_the_end),
        TEST(policy_brings_it_back),
        TEST(auto_remove_leaves_nothing),
        TEST(containers_outlive_the_engine),
        TEST(cycles_leave_the_machine_as_it_was),
        TEST(stock_client_works),
        TEST(stock_client_brings_images),
    };

    missing = engine_rig_missing();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
