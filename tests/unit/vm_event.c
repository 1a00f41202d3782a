/* SPDX-License-Identifier: GPL-2.0-or-later */

#include "tests/unit/vm_event.h"

#include <string.h>

#include "daemon/core/plug.h"

#define PERMANENT (VCPU_ENABLED | VCPU_WANTED | VCPU_DURABLE | VCPU_ACKED)

void vm_event_begin(struct vm_event *e, const struct vm *vm)
{
	memcpy(e->vm, vm, sizeof(*vm) + vm->possible * sizeof(vm->vcpus[0]));
	for (uint32_t i = 0; i < vm->possible; i++)
		e->words[i] = vm_word(vm, i);
	e->deadline = vm_deadline(vm);
}

static const char *vcpu_consistent(const struct vm *vm, uint32_t i)
{
	const struct vcpu *v = &vm->vcpus[i];

	if (!(v->flags & VCPU_ENABLED) && (v->flags & (VCPU_WANTED | VCPU_DURABLE | VCPU_ACKED)))
		return "a vCPU that is not enabled is wanted, durable or acknowledged";
	if ((v->flags & (VCPU_ENABLED | VCPU_WANTED | VCPU_DURABLE)) == VCPU_ENABLED)
		return "a grant that was never shown is asked back";
	if ((v->flags & VCPU_OVERDUE) && (v->flags & (VCPU_ENABLED | VCPU_WANTED)) != VCPU_ENABLED)
		return "a vCPU is overdue that was not asked back";
	if ((v->flags & VCPU_IN_JOB) && vm->job.id == 0)
		return "a vCPU is in a job that is not";
	if (vm->link == VM_STOPPED && v->flags != 0)
		return "a stopped VM has a vCPU";
	if (i == 0 && vm->link != VM_STOPPED && (v->flags & PERMANENT) != PERMANENT)
		return "vCPU 0 was taken";
	if ((v->flags & VCPU_ENABLED) && v->grant == 0)
		return "a grant without a number";
	if ((v->flags & VCPU_ENABLED) && !(v->flags & VCPU_DURABLE) && v->granted_at > vm->revision)
		return "a grant that no revision holds";
	return NULL;
}

const char *vm_consistent(const struct vm *vm)
{
	struct vm_numbers n;

	for (uint32_t i = 0; i < vm->possible; i++) {
		const char *wrong = vcpu_consistent(vm, i);

		if (wrong)
			return wrong;
	}
	if (vm->stored > vm->revision)
		return "stored what is not";
	if (vm->undo_count > VM_UNDO_MAX)
		return "more is remembered than there is room";
	for (uint32_t i = 0; i < vm->undo_count; i++) {
		if (vm->undo[i].revision <= vm->stored || vm->undo[i].revision > vm->revision)
			return "a request is remembered that is stored, or never was";
	}
	if (vm->job.id != 0 && vm->job.result != JOB_RUNNING)
		return "the job in flight has ended";
	if (vm->job.id != 0 && vm->job_revision <= vm->stored && vm->link == VM_STOPPED)
		return "a job waits for a VM that is stopped";
	if (vm->job.id != 0 &&
	    vm->job.stopped != (vm->job_revision > vm->stored || vm_waits(vm) != VM_WAITS_FOR_NOTHING ||
				(vm->link == VM_CONNECTED && vm->run_state != CPUPOLICY_RUN_RUNNING)))
		return "the clock of the job does not do as the VM does";
	n = plug_count(vm);
	if (memcmp(&n, &vm->numbers, sizeof(n)) != 0)
		return "vCPUs are miscounted";
	if (vm->quota != plug_quota(vm))
		return "the quota is another than it should be";
	if (vm->millis > 0 && vm_millis_count(vm->millis) != vm->desired)
		return "CPU time was asked for that takes another number of vCPUs";
	if (vm->reclaim_at != UINT64_MAX && (vm->link != VM_CONNECTED || vm->run_state != CPUPOLICY_RUN_RUNNING))
		return "a guest is pressed that cannot act";
	return NULL;
}

/* What clients see of a vCPU. */
static bool looks_different(const struct vcpu *a, const struct vcpu *b)
{
	return (a->flags & ~VCPU_IN_JOB) != (b->flags & ~VCPU_IN_JOB) || a->answer != b->answer ||
	       a->reason != b->reason || a->denied != b->denied;
}

const char *vm_event_verify(const struct vm_event *e, const struct vm *vm, unsigned effects)
{
	const struct vm *old = (const struct vm *)e->vm;
	bool changed = old->link != vm->link || old->run_state != vm->run_state || old->desired != vm->desired ||
		       old->millis != vm->millis || old->quota != vm->quota || old->denied != vm->denied ||
		       old->confirmed != vm->confirmed || old->epoch != vm->epoch || old->job.id != vm->job.id ||
		       old->job.pending != vm->job.pending || old->job.settled != vm->job.settled ||
		       old->job.refused != vm->job.refused;
	bool ended = old->job.id != 0 && vm->job.id != old->job.id;
	bool words = false;

	for (uint32_t i = 0; i < vm->possible; i++) {
		/* Of a vCPU that the page does not show, nobody reads the rest. */
		if ((vm_word(vm, i) | e->words[i]) & CPUPOLICY_WORD_ENABLED)
			words = words || vm_word(vm, i) != e->words[i];
		changed = changed || looks_different(&old->vcpus[i], &vm->vcpus[i]);
	}
	if (vm->revision < old->revision || vm->revision > old->revision + 1)
		return "an event is one revision or none";
	if (!!(effects & VM_EFFECT_STORE) != (vm->revision != old->revision))
		return "STORE is not what became of the revision";
	if (words && vm->link != VM_STOPPED && !(effects & VM_EFFECT_PAGE))
		return "words changed without PAGE";
	if (changed && !(effects & VM_EFFECT_CHANGED))
		return "something changed without CHANGED";
	if (!!(effects & VM_EFFECT_DEADLINE) != (vm_deadline(vm) != e->deadline))
		return "DEADLINE is not what became of the deadline";
	if (!!(effects & VM_EFFECT_QUOTA) != (vm_quota(vm) != old->quota))
		return "QUOTA is not what became of the quota";
	if (!!(effects & VM_EFFECT_JOB_ENDED) != ended)
		return "JOB_ENDED is not what became of the job";
	if (ended && (vm->last_job.id != old->job.id || vm->last_job.result == JOB_RUNNING))
		return "the job that ended is not the last job";
	if (effects != 0 && memcmp(old, vm, sizeof(*vm) + vm->possible * sizeof(vm->vcpus[0])) == 0)
		return "nothing changed, but there are effects";
	return vm_consistent(vm);
}
