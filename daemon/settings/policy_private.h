/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef CPUPOLICYD_POLICY_PRIVATE_H
#define CPUPOLICYD_POLICY_PRIVATE_H

/* What policy.c, which answers questions, and policy_read.c, which makes it from texts, share. */

#include "daemon/settings/policy.h"
#include "daemon/settings/registrants.h"

/* What is not given matches everything. */
struct policy_rule {
	char *name; /* a pattern; NULL */
	uint8_t uuid[CPUPOLICY_UUID_SIZE];
	bool has_uuid;
	bool has_uid;
	uid_t uid;
	uint32_t match_tenant;             /* FLEET_NO_TENANT */
	const struct service_class *class; /* NULL: it says nothing of it */
	uint32_t tenant;                   /* FLEET_NO_TENANT: the same */
};

struct policy {
	unsigned references;
	struct policy_source *sources;
	size_t n_sources;
	struct service_class *classes; /* in order of name */
	size_t n_classes;
	struct fleet_tenant *tenants; /* in order of name */
	uint32_t n_tenants;
	struct policy_rule *rules; /* in the order in which they are tried */
	size_t n_rules;
	struct registrants registrants;
	const struct service_class *default_class;
	struct policy_capacity capacity;
	bool observe;
};

/* Fills in all of an empty policy that has its sources. On failure it is to be freed; *ret_error as policy_load(). */
int policy_read(struct policy *policy, char **ret_error);

#endif
