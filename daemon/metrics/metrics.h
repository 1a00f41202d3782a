/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef CPUPOLICYD_METRICS_H
#define CPUPOLICYD_METRICS_H

/*
 * Serves /metrics to whoever scrapes, on the daemon's loop. Read-only, and never in the way: connections are few, and a
 * text of many VMs is made in steps between which verdicts have their turn.
 */

#include "daemon/host/host.h"
#include "daemon/base/loop.h"

struct metrics;

/*
 * `address`: see address.h. `group`: of the socket file, whose members may use it; NULL: the daemon's. On failure
 * *ret_error is a message to print and free, or NULL if there is no memory for one.
 */
int metrics_new(struct metrics **ret, struct loop *loop, struct host *host, const char *address, const char *group,
		char **ret_error);
struct metrics *metrics_free(struct metrics *metrics);

#endif
