/* SPDX-License-Identifier: GPL-2.0-or-later */

/* A VM on record: it comes with its first registration, or from the store, and goes when nothing is asked of it any more. */

#include <string.h>

#include "daemon/host/host_private.h"

/* ---- making one ---- */

struct host_vm *host_vm_free(struct host_vm *vm)
{
	if (!vm)
		return NULL;
	host_session_unwatch(vm);
	host_quota_drop(vm);
	while (vm->requests) {
		struct host_request *request = vm->requests;

		vm->requests = request->next;
		host_request_free(request);
	}
	host_meter_drop_rows(vm, vm->n_rows);
	host_assigned_clear(&vm->assigned);
	loop_timer_free(vm->record.timer);
	vm_free(vm->core);
	peer_clear(&vm->peer);
	free(vm->rows);
	free(vm->denials);
	free(vm->record.enabled);
	free(vm->name);
	free(vm);
	return NULL;
}
DEFINE_CLEANUP(struct host_vm *, host_vm_free)

static void set_core(struct host_vm *vm, struct vm *core)
{
	vm->core = vm->member.core = core;
}

static void set_name(struct host_vm *vm, char *name)
{
	vm->member.name = vm->name = name;
}

int host_vm_new(struct host_vm **ret, struct host *host, const uint8_t uuid[CPUPOLICY_UUID_SIZE], const char *name,
		uint32_t possible, uid_t uid, const struct host_assigned *assigned)
{
	_cleanup_(host_vm_freep) struct host_vm *vm = calloc(1, sizeof(*vm));
	struct policy_subject subject;
	struct vm *core;
	int r;

	if (!vm)
		return -ENOMEM;
	vm->host = host;
	vm->pidfd = -1;
	vm->peer.uid = uid;
	vm->desired_uid = (uint32_t)-1;
	vm->record.retry_at = UINT64_MAX;
	vm->quota.confirmed = vm->quota.told_quota = VM_QUOTA_NONE;
	memcpy(vm->uuid, uuid, sizeof(vm->uuid));
	memcpy(vm->member.uuid, uuid, sizeof(vm->member.uuid));
	uuid_format(vm->uuid_text, uuid);
	set_name(vm, strdup(name));
	if (!vm->name)
		return -ENOMEM;
	r = host_assigned_copy(&vm->assigned, assigned->class, assigned->tenant, assigned->uid);
	if (r < 0)
		return r;
	r = loop_timer_new(&vm->record.timer, host->loop, host_record_timer, vm);
	if (r < 0)
		return r;
	subject = host_policy_subject(vm, uid);
	policy_assign(host->policy, &subject, &vm->decision);
	r = vm_new(&core, possible, vm->decision.assignment.class);
	if (r < 0)
		return r;
	set_core(vm, core);
	*ret = TAKE(vm);
	return 0;
}

int host_vm_enter(struct host_vm *vm, const struct store_vm *record, const struct vm_handover *handover, bool alive)
{
	struct host *host = vm->host;
	uint64_t now = host_now(host);
	int r = host_index_add(&host->index, vm);

	if (r < 0)
		return r;
	r = fleet_add(&host->fleet, &vm->member, &vm->decision.assignment, now);
	if (r < 0) {
		host_index_remove(&host->index, vm);
		return r;
	}
	vm->entered = true;
	if (record)
		fleet_restore(&host->fleet, &vm->member, &record->meters, alive, now);
	else
		host_fleet_take(vm); /* what is new has nothing to do before it starts */
	if (host->recorder) {
		struct policy_subject subject = host_policy_subject(vm, vm->peer.uid);

		recorder_add(host->recorder, &vm->member, &subject, record, handover, alive, now);
	}
	return 0;
}

/* ---- the same VM, started anew as another machine ---- */

/* Its grants, none, need no moving; what outlives a VM's end does. */
static int new_core(struct vm **ret, const struct vm *old, uint32_t possible)
{
	struct vm *core;
	int r = vm_new(&core, possible, old->class);

	if (r < 0)
		return r;
	core->desired = old->desired;
	core->desired_set = old->desired_set;
	core->millis = old->millis;
	core->means = old->means;
	core->realm = old->realm;
	core->epoch = old->epoch;
	core->generation = old->generation;
	core->revision = old->revision;
	core->stored = old->stored;
	core->denied = old->denied;
	core->last_job = old->last_job;
	*ret = core;
	return 0;
}

/* The fleet knows it by its core: it leaves and comes back, with what was metered. */
static int swap_core(struct host_vm *vm, struct vm *core)
{
	struct host *host = vm->host;
	const struct fleet_assignment assignment = {.class = vm->member.class, .tenant = vm->member.tenant};
	uint64_t now = host_now(host);
	struct fleet_saved saved;
	int r;

	fleet_save(&host->fleet, &vm->member, now, &saved);
	fleet_remove(&host->fleet, &vm->member, now);
	saved.last_row = vm->member.usage.last;
	saved.row = (struct usage_row){0};
	vm_free(vm->core);
	set_core(vm, core);
	vm->member = (struct fleet_vm){.core = core, .name = vm->name};
	memcpy(vm->member.uuid, vm->uuid, sizeof(vm->member.uuid));
	r = fleet_add(&host->fleet, &vm->member, &assignment, now); /* cannot fail: its slots are there */
	if (r < 0)
		return r;
	fleet_restore(&host->fleet, &vm->member, &saved, false, now);
	if (host->recorder)
		recorder_reshape(host->recorder, &vm->member, now);
	return 0;
}

int host_vm_reshape(struct host_vm *vm, const char *name, uint32_t possible)
{
	_cleanup_free_ char *copy = strdup(name);
	struct vm *core;
	int r;

	if (!copy)
		return -ENOMEM;
	r = new_core(&core, vm->core, possible);
	if (r < 0)
		return r;
	host_index_remove(&vm->host->index, vm);
	free(vm->name);
	set_name(vm, TAKE(copy));
	free(vm->denials);
	vm->denials = NULL;
	vm->denied = false;
	r = host_index_add(&vm->host->index, vm); /* cannot fail either: the name was looked up */
	return r < 0 ? r : swap_core(vm, core);
}

/* ---- going ---- */

void host_vm_hold(struct host_vm *vm)
{
	vm->holds++;
}

void host_vm_release(struct host_vm *vm)
{
	vm->holds--;
	host_vm_reap(vm);
}

void host_vm_reap(struct host_vm *vm)
{
	struct host_vm **at = &vm->host->removed;

	if (!vm->removed || vm->holds > 0 || vm->record.writing != 0)
		return;
	while (*at != vm)
		at = &(*at)->removed_next;
	*at = vm->removed_next;
	host_vm_free(vm);
}

void host_vm_close_sessions(struct host_vm *vm, const char *why)
{
	struct host_session *sessions[] = {vm->live, vm->incoming, vm->retired};

	vm->live = vm->incoming = vm->retired = NULL;
	for (size_t i = 0; i < ARRAY_SIZE(sessions); i++)
		host_session_close(sessions[i], why);
}

static void leave(struct host_vm *vm)
{
	struct host *host = vm->host;
	uint64_t now = host_now(host);

	if (host->recorder)
		recorder_remove(host->recorder, &vm->member, now);
	fleet_remove(&host->fleet, &vm->member, now);
	host_index_remove(&host->index, vm);
	vm->entered = false;
}

void host_vm_remove(struct host_vm *vm, const char *why)
{
	struct host *host = vm->host;
	bool recorded = vm->visible || vm->record.writing != 0;

	vm->removed = true;
	vm->removed_next = host->removed;
	host->removed = vm;
	host_vm_hold(vm);
	host_vm_close_sessions(vm, why);
	host_request_drop(vm, HOST_NO_SUCH_VM, "the VM has ended");
	leave(vm);
	if (vm->record.writing == 0)
		host_meter_written(vm, false);
	host_notice_drop(vm);
	host_session_unwatch(vm);
	host_quota_drop(vm);
	if (!vm->record.out_of_memory)
		loop_timer_set(vm->record.timer, UINT64_MAX);
	if (recorded && !vm->forgetting)
		host_record_delete(vm);
	if (vm->visible && host->observer && host->observer->removed)
		host->observer->removed(vm, host->observer_data);
	vm->data = NULL;
	host_vm_release(vm);
	/* What it had is there for others. */
	host_fleet_settle(host);
	host_notice_host(host);
}
