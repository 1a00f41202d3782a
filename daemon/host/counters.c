/* SPDX-License-Identifier: GPL-2.0-or-later */

#include "daemon/host/counters.h"

const uint64_t counters_latency_bounds[COUNTERS_LATENCIES] = {
	5000,    10000,   25000,    50000,    100000,    250000,     500000,     1000000,
	2500000, 5000000, 10000000, 25000000, 100000000, 1000000000, UINT64_MAX,
};

const char *counters_result_name(enum counters_result result)
{
	static const char *const names[COUNTERS_RESULTS] = {"allow", "deny", "observe"};

	return names[result];
}

const char *counters_registration_name(enum counters_registration outcome)
{
	static const char *const names[COUNTERS_REGISTRATIONS] = {
		[COUNTERS_STARTED] = "started",
		[COUNTERS_RESUMED] = "resumed",
		[COUNTERS_JOINED] = "joined",
		[COUNTERS_REFUSED_IDENTITY] = "refused-identity",
		[COUNTERS_REFUSED_ADMISSION] = "refused-admission",
		[COUNTERS_REFUSED_UNSUPPORTED] = "refused-unsupported",
		[COUNTERS_REFUSED_LIMIT] = "refused-limit",
		[COUNTERS_REFUSED_BUSY] = "refused-busy",
		[COUNTERS_REFUSED_STORAGE] = "refused-storage",
		[COUNTERS_REFUSED_RESOURCES] = "refused-resources",
	};

	return names[outcome];
}

void counters_latency(struct counters *counters, uint64_t ns, uint32_t n)
{
	uint32_t i = 0;

	while (ns > counters_latency_bounds[i])
		i++;
	counters->latency[i] += n;
	counters->latency_sum += ns * n;
}
