/* SPDX-License-Identifier: GPL-2.0-or-later */

/*
 * What makes up the D-Bus face, and its life: the connection (bus_link), the objects (bus_manager, bus_vm, bus_job), calls
 * that change something (bus_call, bus_authorise) or wait for the store (bus_usage), and what clients are told unasked
 * (bus_notify).
 */

#include "daemon/bus/bus.h"

#include <errno.h>
#include <stdlib.h>

#include "daemon/bus/bus_authorise.h"
#include "daemon/bus/bus_call.h"
#include "daemon/bus/bus_job.h"
#include "daemon/bus/bus_link.h"
#include "daemon/bus/bus_manager.h"
#include "daemon/bus/bus_notify.h"
#include "daemon/bus/bus_open.h"
#include "daemon/bus/bus_provider.h"
#include "daemon/bus/bus_usage.h"
#include "daemon/bus/bus_vm.h"

#define BUS_NAME "org.cpupolicy1"

struct bus {
	struct host *host;
	struct bus_link *link;
	struct bus_authority *authority;
	struct bus_calls *calls;
	struct bus_opens *opens;
	struct bus_usage *usage;
	struct bus_notify *notify;
	struct bus_providers *providers;
	struct bus_manager_context manager;
	struct bus_vm_context vm;
};

static int on_opened(sd_bus *sd, void *userdata)
{
	struct bus *bus = userdata;
	int r;

	bus_notify_reset(bus->notify);
	r = bus_manager_add(sd, &bus->manager);
	if (r >= 0)
		r = bus_vm_add(sd, &bus->vm);
	if (r >= 0)
		r = bus_job_add(sd, bus->host);
	return r;
}

static void on_lost(sd_bus *sd, void *userdata)
{
	struct bus *bus = userdata;

	bus_providers_lost(bus->providers);
	bus_calls_lost(bus->calls);
	bus_opens_lost(bus->opens);
	bus_usage_lost(bus->usage);
}

static const struct bus_link_ops link_ops = {
	.opened = on_opened,
	.lost = on_lost,
};

int bus_new(struct bus **ret, struct loop *loop, struct host *host, const char *address, bus_open_fn open,
	    void *open_data, char **ret_error)
{
	struct bus *bus = calloc(1, sizeof(*bus));
	int r;

	if (!bus)
		return -ENOMEM;
	bus->host = host;
	r = bus_authority_new(&bus->authority, loop, host);
	if (r >= 0)
		r = bus_calls_new(&bus->calls, host, bus->authority);
	if (r >= 0)
		r = bus_opens_new(&bus->opens, host, bus->authority, open, open_data);
	if (r >= 0)
		r = bus_usage_new(&bus->usage, host);
	if (r >= 0)
		r = bus_providers_new(&bus->providers, host);
	if (r >= 0)
		r = bus_notify_new(&bus->notify, loop, host);
	if (r >= 0) {
		bus->manager = (struct bus_manager_context){.host = host,
							    .calls = bus->calls,
							    .opens = bus->opens,
							    .usage = bus->usage,
							    .providers = bus->providers};
		bus->vm = (struct bus_vm_context){.host = host, .calls = bus->calls};
		r = bus_link_new(&bus->link, loop, address, BUS_NAME, &link_ops, bus, ret_error);
	}
	if (r < 0) {
		bus_free(bus);
		return r;
	}
	bus_calls_set_link(bus->calls, bus->link);
	bus_opens_set_link(bus->opens, bus->link);
	bus_usage_set_link(bus->usage, bus->link);
	bus_providers_set_link(bus->providers, bus->link);
	bus_notify_set_link(bus->notify, bus->link);
	*ret = bus;
	return 0;
}

void bus_leave(struct bus *bus, loop_fn left, void *userdata)
{
	bus_link_leave(bus->link, left, userdata);
}

struct bus *bus_free(struct bus *bus)
{
	if (!bus)
		return NULL;
	/* Nothing is said on a connection that ends: what is left has no link to say it on. */
	if (bus->calls)
		bus_calls_set_link(bus->calls, NULL);
	if (bus->opens)
		bus_opens_set_link(bus->opens, NULL);
	if (bus->usage)
		bus_usage_set_link(bus->usage, NULL);
	if (bus->providers)
		bus_providers_set_link(bus->providers, NULL);
	if (bus->notify)
		bus_notify_set_link(bus->notify, NULL);
	bus_link_free(bus->link);
	bus_providers_free(bus->providers);
	bus_notify_free(bus->notify);
	bus_calls_free(bus->calls);
	bus_opens_free(bus->opens);
	bus_authority_free(bus->authority);
	bus_usage_free(bus->usage);
	free(bus);
	return NULL;
}
