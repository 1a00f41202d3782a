/* SPDX-License-Identifier: GPL-2.0-or-later */

/* cpuctl: cpupolicyd's API (docs/dbus.md) for people and scripts. */

#include <locale.h>
#include <string.h>

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
		.args = {ARGUMENT_VM},
		.min_args = 1,
		.options = OPTION_JSON,
		.run = command_show,
	},
	{
		.name = "top",
		.usage = "[--interval S]",
		.summary = "the host and its VMs, live",
		.help = "Shows capacity and VMs on the terminal until \"q\" is pressed; \"h\" tells the keys.\n"
			"For programs there are \"list --json\" and \"watch --json\".",
		.options = OPTION_INTERVAL,
		.run = command_top,
	},
	{
		.name = "set",
		.usage = "VM {COUNT | --millis N} [--online] [--no-wait] [--timeout S] [--json]",
		.summary = "resize a VM and wait for how that ends",
		.help = "Asks for COUNT vCPUs and waits until the guest has acted on it. The exit status tells\n"
			"the outcome. Ctrl-C ends the waiting, not the job.\n"
			"With a fraction (1.5, or --millis 1500), for CPU time: as many vCPUs as that takes, held to\n"
			"it by a provider.",
		.args = {ARGUMENT_VM, ARGUMENT_CPUS},
		.min_args = 1,
		.options = OPTION_JSON | OPTION_ONLINE | OPTION_NO_WAIT | OPTION_TIMEOUT | OPTION_MILLIS,
		.run = command_set,
	},
	{
		.name = "explain",
		.usage = "VM [COUNT] [--json]",
		.summary = "what would happen, and why",
		.help = "Tells what a request for COUNT vCPUs (or those that are desired already) would meet,\n"
			"rule by rule. Nothing is changed. Exit status 10: it would be refused.",
		.args = {ARGUMENT_VM, ARGUMENT_COUNT},
		.min_args = 1,
		.options = OPTION_JSON,
		.run = command_explain,
	},
	{
		.name = "assign",
		.usage = "VM {CLASS | --tenant NAME}",
		.summary = "give a VM a service class or a tenant",
		.help = "What is assigned here goes before the rules of the policy. \"\" leaves it to them again.",
		.args = {ARGUMENT_VM, ARGUMENT_TEXT},
		.min_args = 1,
		.options = OPTION_TENANT,
		.run = command_assign,
	},
	{
		.name = "watch",
		.usage = "[VM] [--json]",
		.summary = "what happens, as it happens",
		.help = "Prints a line for each change of a VM, or of all: vCPUs that come and go, calls that\n"
			"are denied, states, jobs. Ends with Ctrl-C. With --json, one object per line.",
		.args = {ARGUMENT_VM},
		.options = OPTION_JSON,
		.run = command_watch,
	},
	{
		.name = "forget",
		.usage = "VM",
		.summary = "drop the record of a stopped VM",
		.help = "Drops what is remembered of a VM that does not run, the count that was asked for included.",
		.args = {ARGUMENT_VM},
		.min_args = 1,
		.run = command_forget,
	},
	{
		.name = "open-vmm",
		.usage = "UUID [--name NAME] [--uid UID] -- COMMAND...",
		.summary = "run a VMM as a VM",
		.help = "Runs COMMAND with descriptor 3 connected to the daemon: on it that VM, and no other, can be\n"
			"registered. QEMU takes it by \"-object cpupolicy,id=policy,fd=3\".",
		.args = {ARGUMENT_VM, ARGUMENT_REST},
		.min_args = 2,
		.options = OPTION_NAME | OPTION_UID,
		.run = command_open_vmm,
	},
	{
		.name = "usage",
		.usage = "[--since TIME] [--until TIME] [--tenant NAME] [--hours] [--csv | --json]",
		.summary = "what VMs used, and what that costs",
		.help = "vCPU-seconds that were enabled, within the guarantee and above it, by tenant, VM and\n"
			"class, with the price of the class applied. Tenant \"\" is VMs that have none.",
		.options = OPTION_SINCE | OPTION_UNTIL | OPTION_TENANT | OPTION_HOURS | OPTION_CSV | OPTION_JSON,
		.run = command_usage,
	},
	{
		.name = "simulate",
		.usage = "LOG [--policy DIR]",
		.summary = "replay what a daemon recorded",
		.help = "Replays LOG, by the policy in it or another one, and prints what differs from what the\n"
			"daemon did. No daemon is needed. Exit status 0: nothing; 16: something.",
		.args = {ARGUMENT_TEXT},
		.min_args = 1,
		.options = OPTION_POLICY,
		.run = command_simulate,
	},
	{
		.name = "host",
		.usage = "[--json]",
		.summary = "capacity, and what is in force",
		.help = "Shows how much of the host's capacity is reserved, given and held.",
		.options = OPTION_JSON,
		.run = command_host,
	},
	{
		.name = "providers",
		.usage = "[--json]",
		.summary = "the agents that are here",
		.help = "Lists the providers that announce VMs and hold CPU time, by name.",
		.options = OPTION_JSON,
		.run = command_providers,
	},
	{
		.name = "classes",
		.usage = "[--json]",
		.summary = "the service classes of the policy",
		.help = "Counts in vCPUs, credit in vCPU-seconds, prices per vCPU-hour.",
		.options = OPTION_JSON | OPTION_NAMES,
		.run = command_classes,
	},
	{
		.name = "tenants",
		.usage = "[--json]",
		.summary = "the tenants, and what their VMs have",
		.help = "Counts in vCPUs.",
		.options = OPTION_JSON | OPTION_NAMES,
		.run = command_tenants,
	},
	{
		.name = "freeze",
		.usage = "",
		.summary = "no changes from now on",
		.help = "Nothing is granted or asked back until \"thaw\", also across restarts of the daemon. What\n"
			"guests give back is taken.",
		.run = command_freeze,
	},
	{
		.name = "thaw",
		.usage = "",
		.summary = "end a freeze",
		.help = "What has waited is done now.",
		.run = command_thaw,
	},
	{
		.name = "drain",
		.usage = "",
		.summary = "no new VMs, and burst is asked back",
		.help = "Until \"undrain\", also across restarts of the daemon. VMs keep what is guaranteed.",
		.run = command_drain,
	},
	{
		.name = "undrain",
		.usage = "",
		.summary = "end a drain",
		.help = "New VMs are admitted, and burst is given again.",
		.run = command_undrain,
	},
	{
		.name = "reload",
		.usage = "",
		.summary = "read the policy again",
		.help = "All of it takes effect, or nothing and an error says where it is wrong (exit status 15).",
		.run = command_reload,
	},
	{
		.name = "backup",
		.usage = "FILE",
		.summary = "a copy of the daemon's database",
		.help = "The daemon writes the new FILE while it goes on working.",
		.args = {ARGUMENT_TEXT},
		.min_args = 1,
		.run = command_backup,
	},
	{
		.name = "export",
		.usage = "VM",
		.summary = "what a VM takes along to another host",
		.help = "Prints a line for \"import\" there: credit, and the class and tenant that were assigned.",
		.args = {ARGUMENT_VM},
		.min_args = 1,
		.run = command_export,
	},
	{
		.name = "import",
		.usage = "VM [FILE]",
		.summary = "take over what \"export\" printed",
		.help = "Reads FILE, or standard input.",
		.args = {ARGUMENT_VM, ARGUMENT_TEXT},
		.min_args = 1,
		.run = command_import,
	},
	{
		.name = "domain",
		.usage = "COMMAND DOMAIN ...",
		.summary = "libvirt's domains: enable, disable, set, show",
		.help = "Has a domain of libvirt start with vCPUs that policy switches, and says in its metadata "
			"which\n"
			"service it is to have. \"cpuctl domain --help\" says more.",
		.args = {ARGUMENT_TEXT},
		.run = command_domain,
	},
	{0},
};

int main(int argc, char **argv)
{
	struct options options;
	int outcome, written;

	setlocale(LC_ALL, "");
	if (argc > 1 && strcmp(argv[1], "domain") == 0)
		return command_domain_arguments(argv + 1);
	if (options_parse(&options, commands, argc, argv, &outcome))
		outcome = options.command->run(&options);
	written = output_finish();
	return outcome != OUTCOME_DONE ? outcome : written;
}
