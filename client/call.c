/* SPDX-License-Identifier: GPL-2.0-or-later */

#include "client/call.h"

#include <stdarg.h>
#include <stdio.h>

#include "client/connection.h"
#include "client/outcome.h"
#include "daemon/base/util.h"

DEFINE_CLEANUP(struct connection *, connection_free)

int call_manager(const struct options *options, const char *what, const char *member, const char *signature, ...)
{
	_cleanup_(connection_freep) struct connection *c = NULL;
	_cleanup_(sd_bus_error_free) sd_bus_error error = SD_BUS_ERROR_NULL;
	char text[320];
	va_list ap;
	int r;

	r = connection_new(&c, options->bus);
	if (r != 0)
		return r;
	/* the bus tells when the daemon goes away; until then it is at work, on a disk that may be slow */
	sd_bus_set_method_call_timeout(connection_bus(c), UINT64_MAX);
	va_start(ap, signature);
	r = sd_bus_call_methodv(connection_bus(c), CONNECTION_SERVICE, CONNECTION_MANAGER_PATH, CONNECTION_MANAGER,
				member, &error, NULL, signature, ap);
	va_end(ap);
	if (r >= 0)
		return OUTCOME_DONE;
	if (options->vm)
		snprintf(text, sizeof(text), "%s \"%.255s\"", what, options->vm);
	else
		snprintf(text, sizeof(text), "%s", what);
	return outcome_report(text, r, &error);
}
