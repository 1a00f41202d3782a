/* SPDX-License-Identifier: GPL-2.0-or-later */

#include <check.h>
#include <stdlib.h>

#include "daemon/core/class.h"
#include "daemon/core/credit.h"

#define SECOND INT64_C(1000000000)

static const struct class_burst hundred = {
	.metered = true,
	.cap = 100 * SECOND,
	.initial = 50 * SECOND,
	.resume = 10 * SECOND,
};

static struct credit opened(const struct class_burst *burst)
{
	struct credit c = {0};

	credit_open(&c, burst, 0);
	return c;
}

START_TEST(opens_at_the_initial_balance_once)
{
	struct credit c = opened(&hundred);

	ck_assert_int_eq(c.balance, 50 * SECOND);
	ck_assert(credit_may_burst(&c, &hundred));
	credit_advance(&c, &hundred, 2, 4, 10 * SECOND);
	credit_open(&c, &hundred, 10 * SECOND);
	ck_assert_int_eq(c.balance, 30 * SECOND);
}
END_TEST

START_TEST(an_initial_balance_below_resume_may_be_used)
{
	const struct class_burst burst = {.metered = true, .cap = 100, .initial = 5, .resume = 50};
	struct credit c = opened(&burst);

	ck_assert(credit_may_burst(&c, &burst));
	credit_advance(&c, &burst, 1, 2, 5);
	ck_assert(!credit_may_burst(&c, &burst));
}
END_TEST

START_TEST(spends_above_and_earns_below_the_guarantee)
{
	struct credit c = opened(&hundred);

	credit_advance(&c, &hundred, 2, 5, 4 * SECOND);
	ck_assert_int_eq(c.balance, 38 * SECOND);
	credit_advance(&c, &hundred, 2, 2, 100 * SECOND);
	ck_assert_int_eq(c.balance, 38 * SECOND);
	credit_advance(&c, &hundred, 3, 1, 101 * SECOND);
	ck_assert_int_eq(c.balance, 40 * SECOND);
	credit_advance(&c, &hundred, 3, 1, 100 * SECOND); /* a clock that does not step back */
	ck_assert_int_eq(c.balance, 40 * SECOND);
	credit_skip(&c, 500 * SECOND);
	ck_assert_int_eq(c.balance, 40 * SECOND);
	credit_advance(&c, &hundred, 3, 1, 501 * SECOND);
	ck_assert_int_eq(c.balance, 42 * SECOND);
}
END_TEST

START_TEST(stays_within_its_bounds)
{
	struct credit c = opened(&hundred);

	credit_advance(&c, &hundred, 2, 1, 50 * SECOND);
	ck_assert_int_eq(c.balance, 100 * SECOND);
	credit_advance(&c, &hundred, 2, 1, 51 * SECOND);
	ck_assert_int_eq(c.balance, 100 * SECOND);
	credit_advance(&c, &hundred, 512, 0, UINT64_MAX / 2);
	ck_assert_int_eq(c.balance, 100 * SECOND);
	credit_advance(&c, &hundred, 1, 512, UINT64_MAX - 1);
	ck_assert_int_eq(c.balance, CREDIT_MIN);
	credit_advance(&c, &hundred, 1, 512, UINT64_MAX);
	ck_assert_int_eq(c.balance, CREDIT_MIN);
}
END_TEST

START_TEST(runs_out_to_the_nanosecond)
{
	struct credit c = opened(&hundred);
	/* 50 s at 3 above: 16.66 s */
	uint64_t end = credit_deadline(&c, &hundred, 2, 5);

	ck_assert_uint_eq(end, (50 * SECOND + 2) / 3);
	credit_advance(&c, &hundred, 2, 5, end - 1);
	ck_assert(credit_may_burst(&c, &hundred));
	ck_assert_uint_eq(credit_deadline(&c, &hundred, 2, 5), end);
	credit_advance(&c, &hundred, 2, 5, end);
	ck_assert(!credit_may_burst(&c, &hundred));
}
END_TEST

START_TEST(resumes_at_its_threshold_and_not_before)
{
	struct credit c = opened(&hundred);
	uint64_t when;

	credit_advance(&c, &hundred, 2, 3, 60 * SECOND);
	ck_assert_int_eq(c.balance, -10 * SECOND); /* the guest was slow: owed */
	ck_assert(c.spent);
	/* At the guarantee nothing is earned. */
	ck_assert_uint_eq(credit_deadline(&c, &hundred, 2, 2), UINT64_MAX);
	when = credit_deadline(&c, &hundred, 2, 1);
	ck_assert_uint_eq(when, 80 * SECOND);
	credit_advance(&c, &hundred, 2, 1, when - 1);
	ck_assert(!credit_may_burst(&c, &hundred));
	credit_advance(&c, &hundred, 2, 1, when);
	ck_assert(credit_may_burst(&c, &hundred));
	ck_assert_int_eq(c.balance, 10 * SECOND);
}
END_TEST

START_TEST(without_a_threshold_one_is_enough)
{
	const struct class_burst burst = {.metered = true, .cap = 100, .initial = 0, .resume = 0};
	struct credit c = opened(&burst);

	ck_assert(!credit_may_burst(&c, &burst));
	ck_assert_uint_eq(credit_deadline(&c, &burst, 2, 1), 1);
	credit_advance(&c, &burst, 2, 1, 1);
	ck_assert(credit_may_burst(&c, &burst));
}
END_TEST

START_TEST(a_class_without_credit_never_bursts)
{
	const struct class_burst none = {.metered = true};
	struct credit c = opened(&none);

	ck_assert_uint_eq(credit_deadline(&c, &none, 2, 1), UINT64_MAX);
	credit_advance(&c, &none, 2, 1, 1000);
	ck_assert(!credit_may_burst(&c, &none));
	ck_assert_int_eq(c.balance, 0);
}
END_TEST

START_TEST(what_is_not_metered_stands_still)
{
	const struct class_burst free = {.metered = false};
	struct credit c = opened(&hundred);

	credit_advance(&c, &free, 2, 5, 1000 * SECOND);
	ck_assert_int_eq(c.balance, 50 * SECOND);
	ck_assert(credit_may_burst(&c, &free));
	ck_assert_uint_eq(credit_deadline(&c, &free, 2, 5), UINT64_MAX);
	/* Back in a metered class, it goes on from there. */
	credit_open(&c, &hundred, 1000 * SECOND);
	credit_advance(&c, &hundred, 2, 3, 1001 * SECOND);
	ck_assert_int_eq(c.balance, 49 * SECOND);
}
END_TEST

START_TEST(a_lower_cap_holds_at_once)
{
	const struct class_burst ten = {.metered = true, .cap = 10 * SECOND, .resume = SECOND};
	struct credit c = opened(&hundred);

	credit_open(&c, &ten, 0);
	ck_assert_int_eq(c.balance, 10 * SECOND);
}
END_TEST

START_TEST(what_comes_from_elsewhere_is_clipped)
{
	struct credit c = {0};

	credit_set(&c, &hundred, INT64_MAX, false, 7);
	ck_assert_int_eq(c.balance, 100 * SECOND);
	ck_assert_uint_eq(c.at, 7);
	credit_set(&c, &hundred, INT64_MIN, false, 7);
	ck_assert_int_eq(c.balance, CREDIT_MIN);
	ck_assert(c.spent);
	/* Spent on the other host: the hysteresis comes along. */
	credit_set(&c, &hundred, 5 * SECOND, true, 7);
	ck_assert(!credit_may_burst(&c, &hundred));
	credit_set(&c, &hundred, 5 * SECOND, false, 7);
	ck_assert(credit_may_burst(&c, &hundred));
}
END_TEST

/* In whatever parts a time is told, and against sums made one by one. */
START_TEST(parts_make_the_whole)
{
	unsigned seed = 1;

	for (int round = 0; round < 2000; round++) {
		const struct class_burst burst = {
			.metered = true, .cap = 1000, .initial = rand_r(&seed) % 1001, .resume = 100};
		struct credit whole = opened(&burst), parts = whole;
		uint32_t enabled = (uint32_t)rand_r(&seed) % 8, guaranteed = (uint32_t)rand_r(&seed) % 8;
		uint64_t end = (uint64_t)rand_r(&seed) % 400;
		int64_t balance = whole.balance;

		credit_advance(&whole, &burst, guaranteed, enabled, end);
		while (parts.at < end) {
			uint64_t next = parts.at + 1 + (uint64_t)rand_r(&seed) % 50;

			credit_advance(&parts, &burst, guaranteed, enabled, next < end ? next : end);
		}
		for (uint64_t t = 0; t < end; t++) {
			balance += (int64_t)guaranteed - enabled;
			balance = balance < 1000 ? balance : 1000;
		}
		ck_assert_int_eq(whole.balance, parts.balance);
		ck_assert_int_eq(whole.spent, parts.spent);
		ck_assert_int_eq(whole.balance, balance);
	}
}
END_TEST

/* The deadline is the first moment at which the answer is another one. */
START_TEST(deadlines_are_exact)
{
	unsigned seed = 2;

	for (int round = 0; round < 5000; round++) {
		const struct class_burst burst = {
			.metered = true, .cap = 1000, .initial = rand_r(&seed) % 1001, .resume = rand_r(&seed) % 1001};
		uint32_t enabled = (uint32_t)rand_r(&seed) % 8, guaranteed = (uint32_t)rand_r(&seed) % 8;
		struct credit c = {0}, before;
		uint64_t when;

		credit_set(&c, &burst, rand_r(&seed) % 2001 - 1000, rand_r(&seed) & 1, 3);
		when = credit_deadline(&c, &burst, guaranteed, enabled);
		before = c;
		credit_advance(&before, &burst, guaranteed, enabled, when == UINT64_MAX ? 1000000 : when - 1);
		ck_assert_int_eq(credit_may_burst(&before, &burst), credit_may_burst(&c, &burst));
		if (when == UINT64_MAX)
			continue;
		credit_advance(&before, &burst, guaranteed, enabled, when);
		ck_assert_int_ne(credit_may_burst(&before, &burst), credit_may_burst(&c, &burst));
	}
}
END_TEST

/* ---- classes ---- */

START_TEST(the_default_class_is_a_class)
{
	struct service_class c;
	const char *member = NULL, *why = NULL;

	class_default(&c);
	ck_assert_int_eq(class_check(&c, &member, &why), 0);
	ck_assert_ptr_null(member);
	ck_assert_uint_eq(class_guaranteed(&c, 4), 1);
	ck_assert_uint_eq(class_limit(&c, 4), 4);
}
END_TEST

static void spoil(struct service_class *c, int which)
{
	switch (which) {
	case 0:
		c->name = "";
		break;
	case 1:
		c->limit = 0;
		break;
	case 2:
		c->limit = CPUPOLICY_MAX_VCPUS + 1;
		break;
	case 3:
		c->guaranteed = 0;
		break;
	case 4:
		c->guaranteed = 9;
		break;
	case 5:
		c->priority = CLASS_PRIORITY_MAX + 1;
		break;
	case 6:
		c->burst.cap = -1;
		break;
	case 7:
		c->burst.cap = CLASS_CREDIT_MAX + 1;
		break;
	case 8:
		c->burst.initial = c->burst.cap + 1;
		break;
	case 9:
		c->burst.resume = -1;
		break;
	case 10:
		c->plugs.per_minute = CLASS_PLUGS_MAX + 1;
		break;
	case 11:
		c->plugs.burst = 0;
		break;
	case 12:
		c->cpu_on.burst = 0;
		break;
	case 13:
		c->refusal = 3;
		break;
	case 14:
		c->retry_interval = CLASS_RETRY_MIN - 1;
		break;
	case 15:
		c->price.guaranteed = CLASS_PRICE_MAX + 1;
		break;
	case 16:
		c->price.burst = CLASS_PRICE_MAX + 1;
		break;
	}
}

START_TEST(what_is_wrong_is_named)
{
	static const char *const members[] = {
		"name",         "limit",     "limit",          "guaranteed",       "guaranteed",       "priority",
		"burst.cap",    "burst.cap", "burst.initial",  "burst.resume",     "plugs.per_minute", "plugs.burst",
		"cpu_on.burst", "refusal",   "retry_interval", "price.guaranteed", "price.burst",
	};

	for (int i = 0; i < 17; i++) {
		struct service_class c;
		const char *member = "", *why = "";

		class_default(&c);
		c.limit = 8;
		c.burst = hundred;
		c.plugs = (struct class_plugs){.per_minute = 6, .burst = 1};
		c.cpu_on = (struct rate_limit){.per_second = 1, .burst = 1};
		ck_assert_int_eq(class_check(&c, &member, &why), 0);
		spoil(&c, i);
		ck_assert_msg(class_check(&c, &member, &why) < 0, "%s is not checked", members[i]);
		ck_assert_str_eq(member, members[i]);
	}
}
END_TEST

int main(void)
{
	Suite *s = suite_create("credit");
	TCase *credit = tcase_create("credit"), *class = tcase_create("class");
	SRunner *r;
	int failed;

	tcase_add_test(credit, opens_at_the_initial_balance_once);
	tcase_add_test(credit, an_initial_balance_below_resume_may_be_used);
	tcase_add_test(credit, spends_above_and_earns_below_the_guarantee);
	tcase_add_test(credit, stays_within_its_bounds);
	tcase_add_test(credit, runs_out_to_the_nanosecond);
	tcase_add_test(credit, resumes_at_its_threshold_and_not_before);
	tcase_add_test(credit, without_a_threshold_one_is_enough);
	tcase_add_test(credit, a_class_without_credit_never_bursts);
	tcase_add_test(credit, what_is_not_metered_stands_still);
	tcase_add_test(credit, a_lower_cap_holds_at_once);
	tcase_add_test(credit, what_comes_from_elsewhere_is_clipped);
	tcase_add_test(credit, parts_make_the_whole);
	tcase_add_test(credit, deadlines_are_exact);
	suite_add_tcase(s, credit);
	tcase_add_test(class, the_default_class_is_a_class);
	tcase_add_test(class, what_is_wrong_is_named);
	suite_add_tcase(s, class);
	r = srunner_create(s);
	srunner_run_all(r, CK_NORMAL);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
