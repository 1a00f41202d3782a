/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef CPUPOLICYD_BUS_USAGE_H
#define CPUPOLICYD_BUS_USAGE_H

/* Calls that read usage: answered when the store's thread has read it, part by part. */

#include <stdbool.h>
#include <systemd/sd-bus.h>

#include "daemon/bus/bus_link.h"
#include "daemon/host/host.h"

/* uuid, name, tenant, class, begin, end (microseconds since 1970), guaranteed, burst (vCPU-ns), rows */
#define BUS_USAGE_ROW "(ssssttttt)"

struct bus_usage;

int bus_usage_new(struct bus_usage **ret, struct host *host);
/* The loop has ended. */
struct bus_usage *bus_usage_free(struct bus_usage *usage);
void bus_usage_set_link(struct bus_usage *usage, struct bus_link *link);
/* The connection is about to be dropped: nobody can be answered. */
void bus_usage_lost(struct bus_usage *usage);

/* (t since, t until, s tenant); `totals`: a row for each VM, class and tenant, else one for each hour of those. Returns
 * what a method handler does. */
int bus_usage_query(struct bus_usage *usage, sd_bus_message *m, bool totals, sd_bus_error *ret_error);

#endif
