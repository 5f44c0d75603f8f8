/* How a line of a log is written for Docker's clients (logs.h): behind eight bytes that name stream and length,
 * unless the container has a terminal; a time and details first, if they were asked for. */
#include <string.h>

#include "manager/api/logs.h"
#include "proto/base/timefmt.h"

static void begin_frame(struct buf *out, unsigned stream, size_t size)
{
    const uint8_t head[8] = {
        (uint8_t)stream, 0, 0, 0, (uint8_t)(size >> 24), (uint8_t)(size >> 16), (uint8_t)(size >> 8),
        (uint8_t)size};

    buf_append(out, head, sizeof(head));
}

void log_form_line(struct buf *out, const struct log_form *form, const LogLine *line)
{
    char stamp[TIME_TEXT] = "";
    size_t stamp_size = 0, details_size = form->details ? strlen(form->details) + 1 : 0;

    if (form->timestamps) {
        time_format_ns(line->time_ns, stamp);
        stamp_size = strlen(stamp) + 1;
    }
    if (!form->raw)
        begin_frame(out, line->stream == LOG_STREAM_ERR ? LOG_STREAM_ERR : LOG_STREAM_OUT,
                    stamp_size + details_size + line->data.len);
    if (stamp_size)
        buf_printf(out, "%s ", stamp);
    if (details_size)
        buf_printf(out, "%s ", form->details);
    buf_append(out, line->data.data, line->data.len);
}

void log_form_text(struct buf *out, const struct log_form *form, const char *text)
{
    if (!form->raw)
        begin_frame(out, LOG_STREAM_SYSTEM, strlen(text));
    buf_append_str(out, text);
}
