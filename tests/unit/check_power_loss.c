/* SPDX-License-Identifier: GPL-2.0-or-later */

/* What the store says is durable is there after power was lost at any moment, whole, and with what belongs to it. */

#include <check.h>
#include <ftw.h>
#include <inttypes.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "daemon/store/store.h"
#include "daemon/base/util.h"
#include "tests/unit/powerloss.h"

#define DEADLINE   (30 * NSEC_PER_SEC)
#define VMS        6u
#define LOSSES     100u
#define OPERATIONS 120u  /* at most, until power is lost ... */
#define MANY       6000u /* ... and in long lives, in which the log is folded into the database */

static struct loop *loop;
static struct store *store;
static char directory[64];
static char *error;

/* Of each VM: the number of the last write that was asked for, that is known to be durable, and that was when power went. */
static uint32_t sent[VMS];
static _Atomic uint32_t durable[VMS];
static uint32_t durable_then[VMS];
static unsigned n_awaited;

/* ---- the scene ---- */

static void setup(void)
{
	ck_assert_int_eq(loop_new(&loop), 0);
	strcpy(directory, "/tmp/check-power-XXXXXX");
	ck_assert_ptr_nonnull(mkdtemp(directory));
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	return remove(path);
}

static void teardown(void)
{
	store = store_close(store);
	loop = loop_free(loop);
	free(error);
	nftw(directory, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

/* ---- writing ---- */

/* Everything in it says which write it is of. */
static struct store_vm make_vm(unsigned vm, uint32_t number)
{
	struct usage_row row = {.number = number / 8 + 1, .begin = 1, .end = 2, .guaranteed_ns = number};
	struct store_vm v = {
		.uuid = {[0] = (uint8_t)vm, [15] = 1},
		.possible = 512,
		.boot = 1,
		.desired = 1 + number % 512,
		.epoch = number,
		.desired_uid = UINT32_MAX,
		.assigned_uid = UINT32_MAX,
		.enabled = calloc(64, 1),
		.wanted = calloc(64, 1),
		.class = strdup("gold"),
		.meters = {.at = number, .row = row, .last_row = row.number},
	};

	memset(v.enabled, (int)(number & 0xff), 64);
	ck_assert_int_gt(asprintf(&v.name, "vm%u", vm), 0);
	return v;
}

struct write {
	unsigned vm;
	uint32_t number;
};

static void on_done(int r, const char *why, void *userdata)
{
	struct write *w = userdata;

	/* a disk without power goes on taking writes */
	ck_assert_msg(r == 0, "%s", why);
	if (w->number > durable[w->vm])
		durable[w->vm] = w->number;
	free(w);
	if (--n_awaited == 0)
		loop_quit(loop);
}

static void put(unsigned vm)
{
	struct write *w = malloc(sizeof(*w));
	struct store_vm record = make_vm(vm, ++sent[vm]);

	*w = (struct write){.vm = vm, .number = sent[vm]};
	ck_assert_int_eq(store_put(store, &record, on_done, w), 0);
	n_awaited++;
}

static void fail_late(void *userdata)
{
	ck_abort_msg("%u answers did not come", n_awaited);
}

static void await(void)
{
	struct loop_timer *timer;

	ck_assert_int_eq(loop_timer_new(&timer, loop, fail_late, NULL), 0);
	loop_timer_set(timer, loop_now(loop) + DEADLINE);
	while (n_awaited > 0)
		ck_assert_int_eq(loop_run(loop), 0);
	loop_timer_free(timer);
}

/* ---- comparing ---- */

static uint32_t found[VMS];

static int on_vm(struct store_vm *vm, void *userdata)
{
	unsigned i = vm->uuid[0];
	const struct usage_row *row = &vm->meters.row;

	ck_assert_uint_lt(i, VMS);
	found[i] = vm->epoch;
	ck_assert_uint_eq(vm->desired, 1 + vm->epoch % 512);
	for (unsigned k = 0; k < 64; k++)
		ck_assert_uint_eq(vm->enabled[k], vm->epoch & 0xff);
	/* the row is of another table, and of the same transaction */
	ck_assert_uint_eq(row->number, vm->epoch / 8 + 1);
	ck_assert_uint_eq(row->guaranteed_ns, vm->epoch);
	return 0;
}

static bool is_whole(void)
{
	memset(found, 0, sizeof(found));
	free(error);
	error = NULL;
	return store_open(&store, loop, directory, &error) == 0 && store_load(store, on_vm, NULL, &error) == 0;
}

static void at_loss(void)
{
	for (unsigned i = 0; i < VMS; i++)
		durable_then[i] = durable[i];
}

/* Lost are VMs whose durable state is not there. */
static unsigned count_lost(void)
{
	unsigned lost = 0;

	for (unsigned i = 0; i < VMS; i++) {
		ck_assert_uint_le(found[i], sent[i]);
		lost += found[i] < durable_then[i];
	}
	return lost;
}

static void work(bool longer)
{
	/* power may be gone before the store is open, or while it recovers */
	while (!powerloss_is_lost() && (longer || powerloss_random(30) != 0)) {
		for (uint64_t n = 1 + powerloss_random(4); n > 0; n--)
			put((unsigned)powerloss_random(VMS));
		if (powerloss_random(3) != 0)
			await();
	}
	await();
}

/* One life of the disk; the next begins with what is left. */
static unsigned live(void)
{
	bool longer = powerloss_random(20) == 0;
	unsigned lost;

	for (unsigned i = 0; i < VMS; i++)
		durable[i] = sent[i] = found[i];
	powerloss_after(1 + (unsigned)powerloss_random(longer ? MANY : OPERATIONS), at_loss);
	if (store)
		work(longer);
	powerloss_now();
	store = store_close(store);
	powerloss_restore(directory);
	if (!is_whole())
		return VMS;
	lost = count_lost();
	/* the next power loss may come while what this one left is being recovered: it is opened again */
	store = store_close(store);
	powerloss_restore(directory);
	return lost;
}

static bool open_again(void)
{
	powerloss_after(powerloss_random(4) == 0 ? 1 + (unsigned)powerloss_random(6) : 0, at_loss);
	at_loss();
	return is_whole();
}

START_TEST(test_what_is_durable_survives)
{
	uint64_t seed = UINT64_C(0x9e3779b97f4a7c15) * (uint64_t)(_i + 1);

	powerloss_install(seed);
	for (unsigned n = 0; n < LOSSES; n++) {
		unsigned lost;

		ck_assert_msg(open_again(), "seed %d, loss %u: %s", _i, n, error ? error : "?");
		lost = live();
		ck_assert_msg(!error, "seed %d, loss %u: %s", _i, n, error);
		ck_assert_msg(lost == 0, "seed %d, loss %u: %u VMs are not as they were said to be", _i, n, lost);
	}
	ck_assert_uint_gt(powerloss_operations(), LOSSES * 10);
}
END_TEST

/* The same on a disk that does not sync: if this found nothing, the test above would not either. */
START_TEST(test_a_disk_that_lies_is_found_out)
{
	unsigned lost = 0;

	powerloss_install(42);
	powerloss_lie(true);
	for (unsigned n = 0; n < 50 && lost == 0; n++)
		lost = open_again() ? live() : VMS;
	ck_assert_uint_gt(lost, 0);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("power loss");
	TCase *tcase = tcase_create("store");
	SRunner *runner;
	int failed;

	tcase_add_checked_fixture(tcase, setup, teardown);
	tcase_set_timeout(tcase, 120);
	tcase_add_loop_test(tcase, test_what_is_durable_survives, 0, 3);
	tcase_add_test(tcase, test_a_disk_that_lies_is_found_out);
	suite_add_tcase(suite, tcase);
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_ENV);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
