/* SPDX-License-Identifier: GPL-2.0-or-later */

#include "daemon/core/fleet_private.h"

#include "daemon/core/plug.h"

/* ---- admission ---- */

static void admission_line(const struct fleet *f, const struct fleet_assignment *a, uint32_t guaranteed, uint64_t left,
			   enum rule rule, struct explain_line *ret)
{
	*ret = (struct explain_line){
		.rule = rule,
		.outcome = rule == RULE_NONE ? EXPLAIN_PASSES : EXPLAIN_REFUSES,
		.admission = true,
		.count = guaranteed,
		.bound = UINT64_MAX,
	};
	if (rule == RULE_TENANT) {
		ret->who = f->tenants[a->tenant].name;
		ret->bound = f->tenants[a->tenant].quota;
	} else if (rule == RULE_CAPACITY) {
		ret->bound = f->ledger.capacity;
	} else {
		return;
	}
	ret->others = ret->bound - left;
}

enum rule fleet_admit(const struct fleet *f, const struct fleet_assignment *assignment, uint32_t possible,
		      struct explain_line *ret_line)
{
	uint32_t guaranteed = class_guaranteed(assignment->class, possible);
	uint64_t left = 0;
	enum rule rule;

	if (f->frozen)
		rule = RULE_FROZEN;
	else if (f->drained)
		rule = RULE_DRAINED;
	else
		rule = ledger_admit(&f->ledger, NULL, assignment->tenant, guaranteed, &left);
	admission_line(f, assignment, guaranteed, left, rule, ret_line);
	return rule;
}

enum rule fleet_admit_instead(const struct fleet *f, const struct fleet_vm *m, const struct fleet_assignment *to,
			      struct explain_line *ret_line)
{
	uint32_t guaranteed = class_guaranteed(to->class, m->core->possible);
	bool more = guaranteed > fleet_guaranteed(m) || to->tenant != m->tenant;
	enum rule rule = RULE_NONE;
	uint64_t left = 0;

	if (f->frozen)
		rule = RULE_FROZEN;
	else if (more && m->core->link != VM_STOPPED && !f->observe && !to->class->observe)
		rule = ledger_admit(&f->ledger, &m->entry, to->tenant, guaranteed, &left);
	/* Of a host that has become too small, who asks for no more than it has is not refused. */
	if (rule == RULE_CAPACITY && guaranteed <= fleet_guaranteed(m))
		rule = RULE_NONE;
	admission_line(f, to, guaranteed, left, rule, ret_line);
	return rule;
}

/* ---- one VM ---- */

static uint64_t occupied(uint32_t held, uint32_t allowance)
{
	return held > allowance ? held : allowance;
}

static void tenant_facts(const struct fleet *f, const struct fleet_vm *m, struct explain_facts *ret, uint64_t own)
{
	ret->tenant_quota = EXPLAIN_UNLIMITED;
	if (m->tenant == FLEET_NO_TENANT)
		return;
	ret->tenant_name = f->tenants[m->tenant].name;
	ret->tenant_quota = f->tenants[m->tenant].quota;
	ret->tenant_others = f->ledger.tenants[m->tenant].sums.occupied - own;
}

static uint32_t plugs_now(const struct fleet_vm *m, uint64_t now)
{
	return m->class->plugs.per_minute > 0 ? plug_rate_left(m->core, now) : UINT32_MAX;
}

/* The share is the one that the VM has; of another count it is another. */
void fleet_facts(const struct fleet *f, const struct fleet_vm *m, uint32_t count, struct explain_facts *ret)
{
	const struct vm *vm = m->core;
	const struct ledger_share *share = ledger_share(&f->ledger, &m->entry);
	const struct ledger_demand *demand = ledger_demand(&f->ledger, &m->entry);
	uint64_t own = occupied(demand->held, share->allowance);

	*ret = (struct explain_facts){
		.count = count,
		.possible = vm->possible,
		.boot = vm->boot,
		.wanted = vm->numbers.wanted,
		.running = vm->link != VM_STOPPED,
		.boot_removable = vm->boot_removable,
		.notify = vm->notify,
		.migrating = vm->link == VM_CONNECTED && vm->run_state == CPUPOLICY_RUN_INACTIVE,
		.queue_full = vm->undo_count == VM_UNDO_MAX,
		.class_name = m->class->name,
		.guaranteed = fleet_guaranteed(m),
		.limit = m->class->limit,
		.may_burst = fleet_may_burst(m),
		.metered = m->class->burst.metered,
		.balance = m->credit.balance,
		.resume = m->class->burst.resume,
		.plugs_per_minute = m->class->plugs.per_minute,
		.plugs_now = plugs_now(m, f->now),
		.capacity = f->ledger.capacity,
		.capacity_others = f->ledger.sums.occupied - own,
		.overdue_others = f->ledger.sums.overdue - (own - share->allowance),
		.frozen = f->frozen,
		.drained = f->drained,
		.allowance = share->allowance,
		.entitled = share->entitled,
		.bound = RULE_NONE,
	};
	tenant_facts(f, m, ret, own);
}

void fleet_explain(struct fleet *f, struct fleet_vm *m, uint32_t count, uint64_t now, struct explain *ret)
{
	struct ledger_demand demand = fleet_demand(m);
	struct fleet_vm asked = *m;
	struct explain_facts facts;
	struct ledger_share share;
	uint32_t limit = class_limit(m->class, m->core->possible);

	if (m->billed)
		credit_advance(&asked.credit, &m->class->burst, fleet_guaranteed(m), m->metered, now);
	if (demand.running)
		demand.demand = count < 1 ? 1 : count < limit ? count : limit;
	demand.may_burst = fleet_may_burst(&asked);
	share = ledger_try(&f->ledger, &m->entry, &demand);
	fleet_facts(f, &asked, count, &facts);
	facts.plugs_now = plugs_now(m, now);
	facts.allowance = share.allowance;
	facts.entitled = share.entitled;
	facts.bound = share.allowance < demand.demand ? share.bound : RULE_NONE;
	explain_evaluate(&facts, ret);
}

void fleet_view(const struct fleet *f, const struct fleet_vm *m, uint64_t now, struct fleet_view *ret)
{
	const struct ledger_share *share = ledger_share(&f->ledger, &m->entry);
	const struct vm *vm = m->core;
	struct credit credit = m->credit;
	bool running = vm->link != VM_STOPPED;
	uint32_t held = running ? vm->numbers.enabled : 0;

	if (m->billed)
		credit_advance(&credit, &m->class->burst, fleet_guaranteed(m), m->metered, now);
	*ret = (struct fleet_view){
		.guaranteed = fleet_guaranteed(m),
		.limit = class_limit(m->class, vm->possible),
		.allowance = running ? vm->allowance : 0,
		.entitled = share->entitled,
		.target = vm_target(vm),
		.held = held,
		.overdue = running && held > vm->allowance ? held - vm->allowance : 0,
		.balance = credit.balance,
		.metered = m->class->burst.metered,
		.spent = credit.spent,
		.credit_deadline = m->billed
					   ? credit_deadline(&credit, &m->class->burst, fleet_guaranteed(m), m->metered)
					   : UINT64_MAX,
		.bound = m->bound,
		.waiting = vm_waits(vm) != VM_WAITS_FOR_NOTHING,
		.waits_for_overdue = running && share->entitled > share->allowance,
	};
}
