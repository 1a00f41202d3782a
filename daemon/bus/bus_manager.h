/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef CPUPOLICYD_BUS_MANAGER_H
#define CPUPOLICYD_BUS_MANAGER_H

/* The object /org/cpupolicy1: what concerns all VMs. */

#include <systemd/sd-bus.h>

#include "daemon/bus/bus_call.h"
#include "daemon/bus/bus_open.h"
#include "daemon/bus/bus_provider.h"
#include "daemon/bus/bus_usage.h"
#include "daemon/host/host.h"

#define BUS_MANAGER_PATH      "/org/cpupolicy1"
#define BUS_MANAGER_INTERFACE "org.cpupolicy1.Manager"

struct bus_manager_context {
	struct host *host;
	struct bus_calls *calls;
	struct bus_opens *opens;
	struct bus_usage *usage;
	struct bus_providers *providers;
};
/* `context` outlives the connection. */
int bus_manager_add(sd_bus *sd, struct bus_manager_context *context);

/* What PropertiesChanged is made from. */
struct bus_manager_seen {
	uint32_t vms, connected;
	struct host_view host;
	uint64_t tenants; /* over what each tenant's VMs have */
	bool reloaded;    /* set by who knows; cleared when told */
};
void bus_manager_look(struct host *host, struct bus_manager_seen *ret);
int bus_manager_tell(sd_bus *sd, struct host *host, struct bus_manager_seen *seen);

int bus_manager_signal_vm(sd_bus *sd, const char *member, const struct host_vm *vm);
/* `result` NULL: JobNew, else JobRemoved. */
int bus_manager_signal_job(sd_bus *sd, const struct host_vm *vm, const struct job *job, const char *result);

#endif
