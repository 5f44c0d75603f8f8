/* Many simulated agents in a process of their own: each joins with a token, holds a real session over mutual TLS,
 * keeps what it is assigned as a real agent does (agent/assignment checks numbers and digests), and reports at once
 * that it runs. Nothing runs. What they did is counted in memory that the benchmark reads while it waits. */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#define CROWD_ADDRESSES 8
#define CROWD_MOST      40000

struct crowd_counts {               /* written by the crowd */
    _Atomic unsigned joined, ready; /* agents with a certificate; with a session that was registered */
    _Atomic unsigned sent_away;     /* told to come back later */
    _Atomic uint64_t running;       /* tasks of agents that have a session, reported to run and acknowledged */
    _Atomic uint64_t told;          /* tasks that came to be run, ever */
    _Atomic int64_t told_us;        /* monotonic: when the last of them came */
    _Atomic uint64_t messages;      /* assignments */
    _Atomic unsigned tasks_of[CROWD_MOST]; /* running, by agent */
};

struct crowd {
    pid_t pid;
    int commands; /* a pipe to it */
    struct crowd_counts *counts;
};

struct crowd_config {
    const char *addresses[CROWD_ADDRESSES]; /* of the manager, host:port; agents take them in turn; NULL: no more */
    const char *token;
    const char *hostname; /* with a number behind it */
};

/* Fork it. Copies nothing: the configuration must stay. Dies with the benchmark. */
void crowd_open(struct crowd *c, const struct crowd_config *config);
void crowd_close(struct crowd *c);

void crowd_grow(struct crowd *c, unsigned agents); /* so many in all; returns at once */
void crowd_await(struct crowd *c, unsigned ready, double patience_ms);
void crowd_cut(struct crowd *c, unsigned agent);    /* its connection closes, and it stays away */
void crowd_mute(struct crowd *c, unsigned agent);   /* it says nothing any more, and keeps the connection */
void crowd_return(struct crowd *c, unsigned agent); /* either is over */
void crowd_storm(struct crowd *c);                  /* all lose their connections and come back at once */
