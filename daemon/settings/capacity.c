/* SPDX-License-Identifier: GPL-2.0-or-later */

/*
 * The kernel tells nobody when an effective cpuset changes. It tells of writes to a file, so the files that it is
 * computed from are watched; and of CPUs that come and go, by an event of the device. It computes the new set after
 * that event, at times: so it is looked at a second time a little later.
 */

#include "daemon/settings/capacity.h"

#include <ctype.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/netlink.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/socket.h>

#include "daemon/base/util.h"

#define CGROUPS      "/sys/fs/cgroup"
#define MAX_CPU      (1u << 20) /* more than any kernel has */
#define TEXT_SIZE    65536      /* a list of some thousand CPUs, each by itself */
#define SECOND_LOOK  (1 * NSEC_PER_SEC)
#define KERNEL_GROUP 1 /* events as the kernel sends them, not as udev passes them on */

struct capacity {
	char *root;
	capacity_fn fn;
	void *userdata;
	uint32_t cpus;
	int inotify_fd;
	int uevent_fd;
	struct loop *loop;
	struct loop_io *inotify_io;
	struct loop_io *uevent_io;
	struct loop_timer *second_look;
};

/* ---- what the kernel says ---- */

static int parse_number(const char **p, uint32_t *ret)
{
	uint32_t n = 0;

	if (!isdigit((unsigned char)**p))
		return -EINVAL;
	for (; isdigit((unsigned char)**p); (*p)++) {
		n = n * 10 + (uint32_t)(**p - '0');
		if (n >= MAX_CPU)
			return -EINVAL;
	}
	*ret = n;
	return 0;
}

int capacity_count_list(const char *list, uint32_t *ret)
{
	const char *p = list;
	uint32_t count = 0, next = 0, first, last;

	while (*p && *p != '\n') {
		if (count > 0 && *p++ != ',')
			return -EINVAL;
		if (parse_number(&p, &first) < 0)
			return -EINVAL;
		last = first;
		if (*p == '-') {
			p++;
			if (parse_number(&p, &last) < 0)
				return -EINVAL;
		}
		if (first < next || last < first)
			return -EINVAL;
		count += last - first + 1;
		next = last + 1;
	}
	if (*p == '\n' && p[1])
		return -EINVAL;
	*ret = count;
	return 0;
}

static int read_text(const char *path, char *text, size_t size)
{
	_cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC);
	size_t length = 0;

	if (fd < 0)
		return -errno;
	while (length < size - 1) {
		ssize_t n = read(fd, text + length, size - 1 - length);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (n == 0)
			break;
		length += (size_t)n;
	}
	text[length] = '\0';
	return 0;
}

/* The daemon's cgroup of version 2, "/system.slice/x.service"; "": the root, or there is none. */
static char *own_cgroup(const struct capacity *c)
{
	_cleanup_free_ char *text = malloc(TEXT_SIZE), *path = NULL;
	const char *line;

	if (!text || asprintf(&path, "%s/proc/self/cgroup", c->root) < 0) {
		path = NULL;
		return NULL;
	}
	if (read_text(path, text, TEXT_SIZE) < 0)
		return strdup("");
	for (line = text; line; line = strchr(line, '\n') ? strchr(line, '\n') + 1 : NULL)
		if (strncmp(line, "0::/", 4) == 0 && line[4] != '\n')
			return strndup(line + 3, strcspn(line + 3, "\n"));
	return strdup("");
}

/* The next one above, in place; false: it was the root. */
static bool go_up(char *cgroup)
{
	char *slash = strrchr(cgroup, '/');

	if (!slash)
		return false;
	*slash = '\0';
	return true;
}

static int read_cpuset(const struct capacity *c, const char *cgroup, uint32_t *ret)
{
	_cleanup_free_ char *text = malloc(TEXT_SIZE), *path = NULL;
	uint32_t count = 0;
	int r;

	if (!text || asprintf(&path, "%s" CGROUPS "%s/cpuset.cpus.effective", c->root, cgroup) < 0) {
		path = NULL;
		return -ENOMEM;
	}
	r = read_text(path, text, TEXT_SIZE);
	if (r >= 0)
		r = capacity_count_list(text, &count);
	if (r >= 0 && count == 0)
		r = -ENODATA;
	if (r >= 0)
		*ret = count;
	return r;
}

/* Those of the CPUs online that the daemon may run on. */
static uint32_t count_affinity(void)
{
	for (unsigned size = 1024; size <= MAX_CPU; size *= 2) {
		cpu_set_t *set = CPU_ALLOC(size);
		int count = 0;

		if (!set)
			break;
		if (sched_getaffinity(0, CPU_ALLOC_SIZE(size), set) == 0)
			count = CPU_COUNT_S(CPU_ALLOC_SIZE(size), set);
		CPU_FREE(set);
		if (count > 0)
			return (uint32_t)count;
	}
	return 1;
}

static uint32_t count_cpus(const struct capacity *c)
{
	_cleanup_free_ char *cgroup = own_cgroup(c);
	uint32_t count = 0;

	if (cgroup) {
		do {
			if (read_cpuset(c, cgroup, &count) >= 0)
				return count;
		} while (go_up(cgroup));
	}
	return count_affinity();
}

/* ---- changes ---- */

static void watch_file(const struct capacity *c, const char *cgroup, const char *name)
{
	_cleanup_free_ char *path = NULL;

	if (asprintf(&path, "%s" CGROUPS "%s/%s", c->root, cgroup, name) < 0) {
		path = NULL;
		return;
	}
	/* One that is watched already stays so; one that is not there has nothing to tell. */
	inotify_add_watch(c->inotify_fd, path, IN_MODIFY);
}

/* All that the effective set of our cgroup is made from, and what gives it a set of its own. */
static void watch_cgroups(const struct capacity *c)
{
	_cleanup_free_ char *cgroup = NULL;

	if (c->inotify_fd < 0)
		return;
	cgroup = own_cgroup(c);
	if (!cgroup)
		return;
	do {
		watch_file(c, cgroup, "cpuset.cpus");
		watch_file(c, cgroup, "cpuset.cpus.effective");
		watch_file(c, cgroup, "cgroup.subtree_control");
	} while (go_up(cgroup));
}

static void look(struct capacity *c)
{
	uint32_t before = c->cpus;

	capacity_reread(c);
	if (c->cpus != before)
		c->fn(c->cpus, c->userdata);
}

static void look_again(void *userdata)
{
	look(userdata);
}

static void on_write(int fd, unsigned events, void *userdata)
{
	char buffer[4096] __attribute__((aligned(__alignof__(struct inotify_event))));
	struct capacity *c = userdata;

	/* Which file it was does not matter, nor how often. */
	while (read(fd, buffer, sizeof(buffer)) > 0)
		;
	loop_timer_set(c->second_look, loop_now(c->loop) + SECOND_LOOK);
	look(c);
}

static void on_uevent(int fd, unsigned events, void *userdata)
{
	struct capacity *c = userdata;
	char buffer[4096];

	/* ENOBUFS: some were lost, and there may be more. */
	while (recv(fd, buffer, sizeof(buffer), MSG_DONTWAIT) > 0 || errno == ENOBUFS || errno == EINTR)
		errno = 0;
	loop_timer_set(c->second_look, loop_now(c->loop) + SECOND_LOOK);
	look(c);
}

/* "online@/devices/system/cpu/cpu1" and "offline@..." wake us, the events of other devices do not, but for a few that
 * begin alike. */
static int filter_uevents(int fd)
{
	static struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, 0),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 0x6f6e6c69, 1, 0), /* "onli" */
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 0x6f66666c, 0, 1), /* "offl" */
		BPF_STMT(BPF_RET | BPF_K, UINT32_MAX),
		BPF_STMT(BPF_RET | BPF_K, 0),
	};
	const struct sock_fprog program = {.len = ARRAY_SIZE(code), .filter = code};

	return setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof(program));
}

static int open_uevents(void)
{
	const struct sockaddr_nl address = {.nl_family = AF_NETLINK, .nl_groups = KERNEL_GROUP};
	_cleanup_close_ int fd = socket(AF_NETLINK, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_KOBJECT_UEVENT);

	if (fd < 0 || filter_uevents(fd) < 0 || bind(fd, (const struct sockaddr *)&address, sizeof(address)) < 0)
		return -1;
	return take_fd(&fd);
}

static int start_watching(struct capacity *c)
{
	int r = loop_timer_new(&c->second_look, c->loop, look_again, c);

	c->inotify_fd = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
	if (r >= 0 && c->inotify_fd >= 0)
		r = loop_io_new(&c->inotify_io, c->loop, c->inotify_fd, LOOP_READ, on_write, c);
	c->uevent_fd = open_uevents();
	if (r >= 0 && c->uevent_fd >= 0)
		r = loop_io_new(&c->uevent_io, c->loop, c->uevent_fd, LOOP_READ, on_uevent, c);
	return r;
}

/* ---- the whole ---- */

uint32_t capacity_cpus(const struct capacity *capacity)
{
	return capacity->cpus;
}

void capacity_reread(struct capacity *capacity)
{
	/* First, so that a write in between is noticed. */
	watch_cgroups(capacity);
	capacity->cpus = count_cpus(capacity);
}

int capacity_new(struct capacity **ret, struct loop *loop, const char *root, capacity_fn fn, void *userdata)
{
	struct capacity *c = calloc(1, sizeof(*c));
	int r;

	if (!c)
		return -ENOMEM;
	*c = (struct capacity){.loop = loop, .fn = fn, .userdata = userdata, .inotify_fd = -1, .uevent_fd = -1};
	c->root = strdup(root);
	r = c->root ? start_watching(c) : -ENOMEM;
	if (r < 0) {
		capacity_free(c);
		return r;
	}
	capacity_reread(c);
	*ret = c;
	return 0;
}

struct capacity *capacity_free(struct capacity *capacity)
{
	if (!capacity)
		return NULL;
	loop_timer_free(capacity->second_look);
	loop_io_free(capacity->inotify_io);
	loop_io_free(capacity->uevent_io);
	if (capacity->inotify_fd >= 0)
		close(capacity->inotify_fd);
	if (capacity->uevent_fd >= 0)
		close(capacity->uevent_fd);
	free(capacity->root);
	free(capacity);
	return NULL;
}
