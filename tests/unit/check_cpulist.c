/* SPDX-License-Identifier: GPL-2.0-or-later */

#include <check.h>
#include <errno.h>
#include <stdlib.h>

#include "daemon/core/cpulist.h"

static const char *const texts[] = {
	"", "0", "511", "0-511", "0-3", "0-3,5", "0-1,4", "1,3,5", "62-65", "63", "64", "0,2-3,5-510",
};

START_TEST(what_is_parsed_is_formatted_alike)
{
	char text[CPULIST_TEXT_SIZE];
	struct cpulist set;

	ck_assert_int_eq(cpulist_parse(texts[_i], &set), 0);
	ck_assert_str_eq(cpulist_format(&set, text), texts[_i]);
}
END_TEST

START_TEST(members)
{
	struct cpulist set;

	ck_assert_int_eq(cpulist_parse("0-1,63-64,511", &set), 0);
	ck_assert_uint_eq(cpulist_count(&set), 5);
	for (unsigned cpu = 0; cpu < 2 * CPULIST_MAX; cpu++)
		ck_assert_int_eq(cpulist_has(&set, cpu), cpu <= 1 || cpu == 63 || cpu == 64 || cpu == 511);
}
END_TEST

START_TEST(beyond_the_last_is_nobody)
{
	struct cpulist set = {0};

	cpulist_add(&set, CPULIST_MAX);
	ck_assert(cpulist_is_empty(&set));
	cpulist_add(&set, CPULIST_MAX - 1);
	ck_assert(!cpulist_is_empty(&set));
}
END_TEST

/* Nothing takes more room: every second pair, and every second one. */
START_TEST(the_longest_texts_fit)
{
	char text[CPULIST_TEXT_SIZE];
	struct cpulist set, again;

	for (unsigned gap = 2; gap <= 3; gap++) {
		set = (struct cpulist){0};
		for (unsigned cpu = 0; cpu < CPULIST_MAX; cpu++)
			if (cpu % gap != gap - 1)
				cpulist_add(&set, cpu);
		ck_assert_int_eq(cpulist_parse(cpulist_format(&set, text), &again), 0);
		ck_assert_mem_eq(&set, &again, sizeof(set));
	}
}
END_TEST

START_TEST(minus)
{
	char text[CPULIST_TEXT_SIZE];
	struct cpulist a, b, left;

	ck_assert_int_eq(cpulist_parse("0-5,70", &a), 0);
	ck_assert_int_eq(cpulist_parse("0-3,5,90", &b), 0);
	left = cpulist_minus(&a, &b);
	ck_assert_str_eq(cpulist_format(&left, text), "4,70");
}
END_TEST

static const struct {
	const char *text;
	int error;
} wrong[] = {
	{",", -EINVAL},
	{"0,", -EINVAL},
	{",0", -EINVAL},
	{"0,,1", -EINVAL},
	{"-", -EINVAL},
	{"1-", -EINVAL},
	{"-1", -EINVAL},
	{"3-1", -EINVAL},
	{"1,0", -EINVAL},
	{"0-3,3", -EINVAL},
	{"a", -EINVAL},
	{"0 1", -EINVAL},
	{" 0", -EINVAL},
	{"+1", -EINVAL},
	{"0-1-2", -EINVAL},
	{"0x1", -EINVAL},
	{"512", -ERANGE},
	{"0-512", -ERANGE},
	{"99999999999999999999", -ERANGE},
};

START_TEST(what_is_wrong_changes_nothing)
{
	struct cpulist set = {{42}};

	ck_assert_int_eq(cpulist_parse(wrong[_i].text, &set), wrong[_i].error);
	ck_assert_uint_eq(set.bits[0], 42);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("cpulist");
	TCase *t = tcase_create("cpulist");
	SRunner *r;
	int failed;

	tcase_add_loop_test(t, what_is_parsed_is_formatted_alike, 0, (int)(sizeof(texts) / sizeof(texts[0])));
	tcase_add_test(t, members);
	tcase_add_test(t, beyond_the_last_is_nobody);
	tcase_add_test(t, the_longest_texts_fit);
	tcase_add_test(t, minus);
	tcase_add_loop_test(t, what_is_wrong_changes_nothing, 0, (int)(sizeof(wrong) / sizeof(wrong[0])));
	suite_add_tcase(s, t);
	r = srunner_create(s);
	srunner_run_all(r, CK_NORMAL);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
