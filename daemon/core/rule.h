/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef CPUPOLICYD_RULE_H
#define CPUPOLICYD_RULE_H

/*
 * The rules that can refuse a request, or hold a VM below what was asked for. One set of codes for all who speak of
 * them: errors on the bus, TargetReason, explain, the record, metrics. The numbers are stored in recordings: append only.
 */
enum rule {
	RULE_NONE = 0,      /* nothing stands against it */
	RULE_RANGE = 1,     /* not within 1 .. possible */
	RULE_LIMIT = 2,     /* above the class's limit */
	RULE_TENANT = 3,    /* the tenant's quota */
	RULE_CAPACITY = 4,  /* the host's capacity */
	RULE_CREDIT = 5,    /* out of burst credit */
	RULE_PLUG_RATE = 6, /* more vCPUs granted per minute than the class permits */
	RULE_FROZEN = 7,    /* an operator froze the host */
	RULE_DRAINED = 8,   /* an operator drains the host */
	RULE_BOOT = 9,      /* boot vCPUs that the VMM does not permit to take back */
	RULE_NOTIFY = 10,   /* the guest has no ACPI */
	RULE_MIGRATING = 11,
	RULE_STORAGE = 12, /* could not be made durable, or as many as may be wait for the disk */
	RULE_MAX = RULE_STORAGE,
};

const char *rule_name(enum rule rule); /* "none", "out-of-range", "sla-limit", "tenant-quota", ... */

#endif
