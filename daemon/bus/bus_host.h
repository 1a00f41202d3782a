/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef CPUPOLICYD_BUS_HOST_H
#define CPUPOLICYD_BUS_HOST_H

/* What the policy defines, as the Manager's properties tell it. */

#include <stdint.h>
#include <systemd/sd-bus.h>

#include "daemon/host/host.h"

/* name, guaranteed, limit, priority, metered, credit: cap, initial, resume (vCPU-ns), observed, has a price, prices of
 * a guaranteed and a burst vCPU-hour (1e-6) */
#define BUS_HOST_CLASSES "a(suuubxxxbbtt)"
/* name, quota, reserved, guaranteed, allowed, held, occupied, overdue */
#define BUS_HOST_TENANTS "a(sutttttt)"

int bus_host_append_classes(sd_bus_message *reply, const struct host *host);
int bus_host_append_tenants(sd_bus_message *reply, const struct host *host);
/* Another number when what is told of a tenant is another. */
uint64_t bus_host_hash_tenants(const struct host *host);

#endif
