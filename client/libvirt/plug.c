/* SPDX-License-Identifier: GPL-2.0-or-later */

#include "client/libvirt/plug.h"

#include <libvirt/virterror.h>
#include <stdio.h>

#include "daemon/base/util.h"

DEFINE_CLEANUP(virDomainPtr, virDomainFree)

static void run(struct virt_task *task, virConnectPtr connection)
{
	struct plug *p = container_of(task, struct plug, task);
	_cleanup_(virDomainFreep) virDomainPtr domain = NULL;
	char map[16];

	p->result = PLUG_FAILED;
	if (!connection || virConnectIsAlive(connection) != 1) {
		p->result = PLUG_UNREACHABLE;
		return;
	}
	domain = virDomainLookupByUUIDString(connection, task->uuid);
	snprintf(map, sizeof(map), "%u", p->vcpu);
	if (domain && virDomainSetVcpu(domain, map, p->on, VIR_DOMAIN_AFFECT_LIVE) >= 0) {
		p->result = PLUG_DONE;
		return;
	}
	snprintf(p->error, sizeof(p->error), "%s", virt_error());
	if (!p->on && virGetLastErrorCode() == VIR_ERR_OPERATION_TIMEOUT)
		p->result = PLUG_ASKED;
	else if (virConnectIsAlive(connection) != 1)
		p->result = PLUG_UNREACHABLE;
}

struct plug *plug_new(const char *uuid, uint32_t vcpu, bool on, void (*done)(struct virt_task *task, void *userdata))
{
	struct plug *p = calloc(1, sizeof(*p));

	if (!p)
		return NULL;
	p->task.lane = VIRT_ACT;
	p->task.run = run;
	p->task.done = done;
	snprintf(p->task.uuid, sizeof(p->task.uuid), "%s", uuid);
	p->vcpu = vcpu;
	p->on = on;
	return p;
}
