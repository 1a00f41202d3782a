/* SPDX-License-Identifier: GPL-2.0-or-later */

#include "client/commands.h"

#include <stdio.h>

#include "client/connection.h"
#include "client/outcome.h"
#include "daemon/util.h"

DEFINE_CLEANUP(struct connection *, connection_free)

int command_forget(const struct options *options)
{
	_cleanup_(connection_freep) struct connection *c = NULL;
	_cleanup_(sd_bus_error_free) sd_bus_error error = SD_BUS_ERROR_NULL;
	char what[300];
	int r;

	r = connection_new(&c, options->bus);
	if (r != 0)
		return r;
	r = connection_call(c, "Forget", &error, NULL, "s", options->vm);
	if (r < 0) {
		snprintf(what, sizeof(what), "cannot forget \"%s\"", options->vm);
		return outcome_report(what, r, &error);
	}
	return OUTCOME_DONE;
}
