/* SPDX-License-Identifier: GPL-2.0-or-later */

#include <check.h>
#include <ftw.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "daemon/settings/capacity.h"
#include "daemon/base/util.h"

#define DEADLINE (30 * NSEC_PER_SEC)

static struct loop *loop;
static struct capacity *capacity;
static char root[64];
static unsigned n_calls;
static uint32_t told;

static void setup(void)
{
	ck_assert_int_eq(loop_new(&loop), 0);
	strcpy(root, "/tmp/check-capacity-XXXXXX");
	ck_assert_ptr_nonnull(mkdtemp(root));
	capacity = NULL;
	n_calls = 0;
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	return remove(path);
}

static void teardown(void)
{
	capacity = capacity_free(capacity);
	loop = loop_free(loop);
	nftw(root, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

static void make_directories(const char *path)
{
	char made[512];

	snprintf(made, sizeof(made), "%s/", root);
	for (const char *p = path; *p; p++) {
		strncat(made, p, 1);
		if (p[1] == '/' || !p[1])
			mkdir(made, 0700);
	}
}

/* "w" replaces what is there, as writing to a file of the kernel does. */
static void put(const char *path, const char *text)
{
	char full[512];
	FILE *f;

	snprintf(full, sizeof(full), "%s/%s", root, path);
	f = fopen(full, "we");
	ck_assert_ptr_nonnull(f);
	ck_assert_int_ge(fputs(text, f), 0);
	ck_assert_int_eq(fclose(f), 0);
}

static void make_tree(const char *cgroup)
{
	char text[256];

	make_directories("proc/self");
	make_directories("sys/fs/cgroup/vms.slice/daemon.service");
	snprintf(text, sizeof(text), "12:cpuset:/old\n0::%s\n", cgroup);
	put("proc/self/cgroup", text);
}

static void on_change(uint32_t cpus, void *userdata)
{
	n_calls++;
	told = cpus;
	loop_quit(loop);
}

static void make(void)
{
	ck_assert_int_eq(capacity_new(&capacity, loop, root, on_change, NULL), 0);
}

static void fail_late(void *userdata)
{
	ck_abort_msg("no change was noticed");
}

static void await_change(void)
{
	struct loop_timer *timer;

	ck_assert_int_eq(loop_timer_new(&timer, loop, fail_late, NULL), 0);
	loop_timer_set(timer, loop_now(loop) + DEADLINE);
	ck_assert_int_eq(loop_run(loop), 0);
	loop_timer_free(timer);
}

static uint32_t affinity(void)
{
	cpu_set_t set;

	ck_assert_int_eq(sched_getaffinity(0, sizeof(set), &set), 0);
	return (uint32_t)CPU_COUNT(&set);
}

START_TEST(lists)
{
	static const struct {
		const char *text;
		int r;
		uint32_t count;
	} cases[] = {
		{"", 0, 0},
		{"\n", 0, 0},
		{"0", 0, 1},
		{"0-3\n", 0, 4},
		{"0-3,8,10-11\n", 0, 7},
		{"4095-8191\n", 0, 4097},
		{"3-2", -EINVAL, 0},
		{"1,1", -EINVAL, 0},
		{"2,1", -EINVAL, 0},
		{"0-3,2", -EINVAL, 0},
		{",", -EINVAL, 0},
		{"1,", -EINVAL, 0},
		{"1-", -EINVAL, 0},
		{"-1", -EINVAL, 0},
		{"1 2", -EINVAL, 0},
		{"0x1", -EINVAL, 0},
		{"1\n2", -EINVAL, 0},
		{"99999999999", -EINVAL, 0},
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		uint32_t count = 77;

		ck_assert_int_eq(capacity_count_list(cases[i].text, &count), cases[i].r);
		ck_assert_uint_eq(count, cases[i].r < 0 ? 77 : cases[i].count);
	}
}
END_TEST

START_TEST(nearest_cpuset_counts)
{
	make_tree("/vms.slice/daemon.service");
	put("sys/fs/cgroup/cpuset.cpus.effective", "0-99\n");
	make();
	ck_assert_uint_eq(capacity_cpus(capacity), 100);
	put("sys/fs/cgroup/vms.slice/cpuset.cpus.effective", "0-19,30\n");
	capacity_reread(capacity);
	ck_assert_uint_eq(capacity_cpus(capacity), 21);
	put("sys/fs/cgroup/vms.slice/daemon.service/cpuset.cpus.effective", "4000\n");
	capacity_reread(capacity);
	ck_assert_uint_eq(capacity_cpus(capacity), 1);
	ck_assert_uint_eq(n_calls, 0);
}
END_TEST

START_TEST(root_cgroup)
{
	make_tree("/");
	put("sys/fs/cgroup/cpuset.cpus.effective", "0-6\n");
	make();
	ck_assert_uint_eq(capacity_cpus(capacity), 7);
}
END_TEST

/* Without a cpuset, or one that says nothing of use: what the scheduler says. */
START_TEST(scheduler_is_asked_last)
{
	make();
	ck_assert_uint_eq(capacity_cpus(capacity), affinity());
	make_tree("/vms.slice/daemon.service");
	capacity_reread(capacity);
	ck_assert_uint_eq(capacity_cpus(capacity), affinity());
	put("sys/fs/cgroup/vms.slice/cpuset.cpus.effective", "\n");
	put("sys/fs/cgroup/cpuset.cpus.effective", "some\n");
	capacity_reread(capacity);
	ck_assert_uint_eq(capacity_cpus(capacity), affinity());
}
END_TEST

START_TEST(this_host)
{
	ck_assert_int_eq(capacity_new(&capacity, loop, "", on_change, NULL), 0);
	ck_assert_uint_ge(capacity_cpus(capacity), 1);
	ck_assert_uint_le(capacity_cpus(capacity), (uint32_t)sysconf(_SC_NPROCESSORS_CONF));
}
END_TEST

/* The effective set is another one, and nobody wrote to a file: as the kernel changes it. */
static void set_silently(const char *effective)
{
	char from[512], to[512];

	make_directories("sys/fs/cgroup/new.slice/daemon.service");
	put("sys/fs/cgroup/new.slice/cpuset.cpus", "\n");
	put("sys/fs/cgroup/new.slice/cpuset.cpus.effective", effective);
	snprintf(from, sizeof(from), "%s/sys/fs/cgroup/vms.slice", root);
	snprintf(to, sizeof(to), "%s/sys/fs/cgroup/old.slice-%u", root, n_calls);
	ck_assert_int_eq(rename(from, to), 0);
	snprintf(to, sizeof(to), "%s/sys/fs/cgroup/vms.slice", root);
	snprintf(from, sizeof(from), "%s/sys/fs/cgroup/new.slice", root);
	ck_assert_int_eq(rename(from, to), 0);
}

START_TEST(writes_are_noticed)
{
	make_tree("/vms.slice/daemon.service");
	put("sys/fs/cgroup/cpuset.cpus", "\n");
	put("sys/fs/cgroup/vms.slice/cpuset.cpus", "0-7\n");
	put("sys/fs/cgroup/vms.slice/cpuset.cpus.effective", "0-7\n");
	make();
	ck_assert_uint_eq(capacity_cpus(capacity), 8);
	put("sys/fs/cgroup/vms.slice/cpuset.cpus", "0-3\n");
	set_silently("0-3\n");
	await_change();
	ck_assert_uint_eq(told, 4);
	ck_assert_uint_eq(capacity_cpus(capacity), 4);
	ck_assert_uint_eq(n_calls, 1);
	/* above it */
	put("sys/fs/cgroup/cpuset.cpus", "0-4\n");
	set_silently("0-4\n");
	await_change();
	ck_assert_uint_eq(told, 5);
}
END_TEST

/* Our cgroup is given a set of its own: its files are there only from then on. */
START_TEST(cpuset_that_is_new_is_watched)
{
	make_tree("/vms.slice/daemon.service");
	put("sys/fs/cgroup/vms.slice/cgroup.subtree_control", "\n");
	put("sys/fs/cgroup/vms.slice/cpuset.cpus.effective", "0-7\n");
	make();
	put("sys/fs/cgroup/vms.slice/daemon.service/cpuset.cpus", "\n");
	put("sys/fs/cgroup/vms.slice/daemon.service/cpuset.cpus.effective", "0-5\n");
	put("sys/fs/cgroup/vms.slice/cgroup.subtree_control", "cpuset\n");
	await_change();
	ck_assert_uint_eq(told, 6);
	put("sys/fs/cgroup/vms.slice/daemon.service/cpuset.cpus.effective", "0-1\n");
	await_change();
	ck_assert_uint_eq(told, 2);
}
END_TEST

static void set_late(void *userdata)
{
	set_silently("0-2\n");
}

/* The kernel computes the effective set a while after what it is made from was written. */
START_TEST(late_set_is_seen_at_the_second_look)
{
	struct loop_deferred *late;

	make_tree("/vms.slice/daemon.service");
	put("sys/fs/cgroup/vms.slice/cpuset.cpus", "0-7\n");
	put("sys/fs/cgroup/vms.slice/cpuset.cpus.effective", "0-7\n");
	make();
	put("sys/fs/cgroup/vms.slice/cpuset.cpus", "0-2\n");
	/* runs at the end of the turn of the first look */
	ck_assert_int_eq(loop_deferred_new(&late, loop, set_late, NULL), 0);
	loop_deferred_schedule(late);
	await_change();
	ck_assert_uint_eq(told, 3);
	loop_deferred_free(late);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("capacity");
	TCase *tc = tcase_create("capacity");
	SRunner *runner;
	int failed;

	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_set_timeout(tc, 60);
	tcase_add_test(tc, lists);
	tcase_add_test(tc, nearest_cpuset_counts);
	tcase_add_test(tc, root_cgroup);
	tcase_add_test(tc, scheduler_is_asked_last);
	tcase_add_test(tc, this_host);
	tcase_add_test(tc, writes_are_noticed);
	tcase_add_test(tc, cpuset_that_is_new_is_watched);
	tcase_add_test(tc, late_set_is_seen_at_the_second_look);
	suite_add_tcase(suite, tc);
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
