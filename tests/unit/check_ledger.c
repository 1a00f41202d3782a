/* SPDX-License-Identifier: GPL-2.0-or-later */

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/core/ledger.h"

#define MANY 24

/* ---- a small host ---- */

struct vm {
	struct ledger_entry entry;
	uint32_t priority, tenant;
	struct ledger_demand demand;
};

static struct ledger l;
static struct vm vms[MANY];

static void setup(void)
{
	ledger_init(&l);
	memset(vms, 0, sizeof(vms));
	ck_assert_int_eq(ledger_reserve(&l, MANY), 0);
}

static void teardown(void)
{
	ledger_clear(&l);
}

/* The lower the number, the lower the UUID. */
static void add(unsigned i, uint32_t priority, uint32_t tenant)
{
	vms[i].entry.uuid[0] = (uint8_t)(i + 1);
	vms[i].priority = priority;
	vms[i].tenant = tenant;
	ledger_add(&l, &vms[i].entry, priority, tenant);
}

static void set(unsigned i, uint32_t guaranteed, uint32_t demand, uint32_t held)
{
	vms[i].demand = (struct ledger_demand){
		.running = true,
		.may_burst = true,
		.guaranteed = guaranteed,
		.demand = demand,
		.held = held,
	};
	ledger_update(&l, &vms[i].entry, &vms[i].demand);
}

static void set_overdue(unsigned i, uint32_t overdue)
{
	vms[i].demand.overdue = overdue;
	ledger_update(&l, &vms[i].entry, &vms[i].demand);
}

static const struct ledger_share *share(unsigned i)
{
	ledger_allocate(&l, NULL, NULL);
	return ledger_share(&l, &vms[i].entry);
}

#define ck_share(i, allowed, rule)                                                                                     \
	do {                                                                                                           \
		ck_assert_uint_eq(share(i)->allowance, allowed);                                                       \
		ck_assert_str_eq(rule_name(share(i)->bound), rule_name(rule));                                         \
	} while (0)

/* ---- cases ---- */

START_TEST(without_bounds_all_is_granted)
{
	add(0, 0, LEDGER_NO_TENANT);
	set(0, 2, 9, 2);
	ck_share(0, 9, RULE_NONE);
	ck_assert_uint_eq(l.sums.allowed, 9);
}
END_TEST

START_TEST(who_does_not_run_has_nothing)
{
	ledger_set_capacity(&l, 4);
	add(0, 0, LEDGER_NO_TENANT);
	add(1, 0, LEDGER_NO_TENANT);
	set(1, 1, 9, 0);
	ck_share(0, 0, RULE_NONE);
	ck_share(1, 4, RULE_CAPACITY);
	ck_assert_uint_eq(l.sums.reserved, 1);
}
END_TEST

START_TEST(guarantees_are_granted_whatever_the_capacity)
{
	ledger_set_capacity(&l, 3);
	for (unsigned i = 0; i < 3; i++) {
		add(i, 0, LEDGER_NO_TENANT);
		set(i, 2, 4, 0);
	}
	for (unsigned i = 0; i < 3; i++)
		ck_share(i, 2, RULE_CAPACITY);
}
END_TEST

START_TEST(max_min_within_a_priority)
{
	ledger_set_capacity(&l, 3 + 8);
	for (unsigned i = 0; i < 3; i++)
		add(i, 0, LEDGER_NO_TENANT);
	set(0, 1, 2, 1);
	set(1, 1, 9, 1);
	set(2, 1, 9, 1);
	/* Burst: 1 and two times 3.5: the lower UUID has the odd one. */
	ck_share(0, 2, RULE_NONE);
	ck_share(1, 5, RULE_CAPACITY);
	ck_share(2, 4, RULE_CAPACITY);
}
END_TEST

START_TEST(the_higher_priority_first)
{
	ledger_set_capacity(&l, 8);
	add(0, 1, LEDGER_NO_TENANT);
	add(1, 5, LEDGER_NO_TENANT);
	set(0, 1, 8, 1);
	set(1, 1, 5, 1);
	ck_share(1, 5, RULE_NONE);
	ck_share(0, 3, RULE_CAPACITY);
}
END_TEST

START_TEST(a_quota_is_nested)
{
	const uint32_t quotas[] = {6, LEDGER_UNLIMITED};

	ck_assert_int_eq(ledger_set_tenants(&l, quotas, 2), 0);
	ledger_set_capacity(&l, 20);
	add(0, 0, 0);
	add(1, 0, 0);
	add(2, 0, 1);
	for (unsigned i = 0; i < 3; i++)
		set(i, 1, 16, 1);
	/* Of 17 to lend, the first tenant may have 4. */
	ck_share(0, 3, RULE_TENANT);
	ck_share(1, 3, RULE_TENANT);
	ck_share(2, 14, RULE_CAPACITY);
	ck_assert_uint_eq(l.tenants[0].sums.allowed, 6);
	ck_assert_uint_eq(l.tenants[1].sums.allowed, 14);
}
END_TEST

START_TEST(a_quota_spans_priorities)
{
	const uint32_t quotas[] = {6};

	ck_assert_int_eq(ledger_set_tenants(&l, quotas, 1), 0);
	add(0, 0, 0);
	add(1, 9, 0);
	set(0, 1, 8, 1);
	set(1, 1, 4, 1);
	ck_share(1, 4, RULE_NONE);
	ck_share(0, 2, RULE_TENANT);
}
END_TEST

START_TEST(without_credit_or_while_draining_there_is_no_burst)
{
	add(0, 0, LEDGER_NO_TENANT);
	set(0, 2, 6, 6);
	vms[0].demand.may_burst = false;
	ledger_update(&l, &vms[0].entry, &vms[0].demand);
	ck_share(0, 2, RULE_CREDIT);
	ledger_set_drained(&l, true);
	ck_share(0, 2, RULE_DRAINED);
	ledger_set_drained(&l, false);
	vms[0].demand.may_burst = true;
	ledger_update(&l, &vms[0].entry, &vms[0].demand);
	ck_share(0, 6, RULE_NONE);
}
END_TEST

START_TEST(what_is_lent_is_lent_once)
{
	ledger_set_capacity(&l, 8);
	add(0, 0, LEDGER_NO_TENANT);
	add(1, 0, LEDGER_NO_TENANT);
	set(0, 1, 7, 7);
	set(1, 1, 7, 1);
	/* Entitled to the same; the room comes when the first has given back. */
	ck_share(0, 4, RULE_CAPACITY);
	ck_share(1, 1, RULE_CAPACITY);
	ck_assert_uint_eq(share(1)->entitled, 4);
	ck_assert_uint_eq(l.sums.overdue, 3);
	set(0, 1, 7, 5);
	ck_share(1, 3, RULE_CAPACITY);
	set(0, 1, 7, 4);
	ck_share(1, 4, RULE_CAPACITY);
	ck_assert_uint_eq(l.sums.overdue, 0);
}
END_TEST

START_TEST(a_guarantee_does_not_wait)
{
	ledger_set_capacity(&l, 8);
	add(0, 0, LEDGER_NO_TENANT);
	add(1, 0, LEDGER_NO_TENANT);
	set(0, 1, 8, 7);
	set(1, 4, 4, 1);
	ck_share(1, 4, RULE_NONE);
	ck_share(0, 4, RULE_CAPACITY);
	ck_assert_uint_eq(l.sums.allowed, 8);
	ck_assert_uint_eq(l.sums.overdue, 3);
}
END_TEST

START_TEST(what_is_refused_counts_against_who_refuses)
{
	ledger_set_capacity(&l, 3 + 6);
	for (unsigned i = 0; i < 3; i++)
		add(i, 0, LEDGER_NO_TENANT);
	set(0, 1, 7, 7);
	set(1, 1, 7, 1);
	set(2, 1, 7, 1);
	ck_share(0, 3, RULE_CAPACITY);
	/* Four asked back, and all refused: more than its share, so that the two besides are asked back as well. */
	set_overdue(0, 4);
	ck_share(0, 1, RULE_CAPACITY);
	ck_share(1, 1, RULE_CAPACITY);
	ck_assert_uint_eq(share(1)->entitled, 2);
	ck_assert_uint_eq(share(2)->entitled, 2);
	vms[0].demand.held = 5;
	ledger_update(&l, &vms[0].entry, &vms[0].demand);
	ck_share(1, 2, RULE_CAPACITY);
	ck_share(2, 2, RULE_CAPACITY);
}
END_TEST

START_TEST(those_who_share_with_a_refuser_share_fairly)
{
	ledger_set_capacity(&l, 3 + 6);
	add(0, 0, LEDGER_NO_TENANT); /* the refuser */
	add(1, 5, LEDGER_NO_TENANT);
	add(2, 5, LEDGER_NO_TENANT);
	set(0, 1, 4, 4);
	set(1, 1, 4, 4);
	ck_share(0, 4, RULE_NONE);
	/* A second one of the higher priority: it is to have three, which the first one gives back. */
	set(2, 1, 4, 1);
	ck_share(0, 1, RULE_CAPACITY);
	ck_share(1, 4, RULE_NONE);
	ck_assert_uint_eq(share(2)->entitled, 4);
	/* It does not: the two share what there is. */
	set_overdue(0, 3);
	ck_share(0, 1, RULE_CAPACITY);
	ck_share(1, 3, RULE_CAPACITY);
	ck_assert_uint_eq(share(2)->entitled, 2);
	/* And have it all again when it does. */
	set(0, 1, 4, 1);
	ck_share(1, 4, RULE_NONE);
	ck_share(2, 4, RULE_NONE);
}
END_TEST

START_TEST(who_refuses_keeps_it_when_there_is_room_again)
{
	ledger_set_capacity(&l, 2 + 3);
	add(0, 0, LEDGER_NO_TENANT);
	add(1, 5, LEDGER_NO_TENANT);
	set(0, 1, 4, 4);
	set(1, 1, 4, 1);
	set_overdue(0, 3);
	ck_share(0, 1, RULE_CAPACITY);
	set(1, 1, 1, 1);
	ck_share(0, 4, RULE_NONE);
}
END_TEST

static unsigned told;
static struct ledger_entry *last_told;

static void count_changed(struct ledger_entry *entry, void *userdata)
{
	told++;
	last_told = entry;
}

START_TEST(only_changes_are_told)
{
	told = 0;
	ledger_set_capacity(&l, 8);
	add(0, 0, LEDGER_NO_TENANT);
	add(1, 0, LEDGER_NO_TENANT);
	set(0, 2, 2, 2);
	set(1, 1, 1, 1);
	ledger_allocate(&l, count_changed, NULL);
	ck_assert_uint_eq(told, 2);
	ledger_allocate(&l, count_changed, NULL);
	ck_assert_uint_eq(told, 2);
	set(1, 1, 3, 1);
	ledger_allocate(&l, count_changed, NULL);
	ck_assert_uint_eq(told, 3);
	ck_assert_ptr_eq(last_told, &vms[1].entry);
}
END_TEST

START_TEST(admission)
{
	const uint32_t quotas[] = {6};
	uint64_t left;

	ck_assert_int_eq(ledger_admit(&l, NULL, LEDGER_NO_TENANT, 512, &left), RULE_NONE);
	ck_assert_uint_eq(left, UINT64_MAX);
	ck_assert_int_eq(ledger_set_tenants(&l, quotas, 1), 0);
	ledger_set_capacity(&l, 10);
	add(0, 0, 0);
	add(1, 0, LEDGER_NO_TENANT);
	set(0, 4, 1, 1); /* reserved though not used */
	set(1, 3, 3, 3);
	ledger_allocate(&l, NULL, NULL);
	ck_assert_int_eq(ledger_admit(&l, NULL, 0, 2, &left), RULE_NONE);
	ck_assert_uint_eq(left, 2);
	ck_assert_int_eq(ledger_admit(&l, NULL, 0, 3, &left), RULE_TENANT);
	ck_assert_uint_eq(left, 2);
	ck_assert_int_eq(ledger_admit(&l, NULL, LEDGER_NO_TENANT, 3, &left), RULE_NONE);
	ck_assert_int_eq(ledger_admit(&l, NULL, LEDGER_NO_TENANT, 4, &left), RULE_CAPACITY);
	ck_assert_uint_eq(left, 3);
	/* A host that has become too small admits nobody. */
	ledger_set_capacity(&l, 5);
	ledger_allocate(&l, NULL, NULL);
	ck_assert_int_eq(ledger_admit(&l, NULL, LEDGER_NO_TENANT, 1, &left), RULE_CAPACITY);
	ck_assert_uint_eq(left, 0);
}
END_TEST

/* ---- chance ---- */

#define TENANTS 4

static unsigned seed;

static uint32_t below(uint32_t n)
{
	return (uint32_t)rand_r(&seed) % n;
}

static void shuffle(void)
{
	uint32_t quotas[TENANTS];

	for (unsigned i = 0; i < TENANTS; i++)
		quotas[i] = below(4) == 0 ? LEDGER_UNLIMITED : below(30);
	if (ledger_set_tenants(&l, quotas, TENANTS) < 0)
		ck_abort();
	ledger_set_capacity(&l, below(8) == 0 ? LEDGER_UNLIMITED : below(80));
	ledger_set_drained(&l, below(16) == 0);
	for (unsigned i = 0; i < MANY; i++) {
		bool listed = vms[i].entry.listed;
		struct ledger_demand *d = &vms[i].demand;

		if (below(8) == 0 && listed) {
			ledger_remove(&l, &vms[i].entry);
			continue;
		}
		vms[i].priority = below(3);
		vms[i].tenant = below(TENANTS + 1) == TENANTS ? LEDGER_NO_TENANT : below(TENANTS);
		if (listed)
			ledger_place(&l, &vms[i].entry, vms[i].priority, vms[i].tenant);
		else
			add(i, vms[i].priority, vms[i].tenant);
		*d = (struct ledger_demand){.running = below(8) > 0};
		if (d->running) {
			d->may_burst = below(4) > 0;
			d->guaranteed = 1 + below(4);
			d->demand = 1 + below(9);
			d->held = below(10);
			d->overdue = below(3) == 0 ? below(d->held + 1) : 0;
		}
		ledger_update(&l, &vms[i].entry, d);
	}
}

static uint32_t least(uint32_t a, uint32_t b)
{
	return a < b ? a : b;
}

static uint32_t most(uint32_t a, uint32_t b)
{
	return a > b ? a : b;
}

static uint32_t within(const struct vm *vm)
{
	return vm->demand.running ? least(vm->demand.demand, vm->demand.guaranteed) : 0;
}

/* vCPU by vCPU, to whoever of the highest priority has least, first by UUID: what the ledger says it does, where nobody
 * refuses. */
static void hand_out(uint32_t *entitled)
{
	uint64_t room = l.capacity == LEDGER_UNLIMITED ? UINT64_MAX : l.capacity, rooms[TENANTS];
	uint64_t guaranteed = 0;

	for (unsigned t = 0; t < TENANTS; t++)
		rooms[t] = l.tenants[t].quota == LEDGER_UNLIMITED ? UINT64_MAX / 2 : l.tenants[t].quota;
	for (unsigned i = 0; i < MANY; i++) {
		uint64_t *own = &rooms[vms[i].tenant != LEDGER_NO_TENANT ? vms[i].tenant : 0];

		entitled[i] = vms[i].entry.listed ? within(&vms[i]) : 0;
		guaranteed += entitled[i];
		if (vms[i].entry.listed && vms[i].tenant != LEDGER_NO_TENANT)
			*own -= *own < entitled[i] ? *own : entitled[i];
	}
	room = room > guaranteed ? room - guaranteed : 0;
	for (;;) {
		unsigned next = MANY;

		for (unsigned i = 0; i < MANY; i++) {
			const struct vm *vm = &vms[i];
			uint32_t burst = entitled[i] - (vm->entry.listed ? within(vm) : 0);

			if (!vm->entry.listed || !vm->demand.running || !vm->demand.may_burst || l.drained ||
			    entitled[i] >= vm->demand.demand ||
			    (vm->tenant != LEDGER_NO_TENANT && rooms[vm->tenant] == 0))
				continue;
			if (next == MANY || vm->priority > vms[next].priority ||
			    (vm->priority == vms[next].priority && burst < entitled[next] - within(&vms[next])))
				next = i;
		}
		if (next == MANY || room == 0)
			return;
		entitled[next]++;
		room--;
		if (vms[next].tenant != LEDGER_NO_TENANT)
			rooms[vms[next].tenant]--;
	}
}

START_TEST(as_if_handed_out_one_by_one)
{
	seed = 11;
	for (int round = 0; round < 20000; round++) {
		uint32_t entitled[MANY];

		shuffle();
		for (unsigned i = 0; i < MANY; i++) {
			if (!vms[i].entry.listed)
				continue;
			vms[i].demand.overdue = 0;
			ledger_update(&l, &vms[i].entry, &vms[i].demand);
		}
		ledger_allocate(&l, NULL, NULL);
		hand_out(entitled);
		for (unsigned i = 0; i < MANY; i++)
			if (vms[i].entry.listed && ledger_share(&l, &vms[i].entry)->entitled != entitled[i])
				ck_abort_msg("round %d, VM %u: %u, not %u", round, i,
					     ledger_share(&l, &vms[i].entry)->entitled, entitled[i]);
	}
}
END_TEST

struct totals {
	uint64_t capacity, guaranteed, allowed, entitled, occupied, excess;
};

static void total(struct totals *t, const struct vm *vm)
{
	const struct ledger_share *s = ledger_share(&l, &vm->entry);

	t->guaranteed += within(vm);
	t->allowed += s->allowance;
	t->entitled += s->entitled;
	t->occupied += most(vm->demand.held, s->allowance);
	t->excess += vm->demand.held > s->allowance ? vm->demand.held - s->allowance : 0;
}

static void check_totals(const struct totals *t, uint32_t bound, int round)
{
	uint64_t permitted;

	if (bound == LEDGER_UNLIMITED)
		return;
	permitted = t->guaranteed > bound ? t->guaranteed : bound;
	if (t->allowed > permitted || t->entitled > permitted)
		ck_abort_msg("round %d: %llu allowed, %llu entitled of %llu", round, (unsigned long long)t->allowed,
			     (unsigned long long)t->entitled, (unsigned long long)permitted);
	if (t->occupied > permitted + t->excess)
		ck_abort_msg("round %d: occupied %llu of %llu and %llu overdue", round, (unsigned long long)t->occupied,
			     (unsigned long long)permitted, (unsigned long long)t->excess);
}

static void check_one(const struct vm *vm, int round)
{
	const struct ledger_share *s = ledger_share(&l, &vm->entry);
	uint32_t demand = vm->demand.running ? vm->demand.demand : 0;
	bool below_demand = s->allowance < demand;

	if (s->allowance < within(vm) || s->allowance > demand || s->entitled < s->allowance || s->entitled > demand)
		ck_abort_msg("round %d: %u of %u to %u", round, s->allowance, within(vm), demand);
	if (below_demand != (s->bound != RULE_NONE))
		ck_abort_msg("round %d: %u of %u, bound by %s", round, s->allowance, demand, rule_name(s->bound));
	if ((!vm->demand.may_burst || l.drained) && s->allowance > within(vm))
		ck_abort_msg("round %d: burst without leave", round);
}

START_TEST(invariants)
{
	seed = 12;
	for (int round = 0; round < 50000; round++) {
		struct totals all = {0}, of[TENANTS] = {0};

		shuffle();
		ledger_allocate(&l, NULL, NULL);
		for (unsigned i = 0; i < MANY; i++) {
			if (!vms[i].entry.listed)
				continue;
			check_one(&vms[i], round);
			total(&all, &vms[i]);
			if (vms[i].tenant != LEDGER_NO_TENANT)
				total(&of[vms[i].tenant], &vms[i]);
		}
		check_totals(&all, l.capacity, round);
		for (unsigned t = 0; t < TENANTS; t++)
			check_totals(&of[t], l.tenants[t].quota, round);
		if (all.allowed != l.sums.allowed || all.excess != l.sums.overdue ||
		    all.guaranteed != l.sums.guaranteed)
			ck_abort_msg("round %d: sums", round);
	}
}
END_TEST

/* Everybody takes what they may have and gives back what they must: soon nothing moves any more, and nobody lacks what
 * they are entitled to. */
START_TEST(it_settles)
{
	seed = 13;
	for (int round = 0; round < 5000; round++) {
		int turns = 0;

		shuffle();
		for (;;) {
			bool moved = false;

			ledger_allocate(&l, NULL, NULL);
			for (unsigned i = 0; i < MANY; i++) {
				struct ledger_demand *d = &vms[i].demand;
				const struct ledger_share *s;

				if (!vms[i].entry.listed || !d->running)
					continue;
				s = ledger_share(&l, &vms[i].entry);
				if (d->held == s->allowance && d->overdue == 0)
					continue;
				d->held = s->allowance;
				d->overdue = 0;
				ledger_update(&l, &vms[i].entry, d);
				moved = true;
			}
			if (!moved)
				break;
			if (++turns > 4)
				ck_abort_msg("round %d does not settle", round);
		}
		for (unsigned i = 0; i < MANY; i++)
			if (vms[i].entry.listed &&
			    ledger_share(&l, &vms[i].entry)->allowance != ledger_share(&l, &vms[i].entry)->entitled)
				ck_abort_msg("round %d: VM %u is left behind", round, i);
	}
}
END_TEST

/* In whatever order they came. */
START_TEST(the_order_of_events_does_not_matter)
{
	seed = 14;
	for (int round = 0; round < 500; round++) {
		struct ledger_share before[MANY];

		shuffle();
		ledger_allocate(&l, NULL, NULL);
		for (unsigned i = 0; i < MANY; i++)
			if (vms[i].entry.listed)
				before[i] = *ledger_share(&l, &vms[i].entry);
		for (unsigned k = 0; k < MANY; k++) {
			unsigned i = (k * 7 + (unsigned)round) % MANY;

			if (!vms[i].entry.listed)
				continue;
			ledger_remove(&l, &vms[i].entry);
			ledger_add(&l, &vms[i].entry, vms[i].priority, vms[i].tenant);
			ledger_update(&l, &vms[i].entry, &vms[i].demand);
		}
		ledger_allocate(&l, NULL, NULL);
		for (unsigned i = 0; i < MANY; i++)
			if (vms[i].entry.listed &&
			    memcmp(&before[i], ledger_share(&l, &vms[i].entry), sizeof(before[i])) != 0)
				ck_abort_msg("round %d: VM %u", round, i);
	}
}
END_TEST

int main(void)
{
	Suite *s = suite_create("ledger");
	TCase *cases = tcase_create("cases"), *chance = tcase_create("chance");
	SRunner *r;
	int failed;

	tcase_add_checked_fixture(cases, setup, teardown);
	tcase_add_test(cases, without_bounds_all_is_granted);
	tcase_add_test(cases, who_does_not_run_has_nothing);
	tcase_add_test(cases, guarantees_are_granted_whatever_the_capacity);
	tcase_add_test(cases, max_min_within_a_priority);
	tcase_add_test(cases, the_higher_priority_first);
	tcase_add_test(cases, a_quota_is_nested);
	tcase_add_test(cases, a_quota_spans_priorities);
	tcase_add_test(cases, without_credit_or_while_draining_there_is_no_burst);
	tcase_add_test(cases, what_is_lent_is_lent_once);
	tcase_add_test(cases, a_guarantee_does_not_wait);
	tcase_add_test(cases, what_is_refused_counts_against_who_refuses);
	tcase_add_test(cases, those_who_share_with_a_refuser_share_fairly);
	tcase_add_test(cases, who_refuses_keeps_it_when_there_is_room_again);
	tcase_add_test(cases, only_changes_are_told);
	tcase_add_test(cases, admission);
	suite_add_tcase(s, cases);
	tcase_add_checked_fixture(chance, setup, teardown);
	tcase_set_timeout(chance, 60);
	tcase_add_test(chance, as_if_handed_out_one_by_one);
	tcase_add_test(chance, invariants);
	tcase_add_test(chance, it_settles);
	tcase_add_test(chance, the_order_of_events_does_not_matter);
	suite_add_tcase(s, chance);
	r = srunner_create(s);
	srunner_run_all(r, CK_NORMAL);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
