/* SPDX-License-Identifier: GPL-2.0-or-later */

/* What a VM takes along to another host: `cpuctl export` there, `cpuctl import` here. */

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client/call.h"
#include "client/commands.h"
#include "client/connection.h"
#include "client/outcome.h"
#include "daemon/base/util.h"

/* A name, a UUID, and numbers: more is not what we wrote. */
#define STATE_MAX 65536

DEFINE_CLEANUP(struct connection *, connection_free)

int command_export(const struct options *options)
{
	_cleanup_(connection_freep) struct connection *c = NULL;
	_cleanup_(sd_bus_error_free) sd_bus_error error = SD_BUS_ERROR_NULL;
	_cleanup_(sd_bus_message_unrefp) sd_bus_message *reply = NULL;
	const char *state;
	char what[320];
	int r;

	r = connection_new(&c, options->bus);
	if (r != 0)
		return r;
	r = connection_call(c, "ExportVirtualMachine", &error, &reply, "s", options->vm);
	if (r >= 0)
		r = sd_bus_message_read(reply, "s", &state);
	if (r < 0) {
		snprintf(what, sizeof(what), "cannot export \"%.255s\"", options->vm);
		return outcome_report(what, r, &error);
	}
	puts(state);
	return OUTCOME_DONE;
}

/* All of it, NUL-terminated. */
static int read_all(FILE *in, char **ret)
{
	_cleanup_free_ char *text = malloc(STATE_MAX + 1);
	size_t n;

	if (!text)
		return -ENOMEM;
	n = fread(text, 1, STATE_MAX + 1, in);
	if (ferror(in))
		return -EIO;
	if (n > STATE_MAX || memchr(text, '\0', n))
		return -EINVAL;
	text[n] = '\0';
	*ret = TAKE(text);
	return 0;
}

int command_import(const struct options *options)
{
	bool from_stdin = !options->text || strcmp(options->text, "-") == 0;
	const char *name = from_stdin ? "standard input" : options->text;
	FILE *in = from_stdin ? stdin : fopen(options->text, "re");
	_cleanup_free_ char *state = NULL;
	int r = in ? 0 : -errno;

	if (r >= 0)
		r = read_all(in, &state);
	if (in && !from_stdin)
		fclose(in);
	if (r == -EINVAL)
		return outcome_print(OUTCOME_FAILED, "%s is not what \"cpuctl export\" writes", name);
	if (r < 0)
		return outcome_print(OUTCOME_FAILED, "cannot read %s: %s", name, strerror(-r));
	return call_manager(options, "cannot import into", "ImportVirtualMachine", "ss", options->vm, state);
}
