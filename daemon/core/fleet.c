/* SPDX-License-Identifier: GPL-2.0-or-later */

#include "daemon/core/fleet_private.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/base/util.h"

/* ---- who has effects ---- */

void fleet_note(struct fleet *f, struct fleet_vm *m, unsigned effects)
{
	m->effects |= effects;
	if (m->queued || m->effects == 0)
		return;
	m->queued = true;
	m->next = NULL;
	*f->queue_end = m;
	f->queue_end = &m->next;
}

struct fleet_vm *fleet_next(struct fleet *f, unsigned *ret_effects)
{
	for (;;) {
		struct fleet_vm *m = f->queue;

		if (!m)
			return NULL;
		f->queue = m->next;
		if (!f->queue)
			f->queue_end = &f->queue;
		m->queued = false;
		m->next = NULL;
		*ret_effects = fleet_take(f, m);
		if (*ret_effects != 0)
			return m;
	}
}

unsigned fleet_take(struct fleet *f, struct fleet_vm *m)
{
	unsigned effects = m->effects;

	m->effects = 0;
	return effects;
}

static void unqueue(struct fleet *f, struct fleet_vm *m)
{
	struct fleet_vm **place = &f->queue;

	while (*place && *place != m)
		place = &(*place)->next;
	if (*place)
		*place = m->next;
	for (f->queue_end = &f->queue; *f->queue_end; f->queue_end = &(*f->queue_end)->next)
		;
	m->queued = false;
	m->next = NULL;
	m->effects = 0;
}

/* ---- deadlines: a heap, of which each member knows its place ---- */

static bool sooner(const struct fleet_vm *a, const struct fleet_vm *b)
{
	if (a->deadline != b->deadline)
		return a->deadline < b->deadline;
	return memcmp(a->uuid, b->uuid, sizeof(a->uuid)) < 0;
}

static void heap_put(struct fleet *f, uint32_t at, struct fleet_vm *m)
{
	f->heap[at - 1] = m;
	m->heap = at;
}

static void heap_move(struct fleet *f, struct fleet_vm *m, uint32_t n)
{
	uint32_t at = m->heap;

	for (; at > 1 && sooner(m, f->heap[at / 2 - 1]); at /= 2)
		heap_put(f, at, f->heap[at / 2 - 1]);
	for (;;) {
		uint32_t child = 2 * at;

		if (child > n)
			break;
		if (child < n && sooner(f->heap[child], f->heap[child - 1]))
			child++;
		if (!sooner(f->heap[child - 1], m))
			break;
		heap_put(f, at, f->heap[child - 1]);
		at = child;
	}
	heap_put(f, at, m);
}

static void heap_remove(struct fleet *f, struct fleet_vm *m, uint32_t n)
{
	struct fleet_vm *last = f->heap[n - 1];
	uint32_t at = m->heap;

	m->heap = 0;
	if (last == m)
		return;
	heap_put(f, at, last);
	heap_move(f, last, n - 1);
}

void fleet_schedule(struct fleet *f, struct fleet_vm *m)
{
	uint64_t core = vm_deadline(m->core), credit = fleet_meter_deadline(m);

	m->deadline = core < credit ? core : credit;
	heap_move(f, m, f->n);
}

struct fleet_vm *fleet_due(const struct fleet *f, uint64_t now)
{
	return f->n > 0 && f->heap[0]->deadline <= now ? f->heap[0] : NULL;
}

uint64_t fleet_deadline(const struct fleet *f)
{
	if (f->n == 0)
		return UINT64_MAX;
	return f->heap[0]->deadline < f->next_hour ? f->heap[0]->deadline : f->next_hour;
}

/* ---- members ---- */

void fleet_init(struct fleet *f, const struct fleet_ops *ops, const struct usage_clock *clock)
{
	*f = (struct fleet){
		.ops = *ops,
		.clock = *clock,
		.now = clock->boot,
		.next_hour = usage_next_hour(clock, clock->boot),
		.capacity = FLEET_UNLIMITED,
	};
	f->queue_end = &f->queue;
	ledger_init(&f->ledger);
}

void fleet_clear(struct fleet *f)
{
	ledger_clear(&f->ledger);
	free(f->members);
	free(f->heap);
	f->members = NULL;
	f->heap = NULL;
	f->n = f->room = 0;
}

static uint32_t position(const struct fleet *f, const uint8_t *uuid)
{
	uint32_t low = 0, high = f->n;

	while (low < high) {
		uint32_t middle = low + (high - low) / 2;

		if (memcmp(f->members[middle]->uuid, uuid, CPUPOLICY_UUID_SIZE) < 0)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

struct fleet_vm *fleet_find(const struct fleet *f, const uint8_t uuid[CPUPOLICY_UUID_SIZE])
{
	uint32_t at = position(f, uuid);

	return at < f->n && memcmp(f->members[at]->uuid, uuid, CPUPOLICY_UUID_SIZE) == 0 ? f->members[at] : NULL;
}

static int reserve(struct fleet *f)
{
	uint32_t room = f->room ? 2 * f->room : 16;
	struct fleet_vm **array;

	if (f->n < f->room)
		return 0;
	array = reallocarray(f->members, room, sizeof(*array));
	if (!array)
		return -ENOMEM;
	f->members = array;
	array = reallocarray(f->heap, room, sizeof(*array));
	if (!array)
		return -ENOMEM;
	f->heap = array;
	if (ledger_reserve(&f->ledger, room) < 0)
		return -ENOMEM;
	f->room = room;
	return 0;
}

int fleet_add(struct fleet *f, struct fleet_vm *m, const struct fleet_assignment *assignment, uint64_t now)
{
	uint32_t at = position(f, m->uuid);
	int r;

	if (at < f->n && memcmp(f->members[at]->uuid, m->uuid, sizeof(m->uuid)) == 0)
		return -EEXIST;
	r = reserve(f);
	if (r < 0)
		return r;
	if (now > f->now)
		f->now = now;
	m->class = assignment->class;
	m->tenant = assignment->tenant;
	m->usage.at = f->now;
	credit_open(&m->credit, &m->class->burst, f->now);
	memcpy(m->entry.uuid, m->uuid, sizeof(m->uuid));
	memmove(f->members + at + 1, f->members + at, (f->n - at) * sizeof(f->members[0]));
	f->members[at] = m;
	m->deadline = UINT64_MAX;
	heap_put(f, ++f->n, m);
	ledger_add(&f->ledger, &m->entry, m->class->priority, m->tenant);
	m->core->frozen = f->frozen;
	/* What it has, until its share is computed. A session that goes on knows what it was. */
	if (m->core->link != VM_CONNECTED)
		m->core->allowance = m->core->numbers.wanted;
	/* Nobody has a page of it, or one of the last daemon's, which the caller compares. */
	fleet_note(f, m,
		   vm_set_class(m->core, m->class, m->class->observe || f->observe, f->now) &
			   ~(unsigned)VM_EFFECT_PAGE);
	fleet_sync(f, m);
	return 0;
}

void fleet_remove(struct fleet *f, struct fleet_vm *m, uint64_t now)
{
	uint32_t at = position(f, m->uuid);

	if (now > f->now)
		f->now = now;
	fleet_meter(f, m);
	fleet_meter_end_row(f, m);
	ledger_remove(&f->ledger, &m->entry);
	heap_remove(f, m, f->n);
	unqueue(f, m);
	memmove(f->members + at, f->members + at + 1, (f->n - at - 1) * sizeof(f->members[0]));
	f->n--;
	fleet_settle(f);
}

/* ---- policy ---- */

static bool same_name(const char *a, const char *b)
{
	return a == b || (a && b && strcmp(a, b) == 0);
}

static const char *tenant_name(const struct fleet_tenant *tenants, uint32_t tenant)
{
	return tenant == FLEET_NO_TENANT ? NULL : tenants[tenant].name;
}

/* `tenants`: those that `to` is of; those in force may be others. The meters are up to date. */
static void move(struct fleet *f, struct fleet_vm *m, const struct fleet_assignment *to,
		 const struct fleet_tenant *tenants)
{
	if (!same_name(m->class->name, to->class->name) ||
	    !same_name(tenant_name(f->tenants, m->tenant), tenant_name(tenants, to->tenant))) {
		fleet_meter_end_row(f, m);
		fleet_note(f, m, FLEET_EFFECT_POLICY);
	}
	m->class = to->class;
	m->tenant = to->tenant;
	ledger_place(&f->ledger, &m->entry, m->class->priority, m->tenant);
	credit_open(&m->credit, &m->class->burst, f->now);
	fleet_note(f, m, vm_set_class(m->core, m->class, m->class->observe || f->observe, f->now));
	fleet_sync(f, m);
}

void fleet_move(struct fleet *f, struct fleet_vm *m, const struct fleet_assignment *to)
{
	move(f, m, to, f->tenants);
}

static int set_quotas(struct fleet *f, const struct fleet_policy *policy)
{
	_cleanup_free_ uint32_t *quotas = calloc(policy->n_tenants > 0 ? policy->n_tenants : 1, sizeof(*quotas));

	if (!quotas)
		return -ENOMEM;
	for (uint32_t i = 0; i < policy->n_tenants; i++)
		quotas[i] = policy->tenants[i].quota;
	return ledger_set_tenants(&f->ledger, quotas, policy->n_tenants);
}

int fleet_reload(struct fleet *f, const struct fleet_policy *policy, uint64_t now)
{
	int r;

	if (f->frozen)
		return -EBUSY;
	r = set_quotas(f, policy);
	if (r < 0)
		return r;
	if (now > f->now)
		f->now = now;
	f->restoring = false;
	f->observe = policy->observe;
	for (uint32_t i = 0; i < f->n; i++) {
		struct fleet_assignment to;

		policy->assign(f->members[i], &to, policy->userdata);
		fleet_meter(f, f->members[i]);
		move(f, f->members[i], &to, policy->tenants);
	}
	f->tenants = policy->tenants;
	f->n_tenants = policy->n_tenants;
	fleet_settle(f);
	return 0;
}
