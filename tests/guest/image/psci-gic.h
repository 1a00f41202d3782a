/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * As much of an interrupt controller as the guest without a kernel needs: the UART and the software
 * interrupts by which vCPUs wake each other end a WFI. psci-gic2.c is for TCG's GICv2, psci-gic3.c
 * for what KVM offers on hosts of today.
 */

#ifndef PSCI_GIC_H
#define PSCI_GIC_H

#include <stdint.h>

#define GIC_SPURIOUS 1020

static inline uint32_t read32(uintptr_t address)
{
	return *(volatile uint32_t *)address;
}

static inline void write32(uintptr_t address, uint32_t value)
{
	*(volatile uint32_t *)address = value;
}

/* Once: the distributor, with one interrupt of a device to the boot vCPU. */
void gic_init(uint32_t irq);

/* On each vCPU, each time it is entered. */
void gic_cpu_init(uint64_t index);

void gic_wake(uint64_t index);

/* Takes the interrupt that is pending, if one is. */
void gic_clear(void);

#endif
