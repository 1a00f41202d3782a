/* SPDX-License-Identifier: GPL-2.0-or-later */

/*
 * A turn: receive what is there into the hub's buffer, behind what the session held of an unfinished message; handle
 * message after message; gather the replies in the hub's other buffer; send them at once. The poller is
 * level-triggered, so what a turn leaves in the socket comes with the next one, after everybody else's turn.
 *
 * A session stands still, unread, while its registration is being recorded and while it is over its message rate.
 * What had been received by then is held and goes on from there: no message is lost or reordered. An ASK is the
 * exception: it is never made to wait for the rate, but denied.
 *
 * Callbacks of the host may come at any time, also inside a turn (`busy`); a session that must end then ends after
 * it.
 */

#include "daemon/vmm/session_private.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

#include "daemon/base/log.h"
#include "daemon/core/uuid.h"
#include "daemon/base/util.h"

#define RECEIVES     4 /* per turn */
#define ATTEMPTS_MAX 8u
#define FEATURES     (CPUPOLICY_F_ASK | CPUPOLICY_F_INCOMING)

_Static_assert(SESSION_RX_SIZE >= CPUPOLICY_MSG_MAX_REQUEST, "a whole message fits");

static void run(struct session *s);

/* ---- ending ---- */

void session_log_end(struct session *s, int level, const char *why)
{
	struct peerlog_fields fields;

	if (peerlog_open(&s->hub->peerlog, s->peer.uid, loop_now(s->hub->loop)))
		log_fields(level, peerlog_fields(&fields, &s->peer, NULL), "hung up on process %d of uid %u: %s",
			   (int)s->peer.pid, (unsigned)s->peer.uid, why);
}

struct session *session_free(struct session *session)
{
	if (!session)
		return NULL;
	session_unkeep(session, session->end != HOST_END_DAEMON);
	host_detach(TAKE(session->host_session), session->end);
	if (session->hub->current == session)
		session->hub->current = NULL;
	loop_io_free(session->io);
	loop_timer_free(session->resume);
	peer_clear(&session->peer);
	free(session->voucher);
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

/* ---- what the host says ---- */

static struct cpupolicy_header register_header(const struct session *s)
{
	return (struct cpupolicy_header){.request = CPUPOLICY_REGISTER, .seq = s->register_seq};
}

/* From here on it is a session like any. */
static void redeem_voucher(struct session *s)
{
	const struct host_voucher *v = s->voucher;
	char uuid[UUID_TEXT_SIZE], uid[16], pid[16];

	setsockopt(s->fd, SOL_SOCKET, SO_PASSCRED, &(int){0}, sizeof(int));
	if (peerlog_open(&s->hub->peerlog, s->peer.uid, loop_now(s->hub->loop))) {
		uuid_format(uuid, v->uuid);
		snprintf(uid, sizeof(uid), "%u", (unsigned)v->by_uid);
		snprintf(pid, sizeof(pid), "%d", (int)v->by_pid);
		log_fields(LOG_INFO,
			   (const struct log_field[]){
				   {"VM_UUID", uuid}, {"OPENED_BY_UID", uid}, {"OPENED_BY_PID", pid}, {NULL, NULL}},
			   "process %d of uid %u has its connection by OpenVmm of process %d of uid %u",
			   (int)s->peer.pid, (unsigned)s->peer.uid, (int)v->by_pid, (unsigned)v->by_uid);
	}
	free(s->voucher);
	s->voucher = NULL;
}

static void on_registered(void *link, const struct cpupolicy_register_reply *r, int page_fd, int doorbell_fd)
{
	struct session *s = link;
	struct cpupolicy_header request = register_header(s);

	s->registering = false;
	s->state = CPUPOLICY_MSG_REGISTERED;
	session_output_reply_with_descriptors(s, &request, r, (const int[]){page_fd, doorbell_fd});
	if (s->voucher)
		redeem_voucher(s);
	close(page_fd);
	close(doorbell_fd);
	session_keep(s);
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
	session_output_error(s, &request, code, why);
	if (++s->attempts >= ATTEMPTS_MAX) {
		session_log_end(s, LOG_WARNING, "too many attempts to register");
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
	session_log_end(s, LOG_INFO, why);
	end_if_dead(s);
}

static bool on_ended(void *link)
{
	struct session *s = link;
	char byte;

	return recv(s->fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) == 0;
}

const struct host_link_ops session_link_ops = {
	.registered = on_registered,
	.refused = on_refused,
	.closed = on_closed,
	.ended = on_ended,
};

/* ---- one message ---- */

static void protocol_error(struct session *s, const struct cpupolicy_header *request, const char *why)
{
	session_output_error(s, request, CPUPOLICY_ERROR_PROTOCOL, why);
	session_log_end(s, LOG_WARNING, why);
	s->dead = true;
}

typedef void (*message_fn)(struct session *s, const struct cpupolicy_header *h, const union cpupolicy_msg_payload *p);

static void on_hello(struct session *s, const struct cpupolicy_header *h, const union cpupolicy_msg_payload *p)
{
	s->features = (uint8_t)(p->hello.features & FEATURES);
	s->state = CPUPOLICY_MSG_GREETED;
	session_output_reply(
		s, h, &(struct cpupolicy_hello_reply){.features = s->features, .max_vcpus = CPUPOLICY_MAX_VCPUS});
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
		.voucher = s->voucher,
	};
	int r;

	memcpy(reg.uuid, m->uuid, sizeof(reg.uuid));
	memcpy(reg.token, m->token, sizeof(reg.token));
	s->register_seq = h->seq;
	s->registering = true;
	r = host_attach(s->hub->host, &reg, &s->peer, &session_link_ops, s, &s->host_session);
	if (r < 0)
		on_refused(s, cpupolicy_msg_error_code(r), "The daemon lacks the resources for another VM now.");
}

static void on_ask(struct session *s, const struct cpupolicy_header *h, const union cpupolicy_msg_payload *p)
{
	struct vm_verdict verdict = host_ask(s->host_session, &p->ask);

	s->hub->asks++;
	session_output_reply(s, h, &(struct cpupolicy_verdict){.psci = verdict.psci, .reason = verdict.reason});
}

static void on_ask_overload(struct session *s, const struct cpupolicy_header *h, const union cpupolicy_msg_payload *p)
{
	struct vm_verdict verdict = host_ask_overload(s->host_session, &p->ask);

	session_output_reply(s, h, &(struct cpupolicy_verdict){.psci = verdict.psci, .reason = verdict.reason});
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
			session_output_error(s, h, cpupolicy_msg_error_code(r), why);
	} else {
		fn(s, h, payload);
		if (!cpupolicy_msg_row(h->request)->reply_always && cpupolicy_msg_wants_reply(h))
			session_output_reply(s, h, NULL);
	}
}

/* ---- the rate ---- */

static void on_resume(void *userdata)
{
	struct session *s = userdata;

	s->over_rate = false;
	run(s);
}

static void stand_still(struct session *s, uint64_t until)
{
	if (!s->resume && loop_timer_new(&s->resume, s->hub->loop, on_resume, s) < 0) {
		s->dead = true;
		return;
	}
	s->over_rate = true;
	loop_timer_set(s->resume, until);
}

void session_resume(struct session *s)
{
	stand_still(s, loop_now(s->hub->loop));
}

/* ---- the stream ---- */

static bool stands_still(const struct session *s)
{
	return s->dead || s->registering || s->over_rate || s->hub->stopping;
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
		stand_still(s, rate_next(&s->rate, &s->hub->config->messages, loop_now(s->hub->loop)));
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

/* Who sent what was received, on a connection that was opened for somebody. */
static int take_sender(struct session *s, struct msghdr *message)
{
	struct peer peer;
	struct ucred cred;
	int r;

	for (struct cmsghdr *c = CMSG_FIRSTHDR(message); c; c = CMSG_NXTHDR(message, c)) {
		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_CREDENTIALS ||
		    c->cmsg_len != CMSG_LEN(sizeof(cred)))
			continue;
		memcpy(&cred, CMSG_DATA(c), sizeof(cred));
		r = peer_from_credentials(&peer, &cred);
		if (r < 0)
			return r;
		peer_clear(&s->peer);
		s->peer = peer;
		return 0;
	}
	return -ENODATA;
}

/* True: there may be more. */
static bool receive(struct session *s)
{
	struct session_hub *hub = s->hub;
	size_t have = s->held_length;
	/* A stranger is not given more room than one message takes. */
	size_t room = (s->state == CPUPOLICY_MSG_REGISTERED ? SESSION_RX_SIZE : CPUPOLICY_MSG_MAX_REQUEST) - have;
	struct iovec iov = {.iov_base = hub->rx + have, .iov_len = room};
	struct msghdr message = {.msg_iov = &iov, .msg_iovlen = 1};
	/* room for credentials, and for no descriptor behind them */
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(sizeof(struct ucred))];
	} control;
	ssize_t n;

	if (s->voucher) {
		message.msg_control = control.bytes;
		message.msg_controllen = sizeof(control.bytes);
	}
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
	if (s->voucher && take_sender(s, &message) < 0) {
		s->dead = true;
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

	session_output_flush(s);
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
		session_output_continue(s);
	if (events & LOOP_READ)
		for (int i = 0; i < RECEIVES && !stands_still(s); i++)
			if (!receive(s))
				break;
	turn_end(s);
}

/* ---- life ---- */

int session_new(struct session **ret, struct session_hub *hub, int fd, struct peer *peer,
		const struct host_voucher *voucher, const struct session_ops *ops, void *userdata)
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
	s->slot = -1;
	rate_init(&s->rate, &hub->config->messages, loop_now(hub->loop));
	r = 0;
	if (voucher) {
		s->opened = true;
		s->voucher = malloc(sizeof(*voucher));
		if (s->voucher)
			*s->voucher = *voucher;
		else
			r = -ENOMEM;
	}
	if (r >= 0)
		r = loop_io_new(&s->io, hub->loop, fd, LOOP_READ, on_io, s);
	if (r < 0) {
		free(s->voucher);
		free(s);
		return r;
	}
	s->peer = *peer;
	*peer = (struct peer){0};
	*ret = s;
	return 0;
}

const struct peer *session_peer(const struct session *session)
{
	return &session->peer;
}

bool session_is_registering(const struct session *session)
{
	return session->registering;
}

int session_hub_new(struct session_hub **ret, struct loop *loop, struct host *host, const struct config *config,
		    struct service *service)
{
	struct session_hub *hub = calloc(1, sizeof(*hub));

	if (!hub)
		return -ENOMEM;
	hub->loop = loop;
	hub->host = host;
	hub->config = config;
	hub->service = service;
	*ret = hub;
	return 0;
}

struct session_hub *session_hub_free(struct session_hub *hub)
{
	free(hub);
	return NULL;
}
