/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef CPUCTL_HOST_INFO_H
#define CPUCTL_HOST_INFO_H

/* The host as the bus tells it, with the classes and tenants of its policy: read from GetAll and PropertiesChanged alike. */

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <systemd/sd-bus.h>

#include "client/connection.h"

#define HOST_INFO_UNLIMITED UINT32_MAX

struct host_sums {
	uint64_t reserved, guaranteed, allowed, held, occupied, overdue;
};

struct host_class {
	char *name;
	uint32_t guaranteed, limit, priority;
	bool metered, observe, priced;
	int64_t cap, initial, resume;           /* vCPU-ns */
	uint64_t price_guaranteed, price_burst; /* 1e-6 per vCPU-hour */
};

struct host_tenant {
	char *name;
	uint32_t quota;
	struct host_sums sums;
};

struct host_info {
	char *version;
	uint32_t vms, connected, capacity, cpus;
	struct host_sums sums;
	bool observe, frozen, drained;
	uint32_t frozen_uid, drained_uid;
	struct host_class *classes;
	size_t n_classes;
	struct host_tenant *tenants;
	size_t n_tenants;
};

/* *ret is initialised on success only. */
int host_info_get(struct connection *c, struct host_info *ret, sd_bus_error *ret_error);
/* Takes over what an a{sv} at the message's read position has; leaves the rest. */
int host_info_read(struct host_info *info, sd_bus_message *m);
void host_info_clear(struct host_info *info);

const struct host_class *host_info_class(const struct host_info *info, const char *name); /* NULL: none of that name */

/* NULL: out of memory */
json_t *host_info_json(const struct host_info *info);
json_t *host_info_classes_json(const struct host_info *info);
json_t *host_info_tenants_json(const struct host_info *info);

#endif
