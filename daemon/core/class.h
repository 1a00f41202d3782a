/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef CPUPOLICYD_CLASS_H
#define CPUPOLICYD_CLASS_H

/*
 * A service class: what a VM may have, what it may have for a while, and how it is treated. Immutable; owned by the
 * policy, which outlives every VM that points to it (fleet_reload() moves them all to another).
 * docs/service-levels.md says what each means.
 */

#include <stdbool.h>
#include <stdint.h>

#include "daemon/core/rate.h"
#include "proto/cpupolicy-proto.h"

#define CLASS_PRIORITY_MAX  99u
#define CLASS_CREDIT_MAX    (INT64_C(1) << 60)    /* vCPU-ns: 36 vCPU-years */
#define CLASS_RETRY_MIN     UINT64_C(1000000000)  /* ns */
#define CLASS_RETRY_DEFAULT UINT64_C(60000000000) /* ns */
#define CLASS_PLUGS_MAX     1000000u
#define CLASS_PRICE_MAX     UINT64_C(1000000000000) /* micro-units per vCPU-hour */

/* Credit in vCPU-ns. Earned for each ns and vCPU below the guarantee, spent above it; see credit.h. */
struct class_burst {
	bool metered;    /* false: bursts are bounded by room alone, and the rest means nothing */
	int64_t cap;     /* 0 .. CLASS_CREDIT_MAX: what is earned beyond it is lost */
	int64_t initial; /* 0 .. cap: of a VM that has no balance yet */
	int64_t resume;  /* 0 .. cap: who ran out may burst again from here on (at least 1 vCPU-ns) */
};

/* vCPUs granted, by whatever cause; the boot set and what is taken back do not count. */
struct class_plugs {
	uint32_t per_minute; /* 0: no limit; .. CLASS_PLUGS_MAX */
	uint32_t burst;      /* at once; at least 1 where there is a limit; .. CLASS_PLUGS_MAX */
};

/* What to do when the guest will not give back a vCPU: refused, forbidden, or `retry_interval` without an answer. */
enum class_refusal {
	CLASS_RETRY = 0,  /* ask again each `retry_interval` */
	CLASS_REVOKE = 1, /* that too, and its next CPU_ON is denied: the grant ends as soon as the vCPU is off */
	CLASS_QUOTA =
		2, /* asked again, and the VM's CPU time is held to its target until it gives back; see vm_quota() */
};

/* In micro-units (1e-6 of whatever the provider bills in) per vCPU-hour. */
struct class_price {
	bool given;
	uint64_t guaranteed;
	uint64_t burst;
};

struct service_class {
	const char *name;
	uint32_t guaranteed; /* vCPUs, 1 .. limit; a VM with fewer possible vCPUs has all of those guaranteed */
	uint32_t limit;      /* vCPUs, guaranteed .. CPUPOLICY_MAX_VCPUS */
	uint32_t priority;   /* 0 .. CLASS_PRIORITY_MAX; the higher one gets burst first and keeps it longer */
	struct class_burst burst;
	struct class_plugs plugs;
	struct rate_limit cpu_on; /* CPU_ON calls per second and VM; a limit makes the page ask */
	enum class_refusal refusal;
	bool standing_quota;     /* the VM's CPU time is held to its enabled vCPUs, always */
	uint64_t retry_interval; /* ns, at least CLASS_RETRY_MIN; stands while the VM is paused or without its VMM */
	bool ask;                /* ask even without a limit: every CPU_ON meets the daemon */
	bool timeout_allow;      /* an ask that is not answered in time is allowed */
	bool observe;            /* compute and record, deny nothing */
	bool bill_paused;        /* a paused VM's usage and credit go on; else both stand still */
	uint32_t ask_timeout_ms; /* how long the VMM waits for an answer */
	uint64_t job_timeout;    /* ns that a guest has for a resize, while it runs */
	struct class_price price;
};

/* The class of VMs that nothing else is said of, where the policy does not replace it: named "default", 1 vCPU
 * guaranteed, as many as possible unmetered, priority 0, nothing limited. */
void class_default(struct service_class *ret);
/* Whether the values are within their ranges and fit together. -EINVAL: *ret_member is the dotted name of the one that
 * does not ("burst.initial") and *ret_why says what was expected; both are constant strings. */
int class_check(const struct service_class *class, const char **ret_member, const char **ret_why);

/* What the class guarantees to a VM of so many possible vCPUs, and the most it permits to it. */
static inline uint32_t class_guaranteed(const struct service_class *class, uint32_t possible)
{
	return class->guaranteed < possible ? class->guaranteed : possible;
}

static inline uint32_t class_limit(const struct service_class *class, uint32_t possible)
{
	return class->limit < possible ? class->limit : possible;
}

#endif
