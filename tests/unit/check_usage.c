/* SPDX-License-Identifier: GPL-2.0-or-later */

#include <check.h>
#include <stdlib.h>

#include "daemon/core/usage.h"

#define SECOND UINT64_C(1000000000)
#define MINUTE (60 * SECOND)

/* The boot clock's 0 is 17 minutes past some hour. */
#define START (472222 * USAGE_HOUR + 17 * MINUTE)

static const struct usage_clock wall = {.boot = 0, .real = START};

static struct usage_row rows[4096];
static size_t n_rows;

static void keep(const struct usage_row *row, void *userdata)
{
	ck_assert_ptr_eq(userdata, rows);
	ck_assert_uint_lt(n_rows, sizeof(rows) / sizeof(rows[0]));
	rows[n_rows++] = *row;
}

static void setup(void)
{
	n_rows = 0;
}

START_TEST(parted_at_the_guarantee)
{
	struct usage u = {0};

	usage_advance(&u, &wall, 2, 5, 10 * SECOND, keep, rows);
	ck_assert_uint_eq(u.row.guaranteed_ns, 20 * SECOND);
	ck_assert_uint_eq(u.row.burst_ns, 30 * SECOND);
	usage_advance(&u, &wall, 4, 1, 11 * SECOND, keep, rows);
	ck_assert_uint_eq(u.row.guaranteed_ns, 21 * SECOND);
	ck_assert_uint_eq(u.row.burst_ns, 30 * SECOND);
	usage_advance(&u, &wall, 4, 1, 10 * SECOND, keep, rows); /* earlier: nothing */
	ck_assert_uint_eq(u.row.guaranteed_ns, 21 * SECOND);
	ck_assert_uint_eq(u.row.number, 1);
	ck_assert_uint_eq(u.row.begin, START);
	ck_assert_uint_eq(u.row.end, START + 11 * SECOND);
	ck_assert_uint_eq(n_rows, 0);
}
END_TEST

START_TEST(cut_at_the_hour)
{
	struct usage u = {0};

	ck_assert_uint_eq(usage_next_hour(&wall, 0), 43 * MINUTE);
	ck_assert_uint_eq(usage_next_hour(&wall, 43 * MINUTE), 103 * MINUTE);
	usage_advance(&u, &wall, 1, 3, 43 * MINUTE - 1, keep, rows);
	ck_assert_uint_eq(n_rows, 0);
	usage_advance(&u, &wall, 1, 3, 43 * MINUTE, keep, rows);
	ck_assert_uint_eq(n_rows, 1);
	usage_advance(&u, &wall, 1, 3, 43 * MINUTE + 2 * 60 * MINUTE + 5, keep, rows);
	ck_assert_uint_eq(n_rows, 3);
	ck_assert_uint_eq(rows[0].guaranteed_ns, 43 * MINUTE);
	ck_assert_uint_eq(rows[0].burst_ns, 86 * MINUTE);
	ck_assert_uint_eq(rows[1].guaranteed_ns, 60 * MINUTE);
	ck_assert_uint_eq(rows[1].burst_ns, 120 * MINUTE);
	ck_assert_uint_eq(rows[1].begin % USAGE_HOUR, 0);
	ck_assert_uint_eq(rows[1].end - rows[1].begin, USAGE_HOUR);
	for (size_t i = 0; i < 3; i++)
		ck_assert_uint_eq(rows[i].number, i + 1);
	ck_assert_uint_eq(u.row.number, 4);
	ck_assert_uint_eq(u.row.guaranteed_ns, 5);
	ck_assert_uint_eq(u.guaranteed_ns, 43 * MINUTE + 120 * MINUTE + 5);
}
END_TEST

START_TEST(what_uses_nothing_has_no_row)
{
	struct usage u = {0};

	usage_advance(&u, &wall, 2, 0, 10 * USAGE_HOUR, keep, rows);
	usage_skip(&u, &wall, 11 * USAGE_HOUR, keep, rows);
	usage_end_row(&u, keep, rows);
	ck_assert_uint_eq(n_rows, 0);
	ck_assert_uint_eq(u.last, 0);
	ck_assert_uint_eq(u.at, 11 * USAGE_HOUR);
}
END_TEST

START_TEST(skipped_time_is_not_billed)
{
	struct usage u = {0};

	usage_advance(&u, &wall, 2, 2, MINUTE, keep, rows);
	usage_skip(&u, &wall, 10 * MINUTE, keep, rows);
	usage_advance(&u, &wall, 2, 2, 11 * MINUTE, keep, rows);
	ck_assert_uint_eq(u.row.guaranteed_ns, 4 * MINUTE);
	usage_skip(&u, &wall, 50 * MINUTE, keep, rows);
	ck_assert_uint_eq(n_rows, 1);
	ck_assert_uint_eq(rows[0].guaranteed_ns, 4 * MINUTE);
}
END_TEST

START_TEST(another_class_another_row)
{
	struct usage u = {0};

	usage_advance(&u, &wall, 2, 2, MINUTE, keep, rows);
	usage_end_row(&u, keep, rows);
	usage_advance(&u, &wall, 1, 2, 2 * MINUTE, keep, rows);
	ck_assert_uint_eq(n_rows, 1);
	ck_assert_uint_eq(u.row.number, 2);
	ck_assert_uint_eq(u.row.begin, START + MINUTE);
	ck_assert_uint_eq(u.row.burst_ns, MINUTE);
}
END_TEST

/* A clock that is set moves usage to other hours; it makes none, and loses none. */
START_TEST(a_step_of_the_wall_clock)
{
	struct usage_clock back = {.boot = 30 * MINUTE, .real = START - 5 * USAGE_HOUR},
			   forth = {.boot = 60 * MINUTE, .real = START + 100 * USAGE_HOUR},
			   unset = {.boot = 90 * MINUTE, .real = 5};
	struct usage u = {0};
	uint64_t sum = 0;

	usage_advance(&u, &wall, 3, 3, 30 * MINUTE, keep, rows);
	usage_advance(&u, &back, 3, 3, 60 * MINUTE, keep, rows);
	usage_advance(&u, &forth, 3, 3, 90 * MINUTE, keep, rows);
	usage_advance(&u, &unset, 3, 3, 120 * MINUTE, keep, rows);
	usage_end_row(&u, keep, rows);
	ck_assert_uint_eq(n_rows, 4);
	for (size_t i = 0; i < n_rows; i++)
		sum += rows[i].guaranteed_ns;
	ck_assert_uint_eq(sum, 3 * 120 * MINUTE);
	ck_assert_uint_eq(rows[1].begin / USAGE_HOUR, START / USAGE_HOUR - 5);
	ck_assert_uint_eq(rows[2].begin / USAGE_HOUR, START / USAGE_HOUR + 100);
	ck_assert_uint_eq(rows[3].begin / USAGE_HOUR, 0);
	/* A moment before a clock that begins at its own zero. */
	ck_assert_uint_eq(usage_next_hour(&unset, 0), USAGE_HOUR);
}
END_TEST

START_TEST(the_sum_of_the_rows_is_the_integral)
{
	unsigned seed = 3;
	struct usage u = {0};
	uint64_t guaranteed_ns = 0, burst_ns = 0, now = 0;

	for (int i = 0; i < 3000; i++) {
		uint32_t guaranteed = (uint32_t)rand_r(&seed) % 6, enabled = (uint32_t)rand_r(&seed) % 9;
		uint64_t elapsed = (uint64_t)rand_r(&seed) % (30 * MINUTE);

		now += elapsed;
		if (rand_r(&seed) % 8 == 0) {
			usage_skip(&u, &wall, now, keep, rows);
			continue;
		}
		if (rand_r(&seed) % 8 == 0)
			usage_end_row(&u, keep, rows);
		usage_advance(&u, &wall, guaranteed, enabled, now, keep, rows);
		guaranteed_ns += elapsed * (enabled < guaranteed ? enabled : guaranteed);
		burst_ns += elapsed * (enabled < guaranteed ? 0 : enabled - guaranteed);
	}
	usage_end_row(&u, keep, rows);
	ck_assert_uint_eq(u.guaranteed_ns, guaranteed_ns);
	ck_assert_uint_eq(u.burst_ns, burst_ns);
	for (size_t i = 0; i < n_rows; i++) {
		guaranteed_ns -= rows[i].guaranteed_ns;
		burst_ns -= rows[i].burst_ns;
		ck_assert_uint_eq(rows[i].begin / USAGE_HOUR, (rows[i].end - 1) / USAGE_HOUR);
		ck_assert(i == 0 || rows[i].number > rows[i - 1].number);
	}
	ck_assert_uint_eq(guaranteed_ns, 0);
	ck_assert_uint_eq(burst_ns, 0);
}
END_TEST

START_TEST(price)
{
	const struct class_price p = {.given = true, .guaranteed = 10000, .burst = 25000}, none = {0},
				 dear = {.given = true, .guaranteed = UINT64_MAX, .burst = UINT64_MAX};

	ck_assert_uint_eq(usage_cost(2 * USAGE_HOUR, USAGE_HOUR, &p), 45000);
	ck_assert_uint_eq(usage_cost(USAGE_HOUR / 10000 - 1, 0, &p), 0);
	ck_assert_uint_eq(usage_cost(USAGE_HOUR / 10000, 0, &p), 1);
	ck_assert_uint_eq(usage_cost(2 * USAGE_HOUR, USAGE_HOUR, &none), 0);
	ck_assert_uint_eq(usage_cost(UINT64_MAX, UINT64_MAX, &dear), UINT64_MAX);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("usage");
	TCase *t = tcase_create("usage");
	SRunner *r;
	int failed;

	tcase_add_checked_fixture(t, setup, NULL);
	tcase_add_test(t, parted_at_the_guarantee);
	tcase_add_test(t, cut_at_the_hour);
	tcase_add_test(t, what_uses_nothing_has_no_row);
	tcase_add_test(t, skipped_time_is_not_billed);
	tcase_add_test(t, another_class_another_row);
	tcase_add_test(t, a_step_of_the_wall_clock);
	tcase_add_test(t, the_sum_of_the_rows_is_the_integral);
	tcase_add_test(t, price);
	suite_add_tcase(s, t);
	r = srunner_create(s);
	srunner_run_all(r, CK_NORMAL);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
