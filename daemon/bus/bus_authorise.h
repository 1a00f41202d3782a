/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef CPUPOLICYD_BUS_AUTHORISE_H
#define CPUPOLICYD_BUS_AUTHORISE_H

/* Who may change something: root, and the user that the daemon runs as. The only place that decides it. */

#include <sys/types.h>
#include <systemd/sd-bus.h>

/* `error` is NULL for a caller that may; its message is for the caller. */
typedef void (*bus_authorise_fn)(uid_t uid, const sd_bus_error *error, void *userdata);

struct bus_authorisation;

/* Asks the bus for the uid behind the message's sender, without waiting: `fn` runs once from the loop, unless the
 * authorisation is freed before that. It may free it. */
int bus_authorise(struct bus_authorisation **ret, sd_bus_message *call, bus_authorise_fn fn, void *userdata);
struct bus_authorisation *bus_authorisation_free(struct bus_authorisation *a);

#endif
