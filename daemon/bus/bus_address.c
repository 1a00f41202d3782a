/* SPDX-License-Identifier: GPL-2.0-or-later */

#include "daemon/bus/bus_address.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>

#include "daemon/base/util.h"

static bool is_address(const char *text)
{
	static const char *const transports[] = {"unix:", "tcp:", "unixexec:", "x-machine-unix:"};

	for (size_t i = 0; i < ARRAY_SIZE(transports); i++)
		if (strncmp(text, transports[i], strlen(transports[i])) == 0)
			return true;
	return false;
}

int bus_address_open(sd_bus **ret, const char *address, const char *description)
{
	_cleanup_(sd_bus_unrefp) sd_bus *sd = NULL;
	int r;

	if (strcmp(address, "system") == 0)
		return sd_bus_open_system_with_description(ret, description);
	if (strcmp(address, "session") == 0)
		return sd_bus_open_user_with_description(ret, description);
	/* sd-bus passes over what it does not know, and would say that the connection was refused */
	if (!is_address(address))
		return -EINVAL;
	r = sd_bus_new(&sd);
	if (r >= 0)
		r = sd_bus_set_description(sd, description);
	if (r >= 0)
		r = sd_bus_set_address(sd, address);
	if (r >= 0)
		r = sd_bus_set_bus_client(sd, true);
	if (r >= 0)
		r = sd_bus_start(sd);
	if (r < 0)
		return r;
	*ret = TAKE(sd);
	return 0;
}
