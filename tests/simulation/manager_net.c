/* See manager_world.h: links between managers, and between managers and agents. Each way of each link loses,
 * delays, repeats and thereby reorders on its own. */
#include "proto/base/mem.h"
#include "tests/simulation/manager_world.h"

#define DELAY_US    2000   /* at most, on a good link */
#define PATIENCE_US 500000 /* of who asks a manager that does not take the request */

unsigned msim_end_of_agent(unsigned number)
{
    return MSIM_MANAGERS + 1 + number;
}

void msim_send(struct msim *w, unsigned from, unsigned to, const void *data, size_t size,
               void (*fire)(struct msim *w, struct msim_event *e))
{
    const struct msim_link *l = &w->links[from][to];
    unsigned copies = msim_below(w, 1000) < l->twice ? 2 : 1;

    if (l->cut || msim_below(w, 1000) < l->drop)
        return;
    while (copies--)
        msim_schedule(w, 100 + (int64_t)msim_below(w, (uint64_t)l->delay_us),
                      (struct msim_event){
                          .fire = fire, .life = to, .number = from, .pointer = mem_dup(data, size), .size = size});
}

static void fire_ask(struct msim *w, struct msim_event *e)
{
    struct msim_ask *a = *(struct msim_ask **)e->pointer;
    const struct msim_manager *m = a->manager;
    bool alive = m->up && m->life == a->life;
    int64_t stopped_us = alive ? m->paused_until_us - w->now_us : 0;

    if (stopped_us > 0 && !a->is_late) { /* it waits in the socket; who asks may not wait so long */
        bool gives_up = stopped_us > PATIENCE_US && msim_chance(w, 80);

        a->is_late = gives_up;
        msim_schedule(w, gives_up ? PATIENCE_US : stopped_us + (int64_t)msim_below(w, 100),
                      (struct msim_event){.fire = fire_ask, .pointer = mem_dup(&a, sizeof(struct msim_ask *))});
        return;
    }
    a->arrived(a, alive && !a->is_late);
}

void msim_ask(struct msim *w, struct msim_ask *a, struct msim_manager *m)
{
    a->manager = m;
    a->life = m->life;
    a->is_late = false;
    msim_schedule(w, (int64_t)msim_below(w, 500),
                  (struct msim_event){.fire = fire_ask, .pointer = mem_dup(&a, sizeof(struct msim_ask *))});
}

bool msim_connected(const struct msim *w, unsigned a, unsigned b)
{
    return !w->links[a][b].cut && !w->links[b][a].cut;
}

static void each_link(struct msim *w, void (*each)(struct msim_link *l, uint64_t a, uint64_t b), uint64_t a,
                      uint64_t b)
{
    for (unsigned from = 0; from < MSIM_ENDS; from++)
        for (unsigned to = 0; to < MSIM_ENDS; to++)
            each(&w->links[from][to], a, b);
}

static void mend(struct msim_link *l, uint64_t drop, uint64_t twice)
{
    *l = (struct msim_link){.drop = (unsigned)drop, .twice = (unsigned)twice, .delay_us = DELAY_US};
}

void msim_net_heal(struct msim *w)
{
    each_link(w, mend, 0, 0);
}

void msim_isolate(struct msim *w, unsigned end)
{
    for (unsigned other = 0; other < MSIM_ENDS; other++)
        w->links[end][other].cut = w->links[other][end].cut = true;
}

/* Who can talk to whom is decided by a coin for each. */
static void partition(struct msim *w)
{
    uint64_t sides = entropy_u64(&w->random.base);

    for (unsigned a = 0; a < MSIM_ENDS; a++)
        for (unsigned b = 0; b < MSIM_ENDS; b++)
            w->links[a][b].cut = (sides >> a ^ sides >> b) & 1;
    w->counts.partitions++;
}

static void slow_down(struct msim *w)
{
    unsigned end = 1 + (unsigned)msim_below(w, MSIM_ENDS - 1);
    int64_t delay_us = 5000 + (int64_t)msim_below(w, 80000);

    for (unsigned other = 0; other < MSIM_ENDS; other++) {
        w->links[end][other].delay_us = delay_us;
        w->links[other][end].delay_us = msim_chance(w, 50) ? delay_us : DELAY_US;
    }
}

void msim_net_disturb(struct msim *w)
{
    unsigned a = 1 + (unsigned)msim_below(w, w->manager_count), b = 1 + (unsigned)msim_below(w, MSIM_ENDS - 1);
    struct msim_manager *leader = msim_leader(w);

    switch (msim_below(w, 8)) {
    case 0:
        partition(w);
        break;
    case 1:
        w->links[a][b].cut = true; /* one way */
        w->counts.one_way++;
        break;
    case 2:
        if (leader) {
            msim_isolate(w, (unsigned)leader->id);
            w->counts.isolated++;
        }
        break;
    case 3:
        msim_isolate(w, a);
        break;
    case 4:
        slow_down(w);
        break;
    case 5: /* lossy, everywhere */
        each_link(w, mend, msim_below(w, 200), msim_below(w, 200));
        w->counts.noisy++;
        break;
    default:
        msim_net_heal(w);
        break;
    }
}
