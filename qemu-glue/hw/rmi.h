/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef HW_CPUPOLICY_RMI_H
#define HW_CPUPOLICY_RMI_H

/*
 * KVM's interface for completing the PSCI calls of a realm. It is in no released kernel: this is the one of the series
 * "arm64: Support for Arm CCA in KVM", version 13 (March 2026), the last that leaves completion to the VMM. The
 * capability's number moves with each version (247 in version 12, which has the same ioctl), so it alone proves nothing:
 * see cpu_policy_realm_probe().
 */

#include <linux/types.h>
#include <sys/ioctl.h>

#define CPU_POLICY_KVM_CAP_ARM_RMI 248

struct cpu_policy_kvm_psci_complete {
	__u64 target_mpidr;
	__u32 psci_status;
	__u32 padding[3];
};

_Static_assert(sizeof(struct cpu_policy_kvm_psci_complete) == 24, "the kernel's layout");

/* KVM_ARM_VCPU_RMI_PSCI_COMPLETE, on the calling vCPU's descriptor */
#define CPU_POLICY_KVM_PSCI_COMPLETE _IOW(0xAE, 0xd6, struct cpu_policy_kvm_psci_complete)

#endif
