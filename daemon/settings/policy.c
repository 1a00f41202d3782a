/* SPDX-License-Identifier: GPL-2.0-or-later */

/*
 * What is in force, and the questions about it. Reading it from text is policy_read.c; both see struct policy.
 */

#include "daemon/settings/policy.h"

#include <dirent.h>
#include <fnmatch.h>
#include <stdio.h>
#include <string.h>

#include "daemon/settings/json_table.h"
#include "daemon/settings/policy_private.h"
#include "daemon/base/util.h"

#define MAX_FILES 1024

DEFINE_CLEANUP(struct policy *, policy_unref)

/* ---- life ---- */

static void free_sources(struct policy_source *sources, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		free(sources[i].file);
		free(sources[i].text);
	}
	free(sources);
}

struct policy *policy_ref(struct policy *policy)
{
	policy->references++;
	return policy;
}

struct policy *policy_unref(struct policy *policy)
{
	if (!policy || --policy->references > 0)
		return NULL;
	for (size_t i = 0; i < policy->n_classes; i++)
		free((char *)policy->classes[i].name);
	for (uint32_t i = 0; i < policy->n_tenants; i++)
		free((char *)policy->tenants[i].name);
	for (size_t i = 0; i < policy->n_rules; i++)
		free(policy->rules[i].name);
	free(policy->classes);
	free(policy->tenants);
	free(policy->rules);
	registrants_clear(&policy->registrants);
	free_sources(policy->sources, policy->n_sources);
	free(policy);
	return NULL;
}

/* Takes the sources over, on failure too. */
static int make(struct policy **ret, struct policy_source *sources, size_t n, char **ret_error)
{
	_cleanup_(policy_unrefp) struct policy *policy = calloc(1, sizeof(*policy));
	int r;

	if (!policy) {
		free_sources(sources, n);
		return -ENOMEM;
	}
	policy->references = 1;
	policy->sources = sources;
	policy->n_sources = n;
	r = policy_read(policy, ret_error);
	if (r < 0)
		return r;
	*ret = TAKE(policy);
	return 0;
}

int policy_parse(struct policy **ret, const struct policy_source *sources, size_t n, char **ret_error)
{
	struct policy_source *copy = calloc(n + 1, sizeof(*copy));

	*ret_error = NULL;
	if (!copy)
		return -ENOMEM;
	for (size_t i = 0; i < n; i++) {
		copy[i].file = strdup(sources[i].file);
		copy[i].text = strdup(sources[i].text);
		if (!copy[i].file || !copy[i].text) {
			free_sources(copy, i + 1);
			return -ENOMEM;
		}
	}
	return make(ret, copy, n, ret_error);
}

/* ---- files ---- */

static int is_policy_file(const struct dirent *entry)
{
	size_t length = strlen(entry->d_name);

	return entry->d_name[0] != '.' && length > 5 && strcmp(entry->d_name + length - 5, ".json") == 0;
}

static int by_bytes(const struct dirent **a, const struct dirent **b)
{
	return strcmp((*a)->d_name, (*b)->d_name);
}

static int read_source(const char *directory, const char *name, struct policy_source *ret, size_t *total,
		       char **ret_error)
{
	size_t size = 0;
	int r;

	if (asprintf(&ret->file, "%s/%s", directory, name) < 0) {
		ret->file = NULL;
		return -ENOMEM;
	}
	r = json_table_read_file(ret->file, &ret->text, &size);
	*total += size;
	if (r >= 0 && *total > JSON_TABLE_MAX_FILE)
		r = -EFBIG;
	/* jansson would say so too, but what is kept is a text. */
	if (r >= 0 && strlen(ret->text) != size)
		r = -EILSEQ;
	if (r < 0 && asprintf(ret_error, "cannot read %s: %s", ret->file, strerror(-r)) < 0)
		*ret_error = NULL;
	return r;
}

static int read_sources(const char *directory, struct dirent **entries, size_t n, struct policy_source *sources,
			char **ret_error)
{
	size_t total = 0;

	if (n > MAX_FILES) {
		if (asprintf(ret_error, "%s has more than %d files", directory, MAX_FILES) < 0)
			*ret_error = NULL;
		return -E2BIG;
	}
	for (size_t i = 0; i < n; i++) {
		int r = read_source(directory, entries[i]->d_name, &sources[i], &total, ret_error);

		if (r < 0)
			return r;
	}
	return 0;
}

int policy_load(struct policy **ret, const char *directory, char **ret_error)
{
	struct policy_source *sources;
	struct dirent **entries = NULL;
	int n, r;

	*ret_error = NULL;
	n = scandir(directory, &entries, is_policy_file, by_bytes);
	if (n < 0 && errno != ENOENT) {
		r = -errno;
		if (asprintf(ret_error, "cannot read %s: %s", directory, strerror(-r)) < 0)
			*ret_error = NULL;
		return r;
	}
	n = n < 0 ? 0 : n;
	sources = calloc((size_t)n + 1, sizeof(*sources));
	r = sources ? read_sources(directory, entries, (size_t)n, sources, ret_error) : -ENOMEM;
	for (int i = 0; i < n; i++)
		free(entries[i]);
	free(entries);
	if (r < 0) {
		if (sources)
			free_sources(sources, (size_t)n);
		return r;
	}
	return make(ret, sources, (size_t)n, ret_error);
}

int policy_resolve(struct policy *policy, char **ret_error)
{
	int r;

	*ret_error = NULL;
	r = registrants_resolve(&policy->registrants, "/etc/passwd", "/etc/group", ret_error);
	return r == -ENOENT ? -EINVAL : r;
}

/* ---- questions ---- */

const struct policy_source *policy_sources(const struct policy *policy, size_t *ret_n)
{
	*ret_n = policy->n_sources;
	return policy->sources;
}

const struct service_class *policy_classes(const struct policy *policy, size_t *ret_n)
{
	*ret_n = policy->n_classes;
	return policy->classes;
}

const struct fleet_tenant *policy_tenants(const struct policy *policy, uint32_t *ret_n)
{
	*ret_n = policy->n_tenants;
	return policy->tenants;
}

/* Both begin with their name, and are in its order. */
static int compare_name(const void *name, const void *item)
{
	return strcmp(name, *(const char *const *)item);
}

_Static_assert(offsetof(struct service_class, name) == 0 && offsetof(struct fleet_tenant, name) == 0, "compare_name()");

const struct service_class *policy_class(const struct policy *policy, const char *name)
{
	return policy->n_classes == 0
		       ? NULL
		       : bsearch(name, policy->classes, policy->n_classes, sizeof(*policy->classes), compare_name);
}

uint32_t policy_tenant(const struct policy *policy, const char *name)
{
	const struct fleet_tenant *tenant = NULL;

	if (policy->n_tenants > 0)
		tenant = bsearch(name, policy->tenants, policy->n_tenants, sizeof(*policy->tenants), compare_name);
	return tenant ? (uint32_t)(tenant - policy->tenants) : FLEET_NO_TENANT;
}

bool policy_observe(const struct policy *policy)
{
	return policy->observe;
}

const struct policy_capacity *policy_capacity(const struct policy *policy)
{
	return &policy->capacity;
}

uint32_t policy_capacity_vcpus(const struct policy *policy, uint32_t cpus)
{
	const struct policy_capacity *capacity = &policy->capacity;
	uint64_t vcpus;

	switch (capacity->kind) {
	case POLICY_CAPACITY_VCPUS:
		return capacity->count;
	case POLICY_CAPACITY_CPUS:
		cpus = capacity->count;
		break;
	case POLICY_CAPACITY_AUTO:
		cpus = cpus > 0 ? cpus : 1;
		break;
	default:
		return FLEET_UNLIMITED;
	}
	vcpus = (uint64_t)cpus * capacity->overcommit_milli / 1000;
	if (vcpus >= FLEET_UNLIMITED)
		return FLEET_UNLIMITED - 1;
	return vcpus > 0 ? (uint32_t)vcpus : 1;
}

/* ---- which VM has what ---- */

const char *policy_by_name(enum policy_by by)
{
	switch (by) {
	case POLICY_BY_RULE:
		return "rule";
	case POLICY_BY_ASSIGNMENT:
		return "assignment";
	case POLICY_BY_ANNOUNCEMENT:
		return "announcement";
	default:
		return "default";
	}
}

/* `tenant`: the VM's, or FLEET_NO_TENANT while that is looked for. */
static bool matches(const struct policy_rule *rule, const struct policy_subject *subject, uint32_t tenant)
{
	if (rule->has_uid && rule->uid != subject->uid)
		return false;
	if (rule->match_tenant != FLEET_NO_TENANT && rule->match_tenant != tenant)
		return false;
	if (rule->has_uuid && memcmp(rule->uuid, subject->uuid, sizeof(rule->uuid)) != 0)
		return false;
	return !rule->name || fnmatch(rule->name, subject->name, 0) == 0;
}

/* By name, if somebody said one and the policy has it. */
static bool take_tenant(const struct policy *policy, const char *name, enum policy_by by, bool *ret_unknown,
			struct policy_decision *decision)
{
	uint32_t tenant = name ? policy_tenant(policy, name) : FLEET_NO_TENANT;

	*ret_unknown = name && tenant == FLEET_NO_TENANT;
	if (tenant == FLEET_NO_TENANT)
		return false;
	decision->assignment.tenant = tenant;
	decision->tenant_by = by;
	return true;
}

static bool take_class(const struct policy *policy, const char *name, enum policy_by by, bool *ret_unknown,
		       struct policy_decision *decision)
{
	const struct service_class *class = name ? policy_class(policy, name) : NULL;

	*ret_unknown = name && !class;
	if (!class)
		return false;
	decision->assignment.class = class;
	decision->class_by = by;
	return true;
}

static void decide_tenant(const struct policy *policy, const struct policy_subject *subject,
			  struct policy_decision *decision)
{
	if (take_tenant(policy, subject->tenant, POLICY_BY_ASSIGNMENT, &decision->tenant_unknown, decision) ||
	    take_tenant(policy, subject->announced_tenant, POLICY_BY_ANNOUNCEMENT, &decision->announced_tenant_unknown,
			decision))
		return;
	for (size_t i = 0; i < policy->n_rules; i++) {
		const struct policy_rule *rule = &policy->rules[i];

		if (rule->tenant == FLEET_NO_TENANT || !matches(rule, subject, FLEET_NO_TENANT))
			continue;
		decision->assignment.tenant = rule->tenant;
		decision->tenant_by = POLICY_BY_RULE;
		decision->tenant_rule = (uint32_t)i + 1;
		return;
	}
}

static void decide_class(const struct policy *policy, const struct policy_subject *subject,
			 struct policy_decision *decision)
{
	if (take_class(policy, subject->class, POLICY_BY_ASSIGNMENT, &decision->class_unknown, decision) ||
	    take_class(policy, subject->announced_class, POLICY_BY_ANNOUNCEMENT, &decision->announced_class_unknown,
		       decision))
		return;
	for (size_t i = 0; i < policy->n_rules; i++) {
		const struct policy_rule *rule = &policy->rules[i];

		if (!rule->class || !matches(rule, subject, decision->assignment.tenant))
			continue;
		decision->assignment.class = rule->class;
		decision->class_by = POLICY_BY_RULE;
		decision->class_rule = (uint32_t)i + 1;
		return;
	}
	decision->assignment.class = policy->default_class;
}

const struct registrants *policy_registrants(const struct policy *policy)
{
	return &policy->registrants;
}

void policy_assign(const struct policy *policy, const struct policy_subject *subject, struct policy_decision *ret)
{
	struct policy_decision decision = {.assignment.tenant = FLEET_NO_TENANT};

	decide_tenant(policy, subject, &decision);
	decide_class(policy, subject, &decision);
	*ret = decision;
}
