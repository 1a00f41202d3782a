/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef CPUPOLICYD_PLUG_H
#define CPUPOLICYD_PLUG_H

/*
 * The moves that the events of vm.h are made of. An event is one struct plug from plug_begin() to plug_end(); all its
 * changes to the durable part belong to one revision, the next. plug_end() judges the job and gives the effects.
 *
 * What always holds between two events, for each vCPU of a VM that is not stopped:
 *   - WANTED, DURABLE and ACKED only with ENABLED; ENABLED without WANTED only with DURABLE: a grant that the page never
 *     showed is withdrawn, not asked back;
 *   - vCPU 0 has all four;
 *   - IN_JOB only while a job is in flight;
 *   - OVERDUE only with ENABLED and without WANTED.
 * docs/states.md has the table.
 */

#include "daemon/core/vm.h"

struct plug {
	struct vm *vm;
	uint64_t now;
	uint64_t deadline; /* as it was */
	unsigned effects;
	bool durable; /* the durable part changed */
};

struct plug plug_begin(struct vm *vm, uint64_t now);
unsigned plug_end(struct plug *p);

/* Enabled by policy and not asked back; whether or not it is durable yet. */
static inline bool plug_is_wanted(const struct vcpu *v)
{
	return (v->flags & (VCPU_ENABLED | VCPU_WANTED)) == (VCPU_ENABLED | VCPU_WANTED);
}

/* The page says so, or is about to. */
static inline bool plug_is_granted(const struct vcpu *v)
{
	return (v->flags & (VCPU_ENABLED | VCPU_DURABLE)) == (VCPU_ENABLED | VCPU_DURABLE);
}

uint32_t plug_count_enabled(const struct vm *vm);
uint32_t plug_count_wanted(const struct vm *vm);
struct vm_numbers plug_count(const struct vm *vm);
/* What vm_quota() is, by vm->numbers. */
uint32_t plug_quota(const struct vm *vm);

/* Overdue in a class that revokes: it may be ejected, but not be powered on again. */
static inline bool plug_is_revoked(const struct vm *vm, const struct vcpu *v)
{
	return (v->flags & VCPU_OVERDUE) && vm->class->refusal == CLASS_REVOKE && !vm->observe;
}

/* The durable part changed, in a way that clients see. */
void plug_touch(struct plug *p);
void plug_set_online(struct plug *p, uint32_t vcpu, bool online);
void plug_set_acked(struct plug *p, uint32_t vcpu, bool acked);
void plug_set_answer(struct plug *p, uint32_t vcpu, enum vcpu_answer answer);

/* Gives it to the guest: a new grant, not durable yet. */
void plug_grant(struct plug *p, uint32_t vcpu);
/* Takes it from the guest at once: ejected, reset, or never shown. */
void plug_drop(struct plug *p, uint32_t vcpu);
/* The same grant under a new number: for a VMM that may hold it for given back. */
void plug_renew(struct plug *p, uint32_t vcpu);
/* Notifies the guest again. */
void plug_remind(struct plug *p, uint32_t vcpu);

/* The guest has had its time, or has refused. */
void plug_set_overdue(struct plug *p, uint32_t vcpu);
/* Whatever was asked back is overdue, and is asked for again. */
void plug_reclaim(struct plug *p);

void plug_rate_init(struct vm *vm, uint64_t now);
/* When the next vCPU may be granted. */
uint64_t plug_rate_next(const struct vm *vm, uint64_t now);
/* How many may be granted at once, where the class limits that. */
uint32_t plug_rate_left(const struct vm *vm, uint64_t now);

/* Makes as many vCPUs wanted as the target says: asks the highest ones back; gives up asking back, lowest first, before
 * it grants more, lowest first, as the plug rate permits. Without `grow` nothing new is granted. A VM that is stopped or
 * frozen stays as it is. */
void plug_converge(struct plug *p, bool grow);

void plug_end_job(struct plug *p, enum job_result result);

#endif
