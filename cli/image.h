/* What other commands need of images. */
#pragma once

#include <stdio.h>

#include "cli/cli.h"

/* Pull an image, its progress to `out` (a terminal or not); "latest" when it has no tag. */
int image_pull(struct cli *cli, const char *image, const char *platform, FILE *out, bool terminal, bool quiet,
               struct err *e);
