/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef CPUCTL_SIMULATION_PRIVATE_H
#define CPUCTL_SIMULATION_PRIVATE_H

/* What simulation.c (the replay) and simulation_compare.c (the comparison) share. */

#include "client/simulation.h"
#include "daemon/core/fleet.h"
#include "daemon/core/vm_handover.h"

/* What of a VM's state is told when it differs; credit and usage go on differing, and are summed up in the end. */
struct plain_state {
	uint32_t desired;
	uint32_t allowance;
	uint32_t target;
	uint32_t held;
	uint32_t overdue;
	enum rule bound;
	uint64_t job;
	uint32_t quota;
};

struct sim_vm {
	struct fleet_vm member;
	struct sim_vm *next; /* of all that ever were */
	char *name;
	char *class;           /* assigned; NULL: not */
	char *tenant;          /* the same */
	char *announced_class; /* by a provider */
	char *announced_tenant;
	uid_t uid;
	bool gone;
	bool compared;
	struct recording_state was, is;
	struct plain_state told_was, told_is; /* the difference that was told last */
};

struct simulation {
	struct simulation_ops ops;
	struct simulation_sums sums;
	struct policy *policy;
	struct policy *given; /* NULL: the recording's */
	struct fleet fleet;
	struct sim_vm *vms;
	uint64_t begin;
	uint64_t last_at;
	uint32_t cpus;
	bool open;     /* there was a header */
	bool diverged; /* something differed */
	const char *file;
	char **error; /* of the line at hand */
};

/* Both tell what differs, and mark the simulation as diverged then. */
void simulation_compare_answer(struct simulation *s, struct sim_vm *vm, const struct recording_line *line,
			       const struct recording_answer *is);
/* After the event of the line, and before anything that follows from it. `vm` NULL: of the host. */
void simulation_compare_state(struct simulation *s, struct sim_vm *vm, const struct recording_line *line);

#endif
