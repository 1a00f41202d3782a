/* SPDX-License-Identifier: GPL-2.0-or-later */

/* VMs as the last daemon left them: its records, read at start. */

#include <string.h>

#include "daemon/host/host_private.h"

/* A job in flight has its whole time again: the guest's VMM could not report while the daemon was away. */
static void restore_job(struct vm *core, const struct job *job, uint64_t now)
{
	job_start(&core->job, job->id, job->from, job->to, core->class->job_timeout, false, now);
	core->job.uid = job->uid;
}

static void restore_core(struct vm *core, const struct store_vm *record, uint64_t now)
{
	core->boot = record->boot;
	core->desired = record->desired;
	core->desired_set = record->desired_set;
	core->millis = record->desired_millis;
	core->means = record->means;
	core->realm = record->realm;
	core->boot_removable = record->boot_removable;
	core->notify = record->notify;
	core->epoch = record->epoch;
	core->last_job = record->last_job;
	if (record->job.id != 0)
		restore_job(core, &record->job, now);
	if (!record->stopped)
		vm_restore_grants(core, record->enabled, record->wanted);
}

static bool same_name(const char *a, const char *b)
{
	return a && b ? strcmp(a, b) == 0 : a == b;
}

struct row_target {
	struct host_vm *vm;
	const struct store_vm *record;
	int error;
};

static void on_row(const struct usage_row *row, void *userdata)
{
	struct row_target *t = userdata;
	int r = host_meter_add_row(t->vm, row, t->record->class, t->record->tenant);

	if (r < 0)
		t->error = r;
}

static uint32_t count_enabled(const struct store_vm *record)
{
	uint32_t n = 0;

	for (uint32_t i = 0; i < record->possible; i++)
		n += record->enabled[i / 8] >> i % 8 & 1;
	return n;
}

/* Credit and usage up to now, by the class that was in force. Where the policy does not have it any more, what it
 * guaranteed is not known: then as the one that is. */
static void meter_as_before(struct host_vm *vm, struct store_vm *record, bool billed, struct row_target *target)
{
	const struct service_class *known = policy_class(vm->host->policy, record->class);
	const struct service_class *class = known ? known : vm->decision.assignment.class;
	struct fleet_saved *meters = &record->meters;
	uint32_t guaranteed = class_guaranteed(class, record->possible), enabled = count_enabled(record);
	uint64_t now = host_now(vm->host);
	struct usage usage = {.at = meters->at, .row = meters->row, .last = meters->last_row};
	struct credit credit = {.balance = meters->balance,
				.at = meters->at,
				.opened = meters->credit_opened,
				.spent = meters->credit_spent};

	if (billed) {
		usage_advance(&usage, &vm->host->fleet.clock, guaranteed, enabled, now, on_row, target);
		credit_advance(&credit, &class->burst, guaranteed, enabled, now);
	}
	usage_end_row(&usage, on_row, target);
	*meters = (struct fleet_saved){
		.credit_opened = credit.opened,
		.credit_spent = credit.spent,
		.balance = credit.balance,
		.at = now,
		.last_row = usage.last,
	};
}

/* The row that was open is of the class and tenant that were in force; what follows may be of others. */
static int restore_class(struct host_vm *vm, struct store_vm *record, bool alive)
{
	const struct fleet_assignment *now = &vm->decision.assignment;
	const char *tenant = now->tenant == FLEET_NO_TENANT ? NULL : vm->host->fleet.tenants[now->tenant].name;
	struct row_target target = {.vm = vm, .record = record};

	if (!record->class || (same_name(record->class, now->class->name) && same_name(record->tenant, tenant)))
		return 0;
	meter_as_before(vm, record, alive, &target);
	return target.error;
}

/* Up to when it was billed, on this clock. What another boot of the host left open is the tenant's. */
static void restore_time(struct store_vm *record, uint64_t now)
{
	if (record->other_boot || record->meters.at == HOST_METERS_STAND || record->meters.at > now)
		record->meters.at = now;
}

static int restore(struct host_vm *vm, struct store_vm *record)
{
	struct host *host = vm->host;
	uint64_t now = host_now(host);
	const struct vm_handover *handover;
	bool alive;
	int r;

	vm->billed = !record->stopped && record->meters.at != HOST_METERS_STAND;
	memcpy(vm->token, record->token, sizeof(vm->token));
	vm->peer = (struct peer){.uid = record->uid, .pid = record->pid, .start_time = record->start_time};
	vm->desired_uid = record->desired_uid;
	vm->visible = true;
	vm->quota.unknown = !record->stopped;
	restore_core(vm->core, record, now);
	handover = host_take_over(vm);
	alive = handover || (!record->stopped && peer_alive(record->pid, record->start_time));
	restore_time(record, now);
	r = restore_class(vm, record, alive);
	if (r >= 0)
		r = host_vm_enter(vm, record, handover, alive);
	if (r >= 0)
		host_cpu_begin(vm);
	if (r >= 0 && vm->member.billed)
		host_meter_arm(vm);
	return r;
}

int host_restore(struct host *host, struct store_vm *record)
{
	const struct host_assigned assigned = {
		.class = record->assigned_class, .tenant = record->assigned_tenant, .uid = record->assigned_uid};
	uint64_t newest = record->job.id > record->last_job.id ? record->job.id : record->last_job.id;
	struct host_vm *vm;
	int r;

	r = host_vm_new(&vm, host, record->uuid, record->name, record->possible, record->uid, &assigned);
	if (r < 0)
		return r;
	r = restore(vm, record);
	if (r < 0) {
		vm->live = host_session_free(vm->live);
		host_vm_free(vm);
		return r;
	}
	host_index_set_job(&host->index, vm, vm->core->job.id);
	if (host->next_job <= newest)
		host->next_job = newest + 1;
	return 0;
}
