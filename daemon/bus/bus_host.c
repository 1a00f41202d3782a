/* SPDX-License-Identifier: GPL-2.0-or-later */

#include "daemon/bus/bus_host.h"

#include "daemon/base/util.h"

static int append_class(sd_bus_message *reply, const struct service_class *class)
{
	const struct class_burst *burst = &class->burst;

	return sd_bus_message_append(reply, "(suuubxxxbbtt)", class->name, class->guaranteed, class->limit,
				     class->priority, (int)burst->metered, burst->cap, burst->initial, burst->resume,
				     (int)class->observe, (int)class->price.given, class->price.guaranteed,
				     class->price.burst);
}

int bus_host_append_classes(sd_bus_message *reply, const struct host *host)
{
	size_t n;
	const struct service_class *classes = policy_classes(host_policy(host), &n);
	int r;

	r = sd_bus_message_open_container(reply, 'a', &BUS_HOST_CLASSES[1]);
	for (size_t i = 0; i < n && r >= 0; i++)
		r = append_class(reply, &classes[i]);
	return r < 0 ? r : sd_bus_message_close_container(reply);
}

static uint32_t n_tenants(const struct host *host)
{
	struct host_view view;

	host_view(host, &view);
	return view.tenants;
}

int bus_host_append_tenants(sd_bus_message *reply, const struct host *host)
{
	uint32_t n = n_tenants(host);
	int r;

	r = sd_bus_message_open_container(reply, 'a', &BUS_HOST_TENANTS[1]);
	for (uint32_t i = 0; i < n && r >= 0; i++) {
		struct host_tenant_view t;

		host_tenant_view(host, i, &t);
		r = sd_bus_message_append(reply, "(sutttttt)", t.name, t.quota, t.sums.reserved, t.sums.guaranteed,
					  t.sums.allowed, t.sums.held, t.sums.occupied, t.sums.overdue);
	}
	return r < 0 ? r : sd_bus_message_close_container(reply);
}

/* FNV-1a */
static uint64_t mix(uint64_t h, uint64_t value)
{
	return (h ^ value) * UINT64_C(0x100000001b3);
}

uint64_t bus_host_hash_tenants(const struct host *host)
{
	uint64_t h = UINT64_C(0xcbf29ce484222325);
	uint32_t n = n_tenants(host);

	for (uint32_t i = 0; i < n; i++) {
		struct host_tenant_view t;

		host_tenant_view(host, i, &t);
		h = mix(mix(mix(h, t.sums.reserved), t.sums.guaranteed), t.sums.allowed);
		h = mix(mix(mix(h, t.sums.held), t.sums.occupied), t.sums.overdue);
	}
	return h;
}
