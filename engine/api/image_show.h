/* Images as the API shows them. */
#pragma once

#include "engine/api/api.h"
#include "engine/image/image.h"

/* One entry of the list; `containers` below 0: not counted. */
void image_show_summary(const struct image *image, int64_t containers, struct jwrite *j);
void image_show_inspect(const struct engine *en, const struct image *image, struct jwrite *j);

/* GET /images/{name}/history: what the image's own configuration says. */
int image_show_history(struct engine *en, const struct image *image, struct jwrite *j, struct err *e);

/* "web:1" of "docker.io/library/web:1"; in the arena. */
const char *image_familiar(const char *full, struct arena *a);
