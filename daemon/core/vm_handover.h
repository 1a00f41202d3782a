/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef CPUPOLICYD_VM_HANDOVER_H
#define CPUPOLICYD_VM_HANDOVER_H

/*
 * What a successor of the daemon has to know of a connected VM beside its record, to go on in the midst of the session:
 * what a VMM that reconnects would report, and what is lost then. A VM that is restored from its record and given this
 * behaves from there on as if nothing had been. Only what is durable is handed over, so that record and page agree.
 */

#include "daemon/core/vm.h"

struct vm_handover {
	uint32_t possible;
	uint32_t epoch; /* the session's: the record's is the same */
	uint32_t generation;
	uint32_t confirmed;
	uint32_t allowance;
	enum cpupolicy_run_state run_state;
	bool rate_waits;
	bool job_restored;
	uint64_t reclaim_at;
	uint64_t denied;
	struct rate cpu_on;
	struct rate plugs;
	struct job job;
	struct vcpu *vcpus; /* `possible` of them; granted_at means nothing */
};

/* Into ret->vcpus, which has room for vm->possible, and all else. False, and nothing is given: it is not connected, or a
 * change of its durable part is not known to be on disk. */
bool vm_handover_get(const struct vm *vm, struct vm_handover *ret);
/* Whether it can be of this VM, which was restored from its record, and says nothing that vm.h rules out. */
bool vm_handover_fits(const struct vm *vm, const struct vm_handover *handover, uint64_t now);
/* Connected, as handed over: which fits. Before fleet_add(), as all that is restored. */
void vm_handover_set(struct vm *vm, const struct vm_handover *handover);

#endif
