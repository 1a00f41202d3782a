/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef CPUPOLICYD_FLEET_PRIVATE_H
#define CPUPOLICYD_FLEET_PRIVATE_H

/*
 * What the fleet*.c files share. Who does what:
 *
 *   fleet.c         members, what has effects, deadlines; the policy
 *   fleet_meter.c   credit and usage, follow what each VM has
 *   fleet_share.c   the ledger follows the VMs, and they follow it
 *   fleet_event.c   events
 *   fleet_view.c    questions
 */

#include "daemon/core/fleet.h"

/* ---- fleet.c ---- */

/* Something for the caller to do about `m`. */
void fleet_note(struct fleet *f, struct fleet_vm *m, unsigned effects);
/* When the member has something to do again. */
void fleet_schedule(struct fleet *f, struct fleet_vm *m);
/* The member that is due first; NULL: none is at `now`. */
struct fleet_vm *fleet_due(const struct fleet *f, uint64_t now);
/* Of another class or tenant, without asking whether there is room. */
void fleet_move(struct fleet *f, struct fleet_vm *m, const struct fleet_assignment *to);

/* ---- fleet_meter.c ---- */

/* To f->now, by what the VM had until now. */
void fleet_meter(struct fleet *f, struct fleet_vm *m);
/* What it has from now on. */
void fleet_meter_set(struct fleet_vm *m);
/* Its next row is of another class or tenant. */
void fleet_meter_end_row(struct fleet *f, struct fleet_vm *m);
/* When burst begins or ends to be permitted. */
uint64_t fleet_meter_deadline(const struct fleet_vm *m);

/* ---- fleet_share.c ---- */

/* The VM's core has changed: the ledger, its meters and its deadline follow. */
void fleet_sync(struct fleet *f, struct fleet_vm *m);
/* All shares anew, and all VMs after them; until nothing moves. Not while the host is frozen, or members are restored. */
void fleet_settle(struct fleet *f);
/* All that the store has is there. */
void fleet_restored(struct fleet *f);
/* The share of a VM that is about to start and proposes to boot with `boot` vCPUs; the others follow. */
void fleet_make_room(struct fleet *f, struct fleet_vm *m, uint32_t boot);
/* What the ledger is told of a VM as it is. */
struct ledger_demand fleet_demand(const struct fleet_vm *m);

/* ---- fleet_view.c ---- */

void fleet_facts(const struct fleet *f, const struct fleet_vm *m, uint32_t count, struct explain_facts *ret);
/* May it have this class and tenant instead of its own? As fleet_admit(). */
enum rule fleet_admit_instead(const struct fleet *f, const struct fleet_vm *m,
			      const struct fleet_assignment *assignment, struct explain_line *ret_line);

static inline uint32_t fleet_guaranteed(const struct fleet_vm *m)
{
	return class_guaranteed(m->class, m->core->possible);
}

static inline bool fleet_may_burst(const struct fleet_vm *m)
{
	return credit_may_burst(&m->credit, &m->class->burst);
}

#endif
