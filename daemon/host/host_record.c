/* SPDX-License-Identifier: GPL-2.0-or-later */

/*
 * The durable record of a VM. Every change of it has a number; one write is in flight at most, and takes all changes up
 * to its own. When it ends the core is told which grants are durable, and then whoever awaits a change up to that
 * number: the page first, then registrations, then clients.
 *
 * A write that failed is tried again after a back-off (1 s to 60 s) as long as record and disk differ. Somebody who
 * waits for an answer is not made to wait for that: an urgent change is tried at once.
 */

#include <string.h>

#include "daemon/host/host_private.h"
#include "daemon/base/util.h"

#define RETRY_FIRST   (1 * NSEC_PER_SEC)
#define RETRY_LAST    (60 * NSEC_PER_SEC)
#define STORAGE_LINES 5u

static size_t grant_bytes(const struct vm *core)
{
	return (core->possible + 7) / 8;
}

/* ---- writing ---- */

static int copy(char **ret, const char *text)
{
	if (!text)
		return 0;
	*ret = strdup(text);
	return *ret ? 0 : -ENOMEM;
}

static int fill_policy(struct host_vm *vm, struct store_vm *r)
{
	const struct host *host = vm->host;
	uint32_t tenant = vm->member.tenant;

	r->assigned_uid = vm->assigned.uid;
	if (copy(&r->assigned_class, vm->assigned.class) < 0 || copy(&r->assigned_tenant, vm->assigned.tenant) < 0 ||
	    copy(&r->class, vm->member.class->name) < 0)
		return -ENOMEM;
	return tenant == FLEET_NO_TENANT ? 0 : copy(&r->tenant, host->fleet.tenants[tenant].name);
}

static int fill_meters(struct host_vm *vm, struct store_vm *r)
{
	if (vm->entered)
		fleet_save(&vm->host->fleet, &vm->member, host_now(vm->host), &r->meters);
	if (!vm->member.billed)
		r->meters.at = HOST_METERS_STAND;
	for (size_t i = 0; i < vm->n_rows; i++)
		if (store_vm_add_usage(r, &vm->rows[i].row, vm->rows[i].class, vm->rows[i].tenant) < 0)
			return -ENOMEM;
	return 0;
}

int host_record_fill(struct host_vm *vm, struct store_vm *ret)
{
	const struct vm *core = vm->core;
	struct store_vm r = {
		.possible = core->possible,
		.boot = core->boot,
		.desired = core->desired,
		.desired_set = core->desired_set,
		.desired_millis = core->millis,
		.means = core->means,
		.realm = core->realm,
		.boot_removable = core->boot_removable,
		.notify = core->notify,
		.stopped = core->link == VM_STOPPED,
		.epoch = core->epoch,
		.uid = vm->peer.uid,
		.pid = vm->peer.pid,
		.start_time = vm->peer.start_time,
		.desired_uid = vm->desired_uid,
		.job = core->job,
		.last_job = core->last_job,
	};

	r.name = strdup(vm->name);
	r.enabled = malloc(grant_bytes(core));
	r.wanted = malloc(grant_bytes(core));
	/* The meters first: rows may end. */
	if (!r.name || !r.enabled || !r.wanted || fill_meters(vm, &r) < 0 || fill_policy(vm, &r) < 0) {
		store_vm_clear(&r);
		return -ENOMEM;
	}
	memcpy(r.uuid, vm->uuid, sizeof(r.uuid));
	memcpy(r.token, vm->token, sizeof(r.token));
	vm_record_grants(core, r.enabled, r.wanted);
	*ret = r;
	return 0;
}

static void on_written(int error, const char *why, void *userdata);

static int put(struct host_vm *vm)
{
	_cleanup_free_ uint8_t *enabled = malloc(grant_bytes(vm->core));
	struct store_vm record;
	int r;

	if (!enabled)
		return -ENOMEM;
	r = host_record_fill(vm, &record);
	if (r < 0)
		return r;
	memcpy(enabled, record.enabled, grant_bytes(vm->core));
	r = store_put(vm->host->store, &record, on_written, vm);
	if (r < 0) {
		store_vm_clear(&record);
		return r;
	}
	vm->record.enabled = TAKE(enabled);
	vm->record.rows = vm->n_rows;
	return 0;
}

/* The timer: a write that is to be tried again, or that failed before it began. */
static void arm(struct host_vm *vm)
{
	loop_timer_set(vm->record.timer, vm->record.out_of_memory ? 0 : vm->record.retry_at);
}

static void write_now(struct host_vm *vm)
{
	struct host_record *record = &vm->record;

	record->writing = record->changes;
	record->revision = vm->core->revision;
	record->retry_at = UINT64_MAX;
	vm->billed = vm->member.billed;
	if (vm->billed)
		host_meter_arm(vm);
	if (put(vm) < 0) {
		/* The answer comes from the loop, as any other: the caller is in the midst of an event. */
		record->out_of_memory = true;
		arm(vm);
	}
}

/* What is being forgotten must not come back behind its deletion. */
static bool may_write(const struct host_vm *vm)
{
	return vm->record.writing == 0 && !vm->forgetting && !vm->removed;
}

uint64_t host_record_touch(struct host_vm *vm, bool urgent)
{
	struct host_record *record = &vm->record;

	record->changes++;
	if (may_write(vm) && (urgent || record->retry_at == UINT64_MAX))
		write_now(vm);
	return record->changes;
}

/* ---- the outcome ---- */

static void retry_later(struct host_vm *vm)
{
	struct host_record *record = &vm->record;

	record->retry_delay = record->retry_delay ? 2 * record->retry_delay : RETRY_FIRST;
	if (record->retry_delay > RETRY_LAST)
		record->retry_delay = RETRY_LAST;
	record->retry_at = host_now(vm->host) + record->retry_delay;
	arm(vm);
}

static void log_failure(struct host_vm *vm, const char *why)
{
	uint32_t dropped;

	if (!log_gate_open(&vm->host->storage_gate, STORAGE_LINES, host_now(vm->host), &dropped))
		return;
	host_notice_log(vm, HOST_LINE(.level = LOG_ERR), "VM %s cannot be recorded: %s (%u such lines left out before)",
			vm->name, why, dropped);
}

static void succeeded(struct host_vm *vm, uint64_t change)
{
	struct host_record *record = &vm->record;

	record->durable = change;
	record->retry_delay = 0;
	vm->host->counters.writes++;
	host_session_durable(vm);
	host_request_durable(vm);
	if (may_write(vm) && record->changes > record->durable)
		write_now(vm);
}

static void failed(struct host_vm *vm, uint64_t change, const char *why)
{
	log_failure(vm, why);
	vm->host->counters.write_failures++;
	host_request_failed(vm, change, HOST_STORAGE, why);
	host_session_not_durable(vm, change, why);
	if (vm->removed)
		return;
	/* Whoever awaits a later change is not part of this failure: their turn is next, and at once. */
	if ((vm->requests || (vm->live && vm->live->reply_due)) && may_write(vm))
		write_now(vm);
	else
		retry_later(vm);
}

/* The core is told of what it waits for, and else is left alone: most writes are of what it knows to be durable. */
static void tell_core(struct host_vm *vm, bool ok, const uint8_t *granted)
{
	uint64_t revision = vm->record.revision;

	if (revision == vm->core->stored)
		return;
	host_fleet_apply(vm->host, HOST_EVENT(.kind = FLEET_STORED, .vm = &vm->member, .revision = revision, .ok = ok,
					      .granted = granted));
	host_effect_apply(vm, host_fleet_take(vm));
}

static void finish(struct host_vm *vm, int error, const char *why)
{
	struct host_record *record = &vm->record;
	_cleanup_free_ uint8_t *enabled = TAKE(record->enabled);
	struct host *host = vm->host;
	uint64_t change = record->writing;

	record->writing = 0;
	record->out_of_memory = false;
	if (vm->removed) {
		host_meter_written(vm, error == 0);
		host_vm_reap(vm);
		return;
	}
	host_vm_hold(vm);
	/* Before the effects. They may begin the next write, which has the rows that are left; and what the core takes back is
	 * a change, and must not be written in a circle. */
	if (error < 0)
		record->retry_at = host_now(host);
	else
		host_meter_drop_rows(vm, record->rows);
	tell_core(vm, error == 0, enabled);
	if (error < 0)
		failed(vm, change, why);
	else
		succeeded(vm, change);
	host_meter_written(vm, error == 0);
	host_vm_release(vm);
	host_fleet_settle(host);
}

static void on_written(int error, const char *why, void *userdata)
{
	finish(userdata, error, why ? why : strerror(-error));
}

void host_record_timer(void *userdata)
{
	struct host_vm *vm = userdata;
	struct host_record *record = &vm->record;

	/* The first may be the end of a VM that waits for its write. */
	if (record->out_of_memory)
		finish(vm, -ENOMEM, "out of memory");
	else if (may_write(vm) && record->retry_at <= host_now(vm->host))
		write_now(vm);
}

/* ---- deleting ---- */

static void on_deleted(int error, const char *why, void *userdata)
{
	struct host *host = userdata;
	uint32_t dropped;

	if (error < 0 && log_gate_open(&host->storage_gate, STORAGE_LINES, host_now(host), &dropped))
		log_error("the record of a VM that ended cannot be deleted: %s", why ? why : strerror(-error));
}

static void on_last_usage(int error, const char *why, void *userdata)
{
	struct host *host = userdata;
	uint32_t dropped;

	if (error < 0 && log_gate_open(&host->storage_gate, STORAGE_LINES, host_now(host), &dropped))
		log_error("the last usage of a VM that ended cannot be recorded: %s", why ? why : strerror(-error));
	host_meter_arrived(host);
}

/* What it used since its last write; it is written together with the deletion. */
static void put_usage(struct host_vm *vm)
{
	struct store_vm record;
	int r;

	if (vm->n_rows == 0)
		return;
	host_meter_expect(vm->host);
	r = host_record_fill(vm, &record);
	if (r >= 0) {
		r = store_put(vm->host->store, &record, on_last_usage, vm->host);
		if (r < 0)
			store_vm_clear(&record);
	}
	if (r < 0)
		on_last_usage(r, NULL, vm->host);
}

void host_record_delete(struct host_vm *vm)
{
	int r;

	put_usage(vm);
	r = store_delete(vm->host->store, vm->uuid, on_deleted, vm->host);
	if (r < 0)
		on_deleted(r, NULL, vm->host);
}
