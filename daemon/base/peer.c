/* SPDX-License-Identifier: GPL-2.0-or-later */

#include "daemon/base/peer.h"

#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include "daemon/base/util.h"

#ifndef SO_PEERPIDFD
#define SO_PEERPIDFD 77
#endif

#define LABEL_MAX 4096

struct process_stat {
	char state;
	unsigned threads;
	uint64_t start_time;
};

/* /proc/PID/stat: the name in parentheses may hold anything, so the fields are counted from its last ')'. */
static int read_stat(pid_t pid, struct process_stat *ret)
{
	char path[64], text[1024];
	_cleanup_close_ int fd = -1;
	const char *fields;
	ssize_t n;

	snprintf(path, sizeof(path), "/proc/%jd/stat", (intmax_t)pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	n = read(fd, text, sizeof(text) - 1);
	if (n < 0)
		return -errno;
	text[n] = '\0';
	fields = strrchr(text, ')');
	if (!fields)
		return -EPROTO;
	/* state is field 3, num_threads 20, starttime 22 */
	if (sscanf(fields + 1, " %c %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %u %*s %" SCNu64,
		   &ret->state, &ret->threads, &ret->start_time) != 3)
		return -EPROTO;
	return 0;
}

/* The process's start time, certain to be of the peer and not of one that took its number: the pidfd shows that the
 * peer still held it after the look. Kernels without SO_PEERPIDFD leave a gap between the two. */
static uint64_t peer_start_time(int fd, pid_t pid)
{
	_cleanup_close_ int pidfd = -1;
	socklen_t length = sizeof(pidfd);
	struct process_stat stat;

	if (pid <= 0)
		return 0;
	if (getsockopt(fd, SOL_SOCKET, SO_PEERPIDFD, &pidfd, &length) < 0)
		pidfd = -1;
	if (read_stat(pid, &stat) < 0)
		return 0;
	if (pidfd >= 0) {
		struct pollfd p = {.fd = pidfd, .events = POLLIN};

		if (poll(&p, 1, 0) != 0)
			return 0;
	}
	return stat.start_time;
}

uint64_t peer_start_time_of(pid_t pid)
{
	struct process_stat stat;

	return read_stat(pid, &stat) < 0 ? 0 : stat.start_time;
}

static int peer_label(int fd, char **ret)
{
	char buffer[LABEL_MAX];
	socklen_t length = sizeof(buffer) - 1;
	char *label;

	/* ENOPROTOOPT: no module gives sockets labels */
	if (getsockopt(fd, SOL_SOCKET, SO_PEERSEC, buffer, &length) < 0)
		length = 0;
	/* Some modules count a NUL or end with a newline, some do not. */
	while (length > 0 && (buffer[length - 1] == '\0' || buffer[length - 1] == '\n'))
		length--;
	if (length == 0) {
		*ret = NULL;
		return 0;
	}
	label = strndup(buffer, length);
	if (!label)
		return -ENOMEM;
	*ret = label;
	return 0;
}

int peer_from_socket(struct peer *ret, int fd)
{
	struct ucred cred;
	socklen_t length = sizeof(cred);
	char *label;
	int r;

	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &length) < 0)
		return -errno;
	r = peer_label(fd, &label);
	if (r < 0)
		return r;
	*ret = (struct peer){
		.uid = cred.uid,
		.gid = cred.gid,
		.pid = cred.pid > 0 ? cred.pid : 0,
		.start_time = peer_start_time(fd, cred.pid),
		.label = label,
	};
	return 0;
}

void peer_clear(struct peer *peer)
{
	free(peer->label);
	*peer = (struct peer){0};
}

bool peer_alive(pid_t pid, uint64_t start_time)
{
	struct process_stat stat;

	if (pid == PEER_PID_GONE)
		return false;
	if (pid <= 0)
		return true;
	if (kill(pid, 0) < 0 && errno == ESRCH)
		return false;
	/* /proc may hide other users' processes, so not to see it says nothing. */
	if (read_stat(pid, &stat) < 0)
		return true;
	if (start_time != 0 && stat.start_time != start_time)
		return false;
	/* A zombie with threads is one whose first thread alone has ended. */
	return !((stat.state == 'Z' || stat.state == 'X') && stat.threads <= 1);
}
