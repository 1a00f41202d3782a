/* SPDX-License-Identifier: GPL-2.0-or-later */

#include "client/watch.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "client/outcome.h"
#include "client/output.h"
#include "daemon/core/cpulist.h"
#include "daemon/base/util.h"

/* ---- printing ---- */

static json_t *json_now(void)
{
	struct timespec ts;
	char date[32], text[48];
	struct tm tm;

	clock_gettime(CLOCK_REALTIME, &ts);
	gmtime_r(&ts.tv_sec, &tm);
	strftime(date, sizeof(date), "%Y-%m-%dT%H:%M:%S", &tm);
	snprintf(text, sizeof(text), "%s.%03ldZ", date, ts.tv_nsec / 1000000);
	return json_string(text);
}

/* `details` is taken over; NULL: there are none. */
static void print_event(struct watch *w, const struct watched *one, const char *event, json_t *details)
{
	json_t *line = json_pack("{s:o, s:s}", "time", json_now(), "event", event);
	int r;

	if (line && one)
		json_object_update_new(line, json_pack("{s:s, s:s}", "name", one->vm.name, "uuid", one->vm.uuid));
	if (line && details)
		json_object_update(line, details);
	json_decref(details);
	r = output_json_line(line);
	if (r != 0)
		w->outcome = r;
}

static void print_text(struct watch *w, const struct watched *one, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

static void print_text(struct watch *w, const struct watched *one, const char *format, ...)
{
	time_t now = time(NULL);
	char clock[16];
	struct tm tm;
	va_list ap;
	int r;

	localtime_r(&now, &tm);
	strftime(clock, sizeof(clock), "%H:%M:%S", &tm);
	printf("%s  %s: ", clock, one ? one->vm.name : "cpupolicyd");
	va_start(ap, format);
	vprintf(format, ap);
	va_end(ap);
	putchar('\n');
	r = output_finish();
	if (r != 0)
		w->outcome = r;
}

/* ---- differences ---- */

static struct cpulist parse_set(const char *text)
{
	struct cpulist set = {0};

	cpulist_parse(text, &set);
	return set;
}

/* "0-3" to "0-4": "added 4" */
static void tell_set(struct watch *w, struct watched *one, const char *what, char **told, const char *now)
{
	char added_text[CPULIST_TEXT_SIZE], removed_text[CPULIST_TEXT_SIZE];
	struct cpulist was = parse_set(*told), is = parse_set(now), added, removed;
	char *copy;

	if (strcmp(*told, now) == 0)
		return;
	copy = strdup(now);
	if (!copy)
		return;
	added = cpulist_minus(&is, &was);
	removed = cpulist_minus(&was, &is);
	cpulist_format(&added, added_text);
	cpulist_format(&removed, removed_text);
	free(*told);
	*told = copy;
	if (w->json)
		print_event(w, one, what,
			    json_pack("{s:s, s:s, s:s}", "set", now, "added", added_text, "removed", removed_text));
	else
		print_text(w, one, "%s %s (%s%s%s%s%s)", what, *now ? now : "none", *added_text ? "added " : "",
			   added_text, *added_text && *removed_text ? ", " : "", *removed_text ? "removed " : "",
			   removed_text);
}

/* One word that is another now; `label` stands before it for people. */
static void tell_word(struct watch *w, struct watched *one, const char *event, const char *label, char **told,
		      const char *now)
{
	char *was = *told, *copy;

	if (strcmp(was, now) == 0)
		return;
	copy = strdup(now);
	if (!copy)
		return;
	*told = copy;
	if (w->json)
		print_event(w, one, event,
			    json_pack("{s:s?, s:s?}", "from", *was ? was : NULL, "to", *copy ? copy : NULL));
	else
		print_text(w, one, "%s%s (was %s)", label, *copy ? copy : "none", *was ? was : "none");
	free(was);
}

static void tell_target(struct watch *w, struct watched *one)
{
	const struct vm_info *vm = &one->vm;
	char *copy;

	if (one->target == vm->target && strcmp(one->reason, vm->target_reason) == 0)
		return;
	copy = strdup(vm->target_reason);
	if (!copy)
		return;
	free(one->reason);
	one->reason = copy;
	one->target = vm->target;
	if (w->json)
		print_event(w, one, "target",
			    json_pack("{s:i, s:i, s:s}", "count", (int)vm->target, "desired", (int)vm->desired,
				      "reason", vm->target_reason));
	else if (strcmp(vm->target_reason, "none") == 0)
		print_text(w, one, "target %" PRIu32, vm->target);
	else
		print_text(w, one, "target %" PRIu32 " of %" PRIu32 ": %s", vm->target, vm->desired, vm->target_reason);
}

static void tell_quota(struct watch *w, struct watched *one)
{
	const struct vm_info *vm = &one->vm;
	char text[VM_INFO_QUOTA_SIZE], *copy;

	if (strcmp(one->quota, vm_info_quota(vm, text)) == 0)
		return;
	copy = strdup(text);
	if (!copy)
		return;
	free(one->quota);
	one->quota = copy;
	if (w->json)
		print_event(w, one, "quota",
			    json_pack("{s:o, s:s}", "millis",
				      vm->quota == VM_INFO_NO_QUOTA ? json_null() : json_integer(vm->quota), "state",
				      vm->quota_state));
	else
		print_text(w, one, "CPU time: %s", text);
}

static void tell_desired(struct watch *w, struct watched *one)
{
	uint32_t uid = one->vm.desired_uid;

	if (one->desired == one->vm.desired && one->desired_uid == uid)
		return;
	one->desired = one->vm.desired;
	one->desired_uid = uid;
	if (w->json)
		print_event(w, one, "desired",
			    json_pack("{s:i, s:o}", "count", (int)one->desired, "uid",
				      uid == VM_INFO_NOBODY ? json_null() : json_integer(uid)));
	else if (uid == VM_INFO_NOBODY)
		print_text(w, one, "%" PRIu32 " vCPUs, as booted", one->desired);
	else
		print_text(w, one, "%" PRIu32 " vCPUs asked for by %s", one->desired, output_user(uid));
}

void watch_tell(struct watch *w, struct watched *one)
{
	tell_word(w, one, "state", "", &one->state, one->vm.state);
	tell_word(w, one, "class", "class ", &one->class, one->vm.class);
	tell_word(w, one, "tenant", "tenant ", &one->tenant, one->vm.tenant);
	tell_desired(w, one);
	tell_target(w, one);
	tell_quota(w, one);
	tell_set(w, one, "enabled", &one->enabled_set, one->vm.enabled_set);
	tell_set(w, one, "online", &one->online_set, one->vm.online_set);
	tell_set(w, one, "overdue", &one->overdue_set, one->vm.overdue_set);
}

/* ---- events that are told as they are ---- */

void watch_tell_denied(struct watch *w, const struct watched *one, const struct watch_denied *denied)
{
	bool ruled = strcmp(denied->rule, "none") != 0;
	char times[32] = "";

	if (w->json) {
		print_event(w, one, "denied",
			    json_pack("{s:i, s:s, s:s, s:i, s:b}", "vcpu", (int)denied->vcpu, "reason", denied->reason,
				      "rule", denied->rule, "count", (int)denied->count, "enforced",
				      (int)denied->enforced));
		return;
	}
	if (denied->count > 1)
		snprintf(times, sizeof(times), ", %" PRIu32 " times", denied->count);
	print_text(w, one, "CPU_ON of vCPU %" PRIu32 " %s: %s%s%s%s%s", denied->vcpu,
		   denied->enforced ? "denied" : "would be denied", denied->reason, ruled ? " (" : "",
		   ruled ? denied->rule : "", ruled ? ")" : "", times);
}

void watch_tell_job(struct watch *w, const struct watched *one, uint64_t job, const char *result)
{
	if (w->json)
		print_event(w, one, result ? "job-ended" : "job",
			    json_pack("{s:I, s:s*}", "job", (json_int_t)job, "result", result));
	else
		print_text(w, one, "job %" PRIu64 " %s", job, result ? result : "began");
}

void watch_tell_daemon(struct watch *w, bool there)
{
	if (w->json)
		print_event(w, NULL, there ? "daemon-returned" : "daemon-gone", NULL);
	else
		print_text(w, NULL, there ? "is back" : "is gone; VMs go on under the last policy");
}

/* ---- the VMs ---- */

static void watched_clear(struct watched *one)
{
	vm_info_clear(&one->vm);
	free(one->state);
	free(one->class);
	free(one->tenant);
	free(one->reason);
	free(one->enabled_set);
	free(one->online_set);
	free(one->overdue_set);
	free(one->quota);
}

struct watched *watch_find(struct watch *w, const char *path)
{
	for (size_t i = 0; i < w->n; i++)
		if (strcmp(w->vms[i].vm.path, path) == 0)
			return &w->vms[i];
	return NULL;
}

struct watched *watch_find_name(struct watch *w, const char *name)
{
	for (size_t i = 0; i < w->n; i++)
		if (strcmp(w->vms[i].vm.name, name) == 0)
			return &w->vms[i];
	return NULL;
}

static void tell_new(struct watch *w, const struct watched *one, const char *event)
{
	const struct vm_info *vm = &one->vm;

	if (w->json) {
		print_event(w, one, event, vm_info_json(vm));
		return;
	}
	print_text(w, one, "%s%s, %" PRIu32 " of %" PRIu32 " vCPUs enabled%s%s, %" PRIu32 " online%s%s",
		   strcmp(event, "new") == 0 ? "new, " : "", vm->state, vm->enabled, vm->possible,
		   *vm->enabled_set ? " " : "", vm->enabled_set, vm->online, *vm->online_set ? " " : "",
		   vm->online_set);
}

static void add(struct watch *w, struct vm_info *vm, const char *event)
{
	struct watched *vms = reallocarray(w->vms, w->n + 1, sizeof(*vms));
	struct watched *one;
	char quota[VM_INFO_QUOTA_SIZE];

	if (!vms) {
		w->outcome = outcome_report("watch", -ENOMEM, NULL);
		return;
	}
	w->vms = vms;
	one = &vms[w->n];
	*one = (struct watched){
		.vm = *vm,
		.state = strdup(vm->state),
		.class = strdup(vm->class),
		.tenant = strdup(vm->tenant),
		.reason = strdup(vm->target_reason),
		.enabled_set = strdup(vm->enabled_set),
		.online_set = strdup(vm->online_set),
		.overdue_set = strdup(vm->overdue_set),
		.quota = strdup(vm_info_quota(vm, quota)),
		.desired = vm->desired,
		.desired_uid = vm->desired_uid,
		.target = vm->target,
		.seen = true,
	};
	*vm = (struct vm_info){0};
	if (!one->state || !one->class || !one->tenant || !one->reason || !one->enabled_set || !one->online_set ||
	    !one->overdue_set || !one->quota) {
		watched_clear(one);
		w->outcome = outcome_report("watch", -ENOMEM, NULL);
		return;
	}
	w->n++;
	tell_new(w, one, event);
}

void watch_put(struct watch *w, struct vm_info *vm, const char *event)
{
	struct watched *one = watch_find(w, vm->path);

	if (one) {
		vm_info_clear(&one->vm);
		one->vm = *vm;
		one->seen = true;
		*vm = (struct vm_info){0};
		watch_tell(w, one);
	} else if (!w->only || strcmp(w->only, vm->path) == 0) {
		add(w, vm, event);
	}
	vm_info_clear(vm);
}

void watch_remove(struct watch *w, const char *path)
{
	struct watched *one = watch_find(w, path);

	if (!one)
		return;
	if (w->json)
		print_event(w, one, "removed", NULL);
	else
		print_text(w, one, "removed from the record");
	watched_clear(one);
	*one = w->vms[--w->n];
}

void watch_replace(struct watch *w, struct vm_info *vms, size_t n, const char *event)
{
	for (size_t i = 0; i < w->n; i++)
		w->vms[i].seen = false;
	for (size_t i = 0; i < n; i++)
		watch_put(w, &vms[i], event);
	for (size_t i = w->n; i-- > 0;)
		if (!w->vms[i].seen)
			watch_remove(w, w->vms[i].vm.path);
}

void watch_clear(struct watch *w)
{
	for (size_t i = 0; i < w->n; i++)
		watched_clear(&w->vms[i]);
	free(w->vms);
	*w = (struct watch){0};
}
