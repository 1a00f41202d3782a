/* SPDX-License-Identifier: GPL-2.0-or-later */

#include "client/commands.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "client/connection.h"
#include "client/money.h"
#include "client/outcome.h"
#include "client/output.h"
#include "client/table.h"
#include "daemon/base/util.h"

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
	char cpus[VM_INFO_CPUS_SIZE];
	int r;

	r = table_add(table, "Desired");
	if (r < 0)
		return r;
	if (vm->cpu_millis > 0)
		return table_addf(table, "%" PRIu32 " (%s CPUs, asked for by %s)", vm->desired,
				  vm_info_cpus(vm->cpu_millis, cpus), output_user(vm->desired_uid));
	if (vm->desired_uid == VM_INFO_NOBODY)
		return table_addf(table, "%" PRIu32 " (as booted)", vm->desired);
	return table_addf(table, "%" PRIu32 " (asked for by %s)", vm->desired, output_user(vm->desired_uid));
}

/* Who decided a class or tenant: "rule 3", "assigned by root", "default". */
static int add_choice(struct table *table, const char *what, const char *name, const char *source, uint32_t rule,
		      uint32_t uid, const char *provider)
{
	int r;

	r = table_add(table, what);
	if (r < 0)
		return r;
	if (strcmp(source, "rule") == 0)
		return table_addf(table, "%s (rule %" PRIu32 ")", name, rule);
	if (strcmp(source, "assignment") == 0)
		return table_addf(table, "%s (assigned by %s)", name, output_user(uid));
	if (strcmp(source, "announcement") == 0)
		return table_addf(table, "%s (announced by %s)", name, provider);
	return table_addf(table, "%s (%s)", name, source);
}

/* Assigned, but the policy has none of that name (any more). */
static int add_missing(struct table *table, const char *what, const char *assigned, const char *source)
{
	int r;

	if (!*assigned || strcmp(source, "assignment") == 0)
		return 0;
	r = table_add(table, "");
	return r < 0 ? r
		     : table_addf(table, "(the %s \"%s\" is assigned, which the policy does not have)", what, assigned);
}

/* Announced, and not what counts: an operator assigned another, or the policy has none of that name. */
static int add_announced(struct table *table, const char *what, const char *announced, const char *source)
{
	int r;

	if (!*announced || strcmp(source, "announcement") == 0)
		return 0;
	r = table_add(table, "");
	return r < 0 ? r
		     : table_addf(table, "(the %s \"%s\" is announced, %s)", what, announced,
				  strcmp(source, "assignment") == 0 ? "which the assignment goes before"
								    : "which the policy does not have");
}

static int add_enforcement(struct table *table, const struct vm_info *vm)
{
	static const char *const meanings[][2] = {
		{"psci", "CPU_ON of what is not granted is denied"},
		{"hotplug", "what is not granted is not plugged"},
		{"quota", "nothing but its CPU time is held"},
		{"none", "the guest may do as it likes"},
	};
	const char *meaning = "";
	int r = table_add(table, "Enforcement");

	for (size_t i = 0; i < ARRAY_SIZE(meanings); i++)
		if (strcmp(meanings[i][0], vm->enforcement) == 0)
			meaning = meanings[i][1];
	if (r >= 0)
		r = table_addf(table, "%s (%s)", vm->enforcement, meaning);
	if (r >= 0 && vm->realm)
		r = add_line(table, "Realm", "yes: its host can neither see what its vCPUs do nor take one by force");
	if (r >= 0)
		r = add_line(table, "Provider", *vm->provider ? vm->provider : "none");
	return r;
}

static int add_cpu_time(struct table *table, const struct vm_info *vm)
{
	char quota[VM_INFO_QUOTA_SIZE], used[MONEY_TEXT_SIZE], granted[MONEY_TEXT_SIZE];
	int r = table_add(table, "CPU quota");

	if (r >= 0)
		r = table_add(table, vm_info_quota(vm, quota));
	if (r >= 0)
		r = table_add(table, "CPU time");
	if (r < 0)
		return r;
	if (vm->cpu_granted == 0)
		return table_add(table, "not known");
	return table_addf(table, "%s seconds used, %s vCPU-seconds granted (%.0f %%)",
			  money_format_seconds((int64_t)vm->cpu_time, 1, used),
			  money_format_seconds((int64_t)vm->cpu_granted, 1, granted),
			  100.0 * (double)vm->cpu_time / (double)vm->cpu_granted);
}

static int add_service(struct table *table, const struct vm_info *vm)
{
	int r;

	r = add_choice(table, "Class", vm->class, vm->class_source, vm->class_rule, vm->assigned_uid, vm->provider);
	if (r >= 0)
		r = add_missing(table, "class", vm->assigned_class, vm->class_source);
	if (r >= 0)
		r = add_announced(table, "class", vm->announced_class, vm->class_source);
	if (r >= 0 && *vm->tenant)
		r = add_choice(table, "Tenant", vm->tenant, vm->tenant_source, vm->tenant_rule, vm->assigned_uid,
			       vm->provider);
	else if (r >= 0)
		r = add_line(table, "Tenant", "none");
	if (r >= 0)
		r = add_missing(table, "tenant", vm->assigned_tenant, vm->tenant_source);
	if (r >= 0)
		r = add_announced(table, "tenant", vm->announced_tenant, vm->tenant_source);
	if (r >= 0)
		r = table_add(table, "Guaranteed");
	if (r >= 0)
		r = table_addf(table, "%" PRIu32 ", at most %" PRIu32 ", priority %" PRIu32, vm->guaranteed, vm->limit,
			       vm->priority);
	return r;
}

static int add_credit(struct table *table, const struct vm_info *vm)
{
	char balance[MONEY_TEXT_SIZE], cap[MONEY_TEXT_SIZE];
	int r;

	r = table_add(table, "Credit");
	if (r < 0)
		return r;
	if (strcmp(vm->credit_state, "unmetered") == 0)
		return table_add(table, "not metered");
	return table_addf(table, "%s of %s vCPU-seconds, %s, %+" PRId32 " per second",
			  money_format_seconds(vm->credit, 1, balance), money_format_seconds(vm->credit_cap, 0, cap),
			  vm->credit_state, vm->credit_rate);
}

static int add_target(struct table *table, const struct vm_info *vm)
{
	int r;

	r = table_add(table, "Target");
	if (r < 0)
		return r;
	if (strcmp(vm->target_reason, "none") == 0)
		return table_addf(table, "%" PRIu32, vm->target);
	return table_addf(table, "%" PRIu32 " (%s; \"cpuctl explain %s\" tells more)", vm->target, vm->target_reason,
			  vm->name);
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
			r = table_addf(table, "%" PRIu64 "%s%s%s", id, *vm->pending_set ? ", waiting for vCPU " : "",
				       vm->pending_set, vm->waiting ? ", waiting until it can be given all" : "");
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
		r = add_enforcement(table, vm);
	if (r >= 0)
		r = add_count(table, "Possible", vm->possible, "");
	if (r >= 0)
		r = add_count(table, "Boot", vm->boot, "");
	if (r >= 0)
		r = add_service(table, vm);
	if (r >= 0)
		r = add_credit(table, vm);
	if (r >= 0)
		r = add_asked(table, vm);
	if (r >= 0)
		r = add_target(table, vm);
	if (r >= 0)
		r = add_count(table, "Enabled", vm->enabled, vm->enabled_set);
	if (r >= 0)
		r = add_count(table, "Online", vm->online, vm->online_set);
	if (r >= 0)
		r = add_count(table, "Overdue", vm->overdue, vm->overdue_set);
	if (r >= 0)
		r = add_cpu_time(table, vm);
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
