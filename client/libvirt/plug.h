/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef CPUPOLICY_LIBVIRT_PLUG_H
#define CPUPOLICY_LIBVIRT_PLUG_H

/* Plugging one vCPU into a running domain, or out of it. A task of ACT. */

#include "client/libvirt/virt.h"

enum plug_result {
	PLUG_DONE,
	PLUG_ASKED,       /* unplugging: the guest has been asked, and has not done it yet */
	PLUG_FAILED,      /* it stays as it was */
	PLUG_UNREACHABLE, /* as PLUG_FAILED, since libvirt is not there */
};

struct plug {
	struct virt_task task;
	uint32_t vcpu;
	bool on;
	enum plug_result result;
	char error[256];
};

/* `done` frees it by free(). NULL: out of memory. */
struct plug *plug_new(const char *uuid, uint32_t vcpu, bool on, void (*done)(struct virt_task *task, void *userdata));

#endif
