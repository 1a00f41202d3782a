/* SPDX-License-Identifier: GPL-2.0-or-later */

#include <check.h>
#include <signal.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "daemon/base/loop.h"
#include "daemon/base/util.h"

#define MSEC 1000000ull

static struct loop *loop;
static int pair[2];

static void setup(void)
{
	ck_assert_int_eq(loop_new(&loop), 0);
	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair), 0);
}

static void teardown(void)
{
	close(pair[0]);
	close(pair[1]);
	loop = loop_free(loop);
}

static void run(void)
{
	ck_assert_int_eq(loop_run(loop), 0);
}

static void quit(void *userdata)
{
	loop_quit(loop);
}

static uint64_t boottime(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_BOOTTIME, &ts);
	return (uint64_t)ts.tv_sec * NSEC_PER_SEC + (uint64_t)ts.tv_nsec;
}

/* ---- descriptors ---- */

struct watched {
	struct loop_io *io;
	unsigned reads, writes;
	unsigned quit_after; /* calls */
	bool free_self;
	struct watched *free_other;
};

static void on_io(int fd, unsigned events, void *userdata)
{
	struct watched *w = userdata;

	ck_assert_ptr_nonnull(w->io);
	if (events & LOOP_READ)
		w->reads++;
	if (events & LOOP_WRITE)
		w->writes++;
	if (w->free_other)
		w->free_other->io = loop_io_free(w->free_other->io);
	if (w->reads + w->writes == w->quit_after)
		loop_quit(loop);
	if (w->free_self)
		w->io = loop_io_free(w->io);
}

START_TEST(io_is_level_triggered)
{
	struct watched w = {.quit_after = 3};

	ck_assert_int_eq(loop_io_new(&w.io, loop, pair[0], LOOP_READ, on_io, &w), 0);
	ck_assert_int_eq(write(pair[1], "x", 1), 1);
	run(); /* nobody reads the byte: it is told again and again */
	ck_assert_uint_eq(w.reads, 3);
	ck_assert_uint_eq(w.writes, 0);
	loop_io_free(w.io);
}
END_TEST

START_TEST(io_watches_what_it_is_set_to)
{
	struct watched w = {.quit_after = 1};
	struct loop_timer *timer;

	ck_assert_int_eq(loop_io_new(&w.io, loop, pair[0], 0, on_io, &w), 0);
	ck_assert_int_eq(write(pair[1], "x", 1), 1);
	ck_assert_int_eq(loop_timer_new(&timer, loop, quit, NULL), 0);
	ck_assert_int_eq(loop_timer_set(timer, loop_now(loop) + 20 * MSEC), 0);
	run(); /* readable and writable, and nothing is watched */
	ck_assert_uint_eq(w.reads + w.writes, 0);

	ck_assert_int_eq(loop_io_set(w.io, LOOP_WRITE), 0);
	run();
	ck_assert_uint_eq(w.reads, 0);
	ck_assert_uint_eq(w.writes, 1);

	w.quit_after = 2;
	ck_assert_int_eq(loop_io_set(w.io, LOOP_READ), 0);
	run();
	ck_assert_uint_eq(w.reads, 1);
	ck_assert_uint_eq(w.writes, 1);

	w.quit_after = 4;
	ck_assert_int_eq(loop_io_set(w.io, LOOP_READ | LOOP_WRITE), 0);
	run();
	ck_assert_uint_eq(w.reads, 2);
	ck_assert_uint_eq(w.writes, 2);
	loop_timer_free(timer);
	loop_io_free(w.io);
}
END_TEST

START_TEST(io_tells_of_hangup)
{
	struct watched w = {.quit_after = 1};
	int other[2];

	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, other), 0);
	ck_assert_int_eq(loop_io_new(&w.io, loop, other[0], LOOP_READ, on_io, &w), 0);
	close(other[1]);
	run();
	ck_assert_uint_eq(w.reads, 1);
	loop_io_free(w.io);
	close(other[0]);
}
END_TEST

/* Both are ready in one turn; whichever comes first frees the other and itself, and the other must not be called. */
START_TEST(io_may_be_freed_by_callbacks)
{
	struct watched a = {.free_self = true, .quit_after = 1}, b = {.free_self = true, .quit_after = 1};

	a.free_other = &b;
	b.free_other = &a;
	ck_assert_int_eq(loop_io_new(&a.io, loop, pair[0], LOOP_READ | LOOP_WRITE, on_io, &a), 0);
	ck_assert_int_eq(loop_io_new(&b.io, loop, pair[1], LOOP_READ | LOOP_WRITE, on_io, &b), 0);
	ck_assert_int_eq(write(pair[0], "x", 1), 1);
	ck_assert_int_eq(write(pair[1], "x", 1), 1);
	run();
	ck_assert_uint_eq(a.reads + a.writes + b.reads + b.writes, 1);
	ck_assert_ptr_null(a.io);
	ck_assert_ptr_null(b.io);
}
END_TEST

START_TEST(io_refuses_a_bad_descriptor)
{
	struct loop_io *io = NULL;
	int fd = dup(pair[0]);

	close(fd);
	ck_assert_int_eq(loop_io_new(&io, loop, fd, LOOP_READ, on_io, NULL), -EBADF);
	ck_assert_ptr_null(io);
	ck_assert_ptr_null(loop_io_free(NULL));
}
END_TEST

/* ---- timers ---- */

#define N_TIMERS 1000

struct firing {
	struct loop_timer *timer;
	uint64_t when;
	bool fired;
};

static struct firing firings[N_TIMERS];
static unsigned n_fired;
static uint64_t last_when;

static void on_firing(void *userdata)
{
	struct firing *f = userdata;

	ck_assert(!f->fired);
	ck_assert_uint_ge(loop_now(loop), f->when);
	ck_assert_uint_ge(f->when, last_when);
	last_when = f->when;
	f->fired = true;
	n_fired++;
}

/* A thousand timers set, set anew, disarmed and freed at random: each one left fires once, in order, not early. */
START_TEST(timers_fire_in_order)
{
	struct loop_timer *end;
	uint64_t start = loop_now(loop);
	unsigned expected = 0;

	srandom(1);
	n_fired = 0;
	last_when = 0;
	for (unsigned i = 0; i < N_TIMERS; i++) {
		firings[i].fired = false;
		firings[i].when = UINT64_MAX;
		ck_assert_int_eq(loop_timer_new(&firings[i].timer, loop, on_firing, &firings[i]), 0);
	}
	for (unsigned i = 0; i < 10 * N_TIMERS; i++) {
		struct firing *f = &firings[random() % N_TIMERS];

		f->when = random() % 8 == 0 ? UINT64_MAX : start + (uint64_t)(random() % 50) * MSEC;
		loop_timer_set(f->timer, f->when);
	}
	for (unsigned i = 0; i < N_TIMERS; i += 7) {
		firings[i].timer = loop_timer_free(firings[i].timer);
		firings[i].when = UINT64_MAX;
	}
	for (unsigned i = 0; i < N_TIMERS; i++)
		expected += firings[i].when != UINT64_MAX;
	ck_assert_uint_gt(expected, N_TIMERS / 2);
	ck_assert_int_eq(loop_timer_new(&end, loop, quit, NULL), 0);
	loop_timer_set(end, start + 50 * MSEC);
	run();
	ck_assert_uint_eq(n_fired, expected);
	for (unsigned i = 0; i < N_TIMERS; i++) {
		ck_assert(firings[i].fired == (firings[i].when != UINT64_MAX));
		loop_timer_free(firings[i].timer);
	}
	loop_timer_free(end);
}
END_TEST

static void free_timer(void *userdata)
{
	struct loop_timer **timer = userdata;

	*timer = loop_timer_free(*timer);
	loop_quit(loop);
}

START_TEST(timer_may_free_itself)
{
	struct loop_timer *timer;

	ck_assert_int_eq(loop_timer_new(&timer, loop, free_timer, &timer), 0);
	loop_timer_set(timer, 0); /* long past */
	run();
	ck_assert_ptr_null(timer);
}
END_TEST

static struct loop_timer *spinning;
static unsigned spins;

static void on_spin(void *userdata)
{
	spins++;
	loop_timer_set(spinning, loop_now(loop));
}

/* One that is always due must not lock out what else is ready. */
START_TEST(due_timer_does_not_starve_others)
{
	struct watched w = {.quit_after = 1};

	spins = 0;
	ck_assert_int_eq(loop_timer_new(&spinning, loop, on_spin, NULL), 0);
	loop_timer_set(spinning, 1);
	ck_assert_int_eq(loop_io_new(&w.io, loop, pair[0], LOOP_WRITE, on_io, &w), 0);
	run();
	ck_assert_uint_le(spins, 2);
	loop_io_free(w.io);
	loop_timer_free(spinning);
}
END_TEST

START_TEST(time_is_read_outside_of_turns)
{
	uint64_t before = boottime(), now = loop_now(loop);

	ck_assert_uint_ge(now, before);
	ck_assert_uint_le(now, boottime());
}
END_TEST

static void check_time(void *userdata)
{
	uint64_t now = loop_now(loop);

	while (boottime() < now + 2 * MSEC)
		;
	ck_assert_uint_eq(loop_now(loop), now);
	loop_quit(loop);
}

START_TEST(time_is_cached_in_a_turn)
{
	struct loop_deferred *d;
	uint64_t before;

	ck_assert_int_eq(loop_deferred_new(&d, loop, check_time, NULL), 0);
	loop_deferred_schedule(d);
	before = loop_now(loop);
	run();
	ck_assert_uint_ge(loop_now(loop), before + 2 * MSEC);
	loop_deferred_free(d);
}
END_TEST

/* ---- deferred ---- */

struct counted {
	struct loop_deferred *d;
	struct counted *schedules, *frees;
	unsigned runs, quit_after;
};

static void on_counted(void *userdata)
{
	struct counted *c = userdata;

	c->runs++;
	if (c->schedules)
		loop_deferred_schedule(c->schedules->d);
	if (c->frees)
		c->frees->d = loop_deferred_free(c->frees->d);
	if (c->runs == c->quit_after)
		loop_quit(loop);
}

static void schedule_thrice(int fd, unsigned events, void *userdata)
{
	struct counted *c = userdata;

	for (int i = 0; i < 3; i++)
		loop_deferred_schedule(c->d);
	ck_assert_uint_eq(c->runs, 0);
	ck_assert_int_eq(read(fd, (char[8]){0}, 8), 1);
}

START_TEST(deferred_runs_once_at_the_end_of_the_turn)
{
	struct counted c = {.quit_after = 1};
	struct loop_io *io;

	ck_assert_int_eq(loop_deferred_new(&c.d, loop, on_counted, &c), 0);
	ck_assert_int_eq(loop_io_new(&io, loop, pair[0], LOOP_READ, schedule_thrice, &c), 0);
	ck_assert_int_eq(write(pair[1], "x", 1), 1);
	run();
	ck_assert_uint_eq(c.runs, 1);
	loop_io_free(io);
	loop_deferred_free(c.d);
}
END_TEST

/* The second is scheduled by the first, while nothing else would wake the loop. */
START_TEST(deferred_may_schedule_another)
{
	struct counted b = {.quit_after = 1}, a = {.schedules = &b};

	ck_assert_int_eq(loop_deferred_new(&a.d, loop, on_counted, &a), 0);
	ck_assert_int_eq(loop_deferred_new(&b.d, loop, on_counted, &b), 0);
	loop_deferred_schedule(a.d);
	run();
	ck_assert_uint_eq(a.runs, 1);
	ck_assert_uint_eq(b.runs, 1);
	loop_deferred_free(a.d);
	loop_deferred_free(b.d);
}
END_TEST

/* One that schedules itself runs once per turn, and lets the others have theirs. */
START_TEST(deferred_that_schedules_itself_does_not_starve_others)
{
	struct counted d = {0};
	struct watched w = {.quit_after = 5};

	d.schedules = &d;
	ck_assert_int_eq(loop_deferred_new(&d.d, loop, on_counted, &d), 0);
	ck_assert_int_eq(loop_io_new(&w.io, loop, pair[0], LOOP_WRITE, on_io, &w), 0);
	loop_deferred_schedule(d.d);
	run();
	ck_assert_uint_eq(d.runs, 5);
	loop_io_free(w.io);
	loop_deferred_free(d.d);
}
END_TEST

START_TEST(deferred_may_be_freed_by_another)
{
	struct counted b = {0}, a = {.frees = &b, .quit_after = 1};

	ck_assert_int_eq(loop_deferred_new(&a.d, loop, on_counted, &a), 0);
	ck_assert_int_eq(loop_deferred_new(&b.d, loop, on_counted, &b), 0);
	loop_deferred_schedule(a.d);
	loop_deferred_schedule(b.d);
	run();
	ck_assert_uint_eq(b.runs, 0);
	ck_assert_ptr_null(b.d);
	a.frees = &a;
	loop_deferred_schedule(a.d);
	a.quit_after = 2;
	run();
	ck_assert_ptr_null(a.d);
}
END_TEST

/* ---- the whole ---- */

START_TEST(signals_quit)
{
	static const int signals[] = {SIGTERM, SIGINT};

	ck_assert_int_eq(loop_quit_on_signals(loop), 0);
	ck_assert_int_eq(kill(getpid(), signals[_i]), 0);
	run();
}
END_TEST

static uint64_t nanoseconds(struct timeval tv)
{
	return (uint64_t)tv.tv_sec * NSEC_PER_SEC + (uint64_t)tv.tv_usec * 1000;
}

static struct rusage usage(void)
{
	struct rusage u;

	ck_assert_int_eq(getrusage(RUSAGE_SELF, &u), 0);
	return u;
}

static uint64_t cpu_time(struct rusage u)
{
	return nanoseconds(u.ru_utime) + nanoseconds(u.ru_stime);
}

/* Each wake-up is one voluntary context switch, and here only the timer that ends the test is due. A loop that does not
 * wait at all makes no switches, but takes time. */
START_TEST(idle_loop_does_not_wake_up)
{
	struct loop_timer *end, *far[100];
	struct watched w = {0};
	struct rusage before, after;

	ck_assert_int_eq(loop_io_new(&w.io, loop, pair[0], LOOP_READ, on_io, &w), 0);
	for (unsigned i = 0; i < ARRAY_SIZE(far); i++) {
		ck_assert_int_eq(loop_timer_new(&far[i], loop, quit, NULL), 0);
		loop_timer_set(far[i], loop_now(loop) + (3600 + i) * NSEC_PER_SEC);
	}
	ck_assert_int_eq(loop_timer_new(&end, loop, quit, NULL), 0);
	loop_timer_set(end, loop_now(loop) + 300 * MSEC);
	before = usage();
	run();
	after = usage();
	ck_assert_int_le(after.ru_nvcsw - before.ru_nvcsw, 3);
	ck_assert_uint_lt(cpu_time(after) - cpu_time(before), 100 * MSEC);
	for (unsigned i = 0; i < ARRAY_SIZE(far); i++)
		loop_timer_free(far[i]);
	loop_timer_free(end);
	loop_io_free(w.io);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("loop");
	TCase *tc = tcase_create("loop");
	SRunner *runner;
	int failed;

	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_add_test(tc, io_is_level_triggered);
	tcase_add_test(tc, io_watches_what_it_is_set_to);
	tcase_add_test(tc, io_tells_of_hangup);
	tcase_add_test(tc, io_may_be_freed_by_callbacks);
	tcase_add_test(tc, io_refuses_a_bad_descriptor);
	tcase_add_test(tc, timers_fire_in_order);
	tcase_add_test(tc, timer_may_free_itself);
	tcase_add_test(tc, due_timer_does_not_starve_others);
	tcase_add_test(tc, time_is_read_outside_of_turns);
	tcase_add_test(tc, time_is_cached_in_a_turn);
	tcase_add_test(tc, deferred_runs_once_at_the_end_of_the_turn);
	tcase_add_test(tc, deferred_may_schedule_another);
	tcase_add_test(tc, deferred_that_schedules_itself_does_not_starve_others);
	tcase_add_test(tc, deferred_may_be_freed_by_another);
	tcase_add_loop_test(tc, signals_quit, 0, 2);
	tcase_add_test(tc, idle_loop_does_not_wake_up);
	suite_add_tcase(suite, tc);
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
