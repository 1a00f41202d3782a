/* SPDX-License-Identifier: GPL-2.0-or-later */

#include <check.h>
#include <stdlib.h>

#include "daemon/core/rate.h"

#define SECOND UINT64_C(1000000000)

static uint64_t divide_up(uint64_t a, uint64_t b)
{
	return (a + b - 1) / b;
}

START_TEST(no_limit)
{
	const struct rate_limit limit = {.per_second = 0, .burst = 0};
	struct rate r;

	rate_init(&r, &limit, 5);
	for (int i = 0; i < 100000; i++)
		ck_assert(rate_take(&r, &limit, 5));
	ck_assert_uint_eq(rate_next(&r, &limit, 7), 7);
}
END_TEST

START_TEST(burst_and_one_more)
{
	const struct rate_limit limit = {.per_second = 10, .burst = 5};
	struct rate r;

	rate_init(&r, &limit, 1000);
	for (int i = 0; i < 5; i++) {
		ck_assert_uint_eq(rate_next(&r, &limit, 1000), 1000);
		ck_assert(rate_take(&r, &limit, 1000));
	}
	ck_assert(!rate_take(&r, &limit, 1000));
	/* One operation of ten per second, to the nanosecond. */
	ck_assert_uint_eq(rate_next(&r, &limit, 1000), 1000 + SECOND / 10);
	ck_assert(!rate_take(&r, &limit, 1000 + SECOND / 10 - 1));
	ck_assert(rate_take(&r, &limit, 1000 + SECOND / 10));
	ck_assert(!rate_take(&r, &limit, 1000 + SECOND / 10));
}
END_TEST

START_TEST(idle_earns_a_burst_and_no_more)
{
	const struct rate_limit limit = {.per_second = 3, .burst = 4};
	struct rate r;
	int n = 0;

	rate_init(&r, &limit, 0);
	while (rate_take(&r, &limit, 1000 * SECOND))
		n++;
	ck_assert_int_eq(n, 4);
	while (rate_take(&r, &limit, 5000 * SECOND))
		n++;
	ck_assert_int_eq(n, 8);
}
END_TEST

/* The k-th operation after the burst comes at k seconds / rate, rounded up once and not each time. */
START_TEST(no_drift)
{
	static const uint32_t rates[] = {1, 3, 7, 999, 123456789, 1000000007};

	for (size_t i = 0; i < sizeof(rates) / sizeof(rates[0]); i++) {
		const struct rate_limit limit = {.per_second = rates[i], .burst = 2};
		uint64_t now = 12345, start = now;
		struct rate r;

		rate_init(&r, &limit, now);
		ck_assert(rate_take(&r, &limit, now) && rate_take(&r, &limit, now));
		for (uint64_t k = 1; k <= 3000; k++) {
			uint64_t next = rate_next(&r, &limit, now);

			ck_assert_uint_eq(next, start + divide_up(k * SECOND, rates[i]));
			if (next > now)
				ck_assert(!rate_take(&r, &limit, next - 1));
			now = next;
			ck_assert(rate_take(&r, &limit, now));
		}
	}
}
END_TEST

START_TEST(asking_often_costs_nothing)
{
	const struct rate_limit limit = {.per_second = 7, .burst = 1};
	uint64_t due = divide_up(SECOND, 7);
	struct rate r;

	rate_init(&r, &limit, 0);
	ck_assert(rate_take(&r, &limit, 0));
	for (uint64_t now = 0; now < due; now += 997)
		ck_assert(!rate_take(&r, &limit, now));
	ck_assert(rate_take(&r, &limit, due));
}
END_TEST

START_TEST(time_that_steps_back)
{
	const struct rate_limit limit = {.per_second = 1, .burst = 1};
	struct rate r;

	rate_init(&r, &limit, 10 * SECOND);
	ck_assert(rate_take(&r, &limit, 10 * SECOND));
	ck_assert(!rate_take(&r, &limit, 0));
	ck_assert_uint_eq(rate_next(&r, &limit, 0), 11 * SECOND);
	/* The step back has earned nothing. */
	ck_assert(!rate_take(&r, &limit, 11 * SECOND - 1));
	ck_assert(rate_take(&r, &limit, 11 * SECOND));
}
END_TEST

START_TEST(extremes)
{
	const struct rate_limit fast = {.per_second = UINT32_MAX, .burst = UINT32_MAX};
	const struct rate_limit slow = {.per_second = 1, .burst = 0};
	struct rate r;

	rate_init(&r, &fast, 0);
	ck_assert_uint_eq(r.tokens / SECOND, UINT32_MAX);
	r.tokens = 0;
	ck_assert(rate_take(&r, &fast, UINT64_MAX));
	ck_assert_uint_eq(r.tokens / SECOND, UINT32_MAX - 1);
	r.tokens = 0;
	ck_assert(!rate_take(&r, &fast, UINT64_MAX));
	ck_assert_uint_eq(rate_next(&r, &fast, UINT64_MAX), UINT64_MAX);

	/* A burst of none counts as one: otherwise nothing would ever pass. */
	rate_init(&r, &slow, 0);
	ck_assert(rate_take(&r, &slow, 0));
	ck_assert(!rate_take(&r, &slow, 0));
	ck_assert(rate_take(&r, &slow, UINT64_MAX - 1));
	ck_assert(!rate_take(&r, &slow, UINT64_MAX));
	ck_assert_uint_eq(rate_next(&r, &slow, UINT64_MAX), UINT64_MAX);
}
END_TEST

START_TEST(a_lowered_limit_holds_at_once)
{
	const struct rate_limit high = {.per_second = 100, .burst = 100}, low = {.per_second = 1, .burst = 2};
	struct rate r;
	int n = 0;

	rate_init(&r, &high, SECOND);
	while (rate_take(&r, &low, SECOND))
		n++;
	ck_assert_int_eq(n, 2);
}
END_TEST

/* Against arithmetic that cannot overflow. */
START_TEST(like_the_model)
{
	uint64_t x = 88172645463325252u;

	for (int run = 0; run < 200; run++) {
		struct rate_limit limit;
		unsigned __int128 tokens;
		uint64_t now, last;
		struct rate r;

		x ^= x << 13, x ^= x >> 7, x ^= x << 17;
		limit.per_second = (uint32_t)(x >> 32) >> (x % 32) | 1;
		limit.burst = (uint32_t)(x >> 17) >> (x / 32 % 32) | 1;
		now = last = x % (1000 * SECOND);
		rate_init(&r, &limit, now);
		tokens = (unsigned __int128)limit.burst * SECOND;
		for (int i = 0; i < 500; i++) {
			bool expected;

			x ^= x << 13, x ^= x >> 7, x ^= x << 17;
			now += (x >> 20) >> (x % 44);
			tokens += (unsigned __int128)(now - last) * limit.per_second;
			if (tokens > (unsigned __int128)limit.burst * SECOND)
				tokens = (unsigned __int128)limit.burst * SECOND;
			last = now;
			expected = tokens >= SECOND;
			if (expected)
				tokens -= SECOND;
			ck_assert_int_eq(rate_take(&r, &limit, now), expected);
			ck_assert_uint_eq(r.tokens, (uint64_t)tokens);
		}
	}
}
END_TEST

int main(void)
{
	Suite *s = suite_create("rate");
	TCase *t = tcase_create("token bucket");
	SRunner *r;
	int failed;

	tcase_add_test(t, no_limit);
	tcase_add_test(t, burst_and_one_more);
	tcase_add_test(t, idle_earns_a_burst_and_no_more);
	tcase_add_test(t, no_drift);
	tcase_add_test(t, asking_often_costs_nothing);
	tcase_add_test(t, time_that_steps_back);
	tcase_add_test(t, extremes);
	tcase_add_test(t, a_lowered_limit_holds_at_once);
	tcase_add_test(t, like_the_model);
	suite_add_tcase(s, t);
	r = srunner_create(s);
	srunner_run_all(r, CK_NORMAL);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
