/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The hands of the tests on the KVM host: it runs programs, and connects to unix sockets, for the
 * other end of a serial line, many at once.
 *
 * Both directions carry frames: a stream's number, a type, a length (little-endian, 32 bits each)
 * and so many bytes. The other end chooses the numbers and opens streams:
 *
 *   to the agent    'x' run a program: its arguments, each ended by a NUL
 *                   'c' connect to the unix socket of that path
 *                   'd' input for the stream; of length 0: its end
 *                   'k' send the program's process a signal, one byte
 *   from the agent  'r' this agent is there (stream 0), also after each boot
 *                   'd' output of the stream; of length 0: its end
 *                   'e' the program has ended, a 32-bit wait status; or, instead of anything else, an
 *                       errno, negative
 *                   'p' the program's process, 32 bits
 *
 * What does not fit is queued here, so that no stream holds up another. All memory ends with the host.
 */

#define _GNU_SOURCE

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#define MAX_STREAMS 256
#define MAX_ARGS    256
#define MAX_FRAME   (64 * 1024)
#define PIECE       4096

struct header {
	uint32_t stream, type, length;
};

struct stream {
	uint32_t number;
	int fd;    /* what is read; -1: it has ended */
	int input; /* what is written; the same for a socket */
	pid_t pid; /* 0: no program */
	char *queue;
	size_t queued;
	int ending; /* no input after what is queued */
};

static struct stream streams[MAX_STREAMS];
static size_t n_streams;
static int port;

static void die(const char *what)
{
	fprintf(stderr, "agent: %s: %s\n", what, strerror(errno));
	exit(1);
}

static void write_all(const void *data, size_t size)
{
	const char *p = data;

	while (size > 0) {
		ssize_t n = write(port, p, size);

		if (n < 0 && errno != EINTR && errno != EAGAIN)
			die("write");
		if (n > 0) {
			p += n;
			size -= (size_t)n;
		}
	}
}

static void send_frame(uint32_t stream, char type, const void *data, size_t size)
{
	struct header header = {stream, (uint32_t)type, (uint32_t)size};

	write_all(&header, sizeof(header));
	write_all(data, size);
}

static void send_number(uint32_t stream, char type, int32_t value)
{
	send_frame(stream, type, &value, sizeof(value));
}

static struct stream *find(uint32_t number)
{
	for (size_t i = 0; i < n_streams; i++)
		if (streams[i].number == number)
			return &streams[i];
	return NULL;
}

static void close_input(struct stream *s)
{
	if (s->input < 0)
		return;
	if (s->input == s->fd)
		shutdown(s->input, SHUT_WR);
	else
		close(s->input);
	s->input = -1;
}

static void close_output(struct stream *s)
{
	if (s->input == s->fd)
		s->input = -1;
	close(s->fd);
	s->fd = -1;
	send_frame(s->number, 'd', NULL, 0);
}

/* Nothing more to come of it, and nobody left to wait for. */
static void drop_if_over(struct stream *s)
{
	if (s->fd >= 0 || s->pid)
		return;
	close_input(s);
	free(s->queue);
	*s = streams[--n_streams];
}

static int run(char *args, size_t size, int *ret_fd, int *ret_input, pid_t *ret_pid)
{
	char *argv[MAX_ARGS + 1];
	int in[2], out[2], n = 0;
	pid_t pid;

	for (char *p = args; p < args + size && n < MAX_ARGS; p += strlen(p) + 1)
		argv[n++] = p;
	argv[n] = NULL;
	if (n == 0 || pipe2(in, O_CLOEXEC) < 0 || pipe2(out, O_CLOEXEC) < 0)
		return n ? -errno : -EINVAL;
	pid = fork();
	if (pid < 0)
		return -errno;
	if (pid == 0) {
		setsid();
		dup2(in[0], 0);
		dup2(out[1], 1);
		dup2(out[1], 2);
		execvp(argv[0], argv);
		dprintf(2, "%s: %s\n", argv[0], strerror(errno));
		_exit(127);
	}
	close(in[0]);
	close(out[1]);
	*ret_fd = out[0];
	*ret_input = in[1];
	*ret_pid = pid;
	return 0;
}

static int connect_to(const char *path, int *ret_fd)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int fd, r;

	if (strlen(path) >= sizeof(address.sun_path))
		return -ENAMETOOLONG;
	strcpy(address.sun_path, path);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	if (connect(fd, (struct sockaddr *)&address, sizeof(address)) < 0) {
		r = -errno;
		close(fd);
		return r;
	}
	*ret_fd = fd;
	return 0;
}

static void open_stream(uint32_t number, char type, char *data, size_t size)
{
	struct stream s = {.number = number};
	int r = -EMFILE;

	if (n_streams < MAX_STREAMS) {
		if (type == 'x') {
			r = run(data, size, &s.fd, &s.input, &s.pid);
		} else {
			r = connect_to(data, &s.fd);
			s.input = s.fd;
		}
	}
	if (r < 0) {
		send_number(number, 'e', r);
		return;
	}
	fcntl(s.fd, F_SETFL, O_NONBLOCK);
	fcntl(s.input, F_SETFL, O_NONBLOCK);
	streams[n_streams++] = s;
	send_number(number, 'p', s.pid);
}

static void flush_input(struct stream *s)
{
	ssize_t n;

	if (s->input < 0) {
		s->queued = 0;
		return;
	}
	if (s->queued > 0) {
		n = write(s->input, s->queue, s->queued);
		if (n < 0 && (errno == EAGAIN || errno == EINTR))
			return;
		if (n < 0)
			n = (ssize_t)s->queued;
		s->queued -= (size_t)n;
		memmove(s->queue, s->queue + n, s->queued);
	}
	if (s->queued == 0 && s->ending)
		close_input(s);
}

static void take_input(struct stream *s, const char *data, size_t size)
{
	if (size == 0) {
		s->ending = 1;
	} else {
		s->queue = realloc(s->queue, s->queued + size);
		if (!s->queue)
			die("memory");
		memcpy(s->queue + s->queued, data, size);
		s->queued += size;
	}
	flush_input(s);
}

static void take_frame(const struct header *header, char *data)
{
	struct stream *s = find(header->stream);

	switch (header->type) {
	case 'x':
	case 'c':
		data[header->length] = 0;
		open_stream(header->stream, (char)header->type, data, header->length);
		break;
	case 'd':
		if (s)
			take_input(s, data, header->length);
		break;
	case 'k':
		if (s && s->pid && header->length == 1)
			kill(s->pid, data[0]);
		break;
	}
}

/* Whole frames of what has arrived; the rest stays. */
static void read_port(void)
{
	static char buffer[2 * MAX_FRAME];
	static size_t have;
	struct header header;
	size_t at = 0;
	ssize_t n = read(port, buffer + have, sizeof(buffer) - have - 1);

	if (n < 0 && errno != EAGAIN && errno != EINTR)
		die("read");
	if (n > 0)
		have += (size_t)n;
	while (have - at >= sizeof(header)) {
		char saved;

		memcpy(&header, buffer + at, sizeof(header));
		if (header.length > MAX_FRAME) {
			errno = EPROTO;
			die("a frame");
		}
		if (have - at < sizeof(header) + header.length)
			break;
		at += sizeof(header);
		saved = buffer[at + header.length];
		take_frame(&header, buffer + at);
		buffer[at + header.length] = saved;
		at += header.length;
	}
	have -= at;
	memmove(buffer, buffer + at, have);
}

static void read_stream(struct stream *s)
{
	char data[PIECE];
	ssize_t n = read(s->fd, data, sizeof(data));

	if (n > 0)
		send_frame(s->number, 'd', data, (size_t)n);
	else if (n == 0 || (errno != EAGAIN && errno != EINTR))
		close_output(s);
}

static void reap(int child_ended)
{
	char signals[128];
	pid_t pid;
	int status;

	while (read(child_ended, signals, sizeof(signals)) > 0)
		;
	while ((pid = waitpid(-1, &status, WNOHANG)) > 0)
		for (size_t i = 0; i < n_streams; i++)
			if (streams[i].pid == pid) {
				streams[i].pid = 0;
				/* what it wrote goes first */
				while (streams[i].fd >= 0) {
					struct pollfd p = {streams[i].fd, POLLIN, 0};

					if (poll(&p, 1, 0) <= 0)
						break;
					read_stream(&streams[i]);
				}
				send_number(streams[i].number, 'e', status);
				/* a child of its own may hold the pipe open: this stream is over */
				if (streams[i].fd >= 0)
					close_output(&streams[i]);
				drop_if_over(&streams[i]);
				break;
			}
}

static int child_pipe[2];

static void on_child(int number)
{
	int saved = errno;

	(void)number;
	if (write(child_pipe[1], "", 1) < 0)
		errno = saved;
	errno = saved;
}

int main(int argc, char **argv)
{
	if (argc != 2) {
		fprintf(stderr, "usage: agent DEVICE\n");
		return 2;
	}
	port = open(argv[1], O_RDWR | O_CLOEXEC | O_NOCTTY);
	if (port < 0 || pipe2(child_pipe, O_CLOEXEC | O_NONBLOCK) < 0)
		die(argv[1]);
	signal(SIGPIPE, SIG_IGN);
	signal(SIGCHLD, on_child);
	send_frame(0, 'r', NULL, 0);

	for (;;) {
		struct pollfd p[2 + 2 * MAX_STREAMS];
		uint32_t numbers[MAX_STREAMS];
		size_t n = n_streams;

		p[0] = (struct pollfd){port, POLLIN, 0};
		p[1] = (struct pollfd){child_pipe[0], POLLIN, 0};
		for (size_t i = 0; i < n; i++) {
			struct stream *s = &streams[i];

			numbers[i] = s->number;
			p[2 + 2 * i] = (struct pollfd){s->fd, POLLIN, 0};
			p[3 + 2 * i] = (struct pollfd){s->queued ? s->input : -1, POLLOUT, 0};
		}
		if (poll(p, 2 + 2 * n, -1) < 0 && errno != EINTR)
			die("poll");
		for (size_t i = 0; i < n; i++) {
			struct stream *s = find(numbers[i]);

			if (s && p[3 + 2 * i].revents)
				flush_input(s);
			if (s && s->fd >= 0 && p[2 + 2 * i].revents)
				read_stream(s);
			if (s)
				drop_if_over(s);
		}
		if (p[1].revents)
			reap(child_pipe[0]);
		if (p[0].revents)
			read_port();
	}
}
