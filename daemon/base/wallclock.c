/* SPDX-License-Identifier: GPL-2.0-or-later */

#include "daemon/base/wallclock.h"

#include <sys/timerfd.h>
#include <time.h>

#include "daemon/base/util.h"

struct wallclock {
	struct loop_io *io;
	int fd;
	loop_fn fn;
	void *userdata;
};

static uint64_t ns(const struct timespec *t)
{
	return (uint64_t)t->tv_sec * NSEC_PER_SEC + (uint64_t)t->tv_nsec;
}

struct usage_clock wallclock_now(void)
{
	struct timespec boot, real;

	clock_gettime(CLOCK_BOOTTIME, &boot);
	clock_gettime(CLOCK_REALTIME, &real);
	return (struct usage_clock){.boot = ns(&boot), .real = ns(&real)};
}

/* Never expires; but the kernel cancels it when the clock is set. */
static int arm(int fd)
{
	const struct itimerspec never = {.it_value.tv_sec = INT32_MAX};

	return timerfd_settime(fd, TFD_TIMER_ABSTIME | TFD_TIMER_CANCEL_ON_SET, &never, NULL) < 0 ? -errno : 0;
}

static void on_readable(int fd, unsigned events, void *userdata)
{
	struct wallclock *w = userdata;
	uint64_t expirations;

	if (read(fd, &expirations, sizeof(expirations)) < 0 && errno == EAGAIN)
		return;
	if (arm(fd) < 0)
		w->io = loop_io_free(w->io);
	w->fn(w->userdata);
}

static void watch(struct wallclock *w, struct loop *loop)
{
	w->fd = timerfd_create(CLOCK_REALTIME, TFD_CLOEXEC | TFD_NONBLOCK);
	if (w->fd >= 0 && arm(w->fd) == 0)
		(void)loop_io_new(&w->io, loop, w->fd, LOOP_READ, on_readable, w);
}

int wallclock_new(struct wallclock **ret, struct loop *loop, loop_fn fn, void *userdata)
{
	struct wallclock *w = calloc(1, sizeof(*w));

	if (!w)
		return -ENOMEM;
	w->fn = fn;
	w->userdata = userdata;
	watch(w, loop);
	*ret = w;
	return 0;
}

struct wallclock *wallclock_free(struct wallclock *wallclock)
{
	if (!wallclock)
		return NULL;
	loop_io_free(wallclock->io);
	if (wallclock->fd >= 0)
		close(wallclock->fd);
	free(wallclock);
	return NULL;
}
