/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef CPUPOLICYD_EXPLAIN_H
#define CPUPOLICYD_EXPLAIN_H

/*
 * What a request for COUNT vCPUs meets, rule by rule with the numbers: pure. The fleet asks this before it accepts a
 * request, and `cpuctl explain` shows it: so they cannot differ. fleet_explain() collects the facts.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "daemon/core/rule.h"

#define EXPLAIN_UNLIMITED UINT32_MAX
#define EXPLAIN_TEXT_SIZE 512

struct explain_facts {
	uint32_t count;
	/* the VM */
	uint32_t possible;
	uint32_t boot;
	uint32_t wanted; /* has, and was not asked back */
	bool running;    /* has a VMM, connected or not */
	bool boot_removable;
	bool notify;
	bool migrating;
	bool queue_full; /* as many requests as may be wait for the disk */
	/* its class */
	const char *class_name;
	uint32_t guaranteed; /* within possible, as the next */
	uint32_t limit;
	bool may_burst;
	bool metered;
	int64_t balance; /* vCPU-ns, now */
	int64_t resume;
	uint32_t plugs_per_minute; /* 0: no limit */
	uint32_t plugs_now;        /* that it may get at once */
	/* its tenant and the host; what others hold: their allowance, or what their guests have, whichever is more */
	const char *tenant_name; /* NULL: none */
	uint32_t tenant_quota;   /* EXPLAIN_UNLIMITED */
	uint64_t tenant_others;
	uint32_t capacity; /* EXPLAIN_UNLIMITED */
	uint64_t capacity_others;
	uint64_t overdue_others;
	bool frozen;
	bool drained;
	/* what the ledger would give it */
	uint32_t allowance;
	uint32_t entitled;
	enum rule bound;
};

enum explain_outcome {
	EXPLAIN_PASSES,
	EXPLAIN_WAITS,   /* accepted; this keeps the target below the count for now */
	EXPLAIN_REFUSES, /* nothing would change */
};

struct explain_line {
	enum rule rule;
	enum explain_outcome outcome;
	bool admission;  /* of a VM that registers: `count` is its guarantee, `others` what is reserved */
	const char *who; /* name of the class or the tenant whose rule it is; NULL: the host's, or the VM's own */
	uint64_t count;  /* what is asked for */
	uint64_t bound;  /* what the rule permits in all; UINT64_MAX: no bound */
	uint64_t others; /* how much of it others hold */
	int64_t balance; /* RULE_CREDIT: vCPU-ns */
	int64_t resume;
};

struct explain {
	enum rule refused; /* by the first line that refuses; RULE_NONE: would be accepted */
	uint32_t target;   /* what the VM would have or be asked for at once, if accepted */
	enum rule bound;   /* why that is below the count, if it is */
	size_t n;
	struct explain_line lines[RULE_MAX]; /* each rule once, in the order of evaluation */
};

void explain_evaluate(const struct explain_facts *facts, struct explain *ret);
/* One sentence without its full stop, that says what the bound is and who set it; of a rule that does not pass it is the
 * error message too. Always terminated; `size` EXPLAIN_TEXT_SIZE is enough for names of up to 255 bytes. */
void explain_text(char *buffer, size_t size, const char *vm_name, const struct explain_line *line);
const char *explain_outcome_name(enum explain_outcome outcome); /* "passes", "waits", "refuses" */

#endif
