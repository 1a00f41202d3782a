/* SPDX-License-Identifier: GPL-2.0-or-later */

#include "daemon/core/fleet_private.h"

#include "daemon/core/plug.h"
#include "daemon/base/util.h"

/* Each round takes back what was granted and not shown yet, or grants for good: two do, unless both happen. */
#define ROUNDS_MAX 16

/* Boot vCPUs that the VMM does not permit to take back will be given back as little as those that a guest refuses; of
 * those within its guarantee nobody asks. */
static uint32_t fixed_boot(const struct vm *vm, uint32_t within)
{
	uint32_t n = 0;

	for (uint32_t i = 0; !vm->boot_removable && i < vm->boot; i++)
		n += plug_is_wanted(&vm->vcpus[i]);
	return n > within ? n - within : 0;
}

struct ledger_demand fleet_demand(const struct fleet_vm *m)
{
	const struct vm *vm = m->core;
	struct ledger_demand d;

	if (vm->link == VM_STOPPED)
		return (struct ledger_demand){0};
	d = (struct ledger_demand){
		.running = true,
		.may_burst = fleet_may_burst(m),
		.guaranteed = fleet_guaranteed(m),
		.demand = vm_demand(vm),
		.held = vm->numbers.enabled,
		.overdue = vm->numbers.overdue,
	};
	d.overdue += fixed_boot(vm, d.demand < d.guaranteed ? d.demand : d.guaranteed);
	return d;
}

/* What keeps the VM below what was asked for. */
static enum rule bound_of(const struct fleet *f, const struct fleet_vm *m)
{
	const struct vm *vm = m->core;
	const struct ledger_share *share = ledger_share(&f->ledger, &m->entry);

	switch (vm_waits(vm)) {
	case VM_WAITS_FOR_ROOM:
		return share->bound != RULE_NONE ? share->bound : RULE_FROZEN;
	case VM_WAITS_FOR_RATE:
		return RULE_PLUG_RATE;
	case VM_WAITS_FOR_THAW:
		return RULE_FROZEN;
	case VM_WAITS_FOR_NOTHING:
		break;
	}
	return vm->link != VM_STOPPED && vm->desired > vm_demand(vm) ? RULE_LIMIT : RULE_NONE;
}

static void set_bound(struct fleet *f, struct fleet_vm *m)
{
	enum rule bound = bound_of(f, m);

	if (bound == m->bound)
		return;
	m->bound = bound;
	fleet_note(f, m, FLEET_EFFECT_POLICY);
}

void fleet_sync(struct fleet *f, struct fleet_vm *m)
{
	struct ledger_demand demand = fleet_demand(m);

	fleet_meter_set(m);
	ledger_update(&f->ledger, &m->entry, &demand);
	set_bound(f, m);
	fleet_schedule(f, m);
}

/* ---- the ledger leads ---- */

struct settling {
	struct fleet *f;
	struct fleet_vm *starting; /* not running yet: it is told, and the ledger is not told of it */
};

static void on_share(struct ledger_entry *entry, void *userdata)
{
	const struct settling *s = userdata;
	struct fleet_vm *m = container_of(entry, struct fleet_vm, entry);
	const struct ledger_share *share = ledger_share(&s->f->ledger, entry);

	fleet_note(s->f, m, FLEET_EFFECT_POLICY);
	if (m == s->starting) {
		vm_set_allowance(m->core, share->allowance, s->f->now);
		return;
	}
	if (m->core->allowance == share->allowance) {
		set_bound(s->f, m);
		return;
	}
	fleet_meter(s->f, m);
	fleet_note(s->f, m, vm_set_allowance(m->core, share->allowance, s->f->now));
	fleet_sync(s->f, m);
}

static void share_out(struct fleet *f, struct fleet_vm *starting)
{
	struct settling s = {f, starting};

	for (int round = 0; f->ledger.dirty && round < ROUNDS_MAX; round++)
		ledger_allocate(&f->ledger, on_share, &s);
}

static void settle(struct fleet *f, struct fleet_vm *starting)
{
	if (!f->frozen && !f->restoring)
		share_out(f, starting);
}

void fleet_restored(struct fleet *f)
{
	f->restoring = false;
	/* The shares that they had are not on record. While the host is frozen, VMs are told of them and stand still. */
	if (f->frozen)
		share_out(f, NULL);
}

void fleet_settle(struct fleet *f)
{
	settle(f, NULL);
}

void fleet_make_room(struct fleet *f, struct fleet_vm *m, uint32_t boot)
{
	uint32_t desired = m->core->desired_set ? m->core->desired : boot, limit;
	struct ledger_demand demand = {
		.running = true,
		.may_burst = fleet_may_burst(m),
		.guaranteed = fleet_guaranteed(m),
	};

	limit = class_limit(m->class, m->core->possible);
	demand.demand = desired < 1 ? 1 : desired < limit ? desired : limit;
	ledger_update(&f->ledger, &m->entry, &demand);
	settle(f, m);
	/* An unchanged share is not told of. */
	vm_set_allowance(m->core, ledger_share(&f->ledger, &m->entry)->allowance, f->now);
}
