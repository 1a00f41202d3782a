/* SPDX-License-Identifier: GPL-2.0-or-later */

#include "daemon/bus_vm.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/cpulist.h"
#include "daemon/bus_job.h"
#include "daemon/util.h"
#include "proto/message.h"

const char *bus_vm_path(const struct host_vm *vm, char path[static BUS_VM_PATH_SIZE])
{
	_cleanup_free_ char *encoded = NULL;

	/* "/" is a valid path that is no VM's; only memory can run out */
	if (sd_bus_path_encode(BUS_VM_ROOT, host_vm_uuid(vm), &encoded) < 0)
		snprintf(path, BUS_VM_PATH_SIZE, "/");
	else
		snprintf(path, BUS_VM_PATH_SIZE, "%s", encoded);
	return path;
}

const char *bus_vm_state(const struct host_vm *vm)
{
	const struct vm *core = host_vm_core(vm);

	switch (core->link) {
	case VM_STOPPED:
		return "stopped";
	case VM_DISCONNECTED:
		return "disconnected";
	case VM_CONNECTED:
		break;
	}
	switch (core->run_state) {
	case CPUPOLICY_RUN_RUNNING:
		return "running";
	case CPUPOLICY_RUN_PAUSED:
		return "paused";
	case CPUPOLICY_RUN_INACTIVE:
		break;
	}
	return "incoming";
}

/* ---- objects ---- */

static int find(sd_bus *sd, const char *path, const char *interface, void *userdata, void **ret_found,
		sd_bus_error *ret_error)
{
	const struct bus_vm_context *context = userdata;
	_cleanup_free_ char *uuid = NULL;
	struct host_vm *vm;
	int r;

	r = sd_bus_path_decode(path, BUS_VM_ROOT, &uuid);
	if (r <= 0)
		return r;
	vm = host_find(context->host, uuid);
	/* by its UUID as it is written in the path alone, not by its name: one VM has one path */
	if (!vm || strcmp(host_vm_uuid(vm), uuid) != 0)
		return 0;
	*ret_found = vm;
	return 1;
}

static void free_paths(char **paths)
{
	for (char **p = paths; p && *p; p++)
		free(*p);
	free(paths);
}

static int enumerate(sd_bus *sd, const char *prefix, void *userdata, char ***ret_nodes, sd_bus_error *ret_error)
{
	const struct bus_vm_context *context = userdata;
	size_t n = 0, count = host_count(context->host);
	char **paths = calloc(count + 1, sizeof(*paths));

	if (!paths)
		return -ENOMEM;
	for (struct host_vm *vm = host_next(context->host, NULL); vm && n < count; vm = host_next(context->host, vm)) {
		char path[BUS_VM_PATH_SIZE];

		paths[n] = strdup(bus_vm_path(vm, path));
		if (!paths[n++]) {
			free_paths(paths);
			return -ENOMEM;
		}
	}
	*ret_nodes = paths;
	return 0;
}

/* ---- properties ---- */

static bool is_enabled(const struct vcpu *v)
{
	return (v->flags & (VCPU_ENABLED | VCPU_DURABLE)) == (VCPU_ENABLED | VCPU_DURABLE);
}

static bool is_wanted(const struct vcpu *v)
{
	return is_enabled(v) && v->flags & VCPU_WANTED;
}

static bool is_online(const struct vcpu *v)
{
	return v->flags & VCPU_ONLINE;
}

static bool is_pending(const struct vcpu *v)
{
	return v->flags & VCPU_IN_JOB;
}

static bool is_overdue(const struct vcpu *v)
{
	if (!(v->flags & VCPU_ENABLED))
		return v->flags & VCPU_ONLINE;
	return !(v->flags & (VCPU_WANTED | VCPU_IN_JOB));
}

static int append_set(sd_bus_message *reply, const struct vm *vm, bool (*is)(const struct vcpu *v))
{
	char text[CPULIST_TEXT_SIZE];
	struct cpulist set = {0};

	for (uint32_t i = 0; i < vm->possible; i++)
		if (is(&vm->vcpus[i]))
			cpulist_add(&set, i);
	return sd_bus_message_append(reply, "s", cpulist_format(&set, text));
}

static struct vm_counts counts(const struct vm *vm)
{
	struct vm_counts c;

	vm_counts(vm, &c);
	return c;
}

#define GETTER_HEAD(name)                                                                                              \
	static int get_##name(sd_bus *sd, const char *path, const char *interface, const char *property,               \
			      sd_bus_message *reply, void *userdata, sd_bus_error *ret_error)

#define GETTER(name, signature, expression)                                                                            \
	GETTER_HEAD(name)                                                                                              \
	{                                                                                                              \
		const struct host_vm *host_vm = userdata;                                                              \
		const struct vm *vm __attribute__((unused)) = host_vm_core(host_vm);                                   \
                                                                                                                       \
		return sd_bus_message_append(reply, signature, expression);                                            \
	}

#define SET_GETTER(name, is)                                                                                           \
	GETTER_HEAD(name)                                                                                              \
	{                                                                                                              \
		return append_set(reply, host_vm_core(userdata), is);                                                  \
	}

/* 0: no process of this boot of the host is known */
static uint32_t pid_on_bus(const struct peer *peer)
{
	return peer->pid > 0 ? (uint32_t)peer->pid : 0;
}

GETTER(name, "s", host_vm_name(host_vm))
GETTER(uuid, "s", host_vm_uuid(host_vm))
GETTER(state, "s", bus_vm_state(host_vm))
GETTER(possible, "u", vm->possible)
GETTER(boot, "u", vm->boot)
GETTER(minimum, "u", vm->level->minimum)
GETTER(maximum, "u", vm->level->maximum)
GETTER(desired, "u", vm->desired)
GETTER(desired_uid, "u", (uint32_t)host_vm_desired_uid(host_vm))
GETTER(target, "u", vm_target(vm))
GETTER(enabled, "u", counts(vm).enabled)
GETTER(online, "u", counts(vm).online)
GETTER(overdue, "u", counts(vm).overdue)
SET_GETTER(enabled_set, is_enabled)
SET_GETTER(online_set, is_online)
SET_GETTER(pending_set, is_pending)
SET_GETTER(overdue_set, is_overdue)
GETTER(generation, "u", vm->generation)
GETTER(confirmed, "u", vm->confirmed)
GETTER(observe, "b", (int)vm->level->observe)
GETTER(notifiable, "b", (int)vm->notify)
GETTER(boot_removable, "b", (int)vm->boot_removable)
GETTER(denied, "t", vm->denied)
GETTER(vmm_uid, "u", (uint32_t)host_vm_peer(host_vm)->uid)
GETTER(vmm_pid, "u", pid_on_bus(host_vm_peer(host_vm)))

GETTER_HEAD(vcpus)
{
	const struct vm *vm = host_vm_core(userdata);
	int r;

	r = sd_bus_message_open_container(reply, 'a', "(ubbbbbsu)");
	for (uint32_t i = 0; r >= 0 && i < vm->possible; i++) {
		const struct vcpu *v = &vm->vcpus[i];

		r = sd_bus_message_append(reply, "(ubbbbbsu)", i, (int)is_enabled(v), (int)is_wanted(v),
					  (int)(v->flags & VCPU_ACKED ? 1 : 0), (int)is_online(v), (int)is_overdue(v),
					  cpupolicy_msg_reason_name(v->reason), v->denied);
	}
	return r < 0 ? r : sd_bus_message_close_container(reply);
}

GETTER_HEAD(job)
{
	const struct job *job = &host_vm_core(userdata)->job;
	char job_path[BUS_JOB_PATH_SIZE];

	return sd_bus_message_append(reply, "o", job->id != 0 ? bus_job_path(job->id, job_path) : "/");
}

GETTER_HEAD(last_job)
{
	const struct job *job = &host_vm_core(userdata)->last_job;

	return sd_bus_message_append(reply, "(tuusbu)", job->id, job->from, job->to,
				     job->id != 0 ? job_result_name(job->result) : "", (int)job->online, job->uid);
}

/* ---- methods ---- */

static int set_vcpu_count(sd_bus_message *m, void *userdata, sd_bus_error *ret_error)
{
	/* userdata is the VM that find() found; what bus_vm_add() was given is the slot's */
	const struct bus_vm_context *context =
		sd_bus_slot_get_userdata(sd_bus_get_current_slot(sd_bus_message_get_bus(m)));
	uint32_t count;
	int r;

	r = sd_bus_message_read(m, "u", &count);
	if (r < 0)
		return r;
	return bus_call_resize(context->calls, m, host_vm_uuid(userdata), count, ret_error);
}

#define CHANGES SD_BUS_VTABLE_PROPERTY_EMITS_CHANGE

static const sd_bus_vtable vm_vtable[] = {
	SD_BUS_VTABLE_START(0),
	SD_BUS_METHOD_WITH_ARGS("SetVcpuCount", SD_BUS_ARGS("u", count), SD_BUS_RESULT("o", job), set_vcpu_count,
				SD_BUS_VTABLE_UNPRIVILEGED),
	SD_BUS_PROPERTY("Name", "s", get_name, 0, SD_BUS_VTABLE_PROPERTY_CONST),
	SD_BUS_PROPERTY("Uuid", "s", get_uuid, 0, SD_BUS_VTABLE_PROPERTY_CONST),
	SD_BUS_PROPERTY("State", "s", get_state, 0, CHANGES),
	SD_BUS_PROPERTY("Possible", "u", get_possible, 0, CHANGES),
	SD_BUS_PROPERTY("Boot", "u", get_boot, 0, CHANGES),
	SD_BUS_PROPERTY("Minimum", "u", get_minimum, 0, CHANGES),
	SD_BUS_PROPERTY("Maximum", "u", get_maximum, 0, CHANGES),
	SD_BUS_PROPERTY("Desired", "u", get_desired, 0, CHANGES),
	SD_BUS_PROPERTY("DesiredUid", "u", get_desired_uid, 0, CHANGES),
	SD_BUS_PROPERTY("Target", "u", get_target, 0, CHANGES),
	SD_BUS_PROPERTY("Enabled", "u", get_enabled, 0, CHANGES),
	SD_BUS_PROPERTY("Online", "u", get_online, 0, CHANGES),
	SD_BUS_PROPERTY("Overdue", "u", get_overdue, 0, CHANGES),
	SD_BUS_PROPERTY("EnabledSet", "s", get_enabled_set, 0, CHANGES),
	SD_BUS_PROPERTY("OnlineSet", "s", get_online_set, 0, CHANGES),
	SD_BUS_PROPERTY("PendingSet", "s", get_pending_set, 0, CHANGES),
	SD_BUS_PROPERTY("OverdueSet", "s", get_overdue_set, 0, CHANGES),
	SD_BUS_PROPERTY("Generation", "u", get_generation, 0, CHANGES),
	SD_BUS_PROPERTY("Confirmed", "u", get_confirmed, 0, CHANGES),
	SD_BUS_PROPERTY("Observe", "b", get_observe, 0, CHANGES),
	SD_BUS_PROPERTY("Notifiable", "b", get_notifiable, 0, CHANGES),
	SD_BUS_PROPERTY("BootRemovable", "b", get_boot_removable, 0, CHANGES),
	SD_BUS_PROPERTY("Denied", "t", get_denied, 0, SD_BUS_VTABLE_PROPERTY_EMITS_INVALIDATION),
	SD_BUS_PROPERTY("VmmUid", "u", get_vmm_uid, 0, CHANGES),
	SD_BUS_PROPERTY("VmmPid", "u", get_vmm_pid, 0, CHANGES),
	SD_BUS_PROPERTY("Vcpus", "a(ubbbbbsu)", get_vcpus, 0,
			SD_BUS_VTABLE_PROPERTY_EMITS_INVALIDATION | SD_BUS_VTABLE_PROPERTY_EXPLICIT),
	SD_BUS_PROPERTY("Job", "o", get_job, 0, CHANGES),
	SD_BUS_PROPERTY("LastJob", "(tuusbu)", get_last_job, 0, CHANGES),
	SD_BUS_SIGNAL_WITH_ARGS("Denied", SD_BUS_ARGS("u", vcpu, "s", reason, "u", count, "b", enforced), 0),
	SD_BUS_VTABLE_END,
};

int bus_vm_add(sd_bus *sd, const struct bus_vm_context *context)
{
	void *userdata = (void *)(uintptr_t)context; /* sd-bus only hands it back, to functions that take it as const */
	int r;

	r = sd_bus_add_fallback_vtable(sd, NULL, BUS_VM_ROOT, BUS_VM_INTERFACE, vm_vtable, find, userdata);
	if (r < 0)
		return r;
	return sd_bus_add_node_enumerator(sd, NULL, BUS_VM_ROOT, enumerate, userdata);
}

/* ---- changes ---- */

/* FNV-1a; nothing but a missed change signal hangs on it, and that of the VM itself. */
static uint64_t hash_vcpus(const struct vm *vm)
{
	uint64_t h = UINT64_C(0xcbf29ce484222325);

	for (uint32_t i = 0; i < vm->possible; i++)
		h = (h ^ vm->vcpus[i].flags) * UINT64_C(0x100000001b3);
	return h;
}

void bus_vm_look(const struct host_vm *vm, struct bus_vm_seen *ret)
{
	const struct vm *core = host_vm_core(vm);
	const struct peer *peer = host_vm_peer(vm);

	*ret = (struct bus_vm_seen){
		.sets = hash_vcpus(core),
		.denied = core->denied,
		.job = core->job.id,
		.last_job = core->last_job.id,
		.generation = core->generation,
		.confirmed = core->confirmed,
		.desired_uid = (uint32_t)host_vm_desired_uid(vm),
		.vmm_uid = (uint32_t)peer->uid,
		.vmm_pid = pid_on_bus(peer),
		.possible = (uint16_t)core->possible,
		.desired = (uint16_t)core->desired,
		.boot = (uint16_t)core->boot,
		.minimum = (uint16_t)core->level->minimum,
		.maximum = (uint16_t)core->level->maximum,
		.pending = (uint16_t)core->job.pending,
		.settled = (uint16_t)core->job.settled,
		.refused = (uint16_t)core->job.refused,
		.link = (uint8_t)core->link,
		.run_state = (uint8_t)core->run_state,
		.flags = (uint8_t)(core->level->observe << 0 | core->notify << 1 | core->boot_removable << 2),
	};
}

struct names {
	char *list[32];
	size_t n;
};

static void add(struct names *names, bool differs, const char *name)
{
	/* The last one ends the list; the vtable has fewer properties than it has room. */
	if (differs && names->n + 1 < ARRAY_SIZE(names->list))
		names->list[names->n++] = (char *)(uintptr_t)name;
}

static void add_counts(struct names *names, const struct bus_vm_seen *was, const struct bus_vm_seen *is)
{
	bool bounds = was->minimum != is->minimum || was->maximum != is->maximum || was->possible != is->possible;

	add(names, was->possible != is->possible, "Possible");
	add(names, was->boot != is->boot, "Boot");
	add(names, was->minimum != is->minimum, "Minimum");
	add(names, was->maximum != is->maximum, "Maximum");
	add(names, was->desired != is->desired, "Desired");
	add(names, was->desired_uid != is->desired_uid, "DesiredUid");
	add(names, was->desired != is->desired || bounds, "Target");
}

static void add_vcpus(struct names *names, const struct bus_vm_seen *was, const struct bus_vm_seen *is)
{
	static const char *const derived[] = {"Enabled",   "Online",     "Overdue",   "EnabledSet",
					      "OnlineSet", "PendingSet", "OverdueSet"};

	for (size_t i = 0; i < ARRAY_SIZE(derived); i++)
		add(names, was->sets != is->sets, derived[i]);
	add(names, was->sets != is->sets || was->denied != is->denied, "Vcpus");
	add(names, was->denied != is->denied, "Denied");
}

static void add_session(struct names *names, const struct bus_vm_seen *was, const struct bus_vm_seen *is)
{
	uint8_t flags = was->flags ^ is->flags;

	add(names, was->link != is->link || was->run_state != is->run_state, "State");
	add(names, was->generation != is->generation, "Generation");
	add(names, was->confirmed != is->confirmed, "Confirmed");
	add(names, flags & 1 << 0, "Observe");
	add(names, flags & 1 << 1, "Notifiable");
	add(names, flags & 1 << 2, "BootRemovable");
	add(names, was->vmm_uid != is->vmm_uid, "VmmUid");
	add(names, was->vmm_pid != is->vmm_pid, "VmmPid");
	add(names, was->job != is->job, "Job");
	add(names, was->last_job != is->last_job, "LastJob");
}

static int tell_job(sd_bus *sd, const struct bus_vm_seen *was, const struct bus_vm_seen *is)
{
	char path[BUS_JOB_PATH_SIZE];
	struct names names = {0};

	/* of a job that is new InterfacesAdded has said all */
	if (is->job == 0 || is->job != was->job)
		return 0;
	add(&names, was->pending != is->pending, "Pending");
	add(&names, was->settled != is->settled, "Settled");
	add(&names, was->refused != is->refused, "Refused");
	if (names.n == 0)
		return 0;
	return sd_bus_emit_properties_changed_strv(sd, bus_job_path(is->job, path), BUS_JOB_INTERFACE, names.list);
}

int bus_vm_tell(sd_bus *sd, const struct host_vm *vm, struct bus_vm_seen *seen)
{
	struct bus_vm_seen was = *seen;
	char path[BUS_VM_PATH_SIZE];
	struct names names = {0};
	int r = 0;

	bus_vm_look(vm, seen);
	add_session(&names, &was, seen);
	add_counts(&names, &was, seen);
	add_vcpus(&names, &was, seen);
	if (names.n > 0)
		r = sd_bus_emit_properties_changed_strv(sd, bus_vm_path(vm, path), BUS_VM_INTERFACE, names.list);
	if (r >= 0)
		r = tell_job(sd, &was, seen);
	return r;
}
