/* SPDX-License-Identifier: GPL-2.0-or-later */

#include "client/simulation_private.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "proto/message.h"

static void __attribute__((format(printf, 3, 4)))
tell(struct simulation *s, const struct sim_vm *vm, const char *format, ...)
{
	char what[512];
	va_list ap;

	s->diverged = true;
	if (!s->ops.differs)
		return;
	va_start(ap, format);
	vsnprintf(what, sizeof(what), format, ap);
	va_end(ap);
	s->ops.differs(
		&(struct simulation_difference){
			.line = (unsigned)s->sums.lines,
			.at = s->last_at - s->begin,
			.vm = vm ? vm->name : NULL,
			.what = what,
		},
		s->ops.userdata);
}

/* ---- states ---- */

static struct plain_state plain(const struct recording_state *state)
{
	return (struct plain_state){
		.desired = state->desired,
		.allowance = state->allowance,
		.target = state->target,
		.held = state->held,
		.overdue = state->overdue,
		.bound = state->bound,
		.job = state->job,
		.quota = state->quota,
	};
}

static bool same_plain(const struct plain_state *a, const struct plain_state *b)
{
	return a->desired == b->desired && a->allowance == b->allowance && a->target == b->target &&
	       a->held == b->held && a->overdue == b->overdue && a->bound == b->bound && a->job == b->job &&
	       a->quota == b->quota;
}

static bool same_sums(const struct ledger_sums *a, const struct ledger_sums *b)
{
	return a->reserved == b->reserved && a->guaranteed == b->guaranteed && a->allowed == b->allowed &&
	       a->held == b->held && a->occupied == b->occupied && a->overdue == b->overdue;
}

static bool same_meters(const struct recording_state *a, const struct recording_state *b)
{
	return a->balance == b->balance && a->guaranteed_ns == b->guaranteed_ns && a->burst_ns == b->burst_ns;
}

static void add_number(char *text, size_t size, const char *name, uint64_t is, uint64_t was)
{
	size_t n = strlen(text);

	if (is != was)
		snprintf(text + n, size - n, "%s%s %" PRIu64 " (was %" PRIu64 ")", n > 0 ? ", " : "", name, is, was);
}

static const char *quota_text(uint32_t quota, char buffer[static 32])
{
	if (quota == VM_QUOTA_NONE)
		return "not held";
	snprintf(buffer, 32, "held to %" PRIu32 "/1000", quota);
	return buffer;
}

static void tell_state(struct simulation *s, struct sim_vm *vm)
{
	const struct plain_state was = plain(&vm->was), is = plain(&vm->is);
	char text[400] = "", now[32], before[32];
	size_t n;

	/* it goes on being so: told once */
	if (same_plain(&was, &vm->told_was) && same_plain(&is, &vm->told_is))
		return;
	vm->told_was = was;
	vm->told_is = is;
	add_number(text, sizeof(text), "desired", is.desired, was.desired);
	add_number(text, sizeof(text), "allowed", is.allowance, was.allowance);
	add_number(text, sizeof(text), "target", is.target, was.target);
	add_number(text, sizeof(text), "held", is.held, was.held);
	add_number(text, sizeof(text), "overdue", is.overdue, was.overdue);
	n = strlen(text);
	if (is.bound != was.bound)
		snprintf(text + n, sizeof(text) - n, "%sheld back by %s (was %s)", n > 0 ? ", " : "",
			 rule_name(is.bound), rule_name(was.bound));
	n = strlen(text);
	if (is.job != was.job)
		snprintf(text + n, sizeof(text) - n, "%s%s", n > 0 ? ", " : "",
			 is.job == 0 ? "its resize has ended" : "its resize has not ended");
	n = strlen(text);
	if (is.quota != was.quota)
		snprintf(text + n, sizeof(text) - n, "%sCPU time %s (was %s)", n > 0 ? ", " : "",
			 quota_text(is.quota, now), quota_text(was.quota, before));
	tell(s, vm, "%s", text);
}

static void compare_vm(struct simulation *s, struct sim_vm *vm, const struct recording_state *was,
		       const struct recording_state *is)
{
	const struct plain_state a = plain(was), b = plain(is);

	vm->was = *was;
	vm->is = *is;
	vm->compared = true;
	if (!same_plain(&a, &b))
		tell_state(s, vm);
	else if (s->diverged)
		vm->told_was = vm->told_is = (struct plain_state){0};
	else if (!same_meters(was, is))
		tell(s, vm, "credit or usage is another");
	else if (same_sums(&was->sums, &is->sums))
		tell(s, vm, "a vCPU is in another state");
}

void simulation_compare_state(struct simulation *s, struct sim_vm *vm, const struct recording_line *line)
{
	const struct recording_state *was = &line->state;
	struct recording_state is;

	recording_state(&s->fleet, vm ? &vm->member : NULL, &is);
	if (was->digest == is.digest) {
		if (vm) {
			vm->was = *was;
			vm->is = is;
			vm->compared = true;
			vm->told_was = vm->told_is = (struct plain_state){0};
		}
		return;
	}
	s->sums.states_differ++;
	if (!s->diverged && !same_sums(&was->sums, &is.sums))
		tell(s, NULL, "allowed %" PRIu64 " (was %" PRIu64 "), held %" PRIu64 " (was %" PRIu64 ")",
		     is.sums.allowed, was->sums.allowed, is.sums.held, was->sums.held);
	if (vm)
		compare_vm(s, vm, was, &is);
}

/* ---- answers ---- */

static const char *verdict_name(const struct vm_verdict *v)
{
	return v->psci == CPUPOLICY_PSCI_SUCCESS ? "allowed" : "denied";
}

void simulation_compare_answer(struct simulation *s, struct sim_vm *vm, const struct recording_line *line,
			       const struct recording_answer *is)
{
	const struct recording_answer *was = &line->answer;
	bool ask = line->event.kind == FLEET_ASK, same = recording_same_answer(was, is);

	s->sums.verdicts += ask;
	s->sums.refusals += !ask && was->rule != RULE_NONE;
	if (same)
		return;
	if (ask) {
		s->sums.verdicts_differ++;
		tell(s, vm, "vCPU %" PRIu32 " is %s (%s), was %s (%s)", line->event.vcpu, verdict_name(&is->verdict),
		     cpupolicy_msg_reason_name(is->verdict.would), verdict_name(&was->verdict),
		     cpupolicy_msg_reason_name(was->verdict.would));
		return;
	}
	s->sums.answers_differ++;
	if (is->rule != was->rule)
		tell(s, vm, "%s is %s (%s), was %s (%s)", fleet_event_name(line->event.kind),
		     is->rule == RULE_NONE ? "accepted" : "refused", rule_name(is->rule),
		     was->rule == RULE_NONE ? "accepted" : "refused", rule_name(was->rule));
	else
		tell(s, vm, "%s has another effect", fleet_event_name(line->event.kind));
}
