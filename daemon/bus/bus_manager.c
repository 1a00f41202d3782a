/* SPDX-License-Identifier: GPL-2.0-or-later */

#include "daemon/bus/bus_manager.h"

#include <string.h>

#include "daemon/bus/bus_announce.h"
#include "daemon/bus/bus_error.h"
#include "daemon/bus/bus_host.h"
#include "daemon/bus/bus_job.h"
#include "daemon/bus/bus_transfer.h"
#include "daemon/bus/bus_vm.h"
#include "daemon/base/util.h"

/* ---- methods that change something ---- */

static void perform_forget(struct host *host, const struct bus_request *request, uid_t uid, host_done_fn done,
			   void *userdata)
{
	host_forget(host, request->vm, uid, done, userdata);
}

static void perform_assign_class(struct host *host, const struct bus_request *request, uid_t uid, host_done_fn done,
				 void *userdata)
{
	host_assign(host, request->vm, request->text, NULL, uid, done, userdata);
}

static void perform_assign_tenant(struct host *host, const struct bus_request *request, uid_t uid, host_done_fn done,
				  void *userdata)
{
	host_assign(host, request->vm, NULL, request->text, uid, done, userdata);
}

static void perform_import(struct host *host, const struct bus_request *request, uid_t uid, host_done_fn done,
			   void *userdata)
{
	bus_transfer_import(host, request->vm, request->text, uid, done, userdata);
}

static void perform_freeze(struct host *host, const struct bus_request *request, uid_t uid, host_done_fn done,
			   void *userdata)
{
	host_freeze(host, request->on, uid, done, userdata);
}

static void perform_drain(struct host *host, const struct bus_request *request, uid_t uid, host_done_fn done,
			  void *userdata)
{
	host_drain(host, request->on, uid, done, userdata);
}

static void perform_reload(struct host *host, const struct bus_request *request, uid_t uid, host_done_fn done,
			   void *userdata)
{
	host_reload(host, uid, done, userdata);
}

static void perform_backup(struct host *host, const struct bus_request *request, uid_t uid, host_done_fn done,
			   void *userdata)
{
	host_backup(host, request->text, uid, done, userdata);
}

static int set_count(sd_bus_message *m, void *userdata, bus_call_fn perform, sd_bus_error *ret_error)
{
	struct bus_manager_context *context = userdata;
	struct bus_request request = {.action = BUS_ACTION_RESIZE};
	int r;

	r = sd_bus_message_read(m, "su", &request.vm, &request.count);
	if (r < 0)
		return r;
	return bus_call(context->calls, m, &request, perform, ret_error);
}

static int set_cpu_millis(sd_bus_message *m, void *userdata, sd_bus_error *ret_error)
{
	return set_count(m, userdata, bus_call_resize_millis, ret_error);
}

static int set_vcpu_count(sd_bus_message *m, void *userdata, sd_bus_error *ret_error)
{
	return set_count(m, userdata, bus_call_resize, ret_error);
}

static int register_provider(sd_bus_message *m, void *userdata, sd_bus_error *ret_error)
{
	struct bus_manager_context *context = userdata;

	return bus_provider_register(context->providers, context->calls, m, ret_error);
}

static int announce(sd_bus_message *m, void *userdata, sd_bus_error *ret_error)
{
	struct bus_manager_context *context = userdata;

	return bus_announce(context->providers, context->calls, m, ret_error);
}

static int withdraw(sd_bus_message *m, void *userdata, sd_bus_error *ret_error)
{
	struct bus_manager_context *context = userdata;

	return bus_withdraw(context->providers, context->calls, m, ret_error);
}

/* Of a VM alone. */
static int forget(sd_bus_message *m, void *userdata, sd_bus_error *ret_error)
{
	struct bus_manager_context *context = userdata;
	struct bus_request request = {.action = BUS_ACTION_ADMINISTER};
	int r;

	r = sd_bus_message_read(m, "s", &request.vm);
	if (r < 0)
		return r;
	return bus_call(context->calls, m, &request, perform_forget, ret_error);
}

#define METHOD_VM_TEXT(name, needed)                                                                                   \
	static int name(sd_bus_message *m, void *userdata, sd_bus_error *ret_error)                                    \
	{                                                                                                              \
		struct bus_manager_context *context = userdata;                                                        \
		struct bus_request request = {.action = needed};                                                       \
		int r;                                                                                                 \
                                                                                                                       \
		r = sd_bus_message_read(m, "ss", &request.vm, &request.text);                                          \
		if (r < 0)                                                                                             \
			return r;                                                                                      \
		return bus_call(context->calls, m, &request, perform_##name, ret_error);                               \
	}

METHOD_VM_TEXT(assign_class, BUS_ACTION_ASSIGN)
METHOD_VM_TEXT(assign_tenant, BUS_ACTION_ASSIGN)
METHOD_VM_TEXT(import, BUS_ACTION_ADMINISTER)

static int set_mode(sd_bus_message *m, struct bus_manager_context *context, bus_call_fn perform,
		    sd_bus_error *ret_error)
{
	struct bus_request request = {.action = BUS_ACTION_ADMINISTER};
	int on, r;

	r = sd_bus_message_read(m, "b", &on);
	if (r < 0)
		return r;
	request.on = on;
	return bus_call(context->calls, m, &request, perform, ret_error);
}

static int freeze(sd_bus_message *m, void *userdata, sd_bus_error *ret_error)
{
	return set_mode(m, userdata, perform_freeze, ret_error);
}

static int drain(sd_bus_message *m, void *userdata, sd_bus_error *ret_error)
{
	return set_mode(m, userdata, perform_drain, ret_error);
}

static int reload(sd_bus_message *m, void *userdata, sd_bus_error *ret_error)
{
	struct bus_manager_context *context = userdata;
	const struct bus_request request = {.action = BUS_ACTION_RELOAD};

	return bus_call(context->calls, m, &request, perform_reload, ret_error);
}

static int backup(sd_bus_message *m, void *userdata, sd_bus_error *ret_error)
{
	struct bus_manager_context *context = userdata;
	struct bus_request request = {.action = BUS_ACTION_ADMINISTER};
	int r;

	r = sd_bus_message_read(m, "s", &request.text);
	if (r < 0)
		return r;
	if (*request.text != '/')
		return sd_bus_error_setf(
			ret_error, SD_BUS_ERROR_INVALID_ARGS,
			"\"%.300s\" is not an absolute path: the daemon's directory is not the caller's", request.text);
	return bus_call(context->calls, m, &request, perform_backup, ret_error);
}

static int open_vmm(sd_bus_message *m, void *userdata, sd_bus_error *ret_error)
{
	struct bus_manager_context *context = userdata;

	return bus_open(context->opens, m, ret_error);
}

/* ---- methods that tell something ---- */

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
		return bus_error_of_vm(ret_error, HOST_NO_SUCH_VM, name);
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

static int list_announcements(sd_bus_message *m, void *userdata, sd_bus_error *ret_error)
{
	struct bus_manager_context *context = userdata;

	return reply_list(m, context->host, bus_announce_append);
}

static int list_jobs(sd_bus_message *m, void *userdata, sd_bus_error *ret_error)
{
	struct bus_manager_context *context = userdata;

	return reply_list(m, context->host, append_jobs);
}

static int append_rules(sd_bus_message *reply, const char *vm, const struct explain *e)
{
	char sentence[EXPLAIN_TEXT_SIZE];
	int r;

	r = sd_bus_message_open_container(reply, 'a', "(sssttts)");
	for (size_t i = 0; i < e->n && r >= 0; i++) {
		const struct explain_line *line = &e->lines[i];

		explain_text(sentence, sizeof(sentence), vm, line);
		r = sd_bus_message_append(reply, "(sssttts)", rule_name(line->rule),
					  explain_outcome_name(line->outcome), line->who ? line->who : "", line->count,
					  line->bound, line->others, sentence);
	}
	return r < 0 ? r : sd_bus_message_close_container(reply);
}

static int explain(sd_bus_message *m, void *userdata, sd_bus_error *ret_error)
{
	_cleanup_(sd_bus_message_unrefp) sd_bus_message *reply = NULL;
	struct bus_manager_context *context = userdata;
	struct host_vm *vm;
	const char *name;
	struct explain e;
	uint32_t count;
	enum host_error error;
	int r;

	r = sd_bus_message_read(m, "su", &name, &count);
	if (r < 0)
		return r;
	vm = host_find(context->host, name);
	error = vm ? host_explain(context->host, name, count, &e) : HOST_NO_SUCH_VM;
	if (error != HOST_OK)
		return bus_error_of_vm(ret_error, error, name);
	r = sd_bus_message_new_method_return(m, &reply);
	if (r >= 0)
		r = sd_bus_message_append(reply, "uuss", e.n > 0 ? (uint32_t)e.lines[0].count : count, e.target,
					  rule_name(e.bound), rule_name(e.refused));
	if (r >= 0)
		r = append_rules(reply, host_vm_name(vm), &e);
	if (r >= 0)
		r = sd_bus_message_send(reply);
	return r < 0 ? r : 1;
}

static int get_usage(sd_bus_message *m, void *userdata, sd_bus_error *ret_error)
{
	struct bus_manager_context *context = userdata;

	return bus_usage_query(context->usage, m, true, ret_error);
}

static int get_usage_hours(sd_bus_message *m, void *userdata, sd_bus_error *ret_error)
{
	struct bus_manager_context *context = userdata;

	return bus_usage_query(context->usage, m, false, ret_error);
}

static int export(sd_bus_message *m, void *userdata, sd_bus_error *ret_error)
{
	struct bus_manager_context *context = userdata;
	_cleanup_free_ char *state = NULL;
	enum host_error error;
	const char *vm;
	int r;

	r = sd_bus_message_read(m, "s", &vm);
	if (r < 0)
		return r;
	error = bus_transfer_export(context->host, vm, &state);
	if (error != HOST_OK)
		return bus_error_of_vm(ret_error, error, vm);
	return sd_bus_reply_method_return(m, "s", state);
}

/* ---- properties ---- */

static uint32_t count_connected(struct host *host)
{
	uint32_t n = 0;

	for (struct host_vm *vm = host_next(host, NULL); vm; vm = host_next(host, vm))
		n += host_vm_core(vm)->link == VM_CONNECTED;
	return n;
}

static struct host_view view(const struct bus_manager_context *context)
{
	struct host_view v;

	host_view(context->host, &v);
	return v;
}

#define GETTER(name, signature, expression)                                                                            \
	static int get_##name(sd_bus *sd, const char *path, const char *interface, const char *property,               \
			      sd_bus_message *reply, void *userdata, sd_bus_error *ret_error)                          \
	{                                                                                                              \
		const struct bus_manager_context *context __attribute__((unused)) = userdata;                          \
                                                                                                                       \
		return sd_bus_message_append(reply, signature, expression);                                            \
	}

GETTER(version, "s", PACKAGE_VERSION)
GETTER(virtual_machines, "u", (uint32_t)host_count(context->host))
GETTER(connected, "u", count_connected(context->host))
GETTER(capacity, "u", view(context).capacity)
GETTER(cpus, "u", view(context).cpus)
GETTER(reserved, "t", view(context).sums.reserved)
GETTER(guaranteed, "t", view(context).sums.guaranteed)
GETTER(allowed, "t", view(context).sums.allowed)
GETTER(held, "t", view(context).sums.held)
GETTER(occupied, "t", view(context).sums.occupied)
GETTER(overdue, "t", view(context).sums.overdue)
GETTER(observe, "b", (int)view(context).observe)
GETTER(frozen, "b", (int)view(context).frozen)
GETTER(frozen_uid, "u", (uint32_t)view(context).frozen_uid)
GETTER(drained, "b", (int)view(context).drained)
GETTER(drained_uid, "u", (uint32_t)view(context).drained_uid)

static int get_classes(sd_bus *sd, const char *path, const char *interface, const char *property, sd_bus_message *reply,
		       void *userdata, sd_bus_error *ret_error)
{
	const struct bus_manager_context *context = userdata;

	return bus_host_append_classes(reply, context->host);
}

static int get_tenants(sd_bus *sd, const char *path, const char *interface, const char *property, sd_bus_message *reply,
		       void *userdata, sd_bus_error *ret_error)
{
	const struct bus_manager_context *context = userdata;

	return bus_host_append_tenants(reply, context->host);
}

static int get_providers(sd_bus *sd, const char *path, const char *interface, const char *property,
			 sd_bus_message *reply, void *userdata, sd_bus_error *ret_error)
{
	const struct bus_manager_context *context = userdata;

	return bus_provider_append(reply, context->host);
}

#define CHANGES SD_BUS_VTABLE_PROPERTY_EMITS_CHANGE

static const sd_bus_vtable manager_vtable[] = {
	SD_BUS_VTABLE_START(0),
	SD_BUS_METHOD_WITH_ARGS("SetVcpuCount", SD_BUS_ARGS("s", vm, "u", count), SD_BUS_RESULT("o", job),
				set_vcpu_count, SD_BUS_VTABLE_UNPRIVILEGED),
	SD_BUS_METHOD_WITH_ARGS("SetCpuMillis", SD_BUS_ARGS("s", vm, "u", millis), SD_BUS_RESULT("o", job),
				set_cpu_millis, SD_BUS_VTABLE_UNPRIVILEGED),
	SD_BUS_METHOD_WITH_ARGS("RegisterProvider", SD_BUS_ARGS("s", name, "o", object), SD_BUS_NO_RESULT,
				register_provider, SD_BUS_VTABLE_UNPRIVILEGED),
	SD_BUS_METHOD_WITH_ARGS("Announce", SD_BUS_ARGS(BUS_ANNOUNCE_VMS, vms), SD_BUS_NO_RESULT, announce,
				SD_BUS_VTABLE_UNPRIVILEGED),
	SD_BUS_METHOD_WITH_ARGS("Withdraw", SD_BUS_ARGS("as", uuids), SD_BUS_NO_RESULT, withdraw,
				SD_BUS_VTABLE_UNPRIVILEGED),
	SD_BUS_METHOD_WITH_ARGS("OpenVmm", SD_BUS_ARGS("s", uuid, "a{sv}", expected), SD_BUS_RESULT("h", fd), open_vmm,
				SD_BUS_VTABLE_UNPRIVILEGED),
	SD_BUS_METHOD_WITH_ARGS("ListVirtualMachines", SD_BUS_NO_ARGS, SD_BUS_RESULT("a(ssso)", vms),
				list_virtual_machines, SD_BUS_VTABLE_UNPRIVILEGED),
	SD_BUS_METHOD_WITH_ARGS("GetVirtualMachine", SD_BUS_ARGS("s", vm), SD_BUS_RESULT("o", path),
				get_virtual_machine, SD_BUS_VTABLE_UNPRIVILEGED),
	SD_BUS_METHOD_WITH_ARGS("ListAnnouncements", SD_BUS_NO_ARGS, SD_BUS_RESULT("a(sss)", announcements),
				list_announcements, SD_BUS_VTABLE_UNPRIVILEGED),
	SD_BUS_METHOD_WITH_ARGS("ListJobs", SD_BUS_NO_ARGS, SD_BUS_RESULT("a(tsuuo)", jobs), list_jobs,
				SD_BUS_VTABLE_UNPRIVILEGED),
	SD_BUS_METHOD_WITH_ARGS("Forget", SD_BUS_ARGS("s", vm), SD_BUS_NO_RESULT, forget, SD_BUS_VTABLE_UNPRIVILEGED),
	SD_BUS_METHOD_WITH_ARGS("AssignClass", SD_BUS_ARGS("s", vm, "s", class), SD_BUS_NO_RESULT, assign_class,
				SD_BUS_VTABLE_UNPRIVILEGED),
	SD_BUS_METHOD_WITH_ARGS("AssignTenant", SD_BUS_ARGS("s", vm, "s", tenant), SD_BUS_NO_RESULT, assign_tenant,
				SD_BUS_VTABLE_UNPRIVILEGED),
	SD_BUS_METHOD_WITH_ARGS("Explain", SD_BUS_ARGS("s", vm, "u", count),
				SD_BUS_RESULT("u", count, "u", target, "s", bound, "s", refused, "a(sssttts)", rules),
				explain, SD_BUS_VTABLE_UNPRIVILEGED),
	SD_BUS_METHOD_WITH_ARGS("Freeze", SD_BUS_ARGS("b", on), SD_BUS_NO_RESULT, freeze, SD_BUS_VTABLE_UNPRIVILEGED),
	SD_BUS_METHOD_WITH_ARGS("Drain", SD_BUS_ARGS("b", on), SD_BUS_NO_RESULT, drain, SD_BUS_VTABLE_UNPRIVILEGED),
	SD_BUS_METHOD_WITH_ARGS("Reload", SD_BUS_NO_ARGS, SD_BUS_NO_RESULT, reload, SD_BUS_VTABLE_UNPRIVILEGED),
	SD_BUS_METHOD_WITH_ARGS("GetUsage", SD_BUS_ARGS("t", since, "t", until, "s", tenant),
				SD_BUS_RESULT("a" BUS_USAGE_ROW, rows), get_usage, SD_BUS_VTABLE_UNPRIVILEGED),
	SD_BUS_METHOD_WITH_ARGS("GetUsageHours", SD_BUS_ARGS("t", since, "t", until, "s", tenant),
				SD_BUS_RESULT("a" BUS_USAGE_ROW, rows), get_usage_hours, SD_BUS_VTABLE_UNPRIVILEGED),
	SD_BUS_METHOD_WITH_ARGS("Backup", SD_BUS_ARGS("s", path), SD_BUS_NO_RESULT, backup, SD_BUS_VTABLE_UNPRIVILEGED),
	SD_BUS_METHOD_WITH_ARGS("ExportVirtualMachine", SD_BUS_ARGS("s", vm), SD_BUS_RESULT("s", state), export,
				SD_BUS_VTABLE_UNPRIVILEGED),
	SD_BUS_METHOD_WITH_ARGS("ImportVirtualMachine", SD_BUS_ARGS("s", vm, "s", state), SD_BUS_NO_RESULT, import,
				SD_BUS_VTABLE_UNPRIVILEGED),
	SD_BUS_SIGNAL_WITH_ARGS("VirtualMachineNew", SD_BUS_ARGS("s", name, "s", uuid, "o", path), 0),
	SD_BUS_SIGNAL_WITH_ARGS("VirtualMachineRemoved", SD_BUS_ARGS("s", name, "s", uuid, "o", path), 0),
	SD_BUS_SIGNAL_WITH_ARGS("JobNew", SD_BUS_ARGS("t", id, "o", job, "s", vm), 0),
	SD_BUS_SIGNAL_WITH_ARGS("JobRemoved", SD_BUS_ARGS("t", id, "o", job, "s", vm, "s", result), 0),
	SD_BUS_PROPERTY("Version", "s", get_version, 0, SD_BUS_VTABLE_PROPERTY_CONST),
	SD_BUS_PROPERTY("VirtualMachines", "u", get_virtual_machines, 0, CHANGES),
	SD_BUS_PROPERTY("Connected", "u", get_connected, 0, CHANGES),
	SD_BUS_PROPERTY("Capacity", "u", get_capacity, 0, CHANGES),
	SD_BUS_PROPERTY("Cpus", "u", get_cpus, 0, CHANGES),
	SD_BUS_PROPERTY("Reserved", "t", get_reserved, 0, CHANGES),
	SD_BUS_PROPERTY("Guaranteed", "t", get_guaranteed, 0, CHANGES),
	SD_BUS_PROPERTY("Allowed", "t", get_allowed, 0, CHANGES),
	SD_BUS_PROPERTY("Held", "t", get_held, 0, CHANGES),
	SD_BUS_PROPERTY("Occupied", "t", get_occupied, 0, CHANGES),
	SD_BUS_PROPERTY("Overdue", "t", get_overdue, 0, CHANGES),
	SD_BUS_PROPERTY("Observe", "b", get_observe, 0, CHANGES),
	SD_BUS_PROPERTY("Frozen", "b", get_frozen, 0, CHANGES),
	SD_BUS_PROPERTY("FrozenUid", "u", get_frozen_uid, 0, CHANGES),
	SD_BUS_PROPERTY("Drained", "b", get_drained, 0, CHANGES),
	SD_BUS_PROPERTY("DrainedUid", "u", get_drained_uid, 0, CHANGES),
	SD_BUS_PROPERTY("Providers", "as", get_providers, 0, CHANGES),
	SD_BUS_PROPERTY("Classes", BUS_HOST_CLASSES, get_classes, 0, SD_BUS_VTABLE_PROPERTY_EMITS_INVALIDATION),
	SD_BUS_PROPERTY("Tenants", BUS_HOST_TENANTS, get_tenants, 0, SD_BUS_VTABLE_PROPERTY_EMITS_INVALIDATION),
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

void bus_manager_look(struct host *host, struct bus_manager_seen *ret)
{
	*ret = (struct bus_manager_seen){
		.vms = (uint32_t)host_count(host),
		.connected = count_connected(host),
		.tenants = bus_host_hash_tenants(host),
	};
	host_view(host, &ret->host);
}

struct names {
	char *list[24];
	size_t n;
};

static void add(struct names *names, bool differs, const char *name)
{
	/* The last one ends the list; the vtable has fewer properties than it has room. */
	if (differs && names->n + 1 < ARRAY_SIZE(names->list))
		names->list[names->n++] = (char *)(uintptr_t)name;
}

static void add_host(struct names *names, const struct host_view *was, const struct host_view *is)
{
	add(names, was->capacity != is->capacity, "Capacity");
	add(names, was->cpus != is->cpus, "Cpus");
	add(names, was->sums.reserved != is->sums.reserved, "Reserved");
	add(names, was->sums.guaranteed != is->sums.guaranteed, "Guaranteed");
	add(names, was->sums.allowed != is->sums.allowed, "Allowed");
	add(names, was->sums.held != is->sums.held, "Held");
	add(names, was->sums.occupied != is->sums.occupied, "Occupied");
	add(names, was->sums.overdue != is->sums.overdue, "Overdue");
	add(names, was->observe != is->observe, "Observe");
	add(names, was->frozen != is->frozen, "Frozen");
	add(names, was->frozen_uid != is->frozen_uid, "FrozenUid");
	add(names, was->drained != is->drained, "Drained");
	add(names, was->drained_uid != is->drained_uid, "DrainedUid");
	add(names, was->providers != is->providers, "Providers");
}

int bus_manager_tell(sd_bus *sd, struct host *host, struct bus_manager_seen *seen)
{
	struct bus_manager_seen was = *seen;
	struct names names = {0};

	bus_manager_look(host, seen);
	add(&names, was.vms != seen->vms, "VirtualMachines");
	add(&names, was.connected != seen->connected, "Connected");
	add_host(&names, &was.host, &seen->host);
	add(&names, was.reloaded, "Classes");
	add(&names, was.reloaded || was.tenants != seen->tenants, "Tenants");
	if (names.n == 0)
		return 0;
	return sd_bus_emit_properties_changed_strv(sd, BUS_MANAGER_PATH, BUS_MANAGER_INTERFACE, names.list);
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
