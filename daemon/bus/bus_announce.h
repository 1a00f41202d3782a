/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef CPUPOLICYD_BUS_ANNOUNCE_H
#define CPUPOLICYD_BUS_ANNOUNCE_H

/* Announce and Withdraw: what a provider says of VMs, checked as it comes from the bus. */

#include <systemd/sd-bus.h>

#include "daemon/bus/bus_provider.h"

#define BUS_ANNOUNCE_VMS "a(ssa{sv})"

/* Both return what a method handler does. */
int bus_announce(struct bus_providers *providers, struct bus_calls *calls, sd_bus_message *m, sd_bus_error *ret_error);
int bus_withdraw(struct bus_providers *providers, struct bus_calls *calls, sd_bus_message *m, sd_bus_error *ret_error);

/* All that is announced, as a(sss): UUID, name, provider. */
int bus_announce_append(sd_bus_message *reply, struct host *host);

#endif
