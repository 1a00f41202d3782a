/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef HW_CPUPOLICY_CPUPOLICY_H
#define HW_CPUPOLICY_CPUPOLICY_H

/*
 * What QEMU's own files call: the hooks of the patch, and nothing else of the glue. Every hook accepts a machine
 * without a policy (a NULL object, or none attached) and then does nothing, so that a call needs no condition around it
 * and a machine without the object is the stock one.
 */

#include "exec/hwaddr.h"
#include "hw/acpi/aml-build.h"
#include "hw/boards.h"
#include "qom/object.h"

#define TYPE_CPU_POLICY "cpupolicy"
OBJECT_DECLARE_SIMPLE_TYPE(CpuPolicy, CPU_POLICY)

struct kvm_run;

#define CPU_POLICY_MMIO_SIZE 0x20

/* cpu_policy_cpu_on(): neither yes nor no yet. No PSCI return code is positive. */
#define CPU_POLICY_WAIT 1

/* ---- the board ---- */

/* The machine's `cpu-policy` link may be set until the board is made. */
void cpu_policy_check_link(const Object *machine, const char *name, Object *val, Error **errp);
/* Before the first use of smp.cpus: from here on every possible vCPU is one of the machine's, and smp.cpus is only
 * proposed to the daemon as the count to boot with. Returns smp.cpus as it is now. */
unsigned int cpu_policy_take_cpus(CpuPolicy *pol, MachineState *ms);
/* vCPUs and interrupt controller exist. `ged` is the event device, NULL where the guest has no ACPI. */
void cpu_policy_wire(CpuPolicy *pol, DeviceState *ged, hwaddr base);
/* The machine is complete, the ACPI tables are about to be built: the daemon now decides who boots. May wait for it. */
void cpu_policy_start(CpuPolicy *pol);

/* ---- ACPI ---- */

/* Flags of the MADT's GICC structure for vCPU `i`. Enabled without a policy, as stock has it. */
uint32_t cpu_policy_gicc_flags(const CpuPolicy *pol, unsigned int i);
/* The processor devices, beside (not inside) the board's \_SB scope. */
void cpu_policy_build_aml(const CpuPolicy *pol, Aml *dsdt);

/* ---- power: any accelerator, under the big lock ---- */

/* The current vCPU asks to power on `target`, which is off; parameters are checked. 0: power it on now, it is marked
 * as pending. QEMU_PSCI_RET_DENIED: say so. CPU_POLICY_WAIT: nothing has happened, make the same call again once
 * woken. */
int cpu_policy_cpu_on(CPUState *target);
void cpu_policy_powered_off(CPUState *cpu);
/* The guest asked for the reset that comes next. With or without the big lock. */
void cpu_policy_guest_reset(void);

/* ---- KVM ---- */

/* The vCPU's registers have been given their reset values. */
void cpu_policy_kvm_reset(CPUState *cpu);
/* The vCPU's registers have been loaded. */
void cpu_policy_kvm_loaded(CPUState *cpu);
/* KVM_EXIT_HYPERCALL. Returns as kvm_arch_handle_exit() does. Without the big lock. */
int cpu_policy_kvm_hypercall(CPUState *cpu, struct kvm_run *run);
/* It is off, or waits: it must not enter KVM_RUN, although there was work for its thread. */
bool cpu_policy_kvm_sleeps(CPUState *cpu);

/* ---- TCG ---- */

/* Let the current vCPU make its PSCI call again, once cpu_policy_unpark() or an interrupt woke it. May not return. */
void cpu_policy_park(CPUState *cpu);

#endif
