/* SPDX-License-Identifier: GPL-2.0-or-later */

/* What clients ask for. Accepted is what is durable: the answer waits for the disk. */

#include <stdarg.h>
#include <stdio.h>

#include "daemon/host_private.h"
#include "daemon/util.h"

#define SENTENCE_SIZE 512

static void __attribute__((format(printf, 4, 5)))
refuse(host_resize_fn fn, void *userdata, enum host_error error, const char *format, ...)
{
	char sentence[SENTENCE_SIZE];
	va_list ap;

	va_start(ap, format);
	vsnprintf(sentence, sizeof(sentence), format, ap);
	va_end(ap);
	fn(error, sentence, 0, userdata);
}

/* ---- requests that wait ---- */

/* The requests that await nothing beyond `change`, cut off the list; the list is in the order of what they await. */
static struct host_request *take_requests(struct host_vm *vm, uint64_t change)
{
	struct host_request *first = vm->requests, **end = &vm->requests;

	while (*end && (*end)->awaits <= change)
		end = &(*end)->next;
	vm->requests = *end;
	if (end == &vm->requests)
		return NULL;
	*end = NULL;
	return first;
}

static void append_request(struct host_vm *vm, struct host_request *request)
{
	struct host_request **end = &vm->requests;

	while (*end)
		end = &(*end)->next;
	*end = request;
}

static void accepted(struct host_vm *vm, struct host_request *request)
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

void host_client_durable(struct host_vm *vm)
{
	struct host_request *request = take_requests(vm, vm->record.durable);

	while (request) {
		struct host_request *next = request->next;

		accepted(vm, request);
		free(request);
		request = next;
	}
}

void host_client_failed(struct host_vm *vm, uint64_t change, enum host_error error, const char *why)
{
	struct host_request *request = take_requests(vm, change);

	while (request) {
		struct host_request *next = request->next;

		request->fn(error, why, 0, request->userdata);
		free(request);
		request = next;
	}
}

/* ---- resize ---- */

static void refuse_resize(const struct host_vm *vm, enum vm_refusal refusal, uint32_t count, host_resize_fn fn,
			  void *userdata)
{
	const struct vm *core = vm->core;

	switch (refusal) {
	case VM_REFUSED_RANGE:
		refuse(fn, userdata, HOST_OUT_OF_RANGE,
		       "VM %s was created with %u possible vCPUs: it can have 1 to %u, not %u", vm->name,
		       core->possible, core->possible, count);
		break;
	case VM_REFUSED_LEVEL:
		refuse(fn, userdata, HOST_SLA_LIMIT,
		       "the service level of VM %s in the daemon's configuration permits %u to %u vCPUs, not %u",
		       vm->name, core->level->minimum, core->level->maximum, count);
		break;
	case VM_REFUSED_BOOT:
		refuse(fn, userdata, HOST_BOOT_VCPU,
		       "VM %s booted with %u vCPUs and its VMM does not permit to take those back: start it with "
		       "removable-boot-vcpus=on, or with a lower boot count",
		       vm->name, core->boot);
		break;
	case VM_REFUSED_NOTIFY:
		refuse(fn, userdata, HOST_NOT_NOTIFIABLE,
		       "VM %s was started without ACPI: its guest cannot be told of a change", vm->name);
		break;
	case VM_REFUSED_MIGRATING:
		refuse(fn, userdata, HOST_MIGRATING, "VM %s is being migrated: try again when that has ended",
		       vm->name);
		break;
	case VM_REFUSED_STORAGE:
		refuse(fn, userdata, HOST_STORAGE, "too many requests for VM %s wait for the disk already", vm->name);
		break;
	case VM_ACCEPTED:
		break;
	}
}

static struct host_vm *find_vm(struct host *host, const char *name_or_uuid, host_resize_fn fn, void *userdata)
{
	struct host_vm *vm = host_lookup(host, name_or_uuid);

	if (vm && vm->visible && !vm->forgetting)
		return vm;
	refuse(fn, userdata, HOST_NO_SUCH_VM, "there is no VM \"%.300s\"", name_or_uuid);
	return NULL;
}

void host_resize(struct host *host, const char *vm_name, uint32_t count, uid_t uid, host_resize_fn fn, void *userdata)
{
	struct host_vm *vm = find_vm(host, vm_name, fn, userdata);
	uint64_t id = host->next_job;
	struct host_request *request;
	struct job superseded = {0}, *job;
	enum vm_refusal refusal;
	unsigned effects = 0;

	if (!vm)
		return;
	if (vm->incoming) {
		refuse_resize(vm, VM_REFUSED_MIGRATING, count, fn, userdata);
		return;
	}
	request = calloc(1, sizeof(*request));
	if (!request) {
		refuse(fn, userdata, HOST_NO_MEMORY, "out of memory");
		return;
	}
	refusal = vm_resize(vm->core, count, id, loop_now(host->loop), &superseded, &effects);
	if (refusal != VM_ACCEPTED) {
		free(request);
		refuse_resize(vm, refusal, count, fn, userdata);
		return;
	}
	host->next_job++;
	vm->desired_uid = uid;
	job = vm->core->job.id == id ? &vm->core->job : &vm->core->last_job;
	job->uid = uid;
	request->job = *job;
	request->fn = fn;
	request->userdata = userdata;
	if (superseded.id != 0)
		host_effect_job_ended(vm, &superseded);
	if (vm->core->last_job.id == superseded.id)
		effects &= ~(unsigned)VM_EFFECT_JOB_ENDED;
	append_request(vm, request);
	host_vm_hold(vm);
	host_effect_apply(vm, effects & ~(unsigned)VM_EFFECT_STORE);
	host_notice_changed(vm);
	request->awaits = host_record_touch(vm, true);
	host_vm_release(vm);
}

/* ---- forget ---- */

static void on_forgotten(int error, const char *why, void *userdata)
{
	struct host_vm *vm = userdata;
	host_resize_fn fn = vm->forget_fn;
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

void host_forget(struct host *host, const char *vm_name, uid_t uid, host_resize_fn fn, void *userdata)
{
	struct host_vm *vm = find_vm(host, vm_name, fn, userdata);
	int r;

	if (!vm)
		return;
	if (is_held(vm)) {
		refuse(fn, userdata, HOST_VM_RUNNING, "VM %s has a VMM: it cannot be forgotten while that runs",
		       vm->name);
		return;
	}
	r = store_delete(host->store, vm->uuid, on_forgotten, vm);
	if (r < 0) {
		refuse(fn, userdata, HOST_NO_MEMORY, "out of memory");
		return;
	}
	host_notice_log(vm, HOST_LINE(.level = LOG_INFO, .uid = &uid), "uid %u has VM %s forgotten", (unsigned)uid,
			vm->name);
	vm->forgetting = true;
	vm->forget_fn = fn;
	vm->forget_data = userdata;
	host_vm_hold(vm);
}
