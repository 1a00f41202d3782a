/* SPDX-License-Identifier: GPL-2.0-or-later */

#include "client/resize.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client/explanation.h"
#include "client/outcome.h"
#include "daemon/base/util.h"

/* ---- what is known of the VM ---- */

static struct cpulist parse_set(const char *text)
{
	struct cpulist set = {0};

	cpulist_parse(text, &set);
	return set;
}

static void set_result(struct resize *z, const char *result)
{
	snprintf(z->result, sizeof(z->result), "%s", result);
}

static void fail(struct resize *z, int outcome)
{
	z->outcome = outcome;
	z->failed = true;
}

/* The job's end may have been told while nobody listened. */
static void look_for_end(struct resize *z)
{
	const struct vm_job *last = &z->vm.last_job;
	uint64_t running = vm_info_job_id(z->vm.job);

	if (z->job == 0 || *z->result || running == z->job)
		return;
	if (last->id == z->job)
		set_result(z, last->result);
	else if (last->id > z->job || running > z->job)
		set_result(z, "superseded");
	else
		z->stale = true;
}

static void look(struct resize *z)
{
	_cleanup_(sd_bus_error_free) sd_bus_error error = SD_BUS_ERROR_NULL;
	struct vm_info vm;
	int r;

	z->look = false;
	r = connection_get(z->c, z->vm.path, false, &vm, &error);
	if (r >= 0) {
		vm_info_clear(&z->vm);
		z->vm = vm;
		z->explain = true;
		z->away = false;
		look_for_end(z);
	} else if (outcome_of_error(error.name) == OUTCOME_NO_DAEMON || sd_bus_is_open(connection_bus(z->c)) <= 0) {
		/* again when it is back; a connection that is gone is noticed by waiting on it */
		z->away = true;
	} else {
		progress_end(z->progress);
		fail(z, outcome_report("the VM is not on record any more", r, &error));
	}
}

/* What the job waits for, in words; the daemon's own. */
static void explain(struct resize *z)
{
	_cleanup_(sd_bus_error_free) sd_bus_error error = SD_BUS_ERROR_NULL;
	const struct explanation_rule *rule;
	struct explanation e;

	z->explain = false;
	free(z->waits);
	z->waits = NULL;
	if (!z->vm.waiting || explanation_get(z->c, z->vm.uuid, 0, &e, &error) < 0)
		return;
	rule = explanation_find(&e, z->vm.target_reason);
	z->waits = strdup(rule ? rule->sentence : z->vm.target_reason);
	explanation_clear(&e);
}

/* "room", for a sentence that tells more. */
static const char *waits_for(const char *rule)
{
	static const char *const words[][2] = {
		{"burst-credit", "credit"},
		{"plug-rate", "the plug rate"},
		{"frozen", "a thaw"},
		{"drained", "the end of draining"},
	};

	for (size_t i = 0; i < ARRAY_SIZE(words); i++)
		if (strcmp(words[i][0], rule) == 0)
			return words[i][1];
	return "room";
}

/* ---- signals ---- */

static int on_changed(sd_bus_message *m, void *userdata, sd_bus_error *ret_error)
{
	struct resize *z = userdata;
	const char *interface;
	int r;

	r = sd_bus_message_read(m, "s", &interface);
	if (r >= 0 && strcmp(interface, VM_INFO_INTERFACE) == 0) {
		vm_info_read(&z->vm, m);
		z->explain = true;
	}
	return 0;
}

static int on_job_removed(sd_bus_message *m, void *userdata, sd_bus_error *ret_error)
{
	struct resize *z = userdata;
	const char *job, *vm, *result;
	struct resize_removed *one;
	uint64_t id;

	if (sd_bus_message_read(m, "toss", &id, &job, &vm, &result) < 0 || strcmp(vm, z->vm.name) != 0)
		return 0;
	if (id == z->job) {
		set_result(z, result);
		z->look = true; /* the record as the job left it */
		return 0;
	}
	one = &z->removed[z->n_removed++ % ARRAY_SIZE(z->removed)];
	one->job = id;
	snprintf(one->result, sizeof(one->result), "%s", result);
	return 0;
}

static int on_owner(sd_bus_message *m, void *userdata, sd_bus_error *ret_error)
{
	const char *name, *old_owner, *new_owner;
	struct resize *z = userdata;

	if (sd_bus_message_read(m, "sss", &name, &old_owner, &new_owner) < 0)
		return 0;
	z->away = !*new_owner;
	z->look = !z->away;
	return 0;
}

static int subscribe(struct resize *z)
{
	sd_bus *bus = connection_bus(z->c);
	int r;

	r = sd_bus_match_signal(bus, NULL, CONNECTION_SERVICE, z->vm.path, "org.freedesktop.DBus.Properties",
				"PropertiesChanged", on_changed, z);
	if (r >= 0)
		r = sd_bus_match_signal(bus, NULL, CONNECTION_SERVICE, CONNECTION_MANAGER_PATH, CONNECTION_MANAGER,
					"JobRemoved", on_job_removed, z);
	if (r >= 0)
		r = sd_bus_add_match(bus, NULL,
				     "type='signal',sender='org.freedesktop.DBus',interface='org.freedesktop.DBus',"
				     "member='NameOwnerChanged',arg0='" CONNECTION_SERVICE "'",
				     on_owner, z);
	return r;
}

/* ---- asking ---- */

static int on_reply(sd_bus_message *m, void *userdata, sd_bus_error *ret_error)
{
	const sd_bus_error *error = sd_bus_message_get_error(m);
	struct resize *z = userdata;
	const char *job;
	char what[320];
	int r;

	z->asked = false;
	if (error &&
	    (strcmp(error->name, SD_BUS_ERROR_NO_REPLY) == 0 || strcmp(error->name, SD_BUS_ERROR_DISCONNECTED) == 0)) {
		/* It went away with our request; what it had made durable, asking again asks for as well. */
		z->away = true;
		return 1;
	}
	r = error ? -sd_bus_error_get_errno(error) : sd_bus_message_read(m, "o", &job);
	if (r < 0) {
		progress_end(z->progress);
		snprintf(what, sizeof(what), "cannot resize \"%s\"", z->vm.name);
		fail(z, outcome_report(what, r, error));
		return 1;
	}
	z->job = vm_info_job_id(job);
	for (size_t i = 0; i < ARRAY_SIZE(z->removed); i++)
		if (z->removed[i].job == z->job)
			set_result(z, z->removed[i].result);
	z->look = *z->result;
	return 1;
}

static int ask(struct resize *z)
{
	_cleanup_(sd_bus_message_unrefp) sd_bus_message *m = NULL;
	sd_bus *bus = connection_bus(z->c);
	int r;

	r = sd_bus_message_new_method_call(bus, &m, CONNECTION_SERVICE, CONNECTION_MANAGER_PATH, CONNECTION_MANAGER,
					   z->millis > 0 ? "SetCpuMillis" : "SetVcpuCount");
	if (r >= 0)
		r = sd_bus_message_append(m, "su", z->vm.uuid, z->millis > 0 ? z->millis : z->count);
	z->call = sd_bus_slot_unref(z->call);
	/* without a time limit: the bus tells when the daemon goes away */
	if (r >= 0)
		r = sd_bus_call_async(bus, &z->call, m, on_reply, z, UINT64_MAX);
	if (r >= 0)
		z->asked = true;
	return r;
}

/* ---- waiting ---- */

static void say(struct resize *z)
{
	char text[CPULIST_TEXT_SIZE];
	struct cpulist enabled, online, missing;

	if (z->away) {
		progress_say(z->progress, "%s: cpupolicyd is gone; waiting for its return", z->vm.name);
		return;
	}
	if (z->job == 0) {
		progress_say(z->progress, "%s: asking for %" PRIu32 " vCPUs", z->vm.name, z->count);
		return;
	}
	if (!*z->result && z->waits) {
		progress_say(z->progress, "%s: job %" PRIu64 ": enabled %s, waiting for %s: %s", z->vm.name, z->job,
			     *z->vm.enabled_set ? z->vm.enabled_set : "none", waits_for(z->vm.target_reason), z->waits);
		return;
	}
	if (!*z->result) {
		progress_say(z->progress, "%s: job %" PRIu64 ": enabled %s, online %s%s%s", z->vm.name, z->job,
			     *z->vm.enabled_set ? z->vm.enabled_set : "none",
			     *z->vm.online_set ? z->vm.online_set : "none",
			     *z->vm.pending_set ? ", waiting for vCPU " : "", z->vm.pending_set);
		return;
	}
	enabled = parse_set(z->vm.enabled_set);
	online = parse_set(z->vm.online_set);
	missing = cpulist_minus(&enabled, &z->before);
	missing = cpulist_minus(&missing, &online);
	progress_say(z->progress, "%s: waiting for the guest to bring vCPU %s online", z->vm.name,
		     cpulist_format(&missing, text));
}

/* With the job at its end: whether there is something left to wait for. */
static bool settled(struct resize *z)
{
	struct cpulist enabled = parse_set(z->vm.enabled_set), online = parse_set(z->vm.online_set), taken, missing;
	char text[CPULIST_TEXT_SIZE];

	if (cpulist_is_empty(&z->added))
		z->added = cpulist_minus(&enabled, &z->before);
	missing = cpulist_minus(&z->added, &online);
	z->all_online = cpulist_is_empty(&missing);
	if (!z->online || z->all_online || outcome_of_result(z->result) != OUTCOME_DONE)
		return true;
	taken = cpulist_minus(&missing, &enabled);
	if (cpulist_is_empty(&taken))
		return false;
	progress_end(z->progress);
	outcome_print(OUTCOME_SUPERSEDED, "%s: vCPU %s was taken back before it came online", z->vm.name,
		      cpulist_format(&taken, text));
	fail(z, OUTCOME_SUPERSEDED);
	return true;
}

/* The bus went away and the matches with it. */
static int recover(struct resize *z)
{
	int r;

	z->away = true;
	z->asked = false;
	z->call = sd_bus_slot_unref(z->call);
	say(z);
	do {
		r = connection_recover(z->c, z->until);
		if (r < 0)
			return r;
		r = subscribe(z);
	} while (r < 0);
	z->look = true;
	return 0;
}

/* Everything that can be done without waiting. */
static void advance(struct resize *z)
{
	int r;

	if (z->look)
		look(z);
	if (z->failed || z->away || *z->result)
		return;
	if (z->explain)
		explain(z);
	if (z->stale) {
		progress_end(z->progress);
		fail(z, outcome_print(OUTCOME_FAILED,
				      "%s: cpupolicyd does not know how job %" PRIu64
				      " ended; \"cpuctl show\" tells how the VM is",
				      z->vm.name, z->job));
	} else if (z->job == 0 && !z->asked) {
		r = ask(z);
		if (r < 0 && r != -ENOTCONN && r != -ECONNRESET)
			fail(z, outcome_report("cannot ask", r, NULL));
	}
}

enum resize_end resize_run(struct resize *z)
{
	int r;

	r = subscribe(z);
	if (r < 0) {
		z->outcome = outcome_report("cannot listen on the bus", r, NULL);
		return RESIZE_NOT_ASKED;
	}
	for (;;) {
		uint64_t next = progress_next(z->progress);

		advance(z);
		if (z->failed)
			return RESIZE_NOT_ASKED;
		if (*z->result && !z->look && !z->away && settled(z))
			return z->failed ? RESIZE_NOT_ASKED : RESIZE_ENDED;
		say(z);
		r = connection_wait(z->c, next < z->until ? next : z->until);
		if (r == -ENOTCONN)
			r = recover(z);
		if (r == -EINTR)
			return RESIZE_INTERRUPTED;
		if (connection_now() >= z->until)
			return RESIZE_GAVE_UP;
	}
}

void resize_init(struct resize *z, struct connection *c, struct progress *progress, struct vm_info *vm, uint32_t count)
{
	*z = (struct resize){
		.c = c,
		.progress = progress,
		.vm = *vm,
		.count = count,
		.until = UINT64_MAX,
		.before = parse_set(vm->enabled_set),
	};
	*vm = (struct vm_info){0};
}

void resize_clear(struct resize *z)
{
	sd_bus_slot_unref(z->call);
	free(z->waits);
	vm_info_clear(&z->vm);
}
