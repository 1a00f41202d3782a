/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Realms under KVM: what realm.c needs of QEMU.
 *
 * A call that is not completed yet keeps its vCPU halted, outside of KVM_RUN; it is not made again, but taken up again
 * (cpu_policy_realm_again()) by whoever would wake the vCPU.
 */

#include "qemu/osdep.h"
#include <linux/kvm.h>

#include "hw/core/cpu.h"
#include "qapi/error.h"
#include "qemu/error-report.h"
#include "system/kvm.h"
#include "system/kvm_int.h"
#include "system/runstate.h"
#include "cpu.h"
#include "internals.h"

#include "glue.h"
#include "realm.h"
#include "rmi.h"

#define REG_X1 (KVM_REG_ARM64 | KVM_REG_SIZE_U64 | KVM_REG_ARM_CORE | KVM_REG_ARM_CORE_REG(regs.regs[1]))

static int on_vm_ioctl(void *opaque, unsigned long request, uintptr_t arg)
{
	return kvm_vm_ioctl(kvm_state, request, arg);
}

static int on_vcpu_ioctl(void *opaque, uint32_t vcpu, unsigned long request, void *arg)
{
	CpuPolicy *pol = opaque;

	return kvm_vcpu_ioctl(pol->vcpus[vcpu].cpu, request, arg);
}

static void again_there(CPUState *cpu, run_on_cpu_data data)
{
	CpuPolicy *pol = cpu_policy_active();

	cpu_policy_kvm_realm_unpark(pol, pol->vcpus[data.host_int].cpu);
}

static bool on_quiet(void *opaque, uint32_t vcpu, uint32_t waiter)
{
	CpuPolicy *pol = opaque;
	CPUState *cpu = pol->vcpus[vcpu].cpu;

	/* Halted by us, or stopped: either is set by its own thread, under the big lock, behind what it had to look at. */
	if (cpu == current_cpu || cpu->halted || cpu_is_stopped(cpu))
		return true;
	async_run_on_cpu(cpu, again_there, RUN_ON_CPU_HOST_INT((int)waiter));
	return false;
}

static enum cpu_policy_realm_decision on_decide(void *opaque, uint32_t caller, uint32_t target, uint32_t function)
{
	CpuPolicy *pol = opaque;

	switch (cpu_policy_power_on(pol->vcpus[caller].cpu, pol->vcpus[target].cpu, function)) {
	case 0:
		return CPU_POLICY_REALM_ALLOWED;
	case CPU_POLICY_WAIT:
		return CPU_POLICY_REALM_ASKED;
	default:
		return CPU_POLICY_REALM_DENIED;
	}
}

static void wake(CPUState *cpu)
{
	cpu->halted = 0;
	qemu_cpu_kick(cpu);
}

static void on_started(void *opaque, uint32_t vcpu)
{
	CpuPolicy *pol = opaque;

	ARM_CPU(pol->vcpus[vcpu].cpu)->power_state = PSCI_ON;
	wake(pol->vcpus[vcpu].cpu);
}

static void on_stopped(void *opaque, uint32_t vcpu)
{
	CpuPolicy *pol = opaque;

	ARM_CPU(pol->vcpus[vcpu].cpu)->power_state = PSCI_OFF;
	cpu_policy_powered_off(pol->vcpus[vcpu].cpu);
}

static const struct cpu_policy_realm_ops ops = {
	.vm_ioctl = on_vm_ioctl,
	.vcpu_ioctl = on_vcpu_ioctl,
	.quiet = on_quiet,
	.decide = on_decide,
	.started = on_started,
	.stopped = on_stopped,
};

/* The kernel or the RMM refused. The realm's state is then not what we believe, and its vCPU cannot go on. */
static void broken(const CPUState *cpu, int error)
{
	error_report("cpu-policy: a PSCI call of the realm's vCPU %d cannot be completed: %s", cpu->cpu_index,
		     strerror(-error));
	vm_stop(RUN_STATE_INTERNAL_ERROR);
}

void cpu_policy_kvm_realm_unpark(CpuPolicy *pol, CPUState *cpu)
{
	int r = cpu_policy_realm_again(pol->realm, cpu->cpu_index);

	if (r < 0)
		broken(cpu, r);
	else if (r == CPU_POLICY_REALM_RUN)
		wake(cpu);
}

static int psci(CpuPolicy *pol, CPUState *cpu, struct kvm_run *run)
{
	uint64_t mpidr;
	int r;

	r = kvm_get_one_reg(cpu, REG_X1, &mpidr);
	if (r < 0)
		return r;
	r = cpu_policy_realm_call(pol->realm, cpu->cpu_index, run->hypercall.nr, mpidr);
	switch (r) {
	case CPU_POLICY_REALM_WAIT:
	case CPU_POLICY_REALM_OFF:
		cpu->halted = 1;
		return EXCP_HLT;
	case CPU_POLICY_REALM_SYSTEM_OFF:
		qemu_system_shutdown_request(SHUTDOWN_CAUSE_GUEST_SHUTDOWN);
		return EXCP_INTERRUPT;
	case CPU_POLICY_REALM_SYSTEM_RESET:
		qemu_system_shutdown_request(SHUTDOWN_CAUSE_GUEST_RESET);
		return EXCP_INTERRUPT;
	default:
		return r;
	}
}

bool cpu_policy_kvm_realm_may_be(void)
{
	return kvm_vm_check_extension(kvm_state, CPU_POLICY_KVM_CAP_ARM_RMI) > 0;
}

void cpu_policy_kvm_realm_take(CpuPolicy *pol)
{
	pol->realm = g_new0(struct cpu_policy_realm, 1);
	pol->psci = psci;
}

bool cpu_policy_kvm_realm_ready(CpuPolicy *pol, Error **errp)
{
	struct cpu_policy_realm_vcpu *vcpus = g_new0(struct cpu_policy_realm_vcpu, pol->possible);

	for (uint32_t i = 0; i < pol->possible; i++)
		vcpus[i].mpidr = arm_cpu_mp_affinity(ARM_CPU(pol->vcpus[i].cpu));
	cpu_policy_realm_init(pol->realm, &ops, pol, vcpus, pol->possible);
	if (cpu_policy_realm_probe(pol->realm) == 1)
		return true;
	error_setg(errp, "cpu-policy: this VM is no realm whose CPU_ON calls this host's kernel leaves to QEMU "
			 "(KVM_ARM_VCPU_RMI_PSCI_COMPLETE)");
	return false;
}
