/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef CPUPOLICY_LIBVIRT_VIRT_H
#define CPUPOLICY_LIBVIRT_VIRT_H

/*
 * libvirt, away from the loop. Its calls block until libvirtd has answered, so all of them are made in threads of this
 * file, and what they bring comes to the loop as messages:
 *
 *   the watch   owns the connection: opens it, again and again if need be, runs libvirt's own event loop, and does what
 *               is quick in libvirtd whatever its guests do (LOOK)
 *   actors      three threads for what waits for a guest or its QEMU (ACT): one at a time for a domain, so that a guest
 *               that does not answer keeps one actor, and no other domain's events
 *
 * A libvirtd that does not answer ends the connection by libvirt's keepalive, and with it the calls that wait. The loop
 * never waits for any of it. Nothing but tasks, messages and the connection is shared between threads, all under one
 * lock.
 */

#include <libvirt/libvirt.h>
#include <libvirt/virterror.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>

#include "daemon/base/loop.h"
#include "daemon/core/uuid.h"

struct virt;

enum virt_lane { VIRT_LOOK, VIRT_ACT };

/* The head of whatever is to be done. */
struct virt_task {
	TAILQ_ENTRY(virt_task) entry;
	enum virt_lane lane;
	char uuid[UUID_TEXT_SIZE]; /* of the domain; "": none */
	/* In a thread; `connection` is NULL while libvirt is not there. */
	void (*run)(struct virt_task *task, virConnectPtr connection);
	/* On the loop; frees the task. */
	void (*done)(struct virt_task *task, void *userdata);
};

enum virt_event_kind {
	VIRT_EVENT_CHANGED,  /* something about the domain: look */
	VIRT_EVENT_STOPPED,  /* the same; `detail` is a virDomainEventStoppedDetailType */
	VIRT_EVENT_RESTORED, /* the same; out of a managed save, or another file */
	VIRT_EVENT_OST,      /* the guest answered a notification (ACPI _OST) of a vCPU */
};

struct virt_event {
	enum virt_event_kind kind;
	char uuid[UUID_TEXT_SIZE];
	int detail;
	uint32_t vcpu, source, status; /* OST */
};

/* On the loop. */
struct virt_ops {
	void (*up)(void *userdata);
	/* `why` is a sentence. After it come the ends of all tasks that were under way. */
	void (*down)(const char *why, void *userdata);
	void (*event)(const struct virt_event *event, void *userdata);
};

/* `uri` and `ops` stay the caller's. */
int virt_new(struct virt **ret, struct loop *loop, const char *uri, const struct virt_ops *ops, void *userdata);
/* Connects; ops are called from now on. There is no end but that of the process: a thread may be in a call. */
int virt_start(struct virt *v);

/* Takes the task over. */
void virt_submit(struct virt *v, struct virt_task *task);

/* The message of the error that the last call of this thread met. */
static inline const char *virt_error(void)
{
	const char *text = virGetLastErrorMessage();

	return text ? text : "unknown error";
}

#endif
