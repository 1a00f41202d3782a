/* SPDX-License-Identifier: GPL-2.0-or-later */

/*
 * Requests that are carried out in memory and wait for the disk. Accepted is what is durable: so what cannot be recorded
 * is taken back, the newest first, before anybody is answered.
 */

#include "daemon/host/host_private.h"

struct host_request *host_request_new(const struct host_request_ops *ops, uid_t uid, host_done_fn fn, void *userdata)
{
	struct host_request *request = calloc(1, sizeof(*request));

	if (!request) {
		host_client_refuse(fn, userdata, HOST_NO_MEMORY, "out of memory");
		return NULL;
	}
	request->ops = ops;
	request->uid = uid;
	request->fn = fn;
	request->userdata = userdata;
	return request;
}

struct host_request *host_request_free(struct host_request *request)
{
	if (!request)
		return NULL;
	host_assigned_clear(&request->assigned);
	free(request);
	return NULL;
}

static void append(struct host_vm *vm, struct host_request *request)
{
	struct host_request **end = &vm->requests;

	while (*end)
		end = &(*end)->next;
	*end = request;
}

void host_request_wait(struct host_vm *vm, struct host_request *request, unsigned effects)
{
	append(vm, request);
	host_vm_hold(vm);
	host_effect_apply(vm, effects | HOST_EFFECT_RECORDED);
	host_notice_changed(vm);
	request->awaits = host_record_touch(vm, true);
	host_vm_release(vm);
}

/* The requests that await nothing beyond `change`, cut off the list; the list is in the order of what they await. */
static struct host_request *take(struct host_vm *vm, uint64_t change)
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

void host_request_durable(struct host_vm *vm)
{
	struct host_request *request = take(vm, vm->record.durable);

	while (request) {
		struct host_request *next = request->next;

		request->ops->accepted(vm, request);
		host_request_free(request);
		request = next;
	}
}

static void answer_all(struct host_request *request, enum host_error error, const char *why)
{
	while (request) {
		struct host_request *next = request->next;

		request->fn(error, why, 0, request->userdata);
		host_request_free(request);
		request = next;
	}
}

static struct host_request *reversed(struct host_request *request)
{
	struct host_request *result = NULL;

	while (request) {
		struct host_request *next = request->next;

		request->next = result;
		result = request;
		request = next;
	}
	return result;
}

static struct host_request *of_kind(struct host_request *request, const struct host_request_ops *ops)
{
	while (request && request->ops != ops)
		request = request->next;
	return request;
}

void host_request_failed(struct host_vm *vm, uint64_t change, enum host_error error, const char *why)
{
	struct host_request *newest_first = reversed(take(vm, change));

	for (struct host_request *request = newest_first; request; request = request->next)
		request->ops->undo(vm, request, of_kind(vm->requests, request->ops));
	answer_all(reversed(newest_first), error, why);
}

void host_request_drop(struct host_vm *vm, enum host_error error, const char *why)
{
	answer_all(take(vm, UINT64_MAX), error, why);
}
