/* SPDX-License-Identifier: GPL-2.0-or-later */

#include "client/call.h"
#include "client/commands.h"

int command_forget(const struct options *options)
{
	return call_manager(options, "cannot forget", "Forget", "s", options->vm);
}
