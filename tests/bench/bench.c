/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <sched.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "tests/bench/bench.h"

void bench_fail(const char *format, ...)
{
	va_list ap;

	va_start(ap, format);
	fprintf(stderr, "%s: ", program_invocation_short_name);
	vfprintf(stderr, format, ap);
	fputc('\n', stderr);
	va_end(ap);
	exit(EXIT_FAILURE);
}

uint32_t bench_number(const char *text, uint32_t min)
{
	unsigned long v;
	char *end;

	errno = 0;
	v = strtoul(text, &end, 10);
	if (errno != 0 || end == text || *end != '\0' || v < min || v > UINT32_MAX)
		bench_fail("\"%s\" is not a number of at least %" PRIu32, text, min);
	return (uint32_t)v;
}

uint64_t bench_now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000 + (uint64_t)ts.tv_nsec;
}

void bench_pause(uint64_t ns)
{
	struct timespec ts = {.tv_sec = (time_t)(ns / 1000000000), .tv_nsec = (long)(ns % 1000000000)};

	clock_nanosleep(CLOCK_MONOTONIC, 0, &ts, NULL);
}

/* ---- samples ---- */

void bench_samples_init(struct bench_samples *s, size_t size)
{
	*s = (struct bench_samples){.values = calloc(size, sizeof(*s->values)), .size = size};
	if (!s->values)
		bench_fail("out of memory");
}

void bench_samples_add(struct bench_samples *s, uint64_t value)
{
	if (s->n == s->size)
		bench_fail("more samples than were planned");
	s->values[s->n++] = value;
}

void bench_samples_clear(struct bench_samples *s)
{
	free(s->values);
	*s = (struct bench_samples){0};
}

static int compare(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return (x > y) - (x < y);
}

uint64_t bench_samples_quantile(struct bench_samples *s, unsigned of_1000)
{
	size_t at;

	if (s->n == 0)
		bench_fail("no samples");
	qsort(s->values, s->n, sizeof(*s->values), compare);
	at = s->n * of_1000 / 1000;
	return s->values[at < s->n ? at : s->n - 1];
}

void bench_samples_print(const char *name, struct bench_samples *s)
{
	printf("{\"name\": \"%s\", \"n\": %zu, \"p50\": %" PRIu64 ", \"p99\": %" PRIu64 ", \"p999\": %" PRIu64 "}\n",
	       name, s->n, bench_samples_quantile(s, 500), bench_samples_quantile(s, 990),
	       bench_samples_quantile(s, 999));
	fflush(stdout);
}

/* ---- sockets ---- */

static int open_socket(const char *path, struct sockaddr_un *ret_address)
{
	int fd;

	*ret_address = (struct sockaddr_un){.sun_family = AF_UNIX};
	if (strlen(path) >= sizeof(ret_address->sun_path))
		bench_fail("%s: too long for a socket", path);
	strcpy(ret_address->sun_path, path);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		bench_fail("socket: %s", strerror(errno));
	return fd;
}

int bench_connect(const char *path)
{
	struct sockaddr_un address;
	int fd = open_socket(path, &address);

	if (connect(fd, (struct sockaddr *)&address, sizeof(address)) < 0)
		bench_fail("%s: %s", path, strerror(errno));
	return fd;
}

int bench_listen(const char *path)
{
	struct sockaddr_un address;
	int fd = open_socket(path, &address);

	if (bind(fd, (struct sockaddr *)&address, sizeof(address)) < 0 || listen(fd, SOMAXCONN) < 0)
		bench_fail("%s: %s", path, strerror(errno));
	return fd;
}

void bench_write_all(int fd, const void *data, size_t size)
{
	const char *at = data;

	while (size > 0) {
		ssize_t n = write(fd, at, size);

		if (n < 0 && errno != EINTR)
			bench_fail("write: %s", strerror(errno));
		if (n > 0) {
			at += n;
			size -= (size_t)n;
		}
	}
}

void bench_read_all(int fd, void *data, size_t size)
{
	char *at = data;

	while (size > 0) {
		ssize_t n = read(fd, at, size);

		if (n == 0)
			bench_fail("the other end hung up");
		if (n < 0 && errno != EINTR)
			bench_fail("read: %s", strerror(errno));
		if (n > 0) {
			at += n;
			size -= (size_t)n;
		}
	}
}

void bench_nonblock(int fd)
{
	int flags = fcntl(fd, F_GETFL);

	if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0)
		bench_fail("fcntl: %s", strerror(errno));
}

/* ---- processes ---- */

pid_t bench_peer_pid(int fd)
{
	struct ucred credentials;
	socklen_t size = sizeof(credentials);

	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &credentials, &size) < 0)
		bench_fail("SO_PEERCRED: %s", strerror(errno));
	return credentials.pid;
}

/* Calls `fn` for each thread of the process. */
static void each_thread(pid_t pid, void (*fn)(pid_t pid, const char *tid, void *userdata), void *userdata)
{
	struct dirent *entry;
	char path[64];
	DIR *dir;

	snprintf(path, sizeof(path), "/proc/%d/task", (int)pid);
	dir = opendir(path);
	if (!dir)
		bench_fail("%s: %s", path, strerror(errno));
	while ((entry = readdir(dir)))
		if (entry->d_name[0] != '.')
			fn(pid, entry->d_name, userdata);
	closedir(dir);
}

static void add_cpu_time(pid_t pid, const char *tid, void *userdata)
{
	uint64_t *sum = userdata, ns = 0;
	char path[64];
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/task/%.20s/schedstat", (int)pid, tid);
	f = fopen(path, "re");
	if (!f || fscanf(f, "%" SCNu64, &ns) != 1)
		bench_fail("%s: not readable", path);
	fclose(f);
	*sum += ns;
}

uint64_t bench_cpu_time(pid_t pid)
{
	uint64_t sum = 0;

	each_thread(pid, add_cpu_time, &sum);
	return sum;
}

static void pin_thread(pid_t pid, const char *tid, void *userdata)
{
	if (sched_setaffinity(atoi(tid), sizeof(cpu_set_t), userdata) < 0)
		bench_fail("sched_setaffinity of process %d: %s", (int)pid, strerror(errno));
}

void bench_pin(pid_t pid, unsigned n)
{
	static cpu_set_t all;
	static bool known;
	cpu_set_t one;

	/* what we may use before we restrict ourselves */
	if (!known && sched_getaffinity(0, sizeof(all), &all) < 0)
		bench_fail("sched_getaffinity: %s", strerror(errno));
	known = true;
	if ((unsigned)CPU_COUNT(&all) <= n)
		return;
	for (int cpu = 0; cpu < CPU_SETSIZE; cpu++) {
		if (!CPU_ISSET(cpu, &all) || n-- != 0)
			continue;
		CPU_ZERO(&one);
		CPU_SET(cpu, &one);
		each_thread(pid ? pid : getpid(), pin_thread, &one);
		return;
	}
}
