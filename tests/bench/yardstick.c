/* SPDX-License-Identifier: GPL-2.0-or-later */

/*
 * The bare counterparts: servers that do nothing but answer.
 *
 *   yardstick ping-pong SOCKET    one connection, blocking reads and writes: what the kernel alone takes
 *   yardstick echo SOCKET         any number of connections on a libevent loop
 *   yardstick method ADDRESS      a D-Bus service whose one method has SetVcpuCount's signature
 *
 * Requests and replies have the sizes of an ASK and its verdict. "ready" on standard output when serving.
 */

#include <errno.h>
#include <event2/event.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <systemd/sd-bus.h>
#include <unistd.h>

#include "tests/bench/bench.h"
#include "tests/bench/vmm.h"

static void ready(void)
{
	puts("ready");
	fflush(stdout);
}

static void ping_pong(const char *path)
{
	int listener = bench_listen(path);
	uint8_t data[VMM_ASK_SIZE];

	ready();
	for (;;) {
		int fd = accept(listener, NULL, NULL);
		ssize_t n;

		if (fd < 0)
			bench_fail("accept: %s", strerror(errno));
		while ((n = read(fd, data, sizeof(data))) > 0) {
			bench_read_all(fd, data + n, sizeof(data) - (size_t)n);
			bench_write_all(fd, data, VMM_REPLY_SIZE);
		}
		close(fd);
	}
}

struct echo {
	struct event_base *base;
	struct event *event;
};

static void echo_answer(evutil_socket_t fd, short what __attribute__((unused)), void *userdata)
{
	struct echo *echo = userdata;
	uint8_t data[VMM_ASK_SIZE * 64];
	ssize_t n = read(fd, data, sizeof(data));

	if (n > 0 && n % (ssize_t)VMM_ASK_SIZE == 0) {
		bench_write_all(fd, data, (size_t)n / VMM_ASK_SIZE * VMM_REPLY_SIZE);
		return;
	}
	if (n > 0)
		bench_fail("a request that came in parts");
	event_free(echo->event);
	close(fd);
	free(echo);
}

static void echo_accept(evutil_socket_t listener, short what __attribute__((unused)), void *userdata)
{
	struct echo *echo = calloc(1, sizeof(*echo));
	int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

	if (!echo || fd < 0)
		bench_fail("accept: %s", strerror(errno));
	echo->base = userdata;
	echo->event = event_new(echo->base, fd, EV_READ | EV_PERSIST, echo_answer, echo);
	if (!echo->event || event_add(echo->event, NULL) < 0)
		bench_fail("event_add");
}

static void echo(const char *path)
{
	struct event_base *base = event_base_new();
	int listener = bench_listen(path);
	struct event *event;

	if (!base)
		bench_fail("event_base_new");
	event = event_new(base, listener, EV_READ | EV_PERSIST, echo_accept, base);
	if (!event || event_add(event, NULL) < 0)
		bench_fail("event_add");
	ready();
	event_base_dispatch(base);
}

static int method_answer(sd_bus_message *m, void *userdata __attribute__((unused)),
			 sd_bus_error *error __attribute__((unused)))
{
	const char *vm;
	uint32_t count;
	int r;

	r = sd_bus_message_read(m, "su", &vm, &count);
	if (r < 0)
		return r;
	return sd_bus_reply_method_return(m, "o", "/org/cpupolicy1/job/1");
}

static const sd_bus_vtable method_table[] = {
	SD_BUS_VTABLE_START(0),
	SD_BUS_METHOD("SetVcpuCount", "su", "o", method_answer, SD_BUS_VTABLE_UNPRIVILEGED),
	SD_BUS_VTABLE_END,
};

static void method(const char *address)
{
	sd_bus *bus;
	int r;

	r = sd_bus_new(&bus);
	if (r >= 0)
		r = sd_bus_set_address(bus, address);
	if (r >= 0)
		r = sd_bus_set_bus_client(bus, true);
	if (r >= 0)
		r = sd_bus_start(bus);
	if (r >= 0)
		r = sd_bus_add_object_vtable(bus, NULL, "/yardstick", "org.cpupolicy1.Yardstick", method_table, NULL);
	if (r >= 0)
		r = sd_bus_request_name(bus, "org.cpupolicy1.Yardstick", 0);
	if (r < 0)
		bench_fail("%s: %s", address, strerror(-r));
	ready();
	while (r >= 0) {
		r = sd_bus_process(bus, NULL);
		if (r == 0)
			r = sd_bus_wait(bus, UINT64_MAX);
	}
	bench_fail("%s: %s", address, strerror(-r));
}

int main(int argc, char **argv)
{
	if (argc == 3 && strcmp(argv[1], "ping-pong") == 0)
		ping_pong(argv[2]);
	else if (argc == 3 && strcmp(argv[1], "echo") == 0)
		echo(argv[2]);
	else if (argc == 3 && strcmp(argv[1], "method") == 0)
		method(argv[2]);
	else
		bench_fail("usage: yardstick ping-pong|echo|method ADDRESS");
	return 0;
}
