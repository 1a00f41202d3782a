/* SPDX-License-Identifier: GPL-2.0-or-later */

#include "client/outcome.h"

#include <errno.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "daemon/base/util.h"

static const struct {
	const char *result;
	enum outcome outcome;
	const char *meaning;
} results[] = {
	{"done", OUTCOME_DONE, "the guest did what was asked"},
	{"partial", OUTCOME_PARTIAL, "the guest acted on some of the vCPUs, not on all; the count stays asked for"},
	{"guest-refused", OUTCOME_GUEST_REFUSED,
	 "the guest's kernel could not do it; a vCPU that is its last one online, or that deadline tasks need, stays"},
	{"guest-forbidden", OUTCOME_GUEST_FORBIDDEN,
	 "the guest's administrator forbade it (/sys/firmware/acpi/hotplug/processor/enabled in the guest)"},
	{"timeout", OUTCOME_TIMEOUT,
	 "the guest did not act in time: it may still boot, hang, or not know how; the count stays asked for"},
	{"superseded", OUTCOME_SUPERSEDED, "a later request for this VM took its place"},
	{"disconnected", OUTCOME_DISCONNECTED,
	 "the VM does not run, or its VMM went away; the count holds for its next start"},
	{"storage", OUTCOME_STORAGE,
	 "the daemon could not write it down, so nothing was changed; see its log and make room in its state "
	 "directory"},
};

enum outcome outcome_of_result(const char *result)
{
	for (size_t i = 0; i < ARRAY_SIZE(results); i++)
		if (strcmp(results[i].result, result) == 0)
			return results[i].outcome;
	return OUTCOME_FAILED;
}

const char *outcome_explain_result(const char *result)
{
	for (size_t i = 0; i < ARRAY_SIZE(results); i++)
		if (strcmp(results[i].result, result) == 0)
			return results[i].meaning;
	return "this cpuctl does not know that result; is it older than the daemon?";
}

static const struct {
	const char *name;
	enum outcome outcome;
} errors[] = {
	{"org.cpupolicy1.Error.NoSuchVm", OUTCOME_NO_SUCH_VM},
	{"org.cpupolicy1.Error.OutOfRange", OUTCOME_REFUSED},
	{"org.cpupolicy1.Error.SlaLimit", OUTCOME_REFUSED},
	{"org.cpupolicy1.Error.TenantQuota", OUTCOME_REFUSED},
	{"org.cpupolicy1.Error.HostCapacity", OUTCOME_REFUSED},
	{"org.cpupolicy1.Error.BurstCredit", OUTCOME_REFUSED},
	{"org.cpupolicy1.Error.PlugRate", OUTCOME_REFUSED},
	{"org.cpupolicy1.Error.Frozen", OUTCOME_REFUSED},
	{"org.cpupolicy1.Error.Drained", OUTCOME_REFUSED},
	{"org.cpupolicy1.Error.BootVcpu", OUTCOME_REFUSED},
	{"org.cpupolicy1.Error.NotNotifiable", OUTCOME_REFUSED},
	{"org.cpupolicy1.Error.Migrating", OUTCOME_REFUSED},
	{"org.cpupolicy1.Error.NoProvider", OUTCOME_REFUSED},
	{"org.cpupolicy1.Error.VmRunning", OUTCOME_REFUSED},
	{"org.cpupolicy1.Error.FileExists", OUTCOME_REFUSED},
	{"org.cpupolicy1.Error.NoSuchClass", OUTCOME_NO_SUCH_NAME},
	{"org.cpupolicy1.Error.NoSuchTenant", OUTCOME_NO_SUCH_NAME},
	{"org.cpupolicy1.Error.InvalidPolicy", OUTCOME_INVALID_POLICY},
	{"org.cpupolicy1.Error.Storage", OUTCOME_STORAGE},
	{SD_BUS_ERROR_ACCESS_DENIED, OUTCOME_ACCESS_DENIED},
	{SD_BUS_ERROR_INTERACTIVE_AUTHORIZATION_REQUIRED, OUTCOME_ACCESS_DENIED},
	{SD_BUS_ERROR_SERVICE_UNKNOWN, OUTCOME_NO_DAEMON},
	{SD_BUS_ERROR_NAME_HAS_NO_OWNER, OUTCOME_NO_DAEMON},
	{SD_BUS_ERROR_NO_SERVER, OUTCOME_NO_DAEMON},
	{SD_BUS_ERROR_DISCONNECTED, OUTCOME_NO_DAEMON},
	{SD_BUS_ERROR_NO_REPLY, OUTCOME_NO_DAEMON},
	{SD_BUS_ERROR_TIMEOUT, OUTCOME_NO_DAEMON},
};

enum outcome outcome_of_error(const char *name)
{
	for (size_t i = 0; name && i < ARRAY_SIZE(errors); i++)
		if (strcmp(errors[i].name, name) == 0)
			return errors[i].outcome;
	return OUTCOME_FAILED;
}

static enum outcome outcome_of_errno(int r)
{
	switch (-r) {
	case ENOENT:
	case ECONNREFUSED:
	case ECONNRESET:
	case ENOTCONN:
	case ENOMEDIUM:
	case ETIMEDOUT:
	case EPIPE:
		return OUTCOME_NO_DAEMON;
	case EACCES:
	case EPERM:
		return OUTCOME_ACCESS_DENIED;
	default:
		return OUTCOME_FAILED;
	}
}

const char *outcome_advice(enum outcome outcome)
{
	switch (outcome) {
	case OUTCOME_NO_SUCH_VM:
		return "\"cpuctl list\" shows the VMs on record.";
	case OUTCOME_NO_SUCH_NAME:
		return "\"cpuctl classes\" and \"cpuctl tenants\" show those that the policy has.";
	case OUTCOME_INVALID_POLICY:
		return "Nothing was changed: the policy that was in force still is.";
	case OUTCOME_ACCESS_DENIED:
		return "Run cpuctl as root, or have polkit permit that action: with a rule (see polkit-rules.example), "
		       "or by a\n"
		       "password, which \"pkttyagent --process $$ &\" asks for in this terminal.";
	case OUTCOME_NO_DAEMON:
		return "Is cpupolicyd running, and on this bus? --system, --session and --address choose another.";
	case OUTCOME_STORAGE:
		return "See the daemon's log, and make room in its state directory.";
	default:
		return NULL;
	}
}

enum outcome outcome_report(const char *what, int r, const sd_bus_error *error)
{
	bool named = error && error->name;
	enum outcome outcome = named ? outcome_of_error(error->name) : OUTCOME_FAILED;
	const char *why = named && error->message ? error->message : strerror(r < 0 ? -r : r);
	const char *advice;

	/* sd-bus makes errors of its own out of errno values */
	if (outcome == OUTCOME_FAILED)
		outcome = outcome_of_errno(named ? -sd_bus_error_get_errno(error) : r);
	advice = outcome_advice(outcome);
	fprintf(stderr, "cpuctl: %s: %s\n", what, why);
	if (advice)
		fprintf(stderr, "%s\n", advice);
	return outcome;
}

enum outcome outcome_print(enum outcome outcome, const char *format, ...)
{
	va_list ap;

	fputs("cpuctl: ", stderr);
	va_start(ap, format);
	vfprintf(stderr, format, ap);
	va_end(ap);
	fputc('\n', stderr);
	return outcome;
}
