/* SPDX-License-Identifier: GPL-2.0-or-later */

#include "client/commands.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "client/connection.h"
#include "client/outcome.h"
#include "client/output.h"
#include "client/resize.h"
#include "daemon/base/util.h"

DEFINE_CLEANUP(struct connection *, connection_free)

static int report_cannot(const char *vm, int r, const sd_bus_error *error)
{
	char what[320];

	snprintf(what, sizeof(what), "cannot resize \"%s\"", vm);
	return outcome_report(what, r, error);
}

/* ---- without waiting ---- */

static int no_wait(struct connection *c, const struct options *options, const struct vm_info *vm)
{
	_cleanup_(sd_bus_error_free) sd_bus_error error = SD_BUS_ERROR_NULL;
	_cleanup_(sd_bus_message_unrefp) sd_bus_message *reply = NULL;
	const char *job;
	int r;

	r = options->millis > 0 ? connection_call(c, "SetCpuMillis", &error, &reply, "su", vm->uuid, options->millis)
				: connection_call(c, "SetVcpuCount", &error, &reply, "su", vm->uuid, options->count);
	if (r >= 0)
		r = sd_bus_message_read(reply, "o", &job);
	if (r < 0)
		return report_cannot(options->vm, r, &error);
	if (options->given & OPTION_JSON)
		return output_json(json_pack("{s:s, s:s, s:I, s:i, s:n}", "name", vm->name, "uuid", vm->uuid, "job",
					     (json_int_t)vm_info_job_id(job), "count", (int)options->count, "result"));
	printf("%s: job %" PRIu64 " runs\n", vm->name, vm_info_job_id(job));
	return OUTCOME_DONE;
}

/* ---- how it ended ---- */

static int print_json(const struct resize *z)
{
	const struct vm_info *vm = &z->vm;

	return output_json(json_pack("{s:s, s:s, s:I, s:i, s:s?, s:i, s:s, s:i, s:s, s:b}", "name", vm->name, "uuid",
				     vm->uuid, "job", (json_int_t)z->job, "count", (int)z->count, "result",
				     *z->result ? z->result : NULL, "enabled", (int)vm->enabled, "enabled_set",
				     vm->enabled_set, "online", (int)vm->online, "online_set", vm->online_set,
				     "added_online", z->all_online && outcome_of_result(z->result) == OUTCOME_DONE));
}

static void print_text(const struct resize *z)
{
	const struct vm_info *vm = &z->vm;
	char quota[VM_INFO_QUOTA_SIZE];

	printf("%s: %s: %" PRIu32 " of %" PRIu32 " vCPUs enabled (%s), %" PRIu32 " online (%s)", vm->name, z->result,
	       vm->enabled, vm->possible, *vm->enabled_set ? vm->enabled_set : "none", vm->online,
	       *vm->online_set ? vm->online_set : "none");
	if (vm->quota != VM_INFO_NO_QUOTA)
		printf(", CPU time: %s", vm_info_quota(vm, quota));
	putchar('\n');
}

static int print_ended(const struct resize *z, const struct options *options)
{
	enum outcome outcome = outcome_of_result(z->result);
	const struct vm_info *vm = &z->vm;
	int r = OUTCOME_DONE;

	if (options->given & OPTION_JSON)
		r = print_json(z);
	if (outcome != OUTCOME_DONE)
		outcome_print(outcome, "%s: %s: %s", vm->name, z->result, outcome_explain_result(z->result));
	if (!(options->given & OPTION_JSON))
		print_text(z);
	return outcome != OUTCOME_DONE ? (int)outcome : r;
}

static int print_left(const struct resize *z, const struct options *options, enum outcome outcome)
{
	const char *why = outcome == OUTCOME_GAVE_UP ? "time is up" : "interrupted";

	if (options->given & OPTION_JSON)
		print_json(z);
	if (z->job == 0)
		outcome_print(outcome, "%s: %s before cpupolicyd answered; the request may have been accepted",
			      z->vm.name, why);
	else if (*z->result)
		outcome_print(outcome, "%s: %s; job %" PRIu64 " is done, not every added vCPU is online", z->vm.name,
			      why, z->job);
	else
		outcome_print(outcome, "%s: %s; job %" PRIu64 " goes on (\"cpuctl show %s\" tells how it ends)",
			      z->vm.name, why, z->job, z->vm.name);
	return outcome;
}

static int wait_for(struct connection *c, const struct options *options, struct vm_info *vm)
{
	struct progress progress;
	struct resize z;
	enum resize_end end;
	int r = OUTCOME_FAILED;

	progress_init(&progress, options->given & OPTION_JSON);
	resize_init(&z, c, &progress, vm, options->count);
	z.millis = options->millis;
	z.online = options->given & OPTION_ONLINE;
	if (options->timeout != UINT64_MAX)
		z.until = connection_now() + options->timeout;
	end = resize_run(&z);
	progress_end(&progress);
	switch (end) {
	case RESIZE_ENDED:
		r = print_ended(&z, options);
		break;
	case RESIZE_NOT_ASKED:
		r = z.outcome;
		break;
	case RESIZE_GAVE_UP:
		r = print_left(&z, options, OUTCOME_GAVE_UP);
		break;
	case RESIZE_INTERRUPTED:
		r = print_left(&z, options, OUTCOME_INTERRUPTED);
		break;
	}
	resize_clear(&z);
	return r;
}

int command_set(const struct options *options)
{
	_cleanup_(connection_freep) struct connection *c = NULL;
	_cleanup_(sd_bus_error_free) sd_bus_error error = SD_BUS_ERROR_NULL;
	_cleanup_free_ char *path = NULL;
	struct vm_info vm;
	int r;

	if (!options->text && options->millis == 0) {
		outcome_print(
			OUTCOME_FAILED,
			"\"set\" takes a count of vCPUs, CPUs with a fraction, or --millis; \"cpuctl set --help\" says "
			"more");
		return OUTCOME_FAILED;
	}
	r = connection_new(&c, options->bus);
	if (r != 0)
		return r;
	r = connection_find(c, options->vm, &path, &error);
	if (r >= 0)
		r = connection_get(c, path, false, &vm, &error);
	if (r < 0)
		return report_cannot(options->vm, r, &error);
	if (options->given & OPTION_NO_WAIT) {
		r = no_wait(c, options, &vm);
	} else {
		r = connection_catch_signals(c);
		r = r < 0 ? (int)outcome_report("signals", r, NULL) : wait_for(c, options, &vm);
	}
	vm_info_clear(&vm);
	return r;
}
