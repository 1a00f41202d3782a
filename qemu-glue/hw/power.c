/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * CPU_ON and CPU_OFF: where policy meets the guest's PSCI calls. Accelerator-neutral; how a vCPU waits is not (tcg.c,
 * kvm.c).
 *
 * Nobody waits here. A call that the daemon has to be asked about answers CPU_POLICY_WAIT; its vCPU is parked as if it
 * slept, with its program counter on the call, and makes the same call again when the answer (or an interrupt) wakes
 * it. So there is nothing to unwind when the VM is stopped, reset or saved in the meantime: whatever was asked is
 * forgotten, and a call that is made again is simply a new one.
 */

#include "qemu/osdep.h"
#include "hw/core/cpu.h"
#include "qapi/error.h"
#include "system/kvm.h"
#include "system/runstate.h"
#include "system/tcg.h"
#include "cpu.h"

#include "glue.h"

/* An answer that nobody came back for within this time was for a call that the guest no longer makes. */
#define ANSWER_VALID_MS 1000

/* NULL: one that runs no guest (qtest), or that is not known. */
static const struct cpu_policy_accel *accel(void)
{
#ifdef CONFIG_KVM
	if (kvm_enabled())
		return &cpu_policy_kvm;
#endif
#ifdef CONFIG_TCG
	if (tcg_enabled())
		return &cpu_policy_tcg;
#endif
	return NULL;
}

static void unpark(CPUState *cpu)
{
	if (accel())
		accel()->unpark(cpu);
}

bool cpu_policy_power_take(CpuPolicy *pol, Error **errp)
{
	if (!accel()) {
		error_setg(errp, "CPU policy is for KVM and TCG, not for this accelerator");
		return false;
	}
	return !accel()->take || accel()->take(pol, errp);
}

bool cpu_policy_power_ready(CpuPolicy *pol, Error **errp)
{
	if (pol->means != CPUPOLICY_MEANS_NONE)
		return !accel() || !accel()->ready || accel()->ready(pol, errp);
	if (accel()->watch)
		accel()->watch(pol);
	return true;
}

void cpu_policy_power_changed(CpuPolicy *pol)
{
	if (!pol->settled)
		return;
	cpupolicy_resync(pol->lib);
	cpu_policy_qmp_changed(pol);
}

bool cpu_policy_power_is_on(const CpuPolicy *pol, uint32_t vcpu)
{
	/* Until the first reset QEMU's own idea of it is not set. */
	if (!pol->was_reset)
		return vcpu == 0;
	return ARM_CPU(pol->vcpus[vcpu].cpu)->power_state != PSCI_OFF;
}

bool cpu_policy_power_is_ours(void)
{
	return ARM_CPU(first_cpu)->psci_conduit != QEMU_PSCI_CONDUIT_DISABLED;
}

static void wake_waiters(CpuPolicy *pol, uint32_t target)
{
	for (uint32_t i = 0; i < pol->possible; i++) {
		if (pol->vcpus[i].waits_for == (int)target)
			unpark(pol->vcpus[i].cpu);
	}
}

static bool take_answer(struct cpu_policy_ask *ask, struct cpupolicy_verdict *ret)
{
	if (!ask->answered)
		return false;
	ask->answered = false;
	if (qemu_clock_get_ms(QEMU_CLOCK_VIRTUAL) - ask->at > ANSWER_VALID_MS)
		return false;
	*ret = ask->verdict;
	return true;
}

/* The library keeps one ask per caller: a caller that now asks for another target has given the former one up. Others
 * may wait for that answer, which will not come: they have to ask for themselves. */
static void replace_ask(CpuPolicy *pol, uint32_t caller, uint32_t target)
{
	for (uint32_t i = 0; i < pol->possible; i++) {
		struct cpu_policy_ask *ask = &pol->vcpus[i].ask;

		if (i != target && ask->pending && ask->caller == caller) {
			ask->pending = false;
			wake_waiters(pol, i);
		}
	}
}

/* 0: allowed, for `ret_reason`. */
static int decide(CpuPolicy *pol, uint32_t caller, uint32_t target, uint32_t function,
		  enum cpupolicy_reason *ret_reason)
{
	struct cpu_policy_ask *ask = &pol->vcpus[target].ask;
	struct cpupolicy_verdict verdict;

	if (take_answer(ask, &verdict)) {
		*ret_reason = verdict.reason;
		return verdict.psci == CPUPOLICY_PSCI_SUCCESS ? 0 : QEMU_PSCI_RET_DENIED;
	}
	if (ask->pending)
		return CPU_POLICY_WAIT;

	replace_ask(pol, caller, target);
	switch (cpupolicy_cpu_on(pol->lib, caller, target, function, ret_reason)) {
	case CPUPOLICY_ANSWER_ALLOW:
		return 0;
	case CPUPOLICY_ANSWER_ASKED:
		ask->pending = true;
		ask->caller = caller;
		return CPU_POLICY_WAIT;
	default:
		return QEMU_PSCI_RET_DENIED;
	}
}

static uint32_t called_function(CPUState *cpu)
{
	CPUARMState *env = cpu_env(cpu);
	uint64_t function = is_a64(env) ? env->xregs[0] : env->regs[0];

	return function & QEMU_PSCI_0_2_64BIT ? CPUPOLICY_PSCI_CPU_ON_64 : CPUPOLICY_PSCI_CPU_ON_32;
}

int cpu_policy_cpu_on(CPUState *target)
{
	return cpu_policy_power_on(current_cpu, target, called_function(current_cpu));
}

int cpu_policy_power_on(CPUState *calling, CPUState *target, uint32_t function)
{
	CpuPolicy *pol = cpu_policy_active();
	enum cpupolicy_reason reason = CPUPOLICY_REASON_NONE;
	uint32_t caller, index = target->cpu_index;
	int r;

	if (!pol)
		return 0;

	caller = calling->cpu_index;
	r = decide(pol, caller, index, function, &reason);
	pol->vcpus[caller].waits_for = r == CPU_POLICY_WAIT ? (int)index : -1;
	if (r != 0)
		return r;

	/* The big lock is held from this look at the page until the vCPU is marked as powering on: no page that takes
	 * the vCPU back can be confirmed in between. */
	if (!cpupolicy_power_on(pol->lib, index, reason))
		return QEMU_PSCI_RET_DENIED;
	ARM_CPU(target)->power_state = PSCI_ON_PENDING;
	cpu_policy_slot_powered_on(&pol->vcpus[index].slot);
	cpu_policy_qmp_changed(pol);
	return 0;
}

void cpu_policy_powered_off(CPUState *cpu)
{
	CpuPolicy *pol = cpu_policy_active();
	uint32_t index = cpu->cpu_index;

	if (!pol)
		return;

	/* Powered off by an eject while it waited: the answer is not to wake it. */
	pol->vcpus[index].waits_for = -1;
	/* Nothing of it runs any more when it is reported. */
	if (accel() && accel()->stop)
		accel()->stop(cpu);
	cpupolicy_power_off(pol->lib, index);
	if (pol->vcpus[index].slot.ejecting)
		cpu_policy_regs_ejected(pol, index);
	cpu_policy_qmp_changed(pol);
}

void cpu_policy_guest_reset(void)
{
	CpuPolicy *pol = cpu_policy_active();

	/* Not always under the big lock; the reset that it is about comes after it, and under that. */
	if (pol)
		qatomic_set(&pol->guest_reset, true);
}

void cpu_policy_power_verdict(CpuPolicy *pol, uint32_t caller, uint32_t target, const struct cpupolicy_verdict *verdict)
{
	struct cpu_policy_ask *ask = &pol->vcpus[target].ask;

	if (!ask->pending || ask->caller != caller)
		return;

	ask->pending = false;
	ask->answered = true;
	ask->at = qemu_clock_get_ms(QEMU_CLOCK_VIRTUAL);
	ask->verdict = *verdict;
	wake_waiters(pol, target);
}

void cpu_policy_power_abandon(CpuPolicy *pol)
{
	for (uint32_t i = 0; i < pol->possible; i++) {
		struct cpu_policy_ask *ask = &pol->vcpus[i].ask;

		if (ask->pending)
			cpupolicy_abandon(pol->lib, ask->caller);
		ask->pending = false;
		ask->answered = false;
	}
}

void cpu_policy_power_wake(CpuPolicy *pol)
{
	/* Not only those known to wait: one that was saved while it did sleeps in the state that was loaded. A vCPU that
	 * is woken for nothing sees its WFI end early, as the architecture permits at any time. */
	for (uint32_t i = 0; i < pol->possible; i++) {
		pol->vcpus[i].waits_for = -1;
		if (cpu_policy_power_is_on(pol, i))
			unpark(pol->vcpus[i].cpu);
		else
			pol->vcpus[i].cpu->halted = 1;
	}
}
