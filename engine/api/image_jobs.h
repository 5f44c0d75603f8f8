/* The requests about images that take their time. */
#pragma once

struct api_call;

void image_jobs_create(struct api_call *c);       /* pull, import */
void image_jobs_load(struct api_call *c);         /* load */
void image_jobs_distribution(struct api_call *c); /* what a registry says of a name */
