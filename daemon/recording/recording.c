/* SPDX-License-Identifier: GPL-2.0-or-later */

#include "daemon/recording/recording.h"

#include <string.h>

#include "daemon/recording/recording_private.h"

unsigned recording_arguments(enum fleet_event_kind kind)
{
	static const unsigned arguments[] = {
		[FLEET_START] = RECORDING_REGISTRATION | RECORDING_RUN_STATE | RECORDING_VCPUS | RECORDING_OF_VM,
		[FLEET_RESUME] = RECORDING_REGISTRATION | RECORDING_RUN_STATE | RECORDING_VCPUS | RECORDING_OF_VM,
		[FLEET_LOST] = RECORDING_GONE | RECORDING_OF_VM,
		[FLEET_ASK] = RECORDING_VCPU | RECORDING_OF_VM,
		[FLEET_POWER_ON] = RECORDING_VCPU | RECORDING_REASON | RECORDING_OF_VM,
		[FLEET_POWER_OFF] = RECORDING_VCPU | RECORDING_OF_VM,
		[FLEET_DENIED] = RECORDING_VCPU | RECORDING_REASON | RECORDING_COUNT | RECORDING_OF_VM,
		[FLEET_OST] = RECORDING_VCPU | RECORDING_OST | RECORDING_OF_VM,
		[FLEET_EJECT] = RECORDING_VCPU | RECORDING_CAUSE | RECORDING_OF_VM,
		[FLEET_RUN_STATE] = RECORDING_RUN_STATE | RECORDING_OF_VM,
		[FLEET_RESET] = RECORDING_OF_VM,
		[FLEET_STATE] = RECORDING_RUN_STATE | RECORDING_VCPUS | RECORDING_OF_VM,
		[FLEET_CONFIRM] = RECORDING_CONFIRM | RECORDING_OF_VM,
		[FLEET_STORED] = RECORDING_STORED | RECORDING_OF_VM,
		[FLEET_RESIZE] = RECORDING_COUNT | RECORDING_JOB | RECORDING_OF_VM,
		[FLEET_ASSIGN] = RECORDING_ASSIGNMENT | RECORDING_OF_VM,
		[FLEET_IMPORT] = RECORDING_BALANCE | RECORDING_OF_VM,
		[FLEET_FREEZE] = RECORDING_ON,
		[FLEET_DRAIN] = RECORDING_ON,
		[FLEET_CAPACITY] = RECORDING_COUNT,
		[FLEET_CLOCK] = RECORDING_CLOCK,
		[FLEET_TICK] = 0,
	};

	_Static_assert(sizeof(arguments) / sizeof(arguments[0]) == FLEET_EVENT_MAX + 1, "a row for each kind");
	return arguments[kind];
}

bool recording_has_state(enum fleet_event_kind kind)
{
	return kind != FLEET_ASK;
}

/* ---- answers ---- */

struct recording_answer recording_answer(const struct fleet_answer *answer)
{
	return (struct recording_answer){
		.rule = answer->rule,
		.verdict = answer->verdict,
		.superseded = answer->superseded.id,
		.would_refuse = answer->would_refuse,
	};
}

bool recording_same_answer(const struct recording_answer *a, const struct recording_answer *b)
{
	return a->rule == b->rule && a->verdict.psci == b->verdict.psci && a->verdict.reason == b->verdict.reason &&
	       a->verdict.would == b->verdict.would && a->superseded == b->superseded &&
	       a->would_refuse == b->would_refuse;
}

/* ---- states ---- */

/* FNV-1a, by 64-bit numbers: it tells apart, it does not protect. */
static uint64_t mix(uint64_t digest, uint64_t number)
{
	for (unsigned i = 0; i < 8; i++, number >>= 8)
		digest = (digest ^ (number & 0xff)) * UINT64_C(0x100000001b3);
	return digest;
}

static uint64_t digest_sums(uint64_t digest, const struct ledger_sums *sums)
{
	digest = mix(digest, sums->reserved);
	digest = mix(digest, sums->guaranteed);
	digest = mix(digest, sums->allowed);
	digest = mix(digest, sums->held);
	digest = mix(digest, sums->occupied);
	return mix(digest, sums->overdue);
}

static uint64_t digest_vm(uint64_t digest, const struct fleet_vm *m, const struct recording_state *s)
{
	const struct vm *core = m->core;
	const uint64_t numbers[] = {
		s->desired,
		s->allowance,
		s->target,
		s->held,
		s->overdue,
		s->bound,
		(uint64_t)s->balance,
		s->guaranteed_ns,
		s->burst_ns,
		s->job,
		core->link,
		core->run_state,
		core->epoch,
		core->generation,
		core->confirmed,
		core->denied,
		core->last_job.id,
		core->last_job.result,
	};

	for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++)
		digest = mix(digest, numbers[i]);
	if (s->quota != VM_QUOTA_NONE)
		digest = mix(digest, s->quota);
	for (uint32_t i = 0; i < core->possible; i++)
		digest = mix(digest, vm_word(core, i));
	return digest;
}

void recording_state(const struct fleet *f, const struct fleet_vm *m, struct recording_state *ret)
{
	struct recording_state s = {.of_vm = m != NULL, .quota = VM_QUOTA_NONE, .sums = f->ledger.sums};

	s.digest = digest_sums(UINT64_C(0xcbf29ce484222325), &s.sums);
	if (m) {
		const struct ledger_demand *demand = ledger_demand(&f->ledger, &m->entry);

		s.desired = m->core->desired;
		s.allowance = ledger_share(&f->ledger, &m->entry)->allowance;
		s.target = vm_target(m->core);
		s.held = demand->held;
		s.overdue = demand->overdue;
		s.bound = m->bound;
		s.balance = m->credit.balance;
		s.guaranteed_ns = m->usage.guaranteed_ns;
		s.burst_ns = m->usage.burst_ns;
		s.job = m->core->job.id;
		s.quota = vm_quota(m->core);
		s.digest = digest_vm(s.digest, m, &s);
	}
	*ret = s;
}
