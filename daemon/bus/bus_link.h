/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef CPUPOLICYD_BUS_LINK_H
#define CPUPOLICYD_BUS_LINK_H

/* One connection to a message bus on the loop: opened, given its name, served, and opened again when the bus went away.
 * Without a name (NULL) it is a client's. Nothing here blocks once the daemon runs, and an idle connection has no wake-ups. */

#include <systemd/sd-bus.h>

#include "daemon/base/loop.h"

struct bus_link;

struct bus_link_ops {
	/* A new connection: add the objects to it; its name is asked for after this. */
	int (*opened)(sd_bus *sd, void *userdata);
	/* The connection is about to be dropped: nothing of it may be kept. */
	void (*lost)(sd_bus *sd, void *userdata);
};

/* Waits for the name (5 s), so that a daemon that is ready can be called. A bus that is not there is tried again later; a name
 * that is taken, or a bus that cannot be, is a failure: *ret_error is a message to print and free. */
int bus_link_new(struct bus_link **ret, struct loop *loop, const char *address, const char *name,
		 const struct bus_link_ops *ops, void *userdata, char **ret_error);
/* Gives up the name for good; `fn` runs when the bus has taken that, and all calls before it are here, or there is no bus. */
void bus_link_leave(struct bus_link *link, loop_fn fn, void *userdata);
struct bus_link *bus_link_free(struct bus_link *link);

/* NULL: not connected. Whoever sends on it says so by bus_link_touch(). */
sd_bus *bus_link_get(const struct bus_link *link);
void bus_link_touch(struct bus_link *link);

#endif
