/* SPDX-License-Identifier: GPL-2.0-or-later */

#include "daemon/core/explain.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>

#define VCPU_SECOND INT64_C(1000000000)

/* ---- the rules, in their order ---- */

static uint64_t bound_number(uint32_t bound)
{
	return bound == EXPLAIN_UNLIMITED ? UINT64_MAX : bound;
}

/* A bound over several VMs, or over one: what is guaranteed is never refused by it. */
static enum explain_outcome by_room(const struct explain_facts *f, enum rule rule, uint32_t bound)
{
	if (bound != EXPLAIN_UNLIMITED && f->count > bound && f->count > f->guaranteed)
		return EXPLAIN_REFUSES;
	return f->bound == rule ? EXPLAIN_WAITS : EXPLAIN_PASSES;
}

static enum explain_outcome refuses_if(bool refuses)
{
	return refuses ? EXPLAIN_REFUSES : EXPLAIN_PASSES;
}

static enum explain_outcome waits_if(bool waits)
{
	return waits ? EXPLAIN_WAITS : EXPLAIN_PASSES;
}

static uint32_t to_grant(const struct explain_facts *f)
{
	uint32_t target = f->count < f->allowance ? f->count : f->allowance;

	return f->running && target > f->wanted ? target - f->wanted : 0;
}

static bool takes_boot_vcpus(const struct explain_facts *f)
{
	return f->running && !f->boot_removable && f->count < f->boot && f->count < f->wanted;
}

static struct explain_line range(const struct explain_facts *f)
{
	return (struct explain_line){.outcome = refuses_if(f->count < 1 || f->count > f->possible),
				     .bound = f->possible};
}

static struct explain_line limit(const struct explain_facts *f)
{
	return (struct explain_line){
		.outcome = refuses_if(f->count > f->limit), .who = f->class_name, .bound = f->limit};
}

static struct explain_line tenant(const struct explain_facts *f)
{
	return (struct explain_line){
		.outcome = by_room(f, RULE_TENANT, f->tenant_quota),
		.who = f->tenant_name,
		.bound = bound_number(f->tenant_quota),
		.others = f->tenant_others,
	};
}

static struct explain_line capacity(const struct explain_facts *f)
{
	return (struct explain_line){
		.outcome = by_room(f, RULE_CAPACITY, f->capacity),
		.bound = bound_number(f->capacity),
		.others = f->capacity_others,
	};
}

static struct explain_line storage(const struct explain_facts *f)
{
	return (struct explain_line){.outcome = refuses_if(f->queue_full)};
}

static struct explain_line frozen(const struct explain_facts *f)
{
	return (struct explain_line){.outcome = refuses_if(f->frozen)};
}

static struct explain_line migrating(const struct explain_facts *f)
{
	return (struct explain_line){.outcome = refuses_if(f->running && f->migrating)};
}

static struct explain_line notify(const struct explain_facts *f)
{
	return (struct explain_line){.outcome = refuses_if(f->running && !f->notify && f->count != f->wanted)};
}

static struct explain_line boot(const struct explain_facts *f)
{
	return (struct explain_line){.outcome = refuses_if(takes_boot_vcpus(f)), .bound = f->boot};
}

static struct explain_line drained(const struct explain_facts *f)
{
	return (struct explain_line){.outcome = waits_if(f->bound == RULE_DRAINED), .bound = f->guaranteed};
}

static struct explain_line credit(const struct explain_facts *f)
{
	return (struct explain_line){
		.outcome = waits_if(f->bound == RULE_CREDIT),
		.who = f->class_name,
		.bound = f->metered && !f->may_burst ? f->guaranteed : UINT64_MAX,
		.balance = f->balance,
		.resume = f->resume,
	};
}

static struct explain_line plug_rate(const struct explain_facts *f)
{
	return (struct explain_line){
		.outcome = waits_if(f->plugs_per_minute > 0 && to_grant(f) > f->plugs_now),
		.who = f->class_name,
		.bound = f->plugs_per_minute > 0 ? f->plugs_per_minute : UINT64_MAX,
		.others = f->plugs_now,
	};
}

static const struct {
	enum rule rule;
	struct explain_line (*line)(const struct explain_facts *f);
} rules[] = {
	{RULE_RANGE, range},     {RULE_LIMIT, limit},     {RULE_TENANT, tenant},       {RULE_CAPACITY, capacity},
	{RULE_STORAGE, storage}, {RULE_FROZEN, frozen},   {RULE_MIGRATING, migrating}, {RULE_NOTIFY, notify},
	{RULE_BOOT, boot},       {RULE_DRAINED, drained}, {RULE_CREDIT, credit},       {RULE_PLUG_RATE, plug_rate},
};

_Static_assert(sizeof(rules) / sizeof(rules[0]) == RULE_MAX, "each rule once");

/* What comes of it, if it is accepted. A VM that does not run has nothing, and is to have nothing yet. */
static void conclude(const struct explain_facts *f, struct explain *ret)
{
	uint32_t grant = to_grant(f);

	if (ret->refused != RULE_NONE || !f->running)
		return;
	ret->target = f->count < f->allowance ? f->count : f->allowance;
	if (ret->target < f->count)
		ret->bound = f->bound;
	if (f->plugs_per_minute > 0 && grant > f->plugs_now) {
		ret->target = f->wanted + f->plugs_now;
		ret->bound = RULE_PLUG_RATE;
	}
}

void explain_evaluate(const struct explain_facts *facts, struct explain *ret)
{
	*ret = (struct explain){.target = facts->wanted};
	for (size_t i = 0; i < RULE_MAX; i++) {
		struct explain_line *line = &ret->lines[ret->n++];

		*line = rules[i].line(facts);
		line->rule = rules[i].rule;
		line->count = facts->count;
		if (line->outcome == EXPLAIN_REFUSES && ret->refused == RULE_NONE)
			ret->refused = line->rule;
	}
	conclude(facts, ret);
}

/* ---- words ---- */

const char *explain_outcome_name(enum explain_outcome outcome)
{
	static const char *const names[] = {
		[EXPLAIN_PASSES] = "passes", [EXPLAIN_WAITS] = "waits", [EXPLAIN_REFUSES] = "refuses"};

	return (unsigned)outcome <= EXPLAIN_REFUSES ? names[outcome] : "unknown";
}

struct text {
	char *buffer;
	size_t size;
	const char *vm;
	const struct explain_line *line;
};

static void __attribute__((format(printf, 2, 3))) say(const struct text *t, const char *format, ...)
{
	va_list ap;

	va_start(ap, format);
	vsnprintf(t->buffer, t->size, format, ap);
	va_end(ap);
}

static void say_range(const struct text *t)
{
	say(t, "VM %s was created with %" PRIu64 " possible vCPUs: it can have 1 to %" PRIu64 "%s", t->vm,
	    t->line->bound, t->line->bound, t->line->outcome == EXPLAIN_REFUSES ? "" : " of them");
}

static void say_limit(const struct text *t)
{
	say(t, "the service class \"%s\" permits VM %s at most %" PRIu64 " vCPUs", t->line->who, t->vm, t->line->bound);
}

static void say_admission(const struct text *t, const char *whose)
{
	uint64_t left = t->line->bound > t->line->others ? t->line->bound - t->line->others : 0;

	say(t,
	    "VM %s is to have %" PRIu64 " vCPUs guaranteed, and of %s %" PRIu64 " vCPUs %" PRIu64
	    " are reserved for other VMs: %" PRIu64 " are free",
	    t->vm, t->line->count, whose, t->line->bound, t->line->others, left);
}

static void say_room(const struct text *t, const char *whose)
{
	const struct explain_line *l = t->line;

	if (l->admission)
		say_admission(t, whose);
	else if (l->outcome == EXPLAIN_REFUSES)
		say(t, "%s %" PRIu64 " vCPUs are fewer than the %" PRIu64 " asked for VM %s", whose, l->bound, l->count,
		    t->vm);
	else if (l->outcome == EXPLAIN_WAITS)
		say(t,
		    "of %s %" PRIu64 " vCPUs other VMs hold %" PRIu64 ": VM %s waits until there is room for %" PRIu64,
		    whose, l->bound, l->others, t->vm, l->count);
	else
		say(t, "of %s %" PRIu64 " vCPUs other VMs hold %" PRIu64, whose, l->bound, l->others);
}

static void say_tenant(const struct text *t)
{
	char whose[320];

	if (!t->line->who) {
		say(t, "VM %s has no tenant", t->vm);
		return;
	}
	if (t->line->bound == UINT64_MAX) {
		say(t, "tenant \"%s\" has no quota", t->line->who);
		return;
	}
	snprintf(whose, sizeof(whose), "tenant \"%s\"'s", t->line->who);
	say_room(t, whose);
}

static void say_capacity(const struct text *t)
{
	if (t->line->bound == UINT64_MAX)
		say(t, "the host's capacity is not limited");
	else
		say_room(t, "the host's");
}

static void say_storage(const struct text *t)
{
	if (t->line->outcome == EXPLAIN_REFUSES)
		say(t, "too many requests for VM %s wait for the disk already", t->vm);
	else
		say(t, "requests for VM %s can be recorded", t->vm);
}

static void say_frozen(const struct text *t)
{
	say(t, t->line->outcome == EXPLAIN_REFUSES ? "an operator froze the host: no changes are accepted"
						   : "the host is not frozen");
}

static void say_migrating(const struct text *t)
{
	if (t->line->outcome == EXPLAIN_REFUSES)
		say(t, "VM %s is being migrated: try again when that has ended", t->vm);
	else
		say(t, "VM %s is not being migrated", t->vm);
}

static void say_notify(const struct text *t)
{
	if (t->line->outcome == EXPLAIN_REFUSES)
		say(t, "VM %s was started without ACPI: its guest cannot be told of a change", t->vm);
	else
		say(t, "the guest of VM %s can be told", t->vm);
}

static void say_boot(const struct text *t)
{
	if (t->line->outcome == EXPLAIN_REFUSES)
		say(t,
		    "VM %s booted with %" PRIu64 " vCPUs and its VMM does not permit to take those back: start it with "
		    "removable-boot-vcpus=on, or with a lower boot count",
		    t->vm, t->line->bound);
	else
		say(t, "no boot vCPUs are taken that VM %s must keep", t->vm);
}

static void say_drained(const struct text *t)
{
	if (t->line->admission)
		say(t, "an operator drains the host: no new VMs");
	else if (t->line->outcome == EXPLAIN_WAITS)
		say(t, "an operator drains the host: VM %s has its guaranteed %" PRIu64 " vCPUs and no burst", t->vm,
		    t->line->bound);
	else
		say(t, "no burst is kept back by draining");
}

static void say_credit(const struct text *t)
{
	const struct explain_line *l = t->line;

	if (l->outcome == EXPLAIN_WAITS)
		say(t,
		    "VM %s is out of burst credit (%" PRId64 " vCPU-seconds): it has its guaranteed %" PRIu64
		    " vCPUs until it has earned %" PRId64,
		    t->vm, l->balance / VCPU_SECOND, l->bound, l->resume / VCPU_SECOND);
	else
		say(t, "no burst is kept back for want of credit (%" PRId64 " vCPU-seconds)", l->balance / VCPU_SECOND);
}

static void say_plug_rate(const struct text *t)
{
	const struct explain_line *l = t->line;

	if (l->bound == UINT64_MAX)
		say(t, "the service class \"%s\" does not limit how often vCPUs are granted", l->who);
	else
		say(t, "the service class \"%s\" grants %" PRIu64 " vCPUs per minute, and %" PRIu64 " now", l->who,
		    l->bound, l->others);
}

void explain_text(char *buffer, size_t size, const char *vm_name, const struct explain_line *line)
{
	static void (*const say_rule[])(const struct text *t) = {
		[RULE_RANGE] = say_range,       [RULE_LIMIT] = say_limit,         [RULE_TENANT] = say_tenant,
		[RULE_CAPACITY] = say_capacity, [RULE_CREDIT] = say_credit,       [RULE_PLUG_RATE] = say_plug_rate,
		[RULE_FROZEN] = say_frozen,     [RULE_DRAINED] = say_drained,     [RULE_BOOT] = say_boot,
		[RULE_NOTIFY] = say_notify,     [RULE_MIGRATING] = say_migrating, [RULE_STORAGE] = say_storage,
	};
	const struct text t = {buffer, size, vm_name, line};

	_Static_assert(sizeof(say_rule) / sizeof(say_rule[0]) == RULE_MAX + 1, "words for each rule");
	if ((unsigned)line->rule <= RULE_MAX && say_rule[line->rule])
		say_rule[line->rule](&t);
	else
		say(&t, "nothing stands against it");
}
