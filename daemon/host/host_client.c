/* SPDX-License-Identifier: GPL-2.0-or-later */

/* What clients ask for. Accepted is what is durable: the answer waits for the disk. */

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "daemon/host/host_private.h"

#define SENTENCE_SIZE EXPLAIN_TEXT_SIZE

/* ---- refusing ---- */

void host_client_refuse(host_done_fn fn, void *userdata, enum host_error error, const char *format, ...)
{
	char sentence[SENTENCE_SIZE];
	va_list ap;

	va_start(ap, format);
	vsnprintf(sentence, sizeof(sentence), format, ap);
	va_end(ap);
	fn(error, sentence, 0, userdata);
}

static enum host_error error_of(enum rule rule)
{
	static const enum host_error errors[] = {
		[RULE_RANGE] = HOST_OUT_OF_RANGE,  [RULE_LIMIT] = HOST_SLA_LIMIT,
		[RULE_TENANT] = HOST_TENANT_QUOTA, [RULE_CAPACITY] = HOST_CAPACITY,
		[RULE_CREDIT] = HOST_CREDIT,       [RULE_PLUG_RATE] = HOST_PLUG_RATE,
		[RULE_FROZEN] = HOST_FROZEN,       [RULE_DRAINED] = HOST_DRAINED,
		[RULE_BOOT] = HOST_BOOT_VCPU,      [RULE_NOTIFY] = HOST_NOT_NOTIFIABLE,
		[RULE_MIGRATING] = HOST_MIGRATING, [RULE_STORAGE] = HOST_STORAGE,
	};

	return errors[rule];
}

void host_client_refuse_rule(struct host *host, const char *vm_name, const struct fleet_answer *answer, host_done_fn fn,
			     void *userdata)
{
	struct explain_line line = answer->line;
	char sentence[EXPLAIN_TEXT_SIZE];

	line.rule = answer->rule;
	line.outcome = EXPLAIN_REFUSES;
	host->counters.refusals[answer->rule]++;
	explain_text(sentence, sizeof(sentence), vm_name, &line);
	fn(error_of(answer->rule), sentence, 0, userdata);
}

struct host_vm *host_client_find(struct host *host, const char *name_or_uuid, host_done_fn fn, void *userdata)
{
	struct host_vm *vm = host_lookup(host, name_or_uuid);

	if (vm && vm->visible && !vm->forgetting)
		return vm;
	host_client_refuse(fn, userdata, HOST_NO_SUCH_VM, "there is no VM \"%.300s\"", name_or_uuid);
	return NULL;
}

/* ---- resize ---- */

static void resize_accepted(struct host_vm *vm, struct host_request *request)
{
	const struct host_observer *observer = vm->host->observer;
	const struct job *job = &request->job;

	host_notice_log(vm, HOST_LINE(.level = LOG_INFO, .job = job->id, .uid = &job->uid),
			"uid %u asks for %u vCPUs of VM %s, had %u", job->uid, job->to, vm->name, job->from);
	if (observer && observer->job_new)
		observer->job_new(vm, job, vm->host->observer_data);
	request->fn(HOST_OK, NULL, job->id, request->userdata);
	if (request->ended.id != 0)
		host_effect_job_ended(vm, &request->ended);
}

/* The core has taken back the rest. */
static void resize_undo(struct host_vm *vm, struct host_request *request, struct host_request *later)
{
	if (later)
		later->desired_uid = request->desired_uid;
	else
		vm->desired_uid = request->desired_uid;
}

static const struct host_request_ops resize_ops = {.accepted = resize_accepted, .undo = resize_undo};

/* The host's own answer: that the VM's migration target has come is not known to the fleet. */
static const struct fleet_answer migrating = {.rule = RULE_MIGRATING, .line.bound = UINT64_MAX};

static void carry_out(struct host_vm *vm, struct host_request *request, uint64_t id, const struct fleet_answer *answer)
{
	struct vm *core = vm->core;
	unsigned effects = host_fleet_take(vm);
	struct job *job = core->job.id == id ? &core->job : &core->last_job;

	job->uid = request->uid;
	request->desired_uid = vm->desired_uid;
	request->job = *job;
	vm->desired_uid = request->uid;
	if (answer->superseded.id != 0)
		host_effect_job_ended(vm, &answer->superseded);
	if (core->last_job.id == id)
		effects |= VM_EFFECT_JOB_ENDED;
	host_request_wait(vm, request, effects);
}

static void resize(struct host *host, struct host_vm *vm, uint32_t count, uint32_t millis, uid_t uid, host_done_fn fn,
		   void *userdata)
{
	uint64_t id = host->next_job;
	struct host_request *request;
	struct fleet_answer answer;

	if (vm->incoming) {
		host_client_refuse_rule(host, vm->name, &migrating, fn, userdata);
		return;
	}
	request = host_request_new(&resize_ops, uid, fn, userdata);
	if (!request)
		return;
	answer = host_fleet_apply(
		host, HOST_EVENT(.kind = FLEET_RESIZE, .vm = &vm->member, .count = count, .job = id, .millis = millis));
	if (answer.rule == RULE_NONE) {
		host->next_job++;
		carry_out(vm, request, id, &answer);
	} else {
		host_request_free(request);
		host_client_refuse_rule(host, vm->name, &answer, fn, userdata);
	}
	host_fleet_settle(host);
}

void host_resize(struct host *host, const char *vm_name, uint32_t count, uid_t uid, host_done_fn fn, void *userdata)
{
	struct host_vm *vm = host_client_find(host, vm_name, fn, userdata);

	if (vm)
		resize(host, vm, count, 0, uid, fn, userdata);
}

void host_resize_millis(struct host *host, const char *vm_name, uint32_t millis, uid_t uid, host_done_fn fn,
			void *userdata)
{
	struct host_vm *vm = host_client_find(host, vm_name, fn, userdata);

	if (!vm)
		return;
	if (millis % 1000 > 0 && !host_provider_of(vm)) {
		host_client_refuse(
			fn, userdata, HOST_NO_PROVIDER,
			"no provider that can hold the CPU time of VM %s is here: without one it can have whole "
			"vCPUs only, not %u/1000 CPUs",
			vm->name, millis);
		return;
	}
	resize(host, vm, vm_millis_count(millis), millis, uid, fn, userdata);
}

enum host_error host_explain(struct host *host, const char *vm_name, uint32_t count, struct explain *ret)
{
	struct host_vm *vm = host_find(host, vm_name);

	if (!vm)
		return HOST_NO_SUCH_VM;
	fleet_explain(&host->fleet, &vm->member, count != 0 ? count : vm->core->desired, host_now(host), ret);
	if (!vm->incoming)
		return HOST_OK;
	for (size_t i = 0; i < ret->n; i++)
		if (ret->lines[i].rule == RULE_MIGRATING)
			ret->lines[i].outcome = EXPLAIN_REFUSES;
	if (ret->refused == RULE_NONE)
		ret->refused = RULE_MIGRATING;
	return HOST_OK;
}

/* ---- forget ---- */

static void on_forgotten(int error, const char *why, void *userdata)
{
	struct host_vm *vm = userdata;
	host_done_fn fn = vm->forget_fn;
	void *fn_data = vm->forget_data;

	if (error < 0)
		vm->forgetting = false;
	else
		host_vm_remove(vm, "an operator had it forgotten");
	host_vm_release(vm);
	fn(error < 0 ? HOST_STORAGE : HOST_OK, error < 0 ? why : NULL, 0, fn_data);
}

/* A VMM whose process cannot be seen from here is not known to live; without a connection it does not keep the VM. */
static bool is_held(const struct host_vm *vm)
{
	return vm->live || vm->incoming || (vm->core->link == VM_DISCONNECTED && vm->peer.pid != 0);
}

void host_forget(struct host *host, const char *vm_name, uid_t uid, host_done_fn fn, void *userdata)
{
	struct host_vm *vm = host_client_find(host, vm_name, fn, userdata);
	int r;

	if (!vm)
		return;
	if (is_held(vm)) {
		host_client_refuse(fn, userdata, HOST_VM_RUNNING,
				   "VM %s has a VMM: it cannot be forgotten while that runs", vm->name);
		return;
	}
	host_record_touch(vm, true); /* its usage stays */
	r = store_delete(host->store, vm->uuid, on_forgotten, vm);
	if (r < 0) {
		host_client_refuse(fn, userdata, HOST_NO_MEMORY, "out of memory");
		return;
	}
	host_notice_log(vm, HOST_LINE(.level = LOG_INFO, .uid = &uid), "uid %u has VM %s forgotten", (unsigned)uid,
			vm->name);
	vm->forgetting = true;
	vm->forget_fn = fn;
	vm->forget_data = userdata;
	host_vm_hold(vm);
}

/* ---- backup ---- */

struct backup {
	char *path;
	uid_t uid;
	host_done_fn fn;
	void *userdata;
};

static struct backup *backup_free(struct backup *backup)
{
	if (backup)
		free(backup->path);
	free(backup);
	return NULL;
}

static void on_backup(int error, const char *why, void *userdata)
{
	struct backup *backup = userdata;

	if (error == 0) {
		log_info("uid %u has a backup made: %s", (unsigned)backup->uid, backup->path);
		backup->fn(HOST_OK, NULL, 0, backup->userdata);
	} else {
		host_client_refuse(backup->fn, backup->userdata, error == -EEXIST ? HOST_FILE_EXISTS : HOST_STORAGE,
				   "the backup %.300s cannot be made: %s", backup->path, why ? why : strerror(-error));
	}
	backup_free(backup);
}

void host_backup(struct host *host, const char *path, uid_t uid, host_done_fn fn, void *userdata)
{
	struct backup *backup;

	if (*path != '/') {
		host_client_refuse(fn, userdata, HOST_INVALID, "the path of a backup must be absolute, not \"%.300s\"",
				   path);
		return;
	}
	backup = calloc(1, sizeof(*backup));
	if (backup) {
		*backup = (struct backup){.path = strdup(path), .uid = uid, .fn = fn, .userdata = userdata};
		if (backup->path && store_backup(host->store, path, on_backup, backup) == 0)
			return;
	}
	backup_free(backup);
	host_client_refuse(fn, userdata, HOST_NO_MEMORY, "out of memory");
}
