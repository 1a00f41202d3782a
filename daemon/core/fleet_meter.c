/* SPDX-License-Identifier: GPL-2.0-or-later */

#include "daemon/core/fleet_private.h"

struct row_target {
	struct fleet *f;
	struct fleet_vm *m;
};

static void on_row(const struct usage_row *row, void *userdata)
{
	const struct row_target *t = userdata;

	if (t->f->ops.row)
		t->f->ops.row(t->m, row, t->f->ops.userdata);
	fleet_note(t->f, t->m, FLEET_EFFECT_ROW);
}

/* Without its VMM nobody knows whether a VM is paused: it is billed as its grants say. */
static bool is_billed(const struct fleet_vm *m)
{
	const struct vm *vm = m->core;

	if (vm->link == VM_STOPPED)
		return false;
	return m->class->bill_paused || vm->link != VM_CONNECTED || vm->run_state != CPUPOLICY_RUN_PAUSED;
}

void fleet_meter(struct fleet *f, struct fleet_vm *m)
{
	struct row_target target = {f, m};
	bool spent = m->credit.spent;

	if (m->billed) {
		credit_advance(&m->credit, &m->class->burst, fleet_guaranteed(m), m->metered, f->now);
		usage_advance(&m->usage, &f->clock, fleet_guaranteed(m), m->metered, f->now, on_row, &target);
	} else {
		credit_skip(&m->credit, f->now);
		usage_skip(&m->usage, &f->clock, f->now, on_row, &target);
	}
	if (spent != m->credit.spent)
		fleet_note(f, m, FLEET_EFFECT_POLICY);
}

void fleet_meter_set(struct fleet_vm *m)
{
	m->metered = m->core->numbers.granted;
	m->billed = is_billed(m);
}

void fleet_meter_end_row(struct fleet *f, struct fleet_vm *m)
{
	struct row_target target = {f, m};

	usage_end_row(&m->usage, on_row, &target);
}

uint64_t fleet_meter_deadline(const struct fleet_vm *m)
{
	if (!m->billed)
		return UINT64_MAX;
	return credit_deadline(&m->credit, &m->class->burst, fleet_guaranteed(m), m->metered);
}

void fleet_save(struct fleet *f, struct fleet_vm *m, uint64_t now, struct fleet_saved *ret)
{
	if (now > f->now)
		f->now = now;
	fleet_meter(f, m);
	*ret = (struct fleet_saved){
		.credit_opened = m->credit.opened,
		.credit_spent = m->credit.spent,
		.balance = m->credit.balance,
		.at = f->now,
		.row = m->usage.row,
		.last_row = m->usage.last,
	};
}

void fleet_restore(struct fleet *f, struct fleet_vm *m, const struct fleet_saved *saved, bool alive, uint64_t now)
{
	uint64_t at = saved->at < now ? saved->at : now;

	if (now > f->now)
		f->now = now;
	f->restoring = true;
	m->usage = (struct usage){.at = at, .row = saved->row, .last = saved->last_row};
	m->credit.at = at;
	if (saved->credit_opened)
		credit_set(&m->credit, &m->class->burst, saved->balance, saved->credit_spent, at);
	m->billed = m->billed && alive;
	fleet_meter(f, m);
	fleet_meter_set(m);
	fleet_sync(f, m);
}

void fleet_usage(const struct fleet *f, const struct fleet_vm *m, uint64_t now, uint64_t *ret_guaranteed_ns,
		 uint64_t *ret_burst_ns)
{
	struct usage u = m->usage;

	if (m->billed)
		usage_advance(&u, &f->clock, fleet_guaranteed(m), m->metered, now, NULL, NULL);
	*ret_guaranteed_ns = u.guaranteed_ns;
	*ret_burst_ns = u.burst_ns;
}
