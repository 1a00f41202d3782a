/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef CPUPOLICYD_BUS_CALL_H
#define CPUPOLICYD_BUS_CALL_H

/* Method calls that change something: from arrival through authorisation and the host's answer, which may be a disk
 * write away, to the reply. */

#include <systemd/sd-bus.h>

#include "daemon/bus_link.h"
#include "daemon/host.h"

struct bus_calls;

int bus_calls_new(struct bus_calls **ret, struct host *host);
/* The loop has ended: the host answers nothing any more. */
struct bus_calls *bus_calls_free(struct bus_calls *calls);
void bus_calls_set_link(struct bus_calls *calls, struct bus_link *link);
/* The connection is about to be dropped: nobody can be answered. */
void bus_calls_lost(struct bus_calls *calls);

/* Both return what a method handler does. */
int bus_call_resize(struct bus_calls *calls, sd_bus_message *m, const char *vm, uint32_t count,
		    sd_bus_error *ret_error);
int bus_call_forget(struct bus_calls *calls, sd_bus_message *m, const char *vm, sd_bus_error *ret_error);

#endif
