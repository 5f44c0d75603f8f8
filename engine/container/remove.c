/* Removal: see container.h. Out of the tables and off the records at once, so that name and id are free; the files
 * go through the trash, where nobody waits for them.
 *
 * What must survive a crash in the middle is written as status REMOVING: a container that still runs and has to be
 * killed first, and anonymous volumes that go with it. Everything else is one step. */
#include <signal.h>
#include <string.h>

#include "engine/container/container.h"
#include "engine/container/etc.h"
#include "engine/container/logs.h"
#include "engine/sweep.h"
#include "proto/base/log.h"
#include "proto/base/mem.h"

static bool has_anonymous(const struct container *c)
{
    for (size_t i = 0; i < c->record->n_mounts; i++)
        if (c->record->mounts[i]->anonymous)
            return true;
    return false;
}

static void mark(struct container *c, bool volumes)
{
    ContainerState *state = c->record->state;

    state->status = CONTAINER_STATUS_KIND__REMOVING;
    state->has_remove_volumes = state->remove_volumes = volumes;
}

static int refuse_running(const struct container *c, struct err *e)
{
    if (c->record->state->paused)
        return err_set(e, ERR_CONFLICT,
                       "cannot remove container \"/%s\": container is paused and must be unpaused first",
                       c->record->name);
    return err_set(e, ERR_CONFLICT,
                   "cannot remove container \"/%s\": container is %s: stop the container before removing or force "
                   "remove",
                   c->record->name, c->life == LIFE_WAITING ? "restarting" : "running");
}

int container_remove(struct container *c, bool force, bool volumes, engine_done *done, void *ctx, struct err *e)
{
    struct container_op *op;

    if (c->life != LIFE_REMOVING && !force &&
        (c->life == LIFE_STARTING || c->life == LIFE_RUNNING || c->life == LIFE_WAITING))
        return refuse_running(c, e);
    op = container_op_add(c, &c->removals, done, ctx);
    switch (c->life) {
    case LIFE_REMOVING: /* somebody asked before */
        break;
    case LIFE_STARTING:
        c->remove_ended = true;
        c->remove_volumes = volumes;
        break;
    case LIFE_RUNNING:
        sm_move(&container_machine, &c->life, LIFE_REMOVING);
        mark(c, volumes);
        container_save(c);
        container_send(c, SIGKILL);
        container_give_up_later(op);
        break;
    default:
        alarm_clear(&c->restart);
        sm_move(&container_machine, &c->life, LIFE_REMOVING);
        c->is_dead = false;
        mark(c, volumes);
        if (volumes && has_anonymous(c))
            container_save(c);
        container_remove_now(c);
    }
    return 0;
}

static void remove_volumes(struct container *c)
{
    for (size_t i = 0; i < c->record->n_mounts; i++) {
        const MountPoint *p = c->record->mounts[i];
        struct volume *v = p->anonymous ? volume_find(c->en->volumes, p->volume) : NULL;
        struct err e = {0};

        if (v && list_empty(&v->uses) && volume_remove(c->en->volumes, v, &e) < 0)
            log_warn("an anonymous volume stays", "container=%s volume=%s error=\"%s\"", c->record->id, p->volume,
                     e.text);
    }
}

static void removal_failed(struct container *c, const struct err *e)
{
    log_error("a container could not be removed", "container=%s error=\"%s\"", c->record->id, e->text);
    sm_move(&container_machine, &c->life, LIFE_ENDED);
    c->is_dead = true;
    c->record->state->status = CONTAINER_STATUS_KIND__DEAD;
    container_ops_end(&c->removals, e);
}

void container_remove_now(struct container *c)
{
    struct engine *en = c->en;
    struct containers *s = en->containers;
    struct err e = {0};

    container_release_volumes(c);
    if (c->record->state->remove_volumes)
        remove_volumes(c);
    if (records_remove(s->records, c->record->id, &e) < 0) {
        err_wrap(&e, "remove container %s", c->record->id);
        removal_failed(c, &e);
        return;
    }
    /* Who follows its output reads on to the end; the last one removes the files (logs.c), or else the next start.
     */
    if (!logs_are_read(en, c->record->id) &&
        sweep_take(s->sweep, s->fd, c->record->id, &e) < 0) /* without its record it goes at the next start */
        log_error("a removed container's files stay for now", "container=%s error=\"%s\"", c->record->id, e.text);
    etc_remove(c);
    keeper_forget(en->keeper, c->record->id);
    image_release(en->images, c->record->image_id);
    container_answer_waits(c, true, true);
    container_tell(c, ENGINE_REMOVED, "destroy", NULL, 0);
    container_ops_end(&c->stops, NULL);
    container_ops_end(&c->removals, NULL);
    container_drop(c);
}
