/* SPDX-License-Identifier: GPL-2.0-or-later */

/*
 * The core says to what a VM's CPU time is to be held; a provider holds it. What it holds is kept here, and nowhere else:
 * after a restart of the daemon, or when the provider comes back, it is asked anew. One call for a VM is in flight at
 * most, and when it ends the value of that moment is asked for, if it is another one. What fails is tried again after
 * 1 s, doubling to 60 s; another value is tried at once.
 */

#include <stdio.h>

#include "daemon/host/host_private.h"

#define RETRY_FIRST (1 * NSEC_PER_SEC)
#define RETRY_LAST  (60 * NSEC_PER_SEC)

/* ---- what it is ---- */

const char *host_quota_state_name(enum host_quota_state state)
{
	static const char *const names[] = {
		[HOST_QUOTA_IDLE] = "none",
		[HOST_QUOTA_ASKED] = "asked",
		[HOST_QUOTA_HELD] = "held",
		[HOST_QUOTA_UNAVAILABLE] = "unavailable",
	};

	return (unsigned)state < HOST_QUOTA_STATES ? names[state] : "unknown";
}

static bool is_settled(const struct host_vm *vm)
{
	return !vm->quota.unknown && vm->quota.confirmed == vm->core->quota;
}

enum host_quota_state host_vm_quota_state(const struct host_vm *vm)
{
	bool wanted = vm->core->quota != VM_QUOTA_NONE;

	if (vm->core->link == VM_STOPPED)
		return HOST_QUOTA_IDLE;
	if (!host_provider_of(vm))
		return wanted ? HOST_QUOTA_UNAVAILABLE : HOST_QUOTA_IDLE;
	if (!is_settled(vm))
		return HOST_QUOTA_ASKED;
	return wanted ? HOST_QUOTA_HELD : HOST_QUOTA_IDLE;
}

const char *host_vm_enforcement(const struct host_vm *vm)
{
	switch (vm->core->means) {
	case CPUPOLICY_MEANS_PSCI:
		return "psci";
	case CPUPOLICY_MEANS_HOTPLUG:
		return "hotplug";
	case CPUPOLICY_MEANS_NONE:
		break;
	}
	return host_vm_quota_state(vm) == HOST_QUOTA_HELD ? "quota" : "none";
}

/* ---- telling ---- */

static void log_change(struct host_vm *vm, enum host_quota_state was)
{
	const struct host_announcement *a = host_announcement_find(vm->host, vm->uuid);
	const char *provider = a ? a->said.provider : "nobody";

	if (!host_notice_gate(vm))
		return;
	switch (vm->quota.told) {
	case HOST_QUOTA_HELD:
		host_notice_log(vm, HOST_LINE(.level = LOG_NOTICE), "VM %s: %s holds its CPU time to %u/1000 CPUs",
				vm->name, provider, vm->core->quota);
		break;
	case HOST_QUOTA_UNAVAILABLE:
		host_notice_log(vm, HOST_LINE(.level = LOG_WARNING),
				"VM %s: nobody can hold its CPU time to %u/1000 CPUs: no provider that can is here",
				vm->name, vm->core->quota);
		break;
	case HOST_QUOTA_IDLE:
		if (was != HOST_QUOTA_UNAVAILABLE)
			host_notice_log(vm, HOST_LINE(.level = LOG_INFO), "VM %s: its CPU time is not held any more",
					vm->name);
		break;
	case HOST_QUOTA_ASKED:
	case HOST_QUOTA_STATES:
		break;
	}
}

static void tell(struct host_vm *vm)
{
	enum host_quota_state state = host_vm_quota_state(vm), was = vm->quota.told;
	bool same = vm->quota.told_quota == vm->core->quota;

	if (state == was && same)
		return;
	vm->quota.told = state;
	vm->quota.told_quota = vm->core->quota;
	host_notice_changed(vm);
	/* A VM that ended needs no line of its own; lifting what may not have been there needs none either. */
	if (vm->core->link != VM_STOPPED && !(state == HOST_QUOTA_IDLE && same))
		log_change(vm, was);
}

/* ---- asking ---- */

static void on_retry(void *userdata)
{
	struct host_vm *vm = userdata;

	vm->quota.waits = false;
	host_quota_follow(vm);
}

static void stop_waiting(struct host_quota *q)
{
	if (q->timer)
		loop_timer_set(q->timer, UINT64_MAX);
	q->waits = false;
	q->delay = 0;
}

static void wait_longer(struct host_vm *vm)
{
	struct host_quota *q = &vm->quota;

	q->delay = q->delay == 0 ? RETRY_FIRST : 2 * q->delay < RETRY_LAST ? 2 * q->delay : RETRY_LAST;
	q->waits = true;
	/* Without memory for it, the next change or the provider's return tries again. */
	if (!q->timer && loop_timer_new(&q->timer, vm->host->loop, on_retry, vm) < 0)
		return;
	loop_timer_set(q->timer, host_now(vm->host) + q->delay);
}

void host_quota_follow(struct host_vm *vm)
{
	struct host_provider *provider = host_provider_of(vm);
	struct host_quota *q = &vm->quota;

	if (vm->core->link == VM_STOPPED) {
		/* Nobody holds what does not run; a call that is on its way is of a VMM that is gone. */
		q->confirmed = VM_QUOTA_NONE;
		q->unknown = false;
		q->stale = q->in_flight;
	}
	if (!q->in_flight) {
		if (q->queued && q->provider != provider)
			host_provider_dequeue(vm);
		if (!provider || is_settled(vm)) {
			host_provider_dequeue(vm);
			stop_waiting(q);
		} else {
			if (q->waits && q->asking != vm->core->quota)
				stop_waiting(q);
			if (!q->waits)
				host_provider_enqueue(provider, vm);
		}
	}
	tell(vm);
}

void host_quota_doubt(struct host_vm *vm)
{
	vm->quota.unknown = true;
	if (!vm->quota.in_flight)
		stop_waiting(&vm->quota);
}

void host_quota_session(struct host_vm *vm, bool starts, bool same_process)
{
	struct host_quota *q = &vm->quota;

	if (starts || !same_process)
		q->stale = q->in_flight;
	if (starts) {
		q->confirmed = VM_QUOTA_NONE;
		q->unknown = q->in_flight;
	} else if (!same_process) {
		q->unknown = true;
	}
	host_quota_follow(vm);
}

void host_quota_answered(struct host_vm *vm, const char *why)
{
	struct host_quota *q = &vm->quota;
	bool stale = q->stale;

	q->stale = false;
	if (vm->removed)
		return;
	if (stale) {
		q->unknown = vm->core->link != VM_STOPPED;
	} else if (!why) {
		q->confirmed = q->asking;
		q->unknown = false;
		q->delay = 0;
	} else {
		/* A call that came to nothing may have been carried out all the same. */
		q->unknown = true;
		if (q->delay == 0 && host_notice_gate(vm))
			host_notice_log(vm, HOST_LINE(.level = LOG_WARNING),
					"VM %s: its CPU time is not held to what it is to be: %s; trying again",
					vm->name, why);
		wait_longer(vm);
	}
	host_quota_follow(vm);
}

void host_quota_drop(struct host_vm *vm)
{
	host_provider_dequeue(vm);
	vm->quota.timer = loop_timer_free(vm->quota.timer);
	vm->quota.waits = false;
}
