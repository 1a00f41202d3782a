/* SPDX-License-Identifier: GPL-2.0-or-later */

#include "daemon/core/rule.h"

const char *rule_name(enum rule rule)
{
	static const char *const names[] = {
		[RULE_NONE] = "none",           [RULE_RANGE] = "out-of-range",     [RULE_LIMIT] = "sla-limit",
		[RULE_TENANT] = "tenant-quota", [RULE_CAPACITY] = "host-capacity", [RULE_CREDIT] = "burst-credit",
		[RULE_PLUG_RATE] = "plug-rate", [RULE_FROZEN] = "frozen",          [RULE_DRAINED] = "drained",
		[RULE_BOOT] = "boot-vcpu",      [RULE_NOTIFY] = "not-notifiable",  [RULE_MIGRATING] = "migrating",
		[RULE_STORAGE] = "storage",
	};

	_Static_assert(sizeof(names) / sizeof(names[0]) == RULE_MAX + 1, "a name for each rule");
	return (unsigned)rule <= RULE_MAX ? names[rule] : "unknown";
}
