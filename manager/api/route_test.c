/* Which paths the swarm API has, what is read from them, and what is refused before anything is asked. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "manager/api/ask.h"
#include "proto/base/mem.h"

static int prepare(struct ask *k, const char *method, const char *path, const char *query, const char *body,
                   struct err *e)
{
    struct ask_source source = {.method = method,
                                .path = path,
                                .query = query,
                                .body = body ? body : "",
                                .body_size = body ? strlen(body) : 0,
                                .api_minor = 45};

    return ask_prepare(k, &source, e);
}

static void paths_lead_to_their_routes(void **state)
{
    static const struct {
        const char *method, *path, *route, *id; /* route NULL: page not found */
    } cases[] = {
        {"GET", "/services", "/services", NULL},
        {"GET", "/services/web", "/services/{id}", "web"},
        {"DELETE", "/services/web", "/services/{id}", "web"},
        {"GET", "/services/create", "/services/{id}", "create"},
        {"GET", "/services/a%20b", "/services/{id}", "a%20b"}, /* decoded before it comes here */
        {"GET", "/services/web/logs", "/services/{id}/logs", "web"},
        {"POST", "/services", NULL, NULL},
        {"PUT", "/services/web", NULL, NULL},
        {"GET", "/services/", NULL, NULL},
        {"GET", "/services//logs", NULL, NULL},
        {"GET", "/services/web/tasks", NULL, NULL},
        {"GET", "/servicesx", NULL, NULL},
        {"GET", "/service", NULL, NULL},
        {"GET", "services", NULL, NULL},
        {"GET", "", NULL, NULL},
        {"GET", "/", NULL, NULL},
        {"GET", "/tasks", "/tasks", NULL},
        {"GET", "/tasks/1", "/tasks/{id}", "1"},
        {"GET", "/nodes/self", "/nodes/{id}", "self"},
        {"GET", "/swarm", "/swarm", NULL},
        {"GET", "/swarm/unlockkey", "/swarm/unlockkey", NULL},
        {"GET", "/secrets", "/secrets", NULL},
        {"GET", "/configs", "/configs", NULL},
        {"GET", "/networks/host", "/networks/{id}", "host"},
        {"GET", "/containers/json", NULL, NULL},
    };

    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct ask *k = ask_new();
        struct err e = {0};
        int rc = prepare(k, cases[i].method, cases[i].path, "stdout=1", NULL, &e);

        if (!cases[i].route) {
            if (rc != ERR_NOT_FOUND || strcmp(e.text, "page not found") != 0)
                fail_msg("%s %s: code %d, \"%s\"", cases[i].method, cases[i].path, rc, e.text);
        } else {
            if (rc < 0 || strcmp(k->route->path, cases[i].route) != 0 || !k->id != !cases[i].id ||
                (k->id && strcmp(k->id, cases[i].id) != 0))
                fail_msg("%s %s: code %d, route %s, id %s", cases[i].method, cases[i].path, rc,
                         rc < 0 ? e.text : k->route->path, k->id ? k->id : "none");
        }
        ask_free(k);
    }
}

static void only_nouns_of_the_swarm_are_served(void **state)
{
    static const char *const ours[] = {"/services", "/services/create", "/services/x/logs", "/tasks/x", "/nodes",
                                       "/swarm",    "/swarm/update",    "/secrets/create",  "/configs"};
    static const char *const not_ours[] = {"/networks/host", "/networks",     "/swarm/init",
                                           "/swarm/join",    "/swarm/leave",  "/info",
                                           "/containers",    "/services/x/y", ""};

    for (size_t i = 0; i < ARRAY_SIZE(ours); i++)
        assert_true(ask_serves(ours[i]));
    for (size_t i = 0; i < ARRAY_SIZE(not_ours); i++)
        if (ask_serves(not_ours[i]))
            fail_msg("%s", not_ours[i]);
}

#define SPEC "{\"Name\":\"web\",\"TaskTemplate\":{\"ContainerSpec\":{\"Image\":\"i\"}}}"

static void what_makes_no_sense_is_refused_before_it_is_asked(void **state)
{
    static const struct {
        const char *method, *path, *query, *body;
        int code;
        const char *says;
    } cases[] = {
        {"GET", "/services", "filters=%7B%22color%22%3A%5B%22red%22%5D%7D", NULL, ERR_INVALID,
         "invalid filter 'color'"},
        {"GET", "/services", "filters=%7B", NULL, ERR_INVALID, "invalid filters"},
        {"GET", "/services", "a=%zz", NULL, ERR_INVALID, "invalid URL escape"},
        {"GET", "/tasks", "filters=%7B%22desired-state%22%3A%5B%22flying%22%5D%7D", NULL, ERR_INVALID, "flying"},
        {"GET", "/tasks", "filters=%7B%22_up-to-date%22%3A%5B%22maybe%22%5D%7D", NULL, ERR_INVALID, "maybe"},
        {"GET", "/nodes", "filters=%7B%22role%22%3A%5B%22king%22%5D%7D", NULL, ERR_INVALID, "king"},
        {"GET", "/nodes", "filters=%7B%22membership%22%3A%5B%22x%22%5D%7D", NULL, ERR_INVALID, "membership=x"},
        {"POST", "/services/create", "", "", ERR_INVALID, "invalid JSON"},
        {"POST", "/services/create", "", "[]", ERR_INVALID, "expected an object"},
        {"POST", "/services/create", "", "{\"Name\":1}", ERR_INVALID, "Name"},
        {"POST", "/services/create", "", "{\"Name\":\"web\"}", ERR_INVALID,
         "rpc error: code = InvalidArgument desc = TaskTemplate is missing"},
        {"POST", "/services/web/update", "", SPEC, ERR_INVALID, "invalid service version ''"},
        {"POST", "/services/web/update", "version=", SPEC, ERR_INVALID, "invalid service version ''"},
        {"POST", "/services/web/update", "version=x", SPEC, ERR_INVALID, "invalid service version 'x'"},
        {"POST", "/services/web/update", "version=-1", SPEC, ERR_INVALID, "invalid service version '-1'"},
        {"POST", "/services/web/update", "version=99999999999999999999", SPEC, ERR_INVALID,
         "invalid service version"},
        {"POST", "/services/web/update", "version=1&rollback=next", SPEC, ERR_INVALID, "next"},
        {"POST", "/services/web/update", "version=1&registryAuthFrom=moon", SPEC, ERR_INVALID, "moon"},
        {"GET", "/services/web/logs", "", NULL, ERR_INVALID, "you must choose at least one stream"},
        {"GET", "/services/web/logs", "stdout=0&stderr=false", NULL, ERR_INVALID, "at least one stream"},
        {"GET", "/services/web/logs", "stdout=1&tail=many", NULL, ERR_INVALID, "\"tail\": \"many\""},
        {"GET", "/services/web/logs", "stdout=1&tail=-4", NULL, ERR_INVALID, "\"tail\": \"-4\""},
        {"GET", "/tasks/x/logs", "stdout=1&since=yesterday", NULL, ERR_INVALID, "yesterday"},
        {"POST", "/nodes/x/update", "version=1", "{\"Availability\":\"active\"}", ERR_INVALID, "invalid Role"},
        {"POST", "/nodes/x/update", "version=1", "{\"Role\":\"worker\"}", ERR_INVALID, "invalid Availability"},
        {"POST", "/nodes/x/update", "version=1", "{\"Role\":\"worker\",\"Availability\":\"away\"}", ERR_INVALID,
         "away"},
        {"POST", "/nodes/x/update", "version=1", "[]", ERR_INVALID, "expected an object"},
        {"POST", "/swarm/update", "version=1", "{\"CAConfig\":{\"NodeCertExpiry\":5}}", ERR_INVALID,
         "at least 1h0m0s"},
        {"POST", "/swarm/update", "version=1", "{\"Name\":\"other\"}", ERR_INVALID, "default"},
        {"POST", "/swarm/update", "version=1", "{\"TaskDefaults\":{\"LogDriver\":{\"Name\":\"syslog\"}}}",
         ERR_UNSUPPORTED, "TaskDefaults.LogDriver.Name: syslog"},
        {"POST", "/secrets/create", "", "{}", ERR_UNSUPPORTED, "secrets are not offered"},
        {"POST", "/configs/create", "", "{}", ERR_UNSUPPORTED, "configs are not offered"},
        {"GET", "/secrets/key", "", NULL, ERR_NOT_FOUND, "secret key not found"},
        {"DELETE", "/configs/c", "", NULL, ERR_NOT_FOUND, "config c not found"},
        {"GET", "/secrets", "filters=%7B%22x%22%3A%5B%22y%22%5D%7D", NULL, ERR_INVALID, "invalid filter 'x'"},
    };

    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct ask *k = ask_new();
        struct err e = {0};
        int rc = prepare(k, cases[i].method, cases[i].path, cases[i].query, cases[i].body, &e);

        if (rc != cases[i].code || !strstr(e.text, cases[i].says))
            fail_msg("%s %s?%s: code %d, \"%s\"", cases[i].method, cases[i].path, cases[i].query, rc, e.text);
        ask_free(k);
    }
}

static void sensible_requests_are_taken(void **state)
{
    static const struct {
        const char *method, *path, *query, *body;
    } cases[] = {
        {"POST", "/services/create", "", SPEC},
        {"POST", "/services/web/update", "version=12", SPEC},
        {"POST", "/services/web/update", "version=12&rollback=previous", "{}"}, /* the body counts for nothing */
        {"POST", "/services/web/update", "version=12&registryAuthFrom=previous-spec&rollback=none", SPEC},
        {"GET", "/services", "status=true&filters={\"name\":{\"web\":true},\"mode\":[\"global\"]}", NULL},
        {"GET", "/tasks",
         "filters={\"service\":[\"web\"],\"_up-to-date\":[\"true\"],\"desired-state\":[\"running\",\"accepted\"],"
         "\"node\":[\"self\"],\"runtime\":[\"container\"],\"id\":[\"x\"],\"name\":[\"y\"],\"label\":[\"a=b\"]}",
         NULL},
        {"GET", "/services/web/logs",
         "stdout=1&stderr=1&follow=1&since=1700000000.5&until=2026-11-24T00:00:00Z&tail=all&timestamps=1&details=1",
         NULL},
        {"GET", "/tasks/x/logs", "stderr=true&tail=0&since=10m", NULL},
        {"POST", "/nodes/x/update", "version=3",
         "{\"Role\":\"worker\",\"Availability\":\"drain\",\"Labels\":{\"a\":\"\"}}"},
        {"POST", "/swarm/update", "version=3&rotateWorkerToken=true",
         "{\"Dispatcher\":{\"HeartbeatPeriod\":0},\"CAConfig\":{\"NodeCertExpiry\":0},\"TaskDefaults\":{}}"},
        {"DELETE", "/nodes/x", "force=1", NULL},
    };

    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct ask *k = ask_new();
        struct err e = {0};

        if (prepare(k, cases[i].method, cases[i].path, cases[i].query, cases[i].body, &e) < 0)
            fail_msg("%s %s?%s: \"%s\"", cases[i].method, cases[i].path, cases[i].query, e.text);
        ask_free(k);
    }
}

static void errors_of_managers_say_so_as_docker_does(void **state)
{
    static const struct {
        int code;
        const char *name;
    } cases[] = {{ERR_INVALID, "InvalidArgument"},   {ERR_NOT_FOUND, "NotFound"},
                 {ERR_EXISTS, "AlreadyExists"},      {ERR_PRECONDITION, "FailedPrecondition"},
                 {ERR_UNSUPPORTED, "Unimplemented"}, {ERR_SEQUENCE, "Unknown"},
                 {ERR_INTERNAL, "Unknown"},          {ERR_UNAVAILABLE, "Unavailable"}};

    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        char expected[64];
        struct err e;

        err_set(&e, cases[i].code, "it does 100%% not");
        assert_int_equal(ask_rpc_error(&e), cases[i].code);
        assert_int_equal(e.code, cases[i].code);
        (void)snprintf(expected, sizeof(expected), "rpc error: code = %s desc = it does 100%% not", cases[i].name);
        assert_string_equal(e.text, expected);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(paths_lead_to_their_routes),
        cmocka_unit_test(only_nouns_of_the_swarm_are_served),
        cmocka_unit_test(what_makes_no_sense_is_refused_before_it_is_asked),
        cmocka_unit_test(sensible_requests_are_taken),
        cmocka_unit_test(errors_of_managers_say_so_as_docker_does),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
