/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef CPUPOLICY_LIBVIRT_QUOTA_H
#define CPUPOLICY_LIBVIRT_QUOTA_H

/*
 * Holding a domain's CPU time: libvirt's global_quota of global_period, which bounds all threads of its QEMU together,
 * so that neither more vCPUs nor other threads get around it. What the administrator had set is kept in the running
 * domain's metadata while it is held, survives the bridge and libvirtd there, and is put back afterwards.
 */

#include "client/libvirt/virt.h"

#define QUOTA_URI    "https://cpupolicy.org/xmlns/held/1"
#define QUOTA_PREFIX "cpupolicy-held"
#define QUOTA_LIFTED UINT32_MAX

enum quota_result { QUOTA_DONE, QUOTA_NO_DOMAIN, QUOTA_NOT_RUNNING, QUOTA_FAILED };

struct quota {
	struct virt_task task;
	uint32_t millis; /* of one CPU; QUOTA_LIFTED: not held */
	void *opaque;    /* the caller's */
	enum quota_result result;
	char error[256];
};

/* A task of ACT; `done` frees it by free(). NULL: out of memory. */
struct quota *quota_new(const char *uuid, uint32_t millis, void (*done)(struct virt_task *task, void *userdata),
			void *opaque);

/* What is set: of the bound and what the administrator had, the tighter one. */
struct quota_value {
	unsigned long long period; /* microseconds */
	long long quota;           /* per period; negative: none */
};
struct quota_value quota_bound(uint32_t millis, struct quota_value before);
bool quota_equal(struct quota_value a, struct quota_value b);

#endif
