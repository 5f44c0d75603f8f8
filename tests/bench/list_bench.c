/* What it costs to look at a large cluster (GOALS P18), at the manager's door: threads, mail and JSON as in
 * production, no HTTP.
 *
 *     list_bench [TASKS]      100,000 tasks in services of 100 when not given
 *
 *     list          the 100 tasks of one service, to the last byte (median, milliseconds); beside it the same in a
 *                   cluster of a hundredth of the size, which it must not exceed by much: a list costs its result
 *     inspect       one service (median, microseconds)
 *     all_tasks     every task of the cluster in one answer (microseconds of wall time and of CPU per task)
 *     all_services  every service
 *     beside        the longest that another small request waited while these two were made (milliseconds): the
 *                   manager's loop has other things to do
 *
 * Wall time, on a machine that others may use; the store lies in $TMPDIR (default /tmp). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "proto/base/log.h"
#include "tests/bench/figure.h"
#include "tests/support/puppet.h"

enum { PER_SERVICE = 100, AT_ONCE = 200, LOOKS = 200, PER_AGENT = 40000, AGENTS_MOST = 32 };

struct stage {
    struct cluster c;
    struct puppet agents[AGENTS_MOST]; /* mute: that tasks are assigned is enough */
    unsigned agent_count;
    unsigned services;
};

static const char *base(void)
{
    const char *dir = getenv("TMPDIR");

    return dir ? dir : "/tmp";
}

static void create(struct stage *s, struct answer *a, unsigned n)
{
    char body[256];

    (void)snprintf(body, sizeof(body),
                   "{\"Name\":\"s%u\",\"TaskTemplate\":{\"ContainerSpec\":{\"Image\":\"web:1\",\"Env\":[\"A=1\"]}},"
                   "\"Mode\":{\"Replicated\":{\"Replicas\":%d}}}",
                   n, PER_SERVICE); /* fits */
    cluster_ask(&s->c, a, "POST", "/services/create", body);
}

static void open_agents(struct stage *s, unsigned count)
{
    char name[16];

    if (count > AGENTS_MOST)
        bench_die("more than %d agents", AGENTS_MOST);
    puppet_start(&s->agents[0], &s->c);
    for (unsigned i = 1; i < count; i++) {
        (void)snprintf(name, sizeof(name), "w%u", i); /* fits */
        puppet_join(&s->agents[i], &s->c, name);
    }
    s->agent_count = count;
    for (unsigned i = 0; i < count; i++)
        s->agents[i].mute = true;
}

static void beat(struct stage *s)
{
    for (unsigned i = 0; i < s->agent_count; i++)
        if (!s->agents[i].unsent.length)
            puppet_heartbeat(&s->agents[i]);
}

static size_t assigned(const struct stage *s)
{
    size_t count = 0;

    for (unsigned i = 0; i < s->agent_count; i++)
        count += s->agents[i].tasks.count;
    return count;
}

static void open_stage(struct stage *s, unsigned tasks)
{
    static struct answer answers[AT_ONCE];

    cluster_found(&s->c, base(), NULL);
    open_agents(s, tasks / PER_AGENT + 1);
    s->services = tasks / PER_SERVICE;
    for (unsigned made = 0; made < s->services;) {
        unsigned count = 0;

        beat(s);
        for (; count < AT_ONCE && made < s->services; count++)
            create(s, &answers[count], made++);
        for (unsigned i = 0; i < count; i++) {
            cluster_until(&s->c, answers[i].done);
            if (answers[i].status != 201)
                bench_die("create: %d %s", answers[i].status, buf_str(&answers[i].body));
            answer_fini(&answers[i]);
        }
        /* The agent keeps up, so that the patience of the next wait is for the next services alone. */
        cluster_until(&s->c, assigned(s) >= (size_t)made * PER_SERVICE);
    }
}

static void close_stage(struct stage *s)
{
    for (unsigned i = 0; i < s->agent_count; i++)
        puppet_end(&s->agents[i]);
    cluster_end(&s->c);
}

/* Returns how long it took in ms; *ret_bytes, which may be NULL: of the answer. */
static double ask(struct stage *s, const char *path, size_t *ret_bytes)
{
    double began = bench_now_ms();
    struct answer a;

    cluster_ask(&s->c, &a, "GET", path, NULL);
    cluster_until(&s->c, a.done);
    double took = bench_now_ms() - began;
    if (a.status != 200)
        bench_die("%s: %d %s", path, a.status, buf_str(&a.body));
    if (ret_bytes)
        *ret_bytes = a.body.length;
    answer_fini(&a);
    return took;
}

static void look(struct stage *s, const char *fmt, struct samples *took)
{
    char path[128];

    *took = (struct samples){0};
    beat(s);
    for (unsigned i = 0; i < LOOKS; i++) {
        (void)snprintf(path, sizeof(path), "%s%u%s", fmt, i * 7919 % s->services,
                       strchr(fmt, '[') ? "\"]}" : ""); /* fits */
        samples_add(took, ask(s, path, NULL));
    }
}

#define TASKS_OF "/tasks?filters={\"service\":[\"s"

/* A list of everything, with small requests beside it, one after the other. */
static void list_all(struct stage *s, const char *what, const char *path, unsigned items)
{
    double began = bench_now_ms(), cpu = bench_own_cpu_ms(), longest = 0;
    struct answer all;
    unsigned asked = 0;

    beat(s);
    cluster_ask(&s->c, &all, "GET", path, NULL);
    while (!all.done) {
        double took = ask(s, "/swarm", NULL);

        longest = took > longest ? took : longest;
        asked++;
    }
    double took = bench_now_ms() - began;
    if (all.status != 200)
        bench_die("%s: %d %s", path, all.status, buf_str(&all.body));
    figure("P18", what, took * 1000 / items, "us", items, 0, "cpu=%.3g bytes=%zu pages=%u beside=%.3gms_of_%u",
           (bench_own_cpu_ms() - cpu) * 1000 / items, all.body.length, all.pages, longest, asked);
    answer_fini(&all);
}

int main(int argc, char **argv)
{
    unsigned tasks = argc > 1 ? (unsigned)strtoul(argv[1], NULL, 10) : 100000;
    static struct samples took;
    static struct stage s;

    if (tasks < PER_SERVICE * 100)
        bench_die("at least %d tasks", PER_SERVICE * 100);
    log_set_level(LOG_LEVEL_ERROR);
    open_stage(&s, tasks / 100);
    look(&s, TASKS_OF, &took);
    double small = samples_percentile(&took, 50);
    close_stage(&s);
    memset(&s, 0, sizeof(s));
    open_stage(&s, tasks);
    look(&s, TASKS_OF, &took);
    figure("P18", "list", samples_percentile(&took, 50), "ms", took.count, small, "p99=%.3g tasks=%u",
           samples_percentile(&took, 99), tasks);
    look(&s, "/services/s", &took);
    figure("P18", "inspect", samples_percentile(&took, 50) * 1000, "us", took.count, 0, "p99=%.4g",
           samples_percentile(&took, 99) * 1000);
    list_all(&s, "all_services", "/services", s.services);
    list_all(&s, "all_services_status", "/services?status=true", s.services);
    list_all(&s, "all_tasks", "/tasks", tasks);
    close_stage(&s);
    return 0;
}
