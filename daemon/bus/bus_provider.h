/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef CPUPOLICYD_BUS_PROVIDER_H
#define CPUPOLICYD_BUS_PROVIDER_H

/* Providers on the bus: from RegisterProvider until they leave it, and the calls to their objects. */

#include <systemd/sd-bus.h>

#include "daemon/bus/bus_call.h"
#include "daemon/bus/bus_link.h"
#include "daemon/host/host.h"

#define BUS_PROVIDER_INTERFACE "org.cpupolicy1.Provider"

struct bus_providers;

int bus_providers_new(struct bus_providers **ret, struct host *host);
struct bus_providers *bus_providers_free(struct bus_providers *providers);
void bus_providers_set_link(struct bus_providers *providers, struct bus_link *link);
/* The connection is about to be dropped: they have all left. */
void bus_providers_lost(struct bus_providers *providers);

/* The provider that sent this message; NULL: none did. */
struct host_provider *bus_provider_of(const struct bus_providers *providers, sd_bus_message *m);

/* RegisterProvider(s name, o object). Returns what a method handler does. */
int bus_provider_register(struct bus_providers *providers, struct bus_calls *calls, sd_bus_message *m,
			  sd_bus_error *ret_error);
/* The property Providers: as */
int bus_provider_append(sd_bus_message *reply, const struct host *host);

#endif
