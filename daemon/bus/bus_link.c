/* SPDX-License-Identifier: GPL-2.0-or-later */

#include "daemon/bus/bus_link.h"

#include <errno.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "daemon/base/log.h"
#include "daemon/base/util.h"
#include "daemon/bus/bus_address.h"

#define BACKOFF_FIRST (1 * NSEC_PER_SEC)
#define BACKOFF_LAST  (30 * NSEC_PER_SEC)
/* Messages handled before the loop may look at the VMMs again */
#define MESSAGES_PER_TURN 32
/* A bus that lets this much pile up is as good as gone, and what piles up is our memory */
#define QUEUED_WRITES_MAX 16384
/* How long a start waits for the bus before it goes on without */
#define START_TIMEOUT_USEC (5 * UINT64_C(1000000))

struct bus_link {
	struct loop *loop;
	char *address;
	char *name; /* NULL: none is asked for */
	const struct bus_link_ops *ops;
	void *userdata;

	sd_bus *sd; /* NULL: not connected */
	sd_bus_slot *request;
	struct loop_io *io;
	int io_fd;
	struct loop_timer *timer;     /* of the connection: sd-bus' own timeouts, or messages left over */
	struct loop_deferred *settle; /* end of turn: poll for what sd-bus wants next */
	struct loop_timer *retry;
	uint64_t backoff;
	bool complained; /* one line per outage */
	bool named;      /* or, without a name, let in by the bus */
	loop_fn left_fn; /* the name is given up; NULL: it was told */
	void *left_data;
	bool leaving;
	int refused; /* why the name is not to be had: negative errno; the connection is dropped when sd-bus is not on the stack */
};

static int serve(struct bus_link *link);
static void link_retry(struct bus_link *link);

/* ---- connecting ---- */

/* The connection's descriptor changes while sd-bus goes through an address list. */
static void on_io(int fd, unsigned events, void *userdata)
{
	serve(userdata);
}

static int watch(struct bus_link *link)
{
	int fd = sd_bus_get_fd(link->sd), events = sd_bus_get_events(link->sd);
	unsigned wanted;
	int r;

	if (fd < 0)
		return fd;
	if (events < 0)
		return events;
	wanted = (events & POLLIN ? LOOP_READ : 0u) | (events & POLLOUT ? LOOP_WRITE : 0u);
	if (link->io && link->io_fd == fd)
		return loop_io_set(link->io, wanted);
	link->io = loop_io_free(link->io);
	r = loop_io_new(&link->io, link->loop, fd, wanted, on_io, link);
	if (r >= 0)
		link->io_fd = fd;
	return r;
}

static uint64_t monotonic_usec(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000 + (uint64_t)ts.tv_nsec / 1000;
}

/* sd-bus counts CLOCK_MONOTONIC microseconds, the loop CLOCK_BOOTTIME nanoseconds. */
static int arm(struct bus_link *link)
{
	uint64_t usec, now_usec;
	int r;

	r = sd_bus_get_timeout(link->sd, &usec);
	if (r < 0)
		return r;
	if (usec == UINT64_MAX)
		return loop_timer_set(link->timer, UINT64_MAX);
	now_usec = monotonic_usec();
	/* sd-bus compares whole microseconds: one more, so that the timeout is over and not about to be */
	usec = usec > now_usec ? usec - now_usec + 1 : 0;
	return loop_timer_set(link->timer, loop_now(link->loop) + usec * 1000);
}

static void drop(struct bus_link *link)
{
	link->named = false;
	link->refused = 0;
	if (!link->sd)
		return;
	link->ops->lost(link->sd, link->userdata);
	link->request = sd_bus_slot_unref(link->request);
	link->io = loop_io_free(link->io);
	loop_timer_set(link->timer, UINT64_MAX);
	link->sd = sd_bus_close_unref(link->sd);
}

/* A sentence; NULL: out of memory. */
static char *describe(const struct bus_link *link, int error)
{
	char *text = NULL;
	int n;

	switch (-error) {
	case EEXIST:
		n = asprintf(&text,
			     "another process owns the name %s on the bus \"%s\": is another cpupolicyd running?",
			     link->name, link->address);
		break;
	case EPERM:
	case EACCES:
		n = asprintf(&text, "the bus \"%s\" does not let this user connect%s%s%s", link->address,
			     link->name ? ", or own the name " : "", link->name ? link->name : "",
			     link->name ? ": see org.cpupolicy1.conf" : "");
		break;
	case ENOMEDIUM:
		n = asprintf(&text,
			     "the bus \"%s\" has no address here: neither DBUS_SESSION_BUS_ADDRESS nor XDG_RUNTIME_DIR "
			     "is set",
			     link->address);
		break;
	case EINVAL:
		n = asprintf(&text, "the bus \"%s\" is not \"system\", \"session\", \"none\" or a D-Bus address",
			     link->address);
		break;
	default:
		n = asprintf(&text, "no connection to the bus \"%s\": %s", link->address, strerror(-error));
	}
	return n < 0 ? NULL : text;
}

static void tell_left(struct bus_link *link)
{
	loop_fn fn = TAKE(link->left_fn);

	if (fn)
		fn(link->left_data);
}

static void lose(struct bus_link *link, int error)
{
	_cleanup_free_ char *why = link->complained ? NULL : describe(link, error);

	if (why)
		log_warning("%s; VMs go on, trying again", why);
	link->complained = true;
	drop(link);
	if (link->leaving)
		tell_left(link);
	else
		link_retry(link);
}

/* What a connection is for is there: its name, or, without one, the bus. */
static void arrive(struct bus_link *link)
{
	link->named = true;
	link->complained = false;
	link->backoff = BACKOFF_FIRST;
}

/* Sets what the loop is to wait for. Ends the connection if it is not usable any more. */
static void settle(struct bus_link *link)
{
	uint64_t queued = 0;
	int r;

	if (!link->sd)
		return;
	r = sd_bus_is_open(link->sd) > 0 ? 0 : -ECONNRESET;
	if (r >= 0 && sd_bus_get_n_queued_write(link->sd, &queued) >= 0 && queued > QUEUED_WRITES_MAX)
		r = -ENOBUFS;
	if (r >= 0 && !link->name && sd_bus_is_ready(link->sd) > 0)
		arrive(link);
	if (r >= 0)
		r = watch(link);
	if (r >= 0)
		r = arm(link);
	if (r >= 0 && link->refused < 0)
		r = link->refused;
	if (r < 0)
		lose(link, r);
}

/* 1: messages may be left, for the next turn. */
static int process(struct bus_link *link)
{
	for (unsigned n = 0; n < MESSAGES_PER_TURN; n++) {
		int r = sd_bus_process(link->sd, NULL);

		if (r <= 0 || link->refused < 0)
			return r;
	}
	return 1;
}

static int serve(struct bus_link *link)
{
	int r;

	if (!link->sd)
		return -ENOTCONN;
	r = process(link);
	if (r < 0) {
		lose(link, r);
		return r;
	}
	settle(link);
	if (r > 0 && link->sd)
		loop_timer_set(link->timer, loop_now(link->loop));
	return 0;
}

static void on_timer(void *userdata)
{
	serve(userdata);
}

static void on_settle(void *userdata)
{
	settle(userdata);
}

/* ---- the name ---- */

static int on_requested(sd_bus_message *m, void *userdata, sd_bus_error *ret_error)
{
	/* DBUS_REQUEST_NAME_REPLY_* of the specification */
	enum { PRIMARY_OWNER = 1, ALREADY_OWNER = 4 };
	const sd_bus_error *error = sd_bus_message_get_error(m);
	struct bus_link *link = userdata;
	uint32_t reply;

	if (error) {
		link->refused = -sd_bus_error_get_errno(error);
	} else if (sd_bus_message_read(m, "u", &reply) < 0 || (reply != PRIMARY_OWNER && reply != ALREADY_OWNER)) {
		link->refused = -EEXIST;
	} else {
		log_info("D-Bus: %s is on %s", link->name, link->address);
		arrive(link);
	}
	return 1;
}

static int add_connection(struct bus_link *link)
{
	_cleanup_(sd_bus_close_unrefp) sd_bus *sd = NULL;
	int r;

	r = bus_address_open(&sd, link->address, program_invocation_short_name);
	if (r < 0)
		return r;
	r = link->ops->opened(sd, link->userdata);
	if (r < 0)
		return r;
	link->sd = TAKE(sd);
	if (!link->name)
		return 0;
	return sd_bus_request_name_async(link->sd, &link->request, link->name, 0, on_requested, link);
}

static void on_retry(void *userdata)
{
	struct bus_link *link = userdata;
	int r;

	r = add_connection(link);
	if (r < 0)
		lose(link, r);
	else
		serve(link);
}

static void link_retry(struct bus_link *link)
{
	loop_timer_set(link->retry, loop_now(link->loop) + link->backoff);
	link->backoff = link->backoff * 2 < BACKOFF_LAST ? link->backoff * 2 : BACKOFF_LAST;
}

static int on_released(sd_bus_message *m, void *userdata, sd_bus_error *ret_error)
{
	struct bus_link *link = userdata;

	link->named = false;
	tell_left(link);
	return 1;
}

void bus_link_leave(struct bus_link *link, loop_fn fn, void *userdata)
{
	link->leaving = true;
	link->left_fn = fn;
	link->left_data = userdata;
	loop_timer_set(link->retry, UINT64_MAX);
	if (link->sd)
		link->request = sd_bus_slot_unref(link->request);
	if (!link->named || !link->name ||
	    sd_bus_release_name_async(link->sd, &link->request, link->name, on_released, link) < 0)
		tell_left(link);
	else
		bus_link_touch(link);
}

/* ---- life ---- */

/* A bus that is merely not there (yet) is waited for; what cannot become right by itself is not. */
static bool start_is_fatal(int r)
{
	return r == -EINVAL || r == -EEXIST || r == -EPERM || r == -EACCES || r == -ENOMEDIUM || r == -ENOMEM ||
	       r == -EPROTONOSUPPORT;
}

/* The loop does not run yet. A bus that does not answer in time is left to it. */
static int start(struct bus_link *link)
{
	uint64_t until = monotonic_usec() + START_TIMEOUT_USEC;
	int r;

	r = add_connection(link);
	while (r >= 0 && !link->named && link->refused == 0) {
		uint64_t now = monotonic_usec();

		r = sd_bus_process(link->sd, NULL);
		if (!link->name && sd_bus_is_ready(link->sd) > 0)
			break;
		if (r != 0)
			continue;
		if (now >= until) {
			log_warning("D-Bus: %s does not answer yet; VMs are served meanwhile", link->address);
			break;
		}
		r = sd_bus_wait(link->sd, until - now);
	}
	if (r < 0)
		return r;
	if (link->refused < 0)
		return link->refused;
	settle(link);
	return 0;
}

int bus_link_new(struct bus_link **ret, struct loop *loop, const char *address, const char *name,
		 const struct bus_link_ops *ops, void *userdata, char **ret_error)
{
	struct bus_link *link = calloc(1, sizeof(*link));
	int r;

	if (!link)
		return -ENOMEM;
	link->loop = loop;
	link->ops = ops;
	link->userdata = userdata;
	link->backoff = BACKOFF_FIRST;
	link->io_fd = -1;
	link->address = strdup(address);
	link->name = name ? strdup(name) : NULL;
	r = link->address && (link->name || !name) ? 0 : -ENOMEM;
	if (r >= 0)
		r = loop_timer_new(&link->timer, loop, on_timer, link);
	if (r >= 0)
		r = loop_timer_new(&link->retry, loop, on_retry, link);
	if (r >= 0)
		r = loop_deferred_new(&link->settle, loop, on_settle, link);
	if (r < 0)
		goto fail;
	r = start(link);
	if (r < 0 && start_is_fatal(r)) {
		*ret_error = describe(link, r);
		goto fail;
	}
	if (r < 0)
		lose(link, r);
	*ret = link;
	return 0;
fail:
	bus_link_free(link);
	return r;
}

struct bus_link *bus_link_free(struct bus_link *link)
{
	if (!link)
		return NULL;
	if (link->timer)
		drop(link);
	loop_timer_free(link->timer);
	loop_timer_free(link->retry);
	loop_deferred_free(link->settle);
	free(link->address);
	free(link->name);
	free(link);
	return NULL;
}

sd_bus *bus_link_get(const struct bus_link *link)
{
	return link ? link->sd : NULL;
}

void bus_link_touch(struct bus_link *link)
{
	if (link && link->sd)
		loop_deferred_schedule(link->settle);
}
