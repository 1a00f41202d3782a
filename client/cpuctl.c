/* SPDX-License-Identifier: GPL-2.0-or-later */

/* cpuctl: cpupolicyd's API (docs/dbus.md) for people and scripts. */

#include <locale.h>

#include "client/commands.h"
#include "client/outcome.h"
#include "client/output.h"

static const struct command commands[] = {
	{
		.name = "list",
		.usage = "[--json]",
		.summary = "all VMs, one line each",
		.help = "Lists the VMs on record, stopped ones included.",
		.options = OPTION_JSON | OPTION_NAMES,
		.run = command_list,
	},
	{
		.name = "show",
		.usage = "VM [--json]",
		.summary = "one VM, with each of its vCPUs",
		.help = "Shows all that is known of a VM, given by its name or UUID.",
		.min_args = 1,
		.max_args = 1,
		.options = OPTION_JSON,
		.run = command_show,
	},
	{
		.name = "set",
		.usage = "VM COUNT [--online] [--no-wait] [--timeout S] [--json]",
		.summary = "resize a VM and wait for how that ends",
		.help = "Asks for COUNT vCPUs and waits until the guest has acted on it. The exit status tells\n"
			"the outcome. Ctrl-C ends the waiting, not the job.",
		.min_args = 2,
		.max_args = 2,
		.options = OPTION_JSON | OPTION_ONLINE | OPTION_NO_WAIT | OPTION_TIMEOUT,
		.run = command_set,
	},
	{
		.name = "watch",
		.usage = "[VM] [--json]",
		.summary = "what happens, as it happens",
		.help = "Prints a line for each change of a VM, or of all: vCPUs that come and go, calls that\n"
			"are denied, states, jobs. Ends with Ctrl-C. With --json, one object per line.",
		.max_args = 1,
		.options = OPTION_JSON,
		.run = command_watch,
	},
	{
		.name = "forget",
		.usage = "VM",
		.summary = "drop the record of a stopped VM",
		.help = "Drops what is remembered of a VM that does not run, the count that was asked for included.",
		.min_args = 1,
		.max_args = 1,
		.run = command_forget,
	},
	{0},
};

int main(int argc, char **argv)
{
	struct options options;
	int outcome, written;

	setlocale(LC_ALL, "");
	if (options_parse(&options, commands, argc, argv, &outcome))
		outcome = options.command->run(&options);
	written = output_finish();
	return outcome != OUTCOME_DONE ? outcome : written;
}
