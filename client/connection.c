/* SPDX-License-Identifier: GPL-2.0-or-later */

#include "client/connection.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <time.h>

#include "client/outcome.h"
#include "daemon/base/util.h"
#include "daemon/bus/bus_address.h"

#define RECOVER_MILLISECONDS 300

struct connection {
	char *address;
	sd_bus *bus;
	int signals; /* -1: not caught */
	int also;    /* -1: none */
};

/* ---- life ---- */

/* polkit may ask for a password where somebody sits to type it. */
static int allow_questions(sd_bus *bus)
{
	return isatty(STDIN_FILENO) ? sd_bus_set_allow_interactive_authorization(bus, true) : 0;
}

static int report_open(const char *address, int r)
{
	char what[256];

	if (r == -EINVAL)
		return outcome_print(OUTCOME_FAILED, "\"%s\" is not \"system\", \"session\" or a D-Bus address",
				     address);
	if (r == -ENOMEDIUM)
		return outcome_print(OUTCOME_NO_DAEMON,
				     "the session bus is not known here: neither DBUS_SESSION_BUS_ADDRESS nor "
				     "XDG_RUNTIME_DIR is set");
	snprintf(what, sizeof(what), "cannot connect to the bus \"%s\"", address);
	return outcome_report(what, r, NULL);
}

int connection_new(struct connection **ret, const char *bus)
{
	struct connection *c = calloc(1, sizeof(*c));
	int r;

	if (!c)
		return outcome_report("start", -ENOMEM, NULL);
	c->signals = -1;
	c->also = -1;
	c->address = strdup(bus);
	r = c->address ? bus_address_open(&c->bus, bus, "cpuctl") : -ENOMEM;
	if (r >= 0)
		r = allow_questions(c->bus);
	if (r < 0) {
		connection_free(c);
		return report_open(bus, r);
	}
	*ret = c;
	return 0;
}

struct connection *connection_free(struct connection *c)
{
	if (!c)
		return NULL;
	sd_bus_flush_close_unref(c->bus);
	if (c->signals >= 0)
		close(c->signals);
	free(c->address);
	free(c);
	return NULL;
}

sd_bus *connection_bus(const struct connection *c)
{
	return c->bus;
}

/* ---- waiting ---- */

int connection_catch_signals(struct connection *c)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGTERM);
	if (sigprocmask(SIG_BLOCK, &set, NULL) < 0)
		return -errno;
	c->signals = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	return c->signals < 0 ? -errno : 0;
}

uint64_t connection_now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000 + (uint64_t)ts.tv_nsec / 1000;
}

static bool signalled(const struct connection *c)
{
	struct signalfd_siginfo info;

	return c->signals >= 0 && read(c->signals, &info, sizeof(info)) == sizeof(info);
}

static int process_all(struct connection *c)
{
	int handled = 0;

	for (;;) {
		int r = sd_bus_process(c->bus, NULL);

		if (r < 0)
			return r;
		if (r == 0)
			return handled;
		handled = 1;
	}
}

void connection_also(struct connection *c, int fd)
{
	c->also = fd;
}

/* 1: the other descriptor can be read. */
static int poll_once(struct connection *c, uint64_t until)
{
	struct pollfd fds[3] = {
		{.fd = sd_bus_get_fd(c->bus)}, {.fd = c->signals, .events = POLLIN}, {.fd = c->also, .events = POLLIN}};
	int events = sd_bus_get_events(c->bus), milliseconds = -1;
	uint64_t bus_until;

	if (fds[0].fd < 0 || events < 0 || sd_bus_get_timeout(c->bus, &bus_until) < 0)
		return -ENOTCONN;
	fds[0].events = (short)events;
	if (bus_until < until)
		until = bus_until;
	if (until != UINT64_MAX) {
		uint64_t now = connection_now(), left = until > now ? (until - now + 999) / 1000 : 0;

		milliseconds = left > INT32_MAX ? INT32_MAX : (int)left;
	}
	if (poll(fds, ARRAY_SIZE(fds), milliseconds) < 0)
		return errno == EINTR ? 0 : -errno;
	return fds[2].revents != 0;
}

int connection_wait(struct connection *c, uint64_t until)
{
	for (;;) {
		int r;

		if (signalled(c))
			return -EINTR;
		r = process_all(c);
		if (r < 0 || sd_bus_is_open(c->bus) <= 0)
			return -ENOTCONN;
		if (r > 0)
			return 1;
		if (connection_now() >= until)
			return 0;
		r = poll_once(c, until);
		if (r != 0)
			return r;
	}
}

static int reopen(struct connection *c)
{
	sd_bus *bus;
	int r;

	r = bus_address_open(&bus, c->address, "cpuctl");
	if (r < 0)
		return r;
	r = allow_questions(bus);
	if (r < 0) {
		sd_bus_close_unref(bus);
		return r;
	}
	sd_bus_close_unref(c->bus);
	c->bus = bus;
	return 0;
}

int connection_recover(struct connection *c, uint64_t until)
{
	for (;;) {
		struct pollfd fd = {.fd = c->signals, .events = POLLIN};

		/* a bus that starts may take connections and drop them: not in a tight loop */
		if (poll(&fd, 1, RECOVER_MILLISECONDS) > 0 && signalled(c))
			return -EINTR;
		if (reopen(c) >= 0)
			return 0;
		if (connection_now() >= until)
			return -ETIMEDOUT;
	}
}

/* ---- calls ---- */

int connection_call(struct connection *c, const char *member, sd_bus_error *ret_error, sd_bus_message **ret_reply,
		    const char *signature, ...)
{
	va_list ap;
	int r;

	va_start(ap, signature);
	r = sd_bus_call_methodv(c->bus, CONNECTION_SERVICE, CONNECTION_MANAGER_PATH, CONNECTION_MANAGER, member,
				ret_error, ret_reply, signature, ap);
	va_end(ap);
	return r;
}

int connection_find(struct connection *c, const char *vm, char **ret_path, sd_bus_error *ret_error)
{
	_cleanup_(sd_bus_message_unrefp) sd_bus_message *reply = NULL;
	const char *path;
	char *copy;
	int r;

	r = connection_call(c, "GetVirtualMachine", ret_error, &reply, "s", vm);
	if (r >= 0)
		r = sd_bus_message_read(reply, "o", &path);
	if (r < 0)
		return r;
	copy = strdup(path);
	if (!copy)
		return -ENOMEM;
	*ret_path = copy;
	return 0;
}

static int get_vcpus(struct connection *c, struct vm_info *info, sd_bus_error *ret_error)
{
	_cleanup_(sd_bus_message_unrefp) sd_bus_message *reply = NULL;
	int r;

	r = sd_bus_get_property(c->bus, CONNECTION_SERVICE, info->path, VM_INFO_INTERFACE, "Vcpus", ret_error, &reply,
				"a(ubbbbbsu)");
	return r < 0 ? r : vm_info_read_vcpus(info, reply);
}

/* What is known of the VM's process; a daemon that does not say is older. */
static void get_cpu(struct connection *c, struct vm_info *info)
{
	if (sd_bus_get_property_trivial(c->bus, CONNECTION_SERVICE, info->path, VM_INFO_INTERFACE, "CpuTime", NULL, 't',
					&info->cpu_time) < 0 ||
	    sd_bus_get_property_trivial(c->bus, CONNECTION_SERVICE, info->path, VM_INFO_INTERFACE, "CpuGranted", NULL,
					't', &info->cpu_granted) < 0)
		info->cpu_time = info->cpu_granted = 0;
}

int connection_get(struct connection *c, const char *path, bool vcpus, struct vm_info *ret, sd_bus_error *ret_error)
{
	_cleanup_(sd_bus_message_unrefp) sd_bus_message *reply = NULL;
	struct vm_info info;
	int r;

	r = sd_bus_call_method(c->bus, CONNECTION_SERVICE, path, "org.freedesktop.DBus.Properties", "GetAll", ret_error,
			       &reply, "s", VM_INFO_INTERFACE);
	if (r >= 0)
		r = vm_info_init(&info, path);
	if (r < 0)
		return r;
	r = vm_info_read(&info, reply);
	if (r >= 0 && vcpus)
		r = get_vcpus(c, &info, ret_error);
	if (r >= 0 && vcpus)
		get_cpu(c, &info);
	if (r < 0) {
		vm_info_clear(&info);
		return r;
	}
	*ret = info;
	return 0;
}

/* ---- all VMs ---- */

struct list {
	struct vm_info *vms;
	size_t n;
};

static int list_add(struct list *list, const char *path, sd_bus_message *m)
{
	struct vm_info *vms = reallocarray(list->vms, list->n + 1, sizeof(*vms));
	int r;

	if (!vms)
		return -ENOMEM;
	list->vms = vms;
	r = vm_info_init(&vms[list->n], path);
	if (r < 0)
		return r;
	list->n++;
	return vm_info_read(&vms[list->n - 1], m);
}

/* a{sa{sv}}: the interfaces of one object */
static int read_interfaces(struct list *list, const char *path, sd_bus_message *m)
{
	int r;

	r = sd_bus_message_enter_container(m, 'a', "{sa{sv}}");
	if (r < 0)
		return r;
	while ((r = sd_bus_message_enter_container(m, 'e', "sa{sv}")) > 0) {
		const char *interface;

		r = sd_bus_message_read_basic(m, 's', &interface);
		if (r < 0)
			return r;
		if (strcmp(interface, VM_INFO_INTERFACE) == 0)
			r = list_add(list, path, m);
		else
			r = sd_bus_message_skip(m, "a{sv}");
		if (r >= 0)
			r = sd_bus_message_exit_container(m);
		if (r < 0)
			return r;
	}
	return r < 0 ? r : sd_bus_message_exit_container(m);
}

static int read_objects(struct list *list, sd_bus_message *m)
{
	int r;

	r = sd_bus_message_enter_container(m, 'a', "{oa{sa{sv}}}");
	if (r < 0)
		return r;
	while ((r = sd_bus_message_enter_container(m, 'e', "oa{sa{sv}}")) > 0) {
		const char *path;

		r = sd_bus_message_read_basic(m, 'o', &path);
		if (r >= 0)
			r = read_interfaces(list, path, m);
		if (r >= 0)
			r = sd_bus_message_exit_container(m);
		if (r < 0)
			return r;
	}
	return r < 0 ? r : sd_bus_message_exit_container(m);
}

static int by_name(const void *a, const void *b)
{
	return strcmp(((const struct vm_info *)a)->name, ((const struct vm_info *)b)->name);
}

int connection_list(struct connection *c, struct vm_info **ret, size_t *ret_n, sd_bus_error *ret_error)
{
	_cleanup_(sd_bus_message_unrefp) sd_bus_message *reply = NULL;
	struct list list = {0};
	int r;

	r = sd_bus_call_method(c->bus, CONNECTION_SERVICE, CONNECTION_MANAGER_PATH,
			       "org.freedesktop.DBus.ObjectManager", "GetManagedObjects", ret_error, &reply, NULL);
	if (r >= 0)
		r = read_objects(&list, reply);
	if (r < 0) {
		connection_list_free(list.vms, list.n);
		return r;
	}
	if (list.n > 0)
		qsort(list.vms, list.n, sizeof(*list.vms), by_name);
	*ret = list.vms;
	*ret_n = list.n;
	return 0;
}

void connection_list_free(struct vm_info *vms, size_t n)
{
	for (size_t i = 0; i < n; i++)
		vm_info_clear(&vms[i]);
	free(vms);
}
