/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef CPUPOLICYD_BUS_ADDRESS_H
#define CPUPOLICYD_BUS_ADDRESS_H

/* What a bus is called: "system", "session" or a D-Bus address. Every program of the project takes these. */

#include <systemd/sd-bus.h>

/* Begins to connect. -EINVAL: it is none of these; -ENOMEDIUM: this one has no address here; or as sd-bus says. */
int bus_address_open(sd_bus **ret, const char *address, const char *description);

#endif
