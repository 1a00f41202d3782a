/* SPDX-License-Identifier: GPL-2.0-or-later */

/* What needs libvirt is done by a program that comes with the bridge to it. */

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "client/commands.h"
#include "client/outcome.h"

int command_domain_arguments(char **argv)
{
	const char *program = getenv("CPUPOLICY_CPUCTL_DOMAIN");

	if (!program || !*program)
		program = PKGLIBEXECDIR "/cpuctl-domain";
	execv(program, argv);
	if (errno == ENOENT)
		return outcome_print(OUTCOME_FAILED,
				     "\"domain\" is not installed here: it comes with cpupolicy-libvirt");
	return outcome_print(OUTCOME_FAILED, "cannot run %s: %s", program, strerror(errno));
}

int command_domain(const struct options *options)
{
	return outcome_print(OUTCOME_FAILED,
			     "\"domain\" comes first, and takes no option of the bus: cpuctl domain --help");
}
