/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "channel.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

/* Room for more descriptors than are ever legal, so that a surplus is seen and closed rather than cut off. */
#define MAX_FDS 8

int cpupolicy_channel_init(struct cpupolicy_channel *ch, int epoll, uint32_t tag)
{
	uint8_t *tx = malloc(CPUPOLICY_CHANNEL_BUFFER);

	if (!tx)
		return -ENOMEM;
	*ch = (struct cpupolicy_channel){.epoll = epoll, .tag = tag, .fd = -1, .tx = tx, .held = SIZE_MAX};
	return 0;
}

void cpupolicy_channel_done(struct cpupolicy_channel *ch)
{
	cpupolicy_channel_close(ch);
	free(ch->tx);
	ch->tx = NULL;
}

int cpupolicy_channel_connect(struct cpupolicy_channel *ch, const char *path)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int fd;

	if (strlen(path) >= sizeof(address.sun_path))
		return -ENAMETOOLONG;
	memcpy(address.sun_path, path, strlen(path));
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return -errno;
	if (connect(fd, (const struct sockaddr *)&address, sizeof(address)) < 0) {
		int r = -errno;

		close(fd);
		return r;
	}
	return cpupolicy_channel_open(ch, fd);
}

int cpupolicy_channel_open(struct cpupolicy_channel *ch, int fd)
{
	struct epoll_event event = {.events = EPOLLIN, .data.u32 = ch->tag};

	if (fcntl(fd, F_SETFD, FD_CLOEXEC) < 0 || epoll_ctl(ch->epoll, EPOLL_CTL_ADD, fd, &event) < 0) {
		int r = -errno;

		close(fd);
		return r;
	}
	ch->fd = fd;
	return 0;
}

void cpupolicy_channel_close(struct cpupolicy_channel *ch)
{
	cpupolicy_channel_close_fds(ch);
	if (ch->fd >= 0) {
		/* The caller of cpupolicy_start_fd() may hold a copy, and epoll watches the file, not the number. */
		epoll_ctl(ch->epoll, EPOLL_CTL_DEL, ch->fd, NULL);
		close(ch->fd);
	}
	ch->fd = -1;
	ch->wants_write = false;
	ch->deaf = false;
	ch->from = ch->end = 0;
	ch->held = SIZE_MAX;
	ch->rx_from = ch->rx_end = 0;
}

/* ---- out ---- */

int cpupolicy_channel_put(struct cpupolicy_channel *ch, const struct cpupolicy_header *header, const void *payload,
			  size_t limit)
{
	size_t size = CPUPOLICY_MSG_HEADER_SIZE + header->size;

	if (ch->fd < 0 || ch->deaf)
		return 0;
	if (ch->end - ch->from + size > limit)
		return -ENOBUFS;
	if (ch->end + size > CPUPOLICY_CHANNEL_BUFFER) {
		memmove(ch->tx, ch->tx + ch->from, ch->end - ch->from);
		ch->end -= ch->from;
		if (ch->held != SIZE_MAX)
			ch->held -= ch->from;
		ch->from = 0;
	}
	ch->end += cpupolicy_msg_encode(header, payload, ch->tx + ch->end);
	return 0;
}

void cpupolicy_channel_hold(struct cpupolicy_channel *ch)
{
	ch->held = ch->end;
}

void cpupolicy_channel_release(struct cpupolicy_channel *ch)
{
	ch->held = SIZE_MAX;
}

bool cpupolicy_channel_is_empty(const struct cpupolicy_channel *ch)
{
	return ch->from == ch->end;
}

static void watch_write(struct cpupolicy_channel *ch, bool wants)
{
	struct epoll_event event = {.events = EPOLLIN | (wants ? EPOLLOUT : 0), .data.u32 = ch->tag};

	if (ch->wants_write == wants)
		return;
	if (epoll_ctl(ch->epoll, EPOLL_CTL_MOD, ch->fd, &event) == 0)
		ch->wants_write = wants;
}

void cpupolicy_channel_flush(struct cpupolicy_channel *ch)
{
	size_t end = ch->held < ch->end ? ch->held : ch->end;

	if (ch->fd < 0)
		return;
	while (ch->from < end) {
		ssize_t n = send(ch->fd, ch->tx + ch->from, end - ch->from, MSG_NOSIGNAL | MSG_DONTWAIT);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && (errno == EAGAIN || errno == ENOBUFS))
			break;
		if (n < 0) {
			/* Not the end yet: the peer may have said why, and that is found by reading. */
			ch->deaf = true;
			ch->from = ch->end = 0;
			break;
		}
		ch->from += (size_t)n;
	}
	if (ch->from == ch->end) {
		if (ch->held != SIZE_MAX)
			ch->held = 0;
		ch->from = ch->end = 0;
		end = 0;
	}
	watch_write(ch, ch->from < end);
}

/* ---- in ---- */

static int keep_fds(struct cpupolicy_channel *ch, struct msghdr *msg, const char **ret_why)
{
	bool surplus = msg->msg_flags & MSG_CTRUNC;

	for (struct cmsghdr *cmsg = CMSG_FIRSTHDR(msg); cmsg; cmsg = CMSG_NXTHDR(msg, cmsg)) {
		size_t n;

		if (cmsg->cmsg_level != SOL_SOCKET || cmsg->cmsg_type != SCM_RIGHTS)
			continue;
		n = (cmsg->cmsg_len - CMSG_LEN(0)) / sizeof(int);
		for (size_t i = 0; i < n; i++) {
			int fd;

			memcpy(&fd, CMSG_DATA(cmsg) + i * sizeof(int), sizeof(fd));
			if (ch->n_fds < CPUPOLICY_MSG_REGISTER_FDS) {
				ch->fds[ch->n_fds++] = fd;
			} else {
				close(fd);
				surplus = true;
			}
		}
	}
	if (surplus) {
		*ret_why = "the daemon sent too many descriptors";
		return -EPROTO;
	}
	return 0;
}

int cpupolicy_channel_receive(struct cpupolicy_channel *ch, const char **ret_why)
{
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(MAX_FDS * sizeof(int))];
	} control;
	size_t room;
	struct iovec iov;
	struct msghdr msg = {
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = &control,
		.msg_controllen = sizeof(control),
	};
	ssize_t n;
	int r;

	memmove(ch->rx, ch->rx + ch->rx_from, ch->rx_end - ch->rx_from);
	ch->rx_end -= ch->rx_from;
	ch->rx_from = 0;
	room = sizeof(ch->rx) - ch->rx_end;
	iov = (struct iovec){.iov_base = ch->rx + ch->rx_end, .iov_len = room};
	do
		n = recvmsg(ch->fd, &msg, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
	while (n < 0 && errno == EINTR);
	if (n < 0 && errno == EAGAIN)
		return 0;
	if (n < 0) {
		*ret_why = "the connection to the daemon broke";
		return -ECONNRESET;
	}
	r = keep_fds(ch, &msg, ret_why);
	if (r < 0)
		return r;
	if (n == 0) {
		*ret_why = "the daemon closed the connection";
		return -ECONNRESET;
	}
	ch->rx_end += (size_t)n;
	return (size_t)n == room || ch->n_fds > 0;
}

int cpupolicy_channel_next(struct cpupolicy_channel *ch, struct cpupolicy_header *ret_header,
			   union cpupolicy_msg_reply *ret_reply, const char **ret_why)
{
	size_t have = ch->rx_end - ch->rx_from;
	const uint8_t *at = ch->rx + ch->rx_from;
	struct cpupolicy_header header;
	int r;

	if (have < CPUPOLICY_MSG_HEADER_SIZE)
		return 0;
	r = cpupolicy_msg_check_reply_header(at, &header, ret_why);
	if (r < 0)
		return r;
	if (have < CPUPOLICY_MSG_HEADER_SIZE + header.size)
		return 0;
	cpupolicy_msg_decode_reply(&header, at + CPUPOLICY_MSG_HEADER_SIZE, ret_reply);
	ch->rx_from += CPUPOLICY_MSG_HEADER_SIZE + header.size;
	*ret_header = header;
	return 1;
}

int cpupolicy_channel_take_fd(struct cpupolicy_channel *ch, size_t i)
{
	int fd = -1;

	if (i < ch->n_fds) {
		fd = ch->fds[i];
		ch->fds[i] = -1;
	}
	return fd;
}

size_t cpupolicy_channel_fds(const struct cpupolicy_channel *ch)
{
	return ch->n_fds;
}

void cpupolicy_channel_close_fds(struct cpupolicy_channel *ch)
{
	for (size_t i = 0; i < ch->n_fds; i++)
		if (ch->fds[i] >= 0)
			close(ch->fds[i]);
	ch->n_fds = 0;
}
