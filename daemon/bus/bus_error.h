/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef CPUPOLICYD_BUS_ERROR_H
#define CPUPOLICYD_BUS_ERROR_H

/* The names that errors have on the bus. */

#include <systemd/sd-bus.h>

#include "daemon/host/host.h"

#define BUS_ERROR(name) "org.cpupolicy1.Error." name

const char *bus_error_name(enum host_error error);
/* For questions, to which the host answers without a sentence. Returns what a method handler does. */
int bus_error_of_vm(sd_bus_error *ret_error, enum host_error error, const char *vm);

#endif
