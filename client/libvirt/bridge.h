/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef CPUPOLICY_LIBVIRT_BRIDGE_H
#define CPUPOLICY_LIBVIRT_BRIDGE_H

/* What the bridge is: the domains of libvirt on one side, the daemon on the other, and what each is to know of the
 * other. On the loop; it never waits. */

#include "daemon/base/loop.h"

struct bridge;

struct bridge_setup {
	struct loop *loop;
	const char *uri;    /* of libvirt */
	const char *bus;    /* of the daemon */
	const char *socket; /* the daemon's, for VMMs */
};

/* Strings stay the caller's. Negative errno; *ret_error may be a message to print and free. */
int bridge_new(struct bridge **ret, const struct bridge_setup *setup, char **ret_error);
/* Domains go on, and what is announced stays announced. Threads go on until the process ends. */
struct bridge *bridge_free(struct bridge *b);

#endif
