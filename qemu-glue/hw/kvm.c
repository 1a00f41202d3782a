/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * CPU_ON and CPU_OFF under KVM.
 *
 * The kernel answers PSCI by itself, unless its SMCCC filter is told to hand calls over: CPU_ON and CPU_OFF, nothing
 * else. They are completed here as the kernel would have completed them, policy apart: the same checks in the same
 * order, the same codes, the same registers. What stays with the kernel (AFFINITY_INFO) goes by the KVM_MP_STATE that is
 * set here.
 *
 * A vCPU that is off, or that waits for a verdict, sleeps in QEMU's own loop (`halted`) and not in KVM_RUN. So while
 * the big lock is held nobody but the holder touches its registers: a CPU_ON is done by its caller, whole, and of two
 * callers that race one finds the vCPU on already.
 *
 * Registers are those in the kernel. QEMU's copy is neither fetched nor written back as a whole, and a vCPU that is
 * powered on again gets its reset values one by one: KVM_ARM_VCPU_INIT of a vCPU that has run unmaps all of the guest's
 * memory on hosts without FEAT_S2FWB, which a guest could then make happen at will.
 */

#include "qemu/osdep.h"
#include <linux/kvm.h>

#include "hw/core/cpu.h"
#include "qapi/error.h"
#include "qemu/error-report.h"
#include "qemu/main-loop.h"
#include "qemu/timer.h"
#include "system/kvm.h"
#include "system/kvm_int.h"
#include "cpu.h"
#include "internals.h"

#include "glue.h"

#define CORE_REG(x)      (KVM_REG_ARM64 | KVM_REG_SIZE_U64 | KVM_REG_ARM_CORE | KVM_REG_ARM_CORE_REG(x))
#define FP_REG(x)        (KVM_REG_ARM64 | KVM_REG_SIZE_U128 | KVM_REG_ARM_CORE | KVM_REG_ARM_CORE_REG(x))
#define FP_CTRL_REG(x)   (KVM_REG_ARM64 | KVM_REG_SIZE_U32 | KVM_REG_ARM_CORE | KVM_REG_ARM_CORE_REG(x))
#define GENERAL_REG(i)   (CORE_REG(regs.regs[0]) + (i) * (CORE_REG(regs.regs[1]) - CORE_REG(regs.regs[0])))
#define REG_SCTLR_EL1    ARM64_SYS_REG(3, 0, 1, 0, 0)
#define N_GENERAL_REGS   31
#define N_FP_REGS        32
#define SVE_REG_MAX_SIZE 256

/* What KVM has as the bits that may be set in an MPIDR argument. */
#define MPIDR_AFFINITY_BITS UINT64_C(0xff00ffffff)

#define RESET_PSTATE   (PSTATE_D | PSTATE_A | PSTATE_I | PSTATE_F | PSTATE_MODE_EL1h)
#define RESET_PSTATE32 (CPSR_A | CPSR_I | CPSR_F | ARM_CPU_MODE_SVC)

/* How often a kernel that answers by itself is asked which vCPUs are on. */
#define WATCH_MS 1000

/* ---- registers, in the kernel ---- */

static int get_reg(CPUState *cpu, uint64_t id, uint64_t *ret)
{
	return kvm_get_one_reg(cpu, id, ret);
}

static int set_reg(CPUState *cpu, uint64_t id, uint64_t value)
{
	return kvm_set_one_reg(cpu, id, &value);
}

static int set_mp_state(CPUState *cpu, uint32_t state)
{
	struct kvm_mp_state mp_state = {.mp_state = state};

	return kvm_vcpu_ioctl(cpu, KVM_SET_MP_STATE, &mp_state);
}

static int is_stopped(CPUState *cpu, bool *ret)
{
	struct kvm_mp_state mp_state;
	int r;

	r = kvm_vcpu_ioctl(cpu, KVM_GET_MP_STATE, &mp_state);
	if (r < 0)
		return r;
	*ret = mp_state.mp_state == KVM_MP_STATE_STOPPED;
	return 0;
}

static int reset_general_regs(CPUState *cpu)
{
	int r = 0;

	for (unsigned int i = 0; i < N_GENERAL_REGS; i++)
		r = r ?: set_reg(cpu, GENERAL_REG(i), 0);
	r = r ?: set_reg(cpu, CORE_REG(regs.sp), 0);
	r = r ?: set_reg(cpu, CORE_REG(sp_el1), 0);
	r = r ?: set_reg(cpu, CORE_REG(elr_el1), 0);
	for (unsigned int i = 0; i < KVM_NR_SPSR; i++)
		r = r ?: set_reg(cpu, CORE_REG(spsr[0]) + i * (CORE_REG(spsr[1]) - CORE_REG(spsr[0])), 0);
	return r;
}

static int reset_vector_regs(CPUState *cpu)
{
	uint8_t zero[SVE_REG_MAX_SIZE] = {0};
	int r = 0;

	if (cpu_isar_feature(aa64_sve, ARM_CPU(cpu))) {
		for (unsigned int i = 0; i < KVM_ARM64_SVE_NUM_ZREGS; i++)
			r = r ?: kvm_set_one_reg(cpu, KVM_REG_ARM64_SVE_ZREG(i, 0), zero);
		for (unsigned int i = 0; i < KVM_ARM64_SVE_NUM_PREGS; i++)
			r = r ?: kvm_set_one_reg(cpu, KVM_REG_ARM64_SVE_PREG(i, 0), zero);
		r = r ?: kvm_set_one_reg(cpu, KVM_REG_ARM64_SVE_FFR(0), zero);
	} else {
		uint64_t step = FP_REG(fp_regs.vregs[1]) - FP_REG(fp_regs.vregs[0]);

		for (unsigned int i = 0; i < N_FP_REGS; i++)
			r = r ?: kvm_set_one_reg(cpu, FP_REG(fp_regs.vregs[0]) + i * step, zero);
	}
	r = r ?: kvm_set_one_reg(cpu, FP_CTRL_REG(fp_regs.fpsr), zero);
	r = r ?: kvm_set_one_reg(cpu, FP_CTRL_REG(fp_regs.fpcr), zero);
	return r;
}

/* One that a guest may have changed. Not the counters: those are the whole machine's. */
static bool is_system_reg(uint64_t id)
{
	const uint64_t fields =
		KVM_REG_ARM64_SYSREG_OP0_MASK | KVM_REG_ARM64_SYSREG_OP1_MASK | KVM_REG_ARM64_SYSREG_CRN_MASK;

	if ((id & KVM_REG_ARM_COPROC_MASK) != KVM_REG_ARM64_SYSREG)
		return false;
	/* identification */
	if ((id & fields) == (ARM64_SYS_REG(3, 0, 0, 0, 0) & fields))
		return false;
	return id != KVM_REG_ARM_TIMER_CNT && id != KVM_REG_ARM_PTIMER_CNT;
}

static int reset_system_regs(CPUState *cpu, const uint64_t *values)
{
	const ARMCPU *arm = ARM_CPU(cpu);
	int r;

	for (int i = 0; i < arm->cpreg_array_len; i++) {
		uint64_t id = arm->cpreg_indexes[i];

		if (!is_system_reg(id))
			continue;
		r = set_reg(cpu, id, values[i]);
		if (r < 0)
			return r;
	}
	return 0;
}

void cpu_policy_kvm_reset(CPUState *cpu)
{
	CpuPolicy *pol = cpu_policy_active();
	const ARMCPU *arm = ARM_CPU(cpu);
	struct cpu_policy_vcpu *vcpu;

	if (!pol)
		return;

	vcpu = &pol->vcpus[cpu->cpu_index];
	g_free(vcpu->reset_values);
	vcpu->reset_values = g_memdup2(arm->cpreg_values, sizeof(uint64_t) * arm->cpreg_array_len);
	vcpu->is_reset = true;
}

void cpu_policy_kvm_loaded(CPUState *cpu)
{
	CpuPolicy *pol = cpu_policy_active();

	if (pol)
		pol->vcpus[cpu->cpu_index].is_reset = false;
}

/* ---- CPU_ON ---- */

struct start {
	uint64_t entry;
	uint64_t context;
	bool big_endian;
};

static int prepare_target(CPUState *cpu, struct cpu_policy_vcpu *vcpu, const struct start *start)
{
	bool aarch64 = arm_feature(cpu_env(cpu), ARM_FEATURE_AARCH64);
	uint64_t pstate = aarch64 ? RESET_PSTATE : RESET_PSTATE32, sctlr = 0, entry = start->entry;
	int r = 0;

	/* A monitor or debugger looked at it, and may have written: that goes first. */
	if (cpu->vcpu_dirty) {
		Error *err = NULL;

		r = kvm_arch_put_registers(cpu, KVM_PUT_RUNTIME_STATE, &err);
		error_free(err);
		cpu->vcpu_dirty = false;
	}
	if (!vcpu->is_reset) {
		r = r ?: reset_general_regs(cpu);
		r = r ?: reset_vector_regs(cpu);
		r = r ?: reset_system_regs(cpu, vcpu->reset_values);
	}
	vcpu->is_reset = false;

	if (!aarch64) {
		pstate |= (start->big_endian ? CPSR_E : 0) | (entry & 1 ? CPSR_T : 0);
		entry &= ~UINT64_C(1);
	} else {
		for (int i = 0; i < ARM_CPU(cpu)->cpreg_array_len; i++) {
			if (ARM_CPU(cpu)->cpreg_indexes[i] == REG_SCTLR_EL1)
				sctlr = vcpu->reset_values[i];
		}
		r = r ?: set_reg(cpu, REG_SCTLR_EL1, sctlr | (start->big_endian ? SCTLR_EE : 0));
	}
	r = r ?: set_reg(cpu, CORE_REG(regs.pstate), pstate);
	r = r ?: set_reg(cpu, CORE_REG(regs.pc), entry);
	r = r ?: set_reg(cpu, GENERAL_REG(0), start->context);
	r = r ?: set_mp_state(cpu, KVM_MP_STATE_RUNNABLE);
	return r;
}

static CPUState *find_target(CpuPolicy *pol, uint64_t mpidr)
{
	if (mpidr & ~MPIDR_AFFINITY_BITS)
		return NULL;
	for (uint32_t i = 0; i < pol->possible; i++) {
		if (arm_cpu_mp_affinity(ARM_CPU(pol->vcpus[i].cpu)) == mpidr)
			return pol->vcpus[i].cpu;
	}
	return NULL;
}

/* The call is made again when the vCPU is woken: its program counter goes back onto the instruction. */
static int park(CPUState *cpu, const struct kvm_run *run)
{
	uint64_t pc;
	int r;

	r = get_reg(cpu, CORE_REG(regs.pc), &pc);
	r = r ?: set_reg(cpu, CORE_REG(regs.pc), pc - (run->hypercall.flags & KVM_HYPERCALL_EXIT_16BIT ? 2 : 4));
	if (r < 0)
		return r;
	cpu->halted = 1;
	return EXCP_HLT;
}

static int complete(CPUState *cpu, int32_t code)
{
	int r;

	r = set_reg(cpu, GENERAL_REG(0), (uint64_t)(int64_t)code);
	for (unsigned int i = 1; i < 4; i++)
		r = r ?: set_reg(cpu, GENERAL_REG(i), 0);
	return r;
}

/* It sleeps on that condition, or is about to look at `halted`: no signal is needed, which would end its next KVM_RUN. */
static void wake(CPUState *cpu)
{
	cpu->halted = 0;
	qemu_cond_broadcast(cpu->halt_cond);
}

static int power_on(CpuPolicy *pol, CPUState *caller, CPUState *target, const struct start *start,
		    const struct kvm_run *run)
{
	bool gone = false;
	int r;

	r = prepare_target(target, &pol->vcpus[target->cpu_index], start);
	/* SYSTEM_OFF or SYSTEM_RESET of another vCPU stops all in the kernel. It may have come since this call was made. */
	r = r ?: is_stopped(caller, &gone);
	if (r < 0)
		return r;
	if (gone) {
		ARM_CPU(target)->power_state = PSCI_OFF;
		r = set_mp_state(target, KVM_MP_STATE_STOPPED);
		return r ?: park(caller, run);
	}

	ARM_CPU(target)->power_state = PSCI_ON;
	wake(target);
	return complete(caller, QEMU_PSCI_RET_SUCCESS);
}

static int cpu_on(CpuPolicy *pol, CPUState *caller, const struct kvm_run *run)
{
	uint32_t function = run->hypercall.nr;
	bool is_64bit = function & QEMU_PSCI_0_2_64BIT, aarch32;
	uint64_t pstate, sctlr, args[3];
	struct start start;
	CPUState *target;
	int r;

	r = get_reg(caller, CORE_REG(regs.pstate), &pstate);
	for (unsigned int i = 0; i < ARRAY_SIZE(args); i++)
		r = r ?: get_reg(caller, GENERAL_REG(1 + i), &args[i]);
	if (r < 0)
		return r;
	aarch32 = pstate & PSTATE_nRW;
	if (is_64bit && aarch32)
		return complete(caller, QEMU_PSCI_RET_NOT_SUPPORTED);
	for (unsigned int i = 0; i < ARRAY_SIZE(args) && !is_64bit; i++)
		args[i] = (uint32_t)args[i];

	target = find_target(pol, args[0]);
	if (!target)
		return complete(caller, QEMU_PSCI_RET_INVALID_PARAMS);
	if (ARM_CPU(target)->power_state != PSCI_OFF)
		return complete(caller, QEMU_PSCI_RET_ALREADY_ON);
	/* Off, and yet in KVM_RUN: the kernel stopped all vCPUs for a system event. The reset that follows ends this. */
	if (!target->halted)
		return park(caller, run);

	r = cpu_policy_power_on(caller, target, function);
	if (r == CPU_POLICY_WAIT)
		return park(caller, run);
	if (r != 0)
		return complete(caller, r);

	start = (struct start){.entry = args[1], .context = args[2]};
	if (aarch32) {
		start.big_endian = pstate & CPSR_E;
	} else {
		r = get_reg(caller, REG_SCTLR_EL1, &sctlr);
		if (r < 0)
			return r;
		start.big_endian = sctlr & SCTLR_EE;
	}
	return power_on(pol, caller, target, &start, run);
}

/* ---- CPU_OFF ---- */

static int cpu_off(CPUState *cpu)
{
	ARM_CPU(cpu)->power_state = PSCI_OFF;
	cpu->halted = 1;
	cpu_policy_powered_off(cpu);
	return EXCP_HLT;
}

static void stop(CPUState *cpu)
{
	int r;

	cpu_policy_active()->vcpus[cpu->cpu_index].is_reset = false;
	r = set_mp_state(cpu, KVM_MP_STATE_STOPPED);
	if (r < 0)
		error_report("cpu-policy: cannot stop vCPU %d: %s", cpu->cpu_index, strerror(-r));
}

/* ---- exits ---- */

static int psci(CpuPolicy *pol, CPUState *cpu, struct kvm_run *run)
{
	switch ((uint32_t)run->hypercall.nr) {
	case QEMU_PSCI_0_2_FN_CPU_OFF:
		return cpu_off(cpu);
	case QEMU_PSCI_0_2_FN_CPU_ON:
	case QEMU_PSCI_0_2_FN64_CPU_ON:
		return cpu_on(pol, cpu, run);
	default:
		return complete(cpu, QEMU_PSCI_RET_NOT_SUPPORTED);
	}
}

int cpu_policy_kvm_hypercall(CPUState *cpu, struct kvm_run *run)
{
	CpuPolicy *pol = cpu_policy_active();
	int r;

	if (!pol || !pol->psci)
		return 0;

	bql_lock();
	r = pol->psci(pol, cpu, run);
	bql_unlock();
	if (r < 0)
		error_report("cpu-policy: cannot complete PSCI call 0x%" PRIx64 " of vCPU %d: %s",
			     (uint64_t)run->hypercall.nr, cpu->cpu_index, strerror(-r));
	return r;
}

/* After work for its thread it would be run. A stopped one sleeps in KVM_RUN until a signal comes, and whoever powers it on
 * waits for its registers with the big lock held. One that a monitor looked at writes them back first, without it. */
bool cpu_policy_kvm_sleeps(CPUState *cpu)
{
	const CpuPolicy *pol = cpu_policy_active();

	return pol && pol->psci && cpu->halted && !cpu_has_work(cpu);
}

static void unpark(CPUState *cpu)
{
	CpuPolicy *pol = cpu_policy_active();

	if (pol->realm)
		cpu_policy_kvm_realm_unpark(pol, cpu);
	else
		wake(cpu);
}

/* ---- start ---- */

static bool forward(uint32_t base, uint32_t n, Error **errp)
{
	struct kvm_smccc_filter filter = {
		.base = base,
		.nr_functions = n,
		.action = KVM_SMCCC_FILTER_FWD_TO_USER,
	};
	struct kvm_device_attr attr = {
		.group = KVM_ARM_VM_SMCCC_CTRL,
		.attr = KVM_ARM_VM_SMCCC_FILTER,
		.addr = (uintptr_t)&filter,
	};
	int r;

	r = kvm_vm_ioctl(kvm_state, KVM_SET_DEVICE_ATTR, &attr);
	if (r == 0)
		return true;
	if (r == -ENXIO || r == -ENOTTY || r == -EINVAL)
		error_setg(errp,
			   "this host's kernel cannot hand PSCI calls to QEMU, so that it would power on any vCPU that "
			   "the guest asks for: that takes Linux 6.4 or later (KVM's SMCCC filter)");
	else
		error_setg_errno(errp, -r, "KVM does not hand PSCI calls to QEMU");
	return false;
}

/* CPU_OFF, CPU_ON and AFFINITY_INFO in a row: KVM cannot complete the last one while CPU_ON is not its own. */
static bool take_realm(CpuPolicy *pol, Error **errp)
{
	if (!forward(QEMU_PSCI_0_2_FN_CPU_OFF, 3, errp) || !forward(QEMU_PSCI_0_2_FN64_CPU_ON, 2, errp))
		return false;
	cpu_policy_kvm_realm_take(pol);
	kvm_halt_in_kernel_allowed = false;
	return true;
}

static bool ready(CpuPolicy *pol, Error **errp)
{
	return !pol->realm || cpu_policy_kvm_realm_ready(pol, errp);
}

static bool take(CpuPolicy *pol, Error **errp)
{
	if (pol->machine->cgs && cpu_policy_kvm_realm_may_be())
		return take_realm(pol, errp);
	if (pol->machine->cgs || kvm_state->guest_state_protected) {
		error_setg(errp, "the PSCI calls of a protected VM are answered by its hypervisor, not by QEMU");
		return false;
	}
	/* Its vCPUs would begin at EL2, which prepare_target() knows nothing of. */
	if (object_property_get_bool(OBJECT(pol->machine), "virtualization", NULL)) {
		error_setg(errp, "a guest with an EL2 of its own (virtualization=on) is not supported under KVM");
		return false;
	}
	/* CPU_ON is the function after CPU_OFF; ranges may not overlap. CPU_OFF has no 64-bit form. */
	if (!forward(QEMU_PSCI_0_2_FN_CPU_OFF, 2, errp) || !forward(QEMU_PSCI_0_2_FN64_CPU_ON, 1, errp))
		return false;

	pol->psci = psci;
	kvm_halt_in_kernel_allowed = false;
	return true;
}

/* ---- where the kernel answers by itself ---- */

static void sample(CPUState *cpu, run_on_cpu_data data)
{
	ARMCPU *arm = ARM_CPU(cpu);
	bool stopped;

	if (is_stopped(cpu, &stopped) < 0 || stopped == (arm->power_state == PSCI_OFF))
		return;
	arm->power_state = stopped ? PSCI_OFF : PSCI_ON;
	cpu_policy_power_changed(data.host_ptr);
}

static void watch_again(void *opaque)
{
	CpuPolicy *pol = opaque;

	for (uint32_t i = 0; i < pol->possible; i++)
		async_run_on_cpu(pol->vcpus[i].cpu, sample, RUN_ON_CPU_HOST_PTR(pol));
	timer_mod(pol->watch, qemu_clock_get_ms(QEMU_CLOCK_VIRTUAL) + WATCH_MS);
}

static void watch(CpuPolicy *pol)
{
	pol->watch = timer_new_ms(QEMU_CLOCK_VIRTUAL, watch_again, pol);
	timer_mod(pol->watch, qemu_clock_get_ms(QEMU_CLOCK_VIRTUAL) + WATCH_MS);
}

const struct cpu_policy_accel cpu_policy_kvm = {
	.take = take,
	.ready = ready,
	.unpark = unpark,
	.stop = stop,
	.watch = watch,
};
