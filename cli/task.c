/* See task.h. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/list.h"
#include "cli/print.h"
#include "cli/task.h"
#include "cli/tree.h"
#include "proto/base/image_name.h"
#include "proto/base/mem.h"
#include "proto/base/timefmt.h"

#define ERROR_WIDTH 30

struct task_row {
    const json_t *task;
    char *name;       /* "web.1", or "web.NODE" for one task per node */
    const char *node; /* borrowed from the resolver */
    int64_t created_ns;
    bool older; /* of the slot of the row before */
    size_t place;
};

static const struct task_row *of(const struct row *row)
{
    return row->context;
}

static void show_task_id(const struct row *row, struct buf *out)
{
    show_id(row, tree_text(row->object, "ID"), out);
}

static void show_name(const struct row *row, struct buf *out)
{
    buf_printf(out, "%s%s", of(row)->older && row->list->is_table ? " \\_ " : "", of(row)->name);
}

static void show_image(const struct row *row, struct buf *out)
{
    const char *image = tree_text(row->object, "Spec.ContainerSpec.Image");
    AUTO_ARENA struct arena a;
    struct image_name name;

    arena_init(&a);
    if (row->list->truncate && image_name_parse(image, &a, &name, NULL) == 0 && name.tag && !name.tag_assumed)
        image = image_name_brief(&name, &a);
    buf_append_str(out, image);
}

static void show_node(const struct row *row, struct buf *out)
{
    buf_append_str(out, of(row)->node);
}

static void show_desired_state(const struct row *row, struct buf *out)
{
    print_capital(out, tree_text(row->object, "DesiredState"));
}

static void show_current_state(const struct row *row, struct buf *out)
{
    int64_t since_ns = 0;
    AUTO_BUF struct buf age = {0};

    (void)time_parse_ns(tree_text(row->object, "Status.Timestamp"), &since_ns); /* 0 when it is none */
    print_capital(out, tree_text(row->object, "Status.State"));
    show_age(row, since_ns / 1000000000, &age);
    buf_append_char(out, ' ');
    for (const char *c = buf_str(&age); *c; c++)
        buf_append_char(out, *c >= 'A' && *c <= 'Z' ? (char)(*c + 32) : *c);
}

static void show_error(const struct row *row, struct buf *out)
{
    const char *error = tree_text(row->object, "Status.Err");

    if (!*error)
        return;
    buf_append_char(out, '"');
    if (row->list->truncate)
        print_ellipsis(out, error, ERROR_WIDTH);
    else
        buf_append_str(out, error);
    buf_append_char(out, '"');
}

static void show_ports(const struct row *row, struct buf *out)
{
    json_t *ports = tree_get(row->object, "Status.PortStatus.Ports"), *port;
    size_t i;

    json_array_foreach(ports, i, port)
    {
        buf_printf(out, "%s*:%lld->%lld/%s", i ? "," : "", (long long)tree_int(port, "PublishedPort"),
                   (long long)tree_int(port, "TargetPort"), tree_text(port, "Protocol"));
    }
}

static const struct column columns[] = {
    {"CurrentState", "CURRENT STATE", show_current_state, false},
    {"DesiredState", "DESIRED STATE", show_desired_state, false},
    {"Error", "ERROR", show_error, false},
    {"ID", "ID", show_task_id, false},
    {"Image", "IMAGE", show_image, false},
    {"Name", "NAME", show_name, false},
    {"Node", "NODE", show_node, false},
    {"Ports", "PORTS", show_ports, false},
};

static const struct list_kind kind = {
    .noun = "task",
    .columns = columns,
    .columns_count = ARRAY_SIZE(columns),
    .table =
        "{{.ID}}\t{{.Name}}\t{{.Image}}\t{{.Node}}\t{{.DesiredState}}\t{{.CurrentState}}\t{{.Error}}\t{{.Ports}}",
    .quiet = "{{.ID}}",
    .raw = "id: {{.ID}}\nname: {{.Name}}\nimage: {{.Image}}\nnode: {{.Node}}\ndesired_state: {{.DesiredState}}\n"
           "current_state: {{.CurrentState}}\nerror: {{.Error}}\nports: {{.Ports}}\n",
    .raw_quiet = "id: {{.ID}}",
};

static int by_slot(const void *a, const void *b)
{
    const struct task_row *x = a, *y = b;
    int order = print_natural(x->name, y->name);

    if (order)
        return order;
    if (x->created_ns != y->created_ns)
        return x->created_ns > y->created_ns ? -1 : 1;
    return x->place < y->place ? -1 : 1;
}

static struct task_row make_row(const json_t *task, struct resolver *resolver, size_t place)
{
    struct task_row row = {.task = task, .place = place};
    const char *service = resolver_service(resolver, tree_text(task, "ServiceID")),
               *node = tree_text(task, "NodeID");
    int64_t slot = tree_int(task, "Slot");

    row.name = slot ? mem_printf("%s.%lld", service, (long long)slot) : mem_printf("%s.%s", service, node);
    row.node = resolver_node(resolver, node);
    (void)time_parse_ns(tree_text(task, "CreatedAt"), &row.created_ns); /* 0 when it is none */
    return row;
}

int task_print(const json_t *tasks, struct resolver *resolver, struct task_view view, struct err *e)
{
    size_t count = json_array_size(tasks);
    AUTO_FREE
    struct task_row *rows = mem_array(count, sizeof(*rows));
    struct list list;
    int rc = list_open(&list, &kind, view.format, view.quiet, view.truncate, e);

    for (size_t i = 0; i < count; i++)
        rows[i] = make_row(json_array_get(tasks, i), resolver, i);
    qsort(rows, count, sizeof(*rows), by_slot);
    for (size_t i = 0; rc == 0 && i < count; i++) {
        rows[i].older = i > 0 && strcmp(rows[i].name, rows[i - 1].name) == 0;
        rc = list_add(&list, rows[i].task, &rows[i], e);
    }
    if (rc == 0)
        rc = list_close(&list, e);
    list_fini(&list);
    for (size_t i = 0; i < count; i++)
        free(rows[i].name);
    return rc;
}
