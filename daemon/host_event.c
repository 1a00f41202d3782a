/* SPDX-License-Identifier: GPL-2.0-or-later */

/*
 * What a registered session reports. From the live one it is the truth about the guest and goes to the core; from an
 * incoming one it is kept until that one is live; from a retired one it means nothing any more.
 */

#include "daemon/host_private.h"
#include "proto/message.h"

static uint64_t now(const struct host_session *s)
{
	return loop_now(s->host->loop);
}

/* The vCPU as an incoming session knows it; NULL: the session is not incoming. */
static struct cpupolicy_vcpu *fact(struct host_session *s, uint32_t vcpu)
{
	return s->role == HOST_ROLE_INCOMING ? &s->facts->vcpus[vcpu] : NULL;
}

uint32_t host_session_possible(const struct host_session *session)
{
	return session->vm->core->possible;
}

/* ---- verdicts ---- */

static struct vm_verdict deny(enum cpupolicy_reason reason)
{
	return (struct vm_verdict){.psci = CPUPOLICY_PSCI_DENIED, .reason = reason, .would = reason};
}

struct vm_verdict host_ask(struct host_session *session, const struct cpupolicy_ask *ask)
{
	struct vm_verdict verdict;

	if (session->role != HOST_ROLE_LIVE)
		return deny(CPUPOLICY_REASON_INACTIVE);
	verdict = vm_ask(session->vm->core, ask->vcpu, now(session));
	if (verdict.reason != CPUPOLICY_REASON_GRANTED)
		host_notice_denied(session->vm, ask->vcpu, &verdict, 1);
	return verdict;
}

struct vm_verdict host_ask_overload(struct host_session *session, const struct cpupolicy_ask *ask)
{
	struct vm_verdict verdict = deny(CPUPOLICY_REASON_OVERLOAD);

	if (session->role == HOST_ROLE_LIVE) {
		host_effect_apply(session->vm, vm_denied(session->vm->core, ask->vcpu, verdict.reason, 1));
		host_notice_denied(session->vm, ask->vcpu, &verdict, 1);
	}
	return verdict;
}

/* ---- power ---- */

static void power_denied(struct host_vm *vm, const struct cpupolicy_power *power)
{
	struct vm_verdict verdict = deny(power->reason);

	host_effect_apply(vm, vm_denied(vm->core, power->vcpu, power->reason, power->count));
	host_notice_denied(vm, power->vcpu, &verdict, power->count);
}

/* Where the page allowed without asking, this report is the only trace of what enforcement would have denied. */
static void note_observed(struct host_vm *vm, uint32_t vcpu)
{
	static const struct vm_verdict verdict = {
		.psci = CPUPOLICY_PSCI_SUCCESS,
		.reason = CPUPOLICY_REASON_OBSERVED,
		.would = CPUPOLICY_REASON_NOT_ENABLED,
	};
	uint64_t word = vm_word(vm->core, vcpu);

	if ((word & CPUPOLICY_WORD_VERDICT_MASK) >> CPUPOLICY_WORD_VERDICT_SHIFT != CPUPOLICY_VERDICT_ASK)
		host_notice_denied(vm, vcpu, &verdict, 1);
}

static void power_on(struct host_session *s, const struct cpupolicy_power *power)
{
	struct host_vm *vm = s->vm;

	host_effect_apply(vm, vm_power_on(vm->core, power->vcpu, power->reason, now(s)));
	if (power->reason == CPUPOLICY_REASON_OBSERVED)
		note_observed(vm, power->vcpu);
	host_notice_log(vm,
			HOST_LINE(.level = LOG_DEBUG, .vcpu = &power->vcpu, .verdict = "allow",
				  .reason = cpupolicy_msg_reason_name(power->reason)),
			"VM %s: vCPU %u is powered on", vm->name, power->vcpu);
}

static void fact_power(struct cpupolicy_vcpu *vcpu, uint32_t event)
{
	if (event == CPUPOLICY_POWER_ON)
		vcpu->flags |= CPUPOLICY_VCPU_ONLINE;
	else if (event == CPUPOLICY_POWER_OFF)
		vcpu->flags &= ~CPUPOLICY_VCPU_ONLINE;
}

void host_power(struct host_session *session, const struct cpupolicy_power *power)
{
	struct host_vm *vm = session->vm;
	struct cpupolicy_vcpu *vcpu = fact(session, power->vcpu);

	if (vcpu)
		fact_power(vcpu, power->event);
	if (session->role != HOST_ROLE_LIVE)
		return;
	switch (power->event) {
	case CPUPOLICY_POWER_ON:
		power_on(session, power);
		break;
	case CPUPOLICY_POWER_OFF:
		host_effect_apply(vm, vm_power_off(vm->core, power->vcpu, now(session)));
		break;
	case CPUPOLICY_POWER_DENIED:
		power_denied(vm, power);
		break;
	}
}

/* ---- the guest's words ---- */

void host_ost(struct host_session *session, const struct cpupolicy_ost *ost)
{
	struct host_vm *vm = session->vm;

	if (session->role == HOST_ROLE_LIVE)
		host_effect_apply(vm, vm_ost(vm->core, ost->vcpu, ost->event, ost->status, now(session)));
}

static void fact_eject(struct cpupolicy_vcpu *vcpu, uint32_t cause)
{
	vcpu->flags &= ~(CPUPOLICY_VCPU_ONLINE | CPUPOLICY_VCPU_ACKED | CPUPOLICY_VCPU_ENABLED);
	vcpu->flags |= CPUPOLICY_VCPU_EJECTED;
	if (cause == CPUPOLICY_EJECT_GUEST)
		vcpu->flags |= CPUPOLICY_VCPU_EJECT_OWN;
}

void host_eject(struct host_session *session, const struct cpupolicy_eject *eject)
{
	struct host_vm *vm = session->vm;
	struct cpupolicy_vcpu *vcpu = fact(session, eject->vcpu);

	if (vcpu)
		fact_eject(vcpu, eject->cause);
	if (session->role == HOST_ROLE_LIVE)
		host_effect_apply(vm, vm_eject(vm->core, eject->vcpu, eject->cause, now(session)));
}

/* ---- the VMM's state ---- */

void host_run_state(struct host_session *session, enum cpupolicy_run_state state)
{
	struct host_vm *vm = session->vm;

	if (session->facts)
		session->facts->run_state = state;
	if (session->role != HOST_ROLE_LIVE)
		return;
	host_effect_apply(vm, vm_run_state(vm->core, state, now(session)));
	if (state == CPUPOLICY_RUN_INACTIVE)
		host_registration_activate(vm);
}

void host_reset(struct host_session *session, enum cpupolicy_reset_kind kind)
{
	struct host_vm *vm = session->vm;

	if (session->role == HOST_ROLE_INCOMING)
		for (uint32_t i = 1; i < vm->core->possible; i++)
			session->facts->vcpus[i].flags &= ~CPUPOLICY_VCPU_ONLINE;
	if (session->role != HOST_ROLE_LIVE)
		return;
	host_effect_apply(vm, vm_reset(vm->core, now(session)));
	host_notice_log(vm, HOST_LINE(.level = LOG_DEBUG), "VM %s was reset by its %s", vm->name,
			kind == CPUPOLICY_RESET_GUEST ? "guest" : "operator");
}

void host_state(struct host_session *session, enum cpupolicy_run_state state, const struct cpupolicy_vcpu *vcpus)
{
	struct host_vm *vm = session->vm;

	if (session->role == HOST_ROLE_INCOMING) {
		session->facts->run_state = state;
		for (uint32_t i = 0; i < vm->core->possible; i++)
			session->facts->vcpus[i] = vcpus[i];
	}
	if (session->role != HOST_ROLE_LIVE)
		return;
	host_effect_apply(vm, vm_state(vm->core, state, vcpus, now(session)));
	if (state == CPUPOLICY_RUN_INACTIVE)
		host_registration_activate(vm);
}

void host_confirm(struct host_session *session, const struct cpupolicy_confirm *confirm)
{
	struct host_vm *vm = session->vm;

	if (session->role == HOST_ROLE_LIVE)
		host_effect_apply(vm, vm_confirm(vm->core, confirm->epoch, confirm->generation));
}
