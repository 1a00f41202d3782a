/* SPDX-License-Identifier: GPL-2.0-or-later */

#include "tests/unit/fleet_world.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/core/plug.h"
#include "daemon/base/util.h"

#define SECOND UINT64_C(1000000000)

/* ---- chance, and what to say when something is wrong ---- */

uint64_t fleet_world_chance(struct fleet_world *w, uint64_t below)
{
	uint64_t z = w->random += UINT64_C(0x9e3779b97f4a7c15);

	z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
	return (z ^ z >> 31) % below;
}

void fleet_world_hash(struct fleet_world *w, uint64_t value)
{
	w->hash = (w->hash ^ value) * UINT64_C(0x100000001b3);
}

_Noreturn void fleet_world_wrong(const struct fleet_world *w, const struct fleet_world_vm *x, const char *what,
				 uint64_t a, uint64_t b)
{
	for (unsigned i = 0; i < FLEET_WORLD_VMS; i++) {
		const struct fleet_vm *m = &w->vms[i].member;
		const struct ledger_share *s;
		const struct ledger_demand *d;

		if (!m->core)
			continue;
		s = ledger_share(&w->f.ledger, &m->entry);
		d = ledger_demand(&w->f.ledger, &m->entry);
		fprintf(stderr,
			"VM %u: link %d desired %u demand %u guaranteed %u held %u overdue %u priority %u tenant %d: "
			"allowance %u (%u) entitled %u bound %s, balance %lld%s\n",
			i, m->core->link, m->core->desired, d->demand, d->guaranteed, d->held, d->overdue,
			m->class->priority, (int)m->tenant, s->allowance, m->core->allowance, s->entitled,
			rule_name(m->bound), (long long)m->credit.balance, m->credit.spent ? " spent" : "");
	}
	fprintf(stderr, "capacity %u, frozen %d, drained %d, observed %d\n", w->f.ledger.capacity, w->f.frozen,
		w->f.drained, w->f.observe);
	ck_abort_msg("VM %d, seed %llu, event %llu: %s (%llu, %llu)", x ? (int)(x - w->vms) : -1,
		     (unsigned long long)w->seed, (unsigned long long)w->events, what, (unsigned long long)a,
		     (unsigned long long)b);
	abort();
}

struct fleet_world_vm *fleet_world_of(const struct fleet_vm *m)
{
	return container_of(m, struct fleet_world_vm, member);
}

/* ---- a second count ---- */

void fleet_world_count(struct fleet_world *w, struct fleet_world_vm *x)
{
	struct count *c = &x->count;
	uint64_t elapsed = w->now - c->since;
	uint32_t within = c->enabled < c->guaranteed ? c->enabled : c->guaranteed;

	c->since = w->now;
	if (!c->billed || !c->class)
		return;
	c->guaranteed_ns += within * elapsed;
	c->burst_ns += (c->enabled - within) * elapsed;
	if (!c->class->burst.metered)
		return;
	c->balance += ((int64_t)c->guaranteed - c->enabled) * (int64_t)elapsed;
	if (c->balance > c->class->burst.cap)
		c->balance = c->class->burst.cap;
	if (c->balance < CREDIT_MIN)
		c->balance = CREDIT_MIN;
}

void fleet_world_recount(struct fleet_world_vm *x)
{
	const struct vm *vm = x->member.core;
	const struct service_class *class = x->member.class;
	struct count *c = &x->count;

	c->class = class;
	c->enabled = 0;
	for (uint32_t i = 0; i < vm->possible; i++)
		c->enabled += !!(vm_word(vm, i) & CPUPOLICY_WORD_ENABLED);
	c->guaranteed = class->guaranteed < vm->possible ? class->guaranteed : vm->possible;
	c->billed = vm->link == VM_DISCONNECTED ||
		    (vm->link == VM_CONNECTED && (class->bill_paused || vm->run_state != CPUPOLICY_RUN_PAUSED));
	if (class->burst.metered && c->balance > class->burst.cap)
		c->balance = class->burst.cap;
}

void fleet_world_check_count(struct fleet_world *w, struct fleet_world_vm *x)
{
	struct fleet_view view;
	uint64_t guaranteed, burst;
	struct usage u = x->member.usage;

	fleet_world_count(w, x);
	usage_advance(&u, &w->f.clock, 0, 0, 0, NULL, NULL);
	fleet_usage(&w->f, &x->member, w->now, &guaranteed, &burst);
	guaranteed = guaranteed - x->member.usage.guaranteed_ns + x->member.usage.row.guaranteed_ns +
		     x->count.closed_guaranteed;
	burst = burst - x->member.usage.burst_ns + x->member.usage.row.burst_ns + x->count.closed_burst;
	if (guaranteed != x->count.guaranteed_ns)
		fleet_world_wrong(w, x, "usage is not the integral of what is enabled", guaranteed,
				  x->count.guaranteed_ns);
	if (burst != x->count.burst_ns)
		fleet_world_wrong(w, x, "burst is not the integral of what is enabled", burst, x->count.burst_ns);
	fleet_view(&w->f, &x->member, w->now, &view);
	if (view.metered && view.balance != x->count.balance)
		fleet_world_wrong(w, x, "credit is made or lost", (uint64_t)view.balance, (uint64_t)x->count.balance);
}

void fleet_world_row(const struct fleet_vm *m, const struct usage_row *row, void *userdata)
{
	struct fleet_world *w = userdata;
	struct fleet_world_vm *x = fleet_world_of(m);

	if (row->begin / USAGE_HOUR != (row->end - 1) / USAGE_HOUR)
		fleet_world_wrong(w, x, "a row of two hours", row->begin, row->end);
	x->count.closed_guaranteed += row->guaranteed_ns;
	x->count.closed_burst += row->burst_ns;
}

/* ---- the rules ---- */

static uint32_t within(const struct fleet_vm *m)
{
	uint32_t demand = vm_demand(m->core), guaranteed = class_guaranteed(m->class, m->core->possible);

	if (m->core->link == VM_STOPPED)
		return 0;
	return demand < guaranteed ? demand : guaranteed;
}

struct totals {
	uint64_t within, allowed, occupied;
	bool lent; /* somebody got burst in this event */
};

static void total(struct totals *t, const struct fleet_world_vm *x, uint32_t held)
{
	uint32_t own = within(&x->member);

	t->within += own;
	t->allowed += x->member.core->allowance;
	t->occupied += held > own ? held : own;
	t->lent = t->lent || (held > x->held && held > own);
}

/* Invariant 2, for the host and for each tenant. */
static void check_totals(const struct fleet_world *w, const struct totals *t, uint32_t bound)
{
	if (bound == FLEET_UNLIMITED)
		return;
	if (t->allowed > bound && t->allowed > t->within)
		fleet_world_wrong(w, NULL, "more is allowed than there is", t->allowed, bound);
	if (t->lent && t->occupied > bound)
		fleet_world_wrong(w, NULL, "burst was given that somebody else still has", t->occupied, bound);
}

/* No starvation within a priority: who lacks room alone has as much as anybody, but one. */
static void check_fair(const struct fleet_world *w)
{
	uint32_t least[CLASS_PRIORITY_MAX + 1], most[CLASS_PRIORITY_MAX + 1] = {0};

	memset(least, 0xff, sizeof(least));
	for (unsigned i = 0; i < FLEET_WORLD_VMS; i++) {
		const struct fleet_vm *m = &w->vms[i].member;
		const struct ledger_share *s;
		uint32_t burst, p;

		if (!m->core || m->core->link == VM_STOPPED)
			continue;
		s = ledger_share(&w->f.ledger, &m->entry);
		p = m->class->priority;
		burst = s->entitled - within(m);
		if (burst > most[p])
			most[p] = burst;
		if (s->entitled < vm_demand(m->core) && s->bound == RULE_CAPACITY && burst < least[p] &&
		    ledger_demand(&w->f.ledger, &m->entry)->overdue == 0)
			least[p] = burst;
	}
	for (uint32_t p = 0; p <= CLASS_PRIORITY_MAX; p++)
		if (least[p] != UINT32_MAX && most[p] > least[p] + 1)
			fleet_world_wrong(w, NULL, "somebody starves", most[p], least[p]);
}

static void check_vm(struct fleet_world *w, const struct fleet_world_vm *x)
{
	const struct fleet_vm *m = &x->member;
	const struct vm *vm = m->core;
	const struct ledger_share *s = ledger_share(&w->f.ledger, &m->entry);
	uint32_t wanted = plug_count_wanted(vm), least;

	if (vm->link == VM_STOPPED)
		return;
	if (vm->allowance != s->allowance)
		fleet_world_wrong(w, x, "the VM does not know its share", vm->allowance, s->allowance);
	if (vm->allowance < within(m) || vm->allowance > vm_demand(vm))
		fleet_world_wrong(w, x, "not between the guarantee and the demand", vm->allowance, vm_demand(vm));
	least = vm->boot_removable ? vm_target(vm) : vm->boot;
	if (wanted > vm_target(vm) && wanted > least)
		fleet_world_wrong(w, x, "it has more than it may", wanted, vm_target(vm));
	if ((m->bound == RULE_NONE) != (vm_target(vm) >= vm->desired && vm_waits(vm) == VM_WAITS_FOR_NOTHING))
		fleet_world_wrong(w, x, "below what was asked for, and nobody knows why", vm_target(vm), vm->desired);
}

/* Nobody has more CPU time than was asked for, or granted, where somebody holds it; and nobody is held for nothing. */
static void check_quota(struct fleet_world *w, const struct fleet_world_vm *x)
{
	const struct vm *vm = x->member.core;
	const struct service_class *class = x->member.class;
	uint32_t quota = vm_quota(vm), enabled = 0, stray = 0, overdue = 0;
	bool asked, refused, standing;

	if (quota != x->quota)
		fleet_world_wrong(w, x, "the quota changed, and nobody was told", quota, x->quota);
	for (uint32_t i = 0; i < vm->possible; i++) {
		uint8_t flags = vm->vcpus[i].flags;

		enabled += (flags & VCPU_ENABLED) != 0;
		stray += (flags & VCPU_ONLINE) && !(flags & VCPU_ENABLED);
		overdue += (flags & VCPU_OVERDUE) != 0;
	}
	asked = vm->millis > 0 && 1000 * (enabled + stray) > vm->millis;
	refused = class->refusal == CLASS_QUOTA && overdue + stray > 0 && !vm->observe;
	standing = class->standing_quota && !vm->observe;
	if (vm->link == VM_STOPPED)
		asked = refused = standing = false;
	if (asked && quota > vm->millis)
		fleet_world_wrong(w, x, "more CPU time than was asked for", quota, vm->millis);
	if (refused && quota > 1000 * vm_target(vm))
		fleet_world_wrong(w, x, "what is not given back is used", quota, 1000 * vm_target(vm));
	if (standing && quota > 1000 * enabled)
		fleet_world_wrong(w, x, "more CPU time than vCPUs", quota, 1000 * enabled);
	if (quota != VM_QUOTA_NONE && !asked && !refused && !standing)
		fleet_world_wrong(w, x, "held for nothing", quota, 0);
	w->capped += quota != VM_QUOTA_NONE;
}

void fleet_world_check(struct fleet_world *w)
{
	struct totals all = {0}, tenants[FLEET_WORLD_TENANTS] = {0};

	for (unsigned i = 0; i < FLEET_WORLD_VMS; i++) {
		struct fleet_world_vm *x = &w->vms[i];
		uint32_t held;

		if (!x->member.core)
			continue;
		held = plug_count_enabled(x->member.core);
		check_quota(w, x);
		if (!w->f.frozen) {
			check_vm(w, x);
			if (x->member.core->link != VM_STOPPED)
				total(&all, x, held);
			if (x->member.core->link != VM_STOPPED && x->member.tenant != FLEET_NO_TENANT)
				total(&tenants[x->member.tenant], x, held);
		} else if (held > x->held && x->member.core->link != VM_STOPPED) {
			fleet_world_wrong(w, x, "a frozen VM grew", held, x->held);
		}
		x->held = held;
	}
	if (w->f.frozen)
		return;
	check_totals(w, &all, w->f.ledger.capacity);
	for (unsigned i = 0; i < FLEET_WORLD_TENANTS; i++)
		check_totals(w, &tenants[i], w->f.ledger.tenants[i].quota);
	check_fair(w);
	w->lent += all.lent;
}

/* ---- policies ---- */

void fleet_world_draw_policy(struct fleet_world *w, unsigned policy)
{
	for (unsigned i = 0; i < FLEET_WORLD_CLASSES; i++) {
		struct service_class *c = &w->classes[policy][i];

		class_default(c);
		c->name = &"A\0B\0C\0D\0E\0F\0G\0H\0"[2 * i];
		c->guaranteed = 1 + (uint32_t)fleet_world_chance(w, 4);
		c->limit = c->guaranteed + (uint32_t)fleet_world_chance(w, FLEET_WORLD_VCPUS);
		c->priority = (uint32_t)fleet_world_chance(w, 3);
		c->burst.metered = fleet_world_chance(w, 2);
		c->burst.cap = (int64_t)fleet_world_chance(w, 200 * SECOND);
		c->burst.initial = (int64_t)fleet_world_chance(w, (uint64_t)c->burst.cap + 1);
		c->burst.resume = (int64_t)fleet_world_chance(w, (uint64_t)c->burst.cap + 1);
		if (fleet_world_chance(w, 3) == 0)
			c->plugs = (struct class_plugs){.per_minute = 1 + (uint32_t)fleet_world_chance(w, 600),
							.burst = 1 + (uint32_t)fleet_world_chance(w, 6)};
		if (fleet_world_chance(w, 3) == 0)
			c->cpu_on = (struct rate_limit){.per_second = 5, .burst = 10};
		c->refusal = (enum class_refusal)fleet_world_chance(w, CLASS_QUOTA + 1);
		c->standing_quota = fleet_world_chance(w, 6) == 0;
		c->retry_interval = 2 * SECOND;
		c->job_timeout = 5 * SECOND;
		c->observe = fleet_world_chance(w, 10) == 0;
		c->bill_paused = fleet_world_chance(w, 2);
	}
	for (unsigned i = 0; i < FLEET_WORLD_TENANTS; i++) {
		w->tenants[policy][i].name = &"w\0x\0y\0z\0"[2 * i];
		w->tenants[policy][i].quota =
			fleet_world_chance(w, 3) == 0 ? FLEET_UNLIMITED : 4 + (uint32_t)fleet_world_chance(w, 40);
	}
}
