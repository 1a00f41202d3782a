/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef HW_CPUPOLICY_REALM_H
#define HW_CPUPOLICY_REALM_H

/*
 * Arm CCA realms: the firmware calls of a realm's vCPUs (RECs), and how the host completes them.
 *
 * The Realm Management Monitor (RMM) answers most of PSCI by itself, bad parameters included. Of the rest it tells the
 * host, which can neither see nor write the realm's registers: it only says, for a CPU_ON, yes or no, and RMM gives the
 * guest the answer that follows. Until then RMM does not enter the calling REC. It refuses a "no" for a REC that is on
 * already, so the host must know that for certain when it answers: not while the target runs, nor while an exit of it is
 * still to be looked at, which may be its CPU_OFF.
 *
 * Pure but for the ioctls, which go through a table of functions, so that tests drive the code that issues them. The
 * owner serialises all calls (in QEMU: the big lock).
 */

#include <stdbool.h>
#include <stdint.h>

enum cpu_policy_realm_outcome {
	CPU_POLICY_REALM_RUN,  /* its call is completed, or needs no completion: it may run again */
	CPU_POLICY_REALM_WAIT, /* it must not run until cpu_policy_realm_again() says so */
	CPU_POLICY_REALM_OFF,  /* it is off until somebody's CPU_ON starts it */
	/* The realm is over. RMM enters none of its RECs again: a reboot is another realm. */
	CPU_POLICY_REALM_SYSTEM_OFF,
	CPU_POLICY_REALM_SYSTEM_RESET,
};

enum cpu_policy_realm_decision {
	CPU_POLICY_REALM_ALLOWED, /* for good: reported, and none that takes the vCPU back was confirmed before */
	CPU_POLICY_REALM_DENIED,
	CPU_POLICY_REALM_ASKED, /* not yet; cpu_policy_realm_again() is called when it is known */
};

struct cpu_policy_realm_ops {
	/* Of the VM's descriptor, and of that vCPU's. Negative errno for failure. */
	int (*vm_ioctl)(void *opaque, unsigned long request, uintptr_t arg);
	int (*vcpu_ioctl)(void *opaque, uint32_t vcpu, unsigned long request, void *arg);
	/* Whether that vCPU is outside of the guest, all its exits looked at, and stays so until the caller of this file
	 * returns. If not, cpu_policy_realm_again(waiter) is called where it is. */
	bool (*quiet)(void *opaque, uint32_t vcpu, uint32_t waiter);
	enum cpu_policy_realm_decision (*decide)(void *opaque, uint32_t caller, uint32_t target, uint32_t function);
	/* It may run from now on; it does not run any more. */
	void (*started)(void *opaque, uint32_t vcpu);
	void (*stopped)(void *opaque, uint32_t vcpu);
};

struct cpu_policy_realm_vcpu {
	uint64_t mpidr;
	bool on;
	bool pending;      /* its call is still to be completed */
	uint32_t function; /* of that call */
	uint32_t target;
};

struct cpu_policy_realm {
	const struct cpu_policy_realm_ops *ops;
	void *opaque;
	uint32_t n;
	struct cpu_policy_realm_vcpu *vcpus;
};

/* `vcpus` is the caller's, `n` of it, with the MPIDRs filled in. vCPU 0 is on, as RMM has it for a new realm. */
void cpu_policy_realm_init(struct cpu_policy_realm *realm, const struct cpu_policy_realm_ops *ops, void *opaque,
			   struct cpu_policy_realm_vcpu *vcpus, uint32_t n);

/* 1: the VM is a realm whose calls can be completed from here. 0: it is not known as one to this kernel; it may be a VM of
 * any other kind, or a realm of a kernel that leaves nothing to the host. */
int cpu_policy_realm_probe(const struct cpu_policy_realm *realm);

/* vCPU `caller` left the guest with PSCI call `x0` and first argument `x1`. An outcome, or a negative errno: the
 * completion was refused, and the VM cannot go on. */
int cpu_policy_realm_call(struct cpu_policy_realm *realm, uint32_t caller, uint64_t x0, uint64_t x1);

/* What kept a call waiting may have changed. CPU_POLICY_REALM_RUN as well where nothing is pending. */
int cpu_policy_realm_again(struct cpu_policy_realm *realm, uint32_t caller);

bool cpu_policy_realm_is_on(const struct cpu_policy_realm *realm, uint32_t vcpu);

#endif
