/* SPDX-License-Identifier: GPL-2.0-or-later */

#include "daemon/bus/bus_vm.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/core/cpulist.h"
#include "daemon/bus/bus_job.h"
#include "daemon/base/util.h"
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

static bool is_enabled(const struct vm *vm, const struct vcpu *v)
{
	return (v->flags & (VCPU_ENABLED | VCPU_DURABLE)) == (VCPU_ENABLED | VCPU_DURABLE);
}

static bool is_wanted(const struct vm *vm, const struct vcpu *v)
{
	return is_enabled(vm, v) && v->flags & VCPU_WANTED;
}

static bool is_online(const struct vm *vm, const struct vcpu *v)
{
	return v->flags & VCPU_ONLINE;
}

static bool is_pending(const struct vm *vm, const struct vcpu *v)
{
	return v->flags & VCPU_IN_JOB;
}

/* What a job asks back has the job's time; what the job has to wait for, because there is no room, has not. */
static bool is_overdue(const struct vm *vm, const struct vcpu *v)
{
	if (!(v->flags & VCPU_ENABLED))
		return v->flags & VCPU_ONLINE;
	return !(v->flags & VCPU_WANTED) && (!(v->flags & VCPU_IN_JOB) || vm_waits(vm) == VM_WAITS_FOR_ROOM);
}

static int append_set(sd_bus_message *reply, const struct vm *vm, bool (*is)(const struct vm *vm, const struct vcpu *v))
{
	char text[CPULIST_TEXT_SIZE];
	struct cpulist set = {0};

	for (uint32_t i = 0; i < vm->possible; i++)
		if (is(vm, &vm->vcpus[i]))
			cpulist_add(&set, i);
	return sd_bus_message_append(reply, "s", cpulist_format(&set, text));
}

static uint32_t count_overdue(const struct vm *vm)
{
	uint32_t n = 0;

	for (uint32_t i = 0; i < vm->possible; i++)
		n += is_overdue(vm, &vm->vcpus[i]);
	return n;
}

static struct vm_counts counts(const struct vm *vm)
{
	struct vm_counts c;

	vm_counts(vm, &c);
	return c;
}

static struct host_vm_view view(const struct host_vm *vm)
{
	struct host_vm_view v;

	host_vm_view(vm, &v);
	return v;
}

/* ---- credit ---- */

enum credit_state {
	CREDIT_UNMETERED, /* the class does not meter bursts */
	CREDIT_AVAILABLE,
	CREDIT_SPENT, /* none is left: no burst until `resume` is earned */
	CREDIT_OWED,  /* less than none: the guest has not given back what it cannot pay for */
};

static enum credit_state credit_state(const struct host_vm_view *v)
{
	if (!v->fleet.metered)
		return CREDIT_UNMETERED;
	if (v->fleet.balance < 0)
		return CREDIT_OWED;
	return v->fleet.spent ? CREDIT_SPENT : CREDIT_AVAILABLE;
}

static const char *credit_state_name(const struct host_vm_view *v)
{
	static const char *const names[] = {
		[CREDIT_UNMETERED] = "unmetered",
		[CREDIT_AVAILABLE] = "available",
		[CREDIT_SPENT] = "spent",
		[CREDIT_OWED] = "owed",
	};

	return names[credit_state(v)];
}

/* What it changes by per ns as things are: for clients that show it without asking all the time. */
static int32_t credit_rate(const struct vm *vm, const struct host_vm_view *v)
{
	bool paused = vm->link == VM_CONNECTED && vm->run_state == CPUPOLICY_RUN_PAUSED;
	int32_t rate = (int32_t)v->fleet.guaranteed - (int32_t)counts(vm).enabled;

	if (!v->fleet.metered || vm->link == VM_STOPPED || (paused && !vm->class->bill_paused))
		return 0;
	return rate > 0 && v->fleet.balance >= vm->class->burst.cap ? 0 : rate;
}

static int64_t credit_cap(const struct vm *vm)
{
	return vm->class->burst.metered ? vm->class->burst.cap : 0;
}

/* ---- getters ---- */

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

/* What the policy says: `v` is the view of it. */
#define VIEW_GETTER(name, signature, expression)                                                                       \
	GETTER_HEAD(name)                                                                                              \
	{                                                                                                              \
		const struct vm *vm __attribute__((unused)) = host_vm_core(userdata);                                  \
		const struct host_vm_view v = view(userdata);                                                          \
                                                                                                                       \
		return sd_bus_message_append(reply, signature, expression);                                            \
	}

#define SET_GETTER(name, is)                                                                                           \
	GETTER_HEAD(name)                                                                                              \
	{                                                                                                              \
		return append_set(reply, host_vm_core(userdata), is);                                                  \
	}

/* "" is none on the bus */
static const char *text(const char *name)
{
	return name ? name : "";
}

/* 0: no process of this boot of the host is known */
static uint32_t pid_on_bus(const struct peer *peer)
{
	return peer->pid > 0 ? (uint32_t)peer->pid : 0;
}

struct cpu {
	uint64_t used, granted;
};

static struct cpu cpu(const struct host_vm *vm)
{
	struct cpu c;

	host_vm_cpu(vm, &c.used, &c.granted);
	return c;
}

/* What is whole is asked for in vCPUs, whoever asked. */
static uint32_t cpu_millis(const struct vm *vm)
{
	return vm->millis % 1000 > 0 ? vm->millis : 0;
}

GETTER(name, "s", host_vm_name(host_vm))
GETTER(uuid, "s", host_vm_uuid(host_vm))
GETTER(state, "s", bus_vm_state(host_vm))
GETTER(possible, "u", vm->possible)
GETTER(boot, "u", vm->boot)
VIEW_GETTER(class, "s", v.class)
VIEW_GETTER(class_source, "s", policy_by_name(v.class_by))
VIEW_GETTER(class_rule, "u", v.class_by == POLICY_BY_RULE ? v.class_rule : 0)
VIEW_GETTER(tenant, "s", text(v.tenant))
VIEW_GETTER(tenant_source, "s", policy_by_name(v.tenant_by))
VIEW_GETTER(tenant_rule, "u", v.tenant_by == POLICY_BY_RULE ? v.tenant_rule : 0)
VIEW_GETTER(assigned_class, "s", text(v.assigned_class))
VIEW_GETTER(assigned_tenant, "s", text(v.assigned_tenant))
VIEW_GETTER(assigned_uid, "u", (uint32_t)v.assigned_uid)
VIEW_GETTER(guaranteed, "u", v.fleet.guaranteed)
VIEW_GETTER(limit, "u", v.fleet.limit)
GETTER(priority, "u", vm->class->priority)
VIEW_GETTER(target_reason, "s", rule_name(v.fleet.bound))
VIEW_GETTER(allowance, "u", v.fleet.allowance)
VIEW_GETTER(entitled, "u", v.fleet.entitled)
VIEW_GETTER(waiting, "b", (int)v.fleet.waiting)
VIEW_GETTER(credit, "x", v.fleet.balance)
VIEW_GETTER(credit_state, "s", credit_state_name(&v))
VIEW_GETTER(credit_rate, "i", credit_rate(vm, &v))
GETTER(credit_cap, "x", credit_cap(vm))
VIEW_GETTER(used_guaranteed, "t", v.guaranteed_ns)
VIEW_GETTER(used_burst, "t", v.burst_ns)
GETTER(desired, "u", vm->desired)
GETTER(desired_uid, "u", (uint32_t)host_vm_desired_uid(host_vm))
GETTER(target, "u", vm_target(vm))
GETTER(enabled, "u", counts(vm).enabled)
GETTER(online, "u", counts(vm).online)
GETTER(overdue, "u", count_overdue(vm))
SET_GETTER(enabled_set, is_enabled)
SET_GETTER(online_set, is_online)
SET_GETTER(pending_set, is_pending)
SET_GETTER(overdue_set, is_overdue)
GETTER(generation, "u", vm->generation)
GETTER(confirmed, "u", vm->confirmed)
GETTER(observe, "b", (int)vm->observe)
GETTER(notifiable, "b", (int)vm->notify)
GETTER(boot_removable, "b", (int)vm->boot_removable)
GETTER(denied, "t", vm->denied)
VIEW_GETTER(announced_class, "s", text(v.announced_class))
VIEW_GETTER(announced_tenant, "s", text(v.announced_tenant))
VIEW_GETTER(provider, "s", text(v.provider))
GETTER(enforcement, "s", host_vm_enforcement(host_vm))
GETTER(realm, "b", (int)vm->realm)
GETTER(cpu_millis, "u", cpu_millis(vm))
GETTER(quota, "u", vm_quota(vm))
GETTER(quota_state, "s", host_quota_state_name(host_vm_quota_state(host_vm)))
GETTER(cpu_time, "t", cpu(host_vm).used)
GETTER(cpu_granted, "t", cpu(host_vm).granted)
GETTER(vmm_uid, "u", (uint32_t)host_vm_peer(host_vm)->uid)
GETTER(vmm_pid, "u", pid_on_bus(host_vm_peer(host_vm)))

GETTER_HEAD(vcpus)
{
	const struct vm *vm = host_vm_core(userdata);
	int r;

	r = sd_bus_message_open_container(reply, 'a', "(ubbbbbsu)");
	for (uint32_t i = 0; r >= 0 && i < vm->possible; i++) {
		const struct vcpu *v = &vm->vcpus[i];

		r = sd_bus_message_append(reply, "(ubbbbbsu)", i, (int)is_enabled(vm, v), (int)is_wanted(vm, v),
					  (int)(v->flags & VCPU_ACKED ? 1 : 0), (int)is_online(vm, v),
					  (int)is_overdue(vm, v), cpupolicy_msg_reason_name(v->reason), v->denied);
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

static int set_count(sd_bus_message *m, void *userdata, bus_call_fn perform, sd_bus_error *ret_error)
{
	/* userdata is the VM that find() found; what bus_vm_add() was given is the slot's */
	const struct bus_vm_context *context =
		sd_bus_slot_get_userdata(sd_bus_get_current_slot(sd_bus_message_get_bus(m)));
	struct bus_request request = {.action = BUS_ACTION_RESIZE, .vm = host_vm_uuid(userdata)};
	int r;

	r = sd_bus_message_read(m, "u", &request.count);
	if (r < 0)
		return r;
	return bus_call(context->calls, m, &request, perform, ret_error);
}

static int set_vcpu_count(sd_bus_message *m, void *userdata, sd_bus_error *ret_error)
{
	return set_count(m, userdata, bus_call_resize, ret_error);
}

static int set_cpu_millis(sd_bus_message *m, void *userdata, sd_bus_error *ret_error)
{
	return set_count(m, userdata, bus_call_resize_millis, ret_error);
}

#define CHANGES SD_BUS_VTABLE_PROPERTY_EMITS_CHANGE

static const sd_bus_vtable vm_vtable[] = {
	SD_BUS_VTABLE_START(0),
	SD_BUS_METHOD_WITH_ARGS("SetVcpuCount", SD_BUS_ARGS("u", count), SD_BUS_RESULT("o", job), set_vcpu_count,
				SD_BUS_VTABLE_UNPRIVILEGED),
	SD_BUS_METHOD_WITH_ARGS("SetCpuMillis", SD_BUS_ARGS("u", millis), SD_BUS_RESULT("o", job), set_cpu_millis,
				SD_BUS_VTABLE_UNPRIVILEGED),
	SD_BUS_PROPERTY("Name", "s", get_name, 0, SD_BUS_VTABLE_PROPERTY_CONST),
	SD_BUS_PROPERTY("Uuid", "s", get_uuid, 0, SD_BUS_VTABLE_PROPERTY_CONST),
	SD_BUS_PROPERTY("State", "s", get_state, 0, CHANGES),
	SD_BUS_PROPERTY("Possible", "u", get_possible, 0, CHANGES),
	SD_BUS_PROPERTY("Boot", "u", get_boot, 0, CHANGES),
	SD_BUS_PROPERTY("Class", "s", get_class, 0, CHANGES),
	SD_BUS_PROPERTY("ClassSource", "s", get_class_source, 0, CHANGES),
	SD_BUS_PROPERTY("ClassRule", "u", get_class_rule, 0, CHANGES),
	SD_BUS_PROPERTY("Tenant", "s", get_tenant, 0, CHANGES),
	SD_BUS_PROPERTY("TenantSource", "s", get_tenant_source, 0, CHANGES),
	SD_BUS_PROPERTY("TenantRule", "u", get_tenant_rule, 0, CHANGES),
	SD_BUS_PROPERTY("AssignedClass", "s", get_assigned_class, 0, CHANGES),
	SD_BUS_PROPERTY("AssignedTenant", "s", get_assigned_tenant, 0, CHANGES),
	SD_BUS_PROPERTY("AssignedUid", "u", get_assigned_uid, 0, CHANGES),
	SD_BUS_PROPERTY("AnnouncedClass", "s", get_announced_class, 0, CHANGES),
	SD_BUS_PROPERTY("AnnouncedTenant", "s", get_announced_tenant, 0, CHANGES),
	SD_BUS_PROPERTY("Provider", "s", get_provider, 0, CHANGES),
	SD_BUS_PROPERTY("Enforcement", "s", get_enforcement, 0, CHANGES),
	SD_BUS_PROPERTY("Realm", "b", get_realm, 0, CHANGES),
	SD_BUS_PROPERTY("CpuMillis", "u", get_cpu_millis, 0, CHANGES),
	SD_BUS_PROPERTY("Quota", "u", get_quota, 0, CHANGES),
	SD_BUS_PROPERTY("QuotaState", "s", get_quota_state, 0, CHANGES),
	SD_BUS_PROPERTY("Guaranteed", "u", get_guaranteed, 0, CHANGES),
	SD_BUS_PROPERTY("Limit", "u", get_limit, 0, CHANGES),
	SD_BUS_PROPERTY("Priority", "u", get_priority, 0, CHANGES),
	SD_BUS_PROPERTY("Desired", "u", get_desired, 0, CHANGES),
	SD_BUS_PROPERTY("DesiredUid", "u", get_desired_uid, 0, CHANGES),
	SD_BUS_PROPERTY("Target", "u", get_target, 0, CHANGES),
	SD_BUS_PROPERTY("TargetReason", "s", get_target_reason, 0, CHANGES),
	SD_BUS_PROPERTY("Allowance", "u", get_allowance, 0, CHANGES),
	SD_BUS_PROPERTY("Entitled", "u", get_entitled, 0, CHANGES),
	SD_BUS_PROPERTY("Waiting", "b", get_waiting, 0, CHANGES),
	SD_BUS_PROPERTY("Credit", "x", get_credit, 0, CHANGES),
	SD_BUS_PROPERTY("CreditState", "s", get_credit_state, 0, CHANGES),
	SD_BUS_PROPERTY("CreditRate", "i", get_credit_rate, 0, CHANGES),
	SD_BUS_PROPERTY("CreditCap", "x", get_credit_cap, 0, CHANGES),
	SD_BUS_PROPERTY("UsedGuaranteed", "t", get_used_guaranteed, 0, 0),
	SD_BUS_PROPERTY("UsedBurst", "t", get_used_burst, 0, 0),
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
	SD_BUS_PROPERTY("CpuTime", "t", get_cpu_time, 0, SD_BUS_VTABLE_PROPERTY_EXPLICIT),
	SD_BUS_PROPERTY("CpuGranted", "t", get_cpu_granted, 0, SD_BUS_VTABLE_PROPERTY_EXPLICIT),
	SD_BUS_PROPERTY("VmmUid", "u", get_vmm_uid, 0, CHANGES),
	SD_BUS_PROPERTY("VmmPid", "u", get_vmm_pid, 0, CHANGES),
	SD_BUS_PROPERTY("Vcpus", "a(ubbbbbsu)", get_vcpus, 0,
			SD_BUS_VTABLE_PROPERTY_EMITS_INVALIDATION | SD_BUS_VTABLE_PROPERTY_EXPLICIT),
	SD_BUS_PROPERTY("Job", "o", get_job, 0, CHANGES),
	SD_BUS_PROPERTY("LastJob", "(tuusbu)", get_last_job, 0, CHANGES),
	SD_BUS_SIGNAL_WITH_ARGS("Denied", SD_BUS_ARGS("u", vcpu, "s", reason, "u", count, "b", enforced, "s", rule), 0),
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
#define HASH_START UINT64_C(0xcbf29ce484222325)

static uint64_t mix(uint64_t h, uint64_t value)
{
	return (h ^ value) * UINT64_C(0x100000001b3);
}

static uint64_t mix_text(uint64_t h, const char *t)
{
	for (; t && *t; t++)
		h = mix(h, (unsigned char)*t);
	return mix(h, 0x100);
}

static uint64_t hash_vcpus(const struct vm *vm)
{
	uint64_t h = mix(HASH_START, vm_waits(vm) == VM_WAITS_FOR_ROOM);

	for (uint32_t i = 0; i < vm->possible; i++)
		h = mix(h, vm->vcpus[i].flags);
	return h;
}

static uint64_t hash_choice(const char *name, const char *assigned, enum policy_by by, uint32_t rule)
{
	return mix(mix(mix_text(mix_text(HASH_START, name), assigned), by), rule);
}

static void look_policy(const struct host_vm *vm, struct bus_vm_seen *ret)
{
	const struct vm *core = host_vm_core(vm);
	const struct host_vm_view v = view(vm);

	ret->class = mix_text(hash_choice(v.class, v.assigned_class, v.class_by, v.class_rule), v.announced_class);
	ret->tenant =
		mix_text(hash_choice(v.tenant, v.assigned_tenant, v.tenant_by, v.tenant_rule), v.announced_tenant);
	ret->provider = mix_text(HASH_START, v.provider);
	ret->assigned_uid = (uint32_t)v.assigned_uid;
	ret->guaranteed = (uint16_t)v.fleet.guaranteed;
	ret->limit = (uint16_t)v.fleet.limit;
	ret->priority = (uint16_t)core->class->priority;
	ret->allowance = v.fleet.allowance;
	ret->entitled = v.fleet.entitled;
	ret->target = (uint16_t)v.fleet.target;
	ret->reason = (uint8_t)v.fleet.bound;
	ret->credit = v.fleet.balance;
	ret->credit_cap = credit_cap(core);
	ret->credit_rate = credit_rate(core, &v);
	ret->credit_state = (uint8_t)credit_state(&v);
	ret->flags |= (uint8_t)(v.fleet.waiting << 3);
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
		.millis = cpu_millis(core),
		.quota = vm_quota(core),
		.quota_state = (uint8_t)host_vm_quota_state(vm),
		.means = (uint8_t)core->means,
		.possible = (uint16_t)core->possible,
		.desired = (uint16_t)core->desired,
		.boot = (uint16_t)core->boot,
		.pending = (uint16_t)core->job.pending,
		.settled = (uint16_t)core->job.settled,
		.refused = (uint16_t)core->job.refused,
		.link = (uint8_t)core->link,
		.run_state = (uint8_t)core->run_state,
		.flags = (uint8_t)(core->observe << 0 | core->notify << 1 | core->boot_removable << 2 |
				   core->realm << 4),
	};
	look_policy(vm, ret);
}

struct names {
	char *list[64];
	size_t n;
};

static void add(struct names *names, bool differs, const char *name)
{
	/* The last one ends the list; the vtable has fewer properties than it has room. */
	if (differs && names->n + 1 < ARRAY_SIZE(names->list))
		names->list[names->n++] = (char *)(uintptr_t)name;
}

static void add_all(struct names *names, bool differ, const char *const *list, size_t n)
{
	for (size_t i = 0; i < n; i++)
		add(names, differ, list[i]);
}

static void add_policy(struct names *names, const struct bus_vm_seen *was, const struct bus_vm_seen *is)
{
	static const char *const class[] = {"Class", "ClassSource", "ClassRule", "AssignedClass", "AnnouncedClass"};
	static const char *const tenant[] = {"Tenant", "TenantSource", "TenantRule", "AssignedTenant",
					     "AnnouncedTenant"};

	add_all(names, was->class != is->class, class, ARRAY_SIZE(class));
	add_all(names, was->tenant != is->tenant, tenant, ARRAY_SIZE(tenant));
	add(names, was->assigned_uid != is->assigned_uid, "AssignedUid");
	add(names, was->guaranteed != is->guaranteed, "Guaranteed");
	add(names, was->limit != is->limit, "Limit");
	add(names, was->priority != is->priority, "Priority");
	add(names, was->credit_cap != is->credit_cap, "CreditCap");
	add(names, was->credit_rate != is->credit_rate, "CreditRate");
	add(names, was->credit_state != is->credit_state, "CreditState");
	/* it changes all the time: told along with what else does, when it is another than one would expect as well */
	add(names, was->credit != is->credit, "Credit");
}

static void add_counts(struct names *names, const struct bus_vm_seen *was, const struct bus_vm_seen *is)
{
	add(names, was->possible != is->possible, "Possible");
	add(names, was->boot != is->boot, "Boot");
	add(names, was->desired != is->desired, "Desired");
	add(names, was->desired_uid != is->desired_uid, "DesiredUid");
	add(names, was->millis != is->millis, "CpuMillis");
	add(names, was->quota != is->quota, "Quota");
	add(names, was->quota_state != is->quota_state, "QuotaState");
	add(names, was->quota_state != is->quota_state || was->means != is->means, "Enforcement");
	add(names, was->provider != is->provider, "Provider");
	add(names, was->target != is->target, "Target");
	add(names, was->reason != is->reason, "TargetReason");
	add(names, was->allowance != is->allowance, "Allowance");
	add(names, was->entitled != is->entitled, "Entitled");
}

static void add_vcpus(struct names *names, const struct bus_vm_seen *was, const struct bus_vm_seen *is)
{
	static const char *const derived[] = {"Enabled",   "Online",     "Overdue",   "EnabledSet",
					      "OnlineSet", "PendingSet", "OverdueSet"};

	add_all(names, was->sets != is->sets, derived, ARRAY_SIZE(derived));
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
	add(names, flags & 1 << 3, "Waiting");
	add(names, flags & 1 << 4, "Realm");
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
	add_policy(&names, &was, seen);
	add_vcpus(&names, &was, seen);
	if (names.n > 0)
		r = sd_bus_emit_properties_changed_strv(sd, bus_vm_path(vm, path), BUS_VM_INTERFACE, names.list);
	if (r >= 0)
		r = tell_job(sd, &was, seen);
	return r;
}
