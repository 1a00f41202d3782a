/* SPDX-License-Identifier: GPL-2.0-or-later */

/*
 * An allocation is made of up to three fillings, each by priority with tenants nested:
 *
 *   1. What each is entitled to, as if everybody gave back what is asked of them. What a guest would not give back is a
 *      floor: it counts in its own priority and below.
 *   2. If somebody holds overdue vCPUs that they are not entitled to: again, without that room. So those who share what
 *      is really there share it fairly, also while a borrower below them refuses.
 *   3. Growth up to that, as far as nobody else's guest still holds the room.
 *
 * A filling raises one level for all of a priority until the room is used up. A tenant's own level, found first, is a cap:
 * since all levels rise alike, that gives the same as raising them together.
 */

#include "daemon/core/ledger.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define UNBOUNDED UINT64_MAX

struct ledger_slot {
	struct ledger_entry *entry;
	uint32_t priority;
	uint32_t tenant;
	struct ledger_demand in;
	struct ledger_share out;
	struct ledger_share before;
	uint32_t within; /* the guaranteed part */
	/* of the filling at work */
	uint32_t want;
	uint32_t floor;
	uint32_t cap; /* want, or what the tenant leaves of it */
	uint32_t got;
	bool quota; /* it was the tenant's quota that kept `got` below `want` */
};

static uint64_t room_of(uint32_t bound)
{
	return bound == LEDGER_UNLIMITED ? UNBOUNDED : bound;
}

static void take(uint64_t *room, uint64_t n)
{
	if (*room != UNBOUNDED)
		*room = *room > n ? *room - n : 0;
}

static uint32_t least(uint32_t a, uint32_t b)
{
	return a < b ? a : b;
}

static uint32_t most(uint32_t a, uint32_t b)
{
	return a > b ? a : b;
}

/* ---- one level ---- */

struct level {
	uint32_t level;
	uint64_t rest; /* so many of those that could take one more than `level` do */
};

/* To be filled: each of them has max(floor, min(bound, level)). By counting how many rise with each step of the level. */
struct basin {
	int32_t steps[CPUPOLICY_MAX_VCPUS + 2]; /* change of that number */
	uint32_t highest;
	uint64_t floors, bounds;
	uint32_t n;
};

static void basin_clear(struct basin *b)
{
	memset(b->steps, 0, (b->highest + 2) * sizeof(b->steps[0]));
	b->highest = 0;
	b->floors = b->bounds = 0;
	b->n = 0;
}

static void basin_add(struct basin *b, uint32_t floor, uint32_t bound)
{
	b->n++;
	b->floors += floor;
	b->bounds += most(floor, bound);
	if (floor >= bound)
		return;
	b->steps[floor]++;
	b->steps[bound]--;
	b->highest = most(b->highest, bound);
}

static struct level basin_fill(const struct basin *b, uint64_t room)
{
	uint64_t filled = b->floors;
	int64_t rising = 0;
	uint32_t level = 0;

	if (filled > room)
		return (struct level){0, 0};
	if (b->bounds <= room)
		return (struct level){CPUPOLICY_MAX_VCPUS, 0};
	for (;; level++) {
		rising += b->steps[level];
		if (filled + (uint64_t)rising > room)
			return (struct level){level, room - filled};
		filled += (uint64_t)rising;
	}
}

/* What one gets; to be asked in order of UUID, for that is how the rest goes. */
static uint32_t level_of(struct level *l, uint32_t floor, uint32_t bound)
{
	uint32_t level = l->level;

	if (l->rest > 0 && floor <= level && bound > level) {
		l->rest--;
		level++;
	}
	return least(bound, level);
}

/* ---- a filling ---- */

static void cap_by_tenant(struct ledger *l, struct basin *basin, uint32_t from, uint32_t to, uint64_t room)
{
	struct level level;

	basin_clear(basin);
	for (uint32_t i = from; i < to; i++)
		basin_add(basin, l->slots[l->by_tenant[i]].floor, l->slots[l->by_tenant[i]].want);
	if (basin->bounds <= room)
		return;
	level = basin_fill(basin, room);
	for (uint32_t i = from; i < to; i++) {
		struct ledger_slot *s = &l->slots[l->by_tenant[i]];

		s->cap = level_of(&level, s->floor, s->want);
	}
}

static void cap_by_tenants(struct ledger *l, struct basin *basin, uint32_t from, uint32_t to)
{
	uint32_t end;

	for (uint32_t i = from; i < to; i = end) {
		uint32_t tenant = l->slots[l->by_tenant[i]].tenant;

		for (end = i + 1; end < to && l->slots[l->by_tenant[end]].tenant == tenant; end++)
			;
		if (tenant != LEDGER_NO_TENANT && l->rooms[tenant] != UNBOUNDED)
			cap_by_tenant(l, basin, i, end, l->rooms[tenant]);
	}
}

/* slot.want and slot.floor, within `room` and l->rooms, to slot.cap and slot.got. The floors take room, whether or not it
 * is there; who gets less than its floor, and than it wants, gets nothing besides. */
static void fill(struct ledger *l, uint64_t room)
{
	struct basin basin = {.highest = CPUPOLICY_MAX_VCPUS};
	uint32_t end;

	for (uint32_t i = 0; i < l->n; i = end) {
		struct level level;

		for (end = i; end < l->n && l->slots[end].priority == l->slots[i].priority; end++)
			l->slots[end].cap = l->slots[end].want;
		cap_by_tenants(l, &basin, i, end);
		basin_clear(&basin);
		for (uint32_t k = i; k < end; k++)
			basin_add(&basin, l->slots[k].floor, l->slots[k].cap);
		level = basin_fill(&basin, room);
		for (uint32_t k = i; k < end; k++) {
			struct ledger_slot *s = &l->slots[k];

			s->got = level_of(&level, s->floor, s->cap);
			take(&room, most(s->got, s->floor));
			if (s->tenant != LEDGER_NO_TENANT)
				take(&l->rooms[s->tenant], most(s->got, s->floor));
			if (s->want > 0)
				s->quota = s->cap < s->want && s->got == s->cap;
			if (s->got < s->floor && s->got < s->want)
				s->got = 0;
		}
	}
}

static void reset_rooms(struct ledger *l)
{
	for (uint32_t i = 0; i < l->n_tenants; i++)
		l->rooms[i] = room_of(l->tenants[i].quota);
}

static void take_for(struct ledger *l, const struct ledger_slot *s, uint64_t *room, uint32_t n)
{
	take(room, n);
	if (s->tenant != LEDGER_NO_TENANT)
		take(&l->rooms[s->tenant], n);
}

/* ---- entitlement ---- */

static bool lends(const struct ledger *l, const struct ledger_slot *s)
{
	return s->in.running && s->in.may_burst && !l->drained;
}

/* Of what is held beyond the guaranteed part, so much would not be given back. */
static uint32_t stuck(const struct ledger_slot *s)
{
	return s->in.held > s->within ? least(s->in.overdue, s->in.held - s->within) : 0;
}

/* `without`: what would not be given back by those who are not entitled to it is not there to be shared. */
static void entitle(struct ledger *l, bool without)
{
	uint64_t room = room_of(l->capacity);

	reset_rooms(l);
	for (uint32_t i = 0; i < l->n; i++) {
		struct ledger_slot *s = &l->slots[i];

		take_for(l, s, &room, s->within);
		if (without && s->floor > 0 && s->got == 0) {
			take_for(l, s, &room, s->floor);
			s->floor = 0;
			s->want = 0;
			continue;
		}
		s->want = lends(l, s) && s->in.demand > s->within ? s->in.demand - s->within : 0;
		s->floor = stuck(s);
	}
	fill(l, room);
}

static bool somebody_refuses(const struct ledger *l)
{
	for (uint32_t i = 0; i < l->n; i++)
		if (l->slots[i].floor > 0 && l->slots[i].got == 0)
			return true;
	return false;
}

static enum rule bound_of(const struct ledger *l, const struct ledger_slot *s)
{
	if (l->drained)
		return RULE_DRAINED;
	if (!s->in.may_burst)
		return RULE_CREDIT;
	return s->quota ? RULE_TENANT : RULE_CAPACITY;
}

/* ---- growth ---- */

/* What the VM has, or may take at any time. */
static uint32_t occupied(const struct ledger_slot *s)
{
	return most(s->in.held, s->within);
}

static void grow(struct ledger *l)
{
	uint64_t room = room_of(l->capacity);

	reset_rooms(l);
	for (uint32_t i = 0; i < l->n; i++) {
		struct ledger_slot *s = &l->slots[i];

		take_for(l, s, &room, occupied(s));
		s->want = s->out.entitled > occupied(s) ? s->out.entitled - occupied(s) : 0;
		s->floor = 0;
	}
	fill(l, room);
	for (uint32_t i = 0; i < l->n; i++) {
		struct ledger_slot *s = &l->slots[i];

		s->out.allowance = least(occupied(s), s->out.entitled) + s->got;
		if (s->got < s->want && s->out.bound == RULE_NONE)
			s->out.bound = bound_of(l, s);
	}
}

/* ---- an allocation ---- */

static void sum(struct ledger_sums *sums, const struct ledger_slot *s)
{
	if (s->in.running)
		sums->reserved += s->in.guaranteed;
	sums->guaranteed += s->within;
	sums->allowed += s->out.allowance;
	sums->held += s->in.held;
	sums->occupied += most(s->in.held, s->out.allowance);
	if (s->in.held > s->out.allowance)
		sums->overdue += s->in.held - s->out.allowance;
}

static void sum_all(struct ledger *l)
{
	l->sums = (struct ledger_sums){0};
	for (uint32_t i = 0; i < l->n_tenants; i++)
		l->tenants[i].sums = (struct ledger_sums){0};
	for (uint32_t i = 0; i < l->n; i++) {
		const struct ledger_slot *s = &l->slots[i];

		sum(&l->sums, s);
		if (s->tenant != LEDGER_NO_TENANT)
			sum(&l->tenants[s->tenant].sums, s);
	}
}

static void compute(struct ledger *l)
{
	for (uint32_t i = 0; i < l->n; i++) {
		struct ledger_slot *s = &l->slots[i];

		s->within = s->in.running ? least(s->in.demand, s->in.guaranteed) : 0;
	}
	entitle(l, false);
	if (somebody_refuses(l))
		entitle(l, true);
	for (uint32_t i = 0; i < l->n; i++) {
		struct ledger_slot *s = &l->slots[i];

		s->out.entitled = s->within + s->got;
		s->out.bound = s->in.running && s->out.entitled < s->in.demand ? bound_of(l, s) : RULE_NONE;
	}
	grow(l);
	sum_all(l);
}

void ledger_allocate(struct ledger *l, void (*changed)(struct ledger_entry *entry, void *userdata), void *userdata)
{
	if (!l->dirty)
		return;
	l->dirty = false;
	for (uint32_t i = 0; i < l->n; i++)
		l->slots[i].before = l->slots[i].out;
	compute(l);
	for (uint32_t i = 0; changed && i < l->n; i++) {
		const struct ledger_slot *s = &l->slots[i];

		if (s->out.allowance != s->before.allowance || s->out.entitled != s->before.entitled ||
		    s->out.bound != s->before.bound)
			changed(s->entry, userdata);
	}
}

struct ledger_share ledger_try(struct ledger *l, const struct ledger_entry *entry, const struct ledger_demand *demand)
{
	struct ledger_demand was = l->slots[entry->slot].in;
	struct ledger_share share;

	for (uint32_t i = 0; i < l->n; i++)
		l->slots[i].before = l->slots[i].out;
	l->slots[entry->slot].in = *demand;
	compute(l);
	share = l->slots[entry->slot].out;
	l->slots[entry->slot].in = was;
	for (uint32_t i = 0; i < l->n; i++)
		l->slots[i].out = l->slots[i].before;
	sum_all(l);
	return share;
}

/* ---- life ---- */

void ledger_init(struct ledger *l)
{
	*l = (struct ledger){.capacity = LEDGER_UNLIMITED};
}

void ledger_clear(struct ledger *l)
{
	free(l->slots);
	free(l->by_tenant);
	free(l->tenants);
	free(l->rooms);
	ledger_init(l);
}

int ledger_reserve(struct ledger *l, uint32_t entries)
{
	uint32_t room = l->room > 0 ? l->room : 16;
	struct ledger_slot *slots;
	uint32_t *by_tenant;

	if (entries <= l->room)
		return 0;
	while (room < entries)
		room = room < UINT32_MAX / 2 ? 2 * room : UINT32_MAX;
	slots = reallocarray(l->slots, room, sizeof(*slots));
	if (!slots)
		return -ENOMEM;
	l->slots = slots;
	by_tenant = reallocarray(l->by_tenant, room, sizeof(*by_tenant));
	if (!by_tenant)
		return -ENOMEM;
	l->by_tenant = by_tenant;
	l->room = room;
	return 0;
}

int ledger_set_tenants(struct ledger *l, const uint32_t *quotas, uint32_t n)
{
	struct ledger_tenant *tenants = calloc(n > 0 ? n : 1, sizeof(*tenants));
	uint64_t *rooms = calloc(n > 0 ? n : 1, sizeof(*rooms));

	if (!tenants || !rooms) {
		free(tenants);
		free(rooms);
		return -ENOMEM;
	}
	for (uint32_t i = 0; i < n; i++)
		tenants[i].quota = quotas[i];
	free(l->tenants);
	free(l->rooms);
	l->tenants = tenants;
	l->rooms = rooms;
	l->n_tenants = n;
	l->dirty = true;
	return 0;
}

void ledger_set_capacity(struct ledger *l, uint32_t capacity)
{
	l->dirty = l->dirty || capacity != l->capacity;
	l->capacity = capacity;
}

void ledger_set_drained(struct ledger *l, bool drained)
{
	l->dirty = l->dirty || drained != l->drained;
	l->drained = drained;
}

/* ---- entries ---- */

static bool slot_before(const struct ledger_slot *s, uint32_t priority, const uint8_t *uuid)
{
	if (s->priority != priority)
		return s->priority > priority;
	return memcmp(s->entry->uuid, uuid, CPUPOLICY_UUID_SIZE) < 0;
}

static uint32_t slot_position(const struct ledger *l, uint32_t priority, const uint8_t *uuid)
{
	uint32_t low = 0, high = l->n;

	while (low < high) {
		uint32_t middle = low + (high - low) / 2;

		if (slot_before(&l->slots[middle], priority, uuid))
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

/* Slots of one priority are in order of UUID, so that their numbers will do. */
static bool tenant_before(const struct ledger *l, uint32_t slot, uint32_t other)
{
	const struct ledger_slot *a = &l->slots[slot], *b = &l->slots[other];

	if (a->priority != b->priority)
		return a->priority > b->priority;
	if (a->tenant != b->tenant)
		return a->tenant < b->tenant;
	return slot < other;
}

static uint32_t tenant_position(const struct ledger *l, uint32_t n, uint32_t slot)
{
	uint32_t low = 0, high = n;

	while (low < high) {
		uint32_t middle = low + (high - low) / 2;

		if (tenant_before(l, l->by_tenant[middle], slot))
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

static void insert(struct ledger *l, const struct ledger_slot *slot)
{
	uint32_t at = slot_position(l, slot->priority, slot->entry->uuid), place;

	memmove(l->slots + at + 1, l->slots + at, (l->n - at) * sizeof(l->slots[0]));
	l->slots[at] = *slot;
	for (uint32_t i = at; i <= l->n; i++)
		l->slots[i].entry->slot = i;
	for (uint32_t i = 0; i < l->n; i++)
		l->by_tenant[i] += l->by_tenant[i] >= at;
	place = tenant_position(l, l->n, at);
	memmove(l->by_tenant + place + 1, l->by_tenant + place, (l->n - place) * sizeof(l->by_tenant[0]));
	l->by_tenant[place] = at;
	l->n++;
	l->dirty = true;
}

static struct ledger_slot cut(struct ledger *l, uint32_t at)
{
	struct ledger_slot slot = l->slots[at];
	uint32_t kept = 0;

	for (uint32_t i = 0; i < l->n; i++)
		if (l->by_tenant[i] != at)
			l->by_tenant[kept++] = l->by_tenant[i] - (l->by_tenant[i] > at);
	memmove(l->slots + at, l->slots + at + 1, (l->n - at - 1) * sizeof(l->slots[0]));
	l->n--;
	for (uint32_t i = at; i < l->n; i++)
		l->slots[i].entry->slot = i;
	l->dirty = true;
	return slot;
}

void ledger_add(struct ledger *l, struct ledger_entry *entry, uint32_t priority, uint32_t tenant)
{
	insert(l, &(struct ledger_slot){.entry = entry, .priority = priority, .tenant = tenant});
	entry->listed = true;
}

void ledger_remove(struct ledger *l, struct ledger_entry *entry)
{
	if (!entry->listed)
		return;
	cut(l, entry->slot);
	entry->listed = false;
}

void ledger_place(struct ledger *l, struct ledger_entry *entry, uint32_t priority, uint32_t tenant)
{
	struct ledger_slot slot = l->slots[entry->slot];

	if (slot.priority == priority && slot.tenant == tenant)
		return;
	slot = cut(l, entry->slot);
	slot.priority = priority;
	slot.tenant = tenant;
	insert(l, &slot);
}

static bool same_demand(const struct ledger_demand *a, const struct ledger_demand *b)
{
	return a->running == b->running && a->may_burst == b->may_burst && a->guaranteed == b->guaranteed &&
	       a->demand == b->demand && a->held == b->held && a->overdue == b->overdue;
}

void ledger_update(struct ledger *l, const struct ledger_entry *entry, const struct ledger_demand *demand)
{
	struct ledger_demand *in = &l->slots[entry->slot].in;

	if (same_demand(in, demand))
		return;
	*in = *demand;
	l->dirty = true;
}

const struct ledger_demand *ledger_demand(const struct ledger *l, const struct ledger_entry *entry)
{
	return &l->slots[entry->slot].in;
}

const struct ledger_share *ledger_share(const struct ledger *l, const struct ledger_entry *entry)
{
	return &l->slots[entry->slot].out;
}

/* ---- admission ---- */

static uint64_t left(uint32_t bound, uint64_t reserved)
{
	if (bound == LEDGER_UNLIMITED)
		return UNBOUNDED;
	return bound > reserved ? bound - reserved : 0;
}

enum rule ledger_admit(const struct ledger *l, const struct ledger_entry *instead, uint32_t tenant, uint32_t guaranteed,
		       uint64_t *ret_free)
{
	uint64_t reserved = 0, of_tenant = 0, host, own = UNBOUNDED;

	for (uint32_t i = 0; i < l->n; i++) {
		const struct ledger_slot *s = &l->slots[i];

		if (!s->in.running || s->entry == instead)
			continue;
		reserved += s->in.guaranteed;
		if (s->tenant == tenant)
			of_tenant += s->in.guaranteed;
	}
	host = left(l->capacity, reserved);
	if (tenant != LEDGER_NO_TENANT)
		own = left(l->tenants[tenant].quota, of_tenant);
	*ret_free = own < host ? own : host;
	if (guaranteed > own) {
		*ret_free = own;
		return RULE_TENANT;
	}
	if (guaranteed > host) {
		*ret_free = host;
		return RULE_CAPACITY;
	}
	return RULE_NONE;
}
