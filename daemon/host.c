/* SPDX-License-Identifier: GPL-2.0-or-later */

#include "daemon/host.h"

#include <stdio.h>
#include <string.h>

#include "daemon/host_private.h"
#include "daemon/util.h"

/* ---- a VM's life ---- */

static void free_requests(struct host_vm *vm)
{
	while (vm->requests) {
		struct host_request *request = vm->requests;

		vm->requests = request->next;
		free(request);
	}
}

static void vm_struct_free(struct host_vm *vm)
{
	host_registration_unwatch(vm);
	loop_timer_free(vm->timer);
	free_requests(vm);
	vm_free(vm->core);
	peer_clear(&vm->peer);
	free(vm->denials);
	free(vm->record.enabled);
	free(vm->name);
	free(vm);
}
DEFINE_CLEANUP(struct host_vm *, vm_struct_free)

static const struct service_level *level_of(const struct host *host, const struct host_vm *vm, const char *name)
{
	return config_level(host->config, vm->uuid_text, name);
}

int host_vm_new(struct host_vm **ret, struct host *host, const uint8_t uuid[CPUPOLICY_UUID_SIZE], const char *name,
		uint32_t possible)
{
	_cleanup_(vm_struct_freep) struct host_vm *vm = calloc(1, sizeof(*vm));
	int r;

	if (!vm)
		return -ENOMEM;
	vm->host = host;
	vm->pidfd = -1;
	vm->desired_uid = vm->record.durable_desired_uid = (uint32_t)-1;
	vm->record.retry_at = UINT64_MAX;
	memcpy(vm->uuid, uuid, sizeof(vm->uuid));
	uuid_format(vm->uuid_text, uuid);
	vm->name = strdup(name);
	if (!vm->name)
		return -ENOMEM;
	r = loop_timer_new(&vm->timer, host->loop, host_effect_timer, vm);
	if (r < 0)
		return r;
	r = vm_new(&vm->core, possible, level_of(host, vm, name));
	if (r < 0)
		return r;
	r = host_index_add(&host->index, vm);
	if (r < 0)
		return r;
	*ret = TAKE(vm);
	return 0;
}

/* Its grants, none, need no moving; what outlives a VM's end does. */
static int new_core(struct vm **ret, const struct vm *old, uint32_t possible, const struct service_level *level)
{
	struct vm *core;
	int r = vm_new(&core, possible, level);

	if (r < 0)
		return r;
	core->desired = old->desired;
	core->desired_set = old->desired_set;
	core->epoch = old->epoch;
	core->generation = old->generation;
	core->revision = old->revision;
	core->stored = old->stored;
	core->denied = old->denied;
	core->last_job = old->last_job;
	*ret = core;
	return 0;
}

int host_vm_reshape(struct host_vm *vm, const char *name, uint32_t possible)
{
	_cleanup_free_ char *copy = strdup(name);
	struct vm *core;
	int r;

	if (!copy)
		return -ENOMEM;
	r = new_core(&core, vm->core, possible, level_of(vm->host, vm, name));
	if (r < 0)
		return r;
	vm_free(vm->core);
	vm->core = core;
	free(vm->denials);
	vm->denials = NULL;
	vm->denied = false;
	host_index_remove(&vm->host->index, vm);
	free(vm->name);
	vm->name = TAKE(copy);
	return host_index_add(&vm->host->index, vm); /* cannot fail: its slots are there, the name was looked up */
}

void host_vm_hold(struct host_vm *vm)
{
	vm->holds++;
}

void host_vm_release(struct host_vm *vm)
{
	vm->holds--;
	host_vm_reap(vm);
}

void host_vm_reap(struct host_vm *vm)
{
	struct host_vm **at = &vm->host->removed;

	if (!vm->removed || vm->holds > 0 || vm->record.writing != 0)
		return;
	while (*at != vm)
		at = &(*at)->removed_next;
	*at = vm->removed_next;
	vm_struct_free(vm);
}

static void close_sessions(struct host_vm *vm, const char *why)
{
	struct host_session *sessions[] = {vm->live, vm->incoming, vm->retired};

	vm->live = vm->incoming = vm->retired = NULL;
	for (size_t i = 0; i < ARRAY_SIZE(sessions); i++)
		host_session_close(sessions[i], why);
}

void host_vm_remove(struct host_vm *vm, const char *why)
{
	struct host *host = vm->host;

	vm->removed = true;
	vm->removed_next = host->removed;
	host->removed = vm;
	host_vm_hold(vm);
	close_sessions(vm, why);
	host_client_failed(vm, UINT64_MAX, HOST_NO_SUCH_VM, "the VM has ended");
	host_index_remove(&host->index, vm);
	host_notice_drop(vm);
	host_registration_unwatch(vm);
	if (!vm->record.out_of_memory)
		loop_timer_set(vm->timer, UINT64_MAX);
	if (!vm->forgetting)
		host_record_delete(vm);
	if (vm->visible && host->observer && host->observer->removed)
		host->observer->removed(vm, host->observer_data);
	vm->data = NULL;
	host_vm_release(vm);
}

/* ---- the host's life ---- */

int host_new(struct host **ret, struct loop *loop, struct store *store, const struct config *config)
{
	struct host *host = calloc(1, sizeof(*host));
	int r;

	if (!host)
		return -ENOMEM;
	host->loop = loop;
	host->store = store;
	host->config = config;
	host->next_job = 1;
	r = loop_deferred_new(&host->notices, loop, host_notice_flush, host);
	if (r < 0) {
		free(host);
		return r;
	}
	*ret = host;
	return 0;
}

/* Sessions that are left are hung up without an end: their VMs go on, and come back to the next daemon. */
struct host *host_free(struct host *host)
{
	if (!host)
		return NULL;
	for (size_t i = 0; i < host->index.n; i++) {
		close_sessions(host->index.by_uuid[i], "the daemon ends");
		vm_struct_free(host->index.by_uuid[i]);
	}
	while (host->removed) {
		struct host_vm *vm = host->removed;

		host->removed = vm->removed_next;
		vm_struct_free(vm);
	}
	host_index_clear(&host->index);
	loop_deferred_free(host->notices);
	free(host);
	return NULL;
}

static int load_one(struct store_vm *record, void *userdata)
{
	return host_record_restore(userdata, record);
}

int host_load(struct host *host, char **ret_error)
{
	struct host_vm *vm, *next;
	int r = store_load(host->store, load_one, host, ret_error);

	if (r < 0)
		return r;
	for (vm = host_index_after(&host->index, NULL); vm; vm = next) {
		next = host_index_after(&host->index, vm);
		/* A job that the last daemon could not end any more ends now. */
		host_effect_apply(vm, vm_tick(vm->core, loop_now(host->loop)));
		host_effect_arm(vm);
		if (vm->core->link != VM_STOPPED)
			host_registration_check_process(vm);
		else if (!vm->core->desired_set)
			host_vm_remove(vm, "the VM has ended");
	}
	return 0;
}

void host_observe(struct host *host, const struct host_observer *observer, void *userdata)
{
	host->observer = observer;
	host->observer_data = userdata;
}

/* ---- reading ---- */

struct host_vm *host_lookup(struct host *host, const char *name_or_uuid)
{
	uint8_t uuid[CPUPOLICY_UUID_SIZE];

	/* No name looks like a UUID: registration sees to it. */
	if (uuid_parse(uuid, name_or_uuid) == 0)
		return host_index_uuid(&host->index, uuid);
	return host_index_name(&host->index, name_or_uuid);
}

struct host_vm *host_find(struct host *host, const char *name_or_uuid)
{
	struct host_vm *vm = host_lookup(host, name_or_uuid);

	return vm && vm->visible ? vm : NULL;
}

struct host_vm *host_find_job(struct host *host, uint64_t id)
{
	return id != 0 ? host_index_job(&host->index, id) : NULL;
}

struct host_vm *host_next(struct host *host, const struct host_vm *after)
{
	struct host_vm *vm = host_index_after(&host->index, after);

	while (vm && !vm->visible)
		vm = host_index_after(&host->index, vm);
	return vm;
}

size_t host_count(const struct host *host)
{
	return host->index.n;
}

const struct vm *host_vm_core(const struct host_vm *vm)
{
	return vm->core;
}

const char *host_vm_uuid(const struct host_vm *vm)
{
	return vm->uuid_text;
}

const char *host_vm_name(const struct host_vm *vm)
{
	return vm->name;
}

const struct peer *host_vm_peer(const struct host_vm *vm)
{
	return &vm->peer;
}

uid_t host_vm_desired_uid(const struct host_vm *vm)
{
	return vm->desired_uid;
}

bool host_vm_has_incoming(const struct host_vm *vm)
{
	return vm->incoming != NULL;
}

void host_vm_set_data(struct host_vm *vm, void *data)
{
	vm->data = data;
}

void *host_vm_data(const struct host_vm *vm)
{
	return vm->data;
}
