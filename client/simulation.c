/* SPDX-License-Identifier: GPL-2.0-or-later */

#include "client/simulation_private.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "daemon/core/job.h"
#include "daemon/base/util.h"

/* ---- what is wrong with the recording ---- */

static int __attribute__((format(printf, 2, 3))) fail(struct simulation *s, const char *format, ...)
{
	_cleanup_free_ char *text = NULL;
	va_list ap;
	int n;

	va_start(ap, format);
	n = vasprintf(&text, format, ap);
	va_end(ap);
	if (n < 0 || asprintf(s->error, "%s:%" PRIu64 ": %s", s->file, s->sums.lines, text) < 0)
		*s->error = NULL;
	return -EINVAL;
}

/* ---- VMs ---- */

static struct sim_vm *sim_vm_of(const struct fleet_vm *member)
{
	return container_of(member, struct sim_vm, member);
}

static struct sim_vm *find(const struct simulation *s, const uint8_t *uuid)
{
	const struct fleet_vm *member = fleet_find(&s->fleet, uuid);

	return member ? sim_vm_of(member) : NULL;
}

static int set_text(char **text, const char *value)
{
	char *copy = NULL;

	if (value) {
		copy = strdup(value);
		if (!copy)
			return -ENOMEM;
	}
	free(*text);
	*text = copy;
	return 0;
}

static int set_subject(struct sim_vm *vm, const struct recording_line *line)
{
	int r = set_text(&vm->class, line->class);

	if (r >= 0)
		r = set_text(&vm->tenant, line->tenant);
	if (r >= 0)
		r = set_text(&vm->announced_class, line->announced_class);
	if (r >= 0)
		r = set_text(&vm->announced_tenant, line->announced_tenant);
	vm->uid = (uid_t)line->uid;
	return r;
}

static int set_name(struct sim_vm *vm, const char *name)
{
	int r = set_text(&vm->name, name);

	vm->member.name = vm->name;
	return r;
}

static struct fleet_assignment decide(const struct policy *policy, const struct sim_vm *vm)
{
	struct policy_subject subject = {
		.name = vm->name,
		.class = vm->class,
		.tenant = vm->tenant,
		.announced_class = vm->announced_class,
		.announced_tenant = vm->announced_tenant,
		.uid = vm->uid,
	};
	struct policy_decision decision;

	memcpy(subject.uuid, vm->member.uuid, sizeof(subject.uuid));
	policy_assign(policy, &subject, &decision);
	return decision.assignment;
}

static void sim_vm_free(struct sim_vm *vm)
{
	vm_free(vm->member.core);
	free(vm->name);
	free(vm->class);
	free(vm->tenant);
	free(vm->announced_class);
	free(vm->announced_tenant);
	free(vm);
}

/* ---- the disk and the pages, once they are the simulation's own ---- */

static void store_now(struct simulation *s, struct fleet_vm *m)
{
	uint8_t granted[CPUPOLICY_MAX_VCPUS / 8] = {0}, wanted[CPUPOLICY_MAX_VCPUS / 8];

	vm_record_grants(m->core, granted, wanted);
	fleet_apply(&s->fleet, &(struct fleet_event){
				       .kind = FLEET_STORED,
				       .now = s->last_at,
				       .vm = m,
				       .revision = m->core->revision,
				       .granted = granted,
				       .ok = true,
			       });
}

static void settle(struct simulation *s)
{
	struct fleet_vm *m;
	unsigned effects;

	while ((m = fleet_next(&s->fleet, &effects))) {
		if (!s->diverged)
			continue;
		if (m->core->stored < m->core->revision)
			store_now(s, m);
		if (m->core->link == VM_CONNECTED && (effects & VM_EFFECT_PAGE))
			m->core->generation++;
	}
}

/* What the recorded disk had not written, nobody will write any more. */
static void settle_diverged(struct simulation *s)
{
	settle(s);
	for (uint32_t i = 0; i < s->fleet.n; i++)
		if (s->fleet.members[i]->core->stored < s->fleet.members[i]->core->revision)
			store_now(s, s->fleet.members[i]);
	settle(s);
}

/* ---- the policy ---- */

static void assign(const struct fleet_vm *member, struct fleet_assignment *ret, void *userdata)
{
	*ret = decide(userdata, sim_vm_of(member));
}

static int load_policy(struct simulation *s, const struct recording_line *line)
{
	struct policy *policy = s->given ? policy_ref(s->given) : NULL;
	struct fleet_policy next = {.assign = assign};
	int r;

	if (!policy) {
		r = policy_parse(&policy, line->sources, line->n_sources, s->error);
		if (r < 0)
			return r;
	}
	next.observe = policy_observe(policy);
	next.userdata = policy;
	next.tenants = policy_tenants(policy, &next.n_tenants);
	r = fleet_reload(&s->fleet, &next, line->at);
	if (r < 0) {
		policy_unref(policy);
		return r == -EBUSY ? fail(s, "a reload on a frozen host") : r;
	}
	policy_unref(s->policy);
	s->policy = policy;
	return 0;
}

static uint32_t capacity(const struct simulation *s, uint32_t recorded)
{
	return s->given ? policy_capacity_vcpus(s->policy, s->cpus) : recorded;
}

static void apply_host(struct simulation *s, struct fleet_event *event)
{
	event->now = s->last_at;
	fleet_apply(&s->fleet, event);
}

static int begin(struct simulation *s, const struct recording_line *line)
{
	int r;

	if (s->open)
		return fail(s, "a second header");
	s->open = true;
	s->begin = line->at;
	s->cpus = line->cpus;
	fleet_init(&s->fleet, &(struct fleet_ops){0}, &line->clock);
	r = load_policy(s, line);
	if (r < 0)
		return r;
	apply_host(s, &(struct fleet_event){.kind = FLEET_CAPACITY, .count = capacity(s, line->capacity)});
	if (line->drained)
		apply_host(s, &(struct fleet_event){.kind = FLEET_DRAIN, .on = true});
	if (line->frozen)
		apply_host(s, &(struct fleet_event){.kind = FLEET_FREEZE, .on = true});
	return 0;
}

/* ---- members ---- */

static void restore_core(struct vm *core, const struct store_vm *record, uint64_t now)
{
	core->boot = record->boot;
	core->desired = record->desired;
	core->desired_set = record->desired_set;
	core->millis = record->desired_millis;
	core->means = record->means;
	core->realm = record->realm;
	core->boot_removable = record->boot_removable;
	core->notify = record->notify;
	core->epoch = record->epoch;
	core->last_job = record->last_job;
	if (record->job.id != 0) {
		job_start(&core->job, record->job.id, record->job.from, record->job.to, core->class->job_timeout, false,
			  now);
		core->job.uid = record->job.uid;
	}
	if (!record->stopped)
		vm_restore_grants(core, record->enabled, record->wanted);
}

static int enter(struct simulation *s, struct sim_vm *vm, const struct recording_line *line)
{
	struct fleet_assignment assignment;
	int r = set_name(vm, line->name);

	if (r >= 0)
		r = set_subject(vm, line);
	if (r < 0)
		return r;
	memcpy(vm->member.uuid, line->uuid, sizeof(vm->member.uuid));
	assignment = decide(s->policy, vm);
	r = vm_new(&vm->member.core, line->possible, assignment.class);
	if (r < 0)
		return r == -EINVAL ? fail(s, "not a number of vCPUs that a VM can have") : r;
	if (line->restored)
		restore_core(vm->member.core, &line->record, line->at);
	if (line->handover.vcpus) {
		if (!vm_handover_fits(vm->member.core, &line->handover, line->at))
			return fail(s, "a session is gone on with that is not of this VM's record");
		vm_handover_set(vm->member.core, &line->handover);
	}
	r = fleet_add(&s->fleet, &vm->member, &assignment, line->at);
	if (r < 0)
		return r;
	if (line->restored)
		fleet_restore(&s->fleet, &vm->member, &line->record.meters, line->alive, line->at);
	else
		fleet_take(&s->fleet, &vm->member);
	return 0;
}

static int add(struct simulation *s, const struct recording_line *line)
{
	struct sim_vm *vm;
	int r;

	if (find(s, line->uuid))
		return fail(s, "a VM is added that is there");
	vm = calloc(1, sizeof(*vm));
	if (!vm)
		return -ENOMEM;
	r = enter(s, vm, line);
	if (r < 0) {
		sim_vm_free(vm);
		return r;
	}
	vm->next = s->vms;
	s->vms = vm;
	return 0;
}

/* As the daemon does with a stopped VM that comes back as another machine. */
static int reshape(struct simulation *s, struct sim_vm *vm, const struct recording_line *line)
{
	const struct vm *old = vm->member.core;
	struct fleet_assignment assignment = {.class = vm->member.class, .tenant = vm->member.tenant};
	struct fleet_saved saved;
	struct vm *core;
	int r;

	if (old->link != VM_STOPPED)
		return fail(s, "a VM that runs becomes another machine");
	r = vm_new(&core, line->possible, old->class);
	if (r < 0)
		return r == -EINVAL ? fail(s, "not a number of vCPUs that a VM can have") : r;
	core->desired = old->desired;
	core->desired_set = old->desired_set;
	core->millis = old->millis;
	core->means = old->means;
	core->realm = old->realm;
	core->epoch = old->epoch;
	core->generation = old->generation;
	core->revision = old->revision;
	core->stored = old->stored;
	core->denied = old->denied;
	core->last_job = old->last_job;
	fleet_save(&s->fleet, &vm->member, line->at, &saved);
	fleet_remove(&s->fleet, &vm->member, line->at);
	saved.last_row = vm->member.usage.last;
	saved.row = (struct usage_row){0};
	vm_free(vm->member.core);
	vm->member = (struct fleet_vm){.core = core, .name = vm->name};
	memcpy(vm->member.uuid, line->uuid, sizeof(vm->member.uuid));
	r = set_name(vm, line->name);
	if (r >= 0)
		r = fleet_add(&s->fleet, &vm->member, &assignment, line->at);
	if (r < 0)
		return r;
	fleet_restore(&s->fleet, &vm->member, &saved, false, line->at);
	return 0;
}

static void leave(struct simulation *s, struct sim_vm *vm, const struct recording_line *line)
{
	fleet_remove(&s->fleet, &vm->member, line->at);
	vm->gone = true;
}

/* ---- events ---- */

static int check_event(struct simulation *s, const struct sim_vm *vm, const struct recording_line *line)
{
	const struct fleet_event *e = &line->event;
	uint32_t possible = vm->member.core->possible;

	if (e->vcpu >= possible)
		return fail(s, "the VM has no vCPU %" PRIu32, e->vcpu);
	if (line->n_vcpus != 0 && line->n_vcpus != possible)
		return fail(s, "%" PRIu32 " vCPUs of a VM that has %" PRIu32, line->n_vcpus, possible);
	if ((e->kind == FLEET_START || e->kind == FLEET_RESUME) &&
	    (line->n_vcpus == 0 || e->registration->boot < 1 || e->registration->boot > possible))
		return fail(s, "a registration without its vCPUs");
	if (e->kind == FLEET_STATE && line->n_vcpus == 0)
		return fail(s, "a state without vCPUs");
	if (e->kind == FLEET_STORED && e->ok && line->granted_size != (possible + 7) / 8)
		return fail(s, "grants of another number of vCPUs");
	return 0;
}

static uint64_t verdict_of_page(const struct vm *core, uint32_t vcpu)
{
	return (vm_word(core, vcpu) & CPUPOLICY_WORD_VERDICT_MASK) >> CPUPOLICY_WORD_VERDICT_SHIFT;
}

/* What its guest or VMM did in the recording, and why it could not have done so here; NULL: it could. */
static const char *cannot(const struct sim_vm *vm, const struct fleet_event *e)
{
	const struct vm *core = vm->member.core;

	switch (e->kind) {
	case FLEET_START:
		return core->link == VM_STOPPED ? NULL : "it runs already";
	case FLEET_LOST:
	case FLEET_RESUME:
		return core->link != VM_STOPPED ? NULL : "it does not run";
	case FLEET_RESIZE:
	case FLEET_ASSIGN:
	case FLEET_IMPORT:
		return NULL;
	case FLEET_STORED:
		return "";
	case FLEET_POWER_ON:
		if (core->link == VM_CONNECTED && !core->observe && !(core->vcpus[e->vcpu].flags & VCPU_ONLINE) &&
		    verdict_of_page(core, e->vcpu) == CPUPOLICY_VERDICT_DENY)
			return "the vCPU would not have been powered on";
		break;
	case FLEET_EJECT:
		if (core->link == VM_CONNECTED && e->cause == CPUPOLICY_EJECT_REQUESTED &&
		    (core->vcpus[e->vcpu].flags & VCPU_WANTED))
			return "the vCPU would not have been asked back";
		break;
	default:
		break;
	}
	return core->link == VM_CONNECTED ? NULL : "it is not connected";
}

static void apply_vm(struct simulation *s, struct sim_vm *vm, struct recording_line *line)
{
	struct fleet_event *e = &line->event;
	struct recording_answer answer;
	struct fleet_answer got;

	e->vm = &vm->member;
	if (e->kind == FLEET_ASSIGN)
		e->assignment = decide(s->policy, vm);
	if (s->diverged && e->kind == FLEET_CONFIRM) {
		e->epoch = vm->member.core->epoch;
		e->generation = vm->member.core->generation;
	}
	got = fleet_apply(&s->fleet, e);
	answer = recording_answer(&got);
	simulation_compare_answer(s, vm, line, &answer);
}

static int event_of_vm(struct simulation *s, struct recording_line *line)
{
	struct sim_vm *vm = find(s, line->uuid);
	const char *why;
	int r;

	if (!vm)
		return fail(s, "an event of a VM that is not there");
	r = check_event(s, vm, line);
	if (r < 0)
		return r;
	why = s->diverged ? cannot(vm, &line->event) : NULL;
	if (why) {
		s->sums.left_out += why[0] != '\0';
	} else {
		apply_vm(s, vm, line);
	}
	if (recording_has_state(line->event.kind) && line->event.kind != FLEET_STORED)
		simulation_compare_state(s, vm, line);
	else if (line->event.kind == FLEET_STORED && !s->diverged)
		simulation_compare_state(s, vm, line);
	return 0;
}

static void event_of_host(struct simulation *s, struct recording_line *line)
{
	struct fleet_event *e = &line->event;

	if (e->kind == FLEET_CAPACITY)
		e->count = capacity(s, e->count);
	fleet_apply(&s->fleet, e);
	simulation_compare_state(s, NULL, line);
}

static int of_vm(struct simulation *s, const struct recording_line *line)
{
	struct sim_vm *vm = find(s, line->uuid);

	if (!vm)
		return fail(s, "a line of a VM that is not there");
	switch (line->kind) {
	case RECORDING_RESHAPE:
		return reshape(s, vm, line);
	case RECORDING_SUBJECT:
		return set_subject(vm, line);
	case RECORDING_PUBLISHED:
		if (!s->diverged)
			vm->member.core->generation = line->generation;
		return 0;
	default:
		leave(s, vm, line);
		return 0;
	}
}

static int apply_line(struct simulation *s, struct recording_line *line)
{
	bool of_vm_event = line->kind == RECORDING_EVENT && line->state.of_vm;

	if (!s->open && line->kind != RECORDING_HEADER)
		return fail(s, "not a recording: it does not begin with a header");
	if (line->at < s->last_at)
		return fail(s, "time runs backwards");
	s->last_at = line->at;
	switch (line->kind) {
	case RECORDING_HEADER:
		return begin(s, line);
	case RECORDING_ADD:
		return add(s, line);
	case RECORDING_RELOAD:
		return s->given ? 0 : load_policy(s, line);
	case RECORDING_CPUS:
		s->cpus = line->cpus;
		return 0;
	case RECORDING_EVENT:
		s->sums.events++;
		if (of_vm_event)
			return event_of_vm(s, line);
		event_of_host(s, line);
		return 0;
	default:
		return of_vm(s, line);
	}
}

/* Deadlines that lie before the line and that only this fleet has. */
static void catch_up(struct simulation *s, uint64_t at)
{
	uint64_t due;

	while (s->diverged && (due = fleet_deadline(&s->fleet)) < at) {
		if (due > s->last_at)
			s->last_at = due;
		fleet_apply(&s->fleet, &(struct fleet_event){.kind = FLEET_TICK, .now = s->last_at});
		settle(s);
		if (fleet_deadline(&s->fleet) <= s->last_at)
			break;
	}
}

int simulation_line(struct simulation *s, const char *text, size_t size, const char *file, char **ret_error)
{
	struct recording_line line;
	bool diverged = s->diverged;
	int r;

	*ret_error = NULL;
	s->error = ret_error;
	s->file = file;
	s->sums.lines++;
	r = recording_read(&line, text, size, file, (unsigned)s->sums.lines, ret_error);
	if (r < 0)
		return r;
	if (s->open)
		catch_up(s, line.at);
	r = apply_line(s, &line);
	if (r >= 0 && s->diverged && !diverged)
		settle_diverged(s);
	else if (r >= 0)
		settle(s);
	s->sums.duration = s->last_at - s->begin;
	recording_line_clear(&line);
	return r;
}

/* ---- life ---- */

int simulation_new(struct simulation **ret, struct policy *policy, const struct simulation_ops *ops)
{
	struct simulation *s = calloc(1, sizeof(*s));

	if (!s)
		return -ENOMEM;
	s->ops = *ops;
	s->given = policy ? policy_ref(policy) : NULL;
	*ret = s;
	return 0;
}

struct simulation *simulation_free(struct simulation *s)
{
	struct sim_vm *vm;

	if (!s)
		return NULL;
	if (s->open)
		fleet_clear(&s->fleet);
	while ((vm = s->vms)) {
		s->vms = vm->next;
		sim_vm_free(vm);
	}
	policy_unref(s->policy);
	policy_unref(s->given);
	free(s);
	return NULL;
}

void simulation_sums(const struct simulation *s, struct simulation_sums *ret)
{
	*ret = s->sums;
}

void simulation_usage(const struct simulation *s, void (*fn)(const struct simulation_usage *usage, void *userdata),
		      void *userdata)
{
	for (const struct sim_vm *vm = s->vms; vm; vm = vm->next)
		if (vm->compared)
			fn(
				&(struct simulation_usage){
					.name = vm->name,
					.was_guaranteed_ns = vm->was.guaranteed_ns,
					.was_burst_ns = vm->was.burst_ns,
					.is_guaranteed_ns = vm->is.guaranteed_ns,
					.is_burst_ns = vm->is.burst_ns,
					.was_balance = vm->was.balance,
					.is_balance = vm->is.balance,
				},
				userdata);
}
