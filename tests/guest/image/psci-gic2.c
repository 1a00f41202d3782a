/* SPDX-License-Identifier: GPL-2.0-or-later */

#include "psci-gic.h"

#define GICD           0x08000000UL
#define GICC           0x08010000UL
#define GICD_CTLR      (GICD + 0x000)
#define GICD_ISENABLER (GICD + 0x100)
#define GICD_ITARGETSR (GICD + 0x800)
#define GICD_SGIR      (GICD + 0xf00)
#define GICC_CTLR      (GICC + 0x00)
#define GICC_PMR       (GICC + 0x04)
#define GICC_IAR       (GICC + 0x0c)
#define GICC_EOIR      (GICC + 0x10)

void gic_init(uint32_t irq)
{
	write32(GICD_CTLR, 1);
	write32(GICD_ISENABLER + irq / 32 * 4, 1U << irq % 32);
	*(volatile uint8_t *)(GICD_ITARGETSR + irq) = 1;
}

void gic_cpu_init(uint64_t index)
{
	(void)index;
	write32(GICD_ISENABLER, 0xffff);
	write32(GICC_PMR, 0xff);
	write32(GICC_CTLR, 1);
}

void gic_wake(uint64_t index)
{
	write32(GICD_SGIR, 0x10000U << index);
}

void gic_clear(void)
{
	uint32_t irq = read32(GICC_IAR);

	if ((irq & 0x3ff) < GIC_SPURIOUS)
		write32(GICC_EOIR, irq);
}
