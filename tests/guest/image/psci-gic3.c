/* SPDX-License-Identifier: GPL-2.0-or-later */

#include "psci-gic.h"

#define GICD           0x08000000UL
#define GICR           0x080a0000UL
#define GICD_CTLR      (GICD + 0x0000)
#define GICD_IGROUPR   (GICD + 0x0080)
#define GICD_ISENABLER (GICD + 0x0100)
#define GICD_IROUTER   (GICD + 0x6000)

/* Two frames of 64 KiB for each vCPU. */
#define GICR_STRIDE     0x20000UL
#define GICR_WAKER      0x14
#define GICR_IGROUPR0   0x10080
#define GICR_ISENABLER0 0x10100

#define ICC_PMR_EL1     "s3_0_c4_c6_0"
#define ICC_SGI1R_EL1   "s3_0_c12_c11_5"
#define ICC_IAR1_EL1    "s3_0_c12_c12_0"
#define ICC_EOIR1_EL1   "s3_0_c12_c12_1"
#define ICC_SRE_EL1     "s3_0_c12_c12_5"
#define ICC_IGRPEN1_EL1 "s3_0_c12_c12_7"

#define write_icc(reg, value) asm volatile("msr " reg ", %0\n\tisb" ::"r"((uint64_t)(value)) : "memory")

void gic_init(uint32_t irq)
{
	write32(GICD_CTLR, 0x12); /* affinity routing, group 1 */
	write32(GICD_IGROUPR + irq / 32 * 4, 1U << irq % 32);
	*(volatile uint64_t *)(GICD_IROUTER + irq * 8UL) = 0;
	write32(GICD_ISENABLER + irq / 32 * 4, 1U << irq % 32);
}

void gic_cpu_init(uint64_t index)
{
	uintptr_t redistributor = GICR + index * GICR_STRIDE;

	write32(redistributor + GICR_WAKER, 0);
	while (read32(redistributor + GICR_WAKER) & 4)
		;
	write32(redistributor + GICR_IGROUPR0, 0xffffffff);
	write32(redistributor + GICR_ISENABLER0, 0xffff);
	write_icc(ICC_SRE_EL1, 7);
	write_icc(ICC_PMR_EL1, 0xff);
	write_icc(ICC_IGRPEN1_EL1, 1);
}

void gic_wake(uint64_t index)
{
	write_icc(ICC_SGI1R_EL1, 1UL << index);
}

void gic_clear(void)
{
	uint64_t irq;

	asm volatile("mrs %0, " ICC_IAR1_EL1 : "=r"(irq)::"memory");
	if ((irq & 0xffffff) < GIC_SPURIOUS)
		write_icc(ICC_EOIR1_EL1, irq);
}
