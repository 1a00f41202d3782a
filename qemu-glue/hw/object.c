/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * -object cpupolicy: properties and life.
 *
 * The object exists before the machine and is given to it by the machine's `cpu-policy` property. It is bound to the
 * machine for good. One that no machine uses would enforce nothing while its user believes that it does: QEMU does not
 * start with one.
 */

#include "qemu/osdep.h"
#include "hw/core/cpu.h"
#include "hw/qdev-core.h"
#include "monitor/monitor.h"
#include "qapi/error.h"
#include "qapi/visitor.h"
#include "qemu/error-report.h"
#include "qom/object_interfaces.h"
#include "system/qtest.h"
#include "system/replay.h"
#include "system/system.h"

#include "glue.h"

static CpuPolicy *active;

CpuPolicy *cpu_policy_active(void)
{
	return active;
}

void cpu_policy_check_link(const Object *machine, const char *name, Object *val, Error **errp)
{
	if (phase_check(PHASE_MACHINE_INITIALIZED))
		error_setg(errp, "'%s' cannot be changed once the machine is made", name);
}

static void take_power(CpuPolicy *pol)
{
	Error *err = NULL;

	if (qtest_enabled() || cpu_policy_power_take(pol, &err))
		return;
	if (!pol->allow_unenforced) {
		error_append_hint(
			&err, "With allow-unenforced=on at the object the VM starts all the same, and nothing holds "
			      "its guest to the policy.\n");
		error_prepend(&err, "cpu-policy: ");
		error_report_err(err);
		exit(EXIT_FAILURE);
	}
	warn_report("cpu-policy: not enforced: %s", error_get_pretty(err));
	error_free(err);
	pol->means = CPUPOLICY_MEANS_NONE;
}

unsigned int cpu_policy_take_cpus(CpuPolicy *pol, MachineState *ms)
{
	if (!pol)
		return ms->smp.cpus;

	if (replay_mode != REPLAY_MODE_NONE) {
		error_report("cpu-policy: policy comes from outside and cannot be recorded or replayed (-icount rr=)");
		exit(EXIT_FAILURE);
	}
	if (pol->boot > ms->smp.max_cpus) {
		error_report("cpu-policy: boot=%" PRIu32 " is more than the %u vCPUs that are possible (-smp)",
			     pol->boot, ms->smp.max_cpus);
		exit(EXIT_FAILURE);
	}

	pol->machine = ms;
	pol->possible = ms->smp.max_cpus;
	pol->proposed = pol->boot ? pol->boot : ms->smp.cpus;
	pol->vcpus = g_new0(struct cpu_policy_vcpu, pol->possible);
	for (uint32_t i = 0; i < pol->possible; i++)
		pol->vcpus[i].waits_for = -1;
	ms->smp.cpus = ms->smp.max_cpus;
	active = pol;
	take_power(pol);

	return ms->smp.cpus;
}

void cpu_policy_wire(CpuPolicy *pol, DeviceState *ged, hwaddr base)
{
	if (!pol)
		return;

	for (uint32_t i = 0; i < pol->possible; i++)
		pol->vcpus[i].cpu = qemu_get_cpu(i);
	pol->ged = ged;
	pol->base = base;
	cpu_policy_regs_init(pol);
	cpu_policy_vmstate_init(pol);
	cpu_policy_session_init(pol);
	cpu_policy_power_ready(pol, &error_fatal);
}

static void machine_done(Notifier *notifier, void *data)
{
	CpuPolicy *pol = container_of(notifier, CpuPolicy, done_notifier);

	if (pol == active)
		return;
	error_report("cpu-policy: no machine uses '%s', nothing would be enforced: add cpu-policy=%s to -machine",
		     object_get_canonical_path_component(OBJECT(pol)),
		     object_get_canonical_path_component(OBJECT(pol)));
	exit(EXIT_FAILURE);
}

static void complete(UserCreatable *uc, Error **errp)
{
	CpuPolicy *pol = CPU_POLICY(uc);

	if (phase_check(PHASE_MACHINE_READY)) {
		error_setg(errp, "cpupolicy is for a machine that is about to be made, not for one that exists");
		return;
	}
	if (!pol->path + !pol->fd_name + !pol->standalone != 2) {
		error_setg(errp, "cpupolicy needs exactly one of 'path', 'fd' and 'standalone'");
		return;
	}
	if (pol->standalone && pol->break_glass) {
		error_setg(errp, "cpupolicy: 'break-glass' is for a machine that has a daemon, not for 'standalone'");
		return;
	}
	if (pol->fd_name) {
		pol->fd = monitor_fd_param(monitor_cur(), pol->fd_name, errp);
		if (pol->fd < 0)
			return;
	}
	pol->done_notifier.notify = machine_done;
	qemu_add_machine_init_done_notifier(&pol->done_notifier);
}

static bool can_be_deleted(UserCreatable *uc)
{
	return CPU_POLICY(uc) != active;
}

static char *get_path(Object *obj, Error **errp)
{
	return g_strdup(CPU_POLICY(obj)->path);
}

static void set_path(Object *obj, const char *value, Error **errp)
{
	CpuPolicy *pol = CPU_POLICY(obj);

	g_free(pol->path);
	pol->path = g_strdup(value);
}

static char *get_fd(Object *obj, Error **errp)
{
	return g_strdup(CPU_POLICY(obj)->fd_name);
}

static void set_fd(Object *obj, const char *value, Error **errp)
{
	CpuPolicy *pol = CPU_POLICY(obj);

	g_free(pol->fd_name);
	pol->fd_name = g_strdup(value);
}

static void get_boot(Object *obj, Visitor *v, const char *name, void *opaque, Error **errp)
{
	visit_type_uint32(v, name, &CPU_POLICY(obj)->boot, errp);
}

static void set_boot(Object *obj, Visitor *v, const char *name, void *opaque, Error **errp)
{
	uint32_t boot;

	if (!visit_type_uint32(v, name, &boot, errp))
		return;
	if (boot == 0) {
		error_setg(errp, "'boot' is at least 1: vCPU 0 always boots");
		return;
	}
	CPU_POLICY(obj)->boot = boot;
}

static int get_on_missing(Object *obj, Error **errp)
{
	return CPU_POLICY(obj)->on_missing;
}

static void set_on_missing(Object *obj, int value, Error **errp)
{
	CPU_POLICY(obj)->on_missing = value;
}

static bool get_removable(Object *obj, Error **errp)
{
	return CPU_POLICY(obj)->removable;
}

static void set_removable(Object *obj, bool value, Error **errp)
{
	CPU_POLICY(obj)->removable = value;
}

static bool get_standalone(Object *obj, Error **errp)
{
	return CPU_POLICY(obj)->standalone;
}

static void set_standalone(Object *obj, bool value, Error **errp)
{
	CPU_POLICY(obj)->standalone = value;
}

static bool get_break_glass(Object *obj, Error **errp)
{
	return CPU_POLICY(obj)->break_glass;
}

static void set_break_glass(Object *obj, bool value, Error **errp)
{
	CPU_POLICY(obj)->break_glass = value;
}

static bool get_allow_unenforced(Object *obj, Error **errp)
{
	return CPU_POLICY(obj)->allow_unenforced;
}

static void set_allow_unenforced(Object *obj, bool value, Error **errp)
{
	CPU_POLICY(obj)->allow_unenforced = value;
}

static void instance_init(Object *obj)
{
	CpuPolicy *pol = CPU_POLICY(obj);

	pol->fd = -1;
	pol->on_missing = CPU_POLICY_ON_MISSING_WAIT;
	pol->removable = true;
}

static void instance_finalize(Object *obj)
{
	CpuPolicy *pol = CPU_POLICY(obj);

	if (pol->done_notifier.notify)
		qemu_remove_machine_init_done_notifier(&pol->done_notifier);
	if (pol->fd >= 0)
		close(pol->fd);
	g_free(pol->path);
	g_free(pol->fd_name);
}

static void class_init(ObjectClass *oc, cpu_policy_class_data data)
{
	UserCreatableClass *ucc = USER_CREATABLE_CLASS(oc);

	ucc->complete = complete;
	ucc->can_be_deleted = can_be_deleted;

	object_class_property_add_str(oc, "path", get_path, set_path);
	object_class_property_set_description(oc, "path", "The policy daemon's socket");
	object_class_property_add_str(oc, "fd", get_fd, set_fd);
	object_class_property_set_description(oc, "fd", "A socket that is connected to the policy daemon");
	object_class_property_add(oc, "boot", "uint32", get_boot, set_boot, NULL, NULL);
	object_class_property_set_description(oc, "boot", "Number of vCPUs proposed to be enabled at start");
	object_class_property_add_enum(oc, "on-missing", "CpuPolicyOnMissing", &CpuPolicyOnMissing_lookup,
				       get_on_missing, set_on_missing);
	object_class_property_set_description(oc, "on-missing", "What to do at start when there is no daemon");
	object_class_property_add_bool(oc, "allow-unenforced", get_allow_unenforced, set_allow_unenforced);
	object_class_property_set_description(oc, "allow-unenforced",
					      "Whether to start where this host cannot hold the guest to the policy");
	object_class_property_add_bool(oc, "removable-boot-vcpus", get_removable, set_removable);
	object_class_property_set_description(oc, "removable-boot-vcpus",
					      "Whether vCPUs that were enabled at start may be taken back");
	object_class_property_add_bool(oc, "standalone", get_standalone, set_standalone);
	object_class_property_set_description(oc, "standalone", "No daemon: QMP switches the vCPUs");
	object_class_property_add_bool(oc, "break-glass", get_break_glass, set_break_glass);
	object_class_property_set_description(oc, "break-glass",
					      "Let QMP switch the vCPUs while the daemon is not there");
}

static const TypeInfo type_info = {
	.name = TYPE_CPU_POLICY,
	.parent = TYPE_OBJECT,
	.instance_size = sizeof(CpuPolicy),
	.instance_init = instance_init,
	.instance_finalize = instance_finalize,
	.class_init = class_init,
	.interfaces = (InterfaceInfo[]){{TYPE_USER_CREATABLE}, {}},
};

static void register_types(void)
{
	type_register_static(&type_info);
}

type_init(register_types)
