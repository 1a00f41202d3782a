/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef CPUPOLICY_LIBVIRT_LOOK_H
#define CPUPOLICY_LIBVIRT_LOOK_H

/* Reading domains from libvirt: one, or all that are defined or run. Tasks of the watch. */

#include "client/libvirt/domain_facts.h"
#include "client/libvirt/virt.h"

struct look {
	struct virt_task task; /* uuid "": all domains */
	/* The result. */
	bool done; /* false: libvirt could not be asked, and nothing is known */
	struct domain_facts *facts;
	size_t n; /* of one domain: 0 or 1 */
	char error[256];
};

/* `done` frees it by look_free(). NULL: out of memory. */
struct look *look_new(const char *uuid, void (*done)(struct virt_task *task, void *userdata));
void look_free(struct look *look);

#endif
