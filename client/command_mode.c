/* SPDX-License-Identifier: GPL-2.0-or-later */

/* What an operator says to the daemon about the whole host. */

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "client/call.h"
#include "client/commands.h"
#include "client/outcome.h"
#include "daemon/base/util.h"

int command_freeze(const struct options *options)
{
	return call_manager(options, "cannot freeze the host", "Freeze", "b", 1);
}

int command_thaw(const struct options *options)
{
	return call_manager(options, "cannot thaw the host", "Freeze", "b", 0);
}

int command_drain(const struct options *options)
{
	return call_manager(options, "cannot drain the host", "Drain", "b", 1);
}

int command_undrain(const struct options *options)
{
	return call_manager(options, "cannot end the draining", "Drain", "b", 0);
}

int command_reload(const struct options *options)
{
	return call_manager(options, "cannot reload the policy", "Reload", NULL);
}

/* The daemon's working directory is not ours. */
int command_backup(const struct options *options)
{
	_cleanup_free_ char *here = NULL, *path = NULL;
	const char *to = options->text;

	if (*to != '/') {
		here = getcwd(NULL, 0);
		if (!here)
			return outcome_report("cannot tell the current directory", -errno, NULL);
		if (asprintf(&path, "%s/%s", here, to) < 0) {
			path = NULL;
			return outcome_report("backup", -ENOMEM, NULL);
		}
		to = path;
	}
	return call_manager(options, "cannot make a backup", "Backup", "s", to);
}
