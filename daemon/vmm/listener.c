/* SPDX-License-Identifier: GPL-2.0-or-later */

/*
 * Every connection is in one of two lists: of strangers, in the order of their arrival, or of those that have
 * registered a VM. Strangers are bounded, in all and per user, and in time by one timer for the first of the list.
 * The others are bounded by the number of VMs.
 */

#include "daemon/vmm/listener.h"

#include <fcntl.h>
#include <grp.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/queue.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <systemd/sd-daemon.h>

#include "daemon/base/log.h"
#include "daemon/base/peerlog.h"
#include "daemon/handover/handover_take.h"
#include "daemon/vmm/session.h"
#include "daemon/base/util.h"

#define BACKLOG     512
#define ACCEPTS     64           /* per turn */
#define PAUSE       NSEC_PER_SEC /* after the descriptors ran out */
#define PAUSE_LINES 1u

TAILQ_HEAD(connection_list, connection);

struct connection {
	struct listener *listener;
	struct session *session;
	struct connection_list *list;
	TAILQ_ENTRY(connection) entry;
	uint64_t deadline;
};

struct listener {
	struct loop *loop;
	struct host *host;
	const struct config *config;
	struct service *service; /* may be NULL */
	struct session_hub *hub;
	struct loop_io *io;
	struct loop_timer *handshake;
	struct loop_timer *pause;
	struct connection_list strangers;
	struct connection_list registered;
	uint32_t n_strangers;
	struct peerlog peerlog;
	struct log_gate pause_gate;
	int fd;
	char *path; /* of the socket file that is ours to remove; NULL: it was passed to us */
};

/* ---- connections ---- */

static void connection_unlink(struct connection *c)
{
	if (c->list == &c->listener->strangers)
		c->listener->n_strangers--;
	TAILQ_REMOVE(c->list, c, entry);
}

static void arm_handshake(struct listener *l)
{
	struct connection *first = TAILQ_FIRST(&l->strangers);

	loop_timer_set(l->handshake, first ? first->deadline : UINT64_MAX);
}

static void on_registered(struct session *session, void *userdata)
{
	struct connection *c = userdata;

	connection_unlink(c);
	c->list = &c->listener->registered;
	TAILQ_INSERT_TAIL(c->list, c, entry);
	arm_handshake(c->listener);
}

static void on_ended(struct session *session, void *userdata)
{
	struct connection *c = userdata;
	struct listener *l = c->listener;

	connection_unlink(c);
	free(c);
	arm_handshake(l);
}

static const struct session_ops session_ops = {
	.registered = on_registered,
	.ended = on_ended,
};

static void hang_up(struct connection *c)
{
	connection_unlink(c);
	session_free(c->session);
	free(c);
}

static void log_refusal(struct listener *l, const struct peer *peer, const char *why)
{
	struct peerlog_fields fields;

	if (peerlog_open(&l->peerlog, peer->uid, loop_now(l->loop)))
		log_fields(LOG_WARNING, peerlog_fields(&fields, peer, NULL), "hung up on process %d of uid %u: %s",
			   (int)peer->pid, (unsigned)peer->uid, why);
}

/* ---- strangers ---- */

static void add_stranger(struct listener *l, struct connection *c)
{
	c->deadline = loop_now(l->loop) + l->config->handshake_timeout;
	c->list = &l->strangers;
	TAILQ_INSERT_TAIL(c->list, c, entry);
	l->n_strangers++;
}

static void on_handshake_timeout(void *userdata)
{
	struct listener *l = userdata;
	uint64_t now = loop_now(l->loop);
	struct connection *c;

	while ((c = TAILQ_FIRST(&l->strangers)) && c->deadline <= now) {
		if (session_is_registering(c->session)) {
			/* It waits for us, not we for it. */
			connection_unlink(c);
			add_stranger(l, c);
			continue;
		}
		log_refusal(l, session_peer(c->session), "it did not register a VM in time");
		hang_up(c);
	}
	arm_handshake(l);
}

/* All VMs of a host may share a uid: then its unit and its label tell one of them from the others, for which it has to leave
 * room. */
static const char *over_quota(const struct listener *l, const struct peer *peer)
{
	bool told_apart = peer->unit || peer->label;
	uint32_t of_uid = 0, alike = 0;
	struct connection *c;

	if (l->n_strangers >= l->config->max_connections)
		return "too many connections that have not registered a VM";
	TAILQ_FOREACH(c, &l->strangers, entry) {
		const struct peer *other = session_peer(c->session);

		of_uid += other->uid == peer->uid;
		alike += told_apart && peer_alike(other, peer);
	}
	if (of_uid >= l->config->max_connections_per_uid)
		return "too many connections of this user that have not registered a VM";
	if (alike >= l->config->max_connections_per_unit)
		return "too many connections of this user's unit and label that have not registered a VM";
	return NULL;
}

/* ---- accepting ---- */

static void on_pause_end(void *userdata)
{
	struct listener *l = userdata;

	if (loop_io_set(l->io, LOOP_READ) < 0)
		loop_timer_set(l->pause, loop_now(l->loop) + PAUSE);
}

/* The connection stays in the backlog, which would wake us again and again. */
static void pause_accepting(struct listener *l, int error)
{
	uint32_t dropped;

	if (log_gate_open(&l->pause_gate, PAUSE_LINES, loop_now(l->loop), &dropped))
		log_error("cannot accept connections of VMMs now: %s", strerror(error));
	loop_io_set(l->io, 0);
	loop_timer_set(l->pause, loop_now(l->loop) + PAUSE);
}

static int welcome(struct listener *l, int fd, struct peer *peer, const struct host_voucher *voucher)
{
	struct connection *c = calloc(1, sizeof(*c));
	int r;

	if (!c)
		return -ENOMEM;
	c->listener = l;
	r = session_new(&c->session, l->hub, fd, peer, voucher, &session_ops, c);
	if (r < 0) {
		free(c);
		return r;
	}
	add_stranger(l, c);
	arm_handshake(l);
	return 0;
}

static void admit(struct listener *l, int accepted)
{
	_cleanup_close_ int fd = accepted;
	struct peer peer = {0};
	const char *why;
	int r;

	r = peer_from_socket(&peer, fd);
	if (r < 0)
		return; /* it has gone already */
	why = over_quota(l, &peer);
	if (!why) {
		r = welcome(l, fd, &peer, NULL);
		if (r == 0)
			take_fd(&fd);
		else
			why = strerror(-r);
	}
	if (why)
		log_refusal(l, &peer, why);
	peer_clear(&peer);
}

int listener_open(struct listener *listener, const struct host_voucher *voucher, int *ret_fd)
{
	_cleanup_close_ int ours = -1, theirs = -1;
	_cleanup_(peer_clear) struct peer peer = {0};
	int pair[2], r;

	/* until the first message tells who has the other end */
	r = peer_from_credentials(&peer,
				  &(struct ucred){.uid = voucher->by_uid, .pid = voucher->by_pid, .gid = (gid_t)-1});
	if (r < 0)
		return r;
	if (over_quota(listener, &peer))
		return -EUSERS;
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
		return -errno;
	ours = pair[0];
	theirs = pair[1];
	r = fcntl(ours, F_GETFL);
	if (r < 0 || fcntl(ours, F_SETFL, r | O_NONBLOCK) < 0 ||
	    setsockopt(ours, SOL_SOCKET, SO_PASSCRED, &(int){1}, sizeof(int)) < 0)
		return -errno;
	r = welcome(listener, ours, &peer, voucher);
	if (r < 0)
		return r;
	take_fd(&ours);
	*ret_fd = take_fd(&theirs);
	return 0;
}

static bool is_shortage(int error)
{
	return error == EMFILE || error == ENFILE || error == ENOBUFS || error == ENOMEM;
}

static void on_connection(int fd, unsigned events, void *userdata)
{
	struct listener *l = userdata;

	for (int i = 0; i < ACCEPTS; i++) {
		int accepted = accept4(fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

		if (accepted >= 0) {
			admit(l, accepted);
		} else if (is_shortage(errno)) {
			pause_accepting(l, errno);
			return;
		} else if (errno == EAGAIN || errno == EWOULDBLOCK) {
			return;
		}
		/* Anything else is of that one connection. */
	}
}

/* ---- the socket ---- */

static int explain(int r, char **ret_error, const char *what, const char *path)
{
	if (asprintf(ret_error, "cannot %s %s: %s", what, path, strerror(-r)) < 0)
		*ret_error = NULL;
	return r;
}

static int socket_address(struct sockaddr_un *ret, const char *path)
{
	*ret = (struct sockaddr_un){.sun_family = AF_UNIX};
	if (strlen(path) >= sizeof(ret->sun_path))
		return -ENAMETOOLONG;
	memcpy(ret->sun_path, path, strlen(path) + 1);
	return 0;
}

/* Nothing but a socket is removed: a path that was mistyped must not cost a file. */
static int remove_stale(const char *path)
{
	struct stat st;

	if (lstat(path, &st) < 0)
		return errno == ENOENT ? 0 : -errno;
	if (!S_ISSOCK(st.st_mode))
		return -EEXIST;
	return unlink(path) < 0 ? -errno : 0;
}

static int set_access(const char *path, const struct config *config, char **ret_error)
{
	const struct group *group;

	if (config->socket_group) {
		errno = 0;
		group = getgrnam(config->socket_group);
		if (!group)
			return explain(errno ? -errno : -ENOENT, ret_error, "find the group", config->socket_group);
		if (lchown(path, (uid_t)-1, group->gr_gid) < 0)
			return explain(-errno, ret_error, "change the group of", path);
	}
	if (chmod(path, config->socket_mode) < 0)
		return explain(-errno, ret_error, "change the mode of", path);
	return 0;
}

static int bind_socket(struct listener *l, char **ret_error)
{
	const char *path = l->config->socket;
	struct sockaddr_un address;
	int r;

	r = socket_address(&address, path);
	if (r < 0)
		return explain(r, ret_error, "listen at", path);
	l->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (l->fd < 0)
		return explain(-errno, ret_error, "make a socket for", path);
	r = remove_stale(path);
	if (r < 0)
		return explain(r, ret_error, "replace", path);
	/* Nobody may connect before the mode and group are what they should be; bind() takes the mode from here. */
	if (fchmod(l->fd, 0600) < 0)
		return explain(-errno, ret_error, "change the mode of", path);
	if (bind(l->fd, (struct sockaddr *)&address, sizeof(address)) < 0)
		return explain(-errno, ret_error, "bind", path);
	l->path = strdup(path);
	if (!l->path)
		return explain(-ENOMEM, ret_error, "listen at", path);
	r = set_access(path, l->config, ret_error);
	if (r < 0)
		return r;
	if (listen(l->fd, BACKLOG) < 0)
		return explain(-errno, ret_error, "listen at", path);
	return 0;
}

static int open_socket(struct listener *l, char **ret_error)
{
	int fd = l->service ? service_take_socket(l->service) : -ENOENT, r;

	if (fd == -ENOENT)
		return bind_socket(l, ret_error);
	if (fd < 0)
		return explain(fd, ret_error, "use what was passed instead of", l->config->socket);
	l->fd = fd;
	r = sd_is_socket_unix(fd, SOCK_STREAM, 1, NULL, 0);
	if (r <= 0)
		return explain(r < 0 ? r : -EINVAL, ret_error, "use what was passed instead of", l->config->socket);
	r = fcntl(l->fd, F_GETFL);
	if (r < 0 || fcntl(l->fd, F_SETFL, r | O_NONBLOCK) < 0)
		return explain(-errno, ret_error, "use the socket passed for", l->config->socket);
	return 0;
}

/* ---- from one daemon to the next ---- */

static int take_over(struct listener *l, struct handover_session *h)
{
	struct connection *c = calloc(1, sizeof(*c));
	int r;

	if (!c)
		return -ENOMEM;
	c->listener = l;
	r = session_take_over(&c->session, l->hub, h, &session_ops, c);
	if (r < 0) {
		free(c);
		return r;
	}
	c->list = &l->registered;
	TAILQ_INSERT_TAIL(c->list, c, entry);
	return 0;
}

size_t listener_take_over(struct listener *listener, struct handover *handover)
{
	size_t n = 0;

	for (size_t i = 0; i < handover_count(handover); i++) {
		struct handover_session *h = handover_at(handover, i);
		int r;

		if (!handover_is_there(h))
			continue; /* it was dropped before */
		r = take_over(listener, h);
		if (r == 0) {
			n++;
			continue;
		}
		handover_drop(listener->service, h, r == -ENOENT ? "it is not as the VM is on record" : strerror(-r));
		host_abandon(listener->host, h->uuid);
	}
	return n;
}

void listener_stop(struct listener *listener)
{
	struct connection *c;

	session_hub_stop(listener->hub);
	loop_io_set(listener->io, 0);
	loop_timer_set(listener->pause, UINT64_MAX);
	TAILQ_FOREACH(c, &listener->strangers, entry)
		session_stop(c->session);
	TAILQ_FOREACH(c, &listener->registered, entry)
		session_stop(c->session);
}

size_t listener_hand_over(struct listener *listener, struct handover_writer *writer)
{
	struct connection *c;
	size_t n = 0;

	TAILQ_FOREACH(c, &listener->registered, entry) {
		struct handover_session session;

		if (session_hand_over(c->session, &session) && handover_writer_add(writer, &session) == 0)
			n++;
		handover_session_clear(&session);
	}
	return n;
}

/* ---- life ---- */

static int set_up(struct listener *l, struct host *host, char **ret_error)
{
	int r;

	r = session_hub_new(&l->hub, l->loop, host, l->config, l->service);
	if (r == 0)
		r = loop_timer_new(&l->handshake, l->loop, on_handshake_timeout, l);
	if (r == 0)
		r = loop_timer_new(&l->pause, l->loop, on_pause_end, l);
	if (r < 0)
		return explain(r, ret_error, "listen at", l->config->socket);
	r = open_socket(l, ret_error);
	if (r < 0)
		return r;
	r = loop_io_new(&l->io, l->loop, l->fd, LOOP_READ, on_connection, l);
	if (r < 0)
		return explain(r, ret_error, "listen at", l->config->socket);
	return 0;
}

int listener_new(struct listener **ret, struct loop *loop, struct host *host, const struct config *config,
		 struct service *service, char **ret_error)
{
	struct listener *l = calloc(1, sizeof(*l));
	int r;

	if (!l)
		return explain(-ENOMEM, ret_error, "listen at", config->socket);
	l->loop = loop;
	l->host = host;
	l->config = config;
	l->service = service;
	l->fd = -1;
	TAILQ_INIT(&l->strangers);
	TAILQ_INIT(&l->registered);
	r = set_up(l, host, ret_error);
	if (r < 0) {
		listener_free(l);
		return r;
	}
	*ret = l;
	return 0;
}

struct listener *listener_free(struct listener *listener)
{
	struct connection *c;

	if (!listener)
		return NULL;
	loop_io_free(listener->io);
	while ((c = TAILQ_FIRST(&listener->strangers)))
		hang_up(c);
	while ((c = TAILQ_FIRST(&listener->registered)))
		hang_up(c);
	loop_timer_free(listener->handshake);
	loop_timer_free(listener->pause);
	session_hub_free(listener->hub);
	if (listener->path)
		unlink(listener->path);
	free(listener->path);
	if (listener->fd >= 0)
		close(listener->fd);
	free(listener);
	return NULL;
}
