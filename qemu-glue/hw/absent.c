/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The hooks of targets and configurations without the `virt` board: nothing has a policy there. */

#include "qemu/osdep.h"
#include "qapi/error.h"
#include "qapi/qapi-commands-cpu-policy.h"

#include "cpupolicy.h"

int cpu_policy_cpu_on(CPUState *target)
{
	return 0;
}

void cpu_policy_powered_off(CPUState *cpu)
{
}

void cpu_policy_guest_reset(void)
{
}

void cpu_policy_park(CPUState *cpu)
{
}

void cpu_policy_kvm_reset(CPUState *cpu)
{
}

void cpu_policy_kvm_loaded(CPUState *cpu)
{
}

int cpu_policy_kvm_hypercall(CPUState *cpu, struct kvm_run *run)
{
	return 0;
}

bool cpu_policy_kvm_sleeps(CPUState *cpu)
{
	return false;
}

CpuPolicyInfo *qmp_query_cpu_policy(Error **errp)
{
	error_setg(errp, "no board of this QEMU has a CPU policy");
	return NULL;
}

void qmp_cpu_policy_set(bool has_count, uint32_t count, bool has_vcpus, uint32List *vcpus, Error **errp)
{
	qmp_query_cpu_policy(errp);
}
