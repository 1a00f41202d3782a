/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef CPUPOLICYD_BUS_TRANSFER_H
#define CPUPOLICYD_BUS_TRANSFER_H

/*
 * What a VM takes along to another host, as a text that one daemon writes and another reads: JSON, read as strictly as
 * the configuration. docs/dbus.md has the format.
 */

#include "daemon/host/host.h"

/* One line. */
enum host_error bus_transfer_export(struct host *host, const char *vm, char **ret);
void bus_transfer_import(struct host *host, const char *vm, const char *text, uid_t uid, host_done_fn done,
			 void *userdata);

#endif
