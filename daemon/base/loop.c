/* SPDX-License-Identifier: GPL-2.0-or-later */

/*
 * A turn: wait, run what is ready, run what was deferred, set the one timerfd for the earliest timer. libevent's own
 * timers are not used: its clock stands during suspend, and the daemon's deadlines do not.
 *
 * Timers are a binary heap with a slot reserved for each at its making, so arming one cannot fail.
 */

#include "daemon/base/loop.h"

#include <event2/event.h>
#include <event2/event_struct.h>
#include <signal.h>
#include <string.h>
#include <sys/queue.h>
#include <sys/timerfd.h>
#include <time.h>

#include "daemon/base/log.h"
#include "daemon/base/util.h"

#define DISARMED UINT64_MAX

struct loop_io {
	struct loop *loop;
	loop_io_fn fn;
	void *userdata;
	unsigned events; /* that are watched */
	/* Two, so that a change of what is watched is one system call, and no gap for the other. */
	struct event read;
	struct event write;
};

struct loop_timer {
	struct loop *loop;
	loop_fn fn;
	void *userdata;
	uint64_t when;
	size_t index; /* in the heap; meaningful while when != DISARMED */
};

TAILQ_HEAD(deferred_list, loop_deferred);

struct loop_deferred {
	struct loop *loop;
	loop_fn fn;
	void *userdata;
	struct deferred_list *list; /* that it waits in; NULL: it is not scheduled */
	TAILQ_ENTRY(loop_deferred) entry;
};

struct loop {
	struct event_base *base;
	struct loop_timer **heap;
	size_t n_armed;  /* in the heap */
	size_t n_timers; /* that exist */
	size_t capacity;
	int timer_fd;
	struct event *timer_event;
	uint64_t timer_when; /* what timer_fd is set to */
	struct event *sigterm, *sigint, *sighup;
	loop_fn hangup;
	void *hangup_data;
	struct deferred_list scheduled;
	struct deferred_list running; /* of this turn */
	uint64_t now;
	bool in_turn; /* `now` is of this turn */
	bool quit;
};

static uint64_t read_clock(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_BOOTTIME, &ts);
	return (uint64_t)ts.tv_sec * NSEC_PER_SEC + (uint64_t)ts.tv_nsec;
}

/* The first callback after the wait reads the clock. */
static void turn_begin(struct loop *loop)
{
	if (loop->in_turn)
		return;
	loop->now = read_clock();
	loop->in_turn = true;
}

uint64_t loop_now(const struct loop *loop)
{
	return loop->in_turn ? loop->now : read_clock();
}

/* ---- timers ---- */

static void heap_put(struct loop *loop, size_t i, struct loop_timer *timer)
{
	loop->heap[i] = timer;
	timer->index = i;
}

static void heap_up(struct loop *loop, size_t i, struct loop_timer *timer)
{
	while (i > 0 && loop->heap[(i - 1) / 2]->when > timer->when) {
		heap_put(loop, i, loop->heap[(i - 1) / 2]);
		i = (i - 1) / 2;
	}
	heap_put(loop, i, timer);
}

static void heap_down(struct loop *loop, size_t i, struct loop_timer *timer)
{
	for (;;) {
		size_t child = 2 * i + 1;

		if (child + 1 < loop->n_armed && loop->heap[child + 1]->when < loop->heap[child]->when)
			child++;
		if (child >= loop->n_armed || loop->heap[child]->when >= timer->when)
			break;
		heap_put(loop, i, loop->heap[child]);
		i = child;
	}
	heap_put(loop, i, timer);
}

/* Puts `timer`, whose time is new, where it belongs; slot i is free. */
static void heap_settle(struct loop *loop, size_t i, struct loop_timer *timer)
{
	if (i > 0 && loop->heap[(i - 1) / 2]->when > timer->when)
		heap_up(loop, i, timer);
	else
		heap_down(loop, i, timer);
}

static void heap_remove(struct loop *loop, struct loop_timer *timer)
{
	struct loop_timer *last = loop->heap[--loop->n_armed];

	if (last != timer)
		heap_settle(loop, timer->index, last);
	timer->when = DISARMED;
}

static int set_timer_fd(struct loop *loop)
{
	uint64_t when = loop->n_armed > 0 ? loop->heap[0]->when : DISARMED;
	struct itimerspec spec = {0};

	if (when == loop->timer_when)
		return 0;
	if (when != DISARMED) {
		spec.it_value.tv_sec = (time_t)(when / NSEC_PER_SEC);
		spec.it_value.tv_nsec = (long)(when % NSEC_PER_SEC);
		if (when == 0) /* all zero would disarm it */
			spec.it_value.tv_nsec = 1;
	}
	if (timerfd_settime(loop->timer_fd, TFD_TIMER_ABSTIME, &spec, NULL) < 0)
		return -errno;
	loop->timer_when = when;
	return 0;
}

static void on_timer_fd(evutil_socket_t fd, short what, void *userdata)
{
	struct loop *loop = userdata;
	uint64_t expirations;

	turn_begin(loop);
	if (read(fd, &expirations, sizeof(expirations)) < 0 && errno != EAGAIN)
		log_error("cannot read the timer: %s", strerror(errno));
	loop->timer_when = DISARMED;
	/* Bounded: one that arms itself for a time that has passed must not keep the loop here. */
	for (size_t n = loop->n_armed; n > 0 && loop->n_armed > 0 && loop->heap[0]->when <= loop->now; n--) {
		struct loop_timer *timer = loop->heap[0];

		heap_remove(loop, timer);
		timer->fn(timer->userdata);
	}
}

int loop_timer_new(struct loop_timer **ret, struct loop *loop, loop_fn fn, void *userdata)
{
	struct loop_timer *timer;

	if (loop->n_timers == loop->capacity) {
		size_t capacity = loop->capacity ? 2 * loop->capacity : 16;
		struct loop_timer **heap = reallocarray(loop->heap, capacity, sizeof(*heap));

		if (!heap)
			return -ENOMEM;
		loop->heap = heap;
		loop->capacity = capacity;
	}
	timer = malloc(sizeof(*timer));
	if (!timer)
		return -ENOMEM;
	*timer = (struct loop_timer){.loop = loop, .fn = fn, .userdata = userdata, .when = DISARMED};
	loop->n_timers++;
	*ret = timer;
	return 0;
}

int loop_timer_set(struct loop_timer *timer, uint64_t when)
{
	struct loop *loop = timer->loop;
	bool armed = timer->when != DISARMED;

	if (when == timer->when)
		return 0;
	if (when == DISARMED) {
		heap_remove(loop, timer);
		return 0;
	}
	timer->when = when;
	heap_settle(loop, armed ? timer->index : loop->n_armed++, timer);
	return 0;
}

struct loop_timer *loop_timer_free(struct loop_timer *timer)
{
	if (!timer)
		return NULL;
	if (timer->when != DISARMED)
		heap_remove(timer->loop, timer);
	timer->loop->n_timers--;
	free(timer);
	return NULL;
}

/* ---- descriptors ---- */

static void on_read(evutil_socket_t fd, short what, void *userdata)
{
	struct loop_io *io = userdata;

	turn_begin(io->loop);
	io->fn(fd, LOOP_READ, io->userdata);
}

static void on_write(evutil_socket_t fd, short what, void *userdata)
{
	struct loop_io *io = userdata;

	turn_begin(io->loop);
	io->fn(fd, LOOP_WRITE, io->userdata);
}

/* libevent says -1 and leaves errno, at times. */
static int event_error(void)
{
	return errno > 0 ? -errno : -EIO;
}

static int watch(struct event *event, bool on)
{
	errno = 0;
	if ((on ? event_add(event, NULL) : event_del(event)) < 0)
		return event_error();
	return 0;
}

int loop_io_set(struct loop_io *io, unsigned events)
{
	unsigned changed = events ^ io->events;
	int r;

	if (changed & LOOP_READ) {
		r = watch(&io->read, events & LOOP_READ);
		if (r < 0)
			return r;
		io->events ^= LOOP_READ;
	}
	if (changed & LOOP_WRITE) {
		r = watch(&io->write, events & LOOP_WRITE);
		if (r < 0)
			return r;
		io->events ^= LOOP_WRITE;
	}
	return 0;
}

int loop_io_new(struct loop_io **ret, struct loop *loop, int fd, unsigned events, loop_io_fn fn, void *userdata)
{
	struct loop_io *io = calloc(1, sizeof(*io));
	int r;

	if (!io)
		return -ENOMEM;
	io->loop = loop;
	io->fn = fn;
	io->userdata = userdata;
	if (event_assign(&io->read, loop->base, fd, EV_READ | EV_PERSIST, on_read, io) < 0 ||
	    event_assign(&io->write, loop->base, fd, EV_WRITE | EV_PERSIST, on_write, io) < 0) {
		free(io);
		return -EINVAL;
	}
	r = loop_io_set(io, events);
	if (r < 0) {
		loop_io_free(io);
		return r;
	}
	*ret = io;
	return 0;
}

struct loop_io *loop_io_free(struct loop_io *io)
{
	if (!io)
		return NULL;
	event_del(&io->read);
	event_del(&io->write);
	free(io);
	return NULL;
}

/* ---- deferred ---- */

int loop_deferred_new(struct loop_deferred **ret, struct loop *loop, loop_fn fn, void *userdata)
{
	struct loop_deferred *d = calloc(1, sizeof(*d));

	if (!d)
		return -ENOMEM;
	d->loop = loop;
	d->fn = fn;
	d->userdata = userdata;
	*ret = d;
	return 0;
}

static void deferred_unlink(struct loop_deferred *d)
{
	if (d->list)
		TAILQ_REMOVE(d->list, d, entry);
	d->list = NULL;
}

static void deferred_link(struct loop_deferred *d, struct deferred_list *list)
{
	TAILQ_INSERT_TAIL(list, d, entry);
	d->list = list;
}

void loop_deferred_schedule(struct loop_deferred *d)
{
	if (!d->list)
		deferred_link(d, &d->loop->scheduled);
}

struct loop_deferred *loop_deferred_free(struct loop_deferred *d)
{
	if (!d)
		return NULL;
	deferred_unlink(d);
	free(d);
	return NULL;
}

static void run_deferred(struct loop *loop)
{
	struct loop_deferred *d;

	if (TAILQ_EMPTY(&loop->scheduled))
		return;
	turn_begin(loop);
	while ((d = TAILQ_FIRST(&loop->scheduled))) {
		deferred_unlink(d);
		deferred_link(d, &loop->running);
	}
	while ((d = TAILQ_FIRST(&loop->running))) {
		deferred_unlink(d);
		d->fn(d->userdata);
	}
}

/* ---- the loop ---- */

static void on_libevent_log(int severity, const char *message)
{
	static const int levels[] = {
		[EVENT_LOG_DEBUG] = LOG_DEBUG,
		[EVENT_LOG_MSG] = LOG_INFO,
		[EVENT_LOG_WARN] = LOG_WARNING,
		[EVENT_LOG_ERR] = LOG_ERR,
	};
	bool known = severity >= 0 && (size_t)severity < ARRAY_SIZE(levels);

	log_fields(known ? levels[severity] : LOG_WARNING, NULL, "libevent: %s", message);
}

static int new_base(struct event_base **ret)
{
	struct event_config *config = event_config_new();

	if (!config)
		return -ENOMEM;
	event_config_set_flag(config, EVENT_BASE_FLAG_NOLOCK);        /* one thread */
	event_config_set_flag(config, EVENT_BASE_FLAG_NO_CACHE_TIME); /* none of its timers is used */
	event_config_set_flag(config, EVENT_BASE_FLAG_IGNORE_ENV);
	*ret = event_base_new_with_config(config);
	event_config_free(config);
	return *ret ? 0 : -ENOMEM;
}

int loop_new(struct loop **ret)
{
	struct loop *loop = calloc(1, sizeof(*loop));
	int r;

	if (!loop)
		return -ENOMEM;
	loop->timer_fd = -1;
	loop->timer_when = DISARMED;
	TAILQ_INIT(&loop->scheduled);
	TAILQ_INIT(&loop->running);
	event_set_log_callback(on_libevent_log);
	r = new_base(&loop->base);
	if (r < 0)
		goto fail;
	loop->timer_fd = timerfd_create(CLOCK_BOOTTIME, TFD_CLOEXEC | TFD_NONBLOCK);
	if (loop->timer_fd < 0) {
		r = -errno;
		goto fail;
	}
	loop->timer_event = event_new(loop->base, loop->timer_fd, EV_READ | EV_PERSIST, on_timer_fd, loop);
	if (!loop->timer_event) {
		r = -ENOMEM;
		goto fail;
	}
	r = watch(loop->timer_event, true);
	if (r < 0)
		goto fail;
	*ret = loop;
	return 0;
fail:
	loop_free(loop);
	return r;
}

static void free_event(struct event *event)
{
	if (event)
		event_free(event);
}

struct loop *loop_free(struct loop *loop)
{
	if (!loop)
		return NULL;
	free_event(loop->sigterm);
	free_event(loop->sigint);
	free_event(loop->sighup);
	free_event(loop->timer_event);
	if (loop->timer_fd >= 0)
		close(loop->timer_fd);
	if (loop->base)
		event_base_free(loop->base);
	free(loop->heap);
	free(loop);
	return NULL;
}

int loop_run(struct loop *loop)
{
	int r = 0;

	loop->quit = false;
	while (!loop->quit) {
		int flags = EVLOOP_ONCE | (TAILQ_EMPTY(&loop->scheduled) ? 0 : EVLOOP_NONBLOCK);

		r = set_timer_fd(loop);
		if (r < 0)
			break;
		loop->in_turn = false;
		errno = 0;
		if (event_base_loop(loop->base, flags) < 0) {
			r = event_error();
			break;
		}
		run_deferred(loop);
	}
	loop->in_turn = false;
	return r;
}

void loop_quit(struct loop *loop)
{
	loop->quit = true;
}

static void on_quit_signal(evutil_socket_t number, short what, void *userdata)
{
	struct loop *loop = userdata;

	turn_begin(loop);
	log_info("got SIG%s: ending", sigabbrev_np(number));
	loop_quit(loop);
}

static void on_hangup(evutil_socket_t number, short what, void *userdata)
{
	struct loop *loop = userdata;

	turn_begin(loop);
	loop->hangup(loop->hangup_data);
}

static int watch_signal(struct loop *loop, struct event **event, int number, event_callback_fn fn)
{
	if (*event)
		return 0;
	*event = evsignal_new(loop->base, number, fn, loop);
	if (!*event)
		return -ENOMEM;
	return watch(*event, true);
}

int loop_quit_on_signals(struct loop *loop)
{
	int r = watch_signal(loop, &loop->sigterm, SIGTERM, on_quit_signal);

	if (r < 0)
		return r;
	return watch_signal(loop, &loop->sigint, SIGINT, on_quit_signal);
}

int loop_on_hangup(struct loop *loop, loop_fn fn, void *userdata)
{
	loop->hangup = fn;
	loop->hangup_data = userdata;
	return watch_signal(loop, &loop->sighup, SIGHUP, on_hangup);
}

struct event_base *loop_event_base(struct loop *loop)
{
	return loop->base;
}
