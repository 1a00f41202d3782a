/* SPDX-License-Identifier: GPL-2.0-or-later */

#include "client/output.h"

#include <errno.h>
#include <inttypes.h>
#include <pwd.h>
#include <stdio.h>

#include "client/outcome.h"
#include "client/vm_info.h"

static int print_json(json_t *json, size_t flags)
{
	int r;

	if (!json)
		return outcome_report("output", -ENOMEM, NULL);
	r = json_dumpf(json, stdout, flags);
	json_decref(json);
	putchar('\n');
	return r < 0 ? (int)outcome_report("output", -EIO, NULL) : 0;
}

int output_json(json_t *json)
{
	return print_json(json, JSON_INDENT(2));
}

int output_json_line(json_t *json)
{
	int r = print_json(json, JSON_COMPACT);

	return r != 0 ? r : output_finish();
}

const char *output_user(uint32_t uid)
{
	static char text[64];
	const struct passwd *user;

	if (uid == VM_INFO_NOBODY)
		return "an unknown user";
	user = getpwuid((uid_t)uid);
	if (user)
		snprintf(text, sizeof(text), "%s", user->pw_name);
	else
		snprintf(text, sizeof(text), "uid %" PRIu32, uid);
	return text;
}

int output_finish(void)
{
	errno = 0;
	if (fflush(stdout) == 0 && !ferror(stdout))
		return 0;
	return outcome_report("standard output", errno > 0 ? -errno : -EIO, NULL);
}
