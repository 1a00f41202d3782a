/* SPDX-License-Identifier: GPL-2.0-or-later */

#include "daemon/bus_manager.h"

#include "daemon/bus_job.h"
#include "daemon/bus_vm.h"
#include "daemon/util.h"

/* ---- methods ---- */

static int set_vcpu_count(sd_bus_message *m, void *userdata, sd_bus_error *ret_error)
{
	struct bus_manager_context *context = userdata;
	const char *vm;
	uint32_t count;
	int r;

	r = sd_bus_message_read(m, "su", &vm, &count);
	if (r < 0)
		return r;
	return bus_call_resize(context->calls, m, vm, count, ret_error);
}

static int forget(sd_bus_message *m, void *userdata, sd_bus_error *ret_error)
{
	struct bus_manager_context *context = userdata;
	const char *vm;
	int r;

	r = sd_bus_message_read(m, "s", &vm);
	if (r < 0)
		return r;
	return bus_call_forget(context->calls, m, vm, ret_error);
}

static int get_virtual_machine(sd_bus_message *m, void *userdata, sd_bus_error *ret_error)
{
	struct bus_manager_context *context = userdata;
	char path[BUS_VM_PATH_SIZE];
	struct host_vm *vm;
	const char *name;
	int r;

	r = sd_bus_message_read(m, "s", &name);
	if (r < 0)
		return r;
	vm = host_find(context->host, name);
	if (!vm)
		return sd_bus_error_setf(ret_error, "org.cpupolicy1.Error.NoSuchVm", "there is no VM \"%.300s\"", name);
	return sd_bus_reply_method_return(m, "o", bus_vm_path(vm, path));
}

static int append_vms(sd_bus_message *reply, struct host *host)
{
	char path[BUS_VM_PATH_SIZE];
	int r;

	r = sd_bus_message_open_container(reply, 'a', "(ssso)");
	for (struct host_vm *vm = host_next(host, NULL); vm && r >= 0; vm = host_next(host, vm))
		r = sd_bus_message_append(reply, "(ssso)", host_vm_name(vm), host_vm_uuid(vm), bus_vm_state(vm),
					  bus_vm_path(vm, path));
	return r < 0 ? r : sd_bus_message_close_container(reply);
}

static int append_jobs(sd_bus_message *reply, struct host *host)
{
	char path[BUS_JOB_PATH_SIZE];
	int r;

	r = sd_bus_message_open_container(reply, 'a', "(tsuuo)");
	for (struct host_vm *vm = host_next(host, NULL); vm && r >= 0; vm = host_next(host, vm)) {
		const struct job *job = &host_vm_core(vm)->job;

		if (job->id != 0)
			r = sd_bus_message_append(reply, "(tsuuo)", job->id, host_vm_name(vm), job->from, job->to,
						  bus_job_path(job->id, path));
	}
	return r < 0 ? r : sd_bus_message_close_container(reply);
}

static int reply_list(sd_bus_message *m, struct host *host, int (*append)(sd_bus_message *reply, struct host *host))
{
	_cleanup_(sd_bus_message_unrefp) sd_bus_message *reply = NULL;
	int r;

	r = sd_bus_message_new_method_return(m, &reply);
	if (r >= 0)
		r = append(reply, host);
	if (r >= 0)
		r = sd_bus_message_send(reply);
	return r < 0 ? r : 1;
}

static int list_virtual_machines(sd_bus_message *m, void *userdata, sd_bus_error *ret_error)
{
	struct bus_manager_context *context = userdata;

	return reply_list(m, context->host, append_vms);
}

static int list_jobs(sd_bus_message *m, void *userdata, sd_bus_error *ret_error)
{
	struct bus_manager_context *context = userdata;

	return reply_list(m, context->host, append_jobs);
}

/* ---- properties ---- */

void bus_manager_look(struct host *host, struct bus_manager_seen *ret)
{
	*ret = (struct bus_manager_seen){.vms = (uint32_t)host_count(host)};
	for (struct host_vm *vm = host_next(host, NULL); vm; vm = host_next(host, vm))
		if (host_vm_core(vm)->link == VM_CONNECTED)
			ret->connected++;
}

static int get_version(sd_bus *sd, const char *path, const char *interface, const char *property, sd_bus_message *reply,
		       void *userdata, sd_bus_error *ret_error)
{
	return sd_bus_message_append(reply, "s", PACKAGE_VERSION);
}

static int get_virtual_machines(sd_bus *sd, const char *path, const char *interface, const char *property,
				sd_bus_message *reply, void *userdata, sd_bus_error *ret_error)
{
	struct bus_manager_context *context = userdata;

	return sd_bus_message_append(reply, "u", (uint32_t)host_count(context->host));
}

static int get_connected(sd_bus *sd, const char *path, const char *interface, const char *property,
			 sd_bus_message *reply, void *userdata, sd_bus_error *ret_error)
{
	struct bus_manager_context *context = userdata;
	struct bus_manager_seen seen;

	bus_manager_look(context->host, &seen);
	return sd_bus_message_append(reply, "u", seen.connected);
}

static const sd_bus_vtable manager_vtable[] = {
	SD_BUS_VTABLE_START(0),
	SD_BUS_METHOD_WITH_ARGS("SetVcpuCount", SD_BUS_ARGS("s", vm, "u", count), SD_BUS_RESULT("o", job),
				set_vcpu_count, SD_BUS_VTABLE_UNPRIVILEGED),
	SD_BUS_METHOD_WITH_ARGS("ListVirtualMachines", SD_BUS_NO_ARGS, SD_BUS_RESULT("a(ssso)", vms),
				list_virtual_machines, SD_BUS_VTABLE_UNPRIVILEGED),
	SD_BUS_METHOD_WITH_ARGS("GetVirtualMachine", SD_BUS_ARGS("s", vm), SD_BUS_RESULT("o", path),
				get_virtual_machine, SD_BUS_VTABLE_UNPRIVILEGED),
	SD_BUS_METHOD_WITH_ARGS("ListJobs", SD_BUS_NO_ARGS, SD_BUS_RESULT("a(tsuuo)", jobs), list_jobs,
				SD_BUS_VTABLE_UNPRIVILEGED),
	SD_BUS_METHOD_WITH_ARGS("Forget", SD_BUS_ARGS("s", vm), SD_BUS_NO_RESULT, forget, SD_BUS_VTABLE_UNPRIVILEGED),
	SD_BUS_SIGNAL_WITH_ARGS("VirtualMachineNew", SD_BUS_ARGS("s", name, "s", uuid, "o", path), 0),
	SD_BUS_SIGNAL_WITH_ARGS("VirtualMachineRemoved", SD_BUS_ARGS("s", name, "s", uuid, "o", path), 0),
	SD_BUS_SIGNAL_WITH_ARGS("JobNew", SD_BUS_ARGS("t", id, "o", job, "s", vm), 0),
	SD_BUS_SIGNAL_WITH_ARGS("JobRemoved", SD_BUS_ARGS("t", id, "o", job, "s", vm, "s", result), 0),
	SD_BUS_PROPERTY("Version", "s", get_version, 0, SD_BUS_VTABLE_PROPERTY_CONST),
	SD_BUS_PROPERTY("VirtualMachines", "u", get_virtual_machines, 0, SD_BUS_VTABLE_PROPERTY_EMITS_CHANGE),
	SD_BUS_PROPERTY("Connected", "u", get_connected, 0, SD_BUS_VTABLE_PROPERTY_EMITS_CHANGE),
	SD_BUS_VTABLE_END,
};

int bus_manager_add(sd_bus *sd, struct bus_manager_context *context)
{
	int r;

	r = sd_bus_add_object_manager(sd, NULL, BUS_MANAGER_PATH);
	if (r < 0)
		return r;
	return sd_bus_add_object_vtable(sd, NULL, BUS_MANAGER_PATH, BUS_MANAGER_INTERFACE, manager_vtable, context);
}

/* ---- signals ---- */

int bus_manager_tell(sd_bus *sd, struct host *host, struct bus_manager_seen *seen)
{
	struct bus_manager_seen was = *seen;

	bus_manager_look(host, seen);
	if (was.vms != seen->vms && was.connected != seen->connected)
		return sd_bus_emit_properties_changed(sd, BUS_MANAGER_PATH, BUS_MANAGER_INTERFACE, "VirtualMachines",
						      "Connected", NULL);
	if (was.vms != seen->vms)
		return sd_bus_emit_properties_changed(sd, BUS_MANAGER_PATH, BUS_MANAGER_INTERFACE, "VirtualMachines",
						      NULL);
	if (was.connected != seen->connected)
		return sd_bus_emit_properties_changed(sd, BUS_MANAGER_PATH, BUS_MANAGER_INTERFACE, "Connected", NULL);
	return 0;
}

int bus_manager_signal_vm(sd_bus *sd, const char *member, const struct host_vm *vm)
{
	char path[BUS_VM_PATH_SIZE];

	return sd_bus_emit_signal(sd, BUS_MANAGER_PATH, BUS_MANAGER_INTERFACE, member, "sso", host_vm_name(vm),
				  host_vm_uuid(vm), bus_vm_path(vm, path));
}

int bus_manager_signal_job(sd_bus *sd, const struct host_vm *vm, const struct job *job, const char *result)
{
	char path[BUS_JOB_PATH_SIZE];

	bus_job_path(job->id, path);
	if (!result)
		return sd_bus_emit_signal(sd, BUS_MANAGER_PATH, BUS_MANAGER_INTERFACE, "JobNew", "tos", job->id, path,
					  host_vm_name(vm));
	return sd_bus_emit_signal(sd, BUS_MANAGER_PATH, BUS_MANAGER_INTERFACE, "JobRemoved", "toss", job->id, path,
				  host_vm_name(vm), result);
}
