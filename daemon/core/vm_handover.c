/* SPDX-License-Identifier: GPL-2.0-or-later */

#include "daemon/core/vm_handover.h"

#include <string.h>

#include "daemon/core/plug.h"

#define VCPU_FLAGS (VCPU_ENABLED | VCPU_WANTED | VCPU_DURABLE | VCPU_ONLINE | VCPU_ACKED | VCPU_IN_JOB | VCPU_OVERDUE)

bool vm_handover_get(const struct vm *vm, struct vm_handover *ret)
{
	struct vcpu *vcpus = ret->vcpus;

	if (vm->link != VM_CONNECTED || vm->revision != vm->stored || vm->undo_count > 0)
		return false;
	for (uint32_t i = 0; i < vm->possible; i++)
		if ((vm->vcpus[i].flags & (VCPU_ENABLED | VCPU_DURABLE)) == VCPU_ENABLED)
			return false;
	*ret = (struct vm_handover){
		.possible = vm->possible,
		.epoch = vm->epoch,
		.generation = vm->generation,
		.confirmed = vm->confirmed,
		.allowance = vm->allowance,
		.run_state = vm->run_state,
		.rate_waits = vm->rate_waits,
		.job_restored = vm->job_restored,
		.reclaim_at = vm->reclaim_at,
		.denied = vm->denied,
		.cpu_on = vm->cpu_on,
		.plugs = vm->plugs,
		.job = vm->job,
		.vcpus = vcpus,
	};
	memcpy(vcpus, vm->vcpus, vm->possible * sizeof(*vcpus));
	return true;
}

/* As the record has it, and as plug.h says that it always is. */
static bool vcpu_fits(const struct vm *vm, const struct vm_handover *h, uint32_t i)
{
	const struct vcpu *v = &h->vcpus[i];
	uint8_t recorded = vm->vcpus[i].flags & (VCPU_ENABLED | VCPU_WANTED);
	bool enabled = v->flags & VCPU_ENABLED;

	if ((v->flags & ~VCPU_FLAGS) || (v->flags & (VCPU_ENABLED | VCPU_WANTED)) != recorded)
		return false;
	if (enabled != !!(v->flags & VCPU_DURABLE) || (!enabled && (v->flags & VCPU_ACKED)))
		return false;
	if ((v->flags & VCPU_OVERDUE) && (!enabled || (v->flags & VCPU_WANTED)))
		return false;
	if ((v->flags & VCPU_IN_JOB) && h->job.id == 0)
		return false;
	return v->answer <= VCPU_ANSWER_FORBIDDEN && v->reason <= CPUPOLICY_REASON_MAX &&
	       (i > 0 || (v->flags & VCPU_ACKED));
}

bool vm_handover_fits(const struct vm *vm, const struct vm_handover *h, uint64_t now)
{
	if (vm->link != VM_DISCONNECTED || h->possible != vm->possible || h->epoch != vm->epoch)
		return false;
	if (h->generation == 0 || h->confirmed > h->generation || h->cpu_on.at > now || h->plugs.at > now)
		return false;
	if (h->run_state < CPUPOLICY_RUN_RUNNING || h->run_state > CPUPOLICY_RUN_INACTIVE)
		return false;
	if (h->job.id != vm->job.id || h->job.from != vm->job.from || h->job.to != vm->job.to)
		return false;
	for (uint32_t i = 0; i < vm->possible; i++)
		if (!vcpu_fits(vm, h, i))
			return false;
	return true;
}

void vm_handover_set(struct vm *vm, const struct vm_handover *h)
{
	vm->link = VM_CONNECTED;
	vm->generation = h->generation;
	vm->confirmed = h->confirmed;
	vm->allowance = h->allowance;
	vm->run_state = h->run_state;
	vm->rate_waits = h->rate_waits;
	vm->job_restored = h->job_restored;
	vm->reclaim_at = h->reclaim_at;
	vm->denied = h->denied;
	vm->cpu_on = h->cpu_on;
	vm->plugs = h->plugs;
	vm->job = h->job;
	vm->job_revision = vm->stored;
	memcpy(vm->vcpus, h->vcpus, vm->possible * sizeof(vm->vcpus[0]));
	for (uint32_t i = 0; i < vm->possible; i++)
		vm->vcpus[i].granted_at = 0;
	vm->numbers = plug_count(vm);
	vm->quota = plug_quota(vm);
}
