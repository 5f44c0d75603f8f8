/* Output templates: a template and the JSON it runs over, with a zero byte between. Whatever they are, parsing and
 * running end, within their bounds, with an error that says something or with output; and the same twice. */
#include <assert.h>
#include <stdint.h>
#include <string.h>

#include "cli/inspect.h"
#include "cli/template.h"
#include "proto/base/buf.h"
#include "proto/base/mem.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static bool column(const void *row, const char *name, struct buf *out, bool *ret_bool)
{
    *ret_bool = *name == 'B';
    buf_append_str(out, *ret_bool ? "true" : (const char *)row);
    return *name != 'X';
}

static void label(const void *row, const char *name, struct buf *out)
{
    buf_printf(out, "%s of %s", name, (const char *)row);
}

static void row_json(const void *row, struct jwrite *j)
{
    jwrite_object(j, NULL);
    jwrite_string(j, "Row", row);
    jwrite_end(j);
}

static int run(const struct template *t, const struct template_data *data, struct buf *out)
{
    struct err e = {0};
    int rc = template_run(t, data, out, &e);

    assert(rc == 0 || (rc == e.code && *e.text));
    return rc;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const struct template_rows rows = {.noun = "row", .column = column, .label = label, .json = row_json};
    size_t length = strnlen((const char *)data, size);
    AUTO_FREE
    char *text = mem_strndup((const char *)data, length);
    AUTO_JSON json_t *root = NULL;
    struct template *t = NULL;
    struct err e = {0};

    if (template_parse(text, &t, &e) < 0) {
        assert(!t && *e.text);
        return 0;
    }
    (void)template_reads(t, "Size");
    if (length >= size || jread_parse((const char *)data + length + 1, size - length - 1, &root, NULL) < 0)
        root = json_object();
    const struct template_data kinds[] = {
        {.json = root, .zero = inspect_zero},
        {.json = root},
        {.rows = &rows, .row = "value"},
        {.rows = &rows, .row = "HEADER", .header = true},
    };
    for (size_t i = 0; i < ARRAY_SIZE(kinds); i++) {
        AUTO_BUF struct buf once = {0};
        AUTO_BUF struct buf again = {0};
        int first = run(t, &kinds[i], &once), second = run(t, &kinds[i], &again);

        assert(first == second && once.length == again.length);
        assert(once.length == 0 || memcmp(buf_bytes(&once), buf_bytes(&again), once.length) == 0);
    }
    template_free(t);
    return 0;
}
