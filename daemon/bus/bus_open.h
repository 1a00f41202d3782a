/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef CPUPOLICYD_BUS_OPEN_H
#define CPUPOLICYD_BUS_OPEN_H

/* OpenVmm: a launcher is given a connection for the VMM that it starts. */

#include <systemd/sd-bus.h>

#include "daemon/bus/bus_authorise.h"
#include "daemon/bus/bus_link.h"
#include "daemon/host/host.h"

/* Where connections come from: 0, and *ret_fd is the VMM's end; -EUSERS: the caller has too many that are not registered. */
typedef int (*bus_open_fn)(const struct host_voucher *voucher, int *ret_fd, void *userdata);

struct bus_opens;

int bus_opens_new(struct bus_opens **ret, struct host *host, struct bus_authority *authority, bus_open_fn open,
		  void *userdata);
struct bus_opens *bus_opens_free(struct bus_opens *opens);
void bus_opens_set_link(struct bus_opens *opens, struct bus_link *link);
/* The connection to the bus is about to be dropped: nobody can be answered. */
void bus_opens_lost(struct bus_opens *opens);

/* Returns what a method handler does. */
int bus_open(struct bus_opens *opens, sd_bus_message *m, sd_bus_error *ret_error);

#endif
