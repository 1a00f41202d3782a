/* SPDX-License-Identifier: GPL-2.0-or-later */

#include "client/vm_info.h"

#include <errno.h>
#include <inttypes.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/base/util.h"

/* What is read and what is written, by one table: a property's D-Bus type and its member here. */
static const struct row {
	const char *property;
	const char *key;
	char type;
	size_t offset;
} rows[] = {
#define ROW(property, key, type)                                                                                       \
	{                                                                                                              \
		property, #key, type, offsetof(struct vm_info, key)                                                    \
	}
	ROW("Name", name, 's'),
	ROW("Uuid", uuid, 's'),
	ROW("State", state, 's'),
	ROW("Possible", possible, 'u'),
	ROW("Boot", boot, 'u'),
	ROW("Class", class, 's'),
	ROW("ClassSource", class_source, 's'),
	ROW("ClassRule", class_rule, 'u'),
	ROW("Tenant", tenant, 's'),
	ROW("TenantSource", tenant_source, 's'),
	ROW("TenantRule", tenant_rule, 'u'),
	ROW("AssignedClass", assigned_class, 's'),
	ROW("AssignedTenant", assigned_tenant, 's'),
	ROW("AssignedUid", assigned_uid, 'u'),
	ROW("AnnouncedClass", announced_class, 's'),
	ROW("AnnouncedTenant", announced_tenant, 's'),
	ROW("Provider", provider, 's'),
	ROW("Enforcement", enforcement, 's'),
	ROW("Realm", realm, 'b'),
	ROW("CpuMillis", cpu_millis, 'u'),
	ROW("Quota", quota, 'u'),
	ROW("QuotaState", quota_state, 's'),
	ROW("Guaranteed", guaranteed, 'u'),
	ROW("Limit", limit, 'u'),
	ROW("Priority", priority, 'u'),
	ROW("Desired", desired, 'u'),
	ROW("DesiredUid", desired_uid, 'u'),
	ROW("Target", target, 'u'),
	ROW("TargetReason", target_reason, 's'),
	ROW("Allowance", allowance, 'u'),
	ROW("Entitled", entitled, 'u'),
	ROW("Waiting", waiting, 'b'),
	ROW("Credit", credit, 'x'),
	ROW("CreditState", credit_state, 's'),
	ROW("CreditRate", credit_rate, 'i'),
	ROW("CreditCap", credit_cap, 'x'),
	ROW("UsedGuaranteed", used_guaranteed, 't'),
	ROW("UsedBurst", used_burst, 't'),
	ROW("Enabled", enabled, 'u'),
	ROW("Online", online, 'u'),
	ROW("Overdue", overdue, 'u'),
	ROW("EnabledSet", enabled_set, 's'),
	ROW("OnlineSet", online_set, 's'),
	ROW("PendingSet", pending_set, 's'),
	ROW("OverdueSet", overdue_set, 's'),
	ROW("Generation", generation, 'u'),
	ROW("Confirmed", confirmed, 'u'),
	ROW("Observe", observe, 'b'),
	ROW("Notifiable", notifiable, 'b'),
	ROW("BootRemovable", boot_removable, 'b'),
	ROW("Denied", denied, 't'),
	ROW("VmmUid", vmm_uid, 'u'),
	ROW("VmmPid", vmm_pid, 'u'),
	ROW("Job", job, 'o'),
#undef ROW
};

static void *member(const struct vm_info *info, const struct row *row)
{
	return (char *)(uintptr_t)info + row->offset;
}

static bool is_text(const struct row *row)
{
	return row->type == 's' || row->type == 'o';
}

/* ---- life ---- */

static int replace(char **text, const char *by)
{
	char *copy = strdup(by);

	if (!copy)
		return -ENOMEM;
	free(*text);
	*text = copy;
	return 0;
}

int vm_info_init(struct vm_info *info, const char *path)
{
	int r;

	*info = (struct vm_info){
		.desired_uid = VM_INFO_NOBODY, .assigned_uid = VM_INFO_NOBODY, .quota = VM_INFO_NO_QUOTA};
	r = replace(&info->path, path);
	for (size_t i = 0; r >= 0 && i < ARRAY_SIZE(rows); i++)
		if (is_text(&rows[i]))
			r = replace(member(info, &rows[i]), rows[i].type == 'o' ? "/" : "");
	if (r >= 0)
		r = replace(&info->last_job.result, "");
	if (r < 0)
		vm_info_clear(info);
	return r;
}

static void clear_vcpus(struct vm_info *info)
{
	for (size_t i = 0; i < info->n_vcpus; i++)
		free(info->vcpus[i].reason);
	free(info->vcpus);
	info->vcpus = NULL;
	info->n_vcpus = 0;
}

void vm_info_clear(struct vm_info *info)
{
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
		if (is_text(&rows[i]))
			free(*(char **)member(info, &rows[i]));
	free(info->path);
	free(info->last_job.result);
	clear_vcpus(info);
	*info = (struct vm_info){0};
}

/* ---- reading ---- */

static int read_member(struct vm_info *info, const struct row *row, sd_bus_message *m)
{
	const char *text;
	int truth, r;

	if (is_text(row)) {
		r = sd_bus_message_read_basic(m, row->type, &text);
		return r < 0 ? r : replace(member(info, row), text);
	}
	if (row->type == 'b') {
		r = sd_bus_message_read_basic(m, 'b', &truth);
		if (r >= 0)
			*(bool *)member(info, row) = truth;
		return r;
	}
	return sd_bus_message_read_basic(m, row->type, member(info, row));
}

static int read_last_job(struct vm_info *info, sd_bus_message *m)
{
	struct vm_job *job = &info->last_job;
	const char *result;
	int online, r;

	r = sd_bus_message_read(m, "(tuusbu)", &job->id, &job->from, &job->to, &result, &online, &job->uid);
	if (r < 0)
		return r;
	job->online = online;
	return replace(&job->result, result);
}

static const struct row *find_row(const char *property)
{
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
		if (strcmp(rows[i].property, property) == 0)
			return &rows[i];
	return NULL;
}

/* A variant; one that is new to us, or of another type than we know, is passed over. */
static int read_property(struct vm_info *info, const char *property, sd_bus_message *m)
{
	const struct row *row = find_row(property);
	bool last_job = strcmp(property, "LastJob") == 0, vcpus = strcmp(property, "Vcpus") == 0;
	const char *signature, *wanted;
	int r;

	wanted = last_job ? "(tuusbu)" : vcpus ? "a(ubbbbbsu)" : row ? (const char[]){row->type, '\0'} : "";
	r = sd_bus_message_peek_type(m, NULL, &signature);
	if (r < 0)
		return r;
	if (strcmp(signature, wanted) != 0)
		return sd_bus_message_skip(m, "v");
	r = sd_bus_message_enter_container(m, 'v', wanted);
	if (r < 0)
		return r;
	if (last_job)
		r = read_last_job(info, m);
	else if (vcpus)
		r = vm_info_read_vcpus(info, m);
	else
		r = read_member(info, row, m);
	return r < 0 ? r : sd_bus_message_exit_container(m);
}

int vm_info_read(struct vm_info *info, sd_bus_message *m)
{
	int r;

	r = sd_bus_message_enter_container(m, 'a', "{sv}");
	if (r < 0)
		return r;
	while ((r = sd_bus_message_enter_container(m, 'e', "sv")) > 0) {
		const char *property;

		r = sd_bus_message_read_basic(m, 's', &property);
		if (r >= 0)
			r = read_property(info, property, m);
		if (r >= 0)
			r = sd_bus_message_exit_container(m);
		if (r < 0)
			return r;
	}
	return r < 0 ? r : sd_bus_message_exit_container(m);
}

static int read_vcpu(struct vm_info *info, sd_bus_message *m)
{
	int enabled, wanted, acknowledged, online, overdue, r;
	struct vm_vcpu *vcpus, v = {0};
	const char *reason;

	r = sd_bus_message_read(m, "(ubbbbbsu)", &v.index, &enabled, &wanted, &acknowledged, &online, &overdue, &reason,
				&v.denied);
	if (r <= 0)
		return r;
	v.enabled = enabled;
	v.wanted = wanted;
	v.acknowledged = acknowledged;
	v.online = online;
	v.overdue = overdue;
	vcpus = reallocarray(info->vcpus, info->n_vcpus + 1, sizeof(*vcpus));
	if (!vcpus)
		return -ENOMEM;
	info->vcpus = vcpus;
	r = replace(&v.reason, reason);
	if (r < 0)
		return r;
	vcpus[info->n_vcpus++] = v;
	return 1;
}

int vm_info_read_vcpus(struct vm_info *info, sd_bus_message *m)
{
	int r;

	clear_vcpus(info);
	r = sd_bus_message_enter_container(m, 'a', "(ubbbbbsu)");
	while (r >= 0) {
		r = read_vcpu(info, m);
		if (r == 0)
			return sd_bus_message_exit_container(m);
	}
	return r;
}

const char *vm_info_cpus(uint32_t millis, char text[static VM_INFO_CPUS_SIZE])
{
	size_t n = (size_t)snprintf(text, VM_INFO_CPUS_SIZE, "%" PRIu32 ".%03" PRIu32, millis / 1000, millis % 1000);

	while (text[n - 1] == '0')
		text[--n] = '\0';
	if (text[n - 1] == '.')
		text[n - 1] = '\0';
	return text;
}

const char *vm_info_quota(const struct vm_info *info, char text[static VM_INFO_QUOTA_SIZE])
{
	char cpus[VM_INFO_CPUS_SIZE];

	if (info->quota == VM_INFO_NO_QUOTA)
		snprintf(text, VM_INFO_QUOTA_SIZE, "%s",
			 strcmp(info->quota_state, "asked") == 0 ? "no quota, which its provider has not confirmed"
								 : "no quota");
	else if (strcmp(info->quota_state, "held") == 0)
		snprintf(text, VM_INFO_QUOTA_SIZE, "%s CPUs, held by %.63s", vm_info_cpus(info->quota, cpus),
			 info->provider);
	else if (strcmp(info->quota_state, "asked") == 0)
		snprintf(text, VM_INFO_QUOTA_SIZE, "%s CPUs, asked of %.63s", vm_info_cpus(info->quota, cpus),
			 info->provider);
	else
		snprintf(text, VM_INFO_QUOTA_SIZE, "%s CPUs, and no provider that can hold it is here",
			 vm_info_cpus(info->quota, cpus));
	return text;
}

uint64_t vm_info_job_id(const char *job_path)
{
	const char *slash = strrchr(job_path, '/');

	return slash ? strtoull(slash + 1, NULL, 10) : 0;
}

/* ---- JSON ---- */

static json_t *uid_json(uint32_t uid)
{
	return uid == VM_INFO_NOBODY ? json_null() : json_integer(uid);
}

/* Where "" says that there is none. */
static bool is_optional(const struct row *row)
{
	static const char *const optional[] = {"Tenant",         "AssignedClass",   "AssignedTenant",
					       "AnnouncedClass", "AnnouncedTenant", "Provider"};

	for (size_t i = 0; i < ARRAY_SIZE(optional); i++)
		if (strcmp(row->property, optional[i]) == 0)
			return true;
	return false;
}

static bool is_uid(const struct row *row)
{
	return strcmp(row->property, "DesiredUid") == 0 || strcmp(row->property, "AssignedUid") == 0;
}

static json_t *member_json(const struct vm_info *info, const struct row *row)
{
	const void *at = member(info, row);

	if (strcmp(row->property, "Quota") == 0 && *(const uint32_t *)at == VM_INFO_NO_QUOTA)
		return json_null();
	if (is_uid(row))
		return uid_json(*(const uint32_t *)at);
	switch (row->type) {
	case 's':
		if (is_optional(row) && !**(char *const *)at)
			return json_null();
		return json_string(*(char *const *)at);
	case 'b':
		return json_boolean(*(const bool *)at);
	case 't':
		return json_integer((json_int_t) * (const uint64_t *)at);
	case 'u':
		return json_integer(*(const uint32_t *)at);
	case 'x':
		return json_integer((json_int_t) * (const int64_t *)at);
	case 'i':
		return json_integer(*(const int32_t *)at);
	default:
		return NULL;
	}
}

static json_t *last_job_json(const struct vm_job *job)
{
	if (job->id == 0)
		return json_null();
	return json_pack("{s:I, s:i, s:i, s:s, s:b, s:o}", "id", (json_int_t)job->id, "from", (int)job->from, "to",
			 (int)job->to, "result", job->result, "online", (int)job->online, "uid", uid_json(job->uid));
}

static json_t *vcpus_json(const struct vm_info *info)
{
	json_t *array = json_array();

	for (size_t i = 0; array && i < info->n_vcpus; i++) {
		const struct vm_vcpu *v = &info->vcpus[i];
		json_t *one = json_pack("{s:i, s:b, s:b, s:b, s:b, s:b, s:s, s:i}", "index", (int)v->index, "enabled",
					(int)v->enabled, "wanted", (int)v->wanted, "acknowledged", (int)v->acknowledged,
					"online", (int)v->online, "overdue", (int)v->overdue, "reason", v->reason,
					"denied", (int)v->denied);

		if (json_array_append_new(array, one) < 0) {
			json_decref(array);
			return NULL;
		}
	}
	return array;
}

json_t *vm_info_json(const struct vm_info *info)
{
	uint64_t job = vm_info_job_id(info->job);
	json_t *object = json_object();
	int r = object ? 0 : -1;

	for (size_t i = 0; r >= 0 && i < ARRAY_SIZE(rows); i++) {
		const struct row *row = &rows[i];

		if (row->type == 'o')
			continue;
		r = json_object_set_new(object, row->key, member_json(info, row));
	}
	if (r >= 0)
		r = json_object_set_new(object, "job", job != 0 ? json_integer((json_int_t)job) : json_null());
	if (r >= 0)
		r = json_object_set_new(object, "last_job", last_job_json(&info->last_job));
	if (r >= 0 && info->vcpus)
		r = json_object_set_new(object, "cpu_time", json_integer((json_int_t)info->cpu_time));
	if (r >= 0 && info->vcpus)
		r = json_object_set_new(object, "cpu_granted", json_integer((json_int_t)info->cpu_granted));
	if (r >= 0 && info->vcpus)
		r = json_object_set_new(object, "vcpus", vcpus_json(info));
	if (r < 0) {
		json_decref(object);
		return NULL;
	}
	return object;
}
