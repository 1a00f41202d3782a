/* SPDX-License-Identifier: GPL-2.0-or-later */

#include "daemon/base/peer.h"

#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <systemd/sd-login.h>

#include "daemon/base/util.h"

#ifndef SO_PEERPIDFD
#define SO_PEERPIDFD 77
#endif
#ifndef SO_PEERGROUPS
#define SO_PEERGROUPS 59
#endif

#define LABEL_MAX 4096

struct process_stat {
	char state;
	unsigned threads;
	uint64_t start_time;
	uint64_t cpu; /* clock ticks, of all threads that are or were */
};

/* /proc/PID/stat: the name in parentheses may hold anything, so the fields are counted from its last ')'. */
static int read_stat(pid_t pid, struct process_stat *ret)
{
	char path[64], text[1024];
	_cleanup_close_ int fd = -1;
	const char *fields;
	uint64_t user, system;
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
	/* state is field 3, utime 14, stime 15, num_threads 20, starttime 22 */
	if (sscanf(fields + 1,
		   " %c %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %" SCNu64 " %" SCNu64
		   " %*s %*s %*s %*s %u %*s %" SCNu64,
		   &ret->state, &user, &system, &ret->threads, &ret->start_time) != 5)
		return -EPROTO;
	ret->cpu = user + system;
	return 0;
}

/* ---- what /proc says ---- */

/* A process, as it is found by its number. */
struct process {
	uint64_t start_time; /* 0: nothing is known */
	char *machine, *unit, *slice;
};

static void process_clear(struct process *p)
{
	free(p->machine);
	free(p->unit);
	free(p->slice);
	*p = (struct process){0};
}

/* All of it is read from files of the kernel and the service manager. What cannot be read is not known. */
static void process_look(struct process *ret, pid_t pid)
{
	struct process p = {0};
	struct process_stat stat;

	if (pid > 0 && read_stat(pid, &stat) >= 0) {
		p.start_time = stat.start_time;
		if (sd_pid_get_unit(pid, &p.unit) < 0)
			p.unit = NULL;
		/* a machine is a unit; each of these calls reads the whole of two files */
		if (!p.unit || sd_pid_get_machine_name(pid, &p.machine) < 0)
			p.machine = NULL;
		if (sd_pid_get_slice(pid, &p.slice) < 0)
			p.slice = NULL;
	}
	*ret = p;
}

/* The same, certain to be of the peer and not of a process that took its number: the pidfd shows that the peer still held it
 * after the look. Kernels without SO_PEERPIDFD leave a gap between the two. */
static void peer_look(struct process *ret, int fd, pid_t pid)
{
	_cleanup_close_ int pidfd = -1;
	socklen_t length = sizeof(pidfd);

	if (pid > 0 && getsockopt(fd, SOL_SOCKET, SO_PEERPIDFD, &pidfd, &length) < 0)
		pidfd = -1;
	process_look(ret, pid);
	if (pidfd >= 0) {
		struct pollfd p = {.fd = pidfd, .events = POLLIN};

		if (poll(&p, 1, 0) != 0)
			process_clear(ret);
	}
}

/* ---- the label ---- */

/* Some modules count a NUL or end with a newline, some do not. */
static int copy_label(char **ret, const char *buffer, size_t length)
{
	char *label = NULL;

	while (length > 0 && (buffer[length - 1] == '\0' || buffer[length - 1] == '\n'))
		length--;
	if (length > 0) {
		label = strndup(buffer, length);
		if (!label)
			return -ENOMEM;
	}
	*ret = label;
	return 0;
}

static int process_label(pid_t pid, char **ret)
{
	char path[64], buffer[LABEL_MAX];
	_cleanup_close_ int fd = -1;
	ssize_t n = -1;

	snprintf(path, sizeof(path), "/proc/%jd/attr/current", (intmax_t)pid);
	if (pid > 0)
		fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd >= 0)
		n = read(fd, buffer, sizeof(buffer));
	return copy_label(ret, buffer, n > 0 ? (size_t)n : 0);
}

uint64_t peer_start_time_of(pid_t pid)
{
	struct process_stat stat;

	return read_stat(pid, &stat) < 0 ? 0 : stat.start_time;
}

int peer_cpu_time(pid_t pid, uint64_t start_time, uint64_t *ret)
{
	long ticks = sysconf(_SC_CLK_TCK);
	struct process_stat stat;
	int r = read_stat(pid, &stat);

	if (r < 0)
		return r == -ENOENT ? -ESRCH : r;
	if (start_time != 0 && stat.start_time != start_time)
		return -ESRCH;
	if (ticks <= 0)
		return -EINVAL;
	*ret = stat.cpu * (NSEC_PER_SEC / (uint64_t)ticks);
	return 0;
}

static int peer_label(int fd, char **ret)
{
	char buffer[LABEL_MAX];
	socklen_t length = sizeof(buffer) - 1;

	/* ENOPROTOOPT: no module gives sockets labels */
	if (getsockopt(fd, SOL_SOCKET, SO_PEERSEC, buffer, &length) < 0)
		length = 0;
	return copy_label(ret, buffer, length);
}

size_t peer_label_length(const char *label)
{
	const char *mode = strrchr(label, ' ');
	size_t length = strlen(label);

	return mode && mode > label && mode[1] == '(' && label[length - 1] == ')' ? (size_t)(mode - label) : length;
}

/* ---- groups ---- */

static int peer_groups(int fd, gid_t **ret, size_t *ret_n)
{
	_cleanup_free_ gid_t *groups = NULL;
	socklen_t length = 0;

	if (getsockopt(fd, SOL_SOCKET, SO_PEERGROUPS, NULL, &length) < 0 && errno == ERANGE) {
		groups = malloc(length);
		if (!groups)
			return -ENOMEM;
		if (getsockopt(fd, SOL_SOCKET, SO_PEERGROUPS, groups, &length) < 0)
			return -errno;
	} else {
		length = 0;
	}
	*ret_n = length / sizeof(gid_t);
	*ret = TAKE(groups);
	return 0;
}

bool peer_in_group(const struct peer *peer, gid_t gid)
{
	if (peer->gid == gid)
		return true;
	for (size_t i = 0; i < peer->n_groups; i++)
		if (peer->groups[i] == gid)
			return true;
	return false;
}

/* ---- peers ---- */

static void take_process(struct peer *peer, struct process *p)
{
	peer->start_time = p->start_time;
	peer->machine = p->machine;
	peer->unit = p->unit;
	peer->slice = p->slice;
	*p = (struct process){0};
}

int peer_from_socket(struct peer *ret, int fd)
{
	_cleanup_(peer_clear) struct peer peer = {0};
	struct process process;
	struct ucred cred;
	socklen_t length = sizeof(cred);
	int r;

	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &length) < 0)
		return -errno;
	peer.uid = cred.uid;
	peer.gid = cred.gid;
	peer.pid = cred.pid > 0 ? cred.pid : 0;
	r = peer_label(fd, &peer.label);
	if (r >= 0)
		r = peer_groups(fd, &peer.groups, &peer.n_groups);
	if (r < 0)
		return r;
	peer_look(&process, fd, cred.pid);
	take_process(&peer, &process);
	*ret = peer;
	peer = (struct peer){0};
	return 0;
}

int peer_from_credentials(struct peer *ret, const struct ucred *cred)
{
	struct peer peer = {
		.uid = cred->uid,
		.gid = cred->gid,
		.pid = cred->pid > 0 ? cred->pid : 0,
	};
	struct process process;
	int r;

	r = process_label(cred->pid, &peer.label);
	if (r < 0)
		return r;
	process_look(&process, cred->pid);
	take_process(&peer, &process);
	*ret = peer;
	return 0;
}

static int copy_text(char **ret, const char *text)
{
	*ret = text ? strdup(text) : NULL;
	return text && !*ret ? -ENOMEM : 0;
}

int peer_copy(struct peer *ret, const struct peer *peer)
{
	_cleanup_(peer_clear) struct peer copy = *peer;

	copy.label = copy.machine = copy.unit = copy.slice = NULL;
	copy.groups = NULL;
	if (copy_text(&copy.label, peer->label) < 0 || copy_text(&copy.machine, peer->machine) < 0 ||
	    copy_text(&copy.unit, peer->unit) < 0 || copy_text(&copy.slice, peer->slice) < 0)
		return -ENOMEM;
	if (peer->n_groups > 0) {
		copy.groups = reallocarray(NULL, peer->n_groups, sizeof(*copy.groups));
		if (!copy.groups)
			return -ENOMEM;
		memcpy(copy.groups, peer->groups, peer->n_groups * sizeof(*copy.groups));
	}
	*ret = copy;
	copy = (struct peer){0};
	return 0;
}

void peer_clear(struct peer *peer)
{
	free(peer->label);
	free(peer->machine);
	free(peer->unit);
	free(peer->slice);
	free(peer->groups);
	*peer = (struct peer){0};
}

bool peer_same_process(const struct peer *a, const struct peer *b)
{
	return a->pid > 0 && a->pid == b->pid && a->start_time != 0 && a->start_time == b->start_time;
}

static bool same_text(const char *a, const char *b)
{
	return a && b ? strcmp(a, b) == 0 : a == b;
}

bool peer_alike(const struct peer *a, const struct peer *b)
{
	return a->uid == b->uid && same_text(a->label, b->label) && same_text(a->unit, b->unit);
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
