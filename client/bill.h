/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef CPUCTL_BILL_H
#define CPUCTL_BILL_H

/* Usage with prices applied: rows as the daemon gives them, what each costs, and their sum. Pure but for reading. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <systemd/sd-bus.h>

#include "client/host_info.h"

struct bill_row {
	char *uuid, *name, *tenant, *class;
	uint64_t begin, end;              /* microseconds since 1970 */
	uint64_t guaranteed_ns, burst_ns; /* vCPU-ns */
	uint64_t rows;
	bool priced; /* the policy in force has a price for its class */
	uint64_t cost;
};

struct bill {
	struct bill_row *rows;
	size_t n;
	/* of all rows */
	uint64_t guaranteed_ns, burst_ns;
	bool priced; /* there is one with a price */
	uint64_t cost;
};

/* a(ssssttttt) at the read position. */
int bill_read(struct bill *bill, sd_bus_message *m);
/* Costs are rounded down once: a row's, and the total of each class, whatever rows it came in. */
void bill_apply(struct bill *bill, const struct host_info *host);
void bill_clear(struct bill *bill);

#endif
