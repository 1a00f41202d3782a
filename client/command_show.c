/* SPDX-License-Identifier: GPL-2.0-or-later */

#include "client/commands.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "client/connection.h"
#include "client/outcome.h"
#include "client/output.h"
#include "client/table.h"
#include "daemon/util.h"

DEFINE_CLEANUP(struct connection *, connection_free)
DEFINE_CLEANUP(struct table *, table_free)

/* ---- the VM ---- */

static int add_line(struct table *table, const char *name, const char *value)
{
	int r;

	r = table_add(table, name);
	return r < 0 ? r : table_add(table, value);
}

static int add_count(struct table *table, const char *name, uint32_t count, const char *set)
{
	int r;

	r = table_add(table, name);
	if (r < 0)
		return r;
	return *set ? table_addf(table, "%" PRIu32 " (%s)", count, set) : table_addf(table, "%" PRIu32, count);
}

static int add_asked(struct table *table, const struct vm_info *vm)
{
	int r;

	r = table_add(table, "Desired");
	if (r < 0)
		return r;
	if (vm->desired_uid == VM_INFO_NOBODY)
		return table_addf(table, "%" PRIu32 " (as booted)", vm->desired);
	return table_addf(table, "%" PRIu32 " (asked for by %s)", vm->desired, output_user(vm->desired_uid));
}

static int add_vmm(struct table *table, const struct vm_info *vm)
{
	int r;

	r = table_add(table, "VMM");
	if (r < 0)
		return r;
	if (strcmp(vm->state, "stopped") == 0)
		return table_add(table, "none");
	return table_addf(table, "process %" PRIu32 " of %s, %s", vm->vmm_pid, output_user(vm->vmm_uid),
			  vm->generation == vm->confirmed ? "up to date" : "has not applied the latest policy");
}

static int add_jobs(struct table *table, const struct vm_info *vm)
{
	const struct vm_job *last = &vm->last_job;
	uint64_t id = vm_info_job_id(vm->job);
	int r = 0;

	if (id != 0) {
		r = table_add(table, "Job");
		if (r >= 0)
			r = table_addf(table, "%" PRIu64 ", waiting for vCPU %s", id, vm->pending_set);
	}
	if (r >= 0 && last->id != 0) {
		r = table_add(table, "Last job");
		if (r >= 0)
			r = table_addf(table, "%" PRIu64 ": %" PRIu32 " -> %" PRIu32 " by %s: %s", last->id, last->from,
				       last->to, output_user(last->uid), last->result);
	}
	return r;
}

static int add_notes(struct table *table, const struct vm_info *vm)
{
	int r = 0;

	if (vm->observe)
		r = add_line(table, "Observed", "refusals are recorded, nothing is denied");
	if (r >= 0 && !vm->notifiable && strcmp(vm->state, "stopped") != 0)
		r = add_line(table, "Guest", "cannot be told of changes (it has no ACPI)");
	if (r >= 0 && !vm->boot_removable && strcmp(vm->state, "stopped") != 0)
		r = add_line(table, "Boot vCPUs", "cannot be taken back");
	return r;
}

static int add_vm(struct table *table, const struct vm_info *vm)
{
	int r;

	r = add_line(table, "Name", vm->name);
	if (r >= 0)
		r = add_line(table, "UUID", vm->uuid);
	if (r >= 0)
		r = add_line(table, "State", vm->state);
	if (r >= 0)
		r = add_vmm(table, vm);
	if (r >= 0)
		r = add_count(table, "Possible", vm->possible, "");
	if (r >= 0)
		r = add_count(table, "Boot", vm->boot, "");
	if (r >= 0)
		r = table_add(table, "Permitted");
	if (r >= 0)
		r = table_addf(table, "%" PRIu32 " to %" PRIu32, vm->minimum, vm->maximum);
	if (r >= 0)
		r = add_asked(table, vm);
	if (r >= 0)
		r = add_count(table, "Target", vm->target, "");
	if (r >= 0)
		r = add_count(table, "Enabled", vm->enabled, vm->enabled_set);
	if (r >= 0)
		r = add_count(table, "Online", vm->online, vm->online_set);
	if (r >= 0)
		r = add_count(table, "Overdue", vm->overdue, vm->overdue_set);
	if (r >= 0)
		r = table_add(table, "Denied");
	if (r >= 0)
		r = table_addf(table, "%" PRIu64 " calls of CPU_ON", vm->denied);
	if (r >= 0)
		r = add_jobs(table, vm);
	if (r >= 0)
		r = add_notes(table, vm);
	return r;
}

/* ---- its vCPUs ---- */

static int add_mark(struct table *table, bool yes)
{
	return table_add(table, yes ? "yes" : "-");
}

static int add_vcpu(struct table *table, const struct vm_vcpu *v)
{
	int r;

	r = table_addf(table, "%" PRIu32, v->index);
	if (r >= 0)
		r = table_add(table, !v->enabled ? "-" : v->wanted ? "yes" : "asked back");
	if (r >= 0)
		r = add_mark(table, v->acknowledged);
	if (r >= 0)
		r = add_mark(table, v->online);
	if (r >= 0)
		r = add_mark(table, v->overdue);
	if (r >= 0)
		r = table_addf(table, "%" PRIu32, v->denied);
	if (r >= 0)
		r = table_add(table, strcmp(v->reason, "none") == 0 ? "-" : v->reason);
	return r;
}

static int add_vcpus(struct table *table, const struct vm_info *vm)
{
	static const char *const head[] = {"VCPU",    "ENABLED", "ACKNOWLEDGED", "ONLINE",
					   "OVERDUE", "DENIED",  "LAST VERDICT"};
	int r = 0;

	for (size_t i = 0; r >= 0 && i < ARRAY_SIZE(head); i++)
		r = table_add(table, head[i]);
	for (size_t i = 0; r >= 0 && i < vm->n_vcpus; i++)
		r = add_vcpu(table, &vm->vcpus[i]);
	return r;
}

static int print_text(const struct vm_info *vm)
{
	_cleanup_(table_freep) struct table *about = NULL, *vcpus = NULL;
	int r;

	r = table_new(&about, "ll");
	if (r >= 0)
		r = table_new(&vcpus, "rllllrl");
	if (r >= 0)
		r = add_vm(about, vm);
	if (r >= 0)
		r = add_vcpus(vcpus, vm);
	if (r < 0)
		return outcome_report("show", r, NULL);
	table_print(about, stdout);
	putchar('\n');
	table_print(vcpus, stdout);
	return OUTCOME_DONE;
}

int command_show(const struct options *options)
{
	_cleanup_(connection_freep) struct connection *c = NULL;
	_cleanup_(sd_bus_error_free) sd_bus_error error = SD_BUS_ERROR_NULL;
	_cleanup_free_ char *path = NULL;
	struct vm_info vm;
	char what[300];
	int r;

	r = connection_new(&c, options->bus);
	if (r != 0)
		return r;
	r = connection_find(c, options->vm, &path, &error);
	if (r >= 0)
		r = connection_get(c, path, true, &vm, &error);
	if (r < 0) {
		snprintf(what, sizeof(what), "cannot show \"%s\"", options->vm);
		return outcome_report(what, r, &error);
	}
	r = options->given & OPTION_JSON ? output_json(vm_info_json(&vm)) : print_text(&vm);
	vm_info_clear(&vm);
	return r;
}
