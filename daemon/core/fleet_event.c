/* SPDX-License-Identifier: GPL-2.0-or-later */

#include "daemon/core/fleet_private.h"

#include <stddef.h>

/* ---- what every VM's event has in common ---- */

/* What the VM had until now is counted; then the event; then everybody follows. */
static void finish(struct fleet *f, struct fleet_vm *m, unsigned effects)
{
	fleet_note(f, m, effects);
	fleet_sync(f, m);
	fleet_settle(f);
}

static unsigned vm_event(struct vm *vm, const struct fleet_event *e, uint64_t now)
{
	switch (e->kind) {
	case FLEET_RESUME:
		return vm_resume(vm, e->registration, now);
	case FLEET_LOST:
		return vm_lost(vm, e->gone, now);
	case FLEET_POWER_ON:
		return vm_power_on(vm, e->vcpu, e->reason, now);
	case FLEET_POWER_OFF:
		return vm_power_off(vm, e->vcpu, now);
	case FLEET_OST:
		return vm_ost(vm, e->vcpu, e->ost_event, e->ost_status, now);
	case FLEET_EJECT:
		return vm_eject(vm, e->vcpu, e->cause, now);
	case FLEET_RUN_STATE:
		return vm_run_state(vm, e->run_state, now);
	case FLEET_RESET:
		return vm_reset(vm, now);
	case FLEET_STATE:
		return vm_state(vm, e->run_state, e->vcpus, now);
	case FLEET_STORED:
		return vm_stored(vm, e->revision, e->ok, e->granted, now);
	default:
		return 0;
	}
}

static struct fleet_answer on_vm_event(struct fleet *f, const struct fleet_event *e)
{
	fleet_meter(f, e->vm);
	finish(f, e->vm, vm_event(e->vm->core, e, f->now));
	return (struct fleet_answer){0};
}

/* ---- those that move nothing ---- */

/* Constant time. */
static struct fleet_answer on_ask(struct fleet *f, const struct fleet_event *e)
{
	struct fleet_answer answer = {.verdict = vm_ask(e->vm->core, e->vcpu, f->now)};

	if (answer.verdict.would == CPUPOLICY_REASON_NOT_ENABLED || answer.verdict.would == CPUPOLICY_REASON_EJECTED)
		answer.rule = e->vm->bound;
	return answer;
}

static struct fleet_answer on_denied(struct fleet *f, const struct fleet_event *e)
{
	fleet_note(f, e->vm, vm_denied(e->vm->core, e->vcpu, e->reason, e->count));
	return (struct fleet_answer){0};
}

static struct fleet_answer on_confirm(struct fleet *f, const struct fleet_event *e)
{
	fleet_note(f, e->vm, vm_confirm(e->vm->core, e->epoch, e->generation));
	return (struct fleet_answer){0};
}

/* ---- registration ---- */

static struct fleet_answer on_start(struct fleet *f, const struct fleet_event *e)
{
	struct fleet_vm *m = e->vm;
	const struct fleet_assignment own = {m->class, m->tenant};
	struct fleet_answer answer = {0};
	enum rule rule;

	fleet_settle(f);
	rule = fleet_admit(f, &own, m->core->possible, &answer.line);
	/* Observed: what does not fit is let in; but no one may stop an operator's freeze or drain. */
	answer.would_refuse = rule != RULE_NONE && m->core->observe && !f->frozen && !f->drained;
	if (rule != RULE_NONE && !answer.would_refuse) {
		answer.rule = rule;
		return answer;
	}
	fleet_meter(f, m);
	fleet_note(f, m, FLEET_EFFECT_POLICY);
	fleet_make_room(f, m, e->registration->boot);
	finish(f, m, vm_start(m->core, e->registration, f->now));
	return answer;
}

/* ---- what clients ask for ---- */

static const struct explain_line *refusing_line(const struct explain *explained)
{
	for (size_t i = 0; i < explained->n; i++)
		if (explained->lines[i].rule == explained->refused)
			return &explained->lines[i];
	return NULL;
}

static struct fleet_answer on_resize(struct fleet *f, const struct fleet_event *e)
{
	struct fleet_answer answer = {0};
	struct explain_facts facts;
	struct explain explained;
	enum vm_refusal refusal;
	unsigned effects = 0;

	fleet_facts(f, e->vm, e->count, &facts);
	explain_evaluate(&facts, &explained);
	if (explained.refused != RULE_NONE) {
		answer.rule = explained.refused;
		answer.line = *refusing_line(&explained);
		return answer;
	}
	fleet_meter(f, e->vm);
	refusal = e->millis > 0 ? vm_resize_millis(e->vm->core, e->millis, e->job, f->now, &answer.superseded, &effects)
				: vm_resize(e->vm->core, e->count, e->job, f->now, &answer.superseded, &effects);
	if (refusal != VM_ACCEPTED) {
		answer.rule = RULE_STORAGE;
		return answer;
	}
	/* The caller has that end in the answer. */
	if (answer.superseded.id != 0)
		effects &= ~(unsigned)VM_EFFECT_JOB_ENDED;
	finish(f, e->vm, effects);
	return answer;
}

static struct fleet_answer on_assign(struct fleet *f, const struct fleet_event *e)
{
	struct fleet_vm *m = e->vm;
	struct fleet_answer answer = {0};

	answer.rule = fleet_admit_instead(f, m, &e->assignment, &answer.line);
	if (answer.rule != RULE_NONE)
		return answer;
	fleet_meter(f, m);
	fleet_move(f, m, &e->assignment);
	fleet_settle(f);
	return answer;
}

static struct fleet_answer on_import(struct fleet *f, const struct fleet_event *e)
{
	struct fleet_vm *m = e->vm;

	if (f->frozen)
		return (struct fleet_answer){
			.rule = RULE_FROZEN,
			.line = {.rule = RULE_FROZEN, .outcome = EXPLAIN_REFUSES},
		};
	fleet_meter(f, m);
	credit_set(&m->credit, &m->class->burst, e->balance, e->spent, f->now);
	finish(f, m, FLEET_EFFECT_POLICY);
	return (struct fleet_answer){0};
}

/* ---- the host ---- */

static struct fleet_answer on_freeze(struct fleet *f, const struct fleet_event *e)
{
	if (f->frozen == e->on)
		return (struct fleet_answer){0};
	f->frozen = e->on;
	if (!f->frozen) {
		/* First their shares, while they stand still: those that they had may be somebody else's by now. */
		ledger_set_capacity(&f->ledger, f->capacity);
		fleet_settle(f);
	}
	for (uint32_t i = 0; i < f->n; i++) {
		struct fleet_vm *m = f->members[i];

		fleet_meter(f, m);
		fleet_note(f, m, vm_set_frozen(m->core, f->frozen, f->now));
		fleet_sync(f, m);
	}
	fleet_settle(f);
	return (struct fleet_answer){0};
}

static struct fleet_answer on_drain(struct fleet *f, const struct fleet_event *e)
{
	f->drained = e->on;
	ledger_set_drained(&f->ledger, e->on);
	fleet_settle(f);
	return (struct fleet_answer){0};
}

static struct fleet_answer on_capacity(struct fleet *f, const struct fleet_event *e)
{
	f->capacity = e->count;
	if (!f->frozen)
		ledger_set_capacity(&f->ledger, e->count);
	fleet_settle(f);
	return (struct fleet_answer){0};
}

static void meter_all(struct fleet *f)
{
	for (uint32_t i = 0; i < f->n; i++) {
		fleet_meter(f, f->members[i]);
		fleet_sync(f, f->members[i]);
	}
}

/* Up to now the old clock was right: when it was set, nobody says. */
static struct fleet_answer on_clock(struct fleet *f, const struct fleet_event *e)
{
	meter_all(f);
	f->clock = e->clock;
	f->next_hour = usage_next_hour(&f->clock, f->now);
	fleet_settle(f);
	return (struct fleet_answer){0};
}

static struct fleet_answer on_tick(struct fleet *f, const struct fleet_event *e)
{
	struct fleet_vm *m;

	if (f->now >= f->next_hour) {
		meter_all(f);
		f->next_hour = usage_next_hour(&f->clock, f->now);
	}
	while ((m = fleet_due(f, f->now))) {
		fleet_meter(f, m);
		fleet_note(f, m, vm_tick(m->core, f->now));
		fleet_sync(f, m);
	}
	fleet_settle(f);
	return (struct fleet_answer){0};
}

/* ---- all of them ---- */

static const struct {
	const char *name;
	struct fleet_answer (*apply)(struct fleet *f, const struct fleet_event *e);
} kinds[] = {
	[FLEET_START] = {"start", on_start},          [FLEET_RESUME] = {"resume", on_vm_event},
	[FLEET_LOST] = {"lost", on_vm_event},         [FLEET_ASK] = {"ask", on_ask},
	[FLEET_POWER_ON] = {"power-on", on_vm_event}, [FLEET_POWER_OFF] = {"power-off", on_vm_event},
	[FLEET_DENIED] = {"denied", on_denied},       [FLEET_OST] = {"ost", on_vm_event},
	[FLEET_EJECT] = {"eject", on_vm_event},       [FLEET_RUN_STATE] = {"run-state", on_vm_event},
	[FLEET_RESET] = {"reset", on_vm_event},       [FLEET_STATE] = {"state", on_vm_event},
	[FLEET_CONFIRM] = {"confirm", on_confirm},    [FLEET_STORED] = {"stored", on_vm_event},
	[FLEET_RESIZE] = {"resize", on_resize},       [FLEET_ASSIGN] = {"assign", on_assign},
	[FLEET_IMPORT] = {"import", on_import},       [FLEET_FREEZE] = {"freeze", on_freeze},
	[FLEET_DRAIN] = {"drain", on_drain},          [FLEET_CAPACITY] = {"capacity", on_capacity},
	[FLEET_CLOCK] = {"clock", on_clock},          [FLEET_TICK] = {"tick", on_tick},
};

_Static_assert(sizeof(kinds) / sizeof(kinds[0]) == FLEET_EVENT_MAX + 1, "a function for each event");

struct fleet_answer fleet_apply(struct fleet *f, const struct fleet_event *event)
{
	if (event->now > f->now)
		f->now = event->now;
	if (f->restoring && event->kind != FLEET_LOST)
		fleet_restored(f);
	return kinds[event->kind].apply(f, event);
}

const char *fleet_event_name(enum fleet_event_kind kind)
{
	return (unsigned)kind <= FLEET_EVENT_MAX && kinds[kind].name ? kinds[kind].name : "unknown";
}
