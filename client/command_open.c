/* SPDX-License-Identifier: GPL-2.0-or-later */

/* "open-vmm": runs a VMM with a connection that is bound to its VM, by a descriptor of a fixed number. */

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "client/commands.h"
#include "client/connection.h"
#include "client/outcome.h"
#include "daemon/base/util.h"

#define VMM_FD 3

DEFINE_CLEANUP(struct connection *, connection_free)

static int append_expected(sd_bus_message *m, const struct options *options)
{
	int r;

	r = sd_bus_message_open_container(m, 'a', "{sv}");
	if (r >= 0 && options->name)
		r = sd_bus_message_append(m, "{sv}", "name", "s", options->name);
	if (r >= 0 && options->given & OPTION_UID)
		r = sd_bus_message_append(m, "{sv}", "uid", "u", options->uid);
	return r < 0 ? r : sd_bus_message_close_container(m);
}

/* A descriptor of our own. */
static int open_vmm(struct connection *c, const struct options *options, int *ret_fd, sd_bus_error *ret_error)
{
	_cleanup_(sd_bus_message_unrefp) sd_bus_message *m = NULL, *reply = NULL;
	int r, fd;

	r = sd_bus_message_new_method_call(connection_bus(c), &m, CONNECTION_SERVICE, CONNECTION_MANAGER_PATH,
					   CONNECTION_MANAGER, "OpenVmm");
	if (r >= 0)
		r = sd_bus_message_append(m, "s", options->vm);
	if (r >= 0)
		r = append_expected(m, options);
	if (r >= 0)
		r = sd_bus_call(connection_bus(c), m, UINT64_MAX, ret_error, &reply);
	if (r >= 0)
		r = sd_bus_message_read(reply, "h", &fd);
	if (r < 0)
		return r;
	/* the reply's own is closed with it */
	fd = fcntl(fd, F_DUPFD_CLOEXEC, VMM_FD + 1);
	if (fd < 0)
		return -errno;
	*ret_fd = fd;
	return 0;
}

static int get_descriptor(const struct options *options, int *ret_fd)
{
	_cleanup_(connection_freep) struct connection *c = NULL;
	_cleanup_(sd_bus_error_free) sd_bus_error error = SD_BUS_ERROR_NULL;
	char what[320];
	int r;

	r = connection_new(&c, options->bus);
	if (r != 0)
		return r;
	r = open_vmm(c, options, ret_fd, &error);
	if (r >= 0)
		return OUTCOME_DONE;
	snprintf(what, sizeof(what), "cannot open a connection for VM %.64s", options->vm);
	return outcome_report(what, r, &error);
}

int command_open_vmm(const struct options *options)
{
	_cleanup_close_ int fd = -1;
	char number[16];
	int r;

	r = get_descriptor(options, &fd);
	if (r != OUTCOME_DONE)
		return r;
	snprintf(number, sizeof(number), "%d", VMM_FD);
	/* the copy is inherited */
	if (dup2(fd, VMM_FD) < 0 || setenv("CPUPOLICY_FD", number, 1) < 0)
		return outcome_report("cannot pass the connection on", -errno, NULL);
	execvp(options->rest[0], options->rest);
	return outcome_print(OUTCOME_FAILED, "cannot run %s: %s", options->rest[0], strerror(errno));
}
