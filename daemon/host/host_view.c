/* SPDX-License-Identifier: GPL-2.0-or-later */

/* What clients read. Nothing changes here. */

#include <string.h>

#include "daemon/host/host_private.h"

/* ---- VMs ---- */

struct host_vm *host_find(struct host *host, const char *name_or_uuid)
{
	struct host_vm *vm = host_lookup(host, name_or_uuid);

	return vm && vm->visible ? vm : NULL;
}

struct host_vm *host_find_job(struct host *host, uint64_t id)
{
	return id != 0 ? host_index_job(&host->index, id) : NULL;
}

static struct host_vm *first_visible(struct host *host, struct host_vm *vm)
{
	while (vm && !vm->visible)
		vm = host_index_after(&host->index, vm);
	return vm;
}

struct host_vm *host_next(struct host *host, const struct host_vm *after)
{
	return first_visible(host, host_index_after(&host->index, after));
}

struct host_vm *host_after(struct host *host, const char *uuid)
{
	uint8_t bytes[CPUPOLICY_UUID_SIZE];

	if (uuid_parse(bytes, uuid) < 0)
		return NULL;
	return first_visible(host, host_index_after_uuid(&host->index, bytes));
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

void host_vm_view(const struct host_vm *vm, struct host_vm_view *ret)
{
	const struct host *host = vm->host;
	const struct fleet_vm *member = &vm->member;
	const struct policy_decision *decision = &vm->decision;
	const struct host_announcement *announced = host_announcement_find(host, vm->uuid);
	uint64_t now = host_now(host);
	struct host_vm_view view = {
		.class = member->class->name,
		.tenant = member->tenant == FLEET_NO_TENANT ? NULL : host->fleet.tenants[member->tenant].name,
		.class_by = decision->class_by,
		.tenant_by = decision->tenant_by,
		.class_rule = decision->class_rule,
		.tenant_rule = decision->tenant_rule,
		.assigned_class = vm->assigned.class,
		.assigned_tenant = vm->assigned.tenant,
		.assigned_uid = vm->assigned.uid,
		.announced_class = announced ? announced->said.class : NULL,
		.announced_tenant = announced ? announced->said.tenant : NULL,
		.provider = announced ? announced->said.provider : NULL,
		.class_unknown = decision->class_unknown,
		.tenant_unknown = decision->tenant_unknown,
	};

	fleet_view(&host->fleet, member, now, &view.fleet);
	fleet_usage(&host->fleet, member, now, &view.guaranteed_ns, &view.burst_ns);
	*ret = view;
}

/* ---- the host ---- */

void host_view(const struct host *host, struct host_view *ret)
{
	/* Member by member: two views are compared as bytes, with what is between them. */
	memset(ret, 0, sizeof(*ret));
	ret->capacity = host->fleet.capacity;
	ret->cpus = host_policy_cpus(host);
	ret->sums = host->fleet.ledger.sums;
	ret->observe = host->fleet.observe;
	ret->frozen = host->fleet.frozen;
	ret->drained = host->fleet.drained;
	ret->frozen_uid = host->modes.frozen_uid;
	ret->drained_uid = host->modes.drained_uid;
	ret->tenants = host->fleet.n_tenants;
	ret->providers = host->provider_changes;
}

void host_tenant_view(const struct host *host, uint32_t tenant, struct host_tenant_view *ret)
{
	*ret = (struct host_tenant_view){
		.name = host->fleet.tenants[tenant].name,
		.quota = host->fleet.tenants[tenant].quota,
		.sums = host->fleet.ledger.tenants[tenant].sums,
	};
}

const struct policy *host_policy(const struct host *host)
{
	return host->policy;
}

const struct counters *host_counters(const struct host *host)
{
	return &host->counters;
}

void host_count_latency(struct host *host, uint64_t ns, uint32_t n)
{
	counters_latency(&host->counters, ns, n);
}
