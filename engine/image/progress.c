/* See progress.h. The forms are those of the clients' own library (jsonmessage), which parses and redraws them. */
#include <stdio.h>
#include <string.h>

#include "engine/image/progress.h"
#include "proto/base/jwrite.h"

#define BAR 50 /* characters of a progress bar */

void progress_size(uint64_t bytes, char ret[16])
{
    static const char *const units[] = {"B", "kB", "MB", "GB", "TB", "PB", "EB"};
    double value = (double)bytes;
    int unit = 0;

    while (value >= 1000.0 && unit < 6) {
        value /= 1000.0;
        unit++;
    }
    snprintf(ret, 16, "%.4g%s", value, units[unit]);
}

void progress_id(const char *digest, char ret[13])
{
    const char *colon = strchr(digest, ':');

    snprintf(ret, 13, "%s", colon ? colon + 1 : digest);
}

static void bar(uint64_t current, uint64_t total, char *into, size_t size)
{
    char done[16], all[16];
    int filled = 0;

    progress_size(current, done);
    progress_size(total, all);
    if (total == 0) {
        snprintf(into, size, "%8s", done);
        return;
    }
    filled = current >= total ? BAR : (int)((double)current / (double)total * 100) / 2;
    int used = snprintf(into, size, "[%.*s>%*s] %8s", filled,
                        "==================================================", BAR - filled, "", done);
    if (current <= total)
        snprintf(into + used, size - (size_t)used, "/%s", all);
}

void progress_message(struct buf *out, const char *status, const char *id)
{
    struct jwrite j = JWRITE_TO(out);

    jwrite_object(&j, NULL);
    jwrite_string(&j, "status", status);
    if (id)
        jwrite_string(&j, "id", id);
    jwrite_end(&j);
}

void progress_step(struct buf *out, const char *status, uint64_t current, uint64_t total, const char *id)
{
    struct jwrite j = JWRITE_TO(out);
    char text[128];

    jwrite_object(&j, NULL);
    jwrite_string(&j, "status", status);
    jwrite_object(&j, "progressDetail");
    if (current || total) {
        jwrite_uint(&j, "current", current);
        if (total)
            jwrite_uint(&j, "total", total);
    }
    jwrite_end(&j);
    if (current || total) {
        bar(current, total, text, sizeof(text));
        jwrite_string(&j, "progress", text);
    }
    jwrite_string(&j, "id", id);
    jwrite_end(&j);
}

void progress_stream(struct buf *out, const char *text)
{
    struct jwrite j = JWRITE_TO(out);

    jwrite_object(&j, NULL);
    jwrite_string(&j, "stream", text);
    jwrite_end(&j);
}
