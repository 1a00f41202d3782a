/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef CPUPOLICYD_REGISTRANTS_H
#define CPUPOLICYD_REGISTRANTS_H

/* The part of a policy that says who may register which VM: rules in order, of which the first that matches decides. Read
 * from JSON by rows, as all of the policy; docs/man/cpupolicy.policy.5 describes every key. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "daemon/base/peer.h"
#include "daemon/settings/json_table.h"
#include "proto/cpupolicy-proto.h"

/* What is not given matches everything. */
struct registrants_rule {
	/* the VM */
	char *name; /* a pattern */
	uint8_t uuid[CPUPOLICY_UUID_SIZE];
	bool has_uuid;
	uint32_t tenant; /* FLEET_NO_TENANT */
	/* the process */
	uint32_t uid, gid;
	bool has_uid, has_gid;
	char *user, *group; /* names that are to become uid and gid; see registrants_resolve() */
	char *label;        /* these are patterns */
	char *unit;
	char *slice;
	char *machine;
	bool announced, has_announced;
	bool allow;
};

struct registrants {
	struct registrants_rule *rules;
	size_t n;
};

void registrants_clear(struct registrants *registrants);
/* Of a rule, into a zeroed one whose tenant is FLEET_NO_TENANT. `read_tenant` is the row reader of a tenant's name. */
int registrants_read_rule(struct json_reader *reader, json_t *value, struct registrants_rule *rule,
			  int (*read_tenant)(struct json_reader *reader, const struct json_row *row, json_t *value,
					     void *to));
/*
 * Names of users and groups are looked up in these two files, and nowhere else: a directory service may take its time,
 * and a reload must not. A rule with a name that has not been looked up matches nobody. -ENOENT: there is no such name;
 * on failure *ret_error is a message to print and free, or NULL.
 */
int registrants_resolve(struct registrants *registrants, const char *passwd, const char *group, char **ret_error);

/* Who wants to register what. */
struct registrants_subject {
	const char *name;
	const uint8_t *uuid;
	uint32_t tenant; /* FLEET_NO_TENANT */
	const struct peer *peer;
	bool announced; /* a provider announced the VM, and the peer is as it said */
};
/* *ret_rule: the number of the rule that decided, from 1; 0: none did, so it is allowed. */
bool registrants_allow(const struct registrants *registrants, const struct registrants_subject *subject,
		       uint32_t *ret_rule);

#endif
