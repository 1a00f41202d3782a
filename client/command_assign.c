/* SPDX-License-Identifier: GPL-2.0-or-later */

#include "client/call.h"
#include "client/commands.h"
#include "client/outcome.h"

int command_assign(const struct options *options)
{
	/* two requests would be two steps, of which the second may fail */
	if (!options->text == !options->tenant)
		return outcome_print(OUTCOME_FAILED, "\"assign\" takes either a CLASS or --tenant");
	if (options->tenant)
		return call_manager(options, "cannot assign a tenant to", "AssignTenant", "ss", options->vm,
				    options->tenant);
	return call_manager(options, "cannot assign a class to", "AssignClass", "ss", options->vm, options->text);
}
