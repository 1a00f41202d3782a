/* SPDX-License-Identifier: GPL-2.0-or-later */

/*
 * The rules of docs/service-levels.md over random schedules of many VMs (fleet_world.h). CPUPOLICY_TEST_SEED and
 * CPUPOLICY_TEST_EVENTS choose what is tried; the seed is printed, and the same seed does the same again.
 */

#include <check.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "tests/unit/fleet_world.h"

#define WORLDS 12

static uint64_t from_environment(const char *name, uint64_t otherwise)
{
	const char *value = getenv(name);

	return value && *value ? strtoull(value, NULL, 0) : otherwise;
}

static void run(struct fleet_world *w, uint64_t seed, uint64_t events, unsigned hand_over)
{
	uint64_t settled = 0;

	fleet_world_init(w, seed);
	w->hand_over = hand_over;
	while (w->events < events) {
		fleet_world_step(w);
		if (w->events / 3000 > settled) {
			fleet_world_settle(w);
			settled = w->events / 3000;
		}
	}
}

static struct fleet_world w, other;

START_TEST(invariants)
{
	uint64_t events = from_environment("CPUPOLICY_TEST_EVENTS", 3000000) / WORLDS;
	uint64_t seed = from_environment("CPUPOLICY_TEST_SEED", (uint64_t)time(NULL));
	uint64_t kinds[FLEET_EVENT_MAX + 1] = {0}, refused[RULE_MAX + 1] = {0}, bound[RULE_MAX + 1] = {0};
	uint64_t lent = 0, revoked = 0, capped = 0, fractional = 0, crashes = 0, reloads = 0;

	printf("seed %" PRIu64 "\n", seed);
	fflush(stdout);
	for (uint64_t i = 0; i < WORLDS; i++) {
		run(&w, seed + i, events, 100);
		for (int k = 1; k <= FLEET_EVENT_MAX; k++)
			kinds[k] += w.kinds[k];
		for (int k = 1; k <= RULE_MAX; k++) {
			refused[k] += w.refused[k];
			bound[k] += w.bound[k];
		}
		lent += w.lent;
		revoked += w.revoked;
		capped += w.capped;
		fractional += w.fractional;
		crashes += w.crashes;
		reloads += w.reloads;
		fleet_world_done(&w);
	}
	for (int k = 1; k <= FLEET_EVENT_MAX; k++)
		printf("%" PRIu64 " %s\n", kinds[k], fleet_event_name((enum fleet_event_kind)k));
	for (int k = 1; k <= RULE_MAX; k++)
		printf("%s: %" PRIu64 " refused, %" PRIu64 " bound\n", rule_name((enum rule)k), refused[k], bound[k]);
	printf("%" PRIu64 " times lent, %" PRIu64 " asks for what is revoked, %" PRIu64 " crashes, %" PRIu64
	       " reloads\n",
	       lent, revoked, crashes, reloads);
	/* A world in which little happens proves little. */
	if (events < 50000)
		return;
	for (int k = 1; k <= FLEET_EVENT_MAX; k++)
		ck_assert_msg(kinds[k] > 50, "%s", fleet_event_name((enum fleet_event_kind)k));
	for (int k = RULE_LIMIT; k <= RULE_DRAINED; k++)
		ck_assert_msg((k == RULE_FROZEN ? refused : bound)[k] > 50, "not met: %s", rule_name((enum rule)k));
	ck_assert_uint_gt(lent, 1000);
	ck_assert_uint_gt(revoked, 100);
	ck_assert_uint_gt(capped, 10000);
	ck_assert_uint_gt(fractional, 1000);
	ck_assert_uint_gt(crashes, 20);
	ck_assert_uint_gt(reloads, 100);
}
END_TEST

START_TEST(same_seed_same_world)
{
	run(&w, 7, 30000, 0);
	run(&other, 7, 30000, 0);
	ck_assert_uint_eq(w.random, other.random);
	ck_assert_uint_eq(w.hash, other.hash);
	fleet_world_done(&w);
	fleet_world_done(&other);
}
END_TEST

/* The daemon is replaced in the midst of anything, and nobody can tell. */
START_TEST(handed_over)
{
	uint64_t seed = from_environment("CPUPOLICY_TEST_SEED", (uint64_t)time(NULL));

	for (unsigned i = 0; i < 4; i++) {
		run(&w, seed + i, 40000, 0);
		run(&other, seed + i, 40000, 3 + 7 * i);
		ck_assert_uint_eq(w.random, other.random);
		ck_assert_msg(w.hash == other.hash, "seed %" PRIu64, seed + i);
		ck_assert_uint_gt(other.handed_over, 300);
		fleet_world_done(&w);
		fleet_world_done(&other);
	}
}
END_TEST

int main(void)
{
	Suite *s = suite_create("fleet invariants");
	TCase *t = tcase_create("random events");
	SRunner *r;
	int failed;

	tcase_set_timeout(t, 300);
	tcase_add_test(t, invariants);
	tcase_add_test(t, same_seed_same_world);
	tcase_add_test(t, handed_over);
	suite_add_tcase(s, t);
	r = srunner_create(s);
	srunner_run_all(r, CK_NORMAL);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
