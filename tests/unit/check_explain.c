/* SPDX-License-Identifier: GPL-2.0-or-later */

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/core/explain.h"

#define SECOND INT64_C(1000000000)

/* A VM of 2 guaranteed, that has 2 of 8 and asks for 4, on a host with room for all. */
static const struct explain_facts plain = {
	.count = 4,
	.possible = 8,
	.boot = 2,
	.wanted = 2,
	.running = true,
	.boot_removable = true,
	.notify = true,
	.class_name = "silver",
	.guaranteed = 2,
	.limit = 6,
	.may_burst = true,
	.plugs_now = UINT32_MAX,
	.tenant_quota = EXPLAIN_UNLIMITED,
	.capacity = EXPLAIN_UNLIMITED,
	.allowance = 4,
	.entitled = 4,
};

static struct explain explain(const struct explain_facts *facts)
{
	struct explain e;

	memset(&e, 0xff, sizeof(e));
	explain_evaluate(facts, &e);
	ck_assert_uint_eq(e.n, RULE_MAX);
	return e;
}

static const struct explain_line *line_of(const struct explain *e, enum rule rule)
{
	for (size_t i = 0; i < e->n; i++)
		if (e->lines[i].rule == rule)
			return &e->lines[i];
	ck_abort_msg("no line for %s", rule_name(rule));
	return NULL;
}

static void check_text(const struct explain *e, enum rule rule, enum explain_outcome outcome, const char *expected)
{
	const struct explain_line *line = line_of(e, rule);
	char text[EXPLAIN_TEXT_SIZE];

	ck_assert_str_eq(explain_outcome_name(line->outcome), explain_outcome_name(outcome));
	explain_text(text, sizeof(text), "web", line);
	ck_assert_str_eq(text, expected);
}

START_TEST(each_rule_once)
{
	struct explain e = explain(&plain);
	char text[EXPLAIN_TEXT_SIZE];

	ck_assert_int_eq(e.refused, RULE_NONE);
	ck_assert_int_eq(e.bound, RULE_NONE);
	ck_assert_uint_eq(e.target, 4);
	for (int rule = 1; rule <= RULE_MAX; rule++) {
		ck_assert_int_eq(line_of(&e, (enum rule)rule)->outcome, EXPLAIN_PASSES);
		explain_text(text, sizeof(text), "web", line_of(&e, (enum rule)rule));
		ck_assert_uint_gt(strlen(text), 10);
	}
}
END_TEST

START_TEST(refusals)
{
	static const struct {
		enum rule rule;
		const char *text;
	} expected[] = {
		{RULE_RANGE, "VM web was created with 3 possible vCPUs: it can have 1 to 3"},
		{RULE_LIMIT, "the service class \"silver\" permits VM web at most 3 vCPUs"},
		{RULE_TENANT, "tenant \"acme\"'s 3 vCPUs are fewer than the 4 asked for VM web"},
		{RULE_CAPACITY, "the host's 3 vCPUs are fewer than the 4 asked for VM web"},
		{RULE_STORAGE, "too many requests for VM web wait for the disk already"},
		{RULE_FROZEN, "an operator froze the host: no changes are accepted"},
		{RULE_MIGRATING, "VM web is being migrated: try again when that has ended"},
		{RULE_NOTIFY, "VM web was started without ACPI: its guest cannot be told of a change"},
		{RULE_BOOT, "VM web booted with 5 vCPUs and its VMM does not permit to take those back: start it with "
			    "removable-boot-vcpus=on, or with a lower boot count"},
	};

	for (size_t i = 0; i < sizeof(expected) / sizeof(expected[0]); i++) {
		struct explain_facts f = plain;
		struct explain e;

		f.tenant_name = "acme";
		switch (expected[i].rule) {
		case RULE_RANGE:
			f.possible = 3;
			break;
		case RULE_LIMIT:
			f.limit = 3;
			break;
		case RULE_TENANT:
			f.tenant_quota = 3;
			break;
		case RULE_CAPACITY:
			f.capacity = 3;
			break;
		case RULE_STORAGE:
			f.queue_full = true;
			break;
		case RULE_FROZEN:
			f.frozen = true;
			break;
		case RULE_MIGRATING:
			f.migrating = true;
			break;
		case RULE_NOTIFY:
			f.notify = false;
			break;
		default:
			f.boot = f.wanted = 5;
			f.boot_removable = false;
			break;
		}
		e = explain(&f);
		ck_assert_str_eq(rule_name(e.refused), rule_name(expected[i].rule));
		ck_assert_uint_eq(e.target, f.wanted);
		check_text(&e, expected[i].rule, EXPLAIN_REFUSES, expected[i].text);
	}
}
END_TEST

START_TEST(the_guarantee_is_not_refused_by_room)
{
	struct explain_facts f = plain;

	f.count = 2;
	f.capacity = f.tenant_quota = 1;
	ck_assert_int_eq(explain(&f).refused, RULE_NONE);
	f.count = 3;
	ck_assert_int_eq(explain(&f).refused, RULE_TENANT);
}
END_TEST

START_TEST(the_first_refusal_counts)
{
	struct explain_facts f = plain;
	struct explain e;

	f.limit = 3;
	f.frozen = true;
	e = explain(&f);
	ck_assert_int_eq(e.refused, RULE_LIMIT);
	ck_assert_int_eq(line_of(&e, RULE_FROZEN)->outcome, EXPLAIN_REFUSES);
}
END_TEST

START_TEST(what_waits)
{
	struct explain_facts f = plain;
	struct explain e;

	f.capacity = 10;
	f.capacity_others = 7;
	f.allowance = 3;
	f.bound = RULE_CAPACITY;
	e = explain(&f);
	ck_assert_int_eq(e.refused, RULE_NONE);
	ck_assert_uint_eq(e.target, 3);
	ck_assert_int_eq(e.bound, RULE_CAPACITY);
	check_text(&e, RULE_CAPACITY, EXPLAIN_WAITS,
		   "of the host's 10 vCPUs other VMs hold 7: VM web waits until there is room for 4");
	f.bound = RULE_CREDIT;
	f.metered = true;
	f.may_burst = false;
	f.allowance = 2;
	f.balance = -3 * SECOND;
	f.resume = 20 * SECOND;
	e = explain(&f);
	ck_assert_int_eq(e.bound, RULE_CREDIT);
	check_text(&e, RULE_CREDIT, EXPLAIN_WAITS,
		   "VM web is out of burst credit (-3 vCPU-seconds): it has its guaranteed 2 vCPUs until it has earned "
		   "20");
	f.bound = RULE_DRAINED;
	e = explain(&f);
	check_text(&e, RULE_DRAINED, EXPLAIN_WAITS,
		   "an operator drains the host: VM web has its guaranteed 2 vCPUs and no burst");
}
END_TEST

START_TEST(the_plug_rate)
{
	struct explain_facts f = plain;
	struct explain e;

	f.plugs_per_minute = 6;
	f.plugs_now = 1;
	e = explain(&f);
	ck_assert_uint_eq(e.target, 3);
	ck_assert_int_eq(e.bound, RULE_PLUG_RATE);
	check_text(&e, RULE_PLUG_RATE, EXPLAIN_WAITS,
		   "the service class \"silver\" grants 6 vCPUs per minute, and 1 now");
	f.plugs_now = 2;
	e = explain(&f);
	ck_assert_uint_eq(e.target, 4);
	ck_assert_int_eq(e.bound, RULE_NONE);
}
END_TEST

START_TEST(a_stopped_vm_takes_any_count)
{
	struct explain_facts f = plain;
	struct explain e;

	f.running = f.notify = f.boot_removable = false;
	f.boot = f.wanted = 0;
	f.allowance = f.entitled = 0;
	e = explain(&f);
	ck_assert_int_eq(e.refused, RULE_NONE);
	ck_assert_int_eq(e.bound, RULE_NONE);
}
END_TEST

START_TEST(long_names_are_cut)
{
	char name[400], text[EXPLAIN_TEXT_SIZE];
	struct explain_line line = {
		.rule = RULE_TENANT, .outcome = EXPLAIN_REFUSES, .who = name, .bound = 1, .count = 2};

	memset(name, 'x', sizeof(name) - 1);
	name[sizeof(name) - 1] = '\0';
	explain_text(text, sizeof(text), name, &line);
	ck_assert_uint_lt(strlen(text), sizeof(text));
	line.rule = (enum rule)99;
	explain_text(text, sizeof(text), "web", &line);
	ck_assert_str_eq(text, "nothing stands against it");
}
END_TEST

START_TEST(names)
{
	for (int i = 0; i <= RULE_MAX; i++)
		for (int k = 0; k < i; k++)
			ck_assert_str_ne(rule_name((enum rule)i), rule_name((enum rule)k));
	ck_assert_str_eq(rule_name(RULE_LIMIT), "sla-limit");
	ck_assert_str_eq(rule_name((enum rule)(RULE_MAX + 1)), "unknown");
}
END_TEST

int main(void)
{
	Suite *s = suite_create("explain");
	TCase *t = tcase_create("explain");
	SRunner *r;
	int failed;

	tcase_add_test(t, each_rule_once);
	tcase_add_test(t, refusals);
	tcase_add_test(t, the_guarantee_is_not_refused_by_room);
	tcase_add_test(t, the_first_refusal_counts);
	tcase_add_test(t, what_waits);
	tcase_add_test(t, the_plug_rate);
	tcase_add_test(t, a_stopped_vm_takes_any_count);
	tcase_add_test(t, long_names_are_cut);
	tcase_add_test(t, names);
	suite_add_tcase(s, t);
	r = srunner_create(s);
	srunner_run_all(r, CK_NORMAL);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
