/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The register block: what the ACPI methods of aml.c read and write. 32-bit accesses.
 *
 *   0x00  SELECT      rw  index of the vCPU that the next four are about
 *   0x04  STATUS      r   bit 0: enabled
 *   0x08  EJECT       w   1: the guest gives it back (_EJ0)
 *   0x0c  OST_EVENT   rw  _OST's source event ...
 *   0x10  OST_STATUS  w   ... and its status; the write of the status reports both
 *   0x14  NOTIFY      r   the next notification, 0 if there is none: kind << 16 | vCPU; reading takes it
 *
 * The guest can write anything here: an index out of range selects nothing, and what it reports is only reported.
 */

#include "qemu/osdep.h"
#include "hw/acpi/acpi_dev_interface.h"
#include "target/arm/arm-powerctl.h"

#include "aml.h"
#include "glue.h"

#define PULSE_FIRST_MS 1000
#define PULSE_LAST_MS  30000

static uint32_t take_notification(CpuPolicy *pol)
{
	for (uint32_t i = 1; i < pol->possible; i++) {
		uint32_t kind = cpu_policy_slot_claim(&pol->vcpus[i].slot);

		if (kind)
			return kind << CPU_POLICY_NOTIFY_KIND_SHIFT | i;
	}
	return 0;
}

void cpu_policy_regs_ejected(CpuPolicy *pol, uint32_t vcpu)
{
	cpupolicy_ejected(pol->lib, vcpu, cpu_policy_slot_eject(&pol->vcpus[vcpu].slot));
	cpu_policy_qmp_changed(pol);
}

static void eject(CpuPolicy *pol, uint32_t vcpu)
{
	struct cpu_policy_slot *slot = &pol->vcpus[vcpu].slot;

	/* vCPU 0 is never taken, whoever wishes it; one that is not there cannot be given back. */
	if (vcpu == 0 || !slot->enabled || slot->ejecting)
		return;
	if (!cpu_policy_power_is_on(pol, vcpu)) {
		cpu_policy_regs_ejected(pol, vcpu);
		return;
	}

	/*
	 * _EJ0 says that the guest is done with the vCPU. One that is still on runs, whatever the guest means by it,
	 * beyond what it has then been granted: it is powered off first, as CPU_OFF would have done it, and the eject
	 * is complete (and reported) when it is off. _STA already says what will be.
	 */
	slot->ejecting = true;
	slot->enabled = false;
	arm_set_cpu_off(pol->machine->possible_cpus->cpus[vcpu].arch_id);
}

static uint64_t mmio_read(void *opaque, hwaddr addr, unsigned size)
{
	CpuPolicy *pol = opaque;

	switch (addr) {
	case CPU_POLICY_REG_SELECT:
		return pol->selected;
	case CPU_POLICY_REG_STATUS:
		return pol->selected < pol->possible && pol->vcpus[pol->selected].slot.enabled
			       ? CPU_POLICY_STATUS_ENABLED
			       : 0;
	case CPU_POLICY_REG_OST_EVENT:
		return pol->ost_event;
	case CPU_POLICY_REG_NOTIFY:
		return take_notification(pol);
	default:
		return 0;
	}
}

static void mmio_write(void *opaque, hwaddr addr, uint64_t data, unsigned size)
{
	CpuPolicy *pol = opaque;
	bool valid = pol->selected < pol->possible;

	switch (addr) {
	case CPU_POLICY_REG_SELECT:
		pol->selected = data;
		break;
	case CPU_POLICY_REG_EJECT:
		if (valid && data == 1)
			eject(pol, pol->selected);
		break;
	case CPU_POLICY_REG_OST_EVENT:
		pol->ost_event = data;
		break;
	case CPU_POLICY_REG_OST_STATUS:
		if (!valid)
			break;
		cpu_policy_slot_ost(&pol->vcpus[pol->selected].slot, pol->ost_event, data);
		cpupolicy_ost(pol->lib, pol->selected, pol->ost_event, data);
		break;
	}
}

static const MemoryRegionOps mmio_ops = {
	.read = mmio_read,
	.write = mmio_write,
	.endianness = DEVICE_LITTLE_ENDIAN,
	.valid = {.min_access_size = 4, .max_access_size = 4},
};

/*
 * An event that comes before the guest's driver is up is lost: the driver enables the interrupt without looking for
 * what was missed. So the event is sent until the flags are read, at a pace that a guest without a driver (firmware, an
 * older kernel) does not notice.
 */
static void send_event(CpuPolicy *pol)
{
	acpi_send_event(pol->ged, ACPI_CPU_HOTPLUG_STATUS);
	timer_mod(pol->pulse, qemu_clock_get_ms(QEMU_CLOCK_VIRTUAL) + pol->pulse_ms);
	pol->pulse_ms = MIN(pol->pulse_ms * 2, PULSE_LAST_MS);
}

static bool raised(CpuPolicy *pol)
{
	for (uint32_t i = 1; i < pol->possible; i++) {
		if (cpu_policy_slot_raised(&pol->vcpus[i].slot))
			return true;
	}
	return false;
}

static void pulse_again(void *opaque)
{
	if (raised(opaque))
		send_event(opaque);
}

void cpu_policy_regs_raise(CpuPolicy *pol)
{
	if (!pol->ged)
		return;

	pol->pulse_ms = PULSE_FIRST_MS;
	send_event(pol);
}

void cpu_policy_regs_resume(CpuPolicy *pol)
{
	if (raised(pol))
		cpu_policy_regs_raise(pol);
}

void cpu_policy_regs_init(CpuPolicy *pol)
{
	pol->pulse = timer_new_ms(QEMU_CLOCK_VIRTUAL, pulse_again, pol);
	if (!pol->ged)
		return;

	memory_region_init_io(&pol->mmio, OBJECT(pol), &mmio_ops, pol, "cpu-policy", CPU_POLICY_MMIO_SIZE);
	memory_region_add_subregion(get_system_memory(), pol->base, &pol->mmio);
}
