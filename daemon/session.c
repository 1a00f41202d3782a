/* SPDX-License-Identifier: GPL-2.0-or-later */

/*
 * A turn: receive what is there into the hub's buffer, behind what the session held of an unfinished message; handle
 * message after message; gather the replies in the hub's other buffer; send them at once. The poller is level-triggered,
 * so what a turn leaves in the socket comes with the next one, after everybody else's turn.
 *
 * A session stands still, unread, while its registration is being recorded and while it is over its message rate. What
 * had been received by then is held and goes on from there: no message is lost or reordered. An ASK is the exception: it
 * is never made to wait for the rate, but denied.
 *
 * Callbacks of the host may come at any time, also inside a turn (`busy`); a session that must end then ends after it.
 */

#include "daemon/session.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

#include "daemon/log.h"
#include "daemon/peerlog.h"
#include "daemon/util.h"
#include "proto/message.h"

#define RX_SIZE        16384u /* per turn and receive */
#define TX_SIZE        (RX_SIZE + 1024u)
#define RECEIVES       4 /* per turn */
#define QUEUE_MAX      65536u
#define ATTEMPTS_MAX   8u
#define FEATURES       (CPUPOLICY_F_ASK | CPUPOLICY_F_INCOMING)
#define REGISTER_BYTES (CPUPOLICY_MSG_HEADER_SIZE + sizeof(struct cpupolicy_register_reply))

_Static_assert(RX_SIZE >= CPUPOLICY_MSG_MAX_REQUEST, "a whole message fits");

struct session_hub {
	struct loop *loop;
	struct host *host;
	const struct config *config;
	struct peerlog peerlog;
	struct session *current; /* whose turn it is, and whose replies are in tx */
	size_t tx_length;
	uint32_t asks; /* of this turn */
	union cpupolicy_msg_payload payload;
	uint8_t rx[RX_SIZE];
	uint8_t tx[TX_SIZE];
};

struct session {
	struct session_hub *hub;
	const struct session_ops *ops;
	void *userdata;
	struct loop_io *io;
	struct loop_timer *resume; /* made when it first is over its rate */
	struct host_session *host_session;
	uint8_t *held;  /* received, not handled yet */
	uint8_t *queue; /* to be sent */
	uint32_t held_length;
	uint32_t queue_length;
	struct rate rate;
	struct peer peer;
	int fd;
	uint32_t register_seq;
	uint8_t features;
	uint8_t attempts;
	uint8_t state; /* enum cpupolicy_msg_state */
	uint8_t end;   /* enum host_end */
	bool registering;
	bool over_rate;
	bool busy;
	bool dead;
};

static void run(struct session *s);

/* ---- ending ---- */

static void close_log(struct session *s, int level, const char *why)
{
	char uid[16];

	if (!peerlog_open(&s->hub->peerlog, s->peer.uid, loop_now(s->hub->loop)))
		return;
	snprintf(uid, sizeof(uid), "%u", (unsigned)s->peer.uid);
	log_fields(level, (const struct log_field[]){{"UID", uid}, {NULL, NULL}}, "hung up on process %d of uid %u: %s",
		   (int)s->peer.pid, (unsigned)s->peer.uid, why);
}

struct session *session_free(struct session *session)
{
	if (!session)
		return NULL;
	host_detach(TAKE(session->host_session), session->end);
	if (session->hub->current == session)
		session->hub->current = NULL;
	loop_io_free(session->io);
	loop_timer_free(session->resume);
	peer_clear(&session->peer);
	free(session->held);
	free(session->queue);
	if (session->fd >= 0)
		close(session->fd);
	free(session);
	return NULL;
}

static void end(struct session *s)
{
	if (s->end == HOST_END_DAEMON)
		s->end = HOST_END_LOST;
	s->ops->ended(s, s->userdata);
	session_free(s);
}

/* For whoever calls from outside a turn: inside one, its end sees to it. */
static void end_if_dead(struct session *s)
{
	if (s->dead && !s->busy)
		end(s);
}

/* ---- sending ---- */

/* Bytes sent, 0 if the socket is full; the session is dead if it cannot be written to. */
static size_t send_some(struct session *s, const uint8_t *bytes, size_t n)
{
	ssize_t sent = send(s->fd, bytes, n, MSG_DONTWAIT | MSG_NOSIGNAL);

	if (sent >= 0)
		return (size_t)sent;
	if (errno != EAGAIN && errno != EWOULDBLOCK && errno != EINTR)
		s->dead = true;
	return 0;
}

static void enqueue(struct session *s, const uint8_t *bytes, size_t n)
{
	uint8_t *queue;

	if (n == 0 || s->dead)
		return;
	if (s->queue_length + n > QUEUE_MAX) {
		close_log(s, LOG_WARNING, "it does not read its replies");
		s->dead = true;
		return;
	}
	queue = realloc(s->queue, s->queue_length + n);
	if (!queue) {
		s->dead = true;
		return;
	}
	memcpy(queue + s->queue_length, bytes, n);
	s->queue = queue;
	s->queue_length += (uint32_t)n;
}

static void send_or_enqueue(struct session *s, const uint8_t *bytes, size_t n)
{
	size_t sent = s->queue_length == 0 ? send_some(s, bytes, n) : 0;

	enqueue(s, bytes + sent, n - sent);
}

static void send_gathered(struct session *s)
{
	struct session_hub *hub = s->hub;
	size_t n = hub->tx_length;

	hub->tx_length = 0;
	if (n > 0)
		send_or_enqueue(s, hub->tx, n);
}

static void send_queue(struct session *s)
{
	size_t sent = send_some(s, s->queue, s->queue_length);

	s->queue_length -= (uint32_t)sent;
	memmove(s->queue, s->queue + sent, s->queue_length);
	if (s->queue_length == 0) {
		free(s->queue);
		s->queue = NULL;
	}
}

/* Where the next reply is to be written: CPUPOLICY_MSG_MAX_REPLY bytes. */
static uint8_t *reply_space(struct session *s, uint8_t *own)
{
	struct session_hub *hub = s->hub;

	if (hub->current != s)
		return own;
	if (hub->tx_length + CPUPOLICY_MSG_MAX_REPLY > sizeof(hub->tx))
		send_gathered(s);
	return hub->tx + hub->tx_length;
}

static void reply_done(struct session *s, const uint8_t *own, size_t n)
{
	if (s->hub->current == s)
		s->hub->tx_length += n;
	else
		send_or_enqueue(s, own, n);
}

static void reply(struct session *s, const struct cpupolicy_header *request, const void *payload)
{
	uint8_t own[CPUPOLICY_MSG_MAX_REPLY];

	reply_done(s, own, cpupolicy_msg_encode_reply(request, payload, reply_space(s, own)));
}

static void reply_error(struct session *s, const struct cpupolicy_header *request, enum cpupolicy_error_code code,
			const char *why)
{
	uint8_t own[CPUPOLICY_MSG_MAX_REPLY];

	reply_done(s, own, cpupolicy_msg_encode_error(request, code, why, reply_space(s, own)));
}

static void protocol_error(struct session *s, const struct cpupolicy_header *request, const char *why)
{
	reply_error(s, request, CPUPOLICY_ERROR_PROTOCOL, why);
	close_log(s, LOG_WARNING, why);
	s->dead = true;
}

static bool send_with_descriptors(struct session *s, const uint8_t *bytes, size_t n, const int fds[2])
{
	union {
		struct cmsghdr align;
		uint8_t bytes[CMSG_SPACE(2 * sizeof(int))];
	} control = {0};
	struct iovec iov = {.iov_base = (void *)(uintptr_t)bytes, .iov_len = n};
	struct msghdr message = {
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = &control,
		.msg_controllen = sizeof(control.bytes),
	};
	struct cmsghdr *c = CMSG_FIRSTHDR(&message);
	ssize_t sent;

	c->cmsg_level = SOL_SOCKET;
	c->cmsg_type = SCM_RIGHTS;
	c->cmsg_len = CMSG_LEN(2 * sizeof(int));
	memcpy(CMSG_DATA(c), fds, 2 * sizeof(int));
	if (s->queue_length > 0)
		return false; /* a peer that has not even read what came before */
	sent = sendmsg(s->fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
	if (sent < 0)
		return false;
	enqueue(s, bytes + sent, n - (size_t)sent);
	return true;
}

/* ---- what the host says ---- */

static struct cpupolicy_header register_header(const struct session *s)
{
	return (struct cpupolicy_header){.request = CPUPOLICY_REGISTER, .seq = s->register_seq};
}

static void on_registered(void *link, const struct cpupolicy_register_reply *r, int page_fd, int doorbell_fd)
{
	struct session *s = link;
	struct cpupolicy_header request = register_header(s);
	uint8_t bytes[CPUPOLICY_MSG_MAX_REPLY];
	size_t n = cpupolicy_msg_encode_reply(&request, r, bytes);

	if (s->hub->current == s)
		send_gathered(s);
	s->registering = false;
	s->state = CPUPOLICY_MSG_REGISTERED;
	if (!send_with_descriptors(s, bytes, n, (const int[]){page_fd, doorbell_fd}))
		s->dead = true;
	close(page_fd);
	close(doorbell_fd);
	s->ops->registered(s, s->userdata);
	if (!s->busy)
		run(s);
}

static void on_refused(void *link, uint32_t code, const char *why)
{
	struct session *s = link;
	struct cpupolicy_header request = register_header(s);

	s->host_session = NULL;
	s->registering = false;
	reply_error(s, &request, code, why);
	if (++s->attempts >= ATTEMPTS_MAX) {
		close_log(s, LOG_WARNING, "too many attempts to register");
		s->dead = true;
	}
	if (!s->busy)
		run(s);
}

static void on_closed(void *link, const char *why)
{
	struct session *s = link;

	s->host_session = NULL;
	s->dead = true;
	close_log(s, LOG_INFO, why);
	end_if_dead(s);
}

static bool on_ended(void *link)
{
	struct session *s = link;
	char byte;

	return recv(s->fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) == 0;
}

static const struct host_link_ops link_ops = {
	.registered = on_registered,
	.refused = on_refused,
	.closed = on_closed,
	.ended = on_ended,
};

/* ---- one message ---- */

typedef void (*message_fn)(struct session *s, const struct cpupolicy_header *h, const union cpupolicy_msg_payload *p);

static void on_hello(struct session *s, const struct cpupolicy_header *h, const union cpupolicy_msg_payload *p)
{
	s->features = (uint8_t)(p->hello.features & FEATURES);
	s->state = CPUPOLICY_MSG_GREETED;
	reply(s, h, &(struct cpupolicy_hello_reply){.features = s->features, .max_vcpus = CPUPOLICY_MAX_VCPUS});
}

static void on_register(struct session *s, const struct cpupolicy_header *h, const union cpupolicy_msg_payload *p)
{
	const struct cpupolicy_register *m = &p->reg.head;
	struct host_registration reg = {
		.name = m->name,
		.possible = m->possible,
		.features = s->features,
		.vm =
			{
				.flags = m->flags,
				.boot = m->boot,
				.run_state = m->run_state,
				.vcpus = p->reg.vcpus,
			},
	};
	int r;

	memcpy(reg.uuid, m->uuid, sizeof(reg.uuid));
	memcpy(reg.token, m->token, sizeof(reg.token));
	s->register_seq = h->seq;
	s->registering = true;
	r = host_attach(s->hub->host, &reg, &s->peer, &link_ops, s, &s->host_session);
	if (r < 0)
		on_refused(s, cpupolicy_msg_error_code(r), "The daemon lacks the resources for another VM now.");
}

static void on_ask(struct session *s, const struct cpupolicy_header *h, const union cpupolicy_msg_payload *p)
{
	struct vm_verdict verdict = host_ask(s->host_session, &p->ask);

	s->hub->asks++;
	reply(s, h, &(struct cpupolicy_verdict){.psci = verdict.psci, .reason = verdict.reason});
}

static void on_ask_overload(struct session *s, const struct cpupolicy_header *h, const union cpupolicy_msg_payload *p)
{
	struct vm_verdict verdict = host_ask_overload(s->host_session, &p->ask);

	reply(s, h, &(struct cpupolicy_verdict){.psci = verdict.psci, .reason = verdict.reason});
}

static void on_power(struct session *s, const struct cpupolicy_header *h, const union cpupolicy_msg_payload *p)
{
	host_power(s->host_session, &p->power);
}

static void on_ost(struct session *s, const struct cpupolicy_header *h, const union cpupolicy_msg_payload *p)
{
	host_ost(s->host_session, &p->ost);
}

static void on_eject(struct session *s, const struct cpupolicy_header *h, const union cpupolicy_msg_payload *p)
{
	host_eject(s->host_session, &p->eject);
}

static void on_run_state(struct session *s, const struct cpupolicy_header *h, const union cpupolicy_msg_payload *p)
{
	host_run_state(s->host_session, p->run.run_state);
}

static void on_reset(struct session *s, const struct cpupolicy_header *h, const union cpupolicy_msg_payload *p)
{
	host_reset(s->host_session, p->reset.kind);
}

static void on_state(struct session *s, const struct cpupolicy_header *h, const union cpupolicy_msg_payload *p)
{
	host_state(s->host_session, p->state.head.run_state, p->state.vcpus);
}

static void on_confirm(struct session *s, const struct cpupolicy_header *h, const union cpupolicy_msg_payload *p)
{
	host_confirm(s->host_session, &p->confirm);
}

static void on_unregister(struct session *s, const struct cpupolicy_header *h, const union cpupolicy_msg_payload *p)
{
	s->end = p->unregister.cause == CPUPOLICY_UNREGISTER_MIGRATED ? HOST_END_MIGRATED : HOST_END_SHUTDOWN;
	host_detach(TAKE(s->host_session), s->end);
	s->dead = true;
}

/* The protocol's table (message.c) says what is well-formed and legal; this one, what is done. */
static const message_fn handlers[] = {
	[CPUPOLICY_HELLO] = on_hello,
	[CPUPOLICY_REGISTER] = on_register,
	[CPUPOLICY_ASK] = on_ask,
	[CPUPOLICY_POWER] = on_power,
	[CPUPOLICY_OST] = on_ost,
	[CPUPOLICY_EJECT] = on_eject,
	[CPUPOLICY_RUN_STATE] = on_run_state,
	[CPUPOLICY_RESET] = on_reset,
	[CPUPOLICY_STATE] = on_state,
	[CPUPOLICY_CONFIRM] = on_confirm,
	[CPUPOLICY_UNREGISTER] = on_unregister,
};
_Static_assert(ARRAY_SIZE(handlers) == CPUPOLICY_REQUEST_MAX + 1, "a handler for every request");

static struct cpupolicy_msg_context context(const struct session *s)
{
	return (struct cpupolicy_msg_context){
		.features = s->features,
		.max_vcpus = CPUPOLICY_MAX_VCPUS,
		.possible = s->host_session ? host_session_possible(s->host_session) : 0,
	};
}

static void handle(struct session *s, const struct cpupolicy_header *h, const uint8_t *bytes, message_fn fn)
{
	union cpupolicy_msg_payload *payload = &s->hub->payload;
	const struct cpupolicy_msg_context c = context(s);
	const char *why;
	int r;

	cpupolicy_msg_decode(h, bytes, payload);
	r = cpupolicy_msg_check_payload(h, payload, &c, &why);
	if (r == -EPROTO) {
		protocol_error(s, h, why);
	} else if (r < 0) {
		s->register_seq = h->seq;
		if (h->request == CPUPOLICY_REGISTER)
			on_refused(s, cpupolicy_msg_error_code(r), why);
		else
			reply_error(s, h, cpupolicy_msg_error_code(r), why);
	} else {
		fn(s, h, payload);
		if (!cpupolicy_msg_row(h->request)->reply_always && cpupolicy_msg_wants_reply(h))
			reply(s, h, NULL);
	}
}

/* ---- the rate ---- */

static void on_resume(void *userdata)
{
	struct session *s = userdata;

	s->over_rate = false;
	run(s);
}

static void stand_still(struct session *s)
{
	struct session_hub *hub = s->hub;

	if (!s->resume && loop_timer_new(&s->resume, hub->loop, on_resume, s) < 0) {
		s->dead = true;
		return;
	}
	s->over_rate = true;
	loop_timer_set(s->resume, rate_next(&s->rate, &hub->config->messages, loop_now(hub->loop)));
}

/* ---- the stream ---- */

static bool stands_still(const struct session *s)
{
	return s->dead || s->registering || s->over_rate;
}

/* Handles the message at `bytes`; returns its length, 0 if it is not to be handled now. */
static size_t next_message(struct session *s, const uint8_t *bytes, size_t n)
{
	struct cpupolicy_header h;
	message_fn fn;
	const char *why;
	bool in_rate;

	if (n < CPUPOLICY_MSG_HEADER_SIZE)
		return 0;
	if (cpupolicy_msg_check_header(bytes, s->state, &h, &why) < 0) {
		cpupolicy_msg_decode_header(bytes, &h);
		protocol_error(s, &h, why);
		return 0;
	}
	if (n < CPUPOLICY_MSG_HEADER_SIZE + h.size)
		return 0;
	fn = handlers[h.request];
	in_rate = rate_take(&s->rate, &s->hub->config->messages, loop_now(s->hub->loop));
	if (!in_rate && h.request != CPUPOLICY_ASK) {
		stand_still(s);
		return 0;
	}
	handle(s, &h, bytes + CPUPOLICY_MSG_HEADER_SIZE, in_rate ? fn : on_ask_overload);
	return CPUPOLICY_MSG_HEADER_SIZE + h.size;
}

/* Keeps what is left of the n bytes in the hub's buffer. */
static void hold(struct session *s, size_t from, size_t n)
{
	size_t left = n - from;
	uint8_t *held = s->held;

	if (left == 0 || s->dead) {
		free(held);
		s->held = NULL;
		s->held_length = 0;
		return;
	}
	if (left != s->held_length) {
		held = realloc(held, left);
		if (!held) {
			s->dead = true;
			return;
		}
	}
	memcpy(held, s->hub->rx + from, left);
	s->held = held;
	s->held_length = (uint32_t)left;
}

static void handle_all(struct session *s, size_t n)
{
	size_t at = 0, length;

	while (!stands_still(s)) {
		length = next_message(s, s->hub->rx + at, n - at);
		if (length == 0)
			break;
		at += length;
	}
	hold(s, at, n);
}

/* Descriptors would have to be closed one by one; with no room for them the kernel does it, and says so. */
static void refuse_descriptors(struct session *s, size_t n)
{
	struct cpupolicy_header h = {0};

	if (n >= CPUPOLICY_MSG_HEADER_SIZE)
		cpupolicy_msg_decode_header(s->hub->rx, &h);
	protocol_error(s, &h, "descriptors where none belong");
}

/* True: there may be more. */
static bool receive(struct session *s)
{
	struct session_hub *hub = s->hub;
	size_t have = s->held_length;
	/* A stranger is not given more room than one message takes. */
	size_t room = (s->state == CPUPOLICY_MSG_REGISTERED ? RX_SIZE : CPUPOLICY_MSG_MAX_REQUEST) - have;
	struct iovec iov = {.iov_base = hub->rx + have, .iov_len = room};
	struct msghdr message = {.msg_iov = &iov, .msg_iovlen = 1};
	ssize_t n;

	n = recvmsg(s->fd, &message, MSG_DONTWAIT);
	if (n < 0) {
		s->dead = errno != EAGAIN && errno != EWOULDBLOCK && errno != EINTR;
		return false;
	}
	if (n == 0) {
		s->dead = true;
		return false;
	}
	if (have > 0)
		memcpy(hub->rx, s->held, have);
	if (message.msg_flags & MSG_CTRUNC) {
		refuse_descriptors(s, have + (size_t)n);
		return false;
	}
	handle_all(s, have + (size_t)n);
	return (size_t)n == room && !stands_still(s);
}

/* ---- a turn ---- */

static void turn_begin(struct session *s)
{
	assert(!s->hub->current); /* turns do not nest: the buffers are the hub's */
	s->busy = true;
	s->hub->current = s;
	s->hub->tx_length = 0;
	s->hub->asks = 0;
}

/* The loop's time is when it saw that there is something to read. */
static void count_latency(const struct session_hub *hub)
{
	struct timespec now;
	uint64_t since = loop_now(hub->loop), until;

	clock_gettime(CLOCK_BOOTTIME, &now);
	until = (uint64_t)now.tv_sec * NSEC_PER_SEC + (uint64_t)now.tv_nsec;
	host_count_latency(hub->host, until > since ? until - since : 0, hub->asks);
}

/* The session may be gone after this. */
static void turn_end(struct session *s)
{
	unsigned events = 0;

	send_gathered(s);
	if (s->hub->asks > 0)
		count_latency(s->hub);
	s->hub->current = NULL;
	s->busy = false;
	if (!stands_still(s))
		events |= LOOP_READ;
	if (s->queue_length > 0)
		events |= LOOP_WRITE;
	if (!s->dead && loop_io_set(s->io, events) < 0)
		s->dead = true;
	end_if_dead(s);
}

/* Goes on with what is held, after a time of standing still. */
static void run(struct session *s)
{
	size_t n = s->held_length;

	turn_begin(s);
	if (n > 0)
		memcpy(s->hub->rx, s->held, n);
	handle_all(s, n);
	turn_end(s);
}

static void on_io(int fd, unsigned events, void *userdata)
{
	struct session *s = userdata;

	turn_begin(s);
	if ((events & LOOP_WRITE) && s->queue_length > 0)
		send_queue(s);
	if (events & LOOP_READ)
		for (int i = 0; i < RECEIVES && !stands_still(s); i++)
			if (!receive(s))
				break;
	turn_end(s);
}

/* ---- life ---- */

int session_new(struct session **ret, struct session_hub *hub, int fd, struct peer *peer, const struct session_ops *ops,
		void *userdata)
{
	struct session *s = calloc(1, sizeof(*s));
	int r;

	if (!s)
		return -ENOMEM;
	s->hub = hub;
	s->ops = ops;
	s->userdata = userdata;
	s->fd = fd;
	s->state = CPUPOLICY_MSG_GREETING;
	s->end = HOST_END_DAEMON;
	rate_init(&s->rate, &hub->config->messages, loop_now(hub->loop));
	r = loop_io_new(&s->io, hub->loop, fd, LOOP_READ, on_io, s);
	if (r < 0) {
		free(s);
		return r;
	}
	s->peer = *peer;
	*peer = (struct peer){0};
	*ret = s;
	return 0;
}

bool session_is_registering(const struct session *session)
{
	return session->registering;
}

int session_hub_new(struct session_hub **ret, struct loop *loop, struct host *host, const struct config *config)
{
	struct session_hub *hub = calloc(1, sizeof(*hub));

	if (!hub)
		return -ENOMEM;
	hub->loop = loop;
	hub->host = host;
	hub->config = config;
	*ret = hub;
	return 0;
}

struct session_hub *session_hub_free(struct session_hub *hub)
{
	free(hub);
	return NULL;
}
