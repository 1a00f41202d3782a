/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef CPUPOLICYD_BUS_H
#define CPUPOLICYD_BUS_H

/* The D-Bus face: connects, owns org.cpupolicy1, comes back when the bus went away. Handlers parse, authorise, call the
 * host, reply. docs/dbus.md describes the API. */

#include "daemon/bus/bus_open.h"
#include "daemon/host/host.h"
#include "daemon/base/loop.h"

struct bus;

/* `address`: "system", "session" or a D-Bus address. Trouble with the bus later is logged and tried again, never fatal. On failure
 * at start *ret_error is a message to print and free. */
int bus_new(struct bus **ret, struct loop *loop, struct host *host, const char *address, bus_open_fn open,
	    void *open_data, char **ret_error);
/* Gives up the name, so that calls wait for a successor. `left` runs once all calls that came before are taken, at once if there
 * is no connection; calls are still answered after it. */
void bus_leave(struct bus *bus, loop_fn left, void *userdata);
struct bus *bus_free(struct bus *bus);

#endif
