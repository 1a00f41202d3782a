/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef TESTS_VM_HOST_H
#define TESTS_VM_HOST_H

/* A VM under test, with as much of a host around it as its events need: what changes is published, and confirmed. */

#include <check.h>

#include "daemon/core/vm.h"
#include "tests/unit/vm_event.h"

#define TIMEOUT UINT64_C(1000)
#define RETRY   500000 /* of the class */

struct vm_host {
	struct service_class level;
	struct vm *vm;
	uint64_t now;
	uint64_t last_id;
	unsigned effects; /* of the last event */
	bool confirm;     /* the VMM applies each page at once */
};

/* A level of 1 to `possible`, without limits; a VM that may be notified, stopped. */
void vm_host_setup(struct vm_host *h, uint32_t possible);
void vm_host_done(struct vm_host *h);

/* Checks the event, publishes the page if it changed. */
void vm_host_after(struct vm_host *h, const struct vm_event *e, unsigned effects);
#define EVENT(h, call)                                                                                                 \
	do {                                                                                                           \
		struct vm_event event_;                                                                                \
		vm_event_begin(&event_, (h)->vm);                                                                      \
		vm_host_after(h, &event_, call);                                                                       \
	} while (0)

/* Starts it with this boot count and stores that. */
void vm_host_start(struct vm_host *h, uint32_t boot, uint32_t flags);
void vm_host_start_flags(struct vm_host *h, uint32_t boot, uint32_t flags, const uint32_t *vcpu_flags);
/* A registration with these vCPUs' flags, or if NULL with what is so already. Valid until the next call. */
const struct vm_registration *vm_host_report(struct vm_host *h, const uint32_t *vcpu_flags);
/* Everything is durable now, or the newest revision failed. */
void vm_host_stored(struct vm_host *h);
void vm_host_failed(struct vm_host *h);
enum vm_refusal vm_host_try(struct vm_host *h, uint32_t count);
/* Accepted, not durable yet. Returns the job that it superseded. */
struct job vm_host_resize(struct vm_host *h, uint32_t count);
/* "EWD", "EWDOA", "-", ... of each vCPU, with blanks between. Valid until the next call. */
const char *vm_host_flags(const struct vm_host *h);
/* The same, of these vCPUs as clients see them: enabled and wanted 'x', asked back 'o', not yet durable '+', else '-'. */
const char *vm_host_set(const struct vm_host *h);

/* ---- the usual steps ---- */

void vm_host_new(struct vm_host *h, uint32_t possible, uint32_t boot, uint32_t flags); /* set up, started */
void vm_host_ack(struct vm_host *h, uint32_t vcpu);
void vm_host_ejected(struct vm_host *h, uint32_t vcpu); /* as asked for */
void vm_host_refuse(struct vm_host *h, uint32_t vcpu);  /* an eject */
/* The deadline passes. */
void vm_host_expire(struct vm_host *h);
/* This job was the last, it ended so, and none is in flight. */
void vm_host_ended(const struct vm_host *h, uint64_t id, enum job_result result);

#endif
