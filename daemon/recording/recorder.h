/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef CPUPOLICYD_RECORDER_H
#define CPUPOLICYD_RECORDER_H

/*
 * Writes what happens to the fleet, from the start of the daemon on, for `cpuctl simulate`; recording.h says what the
 * lines are and reads them. Each function here writes one line.
 *
 * An event costs its text in memory and no allocation; a thread writes the file. What the disk does not take in time is
 * not waited for: when the buffer is full, or a write fails, the recording ends with the last whole line, and says so.
 * After that all of these do nothing.
 */

#include <stdbool.h>
#include <stdint.h>

#include "daemon/core/fleet.h"
#include "daemon/core/vm_handover.h"
#include "daemon/base/loop.h"
#include "daemon/settings/policy.h"
#include "daemon/store/store_vm.h"

struct recorder;

/* The recording ended by itself. Runs on the loop, once. */
typedef void (*recorder_ended_fn)(int error, const char *why, void *userdata);

/* Makes a new file in `directory`, "cpupolicyd-20260131T235959Z-PID.jsonl", mode 0600. On failure *ret_error is a
 * message to print and free, or NULL if there is no memory for one. */
int recorder_open(struct recorder **ret, struct loop *loop, const char *directory, recorder_ended_fn fn, void *userdata,
		  char **ret_error);
/* Writes what is buffered first. NULL is accepted, NULL is returned. Not from its callback. */
struct recorder *recorder_close(struct recorder *recorder);
const char *recorder_path(const struct recorder *recorder);

/* First of all, when the fleet has its policy, capacity and modes, and no member. `cpus`: capacity_cpus(). */
void recorder_header(struct recorder *recorder, const struct fleet *fleet, const struct policy *policy, uint32_t cpus);

/*
 * After fleet_add() of a new VM, with `record` NULL, and with the core as vm_new() made it. Or after fleet_add() and
 * fleet_restore() of one of the store: its record, with record->meters as fleet_restore() was given it, and what the last
 * daemon handed over, or NULL.
 */
void recorder_add(struct recorder *recorder, const struct fleet_vm *member, const struct policy_subject *subject,
		  const struct store_vm *record, const struct vm_handover *handover, bool alive, uint64_t now);
/* A stopped VM has another core: of this name, with so many possible vCPUs. */
void recorder_reshape(struct recorder *recorder, const struct fleet_vm *member, uint64_t now);
/* What its class and tenant are decided by has changed; before the FLEET_ASSIGN that follows from it. */
void recorder_subject(struct recorder *recorder, const struct fleet_vm *member, const struct policy_subject *subject,
		      uint64_t now);
/* Its page was published: core->generation counts it. */
void recorder_published(struct recorder *recorder, const struct fleet_vm *member, uint64_t now);
/* Before fleet_remove(). */
void recorder_remove(struct recorder *recorder, const struct fleet_vm *member, uint64_t now);

/* After fleet_reload(). */
void recorder_reload(struct recorder *recorder, const struct fleet *fleet, const struct policy *policy, uint64_t now);
/* The host has so many CPUs for VMs; before the FLEET_CAPACITY that follows from it. */
void recorder_cpus(struct recorder *recorder, uint32_t cpus, uint64_t now);
/* After fleet_apply(), and before anything else changes. */
void recorder_event(struct recorder *recorder, const struct fleet *fleet, const struct fleet_event *event,
		    const struct fleet_answer *answer);

#endif
