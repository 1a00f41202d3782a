/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * How a vCPU waits for a verdict under TCG: it sleeps on its HVC or SMC instruction.
 *
 * This is WFI with the program counter put back: interrupts, stop, reset and snapshots find nothing unusual. The state
 * that is saved is a vCPU that is about to make a PSCI call.
 */

#include "qemu/osdep.h"
#include "hw/core/cpu.h"
#include "cpu.h"

#include "cpupolicy.h"
#include "glue.h"

/* Of HVC and SMC, in all three instruction sets. */
#define CALL_INSN_SIZE 4

void cpu_policy_park(CPUState *cpu)
{
	CPUARMState *env = cpu_env(cpu);

	if (is_a64(env))
		env->pc -= CALL_INSN_SIZE;
	else
		env->regs[15] -= CALL_INSN_SIZE;

	/* With an interrupt pending there is no sleep: it is taken first, or, masked, the call is made again at once. */
	if (cpu_has_work(cpu))
		return;

	cpu->exception_index = EXCP_HLT;
	cpu->halted = 1;
	cpu_loop_exit(cpu);
}

static void unpark(CPUState *cpu)
{
	/* Counts as work, ends the current translation block, and is nothing that the guest can see. */
	cpu_interrupt(cpu, CPU_INTERRUPT_EXITTB);
}

const struct cpu_policy_accel cpu_policy_tcg = {
	.unpark = unpark,
};
