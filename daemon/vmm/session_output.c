/* SPDX-License-Identifier: GPL-2.0-or-later */

/*
 * Replies. Within a turn they gather in the hub's buffer and leave by one call at its end; outside of one each leaves
 * by itself. What the socket does not take is queued, up to a bound: a peer that does not read is hung up on.
 */

#include <string.h>
#include <sys/socket.h>

#include "daemon/base/log.h"
#include "daemon/vmm/session_private.h"
#include "daemon/base/util.h"

#define QUEUE_MAX 65536u

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
		session_log_end(s, LOG_WARNING, "it does not read its replies");
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

void session_output_flush(struct session *s)
{
	struct session_hub *hub = s->hub;
	size_t n = hub->tx_length;

	hub->tx_length = 0;
	if (n > 0)
		send_or_enqueue(s, hub->tx, n);
}

void session_output_continue(struct session *s)
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
		session_output_flush(s);
	return hub->tx + hub->tx_length;
}

static void reply_done(struct session *s, const uint8_t *own, size_t n)
{
	if (s->hub->current == s)
		s->hub->tx_length += n;
	else
		send_or_enqueue(s, own, n);
}

void session_output_reply(struct session *s, const struct cpupolicy_header *request, const void *payload)
{
	uint8_t own[CPUPOLICY_MSG_MAX_REPLY];

	reply_done(s, own, cpupolicy_msg_encode_reply(request, payload, reply_space(s, own)));
}

void session_output_error(struct session *s, const struct cpupolicy_header *request, enum cpupolicy_error_code code,
			  const char *why)
{
	uint8_t own[CPUPOLICY_MSG_MAX_REPLY];

	reply_done(s, own, cpupolicy_msg_encode_error(request, code, why, reply_space(s, own)));
}

static bool send_with_descriptors(struct session *s, uint8_t *bytes, size_t n, const int fds[2])
{
	union {
		struct cmsghdr align;
		uint8_t bytes[CMSG_SPACE(2 * sizeof(int))];
	} control = {0};
	struct iovec iov = {.iov_base = bytes, .iov_len = n};
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

void session_output_reply_with_descriptors(struct session *s, const struct cpupolicy_header *request,
					   const void *payload, const int fds[2])
{
	uint8_t bytes[CPUPOLICY_MSG_MAX_REPLY];
	size_t n = cpupolicy_msg_encode_reply(request, payload, bytes);

	if (s->hub->current == s)
		session_output_flush(s);
	if (!send_with_descriptors(s, bytes, n, fds))
		s->dead = true;
}
