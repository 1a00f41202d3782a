/* SPDX-License-Identifier: GPL-2.0-or-later */

#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/core/job.h"

/* What each tally means; a tally above one counts like one. */
static const struct {
	uint32_t pending, settled, refused;
	bool forbidden;
	enum job_result in_time, expired;
} outcomes[] = {
	{0, 0, 0, false, JOB_DONE, JOB_DONE}, /* there was nothing to do */
	{0, 1, 0, false, JOB_DONE, JOB_DONE},
	{0, 0, 1, false, JOB_GUEST_REFUSED, JOB_GUEST_REFUSED},
	{0, 0, 1, true, JOB_GUEST_FORBIDDEN, JOB_GUEST_FORBIDDEN},
	{0, 0, 2, true, JOB_GUEST_FORBIDDEN, JOB_GUEST_FORBIDDEN},
	{0, 1, 1, false, JOB_PARTIAL, JOB_PARTIAL},
	{0, 1, 1, true, JOB_PARTIAL, JOB_PARTIAL},
	{1, 0, 0, false, JOB_RUNNING, JOB_TIMEOUT},
	{1, 1, 0, false, JOB_RUNNING, JOB_PARTIAL},
	{1, 0, 1, false, JOB_RUNNING, JOB_TIMEOUT},
	{1, 0, 1, true, JOB_RUNNING, JOB_TIMEOUT},
	{1, 1, 1, false, JOB_RUNNING, JOB_PARTIAL},
	{1, 1, 1, true, JOB_RUNNING, JOB_PARTIAL},
};

START_TEST(every_outcome)
{
	for (size_t i = 0; i < sizeof(outcomes) / sizeof(outcomes[0]); i++) {
		struct job j = {.id = 1,
				.pending = outcomes[i].pending,
				.settled = outcomes[i].settled,
				.refused = outcomes[i].refused,
				.forbidden = outcomes[i].forbidden};

		ck_assert_msg(job_outcome(&j, false) == outcomes[i].in_time, "row %zu in time: %s", i,
			      job_result_name(job_outcome(&j, false)));
		ck_assert_msg(job_outcome(&j, true) == outcomes[i].expired, "row %zu expired: %s", i,
			      job_result_name(job_outcome(&j, true)));
		j.pending *= 7;
		j.settled *= 7;
		j.refused *= 7;
		ck_assert_int_eq(job_outcome(&j, false), outcomes[i].in_time);
		ck_assert_int_eq(job_outcome(&j, true), outcomes[i].expired);
	}
}
END_TEST

START_TEST(start_running)
{
	struct job j;

	memset(&j, 0xff, sizeof(j));
	job_start(&j, 9, 4, 6, 1000, false, 50);
	ck_assert_uint_eq(j.id, 9);
	ck_assert_uint_eq(j.from, 4);
	ck_assert_uint_eq(j.to, 6);
	ck_assert_int_eq(j.result, JOB_RUNNING);
	ck_assert_uint_eq(j.uid, UINT32_MAX);
	ck_assert_uint_eq(j.pending + j.settled + j.refused, 0);
	ck_assert(!j.forbidden && !j.online && !j.stopped);
	ck_assert_uint_eq(job_deadline(&j), 1050);
}
END_TEST

START_TEST(the_clock_stands_while_paused)
{
	struct job j;

	job_start(&j, 1, 4, 6, 1000, false, 0);
	job_pause(&j, 400);
	ck_assert_uint_eq(job_deadline(&j), UINT64_MAX);
	job_pause(&j, 900); /* paused already: nothing lost */
	job_continue(&j, 5000);
	ck_assert_uint_eq(job_deadline(&j), 5600);
	job_continue(&j, 5500); /* nor won */
	ck_assert_uint_eq(job_deadline(&j), 5600);
	job_pause(&j, 5600);
	job_continue(&j, 9000);
	ck_assert_uint_eq(job_deadline(&j), 9000);
	job_pause(&j, 9500); /* after its time: none is left, none is owed */
	job_continue(&j, 10000);
	ck_assert_uint_eq(job_deadline(&j), 10000);
}
END_TEST

START_TEST(started_while_paused)
{
	struct job j;

	job_start(&j, 1, 4, 6, 1000, true, 70);
	ck_assert_uint_eq(job_deadline(&j), UINT64_MAX);
	job_continue(&j, 100000);
	ck_assert_uint_eq(job_deadline(&j), 101000);
}
END_TEST

START_TEST(no_job_has_no_deadline)
{
	struct job j = {0};

	ck_assert_uint_eq(job_deadline(&j), UINT64_MAX);
	job_pause(&j, 5);
	job_continue(&j, 6);
	ck_assert_uint_eq(job_deadline(&j), UINT64_MAX);
	job_start(&j, 1, 1, 2, 10, false, 0);
	j.result = JOB_DONE;
	ck_assert_uint_eq(job_deadline(&j), UINT64_MAX);
}
END_TEST

START_TEST(far_deadlines_saturate)
{
	static const uint64_t far[] = {UINT64_MAX, UINT64_MAX - 1, UINT64_MAX - 5};
	struct job j;

	for (size_t i = 0; i < 3; i++) {
		job_start(&j, 1, 1, 2, far[i], false, 100);
		ck_assert_uint_eq(job_deadline(&j), UINT64_MAX - 1);
		job_start(&j, 1, 1, 2, 100, false, far[i]);
		ck_assert_uint_eq(job_deadline(&j), UINT64_MAX - 1);
	}
	job_start(&j, 1, 1, 2, 100, false, UINT64_MAX - 102);
	ck_assert_uint_eq(job_deadline(&j), UINT64_MAX - 2);
}
END_TEST

START_TEST(names)
{
	static const char *const expected[] = {"running",         "done",    "partial",    "guest-refused",
					       "guest-forbidden", "timeout", "superseded", "disconnected",
					       "storage"};

	for (unsigned i = 0; i <= JOB_RESULT_MAX; i++)
		ck_assert_str_eq(job_result_name((enum job_result)i), expected[i]);
	ck_assert_str_eq(job_result_name((enum job_result)(JOB_RESULT_MAX + 1)), "unknown");
	ck_assert_str_eq(job_result_name((enum job_result) - 1), "unknown");
}
END_TEST

int main(void)
{
	Suite *s = suite_create("job");
	TCase *t = tcase_create("job");
	SRunner *r;
	int failed;

	tcase_add_test(t, every_outcome);
	tcase_add_test(t, start_running);
	tcase_add_test(t, the_clock_stands_while_paused);
	tcase_add_test(t, started_while_paused);
	tcase_add_test(t, no_job_has_no_deadline);
	tcase_add_test(t, far_deadlines_saturate);
	tcase_add_test(t, names);
	suite_add_tcase(s, t);
	r = srunner_create(s);
	srunner_run_all(r, CK_NORMAL);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
