/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What ACPI tells the guest about its vCPUs: the processor devices and the MADT's flags.
 *
 *   Device (\_SB.CPUS)                     ACPI0010, the container
 *     Mutex and Field                      the register block of regs.c
 *     CSTA, CEJ0, COST                     the methods' bodies, by vCPU index
 *     CTFY                                 Notify one device
 *     Device (Cnnn)                        ACPI0007, _UID as in the MADT
 *   Method (\_SB.GED.CSCN)                 takes all notifications; the event device's _EVT calls it
 *
 * A possible vCPU is always present; policy moves the Enabled bit of _STA alone.
 */

#include "qemu/osdep.h"
#include "hw/acpi/generic_event_device.h"

#include "aml.h"
#include "glue.h"

#define GICC_ENABLED        0x1
#define GICC_ONLINE_CAPABLE 0x8

#define STA_PRESENT_DISABLED 0xd
#define STA_PRESENT_ENABLED  0xf

#define SELECT     "CSEL"
#define STATUS     "CSTS"
#define EJECT      "CEJR"
#define OST_EVENT  "COSE"
#define OST_STATUS "COSS"
#define NOTIFY     "CNTF"
#define LOCK       "CPLK"
#define CPUS       "\\_SB.CPUS"

uint32_t cpu_policy_gicc_flags(const CpuPolicy *pol, unsigned int i)
{
	const struct cpu_policy_slot *slot;

	if (!pol)
		return GICC_ENABLED;

	/*
	 * The specification makes the two flags exclusive, and leaves open whether a vCPU listed as Enabled may go.
	 * Where boot vCPUs are removable the table says what is enabled now, so that a guest which knows only this flag
	 * (Linux before 6.11) uses all of them after a reset. Where they are not, Enabled means: never taken back.
	 */
	slot = &pol->vcpus[i].slot;
	return (pol->removable ? slot->enabled : slot->boot) ? GICC_ENABLED : GICC_ONLINE_CAPABLE;
}

static void add_registers(Aml *dev, hwaddr base)
{
	static const char *const names[] = {SELECT, STATUS, EJECT, OST_EVENT, OST_STATUS, NOTIFY};
	Aml *field = aml_field("CREG", AML_DWORD_ACC, AML_NOLOCK, AML_WRITE_AS_ZEROS);

	/* In the registers' order, which starts at 0 and has no holes. */
	QEMU_BUILD_BUG_ON(CPU_POLICY_REG_SELECT != 0 ||
			  CPU_POLICY_REG_NOTIFY != (ARRAY_SIZE(names) - 1) * sizeof(uint32_t));
	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		aml_append(field, aml_named_field(names[i], 32));

	aml_append(dev, aml_mutex(LOCK, 0));
	aml_append(dev, aml_operation_region("CREG", AML_SYSTEM_MEMORY, aml_int(base), CPU_POLICY_MMIO_SIZE));
	aml_append(dev, field);
}

static Aml *locked_method(const char *name, int args)
{
	Aml *method = aml_method(name, args, AML_SERIALIZED);

	aml_append(method, aml_acquire(aml_name(LOCK), 0xffff));
	aml_append(method, aml_store(aml_arg(0), aml_name(SELECT)));
	return method;
}

/* CSTA (index) */
static Aml *status_method(void)
{
	Aml *method = locked_method("CSTA", 1);
	Aml *sta = aml_local(0);
	Aml *enabled = aml_if(aml_and(aml_name(STATUS), aml_int(CPU_POLICY_STATUS_ENABLED), NULL));

	aml_append(method, aml_store(aml_int(STA_PRESENT_DISABLED), sta));
	aml_append(enabled, aml_store(aml_int(STA_PRESENT_ENABLED), sta));
	aml_append(method, enabled);
	aml_append(method, aml_release(aml_name(LOCK)));
	aml_append(method, aml_return(sta));
	return method;
}

/* CEJ0 (index) */
static Aml *eject_method(void)
{
	Aml *method = locked_method("CEJ0", 1);

	aml_append(method, aml_store(aml_int(1), aml_name(EJECT)));
	aml_append(method, aml_release(aml_name(LOCK)));
	return method;
}

/* COST (index, source event, status) */
static Aml *ost_method(void)
{
	Aml *method = locked_method("COST", 3);

	aml_append(method, aml_store(aml_arg(1), aml_name(OST_EVENT)));
	aml_append(method, aml_store(aml_arg(2), aml_name(OST_STATUS)));
	aml_append(method, aml_release(aml_name(LOCK)));
	return method;
}

/* CTFY (index, kind) */
static Aml *notify_method(uint32_t possible)
{
	Aml *method = aml_method("CTFY", 2, AML_NOTSERIALIZED);

	for (uint32_t i = 1; i < possible; i++) {
		Aml *match = aml_if(aml_equal(aml_arg(0), aml_int(i)));

		aml_append(match, aml_notify(aml_name("C%.03X", i), aml_arg(1)));
		aml_append(method, match);
	}
	return method;
}

static Aml *scan_method(void)
{
	Aml *method = aml_method(AML_GED_EVT_CPU_SCAN_METHOD, 0, AML_SERIALIZED);
	Aml *next = aml_name(CPUS "." NOTIFY);
	Aml *taken = aml_local(0);
	Aml *loop = aml_while(aml_lgreater(taken, aml_int(0)));

	aml_append(method, aml_store(next, taken));
	aml_append(loop, aml_call2(CPUS ".CTFY", aml_and(taken, aml_int(CPU_POLICY_NOTIFY_INDEX_MASK), NULL),
				   aml_shiftright(taken, aml_int(CPU_POLICY_NOTIFY_KIND_SHIFT), NULL)));
	aml_append(loop, aml_store(next, taken));
	aml_append(method, loop);
	return method;
}

static Aml *processor_device(const CpuPolicy *pol, uint32_t i)
{
	Aml *dev = aml_device("C%.03X", i);
	Aml *method;

	aml_append(dev, aml_name_decl("_HID", aml_string("ACPI0007")));
	aml_append(dev, aml_name_decl("_UID", aml_int(i)));

	method = aml_method("_STA", 0, AML_SERIALIZED);
	aml_append(method, aml_return(aml_call1("CSTA", aml_int(i))));
	aml_append(dev, method);

	method = aml_method("_OST", 3, AML_SERIALIZED);
	aml_append(method, aml_call3("COST", aml_int(i), aml_arg(0), aml_arg(1)));
	aml_append(dev, method);

	/* Without _EJ0 the guest does not offer, to its own administrator either, what would not be honoured. */
	if (i == 0 || (!pol->removable && pol->vcpus[i].slot.boot))
		return dev;

	method = aml_method("_EJ0", 1, AML_SERIALIZED);
	aml_append(method, aml_call1("CEJ0", aml_int(i)));
	aml_append(dev, method);
	return dev;
}

void cpu_policy_build_aml(const CpuPolicy *pol, Aml *dsdt)
{
	Aml *cpus;

	if (!pol || !pol->ged)
		return;

	cpus = aml_device(CPUS);
	aml_append(cpus, aml_name_decl("_HID", aml_string("ACPI0010")));
	aml_append(cpus, aml_name_decl("_CID", aml_eisaid("PNP0A05")));
	add_registers(cpus, pol->base);
	aml_append(cpus, status_method());
	aml_append(cpus, eject_method());
	aml_append(cpus, ost_method());
	aml_append(cpus, notify_method(pol->possible));
	for (uint32_t i = 0; i < pol->possible; i++)
		aml_append(cpus, processor_device(pol, i));

	aml_append(dsdt, cpus);
	aml_append(dsdt, scan_method());
}
