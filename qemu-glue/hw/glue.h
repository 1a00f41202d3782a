/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef HW_CPUPOLICY_GLUE_H
#define HW_CPUPOLICY_GLUE_H

/*
 * The object itself, for the files that make it up:
 *
 *   object.c   the -object: its properties and life
 *   session.c  start, the library's callbacks, run state and reset: what goes to and comes from the daemon
 *   plug.c     the guest's view of each vCPU (pure)
 *   regs.c     the register block behind the ACPI methods
 *   aml.c      the ACPI methods and MADT flags
 *   power.c    CPU_ON and CPU_OFF, for any accelerator
 *   realm.c    the calls of a realm's vCPUs (pure but for its ioctls); kvm_realm.c is what it needs of QEMU
 *   compat.h   what differs between the series of QEMU
 *   tcg.c      how a vCPU waits for a verdict under TCG
 *   kvm.c      PSCI calls that the kernel hands over, and how a vCPU waits, under KVM
 *   vmstate.c  migration and snapshots
 *   qmp.c      commands and the event
 *
 * All state is protected by the big QEMU lock.
 */

#include "compat.h"
#include "hw/boards.h"
#include "migration/misc.h"
#include "qapi/qapi-types-cpu-policy-object.h"
#include "qemu/notify.h"
#include "qemu/timer.h"
#include "qom/object.h"

#include "cpupolicy.h"
#include "plug.h"

/* One CPU_ON that the daemon was asked about, by target: a guest's thread may make the call again from another vCPU
 * than it was first made from, and must find its verdict there. */
struct cpu_policy_ask {
	bool pending;
	bool answered;
	uint32_t caller; /* in whose name the library asked */
	int64_t at;      /* virtual time of the answer */
	struct cpupolicy_verdict verdict;
};

struct cpu_policy_vcpu {
	CPUState *cpu;
	struct cpu_policy_slot slot;
	struct cpu_policy_ask ask;
	int waits_for; /* as a caller: the target of the CPU_ON that it is parked in, or -1 */

	/* KVM */
	uint64_t *reset_values; /* of the registers in ARMCPU::cpreg_indexes */
	bool is_reset;          /* its registers are as they were reset, where it is off */
};

/* What accelerators do differently. Under the big lock. */
struct cpu_policy_accel {
	/* Before any vCPU exists: make the guest's CPU_ON come here. NULL: it does. */
	bool (*take)(CpuPolicy *pol, Error **errp);
	void (*unpark)(CPUState *cpu);
	/* QEMU has the vCPU as off; called where the vCPU itself would run. NULL: that is all there is to it. */
	void (*stop)(CPUState *cpu);
	/* Where CPU_ON comes here, once all vCPUs exist. NULL: nothing is left to do. */
	bool (*ready)(CpuPolicy *pol, Error **errp);
	/* Where CPU_ON does not come here: keep an eye on which vCPUs are on. */
	void (*watch)(CpuPolicy *pol);
};

/* Completes a PSCI call that the kernel handed over, of the current vCPU, under the big lock. What KVM's exit handler is
 * to return: 0 to go on in the guest, EXCP_HLT to sleep until `halted` is cleared, a negative errno to stop the VM. */
typedef int cpu_policy_psci_fn(CpuPolicy *pol, CPUState *cpu, struct kvm_run *run);

/* What vmstate.c reads and writes. */
struct cpu_policy_image_vcpu {
	uint32_t flags;
	uint32_t grant;
	uint32_t serial;
};

struct cpu_policy_image {
	uint32_t possible;
	uint32_t epoch;
	uint8_t token[CPUPOLICY_TOKEN_SIZE];
	struct cpu_policy_image_vcpu *vcpus;
};

struct CpuPolicy {
	Object parent_obj;

	/* properties */
	char *path;
	char *fd_name;
	int fd; /* -1 once the library has it */
	uint32_t boot;
	CpuPolicyOnMissing on_missing;
	bool removable;
	bool standalone;
	bool break_glass;
	bool allow_unenforced;

	/* the machine */
	MachineState *machine;
	DeviceState *ged;
	hwaddr base;
	MemoryRegion mmio;
	uint32_t possible;
	uint32_t proposed;
	enum cpupolicy_means means;
	struct cpu_policy_realm *realm; /* KVM, and the VM is one */
	cpu_policy_psci_fn *psci;       /* KVM: NULL where the kernel hands nothing over */
	struct cpu_policy_vcpu *vcpus;
	bool ran; /* the guest has run, so that a reset is news */
	bool was_reset;
	bool guest_reset;
	Notifier exit_notifier;
	Notifier done_notifier;
	NotifierWithReturn migration_notifier;

	/* the daemon */
	struct cpupolicy *lib;
	bool started;  /* lib was told where its policy comes from */
	bool settled;  /* the boot set is taken: from here on the page's changes are applied */
	bool arriving; /* the guest was elsewhere: a page that grants nothing says so, and no more */
	enum cpupolicy_run_state reported;

	/* registers */
	uint32_t selected;
	uint32_t ost_event;
	QEMUTimer *pulse;
	int64_t pulse_ms;

	QEMUTimer *watch; /* KVM */

	struct cpu_policy_image image;
};

/* The one that the machine uses, or NULL. */
CpuPolicy *cpu_policy_active(void);

/* session.c */
void cpu_policy_session_init(CpuPolicy *pol);
int cpu_policy_session_start(CpuPolicy *pol, Error **errp);
void cpu_policy_session_end(CpuPolicy *pol);
/* Compares page and guest, and raises what follows from it. */
void cpu_policy_session_apply(CpuPolicy *pol);
/* Does what the library has to do now instead of at its next event. */
void cpu_policy_session_dispatch(CpuPolicy *pol);
enum cpupolicy_run_state cpu_policy_session_run_state(void);

/* regs.c */
void cpu_policy_regs_init(CpuPolicy *pol);
/* Some vCPU's flag was raised: send the event, again and again until the guest has read it. */
void cpu_policy_regs_raise(CpuPolicy *pol);
/* The guest goes on: an event that its saved state does not hold is sent again. */
void cpu_policy_regs_resume(CpuPolicy *pol);
/* The vCPU that the guest gave back is off. */
void cpu_policy_regs_ejected(CpuPolicy *pol, uint32_t vcpu);

/* power.c */
/* Makes the guest's CPU_ON calls come here, with the accelerator that there is. */
bool cpu_policy_power_take(CpuPolicy *pol, Error **errp);
/* All vCPUs exist. */
bool cpu_policy_power_ready(CpuPolicy *pol, Error **errp);
/* It was found that one has been powered on or off by others than us. */
void cpu_policy_power_changed(CpuPolicy *pol);
/* cpu_policy_cpu_on() where it is known who called which function. */
int cpu_policy_power_on(CPUState *caller, CPUState *target, uint32_t function);
/* Whether QEMU answers the guest's PSCI calls, and not firmware inside the guest. */
bool cpu_policy_power_is_ours(void);
bool cpu_policy_power_is_on(const CpuPolicy *pol, uint32_t vcpu);
void cpu_policy_power_verdict(CpuPolicy *pol, uint32_t caller, uint32_t target,
			      const struct cpupolicy_verdict *verdict);
/* Forget what was asked; nobody is powered on by an answer that comes later. */
void cpu_policy_power_abandon(CpuPolicy *pol);
/* Whoever waits looks again. */
void cpu_policy_power_wake(CpuPolicy *pol);

/* tcg.c, kvm.c */
extern const struct cpu_policy_accel cpu_policy_tcg, cpu_policy_kvm;

/* kvm_realm.c */
/* A VM that QEMU does not see into may be a realm. Before any vCPU exists. */
bool cpu_policy_kvm_realm_may_be(void);
void cpu_policy_kvm_realm_take(CpuPolicy *pol);
/* All vCPUs exist: whether it is. */
bool cpu_policy_kvm_realm_ready(CpuPolicy *pol, Error **errp);
void cpu_policy_kvm_realm_unpark(CpuPolicy *pol, CPUState *cpu);

/* vmstate.c */
void cpu_policy_vmstate_init(CpuPolicy *pol);

/* qmp.c */
void cpu_policy_qmp_changed(CpuPolicy *pol);

#endif
