/* SPDX-License-Identifier: GPL-2.0-or-later */

/*
 * throughput DAEMON-SOCKET ECHO-SOCKET VMS SLICES MILLISECONDS
 *
 * So many VMs, each of which asks again as soon as it has its verdict; and the same client with as many connections to a
 * libevent server that only answers. The two take turns in slices of time. Also how long the server was on a CPU
 * for each answer: that does not depend on how fast this client is.
 */

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "tests/bench/bench.h"
#include "tests/bench/vmm.h"

struct side {
	const char *name;
	int epoll;
	int *fds;
	uint32_t n;
	pid_t server;
	const uint8_t *expected;
	uint64_t replies;
	uint64_t time;
	uint64_t cpu;
};

static uint8_t ask[VMM_ASK_SIZE];

static void side_init(struct side *s, const char *name, uint32_t n, const uint8_t *expected)
{
	*s = (struct side){.name = name, .n = n, .expected = expected};
	s->fds = calloc(n, sizeof(*s->fds));
	s->epoll = epoll_create1(EPOLL_CLOEXEC);
	if (!s->fds || s->epoll < 0)
		bench_fail("epoll: %s", strerror(errno));
}

static void side_add(struct side *s, uint32_t i, int fd)
{
	struct epoll_event event = {.events = EPOLLIN, .data.fd = fd};

	s->fds[i] = fd;
	s->server = bench_peer_pid(fd);
	bench_nonblock(fd);
	if (epoll_ctl(s->epoll, EPOLL_CTL_ADD, fd, &event) < 0)
		bench_fail("epoll: %s", strerror(errno));
}

/* A request fits into the socket's buffer whole, as does a reply. */
static void side_ask(int fd)
{
	if (write(fd, ask, sizeof(ask)) != (ssize_t)sizeof(ask))
		bench_fail("write: %s", strerror(errno));
}

static void side_take(const struct side *s, int fd)
{
	uint8_t reply[VMM_REPLY_SIZE];
	ssize_t n = read(fd, reply, sizeof(reply));

	if (n != (ssize_t)sizeof(reply))
		bench_fail("read: %s", n < 0 ? strerror(errno) : "the server hung up");
	if (memcmp(reply, s->expected, sizeof(reply)) != 0)
		bench_fail("%s: not the reply that was expected", s->name);
}

static uint32_t wait_replies(const struct side *s, struct epoll_event *events, int size)
{
	int n = epoll_wait(s->epoll, events, size, 10000);

	if (n <= 0)
		bench_fail("%s: %s", s->name, n < 0 ? strerror(errno) : "no answer in 10 s");
	return (uint32_t)n;
}

/* Every connection has one request in flight until the time is over; what is in flight then is awaited, not counted. */
static void side_run(struct side *s, uint64_t duration, bool count)
{
	struct epoll_event events[128];
	uint64_t start, now, replies = 0, cpu = bench_cpu_time(s->server);
	uint32_t in_flight = s->n, n;

	start = bench_now();
	for (uint32_t i = 0; i < s->n; i++)
		side_ask(s->fds[i]);
	do {
		n = wait_replies(s, events, 128);
		for (uint32_t i = 0; i < n; i++) {
			side_take(s, events[i].data.fd);
			side_ask(events[i].data.fd);
		}
		replies += n;
		now = bench_now();
	} while (now - start < duration);
	while (in_flight > 0) {
		n = wait_replies(s, events, 128);
		for (uint32_t i = 0; i < n; i++)
			side_take(s, events[i].data.fd);
		in_flight -= n;
	}
	if (!count)
		return;
	s->replies += replies;
	s->time += now - start;
	/* those in flight at the end cost the server as well */
	s->cpu += (bench_cpu_time(s->server) - cpu) * replies / (replies + s->n);
}

static void side_clear(struct side *s)
{
	close(s->epoll);
	free(s->fds);
}

static void side_print(const struct side *s)
{
	printf("{\"name\": \"%s\", \"vms\": %" PRIu32 ", \"per_second\": %.1f, \"cpu_ns\": %.1f}\n", s->name, s->n,
	       (double)s->replies * 1e9 / (double)s->time, (double)s->cpu / (double)s->replies);
}

int main(int argc, char **argv)
{
	uint8_t verdict[VMM_REPLY_SIZE];
	struct side asked, bare;
	uint32_t n, slices;
	struct vmm *vmms;
	uint64_t duration;

	if (argc != 6)
		bench_fail("usage: throughput DAEMON-SOCKET ECHO-SOCKET VMS SLICES MILLISECONDS");
	n = bench_number(argv[3], 1);
	slices = bench_number(argv[4], 1);
	duration = (uint64_t)bench_number(argv[5], 1) * 1000000;
	vmms = calloc(n, sizeof(*vmms));
	if (!vmms)
		bench_fail("out of memory");
	vmm_encode_ask(ask, verdict);
	vmm_start(vmms, n, argv[1], "load", 4, 2);
	side_init(&asked, "asked", n, verdict);
	side_init(&bare, "bare", n, ask);
	for (uint32_t i = 0; i < n; i++) {
		side_add(&asked, i, vmms[i].fd);
		side_add(&bare, i, bench_connect(argv[2]));
	}
	bench_pin(0, 0);
	bench_pin(asked.server, 1);
	bench_pin(bare.server, 1);

	side_run(&asked, duration / 2, false);
	side_run(&bare, duration / 2, false);
	for (uint32_t i = 0; i < slices; i++) {
		side_run(&asked, duration, true);
		side_run(&bare, duration, true);
	}
	side_print(&asked);
	side_print(&bare);
	side_clear(&asked);
	side_clear(&bare);
	free(vmms);
	return 0;
}
