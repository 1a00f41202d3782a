/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef CPUPOLICYD_STORE_VM_H
#define CPUPOLICYD_STORE_VM_H

/* The durable part of a VM, as it is stored, recorded and restored. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "daemon/core/fleet.h"
#include "daemon/core/job.h"
#include "daemon/core/usage.h"
#include "proto/cpupolicy-proto.h"

/* A row of usage that ended, with the names that were in force then. */
struct store_usage {
	struct usage_row row;
	char *class;
	char *tenant; /* NULL: none */
};

/* See daemon/core/vm.h and daemon/core/fleet.h for what each means. */
struct store_vm {
	uint8_t uuid[CPUPOLICY_UUID_SIZE];
	uint8_t token[CPUPOLICY_TOKEN_SIZE];
	char *name;
	uint32_t possible;
	uint32_t boot;
	uint32_t desired;
	bool desired_set;
	uint32_t desired_millis; /* 0: whole vCPUs */
	enum cpupolicy_means means;
	bool realm;
	bool boot_removable;
	bool notify;
	bool stopped; /* no VMM held it when this was written */
	uint32_t epoch;
	uint8_t *enabled; /* bits, (possible + 7) / 8 bytes */
	uint8_t *wanted;
	uid_t uid; /* of the VMM */
	pid_t pid; /* loaded: PEER_PID_GONE if the host was started again since */
	uint64_t start_time;
	uint32_t desired_uid; /* who asked for `desired`; (uint32_t)-1: nobody */
	struct job job;       /* in flight if id != 0 */
	struct job last_job;
	/* service level */
	char *assigned_class;      /* by an operator; NULL: not */
	char *assigned_tenant;     /* the same */
	uint32_t assigned_uid;     /* who did; (uint32_t)-1: nobody */
	struct fleet_saved meters; /* credit, and the usage row that is open */
	char *class;               /* in force, whoever decided it: that of the open row */
	char *tenant;              /* the same; NULL: none */
	bool other_boot;           /* loaded: the host was started again since, so meters.at is of another clock */
	struct store_usage
		*usage; /* rows that ended and are not known to be durable; written with this. Loaded: none */
	size_t n_usage;
};

void store_vm_clear(struct store_vm *vm);
/* Appends a row that ended; `class`, `tenant` are copied. -ENOMEM: nothing changed. */
int store_vm_add_usage(struct store_vm *vm, const struct usage_row *row, const char *class, const char *tenant);

#endif
