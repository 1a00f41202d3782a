/* SPDX-License-Identifier: GPL-2.0-or-later */

#include "realm.h"

#include <errno.h>
#include <linux/kvm.h>
#include <stddef.h>

#include "rmi.h"

#define PSCI_CPU_OFF          0x84000002u
#define PSCI_CPU_ON_32        0x84000003u
#define PSCI_CPU_ON_64        0xC4000003u
#define PSCI_AFFINITY_INFO_32 0x84000004u
#define PSCI_AFFINITY_INFO_64 0xC4000004u
#define PSCI_SYSTEM_OFF       0x84000008u
#define PSCI_SYSTEM_RESET     0x84000009u

#define PSCI_SUCCESS 0
#define PSCI_DENIED  (-3)

#define MPIDR_AFFINITY UINT64_C(0xff00ffffff)

void cpu_policy_realm_init(struct cpu_policy_realm *realm, const struct cpu_policy_realm_ops *ops, void *opaque,
			   struct cpu_policy_realm_vcpu *vcpus, uint32_t n)
{
	*realm = (struct cpu_policy_realm){.ops = ops, .opaque = opaque, .n = n, .vcpus = vcpus};
	for (uint32_t i = 0; i < n; i++)
		vcpus[i] = (struct cpu_policy_realm_vcpu){.mpidr = vcpus[i].mpidr, .on = i == 0};
}

int cpu_policy_realm_probe(const struct cpu_policy_realm *realm)
{
	/* With no structure to read, a kernel that has the ioctl faults, for a vCPU that is a REC; another one does not
	 * know the request. Nothing is completed in either. */
	if (realm->ops->vm_ioctl(realm->opaque, KVM_CHECK_EXTENSION, CPU_POLICY_KVM_CAP_ARM_RMI) <= 0)
		return 0;
	return realm->ops->vcpu_ioctl(realm->opaque, 0, CPU_POLICY_KVM_PSCI_COMPLETE, NULL) == -EFAULT;
}

/* ---- what goes to the kernel ---- */

static int complete(struct cpu_policy_realm *realm, uint32_t caller, int32_t status)
{
	struct cpu_policy_realm_vcpu *vcpu = &realm->vcpus[caller];
	struct cpu_policy_kvm_psci_complete request = {
		.target_mpidr = realm->vcpus[vcpu->target].mpidr,
		.psci_status = (uint32_t)status,
	};
	int r = realm->ops->vcpu_ioctl(realm->opaque, caller, CPU_POLICY_KVM_PSCI_COMPLETE, &request);

	if (r < 0)
		return r;
	vcpu->pending = false;
	return CPU_POLICY_REALM_RUN;
}

static int set_state(struct cpu_policy_realm *realm, uint32_t vcpu, uint32_t mp_state)
{
	struct kvm_mp_state state = {.mp_state = mp_state};

	return realm->ops->vcpu_ioctl(realm->opaque, vcpu, KVM_SET_MP_STATE, &state);
}

/* ---- CPU_ON ---- */

static int power_on(struct cpu_policy_realm *realm, uint32_t caller)
{
	uint32_t target = realm->vcpus[caller].target;
	int r;

	/* RMM makes the target's REC ready; before that it could not be entered. */
	r = complete(realm, caller, PSCI_SUCCESS);
	if (r < 0)
		return r;
	realm->vcpus[target].on = true;
	r = set_state(realm, target, KVM_MP_STATE_RUNNABLE);
	if (r < 0)
		return r;
	realm->ops->started(realm->opaque, target);
	return CPU_POLICY_REALM_RUN;
}

static int resume_cpu_on(struct cpu_policy_realm *realm, uint32_t caller)
{
	const struct cpu_policy_realm_vcpu *vcpu = &realm->vcpus[caller];

	if (realm->vcpus[vcpu->target].on) {
		/* Somebody else may have started it since it was asked about. RMM answers ALREADY_ON, and takes nothing but
		 * yes for it. */
		if (!realm->ops->quiet(realm->opaque, vcpu->target, caller))
			return CPU_POLICY_REALM_WAIT;
		return complete(realm, caller, PSCI_SUCCESS);
	}
	switch (realm->ops->decide(realm->opaque, caller, vcpu->target, vcpu->function)) {
	case CPU_POLICY_REALM_ALLOWED:
		return power_on(realm, caller);
	case CPU_POLICY_REALM_ASKED:
		return CPU_POLICY_REALM_WAIT;
	default:
		return complete(realm, caller, PSCI_DENIED);
	}
}

/* ---- calls ---- */

int cpu_policy_realm_again(struct cpu_policy_realm *realm, uint32_t caller)
{
	return realm->vcpus[caller].pending ? resume_cpu_on(realm, caller) : CPU_POLICY_REALM_RUN;
}

static int find(const struct cpu_policy_realm *realm, uint64_t mpidr, uint32_t *ret)
{
	for (uint32_t i = 0; i < realm->n; i++) {
		if ((realm->vcpus[i].mpidr & MPIDR_AFFINITY) == (mpidr & MPIDR_AFFINITY)) {
			*ret = i;
			return 0;
		}
	}
	return -ENXIO;
}

static int with_target(struct cpu_policy_realm *realm, uint32_t caller, uint32_t function, uint64_t mpidr)
{
	struct cpu_policy_realm_vcpu *vcpu = &realm->vcpus[caller];
	int r;

	/* RMM forwards no call for a REC that does not exist. */
	r = find(realm, mpidr, &vcpu->target);
	if (r < 0)
		return r;
	vcpu->function = function;
	vcpu->pending = true;
	if (function == PSCI_AFFINITY_INFO_32 || function == PSCI_AFFINITY_INFO_64)
		return complete(realm, caller, PSCI_SUCCESS);
	return resume_cpu_on(realm, caller);
}

static int power_off(struct cpu_policy_realm *realm, uint32_t vcpu)
{
	int r = set_state(realm, vcpu, KVM_MP_STATE_STOPPED);

	if (r < 0)
		return r;
	realm->vcpus[vcpu].on = false;
	realm->ops->stopped(realm->opaque, vcpu);
	return CPU_POLICY_REALM_OFF;
}

int cpu_policy_realm_call(struct cpu_policy_realm *realm, uint32_t caller, uint64_t x0, uint64_t x1)
{
	/* The function is in the lower half; the upper one is the guest's to fill. */
	uint32_t function = (uint32_t)x0;

	switch (function) {
	case PSCI_CPU_OFF:
		return power_off(realm, caller);
	case PSCI_CPU_ON_32:
	case PSCI_CPU_ON_64:
	case PSCI_AFFINITY_INFO_32:
	case PSCI_AFFINITY_INFO_64:
		return with_target(realm, caller, function, x1);
	case PSCI_SYSTEM_OFF:
		return CPU_POLICY_REALM_SYSTEM_OFF;
	case PSCI_SYSTEM_RESET:
		return CPU_POLICY_REALM_SYSTEM_RESET;
	default:
		/* CPU_SUSPEND, and what RMM may tell of one day: it has answered the guest, this is for information. */
		return CPU_POLICY_REALM_RUN;
	}
}

bool cpu_policy_realm_is_on(const struct cpu_policy_realm *realm, uint32_t vcpu)
{
	return realm->vcpus[vcpu].on;
}
