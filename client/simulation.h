/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef CPUCTL_SIMULATION_H
#define CPUCTL_SIMULATION_H

/*
 * Replays a recording (daemon/recording/recording.h) on a fleet of its own and compares answers and states, line by line. As long as
 * nothing differs, what the disk and the VMMs' pages did is taken from the recording too. From the first difference on these
 * are the simulation's own: what it grants is durable and published at once, while guests and clients go on doing what they
 * did, and what they could not have done here is left out. Deterministic, and reads no clock.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "daemon/settings/policy.h"
#include "daemon/recording/recording.h"

struct simulation;

struct simulation_difference {
	unsigned line;
	uint64_t at;      /* ns since the recording began */
	const char *vm;   /* name; NULL: the host */
	const char *what; /* a sentence */
};

struct simulation_ops {
	void (*differs)(const struct simulation_difference *difference, void *userdata);
	void *userdata;
};

/* `policy` (a reference of its own is taken) replaces those of the recording; NULL: it does not. */
int simulation_new(struct simulation **ret, struct policy *policy, const struct simulation_ops *ops);
struct simulation *simulation_free(struct simulation *s);
/* The next line, without its newline. -EINVAL: it is none, or cannot be of this fleet; *ret_error is a message to print and
 * free, or NULL if there is no memory for one. */
int simulation_line(struct simulation *s, const char *line, size_t size, const char *file, char **ret_error);

struct simulation_sums {
	uint64_t lines;
	uint64_t events;
	uint64_t verdicts; /* asks that were compared */
	uint64_t verdicts_differ;
	uint64_t refusals;       /* in the recording, of requests and registrations */
	uint64_t answers_differ; /* of requests and registrations */
	uint64_t states_differ;  /* lines after which a VM or the host is not as it was */
	uint64_t left_out;       /* what guests or clients could not have done here */
	uint64_t duration;       /* ns, of the recording */
};
void simulation_sums(const struct simulation *s, struct simulation_sums *ret);

/* Of a VM, both as of the last line that said so of it. In vCPU-ns. */
struct simulation_usage {
	const char *name;
	uint64_t was_guaranteed_ns, was_burst_ns;
	uint64_t is_guaranteed_ns, is_burst_ns;
	int64_t was_balance, is_balance;
};
/* In no particular order; those that were removed included. */
void simulation_usage(const struct simulation *s, void (*fn)(const struct simulation_usage *usage, void *userdata),
		      void *userdata);

#endif
