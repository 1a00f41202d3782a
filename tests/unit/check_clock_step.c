/* SPDX-License-Identifier: GPL-2.0-or-later */

/* Somebody sets the wall clock while the daemon runs: usage goes to other hours, and stays as much as it was. */

#include <check.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#include "daemon/base/util.h"
#include "tests/unit/rig.h"

#define VCPUS 4u /* at boot */
#define SLACK (NSEC_PER_SEC / 2)

/* The daemon's calls come here, since the program's symbols go before the C library's. */
static int64_t step; /* ns, of the wall clock */
static int watch = -1;

int clock_gettime(clockid_t clock, struct timespec *ret)
{
	int r = (int)syscall(SYS_clock_gettime, clock, ret);
	int64_t ns;

	if (r == 0 && clock == CLOCK_REALTIME) {
		ns = ret->tv_sec * (int64_t)NSEC_PER_SEC + ret->tv_nsec + step;
		ret->tv_sec = ns / (int64_t)NSEC_PER_SEC;
		ret->tv_nsec = ns % (int64_t)NSEC_PER_SEC;
	}
	return r;
}

/* Of the one that watches the wall clock the test is the kernel. */
int timerfd_create(int clock, int flags)
{
	if (clock != CLOCK_REALTIME)
		return (int)syscall(SYS_timerfd_create, clock, flags);
	watch = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	return watch;
}

int timerfd_settime(int fd, int flags, const struct itimerspec *spec, struct itimerspec *old)
{
	return fd == watch ? 0 : (int)syscall(SYS_timerfd_settime, fd, flags, spec, old);
}

static void set_clock(int hours)
{
	step += hours * (int64_t)USAGE_HOUR;
	ck_assert_int_ge(watch, 0);
	ck_assert_int_eq(eventfd_write(watch, 1), 0);
}

/* ---- usage ---- */

struct answer {
	struct usage_row rows[64];
	size_t n;
	bool last;
};

static int on_rows(const struct store_usage_row *rows, size_t n, bool last, int error, const char *why, void *userdata)
{
	struct answer *a = userdata;

	ck_assert_msg(error == 0, "%s", why);
	for (size_t i = 0; i < n; i++) {
		ck_assert_uint_lt(a->n, ARRAY_SIZE(a->rows));
		a->rows[a->n++] = rows[i].row;
	}
	a->last = last;
	return 0;
}

static struct answer query(struct rig *rig)
{
	const struct store_usage_filter all = {.until = UINT64_MAX};
	struct answer a = {0};

	ck_assert_int_eq(host_usage_query(rig->host, &all, on_rows, &a), 0);
	rig_until(rig, a.last);
	return a;
}

static uint64_t sum(const struct answer *a)
{
	uint64_t ns = 0;

	for (size_t i = 0; i < a->n; i++)
		ns += a->rows[i].guaranteed_ns + a->rows[i].burst_ns;
	return ns;
}

static uint64_t in_hour(const struct answer *a, uint64_t hour)
{
	uint64_t ns = 0;

	for (size_t i = 0; i < a->n; i++)
		if (a->rows[i].begin / USAGE_HOUR == hour)
			ns += a->rows[i].guaranteed_ns + a->rows[i].burst_ns;
	return ns;
}

static uint64_t boot_now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_BOOTTIME, &ts);
	return (uint64_t)ts.tv_sec * NSEC_PER_SEC + (uint64_t)ts.tv_nsec;
}

static void let_pass(struct rig *rig, uint64_t ns)
{
	uint64_t end = boot_now() + ns;

	rig_until(rig, boot_now() >= end);
}

START_TEST(test_usage_moves_and_stays)
{
	struct timespec real;
	uint64_t hour, before, begun, asked, ended;
	struct answer a;
	struct rig rig;
	struct vmm vmm;

	rig_open(&rig);
	/* the middle of an hour, so that none begins by itself */
	clock_gettime(CLOCK_REALTIME, &real);
	hour = (uint64_t)real.tv_sec / 3600;
	step = (int64_t)((hour * 3600 + 1800 - (uint64_t)real.tv_sec) * NSEC_PER_SEC);
	rig_start(&rig);
	before = boot_now();
	vmm_start(&vmm, &rig, 1);
	begun = boot_now();
	let_pass(&rig, NSEC_PER_SEC / 2);

	set_clock(3);
	let_pass(&rig, NSEC_PER_SEC / 2);
	set_clock(-5);
	let_pass(&rig, NSEC_PER_SEC + NSEC_PER_SEC / 10);
	asked = boot_now();
	a = query(&rig);
	ended = boot_now();

	ck_assert_uint_ge(sum(&a) + VCPUS * SLACK / 10, VCPUS * (asked - begun) - VCPUS * SLACK / 10);
	ck_assert_uint_le(sum(&a), VCPUS * (ended - before));
	ck_assert_uint_gt(in_hour(&a, hour), VCPUS * SLACK / 2);
	ck_assert_uint_gt(in_hour(&a, hour + 3), VCPUS * SLACK / 2);
	ck_assert_uint_gt(in_hour(&a, hour - 2), VCPUS * SLACK);
	ck_assert_uint_eq(sum(&a), in_hour(&a, hour) + in_hour(&a, hour + 3) + in_hour(&a, hour - 2));
	for (size_t i = 0; i < a.n; i++)
		ck_assert_uint_le(a.rows[i].begin, a.rows[i].end);
	vmm_close(&vmm);
	rig_close(&rig);
}
END_TEST

/* Back to an hour that has a row already: they are told apart, and none replaces the other, a restart in between or not. */
START_TEST(test_an_hour_that_comes_twice)
{
	struct answer once, twice;
	struct rig rig;
	struct vmm vmm;
	uint64_t begun;

	rig_open(&rig);
	rig_start(&rig);
	begun = boot_now();
	vmm_start(&vmm, &rig, 1);
	let_pass(&rig, NSEC_PER_SEC / 5);
	set_clock(1);
	let_pass(&rig, NSEC_PER_SEC / 5);
	set_clock(-1);
	let_pass(&rig, NSEC_PER_SEC / 5);
	once = query(&rig);
	ck_assert_uint_ge(once.n, 3);
	rig_stop(&rig);
	rig_start(&rig);
	twice = query(&rig);
	ck_assert_uint_ge(sum(&twice), sum(&once));
	ck_assert_uint_le(sum(&twice), VCPUS * (boot_now() - begun));
	vmm_close(&vmm);
	rig_close(&rig);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("clock step");
	TCase *tcase = tcase_create("usage");
	SRunner *runner;
	int failed;

	tcase_set_timeout(tcase, 60);
	tcase_add_test(tcase, test_usage_moves_and_stays);
	tcase_add_test(tcase, test_an_hour_that_comes_twice);
	suite_add_tcase(suite, tcase);
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_ENV);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
