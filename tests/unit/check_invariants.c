/* SPDX-License-Identifier: GPL-2.0-or-later */

/*
 * The design's invariants over random sequences of events (world.h). CPUPOLICY_TEST_SEED and CPUPOLICY_TEST_EVENTS choose
 * what is tried; the seed is printed, and the same seed does the same again.
 */

#include <check.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "tests/unit/world.h"

#define WORLDS 20

static uint64_t from_environment(const char *name, uint64_t otherwise)
{
	const char *value = getenv(name);

	return value && *value ? strtoull(value, NULL, 0) : otherwise;
}

static void run(struct world *w, uint64_t seed, uint64_t events)
{
	world_init(w, seed);
	for (uint64_t i = 1; i <= events; i++) {
		world_step(w);
		if (i % 2000 == 0)
			world_settle(w);
	}
}

START_TEST(invariants)
{
	uint64_t events = from_environment("CPUPOLICY_TEST_EVENTS", 4000000) / WORLDS;
	uint64_t seed = from_environment("CPUPOLICY_TEST_SEED", (uint64_t)time(NULL));
	uint64_t admitted = 0, denied = 0, crashes = 0, failed = 0, results[JOB_RESULT_MAX + 1] = {0};
	static struct world w;

	printf("seed %" PRIu64 "\n", seed);
	fflush(stdout);
	for (uint64_t i = 0; i < WORLDS; i++) {
		run(&w, seed + i, events);
		admitted += w.admitted;
		denied += w.denied;
		crashes += w.crashes;
		failed += w.failed_writes;
		for (int r = 0; r <= JOB_RESULT_MAX; r++)
			results[r] += w.job_results[r];
		world_done(&w);
	}
	printf("%" PRIu64 " CPU_ON admitted, %" PRIu64 " denied, %" PRIu64 " crashes, %" PRIu64 " failed writes\n",
	       admitted, denied, crashes, failed);
	for (int r = JOB_DONE; r <= JOB_RESULT_MAX; r++)
		printf("%" PRIu64 " jobs %s\n", results[r], job_result_name((enum job_result)r));
	/* A world in which little happens proves little. */
	if (events < 10000)
		return;
	ck_assert_uint_gt(admitted, 1000);
	ck_assert_uint_gt(denied, 1000);
	ck_assert_uint_gt(crashes, 100);
	ck_assert_uint_gt(failed, 100);
	for (int r = JOB_DONE; r <= JOB_RESULT_MAX; r++)
		ck_assert_uint_gt(results[r], 10);
}
END_TEST

START_TEST(same_seed_same_world)
{
	static struct world a, b;

	run(&a, 7, 20000);
	run(&b, 7, 20000);
	ck_assert_uint_eq(a.random, b.random);
	ck_assert_uint_eq(a.logged, b.logged);
	ck_assert_uint_eq(a.admitted, b.admitted);
	world_done(&a);
	world_done(&b);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("invariants");
	TCase *t = tcase_create("random events");
	SRunner *r;
	int failed;

	tcase_set_timeout(t, 300);
	tcase_add_test(t, invariants);
	tcase_add_test(t, same_seed_same_world);
	suite_add_tcase(s, t);
	r = srunner_create(s);
	srunner_run_all(r, CK_NORMAL);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
