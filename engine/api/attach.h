/* POST /containers/{id}/attach and /resize. */
#pragma once

struct api_call;

void api_attach(struct api_call *c);
void api_resize(struct api_call *c);
