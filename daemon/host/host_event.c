/* SPDX-License-Identifier: GPL-2.0-or-later */

/*
 * What a registered session reports. From the live one it is the truth about the guest and goes to the core; from an
 * incoming one it is kept until that one is live; from a retired one it means nothing any more.
 */

#include "daemon/host/host_private.h"
#include "proto/message.h"

static struct fleet_answer event(struct host_session *s, struct fleet_event *e)
{
	e->vm = &s->vm->member;
	return host_fleet_event(s->host, e);
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

static void count_allowed(struct host *host, enum cpupolicy_reason reason)
{
	host->counters.verdicts[COUNTERS_ALLOWED][reason]++;
}

struct vm_verdict host_ask(struct host_session *session, const struct cpupolicy_ask *ask)
{
	struct fleet_answer answer;

	if (session->role != HOST_ROLE_LIVE)
		return deny(CPUPOLICY_REASON_INACTIVE);
	answer = event(session, HOST_EVENT(.kind = FLEET_ASK, .vcpu = ask->vcpu));
	if (answer.verdict.reason == CPUPOLICY_REASON_GRANTED)
		count_allowed(session->host, answer.verdict.reason);
	else
		host_notice_denied(session->vm, ask->vcpu, &answer.verdict, answer.rule, 1);
	return answer.verdict;
}

/* Of the VMM, or of the page: the reason says which. */
static void note_denied(struct host_session *s, uint32_t vcpu, enum cpupolicy_reason reason, uint32_t count)
{
	struct vm_verdict verdict = deny(reason);
	bool ungranted = reason == CPUPOLICY_REASON_NOT_ENABLED || reason == CPUPOLICY_REASON_EJECTED;

	event(s, HOST_EVENT(.kind = FLEET_DENIED, .vcpu = vcpu, .reason = reason, .count = count));
	host_notice_denied(s->vm, vcpu, &verdict, ungranted ? s->vm->member.bound : RULE_NONE, count);
}

struct vm_verdict host_ask_overload(struct host_session *session, const struct cpupolicy_ask *ask)
{
	if (session->role == HOST_ROLE_LIVE)
		note_denied(session, ask->vcpu, CPUPOLICY_REASON_OVERLOAD, 1);
	return deny(CPUPOLICY_REASON_OVERLOAD);
}

/* ---- power ---- */

/* Where the page allowed without asking, this report is the only trace of the verdict. */
static void note_allowed(struct host_vm *vm, const struct cpupolicy_power *power)
{
	static const struct vm_verdict observed = {
		.psci = CPUPOLICY_PSCI_SUCCESS,
		.reason = CPUPOLICY_REASON_OBSERVED,
		.would = CPUPOLICY_REASON_NOT_ENABLED,
	};
	uint64_t word = vm_word(vm->core, power->vcpu);

	if ((word & CPUPOLICY_WORD_VERDICT_MASK) >> CPUPOLICY_WORD_VERDICT_SHIFT == CPUPOLICY_VERDICT_ASK &&
	    (vm->live->features & CPUPOLICY_F_ASK))
		return;
	if (power->reason == CPUPOLICY_REASON_OBSERVED)
		host_notice_denied(vm, power->vcpu, &observed, vm->member.bound, 1);
	else
		count_allowed(vm->host, power->reason);
}

static void power_on(struct host_session *s, const struct cpupolicy_power *power)
{
	struct host_vm *vm = s->vm;

	event(s, HOST_EVENT(.kind = FLEET_POWER_ON, .vcpu = power->vcpu, .reason = power->reason));
	note_allowed(vm, power);
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
		event(session, HOST_EVENT(.kind = FLEET_POWER_OFF, .vcpu = power->vcpu));
		break;
	case CPUPOLICY_POWER_DENIED:
		note_denied(session, power->vcpu, power->reason, power->count);
		break;
	}
}

/* ---- the guest's words ---- */

void host_ost(struct host_session *session, const struct cpupolicy_ost *ost)
{
	if (session->role == HOST_ROLE_LIVE)
		event(session, HOST_EVENT(.kind = FLEET_OST, .vcpu = ost->vcpu, .ost_event = ost->event,
					  .ost_status = ost->status));
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
	struct cpupolicy_vcpu *vcpu = fact(session, eject->vcpu);

	if (vcpu)
		fact_eject(vcpu, eject->cause);
	if (session->role == HOST_ROLE_LIVE)
		event(session, HOST_EVENT(.kind = FLEET_EJECT, .vcpu = eject->vcpu, .cause = eject->cause));
}

/* ---- the VMM's state ---- */

void host_run_state(struct host_session *session, enum cpupolicy_run_state state)
{
	struct host_vm *vm = session->vm;

	if (session->facts)
		session->facts->run_state = state;
	if (session->role != HOST_ROLE_LIVE)
		return;
	event(session, HOST_EVENT(.kind = FLEET_RUN_STATE, .run_state = state));
	if (state == CPUPOLICY_RUN_INACTIVE)
		host_session_activate(vm);
}

void host_reset(struct host_session *session, enum cpupolicy_reset_kind kind)
{
	struct host_vm *vm = session->vm;

	if (session->role == HOST_ROLE_INCOMING)
		for (uint32_t i = 1; i < vm->core->possible; i++)
			session->facts->vcpus[i].flags &= ~CPUPOLICY_VCPU_ONLINE;
	if (session->role != HOST_ROLE_LIVE)
		return;
	event(session, HOST_EVENT(.kind = FLEET_RESET));
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
	event(session, HOST_EVENT(.kind = FLEET_STATE, .run_state = state, .vcpus = vcpus));
	if (state == CPUPOLICY_RUN_INACTIVE)
		host_session_activate(vm);
}

void host_confirm(struct host_session *session, const struct cpupolicy_confirm *confirm)
{
	if (session->role == HOST_ROLE_LIVE)
		event(session,
		      HOST_EVENT(.kind = FLEET_CONFIRM, .epoch = confirm->epoch, .generation = confirm->generation));
}
