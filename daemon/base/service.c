/* SPDX-License-Identifier: GPL-2.0-or-later */

/*
 * The protocol of sd_notify(3), on a socket of our own: that of the library waits when the service manager is slow, and
 * no verdict may wait for that.
 */

#include "daemon/base/service.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <systemd/sd-daemon.h>
#include <time.h>

#include "daemon/base/log.h"
#include "daemon/base/util.h"

#define MESSAGES_MAX   32768u
#define STATUS_SIZE    256u
#define STATUS_PERIOD  NSEC_PER_SEC
#define FINISH_TIMEOUT (5 * NSEC_PER_SEC)
#define SLOT_SIZE      12u

struct message {
	STAILQ_ENTRY(message) entry;
	size_t n_fds;
	int fds[SERVICE_FDS_MAX];
	char text[];
};

struct passed {
	char *name;
	int fd; /* -1: taken */
};

struct service {
	struct loop *loop;
	struct sockaddr_un address;
	socklen_t address_size;
	int fd; /* -1: there is no service manager */
	struct loop_io *io;
	STAILQ_HEAD(, message) queue;
	size_t n_queued;
	bool complained;
	struct passed *passed; /* in order of their names */
	size_t n_passed;
	uint64_t watchdog; /* ns between two signs of life; 0: none is wanted */
	struct loop_timer *watchdog_timer;
	service_status_fn status_fn;
	void *status_data;
	struct loop_timer *status_timer;
	uint64_t status_at; /* when it was sent last */
	bool status_due;
	char status[STATUS_SIZE];
};

/* ---- sending ---- */

static void message_free(struct message *m)
{
	for (size_t i = 0; i < m->n_fds; i++)
		close(m->fds[i]);
	free(m);
}

/* 0, -EAGAIN: not now, or why it cannot be sent. */
static int transmit(const struct service *s, const char *text, const int *fds, size_t n)
{
	union {
		struct cmsghdr align;
		uint8_t bytes[CMSG_SPACE(SERVICE_FDS_MAX * sizeof(int))];
	} control = {0};
	struct iovec iov = {.iov_base = (void *)(uintptr_t)text, .iov_len = strlen(text)};
	struct msghdr message = {.msg_iov = &iov, .msg_iovlen = 1};
	struct cmsghdr *c;

	if (n > 0) {
		message.msg_control = &control;
		message.msg_controllen = CMSG_SPACE(n * sizeof(int));
		c = CMSG_FIRSTHDR(&message);
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(n * sizeof(int));
		memcpy(CMSG_DATA(c), fds, n * sizeof(int));
	}
	if (sendmsg(s->fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL) >= 0)
		return 0;
	if (errno == EINTR || errno == ENOBUFS)
		return -EAGAIN;
	/* A service manager that was executed anew has another socket at the same place. */
	if (errno == ECONNREFUSED || errno == ENOTCONN || errno == ECONNRESET)
		return connect(s->fd, (const struct sockaddr *)&s->address, s->address_size) < 0 ? -errno : -EAGAIN;
	return -errno;
}

static void complain(struct service *s, int r)
{
	if (!s->complained)
		log_warning("the service manager cannot be told: %s", strerror(-r));
	s->complained = true;
}

static void flush(struct service *s)
{
	struct message *m;

	while ((m = STAILQ_FIRST(&s->queue))) {
		int r = transmit(s, m->text, m->fds, m->n_fds);

		if (r == -EAGAIN)
			break;
		if (r < 0)
			complain(s, r);
		STAILQ_REMOVE_HEAD(&s->queue, entry);
		s->n_queued--;
		message_free(m);
	}
	loop_io_set(s->io, STAILQ_EMPTY(&s->queue) ? 0 : LOOP_WRITE);
}

static void on_writable(int fd, unsigned events, void *userdata)
{
	flush(userdata);
}

static struct message *message_new(const char *text, const int *fds, size_t n)
{
	struct message *m = malloc(sizeof(*m) + strlen(text) + 1);

	if (!m)
		return NULL;
	m->n_fds = 0;
	memcpy(m->text, text, strlen(text) + 1);
	for (; m->n_fds < n; m->n_fds++) {
		m->fds[m->n_fds] = fcntl(fds[m->n_fds], F_DUPFD_CLOEXEC, 0);
		if (m->fds[m->n_fds] < 0) {
			message_free(m);
			return NULL;
		}
	}
	return m;
}

static void say_with(struct service *s, const char *text, const int *fds, size_t n)
{
	struct message *m;
	int r;

	if (s->fd < 0)
		return;
	if (STAILQ_EMPTY(&s->queue)) {
		r = transmit(s, text, fds, n);
		if (r < 0 && r != -EAGAIN)
			complain(s, r);
		if (r != -EAGAIN)
			return;
	}
	m = s->n_queued < MESSAGES_MAX ? message_new(text, fds, n) : NULL;
	if (!m) {
		complain(s, -ENOBUFS);
		return;
	}
	STAILQ_INSERT_TAIL(&s->queue, m, entry);
	s->n_queued++;
	flush(s);
}

static void say(struct service *s, const char *text)
{
	say_with(s, text, NULL, 0);
}

/* ---- telling ---- */

void service_ready(struct service *service)
{
	say(service, "READY=1");
}

void service_reloading(struct service *service)
{
	struct timespec now;
	char text[64];

	clock_gettime(CLOCK_MONOTONIC, &now);
	snprintf(text, sizeof(text), "RELOADING=1\nMONOTONIC_USEC=%" PRIu64,
		 (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000);
	say(service, text);
}

void service_stopping(struct service *service)
{
	say(service, "STOPPING=1");
}

static void on_watchdog(void *userdata)
{
	struct service *s = userdata;

	if (STAILQ_EMPTY(&s->queue))
		say(s, "WATCHDOG=1");
	loop_timer_set(s->watchdog_timer, loop_now(s->loop) + s->watchdog);
}

static void on_status(void *userdata)
{
	struct service *s = userdata;
	char status[STATUS_SIZE] = "", text[STATUS_SIZE + 16];

	s->status_due = false;
	if (!s->status_fn)
		return;
	s->status_fn(status, sizeof(status), s->status_data);
	if (strcmp(status, s->status) == 0)
		return;
	memcpy(s->status, status, sizeof(status));
	s->status_at = loop_now(s->loop);
	snprintf(text, sizeof(text), "STATUS=%s", status);
	say(s, text);
}

void service_set_status(struct service *service, service_status_fn fn, void *userdata)
{
	service->status_fn = fn;
	service->status_data = userdata;
	service_status_changed(service);
}

void service_status_changed(struct service *service)
{
	if (service->fd < 0 || service->status_due || !service->status_fn)
		return;
	service->status_due = true;
	loop_timer_set(service->status_timer, service->status_at > 0 ? service->status_at + STATUS_PERIOD : 0);
}

/* ---- keeping ---- */

bool service_keeps(const struct service *service)
{
	return service->fd >= 0;
}

unsigned service_keeps_at_most(const struct service *service)
{
	const char *text = getenv("FDSTORE");

	return service->fd >= 0 && text ? (unsigned)strtoul(text, NULL, 10) : 0;
}

void service_keep(struct service *service, const char *name, const int *fds, size_t n)
{
	char text[64];

	/* Without FDPOLL=0 a socket whose other end hung up is forgotten by itself. */
	snprintf(text, sizeof(text), "FDSTORE=1\nFDNAME=%s", name);
	say_with(service, text, fds, n);
}

void service_forget(struct service *service, const char *name)
{
	char text[64];

	snprintf(text, sizeof(text), "FDSTOREREMOVE=1\nFDNAME=%s", name);
	say(service, text);
}

static const char *slot_name(char name[static SLOT_SIZE], uint32_t slot)
{
	snprintf(name, SLOT_SIZE, "%" PRIu32, slot);
	return name;
}

void service_keep_slot(struct service *service, uint32_t slot, const int *fds, size_t n)
{
	char name[SLOT_SIZE];

	service_keep(service, slot_name(name, slot), fds, n);
}

void service_forget_slot(struct service *service, uint32_t slot)
{
	char name[SLOT_SIZE];

	service_forget(service, slot_name(name, slot));
}

static uint64_t clock_now(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * NSEC_PER_SEC + (uint64_t)now.tv_nsec;
}

/* Until `events` are there: false if they are not in time. */
static bool await(int fd, short events, uint64_t until)
{
	struct pollfd p = {.fd = fd, .events = events};
	uint64_t now = clock_now();
	int n = poll(&p, 1, now < until ? (int)((until - now) / 1000000 + 1) : 0);

	return n > 0 || (n < 0 && errno == EINTR);
}

/* It closes the descriptor when it has handled everything before. */
static int barrier(struct service *s, uint64_t until)
{
	_cleanup_close_ int theirs = -1, ours = -1;
	int pair[2];
	char byte;
	int r;

	if (pipe2(pair, O_CLOEXEC | O_NONBLOCK) < 0)
		return -errno;
	ours = pair[0];
	theirs = pair[1];
	while ((r = transmit(s, "BARRIER=1", &theirs, 1)) == -EAGAIN)
		if (!await(s->fd, POLLOUT, until))
			return -ETIMEDOUT;
	if (r < 0)
		return r;
	close(take_fd(&theirs));
	while (read(ours, &byte, 1) < 0)
		if (!await(ours, POLLIN, until))
			return -ETIMEDOUT;
	return 0;
}

int service_finish(struct service *service)
{
	uint64_t until = clock_now() + FINISH_TIMEOUT;

	if (service->fd < 0)
		return 0;
	for (flush(service); !STAILQ_EMPTY(&service->queue); flush(service))
		if (!await(service->fd, POLLOUT, until))
			return -ETIMEDOUT;
	return barrier(service, until);
}

/* ---- what was passed ---- */

static bool is_kept(const char *name)
{
	return strcmp(name, SERVICE_HANDOVER) == 0 || (name[0] && strspn(name, "0123456789") == strlen(name));
}

static int by_name(const void *a, const void *b)
{
	return strcmp(((const struct passed *)a)->name, ((const struct passed *)b)->name);
}

static int read_passed(struct service *s)
{
	char **names = NULL;
	int n = sd_listen_fds_with_names(1, &names);

	if (n <= 0)
		return n;
	s->passed = calloc((size_t)n, sizeof(*s->passed));
	for (int i = 0; i < n; i++) {
		if (!s->passed) {
			free(names[i]);
			continue;
		}
		s->passed[i] = (struct passed){.name = names[i], .fd = SD_LISTEN_FDS_START + i};
	}
	free(names);
	if (!s->passed)
		return -ENOMEM;
	s->n_passed = (size_t)n;
	qsort(s->passed, s->n_passed, sizeof(*s->passed), by_name);
	return 0;
}

/* The first of this name. */
static size_t find(const struct service *s, const char *name)
{
	size_t low = 0, high = s->n_passed;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (strcmp(s->passed[middle].name, name) < 0)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

int service_take(struct service *service, const char *name)
{
	for (size_t i = find(service, name); i < service->n_passed && strcmp(service->passed[i].name, name) == 0; i++)
		if (service->passed[i].fd >= 0)
			return take_fd(&service->passed[i].fd);
	return -ENOENT;
}

int service_take_slot(struct service *service, uint32_t slot)
{
	char name[SLOT_SIZE];

	return service_take(service, slot_name(name, slot));
}

int service_take_socket(struct service *service)
{
	int *found = NULL;

	for (size_t i = 0; i < service->n_passed; i++) {
		if (service->passed[i].fd < 0 || is_kept(service->passed[i].name))
			continue;
		if (found)
			return -E2BIG;
		found = &service->passed[i].fd;
	}
	return found ? take_fd(found) : -ENOENT;
}

size_t service_drop_kept(struct service *service)
{
	const char *last = "";
	size_t n = 0;

	for (size_t i = 0; i < service->n_passed; i++) {
		struct passed *p = &service->passed[i];

		if (p->fd < 0 || !is_kept(p->name))
			continue;
		close(take_fd(&p->fd));
		if (strcmp(p->name, last) == 0)
			continue;
		last = p->name;
		n++;
		service_forget(service, p->name);
	}
	return n;
}

/* ---- life ---- */

static int parse_address(struct service *s, const char *path)
{
	size_t length = strlen(path);

	if ((path[0] != '/' && path[0] != '@') || length < 2 || length >= sizeof(s->address.sun_path))
		return -EINVAL;
	s->address.sun_family = AF_UNIX;
	memcpy(s->address.sun_path, path, length + 1);
	s->address_size = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + length + (path[0] == '/'));
	if (path[0] == '@')
		s->address.sun_path[0] = '\0';
	return 0;
}

static int open_socket(struct service *s)
{
	const char *path = getenv("NOTIFY_SOCKET");
	int r;

	if (!path)
		return 0;
	r = parse_address(s, path);
	if (r < 0)
		return r;
	s->fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (s->fd < 0)
		return -errno;
	if (connect(s->fd, (const struct sockaddr *)&s->address, s->address_size) < 0)
		return -errno;
	return loop_io_new(&s->io, s->loop, s->fd, 0, on_writable, s);
}

static int open_watchdog(struct service *s)
{
	uint64_t usec;
	int r = sd_watchdog_enabled(0, &usec);

	if (r <= 0 || s->fd < 0)
		return r;
	r = loop_timer_new(&s->watchdog_timer, s->loop, on_watchdog, s);
	if (r < 0)
		return r;
	s->watchdog = usec / 2 * 1000;
	return loop_timer_set(s->watchdog_timer, loop_now(s->loop) + s->watchdog);
}

int service_new(struct service **ret, struct loop *loop)
{
	struct service *s = calloc(1, sizeof(*s));
	int r;

	if (!s)
		return -ENOMEM;
	s->loop = loop;
	s->fd = -1;
	STAILQ_INIT(&s->queue);
	r = read_passed(s);
	if (r >= 0)
		r = open_socket(s);
	if (r >= 0)
		r = open_watchdog(s);
	if (r >= 0)
		r = loop_timer_new(&s->status_timer, loop, on_status, s);
	if (r < 0) {
		service_free(s);
		return r;
	}
	*ret = s;
	return 0;
}

struct service *service_free(struct service *service)
{
	struct message *m;

	if (!service)
		return NULL;
	while ((m = STAILQ_FIRST(&service->queue))) {
		STAILQ_REMOVE_HEAD(&service->queue, entry);
		message_free(m);
	}
	for (size_t i = 0; i < service->n_passed; i++) {
		if (service->passed[i].fd >= 0)
			close(service->passed[i].fd);
		free(service->passed[i].name);
	}
	free(service->passed);
	loop_io_free(service->io);
	loop_timer_free(service->watchdog_timer);
	loop_timer_free(service->status_timer);
	if (service->fd >= 0)
		close(service->fd);
	free(service);
	return NULL;
}
