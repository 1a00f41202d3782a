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

#include "daemon/host_private.h"
#include "daemon/util.h"

#define RETRY_FIRST   (1 * NSEC_PER_SEC)
#define RETRY_LAST    (60 * NSEC_PER_SEC)
#define STORAGE_LINES 5u

static size_t grant_bytes(const struct vm *core)
{
	return (core->possible + 7) / 8;
}

/* ---- writing ---- */

static int fill(const struct host_vm *vm, struct store_vm *ret)
{
	const struct vm *core = vm->core;
	struct store_vm r = {
		.possible = core->possible,
		.boot = core->boot,
		.desired = core->desired,
		.desired_set = core->desired_set,
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
	if (!r.name || !r.enabled || !r.wanted) {
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
	r = fill(vm, &record);
	if (r < 0)
		return r;
	memcpy(enabled, record.enabled, grant_bytes(vm->core));
	r = store_put(vm->host->store, &record, on_written, vm);
	if (r < 0) {
		store_vm_clear(&record);
		return r;
	}
	vm->record.enabled = TAKE(enabled);
	return 0;
}

static void write_now(struct host_vm *vm)
{
	struct host_record *record = &vm->record;

	record->writing = record->changes;
	record->revision = vm->core->revision;
	record->desired_uid = vm->desired_uid;
	record->retry_at = UINT64_MAX;
	if (put(vm) < 0) {
		/* The answer comes from the loop, as any other: the caller is in the midst of an event. */
		record->out_of_memory = true;
		host_effect_arm(vm);
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
	record->retry_at = loop_now(vm->host->loop) + record->retry_delay;
	host_effect_arm(vm);
}

static void log_failure(struct host_vm *vm, const char *why)
{
	uint32_t dropped;

	if (!log_gate_open(&vm->host->storage_gate, STORAGE_LINES, loop_now(vm->host->loop), &dropped))
		return;
	host_notice_log(vm, HOST_LINE(.level = LOG_ERR), "VM %s cannot be recorded: %s (%u such lines left out before)",
			vm->name, why, dropped);
}

static void succeeded(struct host_vm *vm, uint64_t change)
{
	struct host_record *record = &vm->record;

	record->durable = change;
	record->durable_desired_uid = record->desired_uid;
	record->retry_delay = 0;
	host_registration_durable(vm);
	host_client_durable(vm);
	if (may_write(vm) && record->changes > record->durable)
		write_now(vm);
}

static bool somebody_waits(const struct host_vm *vm)
{
	return vm->requests || (vm->live && vm->live->reply_due);
}

/* Whoever awaits a later change is not part of this failure: their turn is next, and at once. */
static void failed(struct host_vm *vm, uint64_t change, const char *why)
{
	log_failure(vm, why);
	host_client_failed(vm, change, HOST_STORAGE, why);
	host_registration_not_durable(vm, change, why);
	if (!may_write(vm))
		return;
	if (!vm->requests)
		vm->desired_uid = vm->record.durable_desired_uid;
	if (somebody_waits(vm))
		write_now(vm);
	else
		retry_later(vm);
}

static void finish(struct host_vm *vm, int error, const char *why)
{
	struct host_record *record = &vm->record;
	_cleanup_free_ uint8_t *enabled = TAKE(record->enabled);
	uint64_t change = record->writing;
	unsigned effects;

	record->writing = 0;
	record->out_of_memory = false;
	if (vm->removed) {
		host_vm_reap(vm);
		return;
	}
	host_vm_hold(vm);
	if (error < 0) {
		/* Before the effects: what the core takes back is a change, and must not be written in a circle. */
		record->retry_at = loop_now(vm->host->loop);
	}
	effects = vm_stored(vm->core, record->revision, error == 0, enabled, loop_now(vm->host->loop));
	host_effect_apply(vm, effects);
	if (error < 0)
		failed(vm, change, why);
	else
		succeeded(vm, change);
	host_vm_release(vm);
}

static void on_written(int error, const char *why, void *userdata)
{
	finish(userdata, error, why ? why : strerror(-error));
}

void host_record_tick(struct host_vm *vm, uint64_t now)
{
	struct host_record *record = &vm->record;

	if (record->out_of_memory)
		finish(vm, -ENOMEM, "out of memory");
	else if (may_write(vm) && record->retry_at <= now)
		write_now(vm);
}

/* ---- deleting ---- */

static void on_deleted(int error, const char *why, void *userdata)
{
	struct host *host = userdata;
	uint32_t dropped;

	if (error < 0 && log_gate_open(&host->storage_gate, STORAGE_LINES, loop_now(host->loop), &dropped))
		log_error("the record of a VM that ended cannot be deleted: %s", why ? why : strerror(-error));
}

void host_record_delete(struct host_vm *vm)
{
	int r = store_delete(vm->host->store, vm->uuid, on_deleted, vm->host);

	if (r < 0)
		on_deleted(r, NULL, vm->host);
}

/* ---- reading ---- */

/* A job in flight has its whole time again: the guest's VMM could not report while the daemon was away. */
static void restore_job(struct vm *core, const struct job *job, uint64_t now)
{
	job_start(&core->job, job->id, job->from, job->to, core->level->job_timeout, false, now);
	core->job.uid = job->uid;
}

static void restore_core(struct vm *core, const struct store_vm *record, uint64_t now)
{
	core->boot = record->boot;
	core->desired = record->desired;
	core->desired_set = record->desired_set;
	core->boot_removable = record->boot_removable;
	core->notify = record->notify;
	core->epoch = record->epoch;
	core->last_job = record->last_job;
	if (record->job.id != 0)
		restore_job(core, &record->job, now);
	if (!record->stopped)
		vm_restore_grants(core, record->enabled, record->wanted);
}

int host_record_restore(struct host *host, struct store_vm *record)
{
	struct host_vm *vm;
	uint64_t newest = record->job.id > record->last_job.id ? record->job.id : record->last_job.id;
	int r;

	r = host_vm_new(&vm, host, record->uuid, record->name, record->possible);
	if (r < 0)
		return r;
	memcpy(vm->token, record->token, sizeof(vm->token));
	vm->peer = (struct peer){.uid = record->uid, .pid = record->pid, .start_time = record->start_time};
	vm->desired_uid = record->desired_uid;
	vm->record.durable_desired_uid = record->desired_uid;
	vm->visible = true;
	restore_core(vm->core, record, loop_now(host->loop));
	host_index_set_job(&host->index, vm, vm->core->job.id);
	if (host->next_job <= newest)
		host->next_job = newest + 1;
	return 0;
}
