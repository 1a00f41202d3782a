/* SPDX-License-Identifier: GPL-2.0-or-later */

/* The host's life. */

#include "daemon/host/host.h"

#include <stdio.h>
#include <string.h>

#include "daemon/host/host_private.h"

DEFINE_CLEANUP(struct host *, host_free)

static int open_parts(struct host *host)
{
	int r = loop_deferred_new(&host->notices, host->loop, host_notice_flush, host);

	if (r >= 0)
		r = host_fleet_open(host);
	if (r >= 0)
		r = host_meter_open(host);
	return r;
}

int host_new(struct host **ret, const struct host_setup *setup)
{
	_cleanup_(host_freep) struct host *host = calloc(1, sizeof(*host));
	int r;

	if (!host)
		return -ENOMEM;
	host->loop = setup->loop;
	host->store = setup->store;
	host->config = setup->config;
	host->policy = policy_ref(setup->policy);
	host->capacity_source = setup->capacity;
	host->recorder = setup->recorder;
	host->handover = setup->handover;
	host->next_job = 1;
	host->modes = (struct store_host){.frozen_uid = (uint32_t)-1, .drained_uid = (uint32_t)-1};
	r = open_parts(host);
	if (r < 0)
		return r;
	r = host_policy_open(host);
	if (r < 0)
		return r;
	*ret = TAKE(host);
	return 0;
}

/* Sessions that are left are hung up without an end: their VMs go on, and come back to the next daemon. */
struct host *host_free(struct host *host)
{
	if (!host)
		return NULL;
	while (host->providers)
		host_provider_remove(host->providers);
	for (size_t i = 0; i < host->index.n; i++) {
		host_vm_close_sessions(host->index.by_uuid[i], "the daemon ends");
		host_vm_free(host->index.by_uuid[i]);
	}
	while (host->removed) {
		struct host_vm *vm = host->removed;

		host->removed = vm->removed_next;
		host_vm_free(vm);
	}
	host_announce_close(host);
	host_mode_close(host);
	host_meter_close(host);
	host_fleet_close(host);
	host_index_clear(&host->index);
	loop_deferred_free(host->notices);
	policy_unref(host->policy);
	free(host);
	return NULL;
}

static int load_one(struct store_vm *record, void *userdata)
{
	return host_restore(userdata, record);
}

int host_load(struct host *host, char **ret_error)
{
	struct host_vm *vm, *next;
	int r = host_mode_load(host, ret_error);

	if (r >= 0 && host->recorder)
		recorder_header(host->recorder, &host->fleet, host->policy, host_policy_cpus(host));
	if (r >= 0)
		r = host_announce_load(host, ret_error);
	if (r >= 0)
		r = store_load(host->store, load_one, host, ret_error);
	if (r < 0)
		return r;
	/* Who lives is known of all before anybody is given what another one's end sets free; and a job that the last
	 * daemon could not end any more ends now. */
	for (vm = host_index_after(&host->index, NULL); vm; vm = next) {
		next = host_index_after(&host->index, vm);
		if (vm->core->link == VM_DISCONNECTED)
			host_session_check_process(vm);
		else if (vm->core->link == VM_STOPPED && !vm->core->desired_set)
			host_vm_remove(vm, "the VM has ended");
	}
	host_fleet_event(host, HOST_EVENT(.kind = FLEET_TICK));
	host_taken_over(host);
	return 0;
}

void host_recording_ended(struct host *host)
{
	host->recorder = NULL;
}

void host_observe(struct host *host, const struct host_observer *observer, void *userdata)
{
	host->observer = observer;
	host->observer_data = userdata;
	host_view(host, &host->told);
}

void host_on_change(struct host *host, void (*fn)(void *userdata), void *userdata)
{
	host->change_fn = fn;
	host->change_data = userdata;
}

struct host_vm *host_lookup(const struct host *host, const char *name_or_uuid)
{
	uint8_t uuid[CPUPOLICY_UUID_SIZE];

	/* No name looks like a UUID: registration sees to it. */
	if (uuid_parse(uuid, name_or_uuid) == 0)
		return host_index_uuid(&host->index, uuid);
	return host_index_name(&host->index, name_or_uuid);
}
