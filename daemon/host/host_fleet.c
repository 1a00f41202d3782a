/* SPDX-License-Identifier: GPL-2.0-or-later */

/*
 * The way into the fleet and out of it. One event may move any VM: a guarantee that is granted here is burst that is
 * asked back there. So whoever applies one settles afterwards, and an end of a job that is still to be told is told before
 * the next event, which might overwrite it.
 */

#include "daemon/host/host_private.h"

static void arm(struct host *host)
{
	uint64_t when = fleet_deadline(&host->fleet);

	if (when == host->fleet_armed)
		return;
	host->fleet_armed = when;
	loop_timer_set(host->fleet_timer, when);
}

static void drain(struct host *host)
{
	struct fleet_vm *member;
	unsigned effects;

	while ((member = fleet_next(&host->fleet, &effects)))
		host_effect_apply(host_vm_of(member), effects);
}

struct fleet_answer host_fleet_apply(struct host *host, struct fleet_event *event)
{
	struct fleet_answer answer;

	drain(host);
	event->now = host_now(host);
	answer = fleet_apply(&host->fleet, event);
	if (host->recorder)
		recorder_event(host->recorder, &host->fleet, event, &answer);
	return answer;
}

unsigned host_fleet_take(struct host_vm *vm)
{
	return fleet_take(&vm->host->fleet, &vm->member);
}

void host_fleet_settle(struct host *host)
{
	drain(host);
	arm(host);
}

struct fleet_answer host_fleet_event(struct host *host, struct fleet_event *event)
{
	struct fleet_answer answer = host_fleet_apply(host, event);

	host_fleet_settle(host);
	return answer;
}

static void on_time(void *userdata)
{
	struct host *host = userdata;

	host->fleet_armed = UINT64_MAX;
	host_fleet_event(host, HOST_EVENT(.kind = FLEET_TICK));
}

int host_fleet_open(struct host *host)
{
	const struct usage_clock clock = wallclock_now();

	host->fleet_armed = UINT64_MAX;
	fleet_init(&host->fleet, &(struct fleet_ops){.row = host_meter_row, .userdata = host}, &clock);
	return loop_timer_new(&host->fleet_timer, host->loop, on_time, host);
}

void host_fleet_close(struct host *host)
{
	host->fleet_timer = loop_timer_free(host->fleet_timer);
	fleet_clear(&host->fleet);
}
