/* SPDX-License-Identifier: GPL-2.0-or-later */

#include "daemon/bus/bus_notify.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>

#include "daemon/bus/bus_job.h"
#include "daemon/bus/bus_manager.h"
#include "daemon/bus/bus_vm.h"
#include "daemon/base/log.h"
#include "daemon/base/util.h"
#include "proto/message.h"

/* What is kept per VM. */
struct notify_vm {
	struct bus_vm_seen seen;
	struct host_vm *vm;
	SLIST_ENTRY(notify_vm) entry; /* in the list of changed ones */
	uint32_t denied_second;       /* BUS_NOTIFY_DENIED_MAX counts within it */
	uint16_t denied_sent;
	bool changed;
};

struct bus_notify {
	struct loop *loop;
	struct host *host;
	struct bus_link *link;
	struct loop_timer *timer;
	uint64_t next; /* no gathered changes are told before */
	SLIST_HEAD(, notify_vm) changed;
	struct bus_manager_seen seen;
	bool recount; /* the manager's properties may have changed */
	struct log_gate gate;
};

static void failed(struct bus_notify *notify, int r)
{
	uint32_t dropped;

	if (r >= 0 || r == -ENOTCONN || r == -ECONNRESET)
		return;
	if (log_gate_open(&notify->gate, 3, loop_now(notify->loop), &dropped))
		log_warning("D-Bus: cannot send a signal: %s", strerror(-r));
}

/* NULL: out of memory; clients then miss changes of this VM until there is some. */
static struct notify_vm *vm_data(struct host_vm *vm)
{
	struct notify_vm *data = host_vm_data(vm);

	if (data)
		return data;
	data = calloc(1, sizeof(*data));
	if (!data)
		return NULL;
	data->vm = vm;
	bus_vm_look(vm, &data->seen);
	host_vm_set_data(vm, data);
	return data;
}

static void vm_data_free(struct bus_notify *notify, struct host_vm *vm)
{
	struct notify_vm *data = host_vm_data(vm);

	if (!data)
		return;
	if (data->changed)
		SLIST_REMOVE(&notify->changed, data, notify_vm, entry);
	host_vm_set_data(vm, NULL);
	free(data);
}

/* ---- gathered changes ---- */

static void tell(struct bus_notify *notify, struct notify_vm *data)
{
	sd_bus *sd = bus_link_get(notify->link);
	uint8_t was = data->seen.link;

	if (data->changed)
		SLIST_REMOVE(&notify->changed, data, notify_vm, entry);
	data->changed = false;
	if (sd)
		failed(notify, bus_vm_tell(sd, data->vm, &data->seen));
	if (data->seen.link != was)
		notify->recount = true;
}

static void tell_manager(struct bus_notify *notify)
{
	sd_bus *sd = bus_link_get(notify->link);

	if (sd && notify->recount)
		failed(notify, bus_manager_tell(sd, notify->host, &notify->seen));
	notify->recount = false;
	bus_link_touch(notify->link);
}

static void on_timer(void *userdata)
{
	struct bus_notify *notify = userdata;
	struct notify_vm *data;

	notify->next = loop_now(notify->loop) + BUS_NOTIFY_INTERVAL;
	while ((data = SLIST_FIRST(&notify->changed)))
		tell(notify, data);
	tell_manager(notify);
}

static void schedule(struct bus_notify *notify)
{
	uint64_t now = loop_now(notify->loop);

	loop_timer_set(notify->timer, notify->next > now ? notify->next : now);
}

static void on_changed(struct host_vm *vm, void *userdata)
{
	struct bus_notify *notify = userdata;
	struct notify_vm *data;

	if (!bus_link_get(notify->link))
		return;
	data = vm_data(vm);
	if (!data || data->changed)
		return;
	data->changed = true;
	SLIST_INSERT_HEAD(&notify->changed, data, entry);
	schedule(notify);
}

/* An event is told after what it changed. */
static sd_bus *before_event(struct bus_notify *notify, struct host_vm *vm)
{
	sd_bus *sd = bus_link_get(notify->link);
	struct notify_vm *data = sd ? vm_data(vm) : NULL;

	if (data)
		tell(notify, data);
	bus_link_touch(notify->link);
	return sd;
}

/* ---- events ---- */

static void on_added(struct host_vm *vm, void *userdata)
{
	struct bus_notify *notify = userdata;
	sd_bus *sd = bus_link_get(notify->link);
	char path[BUS_VM_PATH_SIZE];
	struct notify_vm *data = vm_data(vm);

	if (!sd)
		return;
	if (data)
		bus_vm_look(vm, &data->seen);
	failed(notify, sd_bus_emit_interfaces_added(sd, bus_vm_path(vm, path), BUS_VM_INTERFACE, NULL));
	failed(notify, bus_manager_signal_vm(sd, "VirtualMachineNew", vm));
	/* the manager's properties are over all VMs: with many that come at once, they follow once */
	notify->recount = true;
	schedule(notify);
	bus_link_touch(notify->link);
}

static void on_removed(struct host_vm *vm, void *userdata)
{
	struct bus_notify *notify = userdata;
	sd_bus *sd = bus_link_get(notify->link);
	char path[BUS_VM_PATH_SIZE];

	vm_data_free(notify, vm);
	if (!sd)
		return;
	failed(notify, sd_bus_emit_interfaces_removed(sd, bus_vm_path(vm, path), BUS_VM_INTERFACE, NULL));
	failed(notify, bus_manager_signal_vm(sd, "VirtualMachineRemoved", vm));
	/* its record may still count here: the manager's properties follow after this turn */
	notify->recount = true;
	schedule(notify);
	bus_link_touch(notify->link);
}

static void on_job_new(struct host_vm *vm, const struct job *job, void *userdata)
{
	struct bus_notify *notify = userdata;
	sd_bus *sd = before_event(notify, vm);
	char path[BUS_JOB_PATH_SIZE];

	if (!sd)
		return;
	/* it may have ended before it was durable, and with that told */
	if (host_find_job(notify->host, job->id) == vm)
		failed(notify, sd_bus_emit_interfaces_added(sd, bus_job_path(job->id, path), BUS_JOB_INTERFACE, NULL));
	failed(notify, bus_manager_signal_job(sd, vm, job, NULL));
}

static void on_job_removed(struct host_vm *vm, const struct job *job, void *userdata)
{
	struct bus_notify *notify = userdata;
	sd_bus *sd = before_event(notify, vm);
	char path[BUS_JOB_PATH_SIZE];

	if (!sd)
		return;
	failed(notify, sd_bus_emit_interfaces_removed(sd, bus_job_path(job->id, path), BUS_JOB_INTERFACE, NULL));
	failed(notify, bus_manager_signal_job(sd, vm, job, job_result_name(job->result)));
}

static bool may_tell_denied(struct bus_notify *notify, struct notify_vm *data)
{
	uint32_t second = (uint32_t)(loop_now(notify->loop) / NSEC_PER_SEC);

	if (data->denied_second != second)
		data->denied_sent = 0;
	data->denied_second = second;
	return data->denied_sent++ < BUS_NOTIFY_DENIED_MAX;
}

static void on_denied(struct host_vm *vm, uint32_t vcpu, const struct vm_verdict *verdict, enum rule rule,
		      uint32_t count, void *userdata)
{
	struct bus_notify *notify = userdata;
	sd_bus *sd = bus_link_get(notify->link);
	struct notify_vm *data = sd ? vm_data(vm) : NULL;
	bool enforced = verdict->psci != CPUPOLICY_PSCI_SUCCESS;
	char path[BUS_VM_PATH_SIZE];

	on_changed(vm, notify);
	if (!data || !may_tell_denied(notify, data))
		return;
	failed(notify,
	       sd_bus_emit_signal(sd, bus_vm_path(vm, path), BUS_VM_INTERFACE, "Denied", "usubs", vcpu,
				  cpupolicy_msg_reason_name(verdict->would), count, (int)enforced, rule_name(rule)));
	bus_link_touch(notify->link);
}

/* What all VMs have together. Told with what is gathered, since it changes with every VM. */
static void on_host_changed(void *userdata)
{
	struct bus_notify *notify = userdata;

	if (!bus_link_get(notify->link))
		return;
	notify->recount = true;
	schedule(notify);
}

static void on_reloaded(void *userdata)
{
	struct bus_notify *notify = userdata;

	notify->seen.reloaded = true;
	for (struct host_vm *vm = host_next(notify->host, NULL); vm; vm = host_next(notify->host, vm))
		on_changed(vm, notify);
	on_host_changed(notify);
}

static const struct host_observer observer = {
	.added = on_added,
	.removed = on_removed,
	.changed = on_changed,
	.job_new = on_job_new,
	.job_removed = on_job_removed,
	.denied = on_denied,
	.host_changed = on_host_changed,
	.reloaded = on_reloaded,
};

/* ---- life ---- */

void bus_notify_reset(struct bus_notify *notify)
{
	struct notify_vm *data;

	while ((data = SLIST_FIRST(&notify->changed))) {
		SLIST_REMOVE_HEAD(&notify->changed, entry);
		data->changed = false;
	}
	for (struct host_vm *vm = host_next(notify->host, NULL); vm; vm = host_next(notify->host, vm)) {
		data = vm_data(vm);
		if (data)
			bus_vm_look(vm, &data->seen);
	}
	bus_manager_look(notify->host, &notify->seen);
}

void bus_notify_set_link(struct bus_notify *notify, struct bus_link *link)
{
	notify->link = link;
}

int bus_notify_new(struct bus_notify **ret, struct loop *loop, struct host *host)
{
	struct bus_notify *notify = calloc(1, sizeof(*notify));
	int r;

	if (!notify)
		return -ENOMEM;
	notify->loop = loop;
	notify->host = host;
	SLIST_INIT(&notify->changed);
	r = loop_timer_new(&notify->timer, loop, on_timer, notify);
	if (r < 0) {
		free(notify);
		return r;
	}
	host_observe(host, &observer, notify);
	*ret = notify;
	return 0;
}

struct bus_notify *bus_notify_free(struct bus_notify *notify)
{
	static const struct host_observer nobody = {0};

	if (!notify)
		return NULL;
	host_observe(notify->host, &nobody, NULL);
	for (struct host_vm *vm = host_next(notify->host, NULL); vm; vm = host_next(notify->host, vm))
		vm_data_free(notify, vm);
	loop_timer_free(notify->timer);
	free(notify);
	return NULL;
}
