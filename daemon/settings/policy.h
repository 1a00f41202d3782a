/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef CPUPOLICYD_POLICY_H
#define CPUPOLICYD_POLICY_H

/*
 * The policy: service classes, tenants, the rules that say which VM has which, and the host's capacity. Read from a
 * directory of JSON files, as strictly as the configuration, and as a whole: either all of it is right, or there is no
 * policy and an error that says where. Immutable and counted: whoever points into it holds a reference.
 * docs/man/cpupolicy.policy.5 describes every key.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "daemon/core/class.h"
#include "daemon/core/fleet.h"
#include "daemon/settings/registrants.h"
#include "proto/cpupolicy-proto.h"

struct policy;

/* A file of the policy, as it was read: what a recording keeps, to be read again elsewhere. */
struct policy_source {
	char *file; /* its path, for errors */
	char *text; /* NUL-terminated; JSON has no NUL */
};

/*
 * The files "*.json" of `directory`, in the byte order of their names. A missing directory means the built-in class
 * alone. -EINVAL: the policy is not as it should be. On failure *ret_error is a message to print and free, or NULL if
 * there is no memory for one.
 */
int policy_load(struct policy **ret, const char *directory, char **ret_error);
/* Looks up the users and groups of this host that it names, before it is used; see registrants_resolve(). -EINVAL as above. */
int policy_resolve(struct policy *policy, char **ret_error);
/* The same of texts that somebody else has read, in this order. They are copied. */
int policy_parse(struct policy **ret, const struct policy_source *sources, size_t n, char **ret_error);
struct policy *policy_ref(struct policy *policy);
struct policy *policy_unref(struct policy *policy); /* NULL is accepted, NULL is returned */
const struct policy_source *policy_sources(const struct policy *policy, size_t *ret_n);

/* In order of their names, the built-in one included. */
const struct service_class *policy_classes(const struct policy *policy, size_t *ret_n);
/* In order of their names; FLEET_UNLIMITED where there is no quota. The numbers of tenants are positions in this. */
const struct fleet_tenant *policy_tenants(const struct policy *policy, uint32_t *ret_n);
const struct service_class *policy_class(const struct policy *policy, const char *name); /* NULL: none of that name */
uint32_t policy_tenant(const struct policy *policy, const char *name);                   /* FLEET_NO_TENANT */
bool policy_observe(const struct policy *policy);                                        /* the whole host */

/* ---- capacity ---- */

enum policy_capacity_kind {
	POLICY_CAPACITY_UNLIMITED,
	POLICY_CAPACITY_VCPUS, /* a number of vCPUs */
	POLICY_CAPACITY_CPUS,  /* so many CPUs, times the overcommit */
	POLICY_CAPACITY_AUTO,  /* as many CPUs as the host has for us, times the overcommit; see capacity.h */
};

struct policy_capacity {
	enum policy_capacity_kind kind;
	uint32_t count;            /* VCPUS, CPUS */
	uint32_t overcommit_milli; /* CPUS, AUTO: 1/1000 */
};

const struct policy_capacity *policy_capacity(const struct policy *policy);
/* In vCPUs, where the host has `cpus` for us (0: not known, counted as 1); FLEET_UNLIMITED. */
uint32_t policy_capacity_vcpus(const struct policy *policy, uint32_t cpus);

/* ---- which VM has what ---- */

struct policy_subject {
	const char *name;
	uint8_t uuid[CPUPOLICY_UUID_SIZE];
	const char *class;           /* assigned by an operator; NULL: not */
	const char *tenant;          /* the same */
	const char *announced_class; /* by a provider; NULL: not */
	const char *announced_tenant;
	uid_t uid; /* of the VMM */
};

enum policy_by {
	POLICY_BY_DEFAULT,
	POLICY_BY_RULE,
	POLICY_BY_ASSIGNMENT,
	POLICY_BY_ANNOUNCEMENT,
};
const char *policy_by_name(enum policy_by by); /* "default", "rule", "assignment", "announcement" */

struct policy_decision {
	struct fleet_assignment assignment; /* valid as long as the policy */
	enum policy_by class_by;
	enum policy_by tenant_by;
	uint32_t class_rule; /* POLICY_BY_RULE: its number, from 1, over all files */
	uint32_t tenant_rule;
	bool class_unknown; /* the assigned one is not in this policy: decided as if there were no assignment */
	bool tenant_unknown;
	bool announced_class_unknown; /* the same of what is announced; not looked at where an assignment decides */
	bool announced_tenant_unknown;
};

/* Who may register which VM. */
const struct registrants *policy_registrants(const struct policy *policy);

/* The tenant first: as assigned, else as announced, else by the first rule that matches and names one. Then the class in the same way, where
 * rules may match the tenant; else the default. Linear in the number of rules. */
void policy_assign(const struct policy *policy, const struct policy_subject *subject, struct policy_decision *ret);

#endif
