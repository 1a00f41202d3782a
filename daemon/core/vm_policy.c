/* SPDX-License-Identifier: GPL-2.0-or-later */

/* What policy makes of a VM: its class, the room that there is for it, and its deadlines. */

#include "daemon/core/plug.h"
#include "daemon/core/vm.h"

uint32_t vm_demand(const struct vm *vm)
{
	uint32_t demand = vm->desired > 0 ? vm->desired : 1, limit = class_limit(vm->class, vm->possible);

	return demand < limit ? demand : limit;
}

uint32_t vm_target(const struct vm *vm)
{
	uint32_t demand = vm_demand(vm), allowance = vm->allowance > 0 ? vm->allowance : 1;

	/* Who does not run has no room, and needs none: that is seen to when it starts. */
	return vm->link == VM_STOPPED || demand < allowance ? demand : allowance;
}

/* Whether the page says other things for the one than for the other. */
static bool words_differ(const struct service_class *a, const struct service_class *b)
{
	return a->ask != b->ask || a->timeout_allow != b->timeout_allow || a->refusal != b->refusal ||
	       (a->cpu_on.per_second > 0) != (b->cpu_on.per_second > 0);
}

static bool same_rate(const struct rate_limit *a, const struct rate_limit *b)
{
	return a->per_second == b->per_second && a->burst == b->burst;
}

unsigned vm_set_class(struct vm *vm, const struct service_class *class, bool observe, uint64_t now)
{
	struct plug p = plug_begin(vm, now);

	bool other_words = words_differ(vm->class, class) || observe != vm->observe;
	bool other_rate = !same_rate(&vm->class->cpu_on, &class->cpu_on);
	bool other_plugs =
		vm->class->plugs.per_minute != class->plugs.per_minute || vm->class->plugs.burst != class->plugs.burst;
	bool other_interval = vm->class->retry_interval != class->retry_interval, rate_waits;

	vm->class = class;
	vm->observe = observe;
	if (other_words)
		p.effects |= VM_EFFECT_PAGE | VM_EFFECT_CHANGED;
	if (other_rate)
		rate_init(&vm->cpu_on, &class->cpu_on, now);
	if (other_plugs)
		plug_rate_init(vm, now);
	if (other_interval)
		vm->reclaim_at = UINT64_MAX; /* it begins anew */
	/* Room for more is given by vm_set_allowance(); what waits for the rate alone, by the next vm_tick(). */
	rate_waits = vm->rate_waits;
	plug_converge(&p, false);
	vm->rate_waits = rate_waits;
	return plug_end(&p);
}

unsigned vm_set_allowance(struct vm *vm, uint32_t allowance, uint64_t now)
{
	struct plug p = plug_begin(vm, now);

	if (vm->allowance == allowance)
		return 0;
	vm->allowance = allowance;
	p.effects |= VM_EFFECT_CHANGED;
	plug_converge(&p, true);
	return plug_end(&p);
}

unsigned vm_set_frozen(struct vm *vm, bool frozen, uint64_t now)
{
	struct plug p = plug_begin(vm, now);

	if (vm->frozen == frozen)
		return 0;
	vm->frozen = frozen;
	p.effects |= VM_EFFECT_CHANGED;
	plug_converge(&p, true);
	return plug_end(&p);
}

enum vm_wait vm_waits(const struct vm *vm)
{
	uint32_t demand = vm_demand(vm);

	if (vm->link == VM_STOPPED)
		return VM_WAITS_FOR_NOTHING;
	if (vm_target(vm) < demand)
		return VM_WAITS_FOR_ROOM;
	if (!vm->rate_waits && !vm->frozen)
		return VM_WAITS_FOR_NOTHING;
	if (plug_count_wanted(vm) >= demand) /* also in the midst of an event */
		return VM_WAITS_FOR_NOTHING;
	return vm->frozen ? VM_WAITS_FOR_THAW : VM_WAITS_FOR_RATE;
}

/* ---- time ---- */

static uint64_t least(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

uint64_t vm_deadline(const struct vm *vm)
{
	uint64_t next = least(job_deadline(&vm->job), vm->reclaim_at);

	/* The bucket knows when it was asked last. */
	return vm->rate_waits && !vm->frozen ? least(next, plug_rate_next(vm, 0)) : next;
}

unsigned vm_tick(struct vm *vm, uint64_t now)
{
	struct plug p = plug_begin(vm, now);

	if (now >= vm->reclaim_at) {
		vm->reclaim_at = UINT64_MAX; /* and again */
		plug_reclaim(&p);
	}
	if (vm->rate_waits)
		plug_converge(&p, true);
	return plug_end(&p);
}
