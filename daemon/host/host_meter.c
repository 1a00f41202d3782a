/* SPDX-License-Identifier: GPL-2.0-or-later */

/*
 * What VMs are billed for. Each write of a VM's record has its meters as they are then, so whatever changes is right up
 * to the change. Where nothing changes, a round of checkpoints each minute writes the records of all VMs that are billed:
 * that is what a host which loses its power may lose. A round takes a few VMs in each turn of the loop, so that nobody
 * waits for it; and while nothing is billed, there is none.
 */

#include <string.h>

#include "daemon/host/host_private.h"

#define ROUND_INTERVAL (60 * NSEC_PER_SEC)
#define FLUSH_INTERVAL (1 * NSEC_PER_SEC)
#define VMS_PER_TURN   64u
/* A clock that is slewed, not set: the hours follow it when it is that far off. */
#define DRIFT_MAX (NSEC_PER_SEC / 10)

/* ---- rows ---- */

int host_meter_add_row(struct host_vm *vm, const struct usage_row *row, const char *class, const char *tenant)
{
	struct store_usage added = {.row = *row}, *rows;

	rows = reallocarray(vm->rows, vm->n_rows + 1, sizeof(*rows));
	if (!rows)
		return -ENOMEM;
	vm->rows = rows;
	added.class = strdup(class);
	added.tenant = tenant ? strdup(tenant) : NULL;
	if (!added.class || (tenant && !added.tenant)) {
		free(added.class);
		free(added.tenant);
		return -ENOMEM;
	}
	vm->rows[vm->n_rows++] = added;
	return 0;
}

void host_meter_drop_rows(struct host_vm *vm, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		free(vm->rows[i].class);
		free(vm->rows[i].tenant);
	}
	vm->n_rows -= n;
	if (n > 0)
		memmove(vm->rows, vm->rows + n, vm->n_rows * sizeof(vm->rows[0]));
}

void host_meter_row(const struct fleet_vm *member, const struct usage_row *row, void *userdata)
{
	struct host_vm *vm = host_vm_of(member);
	const struct fleet *fleet = &vm->host->fleet;
	const char *tenant = member->tenant == FLEET_NO_TENANT ? NULL : fleet->tenants[member->tenant].name;

	if (host_meter_add_row(vm, row, member->class->name, tenant) < 0)
		host_notice_log(vm, HOST_LINE(.level = LOG_ERR), "VM %s: an hour of usage is lost for want of memory",
				vm->name);
}

/* ---- the wall clock ---- */

static void set_clock(struct host *host, const struct usage_clock *clock)
{
	host_fleet_event(host, HOST_EVENT(.kind = FLEET_CLOCK, .clock = *clock));
}

static void on_clock_set(void *userdata)
{
	const struct usage_clock clock = wallclock_now();

	log_info("the wall clock was set");
	set_clock(userdata, &clock);
}

static void follow_drift(struct host *host)
{
	const struct usage_clock clock = wallclock_now(), *known = &host->fleet.clock;
	uint64_t is = clock.real - clock.boot, was = known->real - known->boot;
	uint64_t drift = is > was ? is - was : was - is;

	if (drift > DRIFT_MAX && drift < UINT64_MAX - DRIFT_MAX)
		set_clock(host, &clock);
}

/* ---- rounds ---- */

static void arm(struct host *host, uint64_t when)
{
	host->meter.armed = when;
	loop_timer_set(host->meter.timer, when);
}

static struct host_vm *next_of_round(struct host *host)
{
	struct host_meter *meter = &host->meter;
	struct host_vm *vm;

	vm = meter->in_round ? host_index_after_uuid(&host->index, meter->cursor)
			     : host_index_after(&host->index, NULL);
	meter->in_round = vm != NULL;
	if (vm)
		memcpy(meter->cursor, vm->uuid, sizeof(meter->cursor));
	return vm;
}

static void checkpoint(struct host *host, struct host_vm *vm)
{
	if (!vm->member.billed)
		return;
	host->meter.metered = true;
	if (vm->visible)
		host_record_touch(vm, false);
}

static void begin_round(struct host *host)
{
	host->meter.next = host_now(host) + ROUND_INTERVAL;
	host->meter.metered = false;
	host->counters.checkpoints++;
	follow_drift(host);
}

static void on_time(void *userdata)
{
	struct host *host = userdata;
	struct host_vm *vm = NULL;

	if (!host->meter.in_round)
		begin_round(host);
	for (uint32_t i = 0; i < VMS_PER_TURN; i++) {
		vm = next_of_round(host);
		if (!vm)
			break;
		checkpoint(host, vm);
	}
	host_fleet_settle(host);
	if (vm)
		arm(host, host_now(host));
	else
		arm(host, host->meter.metered ? host->meter.next : UINT64_MAX);
}

void host_meter_arm(struct host_vm *vm)
{
	struct host *host = vm->host;

	host->meter.metered = true; /* a round under way may have passed it */
	if (host->meter.armed == UINT64_MAX)
		arm(host, host_now(host) + ROUND_INTERVAL);
}

/* ---- queries ---- */

/* One that waits until what was used so far is on disk. */
struct host_meter_query {
	struct host_meter_query *next;
	struct store_usage_filter filter;
	char *tenant;
	uint8_t uuid[CPUPOLICY_UUID_SIZE];
	store_usage_fn fn;
	void *userdata;
};

static struct host_meter_query *query_free(struct host_meter_query *query)
{
	if (query)
		free(query->tenant);
	free(query);
	return NULL;
}

static struct host_meter_query *query_new(const struct store_usage_filter *filter, store_usage_fn fn, void *userdata)
{
	struct host_meter_query *query = calloc(1, sizeof(*query));

	if (!query)
		return NULL;
	query->filter = *filter;
	query->fn = fn;
	query->userdata = userdata;
	if (filter->uuid) {
		memcpy(query->uuid, filter->uuid, sizeof(query->uuid));
		query->filter.uuid = query->uuid;
	}
	if (filter->tenant) {
		query->filter.tenant = query->tenant = strdup(filter->tenant);
		if (!query->tenant)
			return query_free(query);
	}
	return query;
}

static void run_queries(struct host *host)
{
	struct host_meter_query *query = host->meter.queries, *next;

	host->meter.queries = NULL;
	for (; query; query = next) {
		int r = store_usage_query(host->store, &query->filter, query->fn, query->userdata);

		next = query->next;
		if (r < 0)
			query->fn(NULL, 0, true, r, "out of memory", query->userdata);
		query_free(query);
	}
}

void host_meter_expect(struct host *host)
{
	host->meter.awaited++;
}

void host_meter_arrived(struct host *host)
{
	if (--host->meter.awaited == 0)
		run_queries(host);
}

void host_meter_written(struct host_vm *vm, bool ok)
{
	if (vm->flush == 0 || (ok && !vm->removed && vm->record.durable < vm->flush))
		return;
	vm->flush = 0;
	host_meter_arrived(vm->host);
}

static void flush_vm(struct host_vm *vm)
{
	uint64_t change;

	if (!vm->visible || vm->flush != 0)
		return;
	/* of one that is not billed any more, what it used may be on its way */
	if (!vm->member.billed && vm->record.writing == 0)
		return;
	change = host_record_touch(vm, false);
	if (vm->record.writing == 0)
		return; /* after a failure it is not tried yet: the query finds what there is */
	vm->flush = change;
	host_meter_expect(vm->host);
}

static void flush(struct host *host)
{
	uint64_t now = host_now(host);

	if (host->meter.flushed != 0 && now - host->meter.flushed < FLUSH_INTERVAL)
		return;
	host->meter.flushed = now;
	for (struct host_vm *vm = host_index_after(&host->index, NULL); vm; vm = host_index_after(&host->index, vm))
		flush_vm(vm);
	host_fleet_settle(host);
}

int host_usage_query(struct host *host, const struct store_usage_filter *filter, store_usage_fn fn, void *userdata)
{
	struct host_meter_query *query = query_new(filter, fn, userdata), **end = &host->meter.queries;

	if (!query)
		return -ENOMEM;
	while (*end)
		end = &(*end)->next;
	*end = query;
	flush(host);
	if (host->meter.awaited == 0)
		run_queries(host);
	return 0;
}

/* ---- life ---- */

int host_meter_open(struct host *host)
{
	struct host_meter *meter = &host->meter;
	int r;

	meter->armed = UINT64_MAX;
	r = loop_timer_new(&meter->timer, host->loop, on_time, host);
	if (r < 0)
		return r;
	return wallclock_new(&meter->wall, host->loop, on_clock_set, host);
}

void host_meter_close(struct host *host)
{
	while (host->meter.queries) {
		struct host_meter_query *query = host->meter.queries;

		host->meter.queries = query->next;
		query_free(query);
	}
	host->meter.wall = wallclock_free(host->meter.wall);
	host->meter.timer = loop_timer_free(host->meter.timer);
}
