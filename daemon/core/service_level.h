/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef CPUPOLICYD_SERVICE_LEVEL_H
#define CPUPOLICYD_SERVICE_LEVEL_H

#include <stdbool.h>
#include <stdint.h>

#include "daemon/core/rate.h"

/* What a VM may have and how it is judged. Owned by the configuration, which outlives every VM that points to it. */
struct service_level {
	uint32_t minimum;         /* vCPUs, at least 1 */
	uint32_t maximum;         /* vCPUs, minimum .. CPUPOLICY_MAX_VCPUS */
	struct rate_limit cpu_on; /* CPU_ON calls per second and VM; a limit makes the page ask */
	bool ask;                 /* ask even without a limit: every CPU_ON meets the daemon */
	bool timeout_allow;       /* an ask that is not answered in time is allowed */
	bool observe;             /* compute and record, deny nothing */
	uint32_t ask_timeout_ms;  /* how long the VMM waits for an answer */
	uint64_t job_timeout;     /* ns that a guest has for a resize, while it runs */
};

#endif
