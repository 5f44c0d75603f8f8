/* Nothing of the cluster's state can be read on a manager's disk (DESIGN.md section 5), nor in what it logs:
 * secrets are put wherever a manager takes some, and whatever it wrote, log, snapshot and store, is searched for
 * them, as they are and in the forms in which they travel. */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include <cmocka.h>
#include <dirent.h>
#include <ftw.h>

#include "manager/ca/ca.h"
#include "proto/base/base64.h"
#include "proto/base/clock.h"
#include "proto/base/file.h"
#include "proto/base/mem.h"
#include "tests/support/puppet.h"

#define CANARIES_MAX 256

struct canary {
    const char *name;
    const void *bytes;
    size_t size;
};

static struct cluster c;
static struct puppet first;
static struct canary canaries[CANARIES_MAX];
static size_t canary_count;
static int said = -1; /* what the manager logged: a file */
static int real_stderr = -1;

/* --- what is looked for ----------------------------------------------------------------------------------- */

static void look_for(const char *name, const void *bytes, size_t size)
{
    assert_true(canary_count < CANARIES_MAX && size >= 8);
    canaries[canary_count++] =
        (struct canary){.name = name, .bytes = arena_dup(&c.arena, bytes, size), .size = size};
}

static void look_for_text(const char *name, const char *text)
{
    look_for(name, text, strlen(text));
}

/* A key as text: each line, and each line's bytes. What all keys begin with is left out. */
static void look_for_pem(const char *name, const char *pem)
{
    const char *line = strchr(pem, '\n') + 1;

    for (int i = 0; strncmp(line, "-----", 5) != 0; line = strchr(line, '\n') + 1, i++) {
        size_t length = (size_t)(strchr(line, '\n') - line), size = 0;
        uint8_t bytes[64];

        if (i == 0 || length < 16)
            continue; /* the first line names the kind of key */
        look_for(name, line, 16);
        if (length % 4 == 0 && base64_decode(line, length, bytes, &size) && size >= 16)
            look_for(name, bytes + 8, 8);
    }
}

static const char *json_text(const char *text)
{
    struct buf out = {0};
    struct jwrite j = JWRITE_TO(&out);

    jwrite_string(&j, NULL, text);
    const char *copy = arena_strdup(&c.arena, buf_str(&out));
    buf_fini(&out);
    return copy;
}

/* --- searching ---------------------------------------------------------------------------------------------- */

static unsigned files, found;
static bool expected; /* the search itself is tested: findings are counted, not said */

static void search(const char *path)
{
    struct buf bytes = {0};
    struct err e;

    if (file_read(AT_FDCWD, path, 256 << 20, &bytes, &e) < 0)
        fail_msg("%s", e.text);
    for (size_t i = 0; i < canary_count; i++) {
        if (!bytes.length || !memmem(buf_bytes(&bytes), bytes.length, canaries[i].bytes, canaries[i].size))
            continue;
        found++;
        if (!expected)
            print_error("%s can be read in %s\n", canaries[i].name, path);
    }
    files++;
    buf_fini(&bytes);
}

static int on_file(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    if (type == FTW_F)
        search(path);
    return 0;
}

static void assert_nothing_is_readable(void)
{
    AUTO_FREE
    char *log = mem_printf("/proc/self/fd/%d", said);

    files = found = 0;
    assert_int_equal(nftw(c.dir, on_file, 16, FTW_PHYS), 0);
    assert_true(files >= 4); /* the store, a term, a segment... */
    search(log);
    assert_int_equal(found, 0);
}

static bool has_snapshot(void)
{
    AUTO_FREE
    char *path = mem_printf("%s/raft/snapshots", c.dir);
    DIR *entries = opendir(path);
    const struct dirent *entry;
    bool any = false;

    while (entries && (entry = readdir(entries)))
        any = any || (entry->d_name[0] != '.' && !strstr(entry->d_name, ".tmp"));
    if (entries)
        closedir(entries);
    return any;
}

/* --- a life -------------------------------------------------------------------------------------------------- */

static int setup(void **state)
{
    char path[] = "/tmp/sealed-test-XXXXXX";

    said = mkostemp(path, O_CLOEXEC);
    (void)unlink(path); /* it lives as long as we do */
    real_stderr = dup(STDERR_FILENO);
    if (said < 0 || real_stderr < 0)
        return -1;
    (void)dup2(said, STDERR_FILENO); /* both are open */
    canary_count = 0;
    cluster_tuning = (struct manager_tuning){.registrations_per_node = 1000, .snapshot_bytes = 256 * 1024};
    cluster_found(&c, "/tmp", "{\"ListenAddr\":\"127.0.0.1:0\",\"AutoLockManagers\":true}");
    puppet_start(&first, &c);
    look_for_pem("the root's key", c.founding.root_key_pem);
    look_for_pem("the manager's key", c.founding.key_pem);
    look_for("the data key", c.founding.data_key, 16);
    look_for("the data key", c.founding.data_key + 16, 16);
    look_for_text("a worker's join secret", c.founding.worker_secret);
    look_for_text("a manager's join secret", c.founding.manager_secret);
    return 0;
}

static int teardown(void **state)
{
    puppet_end(&first);
    cluster_end(&c);
    (void)dup2(real_stderr, STDERR_FILENO); /* it was it */
    close(real_stderr);
    close(said);
    cluster_tuning = (struct manager_tuning){0};
    return 0;
}

static const char *version(const char *path)
{
    return json_at(&c, cluster_expect(&c, 200, "GET", path, NULL), "Version.Index");
}

static void update_swarm(const char *query, const char *body)
{
    cluster_expect(&c, 200, "POST", arena_printf(&c.arena, "/swarm/update?version=%s%s", version("/swarm"), query),
                   body);
}

static void look_for_unlock_key(void)
{
    const char *text = json_at(&c, cluster_expect(&c, 200, "GET", "/swarm/unlockkey", NULL), "UnlockKey");
    uint8_t key[MANAGER_LOCK_KEY];

    assert_int_equal(manager_lock_parse(text, key, NULL), 0);
    look_for_text("an unlock key", text + 9);
    look_for("an unlock key", key, 16);
    look_for("an unlock key", key + 16, 16);
}

static void look_for_tokens(void)
{
    const char *swarm = cluster_expect(&c, 200, "GET", "/swarm", NULL);

    look_for_text("a worker's join secret", strrchr(json_at(&c, swarm, "JoinTokens.Worker"), '-') + 1);
    look_for_text("a manager's join secret", strrchr(json_at(&c, swarm, "JoinTokens.Manager"), '-') + 1);
}

/* Whatever a manager can be told that is nobody's business. */
static void live(void)
{
    AUTO_FREE
    char *certificate = NULL;
    AUTO_FREE
    char *key = NULL;
    struct answer a;

    look_for_unlock_key();
    update_swarm("&rotateManagerUnlockKey=1&rotateWorkerToken=1&rotateManagerToken=1", "{}");
    look_for_unlock_key();
    look_for_tokens();
    assert_int_equal(ca_root_new(clock_wall_ms(clock_real()), &certificate, &key, NULL), 0);
    look_for_pem("the next root's key", key);
    update_swarm("", arena_printf(&c.arena, "{\"CAConfig\":{\"SigningCACert\":%s,\"SigningCAKey\":%s}}",
                                  json_text(certificate), json_text(key)));
    look_for_text("registry credentials", "eyJwYXNzd29yZCI6ImNhbmFyeSJ9");
    look_for_text("registry credentials", "{\"password\":\"canary\"}");
    look_for_text("an environment", "PASSWORD=canary-in-the-mine");
    look_for_text("a service's name", "canaryservice");
    look_for_text("a label", "label-of-the-canary");
    cluster_ask_as(&c, &a, "POST", "/services/create",
                   "{\"Name\":\"canaryservice\",\"Labels\":{\"label-of-the-canary\":\"1\"},\"TaskTemplate\":{"
                   "\"ContainerSpec\":{\"Image\":\"web:1\",\"Env\":[\"PASSWORD=canary-in-the-mine\"]}}}",
                   "eyJwYXNzd29yZCI6ImNhbmFyeSJ9");
    cluster_until(&c, a.done);
    assert_int_equal(a.status, 201);
    answer_fini(&a);
    cluster_until(&c, puppet_running(&first) == 1);
}

/* More than the log keeps without a snapshot. */
static void fill(void)
{
    char *value = arena_alloc(&c.arena, 20001);

    memset(value, 'x', 20000);
    for (int i = 0; i < 40; i++)
        update_swarm("", arena_printf(&c.arena, "{\"Labels\":{\"round\":\"%d\",\"filler\":\"%s\"}}", i, value));
}

/* --- the tests -------------------------------------------------------------------------------------------------
 */

static void the_search_finds_what_is_there(void **state)
{
    AUTO_FREE
    char *path = mem_printf("%s/left-open", c.dir);
    AUTO_CLOSE
    int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);

    assert_int_equal(write(fd, c.founding.root_key_pem, strlen(c.founding.root_key_pem)),
                     strlen(c.founding.root_key_pem));
    assert_int_equal(write(fd, c.founding.worker_secret, 25), 25);
    assert_int_equal(write(fd, c.founding.data_key, 32), 32);
    found = 0;
    expected = true;
    search(path);
    expected = false;
    assert_true(found >= 5); /* two lines of the key, the secret, the data key's halves */
}

static void nothing_is_readable_while_a_manager_lives_nor_afterwards(void **state)
{
    live();
    assert_nothing_is_readable();
    fill();
    cluster_until(&c, has_snapshot());
    assert_nothing_is_readable();
    cluster_stop(&c);
    assert_nothing_is_readable();
    cluster_start(&c); /* it reads all of it */
    puppet_connect(&first);
    cluster_until(&c, first.ready);
    assert_nothing_is_readable();
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(the_search_finds_what_is_there),
        TEST(nothing_is_readable_while_a_manager_lives_nor_afterwards),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
