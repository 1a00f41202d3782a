/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef CPUPOLICYD_COUNTERS_H
#define CPUPOLICYD_COUNTERS_H

/* What happened in this life of the daemon, for metrics. All only grow. */

#include <stdint.h>

#include "daemon/core/job.h"
#include "daemon/core/rule.h"
#include "proto/cpupolicy-proto.h"

enum counters_result {
	COUNTERS_ALLOWED,
	COUNTERS_DENIED,
	COUNTERS_OBSERVED, /* allowed; by `reason`, enforcement would have denied it */
	COUNTERS_RESULTS,
};
const char *counters_result_name(enum counters_result result); /* "allow", "deny", "observe" */

enum counters_registration {
	COUNTERS_STARTED,
	COUNTERS_RESUMED,
	COUNTERS_JOINED,              /* as migration target */
	COUNTERS_REFUSED_IDENTITY,    /* the UUID, name or token is not its to claim */
	COUNTERS_REFUSED_ADMISSION,   /* no room for its guarantee, or no new VMs now */
	COUNTERS_REFUSED_UNSUPPORTED, /* its class needs what the VMM cannot */
	COUNTERS_REFUSED_LIMIT,       /* as many VMs as may be */
	COUNTERS_REFUSED_BUSY,        /* another registration of this VM is under way */
	COUNTERS_REFUSED_STORAGE,     /* could not be made durable */
	COUNTERS_REFUSED_RESOURCES,   /* the daemon is out of memory or descriptors */
	COUNTERS_REGISTRATIONS,
};
const char *counters_registration_name(enum counters_registration outcome); /* "started", "refused-identity", ... */

enum counters_call {
	COUNTERS_CALL_DONE,
	COUNTERS_CALL_FAILED,
	COUNTERS_CALLS,
};

#define COUNTERS_LATENCIES 15u
/* Upper bounds of the buckets, ns, ascending; the last one is UINT64_MAX. */
extern const uint64_t counters_latency_bounds[COUNTERS_LATENCIES];

struct counters {
	uint64_t verdicts[COUNTERS_RESULTS][CPUPOLICY_REASON_MAX + 1]; /* of the daemon, and of pages as VMMs report */
	uint64_t latency[COUNTERS_LATENCIES];                          /* asks alone; each in one bucket */
	uint64_t latency_sum;                                          /* ns */
	uint64_t registrations[COUNTERS_REGISTRATIONS];
	uint64_t jobs[JOB_RESULT_MAX + 1]; /* that ended */
	uint64_t refusals[RULE_MAX + 1];   /* of requests and registrations */
	uint64_t writes;                   /* of records, durable */
	uint64_t write_failures;
	uint64_t checkpoints; /* rounds of them */
	uint64_t reloads;
	uint64_t reload_failures;
	uint64_t provider_calls[COUNTERS_CALLS];
};

void counters_latency(struct counters *counters, uint64_t ns, uint32_t n);

#endif
